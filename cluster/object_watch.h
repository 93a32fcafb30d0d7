/* Follows one object by its name. */
#ifndef TPROXY_CLUSTER_OBJECT_WATCH_H
#define TPROXY_CLUSTER_OBJECT_WATCH_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/json.h"

struct cluster;
struct cluster_kind;
struct object_watch;

enum object_absence {
    OBJECT_GONE,      /* no object has that name */
    OBJECT_FORBIDDEN, /* it may exist, but we may not read it */
};

/* The functions are called from the loop, never from inside a call of object_watch_*. They may free
 * the watch. */
struct object_watch_handler {
    /* The object exists, perhaps unchanged; valid during the call. */
    void (*there)(struct json_value object, void *arg);

    /* The object does not exist, or may not be read; `problem` is a sentence that says so and names
     * it, valid during the call. */
    void (*absent)(enum object_absence absence, const char *problem, void *arg);

    void *arg;
};

/* Starts to follow the object; the names are copied. */
struct object_watch *object_watch_new(struct cluster *cluster, const struct cluster_kind *kind,
                                      const char *namespace, const char *name,
                                      struct object_watch_handler handler);

/* Stops following the object and frees the watch. NULL is allowed. */
void object_watch_free(struct object_watch *watch);

/* Tells whether the handler has been told of the object, or of its absence. */
bool object_watch_listed(const struct object_watch *watch);

#endif
