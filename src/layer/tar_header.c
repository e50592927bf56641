/*
 * One 512-byte header. Every field of a known dialect is parsed, also those that nobody asks for, because Go's reader
 * does so and refuses the archive when one of them is malformed; what Docker refuses must not be mounted as if it were
 * whole.
 *
 *   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8 | 156 type
 *   157 link 100 | 257 magic 6 | 263 version 2 | 265 uname 32 | 297 gname 32 | 329 major 8 | 337 minor 8
 *   345 prefix 155 (ustar), prefix 131 + atime 12 + ctime 12 + ... "tar\0" at 508 (star), atime 12 + ctime 12 + ... (GNU)
 *
 * The checksum costs most, so it is added up eight bytes at a time; the signed sum, which only a few old writers made,
 * differs from the unsigned one by 256 for each byte above 127 and is computed when the other does not fit.
 */
#include "layer/tar_internal.h"

#include <string.h>

enum { CHECKSUM_OFF = 148, CHECKSUM_LEN = 8 };

static bool octal(const uint8_t *p, size_t len, int64_t *ret_value)
{
        while (len > 0 && (*p == ' ' || *p == '\0')) {
                p++;
                len--;
        }
        while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\0'))
                len--;
        int64_t value = 0; /* at most 12 digits of 3 bits */
        for (size_t i = 0; i < len && p[i] != '\0'; i++) {
                if (p[i] < '0' || p[i] > '7')
                        return false;
                value = value * 8 + (p[i] - '0');
        }
        *ret_value = value;
        return true;
}

/* Two's complement, big-endian, but that the top bit only says "base-256" and the next one is the sign. */
static bool base256(const uint8_t *p, size_t len, int64_t *ret_value)
{
        int64_t value = p[0] & 0x40 ? (int64_t)p[0] - 256 : p[0] & 0x3f;
        for (size_t i = 1; i < len; i++) {
                if (value > INT64_MAX / 256 || value < INT64_MIN / 256)
                        return false;
                value = value * 256 + p[i];
        }
        *ret_value = value;
        return true;
}

bool tar_number(const uint8_t *field, size_t len, int64_t *ret_value)
{
        return field[0] & 0x80 ? base256(field, len, ret_value) : octal(field, len, ret_value);
}

bool tar_decimal(struct tar_span text, int64_t *ret_value)
{
        size_t i = 0;
        bool negative = text.len > 0 && text.p[0] == '-';
        if (negative || (text.len > 0 && text.p[0] == '+'))
                i++;
        if (i == text.len)
                return false;
        int64_t value = 0; /* kept negative, as int64_t reaches further there */
        for (; i < text.len; i++) {
                if (text.p[i] < '0' || text.p[i] > '9' || !mul_ok(value, (int64_t)10, &value) ||
                        __builtin_sub_overflow(value, (int64_t)(text.p[i] - '0'), &value))
                        return false;
        }
        if (!negative && value == INT64_MIN)
                return false;
        *ret_value = negative ? value : -value;
        return true;
}

/* The bytes of the block added up; four lanes of 16 bits hold 128 sums of two bytes. */
static uint32_t sum_bytes(const uint8_t *block)
{
        const uint64_t even = 0x00ff00ff00ff00ff;
        uint64_t lanes = 0;
        for (size_t i = 0; i < TAR_BLOCK; i += 8) {
                uint64_t word;
                memcpy(&word, block + i, 8);
                lanes += (word & even) + ((word >> 8) & even);
        }
        return (uint32_t)((lanes & 0xffff) + (lanes >> 16 & 0xffff) + (lanes >> 32 & 0xffff) + (lanes >> 48));
}

enum tar_block_kind tar_block_kind(const uint8_t *block)
{
        uint32_t sum = sum_bytes(block);
        if (sum == 0)
                return TAR_BLOCK_ZERO;
        int64_t written;
        if (!octal(block + CHECKSUM_OFF, CHECKSUM_LEN, &written))
                return TAR_BLOCK_BAD;
        int64_t expected = sum + CHECKSUM_LEN * ' ';
        for (size_t i = CHECKSUM_OFF; i < CHECKSUM_OFF + CHECKSUM_LEN; i++)
                expected -= block[i];
        if (written == expected)
                return TAR_BLOCK_HEADER;
        for (size_t i = 0; i < TAR_BLOCK; i++)
                expected -= block[i] & 0x80 ? 256 : 0;
        for (size_t i = CHECKSUM_OFF; i < CHECKSUM_OFF + CHECKSUM_LEN; i++)
                expected += block[i] & 0x80 ? 256 : 0;
        return written == expected ? TAR_BLOCK_HEADER : TAR_BLOCK_BAD;
}

bool tar_block_plausible(const uint8_t block[TAR_BLOCK])
{
        return tar_block_kind(block) != TAR_BLOCK_BAD;
}

static enum tar_dialect dialect_of(const uint8_t *block)
{
        if (memcmp(block + 257, "ustar\0", 6) == 0)
                return memcmp(block + 508, "tar\0", 4) == 0 ? TAR_STAR : TAR_USTAR;
        return memcmp(block + 257, "ustar  \0", 8) == 0 ? TAR_GNU : TAR_V7;
}

static bool is_ascii(const char *p, size_t len)
{
        for (size_t i = 0; i < len; i++)
                if (p[i] & 0x80)
                        return false;
        return true;
}

/*
 * How many bytes at 345 belong in front of the name. GNU has two times there, but Go before 1.8 wrote GNU's magic with a
 * real prefix: ASCII text that is no time is taken for one.
 */
static size_t prefix_len(const uint8_t *block, enum tar_dialect dialect)
{
        const char *prefix = (const char *)block + 345;
        int64_t ignored;
        switch (dialect) {
        case TAR_USTAR: return strnlen(prefix, 155);
        case TAR_STAR: return strnlen(prefix, 131);
        case TAR_GNU: break;
        default: return 0;
        }
        if ((block[345] == 0 || tar_number(block + 345, 12, &ignored)) &&
                (block[357] == 0 || tar_number(block + 357, 12, &ignored)))
                return 0;
        size_t len = strnlen(prefix, 155);
        return is_ascii(prefix, len) ? len : 0;
}

void tar_header_name(const uint8_t *block, struct tar_header *h)
{
        size_t len = prefix_len(block, dialect_of(block));
        memcpy(h->name, block + 345, len);
        if (len > 0)
                h->name[len++] = '/';
        size_t name_len = strnlen((const char *)block, 100);
        memcpy(h->name + len, block, name_len);
        h->name_len = len + name_len;
        h->name[h->name_len] = '\0';
}

const char *tar_header_parse(const uint8_t *block, struct tar_header *h)
{
        h->dialect = dialect_of(block);
        h->type = (char)block[156];
        h->link_len = strnlen((const char *)block + 157, 100);
        memcpy(h->link, block + 157, h->link_len);
        h->link[h->link_len] = '\0';
        h->major = h->minor = 0;
        tar_header_name(block, h);

        int64_t ignored;
        if (!tar_number(block + 124, 12, &h->size))
                return "malformed size";
        if (!tar_number(block + 100, 8, &h->mode))
                return "malformed mode";
        if (!tar_number(block + 108, 8, &h->uid))
                return "malformed owner";
        if (!tar_number(block + 116, 8, &h->gid))
                return "malformed group";
        if (!tar_number(block + 136, 12, &h->mtime))
                return "malformed modification time";
        if (h->dialect == TAR_V7)
                return NULL;
        if (!tar_number(block + 329, 8, &h->major) || !tar_number(block + 337, 8, &h->minor))
                return "malformed device number";
        if (h->dialect == TAR_STAR &&
                (!tar_number(block + 476, 12, &ignored) || !tar_number(block + 488, 12, &ignored)))
                return "malformed access or change time";
        return NULL;
}
