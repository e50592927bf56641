#pragma once
/**
 * A few worker threads and a bounded queue of jobs: read-ahead, layers side by side. Locks itself.
 * A job must not wait for another job of the same pool.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

struct pool;

typedef void pool_job_fn(void *arg);

/** NULL when out of memory or no thread could be started. queue_max: jobs that may wait. */
struct pool *pool_new(unsigned threads, size_t queue_max);

/** Waits until all queued jobs have run. NULL is fine. */
void pool_free(struct pool *p);
DEFINE_CLEANUP(struct pool, pool_free);

/** Runs fn(arg) on a worker. false, and nothing happens, when the queue is full: for work that may be left undone. */
bool pool_try(struct pool *p, pool_job_fn *fn, void *arg);

/** The same, but waits for room in the queue. */
void pool_run(struct pool *p, pool_job_fn *fn, void *arg);

/** Processors that this process may use, at least 1. */
unsigned pool_cpus(void);
