/* The Services of a target: created, changed, taken over, deleted. */
#ifndef TPROXY_CONTROLLER_SERVICES_H
#define TPROXY_CONTROLLER_SERVICES_H

#include <stdbool.h>

#include "controller/state.h"
#include "lib/base.h"

struct condition;

/* Makes listener and Services what they should be. OK: they are. AGAIN: not yet, or there is
 * trouble. ERR: a Service does not stay as it is written; *why says so. */
int tenant_serve(struct tenant *t, struct condition *why) warn_unused;

/* Takes listener and Services back; the listener is closed at once. AGAIN: a Service is being taken
 * back. OK: what is left is being deleted, or its removal has failed and is tried again later. */
int tenant_withdraw(struct tenant *t) warn_unused;

/* The same for all tenants of a resource, and for Services that nobody wants any more. */
int tenants_withdraw(struct resource *r) warn_unused;

/* Takes back a Service that no tenant wants. Returns true when one is being taken back. */
bool tenants_clean(struct resource *r);

/* Tells whether it is too early to try the tenant's Services again. The resource is woken when it
 * is not. The trouble, if it is to be shown by now, is in t->trouble. */
bool tenant_is_put_off(struct tenant *t);

#endif
