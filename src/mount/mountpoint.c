/* How: /proc/self/mountinfo says what is mounted; root unmounts by itself, anybody else through fusermount3, whose words are
 * caught so that one line is printed. A mount whose daemon died answers ENOTCONN to everything that looks inside, so a path
 * is resolved without looking inside its last part. */
#include "mount/mountpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"

enum { STAT_MAX = 65536 };

extern char **environ;

/* ---- what is mounted ---- */

/* "\040" and the like, in place. */
static void unescape(char *s)
{
        char *to = s;
        for (; *s; s++) {
                if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
                        s[3] <= '7') {
                        *to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
                        s += 3;
                } else {
                        *to++ = *s;
                }
        }
        *to = '\0';
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw": see proc(5). */
static bool parse_line(char *line, const char *path, struct mountpoint_info *info)
{
        char *save, *field[5];
        for (unsigned i = 0; i < ARRAY_LEN(field); i++)
                if (!(field[i] = strtok_r(i ? NULL : line, " \n", &save)))
                        return false;
        unescape(field[4]);
        if (strcmp(field[4], path) != 0 || sscanf(field[2], "%u:%u", &info->major, &info->minor) != 2)
                return false;
        char *word;
        while ((word = strtok_r(NULL, " \n", &save)) && strcmp(word, "-") != 0)
                ;
        char *type = word ? strtok_r(NULL, " \n", &save) : NULL;
        char *source = type ? strtok_r(NULL, " \n", &save) : NULL;
        if (!source)
                return false;
        unescape(source);
        snprintf(info->type, sizeof info->type, "%s", type);
        snprintf(info->source, sizeof info->source, "%s", source);
        return true;
}

int mountpoint_find_in(FILE *mountinfo, const char *path, struct mountpoint_info *ret_info)
{
        cleanup(freep) char *line = NULL;
        size_t room = 0;
        int found = 0;
        struct mountpoint_info info;
        errno = 0;
        while (getline(&line, &room, mountinfo) > 0)
                if (parse_line(line, path, &info)) {
                        *ret_info = info;
                        found = 1;
                }
        return ferror(mountinfo) ? -EIO : found;
}

int mountpoint_find(const char *path, struct mountpoint_info *ret_info)
{
        FILE *f = fopen("/proc/self/mountinfo", "re");
        if (!f)
                return -errno;
        int r = mountpoint_find_in(f, path, ret_info);
        fclose(f);
        return r;
}

int mountpoint_resolve(const char *path, char **ret_path, struct error *err)
{
        char *full = realpath(path, NULL);
        if (full) {
                *ret_path = full;
                return 0;
        }
        int code = errno;
        /* a dead mount, or one that is not for us: the way to it is enough */
        if (code != ENOTCONN && code != EACCES)
                return error_set(err, -code, "%s: %s", path, strerror(code));
        cleanup(freep) char *copy = strdup(path);
        if (!copy)
                return error_nomem(err);
        size_t len = strlen(copy);
        while (len > 1 && copy[len - 1] == '/')
                copy[--len] = '\0';
        char *slash = strrchr(copy, '/');
        const char *name = slash ? slash + 1 : copy;
        if (slash == copy || strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
                return error_set(err, -code, "%s: %s", path, strerror(code));
        if (slash)
                *slash = '\0';
        cleanup(freep) char *dir = realpath(slash ? copy : ".", NULL);
        struct mountpoint_info info;
        if (!dir || asprintf(&full, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name) < 0)
                return error_set(err, -code, "%s: %s", path, strerror(code));
        if (mountpoint_find(full, &info) != 1) {
                free(full);
                return error_set(err, -code, "%s: %s", path, strerror(code));
        }
        *ret_path = full;
        return 0;
}

static bool is_ours(const struct mountpoint_info *info)
{
        return strcmp(info->type, "fuse.imagefs") == 0;
}

/* ---- may it be used ---- */

static int check_empty(const char *path, struct error *err)
{
        DIR *dir = opendir(path);
        if (!dir)
                return error_set(err, -errno, "%s: %s", path, strerror(errno));
        int names = 0;
        for (const struct dirent *e; (e = readdir(dir));)
                names += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
        closedir(dir);
        if (names)
                return error_set(err, -ENOTEMPTY,
                        "%s is not empty, and the mount would hide what is in it; give another directory, or -o "
                        "nonempty",
                        path);
        return 0;
}

static bool have_fusermount(void)
{
        const char *path = getenv("PATH");
        cleanup(freep) char *dirs = NULL;
        if (asprintf(&dirs, "%s:/usr/bin:/bin", path ? path : "") < 0)
                return true; /* libfuse will tell */
        char *save;
        for (char *dir = strtok_r(dirs, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
                char file[PATH_MAX];
                if (snprintf(file, sizeof file, "%s/fusermount3", dir) < (int)sizeof file && access(file, X_OK) == 0)
                        return true;
        }
        return false;
}

static int check_device(struct error *err)
{
        cleanup(closep) int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (fd < 0)
                switch (errno) {
                case ENOENT:
                case ENODEV:
                case ENXIO:
                        return error_set(err, -ENODEV,
                                "there is no /dev/fuse: run \"modprobe fuse\" as root; in a container, start it with "
                                "--device /dev/fuse --cap-add SYS_ADMIN");
                case EPERM:
                        return error_set(err, -EPERM,
                                "/dev/fuse may not be opened here: start the container with --device /dev/fuse "
                                "--cap-add "
                                "SYS_ADMIN");
                case EACCES:
                        return error_set(err, -EPERM,
                                "/dev/fuse is not for this user: as root, \"chmod 0666 /dev/fuse\" (udev does it on "
                                "most "
                                "systems)");
                default: return error_set(err, -errno, "/dev/fuse: %s", strerror(errno));
                }
        if (geteuid() != 0 && !have_fusermount())
                return error_set(err, -ENODEV,
                        "fusermount3 is not installed; a plain user's mount needs it (Debian: apt "
                        "install fuse3)");
        return 0;
}

/* fusermount3 wants a directory that the user may write to, and that is the user's own if it is sticky (/tmp). */
static int check_owner(const char *path, const struct stat *st, struct error *err)
{
        if (geteuid() == 0)
                return 0;
        if (access(path, W_OK) < 0 || ((st->st_mode & S_ISVTX) && st->st_uid != getuid()))
                return error_set(err, -EACCES,
                        "%s may not be mounted on by this user, who cannot write to it; use a directory of your own",
                        path);
        return 0;
}

int mountpoint_check(const char *path, bool nonempty, struct error *err)
{
        struct mountpoint_info info;
        struct stat st;
        struct statvfs fs;
        bool mounted = mountpoint_find(path, &info) == 1;
        /* the attributes of a dead mount's root may come from the kernel's memory; statvfs() always asks the daemon */
        if (stat(path, &st) < 0 || (mounted && is_ours(&info) && statvfs(path, &fs) < 0)) {
                if (errno == ENOTCONN)
                        return error_set(err, -ENOTCONN,
                                "%s is a mount (%s) that has lost its daemon; run \"%s %s\" first", path,
                                mounted ? info.type : "fuse", mounted && is_ours(&info) ? "imagefs umount" : "umount",
                                path);
                return error_set(err, -errno, "%s: %s", path, strerror(errno));
        }
        if (!S_ISDIR(st.st_mode))
                return error_set(err, -ENOTDIR, "%s is not a directory", path);
        if (!nonempty && mounted && is_ours(&info))
                return error_set(err, -EBUSY, "%s is mounted already, with %s; run \"imagefs umount %s\" first", path,
                        info.source, path);
        int r = check_owner(path, &st, err);
        if (r < 0)
                return r;
        if (!nonempty && (r = check_empty(path, err)) < 0)
                return r;
        return check_device(err);
}

bool mountpoint_others_allowed(void)
{
        FILE *f = fopen("/etc/fuse.conf", "re");
        if (!f)
                return false;
        char line[256];
        bool allowed = false;
        while (!allowed && fgets(line, sizeof line, f)) {
                char word[32];
                allowed = sscanf(line, " %31s", word) == 1 && strcmp(word, "user_allow_other") == 0;
        }
        fclose(f);
        return allowed;
}

/* ---- taking it away ---- */

/* Runs fusermount3; its first line of complaint goes to err. */
static int run_fusermount(const char *path, bool lazy, struct error *err)
{
        int fds[2];
        if (pipe2(fds, O_CLOEXEC) < 0)
                return error_set(err, -errno, "pipe: %s", strerror(errno));
        char program[] = "fusermount3", unmount[] = "-u", detach[] = "-z", end[] = "--";
        cleanup(freep) char *copy = strdup(path);
        char *with_lazy[] = {program, unmount, detach, end, copy, NULL};
        char *plain[] = {program, unmount, end, copy, NULL};
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
        pid_t pid;
        int r = copy ? posix_spawnp(&pid, program, &actions, NULL, lazy ? with_lazy : plain, environ) : ENOMEM;
        posix_spawn_file_actions_destroy(&actions);
        close(fds[1]);
        cleanup(closep) int from = fds[0];
        if (r)
                return error_set(err, -r, "fusermount3: %s", strerror(r));
        char said[512];
        size_t len = 0;
        for (ssize_t n; len < sizeof said - 1 && (n = read(from, said + len, sizeof said - 1 - len)) > 0;)
                len += (size_t)n;
        said[len] = '\0';
        said[strcspn(said, "\n")] = '\0';
        int status;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return error_set(err, -errno, "fusermount3: %s", strerror(errno));
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        return error_set(err, strstr(said, "busy") ? -EBUSY : -EPERM, "%s", *said ? said : "fusermount3 failed");
}

int mountpoint_umount(const char *path, bool lazy, struct error *err)
{
        cleanup(freep) char *full = NULL;
        int r = mountpoint_resolve(path, &full, err);
        if (r < 0)
                return r;
        struct mountpoint_info info;
        r = mountpoint_find(full, &info);
        if (r < 0)
                return error_set(err, r, "/proc/self/mountinfo: %s", strerror(-r));
        if (!r || !is_ours(&info))
                return error_set(err, -EINVAL, "%s is not mounted by imagefs", full);
        if (geteuid() == 0)
                r = umount2(full, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) < 0
                            ? error_set(err, -errno, "%s: %s", full, strerror(errno))
                            : 0;
        else
                r = run_fusermount(full, lazy, err);
        if (r == -EBUSY)
                return error_set(err, r,
                        "%s is in use: leave it (\"fuser -vm %s\" tells who is in it), or take it away with --lazy",
                        full, full);
        return r;
}

/* ---- asking it ---- */

int mountpoint_stat(const char *path, char **ret_json, struct error *err)
{
        cleanup(freep) char *full = NULL;
        int r = mountpoint_resolve(path, &full, err);
        if (r < 0)
                return r;
        struct mountpoint_info info;
        if (mountpoint_find(full, &info) != 1 || !is_ours(&info))
                return error_set(err, -EINVAL, "%s is not mounted by imagefs", full);
        cleanup(freep) char *text = malloc(STAT_MAX + 1);
        if (!text)
                return error_nomem(err);
        ssize_t n = getxattr(full, "user.imagefs.stat", text, STAT_MAX);
        if (n < 0 && errno == ENOTCONN)
                return error_set(err, -ENOTCONN, "%s has lost its daemon; run \"imagefs umount %s\"", full, full);
        if (n < 0 && errno == EACCES)
                return error_set(err, -EACCES,
                        "%s was mounted by another user, who did not let others in (-o allow_other)", full);
        if (n < 0)
                return error_set(err, -errno, "%s: %s", full, strerror(errno));
        text[n] = '\0';
        *ret_json = take(text);
        return 0;
}
