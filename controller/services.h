/* The Services of a target: created, changed, taken over, deleted. */
#ifndef TPROXY_CONTROLLER_SERVICES_H
#define TPROXY_CONTROLLER_SERVICES_H

#include <stdbool.h>

#include "controller/state.h"
#include "lib/base.h"

struct condition;

/* Makes listener and Services what they should be. OK: they are. AGAIN: not yet, or there is
 * trouble. ERR: a Service does not stay as it is written; *why says so. */
int endpoint_serve(struct endpoint *e, struct condition *why) warn_unused;

/* Takes listener and Services back; the listener is closed at once. AGAIN: a Service is being taken
 * back. OK: what is left is being deleted, or its removal has failed and is tried again later. */
int endpoint_withdraw(struct endpoint *e) warn_unused;

/* The same for all endpoints of a resource, and for Services that nobody wants any more. */
int endpoints_withdraw(struct resource *r) warn_unused;

/* Takes back a Service that no endpoint wants. Returns true when one is being taken back. */
bool endpoints_clean(struct resource *r);

/* Tells whether it is too early to try the endpoint's Services again. The resource is woken when it
 * is not. The trouble, if it is to be shown by now, is in e->trouble. */
bool endpoint_is_put_off(struct endpoint *e);

#endif
