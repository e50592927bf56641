#pragma once
/**
 * Memory that is given piecewise and freed as a whole: a tree, a parsed document. One thread at a time while it grows;
 * what was given may be read from any thread.
 */
#include <stddef.h>

struct arena {
        struct arena_block *last; /* newest block, linked to the older ones */
        size_t used;              /* bytes given from all blocks, padding included */
};

void arena_init(struct arena *a);
void arena_done(struct arena *a);

/** Zeroed memory, aligned for any object; NULL when out of memory. */
void *arena_alloc(struct arena *a, size_t len);

/** A copy of len bytes with a NUL behind them; NULL when out of memory. Not aligned. */
char *arena_copy(struct arena *a, const void *data, size_t len);
