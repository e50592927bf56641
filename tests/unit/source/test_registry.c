/* A registry as a source, over the scripted registry: each way in which it can misbehave, with the content that comes out,
 * the error, and the number of requests. */
#include <fcntl.h>
#include <pthread.h>

#include "base/log.h"
#include "unit/source/faulty.h"

struct pile {
        struct buf bytes;
};

static int pile_sink(void *ctx, const void *data, size_t len)
{
        struct pile *p = ctx;
        buf_add(&p->bytes, data, len);
        return 0;
}

static struct blob *open_blob(struct source *s)
{
        struct blob *b = NULL;
        CHECK_INT(s->ops->blob(s, &faulty.layer, &b, NULL), 0);
        return b;
}

/* Reads a range of the large blob and compares it; returns the code. */
static int read_range(struct blob *b, uint64_t off, size_t len, struct error *err)
{
        char *data = malloc(len);
        CHECK(data);
        int r = blob_read_all(b, data, len, off, err);
        if (r == 0)
                CHECK_MEM(data, faulty.blob + off, len);
        free(data);
        return r;
}

/* One read of a fresh source under these circumstances. */
static int read_once(const char *config, const char *faults, struct error *err)
{
        faulty_set(config, faults);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        return read_range(b, 1000000, 300000, err);
}

static int stream_once(const char *config, const char *faults, uint64_t off, struct error *err)
{
        faulty_set(config, faults);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        struct pile p;
        buf_init(&p.bytes, FAULTY_BLOB_LEN);
        int r = blob_stream(b, off, pile_sink, &p, err);
        if (r == 0) {
                CHECK_INT(p.bytes.len, FAULTY_BLOB_LEN - off);
                CHECK_MEM(p.bytes.data, faulty.blob + off, p.bytes.len);
        }
        buf_done(&p.bytes);
        return r;
}

static int resolve(struct source *s, const struct digest *known, struct error *err)
{
        struct buf out;
        buf_init(&out, SOURCE_MANIFEST_MAX);
        char *type = NULL;
        int r = s->ops->resolve(s, known, &out, &type, err);
        if (r == 0) {
                CHECK_STR(type, faulty.manifest.media_type);
                CHECK_INT(digest_check(&faulty.manifest.digest, out.data, out.len, "manifest", NULL), 0);
        } else {
                CHECK_INT(out.len, 0);
                CHECK(!type);
        }
        free(type);
        buf_done(&out);
        return r;
}

static int resolve_once(const char *image, const char *config, const char *faults, const char *creds, struct error *err)
{
        faulty_set(config, faults);
        cleanup(source_closep) struct source *s = faulty_open(image, creds);
        return resolve(s, NULL, err);
}

TEST(documents)
{
        faulty_set(NULL, NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        CHECK_INT(resolve(s, NULL, NULL), 0);
        CHECK_INT(faulty_count("/v2/", NULL, 0), 1);
        CHECK(strncmp(faulty_field("/v2/", 0, "agent"), "imagefs/", 8) == 0);
        CHECK(strstr(faulty_field("/v2/", 0, "accept"), "manifest.list.v2+json"));

        struct buf out;
        buf_init(&out, SOURCE_CONFIG_MAX);
        CHECK_INT(s->ops->manifest(s, &faulty.manifest, &out, NULL), 0);
        CHECK_INT(digest_check(&faulty.manifest.digest, out.data, out.len, "", NULL), 0);
        buf_clear(&out);
        CHECK_INT(s->ops->document(s, &faulty.config, &out, NULL), 0);
        CHECK_INT(digest_check(&faulty.config.digest, out.data, out.len, "", NULL), 0);
        buf_done(&out);
        CHECK_INT(faulty_count("/v2/", NULL, 0), 3);
        CHECK_INT(registry_count(s).requests, 3);
        CHECK_INT(registry_count(s).retries, 0);
}

TEST(a_known_name_costs_a_head)
{
        faulty_set(NULL, NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        CHECK_INT(resolve(s, &faulty.manifest.digest, NULL), 1);
        CHECK_INT(faulty_count("/manifests/", NULL, 0), 1);
        CHECK_STR(faulty_field("/manifests/", 0, "method"), "HEAD");
        CHECK_INT(resolve(s, &faulty.config.digest, NULL), 0); /* it changed */
        CHECK_INT(faulty_count("/manifests/", NULL, 0), 3);
        faulty_set(NULL, "[{\"method\":\"HEAD\",\"kind\":\"status\",\"status\":405}]");
        CHECK_INT(resolve(s, &faulty.manifest.digest, NULL), 0);
        CHECK_INT(faulty_count("/manifests/", NULL, 0), 2);
}

TEST(names_that_do_not_exist)
{
        struct error err = {0};
        CHECK_INT(resolve_once("test/app:none", NULL, NULL, NULL, &err), -ENOENT);
        CHECK(strstr(err.msg, "no such tag none"));
        CHECK_INT(resolve_once("test/other", NULL, NULL, NULL, &err), -ENOENT);
        CHECK(strstr(err.msg, "no such repository"));
        CHECK_INT(faulty_count("/v2/", NULL, 0), 1);
}

TEST(ranges)
{
        struct error err = {0};
        CHECK_INT(read_once(NULL, NULL, &err), 0);
        CHECK_INT(faulty_count("/blobs/", NULL, 206), 1);
        CHECK_STR(faulty_field("/blobs/", 0, "range"), "bytes=1000000-1299999");
        CHECK_INT(stream_once(NULL, NULL, 0, &err), 0);
        CHECK_INT(stream_once(NULL, NULL, 1234567, &err), 0);
        CHECK_INT(faulty_count("/blobs/", NULL, 0), 1);
}

TEST(keep_alive)
{
        faulty_set(NULL, NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        for (int i = 0; i < 10; i++)
                CHECK_INT(read_range(b, (uint64_t)i * 4096, 4096, NULL), 0);
        json_t *json = faulty_control("counts", NULL), *e;
        size_t i;
        json_int_t first = 0;
        json_array_foreach(json_object_get(json, "requests"), i, e)
        {
                json_int_t c = json_integer_value(json_object_get(e, "connection"));
                first = i == 0 ? c : first;
                CHECK_INT(c, first);
        }
        CHECK_INT(i, 10);
        json_free(json);
}

TEST(trouble_that_passes)
{
        static const struct {
                const char *faults;
                int requests;
        } cases[] = {
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":503,\"times\":2}]", 3},
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":500}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":429,\"headers\":{\"Retry-After\":\"0\"}}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"reset\",\"times\":2}]", 3},
                {"[{\"path\":\"blobs\",\"kind\":\"cut\",\"after\":100000}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"cut\",\"after\":0}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"chunked\",\"after\":5000}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"chunked\"}]", 1},
                {"[{\"path\":\"blobs\",\"kind\":\"short\",\"max\":100000}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"range\",\"value\":\"bytes 0-299999/3000007\"}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"range\",\"value\":\"\"}]", 2},
                {"[{\"path\":\"blobs\",\"kind\":\"range\",\"value\":\"bytes 1000000-1299999/*\"}]", 1},
                {"[{\"path\":\"blobs\",\"kind\":\"gzip\"}]", 2},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct error err = {0};
                if (read_once(NULL, cases[i].faults, &err) != 0)
                        CHECK_FAIL("%s: %s", cases[i].faults, err.msg);
                if (faulty_count("/blobs/", NULL, 0) != cases[i].requests)
                        CHECK_FAIL("%s: %d requests, not %d", cases[i].faults, faulty_count("/blobs/", NULL, 0),
                                cases[i].requests);
        }
        /* what was received is not asked for again */
        CHECK_INT(read_once(NULL, "[{\"path\":\"blobs\",\"kind\":\"cut\",\"after\":100000}]", NULL), 0);
        CHECK_STR(faulty_field("/blobs/", 1, "range"), "bytes=1100000-1299999");
}

TEST(stalls)
{
        faulty.stall_ms = 1000;
        CHECK_INT(read_once(NULL, "[{\"path\":\"blobs\",\"kind\":\"stall\",\"after\":1000,\"seconds\":600}]", NULL), 0);
        CHECK(faulty_count("/blobs/", NULL, 0) >= 2);
        CHECK_STR(faulty_field("/blobs/", 1, "range"), "bytes=1001000-1299999");
        faulty.stall_ms = 0; /* on a busy machine a second is nothing */
}

TEST(trouble_that_stays)
{
        static const struct {
                const char *faults;
                int code, requests;
                const char *words;
        } cases[] = {
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":503,\"times\":0}]", -ENETUNREACH, 4, "503"},
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":429,\"times\":0}]", -ENETUNREACH, 4,
                        "rate limit"},
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":429,\"headers\":{\"Retry-After\":\"10\"}}]",
                        -ENETUNREACH, 1, "after 10"},
                {"[{\"path\":\"blobs\",\"kind\":\"reset\",\"times\":0}]", -ENETUNREACH, 4, "broke"},
                {"[{\"path\":\"blobs\",\"kind\":\"cut\",\"after\":0,\"times\":0}]", -ENETUNREACH, 4, "broke"},
                {"[{\"path\":\"blobs\",\"kind\":\"chunked\",\"after\":0,\"times\":0}]", -EBADMSG, 4, "ends early"},
                {"[{\"path\":\"blobs\",\"kind\":\"gzip\",\"times\":0}]", -EPROTO, 4, "encoded"},
                {"[{\"path\":\"blobs\",\"kind\":\"range\",\"value\":\"bytes 5-9/10\",\"times\":0}]", -EPROTO, 4,
                        "another range"},
                {"[{\"path\":\"blobs\",\"kind\":\"range\",\"value\":\"bytes 1000000-1299999/99999999\"}]", -EBADMSG, 1,
                        "manifest says"},
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":416}]", -EBADMSG, 1, "416|size"},
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":404}]", -ENOENT, 1, "no such blob"},
                {"[{\"path\":\"blobs\",\"kind\":\"redirect\",\"times\":0}]", -EPROTO, 1, "redirect"},
                {"[{\"path\":\"blobs\",\"kind\":\"redirect\",\"location\":\"?x\"},{\"path\":\"blobs\",\"kind\":"
                 "\"redirect\",\"location\":\"?y\",\"times\":0}]",
                        -EPROTO, 3, "redirect"},
                {"[{\"path\":\"blobs\",\"kind\":\"redirect\",\"location\":\"file:///etc/passwd\",\"times\":0}]",
                        -EPROTO, 1, "redirect"},
                {"[{\"path\":\"blobs\",\"kind\":\"redirect\",\"location\":\"ftp://127.0.0.1/x\",\"times\":0}]", -EPROTO,
                        1, "redirect"},
                {"[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":204}]", -EPROTO, 1, "204"},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct error err = {0};
                int r = read_once(NULL, cases[i].faults, &err), n = faulty_count("/blobs/", NULL, 0);
                const char *words = strchr(cases[i].words, '|') ? strchr(cases[i].words, '|') + 1 : cases[i].words;
                if (r != cases[i].code || n != cases[i].requests || !strstr(err.msg, words))
                        CHECK_FAIL("%s: %d, %d requests: %s", cases[i].faults, r, n, err.msg);
        }
}

TEST(rate_limits)
{
        struct error err = {0};
        CHECK_INT(resolve_once("test/app", NULL,
                          "[{\"path\":\"manifests\",\"kind\":\"status\",\"status\":429,\"times\":0,\"headers\":"
                          "{\"ratelimit-limit\":\"100;w=21600\",\"ratelimit-remaining\":\"0;w=21600\"}}]",
                          NULL, &err),
                -ENETUNREACH);
        CHECK(strstr(err.msg, "100;w=21600"));
        CHECK_INT(faulty_count("manifests", NULL, 0), 1);
}

TEST(recovery_after_giving_up)
{
        faulty_set(NULL, "[{\"path\":\"blobs\",\"kind\":\"status\",\"status\":503,\"times\":4}]");
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        CHECK_INT(read_range(b, 5, 5, NULL), -ENETUNREACH);
        CHECK_INT(read_range(b, 5, 5, NULL), 0);
        CHECK_INT(registry_count(s).retries, 3);
}

TEST(streams_go_on_where_they_broke)
{
        CHECK_INT(
                stream_once(NULL, "[{\"path\":\"blobs\",\"kind\":\"cut\",\"after\":1000000,\"times\":2}]", 0, NULL), 0);
        CHECK_INT(faulty_count("/blobs/", NULL, 0), 3);
        CHECK_STR(faulty_field("/blobs/", 2, "range"), "bytes=2000000-3000006");
        /* without ranges the same bytes come again and are passed over; no progress, no end otherwise */
        CHECK_INT(stream_once("{\"ranges\":false}",
                          "[{\"path\":\"blobs\",\"kind\":\"cut\",\"after\":1000000,\"times\":2}]", 0, NULL),
                0);
        CHECK_INT(stream_once("{\"ranges\":false}",
                          "[{\"path\":\"blobs\",\"kind\":\"cut\",\"after\":1000000,\"times\":0}]", 0, NULL),
                -ENETUNREACH);
        CHECK_INT(stream_once("{\"max_range\":50000}", NULL, 100, NULL), 0);
        CHECK_INT(faulty_count("/blobs/", NULL, 0), 60);
}

TEST(servers_without_ranges)
{
        faulty_set("{\"ranges\":false}", NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        CHECK(!atomic_load(&b->sequential));
        CHECK_INT(read_range(b, 1000, 1000, NULL), 0);
        CHECK(atomic_load(&b->sequential));
        CHECK_INT(read_range(b, FAULTY_BLOB_LEN - 10, 10, NULL), 0);
}

TEST(signed_addresses)
{
        faulty_set("{\"redirect\":true,\"auth\":\"bearer\"}", NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        for (int i = 0; i < 5; i++)
                CHECK_INT(read_range(b, (uint64_t)i * 1000, 1000, NULL), 0);
        CHECK_INT(faulty_count("/blobs/", "registry", 307), 1);
        CHECK_INT(faulty_count("/data/", "storage", 206), 5);
        CHECK_STR(faulty_field("/data/", 0, "auth"), "");
        static const int statuses[] = {401, 403, 400};
        for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
                char config[100];
                snprintf(
                        config, sizeof config, "{\"redirect\":true,\"url_uses\":2,\"expired_status\":%d}", statuses[i]);
                faulty_set(config, NULL);
                for (int n = 0; n < 6; n++)
                        CHECK_INT(read_range(b, (uint64_t)n * 1000, 1000, NULL), 0);
                CHECK_INT(faulty_count("/blobs/", "registry", 307), 3);
                CHECK_INT(faulty_count("/data/", "storage", statuses[i]), 3); /* the old address, then every third */
                CHECK_INT(faulty_count("/token", NULL, 0), 0);
        }
}

TEST(storage_that_refuses_for_good)
{
        struct error err = {0};
        CHECK_INT(read_once("{\"redirect\":true}",
                          "[{\"port\":\"storage\",\"kind\":\"status\",\"status\":403,\"times\":0}]", &err),
                -EPROTO);
        CHECK(strstr(err.msg, "403"));
        CHECK(!strstr(err.msg, "sig="));
        CHECK_INT(faulty_count("/blobs/", "registry", 307), 3);
        /* a challenge from there is not answered, not even with a token of the registry's own realm */
        CHECK_INT(read_once("{\"redirect\":true,\"auth\":\"bearer\"}",
                          "[{\"port\":\"storage\",\"kind\":\"status\",\"status\":401,\"times\":0,\"headers\":"
                          "{\"WWW-Authenticate\":\"Bearer realm=\\\"http://127.0.0.1:1/token\\\"\"}}]",
                          &err),
                -EPROTO);
        CHECK_INT(faulty_count("/token", NULL, 0), 1);
}

struct readers {
        struct blob *b;
        struct source *s;
        atomic_int failed;
};

static void *reader(void *arg)
{
        struct readers *r = arg;
        for (int i = 0; i < 20; i++) {
                uint64_t off = (uint64_t)i * 7919 * 13 % (FAULTY_BLOB_LEN - 5000);
                char data[5000];
                if (blob_read_all(r->b, data, sizeof data, off, NULL) < 0 ||
                        memcmp(data, faulty.blob + off, sizeof data) != 0)
                        atomic_fetch_add(&r->failed, 1);
        }
        return NULL;
}

static void read_in_parallel(struct blob *b)
{
        struct readers r = {.b = b};
        pthread_t threads[8];
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                CHECK_INT(pthread_create(&threads[i], NULL, reader, &r), 0);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                pthread_join(threads[i], NULL);
        CHECK_INT(atomic_load(&r.failed), 0);
}

TEST(one_thread_for_all)
{
        faulty_set("{\"redirect\":true,\"auth\":\"bearer\"}", NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        read_in_parallel(b);
        CHECK_INT(faulty_count("/token", NULL, 0), 1);
        CHECK_INT(faulty_count("/blobs/", "registry", 307), 1);
        json_free(faulty_control("expire", "{}"));
        read_in_parallel(b);
        CHECK_INT(faulty_count("/token", NULL, 0), 2);
        CHECK_INT(faulty_count("/blobs/", "registry", 307), 2);
        CHECK_INT(faulty_count("/data/", "storage", 206), 320);
}

TEST(bearer_tokens)
{
        faulty_set("{\"auth\":\"bearer\"}", NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        CHECK_INT(resolve(s, NULL, NULL), 0);
        CHECK_INT(faulty_count("/token", NULL, 0), 1);
        CHECK(strstr(faulty_field("/token", 0, "query"), "scope=repository:test/app:pull&"));
        CHECK(strstr(faulty_field("/token", 0, "query"), "service=faulty"));
        CHECK_STR(faulty_field("/token", 0, "auth"), "");
        json_free(faulty_control("expire", "{}"));
        CHECK_INT(resolve(s, NULL, NULL), 0);
        CHECK_INT(faulty_count("/token", NULL, 0), 2);
        CHECK_INT(resolve(s, NULL, NULL), 0);
        CHECK_INT(faulty_count("/token", NULL, 0), 2);
        CHECK_INT(faulty_count("/manifests/", NULL, 401), 2);
        /* opaque scope of the server's own; the other name of the field */
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\",\"scope\":\"aws\",\"token_key\":\"access_token\"}",
                          NULL, NULL, NULL),
                0);
        CHECK(strstr(faulty_field("/token", 0, "query"), "scope=repository:test/app:pull&scope=aws"));
}

static void *resolver(void *arg)
{
        struct readers *r = arg;
        struct buf out;
        char *type = NULL;
        buf_init(&out, SOURCE_MANIFEST_MAX);
        if (r->s->ops->resolve(r->s, NULL, &out, &type, NULL) != 0)
                atomic_fetch_add(&r->failed, 1);
        free(type);
        buf_done(&out);
        return NULL;
}

TEST(one_token_for_all)
{
        /* the tokens come late, so that everybody has got a 401 meanwhile */
        faulty_set("{\"auth\":\"bearer\",\"token_delay\":0.3}", NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        for (int round = 1; round <= 2; round++) {
                struct readers r = {.s = s};
                pthread_t threads[8];
                for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                        CHECK_INT(pthread_create(&threads[i], NULL, resolver, &r), 0);
                for (size_t i = 0; i < ARRAY_LEN(threads); i++)
                        pthread_join(threads[i], NULL);
                CHECK_INT(atomic_load(&r.failed), 0);
                CHECK_INT(faulty_count("/token", NULL, 0), round);
                json_free(faulty_control("expire", "{}"));
        }
}

struct soak {
        struct blob *b;
        unsigned seed;
        int good, bad, wrong;
};

static void *soaker(void *arg)
{
        struct soak *k = arg;
        for (int i = 0; i < 40; i++) {
                char data[9000];
                size_t len = 1 + (size_t)rand_r(&k->seed) % sizeof data;
                uint64_t off = (uint64_t)rand_r(&k->seed) % (FAULTY_BLOB_LEN - sizeof data);
                int r = blob_read_all(k->b, data, len, off, NULL);
                k->good += r == 0;
                k->bad += r < 0;
                k->wrong += r == 0 && memcmp(data, faulty.blob + off, len) != 0;
        }
        return NULL;
}

/* 16 threads; the sums over all of them. */
static struct soak soak(struct blob *b)
{
        struct soak k[16], sum = {0};
        pthread_t threads[16];
        for (unsigned i = 0; i < 16; i++) {
                k[i] = (struct soak){.b = b, .seed = i};
                CHECK_INT(pthread_create(&threads[i], NULL, soaker, &k[i]), 0);
        }
        for (unsigned i = 0; i < 16; i++) {
                pthread_join(threads[i], NULL);
                sum.good += k[i].good;
                sum.bad += k[i].bad;
                sum.wrong += k[i].wrong;
        }
        return sum;
}

TEST(right_bytes_or_an_error)
{
        static const char faults[] =
                "[{\"path\":\"data\",\"times\":0,\"chance\":0.1,\"kind\":\"status\",\"status\":503},"
                "{\"path\":\"data\",\"times\":0,\"chance\":0.1,\"kind\":\"status\",\"status\":403},"
                "{\"path\":\"data\",\"times\":0,\"chance\":0.1,\"kind\":\"cut\",\"after\":1000},"
                "{\"path\":\"data\",\"times\":0,\"chance\":0.1,\"kind\":\"reset\"},"
                "{\"path\":\"data\",\"times\":0,\"chance\":0.1,\"kind\":\"short\",\"max\":3000},"
                "{\"path\":\"data\",\"times\":0,\"chance\":0.1,\"kind\":\"range\",\"value\":\"bytes 0-9/3000007\"},"
                "{\"path\":\"blobs\",\"times\":0,\"chance\":0.2,\"kind\":\"status\",\"status\":500}]";
        faulty_set("{\"redirect\":true,\"auth\":\"bearer\"}", faults);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        struct soak k = soak(b);
        CHECK_INT(k.wrong, 0);
        CHECK(k.good > 300);
        json_free(faulty_control("faults", "[]"));
        k = soak(b);
        CHECK_INT(k.wrong, 0);
        CHECK_INT(k.good, 640);
}

TEST(documents_that_are_too_long)
{
        faulty_set(NULL, NULL);
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        struct error err = {0};
        struct descriptor d = faulty.manifest;
        struct buf out;
        buf_init(&out, SOURCE_MANIFEST_MAX);
        d.size--;
        CHECK_INT(s->ops->manifest(s, &d, &out, &err), -EFBIG);
        d = faulty.config;
        d.size--;
        CHECK_INT(s->ops->document(s, &d, &out, &err), -EBADMSG);
        d.size = (uint64_t)1 << 40;
        CHECK_INT(s->ops->document(s, &d, &out, &err), -EFBIG);
        CHECK_INT(s->ops->manifest(s, &d, &out, &err), -EFBIG);
        CHECK_INT(out.len, 0);
        buf_done(&out);
}

TEST(logins)
{
        struct error err = {0};
        static const char *const kinds[] = {"{\"auth\":\"bearer\",\"public\":false}", "{\"auth\":\"basic\"}"};
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
                CHECK_INT(resolve_once("test/app", kinds[i], NULL, NULL, &err), -EACCES);
                CHECK(strstr(err.msg, "docker login 127.0.0.1:"));
                CHECK_INT(resolve_once("test/app", kinds[i], NULL, "user:wrong", &err), -EACCES);
                CHECK(!strstr(err.msg, "wrong"));
                CHECK_INT(resolve_once("test/app", kinds[i], NULL, "user:pass:word", &err), 0);
        }
        /* a token server that wants a POST */
        CHECK_INT(resolve_once("test/app", kinds[0],
                          "[{\"path\":\"/token\",\"method\":\"GET\",\"kind\":\"status\",\"status\":405,\"times\":0}]",
                          "user:pass:word", &err),
                0);
        CHECK_INT(faulty_count("/token", NULL, 0), 2);
        CHECK_STR(faulty_field("/token", 1, "method"), "POST");
}

/* Writes ~/.docker/config.json with one entry for the registry. */
static void docker_config(const char *entry)
{
        char path[100], text[600];
        snprintf(path, sizeof path, "%s/.docker", faulty.dir);
        mkdir(path, 0700);
        snprintf(text, sizeof text, "{\"auths\":{\"127.0.0.1:%u\":%s}}", faulty.registry, entry);
        faulty_write(".docker/config.json", text, strlen(text));
}

TEST(docker_logins)
{
        struct error err = {0};
        faulty_start();
        docker_config("{\"auth\":\"dXNlcjpwYXNzOndvcmQ=\"}");
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"basic\"}", NULL, NULL, &err), 0);
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\",\"public\":false}", NULL, NULL, &err), 0);
        CHECK_STR(faulty_field("/token", 0, "auth"), "basic");
        docker_config("{\"auth\":\"PHRva2VuPjo=\",\"identitytoken\":\"id-token\"}");
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\",\"public\":false,\"identity\":\"id-token\"}", NULL,
                          NULL, &err),
                0);
        CHECK_STR(faulty_field("/token", 0, "method"), "POST");
        CHECK_INT(
                resolve_once("test/app", "{\"auth\":\"bearer\",\"identity\":\"another\"}", NULL, NULL, &err), -EACCES);
        CHECK(strstr(err.msg, "config.json") && !strstr(err.msg, "id-token"));
        docker_config("{\"registrytoken\":\"not-good\"}");
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\"}", NULL, NULL, &err), -EACCES);
        CHECK_INT(faulty_count("/token", NULL, 0), 0);
        docker_config("{}");
}

/* The image under a name whose registry has a mirror. */
static struct source *open_mirrored(const char *conf, const char *creds, struct error *err)
{
        char path[100];
        struct reference ref = {0};
        faulty_write("mirrors.conf", conf, strlen(conf));
        snprintf(path, sizeof path, "%s/mirrors.conf", faulty.dir);
        CHECK_INT(reference_parse_name("test/app", &ref, NULL), 0);
        struct http_options http = {.backoff_ms = 2, .tries = 3};
        struct registry_options o = {.tls_verify = -1, .registries_conf = path, .creds = creds, .http = &http};
        struct source *s = NULL;
        if (registry_open(&ref, &o, &s, err) < 0)
                CHECK_FAIL("%s", err->msg);
        reference_done(&ref);
        return s;
}

TEST(mirrors)
{
        struct error err = {0};
        char conf[600];
        static const char mirror[] = "[[registry]]\nprefix = \"docker.io/test\"\nlocation = \"127.0.0.1:1/none\"\n"
                                     "[[registry.mirror]]\nlocation = \"127.0.0.1:%u/%s\"\n";
        faulty_set(NULL, NULL);
        snprintf(conf, sizeof conf, mirror, faulty.registry, "test");
        {
                cleanup(source_closep) struct source *s = open_mirrored(conf, "user:pass:word", &err);
                cleanup(blob_unrefp) struct blob *b = open_blob(s);
                CHECK_INT(resolve(s, NULL, NULL), 0);
                CHECK_INT(read_range(b, 100, 100, NULL), 0);
        }
        /* the login is the registry's, not the mirror's */
        faulty_set("{\"auth\":\"basic\"}", NULL);
        {
                cleanup(source_closep) struct source *s = open_mirrored(conf, "user:pass:word", &err);
                CHECK_INT(resolve(s, NULL, &err), -EACCES); /* which says more than that nobody is at 127.0.0.1:1 */
                CHECK_STR(faulty_field("/v2/", 0, "auth"), "");
                CHECK_INT(faulty_count("/v2/", NULL, 0), 1);
        }
        /* a mirror that does not have it: the registry itself is asked */
        snprintf(conf, sizeof conf,
                "[[registry]]\nprefix = \"docker.io/test\"\nlocation = \"127.0.0.1:%u/test\"\n"
                "[[registry.mirror]]\nlocation = \"127.0.0.1:1/x\"\n[[registry.mirror]]\nlocation = "
                "\"127.0.0.1:%u/x\"\n",
                faulty.registry, faulty.registry);
        faulty_set(NULL, NULL);
        {
                cleanup(source_closep) struct source *s = open_mirrored(conf, NULL, &err);
                cleanup(blob_unrefp) struct blob *b = open_blob(s);
                CHECK_INT(resolve(s, NULL, NULL), 0);
                CHECK_INT(read_range(b, 100, 100, NULL), 0);
                CHECK_INT(faulty_count("/v2/x/app/", NULL, 404), 1);
                CHECK_INT(faulty_count("/v2/test/app/", NULL, 0), 2);
        }
}

TEST(proxies)
{
        struct error err = {0};
        char proxy[60];
        faulty_set(NULL, NULL);
        snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", faulty.registry);
        setenv("http_proxy", proxy, 1); /* which answers for every host here */
        cleanup(source_closep) struct source *s = open_mirrored("[[registry]]\nprefix = \"docker.io/test\"\nlocation = "
                                                                "\"registry.invalid:5000/test\"\ninsecure = true\n",
                NULL, &err);
        CHECK_INT(resolve(s, NULL, &err), 0);
        CHECK_INT(faulty_count("/v2/test/app/", NULL, 0), 1);
        setenv("http_proxy", "http://127.0.0.1:1", 1); /* which is not asked about this machine */
        cleanup(source_closep) struct source *local = faulty_open("test/app", NULL);
        CHECK_INT(resolve(local, NULL, NULL), 0);
        unsetenv("http_proxy");
}

static int warnings;

static void count_warnings(enum log_topic topic, const char *line, void *ctx)
{
        (void)ctx;
        warnings += topic == LOG_WARNING && strstr(line, "repository moves") != NULL;
}

TEST(warnings_are_shown_once)
{
        log_setup(0, count_warnings, NULL);
        faulty_set(NULL, "[{\"path\":\"/v2/\",\"kind\":\"headers\",\"times\":0,\"headers\":{\"Warning\":\"299 - "
                         "\\\"repository moves\\\"\"}}]");
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        CHECK_INT(resolve(s, NULL, NULL), 0);
        CHECK_INT(resolve(s, NULL, NULL), 0);
        CHECK_INT(warnings, 1);
        log_setup(0, NULL, NULL);
}

TEST(token_servers_that_are_not_asked)
{
        struct error err = {0};
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\",\"realm\":\"http://auth.example.com/token\"}", NULL,
                          "user:pass:word", &err),
                -EACCES);
        CHECK(strstr(err.msg, "not https"));
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\",\"realm\":\"file:///etc/passwd\"}", NULL, NULL, &err),
                -EPROTO);
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\"}",
                          "[{\"path\":\"/token\",\"kind\":\"status\",\"status\":404}]", NULL, &err),
                -EPROTO);
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\"}",
                          "[{\"path\":\"/"
                          "token\",\"kind\":\"status\",\"status\":200,\"body\":\"{\\\"token\\\":\\\"a\\\\r\\\\nb\\\"}"
                          "\"}]",
                          NULL, &err),
                -EPROTO);
        CHECK_INT(resolve_once("test/app", "{\"auth\":\"bearer\"}",
                          "[{\"path\":\"/token\",\"kind\":\"status\",\"status\":503}]", NULL, &err),
                0);
}

TEST(foreign_layers)
{
        faulty_set(NULL, "[{\"path\":\"/v2/.*blobs\",\"kind\":\"status\",\"status\":404,\"times\":0}]");
        char url[300], text[DIGEST_MAX_TEXT];
        /* the registry itself under another path stands for a third party */
        snprintf(url, sizeof url, "http://127.0.0.1:%u/data/%s?sig=none", faulty.storage,
                digest_format(&faulty.layer.digest, text));
        char *urls[] = {(char *)"file:///etc/passwd", url, NULL};
        struct descriptor d = faulty.layer;
        d.urls = urls;
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = NULL;
        CHECK_INT(s->ops->blob(s, &d, &b, NULL), 0);
        CHECK_INT(read_range(b, 10, 10, NULL), -ENOENT); /* refused there, too: the registry's word is what counts */
        CHECK_INT(faulty_count("/data/", "storage", 403), 1);
        CHECK_STR(faulty_field("/data/", 0, "auth"), "");
}

TEST(streams_in_pieces)
{
        static const struct {
                const char *config, *faults;
                int code;
        } cases[] = {
                {NULL, NULL},
                {"{\"redirect\":true,\"auth\":\"bearer\"}", NULL},
                {"{\"redirect\":true,\"url_uses\":3}", NULL},
                {"{\"max_range\":40000}", NULL},
                {"{\"ranges\":false}", NULL},
                {NULL, "[{\"path\":\"blobs\",\"skip\":5,\"times\":4,\"kind\":\"noranges\"}]"},
                {NULL, "[{\"path\":\"blobs\",\"skip\":3,\"times\":3,\"kind\":\"cut\",\"after\":1000}]"},
                {NULL, "[{\"path\":\"blobs\",\"skip\":3,\"times\":3,\"kind\":\"reset\"}]"},
                {NULL, "[{\"path\":\"blobs\",\"skip\":9,\"times\":0,\"kind\":\"status\",\"status\":503}]",
                        -ENETUNREACH},
                {NULL, "[{\"path\":\"blobs\",\"skip\":9,\"times\":0,\"kind\":\"status\",\"status\":416}]", -EBADMSG},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct error err = {0};
                faulty.piece_len = 100000;
                int r = stream_once(cases[i].config, cases[i].faults, 5, &err);
                if (r != cases[i].code)
                        CHECK_FAIL("%zu: %d %s", i, r, err.msg);
        }
        CHECK_INT(stream_once(NULL, NULL, 0, NULL), 0);
        CHECK_INT(faulty_count("/blobs/", NULL, 206), 31);
        faulty.piece_len = 0;
}

static int slow_sink(void *ctx, const void *data, size_t len)
{
        struct pile *p = ctx;
        if (len > 50000)
                usleep(5000); /* the helpers run ahead */
        buf_add(&p->bytes, data, len);
        return 0;
}

TEST(pieces_wait_for_a_slow_sink)
{
        faulty_set(NULL, NULL);
        faulty.piece_len = 60000;
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        faulty.piece_len = 0;
        struct pile p;
        buf_init(&p.bytes, FAULTY_BLOB_LEN);
        CHECK_INT(blob_stream(b, 0, slow_sink, &p, NULL), 0);
        CHECK_INT(p.bytes.len, FAULTY_BLOB_LEN);
        CHECK_MEM(p.bytes.data, faulty.blob, FAULTY_BLOB_LEN);
        buf_done(&p.bytes);
}

static int sleepy_sink(void *ctx, const void *data, size_t len)
{
        struct pile *p = ctx;
        if (p->bytes.len == 0)
                sleep(2);
        buf_add(&p->bytes, data, len);
        return 0;
}

TEST(a_slow_sink_is_no_stall)
{
        faulty_set(NULL, NULL);
        faulty.stall_ms = 1000;
        cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
        cleanup(blob_unrefp) struct blob *b = open_blob(s);
        faulty.stall_ms = 0;
        struct pile p;
        buf_init(&p.bytes, FAULTY_BLOB_LEN);
        CHECK_INT(blob_stream(b, FAULTY_BLOB_LEN - 100, sleepy_sink, &p, NULL), 0);
        CHECK_INT(faulty_count("/blobs/", NULL, 0), 1);
        CHECK_MEM(p.bytes.data, faulty.blob + FAULTY_BLOB_LEN - 100, 100);
        buf_done(&p.bytes);
}

static int stop_sink(void *ctx, const void *data, size_t len)
{
        (void)data;
        *(size_t *)ctx += len;
        return *(size_t *)ctx > 1000000 ? -ENOTBLK : 0;
}

TEST(sinks_that_give_up)
{
        for (int pieces = 0; pieces < 2; pieces++) {
                faulty_set(NULL, NULL);
                faulty.piece_len = pieces ? 100000 : 0;
                cleanup(source_closep) struct source *s = faulty_open("test/app", NULL);
                cleanup(blob_unrefp) struct blob *b = open_blob(s);
                size_t seen = 0;
                CHECK_INT(blob_stream(b, 0, stop_sink, &seen, NULL), -ENOTBLK);
                CHECK_INT(read_range(b, 0, 1000, NULL), 0);
        }
        faulty.piece_len = 0;
}
