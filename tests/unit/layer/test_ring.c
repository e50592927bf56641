/* The ring between two threads: all bytes in order, the end, and a reader that leaves. */
#include <string.h>

#include "layer/ring.h"
#include "check.h"

enum { LEN = 5 * RING_SLOTS * RING_SLOT_LEN + 12345 };

static void *write_all(void *arg)
{
        struct ring *q = arg;
        static uint8_t piece[3 * RING_SLOT_LEN / 2];
        for (size_t at = 0; at < LEN;) {
                size_t n = LEN - at < sizeof piece ? LEN - at : sizeof piece;
                for (size_t i = 0; i < n; i++)
                        piece[i] = (uint8_t)((at + i) % 251);
                ring_put(q, piece, n);
                at += n;
        }
        ring_end(q);
        return NULL;
}

TEST(all_bytes_in_order)
{
        struct ring q = {0};
        pthread_t writer;
        const uint8_t *data;
        size_t len, at = 0;
        CHECK_INT(ring_init(&q, NULL), 0);
        CHECK_INT(pthread_create(&writer, NULL, write_all, &q), 0);
        bool right = true;
        while (ring_take(&q, &data, &len)) {
                for (size_t i = 0; i < len; i++)
                        right &= data[i] == (at + i) % 251;
                at += len;
                ring_release(&q);
        }
        pthread_join(writer, NULL);
        CHECK(right);
        CHECK_INT(at, LEN);
        CHECK(!ring_take(&q, &data, &len));
        ring_done(&q);
}

TEST(a_reader_that_leaves_stops_nobody)
{
        struct ring q = {0};
        pthread_t writer;
        const uint8_t *data;
        size_t len;
        CHECK_INT(ring_init(&q, NULL), 0);
        CHECK_INT(pthread_create(&writer, NULL, write_all, &q), 0);
        CHECK(ring_take(&q, &data, &len));
        ring_drop(&q);
        pthread_join(writer, NULL);
        ring_done(&q);
}
