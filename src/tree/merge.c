/*
 * Layers -> tree, in place: one growing tree, to which the entries of each layer are applied in their order, bottom layer
 * first. At the end, what can be reached from the root is numbered and packed (freeze).
 *
 * Nodes are files and directories; edges are names in directories. An edge carries the layer that bound its name, or
 * passed through it, last (its stamp). That one number decides the questions that a merge asks:
 *
 *   whiteout of x            stamp < this layer: the name goes. Else it is this layer's own and stays; if it is a
 *                            directory, all below it that has an older stamp goes (hide_lower), so that the order of
 *                            whiteouts and entries in a layer does not matter.
 *   opaque directory         hide_lower on it; it is there from then on, as if an entry had been in it.
 *   entry x                  replaces what is there, except that a directory over a directory only brings attributes.
 *   parent that is not there or no directory
 *                            becomes an implied directory, 0755 root, without a time of its own.
 *   parent that is a symlink is followed when an entry of this layer made it. An older one becomes a directory: engines
 *                            unpack each layer alone, where the link is not to be seen, and that is what their users see.
 *                            A whiteout below it does so too; this directory keeps the link's stamp, for it is not an
 *                            entry: a whiteout of itself still removes it.
 *   hard link                one more edge to the node that the target is at that moment; its metadata become the node's.
 *   character device 0:0     an entry that leaves nothing behind: the whiteout of overlay file systems.
 *
 * Why in place and not a tree a layer: one look-up an entry instead of two, and nothing is built only to be merged.
 *
 * Removing an edge takes it out of the hash table and is done: what lies below can be reached no more, and nodes are never
 * used again. So nothing here recurses, and no entry costs more than its path is long, except hide_lower(), which walks a
 * directory once a layer at most (node.hidden). A hostile layer could still make every path long: hence STEPS_MAX.
 *
 * Implied directories that no layer describes show the time of their newest child, so that mounts are reproducible.
 *
 * A failure (out of memory, a ceiling) is kept in merge.code; functions that give a node or edge then give 0.
 */
#include <errno.h>

#include "base/arena.h"
#include "base/map.h"
#include "tree/tree_internal.h"

enum {
        CACHE_BITS = 13,       /* directories of recent entries */
        STEPS_MAX = 1 << 29,   /* path components walked in a merge: far above what real images take */
        TEXT_MAX = 2047 << 20, /* bytes of distinct names */
};
#define IN_AUFS UINT32_MAX /* instead of a directory: inside of AUFS' own files, which are never shown */

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
        uint32_t number;      /* freeze(): its inode. Before: chain of hide_lower() */
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

struct cached {
        uint64_t generation; /* it holds while this is merge.generation */
        uint32_t dir_id, node;
};

struct merge {
        const struct index *const *indexes;
        const uint32_t *bases;
        bool plain;
        int code; /* the first failure */
        struct error *err;

        struct node *nodes; /* [0] is unused, [1] the root; likewise edges */
        struct edge *edges;
        uint32_t node_count, node_room, edge_count, edge_room;
        uint32_t *buckets;           /* heads of edge chains, by directory and name */
        uint32_t bucket_count, live; /* a power of two; edges in them */
        struct names names;
        uint64_t seed;

        const struct index *ix; /* the layer being applied */
        unsigned layer;
        uint32_t base;   /* number of its first entry */
        struct map plnk; /* its AUFS hard link targets: path to node */
        struct arena plnk_paths;
        struct cached *cache; /* directories that entries of this layer are in */
        uint64_t generation;  /* what the cache knows ends when a directory or symlink goes, or the layer */
        uint64_t steps;

        struct tree_stats stats;
};

static uint32_t fail(struct merge *m, int code, const char *what, uint64_t max)
{
        if (!m->code)
                m->code = error_set(m->err, code, "merging layers: more than %llu %s", (unsigned long long)max, what);
        return 0;
}

static uint32_t fail_memory(struct merge *m)
{
        if (!m->code)
                m->code = error_nomem(m->err);
        return 0;
}

/* room for one more, doubling; untouched pages cost nothing */
static bool reserve(struct merge *m, void **array, uint32_t count, uint32_t *room, size_t size)
{
        if (count < *room)
                return true;
        size_t bigger = *room ? (size_t)*room * 2 : 1024;
        void *moved = bigger <= UINT32_MAX ? realloc(*array, bigger * size) : NULL;
        if (!moved)
                return fail_memory(m);
        *array = moved;
        *room = (uint32_t)bigger;
        return true;
}

/* ---- names ---- */

static bool names_grow(struct names *n)
{
        size_t bigger = n->slot_count ? n->slot_count * 2 : 4096;
        __typeof__(n->slots) slots = calloc(bigger, sizeof *slots);
        if (!slots)
                return false;
        for (size_t i = 0; i < n->slot_count; i++) {
                if (!n->slots[i].text)
                        continue;
                size_t at = n->slots[i].hash & (bigger - 1);
                while (slots[at].text)
                        at = (at + 1) & (bigger - 1);
                slots[at] = n->slots[i];
        }
        free(n->slots);
        n->slots = slots;
        n->slot_count = bigger;
        return true;
}

/* the slot of a name, or the free one where it belongs */
static size_t names_slot(const struct merge *m, uint32_t hash, const char *name, size_t len)
{
        const struct names *n = &m->names;
        size_t at = hash & (n->slot_count - 1);
        for (; n->slots[at].text; at = (at + 1) & (n->slot_count - 1)) {
                const uint8_t *text = &n->text[n->slots[at].text];
                if (n->slots[at].hash == hash && text[0] == len && !memcmp(text + 1, name, len))
                        break;
        }
        return at;
}

/* 0: no such name */
static uint32_t names_find(const struct merge *m, const char *name, size_t len)
{
        if (!m->names.count || len > TREE_NAME_BYTES_MAX)
                return 0;
        return m->names.slots[names_slot(m, (uint32_t)map_hash(m->seed, name, len), name, len)].text;
}

static uint32_t names_new(struct merge *m, const char *name, size_t len)
{
        struct names *n = &m->names;
        /* readers of archives and indexes let no such name through; the tree relies on it */
        if (len > TREE_NAME_BYTES_MAX || memchr(name, '/', len) || memchr(name, '\0', len) ||
                (len == 1 && *name == '.') || (len == 2 && !memcmp(name, "..", 2))) {
                if (!m->code)
                        m->code = error_set(m->err, -EBADMSG, "layer %u: an entry's name is no file name", m->layer);
                return 0;
        }
        if (n->len + len + 1 > TEXT_MAX)
                return fail(m, -EFBIG, "bytes of names", TEXT_MAX);
        if (n->room - n->len < len + 1) {
                size_t bigger = n->room ? n->room * 2 : 64 << 10;
                uint8_t *moved = realloc(n->text, bigger);
                if (!moved)
                        return fail_memory(m);
                n->text = moved;
                n->room = bigger;
        }
        uint32_t text = (uint32_t)n->len;
        n->text[text] = (uint8_t)len;
        memcpy(&n->text[text + 1], name, len);
        n->len += len + 1;
        n->count++;
        return text;
}

/* the one place of a name */
static uint32_t names_put(struct merge *m, const char *name, size_t len)
{
        struct names *n = &m->names;
        if (n->count >= n->slot_count / 4 * 3 && !names_grow(n))
                return fail_memory(m);
        uint32_t hash = (uint32_t)map_hash(m->seed, name, len);
        size_t at = names_slot(m, hash, name, len);
        if (!n->slots[at].text) {
                n->slots[at].text = names_new(m, name, len);
                n->slots[at].hash = hash;
        }
        return n->slots[at].text;
}

/* ---- nodes and edges ---- */

static uint32_t node_new(struct merge *m, enum tar_type type, uint32_t content)
{
        if (m->node_count > TREE_INODES_MAX)
                return fail(m, -EFBIG, "inodes", TREE_INODES_MAX);
        if (!reserve(m, (void **)&m->nodes, m->node_count, &m->node_room, sizeof *m->nodes))
                return 0;
        m->nodes[m->node_count] = (struct node){.content = content, .attr = content, .type = type};
        if (type != TAR_DIR)
                m->nodes[m->node_count].file.xattr = content;
        return m->node_count++;
}

static uint32_t *bucket_of(const struct merge *m, uint32_t dir, uint32_t name)
{
        unsigned __int128 product = (unsigned __int128)(((uint64_t)dir << 32 | name) ^ m->seed) * 0xd6e8feb86659fd93u;
        return &m->buckets[((uint64_t)product ^ (uint64_t)(product >> 64)) & (m->bucket_count - 1)];
}

static bool buckets_grow(struct merge *m)
{
        uint32_t bigger = m->bucket_count ? m->bucket_count * 2 : 1024;
        uint32_t *buckets = calloc(bigger, sizeof *buckets);
        if (!buckets)
                return fail_memory(m);
        free(m->buckets);
        m->buckets = buckets;
        m->bucket_count = bigger;
        for (uint32_t i = 1; i < m->edge_count; i++) {
                struct edge *e = &m->edges[i];
                if (!e->node)
                        continue;
                uint32_t *bucket = bucket_of(m, e->dir, e->name);
                e->chain = *bucket;
                *bucket = i;
        }
        return true;
}

/* 0: the directory has no such name */
static uint32_t edge_find(const struct merge *m, uint32_t dir, uint32_t name)
{
        if (!name)
                return 0;
        uint32_t i = *bucket_of(m, dir, name);
        while (i && (m->edges[i].dir != dir || m->edges[i].name != name))
                i = m->edges[i].chain;
        return i;
}

/* puts a node into a directory under a name that is free there */
static uint32_t edge_new(struct merge *m, uint32_t dir, uint32_t name, uint32_t node, unsigned stamp)
{
        if (m->edge_count > TREE_NAMES_MAX)
                return fail(m, -EFBIG, "names", TREE_NAMES_MAX);
        if (!reserve(m, (void **)&m->edges, m->edge_count, &m->edge_room, sizeof *m->edges) ||
                (m->live >= m->bucket_count && !buckets_grow(m)))
                return 0;
        uint32_t i = m->edge_count++, *bucket = bucket_of(m, dir, name);
        m->edges[i] = (struct edge){.dir = dir, .node = node, .name = name, .chain = *bucket, .stamp = stamp};
        *bucket = i;
        m->live++;
        struct node *d = &m->nodes[dir];
        if (d->dir.last)
                m->edges[d->dir.last].next = i;
        else
                d->dir.first = i;
        d->dir.last = i;
        return i;
}

/* removes a name, and with it all that is reachable only through it */
static void edge_remove(struct merge *m, uint32_t edge)
{
        struct edge *e = &m->edges[edge];
        uint32_t *link = bucket_of(m, e->dir, e->name);
        while (*link != edge)
                link = &m->edges[*link].chain;
        *link = e->chain;
        m->live--;
        unsigned type = m->nodes[e->node].type;
        if (type == TAR_DIR || type == TAR_SYMLINK)
                m->generation++;
        e->node = 0;
}

/* an implied directory that nothing of the layers below can be in */
static uint32_t dir_new(struct merge *m, uint32_t parent, uint32_t name, unsigned stamp)
{
        unsigned depth = m->nodes[parent].depth + 1u;
        if (depth > TREE_DEPTH_MAX)
                return fail(m, -EFBIG, "directories in each other", TREE_DEPTH_MAX);
        uint32_t dir = node_new(m, TAR_DIR, TREE_NO_ENTRY);
        if (!dir || !edge_new(m, parent, name, dir, stamp))
                return 0;
        struct node *d = &m->nodes[dir];
        d->dir.parent = parent;
        d->depth = depth & 0x1fff;
        d->hidden = (m->layer + 1) & 0xffff;
        return dir;
}

static bool is_lower(const struct merge *m, const struct node *n)
{
        return n->content == TREE_NO_ENTRY || n->content < m->base;
}

/* ---- hiding what is below ---- */

/* the directory is this layer's from here on: without an entry it has no attributes */
static void forget_attributes(struct merge *m, uint32_t dir)
{
        if (is_lower(m, &m->nodes[dir]))
                m->nodes[dir].content = m->nodes[dir].attr = TREE_NO_ENTRY;
}

/* one directory's lower names go; its own subdirectories are added to the chain */
static void hide_in(struct merge *m, uint32_t dir, uint32_t *todo)
{
        uint32_t before = 0, next;
        for (uint32_t i = m->nodes[dir].dir.first; i; i = next) {
                struct edge *e = &m->edges[i];
                next = e->next;
                if (e->node && e->stamp < m->layer)
                        edge_remove(m, i);
                if (e->node) {
                        struct node *child = &m->nodes[e->node];
                        if (child->type == TAR_DIR)
                                forget_attributes(m, e->node);
                        if (child->type == TAR_DIR && child->hidden != m->layer + 1) {
                                child->hidden = (m->layer + 1) & 0xffff;
                                child->number = *todo;
                                *todo = e->node;
                        }
                        before = i;
                } else if (before) {
                        m->edges[before].next = next;
                } else {
                        m->nodes[dir].dir.first = next;
                }
        }
        m->nodes[dir].dir.last = before;
}

/* nothing of lower layers stays in the directory, at any depth */
static void hide_lower(struct merge *m, uint32_t dir)
{
        if (m->nodes[dir].hidden == m->layer + 1)
                return;
        m->nodes[dir].hidden = (m->layer + 1) & 0xffff;
        for (uint32_t todo = 0, d = dir; d; d = todo) {
                if (d != dir) {
                        todo = m->nodes[d].number;
                        m->nodes[d].number = 0;
                }
                hide_in(m, d, &todo);
        }
}

/* ---- paths ---- */

enum walk {
        WALK_CREATE,   /* towards an entry: what is missing is made, what is on the way is this layer's too */
        WALK_FIND,     /* towards a hard link's target: symlinks of all layers are followed */
        WALK_WHITEOUT, /* towards a whiteout: nothing is made, except where a lower symlink is in the way */
};

/* a lower symlink, or anything that is no directory, gives way to a directory */
static uint32_t replace_with_dir(struct merge *m, uint32_t dir, uint32_t name, uint32_t edge, unsigned stamp)
{
        if (edge) {
                m->stats.replaced_parents += m->nodes[m->edges[edge].node].type == TAR_SYMLINK;
                edge_remove(m, edge);
        }
        return dir_new(m, dir, name, stamp);
}

/* the directory below dir, 0 if there is none; or a symlink to follow */
static uint32_t step(struct merge *m, uint32_t dir, const char *text, size_t len, enum walk mode)
{
        uint32_t name = mode == WALK_CREATE ? names_put(m, text, len) : names_find(m, text, len);
        uint32_t edge = edge_find(m, dir, name);
        const struct node *n = edge ? &m->nodes[m->edges[edge].node] : NULL;
        if (n && n->type == TAR_DIR) {
                if (mode == WALK_CREATE)
                        m->edges[edge].stamp = m->layer;
                return m->edges[edge].node;
        }
        if (n && n->type == TAR_SYMLINK) {
                if (mode == WALK_FIND || !is_lower(m, n))
                        return m->edges[edge].node;
                if (mode == WALK_WHITEOUT)
                        return replace_with_dir(m, dir, name, edge, m->edges[edge].stamp);
        }
        return mode == WALK_CREATE && name ? replace_with_dir(m, dir, name, edge, m->layer) : 0;
}

/* begins with the target of a symlink; false: too many of them */
static bool follow(struct merge *m, uint32_t symlink, struct tree_path *path, uint32_t *dir)
{
        struct index_entry e;
        uint32_t content = m->nodes[symlink].content;
        unsigned layer = m->layer;
        while (m->bases[layer] > content)
                layer--;
        index_entry(m->indexes[layer], content - m->bases[layer], &e);
        if (!e.link_len)
                return true; /* as "." */
        if (!tree_path_push(path, e.link, e.link_len)) {
                m->stats.dropped_loops++;
                return false;
        }
        if (e.link[0] == '/')
                *dir = 1;
        return true;
}

static bool begins(const char *s, size_t len, const char *with)
{
        size_t n = strlen(with);
        return len >= n && !memcmp(s, with, n);
}

/* The directory that a path leads to, inside the root. 0: there is none (or a failure). What is missing, unless it is
 * made, may still be left by "..", hence `missing`: how deep the walk is in directories that are not there. */
static uint32_t walk(struct merge *m, const char *path, size_t len, enum walk mode)
{
        struct tree_path p;
        tree_path_init(&p, path, len);
        uint32_t dir = 1;
        size_t missing = 0;
        for (const char *name; tree_path_next(&p, &name, &len);) {
                if (++m->steps > STEPS_MAX)
                        return fail(m, -EFBIG, "steps along paths", STEPS_MAX);
                if (len == 2 && !memcmp(name, "..", 2)) {
                        if (missing)
                                missing--;
                        else
                                dir = m->nodes[dir].dir.parent;
                        continue;
                }
                if (mode == WALK_CREATE && !m->plain && begins(name, len, ".wh..wh.")) {
                        m->stats.odd_whiteouts++; /* a symlink leads into AUFS' own files */
                        return 0;
                }
                uint32_t next = missing ? 0 : step(m, dir, name, len, mode);
                if (m->code)
                        return 0;
                if (!next)
                        missing++;
                else if (m->nodes[next].type == TAR_DIR)
                        dir = next;
                else if (!follow(m, next, &p, &dir))
                        return 0;
        }
        return missing ? 0 : dir;
}

/* ---- entries ---- */

enum kind { REAL, WHITEOUT, OPAQUE, AUFS, ODD };

/* what the last component of a path says */
static enum kind kind_of(const char *name, size_t len)
{
        if (!begins(name, len, ".wh."))
                return REAL;
        if (begins(name, len, ".wh..wh."))
                return len == strlen(".wh..wh..opq") && begins(name, len, ".wh..wh..opq") ? OPAQUE : AUFS;
        bool odd = len == 4 || (len == 5 && name[4] == '.') || (len == 6 && name[4] == '.' && name[5] == '.');
        return odd ? ODD : WHITEOUT;
}

static bool path_in_aufs(const char *dir, size_t len)
{
        for (const char *at = dir, *end = dir + len; at < end;) {
                if (begins(at, (size_t)(end - at), ".wh..wh."))
                        return true;
                const char *slash = memchr(at, '/', (size_t)(end - at));
                at = slash ? slash + 1 : end;
        }
        return false;
}

static struct cached *cache_slot(const struct merge *m, const struct index_entry *e)
{
        return &m->cache[e->dir_id * 0x9e3779b1u >> (32 - CACHE_BITS)];
}

/* the directory of an entry if it is known already, IN_AUFS, or 0 */
static uint32_t cached_dir(const struct merge *m, const struct index_entry *e)
{
        const struct cached *c = cache_slot(m, e);
        if (c->generation == m->generation && c->dir_id == e->dir_id)
                return c->node;
        return !m->plain && path_in_aufs(e->dir, e->dir_len) ? IN_AUFS : 0;
}

/* the directory of an entry, made if need be; 0: a symlink loop, or a failure */
static uint32_t make_dir(struct merge *m, const struct index_entry *e)
{
        struct cached *c = cache_slot(m, e);
        if (c->generation == m->generation && c->dir_id == e->dir_id)
                return c->node;
        uint32_t dir = walk(m, e->dir, e->dir_len, WALK_CREATE);
        if (dir)
                *c = (struct cached){.generation = m->generation, .dir_id = e->dir_id, .node = dir};
        return dir;
}

static void apply_whiteout(struct merge *m, const struct index_entry *e, uint32_t dir)
{
        if (!dir)
                dir = walk(m, e->dir, e->dir_len, WALK_WHITEOUT);
        uint32_t edge = dir ? edge_find(m, dir, names_find(m, e->name + 4, e->name_len - 4)) : 0;
        if (!edge)
                return;
        uint32_t node = m->edges[edge].node;
        if (m->edges[edge].stamp < m->layer) {
                edge_remove(m, edge);
        } else if (m->nodes[node].type == TAR_DIR) {
                hide_lower(m, node);
                forget_attributes(m, node);
        }
}

static void apply_opaque(struct merge *m, const struct index_entry *e)
{
        uint32_t dir = make_dir(m, e);
        if (dir)
                hide_lower(m, dir);
}

/* AUFS keeps targets of hard links under names of its own; they are not shown, but links to them are */
static void apply_aufs(struct merge *m, const struct index_entry *e, uint32_t id)
{
        m->stats.odd_whiteouts++;
        if (e->type != TAR_REG)
                return;
        size_t dir_len = e->dir_len + (e->dir_len > 0), len = dir_len + e->name_len;
        char *path = arena_alloc(&m->plnk_paths, len + 1);
        uint32_t node = path ? node_new(m, TAR_REG, id) : fail_memory(m);
        if (!node)
                return;
        memcpy(path, e->dir, e->dir_len);
        if (dir_len)
                path[dir_len - 1] = '/';
        memcpy(path + dir_len, e->name, e->name_len);
        if (map_put(&m->plnk, path, len, node) < 0)
                fail_memory(m);
}

/* the edge of a hard link's target, or (AUFS) only its node; *ret_node 0: there is none */
static uint32_t find_target(struct merge *m, const struct index_entry *e, uint32_t *ret_node)
{
        *ret_node = 0;
        if (!e->link_len)
                return 0; /* the root */
        const uint64_t *plnk = map_find(&m->plnk, e->link, e->link_len);
        if (plnk) {
                *ret_node = (uint32_t)*plnk;
                return 0;
        }
        const char *slash = memrchr(e->link, '/', e->link_len);
        const char *name = slash ? slash + 1 : e->link;
        size_t name_len = e->link_len - (size_t)(name - e->link);
        uint32_t dir = name_len ? walk(m, e->link, slash ? (size_t)(slash - e->link) : 0, WALK_FIND) : 0;
        uint32_t edge = dir ? edge_find(m, dir, names_find(m, name, name_len)) : 0;
        if (edge)
                *ret_node = m->edges[edge].node;
        return edge;
}

static void apply_hardlink(struct merge *m, const struct index_entry *e, uint32_t id)
{
        uint32_t target, target_edge = find_target(m, e, &target);
        if (m->code)
                return;
        if (!target || m->nodes[target].type == TAR_DIR) {
                m->stats.dropped_links++;
                return;
        }
        uint32_t dir = make_dir(m, e), name = dir ? names_put(m, e->name, e->name_len) : 0;
        if (!name)
                return;
        uint32_t edge = edge_find(m, dir, name);
        if (edge && edge == target_edge)
                return; /* a link to itself changes nothing */
        if (edge && m->edges[edge].node == target) {
                m->edges[edge].stamp = m->layer;
        } else {
                if (edge)
                        edge_remove(m, edge);
                if (!edge_new(m, dir, name, target, m->layer))
                        return;
        }
        /* as an engine does after link(2): owner, mode and time are set; attributes that the entry has none of stay */
        m->nodes[target].attr = id;
        if (e->xattr_count)
                m->nodes[target].file.xattr = id;
}

static void apply_directory(struct merge *m, uint32_t dir, uint32_t name, uint32_t edge, uint32_t id)
{
        uint32_t node = edge ? m->edges[edge].node : 0;
        if (node && m->nodes[node].type == TAR_DIR) {
                m->edges[edge].stamp = m->layer;
        } else {
                if (edge)
                        edge_remove(m, edge);
                node = dir_new(m, dir, name, m->layer);
        }
        if (node)
                m->nodes[node].content = m->nodes[node].attr = id;
}

static void apply_real(struct merge *m, const struct index_entry *e, uint32_t id)
{
        uint32_t dir = make_dir(m, e), name = dir ? names_put(m, e->name, e->name_len) : 0;
        if (!name)
                return;
        uint32_t edge = edge_find(m, dir, name);
        if (e->type == TAR_DIR) {
                apply_directory(m, dir, name, edge, id);
                return;
        }
        if (edge)
                edge_remove(m, edge);
        if (e->type == TAR_CHR && !e->rdev_major && !e->rdev_minor && !m->plain)
                return;
        uint32_t node = node_new(m, e->type, id);
        if (node)
                edge_new(m, dir, name, node, m->layer);
}

static void apply(struct merge *m, uint32_t i)
{
        struct index_entry e;
        index_entry(m->ix, i, &e);
        uint32_t id = m->base + i;
        if (!e.name_len) {
                if (e.type == TAR_DIR)
                        m->nodes[1].content = m->nodes[1].attr = id;
                return;
        }
        enum kind kind = m->plain ? REAL : kind_of(e.name, e.name_len);
        uint32_t known = cached_dir(m, &e);
        if (kind == AUFS || known == IN_AUFS)
                apply_aufs(m, &e, id);
        else if (kind == ODD)
                m->stats.odd_whiteouts++;
        else if (kind == WHITEOUT)
                apply_whiteout(m, &e, known);
        else if (kind == OPAQUE)
                apply_opaque(m, &e);
        else if (e.type == TAR_HARDLINK)
                apply_hardlink(m, &e, id);
        else
                apply_real(m, &e, id);
}

/* ---- packing ---- */

/* the inode of a node, numbered now if it is seen for the first time */
static uint32_t number(struct merge *m, struct tree *t, uint32_t node)
{
        struct node *n = &m->nodes[node];
        if (n->number) {
                t->inodes[n->number].nlink++;
                return n->number;
        }
        uint32_t ino = n->number = (uint32_t)++t->stats.inodes;
        struct tree_inode *inode = &t->inodes[ino];
        *inode = (struct tree_inode){.content = n->content, .attr = n->attr, .type = n->type & 0xf, .nlink = 1};
        if (n->type == TAR_DIR) {
                inode->nlink = 2;
                inode->dir.parent = m->nodes[n->dir.parent].number;
                inode->dir.first = node; /* until its names are there */
                if (inode->dir.parent != ino)
                        t->inodes[inode->dir.parent].nlink++;
        } else {
                inode->file.xattr = n->file.xattr;
        }
        return ino;
}

/* breadth first: the array of inodes is the queue */
static void pack(struct merge *m, struct tree *t)
{
        number(m, t, 1);
        for (uint32_t ino = TREE_ROOT; ino <= t->stats.inodes; ino++) {
                struct tree_inode *d = &t->inodes[ino];
                if (d->type != TAR_DIR)
                        continue;
                uint32_t edge = m->nodes[d->dir.first].dir.first;
                d->dir.first = (uint32_t)t->stats.names;
                for (; edge; edge = m->edges[edge].next) {
                        const struct edge *e = &m->edges[edge];
                        if (!e->node)
                                continue;
                        struct tree_name *name = &t->names[t->stats.names++];
                        name->text = e->name;
                        name->ino = number(m, t, e->node);
                }
                d->dir.count = (uint32_t)t->stats.names - d->dir.first;
        }
}

/* an implied directory shows the time of its newest child; children have higher numbers, so they come first */
static void lend_times(struct tree *t)
{
        for (uint32_t ino = (uint32_t)t->stats.inodes; ino; ino--) {
                struct tree_inode *d = &t->inodes[ino];
                if (d->type != TAR_DIR || d->content != TREE_NO_ENTRY)
                        continue;
                struct index_entry newest = {0}, e;
                for (uint32_t i = 0; i < d->dir.count; i++) {
                        uint32_t attr = t->inodes[t->names[d->dir.first + i].ino].attr;
                        if (attr == TREE_NO_ENTRY)
                                continue;
                        tree_entry(t, attr, &e);
                        bool newer = e.mtime_s > newest.mtime_s ||
                                     (e.mtime_s == newest.mtime_s && e.mtime_ns > newest.mtime_ns);
                        if (d->attr == TREE_NO_ENTRY || newer) {
                                d->attr = attr;
                                newest = e;
                        }
                }
        }
}

static void shrink(void *array, size_t len)
{
        void **p = array;
        void *smaller = realloc(*p, len);
        if (smaller)
                *p = smaller;
}

/* the arrays are made as large as they can become, and cut when their size is known */
static int freeze(struct merge *m, struct tree *t)
{
        t->inodes = malloc(m->node_count * sizeof *t->inodes);
        t->names = malloc(m->edge_count * sizeof *t->names);
        if (!t->inodes || !t->names)
                return -ENOMEM;
        t->stats = m->stats;
        pack(m, t);
        shrink(&t->inodes, (t->stats.inodes + 1) * sizeof *t->inodes);
        shrink(&t->names, (t->stats.names + 1) * sizeof *t->names);
        shrink(&m->names.text, m->names.len);
        t->text = take(m->names.text);
        lend_times(t);
        for (uint32_t ino = TREE_ROOT; ino <= t->stats.inodes; ino++) {
                struct index_entry e;
                if (t->inodes[ino].type != TAR_REG)
                        continue;
                tree_entry(t, t->inodes[ino].content, &e);
                if (!add_ok(t->stats.bytes, e.size, &t->stats.bytes))
                        t->stats.bytes = UINT64_MAX;
        }
        return 0;
}

/* ---- the whole ---- */

static void merge_done(struct merge *m)
{
        free(m->nodes);
        free(m->edges);
        free(m->buckets);
        free(m->names.text);
        free(m->names.slots);
        free(m->cache);
        map_done(&m->plnk);
        arena_done(&m->plnk_paths);
}

/* room for the entries that are to come, so that arrays seldom move; the root */
static int merge_init(struct merge *m, uint32_t entries)
{
        uint32_t room = MIN(entries, (uint32_t)TREE_INODES_MAX) + 1024;
        m->seed = map_seed();
        map_init(&m->plnk);
        arena_init(&m->plnk_paths);
        m->generation = 1;
        m->names.len = 1; /* place 0 is none */
        m->node_count = m->edge_count = 1;
        m->nodes = malloc(room * sizeof *m->nodes);
        m->edges = malloc(room * sizeof *m->edges);
        m->cache = calloc((size_t)1 << CACHE_BITS, sizeof *m->cache);
        m->names.room = 64 << 10;
        m->names.text = malloc(m->names.room);
        if (!m->nodes || !m->edges || !m->cache || !m->names.text)
                return error_nomem(m->err);
        m->node_room = m->edge_room = room;
        m->names.text[0] = 0;
        m->bucket_count = 512;
        while (m->bucket_count < room && m->bucket_count < 1u << 20)
                m->bucket_count *= 2;
        m->buckets = calloc(m->bucket_count, sizeof *m->buckets);
        if (!m->buckets)
                return error_nomem(m->err);
        m->nodes[node_new(m, TAR_DIR, TREE_NO_ENTRY)].dir.parent = 1;
        return 0;
}

static void apply_layer(struct merge *m, unsigned layer)
{
        m->layer = layer;
        m->ix = m->indexes[layer];
        m->base = m->bases[layer];
        m->generation++;
        for (uint32_t i = 0, count = m->bases[layer + 1] - m->base; i < count && !m->code; i++)
                apply(m, i);
        map_done(&m->plnk);
        map_init(&m->plnk);
        arena_done(&m->plnk_paths);
}

/* counts the entries through */
static int number_entries(struct tree *t, struct error *err)
{
        uint64_t sum = 0;
        for (size_t i = 0; i < t->layer_count; i++) {
                t->bases[i] = (uint32_t)sum;
                sum += index_info(t->indexes[i])->entries;
                if (sum >= TREE_NO_ENTRY)
                        return error_set(err, -EFBIG, "merging layers: more than %u entries in all", TREE_NO_ENTRY - 1);
        }
        t->bases[t->layer_count] = (uint32_t)sum;
        return 0;
}

static uint64_t memory_of(const struct tree *t, size_t text_len)
{
        return sizeof *t + (t->stats.inodes + 1) * sizeof *t->inodes + (t->stats.names + 1) * sizeof *t->names +
               text_len + t->slot_count * sizeof *t->slots +
               t->layer_count * (sizeof *t->indexes + sizeof *t->bases + sizeof(void *));
}

static int merge_tree(struct tree *t, bool plain, struct error *err)
{
        int r = number_entries(t, err);
        if (r < 0)
                return r;
        struct merge m = {.indexes = t->indexes, .bases = t->bases, .plain = plain, .err = err};
        r = merge_init(&m, t->bases[t->layer_count]);
        for (unsigned i = 0; i < t->layer_count && !r; i++) {
                apply_layer(&m, i);
                r = m.code;
        }
        size_t text_len = m.names.len;
        if (!r && (freeze(&m, t) < 0 || tree_hash_names(t) < 0))
                r = error_nomem(err);
        merge_done(&m);
        if (!r)
                t->stats.memory_bytes = memory_of(t, text_len);
        return r;
}

int tree_merge_indexes(
        const struct index *const *indexes, size_t count, bool plain, struct tree **ret_tree, struct error *err)
{
        if (count > TREE_LAYERS_MAX)
                return error_set(err, -EFBIG, "merging layers: more than %d layers", TREE_LAYERS_MAX);
        cleanup(tree_freep) struct tree *t = calloc(1, sizeof *t);
        if (!t)
                return error_nomem(err);
        t->layer_count = count;
        t->indexes = malloc((count + 1) * sizeof *t->indexes);
        t->bases = malloc((count + 1) * sizeof *t->bases);
        if (!t->indexes || !t->bases)
                return error_nomem(err);
        for (size_t i = 0; i < count; i++)
                t->indexes[i] = indexes[i];
        int r = merge_tree(t, plain, err);
        if (!r)
                *ret_tree = take(t);
        return r;
}

int tree_merge(struct layer *const *layers, size_t count, bool plain, struct tree **ret_tree, struct error *err)
{
        const struct index *indexes[TREE_LAYERS_MAX];
        for (size_t i = 0; i < count && i < TREE_LAYERS_MAX; i++)
                indexes[i] = layer_index(layers[i]);
        cleanup(tree_freep) struct tree *t = NULL;
        int r = tree_merge_indexes(indexes, count, plain, &t, err);
        if (r < 0)
                return r;
        t->layers = calloc(count + 1, sizeof(struct layer *));
        if (!t->layers)
                return error_nomem(err);
        for (size_t i = 0; i < count; i++)
                t->layers[i] = layer_ref(layers[i]);
        *ret_tree = take(t);
        return 0;
}
