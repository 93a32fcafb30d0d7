/* The part of a process that does not lead: it listens on the ports that the leader has given to
 * Services, and writes nothing. */
#ifndef TPROXY_CONTROLLER_FOLLOW_H
#define TPROXY_CONTROLLER_FOLLOW_H

#include "controller/state.h"

/* Brings the listeners of a CR to what its home Services say, or forgets the CR when nothing is
 * left of it. */
void resource_follow(struct resource *r);

#endif
