/* Objects of one kind and one namespace (or none) by their names. A watch fills the store; the
 * parts of an object that are needed are kept in a struct that embeds struct stored. A complete
 * list sweeps the store. */
#ifndef TPROXY_CLUSTER_STORE_H
#define TPROXY_CLUSTER_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/json.h"
#include "lib/list.h"
#include "lib/map.h"

/* The first member of a stored object. All other members are zero when the object is new. */
struct stored {
    struct map_entry entry;
    struct list link; /* on store->all */
    uint64_t round;   /* number of the last list that named it */
    char *name;
};

struct store {
    struct map by_name;
    struct list all;
    size_t size;                            /* of a stored object */
    void (*release)(struct stored *stored); /* frees what it owns, not itself; NULL: nothing */
};

/* Makes an empty store. `size` and `release` as in struct store. */
void store_init(struct store *store, size_t size, void (*release)(struct stored *stored));

/* Drops all objects. */
void store_clear(struct store *store);

/* Returns the stored object of that name; NULL: there is none. */
struct stored *store_find(const struct store *store, const char *name);

/* Returns the stored object with the object's name, a new one if need be, and marks it as seen in
 * this round. NULL: the object has no name. */
struct stored *store_take(struct store *store, struct json_value object, uint64_t round);

/* Drops the stored object with the object's name. Returns true if there was one. */
bool store_drop(struct store *store, struct json_value object);

/* Drops all objects that were not seen in this round. */
void store_sweep(struct store *store, uint64_t round);

#endif
