#pragma once
/**
 * A growing run of bytes with a ceiling that it is born with, so that nothing from outside can grow it without bound.
 * Text and binary alike; a NUL follows the last byte always (not counted in len), so buf.data is also a C string.
 *
 * The first failure sticks (out of memory: -ENOMEM, past the ceiling: -EFBIG): appends after it do nothing, and one
 * check of buf_error() at the end is enough. One thread at a time.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
        char *data;  /* NULL until something was appended */
        size_t len;  /* bytes in use */
        size_t room; /* bytes allocated */
        size_t max;  /* ceiling for len */
        int error;   /* 0, or the first failure */
};

/** Allocates nothing. */
void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b);

/** For cleanup(): `cleanup(buf_donep) struct buf b = {.max = CEILING};` */
static inline void buf_donep(struct buf *b)
{
        buf_done(b);
}

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** Room for len more bytes, counted in at once and zeroed; NULL after a failure. The pointer holds until the next append. */
void *buf_extend(struct buf *b, size_t len);

/** Forgets the content and the failure, keeps the memory. */
void buf_clear(struct buf *b);

static inline int buf_error(const struct buf *b)
{
        return b->error;
}

/** The bytes as a C string, "" when empty; borrowed. */
const char *buf_str(const struct buf *b);

/** Moves the memory out (free() it); NULL after a failure, "" when nothing was appended. The buf is empty afterwards. */
char *buf_take(struct buf *b, size_t *ret_len);
