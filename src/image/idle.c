/* How: two looks in a row that find the same number of hits and inflations mean that nobody reads; then unused spans are
 * dropped and the allocator is told to give back what it keeps. After that there is nothing to do until somebody reads. */
#include "image/idle.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { LOOK_EVERY_S = 5 };

struct idle {
        struct span_cache *cache;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t stop;
        bool stopping; /* under lock */
};

/* false when it is time to end */
static bool wait_look(struct idle *i)
{
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LOOK_EVERY_S;
        pthread_mutex_lock(&i->lock);
        while (!i->stopping && pthread_cond_timedwait(&i->stop, &i->lock, &until) != ETIMEDOUT)
                ;
        bool more = !i->stopping;
        pthread_mutex_unlock(&i->lock);
        return more;
}

static void *run(void *arg)
{
        struct idle *i = arg;
        uint64_t last = 0;
        while (wait_look(i)) {
                struct span_cache_counters now = span_cache_count(i->cache);
                if (now.hits + now.inflated == last && now.bytes) {
                        span_cache_drop(i->cache);
                        malloc_trim(0);
                }
                last = now.hits + now.inflated;
        }
        return NULL;
}

struct idle *idle_start(struct span_cache *cache)
{
        struct idle *i = calloc(1, sizeof *i);
        if (!i)
                return NULL;
        i->cache = cache;
        pthread_condattr_t attr;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&i->stop, &attr);
        pthread_condattr_destroy(&attr);
        pthread_mutex_init(&i->lock, NULL);
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = pthread_create(&i->thread, NULL, run, i);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r != 0) {
                free(i);
                return NULL;
        }
        return i;
}

void idle_stop(struct idle *i)
{
        if (!i)
                return;
        pthread_mutex_lock(&i->lock);
        i->stopping = true;
        pthread_cond_signal(&i->stop);
        pthread_mutex_unlock(&i->lock);
        pthread_join(i->thread, NULL);
        pthread_cond_destroy(&i->stop);
        pthread_mutex_destroy(&i->lock);
        free(i);
}
