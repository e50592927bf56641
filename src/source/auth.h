#pragma once
/**
 * Who we are to one repository of one registry: reads the challenges of a 401 (RFC 9110 §11, the distribution token
 * specification), gets bearer tokens (anonymous, with Basic, by OAuth2), keeps the one in use and renews it before and after
 * it expires. Credentials are looked up at the first challenge and live in here until auth_free() wipes them.
 *
 * struct auth locks itself; one thread at a time gets a token, others that need it wait. No lock is held meanwhile.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "source/credentials.h"
#include "source/http.h"

enum { AUTH_TOKEN_MAX = 1 << 20, AUTH_CHALLENGE_MAX = 16 << 10 };

/** What a server's WWW-Authenticate headers offer, as far as we can do it. Release with challenges_done(). */
struct challenges {
        bool basic, bearer;
        char *realm, *service, *scope, *error; /* of the first Bearer challenge with a realm; NULL when absent */
};
void challenges_done(struct challenges *c);

/** Reads one header line's value, which may hold several challenges, and adds what it offers. What cannot be parsed is passed
 *  over. 0 or -ENOMEM. */
int challenges_add(struct challenges *c, const char *value);

/** Reads a token server's answer. -EPROTO when there is no usable token in it. *ret_refresh is NULL when there is none;
 *  free() both, after wiping. */
int auth_parse_token(
        const void *json, size_t len, char **ret_token, char **ret_refresh, int64_t *ret_expires_s, struct error *err);

struct auth_options {
        const char *authfile, *creds; /* as in struct credentials_options */
        const char *domain, *path;    /* whose credentials: as the reference is written */
        const struct http_tls *tls;   /* for a token server, too; outlives the object */
        bool insecure;                /* plain http is fine for everything */
};

struct auth;

/** The strings of options are copied. */
int auth_new(struct http *http, const struct auth_options *options, struct auth **ret_auth, struct error *err);
void auth_free(struct auth *a);
DEFINE_CLEANUP(struct auth, auth_free);

/**
 * The Authorization header's value for a request to url, "" when none is known to be needed; renews a token that is about
 * to expire. *ret_seen goes into auth_challenged(). The value is secret: wipe it.
 */
int auth_header(struct auth *a, const char *url, struct buf *out, uint64_t *ret_seen, struct error *err);

/**
 * The registry at url answered 401 to a request whose header came from auth_header() with `seen`. 0: there is something new
 * to try (perhaps somebody else got it meanwhile). -EACCES: there is not; the message says who was asked and where
 * credentials were looked for, or what keeps us from sending them.
 */
int auth_challenged(struct auth *a, const char *url, const struct challenges *c, uint64_t seen, struct error *err);

/** A refusal in words: what it probably means ("no such repository, or it needs a login") and what to do. Appends to out. */
void auth_advice(struct auth *a, struct buf *out);
