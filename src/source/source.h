#pragma once
/**
 * A source: something that has images: a registry, a layout directory, an archive. It gives documents (manifests, configs)
 * and blobs. The caller verifies documents by digest before they are parsed (manifest.c does).
 * Locks itself: any thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "blob/blob.h"

/** OCI descriptor (image-spec descriptor.md), as far as it is used. Owns its strings. */
struct descriptor {
        struct digest digest;
        uint64_t size;
        char *media_type; /* "" when absent */
        char **urls;      /* NULL-terminated, NULL when absent: where a foreign layer may lie */
};
void descriptor_done(struct descriptor *d);

enum { DESCRIPTOR_URLS_MAX = 16 };

/** Reads a descriptor from its JSON object. Of the urls only http and https ones are kept. -EBADMSG: not a descriptor;
 *  -EOPNOTSUPP: its digest is of an algorithm that cannot be verified here. Release with descriptor_done(). */
int descriptor_parse(json_t *json, struct descriptor *ret_descriptor, struct error *err);

/** Appends the content that the descriptor carries in itself ("data", base64) if it has the descriptor's size and digest;
 *  false, and out as it was, when there is none, it is wrong, or memory ran out. json may be NULL. */
bool descriptor_data(json_t *json, const struct descriptor *d, struct buf *out);

struct source;

struct source_ops {
        /**
         * The image's top document (index or manifest), whole, with its media type as the source says it (free() it; "" when
         * it says none). want_digest: DIGEST_NONE, or what the content must have (not checked here).
         * known: digest of what the name resolved to last time, or DIGEST_NONE: a source that finds it unchanged without
         * fetching may return 1, and touches neither out nor ret_type.
         * -ENOENT: name or tag unknown; -EACCES; -ETIMEDOUT, -ENETUNREACH...
         */
        int (*resolve)(
                struct source *s, const struct digest *known, struct buf *out, char **ret_type, struct error *err);
        /** A child manifest or index, by descriptor. */
        int (*manifest)(struct source *s, const struct descriptor *d, struct buf *out, struct error *err);
        /** A config or another small blob: at most d->size bytes. */
        int (*document)(struct source *s, const struct descriptor *d, struct buf *out, struct error *err);
        /** A layer's bytes. Makes no request yet. */
        int (*blob)(struct source *s, const struct descriptor *d, struct blob **ret_blob, struct error *err);
        void (*close)(struct source *s);
};

struct source {
        const struct source_ops *ops;
        bool local; /* costs nothing to ask: a directory or a file */
};

static inline void source_close(struct source *s)
{
        if (s)
                s->ops->close(s);
}
DEFINE_CLEANUP(struct source, source_close);

/** Ceilings for documents, bytes. */
enum { SOURCE_MANIFEST_MAX = 8 << 20, SOURCE_CONFIG_MAX = 8 << 20 };
