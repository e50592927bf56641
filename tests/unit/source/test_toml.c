/* TOML: what is accepted and what it means, who may add to a table, and the line that a mistake is reported on. */
#include "source/toml.h"

#include <errno.h>

#include "base/buf.h"
#include "check.h"

static void dump(struct buf *out, const struct toml_value *v)
{
        if (v->key)
                buf_addf(out, "%s=", v->key);
        switch (v->type) {
        case TOML_STRING: buf_addf(out, "\"%s\"", v->string); break;
        case TOML_INTEGER: buf_addf(out, "%" PRId64, v->integer); break;
        case TOML_BOOLEAN: buf_adds(out, v->boolean ? "T" : "F"); break;
        case TOML_OTHER: buf_addf(out, "~%s", v->string); break;
        case TOML_ARRAY:
        case TOML_TABLE:
                buf_addc(out, v->type == TOML_ARRAY ? '[' : '{');
                for (const struct toml_value *c = v->first; c; c = c->next) {
                        dump(out, c);
                        if (c->next)
                                buf_addc(out, ' ');
                }
                buf_addc(out, v->type == TOML_ARRAY ? ']' : '}');
        }
}

static void expect(const char *text, const char *want)
{
        struct toml *doc = NULL;
        struct error err = {0};
        if (toml_parse(text, strlen(text), &doc, &err) != 0)
                CHECK_FAIL("%s\n%s", text, err.msg);
        struct buf out;
        buf_init(&out, 1 << 16);
        dump(&out, toml_root(doc));
        CHECK_STR(buf_str(&out), want);
        buf_done(&out);
        toml_free(doc);
}

static void refuse(const char *text, const char *words)
{
        struct toml *doc = NULL;
        struct error err = {0};
        int r = toml_parse(text, strlen(text), &doc, &err);
        if (r != -EINVAL || doc)
                CHECK_FAIL("accepted (%d): %s", r, text);
        if (!strstr(err.msg, words))
                CHECK_FAIL("%s\nsays \"%s\", not \"%s\"", text, err.msg, words);
        CHECK_INT(toml_parse(text, strlen(text), &doc, NULL), -EINVAL);
}

TEST(scalars)
{
        expect("", "{}");
        expect("# only a comment", "{}");
        expect("\xef\xbb\xbf"
               "a = 1",
                "{a=1}");
        expect("a = 1 # one\r\nb=-1_000\nc=0xfF\nd=0o17\ne=0b101\nf=+7\ng=0\n", "{a=1 b=-1000 c=255 d=15 e=5 f=7 g=0}");
        expect("a=9223372036854775807\nb=-9223372036854775808", "{a=9223372036854775807 b=-9223372036854775808}");
        expect("a=true\nb=false", "{a=T b=F}");
        expect("a=1.5\nb=1e9\nc=inf\nd=-nan\ne=1979-05-27T07:32:00Z\nf=07:32:00",
                "{a=~1.5 b=~1e9 c=~inf d=~-nan "
                "e=~1979-05-27T07:32:00Z f=~07:32:00}");
        expect("a=1979-05-27 07:32:00.5+01:00 # c\nb=1979-05-27 # d\nc=6.0_2E-2_3",
                "{a=~1979-05-27 07:32:00.5+01:00 b=~1979-05-27 c=~6.0_2E-2_3}");
        static const char *const numbers[] = {"5Z", "1.", ".5", "1e", "1.e5", "01.5", "1__0.5", "1._5", "1979-05-2",
                "1979-05-27T", "07:32", "07:32:00Z", "1979-05-27T07:32:00+01", "1979-05-27T07:32:00.", "inff", "1.5.5",
                "1979-05-2707:32:00"};
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
                char text[40];
                snprintf(text, sizeof text, "a=%s", numbers[i]);
                refuse(text, "not a value");
        }
        refuse("a=9223372036854775808", "not a value");
        refuse("a=01", "not a value");
        refuse("a=1__0", "not a value");
        refuse("a=_1", "not a value");
        refuse("a=1_", "not a value");
        refuse("a=0x", "not a value");
        refuse("a=True", "not a value");
        refuse("a=word", "not a value");
        refuse("a=", "line 1: a value is missing");
        refuse("a=1 b=2", "where the line should end");
        refuse("a", "'=' is missing");
        refuse("=1", "a key is missing");
}

TEST(strings)
{
        expect("a=\"x\\t\\\"\\\\\\u00e9\\U0001F600\"", "{a=\"x\t\"\\\xc3\xa9\xf0\x9f\x98\x80\"}");
        expect("a='c:\\d \"q\"'", "{a=\"c:\\d \"q\"\"}");
        expect("a=\"\"\nb=''", "{a=\"\" b=\"\"}");
        expect("a=\"\"\"\nx\ny\"\"\"", "{a=\"x\ny\"}");
        expect("a=\"\"\"x\\  \n\n   y\"\"\"", "{a=\"xy\"}");
        expect("a=\"\"\"\"q\"\"\"\"\"", "{a=\"\"q\"\"\"}");
        expect("a='''\r\nx\r\n'y''''", "{a=\"x\n'y'\"}");
        refuse("\n\na=\"x", "line 3: the closing quote");
        refuse("a=\"x\ny\"", "line 1: the closing quote");
        refuse("a=\"\"\"x\n\n", "line 1: the closing three quotes");
        refuse("a=\"\\x41\"", "unknown escape");
        refuse("a=\"\\u12\"", "4 hexadecimal digits");
        refuse("a=\"\\u0000\"", "names no character");
        refuse("a=\"\\ud800\"", "names no character");
        refuse("a=\"\\UFFFFFFFF\"", "names no character");
        refuse("a=\"\x01\"", "control character");
        refuse("a=\"\xff\"", "line 1: not UTF-8");
        refuse("a=\"\xed\xa0\x80\"", "not UTF-8");
        refuse("a=\"\xc0\x80\"", "not UTF-8");
        refuse("\n# \xf4\x90\x80\x80", "line 2: not UTF-8");
        refuse("a=1\rb=2", "control character");
        refuse("a=\"\"\"\"\"\"\"\"\"", "where the line should end");
}

TEST(keys)
{
        expect("a-b_1=1\n\"quoted key\"=2\n'x.y'=3\n1234=4\n\"\"=5", "{a-b_1=1 quoted key=2 x.y=3 1234=4 =5}");
        expect("a.b.c=1\na . b . \"d\" = 2\na.e=3", "{a={b={c=1 d=2} e=3}}");
        refuse("a=1\na=2", "line 2: the key \"a\" is there already (line 1)");
        refuse("a=1\na.b=2", "there already");
        refuse("a.b=1\na=2", "there already");
        refuse("a..b=1", "a key is missing");
        refuse("\"\"\"a\"\"\"=1", "several lines");
        refuse("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1", "more than 32 parts");
}

TEST(arrays_and_inline_tables)
{
        expect("a=[]", "{a=[]}");
        expect("a=[1, 'x', [true], {b=1}]", "{a=[1 \"x\" [T] {b=1}]}");
        expect("a=[ # c\n 1 , # d\n\n 2,\n]\nb=1", "{a=[1 2] b=1}");
        expect("a={}\nb={ x = 1, y.z = 2 , y.w = {} }", "{a={} b={x=1 y={z=2 w={}}}}");
        refuse("a=[1 2]", "',' or ']' is missing");
        refuse("a=[1", "',' or ']' is missing");
        refuse("a=[,]", "a value is missing");
        refuse("a={x=1,}", "a key is missing");
        refuse("a={x=1\n}", "in one line");
        refuse("a={x=1,x=2}", "there already");
        refuse("a={}\na.b=1", "there already");
        refuse("a={b={}}\n[a.c]", "nothing can be added");
        refuse("a=[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "nested deeper");
}

TEST(tables)
{
        expect("[a]\nx=1\n[b]\nx=2", "{a={x=1} b={x=2}}");
        expect("[a.b]\nx=1\n[a]\ny=2", "{a={b={x=1} y=2}}");
        expect("[ a . 'b' ]", "{a={b={}}}");
        expect("[[r]]\nx=1\n[[r.m]]\nl=1\n[[r.m]]\n[[r]]\nx=2\n[r.s]\nk=1", "{r=[{x=1 m=[{l=1} {}]} {x=2 s={k=1}}]}");
        expect("[f]\na.b=1\n[f.a.t]\nc=1", "{f={a={b=1 t={c=1}}}}");
        refuse("[a]\n[a]", "line 2: [a] is there already (line 1)");
        refuse("[a]\nb=1\n[a.b]", "line 3");
        refuse("[f]\na.b=1\n[f.a]", "there already");
        refuse("[a.b.c]\nz=1\n[a]\nb.c.t=1", "there already");
        refuse("[a]\n[[a]]", "something else already");
        refuse("[[a]]\n[a]", "there already");
        refuse("a=[{}]\n[[a]]", "something else already");
        refuse("a=[]\n[a.b]", "nothing can be added");
        refuse("[a", "] at the end is missing");
        refuse("[[a]", "]] at the end is missing");
        refuse("[]", "a key is missing");
        refuse("[a] x=1", "where the line should end");
        refuse("[a.]", "a key is missing");
}

TEST(getters)
{
        static const char text[] = "s='x'\nb=true\nn=1\n\nl=['a',\n 1]\nk=['a','b']";
        struct toml *doc;
        CHECK_INT(toml_parse(text, strlen(text), &doc, NULL), 0);
        const struct toml_value *root = toml_root(doc), *v;
        const char *s;
        bool b;
        struct error err = {0};
        CHECK_INT(toml_get_string(root, "s", &s, &err), 0);
        CHECK_STR(s, "x");
        CHECK_INT(toml_get_string(root, "absent", &s, &err), 0);
        CHECK(!s);
        CHECK_INT(toml_get_bool(root, "b", false, &b, &err), 0);
        CHECK(b);
        CHECK_INT(toml_get_bool(root, "absent", true, &b, &err), 0);
        CHECK(b);
        CHECK_INT(toml_get_string(root, "n", &s, &err), -EINVAL);
        CHECK_STR(err.msg, "line 3: \"n\" must be text in quotes");
        CHECK_INT(toml_get_bool(root, "s", false, &b, &err), -EINVAL);
        CHECK_INT(toml_get(root, "l", TOML_ARRAY, &v, &err), 0);
        CHECK_INT(toml_check_items(v, TOML_STRING, &err), -EINVAL);
        CHECK_STR(err.msg, "line 6: every item of the list must be text in quotes");
        CHECK_INT(toml_get(root, "k", TOML_ARRAY, &v, &err), 0);
        CHECK_INT(toml_check_items(v, TOML_STRING, &err), 0);
        toml_free(doc);
}

TEST(size)
{
        char *big = malloc(TOML_MAX_BYTES + 1);
        memset(big, '\n', TOML_MAX_BYTES + 1);
        struct toml *doc;
        CHECK_INT(toml_parse(big, TOML_MAX_BYTES, &doc, NULL), 0);
        toml_free(doc);
        CHECK_INT(toml_parse(big, TOML_MAX_BYTES + 1, &doc, NULL), -EFBIG);
        free(big);
}
