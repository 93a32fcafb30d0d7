/* One target of a CR: its destination is read, its listener opened and closed. Each target of a CR
 * goes on by itself.
 *
 *   wanted --> read --> decided by reconcile.c: SERVE  listener, home Service, alias
 *                                               HOLD   as they are, if they are there
 *                                               REFUSE withdrawn
 *   not wanted any more --> listener closed --> (freed); its Services are cleaned up */
#include "controller/endpoint.h"

#include <stdlib.h>
#include <string.h>

#include "configuration/config.h"
#include "configuration/configuration.h"
#include "controller/exposure.h"
#include "controller/ports.h"
#include "controller/precedence.h"
#include "controller/queue.h"
#include "controller/resources.h"
#include "controller/resting_ports.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/stamp.h"
#include "pop3.h"

/* A destination that could not be read, or is wrong, is read again after UNREAD_FIRST, doubled up
 * to the configured interval. */
#define UNREAD_FIRST SECONDS(5)

/* "namespace/cr/tenant", the name that clients and the log show. */
enum { TARGET_NAME_MAX = CR_NAMESPACE_MAX + CR_NAME_MAX + CR_NAMESPACE_MAX + 3 };

static void count_reading(struct tenant *t, struct dest_request *request)
{
    size_t change = request ? 1 : (size_t)-1;
    t->request = request;
    t->resource->reading += change;
    t->resource->space->reading += change;
    t->resource->control->queue.reading += change;
}

static void stop_reading(struct tenant *t)
{
    if (t->request) {
        dest_cancel(t->resource->control->parts.source, t->request);
        count_reading(t, NULL);
        t->read_again = true;
    }
}

/* Has the Services of the tenant compared again with what they should be. */
static void check_services(struct tenant *t)
{
    struct held_service *home = tenant_service(t);
    struct held_service *alias = resource_service(t->resource, t->resource->namespace, t->service);
    if (home) {
        home->checked = false;
    }
    if (alias) {
        alias->checked = false;
    }
}

/* ---- the listener and its port ---- */

static void set_port(struct tenant *t, uint16_t port)
{
    struct control *c = t->resource->control;
    c->port_holders[t->port] = NULL;
    t->port = port;
    if (port) {
        c->port_holders[port] = t;
    }
    check_services(t);
    struct held_service *held = tenant_service(t);
    if (held) {
        service_expose(held);
    }
}

static void give_up_port(struct tenant *t)
{
    if (t->port) {
        ports_release(t->resource->control->ports, t->port);
        set_port(t, 0);
    }
}

static void close_target(struct tenant *t)
{
    if (t->target && !t->resource->control->stopped) { /* after that, pop3_abort closes it */
        pop3_close(t->target);
    }
    t->target = NULL;
    tenant_look_at_use(t);
}

void tenant_close(struct tenant *t)
{
    close_target(t);
    give_up_port(t);
}

static bool service_is_older(const struct tenant *a, const struct tenant *b)
{
    const struct held_service *x = tenant_service(a), *y = tenant_service(b);
    int order = x && y ? strcmp(x->service.created, y->service.created) : 0;
    order = order ? order : strcmp(a->resource->key, b->resource->key);
    return order ? order < 0 : strcmp(a->service, b->service) < 0;
}

/* Takes the port in the tenant's existing Service: the cluster is our memory of ports. If two
 * Services carry one port, the younger one gets another. */
static void recall_port(struct tenant *t)
{
    struct control *c = t->resource->control;
    const struct held_service *held = tenant_service(t);
    uint16_t port = held ? held->service.target_port : 0;
    if (t->port || !port) {
        return;
    }
    struct tenant *other = c->port_holders[port];
    if (other && (!tenant_service(other) || !service_is_older(t, other))) {
        return; /* a Service that changes hands takes no listener of its former owner with it */
    }
    if (other) {
        close_target(other);
        set_port(other, 0); /* the port changes hands without a rest */
        resource_wake(other->resource);
    }
    ports_take(c->ports, port);
    set_port(t, port);
}

bool tenant_port_is_shared(const struct tenant *t)
{
    return t->port && ports_carried(t->resource->control->ports, t->port) > 1;
}

static struct dest_ref ref_of(const struct tenant *t)
{
    const struct resource *r = t->resource;
    struct dest_ref ref = r->cr.ref;
    ref.instance =
        ref.instance ? ref.instance : configuration_default_instance(r->control->configuration);
    ref.tenant = t->name;
    return ref;
}

static struct target *listen_at(struct tenant *t, uint16_t port, struct error *err)
{
    struct control *c = t->resource->control;
    char name[TARGET_NAME_MAX];
    struct dest_ref ref = ref_of(t);
    struct pop3_target what = {.name = name,
                               .owner = c->settings.in_cluster ? t->resource->namespace : NULL,
                               .source = c->parts.source,
                               .ref = &ref,
                               .dest = t->dest};
    union addr at = c->settings.listen;
    text_fmt(name, sizeof(name), "%s%s%s",
             c->settings.in_cluster ? t->resource->key : t->resource->name, t->name ? "/" : "",
             t->name ? t->name : "");
    addr_set_port(&at, port);
    return pop3_open(c->parts.pop3, &what, &at, err);
}

/* Picks a port that is free. ERR: *err says why none is. */
static int pick_port(struct control *c, uint16_t *port, struct error *err)
{
    if (c->settings.in_cluster && !c->followers[FOLLOW_POLICIES].known) {
        return error_set(
            err, FAIL_CONFIG,
            "no target port is given while it is not known which ports NetworkPolicies "
            "list: " NETWORK_POLICIES_UNKNOWN);
    }
    int64_t until;
    char time[STAMP_SIZE];
    if (c->resting && !resting_ports_known(c->resting, &until)) {
        stamp_minute(time, stamp_minute_in(until - loop_now(c->loop)));
        return error_set(err, FAIL_CONFIG,
                         "no target port is given before %s, for it is not known which ones rest: "
                         "the ConfigMap " RESTING_PORTS_NAME " of the namespace %s cannot be read "
                         "(see RBAC in docs/install.md)",
                         time, c->settings.home);
    }
    if (ports_pick(c->ports, port) == OK) {
        return OK;
    }
    struct ports_use use = ports_use(c->ports);
    char listed[80] = "", resting[160] = "";
    if (use.listed) {
        text_fmt(listed, sizeof(listed), ", %u are still listed by NetworkPolicies", use.listed);
    }
    if (use.resting) {
        stamp_minute(time, stamp_minute_in(use.next - loop_now(c->loop)));
        text_fmt(resting, sizeof(resting),
                 ", %u rest after their mailboxes have gone, the first of them until %s",
                 use.resting, time);
    }
    return error_set(err, FAIL_LIMIT, "no port is left in --target-ports %u-%u: %u are in use%s%s",
                     c->settings.first_port, c->settings.last_port, use.taken, listed, resting);
}

int tenant_open(struct tenant *t, struct error *err)
{
    struct control *c = t->resource->control;
    uint16_t port = t->port;
    for (;;) {
        if (!port && pick_port(c, &port, err) != OK) {
            return ERR;
        }
        t->target = listen_at(t, port, err);
        if (t->target) {
            break;
        }
        if (err->fail != FAIL_LIMIT || port == 0) {
            return ERR;
        }
        give_up_port(t);
        ports_avoid(c->ports, port);
        port = 0;
    }
    if (!t->port) {
        ports_take(c->ports, pop3_port(t->target));
        set_port(t, pop3_port(t->target));
    }
    tenant_look_at_use(t);
    return OK;
}

void tenant_hold(struct tenant *t)
{
    struct condition why;
    struct error err;
    recall_port(t);
    if (tenant_port_is_shared(t)) {
        close_target(t);
    } else if (!t->target && tenant_exclude(t, &why) != OK) {
        return; /* a policy of a former owner still admits to the port */
    } else if (t->port && !t->target && tenant_open(t, &err) != OK) {
        log_line(LOG_ERROR, "control", "%s: %s", t->resource->key, err.text);
    }
}

/* ---- which ones there are ---- */

static struct tenant *add_tenant(struct resource *r, const char *name, const char *service)
{
    struct tenant *t = mem_zalloc(sizeof(*t));
    t->resource = r;
    t->name = name ? mem_strdup(name) : NULL;
    list_init(&t->link);
    tenant_claim(t, service);
    r->n_tenants++;
    return t;
}

/* Puts the tenant at the end of the list, whether it is new or not, so that the list gets the order
 * of the names. */
static void put_tenant(struct resource *r, const char *name)
{
    char service[CR_NAME_MAX + 1 + CR_NAMESPACE_MAX + 1];
    text_fmt(service, sizeof(service), "%s%s%s", r->name, name ? "-" : "", name ? name : "");
    struct tenant *t = resource_tenant(r, service);
    t = t ? t : add_tenant(r, name, service);
    list_remove(&t->link);
    list_append(&r->tenants, &t->link);
}

static void tenant_free(struct tenant *t)
{
    struct resource *r = t->resource;
    stop_reading(t);
    close_target(t);
    give_up_port(t);
    list_remove(&t->link);
    r->n_tenants--;
    if (r->operand == t) {
        r->operand = NULL;
    }
    tenant_unclaim(t);
    destination_unref(t->dest);
    free(t->trouble);
    free(t->failure);
    free(t->verdict_text);
    free((char *)t->name);
    free(t);
}

void tenants_free(struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        tenant_free(container_of(it, struct tenant, link));
    }
}

static int compare_name(const void *name, const void *element)
{
    return strcmp(name, *(char *const *)element);
}

static bool is_named(const struct cr *cr, const char *name)
{
    return name && cr->n_tenants && /* without tenants there may be no array */
           bsearch(name, cr->tenants, cr->n_tenants, sizeof(*cr->tenants), compare_name);
}

void tenants_update(struct resource *r)
{
    struct control *c = r->control;
    const struct config *config = c->config;
    if (!config || !r->present) {
        return; /* until it is certain that the CR has gone, what was made for it stays */
    }
    bool shared = config->tenant_mode == TENANTS_SHARED;
    LIST_EACH (it, &r->tenants) {
        struct tenant *t = container_of(it, struct tenant, link);
        if (r->cr.wrong || (shared ? !is_named(&r->cr, t->name) : t->name != NULL)) {
            r->tell_ignored |= !shared;
            if (r->settled) {
                c->handler.gone(r->namespace, t->service, c->handler.arg);
            }
            tenant_free(t);
        }
    }
    if (!shared && !r->cr.wrong) {
        put_tenant(r, NULL);
    }
    for (size_t i = 0; shared && i < r->cr.n_tenants; i++) {
        put_tenant(r, r->cr.tenants[i]);
    }
}

/* ---- reading the destination ---- */

static void plan_next_reading(struct tenant *t)
{
    int64_t interval = t->resource->control->config->interval;
    t->unread = t->verdict == VERDICT_OK ? 0 : t->unread + 1;
    t->read_due = resource_now(t->resource) +
                  (t->unread ? backoff_delay(t->unread - 1, UNREAD_FIRST, interval, 10)
                             : backoff_delay(0, interval, interval, 10));
}

static void set_destination(struct tenant *t, const struct dest_answer *answer)
{
    const struct destination *before = t->dest;
    const char *key = t->resource->key;
    if (answer->dest && (!before || !destination_equal(before, answer->dest))) {
        if (before) {
            log_line(LOG_INFO, "control", "%s: changed", key);
        }
        for (size_t i = 0; i < answer->dest->n_warnings; i++) {
            log_line(LOG_WARN, "control", "%s: %s", key, answer->dest->warnings[i]);
        }
    }
    t->dest = answer->dest ? destination_ref(answer->dest) : NULL;
    destination_unref(before);
    t->verdict = answer->verdict;
    free(t->verdict_text);
    t->verdict_text = answer->dest ? NULL : mem_strdup(answer->err.text);
    t->read = true;
    check_services(t);
    plan_next_reading(t);
    tenant_look_at_use(t);
    if (t->target) {
        struct dest_ref ref = ref_of(t);
        pop3_change(t->target, &ref, t->dest);
    }
}

static bool is_due(const struct tenant *t)
{
    return !t->read || t->read_again || t->read_due <= resource_now(t->resource);
}

bool tenant_is_unread(const struct tenant *t)
{
    return t->request || is_due(t);
}

void tenants_stop_reading(struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        stop_reading(container_of(it, struct tenant, link));
    }
}

static void on_read(const struct dest_answer *answer, void *arg)
{
    struct tenant *t = arg;
    count_reading(t, NULL);
    set_destination(t, answer);
    resource_wake(t->resource);
}

static void begin_to_read(struct tenant *t)
{
    struct control *c = t->resource->control;
    struct dest_ref ref = ref_of(t);
    struct dest_handler handler = {.done = on_read, .arg = t};
    t->read_again = false;
    count_reading(t, dest_find(c->parts.source, &ref, DEST_TO_CHECK, NULL, handler));
}

int64_t tenants_read(struct resource *r)
{
    int64_t due = INT64_MAX;
    LIST_EACH (it, &r->tenants) {
        struct tenant *t = container_of(it, struct tenant, link);
        if (t->request || (is_due(t) && r->reading == READING_OF_ONE_MAX)) {
            continue; /* the end of the reading wakes the resource */
        }
        if (!is_due(t)) {
            due = t->read_due < due ? t->read_due : due;
        } else if (resource_may_read(r)) {
            begin_to_read(t);
        } else {
            resource_wait_to_read(r);
        }
    }
    return due;
}

bool tenants_known(const struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        if (!container_of(it, struct tenant, link)->read) {
            return false;
        }
    }
    return true;
}

void resource_read_again(struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        container_of(it, struct tenant, link)->read_again = true;
    }
    resource_wake(r);
}
