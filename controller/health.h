/* Reports the state of the controller: readiness, SAP's JSON, figures. */
#ifndef TPROXY_CONTROLLER_HEALTH_H
#define TPROXY_CONTROLLER_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"

struct controller;

/* Tells whether everything that is followed has been listed once, and every CR of that time has got
 * what this process can give it, or has been waited for long enough: from the leader its targets or
 * its condition, from the others a listener for each of its Services. If not, *why says in words
 * what is missing. Once true it stays true, because whatever goes away later, the targets serve,
 * with one exception: a process that does not lead and cannot listen on the port of a Service is
 * not ready for a minute, so that clients go to the other ones. Then it is ready again, as one port
 * must not keep it from all others. */
bool controller_ready(struct controller *controller, const char **why);

/* Appends SAP's page /destinationCRs: {"Status":"ok","CustomResources":[...]}. ERR when it does not
 * fit. */
int controller_resources_json(const struct controller *controller, struct buf *out) warn_unused;

/* Returns what /status says about the controller. */
struct controller_health {
    bool listed;      /* everything that it follows has been listed */
    bool configured;  /* a configuration is in force, and neither it nor a CRD has to be mended */
    size_t resources; /* CRs that are ours */
    size_t not_available; /* number of these CRs without a working target */
    size_t stuck;         /* Services that are not needed any more and cannot be deleted */
    size_t unheld;        /* Services whose ports this process, which follows, cannot listen on */
    const char *message;  /* a sentence about the worst of it; valid until the next turn */
};
struct controller_health controller_health(const struct controller *controller);

/* Appends the metrics of the controller. */
void controller_metrics(const struct controller *controller, struct buf *out);

#endif
