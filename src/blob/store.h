#pragma once
/**
 * The store: a directory that keeps what was fetched and verified, shared by any number of processes. Locks itself.
 *
 *   CACHEDIR.TAG                     so that backup programs leave it out
 *   v1/docs/sha256/HEX               manifests, configs: small, whole, checked against their name on every read
 *   v1/index/sha256/HEX              one index a layer blob (docs/FORMAT.md), named by the blob's digest
 *   v1/blobs/sha256/HEX              compressed bytes; sparse where nothing was fetched yet
 *   v1/blobs/sha256/HEX.map          which chunks of it are present (a hint: every chunk is hashed when it is read)
 *   v1/partial/HEX                   the first bytes of a blob whose first pass is under way or was interrupted
 *   v1/names/HEX                     what a name resolved to last (HEX: sha256 of the full reference)
 *   v1/locks/HEX                     flock'ed by whoever makes what belongs to the digest
 *   v1/tmp/                          what is being written; leftovers of the dead are removed at the next opening
 *
 * For sha512 digests there is a second directory beside each sha256.
 *
 * Everything that appears under its final name was written under a temporary one, synced and renamed. Nothing that is
 * read back is believed: documents and chunks are hashed, indexes are checked by their reader.
 * A full disk or a read-only directory turns writing off, with one warning; reading goes on.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/mem.h"

struct store;

enum store_kind { STORE_DOC, STORE_INDEX };

struct store_options {
        const char *dir;   /* NULL: the default place (store_default_dir) */
        uint64_t size_max; /* bytes that blobs may take; 0: the default of 10 GiB */
        bool manual;       /* opening evicts nothing: for who looks at the store, or collects by store_gc() */
};

/** $XDG_CACHE_HOME/imagefs, /var/cache/imagefs for root, ~/.cache/imagefs. free() it. -ENOENT: no place is known. */
int store_default_dir(char **ret_dir, struct error *err);

/**
 * Opens, and makes if need be, the directory (mode 0700). -EPERM: it belongs to somebody else, or others may write to it.
 * A directory that cannot be made or written gives a store that only reads, or holds nothing at all, and one warning.
 */
int store_open(const struct store_options *options, struct store **ret_store, struct error *err);

/** A store that keeps nothing: for --cache-dir=none and for tests. NULL when out of memory. */
struct store *store_new_null(void);
void store_close(struct store *s);
DEFINE_CLEANUP(struct store, store_close);

/** Can blobs be kept? false after a full disk, and while it is nearly full. */
bool store_writable(const struct store *s);

/** A whole small file by digest: appends it to `out`. -ENOENT when it is not there (also when it was there, but damaged:
 *  documents are checked against the digest and removed when they do not fit). */
int store_get(struct store *s, enum store_kind kind, const struct digest *d, struct buf *out, struct error *err);

/** Keeps a small file: temporary name, fsync, rename, fsync of the directory. A store that cannot write answers 0. */
int store_put(
        struct store *s, enum store_kind kind, const struct digest *d, const void *data, size_t len, struct error *err);

/** The file of an index for mapping: a descriptor, or -ENOENT. */
int store_open_index(struct store *s, const struct digest *d, struct error *err);

/** A damaged index is moved aside (one of each name is kept as HEX.bad). */
void store_set_aside(struct store *s, enum store_kind kind, const struct digest *d);

/** What a reference resolved to: a small text under the reference's full name. -ENOENT when it was never seen. */
int store_get_name(struct store *s, const char *name, struct buf *out, struct error *err);
int store_put_name(struct store *s, const char *name, const void *data, size_t len, struct error *err);

/**
 * The right to make what belongs to a digest: waits until no other process has it, up to timeout_ms (-ETIMEDOUT), -1 for
 * ever. Returns a descriptor to close, or -1 with no error when the store keeps nothing (nobody to agree with). The lock
 * ends with the process. Within one process a second taker waits likewise.
 */
int store_lock(struct store *s, const struct digest *d, int timeout_ms, int *ret_fd, struct error *err);

/* ---- the first pass of a blob: bytes arrive in order and are unverified until the last one ---- */

struct store_partial;

/** Opens the partial file of the blob (under its lock). *ret_len: how many bytes an earlier try left; they are as
 *  unverified as new ones. A complete blob, whose index was lost, turns into one that has all of its bytes. *ret_partial is NULL when the store keeps nothing; keep and discard take NULL. */
int store_partial_open(struct store *s, const struct digest *d, uint64_t size, struct store_partial **ret_partial,
        uint64_t *ret_len, struct error *err);

/** Reads back what is there, for hashing it again. */
ssize_t store_partial_read(struct store_partial *p, void *data, size_t len, uint64_t off);

/** Appends. On a full disk the store turns itself off with a warning, and this and later appends do nothing: 0. */
int store_partial_append(struct store_partial *p, const void *data, size_t len, struct error *err);

/** The whole blob arrived and its digest was right: it becomes blobs/HEX with every one of its chunks present.
 *  Frees p. A store that was turned off meanwhile answers 0. */
int store_partial_publish(struct store_partial *p, uint64_t chunk_count, struct error *err);

/** Keeps the bytes for another try (they were cut off), or removes them (their digest was wrong). Frees p. */
void store_partial_keep(struct store_partial *p);
void store_partial_discard(struct store_partial *p);

/* ---- a blob's file, chunk by chunk ---- */

struct store_blob;

/** Opens blobs/HEX and its map, made sparse if not there. chunk_count comes from the index; a map made for another count
 *  is started over. A store that keeps nothing gives an unlinked temporary file if `spill` is true, else *ret NULL. */
int store_blob_open(struct store *s, const struct digest *d, uint64_t size, uint64_t chunk_count, bool spill,
        struct store_blob **ret_blob, struct error *err);
void store_blob_close(struct store_blob *b);
DEFINE_CLEANUP(struct store_blob, store_blob_close);

/** A hint: may be true for bytes that are not right, never proves anything. */
bool store_blob_has(struct store_blob *b, uint64_t chunk);

/** Reads bytes that are expected there. 0, or -errno (-EIO also for a short file). */
int store_blob_read(struct store_blob *b, void *data, size_t len, uint64_t off);

/** Writes verified bytes of a chunk and marks it present; on a full disk nothing happens. */
void store_blob_write(struct store_blob *b, uint64_t chunk, const void *data, size_t len, uint64_t off);

/** The chunk's bytes were not right: forget that they are there. */
void store_blob_forget(struct store_blob *b, uint64_t chunk);

/** How many chunks are marked present. */
uint64_t store_blob_present(struct store_blob *b);

/* ---- housekeeping: `imagefs cache` ---- */

struct store_item {
        const char *kind; /* "doc", "index", "blob", "partial", "name" */
        char name[160];   /* file name: hex digest */
        uint64_t bytes;   /* on disk */
        uint64_t size;    /* apparent size */
        int64_t used_s;   /* last use, seconds since the epoch */
};
typedef int store_item_fn(void *ctx, const struct store_item *item);

/** Calls fn for each item, in no order. fn's non-zero ends it. */
int store_each(struct store *s, store_item_fn *fn, void *ctx, struct error *err);

enum { STORE_RM_DATA = 1 << 0, STORE_RM_INDEX = 1 << 1, STORE_RM_DOCS = 1 << 2, STORE_RM_ALL = 7 };

/** Removes kinds of things; d NULL: of all digests. *ret_bytes: freed. */
int store_remove(struct store *s, unsigned what, const struct digest *d, uint64_t *ret_bytes, struct error *err);

/** Evicts, least recently used first, until blobs take at most max_bytes (0: the store's own bound) and the disk keeps 5 %. */
int store_gc(struct store *s, uint64_t max_bytes, uint64_t *ret_bytes, struct error *err);

/** Where it is, for messages; "" for a store that keeps nothing. */
const char *store_dir(const struct store *s);

/** Bytes of blob data that this process read from and wrote to the store. */
struct store_counters {
        uint64_t read_bytes, written_bytes;
};
struct store_counters store_count(const struct store *s);
