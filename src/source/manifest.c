/*
 * How: three kinds of documents, each fetched by digest (store first, then what its descriptor carries, then the source),
 * verified, and only then parsed:
 *
 *   top document --- an index? --> entries, nested indexes ... the best platform --> manifest --> config
 *                \-- a manifest ------------------------------------------------->/
 *
 * Only the top document may come by a name. Its type is decided by the content type, its own "mediaType", its shape, in
 * that order, and a document that could be read as both an index and a manifest is refused, so that two programs can never
 * see two different images under one digest.
 *
 * Entries of an index stand in the publisher's order of preference. They are searched in that order, nested indexes where
 * they stand; the first of the best rank wins, and an exact one ends the search. Entries that name no platform are a last
 * resort, because each costs two requests: their configs are read.
 *
 * The numbers of documents, of tries, and the depth are bounded, so that a hostile index costs a bounded number of requests.
 */
#include "source/manifest.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "source/media.h"

enum {
        INDEXES_MAX = 64,       /* nested ones in all */
        TRIES_MAX = 16,         /* entries without platform whose config is read */
        AVAILABLE_MAX = 300,    /* bytes of the list of platforms in a message */
        RANK_UNNAMED = INT_MAX, /* its config does not say a platform either */
};

/* ---- one load */

struct load {
        const struct manifest_request *rq;
        struct digest seen[INDEXES_MAX]; /* indexes, so that none is searched twice */
        size_t seen_count;
        struct buf available; /* platforms met, for the message that none fits */
        json_t *unnamed[TRIES_MAX];
        size_t unnamed_count;
        json_t *best; /* the best entry so far, a reference of its own */
        int best_rank;
};

static void load_done(struct load *l)
{
        buf_done(&l->available);
        for (size_t i = 0; i < l->unnamed_count; i++)
                json_free(l->unnamed[i]);
        json_free(l->best);
}

void manifest_done(struct manifest *m)
{
        descriptor_done(&m->config);
        for (size_t i = 0; i < m->layer_count; i++)
                descriptor_done(&m->layers[i].descriptor);
        free(m->layers);
        json_free(m->config_json);
        *m = (struct manifest){0};
}

/* ---- documents */

/* keeping is a courtesy: what was fetched is right whether the store takes it or not */
static void keep(struct store *store, const struct digest *d, const struct buf *doc)
{
        struct error e = {0};
        if (store_put(store, STORE_DOC, d, buf_str(doc), doc->len, &e) < 0)
                log_debug(LOG_CACHE, "document not kept: %s", e.msg);
}

static bool from_store(struct store *store, const struct digest *d, struct buf *out)
{
        if (store_get(store, STORE_DOC, d, out, NULL) == 0)
                return true;
        buf_clear(out);
        return false;
}

/* a directory costs nothing to ask, so it is no network */
static bool is_offline(const struct manifest_request *rq)
{
        return !rq->source || (rq->offline && !rq->source->local);
}

/* The content of a descriptor, verified. entry: its JSON, which may carry the content. */
static int fetch(const struct manifest_request *rq, bool config, json_t *entry, const struct descriptor *d,
        struct buf *out, struct error *err)
{
        if (d->size > out->max)
                return error_set(
                        err, -EFBIG, "has %llu bytes; at most %zu are read", (unsigned long long)d->size, out->max);
        bool have = from_store(rq->store, &d->digest, out);
        if (!have && descriptor_data(entry, d, out)) {
                keep(rq->store, &d->digest, out);
                have = true;
        }
        if (!have && is_offline(rq))
                return error_set(err, -ENOENT, "is not in the cache, and --offline forbids to fetch it");
        if (!have) {
                const struct source_ops *ops = rq->source->ops;
                int r = (config ? ops->document : ops->manifest)(rq->source, d, out, err);
                if (r < 0)
                        return r;
                if (buf_error(out))
                        return error_set(err, buf_error(out), "cannot be held: %s", strerror(-buf_error(out)));
        }
        if (out->len != d->size)
                return error_set(err, -EBADMSG, "has %zu bytes, but its descriptor says %llu", out->len,
                        (unsigned long long)d->size);
        if (!have) {
                int r = digest_check(&d->digest, buf_str(out), out->len, "content", err);
                if (r < 0)
                        return r;
                keep(rq->store, &d->digest, out);
        }
        return 0;
}

static int refuse_artifact(const char *type, struct error *err)
{
        const char *name = media_nickname(type);
        return error_set(
                err, -EOPNOTSUPP, "is not a container image: it is %s (%.120s)", name ? name : "something else", type);
}

/* a key of an index in a manifest, or the reverse, is how one digest gets two meanings */
static int check_shape(json_t *json, struct error *err)
{
        bool index = json_object_get(json, "manifests") != NULL;
        bool manifest = json_object_get(json, "layers") || json_object_get(json, "config");
        bool schema1 = json_object_get(json, "fsLayers") != NULL;
        if (index + manifest + schema1 > 1)
                return error_set(err, -EBADMSG, "is ambiguous: it has the keys of an index and of a manifest");
        return 0;
}

/*
 * Index or manifest? declared: the type in the descriptor that led here, or NULL; content_type: the server's, or NULL.
 */
static int classify(
        json_t *json, const char *declared, const char *content_type, enum media_kind *ret_kind, struct error *err)
{
        const char *own;
        uint64_t version;
        int r = json_is_object(json) ? check_shape(json, err) : error_set(err, -EBADMSG, "is not a JSON object");
        if (r == 0)
                r = json_get_string(json, "mediaType", &own, err);
        if (r == 0)
                r = json_get_u64(json, "schemaVersion", 2, &version, err);
        if (r < 0)
                return r;
        enum media_kind declared_kind = media_kind(declared), header_kind = media_kind(content_type);
        enum media_kind own_kind = media_kind(own);
        if (own_kind != MEDIA_GENERIC && header_kind != MEDIA_GENERIC && !media_equal(own, content_type))
                return error_set(
                        err, -EBADMSG, "says that it is %.100s, but the server says %.100s", own, content_type);
        if (own_kind != MEDIA_GENERIC && declared_kind != MEDIA_GENERIC && own_kind != declared_kind)
                return error_set(
                        err, -EBADMSG, "says that it is %.100s, but its descriptor says %.100s", own, declared);

        const char *type = declared_kind != MEDIA_GENERIC ? declared
                           : header_kind != MEDIA_GENERIC ? content_type
                                                          : own;
        enum media_kind kind = media_kind(type);
        bool has_index = json_object_get(json, "manifests"), has_layers = json_object_get(json, "layers");
        if (kind == MEDIA_SCHEMA1 || version == 1 || json_object_get(json, "fsLayers"))
                return error_set(err, -EOPNOTSUPP,
                        "is in Docker's schema 1, which is no longer in use: push the image anew with a current tool");
        if (kind == MEDIA_OTHER)
                return refuse_artifact(type, err);
        if (version != 2)
                return error_set(err, -EBADMSG, "has schemaVersion %llu, not 2", (unsigned long long)version);
        if (kind == MEDIA_GENERIC)
                kind = has_index ? MEDIA_INDEX : json_object_get(json, "config") ? MEDIA_MANIFEST : MEDIA_GENERIC;
        if (kind == MEDIA_GENERIC || (kind == MEDIA_INDEX && has_layers) || (kind == MEDIA_MANIFEST && has_index))
                return error_set(err, -EBADMSG, "is neither an image manifest nor an index");
        *ret_kind = kind;
        return 0;
}

/* Verified bytes to JSON of a known kind; messages begin with "manifest sha256:...". */
static int parse_document(const struct buf *doc, const struct digest *digest, const char *declared,
        const char *content_type, json_t **ret_json, enum media_kind *ret_kind, struct error *err)
{
        cleanup(json_freep) json_t *json = NULL;
        char text[DIGEST_MAX_TEXT];
        int r = json_parse(buf_str(doc), doc->len, &json, err);
        if (r == 0)
                r = classify(json, declared, content_type, ret_kind, err);
        if (r < 0)
                return error_wrap(err, r, "manifest %s", digest_format(digest, text));
        *ret_json = take(json);
        return 0;
}

static int child_document(struct load *l, json_t *entry, json_t **ret_json, struct digest *ret_digest,
        enum media_kind *ret_kind, struct error *err)
{
        struct descriptor d = {0};
        cleanup(buf_donep) struct buf doc = {.max = SOURCE_MANIFEST_MAX};
        char text[DIGEST_MAX_TEXT];
        int r = descriptor_parse(entry, &d, err);
        if (r < 0)
                return error_wrap(err, r, "index");
        r = fetch(l->rq, false, entry, &d, &doc, err);
        if (r < 0)
                error_wrap(err, r, "manifest %s", digest_format(&d.digest, text));
        else
                r = parse_document(&doc, &d.digest, d.media_type, NULL, ret_json, ret_kind, err);
        if (r == 0)
                *ret_digest = d.digest;
        descriptor_done(&d);
        return r;
}

/* ---- config and layers */

static int parse_layer(json_t *json, struct image_layer *layer, struct error *err)
{
        int r = descriptor_parse(json, &layer->descriptor, err);
        if (r < 0)
                return r;
        const char *type = layer->descriptor.media_type;
        if (strstr(type, "+encrypted"))
                return error_set(err, -EOPNOTSUPP, "is encrypted, and there is no key to read it with");
        if (!media_is_layer(type)) {
                const char *name = media_nickname(type);
                return error_set(err, -EOPNOTSUPP, "is not a file system layer but %s (%.120s)",
                        name ? name : "something else", type);
        }
        return 0;
}

static int parse_layers(json_t *json, struct manifest *m, struct error *err)
{
        json_t *layers, *layer;
        size_t i;
        int r = json_get_array(json, "layers", &layers, err);
        if (r < 0)
                return r;
        if (json_array_size(layers) > MANIFEST_LAYERS_MAX)
                return error_set(err, -EFBIG, "has %zu layers; at most %d are allowed", json_array_size(layers),
                        MANIFEST_LAYERS_MAX);
        m->layers = calloc(json_array_size(layers) + 1, sizeof *m->layers);
        if (!m->layers)
                return error_nomem(err);
        json_array_foreach(layers, i, layer)
        {
                m->layer_count = i + 1;
                r = parse_layer(layer, &m->layers[i], err);
                if (r < 0)
                        return error_wrap(err, r, "layer %zu", i + 1);
        }
        return 0;
}

static int parse_diff_ids(json_t *config, bool may_be_unknown, struct manifest *m, struct error *err)
{
        json_t *rootfs, *ids, *id;
        const char *type;
        size_t i;
        int r = json_get_object(config, "rootfs", &rootfs, err);
        if (r < 0)
                return r;
        if (!rootfs)
                return error_set(err, -EBADMSG, "\"rootfs\" is missing");
        r = json_get_string(rootfs, "type", &type, err);
        if (r == 0)
                r = json_get_array(rootfs, "diff_ids", &ids, err);
        if (r < 0)
                return r;
        if (!type || strcmp(type, "layers") != 0)
                return error_set(err, -EBADMSG, "rootfs.type is not \"layers\"");
        if (json_array_size(ids) != m->layer_count)
                return error_set(
                        err, -EBADMSG, "has %zu diff IDs for %zu layers", json_array_size(ids), m->layer_count);
        json_array_foreach(ids, i, id)
        {
                const char *text = json_string_value(id);
                if (text && !text[0] && may_be_unknown)
                        continue;
                r = text ? digest_parse(text, strlen(text), &m->layers[i].diff_id) : -EINVAL;
                if (r < 0)
                        return error_set(err, r == -EOPNOTSUPP ? r : -EBADMSG, "diff ID %zu, \"%.80s\", %s", i + 1,
                                text ? text : "", r == -EOPNOTSUPP ? "is of an unknown algorithm" : "is not a digest");
        }
        return 0;
}

static int parse_config(const struct manifest_request *rq, json_t *config, struct manifest *m, struct error *err)
{
        const char *os, *architecture, *variant;
        if (!json_is_object(config))
                return error_set(err, -EBADMSG, "is not a JSON object");
        int r = json_get_string(config, "os", &os, err);
        if (r == 0)
                r = json_get_string(config, "architecture", &architecture, err);
        if (r == 0)
                r = json_get_string(config, "variant", &variant, err);
        if (r == 0)
                r = parse_diff_ids(config, rq->source && rq->source->local, m, err);
        if (r < 0)
                return r;
        platform_set(&m->platform, os, architecture, variant);

        /* many configs for Arm leave the variant out: then it is not known to be foreign */
        const struct platform *want = &rq->platform, *have = &m->platform;
        bool silent = !have->architecture[0];
        bool same = strcmp(want->os, have->os) == 0 && strcmp(want->architecture, have->architecture) == 0;
        m->foreign = !silent && platform_rank(want, have) < 0 && !(same && (!variant || !variant[0]));
        return 0;
}

static int load_config(const struct manifest_request *rq, json_t *entry, struct manifest *m, struct error *err)
{
        cleanup(buf_donep) struct buf doc = {.max = SOURCE_CONFIG_MAX};
        char text[DIGEST_MAX_TEXT];
        int r = fetch(rq, true, entry, &m->config, &doc, err);
        if (r == 0)
                r = json_parse(buf_str(&doc), doc.len, &m->config_json, err);
        if (r == 0)
                r = parse_config(rq, m->config_json, m, err);
        return r < 0 ? error_wrap(err, r, "config %s", digest_format(&m->config.digest, text)) : 0;
}

/* is it an image at all? */
static int check_artifact(json_t *json, const struct manifest *m, struct error *err)
{
        const char *type;
        int r = json_get_string(json, "artifactType", &type, err);
        if (r < 0)
                return r;
        if (type && type[0] && !media_is_config(type))
                return refuse_artifact(type, err);
        return media_is_config(m->config.media_type) ? 0 : refuse_artifact(m->config.media_type, err);
}

static int parse_manifest(json_t *json, struct manifest *m, struct error *err)
{
        json_t *config = json_object_get(json, "config");
        int r = descriptor_parse(config, &m->config, err);
        if (r < 0)
                return error_wrap(err, r, "config");
        r = check_artifact(json, m, err);
        return r == 0 ? parse_layers(json, m, err) : r;
}

/* A manifest, parsed already, and its config. */
static int load_image(
        struct load *l, const struct digest *digest, json_t *json, struct manifest *ret, struct error *err)
{
        struct manifest m = {.digest = *digest};
        char text[DIGEST_MAX_TEXT];
        int r = parse_manifest(json, &m, err);
        if (r < 0)
                error_wrap(err, r, "manifest %s", digest_format(digest, text));
        else
                r = load_config(l->rq, json_object_get(json, "config"), &m, err);
        if (r < 0) {
                manifest_done(&m);
                return r;
        }
        *ret = m;
        return 0;
}

static int load_entry(struct load *l, json_t *entry, struct manifest *ret, struct error *err)
{
        cleanup(json_freep) json_t *json = NULL;
        struct digest digest;
        enum media_kind kind;
        char text[DIGEST_MAX_TEXT];
        int r = child_document(l, entry, &json, &digest, &kind, err);
        if (r < 0)
                return r;
        if (kind != MEDIA_MANIFEST)
                return error_set(err, -EBADMSG, "manifest %s: is an index, but the index that names it says otherwise",
                        digest_format(&digest, text));
        return load_image(l, &digest, json, ret, err);
}

/* ---- choosing from an index */

static void note_available(struct load *l, const struct platform *p)
{
        char text[100];
        size_t len = strlen(platform_format(p, text));
        for (const char *at = buf_str(&l->available); (at = strstr(at, text)); at += len)
                if (at[len] == '\0' || at[len] == ',')
                        return;
        if (l->available.len + len + 2 > AVAILABLE_MAX)
                return;
        buf_addf(&l->available, "%s%s", l->available.len ? ", " : "", text);
}

/* Of twins the one with zstd layers comes second: a plain zstd frame has no way in, gzip gets restart points. */
static bool is_zstd_twin(json_t *entry)
{
        json_t *annotations = json_object_get(entry, "annotations");
        const char *zstd = json_string_value(json_object_get(annotations, "io.github.containers.compression.zstd"));
        return zstd && strcmp(zstd, "true") == 0;
}

static void consider(struct load *l, json_t *entry, const struct platform *p)
{
        note_available(l, p);
        int rank = platform_rank(&l->rq->platform, p);
        if (rank < 0)
                return;
        rank = rank * 2 + is_zstd_twin(entry);
        if (!l->best || rank < l->best_rank) {
                json_free(l->best);
                l->best = json_incref(entry);
                l->best_rank = rank;
        }
}

/* *ret_named: does the entry say its platform? */
static int entry_platform(json_t *entry, struct platform *ret_platform, bool *ret_named, struct error *err)
{
        json_t *json;
        const char *os = NULL, *architecture = NULL, *variant = NULL;
        int r = json_get_object(entry, "platform", &json, err);
        if (r == 0 && json)
                r = json_get_string(json, "os", &os, err);
        if (r == 0 && json)
                r = json_get_string(json, "architecture", &architecture, err);
        if (r == 0 && json)
                r = json_get_string(json, "variant", &variant, err);
        if (r < 0)
                return r;
        *ret_named = os && os[0] && architecture && architecture[0];
        platform_set(ret_platform, os, architecture, variant);
        return 0;
}

static bool seen_before(struct load *l, const struct digest *d)
{
        for (size_t i = 0; i < l->seen_count; i++)
                if (digest_equal(&l->seen[i], d))
                        return true;
        return false;
}

static int search(struct load *l, const struct digest *digest, json_t *index, unsigned depth, struct error *err);

static int search_nested(struct load *l, json_t *entry, unsigned depth, struct error *err)
{
        cleanup(json_freep) json_t *json = NULL;
        struct digest digest;
        struct descriptor d = {0};
        enum media_kind kind;
        int r = descriptor_parse(entry, &d, err);
        if (r < 0)
                return error_wrap(err, r, "index");
        digest = d.digest;
        descriptor_done(&d);
        if (seen_before(l, &digest))
                return 0;
        if (depth > MANIFEST_DEPTH_MAX)
                return error_set(err, -EFBIG, "indexes are nested more than %d deep", MANIFEST_DEPTH_MAX);
        if (l->seen_count == INDEXES_MAX)
                return error_set(err, -EFBIG, "there are more than %d indexes in it", INDEXES_MAX);
        r = child_document(l, entry, &json, &digest, &kind, err);
        return r < 0 ? r : search(l, &digest, json, depth, err);
}

static int search_entry(struct load *l, json_t *entry, unsigned depth, struct error *err)
{
        struct platform p;
        bool named;
        enum media_kind kind;
        if (!json_is_object(entry))
                return error_set(err, -EBADMSG, "\"manifests\" holds something that is not an object");
        if (!media_entry_is_image(entry, &kind))
                return 0;
        int r = entry_platform(entry, &p, &named, err);
        if (r < 0)
                return r;
        if (kind == MEDIA_INDEX) {
                if (!named || platform_rank(&l->rq->platform, &p) >= 0)
                        return search_nested(l, entry, depth + 1, err);
                note_available(l, &p);
        } else if (named) {
                consider(l, entry, &p);
        } else if (l->unnamed_count < TRIES_MAX) {
                l->unnamed[l->unnamed_count++] = json_incref(entry);
        }
        return 0;
}

/* Goes through the entries until one fits exactly. */
static int search(struct load *l, const struct digest *digest, json_t *index, unsigned depth, struct error *err)
{
        json_t *entries, *entry;
        size_t i;
        char text[DIGEST_MAX_TEXT];
        if (l->seen_count < INDEXES_MAX)
                l->seen[l->seen_count++] = *digest;
        int r = json_get_array(index, "manifests", &entries, err);
        if (r < 0)
                return error_wrap(err, r, "index %s", digest_format(digest, text));
        json_array_foreach(entries, i, entry)
        {
                r = search_entry(l, entry, depth, err);
                if (r < 0)
                        return error_wrap(err, r, "index %s", digest_format(digest, text));
                if (l->best && l->best_rank == 0)
                        break;
        }
        return 0;
}

/* Reads the images whose entries say no platform: the best of them; 1 when none fits. */
static int load_unnamed(struct load *l, struct manifest *ret, struct error *err)
{
        struct manifest best = {0};
        struct error e = {0};
        int best_rank = -1, r = 0;
        for (size_t i = 0; i < l->unnamed_count && best_rank != 0; i++) {
                struct manifest m = {0};
                r = load_entry(l, l->unnamed[i], &m, &e);
                if (r == -EOPNOTSUPP) /* an artifact beside the image */
                        continue;
                if (r < 0)
                        break;
                bool named = m.platform.architecture[0];
                int rank = named ? platform_rank(&l->rq->platform, &m.platform) : RANK_UNNAMED;
                if (named)
                        note_available(l, &m.platform);
                if (rank >= 0 && (best_rank < 0 || rank < best_rank)) {
                        manifest_done(&best);
                        best = m;
                        best_rank = rank;
                } else {
                        manifest_done(&m);
                }
        }
        if (best_rank >= 0 && (r == 0 || r == -EOPNOTSUPP)) {
                *ret = best;
                return 0;
        }
        manifest_done(&best);
        if (r == 0 || (r == -EOPNOTSUPP && l->available.len))
                return 1;
        return error_set(err, r, "%s", e.msg);
}

static int load_index(
        struct load *l, const struct digest *digest, json_t *index, struct manifest *ret, struct error *err)
{
        char text[DIGEST_MAX_TEXT], want[100];
        int r = search(l, digest, index, 1, err);
        if (r < 0)
                return r;
        if (l->best)
                return load_entry(l, l->best, ret, err);
        r = load_unnamed(l, ret, err);
        if (r <= 0)
                return r;
        digest_format(digest, text);
        if (!l->available.len)
                return error_set(err, -EOPNOTSUPP, "index %s: holds no image", text);
        return error_set(err, -EOPNOTSUPP, "index %s: there is no image for %s; available: %s", text,
                platform_format(&l->rq->platform, want), buf_str(&l->available));
}

/* ---- the top document */

static int top_offline(const struct manifest_request *rq, struct buf *doc, struct digest *ret_digest, struct error *err)
{
        const struct digest *d = rq->want.alg ? &rq->want : &rq->known;
        char text[DIGEST_MAX_TEXT];
        if (!d->alg)
                return error_set(
                        err, -ENOENT, "manifest: this name was never seen here, and --offline forbids to ask for it");
        if (!from_store(rq->store, d, doc))
                return error_set(err, -ENOENT, "manifest %s: is not in the cache, and --offline forbids to fetch it",
                        digest_format(d, text));
        *ret_digest = *d;
        return 0;
}

/* asks the source; known may be DIGEST_NONE */
static int top_resolve(const struct manifest_request *rq, const struct digest *known, struct buf *doc, char **type,
        struct digest *ret_digest, struct error *err)
{
        int r = rq->source->ops->resolve(rq->source, known, doc, type, err);
        if (r < 0)
                return r;
        if (r > 0) {
                static const struct digest none = {DIGEST_NONE};
                assert(known->alg);
                if (!from_store(rq->store, known, doc)) /* unchanged, but evicted here */
                        return top_resolve(rq, &none, doc, type, ret_digest, err);
                *ret_digest = *known;
                return 0;
        }
        if (buf_error(doc))
                return error_set(err, buf_error(doc), "manifest: cannot be held: %s", strerror(-buf_error(doc)));
        if (rq->want.alg) {
                r = digest_check(&rq->want, buf_str(doc), doc->len, "manifest", err);
                *ret_digest = rq->want;
        } else if (digest_memory(DIGEST_SHA256, buf_str(doc), doc->len, ret_digest) < 0) {
                r = error_nomem(err);
        }
        if (r == 0)
                keep(rq->store, ret_digest, doc);
        return r;
}

static int top_document(
        const struct manifest_request *rq, struct buf *doc, char **type, struct digest *ret_digest, struct error *err)
{
        static const struct digest none = {DIGEST_NONE};
        if (is_offline(rq))
                return top_offline(rq, doc, ret_digest, err);
        if (rq->want.alg && from_store(rq->store, &rq->want, doc)) {
                *ret_digest = rq->want;
                return 0;
        }
        return top_resolve(rq, rq->want.alg ? &none : &rq->known, doc, type, ret_digest, err);
}

int manifest_load(
        const struct manifest_request *rq, struct manifest *ret_manifest, struct digest *ret_top, struct error *err)
{
        struct load l = {.rq = rq};
        struct manifest m = {0};
        struct digest top = {DIGEST_NONE};
        enum media_kind kind;
        cleanup(buf_donep) struct buf doc = {.max = SOURCE_MANIFEST_MAX};
        cleanup(freep) char *type = NULL;
        cleanup(json_freep) json_t *json = NULL;
        buf_init(&l.available, AVAILABLE_MAX);

        int r = top_document(rq, &doc, &type, &top, err);
        if (r == 0)
                r = parse_document(&doc, &top, NULL, type, &json, &kind, err);
        if (r == 0)
                r = kind == MEDIA_INDEX ? load_index(&l, &top, json, &m, err) : load_image(&l, &top, json, &m, err);
        load_done(&l);
        if (r < 0)
                return r;
        *ret_manifest = m;
        *ret_top = top;
        return 0;
}
