#pragma once
/**
 * The tree: layers merged into one immutable table of inodes. Immutable once built: use from any thread, without locks.
 *
 * Inodes are numbered from 1, the root, in the order of the merge: the same layers give the same numbers always.
 * Number 0 means "none".
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/mem.h"
#include "layer/layer.h"

enum { TREE_ROOT = 1, TREE_LAYERS_MAX = 1024, TREE_INODES_MAX = 64 << 20, TREE_DEPTH_MAX = 2048 };

struct tree;

struct tree_attr {
        mode_t mode;    /* type and permission bits, as in st_mode */
        uint32_t nlink; /* names of a file; 2 + subdirectories of a directory */
        uint32_t uid, gid;
        uint32_t rdev_major, rdev_minor;
        uint64_t size;   /* bytes; a symlink's target length; 4096 for a directory */
        uint64_t blocks; /* of 512 bytes, without holes */
        int64_t mtime_s;
        uint32_t mtime_ns;
};

struct tree_stats {
        uint64_t inodes, names;    /* in all */
        uint64_t bytes;            /* of all regular files, each inode once */
        uint64_t memory_bytes;     /* of the tree itself, without the indexes */
        uint64_t replaced_parents; /* directories that took the place of a lower layer's symlink */
        uint64_t dropped_links;    /* hard links whose target is not there, or is a directory */
        uint64_t dropped_loops;    /* entries below symlinks that lead nowhere: loops, names over 255 bytes */
        uint64_t odd_whiteouts;    /* whiteouts without a name, and AUFS leftovers */
};

/**
 * Merges layers, bottom first (image-spec layer.md; docs/ARCHITECTURE.md says what is done where engines differ). The tree
 * references the layers. A directory that only paths imply is 0755, root's, and as old as its newest child.
 * plain: names that begin with ".wh." are ordinary, character devices 0:0 too (an archive, not a layer).
 * -EFBIG: a ceiling; -ENOMEM.
 */
int tree_merge(struct layer *const *layers, size_t count, bool plain, struct tree **ret_tree, struct error *err);
void tree_free(struct tree *t);
DEFINE_CLEANUP(struct tree, tree_free);

/** The child of a directory by name; 0: not there (also when dir is no directory). */
uint32_t tree_lookup(const struct tree *t, uint32_t dir, const char *name, size_t name_len);

/** Is it an inode of this tree? */
bool tree_valid(const struct tree *t, uint64_t ino);

void tree_attr(const struct tree *t, uint32_t ino, struct tree_attr *ret_attr);

/** The parent of a directory (the root's is the root). */
uint32_t tree_parent(const struct tree *t, uint32_t ino);

/** Target of a symlink: borrowed, NUL-terminated. NULL when it is none. */
const char *tree_symlink(const struct tree *t, uint32_t ino);

struct tree_dirent {
        const char *name; /* borrowed; not NUL-terminated */
        uint32_t name_len;
        uint32_t ino;
};

/** Number of names in a directory, without "." and ".."; 0 for anything else. */
uint32_t tree_dir_count(const struct tree *t, uint32_t ino);

/** The i-th name, in the order in which the layers hold them, so that a walk reads each layer front to back. */
void tree_dir_entry(const struct tree *t, uint32_t ino, uint32_t i, struct tree_dirent *ret_dirent);

/** Extended attributes in the order of the archive. */
uint32_t tree_xattr_count(const struct tree *t, uint32_t ino);
void tree_xattr(const struct tree *t, uint32_t ino, uint32_t i, struct index_xattr *ret_xattr);

/** Reads a regular file: up to len bytes at off, fewer only at its end. The count, or -errno (-EINVAL: no regular file). */
ssize_t tree_read(const struct tree *t, uint32_t ino, void *data, size_t len, uint64_t off, struct error *err);

/** Which layer (0: bottom) an inode's content, or a directory's attributes, came from; -1: implied by a path only. */
int tree_layer(const struct tree *t, uint32_t ino);
struct layer *tree_get_layer(const struct tree *t, unsigned i);
size_t tree_layer_count(const struct tree *t);

/**
 * Resolves a path from the root, as inside a chroot: symlinks in it are followed ("..", absolute targets stay inside; at
 * most 40). follow_last: also if the last component is one. The inode, or -ENOENT, -ENOTDIR, -ELOOP.
 */
int tree_resolve(const struct tree *t, const char *path, bool follow_last, uint32_t *ret_ino);

const struct tree_stats *tree_stats(const struct tree *t);
