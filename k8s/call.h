/* Requests about one object, as struct cluster offers them. */
#ifndef TPROXY_K8S_CALL_H
#define TPROXY_K8S_CALL_H

#include "cluster/cluster.h"

/* See cluster_call and cluster_cancel. */
struct cluster_call *k8s_call_start(struct cluster *cluster, const struct cluster_request *request,
                                    struct cluster_handler handler);
void k8s_call_cancel(struct cluster *cluster, struct cluster_call *call);

#endif
