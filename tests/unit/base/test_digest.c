/* Digests: what is one and what is none (image-spec descriptor.md), and the hashes against known values. */
#include "check.h"

#include <errno.h>

#include "base/digest.h"

#define EMPTY "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC                                                                                                            \
        "sha512:"                                                                                                      \
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643"  \
        "ce80e2a9ac94fa54ca49f"

static int parse(const char *text, struct digest *d)
{
        return digest_parse(text, strlen(text), d);
}

TEST(there_and_back)
{
        struct digest d, e;
        char text[DIGEST_MAX_TEXT];
        CHECK_INT(parse(EMPTY, &d), 0);
        CHECK_INT(d.alg, DIGEST_SHA256);
        CHECK_STR(digest_format(&d, text), EMPTY);
        CHECK_STR(digest_hex(&d, text), EMPTY + 7);
        CHECK_INT(parse(ABC, &e), 0);
        CHECK_STR(digest_format(&e, text), ABC);
        CHECK(!digest_equal(&d, &e) && digest_equal(&e, &e));
}

TEST(what_is_no_digest)
{
        struct digest d;
        static const char *const bad[] = {"", ":", "sha256", "sha256:", "sha256:e3b0",
                "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85g",
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555",
                "SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "+sha:e3b0c44298fc1c149afbf4c8996fb924", "sha+:e3b0c44298fc1c149afbf4c8996fb924",
                "a..b:e3b0c44298fc1c149afbf4c8996fb924", "../../etc:e3b0c44298fc1c149afbf4c8996fb924", EMPTY " "};
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                if (parse(bad[i], &d) != -EINVAL)
                        CHECK_FAIL("\"%s\" is taken for a digest", bad[i]);
        CHECK_INT(digest_parse("sh\0a:e3b0c44298fc1c149afbf4c8996fb924", 37, &d), -EINVAL);
        CHECK_INT(parse("sha1+b64.x-y_z:e3b0c44298fc1c149afbf4c8996fb924", &d), -EOPNOTSUPP);
        CHECK_INT(parse("md5:d41d8cd98f00b204e9800998ecf8427e", &d), -EOPNOTSUPP);
}

TEST(hashes_are_right_in_any_pieces)
{
        struct digest want, got;
        CHECK_INT(parse(ABC, &want), 0);
        CHECK_INT(digest_memory(DIGEST_SHA512, "abc", 3, &got), 0);
        CHECK(digest_equal(&want, &got));
        char text[1000];
        memset(text, 'x', sizeof text);
        for (size_t len = 0; len <= sizeof text; len += sizeof text) {
                cleanup(digest_ctx_freep) struct digest_ctx *ctx = digest_ctx_new(DIGEST_SHA256);
                CHECK(ctx);
                for (size_t at = 0, n = 1; at < len; at += n, n = MIN(n * 2, len - at))
                        digest_ctx_update(ctx, text + at, n);
                digest_ctx_update(ctx, NULL, 0);
                digest_ctx_final(ctx, &got);
                CHECK_INT(digest_memory(DIGEST_SHA256, text, len, &want), 0);
                CHECK(digest_equal(&want, &got));
        }
}

TEST(a_check_says_what_and_both)
{
        struct digest d;
        struct error err = {0};
        CHECK_INT(parse(EMPTY, &d), 0);
        CHECK_INT(digest_check(&d, "", 0, "config", &err), 0);
        CHECK_INT(digest_check(&d, "x", 1, "config", &err), -EBADMSG);
        CHECK(strstr(err.msg, "config") && strstr(err.msg, EMPTY) && strstr(err.msg, "sha256:2d711642"));
}
