#pragma once
/**
 * A process that becomes a daemon late: it is forked first, before any thread exists, works in sight of the terminal
 * (messages, Ctrl-C) until it is ready, and only then lets go. The parent waits for that moment, so that its exit code is
 * the truth; it passes on the signals that it gets.
 *
 * Also the signals: SIGINT, SIGTERM and SIGHUP are blocked everywhere and taken by one thread, which sets a flag that long
 * work looks at, and calls a function that ends the service. A second signal, a second later or more, kills.
 *
 *      struct daemon *d;
 *      int status;
 *      r = daemon_start(foreground, &progress.cancel, &d, &status, &err);
 *      if (r > 0)
 *              return status;          // the parent; the child has said what there was to say
 *      ... image_open(), session_serve(), which calls daemon_ready() ...
 *      daemon_free(d);
 *
 * One process has one daemon; daemon_start() is called while it has one thread. The rest: any thread.
 */
#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

struct daemon;

/**
 * Forks, unless foreground. 0 in the process that works; 1 in the parent, once the child is ready or gone, with the exit
 * code to leave with in *ret_status; -errno. cancel is set at the first signal (NULL: none), and must live as long as the
 * daemon. Signals that were ignored when the program started (nohup) stay ignored.
 */
int daemon_start(bool foreground, atomic_bool *cancel, struct daemon **ret_daemon, int *ret_status, struct error *err);

/**
 * The service is usable: a forked process gets a session of its own, "/" as its directory, /dev/null as stdin, stdout and
 * stderr; it closes what descriptors it inherited, logs to syslog from now on, and its parent returns 0. In the foreground
 * nothing happens. Does nothing the second time.
 */
void daemon_ready(struct daemon *d);

/** Has a signal asked for the end? */
bool daemon_stopping(const struct daemon *d);

/**
 * fn is called by the signal thread when a signal asks for the end, and from then on every 50 ms until it is taken back by
 * fn NULL; when that returns, fn is not running any more.
 */
void daemon_on_stop(struct daemon *d, void (*fn)(void *ctx), void *ctx);

/** Ends the signal thread. */
void daemon_free(struct daemon *d);
DEFINE_CLEANUP(struct daemon, daemon_free);

/** A sink for log_setup(): stderr, with "imagefs: " in front, until daemon_ready() turned a forked process away from it;
 *  then syslog. Control characters come out as "?". ctx is not used. */
void daemon_log(enum log_topic topic, const char *line, void *ctx);
