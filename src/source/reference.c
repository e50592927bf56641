/*
 * How: the text is taken apart from the outside in: transport, then for registry names "@digest" at the first '@', the
 * domain at the first '/', ":tag" at the last ':' behind the last '/'. Each piece is then checked by hand against its part
 * of the grammar (distribution/reference), not by one regular expression, because a person who mistyped wants to hear which
 * piece is wrong. What a message quotes has been found printable before.
 *
 * The order of docker's normalization matters: without a slash there is no domain, so "localhost:5000" is the image
 * "localhost" with the tag "5000" on Docker Hub.
 */
#include "source/reference.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/mem.h"

enum {
        TEXT_MAX = 4096,  /* of a whole reference */
        DOMAIN_MAX = 255, /* as DNS has it, port included */
        QUOTE_MAX = 120,  /* of what a message repeats */
};

/* a piece of the text that was given */
struct piece {
        const char *at;
        size_t len;
};

static bool is_lower(char c)
{
        return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
        return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
        return is_lower(c) || is_upper(c) || is_digit(c);
}

static int quoted_len(struct piece p)
{
        return (int)MIN(p.len, (size_t)QUOTE_MAX);
}

static char *piece_dup(struct piece p)
{
        return strndup(p.at, p.len);
}

static bool starts_with(const char *text, const char *prefix)
{
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* ---- the pieces of a registry name ---- */

static int check_characters(const char *text, struct error *err)
{
        size_t len = strlen(text);
        if (!len)
                return error_set(err, -EINVAL, "the image name is empty");
        if (len > TEXT_MAX)
                return error_set(err, -EINVAL, "the image name is longer than %d characters", TEXT_MAX);
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)text[i];
                if (c < 0x20 || c == 0x7f)
                        return error_set(err, -EINVAL, "the image name has a control character in it");
        }
        return 0;
}

/* printable ASCII without spaces: what a registry name is made of at most */
static int check_name_characters(const char *text, struct error *err)
{
        int r = check_characters(text, err);
        if (r < 0)
                return r;
        for (const char *p = text; *p; p++) {
                if (*p == ' ')
                        return error_set(err, -EINVAL, "%.120s: an image name has no spaces", text);
                if ((unsigned char)*p >= 0x80)
                        return error_set(err, -EINVAL, "the image name has a character in it that is not ASCII");
        }
        return 0;
}

static int check_label(struct piece label, struct piece domain, struct error *err)
{
        if (!label.len)
                return error_set(err, -EINVAL, "%.*s: the host name has an empty part", quoted_len(domain), domain.at);
        for (size_t i = 0; i < label.len; i++) {
                char c = label.at[i];
                bool edge = i == 0 || i == label.len - 1;
                if (!is_alnum(c) && (c != '-' || edge))
                        return error_set(err, -EINVAL, "%.*s: '%c' must not stand %s a host name", quoted_len(domain),
                                domain.at, c, c == '-' ? "at an edge of a part of" : "in");
        }
        return 0;
}

static int check_port(struct piece port, struct piece domain, struct error *err)
{
        unsigned value = 0;
        bool good = port.len >= 1;
        for (size_t i = 0; good && i < port.len; i++) {
                good = is_digit(port.at[i]) && value <= 65535;
                value = value * 10 + (unsigned)(port.at[i] - '0');
        }
        if (!good || value < 1 || value > 65535)
                return error_set(
                        err, -EINVAL, "%.*s: the port must be a number from 1 to 65535", quoted_len(domain), domain.at);
        return 0;
}

/* "[::1]", brackets included; no zone */
static int check_ipv6(struct piece host, struct piece domain, struct error *err)
{
        char address[INET6_ADDRSTRLEN];
        struct in6_addr parsed;
        size_t len = host.len - 2;
        if (len < sizeof address) {
                memcpy(address, host.at + 1, len);
                address[len] = '\0';
                if (inet_pton(AF_INET6, address, &parsed) == 1)
                        return 0;
        }
        return error_set(err, -EINVAL, "%.*s: no IPv6 address in the brackets (a zone is not allowed either)",
                quoted_len(domain), domain.at);
}

static int check_domain(struct piece domain, struct error *err)
{
        if (domain.len > DOMAIN_MAX)
                return error_set(err, -EINVAL, "the host name of the image is longer than %d characters", DOMAIN_MAX);
        struct piece host = domain;
        bool ipv6 = domain.len && domain.at[0] == '[';
        const char *end = memchr(domain.at, ipv6 ? ']' : ':', domain.len);
        if (ipv6 && !end)
                return error_set(err, -EINVAL, "%.*s: the ']' is missing", quoted_len(domain), domain.at);
        if (end)
                host.len = (size_t)(end - domain.at) + (ipv6 ? 1 : 0);
        if (host.len < domain.len) {
                struct piece port = {domain.at + host.len + 1, domain.len - host.len - 1};
                if (domain.at[host.len] != ':')
                        return error_set(
                                err, -EINVAL, "%.*s: a ':' is missing behind ']'", quoted_len(domain), domain.at);
                int r = check_port(port, domain, err);
                if (r < 0)
                        return r;
        }
        if (ipv6)
                return check_ipv6(host, domain, err);
        for (struct piece rest = host;;) {
                const char *dot = memchr(rest.at, '.', rest.len);
                struct piece label = {rest.at, dot ? (size_t)(dot - rest.at) : rest.len};
                int r = check_label(label, domain, err);
                if (r < 0 || !dot)
                        return r;
                rest = (struct piece){dot + 1, rest.len - label.len - 1};
        }
}

/* how long the separator at p is, 0 when it is none: one '.', one or two '_', any number of '-' */
static size_t separator_len(const char *p, size_t len)
{
        size_t n = 1;
        if (*p == '-')
                while (n < len && p[n] == '-')
                        n++;
        else if (*p == '_' && len > 1 && p[1] == '_')
                n = 2;
        return *p == '.' || *p == '_' || *p == '-' ? n : 0;
}

static int check_component(struct piece c, struct error *err)
{
        if (!c.len)
                return error_set(
                        err, -EINVAL, "the image name has an empty part: a '/' too many, or nothing behind it");
        for (size_t i = 0; i < c.len;) {
                if (is_lower(c.at[i]) || is_digit(c.at[i])) {
                        i++;
                        continue;
                }
                size_t sep = separator_len(c.at + i, c.len - i);
                if (!sep)
                        return error_set(err, -EINVAL, "%.*s: '%c' must not stand in an image name", quoted_len(c),
                                c.at, c.at[i]);
                if (i == 0 || i + sep == c.len)
                        return error_set(err, -EINVAL, "%.*s: a part of an image name %s with a letter or a digit",
                                quoted_len(c), c.at, i == 0 ? "must begin" : "must end");
                i += sep;
                if (separator_len(c.at + i, c.len - i))
                        return error_set(err, -EINVAL,
                                "%.*s: between letters may stand one '.', one or two '_', or dashes, not a mixture",
                                quoted_len(c), c.at);
        }
        return 0;
}

static int check_path(struct piece path, struct error *err)
{
        for (struct piece rest = path;;) {
                const char *slash = memchr(rest.at, '/', rest.len);
                struct piece component = {rest.at, slash ? (size_t)(slash - rest.at) : rest.len};
                int r = check_component(component, err);
                if (r < 0 || !slash)
                        return r;
                rest = (struct piece){slash + 1, rest.len - component.len - 1};
        }
}

/* text is the whole of what was typed, path a piece of it */
static int check_lower_case(const char *text, struct piece path, struct error *err)
{
        size_t i = 0;
        while (i < path.len && !is_upper(path.at[i]))
                i++;
        if (i == path.len)
                return 0;
        char meant[QUOTE_MAX * 2];
        snprintf(meant, sizeof meant, "%s", text);
        size_t from = (size_t)(path.at - text);
        for (size_t k = from; k < from + path.len && k < sizeof meant - 1; k++)
                if (is_upper(meant[k]))
                        meant[k] = (char)(meant[k] - 'A' + 'a');
        return error_set(
                err, -EINVAL, "%.120s: the name of an image must be lower case: did you mean %.200s?", text, meant);
}

static int check_tag(struct piece tag, struct error *err)
{
        if (!tag.len)
                return error_set(err, -EINVAL, "the tag is empty: leave out the ':' for \"latest\"");
        if (tag.len > REFERENCE_TAG_MAX)
                return error_set(err, -EINVAL, "the tag is longer than %d characters", REFERENCE_TAG_MAX);
        for (size_t i = 0; i < tag.len; i++) {
                char c = tag.at[i];
                bool inner = c == '.' || c == '-';
                if (!is_alnum(c) && c != '_' && !(inner && i > 0))
                        return error_set(err, -EINVAL, "%.*s: '%c' must not stand %s a tag", quoted_len(tag), tag.at, c,
                                inner ? "at the start of" : "in");
        }
        return 0;
}

static int parse_digest(const char *text, struct digest *ret_digest, struct error *err)
{
        size_t len = strlen(text);
        if (!len)
                return error_set(err, -EINVAL, "the digest behind '@' is empty");
        int r = digest_parse(text, len, ret_digest);
        if (r == 0)
                return 0;
        const char *colon = strchr(text, ':');
        if (!colon)
                return error_set(err, -EINVAL, "%.120s: a digest looks like sha256: and 64 hexadecimal digits", text);
        if (r == -EOPNOTSUPP)
                return error_set(err, -EINVAL,
                        "%.*s: digests of this kind cannot be verified here; sha256 and sha512 can",
                        (int)MIN(colon - text, (ptrdiff_t)QUOTE_MAX), text);
        size_t hex = strlen(colon + 1);
        size_t want = starts_with(text, "sha256:") ? 64 : starts_with(text, "sha512:") ? 128 : 0;
        for (const char *p = colon + 1; *p; p++) {
                if (is_upper(*p) && *p <= 'F')
                        return error_set(err, -EINVAL, "%.140s: the digits of a digest must be lower case", text);
                if (!is_digit(*p) && !(*p >= 'a' && *p <= 'f'))
                        return error_set(err, -EINVAL, "%.140s: '%c' is no hexadecimal digit", text, *p);
        }
        if (want && hex != want)
                return error_set(err, -EINVAL, "%.140s: the digest has %zu hexadecimal digits where %zu belong", text,
                        hex, want);
        return error_set(err, -EINVAL, "%.140s: not a digest", text);
}

/* ---- registry names ---- */

static bool is_image_id(const char *text)
{
        size_t n = strspn(text, "0123456789abcdef");
        return n == 64 && text[n] == '\0';
}

/* rule 3 of the normalization: is what stands before the first slash a host? */
static bool is_domain(struct piece p)
{
        if (p.len == 9 && !memcmp(p.at, "localhost", 9))
                return true;
        for (size_t i = 0; i < p.len; i++)
                if (p.at[i] == '.' || p.at[i] == ':' || is_upper(p.at[i]))
                        return true;
        return false;
}

static int set_name(struct reference *ref, struct piece domain, struct piece path, struct error *err)
{
        static const char hub[] = "docker.io", library[] = "library/";
        bool on_hub = !domain.len || (domain.len == 15 && !memcmp(domain.at, "index.docker.io", 15)) ||
                      (domain.len == 9 && !memcmp(domain.at, hub, 9));
        bool official = on_hub && !memchr(path.at, '/', path.len);
        if (path.len + (official ? sizeof library - 1 : 0) > REFERENCE_PATH_MAX)
                return error_set(
                        err, -EINVAL, "the name of the image is longer than %d characters", REFERENCE_PATH_MAX);
        ref->domain = on_hub ? strdup(hub) : piece_dup(domain);
        if (!official)
                ref->path = piece_dup(path);
        else if (asprintf(&ref->path, "%s%.*s", library, (int)path.len, path.at) < 0)
                ref->path = NULL;
        return ref->domain && ref->path ? 0 : error_nomem(err);
}

static int parse_name(const char *text, struct reference *ref, struct error *err)
{
        int r = check_name_characters(text, err);
        if (r < 0)
                return r;
        if (is_image_id(text))
                return error_set(err, -EINVAL,
                        "%s: this is an image ID; a name is needed, or NAME@sha256:DIGEST of a manifest", text);
        if (strstr(text, "://"))
                return error_set(
                        err, -EINVAL, "%.120s: leave out what stands before the host name (only docker:// may)", text);

        const char *at = strchr(text, '@');
        struct piece domain = {text, 0}, rest = {text, at ? (size_t)(at - text) : strlen(text)};
        const char *slash = memchr(rest.at, '/', rest.len);
        if (slash && is_domain((struct piece){text, (size_t)(slash - text)})) {
                domain.len = (size_t)(slash - text);
                rest = (struct piece){slash + 1, rest.len - domain.len - 1};
        }
        const char *last_slash = memrchr(rest.at, '/', rest.len);
        const char *name_end = last_slash ? last_slash + 1 : rest.at;
        const char *colon = memchr(name_end, ':', rest.len - (size_t)(name_end - rest.at));
        struct piece path = {rest.at, colon ? (size_t)(colon - rest.at) : rest.len};

        if (domain.len && (r = check_domain(domain, err)) < 0)
                return r;
        if (!domain.len && text[0] == '[')
                return error_set(err, -EINVAL, "%.120s: a host alone is no image: HOST/NAME is needed", text);
        if ((r = check_lower_case(text, path, err)) < 0 || (r = check_path(path, err)) < 0 ||
                (r = set_name(ref, domain, path, err)) < 0)
                return r;
        if (!domain.len && !(ref->short_name = piece_dup(path)))
                return error_nomem(err);
        if (at && (r = parse_digest(at + 1, &ref->digest, err)) < 0)
                return r;
        if (colon) {
                struct piece tag = {colon + 1, rest.len - path.len - 1};
                if ((r = check_tag(tag, err)) < 0)
                        return r;
                ref->tag = piece_dup(tag);
        } else if (!at) {
                ref->tag = strdup("latest");
        }
        return (colon || !at) && !ref->tag ? error_nomem(err) : 0;
}

/* ---- the other transports ---- */

/* what stands behind the second colon: a name, "@N", or nothing */
static int set_image(struct reference *ref, const char *image, struct error *err)
{
        if (!image || !*image)
                return 0;
        if (image[0] == '@') {
                size_t digits = strspn(image + 1, "0123456789");
                if (!digits || digits > 9 || image[1 + digits])
                        return error_set(
                                err, -EINVAL, "%.120s: a number is missing behind '@' (the first image is @0)", image);
                ref->number = (int)strtol(image + 1, NULL, 10);
                return 0;
        }
        if (ref->transport == REFERENCE_DOCKER_ARCHIVE) {
                struct reference name;
                int r = reference_parse_name(image, &name, err);
                if (r < 0)
                        return r;
                bool digest = name.digest.alg != DIGEST_NONE;
                reference_done(&name);
                if (digest)
                        return error_set(err, -EINVAL,
                                "%.120s: images in a docker-archive have no digest, only name and tag", image);
        }
        ref->name = strdup(image);
        return ref->name ? 0 : error_nomem(err);
}

/* "PATH[:REF|:@N]", split at the first colon as skopeo does */
static int parse_file(enum reference_transport transport, const char *text, struct reference *ref, struct error *err)
{
        const char *colon = strchrnul(text, ':');
        if (colon == text)
                return error_set(err, -EINVAL, "the path is missing behind the ':'");
        ref->transport = transport;
        ref->file = strndup(text, (size_t)(colon - text));
        if (!ref->file)
                return error_nomem(err);
        return set_image(ref, *colon ? colon + 1 : NULL, err);
}

static bool has_layout(const char *dir)
{
        char path[PATH_MAX];
        struct stat st;
        int len = snprintf(path, sizeof path, "%s/oci-layout", dir);
        return len > 0 && (size_t)len < sizeof path && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Does an image lie there? 1, 0, or -errno of what is there instead. */
static int guess_file(const char *path, enum reference_transport *ret_transport)
{
        struct stat st;
        if (stat(path, &st) < 0)
                return errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG ? 0 : -errno;
        if (S_ISDIR(st.st_mode)) {
                if (!has_layout(path))
                        return -EISDIR;
                *ret_transport = REFERENCE_OCI;
                return 1;
        }
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        *ret_transport = REFERENCE_ARCHIVE;
        return 1;
}

/* "./x", "/x": a path whatever else it could be; the whole of it, or as far as the first colon */
static int parse_path(const char *text, struct reference *ref, struct error *err)
{
        const char *image = NULL;
        cleanup(freep) char *path = strdup(text);
        if (!path)
                return error_nomem(err);
        int found = guess_file(path, &ref->transport);
        char *colon = strchr(path, ':');
        if (found == 0 && colon) {
                *colon = '\0';
                image = colon + 1;
                found = guess_file(path, &ref->transport);
        }
        if (found == 0)
                return error_set(err, -ENOENT, "%.400s: no such file or directory", text);
        if (found == -EISDIR)
                return error_set(err, -EINVAL,
                        "%.400s: a directory, but not an OCI layout: there is no file \"oci-layout\" in it", path);
        if (found == -EINVAL)
                return error_set(err, -EINVAL, "%.400s: neither a directory nor a regular file", path);
        if (found < 0)
                return error_set(err, found, "%.400s: %s", path, strerror(-found));
        ref->file = strdup(path);
        return ref->file ? set_image(ref, image, err) : error_nomem(err);
}

static bool is_path(const char *text)
{
        return text[0] == '/' || starts_with(text, "./") || starts_with(text, "../") || !strcmp(text, ".") ||
               !strcmp(text, "..");
}

/* transports of other tools that are not read here, and what a person can do instead */
static int check_unsupported(const char *text, struct error *err)
{
        static const struct {
                const char *prefix, *advice;
        } other[] = {
                {"dir:", "copy it to an OCI layout: skopeo copy dir:PATH oci:DIR"},
                {"containers-storage:",
                        "save it first: podman save --format oci-archive -o FILE IMAGE, then oci-archive:FILE"},
                {"docker-daemon:", "save it first: docker save -o FILE IMAGE, then docker-archive:FILE"},
                {"ostree:", "copy it to an OCI layout with skopeo"},
                {"sif:", "copy it to an OCI layout with skopeo"},
                {"tarball:", "name the file alone, as ./FILE"},
                {"http://", "leave out http:// (plain http is allowed by insecure = true in registries.conf)"},
                {"https://", "leave out https://"},
        };
        for (size_t i = 0; i < ARRAY_LEN(other); i++)
                if (starts_with(text, other[i].prefix))
                        return error_set(err, -EINVAL, "%.120s: images are not read from \"%s\"; %s", text,
                                other[i].prefix, other[i].advice);
        return 0;
}

static int parse_any(const char *text, struct reference *ref, struct error *err)
{
        static const struct {
                const char *prefix;
                enum reference_transport transport;
        } files[] = {
                {"oci:", REFERENCE_OCI},
                {"oci-archive:", REFERENCE_OCI_ARCHIVE},
                {"docker-archive:", REFERENCE_DOCKER_ARCHIVE},
        };
        int r = check_characters(text, err);
        if (r < 0)
                return r;
        if (starts_with(text, "docker://"))
                return parse_name(text + strlen("docker://"), ref, err);
        for (size_t i = 0; i < ARRAY_LEN(files); i++)
                if (starts_with(text, files[i].prefix)) {
                        r = parse_file(files[i].transport, text + strlen(files[i].prefix), ref, err);
                        return r < 0 ? error_wrap(err, r, "%.120s", text) : 0;
                }
        if (is_path(text))
                return parse_path(text, ref, err);
        enum reference_transport transport;
        if (guess_file(text, &transport) == 1) {
                ref->transport = transport;
                ref->file = strdup(text);
                return ref->file ? 0 : error_nomem(err);
        }
        r = check_unsupported(text, err);
        return r < 0 ? r : parse_name(text, ref, err);
}

/* ---- what others see ---- */

static int parse_with(int (*parse)(const char *, struct reference *, struct error *), const char *text,
        struct reference *ret_ref, struct error *err)
{
        struct reference ref = {.transport = REFERENCE_REGISTRY, .number = -1};
        int r = parse(text, &ref, err);
        if (r < 0)
                reference_done(&ref);
        else
                *ret_ref = ref;
        return r;
}

int reference_parse(const char *text, struct reference *ret_ref, struct error *err)
{
        return parse_with(parse_any, text, ret_ref, err);
}

int reference_parse_name(const char *text, struct reference *ret_ref, struct error *err)
{
        return parse_with(parse_name, text, ret_ref, err);
}

void reference_done(struct reference *ref)
{
        free(ref->domain);
        free(ref->path);
        free(ref->tag);
        free(ref->short_name);
        free(ref->file);
        free(ref->name);
        *ref = (struct reference){.number = -1};
}

char *reference_text(const struct reference *ref)
{
        static const char *const prefix[] = {
                [REFERENCE_OCI] = "oci:",
                [REFERENCE_OCI_ARCHIVE] = "oci-archive:",
                [REFERENCE_DOCKER_ARCHIVE] = "docker-archive:",
                [REFERENCE_TAR] = "",
                [REFERENCE_ARCHIVE] = "",
        };
        struct buf text;
        buf_init(&text, 4 * TEXT_MAX);
        if (ref->transport == REFERENCE_REGISTRY) {
                buf_addf(&text, "%s/%s", ref->domain, ref->path);
                if (ref->tag)
                        buf_addf(&text, ":%s", ref->tag);
                char digest[DIGEST_MAX_TEXT];
                if (ref->digest.alg != DIGEST_NONE)
                        buf_addf(&text, "@%s", digest_format(&ref->digest, digest));
        } else {
                buf_addf(&text, "%s%s", prefix[ref->transport], ref->file);
                if (ref->name)
                        buf_addf(&text, ":%s", ref->name);
                else if (ref->number >= 0)
                        buf_addf(&text, ":@%d", ref->number);
        }
        char *result = buf_take(&text, NULL);
        buf_done(&text);
        return result;
}
