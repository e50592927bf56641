/*
 * How: three arrays. Inodes (24 bytes) stand in the order in which merge.c numbered them: a directory's children next to
 * each other. Names (8 bytes) stand directory after directory, so that listing is an array access. One hash table over
 * (directory, name), two thirds full, answers look-ups; its slots are indexes into the names, and a hit is checked against
 * the range of names that the directory has, so that the table need not hold the directory.
 *
 *   inodes   [ - | root | etc | usr | bin | passwd | ... ]
 *                   |first, count
 *   names    [ etc usr | passwd group | bin lib ... ]        text+inode each
 *   text     [ \3etc \3usr \6passwd ... ]                    distinct names, each once
 *
 * Why not keep attributes: they are in the mapped indexes already, and a stat decodes one entry in less time than the
 * kernel takes to ask. What would be pages of private memory stays page cache that every process shares.
 */
#include "tree/tree.h"

#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

#include "base/map.h"
#include "tree/tree_internal.h"

static const struct tree_inode *get(const struct tree *t, uint32_t ino)
{
        assert(tree_valid(t, ino));
        return &t->inodes[ino];
}

void tree_free(struct tree *t)
{
        if (!t)
                return;
        for (size_t i = 0; t->layers && i < t->layer_count; i++)
                layer_unref(t->layers[i]);
        free(t->layers);
        free(t->indexes);
        free(t->bases);
        free(t->inodes);
        free(t->names);
        free(t->text);
        free(t->slots);
        free(t);
}

unsigned tree_entry(const struct tree *t, uint32_t entry, struct index_entry *ret_entry)
{
        size_t low = 0, high = t->layer_count; /* bases[low] <= entry < bases[high] */
        assert(entry < t->bases[high]);
        while (high - low > 1) {
                size_t middle = low + (high - low) / 2;
                if (t->bases[middle] <= entry)
                        low = middle;
                else
                        high = middle;
        }
        index_entry(t->indexes[low], entry - t->bases[low], ret_entry);
        return (unsigned)low;
}

/* ---- names ---- */

static uint64_t slot_of(const struct tree *t, uint32_t dir, const void *name, size_t len)
{
        uint64_t hash = map_hash(t->seed + dir * 0x9e3779b97f4a7c15u, name, len);
        return mul_high(hash, t->slot_count);
}

int tree_hash_names(struct tree *t)
{
        t->seed = map_seed();
        t->slot_count = t->stats.names + t->stats.names / 2 + 1;
        t->slots = calloc(t->slot_count, sizeof *t->slots);
        if (!t->slots)
                return -ENOMEM;
        for (uint32_t dir = TREE_ROOT; dir <= t->stats.inodes; dir++) {
                const struct tree_inode *d = &t->inodes[dir];
                for (uint32_t i = 0; d->type == TAR_DIR && i < d->dir.count; i++) {
                        const uint8_t *text = &t->text[t->names[d->dir.first + i].text];
                        uint64_t slot = slot_of(t, dir, text + 1, text[0]);
                        while (t->slots[slot])
                                slot = slot + 1 < t->slot_count ? slot + 1 : 0;
                        t->slots[slot] = d->dir.first + i + 1;
                }
        }
        t->stats.memory_bytes += sizeof *t + t->slot_count * sizeof *t->slots;
        return 0;
}

uint32_t tree_lookup(const struct tree *t, uint32_t dir, const char *name, size_t name_len)
{
        const struct tree_inode *d = get(t, dir);
        if (d->type != TAR_DIR || !d->dir.count || !name_len || name_len > TREE_NAME_BYTES_MAX)
                return 0;
        for (uint64_t slot = slot_of(t, dir, name, name_len); t->slots[slot];) {
                uint32_t at = t->slots[slot] - 1;
                const uint8_t *text = &t->text[t->names[at].text];
                if (at - d->dir.first < d->dir.count && text[0] == name_len && !memcmp(text + 1, name, name_len))
                        return t->names[at].ino;
                slot = slot + 1 < t->slot_count ? slot + 1 : 0;
        }
        return 0;
}

bool tree_valid(const struct tree *t, uint64_t ino)
{
        return ino >= TREE_ROOT && ino <= t->stats.inodes;
}

uint32_t tree_parent(const struct tree *t, uint32_t ino)
{
        const struct tree_inode *d = get(t, ino);
        return d->type == TAR_DIR ? d->dir.parent : 0;
}

uint32_t tree_dir_count(const struct tree *t, uint32_t ino)
{
        const struct tree_inode *d = get(t, ino);
        return d->type == TAR_DIR ? d->dir.count : 0;
}

void tree_dir_entry(const struct tree *t, uint32_t ino, uint32_t i, struct tree_dirent *ret_dirent)
{
        const struct tree_inode *d = get(t, ino);
        assert(d->type == TAR_DIR && i < d->dir.count);
        const struct tree_name *n = &t->names[d->dir.first + i];
        *ret_dirent = (struct tree_dirent){
                .name = (const char *)&t->text[n->text + 1],
                .name_len = t->text[n->text],
                .ino = n->ino,
        };
}

/* ---- attributes ---- */

static mode_t type_bits(enum tar_type type)
{
        switch (type) {
        case TAR_DIR: return S_IFDIR;
        case TAR_SYMLINK: return S_IFLNK;
        case TAR_CHR: return S_IFCHR;
        case TAR_BLK: return S_IFBLK;
        case TAR_FIFO: return S_IFIFO;
        default: return S_IFREG;
        }
}

/* bytes that are in the archive, not the holes */
static uint64_t stored_bytes(const struct index *ix, const struct index_entry *e)
{
        if (!e->sparse)
                return e->size;
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < e->extent_count; i++) {
                struct tar_extent x;
                index_extent(ix, e->extents, i, &x);
                bytes += x.len;
        }
        return bytes;
}

static void content_attr(const struct tree *t, const struct tree_inode *n, struct tree_attr *attr)
{
        struct index_entry e;
        unsigned layer = tree_entry(t, n->content, &e);
        if (n->type == TAR_REG) {
                uint64_t stored = stored_bytes(t->indexes[layer], &e);
                attr->size = e.size;
                attr->blocks = stored / 512 + (stored % 512 != 0);
        } else if (n->type == TAR_SYMLINK) {
                attr->size = e.link_len;
        } else if (n->type == TAR_CHR || n->type == TAR_BLK) {
                attr->rdev_major = e.rdev_major;
                attr->rdev_minor = e.rdev_minor;
        }
}

void tree_attr(const struct tree *t, uint32_t ino, struct tree_attr *ret_attr)
{
        const struct tree_inode *n = get(t, ino);
        *ret_attr = (struct tree_attr){.nlink = n->nlink, .mode = type_bits(n->type)};
        if (n->type == TAR_DIR) {
                ret_attr->size = 4096;
                ret_attr->blocks = 8;
        } else {
                content_attr(t, n, ret_attr);
        }

        struct index_entry e = {.mode = 0755};
        if (n->attr != TREE_NO_ENTRY)
                tree_entry(t, n->attr, &e);
        ret_attr->mtime_s = e.mtime_s;
        ret_attr->mtime_ns = e.mtime_ns;
        if (n->content == TREE_NO_ENTRY)
                e.mode = 0755; /* the entry only lends its time */
        else {
                ret_attr->uid = e.uid;
                ret_attr->gid = e.gid;
        }
        ret_attr->mode |= n->type == TAR_SYMLINK ? 0777 : e.mode & 07777;
}

const char *tree_symlink(const struct tree *t, uint32_t ino)
{
        const struct tree_inode *n = get(t, ino);
        if (n->type != TAR_SYMLINK)
                return NULL;
        struct index_entry e;
        tree_entry(t, n->content, &e);
        return e.link;
}

/* the entry with its extended attributes; a directory's are its own entry's */
static const struct index *xattr_entry(const struct tree *t, uint32_t ino, struct index_entry *ret_entry)
{
        const struct tree_inode *n = get(t, ino);
        uint32_t entry = n->type == TAR_DIR ? n->content : n->file.xattr;
        if (entry == TREE_NO_ENTRY)
                return NULL;
        return t->indexes[tree_entry(t, entry, ret_entry)];
}

uint32_t tree_xattr_count(const struct tree *t, uint32_t ino)
{
        struct index_entry e;
        return xattr_entry(t, ino, &e) ? e.xattr_count : 0;
}

void tree_xattr(const struct tree *t, uint32_t ino, uint32_t i, struct index_xattr *ret_xattr)
{
        struct index_entry e;
        const struct index *ix = xattr_entry(t, ino, &e);
        assert(ix && i < e.xattr_count);
        index_xattr(ix, e.xattrs, i, ret_xattr);
}

int tree_layer(const struct tree *t, uint32_t ino)
{
        struct index_entry e;
        const struct tree_inode *n = get(t, ino);
        return n->content == TREE_NO_ENTRY ? -1 : (int)tree_entry(t, n->content, &e);
}

struct layer *tree_get_layer(const struct tree *t, unsigned i)
{
        return t->layers && i < t->layer_count ? t->layers[i] : NULL;
}

size_t tree_layer_count(const struct tree *t)
{
        return t->layer_count;
}

const struct tree_stats *tree_stats(const struct tree *t)
{
        return &t->stats;
}

ssize_t tree_read(const struct tree *t, uint32_t ino, void *data, size_t len, uint64_t off, struct error *err)
{
        const struct tree_inode *n = get(t, ino);
        if (n->type != TAR_REG)
                return error_set(err, -EINVAL, "not a regular file");
        struct index_entry e;
        unsigned layer = tree_entry(t, n->content, &e);
        struct layer *l = tree_get_layer(t, layer);
        if (!l)
                return error_set(err, -EIO, "the tree has no layers to read from");
        return layer_read_file(l, &e, data, len, off, err);
}

/* ---- paths ---- */

void tree_path_init(struct tree_path *p, const char *path, size_t len)
{
        p->pushed = 0;
        p->depth = 1;
        p->part[0].at = path;
        p->part[0].end = path + len;
}

bool tree_path_push(struct tree_path *p, const char *target, size_t len)
{
        if (p->pushed == TREE_SYMLINKS_MAX)
                return false;
        p->pushed++;
        p->part[p->depth].at = target;
        p->part[p->depth].end = target + len;
        p->depth++;
        return true;
}

bool tree_path_next(struct tree_path *p, const char **ret_name, size_t *ret_len)
{
        while (p->depth) {
                const char **at = &p->part[p->depth - 1].at, *end = p->part[p->depth - 1].end;
                while (*at < end && **at == '/')
                        ++*at;
                if (*at == end) {
                        p->depth--;
                        continue;
                }
                const char *name = *at, *slash = memchr(name, '/', (size_t)(end - name));
                *at = slash ? slash : end;
                if (*at - name == 1 && *name == '.')
                        continue;
                *ret_name = name;
                *ret_len = (size_t)(*at - name);
                return true;
        }
        return false;
}

bool tree_path_more(const struct tree_path *p)
{
        for (unsigned i = 0; i < p->depth; i++)
                if (p->part[i].at < p->part[i].end)
                        return true;
        return false;
}

int tree_resolve(const struct tree *t, const char *path, bool follow_last, uint32_t *ret_ino)
{
        struct tree_path p;
        tree_path_init(&p, path, strlen(path));
        const char *name;
        size_t len;
        uint32_t ino = TREE_ROOT;
        while (tree_path_next(&p, &name, &len)) {
                bool more = tree_path_more(&p);
                if (len == 2 && !memcmp(name, "..", 2)) {
                        ino = tree_parent(t, ino);
                        continue;
                }
                uint32_t child = tree_lookup(t, ino, name, len);
                if (!child)
                        return -ENOENT;
                const char *target = more || follow_last ? tree_symlink(t, child) : NULL;
                if (target) {
                        size_t target_len = strlen(target);
                        if (!tree_path_push(&p, target, target_len))
                                return -ELOOP;
                        if (!target_len)
                                return -ENOENT;
                        if (target[0] == '/')
                                ino = TREE_ROOT;
                        continue;
                }
                if (more && t->inodes[child].type != TAR_DIR)
                        return -ENOTDIR;
                ino = child;
        }
        *ret_ino = ino;
        return 0;
}
