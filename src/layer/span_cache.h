#pragma once
/**
 * Inflated spans, bounded in bytes and shared by all layers of a mount (private to layer/; layer.h has what others see).
 *
 * A span is in one of three states: being loaded by one thread (others wait for it), ready, or failed (then it is no longer
 * in the table; whoever waited gets the failure, whoever comes later starts anew). Least recently used spans go first;
 * those that somebody is copying from stay. When everything in it is in use, loaders wait for room, so that the bound holds
 * whatever the number of readers. Locks itself; no lock is held while a span is loaded or copied.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "layer/layer.h"
#include "layer/spare.h"

struct span_entry;

/** What span_cache_get() found. */
enum span_found {
        SPAN_READY,   /* *ret_entry is pinned: use span_bytes(), then span_cache_unpin() */
        SPAN_CLAIMED, /* not there: the caller must load it, then call span_cache_ready() or span_cache_failed() */
        SPAN_FAILED,  /* another thread tried while we waited: *err says why, the code is in *ret_code */
};

/** owner: which layer; len: bytes of the span when inflated. */
enum span_found span_cache_get(struct span_cache *c, const void *owner, uint32_t span, size_t len,
        struct span_entry **ret_entry, int *ret_code, struct error *err);

/** Claims a span that is not in the cache, without waiting: false when it is there, or there is no room. */
bool span_cache_claim(
        struct span_cache *c, const void *owner, uint32_t span, size_t len, struct span_entry **ret_entry);

/** Room for the span's bytes: the claimer fills it. NULL when out of memory. */
uint8_t *span_bytes(struct span_cache *c, struct span_entry *e);

/** Loaded: the entry is pinned for the claimer. */
void span_cache_ready(struct span_cache *c, struct span_entry *e);
/** Not loaded: waiters get the failure; the entry is gone for the claimer. */
void span_cache_failed(struct span_cache *c, struct span_entry *e, int code, const struct error *err);
void span_cache_unpin(struct span_cache *c, struct span_entry *e);

/** Is the span there, or on its way? */
bool span_cache_has(struct span_cache *c, const void *owner, uint32_t span);

/** The owner goes away: forgets its spans. Nobody may be using them. */
void span_cache_forget(struct span_cache *c, const void *owner);

/** The buffers that the cache uses again, for others to borrow from. */
struct spare *span_cache_spare(struct span_cache *c);

/** Was span_cache_stop() called? */
bool span_cache_stopped(const struct span_cache *c);

/** Runs a read-ahead job, if the cache has a pool and it has room. */
bool span_cache_readahead(struct span_cache *c, pool_job_fn *fn, void *arg);
