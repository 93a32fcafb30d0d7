/* One target of a CR: what its destination is, its listener and its port. In shared mode a CR has
 * one for each tenant; in dedicated mode it has one, without a name. */
#ifndef TPROXY_CONTROLLER_ENDPOINT_H
#define TPROXY_CONTROLLER_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/state.h"
#include "lib/base.h"

struct error;

/* Adds and removes the tenants of a resource as its CR and the configuration say. Those that go
 * lose their listener; their Services are not wanted any more. */
void tenants_update(struct resource *r);

/* Frees all tenants of a resource, with their listeners. */
void tenants_free(struct resource *r);

/* Begins to read the destinations that are due, side by side, as far as the bounds READING_..._MAX
 * allow; the resource is woken for the others. Returns when the next one will be due; INT64_MAX:
 * none. */
int64_t tenants_read(struct resource *r);

/* Cancels these readings. Their destinations are due again. */
void tenants_stop_reading(struct resource *r);

/* Has all destinations of the resource read afresh when it runs next, and wakes it. */
void resource_read_again(struct resource *r);

/* Tells whether the destination is about to be read, or being read. The decision about it follows
 * afterwards. */
bool tenant_is_unread(const struct tenant *t);

/* Tells whether each has been read once. */
bool tenants_known(const struct resource *r);

/* Opens the listener of a tenant whose home Service exists, so that its sessions do not wait for
 * the decision. */
void tenant_hold(struct tenant *t);

/* Opens the listener of a tenant that has none, at its own port first; when another process on this
 * machine has that, at another one. ERR: *err says why there is no listener. */
int tenant_open(struct tenant *t, struct error *err) warn_unused;

/* Closes the listener and gives up the port. */
void tenant_close(struct tenant *t);

/* Tells whether two Services carry the tenant's port, which would bring clients of one to the
 * mailbox of the other. The younger one is about to get another port. */
bool tenant_port_is_shared(const struct tenant *t);

#endif
