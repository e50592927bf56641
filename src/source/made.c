/* How: the manifest is text made with printf: there is nothing in it but digests and numbers, so nothing needs escaping. A
 * layer is found again by its digest; of two files with one digest the first serves. */
#include "source/made.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "source/media.h"

struct made {
        struct source base;
        struct files *files;
        char *what;
        struct buf config, manifest;
        struct digest config_digest, manifest_digest;
        struct made_layer *layers;
        size_t layer_count;
};

enum made_packing made_sniff(const void *head, size_t len)
{
        static const struct {
                const char *magic;
                size_t len;
                enum made_packing packing;
        } magics[] = {
                {"\x1f\x8b", 2, MADE_GZIP},
                {"\x28\xb5\x2f\xfd", 4, MADE_ZSTD},
                {"\xfd"
                 "7zXZ",
                        5, MADE_OTHER},
                {"BZh", 3, MADE_OTHER},
        };
        const unsigned char *b = head;
        for (size_t i = 0; i < ARRAY_LEN(magics); i++)
                if (len >= magics[i].len && !memcmp(b, magics[i].magic, magics[i].len))
                        return magics[i].packing;
        /* a skippable frame of zstd, RFC 8878 section 3.1.2 */
        if (len >= 4 && (b[0] & 0xf0) == 0x50 && !memcmp(b + 1, "\x2a\x4d\x18", 3))
                return MADE_ZSTD;
        return MADE_PLAIN;
}

int made_sniff_blob(struct blob *blob, enum made_packing *ret_packing, struct error *err)
{
        char head[MADE_SNIFF_LEN];
        ssize_t len = blob_read(blob, head, sizeof head, 0, err);
        if (len < 0)
                return (int)len;
        *ret_packing = made_sniff(head, (size_t)len);
        return 0;
}

static int digest_sink(void *ctx, const void *data, size_t len)
{
        digest_ctx_update(ctx, data, len);
        return 0;
}

int made_digest(struct blob *blob, struct digest *ret_digest, struct error *err)
{
        cleanup(digest_ctx_freep) struct digest_ctx *ctx = digest_ctx_new(DIGEST_SHA256);
        if (!ctx)
                return error_nomem(err);
        int r = blob_stream(blob, 0, digest_sink, ctx, err);
        if (r < 0)
                return r;
        digest_ctx_final(ctx, ret_digest);
        return 0;
}

static int made_resolve(
        struct source *s, const struct digest *known, struct buf *out, char **ret_type, struct error *err)
{
        struct made *m = (struct made *)s;
        if (known->alg && digest_equal(known, &m->manifest_digest))
                return 1;
        buf_add(out, buf_str(&m->manifest), m->manifest.len);
        char *type = strdup(MEDIA_OCI_MANIFEST);
        if (!type || buf_error(out)) {
                free(type);
                return error_nomem(err);
        }
        *ret_type = type;
        return 0;
}

static int made_document(struct source *s, const struct descriptor *d, struct buf *out, struct error *err)
{
        struct made *m = (struct made *)s;
        char text[DIGEST_MAX_TEXT];
        if (!digest_equal(&d->digest, &m->config_digest))
                return error_set(err, -ENOENT, "%s: holds no %s", m->what, digest_format(&d->digest, text));
        buf_add(out, buf_str(&m->config), m->config.len);
        return buf_error(out) ? error_nomem(err) : 0;
}

static int made_blob(struct source *s, const struct descriptor *d, struct blob **ret_blob, struct error *err)
{
        struct made *m = (struct made *)s;
        char text[DIGEST_MAX_TEXT];
        for (size_t i = 0; i < m->layer_count; i++) {
                const struct made_layer *layer = &m->layers[i];
                if (!digest_equal(&layer->digest, &d->digest))
                        continue;
                cleanup(blob_unrefp) struct blob *blob = NULL;
                int r = m->files->open(m->files, layer->path, &blob, err);
                if (r < 0)
                        return r;
                if (blob_size(blob) != layer->size || blob_size(blob) != d->size)
                        return error_set(err, -EBADMSG, "%s: %s has changed its size", m->what, layer->path);
                *ret_blob = take(blob);
                return 0;
        }
        return error_set(err, -ENOENT, "%s: holds no %s", m->what, digest_format(&d->digest, text));
}

void made_layers_free(struct made_layer *layers, size_t count)
{
        for (size_t i = 0; i < count; i++)
                free(layers[i].path);
        free(layers);
}

static void made_close(struct source *s)
{
        struct made *m = (struct made *)s;
        files_close(m->files);
        free(m->what);
        buf_done(&m->config);
        buf_done(&m->manifest);
        made_layers_free(m->layers, m->layer_count);
        free(m);
}

static const struct source_ops made_ops = {
        .resolve = made_resolve,
        .manifest = made_document,
        .document = made_document,
        .blob = made_blob,
        .close = made_close,
};

static int make_manifest(struct made *m, struct error *err)
{
        static const char *const suffixes[] = {
                [MADE_PLAIN] = "", [MADE_GZIP] = "+gzip", [MADE_ZSTD] = "+zstd", [MADE_OTHER] = ""};
        char text[DIGEST_MAX_TEXT];
        struct buf *b = &m->manifest;
        if (digest_memory(DIGEST_SHA256, buf_str(&m->config), m->config.len, &m->config_digest) < 0)
                return error_nomem(err);
        buf_addf(b,
                "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":"
                "%zu}",
                MEDIA_OCI_MANIFEST, MEDIA_OCI_CONFIG, digest_format(&m->config_digest, text), m->config.len);
        buf_adds(b, ",\"layers\":[");
        for (size_t i = 0; i < m->layer_count; i++)
                buf_addf(b, "%s{\"mediaType\":\"%s%s\",\"digest\":\"%s\",\"size\":%llu}", i ? "," : "", MEDIA_OCI_LAYER,
                        suffixes[m->layers[i].packing], digest_format(&m->layers[i].digest, text),
                        (unsigned long long)m->layers[i].size);
        buf_adds(b, "]}");
        if (buf_error(b) || digest_memory(DIGEST_SHA256, buf_str(b), b->len, &m->manifest_digest) < 0)
                return error_nomem(err);
        return 0;
}

int made_open(struct files *files, const char *what, struct buf *config, struct made_layer *layers, size_t count,
        struct source **ret_source, struct error *err)
{
        struct made *m = calloc(1, sizeof *m);
        if (!m) {
                files_close(files);
                buf_done(config);
                made_layers_free(layers, count);
                return error_nomem(err);
        }
        *m = (struct made){.base = {.ops = &made_ops, .local = true},
                .files = files,
                .what = strdup(what),
                .config = *config,
                .layers = layers,
                .layer_count = count};
        buf_init(config, config->max);
        buf_init(&m->manifest, SOURCE_MANIFEST_MAX);
        int r = m->what ? make_manifest(m, err) : error_nomem(err);
        if (r < 0) {
                made_close(&m->base);
                return r;
        }
        *ret_source = &m->base;
        return 0;
}
