/* Which of several tenants has the name, or the place, that they want. */
#ifndef TPROXY_CONTROLLER_PRECEDENCE_H
#define TPROXY_CONTROLLER_PRECEDENCE_H

#include <stdbool.h>

#include "controller/state.h"

/* The tenant wants Services of this name from now on; or not any more. Both may wake others. */
void tenant_claim(struct tenant *t, const char *name);
void tenant_unclaim(struct tenant *t);

/* Returns the tenant of the resource that wants Services of this name. NULL when none does. */
struct tenant *resource_tenant(const struct resource *r, const char *service);

/* Notes the stance of a resource, for all its tenants. Wakes others whose rank changes. The age of
 * its CR changes only while the stance is STANCE_NONE. */
void resource_set_stance(struct resource *r, enum stance stance);

/* Looks again at what the tenant can do with the name. To be called when its destination has been
 * read, and when its listener or its home Service comes or goes. Wakes others whose rank changes.
 */
void tenant_look_at_use(struct tenant *t);

enum rank {
    RANK_FIRST,   /* the name is its own, if it can use it */
    RANK_UNKNOWN, /* it is not known yet whether the one that comes first wants the name */
    RANK_SECOND,  /* another one has the name or gets it */
};

/* Returns the rank of a tenant whose stance is not STANCE_NONE. *other: the resource that comes
 * first. */
enum rank tenant_rank(const struct tenant *t, const struct resource **other);

enum place_state {
    PLACE_TAKEN,
    PLACE_UNKNOWN, /* one of the older ones may turn out not to want its place */
    PLACE_NONE,    /* older ones have all places of the namespace */
};

/* Has the tenant a place among the targets of its namespace? */
enum place_state tenant_place(const struct tenant *t);

/* A Service of this name has gone: the tenant that comes first among those that want the name tries
 * at once. */
void control_wake_first(struct control *control, const char *name);

#endif
