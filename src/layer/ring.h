#pragma once
/**
 * Bytes from one thread to another, through a few large buffers (private to layer/). One writer, one reader; locks itself.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { RING_SLOTS = 8, RING_SLOT_LEN = 256 << 10 };

struct ring {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        uint8_t *slot[RING_SLOTS]; /* belongs to the writer while free, to the reader while full */
        size_t len[RING_SLOTS];
        unsigned first, count; /* under lock */
        bool ended, dropped;   /* under lock: no more will come; nobody takes any more */
};

/** ring_done() must follow, also when it failed. */
int ring_init(struct ring *q, struct error *err);
void ring_done(struct ring *q);

/** The writer: passes bytes on, waiting for free slots. After ring_drop() they are lost. */
void ring_put(struct ring *q, const uint8_t *data, size_t len);
/** The writer: no more will come. */
void ring_end(struct ring *q);

/** The reader: the next full slot, its own until ring_release(); false at the end. */
bool ring_take(struct ring *q, const uint8_t **ret_data, size_t *ret_len);
void ring_release(struct ring *q);
/** The reader takes no more. */
void ring_drop(struct ring *q);
