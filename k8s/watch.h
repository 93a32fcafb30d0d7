/* Lists and watches of kinds, as struct cluster offers them. */
#ifndef TPROXY_K8S_WATCH_H
#define TPROXY_K8S_WATCH_H

#include "cluster/cluster.h"

struct k8s;

/* See cluster_watch and cluster_unwatch. */
struct cluster_watch *k8s_watch_start(struct cluster *cluster,
                                      const struct cluster_selection *selection,
                                      struct cluster_watch_handler handler);
void k8s_watch_stop(struct cluster *cluster, struct cluster_watch *watch);

/* Lets the watches that wait because the API server could not be reached ask soon. To be called
 * when it can be reached again. */
void k8s_watch_hurry(struct k8s *k8s);

#endif
