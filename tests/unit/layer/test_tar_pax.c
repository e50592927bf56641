/* The tar reader: pax headers, GNU long names, extended attributes. Each archive is read in every way (tar_list.h). */
#include "layer/tar.h"

#include <errno.h>

#include "base/buf.h"
#include "check.h"
#include "unit/layer/tar_build.h"
#include "unit/layer/tar_list.h"

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
        PAX(&b, "size", "5"); /* no remedy for a header that is wrong itself */
        size_t at = tar_build_file(&b, (struct tar_build){.name = "x", .data = "12345"});
        memset(b.data + at + 124, 0xff, 12);
        tar_build_seal(b.data + at);
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
                {"12 a\0th=abc\n", 12},
                {"12 uname=\0a\n", 12},
                {"5     a=\n", 9},
                {"8 path=x\n", 9},
                {" 6 a=b\n", 7},
                {"000000000000005 a=b\n", 20},
                {"9 path=xx7 ab=c\n", 16},
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
        tar_build_header(&b, (struct tar_build){.name = "x", .type = 'x', .size = INT64_MAX});
        check_refused(&b, -EBADMSG, "beyond any stream's end");
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
        tar_build_text_record(&r, "SCHILY.xattr.trusted.overlay.opaque", "y");
        tar_build_text_record(&r, "SCHILY.xattr.user.twice", "first");
        tar_build_text_record(&r, "SCHILY.xattr.user.overlay.opaque", "y");
        tar_build_text_record(&r, "SCHILY.xattr.security.selinux", "label");
        tar_build_text_record(&r, "SCHILY.xattr.system.posix_acl_access", "acl");
        tar_build_text_record(&r, "SCHILY.xattr.user.twice", "second");
        tar_build_text_record(&r, "SCHILY.xattr.", "no name");
        tar_build_text_record(&r, "SCHILY.xattr.user.empty", "");
        tar_build_text_record(&r, "LIBARCHIVE.xattr.user.ignored", "eA==");
        tar_build_text_record(&r, "SCHILY.acl.access", "ignored");
        tar_build_text_record(&r, "RHT.security.selinux", "ignored");
        tar_build_meta(&b, 'x', r.data, r.len);
        tar_build_header(&b, (struct tar_build){.name = "f"});
        tar_build_header(&b, (struct tar_build){.name = "g"});
        tar_build_meta(&b, 'x', r.data, r.len);
        tar_build_header(&b, (struct tar_build){.name = "s", .type = '2', .link = "l"});
        tar_build_meta(&b, 'x', r.data, r.len);
        tar_build_header(&b, (struct tar_build){.name = "p", .type = '6'});
        buf_done(&r);
        struct tar_notes n =
                check_list(&b, "reg \"f\" 644 0:0 t=0.000000000 0@1536 user.any=\\x00=\\x0a\\xff"
                               " security.capability=\\x01\\x00\\x00\\x02 user.twice=second"
                               " user.overlay.opaque=y system.posix_acl_access=acl user.empty=\n"
                               "reg \"g\" 644 0:0 t=0.000000000 0@2048\n"
                               "lnk \"s\" 644 0:0 t=0.000000000 -> l security.capability=\\x01\\x00\\x00\\x02\n"
                               "fifo \"p\" 644 0:0 t=0.000000000 security.capability=\\x01\\x00\\x00\\x02"
                               " system.posix_acl_access=acl\n");
        CHECK_INT(n.dropped_xattrs, 3 + (3 + 5) + (3 + 4));
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
        tar_build_text_record(&r, key, "name too long");
        for (int i = 0; i < TAR_XATTRS_MAX + 2; i++) {
                snprintf(key, sizeof key, "SCHILY.xattr.user.%03d", i);
                tar_build_text_record(&r, key, "");
        }
        tar_build_meta(&b, 'x', r.data, r.len);
        buf_done(&r);
        tar_build_header(&b, (struct tar_build){.name = "f", .type = '5'});
        struct buf want;
        buf_init(&want, 1 << 24);
        buf_adds(&want, "dir \"f\" 644 0:0 t=0.000000000");
        for (int i = 0; i < TAR_XATTRS_MAX; i++)
                buf_addf(&want, " user.%03d=", i);
        buf_adds(&want, "\n");
        CHECK_INT(check_list(&b, buf_str(&want)).dropped_xattrs, 4);
        buf_done(&want);
}
