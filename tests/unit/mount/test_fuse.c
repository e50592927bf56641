/* A real mount of the fake tree, served by a child in a mount namespace of its own; skipped where that cannot be. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "mount/session.h"
#include "unit/mount/fake_tree.c"

static char dir[] = "/tmp/imagefs-test-XXXXXX";
static int status_fd = -1; /* the daemon's parent, a child of ours, writes its exit status here */

static pid_t test_pid;

static void remove_dir(void)
{
        if (getpid() == test_pid)
                rmdir(dir);
}

static void need_fuse(void)
{
        static bool done;
        if (done)
                return;
        done = true;
        int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (fd < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
                fprintf(stderr, "skipped: no /dev/fuse, or no namespaces\n");
                exit(77);
        }
        close(fd);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        CHECK(mkdtemp(dir));
        test_pid = getpid();
        atexit(remove_dir);
}

static pid_t daemon_pid = -1;
static uid_t daemon_uid; /* the server is this user's */

/* Mounts; the server runs in a child, as `imagefs -f` does, and "ready" is told over a pipe. */
static void start(const char *options, bool foreground)
{
        need_fuse();
        int fds[2];
        CHECK(pipe2(fds, O_CLOEXEC) == 0);
        fflush(NULL);
        daemon_pid = fork();
        CHECK(daemon_pid >= 0);
        if (daemon_pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(fds[0]);
                if (daemon_uid && (setresgid(daemon_uid, daemon_uid, daemon_uid) < 0 ||
                                          setresuid(daemon_uid, daemon_uid, daemon_uid) < 0))
                        _exit(99);
                log_setup(0, daemon_log, NULL);
                struct session *s = NULL;
                struct session_options so = {.options = options};
                struct error err = {0};
                int r = session_new(dir, &so, &s, &err);
                struct daemon *d = NULL;
                int status = 0;
                if (r == 0)
                        r = daemon_start(foreground, NULL, &d, &status, &err);
                if (r == 1)
                        _exit(status);
                if (r == 0)
                        r = session_serve(s, NULL, d, &err);
                if (r < 0)
                        fprintf(stderr, "imagefs: %s\n", err.msg);
                daemon_free(d);
                session_free(s);
                char code = (char)-r;
                CHECK(write(fds[1], &code, 1) == 1);
                exit(r < 0 ? 7 : 0);
        }
        close(fds[1]);
        status_fd = fds[0];
        struct mountpoint_info info;
        for (int i = 0; mountpoint_find(dir, &info) != 1 && i < 1000; i++) {
                struct pollfd p = {.fd = status_fd};
                if (poll(&p, 1, 10) == 1)
                        break;
        }
}

/* The server's end: 0 or the errno of session_serve(). */
static int finish(void)
{
        char code = 99;
        ssize_t n = read(status_fd, &code, 1);
        close(status_fd);
        int status;
        CHECK(waitpid(daemon_pid, &status, 0) == daemon_pid);
        struct mountpoint_info info;
        CHECK_INT(mountpoint_find(dir, &info), 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == (code ? 7 : 0));
        return n == 1 ? code : -1;
}

static const char *at(const char *name)
{
        static char path[2][400];
        static int turn;
        turn = !turn;
        snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
        return path[turn];
}

static long requests(const char *what)
{
        char text[4096];
        ssize_t n = getxattr(dir, "user.imagefs.requests", text, sizeof text - 1);
        CHECK(n > 0);
        text[n] = '\0';
        char key[64];
        snprintf(key, sizeof key, "\"%s\":", what);
        char *found = strstr(text, key);
        CHECK(found);
        return strtol(found + strlen(key), NULL, 10);
}

/* All but the getxattr that asks. */
static long requests_in_all(void)
{
        static const char *const names[] = {"lookup", "getattr", "readlink", "open", "read", "opendir", "readdir",
                "readdirplus", "listxattr", "statfs"};
        long sum = 0;
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                sum += requests(names[i]);
        return sum;
}

TEST(attributes)
{
        start(NULL, true);
        struct stat st;
        CHECK(lstat(at("etc/hostname"), &st) == 0);
        CHECK_INT(st.st_ino, 3);
        CHECK_INT(st.st_mode, S_IFREG | 04751);
        CHECK_INT(st.st_nlink, 2);
        CHECK_INT(st.st_uid, 1000);
        CHECK_INT(st.st_gid, 2000);
        CHECK_INT(st.st_size, 8);
        CHECK_INT(st.st_blocks, 1);
        CHECK_INT(st.st_mtim.tv_sec, -86400);
        CHECK_INT(st.st_mtim.tv_nsec, 123456789);
        CHECK_INT(st.st_atim.tv_sec, -86400);
        CHECK_INT(st.st_ctim.tv_nsec, 123456789);
        CHECK(lstat(dir, &st) == 0);
        CHECK_INT(st.st_ino, 1);
        CHECK_INT(st.st_mode, S_IFDIR | 02755);
        CHECK_INT(st.st_nlink, 6);
        CHECK(lstat(at("null"), &st) == 0);
        CHECK_INT(major(st.st_rdev), 1);
        CHECK_INT(minor(st.st_rdev), 3);
        CHECK(open(at("null"), O_RDONLY) < 0);
        CHECK_INT(errno, EACCES); /* nodev */
        CHECK(lstat(at("fifo"), &st) == 0 && S_ISFIFO(st.st_mode));
        CHECK(lstat(at("alias"), &st) == 0 && st.st_ino == 3);
        char target[100];
        CHECK_INT(readlink(at("link"), target, sizeof target), 12);
        CHECK_MEM(target, "etc/hostname", 12);
        CHECK(lstat(at("nothing"), &st) < 0 && errno == ENOENT);
        CHECK(lstat(at("big/x"), &st) < 0 && errno == ENOTDIR);

        struct statvfs sv;
        CHECK(statvfs(dir, &sv) == 0);
        CHECK_INT(sv.f_bsize, 4096);
        CHECK_INT(sv.f_blocks, (fake_stats.bytes + 4095) / 4096);
        CHECK_INT(sv.f_bfree, 0);
        CHECK_INT(sv.f_files, FAKE_INODES);
        CHECK_INT(sv.f_namemax, 255);
        CHECK((sv.f_flag & (ST_RDONLY | ST_NOSUID | ST_NODEV)) == (ST_RDONLY | ST_NOSUID | ST_NODEV));
        struct mountpoint_info info;
        CHECK_INT(mountpoint_find(dir, &info), 1);
        CHECK_STR(info.type, "fuse.imagefs");
        CHECK_STR(info.source, "fake.example/image, with a comma:latest");
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        CHECK_INT(finish(), 0);
}

static unsigned list_many(bool stat_too)
{
        DIR *d = opendir(at("many"));
        CHECK(d);
        unsigned count = 0;
        for (const struct dirent *e; (e = readdir(d));) {
                if (e->d_name[0] == '.') {
                        CHECK_INT(e->d_ino, e->d_name[1] ? 1 : 9);
                        continue;
                }
                CHECK_STR(e->d_name, fake_many[count]); /* the tree's order */
                CHECK_INT(e->d_ino, FIRST_OF_MANY + count);
                CHECK_INT(e->d_type, DT_REG);
                struct stat st;
                if (stat_too)
                        CHECK(fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_ino == e->d_ino);
                count++;
        }
        closedir(d);
        return count;
}

TEST(directories)
{
        start(NULL, true);
        CHECK_INT(list_many(true), MANY);
        CHECK_INT(list_many(false), MANY);
        /* a position is good for ever */
        DIR *d = opendir(at("many"));
        for (int i = 0; i < 1500; i++)
                CHECK(readdir(d));
        long pos = telldir(d);
        char name[300];
        snprintf(name, sizeof name, "%s", readdir(d)->d_name);
        rewinddir(d);
        CHECK_STR(readdir(d)->d_name, ".");
        seekdir(d, pos);
        CHECK_STR(readdir(d)->d_name, name);
        closedir(d);
        /* the name that no kernel takes is left out, the rest is there */
        d = opendir(at("long"));
        CHECK_STR(readdir(d)->d_name, ".");
        CHECK_STR(readdir(d)->d_name, "..");
        CHECK_STR(readdir(d)->d_name, "ok");
        CHECK(!readdir(d));
        closedir(d);
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        CHECK_INT(finish(), 0);
}

TEST(reads)
{
        start(NULL, true);
        int fd = open(at("big"), O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        unsigned char *data = malloc(BIG_SIZE + 100);
        size_t len = 0;
        for (ssize_t n; (n = read(fd, data + len, BIG_SIZE + 100 - len)) > 0;)
                len += (size_t)n;
        CHECK_INT(len, BIG_SIZE);
        for (size_t i = 0; i < len; i++)
                if (data[i] != big_byte(i))
                        CHECK_FAIL("byte %zu is wrong", i);
        CHECK_INT(pread(fd, data, 100, BIG_SIZE - 10), 10);
        CHECK_INT(pread(fd, data, 100, BIG_SIZE + 10), 0);
        const unsigned char *map = mmap(NULL, BIG_SIZE, PROT_READ, MAP_SHARED, fd, 0);
        CHECK(map != MAP_FAILED);
        CHECK_INT(map[BIG_SIZE - 1], big_byte(BIG_SIZE - 1));
        munmap((void *)(uintptr_t)map, BIG_SIZE);
        close(fd);
        free(data);

        fd = open(at("bad"), O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        char byte;
        CHECK(read(fd, &byte, 1) < 0);
        CHECK_INT(errno, EIO);
        CHECK(pread(fd, &byte, 1, 100) < 0); /* not remembered, asked again */
        close(fd);
        CHECK(requests("read") >= 5);

        for (int flags = 0; flags < 2; flags++) {
                CHECK(open(at("big"), flags ? O_WRONLY : O_RDWR) < 0);
                CHECK_INT(errno, EROFS);
        }
        CHECK(open(at("new"), O_CREAT | O_WRONLY, 0600) < 0 && errno == EROFS);
        CHECK(unlink(at("big")) < 0 && errno == EROFS);
        CHECK(chmod(at("big"), 0600) < 0 && errno == EROFS);
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        CHECK_INT(finish(), 0);
}

/* Somebody makes it writable for the kernel: then we refuse. */
TEST(remounted_rw)
{
        start(NULL, true);
        int cached = open(at("big"), O_RDONLY | O_CLOEXEC);
        CHECK(cached >= 0);
        close(cached);
        CHECK(mount(NULL, dir, NULL, MS_REMOUNT, NULL) == 0);
        CHECK(open(at("new"), O_CREAT | O_WRONLY, 0600) < 0);
        CHECK_INT(errno, EROFS);
        CHECK(mkdir(at("new"), 0700) < 0 && errno == EROFS);
        CHECK(unlink(at("big")) < 0 && errno == EROFS);
        CHECK(rmdir(at("etc")) < 0 && errno == EROFS);
        CHECK(symlink("x", at("new")) < 0 && errno == EROFS);
        CHECK(link(at("big"), at("new")) < 0 && errno == EROFS);
        CHECK(rename(at("big"), at("new")) < 0 && errno == EROFS);
        CHECK(mknod(at("new"), S_IFIFO | 0600, 0) < 0 && errno == EROFS);
        CHECK(chmod(at("big"), 0600) < 0 && errno == EROFS);
        CHECK(truncate(at("big"), 0) < 0 && errno == EROFS);
        CHECK(setxattr(at("big"), "user.x", "y", 1, 0) < 0 && errno == EROFS);
        CHECK(removexattr(at("alias"), "user.note") < 0 && errno == EROFS);
        int fd = open(at("big"), O_WRONLY | O_CLOEXEC); /* the kernel does not ask any more */
        if (fd >= 0) {
                CHECK(write(fd, "x", 1) < 0 && errno == EROFS);
                CHECK(fallocate(fd, 0, 0, 10) < 0 && errno == EROFS);
                close(fd);
        }
        CHECK(requests("refused") >= 12);
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        CHECK_INT(finish(), 0);
}

TEST(xattrs)
{
        start(NULL, true);
        char value[1000];
        CHECK_INT(getxattr(at("alias"), "user.note", value, sizeof value), 5);
        CHECK_MEM(value, "hello", 5);
        CHECK_INT(getxattr(at("alias"), "user.note", NULL, 0), 5);
        CHECK(getxattr(at("alias"), "user.note", value, 4) < 0 && errno == ERANGE);
        CHECK(getxattr(at("alias"), "user.not", value, sizeof value) < 0 && errno == ENODATA);
        CHECK(getxattr(at("alias"), "security.selinux", value, sizeof value) < 0 && errno == EOPNOTSUPP);
        CHECK_INT(getxattr(at("alias"), "security.capability", value, sizeof value), 20);
        static const char names[] = "user.note\0security.capability";
        CHECK_INT(listxattr(at("alias"), NULL, 0), sizeof names);
        CHECK_INT(listxattr(at("alias"), value, sizeof value), sizeof names);
        CHECK_MEM(value, names, sizeof names);
        CHECK(listxattr(at("alias"), value, 5) < 0 && errno == ERANGE);
        CHECK_INT(listxattr(at("big"), value, sizeof value), 0);

        ssize_t n = getxattr(at("alias"), "user.imagefs.layer", value, sizeof value);
        CHECK_INT(n, 71);
        CHECK_MEM(value, "sha256:ab00", 11);
        CHECK_INT(getxattr(at("big"), "user.imagefs.layer_index", value, sizeof value), 1);
        CHECK_MEM(value, "1", 1);
        CHECK(getxattr(at("etc"), "user.imagefs.layer", value, sizeof value) < 0 && errno == ENODATA);
        CHECK(getxattr(at("big"), "user.imagefs.stat", value, sizeof value) < 0 && errno == ENODATA);
        char *json = NULL;
        CHECK_INT(mountpoint_stat(dir, &json, NULL), 0);
        CHECK_STR(json, "{\"image\":\"fake\"}");
        free(json);
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        CHECK_INT(finish(), 0);
}

/* Runs fn as another user; its result. */
static int as_user(uid_t uid, int (*fn)(void))
{
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
                if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
                        _exit(99);
                _exit(fn());
        }
        int status;
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        return WEXITSTATUS(status);
}

static int enter_etc(void)
{
        return access(at("etc/hostname"), F_OK) == 0 ? 0 : errno;
}

static int enter_acl(void)
{
        return open(at("acl"), O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0 ? 0 : errno;
}

static int read_big(void)
{
        return open(at("big"), O_RDONLY | O_CLOEXEC) >= 0 ? 0 : errno;
}

TEST(permissions)
{
        start(NULL, true);
        CHECK(chmod(dir, 0755) < 0);
        CHECK_INT(as_user(7, enter_etc), 0);
        CHECK_INT(as_user(4242, enter_etc), EACCES);
        CHECK_INT(as_user(4242, read_big), 0);
        CHECK_INT(as_user(4242, enter_acl), 0);
        CHECK_INT(as_user(4243, enter_acl), EACCES);
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        CHECK_INT(finish(), 0);
}

static void walk(void)
{
        struct stat st;
        char target[100];
        CHECK_INT(list_many(true), MANY);
        static const char *const names[] = {"", "etc", "etc/hostname", "link", "null", "fifo", "big", "bad", "alias"};
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                CHECK(lstat(at(names[i]), &st) == 0);
        CHECK(lstat(at("etc/ld.so.preload"), &st) < 0);
        CHECK(lstat(at("many/nothing"), &st) < 0);
        CHECK(readlink(at("link"), target, sizeof target) == 12);
        int fd = open(at("big"), O_RDONLY | O_CLOEXEC);
        static char data[1 << 16];
        while (read(fd, data, sizeof data) > 0)
                ;
        close(fd);
}

/* What the daemon is asked when everything is asked again: nothing. */
TEST(kernel_remembers)
{
        start(NULL, true);
        walk();
        walk();
        long before = requests_in_all();
        walk();
        CHECK_INT(requests_in_all() - before, 0);
        CHECK_INT(requests("open"), 1); /* told once that it need not ask */
        CHECK_INT(requests("opendir"), 1);
        CHECK_INT(requests("readlink"), 1);
        CHECK(requests("lookup") < 30); /* the listing brought the attributes */
        CHECK(requests("read") <= 64);
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        CHECK_INT(finish(), 0);
}

TEST(umount_says_busy)
{
        start(NULL, true);
        int fd = open(at("big"), O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        struct error err = {0};
        CHECK_INT(mountpoint_umount(dir, false, &err), -EBUSY);
        CHECK(strstr(err.msg, "--lazy"));
        CHECK_INT(mountpoint_umount(dir, true, &err), 0);
        char byte;
        CHECK_INT(read(fd, &byte, 1), 1); /* who is in may go on */
        close(fd);
        CHECK_INT(finish(), 0);
        CHECK_INT(mountpoint_umount(dir, false, &err), -EINVAL);
        CHECK_INT(mountpoint_umount("/proc", false, &err), -EINVAL);
}

TEST(signals_unmount)
{
        static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
        for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
                start(NULL, true);
                struct stat st;
                CHECK(stat(at("big"), &st) == 0);
                /* the third with a file open: the mount goes all the same */
                int fd = i == 2 ? open(at("big"), O_RDONLY | O_CLOEXEC) : -1;
                kill(daemon_pid, signals[i]);
                CHECK_INT(finish(), 0);
                if (fd >= 0) {
                        char data[4096];
                        CHECK(pread(fd, data, sizeof data, 2 << 20) < 0 && errno == ENOTCONN);
                        close(fd);
                }
        }
}

/* A forked daemon: its parent ends with 0 when it can be used, and the daemon lives on. */
TEST(daemon)
{
        start(NULL, false);
        int status;
        CHECK(waitpid(daemon_pid, &status, 0) == daemon_pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        struct stat st;
        CHECK(stat(at("big"), &st) == 0);
        CHECK_INT(mountpoint_umount(dir, false, NULL), 0);
        char code = 99;
        /* the status pipe is close-on-exec, so it is not taken for an inherited descriptor */
        CHECK(read(status_fd, &code, 1) == 1);
        CHECK_INT(code, 0);
        close(status_fd);
        while (wait(&status) > 0) /* we are its reaper */
                CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int read_etc(void)
{
        char *json = NULL;
        int r = mountpoint_stat(dir, &json, NULL);
        free(json);
        return r < 0 ? -r : enter_etc();
}

static int leave(void)
{
        struct error err = {0};
        int fd = open(at("big"), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || mountpoint_umount(dir, false, &err) != -EBUSY)
                return 98;
        close(fd);
        return -mountpoint_umount(dir, false, &err);
}

/* Through fusermount3, in a namespace in which /dev/fuse is everybody's. */
TEST(plain_user)
{
        need_fuse();
        enum { NOBODY = 65534 }; /* fusermount3 wants a user with a name */
        struct stat st;
        if (stat("/usr/bin/fusermount3", &st) < 0 || !(st.st_mode & S_ISUID)) {
                fprintf(stderr, "skipped: no fusermount3 that is set-user-ID root\n");
                return;
        }
        CHECK(mount("test", dir, "tmpfs", 0, NULL) == 0);
        CHECK(mknod(at("fuse"), S_IFCHR | 0666, makedev(10, 229)) == 0 && chmod(at("fuse"), 0666) == 0);
        CHECK(mount(at("fuse"), "/dev/fuse", NULL, MS_BIND, NULL) == 0);
        CHECK(umount2(dir, MNT_DETACH) == 0);

        CHECK(chown(dir, NOBODY, NOBODY) == 0);
        daemon_uid = NOBODY;
        start(NULL, true);
        struct mountpoint_info info;
        CHECK_INT(mountpoint_find(dir, &info), 1);
        CHECK_STR(info.type, "fuse.imagefs");
        CHECK_INT(as_user(NOBODY, read_etc), 0); /* nobody else is here, so modes do not keep its owner out */
        CHECK(stat(at("big"), &st) < 0);
        CHECK_INT(errno, EACCES); /* root is */
        CHECK_INT(as_user(4243, read_big), EACCES);
        CHECK_INT(as_user(NOBODY, leave), 0);
        CHECK_INT(finish(), 0);
        /* and a signal, which goes through fusermount3 too */
        start(NULL, true);
        kill(daemon_pid, SIGTERM);
        CHECK_INT(finish(), 0);

        CHECK(chown(dir, 0, 0) == 0);
        start(NULL, true);
        CHECK_INT(finish(), EACCES);
        CHECK(chown(dir, NOBODY, NOBODY) == 0);
        if (!mountpoint_others_allowed()) {
                start("allow_other", true);
                CHECK_INT(finish(), EPERM);
        }
        daemon_uid = 0;
        CHECK(chown(dir, 0, 0) == 0);
}

TEST(refused_mountpoints)
{
        need_fuse();
        struct session *s = NULL;
        struct session_options so = {0};
        struct error err = {0};
        char path[200];
        snprintf(path, sizeof path, "%s/missing", dir);
        CHECK_INT(session_new(path, &so, &s, &err), -ENOENT);
        snprintf(path, sizeof path, "%s/file", dir);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        CHECK(fd >= 0);
        close(fd);
        CHECK_INT(session_new(path, &so, &s, &err), -ENOTDIR);
        CHECK_INT(session_new(dir, &so, &s, &err), -ENOTEMPTY);
        so.options = "nonempty";
        CHECK_INT(session_new(dir, &so, &s, &err), 0);
        CHECK_STR(session_mountpoint(s), dir);
        CHECK(!session_hint(s));
        session_free(s);
        CHECK(unlink(path) == 0);
        so.options = "sudi";
        CHECK_INT(session_new(dir, &so, &s, &err), -EINVAL);

        so.options = NULL;
        start(NULL, true);
        CHECK_INT(session_new(dir, &so, &s, &err), -EBUSY);
        CHECK(strstr(err.msg, "imagefs umount"));
        /* the daemon is killed: the mount is dead, and umount still knows it */
        kill(daemon_pid, SIGKILL);
        int status;
        CHECK(waitpid(daemon_pid, &status, 0) == daemon_pid);
        CHECK_INT(session_new(dir, &so, &s, &err), -ENOTCONN);
        CHECK(strstr(err.msg, "imagefs umount"));
        CHECK_INT(mountpoint_umount(dir, false, &err), 0);
        close(status_fd);
        CHECK_INT(session_new(dir, &so, &s, &err), 0);
        session_free(s);
}
