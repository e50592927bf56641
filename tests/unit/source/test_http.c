/* The parts of HTTP that are ours: addresses, ranges, waits. What happens on the wire is test_registry.c's. */
#include <errno.h>

#include "check.h"
#include "source/http.h"
#include "source/url.h"

TEST(content_ranges)
{
        static const struct {
                const char *text;
                int code;
                uint64_t first, last, total;
        } cases[] = {
                {"bytes 0-99/200", 0, 0, 99, 200},
                {"bytes 5-5/*", 0, 5, 5, UINT64_MAX},
                {"BYTES 1-2/3", 0, 1, 2, 3},
                {"bytes 0-18446744073709551614/*", 0, 0, UINT64_MAX - 1, UINT64_MAX},
                {"bytes 0-99/99", -EPROTO},
                {"bytes 9-5/100", -EPROTO},
                {"bytes */100", -EPROTO},
                {"bytes 0-99", -EPROTO},
                {"bytes -5/100", -EPROTO},
                {"bytes 0-/100", -EPROTO},
                {"bytes 0-1/2x", -EPROTO},
                {"items 0-1/2", -EPROTO},
                {"bytes 0-18446744073709551616/*", -EPROTO},
                {"bytes 0-1/18446744073709551615", -EPROTO},
                {"", -EPROTO},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint64_t first = 7, last = 7, total = 7;
                int r = http_parse_content_range(cases[i].text, &first, &last, &total);
                if (r != cases[i].code)
                        CHECK_FAIL("\"%s\": %d", cases[i].text, r);
                CHECK(r < 0 ? first == 7 : first == cases[i].first && last == cases[i].last && total == cases[i].total);
        }
}

TEST(retry_after)
{
        CHECK_INT(http_parse_retry_after("0", 0), 0);
        CHECK_INT(http_parse_retry_after("120", 5), 120000);
        CHECK_INT(http_parse_retry_after("99999999999999", 0), 1000000000);
        CHECK_INT(http_parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111777 - 30), 30000);
        CHECK_INT(http_parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111777 + 30), 0);
        CHECK_INT(http_parse_retry_after("soon", 0), -1);
        CHECK_INT(http_parse_retry_after("", 0), -1);
        CHECK_INT(http_parse_retry_after("-5", 0), -1);
}

TEST(statuses)
{
        static const int yes[] = {408, 425, 429, 500, 502, 503, 504, 522},
                         no[] = {200, 206, 301, 400, 401, 403, 404, 416, 501};
        for (size_t i = 0; i < ARRAY_LEN(yes); i++)
                CHECK(http_status_transient(yes[i]));
        for (size_t i = 0; i < ARRAY_LEN(no); i++)
                CHECK(!http_status_transient(no[i]));
}

TEST(headers)
{
        struct http_answer a = {0};
        struct buf out;
        buf_init(&out, 1000);
        buf_init(&a.headers, 1000);
        buf_init(&a.body, 10);
        CHECK(!http_header(&a, "Location", 0, &out));
        buf_adds(&a.headers, "Locations: no\nwww-authenticate:  Basic\nX: \nWWW-Authenticate: Bearer realm=\"x\" \n");
        CHECK_STR(http_header(&a, "WWW-Authenticate", 0, &out), "Basic");
        CHECK_STR(http_header(&a, "WWW-Authenticate", 1, &out), "Bearer realm=\"x\"");
        CHECK(!http_header(&a, "WWW-Authenticate", 2, &out));
        CHECK(!http_header(&a, "Location", 0, &out));
        CHECK_STR(http_header(&a, "x", 0, &out), "");
        http_answer_done(&a);
        buf_done(&out);
}

TEST(origins)
{
        CHECK(url_same_origin("https://a.example/x?y", "https://A.example:443/z"));
        CHECK(url_same_origin("http://[::1]:80/", "http://[::1]/"));
        CHECK(!url_same_origin("https://a.example/", "http://a.example/"));
        CHECK(!url_same_origin("https://a.example/", "https://a.example:444/"));
        CHECK(!url_same_origin("https://a.example/", "https://b.a.example/"));
        CHECK(!url_same_origin("https://a.example/", "https://a.example@b.example/"));
        CHECK(!url_same_origin("file:///x", "file:///x"));
}

static void check_resolve(const char *base, const char *location, const char *want)
{
        char *got = NULL;
        int r = url_resolve(base, location, &got, NULL);
        if ((want && (r != 0 || strcmp(got, want) != 0)) || (!want && r != -EPROTO))
                CHECK_FAIL("%s + %s: %d %s", base, location, r, got ? got : "");
        free(got);
}

TEST(redirect_targets)
{
        check_resolve(
                "https://r.example/v2/a/blobs/x?q", "https://s.example/y?sig=1%2F2", "https://s.example/y?sig=1%2F2");
        check_resolve("https://r.example/v2/a/blobs/x?q", "/y", "https://r.example/y");
        check_resolve("https://r.example/v2/a/blobs/x?q", "y?z", "https://r.example/v2/a/blobs/y?z");
        check_resolve("https://r.example/v2/x", "//s.example/y#part", "https://s.example/y");
        check_resolve("https://r.example/v2/x", "file:///etc/passwd", NULL);
        check_resolve("https://r.example/v2/x", "ftp://s.example/", NULL);
        check_resolve("https://r.example/v2/x", "https://user:pw@s.example/", NULL);
}

TEST(shown_addresses)
{
        char out[100], little[12];
        CHECK_STR(url_show("https://u:secret@h:1/p/q?sig=secret#f", out, sizeof out), "https://h:1/p/q?...");
        CHECK_STR(url_show("https://h/p#f", out, sizeof out), "https://h/p");
        CHECK_STR(url_show("https://h/\x1b[31m\n", out, sizeof out), "https://h/.[31m.");
        CHECK_STR(url_show("https://host.example/p", little, sizeof little), "https://hos");
        CHECK_STR(url_show("", out, sizeof out), "");
}

TEST(hosts)
{
        static const char *const loopback[] = {
                "localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"};
        static const char *const inside[] = {"10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1",
                "169.254.169.254", "[fe80::1]", "[fd00::1]", "0.0.0.0", "[::]", "100.64.0.1", "[::ffff:10.0.0.1]"};
        static const char *const outside[] = {"example.com", "localhost.example.com", "notlocalhost", ".localhost.com",
                "8.8.8.8", "172.32.0.1", "[2001:db8::1]", "128.0.0.1", "1.127.0.0"};
        for (size_t i = 0; i < ARRAY_LEN(loopback); i++)
                CHECK(host_is_loopback(loopback[i]) && host_is_private(loopback[i]));
        for (size_t i = 0; i < ARRAY_LEN(inside); i++)
                CHECK(!host_is_loopback(inside[i]) && host_is_private(inside[i]));
        for (size_t i = 0; i < ARRAY_LEN(outside); i++)
                CHECK(!host_is_loopback(outside[i]) && !host_is_private(outside[i]));
}

TEST(nobody_there)
{
        struct http *h = NULL;
        struct http_options o = {.backoff_ms = 1, .tries = 3};
        CHECK_INT(http_new(&o, &h, NULL), 0);
        struct http_answer a = {0};
        struct http_request rq = {.method = "GET", .url = "http://127.0.0.1:1/"};
        struct http_pace pace = {0};
        int tries = 0;
        do {
                CHECK_INT(http_send(h, &rq, &a, NULL), -ENETUNREACH);
                CHECK(a.transient && a.unreached);
                tries++;
        } while (http_pace_again(h, &pace, -ENETUNREACH, &a));
        CHECK_INT(tries, 3);
        CHECK_INT(http_count(h).retries, 2);
        CHECK_INT(http_count(h).requests, 0);
        http_answer_done(&a);
        http_free(h);
}

TEST(cancelling)
{
        atomic_bool cancel = true;
        struct http *h = NULL;
        struct http_options o = {.cancel = &cancel};
        CHECK_INT(http_new(&o, &h, NULL), 0);
        struct http_answer a = {.status = 503};
        struct http_request rq = {.method = "GET", .url = "http://127.0.0.1:1/"};
        struct http_pace pace = {0};
        buf_init(&a.headers, 10);
        buf_init(&a.body, 10);
        CHECK(!http_pace_again(h, &pace, 0, &a));
        CHECK_INT(http_send(h, &rq, &a, NULL), -ECANCELED);
        http_answer_done(&a);
        http_free(h);
}
