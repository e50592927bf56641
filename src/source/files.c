/* How: paths are relative and have no "..", so that a name from a document cannot walk out of the directory; symlinks are
 * the directory owner's own doing, and are followed. A FIFO or device is opened without waiting, seen for what it is, and
 * refused. */
#include "source/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct dir_files {
        struct files base;
        int fd;
        char *path;
};

static bool is_safe(const char *path)
{
        if (path[0] == '/' || path[0] == '\0')
                return false;
        while (*path) {
                size_t len = strcspn(path, "/");
                if (len == 2 && !memcmp(path, "..", 2))
                        return false;
                path += len + (path[len] == '/');
        }
        return true;
}

static int dir_open(struct files *f, const char *path, struct blob **ret_blob, struct error *err)
{
        struct dir_files *d = (struct dir_files *)f;
        struct stat st;
        if (!is_safe(path))
                return error_set(err, -EINVAL, "%s: \"%.200s\" is not a path inside", d->path, path);
        cleanup(closep) int fd = openat(d->fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return error_set(err, -errno, "%s/%.200s: %s", d->path, path, strerror(errno));
        if (fstat(fd, &st) < 0)
                return error_set(err, -errno, "%s/%.200s: %s", d->path, path, strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, -EINVAL, "%s/%.200s: is not a regular file", d->path, path);
        return blob_new_fd(take_fd(&fd), ret_blob, err);
}

static void dir_close(struct files *f)
{
        struct dir_files *d = (struct dir_files *)f;
        closep(&d->fd);
        free(d->path);
        free(d);
}

int files_open_dir(const char *path, struct files **ret_files, struct error *err)
{
        cleanup(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
        if (fd < 0)
                return error_set(err, -errno, "%s: %s", path, strerror(errno));
        struct dir_files *d = calloc(1, sizeof *d);
        char *copy = strdup(path);
        if (!d || !copy) {
                free(d);
                free(copy);
                return error_nomem(err);
        }
        *d = (struct dir_files){.base = {.open = dir_open, .close = dir_close}, .fd = take_fd(&fd), .path = copy};
        *ret_files = &d->base;
        return 0;
}

int files_read(struct files *f, const char *path, struct buf *out, struct error *err)
{
        cleanup(blob_unrefp) struct blob *blob = NULL;
        int r = f->open(f, path, &blob, err);
        if (r < 0)
                return r;
        if (blob_size(blob) > out->max - out->len)
                return error_set(err, -EFBIG, "%.200s: has more than %zu bytes", path, out->max);
        size_t len = (size_t)blob_size(blob);
        void *at = buf_extend(out, len);
        if (!at)
                return error_nomem(err);
        return len ? blob_read_all(blob, at, len, 0, err) : 0;
}
