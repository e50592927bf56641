#pragma once
/**
 * A tree that is being merged: nodes, and edges that name them in directories; private to tree/. One thread at a time.
 *
 * Nodes, edges and names are numbers; 0 is none. They are never used again, so that to remove an edge is enough to remove
 * all that only it leads to: what the root reaches in the end becomes the tree.
 *
 * The first failure (out of memory, a ceiling) stays in draft.code and draft.err; the functions that make something then
 * give 0.
 */
#include "tree/tree_internal.h"

enum { DRAFT_ROOT = 1 };

struct node {
        uint32_t content, attr; /* as in struct tree_inode */
        union {
                struct {
                        uint32_t first, last; /* edges in it, oldest first, chained by edge.next; removed ones linger */
                        uint32_t parent;      /* node */
                } dir;
                struct {
                        uint32_t xattr; /* as in struct tree_inode */
                } file;
        };
        uint32_t number;      /* in the end: its inode. Before: free for the merge's use */
        uint32_t type : 3;    /* enum tar_type */
        uint32_t depth : 13;  /* directories above a directory */
        uint32_t hidden : 16; /* nothing of layers below this one is in the directory */
};

struct edge {
        uint32_t dir, node; /* nodes; node 0: removed */
        uint32_t name;      /* in text */
        uint32_t next;      /* edge in the same directory */
        uint32_t chain;     /* edge in the same bucket */
        uint32_t stamp;     /* layer */
};

/* distinct names: each has one place in text, so that names are compared by place */
struct names {
        uint8_t *text;
        size_t len, room;
        struct {
                uint32_t hash, text; /* text 0: free */
        } * slots;
        size_t count, slot_count;
};

struct draft {
        int code; /* the first failure */
        struct error *err;
        struct node *nodes;
        struct edge *edges;
        uint32_t node_count, node_room, edge_count, edge_room;
        uint32_t *buckets;     /* heads of edge chains, by directory and name */
        uint32_t bucket_count; /* a power of two */
        uint32_t live;         /* edges in the buckets */
        struct names names;
        uint64_t seed;       /* of both hash tables, random */
        uint64_t generation; /* another one when an edge to a directory or symlink goes: paths may lead elsewhere */
};

/** A draft of an empty root, with room for this many entries before anything has to move. 0 or -ENOMEM. */
int draft_init(struct draft *d, uint32_t entries, struct error *err);
void draft_done(struct draft *d);

/** Records that a ceiling was passed, or that memory ran out, unless something failed before. Give 0. */
uint32_t draft_fail(struct draft *d, int code, const char *what, uint64_t max);
uint32_t draft_fail_memory(struct draft *d);

/** The number of a name, 0 if it was never seen; draft_name() makes one then. */
uint32_t draft_find_name(const struct draft *d, const char *name, size_t len);
uint32_t draft_name(struct draft *d, const char *name, size_t len);

/** A node without a name yet. */
uint32_t draft_node(struct draft *d, enum tar_type type, uint32_t content);

/** The edge of a name (0 is allowed) in a directory, or 0. */
uint32_t draft_find_edge(const struct draft *d, uint32_t dir, uint32_t name);

/** Puts a node into a directory under a name that is free there, behind the others. */
uint32_t draft_edge(struct draft *d, uint32_t dir, uint32_t name, uint32_t node, unsigned stamp);

/** Removes a name, and with it all that only it leads to. */
void draft_remove(struct draft *d, uint32_t edge);

/** Numbers and packs what the root reaches into a tree that has its indexes already, and counts it in its statistics.
 *  The draft is only good for draft_done() then. 0 or -ENOMEM. */
int draft_freeze(struct draft *d, struct tree *t);
