/* One exposed mailbox of a CR: its destination is read, its listener opened and closed. Each
 * endpoint of a CR goes on by itself.
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

static void count_reading(struct endpoint *e, struct dest_request *request)
{
    size_t change = request ? 1 : (size_t)-1;
    e->request = request;
    e->resource->reading += change;
    e->resource->space->reading += change;
    e->resource->controller->queue.reading += change;
}

static void stop_reading(struct endpoint *e)
{
    if (e->request) {
        dest_cancel(e->resource->controller->parts.source, e->request);
        count_reading(e, NULL);
        e->read_again = true;
    }
}

/* Has the Services of the endpoint compared again with what they should be. */
static void check_services(struct endpoint *e)
{
    struct held_service *home = endpoint_service(e);
    struct held_service *alias = resource_service(e->resource, e->resource->namespace, e->service);
    if (home) {
        home->checked = false;
    }
    if (alias) {
        alias->checked = false;
    }
}

/* ---- the listener and its port ---- */

static void set_port(struct endpoint *e, uint16_t port)
{
    struct controller *c = e->resource->controller;
    c->port_holders[e->port] = NULL;
    e->port = port;
    if (port) {
        c->port_holders[port] = e;
    }
    check_services(e);
    struct held_service *held = endpoint_service(e);
    if (held) {
        service_expose(held);
    }
}

static void give_up_port(struct endpoint *e)
{
    if (e->port) {
        ports_release(e->resource->controller->ports, e->port);
        set_port(e, 0);
    }
}

static void close_target(struct endpoint *e)
{
    if (e->target && !e->resource->controller->stopped) { /* after that, pop3_abort closes it */
        pop3_close(e->target);
    }
    e->target = NULL;
    endpoint_update_use(e);
}

void endpoint_set_unheld(struct endpoint *e, bool unheld)
{
    struct controller *c = e->resource->controller;
    if (unheld && !e->unheld && c->unheld++ == 0) {
        c->unheld_since = loop_now(c->loop);
    }
    c->unheld -= !unheld && e->unheld;
    e->unheld = unheld;
    if (!unheld) {
        e->unheld_tries = 0;
        e->unheld_until = 0;
    }
}

void endpoint_close(struct endpoint *e)
{
    endpoint_set_unheld(e, false);
    close_target(e);
    give_up_port(e);
}

static bool service_is_older(const struct endpoint *a, const struct endpoint *b)
{
    const struct held_service *x = endpoint_service(a), *y = endpoint_service(b);
    int order = x && y ? strcmp(x->service.created, y->service.created) : 0;
    order = order ? order : strcmp(a->resource->key, b->resource->key);
    return order ? order < 0 : strcmp(a->service, b->service) < 0;
}

/* Takes the port in the endpoint's existing Service: the cluster is our memory of ports. If two
 * Services carry one port, the younger one gets another. */
static void recall_port(struct endpoint *e)
{
    struct controller *c = e->resource->controller;
    const struct held_service *held = endpoint_service(e);
    uint16_t port = held ? held->service.target_port : 0;
    if (e->port || !port) {
        return;
    }
    struct endpoint *other = c->port_holders[port];
    if (other && (!endpoint_service(other) || !service_is_older(e, other))) {
        return; /* a Service that changes hands takes no listener of its former owner with it */
    }
    if (other) {
        close_target(other);
        set_port(other, 0); /* the port changes hands without a rest */
        resource_wake(other->resource);
    }
    ports_take(c->ports, port);
    set_port(e, port);
}

bool endpoint_port_is_shared(const struct endpoint *e)
{
    return e->port && ports_carried(e->resource->controller->ports, e->port) > 1;
}

static struct dest_ref ref_of(const struct endpoint *e)
{
    const struct resource *r = e->resource;
    struct dest_ref ref = r->cr.ref;
    ref.instance =
        ref.instance ? ref.instance : configuration_default_instance(r->controller->configuration);
    ref.tenant = e->tenant;
    return ref;
}

static struct target *listen_at(struct endpoint *e, uint16_t port, struct error *err)
{
    struct controller *c = e->resource->controller;
    char name[TARGET_NAME_MAX];
    struct dest_ref ref = ref_of(e);
    struct pop3_target what = {.name = name,
                               .owner = c->settings.in_cluster ? e->resource->namespace : NULL,
                               .source = c->parts.source,
                               .ref = &ref,
                               .dest = e->dest};
    union addr at = c->settings.listen;
    text_fmt(name, sizeof(name), "%s%s%s",
             c->settings.in_cluster ? e->resource->key : e->resource->name, e->tenant ? "/" : "",
             e->tenant ? e->tenant : "");
    addr_set_port(&at, port);
    return pop3_open(c->parts.pop3, &what, &at, err);
}

/* Picks a port that is free. ERR: *err says why none is. */
static int pick_port(struct controller *c, uint16_t *port, struct error *err)
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

int endpoint_open(struct endpoint *e, struct error *err)
{
    struct controller *c = e->resource->controller;
    uint16_t port = e->port;
    for (;;) {
        if (!port && pick_port(c, &port, err) != OK) {
            return ERR;
        }
        e->target = listen_at(e, port, err);
        if (e->target) {
            break;
        }
        if (err->fail != FAIL_LIMIT || port == 0 || !c->leads) {
            return ERR;
        }
        give_up_port(e);
        ports_avoid(c->ports, port);
        port = 0;
    }
    if (!e->port) {
        ports_take(c->ports, pop3_port(e->target));
        set_port(e, pop3_port(e->target));
    }
    endpoint_update_use(e);
    return OK;
}

int endpoint_hold(struct endpoint *e, struct error *err)
{
    struct condition why;
    recall_port(e);
    if (endpoint_port_is_shared(e)) {
        close_target(e);
        return OK;
    }
    if (!e->port || e->target || endpoint_exclude(e, &why) != OK) {
        return OK; /* perhaps a policy of a former owner still admits to the port */
    }
    return endpoint_open(e, err);
}

/* ---- which ones there are ---- */

static struct endpoint *add_endpoint(struct resource *r, const char *name, const char *service)
{
    struct endpoint *e = mem_zalloc(sizeof(*e));
    e->resource = r;
    e->tenant = name ? mem_strdup(name) : NULL;
    list_init(&e->link);
    endpoint_want_name(e, service);
    r->n_endpoints++;
    return e;
}

/* Puts the endpoint at the end of the list, whether it is new or not, so that the list gets the
 * order of the names. */
static void put_endpoint(struct resource *r, const char *name)
{
    char service[CR_NAME_MAX + 1 + CR_NAMESPACE_MAX + 1];
    text_fmt(service, sizeof(service), "%s%s%s", r->name, name ? "-" : "", name ? name : "");
    struct endpoint *e = resource_endpoint(r, service);
    e = e ? e : add_endpoint(r, name, service);
    list_remove(&e->link);
    list_append(&r->endpoints, &e->link);
}

static void endpoint_free(struct endpoint *e)
{
    struct resource *r = e->resource;
    stop_reading(e);
    endpoint_close(e);
    list_remove(&e->link);
    r->n_endpoints--;
    if (r->operand == e) {
        r->operand = NULL;
    }
    endpoint_leave_name(e);
    destination_unref(e->dest);
    free(e->trouble);
    free(e->failure);
    free(e->verdict_text);
    free((char *)e->tenant);
    free(e);
}

void endpoints_free(struct resource *r)
{
    LIST_EACH (it, &r->endpoints) {
        endpoint_free(container_of(it, struct endpoint, link));
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

void endpoints_update(struct resource *r)
{
    struct controller *c = r->controller;
    const struct config *config = c->config;
    if (!config || !r->present) {
        return; /* until it is certain that the CR has gone, what was made for it stays */
    }
    bool shared = config->tenant_mode == TENANTS_SHARED;
    LIST_EACH (it, &r->endpoints) {
        struct endpoint *e = container_of(it, struct endpoint, link);
        if (r->cr.wrong || (shared ? !is_named(&r->cr, e->tenant) : e->tenant != NULL)) {
            r->tell_ignored |= !shared;
            if (r->settled) {
                c->handler.gone(r->namespace, e->service, c->handler.arg);
            }
            endpoint_free(e);
        }
    }
    if (!shared && !r->cr.wrong) {
        put_endpoint(r, NULL);
    }
    for (size_t i = 0; shared && i < r->cr.n_tenants; i++) {
        put_endpoint(r, r->cr.tenants[i]);
    }
}

/* ---- reading the destination ---- */

static void plan_next_reading(struct endpoint *e)
{
    int64_t interval = e->resource->controller->config->interval;
    e->unread = e->verdict == VERDICT_OK ? 0 : e->unread + 1;
    e->read_due = resource_now(e->resource) +
                  (e->unread ? backoff_delay(e->unread - 1, UNREAD_FIRST, interval, 10)
                             : backoff_delay(0, interval, interval, 10));
}

static void set_destination(struct endpoint *e, const struct dest_answer *answer)
{
    const struct destination *before = e->dest;
    const char *key = e->resource->key;
    if (answer->dest && (!before || !destination_equal(before, answer->dest))) {
        if (before) {
            log_line(LOG_INFO, "control", "%s: changed", key);
        }
        for (size_t i = 0; i < answer->dest->n_warnings; i++) {
            log_line(LOG_WARN, "control", "%s: %s", key, answer->dest->warnings[i]);
        }
    }
    e->dest = answer->dest ? destination_ref(answer->dest) : NULL;
    destination_unref(before);
    e->verdict = answer->verdict;
    free(e->verdict_text);
    e->verdict_text = answer->dest ? NULL : mem_strdup(answer->err.text);
    e->read = true;
    e->doubted = false;
    check_services(e);
    plan_next_reading(e);
    endpoint_update_use(e);
    if (e->target) {
        struct dest_ref ref = ref_of(e);
        pop3_change(e->target, &ref, e->dest);
    }
}

void endpoint_refer(struct endpoint *e)
{
    if (e->target && e->read_again) {
        struct dest_ref ref = ref_of(e);
        pop3_change(e->target, &ref, NULL);
    }
    e->read_again = false;
}

void endpoint_forget(struct endpoint *e)
{
    stop_reading(e);
    e->read = e->doubted = e->name_taken = e->trouble_silent = false;
    e->unread = e->troubles = 0;
    e->read_due = e->waits_since = e->trouble_until = 0;
    e->verdict = VERDICT_OK;
    destination_unref(e->dest);
    e->dest = NULL;
    free(e->verdict_text);
    e->verdict_text = NULL;
    free(e->trouble);
    e->trouble = NULL;
    repairs_forget(&e->home_repairs);
    repairs_forget(&e->alias_repairs);
    endpoint_update_use(e);
}

static bool is_due(const struct endpoint *e)
{
    return !e->read || e->read_again || e->read_due <= resource_now(e->resource);
}

bool endpoint_is_unread(const struct endpoint *e)
{
    return e->request || is_due(e);
}

void endpoints_stop_reading(struct resource *r)
{
    LIST_EACH (it, &r->endpoints) {
        stop_reading(container_of(it, struct endpoint, link));
    }
}

static void on_read(const struct dest_answer *answer, void *arg)
{
    struct endpoint *e = arg;
    count_reading(e, NULL);
    set_destination(e, answer);
    resource_wake(e->resource);
}

static void begin_to_read(struct endpoint *e)
{
    struct controller *c = e->resource->controller;
    struct dest_ref ref = ref_of(e);
    struct dest_handler handler = {.done = on_read, .arg = e};
    e->read_again = false;
    count_reading(e, dest_find(c->parts.source, &ref, DEST_TO_CHECK, NULL, handler));
}

int64_t endpoints_read(struct resource *r)
{
    int64_t due = INT64_MAX;
    LIST_EACH (it, &r->endpoints) {
        struct endpoint *e = container_of(it, struct endpoint, link);
        if (e->request || (is_due(e) && r->reading == READING_OF_ONE_MAX)) {
            continue; /* the end of the reading wakes the resource */
        }
        if (!is_due(e)) {
            due = e->read_due < due ? e->read_due : due;
        } else if (resource_may_read(r)) {
            begin_to_read(e);
        } else {
            resource_wait_to_read(r);
        }
    }
    return due;
}

bool endpoints_known(const struct resource *r)
{
    LIST_EACH (it, &r->endpoints) {
        if (!container_of(it, struct endpoint, link)->read) {
            return false;
        }
    }
    return true;
}

bool endpoints_unread(const struct resource *r)
{
    LIST_EACH (it, &r->endpoints) {
        if (endpoint_is_unread(container_of(it, struct endpoint, link))) {
            return true;
        }
    }
    return false;
}

void resource_read_again(struct resource *r)
{
    LIST_EACH (it, &r->endpoints) {
        struct endpoint *e = container_of(it, struct endpoint, link);
        e->read_again = true;
        e->doubted = e->read && e->verdict != VERDICT_OK;
        endpoint_update_use(e);
    }
    resource_wake(r);
}
