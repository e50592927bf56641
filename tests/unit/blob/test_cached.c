/* The verified view: what is fetched, how often, and that wrong bytes never come out. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>

#include "base/log.h"
#include "blob/cached.h"
#include "fake_blob.h"
#include "temp_dir.h"

/* ---- a blob with its table ---- */

enum { CHUNKS_MAX = 4096 };

struct fixture {
        size_t size, count;
        uint8_t *data;
        struct chunk *chunks;
        uint8_t (*hashes)[SHA256_BYTES];
        struct digest digest;
        struct chunk_table table;
        struct fake_blob *slow;
        struct store *store;
        struct cached *cached;
};

static void get_chunk(const void *owner, uint64_t i, struct chunk *ret_chunk)
{
        *ret_chunk = ((const struct fixture *)owner)->chunks[i];
}

/* chunks of about `chunk` bytes; every second one begins with the last byte of the one before */
static void fixture_init(struct fixture *f, size_t size, size_t chunk)
{
        *f = (struct fixture){.size = size};
        f->data = malloc(size + 1);
        f->chunks = calloc(CHUNKS_MAX, sizeof *f->chunks);
        f->hashes = calloc(CHUNKS_MAX, sizeof *f->hashes);
        CHECK(f->data && f->chunks && f->hashes);
        fake_bytes(f->data, size, size + chunk);
        for (size_t off = 0; off < size;) {
                size_t i = f->count++;
                CHECK(i < CHUNKS_MAX);
                size_t len = chunk - chunk / 3 + (i * 7919) % (chunk / 2 + 1) + 2;
                if (i % 2)
                        off--;
                if (len > size - off)
                        len = size - off;
                f->chunks[i] = (struct chunk){off, len, f->hashes[i]};
                CHECK_INT(sha256_memory(f->data + off, len, f->hashes[i]), 0);
                off += len;
        }
        CHECK_INT(digest_memory(DIGEST_SHA256, f->data, size, &f->digest), 0);
        f->table = (struct chunk_table){f->count, get_chunk, f};
        f->slow = fake_blob_new(f->data, size);
}

static void fixture_open(struct fixture *f, const char *dir, bool offline)
{
        struct error err = {0};
        if (!dir)
                CHECK((f->store = store_new_null()));
        else if (store_open(&(struct store_options){.dir = dir}, &f->store, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        if (cached_open(offline ? NULL : &f->slow->blob, f->store, &f->digest, f->size, &f->table, &f->cached, &err) <
                0)
                CHECK_FAIL("%s", err.msg);
}

static void fixture_close(struct fixture *f)
{
        cached_close(f->cached);
        store_close(f->store);
        f->cached = NULL;
        f->store = NULL;
}

static void fixture_done(struct fixture *f)
{
        fixture_close(f);
        blob_unref(&f->slow->blob);
        free(f->data);
        free(f->chunks);
        free(f->hashes);
}

static void fixture_reset(struct fixture *f)
{
        atomic_store(&f->slow->reads, 0);
        atomic_store(&f->slow->streams, 0);
        atomic_store(&f->slow->bytes, 0);
}

/* reads and compares; the code of the read */
static int read_range(struct fixture *f, size_t first, size_t count, struct error *err)
{
        uint64_t off = f->chunks[first].off;
        const struct chunk *last = &f->chunks[first + count - 1];
        size_t len = (size_t)(last->off + last->len - off);
        uint8_t *data = malloc(len + 1);
        CHECK(data);
        data[len] = 0xa5;
        int r = cached_read(f->cached, first, count, data, err);
        if (r == 0)
                CHECK_MEM(data, f->data + off, len);
        CHECK_INT(data[len], 0xa5);
        free(data);
        return r;
}

TEST(each_chunk_is_fetched_once)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 300000, 10000);
        fixture_open(&f, dir.path, false);
        for (size_t i = 0; i < f.count; i++)
                CHECK_INT(read_range(&f, i, 1, NULL), 0);
        CHECK_INT(f.slow->reads, f.count);
        CHECK(cached_complete(f.cached));
        for (size_t i = 0; i < f.count; i++)
                CHECK_INT(read_range(&f, i, 1, NULL), 0);
        CHECK_INT(f.slow->reads, f.count);
        /* another process finds it all; so does one without a source */
        fixture_close(&f);
        fixture_open(&f, dir.path, true);
        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
        CHECK_INT(f.slow->reads, f.count);
        fixture_done(&f);
}

TEST(missing_neighbours_are_one_read)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 300000, 10000);
        fixture_open(&f, dir.path, false);
        CHECK_INT(read_range(&f, 3, 10, NULL), 0);
        CHECK_INT(f.slow->reads, 1);
        /* around what is there: one run before, one behind */
        CHECK_INT(read_range(&f, 0, 20, NULL), 0);
        CHECK_INT(f.slow->reads, 3);
        fixture_done(&f);
}

TEST(offline_says_so)
{
        TEMP_DIR(dir);
        struct fixture f;
        struct error err = {0};
        fixture_init(&f, 30000, 1000);
        fixture_open(&f, dir.path, true);
        CHECK_INT(read_range(&f, 0, 2, &err), -ENOENT);
        CHECK(strstr(err.msg, "not in the cache"));
        fixture_done(&f);
}

TEST(fill_brings_all)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 20 << 20, 200000);
        fixture_open(&f, dir.path, false);
        CHECK_INT(read_range(&f, 5, 2, NULL), 0);
        CHECK_INT(cached_fill(f.cached, NULL), 0);
        CHECK(cached_complete(f.cached));
        CHECK(f.slow->reads < 12);
        fixture_close(&f);
        fixture_open(&f, dir.path, true);
        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
        fixture_done(&f);
}

TEST(a_sequential_blob_is_streamed_once)
{
        for (int null = 0; null < 2; null++) {
                TEMP_DIR(dir);
                struct fixture f;
                fixture_init(&f, 300000, 10000);
                atomic_store(&f.slow->blob.sequential, true);
                fixture_open(&f, null ? NULL : dir.path, false);
                CHECK_INT(read_range(&f, 7, 3, NULL), 0);
                CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
                CHECK_INT(f.slow->reads, 0);
                CHECK_INT(f.slow->streams, 1);
                fixture_done(&f);
        }
}

TEST(a_server_that_turns_out_to_have_no_ranges)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 300000, 10000);
        fixture_open(&f, dir.path, false);
        atomic_store(&f.slow->no_ranges, true);
        CHECK_INT(read_range(&f, 7, 3, NULL), 0);
        CHECK_INT(f.slow->reads, 1);
        CHECK_INT(f.slow->streams, 1);
        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
        CHECK_INT(f.slow->streams, 1);
        fixture_done(&f);
}

TEST(one_wrong_answer_is_asked_again_and_two_are_an_error)
{
        TEMP_DIR(dir);
        struct fixture f;
        struct error err = {0};
        fixture_init(&f, 300000, 10000);
        fixture_open(&f, dir.path, false);
        atomic_store(&f.slow->flip_off, (long long)f.chunks[5].off + 17);
        atomic_store(&f.slow->flip_count, 1);
        CHECK_INT(read_range(&f, 3, 5, &err), 0);
        CHECK_INT(f.slow->reads, 2);
        fixture_reset(&f);
        atomic_store(&f.slow->flip_off, (long long)f.chunks[15].off + 17);
        atomic_store(&f.slow->flip_count, -1);
        CHECK_INT(read_range(&f, 14, 3, &err), -EBADMSG);
        CHECK(strstr(err.msg, "sha256:"));
        CHECK_INT(f.slow->reads, 2);
        /* its neighbours were right and are kept; a failure is not remembered */
        CHECK_INT(read_range(&f, 14, 1, &err), 0);
        CHECK_INT(read_range(&f, 16, 1, &err), 0);
        CHECK_INT(f.slow->reads, 2);
        atomic_store(&f.slow->flip_off, -1);
        CHECK_INT(read_range(&f, 14, 3, &err), 0);
        CHECK_INT(f.slow->reads, 3);
        fixture_done(&f);
}
