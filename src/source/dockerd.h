#pragma once
/**
 * docker's daemon.json, as far as it says how registries are reached: "insecure-registries" and "registry-mirrors" (of Docker
 * Hub). Plain value; immutable once read: any thread.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { DOCKERD_MAX_BYTES = 1 << 20 };

struct dockerd_mirror {
        char *host; /* host[:port] */
        bool plain; /* http://... */
};

struct dockerd {
        struct dockerd_mirror *mirrors; /* in order */
        size_t mirror_count;
        char **insecure; /* "host[:port]" or "10.0.0.0/8" */
        size_t insecure_count;
};
void dockerd_done(struct dockerd *d);

/** Reads the machine's file, a plain user's own before it. None, or one that may not be read, or a broken one (with a warning)
 *  leaves *ret empty. 0 or -ENOMEM. */
int dockerd_load(struct dockerd *ret, struct error *err);

/** One document's text. -EBADMSG: it is not one. Entries that make no sense are passed over. */
int dockerd_parse(const char *text, size_t len, struct dockerd *ret, struct error *err);

/** Is "host[:port]" one of the insecure registries? Networks are compared with addresses only; no name is looked up. */
bool dockerd_is_insecure(const struct dockerd *d, const char *domain);
