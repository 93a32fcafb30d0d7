/* The controller: Destination CRs and the TransparentProxy object of an installation become targets
 * that listen, Services, NetworkPolicies, conditions and Events. What it follows and writes goes
 * through struct cluster, so it is the same in a cluster and in local mode. */
#ifndef TPROXY_CONTROLLER_CONTROLLER_H
#define TPROXY_CONTROLLER_CONTROLLER_H

#include "controller/settings.h"

struct control;
struct loop;

/* Creates a controller and begins to follow the cluster. */
struct control *control_new(struct loop *loop, const struct control_parts *parts,
                            const struct control_settings *settings,
                            struct control_handler handler);

/* Stops following and writing. Targets stay open (pop3_abort closes them). */
void control_stop(struct control *control);

/* Frees it, after control_stop. NULL is allowed. */
void control_free(struct control *control);

/* Has all CRs that refer to a destination of that name read it again: it may have changed in a way
 * that its source could not tell, as local mode's files do. */
void control_look_again(struct control *control, const char *destination);

#endif
