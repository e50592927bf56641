/* How: the items are collected first, because looking at them changes the directory; then each document is read (which checks
 * it), each index opened (which checks it), and each chunk that its blob's map calls present is hashed. */
#include "image/verify.h"

#include <errno.h>

#include "base/buf.h"
#include "layer/index.h"

enum { ITEMS_MAX = 64 << 20 };

struct items {
        struct buf docs, indexes; /* struct digest each */
};

static int take_item(void *ctx, const struct store_item *item)
{
        struct items *items = ctx;
        struct buf *list = !strcmp(item->kind, "doc")     ? &items->docs
                           : !strcmp(item->kind, "index") ? &items->indexes
                                                          : NULL;
        char text[sizeof item->name + 8];
        struct digest d;
        size_t len = strlen(item->name);
        memcpy(text, len == 128 ? "sha512:" : "sha256:", 7);
        memcpy(text + 7, item->name, len + 1);
        if (list && digest_parse(text, len + 7, &d) == 0)
                buf_add(list, &d, sizeof d);
        return list ? buf_error(list) : 0;
}

static void verify_chunks(
        struct store *store, const struct index *ix, const atomic_bool *cancel, struct verify_result *v)
{
        const struct index_info *info = index_info(ix);
        cleanup(store_blob_closep) struct store_blob *blob = NULL;
        struct chunk_table chunks;
        index_chunks(ix, &chunks);
        if (store_blob_open(store, info->unpacked ? &info->diff_id : &info->digest,
                    info->unpacked ? info->tar_size : info->blob_size, chunks.count, false, &blob, NULL) < 0 ||
                !blob)
                return;
        for (uint64_t i = 0; i < chunks.count && !(cancel && atomic_load(cancel)); i++) {
                struct chunk c;
                chunks.get(chunks.owner, i, &c);
                if (!store_blob_has(blob, i))
                        continue;
                cleanup(freep) uint8_t *bytes = malloc(c.len ? c.len : 1);
                uint8_t hash[SHA256_BYTES];
                if (!bytes)
                        return;
                v->chunks++;
                v->chunk_bytes += c.len;
                if (store_blob_read(blob, bytes, c.len, c.off) < 0 || sha256_memory(bytes, c.len, hash) < 0 ||
                        memcmp(hash, c.sha256, SHA256_BYTES) != 0) {
                        v->bad_chunks++;
                        store_blob_forget(blob, i);
                }
        }
}

static void verify_index(
        struct store *store, const struct digest *d, const atomic_bool *cancel, struct verify_result *v)
{
        cleanup(index_freep) struct index *ix = NULL;
        int fd = store_open_index(store, d, NULL);
        if (fd < 0)
                return;
        v->indexes++;
        int r = index_open_fd(fd, d, &ix, NULL);
        if (r == 0) {
                verify_chunks(store, ix, cancel, v);
        } else if (r == -EBADMSG) {
                v->bad_indexes++;
                store_set_aside(store, STORE_INDEX, d);
        }
}

int verify_store(struct store *store, const atomic_bool *cancel, struct verify_result *ret_result, struct error *err)
{
        struct items items;
        struct verify_result v = {0};
        buf_init(&items.docs, ITEMS_MAX);
        buf_init(&items.indexes, ITEMS_MAX);
        int r = store_each(store, take_item, &items, err);
        const struct digest *docs = (const struct digest *)items.docs.data;
        const struct digest *indexes = (const struct digest *)items.indexes.data;
        for (size_t i = 0; r == 0 && i < items.docs.len / sizeof *docs; i++) {
                struct buf out;
                buf_init(&out, 64 << 20);
                v.docs++;
                if (store_get(store, STORE_DOC, &docs[i], &out, NULL) < 0)
                        v.bad_docs++;
                buf_done(&out);
        }
        for (size_t i = 0; r == 0 && i < items.indexes.len / sizeof *indexes; i++)
                verify_index(store, &indexes[i], cancel, &v);
        if (r == 0 && cancel && atomic_load(cancel))
                r = error_set(err, -ECANCELED, "interrupted");
        buf_done(&items.docs);
        buf_done(&items.indexes);
        if (r == 0)
                *ret_result = v;
        return r;
}
