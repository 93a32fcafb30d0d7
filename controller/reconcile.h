/* One CR, brought to what it should be. */
#ifndef TPROXY_CONTROLLER_RECONCILE_H
#define TPROXY_CONTROLLER_RECONCILE_H

#include "controller/state.h"

/* Does what is to be done next for a resource. Once it returns, either r->operation is under way,
 * or the resource is as it should be until something happens, or it has been freed. */
void reconcile(struct resource *r);

#endif
