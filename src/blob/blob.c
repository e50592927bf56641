/*
 * How: the public functions check the range once, so that implementations need not; what they give is counted, so that
 * an implementation that delivers too little or too much is an error here and nowhere else.
 *
 * A window's bytes are read through its base. Its stream is the base's stream, cut off by a sink that stops: a base that
 * can only be streamed (`sequential`) works under a window as well, at the price of the bytes in front of it.
 */
#include "blob/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { STREAM_PIECE = 256 << 10 };

void blob_init(struct blob *b, const struct blob_ops *ops, uint64_t size)
{
        b->ops = ops;
        b->size = size;
        b->local = false;
        atomic_init(&b->refs, 1);
        atomic_init(&b->sequential, false);
}

struct blob *blob_ref(struct blob *b)
{
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
        return b;
}

void blob_unref(struct blob *b)
{
        if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
                b->ops->free(b);
}

ssize_t blob_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        if (off >= b->size || !len)
                return 0;
        uint64_t most = MIN(b->size - off, (uint64_t)PTRDIFF_MAX);
        len = len < most ? len : (size_t)most;
        int r = b->ops->read(b, data, len, off, err);
        return r < 0 ? r : (ssize_t)len;
}

int blob_read_all(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        if (!range_ok(off, len, b->size))
                return error_set(err, -EBADMSG, "%zu bytes at %llu are wanted, but there are only %llu in all", len,
                        (unsigned long long)off, (unsigned long long)b->size);
        return len ? b->ops->read(b, data, len, off, err) : 0;
}

/* ---- streams ---- */

struct counted {
        blob_sink_fn *sink;
        void *ctx;
        uint64_t left;
};

static int counted_sink(void *ctx, const void *data, size_t len)
{
        struct counted *c = ctx;
        if (len > c->left)
                return -EBADMSG;
        c->left -= len;
        return len ? c->sink(c->ctx, data, len) : 0;
}

static int stream_by_read(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        cleanup(freep) uint8_t *piece = malloc(STREAM_PIECE);
        if (!piece)
                return error_nomem(err);
        while (off < b->size) {
                size_t len = (size_t)MIN((uint64_t)STREAM_PIECE, b->size - off);
                int r = b->ops->read(b, piece, len, off, err);
                if (r == 0)
                        r = sink(ctx, piece, len);
                if (r < 0)
                        return r;
                off += len;
        }
        return 0;
}

int blob_stream(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        if (off > b->size)
                return error_set(err, -EBADMSG, "a stream from %llu is wanted, but there are only %llu bytes in all",
                        (unsigned long long)off, (unsigned long long)b->size);
        if (off == b->size)
                return 0; /* nothing to ask anybody for */
        struct counted counted = {sink, ctx, b->size - off};
        int r = (b->ops->stream ? b->ops->stream : stream_by_read)(b, off, counted_sink, &counted, err);
        if (r < 0)
                return r;
        if (counted.left)
                return error_set(
                        err, -EBADMSG, "the stream ended %llu bytes before its end", (unsigned long long)counted.left);
        return 0;
}

/* ---- memory ---- */

struct memory_blob {
        struct blob blob;
        uint8_t data[];
};

static int memory_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        (void)err;
        memcpy(data, ((struct memory_blob *)b)->data + off, len);
        return 0;
}

static int memory_stream(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        (void)err;
        return sink(ctx, ((struct memory_blob *)b)->data + off, (size_t)(b->size - off));
}

static void memory_free(struct blob *b)
{
        free(b);
}

static const struct blob_ops memory_ops = {memory_read, memory_stream, memory_free};

int blob_new_memory(const void *data, size_t len, struct blob **ret_blob, struct error *err)
{
        size_t room;
        struct memory_blob *m = add_ok(sizeof *m, len, &room) ? malloc(room) : NULL;
        if (!m)
                return error_nomem(err);
        blob_init(&m->blob, &memory_ops, len);
        if (len)
                memcpy(m->data, data, len);
        *ret_blob = &m->blob;
        return 0;
}

/* ---- files ---- */

struct fd_blob {
        struct blob blob;
        int fd;
};

static int fd_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        uint8_t *at = data;
        while (len) {
                ssize_t n = pread(((struct fd_blob *)b)->fd, at, len, (off_t)off);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set(err, -errno, "read: %s", strerror(errno));
                if (n == 0)
                        return error_set(err, -EBADMSG, "the file became shorter while it was in use");
                at += n;
                off += (uint64_t)n;
                len -= (size_t)n;
        }
        return 0;
}

static void fd_free(struct blob *b)
{
        close(((struct fd_blob *)b)->fd);
        free(b);
}

static const struct blob_ops fd_ops = {fd_read, NULL, fd_free};

int blob_new_fd(int fd, struct blob **ret_blob, struct error *err)
{
        cleanup(closep) int owned = fd;
        struct stat st;
        if (fstat(owned, &st) < 0)
                return error_set(err, -errno, "stat: %s", strerror(errno));
        if (!S_ISREG(st.st_mode))
                return error_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL, "not a regular file");
        struct fd_blob *f = malloc(sizeof *f);
        if (!f)
                return error_nomem(err);
        blob_init(&f->blob, &fd_ops, (uint64_t)st.st_size);
        f->blob.local = true;
        f->fd = take_fd(&owned);
        *ret_blob = &f->blob;
        return 0;
}

int blob_open_file(int dirfd, const char *path, struct blob **ret_blob, struct error *err)
{
        /* O_NONBLOCK: a FIFO of that name must not make us wait; regular files do not care */
        int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return error_set(err, -errno, "open %s: %s", path, strerror(errno));
        int r = blob_new_fd(fd, ret_blob, err);
        return r < 0 ? error_wrap(err, r, "%s", path) : 0;
}

/* ---- windows ---- */

struct window_blob {
        struct blob blob;
        struct blob *base; /* referenced */
        uint64_t off;      /* in the base */
};

static void window_follow(struct window_blob *w)
{
        if (atomic_load(&w->base->sequential))
                atomic_store(&w->blob.sequential, true);
}

static int window_read(struct blob *b, void *data, size_t len, uint64_t off, struct error *err)
{
        struct window_blob *w = (struct window_blob *)b;
        int r = blob_read_all(w->base, data, len, w->off + off, err);
        window_follow(w);
        return r;
}

struct cut {
        blob_sink_fn *sink;
        void *ctx;
        uint64_t left;
        bool over; /* all bytes of the window went through: the stop below is ours */
};

static int cut_sink(void *ctx, const void *data, size_t len)
{
        struct cut *c = ctx;
        size_t part = (size_t)MIN((uint64_t)len, c->left);
        c->left -= part;
        int r = c->sink(c->ctx, data, part);
        if (r == 0 && !c->left) {
                c->over = true;
                r = -ECANCELED;
        }
        return r;
}

static int window_stream(struct blob *b, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        struct window_blob *w = (struct window_blob *)b;
        struct cut cut = {sink, ctx, b->size - off, false};
        if (!cut.left)
                return 0;
        struct error ours = {0};
        int r = blob_stream(w->base, w->off + off, cut_sink, &cut, &ours);
        window_follow(w);
        if (cut.over)
                return 0;
        if (r < 0 && ours.code && err)
                *err = ours;
        return r;
}

static void window_free(struct blob *b)
{
        blob_unref(((struct window_blob *)b)->base);
        free(b);
}

static const struct blob_ops window_ops = {window_read, window_stream, window_free};

int blob_new_window(struct blob *base, uint64_t off, uint64_t len, struct blob **ret_blob, struct error *err)
{
        if (!range_ok(off, len, base->size))
                return error_set(err, -EBADMSG, "the range of %llu bytes at %llu is not within the %llu there are",
                        (unsigned long long)len, (unsigned long long)off, (unsigned long long)base->size);
        struct window_blob *w = malloc(sizeof *w);
        if (!w)
                return error_nomem(err);
        blob_init(&w->blob, &window_ops, len);
        w->blob.local = base->local;
        w->base = blob_ref(base);
        w->off = off;
        window_follow(w);
        *ret_blob = &w->blob;
        return 0;
}
