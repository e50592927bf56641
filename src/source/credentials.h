#pragma once
/**
 * Whose name to give to a registry: docker's config.json, containers' auth.json, credential helper programs, in the order
 * that podman and docker search them (docs/ARCHITECTURE.md, "Credentials"). Secrets live only in struct credentials, which
 * wipes them when it is done. Any thread (each call reads the files anew).
 */
#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"

struct credentials {
        char *username, *password; /* Basic, or the password grant; NULL: anonymous */
        char *identity_token;      /* OAuth2 refresh token; NULL: none */
        char *registry_token;      /* a bearer token as it is; NULL: none */
};
void credentials_done(struct credentials *c);

struct credentials_options {
        const char *authfile; /* --authfile: then only this file; it must exist */
        const char *creds;    /* --creds USER[:PASSWORD]: then nothing else */
};

/**
 * Looks for credentials of an image's repository: domain "quay.io", path "org/repo" (the most specific key wins). Nothing
 * found is success with everything NULL. tried: gets a text for messages, "/root/.docker/config.json (no entry), ...";
 * never a secret; may be NULL. -EACCES: a helper or file failed in a way that a person must mend; -ENOENT: the named file is
 * not there; -EINVAL: --creds without a user.
 */
int credentials_find(const struct credentials_options *options, const char *domain, const char *path,
        struct credentials *ret_credentials, struct buf *tried, struct error *err);
