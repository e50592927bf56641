/*
 * How: one list of places in the order that podman has, $DOCKER_AUTH_CONFIG before it; the first that has something for the
 * image wins. Inside a file:
 *
 *   credHelpers[registry]     then that helper alone is asked, the file's auths are not
 *   credsStore                in docker's file the same; in another file it is asked when the auths have nothing
 *   auths                     "quay.io/org/repo", "quay.io/org", "quay.io"; then keys that are URLs, by their host
 *
 * Docker Hub has three names and a historical key; all are tried. A helper that is not installed counts as one that has
 * nothing (with a warning), so that a configuration copied from a desktop does not lock out public images.
 *
 * No message repeats what a parser says about a file, because it may quote a piece of a secret. Texts that held secrets are
 * overwritten before they are freed; what the JSON parser freed on its way cannot be. Of a key that occurs twice the last
 * one counts, as it does for docker.
 */
#include "source/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "source/conf.h"
#include "source/credentials_files.h"
#include "source/helper.h"

struct search {
        const char *domain, *path;
        bool hub;          /* Docker Hub */
        bool helpers;      /* may be run */
        const char *where; /* the file's name, for messages */
        struct credentials found;
        struct buf *tried; /* may be NULL */
        struct error *err;
};

static const char *const hub_names[] = {"https://index.docker.io/v1/", "index.docker.io", "docker.io"};

static bool is_hub(const char *host, size_t len)
{
        static const char *const names[] = {"docker.io", "index.docker.io", "registry-1.docker.io"};
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (strlen(names[i]) == len && !memcmp(host, names[i], len))
                        return true;
        return false;
}

__attribute__((format(printf, 2, 3))) static void note(struct search *s, const char *fmt, ...)
{
        char text[300];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        log_debug(LOG_AUTH, "%s: %s", s->where, text);
        if (s->tried)
                buf_addf(s->tried, "%s%s (%s)", s->tried->len ? ", " : "", s->where, text);
}

void credentials_done(struct credentials *c)
{
        conf_wipe_string(c->username);
        conf_wipe_string(c->password);
        conf_wipe_string(c->identity_token);
        conf_wipe_string(c->registry_token);
        *c = (struct credentials){0};
}

/* overwrites all strings of a document that is about to be freed */
static void wipe_json(json_t *json)
{
        const char *key;
        json_t *value;
        size_t i;
        if (json_is_string(json))
                explicit_bzero((char *)json_string_value(json), json_string_length(json));
        json_object_foreach(json, key, value) wipe_json(value);
        json_array_foreach(json, i, value) wipe_json(value);
}

static void wiped_freep(json_t **json)
{
        wipe_json(*json);
        json_free(*json);
}

/* ---- one entry of auths ---- */

/* "user:password" into c. -EINVAL: it is none */
static int set_pair(const char *pair, size_t len, struct credentials *c)
{
        const char *colon = memchr(pair, ':', len);
        if (!colon || colon == pair || memchr(pair, '\0', (size_t)(colon - pair)))
                return -EINVAL;
        const char *password = colon + 1, *end = pair + len;
        while (password < end && *password == '\0')
                password++;
        while (end > password && end[-1] == '\0')
                end--;
        if (memchr(password, '\0', (size_t)(end - password)))
                return -EINVAL;
        c->username = strndup(pair, (size_t)(colon - pair));
        c->password = strndup(password, (size_t)(end - password));
        return c->username && c->password ? 0 : -ENOMEM;
}

static int decode_auth(const char *auth, struct credentials *c)
{
        size_t room = base64_room(strlen(auth)), len;
        char *pair = malloc(room);
        if (!pair)
                return -ENOMEM;
        int r = base64_decode(auth, strlen(auth), pair, &len);
        if (r == 0)
                r = set_pair(pair, len, c);
        explicit_bzero(pair, room);
        free(pair);
        return r;
}

/* a copy of a member that is not empty; other types count as absent */
static int copy_member(json_t *entry, const char *key, char **ret)
{
        const char *text;
        if (json_get_string(entry, key, &text, NULL) < 0 || !text || !*text)
                return 0;
        *ret = strdup(text);
        return *ret ? 0 : -ENOMEM;
}

/* 1: something is in it; 0: an empty entry, as `docker login` leaves beside a helper, or a broken one */
static int read_entry(struct search *s, const char *key, json_t *entry)
{
        struct credentials c = {0};
        const char *auth = NULL;
        if (!json_is_object(entry))
                return 0;
        int r = json_get_string(entry, "auth", &auth, NULL);
        if (r == 0 && auth && *auth) {
                r = decode_auth(auth, &c);
        } else if (r == 0) {
                r = copy_member(entry, "username", &c.username);
                if (r == 0 && c.username)
                        r = copy_member(entry, "password", &c.password);
        }
        if (r != 0 && r != -ENOMEM) {
                log_warning("%s: the entry \"%.100s\" has no valid \"auth\"; it is not used", s->where, key);
                r = 0;
        }
        if (r == 0)
                r = copy_member(entry, "identitytoken", &c.identity_token);
        if (r == 0)
                r = copy_member(entry, "registrytoken", &c.registry_token);
        if (r == 0 && c.username && !c.password && !(c.password = strdup("")))
                r = -ENOMEM;
        if (r < 0 || (!c.username && !c.identity_token && !c.registry_token)) {
                credentials_done(&c);
                return r < 0 ? error_nomem(s->err) : 0;
        }
        s->found = c;
        return 1;
}

/* ---- auths ---- */

/* "quay.io/org/repo", then shorter and shorter */
static int find_namespaced(struct search *s, json_t *auths)
{
        cleanup(freep) char *key = conf_format("%s/%s", s->hub ? "docker.io" : s->domain, s->path);
        if (!key)
                return error_nomem(s->err);
        for (char *end = key + strlen(key); end; end = strrchr(key, '/')) {
                *end = '\0';
                json_t *entry = json_object_get(auths, key);
                int r = entry ? read_entry(s, key, entry) : 0;
                if (r != 0)
                        return r;
        }
        return 0;
}

/* The key's host if it is an address of a whole registry: a URL, or with the API's version behind it. A key with another
 * path is a namespace, whose credentials are not for others (any_path: they are). */
static bool key_host(const char *key, bool any_path, size_t *ret_off, size_t *ret_len)
{
        size_t off = !strncmp(key, "https://", 8) ? 8 : !strncmp(key, "http://", 7) ? 7 : 0;
        size_t len = strcspn(key + off, "/");
        const char *rest = key + off + len;
        static const char *const versions[] = {"", "/", "/v1", "/v1/", "/v2", "/v2/"};
        bool whole = off || any_path;
        for (size_t i = 0; i < ARRAY_LEN(versions); i++)
                whole |= !strcmp(rest, versions[i]);
        *ret_off = off;
        *ret_len = len;
        return whole;
}

static int find_by_host(struct search *s, json_t *auths, bool any_path)
{
        const char *key;
        json_t *entry;
        json_object_foreach(auths, key, entry)
        {
                size_t off, len;
                if (!key_host(key, any_path, &off, &len))
                        continue;
                const char *host = key + off;
                bool fits = s->hub ? is_hub(host, len) : strlen(s->domain) == len && !memcmp(host, s->domain, len);
                int r = fits ? read_entry(s, key, entry) : 0;
                if (r != 0)
                        return r;
        }
        return 0;
}

/* Docker has no namespaces: in its files a key with a path stands for its host, if no other key does better. */
static int find_in_auths(struct search *s, json_t *auths, enum credentials_kind kind)
{
        int r = find_namespaced(s, auths);
        json_t *hub = r == 0 && s->hub ? json_object_get(auths, hub_names[0]) : NULL;
        if (hub)
                r = read_entry(s, hub_names[0], hub);
        if (r == 0)
                r = find_by_host(s, auths, false);
        if (r == 0 && kind != CREDENTIALS_CONTAINERS)
                r = find_by_host(s, auths, true);
        return r;
}

/* ---- helpers ---- */

/* 1, 0 (it has none), -ENOENT (it is not installed), -EACCES */
static int ask_helper(struct search *s, const char *suffix)
{
        if (!s->helpers)
                return 0;
        struct error why = {0}; /* that one is not installed is no failure */
        int r = 0;
        for (size_t i = 0; r == 0 && i < (s->hub ? ARRAY_LEN(hub_names) : 1); i++)
                r = helper_get(suffix, s->hub ? hub_names[i] : s->domain, HELPER_LIMIT_MS, &s->found, &why);
        if (r == -ENOENT) {
                log_warning("%s: docker-credential-%.100s is not installed; going on without it", s->where, suffix);
                note(s, "docker-credential-%.100s is not installed", suffix);
        } else if (r == 0) {
                note(s, "docker-credential-%.100s has no entry", suffix);
        } else if (r < 0) {
                return error_set(s->err, r, "%.200s: %.300s", s->where, why.msg);
        }
        return r;
}

static const char *find_helper(struct search *s, json_t *doc)
{
        json_t *helpers;
        const char *suffix = NULL;
        if (json_get_object(doc, "credHelpers", &helpers, NULL) < 0 || !helpers)
                return NULL;
        for (size_t i = 0; !suffix && s->hub && i < ARRAY_LEN(hub_names); i++)
                json_get_string(helpers, hub_names[i], &suffix, NULL);
        if (!suffix && !s->hub)
                json_get_string(helpers, s->domain, &suffix, NULL);
        return suffix && *suffix ? suffix : NULL;
}

/* ---- one file ---- */

static int find_in_document(struct search *s, json_t *doc, enum credentials_kind kind)
{
        if (kind == CREDENTIALS_LEGACY)
                return find_in_auths(s, doc, kind);
        json_t *auths = NULL;
        const char *suffix = find_helper(s, doc), *store = NULL;
        json_get_object(doc, "auths", &auths, NULL);
        json_get_string(doc, "credsStore", &store, NULL);
        if (!suffix && kind == CREDENTIALS_DOCKER && store && *store)
                suffix = store;
        int r = suffix ? ask_helper(s, suffix) : -ENOENT;
        if (r != -ENOENT)
                return r;
        r = auths ? find_in_auths(s, auths, kind) : 0;
        if (r == 0 && store && *store && store != suffix)
                r = ask_helper(s, store);
        return r == -ENOENT ? 0 : r;
}

/* 1, 0, -EINVAL: not such a document, or what ask_helper() says */
static int find_in_text(struct search *s, const char *text, size_t len, enum credentials_kind kind)
{
        cleanup(wiped_freep) json_t *doc = NULL;
        size_t blank = 0;
        while (blank < len && strchr(" \t\r\n", text[blank]) && text[blank])
                blank++;
        if (blank == len) /* an empty file is no mistake */
                return 0;
        int r = json_parse_config(text, len, &doc, NULL);
        if (r < 0 || !json_is_object(doc))
                return r == -ENOMEM ? error_nomem(s->err) : -EINVAL;
        return find_in_document(s, doc, kind);
}

int credentials_find_text(const char *text, size_t len, enum credentials_kind kind, const char *domain,
        const char *path, struct credentials *ret_credentials)
{
        struct search s = {.domain = domain, .path = path, .hub = is_hub(domain, strlen(domain)), .where = "text"};
        int r = find_in_text(&s, text, len, kind);
        if (r == 1)
                *ret_credentials = s.found;
        return r;
}

/* required: that it is absent or broken is an error, not a note */
static int find_in_file(struct search *s, const char *path, enum credentials_kind kind, bool required)
{
        struct conf_file file;
        struct error why = {0};
        s->where = path;
        int r = conf_read(path, CREDENTIALS_FILE_MAX, &file, &why);
        if (r == -ENOENT && !required) {
                note(s, "not there");
                return 0;
        }
        if (r == -ENOMEM)
                return error_nomem(s->err);
        if (r < 0 && required)
                return error_set(s->err, r == -ENOENT ? r : -EACCES, "%s", why.msg);
        if (r < 0) {
                log_warning("%s; going on without it", why.msg);
                note(s, "%s", strerror(-r));
                return 0;
        }
        size_t tried = s->tried ? s->tried->len : 0;
        r = find_in_text(s, file.data, file.len, kind);
        conf_done(&file);
        if (r == -EINVAL && required)
                return error_set(s->err, -EACCES, "%.300s: not valid JSON, or not a file of credentials", path);
        if (r == -EINVAL) {
                log_warning("%s: not valid JSON; going on without it", path);
                note(s, "not valid JSON");
                return 0;
        }
        if (r == 1)
                note(s, "found");
        else if (r == 0 && (!s->tried || s->tried->len == tried))
                note(s, "no entry");
        return r;
}

/* ---- the places ---- */

/* $DOCKER_AUTH_CONFIG: a document in the environment; only its auths count */
static int find_in_environment(struct search *s)
{
        const char *text = conf_env("DOCKER_AUTH_CONFIG");
        if (!text)
                return 0;
        s->where = "$DOCKER_AUTH_CONFIG";
        bool helpers = s->helpers;
        s->helpers = false;
        int r = find_in_text(s, text, strlen(text), CREDENTIALS_CONTAINERS);
        s->helpers = helpers;
        if (r == -EINVAL) {
                log_warning("$DOCKER_AUTH_CONFIG: not valid JSON; going on without it");
                r = 0;
        } else if (r >= 0) {
                note(s, r ? "found" : "no entry");
        }
        return r;
}

static char *runtime_file(void)
{
        const char *dir = conf_env("XDG_RUNTIME_DIR");
        return dir ? conf_format("%s/containers/auth.json", dir)
                   : conf_format("/run/containers/%u/auth.json", (unsigned)geteuid());
}

static char *docker_file(void)
{
        const char *dir = conf_env("DOCKER_CONFIG");
        return dir ? conf_format("%s/config.json", dir) : conf_home("/.docker/config.json");
}

static int find_in_places(struct search *s)
{
        struct {
                char *path;
                enum credentials_kind kind;
        } places[] = {
                {runtime_file(), CREDENTIALS_CONTAINERS},
                {conf_user("/containers/auth.json"), CREDENTIALS_CONTAINERS},
                {docker_file(), CREDENTIALS_DOCKER},
                {conf_home("/.dockercfg"), CREDENTIALS_LEGACY},
        };
        int r = find_in_environment(s);
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                if (r == 0 && places[i].path)
                        r = find_in_file(s, places[i].path, places[i].kind, false);
                free(places[i].path);
        }
        s->where = NULL;
        return r;
}

/* --creds USER[:PASSWORD] */
static int use_creds(struct search *s, const char *creds)
{
        size_t user = strcspn(creds, ":");
        if (!user)
                return error_set(s->err, -EINVAL, "--creds: the user name is missing (USER[:PASSWORD])");
        s->found.username = strndup(creds, user);
        s->found.password = strdup(creds[user] ? creds + user + 1 : "");
        if (s->found.username && s->found.password)
                return 1;
        credentials_done(&s->found);
        return error_nomem(s->err);
}

int credentials_find(const struct credentials_options *options, const char *domain, const char *path,
        struct credentials *ret_credentials, struct buf *tried, struct error *err)
{
        const char *file = options->authfile ? options->authfile : conf_env("REGISTRY_AUTH_FILE");
        struct search s = {.domain = domain,
                .path = path,
                .hub = is_hub(domain, strlen(domain)),
                .helpers = true,
                .tried = tried,
                .err = err};
        int r;
        if (options->creds)
                r = use_creds(&s, options->creds);
        else if (file)
                r = find_in_file(&s, file, CREDENTIALS_CONTAINERS, true);
        else
                r = find_in_places(&s);
        if (r < 0)
                return r;
        *ret_credentials = s.found;
        return 0;
}
