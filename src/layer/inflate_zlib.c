/*
 * The second inflater: zlib behind the interface of inflate.h. It exists to be compared with, and to be built in instead
 * (IMAGEFS_ZLIB_INFLATE) should anyone distrust ours.
 *
 * zlib stops between blocks (Z_BLOCK) and behind a block's header (Z_TREES). A place inside a block is entered by letting it read the
 * block's header again, as input of its own (for a stored block a header is made up, with the length that is left), up to
 * where Z_TREES stops; the rest of the header's last byte is thrown away, and the bits of the byte in which the next symbol
 * begins go in instead (inflatePrime).
 *
 * zlib does not tell what it copies from where. What is used of a history is found from outside: the first 32 KiB are decoded
 * with four made-up histories. What differs between the one of 0x00 and the one of 0xff comes from the history; two more, that hold the
 * low and the high byte of each position, tell from where. That needs the compressed bytes that follow, so it works for
 * supplying, when they are all there, but not for collecting.
 *
 * And zlib never stops between symbols: when its output is full it has decoded the next code already, and can't go back to
 * before it. So it finds no places inside of blocks, and a block that is too long makes a layer unseekable.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "layer/inflate.h"

enum {
        LAST_BLOCK = 64, /* in data_type */
        BLOCK_END = 128,
        HEADER_END = 256,
        UNUSED_BITS = 63,
        PIECE_MAX = 1 << 30, /* zlib counts in unsigned */
        PROBES = 4,
};

struct by_zlib {
        struct inflate common;
        z_stream stream;
        enum inflate_status last;   /* INFLATE_END and INFLATE_BAD stay */
        uint8_t drop;               /* resumed: bits of the first byte that were used before */
        struct inflate_used *used;  /* to be supplied by the next run */
        struct inflate_place place; /* where it was resumed */
        uint8_t window[INFLATE_WINDOW], probe[PROBES][INFLATE_WINDOW];
};

static struct by_zlib *by_zlib_of(struct inflate *z)
{
        return (struct by_zlib *)z;
}

static void zlib_free(struct inflate *common)
{
        inflateEnd(&by_zlib_of(common)->stream);
        free(common);
}

static void zlib_reset(struct inflate *common)
{
        struct by_zlib *z = by_zlib_of(common);
        inflateReset(&z->stream);
        z->last = INFLATE_INPUT;
        z->drop = 0;
        z->used = NULL;
}

static struct inflate *zlib_new(void)
{
        struct by_zlib *z = calloc(1, sizeof *z);
        if (!z)
                return NULL;
        z->common.engine = &inflate_zlib;
        if (inflateInit2(&z->stream, -MAX_WBITS) != Z_OK) {
                free(z);
                return NULL;
        }
        /* makes zlib allocate its window now */
        if (inflateSetDictionary(&z->stream, (const uint8_t *)"", 1) != Z_OK) {
                zlib_free(&z->common);
                return NULL;
        }
        zlib_reset(&z->common);
        return &z->common;
}

/** Lets zlib read a block's header, which must end at this bit, and be followed by nothing. */
static int feed_header(struct by_zlib *z, const uint8_t *header, unsigned bits)
{
        uint8_t out[1];
        z->stream.next_in = (uint8_t *)header;
        z->stream.avail_in = (bits + 7) / 8;
        z->stream.next_out = out;
        z->stream.avail_out = 0;
        int r = inflate(&z->stream, Z_TREES);
        unsigned unused = (unsigned)z->stream.data_type & UNUSED_BITS;
        bool fits = (r == Z_OK || r == Z_BUF_ERROR) && (z->stream.data_type & HEADER_END) && z->stream.avail_in == 0 &&
                    ((bits + 7) / 8) * 8 - unused == bits;
        return fits && inflatePrime(&z->stream, -1, 0) == Z_OK ? 0 : -EBADMSG;
}

static enum inflate_status zlib_run(struct inflate *common, struct inflate_io *io, unsigned flags);

static int zlib_resume(
        struct inflate *common, const struct inflate_place *place, const uint8_t *window, size_t window_len)
{
        struct by_zlib *z = by_zlib_of(common);
        int r = 0;

        zlib_reset(common);
        if (place->bits > 7 || window_len > INFLATE_WINDOW || (place->where == INFLATE_AT_STORED && place->bits))
                r = -EBADMSG;
        else if (place->where == INFLATE_AT_STORED) {
                uint16_t left = place->stored_left, not_left = (uint16_t)~left;
                uint8_t header[5] = {
                        place->final, (uint8_t)left, (uint8_t)(left >> 8), (uint8_t)not_left, (uint8_t)(not_left >> 8)};
                r = feed_header(z, header, 40);
        } else if (place->where == INFLATE_AT_SYMBOL) {
                if (place->header_bits < 3 || place->header_bits > 8 * INFLATE_HEADER_MAX ||
                        (place->header[0] & 6) == 0)
                        r = -EBADMSG;
                else
                        r = feed_header(z, place->header, place->header_bits);
        }
        if (r == 0 && window_len && inflateSetDictionary(&z->stream, window, (unsigned)window_len) != Z_OK)
                r = -EBADMSG;
        if (r < 0)
                z->last = INFLATE_BAD;
        z->drop = place->bits;
        if (place != &z->place)
                z->place = *place;
        return r;
}

/** Decodes the first bytes behind the place with z->window as the history; how many. */
static size_t probe(struct by_zlib *z, const struct inflate_io *io, uint8_t out[INFLATE_WINDOW])
{
        struct inflate_io trial = {io->in, io->in_end, out, out + MIN(io->out_end - io->out, INFLATE_WINDOW), out};
        if (zlib_resume(&z->common, &z->place, z->window, INFLATE_WINDOW) == 0)
                zlib_run(&z->common, &trial, 0);
        return (size_t)(trial.out - out);
}

/** Finds out where the bytes that are used stood, and begins anew with them. */
static void supply(struct by_zlib *z, const struct inflate_io *io)
{
        struct inflate_used *u = z->used;
        uint32_t supplied = 0;
        size_t len = 0;

        for (unsigned p = 0; p < PROBES; p++) {
                for (unsigned i = 0; i < INFLATE_WINDOW; i++)
                        z->window[i] = (uint8_t)(p == 0 ? 0 : p == 1 ? 0xff : p == 2 ? i : i >> 8);
                len = probe(z, io, z->probe[p]);
        }
        memset(z->window, 0, sizeof z->window);
        for (size_t i = 0; i < len && supplied < u->len; i++) {
                unsigned where = z->probe[2][i] | (unsigned)z->probe[3][i] << 8;
                if (z->probe[0][i] == z->probe[1][i] || u->known[where])
                        continue;
                u->known[where] = 1;
                z->window[where] = u->bytes[supplied++];
        }
        zlib_resume(&z->common, &z->place, z->window, INFLATE_WINDOW);
}

static enum inflate_status zlib_run(struct inflate *common, struct inflate_io *io, unsigned flags)
{
        struct by_zlib *z = by_zlib_of(common);
        z_stream *s = &z->stream;

        if (z->last == INFLATE_END || z->last == INFLATE_BAD)
                return z->last;
        if (z->used)
                supply(z, io);
        if (z->drop) {
                if (io->in == io->in_end)
                        return INFLATE_INPUT;
                inflatePrime(s, 8 - z->drop, *io->in++ >> z->drop);
                z->drop = 0;
        }
        for (;;) {
                s->next_in = (uint8_t *)io->in;
                s->avail_in = (unsigned)MIN((size_t)(io->in_end - io->in), (size_t)PIECE_MAX);
                s->next_out = io->out;
                s->avail_out = (unsigned)MIN((size_t)(io->out_end - io->out), (size_t)PIECE_MAX);
                int r = inflate(s, flags & INFLATE_STOP_BLOCK ? Z_BLOCK : Z_NO_FLUSH);
                io->in = s->next_in;
                io->out = s->next_out;
                if (r == Z_STREAM_END)
                        return z->last = INFLATE_END;
                if (r != Z_OK && r != Z_BUF_ERROR)
                        return z->last = INFLATE_BAD;
                if ((s->data_type & BLOCK_END) && (flags & INFLATE_STOP_BLOCK) && r == Z_OK) {
                        if (s->data_type & LAST_BLOCK)
                                continue;
                        return INFLATE_BLOCK;
                }
                if (io->out == io->out_end)
                        return INFLATE_OUTPUT;
                if (io->in == io->in_end)
                        return INFLATE_INPUT;
        }
}

static void zlib_place(const struct inflate *common, struct inflate_place *ret)
{
        const struct by_zlib *z = (const struct by_zlib *)common;
        memset(ret, 0, sizeof *ret);
        ret->bits = (uint8_t)((8 - (z->stream.data_type & 7)) & 7);
}

static bool zlib_collect(struct inflate *common, struct inflate_used *used)
{
        (void)common;
        (void)used;
        return false;
}

static void zlib_supply(struct inflate *common, struct inflate_used *used)
{
        by_zlib_of(common)->used = used;
        memset(used->known, 0, sizeof used->known);
}

const struct inflate_engine inflate_zlib = {
        .name = "zlib",
        .new = zlib_new,
        .free = zlib_free,
        .reset = zlib_reset,
        .resume = zlib_resume,
        .run = zlib_run,
        .place = zlib_place,
        .collect = zlib_collect,
        .supply = zlib_supply,
};
