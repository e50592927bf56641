#include "check.h"

#include <stdarg.h>

#include "source/made.h"
#include "source/manifest.h"
#include "memory_files.h"

static void error_is(const struct error *err, const char *part)
{
        if (!strstr(err->msg, part))
                CHECK_FAIL("\"%s\" is not in the message \"%s\"", part, err->msg);
}

/* the hex digest of a text, in one of several static places */
static const char *hex(const char *text)
{
        static char places[8][DIGEST_MAX_TEXT];
        static unsigned turn;
        struct digest d;
        CHECK_INT(digest_memory(DIGEST_SHA256, text, strlen(text), &d), 0);
        return digest_hex(&d, places[turn++ % 8]);
}

#define GZIP "\x1f\x8b\x08 some bytes"
#define ZSTD "\x28\xb5\x2f\xfd some bytes"

/* a config for layers whose tars are these texts */
static void add_config(
        struct memory_files *f, const char *path, const char *architecture, const char *tar_a, const char *tar_b)
{
        char text[500];
        snprintf(text, sizeof text,
                "{\"os\":\"linux\",\"architecture\":\"%s\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\","
                "\"sha256:%s\"]}}",
                architecture, hex(tar_a), hex(tar_b));
        memory_files_text(f, path, text);
}

/* what the archive holds commonly: two layers, the second may be anything */
static struct memory_files archive(const char *manifest, const char *second)
{
        struct memory_files f = memory_files();
        memory_files_text(&f, "manifest.json", manifest);
        memory_files_text(&f, "1/layer.tar", "tar one");
        memory_files_text(&f, "2/layer.tar", second);
        add_config(&f, "config.json", "amd64", "tar one", "tar two");
        add_config(&f, "other.json", "arm64", "tar one", "tar two");
        return f;
}

#define LAYERS "\"Layers\":[\"1/layer.tar\",\"2/layer.tar\"]"
#define ONE    "[{\"Config\":\"config.json\",\"RepoTags\":[\"alpine:3\"]," LAYERS "}]"

static struct reference wish(const char *name)
{
        struct reference ref = {.transport = REFERENCE_DOCKER_ARCHIVE, .number = -1};
        if (name && name[0] == '@')
                ref.number = atoi(name + 1);
        else
                ref.name = (char *)name;
        return ref;
}

static int open_archive(struct memory_files *f, const char *name, struct source **ret, struct error *err)
{
        struct reference ref = wish(name);
        int closed = f->closed;
        *err = (struct error){0};
        int r = archive_open(&f->base, &ref, "the archive", ret, err);
        CHECK_INT(f->closed, closed + (r < 0));
        CHECK(r == 0 || (r == err->code && err->msg[0]));
        return r;
}

static struct manifest load(struct source *s)
{
        cleanup(store_closep) struct store *store = store_new_null();
        struct manifest_request rq = {.source = s, .store = store};
        struct manifest m = {0};
        struct digest top;
        struct error err = {0};
        platform_parse("linux/amd64", &rq.platform, NULL);
        if (manifest_load(&rq, &m, &top, &err) < 0)
                CHECK_FAIL("%s", err.msg);
        CHECK(digest_equal(&m.digest, &top));
        return m;
}

static void gives(struct memory_files *f, const char *name, const char *architecture)
{
        cleanup(source_closep) struct source *s = NULL;
        struct error err;
        if (open_archive(f, name, &s, &err) < 0)
                CHECK_FAIL("%s: %s", name ? name : "no name", err.msg);
        struct manifest m = load(s);
        CHECK_STR(m.platform.architecture, architecture);
        manifest_done(&m);
}

static void refuses(struct memory_files *f, const char *name, int code, const char *part)
{
        struct source *s = NULL;
        struct error err;
        CHECK_INT(open_archive(f, name, &s, &err), code);
        error_is(&err, part);
}

/* layer i of the image: its digest is that of `text`, and so are its bytes */
static void layer_is(struct source *s, const struct manifest *m, size_t i, const char *text, const char *type)
{
        char got[DIGEST_MAX_TEXT], bytes[100] = {0};
        cleanup(blob_unrefp) struct blob *blob = NULL;
        struct error err = {0};
        CHECK_STR(digest_hex(&m->layers[i].descriptor.digest, got), hex(text));
        CHECK_STR(m->layers[i].descriptor.media_type, type);
        CHECK_INT(m->layers[i].descriptor.size, strlen(text));
        CHECK_INT(s->ops->blob(s, &m->layers[i].descriptor, &blob, &err), 0);
        CHECK_INT(blob_read_all(blob, bytes, strlen(text), 0, &err), 0);
        CHECK_STR(bytes, text);
}

#define TAR "application/vnd.oci.image.layer.v1.tar"

TEST(plain_layers)
{
        struct memory_files f = archive(ONE, "tar two");
        cleanup(source_closep) struct source *s = NULL;
        struct error err;
        char text[DIGEST_MAX_TEXT];
        CHECK_INT(open_archive(&f, NULL, &s, &err), 0);
        CHECK(s->local);
        struct manifest m = load(s);
        CHECK_INT(m.layer_count, 2);
        layer_is(s, &m, 0, "tar one", TAR);
        layer_is(s, &m, 1, "tar two", TAR);
        CHECK_STR(digest_hex(&m.layers[1].diff_id, text), hex("tar two"));

        struct blob *blob = NULL;
        m.layers[0].descriptor.digest.bytes[0] ^= 1;
        CHECK_INT(s->ops->blob(s, &m.layers[0].descriptor, &blob, &err), -ENOENT);
        m.layers[1].descriptor.size++;
        CHECK_INT(s->ops->blob(s, &m.layers[1].descriptor, &blob, &err), -EBADMSG);

        struct buf out;
        char *type = NULL;
        buf_init(&out, 1 << 20);
        CHECK_INT(s->ops->resolve(s, &m.digest, &out, &type, &err), 1);
        CHECK(!type && !out.len);
        manifest_done(&m);
        memory_files_done(&f);
}

TEST(compressed_layers)
{
        static const char *const packed[] = {GZIP, ZSTD, "\x5a\x2a\x4d\x18 skippable"};
        for (size_t i = 0; i < 3; i++) {
                struct memory_files f = archive(ONE, packed[i]);
                cleanup(source_closep) struct source *s = NULL;
                struct error err;
                char text[DIGEST_MAX_TEXT];
                CHECK_INT(open_archive(&f, "alpine:3", &s, &err), 0);
                struct manifest m = load(s);
                layer_is(s, &m, 1, packed[i], i ? TAR "+zstd" : TAR "+gzip");
                CHECK_STR(digest_hex(&m.layers[1].diff_id, text), hex("tar two"));
                manifest_done(&m);
                memory_files_done(&f);
        }
}

TEST(names_are_normalized)
{
        struct memory_files f = archive(
                "[{\"Config\":\"config.json\",\"RepoTags\":[\"alpine:3\",\"localhost:5000/app:latest\"]," LAYERS "},"
                "{\"Config\":\"other.json\",\"RepoTags\":null," LAYERS "}]",
                "tar two");
        gives(&f, "alpine:3", "amd64");
        gives(&f, "docker.io/library/alpine:3", "amd64");
        gives(&f, "index.docker.io/alpine:3", "amd64");
        gives(&f, "localhost:5000/app", "amd64");
        gives(&f, "@0", "amd64");
        gives(&f, "@1", "arm64");
        refuses(&f, "alpine", -ENOENT, "docker.io/library/alpine:latest in it, but: alpine:3");
        refuses(&f, "Alpine:3", -EINVAL, "Alpine");
        refuses(&f, "@2", -ENOENT, "it has 2");
        refuses(&f, NULL, -EINVAL, "alpine:3, localhost:5000/app:latest, @1");
        memory_files_done(&f);
}

TEST(keys_in_lower_case)
{
        struct memory_files f = archive(
                "[{\"config\":\"config.json\",\"repoTags\":[\"x\"],\"layers\":[\"1/layer.tar\",\"2/layer.tar\"]}]",
                "tar two");
        gives(&f, "x", "amd64");
        memory_files_done(&f);
}

TEST(same_layer_twice_and_none)
{
        struct memory_files f = memory_files();
        memory_files_text(&f, "manifest.json", "[{\"Config\":\"c\",\"Layers\":[\"a\",\"a\"]}]");
        memory_files_text(&f, "a", "tar");
        add_config(&f, "c", "amd64", "tar", "tar");
        gives(&f, NULL, "amd64");
        memory_files_text(&f, "manifest.json", "[{\"Config\":\"c\",\"Layers\":null}]");
        memory_files_text(&f, "c", "{\"architecture\":\"none\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":null}}");
        gives(&f, NULL, "none");
        memory_files_text(&f, "manifest.json", "[{\"Config\":\"c\",\"Layers\":[\"a\"]}]");
        memory_files_text(&f, "a", "");
        char text[300];
        snprintf(text, sizeof text, "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}", hex(""));
        memory_files_text(&f, "c", text);
        gives(&f, NULL, "");
        memory_files_done(&f);
}

TEST(digests_in_names)
{
        struct memory_files f = memory_files();
        char a[200], b[200], c[200], text[900];
        memory_files_text(&f, "tmp", "");
        add_config(&f, "tmp", "amd64", "tar one", "tar two");
        f.list[0].data[f.list[0].len] = '\0';
        snprintf(a, sizeof a, "blobs/sha256/%s", hex("tar one"));
        snprintf(b, sizeof b, "blobs/sha256/%s", hex(GZIP));
        snprintf(c, sizeof c, "blobs/sha256/%s", hex(f.list[0].data));
        memory_files_text(&f, a, "tar one");
        memory_files_text(&f, b, GZIP);
        memory_files_text(&f, c, f.list[0].data);
        snprintf(text, sizeof text, "[{\"Config\":\"%s\",\"Layers\":[\"%s\",\"./%s\"]}]", c, a, b);
        memory_files_text(&f, "manifest.json", text);
        cleanup(source_closep) struct source *s = NULL;
        struct error err;
        CHECK_INT(open_archive(&f, NULL, &s, &err), 0);
        struct manifest m = load(s);
        layer_is(s, &m, 0, "tar one", TAR);
        layer_is(s, &m, 1, GZIP, TAR "+gzip");
        manifest_done(&m);

        /* a compressed layer is not read for that: its name is believed until the first pass over it */
        memory_files_text(&f, b, GZIP " and other bytes");
        source_close(take(s));
        CHECK_INT(open_archive(&f, NULL, &s, &err), 0);
        m = load(s);
        char got[DIGEST_MAX_TEXT];
        CHECK_STR(digest_hex(&m.layers[1].descriptor.digest, got), hex(GZIP));
        manifest_done(&m);

        memory_files_text(&f, c, "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
        refuses(&f, NULL, -EBADMSG, "blobs/sha256");
        memory_files_done(&f);

        /* the old layout's names are no promise: tools that rewrite a config leave them */
        f = memory_files();
        snprintf(c, sizeof c, "%064d.json", 7);
        snprintf(text, sizeof text, "[{\"Config\":\"%s\",\"Layers\":[]}]", c);
        memory_files_text(&f, "manifest.json", text);
        memory_files_text(&f, c, "{\"architecture\":\"any\",\"rootfs\":{\"type\":\"layers\"}}");
        gives(&f, NULL, "any");
        memory_files_done(&f);
}

TEST(what_is_missing)
{
        struct memory_files f = memory_files();
        refuses(&f, NULL, -ENOENT, "has no manifest.json");
        memory_files_text(&f, "manifest.json", ONE);
        refuses(&f, NULL, -ENOENT, "the config, config.json, is missing");
        add_config(&f, "config.json", "amd64", "tar one", "tar two");
        memory_files_text(&f, "1/layer.tar", "tar one");
        refuses(&f, NULL, -ENOENT, "layer 2, 2/layer.tar: is missing");
        memory_files_done(&f);
}

TEST(broken_documents)
{
        static const char *const manifests[] = {"", "{}", "[7]", "[{}]", "[{\"Config\":7}]",
                "[{\"Config\":\"c\",\"Layers\":7}]", "[{\"Config\":\"c\",\"Layers\":[7]}]",
                "[{\"Config\":\"c\",\"Layers\":[]}]",
                "[{\"Config\":\"c\",\"Layers\":[\"1/layer.tar\",\"2/layer.tar\"]}]"};
        for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++) {
                struct memory_files f = archive(manifests[i], "tar two");
                memory_files_text(&f, "c", "{\"rootfs\":{\"diff_ids\":[\"x\"]}}");
                refuses(&f, NULL, -EBADMSG, "the archive: ");
                memory_files_done(&f);
        }
        static const char *const configs[] = {"", "[]", "{}", "{\"rootfs\":7}", "{\"rootfs\":{\"diff_ids\":7}}",
                "{\"rootfs\":{\"diff_ids\":[7,8]}}", "{\"rootfs\":{\"diff_ids\":[\"sha256:1\",\"x\"]}}"};
        for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
                struct memory_files f = archive(ONE, "tar two");
                memory_files_text(&f, "config.json", configs[i]);
                refuses(&f, NULL, -EBADMSG, "the archive: ");
                memory_files_done(&f);
        }
        struct memory_files f = archive("[]", "tar two");
        refuses(&f, NULL, -ENOENT, "no image");
        memory_files_done(&f);
}

/* ---- which kind */

static int open_any(struct memory_files *f, enum reference_transport transport, struct source **ret, struct error *err)
{
        struct reference ref = {.transport = transport, .number = -1};
        int closed = f->closed;
        *err = (struct error){0};
        int r = source_open_files(&f->base, &ref, "the file", ret, err);
        CHECK_INT(f->closed, closed + (r < 0));
        return r;
}

TEST(kinds)
{
        struct memory_files f = archive(ONE, "tar two");
        struct source *s = NULL;
        struct error err;
        CHECK_INT(open_any(&f, REFERENCE_ARCHIVE, &s, &err), 0);
        source_close(s);
        CHECK_INT(open_any(&f, REFERENCE_DOCKER_ARCHIVE, &s, &err), 0);
        source_close(s);
        CHECK_INT(open_any(&f, REFERENCE_OCI_ARCHIVE, &s, &err), -ENOENT);
        CHECK_INT(open_any(&f, REFERENCE_OCI, &s, &err), -ENOENT);
        CHECK_INT(open_any(&f, REFERENCE_TAR, &s, &err), -ENODATA);

        /* both: manifest.json wins, unless it is none */
        memory_files_text(&f, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
        memory_files_text(&f, "index.json", "{\"manifests\":[]}");
        CHECK_INT(open_any(&f, REFERENCE_ARCHIVE, &s, &err), 0);
        source_close(s);
        memory_files_text(&f, "manifest.json", "{\"a web app\":true}");
        CHECK_INT(open_any(&f, REFERENCE_ARCHIVE, &s, &err), -ENOENT);
        error_is(&err, "no image in it");
        memory_files_done(&f);

        f = memory_files();
        memory_files_text(&f, "manifest.json", "[]");
        memory_files_text(&f, "etc/passwd", "");
        CHECK_INT(open_any(&f, REFERENCE_ARCHIVE, &s, &err), -ENODATA);
        memory_files_done(&f);
}

/* adds blobs/sha256/..., and gives its descriptor's fields */
static void add_blob(struct memory_files *f, const char *text, char fields[200])
{
        char path[100];
        snprintf(path, sizeof path, "blobs/sha256/%s", hex(text));
        memory_files_text(f, path, text);
        snprintf(fields, 200, "\"digest\":\"sha256:%s\",\"size\":%zu", hex(text), strlen(text));
}

/* an image of one layer in both forms, and its manifest's fields */
static void add_image(struct memory_files *f, const char *architecture, char fields[200], char config_hex[65])
{
        char config[500], manifest[900], config_fields[200], layer_fields[200], layer[40];
        snprintf(layer, sizeof layer, "%s's layer", architecture);
        snprintf(config, sizeof config,
                "{\"os\":\"linux\",\"architecture\":\"%s\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]"
                "}}",
                architecture, hex(layer));
        add_blob(f, layer, layer_fields);
        add_blob(f, config, config_fields);
        strcpy(config_hex, hex(config));
        snprintf(manifest, sizeof manifest, "{\"schemaVersion\":2,\"config\":{%s},\"layers\":[{%s}]}", config_fields,
                layer_fields);
        add_blob(f, manifest, fields);
}

static void hybrid_gives(
        struct memory_files *f, const char *name, const char *platform, int code, const char *architecture)
{
        cleanup(source_closep) struct source *s = NULL;
        cleanup(store_closep) struct store *store = store_new_null();
        struct reference ref = wish(name);
        struct error err = {0};
        int closed = f->closed;
        ref.transport = REFERENCE_ARCHIVE;
        int r = source_open_files(&f->base, &ref, "the file", &s, &err);
        if (r < 0)
                CHECK_FAIL("%s", err.msg);
        CHECK_INT(f->closed, closed);
        struct manifest_request rq = {.source = s, .store = store};
        struct manifest m;
        struct digest top;
        platform_parse(platform, &rq.platform, NULL);
        r = manifest_load(&rq, &m, &top, &err);
        CHECK_INT(r, code);
        if (r == 0) {
                CHECK_STR(m.platform.architecture, architecture);
                manifest_done(&m);
        }
        source_close(take(s));
        CHECK_INT(f->closed, closed + 1);
}

TEST(hybrids)
{
        struct memory_files f = memory_files();
        char a[200], b[200], a_config[65], b_config[65], text[2000], fields[200];
        memory_files_text(&f, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
        add_image(&f, "arm64", b, b_config);
        add_image(&f, "amd64", a, a_config);
        snprintf(text, sizeof text,
                "[{\"Config\":\"blobs/sha256/%s\",\"RepoTags\":[\"app:1\"],\"Layers\":[\"blobs/sha256/%s\"]}]",
                a_config, hex("amd64's layer"));
        memory_files_text(&f, "manifest.json", text);
        snprintf(text, sizeof text,
                "{\"schemaVersion\":2,\"manifests\":[{%s,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}},"
                "{%s,\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}}]}",
                a, b);
        add_blob(&f, text, fields);
        snprintf(text, sizeof text,
                "{\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",%s,\"annotations\":{"
                "\"org.opencontainers.image.ref.name\":\"1\"}}]}",
                fields);
        memory_files_text(&f, "index.json", text);

        /* the layout is whole, and knows more platforms */
        hybrid_gives(&f, "app:1", "linux/amd64", 0, "amd64");
        hybrid_gives(&f, "app:1", "linux/arm64", 0, "arm64");
        hybrid_gives(&f, NULL, "linux/arm64", 0, "arm64");
        hybrid_gives(&f, NULL, "linux/s390x", -EOPNOTSUPP, NULL);
        hybrid_gives(&f, "@0", "linux/arm64", 0, "amd64"); /* a number means manifest.json's images */

        /* the other platform's config is missing, or its layer: manifest.json alone is right */
        for (int which = 0; which < 2; which++) {
                struct memory_files part = f;
                for (size_t i = 0; i < part.count; i++)
                        if (strstr(part.list[i].path, which ? hex("arm64's layer") : b_config))
                                part.list[i].path[0] = 'x';
                hybrid_gives(&part, "app:1", "linux/arm64", 0, "amd64");
        }

        /* manifest.json names an image that the layout has under no such name, or has not at all */
        snprintf(text, sizeof text, "[{\"Config\":\"c\",\"RepoTags\":[\"app:1\"],\"Layers\":[]}]");
        memory_files_text(&f, "manifest.json", text);
        memory_files_text(&f, "c", "{\"architecture\":\"other\",\"rootfs\":{\"type\":\"layers\"}}");
        hybrid_gives(&f, "app:1", "linux/amd64", 0, "other");
        memory_files_done(&f);
}

/* ---- a bare tar */

TEST(bare_tars)
{
        static const char *const texts[] = {"tar", GZIP, ""};
        for (size_t i = 0; i < 3; i++) {
                struct blob *blob = NULL;
                cleanup(source_closep) struct source *s = NULL;
                struct error err = {0};
                char text[DIGEST_MAX_TEXT];
                struct platform host;
                platform_host(&host);
                CHECK_INT(blob_new_memory(texts[i], strlen(texts[i]), &blob, &err), 0);
                CHECK_INT(rootfs_open(blob, "the tar", &s, &err), 0);
                blob_unref(blob);
                struct manifest m = load(s);
                CHECK_INT(m.layer_count, 1);
                layer_is(s, &m, 0, texts[i], i == 1 ? TAR "+gzip" : TAR);
                if (i == 1)
                        CHECK_INT(m.layers[0].diff_id.alg, DIGEST_NONE);
                else
                        CHECK_STR(digest_hex(&m.layers[0].diff_id, text), hex(texts[i]));
                CHECK_STR(m.platform.architecture, host.architecture);
                manifest_done(&m);
        }
}

TEST(sniffing)
{
        CHECK_INT(made_sniff("\x1f\x8b", 2), MADE_GZIP);
        CHECK_INT(made_sniff("\x1f", 1), MADE_PLAIN);
        CHECK_INT(made_sniff("\x28\xb5\x2f\xfd", 4), MADE_ZSTD);
        CHECK_INT(made_sniff("\x28\xb5\x2f", 3), MADE_PLAIN);
        CHECK_INT(made_sniff("\xfd"
                             "7zXZ",
                          6),
                MADE_OTHER);
        CHECK_INT(made_sniff("BZh91", 5), MADE_OTHER);
        CHECK_INT(made_sniff("", 0), MADE_PLAIN);
}
