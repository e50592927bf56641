#pragma once
/**
 * A deflate stream (RFC 1951, no gzip or zlib wrapping) that can be entered again in the middle.
 *
 * An inflater takes input in pieces of any size and writes into the caller's buffer, in which the history (up to 32 KiB
 * of what was written before) stands in front. It can stop at the end of each block, or between any two symbols of one, and
 * tell the place where it stands; from a place and its history any inflater goes on. And of the history before a place it collects
 * the bytes that what comes after refers to, in the order in which they are referred to first. That is all that needs to be kept
 * (about 9 % of 32 KiB): where these bytes stood need not be known, because an inflater that goes on from the place meets
 * the same references in the same order, and then takes the next byte of the collection each time.
 *
 *        base                     out                     out_end
 *         |<-- history, <= 32 KiB -->|<-- room for output -->|      struct inflate_io
 *
 * There are two engines with equal results: inflate_own (inflate.c), which is fast, and inflate_zlib (inflate_zlib.c), its
 * judge in tests and the alternative in a build. inflate_zlib can't collect, and never returns INFLATE_SYMBOL; but it goes
 * on from the places and collections that the other made.
 *
 * One thread at a time. No allocation after inflate_new().
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum {
        INFLATE_WINDOW = 32 << 10, /* history that a match may refer to */
        INFLATE_HEADER_MAX = 320,  /* bytes of a block's header, at most (286 in fact) */
};

enum inflate_status {
        INFLATE_INPUT,  /* all input is taken; more is needed */
        INFLATE_OUTPUT, /* no room for output; also when the next symbol would not need any */
        INFLATE_BLOCK,  /* stands between two blocks (INFLATE_STOP_BLOCK) */
        INFLATE_SYMBOL, /* stands between two symbols, or two bytes of a stored block (INFLATE_STOP_SYMBOL) */
        INFLATE_END,    /* the stream has ended; io->in is the first byte after it */
        INFLATE_BAD,    /* not deflate */
};

enum inflate_flags {
        INFLATE_STOP_BLOCK = 1 << 0,  /* return at each end of a block but the last, once */
        INFLATE_STOP_SYMBOL = 1 << 1, /* return as soon as it stands inside a block and between symbols */
};

/** The caller's bytes; in and out are moved on. */
struct inflate_io {
        const uint8_t *in, *in_end;
        uint8_t *out, *out_end;
        const uint8_t *base; /* where the history begins: min(32 KiB, all there is) bytes before out, or more */
};

enum inflate_where { INFLATE_AT_BLOCK, INFLATE_AT_SYMBOL, INFLATE_AT_STORED };

/** Where an inflater stands. */
struct inflate_place {
        enum inflate_where where;
        uint8_t bits; /* 0..7: bits already used of the byte that holds the next bit; if not 0 that byte is the last one
                                 taken from the input, else the next one */
        bool final;   /* AT_SYMBOL, AT_STORED: the block is the last one */
        uint16_t stored_left;               /* AT_STORED: bytes of the block still to come */
        uint16_t header_bits;               /* AT_SYMBOL: length of header */
        uint8_t header[INFLATE_HEADER_MAX]; /* AT_SYMBOL: the block's header from its BFINAL bit, first bit in bit 0 */
};

/** The bytes before a place that are referred to after it. */
struct inflate_used {
        uint32_t len;                  /* how many */
        uint8_t bytes[INFLATE_WINDOW]; /* in the order of their first use */
        uint16_t where
                [INFLATE_WINDOW]; /* collected: and where each stood; INFLATE_WINDOW - 1 is just before the place */
        uint8_t known[INFLATE_WINDOW]; /* by where it stood: 1 when it has been used */
};

struct inflate;

struct inflate_engine {
        const char *name;
        struct inflate *(*new)(void);
        void (*free)(struct inflate *z);
        void (*reset)(struct inflate *z);
        int (*resume)(struct inflate *z, const struct inflate_place *place, const uint8_t *window, size_t window_len);
        enum inflate_status (*run)(struct inflate *z, struct inflate_io *io, unsigned flags);
        void (*place)(const struct inflate *z, struct inflate_place *ret_place);
        bool (*collect)(struct inflate *z, struct inflate_used *used);
        void (*supply)(struct inflate *z, struct inflate_used *used);
};

extern const struct inflate_engine inflate_own, inflate_zlib;

/** The one that this build reads layers with. */
#ifdef IMAGEFS_ZLIB_INFLATE
#define INFLATE_ENGINE (&inflate_zlib)
enum { INFLATE_STOPS_INSIDE = false }; /* of a block, when that is too long */
#else
#define INFLATE_ENGINE (&inflate_own)
enum { INFLATE_STOPS_INSIDE = true };
#endif

/** What every engine's state begins with. */
struct inflate {
        const struct inflate_engine *engine;
};

/** Stands at the beginning of a stream. NULL: out of memory. */
static inline struct inflate *inflate_new(const struct inflate_engine *engine)
{
        return engine->new ();
}

static inline void inflate_free(struct inflate *z)
{
        if (z)
                z->engine->free(z);
}
DEFINE_CLEANUP(struct inflate, inflate_free);

/** Back to the beginning of a stream. Ends collecting. */
static inline void inflate_reset(struct inflate *z)
{
        z->engine->reset(z);
}

/** Stands at `place` from now on; the next input must begin with the byte that holds the next bit. window must also stand in
 *  front of io.out (io.base) when run. Ends collecting. -EBADMSG: no such place can be. */
static inline int inflate_resume(
        struct inflate *z, const struct inflate_place *place, const uint8_t *window, size_t window_len)
{
        return z->engine->resume(z, place, window, window_len);
}

/** Decodes until one of the reasons of enum inflate_status; flags: enum inflate_flags. Bytes behind io->out, up to
 *  io->out_end, may be overwritten with anything. After INFLATE_BAD and INFLATE_END it says so for ever. */
static inline enum inflate_status inflate_run(struct inflate *z, struct inflate_io *io, unsigned flags)
{
        return z->engine->run(z, io, flags);
}

/** Where it stands. Only after INFLATE_BLOCK and INFLATE_SYMBOL. */
static inline void inflate_place(const struct inflate *z, struct inflate_place *ret_place)
{
        z->engine->place(z, ret_place);
}

/**
 * From here on (only after INFLATE_BLOCK and INFLATE_SYMBOL) collects what is used of what came before, until 32 KiB more came out,
 * the next inflate_collect(), reset or resume. used (borrowed until then) is made empty. NULL: ends collecting. false: this engine
 * can't; what is used must be thought to be everything.
 */
static inline bool inflate_collect(struct inflate *z, struct inflate_used *used)
{
        return z->engine->collect(z, used);
}

/**
 * Right after inflate_resume(): the history in front of io.out is not there; what is used of it is put there (io.base is
 * written to!) byte by byte out of used->bytes, used->len. known is made empty; used is borrowed for the next 32 KiB of output. The
 * history's INFLATE_WINDOW bytes must be zero. inflate_zlib wants all input there is in the first inflate_run() after this.
 */
static inline void inflate_supply(struct inflate *z, struct inflate_used *used)
{
        z->engine->supply(z, used);
}
