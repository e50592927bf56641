#pragma once
/**
 * A layer: a blob and its index, and the span cache through which files in it are read. Reference-counted; locks itself.
 * No lock is held while bytes are fetched or inflated.
 */
#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "blob/blob.h"
#include "blob/store.h"
#include "layer/index.h"

struct layer;
struct span_cache;

/** One span cache is shared by all layers of a mount: inflated spans, least recently used dropped first. Locks itself.
 *  readahead: runs read-ahead jobs; NULL: none is done. Borrowed, must outlive the cache. */
struct span_cache *span_cache_new(uint64_t max_bytes, struct pool *readahead);
void span_cache_free(struct span_cache *c);
DEFINE_CLEANUP(struct span_cache, span_cache_free);

struct span_cache_counters {
        uint64_t hits, inflated, bytes; /* spans found, spans inflated, bytes in it now */
};
struct span_cache_counters span_cache_count(struct span_cache *c);

/** The end is near: no read-ahead is begun any more, and jobs that wait for a thread of the pool give up. Before pool_free(),
 *  which would otherwise fetch all that they are about. */
void span_cache_stop(struct span_cache *c);

/** Forgets every span that nobody is using. */
void span_cache_drop(struct span_cache *c);

/**
 * Takes ownership of index (also on failure). slow: the compressed blob, referenced; NULL when it cannot be had (offline).
 * store and cache are borrowed and must outlive the layer.
 */
int layer_open(struct index *index, struct blob *slow, struct store *store, struct span_cache *cache,
        struct layer **ret_layer, struct error *err);
struct layer *layer_ref(struct layer *l);
void layer_unref(struct layer *l);
static inline void layer_unrefp(struct layer **l)
{
        layer_unref(*l);
        *l = NULL;
}

const struct index *layer_index(const struct layer *l);

/** Reads bytes of the tar stream: exactly len at uoff. 0 or -errno. Verified before they are inflated. */
int layer_read(struct layer *l, void *data, size_t len, uint64_t uoff, struct error *err);

/** Reads a file's bytes through its extents, holes as zeros: up to len, fewer only at its end. The count or -errno. */
ssize_t layer_read_file(
        struct layer *l, const struct index_entry *e, void *data, size_t len, uint64_t off, struct error *err);

/** Brings all of the blob into the store, unless it is local; done, unless NULL, grows by its bytes, layer_fill_bytes() in all. */
int layer_fill(struct layer *l, _Atomic uint64_t *done, struct error *err);
uint64_t layer_fill_bytes(const struct layer *l);
bool layer_complete(struct layer *l);
