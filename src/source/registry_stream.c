/* How: a stream begins as one request. Its first mebibytes are timed; if the rest would take long and the line is not fast
 * anyway, the request is dropped and helper threads fetch pieces of the rest on connections of their own, a few pieces ahead
 * of the caller, who gets them in order on its own thread:
 *
 *      delivered | slot 1: done | slot 2: fetching | slot 3: done | slot 0: fetching |  not yet
 *                ^ taken                                                             ^ next
 *
 * One connection is as fast as its window and the distance allow, several are several times that; on a fast line they gain
 * nothing and would cost memory (slots times piece). A piece is what one connection brings in half a second, so that
 * slow lines do not wait for the last byte of a large piece. Helpers are counted over all blobs of a source, so that layers
 * side by side do not multiply them; a stream that gets none goes on as it began. */
#include <errno.h>
#include <pthread.h>

#include "base/log.h"
#include "source/registry_blob.h"

enum {
        SLOTS = 8,            /* pieces in memory of one stream */
        THREADS = 4,          /* that fetch them */
        HELPERS_MAX = 8,      /* of one source */
        PROBE_LEN = 2 << 20,  /* so much is timed */
        REST_MIN = 8 << 20,   /* less than this is not worth it */
        RATE_FAST = 50 << 20, /* bytes a second that one connection need not be helped with */
        PIECE_MIN = 512 << 10,
        PIECE_MAX = 2 << 20,
};

/* ---- the beginning: one connection, timed */

struct probe {
        blob_sink_fn *sink;
        void *ctx;
        uint64_t seen, rest; /* bytes delivered, bytes to come */
        int64_t start_ms;
        uint64_t piece_len; /* set when helpers are worth it */
        int sink_code;
        bool decided;
};

static uint64_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
        return MAX(low, MIN(value, high));
}

static int probe_sink(void *ctx, const void *data, size_t len)
{
        struct probe *p = ctx;
        if (p->start_ms == 0)
                p->start_ms = http_now_ms();
        p->sink_code = p->sink(p->ctx, data, len);
        if (p->sink_code != 0)
                return p->sink_code;
        p->seen += len;
        p->rest -= MIN(p->rest, (uint64_t)len);
        if (p->decided || p->seen < PROBE_LEN)
                return 0;
        p->decided = true;
        uint64_t rate = p->seen * 1000 / (uint64_t)MAX(http_now_ms() - p->start_ms, (int64_t)1);
        if (rate >= RATE_FAST || p->rest < REST_MIN || p->rest < rate)
                return 0;
        p->piece_len = clamp(rate / 2, PIECE_MIN, PIECE_MAX);
        return 1;
}

/* ---- the rest: pieces */

struct piece {
        char *data;
        size_t len;
        bool done; /* under lock; the rest belongs to whoever has its turn */
        int code;
        struct error err;
};

struct line {
        struct blob *blob;
        uint64_t start, end, piece_len, count; /* piece n begins at start + n * piece_len */
        pthread_mutex_t lock;
        pthread_cond_t changed;
        uint64_t next, taken; /* under lock: pieces begun, pieces delivered */
        bool stop;            /* under lock */
        struct piece slots[SLOTS];
};

struct fill {
        struct line *line;
        struct piece *piece;
};

static int fill_sink(void *ctx, const void *data, size_t len)
{
        struct fill *f = ctx;
        pthread_mutex_lock(&f->line->lock);
        bool stop = f->line->stop;
        pthread_mutex_unlock(&f->line->lock);
        if (stop)
                return -ECANCELED;
        memcpy(f->piece->data + f->piece->len, data, len);
        f->piece->len += len;
        return 0;
}

static void fetch_piece(struct line *l, uint64_t n)
{
        struct piece *p = &l->slots[n % SLOTS];
        uint64_t pos = l->start + n * l->piece_len;
        struct fill f = {l, p};
        p->len = 0;
        p->code = registry_blob_push(l->blob, &pos, MIN(pos + l->piece_len, l->end), true, fill_sink, &f, &p->err);
        pthread_mutex_lock(&l->lock);
        p->done = true;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
}

static void *helper(void *arg)
{
        struct line *l = arg;
        for (;;) {
                pthread_mutex_lock(&l->lock);
                while (!l->stop && l->next < l->count && l->next >= l->taken + SLOTS)
                        pthread_cond_wait(&l->changed, &l->lock);
                bool more = !l->stop && l->next < l->count;
                uint64_t n = more ? l->next++ : 0;
                pthread_mutex_unlock(&l->lock);
                if (!more)
                        return NULL;
                fetch_piece(l, n);
        }
}

/* Delivers the pieces in order; *pos is where the next undelivered byte lies. */
static int deliver(
        struct line *l, blob_sink_fn *sink, void *ctx, uint64_t *pos, bool *ret_sink_failed, struct error *err)
{
        int r = 0;
        for (uint64_t n = 0; n < l->count && r == 0; n++) {
                struct piece *p = &l->slots[n % SLOTS];
                pthread_mutex_lock(&l->lock);
                while (!p->done)
                        pthread_cond_wait(&l->changed, &l->lock);
                pthread_mutex_unlock(&l->lock);
                r = p->code;
                if (r < 0) {
                        if (err)
                                *err = p->err;
                        break;
                }
                r = sink(ctx, p->data, p->len);
                *ret_sink_failed = r < 0;
                *pos += p->len;
                pthread_mutex_lock(&l->lock);
                p->done = false;
                l->taken++;
                pthread_cond_broadcast(&l->changed);
                pthread_mutex_unlock(&l->lock);
        }
        return r;
}

/* A share of the source's helpers: 0, or at least 2. */
static unsigned helpers_take(struct places *places)
{
        unsigned used = atomic_load(&places->helpers), n;
        do {
                n = used < HELPERS_MAX ? MIN((unsigned)THREADS, (unsigned)HELPERS_MAX - used) : 0;
                if (n < 2)
                        return 0;
        } while (!atomic_compare_exchange_weak(&places->helpers, &used, used + n));
        return n;
}

static bool line_init(struct line *l)
{
        pthread_mutex_init(&l->lock, NULL);
        pthread_cond_init(&l->changed, NULL);
        for (size_t i = 0; i < SLOTS; i++)
                if (!(l->slots[i].data = malloc((size_t)l->piece_len)))
                        return false;
        return true;
}

static void line_done(struct line *l)
{
        for (size_t i = 0; i < SLOTS; i++)
                free(l->slots[i].data);
        pthread_mutex_destroy(&l->lock);
        pthread_cond_destroy(&l->changed);
}

/* Streams [*pos, end) in pieces as far as it gets. 0 also when it could not even begin. */
static int stream_pieces(struct blob *blob, uint64_t *pos, uint64_t piece_len, blob_sink_fn *sink, void *ctx,
        bool *ret_sink_failed, struct error *err)
{
        struct places *places = registry_blob_places(blob);
        unsigned want = helpers_take(places), got = 0;
        if (want == 0)
                return 0;
        struct line l = {.blob = blob,
                .start = *pos,
                .end = blob->size,
                .piece_len = piece_len,
                .count = (blob->size - *pos + piece_len - 1) / piece_len};
        pthread_t threads[THREADS];
        int r = 0;
        if (line_init(&l))
                while (got < want && pthread_create(&threads[got], NULL, helper, &l) == 0)
                        got++;
        if (got > 0) {
                log_debug(LOG_HTTP, "%u connections fetch the rest in pieces of %llu bytes", got,
                        (unsigned long long)piece_len);
                r = deliver(&l, sink, ctx, pos, ret_sink_failed, err);
        }
        pthread_mutex_lock(&l.lock);
        l.stop = true;
        pthread_cond_broadcast(&l.changed);
        pthread_mutex_unlock(&l.lock);
        for (unsigned i = 0; i < got; i++)
                pthread_join(threads[i], NULL);
        atomic_fetch_sub(&places->helpers, want);
        line_done(&l);
        return r;
}

int registry_stream(struct blob *blob, uint64_t off, blob_sink_fn *sink, void *ctx, struct error *err)
{
        uint64_t pos = off;
        struct probe p = {.sink = sink, .ctx = ctx, .rest = blob->size - MIN(off, blob->size)};
        p.piece_len = http_options(registry_blob_places(blob)->http)->piece_len;
        p.decided = atomic_load(&blob->sequential); /* nothing to gain then */
        if (p.piece_len == 0 || p.decided) {
                p.piece_len = 0;
                int r = registry_blob_push(blob, &pos, blob->size, false, probe_sink, &p, err);
                if (r < 0 || pos >= blob->size)
                        return r;
        }
        bool sink_failed = false;
        int r = stream_pieces(blob, &pos, p.piece_len, sink, ctx, &sink_failed, err);
        if (sink_failed || (r < 0 && r != -EOPNOTSUPP))
                return r;
        return registry_blob_push(blob, &pos, blob->size, false, sink, ctx, err);
}
