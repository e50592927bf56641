#pragma once
/**
 * A verified view of a blob, over a slower one (registry, archive) and the store: every byte that comes out was hashed
 * and compared with a table of chunks, wherever it came from. Each missing chunk is fetched once, by one thread; others
 * that want it wait. Locks itself; no lock is held while bytes are fetched.
 *
 * The chunks are the compressed ranges of the layer's spans. They cover the blob in order; neighbours may share one byte,
 * because a span can begin and end inside a byte.
 *
 *   chunk i:   [off_i, off_i + len_i)       off_(i+1) is off_i + len_i, or that minus 1
 *
 * A missing run of chunks is read from the slow blob as one range. A slow blob that is `sequential` is streamed once from
 * its start instead, by a thread of its own, and every chunk that passes is kept, in the store or in an unlinked temporary
 * file; a reader goes on as soon as what it wants has passed.
 */
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "blob/blob.h"
#include "blob/store.h"

struct chunk {
        uint64_t off;          /* in the blob */
        uint64_t len;          /* at most CHUNK_MAX_LEN */
        const uint8_t *sha256; /* SHA256_BYTES of them, borrowed from the table's owner */
};

enum { CHUNK_MAX_LEN = 64 << 20, CACHED_RUN_MAX = 4 << 20 };

/** The table: chunk number -> chunk. Constant, any thread. The owner (the layer's index) outlives the cached blob. */
struct chunk_table {
        uint64_t count;
        void (*get)(const void *owner, uint64_t i, struct chunk *ret_chunk);
        const void *owner;
};

struct cached;

/**
 * slow: where missing bytes come from, referenced; NULL: nothing but the store is asked (offline).
 * d: the digest of the blob that the table describes, the name in the store.
 */
int cached_open(struct blob *slow, struct store *store, const struct digest *d, uint64_t size,
        const struct chunk_table *table, struct cached **ret_cached, struct error *err);

/** Nobody may be reading. A stream under way is ended, which takes as long as the slow blob's next bytes. */
void cached_close(struct cached *c);
DEFINE_CLEANUP(struct cached, cached_close);

/**
 * The verified bytes of chunks [first, first + count), from off_first to the end of the last, into data (room for all).
 * -EBADMSG: the slow blob gave wrong bytes, twice; -ENOENT: offline and not in the store; else the slow blob's error.
 * A failure is not remembered: the next call tries again.
 */
int cached_read(struct cached *c, uint64_t first, uint64_t count, void *data, struct error *err);

/** Fetches every chunk that is not present (in runs) and hashes those that are, so that the store holds all: `imagefs pull`.
 *  Of a local blob nothing is kept, nor needs to be. done, unless NULL, grows by the bytes of each. Without a slow blob it
 *  only checks (-ENOENT: something is missing or wrong). -ENOSPC: the store does not keep it. */
int cached_fill(struct cached *c, _Atomic uint64_t *done, struct error *err);

/** Are all chunks present in the store, as far as its map says? */
bool cached_complete(struct cached *c);
