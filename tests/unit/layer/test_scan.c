/* The first look at a layer: all packings, all ways in which it can be wrong, interrupted or taken up again. */
#include "check.h"

#include <pthread.h>

#include "unit/blob/temp_dir.h"
#include "unit/layer/layers.h"

static struct store *open_store(const char *dir)
{
        struct store *s = NULL;
        struct error err = {0};
        if (store_open(&(struct store_options){.dir = dir}, &s, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        return s;
}

static void make(struct made_layer *m, unsigned files, size_t each, int nature, enum packing how)
{
        struct buf tar;
        make_tar(&tar, files, each, nature);
        made_layer_init(m, tar, how);
}

static int count_kind(void *ctx, const struct store_item *item)
{
        const char **kind = ctx;
        if (!strcmp(item->kind, kind[0]))
                kind[1]++;
        return 0;
}

static size_t items(struct store *s, const char *kind)
{
        const char *ctx[2] = {kind, NULL};
        CHECK_INT(store_each(s, count_kind, ctx, NULL), 0);
        return (size_t)(uintptr_t)ctx[1];
}

TEST(every_packing_is_read_back)
{
        for (enum packing how = PLAIN; how < PACKINGS; how++)
                for (int kept = 0; kept < 2; kept++) {
                        TEMP_DIR(dir);
                        cleanup(store_closep) struct store *store = kept ? open_store(dir.path) : store_new_null();
                        cleanup(span_cache_freep) struct span_cache *cache = span_cache_new(4 << 20, NULL);
                        cleanup(made_layer_done) struct made_layer m;
                        make(&m, 3, 4 << 20, how == GZIP_BLOCK ? NATURE_ZEROS : NATURE_MIXED, how);
                        struct layer *layer = made_layer_open(&m, store, cache);
                        const struct index_info *info = index_info(layer_index(layer));
                        CHECK_INT(info->entries, 4);
                        CHECK_INT(info->tar_size, m.tar.len);
                        CHECK(digest_equal(&info->diff_id, &m.diff_id));
                        if (how == ZSTD_BIG)
                                CHECK(info->unpacked);
                        compare_reads(layer, &m.tar, 40, how);
                        struct index_entry e;
                        char byte;
                        index_entry(layer_index(layer), 3, &e);
                        CHECK_INT(layer_read_file(layer, &e, &byte, 1, 0, NULL), 0);
                        layer_unref(layer);
                }
}

/* zstd: frames after one that is too large for a span; points that the decoder still tells must do no harm */
TEST(frames_behind_one_without_a_way_in)
{
        cleanup(made_layer_done) struct made_layer m = {0};
        make_tar(&m.tar, 4, 5 << 20, NATURE_MIXED);
        buf_init(&m.packed, (size_t)1 << 30);
        pack_zstd(&m.packed, m.tar.data, 12 << 20);
        for (size_t at = 12 << 20; at < m.tar.len; at += 1 << 20)
                pack_zstd(&m.packed, m.tar.data + at, MIN((size_t)1 << 20, m.tar.len - at));
        m.digest = digest_of(&m.packed);
        m.diff_id = digest_of(&m.tar);
        m.fake = fake_blob_new(m.packed.data, m.packed.len);
        cleanup(store_closep) struct store *store = store_new_null();
        cleanup(span_cache_freep) struct span_cache *cache = span_cache_new(4 << 20, NULL);
        struct layer *layer = made_layer_open(&m, store, cache);
        CHECK(index_info(layer_index(layer))->unpacked);
        compare_reads(layer, &m.tar, 20, 3);
        layer_unref(layer);
}

/* what cannot be begun inside needs no memory for its bytes: more than a chunk may have */
TEST(a_frame_of_more_bytes_than_a_chunk)
{
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 1, (size_t)70 << 20, NATURE_NOISE, ZSTD_BIG);
        CHECK(m.packed.len > CHUNK_MAX_LEN);
        cleanup(store_closep) struct store *store = store_new_null();
        cleanup(span_cache_freep) struct span_cache *cache = span_cache_new(4 << 20, NULL);
        struct layer *layer = made_layer_open(&m, store, cache);
        compare_reads(layer, &m.tar, 5, 3);
        layer_unref(layer);
}

TEST(the_same_index_for_any_pieces)
{
        for (enum packing how = PLAIN; how < PACKINGS; how++) {
                cleanup(made_layer_done) struct made_layer m;
                make(&m, 2, 3 << 20, NATURE_MIXED, how);
                struct buf file[2];
                for (int i = 0; i < 2; i++) {
                        TEMP_DIR(dir);
                        cleanup(store_closep) struct store *store = open_store(dir.path);
                        struct index *index = NULL;
                        struct blob *memory = NULL; /* comes in one piece */
                        CHECK_INT(blob_new_memory(m.packed.data, m.packed.len, &memory, NULL), 0);
                        struct scan_request rq = {
                                .blob = i ? memory : &m.fake->blob, .digest = m.digest, .store = store};
                        CHECK_INT(scan_layer(&rq, &index, NULL), 0);
                        index_free(index);
                        blob_unref(memory);
                        buf_init(&file[i], 1 << 30);
                        CHECK_INT(store_get(store, STORE_INDEX, &m.digest, &file[i], NULL), 0);
                }
                CHECK_INT(file[0].len, file[1].len);
                CHECK_MEM(file[0].data, file[1].data, file[0].len);
                buf_done(&file[0]);
                buf_done(&file[1]);
        }
}

static void expect_refusal(struct made_layer *m, int code, const char *words)
{
        TEMP_DIR(dir);
        cleanup(store_closep) struct store *store = open_store(dir.path);
        struct index *index = NULL;
        struct error err = {0};
        CHECK_INT(made_layer_scan(m, store, &index, &err), code);
        CHECK(!index);
        if (!strstr(err.msg, words))
                CHECK_FAIL("\"%s\" has no \"%s\"", err.msg, words);
        if (code == -EBADMSG) {
                CHECK_INT(items(store, "index"), 0);
                CHECK_INT(items(store, "blob"), 0);
                CHECK_INT(items(store, "partial"), 0);
        }
}

TEST(what_is_wrong_is_said)
{
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 2, 1 << 20, NATURE_MIXED, GZIP);
        struct digest right = m.digest;
        m.digest.bytes[5] ^= 1;
        expect_refusal(&m, -EBADMSG, "not what its digest says");
        m.digest = right;
        m.diff_id.bytes[0] ^= 1;
        expect_refusal(&m, -EBADMSG, "diff ID");
        m.diff_id.bytes[0] ^= 1;
        atomic_store(&m.fake->flip_off, (long long)m.packed.len / 2);
        atomic_store(&m.fake->flip_count, -1);
        expect_refusal(&m, -EBADMSG, "not what its digest says");
        atomic_store(&m.fake->flip_off, -1);
        atomic_store(&m.fake->cut_off, (long long)m.packed.len / 2);
        expect_refusal(&m, -ECONNRESET, "cut");
}

/* a blob whose bytes are what its digest says, but which is no layer */
static void expect_no_layer(const void *data, size_t len, int code, const char *words)
{
        struct made_layer m = {.fake = fake_blob_new(data, len)};
        buf_init(&m.packed, 1 << 30);
        buf_add(&m.packed, data, len);
        m.digest = digest_of(&m.packed);
        expect_refusal(&m, code, words);
        made_layer_done(&m);
}

TEST(bytes_that_are_no_layer)
{
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 1, 1 << 20, NATURE_MIXED, GZIP);
        expect_no_layer(m.packed.data, m.packed.len / 2, -EBADMSG, "gzip");
        expect_no_layer("BZh91AY&SY", 10, -EOPNOTSUPP, "bzip2");
        uint8_t noise[4000];
        fake_bytes(noise, sizeof noise, 3);
        expect_no_layer(noise, sizeof noise, -EBADMSG, "");
        expect_no_layer(m.tar.data, 700, -EBADMSG, "");
}

TEST(no_bytes_at_all)
{
        cleanup(store_closep) struct store *store = store_new_null();
        cleanup(span_cache_freep) struct span_cache *cache = span_cache_new(4 << 20, NULL);
        cleanup(made_layer_done) struct made_layer m = {.fake = fake_blob_new("", 0)};
        buf_init(&m.packed, 1);
        buf_init(&m.tar, 1);
        m.digest = m.diff_id = digest_of(&m.packed);
        struct layer *layer = made_layer_open(&m, store, cache);
        CHECK_INT(index_info(layer_index(layer))->entries, 0);
        char byte;
        CHECK_INT(layer_read(layer, &byte, 0, 0, NULL), 0);
        CHECK_INT(layer_read(layer, &byte, 1, 0, NULL), -EBADMSG);
        layer_unref(layer);
}

TEST(a_cut_download_is_taken_up_where_it_ended)
{
        TEMP_DIR(dir);
        cleanup(store_closep) struct store *store = open_store(dir.path);
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 2, 1 << 20, NATURE_NOISE, GZIP);
        struct index *index = NULL;
        atomic_store(&m.fake->cut_off, (long long)m.packed.len / 2);
        CHECK_INT(made_layer_scan(&m, store, &index, NULL), -ECONNRESET);
        CHECK_INT(items(store, "partial"), 1);
        uint64_t before = atomic_load(&m.fake->bytes);
        CHECK(before >= m.packed.len / 2);
        atomic_store(&m.fake->cut_off, -1);
        CHECK_INT(made_layer_scan(&m, store, &index, NULL), 0);
        CHECK_INT(atomic_load(&m.fake->bytes), m.packed.len);
        index_free(index);
        CHECK_INT(items(store, "partial"), 0);
        CHECK_INT(items(store, "blob"), 1);
        CHECK_INT(made_layer_scan(&m, store, &index, NULL), 0); /* nothing is read a second time */
        CHECK_INT(atomic_load(&m.fake->bytes), m.packed.len);
        index_free(index);
}

static void *cancel_soon(void *arg)
{
        struct made_layer *m = ((void **)arg)[0];
        struct scan_progress *progress = ((void **)arg)[1];
        while (atomic_load(&m->fake->bytes) < m->packed.len / 3)
                nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
        atomic_store(&progress->cancel, true);
        return NULL;
}

TEST(a_cancel_keeps_what_came)
{
        TEMP_DIR(dir);
        cleanup(store_closep) struct store *store = open_store(dir.path);
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 2, 1 << 20, NATURE_NOISE, GZIP);
        atomic_store(&m.fake->delay_us, 100);
        struct scan_progress progress = {0};
        struct scan_request rq = {.blob = &m.fake->blob, .digest = m.digest, .store = store, .progress = &progress};
        struct index *index = NULL;
        struct error err = {0};
        pthread_t thread;
        void *arg[] = {&m, &progress};
        CHECK_INT(pthread_create(&thread, NULL, cancel_soon, arg), 0);
        CHECK_INT(scan_layer(&rq, &index, &err), -ECANCELED);
        pthread_join(thread, NULL);
        CHECK_STR(err.msg, "interrupted");
        atomic_store(&m.fake->delay_us, 0);
        CHECK_INT(made_layer_scan(&m, store, &index, NULL), 0);
        CHECK(atomic_load(&m.fake->bytes) < m.packed.len + 10000);
        index_free(index);
}

/* all of it came, and then the power went: nothing need be asked for */
TEST(a_whole_partial_needs_no_request)
{
        TEMP_DIR(dir);
        cleanup(store_closep) struct store *store = open_store(dir.path);
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 1, 1 << 20, NATURE_MIXED, GZIP);
        struct store_partial *partial = NULL;
        uint64_t len;
        CHECK_INT(store_partial_open(store, &m.digest, m.packed.len, &partial, &len, NULL), 0);
        CHECK_INT(store_partial_append(partial, m.packed.data, m.packed.len, NULL), 0);
        store_partial_keep(partial);
        atomic_store(&m.fake->fail_count, -1);
        struct index *index = NULL;
        struct error err = {0};
        if (made_layer_scan(&m, store, &index, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        CHECK_INT(atomic_load(&m.fake->streams), 0);
        index_free(index);
}

TEST(a_damaged_partial_is_begun_anew_once)
{
        TEMP_DIR(dir);
        cleanup(store_closep) struct store *store = open_store(dir.path);
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 1, 1 << 20, NATURE_MIXED, GZIP);
        struct store_partial *partial = NULL;
        uint64_t len;
        uint8_t wrong[10000];
        memcpy(wrong, m.packed.data, sizeof wrong);
        wrong[5000] ^= 1;
        CHECK_INT(store_partial_open(store, &m.digest, m.packed.len, &partial, &len, NULL), 0);
        CHECK_INT(store_partial_append(partial, wrong, sizeof wrong, NULL), 0);
        store_partial_keep(partial);
        struct index *index = NULL;
        CHECK_INT(made_layer_scan(&m, store, &index, NULL), 0);
        CHECK_INT(atomic_load(&m.fake->streams), 2);
        CHECK_INT(items(store, "blob"), 1);
        index_free(index);
}

static void *scan_thread(void *arg)
{
        void **a = arg;
        struct index *index = NULL;
        struct error err = {0};
        if (made_layer_scan(a[0], a[1], &index, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        index_free(index);
        return NULL;
}

TEST(of_two_who_scan_the_same_one_reads)
{
        TEMP_DIR(dir);
        cleanup(store_closep) struct store *store = open_store(dir.path);
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 1, 1 << 20, NATURE_MIXED, GZIP);
        pthread_t threads[4];
        void *arg[] = {&m, store};
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, scan_thread, arg), 0);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                pthread_join(threads[i], NULL);
        CHECK_INT(atomic_load(&m.fake->streams), 1);
}

TEST(a_tar_of_unknown_digest)
{
        cleanup(store_closep) struct store *store = store_new_null();
        cleanup(made_layer_done) struct made_layer m;
        make(&m, 1, 1 << 20, NATURE_MIXED, GZIP);
        struct scan_request rq = {.blob = &m.fake->blob, .store = store};
        struct index *index = NULL;
        CHECK_INT(scan_layer(&rq, &index, NULL), 0);
        CHECK(digest_equal(&index_info(index)->digest, &m.digest));
        CHECK(digest_equal(&index_info(index)->diff_id, &m.diff_id));
        index_free(index);
}
