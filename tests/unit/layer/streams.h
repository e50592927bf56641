#pragma once
/* What the tests of inflate and decode share: data of several natures, and a recorder for what a decoder says. */
#include <zlib.h>

#include "base/buf.h"
#include "check.h"
#include "layer/decode.h"

static inline uint32_t stream_random(uint64_t *seed)
{
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        return (uint32_t)(*seed >> 33);
}

enum { NATURE_TEXT, NATURE_NOISE, NATURE_ZEROS, NATURE_MIXED, NATURE_FAR, NATURES };

/** Fills with words, noise, zeros, all of it in turns, or copies from as far back as 32 KiB. */
static inline void stream_fill(uint8_t *data, size_t len, int nature, uint64_t seed)
{
        static const char *words[] = {
                "usr/", "lib/", "image ", "layer", "\0\0\0\0\0\0\0", "0000644", "the ", "window\n", ".so.6", "x"};
        for (size_t i = 0; i < len;) {
                int kind = nature == NATURE_MIXED ? (int)(stream_random(&seed) % 5) : nature;
                size_t n = 1 + stream_random(&seed) % 40;
                if (nature == NATURE_MIXED && kind != NATURE_TEXT)
                        n = 1 + stream_random(&seed) % 3000;
                n = n < len - i ? n : len - i;
                if (kind == NATURE_TEXT) {
                        const char *w = words[stream_random(&seed) % 10];
                        n = n < 7 ? n : 7;
                        memcpy(data + i, w, n < strlen(w) + 1 ? n : strlen(w) + 1);
                        n = n < strlen(w) + 1 ? n : strlen(w) + 1;
                } else if (kind == NATURE_ZEROS) {
                        memset(data + i, 0, n);
                } else if (kind == NATURE_FAR && i > 40000) {
                        memcpy(data + i, data + i - 32768 + stream_random(&seed) % 600, n < 32000 ? n : 32000);
                } else {
                        for (size_t k = 0; k < n; k++)
                                data[i + k] = (uint8_t)stream_random(&seed);
                }
                i += n;
        }
}

struct told_point {
        uint64_t uoff;
        struct decode_point point;
        uint8_t header[DECODE_HEADER_MAX];
        uint8_t window[DECODE_WINDOW];
};

/** Everything that a decoder said. */
struct told {
        struct buf data;
        struct told_point *points;
        size_t count, room;
        uint64_t garbage;
        bool seekable;
        int result;
        struct error err;
};

static inline int told_data(void *ctx, const uint8_t *data, size_t len)
{
        struct told *t = ctx;
        CHECK(len > 0);
        buf_add(&t->data, data, len);
        return buf_error(&t->data);
}

static inline int told_point(void *ctx, uint64_t uoff, const struct decode_point *point)
{
        struct told *t = ctx;
        if (t->count == t->room) {
                t->room = t->room ? t->room * 2 : 16;
                t->points = realloc(t->points, t->room * sizeof *t->points);
                CHECK(t->points);
        }
        struct told_point *p = &t->points[t->count++];
        memset(p, 0, sizeof *p);
        p->uoff = uoff;
        p->point = *point;
        if (point->header_bits)
                memcpy(p->header, point->header, (point->header_bits + 7) / 8);
        CHECK(point->window_len <= DECODE_WINDOW);
        if (point->window_len)
                memcpy(p->window, point->window, point->window_len);
        p->point.header = p->point.window = NULL;
        return 0;
}

static inline void told_done(struct told *t)
{
        buf_done(&t->data);
        free(t->points);
}

/** A full pass, in pieces: 0: at once; n: n bytes each; negative: random ones up to -n. */
static inline void told_decode(struct told *t, enum compression c, const uint8_t *data, size_t len, long piece)
{
        uint64_t seed = 7;
        *t = (struct told){0};
        buf_init(&t->data, SIZE_MAX / 2);
        struct decode_sink sink = {t, told_data, told_point};
        cleanup(decoder_freep) struct decoder *d = decoder_new(c, &sink);
        CHECK(d);
        for (size_t at = 0; at < len && t->result == 0;) {
                size_t n = piece == 0 ? len : piece > 0 ? (size_t)piece : 1 + stream_random(&seed) % (size_t)-piece;
                n = n < len - at ? n : len - at;
                uint8_t *exact = malloc(n); /* so that a sanitizer sees a read past the piece */
                CHECK(exact);
                memcpy(exact, data + at, n);
                t->result = decoder_push(d, exact, n, &t->err);
                free(exact);
                at += n;
        }
        if (t->result == 0)
                t->result = decoder_finish(d, &t->err);
        t->garbage = decoder_garbage(d);
        t->seekable = decoder_seekable(d);
}

/** Both passes said the same: data and points. */
static inline void told_equal(const struct told *a, const struct told *b)
{
        CHECK_INT(a->result, b->result);
        if (a->result < 0)
                return;
        CHECK_INT(a->data.len, b->data.len);
        CHECK_INT(a->count, b->count);
        CHECK(a->data.len == 0 || memcmp(a->data.data, b->data.data, a->data.len) == 0);
        for (size_t i = 0; i < a->count; i++) {
                const struct told_point *p = &a->points[i], *q = &b->points[i];
                CHECK_INT(p->uoff, q->uoff);
                CHECK_INT(p->point.kind, q->point.kind);
                CHECK_INT(p->point.coff, q->point.coff);
                CHECK_INT(p->point.bits, q->point.bits);
                CHECK_INT(p->point.final, q->point.final);
                CHECK_INT(p->point.stored_left, q->point.stored_left);
                CHECK_INT(p->point.header_bits, q->point.header_bits);
                CHECK_INT(p->point.window_len, q->point.window_len);
                CHECK_MEM(p->header, q->header, sizeof p->header);
                CHECK_MEM(p->window, q->window, sizeof p->window);
        }
        CHECK_INT(a->garbage, b->garbage);
        CHECK_INT(a->seekable, b->seekable);
}

/** The rules that hold for points of any stream. */
static inline void told_check_points(const struct told *t, uint64_t len)
{
        CHECK(t->count > 0);
        CHECK_INT(t->points[0].uoff, 0);
        CHECK_INT(t->points[0].point.coff, 0);
        for (size_t i = 0; i < t->count; i++) {
                uint64_t uend = i + 1 < t->count ? t->points[i + 1].uoff : t->data.len;
                uint64_t cend = i + 1 < t->count ? t->points[i + 1].point.coff : len;
                CHECK(t->points[i].uoff <= uend && t->points[i].point.coff <= cend);
                if (t->seekable) {
                        CHECK(uend - t->points[i].uoff <= DECODE_SPAN_MAX);
                        CHECK(cend - t->points[i].point.coff <= DECODE_CHUNK_MAX);
                }
        }
}

/** Reads every span of the pass back, from just the bytes of its chunk. */
static inline void told_resume(const struct told *t, const uint8_t *data, size_t len)
{
        for (size_t i = 0; i < t->count; i++) {
                const struct told_point *p = &t->points[i];
                size_t ulen = (size_t)((i + 1 < t->count ? t->points[i + 1].uoff : t->data.len) - p->uoff);
                size_t cend = len;
                if (i + 1 < t->count)
                        cend = (size_t)(t->points[i + 1].point.coff + (t->points[i + 1].point.bits ? 1 : 0));
                size_t clen = cend - (size_t)p->point.coff;
                struct decode_point point = p->point;
                struct error err = {0};
                uint8_t *in = malloc(clen ? clen : 1), *out = malloc(ulen ? ulen : 1);
                CHECK(in && out);
                memcpy(in, data + p->point.coff, clen);
                point.header = p->header;
                point.window = p->window;
                int r = decode_span(&point, in, clen, out, ulen, NULL, &err);
                if (r < 0)
                        CHECK_FAIL("span %zu of %zu (kind %d): %s", i, t->count, point.kind, err.msg);
                CHECK(ulen == 0 || memcmp(out, t->data.data + p->uoff, ulen) == 0);
                free(in);
                free(out);
        }
}
