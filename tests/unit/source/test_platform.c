#include "check.h"

#include <errno.h>

#include "source/platform.h"

static struct platform make(const char *os, const char *architecture, const char *variant)
{
        struct platform p;
        platform_set(&p, os, architecture, variant);
        return p;
}

static void same(const char *os, const char *architecture, const char *variant, const char *want)
{
        char text[100];
        struct platform p = make(os, architecture, variant);
        CHECK_STR(platform_format(&p, text), want);
}

TEST(spellings)
{
        same("linux", "x86_64", NULL, "linux/amd64");
        same("Linux", "X86-64", "v1", "linux/amd64");
        same("linux", "amd64", "v3", "linux/amd64/v3");
        same("linux", "i686", "", "linux/386");
        same("linux", "aarch64", "", "linux/arm64");
        same("linux", "arm64", "8", "linux/arm64");
        same("linux", "arm64", "v8", "linux/arm64");
        same("linux", "arm64", "v9.0", "linux/arm64/v9");
        same("linux", "armhf", "", "linux/arm/v7");
        same("linux", "armel", "", "linux/arm/v6");
        same("linux", "arm", "", "linux/arm/v7");
        same("linux", "arm", "6", "linux/arm/v6");
        same("linux", "arm", "v5", "linux/arm/v5");
        same("macos", "aarch64", NULL, "darwin/arm64");
        same("linux", "riscv64", NULL, "linux/riscv64");
}

TEST(too_long_words_are_cut)
{
        char word[100] = {0};
        memset(word, 'a', 99);
        struct platform p = make(word, word, word);
        CHECK_INT(strlen(p.os), PLATFORM_WORD_MAX);
        CHECK_INT(strlen(p.variant), PLATFORM_WORD_MAX);
        char text[100];
        CHECK_INT(strlen(platform_format(&p, text)), 3 * PLATFORM_WORD_MAX + 2);
}

static void parsed(const char *text, const char *want)
{
        struct platform p;
        struct error err = {0};
        char got[100];
        CHECK_INT(platform_parse(text, &p, &err), 0);
        CHECK_STR(platform_format(&p, got), want);
}

TEST(parse)
{
        struct platform host;
        char text[100];
        platform_host(&host);
        CHECK_STR(host.os, "linux");
        parsed("linux/arm64", "linux/arm64");
        parsed("linux/arm/v6", "linux/arm/v6");
        parsed("arm64", "linux/arm64");
        parsed("arm/v7", "linux/arm/v7");
        parsed("windows/amd64", "windows/amd64");
        parsed("linux", platform_format(&host, text));

        static const char *const bad[] = {"", "/", "linux/", "/amd64", "linux//v1", "linux/arm/v7/x", "linux/a b",
                "linux/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "linux/\xff"};
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                struct error err = {0};
                struct platform p;
                CHECK_INT(platform_parse(bad[i], &p, &err), -EINVAL);
                CHECK(err.msg[0]);
        }
}

/* each of the list serves `want`, in this order of preference */
static void order(const char *want_text, const char *const *list)
{
        struct platform want, have;
        int last = -1;
        CHECK_INT(platform_parse(want_text, &want, NULL), 0);
        for (; *list; list++) {
                CHECK_INT(platform_parse(*list, &have, NULL), 0);
                int rank = platform_rank(&want, &have);
                if (rank <= last)
                        CHECK_FAIL("%s for %s has rank %d after %d", *list, want_text, rank, last);
                last = rank;
        }
}

static void never(const char *want_text, const char *have_text)
{
        struct platform want, have;
        CHECK_INT(platform_parse(want_text, &want, NULL), 0);
        CHECK_INT(platform_parse(have_text, &have, NULL), 0);
        CHECK_INT(platform_rank(&want, &have), -1);
}

TEST(ranks)
{
        order("linux/amd64", (const char *[]){"linux/amd64/v1", "linux/386", NULL});
        order("linux/amd64/v3", (const char *[]){"amd64/v3", "amd64/v2", "amd64", "386", NULL});
        order("linux/arm/v7", (const char *[]){"arm", "arm/v6", "arm/v5", NULL});
        order("linux/arm64", (const char *[]){"arm64/v8", "arm/v8", "arm/v7", "arm/v6", "arm/v5", NULL});
        order("linux/arm64/v9.1", (const char *[]){"arm64/v9.1", "arm64/v8.6", "arm64/v9", "arm64/v8.5", "arm64/v8.4",
                                          "arm64/v8.1", "arm64/v8", "arm/v8", NULL});
        order("linux/arm64/v8.2", (const char *[]){"arm64/v8.2", "arm64/v8.1", "arm64", "arm/v7", NULL});
        order("linux/riscv64/rva22u64", (const char *[]){"riscv64/rva22u64", "riscv64", NULL});
        order("linux/riscv64", (const char *[]){"riscv64", "riscv64/rva22u64", NULL});

        never("linux/amd64", "linux/amd64/v2");
        never("linux/amd64", "linux/arm64");
        never("linux/amd64", "windows/amd64");
        never("linux/386", "linux/amd64");
        never("linux/arm/v6", "linux/arm/v7");
        never("linux/arm64", "linux/arm64/v8.1");
        never("linux/arm64/v8.5", "linux/arm64/v9");
        never("linux/arm64/v9.1", "linux/arm64/v8.7");
        never("linux/arm64/v9.9", "linux/arm64/v8.10");
        never("linux/riscv64/a", "linux/riscv64/b");
        never("linux/amd64/v3", "linux/amd64/v-1");
        never("linux/amd64/v3", "linux/amd64/v2x");
}
