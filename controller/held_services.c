/* Each Service that exists is on the list of the resource that it was made for. Ports and names
 * that it takes, or gives back, concern other resources, too: they are woken. */
#include "controller/held_services.h"

#include <stdlib.h>
#include <string.h>

#include "controller/exposure.h"
#include "controller/leftovers.h"
#include "controller/ports.h"
#include "controller/precedence.h"
#include "controller/queue.h"
#include "controller/resources.h"
#include "controller/resting_ports.h"
#include "lib/mem.h"

static void count_port(struct controller *c, const struct service *s,
                       void (*count)(struct ports *, uint16_t))
{
    if (s->target_port) {
        count(c->ports, s->target_port);
    }
}

/* Wakes the owner of a port: two Services may have carried it, and only one does now. */
static void wake_port(struct controller *c, uint16_t port)
{
    if (c->port_holders[port]) {
        resource_wake(c->port_holders[port]->resource);
    }
}

/* Has the endpoint of a Service that has come, or gone at the time `went`, look at what it can do
 * with the name. */
static void tell_endpoint(const struct resource *r, const struct service *s, int64_t went)
{
    struct endpoint *e = resource_endpoint(r, s->name);
    if (e && strcmp(s->namespace, r->controller->settings.home) == 0) {
        e->service_went = went;
    }
    if (e) {
        endpoint_update_use(e);
    }
}

void resource_drop_service(struct resource *r, struct held_service *held)
{
    struct controller *c = r->controller;
    uint16_t port = held->service.target_port;
    count_port(c, &held->service, ports_drop);
    if (port && c->resting && c->leads && !ports_carried(c->ports, port) &&
        !ports_taken(c->ports, port)) {
        int rc = resting_ports_leave(c->resting, port);
        (void)rc; /* the Service is gone: nothing waits for the record */
    }
    map_remove(&c->services, &held->by_key);
    list_remove(&held->link);
    resource_wake(r);
    tell_endpoint(r, &held->service, loop_now(c->loop));
    controller_wake_first(c, held->service.name);
    network_policies_close(c->network_policies, &held->policy_port);
    leftover_forget(held);
    service_clear(&held->service);
    free(held);
    if (port && ports_carried(c->ports, port)) {
        wake_port(c, port);
    }
}

static struct held_service *add_service(struct resource *r, const struct service *service)
{
    struct controller *c = r->controller;
    char key[RESOURCE_KEY_MAX];
    size_t size = strlen(resource_key(key, service->namespace, service->name)) + 1;
    struct held_service *held = mem_zalloc(sizeof(*held) + size);
    memcpy(held->key, key, size);
    held->resource = r;
    held->round = c->followers[FOLLOW_SERVICES].round;
    held->since = c->followers[FOLLOW_SERVICES].known ? loop_now(c->loop) : 0;
    map_add(&c->services, &held->by_key, held->key);
    list_init(&held->policy_port.link);
    list_init(&held->policy_port.awaited);
    list_append(&r->services, &held->link);
    return held;
}

struct held_service *resource_hold_service(struct resource *r, struct service service)
{
    struct controller *c = r->controller;
    struct held_service *held = find_service(c, service.namespace, service.name);
    if (held && held->resource != r) { /* its labels were changed */
        resource_drop_service(held->resource, held);
        held = NULL;
    }
    held = held ? held : add_service(r, &service);
    service_forget_cr(&service); /* the list says which CR it belongs to */
    uint16_t port = held->service.target_port;
    if (held->service.uid && strcmp(held->service.uid, service.uid) != 0) {
        held->removal = (struct removal){0};
        leftover_forget(held);
    }
    count_port(c, &service, ports_carry);
    count_port(c, &held->service, ports_drop);
    service_clear(&held->service);
    held->service = service;
    held->checked = false;
    if (port && port != service.target_port && ports_carried(c->ports, port)) {
        wake_port(c, port);
    }
    if (service.target_port && ports_carried(c->ports, service.target_port) > 1) {
        wake_port(c, service.target_port);
    }
    service_expose(held);
    tell_endpoint(r, &held->service, 0);
    resource_wake(r);
    return held;
}

/* Returns the resource that a Service was made for; NULL: it is not ours. A Service that is known
 * to be ours stays so, whatever others change in it. */
static struct resource *owner_of(struct controller *c, const struct service *service)
{
    if (service->cr_name) {
        return get_resource(c, service->cr_namespace, service->cr_name);
    }
    const struct held_service *held = find_service(c, service->namespace, service->name);
    return held && strcmp(held->service.uid, service->uid) == 0 ? held->resource : NULL;
}

struct held_service *controller_take_service(struct controller *c, struct json_value object)
{
    struct service service;
    if (service_parse(&service, object, c->settings.home) != OK) {
        return NULL;
    }
    struct resource *r = owner_of(c, &service);
    if (!r) {
        service_clear(&service);
        return NULL;
    }
    return resource_hold_service(r, service);
}
