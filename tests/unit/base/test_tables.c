/* map and arena: what is put in is found, stays where it is, and is all that is found. */
#include "check.h"

#include <stddef.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/mem.h"

enum { KEYS = 20000 };

TEST(a_map_finds_what_was_put)
{
        static char keys[KEYS][8];
        struct map m;
        map_init(&m);
        CHECK(!map_find(&m, "x", 1));
        for (unsigned i = 0; i < KEYS; i++) {
                snprintf(keys[i], sizeof keys[i], "k%u", i);
                CHECK_INT(map_put(&m, keys[i], strlen(keys[i]), i), 0);
        }
        CHECK_INT(m.count, KEYS);
        for (unsigned i = 0; i < KEYS; i += 3)
                CHECK_INT(map_put(&m, keys[i], strlen(keys[i]), i + 7), 0);
        CHECK_INT(m.count, KEYS);
        for (unsigned i = 0; i < KEYS; i++) {
                const uint64_t *value = map_find(&m, keys[i], strlen(keys[i]));
                CHECK(value);
                CHECK_INT(*value, i % 3 ? i : i + 7);
        }
        CHECK(!map_find(&m, "k", 1));
        CHECK(!map_find(&m, "", 0));
        CHECK_INT(map_put(&m, "", 0, 5), 0);
        CHECK_INT(*map_find(&m, "", 0), 5);
        CHECK_INT(map_put(&m, "a\0b", 3, 6), 0);
        CHECK(!map_find(&m, "a\0c", 3));
        CHECK_INT(*map_find(&m, "a\0b", 3), 6);
        map_done(&m);
}

TEST(hashes_depend_on_the_seed)
{
        CHECK(map_hash(1, "abc", 3) != map_hash(2, "abc", 3));
        CHECK(map_hash(1, "abc", 3) == map_hash(1, "abcd", 3));
        CHECK(map_seed() != map_seed());
}

TEST(an_arena_gives_zeroed_aligned_memory_that_stays)
{
        struct arena a;
        arena_init(&a);
        static char *texts[KEYS];
        char text[20];
        for (int i = 0; i < KEYS; i++) {
                snprintf(text, sizeof text, "text %d", i);
                texts[i] = arena_copy(&a, text, strlen(text));
                CHECK(texts[i]);
                uint64_t *p = arena_alloc(&a, (size_t)i % 50 + 1);
                CHECK(p && (uintptr_t)p % _Alignof(max_align_t) == 0 && *(uint8_t *)p == 0);
        }
        uint8_t *large = arena_alloc(&a, 10 << 20);
        CHECK(large && !large[0] && !large[(10 << 20) - 1]);
        memset(large, 1, 10 << 20);
        CHECK(!arena_alloc(&a, SIZE_MAX));
        CHECK(!arena_alloc(&a, SIZE_MAX - 100));
        CHECK(!arena_copy(&a, "", SIZE_MAX));
        for (int i = 0; i < KEYS; i++) {
                snprintf(text, sizeof text, "text %d", i);
                CHECK_STR(texts[i], text);
        }
        arena_done(&a);
        arena_done(&a);
}

TEST(arithmetic_that_is_checked)
{
        uint64_t v;
        CHECK(range_ok(0, 0, 0) && range_ok(5, 5, 10) && range_ok(10, 0, 10));
        CHECK(!range_ok(11, 0, 10) && !range_ok(5, 6, 10) && !range_ok(1, UINT64_MAX, 10));
        CHECK(!range_ok(UINT64_MAX, 2, UINT64_MAX));
        CHECK(add_ok((uint64_t)1, (uint64_t)2, &v) && v == 3);
        CHECK(!add_ok(UINT64_MAX, (uint64_t)1, &v));
        CHECK(!mul_ok(UINT64_MAX, (uint64_t)2, &v));
}

TEST(upper_halves_of_products)
{
        CHECK_INT(mul_high(0, UINT64_MAX), 0);
        CHECK_INT(mul_high(UINT64_MAX, 1), 0);
        CHECK(mul_high(UINT64_MAX, UINT64_MAX) == UINT64_MAX - 1);
        CHECK(mul_high(0xffffffff, 0xffffffff00000000) == 0xfffffffe);
        CHECK(mul_high(0x123456789abcdef0, 0xfedcba9876543210) == 0x121fa00ad77d7422);
        CHECK(mul_fold(0x123456789abcdef0, 0xfedcba9876543210) == (0x121fa00ad77d7422 ^ 0x236d88fe5618cf00));
}
