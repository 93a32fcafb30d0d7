/* The follower's part in one CR. Only the leader reads destinations and decides; the Services that
 * it writes, and the CR, say all that a follower needs.
 *
 *   home Service there  --> listen on its target port, or on the other one that it has got
 *                           two Services carry it --> do not listen
 *                           it cannot be had      --> try again; see controller_ready
 *   home Service gone   --> CR there: stop listening after WITHOUT_SERVICE
 *                           CR gone: stop at once
 *   namespace not managed, tenant not wanted (intake.c) --> stop at once */
#include "controller/follow.h"

#include "controller/claim.h"
#include "controller/endpoint.h"
#include "controller/leftovers.h"
#include "controller/ports.h"
#include "controller/queue.h"
#include "controller/resources.h"
#include "controller/status.h"
#include "lib/backoff.h"
#include "lib/log.h"

/* The home Service of a CR that is still there may have been deleted by mistake: the leader writes
 * it again, perhaps another leader when the old one has ended. Sessions must not be cut by that.
 * Its port rests, so nobody else gets it. */
#define WITHOUT_SERVICE SECONDS(60)

/* Bounds of the pause after which a port that cannot be listened on is tried again. */
#define RETRY_FIRST SECONDS(1)
#define RETRY_MOST SECONDS(60)

/* A resource that waits longer than this for a listener counts as settled. */
#define SETTLE_WITHIN SECONDS(10)

/* Opens the listener at the port of the home Service. ERR: *err says why that is not possible. */
static int hold(struct endpoint *e, uint16_t port, struct error *err)
{
    const struct ports *ports = e->resource->controller->ports;
    bool alone = port && ports_carried(ports, port) == 1;
    if (alone && e->port && e->port != port) {
        endpoint_close(e);
    }
    if (endpoint_hold(e, err) != OK) {
        return ERR;
    }
    return alone && !e->port
               ? error_set(err, FAIL_LIMIT, "another mailbox has not given it back yet")
               : OK;
}

static void listen_for(struct endpoint *e, const struct held_service *home)
{
    struct resource *r = e->resource;
    struct error err;
    uint16_t port = home->service.target_port;
    if (e->unheld && e->unheld_until > resource_now(r)) {
        resource_wake_at(r, e->unheld_until);
        return;
    }
    bool failed = hold(e, port, &err) != OK;
    if (failed && !e->unheld) {
        log_line(LOG_ERROR, "control", "%s: the port %u of its Service cannot be listened on: %s",
                 r->key, port, err.text);
    }
    endpoint_set_unheld(e, failed);
    if (failed) {
        e->unheld_until =
            resource_now(r) + backoff_delay(e->unheld_tries++, RETRY_FIRST, RETRY_MOST, 10);
        resource_wake_at(r, e->unheld_until);
    }
}

/* Stops listening for a CR that is still there and has lost its home Service. A Service that has
 * never been seen is not waited for: its port was given by an earlier term of ours. */
static void wait_for_service(struct endpoint *e)
{
    struct resource *r = e->resource;
    int64_t until = e->service_went ? e->service_went + WITHOUT_SERVICE : 0;
    if (until > resource_now(r)) {
        resource_wake_at(r, until);
    } else {
        endpoint_close(e);
    }
}

static void follow_endpoint(struct endpoint *e)
{
    const struct resource *r = e->resource;
    const struct held_service *home = endpoint_service(e);
    bool wanted = r->present && !r->cr.deleting;
    endpoint_forget(e);
    if (!resource_managed(r) || (!wanted && (!home || home->service.deleting))) {
        endpoint_close(e);
    } else if (home) {
        listen_for(e, home);
    } else if (e->port) {
        wait_for_service(e);
    }
    endpoint_refer(e);
}

/* Tells whether the endpoint has the listener that it can have by now. */
static bool is_held(const struct endpoint *e)
{
    const struct held_service *home = endpoint_service(e);
    uint16_t port = home ? home->service.target_port : 0;
    return !port || e->target || ports_carried(e->resource->controller->ports, port) > 1;
}

static void settle(struct resource *r)
{
    bool held = true;
    LIST_EACH (it, &r->endpoints) {
        held = held && is_held(container_of(it, struct endpoint, link));
    }
    r->settle_by = r->settle_by ? r->settle_by : resource_now(r) + SETTLE_WITHIN;
    if (held || r->settle_by <= resource_now(r)) {
        resource_settle(r);
    } else {
        resource_wake_at(r, r->settle_by);
    }
}

void resource_follow(struct resource *r)
{
    status_forget(r);
    LIST_EACH (it, &r->services) {
        leftover_forget(container_of(it, struct held_service, link));
    }
    LIST_EACH (it, &r->endpoints) {
        follow_endpoint(container_of(it, struct endpoint, link));
    }
    if (!r->present && list_empty(&r->services)) {
        if (r->settled) { /* if not, it was never there */
            status_tell_gone(r);
        }
        endpoints_free(r);
        resource_free(r);
        return;
    }
    resource_count(r);
    if (r->present && !r->settled) {
        settle(r);
    }
}
