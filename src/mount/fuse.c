/* How: each request reads the tree and answers from the stack or from a buffer that belongs to the thread; no locks.
 *
 * What makes it fast is said in the first message (init) and in the answers: timeouts that never end, for names that are
 * not there too; ENOSYS for open and opendir, which a kernel that knows it takes as "all is well, keep the pages, do not
 * ask again"; directories listed with attributes. After that a walk over what was seen before asks us nothing.
 *
 * What was tried and left out: the kernel's read-ahead of 128 KiB raised to 1 MiB (a quarter of the requests, no less time,
 * and each page fault of a program would fetch 1 MiB around it; the span cache reads ahead by itself), splice (nothing, as
 * the bytes are in our memory), readdirplus always (twice as slow for a cold find, no faster for du), small files given to the
 * kernel before tar asks for them (notify_store: a third of the requests, no less time, as tar waits for inflating then).
 *
 * The mount is read-only, so the requests that change something arrive only after somebody remounted it "rw". They are
 * refused all the same.
 *
 * POSIX ACLs are the kernel's business where it checks permissions: it asks for them, keeps them, enforces them. That is
 * only asked of it when the tree has some, as it costs a request for each inode that somebody else than its owner uses.
 *
 * Some extended attributes are ours, answered when asked by name and never listed, so that copies do not carry them away:
 *   user.imagefs.layer        digest of the layer that a file's content came from
 *   user.imagefs.layer_index  its number, 0 is the bottom
 *   user.imagefs.stat         (root only) image_stat() as JSON
 *   user.imagefs.requests     (root only) what the kernel asked so far, as JSON
 * The kernel itself answers ENODATA for "user." names of symlinks and devices. */
#include "mount/fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"

enum {
        FOREVER_S = 1000000000, /* 31 years; the kernel turns more into a clamp anyway */
        NAME_LIMIT = 255,       /* longer names no Linux file system shows */
        BLOCK = 4096,
        READ_LIMIT = 1 << 20, /* what the kernel asks for at most; checked, not trusted */
        XATTR_LIMIT = 65536,  /* XATTR_SIZE_MAX */
        FIRST_ENTRY = 2,      /* position of the first name in a directory, behind "." and ".." */
};

static const char *const count_names[FUSE_COUNTS] = {
        "lookup",
        "getattr",
        "readlink",
        "open",
        "read",
        "opendir",
        "readdir",
        "readdirplus",
        "getxattr",
        "listxattr",
        "statfs",
        "forget",
        "refused",
};

/* ---- helpers ---- */

static struct fuse_server *enter(fuse_req_t req, enum fuse_count what)
{
        struct fuse_server *server = fuse_req_userdata(req);
        atomic_fetch_add_explicit(&server->count[what], 1, memory_order_relaxed);
        return server;
}

/* Number of an inode that the kernel knows; 0, and the request is answered, when it makes no sense. */
static uint32_t inode_of(fuse_req_t req, const struct fuse_server *server, fuse_ino_t ino)
{
        if (tree_valid(server->tree, ino))
                return (uint32_t)ino;
        fuse_reply_err(req, ESTALE);
        return 0;
}

static void fill_stat(const struct fuse_server *server, uint32_t ino, struct stat *st)
{
        struct tree_attr a;
        tree_attr(server->tree, ino, &a);
        *st = (struct stat){
                .st_ino = ino,
                .st_mode = a.mode,
                .st_nlink = a.nlink,
                .st_uid = a.uid,
                .st_gid = a.gid,
                .st_rdev = makedev(a.rdev_major, a.rdev_minor),
                .st_size = (off_t)a.size,
                .st_blocks = (blkcnt_t)a.blocks,
                .st_blksize = BLOCK,
                .st_mtim = {.tv_sec = a.mtime_s, .tv_nsec = a.mtime_ns},
        };
        st->st_atim = st->st_ctim = st->st_mtim;
}

/* ino 0: there is no such name, and that may be remembered. */
static void fill_entry(const struct fuse_server *server, uint32_t ino, struct fuse_entry_param *e)
{
        *e = (struct fuse_entry_param){.ino = ino, .attr_timeout = FOREVER_S, .entry_timeout = FOREVER_S};
        if (ino)
                fill_stat(server, ino, &e->attr);
}

/* One buffer a thread, grown to what was asked for, freed when the thread ends. */
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static bool scratch_has_key;

struct scratch {
        size_t room;
        char data[];
};

static void scratch_make_key(void)
{
        scratch_has_key = pthread_key_create(&scratch_key, free) == 0;
}

static char *scratch(size_t len)
{
        pthread_once(&scratch_once, scratch_make_key);
        if (!scratch_has_key)
                return NULL;
        struct scratch *s = pthread_getspecific(scratch_key);
        if (s && s->room >= len)
                return s->data;
        /* nothing in it is worth a copy, so no realloc() */
        size_t room = MAX(len, (size_t)128 << 10);
        struct scratch *grown = malloc(sizeof *grown + room);
        if (!grown)
                return NULL;
        grown->room = room;
        if (pthread_setspecific(scratch_key, grown) != 0) {
                free(grown);
                return NULL;
        }
        free(s);
        return grown->data;
}

/* ---- the first message ---- */

static void init(void *userdata, struct fuse_conn_info *conn)
{
        struct fuse_server *server = userdata;
        unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                          FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPORT_SUPPORT |
                          FUSE_CAP_ASYNC_DIO | (server->checks && server->has_acls ? FUSE_CAP_POSIX_ACL : 0);
        conn->want = conn->capable & wanted;
        conn->max_background = 64;
        conn->congestion_threshold = 48;
        conn->time_gran = 1;
        server->no_open = conn->capable & FUSE_CAP_NO_OPEN_SUPPORT;
        server->no_opendir = conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
        log_debug(LOG_FUSE, "init: protocol %u.%u, kernel offers %#x, we take %#x, max_readahead %u", conn->proto_major,
                conn->proto_minor, conn->capable, conn->want, conn->max_readahead);
        if (server->ready)
                server->ready(server->ready_ctx);
}

/* ---- names and attributes ---- */

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
        const struct fuse_server *server = enter(req, FUSE_COUNT_LOOKUP);
        uint32_t dir = inode_of(req, server, parent);
        if (!dir)
                return;
        uint32_t ino;
        if (strcmp(name, ".") == 0) /* only a kernel that resolves file handles asks for these two */
                ino = dir;
        else if (strcmp(name, "..") == 0)
                ino = tree_parent(server->tree, dir);
        else
                ino = tree_lookup(server->tree, dir, name, strlen(name));
        log_debug(LOG_FUSE, "lookup %u %s: %u", dir, name, ino);
        struct fuse_entry_param e;
        fill_entry(server, ino, &e);
        fuse_reply_entry(req, &e);
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
        (void)ino;
        (void)nlookup;
        enter(req, FUSE_COUNT_FORGET);
        fuse_reply_none(req);
}

static void forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
        (void)count;
        (void)forgets;
        enter(req, FUSE_COUNT_FORGET);
        fuse_reply_none(req);
}

static void getattr(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
        (void)fi;
        const struct fuse_server *server = enter(req, FUSE_COUNT_GETATTR);
        uint32_t ino = inode_of(req, server, number);
        if (!ino)
                return;
        struct stat st;
        fill_stat(server, ino, &st);
        log_debug(LOG_FUSE, "getattr %u", ino);
        fuse_reply_attr(req, &st, FOREVER_S);
}

static void readlink_(fuse_req_t req, fuse_ino_t number)
{
        const struct fuse_server *server = enter(req, FUSE_COUNT_READLINK);
        uint32_t ino = inode_of(req, server, number);
        if (!ino)
                return;
        const char *target = tree_symlink(server->tree, ino);
        log_debug(LOG_FUSE, "readlink %u: %s", ino, target ? target : "no symlink");
        if (target)
                fuse_reply_readlink(req, target);
        else
                fuse_reply_err(req, EINVAL);
}

static void statfs_(fuse_req_t req, fuse_ino_t number)
{
        (void)number;
        const struct fuse_server *server = enter(req, FUSE_COUNT_STATFS);
        const struct tree_stats *stats = tree_stats(server->tree);
        struct statvfs st = {
                .f_bsize = BLOCK,
                .f_frsize = BLOCK,
                .f_blocks = stats->bytes / BLOCK + (stats->bytes % BLOCK != 0),
                .f_files = stats->inodes,
                .f_namemax = NAME_LIMIT,
        };
        fuse_reply_statfs(req, &st);
}

/* ---- directories ---- */

static void opendir_(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
        const struct fuse_server *server = enter(req, FUSE_COUNT_OPENDIR);
        if (server->no_opendir) {
                fuse_reply_err(req, ENOSYS);
                return;
        }
        if (!inode_of(req, server, number))
                return;
        fi->cache_readdir = 1;
        fi->keep_cache = 1;
        fuse_reply_open(req, fi);
}

static void releasedir(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
        (void)number;
        (void)fi;
        fuse_reply_err(req, 0);
}

/* Name and inode at a position: 0 and 1 are "." and "..". false behind the last. A name that the kernel would stumble over
 * (it drops the whole directory then) gives ino 0. */
static bool entry_at(
        const struct fuse_server *server, uint32_t dir, uint64_t pos, char name[NAME_LIMIT + 1], uint32_t *ret_ino)
{
        if (pos < FIRST_ENTRY) {
                strcpy(name, pos ? ".." : ".");
                *ret_ino = pos ? tree_parent(server->tree, dir) : dir;
                return true;
        }
        if (pos - FIRST_ENTRY >= tree_dir_count(server->tree, dir))
                return false;
        struct tree_dirent d;
        tree_dir_entry(server->tree, dir, (uint32_t)(pos - FIRST_ENTRY), &d);
        bool fits = d.name_len && d.name_len <= NAME_LIMIT;
        *ret_ino = fits ? d.ino : 0;
        if (fits) {
                memcpy(name, d.name, d.name_len);
                name[d.name_len] = '\0';
        }
        return true;
}

/* Bytes that the entry takes in buf; nothing is written when that is more than room. */
static size_t add_entry(fuse_req_t req, const struct fuse_server *server, char *buf, size_t room, const char *name,
        uint32_t ino, uint64_t pos, bool plus)
{
        if (!plus) {
                struct tree_attr a;
                tree_attr(server->tree, ino, &a);
                struct stat st = {.st_ino = ino, .st_mode = a.mode};
                return fuse_add_direntry(req, buf, room, name, &st, (off_t)(pos + 1));
        }
        struct fuse_entry_param e;
        fill_entry(server, ino, &e);
        if (pos < FIRST_ENTRY)
                e.ino = 0; /* no look-up: the kernel knows both already */
        return fuse_add_direntry_plus(req, buf, room, name, &e, (off_t)(pos + 1));
}

static void list(fuse_req_t req, fuse_ino_t number, size_t size, off_t off, bool plus)
{
        const struct fuse_server *server = enter(req, plus ? FUSE_COUNT_READDIRPLUS : FUSE_COUNT_READDIR);
        uint32_t dir = inode_of(req, server, number);
        if (!dir)
                return;
        size = MIN(size, (size_t)READ_LIMIT);
        char *buf = scratch(size);
        if (!buf) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        size_t len = 0;
        char name[NAME_LIMIT + 1];
        uint32_t ino;
        for (uint64_t pos = (uint64_t)off; entry_at(server, dir, pos, name, &ino); pos++) {
                if (!ino)
                        continue;
                size_t taken = add_entry(req, server, buf + len, size - len, name, ino, pos, plus);
                if (taken > size - len)
                        break;
                len += taken;
        }
        log_debug(LOG_FUSE, "readdir%s %u at %lld: %zu bytes", plus ? "plus" : "", dir, (long long)off, len);
        fuse_reply_buf(req, buf, len);
}

static void readdir_(fuse_req_t req, fuse_ino_t number, size_t size, off_t off, struct fuse_file_info *fi)
{
        (void)fi;
        list(req, number, size, off, false);
}

static void readdirplus(fuse_req_t req, fuse_ino_t number, size_t size, off_t off, struct fuse_file_info *fi)
{
        (void)fi;
        list(req, number, size, off, true);
}

/* ---- files ---- */

static void open_(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
        const struct fuse_server *server = enter(req, FUSE_COUNT_OPEN);
        if ((fi->flags & O_ACCMODE) != O_RDONLY) {
                fuse_reply_err(req, EROFS);
                return;
        }
        if (server->no_open) {
                fuse_reply_err(req, ENOSYS);
                return;
        }
        if (!inode_of(req, server, number))
                return;
        fi->keep_cache = 1;
        fuse_reply_open(req, fi);
}

static void release(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *fi)
{
        (void)number;
        (void)fi;
        fuse_reply_err(req, 0);
}

/* The i-th name that leads to ino in dir; false: none. */
static bool name_in(const struct tree *t, uint32_t dir, uint32_t ino, struct tree_dirent *ret)
{
        uint32_t count = tree_dir_count(t, dir);
        for (uint32_t i = 0; i < count; i++) {
                tree_dir_entry(t, dir, i, ret);
                if (ret->ino == ino)
                        return true;
        }
        return false;
}

/* A path of an inode, found by looking everywhere: only for the log, and there seldom. Directories know their parents. */
static void find_path(const struct tree *t, uint32_t ino, struct buf *path)
{
        struct tree_dirent d;
        uint32_t dir = 0;
        for (uint32_t i = TREE_ROOT; !dir && tree_valid(t, i); i++)
                if (name_in(t, i, ino, &d))
                        dir = i;
        if (!dir)
                return;
        /* from the leaf up, each name put in front of the last */
        char text[1024];
        size_t at = sizeof text;
        for (;;) {
                if (d.name_len + 1 > at)
                        break;
                at -= d.name_len;
                memcpy(text + at, d.name, d.name_len);
                text[--at] = '/';
                uint32_t parent = tree_parent(t, dir);
                if (dir == TREE_ROOT || !name_in(t, parent, dir, &d))
                        break;
                dir = parent;
        }
        buf_add(path, text + at, sizeof text - at);
}

/* A read that failed: counted always, logged at most once a second. Called after the reply, nobody waits for it. */
static void warn_read(struct fuse_server *server, uint32_t ino, const struct error *err)
{
        image_count_error(server->image);
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t last = atomic_load(&server->warned_s);
        if (last == now.tv_sec || !atomic_compare_exchange_strong(&server->warned_s, &last, now.tv_sec)) {
                atomic_fetch_add(&server->warnings_held, 1);
                return;
        }
        uint64_t held = atomic_exchange(&server->warnings_held, 0);
        struct buf path;
        buf_init(&path, 2048);
        find_path(server->tree, ino, &path);
        log_warning("%s: inode %u: %s: %s", image_name(server->image), ino, buf_str(&path), err->msg);
        if (held)
                log_warning(
                        "%s: %llu more reads failed before that", image_name(server->image), (unsigned long long)held);
        buf_done(&path);
}

/* What a reader is told: our words for bad bytes and a bad network mean nothing to it. */
static int reader_errno(int code)
{
        switch (-code) {
        case EINVAL:
        case ENOMEM:
        case EISDIR:
        case EINTR: return -code;
        default: return EIO;
        }
}

static void read_(fuse_req_t req, fuse_ino_t number, size_t size, off_t off, struct fuse_file_info *fi)
{
        (void)fi;
        struct fuse_server *server = enter(req, FUSE_COUNT_READ);
        uint32_t ino = inode_of(req, server, number);
        if (!ino)
                return;
        size = MIN(size, (size_t)READ_LIMIT);
        char *buf = scratch(size);
        if (!buf) {
                fuse_reply_err(req, ENOMEM);
                return;
        }
        struct error err = {0};
        ssize_t n = tree_read(server->tree, ino, buf, size, (uint64_t)off, &err);
        log_debug(LOG_FUSE, "read %u: %zu at %lld: %zd", ino, size, (long long)off, n);
        if (n >= 0) {
                fuse_reply_buf(req, buf, (size_t)n);
                return;
        }
        fuse_reply_err(req, reader_errno((int)n));
        warn_read(server, ino, &err);
}

/* ---- extended attributes ---- */

/* Answers both forms of the call: size 0 asks for the length. */
static void reply_xattr(fuse_req_t req, const void *value, size_t len, size_t size)
{
        if (len > XATTR_LIMIT)
                fuse_reply_err(req, E2BIG);
        else if (!size)
                fuse_reply_xattr(req, len);
        else if (len > size)
                fuse_reply_err(req, ERANGE);
        else
                fuse_reply_buf(req, value, len);
}

static void reply_text(fuse_req_t req, char *text, size_t size)
{
        if (text)
                reply_xattr(req, text, strlen(text), size);
        else
                fuse_reply_err(req, ENOMEM);
        free(text);
}

/* Text of one of our own attributes; false: it is none of them, or not on this inode. *ret_text NULL: out of memory. */
static bool own_xattr(const struct fuse_server *server, uint32_t ino, const char *name, char **ret_text)
{
        static const char prefix[] = "user.imagefs.";
        if (strncmp(name, prefix, sizeof prefix - 1) != 0)
                return false;
        name += sizeof prefix - 1;
        if (ino == TREE_ROOT && strcmp(name, "stat") == 0) {
                cleanup(json_freep) json_t *json = image_stat(server->image);
                *ret_text = json ? json_text(json, false) : NULL;
                return true;
        }
        if (ino == TREE_ROOT && strcmp(name, "requests") == 0) {
                *ret_text = fuse_server_counts(server);
                return true;
        }
        int layer = tree_layer(server->tree, ino);
        if (layer < 0)
                return false;
        if (strcmp(name, "layer_index") == 0) {
                if (asprintf(ret_text, "%d", layer) < 0)
                        *ret_text = NULL;
                return true;
        }
        if (strcmp(name, "layer") != 0)
                return false;
        char text[DIGEST_MAX_TEXT];
        const struct index *ix = layer_index(tree_get_layer(server->tree, (unsigned)layer));
        *ret_text = strdup(digest_format(&index_info(ix)->digest, text));
        return true;
}

static bool is_acl(const char *name)
{
        return strncmp(name, "system.posix_acl_", 17) == 0;
}

static bool is_label(const char *name)
{
        return strcmp(name, "security.selinux") == 0;
}

/* "Not supported" is what makes "ls -l" ask once a mount instead of once a file, so it is the answer for attributes of a
 * kind that the whole tree has none of. */
static bool unsupported(const struct fuse_server *server, const char *name)
{
        return (!server->has_acls && is_acl(name)) || (!server->has_labels && is_label(name));
}

static void getxattr_(fuse_req_t req, fuse_ino_t number, const char *name, size_t size)
{
        const struct fuse_server *server = enter(req, FUSE_COUNT_GETXATTR);
        uint32_t ino = inode_of(req, server, number);
        if (!ino)
                return;
        log_debug(LOG_FUSE, "getxattr %u %s", ino, name);
        char *text;
        if (own_xattr(server, ino, name, &text)) {
                reply_text(req, text, size);
                return;
        }
        size_t name_len = strlen(name);
        uint32_t count = tree_xattr_count(server->tree, ino);
        for (uint32_t i = 0; i < count; i++) {
                struct index_xattr x;
                tree_xattr(server->tree, ino, i, &x);
                if (x.name_len == name_len && memcmp(x.name, name, name_len) == 0) {
                        reply_xattr(req, x.value, x.value_len, size);
                        return;
                }
        }
        fuse_reply_err(req, unsupported(server, name) ? EOPNOTSUPP : ENODATA);
}

static void listxattr_(fuse_req_t req, fuse_ino_t number, size_t size)
{
        const struct fuse_server *server = enter(req, FUSE_COUNT_LISTXATTR);
        uint32_t ino = inode_of(req, server, number);
        if (!ino)
                return;
        struct buf names;
        buf_init(&names, XATTR_LIMIT);
        uint32_t count = tree_xattr_count(server->tree, ino);
        for (uint32_t i = 0; i < count; i++) {
                struct index_xattr x;
                tree_xattr(server->tree, ino, i, &x);
                buf_add(&names, x.name, x.name_len);
                buf_addc(&names, '\0');
        }
        log_debug(LOG_FUSE, "listxattr %u: %u", ino, count);
        if (buf_error(&names))
                fuse_reply_err(req, buf_error(&names) == -EFBIG ? E2BIG : ENOMEM);
        else
                reply_xattr(req, buf_str(&names), names.len, size);
        buf_done(&names);
}

/* ---- what is refused ---- */

static void refuse(fuse_req_t req)
{
        enter(req, FUSE_COUNT_REFUSED);
        fuse_reply_err(req, EROFS);
}

/* clang-format off */
#define REFUSE(name, ...) static void name(fuse_req_t req, __VA_ARGS__) { refuse(req); }
/* clang-format on */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
REFUSE(setattr, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
REFUSE(mknod_, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
REFUSE(mkdir_, fuse_ino_t parent, const char *name, mode_t mode)
REFUSE(unlink_, fuse_ino_t parent, const char *name)
REFUSE(symlink_, const char *link, fuse_ino_t parent, const char *name)
REFUSE(rename_, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name, unsigned flags)
REFUSE(link_, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
REFUSE(create, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
REFUSE(setxattr_, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
REFUSE(removexattr_, fuse_ino_t ino, const char *name)
REFUSE(write_, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
REFUSE(fallocate_, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
REFUSE(copy_range, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out, off_t off_out,
        struct fuse_file_info *fi_out, size_t len, int flags)
#pragma GCC diagnostic pop

/* "No such ioctl", as other file systems say to FS_IOC_GETFLAGS and the like. */
static void ioctl_(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
        const void *in, size_t in_len, size_t out_len)
{
        (void)ino;
        (void)cmd;
        (void)arg;
        (void)fi;
        (void)flags;
        (void)in;
        (void)in_len;
        (void)out_len;
        fuse_reply_err(req, ENOTTY);
}

/* What is missing here libfuse answers with ENOSYS, once for each: flush, fsync, access, locks, lseek, poll. The kernel
 * then does it alone. */
const struct fuse_lowlevel_ops fuse_server_ops = {
        .init = init,
        .lookup = lookup,
        .forget = forget,
        .forget_multi = forget_multi,
        .getattr = getattr,
        .readlink = readlink_,
        .statfs = statfs_,
        .opendir = opendir_,
        .readdir = readdir_,
        .readdirplus = readdirplus,
        .releasedir = releasedir,
        .open = open_,
        .read = read_,
        .release = release,
        .getxattr = getxattr_,
        .listxattr = listxattr_,
        .ioctl = ioctl_,
        .setattr = setattr,
        .mknod = mknod_,
        .mkdir = mkdir_,
        .unlink = unlink_,
        .rmdir = unlink_,
        .symlink = symlink_,
        .rename = rename_,
        .link = link_,
        .create = create,
        .setxattr = setxattr_,
        .removexattr = removexattr_,
        .write = write_,
        .fallocate = fallocate_,
        .copy_file_range = copy_range,
};

/* Which kinds of attributes are there at all? Few inodes have any, so this is a walk over counts: nanoseconds an inode. */
static void note_xattrs(struct fuse_server *server)
{
        const struct tree *t = server->tree;
        for (uint32_t ino = TREE_ROOT; tree_valid(t, ino); ino++) {
                uint32_t count = tree_xattr_count(t, ino);
                for (uint32_t i = 0; i < count; i++) {
                        struct index_xattr x;
                        tree_xattr(t, ino, i, &x);
                        server->has_acls |= is_acl(x.name);
                        server->has_labels |= is_label(x.name);
                }
        }
}

void fuse_server_init(struct fuse_server *server, struct image *image)
{
        *server = (struct fuse_server){.image = image, .tree = image_tree(image), .warned_s = -1};
        note_xattrs(server);
}

char *fuse_server_counts(const struct fuse_server *server)
{
        struct buf text;
        buf_init(&text, 4096);
        buf_addc(&text, '{');
        for (unsigned i = 0; i < FUSE_COUNTS; i++)
                buf_addf(&text, "%s\"%s\":%llu", i ? "," : "", count_names[i],
                        (unsigned long long)atomic_load_explicit(&server->count[i], memory_order_relaxed));
        buf_addc(&text, '}');
        char *result = buf_take(&text, NULL);
        buf_done(&text);
        return result;
}
