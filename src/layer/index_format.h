#pragma once
/** Private to index.c and index_build.c: docs/FORMAT.md as constants. */
#include <stdint.h>

#define INDEX_MAGIC "\x89imgfsi\n"

enum index_section { SECTION_ENTRIES, SECTION_STRINGS, SECTION_XATTRS, SECTION_EXTENTS, SECTION_SPANS, SECTION_WINDOWS, SECTIONS };

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

        ENTRY_LEN = 64,
        ENTRY_UOFF = 0,
        ENTRY_SIZE = 8,
        ENTRY_MTIME = 16,
        ENTRY_MTIME_NS = 24,
        ENTRY_UID = 28,
        ENTRY_GID = 32,
        ENTRY_MODE = 36,
        ENTRY_TYPE = 38,
        ENTRY_FLAGS = 39,
        ENTRY_DIR = 40,
        ENTRY_NAME = 44,
        ENTRY_LINK = 48,
        ENTRY_XATTRS = 52,
        ENTRY_EXTENTS = 56,
        ENTRY_XATTR_COUNT = 60,
        ENTRY_SPARSE = 1, /* in ENTRY_FLAGS */

        XATTR_LEN = 16,
        EXTENT_LEN = 24,

        SPAN_LEN = 72,
        SPAN_UOFF = 0,
        SPAN_COFF = 8,
        SPAN_CHUNK_LEN = 16,
        SPAN_KIND = 20,
        SPAN_BITS = 21,
        SPAN_FLAGS = 22,
        SPAN_STORED_LEFT = 24,
        SPAN_HEADER_BITS = 26,
        SPAN_WINDOW = 28,
        SPAN_PACKED_LEN = 32,
        SPAN_WINDOW_LEN = 36,
        SPAN_SHA256 = 40,
        SPAN_FINAL = 1, /* in SPAN_FLAGS */
};

/** Longest span that a reader is willing to inflate at once. */
enum { INDEX_SPAN_LEN_MAX = 64 << 20 };

static inline uint64_t align8(uint64_t v)
{
        return (v + 7) & ~(uint64_t)7;
}
