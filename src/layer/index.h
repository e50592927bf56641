#pragma once
/**
 * The index of a layer: its entries in archive order, and the spans through which any byte of its tar stream is reached.
 * It is made once, by scan.c, through an index_builder; its form on disk (docs/FORMAT.md) is also its form in memory.
 *
 * A struct index is immutable once built: use from any thread. An index_builder: one thread at a time.
 *
 * A span is a run of uncompressed bytes that can be produced on its own:
 *
 *   tar stream    |---- span 0 ----|------ span 1 ------|--- span 2 ---|      uoff: uncompressed positions
 *   blob          |--------|-------------|----------------|                   coff: compressed positions; bits, because
 *                                                                             deflate blocks begin anywhere in a byte
 * Spans cover [0, tar_size) without gaps. The chunk of a span is the range of compressed bytes that it needs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/mem.h"
#include "blob/cached.h"
#include "layer/decode.h"
#include "layer/tar.h"

enum {
        INDEX_VERSION = 2,
        INDEX_ENTRIES_MAX = 16 << 20,
        INDEX_STRINGS_MAX = 256 << 20, /* bytes of names, link targets, xattrs of one layer; of extents, too */
        INDEX_WINDOWS_MAX = 1 << 30,
        INDEX_SPANS_MAX = 16 << 20,
        INDEX_FILE_MAX = 2047 << 20,
        INDEX_GROUP_MAX = 64 << 10, /* what spans need to begin is packed in groups of so many bytes */
};

/** An entry as it lies in the index; strings borrowed from it. */
struct index_entry {
        enum tar_type type;
        const char *dir;  /* cleaned path of the parent, "" for the root's children and for the root itself */
        const char *name; /* last component; "" for the root's own entry */
        const char *link; /* symlink target, or cleaned path of a hard link's target; else NULL */
        uint32_t dir_len, name_len, link_len;
        uint32_t dir_id; /* equal for entries with equal dir (within the index): a key for caches */
        uint16_t mode;
        uint32_t uid, gid;
        int64_t mtime_s;
        uint32_t mtime_ns;
        uint32_t rdev_major, rdev_minor;
        uint64_t size;
        uint64_t uoff;
        uint32_t xattrs; /* 0, or a handle for index_xattr() */
        uint32_t xattr_count;
        uint32_t extents; /* handle for index_extent() */
        uint32_t extent_count;
        bool sparse;
};

struct index_xattr {
        const char *name; /* NUL-terminated */
        uint32_t name_len;
        const uint8_t *value;
        uint32_t value_len;
};

struct index_span {
        uint64_t uoff, ulen; /* what it holds */
        struct chunk
                chunk; /* what it needs, in the blob (for `unpacked` layers: in the unpacked stream, off == uoff) */
};

/** Windows of spans that lie side by side, unpacked: whoever reads several spans keeps one of these. At first `of` is NULL. */
struct index_windows {
        const struct index *of; /* NULL: nothing is in bytes */
        uint32_t group;
        uint8_t bytes[INDEX_GROUP_MAX];
};

struct index;

struct index_info {
        struct digest digest;  /* of the blob */
        struct digest diff_id; /* of the tar stream */
        uint64_t blob_size, tar_size;
        enum compression compression;
        bool unpacked; /* there is no way into the compressed stream: chunks are of the tar stream itself */
        uint32_t entries;
        uint32_t spans;
        struct tar_notes notes;
        uint64_t index_bytes; /* size of the file */
};

/**
 * Takes an index from a file descriptor (mapped; the descriptor is closed, also on failure) or from memory (taken over,
 * also on failure; must come from malloc). Everything in it is checked, in time linear in its size, before this returns.
 * -EBADMSG: damaged, made by an older version, or for another blob than `want` (NULL: any); -EOPNOTSUPP: made by a newer version.
 */
int index_open_fd(int fd, const struct digest *want, struct index **ret_index, struct error *err);
int index_open_memory(void *data, size_t len, const struct digest *want, struct index **ret_index, struct error *err);
void index_free(struct index *ix);
DEFINE_CLEANUP(struct index, index_free);

const struct index_info *index_info(const struct index *ix);
void index_entry(const struct index *ix, uint32_t i, struct index_entry *ret_entry);
void index_xattr(const struct index *ix, uint32_t handle, uint32_t i, struct index_xattr *ret_xattr);
void index_extent(const struct index *ix, uint32_t handle, uint32_t i, struct tar_extent *ret_extent);
void index_span(const struct index *ix, uint32_t i, struct index_span *ret_span);

/** The span that holds uoff, which must be < tar_size. */
uint32_t index_find_span(const struct index *ix, uint64_t uoff);

/** Where and how a span begins. Its window and header lie in `windows`, which is filled if it has others. -EBADMSG: what is packed
 *  is damaged; -ENOMEM. */
int index_point(const struct index *ix, uint32_t span, struct index_windows *windows, struct decode_point *ret_point,
        struct error *err);

/** The chunk table of the spans, for cached_open(); borrows the index. */
void index_chunks(const struct index *ix, struct chunk_table *ret_table);

/* ---- building ---- */

struct index_builder;

struct index_builder *index_builder_new(void);
void index_builder_free(struct index_builder *b);
DEFINE_CLEANUP(struct index_builder, index_builder_free);

int index_builder_entry(struct index_builder *b, const struct tar_entry *e, struct error *err);

/** A span begins at uoff; its end is the next one's beginning, or the end of the stream. Spans come in order; the first has
 *  uoff 0. point->window and header are packed here. */
int index_builder_span(struct index_builder *b, uint64_t uoff, const struct decode_point *point, struct error *err);

/** The hash of the last span's chunk is known: [off, off + len) of the blob. Called once after each span. */
int index_builder_chunk(
        struct index_builder *b, uint64_t off, uint64_t len, const uint8_t sha256[SHA256_BYTES], struct error *err);

/** Forgets all spans: others will be told, from uoff 0 on. */
void index_builder_drop_spans(struct index_builder *b);

/** Lays out the file: malloc'ed bytes in *ret_data. info's counts and index_bytes are filled in here. The same layer gives
 *  the same bytes always. */
int index_builder_finish(
        struct index_builder *b, const struct index_info *info, uint8_t **ret_data, size_t *ret_len, struct error *err);
