/* Takes in a CR that was seen, or that has gone. */
#ifndef TPROXY_CONTROLLER_INTAKE_H
#define TPROXY_CONTROLLER_INTAKE_H

#include "controller/state.h"
#include "lib/json.h"

/* Takes in a CR that exists, and wakes its resource. Returns NULL when the object is no CR. */
struct resource *controller_take_resource(struct controller *controller, struct json_value object);

/* Notes that the CR of a resource does not exist any more, and wakes the resource. */
void resource_gone(struct resource *r);

#endif
