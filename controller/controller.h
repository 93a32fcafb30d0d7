/* The controller: Destination CRs and the TransparentProxy object of an installation become targets
 * that listen, Services, NetworkPolicies, conditions and Events. Everything that it
 * follows and writes goes through struct cluster, so it is the same in a cluster and in local
 * mode. */
#ifndef TPROXY_CONTROLLER_CONTROLLER_H
#define TPROXY_CONTROLLER_CONTROLLER_H

#include <stdbool.h>

#include "controller/settings.h"

struct controller;
struct loop;

/* Creates a controller and begins to follow the cluster. In a cluster it does not lead until
 * controller_lead says so; in local mode it leads from the start. */
struct controller *controller_new(struct loop *loop, const struct controller_parts *parts,
                                  const struct controller_settings *settings,
                                  struct controller_handler handler);

/* Says whether this controller is the one that writes to the cluster. When it begins to lead, it
 * first lists afresh what another one may have written last. When it does not lead any more, it
 * gives up all writes at once and follows: its listeners stay as the Services say. Does nothing in
 * local mode, and after controller_stop. */
void controller_lead(struct controller *controller, bool leads);

/* Stops following and writing. Targets stay open (pop3_abort closes them). */
void controller_stop(struct controller *controller);

/* Frees it, after controller_stop. NULL is allowed. */
void controller_free(struct controller *controller);

/* Has all CRs that refer to a destination of that name read it again: it may have changed in a way
 * that its source could not tell, as local mode's files do. */
void controller_look_again(struct controller *controller, const char *destination);

#endif
