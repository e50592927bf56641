#pragma once
/* What the tests of scan and layer share: tars of some size, packed in several ways, scanned over a fake blob. */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#include "base/buf.h"
#include "check.h"
#include "layer/layer.h"
#include "layer/scan.h"
#include "unit/blob/fake_blob.h"
#include "unit/layer/streams.h"
#include "unit/layer/tar_build.h"

/** How a tar is packed. ZSTD_BIG: one frame that is longer than a span may be, if the tar is. GZIP_BLOCK: deflate blocks that
 *  are longer than a span may be, if the tar is of zeros. */
enum packing { PLAIN, GZIP, GZIP_MEMBERS, GZIP_BLOCK, ZSTD_FRAMES, ZSTD_BIG, PACKINGS };

static inline void pack_gzip(struct buf *out, const void *data, size_t len, int level, int memory)
{
        z_stream z = {0};
        CHECK_INT(deflateInit2(&z, level, Z_DEFLATED, 31, memory, Z_DEFAULT_STRATEGY), Z_OK);
        size_t room = deflateBound(&z, len), start = out->len;
        z.next_in = (Bytef *)(uintptr_t)data;
        z.avail_in = (uInt)len;
        z.next_out = buf_extend(out, room);
        CHECK(z.next_out);
        z.avail_out = (uInt)room;
        CHECK_INT(deflate(&z, Z_FINISH), Z_STREAM_END);
        out->len = start + room - z.avail_out;
        deflateEnd(&z);
}

static inline void pack_zstd(struct buf *out, const void *data, size_t len)
{
        size_t room = ZSTD_compressBound(len), start = out->len;
        void *at = buf_extend(out, room);
        CHECK(at);
        size_t n = ZSTD_compress(at, room, data, len, 1);
        CHECK(!ZSTD_isError(n));
        out->len = start + n;
}

static inline void pack(struct buf *out, const struct buf *tar, enum packing how)
{
        enum { MEMBER = 300000 };
        buf_init(out, (size_t)1 << 30);
        for (size_t at = 0; at < tar->len; at += MEMBER) {
                size_t n = MIN((size_t)MEMBER, tar->len - at);
                if (how == GZIP_MEMBERS)
                        pack_gzip(out, tar->data + at, n, 6, 8);
                else if (how == ZSTD_FRAMES)
                        pack_zstd(out, tar->data + at, n);
        }
        if (how == PLAIN)
                buf_add(out, tar->data, tar->len);
        else if (how == GZIP || how == GZIP_BLOCK)
                pack_gzip(out, tar->data, tar->len, 6, how == GZIP ? 8 : 9);
        else if (how == ZSTD_BIG)
                pack_zstd(out, tar->data, tar->len);
        CHECK_INT(buf_error(out), 0);
}

/** Files "f0", "f1", ... of that many bytes each, of mixed nature; an empty one at the end. */
static inline void make_tar(struct buf *tar, unsigned files, size_t each, int nature)
{
        tar_build_init(tar);
        char *data = malloc(each + 1);
        CHECK(data);
        for (unsigned i = 0; i < files; i++) {
                char name[20];
                snprintf(name, sizeof name, "f%u", i);
                stream_fill((uint8_t *)data, each, nature, i + 1);
                tar_build_file(tar, (struct tar_build){.name = name, .data = data, .size = each});
        }
        tar_build_file(tar, (struct tar_build){.name = "empty", .data = ""});
        tar_build_end(tar);
        free(data);
}

static inline struct digest digest_of(const struct buf *b)
{
        struct digest d;
        CHECK_INT(digest_memory(DIGEST_SHA256, buf_str(b), b->len, &d), 0);
        return d;
}

/** A layer that is made, packed, and stands ready to be scanned. */
struct made_layer {
        struct buf tar, packed;
        struct digest digest, diff_id;
        struct fake_blob *fake;
};

static inline void made_layer_done(struct made_layer *m)
{
        buf_done(&m->tar);
        buf_done(&m->packed);
        if (m->fake)
                blob_unref(&m->fake->blob);
}

/** Takes tar over. */
static inline void made_layer_init(struct made_layer *m, struct buf tar, enum packing how)
{
        m->tar = tar;
        pack(&m->packed, &m->tar, how);
        m->digest = digest_of(&m->packed);
        m->diff_id = digest_of(&m->tar);
        m->fake = fake_blob_new(m->packed.data, m->packed.len);
}

static inline int made_layer_scan(
        const struct made_layer *m, struct store *store, struct index **ret_index, struct error *err)
{
        struct scan_request rq = {.blob = &m->fake->blob, .digest = m->digest, .diff_id = m->diff_id, .store = store};
        return scan_layer(&rq, ret_index, err);
}

/** Scanned and opened, or the test ends. */
static inline struct layer *made_layer_open(const struct made_layer *m, struct store *store, struct span_cache *cache)
{
        struct index *index = NULL;
        struct layer *layer = NULL;
        struct error err = {0};
        if (made_layer_scan(m, store, &index, &err) < 0 ||
                layer_open(index, &m->fake->blob, store, cache, &layer, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        return layer;
}

/** Reads at random, and at the ends, and compares with the tar. */
static inline void compare_reads(struct layer *layer, const struct buf *tar, unsigned reads, uint64_t seed)
{
        enum { MOST = 700000 };
        uint8_t *got = malloc(MOST);
        CHECK(got);
        for (unsigned i = 0; i < reads; i++) {
                uint64_t off = i == 0 ? tar->len - 1 : i == 1 ? 0 : stream_random(&seed) % tar->len;
                size_t most = i % 4 ? 5000 : MOST;
                size_t len = 1 + stream_random(&seed) % most;
                struct error err = {0};
                len = MIN(len, tar->len - (size_t)off);
                if (layer_read(layer, got, len, off, &err) < 0)
                        CHECK_FAIL("%zu at %llu: %s", len, (unsigned long long)off, err.msg);
                CHECK_MEM(got, tar->data + off, len);
        }
        free(got);
}
