/* One CR, brought to what it should be. */
#ifndef TPROXY_CONTROLLER_RECONCILE_H
#define TPROXY_CONTROLLER_RECONCILE_H

#include "controller/state.h"

/* Does what is to be done next for a resource. Once it returns, either r->operation is under way,
 * or the resource is as it should be until something happens, or it has been freed. */
void reconcile(struct resource *r);

/* Notes the stance of the resource as it is by now. It is to be called when the configuration or
 * the namespace decides anew whether the CR is managed: an operation under way delays reconcile(),
 * and meanwhile a younger CR must not take the name. Wakes others whose rank changes. */
void resource_update_stance(struct resource *r);

#endif
