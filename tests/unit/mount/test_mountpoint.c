#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "check.h"
#include "mount/mountpoint.h"

static const char table[] =
        "22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        "36 35 98:0 /mnt1 /mnt/a rw,noatime master:1 propagate_from:3 - ext3 /dev/root rw,errors=continue\n"
        "40 28 0:41 / /mnt/with\\040space\\134x ro - fuse.imagefs docker.io/library/a\\040b:1 ro\n"
        "41 28 0:42 / /mnt/a ro,nosuid - fuse.imagefs alpine ro,user_id=0\n"
        "42 28 0:43 / /mnt/bad\n"
        "43 28 x / /mnt/bad ro - a b c\n"
        "44 28 0:4 / /mnt/bad ro a b c\n"
        "\n";

static int find(const char *path, struct mountpoint_info *info)
{
        char copy[sizeof table];
        memcpy(copy, table, sizeof table);
        FILE *f = fmemopen(copy, sizeof table - 1, "r");
        CHECK(f);
        int r = mountpoint_find_in(f, path, info);
        fclose(f);
        return r;
}

TEST(mountinfo)
{
        struct mountpoint_info info;
        CHECK_INT(find("/sys", &info), 1);
        CHECK_STR(info.type, "sysfs");
        CHECK_INT(info.minor, 20);
        CHECK_INT(find("/mnt/a", &info), 1); /* the later one is on top */
        CHECK_STR(info.type, "fuse.imagefs");
        CHECK_STR(info.source, "alpine");
        CHECK_INT(info.minor, 42);
        CHECK_INT(find("/mnt/with space\\x", &info), 1);
        CHECK_STR(info.source, "docker.io/library/a b:1");
        CHECK_INT(find("/mnt", &info), 0);
        CHECK_INT(find("/mnt/bad", &info), 0);
}

TEST(resolve)
{
        struct error err = {0};
        char *path = NULL;
        CHECK_INT(mountpoint_resolve("/tmp/../tmp/.", &path, &err), 0);
        CHECK_STR(path, "/tmp");
        free(path);
        path = NULL;
        CHECK_INT(mountpoint_resolve("/nowhere/at/all", &path, &err), -ENOENT);
        CHECK(!path);
        CHECK_STR(err.msg, "/nowhere/at/all: No such file or directory");
        CHECK_INT(mountpoint_resolve("", &path, &err), -ENOENT);
}

TEST(not_ours)
{
        struct error err = {0};
        char *json = NULL;
        CHECK_INT(mountpoint_umount("/proc", false, &err), -EINVAL);
        CHECK_STR(err.msg, "/proc is not mounted by imagefs");
        CHECK_INT(mountpoint_stat("/tmp", &json, &err), -EINVAL);
        CHECK(!json);
        CHECK_INT(mountpoint_check("/dev/null", false, &err), -ENOTDIR);
        CHECK_STR(err.msg, "/dev/null is not a directory");
        CHECK_INT(mountpoint_check("/etc", false, &err), geteuid() == 0 ? -ENOTEMPTY : -EACCES);
}
