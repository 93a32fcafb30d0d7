/* Decides which of several endpoints gets the name, or the place, that they want. */
#ifndef TPROXY_CONTROLLER_PRECEDENCE_H
#define TPROXY_CONTROLLER_PRECEDENCE_H

#include <stdbool.h>

#include "controller/state.h"

/* Note that the endpoint wants Services of this name from now on, or does not want them any more.
 * Both may wake others. */
void endpoint_want_name(struct endpoint *e, const char *name);
void endpoint_leave_name(struct endpoint *e);

/* Returns the endpoint of the resource that wants Services of this name; NULL: none does. */
struct endpoint *resource_endpoint(const struct resource *r, const char *service);

/* Notes the stance of a resource, for all its endpoints. Wakes others whose rank changes. The age
 * of its CR changes only while the stance is STANCE_NONE. */
void resource_set_stance(struct resource *r, enum stance stance);

/* Finds out again what the endpoint can do with the name. It is to be called when the destination
 * has been read or is to be read again, and when the listener or the home Service comes or goes.
 * Wakes others whose rank changes. */
void endpoint_update_use(struct endpoint *e);

/* Notes that the home Service of this name is not ours. The listener does not hold the name any
 * more, until the endpoint has a home Service again. Wakes others whose rank changes. */
void endpoint_lose_name(struct endpoint *e);

enum rank {
    RANK_FIRST,   /* it has the name, or gets it as soon as it can use it */
    RANK_UNKNOWN, /* it is not known yet whether the one that comes first wants the name */
    RANK_SECOND,  /* another one has the name or gets it */
};

/* Returns the rank of an endpoint whose stance is not STANCE_NONE. *other is the resource that
 * comes first. */
enum rank endpoint_rank(const struct endpoint *e, const struct resource **other);

enum place_state {
    PLACE_TAKEN,
    PLACE_UNKNOWN, /* one of the older ones may turn out not to want its place */
    PLACE_NONE,    /* older ones have all places of the namespace */
};

/* Tells whether the endpoint has a place among the targets of its namespace. */
enum place_state endpoint_place(const struct endpoint *e);

/* Wakes the endpoint that comes first among those that want this name, because a Service of the
 * name has gone. It tries at once. */
void controller_wake_first(struct controller *controller, const char *name);

#endif
