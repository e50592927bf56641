/*
 * How: which kind of archive a file is, when the reference leaves it open.
 *
 *   manifest.json is a list of images                    docker-archive
 *   oci-layout                                           OCI layout
 *   both (Docker 25 and later, nerdctl, BuildKit)        manifest.json says which image a name means (index.json may carry
 *                                                        only tags). If the layout holds that image too, whole, it is read
 *                                                        as a layout, which may know more platforms
 *
 * "Whole" counts for everything that the layout's index names: `docker save` of one platform leaves an index whose other
 * platforms are missing, and then manifest.json is right. Only presence is looked at, no content.
 * Both are opened over the same files, so those are counted while that lasts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "source/layout.h"
#include "source/manifest.h"
#include "source/media.h"

enum { DOCUMENTS_MAX = 64 };

/* ---- one struct files for two sources, which never are used at once by two threads before one of them is closed */

struct shared {
        struct files base;
        struct files *real;
        atomic_uint refs;
};

static int shared_open(struct files *f, const char *path, struct blob **ret_blob, struct error *err)
{
        struct shared *s = (struct shared *)f;
        return s->real->open(s->real, path, ret_blob, err);
}

static void shared_close(struct files *f)
{
        struct shared *s = (struct shared *)f;
        if (atomic_fetch_sub(&s->refs, 1) != 1)
                return;
        files_close(s->real);
        free(s);
}

static struct files *shared_ref(struct files *f)
{
        atomic_fetch_add(&((struct shared *)f)->refs, 1);
        return f;
}

/* takes ownership, also when it gives NULL */
static struct files *share(struct files *real)
{
        struct shared *s = malloc(sizeof *s);
        if (!s) {
                files_close(real);
                return NULL;
        }
        s->base = (struct files){.open = shared_open, .close = shared_close};
        s->real = real;
        atomic_init(&s->refs, 1);
        return &s->base;
}

/* ---- is a layout's image whole? */

struct walk {
        struct source *source;
        struct digest config; /* the one that is sought */
        bool found;
        unsigned documents;
};

static bool has_blob(struct source *s, json_t *json, struct digest *ret_digest)
{
        struct descriptor d = {0};
        cleanup(blob_unrefp) struct blob *blob = NULL;
        if (descriptor_parse(json, &d, NULL) < 0)
                return false;
        bool there = s->ops->blob(s, &d, &blob, NULL) == 0;
        *ret_digest = d.digest;
        descriptor_done(&d);
        return there;
}

static bool is_whole(struct walk *w, const struct buf *doc, unsigned depth);

static bool child_is_whole(struct walk *w, json_t *entry, unsigned depth)
{
        struct descriptor d = {0};
        cleanup(buf_donep) struct buf doc = {.max = SOURCE_MANIFEST_MAX};
        if (descriptor_parse(entry, &d, NULL) < 0)
                return false;
        int r = w->source->ops->manifest(w->source, &d, &doc, NULL);
        descriptor_done(&d);
        return r == 0 && is_whole(w, &doc, depth + 1);
}

static bool is_whole(struct walk *w, const struct buf *doc, unsigned depth)
{
        cleanup(json_freep) json_t *json = NULL;
        json_t *member;
        struct digest digest;
        size_t i;
        if (depth > MANIFEST_DEPTH_MAX || ++w->documents > DOCUMENTS_MAX ||
                json_parse(buf_str(doc), doc->len, &json, NULL) < 0)
                return false;
        json_array_foreach(json_object_get(json, "manifests"), i, member)
        {
                if (media_entry_is_image(member, NULL) && !child_is_whole(w, member, depth))
                        return false;
        }
        json_array_foreach(json_object_get(json, "layers"), i, member)
        {
                if (!has_blob(w->source, member, &digest))
                        return false;
        }
        member = json_object_get(json, "config");
        if (member && !has_blob(w->source, member, &digest))
                return false;
        w->found |= member && digest_equal(&digest, &w->config);
        return true;
}

static bool top_of(struct source *s, struct buf *doc)
{
        static const struct digest none = {DIGEST_NONE};
        cleanup(freep) char *type = NULL;
        return s->ops->resolve(s, &none, doc, &type, NULL) == 0;
}

/* Does the layout hold the archive's image, and is it whole? */
static bool covers(struct source *layout, struct source *archive)
{
        struct walk w = {.source = layout};
        struct descriptor config = {0};
        cleanup(buf_donep) struct buf mine = {.max = SOURCE_MANIFEST_MAX}, theirs = {.max = SOURCE_MANIFEST_MAX};
        cleanup(json_freep) json_t *json = NULL;
        if (!top_of(archive, &theirs) || json_parse(buf_str(&theirs), theirs.len, &json, NULL) < 0 ||
                descriptor_parse(json_object_get(json, "config"), &config, NULL) < 0)
                return false;
        w.config = config.digest;
        descriptor_done(&config);
        return top_of(layout, &mine) && is_whole(&w, &mine, 1) && w.found;
}

static int open_hybrid(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err)
{
        cleanup(files_closep) struct files *shared = share(files);
        cleanup(source_closep) struct source *archive = NULL, *layout = NULL;
        struct reference any = {.transport = REFERENCE_OCI_ARCHIVE, .number = -1, .name = ref->name};
        if (!shared)
                return error_nomem(err);
        int r = archive_open(shared_ref(shared), ref, what, &archive, err);
        if (r < 0)
                return r;
        /* a number counts the images of manifest.json, which may be others than those of index.json */
        r = ref->number < 0 ? layout_open(shared_ref(shared), &any, what, &layout, NULL) : -ENOENT;
        *ret_source = r == 0 && covers(layout, archive) ? take(layout) : take(archive);
        return 0;
}

/* ---- which kind */

/* Is the file there, and does its JSON look like it? 1, 0, or -errno. */
static int looks_like(struct files *files, const char *path, bool list, struct error *err)
{
        cleanup(buf_donep) struct buf text = {.max = SOURCE_MANIFEST_MAX};
        cleanup(json_freep) json_t *json = NULL;
        struct error e = {0};
        int r = files_read(files, path, &text, &e);
        if (r == -ENOENT || r == -EINVAL || r == -EFBIG || r == -ELOOP || r == -ENOTDIR)
                return 0;
        if (r < 0)
                return error_set(err, r, "%s", e.msg);
        if (json_parse(buf_str(&text), text.len, &json, NULL) < 0)
                return 0;
        return list ? json_is_object(json_array_get(json, 0)) : json_is_object(json);
}

int source_open_files(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err)
{
        cleanup(files_closep) struct files *owned = files;
        switch (ref->transport) {
        case REFERENCE_OCI:
        case REFERENCE_OCI_ARCHIVE: return layout_open(take(owned), ref, what, ret_source, err);
        case REFERENCE_DOCKER_ARCHIVE: return archive_open(take(owned), ref, what, ret_source, err);
        case REFERENCE_ARCHIVE: break;
        default: return error_set(err, -ENODATA, "%s: is a plain tar", what);
        }
        int archive = looks_like(owned, "manifest.json", true, err);
        int layout = archive < 0 ? archive : looks_like(owned, "oci-layout", false, err);
        if (layout < 0)
                return layout;
        if (archive && layout)
                return open_hybrid(take(owned), ref, what, ret_source, err);
        if (archive)
                return archive_open(take(owned), ref, what, ret_source, err);
        if (layout)
                return layout_open(take(owned), ref, what, ret_source, err);
        return error_set(err, -ENODATA, "%s: holds neither an OCI layout nor a docker archive", what);
}
