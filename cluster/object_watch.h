/* One Secret in the cluster, followed. */
#ifndef TPROXY_CLUSTER_OBJECT_WATCH_H
#define TPROXY_CLUSTER_OBJECT_WATCH_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/json.h"

struct cluster;
struct secret_watch;

enum secret_absence {
    SECRET_GONE,      /* there is none of that name */
    SECRET_FORBIDDEN, /* it may be there, but we may not read it */
};

/* Called from the loop, never from inside a call of secret_watch_*; may free the watch. */
struct secret_watch_handler {
    /* It is there, perhaps as before; valid during the call. */
    void (*there)(struct json_value secret, void *arg);

    /* It is not; `problem` says so, a sentence that names it. Valid during the call. */
    void (*absent)(enum secret_absence absence, const char *problem, void *arg);

    void *arg;
};

/* The names are copied. */
struct secret_watch *secret_watch_new(struct cluster *cluster, const char *namespace,
                                      const char *name, struct secret_watch_handler handler);

/* NULL is allowed. */
void secret_watch_free(struct secret_watch *watch);

/* Has the handler been told whether it is there? */
bool secret_watch_listed(const struct secret_watch *watch);

#endif
