/*
 * How: the first existing folder of the host is used alone, as podman does it: the user's before the machine's, containers'
 * before docker's before containerd's. A folder that may not be entered does not exist for us.
 *
 *   containers, docker    certs.d/HOST[:PORT]/    *.crt: authorities    NAME.cert + NAME.key: our own certificate
 *   containerd            certs.d/HOST_PORT_/, HOST[:PORT]/, _default/  the same, or hosts.toml with "ca" and "client"
 *
 * Of hosts.toml only what is about certificates is read: the top level's (for the server itself), and the table's of a host
 * that is the one we talk to. Mirrors are registries.conf's affair.
 *
 * Known limit: one client certificate; of several, the first by name.
 */
#include "source/certs.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "source/certs_files.h"
#include "source/conf.h"
#include "source/toml.h"

enum { CA_FILE_MAX = 2 << 20, CA_MAX = 4 << 20 };

/* what is being collected */
struct search {
        const char *domain;
        const char *dir;
        struct buf ca;
        struct certs *certs;
        struct error *err;
};

void certs_done(struct certs *c)
{
        free(c->ca_pem);
        free(c->client_cert);
        free(c->client_key);
        free(c->dir);
        *c = (struct certs){0};
}

/* dir/name, or name alone when it is absolute; NULL: out of memory */
static char *join(const char *dir, const char *name)
{
        return name[0] == '/' ? strdup(name) : conf_format("%s/%s", dir, name);
}

static bool ends_with(const char *name, const char *suffix)
{
        size_t len = strlen(name), suffix_len = strlen(suffix);
        return len > suffix_len && !strcmp(name + len - suffix_len, suffix);
}

static int add_ca(struct search *s, const char *name)
{
        cleanup(freep) char *path = join(s->dir, name);
        if (!path)
                return error_nomem(s->err);
        struct conf_file file;
        int r = conf_read(path, CA_FILE_MAX, &file, s->err);
        if (r < 0)
                return r;
        if (memchr(file.data, '\0', file.len) || !strstr(file.data, "-----BEGIN")) {
                log_warning("%s: not a certificate in PEM form; it is not used", path);
        } else {
                buf_add(&s->ca, file.data, file.len);
                buf_addc(&s->ca, '\n');
        }
        conf_done(&file);
        if (buf_error(&s->ca))
                return error_set(s->err, buf_error(&s->ca), "%.300s: %s", s->dir,
                        buf_error(&s->ca) == -EFBIG ? "too many certificates" : "out of memory");
        return 0;
}

static int set_client(struct search *s, const char *cert, const char *key)
{
        if (s->certs->client_cert) {
                log_notice("%s: more than one client certificate; %s is used", s->dir, s->certs->client_cert);
                return 0;
        }
        s->certs->client_cert = join(s->dir, cert);
        s->certs->client_key = join(s->dir, key);
        return s->certs->client_cert && s->certs->client_key ? 0 : error_nomem(s->err);
}

/* ---- *.crt, *.cert, *.key ---- */

/* the name with ".key" for ".cert" or the reverse must be in the folder too */
static int check_partner(struct search *s, const char *name, const char *from, const char *to, char partner[300])
{
        snprintf(partner, 300, "%.*s%s", (int)(strlen(name) - strlen(from)), name, to);
        cleanup(freep) char *path = join(s->dir, partner);
        if (!path)
                return error_nomem(s->err);
        if (access(path, F_OK) < 0)
                return error_set(s->err, -EINVAL, "%.300s/%s: the %s \"%s\" that belongs to it is missing", s->dir,
                        name, !strcmp(to, ".key") ? "key" : "certificate", partner);
        return 0;
}

static int take_file(struct search *s, const char *name)
{
        char partner[300];
        int r = 0;
        if (ends_with(name, ".crt")) {
                r = add_ca(s, name);
        } else if (ends_with(name, ".cert")) {
                r = check_partner(s, name, ".cert", ".key", partner);
                if (r == 0)
                        r = set_client(s, name, partner);
        } else if (ends_with(name, ".key")) {
                r = check_partner(s, name, ".key", ".cert", partner);
        }
        return r;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_folder(struct search *s)
{
        struct dirent **list;
        int count = scandir(s->dir, &list, NULL, by_name), r = 0;
        if (count < 0)
                return error_set(s->err, -errno, "%.300s: %s", s->dir, strerror(errno));
        for (int i = 0; i < count; i++) {
                if (r == 0)
                        r = take_file(s, list[i]->d_name);
                free(list[i]);
        }
        free(list);
        return r;
}

/* ---- hosts.toml ---- */

static int wrong(struct search *s, const struct toml_value *v)
{
        return error_set(s->err, -EINVAL, "line %u: \"%s\" must be a file name, or a list of them", v->line, v->key);
}

/* "FILE" (certificate and key in one), or ["CERT", "KEY"] */
static int take_client(struct search *s, const struct toml_value *key, const struct toml_value *v)
{
        if (v->type == TOML_STRING)
                return set_client(s, v->string, v->string);
        const struct toml_value *first = v->type == TOML_ARRAY ? v->first : NULL;
        if (!first || first->type != TOML_STRING || (first->next && first->next->type != TOML_STRING))
                return wrong(s, key);
        const char *second = first->next && *first->next->string ? first->next->string : first->string;
        return set_client(s, first->string, second);
}

static int take_table(struct search *s, const struct toml_value *table)
{
        const struct toml_value *ca = toml_find(table, "ca"), *client = toml_find(table, "client");
        int r = 0;
        if (ca && ca->type == TOML_STRING)
                r = add_ca(s, ca->string);
        else if (ca && (ca->type != TOML_ARRAY || toml_check_items(ca, TOML_STRING, NULL) < 0))
                r = wrong(s, ca);
        else
                for (const struct toml_value *v = ca ? ca->first : NULL; r == 0 && v; v = v->next)
                        r = add_ca(s, v->string);
        if (r < 0 || !client)
                return r;
        if (client->type != TOML_ARRAY)
                return take_client(s, client, client);
        for (const struct toml_value *v = client->first; r == 0 && v; v = v->next)
                r = take_client(s, client, v);
        return r;
}

static bool is_our_host(const struct search *s, const char *url)
{
        const char *scheme = strstr(url, "://");
        const char *host = scheme ? scheme + 3 : url;
        size_t len = strcspn(host, "/");
        return len == strlen(s->domain) && !memcmp(host, s->domain, len);
}

static int take_hosts(struct search *s, const struct toml_value *root)
{
        const struct toml_value *hosts;
        int r = toml_get(root, "host", TOML_TABLE, &hosts, s->err);
        if (r == 0)
                r = take_table(s, root);
        for (const struct toml_value *v = r == 0 && hosts ? hosts->first : NULL; r == 0 && v; v = v->next)
                if (v->type == TOML_TABLE && is_our_host(s, v->key))
                        r = take_table(s, v);
        return r;
}

/* 1: there is such a file, and it was read */
static int read_hosts_toml(struct search *s)
{
        cleanup(freep) char *path = join(s->dir, "hosts.toml");
        if (!path)
                return error_nomem(s->err);
        struct conf_file file;
        struct error why = {0};
        int r = conf_read(path, TOML_MAX_BYTES, &file, &why);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(s->err, r, "%s", why.msg);
        cleanup(toml_freep) struct toml *toml = NULL;
        r = toml_parse(file.data, file.len, &toml, s->err);
        conf_done(&file);
        if (r == 0)
                r = take_hosts(s, toml_root(toml));
        return r < 0 ? error_wrap(s->err, r, "%.300s", path) : 1;
}

/* ---- which folder ---- */

static bool is_folder(const char *path)
{
        struct stat st;
        return stat(path, &st) == 0 && S_ISDIR(st.st_mode) && access(path, R_OK | X_OK) == 0;
}

/* containerd's spelling of "host:port": a folder's name without a colon */
static void containerd_name(const char *domain, char name[300])
{
        const char *colon = strrchr(domain, ':');
        snprintf(name, 300, "%.*s_%s_", colon ? (int)(colon - domain) : 0, domain, colon ? colon + 1 : "");
}

/* The host's folder in a place: *ret_dir is NULL when it has none. */
static int find_folder(const struct certs_place *place, const char *domain, char **ret_dir)
{
        char spelled[300];
        containerd_name(domain, spelled);
        const char *names[] = {place->containerd && strchr(domain, ':') ? spelled : NULL, domain,
                place->containerd ? "_default" : NULL};
        *ret_dir = NULL;
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                if (!names[i])
                        continue;
                char *path = join(place->dir, names[i]);
                if (!path)
                        return -ENOMEM;
                if (is_folder(path)) {
                        *ret_dir = path;
                        return 0;
                }
                free(path);
        }
        return 0;
}

/* takes ownership of dir */
static int read_place(
        const struct certs_place *place, char *dir, const char *domain, struct certs *certs, struct error *err)
{
        certs->dir = dir;
        struct search s = {.domain = domain, .dir = dir, .certs = certs, .err = err};
        buf_init(&s.ca, CA_MAX);
        int r = place->containerd ? read_hosts_toml(&s) : 0;
        if (r == 0)
                r = read_folder(&s);
        if (r >= 0 && s.ca.len && !(certs->ca_pem = buf_take(&s.ca, NULL)))
                r = error_nomem(err);
        buf_done(&s.ca);
        return MIN(r, 0);
}

int certs_find_in(
        const struct certs_place *places, size_t count, const char *domain, struct certs *ret_certs, struct error *err)
{
        struct certs certs = {0};
        if (!*domain || *domain == '.' || strchr(domain, '/') || strlen(domain) > 255) {
                *ret_certs = certs; /* no folder can have that name */
                return 0;
        }
        for (size_t i = 0; i < count; i++) {
                char *dir = NULL;
                if (places[i].dir && find_folder(&places[i], domain, &dir) < 0)
                        return error_nomem(err);
                if (!dir)
                        continue;
                int r = read_place(&places[i], dir, domain, &certs, err);
                if (r < 0) {
                        certs_done(&certs);
                        return r;
                }
                break;
        }
        *ret_certs = certs;
        return 0;
}

int certs_find(const char *domain, struct certs *ret_certs, struct error *err)
{
        cleanup(freep) char *user = conf_user("/containers/certs.d"), *rootless = conf_user("/docker/certs.d");
        const struct certs_place places[] = {
                {user, false},
                {"/etc/containers/certs.d", false},
                {"/etc/docker/certs.d", false},
                {rootless, false},
                {"/etc/containerd/certs.d", true},
        };
        return certs_find_in(places, ARRAY_LEN(places), domain, ret_certs, err);
}
