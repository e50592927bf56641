/*
 * The full pass over any bytes, as gzip, zstd and plain: whatever is accepted must give the same output and the same points at another cut of
 * the input, and each span must read back from its chunk alone; what is refused must be refused at any cut.
 *
 * The first byte chooses the compression and the cuts, the rest is the blob.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "layer/decode.h"

enum { OUT_MAX = 6 << 20, POINTS_MAX = 64 };

#define MUST(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        abort();                                                                                       \
        } while (0)

struct point {
        uint64_t uoff;
        struct decode_point point;
        uint8_t header[DECODE_HEADER_MAX], window[DECODE_WINDOW];
};

/** What a pass said. */
struct pass {
        uint8_t *out;
        size_t len;
        unsigned points;
        uint64_t coff, uoff; /* of the last point */
        uint64_t hash;       /* of all points */
        struct point *kept;  /* the first ones */
};

static void hash(struct pass *p, const void *data, size_t len)
{
        const uint8_t *b = data;
        for (size_t i = 0; i < len; i++)
                p->hash = (p->hash ^ b[i]) * 1099511628211u;
}

static int take_data(void *ctx, const uint8_t *data, size_t len)
{
        struct pass *p = ctx;
        MUST(len > 0);
        if (len > OUT_MAX - p->len)
                return -1000; /* enough of that */
        memcpy(p->out + p->len, data, len);
        p->len += len;
        return 0;
}

static int take_point(void *ctx, uint64_t uoff, const struct decode_point *point)
{
        struct pass *p = ctx;
        MUST(p->points ? uoff >= p->uoff && point->coff >= p->coff : uoff == 0 && point->coff == 0);
        MUST(point->bits < 8 && point->window_len <= DECODE_WINDOW && point->header_bits <= 8 * DECODE_HEADER_MAX);
        if (p->points < POINTS_MAX) {
                struct point *k = &p->kept[p->points];
                k->uoff = uoff;
                k->point = *point;
                if (point->window_len)
                        memcpy(k->window, point->window, point->window_len);
                if (point->header_bits)
                        memcpy(k->header, point->header, (point->header_bits + 7u) / 8);
                k->point.window = k->window;
                k->point.header = k->header;
        }
        hash(p, &uoff, sizeof uoff);
        hash(p, &point->coff, sizeof point->coff);
        hash(p, &point->kind, sizeof point->kind);
        hash(p, point->window, point->window_len);
        p->points++;
        p->uoff = uoff;
        p->coff = point->coff;
        return 0;
}

static int decode(struct pass *p, enum compression c, const uint8_t *data, size_t len, uint32_t cut)
{
        struct decode_sink sink = {p, take_data, take_point};
        cleanup(decoder_freep) struct decoder *d = decoder_new(c, &sink);
        int r = 0;
        MUST(d);
        p->len = 0;
        p->points = 0;
        p->hash = 0;
        for (size_t at = 0; at < len && r == 0;) {
                cut = cut * 1664525 + 1013904223;
                size_t n = cut & 0x80 ? 1 + (cut >> 16) % 9 : 1 + (cut >> 16);
                n = MIN(n, len - at);
                uint8_t *exact = malloc(n);
                MUST(exact);
                memcpy(exact, data + at, n);
                r = decoder_push(d, exact, n, NULL);
                free(exact);
                at += n;
        }
        return r < 0 ? r : decoder_finish(d, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct pass a, b;
        enum compression c;
        if (!a.out) {
                a.out = malloc(OUT_MAX);
                b.out = malloc(OUT_MAX);
                a.kept = calloc(POINTS_MAX, sizeof *a.kept);
                b.kept = calloc(POINTS_MAX, sizeof *b.kept);
                MUST(a.out && b.out && a.kept && b.kept);
        }
        if (size < 1)
                return 0;
        (void)decode_sniff(data + 1, size - 1, &c, NULL);
        c = (enum compression)(data[0] % 3);
        const uint8_t *blob = data + 1;
        size_t len = size - 1;
        int r = decode(&a, c, blob, len, data[0]), s = decode(&b, c, blob, len, data[0] * 77u + 1);
        MUST(r == s);
        if (r < 0)
                return 0;
        MUST(a.len == b.len && a.points == b.points && a.hash == b.hash && memcmp(a.out, b.out, a.len) == 0);
        for (unsigned i = 0; i < MIN(a.points, (unsigned)POINTS_MAX); i++) {
                const struct point *k = &a.kept[i];
                bool last = i + 1 == a.points;
                if (!last && i + 1 == POINTS_MAX)
                        break;
                uint64_t uend = last ? a.len : k[1].uoff,
                         cend = last ? len : k[1].point.coff + (k[1].point.bits ? 1 : 0);
                size_t ulen = (size_t)(uend - k->uoff), clen = (size_t)(cend - k->point.coff);
                uint8_t *chunk = malloc(clen + 1);
                MUST(chunk);
                memcpy(chunk, blob + k->point.coff, clen);
                MUST(decode_span(&k->point, chunk, clen, b.out, ulen, NULL, NULL) == 0);
                MUST(memcmp(b.out, a.out + k->uoff, ulen) == 0);
                free(chunk);
        }
        return 0;
}
