/* How: repo_send() loops over the login rounds: the first 401, and a second one only when it says that the token is not valid
 * any more. A 401 of another origin is never answered: whoever sits behind a redirect does not get to name a token server.
 *
 * Which scheme a loopback or insecure registry speaks is found out by a TLS handshake that is thrown away: a millisecond,
 * while a real https request that fails has read the certificate bundle before. */
#include "source/repo.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/json.h"
#include "base/log.h"
#include "source/auth.h"
#include "source/certs.h"
#include "source/url.h"

enum scheme { SCHEME_UNKNOWN, SCHEME_HTTPS, SCHEME_HTTP };

enum { CREDENTIAL_MAX = 256 << 10, LOGIN_ROUNDS_MAX = 2 };

struct repo {
        struct http *http;
        struct auth *auth;
        struct certs certs;
        char *certs_dir;   /* where an authority for this host belongs */
        char *authorities; /* the system's and those of certs.d; NULL: the system's are enough */
        struct http_tls tls;
        char *name;  /* domain/path */
        char *label; /* see repo_label() */
        char *host;  /* host[:port] to talk to */
        char *path;
        bool plain_ok;      /* http may be tried */
        atomic_int scheme;  /* enum scheme */
        atomic_bool warned; /* a Warning header was shown */
};

static bool domain_is_loopback(const char *domain)
{
        cleanup(buf_done) struct buf text;
        buf_init(&text, URL_MAX);
        buf_addf(&text, "https://%s/", domain);
        cleanup(url_done) struct url u = {0};
        return url_parse(buf_str(&text), &u, NULL) == 0 && host_is_loopback(u.host);
}

static int fill(struct repo *r, const struct repo_options *o, struct error *err)
{
        bool hub = strcmp(o->domain, "docker.io") == 0;
        r->host = strdup(hub ? "registry-1.docker.io" : o->domain);
        r->path = strdup(o->path);
        if (!r->host || !r->path || asprintf(&r->name, "%s/%s", o->domain, o->path) < 0) {
                r->name = NULL;
                return error_nomem(err);
        }
        if (asprintf(&r->label, "%s%s", o->named ? r->name : "", o->named ? ": " : "") < 0) {
                r->label = NULL;
                return error_nomem(err);
        }
        int rc = certs_find(o->domain, &r->certs, err);
        if (rc < 0)
                return rc;
        if (asprintf(&r->certs_dir, "%s%s", r->certs.dir ? r->certs.dir : "/etc/containers/certs.d/",
                    r->certs.dir ? "" : o->domain) < 0) {
                r->certs_dir = NULL;
                return error_nomem(err);
        }
        if (r->certs.ca_pem && (rc = http_authorities(r->certs.ca_pem, &r->authorities, err)) < 0)
                return rc;
        r->tls = (struct http_tls){.insecure = o->insecure,
                .ca_pem = r->authorities,
                .client_cert = r->certs.client_cert,
                .client_key = r->certs.client_key,
                .certs_dir = r->certs_dir};
        r->plain_ok = o->insecure || domain_is_loopback(o->domain);
        struct auth_options ao = {.authfile = o->authfile,
                .creds = o->creds,
                .domain = o->domain,
                .path = o->path,
                .tls = &r->tls,
                .insecure = o->insecure};
        return auth_new(r->http, &ao, &r->auth, err);
}

int repo_new(struct http *http, const struct repo_options *options, struct repo **ret_repo, struct error *err)
{
        cleanup(repo_freep) struct repo *r = calloc(1, sizeof *r);
        if (!r)
                return error_nomem(err);
        r->http = http;
        int rc = fill(r, options, err);
        if (rc < 0)
                return rc;
        *ret_repo = take(r);
        return 0;
}

void repo_free(struct repo *r)
{
        if (!r)
                return;
        auth_free(r->auth);
        certs_done(&r->certs);
        free(r->authorities);
        free(r->certs_dir);
        free(r->name);
        free(r->label);
        free(r->host);
        free(r->path);
        free(r);
}

const char *repo_name(const struct repo *r)
{
        return r->name;
}

const char *repo_label(const struct repo *r)
{
        return r->label;
}

const struct http_tls *repo_tls(const struct repo *r)
{
        return &r->tls;
}

/* Text of a server for a person: one line, no control characters. */
static void tidy(char *text)
{
        for (char *p = text; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = ' ';
}

/* `299 - "text"` (RFC 7234 §5.5, distribution-spec "Warnings"): shown once. */
static void show_warning(struct repo *r, const struct http_answer *a)
{
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *text = http_header(a, "Warning", 0, &value);
        if (!text || strncmp(text, "299 ", 4) != 0 || atomic_exchange(&r->warned, true))
                return;
        const char *quote = strchr(text, '"');
        cleanup(freep) char *shown = strndup(quote ? quote + 1 : text + 4, 300);
        if (!shown)
                return;
        char *end = strrchr(shown, '"');
        if (end)
                *end = '\0';
        tidy(shown);
        log_warning("%s: the registry says: %s", r->name, shown);
}

/* Which scheme does the registry speak? Only asked where http is allowed. */
static int settle_scheme(struct repo *r, enum scheme *ret_scheme, struct error *err)
{
        enum scheme scheme = r->plain_ok ? (enum scheme)atomic_load(&r->scheme) : SCHEME_HTTPS;
        if (scheme == SCHEME_UNKNOWN) {
                cleanup(buf_done) struct buf url;
                buf_init(&url, URL_MAX);
                buf_addf(&url, "https://%s/", r->host);
                int rc = http_probe_tls(r->http, buf_str(&url), err);
                if (rc == -ECANCELED || rc == -ENOMEM)
                        return rc;
                /* nobody there: http may have another port, or a proxy of its own */
                scheme = rc == 1 ? SCHEME_HTTPS : SCHEME_HTTP;
        }
        *ret_scheme = scheme;
        return 0;
}

/* One request. */
static int send_once(struct repo *r, const char *tail, const struct http_request *rq, struct http_answer *a,
        uint64_t *ret_seen, struct error *err)
{
        http_answer_done(a);
        enum scheme scheme = SCHEME_HTTPS;
        int rc = settle_scheme(r, &scheme, err);
        if (rc < 0)
                return rc;
        struct buf url, header;
        buf_init(&url, URL_MAX);
        buf_init(&header, CREDENTIAL_MAX);
        buf_addf(&url, "%s://%s/v2/%s/%s", scheme == SCHEME_HTTP ? "http" : "https", r->host, r->path, tail);
        rc = buf_error(&url) ? error_set(err, -EINVAL, "an address that is too long")
                             : auth_header(r->auth, buf_str(&url), &header, ret_seen, err);
        if (rc == 0) {
                struct http_request full = *rq;
                full.url = buf_str(&url);
                full.tls = &r->tls;
                full.authorization = buf_str(&header);
                rc = http_send(r->http, &full, a, err);
                if (rc == 0 && a->status != 400) /* which is how a TLS server answers plain words */
                        atomic_store(&r->scheme, scheme);
        }
        if (header.data)
                explicit_bzero(header.data, header.room);
        buf_done(&header);
        buf_done(&url);
        return rc;
}

/* Does the 401 say that the token was fine, but is not any more? */
static bool token_expired(const struct http_answer *a)
{
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *text = http_header(a, "WWW-Authenticate", 0, &value);
        return text && strcasestr(text, "invalid_token");
}

/* Reads the 401's challenges and sees to a login. */
static int log_in(struct repo *r, const struct http_answer *a, uint64_t seen, struct error *err)
{
        cleanup(challenges_done) struct challenges c = {0};
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        for (unsigned n = 0; http_header(a, "WWW-Authenticate", n, &value); n++)
                if (challenges_add(&c, buf_str(&value)) < 0)
                        return error_nomem(err);
        return auth_challenged(r->auth, a->url, &c, seen, err);
}

int repo_send(struct repo *r, const char *tail, const struct http_request *rq, struct http_answer *a, struct error *err)
{
        for (int rounds = 0;; rounds++) {
                uint64_t seen = 0;
                int rc = send_once(r, tail, rq, a, &seen, err);
                if (rc == 0 && !a->foreign)
                        show_warning(r, a);
                if (rc == 0 && (a->status != 401 || a->foreign || rounds == LOGIN_ROUNDS_MAX))
                        return 0;
                if (rc == 0 && rounds > 0 && !token_expired(a))
                        return 0; /* a fresh token, and still not: that is the answer */
                if (rc == 0)
                        rc = log_in(r, a, seen, err);
                if (rc < 0)
                        return rc == -ECANCELED || !*r->label ? rc : error_wrap(err, rc, "%s", r->name);
        }
}

/* ---- what a status means */

static const char *status_text(int status)
{
        switch (status) {
        case 400: return "400 Bad Request";
        case 401: return "401 Unauthorized";
        case 403: return "403 Forbidden";
        case 404: return "404 Not Found";
        case 405: return "405 Method Not Allowed";
        case 408: return "408 Request Timeout";
        case 416: return "416 Range Not Satisfiable";
        case 429: return "429 Too Many Requests";
        case 500: return "500 Internal Server Error";
        case 502: return "502 Bad Gateway";
        case 503: return "503 Service Unavailable";
        case 504: return "504 Gateway Timeout";
        default: return NULL;
        }
}

/* code and message of the first of {"errors": [...]}, each "" when there is none */
static void read_errors(const struct http_answer *a, char code[64], char message[200])
{
        code[0] = message[0] = '\0';
        cleanup(json_freep) json_t *json = NULL;
        json_t *list = NULL, *first;
        const char *s = NULL;
        if (a->body.len == 0 || json_parse(a->body.data, a->body.len, &json, NULL) < 0 || !json_is_object(json) ||
                json_get_array(json, "errors", &list, NULL) < 0 || !list)
                return;
        first = json_array_get(list, 0);
        if (!json_is_object(first))
                return;
        if (json_get_string(first, "code", &s, NULL) == 0 && s)
                snprintf(code, 64, "%s", s);
        if (json_get_string(first, "message", &s, NULL) == 0 && s)
                snprintf(message, 200, "%s", s);
        tidy(code);
        tidy(message);
}

static int rate_limit(struct repo *r, const char *what, const struct http_answer *a, struct error *err)
{
        cleanup(buf_done) struct buf limit, after;
        buf_init(&limit, HTTP_HEADERS_MAX);
        buf_init(&after, HTTP_HEADERS_MAX);
        const char *l = http_header(a, "ratelimit-limit", 0, &limit);
        const char *s = http_header(a, "Retry-After", 0, &after);
        return error_set(err, -ENETUNREACH,
                "%s%s: 429 Too Many Requests: the registry's rate limit%s%.40s%s is used up%s%.40s; wait, or log in "
                "for a higher one",
                r->label, what, l ? " (" : "", l ? l : "", l ? ")" : "", s ? ", it asks to come back after " : "",
                s ? s : "");
}

int repo_status_error(struct repo *r, const char *what, const struct http_answer *a, struct error *err)
{
        char code[64], message[200], number[40];
        read_errors(a, code, message);
        const char *status = status_text(a->status);
        if (!status) {
                snprintf(number, sizeof number, "status %d", a->status);
                status = number;
        }
        if (a->status == 429)
                return rate_limit(r, what, a, err);
        if (a->foreign) {
                char shown[160];
                return error_set(err,
                        http_status_transient(a->status) ? -ENETUNREACH
                        : a->status == 404               ? -ENOENT
                                                         : -EPROTO,
                        "%s%s: %s from the server that the registry sends us to, %s", r->label, what, status,
                        url_show(a->url, shown, sizeof shown));
        }
        if (a->status == 400 && strstr(buf_str(&a->body), "SSL certificate")) /* nginx's pages */
                return error_set(err, -EPROTO,
                        "%sTLS: the server wants a client certificate; put it and its key into %s as NAME.cert and "
                        "NAME.key",
                        r->label, r->certs_dir);
        if (a->status == 401 || a->status == 403) {
                cleanup(buf_done) struct buf advice;
                buf_init(&advice, 8192);
                auth_advice(r->auth, &advice);
                return error_set(err, -EACCES, "%s%s: %s: %s", r->label, what, status, buf_str(&advice));
        }
        if (a->status == 404 && strcmp(code, "NAME_UNKNOWN") == 0)
                return error_set(err, -ENOENT, "%sno such repository in this registry", r->label);
        if (a->status == 404)
                return error_set(err, -ENOENT, "%sno such %s", r->label, what);
        return error_set(err, http_status_transient(a->status) ? -ENETUNREACH : -EPROTO, "%s%s: %s%s%s", r->label, what,
                status, *message ? ": " : "", message);
}
