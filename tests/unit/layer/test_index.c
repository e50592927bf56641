/* The index: what goes in comes out, the same bytes always; whatever is damaged is refused. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>

#include "base/wire.h"
#include "layer/index_format.h"
#include "layer/window.h"
#include "unit/layer/index_build.h"

static struct index *open_copy(const uint8_t *data, size_t len, int *ret_code)
{
        struct index *ix = NULL;
        uint8_t *copy = malloc(len);
        memcpy(copy, data, len);
        *ret_code = index_open_memory(copy, len, NULL, &ix, NULL);
        return ix;
}

static struct index *open_sample(void)
{
        uint8_t *data;
        size_t len;
        struct index *ix = NULL;
        struct error err;
        sample_index(&data, &len);
        if (index_open_memory(data, len, NULL, &ix, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        return ix;
}

TEST(entries_come_out_as_they_went_in)
{
        cleanup(index_freep) struct index *ix = open_sample();
        struct index_entry e;
        CHECK_INT(index_info(ix)->entries, 7);
        CHECK_INT(index_info(ix)->notes.dropped_xattrs, 3);
        index_entry(ix, 0, &e);
        CHECK_INT(e.name_len, 0);
        index_entry(ix, 1, &e);
        CHECK_STR(e.name, "etc");
        CHECK_INT(e.mtime_s, -5);
        CHECK_INT(e.mtime_ns, 500000000);
        index_entry(ix, 2, &e);
        CHECK_STR(e.dir, "etc");
        CHECK_STR(e.name, "passwd");
        CHECK_INT(e.uoff, 1024);
        CHECK_INT(e.size, 700);
        uint32_t etc = e.dir_id;
        struct index_xattr x;
        CHECK_INT(e.xattr_count, 2);
        index_xattr(ix, e.xattrs, 1, &x);
        CHECK_STR(x.name, "user.note");
        CHECK_INT(x.value_len, 4);
        CHECK_MEM(x.value, "n\0te", 4);
        index_entry(ix, 3, &e);
        CHECK(e.sparse);
        CHECK_INT(e.dir_id, etc);
        CHECK_INT(e.mode, 04755);
        struct tar_extent t;
        index_extent(ix, e.extents, 1, &t);
        CHECK_INT(t.file_off, 9000);
        CHECK_INT(t.uoff, 3100);
        index_entry(ix, 4, &e);
        CHECK_STR(e.link, "../a b");
        index_entry(ix, 5, &e);
        CHECK_STR(e.link, "etc/passwd");
        CHECK_INT(e.dir_len, 0);
        index_entry(ix, 6, &e);
        CHECK_INT(e.rdev_major, 300);
        CHECK_INT(e.rdev_minor, 70000);
}

TEST(spans_come_out_as_they_went_in)
{
        cleanup(index_freep) struct index *ix = open_sample();
        struct index_span s;
        struct decode_point p;
        struct index_windows windows = {0};
        index_span(ix, 1, &s);
        CHECK_INT(s.uoff, 1500);
        CHECK_INT(s.ulen, 2500);
        CHECK_INT(s.chunk.off, 499);
        CHECK_INT(index_point(ix, 1, &windows, &p, NULL), 0);
        CHECK_INT(p.kind, DECODE_BLOCK);
        CHECK_INT(p.coff, 499);
        CHECK_INT(p.bits, 3);
        CHECK(!p.final);
        CHECK_INT(p.header_bits, 0);
        CHECK_INT(p.window_len, 1200);
        for (size_t i = 0; i < p.window_len; i++)
                CHECK_INT(p.window[i], (30000 + i) % 97 ? 0 : (uint8_t)((30000 + i) * 31));
        CHECK_INT(index_point(ix, 2, &windows, &p, NULL), 0);
        CHECK_INT(p.kind, DECODE_INSIDE);
        CHECK_INT(p.header_bits, 61);
        CHECK(p.final);
        CHECK_INT(p.header[0], 0);
        CHECK_INT(p.window_len, 2000);
        for (size_t i = 0; i < p.window_len; i++)
                CHECK_INT(p.window[i], (30768 + i) % 97 ? 0 : (uint8_t)((30768 + i) * 31));
        CHECK_INT(index_point(ix, 0, &windows, &p, NULL), 0);
        CHECK_INT(p.kind, DECODE_MEMBER);
        CHECK_INT(p.window_len, 0);
        CHECK_INT(index_find_span(ix, 0), 0);
        CHECK_INT(index_find_span(ix, 1499), 0);
        CHECK_INT(index_find_span(ix, 1500), 1);
        CHECK_INT(index_find_span(ix, 4999), 2);
}

TEST(same_layer_same_bytes)
{
        uint8_t *a, *b;
        size_t a_len, b_len;
        sample_index(&a, &a_len);
        sample_index(&b, &b_len);
        CHECK_INT(a_len, b_len);
        CHECK_MEM(a, b, a_len);
        free(a);
        free(b);
}

TEST(any_flipped_byte_is_found)
{
        uint8_t *data;
        size_t len;
        sample_index(&data, &len);
        for (size_t i = 0; i < len; i++) {
                int code;
                data[i] ^= 0x40;
                struct index *ix = open_copy(data, len, &code);
                if (ix || (code != -EBADMSG && code != -EOPNOTSUPP))
                        CHECK_FAIL("flipped byte %zu: %d", i, code);
                data[i] ^= 0x40;
        }
        free(data);
}

TEST(any_length_but_the_right_one_is_refused)
{
        uint8_t *data;
        size_t len;
        sample_index(&data, &len);
        for (size_t cut = 0; cut < len; cut++) {
                int code;
                CHECK(!open_copy(data, cut, &code));
                CHECK_INT(code, -EBADMSG);
        }
        free(data);
}

/* breaks one field, mends the checksums, and expects a refusal */
static void check_refused(uint8_t *good, size_t len, size_t at, const void *bytes, size_t bytes_len, int want)
{
        uint8_t *bad = malloc(len);
        memcpy(bad, good, len);
        memcpy(bad + at, bytes, bytes_len);
        for (int i = 0; i < SECTIONS; i++) {
                uint8_t *h = bad + HEADER_SECTIONS + i * HEADER_SECTION_LEN;
                if (range_ok(get_le64(h + 8), get_le64(h + 16), len))
                        put_le32(h + 4, libdeflate_crc32(0, bad + get_le64(h + 8), get_le64(h + 16)));
        }
        put_le32(bad + HEADER_CRC, libdeflate_crc32(0, bad, HEADER_CRC));
        struct index *ix = NULL;
        int code = index_open_memory(bad, len, NULL, &ix, NULL);
        if (code != want)
                CHECK_FAIL("bytes at %zu changed: %d, not %d", at, code, want);
        index_free(ix);
}

TEST(each_broken_field_is_refused)
{
        uint8_t *d;
        size_t len;
        sample_index(&d, &len);
        uint64_t entries = get_le64(d + HEADER_SECTIONS + 8);
        uint64_t attrs = get_le64(d + HEADER_SECTIONS + SECTION_ATTRS * HEADER_SECTION_LEN + 8);
        uint64_t strings = get_le64(d + HEADER_SECTIONS + SECTION_STRINGS * HEADER_SECTION_LEN + 8);
        uint64_t spans = get_le64(d + HEADER_SECTIONS + SECTION_SPANS * HEADER_SECTION_LEN + 8);
        uint64_t windows = get_le64(d + HEADER_SECTIONS + SECTION_WINDOWS * HEADER_SECTION_LEN + 8);
        uint64_t passwd = entries + 2 * ENTRY_LEN, sparse = entries + 3 * ENTRY_LEN;
        uint64_t passwd_attr = attrs + get_le32(d + passwd + ENTRY_ATTR) * ATTR_LEN;
        check_refused(d, len, HEADER_VERSION, "\3\0\0\0", 4, -EOPNOTSUPP);
        check_refused(d, len, HEADER_VERSION, "\1\0\0\0", 4, -EBADMSG);
        check_refused(d, len, HEADER_COMPRESSION, "\3", 1, -EBADMSG);
        check_refused(d, len, HEADER_COMPRESSION, "\0", 1, -EBADMSG);
        check_refused(d, len, HEADER_ENTRIES, "\xff\xff", 2, -EBADMSG);
        check_refused(d, len, HEADER_TAR_SIZE, "\0\1\0", 3, -EBADMSG);
        check_refused(d, len, HEADER_SECTIONS + 16, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, -EBADMSG);
        check_refused(d, len, passwd_attr + ATTR_TYPE, "\7", 1, -EBADMSG);
        check_refused(d, len, passwd_attr + ATTR_MODE, "\xff\xff", 2, -EBADMSG);
        check_refused(d, len, passwd_attr + ATTR_MTIME_NS, "\0\xca\x9a\x3b", 4, -EBADMSG);
        check_refused(d, len, passwd + ENTRY_ATTR, "\x80", 1, -EBADMSG);
        check_refused(d, len, passwd + ENTRY_DIR, "\xff\xff\xff\xff", 4, -EBADMSG);
        check_refused(d, len, passwd + ENTRY_NAME, "\0\0\0\0", 4, -EBADMSG);
        check_refused(d, len, passwd + ENTRY_UOFF, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, -EBADMSG);
        check_refused(d, len, passwd_attr + ATTR_XATTR_COUNT, "\3", 1, -EBADMSG);
        check_refused(d, len, sparse + ENTRY_UOFF, "\3", 1, -EBADMSG);
        check_refused(d, len, sparse + ENTRY_SIZE, "\0\0", 2, -EBADMSG);
        check_refused(d, len, strings + 3 + 2, "a/b", 3, -EBADMSG); /* "etc" as a name */
        check_refused(d, len, strings + 3 + 2, "..", 2, 0);         /* "..c" is fine */
        check_refused(d, len, strings + 3, "\2\0..\0", 5, -EBADMSG);
        check_refused(d, len, spans + SPAN_UOFF, "\1", 1, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_COFF, "\x80", 1, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_BITS, "\x10", 1, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_KIND, "\0", 1, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_WINDOW_LEN, "\xff\xff", 2, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_GROUP, "\xff\xff\xff", 3, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_GROUP, "\1", 1, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_AT, "\xff\xff", 2, -EBADMSG);
        check_refused(d, len, spans + SPAN_LEN + SPAN_REST, "\1", 1, -EBADMSG);
        check_refused(d, len, spans + 2 * SPAN_LEN + SPAN_REST, "\xff\xff", 2, -EBADMSG);
        check_refused(d, len, spans + 2 * SPAN_LEN + SPAN_REST, "\0\0", 2, -EBADMSG);
        check_refused(d, len, windows + GROUP_PACKED_LEN, "\xff\xff", 2, -EBADMSG);
        check_refused(d, len, windows + GROUP_LEN, "\x10", 2, -EBADMSG);
        check_refused(d, len, windows + GROUP_LEN, "\1\0\1", 3, -EBADMSG);
        check_refused(d, len, spans + 2 * SPAN_LEN + SPAN_CHUNK_LEN, "\x2d\1", 2, -EBADMSG);
        free(d);
}

TEST(an_index_of_another_layer_is_refused)
{
        uint8_t *data;
        size_t len;
        struct index *ix = NULL;
        struct digest other = {.alg = DIGEST_SHA256, .bytes = {1}};
        sample_index(&data, &len);
        CHECK_INT(index_open_memory(data, len, &other, &ix, NULL), -EBADMSG);
}

TEST(a_mapped_file_reads_like_memory)
{
        uint8_t *data;
        size_t len;
        char name[] = "/tmp/index-XXXXXX";
        int fd = mkstemp(name);
        struct index *ix = NULL;
        sample_index(&data, &len);
        CHECK_INT(write(fd, data, len), len);
        CHECK_INT(index_open_fd(fd, NULL, &ix, NULL), 0);
        CHECK_INT(index_info(ix)->entries, 7);
        index_free(ix);
        unlink(name);
        free(data);
}

/* the bytes of a window that the test below gives to span i */
static void many_window(uint32_t i, uint8_t *window, size_t len)
{
        for (size_t k = 0; k < len; k++)
                window[k] = (uint8_t)((k % 251 * (i + 1)) >> (k / 1000 % 3));
}

TEST(windows_of_many_groups)
{
        enum { MANY = 60, EACH = 1000 };
        uint8_t hash[SHA256_BYTES] = {1}, *window = malloc(DECODE_WINDOW), *want = malloc(DECODE_WINDOW);
        struct index_builder *b = index_builder_new();
        for (uint32_t i = 0; i < MANY; i++) {
                /* lengths from 0 to all of it, some inside a block */
                struct decode_point p = {.kind = i == 0       ? DECODE_MEMBER
                                                 : i % 7 == 0 ? DECODE_INSIDE
                                                              : DECODE_BLOCK,
                        .coff = (uint64_t)i * EACH,
                        .window = window,
                        .window_len = i % 7 == 6 ? DECODE_WINDOW : i * 500 % 20000};
                many_window(i, window, p.window_len);
                if (p.kind == DECODE_INSIDE) {
                        p.header = (const uint8_t *)"a block's header";
                        p.header_bits = 100;
                }
                CHECK_INT(index_builder_span(b, (uint64_t)i << 16, &p, NULL), 0);
                CHECK_INT(index_builder_chunk(b, (uint64_t)i * EACH, EACH, hash, NULL), 0);
        }
        struct index_info info = {
                .blob_size = MANY * EACH, .tar_size = (uint64_t)MANY << 16, .compression = COMPRESSION_GZIP};
        info.digest.alg = info.diff_id.alg = DIGEST_SHA256;
        uint8_t *data;
        size_t len;
        CHECK_INT(index_builder_finish(b, &info, &data, &len, NULL), 0);
        index_builder_free(b);
        uint64_t windows_at = get_le64(data + HEADER_SECTIONS + SECTION_WINDOWS * HEADER_SECTION_LEN + 8);
        uint8_t *bad = malloc(len);
        memcpy(bad, data, len);

        struct index *ix = NULL;
        CHECK_INT(index_open_memory(data, len, NULL, &ix, NULL), 0);
        struct index_windows *windows = calloc(1, sizeof *windows);
        for (uint32_t k = 0; k < 4 * MANY; k++) {
                uint32_t i = k * 37 % MANY;
                struct decode_point p;
                CHECK_INT(index_point(ix, i, windows, &p, NULL), 0);
                CHECK_INT(p.coff, i * EACH);
                many_window(i, want, p.window_len);
                CHECK_INT(p.window_len, i % 7 == 6 ? DECODE_WINDOW : i * 500 % 20000);
                if (p.window_len)
                        CHECK_MEM(p.window, want, p.window_len);
                CHECK_INT(p.header_bits, i && i % 7 == 0 ? 100 : 0);
                if (p.header_bits)
                        CHECK_MEM(p.header, "a block's heade", 13);
        }
        index_free(ix);

        /* a packed group that is not what it says: the span's error, and no other's */
        memset(bad + windows_at + GROUP_HEAD, 0xff, 8);
        uint8_t *section = bad + HEADER_SECTIONS + SECTION_WINDOWS * HEADER_SECTION_LEN;
        put_le32(section + 4, libdeflate_crc32(0, bad + windows_at, get_le64(section + 16)));
        put_le32(bad + HEADER_CRC, libdeflate_crc32(0, bad, HEADER_CRC));
        CHECK_INT(index_open_memory(bad, len, NULL, &ix, NULL), 0);
        struct decode_point p;
        windows->of = NULL;
        CHECK_INT(index_point(ix, 1, windows, &p, NULL), -EBADMSG);
        CHECK_INT(index_point(ix, MANY - 1, windows, &p, NULL), 0);
        CHECK_INT(index_point(ix, 1, windows, &p, NULL), -EBADMSG);
        CHECK_INT(index_point(ix, 0, windows, &p, NULL), 0);
        index_free(ix);
        free(windows);
        free(window);
        free(want);
}

TEST(windows_survive_packing)
{
        struct window_packer *p = window_packer_new();
        uint8_t window[DECODE_WINDOW], back[DECODE_WINDOW];
        for (int density = 0; density <= 8; density++) {
                struct buf out;
                buf_init(&out, 1 << 20);
                srand(1);
                for (size_t i = 0; i < sizeof window; i++)
                        window[i] = rand() % 8 < density ? (uint8_t)rand() : 0;
                for (size_t len = 0; len <= sizeof window; len = len * 3 + 1) {
                        buf_clear(&out);
                        CHECK_INT(window_pack(p, window, len, &out), 0);
                        CHECK_INT(window_unpack((uint8_t *)out.data, out.len, back, len, NULL), 0);
                        CHECK_MEM(back, window, len);
                }
                buf_done(&out);
        }
        window_packer_free(p);
}
