/*
 * The tar reader: archives made in memory, one test a behaviour, each pushed whole, in pieces of several sizes and with
 * its data skipped, always with the same result; then the shared corpus, where Go's verdict and listings are known.
 */
#include "layer/tar.h"

#include <errno.h>
#include <sys/stat.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/json.h"
#include "check.h"
#include "unit/layer/tar_build.h"

/* ---- one line of text an entry */

static void add_bytes(struct buf *b, const char *p, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)p[i];
                if (c >= ' ' && c <= '~')
                        buf_addc(b, (char)c);
                else
                        buf_addf(b, "\\x%02x", c);
        }
}

static int list_entry(void *ctx, const struct tar_entry *e)
{
        static const char *const types[] = {"reg", "dir", "lnk", "hard", "chr", "blk", "fifo"};
        struct buf *b = ctx;
        CHECK(e->path[e->path_len] == '\0');
        CHECK(!e->link || e->link[e->link_len] == '\0');
        buf_addf(b, "%s \"", types[e->type]);
        add_bytes(b, e->path, e->path_len);
        buf_addf(b, "\" %o %u:%u t=%lld.%09u", e->mode, e->uid, e->gid, (long long)e->mtime_s, e->mtime_ns);
        if (e->type == TAR_REG)
                buf_addf(b, " %llu@%llu", (unsigned long long)e->size, (unsigned long long)e->uoff);
        if (e->link) {
                buf_adds(b, " -> ");
                add_bytes(b, e->link, e->link_len);
        }
        if (e->type == TAR_CHR || e->type == TAR_BLK)
                buf_addf(b, " dev %u,%u", e->rdev_major, e->rdev_minor);
        for (size_t i = 0; i < e->xattr_count; i++) {
                buf_addf(b, " %s=", e->xattrs[i].name);
                add_bytes(b, e->xattrs[i].value, e->xattrs[i].value_len);
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

static void read_pieces(const void *tar, size_t len, size_t piece, struct listing *l)
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

static void read_all_ways(const void *tar, size_t len, struct listing *l)
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
static struct tar_notes check_list(struct buf *b, const char *want)
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
static void check_refused(struct buf *b, int code, const char *word)
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

/* ---- dialects */

TEST(ustar)
{
        ARCHIVE(b);
        tar_build_file(
                &b, (struct tar_build){.name = "etc/", .type = '5', .mode = 0755, .uid = 1, .gid = 2, .mtime = 7});
        tar_build_file(&b, (struct tar_build){.name = "etc/hello", .data = "hello", .mode = 04755});
        tar_build_file(&b, (struct tar_build){.name = "c", .prefix = "a/b", .data = "x"});
        tar_build_file(&b, (struct tar_build){.name = "s", .type = '2', .link = "../etc//hello", .mode = 0777});
        tar_build_file(&b, (struct tar_build){.name = "h", .type = '1', .link = "./etc//hello"});
        tar_build_file(&b, (struct tar_build){.name = "null", .type = '3', .major = 1, .minor = 3});
        tar_build_file(&b, (struct tar_build){.name = "sda", .type = '4', .major = 8, .minor = 70000});
        tar_build_file(&b, (struct tar_build){.name = "p", .type = '6'});
        tar_build_file(&b, (struct tar_build){.name = "cont", .type = '7', .data = "abc"});
        tar_build_end(&b);
        struct tar_notes n = check_list(&b, "dir \"etc\" 755 1:2 t=7.000000000\n"
                                            "reg \"etc/hello\" 4755 0:0 t=0.000000000 5@1024\n"
                                            "reg \"a/b/c\" 644 0:0 t=0.000000000 1@2048\n"
                                            "lnk \"s\" 777 0:0 t=0.000000000 -> ../etc//hello\n"
                                            "hard \"h\" 644 0:0 t=0.000000000 -> etc/hello\n"
                                            "chr \"null\" 644 0:0 t=0.000000000 dev 1,3\n"
                                            "blk \"sda\" 644 0:0 t=0.000000000 dev 8,70000\n"
                                            "fifo \"p\" 644 0:0 t=0.000000000\n"
                                            "reg \"cont\" 644 0:0 t=0.000000000 3@5632\n");
        CHECK(memcmp(&n, &(struct tar_notes){0}, sizeof n) == 0);
}

TEST(v7)
{
        ARCHIVE(b);
        /* an old NUL type with a slash is a directory, '0' with a slash a file; there is no prefix */
        tar_build_file(
                &b, (struct tar_build){.name = "d/", .type = TAR_BUILD_NUL, .format = TAR_BUILD_V7, .prefix = "no"});
        tar_build_file(&b, (struct tar_build){.name = "f", .type = TAR_BUILD_NUL, .format = TAR_BUILD_V7, .data = "1"});
        tar_build_file(&b, (struct tar_build){.name = "g/", .format = TAR_BUILD_V7, .data = "1"});
        tar_build_end(&b);
        check_list(&b, "dir \"d\" 644 0:0 t=0.000000000\n"
                       "reg \"f\" 644 0:0 t=0.000000000 1@1024\n"
                       "reg \"g\" 644 0:0 t=0.000000000 1@2048\n");
}

TEST(star)
{
        ARCHIVE(b);
        size_t at = tar_build_file(&b, (struct tar_build){.name = "n", .prefix = "p", .format = TAR_BUILD_STAR});
        memcpy(b.data + at + 476, "12345670123 ", 12);
        tar_build_seal(b.data + at);
        tar_build_file(&b, (struct tar_build){.name = "last"});
        check_list(&b, "reg \"p/n\" 644 0:0 t=0.000000000 0@512\nreg \"last\" 644 0:0 t=0.000000000 0@1024\n");

        at = tar_build_file(&b, (struct tar_build){.name = "n", .format = TAR_BUILD_STAR});
        memcpy(b.data + at + 488, "never", 5);
        tar_build_seal(b.data + at);
        check_refused(&b, -EBADMSG, "access or change time");
}

TEST(gnu_times_are_no_prefix)
{
        ARCHIVE(b);
        tar_build_file(&b, (struct tar_build){.name = "n", .prefix = "00000000001", .format = TAR_BUILD_GNU});
        check_list(&b, "reg \"n\" 644 0:0 t=0.000000000 0@512\n");
        /* Go before 1.8 wrote a prefix there */
        tar_build_file(&b, (struct tar_build){.name = "n", .prefix = "usr/share", .format = TAR_BUILD_GNU});
        check_list(&b, "reg \"usr/share/n\" 644 0:0 t=0.000000000 0@512\n");
        tar_build_file(&b, (struct tar_build){.name = "n", .prefix = "usr/\xc3\xa4", .format = TAR_BUILD_GNU});
        check_list(&b, "reg \"n\" 644 0:0 t=0.000000000 0@512\n");
}

TEST(types_left_out)
{
        ARCHIVE(b);
        tar_build_file(&b, (struct tar_build){.name = "label", .type = 'V'});
        tar_build_file(&b, (struct tar_build){.name = "sun", .type = 'X', .data = "12 path=xx\n"});
        tar_build_file(&b, (struct tar_build){.name = "d", .type = 'D', .data = "Yfile"});
        tar_build_pax(&b, 'x', "path", "gone with z");
        tar_build_file(&b, (struct tar_build){.name = "z", .type = 'Z', .size = 513});
        tar_build_file(&b, (struct tar_build){.name = "f"});
        tar_build_end(&b);
        struct tar_notes n = check_list(&b, "reg \"f\" 644 0:0 t=0.000000000 0@5632\n");
        CHECK_INT(n.dropped_types, 2);
}

TEST(header_only_types_have_no_data)
{
        ARCHIVE(b);
        for (char type = '1'; type <= '6'; type++)
                tar_build_header(&b, (struct tar_build){.name = "n", .link = "l", .type = type, .size = 5000});
        tar_build_header(&b, (struct tar_build){.name = "n/", .type = TAR_BUILD_NUL, .size = 5000});
        tar_build_header(&b, (struct tar_build){.name = "f"});
        check_list(&b, "hard \"n\" 644 0:0 t=0.000000000 -> l\n"
                       "lnk \"n\" 644 0:0 t=0.000000000 -> l\n"
                       "chr \"n\" 644 0:0 t=0.000000000 dev 0,0\n"
                       "blk \"n\" 644 0:0 t=0.000000000 dev 0,0\n"
                       "dir \"n\" 644 0:0 t=0.000000000\n"
                       "fifo \"n\" 644 0:0 t=0.000000000\n"
                       "dir \"n\" 644 0:0 t=0.000000000\n"
                       "reg \"f\" 644 0:0 t=0.000000000 0@4096\n");
}

/* ---- numbers */

TEST(base256)
{
        ARCHIVE(b);
        tar_build_file(&b, (struct tar_build){.name = "a", .uid = 4294967294, .gid = 1 << 22, .mtime = -1});
        tar_build_file(&b, (struct tar_build){.name = "b", .mtime = INT64_MIN});
        tar_build_file(&b, (struct tar_build){.name = "c", .mtime = INT64_MAX});
        tar_build_file(&b, (struct tar_build){.name = "d", .size_text = "\x80\0\0\0\0\0\0\0\0\0\0\3", .data = "abc"});
        uint8_t *p = (uint8_t *)b.data + b.len - 1024;
        memcpy(p + 124, "\x80\0\0\0\0\0\0\0\0\0\0\3", 12);
        tar_build_seal(p);
        check_list(&b, "reg \"a\" 644 4294967294:4194304 t=-1.000000000 0@512\n"
                       "reg \"b\" 644 0:0 t=-9223372036854775808.000000000 0@1024\n"
                       "reg \"c\" 644 0:0 t=9223372036854775807.000000000 0@1536\n"
                       "reg \"d\" 644 0:0 t=0.000000000 3@2048\n");
}

/* A header whose field at off holds these bytes. */
static void add_with_field(struct buf *b, size_t off, const void *bytes, size_t len)
{
        size_t at = tar_build_file(b, (struct tar_build){.name = "usr/bin/x"});
        memcpy(b->data + at + off, bytes, len);
        tar_build_seal(b->data + at);
}

TEST(numbers_refused)
{
        ARCHIVE(b);
        static const struct {
                size_t off;
                const char *bytes;
                size_t len;
                const char *word;
        } cases[] = {
                {124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, "negative size"},
                {124, "\x80\0\0\1\0\0\0\0\0\0\0\0", 12, "malformed size"},
                {124, "\x80\0\0\0\x80\0\0\0\0\0\0\0", 12, "malformed size"},
                {124, "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12, "beyond any stream's end"},
                {124, "0000000 0000", 12, "malformed size"},
                {124, "0000000008 ", 12, "malformed size"},
                {100, "rwxr-xr", 8, "malformed mode"},
                {108, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, "owner -1 is no user"},
                {108, "\x80\0\0\0\xff\xff\xff\xff", 8, "owner 4294967295 is no user"},
                {116, "\x80\0\0\1\0\0\0\0", 8, "group 4294967296 is no group"},
                {108, "x", 1, "malformed owner"},
                {116, "-1", 2, "malformed group"},
                {136, "yesterday", 9, "malformed modification time"},
                {136, "\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 12, "malformed modification time"},
                {329, "x", 1, "malformed device number"},
                {337, "9", 1, "malformed device number"},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                tar_build_file(&b, (struct tar_build){.name = "first", .data = "x"});
                add_with_field(&b, cases[i].off, cases[i].bytes, cases[i].len);
                check_refused(&b, -EBADMSG, cases[i].word);
        }
        /* taken: empty, blank, NULs in front, text behind a NUL */
        add_with_field(&b, 108, "\0\0\0\0\0\0\0\0", 8);
        add_with_field(&b, 108, "        ", 8);
        add_with_field(&b, 108, "\0\0  17 \0", 8);
        add_with_field(&b, 108, "17\0junk", 8);
        add_with_field(&b, 108, "00000021", 8);
        check_list(&b, "reg \"usr/bin/x\" 644 0:0 t=0.000000000 0@512\n"
                       "reg \"usr/bin/x\" 644 0:0 t=0.000000000 0@1024\n"
                       "reg \"usr/bin/x\" 644 15:0 t=0.000000000 0@1536\n"
                       "reg \"usr/bin/x\" 644 15:0 t=0.000000000 0@2048\n"
                       "reg \"usr/bin/x\" 644 17:0 t=0.000000000 0@2560\n");
}

TEST(mode_keeps_permission_bits)
{
        ARCHIVE(b);
        tar_build_file(&b, (struct tar_build){.name = "a", .mode = 0107777});
        add_with_field(&b, 100, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
        check_list(&b, "reg \"a\" 7777 0:0 t=0.000000000 0@512\nreg \"usr/bin/x\" 7777 0:0 t=0.000000000 0@1024\n");
}

TEST(checksum)
{
        ARCHIVE(b);
        size_t at = tar_build_file(&b, (struct tar_build){.name = "\xe4\xf6\xfc"});
        unsigned sum = (unsigned)strtoul(b.data + at + 148, NULL, 8);
        snprintf(b.data + at + 148, 8, "%06o", sum - 3 * 256); /* signed */
        CHECK(tar_block_plausible((uint8_t *)b.data));
        check_list(&b, "reg \"\\xe4\\xf6\\xfc\" 644 0:0 t=0.000000000 0@512\n");

        tar_build_file(&b, (struct tar_build){.name = "a"});
        snprintf(b.data + 148, 8, "%7o", (unsigned)strtoul(b.data + 148, NULL, 8)); /* spaces in front, NUL behind */
        check_list(&b, "reg \"a\" 644 0:0 t=0.000000000 0@512\n");

        tar_build_file(&b, (struct tar_build){.name = "etc/", .type = '5'});
        at = tar_build_file(&b, (struct tar_build){.name = "usr/bin/x\x7f"});
        b.data[at + 100]++;
        CHECK(!tar_block_plausible((uint8_t *)b.data + at));
        check_refused(&b, -EBADMSG, "tar: entry at byte 512 (usr/bin/x\\x7f): bad checksum");

        tar_build_file(&b, (struct tar_build){.name = "a"});
        memset(b.data + 148, ' ', 8);
        check_refused(&b, -EBADMSG, "tar: entry at byte 0 (a): bad checksum");
        uint8_t zero[TAR_BLOCK] = {0};
        CHECK(tar_block_plausible(zero));
}

/* ---- names */

TEST(names_are_cleaned)
{
        ARCHIVE(b);
        static const char *const names[] = {
                "./a", "/b", "c//d", "e/./f", "g/../h", "../../i", "/../j/..//k/.", "...", ".l"};
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                tar_build_header(&b, (struct tar_build){.name = names[i], .type = '6'});
        tar_build_header(&b, (struct tar_build){.name = "h", .type = '1', .link = "../x/./../y"});
        tar_build_header(&b, (struct tar_build){.name = "./", .type = '5', .mode = 0700});
        tar_build_header(&b, (struct tar_build){.name = "", .type = '5'});
        tar_build_header(&b, (struct tar_build){.name = "", .type = '0'});
        tar_build_header(&b, (struct tar_build){.name = "a/..", .type = '2', .link = "x"});
        struct tar_notes n = check_list(&b, "fifo \"a\" 644 0:0 t=0.000000000\n"
                                            "fifo \"b\" 644 0:0 t=0.000000000\n"
                                            "fifo \"c/d\" 644 0:0 t=0.000000000\n"
                                            "fifo \"e/f\" 644 0:0 t=0.000000000\n"
                                            "fifo \"h\" 644 0:0 t=0.000000000\n"
                                            "fifo \"i\" 644 0:0 t=0.000000000\n"
                                            "fifo \"k\" 644 0:0 t=0.000000000\n"
                                            "fifo \"...\" 644 0:0 t=0.000000000\n"
                                            "fifo \".l\" 644 0:0 t=0.000000000\n"
                                            "hard \"h\" 644 0:0 t=0.000000000 -> y\n"
                                            "dir \"\" 700 0:0 t=0.000000000\n"
                                            "dir \"\" 644 0:0 t=0.000000000\n");
        CHECK_INT(n.dropped_names, 2);
}

TEST(clean_path)
{
        static const char *const cases[][2] = {
                {"", ""},
                {"/", ""},
                {".", ""},
                {"..", ""},
                {"a", "a"},
                {"a/", "a"},
                {"//a//b//", "a/b"},
                {"a/..", ""},
                {"a/../..", ""},
                {"a/b/../c", "a/c"},
                {"ab/cd/../../ef", "ef"},
                {"a/.../b", "a/.../b"},
                {"../a", "a"},
                {"a/b/c/../../../../d", "d"},
                {".a/..b", ".a/..b"},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char out[64];
                size_t n = tar_clean_path(cases[i][0], strlen(cases[i][0]), out);
                out[n] = '\0';
                CHECK_STR(out, cases[i][1]);
        }
}

TEST(names_up_to_the_kernels_limits)
{
        ARCHIVE(b);
        char name[TAR_PATH_MAX + 2], want[TAR_PATH_MAX + 100];
        memset(name, 'n', 255);
        name[255] = '\0';
        snprintf(want, sizeof want, "reg \"%s\" 644 0:0 t=0.000000000 0@1536\n", name);
        tar_build_long(&b, 'L', name);
        tar_build_header(&b, (struct tar_build){.name = "x"});
        CHECK_INT(check_list(&b, want).dropped_names, 0);
        strcat(name, "n"); /* 256 in one component */
        tar_build_long(&b, 'L', name);
        tar_build_header(&b, (struct tar_build){.name = "x", .type = '5'});
        CHECK_INT(check_list(&b, "").dropped_names, 1);

        for (size_t i = 0; i < TAR_PATH_MAX; i++)
                name[i] = i % 2 ? '/' : 'a';
        name[TAR_PATH_MAX] = '\0';
        snprintf(want, sizeof want, "lnk \"%s\" 644 0:0 t=0.000000000 -> l\n", name);
        tar_build_long(&b, 'L', name);
        tar_build_header(&b, (struct tar_build){.name = "x", .type = '2', .link = "l"});
        check_list(&b, want);
        strcat(name, "a");
        tar_build_long(&b, 'L', name);
        tar_build_file(&b, (struct tar_build){.name = "x", .data = "data are stepped over"});
        tar_build_long(&b, 'K', name);
        tar_build_file(&b, (struct tar_build){.name = "x", .type = '2', .link = "l"});
        tar_build_file(&b, (struct tar_build){.name = "x", .type = '2'});
        tar_build_file(&b, (struct tar_build){.name = "x", .type = '1', .link = "./"});
        tar_build_header(&b, (struct tar_build){.name = "y", .type = '6'});
        struct tar_notes n = check_list(&b, "fifo \"y\" 644 0:0 t=0.000000000\n");
        CHECK_INT(n.dropped_names, 1);
        CHECK_INT(n.dropped_links, 3);
}

TEST(names_are_bytes)
{
        ARCHIVE(b);
        tar_build_pax(&b, 'x', "path", "\xff\n\x01 \xe4");
        tar_build_pax(&b, 'x', "path", "\xff\n\x01 \xe4");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        check_list(&b, "reg \"\\xff\\x0a\\x01 \\xe4\" 644 0:0 t=0.000000000 0@2560\n");
}

/* ---- extension headers */

TEST(gnu_long_names_beat_pax)
{
        ARCHIVE(b);
        tar_build_long(&b, 'L', "long/name");
        tar_build_long(&b, 'K', "long link");
        tar_build_pax(&b, 'x', "path", "pax");
        tar_build_header(&b, (struct tar_build){.name = "x", .type = '2', .link = "l"});
        tar_build_pax(&b, 'x', "linkpath", "pax link");
        tar_build_long(&b, 'L', "first");
        tar_build_long(&b, 'L', "second");
        tar_build_header(&b, (struct tar_build){.name = "x", .type = '2', .link = "l"});
        tar_build_long(&b, 'L', ""); /* empty: as if it were not there */
        tar_build_header(&b, (struct tar_build){.name = "x", .type = '2', .link = "l"});
        tar_build_long(&b, 'L', "d/");
        tar_build_header(&b, (struct tar_build){.name = "d", .type = TAR_BUILD_NUL});
        tar_build_meta(&b, 'L', "cut\0here", 8);
        tar_build_header(&b, (struct tar_build){.name = "x"});
        check_list(&b, "lnk \"long/name\" 644 0:0 t=0.000000000 -> long link\n"
                       "lnk \"second\" 644 0:0 t=0.000000000 -> pax link\n"
                       "lnk \"x\" 644 0:0 t=0.000000000 -> l\n"
                       "dir \"d\" 644 0:0 t=0.000000000\n"
                       "reg \"cut\" 644 0:0 t=0.000000000 0@11776\n");
}

static void add_record(struct buf *records, const char *key, const char *value)
{
        tar_build_record(records, key, value, strlen(value));
}

/* A pax header of "key", "value", ..., NULL. */
static void add_pax(struct buf *b, const char *const *pairs)
{
        struct buf records;
        buf_init(&records, 1 << 24);
        for (; *pairs; pairs += 2)
                add_record(&records, pairs[0], pairs[1]);
        tar_build_meta(b, 'x', records.data, records.len);
        buf_done(&records);
}

#define PAX(b, ...) add_pax(b, (const char *const[]){__VA_ARGS__, NULL})

TEST(pax_values)
{
        ARCHIVE(b);
        PAX(&b, "path", "p/q/", "size", "5", "uid", "4294967294", "gid", "+7", "mtime", "1700000000.123456789987",
                "atime", "1", "ctime", "1.5", "comment", "\xff", "uname", "u", "SCHILY.dev", "x", "hdrcharset",
                "BINARY");
        tar_build_header(&b, (struct tar_build){.name = "x", .uid = 5});
        buf_adds(&b, "12345");
        tar_build_pad(&b);
        PAX(&b, "linkpath", "target/../verbatim", "size", "99"); /* a symlink has no data, whatever size says */
        tar_build_header(&b, (struct tar_build){.name = "s", .type = '2', .link = "l"});
        PAX(&b, "path", "one", "path", "two");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        tar_build_header(&b, (struct tar_build){.name = "last"});
        check_list(&b, "reg \"p/q\" 644 4294967294:7 t=1700000000.123456789 5@1536\n"
                       "lnk \"s\" 644 0:0 t=0.000000000 -> target/../verbatim\n"
                       "reg \"two\" 644 0:0 t=0.000000000 0@5120\n"
                       "reg \"last\" 644 0:0 t=0.000000000 0@5632\n");
}

TEST(pax_size_rules_the_data)
{
        ARCHIVE(b);
        PAX(&b, "size", "600");
        tar_build_file(&b, (struct tar_build){.name = "x", .size = 600, .size_text = "00000000001"});
        PAX(&b, "size", "0");
        tar_build_header(&b, (struct tar_build){.name = "y", .size = 600});
        tar_build_header(&b, (struct tar_build){.name = "last"});
        check_list(&b, "reg \"x\" 644 0:0 t=0.000000000 600@1536\n"
                       "reg \"y\" 644 0:0 t=0.000000000 0@4096\n"
                       "reg \"last\" 644 0:0 t=0.000000000 0@4608\n");
        PAX(&b, "size", "-1");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        check_refused(&b, -EBADMSG, "negative size");
        PAX(&b, "size", "9223372036854775808");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        check_refused(&b, -EBADMSG, "malformed pax size");
}

TEST(pax_empty_value_deletes)
{
        ARCHIVE(b);
        PAX(&b, "path", "gone", "path", "", "size", "9", "size", "", "mtime", "x", "mtime", "");
        tar_build_header(&b, (struct tar_build){.name = "x", .mtime = 3});
        check_list(&b, "reg \"x\" 644 0:0 t=3.000000000 0@1536\n");
}

TEST(pax_later_header_replaces_earlier_wholly)
{
        ARCHIVE(b);
        PAX(&b, "path", "one", "uid", "1", "mtime", "junk that nobody uses");
        PAX(&b, "gid", "2");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        check_list(&b, "reg \"x\" 644 0:2 t=0.000000000 0@2560\n");
}

TEST(pax_global_is_ignored)
{
        ARCHIVE(b);
        tar_build_pax(&b, 'g', "path", "global");
        tar_build_pax(&b, 'g', "size", "no number");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        PAX(&b, "path", "pending"); /* Go's reader loses what stands in front of a global header */
        tar_build_pax(&b, 'g', "comment", "0123456789abcdef");
        tar_build_header(&b, (struct tar_build){.name = "y"});
        struct tar_notes n = check_list(&b, "reg \"x\" 644 0:0 t=0.000000000 0@2560\n"
                                            "reg \"y\" 644 0:0 t=0.000000000 0@5120\n");
        CHECK_INT(n.dropped_types, 0);
        tar_build_meta(&b, 'g', "no record\n", 10);
        check_refused(&b, -EBADMSG, "pax record");
}

TEST(pax_trailing_header_is_ignored)
{
        ARCHIVE(b);
        tar_build_header(&b, (struct tar_build){.name = "x"});
        PAX(&b, "mtime", "junk");
        check_list(&b, "reg \"x\" 644 0:0 t=0.000000000 0@512\n");
}

TEST(pax_times)
{
        ARCHIVE(b);
        static const char *const cases[][2] = {
                {"0", "0.000000000"},
                {"-1", "-1.000000000"},
                {"-5.5", "-6.500000000"},
                {"-0.1", "-1.900000000"},
                {"1.", "1.000000000"},
                {"-2.", "-2.000000000"},
                {"-0.0", "0.000000000"},
                {"1.0000000019", "1.000000001"},
                {"-1.0000000001", "-1.000000000"},
                {"99999999999999.5", "99999999999999.500000000"},
                {"9223372036854775807.9", "9223372036854775807.900000000"},
                {"-9223372036854775808", "-9223372036854775808.000000000"},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char want[100];
                PAX(&b, "mtime", cases[i][0]);
                tar_build_header(&b, (struct tar_build){.name = "x"});
                snprintf(want, sizeof want, "reg \"x\" 644 0:0 t=%s 0@1536\n", cases[i][1]);
                CHECK_INT(check_list(&b, want).clamped_times, 0);
        }
        PAX(&b, "mtime", "-9223372036854775808.5");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        struct tar_notes n = check_list(&b, "reg \"x\" 644 0:0 t=-9223372036854775808.000000000 0@1536\n");
        CHECK_INT(n.clamped_times, 1);
        static const char *const bad[] = {".5", "1e9", "1.5x", " 1", "9223372036854775808", "1.-5", "--1"};
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                PAX(&b, i % 2 ? "mtime" : i % 4 ? "atime" : "ctime", bad[i]);
                tar_build_header(&b, (struct tar_build){.name = "x"});
                check_refused(&b, -EBADMSG, "time");
        }
}

TEST(pax_records_refused)
{
        ARCHIVE(b);
        static const struct {
                const char *text;
                size_t len;
        } cases[] = {
                {"x", 1},
                {"10 path=x", 9},
                {"10 path=x\n\n", 11},
                {"11 path=xx", 10},
                {"4 a\n", 4},
                {"5 a=\n6", 6},
                {"6 =ab\n", 6},
                {"7 abcd\n", 7},
                {"-5 a=b\n", 7},
                {"99999999999999999999 a=b\n", 25},
                {"\0\0\0\0", 4},
                {"13 path=a\0bc\n", 13},
                {"13 a\0th=abc\n", 12},
                {"12 uname=\0a\n", 12},
                {"5     a=\n", 9},
                {"8 path=x\n", 9},
                {" 6 a=b\n", 7},
                {"000000000000005 a=b\n", 20},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                tar_build_meta(&b, 'x', cases[i].text, cases[i].len);
                tar_build_header(&b, (struct tar_build){.name = "x"});
                check_refused(&b, -EBADMSG, "pax");
        }
        static const char *const values[] = {"uid", "gid", "size"};
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
                PAX(&b, values[i], "0x1");
                tar_build_header(&b, (struct tar_build){.name = "x"});
                check_refused(&b, -EBADMSG, "malformed pax");
        }
        PAX(&b, "uid", "-1");
        tar_build_header(&b, (struct tar_build){.name = "x"});
        check_refused(&b, -EBADMSG, "is no user");
}

TEST(extension_headers_have_a_ceiling)
{
        ARCHIVE(b);
        cleanup(freep) char *name = calloc(1, TAR_META_MAX + 2);
        memset(name, '/', TAR_META_MAX + 1);
        name[TAR_META_MAX - 1] = 'a';
        tar_build_meta(&b, 'L', name, TAR_META_MAX); /* a long way to say "a" */
        tar_build_header(&b, (struct tar_build){.name = "x", .type = '6'});
        check_list(&b, "fifo \"a\" 644 0:0 t=0.000000000\n");
        tar_build_meta(&b, 'K', name, TAR_META_MAX + 1);
        check_refused(&b, -EFBIG, "extension header of 1048577 bytes");
        tar_build_meta(&b, 'x', name, TAR_META_MAX + 1);
        check_refused(&b, -EFBIG, "the limit is");
}

TEST(xattrs)
{
        ARCHIVE(b);
        struct buf r;
        buf_init(&r, 1 << 24);
        tar_build_record(&r, "SCHILY.xattr.user.any", "\0=\n\xff", 4);
        tar_build_record(&r, "SCHILY.xattr.security.capability", "\1\0\0\2", 4);
        add_record(&r, "SCHILY.xattr.trusted.overlay.opaque", "y");
        add_record(&r, "SCHILY.xattr.user.twice", "first");
        add_record(&r, "SCHILY.xattr.user.overlay.opaque", "y");
        add_record(&r, "SCHILY.xattr.security.selinux", "label");
        add_record(&r, "SCHILY.xattr.system.posix_acl_access", "acl");
        add_record(&r, "SCHILY.xattr.user.twice", "second");
        add_record(&r, "SCHILY.xattr.", "no name");
        add_record(&r, "SCHILY.xattr.user.empty", "");
        add_record(&r, "LIBARCHIVE.xattr.user.ignored", "eA==");
        add_record(&r, "SCHILY.acl.access", "ignored");
        add_record(&r, "RHT.security.selinux", "ignored");
        tar_build_meta(&b, 'x', r.data, r.len);
        tar_build_header(&b, (struct tar_build){.name = "f"});
        tar_build_header(&b, (struct tar_build){.name = "g"});
        tar_build_meta(&b, 'x', r.data, r.len);
        tar_build_header(&b, (struct tar_build){.name = "s", .type = '2', .link = "l"});
        buf_done(&r);
        struct tar_notes n =
                check_list(&b, "reg \"f\" 644 0:0 t=0.000000000 0@1536 user.any=\\x00=\\x0a\\xff"
                               " security.capability=\\x01\\x00\\x00\\x02 user.twice=second"
                               " user.overlay.opaque=y system.posix_acl_access=acl user.empty=\n"
                               "reg \"g\" 644 0:0 t=0.000000000 0@2048\n"
                               "lnk \"s\" 644 0:0 t=0.000000000 -> l security.capability=\\x01\\x00\\x00\\x02"
                               " system.posix_acl_access=acl\n");
        CHECK_INT(n.dropped_xattrs, 3 + 3 + 4);
}

TEST(xattrs_up_to_the_kernels_limits)
{
        ARCHIVE(b);
        cleanup(freep) char *value = malloc(TAR_XATTR_MAX + 1);
        memset(value, 'v', TAR_XATTR_MAX + 1);
        char key[300] = "SCHILY.xattr.user.";
        struct buf r;
        buf_init(&r, 1 << 24);
        tar_build_record(&r, "SCHILY.xattr.user.big", value, TAR_XATTR_MAX + 1);
        memset(key + 18, 'n', 251);
        add_record(&r, key, "name too long");
        for (int i = 0; i < TAR_XATTRS_MAX + 2; i++) {
                snprintf(key, sizeof key, "SCHILY.xattr.user.%03d", i);
                add_record(&r, key, "");
        }
        tar_build_meta(&b, 'x', r.data, r.len);
        buf_done(&r);
        tar_build_header(&b, (struct tar_build){.name = "f", .type = '6'});
        struct buf want;
        buf_init(&want, 1 << 24);
        buf_adds(&want, "fifo \"f\" 644 0:0 t=0.000000000");
        for (int i = 0; i < TAR_XATTRS_MAX; i++)
                buf_addf(&want, " user.%03d=", i);
        buf_adds(&want, "\n");
        CHECK_INT(check_list(&b, buf_str(&want)).dropped_xattrs, 4);
        buf_done(&want);
}

/* ---- sparse files */

static size_t add_old_sparse(struct buf *b, const char *const *map, size_t entries, const char *realsize, size_t stored)
{
        size_t at = tar_build_header(
                b, (struct tar_build){.name = "s", .type = 'S', .size = stored, .format = TAR_BUILD_GNU});
        for (size_t i = 0, done = 0, block = at; i < entries; i++, done++) {
                size_t room = block == at ? 4 : 21;
                if (done == room) {
                        b->data[block + (block == at ? 482 : 504)] = 1;
                        block = b->len;
                        buf_extend(b, 512);
                        done = 0;
                }
                memcpy(b->data + block + (block == at ? 386 : 0) + done * 24, map[2 * i], strlen(map[2 * i]));
                memcpy(b->data + block + (block == at ? 386 : 0) + done * 24 + 12, map[2 * i + 1],
                        strlen(map[2 * i + 1]));
        }
        memcpy(b->data + at + 483, realsize, strlen(realsize));
        tar_build_seal(b->data + at);
        if (stored > 0)
                buf_extend(b, stored);
        tar_build_pad(b);
        return at;
}

TEST(sparse_old_gnu)
{
        ARCHIVE(b);
        const char *map[64];
        char text[64][13];
        add_old_sparse(&b, (const char *const[]){"0", "1", "1000", "2", "2000", "0"}, 3, "2000", 3);
        for (int i = 0; i < 32; i++) { /* two extension blocks */
                snprintf(text[2 * i], 13, "%o", i * 100);
                snprintf(text[2 * i + 1], 13, "%o", i < 30 ? 1 : 0);
                map[2 * i] = text[2 * i];
                map[2 * i + 1] = text[2 * i + 1];
        }
        add_old_sparse(&b, map, 32, "6034", 30);
        tar_build_header(&b, (struct tar_build){.name = "last"});
        struct buf want;
        buf_init(&want, 1 << 20);
        buf_adds(&want, "reg \"s\" 644 0:0 t=0.000000000 1024@512 sparse 0+1@512 512+2@513\n"
                        "reg \"s\" 644 0:0 t=0.000000000 3100@2560 sparse");
        for (int i = 0; i < 30; i++)
                buf_addf(&want, " %d+1@%d", i * 100, 2560 + i);
        buf_adds(&want, "\nreg \"last\" 644 0:0 t=0.000000000 0@3584\n");
        check_list(&b, buf_str(&want));
        buf_done(&want);

        add_old_sparse(&b, (const char *const[]){"10", "5", "7", "1"}, 2, "2000", 6);
        check_refused(&b, -EBADMSG, "malformed sparse map"); /* overlaps */
        add_old_sparse(&b, (const char *const[]){"1770", "21"}, 1, "2000", 17);
        check_refused(&b, -EBADMSG, "malformed sparse map"); /* past the end */
        add_old_sparse(&b, (const char *const[]){"x", "1"}, 1, "2000", 1);
        check_refused(&b, -EBADMSG, "malformed sparse map");
        add_old_sparse(&b, (const char *const[]){"0", "1"}, 1, "junk", 1);
        check_refused(&b, -EBADMSG, "malformed size of a sparse file");
        add_old_sparse(&b, (const char *const[]){"0", "1"}, 1, "2000", 2);
        check_refused(&b, -EBADMSG, "sparse map of 1 bytes, but 2 are stored");
        tar_build_file(&b, (struct tar_build){.name = "s", .type = 'S'});
        check_refused(&b, -EBADMSG, "not GNU's");
        add_old_sparse(&b, map, 32, "6034", 30);
        b.len = 1536;
        check_refused(&b, -EBADMSG, "the stream ends inside this entry, at byte 1536");
}

TEST(sparse_pax_00)
{
        ARCHIVE(b);
        PAX(&b, "GNU.sparse.size", "1000", "GNU.sparse.numblocks", "2", "GNU.sparse.offset", "10",
                "GNU.sparse.numbytes", "2", "GNU.sparse.offset", "500", "GNU.sparse.numbytes", "3");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = "abcde"});
        tar_build_header(&b, (struct tar_build){.name = "last"});
        check_list(&b, "reg \"s\" 644 0:0 t=0.000000000 1000@1536 sparse 10+2@1536 500+3@1538\n"
                       "reg \"last\" 644 0:0 t=0.000000000 0@2560\n");
        PAX(&b, "GNU.sparse.size", "9", "GNU.sparse.numblocks", "1", "GNU.sparse.numbytes", "2", "GNU.sparse.offset",
                "1");
        check_refused(&b, -EBADMSG, "not by turns");
        PAX(&b, "GNU.sparse.size", "9", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "1,1");
        check_refused(&b, -EBADMSG, "comma");
}

TEST(sparse_pax_01)
{
        ARCHIVE(b);
        PAX(&b, "GNU.sparse.name", "real/name", "GNU.sparse.size", "100", "GNU.sparse.numblocks", "3", "GNU.sparse.map",
                "0,2,2,1,100,0", "path", "GNUSparseFile.0/name");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = "abc"});
        PAX(&b, "GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.realsize", "100", "GNU.sparse.numblocks",
                "0");
        tar_build_file(&b, (struct tar_build){.name = "hole"});
        PAX(&b, "GNU.sparse.size", "100", "GNU.sparse.name", "ignored"); /* no map: an ordinary file */
        tar_build_file(&b, (struct tar_build){.name = "plain", .data = "abc"});
        check_list(&b, "reg \"real/name\" 644 0:0 t=0.000000000 100@1536 sparse 0+3@1536\n"
                       "reg \"hole\" 644 0:0 t=0.000000000 100@3584 sparse\n"
                       "reg \"plain\" 644 0:0 t=0.000000000 3@5120\n");
        static const char *const bad[][3] = {
                {"1", "0", "5"},
                {"1", "0,1,2", "5"},
                {"1", "0,1,", "5"},
                {"2", "0,1", "5"},
                {"1", "0,1,2,3", "5"},
                {"x", "0,1", "5"},
                {"-1", "0,1", "5"},
                {"1", "-1,1", "5"},
                {"1", "0,-1", "5"},
                {"1", "0,6", "5"},
                {"2", "0,1,0,1", "5"},
                {"1", "9223372036854775807,1", "9223372036854775807"},
                {"1", "0,1", "-5"},
                {"1", "0,1", "x"},
                {"1", "0,2", "5"},
                {"1", "0, 1", "5"},
                {"", "0,1", "5"},
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                PAX(&b, "GNU.sparse.numblocks", bad[i][0], "GNU.sparse.map", bad[i][1], "GNU.sparse.size", bad[i][2]);
                tar_build_file(&b, (struct tar_build){.name = "s", .data = "a"});
                check_refused(&b, -EBADMSG, "sparse");
        }
        PAX(&b, "GNU.sparse.numblocks", "1", "GNU.sparse.map", "0,0", "GNU.sparse.size", "0");
        tar_build_file(&b, (struct tar_build){.name = "d", .type = '5'});
        check_refused(&b, -EBADMSG, "no file");
        PAX(&b, "GNU.sparse.numblocks", "1048577", "GNU.sparse.map", "0,0", "GNU.sparse.size", "0");
        tar_build_file(&b, (struct tar_build){.name = "s"});
        check_refused(&b, -EFBIG, "more than 1048576 extents");
}

#define PAX_10(b, realsize)                                                                                            \
        PAX(b, "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "n", "GNU.sparse.realsize",        \
                realsize)

TEST(sparse_pax_10)
{
        ARCHIVE(b);
        char data[1536] = "2\n5\n1\n+00000000000000000000000000000009\n2\n";
        PAX_10(&b, "4000");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = 515});
        struct buf text; /* a map of several blocks */
        buf_init(&text, 1 << 20);
        buf_adds(&text, "300\n");
        for (int i = 0; i < 300; i++)
                buf_addf(&text, "%d\n%d\n", i * 1000, i == 0);
        while (text.len % 512)
                buf_addc(&text, '\0');
        size_t map_len = text.len;
        buf_addc(&text, 'x');
        PAX_10(&b, "300000");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = text.data, .size = text.len});
        buf_done(&text);
        PAX_10(&b, "77");
        memset(data, 0, sizeof data);
        strcpy(data, "0\n");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = 512});
        char want[400];
        snprintf(want, sizeof want,
                "reg \"n\" 644 0:0 t=0.000000000 4000@2048 sparse 5+1@2048 9+2@2049\n"
                "reg \"n\" 644 0:0 t=0.000000000 300000@%zu sparse 0+1@%zu\n"
                "reg \"n\" 644 0:0 t=0.000000000 77@%zu sparse\n",
                4096 + map_len, 4096 + map_len, 4096 + map_len + 512 + 2048);
        check_list(&b, want);

        static const struct {
                const char *text;
                size_t size;
                int code;
        } bad[] = {
                {"", 512, -EBADMSG},
                {"\n", 512, -EBADMSG},
                {"1\n0\n", 512, -EBADMSG},
                {"1\n0\n1\n", 512, -EBADMSG},
                {"0\n", 513, -EBADMSG},
                {"-1\n", 512, -EBADMSG},
                {"1\n0\n-1\n", 512, -EBADMSG},
                {"1\n0\nx\n", 512, -EBADMSG},
                {"1\n0-\n1\n", 513, -EBADMSG},
                {"1\n-\n1\n", 513, -EBADMSG},
                {"0\n", 511, -EBADMSG},
                {"0\n", 0, -EBADMSG},
                {"1\n0\n9999\n", 512, -EBADMSG},
                {"1\n99999999999999999999\n1\n", 513, -EBADMSG},
                {"1048577\n", 1024, -EFBIG},
        };
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                memset(data, 0, sizeof data);
                strcpy(data, bad[i].text);
                PAX_10(&b, "77");
                tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = bad[i].size});
                if (bad[i].size == 0)
                        tar_build_end(&b);
                check_refused(&b, bad[i].code, "sparse map");
        }
        PAX_10(&b, "77");
        strcpy(data, "9\n");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = data, .size = 1024});
        b.len -= 512;
        check_refused(&b, -EBADMSG, "");
}

TEST(sparse_unknown_version_is_a_plain_file)
{
        ARCHIVE(b);
        PAX(&b, "GNU.sparse.major", "2", "GNU.sparse.minor", "0", "GNU.sparse.name", "n", "GNU.sparse.realsize", "77");
        tar_build_file(&b, (struct tar_build){.name = "s", .data = "abc"});
        check_list(&b, "reg \"s\" 644 0:0 t=0.000000000 3@1536\n");
}

/* ---- the end */

TEST(endings)
{
        static const char one[] = "reg \"f\" 644 0:0 t=0.000000000 3@512\n";
        ARCHIVE(b);
        struct tar_notes n = check_list(&b, ""); /* no bytes at all: an empty layer */
        CHECK(!n.missing_end && !n.trailing_garbage);

        struct tar_build f = {.name = "f", .data = "abc"};
        tar_build_file(&b, f);
        n = check_list(&b, one);
        CHECK(n.missing_end && !n.trailing_garbage);

        tar_build_file(&b, f); /* one zero block */
        buf_extend(&b, 512);
        n = check_list(&b, one);
        CHECK(!n.missing_end && !n.trailing_garbage);

        tar_build_file(&b, f); /* padding of 10 KiB and then some */
        buf_extend(&b, 10240 + 7);
        n = check_list(&b, one);
        CHECK(!n.missing_end && !n.trailing_garbage);

        tar_build_file(&b, f); /* garbage */
        tar_build_end(&b);
        buf_extend(&b, 700);
        buf_addc(&b, 'x');
        n = check_list(&b, one);
        CHECK(!n.missing_end && n.trailing_garbage);

        tar_build_file(&b, f); /* another archive behind the first */
        tar_build_end(&b);
        tar_build_file(&b, f);
        tar_build_end(&b);
        CHECK(check_list(&b, one).trailing_garbage);

        tar_build_file(&b, f); /* a header behind one zero block */
        buf_extend(&b, 512);
        tar_build_file(&b, f);
        CHECK(check_list(&b, one).trailing_garbage);

        tar_build_file(&b, f); /* the last padding is missing */
        b.len = 515;
        CHECK(check_list(&b, one).missing_end);

        tar_build_file(&b, f); /* data are missing */
        b.len = 514;
        check_refused(&b, -EBADMSG, "tar: entry at byte 0 (f): the stream ends inside this entry, at byte 514");
        tar_build_file(&b, f);
        b.len = 511;
        check_refused(&b, -EBADMSG, "tar: the stream ends inside a header, at byte 511");
        tar_build_pax(&b, 'x', "path", "p");
        b.len = 520;
        check_refused(&b, -EBADMSG, "the stream ends inside this entry");
}

static int refuse(void *ctx, const struct tar_entry *e)
{
        (void)e;
        return --*(int *)ctx < 0 ? -ENOSPC : 0;
}

TEST(callback_can_stop)
{
        ARCHIVE(b);
        struct error err = {0};
        int left = 1;
        for (int i = 0; i < 3; i++)
                tar_build_file(&b, (struct tar_build){.name = "f"});
        cleanup(tar_reader_freep) struct tar_reader *t = tar_reader_new(refuse, &left);
        CHECK_INT(tar_push(t, b.data, b.len, &err), -ENOSPC);
        CHECK_INT(left, -1);
        CHECK_INT(tar_push(t, b.data, b.len, &err), -ENOSPC); /* and it stays so */
        CHECK_INT(tar_finish(t, NULL), -ENOSPC);
        CHECK_INT(left, -1);
}

TEST(skippable)
{
        ARCHIVE(b);
        struct buf text;
        buf_init(&text, 1 << 20);
        tar_build_header(&b, (struct tar_build){.name = "huge", .size = (size_t)1 << 40});
        cleanup(tar_reader_freep) struct tar_reader *t = tar_reader_new(list_entry, &text);
        CHECK_INT(tar_skippable(t), 0);
        CHECK_INT(tar_push(t, b.data, 512, NULL), 0);
        CHECK_INT(tar_skippable(t), (int64_t)1 << 40);
        tar_skip(t, 1);
        CHECK_INT(tar_skippable(t), ((int64_t)1 << 40) - 1);
        CHECK_INT(tar_finish(t, NULL), -EBADMSG);
        buf_done(&text);

        buf_clear(&b);
        buf_init(&text, 1 << 20);
        tar_build_header(&b, (struct tar_build){.name = "huge", .size = ((size_t)1 << 40) + 1});
        tar_build_header(&b, (struct tar_build){.name = "next"});
        tar_build_end(&b);
        cleanup(tar_reader_freep) struct tar_reader *u = tar_reader_new(list_entry, &text);
        CHECK_INT(tar_push(u, b.data, 512, NULL), 0);
        tar_skip(u, tar_skippable(u));
        CHECK_INT(tar_push(u, b.data + 512, b.len - 512, NULL), 0);
        CHECK(tar_skippable(u) == UINT64_MAX);
        CHECK_INT(tar_finish(u, NULL), 0);
        CHECK_STR(buf_str(&text), "reg \"huge\" 644 0:0 t=0.000000000 1099511627777@512\n"
                                  "reg \"next\" 644 0:0 t=0.000000000 0@1099511629312\n");
        buf_done(&text);
}

/* ---- the shared corpus */

static void *read_file(const char *path, size_t *ret_len)
{
        gzFile f = gzopen(path, "rb"); /* also reads what is not compressed */
        if (!f)
                return NULL;
        struct buf b;
        buf_init(&b, (size_t)1 << 30);
        for (;;) {
                char piece[1 << 16];
                int n = gzread(f, piece, sizeof piece);
                if (n <= 0)
                        break;
                buf_add(&b, piece, (size_t)n);
        }
        gzclose(f);
        return buf_take(&b, ret_len);
}

static bool ends_with(const char *s, const char *end)
{
        size_t len = strlen(s), end_len = strlen(end);
        return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/* Calls fn with each line of a file. */
static void each_line(const char *path, void (*fn)(char *line, void *ctx), void *ctx)
{
        FILE *f = fopen(path, "r");
        char *line = NULL;
        size_t room = 0;
        for (ssize_t n; f && (n = getline(&line, &room, f)) > 0;) {
                line[strcspn(line, "\n")] = '\0';
                fn(line, ctx);
        }
        free(line);
        if (f)
                fclose(f);
}

struct corpus {
        const char *shared;
        unsigned archives, refused, entries;
        const char *listing; /* of the archive whose expected tree is read */
        const char *file;
};

/* What stands behind type and path in the last such line of the listing, or NULL. */
static const char *find_entry(const char *listing, const char *type, const char *path)
{
        char start[5000];
        const char *found = NULL;
        int len = snprintf(start, sizeof start, "%s \"%s\" ", type, path);
        for (const char *at = listing; (at = strstr(at, start)); at++)
                if (at == listing || at[-1] == '\n')
                        found = at + len;
        return found;
}

/*
 * The last entry of a path must be what the expected tree has there. Merging is not this test's matter: hard links and
 * names that are not ASCII are passed over.
 */
static void compare_line(char *line, void *ctx)
{
        struct corpus *c = ctx;
        cleanup(json_freep) json_t *j = NULL;
        const char *path, *type, *mode = NULL;
        uint64_t uid, gid, size;
        char want[200];
        bool implicit;
        if (json_parse(line, strlen(line), &j, NULL) < 0) /* a name that is no UTF-8 */
                return;
        CHECK(json_get_string(j, "path", &path, NULL) == 0 && json_get_string(j, "type", &type, NULL) == 0);
        CHECK_INT(json_get_string(j, "mode", &mode, NULL), 0);
        CHECK_INT(json_get_bool(j, "implicit", false, &implicit, NULL), 0);
        CHECK(json_get_u64(j, "uid", 0, &uid, NULL) == 0 && json_get_u64(j, "gid", 0, &gid, NULL) == 0);
        CHECK_INT(json_get_u64(j, "size", 0, &size, NULL), 0);
        if (implicit || json_object_get(j, "hl") || strpbrk(path, "\\\n\t") || strcmp(path, ".") == 0)
                return;
        for (const char *p = path; *p; p++)
                if (*p & 0x80)
                        return;
        const char *at = find_entry(c->listing, type, path);
        if (!at && find_entry(c->listing, "hard", path))
                return;
        if (!at)
                CHECK_FAIL("%s: no %s \"%s\" in\n%s", c->file, type, path, c->listing);
        intmax_t mtime = (intmax_t)json_integer_value(json_object_get(j, "mtime_ns"));
        intmax_t s = mtime / 1000000000 - (mtime % 1000000000 < 0);
        int n = snprintf(want, sizeof want, "%" PRIu64 ":%" PRIu64 " t=%jd.%09jd", uid, gid, s, mtime - s * 1000000000);
        if (strcmp(type, "reg") == 0)
                snprintf(want + n, sizeof want - (size_t)n, " %" PRIu64 "@", size);
        if (mode)
                CHECK_INT(strtol(at, NULL, 8), strtol(mode, NULL, 8));
        const char *rest = strchr(at, ' ') + 1;
        if (strncmp(rest, want, strlen(want)) != 0)
                CHECK_FAIL("%s: %s: \"%.80s\" does not begin \"%s\"", c->file, path, rest, want);
        c->entries++;
}

/* Where Go's verdict is not ours, on purpose: here a header stands behind a single zero block. */
static bool verdict_differs(const char *file)
{
        return ends_with(file, "/test_compat_plexus_archiver_tar.tar");
}

static void check_archive(char *line, void *ctx)
{
        struct corpus *c = ctx;
        char *column[12] = {0};
        for (size_t i = 0; i < ARRAY_LEN(column); i++)
                column[i] = strsep(&line, "\t");
        const char *file = column[1], *go = column[4];
        if (!go || !*go || !(ends_with(file, ".tar") || ends_with(file, ".tar.gz") || ends_with(file, ".tgz")))
                return;
        if (strncmp(file, "tar-", 4) != 0 && strncmp(file, "layer-", 6) != 0)
                return;
        char path[4096];
        size_t len;
        snprintf(path, sizeof path, "%s/corpus/data/%s", c->shared, file);
        cleanup(freep) char *tar = read_file(path, &len);
        CHECK(tar);
        struct listing l;
        read_all_ways(tar, len, &l);
        c->archives++;
        c->refused += l.code != 0;
        if (!verdict_differs(file) && (l.code != 0) != (strcmp(go, "error") == 0))
                CHECK_FAIL("%s: Go says %s, we say %s", file, go, l.code ? l.err.msg : "nothing");
        if (l.code == 0 && strcmp(go, "same") == 0) {
                snprintf(path, sizeof path, "%s/corpus/expect/", c->shared);
                for (const char *p = file; *p; p++)
                        snprintf(path + strlen(path), 3, "%s", *p == '/' ? "__" : (char[]){*p, 0});
                strcat(path, ".jsonl");
                c->listing = buf_str(&l.text);
                c->file = file;
                each_line(path, compare_line, c);
        }
        buf_done(&l.text);
}

TEST(corpus)
{
        struct corpus c = {.shared = getenv("SHARED")};
        char path[4096];
        struct stat st;
        snprintf(path, sizeof path, "%s/corpus/index.tsv", c.shared ? c.shared : "");
        if (!c.shared || stat(path, &st) < 0) {
                printf("skipped: no shared corpus\n");
                return;
        }
        each_line(path, check_archive, &c);
        printf("%u archives, %u of them refused; %u entries as expected\n", c.archives, c.refused, c.entries);
        CHECK(c.archives > 200 && c.refused > 10 && c.entries > 1000);
}
