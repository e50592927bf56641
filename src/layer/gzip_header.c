/* How: a state a field; the flags say which fields there are. The CRC is of all bytes before its own two. */
#include "layer/gzip_header.h"

#include <errno.h>
#include <libdeflate.h>
#include <stdbool.h>

enum gzip_flag { FHCRC = 1 << 1, FEXTRA = 1 << 2, FNAME = 1 << 3, FCOMMENT = 1 << 4, FRESERVED = 0xe0 };

/** Goes to the next stage that the flags ask for. */
static void gzip_header_next(struct gzip_header *h)
{
        static const uint8_t asks[] = {[GZIP_EXTRA_LEN] = FEXTRA,
                [GZIP_EXTRA] = FEXTRA,
                [GZIP_NAME] = FNAME,
                [GZIP_COMMENT] = FCOMMENT,
                [GZIP_CRC] = FHCRC};
        do
                h->stage++;
        while (h->stage < GZIP_DONE && (!(h->flags & asks[h->stage]) || (h->stage == GZIP_EXTRA && h->value == 0)));
        h->have = 0;
        if (h->stage != GZIP_EXTRA)
                h->value = 0;
}

static int gzip_header_fixed(struct gzip_header *h, uint8_t b, struct error *err)
{
        static const uint8_t magic[] = {0x1f, 0x8b, 8};

        if (h->have < sizeof magic && b != magic[h->have])
                return error_set(err, -EBADMSG, "gzip header: %s", h->have < 2 ? "bad magic" : "unknown method");
        if (h->have == 3) {
                if (b & FRESERVED)
                        return error_set(err, -EBADMSG, "gzip header: reserved flags are set");
                h->flags = b;
        }
        if (++h->have == 10)
                gzip_header_next(h);
        return 0;
}

int gzip_header_byte(struct gzip_header *h, uint8_t b, struct error *err)
{
        uint32_t crc_before = h->crc;
        int r = 0;

        h->crc = libdeflate_crc32(h->crc, &b, 1);
        switch (h->stage) {
        case GZIP_FIXED: r = gzip_header_fixed(h, b, err); break;
        case GZIP_EXTRA_LEN:
                h->value |= (uint32_t)b << (8 * h->have);
                if (++h->have == 2)
                        gzip_header_next(h);
                break;
        case GZIP_EXTRA:
                if (++h->have == h->value)
                        gzip_header_next(h);
                break;
        case GZIP_NAME:
        case GZIP_COMMENT:
                if (b == 0)
                        gzip_header_next(h);
                else if (++h->have > GZIP_TEXT_MAX)
                        r = error_set(
                                err, -EFBIG, "gzip header: name or comment is longer than %d bytes", GZIP_TEXT_MAX);
                break;
        case GZIP_CRC:
                h->crc = crc_before;
                h->value |= (uint32_t)b << (8 * h->have);
                if (++h->have < 2)
                        break;
                if (h->value != (h->crc & 0xffff))
                        r = error_set(err, -EBADMSG, "gzip header: wrong CRC");
                h->stage = GZIP_DONE;
                break;
        case GZIP_DONE: break;
        }
        return r;
}
