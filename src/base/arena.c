/* How: blocks of 64 KiB (or of the one object that is larger), filled from the front, chained for the end. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK = 64 << 10 };

struct arena_block {
        struct arena_block *older;
        size_t used, room; /* bytes of data[] */
        alignas(max_align_t) uint8_t data[];
};

void arena_init(struct arena *a)
{
        *a = (struct arena){0};
}

void arena_done(struct arena *a)
{
        for (struct arena_block *b = a->last; b;) {
                struct arena_block *older = b->older;
                free(b);
                b = older;
        }
        *a = (struct arena){0};
}

static void *give(struct arena *a, size_t len, size_t align)
{
        struct arena_block *b = a->last;
        size_t at = b ? (b->used + align - 1) & ~(align - 1) : 0;
        if (!b || at > b->room || len > b->room - at) {
                size_t room = len > ARENA_BLOCK ? len : ARENA_BLOCK;
                if (room > SIZE_MAX - sizeof *b)
                        return NULL;
                b = calloc(1, sizeof *b + room);
                if (!b)
                        return NULL;
                b->room = room;
                b->older = a->last;
                a->last = b;
                at = 0;
        }
        b->used = at + len;
        a->used += len;
        return b->data + at;
}

void *arena_alloc(struct arena *a, size_t len)
{
        return give(a, len, alignof(max_align_t));
}

char *arena_copy(struct arena *a, const void *data, size_t len)
{
        if (len == SIZE_MAX)
                return NULL;
        char *copy = give(a, len + 1, 1);
        if (copy && len)
                memcpy(copy, data, len);
        return copy;
}
