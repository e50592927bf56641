/* Base64: RFC 4648's test vectors, and what is no base64. */
#include "base/base64.h"

#include <errno.h>

#include "check.h"

static void expect(const char *text, const char *want)
{
        /* exact room, so that a sanitizer sees a byte too many */
        size_t room = base64_room(strlen(text)), len = 99;
        char *out = malloc(room);
        CHECK_INT(base64_decode(text, strlen(text), out, &len), 0);
        CHECK_INT(len, strlen(want));
        CHECK_MEM(out, want, len);
        free(out);
}

static void refuse(const char *text)
{
        char out[100];
        size_t len = 99;
        if (base64_decode(text, strlen(text), out, &len) != -EINVAL || len != 99)
                CHECK_FAIL("accepted: %s", text);
}

TEST(good)
{
        expect("", "");
        expect("Zg==", "f");
        expect("Zm8=", "fo");
        expect("Zm9v", "foo");
        expect("Zm9vYg==", "foob");
        expect("Zm9vYmE=", "fooba");
        expect("Zm9vYmFy", "foobar");
        expect("Zm9v\r\nYmFy\n", "foobar");
        expect("++//", "\xfb\xef\xff");
        expect("Zh==", "f");
}

TEST(bad)
{
        refuse("Z");
        refuse("Zg");
        refuse("Zg=");
        refuse("Zm8");
        refuse("=");
        refuse("====");
        refuse("Z===");
        refuse("Zg==Zg==");
        refuse("Zg=v");
        refuse("Zm9v=");
        refuse("Zm8==");
        refuse("Zm 9v");
        refuse("Zm-_");
        refuse("Zm9\xff");
}
