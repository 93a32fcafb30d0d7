/* Maps by key, and a list of all resources. Whatever belongs to a resource is added and taken away
 * by other files. */
#include "controller/resources.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* ---- namespaces ---- */

struct space *find_space(const struct controller *c, const char *name)
{
    struct map_entry *e = map_find(&c->spaces, name);
    return e ? container_of(e, struct space, by_name) : NULL;
}

static void enter_space(struct resource *r)
{
    struct controller *c = r->controller;
    struct space *space = find_space(c, r->namespace);
    if (!space) {
        size_t size = strlen(r->namespace) + 1;
        space = mem_zalloc(sizeof(*space) + size);
        memcpy(space->name, r->namespace, size);
        list_init(&space->resources);
        turns_group_init(&space->woken);
        turns_group_init(&space->waiting);
        turns_group_init(&space->unread);
        map_add(&c->spaces, &space->by_name, space->name);
    }
    r->space = space;
    list_append(&space->resources, &r->in_space);
}

static void leave_space(struct resource *r)
{
    struct space *space = r->space;
    list_remove(&r->in_space);
    if (list_empty(&space->resources)) {
        list_remove(&space->woken.link);
        list_remove(&space->waiting.link);
        list_remove(&space->unread.link);
        map_remove(&r->controller->spaces, &space->by_name);
        free(space);
    }
}

/* ---- resources ---- */

const char *resource_key(char key[RESOURCE_KEY_MAX], const char *namespace, const char *name)
{
    text_fmt(key, RESOURCE_KEY_MAX, "%s/%s", namespace, name);
    return key;
}

struct resource *find_resource(const struct controller *c, const char *namespace, const char *name)
{
    char key[RESOURCE_KEY_MAX];
    struct map_entry *e = map_find(&c->by_key, resource_key(key, namespace, name));
    return e ? container_of(e, struct resource, by_key) : NULL;
}

struct resource *get_resource(struct controller *c, const char *namespace, const char *name)
{
    struct resource *r = find_resource(c, namespace, name);
    if (r) {
        return r;
    }
    char key[RESOURCE_KEY_MAX];
    r = mem_zalloc(sizeof(*r));
    r->controller = c;
    r->key = mem_strdup(resource_key(key, namespace, name));
    r->namespace = mem_strdup(namespace);
    r->name = mem_strdup(name);
    const char **const texts[] = {&r->key, &r->namespace, &r->name};
    r->texts = mem_join(texts, ARRAY_LEN(texts));
    list_init(&r->queued);
    list_init(&r->recording);
    list_init(&r->unread);
    list_init(&r->endpoints);
    list_init(&r->services);
    map_add(&c->by_key, &r->by_key, r->key);
    enter_space(r);
    list_append(&c->resources, &r->link);
    c->n_resources++;
    c->counts[r->counted]++;
    return r;
}

void resource_free(struct resource *r)
{
    struct controller *c = r->controller;
    assert(r->operation == OPERATION_NONE && list_empty(&r->endpoints) && list_empty(&r->services));
    c->counts[r->counted]--;
    timer_cancel(c->loop, &r->timer);
    list_remove(&r->queued);
    list_remove(&r->unread);
    list_remove(&r->link);
    c->n_resources--;
    leave_space(r);
    map_remove(&c->by_key, &r->by_key);
    cr_clear(&r->cr);
    free(r->pending_condition);
    free(r->told.spare);
    free(r->operand_namespace);
    free(r->operand_name);
    free(r->texts);
    free(r);
}

/* ---- Services ---- */

struct held_service *find_service(const struct controller *c, const char *namespace,
                                  const char *name)
{
    char key[RESOURCE_KEY_MAX];
    struct map_entry *e = map_find(&c->services, resource_key(key, namespace, name));
    return e ? container_of(e, struct held_service, by_key) : NULL;
}

struct held_service *resource_service(const struct resource *r, const char *namespace,
                                      const char *name)
{
    struct held_service *held = find_service(r->controller, namespace, name);
    return held && held->resource == r ? held : NULL;
}

struct resource *resource_rival(const struct resource *r, const char *namespace, const char *name)
{
    struct held_service *held = find_service(r->controller, namespace, name);
    return held && held->resource != r ? held->resource : NULL;
}

struct held_service *endpoint_service(const struct endpoint *e)
{
    return resource_service(e->resource, e->resource->controller->settings.home, e->service);
}
