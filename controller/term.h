/* The time in which this process leads, that is, in which it is the one that writes to the
 * cluster. */
#ifndef TPROXY_CONTROLLER_TERM_H
#define TPROXY_CONTROLLER_TERM_H

#include "controller/state.h"

/* Begins the term of a controller that has been elected, after everything that a former leader may
 * have written has been listed: from now on the controller writes. The walk through all resources
 * that begins calls term_forget for each. */
void term_begin(struct controller *controller);

/* Forgets what this controller knows of a resource from an earlier term, as if it had just started:
 * destinations, failures, what it has written. Listeners and ports stay. */
void term_forget(struct resource *r);

/* Ends the term, whether it has begun or is about to: gives up all operations and readings under
 * way. Their answers are not taken in any more; what they have changed the watches tell. Listeners
 * stay open. */
void term_end(struct controller *controller);

#endif
