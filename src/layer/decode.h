#pragma once
/**
 * From a layer's compressed bytes to its tar stream: gzip members, zstd frames, plain; chosen by the bytes, not by a label.
 *
 * Two uses, two shapes:
 *  - struct decoder: the full pass over a layer, in pieces of any size, which also finds the points where a later reader
 *    can begin (checkpoints), and checks what the formats carry (CRC-32, lengths, header CRC, XXH64). One thread at a time.
 *  - decode_span(): one span, from its point. Keeps no state: any thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

enum compression { COMPRESSION_NONE, COMPRESSION_GZIP, COMPRESSION_ZSTD };

enum {
        DECODE_SNIFF = 512,       /* bytes that decode_sniff() likes to see */
        DECODE_WINDOW = 32 << 10, /* deflate's history */
        DECODE_SPAN = 256 << 10,  /* uncompressed bytes that a span is meant to have (from half to twice as many)... */
        DECODE_SPAN_COMPRESSED = 32 << 10, /* ...if it has this many compressed bytes, */
        DECODE_SPAN_LONG = 2 << 20,        /* or after this many whatever it has */
        DECODE_HEADER_MAX = 320,           /* bytes of a deflate block's header, at most */
        DECODE_SPAN_MAX = 8 << 20,         /* no span of our own decoder is longer, uncompressed */
        DECODE_CHUNK = 4 << 20, /* compressed bytes after which a span ends even if it has no output (equal uoff) */
        DECODE_CHUNK_MAX = 12 << 20, /* no span has more compressed bytes, if decoder_seekable() */
        DECODE_ZSTD_WINDOW_LOG = 27, /* largest zstd window: 128 MiB */
};

enum decode_kind {
        DECODE_COPY,   /* the bytes themselves */
        DECODE_MEMBER, /* a gzip member's header begins at coff: no window, no bits */
        DECODE_BLOCK,  /* a deflate block begins at bit `bits` of the byte at coff; window needed */
        DECODE_INSIDE, /* inside a deflate block: `header` holds a copy of the block's header bits, the next symbol is at bit
                            `bits` of coff; window needed */
        DECODE_STORED, /* inside a stored deflate block: `stored_left` bytes of it are left, next byte at coff */
        DECODE_FRAME,  /* a zstd frame begins at coff */
};

/** Where and how a span begins. Positions are of the blob. */
struct decode_point {
        enum decode_kind kind;
        uint64_t coff;         /* the byte in which it begins */
        uint8_t bits;          /* 0..7: bits of that byte that belong to what was before */
        bool final;            /* INSIDE, STORED: the block is the last of its deflate stream */
        uint16_t stored_left;  /* STORED */
        uint16_t header_bits;  /* INSIDE: bits in header[], from the block's BFINAL bit on */
        const uint8_t *header; /* INSIDE: at most DECODE_HEADER_MAX bytes, first bit in bit 0; borrowed */
        const uint8_t
                *window; /* BLOCK, INSIDE, STORED: just those of the 32 KiB before it that the span refers to, in the
                                     order of their first use: where they stood, decode_span() finds out by itself. (If
                                     window_len is DECODE_WINDOW: all of them, the last is the newest.) Borrowed */
        uint32_t window_len; /* at most DECODE_WINDOW */
};

/** Which compression do the first bytes say? len may be 0 (COMPRESSION_NONE: an empty layer).
 *  -EOPNOTSUPP: bzip2, xz and others known by name; -EBADMSG: neither a compression nor a tar. */
int decode_sniff(const uint8_t *data, size_t len, enum compression *ret, struct error *err);

/** What the full pass tells its owner, in order. 0: go on; negative errno stops the pass. */
struct decode_sink {
        void *ctx;
        /** Output: the next len bytes of the tar stream, borrowed. */
        int (*data)(void *ctx, const uint8_t *data, size_t len);
        /** A span begins at uoff, which is where the data given so far end... or a little before: a point is told once the
         *  bytes behind it that can refer to the window were decoded, because only then is known what they use of it. Points
         *  come in order; several may have the same uoff (a span of no length), the last of these is the one to read from,
         *  and the first is always uoff 0 at coff 0. The pieces of `point` are borrowed. */
        int (*point)(void *ctx, uint64_t uoff, const struct decode_point *point);
};

/** Can a stream of this compression turn out to have no way in (see decoder_seekable())? A constant of the program: zstd, and
 *  gzip when zlib inflates. */
bool decode_may_lack_points(enum compression c);

struct decoder;

/** NULL when out of memory. */
struct decoder *decoder_new(enum compression c, const struct decode_sink *sink);
void decoder_free(struct decoder *d);
DEFINE_CLEANUP(struct decoder, decoder_free);

/** The blob's next bytes. -EBADMSG: not a valid stream; -EOPNOTSUPP: a dictionary; or the sink's error. */
int decoder_push(struct decoder *d, const void *data, size_t len, struct error *err);

/** The blob has ended. -EBADMSG when it ended in the middle. Says the last point, if one is pending. */
int decoder_finish(struct decoder *d, struct error *err);

/** Is there a way in, as far as is known by now? false, for good: a span is longer than DECODE_SPAN_MAX (a large zstd frame),
 *  so that its points are useless; the layer must be unpacked. */
bool decoder_seekable(const struct decoder *d);

/** Bytes after the last member that belong to no member and are not zero: ignored, but worth a word. */
uint64_t decoder_garbage(const struct decoder *d);

/**
 * One span: ulen bytes of output, exactly, from the compressed bytes data[0, len) that begin at point->coff. What comes
 * after the last wanted byte is not looked at. -EBADMSG when the bytes do not give that much. out has room for ulen.
 * scratch: decode_scratch_len() bytes with anything in them, aligned for any type, to save an allocation; or NULL.
 */
int decode_span(const struct decode_point *point, const void *data, size_t len, uint8_t *out, size_t ulen,
        void *scratch, struct error *err);
size_t decode_scratch_len(void);
