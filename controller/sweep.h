/* A walk through all resources, a few in each turn: 10,000 at once would take 5 ms to wake, and 30
 * ms to bring to another configuration. */
#ifndef TPROXY_CONTROLLER_SWEEP_H
#define TPROXY_CONTROLLER_SWEEP_H

#include "controller/state.h"

/* Flags that say what the sweep does with each resource. */
enum {
    SWEEP_WAKE = 1,
    SWEEP_RESOURCES = 2,  /* the last list did not name it: treat it as deleted */
    SWEEP_SERVICES = 4,   /* the same for its Services */
    SWEEP_TERM = 8,       /* forget what was known of it in an earlier term */
    SWEEP_CONFIGURE = 16, /* bring its targets and rules to the configuration */
    SWEEP_READ = 32,      /* read its destinations again */
};

/* The flags that change what is known of a resource. Nothing is decided before all resources have
 * been visited. */
enum { SWEEP_DECISIVE = ~SWEEP_WAKE };

/* Prepares the sweep of a controller. `visit` does with a resource what the flags say; `over` is
 * called when all resources have been visited. */
void sweep_init(struct controller *controller, void (*visit)(struct resource *r, unsigned flags),
                void (*over)(struct controller *controller, unsigned flags));

/* Begins a sweep, or begins the current one again with more flags. */
void sweep_begin(struct controller *controller, unsigned flags);

/* Visits no resource any more. */
void sweep_stop(struct controller *controller);

/* Wakes all resources, one after another over the next turns. */
void controller_wake_all(struct controller *controller);

#endif
