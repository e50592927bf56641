/* A tree without layers for the tests of mount/: what is below mount/ is defined here, so the real one is not linked. It is
 * included by the test. The inodes:
 *
 *      1 /                 0755, setgid
 *      2 /etc              0700, owned by 7:8
 *      3 /etc/hostname     "imagefs\n", mode 4751, 1000:2000, before 1970; also /alias; two xattrs
 *      4 /link             -> etc/hostname
 *      5 /null             character device 1:3
 *      6 /fifo
 *      7 /big              BIG_SIZE bytes of big_byte()
 *      8 /bad              every read fails
 *      9 /many             MANY names "name-00000"...
 *     10 /acl              a directory with an ACL that lets user 4242 in
 *     11 /long             a directory with a name that is too long, and "ok"
 *     12.. the files of /many
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "image/image.h"

enum { BIG_SIZE = (3 << 20) + 17, MANY = 5000, FIRST_OF_MANY = 12, FAKE_INODES = FIRST_OF_MANY + MANY - 1 };

static unsigned char big_byte(uint64_t off)
{
        return (unsigned char)(off * 2654435761u >> 13);
}

struct fake_node {
        mode_t mode;
        uint32_t uid, gid, parent;
        const char *link;
        uint64_t size;
};

static const struct fake_node fake_nodes[] = {
        [1] = {.mode = S_IFDIR | 02755, .parent = 1},
        [2] = {.mode = S_IFDIR | 0700, .uid = 7, .gid = 8, .parent = 1},
        [3] = {.mode = S_IFREG | 04751, .uid = 1000, .gid = 2000, .size = 8},
        [4] = {.mode = S_IFLNK | 0777, .link = "etc/hostname", .size = 12},
        [5] = {.mode = S_IFCHR | 0666},
        [6] = {.mode = S_IFIFO | 0600},
        [7] = {.mode = S_IFREG | 0644, .size = BIG_SIZE},
        [8] = {.mode = S_IFREG | 0644, .size = 4096},
        [9] = {.mode = S_IFDIR | 0755, .parent = 1},
        [10] = {.mode = S_IFDIR | 0750, .parent = 1},
        [11] = {.mode = S_IFDIR | 0755, .parent = 1},
};

static const struct {
        uint32_t dir;
        const char *name;
        uint32_t ino;
} fake_names[] = {
        {1, "etc", 2},
        {1, "link", 4},
        {1, "null", 5},
        {1, "fifo", 6},
        {1, "big", 7},
        {1, "bad", 8},
        {1, "many", 9},
        {1, "acl", 10},
        {1, "long", 11},
        {1, "alias", 3},
        {2, "hostname", 3},
};

/* user::rwx user:4242:r-x group::--- mask::r-x other::--- */
static const uint8_t fake_acl[] = {2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0, 0x92, 0x10, 0, 0, 4, 0, 0, 0,
        255, 255, 255, 255, 16, 0, 5, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};
static const uint8_t fake_capability[20] = {1, 0, 0, 2, 0, 4};
static char fake_many[MANY][16];
static char fake_long[300];
static struct tree_stats fake_stats = {.inodes = FAKE_INODES, .bytes = BIG_SIZE + 8 + 4096};
static atomic_uint fake_errors;

__attribute__((constructor)) static void fake_init(void)
{
        for (unsigned i = 0; i < MANY; i++)
                snprintf(fake_many[i], sizeof fake_many[i], "name-%05u", i);
        memset(fake_long, 'x', sizeof fake_long);
}

uint32_t tree_lookup(const struct tree *t, uint32_t dir, const char *name, size_t name_len)
{
        uint32_t count = tree_dir_count(t, dir);
        for (uint32_t i = 0; i < count; i++) {
                struct tree_dirent d;
                tree_dir_entry(t, dir, i, &d);
                if (d.name_len == name_len && memcmp(d.name, name, name_len) == 0)
                        return d.ino;
        }
        return 0;
}

bool tree_valid(const struct tree *t, uint64_t ino)
{
        (void)t;
        return ino && ino <= FAKE_INODES;
}

void tree_attr(const struct tree *t, uint32_t ino, struct tree_attr *ret)
{
        (void)t;
        *ret = (struct tree_attr){.mode = S_IFREG | 0644, .nlink = 1, .mtime_s = 1700000000};
        if (ino >= FIRST_OF_MANY)
                return;
        const struct fake_node *n = &fake_nodes[ino];
        ret->mode = n->mode;
        ret->uid = n->uid;
        ret->gid = n->gid;
        ret->size = S_ISDIR(n->mode) ? 4096 : n->size;
        ret->blocks = (n->size + 511) / 512;
        ret->nlink = ino == 1 ? 6 : S_ISDIR(n->mode) || ino == 3 ? 2 : 1;
        if (ino == 3) {
                ret->mtime_s = -86400;
                ret->mtime_ns = 123456789;
        }
        if (ino == 5) {
                ret->rdev_major = 1;
                ret->rdev_minor = 3;
        }
}

uint32_t tree_parent(const struct tree *t, uint32_t ino)
{
        (void)t;
        return ino < FIRST_OF_MANY ? fake_nodes[ino].parent : 0;
}

const char *tree_symlink(const struct tree *t, uint32_t ino)
{
        (void)t;
        return ino < FIRST_OF_MANY ? fake_nodes[ino].link : NULL;
}

uint32_t tree_dir_count(const struct tree *t, uint32_t ino)
{
        (void)t;
        uint32_t count = ino == 9 ? MANY : ino == 11 ? 2 : 0;
        for (size_t i = 0; i < ARRAY_LEN(fake_names); i++)
                count += fake_names[i].dir == ino;
        return count;
}

void tree_dir_entry(const struct tree *t, uint32_t ino, uint32_t i, struct tree_dirent *ret)
{
        (void)t;
        if (ino == 9) {
                *ret = (struct tree_dirent){fake_many[i], 10, FIRST_OF_MANY + i};
                return;
        }
        if (ino == 11) {
                *ret = i ? (struct tree_dirent){"ok", 2, 3} : (struct tree_dirent){fake_long, sizeof fake_long, 3};
                return;
        }
        for (size_t n = 0; n < ARRAY_LEN(fake_names); n++)
                if (fake_names[n].dir == ino && i-- == 0) {
                        *ret = (struct tree_dirent){
                                fake_names[n].name, (uint32_t)strlen(fake_names[n].name), fake_names[n].ino};
                        return;
                }
}

uint32_t tree_xattr_count(const struct tree *t, uint32_t ino)
{
        (void)t;
        return ino == 3 ? 2 : ino == 10 ? 1 : 0;
}

void tree_xattr(const struct tree *t, uint32_t ino, uint32_t i, struct index_xattr *ret)
{
        (void)t;
        if (ino == 10)
                *ret = (struct index_xattr){"system.posix_acl_access", 23, fake_acl, sizeof fake_acl};
        else if (i == 0)
                *ret = (struct index_xattr){"user.note", 9, (const uint8_t *)"hello", 5};
        else
                *ret = (struct index_xattr){"security.capability", 19, fake_capability, sizeof fake_capability};
}

ssize_t tree_read(const struct tree *t, uint32_t ino, void *data, size_t len, uint64_t off, struct error *err)
{
        struct tree_attr a;
        tree_attr(t, ino, &a);
        if (!S_ISREG(a.mode))
                return error_set(err, -EINVAL, "no regular file");
        if (ino == 8)
                return error_set(err, -EBADMSG, "span 3: its sha256 is wrong");
        if (off >= a.size)
                return 0;
        len = (size_t)MIN((uint64_t)len, a.size - off);
        unsigned char *to = data;
        for (size_t i = 0; i < len; i++)
                to[i] = ino == 3 ? (unsigned char)"imagefs\n"[off + i] : big_byte(off + i);
        return (ssize_t)len;
}

int tree_layer(const struct tree *t, uint32_t ino)
{
        (void)t;
        return ino == 2 ? -1 : 1;
}

struct layer *tree_get_layer(const struct tree *t, unsigned i)
{
        (void)t;
        (void)i;
        return NULL;
}

const struct index *layer_index(const struct layer *l)
{
        (void)l;
        return NULL;
}

const struct index_info *index_info(const struct index *ix)
{
        (void)ix;
        static const struct index_info info = {.digest = {.alg = DIGEST_SHA256, .bytes = {0xab}}};
        return &info;
}

const struct tree_stats *tree_stats(const struct tree *t)
{
        (void)t;
        return &fake_stats;
}

const struct tree *image_tree(const struct image *im)
{
        (void)im;
        return NULL;
}

const char *image_name(const struct image *im)
{
        (void)im;
        return "fake.example/image, with a comma:latest";
}

json_t *image_stat(const struct image *im)
{
        (void)im;
        static const char text[] = "{\"image\":\"fake\"}";
        json_t *json = NULL;
        return json_parse(text, sizeof text - 1, &json, NULL) == 0 ? json : NULL;
}

void image_count_error(struct image *im)
{
        (void)im;
        atomic_fetch_add(&fake_errors, 1);
}
