/* Stores and queue of the controller.
 *
 *   watches --> stores: proxies, resources, namespaces, Services, policies
 *                  |
 *                  |  what an event concerns is woken
 *                  v
 *               queue --> pump: nothing happens before everything has been listed once
 *                           v
 *                     reconcile(resource) --> one step, one operation --> done --> woken again
 *                           |    ^                                         |
 *                           v    |                                         |
 *                          waiting: RUNNING_MAX operations are under way <-'
 *                          unread: READING_MAX destinations are being read
 *
 * A list that is complete sweeps its store: what it did not name is gone. While the CRD of the CRs
 * is not known to the API server nothing is known of CRs, and nothing is written or removed. */
#include "controller/controller.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/config.h"
#include "configuration/configuration.h"
#include "controller/endpoint.h"
#include "controller/exposure.h"
#include "controller/health.h"
#include "controller/leftovers.h"
#include "controller/network_policies.h"
#include "controller/ports.h"
#include "controller/precedence.h"
#include "controller/reconcile.h"
#include "controller/resting_ports.h"
#include "controller/state.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/metric.h"
#include "pop3.h"

enum { SWEPT_A_TURN = 256, ALL_PORTS = 65536 };

/* Flags that say what the sweep does with each resource. It takes a few resources in each turn,
 * because 10,000 at once would take 5 ms. */
enum {
    SWEEP_WAKE = 1,
    SWEEP_RESOURCES = 2, /* the last list did not name it: treat it as deleted */
    SWEEP_SERVICES = 4,  /* the same for its Services */
};

/* Pauses between lists of Namespaces that do not count. */
#define DOUBT_FIRST SECONDS(2)
#define DOUBT_MOST SECONDS(60)

/* "namespace/name" */
enum { KEY_MAX = 2 * (CR_NAME_MAX + 1) };

/* With this label on a namespace somebody hands it to the installation of that name. */
#define NAMESPACE_LABEL "transparent-proxy.connectivity.api.sap/namespace"

/* Users of any namespace write these; they have no share in our memory. */
static const char *const nothing_unread[] = {NULL};
static const char *const unread_of_destination[] = {"spec.actions", "metadata.labels",
                                                    "metadata.ownerReferences", NULL};
static const struct cluster_bounds bounds[] = {
    {&kind_destination, unread_of_destination, CR_MEMBER_MAX},
    {&kind_service, nothing_unread, CR_MEMBER_MAX},
    {NULL, NULL, 0},
};

static const char *const follow_names[] = {
    [FOLLOW_PROXIES] = "TransparentProxy objects",
    [FOLLOW_RESOURCES] = "Destinations",
    [FOLLOW_NAMESPACES] = "Namespaces",
    [FOLLOW_SERVICES] = "Services",
    [FOLLOW_POLICIES] = "NetworkPolicies",
};
static_assert(ARRAY_LEN(follow_names) == FOLLOW_COUNT, "every kind has its name");

/* ---- the queue ---- */

/* Are there namespaces that are not ours to manage? */
static bool selects_namespaces(const struct control *c)
{
    const struct config *config = configuration_config(c->configuration);
    return c->settings.in_cluster && config && config->labelled_namespaces;
}

bool control_may_act(const struct control *c, const char **why)
{
    for (size_t i = 0; i < FOLLOW_COUNT; i++) {
        const struct follower *f = &c->followers[i];
        if (f->watch && !f->listed) {
            *why = follow_names[i];
            return false;
        }
    }
    if (c->sweep & (SWEEP_RESOURCES | SWEEP_SERVICES)) { /* some may have gone */
        *why = follow_names[c->sweep & SWEEP_RESOURCES ? FOLLOW_RESOURCES : FOLLOW_SERVICES];
        return false;
    }
    if (c->followers[FOLLOW_RESOURCES].presence != CLUSTER_PRESENT) {
        *why = follow_names[FOLLOW_RESOURCES];
        return false;
    }
    if (c->resting && !resting_ports_listed(c->resting)) {
        *why = "the ConfigMap " RESTING_PORTS_NAME;
        return false;
    }
    const struct follower *proxies = &c->followers[FOLLOW_PROXIES];
    const struct follower *services = &c->followers[FOLLOW_SERVICES];
    if (services->watch && !services->known) {
        *why = follow_names[FOLLOW_SERVICES]; /* they hold the ports that are in use */
        return false;
    }
    if (!configuration_config(c->configuration) && !proxies->known) {
        *why = follow_names[FOLLOW_PROXIES];
        return false;
    }
    if (!configuration_listed(c->configuration, why)) {
        return false;
    }
    *why = follow_names[FOLLOW_NAMESPACES]; /* which ones are ours is not to be guessed */
    return c->followers[FOLLOW_NAMESPACES].known || !selects_namespaces(c);
}

static bool runs_nothing_in(const struct turns_group *waiting)
{
    return container_of(waiting, const struct space, waiting)->running == 0;
}

static bool may_run_in(const struct turns_group *waiting)
{
    return container_of(waiting, const struct space, waiting)->running < RUNNING_OF_SPACE_MAX;
}

static bool may_read_in(const struct turns_group *unread)
{
    return container_of(unread, const struct space, unread)->reading < READING_OF_SPACE_MAX;
}

/* Takes the next resource out of the queues. Woken resources run before waiting ones, so that
 * started work is finished first; but however many are woken, each namespace gets to start
 * something. NULL: none. */
static struct resource *next_due(struct queue *q)
{
    bool may_start = q->running < RUNNING_MAX;
    struct list *it = may_start ? turns_next(&q->waiting, runs_nothing_in) : NULL;
    it = it ? it : turns_next(&q->woken, NULL);
    it = it || !may_start ? it : turns_next(&q->waiting, may_run_in);
    if (it) {
        return container_of(it, struct resource, queued);
    }
    it = q->reading < READING_MAX ? turns_next(&q->unread, may_read_in) : NULL;
    return it ? container_of(it, struct resource, unread) : NULL;
}

/* Works on one resource. The loop decides whether this turn has time for another one: a resource
 * that opens a listener and writes a Service takes a quarter of a millisecond. */
static void pump(struct task *t)
{
    struct control *c = container_of(t, struct control, queue.pump);
    struct queue *q = &c->queue;
    struct resource *r = q->may_run(c) ? next_due(q) : NULL;
    if (!r) {
        return;
    }
    q->since = q->since ? q->since : loop_now(c->loop);
    list_remove(&r->queued);
    list_remove(&r->unread);
    queue_resume(c);
    if (r->operation == OPERATION_NONE) { /* if not, it waited to read: the operation wakes it */
        q->run(r);
    }
}

void queue_init(struct control *c, bool (*may_run)(const struct control *control),
                void (*run)(struct resource *r))
{
    struct queue *q = &c->queue;
    turns_init(&q->woken);
    turns_init(&q->waiting);
    turns_init(&q->unread);
    task_init(&q->pump);
    q->may_run = may_run;
    q->run = run;
}

void queue_resume(struct control *c)
{
    if (!c->stopped) {
        loop_soon(c->loop, &c->queue.pump, pump);
    }
}

void queue_stop(struct control *c)
{
    task_cancel(&c->queue.pump);
}

void resource_wake(struct resource *r)
{
    struct control *c = r->control;
    if (r->operation != OPERATION_NONE) {
        r->again = true;
    } else if (list_empty(&r->queued)) {
        turns_add(&c->queue.woken, &r->space->woken, &r->queued);
    }
    queue_resume(c);
}

bool resource_may_run(const struct resource *r)
{
    return r->control->queue.running < RUNNING_MAX && may_run_in(&r->space->waiting);
}

void resource_wait(struct resource *r)
{
    turns_add(&r->control->queue.waiting, &r->space->waiting, &r->queued);
}

bool resource_may_read(const struct resource *r)
{
    return r->control->queue.reading < READING_MAX && may_read_in(&r->space->unread);
}

void resource_wait_to_read(struct resource *r)
{
    if (list_empty(&r->unread)) {
        turns_add(&r->control->queue.unread, &r->space->unread, &r->unread);
    }
}

void resource_read_again(struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        container_of(it, struct tenant, link)->read_again = true;
    }
    resource_wake(r);
}

/* ---- namespaces ---- */

static struct space *find_space(const struct control *c, const char *name)
{
    struct map_entry *e = map_find(&c->spaces, name);
    return e ? container_of(e, struct space, by_name) : NULL;
}

static void enter_space(struct resource *r)
{
    struct control *c = r->control;
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
        map_remove(&r->control->spaces, &space->by_name);
        free(space);
    }
}

/* ---- resources ---- */

static const char *key_of(char key[KEY_MAX], const char *namespace, const char *name)
{
    text_fmt(key, KEY_MAX, "%s/%s", namespace, name);
    return key;
}

static struct resource *find_resource(const struct control *c, const char *namespace,
                                      const char *name)
{
    char key[KEY_MAX];
    struct map_entry *e = map_find(&c->by_key, key_of(key, namespace, name));
    return e ? container_of(e, struct resource, by_key) : NULL;
}

static struct resource *get_resource(struct control *c, const char *namespace, const char *name)
{
    struct resource *r = find_resource(c, namespace, name);
    if (r) {
        return r;
    }
    char key[KEY_MAX];
    r = mem_zalloc(sizeof(*r));
    r->control = c;
    r->key = mem_strdup(key_of(key, namespace, name));
    r->namespace = mem_strdup(namespace);
    r->name = mem_strdup(name);
    const char **const texts[] = {&r->key, &r->namespace, &r->name};
    r->texts = mem_join(texts, ARRAY_LEN(texts));
    list_init(&r->queued);
    list_init(&r->recording);
    list_init(&r->unread);
    list_init(&r->tenants);
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
    struct control *c = r->control;
    assert(r->operation == OPERATION_NONE && list_empty(&r->tenants) && list_empty(&r->services));
    c->counts[r->counted]--;
    timer_cancel(c->loop, &r->timer);
    list_remove(&r->queued);
    list_remove(&r->unread);
    list_remove(&r->link);
    c->n_resources--;
    leave_space(r);
    map_remove(&c->by_key, &r->by_key);
    cr_clear(&r->cr);
    free(r->shown);
    free(r->operand_namespace);
    free(r->operand_name);
    free(r->texts);
    free(r);
}

bool resource_managed(const struct resource *r)
{
    if (!selects_namespaces(r->control)) {
        return true;
    }
    const struct stored *s = store_find(&r->control->namespaces, r->namespace);
    return s && container_of(s, struct held_namespace, stored)->labelled;
}

void resource_count_unsettled(struct resource *r, int change)
{
    r->control->unsettled += (size_t)change;
}

static void set_present(struct resource *r, bool present)
{
    if (r->present == present) {
        return;
    }
    r->present = present;
    r->retry_at = 0;
    r->gone_confirmed = r->crd_went = r->crd_renewed = false;
    r->crd_refusals = 0;
    if (!r->settled) {
        resource_count_unsettled(r, present ? 1 : -1);
    }
}

/* What stood in the way of the last one need not stand in its way. */
static void new_wish(struct resource *r)
{
    r->retry_at = 0;
    tenants_update(r);
    LIST_EACH (it, &r->tenants) {
        struct tenant *t = container_of(it, struct tenant, link);
        t->read_again = true;
        t->trouble_until = 0;
    }
    LIST_EACH (it, &r->services) {
        container_of(it, struct held_service, link)->checked = false;
    }
    resource_expose(r);
}

struct resource *control_take_resource(struct control *c, struct json_value object)
{
    struct cr cr;
    struct error err;
    if (cr_parse(&cr, object, c->writer, &err) != OK) {
        log_line(LOG_WARN, "control", "%s", err.text);
        return NULL;
    }
    struct resource *r = get_resource(c, cr.namespace, cr.name);
    bool replaced = !r->cr.uid || strcmp(r->cr.uid, cr.uid) != 0;
    bool same = r->present && !replaced && cr_same_spec(&r->cr, &cr);
    bool goes = cr.deleting && !r->cr.deleting;
    r->tell_ignored |= !same && (r->present || !cr.available.status);
    if (r->cr.created && strcmp(r->cr.created, cr.created) != 0) {
        resource_set_stance(r, STANCE_NONE); /* its age changes */
    }
    cr_clear(&r->cr);
    r->cr = cr;
    set_present(r, true);
    if (replaced) {
        repairs_forget(&r->status_repairs);
        r->words_due = 0;
    }
    if (!same) {
        new_wish(r);
    }
    if (goes) {
        r->retry_at = 0;
        resource_give_up_call(r);
    }
    resource_wake(r);
    return r;
}

/* ---- Services ---- */

static void count_port(struct control *c, const struct service *s,
                       void (*count)(struct ports *, uint16_t))
{
    if (s->target_port && strcmp(s->namespace, c->settings.home) == 0) {
        count(c->ports, s->target_port);
    }
}

/* A port that two Services carried may have become one's own. */
static void wake_port(struct control *c, uint16_t port)
{
    if (c->port_holders[port]) {
        resource_wake(c->port_holders[port]->resource);
    }
}

/* It has come or gone. */
static void tell_tenant(const struct resource *r, const struct service *s)
{
    struct tenant *t = resource_tenant(r, s->name);
    if (t) {
        tenant_look_at_use(t);
    }
}

void resource_drop_service(struct resource *r, struct held_service *held)
{
    struct control *c = r->control;
    uint16_t port = held->service.target_port;
    bool home = strcmp(held->service.namespace, c->settings.home) == 0;
    count_port(c, &held->service, ports_drop);
    if (home && port && c->resting && !ports_carried(c->ports, port) &&
        !ports_taken(c->ports, port)) {
        int rc = resting_ports_leave(c->resting, port); /* nobody has to wait for it any more */
        (void)rc;
    }
    map_remove(&c->services, &held->by_key);
    list_remove(&held->link);
    resource_wake(r);
    tell_tenant(r, &held->service);
    control_wake_first(c, held->service.name);
    policies_close(c->policies, &held->opening);
    leftover_forget(held);
    service_clear(&held->service);
    free(held);
    if (port && ports_carried(c->ports, port)) {
        wake_port(c, port);
    }
}

static struct held_service *find_service(const struct control *c, const char *namespace,
                                         const char *name)
{
    char key[KEY_MAX];
    struct map_entry *e = map_find(&c->services, key_of(key, namespace, name));
    return e ? container_of(e, struct held_service, by_key) : NULL;
}

struct held_service *resource_service(const struct resource *r, const char *namespace,
                                      const char *name)
{
    struct held_service *held = find_service(r->control, namespace, name);
    return held && held->resource == r ? held : NULL;
}

struct resource *resource_rival(const struct resource *r, const char *namespace, const char *name)
{
    struct held_service *held = find_service(r->control, namespace, name);
    return held && held->resource != r ? held->resource : NULL;
}

static struct held_service *add_service(struct resource *r, const struct service *service)
{
    struct control *c = r->control;
    char key[KEY_MAX];
    size_t size = strlen(key_of(key, service->namespace, service->name)) + 1;
    struct held_service *held = mem_zalloc(sizeof(*held) + size);
    memcpy(held->key, key, size);
    held->resource = r;
    held->round = c->followers[FOLLOW_SERVICES].round;
    map_add(&c->services, &held->by_key, held->key);
    list_init(&held->opening.link);
    list_init(&held->opening.awaited);
    list_append(&r->services, &held->link);
    return held;
}

struct held_service *resource_hold_service(struct resource *r, struct service service)
{
    struct control *c = r->control;
    struct held_service *held = find_service(c, service.namespace, service.name);
    if (held && held->resource != r) { /* its labels were changed */
        resource_drop_service(held->resource, held);
        held = NULL;
    }
    held = held ? held : add_service(r, &service);
    service_forget_cr(&service); /* its list says whose it is */
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
    tell_tenant(r, &held->service);
    resource_wake(r);
    return held;
}

/* The resource that a Service was made for. What is known to be ours stays so, whatever somebody
 * has made of it. NULL: it is not ours. */
static struct resource *owner_of(struct control *c, const struct service *service)
{
    if (service->cr_name) {
        return get_resource(c, service->cr_namespace, service->cr_name);
    }
    const struct held_service *held = find_service(c, service->namespace, service->name);
    return held && strcmp(held->service.uid, service->uid) == 0 ? held->resource : NULL;
}

struct held_service *control_take_service(struct control *c, struct json_value object)
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

/* ---- all of them ---- */

/* The ports of its Services are recorded as resting while it waits for its turn to be withdrawn, so
 * that many resources share a writing. */
static void record_ports(struct resource *r)
{
    struct control *c = r->control;
    LIST_EACH (it, &r->services) {
        const struct service *s = &container_of(it, struct held_service, link)->service;
        if (c->resting && s->target_port && strcmp(s->namespace, c->settings.home) == 0) {
            int rc = resting_ports_leave(c->resting, s->target_port);
            (void)rc; /* the withdrawal asks again */
        }
    }
}

static void resource_gone(struct resource *r)
{
    record_ports(r);
    set_present(r, false);
    resource_give_up_call(r);
    resource_wake(r);
}

static void drop_unlisted_services(struct resource *r)
{
    uint64_t round = r->control->followers[FOLLOW_SERVICES].round;
    LIST_EACH (it, &r->services) {
        struct held_service *held = container_of(it, struct held_service, link);
        if (held->round != round) {
            resource_drop_service(r, held);
        }
    }
}

static void sweep_one(struct resource *r)
{
    struct control *c = r->control;
    bool listed = r->round == c->followers[FOLLOW_RESOURCES].round;
    if (c->sweep & SWEEP_RESOURCES && r->present && !listed) {
        resource_gone(r);
    }
    if (c->sweep & SWEEP_SERVICES) {
        drop_unlisted_services(r);
    }
    if (c->sweep & SWEEP_WAKE) {
        resource_wake(r);
    }
}

/* Resources that arrive during the sweep are added behind the swept ones. */
static void sweep_some(struct task *t)
{
    struct control *c = container_of(t, struct control, sweeper);
    for (int i = 0; i < SWEPT_A_TURN && c->to_sweep && !list_empty(&c->resources); i++) {
        struct resource *r = container_of(c->resources.next, struct resource, link);
        list_remove(&r->link);
        list_append(&c->resources, &r->link);
        c->to_sweep--;
        sweep_one(r);
    }
    if (c->to_sweep && !list_empty(&c->resources)) {
        loop_next_turn(c->loop, &c->sweeper, sweep_some);
        return;
    }
    if (c->sweep & (SWEEP_RESOURCES | SWEEP_SERVICES)) {
        policies_look_at_all(c->policies); /* they could not be compared before */
    }
    c->sweep = 0;
    queue_resume(c);
}

/* Begins a sweep, or begins the current one again with more to do. */
static void sweep(struct control *c, unsigned what)
{
    c->sweep |= what;
    c->to_sweep = c->n_resources;
    if (!c->stopped) {
        loop_soon(c->loop, &c->sweeper, sweep_some);
    }
}

void control_wake_all(struct control *c)
{
    policies_look_at_all(c->policies);
    sweep(c, SWEEP_WAKE);
}

/* ---- what the watches tell ---- */

static char *text_of(struct json_value object, const char *member)
{
    char *text = json_strdup(json_get(json_get(object, "metadata"), member), NULL);
    return text ? text : mem_strdup("");
}

static struct resource *named_resource(const struct control *c, struct json_value object)
{
    char *namespace = text_of(object, "namespace"), *name = text_of(object, "name");
    struct resource *r = find_resource(c, namespace, name);
    free(namespace);
    free(name);
    return r;
}

/* A resource that the last list did not name may be in this one. */
static void on_listing_resources(void *arg)
{
    struct control *c = arg;
    c->sweep &= ~(unsigned)SWEEP_RESOURCES;
}

static void on_resource(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
    struct resource *r = control_take_resource(c, object);
    (void)stored;
    if (r) {
        r->round = c->followers[FOLLOW_RESOURCES].round;
    }
}

static void on_resource_gone(struct json_value object, void *arg)
{
    struct resource *r = named_resource(arg, object);
    if (r && r->present) {
        resource_gone(r);
    }
}

static void on_resources_listed(bool complete, void *arg)
{
    struct control *c = arg;
    if (complete) {
        sweep(c, SWEEP_RESOURCES);
    }
    control_wake_all(c);
}

/* Can it be seen whose a Service is? Its members may be too large to be read. */
static bool shows_owner(struct json_value object)
{
    static const char *const members[] = {"labels", "ownerReferences", "managedFields"};
    struct json_value metadata = json_get(object, "metadata");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (json_type(json_get(metadata, members[i])) == JSON_OMITTED) {
            return false;
        }
    }
    return true;
}

/* What is known of a Service that is there; NULL: nothing. */
static struct held_service *named_service(const struct control *c, struct json_value object)
{
    char *namespace = text_of(object, "namespace"), *name = text_of(object, "name");
    struct held_service *held = find_service(c, namespace, name);
    free(namespace);
    free(name);
    return held;
}

static void on_listing_services(void *arg)
{
    struct control *c = arg;
    c->sweep &= ~(unsigned)SWEEP_SERVICES;
}

static void on_service(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
    struct held_service *held =
        shows_owner(object) ? control_take_service(c, object) : named_service(c, object);
    (void)stored;
    if (held) {
        held->round = c->followers[FOLLOW_SERVICES].round;
    }
}

/* While no configuration is in force, Services of ours prove that there was one. */
static void services_tell(struct control *c)
{
    if (!configuration_config(c->configuration)) {
        configuration_look(c->configuration);
    }
}

static void on_service_gone(struct json_value object, void *arg)
{
    struct control *c = arg;
    struct service service;
    if (service_parse(&service, object, c->settings.home) != OK) {
        return;
    }
    struct held_service *held = find_service(c, service.namespace, service.name);
    if (held && strcmp(held->service.uid, service.uid) == 0) {
        resource_drop_service(held->resource, held);
    }
    service_clear(&service);
    services_tell(c);
}

static void on_services_listed(bool complete, void *arg)
{
    struct control *c = arg;
    if (complete) {
        sweep(c, SWEEP_SERVICES);
    }
    services_tell(c);
    control_wake_all(c);
}

/* ---- what is kept by name ---- */

static void list_namespaces_again(struct timer *t);

/* The list lacks our own namespace, so the API server is not itself: it is asked again soon. */
static void doubt_namespaces(struct control *c)
{
    int64_t pause = backoff_delay(c->doubts, DOUBT_FIRST, DOUBT_MOST, 10);
    if (c->doubts++ == 0) {
        log_line(LOG_WARN, "control", "Namespaces: the list lacks our own, %s; it does not count",
                 c->settings.home);
    }
    timer_set(c->loop, &c->list_namespaces, loop_now(c->loop) + pause, list_namespaces_again);
}

/* The home namespace is there as long as we are. A list of Namespaces without it is no reason to
 * leave the others. */
static bool namespaces_count(void *arg)
{
    struct control *c = arg;
    const struct stored *home = store_find(&c->namespaces, c->settings.home);
    if (home && home->round == c->followers[FOLLOW_NAMESPACES].round) {
        return true;
    }
    doubt_namespaces(c);
    return false;
}

static void on_namespaces_listed(bool complete, void *arg)
{
    struct control *c = arg;
    (void)complete;
    c->doubts = 0;
    control_wake_all(c);
}

static void on_namespace_gone(struct json_value object, void *arg)
{
    (void)object;
    control_wake_all(arg);
}

static void on_namespace(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
    struct held_namespace *namespace = container_of(stored, struct held_namespace, stored);
    const struct space *space = find_space(c, stored->name);
    struct json_value labels = json_get(json_get(object, "metadata"), "labels");
    bool labelled = json_is(json_get(labels, NAMESPACE_LABEL), c->settings.home);
    if (namespace->labelled == labelled || json_type(labels) == JSON_OMITTED) {
        return;
    }
    namespace->labelled = labelled;
    if (space) {
        LIST_EACH (it, &space->resources) {
            struct resource *r = container_of(it, struct resource, in_space);
            r->retry_at = 0;
            resource_wake(r);
        }
    }
}

static void take_proxy(struct control *c, struct stored *stored, struct json_value object)
{
    struct proxy_object *p = container_of(stored, struct proxy_object, stored);
    struct str text = json_text(object);
    free(p->created);
    free(p->text);
    p->created = text_of(object, "creationTimestamp");
    p->text = mem_strndup(text.p, text.n);
    configuration_look(c->configuration);
}

void control_take_proxy(struct control *c, struct json_value object)
{
    struct stored *stored = store_take(&c->proxies, object, c->followers[FOLLOW_PROXIES].round);
    if (stored) {
        take_proxy(c, stored, object);
    }
}

static void release_proxy(struct stored *stored)
{
    struct proxy_object *p = container_of(stored, struct proxy_object, stored);
    free(p->created);
    free(p->text);
}

static void on_proxy(struct json_value object, struct stored *stored, void *arg)
{
    take_proxy(arg, stored, object);
}

static void on_proxy_gone(struct json_value object, void *arg)
{
    struct control *c = arg;
    (void)object;
    configuration_look(c->configuration);
}

static void on_proxies_listed(bool complete, void *arg)
{
    struct control *c = arg;
    (void)complete;
    configuration_look(c->configuration);
    control_wake_all(c);
}

static void on_policy(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
    policies_take(c->policies, stored, object);
}

static void on_policies_listed(bool complete, void *arg)
{
    (void)complete;
    control_wake_all(arg);
}

/* More ports have been recorded, or cannot be; or the record has been asked for. */
static void on_resting_ports(void *arg)
{
    struct control *c = arg;
    LIST_EACH (it, &c->recording) {
        resource_over(container_of(it, struct resource, recording));
    }
    if (!c->resting_listed) {
        c->resting_listed = true;
        control_wake_all(c);
    }
}

/* ---- life ---- */

static void follow(struct control *c, enum follow what, const struct cluster_selection *selection,
                   struct follower_settings settings)
{
    settings.name = follow_names[what];
    settings.arg = c;
    follower_start(&c->followers[what], c->parts.cluster, selection, &settings);
}

static void follow_namespaces(struct control *c)
{
    follow(c, FOLLOW_NAMESPACES, &(struct cluster_selection){.kind = &kind_namespace},
           (struct follower_settings){.store = &c->namespaces,
                                      .there = on_namespace,
                                      .gone = on_namespace_gone,
                                      .counts = namespaces_count,
                                      .listed = on_namespaces_listed});
}

/* A new watch begins with a list. */
static void list_namespaces_again(struct timer *t)
{
    struct control *c = container_of(t, struct control, list_namespaces);
    follower_stop(&c->followers[FOLLOW_NAMESPACES]);
    follow_namespaces(c);
}

static void follow_all(struct control *c)
{
    char ours[256];
    const char *home = c->settings.home;
    text_fmt(ours, sizeof(ours), PLAN_LABEL_MANAGED "=" PLAN_MANAGER "," PLAN_LABEL_HOME "=%s",
             home);
    follow(c, FOLLOW_PROXIES, &(struct cluster_selection){.kind = &kind_proxy, .namespace = home},
           (struct follower_settings){.store = &c->proxies,
                                      .there = on_proxy,
                                      .gone = on_proxy_gone,
                                      .listed = on_proxies_listed});
    follow(c, FOLLOW_RESOURCES, &(struct cluster_selection){.kind = &kind_destination},
           (struct follower_settings){.listing = on_listing_resources,
                                      .there = on_resource,
                                      .gone = on_resource_gone,
                                      .listed = on_resources_listed});
    if (!c->settings.in_cluster) {
        return;
    }
    follow_namespaces(c);
    follow(c, FOLLOW_SERVICES, &(struct cluster_selection){.kind = &kind_service, .labels = ours},
           (struct follower_settings){.listing = on_listing_services,
                                      .there = on_service,
                                      .gone = on_service_gone,
                                      .listed = on_services_listed});
    follow(c, FOLLOW_POLICIES,
           &(struct cluster_selection){.kind = &kind_policy, .namespace = home, .labels = ours},
           (struct follower_settings){.store = policies_store(c->policies),
                                      .there = on_policy,
                                      .listed = on_policies_listed});
}

static bool may_write_policies(void *arg)
{
    const struct control *c = arg;
    const char *why;
    return c->followers[FOLLOW_POLICIES].known && control_may_act(c, &why);
}

/* Who is admitted to the port of a Service may have changed. */
static void on_admission(struct opening *opening, void *arg)
{
    (void)arg;
    resource_wake(container_of(opening, struct held_service, opening)->resource);
}

static void take_written_policy(struct json_value object, void *arg)
{
    struct control *c = arg;
    follower_take(&c->followers[FOLLOW_POLICIES], object);
}

static bool may_act(const struct control *c)
{
    const char *why;
    return control_may_act(c, &why);
}

struct control *control_new(struct loop *loop, const struct control_parts *parts,
                            const struct control_settings *settings, struct control_handler handler)
{
    struct control *c = mem_zalloc(sizeof(*c));
    struct ports_settings ports = {.first = settings->first_port,
                                   .last = settings->last_port,
                                   .at_random = settings->in_cluster,
                                   .rest = settings->in_cluster ? CONTROL_PORT_REST : 0};
    c->loop = loop;
    c->parts = *parts;
    c->settings = *settings;
    c->settings.home = mem_strdup(settings->home);
    c->settings.domain = mem_strdup(settings->domain);
    c->settings.instance = mem_strdup(settings->instance);
    plan_writer(c->writer, sizeof(c->writer), settings->home);
    c->parts.cluster->writer = c->writer;
    c->parts.cluster->bounds = bounds;
    c->handler = handler;
    store_init(&c->proxies, sizeof(struct proxy_object), release_proxy);
    store_init(&c->namespaces, sizeof(struct held_namespace), NULL);
    list_init(&c->resources);
    queue_init(c, may_act, reconcile);
    map_init(&c->by_key);
    map_init(&c->spaces);
    map_init(&c->claims);
    list_init(&c->claims_changed);
    map_init(&c->services);
    task_init(&c->sweeper);
    list_init(&c->recording);
    c->ports = ports_new(loop, &ports);
    if (settings->in_cluster) {
        struct resting_ports_handler changed = {.changed = on_resting_ports, .arg = c};
        c->resting = resting_ports_new(loop, parts->cluster, c->settings.home, c->ports,
                                       CONTROL_PORT_REST, changed);
    }
    c->port_holders = mem_zalloc(ALL_PORTS * sizeof(c->port_holders[0]));
    c->configuration = configuration_new(c);
    c->policies = policies_new(&(struct policies_settings){.loop = loop,
                                                           .cluster = parts->cluster,
                                                           .home = c->settings.home,
                                                           .ports = c->ports,
                                                           .may_write = may_write_policies,
                                                           .wake = on_admission,
                                                           .take = take_written_policy,
                                                           .arg = c});
    follow_all(c);
    return c;
}

void control_stop(struct control *c)
{
    if (c->stopped) {
        return;
    }
    c->stopped = true;
    queue_stop(c);
    task_cancel(&c->sweeper);
    timer_cancel(c->loop, &c->tell_claims);
    timer_cancel(c->loop, &c->list_namespaces);
    for (size_t i = 0; i < FOLLOW_COUNT; i++) {
        follower_stop(&c->followers[i]);
    }
    LIST_EACH (it, &c->resources) {
        if (!c->queue.running && !c->queue.reading) {
            break;
        }
        reconcile_stop(container_of(it, struct resource, link));
    }
    resting_ports_free(c->resting);
    c->resting = NULL;
    policies_stop(c->policies);
    configuration_stop(c->configuration);
}

void control_free(struct control *c)
{
    if (!c) {
        return;
    }
    control_stop(c);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        tenants_free(r);
        LIST_EACH (s, &r->services) {
            resource_drop_service(r, container_of(s, struct held_service, link));
        }
        resource_free(r);
    }
    policies_free(c->policies);
    configuration_free(c->configuration);
    store_clear(&c->proxies);
    store_clear(&c->namespaces);
    map_free(&c->by_key);
    map_free(&c->spaces);
    map_free(&c->claims);
    map_free(&c->services);
    ports_free(c->ports);
    free(c->port_holders);
    free((char *)c->settings.home);
    free((char *)c->settings.domain);
    free((char *)c->settings.instance);
    free(c);
}

void control_look_again(struct control *c, const char *destination)
{
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        if (r->present && strcmp(r->cr.ref.name, destination) == 0) {
            resource_read_again(r);
        }
    }
}
