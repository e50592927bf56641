/*
 * How: the program is started by its name without a shell. Its question is written into the pipe before it runs: it is far
 * shorter than a pipe holds, so that writing can neither block nor meet a closed pipe. The answer is read without blocking
 * until the program has ended; that it closes its output is not waited for, because an agent that it leaves behind may
 * keep it open. It stays in our process group, because some ask for a passphrase on the terminal.
 *
 * The protocol's errors come on the standard output; what comes on standard error passes through to ours.
 */
#include "source/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "source/conf.h"

enum { SERVER_MAX = 1024, POLL_MS = 20 };

extern char **environ;

struct pipes {
        int in_read, in_write;   /* the program's standard input */
        int out_read, out_write; /* its output */
};

static void pipes_done(struct pipes *p)
{
        closep(&p->in_read);
        closep(&p->in_write);
        closep(&p->out_read);
        closep(&p->out_write);
}

/* a pipe whose ends are none of 0, 1, 2, so that they do not get in the way of the program's own */
static int make_pipe(int *ret_read, int *ret_write)
{
        int low[2];
        if (pipe2(low, O_CLOEXEC) < 0)
                return -errno;
        *ret_read = fcntl(low[0], F_DUPFD_CLOEXEC, 3);
        *ret_write = fcntl(low[1], F_DUPFD_CLOEXEC, 3);
        int r = *ret_read < 0 || *ret_write < 0 ? -errno : 0;
        close(low[0]);
        close(low[1]);
        return r;
}

static int open_pipes(struct pipes *p, const char *server)
{
        int r = make_pipe(&p->in_read, &p->in_write);
        if (r == 0)
                r = make_pipe(&p->out_read, &p->out_write);
        if (r < 0)
                return r;
        size_t len = strlen(server);
        if (write(p->in_write, server, len) != (ssize_t)len)
                return -EIO;
        closep(&p->in_write);
        return fcntl(p->out_read, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* Ordinary signal handling for the program, whatever ours is. */
static int set_signals(posix_spawnattr_t *attr)
{
        sigset_t none, reset;
        sigemptyset(&none);
        sigemptyset(&reset);
        sigaddset(&reset, SIGPIPE);
        sigaddset(&reset, SIGINT);
        sigaddset(&reset, SIGTERM);
        sigaddset(&reset, SIGXFSZ);
        int r = posix_spawnattr_setsigmask(attr, &none);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(attr, &reset);
        if (r == 0)
                r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        return -r;
}

static int start(const char *program, struct pipes *p, pid_t *ret_pid)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        char get[] = "get", name[300];
        char *argv[] = {name, get, NULL};
        snprintf(name, sizeof name, "%s", program);
        int r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attr);
        if (r != 0) {
                posix_spawn_file_actions_destroy(&actions);
                return -r;
        }
        r = set_signals(&attr);
        if (r == 0)
                r = -posix_spawn_file_actions_adddup2(&actions, p->in_read, 0);
        if (r == 0)
                r = -posix_spawn_file_actions_adddup2(&actions, p->out_write, 1);
        if (r == 0)
                r = -posix_spawnp(ret_pid, program, &actions, &attr, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attr);
        closep(&p->in_read);
        closep(&p->out_write);
        return r;
}

static uint64_t now_ms(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* what is there now; 1 more may come, 0 the end */
static int drain(int fd, char *out, size_t *len)
{
        for (;;) {
                ssize_t n = read(fd, out + *len, HELPER_OUTPUT_MAX - *len);
                if (n > 0) {
                        *len += (size_t)n;
                        if (*len == HELPER_OUTPUT_MAX)
                                return -EFBIG;
                } else if (n == 0) {
                        return 0;
                } else if (errno == EAGAIN) {
                        return 1;
                } else if (errno != EINTR) {
                        return -errno;
                }
        }
}

/* Reads until the program has ended. On failure it is killed, and reaped all the same. */
static int collect(pid_t pid, int fd, unsigned limit_ms, char *out, size_t *len, int *ret_status)
{
        uint64_t deadline = now_ms() + limit_ms;
        bool open = true;
        *ret_status = 0;
        for (;;) {
                int r = open ? drain(fd, out, len) : 0;
                open = r > 0;
                if (r >= 0) {
                        pid_t ended = waitpid(pid, ret_status, WNOHANG);
                        if (ended == pid || (ended < 0 && errno == ECHILD)) /* ECHILD: SIGCHLD is ignored */
                                return open ? MIN(drain(fd, out, len), 0) : 0;
                        if (now_ms() >= deadline)
                                r = -ETIMEDOUT;
                }
                if (r < 0) {
                        kill(pid, SIGKILL);
                        while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
                                ;
                        return r;
                }
                struct pollfd wait = {.fd = open ? fd : -1, .events = POLLIN};
                poll(&wait, 1, POLL_MS);
        }
}

static int read_answer(const char *program, const char *out, size_t len, struct credentials *ret, struct error *err)
{
        cleanup(json_freep) json_t *json = NULL;
        const char *username, *secret;
        /* the parser's own words may repeat a piece of the secret */
        if (json_parse(out, len, &json, NULL) < 0 || !json_is_object(json) ||
                json_get_string(json, "Username", &username, NULL) < 0 ||
                json_get_string(json, "Secret", &secret, NULL) < 0)
                return error_set(err, -EACCES, "%s: its answer makes no sense", program);
        struct credentials c = {0};
        bool token = username && !strcmp(username, "<token>"), complete = true;
        if (!secret || !*secret)
                return 0;
        if (token) {
                c.identity_token = strdup(secret);
                complete = c.identity_token;
        } else {
                c.username = strdup(username ? username : "");
                c.password = strdup(secret);
                complete = c.username && c.password;
        }
        explicit_bzero((char *)secret, strlen(secret)); /* the document's copy; it is ours and freed next */
        if (!complete) {
                credentials_done(&c);
                return error_nomem(err);
        }
        *ret = c;
        return 1;
}

/* what the program wrote when it failed; out has a NUL */
static int read_failure(const char *program, int status, char *out, struct error *err)
{
        out += strspn(out, " \t\r\n");
        out[strcspn(out, "\r\n")] = '\0';
        size_t len = strlen(out);
        while (len && (out[len - 1] == ' ' || out[len - 1] == '\t'))
                out[--len] = '\0';
        if (!strcmp(out, "credentials not found in native keychain"))
                return 0;
        if (WIFSIGNALED(status))
                return error_set(err, -EACCES, "%s: ended by signal %d", program, WTERMSIG(status));
        for (char *p = out; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = '?';
        if (!*out || *out == '{') /* an answer perhaps, with a secret in it */
                return error_set(err, -EACCES, "%s: failed with status %d", program, WEXITSTATUS(status));
        return error_set(err, -EACCES, "%s: %.200s", program, out);
}

static int ask(const char *program, const char *server, unsigned limit_ms, char *out, struct credentials *ret,
        struct error *err)
{
        cleanup(pipes_done) struct pipes p = {-1, -1, -1, -1};
        pid_t pid;
        int r = open_pipes(&p, server), status;
        if (r == 0)
                r = start(program, &p, &pid);
        if (r < 0) {
                int code = r == -ENOENT || r == -ENOMEM ? r : -EACCES;
                return error_set(err, code, "%s: %s", program, strerror(-r));
        }
        size_t len = 0;
        r = collect(pid, p.out_read, limit_ms, out, &len, &status);
        if (r == -ETIMEDOUT)
                return error_set(err, -EACCES, "%s: gave no answer in %u seconds", program, (limit_ms + 999) / 1000);
        if (r < 0)
                return error_set(err, -EACCES, "%s: %s", program, r == -EFBIG ? "answers too much" : strerror(-r));
        out[len] = '\0';
        if (status != 0)
                return read_failure(program, status, out, err);
        return read_answer(program, out, len, ret, err);
}

int helper_get(const char *suffix, const char *server, unsigned limit_ms, struct credentials *ret_credentials,
        struct error *err)
{
        size_t len = strlen(suffix);
        for (size_t i = 0; i < len; i++)
                if (suffix[i] == '/' || suffix[i] <= ' ' || suffix[i] >= 0x7f)
                        len = 0;
        if (!len || len > 200)
                return error_set(err, -EACCES, "a credential helper's name in the configuration is not one");
        if (strlen(server) > SERVER_MAX)
                return 0;
        char program[256];
        snprintf(program, sizeof program, "docker-credential-%s", suffix);
        char *out = malloc(HELPER_OUTPUT_MAX + 1);
        if (!out)
                return error_nomem(err);
        int r = ask(program, server, limit_ms, out, ret_credentials, err);
        explicit_bzero(out, HELPER_OUTPUT_MAX + 1);
        free(out);
        return r;
}
