/* How: include/imagefs.h in terms of image.h and tree.h; every inode number from outside is checked here. */
#include "imagefs.h"

#include <errno.h>
#include <string.h>

#include "image/image.h"

/* the public name of struct image */
static const struct tree *tree_of(const struct imagefs *im)
{
        return image_tree((const struct image *)im);
}

static int give_error(const struct error *e, struct imagefs_error *err)
{
        _Static_assert(sizeof err->message == sizeof e->msg, "one length for both");
        if (err) {
                err->code = e->code;
                memcpy(err->message, e->msg, sizeof err->message);
        }
        return e->code;
}

int imagefs_open(const char *reference, const struct imagefs_options *options, struct imagefs **ret_image,
        struct imagefs_error *err)
{
        struct imagefs_options o = {0};
        if (options)
                memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
        struct image_options io = {
                .platform = o.platform,
                .cache_dir = o.cache_dir,
                .cache_size = o.cache_size,
                .memory = o.memory,
                .offline = o.offline,
                .registry = {.authfile = o.authfile, .creds = o.creds, .tls_verify = o.insecure ? 0 : -1},
        };
        struct error e = {0};
        struct image *image;
        e.code = image_open(reference, &io, &image, &e);
        if (e.code < 0)
                return give_error(&e, err);
        *ret_image = (struct imagefs *)image;
        return 0;
}

void imagefs_close(struct imagefs *im)
{
        image_close((struct image *)im);
}

int imagefs_resolve(const struct imagefs *im, const char *path, int follow_last, uint32_t *ret_ino)
{
        return tree_resolve(tree_of(im), path, follow_last, ret_ino);
}

uint32_t imagefs_lookup(const struct imagefs *im, uint32_t dir, const char *name, size_t name_len)
{
        return tree_valid(tree_of(im), dir) ? tree_lookup(tree_of(im), dir, name, name_len) : 0;
}

int imagefs_attr(const struct imagefs *im, uint32_t ino, struct imagefs_attr *ret_attr)
{
        if (!tree_valid(tree_of(im), ino))
                return -EINVAL;
        struct tree_attr a;
        tree_attr(tree_of(im), ino, &a);
        *ret_attr = (struct imagefs_attr){
                .mode = a.mode,
                .nlink = a.nlink,
                .uid = a.uid,
                .gid = a.gid,
                .rdev_major = a.rdev_major,
                .rdev_minor = a.rdev_minor,
                .size = a.size,
                .mtime_s = a.mtime_s,
                .mtime_ns = a.mtime_ns,
        };
        return 0;
}

const char *imagefs_symlink(const struct imagefs *im, uint32_t ino)
{
        return tree_valid(tree_of(im), ino) ? tree_symlink(tree_of(im), ino) : NULL;
}

uint32_t imagefs_dir_count(const struct imagefs *im, uint32_t ino)
{
        return tree_valid(tree_of(im), ino) ? tree_dir_count(tree_of(im), ino) : 0;
}

int imagefs_dir_entry(const struct imagefs *im, uint32_t ino, uint32_t i, struct imagefs_dirent *ret_dirent)
{
        if (i >= imagefs_dir_count(im, ino))
                return -EINVAL;
        struct tree_dirent d;
        tree_dir_entry(tree_of(im), ino, i, &d);
        *ret_dirent = (struct imagefs_dirent){.name = d.name, .name_len = d.name_len, .ino = d.ino};
        return 0;
}

ssize_t imagefs_read(
        const struct imagefs *im, uint32_t ino, void *data, size_t len, uint64_t off, struct imagefs_error *err)
{
        struct error e = {.code = -EINVAL, .msg = "no such inode"};
        if (!tree_valid(tree_of(im), ino))
                return give_error(&e, err);
        ssize_t n = tree_read(tree_of(im), ino, data, len, off, &e);
        return n < 0 ? give_error(&e, err) : n;
}

ssize_t imagefs_xattr(const struct imagefs *im, uint32_t ino, const char *name, void *value, size_t len)
{
        if (!tree_valid(tree_of(im), ino))
                return -EINVAL;
        for (uint32_t i = 0; i < tree_xattr_count(tree_of(im), ino); i++) {
                struct index_xattr x;
                tree_xattr(tree_of(im), ino, i, &x);
                if (strcmp(x.name, name) != 0)
                        continue;
                if (len)
                        memcpy(value, x.value, x.value_len < len ? x.value_len : len);
                return (ssize_t)x.value_len;
        }
        return -ENODATA;
}

char *imagefs_config(const struct imagefs *im)
{
        return json_text(image_manifest((const struct image *)im)->config_json, false);
}
