/*
 * The directory, whole files (documents, indexes, names) and locks. Blobs are in store_blob.c, bounds in store_gc.c.
 *
 * How: all directories are opened once and everything is done relative to their descriptors, with O_NOFOLLOW, so that a
 * renamed or replaced path changes nothing under a live process. Whole files appear by rename only.
 *
 * Temporary files are written in one directory, under a shared flock of locks/tmp. The lock dies with the process, so
 * whoever gets it exclusively may remove all that is there: no guessing by age or process id, which would go wrong
 * across pid namespaces and clocks.
 *
 * Lock files of digests stay where they are (unlinking one that somebody waits for splits the lock in two). The collector
 * removes old ones while it holds them, and a taker checks after locking that its file still has the name.
 *
 * A failed write turns writing off for this process's lifetime; the reasons are those that do not go away by themselves
 * within it. Known limit: on file systems without flock (some network ones) locks fail, and then nothing is agreed upon:
 * work may be done twice, results are the same.
 */
#include "blob/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"

enum { NAME_FILE_MAX = 64 << 10, TOUCH_AFTER_S = 60 };
static const uint64_t size_max_default = (uint64_t)10 << 30;

/* ---- small things ---- */

int store_pread(int fd, void *data, size_t len, uint64_t off)
{
        uint8_t *at = data;
        while (len) {
                ssize_t n = pread(fd, at, len, (off_t)off);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                at += n;
                off += (uint64_t)n;
                len -= (size_t)n;
        }
        return 0;
}

int store_pwrite(int fd, const void *data, size_t len, uint64_t off)
{
        const uint8_t *at = data;
        while (len) {
                ssize_t n = pwrite(fd, at, len, (off_t)off);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                at += n;
                off += (uint64_t)n;
                len -= (size_t)n;
        }
        return 0;
}

int store_open_file(int dirfd, const char *name, int flags)
{
        if (dirfd < 0)
                return -ENOENT;
        cleanup(closep) int fd = openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) ? take_fd(&fd) : -ELOOP;
}

bool store_same_file(int dirfd, const char *name, int fd)
{
        struct stat mine, named;
        return fstat(fd, &mine) == 0 && fstatat(dirfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
               mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
}

int store_digest_dir(const struct store *s, enum store_place place, const struct digest *d)
{
        return s->fd[2 * place + (d->alg == DIGEST_SHA512)];
}

int store_failed(struct store *s, const char *what, int code)
{
        /* these belong to the process or the moment, not to the directory */
        if (code == -ENOMEM || code == -EMFILE || code == -ENFILE || code == -EINTR)
                return code;
        /* somebody removed it under us, once or (EBUSY) again and again: this piece is not kept, the next one may be */
        if (code == -ENOENT || code == -EBUSY || code == -EEXIST) {
                log_debug(LOG_CACHE, "cache %s: %s: %s", s->dir, what, strerror(-code));
                return 0;
        }
        if (!atomic_exchange(&s->off, true))
                log_warning("cache %s: %s: %s; the work goes on, but nothing more is kept there", s->dir, what,
                        strerror(-code));
        return 0;
}

bool store_on(const struct store *s)
{
        return s->fd[STORE_TMP] >= 0 && !atomic_load(&s->off);
}

bool store_writable(const struct store *s)
{
        return store_on(s) && !atomic_load(&s->full);
}

const char *store_dir(const struct store *s)
{
        return s->dir;
}

struct store_counters store_count(const struct store *s)
{
        return (struct store_counters){
                .read_bytes = atomic_load(&s->read_bytes),
                .written_bytes = atomic_load(&s->written_bytes),
        };
}

/* ---- opening ---- */

int store_default_dir(char **ret_dir, struct error *err)
{
        const char *xdg = getenv("XDG_CACHE_HOME");
        const char *home = getenv("HOME");
        char *dir = NULL;
        int n;
        if (xdg && xdg[0] == '/') { /* relative ones are to be ignored: XDG Base Directory Specification */
                n = asprintf(&dir, "%s/imagefs", xdg);
        } else if (geteuid() == 0) {
                n = asprintf(&dir, "/var/cache/imagefs");
        } else {
                struct passwd *pw = home && home[0] == '/' ? NULL : getpwuid(geteuid());
                if (pw)
                        home = pw->pw_dir;
                if (!home || home[0] != '/')
                        return error_set(err, -ENOENT, "no home directory is known for the cache; pass --cache-dir");
                n = asprintf(&dir, "%s/.cache/imagefs", home);
        }
        if (n < 0)
                return error_nomem(err);
        *ret_dir = dir;
        return 0;
}

struct store *store_new_null(void)
{
        cleanup(freep) struct store *s = calloc(1, sizeof *s);
        if (!s || !(s->dir = strdup("")))
                return NULL;
        for (int i = 0; i < STORE_PLACES; i++)
                s->fd[i] = -1;
        s->size_max = size_max_default;
        pthread_mutex_init(&s->gc_lock, NULL);
        return take(s);
}

void store_close(struct store *s)
{
        if (!s)
                return;
        for (int i = 0; i < STORE_PLACES; i++)
                closep(&s->fd[i]);
        pthread_mutex_destroy(&s->gc_lock);
        free(s->dir);
        free(s);
}

/* makes the directory and those above it */
static int make_path(const char *dir)
{
        if (mkdir(dir, 0700) == 0 || errno == EEXIST)
                return 0;
        if (errno != ENOENT)
                return -errno;
        cleanup(freep) char *path = strdup(dir);
        if (!path)
                return -ENOMEM;
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdir(path, 0700) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        return mkdir(dir, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

/* nobody else may be able to change what is in it */
static int check_owner(const struct stat *st, const char *dir, const char *sub, struct error *err)
{
        if (st->st_uid != geteuid())
                return error_set(err, -EPERM,
                        "cache directory %s%s belongs to user %u, not to user %u who runs this; choose another one "
                        "with "
                        "--cache-dir, or change its owner",
                        dir, sub, (unsigned)st->st_uid, (unsigned)geteuid());
        if (st->st_mode & (S_IWGRP | S_IWOTH))
                return error_set(err, -EPERM,
                        "cache directory %s%s can be written by others (mode %04o); run \"chmod go-w %s%s\" or choose "
                        "another one with --cache-dir",
                        dir, sub, (unsigned)(st->st_mode & 07777), dir, sub);
        return 0;
}

/* *ret_fd stays -1 where the directory is not there and cannot be made */
static int open_sub(struct store *s, int parent, const char *name, const char *path, int *ret_fd, struct error *err)
{
        int made = mkdirat(parent, name, 0700) == 0 || errno == EEXIST ? 0 : -errno;
        cleanup(closep) int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                store_failed(s, path, made < 0 ? made : -errno);
                return 0;
        }
        struct stat st;
        int r = fstat(fd, &st) < 0 ? error_set(err, -errno, "cache directory %s%s: %s", s->dir, path, strerror(errno))
                                   : check_owner(&st, s->dir, path, err);
        if (r == 0)
                *ret_fd = take_fd(&fd);
        return r;
}

static int open_places(struct store *s, int top, struct error *err)
{
        static const struct {
                const char *name;
                int place; /* of the sha256 subdirectory, if `digests` */
                bool digests;
        } places[] = {
                {"docs", STORE_DOCS, true},
                {"index", STORE_INDEXES, true},
                {"blobs", STORE_BLOBS, true},
                {"partial", STORE_PARTIAL, false},
                {"names", STORE_NAMES, false},
                {"locks", STORE_LOCKS, false},
                {"tmp", STORE_TMP, false},
        };
        cleanup(closep) int v1 = -1;
        int r = open_sub(s, top, "v1", "/v1", &v1, err);
        for (size_t i = 0; r == 0 && v1 >= 0 && i < ARRAY_LEN(places); i++) {
                cleanup(closep) int fd = -1;
                char path[40];
                snprintf(path, sizeof path, "/v1/%s", places[i].name);
                r = open_sub(s, v1, places[i].name, path, &fd, err);
                if (!places[i].digests)
                        s->fd[places[i].place] = take_fd(&fd);
                for (int alg = 0; r == 0 && fd >= 0 && alg < 2; alg++) {
                        const char *name = alg ? "sha512" : "sha256";
                        snprintf(path, sizeof path, "/v1/%s/%s", places[i].name, name);
                        r = open_sub(s, fd, name, path, &s->fd[2 * places[i].place + alg], err);
                }
        }
        return r;
}

/* https://bford.info/cachedir/ */
static void put_tag(struct store *s, int top)
{
        static const char tag[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                                  "# This file marks a cache directory of imagefs: it need not be in backups.\n";
        struct store_tmp t;
        if (faccessat(top, "CACHEDIR.TAG", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
                return;
        int r = store_tmp_open(s, &t);
        if (r == 0) {
                r = store_pwrite(t.fd, tag, sizeof tag - 1, 0);
                if (r == 0)
                        r = store_tmp_commit(s, &t, top, "CACHEDIR.TAG", false);
                else
                        store_tmp_drop(s, &t);
        }
        if (r < 0)
                store_failed(s, "CACHEDIR.TAG", r);
}

/* can files be made there? Known at once, not when the first blob has arrived */
static void probe(struct store *s, int top)
{
        if (!store_on(s))
                return;
        cleanup(closep) int fd = store_open_file(s->fd[STORE_LOCKS], "tmp", O_RDWR | O_CREAT);
        int r = fd < 0 ? fd : faccessat(s->fd[STORE_TMP], ".", W_OK | X_OK, AT_EACCESS) < 0 ? -errno : 0;
        if (r < 0) {
                store_failed(s, "cannot be written", r);
                return;
        }
        put_tag(s, top);
        store_tmp_clean(s);
}

static struct store *without_directory(const char *dir, int code)
{
        log_warning("cache %s: %s; the work goes on, but nothing is kept", dir, strerror(-code));
        return store_new_null();
}

int store_open(const struct store_options *options, struct store **ret_store, struct error *err)
{
        cleanup(freep) char *dir = NULL;
        struct error why = {0};
        if (!options->dir && store_default_dir(&dir, &why) < 0) {
                if (why.code == -ENOMEM)
                        return error_nomem(err);
                log_warning("%s; the work goes on, but nothing is kept", why.msg);
                struct store *none = store_new_null();
                return none ? (*ret_store = none, 0) : error_nomem(err);
        }
        if (options->dir && !(dir = strdup(options->dir)))
                return error_nomem(err);

        int r = make_path(dir);
        cleanup(closep) int top = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (top < 0 && r == 0)
                r = -errno;
        /* somebody else's is refused also when it cannot even be opened */
        struct stat st;
        if ((top < 0 ? stat(dir, &st) : fstat(top, &st)) == 0 && S_ISDIR(st.st_mode)) {
                int owner = check_owner(&st, dir, "", err);
                if (owner < 0)
                        return owner;
        }
        if (top < 0) {
                struct store *none = without_directory(dir, r);
                return none ? (*ret_store = none, 0) : error_nomem(err);
        }
        cleanup(store_closep) struct store *s = store_new_null();
        if (!s)
                return error_nomem(err);
        free(s->dir);
        s->dir = take(dir);
        if (options->size_max)
                s->size_max = options->size_max;
        r = open_places(s, top, err);
        if (r < 0)
                return r;
        probe(s, top);
        if (store_on(s) && !options->manual)
                store_collect(s);
        log_debug(LOG_CACHE, "cache %s: %s", s->dir, store_on(s) ? "open" : "open for reading only");
        *ret_store = take(s);
        return 0;
}

/* ---- temporary files ---- */

int store_tmp_open(struct store *s, struct store_tmp *ret_tmp)
{
        static atomic_uint count;
        struct store_tmp t = {.fd = -1};
        cleanup(closep) int lock_fd = store_open_file(s->fd[STORE_LOCKS], "tmp", O_RDWR | O_CREAT);
        if (lock_fd < 0)
                return lock_fd;
        /* waits only for somebody who cleans, and that is short; without flock there is no cleaning either */
        while (flock(lock_fd, LOCK_SH) < 0 && errno == EINTR)
                ;
        for (int tries = 0; t.fd < 0 && tries < 16; tries++) {
                uint64_t random = 0;
                if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0)
                        random = (uint64_t)time(NULL);
                snprintf(t.name, sizeof t.name, "%ld-%u-%016llx", (long)getpid(), atomic_fetch_add(&count, 1),
                        (unsigned long long)random);
                t.fd = store_open_file(s->fd[STORE_TMP], t.name, O_RDWR | O_CREAT | O_EXCL);
                if (t.fd < 0 && t.fd != -EEXIST)
                        return t.fd;
        }
        if (t.fd < 0)
                return t.fd;
        t.lock_fd = take_fd(&lock_fd);
        *ret_tmp = t;
        return 0;
}

void store_tmp_drop(struct store *s, struct store_tmp *t)
{
        unlinkat(s->fd[STORE_TMP], t->name, 0);
        closep(&t->fd);
        closep(&t->lock_fd);
}

int store_tmp_commit(struct store *s, struct store_tmp *t, int dirfd, const char *name, bool sync)
{
        int r = sync && fsync(t->fd) < 0 ? -errno : 0;
        if (r == 0 && renameat(s->fd[STORE_TMP], t->name, dirfd, name) < 0)
                r = -errno;
        if (r < 0) {
                store_tmp_drop(s, t);
                return r;
        }
        closep(&t->fd);
        closep(&t->lock_fd);
        if (sync && fsync(dirfd) < 0 && errno != EINVAL && errno != EROFS)
                return -errno;
        return 0;
}

void store_tmp_clean(struct store *s)
{
        cleanup(closep) int lock_fd = store_open_file(s->fd[STORE_LOCKS], "tmp", O_RDWR | O_CREAT);
        if (lock_fd < 0 || flock(lock_fd, LOCK_EX | LOCK_NB) < 0)
                return;
        int fd = openat(s->fd[STORE_TMP], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                closep(&fd);
                return;
        }
        for (struct dirent *e; (e = readdir(dir));)
                if (e->d_name[0] != '.')
                        unlinkat(s->fd[STORE_TMP], e->d_name, 0);
        closedir(dir);
}

/* ---- whole files ---- */

/* appends the file to `out`, which is as before when that fails */
static int read_file(int fd, struct buf *out)
{
        struct stat st;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size < 0 || (uint64_t)st.st_size > out->max - MIN(out->max, out->len))
                return -EFBIG;
        size_t before = out->len;
        void *at = buf_extend(out, (size_t)st.st_size);
        if (!at)
                return buf_error(out);
        int r = store_pread(fd, at, (size_t)st.st_size, 0);
        if (r < 0) {
                out->len = before;
                out->data[before] = '\0';
        }
        return r;
}

/* notes that it was used, at most once a minute */
static void touch(int fd)
{
        struct stat st;
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (fstat(fd, &st) == 0 && (now.tv_sec - st.st_mtim.tv_sec >= TOUCH_AFTER_S || now.tv_sec < st.st_mtim.tv_sec))
                futimens(fd, NULL);
}

static int kind_dir(const struct store *s, enum store_kind kind, const struct digest *d)
{
        return store_digest_dir(s, kind == STORE_DOC ? STORE_DOCS : STORE_INDEXES, d);
}

/* a missing thing is nothing to talk about; one that cannot be read is looked upon as missing */
static int get_failed(const struct store *s, const char *name, int code, struct error *err)
{
        if (code == -ENOMEM || code == -EMFILE || code == -ENFILE || code == -EFBIG)
                return error_set(err, code, "cache %s: %s: %s", s->dir, name, strerror(-code));
        return error_set(err, -ENOENT, "%s is not in the cache", name);
}

int store_get(struct store *s, enum store_kind kind, const struct digest *d, struct buf *out, struct error *err)
{
        char text[DIGEST_MAX_TEXT], hex[DIGEST_MAX_TEXT];
        digest_format(d, text);
        digest_hex(d, hex);
        int dirfd = kind_dir(s, kind, d);
        cleanup(closep) int fd = store_open_file(dirfd, hex, O_RDONLY);
        size_t before = out->len;
        int r = fd < 0 ? fd : read_file(fd, out);
        if (r < 0)
                return get_failed(s, text, r, err);
        if (kind == STORE_DOC && digest_check(d, out->data + before, out->len - before, text, NULL) < 0) {
                log_debug(LOG_CACHE, "%s is damaged in the cache: removed", text);
                out->len = before;
                out->data[before] = '\0';
                if (store_same_file(dirfd, hex, fd))
                        unlinkat(dirfd, hex, 0);
                return error_set(err, -ENOENT, "%s was damaged in the cache", text);
        }
        touch(fd);
        return 0;
}

/* is that what the file holds already? then two fsyncs are saved */
static bool holds(int dirfd, const char *name, const void *data, size_t len)
{
        cleanup(closep) int fd = store_open_file(dirfd, name, O_RDONLY);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size < 0 || (uint64_t)st.st_size != len)
                return false;
        uint8_t piece[16 << 10];
        for (size_t at = 0; at < len; at += sizeof piece) {
                size_t part = MIN(sizeof piece, len - at);
                if (store_pread(fd, piece, part, at) < 0 || memcmp(piece, (const uint8_t *)data + at, part) != 0)
                        return false;
        }
        touch(fd);
        return true;
}

static int put_file(struct store *s, int dirfd, const char *name, const void *data, size_t len, struct error *err)
{
        if (!store_on(s) || dirfd < 0 || holds(dirfd, name, data, len))
                return 0;
        struct store_tmp t;
        int r = store_tmp_open(s, &t);
        if (r == 0) {
                r = store_pwrite(t.fd, data, len, 0);
                if (r == 0)
                        r = store_tmp_commit(s, &t, dirfd, name, true);
                else
                        store_tmp_drop(s, &t);
        }
        if (r < 0)
                r = store_failed(s, "write", r);
        return r < 0 ? error_set(err, r, "cache %s: write: %s", s->dir, strerror(-r)) : 0;
}

int store_put(
        struct store *s, enum store_kind kind, const struct digest *d, const void *data, size_t len, struct error *err)
{
        char hex[DIGEST_MAX_TEXT];
        return put_file(s, kind_dir(s, kind, d), digest_hex(d, hex), data, len, err);
}

int store_open_index(struct store *s, const struct digest *d, struct error *err)
{
        char hex[DIGEST_MAX_TEXT], text[DIGEST_MAX_TEXT];
        int fd = store_open_file(kind_dir(s, STORE_INDEX, d), digest_hex(d, hex), O_RDONLY);
        if (fd < 0)
                return get_failed(s, digest_format(d, text), fd, err);
        touch(fd);
        return fd;
}

void store_set_aside(struct store *s, enum store_kind kind, const struct digest *d)
{
        char hex[DIGEST_MAX_TEXT], bad[STORE_HEX_MAX];
        int dirfd = kind_dir(s, kind, d);
        snprintf(bad, sizeof bad, "%s.bad", digest_hex(d, hex));
        if (dirfd >= 0 && renameat(dirfd, hex, dirfd, bad) == 0)
                log_debug(LOG_CACHE, "%s is damaged in the cache: moved to %s", hex, bad);
}

/* ---- names: "imagefs-name 1", the name, sha256 of what follows; then that ---- */

static int name_file(const char *name, char hex[DIGEST_MAX_TEXT], struct error *err)
{
        struct digest d;
        if (digest_memory(DIGEST_SHA256, name, strlen(name), &d) < 0)
                return error_nomem(err);
        digest_hex(&d, hex);
        return 0;
}

static int name_head(const char *name, const void *data, size_t len, struct buf *out)
{
        struct digest d;
        char hex[DIGEST_MAX_TEXT];
        if (digest_memory(DIGEST_SHA256, data, len, &d) < 0)
                return -ENOMEM;
        buf_addf(out, "imagefs-name 1\n%s\n%s\n", name, digest_hex(&d, hex));
        return buf_error(out);
}

/* the payload within the file, NULL when it is not a whole file of that name */
static const char *name_payload(const char *name, const struct buf *file, size_t *ret_len)
{
        const char *at = buf_str(file);
        for (int lines = 0; lines < 3; lines++) {
                at = memchr(at, '\n', file->len - (size_t)(at - buf_str(file)));
                if (!at)
                        return NULL;
                at++;
        }
        size_t head_len = (size_t)(at - buf_str(file));
        struct buf head;
        buf_init(&head, NAME_FILE_MAX);
        bool right = name_head(name, at, file->len - head_len, &head) == 0 && head.len == head_len &&
                     memcmp(head.data, file->data, head_len) == 0;
        buf_done(&head);
        *ret_len = file->len - head_len;
        return right ? at : NULL;
}

int store_get_name(struct store *s, const char *name, struct buf *out, struct error *err)
{
        char hex[DIGEST_MAX_TEXT];
        int r = name_file(name, hex, err);
        if (r < 0)
                return r;
        cleanup(closep) int fd = store_open_file(s->fd[STORE_NAMES], hex, O_RDONLY);
        cleanup(buf_done) struct buf file;
        buf_init(&file, NAME_FILE_MAX);
        r = fd < 0 ? fd : read_file(fd, &file);
        size_t len = 0;
        const char *payload = r == 0 ? name_payload(name, &file, &len) : NULL;
        if (!payload)
                return get_failed(s, name, r == -EFBIG || r == 0 ? -ENOENT : r, err);
        buf_add(out, payload, len);
        return buf_error(out) ? error_set(err, buf_error(out), "cache %s: %s is too large", s->dir, name) : 0;
}

int store_put_name(struct store *s, const char *name, const void *data, size_t len, struct error *err)
{
        char hex[DIGEST_MAX_TEXT];
        if (!store_on(s))
                return 0;
        cleanup(buf_done) struct buf file;
        buf_init(&file, NAME_FILE_MAX);
        int r = name_file(name, hex, err);
        if (r < 0)
                return r;
        r = name_head(name, data, len, &file);
        buf_add(&file, data, len);
        if (r < 0 || buf_error(&file))
                return error_set(err, r < 0 ? r : buf_error(&file), "cache: what %s resolves to is too large", name);
        return put_file(s, s->fd[STORE_NAMES], hex, file.data, file.len, err);
}

/* ---- locks ---- */

int store_try_lock(struct store *s, const char *name, bool create)
{
        cleanup(closep) int fd = store_open_file(s->fd[STORE_LOCKS], name, O_RDWR | (create ? O_CREAT : 0));
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || !store_same_file(s->fd[STORE_LOCKS], name, fd))
                return -1;
        return take_fd(&fd);
}

static int64_t now_ms(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 1: locked; 0: somebody else has it, or the file lost its name and is closed; -errno: it can't be locked at all */
static int lock_once(struct store *s, const char *name, int *fd)
{
        if (*fd < 0) {
                int opened = store_open_file(s->fd[STORE_LOCKS], name, O_RDWR | O_CREAT);
                if (opened < 0)
                        return opened;
                *fd = opened;
        }
        if (flock(*fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
        if (store_same_file(s->fd[STORE_LOCKS], name, *fd)) {
                futimens(*fd, NULL);
                return 1;
        }
        closep(fd);
        return 0;
}

int store_lock(struct store *s, const struct digest *d, int timeout_ms, int *ret_fd, struct error *err)
{
        char hex[DIGEST_MAX_TEXT];
        digest_hex(d, hex);
        int64_t begin = now_ms();
        long pause_ms = 1;
        cleanup(closep) int fd = -1;
        for (;;) {
                int r = store_on(s) ? lock_once(s, hex, &fd) : -EROFS;
                if (r == -ENOMEM || r == -EMFILE || r == -ENFILE)
                        return error_set(err, r, "cache %s: lock: %s", s->dir, strerror(-r));
                if (r != 0) {
                        /* what can't be locked can't be written either: the one who makes it just makes it */
                        if (r < 0)
                                log_debug(LOG_CACHE, "lock %s: %s", hex, strerror(-r));
                        *ret_fd = r < 0 ? -1 : take_fd(&fd);
                        return 0;
                }
                int64_t waited = now_ms() - begin;
                if (timeout_ms >= 0 && waited >= timeout_ms)
                        return error_set(err, -ETIMEDOUT,
                                "cache %s: another process has been at work on %.12s for more than %d s", s->dir, hex,
                                timeout_ms / 1000);
                long pause = timeout_ms < 0 ? pause_ms : (long)MIN((int64_t)pause_ms, timeout_ms - waited);
                nanosleep(&(struct timespec){.tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000000}, NULL);
                pause_ms = MIN(pause_ms * 2, 50L);
        }
}
