/* The tar reader: dialects, numbers, names, endings. Each archive is made in memory and read in every way (tar_list.h). */
#include "layer/tar.h"

#include <errno.h>

#include "base/buf.h"
#include "check.h"
#include "unit/layer/tar_build.h"
#include "unit/layer/tar_list.h"

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
        tar_build_file(&b, (struct tar_build){.name = "n", .prefix = "000000000000/usr", .format = TAR_BUILD_GNU});
        check_list(&b, "reg \"000000000000/usr/n\" 644 0:0 t=0.000000000 0@512\n"); /* one of the two is no time */
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

        tar_build_file(&b, (struct tar_build){.name = "\xe4"}); /* the checksum's own field is not part of it */
        snprintf(b.data + 148, 8, "%06o", (unsigned)strtoul(b.data + 148, NULL, 8) - 256);
        b.data[155] = '\xff';
        check_list(&b, "reg \"\\xe4\" 644 0:0 t=0.000000000 0@512\n");

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

        tar_build_file(&b, f); /* a part of the second zero block */
        buf_extend(&b, 512 + 511);
        check_refused(&b, -EBADMSG, "tar: the stream ends inside its second zero block, at byte 2047");

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

TEST(messages_cut_long_names)
{
        ARCHIVE(b);
        char name[1000];
        memset(name, 'n', sizeof name);
        name[10] = '\\';
        name[sizeof name - 1] = '\0';
        tar_build_long(&b, 'L', name);
        add_with_field(&b, 108, "x", 1);
        check_refused(&b, -EBADMSG, "tar: entry at byte 1536 (nnnnnnnnnn\\x5cnnn");
        tar_build_long(&b, 'L', name);
        add_with_field(&b, 108, "x", 1);
        check_refused(&b, -EBADMSG, "nnn...): malformed owner");
        tar_build_file(&b, (struct tar_build){.name = ""});
        memset(b.data + 148, 'x', 8);
        check_refused(&b, -EBADMSG, "tar: entry at byte 0: bad checksum");
        tar_reader_free(NULL);
}

TEST(skippable)
{
        ARCHIVE(b);
        struct buf text;
        buf_init(&text, 1 << 20);
        tar_build_header(&b, (struct tar_build){.name = "huge", .size = (uint64_t)1 << 40});
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
        tar_build_header(&b, (struct tar_build){.name = "huge", .size = ((uint64_t)1 << 40) + 1});
        tar_build_header(&b, (struct tar_build){.name = "next"});
        tar_build_end(&b);
        cleanup(tar_reader_freep) struct tar_reader *u = tar_reader_new(list_entry, &text);
        CHECK_INT(tar_push(u, b.data, 512, NULL), 0);
        tar_skip(u, tar_skippable(u));
        CHECK_INT(tar_push(u, b.data + 512, b.len - 512, NULL), 0);
        CHECK(tar_skippable(u) == UINT64_MAX);
        tar_skip(u, 5000);
        CHECK_INT(tar_finish(u, NULL), 0);
        CHECK_STR(buf_str(&text), "reg \"huge\" 644 0:0 t=0.000000000 1099511627777@512\n"
                                  "reg \"next\" 644 0:0 t=0.000000000 0@1099511629312\n");
        buf_done(&text);
}
