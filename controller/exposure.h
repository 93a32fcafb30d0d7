/* Decides which pods reach the port of an endpoint: the CR's scope and the configuration say for
 * which namespace the NetworkPolicies have to admit to its home Service. */
#ifndef TPROXY_CONTROLLER_EXPOSURE_H
#define TPROXY_CONTROLLER_EXPOSURE_H

#include "controller/state.h"
#include "lib/base.h"

struct condition;

/* Has the NetworkPolicies admit to the Service as they should by now: its port, the port of the
 * endpoint that wants it, or the scope of its CR may have changed. */
void service_expose(struct held_service *held);

/* The same for all Services of the resource. */
void resource_expose(struct resource *r);

/* Tells whether no other pods than those that the CR names are admitted to the endpoint's port. OK
 * also for an endpoint without a home Service or a port. AGAIN: soon. ERR: *why says what is in the
 * way. After AGAIN and ERR the resource is woken when the answer may have changed. */
int endpoint_exclude(struct endpoint *e, struct condition *why) warn_unused;

/* Tells whether the pods that the CR names are admitted to the port of the endpoint's home Service.
 * Results as above. */
int endpoint_admit(struct endpoint *e, struct condition *why) warn_unused;

#endif
