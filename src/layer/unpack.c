/*
 * How: each stream() runs the layer's decoder from the first byte, over the store's copy of the compressed blob if it is
 * whole, else over the slow blob. Nothing is verified here: every chunk that comes out is hashed by the cached blob above,
 * and libzstd is built for hostile input.
 */
#include "layer/unpack.h"

#include <errno.h>

#include "layer/decode.h"

enum { PIECE = 256 << 10 };

struct unpack {
        struct blob blob;
        struct index_info info;
        struct store *store;
        struct blob *slow; /* may be NULL */
};

struct pass {
        struct decoder *decoder;
        uint64_t at, from; /* uncompressed: next byte, first wanted byte */
        blob_sink_fn *sink;
        void *ctx;
        struct error *err;
        bool sink_failed;
};

static int take_data(void *ctx, const uint8_t *data, size_t len)
{
        struct pass *p = ctx;
        uint64_t skip = p->at < p->from ? MIN(p->from - p->at, (uint64_t)len) : 0;
        p->at += len;
        if (skip == len)
                return 0;
        int r = p->sink(p->ctx, data + skip, len - (size_t)skip);
        p->sink_failed = r < 0;
        return r;
}

static int take_point(void *ctx, uint64_t uoff, const struct decode_point *point)
{
        (void)ctx;
        (void)uoff;
        (void)point;
        return 0;
}

static int push(void *ctx, const void *data, size_t len)
{
        struct pass *p = ctx;
        return decoder_push(p->decoder, data, len, p->err);
}

/* the store's copy, if it is whole: 1 done, 0 not there, negative a failure */
static int push_stored(struct unpack *u, struct pass *p)
{
        cleanup(store_blob_closep) struct store_blob *stored = NULL;
        int r = store_blob_open(u->store, &u->info.digest, u->info.blob_size, 1, false, &stored, p->err);
        if (r < 0 || !stored || !store_blob_has(stored, 0))
                return 0;
        cleanup(freep) uint8_t *piece = malloc(PIECE);
        if (!piece)
                return error_nomem(p->err);
        for (uint64_t off = 0; off < u->info.blob_size; off += PIECE) {
                size_t len = (size_t)MIN((uint64_t)PIECE, u->info.blob_size - off);
                if (store_blob_read(stored, piece, len, off) < 0) {
                        store_blob_forget(stored, 0);
                        return off ? error_set(p->err, -EIO, "the store's copy of a layer was cut off") : 0;
                }
                r = push(p, piece, len);
                if (r < 0) {
                        if (!p->sink_failed)
                                store_blob_forget(stored, 0);
                        return r;
                }
        }
        return 1;
}

static int unpack_stream(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        struct unpack *u = (struct unpack *)b;
        struct pass p = {.from = off, .sink = sink, .ctx = ctx, .err = err};
        struct decode_sink decode_sink = {.ctx = &p, .data = take_data, .point = take_point};
        cleanup(decoder_freep) struct decoder *decoder = decoder_new(u->info.compression, &decode_sink);
        if (!decoder)
                return error_nomem(err);
        p.decoder = decoder;
        int r = push_stored(u, &p);
        if (r == 0) {
                if (!u->slow)
                        return error_set(
                                err, -ENOENT, "the layer is not in the store, and the registry is not asked (offline)");
                r = blob_stream(u->slow, 0, push, &p, err);
        }
        if (r >= 0)
                r = decoder_finish(decoder, err);
        if (r >= 0 && p.at != b->size)
                r = error_set(err, -EBADMSG, "the layer has %llu bytes when unpacked, not %llu",
                        (unsigned long long)p.at, (unsigned long long)b->size);
        return r < 0 ? r : 0;
}

struct copy {
        uint8_t *data;
        size_t left;
};

static int take_copy(void *ctx, const void *data, size_t len)
{
        struct copy *c = ctx;
        size_t n = MIN(len, c->left);
        memcpy(c->data, data, n);
        c->data += n;
        c->left -= n;
        return c->left ? 0 : -ECANCELED; /* enough */
}

/* only asked for when nothing else helps: a stream up to the wanted bytes */
static int unpack_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        struct copy c = {data, len};
        int r = unpack_stream(b, off, take_copy, &c, err);
        return c.left == 0 ? 0 : r < 0 ? r : error_set(err, -EBADMSG, "the layer ends early");
}

static void unpack_free(struct blob *b)
{
        struct unpack *u = (struct unpack *)b;
        blob_unref(u->slow);
        free(u);
}

int unpack_open(const struct index_info *info, struct blob *slow, struct store *store, struct blob **ret_blob,
        struct error *err)
{
        static const struct blob_ops ops = {.read = unpack_read, .stream = unpack_stream, .free = unpack_free};
        struct unpack *u = calloc(1, sizeof *u);
        if (!u)
                return error_nomem(err);
        blob_init(&u->blob, &ops, info->tar_size);
        atomic_store(&u->blob.sequential, true);
        u->info = *info;
        u->store = store;
        u->slow = slow ? blob_ref(slow) : NULL;
        *ret_blob = &u->blob;
        return 0;
}
