#pragma once
/**
 * Base64 as in RFC 4648 section 4: the standard alphabet, padding required; line ends are skipped, as other programs of
 * this field do. Plain functions, any thread.
 */
#include <stddef.h>

/** Bytes that are enough for what len characters decode to. */
static inline size_t base64_room(size_t len)
{
        return len / 4 * 3 + 3;
}

/** Decodes len characters into out, which has base64_room(len) bytes. -EINVAL: not base64; out then holds garbage. */
int base64_decode(const char *text, size_t len, void *out, size_t *ret_len);
