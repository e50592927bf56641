#pragma once
/* The scripted registry of tests/e2e/faulty_registry.py, started for one test program: an OCI layout with one image
 * `latest` of one large blob is made, served, told how to misbehave, and asked what it saw. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/json.h"
#include "check.h"
#include "source/http.h"
#include "source/registry.h"

enum { FAULTY_BLOB_LEN = 3 * 1000 * 1000 + 7 };

static struct {
        char dir[64];
        pid_t pid;
        int hold; /* its standard input */
        unsigned registry, storage;
        char *blob;
        struct descriptor layer, config, manifest;
        struct http *http; /* for the controls */
        bool tls;          /* set before the start: https, with the certificate cert.pem and key.pem of dir */
        unsigned piece_len, stall_ms; /* of struct http_options */
        void (*prepare)(void);        /* called when dir is there */
} faulty;

static void faulty_write(const char *name, const void *data, size_t len)
{
        char path[300];
        snprintf(path, sizeof path, "%s/%s", faulty.dir, name);
        FILE *f = fopen(path, "w");
        CHECK(f && fwrite(data, 1, len, f) == len && fclose(f) == 0);
}

static struct descriptor faulty_put(const void *data, size_t len, char *type)
{
        struct descriptor d = {.size = len, .media_type = type};
        CHECK_INT(digest_memory(DIGEST_SHA256, data, len, &d.digest), 0);
        char text[DIGEST_MAX_TEXT], name[200];
        snprintf(name, sizeof name, "layout/blobs/sha256/%s", digest_hex(&d.digest, text));
        faulty_write(name, data, len);
        return d;
}

static void faulty_make_layout(void)
{
        static const char *const dirs[] = {"layout", "layout/blobs", "layout/blobs/sha256"};
        strcpy(faulty.dir, "/tmp/imagefs-test-XXXXXX");
        CHECK(mkdtemp(faulty.dir));
        for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
                char path[200];
                snprintf(path, sizeof path, "%s/%s", faulty.dir, dirs[i]);
                CHECK_INT(mkdir(path, 0700), 0);
        }
        CHECK((faulty.blob = malloc(FAULTY_BLOB_LEN)));
        uint32_t x = 12345;
        for (size_t i = 0; i < FAULTY_BLOB_LEN; i++)
                faulty.blob[i] = (char)((x = x * 1664525u + 1013904223u) >> 24);
        faulty.layer = faulty_put(faulty.blob, FAULTY_BLOB_LEN, (char *)"application/vnd.oci.image.layer.v1.tar+gzip");
        static const char config[] = "{\"architecture\":\"amd64\",\"os\":\"linux\"}";
        faulty.config = faulty_put(config, sizeof config - 1, (char *)"application/vnd.oci.image.config.v1+json");

        char text[3][DIGEST_MAX_TEXT], doc[2000];
        int n = snprintf(doc, sizeof doc,
                "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":%d},\"layers\":[{\"digest\":\"%s\","
                "\"size\":%d}]}",
                digest_format(&faulty.config.digest, text[0]), (int)faulty.config.size,
                digest_format(&faulty.layer.digest, text[1]), FAULTY_BLOB_LEN);
        faulty.manifest = faulty_put(doc, (size_t)n, (char *)"application/vnd.oci.image.manifest.v1+json");
        n = snprintf(doc, sizeof doc,
                "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%d,"
                "\"annotations\":"
                "{\"org.opencontainers.image.ref.name\":\"latest\"}}]}",
                faulty.manifest.media_type, digest_format(&faulty.manifest.digest, text[2]), (int)faulty.manifest.size);
        faulty_write("layout/index.json", doc, (size_t)n);
        faulty_write("registries.conf", "", 0);
        setenv("HOME", faulty.dir, 1);
        static const char *const unset[] = {"DOCKER_CONFIG", "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE",
                "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY",
                "ALL_PROXY", "SSL_CERT_FILE"};
        for (size_t i = 0; i < ARRAY_LEN(unset); i++)
                unsetenv(unset[i]);
}

static void faulty_stop(void)
{
        http_free(faulty.http);
        close(faulty.hold);
        waitpid(faulty.pid, NULL, 0);
        char command[100];
        snprintf(command, sizeof command, "rm -rf '%s'", faulty.dir);
        CHECK_INT(system(command), 0);
        free(faulty.blob);
}

static void faulty_skip(const char *why)
{
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
}

/* Starts the server at the first call. */
static void faulty_start(void)
{
        if (faulty.pid)
                return;
        const char *tests = getenv("TESTS");
        if (!tests)
                faulty_skip("TESTS does not say where tests/ is");
        if (system("python3 -c pass 2>/dev/null") != 0)
                faulty_skip("no python3");
        faulty_make_layout();
        if (faulty.prepare)
                faulty.prepare();
        char script[300], layout[100], cert[100], key[100];
        snprintf(cert, sizeof cert, "%s/cert.pem", faulty.dir);
        snprintf(key, sizeof key, "%s/key.pem", faulty.dir);
        snprintf(script, sizeof script, "%s/e2e/faulty_registry.py", tests);
        snprintf(layout, sizeof layout, "%s/layout", faulty.dir);
        int in[2], out[2];
        CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
        faulty.pid = fork();
        if (faulty.pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGTERM);
                dup2(in[0], 0);
                dup2(out[1], 1);
                execlp("python3", "python3", script, "--layout", layout, faulty.tls ? "--tls" : NULL, cert, key,
                        (char *)NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        faulty.hold = in[1];
        FILE *f = fdopen(out[0], "r");
        char line[200];
        CHECK(f && fgets(line, sizeof line, f));
        CHECK_INT(sscanf(line, "{\"registry\": %u, \"storage\": %u}", &faulty.registry, &faulty.storage), 2);
        fclose(f);
        CHECK_INT(http_new(NULL, &faulty.http, NULL), 0);
        atexit(faulty_stop);
}

static int faulty_sink(void *ctx, const void *data, size_t len)
{
        buf_add(ctx, data, len);
        return 0;
}

/* POSTs to /_control/what, or GETs when post is NULL; gives the parsed answer, json_free() it. */
static json_t *faulty_control(const char *what, const char *post)
{
        char url[100];
        snprintf(
                url, sizeof url, "%s://127.0.0.1:%u/_control/%s", faulty.tls ? "https" : "http", faulty.registry, what);
        struct buf body;
        buf_init(&body, 64 << 20);
        static const struct http_tls insecure = {.insecure = true};
        struct http_request rq = {.tls = &insecure,
                .method = post ? "POST" : "GET",
                .url = url,
                .form = post,
                .sink = faulty_sink,
                .ctx = &body};
        struct http_answer a = {0};
        struct error err = {0};
        if (http_send(faulty.http, &rq, &a, &err) < 0 || a.status != 200)
                CHECK_FAIL("control %s: status %d, %s", what, a.status, err.msg);
        json_t *json = NULL;
        CHECK_INT(json_parse(body.data, body.len, &json, NULL), 0);
        buf_done(&body);
        http_answer_done(&a);
        return json;
}

/* Starts over with this config and these faults (JSON; NULL: none). */
static void faulty_set(const char *config, const char *faults)
{
        faulty_start();
        json_free(faulty_control("reset", "{}"));
        if (config)
                json_free(faulty_control("config", config));
        if (faults)
                json_free(faulty_control("faults", faults));
}

/* How many requests there were with this in the path, to "registry", "storage", or both (NULL); status 0: any. */
static int faulty_count(const char *part, const char *port, int status)
{
        json_t *json = faulty_control("counts", NULL), *e;
        size_t i;
        int count = 0;
        json_array_foreach(json_object_get(json, "requests"), i, e) count +=
                strstr(json_string_value(json_object_get(e, "path")), part) &&
                (!port || strcmp(json_string_value(json_object_get(e, "port")), port) == 0) &&
                (!status || json_integer_value(json_object_get(e, "status")) == status);
        json_free(json);
        return count;
}

/* A text field of the n-th request with this in the path; copied into a static buffer, "" for null. */
static inline const char *faulty_field(const char *part, int n, const char *field)
{
        static char text[500];
        json_t *json = faulty_control("counts", NULL), *e;
        size_t i;
        text[0] = '\0';
        json_array_foreach(json_object_get(json, "requests"), i,
                e) if (strstr(json_string_value(json_object_get(e, "path")), part) && n-- == 0)
        {
                const char *s = json_string_value(json_object_get(e, field));
                snprintf(text, sizeof text, "%s", s ? s : "");
        }
        json_free(json);
        return text;
}

/* The image as a source, with hardly any waiting. */
static inline struct source *faulty_open_at(const char *host, const char *image, const char *creds, int tls_verify)
{
        char text[200], conf[100];
        struct error err = {0};
        snprintf(text, sizeof text, "%s:%u/%s", host, faulty.registry, image);
        snprintf(conf, sizeof conf, "%s/registries.conf", faulty.dir);
        struct reference ref = {0};
        if (reference_parse_name(text, &ref, &err) < 0)
                CHECK_FAIL("%s: %s", text, err.msg);
        struct http_options http = {.piece_len = faulty.piece_len,
                .backoff_ms = 2,
                .stall_ms = faulty.stall_ms,
                .retry_after_max_ms = 2000,
                .tries = 4};
        struct registry_options o = {.tls_verify = tls_verify, .registries_conf = conf, .creds = creds, .http = &http};
        struct source *source = NULL;
        if (registry_open(&ref, &o, &source, &err) < 0)
                CHECK_FAIL("%s: %s", text, err.msg);
        reference_done(&ref);
        return source;
}

static inline struct source *faulty_open(const char *image, const char *creds)
{
        return faulty_open_at("127.0.0.1", image, creds, -1);
}
