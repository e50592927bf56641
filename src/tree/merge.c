/*
 * Layers -> tree, in place: one growing tree (draft.h), to which the entries of each layer are applied in their order,
 * bottom layer first. In the end it is packed.
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
 *                            becomes an implied directory, 0755 root, without a time of its own. (One that is there
 *                            keeps its attributes.)
 *   parent that is a symlink is followed when an entry of this layer made it. An older one becomes a directory: engines
 *                            unpack each layer alone, where the link is not to be seen, and that is what their users see.
 *                            A whiteout below it does so too; this directory keeps the link's stamp, for it is not an
 *                            entry: a whiteout of itself still removes it.
 *   hard link                one more edge to the node that the target is at that moment; its metadata become the node's.
 *   character device 0:0     an entry that leaves nothing behind: the whiteout of overlay file systems.
 *
 * Why in place and not a tree a layer: one look-up an entry instead of two, and nothing is built only to be merged.
 *
 * To remove an edge takes it out of the hash table, and that is all (draft.h). So nothing here recurses, and no entry costs
 * more than its path is long, except hide_lower(), which walks a directory once a layer at most (node.hidden). A hostile
 * layer could still make every path long, symlink after symlink: hence STEPS_MAX.
 *
 * Implied directories that no layer describes show the time of their newest child, so that mounts are reproducible.
 *
 * A failure is kept in draft.code; functions that give a node or edge then give 0.
 */
#include <errno.h>

#include "base/map.h"
#include "tree/draft.h"

enum {
        CACHE_BITS = 13,     /* directories of recent entries */
        STEPS_MAX = 1 << 28, /* path components walked in a merge: far above what real images take */
};
#define PLNK    ".wh..wh.plnk" /* where AUFS keeps the targets of hard links */
#define IN_AUFS UINT32_MAX     /* instead of a directory: inside of AUFS' own files, which are never shown */

struct cached {
        uint64_t generation; /* it holds while that is the draft's */
        uint32_t dir_id, node;
};

struct merge {
        struct tree *tree; /* has its indexes, and collects the statistics */
        bool plain;
        struct draft draft;

        const struct index *ix; /* the layer being applied */
        unsigned layer;
        uint32_t base;        /* number of its first entry */
        struct map plnk;      /* its AUFS hard link targets: name in PLNK to node */
        struct cached *cache; /* directories that entries of this layer are in */
        uint64_t steps;
};

/* an implied directory that nothing of the layers below can be in */
static uint32_t dir_new(struct merge *m, uint32_t parent, uint32_t name, unsigned stamp)
{
        unsigned depth = m->draft.nodes[parent].depth + 1u;
        if (depth > TREE_DEPTH_MAX)
                return draft_fail(&m->draft, -EFBIG, "directories in each other", TREE_DEPTH_MAX);
        uint32_t dir = draft_node(&m->draft, TAR_DIR, TREE_NO_ENTRY);
        if (!dir || !draft_edge(&m->draft, parent, name, dir, stamp))
                return 0;
        struct node *d = &m->draft.nodes[dir];
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
        if (is_lower(m, &m->draft.nodes[dir]))
                m->draft.nodes[dir].content = m->draft.nodes[dir].attr = TREE_NO_ENTRY;
}

/* one directory's lower names go; its own subdirectories are added to the chain */
static void hide_in(struct merge *m, uint32_t dir, uint32_t *todo)
{
        uint32_t before = 0, next;
        for (uint32_t i = m->draft.nodes[dir].dir.first; i; i = next) {
                struct edge *e = &m->draft.edges[i];
                next = e->next;
                if (e->node && e->stamp < m->layer)
                        draft_remove(&m->draft, i);
                if (e->node) {
                        struct node *child = &m->draft.nodes[e->node];
                        if (child->type == TAR_DIR)
                                forget_attributes(m, e->node);
                        if (child->type == TAR_DIR && child->hidden != m->layer + 1) {
                                child->hidden = (m->layer + 1) & 0xffff;
                                child->number = *todo;
                                *todo = e->node;
                        }
                        before = i;
                } else if (before) {
                        m->draft.edges[before].next = next;
                } else {
                        m->draft.nodes[dir].dir.first = next;
                }
        }
        m->draft.nodes[dir].dir.last = before;
}

/* nothing of lower layers stays in the directory, at any depth */
static void hide_lower(struct merge *m, uint32_t dir)
{
        if (m->draft.nodes[dir].hidden == m->layer + 1)
                return;
        m->draft.nodes[dir].hidden = (m->layer + 1) & 0xffff;
        for (uint32_t todo = 0, d = dir; d; d = todo) {
                if (d != dir) {
                        todo = m->draft.nodes[d].number;
                        m->draft.nodes[d].number = 0;
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
                m->tree->stats.replaced_parents += m->draft.nodes[m->draft.edges[edge].node].type == TAR_SYMLINK;
                draft_remove(&m->draft, edge);
        }
        return dir_new(m, dir, name, stamp);
}

/* the directory below dir, 0 if there is none; or a symlink to follow */
static uint32_t step(struct merge *m, uint32_t dir, const char *text, size_t len, enum walk mode)
{
        uint32_t name = mode == WALK_CREATE ? draft_name(&m->draft, text, len) : draft_find_name(&m->draft, text, len);
        uint32_t edge = draft_find_edge(&m->draft, dir, name);
        const struct node *n = edge ? &m->draft.nodes[m->draft.edges[edge].node] : NULL;
        if (n && n->type == TAR_DIR) {
                if (mode == WALK_CREATE)
                        m->draft.edges[edge].stamp = m->layer;
                return m->draft.edges[edge].node;
        }
        if (n && n->type == TAR_SYMLINK) {
                if (mode == WALK_FIND || !is_lower(m, n))
                        return m->draft.edges[edge].node;
                if (mode == WALK_WHITEOUT)
                        return replace_with_dir(m, dir, name, edge, m->draft.edges[edge].stamp);
        }
        return mode == WALK_CREATE && name ? replace_with_dir(m, dir, name, edge, m->layer) : 0;
}

/* begins with the target of a symlink; false: too many of them */
static bool follow(struct merge *m, uint32_t symlink, struct tree_path *path, uint32_t *dir)
{
        struct index_entry e;
        tree_entry(m->tree, m->draft.nodes[symlink].content, &e);
        if (!e.link_len)
                return true; /* as "." */
        if (!tree_path_push(path, e.link, e.link_len)) {
                m->tree->stats.dropped_loops++;
                return false;
        }
        if (e.link[0] == '/')
                *dir = DRAFT_ROOT;
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
        uint32_t dir = DRAFT_ROOT;
        size_t missing = 0;
        for (const char *name; tree_path_next(&p, &name, &len);) {
                if (++m->steps > STEPS_MAX)
                        return draft_fail(&m->draft, -EFBIG, "steps along paths", STEPS_MAX);
                if (len == 2 && !memcmp(name, "..", 2)) {
                        if (missing)
                                missing--;
                        else
                                dir = m->draft.nodes[dir].dir.parent;
                        continue;
                }
                if (mode == WALK_CREATE && !m->plain && begins(name, len, ".wh..wh.")) {
                        m->tree->stats.odd_whiteouts++; /* a symlink leads into AUFS' own files */
                        return 0;
                }
                if (mode == WALK_CREATE && len > TREE_NAME_BYTES_MAX) {
                        m->tree->stats
                                .dropped_loops++; /* a symlink's target may hold names that no directory can have */
                        return 0;
                }
                uint32_t next = missing ? 0 : step(m, dir, name, len, mode);
                if (m->draft.code)
                        return 0;
                if (!next)
                        missing++;
                else if (m->draft.nodes[next].type == TAR_DIR)
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
        struct cached *c = cache_slot(m, e);
        if (c->generation == m->draft.generation && c->dir_id == e->dir_id)
                return c->node;
        if (m->plain || !path_in_aufs(e->dir, e->dir_len))
                return 0;
        *c = (struct cached){.generation = m->draft.generation, .dir_id = e->dir_id, .node = IN_AUFS};
        return IN_AUFS;
}

/* the directory of an entry, made if need be; 0: a symlink loop, or a failure */
static uint32_t make_dir(struct merge *m, const struct index_entry *e)
{
        struct cached *c = cache_slot(m, e);
        if (c->generation == m->draft.generation && c->dir_id == e->dir_id)
                return c->node;
        uint32_t dir = walk(m, e->dir, e->dir_len, WALK_CREATE);
        if (dir)
                *c = (struct cached){.generation = m->draft.generation, .dir_id = e->dir_id, .node = dir};
        return dir;
}

static void apply_whiteout(struct merge *m, const struct index_entry *e, uint32_t dir)
{
        if (!dir)
                dir = walk(m, e->dir, e->dir_len, WALK_WHITEOUT);
        uint32_t edge =
                dir ? draft_find_edge(&m->draft, dir, draft_find_name(&m->draft, e->name + 4, e->name_len - 4)) : 0;
        if (!edge)
                return;
        uint32_t node = m->draft.edges[edge].node;
        if (m->draft.edges[edge].stamp < m->layer) {
                draft_remove(&m->draft, edge);
        } else if (m->draft.nodes[node].type == TAR_DIR) {
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

/* AUFS keeps files with several names in a directory of its own, which is not shown; but links to them are. */
static void apply_aufs(struct merge *m, const struct index_entry *e, uint32_t id)
{
        m->tree->stats.odd_whiteouts++;
        if (e->type != TAR_REG || e->dir_len != strlen(PLNK) || memcmp(e->dir, PLNK, e->dir_len) != 0)
                return;
        uint32_t node = draft_node(&m->draft, TAR_REG, id);
        if (node && map_put(&m->plnk, e->name, e->name_len, node) < 0)
                draft_fail_memory(&m->draft);
}

/* the edge of a hard link's target, or (AUFS) only its node; *ret_node 0: there is none */
static uint32_t find_target(struct merge *m, const struct index_entry *e, uint32_t *ret_node)
{
        *ret_node = 0;
        if (!e->link_len)
                return 0; /* the root */
        if (m->plnk.count && begins(e->link, e->link_len, PLNK "/")) {
                const uint64_t *node = map_find(&m->plnk, e->link + strlen(PLNK "/"), e->link_len - strlen(PLNK "/"));
                *ret_node = node ? (uint32_t)*node : 0;
                return 0;
        }
        const char *slash = memrchr(e->link, '/', e->link_len);
        const char *name = slash ? slash + 1 : e->link;
        size_t name_len = e->link_len - (size_t)(name - e->link);
        uint32_t dir = name_len ? walk(m, e->link, slash ? (size_t)(slash - e->link) : 0, WALK_FIND) : 0;
        uint32_t edge = dir ? draft_find_edge(&m->draft, dir, draft_find_name(&m->draft, name, name_len)) : 0;
        if (edge)
                *ret_node = m->draft.edges[edge].node;
        return edge;
}

static void apply_hardlink(struct merge *m, const struct index_entry *e, uint32_t id)
{
        uint32_t target, target_edge = find_target(m, e, &target);
        if (m->draft.code)
                return;
        if (!target || m->draft.nodes[target].type == TAR_DIR) {
                m->tree->stats.dropped_links++;
                return;
        }
        uint32_t dir = make_dir(m, e), name = dir ? draft_name(&m->draft, e->name, e->name_len) : 0;
        if (!name)
                return;
        uint32_t edge = draft_find_edge(&m->draft, dir, name);
        if (edge && edge == target_edge)
                return; /* a link to itself changes nothing */
        if (edge && m->draft.edges[edge].node == target) {
                m->draft.edges[edge].stamp = m->layer;
        } else {
                if (edge)
                        draft_remove(&m->draft, edge);
                if (!draft_edge(&m->draft, dir, name, target, m->layer))
                        return;
        }
        /* as an engine does after link(2): owner, mode and time are set; attributes that the entry has none of stay */
        m->draft.nodes[target].attr = id;
        if (e->xattr_count && m->draft.nodes[target].type == TAR_REG)
                m->draft.nodes[target].file.xattr = id;
}

static void apply_directory(struct merge *m, uint32_t dir, uint32_t name, uint32_t edge, uint32_t id)
{
        uint32_t node = edge ? m->draft.edges[edge].node : 0;
        if (node && m->draft.nodes[node].type == TAR_DIR) {
                m->draft.edges[edge].stamp = m->layer;
        } else {
                if (edge)
                        draft_remove(&m->draft, edge);
                node = dir_new(m, dir, name, m->layer);
        }
        if (node)
                m->draft.nodes[node].content = m->draft.nodes[node].attr = id;
}

static void apply_real(struct merge *m, const struct index_entry *e, uint32_t id)
{
        uint32_t dir = make_dir(m, e), name = dir ? draft_name(&m->draft, e->name, e->name_len) : 0;
        if (!name)
                return;
        uint32_t edge = draft_find_edge(&m->draft, dir, name);
        if (e->type == TAR_DIR) {
                apply_directory(m, dir, name, edge, id);
                return;
        }
        if (edge)
                draft_remove(&m->draft, edge);
        if (e->type == TAR_CHR && !e->rdev_major && !e->rdev_minor && !m->plain)
                return;
        uint32_t node = draft_node(&m->draft, e->type, id);
        if (node)
                draft_edge(&m->draft, dir, name, node, m->layer);
}

static void apply(struct merge *m, uint32_t i)
{
        struct index_entry e;
        index_entry(m->ix, i, &e);
        uint32_t id = m->base + i;
        if (!e.name_len) {
                if (e.type == TAR_DIR)
                        m->draft.nodes[DRAFT_ROOT].content = m->draft.nodes[DRAFT_ROOT].attr = id;
                return;
        }
        enum kind kind = m->plain ? REAL : kind_of(e.name, e.name_len);
        uint32_t known = cached_dir(m, &e);
        if (kind == AUFS || known == IN_AUFS)
                apply_aufs(m, &e, id);
        else if (kind == ODD)
                m->tree->stats.odd_whiteouts++;
        else if (kind == WHITEOUT)
                apply_whiteout(m, &e, known);
        else if (kind == OPAQUE)
                apply_opaque(m, &e);
        else if (e.type == TAR_HARDLINK)
                apply_hardlink(m, &e, id);
        else
                apply_real(m, &e, id);
}

/* ---- the whole ---- */

static void merge_done(struct merge *m)
{
        draft_done(&m->draft);
        free(m->cache);
        map_done(&m->plnk);
}

static int merge_init(struct merge *m, struct tree *t, bool plain, struct error *err)
{
        *m = (struct merge){.tree = t, .plain = plain};
        map_init(&m->plnk);
        m->cache = calloc((size_t)1 << CACHE_BITS, sizeof *m->cache);
        int r = draft_init(&m->draft, t->bases[t->layer_count], err);
        return r == 0 && !m->cache ? error_nomem(err) : r;
}

static void apply_layer(struct merge *m, unsigned layer)
{
        m->layer = layer;
        m->ix = m->tree->indexes[layer];
        m->base = m->tree->bases[layer];
        m->draft.generation++; /* the cache ends: what entries of this layer pass through is to be stamped */
        for (uint32_t i = 0, count = m->tree->bases[layer + 1] - m->base; i < count && !m->draft.code; i++)
                apply(m, i);
        map_done(&m->plnk);
        map_init(&m->plnk);
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

static int merge_tree(struct tree *t, bool plain, struct error *err)
{
        int r = number_entries(t, err);
        if (r < 0)
                return r;
        struct merge m;
        r = merge_init(&m, t, plain, err);
        for (unsigned i = 0; i < t->layer_count && !r; i++) {
                apply_layer(&m, i);
                r = m.draft.code;
        }
        if (!r)
                r = draft_freeze(&m.draft, t);
        merge_done(&m);
        if (r < 0)
                return r;
        return tree_hash_names(t) < 0 ? error_nomem(err) : 0;
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
