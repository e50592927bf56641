/*
 * How: names are interned, so that an edge is found by (directory, place of its name) alone: one hash table for the whole
 * draft, chained, because its edges come and go. The edges of a directory are also a list, oldest first, which is the order
 * of the layers, so that nothing is sorted in the end. A removed edge leaves the table at once and the list when somebody
 * walks it for another reason.
 *
 * Packing goes breadth first, the array of inodes being its own queue: a directory's children lie next to each other, and
 * nothing recurses.
 */
#include "tree/draft.h"

#include <errno.h>

#include "base/map.h"

enum { TEXT_MAX = 2047 << 20 }; /* bytes of distinct names */

/* ---- failures, room ---- */

uint32_t draft_fail(struct draft *d, int code, const char *what, uint64_t max)
{
        if (!d->code)
                d->code = error_set(d->err, code, "merging layers: more than %llu %s", (unsigned long long)max, what);
        return 0;
}

uint32_t draft_fail_memory(struct draft *d)
{
        if (!d->code)
                d->code = error_nomem(d->err);
        return 0;
}

/* room for one more, doubling; untouched pages cost nothing */
static bool reserve(struct draft *d, void **array, uint32_t count, uint32_t *room, size_t size)
{
        if (count < *room)
                return true;
        size_t bigger = *room ? (size_t)*room * 2 : 1024;
        void *moved = bigger <= UINT32_MAX ? realloc(*array, bigger * size) : NULL;
        if (!moved)
                return draft_fail_memory(d);
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
static size_t names_slot(const struct draft *d, uint32_t hash, const char *name, size_t len)
{
        const struct names *n = &d->names;
        size_t at = hash & (n->slot_count - 1);
        for (; n->slots[at].text; at = (at + 1) & (n->slot_count - 1)) {
                const uint8_t *text = &n->text[n->slots[at].text];
                if (n->slots[at].hash == hash && text[0] == len && !memcmp(text + 1, name, len))
                        break;
        }
        return at;
}

uint32_t draft_find_name(const struct draft *d, const char *name, size_t len)
{
        if (!d->names.count || len > TREE_NAME_BYTES_MAX)
                return 0;
        return d->names.slots[names_slot(d, (uint32_t)map_hash(d->seed, name, len), name, len)].text;
}

static uint32_t names_new(struct draft *d, const char *name, size_t len)
{
        struct names *n = &d->names;
        /* readers of archives and indexes let no such name through; the tree relies on it */
        if (!len || len > TREE_NAME_BYTES_MAX || memchr(name, '/', len) || memchr(name, '\0', len) ||
                (len == 1 && *name == '.') || (len == 2 && !memcmp(name, "..", 2))) {
                if (!d->code)
                        d->code = error_set(d->err, -EBADMSG, "merging layers: an entry's name is no file name");
                return 0;
        }
        if (n->len + len + 1 > TEXT_MAX)
                return draft_fail(d, -EFBIG, "bytes of names", TEXT_MAX);
        if (n->room - n->len < len + 1) {
                size_t bigger = n->room ? n->room * 2 : 64 << 10;
                uint8_t *moved = realloc(n->text, bigger);
                if (!moved)
                        return draft_fail_memory(d);
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

uint32_t draft_name(struct draft *d, const char *name, size_t len)
{
        struct names *n = &d->names;
        if (n->count >= n->slot_count / 4 * 3 && !names_grow(n))
                return draft_fail_memory(d);
        uint32_t hash = (uint32_t)map_hash(d->seed, name, len);
        size_t at = names_slot(d, hash, name, len);
        if (!n->slots[at].text) {
                n->slots[at].text = names_new(d, name, len);
                n->slots[at].hash = hash;
        }
        return n->slots[at].text;
}

/* ---- nodes and edges ---- */

uint32_t draft_node(struct draft *d, enum tar_type type, uint32_t content)
{
        if (d->node_count > TREE_INODES_MAX)
                return draft_fail(d, -EFBIG, "inodes", TREE_INODES_MAX);
        if (!reserve(d, (void **)&d->nodes, d->node_count, &d->node_room, sizeof *d->nodes))
                return 0;
        d->nodes[d->node_count] = (struct node){.content = content, .attr = content, .type = type};
        if (type != TAR_DIR)
                d->nodes[d->node_count].file.xattr = content;
        return d->node_count++;
}

static uint32_t *bucket_of(const struct draft *d, uint32_t dir, uint32_t name)
{
        uint64_t hash = mul_fold(((uint64_t)dir << 32 | name) ^ d->seed, 0xd6e8feb86659fd93u);
        return &d->buckets[hash & (d->bucket_count - 1)];
}

static bool buckets_grow(struct draft *d)
{
        uint32_t bigger = d->bucket_count ? d->bucket_count * 2 : 1024;
        uint32_t *buckets = calloc(bigger, sizeof *buckets);
        if (!buckets)
                return draft_fail_memory(d);
        free(d->buckets);
        d->buckets = buckets;
        d->bucket_count = bigger;
        for (uint32_t i = 1; i < d->edge_count; i++) {
                struct edge *e = &d->edges[i];
                if (!e->node)
                        continue;
                uint32_t *bucket = bucket_of(d, e->dir, e->name);
                e->chain = *bucket;
                *bucket = i;
        }
        return true;
}

uint32_t draft_find_edge(const struct draft *d, uint32_t dir, uint32_t name)
{
        if (!name)
                return 0;
        uint32_t i = *bucket_of(d, dir, name);
        while (i && (d->edges[i].dir != dir || d->edges[i].name != name))
                i = d->edges[i].chain;
        return i;
}

uint32_t draft_edge(struct draft *d, uint32_t dir, uint32_t name, uint32_t node, unsigned stamp)
{
        if (d->edge_count > TREE_NAMES_MAX)
                return draft_fail(d, -EFBIG, "names", TREE_NAMES_MAX);
        if (!reserve(d, (void **)&d->edges, d->edge_count, &d->edge_room, sizeof *d->edges) ||
                (d->live >= d->bucket_count && !buckets_grow(d)))
                return 0;
        uint32_t i = d->edge_count++, *bucket = bucket_of(d, dir, name);
        d->edges[i] = (struct edge){.dir = dir, .node = node, .name = name, .chain = *bucket, .stamp = stamp};
        *bucket = i;
        d->live++;
        struct node *parent = &d->nodes[dir];
        if (parent->dir.last)
                d->edges[parent->dir.last].next = i;
        else
                parent->dir.first = i;
        parent->dir.last = i;
        return i;
}

void draft_remove(struct draft *d, uint32_t edge)
{
        struct edge *e = &d->edges[edge];
        uint32_t *link = bucket_of(d, e->dir, e->name);
        while (*link != edge)
                link = &d->edges[*link].chain;
        *link = e->chain;
        d->live--;
        unsigned type = d->nodes[e->node].type;
        if (type == TAR_DIR || type == TAR_SYMLINK)
                d->generation++;
        e->node = 0;
}

/* ---- packing ---- */

/* the inode of a node, numbered now if it is seen for the first time */
static uint32_t number(struct draft *d, struct tree *t, uint32_t node)
{
        struct node *n = &d->nodes[node];
        if (n->number) {
                t->inodes[n->number].nlink++;
                return n->number;
        }
        uint32_t ino = n->number = (uint32_t)++t->stats.inodes;
        struct tree_inode *inode = &t->inodes[ino];
        *inode = (struct tree_inode){.content = n->content, .attr = n->attr, .type = n->type & 0xf, .nlink = 1};
        if (n->type == TAR_DIR) {
                inode->nlink = 2;
                inode->dir.parent = d->nodes[n->dir.parent].number;
                inode->dir.first = node; /* until its names are there */
                if (inode->dir.parent != ino)
                        t->inodes[inode->dir.parent].nlink++;
        } else {
                inode->file.xattr = n->file.xattr;
        }
        return ino;
}

/* breadth first: the array of inodes is the queue */
static void pack(struct draft *d, struct tree *t)
{
        number(d, t, DRAFT_ROOT);
        for (uint32_t ino = TREE_ROOT; ino <= t->stats.inodes; ino++) {
                struct tree_inode *dir = &t->inodes[ino];
                if (dir->type != TAR_DIR)
                        continue;
                uint32_t edge = d->nodes[dir->dir.first].dir.first;
                dir->dir.first = (uint32_t)t->stats.names;
                for (; edge; edge = d->edges[edge].next) {
                        const struct edge *e = &d->edges[edge];
                        if (!e->node)
                                continue;
                        struct tree_name *name = &t->names[t->stats.names++];
                        name->text = e->name;
                        name->ino = number(d, t, e->node);
                }
                dir->dir.count = (uint32_t)t->stats.names - dir->dir.first;
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

/* The arrays are made as large as they can become, and cut when their size is known. */
int draft_freeze(struct draft *d, struct tree *t)
{
        t->inodes = malloc(d->node_count * sizeof *t->inodes);
        t->names = malloc(d->edge_count * sizeof *t->names);
        if (!t->inodes || !t->names) {
                draft_fail_memory(d);
                return d->code;
        }
        pack(d, t);
        shrink(&t->inodes, (t->stats.inodes + 1) * sizeof *t->inodes);
        shrink(&t->names, (t->stats.names + 1) * sizeof *t->names);
        shrink(&d->names.text, d->names.len);
        t->text = take(d->names.text);
        lend_times(t);
        for (uint32_t ino = TREE_ROOT; ino <= t->stats.inodes; ino++) {
                struct index_entry e;
                if (t->inodes[ino].type != TAR_REG)
                        continue;
                tree_entry(t, t->inodes[ino].content, &e);
                if (!add_ok(t->stats.bytes, e.size, &t->stats.bytes))
                        t->stats.bytes = UINT64_MAX;
        }
        t->stats.memory_bytes += (t->stats.inodes + 1) * sizeof *t->inodes + (t->stats.names + 1) * sizeof *t->names;
        t->stats.memory_bytes += d->names.len;
        return 0;
}

/* ---- beginning and end ---- */

int draft_init(struct draft *d, uint32_t entries, struct error *err)
{
        uint32_t room = MIN(entries, (uint32_t)TREE_INODES_MAX) + 1024;
        *d = (struct draft){
                .err = err, .seed = map_seed(), .node_count = 1, .edge_count = 1, .bucket_count = 512, .generation = 1};
        while (d->bucket_count < room && d->bucket_count < 1u << 20)
                d->bucket_count *= 2;
        d->nodes = malloc(room * sizeof *d->nodes);
        d->edges = malloc(room * sizeof *d->edges);
        d->buckets = calloc(d->bucket_count, sizeof *d->buckets);
        d->names.text = malloc(64 << 10);
        if (!d->nodes || !d->edges || !d->buckets || !d->names.text) {
                draft_fail_memory(d);
                return d->code;
        }
        d->node_room = d->edge_room = room;
        d->names.room = 64 << 10;
        d->names.text[0] = 0; /* place 0 is none */
        d->names.len = 1;
        d->nodes[draft_node(d, TAR_DIR, TREE_NO_ENTRY)].dir.parent = DRAFT_ROOT;
        return 0;
}

void draft_done(struct draft *d)
{
        free(d->nodes);
        free(d->edges);
        free(d->buckets);
        free(d->names.text);
        free(d->names.slots);
}
