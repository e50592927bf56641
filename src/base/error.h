#pragma once
/**
 * How a failure travels: a negative errno as the return value, and beside it, if the caller wants one, a sentence.
 *
 * A struct error lives on the caller's stack, so reporting never allocates. Each level may put its own words in front
 * ("layer 3: index: bad checksum"); only mount/ and cli/ print. A NULL error means that only the code is wanted.
 *
 * The vocabulary (everything else is the errno of the system call that failed):
 *   -EBADMSG     bytes are not what they claim to be: a digest or a format does not fit
 *   -EPROTO      the server's answer makes no sense
 *   -ENOENT      no such image, tag, path
 *   -EACCES      the registry wants a login, or refuses the one it got
 *   -ETIMEDOUT, -ENETUNREACH   the network, after the retries
 *   -EFBIG       one of our own limits
 *   -EOPNOTSUPP  a feature or a platform that is not there
 *   -ECANCELED   the user or a shutdown stopped the work
 *
 * Thread safety: a struct error belongs to one thread.
 */
#include <stdarg.h>

struct error {
        int code;      /* 0, or the negative errno of the last error_set() */
        char msg[600]; /* what failed, on what, what to do; always NUL-terminated */
};

/** Records code and message, and returns code, so that `return error_set(err, -EIO, ...)` is one line. err may be NULL. */
int error_set(struct error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int error_setv(struct error *err, int code, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

/** Puts "fmt: " in front of the message that err has, and returns code. err may be NULL. */
int error_wrap(struct error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** "out of memory" with -ENOMEM. */
int error_nomem(struct error *err);
