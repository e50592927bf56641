#pragma once
/**
 * A blob of a registry: ranges and streams, resumed where they broke off, over the places that have it. Private to
 * registry.c, which owns what is in here.
 */
#include <stdatomic.h>

#include "blob/blob.h"
#include "source/http.h"
#include "source/repo.h"
#include "source/source.h"

/** The places that an image can come from, shared by the source and its blobs. Constant once made, but for the atomics. */
struct places {
        atomic_uint refs;
        struct http *http;
        struct repo **repos; /* mirrors in order, then the registry itself */
        size_t count;
        atomic_uint helpers; /* threads that fetch ahead for streams, all blobs together */
        atomic_size_t good;  /* which one worked last */
};

struct places *places_ref(struct places *p);
void places_unref(struct places *p);

/** How many tries the n-th place (from 0) that is asked gets: few while there is another one to go to. 0: http.h's default. */
unsigned places_tries(const struct places *p, size_t n);

/** Which of two errors to report: the later one, unless it only says that nobody answered. */
void places_keep_error(struct error *kept, const struct error *later);

/** Makes no request. A reference to places is taken; the descriptor is copied. */
int registry_blob_new(struct places *places, const struct descriptor *d, struct blob **ret_blob, struct error *err);

/**
 * Pushes the bytes [*pos, end) in order into sink, over retries and places; *pos follows. A positive value of the sink means
 * that it has enough: 0 then. ranges_only: -EOPNOTSUPP from a server that has no ranges, instead of passing over bytes.
 */
int registry_blob_push(struct blob *blob, uint64_t *pos, uint64_t end, bool ranges_only, blob_sink_fn *sink, void *ctx,
        struct error *err);

/** The places of a blob of registry_blob_new(); borrowed. */
struct places *registry_blob_places(struct blob *blob);

/** Streams [off, size), on several connections where that pays (registry_stream.c). */
int registry_stream(struct blob *blob, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err);
