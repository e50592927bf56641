/* Any bytes as an index, with checksums mended, so that the checks behind them are what is tested. What is accepted is
 * walked from end to end: a sanitizer sees every way out of it. */
#include <libdeflate.h>
#include <stdlib.h>

#include "base/wire.h"
#include "layer/index.h"
#include "layer/index_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sum;

static void touch(const void *data, size_t len)
{
        for (size_t i = 0; i < len; i++)
                sum += ((const uint8_t *)data)[i];
}

static void mend(uint8_t *d, size_t len)
{
        if (len < HEADER_LEN)
                return;
        memcpy(d, INDEX_MAGIC, 8);
        put_le32(d + HEADER_VERSION, INDEX_VERSION);
        put_le64(d + HEADER_FILE_LEN, len);
        for (int i = 0; i < SECTIONS; i++) {
                uint8_t *h = d + HEADER_SECTIONS + i * HEADER_SECTION_LEN;
                if (range_ok(get_le64(h + 8), get_le64(h + 16), len))
                        put_le32(h + 4, libdeflate_crc32(0, d + get_le64(h + 8), get_le64(h + 16)));
        }
        put_le32(d + HEADER_CRC, libdeflate_crc32(0, d, HEADER_CRC));
}

static void walk(const struct index *ix)
{
        static struct index_windows windows;
        windows.of = NULL;
        const struct index_info *info = index_info(ix);
        for (uint32_t i = 0; i < info->entries; i++) {
                struct index_entry e;
                index_entry(ix, i, &e);
                touch(e.dir, e.dir_len + 1);
                touch(e.name, e.name_len + 1);
                touch(e.link ? e.link : "", e.link_len);
                for (uint32_t k = 0; k < e.xattr_count; k++) {
                        struct index_xattr x;
                        index_xattr(ix, e.xattrs, k, &x);
                        touch(x.name, x.name_len + 1);
                        touch(x.value, x.value_len);
                }
                for (uint32_t k = 0; k < e.extent_count; k++) {
                        struct tar_extent t;
                        index_extent(ix, e.extents, k, &t);
                }
        }
        for (uint32_t i = 0; i < info->spans; i++) {
                struct index_span s;
                struct decode_point p;
                index_span(ix, i, &s);
                touch(s.chunk.sha256, SHA256_BYTES);
                if (index_point(ix, i, &windows, &p, NULL) == 0 && p.header) {
                        touch(p.header, (p.header_bits + 7u) / 8);
                        touch(p.window, p.window_len);
                }
        }
        if (info->tar_size)
                index_find_span(ix, info->tar_size - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t *copy = malloc(size ? size : 1);
        struct index *ix = NULL;
        memcpy(copy, data, size);
        mend(copy, size);
        if (index_open_memory(copy, size, NULL, &ix, NULL) == 0)
                walk(ix);
        index_free(ix);
        return 0;
}
