#pragma once
/**
 * A mount of an image, from its mountpoint's check to its end. The order of a program:
 *
 *      session_new()     before anything is fetched: the mountpoint and the options are fine, or the error comes at once
 *      daemon_start()    forks (daemon.h); all threads come after it
 *      image_open()
 *      session_serve()   mounts, calls daemon_ready(), serves until unmounted or signalled, unmounts
 *      session_free()
 *
 * One thread at a time, but for what daemon.h says of signals. Only mount/ uses libfuse.
 */
#include <stdbool.h>

#include "base/error.h"
#include "base/mem.h"
#include "image/image.h"
#include "mount/daemon.h"
#include "mount/mountpoint.h"

struct session;

struct session_options {
        const char *options; /* what -o said, comma-separated; NULL: nothing */
        const char *fsname;  /* what df and mount show as the source; NULL: the image's full name */
        unsigned threads;    /* at most; 0: SESSION_THREADS */
};

/* Threads are started when all others are busy. A thread that waits for the network holds up only its reader as long as
 * there are more, so it is many. */
enum { SESSION_THREADS = 16 };

/**
 * Checks what can be checked before there is an image. Everything is copied. -EINVAL: an option is unknown (usage); -EPERM
 * for allow_other that /etc/fuse.conf does not allow; else as mountpoint_check().
 */
int session_new(
        const char *mountpoint, const struct session_options *options, struct session **ret_session, struct error *err);
void session_free(struct session *s);
DEFINE_CLEANUP(struct session, session_free);

/** The mountpoint's full path; borrowed. */
const char *session_mountpoint(const struct session *s);

/** A line for a plain user whose mount root and others cannot enter, with what to do; NULL when they can. Static text. */
const char *session_hint(const struct session *s);

/**
 * Mounts the image, tells d that it is usable, serves; returns 0 when it was unmounted (by umount, fusermount3 -u, a
 * signal), and nothing is mounted any more. -ECANCELED: a signal came before the mount. Other errors: it could not be mounted,
 * or the connection broke. The image is borrowed and may be closed afterwards.
 */
int session_serve(struct session *s, struct image *image, struct daemon *d, struct error *err);
