/* How: one fixed buffer, vsnprintf, and a memmove to put words in front. Text that does not fit is cut at its end. */
#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int error_setv(struct error *err, int code, const char *fmt, va_list ap)
{
        if (err) {
                err->code = code;
                vsnprintf(err->msg, sizeof err->msg, fmt, ap);
        }
        return code;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
        va_list ap;
        va_start(ap, fmt);
        error_setv(err, code, fmt, ap);
        va_end(ap);
        return code;
}

int error_wrap(struct error *err, int code, const char *fmt, ...)
{
        if (!err)
                return code;
        char head[sizeof err->msg];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(head, sizeof head - 2, fmt, ap);
        va_end(ap);
        strcat(head, ": ");

        size_t head_len = strlen(head);
        size_t room = sizeof err->msg - 1 - head_len;
        size_t tail_len = strnlen(err->msg, sizeof err->msg - 1);
        if (tail_len > room)
                tail_len = room;
        memmove(err->msg + head_len, err->msg, tail_len);
        memcpy(err->msg, head, head_len);
        err->msg[head_len + tail_len] = '\0';
        err->code = code;
        return code;
}

int error_nomem(struct error *err)
{
        return error_set(err, -ENOMEM, "out of memory");
}
