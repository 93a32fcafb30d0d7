/* A Destination custom resource (destination.connectivity.api.sap/v1) as we keep it: a projection
 * of the object, not its text. Pure. */
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

/* Bounds, octets: of a namespace, which is a DNS label; of every other name; of a chain's variable;
 * of the conditions that are not ours; of the JSON of any member of metadata, spec or status. And
 * numbers: of a chain's variables; of tenants. */
enum {
    CR_NAMESPACE_MAX = 63,
    CR_NAME_MAX = 253,
    CR_VALUE_MAX = 4096,
    CR_CONDITIONS_MAX = 16 * 1024,
    CR_MEMBER_MAX = 512 * 1024,
    CR_VARIABLES_MAX = 64,
    CR_TENANTS_MAX = 1000,
};

enum cr_scope { CR_SCOPE_DEFAULT, CR_SCOPE_NAMESPACED, CR_SCOPE_CLUSTER_WIDE };

/* Who wrote the conditions, by managedFields. Where these say nothing, we. */
enum cr_status_owner { CR_STATUS_NONE, CR_STATUS_OURS, CR_STATUS_FOREIGN };

/* The condition Available as it stands in the object; what it does not say is "". All NULL when
 * there is none. */
struct cr_condition {
    char *status, *reason, *message;
};

/* No text in it contains control characters, but for `message` and `other_conditions`. */
struct cr {
    const char *namespace, *name, *uid; /* uid: "" in local mode */
    uint64_t version;                   /* see object_version */
    const char *created; /* creationTimestamp: RFC 3339, in UTC, so that text order is time order;
                            "" when the object does not say */
    bool deleting;       /* deletionTimestamp is set */

    /* Why spec or annotations cannot be taken in: field, what is wrong, what to do. Nothing of them
     * is filled in then, and the name of the destination is "". NULL: nothing is wrong. */
    char *wrong;
    struct dest_ref ref; /* without a tenant; without an instance: the default one */
    uint16_t port;       /* spec.service.port; 0: the protocol's */
    enum cr_scope scope;
    bool adopt; /* the annotation tproxy/adopt is "true" */

    /* The annotation tenant-subdomains: labels in lower case, in alphabetical order, each one once.
     * None, and nothing wrong: there is no such annotation. */
    char **tenants;
    size_t n_tenants;
    char *tenants_wrong; /* what is wrong with it: "it names no tenant"; NULL: nothing */

    enum cr_status_owner status_owner;
    struct cr_condition available;
    bool available_last;    /* it is the last condition, and the only one of its type */
    char *other_conditions; /* JSON, comma-separated: conditions of other types; NULL: none */
    bool conditions_unread; /* these are more than we keep: what we wrote would lose some */
    char *shown_tenants;    /* status.tenants, "a,b"; NULL: there are none */
};

/* Fills *cr from an object. A spec that is not what the CRD lets through, or passes a bound, is
 * cr->wrong. ERR and *err (FAIL_CONFIG), naming object and field, when the metadata does not name
 * an object; *cr is empty then. Members that are null count as absent. field_manager: under which
 * name we write. */
int cr_parse(struct cr *cr, struct json_value object, const char *field_manager,
             struct error *err) warn_unused;

/* Returns the resourceVersion of an object of any kind. Versions of one API server are numbers in
 * the order of the changes (KEP-5504). 0: there is none, as in local mode, or it is no number. */
uint64_t object_version(struct json_value object);

/* Idempotent; *cr is empty afterwards. */
void cr_clear(struct cr *cr);

/* Does the spec, with the annotations that count, say the same? */
bool cr_same_spec(const struct cr *a, const struct cr *b);

#endif
