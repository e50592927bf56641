#pragma once
/**
 * A source of one image that came without an OCI manifest: docker-archives and bare tars. It makes the manifest from a
 * config and a list of files that are layers; the same files give the same bytes always. Locks itself (its files do).
 */
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/error.h"
#include "blob/blob.h"
#include "source/layout.h"
#include "source/source.h"

/** What a layer's first bytes say; the names are the media types' suffixes. */
enum made_packing { MADE_PLAIN, MADE_GZIP, MADE_ZSTD, MADE_OTHER };

enum { MADE_SNIFF_LEN = 6 };

/** head: the first len bytes, at most MADE_SNIFF_LEN count. */
enum made_packing made_sniff(const void *head, size_t len);

/** Sniffs a whole blob's first bytes. 0 or -errno. */
int made_sniff_blob(struct blob *blob, enum made_packing *ret_packing, struct error *err);

/** SHA-256 of all bytes of a blob, read through. */
int made_digest(struct blob *blob, struct digest *ret_digest, struct error *err);

struct made_layer {
        char *path; /* in the files */
        struct digest digest;
        uint64_t size;
        enum made_packing packing;
};

/** Takes ownership of files and of the layers (the array and its strings) and the config's memory, also on failure. */
int made_open(struct files *files, const char *what, struct buf *config, struct made_layer *layers, size_t count,
        struct source **ret_source, struct error *err);

void made_layers_free(struct made_layer *layers, size_t count);
