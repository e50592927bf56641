/*
 * How: a fixed array of hash chains and a list from the most to the least recently used, under one mutex; a lookup costs a
 * tenth of a microsecond, an inflation a thousand times that, so one lock is enough. Waiting is on one condition for all:
 * wake-ups are rare. What counts against the bound is the room of the buffers (spare.h), not what is in them.
 */
#include "layer/span_cache.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

enum { CHAINS = 4096 };

enum span_state { STATE_LOADING, STATE_READY, STATE_FAILED };

struct span_entry {
        const void *owner;
        uint32_t span;
        enum span_state state; /* under lock */
        unsigned pins;         /* under lock: threads that load, copy or wait */
        size_t len;
        uint8_t *data;                    /* written by the claimer alone, read-only once ready */
        struct span_entry *chain;         /* under lock: next of the same hash */
        struct span_entry *newer, *older; /* under lock: use order, of all in the table */
        int code;                         /* of a failure */
        struct error error;
};

struct span_cache {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        struct pool *readahead;
        atomic_bool stopped;
        struct spare *spare; /* locks itself */
        uint64_t max_bytes;
        struct span_entry *chains[CHAINS]; /* under lock, like all below */
        struct span_entry *newest, *oldest;
        uint64_t bytes; /* of all entries, loading ones too */
        uint64_t hits, inflated;
};

struct span_cache *span_cache_new(uint64_t max_bytes, struct pool *readahead)
{
        struct span_cache *c = calloc(1, sizeof *c);
        if (!c)
                return NULL;
        c->spare = spare_new();
        if (!c->spare) {
                free(c);
                return NULL;
        }
        pthread_mutex_init(&c->lock, NULL);
        pthread_cond_init(&c->changed, NULL);
        c->max_bytes = max_bytes;
        c->readahead = readahead;
        return c;
}

static void entry_free(struct span_cache *c, struct span_entry *e)
{
        spare_give(c->spare, e->data, e->len);
        free(e);
}

static struct span_entry **chain_of(struct span_cache *c, const void *owner, uint32_t span)
{
        uint64_t h = ((uint64_t)(uintptr_t)owner >> 4 ^ span) * 0x9e3779b97f4a7c15u;
        return &c->chains[h >> 52];
}

static struct span_entry *find(struct span_cache *c, const void *owner, uint32_t span)
{
        struct span_entry *e = *chain_of(c, owner, span);
        while (e && (e->owner != owner || e->span != span))
                e = e->chain;
        return e;
}

static void list_remove(struct span_cache *c, struct span_entry *e)
{
        *(e->newer ? &e->newer->older : &c->newest) = e->older;
        *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void list_add_newest(struct span_cache *c, struct span_entry *e)
{
        e->newer = NULL;
        e->older = c->newest;
        *(c->newest ? &c->newest->newer : &c->oldest) = e;
        c->newest = e;
}

/* out of the table; the entry itself stays until its last pin goes */
static void table_remove(struct span_cache *c, struct span_entry *e)
{
        struct span_entry **link = chain_of(c, e->owner, e->span);
        while (*link != e)
                link = &(*link)->chain;
        *link = e->chain;
        list_remove(c, e);
        c->bytes -= spare_room(e->len);
}

/* drops unused spans, oldest first, until len more fit; false when those in use leave no room */
static bool make_room(struct span_cache *c, size_t len)
{
        struct span_entry *e = c->oldest;
        size_t room = spare_room(len);
        while (e && c->bytes + room > c->max_bytes) {
                struct span_entry *newer = e->newer;
                if (e->state == STATE_READY && !e->pins) {
                        table_remove(c, e);
                        entry_free(c, e);
                }
                e = newer;
        }
        return c->bytes + room <= c->max_bytes || !c->bytes;
}

static struct span_entry *insert(struct span_cache *c, const void *owner, uint32_t span, size_t len)
{
        struct span_entry *e = calloc(1, sizeof *e);
        if (!e)
                return NULL;
        *e = (struct span_entry){.owner = owner, .span = span, .len = len, .pins = 1, .state = STATE_LOADING};
        struct span_entry **chain = chain_of(c, owner, span);
        e->chain = *chain;
        *chain = e;
        list_add_newest(c, e);
        c->bytes += spare_room(len);
        return e;
}

/* drops a pin that was taken for waiting or copying; under lock */
static void unpin(struct span_cache *c, struct span_entry *e)
{
        assert(e->pins);
        if (--e->pins)
                return;
        if (e->state == STATE_FAILED)
                entry_free(c, e);
        else
                pthread_cond_broadcast(&c->changed); /* there may be room now */
}

/* waits for another thread's load; under lock */
static enum span_found wait_loaded(
        struct span_cache *c, struct span_entry *e, struct span_entry **ret_entry, int *ret_code, struct error *err)
{
        e->pins++;
        while (e->state == STATE_LOADING)
                pthread_cond_wait(&c->changed, &c->lock);
        if (e->state == STATE_READY) {
                list_remove(c, e);
                list_add_newest(c, e);
                *ret_entry = e;
                return SPAN_READY;
        }
        *ret_code = e->code;
        if (err)
                *err = e->error;
        unpin(c, e);
        return SPAN_FAILED;
}

enum span_found span_cache_get(struct span_cache *c, const void *owner, uint32_t span, size_t len,
        struct span_entry **ret_entry, int *ret_code, struct error *err)
{
        enum span_found found;
        pthread_mutex_lock(&c->lock);
        for (;;) {
                struct span_entry *e = find(c, owner, span);
                if (e) {
                        c->hits++;
                        found = wait_loaded(c, e, ret_entry, ret_code, err);
                        break;
                }
                if (make_room(c, len)) {
                        *ret_entry = insert(c, owner, span, len);
                        found = *ret_entry ? SPAN_CLAIMED : SPAN_FAILED;
                        if (!*ret_entry)
                                *ret_code = error_nomem(err);
                        break;
                }
                pthread_cond_wait(&c->changed, &c->lock);
        }
        pthread_mutex_unlock(&c->lock);
        return found;
}

bool span_cache_claim(struct span_cache *c, const void *owner, uint32_t span, size_t len, struct span_entry **ret_entry)
{
        pthread_mutex_lock(&c->lock);
        struct span_entry *e = NULL;
        if (!find(c, owner, span) && make_room(c, len))
                e = insert(c, owner, span, len);
        pthread_mutex_unlock(&c->lock);
        *ret_entry = e;
        return e != NULL;
}

uint8_t *span_bytes(struct span_cache *c, struct span_entry *e)
{
        if (!e->data)
                e->data = spare_take(c->spare, e->len);
        return e->data;
}

void span_cache_ready(struct span_cache *c, struct span_entry *e)
{
        pthread_mutex_lock(&c->lock);
        e->state = STATE_READY;
        c->inflated++;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
}

void span_cache_failed(struct span_cache *c, struct span_entry *e, int code, const struct error *err)
{
        pthread_mutex_lock(&c->lock);
        table_remove(c, e);
        e->state = STATE_FAILED;
        e->code = code;
        if (err)
                e->error = *err;
        pthread_cond_broadcast(&c->changed);
        unpin(c, e);
        pthread_mutex_unlock(&c->lock);
}

void span_cache_unpin(struct span_cache *c, struct span_entry *e)
{
        pthread_mutex_lock(&c->lock);
        unpin(c, e);
        pthread_mutex_unlock(&c->lock);
}

bool span_cache_has(struct span_cache *c, const void *owner, uint32_t span)
{
        pthread_mutex_lock(&c->lock);
        bool has = find(c, owner, span) != NULL;
        pthread_mutex_unlock(&c->lock);
        return has;
}

/* one pass over all entries; owner NULL: everything */
static void forget(struct span_cache *c, const void *owner)
{
        pthread_mutex_lock(&c->lock);
        for (struct span_entry *e = c->oldest, *newer; e; e = newer) {
                newer = e->newer;
                if (owner && e->owner != owner)
                        continue;
                assert(!e->pins);
                table_remove(c, e);
                entry_free(c, e);
        }
        pthread_mutex_unlock(&c->lock);
}

void span_cache_forget(struct span_cache *c, const void *owner)
{
        forget(c, owner);
}

void span_cache_free(struct span_cache *c)
{
        if (!c)
                return;
        forget(c, NULL);
        spare_free(c->spare);
        pthread_cond_destroy(&c->changed);
        pthread_mutex_destroy(&c->lock);
        free(c);
}

void span_cache_drop(struct span_cache *c)
{
        pthread_mutex_lock(&c->lock);
        for (struct span_entry *e = c->oldest, *newer; e; e = newer) {
                newer = e->newer;
                if (e->state == STATE_READY && !e->pins) {
                        table_remove(c, e);
                        entry_free(c, e);
                }
        }
        pthread_mutex_unlock(&c->lock);
        spare_trim(c->spare);
}

struct spare *span_cache_spare(struct span_cache *c)
{
        return c->spare;
}

bool span_cache_readahead(struct span_cache *c, pool_job_fn *fn, void *arg)
{
        return c->readahead && !span_cache_stopped(c) && pool_try(c->readahead, fn, arg);
}

void span_cache_stop(struct span_cache *c)
{
        atomic_store(&c->stopped, true);
}

bool span_cache_stopped(const struct span_cache *c)
{
        return atomic_load(&c->stopped);
}

struct span_cache_counters span_cache_count(struct span_cache *c)
{
        pthread_mutex_lock(&c->lock);
        struct span_cache_counters counters = {c->hits, c->inflated, c->bytes};
        pthread_mutex_unlock(&c->lock);
        return counters;
}
