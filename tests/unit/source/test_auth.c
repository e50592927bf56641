/* Challenges as they are seen in the wild, and token servers' answers. */
#include <errno.h>

#include "check.h"
#include "source/auth.h"

struct want {
        const char *header, *realm, *service, *scope, *error;
        bool basic;
};

static bool same(const char *a, const char *b)
{
        return a && b ? strcmp(a, b) == 0 : a == b;
}

TEST(challenges)
{
        static const struct want cases[] = {
                {"Bearer "
                 "realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:library/"
                 "alpine:pull\"",
                        "https://auth.docker.io/token", "registry.docker.io", "repository:library/alpine:pull"},
                {"bearer realm=\"https://a/\"", "https://a/"},
                {"BEARER Realm=\"https://a/\" , SERVICE=x", "https://a/", "x"},
                {"Bearer realm=https://a/t,service=s", "https://a/t", "s"},
                {"Bearer realm = \"https://a/\", service = \"s\"", "https://a/", "s"},
                {"Bearer scope=\"repository:a:pull,push repository:b:pull\",realm=\"r\"", "r", NULL,
                        "repository:a:pull,push repository:b:pull"},
                {"Bearer realm=\"a \\\"quoted\\\" \\\\ realm\"", "a \"quoted\" \\ realm"},
                {"Basic realm=\"x\"", NULL, .basic = true},
                {"Basic", NULL, .basic = true},
                {"basic realm=\"Bearer realm=\\\"evil\\\"\"", NULL, .basic = true},
                {"Basic realm=\"x\", Bearer realm=\"r\",service=\"s\"", "r", "s", .basic = true},
                {"Bearer realm=\"r\",service=\"s\", Basic realm=\"x\"", "r", "s", .basic = true},
                {"Negotiate, Basic realm=\"x\"", NULL, .basic = true},
                {"Negotiate YII=, Bearer realm=\"r\"", "r"},
                {"NTLM, Negotiate, Bearer realm=\"r\", charset=\"UTF-8\", Basic", "r", .basic = true},
                {"Digest realm=\"d\", nonce=\"n\", qop=\"auth,auth-int\", Basic realm=\"x\"", NULL, .basic = true},
                {", ,Bearer realm=\"r\",,service=\"s\",", "r", "s"},
                {"Bearer realm=\"r\",error=\"invalid_token\"", "r", .error = "invalid_token"},
                {"Bearer realm=\"r\",realm=\"second\"", "r"},
                {"Bearer realm=\"r\", Bearer realm=\"r2\"", "r"},
                {"Bearer realm=\"\"", ""},
                {"Bearer", NULL},
                {"Bearer service=\"s\"", NULL},
                {"Bearer realm=\"never ends", NULL},
                {"Basically realm=\"x\"", NULL},
                {"", NULL},
                {"=,=", NULL},
                {"\"Bearer realm\"", NULL},
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                const struct want *w = &cases[i];
                struct challenges c = {0};
                CHECK_INT(challenges_add(&c, w->header), 0);
                if (c.basic != w->basic || c.bearer != (w->realm != NULL) || !same(c.realm, w->realm) ||
                        !same(c.service, w->service) || !same(c.scope, w->scope) || !same(c.error, w->error))
                        CHECK_FAIL("%s: %d %d %s %s %s", w->header, c.basic, c.bearer, c.realm, c.service, c.scope);
                challenges_done(&c);
        }
}

TEST(challenges_in_several_headers)
{
        struct challenges c = {0};
        CHECK_INT(challenges_add(&c, "Basic realm=\"x\""), 0);
        CHECK_INT(challenges_add(&c, "Bearer realm=\"r\",service=\"s\""), 0);
        CHECK_INT(challenges_add(&c, "Bearer realm=\"r2\",scope=\"t\""), 0);
        CHECK(c.basic && c.bearer);
        CHECK_STR(c.realm, "r");
        CHECK(!c.scope);
        challenges_done(&c);
}

TEST(endless_challenge)
{
        size_t len = AUTH_CHALLENGE_MAX + 1;
        char *text = malloc(len + 1);
        CHECK(text);
        memset(text, 'x', len);
        memcpy(text, "Basic realm=", 12);
        text[len] = '\0';
        struct challenges c = {0};
        CHECK_INT(challenges_add(&c, text), 0);
        CHECK(!c.basic);
        free(text);
}

static int parse(const char *json, const char *token, const char *refresh, int64_t expires)
{
        char *t = NULL, *f = NULL;
        int64_t e = 0;
        int r = auth_parse_token(json, strlen(json), &t, &f, &e, NULL);
        if (r == 0 && (!same(t, token) || !same(f, refresh) || e != expires))
                CHECK_FAIL("%s: %s %s %lld", json, t, f, (long long)e);
        free(t);
        free(f);
        return r;
}

TEST(tokens)
{
        CHECK_INT(parse("{\"token\":\"abc\"}", "abc", NULL, 60), 0);
        CHECK_INT(parse("{\"access_token\":\"abc\",\"expires_in\":300}", "abc", NULL, 300), 0);
        CHECK_INT(parse("{\"token\":\"\",\"access_token\":\"b\",\"expires_in\":5}", "b", NULL, 60), 0);
        CHECK_INT(parse("{\"token\":\"a\",\"access_token\":\"b\",\"refresh_token\":\"r\"}", "a", "r", 60), 0);
        CHECK_INT(parse("{\"token\":\"a\",\"expires_in\":\"soon\"}", "a", NULL, 60), 0);
        CHECK_INT(parse("{\"token\":\"a\",\"expires_in\":-1}", "a", NULL, 60), 0);
        CHECK_INT(parse("{\"token\":\"a\",\"expires_in\":9007199254740993}", "a", NULL, 30 * 24 * 3600), 0);
        CHECK_INT(parse("{\"token\":null,\"access_token\":null}", NULL, NULL, 0), -EPROTO);
        CHECK_INT(parse("{\"token\":5}", NULL, NULL, 0), -EPROTO);
        CHECK_INT(parse("{\"token\":\"a b\"}", NULL, NULL, 0), -EPROTO);
        CHECK_INT(parse("{\"token\":\"a\\r\\nX: y\"}", NULL, NULL, 0), -EPROTO);
        CHECK_INT(parse("[]", NULL, NULL, 0), -EPROTO);
        CHECK_INT(parse("", NULL, NULL, 0), -EPROTO);
        CHECK_INT(parse("<html>", NULL, NULL, 0), -EPROTO);
}
