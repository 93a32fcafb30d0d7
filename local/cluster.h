/* Local mode as a cluster. It holds the objects in the directory, and a Destination CR for every
 * plain destination in it. They are followed as in a real cluster, and their status is written. */
#ifndef TPROXY_LOCAL_CLUSTER_H
#define TPROXY_LOCAL_CLUSTER_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/json.h"

struct cluster;
struct local_cluster;
struct local_object;
struct loop;

/* `status` is called from the loop when a status was written that differs from the one before. It
 * is for the terminal. */
struct local_cluster_handler {
    void (*status)(const char *kind, const char *name, struct json_value status, void *arg);
    void *arg;
};

/* Creates a cluster without objects. The loop stays the caller's. */
struct local_cluster *local_cluster_new(struct loop *loop, struct local_cluster_handler handler);

/* Frees it. All watches and calls must have ended. NULL is allowed. */
void local_cluster_free(struct local_cluster *lc);

/* Returns it as a cluster; valid until local_cluster_free. */
struct cluster *local_cluster_face(struct local_cluster *lc);

/* Add, replace and remove the contents of the directory. A CR in a file takes the place of the CR
 * of a plain destination with its name. */
void local_cluster_put(struct local_cluster *lc, const struct local_object *object);
void local_cluster_drop(struct local_cluster *lc, const struct local_object *object);
void local_cluster_put_destination(struct local_cluster *lc, const char *name);
void local_cluster_drop_destination(struct local_cluster *lc, const char *name);

/* Tells whether the CR of the plain destination gives way to one of its name from a file. */
bool local_cluster_hides_destination(struct local_cluster *lc, const char *name);

/* Tells whether a watch selects the object: a Secret, for example, that nobody names is not
 * followed. */
bool local_cluster_is_followed(const struct local_cluster *lc, const struct local_object *object);

/* Says that the directory has been read. Lists are answered only from now on. */
void local_cluster_settled(struct local_cluster *lc);

#endif
