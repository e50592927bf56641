#pragma once
/* An index made by hand, for tests of what reads indexes. */
#include <errno.h>

#include "layer/index.h"

/* a small one of gzip kind: a directory, files, a sparse one, a link, a device, attributes, three spans */
static inline void sample_index(uint8_t **ret_data, size_t *ret_len)
{
        static const struct tar_xattr xattrs[] = {{"security.capability", "\1\0\0\2", 4}, {"user.note", "n\0te", 4}};
        static const struct tar_extent extents[] = {{4096, 3000, 100}, {9000, 3100, 50}};
        static const struct tar_entry entries[] = {
                {.type = TAR_DIR, .path = "", .mode = 0755},
                {.type = TAR_DIR, .path = "etc", .path_len = 3, .mode = 0755, .mtime_s = -5, .mtime_ns = 500000000},
                {.type = TAR_REG,
                        .path = "etc/passwd",
                        .path_len = 10,
                        .mode = 0644,
                        .size = 700,
                        .uoff = 1024,
                        .xattrs = xattrs,
                        .xattr_count = 2},
                {.type = TAR_REG,
                        .path = "etc/sparse",
                        .path_len = 10,
                        .mode = 04755,
                        .size = 10000,
                        .sparse = true,
                        .extents = extents,
                        .extent_count = 2},
                {.type = TAR_SYMLINK, .path = "etc/link", .path_len = 8, .link = "../a b", .link_len = 6, .mode = 0777},
                {.type = TAR_HARDLINK,
                        .path = "hard",
                        .path_len = 4,
                        .link = "etc/passwd",
                        .link_len = 10,
                        .mode = 0600},
                {.type = TAR_CHR, .path = "dev", .path_len = 3, .mode = 0600, .rdev_major = 300, .rdev_minor = 70000},
        };
        static uint8_t window[DECODE_WINDOW];
        uint8_t hash[SHA256_BYTES] = {7};
        struct index_builder *b = index_builder_new();
        for (size_t i = 0; i < ARRAY_LEN(entries); i++)
                if (index_builder_entry(b, &entries[i], NULL) < 0)
                        abort();
        for (size_t i = 0; i < sizeof window; i += 97)
                window[i] = (uint8_t)(i * 31);
        struct decode_point first = {.kind = DECODE_MEMBER};
        struct decode_point block = {
                .kind = DECODE_BLOCK, .coff = 499, .bits = 3, .window = window + 30000, .window_len = 1200};
        struct decode_point inside = {.kind = DECODE_INSIDE,
                .coff = 700,
                .bits = 0,
                .final = true,
                .header = window,
                .header_bits = 61,
                .window = window + DECODE_WINDOW - 2000,
                .window_len = 2000};
        index_builder_span(b, 0, &first, NULL);
        index_builder_chunk(b, 0, 500, hash, NULL);
        index_builder_span(b, 1500, &block, NULL);
        index_builder_chunk(b, 499, 201, hash, NULL);
        index_builder_span(b, 4000, &inside, NULL);
        index_builder_chunk(b, 700, 300, hash, NULL);
        struct index_info info = {.blob_size = 1000, .tar_size = 5000, .compression = COMPRESSION_GZIP};
        info.digest.alg = info.diff_id.alg = DIGEST_SHA256;
        info.notes.dropped_xattrs = 3;
        if (index_builder_finish(b, &info, ret_data, ret_len, NULL) < 0)
                abort();
        index_builder_free(b);
}
