#ifndef IMAGEFS_H
#define IMAGEFS_H
/**
 * libimagefs: open a container image, walk it, read it, without unpacking it and without a container engine.
 *
 *      struct imagefs_error err;
 *      struct imagefs *im;
 *      if (imagefs_open("library/alpine:latest", NULL, &im, &err) < 0) { fputs(err.message, stderr); ... }
 *      uint32_t ino;
 *      if (imagefs_resolve(im, "/etc/os-release", 1, &ino) == 0)
 *              n = imagefs_read(im, ino, buffer, sizeof buffer, 0, &err);
 *      imagefs_close(im);
 *
 * Functions that can fail return 0 (or a count) or a negative errno; -EBADMSG means that bytes are not what their digest
 * says. An open image is immutable: all functions on it may be called from any thread. Strings that are returned belong to
 * the image and live as long as it.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMAGEFS_API __attribute__((visibility("default")))

/** The root directory's inode. */
#define IMAGEFS_ROOT 1u

struct imagefs; /* an open image */

struct imagefs_error {
        int code;          /* negative errno */
        char message[600]; /* one sentence, NUL-terminated */
};

/** Zero means the default for every field. */
struct imagefs_options {
        size_t size;           /* sizeof(struct imagefs_options), so that fields can be added */
        const char *platform;  /* "linux/arm64"; NULL: this machine's */
        const char *cache_dir; /* NULL: the user's; "none": keep nothing */
        uint64_t cache_size;   /* bytes that the cache may take */
        uint64_t memory;       /* bytes of inflated data kept in memory */
        int offline;           /* ask no registry */
        const char *authfile;  /* credentials file */
        const char *creds;     /* USER[:PASSWORD] */
        int insecure;          /* do not check certificates, allow http */
};

struct imagefs_attr {
        uint32_t mode; /* type and permissions, as in st_mode */
        uint32_t nlink;
        uint32_t uid, gid;
        uint32_t rdev_major, rdev_minor;
        uint64_t size; /* bytes */
        int64_t mtime_s;
        uint32_t mtime_ns;
};

struct imagefs_dirent {
        const char *name; /* not NUL-terminated */
        uint32_t name_len;
        uint32_t ino;
};

/**
 * Opens an image by reference (a name as docker and podman take it, oci:DIR, docker-archive:FILE, ...). The first time a
 * layer is seen it is read whole; its index is kept in the cache. options may be NULL; err may be NULL.
 * -ENOENT: no such image; -EACCES: login needed; -ENETUNREACH, -ETIMEDOUT: network; -EBADMSG; -EOPNOTSUPP: platform.
 */
IMAGEFS_API int imagefs_open(const char *reference, const struct imagefs_options *options, struct imagefs **ret_image,
        struct imagefs_error *err);
IMAGEFS_API void imagefs_close(struct imagefs *im);

/** Inode of a path, symlinks followed as inside a chroot; follow_last: also the last component's. -ENOENT, -ENOTDIR, -ELOOP. */
IMAGEFS_API int imagefs_resolve(const struct imagefs *im, const char *path, int follow_last, uint32_t *ret_ino);

/** Inode of a name in a directory; 0: none. */
IMAGEFS_API uint32_t imagefs_lookup(const struct imagefs *im, uint32_t dir, const char *name, size_t name_len);

/** -EINVAL: no such inode. */
IMAGEFS_API int imagefs_attr(const struct imagefs *im, uint32_t ino, struct imagefs_attr *ret_attr);

/** Target of a symlink, NUL-terminated; NULL when it is none. */
IMAGEFS_API const char *imagefs_symlink(const struct imagefs *im, uint32_t ino);

/** Names in a directory, without "." and ".."; entry i of them. -EINVAL: not that many. */
IMAGEFS_API uint32_t imagefs_dir_count(const struct imagefs *im, uint32_t ino);
IMAGEFS_API int imagefs_dir_entry(
        const struct imagefs *im, uint32_t ino, uint32_t i, struct imagefs_dirent *ret_dirent);

/** Up to len bytes of a file at off, fewer only at its end; verified before they are given. The count or -errno. */
IMAGEFS_API ssize_t imagefs_read(
        const struct imagefs *im, uint32_t ino, void *data, size_t len, uint64_t off, struct imagefs_error *err);

/** Value of an extended attribute: its length, of which at most len bytes are written. -ENODATA. */
IMAGEFS_API ssize_t imagefs_xattr(const struct imagefs *im, uint32_t ino, const char *name, void *value, size_t len);

/** The image's config (image-spec config.md) as JSON text; free() it. NULL when out of memory. */
IMAGEFS_API char *imagefs_config(const struct imagefs *im);

#ifdef __cplusplus
}
#endif
#endif
