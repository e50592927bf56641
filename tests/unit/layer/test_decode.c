/* decode: every kind of blob that a layer can be, in pieces of every size, and every span of it read back. */
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <zstd.h>

#include "base/wire.h"
#include "streams.h"

enum { LEN = 3 << 20 };

/** A gzip member by zlib, appended. flush_every: Z_FULL_FLUSH or what flush says after so many bytes of input, 0: never. */
static void gzip_add(struct buf *b, const uint8_t *data, size_t len, int level, int strategy, int mem, int wbits,
        int flush, size_t flush_every)
{
        z_stream z = {0};
        static uint8_t out[1 << 16];
        CHECK_INT(deflateInit2(&z, level, Z_DEFLATED, wbits + 16, mem, strategy), Z_OK);
        size_t at = 0;
        int r;
        do {
                size_t n = flush_every && flush_every < len - at ? flush_every : len - at;
                z.next_in = (uint8_t *)data + at;
                z.avail_in = (unsigned)n;
                at += n;
                do {
                        z.next_out = out;
                        z.avail_out = sizeof out;
                        r = deflate(&z, at == len ? Z_FINISH : flush);
                        buf_add(b, out, sizeof out - z.avail_out);
                } while (z.avail_out == 0);
        } while (r != Z_STREAM_END);
        deflateEnd(&z);
}

/** Decodes in several cuts, compares, and reads all spans back. want: the data, or NULL. */
static void all_ways(enum compression c, const struct buf *b, const uint8_t *want, size_t want_len)
{
        static const long pieces[] = {1 << 16, -9000, 4099};
        const uint8_t *data = (const uint8_t *)b->data;
        struct told whole, cut;

        CHECK_INT(buf_error(b), 0);
        told_decode(&whole, c, data, b->len, 0);
        if (whole.result < 0)
                CHECK_FAIL("decode: %s", whole.err.msg);
        if (want) {
                CHECK_INT(whole.data.len, want_len);
                CHECK(want_len == 0 || memcmp(whole.data.data, want, want_len) == 0);
        }
        told_check_points(&whole, b->len);
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                told_decode(&cut, c, data, b->len, pieces[i]);
                told_equal(&whole, &cut);
                told_done(&cut);
        }
        if (b->len < 100000) {
                told_decode(&cut, c, data, b->len, 1);
                told_equal(&whole, &cut);
                told_done(&cut);
        }
        told_resume(&whole, data, b->len);
        told_done(&whole);
}

static uint8_t *made(int nature, size_t len)
{
        uint8_t *data = malloc(len);
        CHECK(data);
        stream_fill(data, len, nature, (uint64_t)nature + 1);
        return data;
}

TEST(gzip_of_zlib)
{
        for (int nature = 0; nature < NATURES; nature++) {
                uint8_t *data = made(nature, LEN);
                for (int level = 0; level <= 9; level += level == 1 ? 5 : level == 6 ? 3 : 1) {
                        struct buf b;
                        buf_init(&b, 1 << 30);
                        gzip_add(&b, data, LEN, level, Z_DEFAULT_STRATEGY, 8, 15, 0, 0);
                        all_ways(COMPRESSION_GZIP, &b, data, LEN);
                        buf_done(&b);
                }
                free(data);
        }
}

TEST(gzip_strategies)
{
        static const int flushes[] = {Z_PARTIAL_FLUSH, Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_BLOCK};
        uint8_t *data = made(NATURE_MIXED, 1 << 20);
        for (int strategy = Z_DEFAULT_STRATEGY; strategy <= Z_FIXED; strategy++)
                for (int mem = 1; mem <= 9; mem += 4)
                        for (int wbits = 9; wbits <= 15; wbits += 3)
                                for (int f = 0; f < 4; f++) {
                                        struct buf b;
                                        buf_init(&b, 1 << 30);
                                        gzip_add(&b, data, 600 << 10, 6, strategy, mem, wbits, flushes[f],
                                                100u << (3 * f));
                                        all_ways(COMPRESSION_GZIP, &b, data, 600 << 10);
                                        buf_done(&b);
                                }
        free(data);
}

TEST(gzip_members)
{
        uint8_t *data = made(NATURE_TEXT, LEN);
        struct buf b;
        buf_init(&b, 1 << 30);
        size_t at = 0;
        for (unsigned i = 0; at < LEN; i++) {
                size_t n = (size_t)i * 997 % 60000;
                n = n < LEN - at ? n : LEN - at;
                gzip_add(&b, data + at, n, 1 + (int)(i % 9), 0, 8, 15, 0, 0);
                at += n;
        }
        all_ways(COMPRESSION_GZIP, &b, data, LEN);
        /* padding and garbage */
        struct told t;
        uint8_t pad[1000] = {0};
        buf_add(&b, pad, sizeof pad);
        all_ways(COMPRESSION_GZIP, &b, data, LEN);
        buf_adds(&b, "rubbish");
        told_decode(&t, COMPRESSION_GZIP, (uint8_t *)b.data, b.len, 0);
        CHECK_INT(t.result, 0);
        CHECK_INT(t.garbage, 7);
        told_done(&t);
        all_ways(COMPRESSION_GZIP, &b, data, LEN);
        buf_done(&b);
        free(data);
}

TEST(one_block)
{
        /* libdeflate's blocks are long, and of one literal run longer still: points inside blocks */
        uint8_t *data = made(NATURE_ZEROS, 24 << 20);
        struct libdeflate_compressor *c = libdeflate_alloc_compressor(1);
        struct buf b;
        buf_init(&b, 1 << 30);
        size_t room = libdeflate_gzip_compress_bound(c, 24 << 20);
        uint8_t *out = malloc(room);
        size_t n = libdeflate_gzip_compress(c, data, 24 << 20, out, room);
        buf_add(&b, out, n);
        all_ways(COMPRESSION_GZIP, &b, data, 24 << 20);
        struct told t;
        told_decode(&t, COMPRESSION_GZIP, (uint8_t *)b.data, b.len, 0);
        CHECK(t.count >= 3 && t.count <= 24);
        told_done(&t);
        buf_done(&b);
        free(out);
        free(data);
        libdeflate_free_compressor(c);
}

/** A member with the header given, and the stored text "hi". */
static void member_add(struct buf *b, const void *header, size_t len)
{
        static const uint8_t body[] = {1, 2, 0, 0xfd, 0xff, 'h', 'i'};
        uint8_t trailer[8];
        buf_add(b, header, len);
        buf_add(b, body, sizeof body);
        put_le32(trailer, (uint32_t)crc32(0, (const uint8_t *)"hi", 2));
        put_le32(trailer + 4, 2);
        buf_add(b, trailer, 8);
}

static int decode_bytes(const void *data, size_t len)
{
        struct told t;
        told_decode(&t, COMPRESSION_GZIP, data, len, 0);
        int r = t.result;
        told_done(&t);
        told_decode(&t, COMPRESSION_GZIP, data, len, 1);
        CHECK_INT(t.result, r);
        told_done(&t);
        return r;
}

TEST(gzip_headers)
{
        struct buf b;
        uint8_t all[64] = {0x1f, 0x8b, 8, 0x1f, 0, 0, 0, 0, 0, 255, 3, 0, 'e', 'x', 't'};
        size_t n = 15;
        memcpy(all + n, "name", 5);
        n += 5;
        memcpy(all + n, "comment", 8);
        n += 8;
        put_le16(all + n, (uint16_t)crc32(0, all, (unsigned)n));
        n += 2;
        buf_init(&b, 1 << 20);
        member_add(&b, all, n);
        CHECK_INT(decode_bytes(b.data, b.len), 0);
        all_ways(COMPRESSION_GZIP, &b, (const uint8_t *)"hi", 2);
        for (size_t cut = 0; cut < b.len; cut++)
                CHECK_INT(decode_bytes(b.data, cut), -EBADMSG);
        b.data[n - 1] ^= 1;
        CHECK_INT(decode_bytes(b.data, b.len), -EBADMSG); /* header CRC */
        b.data[n - 1] ^= 1;
        b.data[3] ^= 0x20;
        CHECK_INT(decode_bytes(b.data, b.len), -EBADMSG); /* reserved flag */
        b.data[3] ^= 0x20;
        b.data[b.len - 1] ^= 1;
        CHECK_INT(decode_bytes(b.data, b.len), -EBADMSG); /* length */
        b.data[b.len - 1] ^= 1;
        b.data[b.len - 8] ^= 1;
        CHECK_INT(decode_bytes(b.data, b.len), -EBADMSG); /* CRC */
        b.data[b.len - 8] ^= 1;
        buf_add(&b, "\x1f", 1);
        CHECK_INT(decode_bytes(b.data, b.len), 0); /* garbage of one byte */
        buf_add(&b, "\x8b", 1);
        CHECK_INT(decode_bytes(b.data, b.len), -EBADMSG); /* a member that ends at once */
        buf_clear(&b);

        uint8_t empty_extra[12] = {0x1f, 0x8b, 8, 4};
        member_add(&b, empty_extra, 12);
        CHECK_INT(decode_bytes(b.data, b.len), 0);
        buf_clear(&b);

        uint8_t *name = malloc((1 << 20) + 100);
        memset(name, 'n', (1 << 20) + 100);
        memcpy(name, "\x1f\x8b\x08\x08\0\0\0\0\0\xff", 10);
        CHECK_INT(decode_bytes(name, (1 << 20) + 100), -EFBIG);
        free(name);
        buf_done(&b);
}

/** Endless members, blocks and padding without output must still give points. */
TEST(no_output)
{
        struct buf b;
        uint8_t empty[20] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 3, 0};
        buf_init(&b, 1 << 30);
        while (b.len < 9 << 20)
                buf_add(&b, empty, sizeof empty);
        member_add(&b, empty, 10);
        struct told t;
        told_decode(&t, COMPRESSION_GZIP, (uint8_t *)b.data, b.len, 0);
        CHECK_INT(t.result, 0);
        CHECK_INT(t.data.len, 2);
        CHECK_INT(t.count, 5);
        told_check_points(&t, b.len);
        told_resume(&t, (uint8_t *)b.data, b.len);
        told_done(&t);

        buf_clear(&b);
        buf_add(&b, empty, 10);
        while (b.len < 9 << 20)
                buf_add(&b, "\0\0\0\xff\xff", 5);
        buf_add(&b, "\x03\0\0\0\0\0\0\0\0\0", 10);
        told_decode(&t, COMPRESSION_GZIP, (uint8_t *)b.data, b.len, 0);
        CHECK_INT(t.result, 0);
        CHECK_INT(t.count, 4);
        told_check_points(&t, b.len);
        told_done(&t);

        buf_clear(&b);
        member_add(&b, empty, 10);
        buf_extend(&b, 9 << 20);
        told_decode(&t, COMPRESSION_GZIP, (uint8_t *)b.data, b.len, 0);
        CHECK_INT(t.result, 0);
        CHECK_INT(t.count, 3);
        CHECK_INT(t.garbage, 0);
        told_check_points(&t, b.len);
        told_resume(&t, (uint8_t *)b.data, b.len);
        told_done(&t);
        buf_done(&b);
}

static void zstd_add(struct buf *b, const uint8_t *data, size_t len, int level, int checksum)
{
        ZSTD_CCtx *z = ZSTD_createCCtx();
        size_t room = ZSTD_compressBound(len);
        uint8_t *out = malloc(room);
        ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level);
        ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, checksum);
        size_t n = ZSTD_compress2(z, out, room, data, len);
        CHECK(!ZSTD_isError(n));
        buf_add(b, out, n);
        free(out);
        ZSTD_freeCCtx(z);
}

static void zstd_skip_add(struct buf *b, uint32_t len)
{
        uint8_t head[8];
        put_le32(head, 0x184d2a53);
        put_le32(head + 4, len);
        buf_add(b, head, 8);
        buf_extend(b, len);
}

/* ---- more than 4 GiB ---- */

/** A gzip member that goes round and round: the same deflate blocks `rounds` times, which end on a byte. */
struct wheel {
        struct buf unit; /* the blocks, compressed */
        uint8_t *data;   /* what they hold */
        size_t len;
        unsigned rounds;
        uint64_t given;
        /* the last point, and how many of them were read back */
        bool any;
        uint64_t uoff;
        struct decode_point point;
        uint8_t header[DECODE_HEADER_MAX], window[DECODE_WINDOW];
        unsigned points, entered, behind_4g;
};

enum { WHEEL_HEAD = 10 };

static int wheel_data(void *ctx, const uint8_t *data, size_t len)
{
        struct wheel *w = ctx;
        for (size_t at = 0; at < len;) {
                size_t from = (size_t)(w->given % w->len), n = MIN(len - at, w->len - from);
                CHECK(memcmp(data + at, w->data + from, n) == 0);
                w->given += n;
                at += n;
        }
        return 0;
}

/** Bytes of the member from coff on, as far as they are blocks. */
static void wheel_read(const struct wheel *w, uint64_t coff, uint8_t *out, size_t len)
{
        for (size_t at = 0; at < len;) {
                size_t from = (size_t)((coff + at - WHEEL_HEAD) % w->unit.len), n = MIN(len - at, w->unit.len - from);
                memcpy(out + at, w->unit.data + from, n);
                at += n;
        }
}

/** The span from the last point to here, from its bytes alone. */
static void wheel_enter(struct wheel *w, uint64_t uoff, const struct decode_point *next)
{
        size_t ulen = (size_t)(uoff - w->uoff), clen = (size_t)(next->coff + (next->bits != 0) - w->point.coff);
        uint8_t *in = malloc(clen), *out = malloc(ulen);
        struct error err;
        CHECK(in && out);
        wheel_read(w, w->point.coff, in, clen);
        w->point.header = w->header;
        w->point.window = w->window;
        if (decode_span(&w->point, in, clen, out, ulen, NULL, &err) < 0)
                CHECK_FAIL("span at %llu: %s", (unsigned long long)w->uoff, err.msg);
        uint64_t given = w->given;
        w->given = w->uoff;
        wheel_data(w, out, ulen);
        w->given = given;
        w->entered++;
        w->behind_4g += w->point.coff > UINT32_MAX || w->uoff > UINT32_MAX;
        free(in);
        free(out);
}

static int wheel_point(void *ctx, uint64_t uoff, const struct decode_point *point)
{
        struct wheel *w = ctx;
        CHECK(!w->any || (uoff >= w->uoff && point->coff >= w->point.coff));
        /* not the first, which begins with the header; of the others one in 50, and those around 4 GiB */
        if (w->points > 1 && (w->points % 50 == 0 || (w->uoff >> 32) != (uoff >> 32) ||
                                     (w->point.coff >> 32) != (point->coff >> 32)))
                wheel_enter(w, uoff, point);
        w->any = true;
        w->points++;
        w->uoff = uoff;
        w->point = *point;
        if (point->header_bits)
                memcpy(w->header, point->header, (point->header_bits + 7u) / 8);
        if (point->window_len)
                memcpy(w->window, point->window, point->window_len);
        return 0;
}

static void wheel_turn(struct wheel *w)
{
        static const uint8_t head[WHEEL_HEAD] = {0x1f, 0x8b, 8};
        uint8_t tail[5 + 8] = {1, 0, 0, 0xff, 0xff}; /* an empty stored block, the last one */
        uint32_t once = (uint32_t)crc32(0, w->data, (unsigned)w->len), crc = 0;
        struct decode_sink sink = {w, wheel_data, wheel_point};
        struct error err = {0};
        cleanup(decoder_freep) struct decoder *d = decoder_new(COMPRESSION_GZIP, &sink);
        CHECK_INT(decoder_push(d, head, sizeof head, &err), 0);
        for (unsigned i = 0; i < w->rounds; i++) {
                if (decoder_push(d, w->unit.data, w->unit.len, &err) < 0)
                        CHECK_FAIL("round %u: %s", i, err.msg);
                crc = (uint32_t)crc32_combine(crc, once, (z_off_t)w->len);
        }
        put_le32(tail + 5, crc);
        put_le32(tail + 9, (uint32_t)(w->rounds * (uint64_t)w->len));
        if (decoder_push(d, tail, sizeof tail, &err) < 0 || decoder_finish(d, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        CHECK(decoder_seekable(d));
        CHECK_INT(w->given, w->rounds * (uint64_t)w->len);
        printf("%u points, %u read back, %u of them behind 4 GiB\n", w->points, w->entered, w->behind_4g);
        CHECK(w->behind_4g > 0);
}

/* level 0: more than 4 GiB of the blob; else: of the tar stream */
static void check_wheel(int level)
{
        struct wheel w = {.len = 16 << 20, .rounds = 300};
        z_stream z = {0};
        buf_init(&w.unit, 1 << 30);
        w.data = calloc(1, w.len);
        CHECK(w.data);
        /* mostly zeros, so that it does not take long */
        stream_fill(w.data, level ? 1 << 20 : w.len, level ? NATURE_MIXED : NATURE_NOISE, 99);
        CHECK_INT(deflateInit2(&z, level, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
        uint8_t *room = buf_extend(&w.unit, w.len + w.len / 100 + 100);
        z.next_in = w.data;
        z.avail_in = (unsigned)w.len;
        z.next_out = room;
        z.avail_out = (unsigned)w.unit.len;
        CHECK_INT(deflate(&z, Z_SYNC_FLUSH), Z_OK);
        CHECK(z.avail_in == 0 && z.avail_out > 0);
        w.unit.len -= z.avail_out;
        deflateEnd(&z);
        wheel_turn(&w);
        buf_done(&w.unit);
        free(w.data);
}

TEST(more_than_4_gib)
{
        check_wheel(6);
        check_wheel(0);
}

TEST(zstd_frames)
{
        uint8_t *data = made(NATURE_MIXED, LEN);
        struct buf b;
        buf_init(&b, 1 << 30);
        zstd_skip_add(&b, 5);
        size_t at = 0;
        for (unsigned i = 0; at < LEN; i++) {
                size_t n = (size_t)i * 9973 % 900000;
                n = n < LEN - at ? n : LEN - at;
                zstd_add(&b, data + at, n, 1 + (int)(i % 5), i & 1);
                if (i % 3 == 0)
                        zstd_skip_add(&b, i);
                at += n;
        }
        all_ways(COMPRESSION_ZSTD, &b, data, LEN);
        struct told t;
        for (size_t cut = 1; cut < 40; cut++) {
                told_decode(&t, COMPRESSION_ZSTD, (uint8_t *)b.data, b.len - cut, 0);
                CHECK_INT(t.result, -EBADMSG);
                told_done(&t);
        }
        buf_adds(&b, "rubbish");
        told_decode(&t, COMPRESSION_ZSTD, (uint8_t *)b.data, b.len, 0);
        CHECK_INT(t.result, -EBADMSG);
        told_done(&t);
        buf_clear(&b);

        zstd_add(&b, data, 1 << 20, 1, 1);
        zstd_skip_add(&b, 9 << 20);
        zstd_add(&b, data + (1 << 20), 1 << 20, 1, 1);
        all_ways(COMPRESSION_ZSTD, &b, data, 2 << 20);
        buf_clear(&b);
        free(data);

        data = made(NATURE_TEXT, 9 << 20); /* a frame that is too long to be a span */
        zstd_add(&b, data, 9 << 20, 1, 0);
        told_decode(&t, COMPRESSION_ZSTD, (uint8_t *)b.data, b.len, 0);
        CHECK_INT(t.result, 0);
        CHECK(!t.seekable);
        told_done(&t);
        buf_done(&b);
        free(data);
}

TEST(zstd_dictionary)
{
        /* magic, descriptor: single segment, dictionary ID of a byte; ID 7; content size 0; an empty last raw block */
        uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 0, 1, 0, 0};
        struct told t;
        told_decode(&t, COMPRESSION_ZSTD, frame, sizeof frame, 1);
        CHECK_INT(t.result, -EOPNOTSUPP);
        told_done(&t);
        frame[5] = 0;
        told_decode(&t, COMPRESSION_ZSTD, frame, sizeof frame, 1);
        CHECK_INT(t.result, 0);
        CHECK_INT(t.count, 1);
        told_done(&t);
        /* window of 2^41 */
        uint8_t wide[] = {0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8, 1, 0, 0};
        told_decode(&t, COMPRESSION_ZSTD, wide, sizeof wide, 0);
        CHECK_INT(t.result, -EFBIG);
        told_done(&t);
}

TEST(plain)
{
        uint8_t *data = made(NATURE_NOISE, LEN);
        struct buf b;
        struct told t;
        buf_init(&b, 1 << 30);
        buf_add(&b, data, LEN);
        all_ways(COMPRESSION_NONE, &b, data, LEN);
        told_decode(&t, COMPRESSION_NONE, data, LEN, 0);
        CHECK_INT(t.count, LEN / DECODE_SPAN);
        told_done(&t);
        told_decode(&t, COMPRESSION_NONE, data, 0, 0);
        CHECK_INT(t.result, 0);
        CHECK_INT(t.count, 1);
        told_done(&t);
        buf_done(&b);
        free(data);
}

static int sniff(const void *data, size_t len)
{
        enum compression c = (enum compression)99;
        struct error err;
        int r = decode_sniff(data, len, &c, &err);
        return r < 0 ? r : (int)c;
}

/* compressed bytes whose sum is by chance what an empty checksum field says */
TEST(sniffing_gzip_that_adds_up_to_zero)
{
        uint8_t block[512] = "\x1f\x8b\x08";
        memset(block + 3, 0x80, 3);
        int sum = 0x1f + (int8_t)0x8b + 8 + 3 * -128 + 8 * ' ';
        for (int i = 6; sum < 0; i++, sum++)
                block[i] = 1;
        CHECK_INT(sum, 0);
        CHECK_INT(sniff(block, 512), COMPRESSION_GZIP);
}

TEST(sniffing)
{
        uint8_t block[512] = {0};
        CHECK_INT(sniff("", 0), COMPRESSION_NONE);
        CHECK_INT(sniff(block, 512), COMPRESSION_NONE);
        CHECK_INT(sniff(block, 511), -EBADMSG);
        memcpy(block, "file", 4);
        CHECK_INT(sniff(block, 512), -EBADMSG);
        snprintf((char *)block + 148, 8, "%06o", 'f' + 'i' + 'l' + 'e' + 8 * ' ');
        CHECK_INT(sniff(block, 512), COMPRESSION_NONE);
        CHECK_INT(sniff("\x1f\x8b\x08", 3), COMPRESSION_GZIP);
        CHECK_INT(sniff("\x28\xb5\x2f\xfd", 4), COMPRESSION_ZSTD);
        CHECK_INT(sniff("\x5f\x2a\x4d\x18", 4), COMPRESSION_ZSTD);
        CHECK_INT(sniff("BZh91AY", 7), -EOPNOTSUPP);
        CHECK_INT(sniff("\xfd"
                        "7zXZ\0",
                          6),
                -EOPNOTSUPP);
        CHECK_INT(sniff("<html>", 6), -EBADMSG);
        CHECK_INT(sniff("\x1f", 1), -EBADMSG);
}
