/* How: doubling reallocation up to the ceiling; one byte more than asked is kept for the NUL. */
#include "base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
        *b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
        free(b->data);
        *b = (struct buf){.max = b->max};
}

void *buf_extend(struct buf *b, size_t len)
{
        if (b->error)
                return NULL;
        if (len > b->max || b->len > b->max - len) {
                b->error = -EFBIG;
                return NULL;
        }
        size_t need = b->len + len + 1;
        if (need > b->room) {
                size_t room = b->room ? b->room : 64;
                while (room < need)
                        room = room > SIZE_MAX / 2 ? need : room * 2;
                char *data = realloc(b->data, room);
                if (!data) {
                        b->error = -ENOMEM;
                        return NULL;
                }
                b->data = data;
                b->room = room;
        }
        char *at = b->data + b->len;
        memset(at, 0, len + 1);
        b->len += len;
        return at;
}

void buf_add(struct buf *b, const void *data, size_t len)
{
        char *at = buf_extend(b, len);
        if (at && len)
                memcpy(at, data, len);
}

void buf_adds(struct buf *b, const char *s)
{
        buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c)
{
        buf_add(b, &c, 1);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        int len = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        if (len < 0) {
                b->error = b->error ? b->error : -EINVAL;
                return;
        }
        char *at = buf_extend(b, (size_t)len);
        if (!at)
                return;
        va_start(ap, fmt);
        vsnprintf(at, (size_t)len + 1, fmt, ap);
        va_end(ap);
}

void buf_clear(struct buf *b)
{
        b->len = 0;
        b->error = 0;
        if (b->data)
                b->data[0] = '\0';
}

const char *buf_str(const struct buf *b)
{
        return b->data ? b->data : "";
}

char *buf_take(struct buf *b, size_t *ret_len)
{
        if (!buf_extend(b, 0))
                return NULL;
        char *data = b->data;
        if (ret_len)
                *ret_len = b->len;
        *b = (struct buf){.max = b->max};
        return data;
}
