#pragma once
/**
 * Tar archives made in memory, for tests: well-formed by default, and broken on purpose by changing the bytes afterwards
 * (tar_build_seal() mends a header's checksum). Running out of memory ends the test. One thread at a time.
 *
 *      struct buf b;
 *      tar_build_init(&b);
 *      tar_build_pax(&b, 'x', "path", "a/b");
 *      tar_build_file(&b, (struct tar_build){.name = "x", .data = "hello"});
 *      tar_build_end(&b);
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

enum tar_build_format { TAR_BUILD_USTAR, TAR_BUILD_GNU, TAR_BUILD_V7, TAR_BUILD_STAR };

/** One header and its data; what is left out is 0 or empty, but for mode (0644). */
struct tar_build {
        const char *name;
        const char *prefix; /* ustar, star; for the others written all the same */
        const char *link;
        char type; /* 0: '0'; TAR_BUILD_NUL: the old NUL type */
        unsigned mode;
        uint64_t uid, gid;
        int64_t mtime;
        unsigned major, minor;
        const char *data;      /* NULL: zeros, if size says so */
        uint64_t size;         /* 0: strlen(data) */
        const char *size_text; /* what the size field says instead, at most 12 bytes */
        enum tar_build_format format;
};

enum { TAR_BUILD_NUL = 'n' };

static inline void tar_build_init(struct buf *b)
{
        buf_init(b, (size_t)1 << 30);
}

/** Writes the checksum of the block. */
static inline void tar_build_seal(void *block)
{
        uint8_t *p = block;
        unsigned sum = 0;
        memset(p + 148, ' ', 8);
        for (int i = 0; i < 512; i++)
                sum += p[i];
        snprintf((char *)p + 148, 8, "%06o", sum);
        p[155] = ' ';
}

/** A number as octal if it fits, else as base-256. */
static inline void tar_build_number(void *field, size_t len, int64_t value)
{
        uint8_t *p = field;
        if (value >= 0 && (len > 11 ? value < (int64_t)1 << 33 : value < (int64_t)1 << 3 * (len - 1))) {
                char text[32];
                snprintf(text, sizeof text, "%0*llo", (int)len - 1, (unsigned long long)value);
                memcpy(p, text, len);
                return;
        }
        for (size_t i = len; i-- > 0; value >>= 8)
                p[i] = (uint8_t)value;
        p[0] = (uint8_t)(value < 0 || p[0] & 0x40 ? p[0] | 0xc0 : p[0] | 0x80);
}

/** Zeros up to the next block. */
static inline void tar_build_pad(struct buf *b)
{
        size_t pad = -b->len % 512;
        if (pad > 0 && !buf_extend(b, pad))
                abort();
}

static inline void tar_build_copy(uint8_t *field, size_t len, const char *text)
{
        if (text)
                memcpy(field, text, strnlen(text, len));
}

/** Only the header block; the offset of it in b is returned. */
static inline size_t tar_build_header(struct buf *b, struct tar_build f)
{
        size_t at = b->len;
        uint8_t *p = buf_extend(b, 512);
        if (!p)
                abort();
        tar_build_copy(p, 100, f.name);
        tar_build_number(p + 100, 8, f.mode ? f.mode : 0644);
        tar_build_number(p + 108, 8, (int64_t)f.uid);
        tar_build_number(p + 116, 8, (int64_t)f.gid);
        tar_build_number(p + 124, 12, (int64_t)(f.size || !f.data ? f.size : strlen(f.data)));
        tar_build_copy(p + 124, 12, f.size_text);
        tar_build_number(p + 136, 12, f.mtime);
        p[156] = (uint8_t)(f.type == TAR_BUILD_NUL ? 0 : f.type ? f.type : '0');
        tar_build_copy(p + 157, 100, f.link);
        if (f.format != TAR_BUILD_V7) {
                memcpy(p + 257, f.format == TAR_BUILD_GNU ? "ustar  " : "ustar\00000", 8);
                memcpy(p + 265, "user", 4);
                memcpy(p + 297, "group", 5);
                tar_build_number(p + 329, 8, f.major);
                tar_build_number(p + 337, 8, f.minor);
        }
        tar_build_copy(p + 345, f.format == TAR_BUILD_STAR ? 131 : 155, f.prefix);
        if (f.format == TAR_BUILD_STAR)
                memcpy(p + 508, "tar", 4);
        tar_build_seal(p);
        return at;
}

/** Header, data, padding. The offset of the header in b is returned. */
static inline size_t tar_build_file(struct buf *b, struct tar_build f)
{
        size_t at = tar_build_header(b, f);
        size_t size = f.size || !f.data ? f.size : strlen(f.data);
        if (f.data)
                buf_add(b, f.data, size);
        else if (size > 0 && !buf_extend(b, size))
                abort();
        tar_build_pad(b);
        return at;
}

/** An extension header ('x', 'g', 'L', 'K') with these bytes in it. */
static inline size_t tar_build_meta(struct buf *b, char type, const void *text, size_t len)
{
        bool gnu = type == 'L' || type == 'K';
        size_t at = tar_build_header(b, (struct tar_build){
                                                .name = gnu ? "././@LongLink" : "PaxHeaders/x",
                                                .type = type,
                                                .size = len,
                                                .format = gnu ? TAR_BUILD_GNU : TAR_BUILD_USTAR,
                                        });
        buf_add(b, text, len);
        tar_build_pad(b);
        return at;
}

/** A GNU long name or link, with the NUL that GNU tar writes behind it. */
static inline void tar_build_long(struct buf *b, char type, const char *name)
{
        tar_build_meta(b, type, name, strlen(name) + 1);
}

/** One record "LEN KEY=VALUE\n", to be collected for tar_build_meta(). */
static inline void tar_build_record(struct buf *records, const char *key, const void *value, size_t value_len)
{
        size_t rest = strlen(key) + value_len + 3, len = 0;
        for (size_t digits = 1; len != rest + digits; digits = (size_t)snprintf(NULL, 0, "%zu", len))
                len = rest + digits;
        buf_addf(records, "%zu %s=", len, key);
        buf_add(records, value, value_len);
        buf_addc(records, '\n');
}

/** A pax header ('x' or 'g') with one record. */
static inline void tar_build_pax(struct buf *b, char type, const char *key, const char *value)
{
        struct buf records;
        buf_init(&records, (size_t)1 << 24);
        tar_build_record(&records, key, value, strlen(value));
        tar_build_meta(b, type, records.data, records.len);
        buf_done(&records);
}

/** The two zero blocks. */
static inline void tar_build_end(struct buf *b)
{
        if (!buf_extend(b, 1024))
                abort();
}

/** A record whose value is text. */
static inline void tar_build_text_record(struct buf *records, const char *key, const char *value)
{
        tar_build_record(records, key, value, strlen(value));
}

/** A pax header of "key", "value", ..., NULL. */
static inline void tar_build_pairs(struct buf *b, const char *const *pairs)
{
        struct buf records;
        buf_init(&records, 1 << 24);
        for (; *pairs; pairs += 2)
                tar_build_text_record(&records, pairs[0], pairs[1]);
        tar_build_meta(b, 'x', records.data, records.len);
        buf_done(&records);
}

/** PAX(&b, "path", "a/b", "uid", "1") */
#define PAX(b, ...) tar_build_pairs(b, (const char *const[]){__VA_ARGS__, NULL})
