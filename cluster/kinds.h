/* The kinds of objects that are followed or written: where the Kubernetes API has each of them. The
 * address of a constant identifies the kind (struct cluster_bounds, the metrics of k8s.c), so there
 * is one constant for each kind. */
#ifndef TPROXY_CLUSTER_KINDS_H
#define TPROXY_CLUSTER_KINDS_H

#include "cluster/cluster.h"

/* Kinds of Kubernetes itself. */
extern const struct cluster_kind kind_config_map, kind_crd, kind_event, kind_lease, kind_namespace,
    kind_policy, kind_secret, kind_service;

/* Kinds of SAP: Destination CRs, TransparentProxy objects, and the objects of the BTP service
 * operator. */
extern const struct cluster_kind kind_destination, kind_proxy, kind_service_instance,
    kind_service_binding;

/* The bounds of the kinds that users of any namespace write, for struct cluster: what is kept of
 * their objects is bounded. */
extern const struct cluster_bounds kind_bounds[];

#endif
