/*
 * The reader is a machine that takes the stream in as it comes:
 *
 *      HEADER --x g L K--> META --whole--> SKIP --padding over--> HEADER
 *        |  \--- file ---> (old sparse: EXTENSION; sparse 1.0: MAP) -> entry -> SKIP
 *        zero block -----> END
 *
 * A block that lies whole in the caller's bytes is parsed there; only one that is cut between two pushes is put together
 * in a buffer. File data are counted, never looked at. What an extension header says waits in pax, long_name and
 * long_link for the next ordinary header, also one that is skipped.
 *
 * The measure of what is malformed is Go's archive/tar, as it is what Docker, containerd and Podman read with: numbers of
 * every known field, record syntax, sparse maps and data lengths are checked as strictly as there, and a global header
 * swallows what was pending. Taken all the same: types that stop those tools (contiguous and old GNU sparse files are
 * read, the others left out), and a header behind a single zero block (the archive ends at the first one).
 *
 * Memory: three extension headers of at most TAR_META_MAX, a sparse map of at most TAR_SPARSE_MAX extents.
 */
#include "layer/tar.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "layer/tar_internal.h"

enum state {
        STATE_HEADER,    /* a header block is due */
        STATE_META,      /* the text of an extension header */
        STATE_EXTENSION, /* a block with more entries of an old GNU sparse map */
        STATE_MAP,       /* a block of the text of a 1.0 sparse map */
        STATE_SKIP,      /* data and padding */
        STATE_END,       /* behind the end of the archive */
};

/* A string that is used again for each entry. */
struct text {
        char *p;
        size_t room;
};

struct tar_reader {
        tar_entry_fn *fn;
        void *ctx;
        enum state state;
        int failed;          /* 0, or what every further push returns */
        uint64_t uoff;       /* bytes of the stream taken in */
        uint64_t entry_uoff; /* of the header that is being worked on */
        uint64_t data_left;  /* of the current entry or extension header; the stream must have them */
        uint64_t pad_left;   /* behind them; the stream may end */
        uint64_t end_uoff;   /* STATE_END: of the first byte behind the first zero block */

        uint8_t block[TAR_BLOCK]; /* a block that came in pieces */
        size_t block_len;         /* bytes of it so far */

        struct tar_header h;   /* of the current entry */
        uint32_t mtime_ns;     /* of the current entry */
        struct buf *meta;      /* STATE_META: where its text goes */
        struct tar_pax pax;    /* pending for the next ordinary header */
        struct buf long_name;  /* as it came, with NULs */
        struct buf long_link;  /* as it came */
        struct tar_sparse map; /* of the current entry */
        struct text path, link;
        struct tar_notes notes;
};

struct tar_reader *tar_reader_new(tar_entry_fn *fn, void *ctx)
{
        struct tar_reader *t = calloc(1, sizeof *t);
        if (!t)
                return NULL;
        t->fn = fn;
        t->ctx = ctx;
        tar_pax_init(&t->pax);
        buf_init(&t->long_name, TAR_META_MAX);
        buf_init(&t->long_link, TAR_META_MAX);
        return t;
}

void tar_reader_free(struct tar_reader *t)
{
        if (!t)
                return;
        tar_pax_done(&t->pax);
        buf_done(&t->long_name);
        buf_done(&t->long_link);
        tar_sparse_done(&t->map);
        free(t->path.p);
        free(t->link.p);
        free(t);
}

const struct tar_notes *tar_notes(const struct tar_reader *t)
{
        return &t->notes;
}

/* ---- names */

size_t tar_clean_path(const char *path, size_t len, char *out)
{
        size_t n = 0;
        for (size_t i = 0; i < len;) {
                const char *slash = memchr(path + i, '/', len - i);
                size_t part = slash ? (size_t)(slash - path) - i : len - i;
                const char *p = path + i;
                i += part + 1;
                if (part == 0 || (part == 1 && p[0] == '.'))
                        continue;
                if (part == 2 && p[0] == '.' && p[1] == '.') {
                        while (n > 0 && out[--n] != '/')
                                ;
                        continue;
                }
                if (n > 0)
                        out[n++] = '/';
                memmove(out + n, p, part);
                n += part;
        }
        return n;
}

/* Can the kernel say this name? */
static bool name_fits(const char *path, size_t len)
{
        if (len > TAR_PATH_MAX || memchr(path, '\0', len))
                return false;
        while (len > TAR_NAME_MAX) {
                const char *slash = memchr(path, '/', TAR_NAME_MAX + 1);
                if (!slash)
                        return false;
                len -= (size_t)(slash - path) + 1;
                path = slash + 1;
        }
        return true;
}

static int reserve(struct text *text, size_t len)
{
        if (len <= text->room)
                return 0;
        char *p = realloc(text->p, len + 256);
        if (!p)
                return -ENOMEM;
        text->p = p;
        text->room = len + 256;
        return 0;
}

/* A GNU long name ends at its first NUL; an empty one is none. */
static struct tar_span c_string(const struct buf *b)
{
        return (struct tar_span){b->data, b->data ? strnlen(b->data, b->len) : 0};
}

static struct tar_span current_path(const struct tar_reader *t)
{
        struct tar_span s = c_string(&t->long_name);
        if (s.len == 0)
                s = t->pax.value[PAX_PATH];
        return s.len > 0 ? s : (struct tar_span){t->h.name, t->h.name_len};
}

static struct tar_span current_link(const struct tar_reader *t)
{
        struct tar_span s = c_string(&t->long_link);
        if (s.len == 0)
                s = t->pax.value[PAX_LINKPATH];
        return s.len > 0 ? s : (struct tar_span){t->h.link, t->h.link_len};
}

/* ---- failing */

/* A name for a message: what is not printable ASCII as \xNN, a long one cut. */
static void escape(struct tar_span name, char *out, size_t room)
{
        size_t n = 0;
        for (size_t i = 0; i < name.len; i++) {
                unsigned char c = (unsigned char)name.p[i];
                if (n + 8 > room) {
                        memcpy(out + n, "...", 3);
                        n += 3;
                        break;
                }
                if (c >= ' ' && c <= '~' && c != '\\')
                        out[n++] = (char)c;
                else
                        n += (size_t)snprintf(out + n, room - n, "\\x%02x", c);
        }
        out[n] = '\0';
}

__attribute__((format(printf, 4, 5))) static int fail(
        struct tar_reader *t, struct error *err, int code, const char *fmt, ...)
{
        char name[300];
        va_list ap;
        va_start(ap, fmt);
        error_setv(err, code, fmt, ap);
        va_end(ap);
        escape(current_path(t), name, sizeof name);
        t->failed = code;
        return error_wrap(err, code, "tar: entry at byte %" PRIu64 "%s%s%s", t->entry_uoff, *name ? " (" : "", name,
                *name ? ")" : "");
}

static int fail_map(struct tar_reader *t, struct error *err, int code)
{
        if (code == -EFBIG)
                return fail(t, err, code, "sparse map of more than %d extents", TAR_SPARSE_MAX);
        if (code == -ENOMEM)
                return fail(t, err, code, "out of memory");
        return fail(t, err, code, "malformed sparse map");
}

/* ---- from one header to the next */

/* What was pending has been used. */
static void forget_pending(struct tar_reader *t)
{
        tar_pax_reset(&t->pax);
        buf_clear(&t->long_name);
        buf_clear(&t->long_link);
}

/* The next data_len bytes, and their padding, belong to the current header. */
static int expect_data(struct tar_reader *t, int64_t data_len, struct error *err)
{
        if (data_len < 0)
                return fail(t, err, -EBADMSG, "negative size");
        t->data_left = (uint64_t)data_len;
        t->pad_left = -(uint64_t)data_len % TAR_BLOCK;
        if (t->uoff + t->data_left + t->pad_left > INT64_MAX) /* each is below 2^63, and the last small */
                return fail(t, err, -EBADMSG, "size %" PRId64 " beyond any stream's end", data_len);
        return 0;
}

static void skip(struct tar_reader *t, uint64_t len)
{
        uint64_t data = MIN(len, t->data_left);
        t->data_left -= data;
        t->pad_left -= MIN(len - data, t->pad_left);
        t->uoff += len;
        if (t->data_left == 0 && t->pad_left == 0)
                t->state = STATE_HEADER;
}

static void start_skip(struct tar_reader *t)
{
        t->state = STATE_SKIP;
        skip(t, 0);
}

/* ---- entries */

static enum tar_type type_of(const struct tar_header *h)
{
        switch (h->type) {
        case '1': return TAR_HARDLINK;
        case '2': return TAR_SYMLINK;
        case '3': return TAR_CHR;
        case '4': return TAR_BLK;
        case '5': return TAR_DIR;
        case '6': return TAR_FIFO;
        default: return TAR_REG;
        }
}

/* Fills in the path. ret_keep false: the entry is left out, and has been counted. */
static int entry_path(struct tar_reader *t, struct tar_entry *e, bool *ret_keep)
{
        struct tar_span path = current_path(t);
        if (e->sparse && t->h.type != 'S' && t->pax.value[PAX_SPARSE_NAME].len > 0)
                path = t->pax.value[PAX_SPARSE_NAME];
        int r = reserve(&t->path, path.len + 1);
        if (r < 0)
                return r;
        e->path_len = tar_clean_path(path.p, path.len, t->path.p);
        t->path.p[e->path_len] = '\0';
        e->path = t->path.p;
        *ret_keep = (e->path_len > 0 || e->type == TAR_DIR) && name_fits(e->path, e->path_len);
        t->notes.dropped_names += !*ret_keep;
        return 0;
}

static int entry_link(struct tar_reader *t, struct tar_entry *e, bool *ret_keep)
{
        if (e->type != TAR_SYMLINK && e->type != TAR_HARDLINK)
                return 0;
        struct tar_span link = current_link(t);
        int r = reserve(&t->link, link.len + 1);
        if (r < 0)
                return r;
        if (e->type == TAR_HARDLINK) {
                e->link_len = tar_clean_path(link.p, link.len, t->link.p);
                *ret_keep = e->link_len > 0 && name_fits(t->link.p, e->link_len);
        } else {
                memcpy(t->link.p, link.p, link.len);
                e->link_len = link.len;
                *ret_keep = link.len > 0 && link.len <= TAR_PATH_MAX;
        }
        t->link.p[e->link_len] = '\0';
        e->link = t->link.p;
        t->notes.dropped_links += !*ret_keep;
        return 0;
}

/* Can the kernel serve this attribute of such a file? What a hard link leads to is not known here. */
static bool xattr_fits(enum tar_type type, const char *name)
{
        if (type == TAR_REG || type == TAR_DIR || type == TAR_HARDLINK)
                return true;
        if (type == TAR_SYMLINK && strncmp(name, "system.posix_acl_", 17) == 0)
                return false;
        return strncmp(name, "user.", 5) != 0;
}

static void entry_xattrs(struct tar_reader *t, struct tar_entry *e)
{
        struct tar_pax *p = &t->pax;
        size_t kept = 0;
        for (size_t i = 0; i < p->xattr_count; i++)
                if (xattr_fits(e->type, p->xattrs[i].name))
                        p->xattrs[kept++] = p->xattrs[i];
        t->notes.dropped_xattrs += p->dropped_xattrs + (p->xattr_count - kept);
        p->xattr_count = kept;
        e->xattrs = p->xattrs;
        e->xattr_count = kept;
}

/* What no file can be. */
static int check_entry(struct tar_reader *t, bool sparse, struct error *err)
{
        const struct tar_header *h = &t->h;
        if (sparse && tar_sparse_place(&t->map, t->uoff, t->data_left) < 0)
                return fail(t, err, -EBADMSG, "sparse map of %" PRIu64 " bytes, but %" PRIu64 " are stored",
                        t->map.data_len, t->data_left);
        if (h->uid < 0 || h->uid >= UINT32_MAX)
                return fail(t, err, -EBADMSG, "owner %" PRId64 " is no user", h->uid);
        if (h->gid < 0 || h->gid >= UINT32_MAX)
                return fail(t, err, -EBADMSG, "group %" PRId64 " is no group", h->gid);
        return 0;
}

static void entry_numbers(const struct tar_reader *t, struct tar_entry *e)
{
        e->mode = (uint16_t)(t->h.mode & 07777);
        e->uid = (uint32_t)t->h.uid;
        e->gid = (uint32_t)t->h.gid;
        e->mtime_s = t->h.mtime;
        e->mtime_ns = t->mtime_ns;
        e->uoff = t->uoff;
        if (e->type == TAR_REG)
                e->size = e->sparse ? t->map.size : t->data_left;
        if (e->type == TAR_CHR || e->type == TAR_BLK) {
                e->rdev_major = (uint32_t)t->h.major; /* cut, as Go's callers do */
                e->rdev_minor = (uint32_t)t->h.minor;
        }
        if (e->sparse) {
                e->extents = t->map.extents;
                e->extent_count = t->map.count;
        }
}

/* The header, its extensions and its map are complete: the data, if any, begin here. */
static int emit(struct tar_reader *t, bool sparse, struct error *err)
{
        struct tar_entry e = {.type = type_of(&t->h), .sparse = sparse};
        bool keep = true;
        int r = check_entry(t, sparse, err);
        if (r < 0)
                return r;
        entry_numbers(t, &e);
        r = entry_path(t, &e, &keep);
        if (r == 0 && keep)
                r = entry_link(t, &e, &keep);
        if (r < 0)
                return fail(t, err, r, "out of memory");
        if (keep) {
                entry_xattrs(t, &e);
                r = t->fn(t->ctx, &e);
                if (r < 0)
                        return fail(t, err, r, "stopped: %s", strerror(-r));
        }
        forget_pending(t);
        start_skip(t);
        return 0;
}

/* ---- sparse files: each of these ends in emit(), now or when the map is complete */

static int start_old_sparse(struct tar_reader *t, const uint8_t *block, struct error *err)
{
        int64_t size;
        if (t->h.dialect != TAR_GNU)
                return fail(t, err, -EBADMSG, "sparse file in a header that is not GNU's");
        if (!tar_number(block + 483, 12, &size) || size < 0)
                return fail(t, err, -EBADMSG, "malformed size of a sparse file");
        tar_sparse_reset(&t->map);
        t->map.size = (uint64_t)size;
        int r = tar_sparse_add_old(&t->map, block + 386, 4);
        if (r < 0)
                return fail_map(t, err, r);
        if (block[482] == 0)
                return emit(t, true, err);
        t->state = STATE_EXTENSION;
        return 0;
}

static int on_extension(struct tar_reader *t, const uint8_t *block, struct error *err)
{
        int r = tar_sparse_add_old(&t->map, block, 21);
        if (r < 0)
                return fail_map(t, err, r);
        return block[504] == 0 ? emit(t, true, err) : 0;
}

static int on_map(struct tar_reader *t, const uint8_t *block, struct error *err)
{
        t->data_left -= TAR_BLOCK;
        int r = tar_sparse_add_lines(&t->map, block, TAR_BLOCK);
        if (r < 0)
                return fail_map(t, err, r);
        if (t->map.map_done)
                return emit(t, true, err);
        if (t->data_left < TAR_BLOCK)
                return fail(t, err, -EBADMSG, "sparse map longer than the data that hold it");
        return 0;
}

static bool span_is(struct tar_span s, char c)
{
        return s.len == 1 && s.p[0] == c;
}

enum pax_sparse { NOT_SPARSE, SPARSE_TEXT, SPARSE_LINES };

/* Which of the pax formats, if any. A version that nobody knows makes an ordinary file. */
static enum pax_sparse pax_sparse_of(const struct tar_pax *p)
{
        struct tar_span major = p->value[PAX_SPARSE_MAJOR], minor = p->value[PAX_SPARSE_MINOR];
        if (span_is(major, '1') && span_is(minor, '0'))
                return SPARSE_LINES;
        if (span_is(major, '0') && (span_is(minor, '0') || span_is(minor, '1')))
                return SPARSE_TEXT;
        if (major.len > 0 || minor.len > 0)
                return NOT_SPARSE;
        return p->value[PAX_SPARSE_MAP].len > 0 ? SPARSE_TEXT : NOT_SPARSE;
}

static int start_pax_sparse(struct tar_reader *t, enum pax_sparse format, struct error *err)
{
        const struct tar_span *v = t->pax.value;
        struct tar_span real = v[PAX_SPARSE_SIZE].len > 0 ? v[PAX_SPARSE_SIZE] : v[PAX_SPARSE_REALSIZE];
        int64_t size = t->h.size;
        if (type_of(&t->h) != TAR_REG)
                return fail(t, err, -EBADMSG, "sparse map of something that is no file");
        if ((real.len > 0 && !tar_decimal(real, &size)) || size < 0)
                return fail(t, err, -EBADMSG, "malformed size of a sparse file");
        tar_sparse_reset(&t->map);
        t->map.size = (uint64_t)size;
        if (format == SPARSE_LINES) {
                if (t->data_left < TAR_BLOCK)
                        return fail(t, err, -EBADMSG, "sparse map longer than the data that hold it");
                t->state = STATE_MAP;
                return 0;
        }
        int r = tar_sparse_add_text(&t->map, v[PAX_SPARSE_MAP], v[PAX_SPARSE_NUMBLOCKS]);
        return r < 0 ? fail_map(t, err, r) : emit(t, true, err);
}

/* ---- headers */

/* The text of an extension header is complete. */
static int finish_meta(struct tar_reader *t, struct error *err)
{
        if (buf_error(t->meta) < 0)
                return fail(t, err, buf_error(t->meta), "out of memory");
        if (t->meta == &t->pax.text) {
                const char *what = "out of memory";
                int r = tar_pax_parse(&t->pax, &what);
                if (r < 0)
                        return fail(t, err, r, "%s", what);
        }
        if (t->h.type == 'g')
                forget_pending(t);
        start_skip(t);
        return 0;
}

static int start_meta(struct tar_reader *t, struct error *err)
{
        int r = expect_data(t, t->h.size, err);
        if (r < 0)
                return r;
        if (t->h.size > TAR_META_MAX)
                return fail(t, err, -EFBIG, "extension header of %" PRId64 " bytes; the limit is %d", t->h.size,
                        TAR_META_MAX);
        t->meta = t->h.type == 'L' ? &t->long_name : t->h.type == 'K' ? &t->long_link : &t->pax.text;
        if (t->meta == &t->pax.text) {
                tar_pax_reset(&t->pax);
                t->pax.used = true;
        }
        buf_clear(t->meta);
        t->state = STATE_META;
        return t->data_left == 0 ? finish_meta(t, err) : 0;
}

/* Not a file: a label, a dump directory, Solaris' extension header, or a vendor's own. */
static int skip_entry(struct tar_reader *t, struct error *err)
{
        int r = expect_data(t, t->h.size, err);
        if (r < 0)
                return r;
        t->notes.dropped_types += t->h.type != 'V' && t->h.type != 'X';
        forget_pending(t);
        start_skip(t);
        return 0;
}

static int start_file(struct tar_reader *t, const uint8_t *block, struct error *err)
{
        bool clamped;
        const char *what = tar_pax_apply(&t->pax, &t->h, &t->mtime_ns, &clamped);
        if (what)
                return fail(t, err, -EBADMSG, "%s", what);
        if (t->h.type == '\0') {
                struct tar_span path = current_path(t);
                t->h.type = path.len > 0 && path.p[path.len - 1] == '/' ? '5' : '0';
        }
        if (!memchr("01234567S", t->h.type, 9))
                return skip_entry(t, err);
        t->notes.clamped_times += clamped;

        int r = expect_data(t, type_of(&t->h) == TAR_REG ? t->h.size : 0, err);
        if (r < 0)
                return r;
        if (t->h.type == 'S')
                return start_old_sparse(t, block, err);
        enum pax_sparse format = pax_sparse_of(&t->pax);
        return format == NOT_SPARSE ? emit(t, false, err) : start_pax_sparse(t, format, err);
}

static int on_header(struct tar_reader *t, const uint8_t *block, struct error *err)
{
        t->entry_uoff = t->uoff - TAR_BLOCK;
        switch (tar_block_kind(block)) {
        case TAR_BLOCK_ZERO:
                t->state = STATE_END;
                t->end_uoff = t->uoff;
                return 0;
        case TAR_BLOCK_BAD: tar_header_name(block, &t->h); return fail(t, err, -EBADMSG, "bad checksum");
        default: break;
        }
        const char *what = tar_header_parse(block, &t->h);
        if (what)
                return fail(t, err, -EBADMSG, "%s", what);
        if (t->h.size < 0 && type_of(&t->h) == TAR_REG)
                return fail(t, err, -EBADMSG, "negative size");
        if (memchr("xgLK", t->h.type, 4))
                return start_meta(t, err);
        return start_file(t, block, err);
}

/* ---- the stream */

/* The next block, in the caller's bytes or in t->block; NULL when it is not yet complete. */
static const uint8_t *next_block(struct tar_reader *t, const uint8_t **data, size_t *len)
{
        const uint8_t *block = *data;
        size_t n = MIN(*len, TAR_BLOCK - t->block_len);
        if (n < TAR_BLOCK) {
                memcpy(t->block + t->block_len, *data, n);
                t->block_len += n;
                block = t->block_len == TAR_BLOCK ? t->block : NULL;
        }
        if (block)
                t->block_len = 0;
        *data += n;
        *len -= n;
        t->uoff += n;
        return block;
}

static int on_block(struct tar_reader *t, const uint8_t *block, struct error *err)
{
        switch (t->state) {
        case STATE_HEADER: return on_header(t, block, err);
        case STATE_EXTENSION: return on_extension(t, block, err);
        default: return on_map(t, block, err);
        }
}

static int take_meta(struct tar_reader *t, const uint8_t **data, size_t *len, struct error *err)
{
        size_t n = (size_t)MIN(*len, t->data_left);
        buf_add(t->meta, *data, n);
        *data += n;
        *len -= n;
        t->uoff += n;
        t->data_left -= n;
        return t->data_left == 0 ? finish_meta(t, err) : 0;
}

static void take_garbage(struct tar_reader *t, const uint8_t *data, size_t len)
{
        t->uoff += len;
        if (!t->notes.trailing_garbage && len > 0)
                t->notes.trailing_garbage = data[0] != 0 || memcmp(data, data + 1, len - 1) != 0;
}

int tar_push(struct tar_reader *t, const void *bytes, size_t len, struct error *err)
{
        const uint8_t *data = bytes;
        if (t->failed)
                return error_set(err, t->failed, "tar: the stream was refused before");
        while (len > 0) {
                int r = 0;
                const uint8_t *block;
                size_t n;
                switch (t->state) {
                case STATE_END: take_garbage(t, data, len); return 0;
                case STATE_SKIP:
                        n = (size_t)MIN(len, t->data_left + t->pad_left);
                        skip(t, n);
                        data += n;
                        len -= n;
                        break;
                case STATE_META: r = take_meta(t, &data, &len, err); break;
                default: block = next_block(t, &data, &len); r = block ? on_block(t, block, err) : 0;
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

uint64_t tar_skippable(const struct tar_reader *t)
{
        if (t->state == STATE_END)
                return UINT64_MAX;
        return t->state == STATE_SKIP ? t->data_left + t->pad_left : 0;
}

void tar_skip(struct tar_reader *t, uint64_t len)
{
        assert(len <= tar_skippable(t));
        if (t->state == STATE_SKIP)
                skip(t, len);
        else
                t->uoff += len;
}

int tar_finish(struct tar_reader *t, struct error *err)
{
        if (t->failed)
                return error_set(err, t->failed, "tar: the stream was refused before");
        if (t->state == STATE_EXTENSION || t->state == STATE_MAP || t->data_left > 0)
                return fail(t, err, -EBADMSG, "the stream ends inside this entry, at byte %" PRIu64, t->uoff);
        if (t->block_len > 0) {
                t->failed = -EBADMSG;
                return error_set(err, -EBADMSG, "tar: the stream ends inside a header, at byte %" PRIu64, t->uoff);
        }
        if (t->state == STATE_END && t->uoff > t->end_uoff && t->uoff - t->end_uoff < TAR_BLOCK) {
                t->failed = -EBADMSG;
                return error_set(
                        err, -EBADMSG, "tar: the stream ends inside its second zero block, at byte %" PRIu64, t->uoff);
        }
        t->notes.missing_end = t->state != STATE_END && t->uoff > 0;
        return 0;
}
