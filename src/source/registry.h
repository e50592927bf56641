#pragma once
/**
 * A registry as a source: the distribution API (distribution-spec) over http.h, with mirrors, credentials and certificates
 * as the machine's configuration says (registries.conf, certs.d, docker's config.json, containers' auth.json).
 */
#include "base/error.h"
#include "source/reference.h"
#include "source/source.h"

struct http_options;

/** What the command line says about the network; all may be NULL or zero. */
struct registry_options {
        const char *authfile;            /* --authfile */
        const char *creds;               /* --creds USER[:PASSWORD] */
        int tls_verify;                  /* --tls-verify: -1 not said, 0 false, 1 true */
        const char *registries_conf;     /* another registries.conf, for tests; NULL: the machine's */
        const struct http_options *http; /* cancelling (source/http.h), and times for tests; NULL: the defaults */
};

/** Counters of everything that went over the network, for `imagefs stat`. */
struct registry_counters {
        uint64_t requests, retries, fetched_bytes;
};
struct registry_counters registry_count(const struct source *s);

/** What the reference may mean by registries.conf (registries_names()); free with names_free() (registries.h). */
int registry_names(const struct reference *ref, const struct registry_options *options, struct reference **ret_names,
        size_t *ret_count, struct error *err);

/** Makes no request yet. options is borrowed during the call. */
int registry_open(const struct reference *ref, const struct registry_options *options, struct source **ret_source,
        struct error *err);
