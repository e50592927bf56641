#pragma once
/**
 * Layers out of one line of text each, and a tree back into one line, so that a test of the merge is two or three strings.
 *
 *   entries are separated by ';':  d DIR   f FILE   s LINK>TARGET   h LINK>TARGET   c DEVICE   b DEVICE   p FIFO
 *   and followed, after a blank, by any of:  m=0644  u=UID  g=GID  t=SECONDS  n=SIZE  r=MAJOR,MINOR  x=NAME:VALUE
 *   "d ." is the root. What a test does not say is mode 0644 (0755 for directories) and 0.
 *
 *   the tree, in the order of a walk:  DIR/@LAYER  (@-: implied)   FILE@LAYER.ENTRY   LINK>TARGET   each with *N if it has
 *   N > 1 names.  ENTRY is the number of the entry in the layer that made the file.
 */
#include <stdarg.h>

#include "base/buf.h"
#include "check.h"
#include "layer/index.h"
#include "tree/tree_internal.h"

enum { LAYERS_TAR_SIZE = 1 << 20 };

static inline void layers_word(struct tar_entry *e, struct tar_xattr *xattr, char *word)
{
        char *value = word + 2, *end;
        CHECK(word[0] && word[1] == '=');
        switch (word[0]) {
        case 'm': e->mode = (uint16_t)strtoul(value, NULL, 8); break;
        case 'u': e->uid = (uint32_t)strtoul(value, NULL, 10); break;
        case 'g': e->gid = (uint32_t)strtoul(value, NULL, 10); break;
        case 't':
                e->mtime_s = strtoll(value, &end, 10);
                if (*end == '.')
                        e->mtime_ns = (uint32_t)strtoul(end + 1, NULL, 10);
                break;
        case 'n': e->size = strtoull(value, NULL, 10); break;
        case 'r':
                e->rdev_major = (uint32_t)strtoul(value, &end, 10);
                e->rdev_minor = (uint32_t)strtoul(end + 1, NULL, 10);
                break;
        case 'x':
                end = strchr(value, ':');
                CHECK(end);
                *end = '\0';
                *xattr = (struct tar_xattr){.name = value, .value = end + 1, .value_len = (uint32_t)strlen(end + 1)};
                e->xattrs = xattr;
                e->xattr_count = 1;
                break;
        default: CHECK_FAIL("what is %s?", word);
        }
}

static inline void layers_entry(struct index_builder *b, char *text)
{
        static const char letters[] = {'f', 'd', 's', 'h', 'c', 'b', 'p'};
        struct tar_entry e = {.mode = 0644};
        struct tar_xattr xattr;
        text += strspn(text, " ");
        if (!*text)
                return;
        const char *letter = memchr(letters, text[0], sizeof letters);
        CHECK(letter && text[1] == ' ');
        e.type = (enum tar_type)(letter - letters);
        if (e.type == TAR_DIR)
                e.mode = 0755;
        char *rest = text + 2, *word = strsep(&rest, " ");
        for (char *more; (more = strsep(&rest, " "));)
                if (*more)
                        layers_word(&e, &xattr, more);
        char *target = e.type == TAR_SYMLINK || e.type == TAR_HARDLINK ? strchr(word, '>') : NULL;
        if (target) {
                *target++ = '\0';
                e.link = target;
                e.link_len = strlen(target);
        }
        e.path = strcmp(word, ".") == 0 ? "" : word;
        e.path_len = strlen(e.path);
        struct error err;
        CHECK_INT(index_builder_entry(b, &e, &err), 0);
}

static inline struct index *layers_finish(struct index_builder *b)
{
        static const uint8_t hash[SHA256_BYTES];
        struct index_info info = {
                .digest.alg = DIGEST_SHA256,
                .diff_id.alg = DIGEST_SHA256,
                .tar_size = LAYERS_TAR_SIZE,
                .blob_size = LAYERS_TAR_SIZE,
        };
        struct decode_point point = {0};
        struct error err;
        uint8_t *data;
        size_t len;
        struct index *ix = NULL;
        CHECK_INT(index_builder_span(b, 0, &point, &err), 0);
        CHECK_INT(index_builder_chunk(b, 0, LAYERS_TAR_SIZE, hash, &err), 0);
        CHECK_INT(index_builder_finish(b, &info, &data, &len, &err), 0);
        int r = index_open_memory(data, len, NULL, &ix, &err);
        if (r < 0)
                CHECK_FAIL("index: %s", err.msg);
        index_builder_free(b);
        return ix;
}

static inline struct index *layers_index(const char *entries)
{
        struct index_builder *b = index_builder_new();
        char *copy = strdup(entries), *rest = copy;
        CHECK(b && copy);
        for (char *entry; (entry = strsep(&rest, ";"));)
                layers_entry(b, entry);
        free(copy);
        return layers_finish(b);
}

/* a tree and the indexes that it lies on */
struct layers {
        const struct index *indexes[TREE_LAYERS_MAX];
        size_t count;
        struct tree *tree;
        struct error err;
        int code;
};

static inline void layers_free(struct layers *l)
{
        tree_free(l->tree);
        for (size_t i = 0; i < l->count; i++)
                index_free((struct index *)l->indexes[i]);
        free(l);
}

/* entries: ended by NULL */
static inline struct layers *layers_merge(bool plain, const char *const *entries)
{
        struct layers *l = calloc(1, sizeof *l);
        CHECK(l);
        for (; entries[l->count]; l->count++)
                l->indexes[l->count] = layers_index(entries[l->count]);
        l->code = tree_merge_indexes(l->indexes, l->count, plain, &l->tree, &l->err);
        return l;
}

static inline void layers_show_inode(const struct tree *t, uint32_t ino, struct buf *out)
{
        const struct tree_inode *n = &t->inodes[ino];
        struct index_entry e;
        if (n->type == TAR_DIR && tree_layer(t, ino) < 0)
                buf_adds(out, "/@-");
        else if (n->type == TAR_DIR)
                buf_addf(out, "/@%d", tree_layer(t, ino));
        else if (n->type == TAR_SYMLINK)
                buf_addf(out, ">%s", tree_symlink(t, ino));
        else
                buf_addf(out, "@%d.%u", tree_layer(t, ino), n->content - t->bases[tree_entry(t, n->content, &e)]);
        if (n->type != TAR_DIR && n->nlink > 1)
                buf_addf(out, "*%u", (unsigned)n->nlink);
}

static inline void layers_show(const struct tree *t, uint32_t dir, const char *prefix, struct buf *out)
{
        for (uint32_t i = 0; i < tree_dir_count(t, dir); i++) {
                struct tree_dirent d;
                tree_dir_entry(t, dir, i, &d);
                char path[4200];
                snprintf(path, sizeof path, "%s%.*s", prefix, (int)d.name_len, d.name);
                buf_addf(out, "%s%s", out->len ? " " : "", path);
                layers_show_inode(t, d.ino, out);
                strcat(path, "/");
                if (t->inodes[d.ino].type == TAR_DIR)
                        layers_show(t, d.ino, path, out);
        }
}

static inline void layers_expect(const char *file, int line, bool plain, const char *want, const char *const *entries)
{
        struct layers *l = layers_merge(plain, entries);
        struct buf got;
        buf_init(&got, 1 << 20);
        if (l->code < 0)
                buf_addf(&got, "%s", l->err.msg);
        else
                layers_show(l->tree, TREE_ROOT, "", &got);
        if (strcmp(buf_str(&got), want) != 0) {
                fprintf(stderr, "%s:%d:\n  got  %s\n  want %s\n", file, line, buf_str(&got), want);
                exit(1);
        }
        buf_done(&got);
        layers_free(l);
}

/** EXPECT("the tree", "layer 0", "layer 1", ...) */
#define EXPECT(want, ...)       layers_expect(__FILE__, __LINE__, false, want, (const char *const[]){__VA_ARGS__, NULL})
#define EXPECT_PLAIN(want, ...) layers_expect(__FILE__, __LINE__, true, want, (const char *const[]){__VA_ARGS__, NULL})
#define MERGE(...)              layers_merge(false, (const char *const[]){__VA_ARGS__, NULL})

static inline uint32_t layers_ino(const struct layers *l, const char *path)
{
        uint32_t ino;
        CHECK_INT(l->code, 0);
        int r = tree_resolve(l->tree, path, false, &ino);
        if (r < 0)
                CHECK_FAIL("%s: %s", path, strerror(-r));
        return ino;
}

static inline struct tree_attr layers_attr(const struct layers *l, const char *path)
{
        struct tree_attr a;
        tree_attr(l->tree, layers_ino(l, path), &a);
        return a;
}
