/* Writes the status of a CR, sends Events about it, and tells the controller's handler. */
#ifndef TPROXY_CONTROLLER_STATUS_H
#define TPROXY_CONTROLLER_STATUS_H

#include "controller/state.h"

struct cluster_answer;
struct condition;

/* Makes the CR show the condition, and which tenants are served ("a,b"; NULL: none). Begins the
 * operation OPERATION_STATUS, whose answer `done` takes in, unless the CR shows it already or must
 * wait. */
void status_show(struct resource *r, const struct condition *condition, const char *served,
                 void (*done)(struct resource *r, const struct cluster_answer *answer));

/* Removes our condition from the CR, likewise. */
void status_remove(struct resource *r,
                   void (*done)(struct resource *r, const struct cluster_answer *answer));

/* Forgets what is kept of a condition while it is written. */
void status_forget(struct resource *r);

/* Tells the handler, and by an Event, of the condition that has been written. */
void status_tell(struct resource *r);

/* Tells the handler that the targets of the CR are gone. */
void status_tell_gone(const struct resource *r);

#endif
