#pragma once
/**
 * A blob: immutable bytes that can be read at an offset, wherever they live (memory, a file, a registry). This is where
 * the layer half and the source half of the program meet.
 *
 * Blobs are reference-counted and lock themselves: any thread may read. An implementation fills struct blob_ops and
 * embeds struct blob as its first member.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/mem.h"

struct blob;

/**
 * Receives bytes of a stream in order, without gaps. 0: go on; negative errno: stop, and blob_stream() returns it.
 * The bytes are borrowed for the call. Called from one thread at a time, not always the same.
 */
typedef int blob_sink_fn(void *ctx, const void *data, size_t len);

struct blob_ops {
        /** Reads exactly len bytes at off; the range was checked against the blob's size. 0 or -errno. */
        int (*read)(struct blob *b, void *data, size_t len, uint64_t off, struct error *err);
        /** Pushes all bytes from off to the end. NULL: done by read() in pieces. */
        int (*stream)(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err);
        void (*free)(struct blob *b);
};

struct blob {
        const struct blob_ops *ops;
        uint64_t size; /* bytes in all */
        atomic_uint refs;
        atomic_bool sequential; /* reads at an offset are expensive or impossible, blob_stream() is the way in: a server
                                   without ranges, a zstd stream. It may become true during the blob's life. */
        bool local;             /* its bytes are at hand: nobody keeps a copy of them. Set when it is made */
};

/** For implementations: refs becomes 1. */
void blob_init(struct blob *b, const struct blob_ops *ops, uint64_t size);

struct blob *blob_ref(struct blob *b);
void blob_unref(struct blob *b);
static inline void blob_unrefp(struct blob **b)
{
        blob_unref(*b);
        *b = NULL;
}

static inline uint64_t blob_size(const struct blob *b)
{
        return b->size;
}

/** Reads up to len bytes at off: fewer only at the blob's end. The count, or -errno. */
ssize_t blob_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err);

/** Reads exactly len bytes at off. -EBADMSG when the blob ends before. */
int blob_read_all(struct blob *b, void *data, size_t len, uint64_t off, struct error *err);

/** Pushes the bytes [off, size) into sink. 0 when all of them went through; the sink's error, or -errno. */
int blob_stream(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err);

/** A blob of memory that is copied. */
int blob_new_memory(const void *data, size_t len, struct blob **ret_blob, struct error *err);

/** A blob of a regular file; takes ownership of fd, also on failure. */
int blob_new_fd(int fd, struct blob **ret_blob, struct error *err);
int blob_open_file(int dirfd, const char *path, struct blob **ret_blob, struct error *err);

/** The bytes [off, off + len) of another blob, which it keeps a reference to. -EBADMSG when the range is not in it. */
int blob_new_window(struct blob *base, uint64_t off, uint64_t len, struct blob **ret_blob, struct error *err);
