/* Each test runs a whole program in a child: what it does before and after it is ready is told over a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "mount/daemon.h"

static int told[2];        /* close-on-exec, so the daemon keeps it */
static int inherited = -1; /* not so: the daemon closes it */

static void tell(char c)
{
        CHECK(write(told[1], &c, 1) == 1);
}

/* The next word of the program; 0: there is none in ten seconds, or nobody is left to say one. */
static char hear(void)
{
        struct pollfd p = {.fd = told[0], .events = POLLIN};
        char c = 0;
        return poll(&p, 1, 10000) == 1 && read(told[0], &c, 1) == 1 ? c : 0;
}

/* Starts a program whose worker runs `work` and then ends with 9. */
static pid_t start(bool foreground, void (*work)(struct daemon *d, atomic_bool *cancel))
{
        CHECK(pipe2(told, O_CLOEXEC) == 0);
        inherited = open("/dev/null", O_RDONLY); /* NOLINT(android-cloexec-open) */
        fflush(NULL);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
                static atomic_bool cancel;
                struct daemon *d = NULL;
                int status = 0;
                close(told[0]);
                int r = daemon_start(foreground, &cancel, &d, &status, NULL);
                if (r == 0)
                        work(d, &cancel);
                daemon_free(d);
                _exit(r == 0 ? 9 : status);
        }
        close(told[1]);
        close(inherited);
        return pid;
}

static int ended(pid_t pid)
{
        int status;
        CHECK(waitpid(pid, &status, 0) == pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void fail(struct daemon *d, atomic_bool *cancel)
{
        (void)d;
        (void)cancel;
}

TEST(exit_code_of_the_child)
{
        CHECK_INT(ended(start(false, fail)), 9);
        CHECK_INT(ended(start(true, fail)), 9);
}

static void crash(struct daemon *d, atomic_bool *cancel)
{
        (void)d;
        (void)cancel;
        kill(getpid(), SIGKILL);
}

TEST(child_that_is_killed)
{
        CHECK_INT(ended(start(false, crash)), 1);
}

static void become_ready(struct daemon *d, atomic_bool *cancel)
{
        (void)cancel;
        tell(fcntl(inherited, F_GETFD) >= 0 ? 'k' : 'c');
        daemon_ready(d);
        daemon_ready(d);
        tell(fcntl(inherited, F_GETFD) >= 0 ? 'k' : 'c');
        tell(getsid(0) == getpid() ? 's' : '-');
        char cwd[100];
        tell(getcwd(cwd, sizeof cwd) && strcmp(cwd, "/") == 0 ? '/' : '-');
        struct stat out, null;
        tell(fstat(STDERR_FILENO, &out) == 0 && stat("/dev/null", &null) == 0 && out.st_rdev == null.st_rdev ? 'n'
                                                                                                             : '-');
        tell(umask(0) == 0 ? 'u' : '-');
}

TEST(ready)
{
        CHECK_INT(ended(start(false, become_ready)), 0);
        for (const char *want = "kcs/nu"; *want; want++)
                CHECK_INT(hear(), *want);
        CHECK_INT(hear(), 0);
}

static void wait_for_cancel(struct daemon *d, atomic_bool *cancel)
{
        tell('w');
        while (!atomic_load(cancel))
                usleep(1000);
        while (!daemon_stopping(d))
                usleep(1000);
        tell('x');
}

TEST(parent_passes_signals_on)
{
        static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
        for (int i = 0; i < 6; i++) {
                pid_t pid = start(i & 1, wait_for_cancel);
                CHECK_INT(hear(), 'w');
                kill(pid, signals[i / 2]);
                CHECK_INT(hear(), 'x');
                CHECK_INT(ended(pid), 9);
        }
}

TEST(parent_is_killed)
{
        pid_t pid = start(false, wait_for_cancel);
        CHECK_INT(hear(), 'w');
        kill(pid, SIGKILL);
        CHECK_INT(ended(pid), -SIGKILL);
        CHECK_INT(hear(), 'x');
}

TEST(ignored_stays_ignored)
{
        signal(SIGHUP, SIG_IGN);
        pid_t pid = start(false, wait_for_cancel);
        signal(SIGHUP, SIG_DFL);
        CHECK_INT(hear(), 'w');
        kill(pid, SIGHUP);
        struct pollfd p = {.fd = told[0], .events = POLLIN};
        CHECK_INT(poll(&p, 1, 100), 0);
        kill(pid, SIGTERM);
        CHECK_INT(hear(), 'x');
        CHECK_INT(ended(pid), 9);
}

static atomic_int stops;

static void count_stop(void *ctx)
{
        CHECK(ctx == &stops);
        atomic_fetch_add(&stops, 1);
}

static void be_stopped(struct daemon *d, atomic_bool *cancel)
{
        wait_for_cancel(d, cancel);
        /* asked for the end before anybody wanted to know: told all the same, and again */
        daemon_on_stop(d, count_stop, &stops);
        while (atomic_load(&stops) < 3)
                usleep(1000);
        daemon_on_stop(d, NULL, NULL);
        int count = atomic_load(&stops);
        usleep(120000);
        tell(atomic_load(&stops) == count ? 'q' : '-');
}

TEST(stop_function)
{
        pid_t pid = start(true, be_stopped);
        CHECK_INT(hear(), 'w');
        kill(pid, SIGTERM);
        CHECK_INT(hear(), 'x');
        CHECK_INT(hear(), 'q');
        CHECK_INT(ended(pid), 9);
}

static void never_end(struct daemon *d, atomic_bool *cancel)
{
        wait_for_cancel(d, cancel);
        for (;;)
                pause();
}

TEST(second_signal_kills)
{
        pid_t pid = start(true, never_end);
        CHECK_INT(hear(), 'w');
        kill(pid, SIGTERM);
        CHECK_INT(hear(), 'x');
        kill(pid, SIGTERM); /* at once: the same key press, seen twice */
        usleep(1200000);
        CHECK_INT(waitpid(pid, NULL, WNOHANG), 0);
        kill(pid, SIGTERM);
        CHECK_INT(ended(pid), -SIGTERM);
}

TEST(log_is_one_line)
{
        int fds[2], saved = dup(STDERR_FILENO);
        CHECK(pipe2(fds, O_CLOEXEC) == 0 && saved >= 0);
        dup2(fds[1], STDERR_FILENO);
        daemon_log(LOG_NOTICE, "a\nb \033[31m \xc3\xa4", NULL);
        dup2(saved, STDERR_FILENO);
        char text[100] = "";
        CHECK(read(fds[0], text, sizeof text - 1) > 0);
        CHECK_STR(text, "imagefs: a?b ?[31m \xc3\xa4\n");
        close(fds[0]);
        close(fds[1]);
        close(saved);
}
