/*
 * How: each section is a growing buffer in its final form; finishing is laying them one after the other. Strings and attribute
 * records are stored once, found again by hash tables of their offsets: a name like "copyright" stands in a layer a hundred
 * times, and the files of a package share owner, mode and time.
 */
#include "layer/index.h"

#include <assert.h>
#include <errno.h>
#include <libdeflate.h>

#include "base/buf.h"
#include "base/map.h"
#include "base/wire.h"
#include "layer/index_format.h"
#include "layer/window.h"

/* offsets of things that lie in a section, by hash; 0: free, so the thing at offset 0 is never put in */
struct offsets {
        uint32_t *slot;
        size_t count, room;
};

struct index_builder {
        struct buf section[SECTIONS];
        struct offsets strings, attrs;
        uint64_t seed;
        struct window_packer *packer;
        struct buf group; /* headers and windows of the last spans, to be packed together */
        uint32_t entries, spans;
        uint64_t last_uoff;
        bool chunk_due; /* a span was told, its chunk not yet */
};

struct index_builder *index_builder_new(void)
{
        struct index_builder *b = calloc(1, sizeof *b);
        if (!b)
                return NULL;
        buf_init(&b->section[SECTION_ENTRIES], (size_t)INDEX_ENTRIES_MAX * ENTRY_LEN);
        buf_init(&b->section[SECTION_STRINGS], INDEX_STRINGS_MAX);
        buf_init(&b->section[SECTION_XATTRS], INDEX_STRINGS_MAX);
        buf_init(&b->section[SECTION_EXTENTS], INDEX_STRINGS_MAX);
        buf_init(&b->section[SECTION_SPANS], (size_t)INDEX_SPANS_MAX * SPAN_LEN);
        buf_init(&b->section[SECTION_WINDOWS], INDEX_WINDOWS_MAX);
        buf_init(&b->section[SECTION_ATTRS], (size_t)INDEX_ENTRIES_MAX * ATTR_LEN);
        buf_init(&b->group, INDEX_GROUP_MAX);
        buf_add(&b->section[SECTION_STRINGS], "\0\0", 3);
        b->seed = map_seed();
        b->packer = window_packer_new();
        if (!b->packer || buf_error(&b->section[SECTION_STRINGS])) {
                index_builder_free(b);
                return NULL;
        }
        return b;
}

void index_builder_free(struct index_builder *b)
{
        if (!b)
                return;
        for (int i = 0; i < SECTIONS; i++)
                buf_done(&b->section[i]);
        buf_done(&b->group);
        window_packer_free(b->packer);
        free(b->strings.slot);
        free(b->attrs.slot);
        free(b);
}

static int section_error(const struct index_builder *b, enum index_section section, struct error *err)
{
        static const char *const what[SECTIONS] = {"entries", "attributes", "bytes of names and attributes",
                "extended attributes", "extents of sparse files", "spans", "windows"};
        int r = buf_error(&b->section[section]);
        if (r == -EFBIG)
                return error_set(err, r, "index: the layer has more %s than this program takes", what[section]);
        return r < 0 ? error_nomem(err) : 0;
}

/* ---- things that are stored once ---- */

/* the bytes of a stored thing: strings have a length in front, attribute records have one length all */
static const char *stored(const struct index_builder *b, enum index_section section, uint32_t off, size_t *ret_len)
{
        const char *at = b->section[section].data + off;
        if (section == SECTION_ATTRS) {
                *ret_len = ATTR_LEN;
                return at;
        }
        *ret_len = get_le16(at);
        return at + 2;
}

static uint32_t *find_slot(
        struct index_builder *b, enum index_section section, struct offsets *o, const void *data, size_t len)
{
        for (size_t i = map_hash(b->seed, data, len);; i++) {
                uint32_t *slot = &o->slot[i & (o->room - 1)];
                size_t stored_len;
                const char *at = *slot ? stored(b, section, *slot, &stored_len) : NULL;
                if (!at || (stored_len == len && !memcmp(at, data, len)))
                        return slot;
        }
}

static bool grow(struct index_builder *b, enum index_section section, struct offsets *o)
{
        struct offsets bigger = {.count = o->count, .room = o->room ? o->room * 2 : 1024};
        bigger.slot = calloc(bigger.room, sizeof *bigger.slot);
        if (!bigger.slot)
                return false;
        for (size_t i = 0; i < o->room; i++) {
                size_t len;
                if (!o->slot[i])
                        continue;
                const char *at = stored(b, section, o->slot[i], &len);
                *find_slot(b, section, &bigger, at, len) = o->slot[i];
        }
        free(o->slot);
        *o = bigger;
        return true;
}

/* the slot of a thing: *slot is its offset, or 0 where it belongs. NULL: out of memory, which sticks to the section */
static uint32_t *put_slot(
        struct index_builder *b, enum index_section section, struct offsets *o, const void *data, size_t len)
{
        if (buf_error(&b->section[section]))
                return NULL;
        if (o->count + 1 > o->room / 4 * 3 && !grow(b, section, o)) {
                b->section[section].error = -ENOMEM;
                return NULL;
        }
        uint32_t *slot = find_slot(b, section, o, data, len);
        o->count += !*slot;
        return slot;
}

static uint32_t put_string(struct index_builder *b, const char *s, size_t len)
{
        assert(len <= UINT16_MAX);
        uint32_t *slot = len ? put_slot(b, SECTION_STRINGS, &b->strings, s, len) : NULL;
        if (!slot || *slot)
                return slot ? *slot : 0;
        struct buf *out = &b->section[SECTION_STRINGS];
        uint32_t off = (uint32_t)out->len;
        uint8_t *at = buf_extend(out, len + 3);
        if (!at)
                return 0;
        put_le16(at, (uint16_t)len);
        memcpy(at + 2, s, len);
        return *slot = off;
}

/* the number of the record */
static uint32_t put_attr(struct index_builder *b, const uint8_t attr[ATTR_LEN])
{
        struct buf *out = &b->section[SECTION_ATTRS];
        if (out->len && !memcmp(out->data, attr, ATTR_LEN))
                return 0;
        if (!out->len) {
                buf_add(out, attr, ATTR_LEN);
                return 0;
        }
        uint32_t *slot = put_slot(b, SECTION_ATTRS, &b->attrs, attr, ATTR_LEN);
        if (!slot || *slot)
                return slot ? *slot / ATTR_LEN : 0;
        *slot = (uint32_t)out->len;
        buf_add(out, attr, ATTR_LEN);
        return *slot / ATTR_LEN;
}

/* ---- entries ---- */

static uint32_t put_xattrs(struct index_builder *b, const struct tar_entry *e)
{
        uint32_t first = (uint32_t)(b->section[SECTION_XATTRS].len / XATTR_LEN);
        struct buf *strings = &b->section[SECTION_STRINGS];
        for (size_t i = 0; i < e->xattr_count; i++) {
                const struct tar_xattr *x = &e->xattrs[i];
                uint32_t name = put_string(b, x->name, strlen(x->name));
                uint32_t value = (uint32_t)strings->len;
                buf_add(strings, x->value, x->value_len);
                uint8_t *at = buf_extend(&b->section[SECTION_XATTRS], XATTR_LEN);
                if (!at)
                        break;
                put_le32(at, name);
                put_le32(at + 4, value);
                put_le32(at + 8, x->value_len);
        }
        return first;
}

static uint32_t put_extents(struct index_builder *b, const struct tar_entry *e)
{
        uint32_t first = (uint32_t)(b->section[SECTION_EXTENTS].len / EXTENT_LEN);
        for (size_t i = 0; i < e->extent_count; i++) {
                uint8_t *at = buf_extend(&b->section[SECTION_EXTENTS], EXTENT_LEN);
                if (!at)
                        break;
                put_le64(at, e->extents[i].file_off);
                put_le64(at + 8, e->extents[i].uoff);
                put_le64(at + 16, e->extents[i].len);
        }
        return first;
}

int index_builder_entry(struct index_builder *b, const struct tar_entry *e, struct error *err)
{
        size_t name_at = e->path_len;
        while (name_at && e->path[name_at - 1] != '/')
                name_at--;
        uint32_t dir = put_string(b, e->path, name_at ? name_at - 1 : 0);
        uint32_t name = put_string(b, e->path + name_at, e->path_len - name_at);
        uint32_t link = put_string(b, e->link ? e->link : "", e->link ? e->link_len : 0);
        uint32_t extents = e->sparse ? put_extents(b, e) : 0;

        uint8_t attr[ATTR_LEN] = {0};
        put_le64(attr + ATTR_MTIME, (uint64_t)e->mtime_s);
        put_le32(attr + ATTR_MTIME_NS, e->mtime_ns);
        put_le32(attr + ATTR_UID, e->uid);
        put_le32(attr + ATTR_GID, e->gid);
        put_le16(attr + ATTR_MODE, e->mode);
        attr[ATTR_TYPE] = (uint8_t)e->type;
        attr[ATTR_FLAGS] = e->sparse ? ATTR_SPARSE : 0;
        put_le32(attr + ATTR_XATTRS, e->xattr_count ? put_xattrs(b, e) : 0);
        put_le16(attr + ATTR_XATTR_COUNT, (uint16_t)e->xattr_count);
        uint32_t attr_number = put_attr(b, attr);

        uint8_t *at = buf_extend(&b->section[SECTION_ENTRIES], ENTRY_LEN);
        for (int i = SECTION_ENTRIES; i <= SECTION_EXTENTS; i++)
                if (buf_error(&b->section[i]))
                        return section_error(b, i, err);
        bool device = e->type == TAR_CHR || e->type == TAR_BLK;
        put_le32(at + ENTRY_DIR, dir);
        put_le32(at + ENTRY_NAME, name);
        put_le32(at + ENTRY_LINK, e->sparse ? extents : link);
        put_le32(at + ENTRY_ATTR, attr_number);
        put_le64(at + ENTRY_UOFF, e->sparse ? e->extent_count : device ? e->rdev_major : e->uoff);
        put_le64(at + ENTRY_SIZE, device ? e->rdev_minor : e->size);
        b->entries++;
        return 0;
}

/* ---- spans ---- */

/* packs what the spans since the last group need */
static int end_group(struct index_builder *b, struct error *err)
{
        struct buf *windows = &b->section[SECTION_WINDOWS];
        size_t start = windows->len;
        if (!b->group.len)
                return 0;
        if (!buf_extend(windows, GROUP_HEAD) ||
                window_pack(b->packer, (const uint8_t *)b->group.data, b->group.len, windows) < 0)
                return section_error(b, SECTION_WINDOWS, err);
        put_le32(windows->data + start + GROUP_PACKED_LEN, (uint32_t)(windows->len - start - GROUP_HEAD));
        put_le32(windows->data + start + GROUP_LEN, (uint32_t)b->group.len);
        buf_clear(&b->group);
        return 0;
}

int index_builder_span(struct index_builder *b, uint64_t uoff, const struct decode_point *point, struct error *err)
{
        assert(!b->chunk_due && uoff >= b->last_uoff && (b->spans || !uoff));
        size_t header_len = point->kind == DECODE_INSIDE ? (point->header_bits + 7u) / 8 : 0;
        if (b->group.len + header_len + point->window_len > INDEX_GROUP_MAX) {
                int r = end_group(b, err);
                if (r < 0)
                        return r;
        }
        size_t group_at = b->group.len;
        if (header_len)
                buf_add(&b->group, point->header, header_len);
        if (point->window_len)
                buf_add(&b->group, point->window, point->window_len);
        if (buf_error(&b->group))
                return error_nomem(err);
        uint8_t *at = buf_extend(&b->section[SECTION_SPANS], SPAN_LEN);
        if (!at)
                return section_error(b, SECTION_SPANS, err);

        put_le64(at + SPAN_UOFF, uoff);
        put_le64(at + SPAN_COFF, point->coff);
        if (b->group.len > group_at) {
                put_le32(at + SPAN_GROUP, (uint32_t)b->section[SECTION_WINDOWS].len);
                put_le16(at + SPAN_AT, (uint16_t)group_at);
                put_le16(at + SPAN_WINDOW_LEN, (uint16_t)point->window_len);
        }
        put_le16(at + SPAN_REST, point->kind == DECODE_INSIDE   ? point->header_bits
                                 : point->kind == DECODE_STORED ? point->stored_left
                                                                : 0);
        at[SPAN_KIND] = (uint8_t)point->kind;
        at[SPAN_BITS] = point->bits | (point->final ? SPAN_FINAL : 0);
        b->spans++;
        b->last_uoff = uoff;
        b->chunk_due = true;
        return 0;
}

int index_builder_chunk(
        struct index_builder *b, uint64_t off, uint64_t len, const uint8_t sha256[SHA256_BYTES], struct error *err)
{
        assert(b->chunk_due);
        if (len > CHUNK_MAX_LEN)
                return error_set(err, -EFBIG, "index: one span needs %llu compressed bytes, the limit is %d",
                        (unsigned long long)len, CHUNK_MAX_LEN);
        struct buf *spans = &b->section[SECTION_SPANS];
        uint8_t *at = (uint8_t *)spans->data + spans->len - SPAN_LEN;
        put_le64(at + SPAN_COFF, off);
        put_le32(at + SPAN_CHUNK_LEN, (uint32_t)len);
        memcpy(at + SPAN_SHA256, sha256, SHA256_BYTES);
        b->chunk_due = false;
        return 0;
}

void index_builder_drop_spans(struct index_builder *b)
{
        buf_clear(&b->section[SECTION_SPANS]);
        buf_clear(&b->section[SECTION_WINDOWS]);
        buf_clear(&b->group);
        b->spans = 0;
        b->last_uoff = 0;
        b->chunk_due = false;
}

/* ---- the file ---- */

static void put_header(uint8_t *h, const struct index_info *info, uint64_t file_len)
{
        memcpy(h, INDEX_MAGIC, 8);
        put_le32(h + HEADER_VERSION, INDEX_VERSION);
        put_le32(h + HEADER_HEADER_LEN, HEADER_LEN);
        put_le64(h + HEADER_FILE_LEN, file_len);
        put_le32(h + HEADER_ALG, info->digest.alg);
        put_le32(h + HEADER_DIFF_ALG, info->diff_id.alg);
        memcpy(h + HEADER_DIGEST, info->digest.bytes, DIGEST_MAX_BYTES);
        memcpy(h + HEADER_DIFF_ID, info->diff_id.bytes, DIGEST_MAX_BYTES);
        put_le64(h + HEADER_BLOB_SIZE, info->blob_size);
        put_le64(h + HEADER_TAR_SIZE, info->tar_size);
        put_le32(h + HEADER_COMPRESSION, info->compression);
        put_le32(h + HEADER_FLAGS, (info->unpacked ? FLAG_UNPACKED : 0u) |
                                           (info->notes.trailing_garbage ? FLAG_GARBAGE : 0u) |
                                           (info->notes.missing_end ? FLAG_NO_END : 0u));
        put_le64(h + HEADER_NOTES, info->notes.dropped_names);
        put_le64(h + HEADER_NOTES + 8, info->notes.dropped_types);
        put_le64(h + HEADER_NOTES + 16, info->notes.dropped_xattrs);
        put_le64(h + HEADER_NOTES + 24, info->notes.dropped_links);
        put_le64(h + HEADER_NOTES + 32, info->notes.clamped_times);
}

int index_builder_finish(
        struct index_builder *b, const struct index_info *info, uint8_t **ret_data, size_t *ret_len, struct error *err)
{
        assert(!b->chunk_due);
        int r = end_group(b, err);
        if (r < 0)
                return r;
        uint64_t len = HEADER_LEN;
        for (int i = 0; i < SECTIONS; i++)
                len = align8(len + b->section[i].len);
        if (len > INDEX_FILE_MAX)
                return error_set(err, -EFBIG, "index: it would have %llu bytes, the limit is %d",
                        (unsigned long long)len, INDEX_FILE_MAX);
        uint8_t *data = calloc(1, len);
        if (!data)
                return error_nomem(err);
        put_header(data, info, len);
        put_le32(data + HEADER_ENTRIES, b->entries);
        put_le32(data + HEADER_SPANS, b->spans);
        uint64_t at = HEADER_LEN;
        for (int i = 0; i < SECTIONS; i++) {
                const struct buf *s = &b->section[i];
                uint8_t *h = data + HEADER_SECTIONS + i * HEADER_SECTION_LEN;
                if (s->len)
                        memcpy(data + at, s->data, s->len);
                put_le32(h, (uint32_t)i + 1);
                put_le32(h + 4, libdeflate_crc32(0, data + at, s->len));
                put_le64(h + 8, at);
                put_le64(h + 16, s->len);
                at = align8(at + s->len);
        }
        put_le32(data + HEADER_CRC, libdeflate_crc32(0, data, HEADER_CRC));
        *ret_data = data;
        *ret_len = len;
        return 0;
}
