/*
 * How: characters are collected into groups of four. The value of a character is computed, not looked up, because what is
 * decoded is mostly a password. Bits behind the last whole byte are not looked at (Go's decoder does not either).
 */
#include "base/base64.h"

#include <errno.h>
#include <stdint.h>

static int value_of(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(const char *text, size_t len, void *out, size_t *ret_len)
{
        uint8_t *to = out;
        size_t done = 0;
        uint32_t group = 0;
        unsigned count = 0, padding = 0;
        for (size_t i = 0; i < len; i++) {
                if (text[i] == '\n' || text[i] == '\r')
                        continue;
                int value = text[i] == '=' && count >= 2 ? 0 : value_of(text[i]);
                if (value < 0 || (padding && (text[i] != '=' || count == 0)))
                        return -EINVAL;
                padding += text[i] == '=';
                group = group << 6 | (uint32_t)value;
                if (++count < 4)
                        continue;
                for (unsigned k = 0; k < 3 - padding; k++)
                        to[done++] = (uint8_t)(group >> (16 - 8 * k));
                group = 0;
                count = 0;
        }
        if (count)
                return -EINVAL;
        *ret_len = done;
        return 0;
}
