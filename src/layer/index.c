/*
 * How: the file is mapped, checked from end to end once, and then read in place through wire.h. The checks are of two kinds:
 * the checksums say that the bytes are those that were written; the rest makes sure that no reader can be led out of its
 * section, into a name with a slash, or into a span that is not there, whoever wrote the bytes.
 */
#include "layer/index.h"

#include <assert.h>
#include <errno.h>
#include <libdeflate.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/wire.h"
#include "layer/index_format.h"
#include "layer/window.h"

struct part {
        const uint8_t *data;
        uint64_t len;
};

struct index {
        struct index_info info;
        const uint8_t *base;
        size_t len;
        bool mapped; /* munmap, else free */
        struct part section[SECTIONS];
        uint32_t attrs, xattrs, extents; /* how many */
};

static int damaged(struct error *err, const char *what)
{
        return error_set(err, -EBADMSG, "index: damaged: %s", what);
}

/* ---- checks ---- */

/* is there a string at the reference, inside its section? */
static bool string_ok(const struct index *ix, uint32_t ref, const char **ret, uint32_t *ret_len)
{
        const struct part *s = &ix->section[SECTION_STRINGS];
        if (!range_ok(ref, 3, s->len))
                return false;
        uint32_t len = get_le16(s->data + ref);
        if (!range_ok(ref, 3 + (uint64_t)len, s->len) || s->data[ref + 2 + len])
                return false;
        *ret = (const char *)s->data + ref + 2;
        *ret_len = len;
        return true;
}

static bool component_ok(const char *name, size_t len)
{
        return len && len <= TAR_NAME_MAX && !memchr(name, '/', len) && !memchr(name, 0, len) &&
               !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

static bool path_ok(const char *path, size_t len)
{
        if (len > TAR_PATH_MAX)
                return false;
        while (len) {
                const char *slash = memchr(path, '/', len);
                size_t n = slash ? (size_t)(slash - path) : len;
                if (!component_ok(path, n) || n + 1 == len)
                        return false;
                path += n + (slash != NULL);
                len -= n + (slash != NULL);
        }
        return true;
}

static int check_header(struct index *ix, const struct digest *want, struct error *err)
{
        const uint8_t *h = ix->base;
        if (ix->len < HEADER_LEN || memcmp(h, INDEX_MAGIC, 8) != 0)
                return error_set(err, -EBADMSG, "index: not an index file");
        if (get_le32(h + HEADER_VERSION) > INDEX_VERSION)
                return error_set(err, -EOPNOTSUPP,
                        "index: made by a newer version of imagefs (format %u, this one reads %d); update imagefs or "
                        "use another "
                        "--cache-dir",
                        get_le32(h + HEADER_VERSION), INDEX_VERSION);
        if (get_le32(h + HEADER_VERSION) < INDEX_VERSION)
                return error_set(err, -EBADMSG, "index: made by an older version of imagefs");
        if (get_le32(h + HEADER_HEADER_LEN) != HEADER_LEN)
                return damaged(err, "bad length of the header");
        if (libdeflate_crc32(0, h, HEADER_CRC) != get_le32(h + HEADER_CRC))
                return damaged(err, "bad checksum of the header");
        if (get_le64(h + HEADER_FILE_LEN) != ix->len)
                return damaged(err, "bad length");

        struct index_info *info = &ix->info;
        uint32_t alg = get_le32(h + HEADER_ALG), diff_alg = get_le32(h + HEADER_DIFF_ALG);
        uint32_t compression = get_le32(h + HEADER_COMPRESSION), flags = get_le32(h + HEADER_FLAGS);
        if (alg < DIGEST_SHA256 || alg > DIGEST_SHA512 || diff_alg < DIGEST_SHA256 || diff_alg > DIGEST_SHA512 ||
                compression > COMPRESSION_ZSTD || flags > 7)
                return damaged(err, "bad header");
        info->digest.alg = alg;
        info->diff_id.alg = diff_alg;
        memcpy(info->digest.bytes, h + HEADER_DIGEST, digest_size(alg));
        memcpy(info->diff_id.bytes, h + HEADER_DIFF_ID, digest_size(diff_alg));
        if (want && !digest_equal(want, &info->digest))
                return error_set(err, -EBADMSG, "index: it is for another layer");
        info->blob_size = get_le64(h + HEADER_BLOB_SIZE);
        info->tar_size = get_le64(h + HEADER_TAR_SIZE);
        info->compression = compression;
        info->unpacked = flags & FLAG_UNPACKED;
        info->notes.trailing_garbage = flags & FLAG_GARBAGE;
        info->notes.missing_end = flags & FLAG_NO_END;
        info->entries = get_le32(h + HEADER_ENTRIES);
        info->spans = get_le32(h + HEADER_SPANS);
        info->notes.dropped_names = get_le64(h + HEADER_NOTES);
        info->notes.dropped_types = get_le64(h + HEADER_NOTES + 8);
        info->notes.dropped_xattrs = get_le64(h + HEADER_NOTES + 16);
        info->notes.dropped_links = get_le64(h + HEADER_NOTES + 24);
        info->notes.clamped_times = get_le64(h + HEADER_NOTES + 32);
        info->index_bytes = ix->len;
        return 0;
}

static int check_sections(struct index *ix, struct error *err)
{
        uint64_t at = HEADER_LEN;
        for (uint32_t i = 0; i < SECTIONS; i++) {
                const uint8_t *h = ix->base + HEADER_SECTIONS + i * HEADER_SECTION_LEN;
                uint64_t off = get_le64(h + 8), len = get_le64(h + 16);
                if (get_le32(h) != i + 1 || off != at || !range_ok(off, len, ix->len))
                        return damaged(err, "bad section table");
                if (libdeflate_crc32(0, ix->base + off, len) != get_le32(h + 4))
                        return damaged(err, "bad checksum of a section");
                ix->section[i] = (struct part){ix->base + off, len};
                at = align8(off + len);
                for (uint64_t pad = off + len; pad < at; pad++)
                        if (pad >= ix->len || ix->base[pad])
                                return damaged(err, "bytes between the sections");
        }
        const struct part *s = ix->section;
        if (at != ix->len || s[SECTION_ENTRIES].len != (uint64_t)ix->info.entries * ENTRY_LEN ||
                s[SECTION_SPANS].len != (uint64_t)ix->info.spans * SPAN_LEN || s[SECTION_ATTRS].len % ATTR_LEN ||
                s[SECTION_ATTRS].len > s[SECTION_ENTRIES].len || s[SECTION_XATTRS].len % XATTR_LEN ||
                s[SECTION_EXTENTS].len % EXTENT_LEN || s[SECTION_STRINGS].len < 3 ||
                s[SECTION_STRINGS].len > INDEX_STRINGS_MAX || memcmp(s[SECTION_STRINGS].data, "\0\0", 3) != 0 ||
                ix->info.entries > INDEX_ENTRIES_MAX)
                return damaged(err, "bad section lengths");
        ix->attrs = (uint32_t)(s[SECTION_ATTRS].len / ATTR_LEN);
        ix->xattrs = (uint32_t)(s[SECTION_XATTRS].len / XATTR_LEN);
        ix->extents = (uint32_t)(s[SECTION_EXTENTS].len / EXTENT_LEN);
        return 0;
}

static int check_xattrs(const struct index *ix, struct error *err)
{
        for (uint32_t i = 0; i < ix->xattrs; i++) {
                const uint8_t *x = ix->section[SECTION_XATTRS].data + (uint64_t)i * XATTR_LEN;
                const char *name;
                uint32_t name_len;
                if (!string_ok(ix, get_le32(x), &name, &name_len) || !name_len || memchr(name, 0, name_len) ||
                        get_le32(x + 8) > TAR_XATTR_MAX ||
                        !range_ok(get_le32(x + 4), get_le32(x + 8), ix->section[SECTION_STRINGS].len))
                        return damaged(err, "bad extended attribute");
        }
        return 0;
}

static int check_attrs(const struct index *ix, struct error *err)
{
        for (uint32_t i = 0; i < ix->attrs; i++) {
                const uint8_t *a = ix->section[SECTION_ATTRS].data + (uint64_t)i * ATTR_LEN;
                if (a[ATTR_TYPE] > TAR_FIFO || (a[ATTR_FLAGS] & ~ATTR_SPARSE) || get_le16(a + ATTR_MODE) > 07777 ||
                        get_le32(a + ATTR_MTIME_NS) > 999999999 || (a[ATTR_FLAGS] && a[ATTR_TYPE] != TAR_REG) ||
                        !range_ok(get_le32(a + ATTR_XATTRS), get_le16(a + ATTR_XATTR_COUNT), ix->xattrs))
                        return damaged(err, "bad attributes");
        }
        return 0;
}

static bool extents_ok(const struct index *ix, const struct index_entry *e)
{
        if (!range_ok(e->extents, e->extent_count, ix->extents))
                return false;
        uint64_t end = 0;
        for (uint32_t i = 0; i < e->extent_count; i++) {
                struct tar_extent x;
                index_extent(ix, e->extents, i, &x);
                if (x.file_off < end || !range_ok(x.file_off, x.len, e->size) ||
                        !range_ok(x.uoff, x.len, ix->info.tar_size))
                        return false;
                end = x.file_off + x.len;
        }
        return true;
}

static int check_entries(const struct index *ix, struct error *err)
{
        uint32_t last_dir = 0; /* the empty string, which is fine */
        uint64_t extents_seen = 0;
        for (uint32_t i = 0; i < ix->info.entries; i++) {
                const uint8_t *p = ix->section[SECTION_ENTRIES].data + (uint64_t)i * ENTRY_LEN;
                const char *s;
                uint32_t len, dir_len;
                uint32_t dir = get_le32(p + ENTRY_DIR);
                if (!string_ok(ix, dir, &s, &dir_len) || (dir != last_dir && !path_ok(s, dir_len)))
                        return damaged(err, "bad path of a directory");
                last_dir = dir;
                if (!string_ok(ix, get_le32(p + ENTRY_NAME), &s, &len) || (len ? !component_ok(s, len) : dir_len != 0))
                        return damaged(err, "bad name");
                if (get_le32(p + ENTRY_ATTR) >= ix->attrs)
                        return damaged(err, "bad attributes");
                uint8_t type =
                        ix->section[SECTION_ATTRS].data[(uint64_t)get_le32(p + ENTRY_ATTR) * ATTR_LEN + ATTR_TYPE];
                if ((type == TAR_SYMLINK || type == TAR_HARDLINK) &&
                        (!string_ok(ix, get_le32(p + ENTRY_LINK), &s, &len) || memchr(s, 0, len) ||
                                (type == TAR_HARDLINK ? !path_ok(s, len) : !len || len > TAR_PATH_MAX)))
                        return damaged(err, "bad link target");

                struct index_entry e;
                index_entry(ix, i, &e);
                extents_seen += e.extent_count; /* each is looked at once at most: no quadratic time */
                if (e.sparse ? extents_seen > ix->extents || !extents_ok(ix, &e)
                             : e.type == TAR_REG && !range_ok(e.uoff, e.size, ix->info.tar_size))
                        return damaged(err, "bad file extent");
        }
        return 0;
}

static bool kind_fits(enum decode_kind kind, const struct index_info *info)
{
        if (info->unpacked || info->compression == COMPRESSION_NONE)
                return kind == DECODE_COPY;
        if (info->compression == COMPRESSION_ZSTD)
                return kind == DECODE_FRAME;
        return kind >= DECODE_MEMBER && kind <= DECODE_STORED;
}

/* bits of the copy of the block's header */
static uint32_t span_header_bits(const uint8_t *p)
{
        return p[SPAN_KIND] == DECODE_INSIDE ? get_le16(p + SPAN_REST) : 0;
}

/* bytes of the span's group that are its own: header and window */
static uint32_t span_group_len(const uint8_t *p)
{
        return (span_header_bits(p) + 7) / 8 + get_le16(p + SPAN_WINDOW_LEN);
}

/* does the group hold what the span needs? */
static bool group_ok(const struct index *ix, const uint8_t *p)
{
        const struct part *windows = &ix->section[SECTION_WINDOWS];
        uint32_t group = get_le32(p + SPAN_GROUP), len = span_group_len(p);
        if (len == 0)
                return true;
        if (!range_ok(group, GROUP_HEAD, windows->len))
                return false;
        const uint8_t *head = windows->data + group;
        return range_ok((uint64_t)group + GROUP_HEAD, get_le32(head + GROUP_PACKED_LEN), windows->len) &&
               get_le32(head + GROUP_LEN) <= INDEX_GROUP_MAX &&
               range_ok(get_le16(p + SPAN_AT), len, get_le32(head + GROUP_LEN));
}

static bool span_ok(const struct index *ix, const uint8_t *p, uint64_t uoff_end, uint64_t *chunk_end)
{
        uint64_t uoff = get_le64(p + SPAN_UOFF), coff = get_le64(p + SPAN_COFF);
        uint32_t chunk_len = get_le32(p + SPAN_CHUNK_LEN), window_len = get_le16(p + SPAN_WINDOW_LEN);
        uint64_t chunks_size = ix->info.unpacked ? ix->info.tar_size : ix->info.blob_size;
        enum decode_kind kind = p[SPAN_KIND];
        if (uoff > uoff_end || uoff_end - uoff > INDEX_SPAN_LEN_MAX || !kind_fits(kind, &ix->info))
                return false;
        if ((coff != *chunk_end && coff + 1 != *chunk_end) || chunk_len > CHUNK_MAX_LEN ||
                !range_ok(coff, chunk_len, chunks_size) || coff + chunk_len < *chunk_end)
                return false;
        *chunk_end = coff + chunk_len;
        if (kind == DECODE_COPY && (coff != uoff || chunk_len < uoff_end - uoff))
                return false;
        if (p[SPAN_BITS] > (SPAN_BITS_MASK | SPAN_FINAL) || window_len > DECODE_WINDOW || window_len > uoff)
                return false;
        if (kind == DECODE_INSIDE ? !span_header_bits(p) || span_header_bits(p) > DECODE_HEADER_MAX * 8
                                  : kind != DECODE_STORED && get_le16(p + SPAN_REST))
                return false;
        return group_ok(ix, p);
}

static int check_spans(const struct index *ix, struct error *err)
{
        uint64_t chunk_end = 0;
        const uint8_t *p = ix->section[SECTION_SPANS].data;
        if (!ix->info.spans || get_le64(p + SPAN_UOFF) != 0 || get_le64(p + SPAN_COFF) != 0)
                return damaged(err, "no first span");
        for (uint32_t i = 0; i < ix->info.spans; i++, p += SPAN_LEN) {
                uint64_t end = i + 1 < ix->info.spans ? get_le64(p + SPAN_LEN + SPAN_UOFF) : ix->info.tar_size;
                if (!span_ok(ix, p, end, &chunk_end))
                        return damaged(err, "bad span");
        }
        if (chunk_end != (ix->info.unpacked ? ix->info.tar_size : ix->info.blob_size))
                return damaged(err, "the spans do not cover the blob");
        return 0;
}

static int check_all(struct index *ix, const struct digest *want, struct error *err)
{
        int r = check_header(ix, want, err);
        if (r == 0)
                r = check_sections(ix, err);
        if (r == 0)
                r = check_xattrs(ix, err);
        if (r == 0)
                r = check_attrs(ix, err);
        if (r == 0)
                r = check_entries(ix, err);
        if (r == 0)
                r = check_spans(ix, err);
        return r;
}

/* ---- opening ---- */

static int open_bytes(struct index *ix, const struct digest *want, struct index **ret_index, struct error *err)
{
        int r = check_all(ix, want, err);
        if (r < 0) {
                index_free(ix);
                return r;
        }
        *ret_index = ix;
        return 0;
}

int index_open_fd(int fd_taken, const struct digest *want, struct index **ret_index, struct error *err)
{
        cleanup(closep) int fd = fd_taken;
        struct stat st;
        if (fstat(fd, &st) < 0)
                return error_set(err, -errno, "index: %s", strerror(errno));
        if (!S_ISREG(st.st_mode) || st.st_size < HEADER_LEN || st.st_size > INDEX_FILE_MAX)
                return error_set(err, -EBADMSG, "index: not an index file");
        struct index *ix = calloc(1, sizeof *ix);
        if (!ix)
                return error_nomem(err);
        void *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED) {
                free(ix);
                return error_set(err, -errno, "index: map: %s", strerror(errno));
        }
        ix->base = base;
        ix->len = (size_t)st.st_size;
        ix->mapped = true;
        return open_bytes(ix, want, ret_index, err);
}

int index_open_memory(void *data, size_t len, const struct digest *want, struct index **ret_index, struct error *err)
{
        struct index *ix = calloc(1, sizeof *ix);
        if (!ix) {
                free(data);
                return error_nomem(err);
        }
        ix->base = data;
        ix->len = len;
        return open_bytes(ix, want, ret_index, err);
}

void index_free(struct index *ix)
{
        if (!ix)
                return;
        if (ix->mapped)
                munmap((void *)(uintptr_t)ix->base, ix->len);
        else
                free((void *)(uintptr_t)ix->base);
        free(ix);
}

/* ---- reading: everything was checked, so there is nothing left to fail ---- */

const struct index_info *index_info(const struct index *ix)
{
        return &ix->info;
}

static const char *string_at(const struct index *ix, uint32_t ref, uint32_t *ret_len)
{
        const uint8_t *at = ix->section[SECTION_STRINGS].data + ref;
        *ret_len = get_le16(at);
        return (const char *)at + 2;
}

void index_entry(const struct index *ix, uint32_t i, struct index_entry *e)
{
        assert(i < ix->info.entries);
        const uint8_t *p = ix->section[SECTION_ENTRIES].data + (uint64_t)i * ENTRY_LEN;
        memset(e, 0, sizeof *e);
        const uint8_t *a = ix->section[SECTION_ATTRS].data + (uint64_t)get_le32(p + ENTRY_ATTR) * ATTR_LEN;
        e->type = a[ATTR_TYPE];
        e->mtime_s = (int64_t)get_le64(a + ATTR_MTIME);
        e->mtime_ns = get_le32(a + ATTR_MTIME_NS);
        e->uid = get_le32(a + ATTR_UID);
        e->gid = get_le32(a + ATTR_GID);
        e->mode = get_le16(a + ATTR_MODE);
        e->sparse = a[ATTR_FLAGS] & ATTR_SPARSE;
        e->xattr_count = get_le16(a + ATTR_XATTR_COUNT);
        e->xattrs = e->xattr_count ? get_le32(a + ATTR_XATTRS) + 1 : 0;

        e->dir_id = get_le32(p + ENTRY_DIR);
        e->dir = string_at(ix, e->dir_id, &e->dir_len);
        e->name = string_at(ix, get_le32(p + ENTRY_NAME), &e->name_len);
        if (e->type == TAR_SYMLINK || e->type == TAR_HARDLINK)
                e->link = string_at(ix, get_le32(p + ENTRY_LINK), &e->link_len);
        uint64_t first = get_le64(p + ENTRY_UOFF), second = get_le64(p + ENTRY_SIZE);
        if (e->type == TAR_CHR || e->type == TAR_BLK) {
                e->rdev_major = (uint32_t)first;
                e->rdev_minor = (uint32_t)second;
        } else if (e->sparse) {
                e->size = second;
                e->extents = get_le32(p + ENTRY_LINK);
                e->extent_count = first > UINT32_MAX ? UINT32_MAX : (uint32_t)first;
        } else {
                e->uoff = first;
                e->size = second;
        }
}

void index_xattr(const struct index *ix, uint32_t handle, uint32_t i, struct index_xattr *ret_xattr)
{
        assert(handle && handle - 1 + i < ix->xattrs);
        const uint8_t *x = ix->section[SECTION_XATTRS].data + (uint64_t)(handle - 1 + i) * XATTR_LEN;
        ret_xattr->name = string_at(ix, get_le32(x), &ret_xattr->name_len);
        ret_xattr->value = ix->section[SECTION_STRINGS].data + get_le32(x + 4);
        ret_xattr->value_len = get_le32(x + 8);
}

void index_extent(const struct index *ix, uint32_t handle, uint32_t i, struct tar_extent *ret_extent)
{
        assert((uint64_t)handle + i < ix->extents);
        const uint8_t *x = ix->section[SECTION_EXTENTS].data + ((uint64_t)handle + i) * EXTENT_LEN;
        ret_extent->file_off = get_le64(x);
        ret_extent->uoff = get_le64(x + 8);
        ret_extent->len = get_le64(x + 16);
}

static void get_chunk(const void *owner, uint64_t i, struct chunk *ret_chunk)
{
        const struct index *ix = owner;
        const uint8_t *p = ix->section[SECTION_SPANS].data + i * SPAN_LEN;
        ret_chunk->off = get_le64(p + SPAN_COFF);
        ret_chunk->len = get_le32(p + SPAN_CHUNK_LEN);
        ret_chunk->sha256 = p + SPAN_SHA256;
}

void index_chunks(const struct index *ix, struct chunk_table *ret_table)
{
        *ret_table = (struct chunk_table){.count = ix->info.spans, .get = get_chunk, .owner = ix};
}

void index_span(const struct index *ix, uint32_t i, struct index_span *s)
{
        assert(i < ix->info.spans);
        const uint8_t *p = ix->section[SECTION_SPANS].data + (uint64_t)i * SPAN_LEN;
        memset(s, 0, sizeof *s);
        s->uoff = get_le64(p + SPAN_UOFF);
        s->ulen = (i + 1 < ix->info.spans ? get_le64(p + SPAN_LEN + SPAN_UOFF) : ix->info.tar_size) - s->uoff;
        get_chunk(ix, i, &s->chunk);
}

uint32_t index_find_span(const struct index *ix, uint64_t uoff)
{
        assert(uoff < ix->info.tar_size);
        const uint8_t *spans = ix->section[SECTION_SPANS].data;
        uint32_t low = 0, high = ix->info.spans; /* the answer is in [low, high) */
        while (high - low > 1) {
                uint32_t mid = low + (high - low) / 2;
                if (get_le64(spans + (uint64_t)mid * SPAN_LEN + SPAN_UOFF) <= uoff)
                        low = mid;
                else
                        high = mid;
        }
        return low;
}

/* unpacks a group, unless it is there */
static int fill_windows(const struct index *ix, uint32_t group, struct index_windows *windows, struct error *err)
{
        if (windows->of == ix && windows->group == group)
                return 0;
        const uint8_t *head = ix->section[SECTION_WINDOWS].data + group;
        int r = window_unpack(
                head + GROUP_HEAD, get_le32(head + GROUP_PACKED_LEN), windows->bytes, get_le32(head + GROUP_LEN), err);
        windows->of = r < 0 ? NULL : ix;
        windows->group = group;
        return r;
}

int index_point(const struct index *ix, uint32_t i, struct index_windows *windows, struct decode_point *ret_point,
        struct error *err)
{
        assert(i < ix->info.spans);
        const uint8_t *p = ix->section[SECTION_SPANS].data + (uint64_t)i * SPAN_LEN;
        struct decode_point point = {
                .kind = p[SPAN_KIND],
                .coff = get_le64(p + SPAN_COFF),
                .bits = p[SPAN_BITS] & SPAN_BITS_MASK,
                .final = p[SPAN_BITS] & SPAN_FINAL,
                .header_bits = (uint16_t)span_header_bits(p),
                .window_len = get_le16(p + SPAN_WINDOW_LEN),
        };
        if (point.kind == DECODE_STORED)
                point.stored_left = get_le16(p + SPAN_REST);
        if (span_group_len(p)) {
                int r = fill_windows(ix, get_le32(p + SPAN_GROUP), windows, err);
                if (r < 0)
                        return r;
                point.header = windows->bytes + get_le16(p + SPAN_AT);
                point.window = point.header + (point.header_bits + 7u) / 8;
        }
        *ret_point = point;
        return 0;
}
