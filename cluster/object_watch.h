/* Follows one Secret in the cluster. */
#ifndef TPROXY_CLUSTER_OBJECT_WATCH_H
#define TPROXY_CLUSTER_OBJECT_WATCH_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/json.h"

struct cluster;
struct secret_watch;

enum secret_absence {
    SECRET_GONE,      /* no Secret has that name */
    SECRET_FORBIDDEN, /* it may exist, but we may not read it */
};

/* The functions are called from the loop, never from inside a call of secret_watch_*. They may free
 * the watch. */
struct secret_watch_handler {
    /* The Secret exists, perhaps unchanged; valid during the call. */
    void (*there)(struct json_value secret, void *arg);

    /* The Secret does not exist, or may not be read; `problem` is a sentence that says so and names
     * it, valid during the call. */
    void (*absent)(enum secret_absence absence, const char *problem, void *arg);

    void *arg;
};

/* Starts to follow the Secret; the names are copied. */
struct secret_watch *secret_watch_new(struct cluster *cluster, const char *namespace,
                                      const char *name, struct secret_watch_handler handler);

/* Stops following the Secret and frees the watch. NULL is allowed. */
void secret_watch_free(struct secret_watch *watch);

/* Tells whether the handler has been told of the Secret, or of its absence. */
bool secret_watch_listed(const struct secret_watch *watch);

#endif
