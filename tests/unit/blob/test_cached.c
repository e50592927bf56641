/* The verified view: what is fetched, how often, and that wrong bytes never come out. */
#include "check.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

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
        _Atomic uint64_t done = 0;
        CHECK_INT(cached_fill(f.cached, &done, NULL), 0);
        CHECK(atomic_load(&done) >= 20 << 20);
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

TEST(failures_are_not_remembered)
{
        TEMP_DIR(dir);
        struct fixture f;
        struct error err = {0};
        fixture_init(&f, 300000, 10000);
        fixture_open(&f, dir.path, false);
        static const int codes[] = {-ENETUNREACH, -ECANCELED, -ETIMEDOUT};
        for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
                atomic_store(&f.slow->fail_code, codes[i]);
                atomic_store(&f.slow->fail_count, 1);
                CHECK_INT(read_range(&f, i, 1, &err), codes[i]);
                CHECK_INT(read_range(&f, i, 1, &err), 0);
        }
        atomic_store(&f.slow->fail_count, -1);
        CHECK_INT(cached_fill(f.cached, NULL, &err), -ETIMEDOUT);
        atomic_store(&f.slow->fail_count, 0);
        CHECK_INT(cached_fill(f.cached, NULL, &err), 0);
        fixture_done(&f);
}

/* ---- streams that go wrong ---- */

/* who wants the beginning does not wait for the end, and closing does not either */
TEST(a_stream_goes_on_behind_its_first_reader)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 1 << 20, 8000);
        atomic_store(&f.slow->blob.sequential, true);
        atomic_store(&f.slow->delay_us, 30000);
        fixture_open(&f, dir.path, false);
        CHECK_INT(read_range(&f, 1, 2, NULL), 0);
        CHECK(f.slow->bytes < f.size / 2);
        CHECK_INT(read_range(&f, 5, 2, NULL), 0);
        CHECK_INT(f.slow->streams, 1);
        fixture_close(&f);
        CHECK(f.slow->bytes < f.size / 2);
        /* what passed is there */
        fixture_open(&f, dir.path, true);
        CHECK_INT(read_range(&f, 0, 7, NULL), 0);
        fixture_done(&f);
}

TEST(a_stream_that_breaks_off_keeps_what_passed)
{
        TEMP_DIR(dir);
        struct fixture f;
        struct error err = {0};
        fixture_init(&f, 300000, 10000);
        atomic_store(&f.slow->blob.sequential, true);
        fixture_open(&f, dir.path, false);
        atomic_store(&f.slow->cut_off, 150000);
        CHECK(f.chunks[10].off + f.chunks[10].len < 150000 && f.chunks[25].off > 160000);
        CHECK_INT(read_range(&f, 25, 1, &err), -ECONNRESET);
        CHECK_INT(f.slow->streams, 1);
        CHECK_INT(read_range(&f, 0, 10, &err), 0);
        CHECK_INT(f.slow->streams, 1);
        CHECK_INT(read_range(&f, f.count - 1, 1, &err), -ECONNRESET);
        atomic_store(&f.slow->cut_off, -1);
        CHECK_INT(read_range(&f, f.count - 1, 1, &err), 0);
        CHECK_INT(read_range(&f, 0, f.count, &err), 0);
        CHECK_INT(f.slow->streams, 3);
        fixture_done(&f);
}

TEST(a_stream_with_a_wrong_byte)
{
        for (int null = 0; null < 2; null++) {
                TEMP_DIR(dir);
                struct fixture f;
                struct error err = {0};
                fixture_init(&f, 300000, 10000);
                atomic_store(&f.slow->blob.sequential, true);
                fixture_open(&f, null ? NULL : dir.path, false);
                atomic_store(&f.slow->flip_off, (long long)f.chunks[8].off + 5);
                /* once: it is streamed once more */
                atomic_store(&f.slow->flip_count, 1);
                CHECK_INT(read_range(&f, 8, 1, &err), 0);
                CHECK_INT(f.slow->streams, 2);
                CHECK_INT(read_range(&f, 0, f.count, &err), 0);
                CHECK_INT(f.slow->streams, 2);
                fixture_close(&f);
                struct store *s;
                CHECK_INT(store_open(&(struct store_options){.dir = dir.path}, &s, NULL), 0);
                CHECK_INT(store_remove(s, STORE_RM_ALL, NULL, NULL, NULL), 0);
                store_close(s);
                /* always: that chunk cannot be had, all others can */
                fixture_reset(&f);
                atomic_store(&f.slow->flip_count, -1);
                fixture_open(&f, null ? NULL : dir.path, false);
                CHECK_INT(read_range(&f, 8, 1, &err), -EBADMSG);
                CHECK_INT(f.slow->streams, 2);
                CHECK_INT(read_range(&f, 2, 1, &err), 0);
                CHECK_INT(f.slow->streams, 2);
                CHECK_INT(read_range(&f, 8, 1, &err), -EBADMSG);
                CHECK_INT(f.slow->streams, 4);
                for (size_t i = 0; i < f.count; i++)
                        if (i != 8)
                                CHECK_INT(read_range(&f, i, 1, &err), 0);
                CHECK_INT(f.slow->streams, 4);
                fixture_done(&f);
        }
}

/* ---- one wrong byte anywhere ---- */

static void store_path(const struct fixture *f, const char *dir, const char *suffix, char path[500])
{
        char hex[DIGEST_MAX_TEXT];
        snprintf(path, 500, "%s/v1/blobs/sha256/%s%s", dir, digest_hex(&f->digest, hex), suffix);
}

static void flip_at(const char *path, off_t off)
{
        uint8_t byte;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        CHECK(fd >= 0);
        if (pread(fd, &byte, 1, off) == 1) {
                byte ^= 0x01;
                CHECK(pwrite(fd, &byte, 1, off) == 1);
        }
        close(fd);
}

TEST(a_wrong_byte_in_the_store_is_fetched_again)
{
        TEMP_DIR(dir);
        struct fixture f;
        char path[500];
        fixture_init(&f, 60000, 2000);
        fixture_open(&f, dir.path, false);
        store_path(&f, dir.path, "", path);
        CHECK_INT(cached_fill(f.cached, NULL, NULL), 0);
        for (size_t off = 0; off < f.size; off += 97) {
                flip_at(path, (off_t)off);
                fixture_reset(&f);
                CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
                CHECK(f.slow->reads >= 1 && f.slow->reads <= 2);
        }
        /* offline, and then for good */
        fixture_close(&f);
        fixture_open(&f, dir.path, true);
        flip_at(path, 31000);
        CHECK(cached_complete(f.cached));
        CHECK_INT(read_range(&f, 0, f.count, NULL), -ENOENT);
        CHECK(!cached_complete(f.cached));
        fixture_close(&f);
        fixture_open(&f, dir.path, false);
        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
        /* the map may say anything as well */
        store_path(&f, dir.path, ".map", path);
        for (off_t off = 0; off < 32 + (off_t)f.count + 1; off++) {
                flip_at(path, off);
                CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
                fixture_close(&f);
                fixture_open(&f, dir.path, false);
                CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
        }
        fixture_done(&f);
}

TEST(a_wrong_byte_from_the_source_never_comes_out)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 60000, 2000);
        for (size_t off = 0; off < f.size; off += 487) {
                bool null = off % 2;
                fixture_open(&f, null ? NULL : dir.path, false);
                atomic_store(&f.slow->flip_off, (long long)off);
                atomic_store(&f.slow->flip_count, -1);
                CHECK_INT(read_range(&f, 0, f.count, NULL), -EBADMSG);
                size_t wrong = 0;
                for (size_t i = 0; i < f.count; i++)
                        wrong += read_range(&f, i, 1, NULL) == -EBADMSG;
                CHECK(wrong == 1 || wrong == 2);
                atomic_store(&f.slow->flip_count, 0);
                CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
                CHECK_INT(store_remove(f.store, STORE_RM_ALL, NULL, NULL, NULL), 0);
                fixture_close(&f);
        }
        fixture_done(&f);
}

/* ---- many threads ---- */

struct crowd {
        struct fixture *f;
        atomic_uint failed, started;
        uint64_t seed;
        unsigned rounds, span;
        int accept; /* code that a read may fail with; then also -EBADMSG, when the source lied twice in a row */
};

static void *crowd_work(void *arg)
{
        struct crowd *c = arg;
        uint64_t seed = (uint64_t)(uintptr_t)pthread_self() ^ c->seed;
        for (unsigned n = 0; n < c->rounds; n++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                size_t first = (size_t)(seed >> 33) % c->f->count;
                size_t count = 1 + (size_t)(seed >> 20) % c->span;
                if (count > c->f->count - first)
                        count = c->f->count - first;
                struct error err = {0};
                int r = read_range(c->f, first, count, &err);
                if (r < 0) {
                        atomic_fetch_add(&c->failed, 1);
                        if (!c->accept || (r != c->accept && r != -EBADMSG))
                                CHECK_FAIL("%d: %s", r, err.msg);
                }
        }
        return NULL;
}

static void run_crowd(struct crowd *c)
{
        pthread_t threads[16];
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, crowd_work, c), 0);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                pthread_join(threads[i], NULL);
}

TEST(sixteen_threads_fetch_each_byte_once)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 1 << 20, 8000);
        fixture_open(&f, dir.path, false);
        atomic_store(&f.slow->delay_us, 2000);
        struct crowd c = {.f = &f, .rounds = 40, .span = 12, .seed = 1};
        run_crowd(&c);
        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
        CHECK_INT(c.failed, 0);
        /* the bytes that neighbours share may come twice */
        CHECK(f.slow->bytes >= f.size && f.slow->bytes <= f.size + f.count);
        fixture_done(&f);
}

static void *read_one(void *arg)
{
        struct crowd *c = arg;
        atomic_fetch_add(&c->started, 1);
        if (read_range(c->f, 3, 1, NULL) < 0)
                atomic_fetch_add(&c->failed, 1);
        return NULL;
}

/* all ask for one chunk while it is fetched, and wait for the one that does, with a store or without */
static void all_want_one(const char *dir, bool fail)
{
        struct fixture f;
        fixture_init(&f, 100000, 8000);
        fixture_open(&f, dir, false);
        atomic_store(&f.slow->hold, true);
        atomic_store(&f.slow->fail_count, fail);
        struct crowd c = {.f = &f};
        pthread_t threads[16];
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, read_one, &c), 0);
        while (c.started < ARRAY_LEN(threads))
                nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        /* the last ones are on their way to the wait */
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        atomic_store(&f.slow->hold, false);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                pthread_join(threads[i], NULL);
        /* a thread that was held up on that way comes too late for the run, but never is each for itself */
        CHECK(f.slow->reads <= 3);
        if (fail)
                CHECK(c.failed >= 1);
        else
                CHECK_INT(c.failed, 0);
        fixture_done(&f);
}

TEST(a_chunk_that_all_want_is_fetched_once)
{
        for (int k = 0; k < 4; k++) {
                TEMP_DIR(dir);
                all_want_one(k % 2 ? NULL : dir.path, k / 2);
        }
}

TEST(sixteen_threads_on_a_sequential_blob)
{
        for (int null = 0; null < 2; null++) {
                TEMP_DIR(dir);
                struct fixture f;
                fixture_init(&f, 1 << 20, 8000);
                atomic_store(&f.slow->blob.sequential, true);
                fixture_open(&f, null ? NULL : dir.path, false);
                struct crowd c = {.f = &f, .rounds = 30, .span = 12, .seed = 2};
                run_crowd(&c);
                CHECK_INT(c.failed, 0);
                CHECK_INT(f.slow->streams, 1);
                fixture_done(&f);
        }
}

TEST(sixteen_threads_find_out_that_there_are_no_ranges)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 1 << 20, 8000);
        atomic_store(&f.slow->no_ranges, true);
        atomic_store(&f.slow->delay_us, 1000);
        fixture_open(&f, dir.path, false);
        struct crowd c = {.f = &f, .rounds = 5, .span = 12, .seed = 4};
        run_crowd(&c);
        CHECK_INT(c.failed, 0);
        CHECK_INT(f.slow->streams, 1);
        fixture_done(&f);
}

struct troublemaker {
        struct fixture *f;
        atomic_bool stop;
        const char *dir;
};

/* evicts, makes bytes in the store wrong, makes the source fail and lie */
static void *make_trouble(void *arg)
{
        struct troublemaker *t = arg;
        struct store *s;
        char path[500];
        CHECK_INT(store_open(&(struct store_options){.dir = t->dir}, &s, NULL), 0);
        store_path(t->f, t->dir, "", path);
        for (uint64_t seed = 1; !atomic_load(&t->stop); seed = seed * 6364136223846793005u + 1442695040888963407u) {
                switch (seed >> 61) {
                case 0: CHECK_INT(store_remove(s, STORE_RM_DATA, NULL, NULL, NULL), 0); break;
                case 1:
                case 2:
                case 3:
                        if (access(path, F_OK) == 0) {
                                int fd = open(path, O_RDWR | O_CLOEXEC);
                                if (fd >= 0 && pwrite(fd, "wrong", 5, (off_t)(seed >> 30) % (off_t)t->f->size) < 0)
                                        abort();
                                if (fd >= 0)
                                        close(fd);
                        }
                        break;
                case 4: atomic_store(&t->f->slow->fail_nth, 3); break;
                default: atomic_store(&t->f->slow->flip_off, (long long)((seed >> 30) % t->f->size)); break;
                }
                atomic_store(&t->f->slow->flip_count, 1);
                nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
        }
        store_close(s);
        return NULL;
}

TEST(eviction_and_trouble_under_use)
{
        TEMP_DIR(dir);
        struct fixture f;
        pthread_t thread;
        fixture_init(&f, 1 << 20, 8000);
        atomic_store(&f.slow->fail_code, -ETIMEDOUT);
        fixture_open(&f, dir.path, false);
        struct troublemaker t = {.f = &f, .dir = dir.path};
        CHECK_INT(pthread_create(&thread, NULL, make_trouble, &t), 0);
        struct crowd c = {.f = &f, .rounds = 150, .span = 6, .seed = 3, .accept = -ETIMEDOUT};
        run_crowd(&c);
        atomic_store(&t.stop, true);
        pthread_join(thread, NULL);
        atomic_store(&f.slow->fail_nth, 0);
        atomic_store(&f.slow->flip_off, -1);
        /* once the trouble is over, all is well, and it ends complete */
        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
        CHECK_INT(cached_fill(f.cached, NULL, NULL), 0);
        CHECK(cached_complete(f.cached));
        fixture_done(&f);
}

/* ---- a store that cannot keep it ---- */

static atomic_uint warnings;

static void count_warnings(enum log_topic topic, const char *line, void *ctx)
{
        (void)topic, (void)line, (void)ctx;
        atomic_fetch_add(&warnings, 1);
}

static void with_file_limit(const char *dir)
{
        for (int sequential = 0; sequential < 2; sequential++) {
                char path[300];
                struct fixture f;
                struct error err = {0};
                snprintf(path, sizeof path, "%s/%d", dir, sequential);
                fixture_init(&f, 2 << 20, 30000);
                fixture_open(&f, path, false);
                atomic_store(&f.slow->blob.sequential, sequential);
                log_setup(0, count_warnings, NULL);
                warnings = 0;
                signal(SIGXFSZ, SIG_IGN);
                CHECK_INT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 20, RLIM_INFINITY}), 0);
                /* reading goes on; filling says that it is in vain, and does not fetch all before it does */
                CHECK_INT(cached_fill(f.cached, NULL, &err), -ENOSPC);
                CHECK_INT(warnings, 1);
                for (int i = 0; i < 2; i++)
                        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
                CHECK(!cached_complete(f.cached));
                CHECK_INT(setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}), 0);
                /* the store stays off; what is streamed goes to a temporary file, once there is room for that */
                fixture_reset(&f);
                for (int i = 0; i < 2; i++)
                        CHECK_INT(read_range(&f, 0, f.count, NULL), 0);
                CHECK(f.slow->streams <= 1);
                fixture_done(&f);
        }
}

TEST(a_store_that_fills_up_while_in_use)
{
        TEMP_DIR(dir);
        int status;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
                with_file_limit(dir.path);
                exit(0);
        }
        CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
        CHECK_INT(WEXITSTATUS(status), 0);
}

/* ---- tables that lie ---- */

TEST(tables_that_are_out_of_order_or_out_of_bounds)
{
        static const struct {
                size_t i;
                long long off_by, len_by;
        } changes[] = {
                {3, 1, 0}, {3, -2, 0}, {3, 0, 100}, {3, 1 << 30, 0}, {3, 0, 1LL << 40}, {0, -1, 0}, {3, 0, -100000000}};
        for (int sequential = 0; sequential < 2; sequential++) {
                for (size_t k = 0; k < ARRAY_LEN(changes); k++) {
                        TEMP_DIR(dir);
                        struct fixture f;
                        struct error err = {0};
                        fixture_init(&f, 60000, 2000);
                        atomic_store(&f.slow->blob.sequential, sequential);
                        fixture_open(&f, dir.path, false);
                        f.chunks[changes[k].i].off += (uint64_t)changes[k].off_by;
                        f.chunks[changes[k].i].len += (uint64_t)changes[k].len_by;
                        uint8_t *data = malloc(f.size);
                        CHECK(data);
                        CHECK_INT(cached_read(f.cached, 0, f.count, data, &err), -EBADMSG);
                        CHECK_INT(cached_read(f.cached, 0, f.count + 1, data, &err), -EBADMSG);
                        CHECK_INT(cached_read(f.cached, UINT64_MAX, 2, data, &err), -EBADMSG);
                        CHECK_INT(cached_fill(f.cached, NULL, &err), -EBADMSG);
                        cached_read(f.cached, 10, 1, data, &err);
                        free(data);
                        fixture_done(&f);
                }
        }
}

TEST(a_blob_of_another_size)
{
        struct fixture f;
        struct cached *c;
        struct error err = {0};
        fixture_init(&f, 60000, 2000);
        struct store *s = store_new_null();
        CHECK_INT(cached_open(&f.slow->blob, s, &f.digest, f.size + 1, &f.table, &c, &err), -EBADMSG);
        store_close(s);
        fixture_done(&f);
}

TEST(a_blob_without_chunks)
{
        TEMP_DIR(dir);
        struct fixture f;
        fixture_init(&f, 0, 2000);
        CHECK_INT(f.count, 0);
        fixture_open(&f, dir.path, false);
        CHECK_INT(cached_read(f.cached, 0, 0, NULL, NULL), 0);
        CHECK_INT(cached_fill(f.cached, NULL, NULL), 0);
        CHECK(cached_complete(f.cached));
        fixture_done(&f);
}
