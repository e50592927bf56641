/*
 * Bytes become layers whose names are few, so that they collide: all types, whiteouts, opaque marks, AUFS leftovers, symlinks
 * up, down and in circles, hard links. The tree that they give must hold together:
 *
 *   - each directory's names are distinct, each is found by look-up and by path, and leads to a valid inode;
 *   - each inode but the root is reached; a directory by one name, from its parent; nlink is what counting gives;
 *   - merged again, it is the same, numbers included;
 *   - where symlinks and hard links cannot make the order matter, whiteouts at the front or the end of their layers give the
 *     same tree.
 *
 * An entry is three bytes and what its type asks for; byte 0 ends the layer if it is 0xff.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "layer/index.h"
#include "tree/tree_internal.h"

#define REQUIRE(condition)                                                                                             \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
                        abort();                                                                                       \
                }                                                                                                      \
        } while (0)

enum { LAYERS = 8, ENTRIES = 256 };

struct input {
        const uint8_t *at, *end;
};

static unsigned byte(struct input *in)
{
        return in->at < in->end ? *in->at++ : 0;
}

struct entry {
        enum tar_type type;
        char path[96], link[96];
        unsigned layer, attributes;
};

static struct entry entries[ENTRIES];
static unsigned entry_count, layer_count;

/* up to four components; nine names need not be equally likely */
static void make_path(struct input *in, char *path, bool last_may_be_whiteout)
{
        static const char *const names[16] = {"a", "b", "c", "a", "b", "s", "t", "dir", "a", "b", "c", "d", "e",
                ".wh.q", ".wh..wh.plnk", ".wh..wh..opq"};
        static const char *const whiteouts[16] = {".wh.a", ".wh.b", ".wh.c", ".wh.s", ".wh.t", ".wh.dir",
                ".wh..wh..opq", ".wh..wh..opq", ".wh..wh..opq", ".wh.", ".wh..", ".wh...", ".wh..wh.x", ".wh.d",
                ".wh.a", ".wh.b"};
        unsigned shape = byte(in), components = shape & 3, bits = byte(in) | byte(in) << 8;
        path[0] = '\0';
        for (unsigned i = 0; i < components; i++, bits >>= 4) {
                strcat(path, names[bits & 15]);
                strcat(path, "/");
        }
        strcat(path, last_may_be_whiteout && (shape & 0xc0) == 0xc0 ? whiteouts[bits & 15] : names[bits % 13]);
        if (shape == 0x3c)
                path[0] = '\0'; /* the root */
}

static void make_symlink(struct input *in, char *link)
{
        static const char *const prefixes[8] = {"", "/", "../", "../../", "./", "a/../", "/..//", "no/such/../"};
        strcpy(link, prefixes[byte(in) & 7]);
        make_path(in, link + strlen(link), false);
        if (!*link)
                strcpy(link, ".");
}

static void parse(struct input *in)
{
        static const enum tar_type types[16] = {TAR_REG, TAR_REG, TAR_REG, TAR_REG, TAR_DIR, TAR_DIR, TAR_DIR, TAR_DIR,
                TAR_SYMLINK, TAR_SYMLINK, TAR_SYMLINK, TAR_HARDLINK, TAR_HARDLINK, TAR_HARDLINK, TAR_CHR, TAR_FIFO};
        entry_count = layer_count = 0;
        while (in->at < in->end && entry_count < ENTRIES) {
                unsigned op = byte(in);
                if (op == 0xff) {
                        if (++layer_count == LAYERS)
                                return;
                        continue;
                }
                struct entry *e = &entries[entry_count++];
                *e = (struct entry){.type = types[op & 15], .layer = layer_count, .attributes = op >> 4};
                make_path(in, e->path, true);
                if (e->type == TAR_HARDLINK)
                        make_path(in, e->link, false);
                else if (e->type == TAR_SYMLINK)
                        make_symlink(in, e->link);
        }
        layer_count++;
}

/* ---- layers ---- */

/* uid: the number of the entry, by which it is known in whatever order */
static void add_entry(struct index_builder *b, const struct entry *from)
{
        struct tar_xattr xattr = {"user.x", "v", 1};
        struct tar_entry e = {
                .type = from->type,
                .path = from->path,
                .path_len = strlen(from->path),
                .mode = 0600 | from->attributes,
                .uid = (uint32_t)(from - entries),
                .mtime_s = (int64_t)from->attributes - 8,
                .xattrs = &xattr,
                .xattr_count = from->attributes & 1,
                .rdev_major = from->attributes & 2,
        };
        if (e.type == TAR_SYMLINK || e.type == TAR_HARDLINK) {
                e.link = from->link;
                e.link_len = strlen(from->link);
        }
        REQUIRE(index_builder_entry(b, &e, NULL) == 0);
}

static bool is_whiteout(const struct entry *e)
{
        const char *slash = strrchr(e->path, '/'), *name = slash ? slash + 1 : e->path;
        return !strncmp(name, ".wh.", 4) && strncmp(name, ".wh..wh.", 8) != 0;
}

enum order { AS_IT_IS, WHITEOUTS_FIRST, WHITEOUTS_LAST };

static struct index *make_index(unsigned layer, enum order order)
{
        static const uint8_t hash[SHA256_BYTES];
        struct index_info info = {
                .digest.alg = DIGEST_SHA256, .diff_id.alg = DIGEST_SHA256, .tar_size = 512, .blob_size = 512};
        struct index_builder *b = index_builder_new();
        REQUIRE(b);
        for (unsigned pass = 0; pass < 2; pass++)
                for (unsigned i = 0; i < entry_count; i++) {
                        bool first = order == AS_IT_IS || is_whiteout(&entries[i]) == (order == WHITEOUTS_FIRST);
                        if (entries[i].layer == layer && first == (pass == 0))
                                add_entry(b, &entries[i]);
                }
        struct decode_point point = {0};
        uint8_t *data;
        size_t len;
        struct index *ix;
        REQUIRE(index_builder_span(b, 0, &point, NULL) == 0 && index_builder_chunk(b, 0, 512, hash, NULL) == 0);
        REQUIRE(index_builder_finish(b, &info, &data, &len, NULL) == 0);
        index_builder_free(b);
        REQUIRE(index_open_memory(data, len, NULL, &ix, NULL) == 0);
        return ix;
}

struct merged {
        const struct index *indexes[LAYERS];
        struct tree *tree;
};

static void merge(struct merged *m, enum order order, bool plain)
{
        for (unsigned i = 0; i < layer_count; i++)
                m->indexes[i] = make_index(i, order);
        REQUIRE(tree_merge_indexes(m->indexes, layer_count, plain, &m->tree, NULL) == 0);
}

static void merged_free(struct merged *m)
{
        tree_free(m->tree);
        for (unsigned i = 0; i < layer_count; i++)
                index_free((struct index *)m->indexes[i]);
}

/* ---- does it hold together? ---- */

static void check_directory(const struct tree *t, uint32_t dir, uint32_t *links, bool plain)
{
        for (uint32_t i = 0; i < tree_dir_count(t, dir); i++) {
                struct tree_dirent d;
                struct tree_attr a;
                tree_dir_entry(t, dir, i, &d);
                REQUIRE(tree_valid(t, d.ino) && d.ino != TREE_ROOT);
                REQUIRE(tree_lookup(t, dir, d.name, d.name_len) == d.ino);
                for (uint32_t k = 0; k < i; k++) {
                        struct tree_dirent other;
                        tree_dir_entry(t, dir, k, &other);
                        REQUIRE(other.name_len != d.name_len || memcmp(other.name, d.name, d.name_len));
                }
                REQUIRE(plain || d.name_len < 8 || memcmp(d.name, ".wh..wh.", 8));
                tree_attr(t, d.ino, &a);
                if (S_ISDIR(a.mode)) {
                        REQUIRE(tree_parent(t, d.ino) == dir && d.ino > dir && !links[d.ino]);
                        links[d.ino] = 2;
                        links[dir]++;
                } else {
                        links[d.ino]++;
                }
                REQUIRE(plain || !S_ISCHR(a.mode) || a.rdev_major || a.rdev_minor);
                REQUIRE(S_ISLNK(a.mode) == (tree_symlink(t, d.ino) != NULL));
                uint32_t again;
                const char *target = tree_symlink(t, d.ino);
                REQUIRE(!target || strlen(target) == a.size);
                int r = target ? tree_resolve(t, target, true, &again) : 0;
                REQUIRE(r == 0 || r == -ENOENT || r == -ENOTDIR || r == -ELOOP);
        }
}

static void check_paths(const struct tree *t)
{
        for (unsigned i = 0; i < entry_count; i++) {
                uint32_t ino;
                if (tree_resolve(t, entries[i].path, false, &ino) == 0)
                        REQUIRE(tree_valid(t, ino));
        }
}

static void check_tree(const struct tree *t, bool plain)
{
        const struct tree_stats *s = tree_stats(t);
        uint32_t *links = calloc(s->inodes + 1, sizeof *links);
        REQUIRE(links);
        links[TREE_ROOT] = 2;
        REQUIRE(tree_parent(t, TREE_ROOT) == TREE_ROOT);
        uint64_t names = 0;
        for (uint32_t ino = 1; ino <= s->inodes; ino++) {
                check_directory(t, ino, links, plain);
                names += tree_dir_count(t, ino);
                for (uint32_t i = 0; i < tree_xattr_count(t, ino); i++) {
                        struct index_xattr x;
                        tree_xattr(t, ino, i, &x);
                        REQUIRE(!strcmp(x.name, "user.x"));
                }
        }
        for (uint32_t ino = 1; ino <= s->inodes; ino++) {
                struct tree_attr a;
                tree_attr(t, ino, &a);
                REQUIRE(links[ino] && a.nlink == links[ino]);
                REQUIRE(tree_layer(t, ino) < (int)layer_count && (tree_layer(t, ino) >= 0 || S_ISDIR(a.mode)));
        }
        REQUIRE(names == s->names);
        check_paths(t);
        free(links);
}

/* the same names, and behind each the same entries, whatever their numbers; numbers too if `exact` */
static void check_same(const struct tree *t, const struct tree *other, uint32_t ino, uint32_t other_ino, bool exact)
{
        struct tree_attr a, b;
        tree_attr(t, ino, &a);
        tree_attr(other, other_ino, &b);
        REQUIRE(a.mode == b.mode && a.uid == b.uid && a.nlink == b.nlink && a.mtime_s == b.mtime_s);
        REQUIRE(tree_layer(t, ino) == tree_layer(other, other_ino));
        REQUIRE(tree_xattr_count(t, ino) == tree_xattr_count(other, other_ino));
        REQUIRE(tree_dir_count(t, ino) == tree_dir_count(other, other_ino));
        REQUIRE(!exact || ino == other_ino);
        for (uint32_t i = 0; i < tree_dir_count(t, ino); i++) {
                struct tree_dirent d, e;
                tree_dir_entry(t, ino, i, &d);
                uint32_t found = tree_lookup(other, other_ino, d.name, d.name_len);
                REQUIRE(found);
                if (exact) {
                        tree_dir_entry(other, other_ino, i, &e);
                        REQUIRE(e.ino == found && e.name_len == d.name_len && !memcmp(e.name, d.name, d.name_len));
                }
                check_same(t, other, d.ino, found, exact);
        }
}

/* symlinks only in the bottom layer, which has no whiteouts to speak of; no hard links */
static bool order_is_free(void)
{
        for (unsigned i = 0; i < entry_count; i++)
                if (entries[i].type == TAR_HARDLINK || (entries[i].type == TAR_SYMLINK && entries[i].layer) ||
                        (is_whiteout(&entries[i]) && !entries[i].layer))
                        return false;
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct input in = {data, data + size};
        parse(&in);
        struct merged m, again, plain;
        merge(&m, AS_IT_IS, false);
        check_tree(m.tree, false);
        merge(&again, AS_IT_IS, false);
        check_same(m.tree, again.tree, TREE_ROOT, TREE_ROOT, true);
        merge(&plain, AS_IT_IS, true);
        check_tree(plain.tree, true);
        if (order_is_free()) {
                struct merged first, last;
                merge(&first, WHITEOUTS_FIRST, false);
                merge(&last, WHITEOUTS_LAST, false);
                check_same(m.tree, first.tree, TREE_ROOT, TREE_ROOT, false);
                check_same(m.tree, last.tree, TREE_ROOT, TREE_ROOT, false);
                merged_free(&first);
                merged_free(&last);
        }
        merged_free(&plain);
        merged_free(&again);
        merged_free(&m);
        return 0;
}
