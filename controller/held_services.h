/* Takes in a Service of ours that was seen, or that has gone. */
#ifndef TPROXY_CONTROLLER_HELD_SERVICES_H
#define TPROXY_CONTROLLER_HELD_SERVICES_H

#include "controller/state.h"
#include "lib/json.h"

/* Takes in a Service that exists. Returns NULL when it is not ours, or the object is no Service. A
 * Service whose uid is that of one of ours is still ours, also without the proof that
 * service_parse() asks for. */
struct held_service *controller_take_service(struct controller *controller,
                                             struct json_value object);

/* Puts a Service on the resource's list, in the place of what was known under that name, of another
 * resource too. Takes the contents of `service`. */
struct held_service *resource_hold_service(struct resource *r, struct service service);

/* Forgets a Service that does not exist any more. Wakes the resource that may have its name. */
void resource_drop_service(struct resource *r, struct held_service *held);

#endif
