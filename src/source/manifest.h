#pragma once
/**
 * Manifests: which layers and which config make up an image, for a platform (image-spec manifest.md, image-index.md,
 * config.md; Docker schema 2). Everything is verified by digest before it is parsed.
 * Plain values; one thread at a time.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "blob/store.h"
#include "source/platform.h"
#include "source/source.h"

enum { MANIFEST_LAYERS_MAX = 1024, MANIFEST_DEPTH_MAX = 4 };

struct image_layer {
        struct descriptor descriptor;
        /* of the uncompressed tar; DIGEST_NONE only for a bare rootfs tar, whose local source writes "" into the config that
           it makes; from elsewhere "" is refused */
        struct digest diff_id;
};

struct manifest {
        struct digest digest;     /* of the manifest itself */
        struct platform platform; /* what the config says */
        bool foreign;             /* it is for another platform than the wanted one, and there was no other */
        struct descriptor config;
        struct image_layer *layers;
        size_t layer_count;
        json_t *config_json; /* the whole config, verified; owned */
};
void manifest_done(struct manifest *m);

struct manifest_request {
        struct source *source;
        struct store *store;      /* documents by digest are looked up here first, and kept here */
        struct digest want;       /* the digest that the reference names, or DIGEST_NONE */
        struct digest known;      /* what the name resolved to last time, or DIGEST_NONE */
        struct platform platform; /* wanted */
        bool offline; /* the store only; `known` or `want` is the top document. A local source is asked all the same */
};

/**
 * From the top document to one platform's manifest and config. ret_top: digest of the top document, for store_put_name().
 * -ENOENT, -EACCES, ...: from the source; -EBADMSG: a digest does not fit, or not a manifest; -EOPNOTSUPP: no such platform
 * (the message lists those there are), schema 1, an artifact that is no image.
 */
int manifest_load(
        const struct manifest_request *rq, struct manifest *ret_manifest, struct digest *ret_top, struct error *err);
