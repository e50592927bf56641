/* Reading a layer through the span cache: right bytes in any order, each span fetched and inflated once, bounds that hold,
 * failures that stay where they belong. */
#include "check.h"

#include <pthread.h>

#include "base/pool.h"
#include "unit/blob/temp_dir.h"
#include "unit/layer/layers.h"

/* a layer of gzip over a fake blob, with nothing kept: each span that is loaded is asked for */
struct setup {
        struct made_layer m;
        struct store *store;
        struct pool *pool;
        struct span_cache *cache;
        struct layer *layer;
        uint32_t spans;
};

static void setup(struct setup *s, uint64_t memory, unsigned threads)
{
        struct buf tar;
        make_tar(&tar, 3, 2 << 20, NATURE_MIXED);
        made_layer_init(&s->m, tar, GZIP);
        s->store = store_new_null();
        s->pool = threads ? pool_new(threads, 64) : NULL;
        s->cache = span_cache_new(memory, s->pool);
        s->layer = made_layer_open(&s->m, s->store, s->cache);
        s->spans = index_info(layer_index(s->layer))->spans;
        atomic_store(&s->m.fake->reads, 0);
        CHECK(s->spans > 10);
}

static void setup_done(struct setup *s)
{
        pool_free(s->pool);
        layer_unref(s->layer);
        span_cache_free(s->cache);
        store_close(s->store);
        made_layer_done(&s->m);
}

static struct index_span span_of(const struct setup *s, uint32_t i)
{
        struct index_span span;
        index_span(layer_index(s->layer), i, &span);
        return span;
}

/* one byte of a span: what loads it */
static int touch(const struct setup *s, uint32_t i, struct error *err)
{
        uint8_t byte;
        struct index_span span = span_of(s, i);
        int r = layer_read(s->layer, &byte, 1, span.uoff, err);
        if (r == 0)
                CHECK_INT(byte, (uint8_t)s->m.tar.data[span.uoff]);
        return r;
}

TEST(any_order_any_memory)
{
        static const uint64_t memories[] = {1, 1 << 10, 600 << 10, 64 << 20};
        for (size_t i = 0; i < ARRAY_LEN(memories); i++)
                for (unsigned threads = 0; threads < 3; threads++) {
                        cleanup(setup_done) struct setup s;
                        setup(&s, memories[i], threads);
                        compare_reads(s.layer, &s.m.tar, 60, i);
                        compare_reads(s.layer, &s.m.tar, 60, i + 7);
                }
}

TEST(the_last_bytes_are_near)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 0);
        compare_reads(s.layer, &s.m.tar, 1, 1); /* the last byte */
        CHECK_INT(span_cache_count(s.cache).inflated, 1);
        CHECK_INT(atomic_load(&s.m.fake->reads), 1);
}

TEST(all_of_it_is_inflated_once)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 2);
        uint8_t got[10000];
        for (uint64_t off = 0; off < s.m.tar.len; off += sizeof got) {
                size_t n = MIN(sizeof got, s.m.tar.len - (size_t)off);
                CHECK_INT(layer_read(s.layer, got, n, off, NULL), 0);
                CHECK_MEM(got, s.m.tar.data + off, n);
        }
        pool_free(take(s.pool));
        CHECK_INT(span_cache_count(s.cache).inflated, s.spans);
        CHECK(atomic_load(&s.m.fake->reads) < s.spans); /* read-ahead asks for several at once */
}

TEST(reading_along_reads_ahead)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 1);
        CHECK_INT(touch(&s, 3, NULL), 0);
        CHECK_INT(touch(&s, 4, NULL), 0);
        pool_free(take(s.pool)); /* waits for the job */
        unsigned reads = atomic_load(&s.m.fake->reads);
        CHECK(span_cache_count(s.cache).inflated > 4);
        CHECK_INT(touch(&s, 5, NULL), 0);
        CHECK_INT(touch(&s, 6, NULL), 0);
        CHECK_INT(atomic_load(&s.m.fake->reads), reads);
}

struct reader {
        struct setup *s;
        uint64_t seed;
        pthread_t thread;
};

static void *touch_thread(void *arg)
{
        struct reader *r = arg;
        CHECK_INT(touch(r->s, 5, NULL), 0);
        return NULL;
}

TEST(one_loads_the_others_wait)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 0);
        atomic_store(&s.m.fake->hold, true);
        struct reader readers[8];
        for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
                readers[i].s = &s;
                CHECK_INT(pthread_create(&readers[i].thread, NULL, touch_thread, &readers[i]), 0);
        }
        while (!atomic_load(&s.m.fake->reads))
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        atomic_store(&s.m.fake->hold, false);
        for (size_t i = 0; i < ARRAY_LEN(readers); i++)
                pthread_join(readers[i].thread, NULL);
        CHECK_INT(atomic_load(&s.m.fake->reads), 1);
        CHECK_INT(span_cache_count(s.cache).inflated, 1);
        CHECK_INT(span_cache_count(s.cache).hits, ARRAY_LEN(readers) - 1);
}

TEST(a_failure_is_not_remembered)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 0);
        struct error err = {0};
        atomic_store(&s.m.fake->fail_count, 1);
        CHECK_INT(touch(&s, 4, &err), -ENETUNREACH);
        CHECK(strstr(err.msg, "layer sha256:"));
        CHECK_INT(span_cache_count(s.cache).bytes, 0);
        CHECK_INT(touch(&s, 4, &err), 0);
}

/* the source gives wrong bytes for one span: what was fetched together with it is good all the same */
TEST(a_bad_span_harms_no_neighbour)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 0);
        struct index_span bad = span_of(&s, 6), before = span_of(&s, 5);
        uint8_t got[8];
        struct error err = {0};
        atomic_store(&s.m.fake->flip_off, (long long)(bad.chunk.off + bad.chunk.len / 2));
        atomic_store(&s.m.fake->flip_count, -1);
        CHECK_INT(layer_read(s.layer, got, sizeof got, bad.uoff - 4, &err), -EBADMSG);
        CHECK(strstr(err.msg, "wrong bytes"));
        unsigned reads = atomic_load(&s.m.fake->reads);
        CHECK_INT(layer_read(s.layer, got, 4, bad.uoff - 4, &err), 0);
        CHECK_MEM(got, s.m.tar.data + before.uoff + before.ulen - 4, 4);
        CHECK_INT(atomic_load(&s.m.fake->reads), reads);
        CHECK_INT(touch(&s, 7, NULL), 0);
}

/* read-ahead runs into what cannot be had: whoever waits for a span before that does not suffer */
TEST(read_ahead_into_nothing)
{
        TEMP_DIR(dir);
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 0);
        struct store *store = NULL;
        struct index *index = NULL;
        struct layer *online = NULL, *offline = NULL;
        struct chunk_table chunks;
        struct store_blob *kept = NULL;
        CHECK_INT(store_open(&(struct store_options){.dir = dir.path}, &store, NULL), 0);
        CHECK_INT(made_layer_scan(&s.m, store, &index, NULL), 0);
        index_chunks(index, &chunks);
        CHECK_INT(store_blob_open(store, &s.m.digest, s.m.packed.len, chunks.count, false, &kept, NULL), 0);
        store_blob_forget(kept, 6);
        store_blob_close(kept);
        struct pool *pool = pool_new(1, 8);
        struct span_cache *cache = span_cache_new(64 << 20, pool);
        CHECK_INT(layer_open(index, NULL, store, cache, &offline, NULL), 0);
        uint8_t byte;
        for (uint32_t i = 0; i < s.spans; i++)
                CHECK_INT(layer_read(offline, &byte, 1, span_of(&s, i).uoff, NULL), i == 6 ? -ENOENT : 0);
        pool_free(pool);
        layer_unref(offline);
        layer_unref(online);
        span_cache_free(cache);
        store_close(store);
}

static void *random_thread(void *arg)
{
        struct reader *r = arg;
        compare_reads(r->s->layer, &r->s->m.tar, 50, r->seed);
        return NULL;
}

/* the bound holds while many read, and nobody waits for ever */
TEST(many_readers_little_memory)
{
        cleanup(setup_done) struct setup s;
        enum { MEMORY = 1 << 20 };
        setup(&s, MEMORY, 2);
        struct reader readers[16];
        for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
                readers[i] = (struct reader){.s = &s, .seed = i};
                CHECK_INT(pthread_create(&readers[i].thread, NULL, random_thread, &readers[i]), 0);
        }
        for (int i = 0; i < 100; i++) {
                CHECK(span_cache_count(s.cache).bytes <= MEMORY);
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
        for (size_t i = 0; i < ARRAY_LEN(readers); i++)
                pthread_join(readers[i].thread, NULL);
        CHECK(span_cache_count(s.cache).bytes <= MEMORY);
        pool_free(take(s.pool));
        span_cache_drop(s.cache);
        CHECK_INT(span_cache_count(s.cache).bytes, 0);
}

static void wait_flag(void *arg)
{
        while (!atomic_load((atomic_bool *)arg))
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* jobs that were queued when the end came fetch nothing, and readers who counted on them go on by themselves */
TEST(read_ahead_is_given_up_at_the_end)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 1);
        atomic_bool go = false;
        CHECK(pool_try(s.pool, wait_flag, &go));
        CHECK_INT(touch(&s, 3, NULL), 0);
        CHECK_INT(touch(&s, 4, NULL), 0); /* the job behind wait_flag() */
        span_cache_stop(s.cache);
        unsigned reads = atomic_load(&s.m.fake->reads);
        atomic_store(&go, true);
        pool_free(take(s.pool));
        CHECK_INT(atomic_load(&s.m.fake->reads), reads);
        CHECK_INT(touch(&s, 5, NULL), 0);
        CHECK_INT(atomic_load(&s.m.fake->reads), reads + 1);
}

/* whoever opened the layer lets go while a job still works for it */
TEST(the_last_reference_is_a_jobs)
{
        cleanup(setup_done) struct setup s;
        setup(&s, 64 << 20, 1);
        atomic_store(&s.m.fake->delay_us, 20000);
        CHECK_INT(touch(&s, 3, NULL), 0);
        CHECK_INT(touch(&s, 4, NULL), 0);
        layer_unref(take(s.layer));
}

TEST(sparse_files)
{
        cleanup(setup_done) struct setup s = {0};
        struct buf tar;
        tar_build_init(&tar);
        PAX(&tar, "GNU.sparse.size", "100000", "GNU.sparse.numblocks", "2", "GNU.sparse.map", "1000,5,50000,600");
        char data[605];
        memset(data, 'x', sizeof data);
        tar_build_file(&tar, (struct tar_build){.name = "holes", .data = data, .size = sizeof data});
        tar_build_end(&tar);
        made_layer_init(&s.m, tar, GZIP);
        s.store = store_new_null();
        s.cache = span_cache_new(1 << 20, NULL);
        s.layer = made_layer_open(&s.m, s.store, s.cache);
        struct index_entry e;
        index_entry(layer_index(s.layer), 0, &e);
        CHECK(e.sparse);
        static uint8_t want[100000], got[100001];
        memset(want + 1000, 'x', 5);
        memset(want + 50000, 'x', 600);
        CHECK_INT(layer_read_file(s.layer, &e, got, sizeof got, 0, NULL), sizeof want);
        CHECK_MEM(got, want, sizeof want);
        for (uint64_t off = 900; off < sizeof want; off += 97) {
                size_t n = MIN((size_t)120, sizeof want - (size_t)off);
                CHECK_INT(layer_read_file(s.layer, &e, got, 120, off, NULL), n);
                CHECK_MEM(got, want + off, n);
        }
        CHECK_INT(layer_read_file(s.layer, &e, got, 10, sizeof want, NULL), 0);
        CHECK_INT(layer_read_file(s.layer, &e, got, 10, UINT64_MAX, NULL), 0);
}
