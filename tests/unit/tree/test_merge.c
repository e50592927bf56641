/* One test for each rule of the merge, named after it; the tiny language is in layers.h. */
#include <errno.h>
#include <sys/stat.h>

#include "layers.h"

/* ---- whiteouts ---- */

TEST(whiteout_hides_lower)
{
        EXPECT("d/@0 d/keep@0.2", "d d; f d/gone; f d/keep; d sub; f sub/x", "f d/.wh.gone; f .wh.sub");
}

TEST(whiteout_of_any_type_counts_by_name)
{
        EXPECT("", "f a; f b; f c; f d", "d .wh.a; s .wh.b>x; h .wh.c>b; c .wh.d r=1,3");
}

TEST(whiteout_then_same_name_in_layer)
{
        EXPECT("f@1.1", "f f", "f .wh.f; f f");
}

TEST(same_name_then_whiteout_in_layer)
{
        EXPECT("f@1.0", "f f", "f f; f .wh.f");
}

TEST(whiteout_and_directory_is_opaque)
{
        EXPECT("d/@1 d/new@1.2", "d d; f d/old; d d/sub; f d/sub/x", "f .wh.d; d d; f d/new");
        EXPECT("d/@1 d/new@1.1", "d d; f d/old; d d/sub; f d/sub/x", "d d; f d/new; f .wh.d");
}

TEST(whiteout_and_implied_directory_is_opaque)
{
        EXPECT("d/@- d/new@1.1", "d d m=0700; f d/old; d d/sub; f d/sub/x", "f .wh.d; f d/new");
        EXPECT("d/@- d/new@1.0", "d d m=0700; f d/old; d d/sub; f d/sub/x", "f d/new; f .wh.d");
}

TEST(whiteout_of_directory_reaches_into_its_implied_directories)
{
        EXPECT("d/@- d/s/@- d/s/n@1.0", "d d; d d/s m=0700; f d/s/old; f d/old", "f d/s/n; f .wh.d");
        EXPECT("d/@- d/s/@- d/s/n@1.1", "d d; d d/s m=0700; f d/s/old; f d/old", "f .wh.d; f d/s/n");
}

TEST(whiteout_of_missing_path_creates_nothing)
{
        EXPECT("a@0.0 z@1.3", "f a", "f .wh.no; f no/dir/.wh.x; f a/.wh.x; f z");
}

TEST(whiteout_and_a_whiteout_inside)
{
        EXPECT("", "d foo; f foo/bar; f foo/x", "f .wh.foo; f foo/.wh.bar");
        EXPECT("", "d foo; f foo/bar; f foo/x", "f foo/.wh.bar; f .wh.foo");
}

TEST(whiteout_inside_opaque_directory_is_ignored)
{
        EXPECT("d/@0 d/n@1.2", "d d; f d/x", "f d/.wh..wh..opq; f d/.wh.x; f d/n");
}

TEST(whiteout_two_layers_down)
{
        EXPECT("x@2.0", "f x; f y", "f .wh.x; f .wh.y", "f x");
        EXPECT("a/@0 a/b/@0", "d a; d a/b; f a/b/c", "", "f a/b/.wh.c");
}

TEST(odd_whiteouts_are_ignored_and_counted)
{
        struct layers *l = MERGE("f a; f wh", "f .wh.; f .wh..; f .wh...; f d/.wh.");
        CHECK_INT(tree_stats(l->tree)->odd_whiteouts, 4);
        CHECK_INT(tree_stats(l->tree)->names, 2);
        layers_free(l);
        EXPECT("", "f ...x; f a", "f .wh....x; f .wh.a");
}

TEST(prefix_counts_in_the_last_component_only)
{
        EXPECT("q@0.0 .wh.q/@- .wh.q/x@1.0", "f q", "f .wh.q/x");
        EXPECT("a.wh.b@0.0 .whx@0.1 .wh@0.2", "f a.wh.b; f .whx; f .wh", "");
}

TEST(aufs_metadata_is_skipped)
{
        struct layers *l =
                MERGE("f a", "f .wh..wh.aufs; d .wh..wh.plnk; f .wh..wh.plnk/1.2; f d/.wh..wh.x/y/z; d .wh..wh.orph");
        CHECK_INT(tree_stats(l->tree)->names, 1);
        CHECK_INT(tree_stats(l->tree)->odd_whiteouts, 5);
        layers_free(l);
        EXPECT("", "d a", "f .wh..wh..opq/x; f .wh.a");
}

TEST(aufs_hard_links_resolve)
{
        EXPECT("a@0.1*2 b@0.1*2", "d .wh..wh.plnk; f .wh..wh.plnk/12.3; h a>.wh..wh.plnk/12.3; h b>.wh..wh.plnk/12.3");
        EXPECT("", "f .wh..wh.plnk/12.3", "h a>.wh..wh.plnk/12.3");
}

TEST(plain_archive_has_no_whiteouts)
{
        EXPECT_PLAIN("f@0.0 .wh.f@1.0 .wh..wh..opq@1.1 c@1.2", "f f", "f .wh.f; f .wh..wh..opq; c c");
}

/* ---- opaque directories ---- */

TEST(opaque_first_last_or_alone)
{
        EXPECT("d/@0 d/n@1.1", "d d; f d/x; d d/s; f d/s/y", "f d/.wh..wh..opq; f d/n");
        EXPECT("d/@1 d/n@1.1", "d d; f d/x; d d/s; f d/s/y", "d d; f d/n; f d/.wh..wh..opq");
        EXPECT("d/@0", "d d; f d/x; d d/s; f d/s/y", "f d/.wh..wh..opq");
}

TEST(opaque_keeps_the_directory_s_own_attributes)
{
        struct layers *l = MERGE("d d m=0750 u=3; d d/s m=0700", "f d/.wh..wh..opq; f d/s/n");
        CHECK_INT(layers_attr(l, "d").mode, S_IFDIR | 0750);
        CHECK_INT(layers_attr(l, "d").uid, 3);
        CHECK_INT(layers_attr(l, "d/s").mode, S_IFDIR | 0755);
        layers_free(l);
        l = MERGE("d d m=0750; d d/s m=0700", "f d/s/n; f d/s/.wh..wh..opq; f d/.wh..wh..opq");
        CHECK_INT(layers_attr(l, "d").mode, S_IFDIR | 0750);
        CHECK_INT(layers_attr(l, "d/s").mode, S_IFDIR | 0755);
        layers_free(l);
        l = MERGE("d d m=0750; d d/s m=0700", "f d/.wh..wh..opq; f .wh.d");
        CHECK_INT(layers_attr(l, "d").mode, S_IFDIR | 0755);
        layers_free(l);
}

TEST(opaque_above_implied_directories)
{
        EXPECT("a/@0 a/b/@- a/b/c/@- a/b/c/foo@1.0", "d a; d a/b; d a/b/c; f a/b/c/bar; f a/b/x; f a/y",
                "f a/b/c/foo; f a/.wh..wh..opq");
}

TEST(opaque_at_the_root)
{
        EXPECT("only@1.1", "d a; f a/x; f f", "f .wh..wh..opq; f only");
        EXPECT("only@1.0", "d a; f a/x; f f", "f only; f .wh..wh..opq");
}

TEST(opaque_directory_that_is_nowhere_is_made)
{
        EXPECT("a/@- a/d/@-", "", "f a/d/.wh..wh..opq");
        EXPECT("d/@-", "f d", "f d/.wh..wh..opq");
        EXPECT("d/@-", "s d>x", "f d/.wh..wh..opq");
}

TEST(opaque_twice_and_nested)
{
        EXPECT("a/@0 a/b/@1 a/b/n@1.2", "d a; d a/b; f a/b/x; f a/x",
                "f a/b/.wh..wh..opq; d a/b; f a/b/n; f a/.wh..wh..opq; f a/b/.wh..wh..opq");
        EXPECT("a/@0 a/n@1.1 a/m@2.1", "d a; f a/x", "f a/.wh..wh..opq; f a/n", "f a/.wh.x; f a/m");
        EXPECT("a/@0 a/m@2.1", "d a; f a/x", "f a/.wh..wh..opq; f a/n", "f a/.wh..wh..opq; f a/m");
}

/* ---- one thing in the place of another ---- */

TEST(file_over_directory_replaces_it_whole)
{
        EXPECT("a@1.0", "d a; f a/x", "f a");
        EXPECT("a>b", "d a; f a/x", "s a>b");
}

TEST(directory_over_file_starts_empty)
{
        EXPECT("f/@1 f/in@1.1", "f f", "d f; f f/in");
}

TEST(directory_over_lower_symlink_does_not_merge_through)
{
        EXPECT("d/@0 d/x@0.1 l/@1 l/new@1.1", "d d; f d/x; s l>d", "d l; f l/new");
}

TEST(file_directory_file_directory_across_layers)
{
        EXPECT("a/@3 a/z@3.1", "d a; f a/x", "f a", "s a>y", "d a; f a/z");
        EXPECT("a/@2", "d a; f a/x", "f a", "d a");
}

TEST(implied_parent_over_lower_file)
{
        EXPECT("y/@- y/c@1.0", "f y", "f y/c");
}

TEST(implied_parent_over_file_of_the_same_layer)
{
        EXPECT("y/@- y/c@0.1", "f y; f y/c");
}

TEST(directory_in_both_upper_attributes_win)
{
        struct layers *l = MERGE("d d m=0700 u=1 g=2 t=5 x=user.low:1; f d/x", "d d m=0711 u=3 g=4 t=6.7; f d/y");
        struct tree_attr a = layers_attr(l, "d");
        CHECK_INT(a.mode, S_IFDIR | 0711);
        CHECK_INT(a.uid, 3);
        CHECK_INT(a.gid, 4);
        CHECK_INT(a.mtime_s, 6);
        CHECK_INT(a.mtime_ns, 7);
        CHECK_INT(tree_xattr_count(l->tree, layers_ino(l, "d")), 0);
        CHECK_INT(tree_dir_count(l->tree, layers_ino(l, "d")), 2);
        layers_free(l);
}

TEST(implied_directory_inherits_lower_attributes)
{
        struct layers *l = MERGE("d d m=0700 u=1 t=5 x=user.a:b", "f d/y t=99");
        struct tree_attr a = layers_attr(l, "d");
        CHECK_INT(a.mode, S_IFDIR | 0700);
        CHECK_INT(a.uid, 1);
        CHECK_INT(a.mtime_s, 5);
        CHECK_INT(tree_xattr_count(l->tree, layers_ino(l, "d")), 1);
        layers_free(l);
}

TEST(implied_directory_is_0755_root_with_its_newest_child_s_time)
{
        struct layers *l = MERGE("f a/b/x t=7.5 u=9; f a/y t=7.4 m=0600; d a/e t=-3; f n/m t=-8; f n/l t=-7.5");
        struct tree_attr a = layers_attr(l, "a");
        CHECK_INT(a.mode, S_IFDIR | 0755);
        CHECK_INT(a.uid, 0);
        CHECK_INT(a.mtime_s, 7);
        CHECK_INT(a.mtime_ns, 5);
        CHECK_INT(layers_attr(l, "").mtime_ns, 5);
        CHECK_INT(layers_attr(l, "n").mtime_s, -7);
        CHECK_INT(tree_layer(l->tree, layers_ino(l, "a")), -1);
        layers_free(l);
}

TEST(implied_then_explicit_in_the_layer)
{
        struct layers *l = MERGE("f d/x; d d m=0500 u=4");
        CHECK_INT(layers_attr(l, "d").mode, S_IFDIR | 0500);
        CHECK_INT(layers_attr(l, "d").uid, 4);
        CHECK_INT(tree_dir_count(l->tree, layers_ino(l, "d")), 1);
        layers_free(l);
}

TEST(duplicates_last_wins)
{
        EXPECT("x@0.1", "f x m=0600; f x");
        EXPECT("d@0.2", "d d; f d/k; f d");
        EXPECT("e/@0", "f e; d e");
        EXPECT("d/@0", "d d; f d/k; f d; d d");
        EXPECT("s>2", "s s>1; s s>2");
}

TEST(duplicate_directory_keeps_children)
{
        struct layers *l = MERGE("d d m=0700; f d/k; d d m=0711 u=7");
        CHECK_INT(layers_attr(l, "d").mode, S_IFDIR | 0711);
        CHECK_INT(tree_dir_count(l->tree, layers_ino(l, "d")), 1);
        layers_free(l);
}

TEST(root_entry_applies)
{
        struct layers *l = MERGE("d . m=0711 u=1 g=2 t=3 x=user.a:b; f x", "f y");
        struct tree_attr a = layers_attr(l, "");
        CHECK_INT(a.mode, S_IFDIR | 0711);
        CHECK_INT(a.uid, 1);
        CHECK_INT(a.gid, 2);
        CHECK_INT(a.mtime_s, 3);
        CHECK_INT(tree_xattr_count(l->tree, TREE_ROOT), 1);
        layers_free(l);
        l = MERGE("f . m=0600; s .>x; f x");
        CHECK_INT(layers_attr(l, "").mode, S_IFDIR | 0755);
        CHECK_INT(tree_stats(l->tree)->names, 1);
        layers_free(l);
}

TEST(no_layers_is_an_empty_root)
{
        struct layers *l = layers_merge(false, (const char *const[]){NULL});
        CHECK_INT(layers_attr(l, "").mode, S_IFDIR | 0755);
        CHECK_INT(layers_attr(l, "").nlink, 2);
        CHECK_INT(layers_attr(l, "").mtime_s, 0);
        CHECK_INT(tree_stats(l->tree)->inodes, 1);
        layers_free(l);
}

TEST(char_device_0_0_hides_and_is_not_shown)
{
        EXPECT("keep@0.1", "f x; f keep; d d; f d/y", "c x; c d; c new");
        EXPECT("d/@1 d/z@1.2", "d d; f d/y", "c d; d d; f d/z");
        EXPECT("c@0.0 b@0.1", "c c r=1,3; b b r=0,0");
}

/* ---- symlinks on the way ---- */

TEST(parent_is_a_lower_symlink)
{
        EXPECT("real/@0 real/x@0.1 s/@- s/new@1.0", "d real; f real/x; s s>real", "f s/new");
        struct layers *l = MERGE("d real; s s>real; s u>real", "f s/new; f s/b; f u/.wh.x");
        CHECK_INT(tree_stats(l->tree)->replaced_parents, 2);
        layers_free(l);
}

TEST(whiteout_below_a_lower_symlink)
{
        EXPECT("real/@0 real/x@0.1 s/@-", "d real; f real/x; s s>real", "f s/.wh.x");
        EXPECT("real/@0 real/x@0.1", "d real; f real/x; s s>real", "f s/.wh.x; f .wh.s");
        EXPECT("real/@0 real/x@0.1", "d real; f real/x; s s>real", "f .wh.s; f s/.wh.x");
        EXPECT("real/@0 s/@- s/n@1.1", "d real; s s>real", "f s/.wh.x; f s/n; f .wh.s");
}

TEST(parent_is_a_symlink_of_the_same_layer)
{
        EXPECT("usr/@0 usr/lib/@0 usr/lib/foo@0.3 lib>usr/lib", "d usr; d usr/lib; s lib>usr/lib; f lib/foo");
        EXPECT("etc/@0 etc/f@0.2 l>/etc", "d etc; s l>/etc; f l/f");
        EXPECT("etc/@0 etc/f@0.3 d/@0 d/l>/etc", "d etc; d d; s d/l>/etc; f d/l/f");
        EXPECT("a/@- a/l>../../../x x/@- x/f@0.1", "s a/l>../../../x; f a/l/f");
}

TEST(same_layer_symlink_to_what_is_missing)
{
        EXPECT("s>a/b a/@- a/b/@- a/b/f@0.1", "s s>a/b; f s/f");
        EXPECT("s>a/../b a/@- b/@- b/f@0.1", "s s>a/../b; f s/f");
}

TEST(same_layer_symlink_through_a_lower_one)
{
        EXPECT("usr/@0 usr/lib/@0 s>lib lib/@- lib/f@1.1", "d usr; d usr/lib; s lib>usr/lib", "s s>lib; f s/f");
}

TEST(same_layer_symlink_over_a_lower_directory)
{
        EXPECT("t/@0 t/y@0.3 t/n@1.1 d>t", "d d; f d/x; d t; f t/y", "s d>t; f d/n");
}

TEST(whiteout_through_a_symlink_of_the_same_layer)
{
        EXPECT("t/@0 s>t", "d t; f t/y", "s s>t; f s/.wh.y");
        EXPECT("t/@0 t/n@1.1 s>t", "d t; f t/y", "s s>t; f s/n; f s/.wh..wh..opq");
}

TEST(directory_entry_over_symlink_of_the_same_layer)
{
        EXPECT("t/@0 t/a@0.2 s/@0 s/b@0.4", "d t; s s>t; f s/a; d s; f s/b");
}

TEST(loops_of_symlinks)
{
        struct layers *l = MERGE("s a>b; s b>a; f a/x; f ok; h l>a/x");
        CHECK_INT(tree_stats(l->tree)->dropped_loops, 2);
        CHECK_INT(tree_stats(l->tree)->dropped_links, 1);
        CHECK_INT(tree_stats(l->tree)->names, 3);
        layers_free(l);
}

TEST(symlink_to_a_name_that_is_too_long)
{
        char names[700], *at = names;
        at += sprintf(at, "s a>");
        for (int i = 0; i < 300; i++)
                *at++ = 'x';
        strcpy(at, "; f a/b; f ok; h l>a/b; f a/.wh.c");
        struct layers *l = MERGE(names);
        CHECK_INT(l->code, 0);
        CHECK_INT(tree_stats(l->tree)->dropped_loops, 1);
        CHECK_INT(tree_stats(l->tree)->dropped_links, 1);
        CHECK_INT(tree_stats(l->tree)->names, 2);
        layers_free(l);
}

TEST(forty_symlinks_and_no_more)
{
        struct index_builder *b = index_builder_new();
        char text[64];
        for (int i = 1; i <= 41; i++) {
                snprintf(text, sizeof text, "s s%d>s%d", i, i - 1);
                layers_entry(b, text);
        }
        layers_entry(b, strcpy(text, "f s40/deep")); /* 40 links, to s0, which is made */
        layers_entry(b, strcpy(text, "f s41/deeper"));
        const struct index *ix = layers_finish(b);
        struct tree *t;
        CHECK_INT(tree_merge_indexes(&ix, 1, false, &t, NULL), 0);
        CHECK_INT(tree_stats(t)->dropped_loops, 1);
        uint32_t ino;
        CHECK_INT(tree_resolve(t, "s0/deep", true, &ino), 0);
        CHECK_INT(tree_resolve(t, "s40/deep", true, &ino), 0);
        CHECK_INT(tree_resolve(t, "s41/deep", true, &ino), -ELOOP);
        tree_free(t);
        index_free((struct index *)ix);
}

/* ---- hard links ---- */

TEST(hard_link_in_layer_and_across)
{
        EXPECT("f@0.0*3 g@0.0*3 d/@1 d/h@0.0*3", "f f; h g>f", "d d; h d/h>g");
}

TEST(hard_link_before_its_target_is_dropped)
{
        struct layers *l = MERGE("h h>t; f t");
        CHECK_INT(tree_stats(l->tree)->dropped_links, 1);
        CHECK_INT(tree_stats(l->tree)->names, 1);
        layers_free(l);
        EXPECT("t@0.1", "h d/e/h>t; f t"); /* and makes no parents */
}

TEST(hard_link_to_directory_or_root_is_dropped)
{
        struct layers *l = MERGE("d d; h a>d; h b>");
        CHECK_INT(tree_stats(l->tree)->dropped_links, 2);
        CHECK_INT(tree_stats(l->tree)->names, 1);
        layers_free(l);
}

TEST(hard_link_to_itself_changes_nothing)
{
        struct layers *l = MERGE("f f m=0600; h f>f m=0777; s l>.; h f>l/f m=0777");
        CHECK_INT(layers_attr(l, "f").mode, S_IFREG | 0600);
        CHECK_INT(layers_attr(l, "f").nlink, 1);
        layers_free(l);
}

TEST(hard_link_twice_to_the_same_file)
{
        struct layers *l = MERGE("f f m=0600; h g>f m=0640; h g>f m=0777");
        CHECK_INT(layers_attr(l, "f").mode, S_IFREG | 0777);
        CHECK_INT(layers_attr(l, "f").nlink, 2);
        layers_free(l);
}

TEST(hard_link_keeps_content_when_target_is_replaced)
{
        EXPECT("h@0.0 t@0.2", "f t; h h>t; f t");
        EXPECT("h@0.0 t@1.0", "f t; h h>t", "f t");
        EXPECT("h@0.0", "f t; h h>t", "f .wh.t");
        EXPECT("h@0.0", "f t", "h h>t; f .wh.t");
}

TEST(hard_link_to_whited_out_target_is_dropped)
{
        EXPECT("", "f f", "f .wh.f; h h>f");
}

TEST(hard_link_metadata_applies_to_the_shared_inode)
{
        struct layers *l =
                MERGE("f f m=0600 u=1 t=5 n=77 x=user.a:b; h g>f m=0640 u=2 t=6", "h k>f m=0444 u=3 g=4 t=9");
        struct tree_attr a = layers_attr(l, "f");
        CHECK_INT(layers_ino(l, "f"), layers_ino(l, "k"));
        CHECK_INT(a.mode, S_IFREG | 0444);
        CHECK_INT(a.uid, 3);
        CHECK_INT(a.gid, 4);
        CHECK_INT(a.mtime_s, 9);
        CHECK_INT(a.size, 77);
        CHECK_INT(a.nlink, 3);
        CHECK_INT(tree_layer(l->tree, layers_ino(l, "k")), 0);
        CHECK_INT(tree_xattr_count(l->tree, layers_ino(l, "f")), 1); /* a link entry without any takes none away */
        layers_free(l);
        l = MERGE("f f x=user.a:b; h g>f x=user.c:d; h h>g");
        struct index_xattr x;
        CHECK_INT(tree_xattr_count(l->tree, layers_ino(l, "f")), 1);
        tree_xattr(l->tree, layers_ino(l, "f"), 0, &x);
        CHECK_STR(x.name, "user.c");
        layers_free(l);
}

TEST(hard_link_to_a_symlink_is_another_name_of_it)
{
        EXPECT("s>t*2 h>t*2 t@0.2", "s s>t; h h>s; f t");
        struct layers *l = MERGE("s s>t u=1; h h>s u=5");
        CHECK_INT(layers_attr(l, "s").uid, 5);
        CHECK_INT(layers_attr(l, "s").mode, S_IFLNK | 0777);
        layers_free(l);
        l = MERGE("s s>t; h h>s x=user.a:b"); /* which no symlink can have */
        CHECK_INT(tree_xattr_count(l->tree, layers_ino(l, "s")), 0);
        layers_free(l);
}

TEST(hard_link_target_through_symlinks_of_any_layer)
{
        EXPECT("etc/@0 etc/p@0.1*2 l>/etc q@0.1*2", "d etc; f etc/p; s l>/etc", "h q>l/p");
        EXPECT("e/@- e/p@0.0*2 l>no/../e q@0.0*2", "f e/p; s l>no/../e; h q>l/p");
        EXPECT("e/@- e/p@0.0 l>no/e", "f e/p; s l>no/e; h q>l/p");
}

TEST(hard_link_below_its_own_target)
{
        EXPECT("f/@- f/x@0.0", "f f; h f/x>f");
        EXPECT("a@0.1", "d a; f a/n; h a>a/n");
}

TEST(hard_link_over_directory)
{
        EXPECT("n@1.0*2 a@1.0*2", "d a; f a/x", "f n; h a>n");
}

TEST(names_in_removed_directories_do_not_count)
{
        EXPECT("f@0.0", "f f; d d; h d/g>f; h d/k>f", "f .wh.d");
        EXPECT("f@0.0 d@1.0", "f f; d d; d d/e; h d/e/g>f", "f d");
        struct layers *l = MERGE("d d; d d/a; d d/b; d d/b/c", "f d/.wh.b");
        CHECK_INT(layers_attr(l, "d").nlink, 3);
        CHECK_INT(layers_attr(l, "").nlink, 3);
        CHECK_INT(tree_stats(l->tree)->inodes, 3);
        layers_free(l);
}

/* ---- order, limits ---- */

TEST(names_come_in_the_order_of_the_layers)
{
        EXPECT("z@0.0 d/@1 d/q@0.2 d/b@1.2 a@0.3 c@1.1", "f z; d d; f d/q; f a", "d d; f c; f d/b");
        EXPECT("a@0.0 c@0.2 b@1.0", "f a; f b; f c", "f b");
}

/* A layer with a directory `deep` levels down: 2000 of them, then a symlink to the last, because a path alone is not long
 * enough. */
static struct index *deep_layer(int deep)
{
        struct index_builder *b = index_builder_new();
        char text[4200] = "s s>d";
        for (int i = 1; i < 2000; i++)
                strcat(text, "/d");
        layers_entry(b, text);
        strcpy(text, "d s");
        for (int i = 2000; i < deep; i++)
                strcat(text, "/n");
        layers_entry(b, text);
        return layers_finish(b);
}

TEST(depth_has_a_ceiling)
{
        struct error err;
        struct tree *t = NULL;
        const struct index *ix = deep_layer(TREE_DEPTH_MAX);
        CHECK_INT(tree_merge_indexes(&ix, 1, false, &t, &err), 0);
        CHECK_INT(tree_stats(t)->inodes, 1 + 1 + TREE_DEPTH_MAX);
        tree_freep(&t);
        index_free((struct index *)ix);

        ix = deep_layer(TREE_DEPTH_MAX + 1);
        CHECK_INT(tree_merge_indexes(&ix, 1, false, &t, &err), -EFBIG);
        CHECK(strstr(err.msg, "2048"));
        CHECK(!t);
        index_free((struct index *)ix);
}

TEST(too_many_layers)
{
        static const struct index *none[TREE_LAYERS_MAX + 1];
        struct tree *t = NULL;
        struct error err;
        CHECK_INT(tree_merge_indexes(none, TREE_LAYERS_MAX + 1, false, &t, &err), -EFBIG);
        CHECK(strstr(err.msg, "1024"));
        CHECK(!t);
}
