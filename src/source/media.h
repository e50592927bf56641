#pragma once
/**
 * Media types of images (image-spec media-types.md, Docker schema 2), as far as decisions hang on them. Pure functions.
 */
#include <stdbool.h>

#include "base/json.h"

#define MEDIA_OCI_INDEX    "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_CONFIG   "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER    "application/vnd.oci.image.layer.v1.tar"

enum media_kind {
        MEDIA_GENERIC,  /* says nothing: absent, text/plain, application/json, ... */
        MEDIA_INDEX,    /* OCI index, Docker manifest list */
        MEDIA_MANIFEST, /* OCI manifest, Docker schema 2 */
        MEDIA_SCHEMA1,  /* Docker's old ones */
        MEDIA_OTHER,    /* something else, and it says what */
};

/** Of a document; parameters ("; charset=utf-8") do not count. NULL is as good as "". */
enum media_kind media_kind(const char *type);

/** Same type, parameters aside. */
bool media_equal(const char *a, const char *b);

/** May a config of this type be an image's? Some that say nothing may: old pushes wrote them. */
bool media_is_config(const char *type);

/** Is it a layer that is a tar, however compressed? */
bool media_is_layer(const char *type);

/** "a Helm chart", "a Docker plugin": what people call a thing with a config (or artifact type, or layer) of this type;
 *  NULL when nothing is known. */
const char *media_nickname(const char *type);

/** An entry of an index that is an image or an index: no attestation, no artifact, no foreign type. *ret_kind (may be NULL):
 *  MEDIA_INDEX, MEDIA_MANIFEST, or MEDIA_GENERIC when it does not say. */
bool media_entry_is_image(json_t *entry, enum media_kind *ret_kind);
