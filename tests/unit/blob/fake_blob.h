#pragma once
/**
 * A blob for tests: bytes in memory behind every trouble that a registry can make. It counts what is asked of it; the
 * knobs may be turned at any time, from any thread.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blob/blob.h"

struct fake_blob {
        struct blob blob;
        uint8_t *data;

        /* what happened */
        atomic_uint reads, streams;
        atomic_uint_least64_t bytes; /* that were given */

        /* what shall happen */
        atomic_bool hold;      /* reads and streams wait as long as this is set */
        atomic_uint delay_us;  /* each read and each piece of a stream takes that long */
        atomic_int fail_code;  /* -errno that failing reads give */
        atomic_int fail_nth;   /* the n-th read or stream from now on fails; 0: none */
        atomic_int fail_count; /* so many reads from now on fail; -1: all */
        atomic_llong flip_off; /* the byte at this position is wrong, -1: none */
        atomic_int flip_count; /* for so many reads, -1: always */
        atomic_llong cut_off;  /* streams break off there with fail_code; -1: they do not */
        atomic_bool no_ranges; /* reads fail with -EOPNOTSUPP and make the blob sequential */
};

static inline struct fake_blob *fake_of(struct blob *b)
{
        return (struct fake_blob *)b;
}

static inline void fake_wait(struct fake_blob *f)
{
        unsigned us = atomic_load(&f->delay_us);
        while (atomic_load(&f->hold))
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        if (us)
                nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L}, NULL);
}

/* one less of a counter that is above zero; -1 stays; was there one? */
static inline bool fake_take(atomic_int *count)
{
        int n = atomic_load(count);
        while (n > 0)
                if (atomic_compare_exchange_weak(count, &n, n - 1))
                        return true;
        return n < 0;
}

static inline int fake_trouble(struct fake_blob *f, struct error *err)
{
        int nth = atomic_load(&f->fail_nth);
        bool fails = fake_take(&f->fail_count);
        if (nth > 0 && atomic_fetch_sub(&f->fail_nth, 1) == 1)
                fails = true;
        if (!fails)
                return 0;
        int code = atomic_load(&f->fail_code);
        return error_set(err, code ? code : -ENETUNREACH, "the fake blob fails as it was told to");
}

static inline int fake_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        struct fake_blob *f = fake_of(b);
        atomic_fetch_add(&f->reads, 1);
        fake_wait(f);
        if (atomic_load(&f->no_ranges)) {
                atomic_store(&b->sequential, true);
                return error_set(err, -EOPNOTSUPP, "the fake blob knows no ranges");
        }
        int r = fake_trouble(f, err);
        if (r < 0)
                return r;
        memcpy(data, f->data + off, len);
        atomic_fetch_add(&f->bytes, len);
        long long flip = atomic_load(&f->flip_off);
        if (flip >= 0 && (uint64_t)flip >= off && (uint64_t)flip - off < len && fake_take(&f->flip_count))
                ((uint8_t *)data)[(uint64_t)flip - off] ^= 0x10;
        return 0;
}

static inline int fake_stream(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        struct fake_blob *f = fake_of(b);
        atomic_fetch_add(&f->streams, 1);
        int r = fake_trouble(f, err);
        bool flips = r == 0 && atomic_load(&f->flip_off) >= 0 && fake_take(&f->flip_count);
        size_t step = 1;
        while (r == 0 && off < b->size) {
                uint8_t piece[5000];
                long long cut = atomic_load(&f->cut_off), flip = atomic_load(&f->flip_off);
                if (cut >= 0 && off >= (uint64_t)cut)
                        return error_set(err, -ECONNRESET, "the fake stream was cut");
                fake_wait(f);
                /* pieces of odd sizes, so that no boundary is a lucky one */
                step = (step * 7 + 13) % sizeof piece + 1;
                size_t len = (size_t)(b->size - off < step ? b->size - off : step);
                memcpy(piece, f->data + off, len);
                if (flips && (uint64_t)flip >= off && (uint64_t)flip - off < len)
                        piece[(uint64_t)flip - off] ^= 0x10;
                r = sink(ctx, piece, len);
                off += len;
                atomic_fetch_add(&f->bytes, len);
        }
        return r;
}

static inline void fake_free(struct blob *b)
{
        free(fake_of(b)->data);
        free(b);
}

/** A copy of the bytes, without trouble. Ends the program when out of memory. */
static inline struct fake_blob *fake_blob_new(const void *data, size_t len)
{
        static const struct blob_ops ops = {fake_read, fake_stream, fake_free};
        struct fake_blob *f = calloc(1, sizeof *f);
        if (!f || !(f->data = malloc(len ? len : 1)))
                abort();
        blob_init(&f->blob, &ops, len);
        if (len)
                memcpy(f->data, data, len);
        atomic_store(&f->flip_off, -1);
        atomic_store(&f->cut_off, -1);
        return f;
}

/** Bytes that look like nothing, the same for the same seed. */
static inline void fake_bytes(uint8_t *data, size_t len, uint64_t seed)
{
        for (size_t i = 0; i < len; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                data[i] = (uint8_t)(seed >> 56);
        }
}
