/* The pool: every job runs once, a full queue is said or waited for, and the end waits for all. */
#include "check.h"

#include <stdatomic.h>
#include <time.h>

#include "base/pool.h"

static atomic_uint ran;
static atomic_bool go;

static void count(void *arg)
{
        (void)arg;
        atomic_fetch_add(&ran, 1);
}

static void wait_go(void *arg)
{
        atomic_store((atomic_bool *)arg, true);
        while (!atomic_load(&go))
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

TEST(every_job_runs_once)
{
        for (unsigned threads = 1; threads < 5; threads++) {
                atomic_store(&ran, 0);
                struct pool *p = pool_new(threads, 7);
                CHECK(p);
                for (int i = 0; i < 1000; i++)
                        pool_run(p, count, NULL);
                pool_free(p);
                CHECK_INT(atomic_load(&ran), 1000);
        }
}

TEST(a_full_queue_is_said)
{
        atomic_bool begun = false;
        atomic_store(&ran, 0);
        atomic_store(&go, false);
        struct pool *p = pool_new(1, 2);
        CHECK(p && pool_try(p, wait_go, &begun));
        while (!atomic_load(&begun))
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        CHECK(pool_try(p, count, NULL) && pool_try(p, count, NULL) && !pool_try(p, count, NULL));
        atomic_store(&go, true);
        pool_free(p); /* runs what is queued */
        CHECK_INT(atomic_load(&ran), 2);
}

TEST(nothing_to_do)
{
        pool_free(NULL);
        pool_free(pool_new(3, 1));
        CHECK(!pool_new(0, 1));
        CHECK(pool_cpus() >= 1);
}
