/* A source in memory that counts what it is asked, and documents that are made here with right digests. */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <unistd.h>

#include "source/manifest.h"
#include "source/media.h"

#define LAYER_TYPE MEDIA_OCI_LAYER "+gzip"

static void error_is(const struct error *err, const char *part)
{
        if (!strstr(err->msg, part))
                CHECK_FAIL("\"%s\" is not in the message \"%s\"", part, err->msg);
}

/* ---- the fake source: its documents by digest; the first one is the top */

struct fake {
        struct source base;
        struct {
                struct digest digest;
                char *text;
                size_t len;
        } docs[80];
        size_t count;
        const char *type;
        struct digest named; /* what the name resolves to */
        int resolved, fetched, unchanged;
};

static int give(struct fake *f, const struct digest *d, struct buf *out, struct error *err)
{
        char text[DIGEST_MAX_TEXT];
        for (size_t i = 0; i < f->count; i++)
                if (digest_equal(&f->docs[i].digest, d)) {
                        buf_add(out, f->docs[i].text, f->docs[i].len);
                        return 0;
                }
        return error_set(err, -ENOENT, "no %s", digest_format(d, text));
}

static int fake_resolve(
        struct source *s, const struct digest *known, struct buf *out, char **ret_type, struct error *err)
{
        struct fake *f = (struct fake *)s;
        f->resolved++;
        if (known->alg && digest_equal(known, &f->named)) {
                f->unchanged++;
                return 1;
        }
        int r = give(f, &f->named, out, err);
        if (r == 0)
                *ret_type = strdup(f->type);
        return r;
}

static int fake_document(struct source *s, const struct descriptor *d, struct buf *out, struct error *err)
{
        ((struct fake *)s)->fetched++;
        return give((struct fake *)s, &d->digest, out, err);
}

static const struct source_ops fake_ops = {
        .resolve = fake_resolve, .manifest = fake_document, .document = fake_document};

/* adds a document (printf) and gives its descriptor's fields: "digest":..., "size":... */
__attribute__((format(printf, 2, 3))) static const char *add(struct fake *f, const char *fmt, ...)
{
        static char fields[16][200];
        static unsigned turn;
        va_list ap;
        va_start(ap, fmt);
        int len = vasprintf(&f->docs[f->count].text, fmt, ap);
        va_end(ap);
        CHECK(len >= 0 && f->count < 80);
        f->docs[f->count].len = (size_t)len;
        CHECK_INT(digest_memory(DIGEST_SHA256, f->docs[f->count].text, (size_t)len, &f->docs[f->count].digest), 0);
        f->named = f->docs[f->count].digest;
        char text[DIGEST_MAX_TEXT], *out = fields[turn++ % 16];
        snprintf(out, sizeof fields[0], "\"digest\":\"%s\",\"size\":%d", digest_format(&f->named, text), len);
        f->count++;
        return out;
}

#define DIGEST_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static const char *add_config(struct fake *f, const char *os, const char *architecture, const char *diff_ids)
{
        return add(f, "{\"os\":\"%s\",\"architecture\":\"%s\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[%s]}}", os,
                architecture, diff_ids);
}

/* an image with one layer */
static const char *add_image(struct fake *f, const char *os, const char *architecture)
{
        const char *config = add_config(f, os, architecture, "\"" DIGEST_B "\"");
        return add(f,
                "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_MANIFEST
                "\",\"config\":{\"mediaType\":\"" MEDIA_OCI_CONFIG "\",%s},\"layers\":[{\"mediaType\":\"" LAYER_TYPE
                "\",\"digest\":\"" DIGEST_A "\",\"size\":77}]}",
                config);
}

static void fake_done(struct fake *f)
{
        for (size_t i = 0; i < f->count; i++)
                free(f->docs[i].text);
        *f = (struct fake){0};
}

static struct fake fake(void)
{
        return (struct fake){.base.ops = &fake_ops, .type = ""};
}

static struct store *no_store(void)
{
        struct store *s = store_new_null();
        CHECK(s);
        return s;
}

static int load(struct fake *f, const char *platform, struct manifest *m, struct error *err)
{
        cleanup(store_closep) struct store *s = no_store();
        struct manifest_request rq = {.source = &f->base, .store = s};
        struct digest top = {0};
        *err = (struct error){0};
        *m = (struct manifest){0};
        CHECK_INT(platform_parse(platform, &rq.platform, NULL), 0);
        int r = manifest_load(&rq, m, &top, err);
        if (r == 0)
                CHECK(digest_equal(&top, &f->named));
        else
                CHECK(err->msg[0] && err->code == r);
        return r;
}

/* loads, and the failure has this code and text */
static void fails(struct fake *f, const char *platform, int code, const char *part)
{
        struct manifest m;
        struct error err;
        CHECK_INT(load(f, platform, &m, &err), code);
        error_is(&err, part);
        fake_done(f);
}

/* loads, and the image is for this platform */
static void loads(struct fake *f, const char *platform, const char *want, bool foreign)
{
        struct manifest m;
        struct error err;
        char text[100];
        int r = load(f, platform, &m, &err);
        if (r < 0)
                CHECK_FAIL("load %s: %s", platform, err.msg);
        CHECK_STR(platform_format(&m.platform, text), want);
        CHECK_INT(m.foreign, foreign);
        manifest_done(&m);
}

TEST(lone_manifest)
{
        struct fake f = fake();
        struct manifest m;
        struct error err;
        add_image(&f, "linux", "amd64");
        CHECK_INT(load(&f, "linux/amd64", &m, &err), 0);
        CHECK(digest_equal(&m.digest, &f.named));
        CHECK_INT(m.layer_count, 1);
        CHECK_INT(m.layers[0].descriptor.size, 77);
        CHECK_STR(m.layers[0].descriptor.media_type, LAYER_TYPE);
        char text[DIGEST_MAX_TEXT];
        CHECK_STR(digest_format(&m.layers[0].descriptor.digest, text), DIGEST_A);
        CHECK_STR(digest_format(&m.layers[0].diff_id, text), DIGEST_B);
        CHECK(json_object_get(m.config_json, "rootfs"));
        CHECK_INT(m.foreign, 0);
        manifest_done(&m);
        loads(&f, "linux/arm64", "linux/amd64", true);
        CHECK_INT(f.fetched, 2); /* a config each */
        fake_done(&f);
}

TEST(foreign_needs_certainty)
{
        struct fake f = fake();
        add_image(&f, "linux", "arm"); /* says no variant: might be v6 */
        loads(&f, "linux/arm/v6", "linux/arm/v7", false);
        loads(&f, "linux/arm64", "linux/arm/v7", false);
        loads(&f, "linux/amd64", "linux/arm/v7", true);
        fake_done(&f);
}

/* ---- types of documents */

#define BODY(type) "{\"schemaVersion\":2" type ",\"config\":{\"mediaType\":\"\",%s},\"layers\":[]}"

TEST(type_by_shape_field_and_header)
{
        static const char *const types[] = {"", "text/plain", "application/octet-stream",
                "application/json; charset=utf-8", "text/html", MEDIA_OCI_MANIFEST,
                MEDIA_OCI_MANIFEST "; charset=utf-8", "Application/vnd.oci.image.manifest.v1+json"};
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
                struct fake f = fake();
                f.type = types[i];
                add(&f, BODY(""), add_config(&f, "linux", "amd64", ""));
                loads(&f, "linux/amd64", "linux/amd64", false);
                add(&f, BODY(",\"mediaType\":\"" MEDIA_OCI_MANIFEST "\""), add_config(&f, "linux", "amd64", ""));
                loads(&f, "linux/amd64", "linux/amd64", false);
                fake_done(&f);
        }
}

TEST(header_that_contradicts)
{
        struct fake f = fake();
        f.type = MEDIA_OCI_INDEX;
        add_image(&f, "linux", "amd64");
        fails(&f, "linux/amd64", -EBADMSG, "the server says");
        f = fake();
        f.type = MEDIA_OCI_INDEX;
        add(&f, BODY(""), add_config(&f, "linux", "amd64", ""));
        fails(&f, "linux/amd64", -EBADMSG, "neither");
}

TEST(descriptor_that_contradicts)
{
        struct fake f = fake();
        add(&f, "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" MEDIA_OCI_INDEX "\",%s}]}",
                add_image(&f, "linux", "amd64"));
        fails(&f, "linux/amd64", -EBADMSG, "descriptor says");
}

TEST(ambiguous)
{
        static const char *const texts[] = {"{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}",
                "{\"schemaVersion\":2,\"manifests\":[],\"config\":{}}", "{\"manifests\":[],\"fsLayers\":[]}",
                "{\"fsLayers\":[],\"layers\":[]}"};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
                struct fake f = fake();
                f.type = i % 2 ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST;
                add(&f, "%s", texts[i]);
                fails(&f, "linux/amd64", -EBADMSG, "ambiguous");
        }
}

TEST(not_manifests)
{
        static const char *const texts[] = {"", "[]", "{}", "\"x\"", "{\"schemaVersion\":3,\"manifests\":[]}",
                "{\"schemaVersion\":2,\"schemaVersion\":2,\"manifests\":[]}", "{\"manifests\":7}", "{\"mediaType\":7}",
                "<html>", "{\"config\":[],\"layers\":[]}", "{\"config\":{},\"layers\":[]}", "{\"manifests\":[7]}",
                "{\"manifests\":[{\"platform\":[]}]}", "{\"manifests\":[{\"platform\":{\"os\":7}}]}"};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
                struct fake f = fake();
                add(&f, "%s", texts[i]);
                fails(&f, "linux/amd64", -EBADMSG, "sha256:");
        }
}

TEST(schema_1)
{
        static const char *const texts[] = {
                "{\"schemaVersion\":1,\"name\":\"x\",\"fsLayers\":[]}", "{\"fsLayers\":[]}"};
        for (size_t i = 0; i < 2; i++) {
                struct fake f = fake();
                f.type = i ? "application/vnd.docker.distribution.manifest.v1+prettyjws" : "";
                add(&f, "%s", texts[i]);
                fails(&f, "linux/amd64", -EOPNOTSUPP, "schema 1");
        }
}

TEST(artifacts)
{
        static const struct {
                const char *config, *artifact, *layer, *want;
        } cases[] = {
                {"application/vnd.cncf.helm.config.v1+json", "", "", "a Helm chart"},
                {"application/vnd.docker.plugin.v1+json", "", "", "a Docker plugin"},
                {"application/vnd.wasm.config.v0+json", "", "", "a WebAssembly module"},
                {"application/vnd.acme.rocket.config", "", "", "something else (application/vnd.acme.rocket.config)"},
                {"application/vnd.oci.empty.v1+json", "application/vnd.acme.thing", "", "(application/vnd.acme.thing)"},
                {MEDIA_OCI_CONFIG, "", "application/vnd.dev.cosign.simplesigning.v1+json", "layer 1: is not a file"},
                {MEDIA_OCI_CONFIG, "", "application/vnd.oci.image.layer.nydus.blob.v1", "nydus"},
                {MEDIA_OCI_CONFIG, "", MEDIA_OCI_LAYER "+gzip+encrypted", "layer 1: is encrypted"},
        };
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct fake f = fake();
                add(&f,
                        "{\"schemaVersion\":2,\"artifactType\":\"%s\",\"config\":{\"mediaType\":\"%s\",%s},"
                        "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"" DIGEST_A "\",\"size\":1}]}",
                        cases[i].artifact, cases[i].config, add_config(&f, "linux", "amd64", ""), cases[i].layer);
                fails(&f, "linux/amd64", -EOPNOTSUPP, cases[i].want);
        }
}

TEST(layer_types)
{
        static const char *const good[] = {MEDIA_OCI_LAYER, MEDIA_OCI_LAYER "+zstd",
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.docker.image.rootfs.diff.tar.zstd", "application/vnd.docker.image.rootfs.diff.tar",
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"};
        for (size_t i = 0; i < sizeof good / sizeof *good; i++)
                CHECK(media_is_layer(good[i]));
        static const char *const bad[] = {"application/vnd.oci.image.layer.v1.tarx",
                "application/vnd.oci.image.layer.v1", "application/json", "x"};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                CHECK(!media_is_layer(bad[i]));
}

/* ---- configs */

TEST(configs_that_do_not_fit)
{
        static const char *const configs[] = {"", "[]", "{}", "{\"rootfs\":[]}", "{\"rootfs\":{}}",
                "{\"rootfs\":{\"type\":\"disk\"}}", "{\"rootfs\":{\"type\":\"layers\"}}",
                "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}",
                "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[7]}}",
                "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"\"]}}",
                "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:12\"]}}",
                "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" DIGEST_A "\",\"" DIGEST_A "\"]}}",
                "{\"os\":7,\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" DIGEST_A "\"]}}"};
        for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
                struct fake f = fake();
                add(&f,
                        "{\"schemaVersion\":2,\"config\":{%s},\"layers\":[{\"mediaType\":\"" LAYER_TYPE
                        "\",\"digest\":\"" DIGEST_A "\",\"size\":1}]}",
                        add(&f, "%s", configs[i]));
                fails(&f, "linux/amd64", -EBADMSG, "config sha256:");
        }
}

TEST(unknown_diff_id_only_of_local_sources)
{
        struct fake f = fake();
        f.base.local = true;
        add(&f,
                "{\"schemaVersion\":2,\"config\":{%s},\"layers\":[{\"mediaType\":\"\",\"digest\":\"" DIGEST_A
                "\",\"size\":1}]}",
                add_config(&f, "linux", "amd64", "\"\""));
        struct manifest m;
        struct error err;
        CHECK_INT(load(&f, "linux/amd64", &m, &err), 0);
        CHECK_INT(m.layers[0].diff_id.alg, DIGEST_NONE);
        manifest_done(&m);
        f.base.local = false;
        fails(&f, "linux/amd64", -EBADMSG, "diff ID 1");
}

TEST(layers_have_a_ceiling_and_sizes)
{
        for (int count = MANIFEST_LAYERS_MAX; count <= MANIFEST_LAYERS_MAX + 1; count++) {
                struct fake f = fake();
                struct buf ids, layers;
                buf_init(&ids, 1 << 20);
                buf_init(&layers, 1 << 20);
                for (int i = 0; i < count; i++) {
                        buf_addf(&ids, "%s\"" DIGEST_A "\"", i ? "," : "");
                        buf_addf(
                                &layers, "%s{\"mediaType\":\"\",\"digest\":\"" DIGEST_A "\",\"size\":0}", i ? "," : "");
                }
                add(&f, "{\"schemaVersion\":2,\"config\":{%s},\"layers\":[%s]}",
                        add_config(&f, "linux", "amd64", buf_str(&ids)), buf_str(&layers));
                if (count == MANIFEST_LAYERS_MAX)
                        loads(&f, "linux/amd64", "linux/amd64", false);
                else
                        fails(&f, "linux/amd64", -EFBIG, "layers");
                fake_done(&f);
                buf_done(&ids);
                buf_done(&layers);
        }
        static const char *const sizes[] = {"-1", "1.5", "\"1\"", "99999999999999999999", "null"};
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                struct fake f = fake();
                add(&f, "{\"schemaVersion\":2,\"config\":{%s},\"layers\":[{\"digest\":\"" DIGEST_A "\",\"size\":%s}]}",
                        add_config(&f, "linux", "amd64", "\"" DIGEST_A "\""), sizes[i]);
                fails(&f, "linux/amd64", -EBADMSG, "manifest sha256:");
        }
}

TEST(unknown_algorithm)
{
        struct fake f = fake();
        add(&f, "{\"schemaVersion\":2,\"config\":{\"digest\":\"blake3:%064d\",\"size\":1},\"layers\":[]}", 1);
        fails(&f, "linux/amd64", -EOPNOTSUPP, "blake3");
}

/* ---- wrong bytes */

TEST(child_with_wrong_bytes)
{
        for (int which = 0; which < 2; which++) { /* the config, the manifest */
                struct fake f = fake();
                add(&f,
                        "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" MEDIA_OCI_MANIFEST
                        "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"},%s}]}",
                        add_image(&f, "linux", "amd64"));
                loads(&f, "linux/amd64", "linux/amd64", false);
                f.docs[which].text[5] ^= 1;
                fails(&f, "linux/amd64", -EBADMSG, which ? "manifest sha256:" : "config sha256:");
        }
}

TEST(child_with_wrong_size)
{
        struct fake f = fake();
        char *fields = strdup(add_image(&f, "linux", "amd64"));
        fields[strlen(fields) - 1] ^= 1;
        add(&f,
                "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" MEDIA_OCI_MANIFEST
                "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"},%s}]}",
                fields);
        free(fields);
        fails(&f, "linux/amd64", -EBADMSG, "descriptor says");
}

TEST(top_by_digest_is_verified)
{
        struct fake f = fake();
        cleanup(store_closep) struct store *s = no_store();
        struct manifest_request rq = {.source = &f.base, .store = s};
        struct manifest m;
        struct digest top;
        struct error err = {0};
        add_image(&f, "linux", "amd64");
        platform_parse("linux/amd64", &rq.platform, NULL);
        CHECK_INT(digest_memory(DIGEST_SHA512, f.docs[1].text, f.docs[1].len, &rq.want), 0);
        CHECK_INT(manifest_load(&rq, &m, &top, &err), 0);
        CHECK(digest_equal(&top, &rq.want));
        CHECK(digest_equal(&m.digest, &rq.want));
        manifest_done(&m);
        rq.want.bytes[63] ^= 1;
        CHECK_INT(manifest_load(&rq, &m, &top, &err), -EBADMSG);
        error_is(&err, "manifest");
        fake_done(&f);
}

/* ---- choosing */

static const char *entry(char out[600], const char *platform, const char *more, const char *fields)
{
        char os[40], architecture[40], variant[40] = "";
        CHECK(sscanf(platform, "%39[^/]/%39[^/]/%39s", os, architecture, variant) >= 2);
        snprintf(out, 600,
                "{\"mediaType\":\"" MEDIA_OCI_MANIFEST
                "\",%s,\"platform\":{\"os\":\"%s\",\"architecture\":\"%s\",\"variant\":\"%s\"}%s}",
                fields, os, architecture, variant, more);
        return out;
}

TEST(platform_from_index)
{
        struct fake f = fake();
        char a[600], b[600], c[600], d[600];
        entry(a, "linux/arm64/v8", "", add_image(&f, "linux", "arm64"));
        entry(b, "linux/amd64", "", add_image(&f, "linux", "amd64"));
        entry(c, "linux/arm/v6", "", add_image(&f, "linux", "arm"));
        entry(d, "windows/amd64", "", add_image(&f, "windows", "amd64"));
        add(&f, "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"manifests\":[%s,%s,%s,%s]}", a, b, c, d);
        loads(&f, "linux/amd64", "linux/amd64", false);
        loads(&f, "linux/amd64/v3", "linux/amd64", false);
        loads(&f, "linux/arm64", "linux/arm64", false);
        loads(&f, "linux/arm/v7", "linux/arm/v7", false); /* its config leaves the variant out */
        loads(&f, "windows/amd64", "windows/amd64", false);
        f.fetched = 0;
        loads(&f, "linux/amd64", "linux/amd64", false);
        CHECK_INT(f.fetched, 2); /* manifest and config: nothing that is not needed */
        fails(&f, "linux/s390x", -EOPNOTSUPP,
                "no image for linux/s390x; available: linux/arm64, linux/amd64, linux/arm/v6, windows/amd64");
}

TEST(first_of_equals_and_zstd_twins)
{
        struct fake f = fake();
        char a[600], b[600], c[600];
        entry(a, "linux/amd64", ",\"annotations\":{\"io.github.containers.compression.zstd\":\"true\"}",
                add_image(&f, "linux", "zstd"));
        entry(b, "linux/amd64", "", add_image(&f, "linux", "first"));
        entry(c, "linux/amd64", "", add_image(&f, "linux", "second"));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s,%s]}", a, b, c);
        loads(&f, "linux/amd64", "linux/first", true);
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", a);
        loads(&f, "linux/amd64", "linux/zstd", true);
        entry(b, "linux/386", "", add_image(&f, "linux", "first"));
        entry(c, "linux/386", "", add_image(&f, "linux", "second"));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s]}", b, c);
        loads(&f, "linux/amd64", "linux/first", true);
        fake_done(&f);
}

TEST(what_is_skipped)
{
        struct fake f = fake();
        char a[600], b[600], c[600], d[700];
        entry(a, "unknown/unknown", "", add(&f, "attestation"));
        entry(b, "linux/amd64", ",\"annotations\":{\"vnd.docker.reference.type\":\"attestation-manifest\"}",
                add(&f, "attestation 2"));
        entry(c, "linux/amd64", ",\"artifactType\":\"application/vnd.amazon.soci.index.v2+json\"", add(&f, "soci"));
        snprintf(d, sizeof d,
                "{\"mediaType\":\"application/"
                "vnd.acme.sbom\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"},%s}",
                add(&f, "sbom"));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s,%s,%s]}", a, b, c, d);
        struct manifest m;
        struct error err;
        CHECK_INT(load(&f, "linux/amd64", &m, &err), -EOPNOTSUPP);
        error_is(&err, "holds no image");
        char e[600];
        entry(e, "linux/amd64", "", add_image(&f, "linux", "amd64"));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s,%s,%s,%s]}", a, b, c, d, e);
        loads(&f, "linux/amd64", "linux/amd64", false);
        fake_done(&f);
}

TEST(entries_without_platform_come_last)
{
        struct fake f = fake();
        char a[600], b[600], c[600];
        snprintf(a, sizeof a, "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",%s}", add_image(&f, "linux", "arm64"));
        snprintf(b, sizeof b, "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",%s}", add_image(&f, "linux", "amd64"));
        entry(c, "linux/386", "", add_image(&f, "linux", "386"));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s,%s]}", a, b, c);
        loads(&f, "linux/amd64", "linux/386", false); /* a platform that is named and does */
        CHECK_INT(f.fetched, 2);
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s]}", a, b);
        loads(&f, "linux/amd64", "linux/amd64", false);
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s,%s]}", a, b, c);
        fails(&f, "linux/s390x", -EOPNOTSUPP, "available: linux/386, linux/arm64, linux/amd64");
}

TEST(only_an_artifact_without_platform)
{
        struct fake f = fake();
        char a[600];
        snprintf(a, sizeof a, "{\"mediaType\":\"" MEDIA_OCI_MANIFEST "\",%s}",
                add(&f,
                        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/"
                        "vnd.cncf.helm.config.v1+json\",%s},"
                        "\"layers\":[]}",
                        add(&f, "{}")));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", a);
        fails(&f, "linux/amd64", -EOPNOTSUPP, "Helm");
}

static char *nest(char out[600], const char *fields)
{
        snprintf(out, 600, "{\"mediaType\":\"" MEDIA_OCI_INDEX "\",%s}", fields);
        return out;
}

TEST(nested_indexes)
{
        for (int depth = 1; depth <= MANIFEST_DEPTH_MAX + 1; depth++) {
                struct fake f = fake();
                char a[600];
                entry(a, "linux/amd64", "", add_image(&f, "linux", "amd64"));
                const char *fields = add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", a);
                for (int i = 1; i < depth; i++)
                        fields = add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", nest(a, fields));
                if (depth <= MANIFEST_DEPTH_MAX)
                        loads(&f, "linux/amd64", "linux/amd64", false);
                else
                        fails(&f, "linux/amd64", -EFBIG, "deep");
                fake_done(&f);
        }
}

TEST(search_ends_at_an_exact_match)
{
        struct fake f = fake();
        char a[600], b[600];
        entry(a, "linux/amd64", "", add_image(&f, "linux", "amd64"));
        nest(b, "\"digest\":\"" DIGEST_A "\",\"size\":7"); /* is not there */
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s,%s]}", a, b);
        loads(&f, "linux/amd64", "linux/amd64", false);
        fails(&f, "linux/arm64", -ENOENT, "no " DIGEST_A);
}

TEST(nested_index_twice_is_searched_once)
{
        struct fake f = fake();
        char a[600], b[600], list[6000] = "";
        entry(a, "linux/arm64", "", add_image(&f, "linux", "arm64"));
        nest(b, add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", a));
        for (int i = 0; i < 20; i++)
                strcat(strcat(list, i ? "," : ""), b);
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", list);
        struct manifest m;
        struct error err;
        CHECK_INT(load(&f, "linux/amd64", &m, &err), -EOPNOTSUPP);
        CHECK_INT(f.fetched, 1);
        fake_done(&f);
}

TEST(many_nested_indexes_are_refused)
{
        struct fake f = fake();
        char a[600], list[32000] = "";
        for (int i = 0; i < 70; i++)
                strcat(strcat(list, i ? "," : ""), nest(a, add(&f, "{\"manifests\":[],\"n\":%d}", i)));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", list);
        fails(&f, "linux/amd64", -EFBIG, "more than 64 indexes");
}

TEST(tries_have_a_bound)
{
        struct fake f = fake();
        char a[600], list[32000] = "";
        for (int i = 0; i < 35; i++) {
                snprintf(a, sizeof a, "{%s}", add_image(&f, "linux", i % 2 ? "arm64" : "s390x"));
                strcat(strcat(list, i ? "," : ""), a);
        }
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", list);
        struct manifest m;
        struct error err;
        CHECK_INT(load(&f, "linux/amd64", &m, &err), -EOPNOTSUPP);
        CHECK(f.fetched <= 32);
        fake_done(&f);
}

/* ---- content in the descriptor */

TEST(content_in_the_descriptor)
{
        static const struct {
                const char *text, *data;
                int fetched;
        } cases[] = {
                {"{\"rootfs\":{\"type\":\"layers\"}}", "eyJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fQ==", 0},
                {"{\"rootfs\":{\"type\":\"layers\"}} ", "eyJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fSA=", 0},
                {"{\"rootfs\":{\"type\":\"layers\"}}  ", "eyJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fSAg", 0},
                {"{\"rootfs\":{\"type\":\"layers\"}}", "eyJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fQ=", 1},
                {"{\"rootfs\":{\"type\":\"layers\"}}", "eyJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fQ", 1},
                {"{\"rootfs\":{\"type\":\"layers\"}}", "eyJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fSA=", 1},
                {"{\"rootfs\":{\"type\":\"layers\"}}", "!yJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fQ==", 1},
                {"{\"rootfs\":{\"type\":\"layers\"}}", "fyJyb290ZnMiOnsidHlwZSI6ImxheWVycyJ9fQ==", 1},
                {"{\"rootfs\":{\"type\":\"layers\"}}", "", 1},
        };
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct fake f = fake();
                add(&f, "{\"schemaVersion\":2,\"config\":{%s,\"data\":\"%s\"},\"layers\":[]}",
                        add(&f, "%s", cases[i].text), cases[i].data);
                loads(&f, "linux/amd64", "/", false);
                CHECK_INT(f.fetched, cases[i].fetched);
                fake_done(&f);
        }
}

/* ---- the store */

static struct store *temporary_store(char dir[40])
{
        struct store *s = NULL;
        struct error err = {0};
        strcpy(dir, "/tmp/imagefs-test-XXXXXX");
        CHECK(mkdtemp(dir));
        if (store_open(&(struct store_options){.dir = dir}, &s, &err) < 0)
                CHECK_FAIL("store: %s", err.msg);
        return s;
}

static void remove_tree(const char *dir)
{
        char command[100];
        snprintf(command, sizeof command, "rm -rf %s", dir);
        CHECK_INT(system(command), 0);
}

TEST(store_saves_requests)
{
        char dir[40];
        struct store *s = temporary_store(dir);
        struct fake f = fake();
        char a[600];
        entry(a, "linux/amd64", "", add_image(&f, "linux", "amd64"));
        add(&f, "{\"schemaVersion\":2,\"manifests\":[%s]}", a);
        struct manifest_request rq = {.source = &f.base, .store = s};
        struct manifest m;
        struct digest top;
        struct error err = {0};
        platform_parse("linux/amd64", &rq.platform, NULL);
        CHECK_INT(manifest_load(&rq, &m, &top, &err), 0);
        manifest_done(&m);
        CHECK_INT(f.resolved, 1);
        CHECK_INT(f.fetched, 2);

        rq.known = top; /* the name again: one request, which finds it unchanged */
        CHECK_INT(manifest_load(&rq, &m, &top, &err), 0);
        manifest_done(&m);
        CHECK_INT(f.resolved, 2);
        CHECK_INT(f.unchanged, 1);
        CHECK_INT(f.fetched, 2);

        rq.want = top; /* by digest: none */
        CHECK_INT(manifest_load(&rq, &m, &top, &err), 0);
        manifest_done(&m);
        CHECK_INT(f.resolved, 2);
        CHECK_INT(f.fetched, 2);

        rq.want.alg = DIGEST_NONE; /* offline */
        rq.offline = true;
        CHECK_INT(manifest_load(&rq, &m, &top, &err), 0);
        manifest_done(&m);
        rq.source = NULL;
        CHECK_INT(manifest_load(&rq, &m, &top, &err), 0);
        manifest_done(&m);
        rq.source = &f.base;
        CHECK_INT(f.resolved, 2);
        rq.known.bytes[0] ^= 1;
        CHECK_INT(manifest_load(&rq, &m, &top, &err), -ENOENT);
        error_is(&err, "--offline");
        rq.known.alg = DIGEST_NONE;
        CHECK_INT(manifest_load(&rq, &m, &top, &err), -ENOENT);
        error_is(&err, "never seen");

        rq.offline = false; /* unchanged, but the store lost it */
        rq.known = top;
        store_remove(s, STORE_RM_ALL, NULL, &(uint64_t){0}, NULL);
        CHECK_INT(manifest_load(&rq, &m, &top, &err), 0);
        manifest_done(&m);
        CHECK_INT(f.resolved, 4);
        store_close(s);
        remove_tree(dir);
        fake_done(&f);
}

TEST(unknown_name)
{
        struct fake f = fake();
        f.named.alg = DIGEST_SHA256;
        fails(&f, "linux/amd64", -ENOENT, "no sha256:");
}
