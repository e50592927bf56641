#pragma once
/**
 * Images without a registry: an OCI layout (image-spec image-layout.md), or what `docker save` writes, over a tree of files
 * that may be a directory or lie in an archive. Two sources, one view of the files.
 */
#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"
#include "blob/blob.h"
#include "source/reference.h"
#include "source/source.h"

/** Files by name; an implementation embeds it as its first member. Locks itself. */
struct files {
        /** A regular file's bytes, symlinks followed inside. -ENOENT; -EINVAL for something that is no file. */
        int (*open)(struct files *f, const char *path, struct blob **ret_blob, struct error *err);
        void (*close)(struct files *f);
};

/** A directory of the system; symlinks may lead out of it (a layout whose blobs lie elsewhere). */
int files_open_dir(const char *path, struct files **ret_files, struct error *err);

/** Appends a small file to out, up to out's ceiling. -EFBIG past it, else as open. */
int files_read(struct files *f, const char *path, struct buf *out, struct error *err);

static inline void files_close(struct files *f)
{
        if (f)
                f->close(f);
}
DEFINE_CLEANUP(struct files, files_close);

/** OCI layout over files; takes ownership of files, also on failure. ref: which of the images. what: for messages.
 *  -ENOENT: no such image in it; -EINVAL: it must be said which of several; -EBADMSG: not a layout. */
int layout_open(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err);

/** docker-archive over files (manifest.json); takes ownership of files, also on failure; errors as layout_open(). The source
 *  makes an OCI manifest of what it finds: a plain layer's digest is its diff ID; that of a compressed one is in its name
 *  ("blobs/sha256/HEX"), or else the layer is read through here. */
int archive_open(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err);

/** Layout or docker-archive, by the reference's transport and, where that leaves it open, by what the files hold. Takes
 *  ownership of files, also on failure. -ENODATA: neither; the files may be a plain root file system (rootfs_open()). */
int source_open_files(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err);

/** A bare root file system in a tar, compressed or not, as an image of one layer for this machine's platform. Keeps a
 *  reference to blob, and reads it through once for its digest. A compressed one has no diff ID (manifest.h). */
int rootfs_open(struct blob *blob, const char *what, struct source **ret_source, struct error *err);
