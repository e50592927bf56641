/*
 * Any bytes as a tar stream. The first byte of the input says what is mended before parsing, so that mutations get past
 * the checksums (bit 0: every 512-byte block gets a right one where it is no zero block; bit 1: pax records get right
 * lengths), the second one is the seed for how the stream is cut into pushes.
 *
 * Whatever comes, entries keep the promises of tar.h, and a stream in one piece gives the same as one in many, with its
 * data skipped where the reader allows it.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
                        abort();                                                                                       \
                }                                                                                                      \
        } while (0)

struct digest {
        uint64_t hash; /* of all entries */
        uint64_t entries;
};

static void mix(struct digest *d, const void *bytes, size_t len)
{
        const uint8_t *p = bytes;
        for (size_t i = 0; i < len; i++)
                d->hash = (d->hash ^ p[i]) * 0x100000001b3;
}

static void mix_number(struct digest *d, uint64_t value)
{
        mix(d, &value, sizeof value);
}

static void check_path(const char *path, size_t len)
{
        REQUIRE(path[len] == '\0' && strlen(path) == len && len <= TAR_PATH_MAX);
        for (size_t i = 0; i < len;) {
                size_t part = strcspn(path + i, "/");
                REQUIRE(part > 0 && part <= TAR_NAME_MAX);
                REQUIRE(!(part == 1 && path[i] == '.') && !(part == 2 && memcmp(path + i, "..", 2) == 0));
                i += part;
                REQUIRE(i == len || i + 1 < len);
                i += i < len;
        }
}

static void check_extents(const struct tar_entry *e)
{
        uint64_t end = 0, uoff = e->uoff;
        REQUIRE(e->type == TAR_REG || (e->size == 0 && !e->sparse));
        REQUIRE(e->sparse || (!e->extents && e->extent_count == 0));
        REQUIRE(e->size <= INT64_MAX && e->uoff <= INT64_MAX);
        for (size_t i = 0; i < e->extent_count; i++) {
                const struct tar_extent *x = &e->extents[i];
                REQUIRE(x->len > 0 && x->file_off >= end && x->uoff == uoff);
                REQUIRE(range_ok(x->file_off, x->len, e->size));
                end = x->file_off + x->len;
                uoff += x->len;
        }
}

static int on_entry(void *ctx, const struct tar_entry *e)
{
        struct digest *d = ctx;
        check_path(e->path, e->path_len);
        check_extents(e);
        REQUIRE(e->path_len > 0 || e->type == TAR_DIR);
        REQUIRE(e->mode <= 07777 && e->mtime_ns < 1000000000 && e->uid < UINT32_MAX && e->gid < UINT32_MAX);
        REQUIRE((e->link != NULL) == (e->type == TAR_SYMLINK || e->type == TAR_HARDLINK));
        if (e->link)
                REQUIRE(e->link_len > 0 && e->link_len <= TAR_PATH_MAX && strlen(e->link) == e->link_len);
        if (e->type == TAR_HARDLINK)
                check_path(e->link, e->link_len);
        REQUIRE(e->xattr_count <= TAR_XATTRS_MAX);
        for (size_t i = 0; i < e->xattr_count; i++) {
                const struct tar_xattr *x = &e->xattrs[i];
                REQUIRE(*x->name && strlen(x->name) <= TAR_NAME_MAX && x->value_len <= TAR_XATTR_MAX);
                REQUIRE(strncmp(x->name, "trusted.", 8) != 0);
                for (size_t k = 0; k < i; k++)
                        REQUIRE(strcmp(x->name, e->xattrs[k].name) != 0);
                mix(d, x->name, strlen(x->name));
                mix(d, x->value, x->value_len);
        }
        mix(d, e->path, e->path_len + 1);
        if (e->link)
                mix(d, e->link, e->link_len);
        const uint64_t numbers[] = {e->type, e->mode, e->uid, e->gid, (uint64_t)e->mtime_s, e->mtime_ns, e->rdev_major,
                e->rdev_minor, e->size, e->uoff, e->sparse, e->xattr_count, e->extent_count};
        mix(d, numbers, sizeof numbers);
        for (size_t i = 0; i < e->extent_count; i++) {
                mix_number(d, e->extents[i].file_off);
                mix_number(d, e->extents[i].uoff);
                mix_number(d, e->extents[i].len);
        }
        d->entries++;
        return 0;
}

static size_t next_piece(uint32_t *seed, size_t len)
{
        static const size_t pieces[] = {1, 2, 100, 511, 512, 513, 1024, 4000};
        *seed = *seed * 1664525 + 1013904223;
        size_t piece = pieces[*seed >> 29];
        return piece < len ? piece : len;
}

/* seed 0: all in one piece */
static int read_tar(const uint8_t *data, size_t size, uint32_t seed, struct digest *d, struct error *err)
{
        struct tar_reader *t = tar_reader_new(on_entry, d);
        int r = 0;
        REQUIRE(t);
        d->hash = 0xcbf29ce484222325;
        for (size_t done = 0; done < size && r == 0;) {
                size_t n = seed ? next_piece(&seed, size - done) : size - done;
                uint64_t skippable = tar_skippable(t);
                if (seed && (seed & 1) && skippable > 0 && skippable != UINT64_MAX) {
                        n = (size_t)MIN(skippable, size - done);
                        tar_skip(t, n);
                } else {
                        r = tar_push(t, data + done, n, err);
                }
                done += n;
        }
        if (r == 0)
                r = tar_finish(t, err);
        else
                REQUIRE(tar_finish(t, NULL) == r);
        REQUIRE(r == 0 || r == -EBADMSG || r == -EFBIG);
        mix(d, tar_notes(t), sizeof *tar_notes(t));
        tar_reader_free(t);
        return r;
}

/* A right checksum for every block that has something in it. */
static void mend_checksums(uint8_t *data, size_t size)
{
        for (size_t at = 0; at + TAR_BLOCK <= size; at += TAR_BLOCK) {
                uint8_t *p = data + at;
                unsigned sum = 8 * ' ';
                for (int i = 0; i < TAR_BLOCK; i++)
                        sum += i < 148 || i >= 156 ? p[i] : 0;
                if (sum == 8 * ' ' || memcmp(p + 257, "ustar", 5) != 0) /* text and data stay what they are */
                        continue;
                snprintf((char *)p + 148, 8, "%06o", sum);
                p[155] = ' ';
        }
}

/* Blocks behind an 'x' header whose lines look like records get lengths of the same number of digits that fit. */
static void mend_records(uint8_t *data, size_t size)
{
        for (size_t at = 0; at + 2 * TAR_BLOCK <= size; at += TAR_BLOCK) {
                if (data[at + 156] != 'x' || memcmp(data + at + 257, "ustar", 5) != 0)
                        continue;
                uint8_t *p = data + at + TAR_BLOCK, *end = p + TAR_BLOCK, *line = p;
                for (uint8_t *nl; (nl = memchr(line, '\n', (size_t)(end - line))); line = nl + 1) {
                        char digits[24];
                        uint8_t *space = memchr(line, ' ', (size_t)(nl - line));
                        size_t room = space ? (size_t)(space - line) : 0;
                        int n = snprintf(digits, sizeof digits, "%0*zu", (int)room, (size_t)(nl + 1 - line));
                        if (n > 0 && (size_t)n == room && room < sizeof digits)
                                memcpy(line, digits, room);
                }
                snprintf((char *)data + at + 124, 12, "%011zo", (size_t)(line - p));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size < 2)
                return 0;
        size_t len = size - 2;
        uint8_t *tar = malloc(len ? len : 1);
        REQUIRE(tar);
        memcpy(tar, data + 2, len);
        if (data[0] & 2)
                mend_records(tar, len);
        if (data[0] & 1)
                mend_checksums(tar, len);
        struct digest whole = {0}, pieces = {0};
        struct error err = {0}, err2 = {0};
        int r = read_tar(tar, len, 0, &whole, &err);
        int r2 = read_tar(tar, len, 1 + data[1], &pieces, &err2);
        REQUIRE(r == r2 && strcmp(err.msg, err2.msg) == 0);
        REQUIRE(whole.entries == pieces.entries && whole.hash == pieces.hash);
        free(tar);
        return 0;
}
