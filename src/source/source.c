/* How: descriptors are small and few, so each owns its strings; nothing here knows where they came from. */
#include "source/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void descriptor_done(struct descriptor *d)
{
        free(d->media_type);
        for (char **url = d->urls; url && *url; url++)
                free(*url);
        free(d->urls);
        *d = (struct descriptor){0};
}

static bool is_web(const char *url)
{
        return strncasecmp(url, "https://", 8) == 0 || strncasecmp(url, "http://", 7) == 0;
}

static int parse_urls(json_t *json, struct descriptor *d, struct error *err)
{
        json_t *urls, *url;
        size_t i, count = 0;
        int r = json_get_array(json, "urls", &urls, err);
        if (r < 0 || !urls || !json_array_size(urls))
                return r;
        d->urls = calloc(DESCRIPTOR_URLS_MAX + 1, sizeof *d->urls);
        if (!d->urls)
                return error_nomem(err);
        json_array_foreach(urls, i, url)
        {
                if (!json_is_string(url))
                        return error_set(err, -EBADMSG, "JSON: \"urls\" holds something that is not a string");
                if (count == DESCRIPTOR_URLS_MAX || !is_web(json_string_value(url)))
                        continue;
                d->urls[count] = strdup(json_string_value(url));
                if (!d->urls[count++])
                        return error_nomem(err);
        }
        return 0;
}

static int parse_fields(json_t *json, struct descriptor *d, struct error *err)
{
        const char *type, *digest;
        int r = json_get_string(json, "mediaType", &type, err);
        if (r == 0)
                r = json_get_string(json, "digest", &digest, err);
        if (r == 0)
                r = json_get_u64(json, "size", UINT64_MAX, &d->size, err);
        if (r < 0)
                return r;
        if (!digest)
                return error_set(err, -EBADMSG, "descriptor: \"digest\" is missing");
        if (d->size == UINT64_MAX)
                return error_set(err, -EBADMSG, "descriptor %.80s: \"size\" is missing", digest);
        r = digest_parse(digest, strlen(digest), &d->digest);
        if (r == -EOPNOTSUPP)
                return error_set(err, r, "digest %.80s: only sha256 and sha512 can be verified", digest);
        if (r < 0)
                return error_set(err, -EBADMSG, "\"%.80s\" is not a digest", digest);
        d->media_type = strdup(type ? type : "");
        return d->media_type ? parse_urls(json, d, err) : error_nomem(err);
}

int descriptor_parse(json_t *json, struct descriptor *ret_descriptor, struct error *err)
{
        if (!json_is_object(json))
                return error_set(err, -EBADMSG, "JSON: a descriptor is missing, or not an object");
        struct descriptor d = {0};
        int r = parse_fields(json, &d, err);
        if (r < 0) {
                descriptor_done(&d);
                return r;
        }
        *ret_descriptor = d;
        return 0;
}

static int base64_value(char c)
{
        return c >= 'A' && c <= 'Z'   ? c - 'A'
               : c >= 'a' && c <= 'z' ? c - 'a' + 26
               : c >= '0' && c <= '9' ? c - '0' + 52
               : c == '+'             ? 62
               : c == '/'             ? 63
                                      : -1;
}

/* RFC 4648, section 4, with padding: exactly `size` bytes into out, or false */
static bool decode_base64(const char *text, size_t len, unsigned char *out, size_t size)
{
        if (len % 4 || len / 4 != size / 3 + (size % 3 != 0))
                return false;
        size_t digits = (size * 8 + 5) / 6, at = 0;
        uint32_t bits = 0;
        unsigned have = 0;
        for (size_t i = 0; i < len; i++) {
                int value = i < digits ? base64_value(text[i]) : text[i] == '=' ? 0 : -1;
                if (value < 0)
                        return false;
                if (i >= digits)
                        continue;
                bits = bits << 6 | (uint32_t)value;
                have += 6;
                if (have >= 8) {
                        have -= 8;
                        out[at++] = (unsigned char)(bits >> have);
                }
        }
        return at == size;
}

bool descriptor_data(json_t *json, const struct descriptor *d, struct buf *out)
{
        json_t *data = json_object_get(json, "data");
        if (!json_is_string(data) || d->size > json_string_length(data))
                return false;
        size_t size = (size_t)d->size;
        cleanup(freep) unsigned char *bytes = malloc(size ? size : 1);
        if (!bytes || !decode_base64(json_string_value(data), json_string_length(data), bytes, size) ||
                digest_check(&d->digest, bytes, size, "data", NULL) < 0)
                return false;
        buf_add(out, bytes, size);
        return buf_error(out) == 0;
}
