/* Sends Events about CRs and about the TransparentProxy object. They are best effort: nothing
 * depends on them, and none is sent again. A repeat of one of the last Events about an object, with
 * the same reason and note, continues that one as a series. */
#ifndef TPROXY_CONTROLLER_EVENTS_H
#define TPROXY_CONTROLLER_EVENTS_H

#include <stdbool.h>

#include "controller/state.h"

struct condition;

/* Begins the operation OPERATION_EVENT, unless there have been too many Events. */
void resource_post_event(struct resource *r, bool warning, const char *reason, const char *note);

/* Does the same for a condition, and remembers its reason in last_event_reason. */
void resource_send_event(struct resource *r, const struct condition *condition);

/* Sends a warning about the TransparentProxy object, unless an Event about it is under way or this
 * process does not lead. */
void controller_send_event(struct controller *controller, const char *reason, const char *note);

#endif
