/* One exposed mailbox of a CR: its destination, listener and port. In shared mode a CR has an
 * endpoint for each tenant, in dedicated mode a single one. */
#ifndef TPROXY_CONTROLLER_ENDPOINT_H
#define TPROXY_CONTROLLER_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "controller/state.h"
#include "lib/base.h"

struct error;

/* Adds and removes the endpoints of a resource as its CR and the configuration say. Those that go
 * lose their listener; their Services are not wanted any more. */
void endpoints_update(struct resource *r);

/* Frees all endpoints of a resource, with their listeners. */
void endpoints_free(struct resource *r);

/* Begins to read the destinations that are due, side by side, as far as the bounds READING_..._MAX
 * allow; the resource is woken for the others. Returns when the next one will be due; INT64_MAX:
 * none. */
int64_t endpoints_read(struct resource *r);

/* Cancels these readings. Their destinations are due again. */
void endpoints_stop_reading(struct resource *r);

/* Has all destinations of the resource read afresh when it runs next, and wakes it. */
void resource_read_again(struct resource *r);

/* Tells whether the destination is about to be read, or being read. The decision about it follows
 * afterwards. */
bool endpoint_is_unread(const struct endpoint *e);

/* Tells whether this is so for one of them. */
bool endpoints_unread(const struct resource *r);

/* Tells whether each has been read once. */
bool endpoints_known(const struct resource *r);

/* Opens the listener of an endpoint whose home Service exists, so that its sessions do not wait for
 * the decision. Closes it while two Services carry its port. OK also when it must not be opened
 * yet. ERR: *err says why it cannot be opened. */
int endpoint_hold(struct endpoint *e, struct error *err) warn_unused;

/* Opens the listener of an endpoint that has none, at its own port first; when another process on
 * this machine has that, and we lead, at another one. ERR: *err says why there is no listener. */
int endpoint_open(struct endpoint *e, struct error *err) warn_unused;

/* Closes the listener and gives up the port. */
void endpoint_close(struct endpoint *e);

/* Has the sessions of the endpoint ask for the destination that the CR names by now, if the CR or
 * the configuration has changed. For a process that does not read destinations itself. */
void endpoint_refer(struct endpoint *e);

/* Forgets destination and failures, which only a leader knows. Listener and port stay. */
void endpoint_forget(struct endpoint *e);

/* Notes whether the endpoint lacks its listener, because this process cannot have the port. */
void endpoint_set_unheld(struct endpoint *e, bool unheld);

/* Tells whether two Services carry the endpoint's port, which would bring clients of one to the
 * mailbox of the other. The younger one is about to get another port. */
bool endpoint_port_is_shared(const struct endpoint *e);

#endif
