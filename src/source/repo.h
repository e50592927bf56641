#pragma once
/**
 * One repository at one registry: finds out whether it speaks https or (where that is allowed) http, logs in when it is
 * asked to, and turns what the registry says into errors that a person can use. It sends each request once; retrying is
 * the caller's.
 *
 * Plain http: never, but for loopback hosts and those that are configured as insecure; https is tried first there, and what
 * answered is remembered.
 *
 * Locks itself: any thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "source/http.h"

struct repo_options {
        const char *domain, *path; /* as the reference or registries.conf writes them; "docker.io" is replaced here */
        bool insecure;             /* http allowed, certificates not checked */
        const char *authfile, *creds; /* as in struct credentials_options */
        bool named; /* messages begin with its name: it is another place than the one that a person asked for */
};

struct repo;

/** Reads the host's certs.d; makes no request. Strings are copied. */
int repo_new(struct http *http, const struct repo_options *options, struct repo **ret_repo, struct error *err);
void repo_free(struct repo *r);
DEFINE_CLEANUP(struct repo, repo_free);

/** "quay.io/org/app", for messages. */
const char *repo_name(const struct repo *r);

/** What messages begin with: "quay.io/org/app: ", or "" when it is the place that a person asked for. */
const char *repo_label(const struct repo *r);

/** How to check servers that this registry redirects to: without our certificate, which http.c keeps to the origin. */
const struct http_tls *repo_tls(const struct repo *r);

/**
 * Sends rq to /v2/PATH/tail: url, authorization and tls of rq are filled in here. A 401 of the registry itself is answered
 * with a login, once. 0: an answer of any status, as in http_send(); -EACCES: the login.
 */
int repo_send(
        struct repo *r, const char *tail, const struct http_request *rq, struct http_answer *a, struct error *err);

/**
 * The error for an answer that is no success. what: "tag 3.20", "blob sha256:...". -EACCES, -ENOENT, -ENETUNREACH (429 and 5xx,
 * so that whoever can do without the registry does), -EPROTO.
 */
int repo_status_error(struct repo *r, const char *what, const struct http_answer *a, struct error *err);
