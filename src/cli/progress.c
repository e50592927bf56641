/* How: the speed is that of the last five seconds, so that the time left does not jump; nothing is printed for work that takes
 * less than a blink. */
#include "cli/progress.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

enum { TICKS_PER_S = 5, HISTORY = 5 * TICKS_PER_S };

struct progress {
        const struct image_progress *counters;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t stop;
        bool stopping; /* under lock */
        bool shown;
        uint64_t past[HISTORY]; /* bytes done at the last ticks, a ring */
        unsigned ticks;
};

static void show(struct progress *p)
{
        uint64_t done = atomic_load(&p->counters->done), total = atomic_load(&p->counters->total);
        unsigned layers_done = atomic_load(&p->counters->layers_done), layers = atomic_load(&p->counters->layers);
        unsigned back = p->ticks < HISTORY ? p->ticks : HISTORY;
        uint64_t then = back ? p->past[(p->ticks - back) % HISTORY] : 0;
        double speed = back ? (double)(done > then ? done - then : 0) * TICKS_PER_S / back : 0;
        p->past[p->ticks++ % HISTORY] = done;
        if (!layers || p->ticks < 2)
                return;
        char left[32] = "";
        if (speed > 0 && total > done) {
                unsigned long s = (unsigned long)((double)(total - done) / speed + 0.5);
                snprintf(left, sizeof left, ", %lu:%02lu left", s / 60, s % 60);
        }
        fprintf(stderr, "\r\033[Klayers %u/%u, %.1f of %.1f MB, %.1f MB/s%s", layers_done, layers, (double)done / 1e6,
                (double)total / 1e6, speed / 1e6, left);
        fflush(stderr);
        p->shown = true;
}

static void *run(void *arg)
{
        struct progress *p = arg;
        pthread_mutex_lock(&p->lock);
        while (!p->stopping) {
                show(p);
                struct timespec until;
                clock_gettime(CLOCK_MONOTONIC, &until);
                until.tv_nsec += 1000000000 / TICKS_PER_S;
                until.tv_sec += until.tv_nsec / 1000000000;
                until.tv_nsec %= 1000000000;
                while (!p->stopping && pthread_cond_timedwait(&p->stop, &p->lock, &until) != ETIMEDOUT)
                        ;
        }
        pthread_mutex_unlock(&p->lock);
        return NULL;
}

struct progress *progress_start(const struct image_progress *counters)
{
        struct progress *p = isatty(STDERR_FILENO) ? calloc(1, sizeof *p) : NULL;
        if (!p)
                return NULL;
        p->counters = counters;
        pthread_condattr_t attr;
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&p->stop, &attr);
        pthread_condattr_destroy(&attr);
        pthread_mutex_init(&p->lock, NULL);
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = pthread_create(&p->thread, NULL, run, p);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r != 0) {
                free(p);
                return NULL;
        }
        return p;
}

void progress_stop(struct progress *p)
{
        if (!p)
                return;
        pthread_mutex_lock(&p->lock);
        p->stopping = true;
        pthread_cond_signal(&p->stop);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
        if (p->shown)
                fputs("\r\033[K", stderr);
        pthread_cond_destroy(&p->stop);
        pthread_mutex_destroy(&p->lock);
        free(p);
}
