/* A hash table with chains, doubled when it has as many entries as buckets. */
#include "lib/map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/sys.h"

enum { BUCKETS_FIRST = 16 };

void map_init(struct map *map)
{
    *map = (struct map){0};
    sys->random(&map->seed, sizeof(map->seed));
}

void map_free(struct map *map)
{
    free(map->buckets);
    map->buckets = NULL;
    map->n_buckets = map->n = 0;
}

/* Hashes with FNV-1a and the seed. */
static uint64_t hash_of(const struct map *map, const char *key)
{
    uint64_t h = map->seed;
    for (const char *p = key; *p; p++) {
        h = (h ^ (unsigned char)*p) * 0x100000001B3;
    }
    return h ^ h >> 32;
}

static struct map_entry *next_of(struct map_entry *e, uint64_t hash, const char *key)
{
    while (e && (e->hash != hash || strcmp(e->key, key) != 0)) {
        e = e->next;
    }
    return e;
}

struct map_entry *map_find(const struct map *map, const char *key)
{
    uint64_t hash = hash_of(map, key);
    return map->n ? next_of(map->buckets[hash & (map->n_buckets - 1)], hash, key) : NULL;
}

struct map_entry *map_find_next(const struct map_entry *entry)
{
    return next_of(entry->next, entry->hash, entry->key);
}

static void push(struct map *map, struct map_entry *entry)
{
    struct map_entry **bucket = &map->buckets[entry->hash & (map->n_buckets - 1)];
    entry->next = *bucket;
    *bucket = entry;
}

static void grow(struct map *map)
{
    struct map_entry **old = map->buckets;
    size_t n_old = map->n_buckets;
    map->n_buckets = n_old ? n_old * 2 : BUCKETS_FIRST;
    map->buckets = mem_zalloc(map->n_buckets * sizeof(struct map_entry *));
    for (size_t i = 0; i < n_old; i++) {
        for (struct map_entry *e = old[i], *next; e; e = next) {
            next = e->next;
            push(map, e);
        }
    }
    free(old);
}

void map_add(struct map *map, struct map_entry *entry, const char *key)
{
    if (map->n == map->n_buckets) {
        grow(map);
    }
    entry->key = key;
    entry->hash = hash_of(map, key);
    push(map, entry);
    map->n++;
}

void map_remove(struct map *map, struct map_entry *entry)
{
    struct map_entry **p = &map->buckets[entry->hash & (map->n_buckets - 1)];
    while (*p != entry) {
        assert(*p);
        p = &(*p)->next;
    }
    *p = entry->next;
    map->n--;
}
