/*
 * How: three threads and rings of buffers between them. The second has the most to do, so the third takes from it what can be taken.
 *
 *   caller:   blob_stream -> progress, partial file, SHA-256 of the blob -> ring
 *   second:   ring -> decoder -> { tar entries -> index_builder; the tar stream -> ring
 *                                { points -> index_builder, with the SHA-256 of each chunk of compressed bytes
 *   third:    ring -> SHA-256 of the tar stream
 *
 * A point is told when the decoder is already past it, so the second thread keeps the compressed bytes since the last
 * point; a chunk is hashed as one piece when its end is known.
 *
 * When the second thread fails (not gzip, not a tar), the first goes on to the end of the blob, to be able to say whether the
 * bytes were wrong (their digest) or the image is.
 *
 * A stream may turn out to have no way in (one large zstd frame; one endless block, when zlib inflates). Then the layer is
 * read through an unpacked copy, and the spans are pieces of the tar stream. Where that can happen, the pieces are hashed from
 * the beginning, and take the place of the decoder's points in the end.
 */
#include "layer/scan.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "base/buf.h"
#include "base/log.h"
#include "layer/decode.h"
#include "layer/ring.h"

enum {
        PIECES_MAX = INDEX_SPANS_MAX,
        LOCK_POLL_MS = 200,
};

/* ---- the scan ---- */

/* a stretch of the tar stream */
struct piece {
        uint64_t uoff;
        uint32_t len;
        uint8_t sha256[SHA256_BYTES];
};

struct scan {
        const struct scan_request *rq;
        struct ring blob_ring, tar_ring;
        uint64_t taken;                /* compressed bytes that the caller's thread took in */
        struct digest_ctx *blob_hash;  /* caller's thread */
        struct store_partial *partial; /* caller's thread; may be NULL */
        struct digest_ctx *diff_hash;  /* the third thread's, until it is joined */
        bool partial_bad;              /* caller's thread: what an earlier try left cannot be read back */
        struct error take_error;       /* caller's thread: why the bytes were not taken in */

        /* the second thread's, until it is joined */
        enum compression compression;
        struct decoder *decoder;
        struct tar_reader *tar;
        struct index_builder *builder;
        uint64_t uoff;      /* bytes of the tar stream so far */
        struct buf pending; /* compressed bytes from pending_off on */
        uint64_t pending_off;
        bool point_seen;
        uint64_t chunk_off; /* where the last point's chunk begins */
        struct buf pieces;  /* struct piece each, if the compression may turn out to have no way in */
        struct buf piece;   /* bytes of the tar stream since the last piece */
        int code;
        struct error error;
        struct error entry_error; /* why an entry was not taken: in better words than the tar reader's */
};

static int take_entry(void *ctx, const struct tar_entry *e)
{
        struct scan *s = ctx;
        return index_builder_entry(s->builder, e, &s->entry_error);
}

/* what was collected becomes a piece */
static int end_piece(struct scan *s)
{
        struct piece p = {.uoff = s->uoff - s->piece.len, .len = (uint32_t)s->piece.len};
        if (sha256_memory(buf_str(&s->piece), s->piece.len, p.sha256) < 0)
                return error_nomem(&s->error);
        buf_clear(&s->piece);
        buf_add(&s->pieces, &p, sizeof p);
        return buf_error(&s->pieces) ? error_set(&s->error, buf_error(&s->pieces), "too many pieces") : 0;
}

/* hashes the tar stream in pieces of DECODE_SPAN */
static int take_piece(struct scan *s, const uint8_t *data, size_t len)
{
        int r = 0;
        while (len && r == 0) {
                size_t n = MIN(len, DECODE_SPAN - s->piece.len);
                buf_add(&s->piece, data, n);
                if (buf_error(&s->piece))
                        return error_nomem(&s->error);
                data += n;
                len -= n;
                s->uoff += n;
                if (s->piece.len == DECODE_SPAN)
                        r = end_piece(s);
        }
        return r;
}

static int take_data(void *ctx, const uint8_t *data, size_t len)
{
        struct scan *s = ctx;
        if (s->uoff + len > SCAN_FREE && (s->uoff + len) / SCAN_RATIO_MAX > blob_size(s->rq->blob))
                return error_set(&s->error, -EFBIG, "expands to more than %d times its size", SCAN_RATIO_MAX);
        ring_put(&s->tar_ring, data, len);
        int r = tar_push(s->tar, data, len, &s->error);
        if (r < 0 && s->entry_error.code)
                s->error = s->entry_error;
        if (r < 0)
                return r;
        if (decode_may_lack_points(s->compression))
                return take_piece(s, data, len);
        s->uoff += len;
        return 0;
}

/* the last point's chunk reaches to `end`, all of which is in pending; drops the bytes that the next one does not need */
static int close_chunk(struct scan *s, uint64_t end, uint64_t next_off)
{
        assert(s->chunk_off >= s->pending_off && end >= s->chunk_off && next_off <= s->pending_off + s->pending.len);
        size_t len = (size_t)(end - s->chunk_off);
        const uint8_t *bytes = (const uint8_t *)buf_str(&s->pending) + (s->chunk_off - s->pending_off);
        uint8_t hash[SHA256_BYTES];
        int r = sha256_memory(bytes, len, hash) < 0
                        ? error_nomem(&s->error)
                        : index_builder_chunk(s->builder, s->chunk_off, len, hash, &s->error);
        size_t drop = (size_t)(next_off - s->pending_off);
        if (drop)
                memmove(s->pending.data, s->pending.data + drop, s->pending.len - drop);
        s->pending.len -= drop;
        s->pending_off = next_off;
        return r;
}

static int take_point(void *ctx, uint64_t uoff, const struct decode_point *point)
{
        struct scan *s = ctx;
        if (!decoder_seekable(s->decoder))
                return 0; /* of no use any more; the bytes before it may be gone already */
        int r = s->point_seen ? close_chunk(s, point->coff + (point->bits != 0), point->coff) : 0;
        if (r < 0)
                return r;
        s->point_seen = true;
        s->chunk_off = point->coff;
        return index_builder_span(s->builder, uoff, point, &s->error);
}

static int start_decoding(struct scan *s)
{
        int r = decode_sniff((const uint8_t *)buf_str(&s->pending), s->pending.len, &s->compression, &s->error);
        if (r < 0)
                return r;
        struct decode_sink sink = {.ctx = s, .data = take_data, .point = take_point};
        s->decoder = decoder_new(s->compression, &sink);
        if (!s->decoder)
                return error_nomem(&s->error);
        /* nothing moves in pending before a second point is told, so its start can be pushed in place */
        return 0;
}

static int decode_bytes(struct scan *s, const uint8_t *data, size_t len)
{
        if (s->decoder && !decoder_seekable(s->decoder)) {
                buf_done(&s->pending); /* no chunk will be made of these */
                return decoder_push(s->decoder, data, len, &s->error);
        }
        buf_add(&s->pending, data, len);
        if (buf_error(&s->pending))
                return error_set(&s->error, buf_error(&s->pending),
                        "the stream gives no point to begin reading at within %d bytes, which is more than this "
                        "program takes",
                        CHUNK_MAX_LEN);
        if (s->decoder)
                return decoder_push(s->decoder, data, len, &s->error);
        if (s->pending.len < DECODE_SNIFF)
                return 0;
        int r = start_decoding(s);
        if (r < 0)
                return r;
        /* the decoder's sink moves bytes in pending: it gets a copy of the few that were kept for sniffing */
        size_t kept = s->pending.len;
        cleanup(freep) uint8_t *copy = malloc(kept);
        if (!copy)
                return error_nomem(&s->error);
        memcpy(copy, s->pending.data, kept);
        return decoder_push(s->decoder, copy, kept, &s->error);
}

/* the pieces become the spans, in place of the points */
static int use_pieces(struct scan *s)
{
        int r = s->piece.len ? end_piece(s) : 0;
        index_builder_drop_spans(s->builder);
        const struct piece *p = (const struct piece *)s->pieces.data;
        for (size_t i = 0; r == 0 && i < s->pieces.len / sizeof *p; i++) {
                struct decode_point point = {.kind = DECODE_COPY, .coff = p[i].uoff};
                r = index_builder_span(s->builder, p[i].uoff, &point, &s->error);
                if (r == 0)
                        r = index_builder_chunk(s->builder, p[i].uoff, p[i].len, p[i].sha256, &s->error);
        }
        return r;
}

static int end_decoding(struct scan *s)
{
        int r = 0;
        if (!s->decoder) {
                size_t kept = s->pending.len;
                uint8_t copy[DECODE_SNIFF];
                assert(kept < sizeof copy);
                r = start_decoding(s);
                if (r == 0 && kept) {
                        memcpy(copy, s->pending.data, kept);
                        r = decoder_push(s->decoder, copy, kept, &s->error);
                }
        }
        if (r == 0)
                r = decoder_finish(s->decoder, &s->error);
        if (r == 0)
                r = tar_finish(s->tar, &s->error);
        if (r < 0)
                return r;
        if (!decoder_seekable(s->decoder))
                return use_pieces(s);
        if (!s->point_seen)
                return error_set(&s->error, -EBADMSG, "the stream is empty");
        uint64_t end = s->pending_off + s->pending.len;
        return close_chunk(s, end, end);
}

static void *decode_thread(void *arg)
{
        struct scan *s = arg;
        const uint8_t *data;
        size_t len;
        while (s->code == 0 && ring_take(&s->blob_ring, &data, &len)) {
                s->code = decode_bytes(s, data, len);
                ring_release(&s->blob_ring);
        }
        if (s->code == 0)
                s->code = end_decoding(s);
        ring_drop(&s->blob_ring);
        ring_end(&s->tar_ring);
        return NULL;
}

static void *hash_thread(void *arg)
{
        struct scan *s = arg;
        const uint8_t *data;
        size_t len;
        while (ring_take(&s->tar_ring, &data, &len)) {
                digest_ctx_update(s->diff_hash, data, len);
                ring_release(&s->tar_ring);
        }
        return NULL;
}

/* ---- the caller's thread ---- */

static bool cancelled(const struct scan_request *rq)
{
        return rq->progress && atomic_load_explicit(&rq->progress->cancel, memory_order_relaxed);
}

static void take_in(struct scan *s, const void *data, size_t len)
{
        digest_ctx_update(s->blob_hash, data, len);
        s->taken += len;
        if (s->rq->progress)
                atomic_store_explicit(&s->rq->progress->done, s->taken, memory_order_relaxed);
        ring_put(&s->blob_ring, data, len);
}

static int take_stream(void *ctx, const void *data, size_t len)
{
        struct scan *s = ctx;
        if (cancelled(s->rq))
                return -ECANCELED;
        if (s->partial) {
                int r = store_partial_append(s->partial, data, len, &s->take_error);
                if (r < 0)
                        return r;
        }
        take_in(s, data, len);
        return 0;
}

/* the bytes that an earlier try left */
static int take_partial(struct scan *s, uint64_t len)
{
        cleanup(freep) uint8_t *piece = malloc(RING_SLOT_LEN);
        if (!piece)
                return -ENOMEM;
        while (s->taken < len) {
                if (cancelled(s->rq))
                        return -ECANCELED;
                ssize_t n = store_partial_read(
                        s->partial, piece, (size_t)MIN((uint64_t)RING_SLOT_LEN, len - s->taken), s->taken);
                if (n <= 0)
                        return n < 0 ? (int)n : -EIO;
                take_in(s, piece, (size_t)n);
        }
        return 0;
}

static int take_all(struct scan *s, uint64_t left_over, struct error *err)
{
        int r = left_over ? take_partial(s, left_over) : 0;
        if (r == -ECANCELED)
                return error_set(err, r, "interrupted");
        if (r < 0) {
                s->partial_bad = r != -ENOMEM;
                return error_set(err, r, "the bytes of an interrupted download: %s", strerror(-r));
        }
        r = blob_stream(s->rq->blob, s->taken, take_stream, s, err);
        if (r == -ECANCELED)
                return error_set(err, r, "interrupted");
        if (r < 0 && s->take_error.code)
                return error_set(err, r, "%s", s->take_error.msg);
        if (r == 0 && s->taken != blob_size(s->rq->blob))
                r = error_set(err, -EBADMSG, "%llu bytes came instead of %llu", (unsigned long long)s->taken,
                        (unsigned long long)blob_size(s->rq->blob));
        return r;
}

/* a thread that no signal reaches */
static int start_thread(pthread_t *ret_thread, void *(*fn)(void *), struct scan *s, struct error *err)
{
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = -pthread_create(ret_thread, NULL, fn, s);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return r < 0 ? error_set(err, r, "start a thread: %s", strerror(-r)) : 0;
}

/* runs all threads to their ends; 0 when all were content */
static int run_threads(struct scan *s, uint64_t left_over, int *ret_take, struct error *err)
{
        pthread_t decode, hash;
        int r = start_thread(&hash, hash_thread, s, err);
        if (r < 0)
                return *ret_take = r;
        r = start_thread(&decode, decode_thread, s, err);
        if (r == 0) {
                *ret_take = take_all(s, left_over, err);
                ring_end(&s->blob_ring);
                pthread_join(decode, NULL);
        } else {
                *ret_take = r;
                ring_end(&s->tar_ring);
        }
        pthread_join(hash, NULL);
        if (*ret_take == 0 && s->code < 0 && err)
                *err = s->error;
        return *ret_take < 0 ? *ret_take : s->code;
}

static int check_digests(struct scan *s, struct index_info *info, struct error *err)
{
        char want[DIGEST_MAX_TEXT], got[DIGEST_MAX_TEXT];
        digest_ctx_final(s->diff_hash, &info->diff_id);
        if (s->rq->diff_id.alg != DIGEST_NONE && !digest_equal(&info->diff_id, &s->rq->diff_id))
                return error_set(err, -EBADMSG,
                        "its uncompressed content is not what the config's diff ID says (expected %s, got %s)",
                        digest_format(&s->rq->diff_id, want), digest_format(&info->diff_id, got));
        return 0;
}

static int finish_index(struct scan *s, const struct digest *blob_digest, struct index **ret_index, struct error *err)
{
        struct index_info info = {
                .digest = *blob_digest,
                .blob_size = s->taken,
                .tar_size = s->uoff,
                .compression = s->compression,
                .unpacked = !decoder_seekable(s->decoder),
                .notes = *tar_notes(s->tar),
        };
        int r = check_digests(s, &info, err);
        if (r < 0)
                return r;
        uint8_t *data = NULL;
        size_t len = 0;
        r = index_builder_finish(s->builder, &info, &data, &len, err);
        if (r < 0)
                return r;
        struct error put_error;
        r = store_put(s->rq->store, STORE_INDEX, blob_digest, data, len, &put_error);
        if (r < 0)
                log_warning("the index of a layer cannot be kept: %s", put_error.msg);
        struct index *index = NULL;
        int fd = r < 0 ? r : store_open_index(s->rq->store, blob_digest, NULL);
        /* mapped memory can be given back and is shared; the bytes are checked again, from the disk */
        if (fd >= 0 && index_open_fd(fd, blob_digest, &index, NULL) == 0) {
                free(data);
                r = 0;
        } else {
                r = index_open_memory(data, len, blob_digest, &index, err);
        }
        if (r == 0)
                *ret_index = index;
        return r;
}

static void scan_done(struct scan *s)
{
        decoder_free(s->decoder);
        tar_reader_free(s->tar);
        index_builder_free(s->builder);
        digest_ctx_free(s->diff_hash);
        digest_ctx_free(s->blob_hash);
        buf_done(&s->pending);
        buf_done(&s->pieces);
        buf_done(&s->piece);
        ring_done(&s->blob_ring);
        ring_done(&s->tar_ring);
}

static int scan_init(struct scan *s, const struct scan_request *rq, struct error *err)
{
        *s = (struct scan){.rq = rq};
        buf_init(&s->pending, CHUNK_MAX_LEN);
        buf_init(&s->pieces, (size_t)PIECES_MAX * sizeof(struct piece));
        buf_init(&s->piece, DECODE_SPAN);
        int r = ring_init(&s->blob_ring, err), r_tar = ring_init(&s->tar_ring, err);
        r = r < 0 ? r : r_tar;
        enum digest_alg alg = rq->digest.alg ? rq->digest.alg : DIGEST_SHA256;
        s->blob_hash = digest_ctx_new(alg);
        s->diff_hash = digest_ctx_new(rq->diff_id.alg ? rq->diff_id.alg : DIGEST_SHA256);
        s->tar = tar_reader_new(take_entry, s);
        s->builder = index_builder_new();
        if (r == 0 && (!s->blob_hash || !s->diff_hash || !s->tar || !s->builder))
                r = error_nomem(err);
        return r;
}

/* one pass; *ret_retry: the bytes of an earlier try were wrong, from the start it may go well */
static int scan_once(const struct scan_request *rq, struct index **ret_index, bool *ret_retry, struct error *err)
{
        struct scan s;
        struct index *index = NULL;
        uint64_t left_over = 0;
        int took = 0;
        int r = scan_init(&s, rq, err);
        *ret_retry = false;
        if (r == 0 && rq->digest.alg && !rq->blob->local)
                r = store_partial_open(rq->store, &rq->digest, blob_size(rq->blob), &s.partial, &left_over, err);
        if (r == 0) {
                r = run_threads(&s, left_over, &took, err);
                *ret_retry = s.partial_bad;
                struct digest got;
                digest_ctx_final(s.blob_hash, &got);
                if (took == 0 && rq->digest.alg && !digest_equal(&got, &rq->digest)) {
                        char a[DIGEST_MAX_TEXT], b[DIGEST_MAX_TEXT];
                        *ret_retry = left_over != 0;
                        r = error_set(err, -EBADMSG, "its content is not what its digest says (expected %s, got %s)",
                                digest_format(&rq->digest, a), digest_format(&got, b));
                }
                if (r == 0)
                        r = finish_index(&s, &got, &index, err);
        }
        if (s.partial && r == 0) {
                const struct index_info *info = index_info(index);
                struct error publish_error;
                if (store_partial_publish(s.partial, info->unpacked ? 1 : info->spans, &publish_error) < 0)
                        log_warning("a layer cannot be kept: %s", publish_error.msg);
        } else if (s.partial && took < 0 && took != -EBADMSG && !s.partial_bad) {
                store_partial_keep(s.partial);
        } else if (s.partial) {
                store_partial_discard(s.partial);
        }
        scan_done(&s);
        if (r == 0)
                *ret_index = index;
        return r;
}

/* waits for the lock, but not past a cancel */
static int lock_digest(const struct scan_request *rq, int *ret_fd, struct error *err)
{
        for (;;) {
                int r = store_lock(rq->store, &rq->digest, LOCK_POLL_MS, ret_fd, err);
                if (r != -ETIMEDOUT)
                        return r;
                if (cancelled(rq))
                        return error_set(err, -ECANCELED, "interrupted");
        }
}

int scan_layer(const struct scan_request *rq, struct index **ret_index, struct error *err)
{
        cleanup(closep) int lock = -1;
        if (rq->digest.alg) {
                int r = lock_digest(rq, &lock, err);
                if (r < 0)
                        return r;
                int fd = store_open_index(rq->store, &rq->digest, NULL);
                if (fd >= 0 && index_open_fd(fd, &rq->digest, ret_index, NULL) == 0)
                        return 0; /* another process made it while we waited */
        }
        bool retry;
        int r = scan_once(rq, ret_index, &retry, err);
        if (r < 0 && retry)
                r = scan_once(rq, ret_index, &retry, err);
        return r;
}
