#pragma once
/**
 * What the store's three files share: store.c (the directory, whole files, locks), store_blob.c (partial files and blobs
 * chunk by chunk), store_gc.c (listing, removing, evicting). Locks itself, like store.h.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "blob/store.h"

enum store_place {
        STORE_DOCS, /* this and the two below: one directory per algorithm */
        STORE_INDEXES,
        STORE_BLOBS,
        STORE_DIGESTS, /* how many those are */
        STORE_PARTIAL = 2 * STORE_DIGESTS,
        STORE_NAMES,
        STORE_LOCKS,
        STORE_TMP,
        STORE_PLACES
};

enum { STORE_HEX_MAX = 140 }; /* a file name: 128 hex digits and a suffix */

struct store {
        char *dir;            /* "" for a store without a directory */
        int fd[STORE_PLACES]; /* directories, -1 where there is none */
        uint64_t size_max;    /* bound for blobs */
        atomic_bool off;      /* nothing is written any more; the warning was given */
        atomic_bool full;     /* less than the reserve is left on the disk: blobs are not kept for now */
        atomic_bool full_warned;
        atomic_uint_least64_t read_bytes, written_bytes;
        atomic_uint_least64_t unchecked; /* bytes written since the bound was last looked at */
        pthread_mutex_t gc_lock;         /* one automatic collection at a time */
};

/** The directory of a place that has one per algorithm. */
int store_digest_dir(const struct store *s, enum store_place place, const struct digest *d);

/** Something could not be written: what errors of the disk or of permission turn the store off, with one warning.
 *  Returns 0 for those, else code. */
int store_failed(struct store *s, const char *what, int code);

/** Can small files be written? They may while blobs are not kept because the disk is nearly full. */
bool store_on(const struct store *s);

/** Accounts for blob bytes written, and from time to time looks at the bounds. No lock may be held. */
void store_wrote(struct store *s, uint64_t bytes);

/** When the disk was nearly full: is it still? */
void store_look_again(struct store *s);

/** The bounds are applied, unless somebody is at it. */
void store_collect(struct store *s);

/** Whole reads and writes at an offset: 0, -errno; a file that ends before gives -EIO. */
int store_pread(int fd, void *data, size_t len, uint64_t off);
int store_pwrite(int fd, const void *data, size_t len, uint64_t off);

/**
 * A file that is being written under a temporary name. While one is open, a shared lock on locks/tmp is held; whoever gets
 * that lock alone knows that every file in tmp/ belongs to the dead.
 */
struct store_tmp {
        int fd, lock_fd;
        char name[64];
};
int store_tmp_open(struct store *s, struct store_tmp *ret_tmp);

/** Syncs (if asked), renames, syncs the directory, closes. On failure the file is removed. */
int store_tmp_commit(struct store *s, struct store_tmp *t, int dirfd, const char *name, bool sync);
void store_tmp_drop(struct store *s, struct store_tmp *t);

/** Removes what dead processes left in tmp/, when nobody alive writes there. */
void store_tmp_clean(struct store *s);

/** Opens a regular file beneath a directory; a symlink or anything else is an error. */
int store_open_file(int dirfd, const char *name, int flags);

/** Tries to take an existing lock file without waiting: a descriptor or -1. */
int store_try_lock(struct store *s, const char *name, bool create);

/** Is the open file still the one of that name? */
bool store_same_file(int dirfd, const char *name, int fd);

/** Removes a blob so that its space is free at once, also when somebody has it open. */
void store_evict(int dirfd, const char *hex);
