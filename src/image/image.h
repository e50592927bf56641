#pragma once
/**
 * An image, opened: reference -> manifest -> blobs -> layers -> tree. Layers without an index in the store are scanned, all
 * of them side by side, largest first. Immutable once open, but for its counters: any thread.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "blob/store.h"
#include "source/manifest.h"
#include "source/registry.h"
#include "tree/tree.h"

struct image;

struct image_options {
        const char *platform;  /* --platform, NULL: this machine's */
        const char *cache_dir; /* --cache-dir */
        uint64_t cache_size;   /* --cache-size, 0: default */
        uint64_t memory;       /* --memory: bytes of the span cache, 0: default */
        bool offline;          /* --offline */
        struct registry_options registry;
        struct image_progress *progress; /* NULL: nobody looks */
};

/** Read by another thread while image_open() works; also the way to stop it, and what waits for the network afterwards. */
struct image_progress {
        _Atomic uint64_t done, total;         /* compressed bytes of the layers that are scanned or fetched */
        _Atomic unsigned layers_done, layers; /* of these */
        atomic_bool cancel;
};

enum { IMAGE_MEMORY_DEFAULT = 64 << 20 };

/** options and its strings are borrowed during the call; progress must live as long as the image. */
int image_open(const char *reference, const struct image_options *options, struct image **ret_image, struct error *err);
void image_close(struct image *im);
DEFINE_CLEANUP(struct image, image_close);

const struct tree *image_tree(const struct image *im);
const struct manifest *image_manifest(const struct image *im);
/** The full reference, as it was normalized. */
const char *image_name(const struct image *im);

/** Fetches what is missing, so that the store holds the whole image: `imagefs pull`. progress may be NULL. */
int image_fill(struct image *im, struct image_progress *progress, struct error *err);

/** The numbers of `imagefs stat`, as JSON (json_free() it); NULL when out of memory. */
json_t *image_stat(const struct image *im);
/** An EIO was answered: counts into "errors". */
void image_count_error(struct image *im);
