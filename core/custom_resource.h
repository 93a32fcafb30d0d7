/* Reads a Destination custom resource (destination.connectivity.api.sap/v1). struct cr keeps the
 * fields that we need, not the text of the object. Pure. */
#ifndef TPROXY_CORE_CUSTOM_RESOURCE_H
#define TPROXY_CORE_CUSTOM_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/dest_ref.h"
#include "lib/base.h"
#include "lib/fail.h"
#include "lib/json.h"

#define CR_GROUP "destination.connectivity.api.sap"
#define CR_API_VERSION CR_GROUP "/v1"
#define CR_KIND "Destination"
#define CR_ANNOTATION_TENANTS "transparent-proxy.connectivity.api.sap/tenant-subdomains"
#define CR_ANNOTATION_ADOPT "tproxy/adopt"

/* Bounds. Sizes are in octets. */
enum {
    CR_NAMESPACE_MAX = 63,         /* a namespace, which is a DNS label */
    CR_NAME_MAX = 253,             /* every other name */
    CR_VALUE_MAX = 4096,           /* the value of a chain's variable */
    CR_CONDITIONS_MAX = 16 * 1024, /* all conditions that are not ours */
    CR_MEMBER_MAX = 512 * 1024,    /* the JSON of a member of metadata, spec or status */
    CR_VARIABLES_MAX = 64,         /* number of a chain's variables */
    CR_TENANTS_MAX = 1000,         /* number of tenants */
};

enum cr_scope { CR_SCOPE_DEFAULT, CR_SCOPE_NAMESPACED, CR_SCOPE_CLUSTER_WIDE };

/* The owner of the conditions, by managedFields. Without managedFields they count as ours. */
enum cr_status_owner { CR_STATUS_NONE, CR_STATUS_OURS, CR_STATUS_FOREIGN };

/* The condition Available of the object. A missing text is "". All are NULL when the object does
 * not have the condition. */
struct cr_condition {
    char *texts; /* owns the texts of the next line */
    const char *status, *reason, *message;
};

/* Only the texts of `available` and `other_conditions` may contain control characters. */
struct cr {
    char *texts;                        /* owns namespace, name, uid and created */
    const char *namespace, *name, *uid; /* uid: "" in local mode */
    const char *created; /* creationTimestamp: RFC 3339 in UTC, so that text order is time order;
                            "" when the object has none */
    uint64_t version;    /* see object_version */
    bool deleting;       /* deletionTimestamp is set */

    bool adopt;    /* the annotation tproxy/adopt is "true" */
    uint16_t port; /* spec.service.port; 0: the port of the protocol */
    enum cr_scope scope;
    struct dest_ref ref; /* has no tenant; ref.instance NULL: the default instance */
    /* NULL when spec and annotations are good. Otherwise the text names the field, the error and
     * the remedy; nothing of spec and annotations is filled in then, and ref.name is "". */
    char *wrong;

    /* The annotation tenant-subdomains: labels in lower case, in alphabetical order, without
     * duplicates. When the list is empty and tenants_wrong is NULL, there is no such annotation. */
    char **tenants;
    size_t n_tenants;
    char *tenants_wrong; /* the error in the annotation, in words; NULL: none */

    struct cr_condition available;
    char *other_conditions; /* JSON, comma-separated: conditions of other types; NULL: none */
    char *shown_tenants;    /* status.tenants, "a,b"; NULL: there are none */
    enum cr_status_owner status_owner;
    bool available_last;    /* `available` is the last condition, and the only one of its type */
    bool conditions_unread; /* some are not in other_conditions: writing would lose them */
};

/* Fills *cr from an object. A spec that violates the CRD or exceeds a bound sets cr->wrong and is
 * no failure. A member that is null counts as absent. `field_manager` is the name under which we
 * write. On OK the caller clears *cr. Returns ERR and *err (FAIL_CONFIG), which names object and
 * field, when the metadata does not name an object; *cr is empty then. */
int cr_parse(struct cr *cr, struct json_value object, const char *field_manager,
             struct error *err) warn_unused;

/* Tells whether managedFields say that `manager` was the last to change the member of status with
 * this name in fieldsV1 ("f:conditions"). An object without managedFields has no known writer. */
bool object_status_is_by(struct json_value object, const char *field, const char *manager);

/* Returns the resourceVersion of an object of any kind. Versions of one API server are numbers in
 * the order of the changes (KEP-5504). Returns 0 when there is no version, as in local mode, or
 * when it is not a number. */
uint64_t object_version(struct json_value object);

/* Frees the contents of *cr and leaves it empty. May be called more than once. */
void cr_clear(struct cr *cr);

/* Tells whether two CRs have the same spec and the same values of our annotations. */
bool cr_same_spec(const struct cr *a, const struct cr *b);

#endif
