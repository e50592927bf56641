#pragma once
/**
 * References: what a person types to name an image (distribution/reference grammar; transports as in skopeo).
 *
 *   [docker://]name[:tag][@digest]     oci:DIR[:REF|:@N]     oci-archive:FILE[:REF|:@N]     docker-archive:FILE[:REF|:@N]
 *   a path: ./x, /x, or the name of an existing file or directory that holds an image
 *
 * A struct reference is a plain value that owns its strings; one thread at a time, or many once it is not changed any more.
 */
#include <stdbool.h>
#include <stddef.h>

#include "base/digest.h"
#include "base/error.h"

enum reference_transport {
        REFERENCE_REGISTRY,
        REFERENCE_OCI, /* a layout directory */
        REFERENCE_OCI_ARCHIVE,
        REFERENCE_DOCKER_ARCHIVE,
        REFERENCE_TAR,     /* a plain root file system in a tar */
        REFERENCE_ARCHIVE, /* a file that exists: which archive it is, its content must say */
};

enum { REFERENCE_PATH_MAX = 255, REFERENCE_TAG_MAX = 128 };

struct reference {
        enum reference_transport transport;
        /* REGISTRY */
        char *domain;         /* "docker.io", "localhost:5000", "[::1]:5000" */
        char *path;           /* "library/alpine" */
        char *tag;            /* NULL when there is only a digest; "latest" when there is neither */
        struct digest digest; /* DIGEST_NONE when there is none; beats the tag */
        char *short_name;     /* "alpine", "org/app": the name as it was typed, when it has no registry; else NULL */
        /* the others */
        char *file; /* directory or file */
        char *name; /* what stands behind the second colon, NULL when nothing does */
        int number; /* :@N, -1 when not given */
};

/** Parses and normalizes. -EINVAL with a message that says what is wrong and how it is meant ("must be lower case").
 *  -ENOENT: a path (./x, /x) where nothing is. Looks at the file system only to tell a path from a name. Release with
 *  reference_done(), also zeroed ones. */
int reference_parse(const char *text, struct reference *ret_ref, struct error *err);

/** A registry reference by the grammar alone: no transports, no files. */
int reference_parse_name(const char *text, struct reference *ret_ref, struct error *err);
void reference_done(struct reference *ref);

/** The full form, "docker.io/library/alpine:latest", "oci:dir:name"; free() it. NULL when out of memory. */
char *reference_text(const struct reference *ref);
