#pragma once
/**
 * Bytes to uint64_t: an open-addressed hash table whose keys are borrowed (they must outlive the table, unmoved).
 * The hash is keyed with a random seed, so that names from outside cannot be chosen to collide.
 * One thread at a time while it grows; a table that grows no more may be searched from any thread.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_slot;

struct map {
        struct map_slot *slots; /* power-of-two many, NULL while empty */
        size_t count, room;     /* keys in it, slots in all */
        uint64_t seed;
};

void map_init(struct map *m);
void map_done(struct map *m);

/** Where the value of the key is, NULL if there is none. The pointer holds until the next map_put(). */
uint64_t *map_find(const struct map *m, const void *key, size_t key_len);

/** Sets the value of a key that may be there already. 0 or -ENOMEM. */
int map_put(struct map *m, const void *key, size_t key_len, uint64_t value);

/** The hash that the table uses: for other tables that want a seeded one. */
uint64_t map_hash(uint64_t seed, const void *key, size_t key_len);

/** A seed from the system's random source; it never fails (the clock stands in where there is none). */
uint64_t map_seed(void);
