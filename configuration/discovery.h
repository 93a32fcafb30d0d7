/* Destination service instances that SAP's BTP service operator keeps in a namespace:
 * ServiceInstance objects (services.cloud.sap.com/v1) of the offering "destination" that have a
 * ServiceBinding, whose Secret holds the service key. */
#ifndef TPROXY_CONFIGURATION_DISCOVERY_H
#define TPROXY_CONFIGURATION_DISCOVERY_H

#include <stdbool.h>
#include <stddef.h>

#include "configuration/config.h"
#include "lib/base.h"

struct cluster;
struct discovery;

/* Other instances may have been found, or discovery_is_told says something else. Called from the
 * loop, never from inside a call of discovery_*. */
struct discovery_handler {
    void (*changed)(void *arg);
    void *arg;
};

/* Follows both kinds. A cluster that does not know them has no such instances. */
struct discovery *discovery_new(struct cluster *cluster, const char *namespace,
                                struct discovery_handler handler);

/* NULL is allowed. */
void discovery_free(struct discovery *discovery);

/* The instances, at most CONFIG_INSTANCES_MAX, each under the name of its ServiceInstance; valid
 * until the next turn. Of several bindings of one the first by name counts. */
const struct config_instance *discovery_instances(struct discovery *discovery, size_t *n);

/* Have both kinds been listed once, and has discovery_instances been called since what they tell
 * has changed? */
bool discovery_is_told(const struct discovery *discovery);

#endif
