#pragma once
/**
 * A directory that something is or will be mounted on: may it be used, what is there, take it away, ask it. Nothing here
 * needs the daemon in this process, or libfuse. Any thread.
 */
#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

/** What is mounted at a path: the topmost, if several are. */
struct mountpoint_info {
        char type[64];    /* "fuse.imagefs" for ours */
        char source[512]; /* the image, cut if need be */
        unsigned major, minor;
};

/** The full path, without symlinks, also of a mount whose daemon is gone; free() it. -ENOENT, -ENOTDIR, -EACCES. */
int mountpoint_resolve(const char *path, char **ret_path, struct error *err);

/** Is something mounted at just this full path? 1, 0 or -errno. */
int mountpoint_find(const char *path, struct mountpoint_info *ret_info);

/** The same over text in the form of /proc/self/mountinfo. */
int mountpoint_find_in(FILE *mountinfo, const char *path, struct mountpoint_info *ret_info);

/**
 * May an image be mounted at this full path, by this user? -ENOTDIR, -EACCES, -ENOTEMPTY and -EBUSY (unless nonempty),
 * -ENOTCONN (a mount there has lost its daemon), and for /dev/fuse -ENODEV, -EPERM; the message says what to do.
 */
int mountpoint_check(const char *path, bool nonempty, struct error *err);

/**
 * `imagefs umount`: ends the mount at a path, and with it its daemon. lazy: also when it is in use, gone at once for
 * newcomers. -EINVAL: no imagefs mount; -EBUSY; -EPERM.
 */
int mountpoint_umount(const char *path, bool lazy, struct error *err);

/** `imagefs stat`: image_stat() of the daemon behind a mount, JSON text; free() it. -EINVAL: no imagefs mount. */
int mountpoint_stat(const char *path, char **ret_json, struct error *err);

/** Will fusermount3 let a plain user give -o allow_other? Reads /etc/fuse.conf. */
bool mountpoint_others_allowed(void);
