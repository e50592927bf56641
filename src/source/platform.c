/*
 * How: everything is normalized when it comes in, so that comparing is comparing strings. The baseline of an architecture
 * is written without a variant (amd64 v1, arm64 v8), but for arm, where it is always said (v7), as containerd does.
 *
 * Stand-ins follow containerd's order: the wanted variant, then older ones downwards, then the 32-bit sibling:
 *
 *   amd64/v3     amd64/v3, v2, (v1), 386
 *   arm64/v9.1   v9.1, v8.6, v9, v8.5, v8.4, ... v8.1, (v8), arm/v8, v7, v6, v5
 *   arm/v7       v7, v6, v5
 *   others       the variant, then none; who wants no variant takes any, last
 */
#include "source/platform.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/mem.h"

static void set_word(char word[32], const char *text)
{
        size_t len = text ? strlen(text) : 0;
        len = MIN(len, (size_t)PLATFORM_WORD_MAX);
        for (size_t i = 0; i < len; i++)
                word[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 'a' - 'A') : text[i];
        memset(word + len, 0, 32 - len);
}

static bool is(const char *word, const char *text)
{
        return strcmp(word, text) == 0;
}

static const struct {
        const char *from, *architecture, *variant; /* variant NULL: as it was */
} aliases[] = {
        {"x86_64", "amd64", NULL},
        {"x86-64", "amd64", NULL},
        {"x64", "amd64", NULL},
        {"i386", "386", NULL},
        {"i486", "386", NULL},
        {"i586", "386", NULL},
        {"i686", "386", NULL},
        {"x86", "386", NULL},
        {"aarch64", "arm64", NULL},
        {"armhf", "arm", "v7"},
        {"armel", "arm", "v6"},
        {"armv8l", "arm", "v8"},
        {"armv7l", "arm", "v7"},
        {"armv6l", "arm", "v6"},
        {"armv5tel", "arm", "v5"},
        {"armv5tejl", "arm", "v5"},
        {"loongarch64", "loong64", NULL},
};

static void normalize(struct platform *p)
{
        if (is(p->os, "macos"))
                set_word(p->os, "darwin");
        for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
                if (!is(p->architecture, aliases[i].from))
                        continue;
                set_word(p->architecture, aliases[i].architecture);
                if (aliases[i].variant && !p->variant[0])
                        set_word(p->variant, aliases[i].variant);
                break;
        }
        char first = p->variant[0];
        if (is(p->architecture, "arm")) {
                if (!first)
                        set_word(p->variant, "v7");
                else if (first >= '5' && first <= '8' && !p->variant[1])
                        set_word(p->variant, (char[]){'v', first, '\0'});
        } else if (is(p->architecture, "arm64")) {
                if (is(p->variant, "8") || is(p->variant, "v8") || is(p->variant, "v8.0"))
                        set_word(p->variant, "");
                else if (is(p->variant, "9") || is(p->variant, "v9.0"))
                        set_word(p->variant, "v9");
        } else if (is(p->architecture, "amd64") && (is(p->variant, "v1") || is(p->variant, "1"))) {
                set_word(p->variant, "");
        }
}

void platform_set(struct platform *p, const char *os, const char *architecture, const char *variant)
{
        set_word(p->os, os);
        set_word(p->architecture, architecture);
        set_word(p->variant, variant);
        normalize(p);
}

/* the kernel's name says only little of mips and ppc; the byte order of this program says the rest */
static const char *machine_name(const char *machine)
{
        bool little = *(const char *)&(const int){1} == 1;
        if (is(machine, "mips64"))
                return little ? "mips64le" : "mips64";
        if (is(machine, "mips"))
                return little ? "mipsle" : "mips";
        return machine;
}

void platform_host(struct platform *ret_platform)
{
        struct utsname uts;
        if (uname(&uts) < 0) /* cannot happen; then the commonest one */
                strcpy(uts.machine, "x86_64");
        platform_set(ret_platform, "linux", machine_name(uts.machine), NULL);
}

static bool known_os(const char *word)
{
        static const char *const names[] = {"linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd",
                "dragonfly", "solaris", "illumos", "aix", "android", "plan9", "wasi", "wasip1", "js"};
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (strcasecmp(word, names[i]) == 0)
                        return true;
        return false;
}

/* cuts text at slashes into words; the count, or -1 when there are more than three or one has a wrong form */
static int split(const char *text, char words[3][32])
{
        int count = 0;
        for (;;) {
                size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
                if (!len || len > PLATFORM_WORD_MAX || count == 3)
                        return -1;
                memcpy(words[count], text, len);
                words[count++][len] = '\0';
                if (!text[len])
                        return count;
                if (text[len] != '/')
                        return -1;
                text += len + 1;
        }
}

int platform_parse(const char *text, struct platform *ret_platform, struct error *err)
{
        char words[3][32];
        int count = split(text, words);
        if (count < 0)
                return error_set(err, -EINVAL,
                        "platform \"%.80s\": is not os/arch[/variant], such as linux/arm64 or linux/arm/v7", text);
        struct platform host;
        platform_host(&host);
        if (count == 3)
                platform_set(ret_platform, words[0], words[1], words[2]);
        else if (count == 2 && known_os(words[0]))
                platform_set(ret_platform, words[0], words[1], NULL);
        else if (count == 2)
                platform_set(ret_platform, host.os, words[0], words[1]);
        else if (known_os(words[0]))
                platform_set(ret_platform, words[0], host.architecture, host.variant);
        else
                platform_set(ret_platform, host.os, words[0], NULL);
        return 0;
}

const char *platform_format(const struct platform *p, char text[100])
{
        snprintf(text, 100, "%s/%s%s%s", p->os, p->architecture, p->variant[0] ? "/" : "", p->variant);
        return text;
}

/* "v8.5" -> 8, 5; "" is the baseline */
static bool parse_version(const char *variant, unsigned baseline, unsigned *ret_major, unsigned *ret_minor)
{
        unsigned major = baseline, minor = 0;
        int end = 0;
        if (variant[0] && (sscanf(variant, "v%2u%n", &major, &end) != 1 || end == 0))
                return false;
        if (variant[0] && variant[end] == '.') {
                const char *rest = variant + end + 1;
                if (sscanf(rest, "%2u%n", &minor, &end) != 1 || rest[end])
                        return false;
        } else if (variant[0] && variant[end]) {
                return false;
        }
        *ret_major = major;
        *ret_minor = minor;
        return true;
}

/* plain generations, v3 over v2 over v1: how many steps below what is wanted, -1 when above */
static int rank_generation(const char *want, const char *have)
{
        unsigned wanted, given, minor_wanted, minor_given;
        if (!parse_version(want, 1, &wanted, &minor_wanted) || !parse_version(have, 1, &given, &minor_given) ||
                minor_wanted || minor_given || given > wanted)
                return -1;
        return (int)(wanted - given);
}

/* Arm's A-profile: v9.y has all of v8.(y+5), so the two lines are woven into each other */
static int rank_arm64(const char *want, const char *have)
{
        enum { V8_LAST_MINOR = 9 };
        unsigned wanted, wanted_minor, given, given_minor;
        if (!parse_version(want, 8, &wanted, &wanted_minor) || !parse_version(have, 8, &given, &given_minor))
                return -1;
        if (given == wanted)
                return given_minor > wanted_minor ? -1 : (int)(wanted_minor - given_minor) * (wanted == 9 ? 2 : 1);
        if (wanted != 9 || given != 8)
                return -1;
        unsigned top = wanted_minor + 5; /* the v8 beside the wanted v9 */
        if (given_minor > MIN(top, (unsigned)V8_LAST_MINOR))
                return -1;
        return given_minor >= 5 ? (int)(top - given_minor) * 2 + 1 : (int)(wanted_minor * 2 + 1 + 5 - given_minor);
}

enum { RANK_SIBLING = 1000, RANK_OTHER_VARIANT = 2000 };

int platform_rank(const struct platform *want, const struct platform *have)
{
        if (!is(want->os, have->os))
                return -1;
        bool same = is(want->architecture, have->architecture);
        if (same && is(want->variant, have->variant))
                return 0;
        if (is(want->architecture, "amd64"))
                return same                            ? rank_generation(want->variant, have->variant)
                       : is(have->architecture, "386") ? RANK_SIBLING
                                                       : -1;
        if (is(want->architecture, "arm"))
                return same ? rank_generation(want->variant, have->variant) : -1;
        if (is(want->architecture, "arm64") && is(have->architecture, "arm")) {
                int steps = rank_generation("v8", have->variant);
                return steps < 0 ? -1 : RANK_SIBLING + steps;
        }
        if (!same)
                return -1;
        if (is(want->architecture, "arm64"))
                return rank_arm64(want->variant, have->variant);
        return !have->variant[0] ? 1 : !want->variant[0] ? RANK_OTHER_VARIANT : -1;
}
