/*
 * Blobs: the first bytes of one that is on its way (partial/HEX), and one that is kept chunk by chunk (blobs/HEX and
 * HEX.map).
 *
 *   HEX.map:   "imfsmap1" | size, 8 bytes LE | chunk count, 8 bytes LE | reserved, 8 bytes 0 | one byte a chunk: 0 or 1
 *
 * The map is a hint, because every chunk is hashed when it is read; so nothing here needs an order of writes, a sync or a
 * lock between processes, and kill -9 at any moment costs a fetch at worst. A byte a chunk and not a bit: setting it is
 * one pwrite that cannot lose a neighbour's. It is read with pread and not mapped, because another process may do what it
 * likes with the file, and a short file must be an answer, not a SIGBUS; a pread costs less than hashing one kilobyte.
 * A map whose header is not exactly the one that we would write is replaced by a fresh one.
 *
 * Eviction by anybody unlinks both files and cuts the data to nothing, so that the space is free although live mounts
 * have it open. They find their reads short, forget the chunk, fetch it, and at the next write see that the file has no
 * name any more: then they start afresh under the name.
 */
#include "blob/store_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "base/wire.h"

enum { MAP_HEAD = 32, TOUCH_AFTER_S = 60, WRITEBACK_STEP = 8 << 20 };

static void map_head(uint8_t head[MAP_HEAD], uint64_t size, uint64_t chunk_count)
{
        memset(head, 0, MAP_HEAD);
        memcpy(head, "imfsmap1", 8);
        put_le64(head + 8, size);
        put_le64(head + 16, chunk_count);
}

static const char *map_name(const char *hex, char name[STORE_HEX_MAX])
{
        snprintf(name, STORE_HEX_MAX, "%s.map", hex);
        return name;
}

/* head and length are right; the bytes behind it may say anything */
static bool map_fits(int fd, uint64_t size, uint64_t chunk_count)
{
        uint8_t want[MAP_HEAD], got[MAP_HEAD];
        struct stat st;
        map_head(want, size, chunk_count);
        return fstat(fd, &st) == 0 && st.st_size >= 0 && (uint64_t)st.st_size == MAP_HEAD + chunk_count &&
               store_pread(fd, got, sizeof got, 0) == 0 && memcmp(want, got, sizeof want) == 0;
}

/* a new map of zeros, or of ones */
static int map_write(int fd, uint64_t size, uint64_t chunk_count, bool present)
{
        uint8_t piece[4096];
        map_head(piece, size, chunk_count);
        int r = store_pwrite(fd, piece, MAP_HEAD, 0);
        if (r == 0 && ftruncate(fd, (off_t)(MAP_HEAD + chunk_count)) < 0)
                r = -errno;
        memset(piece, 1, sizeof piece);
        for (uint64_t at = 0; r == 0 && present && at < chunk_count; at += sizeof piece)
                r = store_pwrite(fd, piece, (size_t)MIN((uint64_t)sizeof piece, chunk_count - at), MAP_HEAD + at);
        return r;
}

/* both fit into a file */
static bool sizes_ok(uint64_t size, uint64_t chunk_count)
{
        return size <= INT64_MAX && chunk_count <= INT64_MAX - MAP_HEAD;
}

/* ---- the first pass ---- */

struct store_partial {
        struct store *store;
        struct digest digest;
        char hex[DIGEST_MAX_TEXT];
        int fd;                 /* -1: the store was turned off, nothing is kept */
        uint64_t size;          /* of the whole blob */
        uint64_t len;           /* bytes in the file */
        uint64_t writeback_off; /* up to here the kernel was asked to write */
};

static void partial_free(struct store_partial *p)
{
        closep(&p->fd);
        free(p);
}

/* gives up keeping; whoever appends goes on without noticing */
static void partial_drop(struct store_partial *p)
{
        if (p->fd >= 0 && store_same_file(p->store->fd[STORE_PARTIAL], p->hex, p->fd))
                unlinkat(p->store->fd[STORE_PARTIAL], p->hex, 0);
        if (p->fd >= 0 && ftruncate(p->fd, 0) < 0)
                log_debug(LOG_CACHE, "truncate: %s", strerror(errno));
        closep(&p->fd);
}

/* does the map of a blob, whatever its count of chunks, call all of them present? */
static bool map_is_full(int fd, uint64_t size)
{
        uint8_t want[MAP_HEAD], piece[4096];
        struct stat st;
        if (fstat(fd, &st) < 0 || st.st_size < MAP_HEAD)
                return false;
        uint64_t count = (uint64_t)st.st_size - MAP_HEAD;
        map_head(want, size, count);
        if (store_pread(fd, piece, MAP_HEAD, 0) < 0 || memcmp(want, piece, MAP_HEAD) != 0)
                return false;
        for (uint64_t at = 0; at < count; at += sizeof piece) {
                size_t len = (size_t)MIN((uint64_t)sizeof piece, count - at);
                if (store_pread(fd, piece, len, MAP_HEAD + at) < 0)
                        return false;
                for (size_t i = 0; i < len; i++)
                        if (piece[i] != 1)
                                return false;
        }
        return true;
}

/* A blob that is complete but has lost its index becomes the partial file, so that it need not be fetched to be read again.
 * Whether its bytes are right is found out as for any other partial file. */
static void take_back(struct store_partial *p)
{
        struct store *s = p->store;
        char name[STORE_HEX_MAX];
        int blobs = store_digest_dir(s, STORE_BLOBS, &p->digest);
        cleanup(closep) int data = store_open_file(blobs, p->hex, O_RDONLY);
        cleanup(closep) int map = store_open_file(blobs, map_name(p->hex, name), O_RDONLY);
        struct stat st;
        if (data < 0 || map < 0 || fstat(data, &st) < 0 || (uint64_t)st.st_size != p->size ||
                !map_is_full(map, p->size))
                return;
        /* the map first: one that stays behind would promise what is not there */
        if (faccessat(s->fd[STORE_PARTIAL], p->hex, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && unlinkat(blobs, name, 0) == 0)
                renameat2(blobs, p->hex, s->fd[STORE_PARTIAL], p->hex, RENAME_NOREPLACE);
}

int store_partial_open(struct store *s, const struct digest *d, uint64_t size, struct store_partial **ret_partial,
        uint64_t *ret_len, struct error *err)
{
        store_look_again(s);
        if (!store_writable(s) || size > INT64_MAX) {
                *ret_partial = NULL;
                *ret_len = 0;
                return 0;
        }
        struct store_partial *p = calloc(1, sizeof *p);
        if (!p)
                return error_nomem(err);
        p->store = s;
        p->digest = *d;
        p->size = size;
        digest_hex(d, p->hex);
        take_back(p);
        p->fd = store_open_file(s->fd[STORE_PARTIAL], p->hex, O_RDWR | O_CREAT);
        struct stat st;
        int r = p->fd < 0 ? p->fd : fstat(p->fd, &st) < 0 ? -errno : 0;
        if (r == 0 && (uint64_t)st.st_size > size) {
                st.st_size = 0;
                r = ftruncate(p->fd, 0) < 0 ? -errno : 0;
        }
        if (r < 0) {
                r = store_failed(s, "open partial file", r);
                partial_free(p);
                if (r < 0)
                        return error_set(err, r, "cache %s: %s", s->dir, strerror(-r));
                *ret_partial = NULL;
                *ret_len = 0;
                return 0;
        }
        p->len = p->writeback_off = (uint64_t)st.st_size;
        *ret_partial = p;
        *ret_len = p->len;
        return 0;
}

ssize_t store_partial_read(struct store_partial *p, void *data, size_t len, uint64_t off)
{
        if (p->fd < 0)
                return -EIO;
        for (;;) {
                ssize_t n = pread(p->fd, data, len, (off_t)off);
                if (n >= 0 || errno != EINTR)
                        return n < 0 ? -errno : n;
        }
}

int store_partial_append(struct store_partial *p, const void *data, size_t len, struct error *err)
{
        struct store *s = p->store;
        if (p->fd < 0)
                return 0;
        if (len > p->size - p->len)
                return error_set(err, -EBADMSG, "%s is longer than the %llu bytes it should have", p->hex,
                        (unsigned long long)p->size);
        if (!store_writable(s)) {
                partial_drop(p);
                return 0;
        }
        int r = store_pwrite(p->fd, data, len, p->len);
        if (r < 0) {
                partial_drop(p);
                r = store_failed(s, "write", r);
                return r < 0 ? error_set(err, r, "cache %s: write: %s", s->dir, strerror(-r)) : 0;
        }
        p->len += len;
        /* the disk begins early, so that the fsync at the end has little left to wait for */
        if (p->len - p->writeback_off >= WRITEBACK_STEP) {
                sync_file_range(
                        p->fd, (off_t)p->writeback_off, (off_t)(p->len - p->writeback_off), SYNC_FILE_RANGE_WRITE);
                p->writeback_off = p->len;
        }
        store_wrote(s, len);
        return 0;
}

/* The map comes last: killed in between, the data are lost, but nothing is promised that is not there. Everything slow is
 * done before, so that this takes bad luck. */
static int partial_rename(struct store_partial *p, uint64_t chunk_count)
{
        struct store *s = p->store;
        int blobs = store_digest_dir(s, STORE_BLOBS, &p->digest);
        char name[STORE_HEX_MAX];
        struct store_tmp t;
        if (fdatasync(p->fd) < 0)
                return -errno;
        int r = store_tmp_open(s, &t);
        if (r < 0)
                return r;
        r = map_write(t.fd, p->size, chunk_count, true);
        if (r < 0) {
                store_tmp_drop(s, &t);
                return r;
        }
        map_name(p->hex, name);
        if (fdatasync(t.fd) < 0 || (unlinkat(blobs, name, 0) < 0 && errno != ENOENT) ||
                renameat(s->fd[STORE_PARTIAL], p->hex, blobs, p->hex) < 0) {
                r = -errno;
                store_tmp_drop(s, &t);
                return r;
        }
        return store_tmp_commit(s, &t, blobs, name, true);
}

int store_partial_publish(struct store_partial *p, uint64_t chunk_count, struct error *err)
{
        struct store *s = p->store;
        int r = 0;
        if (p->fd >= 0 && p->len != p->size) {
                r = error_set(err, -EBADMSG, "%s has %llu bytes instead of %llu", p->hex, (unsigned long long)p->len,
                        (unsigned long long)p->size);
                partial_drop(p);
        } else if (p->fd >= 0 && store_same_file(s->fd[STORE_PARTIAL], p->hex, p->fd) &&
                   sizes_ok(p->size, chunk_count)) {
                /* a file that somebody removed meanwhile is simply not kept */
                r = partial_rename(p, chunk_count);
                if (r < 0) {
                        partial_drop(p);
                        r = store_failed(s, "publish", r);
                        if (r < 0)
                                error_set(err, r, "cache %s: publish: %s", s->dir, strerror(-r));
                } else {
                        log_debug(LOG_CACHE, "%s: complete, %llu bytes", p->hex, (unsigned long long)p->size);
                        store_collect(s);
                }
        }
        partial_free(p);
        return r;
}

void store_partial_keep(struct store_partial *p)
{
        if (p)
                partial_free(p);
}

void store_partial_discard(struct store_partial *p)
{
        if (!p)
                return;
        partial_drop(p);
        partial_free(p);
}

/* ---- chunk by chunk ---- */

struct store_blob {
        struct store *store;
        struct digest digest;
        char hex[DIGEST_MAX_TEXT];
        uint64_t size, chunk_count;
        bool spill;                   /* the files have no name and are ours alone */
        bool writable;                /* was opened for writing */
        pthread_rwlock_t lock;        /* taken for writing only to replace the descriptors */
        int data_fd, map_fd;          /* under lock; both valid always */
        atomic_int_least64_t touched; /* when the use was last noted, seconds */
};

/* an unlinked temporary file where users keep such */
static int spill_file(void)
{
        const char *env = getenv("TMPDIR");
        const char *dirs[] = {env && env[0] == '/' ? env : "/var/tmp", "/var/tmp", "/tmp"};
        int r = -ENOENT;
        for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
                int fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
                if (fd >= 0)
                        return fd;
                cleanup(freep) char *path = NULL;
                if (asprintf(&path, "%s/imagefs-XXXXXX", dirs[i]) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                fd = mkostemp(path, O_CLOEXEC);
                if (fd >= 0) {
                        unlink(path);
                        return fd;
                }
                r = -errno;
        }
        return r;
}

static int open_spill(struct store_blob *b)
{
        cleanup(closep) int data = spill_file();
        cleanup(closep) int map = spill_file();
        if (data < 0 || map < 0)
                return data < 0 ? data : map;
        int r = map_write(map, b->size, b->chunk_count, false);
        if (r == 0 && ftruncate(data, (off_t)b->size) < 0)
                r = -errno;
        if (r < 0)
                return r;
        b->data_fd = take_fd(&data);
        b->map_fd = take_fd(&map);
        b->spill = b->writable = true;
        return 0;
}

/* the map under its name, made if need be; who loses a race takes the winner's */
static int open_map(struct store *s, int dirfd, const char *name, uint64_t size, uint64_t chunk_count)
{
        for (int tries = 0; tries < 3; tries++) {
                cleanup(closep) int fd = store_open_file(dirfd, name, O_RDWR);
                if (fd >= 0 && map_fits(fd, size, chunk_count))
                        return take_fd(&fd);
                if (fd < 0 && fd != -ENOENT && fd != -ELOOP)
                        return fd;
                struct store_tmp t;
                int r = store_tmp_open(s, &t);
                if (r < 0)
                        return r;
                r = map_write(t.fd, size, chunk_count, false);
                if (r < 0) {
                        store_tmp_drop(s, &t);
                        return r;
                }
                r = store_tmp_commit(s, &t, dirfd, name, false);
                if (r < 0)
                        return r;
        }
        return -EBUSY;
}

static int open_data(int dirfd, const char *hex, uint64_t size)
{
        cleanup(closep) int fd = store_open_file(dirfd, hex, O_RDWR | O_CREAT);
        if (fd == -ELOOP) { /* not a file of ours: out of the way with it */
                unlinkat(dirfd, hex, 0);
                fd = store_open_file(dirfd, hex, O_RDWR | O_CREAT);
        }
        struct stat st;
        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0 || ((uint64_t)st.st_size != size && ftruncate(fd, (off_t)size) < 0))
                return -errno;
        return take_fd(&fd);
}

/* opens or makes both files; the descriptors of b are replaced only when that went well */
static int open_kept(struct store_blob *b)
{
        char name[STORE_HEX_MAX];
        int dirfd = store_digest_dir(b->store, STORE_BLOBS, &b->digest);
        cleanup(closep) int data = open_data(dirfd, b->hex, b->size);
        if (data < 0)
                return data;
        cleanup(closep) int map = open_map(b->store, dirfd, map_name(b->hex, name), b->size, b->chunk_count);
        if (map < 0)
                return map;
        futimens(map, NULL);
        closep(&b->data_fd);
        closep(&b->map_fd);
        b->data_fd = take_fd(&data);
        b->map_fd = take_fd(&map);
        b->writable = true;
        return 0;
}

/* what is there and can be read only; -ENOENT when that is nothing */
static int open_readonly(struct store_blob *b)
{
        char name[STORE_HEX_MAX];
        int dirfd = store_digest_dir(b->store, STORE_BLOBS, &b->digest);
        cleanup(closep) int data = store_open_file(dirfd, b->hex, O_RDONLY);
        cleanup(closep) int map = store_open_file(dirfd, map_name(b->hex, name), O_RDONLY);
        if (data < 0 || map < 0 || !map_fits(map, b->size, b->chunk_count))
                return -ENOENT;
        b->data_fd = take_fd(&data);
        b->map_fd = take_fd(&map);
        return 0;
}

static int open_any(struct store_blob *b, bool spill)
{
        struct store *s = b->store;
        store_look_again(s);
        int r = store_writable(s) ? open_kept(b) : -EROFS;
        if (r == 0 || r == -ENOMEM || r == -EMFILE || r == -ENFILE)
                return r;
        if (r != -EROFS)
                store_failed(s, "open blob", r);
        r = open_readonly(b);
        if (r == 0 && (!spill || store_blob_present(b) == b->chunk_count))
                return 0;
        closep(&b->data_fd);
        closep(&b->map_fd);
        return spill ? open_spill(b) : r;
}

int store_blob_open(struct store *s, const struct digest *d, uint64_t size, uint64_t chunk_count, bool spill,
        struct store_blob **ret_blob, struct error *err)
{
        if (!sizes_ok(size, chunk_count))
                return error_set(err, -EFBIG, "a blob of %llu bytes in %llu chunks is too large",
                        (unsigned long long)size, (unsigned long long)chunk_count);
        struct store_blob *b = calloc(1, sizeof *b);
        if (!b)
                return error_nomem(err);
        *b = (struct store_blob){
                .store = s, .digest = *d, .size = size, .chunk_count = chunk_count, .data_fd = -1, .map_fd = -1};
        digest_hex(d, b->hex);
        pthread_rwlock_init(&b->lock, NULL);
        int r = open_any(b, spill);
        if (r == 0) {
                *ret_blob = b;
                return 0;
        }
        store_blob_close(b);
        if (r == -ENOENT && !spill) {
                *ret_blob = NULL;
                return 0;
        }
        return error_set(err, r, "%s: %s", spill ? "temporary file" : s->dir, strerror(-r));
}

void store_blob_close(struct store_blob *b)
{
        if (!b)
                return;
        closep(&b->data_fd);
        closep(&b->map_fd);
        pthread_rwlock_destroy(&b->lock);
        free(b);
}

bool store_blob_has(struct store_blob *b, uint64_t chunk)
{
        uint8_t flag = 0;
        assert(chunk < b->chunk_count);
        pthread_rwlock_rdlock(&b->lock);
        int r = store_pread(b->map_fd, &flag, 1, MAP_HEAD + chunk);
        pthread_rwlock_unlock(&b->lock);
        return r == 0 && flag == 1;
}

/* under lock: tells the collector that this one is in use */
static void note_use(struct store_blob *b)
{
        struct timespec now;
        if (b->spill || clock_gettime(CLOCK_REALTIME_COARSE, &now) < 0)
                return;
        int64_t before = atomic_load(&b->touched);
        if ((now.tv_sec < before || now.tv_sec - before >= TOUCH_AFTER_S) &&
                atomic_compare_exchange_strong(&b->touched, &before, now.tv_sec))
                futimens(b->map_fd, NULL);
}

int store_blob_read(struct store_blob *b, void *data, size_t len, uint64_t off)
{
        if (!range_ok(off, len, b->size))
                return -EIO;
        pthread_rwlock_rdlock(&b->lock);
        int r = store_pread(b->data_fd, data, len, off);
        note_use(b);
        pthread_rwlock_unlock(&b->lock);
        if (r == 0 && !b->spill)
                atomic_fetch_add(&b->store->read_bytes, len);
        return r;
}

/* under lock */
static bool evicted(const struct store_blob *b)
{
        struct stat st;
        return !b->spill && (fstat(b->data_fd, &st) < 0 || !st.st_nlink || fstat(b->map_fd, &st) < 0 || !st.st_nlink);
}

/* the lock is held for reading when this returns true */
static bool lock_for_write(struct store_blob *b)
{
        if (!b->spill && !store_writable(b->store))
                return false;
        pthread_rwlock_rdlock(&b->lock);
        if (b->writable && !evicted(b))
                return true;
        pthread_rwlock_unlock(&b->lock);

        pthread_rwlock_wrlock(&b->lock);
        int r = !b->writable || evicted(b) ? open_kept(b) : 0;
        pthread_rwlock_unlock(&b->lock);
        if (r < 0) {
                store_failed(b->store, "open blob", r);
                return false;
        }
        pthread_rwlock_rdlock(&b->lock);
        return true;
}

void store_blob_write(struct store_blob *b, uint64_t chunk, const void *data, size_t len, uint64_t off)
{
        static const uint8_t present = 1;
        assert(chunk < b->chunk_count && range_ok(off, len, b->size));
        if (!lock_for_write(b))
                return;
        int r = store_pwrite(b->data_fd, data, len, off);
        if (r == 0)
                r = store_pwrite(b->map_fd, &present, 1, MAP_HEAD + chunk);
        bool spill = b->spill;
        pthread_rwlock_unlock(&b->lock);
        if (spill) {
                if (r < 0)
                        log_debug(LOG_CACHE, "temporary file: %s", strerror(-r));
        } else if (r < 0) {
                store_failed(b->store, "write", r);
        } else {
                store_wrote(b->store, len);
        }
}

void store_blob_forget(struct store_blob *b, uint64_t chunk)
{
        static const uint8_t absent = 0;
        assert(chunk < b->chunk_count);
        pthread_rwlock_rdlock(&b->lock);
        if (b->writable)
                store_pwrite(b->map_fd, &absent, 1, MAP_HEAD + chunk);
        pthread_rwlock_unlock(&b->lock);
}

uint64_t store_blob_present(struct store_blob *b)
{
        uint8_t piece[4096];
        uint64_t count = 0;
        pthread_rwlock_rdlock(&b->lock);
        for (uint64_t at = 0; at < b->chunk_count;) {
                size_t len = (size_t)MIN((uint64_t)sizeof piece, b->chunk_count - at);
                if (store_pread(b->map_fd, piece, len, MAP_HEAD + at) < 0)
                        break;
                for (size_t i = 0; i < len; i++)
                        count += piece[i] == 1;
                at += len;
        }
        pthread_rwlock_unlock(&b->lock);
        return count;
}
