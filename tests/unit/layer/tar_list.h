#pragma once
/**
 * For tests of the tar reader: an archive read in every way (whole, in pieces, data skipped), which must always give the
 * same, as text with a line for each entry. One thread at a time.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "check.h"
#include "layer/tar.h"

/* ---- one line of text an entry */

static inline void list_bytes(struct buf *b, const char *p, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)p[i];
                if (c >= ' ' && c <= '~')
                        buf_addc(b, (char)c);
                else
                        buf_addf(b, "\\x%02x", c);
        }
}

static inline int list_entry(void *ctx, const struct tar_entry *e)
{
        static const char *const types[] = {"reg", "dir", "lnk", "hard", "chr", "blk", "fifo"};
        struct buf *b = ctx;
        CHECK(e->path[e->path_len] == '\0');
        CHECK(!e->link || e->link[e->link_len] == '\0');
        buf_addf(b, "%s \"", types[e->type]);
        list_bytes(b, e->path, e->path_len);
        buf_addf(b, "\" %o %u:%u t=%lld.%09u", e->mode, e->uid, e->gid, (long long)e->mtime_s, e->mtime_ns);
        if (e->type == TAR_REG)
                buf_addf(b, " %llu@%llu", (unsigned long long)e->size, (unsigned long long)e->uoff);
        if (e->link) {
                buf_adds(b, " -> ");
                list_bytes(b, e->link, e->link_len);
        }
        if (e->type == TAR_CHR || e->type == TAR_BLK)
                buf_addf(b, " dev %u,%u", e->rdev_major, e->rdev_minor);
        for (size_t i = 0; i < e->xattr_count; i++) {
                buf_addf(b, " %s=", e->xattrs[i].name);
                list_bytes(b, e->xattrs[i].value, e->xattrs[i].value_len);
        }
        if (e->sparse)
                buf_adds(b, " sparse");
        for (size_t i = 0; i < e->extent_count; i++)
                buf_addf(b, " %llu+%llu@%llu", (unsigned long long)e->extents[i].file_off,
                        (unsigned long long)e->extents[i].len, (unsigned long long)e->extents[i].uoff);
        buf_addc(b, '\n');
        return 0;
}

/* ---- reading in every way */

struct listing {
        int code;
        struct error err;
        struct buf text;
        struct tar_notes notes;
};

enum { SKIPPING = 0 };

static inline void read_pieces(const void *tar, size_t len, size_t piece, struct listing *l)
{
        const uint8_t *p = tar;
        memset(l, 0, sizeof *l);
        buf_init(&l->text, (size_t)1 << 30);
        struct tar_reader *t = tar_reader_new(list_entry, &l->text);
        CHECK(t);
        while (len > 0 && l->code == 0) {
                uint64_t skippable = tar_skippable(t);
                size_t n = MIN(len, piece == SKIPPING ? 512 : piece);
                if (piece == SKIPPING && skippable > 0 && skippable != UINT64_MAX) {
                        n = (size_t)MIN(len, skippable);
                        tar_skip(t, n);
                } else {
                        /* a copy of the exact size, so that a sanitizer sees a read past its end */
                        uint8_t *copy = malloc(n);
                        CHECK(copy);
                        memcpy(copy, p, n);
                        l->code = tar_push(t, copy, n, &l->err);
                        free(copy);
                }
                p += n;
                len -= n;
        }
        if (l->code == 0)
                l->code = tar_finish(t, &l->err);
        l->notes = *tar_notes(t);
        tar_reader_free(t);
}

static inline void read_all_ways(const void *tar, size_t len, struct listing *l)
{
        static const size_t pieces[] = {1, 7, 511, 512, 513, 4096, SKIPPING};
        read_pieces(tar, len, len ? len : 1, l);
        for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
                struct listing other;
                if (len > 1 << 20 && pieces[i] < 511 && pieces[i] != SKIPPING)
                        continue;
                read_pieces(tar, len, pieces[i], &other);
                CHECK_INT(other.code, l->code);
                CHECK_STR(other.err.msg, l->err.msg);
                CHECK_STR(buf_str(&other.text), buf_str(&l->text));
                CHECK(memcmp(&other.notes, &l->notes, sizeof l->notes) == 0);
                buf_done(&other.text);
        }
}

/* The archive must list as `want`; the notes are returned. Empties the archive. */
static inline struct tar_notes check_list(struct buf *b, const char *want)
{
        struct listing l;
        read_all_ways(b->data, b->len, &l);
        if (l.code != 0)
                CHECK_FAIL("refused: %s", l.err.msg);
        CHECK_STR(buf_str(&l.text), want);
        buf_done(&l.text);
        buf_clear(b);
        return l.notes;
}

/* The archive must be refused with this code, and `word` be in the message. Empties the archive. */
static inline void check_refused(struct buf *b, int code, const char *word)
{
        struct listing l;
        read_all_ways(b->data, b->len, &l);
        CHECK_INT(l.code, code);
        if (!strstr(l.err.msg, word))
                CHECK_FAIL("\"%s\" does not say \"%s\"", l.err.msg, word);
        buf_done(&l.text);
        buf_clear(b);
}

#define ARCHIVE(b)                                                                                                     \
        cleanup(buf_done) struct buf b;                                                                                \
        tar_build_init(&b)
