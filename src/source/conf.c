/*
 * How: read() into a block that is copied and wiped when it has to grow, instead of realloc(), which may leave the old copy.
 * Nothing is mapped and no size is trusted, because --authfile <(command) is a pipe.
 */
#include "source/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

void conf_done(struct conf_file *file)
{
        if (file->data) {
                explicit_bzero(file->data, file->len);
                free(file->data);
        }
        *file = (struct conf_file){0};
}

void conf_wipe_string(char *s)
{
        if (s)
                explicit_bzero(s, strlen(s));
        free(s);
}

/* room bytes and one for the NUL; what was there is moved */
static int grow(struct conf_file *file, size_t room)
{
        char *data = malloc(room + 1);
        if (!data)
                return -ENOMEM;
        size_t len = file->len;
        if (len)
                memcpy(data, file->data, len);
        conf_done(file);
        *file = (struct conf_file){data, len};
        return 0;
}

static int read_all(int fd, size_t max, struct conf_file *file)
{
        size_t room = 4096;
        int r = grow(file, room);
        while (r == 0) {
                if (file->len == room) {
                        room *= 2;
                        r = grow(file, room);
                        continue;
                }
                ssize_t n = read(fd, file->data + file->len, room - file->len);
                if (n < 0 && errno != EINTR)
                        r = -errno;
                if (n == 0)
                        break;
                file->len += n > 0 ? (size_t)n : 0;
                if (file->len > max)
                        r = -EFBIG;
        }
        if (r == 0)
                file->data[file->len] = '\0';
        return r;
}

int conf_read(const char *path, size_t max, struct conf_file *ret_file, struct error *err)
{
        cleanup(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return error_set(err, errno == ENOTDIR ? -ENOENT : -errno, "%.400s: %s", path, strerror(errno));
        struct conf_file file = {0};
        int r = read_all(fd, max, &file);
        if (r == 0) {
                *ret_file = file;
                return 0;
        }
        conf_done(&file);
        if (r == -EFBIG)
                return error_set(err, r, "%.400s: larger than %zu bytes", path, max);
        return error_set(err, r, "%.400s: %s", path, strerror(-r));
}

const char *conf_env(const char *name)
{
        const char *value = getenv(name);
        return value && *value ? value : NULL;
}

char *conf_format(const char *fmt, ...)
{
        char *text;
        va_list ap;
        va_start(ap, fmt);
        int len = vasprintf(&text, fmt, ap);
        va_end(ap);
        return len < 0 ? NULL : text;
}

char *conf_home(const char *rest)
{
        const char *home = conf_env("HOME");
        if (home)
                return conf_format("%s%s", home, rest);
        struct passwd entry, *found = NULL;
        char strings[4096];
        if (getpwuid_r(geteuid(), &entry, strings, sizeof strings, &found) != 0 || !found)
                return NULL;
        return conf_format("%s%s", found->pw_dir, rest);
}

char *conf_user(const char *rest)
{
        const char *dir = conf_env("XDG_CONFIG_HOME");
        if (dir)
                return conf_format("%s%s", dir, rest);
        cleanup(freep) char *config = conf_home("/.config");
        return config ? conf_format("%s%s", config, rest) : NULL;
}
