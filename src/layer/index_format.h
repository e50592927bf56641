#pragma once
/** Private to index.c and index_build.c: docs/FORMAT.md as constants. */
#include <stdint.h>

#define INDEX_MAGIC "\x89imgfsi\n"

enum index_section {
        SECTION_ENTRIES,
        SECTION_ATTRS,
        SECTION_STRINGS,
        SECTION_XATTRS,
        SECTION_EXTENTS,
        SECTION_SPANS,
        SECTION_WINDOWS,
        SECTIONS
};

enum {
        HEADER_LEN = 512,
        HEADER_VERSION = 8,
        HEADER_HEADER_LEN = 12,
        HEADER_FILE_LEN = 16,
        HEADER_ALG = 24,
        HEADER_DIFF_ALG = 28,
        HEADER_DIGEST = 32,
        HEADER_DIFF_ID = 96,
        HEADER_BLOB_SIZE = 160,
        HEADER_TAR_SIZE = 168,
        HEADER_COMPRESSION = 176,
        HEADER_FLAGS = 180,
        HEADER_ENTRIES = 184,
        HEADER_SPANS = 188,
        HEADER_NOTES = 192,
        HEADER_SECTIONS = 232,
        HEADER_SECTION_LEN = 24,
        HEADER_CRC = 508,

        FLAG_UNPACKED = 1,
        FLAG_GARBAGE = 2,
        FLAG_NO_END = 4,

        ENTRY_LEN = 32,
        ENTRY_DIR = 0,
        ENTRY_NAME = 4,
        ENTRY_LINK = 8,
        ENTRY_ATTR = 12,
        ENTRY_UOFF = 16,
        ENTRY_SIZE = 24,

        ATTR_LEN = 32,
        ATTR_MTIME = 0,
        ATTR_MTIME_NS = 8,
        ATTR_UID = 12,
        ATTR_GID = 16,
        ATTR_MODE = 20,
        ATTR_TYPE = 22,
        ATTR_FLAGS = 23,
        ATTR_XATTRS = 24,
        ATTR_XATTR_COUNT = 28,
        ATTR_SPARSE = 1, /* in ATTR_FLAGS */

        XATTR_LEN = 16,
        EXTENT_LEN = 24,

        SPAN_LEN = 64,
        SPAN_UOFF = 0,
        SPAN_COFF = 8,
        SPAN_CHUNK_LEN = 16,
        SPAN_GROUP = 20,
        SPAN_AT = 24,
        SPAN_WINDOW_LEN = 26,
        SPAN_REST = 28,
        SPAN_KIND = 30,
        SPAN_BITS = 31,
        SPAN_SHA256 = 32,
        SPAN_BITS_MASK = 7, /* in SPAN_BITS */
        SPAN_FINAL = 8,

        GROUP_PACKED_LEN = 0,
        GROUP_LEN = 4,
        GROUP_HEAD = 8,
};

/** Longest span that a reader is willing to inflate at once. */
enum { INDEX_SPAN_LEN_MAX = 64 << 20 };

static inline uint64_t align8(uint64_t v)
{
        return (v + 7) & ~(uint64_t)7;
}
