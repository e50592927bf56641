/* How: one object a repository, so "the token" is enough: realm, service and scope hardly ever change during its life, and
 * when they do the old token goes. A generation number tells whether the header that was refused is still the newest one;
 * if it is not, another thread has been at the token server already and the request is simply made again.
 *
 *   NONE ---401 Basic---> BASIC               the name and password go along from now on
 *     `------401 Bearer--> BEARER ---401---> (new token) ---401---> -EACCES
 *
 * Once Bearer it stays Bearer: Harbor answers a bearer of too little scope with a Basic challenge, which means nothing.
 * Our own scope is asked for first, because some servers read only one. Only pull is asked for, because some refuse a
 * puller everything who asks for more.
 *
 * A mount outlives logins: passwords of cloud registries are good for hours. When credentials that were good are refused, files and
 * helpers are asked again, and what they say now is tried if it is something else. */
#include "source/auth.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>

#include "base/json.h"
#include "base/log.h"
#include "source/url.h"

enum mode { MODE_NONE, MODE_BASIC, MODE_BEARER };

enum {
        EXPIRES_DEFAULT_S = 60,
        EXPIRES_MAX_S = 30 * 24 * 3600,
        SECRET_MAX = 256 << 10,
        RENEW_PAUSE_MS = 5000,
        LOOK_PAUSE_MS = 3000, /* files and helpers are not asked again sooner */
};

struct auth {
        struct http *http;
        const struct http_tls *tls;
        struct http_tls token_tls; /* the same for the token server; belongs to the busy thread */
        char *domain, *path, *authfile, *creds;
        bool insecure;
        pthread_mutex_t lock;
        pthread_cond_t idle;         /* busy became false */
        bool busy;                   /* under lock: one thread talks to the token server or to a helper */
        enum mode mode;              /* under lock */
        uint64_t generation;         /* under lock: counts new headers */
        struct challenges challenge; /* under lock, read by the busy thread */
        char *token;                 /* under lock */
        int64_t renew_ms;            /* under lock: when 90 % of the token's life are over */
        bool looked;                 /* credentials were looked for; these belong to the busy thread */
        int64_t looked_ms;           /* when */
        struct credentials credentials;
        struct buf tried;
};

/* ---- challenges */

void challenges_done(struct challenges *c)
{
        free(c->realm);
        free(c->service);
        free(c->scope);
        free(c->error);
        *c = (struct challenges){0};
}

static bool is_token_char(char c)
{
        return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_space(const char *p)
{
        return p + strspn(p, " \t");
}

/* a token or a quoted string; NULL when p is at neither */
static const char *read_value(const char *p, struct buf *out)
{
        buf_clear(out);
        if (*p != '"') {
                size_t len = strcspn(p, ", \t\"");
                buf_add(out, p, len);
                return len ? p + len : NULL;
        }
        for (p++; *p && *p != '"'; p++) {
                if (*p == '\\' && p[1])
                        p++;
                buf_addc(out, *p);
        }
        return *p == '"' ? p + 1 : NULL;
}

static int keep(char **slot, const struct buf *value)
{
        if (*slot)
                return 0;
        *slot = strdup(buf_str(value));
        return *slot ? 0 : -ENOMEM;
}

static int keep_param(struct challenges *c, const char *name, size_t len, const struct buf *value)
{
        static const char *const names[] = {"realm", "service", "scope", "error"};
        char **slots[] = {&c->realm, &c->service, &c->scope, &c->error};
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (len == strlen(names[i]) && strncasecmp(name, names[i], len) == 0)
                        return keep(slots[i], value);
        return 0;
}

/* key=value, key=value ... until something that is not that. The next challenge begins there. */
static const char *read_params(const char *p, struct challenges *c, struct buf *value, int *ret)
{
        for (;;) {
                p += strspn(p, ", \t");
                const char *name = p;
                while (is_token_char(*p))
                        p++;
                size_t len = (size_t)(p - name);
                const char *equals = skip_space(p);
                if (len == 0 || *equals != '=')
                        return name;
                const char *text = skip_space(equals + 1);
                p = read_value(text, value);
                if (!p && *text == '"')
                        return text + strlen(text); /* it never ends: nothing behind it can be told apart */
                if (!p) {
                        p = text + strspn(text, "="); /* not a parameter, but the padding of Negotiate's base64 */
                        continue;
                }
                *ret = buf_error(value) ? buf_error(value) : keep_param(c, name, len, value);
                if (*ret < 0)
                        return p;
        }
}

static bool same_word(const char *p, size_t len, const char *word)
{
        return len == strlen(word) && strncasecmp(p, word, len) == 0;
}

static int take_challenge(struct challenges *c, const char *scheme, size_t len, struct challenges *one)
{
        if (same_word(scheme, len, "basic")) {
                c->basic = true;
        } else if (same_word(scheme, len, "bearer") && one->realm && !c->bearer) {
                c->bearer = true;
                c->realm = take(one->realm);
                c->service = take(one->service);
                c->scope = take(one->scope);
                c->error = take(one->error);
        }
        challenges_done(one);
        return 0;
}

int challenges_add(struct challenges *c, const char *value)
{
        cleanup(buf_done) struct buf text;
        buf_init(&text, AUTH_CHALLENGE_MAX);
        if (strnlen(value, AUTH_CHALLENGE_MAX + 1) > AUTH_CHALLENGE_MAX)
                return 0;
        for (const char *p = value; *p;) {
                p += strspn(p, ", \t");
                const char *scheme = p;
                while (is_token_char(*p))
                        p++;
                size_t len = (size_t)(p - scheme);
                if (len == 0)
                        break; /* no scheme can begin here */
                struct challenges one = {0};
                int r = 0;
                const char *params = skip_space(p);
                if (params > p && !is_token_char(*params)) {
                        p = params; /* a scheme with nothing behind it */
                } else if (params > p) {
                        p = read_params(params, &one, &text, &r);
                        if (p == params) /* token68, as of Negotiate, or the next scheme's name */
                                p += strcspn(p, ", \t");
                }
                if (r < 0) {
                        challenges_done(&one);
                        return r;
                }
                take_challenge(c, scheme, len, &one);
        }
        return 0;
}

/* ---- tokens */

/* what may stand in a header line */
static bool printable(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7f)
                        return false;
        return true;
}

static void wipe_free(char *secret)
{
        if (secret)
                explicit_bzero(secret, strlen(secret));
        free(secret);
}

static void wipe_buf(struct buf *b)
{
        if (b->data)
                explicit_bzero(b->data, b->room);
        buf_done(b);
}

int auth_parse_token(
        const void *data, size_t len, char **ret_token, char **ret_refresh, int64_t *ret_expires_s, struct error *err)
{
        cleanup(json_freep) json_t *json = NULL;
        if (json_parse(data, len, &json, NULL) < 0 || !json_is_object(json))
                return error_set(err, -EPROTO, "the token server's answer is not JSON");
        const char *token = NULL, *refresh = NULL;
        if (json_get_string(json, "token", &token, NULL) < 0 || !token || !*token)
                if (json_get_string(json, "access_token", &token, NULL) < 0)
                        token = NULL;
        if (!token || !*token || !printable(token))
                return error_set(err, -EPROTO, "the token server's answer has no token in it");
        if (json_get_string(json, "refresh_token", &refresh, NULL) < 0 || (refresh && !*refresh))
                refresh = NULL;
        uint64_t expires = EXPIRES_DEFAULT_S;
        if (json_get_u64(json, "expires_in", EXPIRES_DEFAULT_S, &expires, NULL) < 0 || expires < EXPIRES_DEFAULT_S)
                expires = EXPIRES_DEFAULT_S;
        char *copy = strdup(token), *refresh_copy = refresh ? strdup(refresh) : NULL;
        if (!copy || (refresh && !refresh_copy)) {
                wipe_free(copy);
                wipe_free(refresh_copy);
                return error_nomem(err);
        }
        *ret_token = copy;
        *ret_refresh = refresh_copy;
        *ret_expires_s = (int64_t)MIN(expires, (uint64_t)EXPIRES_MAX_S);
        return 0;
}

static void add_base64(struct buf *out, const char *text)
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const unsigned char *p = (const unsigned char *)text;
        for (size_t left = strlen(text); left > 0;) {
                size_t n = MIN(left, (size_t)3);
                uint32_t bits = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);
                char group[4] = {digits[bits >> 18], digits[bits >> 12 & 63], n > 1 ? digits[bits >> 6 & 63] : '=',
                        n > 2 ? digits[bits & 63] : '='};
                buf_add(out, group, sizeof group);
                p += n;
                left -= n;
        }
}

static void add_basic(struct buf *out, const struct credentials *c)
{
        struct buf pair;
        buf_init(&pair, SECRET_MAX);
        buf_addf(&pair, "%s:%s", c->username, c->password);
        buf_adds(out, "Basic ");
        add_base64(out, buf_str(&pair));
        wipe_buf(&pair);
}

/* percent-encoding for queries and forms alike */
static void add_param(struct buf *out, const char *name, const char *value)
{
        if (out->len > 0 && !strchr("?&", out->data[out->len - 1]))
                buf_addc(out, '&');
        buf_addf(out, "%s=", name);
        for (; *value; value++) {
                unsigned char c = (unsigned char)*value;
                if (isalnum(c) || strchr("-._~:/,", c))
                        buf_addc(out, (char)c);
                else
                        buf_addf(out, "%%%02X", c);
        }
}

/* Calls for each scope to ask for: ours, then those of the challenge that are about something else. */
static void each_scope(const struct auth *a, void (*fn)(struct buf *, const char *), struct buf *out)
{
        cleanup(buf_done) struct buf scope;
        buf_init(&scope, AUTH_CHALLENGE_MAX);
        buf_addf(&scope, "repository:%s:", a->path);
        size_t own_len = scope.len;
        cleanup(freep) char *own = strdup(buf_str(&scope));
        buf_adds(&scope, "pull");
        fn(out, buf_str(&scope));
        const char *p = own && a->challenge.scope ? a->challenge.scope : "";
        for (p += strspn(p, " "); *p; p += strspn(p, " ")) {
                size_t len = strcspn(p, " ");
                buf_clear(&scope);
                buf_add(&scope, p, len);
                if (strncmp(buf_str(&scope), own, own_len) != 0)
                        fn(out, buf_str(&scope));
                p += len;
        }
}

static void add_scope_param(struct buf *out, const char *scope)
{
        add_param(out, "scope", scope);
}

static void add_scope_word(struct buf *out, const char *scope)
{
        if (out->len > 0)
                buf_addc(out, ' ');
        buf_adds(out, scope);
}

struct token_body {
        struct buf bytes;
};

static int token_sink(void *ctx, const void *data, size_t len)
{
        struct token_body *b = ctx;
        buf_add(&b->bytes, data, len);
        return buf_error(&b->bytes);
}

/* Sends, and tries again as pace allows. 0: an answer arrived. */
static int token_exchange(
        struct auth *a, const struct http_request *rq, struct buf *body, struct http_answer *answer, struct error *err)
{
        struct http_pace pace = {.tries = 4};
        for (;;) {
                buf_clear(body);
                int r = http_send(a->http, rq, answer, err);
                if ((r == 0 && !http_status_transient(answer->status)) || !http_pace_again(a->http, &pace, r, answer))
                        return r;
        }
}

static int token_get(
        struct auth *a, bool with_basic, struct token_body *body, struct http_answer *answer, struct error *err)
{
        const struct challenges *c = &a->challenge;
        struct buf url, header;
        buf_init(&url, URL_MAX);
        buf_init(&header, SECRET_MAX);
        buf_adds(&url, c->realm);
        if (!strchr(c->realm, '?'))
                buf_addc(&url, '?');
        if (c->service)
                add_param(&url, "service", c->service);
        each_scope(a, add_scope_param, &url);
        add_param(&url, "client_id", "imagefs");
        if (with_basic) {
                add_param(&url, "account", a->credentials.username);
                add_basic(&header, &a->credentials);
        }
        struct http_request rq = {.method = "GET",
                .url = buf_str(&url),
                .tls = &a->token_tls,
                .authorization = buf_str(&header),
                .sink = token_sink,
                .ctx = body};
        int r = buf_error(&url) || buf_error(&header) ? error_set(err, -EPROTO, "the challenge's realm is too long")
                                                      : token_exchange(a, &rq, &body->bytes, answer, err);
        wipe_buf(&header);
        buf_done(&url);
        return r;
}

static int token_post(struct auth *a, struct token_body *body, struct http_answer *answer, struct error *err)
{
        const struct challenges *c = &a->challenge;
        const struct credentials *who = &a->credentials;
        struct buf form, scopes;
        buf_init(&form, SECRET_MAX);
        buf_init(&scopes, AUTH_CHALLENGE_MAX);
        add_param(&form, "grant_type", who->identity_token ? "refresh_token" : "password");
        if (c->service)
                add_param(&form, "service", c->service);
        add_param(&form, "client_id", "imagefs");
        each_scope(a, add_scope_word, &scopes);
        add_param(&form, "scope", buf_str(&scopes));
        if (who->identity_token) {
                add_param(&form, "refresh_token", who->identity_token);
        } else {
                add_param(&form, "username", who->username);
                add_param(&form, "password", who->password);
        }
        struct http_request rq = {.method = "POST",
                .url = c->realm,
                .tls = &a->token_tls,
                .form = buf_str(&form),
                .sink = token_sink,
                .ctx = body};
        int r = buf_error(&form) || buf_error(&scopes) ? error_set(err, -EPROTO, "the token request is too long")
                                                       : token_exchange(a, &rq, &body->bytes, answer, err);
        wipe_buf(&form);
        buf_done(&scopes);
        return r;
}

/* May secrets be sent to the realm's address? Settles how it proves who it is. */
static int check_realm(struct auth *a, const char *registry_url, struct error *err)
{
        cleanup(url_done) struct url realm = {0}, registry = {0};
        char shown[200];
        url_show(a->challenge.realm, shown, sizeof shown);
        if (url_parse(a->challenge.realm, &realm, NULL) < 0 || url_parse(registry_url, &registry, NULL) < 0)
                return error_set(err, -EPROTO, "the challenge's realm is no address: %s", shown);
        a->token_tls = *a->tls;
        if (!url_same_origin(a->challenge.realm, registry_url)) /* our certificate is for the registry */
                a->token_tls.client_cert = a->token_tls.client_key = NULL;
        if (a->insecure)
                return 0;
        bool near = host_is_loopback(registry.host);
        if (strcmp(realm.scheme, "https") != 0 && !(near && host_is_loopback(realm.host)))
                return error_set(err, -EACCES, "the token server %s is not https; it is not asked", shown);
        if (host_is_private(realm.host) && !host_is_private(registry.host))
                return error_set(
                        err, -EACCES, "a public registry names a token server at a private address, %s", shown);
        return 0;
}

/* busy thread, or under lock when there is none */
static void advise(const struct auth *a, struct buf *out)
{
        bool hub = strcmp(a->domain, "docker.io") == 0;
        buf_addf(out, "log in with \"docker login%s%s\" or pass --authfile", hub ? "" : " ", hub ? "" : a->domain);
        if (a->looked && a->tried.len > 0)
                buf_addf(out, " (looked at %s)", buf_str(&a->tried));
}

static int refused(struct auth *a, const char *what, struct error *err)
{
        cleanup(buf_done) struct buf advice;
        buf_init(&advice, 8192);
        advise(a, &advice);
        return error_set(err, -EACCES, "%s; %s", what, buf_str(&advice));
}

/* what servers say that do not know the POST form, or not this refresh token */
static bool post_refused(int status)
{
        return status == 400 || status == 401 || status == 404 || status == 405;
}

static int fetch_token(struct auth *a, char **ret_token, int64_t *ret_expires_s, struct error *err)
{
        struct token_body body;
        buf_init(&body.bytes, AUTH_TOKEN_MAX);
        cleanup(http_answer_done) struct http_answer answer = {0};
        const struct credentials *who = &a->credentials;
        bool named = who->username && who->password;
        int r = who->identity_token ? token_post(a, &body, &answer, err) : token_get(a, named, &body, &answer, err);
        if (r == 0 && named && !who->identity_token && (answer.status == 404 || answer.status == 405))
                r = token_post(a, &body, &answer, err);
        if (r == 0 && named && who->identity_token && *who->password && post_refused(answer.status))
                r = token_get(a, true, &body, &answer, err);
        char shown[200];
        url_show(a->challenge.realm, shown, sizeof shown);
        char *refresh = NULL;
        if (r < 0)
                r = error_wrap(err, r, "token server %s", shown);
        else if (answer.status == 401 || answer.status == 403 || (answer.status == 400 && who->identity_token))
                r = refused(a, named || who->identity_token ? "the login was refused" : "a login is needed", err);
        else if (http_status_transient(answer.status))
                r = error_set(err, -ENETUNREACH, "token server %s: status %d", shown, answer.status);
        else if (answer.status != 200)
                r = error_set(err, -EPROTO, "token server %s: status %d", shown, answer.status);
        else
                r = auth_parse_token(buf_str(&body.bytes), body.bytes.len, ret_token, &refresh, ret_expires_s, err);
        if (r == 0 && refresh && who->identity_token) {
                wipe_free(a->credentials.identity_token);
                a->credentials.identity_token = take(refresh);
        }
        wipe_free(refresh);
        wipe_buf(&body.bytes);
        return r;
}

/* ---- the object */

static char *copy_or_null(const char *s, bool *failed)
{
        char *copy = s ? strdup(s) : NULL;
        *failed |= s && !copy;
        return copy;
}

int auth_new(struct http *http, const struct auth_options *o, struct auth **ret_auth, struct error *err)
{
        struct auth *a = calloc(1, sizeof *a);
        if (!a)
                return error_nomem(err);
        bool failed = false;
        a->http = http;
        a->tls = o->tls;
        a->insecure = o->insecure;
        a->domain = copy_or_null(o->domain, &failed);
        a->path = copy_or_null(o->path, &failed);
        a->authfile = copy_or_null(o->authfile, &failed);
        a->creds = copy_or_null(o->creds, &failed);
        pthread_mutex_init(&a->lock, NULL);
        pthread_cond_init(&a->idle, NULL);
        buf_init(&a->tried, 4096);
        if (failed) {
                auth_free(a);
                return error_nomem(err);
        }
        *ret_auth = a;
        return 0;
}

void auth_free(struct auth *a)
{
        if (!a)
                return;
        credentials_done(&a->credentials);
        challenges_done(&a->challenge);
        wipe_free(a->token);
        wipe_free(a->creds);
        free(a->domain);
        free(a->path);
        free(a->authfile);
        buf_done(&a->tried);
        pthread_mutex_destroy(&a->lock);
        pthread_cond_destroy(&a->idle);
        free(a);
}

/* under lock: returns when no other thread is at it */
static void wait_idle(struct auth *a)
{
        while (a->busy)
                pthread_cond_wait(&a->idle, &a->lock);
}

/* busy thread, without the lock */
static int look_for_credentials(struct auth *a, struct error *err)
{
        if (a->looked)
                return 0;
        struct credentials_options o = {a->authfile, a->creds};
        buf_clear(&a->tried);
        int r = credentials_find(&o, a->domain, a->path, &a->credentials, &a->tried, err);
        if (r < 0)
                return r;
        a->looked = true;
        a->looked_ms = http_now_ms();
        const struct credentials *c = &a->credentials;
        log_debug(LOG_AUTH, "%s/%s: %s (%s)", a->domain, a->path,
                c->registry_token   ? "a registry token"
                : c->identity_token ? "an identity token"
                : c->username       ? "a user name and password"
                                    : "no credentials",
                buf_str(&a->tried));
        return 0;
}

static bool same_text(const char *a, const char *b)
{
        return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

/* busy thread, without the lock: the credentials were refused. Are there others by now? */
static bool look_again(struct auth *a)
{
        if (!a->looked || http_now_ms() - a->looked_ms < LOOK_PAUSE_MS)
                return false;
        struct credentials old = a->credentials, *now = &a->credentials;
        *now = (struct credentials){0};
        a->looked = false;
        if (look_for_credentials(a, NULL) < 0) {
                *now = old;
                a->looked = true;
                a->looked_ms = http_now_ms();
                return false;
        }
        bool other = !same_text(old.username, now->username) || !same_text(old.password, now->password) ||
                     !same_text(old.identity_token, now->identity_token) ||
                     !same_text(old.registry_token, now->registry_token);
        credentials_done(&old);
        return other;
}

/* busy thread, without the lock */
static int get_token(struct auth *a, char **ret_token, int64_t *ret_expires_s, struct error *err)
{
        const char *own = a->credentials.registry_token;
        if (!own) {
                int r = fetch_token(a, ret_token, ret_expires_s, err);
                if (r == 0)
                        log_debug(LOG_AUTH, "%s/%s: a token for %lld s", a->domain, a->path, (long long)*ret_expires_s);
                return r;
        }
        if (!printable(own))
                return error_set(err, -EACCES, "the registrytoken of %s is not one", a->domain);
        *ret_token = strdup(own);
        return *ret_token ? 0 : error_nomem(err);
}

/* busy thread, without the lock: a token of the known realm; the lock is taken to put it in place */
static int renew(struct auth *a, const char *registry_url, struct error *err)
{
        int r = check_realm(a, registry_url, err);
        if (r < 0)
                return r;
        char *token = NULL;
        int64_t expires_s = EXPIRES_MAX_S;
        int64_t start_ms = http_now_ms();
        r = get_token(a, &token, &expires_s, err);
        if (r == -EACCES && look_again(a))
                r = get_token(a, &token, &expires_s, err);
        if (r < 0)
                return r;
        pthread_mutex_lock(&a->lock);
        wipe_free(a->token);
        a->token = token;
        a->renew_ms = start_ms + expires_s * 900;
        a->generation++;
        pthread_mutex_unlock(&a->lock);
        return 0;
}

static void set_busy(struct auth *a, bool busy)
{
        a->busy = busy;
        if (!busy)
                pthread_cond_broadcast(&a->idle);
}

/* May the name and password go to this registry? */
static bool basic_allowed(const struct auth *a, const char *url)
{
        cleanup(url_done) struct url u = {0};
        return a->insecure ||
               (url_parse(url, &u, NULL) == 0 && (strcmp(u.scheme, "https") == 0 || host_is_loopback(u.host)));
}

int auth_header(struct auth *a, const char *url, struct buf *out, uint64_t *ret_seen, struct error *err)
{
        int r = 0;
        pthread_mutex_lock(&a->lock);
        wait_idle(a);
        if (a->mode == MODE_BEARER && a->token && http_now_ms() >= a->renew_ms) {
                set_busy(a, true);
                pthread_mutex_unlock(&a->lock);
                r = renew(a, url, err);
                pthread_mutex_lock(&a->lock);
                set_busy(a, false);
                if (r < 0 && r != -ECANCELED) {
                        r = 0; /* the old token may still do; a 401 will tell */
                        a->renew_ms = http_now_ms() + RENEW_PAUSE_MS;
                }
        }
        buf_clear(out);
        if (a->mode == MODE_BEARER && a->token)
                buf_addf(out, "Bearer %s", a->token);
        else if (a->mode == MODE_BASIC && basic_allowed(a, url))
                add_basic(out, &a->credentials);
        *ret_seen = a->generation;
        pthread_mutex_unlock(&a->lock);
        return r < 0 ? r : buf_error(out) ? error_nomem(err) : 0;
}

/* under lock: remembers what a Bearer challenge says */
static int learn(struct auth *a, const struct challenges *c, struct error *err)
{
        struct challenges *own = &a->challenge;
        if (!c->bearer || (same_text(own->realm, c->realm) && same_text(own->service, c->service) &&
                                  same_text(own->scope, c->scope)))
                return 0;
        bool failed = false;
        struct challenges copy = {.bearer = true,
                .realm = copy_or_null(c->realm, &failed),
                .service = copy_or_null(c->service, &failed),
                .scope = copy_or_null(c->scope, &failed)};
        if (failed) {
                challenges_done(&copy);
                return error_nomem(err);
        }
        challenges_done(own);
        *own = copy;
        return 0;
}

/* busy thread, without the lock */
static int answer_challenge(struct auth *a, const char *url, const struct challenges *c, struct error *err)
{
        int r = look_for_credentials(a, err);
        if (r < 0)
                return r;
        if (a->mode == MODE_BEARER || c->bearer)
                return renew(a, url, err);
        const struct credentials *who = &a->credentials;
        if (a->mode == MODE_BASIC && !look_again(a))
                return refused(a, "the login was refused", err);
        if (!c->basic)
                return refused(a, "the registry says 401, but not how to log in", err);
        if (!who->username || !who->password)
                return refused(a, "a login is needed", err);
        if (!basic_allowed(a, url))
                return error_set(err, -EACCES, "the registry wants a password over plain http; it is not sent");
        return 0;
}

int auth_challenged(struct auth *a, const char *url, const struct challenges *c, uint64_t seen, struct error *err)
{
        pthread_mutex_lock(&a->lock);
        wait_idle(a);
        if (a->generation != seen) {
                pthread_mutex_unlock(&a->lock);
                return 0;
        }
        int r = learn(a, c, err);
        if (r < 0) {
                pthread_mutex_unlock(&a->lock);
                return r;
        }
        set_busy(a, true);
        pthread_mutex_unlock(&a->lock);
        r = answer_challenge(a, url, c, err);
        pthread_mutex_lock(&a->lock);
        if (r == 0 && (a->mode == MODE_BEARER || c->bearer)) {
                a->mode = MODE_BEARER;
        } else if (r == 0) {
                a->mode = MODE_BASIC;
                a->generation++;
        }
        set_busy(a, false);
        pthread_mutex_unlock(&a->lock);
        return r;
}

void auth_advice(struct auth *a, struct buf *out)
{
        pthread_mutex_lock(&a->lock);
        wait_idle(a);
        const struct credentials *c = &a->credentials;
        bool named = c->username || c->identity_token || c->registry_token;
        buf_adds(out, named ? "the login was refused, or may not see this repository, or there is no such repository; "
                            : "no such repository, or it needs a login; ");
        advise(a, out);
        pthread_mutex_unlock(&a->lock);
}
