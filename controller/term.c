/* A term begins like a start, and ends without leaving anything behind. In between, other processes
 * may have led, so nothing is believed that only a leader can know. */
#include "controller/term.h"

#include <stdlib.h>

#include "configuration/configuration.h"
#include "controller/claim.h"
#include "controller/endpoint.h"
#include "controller/leftovers.h"
#include "controller/network_policies.h"
#include "controller/precedence.h"
#include "controller/queue.h"
#include "controller/resting_ports.h"
#include "controller/sweep.h"
#include "lib/log.h"

/* Another leader may have ended while it brought the CRs to a changed configuration. */
void term_begin(struct controller *c)
{
    c->leads = true;
    log_line(LOG_INFO, "control", "this process leads: it writes from now on");
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        resource_set_outdated(r, r->present);
    }
    configuration_lead(c->configuration, true);
    sweep_begin(c, SWEEP_TERM | SWEEP_WAKE);
}

/* ---- what is forgotten ---- */

static void forget_service(struct held_service *held)
{
    held->checked = false;
    held->removal = (struct removal){0};
    leftover_forget(held);
}

void term_forget(struct resource *r)
{
    r->retry_at = 0;
    r->retries = r->conflicts = r->crd_refusals = 0;
    r->gone_confirmed = r->crd_went = r->crd_renewed = false;
    r->tell_ignored = r->present && !r->cr.available.status;
    r->tenants_lost = r->shows_tenants = false;
    r->words_due = 0;
    repairs_forget(&r->status_repairs);
    LIST_EACH (it, &r->services) {
        forget_service(container_of(it, struct held_service, link));
    }
    LIST_EACH (it, &r->endpoints) {
        struct endpoint *e = container_of(it, struct endpoint, link);
        endpoint_set_unheld(e, false);
        endpoint_forget(e);
    }
    resource_set_stance(r, r->present ? STANCE_UNKNOWN : STANCE_NONE);
}

/* ---- the end ---- */

static void give_up_operations(struct controller *c)
{
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        if (!c->queue.running && !c->queue.reading) {
            break;
        }
        resource_give_up(r);
        if (r->reading) {
            endpoints_stop_reading(r);
        }
    }
}

void term_end(struct controller *c)
{
    c->leads = false;
    log_line(LOG_INFO, "control", "this process does not lead any more: it writes nothing");
    give_up_operations(c);
    network_policies_give_up(c->network_policies);
    resting_ports_lead(c->resting, false);
    configuration_lead(c->configuration, false);
    cluster_cancel(c->parts.cluster, c->event);
    c->event = NULL;
    c->status_missing = c->tenants_pruned = c->crd_hidden = false;
    controller_wake_all(c);
}
