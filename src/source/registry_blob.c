/* How: everything is a transfer: the bytes [pos, end) go in order to a sink. A transfer sends a request for what is left,
 * looks at the answer before it takes a byte of it, and sends another one when the answer ends early for any reason; what
 * was delivered is never asked for again.
 *
 * The route. Registries answer blob requests with a redirect to a signed address somewhere else. It is kept, and later
 * ranges go straight there, without a word of ours to the registry; when it stops working (401, 403, 400, 404 there), one
 * thread goes through the registry for a new one and the others wait for its headers:
 *
 *   UNKNOWN --one thread asks the registry--> PLAIN (it serves the blob itself: everybody asks it) or SIGNED (address kept)
 *      ^------------------ refused at the address, unless it was replaced meanwhile --------------------'
 *
 * Servers without ranges answer 200 and the whole blob. Then bytes before pos are passed over, which is right, but dear, and
 * `sequential` tells everybody to stream instead. Bytes of a range cannot be verified here; readers hash them. */
#include "source/registry_blob.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "base/log.h"
#include "source/url.h"

enum {
        PROGRESS_MIN = 256 << 10, /* so many bytes count as getting further */
        SHORT_MIN = 4 << 10,      /* an answer with fewer bytes than asked for, and than this, is a failure */
        REFUSALS_MAX = 8,         /* of addresses, without a byte in between, */
        REFUSAL_FRESH = 4,        /* where one that came from the registry just now counts as so many */
};

enum route { ROUTE_UNKNOWN, ROUTE_PLAIN, ROUTE_SIGNED };

struct registry_blob {
        struct blob blob;
        struct places *places;
        struct digest digest;
        char **urls; /* of a foreign layer; NULL-terminated, NULL: none */
        pthread_mutex_t lock;
        pthread_cond_t changed; /* asking became false */
        bool asking;            /* under lock: one thread finds out the route */
        enum route route;       /* under lock */
        size_t route_place;     /* under lock: whose route it is */
        char *signed_url;       /* under lock; with ROUTE_SIGNED */
        uint64_t generation;    /* under lock: counts routes */
};

struct transfer {
        struct registry_blob *b;
        size_t place;            /* index of the repository */
        const char *foreign_url; /* asked instead of it: an address of a foreign layer */
        uint64_t pos, end;       /* what is left */
        uint64_t counted;        /* pos at the last progress */
        uint64_t skip;           /* bytes of the answer that come before pos */
        uint64_t answer_end;     /* position behind the answer's last byte */
        blob_sink_fn *sink;
        void *ctx;
        int sink_code;       /* the sink's own failure */
        bool ranges_only;    /* do not pass over bytes of a server without ranges */
        bool asking;         /* this thread finds out the route */
        char *direct;        /* signed address that is used, or NULL; owned */
        uint64_t generation; /* of the route that is used */
        unsigned refusals;   /* refused addresses since the last progress */
        struct http_pace pace;
};

/* ---- places */

struct places *places_ref(struct places *p)
{
        atomic_fetch_add(&p->refs, 1);
        return p;
}

void places_unref(struct places *p)
{
        if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
                return;
        for (size_t i = 0; i < p->count; i++)
                repo_free(p->repos[i]);
        free(p->repos);
        http_free(p->http);
        free(p);
}

unsigned places_tries(const struct places *p, size_t n)
{
        return n + 1 < p->count ? 2 : 0;
}

static bool unanswered(int code)
{
        return code == -ENETUNREACH || code == -ETIMEDOUT || code == -EPROTO;
}

void places_keep_error(struct error *kept, const struct error *later)
{
        if (kept->code == 0 || unanswered(kept->code) || !unanswered(later->code))
                *kept = *later;
}

/* ---- the route */

static void route_take(struct transfer *t)
{
        struct registry_blob *b = t->b;
        free(take(t->direct));
        t->asking = false;
        pthread_mutex_lock(&b->lock);
        while (b->asking)
                pthread_cond_wait(&b->changed, &b->lock);
        if (b->route_place != t->place)
                b->route = ROUTE_UNKNOWN;
        if (b->route == ROUTE_UNKNOWN)
                b->asking = t->asking = true;
        else if (b->route == ROUTE_SIGNED)
                t->direct = strdup(b->signed_url); /* when memory is short, the registry will do */
        t->generation = b->generation;
        pthread_mutex_unlock(&b->lock);
}

/* The headers of a good answer arrived: others may go the same way now. */
static void route_found(struct transfer *t, const struct http_answer *a)
{
        struct registry_blob *b = t->b;
        if (t->foreign_url || (!t->asking && !(a->foreign && !t->direct)))
                return;
        char *copy = a->foreign ? strdup(a->url) : NULL;
        pthread_mutex_lock(&b->lock);
        free(b->signed_url);
        b->signed_url = copy;
        b->route = copy ? ROUTE_SIGNED : ROUTE_PLAIN;
        b->route_place = t->place;
        b->generation++;
        if (t->asking)
                b->asking = false;
        pthread_cond_broadcast(&b->changed);
        pthread_mutex_unlock(&b->lock);
        t->asking = false;
}

/* The request is over. */
static void route_release(struct transfer *t)
{
        if (!t->asking)
                return;
        pthread_mutex_lock(&t->b->lock);
        t->b->asking = false;
        pthread_cond_broadcast(&t->b->changed);
        pthread_mutex_unlock(&t->b->lock);
        t->asking = false;
}

/* The kept address does not work; if nobody replaced it yet, it is forgotten. */
static void route_forget(struct transfer *t)
{
        pthread_mutex_lock(&t->b->lock);
        if (t->b->generation == t->generation)
                t->b->route = ROUTE_UNKNOWN;
        pthread_mutex_unlock(&t->b->lock);
}

/* ---- one answer */

static int wrong_size(struct transfer *t, uint64_t size, struct error *err)
{
        return error_set(err, -EBADMSG, "the server's blob has %llu bytes, the manifest says %llu",
                (unsigned long long)size, (unsigned long long)t->b->blob.size);
}

/* 206: exactly what was asked for, or less of it. */
static int begin_range(struct transfer *t, struct http_answer *a, struct error *err)
{
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *text = http_header(a, "Content-Range", 0, &value);
        uint64_t first = 0, last = 0, total = 0;
        if (!text || http_parse_content_range(text, &first, &last, &total) < 0 || first != t->pos || last >= t->end) {
                a->transient = true;
                return error_set(err, -EPROTO, "the server answers another range (%.60s) than bytes %llu-%llu",
                        text ? text : "not said", (unsigned long long)t->pos, (unsigned long long)t->end - 1);
        }
        if (total != UINT64_MAX && total != t->b->blob.size)
                return wrong_size(t, total, err);
        t->skip = 0;
        t->answer_end = last + 1;
        return 0;
}

/* 200: the whole blob. */
static int begin_whole(struct transfer *t, bool asked, struct http_answer *a, struct error *err)
{
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *text = http_header(a, "Content-Length", 0, &value);
        char *stop = NULL;
        unsigned long long len = text ? strtoull(text, &stop, 10) : 0;
        if (text && *text && *stop == '\0' && len != t->b->blob.size)
                return wrong_size(t, len, err);
        if (asked)
                atomic_store(&t->b->blob.sequential, true);
        if (asked && t->ranges_only)
                return error_set(err, -EOPNOTSUPP, "the server has no ranges");
        t->skip = t->pos;
        t->answer_end = t->b->blob.size;
        return 0;
}

static int on_begin(void *ctx, struct http_answer *a, struct error *err)
{
        struct transfer *t = ctx;
        bool asked = t->pos > 0 || t->end < t->b->blob.size;
        int r;
        if (a->status == 206 && asked)
                r = begin_range(t, a, err);
        else if (a->status == 200)
                r = begin_whole(t, asked, a, err);
        else
                r = error_set(err, -EPROTO, "an answer of status %d, which was not asked for", a->status);
        if (r == 0)
                route_found(t, a);
        return r;
}

static int on_bytes(void *ctx, const void *data, size_t len)
{
        struct transfer *t = ctx;
        const char *p = data;
        size_t pass = (size_t)MIN(t->skip, (uint64_t)len);
        t->skip -= pass;
        p += pass;
        len -= pass;
        size_t n = (size_t)MIN(t->end - t->pos, (uint64_t)len);
        if (n > 0) {
                t->sink_code = t->sink(t->ctx, p, n);
                if (t->sink_code < 0)
                        return t->sink_code;
                t->pos += n;
                if (t->sink_code > 0)
                        t->end = t->pos;
        }
        /* when the answer ends here, it is read to its end, which keeps the connection */
        return t->pos == t->end && (n < len || t->answer_end > t->end) ? 1 : 0;
}

/* ---- the loop */

static int send_rest(struct transfer *t, struct http_answer *a, struct error *err)
{
        struct places *places = t->b->places;
        struct http_request rq = {.method = "GET", .plain_ok = true, .begin = on_begin, .sink = on_bytes, .ctx = t};
        rq.ranged = t->pos > 0 || t->end < t->b->blob.size;
        rq.off = t->pos;
        rq.len = t->end - t->pos;
        if (t->foreign_url) {
                rq.url = t->foreign_url;
                return http_send(places->http, &rq, a, err);
        }
        struct repo *repo = places->repos[t->place];
        route_take(t);
        int r;
        if (t->direct) {
                rq.url = t->direct;
                struct http_tls tls = *repo_tls(repo);
                tls.client_cert = tls.client_key = NULL;
                rq.tls = &tls;
                r = http_send(places->http, &rq, a, err);
                a->foreign = true;
        } else {
                char tail[16 + DIGEST_MAX_TEXT] = "blobs/";
                digest_format(&t->b->digest, tail + strlen(tail));
                r = repo_send(repo, tail, &rq, a, err);
        }
        route_release(t);
        return r;
}

/* A signed address that is not good any more? */
static bool address_refused(const struct http_answer *a)
{
        return a->foreign &&
               (a->status == 400 || a->status == 401 || a->status == 403 || a->status == 404 || a->status == 410);
}

static int status_error(struct transfer *t, const struct http_answer *a, struct error *err)
{
        char what[16 + DIGEST_MAX_TEXT] = "blob ", shown[200];
        digest_format(&t->b->digest, what + strlen(what));
        if (a->status == 416)
                return error_set(err, -EBADMSG,
                        "%s: the server says that bytes %llu-%llu do not exist; the size in the "
                        "manifest is wrong",
                        what, (unsigned long long)t->pos, (unsigned long long)t->end - 1);
        if (!t->foreign_url)
                return repo_status_error(t->b->places->repos[t->place], what, a, err);
        return error_set(err, a->status == 404 ? -ENOENT : -EPROTO, "%s: status %d from %s", what, a->status,
                url_show(t->foreign_url, shown, sizeof shown));
}

/* After an answer or a failure that did not bring all: 0 to send again, or the error. */
static int assess(struct transfer *t, int r, uint64_t before, struct http_answer *a, struct error *err)
{
        bool good = a->status == 200 || a->status == 206;
        if (t->pos - t->counted >= PROGRESS_MIN) {
                http_pace_progress(&t->pace);
                t->refusals = 0;
                t->counted = t->pos;
        }
        if (r == 0 && good) {
                if (t->pos - before >= SHORT_MIN)
                        return 0;
                r = error_set(err, -EBADMSG, "the answer ends early, at byte %llu of %llu", (unsigned long long)t->pos,
                        (unsigned long long)t->end);
                a->transient = true;
        }
        if (r == 0 && address_refused(a) && !t->foreign_url && t->refusals < REFUSALS_MAX) {
                t->refusals += t->direct ? 1 : REFUSAL_FRESH;
                route_forget(t);
                return 0;
        }
        if (r < 0 && a->unreached && t->direct)
                route_forget(t);
        if (http_pace_again(t->b->places->http, &t->pace, r, a))
                return 0;
        return r < 0 ? r : status_error(t, a, err);
}

/* err is untouched when it is the sink that fails: what it says about that is its own business. */
static int run(struct transfer *t, struct error *err)
{
        int r = 0;
        t->counted = t->pos;
        while (r == 0 && t->pos < t->end) {
                cleanup(http_answer_done) struct http_answer a = {0};
                struct error why = {0};
                uint64_t before = t->pos;
                r = send_rest(t, &a, &why);
                if (t->sink_code < 0) {
                        r = t->sink_code;
                } else if (t->pos < t->end) {
                        r = assess(t, r, before, &a, &why);
                        if (r < 0)
                                error_set(err, r, "%s", why.msg);
                } else {
                        r = 0; /* all is here, whatever came behind it */
                }
        }
        free(take(t->direct));
        return r;
}

static int run_repos(struct transfer *t, struct error *err)
{
        struct places *places = t->b->places;
        size_t first = atomic_load(&places->good);
        int r = 0;
        for (size_t n = 0; n < places->count; n++) {
                struct error e = {0};
                t->place = (first + n) % places->count;
                t->pace = (struct http_pace){.tries = places_tries(places, n)};
                t->refusals = 0;
                r = run(t, &e);
                if (r == 0)
                        atomic_store(&places->good, t->place);
                if (r == 0 || t->sink_code < 0)
                        return r;
                places_keep_error(err, &e);
                if (r == -ECANCELED)
                        break;
        }
        return r;
}

static int run_places(struct transfer *t, struct error *err)
{
        struct error kept = {0};
        int r = run_repos(t, &kept);
        for (char **url = t->b->urls; r < 0 && r != -ECANCELED && t->sink_code >= 0 && url && *url; url++) {
                t->foreign_url = *url;
                t->pace = (struct http_pace){0};
                r = run(t, NULL);
        }
        if (r < 0 && t->sink_code >= 0) {
                r = kept.code;
                if (err)
                        *err = kept;
        }
        return r;
}

/* ---- the blob's operations */

struct copy_ctx {
        char *data;
};

static int copy_sink(void *ctx, const void *data, size_t len)
{
        struct copy_ctx *c = ctx;
        memcpy(c->data, data, len);
        c->data += len;
        return 0;
}

static int op_read(struct blob *blob, void *data, size_t len, uint64_t off, struct error *err)
{
        struct copy_ctx copy = {data};
        uint64_t pos = off;
        return registry_blob_push(blob, &pos, off + len, false, copy_sink, &copy, err);
}

int registry_blob_push(struct blob *blob, uint64_t *pos, uint64_t end, bool ranges_only, blob_sink_fn *sink, void *ctx,
        struct error *err)
{
        struct transfer t = {.b = (struct registry_blob *)blob,
                .pos = *pos,
                .end = end,
                .ranges_only = ranges_only,
                .sink = sink,
                .ctx = ctx};
        int r = t.pos >= t.end ? 0 : run_places(&t, err);
        *pos = t.pos;
        return r;
}

struct places *registry_blob_places(struct blob *blob)
{
        return ((struct registry_blob *)blob)->places;
}

static void op_free(struct blob *blob)
{
        struct registry_blob *b = (struct registry_blob *)blob;
        for (char **url = b->urls; url && *url; url++)
                free(*url);
        free(b->urls);
        free(b->signed_url);
        places_unref(b->places);
        pthread_mutex_destroy(&b->lock);
        pthread_cond_destroy(&b->changed);
        free(b);
}

static const struct blob_ops ops = {.read = op_read, .stream = registry_stream, .free = op_free};

static int copy_urls(struct registry_blob *b, char *const *urls)
{
        size_t count = 0;
        while (urls && urls[count])
                count++;
        if (count == 0)
                return 0;
        if (!(b->urls = calloc(count + 1, sizeof *b->urls)))
                return -ENOMEM;
        for (size_t i = 0; i < count; i++)
                if (!(b->urls[i] = strdup(urls[i])))
                        return -ENOMEM;
        return 0;
}

int registry_blob_new(struct places *places, const struct descriptor *d, struct blob **ret_blob, struct error *err)
{
        struct registry_blob *b = calloc(1, sizeof *b);
        if (!b)
                return error_nomem(err);
        blob_init(&b->blob, &ops, d->size);
        b->places = places_ref(places);
        b->digest = d->digest;
        pthread_mutex_init(&b->lock, NULL);
        pthread_cond_init(&b->changed, NULL);
        if (copy_urls(b, d->urls) < 0) {
                op_free(&b->blob);
                return error_nomem(err);
        }
        *ret_blob = &b->blob;
        return 0;
}
