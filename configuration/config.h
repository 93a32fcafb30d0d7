/* Reads the configuration of an installation: checks the spec of its TransparentProxy object, with
 * SAP's keys and defaults, and turns it into values. A key that is null counts as absent; an
 * unknown key is skipped. Pure. */
#ifndef TPROXY_CONFIGURATION_CONFIG_H
#define TPROXY_CONFIGURATION_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/json.h"

/* The name of the default instance when none is configured, and the Secret of an instance that
 * names no Secret. */
#define CONFIG_DEFAULT_INSTANCE "sap-transp-proxy-default"
#define CONFIG_DEFAULT_SECRET "destination-service-key"

/* The Secret and the entry where SAP's product keeps the private key of a service key that has none
 * itself. */
#define CONFIG_PRIVATE_KEY_SECRET "x509-svc-key-private-key"
#define CONFIG_PRIVATE_KEY_ENTRY "pk.pem"

enum { CONFIG_INSTANCES_MAX = 256, CONFIG_COMPLAINTS_MAX = 32, CONFIG_COMPLAINT_SIZE = 400 };

/* Maximum length in octets of the name of an instance, a Secret, its namespace or its entry. */
enum { CONFIG_NAME_MAX = 253 };

enum tenant_mode { TENANTS_DEDICATED, TENANTS_SHARED };

/* An entry of a Secret. */
struct config_secret {
    char *namespace, *name;
    char *key; /* "": the Secret has one entry for each field */
};

/* References to a service key and to the private key of its certificate. */
struct config_credentials {
    struct config_secret service_key, private_key; /* private_key is always filled, with SAP's
                                                      defaults; it is used for an X.509 service key
                                                      without a private key */
};

struct config_instance {
    char *name;
    struct config_credentials credentials;
};

/* The Connectivity Proxy. */
struct config_connectivity {
    char *service, *namespace; /* of its Service; service NULL: not configured; namespace NULL: the
                                  namespace of the object */
    uint16_t port;             /* SOCKS5 */
    bool port_given;           /* false: the proxy's own configuration may name another port */
    int64_t timeout;           /* to connect to it, microseconds */
    struct config_credentials *credentials; /* NULL: not configured */
};

/* A configuration does not change after config_new, except by config_drop_credentials. */
struct config {
    enum tenant_mode tenant_mode;
    char *default_instance; /* NULL: not configured; need not be one of the instances */
    struct config_instance *instances;
    size_t n_instances;
    int64_t connect_timeout, read_timeout; /* of the Destination service, microseconds */
    int64_t interval;                      /* between two readings of a destination, microseconds */
    bool labelled_namespaces;              /* only namespaces that carry our label are managed */
    bool cluster_wide;                     /* a CR without a scope is open to all namespaces */
    const char *log_level;                 /* one of lib/log's names; NULL: not configured */
    bool metrics;                          /* /metrics is served */
    struct config_connectivity connectivity;
    struct config_secret *additional_cas; /* PEM certificates; NULL: none */
};

/* Remarks about the object for its administrator. A complaint is an error: the state is Warning,
 * and the whole object does not come into force. An ignored key has an effect in SAP's product and
 * none here, although its value differs from our behaviour. Each remark is a sentence that names
 * key and value. When there are more than the maximum, the last line counts the rest. */
struct config_remarks {
    char complaints[CONFIG_COMPLAINTS_MAX][CONFIG_COMPLAINT_SIZE];
    size_t n_complaints;
    char ignored[CONFIG_COMPLAINTS_MAX][CONFIG_COMPLAINT_SIZE];
    size_t n_ignored;
    bool ignored_is_warning; /* compliance.fipsModeEnabled: true */
};

/* Makes the configuration from a TransparentProxy object; JSON_NONE gives the defaults. `home` is
 * the namespace of each Secret for which the object names none. Always fills *remarks. Returns NULL
 * when there are complaints. The caller frees the configuration. */
struct config *config_new(struct json_value object, const char *home,
                          struct config_remarks *remarks);

/* Frees the configuration. NULL is allowed. */
void config_free(struct config *config);

/* Removes the instances, the Connectivity Proxy and the certificates, as if the object did not name
 * them. Tenant mode, managed namespaces and scope stay, so that nobody gains access and no Service
 * is deleted. */
void config_drop_credentials(struct config *config);

/* Copy, clear and compare references to Secrets. The caller clears each copy once. */
struct config_secret config_secret_copy(const struct config_secret *secret);
void config_secret_clear(struct config_secret *secret);
bool config_secret_equal(const struct config_secret *a, const struct config_secret *b);
struct config_credentials config_credentials_copy(const struct config_credentials *credentials);
void config_credentials_clear(struct config_credentials *credentials);
bool config_credentials_equal(const struct config_credentials *a,
                              const struct config_credentials *b);
void config_instance_clear(struct config_instance *instance);

/* Tells whether the text can be the name of an object in the cluster, by its length and its
 * characters (RFC 1123). */
bool config_is_object_name(const char *name);

/* ---- the status of the object ---- */

enum config_state {
    CONFIG_READY,
    CONFIG_PROCESSING,
    CONFIG_WARNING,
    CONFIG_ERROR,
    CONFIG_DELETING
};

/* A condition to show. Reason and message must be UTF-8 and fit SAP's schema: a reason has no
 * hyphens. */
struct config_condition {
    const char *type, *reason, *message;
    bool status;
};

/* Appends the merge patch {"status": {...}} with these conditions to `out`. `observed` is the
 * object, or JSON_NONE; `now` is in RFC 3339. A condition keeps the lastTransitionTime in
 * `observed` while its status stays the same, and has the generation of `observed` as its
 * observedGeneration. Conditions of other types come from other controllers
 * and stay, after ours. The patch replaces the whole list, so it applies only to the observed
 * version. Returns AGAIN and appends nothing when `observed` shows all of this already; returns ERR
 * when the patch does not fit. */
int config_status(struct buf *out, struct json_value observed, enum config_state state,
                  const struct config_condition *conditions, size_t n, const char *now) warn_unused;

/* Appends the merge patch that shows the state Processing; the conditions stay as they are. Returns
 * AGAIN and appends nothing when `observed` shows that state, ERR when the patch does not fit. */
int config_status_processing(struct buf *out, struct json_value observed) warn_unused;

/* Tells whether the status of the observed object is the outcome of its present spec: one of
 * config_status, for this generation. True for an object without a generation. */
bool config_status_is_outcome(struct json_value observed);

/* Appends the merge patch that removes from the status of the observed object what `manager` has
 * written there (config_status): the whole status, or, when it has parts of others, our conditions
 * only, for the schema does not allow a status without a state. The patch applies only to the
 * observed version. Returns AGAIN and appends nothing when nothing there is ours, as managedFields
 * say; returns ERR when the patch does not fit. */
int config_status_remove(struct buf *out, struct json_value observed,
                         const char *manager) warn_unused;

#endif
