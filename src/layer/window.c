/*
 * How: raw deflate by zlib at its highest level: there are a few kilobytes a window, so the time does not matter, and zlib's
 * output for given bytes has not changed in twenty years, which keeps the index reproducible. Bytes that do not become fewer
 * are kept as they are, which their length tells.
 */
#include "layer/window.h"

#include <errno.h>
#define ZLIB_CONST
#include <zlib.h>

struct window_packer {
        z_stream z;
};

struct window_packer *window_packer_new(void)
{
        struct window_packer *p = calloc(1, sizeof *p);
        if (p && deflateInit2(&p->z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
                free(p);
                return NULL;
        }
        return p;
}

void window_packer_free(struct window_packer *p)
{
        if (!p)
                return;
        deflateEnd(&p->z);
        free(p);
}

int window_pack(struct window_packer *p, const uint8_t *window, size_t len, struct buf *out)
{
        size_t start = out->len;
        uint8_t *at = buf_extend(out, len);
        if (!at)
                return buf_error(out);
        deflateReset(&p->z);
        p->z.next_in = window;
        p->z.avail_in = (uInt)len;
        p->z.next_out = at;
        p->z.avail_out = len ? (uInt)len - 1 : 0; /* as long as before is not packed */
        if (len && deflate(&p->z, Z_FINISH) == Z_STREAM_END)
                out->len = start + (size_t)p->z.total_out;
        else if (len)
                memcpy(at, window, len);
        return 0;
}

int window_unpack(const uint8_t *packed, size_t packed_len, uint8_t *window, size_t len, struct error *err)
{
        if (packed_len == len) {
                if (len)
                        memcpy(window, packed, len);
                return 0;
        }
        z_stream z = {.next_in = packed, .avail_in = (uInt)packed_len, .next_out = window, .avail_out = (uInt)len};
        if (inflateInit2(&z, -15) != Z_OK)
                return error_nomem(err);
        int r = inflate(&z, Z_FINISH);
        inflateEnd(&z);
        if (r != Z_STREAM_END || z.avail_in || z.avail_out)
                return error_set(err, -EBADMSG, "index: a packed window is damaged");
        return 0;
}
