/*
 * The merge against a model that works the other way round: each layer first becomes a tree of its own, with marks for what
 * it hides, and is then laid over what is below, recursively, the way the rules are told. Slow and plain; no hard links.
 * Random layers over few names; a failure prints the layers in layers.h's language.
 */
#include <sys/stat.h>
#include <time.h>

#include "layers.h"

enum { CASES = 4000, CHILDREN = 16, HOPS = 40 };

struct model {
        char name[24];
        bool present; /* an entry, or the parent of one; else only marks are below it */
        bool walked;  /* a path went through it: if it is not present, it is the parent of whiteouts */
        bool hides;   /* nothing of lower layers shows here */
        bool opaque;  /* a directory whose lower children do not show */
        bool dir;
        char target[64]; /* of a symlink, else "" */
        unsigned entry;  /* 0: implied */
        struct model *parent, *child[CHILDREN];
        unsigned count;
};

static struct model *model_new(struct model *parent, const char *name, bool dir)
{
        struct model *n = calloc(1, sizeof *n);
        CHECK(n && strlen(name) < sizeof n->name);
        strcpy(n->name, name);
        n->parent = parent ? parent : n;
        n->dir = dir;
        if (parent) {
                CHECK(parent->count < CHILDREN);
                parent->child[parent->count++] = n;
        }
        return n;
}

static void model_empty(struct model *n);

static void model_free(struct model *n)
{
        if (!n)
                return;
        model_empty(n);
        free(n);
}

static void model_empty(struct model *n)
{
        for (unsigned i = 0; i < n->count; i++)
                model_free(n->child[i]);
        n->count = 0;
}

static struct model *model_find(const struct model *dir, const char *name)
{
        for (unsigned i = 0; i < dir->count; i++)
                if (strcmp(dir->child[i]->name, name) == 0)
                        return dir->child[i];
        return NULL;
}

/* ---- a layer on its own ---- */

/* makes it a directory of this layer; what was no directory hides what was below it */
static void model_become_dir(struct model *n)
{
        if (n->present && !n->dir) {
                n->hides = true;
                n->entry = 0;
                n->target[0] = '\0';
        }
        n->dir = n->present = true;
}

static struct model *model_walk(struct model *root, const char *path, bool create)
{
        char todo[8192], rest[8192];
        CHECK(strlen(path) < sizeof todo);
        strcpy(todo, path);
        struct model *at = root;
        unsigned hops = 0, missing = 0;
        while (todo[0]) {
                size_t len = strcspn(todo, "/");
                char name[24];
                CHECK(len < sizeof name);
                memcpy(name, todo, len);
                name[len] = '\0';
                strcpy(rest, todo + len + (todo[len] == '/'));
                strcpy(todo, rest);
                if (!len || strcmp(name, ".") == 0)
                        continue;
                if (strcmp(name, "..") == 0) {
                        if (missing)
                                missing--;
                        else
                                at = at->parent;
                        continue;
                }
                struct model *next = missing ? NULL : model_find(at, name);
                if (next && next->present && next->target[0]) {
                        if (hops++ == HOPS)
                                return NULL;
                        if (next->target[0] == '/')
                                at = root;
                        snprintf(todo, sizeof todo, "%s/%.4000s", next->target, rest);
                        continue;
                }
                if (missing || (!create && next && next->present && !next->dir)) {
                        missing++;
                        continue;
                }
                if (!next)
                        next = model_new(at, name, true);
                if (create)
                        model_become_dir(next);
                next->walked = true;
                at = next;
        }
        return missing ? NULL : at;
}

static void model_apply(struct model *root, char type, const char *path, const char *target, unsigned entry)
{
        char dir[256];
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) : 0, path);
        if (strcmp(name, ".wh..wh..opq") == 0) {
                struct model *d = model_walk(root, dir, true);
                if (d)
                        d->opaque = true;
                return;
        }
        bool whiteout = strncmp(name, ".wh.", 4) == 0;
        struct model *d = model_walk(root, dir, !whiteout);
        if (!d)
                return;
        name += whiteout ? 4 : 0;
        struct model *n = model_find(d, name);
        if (!n)
                n = model_new(d, name, false);
        if (whiteout) {
                n->hides = true;
                return;
        }
        if (type == 'd') {
                model_become_dir(n);
                n->entry = entry;
                return;
        }
        model_empty(n);
        n->dir = n->opaque = n->walked = false;
        n->hides = true;
        n->present = type != 'c'; /* c: 0:0 */
        n->entry = n->present ? entry : 0;
        strcpy(n->target, type == 's' ? target : "");
}

/* ---- laid over what is below ---- */

static struct model *model_copy(const struct model *from, struct model *parent)
{
        struct model *n = model_new(parent, from->name, from->dir);
        n->present = true;
        n->entry = from->entry;
        strcpy(n->target, from->target);
        for (unsigned i = 0; i < from->count; i++)
                model_copy(from->child[i], n);
        return n;
}

static void model_lay_children(const struct model *low, const struct model *up, struct model *out);

/* low or up may be NULL: not there */
static void model_lay(const struct model *low, const struct model *up, struct model *parent)
{
        if (up && up->hides)
                low = NULL;
        if (!up || (!up->present && (!low || (!low->dir && !(low->target[0] && up->walked))))) {
                if (low)
                        model_copy(low, parent);
                return;
        }
        if (up->present && !up->dir) {
                model_copy(up, parent);
                return;
        }
        if (!up->present && low->dir && !up->walked) {
                model_copy(low, parent);
                return;
        }
        bool over_dir = low && low->dir;
        struct model *out = model_new(parent, up->name, true);
        out->present = true;
        out->entry = up->present && up->entry ? up->entry : over_dir ? low->entry : 0;
        model_lay_children(over_dir && !up->opaque ? low : NULL, up, out);
}

static void model_lay_children(const struct model *low, const struct model *up, struct model *out)
{
        for (unsigned i = 0; low && i < low->count; i++)
                model_lay(low->child[i], model_find(up, low->child[i]->name), out);
        for (unsigned i = 0; i < up->count; i++)
                if (!low || !model_find(low, up->child[i]->name))
                        model_lay(NULL, up->child[i], out);
}

/* ---- random layers ---- */

static uint64_t random_state;

static unsigned pick(unsigned n)
{
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        return (unsigned)(random_state >> 33) % n;
}

static const char *pick_path(char *out, unsigned deepest)
{
        static const char *const names[] = {"a", "b", "c", "d", "s"};
        out[0] = '\0';
        for (unsigned i = 0, n = 1 + pick(deepest); i < n; i++)
                sprintf(out + strlen(out), "%s%s", i ? "/" : "", names[pick(ARRAY_LEN(names))]);
        return out;
}

/* adds an entry to the model and, as text, to the layer; uid is the entry's number */
static void random_entry(struct model *layer, struct buf *text, unsigned entry)
{
        static const char types[] = "fffdddsswwwoc", prefixes[5][8] = {"", "/", "../", "a/../", "../../"};
        char path[96], target[64] = "", type = types[pick(sizeof types - 1)];
        pick_path(path, 3);
        char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        if (type == 'w') {
                memmove(name + 4, name, strlen(name) + 1);
                memcpy(name, ".wh.", 4);
        }
        if (type == 'o')
                strcpy(name, ".wh..wh..opq");
        if (type == 's') {
                strcpy(target, prefixes[pick(5)]);
                pick_path(target + strlen(target), 2);
        }
        model_apply(layer, type, path, target, entry);
        buf_addf(text, "%s%c %s%s%s u=%u", text->len ? ";" : "", type == 'w' || type == 'o' ? 'f' : type, path,
                type == 's' ? ">" : "", target, entry);
}

static bool same(const struct tree *t, uint32_t ino, const struct model *m)
{
        struct tree_attr a;
        tree_attr(t, ino, &a);
        if (S_ISDIR(a.mode) != m->dir || (tree_layer(t, ino) < 0) != (m->entry == 0) || a.uid != m->entry)
                return false;
        if ((m->target[0] != 0) != S_ISLNK(a.mode) || tree_dir_count(t, ino) != m->count)
                return false;
        for (unsigned i = 0; i < m->count; i++) {
                uint32_t child = tree_lookup(t, ino, m->child[i]->name, strlen(m->child[i]->name));
                if (!child || !same(t, child, m->child[i]))
                        return false;
        }
        return true;
}

static void compare(uint64_t seed)
{
        enum { LAYERS = 4 };
        random_state = seed;
        struct buf text[LAYERS];
        const char *entries[LAYERS + 1] = {NULL};
        unsigned layers = 1 + pick(LAYERS), entry = 1;
        struct model *sum = model_new(NULL, "", true);
        for (unsigned i = 0; i < layers; i++) {
                struct model *layer = model_new(NULL, "", true), *out = model_new(NULL, "", true);
                buf_init(&text[i], 1 << 16);
                for (unsigned k = pick(12); k; k--)
                        random_entry(layer, &text[i], entry++);
                entries[i] = buf_str(&text[i]);
                model_lay_children(layer->opaque ? NULL : sum, layer, out);
                model_free(sum);
                model_free(layer);
                sum = out;
        }
        struct layers *l = layers_merge(false, entries);
        CHECK_INT(l->code, 0);
        if (!same(l->tree, TREE_ROOT, sum)) {
                struct buf got;
                buf_init(&got, 1 << 20);
                layers_show(l->tree, TREE_ROOT, "", &got);
                for (unsigned i = 0; i < layers; i++)
                        fprintf(stderr, "layer %u: %s\n", i, entries[i]);
                CHECK_FAIL("seed %" PRIu64 ": the model differs from %s", seed, buf_str(&got));
        }
        layers_free(l);
        model_free(sum);
        for (unsigned i = 0; i < layers; i++)
                buf_done(&text[i]);
}

TEST(random_layers_equal_the_model)
{
        for (uint64_t seed = 1; seed <= CASES; seed++)
                compare(seed);
}

TEST(random_layers_of_a_new_seed)
{
        uint64_t seed = (uint64_t)time(NULL) << 20;
        printf("seed %" PRIu64 "\n", seed);
        for (uint64_t i = 0; i < CASES / 10; i++)
                compare(seed + i);
}
