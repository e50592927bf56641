/*
 * Housekeeping: listing, removing, and the two bounds. Blobs may take size_max bytes, and the last twentieth of the disk
 * belongs to others: least recently used blobs go first. Indexes and documents are small and dear (an index costs a whole
 * pass over its layer), so bounds never touch them; only store_remove() does.
 *
 * How: a blob's last use is the modification time of its map, which every user renews while at it. What is evicted may be
 * in use; see store_blob.c for what its users see. Two processes may collect at once: each removal is by itself, and what
 * is gone already is no error. Automatic collections avoid that by a lock, to save work only.
 *
 * When eviction cannot give the disk its twentieth back, blobs are not kept until it has it again; documents and indexes
 * still are.
 */
#include "blob/store_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/log.h"

enum { PARTIAL_KEEP_S = 24 * 3600, LOCK_KEEP_S = 24 * 3600, DISK_SHARE = 20 };
static const uint64_t collect_after = 64 << 20;

/* ---- walking a directory ---- */

struct found {
        int dirfd;
        const char *name;
        struct stat st;
};
typedef int found_fn(void *ctx, const struct found *f);

static bool is_hex(const char *name, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if (!strchr("0123456789abcdef", name[i]))
                        return false;
        return len == 64 || len == 128;
}

/* calls fn for each regular file whose name is hex digits and the suffix; fn's non-zero ends it */
static int walk(int dirfd, const char *suffix, found_fn *fn, void *ctx)
{
        if (dirfd < 0)
                return 0;
        int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                int r = -errno;
                closep(&fd);
                return r;
        }
        int r = 0;
        for (struct dirent *e; r == 0 && (e = readdir(dir));) {
                struct found f = {.dirfd = dirfd, .name = e->d_name};
                size_t len = strcspn(e->d_name, ".");
                if (is_hex(e->d_name, len) && strcmp(e->d_name + len, suffix) == 0 &&
                        fstatat(dirfd, e->d_name, &f.st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(f.st.st_mode))
                        r = fn(ctx, &f);
        }
        closedir(dir);
        return r;
}

static uint64_t disk_bytes(const struct stat *st)
{
        return (uint64_t)st->st_blocks * 512;
}

/* the map beside a blob's data; false: there is none */
static bool stat_map(const struct found *f, struct stat *ret_st)
{
        char name[STORE_HEX_MAX];
        snprintf(name, sizeof name, "%.128s.map", f->name);
        return fstatat(f->dirfd, name, ret_st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- listing ---- */

struct each {
        const char *kind;
        store_item_fn *fn;
        void *ctx;
};

static int each_found(void *ctx, const struct found *f)
{
        struct each *e = ctx;
        struct store_item item = {.kind = e->kind,
                .bytes = disk_bytes(&f->st),
                .size = (uint64_t)f->st.st_size,
                .used_s = f->st.st_mtim.tv_sec};
        struct stat map;
        snprintf(item.name, sizeof item.name, "%.150s", f->name);
        if (strcmp(e->kind, "blob") == 0 && stat_map(f, &map)) {
                item.bytes += disk_bytes(&map);
                item.used_s = map.st_mtim.tv_sec;
        }
        return e->fn(e->ctx, &item);
}

int store_each(struct store *s, store_item_fn *fn, void *ctx, struct error *err)
{
        static const struct {
                const char *kind, *suffix;
                int first, count;
        } all[] = {
                {"doc", "", 2 * STORE_DOCS, 2},
                {"index", "", 2 * STORE_INDEXES, 2},
                {"index", ".bad", 2 * STORE_INDEXES, 2},
                {"blob", "", 2 * STORE_BLOBS, 2},
                {"partial", "", STORE_PARTIAL, 1},
                {"name", "", STORE_NAMES, 1},
        };
        for (size_t i = 0; i < ARRAY_LEN(all); i++) {
                for (int k = 0; k < all[i].count; k++) {
                        struct each each = {all[i].kind, fn, ctx};
                        int r = walk(s->fd[all[i].first + k], all[i].suffix, each_found, &each);
                        if (r < 0)
                                return error_set(err, r, "cache %s: %s", s->dir, strerror(-r));
                        if (r > 0)
                                return 0;
                }
        }
        return 0;
}

/* ---- removing ---- */

void store_evict(int dirfd, const char *hex)
{
        char name[STORE_HEX_MAX];
        cleanup(closep) int fd = store_open_file(dirfd, hex, O_RDWR);
        snprintf(name, sizeof name, "%.128s.map", hex);
        unlinkat(dirfd, name, 0);
        unlinkat(dirfd, hex, 0);
        if (fd >= 0 && ftruncate(fd, 0) < 0)
                log_debug(LOG_CACHE, "evict %s: %s", hex, strerror(errno));
}

struct removal {
        struct store *store;
        const char *only; /* this digest, NULL: all */
        uint64_t bytes;   /* freed */
};

static bool chosen(const struct removal *rm, const struct found *f)
{
        return !rm->only || strncmp(f->name, rm->only, strlen(rm->only)) == 0;
}

static int remove_file(void *ctx, const struct found *f)
{
        struct removal *rm = ctx;
        if (chosen(rm, f) && unlinkat(f->dirfd, f->name, 0) == 0)
                rm->bytes += disk_bytes(&f->st);
        return 0;
}

static int remove_blob(void *ctx, const struct found *f)
{
        struct removal *rm = ctx;
        struct stat map;
        if (!chosen(rm, f))
                return 0;
        rm->bytes += disk_bytes(&f->st) + (stat_map(f, &map) ? disk_bytes(&map) : 0);
        store_evict(f->dirfd, f->name);
        return 0;
}

/* maps without data, left by somebody who died in between */
static int remove_lone_map(void *ctx, const struct found *f)
{
        struct removal *rm = ctx;
        char hex[STORE_HEX_MAX];
        snprintf(hex, sizeof hex, "%.*s", (int)strcspn(f->name, "."), f->name);
        return faccessat(f->dirfd, hex, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? remove_file(rm, f) : 0;
}

int store_remove(struct store *s, unsigned what, const struct digest *d, uint64_t *ret_bytes, struct error *err)
{
        char hex[DIGEST_MAX_TEXT];
        struct removal rm = {s, d ? digest_hex(d, hex) : NULL, 0};
        int r = 0;
        for (int alg = 0; r >= 0 && alg < 2; alg++) {
                if (what & STORE_RM_DATA) {
                        r = walk(s->fd[2 * STORE_BLOBS + alg], "", remove_blob, &rm);
                        if (r >= 0)
                                r = walk(s->fd[2 * STORE_BLOBS + alg], ".map", remove_lone_map, &rm);
                }
                if (r >= 0 && what & STORE_RM_INDEX) {
                        r = walk(s->fd[2 * STORE_INDEXES + alg], "", remove_file, &rm);
                        if (r >= 0)
                                r = walk(s->fd[2 * STORE_INDEXES + alg], ".bad", remove_file, &rm);
                }
                if (r >= 0 && what & STORE_RM_DOCS)
                        r = walk(s->fd[2 * STORE_DOCS + alg], "", remove_file, &rm);
        }
        if (r >= 0 && what & STORE_RM_DATA)
                r = walk(s->fd[STORE_PARTIAL], "", remove_file, &rm);
        if (r >= 0 && what & STORE_RM_DOCS && !d)
                r = walk(s->fd[STORE_NAMES], "", remove_file, &rm);
        if (r < 0)
                return error_set(err, r, "cache %s: %s", s->dir, strerror(-r));
        if (ret_bytes)
                *ret_bytes = rm.bytes;
        return 0;
}

/* ---- the bounds ---- */

struct candidate {
        int dirfd;
        char hex[DIGEST_MAX_TEXT];
        uint64_t bytes;
        int64_t used_ns;
};

struct candidates {
        struct candidate *all;
        size_t count, room;
        uint64_t bytes;
};

static int add_candidate(void *ctx, const struct found *f)
{
        struct candidates *c = ctx;
        if (c->count == c->room) {
                size_t room = c->room ? c->room * 2 : 64;
                struct candidate *all = reallocarray(c->all, room, sizeof *all);
                if (!all)
                        return -ENOMEM;
                c->all = all;
                c->room = room;
        }
        struct candidate *new = &c->all[c->count++];
        struct stat map;
        *new = (struct candidate){.dirfd = f->dirfd, .bytes = disk_bytes(&f->st)};
        snprintf(new->hex, sizeof new->hex, "%.128s", f->name);
        struct timespec used = f->st.st_mtim;
        if (stat_map(f, &map)) {
                used = map.st_mtim;
                new->bytes += disk_bytes(&map);
        }
        new->used_ns = (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
        c->bytes += new->bytes;
        return 0;
}

static int by_use(const void *a, const void *b)
{
        const struct candidate *x = a, *y = b;
        return x->used_ns < y->used_ns ? -1 : x->used_ns > y->used_ns;
}

/* how many bytes the disk lacks of its reserve */
static uint64_t disk_lacks(const struct store *s)
{
        struct statvfs fs;
        if (s->fd[2 * STORE_BLOBS] < 0 || fstatvfs(s->fd[2 * STORE_BLOBS], &fs) < 0)
                return 0;
        uint64_t reserve = fs.f_blocks / DISK_SHARE;
        return fs.f_bavail < reserve ? (reserve - fs.f_bavail) * fs.f_frsize : 0;
}

static int remove_old(void *ctx, const struct found *f)
{
        struct removal *rm = ctx;
        bool lock = f->dirfd == rm->store->fd[STORE_LOCKS];
        if (time(NULL) - f->st.st_mtim.tv_sec < (lock ? LOCK_KEEP_S : PARTIAL_KEEP_S))
                return 0;
        /* somebody may still be at work on that digest; its lock tells */
        cleanup(closep) int fd = store_try_lock(rm->store, f->name, !lock);
        if (fd >= 0)
                remove_file(rm, f);
        return 0;
}

int store_gc(struct store *s, uint64_t max_bytes, uint64_t *ret_bytes, struct error *err)
{
        uint64_t max = max_bytes ? max_bytes : s->size_max;
        struct removal rm = {.store = s};
        struct candidates c = {0};
        int r = walk(s->fd[STORE_PARTIAL], "", remove_old, &rm);
        if (r >= 0)
                r = walk(s->fd[STORE_LOCKS], "", remove_old, &rm);
        for (int alg = 0; r >= 0 && alg < 2; alg++)
                r = walk(s->fd[2 * STORE_BLOBS + alg], "", add_candidate, &c);
        if (r >= 0 && c.count)
                qsort(c.all, c.count, sizeof *c.all, by_use);
        uint64_t lacks = disk_lacks(s);
        for (size_t i = 0; r >= 0 && i < c.count && (c.bytes > max || lacks); i++) {
                log_debug(LOG_CACHE, "%s is evicted, %llu bytes", c.all[i].hex, (unsigned long long)c.all[i].bytes);
                store_evict(c.all[i].dirfd, c.all[i].hex);
                c.bytes -= c.all[i].bytes;
                rm.bytes += c.all[i].bytes;
                if (lacks)
                        lacks = disk_lacks(s);
        }
        free(c.all);
        if (r < 0)
                return error_set(err, r, "cache %s: %s", s->dir, strerror(-r));
        atomic_store(&s->full, lacks > 0);
        if (lacks && !atomic_exchange(&s->full_warned, true))
                log_warning(
                        "cache %s: less than 5 %% of the disk is free; layer data is not kept there for now", s->dir);
        if (ret_bytes)
                *ret_bytes = rm.bytes;
        return 0;
}

void store_collect(struct store *s)
{
        if (s->fd[STORE_TMP] < 0 || pthread_mutex_trylock(&s->gc_lock) != 0)
                return;
        cleanup(closep) int fd = store_try_lock(s, "gc", true);
        struct error err = {0};
        if (fd >= 0 && store_gc(s, 0, NULL, &err) < 0)
                log_debug(LOG_CACHE, "%s", err.msg);
        pthread_mutex_unlock(&s->gc_lock);
}

void store_look_again(struct store *s)
{
        if (atomic_load(&s->full))
                store_collect(s);
}

void store_wrote(struct store *s, uint64_t bytes)
{
        atomic_fetch_add(&s->written_bytes, bytes);
        uint64_t sum = atomic_fetch_add(&s->unchecked, bytes) + bytes;
        if (sum >= collect_after && atomic_compare_exchange_strong(&s->unchecked, &sum, 0))
                store_collect(s);
}
