#pragma once
/**
 * Buffers of some hundred kilobytes that are used again (private to layer/). Spans and compressed runs come and go a thousand
 * times a second while a tree is read; from malloc() each would cost the kernel a page fault for every 4 KiB, or memory lost
 * between neighbours of other sizes. Locks itself.
 */
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum {
        SPARE_STEP = 64 << 10,    /* rooms are multiples of it */
        SPARE_IDLE_MAX = 4 << 20, /* bytes kept that nobody uses */
};

struct spare;

/** NULL: out of memory. */
struct spare *spare_new(void);
/** All buffers must have been given back. */
void spare_free(struct spare *s);
DEFINE_CLEANUP(struct spare, spare_free);

/** How much memory a buffer of len bytes takes. */
static inline size_t spare_room(size_t len)
{
        return len ? (len + SPARE_STEP - 1) & ~(size_t)(SPARE_STEP - 1) : SPARE_STEP;
}

/** A buffer for len bytes, page-aligned, with anything in it; NULL: out of memory. */
uint8_t *spare_take(struct spare *s, size_t len);

/** Gives back what spare_take() gave for the same len. NULL data: nothing happens. */
void spare_give(struct spare *s, uint8_t *data, size_t len);

/** Gives the idle ones back to the system. */
void spare_trim(struct spare *s);
