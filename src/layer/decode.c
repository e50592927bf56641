/*
 * The full pass over gzip, zstd and plain blobs; decode_span.c reads back what it found.
 *
 * The pass over gzip. Output is decoded into one buffer, in front of which the last 32 KiB of the slice before stand:
 *
 *      |<- 32 KiB history ->|<------------- slice, 128 KiB ------------->|
 *      buf                   ^ given: data() has had what is before       ^ when out gets here: CRC, data(), history moves to the front
 *
 * Slices end at multiples of 128 KiB of the tar stream, and what decides about points are positions only, so the same blob gives
 * the same points however it is cut into pieces.
 *
 * Points. du and dc are the distances to the last point, uncompressed and compressed; a rule "of q quarters" means
 *
 *      (du >= q/4 SPAN && dc >= q/4 SPAN_COMPRESSED) || du >= q/4 SPAN_LONG || dc >= min(q/4, 1) CHUNK
 *
 *      2 quarters   a member that begins is taken: it is a way in that costs no window;
 *                   a block that begins becomes a candidate
 *      7 quarters   of the candidates the one that uses least of its window is taken. In layers of real images they differ so much
 *                   that this saves a quarter of all window bytes, at about the same mean length of spans
 *      8 quarters   there was no candidate: the next symbol, or stored byte, at the end of a slice is taken
 *
 *      last point |------------|--c------c----c---c--|
 *                 0           2/4      SPAN           7/4
 *
 * so that a span is useful, a chunk is worth a request, and neither can be made huge by a hostile stream: blocks and members without
 * output have points because of dc (spans of no length), blocks without end because of the slices.
 *
 * What a candidate uses is known once 32 KiB more came out, or its member has ended: by then the inflater has collected all that is
 * used of the window, in the order of first use (inflate.h). Without the places where these bytes stood they are a
 * quarter shorter, once compressed, than the window with all others zeroed. One candidate is collected at a time; blocks that begin
 * meanwhile are passed over, unless it uses more than the best one already.
 *
 * zstd: only the beginnings of frames are ways in, and the frames' headers are looked at here, for dictionaries and for skippable
 * frames, whose content may be as long as 4 GiB. The rest is libzstd's. Limits: a frame larger than DECODE_SPAN_MAX makes the
 * layer unseekable; bytes after the last frame that are no frame are an error, as in Go's reader.
 */
#include "layer/decode.h"

#include <errno.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/wire.h"
#include "layer/gzip_header.h"
#include "layer/inflate.h"

enum {
        SLICE = 128 << 10,
        ZSTD_HEAD_MAX = 10, /* magic, descriptor, window, dictionary ID */
};

_Static_assert(
        (int)DECODE_WINDOW == (int)INFLATE_WINDOW && (int)DECODE_HEADER_MAX == (int)INFLATE_HEADER_MAX, "one deflate");

/* ---- which ---- */

static bool starts_with(const uint8_t *data, size_t len, const char *magic, size_t magic_len)
{
        return len >= magic_len && memcmp(data, magic, magic_len) == 0;
}

static bool zstd_skippable(const uint8_t *magic)
{
        return (get_le32(magic) & 0xfffffff0) == ZSTD_MAGIC_SKIPPABLE_START;
}

/* A tar's first block: its checksum is right (bytes summed as unsigned or, in old tars, as signed), or it is all zero. The sum
 * of compressed bytes, as signed, is near zero: a field without digits, taken as 0, would match one gzip stream in 4000. */
static bool tar_block(const uint8_t *block)
{
        long sum_unsigned = 0, sum_signed = 0, want = 0;
        bool zero = true;
        for (int i = 0; i < 512; i++) {
                uint8_t b = i >= 148 && i < 156 ? ' ' : block[i];
                zero &= block[i] == 0;
                sum_unsigned += b;
                sum_signed += (int8_t)b;
        }
        int i = 148;
        while (i < 156 && block[i] == ' ')
                i++;
        for (; i < 156 && block[i] >= '0' && block[i] <= '7'; i++)
                want = want * 8 + (block[i] - '0');
        return zero || (want >= 8 * ' ' && (want == sum_unsigned || want == sum_signed));
}

int decode_sniff(const uint8_t *data, size_t len, enum compression *ret, struct error *err)
{
        static const struct {
                const char *magic;
                uint8_t len;
                const char *name;
        } refused[] = {
                {"BZh", 3, "bzip2"},
                {"\xfd"
                 "7zXZ\0",
                        6, "xz"},
                {"\x04\x22\x4d\x18", 4, "lz4"},
                {"\x5d\0\0", 3, "lzma"},
                {"\x1f\x9d", 2, "compress"},
                {"LZIP", 4, "lzip"},
                {"PK\x03\x04", 4, "zip"},
        };

        if (len == 0 || (len >= 512 && tar_block(data)))
                *ret = COMPRESSION_NONE;
        else if (starts_with(data, len, "\x1f\x8b", 2))
                *ret = COMPRESSION_GZIP;
        else if (starts_with(data, len, "\x28\xb5\x2f\xfd", 4) || (len >= 4 && zstd_skippable(data)))
                *ret = COMPRESSION_ZSTD;
        else {
                for (size_t i = 0; i < ARRAY_LEN(refused); i++)
                        if (starts_with(data, len, refused[i].magic, refused[i].len))
                                return error_set(err, -EOPNOTSUPP,
                                        "layer is compressed with %s; only gzip and zstd are supported",
                                        refused[i].name);
                return error_set(err, -EBADMSG, "layer is neither gzip nor zstd nor a tar archive");
        }
        return 0;
}

/* ---- the full pass: what all formats share ---- */

enum gzip_state { MEMBER_HEADER, MEMBER_BODY, MEMBER_TRAILER, MEMBER_NEXT, MEMBER_MAGIC, AFTER_MEMBERS };
enum zstd_state { FRAME_HEAD, FRAME_BODY, FRAME_SKIP };

/** A point with a window, or what may become one. */
struct candidate {
        bool is;
        bool committed;  /* it is a point for sure, and only waits for what is used of its window */
        bool collecting; /* else the engine can't, and window is all of it */
        uint64_t coff, uoff;
        struct inflate_place place;
        struct inflate_used used;
        uint8_t window[DECODE_WINDOW];
};

struct decoder {
        enum compression compression;
        struct decode_sink sink;
        int failed;          /* the error that every later call repeats */
        uint64_t coff, uoff; /* bytes taken, bytes produced */
        bool any_point;
        bool blind; /* the last point is where no output can begin (skipped bytes): the next way in is one */
        bool unseekable;
        uint64_t point_coff, point_uoff; /* of the last point */
        uint64_t garbage;

        struct inflate *inflate;
        enum gzip_state gzip_state;
        struct gzip_header header;
        uint64_t member_coff; /* where this member's header began */
        uint64_t member_len;  /* its output so far... */
        uint32_t crc;         /* ...and that's CRC, both up to summed */
        uint8_t trailer[GZIP_TRAILER];
        unsigned trailer_len;
        bool want_symbol; /* a point is due at the next symbol */
        struct candidate slots[2], *now,
                *best; /* the one that is being collected, and the best that was since the last point */

        ZSTD_DCtx *zstd;
        enum zstd_state zstd_state;
        uint8_t head[ZSTD_HEAD_MAX];
        unsigned head_len;
        uint64_t frame_coff, frame_uoff; /* where this frame began */
        uint64_t skip_left;

        size_t base, given, summed, out; /* positions in buf: history begins; data() had, CRC has, output stands */
        uint8_t buf[DECODE_WINDOW + SLICE];
};

struct decoder *decoder_new(enum compression c, const struct decode_sink *sink)
{
        cleanup(decoder_freep) struct decoder *d = calloc(1, sizeof *d);
        if (!d)
                return NULL;
        d->compression = c;
        d->sink = *sink;
        d->now = &d->slots[0];
        d->best = &d->slots[1];
        if (c == COMPRESSION_GZIP) {
                d->inflate = inflate_new(INFLATE_ENGINE);
                if (!d->inflate)
                        return NULL;
                d->base = d->given = d->summed = d->out = DECODE_WINDOW;
        } else if (c == COMPRESSION_ZSTD) {
                d->zstd = ZSTD_createDCtx();
                if (!d->zstd ||
                        ZSTD_isError(ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, DECODE_ZSTD_WINDOW_LOG)))
                        return NULL;
        }
        return take(d);
}

void decoder_free(struct decoder *d)
{
        if (!d)
                return;
        inflate_free(d->inflate);
        ZSTD_freeDCtx(d->zstd);
        free(d);
}

bool decode_may_lack_points(enum compression c)
{
        return c == COMPRESSION_ZSTD || (c == COMPRESSION_GZIP && !INFLATE_STOPS_INSIDE);
}

bool decoder_seekable(const struct decoder *d)
{
        return !d->unseekable;
}

uint64_t decoder_garbage(const struct decoder *d)
{
        return d->garbage;
}

/** How much of the rule must have passed, in quarters: see the top. */
enum quarters { AT_MEMBER = 2, AT_BLOCK = 2, AT_END = 4, AT_CHOICE = 7, AT_SYMBOL = 8 };

/** Has so much of the rule passed at coff? */
static bool due(const struct decoder *d, uint64_t coff, enum quarters quarters)
{
        uint64_t du = 4 * (d->uoff - d->point_uoff), dc = 4 * (coff - d->point_coff), q = quarters;

        if (!d->any_point || d->blind)
                return true;
        return (du >= q * DECODE_SPAN && dc >= q * DECODE_SPAN_COMPRESSED) || du >= q * DECODE_SPAN_LONG ||
               dc >= MIN(q, (uint64_t)4) * DECODE_CHUNK;
}

/** The span that ends here is complete: is it one that can be served? */
static void judge_span(struct decoder *d, uint64_t coff, uint64_t uoff)
{
        if (uoff - d->point_uoff > DECODE_SPAN_MAX || coff - d->point_coff > DECODE_CHUNK_MAX)
                d->unseekable = true;
}

static void point_taken(struct decoder *d, uint64_t coff, uint64_t uoff)
{
        if (d->any_point)
                judge_span(d, coff, uoff);
        d->any_point = true;
        d->blind = false;
        d->point_coff = coff;
        d->point_uoff = uoff;
}

/** Tells a point whose collection is complete. */
static int tell(struct decoder *d, struct candidate *c)
{
        static const enum decode_kind kinds[] = {DECODE_BLOCK, DECODE_INSIDE, DECODE_STORED};
        bool some = c->collecting && c->used.len < DECODE_WINDOW;

        c->is = false;
        /* when all is used, the length says that the bytes stand in their own order */
        if (c->collecting && !some)
                for (unsigned i = 0; i < DECODE_WINDOW; i++)
                        c->window[c->used.where[i]] = c->used.bytes[i];
        struct decode_point point = {
                .kind = kinds[c->place.where],
                .coff = c->coff,
                .bits = c->place.bits,
                .final = c->place.final,
                .stored_left = c->place.stored_left,
                .header_bits = c->place.header_bits,
                .header = c->place.header_bits ? c->place.header : NULL,
                .window = some ? c->used.bytes : c->window,
                .window_len = some ? c->used.len : DECODE_WINDOW,
        };
        return d->sink.point(d->sink.ctx, c->uoff, &point);
}

/** The collection of d->now is complete. */
static int collected(struct decoder *d)
{
        struct candidate *c = d->now;

        if (!c->is)
                return 0;
        inflate_collect(d->inflate, NULL);
        if (c->committed)
                return tell(d, c);
        if (!d->best->is || !c->collecting || c->used.len <= d->best->used.len) {
                d->now = d->best;
                d->best = c;
        }
        d->now->is = false;
        return 0;
}

/** Makes a point of the best candidate. */
static int choose(struct decoder *d)
{
        if (!d->best->is)
                return 0;
        point_taken(d, d->best->coff, d->best->uoff);
        return tell(d, d->best);
}

/** No more blocks are to come before the next way in: is the last one's span too long without another? */
static int choose_last(struct decoder *d)
{
        int r = collected(d);
        if (r == 0 && d->best->is && due(d, d->coff, AT_END))
                r = choose(d);
        d->best->is = false;
        return r;
}

/** A point without a window, at coff and the end of the output so far; candidates before it are dropped. */
static int point_plain(struct decoder *d, enum decode_kind kind, uint64_t coff)
{
        struct decode_point point = {.kind = kind, .coff = coff};
        d->best->is = false;
        point_taken(d, coff, d->uoff);
        return d->sink.point(d->sink.ctx, d->uoff, &point);
}

/** Bytes pass that give no output (padding, garbage, skippable frames): no chunk shall be large even so. */
static int point_blind(struct decoder *d, enum decode_kind kind)
{
        if (d->any_point && d->coff - d->point_coff < DECODE_CHUNK)
                return 0;
        int r = choose_last(d);
        if (r == 0)
                r = point_plain(d, kind, d->coff);
        d->blind = true;
        return r;
}

/** Brings the member's CRC up to date. */
static void sum(struct decoder *d)
{
        d->crc = libdeflate_crc32(d->crc, d->buf + d->summed, d->out - d->summed);
        d->member_len += d->out - d->summed;
        d->summed = d->out;
}

/** Gives what was decoded to the sink. */
static int give(struct decoder *d)
{
        size_t from = d->given;
        d->given = d->out;
        return from < d->out ? d->sink.data(d->sink.ctx, d->buf + from, d->out - from) : 0;
}

/* ---- gzip ---- */

/** The slice is full: hands it on and moves the history to the front. */
static int turn_slice(struct decoder *d)
{
        sum(d);
        int r = give(d);
        memcpy(d->buf, d->buf + SLICE, DECODE_WINDOW);
        d->base = d->base > SLICE ? d->base - SLICE : 0;
        d->given = d->summed = d->out = DECODE_WINDOW;
        return r;
}

/** Begins to collect for where the inflater stands. */
static void begin(struct decoder *d, bool committed)
{
        struct candidate *c = d->now;

        inflate_place(d->inflate, &c->place);
        c->is = true;
        c->committed = committed;
        c->coff = d->coff - (c->place.bits ? 1 : 0);
        c->uoff = d->uoff;
        c->collecting = inflate_collect(d->inflate, &c->used);
        if (!c->collecting) {
                size_t len = MIN(d->out - d->base, (size_t)DECODE_WINDOW);
                memset(c->window, 0, DECODE_WINDOW - len);
                memcpy(c->window + DECODE_WINDOW - len, d->buf + d->out - len, len);
        }
        if (committed)
                point_taken(d, c->coff, c->uoff);
}

/** What output does to candidates. */
static int progress(struct decoder *d)
{
        int r = 0;
        if (d->now->is && d->uoff - d->now->uoff >= DECODE_WINDOW)
                r = collected(d);
        if (r == 0 && d->best->is && !d->now->is && due(d, d->coff, AT_CHOICE))
                r = choose(d);
        if (!d->now->is && !d->best->is)
                judge_span(d, d->coff, d->uoff); /* the next point can only be behind this */
        return r;
}

/** Does the candidate that is being collected use more already than the best one did? */
static bool lost(const struct decoder *d)
{
        return d->now->is && !d->now->committed && d->best->is && d->now->collecting &&
               d->now->used.len > d->best->used.len;
}

/** The inflater stands between two blocks. */
static int at_block(struct decoder *d)
{
        d->want_symbol = false;
        if (lost(d)) {
                inflate_collect(d->inflate, NULL);
                d->now->is = false;
                int r = progress(d);
                if (r < 0)
                        return r;
        }
        if (!d->now->is) {
                if (due(d, d->coff, AT_BLOCK))
                        begin(d, false);
                return 0;
        }
        if (d->coff - d->point_coff < DECODE_CHUNK)
                return 0;
        /* So much input and so little output: the collection is complete if the span ends here, so it must. */
        if (!d->now->committed) {
                d->best->is = false;
                point_taken(d, d->now->coff, d->now->uoff);
                d->now->committed = true;
        }
        int r = collected(d);
        begin(d, true);
        return r;
}

/** The inflater stands inside a block, where a point is due. */
static int at_symbol(struct decoder *d)
{
        d->want_symbol = false;
        int r = collected(d);
        begin(d, true);
        return r;
}

/** Decodes from *in; returns 0 when the input is used up or the member's deflate stream has ended. */
static int member_body(struct decoder *d, const uint8_t **in, const uint8_t *end, struct error *err)
{
        for (int r = 0; r == 0;) {
                struct inflate_io io = {*in, end, d->buf + d->out, d->buf + sizeof d->buf, d->buf + d->base};
                enum inflate_status status =
                        inflate_run(d->inflate, &io, INFLATE_STOP_BLOCK | (d->want_symbol ? INFLATE_STOP_SYMBOL : 0));
                size_t out = (size_t)(io.out - d->buf);

                d->coff += (uint64_t)(io.in - *in);
                d->uoff += out - d->out;
                *in = io.in;
                d->out = out;
                r = progress(d);
                if (r < 0)
                        return r;
                switch (status) {
                case INFLATE_INPUT: return 0;
                case INFLATE_OUTPUT:
                        r = turn_slice(d);
                        d->want_symbol = !d->now->is && !d->best->is && due(d, d->coff, AT_SYMBOL);
                        break;
                case INFLATE_BLOCK: r = at_block(d); break;
                case INFLATE_SYMBOL: r = at_symbol(d); break;
                case INFLATE_END:
                        d->want_symbol = false;
                        d->gzip_state = MEMBER_TRAILER;
                        d->trailer_len = 0;
                        sum(d);
                        return collected(d);
                case INFLATE_BAD:
                        return error_set(err, -EBADMSG, "gzip: damaged deflate data near byte %" PRIu64, d->coff);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static void member_begin(struct decoder *d)
{
        d->gzip_state = MEMBER_HEADER;
        d->header = (struct gzip_header){0};
}

static int member_header_byte(struct decoder *d, uint8_t b, struct error *err)
{
        int r = gzip_header_byte(&d->header, b, err);
        if (r < 0)
                return error_wrap(err, r, "member at byte %" PRIu64, d->member_coff);
        if (d->header.stage != GZIP_DONE)
                return 0;
        d->gzip_state = MEMBER_BODY;
        d->crc = 0;
        d->member_len = 0;
        d->base = d->out;
        inflate_reset(d->inflate);
        return due(d, d->member_coff, AT_MEMBER) ? point_plain(d, DECODE_MEMBER, d->member_coff) : 0;
}

static int member_trailer_byte(struct decoder *d, uint8_t b, struct error *err)
{
        d->trailer[d->trailer_len++] = b;
        if (d->trailer_len < GZIP_TRAILER)
                return 0;
        d->gzip_state = MEMBER_NEXT;
        if (get_le32(d->trailer) != d->crc)
                return error_set(err, -EBADMSG, "gzip member at byte %" PRIu64 ": wrong CRC-32", d->member_coff);
        if (get_le32(d->trailer + 4) != (uint32_t)d->member_len)
                return error_set(err, -EBADMSG, "gzip member at byte %" PRIu64 ": wrong length", d->member_coff);
        return 0;
}

/** Any byte but those of a member's body; d->coff is its position. */
static int gzip_byte(struct decoder *d, uint8_t b, struct error *err)
{
        int r;

        switch (d->gzip_state) {
        case MEMBER_HEADER: return member_header_byte(d, b, err);
        case MEMBER_TRAILER: return member_trailer_byte(d, b, err);
        case MEMBER_NEXT:
                d->member_coff = d->coff;
                d->gzip_state = b == 0x1f ? MEMBER_MAGIC : AFTER_MEMBERS;
                d->garbage += b != 0x1f && b != 0;
                return 0;
        case MEMBER_MAGIC:
                if (b == 0x8b) {
                        member_begin(d);
                        r = gzip_header_byte(&d->header, 0x1f, err);
                        return r < 0 ? r : member_header_byte(d, b, err);
                }
                d->gzip_state = AFTER_MEMBERS;
                d->garbage += 1 + (b != 0);
                return 0;
        default:
                d->garbage += b != 0;
                return d->coff - d->point_coff < DECODE_CHUNK ? 0 : point_blind(d, DECODE_MEMBER);
        }
}

static int push_gzip(struct decoder *d, const uint8_t *in, const uint8_t *end, struct error *err)
{
        while (in < end) {
                int r;
                if (d->gzip_state == MEMBER_BODY) {
                        r = member_body(d, &in, end, err);
                } else {
                        r = gzip_byte(d, *in++, err);
                        d->coff++;
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static int finish_gzip(struct decoder *d, struct error *err)
{
        if (d->gzip_state < MEMBER_NEXT)
                return error_set(
                        err, -EBADMSG, "gzip: the blob ends inside a member, after %" PRIu64 " bytes", d->coff);
        d->garbage += d->gzip_state == MEMBER_MAGIC;
        return 0;
}

/* ---- zstd ---- */

/** How many bytes of a frame's head must be known, given those that are. */
static unsigned zstd_head_want(const struct decoder *d)
{
        static const uint8_t id_bytes[] = {0, 1, 2, 4};
        if (d->head_len < 4)
                return 4;
        if (zstd_skippable(d->head))
                return 8;
        if (get_le32(d->head) != ZSTD_MAGICNUMBER || d->head_len < 5)
                return 5;
        return 5 + !(d->head[4] & 0x20) + id_bytes[d->head[4] & 3];
}

static int zstd_run(struct decoder *d, ZSTD_inBuffer *in, struct error *err)
{
        for (;;) {
                ZSTD_outBuffer out = {d->buf, sizeof d->buf, 0};
                size_t in_before = in->pos, left = ZSTD_decompressStream(d->zstd, &out, in);
                if (ZSTD_isError(left)) {
                        int code = ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge ? -EFBIG
                                   : ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation           ? -ENOMEM
                                                                                                       : -EBADMSG;
                        return error_set(err, code, "zstd frame at byte %" PRIu64 ": %s", d->frame_coff,
                                ZSTD_getErrorName(left));
                }
                d->given = 0;
                d->out = out.pos;
                d->uoff += out.pos;
                int r = give(d);
                if (r < 0)
                        return r;
                if (left == 0) {
                        d->zstd_state = FRAME_HEAD;
                        d->head_len = 0;
                        return 0;
                }
                if (out.pos < out.size && (in->pos == in->size || (in->pos == in_before && out.pos == 0)))
                        return 0;
        }
}

/** The frame's head is complete: what kind of frame is it? */
static int zstd_begin(struct decoder *d, struct error *err)
{
        if (zstd_skippable(d->head)) {
                d->skip_left = get_le32(d->head + 4);
                d->zstd_state = FRAME_SKIP;
                return d->any_point ? 0 : point_plain(d, DECODE_FRAME, d->frame_coff);
        }
        if (get_le32(d->head) != ZSTD_MAGICNUMBER)
                return error_set(err, -EBADMSG, "zstd: no frame begins at byte %" PRIu64, d->frame_coff);
        for (unsigned i = 5 + !(d->head[4] & 0x20); i < d->head_len; i++)
                if (d->head[i])
                        return error_set(err, -EOPNOTSUPP, "zstd: the layer needs a dictionary");
        if (due(d, d->frame_coff, AT_MEMBER)) {
                int r = point_plain(d, DECODE_FRAME, d->frame_coff);
                if (r < 0)
                        return r;
        }
        d->frame_uoff = d->uoff;
        d->zstd_state = FRAME_BODY;
        ZSTD_DCtx_reset(d->zstd, ZSTD_reset_session_only);
        return zstd_run(d, &(ZSTD_inBuffer){d->head, d->head_len, 0}, err);
}

static int push_zstd(struct decoder *d, const uint8_t *in, const uint8_t *end, struct error *err)
{
        while (in < end) {
                const uint8_t *from = in;
                int r = 0;
                if (d->zstd_state == FRAME_BODY) {
                        ZSTD_inBuffer zin = {in, (size_t)(end - in), 0};
                        r = zstd_run(d, &zin, err);
                        in += zin.pos;
                        d->coff += (uint64_t)(in - from);
                        judge_span(d, d->coff, d->uoff); /* the next point can only be behind this */
                } else if (d->zstd_state == FRAME_SKIP && d->skip_left > 0) {
                        r = point_blind(d, DECODE_FRAME);
                        uint64_t len = MIN(d->skip_left, (uint64_t)(end - in));
                        len = MIN(len, d->point_coff + DECODE_CHUNK - d->coff);
                        in += len;
                        d->skip_left -= len;
                        d->coff += len;
                } else {
                        if (d->zstd_state == FRAME_SKIP) {
                                d->zstd_state = FRAME_HEAD;
                                d->head_len = 0;
                        }
                        if (d->head_len == 0)
                                d->frame_coff = d->coff;
                        d->head[d->head_len++] = *in++;
                        d->coff++;
                        if (d->head_len == zstd_head_want(d))
                                r = zstd_begin(d, err);
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static int finish_zstd(struct decoder *d, struct error *err)
{
        if (d->zstd_state == FRAME_BODY || (d->zstd_state == FRAME_SKIP && d->skip_left) ||
                (d->zstd_state == FRAME_HEAD && d->head_len))
                return error_set(err, -EBADMSG, "zstd: the blob ends inside a frame, after %" PRIu64 " bytes", d->coff);
        return 0;
}

/* ---- plain ---- */

static int push_plain(struct decoder *d, const uint8_t *in, const uint8_t *end)
{
        while (in < end) {
                int r = 0;
                if (!d->any_point || d->uoff - d->point_uoff == DECODE_SPAN)
                        r = point_plain(d, DECODE_COPY, d->coff);
                size_t len = MIN((size_t)(end - in), (size_t)(DECODE_SPAN - (d->uoff - d->point_uoff)));
                d->coff += len;
                d->uoff += len;
                if (r == 0)
                        r = d->sink.data(d->sink.ctx, in, len);
                if (r < 0)
                        return r;
                in += len;
        }
        return 0;
}

/* ---- the pass ---- */

int decoder_push(struct decoder *d, const void *data, size_t len, struct error *err)
{
        const uint8_t *in = data;
        int r = d->failed;

        if (r < 0)
                return error_set(err, r, "the layer's decoder has failed before");
        if (len == 0)
                return 0;
        switch (d->compression) {
        case COMPRESSION_GZIP: r = push_gzip(d, in, in + len, err); break;
        case COMPRESSION_ZSTD: r = push_zstd(d, in, in + len, err); break;
        case COMPRESSION_NONE: r = push_plain(d, in, in + len); break;
        }
        d->failed = r;
        return r;
}

int decoder_finish(struct decoder *d, struct error *err)
{
        static const enum decode_kind first[] = {[COMPRESSION_NONE] = DECODE_COPY,
                [COMPRESSION_GZIP] = DECODE_MEMBER,
                [COMPRESSION_ZSTD] = DECODE_FRAME};
        int r = d->failed;

        if (r < 0)
                return error_set(err, r, "the layer's decoder has failed before");
        if (d->compression == COMPRESSION_GZIP)
                r = finish_gzip(d, err);
        else if (d->compression == COMPRESSION_ZSTD)
                r = finish_zstd(d, err);
        if (r == 0)
                r = choose_last(d);
        if (r == 0)
                r = give(d);
        if (r == 0 && !d->any_point)
                r = point_plain(d, first[d->compression], 0);
        judge_span(d, d->coff, d->uoff);
        d->failed = r;
        return r;
}
