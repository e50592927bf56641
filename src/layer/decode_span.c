/*
 * One span, from its point: the other half of decode.c. No state is kept between calls.
 *
 * The history has to stand in front of the output, where the caller's buffer has no room. So the first 32 KiB are made in a buffer of
 * our own, behind the history, and copied; what follows is made in place, with that copy as its history.
 *
 *      scratch  |<- 32 KiB, zero: filled in where used ->|<- first 32 KiB of output ->|
 *                                                                  | copied
 *      out                                               |<------- v ---------------->|<- the rest, in place ... ->|
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "layer/decode.h"
#include "layer/gzip_header.h"
#include "layer/inflate.h"

/** State of reading a span of deflate: too large for a thread's stack, and from malloc() it would be fresh pages each time. */
struct span {
        const uint8_t *in, *end;
        struct inflate *inflate;
        uint8_t scratch[2 * DECODE_WINDOW]; /* the window, and the first output behind it */
        struct inflate_used used;
};

static int span_header(struct span *s, struct error *err)
{
        struct gzip_header h = {0};
        while (s->in < s->end && h.stage != GZIP_DONE) {
                int r = gzip_header_byte(&h, *s->in++, err);
                if (r < 0)
                        return r;
        }
        inflate_reset(s->inflate);
        return h.stage == GZIP_DONE ? 0 : error_set(err, -EBADMSG, "span ends inside a gzip header");
}

/** Fills [*out, end); history begins at *base, which moves when a new member begins. */
static int span_fill(struct span *s, uint8_t **out, uint8_t *end, const uint8_t **base, struct error *err)
{
        while (*out < end) {
                struct inflate_io io = {s->in, s->end, *out, end, *base};
                enum inflate_status status = inflate_run(s->inflate, &io, 0);
                int r = 0;
                s->in = io.in;
                *out = io.out;
                if (*out == end)
                        break;
                if (status == INFLATE_END) {
                        if (s->end - s->in < GZIP_TRAILER)
                                return error_set(err, -EBADMSG, "span is too short");
                        s->in += GZIP_TRAILER;
                        r = span_header(s, err);
                        *base = *out;
                } else {
                        r = error_set(err, -EBADMSG, "span: %s",
                                status == INFLATE_BAD ? "damaged deflate data" : "too short");
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static int span_begin(struct span *s, const struct decode_point *p, struct error *err)
{
        struct inflate_place place = {.bits = p->bits, .final = p->final, .stored_left = p->stored_left};
        int r;

        s->inflate = inflate_new(INFLATE_ENGINE);
        if (!s->inflate)
                return error_nomem(err);
        if (p->kind == DECODE_MEMBER)
                return span_header(s, err);
        place.where = p->kind == DECODE_BLOCK    ? INFLATE_AT_BLOCK
                      : p->kind == DECODE_INSIDE ? INFLATE_AT_SYMBOL
                                                 : INFLATE_AT_STORED;
        if (p->kind == DECODE_INSIDE) {
                if (p->header_bits > 8 * DECODE_HEADER_MAX)
                        return error_set(err, -EBADMSG, "checkpoint: header too long");
                place.header_bits = p->header_bits;
                memcpy(place.header, p->header, (p->header_bits + 7u) / 8);
        }
        if (p->window_len > DECODE_WINDOW)
                return error_set(err, -EBADMSG, "checkpoint: window too long");
        if (p->window_len == DECODE_WINDOW)
                memcpy(s->scratch, p->window, DECODE_WINDOW);
        else
                memset(s->scratch, 0, DECODE_WINDOW);
        r = inflate_resume(s->inflate, &place, s->scratch, DECODE_WINDOW);
        if (r < 0)
                return error_set(err, r, "checkpoint makes no sense");
        if (p->window_len < DECODE_WINDOW) {
                s->used.len = p->window_len;
                if (p->window_len)
                        memcpy(s->used.bytes, p->window, p->window_len);
                inflate_supply(s->inflate, &s->used);
        }
        return 0;
}

static int span_inflate(struct span *s, const struct decode_point *p, uint8_t *out, size_t ulen, struct error *err)
{
        int r = span_begin(s, p, err);
        if (r < 0)
                return r;
        size_t first = MIN(ulen, (size_t)DECODE_WINDOW);
        uint8_t *begin = s->scratch + DECODE_WINDOW, *at = begin;
        const uint8_t *base = p->kind == DECODE_MEMBER ? begin : s->scratch;
        r = span_fill(s, &at, at + first, &base, err);
        if (r < 0)
                return r;
        memcpy(out, begin, first);
        at = out + first;
        base = base > begin ? out + (base - begin) : out;
        return span_fill(s, &at, out + ulen, &base, err);
}

static int span_gzip(const struct decode_point *p, const uint8_t *data, size_t len, uint8_t *out, size_t ulen,
        void *scratch, struct error *err)
{
        cleanup(freep) void *own = scratch ? NULL : malloc(sizeof(struct span));
        struct span *s = scratch ? scratch : own;
        if (!s)
                return error_nomem(err);
        s->in = data;
        s->end = data + len;
        s->inflate = NULL;
        int r = span_inflate(s, p, out, ulen, err);
        inflate_free(s->inflate);
        return r;
}

size_t decode_scratch_len(void)
{
        return sizeof(struct span);
}

static void zstd_done(ZSTD_DCtx **z)
{
        ZSTD_freeDCtx(*z);
}

static int span_zstd(const uint8_t *data, size_t len, uint8_t *out, size_t ulen, struct error *err)
{
        cleanup(zstd_done) ZSTD_DCtx *z = ZSTD_createDCtx();
        if (!z || ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, DECODE_ZSTD_WINDOW_LOG)))
                return error_nomem(err);
        ZSTD_inBuffer in = {data, len, 0};
        ZSTD_outBuffer to = {out, ulen, 0};
        while (to.pos < to.size) {
                size_t in_before = in.pos, out_before = to.pos, left = ZSTD_decompressStream(z, &to, &in);
                if (ZSTD_isError(left))
                        return error_set(err, -EBADMSG, "span: zstd: %s", ZSTD_getErrorName(left));
                if (in.pos == in_before && to.pos == out_before)
                        return error_set(err, -EBADMSG, "span: too short");
        }
        return 0;
}

int decode_span(const struct decode_point *point, const void *data, size_t len, uint8_t *out, size_t ulen,
        void *scratch, struct error *err)
{
        if (ulen == 0)
                return 0;
        switch (point->kind) {
        case DECODE_COPY:
                if (len < ulen)
                        return error_set(err, -EBADMSG, "span: too short");
                memcpy(out, data, ulen);
                return 0;
        case DECODE_FRAME: return span_zstd(data, len, out, ulen, err);
        case DECODE_MEMBER:
        case DECODE_BLOCK:
        case DECODE_INSIDE:
        case DECODE_STORED: return span_gzip(point, data, len, out, ulen, scratch, err);
        }
        return error_set(err, -EBADMSG, "checkpoint of an unknown kind");
}
