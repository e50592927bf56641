/*
 * How: which of the entries of index.json are meant is decided when the layout is opened, so that a wrong name fails early
 * and with the list of right ones. What they describe is read when somebody asks.
 *
 *   one entry    --> the document that it describes is the top document
 *   several      --> (one name, several platforms) an index of just these entries, made here: always the same bytes for the
 *                    same entries, so that the store finds it again
 *
 * Names: "org.opencontainers.image.ref.name" holds the tag alone, the full name, or whatever the writer liked; Docker and
 * containerd put the full name beside it. So a name is sought in three ways, each only when the one before found nothing:
 * the same text; the same full name; the same tag, of entries that say no full name.
 */
#include "source/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "source/media.h"

enum { LAYOUT_FILE_MAX = 64 << 10, NAMES_MAX = 300 };

struct layout {
        struct source base;
        struct files *files;
        char *what;
        struct descriptor top; /* of the one entry, or of `made` */
        struct buf made;       /* the index of several entries; empty when there is one */
};

static int blob_path(const struct digest *d, char path[160])
{
        char hex[DIGEST_MAX_TEXT];
        return snprintf(path, 160, "blobs/%s/%s", digest_alg_name(d->alg), digest_hex(d, hex));
}

static int layout_blob(struct source *s, const struct descriptor *d, struct blob **ret_blob, struct error *err)
{
        struct layout *l = (struct layout *)s;
        cleanup(blob_unrefp) struct blob *blob = NULL;
        char path[160];
        blob_path(&d->digest, path);
        int r = l->files->open(l->files, path, &blob, err);
        if (r == -ENOENT)
                return error_set(err, r, "%s: %s is missing", l->what, path);
        if (r < 0)
                return r;
        if (blob_size(blob) != d->size)
                return error_set(err, -EBADMSG, "%s: %s has %llu bytes, but its descriptor says %llu", l->what, path,
                        (unsigned long long)blob_size(blob), (unsigned long long)d->size);
        *ret_blob = take(blob);
        return 0;
}

static int layout_document(struct source *s, const struct descriptor *d, struct buf *out, struct error *err)
{
        cleanup(blob_unrefp) struct blob *blob = NULL;
        int r = layout_blob(s, d, &blob, err);
        if (r < 0)
                return r;
        if (d->size > out->max - out->len)
                return error_set(err, -EFBIG, "%s: a document of %llu bytes is too large", ((struct layout *)s)->what,
                        (unsigned long long)d->size);
        void *at = buf_extend(out, (size_t)d->size);
        if (!at)
                return error_nomem(err);
        return d->size ? blob_read_all(blob, at, (size_t)d->size, 0, err) : 0;
}

static int layout_resolve(
        struct source *s, const struct digest *known, struct buf *out, char **ret_type, struct error *err)
{
        struct layout *l = (struct layout *)s;
        if (known->alg && digest_equal(known, &l->top.digest))
                return 1;
        cleanup(freep) char *type = strdup(l->top.media_type);
        if (!type)
                return error_nomem(err);
        if (l->made.len) {
                buf_add(out, l->made.data, l->made.len);
        } else {
                int r = layout_document(s, &l->top, out, err);
                if (r == 0)
                        r = digest_check(&l->top.digest, buf_str(out), out->len, l->what, err);
                if (r < 0)
                        return r;
        }
        if (buf_error(out))
                return error_set(err, buf_error(out), "%s: %s", l->what, strerror(-buf_error(out)));
        *ret_type = take(type);
        return 0;
}

static void layout_close(struct source *s)
{
        struct layout *l = (struct layout *)s;
        files_close(l->files);
        free(l->what);
        descriptor_done(&l->top);
        buf_done(&l->made);
        free(l);
}

static const struct source_ops layout_ops = {
        .resolve = layout_resolve,
        .manifest = layout_document,
        .document = layout_document,
        .blob = layout_blob,
        .close = layout_close,
};

/* ---- names */

static const char *annotation(json_t *entry, const char *key)
{
        return json_string_value(json_object_get(json_object_get(entry, "annotations"), key));
}

static const char *ref_name(json_t *entry)
{
        const char *name = annotation(entry, "org.opencontainers.image.ref.name");
        return name ? name : annotation(entry, "org.opencontainers.ref.name"); /* before 1.0 */
}

static bool equal(const char *a, const char *b)
{
        return a && b && strcmp(a, b) == 0;
}

/* "alpine" -> "docker.io/library/alpine:latest"; NULL for what is no name; free() it */
static char *full_name(const char *text)
{
        struct reference ref = {0};
        if (!text || reference_parse_name(text, &ref, NULL) < 0)
                return NULL;
        char *full = reference_text(&ref);
        reference_done(&ref);
        return full;
}

/* a full name must say more than one word: a lone tag ("3.20") would read as a repository on Docker Hub */
static char *full_ref_name(const char *text)
{
        return text && strpbrk(text, "/:") ? full_name(text) : NULL;
}

/* the explicit tag of "repo:tag" */
static const char *tag_part(const char *text)
{
        const char *slash = strrchr(text, '/'), *colon = strrchr(text, ':');
        return colon && (!slash || colon > slash) && !strchr(text, '@') ? colon + 1 : NULL;
}

struct wish {
        const char *text, *tag;
        char *full;
};

static bool named(json_t *entry, const struct wish *wish, int way)
{
        const char *name = ref_name(entry), *image_name = annotation(entry, "io.containerd.image.name");
        if (way == 0)
                return equal(name, wish->text);
        if (way == 2)
                return !image_name && equal(name, wish->tag);
        cleanup(freep) char *full_image_name = full_name(image_name), *full_name = full_ref_name(name);
        return equal(full_image_name, wish->full) || equal(full_name, wish->full);
}

/* entries of that name, into `found` */
static int find_named(json_t *entries, const char *text, json_t *found)
{
        struct wish wish = {.text = text, .tag = tag_part(text), .full = full_name(text)};
        int r = 0;
        for (int way = 0; way < 3 && !json_array_size(found) && r == 0; way++) {
                json_t *entry;
                size_t i;
                json_array_foreach(entries, i, entry)
                {
                        if (named(entry, &wish, way) && json_array_append(found, entry) < 0)
                                r = -ENOMEM;
                }
        }
        free(wish.full);
        return r;
}

/* ---- choosing entries */

/* Signatures and the like that hang on an image by name: "_cosign:...", "sha256-HEX" (the referrers tag schema of the
 * distribution-spec), "sha256-HEX.sig". */
static bool is_attachment(json_t *entry)
{
        const char *name = ref_name(entry);
        if (!name)
                return false;
        if (strncmp(name, "_cosign:", 8) == 0)
                return true;
        return strncmp(name, "sha256-", 7) == 0 && strspn(name + 7, "0123456789abcdef") == 2 * SHA256_BYTES;
}

/* the names in it, for a message: "a, b, @2" */
static const char *list_names(json_t *entries, struct buf *out)
{
        json_t *entry;
        size_t i;
        json_array_foreach(entries, i, entry)
        {
                const char *name = annotation(entry, "io.containerd.image.name");
                name = name ? name : ref_name(entry);
                if (!media_entry_is_image(entry, NULL) || is_attachment(entry))
                        continue;
                if (name)
                        buf_addf(out, "%s%.100s", out->len ? ", " : "", name);
                else
                        buf_addf(out, "%s@%zu", out->len ? ", " : "", i);
        }
        return buf_str(out);
}

/* Only the images among the entries, each digest once; if none is an image, all stay, for manifest.c to say what they are.
 * by_name: they were asked for by name, so that attachments are meant when they are there. */
static int filter(json_t *entries, bool by_name, json_t *found)
{
        json_t *entry, *other;
        size_t i, k;
        json_array_foreach(entries, i, entry)
        {
                bool skip = !media_entry_is_image(entry, NULL) || (!by_name && is_attachment(entry));
                const char *digest = json_string_value(json_object_get(entry, "digest"));
                json_array_foreach(found, k, other)
                {
                        skip |= equal(digest, json_string_value(json_object_get(other, "digest")));
                }
                if (!skip && json_array_append(found, entry) < 0)
                        return -ENOMEM;
        }
        return json_array_size(found) ? 0 : json_array_extend(found, entries) < 0 ? -ENOMEM : 0;
}

/* may they be one image for several platforms? All of one name; without a name, all with a platform */
static bool is_one_image(json_t *entries)
{
        json_t *entry;
        size_t i;
        const char *first = ref_name(json_array_get(entries, 0));
        json_array_foreach(entries, i, entry)
        {
                const char *name = ref_name(entry);
                if (first ? !equal(name, first) : name || !json_is_object(json_object_get(entry, "platform")))
                        return false;
        }
        return true;
}

/* the entries that ref means, in `chosen` */
static int choose(json_t *entries, const struct reference *ref, const char *what, json_t *chosen, struct error *err)
{
        cleanup(json_freep) json_t *found = json_array();
        cleanup(buf_donep) struct buf names = {.max = NAMES_MAX};
        int r = found ? 0 : -ENOMEM;
        size_t count = json_array_size(entries);
        if (ref->number >= 0) {
                if ((size_t)ref->number >= count)
                        return error_set(err, -ENOENT, "%s: there is no image @%d; it has %zu, counted from 0", what,
                                ref->number, count);
                r = json_array_append(chosen, json_array_get(entries, (size_t)ref->number)) < 0 ? -ENOMEM : 0;
                return r < 0 ? error_nomem(err) : 0;
        }
        if (r == 0)
                r = ref->name ? find_named(entries, ref->name, found) : json_array_extend(found, entries);
        if (r == 0)
                r = filter(found, ref->name, chosen);
        if (r < 0)
                return error_nomem(err);
        if (!json_array_size(chosen) && !ref->name)
                return error_set(err, -ENOENT, "%s: there is no image in it", what);
        if (!json_array_size(chosen))
                return error_set(err, -ENOENT, "%s: there is no image \"%.100s\" in it, but: %s", what, ref->name,
                        list_names(entries, &names));
        if (!ref->name && json_array_size(chosen) > 1 && !is_one_image(chosen))
                return error_set(err, -EINVAL, "%s: has several images; say which, as :NAME or :@N: %s", what,
                        list_names(entries, &names));
        return 0;
}

/* ---- opening */

static int read_json(struct layout *l, const char *path, size_t max, json_t **ret_json, struct error *err)
{
        cleanup(buf_donep) struct buf text = {.max = max};
        int r = files_read(l->files, path, &text, err);
        if (r == 0)
                r = json_parse(buf_str(&text), text.len, ret_json, err);
        if (r == 0 && !json_is_object(*ret_json)) {
                json_free(take(*ret_json));
                r = error_set(err, -EBADMSG, "is not a JSON object");
        }
        if (r == -ENOENT)
                return error_set(err, -ENOENT, "%s: has no %s, so it is not an OCI image layout", l->what, path);
        return r < 0 ? error_wrap(err, r, "%s: %s", l->what, path) : 0;
}

static int check_version(struct layout *l, struct error *err)
{
        cleanup(json_freep) json_t *json = NULL;
        const char *version;
        int r = read_json(l, "oci-layout", LAYOUT_FILE_MAX, &json, err);
        if (r == 0)
                r = json_get_string(json, "imageLayoutVersion", &version, err);
        if (r < 0)
                return r;
        if (!version || strncmp(version, "1.", 2) != 0)
                return error_set(err, version ? -EOPNOTSUPP : -EBADMSG,
                        "%s: oci-layout: its version is \"%.40s\", not 1.x", l->what, version ? version : "");
        return 0;
}

/* an index of the entries, always the same bytes for the same entries */
static int make_index(struct layout *l, json_t *entries, struct error *err)
{
        cleanup(freep) char *text = json_text(entries, false);
        struct buf *made = &l->made;
        if (text)
                buf_addf(made, "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"manifests\":%s}", MEDIA_OCI_INDEX, text);
        l->top.media_type = strdup(MEDIA_OCI_INDEX);
        l->top.size = made->len;
        if (!text || !l->top.media_type || buf_error(made))
                return error_nomem(err);
        return digest_memory(DIGEST_SHA256, made->data, made->len, &l->top.digest) < 0 ? error_nomem(err) : 0;
}

static int load(struct layout *l, const struct reference *ref, struct error *err)
{
        cleanup(json_freep) json_t *index = NULL, *chosen = json_array();
        json_t *entries;
        if (!chosen)
                return error_nomem(err);
        int r = check_version(l, err);
        if (r == 0)
                r = read_json(l, "index.json", SOURCE_MANIFEST_MAX, &index, err);
        if (r < 0)
                return r;
        r = json_get_array(index, "manifests", &entries, err);
        if (r < 0)
                return error_wrap(err, r, "%s: index.json", l->what);
        if (!entries)
                return error_set(err, -EBADMSG, "%s: index.json: \"manifests\" is missing", l->what);
        r = choose(entries, ref, l->what, chosen, err);
        if (r < 0)
                return r;
        if (json_array_size(chosen) > 1)
                return make_index(l, chosen, err);
        r = descriptor_parse(json_array_get(chosen, 0), &l->top, err);
        return r < 0 ? error_wrap(err, r, "%s: index.json", l->what) : 0;
}

int layout_open(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err)
{
        struct layout *l = calloc(1, sizeof *l);
        if (!l) {
                files_close(files);
                return error_nomem(err);
        }
        *l = (struct layout){.base = {.ops = &layout_ops, .local = true}, .files = files, .what = strdup(what)};
        buf_init(&l->made, 2 * SOURCE_MANIFEST_MAX);
        int r = l->what ? load(l, ref, err) : error_nomem(err);
        if (r < 0) {
                layout_close(&l->base);
                return r;
        }
        *ret_source = &l->base;
        return 0;
}
