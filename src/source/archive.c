/*
 * How: manifest.json is all that readers of `docker save` need: which config, which layers, which names. It is read when the
 * archive is opened, together with the chosen image's config and the first bytes of each layer, and becomes an OCI manifest
 * (made.c). The digest of a layer in it is
 *
 *   plain tar                             the diff ID that the config gives: the same thing
 *   compressed, named blobs/sha256/HEX    HEX
 *   compressed, otherwise                 what the bytes hash to: they are read through once
 *
 * None of these is believed: the first pass over a layer checks its digest, wherever that came from.
 * Layers are mostly plain; kaniko, bazel, jib, buildkit write gzip. Jib's keys are in lower case.
 * Windows' foreign layers, which such an archive may leave out, are not fetched from elsewhere.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/log.h"
#include "source/layout.h"
#include "source/made.h"
#include "source/manifest.h"

enum { NAMES_MAX = 300 };

/* a member by its key in any case; the exact one first */
static json_t *member(json_t *obj, const char *key)
{
        json_t *value = json_object_get(obj, key), *other;
        const char *name;
        if (value || !json_is_object(obj))
                return value;
        json_object_foreach(obj, name, other)
        {
                if (strcasecmp(name, key) == 0)
                        return other;
        }
        return NULL;
}

/* ---- which image */

/* the full name; free() it. NULL for what is none, with a digest, or when memory is out */
static char *normalized(const char *name)
{
        struct reference ref = {0};
        if (reference_parse_name(name, &ref, NULL) < 0)
                return NULL;
        char *text = ref.digest.alg ? NULL : reference_text(&ref);
        reference_done(&ref);
        return text;
}

static bool has_name(json_t *image, const char *full)
{
        json_t *tags = member(image, "RepoTags"), *tag;
        size_t i;
        json_array_foreach(tags, i, tag)
        {
                cleanup(freep) char *name = json_is_string(tag) ? normalized(json_string_value(tag)) : NULL;
                if (name && strcmp(name, full) == 0)
                        return true;
        }
        return false;
}

/* "alpine:3, @1": what one may say after the file's name */
static void list_names(json_t *images, struct buf *out)
{
        json_t *image, *tag;
        size_t i, k;
        json_array_foreach(images, i, image)
        {
                json_t *tags = member(image, "RepoTags");
                if (!json_array_size(tags))
                        buf_addf(out, "%s@%zu", out->len ? ", " : "", i);
                json_array_foreach(tags, k, tag)
                {
                        if (json_is_string(tag))
                                buf_addf(out, "%s%.100s", out->len ? ", " : "", json_string_value(tag));
                }
        }
}

static int find_named(json_t *images, const char *name, const char *what, json_t **ret_image, struct error *err)
{
        cleanup(freep) char *full = normalized(name);
        cleanup(buf_donep) struct buf names = {.max = NAMES_MAX};
        json_t *image;
        size_t i;
        if (!full)
                return error_set(err, -EINVAL, "%s: \"%.100s\" is not a name with a tag", what, name);
        json_array_foreach(images, i, image)
        {
                if (has_name(image, full)) {
                        *ret_image = image;
                        return 0;
                }
        }
        list_names(images, &names);
        return error_set(err, -ENOENT, "%s: there is no image %s in it, but: %s", what, full, buf_str(&names));
}

static int find_image(
        json_t *images, const struct reference *ref, const char *what, json_t **ret_image, struct error *err)
{
        size_t count = json_array_size(images);
        if (!count)
                return error_set(err, -ENOENT, "%s: there is no image in it", what);
        if (ref->number >= 0 && (size_t)ref->number >= count)
                return error_set(err, -ENOENT, "%s: there is no image @%d; it has %zu, counted from 0", what,
                        ref->number, count);
        if (ref->number < 0 && ref->name)
                return find_named(images, ref->name, what, ret_image, err);
        if (ref->number < 0 && count > 1) {
                cleanup(buf_donep) struct buf names = {.max = NAMES_MAX};
                list_names(images, &names);
                return error_set(
                        err, -EINVAL, "%s: has several images; say which, as :NAME or :@N: %s", what, buf_str(&names));
        }
        *ret_image = json_array_get(images, ref->number < 0 ? 0 : (size_t)ref->number);
        return 0;
}

/* ---- its parts */

/* The digest in ".../<64 hex>[.json]"; false when the name is none. */
static bool digest_in_name(const char *path, struct digest *ret_digest)
{
        const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
        size_t len = strspn(base, "0123456789abcdef");
        char text[DIGEST_MAX_TEXT];
        if (len != 2 * SHA256_BYTES || (base[len] && strcmp(base + len, ".json") != 0))
                return false;
        memcpy(text, "sha256:", 7);
        memcpy(text + 7, base, len);
        return digest_parse(text, 7 + len, ret_digest) == 0;
}

static bool in_blobs(const char *path)
{
        if (strncmp(path, "./", 2) == 0)
                path += 2;
        return strncmp(path, "blobs/sha256/", strlen("blobs/sha256/")) == 0;
}

/* the config's bytes, and its diff IDs as borrowed JSON */
static int read_config(
        struct files *files, json_t *image, struct buf *config, json_t **ret_json, json_t **ret_ids, struct error *err)
{
        json_t *value = member(image, "Config"), *rootfs;
        const char *path = json_string_value(value);
        cleanup(json_freep) json_t *json = NULL;
        struct digest want;
        if (!path)
                return error_set(err, -EBADMSG, "manifest.json: \"Config\" is missing");
        int r = files_read(files, path, config, err);
        if (r == -ENOENT)
                return error_set(err, r, "the config, %.200s, is missing", path);
        if (r == 0 && digest_in_name(path, &want)) {
                struct error e = {0};
                r = digest_check(&want, buf_str(config), config->len, path, &e);
                if (r == -EBADMSG && !in_blobs(path)) { /* as Docker: the old layout's names promise nothing */
                        log_notice("%s", e.msg);
                        r = 0;
                } else if (r < 0) {
                        error_set(err, r, "%s", e.msg);
                }
        }
        if (r < 0)
                return r;
        r = json_parse(buf_str(config), config->len, &json, err);
        if (r == 0 && !json_is_object(json))
                r = error_set(err, -EBADMSG, "is not a JSON object");
        if (r == 0)
                r = json_get_object(json, "rootfs", &rootfs, err);
        if (r == 0 && !rootfs)
                r = error_set(err, -EBADMSG, "\"rootfs\" is missing");
        if (r == 0)
                r = json_get_array(rootfs, "diff_ids", ret_ids, err);
        if (r < 0)
                return error_wrap(err, r, "config %.200s", path);
        *ret_json = take(json);
        return 0;
}

static int read_layer(
        struct files *files, const char *path, const char *diff_id, struct made_layer *layer, struct error *err)
{
        cleanup(blob_unrefp) struct blob *blob = NULL;
        int r = files->open(files, path, &blob, err);
        if (r == -ENOENT)
                return error_set(err, r, "is missing from the archive");
        if (r < 0)
                return r;
        layer->size = blob_size(blob);
        r = made_sniff_blob(blob, &layer->packing, err);
        if (r < 0)
                return r;
        if (layer->packing == MADE_PLAIN) {
                r = digest_parse(diff_id, strlen(diff_id), &layer->digest);
                return r < 0 ? error_set(err, -EBADMSG, "its diff ID \"%.80s\" is not a digest", diff_id) : 0;
        }
        if (in_blobs(path) && digest_in_name(path, &layer->digest))
                return 0;
        return made_digest(blob, &layer->digest, err);
}

/* *ret_layers is to be freed with `count` entries, also after a failure */
static int read_layers(struct files *files, json_t *paths, json_t *ids, struct made_layer *layers, struct error *err)
{
        json_t *path;
        size_t i;
        json_array_foreach(paths, i, path)
        {
                const char *text = json_string_value(path), *id = json_string_value(json_array_get(ids, i));
                if (!text || !id)
                        return error_set(err, -EBADMSG, "layer %zu: its path or its diff ID is not a string", i + 1);
                layers[i].path = strdup(text);
                if (!layers[i].path)
                        return error_nomem(err);
                int r = read_layer(files, text, id, &layers[i], err);
                if (r < 0)
                        return error_wrap(err, r, "layer %zu, %.200s", i + 1, text);
        }
        return 0;
}

static int open_image(
        struct files **files, json_t *image, const char *what, struct source **ret_source, struct error *err)
{
        cleanup(buf_donep) struct buf config = {.max = SOURCE_CONFIG_MAX};
        cleanup(json_freep) json_t *json = NULL;
        json_t *ids, *paths = member(image, "Layers");
        size_t count = json_array_size(paths);
        if (!json_is_object(image) || (paths && !json_is_array(paths) && !json_is_null(paths)))
                return error_set(err, -EBADMSG, "%s: manifest.json: is not a list of images", what);
        int r = read_config(*files, image, &config, &json, &ids, err);
        if (r < 0)
                return error_wrap(err, r, "%s", what);
        if (count != json_array_size(ids))
                return error_set(err, -EBADMSG, "%s: manifest.json has %zu layers, but the config has %zu diff IDs",
                        what, count, json_array_size(ids));
        if (count > MANIFEST_LAYERS_MAX)
                return error_set(
                        err, -EFBIG, "%s: has %zu layers; at most %d are allowed", what, count, MANIFEST_LAYERS_MAX);
        struct made_layer *layers = calloc(count + 1, sizeof *layers);
        r = layers ? read_layers(*files, paths, ids, layers, err) : error_nomem(err);
        if (r < 0) {
                if (layers)
                        made_layers_free(layers, count);
                return error_wrap(err, r, "%s", what);
        }
        return made_open(take(*files), what, &config, layers, count, ret_source, err);
}

int archive_open(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err)
{
        cleanup(files_closep) struct files *owned = files;
        cleanup(buf_donep) struct buf text = {.max = SOURCE_MANIFEST_MAX};
        cleanup(json_freep) json_t *images = NULL;
        json_t *image = NULL;
        int r = files_read(owned, "manifest.json", &text, err);
        if (r == -ENOENT)
                return error_set(err, r, "%s: has no manifest.json, so it is not what \"docker save\" writes", what);
        if (r == 0)
                r = json_parse(buf_str(&text), text.len, &images, err);
        if (r == 0 && !json_is_array(images))
                r = error_set(err, -EBADMSG, "is not a list of images");
        if (r < 0)
                return error_wrap(err, r, "%s: manifest.json", what);
        r = find_image(images, ref, what, &image, err);
        return r < 0 ? r : open_image(&owned, image, what, ret_source, err);
}
