/* How: a list of places (mirrors in order, then the registry itself), each a struct repo, and one HTTP client for all of them.
 * A document is asked for at one place after the other until one gives it; the caller checks digests, so that a mirror
 * cannot lie. A name that was resolved before costs one HEAD, which Docker Hub does not count against its limit. */
#include "source/registry.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "source/http.h"
#include "source/registries.h"
#include "source/registry_blob.h"
#include "source/repo.h"

#define ACCEPT                                                                                                         \
        "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "                        \
        "application/vnd.docker.distribution.manifest.list.v2+json, "                                                  \
        "application/vnd.docker.distribution.manifest.v2+json, */*"

enum { TAIL_MAX = 320 };

struct registry {
        struct source source;
        struct places *places;
        char *tag;            /* NULL: by digest only */
        struct digest digest; /* beats the tag */
};

/* ---- documents */

struct document {
        struct buf *out;
        size_t start; /* length of out before */
        size_t max;   /* bytes */
        bool too_big;
};

static int document_begin(void *ctx, struct http_answer *a, struct error *err)
{
        struct document *d = ctx;
        d->out->len = d->start; /* an earlier try may have left something */
        if (a->status != 200)
                return error_set(err, -EPROTO, "an answer of status %d, which was not asked for", a->status);
        return 0;
}

static int document_sink(void *ctx, const void *data, size_t len)
{
        struct document *d = ctx;
        if (len > d->max - (d->out->len - d->start)) {
                d->too_big = true;
                return -EFBIG;
        }
        buf_add(d->out, data, len);
        return buf_error(d->out);
}

/* Sends until there is an answer that means something. 0: it is a success. */
static int ask(struct registry *s, size_t place, unsigned tries, const char *method, const char *tail, const char *what,
        struct document *d, struct http_answer *a, struct error *err)
{
        struct repo *repo = s->places->repos[place];
        struct http_pace pace = {.tries = tries};
        struct http_request rq = {.method = method,
                .accept = ACCEPT,
                .begin = d ? document_begin : NULL,
                .sink = d ? document_sink : NULL,
                .ctx = d};
        for (;;) {
                int r = repo_send(repo, tail, &rq, a, err);
                if (r == 0 && a->status >= 200 && a->status < 300)
                        return 0;
                if (d && d->too_big)
                        return error_set(err, -EFBIG, "%s%s is larger than %zu bytes", repo_label(repo), what, d->max);
                if (r < 0 && a->unreached)
                        pace.tries = 2; /* a person waits for this answer; a server that is down is down */
                if (http_pace_again(s->places->http, &pace, r, a))
                        continue;
                return r < 0 ? r : repo_status_error(repo, what, a, err);
        }
}

/* of the label that the message begins with */
static size_t label_len(const struct repo *repo, const char *msg)
{
        size_t len = strlen(repo_label(repo));
        return strncmp(msg, repo_label(repo), len) == 0 ? len : 0;
}

/* From one place after the other. */
static int get_document(struct registry *s, const char *tail, const char *what, size_t max, struct buf *out,
        struct http_answer *a, struct error *err)
{
        struct error kept = {0};
        size_t first = atomic_load(&s->places->good);
        for (size_t n = 0; n < s->places->count; n++) {
                size_t place = (first + n) % s->places->count;
                struct error e = {0};
                struct document d = {.out = out, .start = out->len, .max = max};
                int r = ask(s, place, places_tries(s->places, n), "GET", tail, what, &d, a, &e);
                if (r == 0) {
                        atomic_store(&s->places->good, place);
                        return 0;
                }
                out->len = d.start;
                e.code = r; /* a failure of memory comes without words */
                if (n + 1 < s->places->count)
                        log_notice("%s: %s; trying the next place", repo_name(s->places->repos[place]),
                                e.msg + label_len(s->places->repos[place], e.msg));
                places_keep_error(&kept, &e);
                if (r == -ECANCELED)
                        break;
        }
        if (err)
                *err = kept;
        return kept.code;
}

/* ---- the source's operations */

/* Does the name still mean what it did? Asks one place; true only when that is certain. */
static bool unchanged(struct registry *s, const char *tail, const char *what, const struct digest *known, int *ret_r,
        struct error *err)
{
        cleanup(http_answer_done) struct http_answer a = {0};
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        *ret_r = ask(s, atomic_load(&s->places->good), places_tries(s->places, 0), "HEAD", tail, what, NULL, &a, err);
        const char *text = *ret_r == 0 ? http_header(&a, "Docker-Content-Digest", 0, &value) : NULL;
        struct digest now;
        return text && digest_parse(text, strlen(text), &now) == 0 && digest_equal(&now, known);
}

/* "application/json; charset=utf-8" -> "application/json" */
static int media_type(const struct http_answer *a, char **ret_type, struct error *err)
{
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *text = http_header(a, "Content-Type", 0, &value);
        text = text ? text : "";
        char *type = strndup(text, strcspn(text, "; \t"));
        if (!type)
                return error_nomem(err);
        *ret_type = type;
        return 0;
}

static int op_resolve(
        struct source *source, const struct digest *known, struct buf *out, char **ret_type, struct error *err)
{
        struct registry *s = (struct registry *)source;
        char tail[TAIL_MAX], what[TAIL_MAX], text[DIGEST_MAX_TEXT];
        bool pinned = s->digest.alg != DIGEST_NONE;
        snprintf(tail, sizeof tail, "manifests/%s", pinned ? digest_format(&s->digest, text) : s->tag);
        snprintf(what, sizeof what, "%s %s", pinned ? "manifest" : "tag", tail + strlen("manifests/"));
        if (!pinned && known && known->alg != DIGEST_NONE) {
                int r = 0;
                if (unchanged(s, tail, what, known, &r, err))
                        return 1;
                if (s->places->count == 1 && (r == -ECANCELED || r == -ENETUNREACH || r == -ETIMEDOUT))
                        return r; /* a GET would not fare better */
        }
        cleanup(http_answer_done) struct http_answer a = {0};
        size_t start = out->len;
        int r = get_document(s, tail, what, SOURCE_MANIFEST_MAX, out, &a, err);
        if (r == 0)
                r = media_type(&a, ret_type, err);
        if (r < 0)
                out->len = start;
        return r;
}

static int op_manifest(struct source *source, const struct descriptor *d, struct buf *out, struct error *err)
{
        struct registry *s = (struct registry *)source;
        char tail[TAIL_MAX], text[DIGEST_MAX_TEXT];
        snprintf(tail, sizeof tail, "manifests/%s", digest_format(&d->digest, text));
        cleanup(http_answer_done) struct http_answer a = {0};
        if (d->size > SOURCE_MANIFEST_MAX)
                return error_set(err, -EFBIG, "manifest %s: larger than %d bytes", text, SOURCE_MANIFEST_MAX);
        return get_document(s, tail, tail, (size_t)d->size, out, &a, err);
}

static int append_sink(void *ctx, const void *data, size_t len)
{
        struct buf *out = ctx;
        buf_add(out, data, len);
        return buf_error(out);
}

static int op_document(struct source *source, const struct descriptor *d, struct buf *out, struct error *err)
{
        struct registry *s = (struct registry *)source;
        if (d->size > SOURCE_CONFIG_MAX)
                return error_set(err, -EFBIG, "a document of %llu bytes, more than %d", (unsigned long long)d->size,
                        SOURCE_CONFIG_MAX);
        cleanup(blob_unrefp) struct blob *blob = NULL;
        int r = registry_blob_new(s->places, d, &blob, err);
        if (r < 0)
                return r;
        size_t start = out->len;
        r = blob_stream(blob, 0, append_sink, out, err);
        if (r < 0)
                out->len = start;
        return r == -EFBIG || r == -ENOMEM ? error_set(err, r, "a document does not fit into memory") : r;
}

static int op_blob(struct source *source, const struct descriptor *d, struct blob **ret_blob, struct error *err)
{
        return registry_blob_new(((struct registry *)source)->places, d, ret_blob, err);
}

static void op_close(struct source *source)
{
        struct registry *s = (struct registry *)source;
        places_unref(s->places);
        free(s->tag);
        free(s);
}

static const struct source_ops ops = {
        .resolve = op_resolve, .manifest = op_manifest, .document = op_document, .blob = op_blob, .close = op_close};

struct registry_counters registry_count(const struct source *source)
{
        if (source->ops != &ops)
                return (struct registry_counters){0};
        struct http_counters c = http_count(((const struct registry *)source)->places->http);
        return (struct registry_counters){c.requests, c.retries, c.fetched_bytes};
}

/* ---- opening */

static bool is_asked_for(const struct endpoint *e, const struct reference *ref)
{
        return strcmp(e->domain, ref->domain) == 0 && strcmp(e->path, ref->path) == 0;
}

static int add_places(struct places *p, const struct reference *ref, const struct endpoint *endpoints, size_t count,
        const struct registry_options *o, struct error *err)
{
        if (!(p->repos = calloc(count, sizeof p->repos[0])))
                return error_nomem(err);
        for (size_t i = 0; i < count; i++) {
                const struct endpoint *e = &endpoints[i];
                struct repo_options ro = {.domain = e->domain,
                        .path = e->path,
                        .insecure = o->tls_verify < 0 ? e->insecure : o->tls_verify == 0,
                        .authfile = o->authfile,
                        .named = !is_asked_for(e, ref),
                        .creds = e->mirror ? NULL : o->creds}; /* the registry's login is not for its mirrors */
                int r = repo_new(p->http, &ro, &p->repos[p->count], err);
                if (r < 0)
                        return r;
                p->count++;
        }
        return 0;
}

static int make_places(
        const struct reference *ref, const struct registry_options *o, struct places **ret_places, struct error *err)
{
        cleanup(registries_freep) struct registries *conf = NULL;
        int r = registries_load(o->registries_conf, &conf, err);
        if (r < 0)
                return r;
        struct endpoint *endpoints = NULL;
        size_t count = 0;
        r = registries_endpoints(conf, ref, &endpoints, &count, err);
        if (r < 0)
                return r;
        struct places *p = calloc(1, sizeof *p);
        if (p) {
                atomic_init(&p->refs, 1);
                r = http_new(o->http, &p->http, err);
                if (r == 0)
                        r = add_places(p, ref, endpoints, count, o, err);
        } else {
                r = error_nomem(err);
        }
        endpoints_free(endpoints, count);
        if (r < 0) {
                places_unref(p);
                return r;
        }
        *ret_places = p;
        return 0;
}

int registry_names(const struct reference *ref, const struct registry_options *options, struct reference **ret_names,
        size_t *ret_count, struct error *err)
{
        cleanup(registries_freep) struct registries *conf = NULL;
        int r = registries_load(options->registries_conf, &conf, err);
        return r < 0 ? r : registries_names(conf, ref, ret_names, ret_count, err);
}

int registry_open(const struct reference *ref, const struct registry_options *options, struct source **ret_source,
        struct error *err)
{
        static const struct registry_options defaults = {.tls_verify = -1};
        struct registry *s = calloc(1, sizeof *s);
        if (!s)
                return error_nomem(err);
        s->source.ops = &ops;
        s->digest = ref->digest;
        s->tag = strdup(ref->tag ? ref->tag : "latest");
        int r = s->tag ? make_places(ref, options ? options : &defaults, &s->places, err) : error_nomem(err);
        if (r < 0) {
                op_close(&s->source);
                return r;
        }
        *ret_source = &s->source;
        return 0;
}
