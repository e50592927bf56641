#pragma once
/**
 * What a tree is made of, for tree.c, which asks it, and merge.c, which builds it; and the walk along a path with
 * symlinks in it that both do. Immutable once built, like the tree.
 *
 * Entries of all layers are counted through, bottom layer first: entry i of layer n has the number bases[n] + i. An inode
 * keeps such numbers, not attributes; attributes are decoded from the mapped indexes when they are asked for.
 */
#include "tree/tree.h"

#define TREE_NO_ENTRY UINT32_MAX

enum {
        TREE_SYMLINKS_MAX = 40,          /* followed in one path, as in the kernel */
        TREE_NAMES_MAX = (1 << 28) - 16, /* so that nlink has room in its bits */
        TREE_NAME_BYTES_MAX = 255,       /* of one name: its length is a byte */
};

struct tree_inode {
        uint32_t
                content; /* entry that says what it is: type, size, data, target. Directory: TREE_NO_ENTRY if implied */
        uint32_t attr; /* entry that gives mode, owner and time (the last hard link's). Implied directory: only time */
        uint32_t nlink : 28; /* as in struct tree_attr */
        uint32_t type : 4;   /* enum tar_type, never TAR_HARDLINK */
        union {
                struct {
                        uint32_t parent; /* inode */
                        uint32_t first;  /* its names are names[first ... first + count - 1] */
                        uint32_t count;
                } dir;
                struct {
                        uint32_t xattr; /* the last entry of it that had extended attributes, or attr */
                } file;
        };
};

struct tree_name {
        uint32_t text; /* where its bytes are in tree.text, behind a byte with their number */
        uint32_t ino;
};

struct tree {
        struct tree_inode *inodes; /* [0] is unused */
        struct tree_name *names;   /* directory after directory */
        uint8_t *text;             /* every distinct name once */
        uint32_t *slots;           /* hash table of (directory, name): an index into names plus 1, 0 is free */
        uint64_t slot_count;
        uint64_t seed; /* of that table, random */

        struct layer **layers; /* referenced; NULL when made of indexes alone */
        const struct index **indexes;
        uint32_t *bases; /* layer_count + 1 of them: number of each layer's first entry, and of all */
        size_t layer_count;
        struct tree_stats stats;
};

/** tree_merge() without layers: the indexes must outlive the tree, and files cannot be read. */
int tree_merge_indexes(
        const struct index *const *indexes, size_t count, bool plain, struct tree **ret_tree, struct error *err);

/** Decodes the entry with this number. Returns its layer. */
unsigned tree_entry(const struct tree *t, uint32_t entry, struct index_entry *ret_entry);

/** Makes the hash table of a tree that is complete otherwise. 0 or -ENOMEM. */
int tree_hash_names(struct tree *t);

/** A path under way. The targets of symlinks lie on a stack, on top of what is left of the path that they are in. */
struct tree_path {
        unsigned pushed; /* symlinks so far */
        unsigned depth;  /* parts in use */
        struct {
                const char *at, *end;
        } part[TREE_SYMLINKS_MAX + 1];
};

/** Begins with a path; it is borrowed, like the targets. */
void tree_path_init(struct tree_path *p, const char *path, size_t len);

/** Goes on with the target of a symlink. false: one too many. */
bool tree_path_push(struct tree_path *p, const char *target, size_t len);

/** The next component, never "" or "."; ".." is the caller's. false at the end. */
bool tree_path_next(struct tree_path *p, const char **ret_name, size_t *ret_len);

/** Does anything follow, if only a slash? */
bool tree_path_more(const struct tree_path *p);
