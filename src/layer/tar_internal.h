#pragma once
/**
 * What the files of the tar reader share: tar_header.c takes one 512-byte header apart, tar_pax.c the records of an
 * extended header, tar_sparse.c collects the map of a sparse file, and tar.c drives them and makes entries.
 * One thread at a time.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "layer/tar.h"

/** Bytes that live elsewhere. len 0: not there (pax: an empty value is no value). */
struct tar_span {
        const char *p;
        size_t len;
};

enum tar_dialect { TAR_V7, TAR_USTAR, TAR_STAR, TAR_GNU };

/** The fields of one header block, not yet changed by any extension. */
struct tar_header {
        enum tar_dialect dialect;
        char type;                                         /* the letter */
        char name[257];                                    /* prefix, '/' and name; NUL-terminated */
        char link[101];                                    /* NUL-terminated */
        size_t name_len;                                   /* of name */
        size_t link_len;                                   /* of link */
        int64_t mode, uid, gid, size, mtime, major, minor; /* as written; the sign is not judged here */
};

enum tar_block_kind { TAR_BLOCK_BAD, TAR_BLOCK_ZERO, TAR_BLOCK_HEADER };

/** All zero, a right checksum (unsigned, or signed as old writers made it), or neither. */
enum tar_block_kind tar_block_kind(const uint8_t *block);

/** The name alone, for messages about a header that is broken elsewhere. */
void tar_header_name(const uint8_t *block, struct tar_header *h);

/** Takes the block apart. NULL, or which field is malformed. Does not look at the checksum. */
const char *tar_header_parse(const uint8_t *block, struct tar_header *h);

/** A number field: octal, or base-256 when its top bit is set. false: malformed, or beyond int64_t. */
bool tar_number(const uint8_t *field, size_t len, int64_t *ret_value);

/** A decimal number that takes up the whole span, with an optional sign. false: anything else, or beyond int64_t. */
bool tar_decimal(struct tar_span text, int64_t *ret_value);

enum tar_pax_key {
        PAX_PATH,
        PAX_LINKPATH,
        PAX_UNAME,
        PAX_GNAME,
        PAX_SIZE,
        PAX_UID,
        PAX_GID,
        PAX_MTIME,
        PAX_ATIME,
        PAX_CTIME,
        PAX_SPARSE_MAJOR,
        PAX_SPARSE_MINOR,
        PAX_SPARSE_NAME,
        PAX_SPARSE_SIZE,
        PAX_SPARSE_REALSIZE,
        PAX_SPARSE_NUMBLOCKS,
        PAX_SPARSE_MAP,
        PAX_SPARSE_OFFSET,
        PAX_SPARSE_NUMBYTES,
        PAX_KEYS,
};

/** One extended header: the value of each key that means something here, and the attributes. */
struct tar_pax {
        struct buf text;                         /* the records; values and names point into it */
        struct buf map;                          /* a 0.0 map, brought into the form of 0.1 */
        struct tar_span value[PAX_KEYS];         /* the last one of each key */
        struct tar_xattr xattrs[TAR_XATTRS_MAX]; /* in the order of first appearance */
        uint32_t xattr_hash[TAR_XATTRS_MAX];     /* of their names */
        size_t xattr_count;                      /* in use */
        uint64_t dropped_xattrs;                 /* left out by tar_pax_parse() */
        bool used;                               /* something is in it */
};

void tar_pax_init(struct tar_pax *p);
void tar_pax_done(struct tar_pax *p);

/** Forgets everything, keeps the memory. */
void tar_pax_reset(struct tar_pax *p);

/** Parses the records in p->text, writing NULs behind names. 0, or -EBADMSG with ret_what (static text), -ENOMEM. */
int tar_pax_parse(struct tar_pax *p, const char **ret_what);

/** Puts the values that rule ordinary header fields into h. NULL, or which value is malformed. mtime's fraction: ret_ns. */
const char *tar_pax_apply(const struct tar_pax *p, struct tar_header *h, uint32_t *ret_ns, bool *ret_clamped);

/** The map of a sparse file while it is read. */
struct tar_sparse {
        struct tar_extent *extents; /* with data; uoff counts from the first byte of data until tar_sparse_place() */
        size_t count, room;         /* extents in use, allocated */
        size_t entries;             /* read from the map, empty ones too */
        uint64_t size;              /* of the file, holes included */
        uint64_t end;               /* where the last entry ended */
        uint64_t data_len;          /* bytes that the map says are stored */

        /* the text of a 1.0 map, which may be cut anywhere */
        uint64_t numbers; /* read so far, the count included */
        uint64_t wanted;  /* entries, once numbers > 0 */
        int64_t pending;  /* an offset whose length is still to come */
        int64_t value;    /* of the number that is being read */
        char sign;        /* its sign, 0 before one was read */
        bool digits;      /* it has some */
        bool map_done;    /* the last line has been read */
};

void tar_sparse_done(struct tar_sparse *s);
void tar_sparse_reset(struct tar_sparse *s);

/** The next entry of a map. 0, -EBADMSG (not ascending, overlapping, outside the file), -EFBIG, -ENOMEM. */
int tar_sparse_add(struct tar_sparse *s, int64_t off, int64_t len);

/** Entries of an old GNU header (count 4) or extension block (21). As tar_sparse_add(). */
int tar_sparse_add_old(struct tar_sparse *s, const uint8_t *fields, size_t count);

/** A map of format 0.0 or 0.1, "off,len,off,len", which must have numblocks entries. As tar_sparse_add(). */
int tar_sparse_add_text(struct tar_sparse *s, struct tar_span map, struct tar_span numblocks);

/** The next bytes of a 1.0 map; map_done says when to stop, what follows in data is padding. As tar_sparse_add(). */
int tar_sparse_add_lines(struct tar_sparse *s, const uint8_t *data, size_t len);

/** The data begin at uoff and are data_len bytes long. -EBADMSG when the map needs more or fewer. */
int tar_sparse_place(struct tar_sparse *s, uint64_t uoff, uint64_t data_len);
