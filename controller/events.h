/* Sends Events about CRs. They are best effort: nothing depends on them, and none is sent again. */
#ifndef TPROXY_CONTROLLER_EVENTS_H
#define TPROXY_CONTROLLER_EVENTS_H

#include <stdbool.h>

#include "controller/state.h"

struct condition;

/* Begins the operation OPERATION_EVENT, unless there have been too many Events. A repeat of one of
 * the last Events about the CR, with the same reason and note, continues that one as a series. */
void resource_post_event(struct resource *r, bool warning, const char *reason, const char *note);

/* Does the same for a condition, and remembers its reason in last_event_reason. */
void resource_send_event(struct resource *r, const struct condition *condition);

#endif
