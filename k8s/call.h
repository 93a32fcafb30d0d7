/* Requests about one object, as struct cluster offers them. */
#ifndef TPROXY_K8S_CALL_H
#define TPROXY_K8S_CALL_H

#include "cluster/cluster.h"

struct k8s;

/* See cluster_call and cluster_cancel. */
struct cluster_call *k8s_call_start(struct cluster *cluster, const struct cluster_request *request,
                                    struct cluster_handler handler);
void k8s_call_cancel(struct cluster *cluster, struct cluster_call *call);

/* Drops the cancelled calls whose answers have not come. There must be no other calls. */
void k8s_call_drop_cancelled(struct k8s *k8s);

#endif
