/* Asking a tree: look-ups, listings, attributes, paths; made by the merge from layers in layers.h's language. */
#include <errno.h>
#include <sys/stat.h>
#include <time.h>

#include "blob/store.h"
#include "layers.h"
#include "layer/layer.h"

TEST(lookup_finds_each_name_and_nothing_else)
{
        struct index_builder *b = index_builder_new();
        char text[64];
        for (int i = 0; i < 20000; i++) {
                snprintf(text, sizeof text, "f d%d/n%d", i % 7, i);
                layers_entry(b, text);
        }
        const struct index *ix = layers_finish(b);
        struct tree *t;
        CHECK_INT(tree_merge_indexes(&ix, 1, false, &t, NULL), 0);
        for (int i = 0; i < 20000; i++) {
                char dir[16], name[16];
                snprintf(dir, sizeof dir, "d%d", i % 7);
                snprintf(name, sizeof name, "n%d", i);
                uint32_t d = tree_lookup(t, TREE_ROOT, dir, strlen(dir));
                uint32_t f = tree_lookup(t, d, name, strlen(name));
                CHECK(d && f);
                CHECK_INT(t->inodes[f].content, i);
                CHECK_INT(tree_lookup(t, f, name, strlen(name)), 0);
                CHECK_INT(tree_lookup(t, d, dir, strlen(dir)), 0);
                CHECK_INT(tree_lookup(t, tree_lookup(t, TREE_ROOT, "d0", 2), name, strlen(name)), i % 7 ? 0 : f);
        }
        CHECK_INT(tree_lookup(t, TREE_ROOT, "", 0), 0);
        CHECK_INT(tree_lookup(t, TREE_ROOT, ".", 1), 0);
        CHECK_INT(tree_lookup(t, TREE_ROOT, text, 4000), 0);
        tree_free(t);
        index_free((struct index *)ix);
}

TEST(valid_numbers)
{
        struct layers *l = MERGE("d a; f a/b; h c>a/b");
        CHECK(!tree_valid(l->tree, 0));
        CHECK(tree_valid(l->tree, 1));
        CHECK(tree_valid(l->tree, 3));
        CHECK(!tree_valid(l->tree, 4));
        CHECK(!tree_valid(l->tree, UINT64_C(0x100000001)));
        layers_free(l);
}

TEST(attributes_of_each_type)
{
        struct layers *l =
                MERGE("f f m=04755 u=4294967294 g=7 t=-6.500000000 n=1025; d d m=01777; s s>target m=0644 u=1;"
                      "c c r=300,70000 m=0620; b b r=8,1; p p m=0622");
        struct tree_attr a = layers_attr(l, "f");
        CHECK_INT(a.mode, S_IFREG | 04755);
        CHECK_INT(a.uid, 4294967294);
        CHECK_INT(a.gid, 7);
        CHECK_INT(a.mtime_s, -6);
        CHECK_INT(a.mtime_ns, 500000000);
        CHECK_INT(a.size, 1025);
        CHECK_INT(a.blocks, 3);
        CHECK_INT(a.nlink, 1);
        a = layers_attr(l, "d");
        CHECK_INT(a.mode, S_IFDIR | 01777);
        CHECK_INT(a.size, 4096);
        CHECK_INT(a.nlink, 2);
        a = layers_attr(l, "s");
        CHECK_INT(a.mode, S_IFLNK | 0777);
        CHECK_INT(a.size, 6);
        CHECK_INT(a.uid, 1);
        a = layers_attr(l, "c");
        CHECK_INT(a.mode, S_IFCHR | 0620);
        CHECK_INT(a.rdev_major, 300);
        CHECK_INT(a.rdev_minor, 70000);
        a = layers_attr(l, "b");
        CHECK_INT(a.mode, S_IFBLK | 0644);
        CHECK_INT(a.rdev_major, 8);
        a = layers_attr(l, "p");
        CHECK_INT(a.mode, S_IFIFO | 0622);
        CHECK_INT(a.size, 0);
        CHECK_INT(layers_attr(l, "").nlink, 3);
        CHECK_INT(tree_stats(l->tree)->bytes, 1025);
        CHECK_INT(tree_stats(l->tree)->inodes, 7);
        CHECK_STR(tree_symlink(l->tree, layers_ino(l, "s")), "target");
        CHECK(!tree_symlink(l->tree, layers_ino(l, "f")));
        layers_free(l);
}

TEST(blocks_leave_out_holes)
{
        struct tar_extent extents[] = {
                {.file_off = 0, .uoff = 512, .len = 512}, {.file_off = 900000, .uoff = 1024, .len = 1}};
        struct tar_entry e = {.path = "sparse",
                .path_len = 6,
                .size = 1000000,
                .sparse = true,
                .extents = extents,
                .extent_count = 2};
        struct tar_entry hole = {.path = "hole", .path_len = 4, .size = 1000000, .sparse = true};
        struct index_builder *b = index_builder_new();
        CHECK_INT(index_builder_entry(b, &e, NULL), 0);
        CHECK_INT(index_builder_entry(b, &hole, NULL), 0);
        const struct index *ix = layers_finish(b);
        struct tree *t;
        struct tree_attr a;
        CHECK_INT(tree_merge_indexes(&ix, 1, false, &t, NULL), 0);
        tree_attr(t, tree_lookup(t, TREE_ROOT, "sparse", 6), &a);
        CHECK_INT(a.size, 1000000);
        CHECK_INT(a.blocks, 2);
        tree_attr(t, tree_lookup(t, TREE_ROOT, "hole", 4), &a);
        CHECK_INT(a.size, 1000000);
        CHECK_INT(a.blocks, 0);
        tree_free(t);
        index_free((struct index *)ix);
}

TEST(extended_attributes)
{
        struct tar_xattr xattrs[] = {{"user.b", "x\0y", 3}, {"user.a", "", 0}};
        struct tar_entry e = {.path = "f", .path_len = 1, .xattrs = xattrs, .xattr_count = 2};
        struct index_builder *b = index_builder_new();
        CHECK_INT(index_builder_entry(b, &e, NULL), 0);
        const struct index *ix = layers_finish(b);
        struct tree *t;
        struct index_xattr x;
        CHECK_INT(tree_merge_indexes(&ix, 1, false, &t, NULL), 0);
        CHECK_INT(tree_xattr_count(t, 2), 2);
        CHECK_INT(tree_xattr_count(t, TREE_ROOT), 0);
        tree_xattr(t, 2, 0, &x);
        CHECK_STR(x.name, "user.b");
        CHECK_INT(x.value_len, 3);
        CHECK_MEM(x.value, "x\0y", 3);
        tree_xattr(t, 2, 1, &x);
        CHECK_STR(x.name, "user.a");
        CHECK_INT(x.value_len, 0);
        tree_free(t);
        index_free((struct index *)ix);
}

TEST(parents)
{
        struct layers *l = MERGE("d a; d a/b; f a/b/c");
        CHECK_INT(tree_parent(l->tree, TREE_ROOT), TREE_ROOT);
        CHECK_INT(tree_parent(l->tree, layers_ino(l, "a")), TREE_ROOT);
        CHECK_INT(tree_parent(l->tree, layers_ino(l, "a/b")), layers_ino(l, "a"));
        layers_free(l);
}

TEST(numbers_are_the_same_each_time)
{
        /* the seeds of the hash tables differ, the numbers do not */
        struct layers *first = MERGE("d b; f b/y; f b/x; d a; f a/q; f z", "f a/w; h b/h>z; d c; f .wh.b; f b/n");
        for (int i = 0; i < 5; i++) {
                struct layers *l = MERGE("d b; f b/y; f b/x; d a; f a/q; f z", "f a/w; h b/h>z; d c; f .wh.b; f b/n");
                static const char *const paths[] = {"", "a", "b", "c", "z", "a/q", "a/w", "b/h", "b/n"};
                CHECK_INT(tree_stats(l->tree)->inodes, tree_stats(first->tree)->inodes);
                for (size_t k = 0; k < ARRAY_LEN(paths); k++)
                        CHECK_INT(layers_ino(l, paths[k]), layers_ino(first, paths[k]));
                layers_free(l);
        }
        layers_free(first);
}

static void resolves(const struct layers *l, const char *path, bool follow, const char *same_as)
{
        uint32_t got = 0;
        int r = tree_resolve(l->tree, path, follow, &got);
        if (r < 0 || got != layers_ino(l, same_as))
                CHECK_FAIL("%s: %d, inode %u, not that of %s", path, r, got, same_as);
}

static void fails(const struct layers *l, const char *path, bool follow, int code)
{
        uint32_t got = 77;
        int r = tree_resolve(l->tree, path, follow, &got);
        if (r != code || got != 77)
                CHECK_FAIL("%s: %d, not %d", path, r, code);
}

TEST(resolve_like_a_chroot)
{
        struct layers *l = MERGE(
                "d etc; f etc/passwd; s etc/link>passwd; s abs>/etc/passwd; s up>../../../etc; s dir>etc/;"
                "s dangling>no/where; s loop>loop; s a>b; s b>a; s file>etc/passwd/; d usr; d usr/bin; s bin>usr/bin;"
                "f usr/bin/sh; s usr/bin/x>../../etc/./link");
        resolves(l, "", true, "/");
        resolves(l, "/", true, "/");
        resolves(l, "/../..//.", true, "/");
        resolves(l, "etc/passwd", false, "etc/passwd");
        resolves(l, "//etc/./../etc//passwd", true, "etc/passwd");
        resolves(l, "etc/link", true, "etc/passwd");
        resolves(l, "abs", true, "etc/passwd");
        resolves(l, "up/passwd", true, "etc/passwd");
        resolves(l, "dir/link", true, "etc/passwd");
        resolves(l, "dir", true, "etc");
        resolves(l, "up/", false, "etc");
        resolves(l, "up/.", false, "etc");
        resolves(l, "up/..", false, "/");
        resolves(l, "bin/..", false, "usr"); /* the target's parent, not the link's */
        resolves(l, "bin/x", true, "etc/passwd");
        resolves(l, "bin/sh", true, "usr/bin/sh");
        CHECK_STR(tree_symlink(l->tree, layers_ino(l, "abs")), "/etc/passwd");

        fails(l, "no", true, -ENOENT);
        fails(l, "no/x", true, -ENOENT);
        fails(l, "dangling", true, -ENOENT);
        fails(l, "dangling/..", true, -ENOENT);
        fails(l, "etc/passwd/", true, -ENOTDIR);
        fails(l, "etc/passwd/.", true, -ENOTDIR);
        fails(l, "etc/passwd/x", true, -ENOTDIR);
        fails(l, "etc/passwd/..", true, -ENOTDIR);
        fails(l, "abs/x", true, -ENOTDIR);
        fails(l, "file", true, -ENOTDIR);
        fails(l, "loop", true, -ELOOP);
        fails(l, "a/x", true, -ELOOP);
        resolves(l, "loop", false, "loop");
        layers_free(l);
}

TEST(long_names_resolve_to_nothing)
{
        struct layers *l = MERGE("f a");
        char name[5000];
        memset(name, 'a', sizeof name);
        name[sizeof name - 1] = '\0';
        fails(l, name, true, -ENOENT);
        layers_free(l);
}

TEST(memory_is_small)
{
        struct index_builder *b = index_builder_new();
        char text[64];
        for (int i = 0; i < 50000; i++) {
                snprintf(text, sizeof text, "f d%d/%d", i / 100, i % 100);
                layers_entry(b, text);
        }
        const struct index *ix = layers_finish(b);
        struct tree *t;
        CHECK_INT(tree_merge_indexes(&ix, 1, false, &t, NULL), 0);
        CHECK(tree_stats(t)->memory_bytes < 40 * tree_stats(t)->inodes);
        tree_free(t);
        index_free((struct index *)ix);
}

TEST(tree_of_layers_reads_their_files)
{
        struct error err;
        cleanup(store_closep) struct store *store = store_new_null();
        cleanup(span_cache_freep) struct span_cache *cache = span_cache_new(1 << 20, NULL);
        struct layer *layers[2];
        CHECK(store && cache);
        CHECK_INT(layer_open(layers_index("f a n=0; f b n=100"), NULL, store, cache, &layers[0], &err), 0);
        CHECK_INT(layer_open(layers_index("d d; h d/a>a"), NULL, store, cache, &layers[1], &err), 0);
        struct tree *t;
        CHECK_INT(tree_merge(layers, 2, false, &t, &err), 0);
        CHECK_INT(tree_layer_count(t), 2);
        CHECK(tree_get_layer(t, 1) == layers[1]);
        layer_unref(layers[0]); /* the tree keeps them */
        layer_unref(layers[1]);

        char data[10];
        uint32_t ino;
        CHECK_INT(tree_resolve(t, "d/a", false, &ino), 0);
        CHECK_INT(tree_read(t, ino, data, sizeof data, 0, &err), 0);
        CHECK_INT(tree_resolve(t, "b", false, &ino), 0);
        CHECK(tree_read(t, ino, data, sizeof data, 0, &err) < 0); /* there is no blob behind it */
        CHECK_INT(tree_read(t, ino, data, sizeof data, 100, &err), 0);
        CHECK_INT(tree_resolve(t, "d", false, &ino), 0);
        CHECK_INT(tree_read(t, ino, data, sizeof data, 0, &err), -EINVAL);
        tree_free(t);
}

/* BENCH=1: how long a large merge takes, and how large it is; processor time; asserts nothing about it */
static double seconds(void)
{
        struct timespec now;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static const struct index *bench_layer(unsigned layer)
{
        struct index_builder *b = index_builder_new();
        char text[128];
        for (unsigned d = 0; d < 10000; d++) {
                /* one directory in ten is there in the layer below too, and loses a file; names repeat as they do in real trees */
                unsigned id = layer * 9000 + d;
                snprintf(text, sizeof text, "d usr/share/pkg%u/v%u", id % 997, id);
                layers_entry(b, text);
                for (unsigned f = 0; f < 11; f++) {
                        snprintf(text, sizeof text, "f usr/share/pkg%u/v%u/file_%u.py n=%u", id % 997, id,
                                (id * 7 + f * 31) % 50000, f);
                        layers_entry(b, text);
                }
        }
        return layers_finish(b);
}

TEST(bench)
{
        if (!getenv("BENCH"))
                return;
        const struct index *indexes[10];
        for (unsigned i = 0; i < 10; i++)
                indexes[i] = bench_layer(i);
        for (int round = 0; round < 3; round++) {
                struct tree *t;
                double start = seconds();
                CHECK_INT(tree_merge_indexes(indexes, 10, false, &t, NULL), 0);
                double merged = seconds();
                const struct tree_stats *s = tree_stats(t);
                uint64_t found = 0;
                for (uint32_t ino = 1; ino <= s->inodes; ino++)
                        for (uint32_t i = 0; i < tree_dir_count(t, ino); i++) {
                                struct tree_dirent d;
                                tree_dir_entry(t, ino, i, &d);
                                found += tree_lookup(t, ino, d.name, d.name_len) == d.ino;
                        }
                double looked = seconds();
                CHECK_INT(found, s->names);
                for (uint32_t ino = 1; ino <= s->inodes; ino++) {
                        struct tree_attr a;
                        tree_attr(t, ino, &a);
                        found += a.nlink;
                }
                printf("%" PRIu64 " inodes: merge %.3f s, %.1f bytes an inode, look-up %.0f ns, attributes %.0f ns\n",
                        s->inodes, merged - start, (double)s->memory_bytes / (double)s->inodes,
                        (looked - merged) * 1e9 / (double)s->names, (seconds() - looked) * 1e9 / (double)s->inodes);
                tree_free(t);
        }
        for (unsigned i = 0; i < 10; i++)
                index_free((struct index *)indexes[i]);
}
