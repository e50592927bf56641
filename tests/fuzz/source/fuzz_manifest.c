/*
 * Index, manifest and config documents. The input is documents between lines of "----": the first is the top document, and
 * "@N" in a text, N a digit, stands for the digest of document N, with "@sN" for its size, so that mutation keeps the links
 * whole. Documents may only refer to later ones; they are made from the last to the first. The source also gives the bytes
 * as they are for every digest that was made, so what is hostile is the content, not the hash.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "source/manifest.h"
#include "source/media.h"

enum { DOCS_MAX = 10 };

struct fuzz {
        struct source base;
        struct buf docs[DOCS_MAX];
        struct digest digests[DOCS_MAX];
        size_t count;
        int type;
};

static const char *const types[] = {"", MEDIA_OCI_INDEX, MEDIA_OCI_MANIFEST, "text/plain; x",
        "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.acme"};

static int fuzz_resolve(
        struct source *s, const struct digest *known, struct buf *out, char **ret_type, struct error *err)
{
        struct fuzz *f = (struct fuzz *)s;
        (void)known;
        buf_add(out, buf_str(&f->docs[0]), f->docs[0].len);
        *ret_type = strdup(types[f->type]);
        return *ret_type ? 0 : error_nomem(err);
}

static int fuzz_document(struct source *s, const struct descriptor *d, struct buf *out, struct error *err)
{
        struct fuzz *f = (struct fuzz *)s;
        for (size_t i = 0; i < f->count; i++)
                if (digest_equal(&f->digests[i], &d->digest)) {
                        buf_add(out, buf_str(&f->docs[i]), f->docs[i].len);
                        return 0;
                }
        return error_set(err, -2, "none");
}

static const struct source_ops ops = {.resolve = fuzz_resolve, .manifest = fuzz_document, .document = fuzz_document};

/* writes document i, with what "@" stands for */
static void make(struct fuzz *f, size_t i, const char *text, size_t len)
{
        struct buf *b = &f->docs[i];
        char digest[DIGEST_MAX_TEXT];
        for (size_t k = 0; k < len; k++) {
                bool size = text[k] == '@' && k + 2 < len && text[k + 1] == 's';
                size_t at = k + 1 + size;
                size_t n = text[k] == '@' && at < len ? (size_t)(text[at] - '0') : SIZE_MAX;
                if (n <= i || n >= f->count)
                        buf_addc(b, text[k]);
                else if (size)
                        buf_addf(b, "%zu", f->docs[n].len), k = at;
                else
                        buf_adds(b, digest_format(&f->digests[n], digest)), k = at;
        }
        digest_memory(DIGEST_SHA256, buf_str(b), b->len, &f->digests[i]);
}

static void split(struct fuzz *f, const char *text, size_t len)
{
        const char *starts[DOCS_MAX];
        size_t lens[DOCS_MAX];
        while (f->count < DOCS_MAX) {
                const char *end = memmem(text, len, "----\n", 5);
                starts[f->count] = text;
                lens[f->count++] = end ? (size_t)(end - text) : len;
                if (!end)
                        break;
                len -= (size_t)(end + 5 - text);
                text = end + 5;
        }
        for (size_t i = f->count; i-- > 0;)
                make(f, i, starts[i], lens[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size < 1)
                return 0;
        struct fuzz f = {.base = {.ops = &ops, .local = data[0] & 1}, .type = data[0] % 6};
        for (size_t i = 0; i < DOCS_MAX; i++)
                buf_init(&f.docs[i], 1 << 20);
        split(&f, (const char *)data + 1, size - 1);

        static const char *const wishes[] = {"linux/amd64", "linux/arm/v7", "linux/arm64/v9.2", "linux/riscv64"};
        cleanup(store_closep) struct store *store = store_new_null();
        struct manifest_request rq = {.source = &f.base, .store = store};
        struct manifest m;
        struct digest top;
        struct error err = {0};
        platform_parse(wishes[(data[0] >> 4) % 4], &rq.platform, NULL);
        int r = manifest_load(&rq, &m, &top, &err);
        if (r == 0) {
                if (m.layer_count > MANIFEST_LAYERS_MAX || !m.config_json)
                        abort();
                for (size_t i = 0; i < m.layer_count; i++)
                        if (!m.layers[i].descriptor.digest.alg || (!m.layers[i].diff_id.alg && !f.base.local))
                                abort();
                manifest_done(&m);
        } else if (!err.msg[0] || err.code != r) {
                abort();
        }
        for (size_t i = 0; i < DOCS_MAX; i++)
                buf_done(&f.docs[i]);
        return 0;
}
