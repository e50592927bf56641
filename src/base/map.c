/*
 * How: linear probing, at most three quarters full, no deletion. The hash is wyhash-like folding: eight bytes at a time
 * multiplied to 128 bits with the seed mixed in, high and low half xor-ed. It is not cryptographic; the random seed is
 * what keeps chosen names from colliding.
 */
#include "base/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/mem.h"

struct map_slot {
        const void *key; /* NULL: free */
        size_t key_len;
        uint64_t hash;
        uint64_t value;
};

uint64_t map_hash(uint64_t seed, const void *key, size_t key_len)
{
        const uint8_t *p = key;
        uint64_t h = seed ^ mul_fold(key_len ^ 0x9e3779b97f4a7c15u, seed | 1);
        for (; key_len >= 8; key_len -= 8, p += 8) {
                uint64_t word;
                memcpy(&word, p, 8);
                h = mul_fold(h ^ word, 0xd6e8feb86659fd93u);
        }
        uint64_t tail = 0;
        for (size_t i = 0; i < key_len; i++)
                tail |= (uint64_t)p[i] << 8 * i;
        h = mul_fold(h ^ tail, 0xa0761d6478bd642fu ^ (uint64_t)key_len << 56);
        return h ^ h >> 32;
}

uint64_t map_seed(void)
{
        uint64_t seed;
        if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
                struct timespec now;
                clock_gettime(CLOCK_MONOTONIC, &now);
                seed = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_sec;
        }
        return seed;
}

void map_init(struct map *m)
{
        *m = (struct map){.seed = map_seed()};
}

void map_done(struct map *m)
{
        free(m->slots);
        *m = (struct map){0};
}

/* the slot of the key, or the free one where it belongs; the table is never full */
static struct map_slot *probe(const struct map *m, uint64_t hash, const void *key, size_t key_len)
{
        for (size_t i = hash & (m->room - 1);; i = (i + 1) & (m->room - 1)) {
                struct map_slot *s = &m->slots[i];
                if (!s->key || (s->hash == hash && s->key_len == key_len && !memcmp(s->key, key, key_len)))
                        return s;
        }
}

static int grow(struct map *m)
{
        struct map bigger = *m;
        bigger.room = m->room ? m->room * 2 : 64;
        bigger.slots = calloc(bigger.room, sizeof *bigger.slots);
        if (!bigger.slots)
                return -ENOMEM;
        for (size_t i = 0; i < m->room; i++) {
                const struct map_slot *s = &m->slots[i];
                if (s->key)
                        *probe(&bigger, s->hash, s->key, s->key_len) = *s;
        }
        free(m->slots);
        *m = bigger;
        return 0;
}

uint64_t *map_find(const struct map *m, const void *key, size_t key_len)
{
        if (!m->count)
                return NULL;
        struct map_slot *s = probe(m, map_hash(m->seed, key, key_len), key, key_len);
        return s->key ? &s->value : NULL;
}

int map_put(struct map *m, const void *key, size_t key_len, uint64_t value)
{
        if (m->count + 1 > m->room / 4 * 3) {
                int r = grow(m);
                if (r < 0)
                        return r;
        }
        uint64_t hash = map_hash(m->seed, key, key_len);
        struct map_slot *s = probe(m, hash, key, key_len);
        if (!s->key) {
                *s = (struct map_slot){.key = key ? key : "", .key_len = key_len, .hash = hash};
                m->count++;
        }
        s->value = value;
        return 0;
}
