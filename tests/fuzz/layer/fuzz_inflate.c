/*
 * Our inflater against zlib: the same bytes accepted, the same output, at any cut of the input and of the output's room; and from
 * each place on the way, entered again, with what is not marked in the window overwritten.
 *
 * The first byte of an input chooses how it is cut, and where it is entered again; the rest is raw deflate. Each piece of input ends
 * where a page without access begins, and behind the room for output stand bytes that must not change: so steps outside are
 * seen without a sanitizer too, which makes it three times as fast.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "layer/inflate.h"

enum { OUT_MAX = 96 << 10, PIECE_MAX = 4096, CANARY = 32 };

#define MUST(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        abort();                                                                                       \
        } while (0)

static z_stream judge;
static struct inflate *ours, *again, *other;
static uint8_t want[OUT_MAX], room[INFLATE_WINDOW + OUT_MAX + CANARY];
static uint8_t *guard; /* the page without access; PIECE_MAX bytes are in front of it */

static void setup(void)
{
        MUST(inflateInit2(&judge, -15) == Z_OK);
        ours = inflate_new(&inflate_own);
        again = inflate_new(&inflate_own);
        other = inflate_new(&inflate_zlib);
        MUST(ours && again && other);
        guard = mmap(NULL, 2 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        MUST(guard != MAP_FAILED);
        guard += 1 << 16;
        MUST(mprotect(guard, 1 << 16, PROT_NONE) == 0);
}

/** What zlib makes of it: the status that ours must have too. */
static enum inflate_status judged(const uint8_t *in, size_t len, size_t *ret_used, size_t *ret_out)
{
        inflateReset(&judge);
        judge.next_in = (uint8_t *)in;
        judge.avail_in = (unsigned)len;
        judge.next_out = want;
        judge.avail_out = OUT_MAX;
        int r = inflate(&judge, Z_SYNC_FLUSH);
        *ret_used = len - judge.avail_in;
        *ret_out = OUT_MAX - judge.avail_out;
        if (r == Z_STREAM_END)
                return INFLATE_END;
        if (r == Z_DATA_ERROR)
                return INFLATE_BAD;
        return judge.avail_out ? INFLATE_INPUT : INFLATE_OUTPUT;
}

struct run {
        const uint8_t *in;
        size_t len, used, out;
        uint32_t cut; /* how input and room are cut: pseudo-random from this */
        bool slow;    /* in small pieces */
};

static uint32_t next(struct run *r)
{
        r->cut = r->cut * 1664525 + 1013904223;
        return r->cut >> 16;
}

/** Decodes until it ends, fails, lacks input, or the room of `limit` bytes of output is full. room has the history at
 *  [INFLATE_WINDOW - history, INFLATE_WINDOW). stop: flags for each call. */
static enum inflate_status run(struct inflate *z, struct run *r, size_t history, size_t limit, unsigned stop)
{
        for (;;) {
                size_t piece = r->slow ? 1 + next(r) % 7 : 1 + next(r) % PIECE_MAX;
                size_t space = r->slow ? next(r) % 300 : next(r) * 8 % OUT_MAX;
                piece = MIN(piece, r->len - r->used);
                space = MIN(space, limit - r->out);
                uint8_t *exact = guard - piece, *at = room + INFLATE_WINDOW + r->out, behind[CANARY];
                memcpy(exact, r->in + r->used, piece);
                memcpy(behind, at + space, CANARY);
                struct inflate_io io = {exact, exact + piece, at, at + space, room + INFLATE_WINDOW - history};
                enum inflate_status status = inflate_run(z, &io, stop);
                MUST(io.in <= io.in_end && io.out <= io.out_end);
                r->used += (size_t)(io.in - exact);
                r->out += (size_t)(io.out - at);
                MUST(memcmp(behind, at + space, CANARY) == 0);
                if (status == INFLATE_OUTPUT && r->out < limit)
                        continue;
                if (status == INFLATE_INPUT && r->used < r->len)
                        continue;
                return status;
        }
}

static void resume(struct inflate *z, const struct inflate_place *place, const uint8_t *window, size_t history,
        struct run r, size_t done, size_t total)
{
        size_t limit = MIN(total - done, (size_t)INFLATE_WINDOW);
        memcpy(room + INFLATE_WINDOW - history, window, history);
        MUST(inflate_resume(z, place, room + INFLATE_WINDOW - history, history) == 0);
        r.used -= place->bits ? 1 : 0;
        r.out = 0;
        run(z, &r, history, limit, 0);
        MUST(r.out == limit);
        MUST(memcmp(room + INFLATE_WINDOW, want + done, limit) == 0);
}

/** Stops at some place, marks, and goes on from there with both engines. */
static void places(const uint8_t *in, size_t len, uint32_t cut, size_t total)
{
        static struct inflate_used used_bytes;
        static uint8_t window[INFLATE_WINDOW];
        struct run r = {in, len, 0, 0, cut, cut & 1};
        struct inflate_place place;
        size_t target = total ? next(&r) * 3u % total : 0;
        unsigned stop = INFLATE_STOP_BLOCK | (cut & 2 ? INFLATE_STOP_SYMBOL : 0);

        inflate_reset(ours);
        if (run(ours, &r, 0, target, 0) != INFLATE_OUTPUT)
                return;
        enum inflate_status status = run(ours, &r, 0, OUT_MAX, stop);
        if (status != INFLATE_BLOCK && status != INFLATE_SYMBOL)
                return;
        inflate_place(ours, &place);
        MUST(inflate_collect(ours, &used_bytes));
        struct run at = r;
        run(ours, &r, 0, OUT_MAX, 0);
        MUST(r.out == total);
        size_t history = MIN(at.out, (size_t)INFLATE_WINDOW);
        MUST(history == INFLATE_WINDOW || !memchr(used_bytes.known, 1, INFLATE_WINDOW - history));
        memcpy(window, want + at.out - history, history);
        for (size_t i = 0; i < history; i++)
                window[i] ^= used_bytes.known[INFLATE_WINDOW - history + i] ? 0 : 0xa5;
        resume(again, &place, window, history, at, at.out, r.out);
        resume(other, &place, window, history, at, at.out, r.out);

        /* with nothing but the bytes that are used */
        size_t limit = MIN(r.out - at.out, (size_t)INFLATE_WINDOW);
        memset(room, 0, INFLATE_WINDOW);
        MUST(inflate_resume(again, &place, room, INFLATE_WINDOW) == 0);
        inflate_supply(again, &used_bytes);
        struct run from = at;
        from.used -= place.bits ? 1 : 0;
        from.out = 0;
        run(again, &from, INFLATE_WINDOW, limit, 0);
        MUST(from.out == limit && memcmp(room + INFLATE_WINDOW, want + at.out, limit) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (!ours)
                setup();
        if (size < 1)
                return 0;
        size_t used, out, len = size - 1;
        enum inflate_status verdict = judged(data + 1, len, &used, &out);
        struct run r = {data + 1, len, 0, 0, data[0] * 40503u, data[0] & 1};

        inflate_reset(ours);
        enum inflate_status status = run(ours, &r, 0, OUT_MAX, 0);
        if (verdict == INFLATE_OUTPUT) {
                /* zlib may have seen an error, or the end, behind the last byte that fits; ours does not look */
                MUST(status == INFLATE_OUTPUT || status == INFLATE_END);
        } else {
                MUST(status == verdict || (out == OUT_MAX && status == INFLATE_OUTPUT));
        }
        if (verdict == INFLATE_BAD)
                MUST(r.out == out || out == OUT_MAX);
        else
                MUST(r.out == out);
        if (status == INFLATE_END && verdict == INFLATE_END)
                MUST(r.used == used);
        MUST(memcmp(room + INFLATE_WINDOW, want, r.out) == 0);
        places(data + 1, len, data[0] * 40503u, r.out);
        return 0;
}
