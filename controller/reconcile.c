/* One CR, brought to what it should be: level-based, one operation at a time, from the top each
 * time something has happened. Its targets (endpoint.c, services.c) are decided about one by one;
 * what becomes of them is summed up in one condition.
 *
 *   we do not lead              --> follow.c
 *   Service there, no listener  --> listen: its sessions do not wait for us
 *   CR gone, or not managed     --> confirm that it is not the CRD that went
 *                                   --> withdraw: listeners, Services, condition --> (free)
 *   destinations due            --> read, side by side; those that are known are decided about
 *   not ours to judge           --> withdraw what we once made
 *   judge the CR: LEAVE | REFUSE | each target: REFUSE | HOLD | SERVE
 *      REFUSE: no Service          \
 *      HOLD:   those that are there |--> condition --> Event
 *      SERVE:  listener, Services  /
 *
 * A call that fails is tried again by the timer, later each time; what the API server refuses is
 * `trouble` and shown in the condition until then. */
#include "controller/reconcile.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/config.h"
#include "configuration/configuration.h"
#include "controller/claim.h"
#include "controller/endpoint.h"
#include "controller/events.h"
#include "controller/exposure.h"
#include "controller/follow.h"
#include "controller/intake.h"
#include "controller/leftovers.h"
#include "controller/plan.h"
#include "controller/precedence.h"
#include "controller/queue.h"
#include "controller/resources.h"
#include "controller/services.h"
#include "controller/status.h"
#include "controller/sweep.h"
#include "lib/log.h"
#include "lib/mem.h"

/* The interval in which a deleted CR is checked again while its CRD is missing or not shown. Once
 * the CRD is back, its CRs are expected to be applied again within CONTROLLER_GRACE. */
#define CONFIRM_AGAIN SECONDS(2)

/* This many refusals in a row to show the CRD are not believed: the API server may not know yet of
 * rights that were given a moment ago. */
enum { CONFIRM_REFUSALS = 3 };

/* The interval in which a status is tried again that the CRD does not accept. */
#define CONTROLLER_STATUS_AGAIN SECONDS(60)

/* How long a CR waits for the name of another one before its condition says so. */
#define NAME_PATIENCE SECONDS(2)

#define REASON_PREFIX "ConfigurationError-"

static enum stance stance_of(const struct resource *r)
{
    if (!r->present || r->cr.deleting || !resource_managed(r)) {
        return STANCE_NONE;
    }
    if (resource_claimed(r)) {
        return STANCE_WANTS;
    }
    return endpoints_known(r) || resource_is_gateway(r) ? STANCE_NONE : STANCE_UNKNOWN;
}

void resource_update_stance(struct resource *r)
{
    if (r->controller->leads) {
        resource_set_stance(r, stance_of(r));
    }
}

/* ---- settling ---- */

/* A resource that has been read and waits longer than this, perhaps for a Service that does not go,
 * counts as settled, and as brought to the configuration: nothing waits for it. */
#define SETTLE_WITHIN SECONDS(10)

static void settle_in_time(struct resource *r)
{
    if ((r->settled && !r->outdated) || !r->present || endpoints_unread(r)) {
        return;
    }
    r->settle_by = r->settle_by ? r->settle_by : resource_now(r) + SETTLE_WITHIN;
    if (r->settle_by <= resource_now(r)) {
        resource_settle(r);
        resource_set_outdated(r, false);
    } else {
        resource_wake_at(r, r->settle_by);
    }
}

/* ---- answers ---- */

/* Tells whether the object of an answer is still the CR. It may have gone, or been replaced, before
 * the answer came. */
static bool is_same(const struct resource *r, struct json_value object)
{
    struct json_value uid = json_get(json_get(object, "metadata"), "uid");
    return r->present && (json_is(uid, r->cr.uid) || !r->controller->settings.in_cluster);
}

/* An API server whose CRD does not have status.tenants drops the field. */
static void note_tenants(struct resource *r, struct json_value object)
{
    struct controller *c = r->controller;
    if (!r->shows_tenants) {
        return;
    }
    r->tenants_lost = !json_given(json_get(json_get(object, "status"), "tenants"));
    if (c->tenants_pruned == r->tenants_lost) {
        return;
    }
    c->tenants_pruned = r->tenants_lost;
    if (c->tenants_pruned) {
        log_line(LOG_WARN, "control", "%s", CONTROLLER_TENANTS_PRUNED);
    } else {
        log_line(LOG_INFO, "control", "the API server stores status.tenants of Destinations again");
        controller_wake_all(c);
    }
}

static void status_written(struct resource *r, const struct cluster_answer *answer)
{
    struct controller *c = r->controller;
    r->conflicts = 0;
    if (c->status_missing) {
        c->status_missing = false;
        log_line(LOG_INFO, "control", "the CRD of Destinations has the subresource status now");
        controller_wake_all(c);
    }
    note_tenants(r, answer->object);
    if (is_same(r, answer->object) &&
        follower_is_news(&c->followers[FOLLOW_RESOURCES], answer->object)) {
        controller_take_resource(c, answer->object);
    }
}

/* An older CRD has no subresource for the status, and then no CR has one. */
static void status_is_missing(struct controller *c)
{
    c->status_retried = loop_now(c->loop) + CONTROLLER_STATUS_AGAIN;
    if (!c->status_missing) {
        c->status_missing = true;
        log_line(LOG_WARN, "control", "%s", CONTROLLER_STATUS_MISSING);
        controller_send_event(c, "StatusSubresourceMissing", CONTROLLER_STATUS_MISSING);
    }
}

static void on_resource_reread(struct resource *r, const struct cluster_answer *answer)
{
    struct controller *c = r->controller;
    if (answer->result == CLUSTER_LATER || answer->result == CLUSTER_REFUSED) {
        resource_failed(r, answer);
        return;
    }
    if (r->status_absent && answer->result == CLUSTER_DONE && is_same(r, answer->object)) {
        status_is_missing(r->controller);
    } else {
        resource_conflicted(r);
    }
    if (answer->result == CLUSTER_DONE && is_same(r, answer->object) &&
        follower_is_news(&c->followers[FOLLOW_RESOURCES], answer->object)) {
        controller_take_resource(c, answer->object);
    }
}

/* Others have changed the CR, and the watch has perhaps not told of it yet. */
static void reread_resource(struct resource *r)
{
    struct cluster_request request = {
        .verb = CLUSTER_GET, .kind = &kind_destination, .namespace = r->namespace, .name = r->name};
    resource_call(r, OPERATION_REREAD, &request, on_resource_reread);
}

static void on_status_answer(struct resource *r, const struct cluster_answer *answer)
{
    if (answer->result != CLUSTER_DONE) {
        repairs_failed(&r->status_repairs, resource_now(r));
        r->words_due = 0;
    }
    switch (answer->result) {
    case CLUSTER_DONE:
        status_written(r, answer);
        status_tell(r);
        break;
    case CLUSTER_CONFLICT:
    case CLUSTER_ABSENT: /* the CR has gone, or the CRD has no such subresource */
        r->status_absent = answer->result == CLUSTER_ABSENT;
        reread_resource(r);
        break;
    case CLUSTER_EXISTS:
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        resource_failed(r, answer);
        break;
    }
    status_forget(r); /* now, because a thousand resources may wait until they run again */
}

/* Tells whether the CRD is younger than the CR that went, or than the Service of a CR that was
 * never seen. Times have seconds, so the same second counts as younger. */
static bool is_renewed(const struct resource *r, struct json_value crd)
{
    const struct held_service *held =
        list_empty(&r->services) ? NULL : container_of(r->services.next, struct held_service, link);
    const char *before = r->cr.created ? r->cr.created : held ? held->service.created : NULL;
    char *created = json_strdup(json_get(json_get(crd, "metadata"), "creationTimestamp"), NULL);
    bool renewed = before && created && strcmp(before, created) <= 0;
    free(created);
    return renewed;
}

/* Tells whether we lack the right to read the CRD, as with an older Role: then it is assumed that
 * the CR went, and not the CRD. After the first such CR the others do not wait. */
static bool is_crd_hidden(struct resource *r, const struct cluster_answer *answer)
{
    struct controller *c = r->controller;
    if (answer->result == CLUSTER_REFUSED) {
        c->crd_hidden |= r->crd_refusals++ >= CONFIRM_REFUSALS;
        return c->crd_hidden;
    }
    if (answer->result == CLUSTER_DONE || answer->result == CLUSTER_ABSENT) {
        c->crd_hidden = false;
        r->crd_refusals = 0;
    }
    return false;
}

static void on_confirm_answer(struct resource *r, const struct cluster_answer *answer)
{
    struct json_value deleting =
        json_get(json_get(answer->object, "metadata"), "deletionTimestamp");
    bool there = answer->result == CLUSTER_DONE && !json_exists(deleting);
    bool hidden = is_crd_hidden(r, answer);
    r->crd_went |= json_exists(deleting) || answer->result == CLUSTER_ABSENT;
    if (there && !r->crd_renewed && (r->crd_went || is_renewed(r, answer->object))) {
        r->crd_renewed = true;
        r->retry_at = resource_now(r) + CONTROLLER_GRACE;
        return;
    }
    r->gone_confirmed = there || hidden;
    if (!r->gone_confirmed) {
        r->retry_at = resource_now(r) + CONFIRM_AGAIN;
    }
}

/* ---- what is shown ---- */

/* Nothing is left to do when no operation has begun: the CR has been brought to the
 * configuration. */
static void note_outcome(struct resource *r)
{
    if (r->operation == OPERATION_NONE) {
        resource_set_outdated(r, false);
    }
}

static void show_condition(struct resource *r, const struct condition *condition,
                           const char *served)
{
    struct condition whole = *condition;
    resource_settle(r);
    resource_say_leftover(r, &whole);
    status_show(r, &whole, served, on_status_answer);
}

/* ---- withdrawing ---- */

/* The CR is not ours, or not any more: its Services go, and then our condition. */
static void leave_resource(struct resource *r)
{
    resource_settle(r);
    if (endpoints_withdraw(r) != AGAIN && r->cr.status_owner == CR_STATUS_OURS &&
        r->cr.available.status && !r->cr.conditions_unread) {
        status_remove(r, on_status_answer);
    }
    note_outcome(r);
}

/* Deleting the CRD deletes the CRs too, but is not meant for their mailboxes: the administrator is
 * about to install another version of it. */
static void confirm_gone(struct resource *r)
{
    struct cluster_request request = {
        .verb = CLUSTER_GET, .kind = &kind_crd, .name = "destinations." CR_GROUP};
    resource_call(r, OPERATION_CONFIRM, &request, on_confirm_answer);
}

static void withdraw_gone(struct resource *r)
{
    struct controller *c = r->controller;
    resource_settle(r);
    resource_set_outdated(r, false);
    if (c->settings.in_cluster && !r->gone_confirmed) {
        confirm_gone(r);
    } else if (endpoints_withdraw(r) == OK && list_empty(&r->services) && !r->present) {
        if (r->settled) { /* if not, it was never there */
            status_tell_gone(r);
        }
        endpoints_free(r);
        resource_free(r);
    }
}

/* ---- the decision ---- */

enum decision {
    DECISION_WAIT,   /* for something that will be known soon */
    DECISION_REFUSE, /* no Service may exist */
    DECISION_HOLD,   /* the destination is of no use now: an existing Service stays */
    DECISION_SERVE,
};

static bool is_nameable(const struct resource *r, const struct endpoint *e, struct condition *c)
{
    const char *name = e ? e->service : r->name, *objection = plan_name_objection(name);
    if (objection && r->controller->settings.cluster_rules) {
        plan_failure(
            c, "ServiceCreationFailed",
            "The name of the Destination CR%s, \"%.140s\", cannot be that of a Service: %s; rename "
            "the Destination CR",
            e && e->tenant ? " with that of the tenant" : "", name, objection);
        return false;
    }
    return true;
}

/* The rival has lost the name and gives up its Service, which wakes us. If that takes long, the
 * condition says what is in the way. */
static enum decision wait_for_name(struct endpoint *e, struct resource *rival, struct condition *c)
{
    struct resource *r = e->resource;
    const char *home = r->controller->settings.home;
    const struct held_service *held = resource_service(rival, home, e->service);
    const struct held_service *alias = resource_service(rival, rival->namespace, e->service);
    e->waits_since = e->waits_since ? e->waits_since : resource_now(r);
    resource_wake(rival);
    if (resource_now(r) < e->waits_since + NAME_PATIENCE) {
        resource_wake_at(r, e->waits_since + NAME_PATIENCE);
        return DECISION_WAIT;
    }
    plan_failure(
        c, REASON_PREFIX "K8sResourceWithNameAlreadyPresent",
        "Technical connectivity is not configured. The Service \"%s\" in the namespace "
        "\"%s\" was made for the Destination CR \"%s\" in the namespace \"%s\" and %s",
        e->service, home, rival->name, rival->namespace,
        held->service.deleting ? "is being deleted; it waits for its finalizers, see its "
                                 "metadata.finalizers"
        : alias && alias != held
            ? "stays until the Service of this name there has been deleted or leads nowhere"
            : "has not been deleted yet; the Events of that Destination CR say why");
    return DECISION_REFUSE;
}

static enum decision decide_place(const struct endpoint *e, struct condition *c)
{
    switch (endpoint_place(e)) {
    case PLACE_TAKEN:
        break;
    case PLACE_UNKNOWN:
        return DECISION_WAIT;
    case PLACE_NONE:
        plan_failure(c, "ConfigurationFailed",
                     "Technical connectivity is not configured. Older Destination CRs have all %zu "
                     "targets that one namespace may have (--namespace-targets); delete some, or "
                     "have the administrator of tproxy raise the bound",
                     e->resource->controller->settings.namespace_targets);
        return DECISION_REFUSE;
    }
    return DECISION_SERVE;
}

static enum decision decide_name(struct endpoint *e, struct condition *c)
{
    struct resource *r = e->resource;
    const struct resource *other;
    const char *home = r->controller->settings.home;
    struct resource *rival = resource_rival(r, home, e->service);
    if (!r->controller->settings.cluster_rules) {
        return DECISION_SERVE;
    }
    if (!is_nameable(r, e, c)) {
        return DECISION_REFUSE;
    }
    switch (endpoint_rank(e, &other)) {
    case RANK_FIRST:
        break;
    case RANK_UNKNOWN:
        return DECISION_WAIT;
    case RANK_SECOND:
        plan_failure(c, REASON_PREFIX "DuplicateDestinationCustomResource",
                     "Technical connectivity is not configured. A Destination CR named \"%s\" in "
                     "the namespace \"%s\" has the name of the Service; rename this one",
                     other->name, other->namespace);
        return DECISION_REFUSE;
    }
    enum decision by_place = decide_place(e, c);
    if (by_place != DECISION_SERVE) {
        return by_place;
    }
    if (rival) {
        return wait_for_name(e, rival, c);
    }
    e->waits_since = 0;
    return DECISION_SERVE;
}

static enum decision decide_endpoint(struct endpoint *e, struct condition *c)
{
    enum decision by_name = decide_name(e, c);
    if (by_name == DECISION_SERVE && e->verdict == VERDICT_INSTANCE_NOT_CONFIGURED &&
        !configuration_knows_instances(e->resource->controller->configuration)) {
        return DECISION_WAIT;
    }
    if (by_name == DECISION_SERVE && e->verdict != VERDICT_OK) {
        plan_verdict(c, &e->resource->cr, e->tenant, e->verdict, e->verdict_text);
        return DECISION_HOLD;
    }
    return by_name;
}

/* Tells whether something is wrong with the CR as a whole. */
static bool is_refused(const struct resource *r, struct condition *c)
{
    if (r->cr.wrong) {
        plan_failure(c, "ConfigurationFailed",
                     "Technical connectivity is not configured. The Destination CR cannot be read: "
                     "%s",
                     r->cr.wrong);
        return true;
    }
    if (resource_is_gateway(r)) {
        plan_failure(c, REASON_PREFIX "DynamicDestination-NotSupported",
                     "Technical connectivity is not configured. destinationRef.name \"*\" has no "
                     "meaning for POP3; name a destination");
        return true;
    }
    if (list_empty(&r->endpoints)) {
        plan_failure(c, REASON_PREFIX "MultitenancyAnnotation-Invalid",
                     "Technical connectivity is not configured. \"" CR_ANNOTATION_TENANTS
                     "\" annotation is invalid: %s",
                     r->cr.tenants_wrong ? r->cr.tenants_wrong
                                         : "it is missing; with config.tenantMode: shared it names "
                                           "the tenants, [\"tenant-subdomain\"]");
        return true;
    }
    return !is_nameable(r, NULL, c);
}

/* ---- doing it ---- */

/* The results of the targets of a CR, for its condition. */
struct sum {
    unsigned waiting; /* number of targets that are not ready */
    unsigned unseen;  /* of the waiting: those that wait only for a policy, or for other replicas */
    bool silent;      /* the status stays that of its other manager */
    struct condition last;
    struct plan_tenants tenants;
};

static void note_endpoint_failure(struct sum *sum, struct endpoint *e,
                                  const struct condition *failure)
{
    if (!e->tenant) {
        sum->last = *failure;
        return;
    }
    e->failure = e->failure ? e->failure : mem_alloc(sizeof(*e->failure));
    *e->failure = *failure;
    plan_tenants_failed(&sum->tenants, e->tenant, failure);
}

static void note_endpoint_success(struct sum *sum, struct endpoint *e)
{
    bool named = e->resource->controller->settings.cluster_rules;
    if (!e->tenant) {
        plan_success(&sum->last, named ? e->service : NULL);
        return;
    }
    free(e->failure);
    e->failure = NULL;
    plan_tenants_served(&sum->tenants, e->tenant, named ? e->service : NULL);
}

/* Brings up listener and Services, unless there is trouble: then *c is the trouble. */
static int serve_endpoint(struct sum *sum, struct endpoint *e, struct condition *c)
{
    if (!endpoint_is_put_off(e)) {
        return endpoint_serve(e, c);
    }
    if (!e->trouble) {
        return AGAIN;
    }
    sum->silent |= e->trouble_silent;
    *c = *e->trouble;
    return ERR;
}

/* Returns AGAIN while the home Service is so new that clients would be refused: other replicas may
 * not listen on its port yet, and kube-proxy may not know it. */
static int wait_for_others(struct endpoint *e)
{
    struct resource *r = e->resource;
    const struct held_service *home = endpoint_service(e);
    int64_t until = home && home->since ? home->since + r->controller->settings.service_delay : 0;
    if (until <= resource_now(r)) {
        return OK;
    }
    resource_wake_at(r, until);
    return AGAIN;
}

/* Serves the pods that the CR names, once no others are admitted. */
static int serve_admitted(struct sum *sum, struct endpoint *e, struct condition *c)
{
    int rc = endpoint_exclude(e, c);
    rc = rc == OK ? serve_endpoint(sum, e, c) : rc;
    if (rc != OK) {
        return rc;
    }
    rc = endpoint_admit(e, c);
    rc = rc == OK ? wait_for_others(e) : rc;
    sum->unseen += rc == AGAIN;
    return rc;
}

/* Decides about one target and acts. Afterwards it is done, or waits, or its call is under way. */
static void reconcile_endpoint(struct sum *sum, struct endpoint *e)
{
    struct condition c;
    enum decision decision = decide_endpoint(e, &c);
    int rc = AGAIN;
    switch (decision) {
    case DECISION_WAIT:
        break;
    case DECISION_REFUSE:
        rc = endpoint_withdraw(e);
        break;
    case DECISION_HOLD:
        rc = endpoint_service(e) ? serve_endpoint(sum, e, &c) : OK;
        break;
    case DECISION_SERVE:
        rc = serve_admitted(sum, e, &c);
        break;
    }
    if (rc == AGAIN) {
        sum->waiting++;
    } else if (rc == OK && decision == DECISION_SERVE) {
        note_endpoint_success(sum, e);
    } else {
        note_endpoint_failure(sum, e, &c);
    }
}

static void show_sum(struct resource *r, struct sum *sum)
{
    bool shared = r->controller->config->tenant_mode == TENANTS_SHARED;
    if (sum->silent) {
        resource_settle(r);
    } else if (shared) {
        const char *served = plan_tenants_end(&sum->tenants, &sum->last);
        show_condition(r, &sum->last, served);
    } else {
        show_condition(r, &sum->last, NULL);
    }
    note_outcome(r);
}

static void reconcile_endpoints(struct resource *r)
{
    struct sum sum = {0};
    plan_tenants_begin(&sum.tenants);
    LIST_EACH (it, &r->endpoints) {
        struct endpoint *e = container_of(it, struct endpoint, link);
        if (endpoint_is_unread(e)) {
            sum.waiting++;
        } else if (r->operation == OPERATION_NONE) {
            reconcile_endpoint(&sum, e);
        }
    }
    if (r->operation == OPERATION_NONE && !sum.waiting) {
        show_sum(r, &sum);
    } else if (r->operation == OPERATION_NONE && sum.waiting == sum.unseen) {
        resource_settle(r); /* all targets exist */
    }
    plan_tenants_free(&sum.tenants);
}

/* If another manager has written the status, only our Services entitle us to a condition. So it is
 * written before they go. */
static void refuse_resource(struct resource *r, const struct condition *condition)
{
    if (r->cr.status_owner == CR_STATUS_FOREIGN) {
        show_condition(r, condition, NULL);
    }
    if (r->operation == OPERATION_NONE && endpoints_withdraw(r) != AGAIN) {
        show_condition(r, condition, NULL);
        note_outcome(r);
    }
}

static void reconcile_claimed(struct resource *r)
{
    struct condition condition;
    bool reading = r->reading || !list_empty(&r->unread);
    if (!resource_claimed(r)) {
        if (!reading) {
            leave_resource(r);
        }
    } else if (is_refused(r, &condition)) {
        refuse_resource(r, &condition);
    } else if (!endpoints_clean(r)) { /* first, because one of them may have a port of ours */
        reconcile_endpoints(r);
    }
}

static void hold_endpoints(struct resource *r)
{
    LIST_EACH (it, &r->endpoints) {
        struct error err;
        if (endpoint_hold(container_of(it, struct endpoint, link), &err) != OK) {
            log_line(LOG_ERROR, "control", "%s: %s", r->key, err.text);
        }
    }
}

void reconcile(struct resource *r)
{
    bool wanted = r->present && !r->cr.deleting;
    r->controller->stats.reconciles++;
    if (!r->controller->leads) {
        resource_follow(r);
        return;
    }
    status_forget(r);
    resource_count(r);
    resource_update_stance(r);
    if (wanted) {
        hold_endpoints(r);
    }
    settle_in_time(r);
    if (r->retry_at > resource_now(r)) {
        resource_wake_at(r, r->retry_at);
        return;
    }
    bool managed = wanted && resource_managed(r);
    if (managed && !resource_is_gateway(r)) {
        int64_t due = endpoints_read(r);
        if (due != INT64_MAX) {
            resource_wake_at(r, due);
        }
    } else {
        endpoints_stop_reading(r);
    }
    if (!resource_may_run(r)) {
        resource_wait(r);
        return;
    }
    if (!wanted) {
        withdraw_gone(r);
        return;
    }
    if (managed) {
        reconcile_claimed(r);
    } else {
        leave_resource(r);
    }
    if (r->operation == OPERATION_NONE && !r->reading) { /* the resource is at rest */
        r->retries = 0;
        status_forget(r);
    }
}
