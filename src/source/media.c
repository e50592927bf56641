/* How: tables. A content type only counts when it is one of ours ("application/vnd..."): static file servers and proxies
 * say text/plain, text/html or octet-stream of any JSON. */
#include "source/media.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"

static const struct {
        const char *type;
        enum media_kind kind;
} documents[] = {
        {MEDIA_OCI_INDEX, MEDIA_INDEX},
        {"application/vnd.docker.distribution.manifest.list.v2+json", MEDIA_INDEX},
        {MEDIA_OCI_MANIFEST, MEDIA_MANIFEST},
        {"application/vnd.docker.distribution.manifest.v2+json", MEDIA_MANIFEST},
        {"application/vnd.docker.distribution.manifest.v1+json", MEDIA_SCHEMA1},
        {"application/vnd.docker.distribution.manifest.v1+prettyjws", MEDIA_SCHEMA1},
};

/* length without parameters and the blanks before them */
static size_t bare_len(const char *type)
{
        return strcspn(type, "; \t");
}

bool media_equal(const char *a, const char *b)
{
        size_t len = bare_len(a);
        return len == bare_len(b) && strncasecmp(a, b, len) == 0;
}

enum media_kind media_kind(const char *type)
{
        if (!type || strncasecmp(type, "application/vnd.", strlen("application/vnd.")) != 0)
                return MEDIA_GENERIC;
        for (size_t i = 0; i < ARRAY_LEN(documents); i++)
                if (media_equal(type, documents[i].type))
                        return documents[i].kind;
        return MEDIA_OTHER;
}

bool media_is_config(const char *type)
{
        static const char *const types[] = {MEDIA_OCI_CONFIG, "application/vnd.docker.container.image.v1+json", "",
                "application/octet-stream", "application/json", "text/html", "text/plain"};
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
                if (media_equal(type, types[i]))
                        return true;
        return false;
}

bool media_is_layer(const char *type)
{
        static const char *const heads[] = {MEDIA_OCI_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar",
                "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.foreign.diff.tar",
                "application/x-tar", "application/tar"};
        for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
                size_t len = strlen(heads[i]);
                if (strncasecmp(type, heads[i], len) == 0 && strchr("+.;-", type[len]))
                        return true; /* the end of the string is in the set, too */
        }
        return !type[0] || media_equal(type, "application/octet-stream") || media_equal(type, "application/gzip");
}

const char *media_nickname(const char *type)
{
        static const struct {
                const char *head, *name;
        } names[] = {
                {"application/vnd.cncf.helm.", "a Helm chart"},
                {"application/vnd.docker.plugin.", "a Docker plugin"},
                {"application/vnd.dev.cosign.", "a signature"},
                {"application/vnd.dev.sigstore.", "a signature"},
                {"application/vnd.cncf.notary.", "a signature"},
                {"application/vnd.in-toto", "an attestation"},
                {"application/vnd.amazon.soci.", "a SOCI index"},
                {"application/vnd.wasm.", "a WebAssembly module"},
                {"application/vnd.module.wasm", "a WebAssembly module"},
                {"application/vnd.cyclonedx", "a bill of materials"},
                {"application/spdx", "a bill of materials"},
                {"application/vnd.cncf.flux.", "a Flux artifact"},
                {"application/vnd.oci.empty.", "an artifact"},
        };
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (strncasecmp(type, names[i].head, strlen(names[i].head)) == 0)
                        return names[i].name;
        return NULL;
}

/* a member that is a string; NULL for all else */
static const char *text_of(json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

bool media_entry_is_image(json_t *entry, enum media_kind *ret_kind)
{
        const char *artifact = text_of(entry, "artifactType");
        json_t *platform = json_object_get(entry, "platform");
        const char *os = text_of(platform, "os"), *architecture = text_of(platform, "architecture");
        enum media_kind kind = media_kind(text_of(entry, "mediaType"));

        if (artifact && artifact[0] && !media_is_config(artifact))
                return false;
        if (os && architecture && strcmp(os, "unknown") == 0 && strcmp(architecture, "unknown") == 0)
                return false;
        if (json_object_get(json_object_get(entry, "annotations"), "vnd.docker.reference.type"))
                return false;
        if (kind == MEDIA_OTHER || kind == MEDIA_SCHEMA1)
                return false;
        if (ret_kind)
                *ret_kind = kind;
        return true;
}
