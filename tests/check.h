#pragma once
/**
 * The unit tests' few words. TEST(name) { ... } defines and registers a test; CHECK(condition) and its relatives print
 * place and values and end the program at the first failure, so that a sanitizer's report is the only other ending.
 * One program a module; `program NAME...` runs only the named tests.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct check_test {
        const char *name;
        void (*fn)(void);
        struct check_test *next;
};

static struct check_test *check_first, **check_end = &check_first;

#define TEST(test_name)                                                                                                \
        static void test_##test_name(void);                                                                            \
        static struct check_test check_##test_name = {#test_name, test_##test_name, NULL};                             \
        __attribute__((constructor)) static void check_register_##test_name(void)                                      \
        {                                                                                                              \
                *check_end = &check_##test_name;                                                                       \
                check_end = &check_##test_name.next;                                                                   \
        }                                                                                                              \
        static void test_##test_name(void)

#define CHECK_FAIL(...)                                                                                                \
        do {                                                                                                           \
                fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                        \
                fprintf(stderr, __VA_ARGS__);                                                                          \
                fputc('\n', stderr);                                                                                   \
                exit(1);                                                                                               \
        } while (0)

#define CHECK(condition)                                                                                               \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        CHECK_FAIL("CHECK(%s)", #condition);                                                           \
        } while (0)

/** Integers of any type. */
#define CHECK_INT(got, want)                                                                                           \
        do {                                                                                                           \
                intmax_t check_got_ = (intmax_t)(got), check_want_ = (intmax_t)(want);                                 \
                if (check_got_ != check_want_)                                                                         \
                        CHECK_FAIL("%s is %" PRIdMAX ", not %" PRIdMAX, #got, check_got_, check_want_);                \
        } while (0)

#define CHECK_STR(got, want)                                                                                           \
        do {                                                                                                           \
                const char *check_got_ = (got), *check_want_ = (want);                                                 \
                if (!check_got_ || strcmp(check_got_, check_want_) != 0)                                               \
                        CHECK_FAIL("%s is \"%s\", not \"%s\"", #got, check_got_ ? check_got_ : "(null)", check_want_); \
        } while (0)

#define CHECK_MEM(got, want, len)                                                                                      \
        do {                                                                                                           \
                if (memcmp(got, want, len) != 0)                                                                       \
                        CHECK_FAIL("%s differs from %s", #got, #want);                                                 \
        } while (0)

int main(int argc, char **argv)
{
        for (struct check_test *t = check_first; t; t = t->next) {
                int wanted = argc < 2;
                for (int i = 1; i < argc; i++)
                        wanted |= strcmp(argv[i], t->name) == 0;
                if (!wanted)
                        continue;
                t->fn();
                printf("ok %s\n", t->name);
                fflush(stdout);
        }
        return 0;
}
