/*
 * The map of a sparse file. Four formats hold the same thing, pairs of offset and length: fields in the header and in
 * extension blocks (old GNU), repeated pax records (0.0, which tar_pax.c rewrites as 0.1), one pax record (0.1), lines of
 * text in front of the data (1.0). All end in tar_sparse_add(), which checks and joins what touches.
 *
 * Memory grows with the entries that arrived, never with a number that announces them.
 */
#include "layer/tar_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void tar_sparse_done(struct tar_sparse *s)
{
        free(s->extents);
        memset(s, 0, sizeof *s);
}

void tar_sparse_reset(struct tar_sparse *s)
{
        struct tar_extent *extents = s->extents;
        size_t room = s->room;
        memset(s, 0, sizeof *s);
        s->extents = extents;
        s->room = room;
}

static int grow(struct tar_sparse *s)
{
        size_t room = s->room ? s->room * 2 : 16;
        struct tar_extent *extents = realloc(s->extents, room * sizeof *extents);
        if (!extents)
                return -ENOMEM;
        s->extents = extents;
        s->room = room;
        return 0;
}

int tar_sparse_add(struct tar_sparse *s, int64_t off, int64_t len)
{
        if (s->entries == TAR_SPARSE_MAX)
                return -EFBIG;
        if (off < 0 || len < 0 || !range_ok((uint64_t)off, (uint64_t)len, s->size) || (uint64_t)off < s->end)
                return -EBADMSG;
        s->entries++;
        struct tar_extent *last = s->count ? &s->extents[s->count - 1] : NULL;
        s->end = (uint64_t)off + (uint64_t)len;
        if (len == 0)
                return 0;
        if (last && last->file_off + last->len == (uint64_t)off) {
                last->len += (uint64_t)len;
        } else {
                int r = s->count == s->room ? grow(s) : 0;
                if (r < 0)
                        return r;
                s->extents[s->count++] = (struct tar_extent){
                        .file_off = (uint64_t)off,
                        .uoff = s->data_len,
                        .len = (uint64_t)len,
                };
        }
        s->data_len += (uint64_t)len; /* at most size */
        return 0;
}

int tar_sparse_add_old(struct tar_sparse *s, const uint8_t *fields, size_t count)
{
        for (size_t i = 0; i < count && fields[0] != 0; i++, fields += 24) {
                int64_t off, len;
                if (!tar_number(fields, 12, &off) || !tar_number(fields + 12, 12, &len))
                        return -EBADMSG;
                int r = tar_sparse_add(s, off, len);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The number up to the next comma, which is stepped over. */
static bool next_number(struct tar_span *text, int64_t *ret_value)
{
        const char *comma = text->len > 0 ? memchr(text->p, ',', text->len) : NULL;
        size_t len = comma ? (size_t)(comma - text->p) : text->len;
        if (!tar_decimal((struct tar_span){text->p, len}, ret_value))
                return false;
        text->p += comma ? len + 1 : len;
        text->len -= comma ? len + 1 : len;
        return !comma || text->len > 0; /* nothing may end with a comma */
}

int tar_sparse_add_text(struct tar_sparse *s, struct tar_span map, struct tar_span numblocks)
{
        int64_t count;
        if (!tar_decimal(numblocks, &count) || count < 0)
                return -EBADMSG;
        if (count > TAR_SPARSE_MAX)
                return -EFBIG;
        for (int64_t i = 0; i < count; i++) {
                int64_t off, len;
                if (!next_number(&map, &off) || !next_number(&map, &len))
                        return -EBADMSG;
                int r = tar_sparse_add(s, off, len);
                if (r < 0)
                        return r;
        }
        return map.len > 0 ? -EBADMSG : 0;
}

static int add_line_number(struct tar_sparse *s, int64_t value)
{
        if (s->numbers++ == 0) {
                if (value < 0)
                        return -EBADMSG;
                if (value > TAR_SPARSE_MAX)
                        return -EFBIG;
                s->wanted = (uint64_t)value;
        } else if (s->numbers % 2 == 0) {
                s->pending = value;
        } else {
                int r = tar_sparse_add(s, s->pending, value);
                if (r < 0)
                        return r;
        }
        s->map_done = s->numbers == 1 + 2 * s->wanted;
        return 0;
}

/* One more character of a number, the same as tar_decimal() takes. */
static bool add_character(struct tar_sparse *s, char c)
{
        if ((c == '-' || c == '+') && !s->sign && !s->digits) {
                s->sign = c;
                return true;
        }
        if (c < '0' || c > '9')
                return false;
        s->digits = true;
        int64_t digit = s->sign == '-' ? '0' - c : c - '0';
        return mul_ok(s->value, (int64_t)10, &s->value) && add_ok(s->value, digit, &s->value);
}

int tar_sparse_add_lines(struct tar_sparse *s, const uint8_t *data, size_t len)
{
        for (size_t i = 0; i < len && !s->map_done; i++) {
                if (data[i] != '\n') {
                        if (!add_character(s, (char)data[i]))
                                return -EBADMSG;
                        continue;
                }
                int r = s->digits ? add_line_number(s, s->value) : -EBADMSG;
                if (r < 0)
                        return r;
                s->value = 0;
                s->sign = 0;
                s->digits = false;
        }
        return 0;
}

int tar_sparse_place(struct tar_sparse *s, uint64_t uoff, uint64_t data_len)
{
        if (s->data_len != data_len)
                return -EBADMSG;
        for (size_t i = 0; i < s->count; i++)
                s->extents[i].uoff += uoff;
        return 0;
}
