/* The configuration: what the TransparentProxy object of an installation says (its spec, with SAP's
 * keys and defaults), checked and turned into values. Pure. Keys that are null count as absent;
 * keys that are not known are passed over. */
#ifndef TPROXY_CONFIGURATION_CONFIG_H
#define TPROXY_CONFIGURATION_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/json.h"

/* The name and namespace of an instance that SAP's BTP service operator creates; the default
 * instance when none is configured. */
#define CONFIG_DEFAULT_INSTANCE "sap-transp-proxy-default"
#define CONFIG_DEFAULT_SECRET "destination-service-key"

/* Where SAP's product keeps the private key of a service key that has none itself. */
#define CONFIG_PRIVATE_KEY_SECRET "x509-svc-key-private-key"
#define CONFIG_PRIVATE_KEY_ENTRY "pk.pem"

enum { CONFIG_INSTANCES_MAX = 256, CONFIG_COMPLAINTS_MAX = 32, CONFIG_COMPLAINT_SIZE = 400 };

/* Longest name of an instance, a Secret, its namespace or its entry, octets. */
enum { CONFIG_NAME_MAX = 253 };

enum tenant_mode { TENANTS_DEDICATED, TENANTS_SHARED };

/* An entry of a Secret. */
struct config_secret {
    char *namespace, *name;
    char *key; /* "": one entry a field */
};

/* A service key, and the key of its certificate where that is kept apart. */
struct config_credentials {
    struct config_secret service_key, private_key; /* private_key: always filled, with SAP's
                                                      defaults; counts for an X.509 service key that
                                                      has none itself */
};

struct config_instance {
    char *name;
    struct config_credentials credentials;
};

/* The Connectivity Proxy. */
struct config_connectivity {
    char *service, *namespace; /* of its Service; service NULL: not said, namespace NULL: home */
    uint16_t port;             /* SOCKS5 */
    bool port_given;           /* else the proxy's own configuration may say another one */
    int64_t timeout;           /* to connect to it, microseconds */
    struct config_credentials *credentials; /* NULL: not said */
};

/* Immutable once made. */
struct config {
    enum tenant_mode tenant_mode;
    char *default_instance; /* NULL: not said; it need not be one of the instances */
    struct config_instance *instances;
    size_t n_instances;
    int64_t connect_timeout, read_timeout; /* of the Destination service, microseconds */
    int64_t interval;                      /* between two readings of a destination, microseconds */
    bool labelled_namespaces;              /* only namespaces that carry our label are managed */
    bool cluster_wide;                     /* CRs that name no scope are open to all namespaces */
    const char *log_level;                 /* one of lib/log's names; NULL: not said */
    bool metrics;                          /* /metrics is served */
    struct config_connectivity connectivity;
    struct config_secret *additional_cas; /* PEM certificates; NULL: none */
};

/* What a person has to be told about the object: complaints are misconfigurations (the state is
 * Warning, and the whole object is not taken over); ignored keys are honoured by SAP's product and
 * have no effect here, and say something else than what is so anyway. Each is a sentence that names
 * key and value. Lines beyond the maximum are counted in the last one. */
struct config_remarks {
    char complaints[CONFIG_COMPLAINTS_MAX][CONFIG_COMPLAINT_SIZE];
    size_t n_complaints;
    char ignored[CONFIG_COMPLAINTS_MAX][CONFIG_COMPLAINT_SIZE];
    size_t n_ignored;
    bool ignored_is_warning; /* compliance.fipsModeEnabled: true */
};

/* Of a TransparentProxy object in the namespace `home` (where Secrets are that name none). NULL and
 * complaints when something in it is wrong. JSON_NONE gives the defaults. Always fills *remarks. */
struct config *config_new(struct json_value object, const char *home,
                          struct config_remarks *remarks);

/* NULL is allowed. */
void config_free(struct config *config);

/* Removes the instances, the Connectivity Proxy and the certificates, as if the object did not name
 * them. Tenant mode, managed namespaces and scope stay, so that nobody is let in and no Service is
 * deleted. */
void config_drop_credentials(struct config *config);

/* What says where Secrets are, by value: copies are to be cleared. */
struct config_secret config_secret_copy(const struct config_secret *secret);
void config_secret_clear(struct config_secret *secret);
bool config_secret_equal(const struct config_secret *a, const struct config_secret *b);
struct config_credentials config_credentials_copy(const struct config_credentials *credentials);
void config_credentials_clear(struct config_credentials *credentials);
bool config_credentials_equal(const struct config_credentials *a,
                              const struct config_credentials *b);
void config_instance_clear(struct config_instance *instance);

/* Can it be the name of an object in the cluster, by its length and its characters (RFC 1123)? */
bool config_is_object_name(const char *name);

/* ---- the status of the object ---- */

enum config_state {
    CONFIG_READY,
    CONFIG_PROCESSING,
    CONFIG_WARNING,
    CONFIG_ERROR,
    CONFIG_DELETING
};

/* A condition to show; reason and message must fit SAP's schema (reason without hyphens) and be
 * UTF-8. */
struct config_condition {
    const char *type, *reason, *message;
    bool status;
};

/* Appends the merge patch {"status": {...}} with these conditions to `out`; `now` is RFC 3339. The
 * lastTransitionTime of a condition in `observed` (the object; JSON_NONE: none) stays while its
 * status does. Conditions of other types than ours, which other controllers have written, stay
 * behind ours; as the patch replaces the list, it is only for the version that was observed. OK;
 * AGAIN and nothing appended when `observed` says all of this already; ERR when it does not fit. */
int config_status(struct buf *out, struct json_value observed, enum config_state state,
                  const struct config_condition *conditions, size_t n, const char *now) warn_unused;

#endif
