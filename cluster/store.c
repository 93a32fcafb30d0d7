/* Keeps the objects in a list and in a map by name. */
#include "cluster/store.h"

#include <stdlib.h>

#include "lib/mem.h"

void store_init(struct store *store, size_t size, void (*release)(struct stored *stored))
{
    map_init(&store->by_name);
    list_init(&store->all);
    store->size = size;
    store->release = release;
}

static void drop(struct store *store, struct stored *s)
{
    map_remove(&store->by_name, &s->entry);
    list_remove(&s->link);
    if (store->release) {
        store->release(s);
    }
    free(s->name);
    free(s);
}

void store_clear(struct store *store)
{
    LIST_EACH (it, &store->all) {
        drop(store, container_of(it, struct stored, link));
    }
    map_free(&store->by_name);
}

struct stored *store_find(const struct store *store, const char *name)
{
    struct map_entry *e = map_find(&store->by_name, name);
    return e ? container_of(e, struct stored, entry) : NULL;
}

static char *name_of(struct json_value object)
{
    return json_strdup(json_get(json_get(object, "metadata"), "name"), NULL);
}

struct stored *store_take(struct store *store, struct json_value object, uint64_t round)
{
    char *name = name_of(object);
    struct stored *s = name ? store_find(store, name) : NULL;
    if (name && !s) {
        s = mem_zalloc(store->size);
        s->name = name;
        map_add(&store->by_name, &s->entry, s->name);
        list_append(&store->all, &s->link);
        name = NULL;
    }
    if (s) {
        s->round = round;
    }
    free(name);
    return s;
}

bool store_drop(struct store *store, struct json_value object)
{
    char *name = name_of(object);
    struct stored *s = name ? store_find(store, name) : NULL;
    if (s) {
        drop(store, s);
    }
    free(name);
    return s;
}

void store_sweep(struct store *store, uint64_t round)
{
    LIST_EACH (it, &store->all) {
        struct stored *s = container_of(it, struct stored, link);
        if (s->round != round) {
            drop(store, s);
        }
    }
}
