/*
 * How: every file is parsed on its own, and its tables are appended to one list of rules. A later rule of the same prefix
 * replaces an earlier one as a whole, which needs no work when they are read: the search takes the last of the longest.
 *
 * Which files: a named one ($CONTAINERS_REGISTRIES_CONF, or for tests) stands alone. Otherwise the main file is the first of
 * the user's, /etc's and /usr/share's; the drop-ins of all three are read in the order of their names, and a name that
 * occurs in several folders counts in the most important one only. (Older podman read the system's drop-ins only without a
 * user's main file; see containers-registries.conf.d(5).)
 *
 * Short names mean Docker Hub, as for docker, unless the files say otherwise: an alias counts always, and the registries to
 * search when Docker Hub is not among them. Nobody is asked: short-name-mode is read over. So is credential-helpers: the files
 * with credentials name theirs.
 *
 * Where no rule fits, docker's daemon.json counts.
 */
#include "source/registries.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "source/conf.h"
#include "source/dockerd.h"
#include "source/registries_files.h"
#include "source/toml.h"

enum { DROPINS_MAX = 1024, FOLDERS_MAX = 16 };

enum pull { PULL_ALL, PULL_DIGEST_ONLY, PULL_TAG_ONLY };

struct mirror {
        const char *location;
        bool insecure;
        enum pull pull;
        struct mirror *next;
};

/* one [[registry]] */
struct rule {
        const char *prefix;   /* of references in their full form; "*.example.com" for hosts below it */
        const char *location; /* what takes its place; NULL: nothing does */
        const char *file;     /* for messages */
        bool insecure, blocked;
        struct mirror *mirrors;
        struct rule *next;
};

struct alias {
        const char *name, *value; /* value "": there is none, whatever an earlier file said */
        struct alias *next;
};

/* one of unqualified-search-registries */
struct search {
        const char *place;
        struct search *next;
};

struct registries {
        struct arena arena;
        struct rule *rules, **end; /* in the order of the files */
        struct alias *aliases;     /* the last first */
        struct search *searches;   /* in order, those of the last file that has any */
        struct dockerd docker;
};

/* a file that is being read */
struct reading {
        struct registries *r;
        const char *path; /* in the arena */
        struct error *err;
};

static const char *copy(struct reading *f, const char *s)
{
        const char *c = arena_copy(&f->r->arena, s, strlen(s));
        if (!c)
                error_nomem(f->err);
        return c;
}

__attribute__((format(printf, 3, 4))) static int fail(
        struct reading *f, const struct toml_value *at, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        error_setv(f->err, -EINVAL, fmt, ap);
        va_end(ap);
        return error_wrap(f->err, -EINVAL, "line %u", at->line);
}

/* ---- one file ---- */

/* a location or prefix as it is kept: no scheme, no slash at the end; "" is an error */
static int read_place(struct reading *f, const struct toml_value *table, const char *key, const char **ret)
{
        const char *text;
        const struct toml_value *v;
        int r = toml_get(table, key, TOML_STRING, &v, f->err);
        if (r < 0)
                return r;
        *ret = NULL;
        if (!v || !*v->string)
                return 0;
        text = v->string;
        if (strstr(text, "://"))
                return fail(f, v, "%s = \"%.100s\": leave out what stands before the host name", key, text);
        size_t len = strlen(text);
        while (len && text[len - 1] == '/')
                len--;
        const char *star = strchr(text, '*');
        if (star && (strcmp(key, "prefix") != 0 || star != text || text[1] != '.' || strchr(text + 1, '*') || len < 3))
                return fail(f, v, "%s = \"%.100s\": a '*' may only begin a prefix, as in *.example.com", key, text);
        if (!len)
                return fail(f, v, "%s = \"%.100s\": a host name is missing", key, text);
        *ret = arena_copy(&f->r->arena, text, len);
        return *ret ? 0 : error_nomem(f->err);
}

static int read_pull(struct reading *f, const struct toml_value *table, bool by_digest_only, enum pull *ret_pull)
{
        static const char *const words[] = {
                [PULL_ALL] = "all", [PULL_DIGEST_ONLY] = "digest-only", [PULL_TAG_ONLY] = "tag-only"};
        const struct toml_value *v;
        int r = toml_get(table, "pull-from-mirror", TOML_STRING, &v, f->err);
        if (r < 0)
                return r;
        *ret_pull = by_digest_only ? PULL_DIGEST_ONLY : PULL_ALL;
        if (!v || !*v->string)
                return 0;
        if (by_digest_only)
                return fail(f, v, "pull-from-mirror and the registry's mirror-by-digest-only exclude each other");
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
                if (!strcmp(v->string, words[i])) {
                        *ret_pull = (enum pull)i;
                        return 0;
                }
        return fail(f, v, "pull-from-mirror = \"%.100s\": must be all, digest-only or tag-only", v->string);
}

static int read_mirrors(struct reading *f, const struct toml_value *table, struct rule *rule)
{
        bool by_digest_only;
        const struct toml_value *list;
        int r = toml_get_bool(table, "mirror-by-digest-only", false, &by_digest_only, f->err);
        if (r < 0 || (r = toml_get(table, "mirror", TOML_ARRAY, &list, f->err)) < 0 || !list)
                return r;
        if ((r = toml_check_items(list, TOML_TABLE, f->err)) < 0)
                return r;
        struct mirror **end = &rule->mirrors;
        for (const struct toml_value *item = list->first; item; item = item->next) {
                struct mirror *m = arena_alloc(&f->r->arena, sizeof *m);
                if (!m)
                        return error_nomem(f->err);
                if ((r = read_place(f, item, "location", &m->location)) < 0 ||
                        (r = toml_get_bool(item, "insecure", false, &m->insecure, f->err)) < 0 ||
                        (r = read_pull(f, item, by_digest_only, &m->pull)) < 0)
                        return r;
                if (!m->location)
                        return fail(f, item, "a mirror without a location");
                *end = m;
                end = &m->next;
        }
        return 0;
}

static struct rule *add_rule(struct reading *f)
{
        struct rule *rule = arena_alloc(&f->r->arena, sizeof *rule);
        if (!rule) {
                error_nomem(f->err);
                return NULL;
        }
        rule->file = f->path;
        *f->r->end = rule;
        f->r->end = &rule->next;
        return rule;
}

static int read_registry(struct reading *f, const struct toml_value *table)
{
        struct rule *rule = add_rule(f);
        if (!rule)
                return -ENOMEM;
        int r;
        if ((r = read_place(f, table, "prefix", &rule->prefix)) < 0 ||
                (r = read_place(f, table, "location", &rule->location)) < 0 ||
                (r = toml_get_bool(table, "insecure", false, &rule->insecure, f->err)) < 0 ||
                (r = toml_get_bool(table, "blocked", false, &rule->blocked, f->err)) < 0 ||
                (r = read_mirrors(f, table, rule)) < 0)
                return r;
        if (!rule->prefix && !rule->location)
                return fail(f, table, "a registry without prefix and location");
        if (!rule->prefix)
                rule->prefix = rule->location;
        return 0;
}

static int read_alias(struct reading *f, const struct toml_value *v)
{
        if (v->type != TOML_STRING)
                return fail(f, v, "the alias \"%.100s\" must be text in quotes", v->key);
        if (*v->string) {
                struct reference ref;
                int r = reference_parse_name(v->string, &ref, f->err);
                if (r < 0)
                        return error_wrap(f->err, r, "line %u: the alias \"%.100s\"", v->line, v->key);
                reference_done(&ref);
        }
        struct alias *a = arena_alloc(&f->r->arena, sizeof *a);
        if (!a)
                return error_nomem(f->err);
        a->name = copy(f, v->key);
        a->value = copy(f, v->string);
        if (!a->name || !a->value)
                return -ENOMEM;
        a->next = f->r->aliases;
        f->r->aliases = a;
        return 0;
}

/* A list replaces that of the file before. */
static int read_searches(struct reading *f, const struct toml_value *first)
{
        struct search **end = &f->r->searches;
        *end = NULL;
        for (const struct toml_value *v = first; v; v = v->next) {
                struct search *s = arena_alloc(&f->r->arena, sizeof *s);
                if (!s)
                        return error_nomem(f->err);
                size_t len = strlen(v->string);
                while (len && v->string[len - 1] == '/')
                        len--;
                if (!len)
                        return fail(f, v, "a host name is missing");
                s->place = arena_copy(&f->r->arena, v->string, len);
                if (!s->place)
                        return error_nomem(f->err);
                *end = s;
                end = &s->next;
        }
        return 0;
}

/* a list of version 1: [registries.insecure] registries = [...] */
static int read_v1_list(struct reading *f, const struct toml_value *v1, const char *key, const struct toml_value **ret)
{
        const struct toml_value *table, *list = NULL;
        int r = toml_get(v1, key, TOML_TABLE, &table, f->err);
        if (r == 0 && table)
                r = toml_get(table, "registries", TOML_ARRAY, &list, f->err);
        if (r == 0 && list)
                r = toml_check_items(list, TOML_STRING, f->err);
        if (r == 0)
                *ret = list ? list->first : NULL;
        return r;
}

/* Both lists become rules; a registry in both is blocked, because only the last rule of a prefix counts. */
static int read_v1(struct reading *f, const struct toml_value *root, bool *ret_is_v1)
{
        const struct toml_value *v1, *search, *lists[2];
        *ret_is_v1 = false;
        int r = toml_get(root, "registries", TOML_TABLE, &v1, f->err);
        if (r < 0 || !v1)
                return r;
        if ((r = read_v1_list(f, v1, "search", &search)) < 0 || (r = read_v1_list(f, v1, "insecure", &lists[0])) < 0 ||
                (r = read_v1_list(f, v1, "block", &lists[1])) < 0)
                return r;
        for (size_t i = 0; i < 2; i++)
                for (const struct toml_value *v = lists[i]; v; v = v->next) {
                        size_t len = strlen(v->string);
                        while (len && v->string[len - 1] == '/')
                                len--;
                        struct rule *rule = len ? add_rule(f) : NULL;
                        if (!len)
                                return fail(f, v, "a host name is missing");
                        if (!rule || !(rule->prefix = arena_copy(&f->r->arena, v->string, len)))
                                return error_nomem(f->err);
                        rule->insecure = i == 0;
                        rule->blocked = i == 1;
                }
        *ret_is_v1 = search || lists[0] || lists[1];
        return search ? read_searches(f, search) : 0;
}

static int read_document(struct reading *f, const struct toml_value *root)
{
        static const char *const keys[] = {
                "registry", "aliases", "unqualified-search-registries", "short-name-mode", "credential-helpers"};
        bool is_v1;
        int r = read_v1(f, root, &is_v1);
        for (size_t i = 0; r == 0 && is_v1 && i < ARRAY_LEN(keys); i++) {
                const struct toml_value *v2 = toml_find(root, keys[i]);
                if (v2)
                        return fail(f, v2,
                                "\"%s\" belongs to version 2 of the format, [registries.search], [registries.insecure]"
                                " and [registries.block] to version 1: one file must not have both",
                                keys[i]);
        }
        const struct toml_value *list, *aliases, *searches;
        if (r < 0 || (r = toml_get(root, "registry", TOML_ARRAY, &list, f->err)) < 0 ||
                (r = toml_get(root, "aliases", TOML_TABLE, &aliases, f->err)) < 0 ||
                (r = toml_get(root, "unqualified-search-registries", TOML_ARRAY, &searches, f->err)) < 0)
                return r;
        if (searches && ((r = toml_check_items(searches, TOML_STRING, f->err)) < 0 ||
                                (r = read_searches(f, searches->first)) < 0))
                return r;
        if (list && (r = toml_check_items(list, TOML_TABLE, f->err)) < 0)
                return r;
        for (const struct toml_value *v = list ? list->first : NULL; r == 0 && v; v = v->next)
                r = read_registry(f, v);
        for (const struct toml_value *v = aliases ? aliases->first : NULL; r == 0 && v; v = v->next)
                r = read_alias(f, v);
        return r;
}

static int read_text(struct registries *reg, const char *path, const char *text, size_t len, struct error *err)
{
        struct reading f = {.r = reg, .err = err};
        f.path = copy(&f, path);
        if (!f.path)
                return -ENOMEM;
        cleanup(toml_freep) struct toml *toml = NULL;
        int r = toml_parse(text, len, &toml, err);
        if (r == 0)
                r = read_document(&f, toml_root(toml));
        return r < 0 ? error_wrap(err, r, "%.300s", path) : 0;
}

static int read_file(struct registries *reg, const char *path, struct error *err)
{
        struct conf_file file;
        int r = conf_read(path, TOML_MAX_BYTES, &file, err);
        if (r < 0)
                return r;
        log_debug(LOG_HTTP, "reading %s", path);
        r = read_text(reg, path, file.data, file.len, err);
        conf_done(&file);
        return r;
}

/* the same for a file that need not be there: 1 read, 0 absent */
static int try_file(struct registries *reg, const char *path, struct error *err)
{
        struct error local = {0}; /* nothing is said about an absent one */
        int r = read_file(reg, path, &local);
        if (r == -ENOENT)
                return 0;
        if (r < 0 && err)
                *err = local;
        return r < 0 ? r : 1;
}

/* ---- which files ---- */

struct dropin {
        char *path;
        const char *name; /* the last part of path */
        size_t folder;    /* the higher, the more important */
};

struct dropins {
        struct dropin *list;
        size_t count;
};

static void dropins_done(struct dropins *d)
{
        for (size_t i = 0; i < d->count; i++)
                free(d->list[i].path);
        free(d->list);
}

static int add_dropin(struct dropins *d, const char *folder, const char *name, size_t rank, struct error *err)
{
        if (d->count == DROPINS_MAX)
                return error_set(err, -EFBIG, "%.300s: more than %d configuration files", folder, DROPINS_MAX);
        struct dropin *list = reallocarray(d->list, d->count + 1, sizeof *list);
        if (!list)
                return error_nomem(err);
        d->list = list;
        char *path = conf_format("%s/%s", folder, name);
        if (!path)
                return error_nomem(err);
        list[d->count++] = (struct dropin){path, path + strlen(folder) + 1, rank};
        return 0;
}

static int list_folder(struct dropins *d, const char *folder, size_t rank, struct error *err)
{
        DIR *dir = opendir(folder);
        if (!dir) {
                if (errno != ENOENT && errno != ENOTDIR)
                        log_notice("%s: %s", folder, strerror(errno));
                return 0;
        }
        int r = 0;
        for (struct dirent *e; r == 0 && (e = readdir(dir));) {
                size_t len = strlen(e->d_name);
                if (len > 5 && !strcmp(e->d_name + len - 5, ".conf") && e->d_type != DT_DIR)
                        r = add_dropin(d, folder, e->d_name, rank, err);
        }
        closedir(dir);
        return r;
}

static int by_name(const void *a, const void *b)
{
        const struct dropin *x = a, *y = b;
        int order = strcmp(x->name, y->name);
        return order ? order : (x->folder > y->folder) - (x->folder < y->folder);
}

static int read_dropins(struct registries *reg, struct dropins *d, struct error *err)
{
        if (d->count)
                qsort(d->list, d->count, sizeof *d->list, by_name);
        for (size_t i = 0; i < d->count; i++) {
                if (i + 1 < d->count && !strcmp(d->list[i].name, d->list[i + 1].name))
                        continue; /* the more important one comes next */
                int r = try_file(reg, d->list[i].path, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* drop-ins of one configuration folder, with those for root or for everybody else */
static int list_dropins(struct dropins *d, const char *dir, size_t rank, struct error *err)
{
        char folder[3][4096];
        unsigned uid = (unsigned)geteuid();
        snprintf(folder[0], sizeof folder[0], "%s/registries.conf.d", dir);
        snprintf(folder[1], sizeof folder[1], "%s/registries.%s.conf.d", dir, uid ? "rootless" : "rootful");
        snprintf(folder[2], sizeof folder[2], "%s/registries.rootless.conf.d/%u", dir, uid);
        int r = 0;
        for (size_t i = 0; r == 0 && i < (uid ? 3 : 2); i++)
                r = list_folder(d, folder[i], rank + i, err);
        return r;
}

static struct registries *new_registries(struct error *err)
{
        struct registries *r = calloc(1, sizeof *r);
        if (!r) {
                error_nomem(err);
                return NULL;
        }
        arena_init(&r->arena);
        r->end = &r->rules;
        return r;
}

int registries_load_dirs(const char *const *dirs, size_t count, struct registries **ret_registries, struct error *err)
{
        cleanup(registries_freep) struct registries *reg = new_registries(err);
        if (!reg)
                return -ENOMEM;
        int r = 0;
        for (size_t i = count; r == 0 && i-- > 0;) {
                cleanup(freep) char *main_file = conf_format("%s/registries.conf", dirs[i]);
                if (!main_file)
                        return error_nomem(err);
                r = try_file(reg, main_file, err);
        }
        if (r < 0)
                return r;
        cleanup(dropins_done) struct dropins d = {0};
        for (size_t i = 0; i < count; i++)
                if ((r = list_dropins(&d, dirs[i], i * 3, err)) < 0)
                        return r;
        r = read_dropins(reg, &d, err);
        if (r == 0)
                *ret_registries = take(reg);
        return r;
}

int registries_load_text(const char *text, size_t len, struct registries **ret_registries, struct error *err)
{
        cleanup(registries_freep) struct registries *reg = new_registries(err);
        if (!reg)
                return -ENOMEM;
        int r = read_text(reg, "registries.conf", text, len, err);
        if (r == 0)
                *ret_registries = take(reg);
        return r;
}

static int load_one(const char *file, struct registries **ret_registries, struct error *err)
{
        cleanup(registries_freep) struct registries *reg = new_registries(err);
        if (!reg)
                return -ENOMEM;
        int r = read_file(reg, file, err);
        if (r == 0)
                *ret_registries = take(reg);
        return r;
}

int registries_load(const char *file, struct registries **ret_registries, struct error *err)
{
        if (file)
                return load_one(file, ret_registries, err);
        cleanup(registries_freep) struct registries *reg = NULL;
        const char *named = conf_env("CONTAINERS_REGISTRIES_CONF"),
                   *override = conf_env("CONTAINERS_REGISTRIES_CONF_OVERRIDE");
        int r;
        if (named) {
                r = load_one(named, &reg, err);
        } else {
                cleanup(freep) char *user = conf_user("/containers");
                const char *dirs[] = {"/usr/share/containers", "/etc/containers", user};
                r = registries_load_dirs(dirs, user ? 3 : 2, &reg, err);
                if (r == 0)
                        r = dockerd_load(&reg->docker, err);
        }
        if (r == 0 && override)
                r = read_file(reg, override, err);
        if (r == 0)
                *ret_registries = take(reg);
        return r;
}

void registries_free(struct registries *r)
{
        if (!r)
                return;
        arena_done(&r->arena);
        dockerd_done(&r->docker);
        free(r);
}

int registries_add_docker(struct registries *r, const char *text, size_t len, struct error *err)
{
        dockerd_done(&r->docker);
        return dockerd_parse(text, len, &r->docker, err);
}

/* ---- answers ---- */

static bool is_boundary(char c)
{
        return c == '\0' || c == '/' || c == ':' || c == '@';
}

/* how much of the reference the prefix covers, 0 when it does not fit */
static size_t match_len(const char *text, const char *prefix)
{
        if (prefix[0] != '*') {
                size_t len = strlen(prefix);
                return !strncmp(text, prefix, len) && is_boundary(text[len]) ? len : 0;
        }
        const char *tail = prefix + 1; /* ".example.com/x": somewhere in the host, not at its start */
        size_t len = strlen(tail);
        for (const char *p = text; *p && *p != '/'; p++)
                if (p > text && !strncmp(p, tail, len) && is_boundary(p[len]))
                        return (size_t)(p - text) + len;
        return 0;
}

static const struct rule *find_rule(const struct registries *r, const char *text, size_t *ret_len)
{
        const struct rule *best = NULL;
        size_t best_len = 0;
        for (const struct rule *rule = r->rules; rule; rule = rule->next) {
                size_t len = strlen(rule->prefix);
                if (len < best_len || (len == best_len && best && best->prefix[0] != '*' && rule->prefix[0] == '*'))
                        continue;
                size_t covered = match_len(text, rule->prefix);
                if (covered) {
                        best = rule;
                        best_len = len;
                        *ret_len = covered;
                }
        }
        return best;
}

static bool same(const char *a, const char *b)
{
        return a && b ? !strcmp(a, b) : a == b;
}

/* location and what the prefix did not cover, as a place; the whole must be a reference again */
static int rewrite(const struct reference *ref, const char *location, const char *rest, struct endpoint *ret_endpoint,
        struct error *err)
{
        cleanup(freep) char *text = conf_format("%s%s", location, rest);
        if (!text)
                return error_nomem(err);
        struct reference at;
        int r = reference_parse_name(text, &at, err);
        if (r < 0)
                return error_wrap(err, r, "location \"%.100s\"", location);
        bool guessed = !strcmp(at.domain, "docker.io") && strncmp(text, "docker.io/", 10) != 0 &&
                       strncmp(text, "index.docker.io/", 16) != 0;
        bool other = !digest_equal(&at.digest, &ref->digest) || !same(at.tag, ref->tag);
        if (guessed)
                r = error_set(err, -EINVAL,
                        "location \"%.100s\": does not begin with a host name (it needs a '.' or a port)", location);
        else if (other)
                r = error_set(
                        err, -EOPNOTSUPP, "location \"%.100s\": changing the tag or digest is not supported", location);
        if (r == 0) {
                ret_endpoint->domain = take(at.domain);
                ret_endpoint->path = take(at.path);
        }
        reference_done(&at);
        return r;
}

static bool is_allowed(const struct mirror *m, const struct reference *ref)
{
        bool digest = ref->digest.alg != DIGEST_NONE;
        return m->pull == PULL_ALL || (m->pull == PULL_DIGEST_ONLY) == digest;
}

static int fill(const struct rule *rule, const struct reference *ref, const char *text, size_t covered,
        struct endpoint *list, size_t *count, struct error *err)
{
        int r;
        for (const struct mirror *m = rule->mirrors; m; m = m->next) {
                if (!is_allowed(m, ref))
                        continue;
                struct endpoint *e = &list[(*count)++];
                if ((r = rewrite(ref, m->location, text + covered, e, err)) < 0)
                        return error_wrap(err, r, "%.200s: mirror", rule->file);
                e->insecure = m->insecure;
                e->mirror = true;
        }
        struct endpoint *e = &list[(*count)++];
        r = rule->location ? rewrite(ref, rule->location, text + covered, e, err) : rewrite(ref, "", text, e, err);
        e->insecure = rule->insecure;
        return r < 0 ? error_wrap(err, r, "%.200s", rule->file) : 0;
}

static bool set_endpoint(struct endpoint *e, const char *domain, const char *path)
{
        e->domain = strdup(domain);
        e->path = strdup(path);
        return e->domain && e->path;
}

/* no rule: the registry itself, and what docker's daemon knows of it */
static int plain_endpoints(const struct registries *reg, const struct reference *ref, struct endpoint **ret_endpoints,
        size_t *ret_count, struct error *err)
{
        size_t mirrors = strcmp(ref->domain, "docker.io") == 0 ? reg->docker.mirror_count : 0;
        struct endpoint *list = calloc(mirrors + 1, sizeof *list);
        bool ok = list != NULL;
        for (size_t i = 0; ok && i < mirrors; i++) {
                ok = set_endpoint(&list[i], reg->docker.mirrors[i].host, ref->path);
                list[i].mirror = true;
                list[i].insecure =
                        reg->docker.mirrors[i].plain || dockerd_is_insecure(&reg->docker, reg->docker.mirrors[i].host);
        }
        if (!ok || !set_endpoint(&list[mirrors], ref->domain, ref->path)) {
                if (list)
                        endpoints_free(list, mirrors + 1);
                return error_nomem(err);
        }
        list[mirrors].insecure = dockerd_is_insecure(&reg->docker, ref->domain);
        *ret_endpoints = list;
        *ret_count = mirrors + 1;
        return 0;
}

int registries_endpoints(const struct registries *reg, const struct reference *ref, struct endpoint **ret_endpoints,
        size_t *ret_count, struct error *err)
{
        cleanup(freep) char *text = reference_text(ref);
        if (!text)
                return error_nomem(err);
        size_t covered = 0;
        const struct rule *rule = find_rule(reg, text, &covered);
        if (!rule)
                return plain_endpoints(reg, ref, ret_endpoints, ret_count, err);
        if (rule->blocked)
                return error_set(err, -EACCES, "%.200s blocks \"%.100s\" (blocked = true)", rule->file, rule->prefix);
        size_t room = 1, count = 0;
        for (const struct mirror *m = rule->mirrors; m; m = m->next)
                room++;
        struct endpoint *list = calloc(room, sizeof *list);
        if (!list)
                return error_nomem(err);
        int r = fill(rule, ref, text, covered, list, &count, err);
        if (r < 0) {
                endpoints_free(list, count);
                return r;
        }
        *ret_endpoints = list;
        *ret_count = count;
        return 0;
}

void endpoints_free(struct endpoint *endpoints, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                free(endpoints[i].domain);
                free(endpoints[i].path);
        }
        free(endpoints);
}

const char *registries_alias(const struct registries *r, const char *short_name)
{
        for (const struct alias *a = r->aliases; a; a = a->next)
                if (!strcmp(a->name, short_name))
                        return *a->value ? a->value : NULL;
        return NULL;
}

/* ---- what a short name means ---- */

void names_free(struct reference *names, size_t count)
{
        for (size_t i = 0; i < count; i++)
                reference_done(&names[i]);
        free(names);
}

/* the name of a repository with the tag and digest of ref */
static int make_name(const char *repository, const struct reference *ref, struct reference *ret_name, struct error *err)
{
        cleanup(freep) char *tag = ref->tag ? strdup(ref->tag) : NULL;
        if (ref->tag && !tag)
                return error_nomem(err);
        struct reference name;
        int r = reference_parse_name(repository, &name, err);
        if (r < 0)
                return r;
        free(name.tag);
        name.tag = take(tag);
        name.digest = ref->digest;
        *ret_name = name;
        return 0;
}

/* How many registries are to be searched for it? 0: it is Docker Hub's. */
static size_t count_searches(const struct registries *r, const struct reference *ref)
{
        size_t count = 0;
        if (!ref->short_name || !strncmp(ref->short_name, "library/", 8))
                return 0;
        for (const struct search *s = r->searches; s; s = s->next, count++)
                if (!strcmp(s->place, "docker.io") || !strcmp(s->place, "index.docker.io"))
                        return 0;
        return count;
}

int registries_names(const struct registries *reg, const struct reference *ref, struct reference **ret_names,
        size_t *ret_count, struct error *err)
{
        const char *alias = ref->short_name ? registries_alias(reg, ref->short_name) : NULL;
        size_t searches = alias ? 0 : count_searches(reg, ref), count = 0;
        struct reference *names = calloc(MAX(searches, (size_t)1), sizeof *names);
        if (!names)
                return error_nomem(err);
        int r = 0;
        const struct search *s = reg->searches;
        do {
                const char *place = searches ? s->place : ref->domain;
                cleanup(freep) char *repository =
                        alias ? strdup(alias) : conf_format("%s/%s", place, searches ? ref->short_name : ref->path);
                r = repository ? make_name(repository, ref, &names[count], err) : error_nomem(err);
                if (r < 0)
                        break;
                if (searches && names[count].short_name) /* it would be Docker Hub's */
                        r = error_set(err, -EINVAL,
                                "unqualified-search-registries: \"%.100s\" is no host name (it needs a '.' or a port)",
                                place);
                count++;
        } while (r == 0 && count < searches && (s = s->next));
        if (r < 0) {
                names_free(names, count);
                return r;
        }
        *ret_names = names;
        *ret_count = count;
        return 0;
}
