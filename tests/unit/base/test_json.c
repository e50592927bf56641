/* JSON: strict, bounded, and getters that name what is wrong. */
#include "check.h"

#include <errno.h>

#include "base/json.h"

static json_t *parse(const char *text)
{
        json_t *json = NULL;
        struct error err;
        if (json_parse(text, strlen(text), &json, &err) < 0)
                CHECK_FAIL("%s: %s", text, err.msg);
        return json;
}

TEST(what_is_refused)
{
        static const char *const bad[] = {"", "{", "{}}", "{\"a\":1,\"a\":2}", "{\"a\":\"\\u0000\"}", "\"\xff\"",
                "{} x", "nul", "[1,]", "{\"a\"}"};
        json_t *json = NULL;
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct error err = {0};
                if (json_parse(bad[i], strlen(bad[i]), &json, &err) != -EBADMSG || !err.msg[0])
                        CHECK_FAIL("%s is taken", bad[i]);
        }
        CHECK(!json);
}

TEST(depth_has_a_bound)
{
        char text[2 * JSON_MAX_DEPTH + 3];
        json_t *json = NULL;
        for (int depth = JSON_MAX_DEPTH; depth <= JSON_MAX_DEPTH + 1; depth++) {
                memset(text, '[', (size_t)depth);
                memset(text + depth, ']', (size_t)depth);
                CHECK_INT(json_parse(text, 2 * (size_t)depth, &json, NULL), depth > JSON_MAX_DEPTH ? -EBADMSG : 0);
        }
        json_free(json);
        json = parse(
                "{\"a\": \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[\"}");
        json_free(json);
}

TEST(getters)
{
        cleanup(json_freep) json_t *o = parse("{\"s\":\"text\",\"n\":7,\"big\":9223372036854775807,\"neg\":-1,\"f\":1."
                                              "5,\"b\":true,\"o\":{},\"l\":[1],"
                                              "\"null\":null}");
        const char *s = "before";
        json_t *v;
        uint64_t n;
        bool b;
        struct error err = {0};
        CHECK_INT(json_get_string(o, "s", &s, &err), 0);
        CHECK_STR(s, "text");
        CHECK_INT(json_get_string(o, "absent", &s, &err), 0);
        CHECK(!s);
        CHECK_INT(json_get_string(o, "null", &s, &err), 0);
        CHECK_INT(json_get_string(o, "n", &s, &err), -EBADMSG);
        CHECK(strstr(err.msg, "\"n\""));
        CHECK_INT(json_get_u64(o, "n", 1, &n, &err), 0);
        CHECK_INT(n, 7);
        CHECK_INT(json_get_u64(o, "big", 1, &n, &err), 0);
        CHECK_INT(n, INT64_MAX);
        CHECK_INT(json_get_u64(o, "absent", 5, &n, &err), 0);
        CHECK_INT(n, 5);
        CHECK_INT(json_get_u64(o, "neg", 1, &n, &err), -EBADMSG);
        CHECK_INT(json_get_u64(o, "f", 1, &n, &err), -EBADMSG);
        CHECK_INT(json_get_bool(o, "b", false, &b, &err), 0);
        CHECK(b);
        CHECK_INT(json_get_bool(o, "absent", true, &b, &err), 0);
        CHECK(b);
        CHECK_INT(json_get_bool(o, "n", true, &b, &err), -EBADMSG);
        CHECK_INT(json_get_object(o, "o", &v, &err), 0);
        CHECK(json_is_object(v));
        CHECK_INT(json_get_object(o, "l", &v, &err), -EBADMSG);
        CHECK_INT(json_get_array(o, "l", &v, &err), 0);
        CHECK_INT(json_array_size(v), 1);
        CHECK_INT(json_get_array(o, "o", &v, &err), -EBADMSG);
}

TEST(text_comes_back)
{
        cleanup(json_freep) json_t *o = parse("{ \"b\" : 1, \"a\" : [ ] }");
        char *compact = json_text(o, false), *pretty = json_text(o, true);
        CHECK_STR(compact, "{\"b\":1,\"a\":[]}");
        CHECK_STR(pretty, "{\n  \"b\": 1,\n  \"a\": []\n}\n");
        free(compact);
        free(pretty);
}
