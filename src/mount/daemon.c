/* How:
 *
 *      parent                            child
 *      fork -------------------------->  signal thread starts; work begins, stderr is still the terminal
 *      read(pipe) ... passes signals on
 *        <------------------ one byte -  daemon_ready(): setsid, stdio to /dev/null
 *      exit 0                            serves
 *        <-- or end of file, child gone: exit with its code
 *
 * The signal thread reads a signalfd, beside an eventfd that daemon_free() writes to. What has to be done at a signal
 * (unmount, set a flag, wake the loop) may then be ordinary code, which a signal handler may not run.
 *
 * A terminal's Ctrl-C reaches the child by itself, and again from the parent; "timeout" signals a process and its group.
 * So a second signal counts only when it comes later. When the parent dies (kill -9) before the child is ready, its end of
 * the pipe closes, which the signal thread sees and takes for a SIGTERM. */
#include "mount/daemon.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* <syslog.h> has macros of the same names as our topics, so theirs are read before it, and log_warning() is not used here */
static const enum log_topic topic_warning = LOG_WARNING;
#include <syslog.h>

enum { INHERITED_MAX = 256, SECOND_SIGNAL_MS = 1000, AGAIN_MS = 50 };

struct daemon {
        bool forked;
        atomic_bool *cancel; /* borrowed; may be NULL */
        atomic_bool stopping;
        int signal_fd, quit_fd;
        pthread_t thread;
        bool has_thread;
        sigset_t before; /* what was blocked before */
        pthread_mutex_t lock;
        void (*stop)(void *ctx); /* under lock, as is the rest */
        void *stop_ctx;
        bool is_ready;
        int ready_fd;             /* the parent waits at its other end; -1: nobody waits */
        unsigned inherited_count; /* descriptors that came with the exec; set once */
        int inherited[INHERITED_MAX];
};

static const int end_signals[] = {SIGINT, SIGTERM, SIGHUP};

/* stderr is gone: set once by daemon_ready() */
static atomic_bool log_to_syslog;

void daemon_log(enum log_topic topic, const char *line, void *ctx)
{
        (void)ctx;
        /* names out of an image may be in it: they must not start a line of their own, or speak to the terminal */
        char text[1000];
        snprintf(text, sizeof text, "%s", line);
        for (unsigned char *c = (unsigned char *)text; *c; c++)
                if (*c < ' ' || *c == 0x7f)
                        *c = '?';
        if (atomic_load(&log_to_syslog))
                syslog(topic == topic_warning ? LOG_WARNING : LOG_INFO, "%s", text);
        else
                fprintf(stderr, "imagefs: %s\n", text);
}

/* ---- the parent ---- */

static volatile sig_atomic_t child_pid;

static void pass_on(int sig)
{
        int saved = errno;
        kill((pid_t)child_pid, sig);
        errno = saved;
}

static int exit_status(pid_t pid)
{
        int status;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return 1;
        if (WIFEXITED(status))
                return WEXITSTATUS(status);
        fprintf(stderr, "imagefs: the daemon was ended by signal %d (%s)\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
        return 1;
}

/* Signals are blocked when this is called, so that none is lost before the handler stands. */
static int wait_for_child(pid_t pid, int fd, const sigset_t *before)
{
        child_pid = pid;
        for (size_t i = 0; i < ARRAY_LEN(end_signals); i++) {
                struct sigaction old;
                if (sigaction(end_signals[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
                        continue;
                struct sigaction sa = {.sa_handler = pass_on};
                sigaction(end_signals[i], &sa, NULL);
        }
        sigprocmask(SIG_SETMASK, before, NULL);
        char byte;
        ssize_t n;
        do
                n = read(fd, &byte, 1);
        while (n < 0 && errno == EINTR);
        return n == 1 ? 0 : exit_status(pid);
}

/* ---- the process that works ---- */

static int64_t now_ms(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void die_of(int sig)
{
        sigset_t one;
        sigemptyset(&one);
        sigaddset(&one, sig);
        signal(sig, SIG_DFL);
        pthread_sigmask(SIG_UNBLOCK, &one, NULL);
        raise(sig);
}

/* The pipe to the parent while that waits; -1 afterwards. */
static int parent_fd(struct daemon *d)
{
        pthread_mutex_lock(&d->lock);
        int fd = d->is_ready ? -1 : d->ready_fd;
        pthread_mutex_unlock(&d->lock);
        return fd;
}

static void ask_for_end(struct daemon *d)
{
        if (d->cancel)
                atomic_store(d->cancel, true);
        pthread_mutex_lock(&d->lock);
        atomic_store(&d->stopping, true);
        if (d->stop)
                d->stop(d->stop_ctx);
        pthread_mutex_unlock(&d->lock);
}

static void *signal_thread(void *arg)
{
        struct daemon *d = arg;
        int64_t first_ms = -1;
        bool orphan = false;
        for (;;) {
                struct pollfd fds[3] = {
                        {.fd = d->signal_fd, .events = POLLIN},
                        {.fd = d->quit_fd, .events = POLLIN},
                        {.fd = orphan ? -1 : parent_fd(d)},
                };
                bool stopping = atomic_load(&d->stopping);
                if (poll(fds, 3, stopping ? AGAIN_MS : -1) < 0)
                        continue;
                if (fds[1].revents)
                        return NULL;
                if (stopping)
                        ask_for_end(d);
                if (fds[2].revents && parent_fd(d) >= 0) {
                        orphan = true;
                        ask_for_end(d);
                }
                struct signalfd_siginfo info;
                if (!fds[0].revents || read(d->signal_fd, &info, sizeof info) != sizeof info)
                        continue;
                if (first_ms < 0)
                        first_ms = now_ms();
                else if (now_ms() - first_ms >= SECOND_SIGNAL_MS)
                        die_of((int)info.ssi_signo);
                ask_for_end(d);
        }
}

/* Descriptors that are not closed on exec came from outside: our own all are. They are kept until the daemon is ready, as
 * they may be what an option names (/dev/fd/63). */
static void note_inherited(struct daemon *d)
{
        DIR *dir = opendir("/proc/self/fd");
        if (!dir)
                return;
        for (const struct dirent *e; (e = readdir(dir)) && d->inherited_count < INHERITED_MAX;) {
                char *end;
                long fd = strtol(e->d_name, &end, 10);
                if (*end || end == e->d_name || fd <= STDERR_FILENO || fd == dirfd(dir))
                        continue;
                int flags = fcntl((int)fd, F_GETFD);
                if (flags >= 0 && !(flags & FD_CLOEXEC))
                        d->inherited[d->inherited_count++] = (int)fd;
        }
        closedir(dir);
}

static int start_signals(struct daemon *d, const sigset_t *set, struct error *err)
{
        d->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
        d->quit_fd = eventfd(0, EFD_CLOEXEC);
        if (d->signal_fd < 0 || d->quit_fd < 0)
                return error_set(err, -errno, "signals: %s", strerror(errno));
        /* no signal at all for the thread: it reads them */
        sigset_t all, now;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &now);
        int r = pthread_create(&d->thread, NULL, signal_thread, d);
        pthread_sigmask(SIG_SETMASK, &now, NULL);
        if (r)
                return error_set(err, -r, "starting a thread: %s", strerror(r));
        d->has_thread = true;
        return 0;
}

/* 1: the parent, done; 0: the child, or nothing was forked. */
static int fork_off(struct daemon *d, int *ret_status, struct error *err)
{
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_set(err, -errno, "pipe: %s", strerror(errno));
        fflush(NULL); /* what is buffered would be written twice */
        pid_t pid = fork();
        if (pid < 0) {
                int code = errno;
                close(fds[0]);
                close(fds[1]);
                return error_set(err, -code, "fork: %s", strerror(code));
        }
        if (pid > 0) {
                close(fds[1]);
                *ret_status = wait_for_child(pid, fds[0], &d->before);
                close(fds[0]);
                return 1;
        }
        close(fds[0]);
        d->ready_fd = fds[1];
        d->forked = true;
        return 0;
}

int daemon_start(bool foreground, atomic_bool *cancel, struct daemon **ret_daemon, int *ret_status, struct error *err)
{
        cleanup(daemon_freep) struct daemon *d = calloc(1, sizeof *d);
        if (!d)
                return error_nomem(err);
        d->cancel = cancel;
        d->ready_fd = d->signal_fd = d->quit_fd = -1;
        pthread_mutex_init(&d->lock, NULL);

        sigset_t set;
        sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_LEN(end_signals); i++) {
                struct sigaction sa;
                if (sigaction(end_signals[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
                        sigaddset(&set, end_signals[i]);
        }
#ifdef __GLIBC__
        mallopt(M_ARENA_MAX, 4); /* or each thread makes one of its own, and memory is lost between them */
#endif
        sigprocmask(SIG_BLOCK, &set, &d->before);
        signal(SIGPIPE, SIG_IGN);
        if (!foreground) {
                note_inherited(d);
                int r = fork_off(d, ret_status, err);
                if (r)
                        return r;
        }
        int r = start_signals(d, &set, err);
        if (r < 0)
                return r;
        *ret_daemon = take(d);
        return 0;
}

void daemon_ready(struct daemon *d)
{
        pthread_mutex_lock(&d->lock);
        bool first = !d->is_ready;
        d->is_ready = true;
        pthread_mutex_unlock(&d->lock);
        if (!first || !d->forked)
                return;
        setsid();
        if (chdir("/") < 0)
                log_line(topic_warning, "chdir /: %s", strerror(errno));
        umask(0);
        fflush(NULL);
        openlog("imagefs", LOG_PID, LOG_DAEMON);
        atomic_store(&log_to_syslog, true);
        for (unsigned i = 0; i < d->inherited_count; i++)
                close(d->inherited[i]);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
                dup2(null, fd);
        if (null > STDERR_FILENO)
                close(null);
        /* a parent that is gone does not matter any more */
        ssize_t n = write(d->ready_fd, "", 1);
        (void)n;
        closep(&d->ready_fd);
}

bool daemon_stopping(const struct daemon *d)
{
        return atomic_load(&d->stopping);
}

void daemon_on_stop(struct daemon *d, void (*fn)(void *ctx), void *ctx)
{
        pthread_mutex_lock(&d->lock);
        d->stop = fn;
        d->stop_ctx = ctx;
        pthread_mutex_unlock(&d->lock);
}

void daemon_free(struct daemon *d)
{
        if (!d)
                return;
        if (d->has_thread) {
                uint64_t one = 1;
                while (write(d->quit_fd, &one, sizeof one) < 0 && errno == EINTR)
                        ;
                pthread_join(d->thread, NULL);
        }
        closep(&d->signal_fd);
        closep(&d->quit_fd);
        closep(&d->ready_fd);
        pthread_mutex_destroy(&d->lock);
        free(d);
}
