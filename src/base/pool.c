/* How: one mutex, a ring of jobs, two conditions ("there is work", "there is room"). Signals are blocked in the workers,
 * so that they reach the thread that handles them. */
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

struct job {
        pool_job_fn *fn;
        void *arg;
};

struct pool {
        pthread_mutex_t lock;
        pthread_cond_t work, room;
        struct job *ring; /* under lock, like all below */
        size_t first, count, max;
        bool ending;
        unsigned threads; /* set once, before anybody else sees the pool */
        pthread_t thread[];
};

static void *worker(void *arg)
{
        struct pool *p = arg;
        pthread_mutex_lock(&p->lock);
        for (;;) {
                while (!p->count && !p->ending)
                        pthread_cond_wait(&p->work, &p->lock);
                if (!p->count)
                        break;
                struct job job = p->ring[p->first];
                p->first = (p->first + 1) % p->max;
                p->count--;
                pthread_cond_signal(&p->room);
                pthread_mutex_unlock(&p->lock);
                job.fn(job.arg);
                pthread_mutex_lock(&p->lock);
        }
        pthread_mutex_unlock(&p->lock);
        return NULL;
}

struct pool *pool_new(unsigned threads, size_t queue_max)
{
        struct pool *p = calloc(1, sizeof *p + threads * sizeof p->thread[0]);
        struct job *ring = calloc(queue_max, sizeof *ring);
        if (!p || !ring) {
                free(p);
                free(ring);
                return NULL;
        }
        p->ring = ring;
        p->max = queue_max;
        pthread_mutex_init(&p->lock, NULL);
        pthread_cond_init(&p->work, NULL);
        pthread_cond_init(&p->room, NULL);

        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (p->threads < threads && pthread_create(&p->thread[p->threads], NULL, worker, p) == 0)
                p->threads++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!p->threads) {
                pool_free(p);
                return NULL;
        }
        return p;
}

void pool_free(struct pool *p)
{
        if (!p)
                return;
        pthread_mutex_lock(&p->lock);
        p->ending = true;
        pthread_cond_broadcast(&p->work);
        pthread_mutex_unlock(&p->lock);
        for (unsigned i = 0; i < p->threads; i++)
                pthread_join(p->thread[i], NULL);
        pthread_cond_destroy(&p->room);
        pthread_cond_destroy(&p->work);
        pthread_mutex_destroy(&p->lock);
        free(p->ring);
        free(p);
}

/* under lock, with room in the ring */
static void enqueue(struct pool *p, pool_job_fn *fn, void *arg)
{
        p->ring[(p->first + p->count) % p->max] = (struct job){fn, arg};
        p->count++;
        pthread_cond_signal(&p->work);
}

bool pool_try(struct pool *p, pool_job_fn *fn, void *arg)
{
        pthread_mutex_lock(&p->lock);
        bool fits = p->count < p->max;
        if (fits)
                enqueue(p, fn, arg);
        pthread_mutex_unlock(&p->lock);
        return fits;
}

void pool_run(struct pool *p, pool_job_fn *fn, void *arg)
{
        pthread_mutex_lock(&p->lock);
        while (p->count == p->max)
                pthread_cond_wait(&p->room, &p->lock);
        enqueue(p, fn, arg);
        pthread_mutex_unlock(&p->lock);
}

unsigned pool_cpus(void)
{
        cpu_set_t set;
        int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
        return n < 1 ? 1 : (unsigned)n;
}
