/*
 * How: a table of members by clean path, made once. A plain archive's members are windows onto the file. A compressed one
 * gets an index in memory (its blob's digest is not known, so there is no name for it in the store) and a span cache of its
 * own, which lives as long as any member is open.
 */
#include "image/files_tar.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/map.h"
#include "layer/layer.h"
#include "layer/scan.h"

enum {
        MEMBERS_MAX = 1 << 20,
        LINKS_MAX = 16, /* symlinks followed for one name */
        WALK_PIECE = 64 << 10,
        CACHE_BYTES = 32 << 20,
};

struct member {
        enum tar_type type;
        const char *link; /* clean path, relative to the archive's root */
        uint64_t uoff, size;
};

/* what a compressed archive is read through; members' blobs hold references */
struct packed {
        atomic_uint refs;
        struct store *store;
        struct span_cache *cache;
        struct layer *layer;
};

struct files_tar {
        struct files files;
        struct blob *blob;     /* plain: what members are windows of */
        struct packed *packed; /* compressed; else NULL */
        struct arena arena;
        struct map names; /* clean path -> struct member * */
};

static void packed_unref(struct packed *p)
{
        if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
                return;
        layer_unref(p->layer);
        span_cache_free(p->cache);
        store_close(p->store);
        free(p);
}

/* ---- the table ---- */

/* a symlink's target as a path from the archive's root */
static char *link_path(struct files_tar *f, const char *path, size_t path_len, const char *target, size_t target_len)
{
        struct buf joined;
        buf_init(&joined, 2 * TAR_PATH_MAX + 2);
        if (!target_len || target[0] != '/') {
                size_t dir_len = path_len;
                while (dir_len && path[dir_len - 1] != '/')
                        dir_len--;
                buf_add(&joined, path, dir_len);
        }
        buf_add(&joined, target, target_len);
        char *clean = buf_error(&joined) ? NULL : arena_alloc(&f->arena, joined.len + 1);
        if (clean)
                clean[tar_clean_path(buf_str(&joined), joined.len, clean)] = '\0';
        buf_done(&joined);
        return clean;
}

static int add_member(struct files_tar *f, const char *path, size_t path_len, enum tar_type type, const char *link,
        size_t link_len, uint64_t uoff, uint64_t size)
{
        if (map_find(&f->names, path, path_len))
                return 0; /* the first of a name counts, as for other readers of such archives */
        if (f->names.count >= MEMBERS_MAX)
                return -EFBIG;
        struct member *m = arena_alloc(&f->arena, sizeof *m);
        char *name = arena_copy(&f->arena, path, path_len);
        if (!m || !name)
                return -ENOMEM;
        *m = (struct member){.type = type, .uoff = uoff, .size = size};
        if (type == TAR_SYMLINK)
                m->link = link_path(f, path, path_len, link, link_len);
        else if (type == TAR_HARDLINK)
                m->link = arena_copy(&f->arena, link, link_len);
        if ((type == TAR_SYMLINK || type == TAR_HARDLINK) && !m->link)
                return -ENOMEM;
        return map_put(&f->names, name, path_len, (uint64_t)(uintptr_t)m);
}

static int take_entry(void *ctx, const struct tar_entry *e)
{
        return e->sparse ? 0 : add_member(ctx, e->path, e->path_len, e->type, e->link, e->link_len, e->uoff, e->size);
}

/* from header to header, over the members' content */
static int walk_plain(struct files_tar *f, struct error *err)
{
        cleanup(tar_reader_freep) struct tar_reader *tar = tar_reader_new(take_entry, f);
        cleanup(freep) uint8_t *piece = malloc(WALK_PIECE);
        if (!tar || !piece)
                return error_nomem(err);
        uint64_t off = 0;
        while (off < blob_size(f->blob) && tar_skippable(tar) != UINT64_MAX) {
                uint64_t skip = MIN(tar_skippable(tar), blob_size(f->blob) - off);
                if (skip) {
                        tar_skip(tar, skip);
                        off += skip;
                        continue;
                }
                /* a header, and what is left of the members behind it, up to the next long skip */
                ssize_t n = blob_read(f->blob, piece, TAR_BLOCK, off, err);
                int r = n < 0 ? (int)n : tar_push(tar, piece, (size_t)n, err);
                if (r < 0)
                        return r;
                off += (uint64_t)n;
        }
        return tar_skippable(tar) == UINT64_MAX ? 0 : tar_finish(tar, err);
}

static int scan_packed(struct files_tar *f, struct error *err)
{
        struct packed *p = calloc(1, sizeof *p);
        if (!p)
                return error_nomem(err);
        atomic_init(&p->refs, 1);
        f->packed = p;
        p->store = store_new_null();
        p->cache = span_cache_new(CACHE_BYTES, NULL);
        if (!p->store || !p->cache)
                return error_nomem(err);
        struct scan_request rq = {.blob = f->blob, .store = p->store};
        struct index *index = NULL;
        int r = scan_layer(&rq, &index, err);
        if (r < 0)
                return r;
        r = layer_open(index, f->blob, p->store, p->cache, &p->layer, err);
        if (r < 0)
                return r;
        const struct index *ix = layer_index(p->layer);
        for (uint32_t i = 0; r == 0 && i < index_info(ix)->entries; i++) {
                struct index_entry e;
                struct buf path;
                index_entry(ix, i, &e);
                buf_init(&path, TAR_PATH_MAX);
                buf_add(&path, e.dir, e.dir_len);
                if (e.dir_len)
                        buf_addc(&path, '/');
                buf_add(&path, e.name, e.name_len);
                r = buf_error(&path);
                if (r == 0 && !e.sparse)
                        r = add_member(f, buf_str(&path), path.len, e.type, e.link, e.link_len, e.uoff, e.size);
                buf_done(&path);
        }
        return r < 0 ? error_set(err, r, "archive: %s", strerror(-r)) : 0;
}

/* ---- members ---- */

struct packed_blob {
        struct blob blob;
        struct packed *packed;
        uint64_t uoff;
};

static int packed_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        struct packed_blob *pb = (struct packed_blob *)b;
        return layer_read(pb->packed->layer, data, len, pb->uoff + off, err);
}

static void packed_free(struct blob *b)
{
        struct packed_blob *pb = (struct packed_blob *)b;
        packed_unref(pb->packed);
        free(pb);
}

static int open_packed(struct packed *p, const struct member *m, struct blob **ret_blob, struct error *err)
{
        static const struct blob_ops ops = {.read = packed_read, .free = packed_free};
        struct packed_blob *pb = calloc(1, sizeof *pb);
        if (!pb)
                return error_nomem(err);
        blob_init(&pb->blob, &ops, m->size);
        pb->blob.local = true;
        atomic_fetch_add(&p->refs, 1);
        pb->packed = p;
        pb->uoff = m->uoff;
        *ret_blob = &pb->blob;
        return 0;
}

static int open_member(struct files *files, const char *path, struct blob **ret_blob, struct error *err)
{
        struct files_tar *f = (struct files_tar *)files;
        char clean[TAR_PATH_MAX + 1];
        size_t len = strlen(path);
        if (len > TAR_PATH_MAX)
                return error_set(err, -ENOENT, "%.80s...: no such file in the archive", path);
        len = tar_clean_path(path, len, clean);
        const char *name = clean;
        for (int links = 0; links <= LINKS_MAX; links++) {
                const uint64_t *value = map_find(&f->names, name, len);
                if (!value)
                        return error_set(err, -ENOENT, "%s: no such file in the archive", path);
                const struct member *m = (const struct member *)(uintptr_t)*value;
                if (m->type == TAR_REG)
                        return f->packed ? open_packed(f->packed, m, ret_blob, err)
                                         : blob_new_window(f->blob, m->uoff, m->size, ret_blob, err);
                if (!m->link)
                        return error_set(err, -EINVAL, "%s: not a file in the archive", path);
                name = m->link;
                len = strlen(name);
        }
        return error_set(err, -ELOOP, "%s: too many links in the archive", path);
}

static void close_files(struct files *files)
{
        struct files_tar *f = (struct files_tar *)files;
        blob_unref(f->blob);
        packed_unref(f->packed);
        map_done(&f->names);
        arena_done(&f->arena);
        free(f);
}

int files_open_tar(struct blob *blob, struct files **ret_files, struct error *err)
{
        uint8_t head[DECODE_SNIFF];
        enum compression compression;
        ssize_t n = blob_read(blob, head, sizeof head, 0, err);
        if (n < 0)
                return (int)n;
        int r = decode_sniff(head, (size_t)n, &compression, err);
        if (r < 0)
                return r;
        struct files_tar *f = calloc(1, sizeof *f);
        if (!f)
                return error_nomem(err);
        f->files = (struct files){.open = open_member, .close = close_files};
        f->blob = blob_ref(blob);
        arena_init(&f->arena);
        map_init(&f->names);
        r = compression == COMPRESSION_NONE ? walk_plain(f, err) : scan_packed(f, err);
        if (r < 0) {
                close_files(&f->files);
                return r;
        }
        *ret_files = &f->files;
        return 0;
}
