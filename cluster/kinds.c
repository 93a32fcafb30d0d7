/* Group, version and plural of each kind; bounds. */
#include "cluster/kinds.h"

#include "core/custom_resource.h"

#define OPERATOR_GROUP "services.cloud.sap.com"

const struct cluster_kind kind_config_map = {"", "v1", "configmaps", "ConfigMap"};
const struct cluster_kind kind_crd = {"apiextensions.k8s.io", "v1", "customresourcedefinitions",
                                      "CustomResourceDefinition"};
const struct cluster_kind kind_event = {"events.k8s.io", "v1", "events", "Event"};
const struct cluster_kind kind_lease = {"coordination.k8s.io", "v1", "leases", "Lease"};
const struct cluster_kind kind_namespace = {"", "v1", "namespaces", "Namespace"};
const struct cluster_kind kind_policy = {"networking.k8s.io", "v1", "networkpolicies",
                                         "NetworkPolicy"};
const struct cluster_kind kind_secret = {"", "v1", "secrets", "Secret"};
const struct cluster_kind kind_service = {"", "v1", "services", "Service"};

const struct cluster_kind kind_destination = {CR_GROUP, "v1", "destinations", "Destination"};
const struct cluster_kind kind_proxy = {"operator.kyma-project.io", "v1alpha1",
                                        "transparentproxies", "TransparentProxy"};
const struct cluster_kind kind_service_instance = {OPERATOR_GROUP, "v1", "serviceinstances",
                                                   "ServiceInstance"};
const struct cluster_kind kind_service_binding = {OPERATOR_GROUP, "v1", "servicebindings",
                                                  "ServiceBinding"};

static const char *const nothing_unread[] = {NULL};
static const char *const unread_of_destination[] = {"spec.actions", "metadata.labels",
                                                    "metadata.ownerReferences", NULL};
const struct cluster_bounds kind_bounds[] = {
    {&kind_destination, unread_of_destination, CR_MEMBER_MAX},
    {&kind_service, nothing_unread, CR_MEMBER_MAX},
    {NULL, NULL, 0},
};
