/* Local mode as a cluster: the objects in the directory, and a Destination CR for every plain
 * destination in it, followed and (as for their status) written as in a real one. */
#ifndef TPROXY_LOCAL_CLUSTER_H
#define TPROXY_LOCAL_CLUSTER_H

#include "lib/base.h"
#include "lib/json.h"

struct cluster;
struct local_cluster;
struct local_object;
struct loop;

/* A status was written that is another one than before: for the terminal. Called from the loop. */
struct local_cluster_handler {
    void (*status)(const char *kind, const char *name, struct json_value status, void *arg);
    void *arg;
};

struct local_cluster *local_cluster_new(struct loop *loop, struct local_cluster_handler handler);

/* All watches and calls have ended. NULL is allowed. */
void local_cluster_free(struct local_cluster *lc);

/* Valid until local_cluster_free. */
struct cluster *local_cluster_face(struct local_cluster *lc);

/* What the directory holds. A CR of a file takes the place of that of a destination which has its
 * name. */
void local_cluster_put(struct local_cluster *lc, const struct local_object *object);
void local_cluster_drop(struct local_cluster *lc, const struct local_object *object);
void local_cluster_put_destination(struct local_cluster *lc, const char *name);
void local_cluster_drop_destination(struct local_cluster *lc, const char *name);

/* The directory has been read: only now are lists answered. */
void local_cluster_settled(struct local_cluster *lc);

#endif
