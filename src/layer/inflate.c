/*
 * Our deflate decoder. What it is for is in inflate.h; here is how, and why it is fast all the same.
 *
 * A deflate stream is a row of blocks; a block is a header, which describes two prefix codes, and then symbols: literal
 * bytes, matches (length from the first code, distance from the second), and an end. All the time goes into the symbols.
 *
 *   Bits. A 64-bit word holds the next `n` bits of the stream, the first in bit 0. A refill is one unaligned load, one shift, one OR,
 *   without a branch: it loads eight bytes, ORs them in above the n bits that are there, and moves the input on by as many
 *   bytes as went in whole. The bits above n may be the truth about what follows, or zero, but never wrong, so that ORing the
 *   same bytes in again changes nothing. After a refill n >= 56: enough for two literals and a length (11 + 11 + 20), or for a
 *   distance (28) and the next look-up (11).
 *
 *   Tables. The next CODE_BITS (litlen: 11, distance: 8) bits index a table; codes that are longer go on in a second table, of just the
 *   size that the rest of these codes needs. An entry says everything that is needed, in 32 bits:
 *
 *          31     30..16                 15      14     13    11..8                5..0
 *        +-----+----------------------+-------+------+-----+--------------------+----------------------------+
 *        | LIT | the byte             |   0   |  0   |  0  | -                  | bits to drop: code         |  literal
 *        |  0  | smallest value       |   0   |  0   |  0  | bits of the code   | bits to drop: code + extra |  length, distance
 *        |  0  | index of 2nd table   |SPECIAL|DEEPER|  0  | index bits of it   | bits to drop: 11 or 8      |  go on there
 *        |  0  | -                    |SPECIAL|  0   | END | -                  | bits to drop: code         |  end of block
 *        |  0  | -                    |SPECIAL|  0   |  0  | -                  | bits to drop: code         |  no such code
 *        +-----+----------------------+-------+------+-----+--------------------+----------------------------+
 *
 *   so a length is: remember the word, drop (code + extra) bits, and add to the smallest value what stands above the code in
 *   the remembered word. The chain of dependent instructions from one symbol to the next is only: look up, shift.
 *
 *        first table, 2^11                        second tables, behind it
 *        [0] [1] ... [0x5ff] ...  [0x7ff]         [0] [1] [2] [3]   [0] [1]
 *                        \___ SPECIAL, 2 bits ____^
 *
 *   Tables are built by doubling: while codes of length l are laid, the table has 2^l entries, each code in one of them, because
 *   codes are read backwards and a code of length l does not care about the bits above; then its copy is put behind it for l + 1.
 *
 *   Copies. A match is copied in words of 16 or 8 bytes, which may write past its end: the room behind is ours, what is written there
 *   is overwritten by what comes next. A match that overlaps itself nearer than a word is first doubled until it does not.
 *
 * So there are two decoders of symbols: run_fast(), which needs some bytes of input and of room in front of it and checks both once
 * a turn, and run_careful(), which takes one byte of input at a time, never more than the symbol needs, and so works up
 * to the last bit and the last byte. Both leave less than 8 bits in the word when they end, so that there is nothing to give back.
 *
 * A block's header is gathered in `stage` before it is parsed, from its first bit on. If it is not all there, nothing is remembered
 * but the bytes: parsing begins anew with the next piece. So the parser is a function of plain bytes, and the
 * copy of the header that a place inside the block needs is simply there.
 *
 * Collecting what is used of the history before a place, and supplying it, cost next to nothing because they happen only in the
 * first 32 KiB behind the place, and there in 9 matches of 100: run_fast() is compiled twice, and track_match() is not in the one that matters.
 *
 * What is accepted is what zlib accepts, including that a code may be incomplete when it has only one code word, of one bit
 * (RFC 1951 has it for distances), or be empty; using what is missing is the error.
 */
#include "layer/inflate.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"

enum {
        LITLEN_BITS = 11,
        DIST_BITS = 8,
        PRE_BITS = 7,
        LITLEN_SYMBOLS = 288,
        DIST_SYMBOLS = 32,
        PRE_SYMBOLS = 19,
        CODE_MAX = 15, /* bits of the longest code */
        LITLEN_ROOM =
                2048 +
                640, /* a first table and the worst set of second ones: 2342 are needed (zlib's examples/enough.c) */
        DIST_ROOM = 256 + 256, /* 402 */
        END_OF_BLOCK = 256,
        MATCH_MAX = 258,
        FAST_OUT =
                MATCH_MAX + 3 + 32, /* room for a turn of run_fast(): literals, a match, and what is written past it */
        FAST_IN = 32,               /* input for it: refills load 8 bytes, and move on by at most 7 each */
        STAGE_SLACK = 8,
};

#define LITERAL ((uint32_t)1 << 31)
#define SPECIAL ((uint32_t)1 << 15)
#define DEEPER  ((uint32_t)1 << 14)
#define END     ((uint32_t)1 << 13)
#define WRONG   SPECIAL

enum state {
        BETWEEN, /* behind a block that was not the last */
        HEADER,  /* gathering a block's header */
        CODES,   /* inside a compressed block, between symbols, or inside a match (copy_len) */
        STORED,  /* inside a stored block */
        ENDED,
        BROKEN,
};

struct own {
        struct inflate common;
        enum state state;
        uint64_t bits;     /* the next n bits; those above n are zero between calls */
        unsigned n;        /* less than 8 but when the input ended within a symbol, then less than 48 */
        unsigned drop;     /* resumed: bits of the first input byte that were used before */
        bool final;        /* this block is the last */
        bool fixed_loaded; /* the tables hold the fixed codes */
        uint32_t stored_left;
        unsigned copy_len, copy_dist; /* rest of a match for which there was no room */
        struct inflate_used *used;    /* what is used of the history before a place is tracked in it; or NULL */
        bool supply;                  /* it is known, and put into the history; else it is collected */
        uint32_t supplied;
        size_t since;        /* bytes that came out since that place, as of the last call's end */
        unsigned stage_skip; /* bits of stage[0] that belong to the block before */
        unsigned stage_len;
        unsigned header_bits;
        uint8_t stage[1 + INFLATE_HEADER_MAX + STAGE_SLACK];
        uint32_t litlen[LITLEN_ROOM];
        uint32_t dist[DIST_ROOM];
};

static struct own *own_of(struct inflate *z)
{
        return (struct own *)z;
}

/* ---- tables ---- */

/** Entries of the symbols without the code's length: base value, and in the low bits how many extra bits follow. */
#define VALUE(base, extra) ((uint32_t)(base) << 16 | (extra))

/* clang-format off */
static const uint32_t length_values[31] = {
        VALUE(3, 0), VALUE(4, 0), VALUE(5, 0), VALUE(6, 0), VALUE(7, 0), VALUE(8, 0), VALUE(9, 0),
        VALUE(10, 0), VALUE(11, 1), VALUE(13, 1), VALUE(15, 1), VALUE(17, 1), VALUE(19, 2), VALUE(23, 2),
        VALUE(27, 2), VALUE(31, 2), VALUE(35, 3), VALUE(43, 3), VALUE(51, 3), VALUE(59, 3), VALUE(67, 4),
        VALUE(83, 4), VALUE(99, 4), VALUE(115, 4), VALUE(131, 5), VALUE(163, 5), VALUE(195, 5), VALUE(227, 5),
        VALUE(258, 0), WRONG, WRONG,
};

static const uint32_t dist_values[DIST_SYMBOLS] = {
        VALUE(1, 0), VALUE(2, 0), VALUE(3, 0), VALUE(4, 0), VALUE(5, 1), VALUE(7, 1), VALUE(9, 2),
        VALUE(13, 2), VALUE(17, 3), VALUE(25, 3), VALUE(33, 4), VALUE(49, 4), VALUE(65, 5), VALUE(97, 5),
        VALUE(129, 6), VALUE(193, 6), VALUE(257, 7), VALUE(385, 7), VALUE(513, 8), VALUE(769, 8),
        VALUE(1025, 9), VALUE(1537, 9), VALUE(2049, 10), VALUE(3073, 10), VALUE(4097, 11), VALUE(6145, 11),
        VALUE(8193, 12), VALUE(12289, 12), VALUE(16385, 13), VALUE(24577, 13), WRONG, WRONG,
};
/* clang-format on */

/** What the entry of a symbol says, but for the code's length. */
typedef uint32_t symbol_value(unsigned symbol);

static inline uint32_t litlen_value(unsigned symbol)
{
        if (symbol < END_OF_BLOCK)
                return LITERAL | symbol << 16;
        return symbol == END_OF_BLOCK ? SPECIAL | END : length_values[symbol - END_OF_BLOCK - 1];
}

static inline uint32_t dist_value(unsigned symbol)
{
        return dist_values[symbol];
}

static inline uint32_t pre_value(unsigned symbol)
{
        return symbol << 16;
}

/** The finished entry: the code's length twice, plus the extra bits in the lower one. */
static inline uint32_t entry_of(uint32_t value, unsigned code_len)
{
        return value + (code_len << 8) + code_len;
}

/** The next code, read backwards: add one to the leftmost of its len bits. */
static inline unsigned next_code(unsigned code, unsigned len)
{
        unsigned bit = 1u << (len - 1);
        while (code & bit)
                bit >>= 1;
        return bit ? (code & (bit - 1)) | bit : 0;
}

/** How many codes of each length there are, and the symbols in the order of their codes. Returns the longest length, 0 for an
 *  empty code, -1 when there are too many codes, or too few (`lone`: one code of one bit will do). */
static int sort_codes(const uint8_t *lens, unsigned symbols, bool lone, uint16_t count[CODE_MAX + 1], uint16_t *sorted)
{
        uint16_t at[CODE_MAX + 2] = {0};
        int left = 1, longest = 0;

        memset(count, 0, (CODE_MAX + 1) * sizeof *count);
        for (unsigned i = 0; i < symbols; i++)
                count[lens[i]]++;
        count[0] = 0;
        for (int len = 1; len <= CODE_MAX; len++) {
                left = left * 2 - count[len];
                if (left < 0)
                        return -1;
                if (count[len])
                        longest = len;
                at[len + 1] = (uint16_t)(at[len] + count[len]);
        }
        if (longest && left > 0 && !(lone && longest == 1))
                return -1;
        for (unsigned i = 0; i < symbols; i++)
                if (lens[i])
                        sorted[at[lens[i]]++] = (uint16_t)i;
        return longest;
}

/** Lays a code's table; see the top. Returns false when the lengths make no code. */
static inline __attribute__((always_inline)) bool build(uint32_t *table, unsigned room, unsigned first_bits,
        symbol_value *value, const uint8_t *lens, unsigned symbols, bool lone)
{
        uint16_t count[CODE_MAX + 1], sorted[LITLEN_SYMBOLS];
        const uint16_t *next = sorted;
        unsigned code = 0;
        int longest = sort_codes(lens, symbols, lone, count, sorted);

        if (longest < 0)
                return false;
        table[0] = entry_of(WRONG, 1); /* stays where there is no code */
        for (unsigned len = 1; len <= first_bits; len++) {
                memcpy(table + (1u << (len - 1)), table, sizeof *table << (len - 1));
                for (unsigned i = count[len]; i > 0; i--) {
                        table[code] = entry_of(value(*next++), len);
                        code = next_code(code, len);
                }
        }

        unsigned end = 1u << first_bits, prefix = ~0u, sub_bits = 0, sub = 0;
        for (unsigned len = first_bits + 1; (int)len <= longest; len++) {
                for (; count[len] > 0; count[len]--) {
                        if ((code & ((1u << first_bits) - 1)) != prefix) {
                                /* as many bits as it takes until the codes to come fill the table */
                                prefix = code & ((1u << first_bits) - 1);
                                sub = end;
                                sub_bits = len - first_bits;
                                for (unsigned fill = count[len];
                                        fill < 1u << sub_bits && first_bits + sub_bits < CODE_MAX;) {
                                        sub_bits++;
                                        fill = fill * 2 + count[first_bits + sub_bits];
                                }
                                end += 1u << sub_bits;
                                if (end > room)
                                        return false; /* can't be: the room is the worst case */
                                table[prefix] = SPECIAL | DEEPER | sub << 16 | sub_bits << 8 | first_bits;
                        }
                        uint32_t entry = entry_of(value(*next++), len - first_bits);
                        for (unsigned i = code >> first_bits; i < 1u << sub_bits; i += 1u << (len - first_bits))
                                table[sub + i] = entry;
                        code = next_code(code, len);
                }
        }
        return true;
}

static bool build_codes(struct own *z, const uint8_t *litlen, unsigned litlens, const uint8_t *dist, unsigned dists)
{
        return build(z->litlen, LITLEN_ROOM, LITLEN_BITS, litlen_value, litlen, litlens, true) &&
               build(z->dist, DIST_ROOM, DIST_BITS, dist_value, dist, dists, true);
}

static void load_fixed(struct own *z)
{
        uint8_t lens[LITLEN_SYMBOLS], dists[DIST_SYMBOLS];

        if (z->fixed_loaded)
                return;
        memset(lens, 8, 144);
        memset(lens + 144, 9, 112);
        memset(lens + 256, 7, 24);
        memset(lens + 280, 8, 8);
        memset(dists, 5, sizeof dists);
        build_codes(z, lens, LITLEN_SYMBOLS, dists, DIST_SYMBOLS);
        z->fixed_loaded = true;
}

/* ---- a block's header ---- */

static inline uint64_t load64(const uint8_t *p)
{
        uint64_t v;
        memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        v = __builtin_bswap64(v);
#endif
        return v;
}

/** Bits of the stage: `at` is the next one, `end` how many are there. Looking past the end is harmless (there is slack),
 *  passing it is noticed by header_short(). */
struct header_bits {
        const uint8_t *data;
        unsigned at, end;
};

static inline unsigned header_peek(const struct header_bits *h)
{
        if (h->at > 8 * (1 + INFLATE_HEADER_MAX))
                return 0;
        return (unsigned)(load64(h->data + (h->at >> 3)) >> (h->at & 7)) & 0xffffff;
}

static inline unsigned header_take(struct header_bits *h, unsigned count)
{
        unsigned value = header_peek(h) & ((1u << count) - 1);
        h->at += count;
        return value;
}

static inline bool header_short(const struct header_bits *h)
{
        return h->at > h->end;
}

enum parsed { PARSED, PARSED_SHORT, PARSED_BAD };

/** The lengths of both codes, which are themselves coded. */
static enum parsed parse_lengths(struct header_bits *h, const uint32_t *pre, uint8_t *lens, unsigned wanted)
{
        for (unsigned have = 0; have < wanted;) {
                uint32_t e = pre[header_peek(h) & ((1u << PRE_BITS) - 1)];
                unsigned symbol = e & SPECIAL ? 0 : e >> 16; /* an empty code: zlib reads zeros, a bit each */
                unsigned repeat = 1;
                uint8_t len = (uint8_t)symbol;

                h->at += e & 63;
                if (symbol == 16) {
                        repeat = 3 + header_take(h, 2);
                        len = have ? lens[have - 1] : 0;
                } else if (symbol == 17) {
                        repeat = 3 + header_take(h, 3);
                        len = 0;
                } else if (symbol == 18) {
                        repeat = 11 + header_take(h, 7);
                        len = 0;
                }
                if (header_short(h))
                        return PARSED_SHORT;
                if ((symbol == 16 && have == 0) || repeat > wanted - have)
                        return PARSED_BAD;
                memset(lens + have, len, repeat);
                have += repeat;
        }
        return PARSED;
}

static enum parsed parse_dynamic(struct own *z, struct header_bits *h)
{
        static const uint8_t order[PRE_SYMBOLS] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
        uint8_t pre_lens[PRE_SYMBOLS] = {0}, lens[LITLEN_SYMBOLS + DIST_SYMBOLS];
        uint32_t pre[1 << PRE_BITS];

        unsigned litlens = 257 + header_take(h, 5), dists = 1 + header_take(h, 5), pres = 4 + header_take(h, 4);
        if (header_short(h))
                return PARSED_SHORT;
        if (litlens > 286 || dists > 30)
                return PARSED_BAD;
        for (unsigned i = 0; i < pres; i++)
                pre_lens[order[i]] = (uint8_t)header_take(h, 3);
        if (header_short(h))
                return PARSED_SHORT;
        if (!build(pre, 1 << PRE_BITS, PRE_BITS, pre_value, pre_lens, PRE_SYMBOLS, false))
                return PARSED_BAD;
        enum parsed r = parse_lengths(h, pre, lens, litlens + dists);
        if (r != PARSED)
                return r;
        z->fixed_loaded = false;
        if (lens[END_OF_BLOCK] == 0 || !build_codes(z, lens, litlens, lens + litlens, dists))
                return PARSED_BAD;
        return PARSED;
}

static enum parsed parse_stored(struct own *z, struct header_bits *h)
{
        h->at = (h->at + 7) & ~7u;
        unsigned len = header_take(h, 16), complement = header_take(h, 16);
        if (header_short(h))
                return PARSED_SHORT;
        if (len != (complement ^ 0xffff))
                return PARSED_BAD;
        z->stored_left = len;
        return PARSED;
}

/** Parses what is in the stage. PARSED: state, tables and header_bits are set. */
static enum parsed parse_header(struct own *z)
{
        struct header_bits h = {.data = z->stage, .at = z->stage_skip, .end = z->stage_len * 8};
        unsigned final = header_take(&h, 1), type = header_take(&h, 2);
        enum parsed r = PARSED;

        if (header_short(&h))
                return PARSED_SHORT;
        if (type == 0)
                r = parse_stored(z, &h);
        else if (type == 1)
                load_fixed(z);
        else if (type == 2)
                r = parse_dynamic(z, &h);
        else
                r = PARSED_BAD;
        if (r == PARSED) {
                z->final = final;
                z->header_bits = h.at - z->stage_skip;
                z->state = type == 0 ? STORED : CODES;
        }
        return r;
}

/** State HEADER: brings input to the stage until the header is there. INFLATE_BLOCK means nothing but "go on". */
static enum inflate_status run_header(struct own *z, struct inflate_io *io)
{
        if (z->stage_len == 0) {
                z->stage_skip = z->n ? 8 - z->n : 0;
                z->stage_len = z->n > 0;
                z->stage[0] = (uint8_t)(z->bits << z->stage_skip);
                z->bits = z->n = 0;
        }
        unsigned had = z->stage_len;
        size_t piece = MIN((size_t)(io->in_end - io->in), (size_t)(1 + INFLATE_HEADER_MAX - had));
        if (piece)
                memcpy(z->stage + had, io->in, piece);
        z->stage_len = had + (unsigned)piece;
        switch (parse_header(z)) {
        case PARSED_SHORT:
                if (z->stage_len == 1 + INFLATE_HEADER_MAX)
                        return INFLATE_BAD; /* can't be: no header is so long */
                io->in += piece;
                return INFLATE_INPUT;
        case PARSED_BAD: return INFLATE_BAD;
        case PARSED: break;
        }
        unsigned bits = z->stage_skip + z->header_bits, bytes = (bits + 7) / 8;
        io->in += bytes - had;
        z->n = bytes * 8 - bits;
        z->bits = z->n ? z->stage[bytes - 1] >> (8 - z->n) : 0;
        z->stage_len = 0;
        return INFLATE_BLOCK;
}

/* ---- symbols ---- */

/** A match begins at out, `since` bytes behind the place: tracks what it uses of what stood before the place. */
static void track_match(struct own *z, uint8_t *out, size_t since, size_t dist, size_t len)
{
        struct inflate_used *u = z->used;
        uint8_t *from = out - dist;

        if (dist <= since || dist - since > INFLATE_WINDOW)
                return;
        size_t where = INFLATE_WINDOW - (dist - since), end = MIN(where + len, (size_t)INFLATE_WINDOW);
        for (; where < end; where++, from++) {
                if (u->known[where])
                        continue;
                u->known[where] = 1;
                if (z->supply) {
                        if (z->supplied < u->len)
                                *from = u->bytes[z->supplied++];
                } else {
                        u->bytes[u->len] = *from;
                        u->where[u->len++] = (uint16_t)where;
                }
        }
}

/** Copies a match; may write up to 15 bytes past its end. */
static inline __attribute__((always_inline)) void copy_match(uint8_t *out, size_t dist, size_t len)
{
        const uint8_t *from = out - dist;
        uint8_t *end = out + len;

        if (dist >= 16) {
                do {
                        memcpy(out, from, 16);
                        out += 16;
                        from += 16;
                } while (out < end);
                return;
        }
        /* what stands between from and out is the pattern; each turn makes it twice as long */
        while (dist < 8) {
                uint64_t word;
                memcpy(&word, from, 8);
                memcpy(out, &word, 8);
                out += dist;
                dist *= 2;
                if (out >= end)
                        return;
        }
        do {
                uint64_t word;
                memcpy(&word, from, 8);
                memcpy(out, &word, 8);
                out += 8;
                from += 8;
        } while (out < end);
}

#define REFILL()                                                                                                       \
        do {                                                                                                           \
                bits |= load64(in) << n;                                                                               \
                in += (63 - n) >> 3;                                                                                   \
                n |= 56;                                                                                               \
        } while (0)
#define DROP(entry)                                                                                                    \
        do {                                                                                                           \
                bits >>= (entry)&63;                                                                                   \
                n -= (entry)&63;                                                                                       \
        } while (0)

/** The extra bits of an entry, out of the word as it was before the drop, added to its value. */
static inline __attribute__((always_inline)) size_t entry_value(uint32_t entry, uint64_t before)
{
        return (entry >> 16) + (size_t)((before & (((uint64_t)1 << (entry & 63)) - 1)) >> (entry >> 8 & 15));
}

/** The index in the second table: its beginning, and the next bits of the stream. */
static inline __attribute__((always_inline)) size_t deeper(uint32_t entry, uint64_t bits)
{
        return (entry >> 16) + (size_t)(bits & ((1u << (entry >> 8 & 15)) - 1));
}

/**
 * Decodes symbols as long as there are FAST_IN bytes of input and FAST_OUT bytes of room (the caller has checked that for the first
 * turn). Returns INFLATE_BLOCK at the end of the block, INFLATE_BAD, or INFLATE_INPUT: go on carefully.
 */
static inline __attribute__((always_inline)) enum inflate_status run_fast(
        struct own *z, struct inflate_io *io, const uint8_t *out_end, const bool tracking)
{
        const uint32_t *const litlen = z->litlen, *const dists = z->dist;
        const uint8_t *in = io->in, *const in_stop = io->in_end - FAST_IN, *const base = io->base;
        uint8_t *out = io->out;
        const uint8_t *const out_first = out, *const out_stop = out_end - FAST_OUT;
        enum inflate_status status = INFLATE_INPUT;
        uint64_t bits = z->bits;
        unsigned n = z->n;
        uint32_t e;

#define LOOK() litlen[bits & ((1u << LITLEN_BITS) - 1)]
        REFILL();
        e = LOOK();
        do {
                if (e & LITERAL) {
                        *out++ = (uint8_t)(e >> 16);
                        DROP(e);
                        e = LOOK();
                        if (e & LITERAL) {
                                *out++ = (uint8_t)(e >> 16);
                                DROP(e);
                                e = LOOK();
                                if (e & LITERAL) {
                                        *out++ = (uint8_t)(e >> 16);
                                        DROP(e);
                                        REFILL();
                                        e = LOOK();
                                        continue;
                                }
                        }
                }
                /* 34 bits are left, a length takes at most 20 */
                if (__builtin_expect(e & SPECIAL, 0)) {
                        if (e & DEEPER) {
                                DROP(e);
                                e = litlen[deeper(e, bits)];
                        }
                        if (e & LITERAL) {
                                *out++ = (uint8_t)(e >> 16);
                                DROP(e);
                                REFILL();
                                e = LOOK();
                                continue;
                        }
                        if (e & SPECIAL) {
                                status = e & END ? INFLATE_BLOCK : INFLATE_BAD;
                                DROP(e);
                                break;
                        }
                }
                uint64_t before = bits;
                DROP(e);
                size_t len = entry_value(e, before);
                if (n < 28)
                        REFILL();
                e = dists[bits & ((1u << DIST_BITS) - 1)];
                if (__builtin_expect(e & SPECIAL, 0)) {
                        if (!(e & DEEPER)) {
                                status = INFLATE_BAD;
                                break;
                        }
                        DROP(e);
                        e = dists[deeper(e, bits)];
                        if (e & SPECIAL) {
                                status = INFLATE_BAD;
                                break;
                        }
                }
                before = bits;
                DROP(e);
                size_t dist = entry_value(e, before);
                if (__builtin_expect(dist > (size_t)(out - base), 0)) {
                        status = INFLATE_BAD;
                        break;
                }
                REFILL();
                e = LOOK();
                if (tracking)
                        track_match(z, out, z->since + (size_t)(out - out_first), dist, len);
                copy_match(out, dist, len);
                out += len;
        } while (in < in_stop && out < out_stop);
#undef LOOK

        in -= n >> 3;
        n &= 7;
        z->bits = bits & ((1u << n) - 1);
        z->n = n;
        z->since += (size_t)(out - out_first);
        io->in = in;
        io->out = out;
        return status;
}

static __attribute__((noinline)) enum inflate_status run_fast_plain(struct own *z, struct inflate_io *io)
{
        return run_fast(z, io, io->out_end, false);
}

static __attribute__((noinline)) enum inflate_status run_fast_tracking(
        struct own *z, struct inflate_io *io, const uint8_t *out_end)
{
        return run_fast(z, io, out_end, true);
}

/** Looks a code up in the word, `*used` bits of which are spoken for; adds to *used what the entry drops. What the entry says
 *  is true only if *used <= z->n then. */
static uint32_t careful_entry(const uint32_t *table, unsigned first_bits, uint64_t bits, unsigned *used)
{
        uint32_t e = table[(bits >> *used) & ((1u << first_bits) - 1)];
        if (e & DEEPER) {
                *used += e & 63;
                e = table[deeper(e, bits >> *used)];
        }
        *used += e & 63;
        return e;
}

/** One code with its extra bits, at bit *used of the word: false when input is lacking. */
static bool careful_code(struct own *z, struct inflate_io *io, const uint32_t *table, unsigned first_bits,
        unsigned *used, uint32_t *ret_entry, size_t *ret_value)
{
        for (;;) {
                unsigned end = *used;
                uint32_t e = careful_entry(table, first_bits, z->bits, &end);
                if (end <= z->n) {
                        *ret_entry = e;
                        *ret_value = entry_value(e, z->bits >> (end - (e & 63)));
                        *used = end;
                        return true;
                }
                if (io->in == io->in_end)
                        return false;
                z->bits |= (uint64_t)*io->in++ << z->n;
                z->n += 8;
        }
}

static void careful_copy(struct own *z, struct inflate_io *io)
{
        size_t len = MIN((size_t)z->copy_len, (size_t)(io->out_end - io->out));
        for (const uint8_t *from = io->out - z->copy_dist, *end = from + len; from < end;)
                *io->out++ = *from++;
        z->copy_len -= (unsigned)len;
        z->since += len;
}

/** One symbol, with no look beyond it. INFLATE_SYMBOL: done, go on. */
static enum inflate_status run_careful(struct own *z, struct inflate_io *io)
{
        unsigned used = 0;
        uint32_t e;
        size_t len, dist;

        if (!careful_code(z, io, z->litlen, LITLEN_BITS, &used, &e, &len))
                return INFLATE_INPUT;
        if (e & LITERAL) {
                *io->out++ = (uint8_t)(e >> 16);
                z->since++;
        } else if (e & SPECIAL) {
                if (!(e & END))
                        return INFLATE_BAD;
        } else {
                uint32_t d;
                if (!careful_code(z, io, z->dist, DIST_BITS, &used, &d, &dist))
                        return INFLATE_INPUT;
                if ((d & SPECIAL) || dist > (size_t)(io->out - io->base))
                        return INFLATE_BAD;
                if (z->used && z->since < INFLATE_WINDOW)
                        track_match(z, io->out, z->since, dist, len);
                z->copy_len = (unsigned)len;
                z->copy_dist = (unsigned)dist;
        }
        z->bits >>= used;
        z->n -= used;
        return e & SPECIAL ? INFLATE_BLOCK : INFLATE_SYMBOL;
}

/** State CODES. INFLATE_BLOCK: the block has ended. */
static enum inflate_status run_codes(struct own *z, struct inflate_io *io, unsigned flags)
{
        for (;;) {
                enum inflate_status status;

                if (z->copy_len) {
                        careful_copy(z, io);
                        if (z->copy_len)
                                return INFLATE_OUTPUT;
                }
                if (flags & INFLATE_STOP_SYMBOL)
                        return INFLATE_SYMBOL;
                if (io->out == io->out_end)
                        return INFLATE_OUTPUT;
                bool tracking = z->used && z->since < INFLATE_WINDOW;
                size_t room = (size_t)(io->out_end - io->out);
                if ((size_t)(io->in_end - io->in) <= FAST_IN || room <= FAST_OUT)
                        status = run_careful(z, io);
                else if (!tracking)
                        status = run_fast_plain(z, io);
                else
                        status =
                                run_fast_tracking(z, io, io->out + MIN(room, INFLATE_WINDOW - z->since + 2 * FAST_OUT));
                if (status == INFLATE_BLOCK || status == INFLATE_BAD)
                        return status;
                if (status == INFLATE_INPUT && io->in == io->in_end)
                        return status;
        }
}

/** State STORED. INFLATE_BLOCK: the block has ended. */
static enum inflate_status run_stored(struct own *z, struct inflate_io *io, unsigned flags)
{
        if (z->stored_left == 0)
                return INFLATE_BLOCK;
        if (flags & INFLATE_STOP_SYMBOL)
                return INFLATE_SYMBOL;
        size_t len = MIN((size_t)(io->in_end - io->in), (size_t)(io->out_end - io->out));
        len = MIN(len, (size_t)z->stored_left);
        if (len) {
                memcpy(io->out, io->in, len);
                io->in += len;
                io->out += len;
                z->since += len;
                z->stored_left -= (uint32_t)len;
        }
        if (z->stored_left == 0)
                return INFLATE_BLOCK;
        return io->out == io->out_end ? INFLATE_OUTPUT : INFLATE_INPUT;
}

/* ---- the engine ---- */

static struct inflate *own_new(void)
{
        struct own *z = calloc(1, sizeof *z);
        if (!z)
                return NULL;
        z->common.engine = &inflate_own;
        z->state = HEADER;
        return &z->common;
}

static void own_free(struct inflate *common)
{
        free(common);
}

static void own_reset(struct inflate *common)
{
        struct own *z = own_of(common);
        z->state = HEADER;
        z->bits = 0;
        z->n = z->drop = 0;
        z->copy_len = 0;
        z->used = NULL;
        z->stage_len = 0;
}

static int own_resume(
        struct inflate *common, const struct inflate_place *place, const uint8_t *window, size_t window_len)
{
        struct own *z = own_of(common);
        (void)window; /* it stands in front of the output */
        (void)window_len;

        own_reset(common);
        if (place->bits > 7 || (place->where == INFLATE_AT_STORED && place->bits))
                return -EBADMSG;
        z->drop = place->bits;
        if (place->where == INFLATE_AT_STORED) {
                z->state = STORED;
                z->stored_left = place->stored_left;
                z->final = place->final;
        } else if (place->where == INFLATE_AT_SYMBOL) {
                unsigned bytes = (place->header_bits + 7u) / 8;
                if (bytes > INFLATE_HEADER_MAX)
                        return -EBADMSG;
                memcpy(z->stage, place->header, bytes);
                z->stage_skip = 0;
                z->stage_len = bytes;
                enum parsed r = parse_header(z);
                z->stage_len = 0;
                if (r != PARSED || z->state != CODES || z->header_bits != place->header_bits) {
                        z->state = BROKEN;
                        return -EBADMSG;
                }
        }
        return 0;
}

static enum inflate_status own_run(struct inflate *common, struct inflate_io *io, unsigned flags)
{
        struct own *z = own_of(common);
        enum inflate_status status;

        if (z->drop) {
                if (io->in == io->in_end)
                        return INFLATE_INPUT;
                z->bits = *io->in++ >> z->drop;
                z->n = 8 - z->drop;
                z->drop = 0;
        }
        for (;;) {
                switch (z->state) {
                case BETWEEN:
                        z->state = HEADER;
                        if (flags & INFLATE_STOP_BLOCK)
                                return INFLATE_BLOCK;
                        continue;
                case HEADER:
                        status = run_header(z, io);
                        if (status == INFLATE_BLOCK)
                                continue;
                        break;
                case CODES: status = run_codes(z, io, flags); break;
                case STORED: status = run_stored(z, io, flags); break;
                case ENDED: return INFLATE_END;
                default: return INFLATE_BAD;
                }
                if (status == INFLATE_BAD) {
                        z->state = BROKEN;
                        return status;
                }
                if (status != INFLATE_BLOCK)
                        return status;
                z->state = z->final ? ENDED : BETWEEN;
        }
}

static void own_place(const struct inflate *common, struct inflate_place *ret)
{
        const struct own *z = (const struct own *)common;

        assert(z->n < 8 && !z->copy_len && !z->stage_len);
        memset(ret, 0, sizeof *ret);
        ret->bits = (uint8_t)((8 - z->n) & 7);
        if (z->state == STORED) {
                ret->where = INFLATE_AT_STORED;
                ret->final = z->final;
                ret->stored_left = (uint16_t)z->stored_left;
        } else if (z->state == CODES) {
                ret->where = INFLATE_AT_SYMBOL;
                ret->final = z->final;
                ret->header_bits = (uint16_t)z->header_bits;
                for (unsigned i = 0; i < (z->header_bits + 7) / 8; i++) {
                        unsigned two = z->stage[i] | (unsigned)z->stage[i + 1] << 8;
                        ret->header[i] = (uint8_t)(two >> z->stage_skip);
                }
                if (z->header_bits & 7)
                        ret->header[z->header_bits / 8] &= (uint8_t)((1u << (z->header_bits & 7)) - 1);
        }
}

static bool own_collect(struct inflate *common, struct inflate_used *used)
{
        struct own *z = own_of(common);
        z->used = used;
        z->supply = false;
        z->since = 0;
        if (used) {
                used->len = 0;
                memset(used->known, 0, sizeof used->known);
        }
        return true;
}

static void own_supply(struct inflate *common, struct inflate_used *used)
{
        struct own *z = own_of(common);
        z->used = used;
        z->supply = true;
        z->supplied = 0;
        z->since = 0;
        memset(used->known, 0, sizeof used->known);
}

const struct inflate_engine inflate_own = {
        .name = "own",
        .new = own_new,
        .free = own_free,
        .reset = own_reset,
        .resume = own_resume,
        .run = own_run,
        .place = own_place,
        .collect = own_collect,
        .supply = own_supply,
};
