#pragma once
/**
 * registries.conf, version 2 (containers-registries.conf(5)): where the content of a reference really comes from: mirrors in
 * order, then the registry itself, with locations rewritten. Immutable once loaded: any thread.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/mem.h"
#include "source/reference.h"

struct registries;

/** Reads the machine's files (file: only this one, which must exist). No file at all is fine. -EINVAL: malformed; the message
 *  names file and line. */
int registries_load(const char *file, struct registries **ret_registries, struct error *err);
void registries_free(struct registries *r);
DEFINE_CLEANUP(struct registries, registries_free);

/** A place to ask, in order. */
struct endpoint {
        char *domain;  /* "localhost:5000": as written, for credentials and certs.d; "docker.io" is not yet replaced */
        char *path;    /* repository there */
        bool insecure; /* http allowed, certificates not checked */
        bool mirror;   /* not the registry that the reference names */
};

/** The places for a reference: at least one. -EACCES: the configuration blocks it. Free with endpoints_free(). */
int registries_endpoints(const struct registries *r, const struct reference *ref, struct endpoint **ret_endpoints,
        size_t *ret_count, struct error *err);
void endpoints_free(struct endpoint *endpoints, size_t count);

/** Short name "alpine" -> "docker.io/library/alpine" by [aliases]; NULL when there is none. Borrowed. */
const char *registries_alias(const struct registries *r, const char *short_name);

/**
 * What a reference may mean, at least one, to be tried in order: itself, but for a short name its alias, or the name in each of
 * unqualified-search-registries if Docker Hub is not among these and the name is not "library/..." . Free with names_free().
 */
int registries_names(const struct registries *r, const struct reference *ref, struct reference **ret_names,
        size_t *ret_count, struct error *err);
void names_free(struct reference *names, size_t count);
