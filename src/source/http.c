/* How: blocking transfers on libcurl's easy handles. A handle keeps its connections (and its TLS sessions and names are
 * shared with the others), so a thread that wants to send takes an idle handle out of a pool, by preference one that spoke
 * to the same origin last, and puts it back afterwards: keep-alive without a lock around the network. libcurl could share the
 * connections themselves, but does not promise that this is safe between threads.
 *
 *   http_send    redirects            drops credentials when the origin changes
 *     send_once  one answer           picks a handle, sets it up, logs and counts
 *       on_header, on_body            tell success from the rest, refuse encodings, feed the sink
 *       on_progress                   cancelling, stalls
 *
 * libcurl follows no redirect here: the final address is wanted (later ranges go straight there), and who gets credentials is
 * better decided in one place. A stall is measured here, too, because libcurl's own clock for it counts whole seconds. */
#include "source/http.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "base/log.h"
#include "source/url.h"

#if LIBCURL_VERSION_NUM < 0x075700
#error "libcurl 7.87 or newer is needed: older ones let OpenSSL raise SIGPIPE in whatever thread it is"
#endif

enum { IDLE_MAX = 8, STALL_BYTES_MIN = 512, BACKOFF_MAX_MS = 8000, LOOPBACK_CONNECT_MS = 5000 };

struct idle {
        CURL *curl;
        char *origin; /* whom it spoke to last */
};

struct http {
        struct http_options options; /* the defaults are filled in */
        CURLSH *share;
        pthread_mutex_t share_locks[CURL_LOCK_DATA_LAST];
        pthread_mutex_t lock;
        struct idle idle[IDLE_MAX]; /* under lock; the last one was used last */
        unsigned idle_count;        /* under lock */
        atomic_uint_fast64_t requests, retries, fetched_bytes;
};

int64_t http_now_ms(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the client */

static pthread_once_t global_once = PTHREAD_ONCE_INIT;

static void global_init(void)
{
        curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void share_lock(CURL *curl, curl_lock_data data, curl_lock_access access, void *ctx)
{
        (void)curl;
        (void)access;
        pthread_mutex_lock(&((struct http *)ctx)->share_locks[data]);
}

static void share_unlock(CURL *curl, curl_lock_data data, void *ctx)
{
        (void)curl;
        pthread_mutex_unlock(&((struct http *)ctx)->share_locks[data]);
}

static unsigned or_default(unsigned value, unsigned absent)
{
        return value ? value : absent;
}

int http_new(const struct http_options *options, struct http **ret_http, struct error *err)
{
        pthread_once(&global_once, global_init);
        struct http *h = calloc(1, sizeof *h);
        if (!h)
                return error_nomem(err);
        if (options)
                h->options = *options;
        struct http_options *o = &h->options;
        o->connect_ms = or_default(o->connect_ms, 15000);
        o->stall_ms = or_default(o->stall_ms, 30000);
        o->tries = or_default(o->tries, 6);
        o->backoff_ms = or_default(o->backoff_ms, 250);
        o->retry_after_max_ms = or_default(o->retry_after_max_ms, 30000);
        o->deadline_ms = or_default(o->deadline_ms, 60000);
        pthread_mutex_init(&h->lock, NULL);
        for (size_t i = 0; i < ARRAY_LEN(h->share_locks); i++)
                pthread_mutex_init(&h->share_locks[i], NULL);
        h->share = curl_share_init();
        if (!h->share) {
                http_free(h);
                return error_nomem(err);
        }
        curl_share_setopt(h->share, CURLSHOPT_USERDATA, h);
        curl_share_setopt(h->share, CURLSHOPT_LOCKFUNC, share_lock);
        curl_share_setopt(h->share, CURLSHOPT_UNLOCKFUNC, share_unlock);
        curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
        curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
        *ret_http = h;
        return 0;
}

void http_free(struct http *h)
{
        if (!h)
                return;
        for (unsigned i = 0; i < h->idle_count; i++) {
                curl_easy_cleanup(h->idle[i].curl);
                free(h->idle[i].origin);
        }
        if (h->share)
                curl_share_cleanup(h->share);
        for (size_t i = 0; i < ARRAY_LEN(h->share_locks); i++)
                pthread_mutex_destroy(&h->share_locks[i]);
        pthread_mutex_destroy(&h->lock);
        free(h);
}

const struct http_options *http_options(const struct http *h)
{
        return &h->options;
}

struct http_counters http_count(struct http *h)
{
        return (struct http_counters){
                atomic_load(&h->requests), atomic_load(&h->retries), atomic_load(&h->fetched_bytes)};
}

static bool cancelled(const struct http *h)
{
        return h->options.cancel && atomic_load(h->options.cancel);
}

/* the file that libcurl takes the system's authorities from */
static FILE *open_system_bundle(void)
{
        const char *path = getenv("SSL_CERT_FILE");
        if (path && *path)
                return fopen(path, "re");
        CURL *curl = curl_easy_init();
        char *built_in = NULL;
        if (curl)
                curl_easy_getinfo(curl, CURLINFO_CAINFO, &built_in);
        FILE *f = built_in ? fopen(built_in, "re") : NULL;
        if (curl)
                curl_easy_cleanup(curl);
        return f;
}

/* CURLOPT_CAINFO_BLOB replaces the bundle, so the extra authorities are put behind the system's. */
int http_authorities(const char *extra_pem, char **ret_pem, struct error *err)
{
        pthread_once(&global_once, global_init);
        cleanup(buf_done) struct buf pem;
        buf_init(&pem, 16 << 20);
        FILE *f = open_system_bundle();
        if (f) {
                char part[16384];
                size_t n;
                while ((n = fread(part, 1, sizeof part, f)) > 0)
                        buf_add(&pem, part, n);
                fclose(f);
                buf_addc(&pem, '\n');
        }
        buf_adds(&pem, extra_pem);
        if (buf_error(&pem))
                return error_set(err, buf_error(&pem), "the certificate authorities do not fit into memory");
        *ret_pem = buf_take(&pem, NULL);
        return *ret_pem ? 0 : error_nomem(err);
}

/* ---- the pool of handles */

/* "https://host:port" with what the address says; NULL when out of memory */
static char *origin_of(const char *url)
{
        const char *authority = strstr(url, "://");
        authority = authority ? authority + 3 : url;
        return strndup(url, (size_t)(authority - url) + strcspn(authority, "/?#"));
}

static CURL *idle_take(struct http *h, const char *origin)
{
        CURL *curl = NULL;
        pthread_mutex_lock(&h->lock);
        if (h->idle_count > 0) {
                unsigned pick = h->idle_count - 1;
                for (unsigned i = 0; i < h->idle_count; i++)
                        if (h->idle[i].origin && strcmp(h->idle[i].origin, origin) == 0)
                                pick = i;
                curl = h->idle[pick].curl;
                free(h->idle[pick].origin);
                h->idle_count--;
                memmove(&h->idle[pick], &h->idle[pick + 1], (h->idle_count - pick) * sizeof h->idle[0]);
        }
        pthread_mutex_unlock(&h->lock);
        return curl ? curl : curl_easy_init();
}

/* takes ownership of origin */
static void idle_put(struct http *h, CURL *curl, char *origin)
{
        curl_easy_reset(curl); /* keeps connections; forgets headers, which may hold secrets */
        pthread_mutex_lock(&h->lock);
        if (h->idle_count < IDLE_MAX) {
                h->idle[h->idle_count++] = (struct idle){curl, origin};
                curl = NULL;
                origin = NULL;
        }
        pthread_mutex_unlock(&h->lock);
        if (curl)
                curl_easy_cleanup(curl);
        free(origin);
}

/* ---- answers */

void http_answer_done(struct http_answer *a)
{
        free(a->url);
        buf_done(&a->headers);
        buf_done(&a->body);
        *a = (struct http_answer){0};
}

const char *http_header(const struct http_answer *a, const char *name, unsigned n, struct buf *out)
{
        size_t name_len = strlen(name);
        for (const char *line = buf_str(&a->headers); *line;) {
                size_t len = strcspn(line, "\n");
                if (len > name_len && line[name_len] == ':' && strncasecmp(line, name, name_len) == 0 && n-- == 0) {
                        const char *value = line + name_len + 1, *end = line + len;
                        while (value < end && (*value == ' ' || *value == '\t'))
                                value++;
                        while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
                                end--;
                        buf_clear(out);
                        buf_add(out, value, (size_t)(end - value));
                        return buf_error(out) ? NULL : buf_str(out);
                }
                line += len + (line[len] == '\n');
        }
        return NULL;
}

static const char *parse_number(const char *p, uint64_t *ret)
{
        uint64_t value = 0;
        if (*p < '0' || *p > '9')
                return NULL;
        for (; *p >= '0' && *p <= '9'; p++)
                if (!mul_ok(value, (uint64_t)10, &value) || !add_ok(value, (uint64_t)(*p - '0'), &value))
                        return NULL;
        *ret = value;
        return p;
}

int http_parse_content_range(const char *text, uint64_t *ret_first, uint64_t *ret_last, uint64_t *ret_total)
{
        uint64_t first, last, total = UINT64_MAX;
        if (strncasecmp(text, "bytes", 5) != 0)
                return -EPROTO;
        const char *p = text + 5;
        p += strspn(p, " =");
        if (!(p = parse_number(p, &first)) || *p++ != '-' || !(p = parse_number(p, &last)) || *p++ != '/')
                return -EPROTO;
        if (*p == '*')
                p++;
        else if (!(p = parse_number(p, &total)) || total == UINT64_MAX)
                return -EPROTO;
        p += strspn(p, " ");
        if (*p || last < first || (total != UINT64_MAX && last >= total))
                return -EPROTO;
        *ret_first = first;
        *ret_last = last;
        *ret_total = total;
        return 0;
}

int64_t http_parse_retry_after(const char *text, int64_t now_s)
{
        enum { FAR_S = 1000000 };
        uint64_t seconds;
        const char *end = parse_number(text, &seconds);
        if (end && *end == '\0')
                return (int64_t)MIN(seconds, (uint64_t)FAR_S) * 1000;
        time_t at = curl_getdate(text, NULL);
        if (at < 0)
                return -1;
        int64_t wait_s = (int64_t)at - now_s;
        return MAX((int64_t)0, MIN(wait_s, (int64_t)FAR_S)) * 1000;
}

bool http_status_transient(int status)
{
        return status == 408 || status == 425 || status == 429 || status == 499 ||
               (status >= 500 && status != 501 && status != 505);
}

/* ---- one exchange */

struct exchange {
        struct http *http;
        const struct http_request *rq;
        struct http_answer *a;
        struct error *err;
        const struct url *parts; /* of the address that is asked */
        CURL *curl;
        struct curl_slist *fields;
        int code;              /* begin's or the sink's failure, or our own */
        bool begun;            /* the headers were complete */
        bool enough;           /* the sink has what it wanted */
        int64_t window_ms;     /* start of the span of time that is watched for a stall */
        curl_off_t window_len; /* bytes at that time */
        bool stalled;
        char text[CURL_ERROR_SIZE];
};

static bool success(int status)
{
        return status >= 200 && status < 300;
}

/* All headers of a success are there. */
static int headers_end(struct exchange *x)
{
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *coding = http_header(x->a, "Content-Encoding", 0, &value);
        if (coding && *coding && strcasecmp(coding, "identity") != 0) {
                x->a->transient = true;
                return error_set(x->err, -EPROTO, "the body is encoded (%.40s) though this was not asked for", coding);
        }
        return x->rq->begin ? x->rq->begin(x->rq->ctx, x->a, x->err) : 0;
}

static size_t on_header(char *data, size_t size, size_t count, void *ctx)
{
        struct exchange *x = ctx;
        size_t len = size * count;
        if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) {
                buf_clear(&x->a->headers); /* an interim answer came before */
                x->begun = false;
                long status = 0;
                curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
                x->a->status = (int)status;
                return len;
        }
        size_t text = len;
        while (text > 0 && (data[text - 1] == '\n' || data[text - 1] == '\r'))
                text--;
        if (text == 0 && success(x->a->status) && !x->begun) {
                x->begun = true; /* trailers end like headers */
                x->code = headers_end(x);
                return x->code < 0 ? 0 : len;
        }
        if (text > 0 && !memchr(data, '\0', text) && !memchr(data, '\n', text)) {
                buf_add(&x->a->headers, data, text);
                buf_addc(&x->a->headers, '\n');
        }
        if (buf_error(&x->a->headers)) {
                x->code = error_set(
                        x->err, buf_error(&x->a->headers), "more than %d bytes of headers", (int)HTTP_HEADERS_MAX);
                return 0;
        }
        return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
        struct exchange *x = ctx;
        size_t len = size * count;
        x->a->body_len += len;
        atomic_fetch_add(&x->http->fetched_bytes, len);
        if (!success(x->a->status)) {
                size_t room = HTTP_ERROR_BODY_MAX - x->a->body.len;
                buf_add(&x->a->body, data, MIN(len, room));
                x->enough = len >= room;
                return x->enough ? 0 : len;
        }
        int64_t start_ms = http_now_ms();
        int r = x->rq->sink ? x->rq->sink(x->rq->ctx, data, len) : 0;
        x->window_ms += http_now_ms() - start_ms; /* a slow sink is not the server's fault */
        if (r < 0)
                x->code = error_set(x->err, r, "%s", strerror(-r));
        x->enough = r > 0;
        return r == 0 ? len : 0;
}

/* A transfer stalls when a whole span of stall_ms brings next to nothing, so that a trickle has an end, too. */
static int on_progress(void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
        (void)down_total;
        (void)up_total;
        struct exchange *x = ctx;
        if (cancelled(x->http))
                return 1;
        int64_t now = http_now_ms();
        if (now - x->window_ms < (int64_t)x->http->options.stall_ms)
                return 0;
        if (down + up - x->window_len < STALL_BYTES_MIN) {
                x->stalled = true;
                return 1;
        }
        x->window_ms = now;
        x->window_len = down + up;
        return 0;
}

static int add_field(struct exchange *x, const char *name, const char *value)
{
        cleanup(buf_done) struct buf line;
        buf_init(&line, HTTP_HEADERS_MAX);
        buf_addf(&line, "%s: %s", name, value);
        struct curl_slist *longer = buf_error(&line) ? NULL : curl_slist_append(x->fields, buf_str(&line));
        if (line.data)
                explicit_bzero(line.data, line.room);
        if (!longer)
                return error_nomem(x->err);
        x->fields = longer;
        return 0;
}

static int set_fields(struct exchange *x, const char *authorization)
{
        const struct http_request *rq = x->rq;
        int r = add_field(x, "Accept-Encoding", "identity");
        if (r == 0 && rq->accept)
                r = add_field(x, "Accept", rq->accept);
        if (r == 0 && authorization && *authorization)
                r = add_field(x, "Authorization", authorization);
        if (r == 0 && rq->ranged) {
                char range[64];
                snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)rq->off,
                        (unsigned long long)(rq->off + rq->len - 1));
                r = add_field(x, "Range", range);
        }
        if (r == 0)
                curl_easy_setopt(x->curl, CURLOPT_HTTPHEADER, x->fields);
        return r;
}

static void free_fields(struct exchange *x)
{
        for (struct curl_slist *f = x->fields; f; f = f->next)
                explicit_bzero(f->data, strlen(f->data));
        curl_slist_free_all(x->fields);
        x->fields = NULL;
}

static void trust_anybody(CURL *curl)
{
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
        curl_easy_setopt(curl, CURLOPT_CAINFO, NULL); /* reading the bundle takes 20 ms */
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
}

static void set_tls(struct exchange *x, bool own_origin)
{
        const struct http_tls *tls = x->rq->tls;
        const char *file = getenv("SSL_CERT_FILE"), *dir = getenv("SSL_CERT_DIR");
        if (file && *file)
                curl_easy_setopt(x->curl, CURLOPT_CAINFO, file);
        if (dir && *dir)
                curl_easy_setopt(x->curl, CURLOPT_CAPATH, dir);
        if (!tls)
                return;
        if (tls->insecure)
                trust_anybody(x->curl);
        if (own_origin && tls->client_cert) {
                curl_easy_setopt(x->curl, CURLOPT_SSLCERT, tls->client_cert);
                curl_easy_setopt(x->curl, CURLOPT_SSLKEY, tls->client_key);
        }
        if (tls->ca_pem && !tls->insecure) {
                struct curl_blob blob = {(void *)(uintptr_t)tls->ca_pem, strlen(tls->ca_pem), CURL_BLOB_NOCOPY};
                curl_easy_setopt(x->curl, CURLOPT_CAINFO_BLOB, &blob);
        }
}

static void set_common(struct exchange *x, const char *url, const struct url *parts)
{
        CURL *c = x->curl;
        const struct http_options *o = &x->http->options;
        bool loopback = host_is_loopback(parts->host);
        curl_easy_setopt(c, CURLOPT_SHARE, x->http->share);
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_USERAGENT, "imagefs/" IMAGEFS_VERSION);
        curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L << 10);
        curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS,
                (long)(loopback ? MIN(o->connect_ms, (unsigned)LOOPBACK_CONNECT_MS) : o->connect_ms));
        curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        curl_easy_setopt(c, CURLOPT_ERRORBUFFER, x->text);
        curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, x);
        if (loopback)
                curl_easy_setopt(c, CURLOPT_PROXY, ""); /* a proxy's own loopback is another machine */
        if (strcmp(x->rq->method, "HEAD") == 0) {
                curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        } else if (strcmp(x->rq->method, "POST") == 0) {
                curl_easy_setopt(c, CURLOPT_POST, 1L);
                curl_easy_setopt(c, CURLOPT_POSTFIELDS, x->rq->form);
        }
}

static int certificate_error(struct exchange *x)
{
        long verify = 0;
        curl_easy_getinfo(x->curl, CURLINFO_SSL_VERIFYRESULT, &verify);
        const char *dir = x->rq->tls && x->rq->tls->certs_dir ? x->rq->tls->certs_dir : NULL;
        if (verify <= 1) /* not one of OpenSSL's verdicts on the chain: that was fine, the name was not */
                return error_set(x->err, -EPROTO, "TLS: the certificate is not for this host (%s)", x->text);
        if (strstr(x->text, "expired") || strstr(x->text, "not yet valid"))
                return error_set(x->err, -EPROTO,
                        "TLS: the server's certificate is not valid at this time (%s); is the clock right?", x->text);
        return error_set(x->err, -EPROTO, "TLS: the server's certificate is not trusted (%s)%s%s%s", x->text,
                dir ? "; put the authority that signed it into " : "", dir ? dir : "", dir ? "/ca.crt" : "");
}

/* A handshake that failed for a reason that a person can mend; 0: for another one. */
static int handshake_error(struct exchange *x)
{
        const char *dir = x->rq->tls && x->rq->tls->certs_dir ? x->rq->tls->certs_dir : "certs.d";
        if (strstr(x->text, "wrong version number") || strstr(x->text, "packet length too long"))
                return error_set(x->err, -EPROTO,
                        "the server does not speak https; if that is meant, say so: insecure = true in "
                        "registries.conf, "
                        "or --tls-verify=false");
        if (strstr(x->text, "certificate required") || strstr(x->text, "bad certificate"))
                return error_set(x->err, -EPROTO,
                        "TLS: the server wants %s client certificate; put it and its key into %s as NAME.cert and "
                        "NAME.key",
                        x->rq->tls && x->rq->tls->client_cert ? "another" : "a", dir);
        return 0;
}

/* No connection: to whom? libcurl names the proxy if there is one. */
static int connect_error(struct exchange *x, CURLcode code)
{
        const struct url *u = x->parts;
        char want[300];
        size_t len = strlen(u->host);
        bool literal = u->host[0] == '[' && len > 2;
        x->a->transient = x->a->unreached = true;
        snprintf(want, sizeof want, "to %.*s port %s", (int)(literal ? len - 2 : len), u->host + literal, u->port);
        if (code == CURLE_COULDNT_RESOLVE_HOST)
                return error_set(x->err, -ENETUNREACH,
                        "no address is known for %s; is the name right, and the network there?", u->host);
        if (code == CURLE_COULDNT_RESOLVE_PROXY || !strstr(x->text, want))
                return error_set(x->err, -ENETUNREACH,
                        "the proxy does not answer (%s); see https_proxy, all_proxy and no_proxy in the environment",
                        x->text);
        return error_set(x->err, -ENETUNREACH,
                "nobody answers at %s:%s; does the registry run, and is the address right?", u->host, u->port);
}

/* What libcurl says, in our words; sets the answer's flags. */
static int transfer_error(struct exchange *x, CURLcode code)
{
        const char *text = x->text[0] ? x->text : curl_easy_strerror(code);
        struct http_answer *a = x->a;
        if (code != CURLE_OK && handshake_error(x) < 0)
                return -EPROTO;
        switch (code) {
        case CURLE_OK: return 0;
        case CURLE_OUT_OF_MEMORY: return error_nomem(x->err);
        case CURLE_ABORTED_BY_CALLBACK:
                if (!x->stalled)
                        return error_set(x->err, -ECANCELED, "cancelled");
                a->transient = true;
                return error_set(x->err, -ETIMEDOUT, "the transfer stalled for %u ms", x->http->options.stall_ms);
        case CURLE_OPERATION_TIMEDOUT:
                a->transient = a->unreached = true;
                return error_set(x->err, -ETIMEDOUT, "no connection in time (%s)", text);
        case CURLE_COULDNT_CONNECT:
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY: return connect_error(x, code);
        case CURLE_PEER_FAILED_VERIFICATION: return certificate_error(x);
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_CIPHER: return error_set(x->err, -EPROTO, "TLS: %s", text);
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_URL_MALFORMAT:
        case CURLE_WEIRD_SERVER_REPLY: return error_set(x->err, -EPROTO, "%s", text);
        default: a->transient = true; return error_set(x->err, -ENETUNREACH, "the connection broke (%s)", text);
        }
}

static void log_exchange(struct exchange *x, const char *url, int r, int64_t start_ms)
{
        if (!log_on(LOG_HTTP))
                return;
        char shown[400], range[64] = "";
        const struct http_request *rq = x->rq;
        if (rq->ranged)
                snprintf(range, sizeof range, " bytes=%llu-%llu", (unsigned long long)rq->off,
                        (unsigned long long)(rq->off + rq->len - 1));
        log_line(LOG_HTTP, "%s %s%s -> %d, %llu bytes, %lld ms%s%s", rq->method, url_show(url, shown, sizeof shown),
                range, x->a->status, (unsigned long long)x->a->body_len, (long long)(http_now_ms() - start_ms),
                r < 0 ? ", " : "", r < 0 ? (x->text[0] ? x->text : "given up") : "");
}

static int perform(
        struct exchange *x, const char *url, const struct url *parts, const char *authorization, bool own_origin)
{
        set_common(x, url, parts);
        set_tls(x, own_origin);
        int r = set_fields(x, authorization);
        if (r < 0)
                return r;
        x->window_ms = http_now_ms();
        CURLcode code = curl_easy_perform(x->curl);
        r = x->code < 0 ? x->code : x->enough ? 0 : transfer_error(x, code);
        if (!x->a->unreached)
                atomic_fetch_add(&x->http->requests, 1);
        return r;
}

/* One request, one answer. */
static int send_once(struct http *h, const struct http_request *rq, const char *url, const char *authorization,
        bool own_origin, struct http_answer *a, struct error *err)
{
        cleanup(url_done) struct url parts = {0};
        int r = url_parse(url, &parts, err);
        if (r < 0)
                return r;
        cleanup(freep) char *origin = origin_of(url);
        struct exchange x = {.http = h, .rq = rq, .a = a, .err = err, .parts = &parts};
        if (!origin || !(x.curl = idle_take(h, origin)))
                return error_nomem(err);
        int64_t start_ms = http_now_ms();
        a->status = 0;
        a->body_len = 0;
        buf_clear(&a->headers);
        buf_clear(&a->body);
        r = perform(&x, url, &parts, authorization, own_origin);
        log_exchange(&x, url, r, start_ms);
        idle_put(h, x.curl, take(origin));
        free_fields(&x);
        return r;
}

int http_probe_tls(struct http *h, const char *url, struct error *err)
{
        cleanup(url_done) struct url parts = {0};
        cleanup(freep) char *tls_url = NULL;
        int r = url_parse(url, &parts, err);
        if (r < 0)
                return r;
        if (asprintf(&tls_url, "https://%s:%s/", parts.host, parts.port) < 0) {
                tls_url = NULL;
                return error_nomem(err);
        }
        cleanup(http_answer_done) struct http_answer a = {0};
        struct http_request rq = {.method = "GET", .url = tls_url};
        struct exchange x = {.http = h, .rq = &rq, .a = &a, .err = err, .parts = &parts, .curl = curl_easy_init()};
        if (!x.curl)
                return error_nomem(err);
        set_common(&x, tls_url, &parts);
        trust_anybody(x.curl);
        curl_easy_setopt(x.curl, CURLOPT_CONNECT_ONLY, 1L);
        x.window_ms = http_now_ms();
        CURLcode code = curl_easy_perform(x.curl);
        long port = 0; /* ours: there was a connection */
        curl_easy_getinfo(x.curl, CURLINFO_LOCAL_PORT, &port);
        if (code != CURLE_OK && code != CURLE_ABORTED_BY_CALLBACK && port > 0)
                r = 0;
        else
                r = code == CURLE_OK ? 1 : transfer_error(&x, code);
        curl_easy_cleanup(x.curl);
        return r;
}

static bool redirects(int status)
{
        return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Where the answer sends us: replaces a->url. */
static int follow(const struct http_request *rq, struct http_answer *a, struct error *err)
{
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *location = http_header(a, "Location", 0, &value);
        if (!location || !*location)
                return error_set(err, -EPROTO, "status %d without a Location", a->status);
        char *next = NULL;
        int r = url_resolve(a->url, location, &next, err);
        if (r < 0)
                return r;
        char shown[200];
        if (strcmp(next, a->url) == 0)
                r = error_set(err, -EPROTO, "a redirect to itself: %s", url_show(next, shown, sizeof shown));
        else if (strncmp(a->url, "https:", 6) == 0 && strncmp(next, "https:", 6) != 0 && !rq->plain_ok)
                r = error_set(err, -EPROTO, "a redirect from https to %s", url_show(next, shown, sizeof shown));
        if (r < 0) {
                free(next);
                return r;
        }
        free(a->url);
        a->url = next;
        return 0;
}

int http_send(struct http *h, const struct http_request *rq, struct http_answer *a, struct error *err)
{
        http_answer_done(a);
        buf_init(&a->headers, HTTP_HEADERS_MAX);
        buf_init(&a->body, HTTP_ERROR_BODY_MAX);
        if (!(a->url = strdup(rq->url)))
                return error_nomem(err);
        for (int hops = 0;; hops++) {
                if (cancelled(h))
                        return error_set(err, -ECANCELED, "cancelled");
                a->foreign = !url_same_origin(rq->url, a->url);
                const char *authorization = a->foreign ? NULL : rq->authorization;
                int r = send_once(h, rq, a->url, authorization, !a->foreign, a, err);
                if (r < 0 || !redirects(a->status) || strcmp(rq->method, "POST") == 0)
                        return r;
                if (hops == HTTP_REDIRECTS_MAX)
                        return error_set(err, -EPROTO, "more than %d redirects", HTTP_REDIRECTS_MAX);
                r = follow(rq, a, err);
                if (r < 0)
                        return r;
        }
}

/* ---- trying again */

void http_pace_progress(struct http_pace *p)
{
        p->failures = 0;
        p->since_ms = http_now_ms();
}

/* Between a half and the whole of it, so that many clients do not come back at the same moment. */
static int64_t jitter(int64_t ms)
{
        uint32_t random;
        if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
                random = (uint32_t)http_now_ms() * 2654435761u;
        return ms / 2 + (int64_t)(random % (uint64_t)(ms / 2 + 1));
}

static bool wait_ms(struct http *h, int64_t ms)
{
        for (int64_t end = http_now_ms() + ms, left; (left = end - http_now_ms()) > 0;) {
                if (cancelled(h))
                        return false;
                poll(NULL, 0, (int)MIN(left, (int64_t)50));
        }
        return !cancelled(h);
}

bool http_pace_again(struct http *h, struct http_pace *p, int r, const struct http_answer *a)
{
        const struct http_options *o = &h->options;
        int64_t now = http_now_ms();
        if (p->since_ms == 0)
                p->since_ms = now;
        if (r < 0 ? !a->transient : !http_status_transient(a->status))
                return false;
        if (++p->failures >= (p->tries ? p->tries : o->tries))
                return false;
        int64_t doubled = (int64_t)o->backoff_ms << MIN(p->failures - 1, 10u);
        int64_t wait = jitter(MIN(doubled, (int64_t)BACKOFF_MAX_MS));
        cleanup(buf_done) struct buf value;
        buf_init(&value, HTTP_HEADERS_MAX);
        const char *left = r == 0 ? http_header(a, "ratelimit-remaining", 0, &value) : NULL;
        if (a->status == 429 && left && strspn(left, "0") > 0 && !isdigit((unsigned char)left[strspn(left, "0")]))
                return false; /* Docker Hub: used up for hours */
        const char *after = r == 0 ? http_header(a, "Retry-After", 0, &value) : NULL;
        if (after) {
                int64_t asked = http_parse_retry_after(after, time(NULL));
                if (asked > (int64_t)o->retry_after_max_ms)
                        return false;
                wait = MAX(wait, asked);
        }
        if (now + wait - p->since_ms > (int64_t)o->deadline_ms || !wait_ms(h, wait))
                return false;
        atomic_fetch_add(&h->retries, 1);
        return true;
}
