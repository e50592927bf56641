#pragma once
/**
 * Images without a registry: an OCI layout (image-spec image-layout.md), or what `docker save` writes, over a tree of files
 * that may be a directory or lie in an archive. Two sources, one view of the files.
 */
#include "base/error.h"
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

/** OCI layout over files; takes ownership of files, also on failure. ref: which of the images. what: for messages. */
int layout_open(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err);

/** docker-archive over files (manifest.json); takes ownership of files, also on failure. The source makes an OCI manifest of
 *  what it finds: layers whose digest is not known until they are read carry the digest that their diff ID or name says. */
int archive_open(struct files *files, const struct reference *ref, const char *what, struct source **ret_source,
        struct error *err);
