/* Turns configuration, CR and verdict into the wanted objects, as JSON for the Kubernetes API:
 * Services, NetworkPolicies, conditions, Events. Reads the existing objects to compare them. Pure.
 */
#ifndef TPROXY_CONTROLLER_PLAN_H
#define TPROXY_CONTROLLER_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/labels.h"
#include "core/custom_resource.h"
#include "core/destination.h"
#include "lib/base.h"
#include "lib/buf.h"
#include "lib/json.h"

/* The labels that select the pods of an installation: members of a JSON object. */
#define PLAN_POD_LABELS                                                                            \
    "\"app.kubernetes.io/instance\":\"tproxy\",\"app.kubernetes.io/name\":\"tproxy\""

/* Maximum length in octets of each object below. A policy of 10,000 ports of which no two are
 * neighbours fits. A function that appends an object returns ERR when it does not fit; the caller
 * then drops what was appended. */
enum { PLAN_OBJECT_MAX = 512 * 1024 };

/* ---- conditions ---- */

enum { PLAN_MESSAGE_MAX = 1024 };

/* The condition Available of a CR. */
struct condition {
    bool available;
    const char *reason; /* static storage */
    char message[PLAN_MESSAGE_MAX];
    size_t own; /* number of octets at the start of the message that are our own words. The rest may
                   be another server's, which may word the same failure differently each time */
};

/* Sets ConfigurationSuccessful, with SAP's message. `service` is NULL where there are no Services.
 */
void plan_success(struct condition *c, const char *service);

/* Sets a failure. The message is cut at its bound and made fit for JSON. */
void plan_failure(struct condition *c, const char *reason, const char *fmt, ...) printf_like(3, 4);

/* Sets a failure from a sentence that may repeat words of another server. Our own words end at its
 * first colon. */
void plan_failure_told(struct condition *c, const char *reason, const char *sentence);

/* Sets the failure for a verdict about the destination of `cr` and of a tenant (NULL: none), with
 * SAP's sentence where SAP has one. `text` is the sentence that came with the verdict, which is not
 * VERDICT_OK. */
void plan_verdict(struct condition *c, const struct cr *cr, const char *tenant,
                  enum verdict verdict, const char *text);

/* Sums up the results of several tenants, in the order of their names:
 *     begin; for each tenant: served or failed; end; free */
struct plan_tenants {
    struct buf served, failed; /* "a,b"; "\"a\", \"b\"" */
    struct buf services;       /* of the served tenants: "cr-a, cr-b" */
    struct buf words;          /* the failures in our own words: " a: ..." */
    struct buf told;           /* the failures with words of another server */
    size_t n_served, n_failed;
    size_t unnamed_services, unnamed_failed; /* numbers of names for which no room was left */
};

/* Starts a sum without tenants. */
void plan_tenants_begin(struct plan_tenants *p);

/* Add the result of a tenant. `service` is NULL where there are no Services. */
void plan_tenants_served(struct plan_tenants *p, const char *tenant, const char *service);
void plan_tenants_failed(struct plan_tenants *p, const char *tenant, const struct condition *why);

/* Sets the condition: ConfigurationSuccessful if all tenants are served, or else
 * FailedToApplyConfiguration. Returns the names of the served tenants ("a,b"; NULL: none), valid
 * until plan_tenants_free. */
const char *plan_tenants_end(struct plan_tenants *p, struct condition *c);

/* Frees the texts of the sum. */
void plan_tenants_free(struct plan_tenants *p);

/* Tells whether the status of a CR shows a condition. */
enum plan_shown {
    PLAN_SHOWN,                /* it shows exactly this condition */
    PLAN_SHOWN_IN_OTHER_WORDS, /* only the words of another server differ */
    PLAN_SHOWN_NOT,
};

/* Compares the CR's status with a condition and the tenants that are served ("a,b"; NULL: none).
 * tenants_kept: the API server stores status.tenants; false: they are not compared. */
enum plan_shown plan_shown(const struct cr *cr, const struct condition *c, const char *served,
                           bool tenants_kept);

/* Returns a digest of all that plan_shown compares except for the words of another server. */
uint64_t plan_condition_digest(const struct condition *c, const char *served);

/* Appends the merge patch of the CR's status: its other conditions, then the condition Available
 * (NULL: it is removed), and the tenants that are served. The patch replaces the whole list of
 * conditions, so it applies only to the version of the CR that has these other conditions. `now` is
 * in RFC 3339 with seconds. */
int plan_status(struct buf *out, const struct cr *cr, const struct condition *c, const char *served,
                const char *now) warn_unused;

/* Appends an Event (events.k8s.io/v1) about a CR. `now` is in RFC 3339 with a fraction of six
 * digits. `name` is the name of the Event, `instance` that of the reporting process. */
int plan_event(struct buf *out, const struct cr *cr, const char *name, const char *instance,
               bool warning, const char *reason, const char *note, const char *now) warn_unused;

/* Appends the merge patch by which an Event says that it has been repeated: `count` times (2 at
 * least) with the first one, the last time at `now`, as in plan_event. */
int plan_event_series(struct buf *out, unsigned count, const char *now) warn_unused;

/* Appends a warning Event about the TransparentProxy object `object` of namespace `home`; `uid`: ""
 * when it is not known, as the object has been deleted. */
int plan_proxy_event(struct buf *out, const char *home, const char *object, const char *uid,
                     const char *name, const char *instance, const char *reason, const char *note,
                     const char *now) warn_unused;

/* Tells whether an object has the labels of the objects that the installation in namespace `home`
 * makes. */
bool plan_is_ours(struct json_value object, const char *home);

/* ---- Services ---- */

/* Writes the name of the field manager of the installation in namespace `home`. Each installation
 * has its own. The name has at most PLAN_WRITER_SIZE octets with its NUL. */
enum { PLAN_WRITER_SIZE = sizeof(LABEL_MANAGER) + 1 + CR_NAMESPACE_MAX };
void plan_writer(char *out, size_t cap, const char *home);

/* The beginning of the names of the installation's own Services in manifests/, and of SAP's. No CR
 * gets such a name, even while the Service does not exist, as during a new installation. */
#define PLAN_RESERVED_PREFIX "sap-transp-proxy-"

/* Returns the reason why the text cannot be the name of a Service of ours ("it is longer than 63
 * characters"; static storage). Returns NULL for an RFC 1123 label that is not reserved. */
const char *plan_name_objection(const char *name);

/* Returns advice for a user when an API server has refused a Service of this name, to be added to
 * its sentence ("" or "; ..."; static storage). Not every API server accepts every RFC 1123 label
 * (KEP-5311). */
const char *plan_name_advice(const char *name);

/* The values of both Services of a CR. */
struct plan_service {
    const char *home;   /* namespace of the installation */
    const char *domain; /* "cluster.local" */
    const struct cr *cr;
    const char *name;
    uint16_t port;         /* the clients' port */
    uint16_t target_port;  /* the port of our pods */
    const char *uid;       /* of the existing Service to change; NULL: a new one */
    const char *strangers; /* of the existing Service, see struct service; NULL: none */
    const char *owners;    /* of the existing Service, see struct service; NULL: none */
};

/* Append the ClusterIP Service in the home namespace, and the alias: the ExternalName Service in
 * the CR's namespace. */
int plan_home_service(struct buf *out, const struct plan_service *s) warn_unused;
int plan_alias_service(struct buf *out, const struct plan_service *s) warn_unused;

/* Appends the merge patch that makes the alias with this uid lead nowhere. */
int plan_alias_cut(struct buf *out, const char *uid) warn_unused;

/* The fields of a Service that we keep. */
struct service {
    char *texts; /* owns the texts of the next line */
    const char *namespace, *name, *uid, *created;
    char *cr_namespace, *cr_name; /* of the CR that it was made for; NULL: it is not ours */
    bool deleting;
    bool leads;    /* an ExternalName Service that leads to the Service of its name at home */
    uint16_t port; /* of our entry in `ports`; 0: there is none, or it is an ExternalName */
    uint16_t target_port; /* of the same entry, whatever the type; 0 outside the home namespace */
    /* of all fields that we write. A Service with the digest of the wanted one needs no write,
     * unless it has strangers. Fields that the API server and others add do not count */
    uint64_t digest;
    /* foreign labels in the selector, because of which it may find no pod, as members of a merge
     * patch that removes them: "\"app\":null"; NULL: none */
    char *strangers;
    /* of an ExternalName Service: owner references of others, "{...},{...}", which a merge patch of
     * the list without them would remove; NULL: none */
    char *owners;
};

/* Fills *service from an object, which may be the output of the functions above. `home` is the
 * namespace of the installation whose objects are ours. Returns ERR when the object is not a
 * Service; *service is empty then. On OK the caller clears it.
 *
 * Labels tell for which CR a Service was made. In the namespace `home` they are believed, because
 * only administrators write there. The users of any other namespace can write whatever labels they
 * like; a Service there is ours only if its labels name a CR of its own namespace and
 * service_is_made_for() agrees. */
int service_parse(struct service *service, struct json_value object, const char *home) warn_unused;

/* Frees the contents of *service and leaves it empty. May be called more than once. */
void service_clear(struct service *service);

/* Frees the names of the CR, for a caller that does not need them any more. */
void service_forget_cr(struct service *service);

/* Tells whether the installation of `home` has written this Service for the CR of that name in the
 * namespace of the Service. The field manager and the owner reference decide; labels do not matter.
 */
bool service_is_made_for(struct json_value object, const char *cr_name, const char *home);

/* Tells whether this is an ExternalName Service that SAP's own proxy may have left: it is named
 * like a CR and points into a namespace, and no other installation of tproxy than that of `home`
 * has made it. */
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

/* A range of ports, with the first and the last one. */
struct plan_ports {
    uint16_t first, last;
};

enum { PLAN_POLICY_NAME_SIZE = 96 };

/* Writes the name of the policy. It is always the same for the same `from`, differs for another
 * one, and has at most PLAN_POLICY_NAME_SIZE octets with its NUL. */
void plan_policy_name(char *out, size_t cap, const char *from);

/* Appends the policy, as a new object or as the merge patch of the existing one. */
int plan_policy(struct buf *out, const struct plan_policy *p) warn_unused;

/* Appends the merge patch by which the existing policy with this uid admits nobody any more. */
int plan_policy_closed(struct buf *out, const char *uid) warn_unused;

/* Returns a digest of the fields that we write into a policy, and of the fields with which others
 * could extend it: the pods that it selects and the peers that it admits. `object` is an existing
 * policy or the output of plan_policy. */
uint64_t plan_policy_digest(struct json_value object);

/* Returns the ports that a policy admits to, no matter which peers, as sorted ranges that do not
 * overlap, and their number in *n. The caller frees the array, which may be NULL when *n is 0. */
struct plan_ports *plan_policy_ports(struct json_value object, size_t *n);

/* Returns members of a merge patch that remove foreign labels from the pod selector of a policy:
 * "\"app\":null". Returns NULL when there is nothing to remove. The caller frees the text. */
char *plan_policy_strangers(struct json_value object);

#endif
