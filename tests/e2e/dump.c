/*
 * What an image shows, without a mount, for tests that compare thousands of images: references come on stdin, one a line;
 * for each, a line of JSON for every name, in no order, and a last one that says {"end":true} or {"error":...,"code":...}.
 *
 * Strings are bytes: what is not printable ASCII is written as \u00XX. The fields are those of `oracle.py walk`, and ino,
 * nlink and layer. Content is hashed unless a file is larger than the first argument says (bytes; default 64 MiB).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "image/image.h"

enum { PIECE = 1 << 20, LINE_MAX_BYTES = 8192 };

static uint64_t hash_max = 64 << 20;
static uint8_t piece[PIECE];

static void print_string(const void *bytes, size_t len)
{
        const unsigned char *s = bytes;
        putchar('"');
        for (size_t i = 0; i < len; i++) {
                unsigned char c = s[i];
                if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
                        printf("\\u%04x", c);
                else
                        putchar(c);
        }
        putchar('"');
}

static void print_content(const struct tree *t, uint32_t ino, uint64_t size)
{
        cleanup(digest_ctx_freep) struct digest_ctx *ctx = digest_ctx_new(DIGEST_SHA256);
        struct error err;
        uint64_t off = 0;
        ssize_t n = 1;
        if (size > hash_max || !ctx) {
                printf(",\"sha256\":null");
                return;
        }
        while ((n = tree_read(t, ino, piece, PIECE, off, &err)) > 0) {
                digest_ctx_update(ctx, piece, (size_t)n);
                off += (uint64_t)n;
        }
        struct digest d;
        char text[DIGEST_MAX_TEXT];
        digest_ctx_final(ctx, &d);
        if (n < 0)
                printf(",\"sha256\":\"errno %zd\"", -n);
        else if (off != size)
                printf(",\"sha256\":\"short\"");
        else
                printf(",\"sha256\":\"%s\"", digest_hex(&d, text));
}

static void print_xattrs(const struct tree *t, uint32_t ino)
{
        uint32_t count = tree_xattr_count(t, ino);
        for (uint32_t i = 0; i < count; i++) {
                struct index_xattr x;
                tree_xattr(t, ino, i, &x);
                printf(i ? "," : ",\"xattrs\":{");
                print_string(x.name, strlen(x.name));
                putchar(':');
                print_string(x.value, x.value_len);
        }
        if (count)
                putchar('}');
}

static const char *type_name(mode_t mode)
{
        static const struct {
                mode_t type;
                const char *name;
        } names[] = {{S_IFREG, "reg"}, {S_IFDIR, "dir"}, {S_IFLNK, "lnk"}, {S_IFCHR, "chr"}, {S_IFBLK, "blk"},
                {S_IFIFO, "fifo"}};
        const char *name = "?";
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (names[i].type == (mode & S_IFMT))
                        name = names[i].name;
        return name;
}

static void print_inode(const struct tree *t, uint32_t ino, const char *path, size_t len)
{
        struct tree_attr a;
        tree_attr(t, ino, &a);
        printf("{\"path\":");
        print_string(path, len);
        printf(",\"type\":\"%s\",\"mode\":\"%04o\",\"uid\":%u,\"gid\":%u,\"mtime\":[%" PRId64
               ",%u],\"ino\":%u,\"nlink\":%u"
               ",\"layer\":%d",
                type_name(a.mode), a.mode & 07777u, a.uid, a.gid, a.mtime_s, a.mtime_ns, ino, a.nlink,
                tree_layer(t, ino));
        if (S_ISREG(a.mode)) {
                printf(",\"size\":%" PRIu64 ",\"blocks\":%" PRIu64, a.size, a.blocks);
                print_content(t, ino, a.size);
        }
        if (S_ISLNK(a.mode)) {
                const char *target = tree_symlink(t, ino);
                printf(",\"target\":");
                print_string(target, strlen(target));
        }
        if (S_ISCHR(a.mode) || S_ISBLK(a.mode))
                printf(",\"rdev\":[%u,%u]", a.rdev_major, a.rdev_minor);
        print_xattrs(t, ino);
        printf("}\n");
}

/* path is grown in place: its deepest name ends below TREE_DEPTH_MAX * 256 bytes */
static void walk(const struct tree *t, uint32_t dir, char *path, size_t len)
{
        for (uint32_t i = 0; i < tree_dir_count(t, dir); i++) {
                struct tree_dirent d;
                tree_dir_entry(t, dir, i, &d);
                size_t n = len;
                if (n)
                        path[n++] = '/';
                memcpy(path + n, d.name, d.name_len);
                n += d.name_len;
                print_inode(t, d.ino, path, n);
                if (tree_lookup(t, dir, d.name, d.name_len) != d.ino)
                        printf("{\"path\":\"?\",\"type\":\"not found by look-up\"}\n");
                walk(t, d.ino, path, n);
        }
}

static void dump(const char *reference, char *path)
{
        struct image_options options = {.cache_dir = "none", .memory = 8 << 20};
        cleanup(image_closep) struct image *im = NULL;
        struct error err = {0};
        if (image_open(reference, &options, &im, &err) < 0) {
                printf("{\"error\":");
                print_string(err.msg, strlen(err.msg));
                printf(",\"code\":%d}\n", -err.code);
                return;
        }
        const struct tree *t = image_tree(im);
        print_inode(t, TREE_ROOT, ".", 1);
        walk(t, TREE_ROOT, path, 0);
        const struct tree_stats *s = tree_stats(t);
        printf("{\"end\":true,\"names\":%" PRIu64 ",\"inodes\":%" PRIu64 "}\n", s->names, s->inodes);
}

int main(int argc, char **argv)
{
        char line[LINE_MAX_BYTES];
        cleanup(freep) char *path = malloc((size_t)TREE_DEPTH_MAX * 256 + 256);
        if (argc > 1)
                hash_max = strtoull(argv[1], NULL, 10);
        while (path && fgets(line, sizeof line, stdin)) {
                line[strcspn(line, "\n")] = '\0';
                dump(line, path);
                fflush(stdout);
        }
        return path ? 0 : 1;
}
