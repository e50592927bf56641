/* How: libfuse mounts (root by itself, others through fusermount3) and runs its threads over our operations (fuse.c).
 *
 * The end is ours, as libfuse's own handling of signals waits until every request is answered before it unmounts, and
 * a request may wait for the network. So the signal thread (daemon.c) first takes the mount away, lazily, so that nobody
 * else comes in; then marks the session as ended and wakes the loop, which joins its threads. Processes that still have
 * files open on the mount get ENOTCONN when the descriptors of /dev/fuse are closed.
 *
 * Before it takes a mount away, it looks whether the topmost mount at the path still is its own (the device number), as
 * somebody may have unmounted and mounted something else there.
 *
 * Words that libfuse and fusermount3 print while mounting are caught, so that one line comes out, ours. */
#include "mount/session.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "mount/fuse.h"
#include "mount/options.h"

struct session {
        char *mountpoint; /* full path */
        char *fsname;     /* NULL: the image's name */
        struct options options;
        unsigned threads;
        struct fuse_server server;
        struct fuse_session *fuse;
        struct daemon *daemon;
        pthread_t loop_thread; /* who sits in libfuse's loop */
        unsigned major, minor; /* of our mount */
        atomic_bool mounted;
};

/* ---- what libfuse says ---- */

/* libfuse's log has no context, so the last words are kept here; only one session at a time mounts. */
static pthread_mutex_t words_lock = PTHREAD_MUTEX_INITIALIZER;
static char words[512];   /* under words_lock */
static bool words_wanted; /* under words_lock: while mounting */

__attribute__((format(printf, 2, 0))) static void on_fuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
        char line[sizeof words];
        vsnprintf(line, sizeof line, fmt, ap);
        line[strcspn(line, "\n")] = '\0';
        pthread_mutex_lock(&words_lock);
        bool keep = words_wanted;
        if (keep && !*words)
                memcpy(words, line, sizeof words);
        pthread_mutex_unlock(&words_lock);
        if (!keep && level <= FUSE_LOG_ERR)
                log_warning("%s", line);
}

struct capture {
        int saved; /* the real stderr; -1: nothing is caught */
        int file;
};

/* From now on libfuse's words and what its child writes to stderr are kept. */
static void capture_start(struct capture *c)
{
        pthread_mutex_lock(&words_lock);
        *words = '\0';
        words_wanted = true;
        pthread_mutex_unlock(&words_lock);
        fflush(stderr);
        c->saved = -1;
        c->file = memfd_create("imagefs-stderr", MFD_CLOEXEC);
        if (c->file < 0)
                return;
        c->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        if (c->saved >= 0)
                dup2(c->file, STDERR_FILENO);
}

/* The first line that was said, "" if none; a child's words are better than libfuse's. */
static void capture_end(struct capture *c, char *text, size_t room)
{
        *text = '\0';
        if (c->saved >= 0) {
                fflush(stderr);
                dup2(c->saved, STDERR_FILENO);
                close(c->saved);
                ssize_t n = pread(c->file, text, room - 1, 0);
                text[n > 0 ? n : 0] = '\0';
                text[strcspn(text, "\n")] = '\0';
        }
        if (c->file >= 0)
                close(c->file);
        pthread_mutex_lock(&words_lock);
        words_wanted = false;
        if (!*text)
                snprintf(text, room, "%.*s", (int)room - 1, words);
        pthread_mutex_unlock(&words_lock);
}

/* ---- before there is an image ---- */

int session_new(
        const char *mountpoint, const struct session_options *options, struct session **ret_session, struct error *err)
{
        cleanup(session_freep) struct session *s = calloc(1, sizeof *s);
        if (!s)
                return error_nomem(err);
        int r = options_parse(&s->options, options->options, err);
        if (r < 0)
                return r;
        bool root = geteuid() == 0;
        if (!root && (s->options.allow_other || s->options.allow_root) && !mountpoint_others_allowed())
                return error_set(
                        err, -EPERM, "-o allow_other is for root, unless a line user_allow_other is in /etc/fuse.conf");
        if (root && !s->options.allow_root)
                s->options.allow_other = true;
        /* Whoever lets others in wants owners and modes to hold. One who is alone may read all of an image that is
         * theirs anyway, so that tar of the whole mount works. */
        if (root || s->options.allow_other || s->options.allow_root)
                s->options.default_permissions = true;
        r = mountpoint_resolve(mountpoint, &s->mountpoint, err);
        if (r < 0)
                return r;
        r = mountpoint_check(s->mountpoint, s->options.nonempty, err);
        if (r < 0)
                return r;
        if (options->fsname && !(s->fsname = strdup(options->fsname)))
                return error_nomem(err);
        s->threads = options->threads ? options->threads : SESSION_THREADS;
        *ret_session = take(s);
        return 0;
}

void session_free(struct session *s)
{
        if (!s)
                return;
        options_done(&s->options);
        free(s->mountpoint);
        free(s->fsname);
        free(s);
}

const char *session_mountpoint(const struct session *s)
{
        return s->mountpoint;
}

const char *session_hint(const struct session *s)
{
        if (geteuid() == 0 || s->options.allow_other || s->options.allow_root)
                return NULL;
        if (mountpoint_others_allowed())
                return "root and other users cannot enter this mount; -o allow_other lets them in";
        return "root and other users (sudo chroot, too) cannot enter this mount: as root, put a line user_allow_other "
               "into "
               "/etc/fuse.conf, then use -o allow_other";
}

/* ---- mounting ---- */

/* "-o" and all options for libfuse: ours, then what was asked for. */
static int mount_arguments(const struct session *s, const char *name, struct buf *text)
{
        buf_adds(text, "ro,subtype=imagefs,fsname=");
        for (const char *c = s->fsname ? s->fsname : name; *c; c++) {
                if (*c == ',' || *c == '\\')
                        buf_addc(text, '\\');
                buf_addc(text, *c);
        }
        const struct options *o = &s->options;
        buf_adds(text, o->suid ? ",suid" : ",nosuid");
        buf_adds(text, o->dev ? ",dev" : ",nodev");
        buf_adds(text, o->allow_other ? ",allow_other" : o->allow_root ? ",allow_root" : "");
        buf_adds(text, o->default_permissions ? ",default_permissions" : "");
        buf_adds(text, buf_str(&o->pass));
        return buf_error(text);
}

static int make_mount(struct session *s, const char *name, struct error *err)
{
        struct buf text;
        buf_init(&text, 2 * OPTIONS_MAX);
        int r = mount_arguments(s, name, &text);
        char program[] = "imagefs", dash_o[] = "-o";
        char *argv[] = {program, dash_o, text.data, NULL};
        struct fuse_args args = FUSE_ARGS_INIT(3, argv);
        if (!r) {
                struct capture capture;
                char said[300];
                capture_start(&capture);
                s->fuse = fuse_session_new(&args, &fuse_server_ops, sizeof fuse_server_ops, &s->server);
                bool ok = s->fuse && fuse_session_mount(s->fuse, s->mountpoint) == 0;
                capture_end(&capture, said, sizeof said);
                if (!ok)
                        r = error_set(err, -EPERM, "mounting on %s: %s%s", s->mountpoint,
                                *said ? said : "libfuse failed",
                                strstr(said, "not permitted")
                                        ? "; in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN"
                                        : "");
        } else {
                error_nomem(err);
        }
        buf_done(&text);
        fuse_opt_free_args(&args);
        return r;
}

/* Is the topmost mount at the path ours? */
static bool still_there(const struct session *s)
{
        struct mountpoint_info info;
        return mountpoint_find(s->mountpoint, &info) == 1 && info.major == s->major && info.minor == s->minor;
}

static void note_mounted(struct session *s)
{
        struct mountpoint_info info;
        if (mountpoint_find(s->mountpoint, &info) == 1) {
                s->major = info.major;
                s->minor = info.minor;
        }
        atomic_store(&s->mounted, true);
}

/* Takes our mount away, once; what is open stays so. From the signal thread or from the end of the loop. */
static void unmount(struct session *s)
{
        if (!atomic_exchange(&s->mounted, false) || !still_there(s))
                return;
        struct error err = {0};
        if (mountpoint_umount(s->mountpoint, true, &err) < 0)
                log_warning("%s: %s", s->mountpoint, err.msg);
}

/* ---- the loop and its end ---- */

static void on_wake(int sig)
{
        (void)sig;
}

/* On the signal thread, again and again until the loop has ended: libfuse waits in sem_wait(), which a signal interrupts,
 * but it may come just before the wait. */
static void stop(void *ctx)
{
        struct session *s = ctx;
        unmount(s);
        fuse_session_exit(s->fuse);
        pthread_kill(s->loop_thread, SIGUSR1);
}

static void ready(void *ctx)
{
        struct session *s = ctx;
        daemon_ready(s->daemon);
}

static int run_loop(struct session *s)
{
#if FUSE_MINOR_VERSION >= 12
        struct fuse_loop_config *config = fuse_loop_cfg_create();
        if (!config)
                return -ENOMEM;
        fuse_loop_cfg_set_clone_fd(config, 1);
        fuse_loop_cfg_set_max_threads(config, s->threads);
        fuse_loop_cfg_set_idle_threads(config, s->threads); /* all: threads are not destroyed for being idle */
        int r = fuse_session_loop_mt(s->fuse, config);
        fuse_loop_cfg_destroy(config);
        return r;
#else
        struct fuse_loop_config config = {.clone_fd = 1, .max_idle_threads = s->threads};
        return fuse_session_loop_mt(s->fuse, &config);
#endif
}

static int serve_mounted(struct session *s, struct error *err)
{
        struct sigaction sa = {.sa_handler = on_wake};
        sigaction(SIGUSR1, &sa, NULL);
        s->loop_thread = pthread_self();
        daemon_on_stop(s->daemon, stop, s);
        int r = run_loop(s);
        daemon_on_stop(s->daemon, NULL, NULL);
        unmount(s);
        if (r < 0)
                return error_set(err, r, "%s: serving: %s", s->mountpoint, strerror(-r));
        return 0;
}

/* libfuse frees its copy of the path only when it unmounts. That must not happen, as what is mounted at the path may be
 * somebody else's by now; but when the connection is dead it does no more than free. So the device is closed and a broken
 * pipe put in its place, which looks just like that. */
static void end_session(struct session *s)
{
        int fds[2];
        if (fuse_session_fd(s->fuse) >= 0 && pipe2(fds, O_CLOEXEC) == 0) {
                close(fds[0]);
                if (dup3(fds[1], fuse_session_fd(s->fuse), O_CLOEXEC) >= 0)
                        fuse_session_unmount(s->fuse);
                close(fds[1]);
        }
        fuse_session_destroy(take(s->fuse));
}

int session_serve(struct session *s, struct image *image, struct daemon *d, struct error *err)
{
        if (daemon_stopping(d))
                return error_set(err, -ECANCELED, "interrupted");
#ifdef __GLIBC__
        malloc_trim(0); /* what opening the image left behind */
#endif
        fuse_set_log_func(on_fuse_log);
        fuse_server_init(&s->server, image);
        s->server.checks = s->options.default_permissions;
        s->server.ready = ready;
        s->server.ready_ctx = s;
        s->daemon = d;
        int r = make_mount(s, image_name(image), err);
        if (r == 0) {
                note_mounted(s);
                r = serve_mounted(s, err);
        }
        if (s->fuse)
                end_session(s);
        return r;
}
