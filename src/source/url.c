/* How: libcurl's own parser, so that what is compared here is what the transfer will connect to; a second parser with other
 * ideas about odd addresses is how credentials end up at the wrong host. */
#include "source/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/mem.h"

DEFINE_CLEANUP(CURLU, curl_url_cleanup);

void url_done(struct url *u)
{
        curl_free(u->scheme);
        curl_free(u->host);
        curl_free(u->port);
        *u = (struct url){0};
}

static int split(CURLU *handle, struct url *ret_url, struct error *err)
{
        char *user = NULL;
        if (curl_url_get(handle, CURLUPART_USER, &user, 0) == CURLUE_OK) {
                curl_free(user);
                return error_set(err, -EINVAL, "an address with a user name in it");
        }
        struct url u = {0};
        if (curl_url_get(handle, CURLUPART_SCHEME, &u.scheme, 0) || curl_url_get(handle, CURLUPART_HOST, &u.host, 0) ||
                curl_url_get(handle, CURLUPART_PORT, &u.port, CURLU_DEFAULT_PORT)) {
                url_done(&u);
                return error_set(err, -EINVAL, "not an http or https address");
        }
        for (char *p = u.scheme; *p; p++)
                *p = (char)tolower((unsigned char)*p);
        for (char *p = u.host; *p; p++)
                *p = (char)tolower((unsigned char)*p);
        if (strcmp(u.scheme, "http") != 0 && strcmp(u.scheme, "https") != 0) {
                url_done(&u);
                return error_set(err, -EINVAL, "not an http or https address");
        }
        *ret_url = u;
        return 0;
}

int url_parse(const char *text, struct url *ret_url, struct error *err)
{
        if (strnlen(text, URL_MAX + 1) > URL_MAX)
                return error_set(err, -EINVAL, "an address of more than %d bytes", URL_MAX);
        cleanup(curl_url_cleanupp) CURLU *handle = curl_url();
        if (!handle)
                return error_nomem(err);
        if (curl_url_set(handle, CURLUPART_URL, text, 0) != CURLUE_OK)
                return error_set(err, -EINVAL, "not an http or https address");
        return split(handle, ret_url, err);
}

bool url_same_origin(const char *a, const char *b)
{
        cleanup(url_done) struct url x = {0}, y = {0};
        return url_parse(a, &x, NULL) == 0 && url_parse(b, &y, NULL) == 0 && strcmp(x.scheme, y.scheme) == 0 &&
               strcmp(x.host, y.host) == 0 && strcmp(x.port, y.port) == 0;
}

int url_resolve(const char *base, const char *location, char **ret_url, struct error *err)
{
        if (strnlen(location, URL_MAX + 1) > URL_MAX)
                return error_set(err, -EPROTO, "a redirect to an address of more than %d bytes", URL_MAX);
        cleanup(curl_url_cleanupp) CURLU *handle = curl_url();
        if (!handle)
                return error_nomem(err);
        char *text = NULL;
        cleanup(url_done) struct url parts = {0};
        if (curl_url_set(handle, CURLUPART_URL, base, 0) != CURLUE_OK ||
                curl_url_set(handle, CURLUPART_URL, location, CURLU_URLENCODE) != CURLUE_OK ||
                curl_url_set(handle, CURLUPART_FRAGMENT, NULL, 0) != CURLUE_OK || split(handle, &parts, NULL) < 0 ||
                curl_url_get(handle, CURLUPART_URL, &text, 0) != CURLUE_OK) {
                char shown[200];
                return error_set(
                        err, -EPROTO, "a redirect that leads nowhere: %s", url_show(location, shown, sizeof shown));
        }
        char *copy = strdup(text);
        curl_free(text);
        if (!copy)
                return error_nomem(err);
        *ret_url = copy;
        return 0;
}

const char *url_show(const char *url, char *out, size_t room)
{
        const char *authority = strstr(url, "://");
        authority = authority ? authority + 3 : url;
        size_t path = strcspn(authority, "/?#");
        const char *at = memrchr(authority, '@', path);
        const char *rest = at ? at + 1 : authority;
        size_t len = strcspn(rest, "?#");
        snprintf(out, room, "%.*s%.*s%s", (int)MIN(authority - url, 16), url, (int)MIN(len, (size_t)URL_MAX), rest,
                rest[len] == '?' ? "?..." : "");
        for (char *p = out; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = '.';
        return out;
}

/* Writes the literal's bytes: 4 or 16 of them, 0 for a name. IPv4 inside IPv6 counts as IPv4. */
static int literal(const char *host, uint8_t bytes[16])
{
        if (inet_pton(AF_INET, host, bytes) == 1)
                return 4;
        char inner[INET6_ADDRSTRLEN + 1];
        size_t len = strlen(host);
        if (len < 3 || host[0] != '[' || len - 2 >= sizeof inner)
                return 0;
        memcpy(inner, host + 1, len - 2);
        inner[len - 2] = '\0';
        inner[strcspn(inner, "%]")] = '\0';
        if (inet_pton(AF_INET6, inner, bytes) != 1)
                return 0;
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        if (memcmp(bytes, mapped, sizeof mapped) != 0)
                return 16;
        memmove(bytes, bytes + 12, 4);
        return 4;
}

bool host_is_loopback(const char *host)
{
        uint8_t b[16];
        int n = literal(host, b);
        if (n == 4)
                return b[0] == 127;
        if (n == 16)
                return memcmp(b, &in6addr_loopback, 16) == 0;
        static const char name[] = "localhost", tail[] = ".localhost";
        size_t len = strlen(host);
        return strcasecmp(host, name) == 0 ||
               (len > sizeof tail - 1 && strcasecmp(host + len - (sizeof tail - 1), tail) == 0);
}

bool host_is_private(const char *host)
{
        uint8_t b[16];
        int n = literal(host, b);
        if (n == 4)
                return b[0] == 0 || b[0] == 10 || b[0] == 127 || (b[0] == 172 && (b[1] & 0xf0) == 16) ||
                       (b[0] == 192 && b[1] == 168) || (b[0] == 169 && b[1] == 254) ||
                       (b[0] == 100 && (b[1] & 0xc0) == 64);
        if (n == 16)
                return memcmp(b, &in6addr_loopback, 16) == 0 || memcmp(b, &in6addr_any, 16) == 0 ||
                       (b[0] & 0xfe) == 0xfc || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80);
        return host_is_loopback(host);
}
