/* What the Connectivity Proxy says of itself: ConfigMaps in its namespace, one of which holds its
 * configuration as YAML (help.sap.com, "Configuration Guide" of the Connectivity Proxy). Pure.
 *
 * Of YAML 1.2 only what a few keys in block style need is understood: indentation, `key: value`,
 * comments, quotes; lists and texts over several lines are passed over. */
#ifndef TPROXY_CONFIGURATION_CONNECTIVITY_CONFIG_H
#define TPROXY_CONFIGURATION_CONNECTIVITY_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/text.h"

enum { CONNECTIVITY_HOST_MAX = 253 };

/* How it behaves. */
struct connectivity_config {
    bool shared;        /* tenantMode: it serves many tenants, else one */
    bool authorization; /* of who speaks SOCKS5 to it: by access token */
    uint16_t port;      /* SOCKS5; 0: it does not say */
};

/* Of its configuration. ERR and *err (FAIL_CONFIG): a clause that names the line or the key and
 * what is wrong with it. */
int connectivity_config_read(struct str yaml, struct connectivity_config *config,
                             struct error *err) warn_unused;

/* Of the ConfigMap that holds it under the key connectivity-proxy-config.yml. */
int connectivity_config_of_map(struct json_value map, struct connectivity_config *config,
                               struct error *err) warn_unused;

/* Where it is. */
struct connectivity_address {
    char host[CONNECTIVITY_HOST_MAX + 1];
    uint16_t port;
};

/* Of Kyma's ConfigMap connectivity-proxy-info. */
int connectivity_address_of_map(struct json_value map, struct connectivity_address *address,
                                struct error *err) warn_unused;

#endif
