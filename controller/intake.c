/* A CR that has changed is a new wish: its endpoints come and go at once, so that a younger CR
 * cannot take a name first. */
#include "controller/intake.h"

#include <string.h>

#include "controller/claim.h"
#include "controller/endpoint.h"
#include "controller/exposure.h"
#include "controller/precedence.h"
#include "controller/queue.h"
#include "controller/resources.h"
#include "controller/resting_ports.h"
#include "lib/log.h"

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
    if (!present) {
        resource_set_outdated(r, false);
    }
}

/* The spec has changed: forget the retry delays of the old one. */
static void new_wish(struct resource *r)
{
    r->retry_at = 0;
    endpoints_update(r);
    LIST_EACH (it, &r->endpoints) {
        struct endpoint *e = container_of(it, struct endpoint, link);
        e->read_again = true;
        e->trouble_until = 0;
    }
    LIST_EACH (it, &r->services) {
        container_of(it, struct held_service, link)->checked = false;
    }
    resource_expose(r);
}

struct resource *controller_take_resource(struct controller *c, struct json_value object)
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
        resource_set_stance(r, STANCE_NONE); /* the age of the CR changes, and with it its rank */
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

/* Records the ports of the Services as resting while the resource waits for its turn to be
 * withdrawn, so that many resources share one write. */
static void record_ports(struct resource *r)
{
    struct controller *c = r->controller;
    LIST_EACH (it, &r->services) {
        const struct service *s = &container_of(it, struct held_service, link)->service;
        if (c->resting && c->leads && s->target_port) {
            int rc = resting_ports_leave(c->resting, s->target_port);
            (void)rc; /* the withdrawal asks again */
        }
    }
}

void resource_gone(struct resource *r)
{
    record_ports(r);
    set_present(r, false);
    resource_give_up_call(r);
    resource_wake(r);
}
