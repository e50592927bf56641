/* The buffers that are used again: same room, same buffer; no more idle than the bound; nothing after a trim. */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "layer/spare.h"
#include "check.h"

static bool mapped(const void *p)
{
        return msync((void *)(uintptr_t)p, 1, MS_ASYNC) == 0;
}

TEST(rooms)
{
        CHECK_INT(spare_room(0), SPARE_STEP);
        CHECK_INT(spare_room(1), SPARE_STEP);
        CHECK_INT(spare_room(SPARE_STEP), SPARE_STEP);
        CHECK_INT(spare_room(SPARE_STEP + 1), 2 * SPARE_STEP);
}

TEST(a_buffer_is_used_again_for_its_room_only)
{
        struct spare *s = spare_new();
        uint8_t *a = spare_take(s, 100000), *b = spare_take(s, 100000);
        CHECK(a && b && a != b);
        memset(a, 1, 100000);
        memset(b, 2, 100000);
        spare_give(s, a, 100000);
        uint8_t *c = spare_take(s, 300000), *d = spare_take(s, 90000);
        CHECK(c != a);
        CHECK(d == a);
        CHECK_INT(b[99999], 2);
        spare_give(s, b, 100000);
        spare_give(s, c, 300000);
        spare_give(s, d, 90000);
        spare_give(s, NULL, 5);
        spare_free(s);
        CHECK(!mapped(b));
}

TEST(idle_bytes_are_bounded)
{
        struct spare *s = spare_new();
        uint8_t *p[SPARE_IDLE_MAX / SPARE_STEP + 1];
        for (size_t i = 0; i < sizeof p / sizeof *p; i++)
                p[i] = spare_take(s, SPARE_STEP);
        for (size_t i = 0; i < sizeof p / sizeof *p; i++)
                spare_give(s, p[i], SPARE_STEP);
        CHECK(!mapped(p[0])); /* idle longest */
        CHECK(mapped(p[1]));
        spare_trim(s);
        CHECK(!mapped(p[1]));
        uint8_t *large = spare_take(s, 2 * SPARE_IDLE_MAX);
        large[0] = 1;
        spare_give(s, large, 2 * SPARE_IDLE_MAX);
        CHECK(!mapped(large));
        CHECK(spare_take(s, SIZE_MAX) == NULL);
        spare_free(s);
}
