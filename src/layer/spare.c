/*
 * How: one list of idle buffers, the last one given back in front, as its pages are the ones still in the processor's cache. Only
 * one of just the wanted room is taken from it: then what the owners count is what they have, and as spans have a few lengths
 * only (a dozen rooms), nearly every look finds one. Each buffer is a mapping of its own, so that what is let go is gone. The head of an
 * idle buffer holds the link.
 */
#include "layer/spare.h"

#include <assert.h>
#include <pthread.h>
#include <sys/mman.h>

struct idle_buffer {
        struct idle_buffer *next;
        size_t room;
};

struct spare {
        pthread_mutex_t lock;
        struct idle_buffer *idle; /* under lock, as is the sum of their rooms */
        size_t idle_bytes;
};

struct spare *spare_new(void)
{
        struct spare *s = calloc(1, sizeof *s);
        if (s)
                pthread_mutex_init(&s->lock, NULL);
        return s;
}

void spare_free(struct spare *s)
{
        if (!s)
                return;
        spare_trim(s);
        pthread_mutex_destroy(&s->lock);
        free(s);
}

uint8_t *spare_take(struct spare *s, size_t len)
{
        size_t room = spare_room(len);
        if (room < len)
                return NULL;
        pthread_mutex_lock(&s->lock);
        struct idle_buffer **at = &s->idle, *found;
        while (*at && (*at)->room != room)
                at = &(*at)->next;
        found = *at;
        if (found) {
                *at = found->next;
                s->idle_bytes -= room;
        }
        pthread_mutex_unlock(&s->lock);
        if (found)
                return (uint8_t *)found;
        void *data = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return data == MAP_FAILED ? NULL : data;
}

/* under lock: takes the buffers out that were idle longest, until at most max bytes are left */
static struct idle_buffer *take_oldest(struct spare *s, size_t max)
{
        size_t kept = 0;
        struct idle_buffer **at = &s->idle;
        while (*at && kept + (*at)->room <= max) {
                kept += (*at)->room;
                at = &(*at)->next;
        }
        struct idle_buffer *rest = *at;
        *at = NULL;
        s->idle_bytes = kept;
        return rest;
}

static void unmap_all(struct idle_buffer *b)
{
        while (b) {
                struct idle_buffer *next = b->next;
                munmap(b, b->room);
                b = next;
        }
}

void spare_give(struct spare *s, uint8_t *data, size_t len)
{
        if (!data)
                return;
        struct idle_buffer *b = (struct idle_buffer *)(void *)data, *gone = NULL;
        pthread_mutex_lock(&s->lock);
        *b = (struct idle_buffer){.next = s->idle, .room = spare_room(len)};
        s->idle = b;
        s->idle_bytes += b->room;
        if (s->idle_bytes > SPARE_IDLE_MAX)
                gone = take_oldest(s, SPARE_IDLE_MAX);
        pthread_mutex_unlock(&s->lock);
        unmap_all(gone);
}

void spare_trim(struct spare *s)
{
        pthread_mutex_lock(&s->lock);
        struct idle_buffer *gone = take_oldest(s, 0);
        pthread_mutex_unlock(&s->lock);
        unmap_all(gone);
}
