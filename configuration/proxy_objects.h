/* The TransparentProxy objects of the home namespace: follows them, finds the one that counts, and
 * writes their status. */
#ifndef TPROXY_CONFIGURATION_PROXY_OBJECTS_H
#define TPROXY_CONFIGURATION_PROXY_OBJECTS_H

#include <stdbool.h>

#include "cluster/store.h"
#include "core/repairs.h"

struct cluster;
struct loop;
struct proxy_objects;
struct proxy_status;

/* A TransparentProxy object. */
struct proxy_object {
    struct stored stored;
    char *created, *uid;    /* creationTimestamp and uid; "": it has none, as in local mode */
    char *text;             /* the object, JSON */
    bool deleting;          /* it is deleted as soon as its finalizers are removed */
    struct repairs repairs; /* of its status */
};

/* The functions are called from the loop; none is NULL. They must not call functions of this file
 * that end something. */
struct proxy_objects_handler {
    /* An object was seen or has gone, a list has ended, or it is time to call proxy_objects_write
     * again. Never called from inside a function of this file. */
    void (*changed)(void *arg);

    /* The result of proxy_objects_listed or proxy_objects_known may have changed. Never called from
     * inside a function of this file. */
    void (*listed)(void *arg);

    /* People should know this: for an Event. Called from inside proxy_objects_write. */
    void (*tell)(const char *reason, const char *note, void *arg);

    void *arg;
};

/* Starts to follow the objects in the namespace `home`. All arguments stay the caller's, and valid
 * until proxy_objects_free. */
struct proxy_objects *proxy_objects_new(struct loop *loop, struct cluster *cluster,
                                        const char *home, struct proxy_objects_handler handler);

/* Gives up the call under way, and forgets what was written: another process writes from now on. */
void proxy_objects_give_up(struct proxy_objects *objects);

/* Ends the watch, and the call under way. The objects stay. */
void proxy_objects_stop(struct proxy_objects *objects);

/* Frees the objects, after proxy_objects_stop. */
void proxy_objects_free(struct proxy_objects *objects);

/* Tells whether a list has ended, complete or not. */
bool proxy_objects_listed(const struct proxy_objects *objects);

/* Tells whether a complete list has ended: an object that it did not name does not exist. */
bool proxy_objects_known(const struct proxy_objects *objects);

/* Tells whether the last list failed, or the cluster does not know the kind. */
bool proxy_objects_away(const struct proxy_objects *objects);

/* Returns the oldest object, which is the configuration, valid until the next turn; NULL: there is
 * no object. */
const struct proxy_object *proxy_objects_oldest(const struct proxy_objects *objects);

/* Returns the uid of the object with this name, valid until the next turn; "": there is no such
 * object, or it has none. */
const char *proxy_objects_uid(const struct proxy_objects *objects, const char *name);

/* Writes each status that is not what it should be: `status` is that of the oldest object, which
 * stays as it is while its status is not known, and the others have no effect. There is one call at
 * a time, and none is made while one is under way; `changed` follows as long as there is more to
 * write. A call that fails is made again after a delay that grows from one failure to the next. */
void proxy_objects_write(struct proxy_objects *objects, const struct proxy_status *status);

#endif
