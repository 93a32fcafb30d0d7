/* Finds objects by a text: a hash table whose entries live in the objects. Several objects may have
 * the same key. */
#ifndef TPROXY_LIB_MAP_H
#define TPROXY_LIB_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"

struct map_entry {
    struct map_entry *next;
    uint64_t hash;
    const char *key; /* belongs to the object; does not change while it is in the map */
};

/* Owns its buckets, not the objects. */
struct map {
    struct map_entry **buckets;
    size_t n_buckets; /* a power of two, or 0 */
    size_t n;
    uint64_t seed; /* seeds the hash, so that nobody can choose keys that collide */
};

void map_init(struct map *map);

/* Frees the buckets; the map is empty and may be used again. */
void map_free(struct map *map);

/* Return an object of that key, NULL when there is none; then the next one of the same key, in no
 * particular order. */
struct map_entry *map_find(const struct map *map, const char *key);
struct map_entry *map_find_next(const struct map_entry *entry);

/* Adds an object. `key` must live as long as the entry is in the map. */
void map_add(struct map *map, struct map_entry *entry, const char *key);

/* Removes an entry, which must be in the map. */
void map_remove(struct map *map, struct map_entry *entry);

#endif
