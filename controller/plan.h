/* From configuration, CR and verdict to what shall be there: Services, NetworkPolicies, conditions,
 * Events; as JSON for the Kubernetes API, and as projections of what is there already. Pure. */
#ifndef TPROXY_CONTROLLER_PLAN_H
#define TPROXY_CONTROLLER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/custom_resource.h"
#include "core/destination.h"
#include "lib/base.h"
#include "lib/buf.h"
#include "lib/json.h"

/* Labels of all that we write. The values of long names are cut and end in a digest; the full names
 * stand in annotations of the same keys. */
#define PLAN_LABEL_MANAGED "app.kubernetes.io/managed-by" /* PLAN_MANAGER */
#define PLAN_LABEL_HOME "tproxy/home"                     /* namespace of the installation */
#define PLAN_LABEL_CR_NAMESPACE "tproxy/destination-namespace"
#define PLAN_LABEL_CR_NAME "tproxy/destination-name"

#define PLAN_MANAGER "tproxy"

/* By which the pods of an installation are selected: members of a JSON object. */
#define PLAN_POD_LABELS                                                                            \
    "\"app.kubernetes.io/instance\":\"tproxy\",\"app.kubernetes.io/name\":\"tproxy\""

/* Bound of each of the objects below, octets: enough for a policy of 10,000 ports none of which is
 * the next of another. What appends one gives ERR when it does not fit; what it has appended by
 * then is of no use. */
enum { PLAN_OBJECT_MAX = 512 * 1024 };

/* ---- conditions ---- */

enum { PLAN_MESSAGE_MAX = 1024 };

/* The condition Available of a CR. */
struct condition {
    bool available;
    const char *reason; /* static storage */
    char message[PLAN_MESSAGE_MAX];
    size_t own; /* so many octets of the message are our own words; the rest, if there is one, may
                   be those of another server, which words the same failure differently each time */
};

/* ConfigurationSuccessful, with SAP's message; `service` is NULL where there are none. */
void plan_success(struct condition *c, const char *service);

/* A condition that is not met. The message is cut at its bound, and made fit for JSON. */
void plan_failure(struct condition *c, const char *reason, const char *fmt, ...) printf_like(3, 4);

/* The same for a sentence in which another server has a part: our own words end at its first
 * colon. */
void plan_failure_told(struct condition *c, const char *reason, const char *sentence);

/* What a verdict about the destination of `cr` and of a tenant (NULL: there is none) means, with
 * SAP's sentence where there is one; `text` is the sentence that came with it. VERDICT_OK does not
 * get here. */
void plan_verdict(struct condition *c, const struct cr *cr, const char *tenant,
                  enum verdict verdict, const char *text);

/* Sums up what became of several tenants, in the order of their names:
 *     begin; for each tenant: served or failed; end; free */
struct plan_tenants {
    struct buf served, failed; /* "a,b"; "\"a\", \"b\"" */
    struct buf services;       /* of those served: "cr-a, cr-b" */
    struct buf words;          /* what failed for each: " a: ..." */
    struct buf told;           /* the same, where another server has a part in it */
    size_t n_served, n_failed;
    size_t unnamed_services, unnamed_failed; /* for which no room was left */
};

void plan_tenants_begin(struct plan_tenants *p);

/* `service` is NULL where there are none. */
void plan_tenants_served(struct plan_tenants *p, const char *tenant, const char *service);
void plan_tenants_failed(struct plan_tenants *p, const char *tenant, const struct condition *why);

/* The condition: ConfigurationSuccessful if all are served, or else FailedToApplyConfiguration.
 * Returns which are served ("a,b"; NULL: none), valid until free. */
const char *plan_tenants_end(struct plan_tenants *p, struct condition *c);
void plan_tenants_free(struct plan_tenants *p);

/* What the status of a CR says. */
enum plan_shown {
    PLAN_SHOWN,                /* just that */
    PLAN_SHOWN_IN_OTHER_WORDS, /* the same, but for the words of another server */
    PLAN_SHOWN_NOT,
};

/* Compares the CR's status with a condition and the tenants that are served ("a,b"; NULL: none).
 * tenants_kept: the API server stores status.tenants; else they do not count. */
enum plan_shown plan_shown(const struct cr *cr, const struct condition *c, const char *served,
                           bool tenants_kept);

/* Returns a digest of what plan_shown compares, but for the words of another server. */
uint64_t plan_condition_digest(const struct condition *c, const char *served);

/* Appends the merge patch of the CR's status: its other conditions, then Available (NULL: no more),
 * and the tenants that are served. The list of conditions replaces the one that is there, so the
 * patch is only for the version of the CR from which the other conditions come. `now`: RFC 3339,
 * seconds. */
int plan_status(struct buf *out, const struct cr *cr, const struct condition *c, const char *served,
                const char *now) warn_unused;

/* Appends an Event (events.k8s.io/v1) about a CR. `now`: RFC 3339 with six digits of a fraction.
 * `name` is that of the Event; instance: of the reporting process. */
int plan_event(struct buf *out, const struct cr *cr, const char *name, const char *instance,
               bool warning, const char *reason, const char *note, const char *now) warn_unused;

/* The same, a warning, about the TransparentProxy object `object` of namespace `home`, which need
 * not be there any more. */
int plan_proxy_event(struct buf *out, const char *home, const char *object, const char *name,
                     const char *instance, const char *reason, const char *note,
                     const char *now) warn_unused;

/* Does an object carry the labels of what the installation in namespace `home` has made? */
bool plan_is_ours(struct json_value object, const char *home);

/* ---- Services ---- */

/* The field manager under which the installation of `home` writes: another one for each
 * installation. At most PLAN_WRITER_SIZE octets, with the NUL. */
enum { PLAN_WRITER_SIZE = sizeof(PLAN_MANAGER) + 1 + CR_NAMESPACE_MAX };
void plan_writer(char *out, size_t cap, const char *home);

/* Names that begin so are those of the installation's own Services in manifests/, and of SAP's. No
 * CR gets one, even while the Service is away, as it is during a new installation. */
#define PLAN_RESERVED_PREFIX "sap-transp-proxy-"

/* Returns why it cannot be the name of a Service of ours, in words ("it is longer than 63
 * characters"; static storage). NULL: it is an RFC 1123 label that is not reserved. */
const char *plan_name_objection(const char *name);

/* Returns what a user is to do when an API server has refused a Service of this name, for the end
 * of its sentence ("" or "; ..."; static storage). Not every API server takes every RFC 1123 label
 * (KEP-5311). */
const char *plan_name_advice(const char *name);

/* Of both Services of a CR. */
struct plan_service {
    const char *home;   /* namespace of the installation */
    const char *domain; /* "cluster.local" */
    const struct cr *cr;
    const char *name;
    uint16_t port;         /* that clients use */
    uint16_t target_port;  /* of our pods */
    const char *uid;       /* of the Service that is there and is to be changed; NULL: a new one */
    const char *strangers; /* in that one's selector; NULL: there are none */
    const char *owners;    /* of that one, besides the CR; NULL: there are none */
};

/* Append the ClusterIP Service of the home namespace, and the ExternalName Service of the CR's. */
int plan_home_service(struct buf *out, const struct plan_service *s) warn_unused;
int plan_alias_service(struct buf *out, const struct plan_service *s) warn_unused;

/* Appends a change by which an alias leads nowhere. `uid`: of the alias. */
int plan_alias_cut(struct buf *out, const char *uid) warn_unused;

/* A Service as we keep it. */
struct service {
    char *namespace, *name, *uid, *created;
    char *cr_namespace, *cr_name; /* of the CR that it was made for; NULL: it is not ours */
    bool deleting;
    bool leads; /* an ExternalName Service that leads to the Service of its name at home */
    uint16_t port,
        target_port; /* of our entry in `ports`; 0 for an ExternalName Service, or without
                                   such an entry */
    uint64_t digest; /* of all that we write into one: two that are equal here need no
                                   write, unless there are strangers. What else the API server and
                                   others add does not count */
    char *strangers; /* what the selector asks of pods besides our labels, so that it finds none;
                        NULL: nothing. As a merge patch takes it away: "\"app\":null" */
    char *owners; /* of an ExternalName Service: owner references of others, which a merge patch of
                     the list would remove: "{...},{...}"; NULL: there are none */
};

/* Fills *service from an object, also from one of the two above. ERR when it is none; *service is
 * empty then. `home`: the installation whose objects are ours.
 *
 * Labels say which CR a Service was made for. In the namespace `home` they are believed, because
 * only administrators write there. The users of any other namespace can write whatever labels they
 * like; a Service there is ours only if its labels name a CR of its own namespace and
 * service_is_made_for() agrees. */
int service_parse(struct service *service, struct json_value object, const char *home) warn_unused;
void service_clear(struct service *service);

/* Frees the names of the CR, for a caller that knows it by now. */
void service_forget_cr(struct service *service);

/* Has the installation of `home` written this Service for the CR of that name, in the namespace of
 * the Service? The field manager and the owner reference tell; labels do not matter. */
bool service_is_made_for(struct json_value object, const char *cr_name, const char *home);

/* Is it an ExternalName Service that SAP's own proxy may have left: one that is named like a CR and
 * points into a namespace, and that no other installation of tproxy than that of `home` has made?
 */
bool service_is_alias(struct json_value object, const char *home);

/* ---- NetworkPolicies ---- */

/* Admits to `ports` (sorted, one at least) the pods of namespace `from`, or of all namespaces when
 * it is NULL. */
struct plan_policy {
    const char *home;
    const char *from;
    const char *uid; /* of the existing policy; NULL: a new one */
    /* plan_policy_strangers of the existing policy; NULL: nothing to remove */
    const char *strangers;
    const uint16_t *ports;
    size_t n_ports;
};

/* Ports from the first to the last one. */
struct plan_ports {
    uint16_t first, last;
};

enum { PLAN_POLICY_NAME_SIZE = 96 };

/* The name of the policy: stable, unique for each `from`, no longer than PLAN_POLICY_NAME_SIZE. */
void plan_policy_name(char *out, size_t cap, const char *from);
int plan_policy(struct buf *out, const struct plan_policy *p) warn_unused;

/* Appends the merge patch by which the existing policy with this uid admits nobody any more. */
int plan_policy_closed(struct buf *out, const char *uid) warn_unused;

/* Returns a digest of the fields that we write into a policy and of those by which others could
 * extend it: the pods that it selects and the peers that it admits. `object` is an existing policy
 * or the output of plan_policy. */
uint64_t plan_policy_digest(struct json_value object);

/* Returns the ports that a policy admits to, whoever is admitted, as sorted ranges that do not
 * overlap. The caller frees the array, which is NULL when there are none. */
struct plan_ports *plan_policy_ports(struct json_value object, size_t *n);

/* Returns members of a merge patch that remove foreign labels from the pod selector of a policy:
 * "\"app\":null". NULL when there is nothing to remove. The caller frees it. */
char *plan_policy_strangers(struct json_value object);

#endif
