#pragma once
/**
 * Gives memory back when nobody reads: what was read is in the kernel's page cache by then, and a span that nobody asked for
 * in a while is only in the way. A thread of its own looks every few seconds.
 */
#include "base/mem.h"
#include "layer/layer.h"

struct idle;

/** cache: borrowed, must outlive it. NULL when no thread can be had; then memory is kept, which is no failure. */
struct idle *idle_start(struct span_cache *cache);
void idle_stop(struct idle *i);
