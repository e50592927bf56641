#include "check.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/manifest.h"
#include "source/media.h"
#include "memory_files.h"

static void error_is(const struct error *err, const char *part)
{
        if (!strstr(err->msg, part))
                CHECK_FAIL("\"%s\" is not in the message \"%s\"", part, err->msg);
}

/* adds blobs/sha256/... and gives its descriptor's fields */
__attribute__((format(printf, 2, 3))) static const char *add(struct memory_files *f, const char *fmt, ...)
{
        static char fields[16][200];
        static unsigned turn;
        char *text, path[160], hex[DIGEST_MAX_TEXT];
        struct digest d;
        va_list ap;
        va_start(ap, fmt);
        int len = vasprintf(&text, fmt, ap);
        va_end(ap);
        CHECK(len >= 0);
        CHECK_INT(digest_memory(DIGEST_SHA256, text, (size_t)len, &d), 0);
        snprintf(path, sizeof path, "blobs/sha256/%s", digest_hex(&d, hex));
        memory_files_add(f, path, text, (size_t)len);
        free(text);
        char *out = fields[turn++ % 16];
        snprintf(out, sizeof fields[0], "\"digest\":\"sha256:%s\",\"size\":%d", hex, len);
        return out;
}

/* an image without layers, told from others by its architecture */
static const char *add_image(struct memory_files *f, const char *architecture)
{
        const char *config =
                add(f, "{\"os\":\"linux\",\"architecture\":\"%s\",\"rootfs\":{\"type\":\"layers\"}}", architecture);
        return add(f, "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" MEDIA_OCI_CONFIG "\",%s},\"layers\":[]}",
                config);
}

#define ENTRY(name) "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",%s" name "}"
#define NAMED(name) ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"" name "\"}"
#define FULL(name, full)                                                                                               \
        ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"" name "\",\"io.containerd.image.name\":\"" full    \
        "\"}"
#define FOR(architecture) ",\"platform\":{\"os\":\"linux\",\"architecture\":\"" architecture "\"}"

static struct memory_files layout(void)
{
        struct memory_files f = memory_files();
        memory_files_text(&f, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
        return f;
}

__attribute__((format(printf, 2, 3))) static void set_index(struct memory_files *f, const char *fmt, ...)
{
        char *entries, *text;
        va_list ap;
        va_start(ap, fmt);
        CHECK(vasprintf(&entries, fmt, ap) >= 0);
        va_end(ap);
        CHECK(asprintf(&text, "{\"schemaVersion\":2,\"manifests\":[%s]}", entries) >= 0);
        memory_files_text(f, "index.json", text);
        free(entries);
        free(text);
}

/* name: a name, "@N", or NULL */
static int open_layout(struct memory_files *f, const char *name, struct source **ret, struct error *err)
{
        struct reference ref = {.transport = REFERENCE_OCI, .number = -1};
        if (name && name[0] == '@')
                ref.number = atoi(name + 1);
        else
                ref.name = (char *)name;
        int closed = f->closed;
        int r = layout_open(&f->base, &ref, "the layout", ret, err);
        CHECK_INT(f->closed, closed + (r < 0));
        return r;
}

static int load(struct memory_files *f, const char *name, const char *platform, struct manifest *m, struct error *err)
{
        cleanup(source_closep) struct source *s = NULL;
        cleanup(store_closep) struct store *store = store_new_null();
        *err = (struct error){0};
        int r = open_layout(f, name, &s, err);
        if (r < 0)
                return r;
        CHECK(s->local);
        struct manifest_request rq = {.source = s, .store = store, .offline = true};
        struct digest top;
        platform_parse(platform, &rq.platform, NULL);
        return manifest_load(&rq, m, &top, err);
}

static void gives(struct memory_files *f, const char *name, const char *platform, const char *architecture)
{
        struct manifest m;
        struct error err;
        if (load(f, name, platform, &m, &err) < 0)
                CHECK_FAIL("%s for %s: %s", name ? name : "no name", platform, err.msg);
        CHECK_STR(m.platform.architecture, architecture);
        manifest_done(&m);
}

static void refuses(struct memory_files *f, const char *name, int code, const char *part)
{
        struct manifest m;
        struct error err;
        CHECK_INT(load(f, name, "linux/amd64", &m, &err), code);
        error_is(&err, part);
}

TEST(one_image)
{
        struct memory_files f = layout();
        set_index(&f, ENTRY(NAMED("latest")), add_image(&f, "amd64"));
        gives(&f, NULL, "linux/amd64", "amd64");
        gives(&f, "latest", "linux/amd64", "amd64");
        gives(&f, "@0", "linux/amd64", "amd64");
        gives(&f, "anything:latest", "linux/amd64", "amd64"); /* the tag alone is what many writers put there */
        refuses(&f, "other", -ENOENT, "there is no image \"other\" in it, but: latest");
        refuses(&f, "anything", -ENOENT, "latest");
        refuses(&f, "@1", -ENOENT, "@1");
        memory_files_done(&f);
}

TEST(names)
{
        struct memory_files f = layout();
        char entries[3000];
        snprintf(entries, sizeof entries,
                ENTRY(FULL("3", "docker.io/library/alpine:3")) "," ENTRY(FULL("3", "quay.io/org/app:3")) "," ENTRY(NAMED(
                        "docker.io/library/busybox:1")) "," ENTRY(NAMED("strange name")) "," ENTRY(NAMED("v1")) "," ENTRY(""),
                add_image(&f, "a"), add_image(&f, "b"), add_image(&f, "c"), add_image(&f, "d"), add_image(&f, "e"),
                add_image(&f, "f"));
        set_index(&f, "%s", entries);
        gives(&f, "alpine:3", "linux/amd64", "a");
        gives(&f, "docker.io/library/alpine:3", "linux/amd64", "a");
        gives(&f, "quay.io/org/app:3", "linux/amd64", "b");
        gives(&f, "busybox:1", "linux/amd64", "c");
        gives(&f, "strange name", "linux/amd64", "d");
        gives(&f, "v1", "linux/amd64", "e");
        gives(&f, "whatever:v1", "linux/amd64", "e");
        gives(&f, "@5", "linux/amd64", "f");
        refuses(&f, "quay.io/org/other:3", -ENOENT, "but:"); /* the tag of an image whose name is said is not enough */
        refuses(&f, NULL, -EINVAL,
                "docker.io/library/alpine:3, quay.io/org/app:3, docker.io/library/busybox:1, strange name, v1, @5");
        memory_files_done(&f);
}

TEST(platforms_of_one_name)
{
        struct memory_files f = layout();
        char a[500], b[500];
        snprintf(a, sizeof a, ENTRY(FOR("amd64") NAMED("x")), add_image(&f, "amd64"));
        snprintf(b, sizeof b, ENTRY(FOR("arm64") NAMED("x")), add_image(&f, "arm64"));
        set_index(&f, "%s,%s", a, b);
        gives(&f, "x", "linux/arm64", "arm64");
        gives(&f, NULL, "linux/amd64", "amd64");
        gives(&f, "@1", "linux/amd64", "arm64");
        snprintf(a, sizeof a, ENTRY(FOR("amd64")), add_image(&f, "amd64"));
        snprintf(b, sizeof b, ENTRY(FOR("arm64")), add_image(&f, "arm64"));
        set_index(&f, "%s,%s", a, b);
        gives(&f, NULL, "linux/arm64", "arm64");
        snprintf(b, sizeof b, ENTRY(""), add_image(&f, "arm64"));
        set_index(&f, "%s,%s", a, b);
        refuses(&f, NULL, -EINVAL, "several images");
        memory_files_done(&f);
}

TEST(nested_index_and_attestation)
{
        struct memory_files f = layout();
        char a[500], b[500], c[500];
        snprintf(a, sizeof a, ENTRY(FOR("amd64")), add_image(&f, "amd64"));
        snprintf(b, sizeof b, ENTRY(",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}"),
                add(&f, "attestation"));
        snprintf(c, sizeof c, "{\"mediaType\":\"" MEDIA_OCI_INDEX "\",%s" NAMED("x") "}",
                add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s]}", a, b));
        set_index(&f, "%s,%s", b, c);
        gives(&f, NULL, "linux/amd64", "amd64");
        gives(&f, "x", "linux/amd64", "amd64");
        memory_files_done(&f);
}

TEST(attachments_are_no_images)
{
        struct memory_files f = layout();
        char entries[2000];
        snprintf(entries, sizeof entries,
                ENTRY("") "," ENTRY(NAMED("_cosign:sha256-aa.sig")) "," ENTRY(
                        NAMED("sha256-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.sig")),
                add_image(&f, "amd64"), add_image(&f, "a"), add_image(&f, "b"));
        set_index(&f, "%s", entries);
        gives(&f, NULL, "linux/amd64", "amd64");
        gives(&f, "_cosign:sha256-aa.sig", "linux/amd64", "a"); /* but by their name they are found */
        refuses(&f, "x", -ENOENT, "but: @0");
        memory_files_done(&f);
}

TEST(one_digest_under_two_names)
{
        struct memory_files f = layout();
        const char *fields = add_image(&f, "amd64");
        set_index(&f, ENTRY(NAMED("a")) "," ENTRY(NAMED("b")), fields, fields);
        gives(&f, NULL, "linux/amd64", "amd64");
        gives(&f, "b", "linux/amd64", "amd64");
        memory_files_done(&f);
}

TEST(made_index_is_always_the_same)
{
        struct memory_files f = layout();
        char a[500], b[500];
        snprintf(a, sizeof a, ENTRY(FOR("amd64")), add_image(&f, "amd64"));
        snprintf(b, sizeof b, ENTRY(FOR("arm64")), add_image(&f, "arm64"));
        set_index(&f, "%s,%s", a, b);
        struct digest first = {0};
        for (int i = 0; i < 2; i++) {
                cleanup(source_closep) struct source *s = NULL;
                struct error err = {0};
                struct buf out;
                char *type = NULL;
                struct digest d = {0};
                buf_init(&out, 1 << 20);
                CHECK_INT(open_layout(&f, NULL, &s, &err), 0);
                CHECK_INT(s->ops->resolve(s, &d, &out, &type, &err), 0);
                CHECK_STR(type, MEDIA_OCI_INDEX);
                CHECK_INT(digest_memory(DIGEST_SHA256, out.data, out.len, &d), 0);
                if (i)
                        CHECK(digest_equal(&first, &d));
                first = d;
                free(type);
                type = NULL;
                CHECK_INT(s->ops->resolve(s, &d, &out, &type, &err), 1);
                CHECK(!type);
                buf_done(&out);
        }
        memory_files_done(&f);
}

TEST(not_a_layout)
{
        struct memory_files f = memory_files();
        refuses(&f, NULL, -ENOENT, "has no oci-layout");
        memory_files_text(&f, "oci-layout", "{}");
        refuses(&f, NULL, -EBADMSG, "oci-layout");
        memory_files_text(&f, "oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
        refuses(&f, NULL, -EOPNOTSUPP, "2.0.0");
        memory_files_text(&f, "oci-layout", "[]");
        refuses(&f, NULL, -EBADMSG, "oci-layout");
        memory_files_text(&f, "oci-layout", "{\"imageLayoutVersion\":\"1.1.0\",\"more\":1}");
        refuses(&f, NULL, -ENOENT, "index.json");
        static const char *const bad[] = {"", "[]", "{}", "{\"manifests\":{}}", "{\"manifests\":[7]}",
                "{\"manifests\":[{}]}", "{\"manifests\":[{\"digest\":\"x\",\"size\":1}]}"};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                memory_files_text(&f, "index.json", bad[i]);
                refuses(&f, NULL, -EBADMSG, "index.json");
        }
        memory_files_text(&f, "index.json", "{\"manifests\":[]}");
        refuses(&f, NULL, -ENOENT, "no image");
        memory_files_done(&f);
}

TEST(damaged_blobs)
{
        struct memory_files f = layout();
        set_index(&f, ENTRY(""), add_image(&f, "amd64"));
        gives(&f, NULL, "linux/amd64", "amd64");
        for (size_t i = 1; i < f.count - 1; i++) { /* the config, the manifest */
                f.list[i].data[5] ^= 1;
                refuses(&f, NULL, -EBADMSG, "sha256:");
                f.list[i].data[5] ^= 1;
                f.list[i].len--;
                refuses(&f, NULL, -EBADMSG, "its descriptor says");
                f.list[i].len++;
                f.list[i].path[20] ^= 1;
                refuses(&f, NULL, -ENOENT, "is missing");
                f.list[i].path[20] ^= 1;
        }
        memory_files_done(&f);
}

/* ---- directories */

static void write_file(const char *dir, const char *name, const char *text)
{
        char path[200];
        snprintf(path, sizeof path, "%s/%s", dir, name);
        FILE *f = fopen(path, "w");
        CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

TEST(directory)
{
        char dir[] = "/tmp/imagefs-test-XXXXXX", path[100];
        struct files *files = NULL;
        struct error err = {0};
        CHECK(mkdtemp(dir));
        write_file(dir, "file", "hello");
        write_file(dir, "empty", "");
        snprintf(path, sizeof path, "%s/sub", dir);
        CHECK_INT(mkdir(path, 0700), 0);
        snprintf(path, sizeof path, "%s/fifo", dir);
        CHECK_INT(mkfifo(path, 0600), 0);
        snprintf(path, sizeof path, "%s/link", dir);
        CHECK_INT(symlink("sub/../file", path), 0);

        snprintf(path, sizeof path, "%s/file", dir);
        CHECK_INT(files_open_dir(path, &files, &err), -ENOTDIR);
        CHECK_INT(files_open_dir(dir, &files, &err), 0);
        struct buf out;
        buf_init(&out, 5);
        CHECK_INT(files_read(files, "file", &out, &err), 0);
        CHECK_STR(buf_str(&out), "hello");
        CHECK_INT(files_read(files, "empty", &out, &err), 0);
        CHECK_INT(files_read(files, "file", &out, &err), -EFBIG);
        buf_clear(&out);
        CHECK_INT(files_read(files, "sub//../file", &out, &err), -EINVAL);
        CHECK_INT(files_read(files, "link", &out, &err), 0);
        CHECK_INT(out.len, 5);

        static const struct {
                const char *path;
                int code;
        } bad[] = {{"none", -ENOENT}, {"sub", -EINVAL}, {"fifo", -EINVAL}, {"../etc/passwd", -EINVAL},
                {"sub/../file", -EINVAL}, {"/etc/passwd", -EINVAL}, {"", -EINVAL}, {"file/x", -ENOTDIR}};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct blob *blob = NULL;
                err = (struct error){0};
                CHECK_INT(files->open(files, bad[i].path, &blob, &err), bad[i].code);
                CHECK(!blob && err.msg[0]);
        }
        buf_done(&out);
        files_close(files);
        char command[100];
        snprintf(command, sizeof command, "rm -rf %s", dir);
        CHECK_INT(system(command), 0);
}

/* ---- real layouts, where they are */

TEST(shared_layouts)
{
        static const struct {
                const char *dir, *name;
                size_t layers;
        } cases[] = {
                {"corpus/edge/01-wh-after-add", NULL, 0},
                {"corpus/edge/b08-hardlinkabsolute", NULL, 0},
                {"corpus/edge/54-long", NULL, 0},
        };
        const char *shared = getenv("SHARED");
        char path[300];
        if (!shared || (snprintf(path, sizeof path, "%s/corpus/edge", shared), access(path, R_OK) < 0)) {
                printf("skipped: SHARED has no corpus\n");
                return;
        }
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct files *files = NULL;
                struct error err = {0};
                cleanup(source_closep) struct source *s = NULL;
                cleanup(store_closep) struct store *store = store_new_null();
                struct reference ref = {.transport = REFERENCE_OCI, .number = -1, .name = (char *)cases[i].name};
                snprintf(path, sizeof path, "%s/%s", shared, cases[i].dir);
                CHECK_INT(files_open_dir(path, &files, &err), 0);
                if (layout_open(files, &ref, path, &s, &err) < 0)
                        CHECK_FAIL("%s", err.msg);
                struct manifest_request rq = {.source = s, .store = store};
                struct manifest m;
                struct digest top;
                platform_host(&rq.platform);
                if (manifest_load(&rq, &m, &top, &err) < 0)
                        CHECK_FAIL("%s: %s", path, err.msg);
                CHECK(m.layer_count > 0);
                for (size_t k = 0; k < m.layer_count; k++) {
                        cleanup(blob_unrefp) struct blob *blob = NULL;
                        if (s->ops->blob(s, &m.layers[k].descriptor, &blob, &err) < 0)
                                CHECK_FAIL("%s", err.msg);
                        CHECK_INT(blob_size(blob), m.layers[k].descriptor.size);
                }
                manifest_done(&m);
        }
}
