/*
 * kill -9 at any moment leaves nothing that is believed wrongly: pairs of children write everything that a store can hold,
 * are killed in the middle, and what can be read afterwards is exactly right. A few hundred times, about ten seconds.
 */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"
#include "blob/cached.h"
#include "fake_blob.h"
#include "temp_dir.h"

enum {
        THINGS = 6,
        THING_MAX = 60000,
        BLOB_SIZE = 300000,
        CHUNK = 10000,
        CHUNKS = BLOB_SIZE / CHUNK,
        ROUNDS = 300,
        TIME_MAX_S = 15
};

/* everything is known beforehand, so that a reader can tell */
struct world {
        uint8_t things[THINGS][THING_MAX];
        size_t thing_len[THINGS];
        struct digest thing_digest[THINGS];
        uint8_t blobs[THINGS][BLOB_SIZE];
        struct digest blob_digest[THINGS];
        uint8_t hashes[THINGS][CHUNKS][SHA256_BYTES];
        struct chunk chunks[THINGS][CHUNKS];
};
static struct world world;

static void get_chunk(const void *owner, uint64_t i, struct chunk *ret_chunk)
{
        *ret_chunk = ((const struct chunk *)owner)[i];
}

static void make_world(void)
{
        for (size_t i = 0; i < THINGS; i++) {
                world.thing_len[i] = 10 + i * i * 2300;
                fake_bytes(world.things[i], world.thing_len[i], i);
                fake_bytes(world.blobs[i], BLOB_SIZE, 100 + i);
                CHECK_INT(digest_memory(DIGEST_SHA256, world.things[i], world.thing_len[i], &world.thing_digest[i]), 0);
                CHECK_INT(digest_memory(DIGEST_SHA256, world.blobs[i], BLOB_SIZE, &world.blob_digest[i]), 0);
                for (size_t k = 0; k < CHUNKS; k++) {
                        CHECK_INT(sha256_memory(world.blobs[i] + k * CHUNK, CHUNK, world.hashes[i][k]), 0);
                        world.chunks[i][k] = (struct chunk){k * CHUNK, CHUNK, world.hashes[i][k]};
                }
        }
}

static struct store *open_store(const char *dir)
{
        struct store *s;
        struct error err = {0};
        if (store_open(&(struct store_options){.dir = dir}, &s, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        return s;
}

static struct cached *open_cached(struct store *s, size_t i, struct blob *slow)
{
        struct cached *c;
        struct error err = {0};
        struct chunk_table table = {CHUNKS, get_chunk, world.chunks[i]};
        if (cached_open(slow, s, &world.blob_digest[i], BLOB_SIZE, &table, &c, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        return c;
}

/* ---- what the victims do ---- */

/* a first pass as image/ does it: what is there is hashed again, the rest comes, it is published or kept */
static void first_pass(struct store *s, size_t i, uint64_t stop)
{
        int lock = -1;
        struct store_partial *p;
        uint64_t len;
        if (store_lock(s, &world.blob_digest[i], 0, &lock, NULL) < 0)
                return;
        if (store_partial_open(s, &world.blob_digest[i], BLOB_SIZE, &p, &len, NULL) < 0 || !p)
                _exit(1);
        static uint8_t had[BLOB_SIZE];
        if (len == BLOB_SIZE && (store_partial_read(p, had, BLOB_SIZE, 0) != BLOB_SIZE ||
                                        memcmp(had, world.blobs[i], BLOB_SIZE) != 0)) {
                store_partial_discard(p); /* its digest is not right */
                closep(&lock);
                return;
        }
        stop = MIN(stop, (uint64_t)BLOB_SIZE);
        for (uint64_t off = len; off < stop; off += 7000) {
                size_t part = (size_t)MIN((uint64_t)7000, BLOB_SIZE - off);
                if (store_partial_append(p, world.blobs[i] + off, part, NULL) < 0)
                        _exit(1);
                len = off + part;
        }
        if (len < BLOB_SIZE)
                store_partial_keep(p);
        else if (store_partial_publish(p, CHUNKS, NULL) < 0)
                _exit(1);
        closep(&lock);
}

static void show(enum log_topic topic, const char *line, void *ctx)
{
        (void)topic, (void)ctx;
        fprintf(stderr, "%s\n", line);
}

static void victim(const char *dir, uint64_t seed)
{
        log_setup(0, show, NULL);
        struct store *s = open_store(dir);
        uint8_t data[CHUNK * 3];
        for (;;) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                size_t i = (size_t)(seed >> 40) % THINGS, j = (size_t)(seed >> 20) % THINGS;
                size_t k = (size_t)(seed >> 10) % (CHUNKS - 2);
                struct digest *d = &world.thing_digest[i];
                switch (seed >> 60) {
                case 0:
                case 1: store_put(s, STORE_DOC, d, world.things[i], world.thing_len[i], NULL); break;
                case 2:
                case 3: store_put(s, STORE_INDEX, d, world.things[i], world.thing_len[i], NULL); break;
                case 4:
                case 5: store_put_name(s, "name", world.things[i], world.thing_len[i] % 5000, NULL); break;
                case 6:
                case 7:
                case 8: first_pass(s, i, (seed >> 30) % (BLOB_SIZE * 3 / 2)); break;
                case 9: store_remove(s, 1u << j % 3, NULL, NULL, NULL); break;
                case 10: store_gc(s, BLOB_SIZE * 2, NULL, NULL); break;
                case 11:
                        store_close(s);
                        s = open_store(dir);
                        break;
                default: {
                        struct fake_blob *slow = fake_blob_new(world.blobs[i], BLOB_SIZE);
                        struct cached *c = open_cached(s, i, &slow->blob);
                        if (cached_read(c, k, 3, data, NULL) < 0 ||
                                memcmp(data, world.blobs[i] + k * CHUNK, sizeof data))
                                _exit(2);
                        cached_close(c);
                        blob_unref(&slow->blob);
                }
                }
        }
}

/* ---- what must hold afterwards ---- */

struct tally {
        unsigned docs, indexes, names, chunks, partials;
};

static void check_files(struct store *s, struct tally *t)
{
        struct buf out;
        buf_init(&out, 1 << 20);
        for (size_t i = 0; i < THINGS; i++) {
                const struct digest *d = &world.thing_digest[i];
                for (int kind = 0; kind < 2; kind++) {
                        buf_clear(&out);
                        int r = store_get(s, kind ? STORE_INDEX : STORE_DOC, d, &out, NULL);
                        if (r == -ENOENT)
                                continue;
                        CHECK_INT(r, 0);
                        CHECK_INT(out.len, world.thing_len[i]);
                        CHECK_MEM(out.data, world.things[i], out.len);
                        *(kind ? &t->indexes : &t->docs) += 1;
                }
        }
        buf_clear(&out);
        if (store_get_name(s, "name", &out, NULL) == 0) {
                bool known = false;
                for (size_t i = 0; i < THINGS; i++)
                        known = known || (out.len == world.thing_len[i] % 5000 &&
                                                 memcmp(out.data, world.things[i], out.len) == 0);
                CHECK(known);
                t->names++;
        }
        buf_done(&out);
}

static void check_blobs(struct store *s, struct tally *t)
{
        static uint8_t got[BLOB_SIZE];
        for (size_t i = 0; i < THINGS; i++) {
                struct store_partial *p;
                uint64_t len;
                CHECK_INT(store_partial_open(s, &world.blob_digest[i], BLOB_SIZE, &p, &len, NULL), 0);
                if (len) {
                        CHECK_INT(store_partial_read(p, got, BLOB_SIZE, 0), len);
                        /* one of full length may have been a blob whose map promised too much; its digest tells */
                        if (len < BLOB_SIZE)
                                CHECK_MEM(got, world.blobs[i], len);
                        store_partial_keep(p);
                        t->partials++;
                } else {
                        store_partial_discard(p);
                }
                struct cached *c = open_cached(s, i, NULL);
                for (size_t k = 0; k < CHUNKS; k++) {
                        int r = cached_read(c, k, 1, got, NULL);
                        CHECK(r == 0 || r == -ENOENT);
                        if (r == 0)
                                CHECK_MEM(got, world.blobs[i] + k * CHUNK, CHUNK);
                        t->chunks += r == 0;
                }
                cached_close(c);
        }
}

static void check_store(const char *dir, struct tally *t)
{
        char path[300];
        struct store *s = open_store(dir);
        CHECK(store_writable(s));
        snprintf(path, sizeof path, "%s/v1/tmp", dir);
        DIR *tmp = opendir(path);
        CHECK(tmp);
        for (struct dirent *e; (e = readdir(tmp));)
                CHECK(e->d_name[0] == '.');
        closedir(tmp);
        check_files(s, t);
        check_blobs(s, t);
        store_close(s);
}

TEST(killed_in_the_middle)
{
        TEMP_DIR(dir);
        struct tally tally = {0};
        time_t begin = time(NULL);
        uint64_t seed = (uint64_t)begin;
        unsigned round = 0;
        make_world();
        for (; round < ROUNDS && time(NULL) - begin < TIME_MAX_S; round++) {
                pid_t pids[2];
                fflush(stdout);
                for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
                        pids[i] = fork();
                        CHECK(pids[i] >= 0);
                        if (pids[i] == 0)
                                victim(dir.path, seed + round * 2 + i);
                }
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                nanosleep(&(struct timespec){.tv_nsec = 2000000 + (long)((seed >> 33) % 25000000)}, NULL);
                for (size_t i = 0; i < ARRAY_LEN(pids); i++)
                        kill(pids[i], SIGKILL);
                for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
                        int status;
                        CHECK_INT(waitpid(pids[i], &status, 0), pids[i]);
                        if (!WIFSIGNALED(status))
                                CHECK_FAIL("a victim ended by itself with %d", WEXITSTATUS(status));
                }
                check_store(dir.path, &tally);
        }
        printf("%u rounds; found %u docs, %u indexes, %u names, %u chunks, %u partial files\n", round, tally.docs,
                tally.indexes, tally.names, tally.chunks, tally.partials);
        CHECK(tally.docs && tally.indexes && tally.names && tally.chunks && tally.partials);
}
