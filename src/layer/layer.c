/*
 * How: a read is cut at span borders. A span that is not in the cache is claimed together with those behind it that the read
 * wants too, so that their compressed bytes come as one range; each is inflated as soon as the bytes are there.
 *
 * Two spans used in sequence, by two reads, mean that somebody reads along: the spans ahead are then loaded by the pool, half a horizon at
 * a time, so that one job is under way while the reader works through what the last one brought. There is no state about
 * readers: "the span before this one is in the cache" is the whole test, and it holds for any number of them. Who is
 * read ahead for stays within the file, unless the span before the file is in the cache, too: then somebody goes through
 * the layer file by file, as tar does.
 */
#include "layer/layer.h"

#include <assert.h>
#include <errno.h>

#include "blob/cached.h"
#include "layer/span_cache.h"
#include "layer/unpack.h"

enum {
        RUN_SPANS = 16,      /* spans that are fetched as one range */
        RUN_BYTES = 4 << 20, /* uncompressed bytes of such a run */
        AHEAD_SPANS = 8,     /* horizon of read-ahead */
        AHEAD_BYTES = 4 << 20,
};

struct layer {
        atomic_uint refs;
        struct index *index;
        struct span_cache *cache;
        struct cached *cached;
};

int layer_open(struct index *index_taken, struct blob *slow, struct store *store, struct span_cache *cache,
        struct layer **ret_layer, struct error *err)
{
        cleanup(index_freep) struct index *index = index_taken;
        cleanup(blob_unrefp) struct blob *unpacked = NULL;
        const struct index_info *info = index_info(index);
        if (info->unpacked) {
                int r = unpack_open(info, slow, store, &unpacked, err);
                if (r < 0)
                        return r;
                slow = unpacked;
        }
        struct chunk_table chunks;
        index_chunks(index, &chunks);
        struct layer *l = calloc(1, sizeof *l);
        if (!l)
                return error_nomem(err);
        int r = cached_open(slow, store, info->unpacked ? &info->diff_id : &info->digest,
                info->unpacked ? info->tar_size : info->blob_size, &chunks, &l->cached, err);
        if (r < 0) {
                free(l);
                return r;
        }
        atomic_init(&l->refs, 1);
        l->index = take(index);
        l->cache = cache;
        *ret_layer = l;
        return 0;
}

struct layer *layer_ref(struct layer *l)
{
        atomic_fetch_add(&l->refs, 1);
        return l;
}

void layer_unref(struct layer *l)
{
        if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
                return;
        if (l->cache)
                span_cache_forget(l->cache, l);
        cached_close(l->cached);
        index_free(l->index);
        free(l);
}

const struct index *layer_index(const struct layer *l)
{
        return l->index;
}

/* ---- loading ---- */

/* spans that were claimed together: entry[i] is span first + i */
struct run {
        uint32_t first, count;
        struct span_entry *entry[RUN_SPANS];
};

/* can the failure be that of one span alone, so that its neighbours deserve a try of their own? */
static bool may_be_of_one(int code)
{
        return code == -EBADMSG || code == -ENOENT || code == -EIO;
}

/* what inflating takes; from the spare buffers */
struct workplace {
        struct index_windows windows;
        _Alignas(max_align_t) uint8_t scratch[];
};

static size_t workplace_len(void)
{
        return sizeof(struct workplace) + decode_scratch_len();
}

/* span i from its compressed bytes into its entry */
static int fill_entry(struct layer *l, uint32_t i, const struct index_span *s, const uint8_t *chunk,
        struct workplace *work, struct span_entry *e, struct error *err)
{
        struct decode_point point;
        uint8_t *out = span_bytes(l->cache, e);
        if (!out || !work)
                return error_nomem(err);
        int r = index_point(l->index, i, &work->windows, &point, err);
        return r < 0 ? r : decode_span(&point, chunk, (size_t)s->chunk.len, out, (size_t)s->ulen, work->scratch, err);
}

/* loads every span of the run: ready ones are left pinned for the caller, the others have failed. Gives the first failure */
static int load_run(struct layer *l, struct run *run, struct error *err)
{
        struct error together = {0};
        struct index_span first, last;
        index_span(l->index, run->first, &first);
        index_span(l->index, run->first + run->count - 1, &last);
        size_t len = (size_t)(last.chunk.off + last.chunk.len - first.chunk.off);
        uint8_t *bytes = spare_take(span_cache_spare(l->cache), len);
        int r = bytes ? cached_read(l->cached, run->first, run->count, bytes, &together) : error_nomem(&together);
        bool alone = run->count > 1 && may_be_of_one(r);
        struct workplace *work = (struct workplace *)spare_take(span_cache_spare(l->cache), workplace_len());
        if (work)
                work->windows.of = NULL;
        int ret = 0;
        for (uint32_t i = 0; i < run->count; i++) {
                struct error local = together;
                struct index_span s;
                index_span(l->index, run->first + i, &s);
                uint8_t *chunk = bytes ? bytes + (s.chunk.off - first.chunk.off) : NULL;
                int one = alone ? cached_read(l->cached, run->first + i, 1, chunk, &local) : r;
                if (one == 0)
                        one = fill_entry(l, run->first + i, &s, chunk, work, run->entry[i], &local);
                if (one == 0) {
                        span_cache_ready(l->cache, run->entry[i]);
                        continue;
                }
                span_cache_failed(l->cache, run->entry[i], one, &local);
                run->entry[i] = NULL;
                if (ret == 0 && err)
                        *err = local;
                ret = ret ? ret : one;
        }
        spare_give(span_cache_spare(l->cache), (uint8_t *)work, workplace_len());
        spare_give(span_cache_spare(l->cache), bytes, len);
        return ret;
}

static void unpin_run(struct layer *l, struct run *run, uint32_t from)
{
        for (uint32_t i = from; i < run->count; i++)
                if (run->entry[i])
                        span_cache_unpin(l->cache, run->entry[i]);
}

/* claims more spans behind those that the run has, while they are missing, begin before uoff_end, and fit into the bounds */
static void extend_run(struct layer *l, struct run *run, uint64_t uoff_end, uint64_t bytes_max)
{
        struct index_span s;
        index_span(l->index, run->first, &s);
        uint64_t start = s.uoff, coff = s.chunk.off;
        while (run->count < RUN_SPANS && run->first + run->count < index_info(l->index)->spans) {
                index_span(l->index, run->first + run->count, &s);
                if (s.uoff >= uoff_end || s.uoff + s.ulen - start > bytes_max ||
                        s.chunk.off + s.chunk.len - coff > CACHED_RUN_MAX)
                        break;
                if (!span_cache_claim(l->cache, l, run->first + run->count, (size_t)s.ulen, &run->entry[run->count]))
                        break;
                run->count++;
        }
}

/* ---- read-ahead ---- */

struct ahead {
        struct layer *layer;
        struct run run;
};

static void give_up(struct ahead *a)
{
        struct error busy = {.code = -EAGAIN, .msg = "read-ahead was given up"};
        for (uint32_t k = 0; k < a->run.count; k++)
                span_cache_failed(a->layer->cache, a->run.entry[k], -EAGAIN, &busy);
        layer_unref(a->layer);
        free(a);
}

static void run_ahead(void *arg)
{
        struct ahead *a = arg;
        if (span_cache_stopped(a->layer->cache)) {
                give_up(a);
                return;
        }
        load_run(a->layer, &a->run, NULL); /* a failure is met again, and told, by whoever needs the span */
        unpin_run(a->layer, &a->run, 0);
        layer_unref(a->layer);
        free(a);
}

/* bytes of the tar stream that belong together: a file, or an extent of a sparse one */
struct stretch {
        uint64_t uoff, end;
};

/* the first span that a reader of the file has no use for */
static uint32_t ahead_limit(struct layer *l, const struct stretch *file)
{
        uint32_t first = index_find_span(l->index, file->uoff), spans = index_info(l->index)->spans;
        if (file->end == file->uoff || (first && span_cache_has(l->cache, l, first - 1)))
                return spans;
        return index_find_span(l->index, file->end - 1) + 1;
}

/* span i is about to be used: if the one before was, too, see that those ahead are coming */
static void read_ahead(struct layer *l, uint32_t i, const struct stretch *file)
{
        if (!i || !span_cache_has(l->cache, l, i - 1))
                return;
        uint32_t spans = ahead_limit(l, file);
        uint32_t next = i + 1;
        while (next < spans && next <= i + AHEAD_SPANS / 2 && span_cache_has(l->cache, l, next))
                next++;
        if (next >= spans || next > i + AHEAD_SPANS / 2)
                return;
        struct index_span s;
        index_span(l->index, next, &s);
        struct ahead *a = calloc(1, sizeof *a);
        if (!a || !span_cache_claim(l->cache, l, next, (size_t)s.ulen, &a->run.entry[0])) {
                free(a);
                return;
        }
        a->run.first = next;
        a->run.count = 1;
        a->layer = layer_ref(l);
        struct index_span end;
        index_span(l->index, MIN(i + AHEAD_SPANS, spans - 1), &end);
        extend_run(l, &a->run, end.uoff + 1, AHEAD_BYTES);
        if (!span_cache_readahead(l->cache, run_ahead, a))
                give_up(a);
}

/* ---- reading ---- */

/* pins the span, loading it and what the read up to uoff_end wants behind it */
static int get_span(struct layer *l, uint32_t i, uint64_t uoff_end, struct span_entry **ret_entry, struct error *err)
{
        struct index_span s;
        index_span(l->index, i, &s);
        for (;;) {
                struct run run = {.first = i, .count = 1};
                int code = 0;
                switch (span_cache_get(l->cache, l, i, (size_t)s.ulen, &run.entry[0], &code, err)) {
                case SPAN_READY: *ret_entry = run.entry[0]; return 0;
                case SPAN_FAILED:
                        if (code == -EAGAIN)
                                continue; /* read-ahead had claimed it, and found no thread */
                        return code;
                case SPAN_CLAIMED: break;
                }
                extend_run(l, &run, uoff_end, RUN_BYTES);
                int r = load_run(l, &run, err);
                unpin_run(l, &run, 1);
                if (run.entry[0]) {
                        *ret_entry = run.entry[0];
                        return 0;
                }
                return r;
        }
}

static int read_stretch(
        struct layer *l, void *data, size_t len, uint64_t uoff, const struct stretch *file, struct error *err)
{
        const struct index_info *info = index_info(l->index);
        if (!range_ok(uoff, len, info->tar_size))
                return error_set(err, -EBADMSG, "layer: bytes past its end are asked for");
        uint8_t *out = data;
        uint64_t end = uoff + len;
        while (uoff < end) {
                uint32_t i = index_find_span(l->index, uoff);
                struct index_span s;
                index_span(l->index, i, &s);
                struct span_entry *e = NULL;
                int r = get_span(l, i, end, &e, err);
                if (r < 0) {
                        char text[DIGEST_MAX_TEXT];
                        return error_wrap(err, r, "layer %s", digest_format(&info->digest, text));
                }
                size_t n = (size_t)(MIN(end, s.uoff + s.ulen) - uoff);
                memcpy(out, span_bytes(l->cache, e) + (uoff - s.uoff), n);
                span_cache_unpin(l->cache, e);
                if (out == data) /* a single read over a border is no sequence */
                        read_ahead(l, i, file);
                out += n;
                uoff += n;
        }
        return 0;
}

int layer_read(struct layer *l, void *data, size_t len, uint64_t uoff, struct error *err)
{
        return read_stretch(l, data, len, uoff, &(struct stretch){0, index_info(l->index)->tar_size}, err);
}

/* the first extent that ends after off */
static uint32_t find_extent(const struct layer *l, const struct index_entry *e, uint64_t off)
{
        uint32_t low = 0, high = e->extent_count;
        while (low < high) {
                uint32_t mid = low + (high - low) / 2;
                struct tar_extent x;
                index_extent(l->index, e->extents, mid, &x);
                if (x.file_off + x.len > off)
                        high = mid;
                else
                        low = mid + 1;
        }
        return low;
}

static int read_sparse(
        struct layer *l, const struct index_entry *e, uint8_t *out, size_t len, uint64_t off, struct error *err)
{
        memset(out, 0, len);
        for (uint32_t i = find_extent(l, e, off); i < e->extent_count; i++) {
                struct tar_extent x;
                index_extent(l->index, e->extents, i, &x);
                if (x.file_off >= off + len)
                        break;
                uint64_t from = MAX(x.file_off, off), to = MIN(x.file_off + x.len, off + len);
                struct stretch extent = {x.uoff, x.uoff + x.len};
                int r = read_stretch(
                        l, out + (from - off), (size_t)(to - from), x.uoff + (from - x.file_off), &extent, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

ssize_t layer_read_file(
        struct layer *l, const struct index_entry *e, void *data, size_t len, uint64_t off, struct error *err)
{
        if (off >= e->size)
                return 0;
        len = (size_t)MIN((uint64_t)len, e->size - off);
        struct stretch file = {e->uoff, e->uoff + e->size};
        int r = e->sparse ? read_sparse(l, e, data, len, off, err)
                          : read_stretch(l, data, len, e->uoff + off, &file, err);
        return r < 0 ? r : (ssize_t)len;
}

int layer_fill(struct layer *l, _Atomic uint64_t *done, struct error *err)
{
        return cached_fill(l->cached, done, err);
}

uint64_t layer_fill_bytes(const struct layer *l)
{
        const struct index_info *info = index_info(l->index);
        return info->unpacked ? info->tar_size : info->blob_size;
}

bool layer_complete(struct layer *l)
{
        return cached_complete(l->cached);
}
