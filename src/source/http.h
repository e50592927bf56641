#pragma once
/**
 * HTTP: one client with one pool of connections. A request is sent once, its redirects are followed here, and what comes of
 * it is told apart finely enough that the caller can decide: log in, ask again, go elsewhere. Trying again is the
 * caller's loop, paced by struct http_pace, because only the caller knows how far it got and whose answer a 401 is.
 *
 * Credentials go to the origin (scheme, host, port) that the request names and never to another one. Bodies come as they are
 * stored: an answer with a Content-Encoding is refused.
 *
 * struct http locks itself: any thread, calls block. The others belong to one thread.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

enum {
        HTTP_HEADERS_MAX = 64 << 10,    /* all header lines of one answer */
        HTTP_ERROR_BODY_MAX = 64 << 10, /* what is kept of an answer that is no success */
        HTTP_REDIRECTS_MAX = 8,
};

/** Times in milliseconds; 0 stands for the default. */
struct http_options {
        const atomic_bool *cancel; /* becomes true: every request and wait ends with -ECANCELED; may be NULL */
        unsigned connect_ms;       /* 15 s, for the connection and TLS together */
        unsigned stall_ms;         /* 30 s: a transfer that gets next to nothing for so long is given up */
        unsigned tries;            /* 6: how often a request is sent, without progress between */
        unsigned backoff_ms; /* 250: the first wait; each next one is twice as long, up to 8 s, less some chance */
        unsigned retry_after_max_ms; /* 30 s: a server that asks for a longer wait is not waited for */
        unsigned piece_len;          /* bytes; large blobs come in pieces of this on several connections, whatever the
                                        speed; for tests. 0: as registry_stream.c finds best */
        unsigned deadline_ms;        /* 60 s: no new try later than this after the last progress */
};

struct http;

int http_new(const struct http_options *options, struct http **ret_http, struct error *err);
void http_free(struct http *h);

/** The options with the defaults filled in; borrowed. */
const struct http_options *http_options(const struct http *h);
DEFINE_CLEANUP(struct http, http_free);

/** How a server proves who it is, and we who we are. Strings are borrowed; they outlive the requests. */
struct http_tls {
        bool insecure;           /* certificates are not checked */
        const char *ca_pem;      /* all authorities, as http_authorities() makes them; NULL: the system's */
        const char *client_cert; /* paths; only for the origin that the request names */
        const char *client_key;
        const char *certs_dir; /* where a missing authority would be put, for messages */
};

/** The system's certificate authorities and these (PEM) behind them, as one text to free(); for struct http_tls. */
int http_authorities(const char *extra_pem, char **ret_pem, struct error *err);

struct http_answer {
        int status;         /* the last answer's; 0: none arrived */
        bool foreign;       /* it comes from another origin than the request was made to */
        bool transient;     /* with a failure: another try may help */
        bool unreached;     /* with a failure: no connection came about */
        uint64_t body_len;  /* bytes of the body that were received */
        char *url;          /* the address that answered, after the redirects */
        struct buf headers; /* "Name: value\n" ... of that answer */
        struct buf body;    /* of an answer that is no success */
};
void http_answer_done(struct http_answer *a);

/** The n-th (from 0) header of that name, as a copy in out; NULL when there is none. The name's case does not matter. */
const char *http_header(const struct http_answer *a, const char *name, unsigned n, struct buf *out);

struct http_request {
        const char *method; /* "GET", "HEAD", "POST" */
        const char *url;
        const char *accept;         /* NULL: none */
        const char *authorization;  /* the header's value; NULL or "": none */
        const char *form;           /* POST: body, application/x-www-form-urlencoded */
        const struct http_tls *tls; /* NULL: the system's authorities, checked */
        bool ranged;                /* ask for [off, off + len) */
        uint64_t off, len;
        bool plain_ok; /* a redirect from https to http may be followed: the content is verified by digest */

        /** Of a success (2xx), before its body: 0 to go on, or -errno to give up. May be NULL. */
        int (*begin)(void *ctx, struct http_answer *a, struct error *err);
        /** The body of a success. 0: go on; 1: that is enough; -errno: give up. */
        int (*sink)(void *ctx, const void *data, size_t len);
        void *ctx;
};

/**
 * Sends the request once, redirects included. 0: an answer of any status arrived (a->status) and, when it is a success, its
 * whole body or as much as the sink wanted. Otherwise begin's or the sink's error, or:
 * -ETIMEDOUT, -ENETUNREACH (a->transient, a->unreached); -EPROTO: TLS, redirects that lead nowhere, an encoded body;
 * -ECANCELED. `a` starts zeroed; it is filled in either case.
 */
int http_send(struct http *h, const struct http_request *rq, struct http_answer *a, struct error *err);

/**
 * Does the server of url, whatever its scheme says, speak TLS? Opens a connection for that, checks nothing and sends nothing.
 * 1: yes; 0: somebody is there, but does not; -ENETUNREACH, -ETIMEDOUT, -ECANCELED.
 */
int http_probe_tls(struct http *h, const char *url, struct error *err);

/** When to try again: a state to be zeroed, one per piece of work. */
struct http_pace {
        unsigned tries;    /* allowed; 0: as the client's options say */
        unsigned failures; /* since the last progress */
        int64_t since_ms;  /* of the last progress */
};

/** The work got further: failures before this do not count any more. */
void http_pace_progress(struct http_pace *p);

/**
 * After a failure (r < 0) or a status that is no success: is it worth another try? Then it waits (as long as Retry-After
 * says, if it does) and gives true. false: it is not, or it was tried often enough, or the work was cancelled.
 */
bool http_pace_again(struct http *h, struct http_pace *p, int r, const struct http_answer *a);

/** 408, 425, 429, 5xx and the like. */
bool http_status_transient(int status);

struct http_counters {
        uint64_t requests, retries, fetched_bytes;
};
struct http_counters http_count(struct http *h);

/* ---- parts, for tests */

/** "bytes 0-99/200", "bytes 0-99/" and a star: *ret_total is UINT64_MAX then. -EPROTO. */
int http_parse_content_range(const char *text, uint64_t *ret_first, uint64_t *ret_last, uint64_t *ret_total);

/** Retry-After: seconds or a date (now_s: this moment); milliseconds to wait, -1 when it is neither. */
int64_t http_parse_retry_after(const char *text, int64_t now_s);

/** Milliseconds of a clock that never goes back. */
int64_t http_now_ms(void);
