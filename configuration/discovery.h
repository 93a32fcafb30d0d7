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

/* `changed` is called when other instances may have been found, or when the result of
 * discovery_is_told may have changed; always from the loop, never from inside a discovery_*
 * function. */
struct discovery_handler {
    void (*changed)(void *arg);
    void *arg;
};

/* Starts to follow both kinds. A cluster that does not know them has no such instances. */
struct discovery *discovery_new(struct cluster *cluster, const char *namespace,
                                struct discovery_handler handler);

/* Stops following the kinds and frees the object. NULL is allowed. */
void discovery_free(struct discovery *discovery);

/* Returns the instances, at most CONFIG_INSTANCES_MAX, each under the name of its ServiceInstance;
 * valid until the next turn. If an instance has several bindings, the first by name counts. */
const struct config_instance *discovery_instances(struct discovery *discovery, size_t *n);

/* Tells whether both kinds have been listed once, and discovery_instances has been called since the
 * last change. */
bool discovery_is_told(const struct discovery *discovery);

#endif
