#pragma once
/**
 * A tar stream, pushed in pieces of any size, becomes entries: v7, ustar, pax, GNU and star headers, long names,
 * base-256 numbers, sparse maps (spec: POSIX pax, GNU tar manual "Basic Tar Format"; what container engines accept is
 * what we accept). It keeps no file content: an entry says where in the stream its data lie.
 * One thread at a time.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

enum {
        TAR_BLOCK = 512,
        TAR_META_MAX = 1 << 20,   /* bytes of one pax or GNU long-name header */
        TAR_PATH_MAX = 4095,      /* longer names are dropped and counted */
        TAR_NAME_MAX = 255,       /* of one component */
        TAR_XATTR_MAX = 64 << 10, /* bytes of one value (the kernel's own limit) */
        TAR_XATTRS_MAX = 256,     /* attributes of one entry */
        TAR_SPARSE_MAX = 1 << 20, /* extents of one file */
};

enum tar_type { TAR_REG, TAR_DIR, TAR_SYMLINK, TAR_HARDLINK, TAR_CHR, TAR_BLK, TAR_FIFO };

struct tar_xattr {
        const char *name;  /* NUL-terminated, "security.capability" */
        const void *value; /* any bytes */
        uint32_t value_len;
};

struct tar_extent {
        uint64_t file_off; /* in the file */
        uint64_t uoff;     /* in the tar stream */
        uint64_t len;
};

/** One entry, with all extension headers applied. Everything is borrowed for the callback. */
struct tar_entry {
        enum tar_type type;
        const char *path; /* cleaned: no leading '/', no ".", "..", "//"; "" is the root. Bytes, then a NUL */
        size_t path_len;
        const char *link; /* symlink: target verbatim; hard link: cleaned like path; a NUL behind. Else NULL */
        size_t link_len;
        uint16_t mode; /* 07777 */
        uint32_t uid, gid;
        int64_t mtime_s;
        uint32_t mtime_ns; /* 0..999999999, also before 1970 */
        uint32_t rdev_major, rdev_minor;
        uint64_t size; /* regular files: as seen by a reader, holes included; else 0 */
        uint64_t uoff; /* where its data begin in the tar stream */
        const struct tar_xattr *xattrs;
        size_t xattr_count;
        const struct tar_extent *extents; /* sparse: ascending, not overlapping, inside size. NULL: one run at uoff */
        size_t extent_count;
        bool sparse; /* extents count, even when there are none (all hole) */
};

/** What was left out or mended, counted; said once a layer. */
struct tar_notes {
        uint64_t dropped_names;  /* over the kernel's limits, NUL inside, empty */
        uint64_t dropped_types;  /* unknown type letters, dump directories */
        uint64_t dropped_xattrs; /* trusted.*, security.selinux, user.* of neither file nor directory, too large */
        uint64_t dropped_links;  /* empty targets */
        uint64_t clamped_times;
        bool trailing_garbage; /* bytes that are not zero after the end, which is the first zero block */
        bool missing_end;      /* no end-of-archive blocks */
};

/** 0: go on; negative errno: tar_push() returns it. */
typedef int tar_entry_fn(void *ctx, const struct tar_entry *e);

struct tar_reader;

/** NULL when out of memory. */
struct tar_reader *tar_reader_new(tar_entry_fn *fn, void *ctx);
void tar_reader_free(struct tar_reader *t);
DEFINE_CLEANUP(struct tar_reader, tar_reader_free);

/** The next len bytes of the stream. -EBADMSG: malformed, with what and where; -EFBIG: one of the ceilings. */
int tar_push(struct tar_reader *t, const void *data, size_t len, struct error *err);

/** How many bytes from here on hold nothing of interest (file data): a caller that can seek may skip them with
 *  tar_skip(). 0 while a header is due. UINT64_MAX after the end of the archive. */
uint64_t tar_skippable(const struct tar_reader *t);
void tar_skip(struct tar_reader *t, uint64_t len);

/** The stream has ended. -EBADMSG when it ended inside an entry. */
int tar_finish(struct tar_reader *t, struct error *err);

const struct tar_notes *tar_notes(const struct tar_reader *t);

/** Lexical cleaning as for paths in entries: writes at most len bytes to out, returns the cleaned length. */
size_t tar_clean_path(const char *path, size_t len, char *out);

/** Does this look like the first block of a tar (checksum right)? An all-zero block counts as one. */
bool tar_block_plausible(const uint8_t block[TAR_BLOCK]);
