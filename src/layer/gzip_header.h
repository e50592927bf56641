#pragma once
/**
 * A gzip member's header (RFC 1952), taken byte by byte, so that it may be cut anywhere. All optional fields are passed over, the
 * header's own CRC is checked. One thread at a time.
 */
#include <stdint.h>

#include "base/error.h"

enum {
        GZIP_TEXT_MAX = 1 << 20, /* bytes of a member's name or comment */
        GZIP_TRAILER = 8,        /* bytes behind the deflate stream: CRC-32 and length, little-endian */
};

enum gzip_stage { GZIP_FIXED, GZIP_EXTRA_LEN, GZIP_EXTRA, GZIP_NAME, GZIP_COMMENT, GZIP_CRC, GZIP_DONE };

struct gzip_header {
        enum gzip_stage stage;
        uint8_t flags;
        uint32_t have;  /* bytes of this stage so far */
        uint32_t value; /* of a number being read, little-endian */
        uint32_t crc;   /* of the header so far */
};

/**
 * Takes a byte; h begins all zero. When h->stage is GZIP_DONE the header was complete with it. -EBADMSG: no gzip header, reserved
 * flags, wrong CRC; -EFBIG: name or comment too long.
 */
int gzip_header_byte(struct gzip_header *h, uint8_t b, struct error *err);
