/* Reads the ConfigMaps in which the Connectivity Proxy describes itself. One of them holds its
 * configuration as YAML (help.sap.com, "Configuration Guide" of the Connectivity Proxy). Pure.
 *
 * The reader understands the part of YAML 1.2 that a few keys in block style need: indentation,
 * `key: value`, comments, quotes. It skips lists and texts over several lines. */
#ifndef TPROXY_CONFIGURATION_CONNECTIVITY_CONFIG_H
#define TPROXY_CONFIGURATION_CONNECTIVITY_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"
#include "lib/text.h"

enum { CONNECTIVITY_HOST_MAX = 253 };

/* The behaviour of the Connectivity Proxy. */
struct connectivity_config {
    bool shared;        /* tenantMode: it serves many tenants; false: one */
    bool authorization; /* a SOCKS5 client must send an access token */
    uint16_t port;      /* SOCKS5; 0: not configured */
};

/* Reads the configuration. Returns ERR and *err (FAIL_CONFIG) when it cannot be read; the text
 * names the line or the key and what is wrong with it. */
int connectivity_config_read(struct str yaml, struct connectivity_config *config,
                             struct error *err) warn_unused;

/* Reads the configuration from a ConfigMap, which holds it under the key
 * connectivity-proxy-config.yml. Returns ERR and *err as connectivity_config_read does. */
int connectivity_config_of_map(struct json_value map, struct connectivity_config *config,
                               struct error *err) warn_unused;

/* The address of the Connectivity Proxy. */
struct connectivity_address {
    char host[CONNECTIVITY_HOST_MAX + 1];
    uint16_t port;
};

/* Reads the address from Kyma's ConfigMap connectivity-proxy-info. Returns ERR and *err
 * (FAIL_CONFIG) when an entry is missing or malformed. */
int connectivity_address_of_map(struct json_value map, struct connectivity_address *address,
                                struct error *err) warn_unused;

#endif
