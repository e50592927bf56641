#pragma once
/**
 * One line on a terminal, rewritten while layers are read: layers, bytes, speed, time left. A thread of its own looks at the
 * counters of struct image_progress five times a second.
 */
#include "image/image.h"

struct progress;

/** NULL when stderr is no terminal or no thread can be had: then there is no line. */
struct progress *progress_start(const struct image_progress *counters);
/** Wipes the line. NULL is fine. */
void progress_stop(struct progress *p);
