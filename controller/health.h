/* What the controller tells about itself: readiness, SAP's JSON, figures. */
#ifndef TPROXY_CONTROLLER_HEALTH_H
#define TPROXY_CONTROLLER_HEALTH_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"

struct control;

/* Has everything that it follows been listed once, and every CR of then been given its target or
 * its condition, or been waited for long enough? If not, *why says in words what is missing. Once
 * true it stays so: whatever goes away later, the targets serve. */
bool control_ready(struct control *control, const char **why);

/* SAP's /destinationCRs: {"Status":"ok","CustomResources":[...]}. ERR when it does not fit. */
int control_resources_json(const struct control *control, struct buf *out) warn_unused;

/* What /status says of the controller. */
struct control_health {
    bool listed;      /* everything that it follows has been listed */
    bool configured;  /* a configuration is in force, and neither it nor a CRD has to be mended */
    size_t resources; /* CRs that are ours */
    size_t not_available; /* of these */
    size_t stuck;         /* Services that are not needed any more and cannot be deleted */
    const char *message;  /* a sentence about the worst of it; valid until the next turn */
};
struct control_health control_health(const struct control *control);

void control_metrics(const struct control *control, struct buf *out);

#endif
