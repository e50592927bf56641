/*
 * How a read goes, chunk by chunk:
 *
 *   in the store?  -> read, hash, done; wrong bytes are forgotten, and the chunk counts as missing
 *   in a run that another thread fetches?  -> wait for that run, take the chunk from its buffer
 *   else  -> make a run of this and the missing chunks behind it, fetch it as one range, hash each chunk, keep it
 *
 * A run is shared by reference count, so that those who waited get the bytes (or the failure) even where no store keeps
 * them. A failure goes to those who waited for it, because a registry that is away must not make sixteen readers time out
 * one after the other; whoever comes later tries again.
 *
 * A slow blob that is sequential is streamed by a thread of its own, so that who needed its beginning does not wait for
 * its end. Whoever started it has what it wants put into its buffer as it passes; the others look at the store as chunks
 * come in. What passes is kept in the store, or in a spill file when the store takes nothing. If not even that has room,
 * each miss streams again. A stream in which a chunk was wrong is done once more. Closing ends it at its next bytes.
 *
 * Lock order: cached->lock, then the store's own. The lock is held to look at one byte of the map, not during I/O of data.
 */
#include "blob/cached.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"

enum { FILL_THREADS = 2 };

/* a fetch under way */
struct run {
        struct run *next;      /* under cached->lock, as long as it is listed */
        unsigned refs;         /* under cached->lock: the fetcher and those who wait */
        uint64_t first, count; /* chunks; constant, as the three below */
        uint64_t off, len;     /* bytes in the blob */
        bool stream;           /* the slow blob is streamed: all chunks, no buffer; look at the store */

        bool over;        /* under cached->lock; the four below are the fetcher's until then, and constant afterwards */
        int code;         /* 0, or why chunks are not good */
        struct error err; /* the same in words */
        uint8_t *data;    /* len bytes; NULL for a stream */
        bool *good;       /* per chunk: verified */

        struct wanted *want;   /* of a stream, under cached->lock: what its starter waits for, NULL when it left */
        struct cached *cached; /* of a stream: constant, as the two below */
        pthread_t before;      /* the thread of the stream before */
        bool joins;            /* is there one to join? */
};

struct cached {
        struct blob *slow;   /* referenced, may be NULL */
        struct store *store; /* borrowed */
        struct digest digest;
        uint64_t size;
        struct chunk_table table;
        struct store_blob *kept;            /* in the store; NULL when it keeps nothing */
        _Atomic(struct store_blob *) spill; /* for sequential blobs without a store; set once, under lock */
        pthread_mutex_t lock;
        pthread_cond_t progress; /* a run is over, or a chunk of a stream was kept */
        struct run *runs;        /* under lock: those under way */
        pthread_t streamer;      /* under lock: the thread of the last stream, if there is one to join */
        bool has_streamer;       /* under lock */
        atomic_bool closing;     /* a stream under way shall end */
};

/* ---- the table ---- */

static int name_chunk(struct cached *c, const struct chunk *chunk, int code, struct error *err, const char *what)
{
        char text[DIGEST_MAX_TEXT];
        return error_set(err, code, "%s: %llu bytes at %llu: %s", digest_format(&c->digest, text),
                (unsigned long long)chunk->len, (unsigned long long)chunk->off, what);
}

/* the chunk, which must lie within the blob */
static int get_chunk(struct cached *c, uint64_t i, struct chunk *ret_chunk, struct error *err)
{
        struct chunk chunk = {0};
        c->table.get(c->table.owner, i, &chunk);
        if (chunk.len > CHUNK_MAX_LEN || !range_ok(chunk.off, chunk.len, c->size))
                return name_chunk(c, &chunk, -EBADMSG, err, "the index names a range that cannot be");
        *ret_chunk = chunk;
        return 0;
}

/* checks that [first, first + count) are neighbours as promised, and gives the range that they cover */
static int get_range(
        struct cached *c, uint64_t first, uint64_t count, uint64_t *ret_off, uint64_t *ret_len, struct error *err)
{
        uint64_t off = 0, end = 0;
        if (!range_ok(first, count, c->table.count))
                return error_set(err, -EBADMSG, "chunk %llu is beyond the index's %llu", (unsigned long long)first,
                        (unsigned long long)c->table.count);
        for (uint64_t i = 0; i < count; i++) {
                struct chunk chunk = {0};
                int r = get_chunk(c, first + i, &chunk, err);
                if (r < 0)
                        return r;
                if (i == 0)
                        off = end = chunk.off;
                if (chunk.off > end || end - chunk.off > (i > 0) || chunk.off + chunk.len < end)
                        return name_chunk(c, &chunk, -EBADMSG, err, "the index names a range that is not in order");
                end = chunk.off + chunk.len;
        }
        *ret_off = off;
        *ret_len = end - off;
        return 0;
}

static bool verify(const struct chunk *chunk, const void *data)
{
        uint8_t hash[SHA256_BYTES];
        return sha256_memory(data, (size_t)chunk->len, hash) == 0 && memcmp(hash, chunk->sha256, SHA256_BYTES) == 0;
}

/* ---- what is kept ---- */

static bool present(struct cached *c, uint64_t i)
{
        struct store_blob *spill = atomic_load(&c->spill);
        return (c->kept && store_blob_has(c->kept, i)) || (spill && store_blob_has(spill, i));
}

static bool load_from(struct store_blob *b, uint64_t i, const struct chunk *chunk, uint8_t *data)
{
        if (!b || !store_blob_has(b, i))
                return false;
        if (store_blob_read(b, data, (size_t)chunk->len, chunk->off) == 0 && verify(chunk, data))
                return true;
        log_debug(LOG_CACHE, "%llu bytes at %llu are wrong or gone: forgotten", (unsigned long long)chunk->len,
                (unsigned long long)chunk->off);
        store_blob_forget(b, i);
        return false;
}

static bool load(struct cached *c, uint64_t i, const struct chunk *chunk, uint8_t *data)
{
        return load_from(c->kept, i, chunk, data) || load_from(atomic_load(&c->spill), i, chunk, data);
}

static void keep(struct cached *c, uint64_t i, const struct chunk *chunk, const uint8_t *data)
{
        struct store_blob *spill = atomic_load(&c->spill);
        if (c->kept)
                store_blob_write(c->kept, i, data, (size_t)chunk->len, chunk->off);
        if (spill)
                store_blob_write(spill, i, data, (size_t)chunk->len, chunk->off);
}

/* a stream must not pass in vain: when the store takes nothing, a temporary file does. By the streaming thread only. */
static void need_spill(struct cached *c)
{
        if (atomic_load(&c->spill) || (c->kept && store_writable(c->store)))
                return;
        struct store_blob *spill = NULL;
        struct error err = {0};
        if (store_blob_open(c->store, &c->digest, c->size, c->table.count, true, &spill, &err) < 0)
                log_debug(LOG_CACHE, "%s", err.msg);
        atomic_store(&c->spill, spill);
}

/* ---- opening ---- */

int cached_open(struct blob *slow, struct store *store, const struct digest *d, uint64_t size,
        const struct chunk_table *table, struct cached **ret_cached, struct error *err)
{
        if (slow && blob_size(slow) != size)
                return error_set(err, -EBADMSG, "the blob has %llu bytes, its index says %llu",
                        (unsigned long long)blob_size(slow), (unsigned long long)size);
        struct cached *c = calloc(1, sizeof *c);
        if (!c)
                return error_nomem(err);
        c->store = store;
        c->digest = *d;
        c->size = size;
        c->table = *table;
        pthread_mutex_init(&c->lock, NULL);
        pthread_cond_init(&c->progress, NULL);
        int r = slow && slow->local ? 0 : store_blob_open(store, d, size, table->count, false, &c->kept, err);
        if (r < 0) {
                cached_close(c);
                return r;
        }
        c->slow = slow ? blob_ref(slow) : NULL;
        *ret_cached = c;
        return 0;
}

void cached_close(struct cached *c)
{
        if (!c)
                return;
        atomic_store(&c->closing, true);
        if (c->has_streamer)
                pthread_join(c->streamer, NULL);
        store_blob_close(c->kept);
        store_blob_close(atomic_load(&c->spill));
        blob_unref(c->slow);
        pthread_cond_destroy(&c->progress);
        pthread_mutex_destroy(&c->lock);
        free(c);
}

/* ---- runs ---- */

/* under lock: the run that fetches the chunk */
static struct run *find_run(struct cached *c, uint64_t i)
{
        for (struct run *run = c->runs; run; run = run->next)
                if (i >= run->first && i - run->first < run->count)
                        return run;
        return NULL;
}

/* under lock */
static void run_unref(struct run *run)
{
        if (--run->refs)
                return;
        free(run->data);
        free(run->good);
        free(run);
}

/* under lock: chunk i and the missing ones behind it, below end, as far as a run may go */
static int run_new(struct cached *c, uint64_t i, uint64_t end, struct run **ret_run, struct error *err)
{
        struct chunk chunk = {0};
        int r = get_chunk(c, i, &chunk, err);
        if (r < 0)
                return r;
        struct run *run = calloc(1, sizeof *run);
        if (!run)
                return error_nomem(err);
        *run = (struct run){.refs = 1, .first = i, .count = 1, .off = chunk.off, .len = chunk.len};
        run->stream = atomic_load(&c->slow->sequential);
        if (run->stream) {
                run->first = 0;
                run->count = c->table.count;
        }
        for (i++; !run->stream && i < end && !find_run(c, i) && !present(c, i); i++) {
                if (get_chunk(c, i, &chunk, NULL) < 0 || chunk.off + chunk.len - run->off > CACHED_RUN_MAX)
                        break;
                run->len = chunk.off + chunk.len - run->off;
                run->count++;
        }
        if (!run->stream) {
                run->data = malloc(run->len ? (size_t)run->len : 1);
                run->good = calloc((size_t)run->count, sizeof *run->good);
                if (!run->data || !run->good) {
                        run_unref(run);
                        return error_nomem(err);
                }
        }
        run->next = c->runs;
        c->runs = run;
        *ret_run = run;
        return 0;
}

/* under lock */
static void run_end(struct cached *c, struct run *run, int code)
{
        struct run **at = &c->runs;
        while (*at != run)
                at = &(*at)->next;
        *at = run->next;
        run->code = code;
        run->over = true;
        pthread_cond_broadcast(&c->progress);
}

/* a chunk that came wrong. It is read beside the run: what it shares with a neighbour that was right must stay so */
static int once_more(struct cached *c, struct run *run, const struct chunk *chunk, struct error *err)
{
        cleanup(freep) uint8_t *data = malloc(chunk->len ? (size_t)chunk->len : 1);
        if (!data)
                return error_nomem(err);
        log_debug(LOG_CACHE, "%llu bytes at %llu came wrong: once more", (unsigned long long)chunk->len,
                (unsigned long long)chunk->off);
        int r = blob_read_all(c->slow, data, (size_t)chunk->len, chunk->off, err);
        if (r < 0)
                return r;
        if (!verify(chunk, data))
                return name_chunk(c, chunk, -EBADMSG, err, "the source gives wrong bytes");
        memcpy(run->data + (chunk->off - run->off), data, (size_t)chunk->len);
        return 0;
}

/* hashes what came; wrong chunks are asked for once more, each by itself */
static int run_verify(struct cached *c, struct run *run)
{
        int code = 0;
        for (uint64_t k = 0; k < run->count; k++) {
                struct chunk chunk = {0};
                struct error err = {0};
                uint64_t i = run->first + k;
                int r = get_chunk(c, i, &chunk, &err);
                if (r == 0 && !verify(&chunk, run->data + (chunk.off - run->off)))
                        r = once_more(c, run, &chunk, &err);
                if (r == 0)
                        keep(c, i, &chunk, run->data + (chunk.off - run->off));
                run->good[k] = r == 0;
                if (r < 0 && code == 0) {
                        code = r;
                        run->err = err;
                }
        }
        return code;
}

static int run_fetch(struct cached *c, struct run *run)
{
        int r = blob_read_all(c->slow, run->data, (size_t)run->len, run->off, &run->err);
        return r < 0 ? r : run_verify(c, run);
}

/* ---- streams ---- */

/* what the caller of cached_read() wants; data NULL: nothing but that it is kept */
struct wanted {
        uint64_t first, count;
        uint64_t off; /* of the first chunk's first byte */
        uint8_t *data;
        bool *done; /* per chunk: its bytes are in data */
};

struct pass {
        struct cached *c;
        struct run *run;
        uint64_t pos; /* of the stream */
        uint64_t i;   /* the chunk that is being collected */
        struct chunk chunk;
        uint8_t *data; /* its first `have` bytes */
        size_t room;
        uint64_t have;
        uint8_t last; /* byte of the chunk before */
        struct error err;
};

static int pass_chunk_begin(struct pass *p)
{
        int r = get_chunk(p->c, p->i, &p->chunk, &p->err);
        if (r < 0)
                return r;
        if (p->chunk.len > p->room) {
                uint8_t *data = realloc(p->data, (size_t)p->chunk.len);
                if (!data)
                        return error_nomem(&p->err);
                p->data = data;
                p->room = (size_t)p->chunk.len;
        }
        return 0;
}

/* under lock: does the starter of the stream still wait for chunk i? */
static struct wanted *lacking(const struct run *run, uint64_t i)
{
        struct wanted *w = run->want;
        return w && i >= w->first && i - w->first < w->count && !w->done[i - w->first] ? w : NULL;
}

static void pass_chunk_end(struct pass *p)
{
        struct cached *c = p->c;
        pthread_mutex_lock(&c->lock);
        bool needed = lacking(p->run, p->i);
        pthread_mutex_unlock(&c->lock);
        if (!needed && present(c, p->i))
                return;
        if (!verify(&p->chunk, p->data)) {
                if (!p->err.code)
                        name_chunk(c, &p->chunk, -EBADMSG, &p->err, "the source gives wrong bytes");
                return;
        }
        keep(c, p->i, &p->chunk, p->data);
        pthread_mutex_lock(&c->lock);
        struct wanted *w = lacking(p->run, p->i);
        if (w) {
                if (w->data)
                        memcpy(w->data + (p->chunk.off - w->off), p->data, (size_t)p->chunk.len);
                w->done[p->i - w->first] = true;
        }
        pthread_cond_broadcast(&c->progress);
        pthread_mutex_unlock(&c->lock);
}

/* chunk i is whole: on to the next, which may begin with the same byte. 0, or -errno */
static int pass_next(struct pass *p)
{
        uint64_t end = p->chunk.off + p->chunk.len;
        pass_chunk_end(p);
        if (p->have)
                p->last = p->data[p->have - 1];
        p->have = 0;
        if (++p->i == p->c->table.count)
                return 0;
        int r = pass_chunk_begin(p);
        if (r < 0)
                return r;
        if (p->pos && p->chunk.off + 1 == end && p->chunk.len) {
                p->data[0] = p->last;
                p->have = 1;
        }
        return 0;
}

static int pass_sink(void *ctx, const void *data, size_t len)
{
        struct pass *p = ctx;
        const uint8_t *at = data;
        if (atomic_load(&p->c->closing))
                return error_set(&p->err, -ECANCELED, "the blob was closed");
        while (p->i < p->c->table.count) {
                uint64_t need = p->chunk.off + p->have;
                if (need < p->pos)
                        return name_chunk(
                                p->c, &p->chunk, -EBADMSG, &p->err, "the index names a range that is not in order");
                if (p->have < p->chunk.len) {
                        uint64_t skip = MIN(need - p->pos, (uint64_t)len);
                        uint64_t part = MIN(p->chunk.len - p->have, len - skip);
                        if (part)
                                memcpy(p->data + p->have, at + skip, (size_t)part);
                        p->have += part;
                        p->pos += skip + part;
                        at += skip + part;
                        len -= (size_t)(skip + part);
                }
                if (p->have < p->chunk.len)
                        return 0;
                int r = pass_next(p);
                if (r < 0)
                        return r;
        }
        p->pos += len; /* bytes behind the last chunk belong to nobody */
        return 0;
}

static int stream_once(struct cached *c, struct run *run)
{
        struct pass p = {.c = c, .run = run};
        run->err = (struct error){0};
        int r = c->table.count ? pass_chunk_begin(&p) : 0;
        if (r == 0)
                r = blob_stream(c->slow, 0, pass_sink, &p, &run->err);
        if (r == 0)
                r = pass_sink(&p, "", 0); /* empty chunks at the very end */
        if (r == 0 && p.i < c->table.count)
                r = name_chunk(c, &p.chunk, -EBADMSG, &p.err, "the stream ended before");
        free(p.data);
        if (!run->err.code)
                run->err = p.err;
        return r < 0 ? r : p.err.code;
}

/* the thread of a stream */
static void *stream_work(void *arg)
{
        struct run *run = arg;
        struct cached *c = run->cached;
        if (run->joins)
                pthread_join(run->before, NULL); /* it is over already: there is one stream at a time */
        need_spill(c);
        int r = stream_once(c, run);
        if (r == -EBADMSG)
                r = stream_once(c, run);
        pthread_mutex_lock(&c->lock);
        run_end(c, run, r);
        run_unref(run);
        pthread_mutex_unlock(&c->lock);
        return NULL;
}

/* under lock, which is left for a while; waits until all that is wanted came, or the stream is over */
static bool run_stream(struct cached *c, struct run *run, struct wanted *want)
{
        sigset_t all, before; /* signals are for the threads that handle them */
        pthread_t thread;
        run->refs++;
        run->want = want;
        run->cached = c;
        run->joins = c->has_streamer;
        run->before = c->streamer;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        c->has_streamer = pthread_create(&thread, NULL, stream_work, run) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (c->has_streamer) {
                c->streamer = thread;
        } else {
                pthread_mutex_unlock(&c->lock);
                stream_work(run);
                pthread_mutex_lock(&c->lock);
        }
        for (uint64_t k = 0; k < want->count && !run->over;) {
                if (want->done[k])
                        k++;
                else
                        pthread_cond_wait(&c->progress, &c->lock);
        }
        run->want = NULL;
        return run->over;
}

/* ---- reading ---- */

/* is the failure that of one thread's circumstances, and no reason for another not to try? */
static bool private_failure(int code)
{
        return code == -ECANCELED || code == -EINTR || code == -ENOMEM;
}

static int pass_on(const struct run *run, struct error *err)
{
        int code = run->code ? run->code : -EIO;
        return error_set(err, code, "%s", run->err.code ? run->err.msg : strerror(-code));
}

/* copies what is good of chunk i in a run that is over; done[] tells */
static void copy_out(struct cached *c, const struct run *run, struct wanted *w, uint64_t i)
{
        struct chunk chunk = {0};
        if (run->stream || i < run->first || i - run->first >= run->count || !run->good[i - run->first])
                return;
        if (w->data && get_chunk(c, i, &chunk, NULL) == 0)
                memcpy(w->data + (chunk.off - w->off), run->data + (chunk.off - run->off), (size_t)chunk.len);
        w->done[i - w->first] = true;
}

/* after a run that this thread fetched or waited for; 0: chunk i is had, or is worth another look */
static int settle(struct cached *c, const struct run *run, struct wanted *w, uint64_t i, bool mine, struct error *err)
{
        uint64_t end = MIN(run->first + run->count, w->first + w->count);
        bool all = true;
        for (uint64_t k = i; k < end; k++) {
                copy_out(c, run, w, k);
                all = all && w->done[k - w->first];
        }
        if (all || (run->stream && w->done[i - w->first]))
                return 0;
        if (run->stream && present(c, i))
                return 0;
        if (!mine && (run->code == 0 || private_failure(run->code)))
                return 0; /* 0: streamed, but kept nowhere */
        if (!run->stream && atomic_load(&c->slow->sequential))
                return 0; /* ranges turned out not to be had */
        return pass_on(run, err);
}

/* under lock: waits for a run that has chunk i, a stream only until it has passed that. Is the run over? */
static bool wait_run(struct cached *c, struct run *run, uint64_t i, bool seen_bad)
{
        run->refs++;
        while (!run->over && (!run->stream || seen_bad || !present(c, i)))
                pthread_cond_wait(&c->progress, &c->lock);
        return run->over;
}

/* gets a missing chunk, and the missing ones behind it on the way */
static int get_missing(struct cached *c, struct wanted *w, uint64_t i, bool seen_bad, struct error *err)
{
        pthread_mutex_lock(&c->lock);
        struct run *run = find_run(c, i);
        bool mine = false, over = true;
        int r = 0;
        if (run) {
                over = wait_run(c, run, i, seen_bad);
        } else if (seen_bad || !present(c, i)) { /* else somebody was faster */
                r = run_new(c, i, w->first + w->count, &run, err);
                mine = r == 0;
        }
        if (mine && run->stream) {
                over = run_stream(c, run, w);
        } else if (mine) {
                pthread_mutex_unlock(&c->lock);
                r = run_fetch(c, run);
                pthread_mutex_lock(&c->lock);
                run_end(c, run, r);
                r = 0;
        }
        if (run) {
                pthread_mutex_unlock(&c->lock);
                if (over)
                        r = settle(c, run, w, i, mine, err);
                pthread_mutex_lock(&c->lock);
                run_unref(run);
        }
        pthread_mutex_unlock(&c->lock);
        return r;
}

static int get_one(struct cached *c, struct wanted *w, uint64_t i, uint8_t *scratch, struct error *err)
{
        struct chunk chunk = {0};
        bool *done = &w->done[i - w->first];
        int r = get_chunk(c, i, &chunk, err);
        for (int tries = 0; r == 0 && !*done; tries++) {
                bool hinted = present(c, i);
                *done = load(c, i, &chunk, w->data ? w->data + (chunk.off - w->off) : scratch);
                if (*done)
                        break;
                if (!c->slow)
                        return name_chunk(c, &chunk, -ENOENT, err, "not in the cache, and there is no source to ask");
                if (tries == 8)
                        return name_chunk(c, &chunk, -EIO, err, "fetched again and again, and lost each time");
                r = get_missing(c, w, i, hinted, err);
        }
        return r;
}

int cached_read(struct cached *c, uint64_t first, uint64_t count, void *data, struct error *err)
{
        struct wanted w = {.first = first, .count = count, .data = data};
        uint64_t len;
        int r = get_range(c, first, count, &w.off, &len, err);
        if (r < 0)
                return r;
        cleanup(freep) bool *done = calloc(count ? (size_t)count : 1, sizeof *done);
        if (!done)
                return error_nomem(err);
        w.done = done;
        for (uint64_t i = first; r == 0 && i < first + count; i++)
                r = get_one(c, &w, i, NULL, err);
        return r;
}

/* ---- all of it ---- */

struct fill {
        struct cached *c;
        _Atomic uint64_t *done; /* bytes, for who watches */
        pthread_mutex_t lock;
        uint64_t next;    /* under lock: the first chunk that nobody took yet */
        int code;         /* under lock: the first failure */
        struct error err; /* under lock */
};

/* under fill->lock: a piece of about one run */
static uint64_t fill_take(struct fill *f, uint64_t *ret_first, uint64_t *ret_max, struct error *err)
{
        uint64_t first = f->next, bytes = 0, max = 0;
        while (f->next < f->c->table.count) {
                struct chunk chunk = {0};
                if (get_chunk(f->c, f->next, &chunk, err) < 0)
                        return 0;
                if (f->next > first && bytes + chunk.len > CACHED_RUN_MAX)
                        break;
                bytes += chunk.len;
                max = MAX(max, chunk.len);
                f->next++;
        }
        *ret_first = first;
        *ret_max = max;
        return f->next - first;
}

static int not_kept(struct cached *c, struct error *err)
{
        char text[DIGEST_MAX_TEXT];
        return error_set(err, -ENOSPC, "%s: the cache does not keep all of it; see --cache-size and --cache-dir",
                digest_format(&c->digest, text));
}

/* What is there is hashed as well: afterwards the source may be gone for ever. What came and was not kept ends it, rather
 * than all being fetched in vain. */
static int fill_piece(struct fill *f, uint64_t first, uint64_t count, uint64_t max, struct error *err)
{
        struct cached *c = f->c;
        struct wanted w = {.first = first, .count = count};
        uint64_t len;
        int r = get_range(c, first, count, &w.off, &len, err);
        if (r < 0)
                return r;
        cleanup(freep) uint8_t *scratch = malloc(max ? (size_t)max : 1);
        cleanup(freep) bool *done = calloc((size_t)count, sizeof *done);
        if (!scratch || !done)
                return error_nomem(err);
        w.done = done;
        for (uint64_t i = first; r == 0 && i < first + count; i++) {
                r = get_one(c, &w, i, scratch, err);
                if (r == 0 && (!c->kept || !store_blob_has(c->kept, i)))
                        r = not_kept(c, err);
                struct chunk chunk;
                if (r == 0 && f->done && get_chunk(c, i, &chunk, NULL) == 0)
                        atomic_fetch_add(f->done, chunk.len);
        }
        return r;
}

static void *fill_work(void *arg)
{
        struct fill *f = arg;
        struct error err = {0};
        int r = 0;
        pthread_mutex_lock(&f->lock);
        while (!f->code && f->next < f->c->table.count && r == 0) {
                uint64_t first, max, count = fill_take(f, &first, &max, &err);
                pthread_mutex_unlock(&f->lock);
                r = count ? fill_piece(f, first, count, max, &err) : err.code;
                pthread_mutex_lock(&f->lock);
        }
        if (r < 0 && !f->code) {
                f->code = r;
                f->err = err;
        }
        pthread_mutex_unlock(&f->lock);
        return NULL;
}

int cached_fill(struct cached *c, _Atomic uint64_t *done, struct error *err)
{
        struct fill f = {.c = c, .done = done};
        if (c->slow && c->slow->local)
                return 0;
        if (!c->kept)
                return not_kept(c, err);
        pthread_t helper[FILL_THREADS - 1];
        size_t helpers = 0;
        pthread_mutex_init(&f.lock, NULL);
        sigset_t all, before; /* signals are for the thread that asked */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        while (helpers < ARRAY_LEN(helper) && pthread_create(&helper[helpers], NULL, fill_work, &f) == 0)
                helpers++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        fill_work(&f);
        while (helpers)
                pthread_join(helper[--helpers], NULL);
        pthread_mutex_destroy(&f.lock);
        if (f.code < 0) {
                if (err)
                        *err = f.err;
                return f.code;
        }
        return cached_complete(c) ? 0 : not_kept(c, err);
}

bool cached_complete(struct cached *c)
{
        return c->kept && store_blob_present(c->kept) == c->table.count;
}
