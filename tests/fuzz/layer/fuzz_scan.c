/*
 * A whole layer of any bytes: what scan_layer() accepts must be readable through the layer, byte for byte what zlib and libzstd
 * make of the blob, in any order; every file of its index too. What the libraries refuse at once, a scan must refuse.
 *
 * The first byte chooses the memory of the span cache and the length of the reads, the rest is the blob.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "layer/layer.h"
#include "layer/scan.h"

enum { OUT_MAX = 24 << 20, FILES_MAX = 50 };

#define MUST(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        abort();                                                                                       \
        } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** All members, up to the first bytes that are none; SIZE_MAX: more than OUT_MAX, or damaged. */
static size_t plain_gzip(const uint8_t *data, size_t len, uint8_t *out)
{
        size_t total = 0;
        while (len >= 2 && data[0] == 0x1f && data[1] == 0x8b) {
                z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
                        .avail_in = (uInt)len,
                        .next_out = out + total,
                        .avail_out = (uInt)(OUT_MAX - total)};
                MUST(inflateInit2(&z, 31) == Z_OK);
                int r = inflate(&z, Z_FINISH);
                total += z.total_out;
                data += len - z.avail_in;
                len = z.avail_in;
                inflateEnd(&z);
                if (r != Z_STREAM_END)
                        return SIZE_MAX;
        }
        return total;
}

static size_t plain_zstd(const uint8_t *data, size_t len, uint8_t *out)
{
        ZSTD_DCtx *d = ZSTD_createDCtx();
        MUST(d);
        ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, DECODE_ZSTD_WINDOW_LOG);
        ZSTD_inBuffer in = {data, len, 0};
        ZSTD_outBuffer to = {out, OUT_MAX, 0};
        size_t left = 0;
        while (in.pos < in.size && !ZSTD_isError(left)) {
                size_t before = in.pos + to.pos;
                left = ZSTD_decompressStream(d, &to, &in);
                if (!ZSTD_isError(left) && in.pos + to.pos == before)
                        break;
        }
        ZSTD_freeDCtx(d);
        return ZSTD_isError(left) || left || in.pos < in.size ? SIZE_MAX : to.pos;
}

static size_t plain(const uint8_t *data, size_t len, uint8_t *out)
{
        enum compression c;
        MUST(decode_sniff(data, len < DECODE_SNIFF ? len : DECODE_SNIFF, &c, NULL) == 0);
        if (c == COMPRESSION_GZIP)
                return plain_gzip(data, len, out);
        if (c == COMPRESSION_ZSTD)
                return plain_zstd(data, len, out);
        memcpy(out, data, len);
        return len;
}

static void read_all(struct layer *l, const uint8_t *want, size_t len, size_t step)
{
        uint8_t *got = malloc(step);
        MUST(got);
        for (size_t end = len; end > 0;) { /* from the last bytes to the first */
                size_t n = end < step ? end : step;
                MUST(layer_read(l, got, n, end - n, NULL) == 0 && !memcmp(got, want + end - n, n));
                end -= n;
        }
        free(got);
}

/** A file through its extents: what is in one is the tar's, what is in none is zero. */
static void read_file(struct layer *l, const struct index_entry *e, const uint8_t *tar)
{
        uint8_t got[5000], want[5000] = {0};
        uint64_t off = e->size > sizeof got ? (e->size - sizeof got) / 2 : 0;
        ssize_t n = layer_read_file(l, e, got, sizeof got, off, NULL);
        MUST(n >= 0 && (uint64_t)n == (e->size - off < sizeof got ? e->size - off : sizeof got));
        for (uint32_t i = 0; e->sparse && i < e->extent_count; i++) {
                struct tar_extent x;
                index_extent(layer_index(l), e->extents, i, &x);
                uint64_t from = x.file_off > off ? x.file_off : off, to = x.file_off + x.len;
                to = to < off + (uint64_t)n ? to : off + (uint64_t)n;
                if (from < to)
                        memcpy(want + (from - off), tar + x.uoff + (from - x.file_off), (size_t)(to - from));
        }
        MUST(!memcmp(got, e->sparse ? want : n ? tar + e->uoff + off : got, (size_t)n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size < 1)
                return 0;
        struct store *store = store_new_null();
        struct blob *blob = NULL;
        struct index *index = NULL;
        struct error err = {0};
        MUST(store && blob_new_memory(data + 1, size - 1, &blob, NULL) == 0);
        struct scan_request rq = {.blob = blob, .store = store};
        if (scan_layer(&rq, &index, &err) < 0) {
                MUST(err.code < 0 && err.msg[0]);
        } else if (index_info(index)->tar_size > OUT_MAX) {
                index_free(index);
        } else {
                struct span_cache *cache = span_cache_new((uint64_t)1 << (data[0] & 31), NULL);
                struct layer *layer = NULL;
                uint8_t *want = malloc(OUT_MAX);
                MUST(cache && want);
                size_t len = plain(data + 1, size - 1, want);
                MUST(len == index_info(index)->tar_size);
                MUST(layer_open(index, blob, store, cache, &layer, NULL) == 0);
                read_all(layer, want, len, 1 + (size_t)data[0] * 4099);
                for (uint32_t i = 0; i < index_info(index)->entries && i < FILES_MAX; i++) {
                        struct index_entry e;
                        index_entry(index, i, &e);
                        if (e.type == TAR_REG)
                                read_file(layer, &e, want);
                }
                layer_unref(layer);
                span_cache_free(cache);
                free(want);
        }
        blob_unref(blob);
        store_close(store);
        return 0;
}
