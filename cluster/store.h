/* Objects of one kind and one namespace (or none) by their names: what a watch tells, kept as
 * projections which embed struct stored. A list that is complete sweeps the store. */
#ifndef TPROXY_CLUSTER_STORE_H
#define TPROXY_CLUSTER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/json.h"
#include "lib/list.h"
#include "lib/map.h"

/* The first member of what is stored; the rest is zero when it is new. */
struct stored {
    struct map_entry entry;
    struct list link; /* on store->all */
    uint64_t round;   /* number of the last list that named it */
    char *name;
};

struct store {
    struct map by_name;
    struct list all;
    size_t size;                            /* of what is stored */
    void (*release)(struct stored *stored); /* frees what it owns, not itself; NULL: nothing */
};

void store_init(struct store *store, size_t size, void (*release)(struct stored *stored));

/* Drops everything. */
void store_clear(struct store *store);

/* NULL: there is none. */
struct stored *store_find(const struct store *store, const char *name);

/* The one with the object's name, a new one if need be; seen in this round. NULL: the object has no
 * name. */
struct stored *store_take(struct store *store, struct json_value object, uint64_t round);

/* True: there was one with the object's name. */
bool store_drop(struct store *store, struct json_value object);

/* Drops all that were not seen in this round. */
void store_sweep(struct store *store, uint64_t round);

#endif
