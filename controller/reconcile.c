/* One CR, brought to what it should be: level-based, one operation at a time, from the top each
 * time something has happened. Its targets (endpoint.c) are decided about one by one; what becomes
 * of them is summed up in one condition.
 *
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
 * What fails for a while is tried again by the timer, later each time; what the API server refuses
 * is `trouble` and shown in the condition until then. */
#include "controller/reconcile.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/config.h"
#include "configuration/configuration.h"
#include "controller/endpoint.h"
#include "controller/exposure.h"
#include "controller/health.h"
#include "controller/leftovers.h"
#include "controller/precedence.h"
#include "controller/state.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/stamp.h"
#include "lib/sys.h"

#define RETRY_FIRST SECONDS(1)
#define RETRY_MOST SECONDS(60)

/* A message in which only the words of another server have changed is written at most so often. */
#define WORDS_PAUSE SECONDS(5 * 60)

/* How often a deleted CR is checked again while its CRD is missing or not shown. Once the CRD is
 * back, its CRs are expected to be applied again, within CONTROL_GRACE. */
#define CONFIRM_AGAIN SECONDS(2)

/* How often in a row a refusal to show the CRD is not believed: the API server may not know yet of
 * rights that were given a moment ago. */
enum { CONFIRM_REFUSALS = 3 };

/* How long a CR waits for the name of another one before its condition says so. */
#define NAME_PATIENCE SECONDS(2)

/* Events about one resource, and about all of one namespace: so many at once, and then one in each
 * interval. */
#define EVENT_INTERVAL_OF_ONE SECONDS(60)
#define EVENT_INTERVAL_OF_SPACE SECONDS(1)
enum { EVENTS_OF_ONE = 10, EVENTS_OF_SPACE = 1000 };

#define REASON_PREFIX "ConfigurationError-"

static const char *const operation_names[] = {
    [OPERATION_NONE] = "nothing",     [OPERATION_CREATE] = "creating",
    [OPERATION_LOOK] = "looking at",  [OPERATION_APPLY] = "changing",
    [OPERATION_DELETE] = "deleting",  [OPERATION_CUT] = "cutting off",
    [OPERATION_STATUS] = "status",    [OPERATION_REREAD] = "reading",
    [OPERATION_EVENT] = "event",      [OPERATION_CONFIRM] = "confirming",
    [OPERATION_RECORD] = "recording",
};
static_assert(ARRAY_LEN(operation_names) == OPERATION_RECORD + 1, "every operation has its name");

/* ---- time ---- */

static int64_t now_of(const struct resource *r)
{
    return loop_now(r->control->loop);
}

static void on_timer(struct timer *t)
{
    t->due = 0;
    resource_wake(container_of(t, struct resource, timer));
}

void resource_wake_at(struct resource *r, int64_t due)
{
    if (!r->timer.due || due < r->timer.due) {
        timer_set(r->control->loop, &r->timer, due, on_timer);
    }
}

static const struct config *config_of(const struct resource *r)
{
    return configuration_config(r->control->configuration);
}

/* ---- operations ---- */

void resource_begin(struct resource *r, enum operation operation)
{
    if (log_enabled(LOG_TRACE)) {
        log_line(LOG_TRACE, "control", "%s: %s -> %s", r->key, operation_names[r->operation],
                 operation_names[operation]);
    }
    if (r->operation == OPERATION_NONE) {
        r->control->queue.running++;
        r->space->running++;
    }
    if (operation == OPERATION_NONE) {
        r->control->queue.running--;
        r->space->running--;
    }
    r->operation = operation;
}

static void set_shown(struct resource *r, const struct condition *condition)
{
    free(r->shown);
    r->shown = condition ? mem_alloc(sizeof(*condition)) : NULL;
    if (condition) {
        *r->shown = *condition;
    }
}

/* What is told of it while its status is written: afterwards nobody needs it. */
static void forget_shown(struct resource *r)
{
    set_shown(r, NULL);
    LIST_EACH (it, &r->tenants) {
        struct tenant *t = container_of(it, struct tenant, link);
        free(t->failure);
        t->failure = NULL;
    }
}

void resource_over(struct resource *r)
{
    r->call = NULL;
    r->operand = NULL;
    list_remove(&r->recording);
    r->again = false;
    resource_begin(r, OPERATION_NONE);
    resource_wake(r);
}

static void on_answer(const struct cluster_answer *answer, void *arg)
{
    struct resource *r = arg;
    r->call = NULL;
    if (r->done) {
        r->done(r, answer);
    }
    if (!r->call) {
        resource_over(r); /* else the next one has begun */
    }
}

void resource_call(struct resource *r, enum operation operation,
                   const struct cluster_request *request,
                   void (*done)(struct resource *r, const struct cluster_answer *answer))
{
    struct cluster_handler handler = {.done = on_answer, .arg = r};
    resource_begin(r, operation);
    r->done = done;
    r->control->stats.writes += request->verb != CLUSTER_GET;
    r->call = cluster_call(r->control->parts.cluster, request, handler);
}

/* Nothing is tried for a while. */
static void try_later(struct resource *r)
{
    r->retry_at = now_of(r) + backoff_delay(r->retries++, RETRY_FIRST, RETRY_MOST, 10);
}

void resource_conflicted(struct resource *r)
{
    if (r->conflicts++ > 0) {
        try_later(r);
    }
}

static void call_failed(struct resource *r, const struct cluster_answer *answer)
{
    log_line(LOG_WARN, "control", "%s: %s; tried again", r->key, answer->err.text);
    r->control->stats.errors++;
    try_later(r);
}

/* ---- whose is it? ---- */

bool resource_is_gateway(const struct resource *r)
{
    return strcmp(r->cr.ref.name, "*") == 0;
}

/* Have we served it? Its Service in the home namespace proves that: users cannot write there. */
static bool is_served(const struct resource *r)
{
    LIST_EACH (it, &r->services) {
        const struct held_service *held = container_of(it, struct held_service, link);
        if (strcmp(held->service.namespace, r->control->settings.home) == 0) {
            return true;
        }
    }
    return false;
}

/* It may be another proxy's: only where nobody else has spoken, or we have served it. */
static bool is_free(const struct resource *r)
{
    return r->cr.status_owner != CR_STATUS_FOREIGN || is_served(r);
}

/* Is its destination POP3 mail, or may it be? A destination that has not been read may be. */
static bool is_claimed(const struct tenant *t)
{
    if (!t->read) {
        return false;
    }
    switch (t->verdict) {
    case VERDICT_TYPE_NOT_SUPPORTED:
        return false;
    case VERDICT_NOT_FOUND:
    case VERDICT_FRAGMENT_NOT_FOUND:
    case VERDICT_INSTANCE_NOT_CONFIGURED:
    case VERDICT_UNREADABLE:
        return is_free(t->resource);
    case VERDICT_OK:
    case VERDICT_PROXY_TYPE_NOT_SUPPORTED:
    case VERDICT_AUTHENTICATION_NOT_SUPPORTED:
    case VERDICT_URL_NOT_SUPPORTED:
    case VERDICT_LOOPBACK_URL_NOT_SUPPORTED:
    case VERDICT_KEY_STORE_INVALID:
    case VERDICT_CONFIGURATION_FAILED:
    case VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED:
    case VERDICT_TENANT_MODE_MISMATCH:
    case VERDICT_COUNT:
        break;
    }
    return true;
}

bool resource_claimed(const struct resource *r)
{
    if (r->control->settings.claim_all) {
        return true;
    }
    if (resource_is_gateway(r)) {
        return false;
    }
    LIST_EACH (it, &r->tenants) {
        if (is_claimed(container_of(it, struct tenant, link))) {
            return true;
        }
    }
    return list_empty(&r->tenants) && is_free(r);
}

static enum stance stance_of(const struct resource *r)
{
    if (!r->present || r->cr.deleting || !resource_managed(r)) {
        return STANCE_NONE;
    }
    if (resource_claimed(r)) {
        return STANCE_WANTS;
    }
    return tenants_known(r) || resource_is_gateway(r) ? STANCE_NONE : STANCE_UNKNOWN;
}

/* ---- conditions and Events ---- */

static void patch_status(struct resource *r, const struct condition *condition, const char *served,
                         void (*done)(struct resource *r, const struct cluster_answer *answer))
{
    struct buf body;
    char now[STAMP_SIZE];
    struct cluster_request request = {.verb = CLUSTER_PATCH_STATUS,
                                      .kind = &kind_destination,
                                      .namespace = r->namespace,
                                      .name = r->name};
    stamp_now(now);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_status(&body, &r->cr, condition, served, now);
    assert(rc == OK);
    request.body = buf_str(&body);
    resource_call(r, OPERATION_STATUS, &request, done);
    buf_free(&body);
}

/* Is there room for one more? `full`: when the room for all of them will be there again. */
static bool has_room(int64_t full, int64_t now, int64_t interval, int most)
{
    return full < now + most * interval;
}

static void take_room(int64_t *full, int64_t now, int64_t interval)
{
    *full = (*full > now ? *full : now) + interval;
}

/* Whoever lets resources flip must not fill the storage of the API server with Events. */
static bool may_tell(struct resource *r)
{
    int64_t now = now_of(r), *of_one = &r->events_full, *of_space = &r->space->events_full;
    if (!has_room(*of_one, now, EVENT_INTERVAL_OF_ONE, EVENTS_OF_ONE) ||
        !has_room(*of_space, now, EVENT_INTERVAL_OF_SPACE, EVENTS_OF_SPACE)) {
        r->control->stats.events_left_out++;
        return false;
    }
    take_room(of_one, now, EVENT_INTERVAL_OF_ONE);
    take_room(of_space, now, EVENT_INTERVAL_OF_SPACE);
    return true;
}

static void post_event(struct resource *r, bool warning, const char *reason, const char *note)
{
    struct control *c = r->control;
    struct cr unseen = {.namespace = r->namespace, .name = r->name, .uid = ""};
    if (!may_tell(r)) {
        return;
    }
    struct buf body;
    char now[STAMP_SIZE], name[320];
    struct cluster_request request = {
        .verb = CLUSTER_CREATE, .kind = &kind_event, .namespace = r->namespace, .name = name};
    uint64_t id;
    sys->random(&id, sizeof(id));
    stamp_now_exactly(now);
    text_fmt(name, sizeof(name), "%.230s.%016llx", r->name, (unsigned long long)id);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_event(&body, r->cr.name ? &r->cr : &unseen, name, c->settings.instance, warning,
                        reason, note, now);
    assert(rc == OK);
    request.body = buf_str(&body);
    resource_call(r, OPERATION_EVENT, &request, NULL); /* a courtesy: nobody misses one */
    buf_free(&body);
}

void resource_send_event(struct resource *r, const struct condition *condition)
{
    r->told = condition->reason;
    post_event(r, !condition->available, condition->reason, condition->message);
}

/* An annotation without effect is a mistake, or waits for another configuration. */
static void tell_ignored(struct resource *r)
{
    static const char note[] =
        "The annotation " CR_ANNOTATION_TENANTS " is ignored: config.tenantMode is dedicated";
    bool there = r->cr.n_tenants || r->cr.tenants_wrong;
    bool tell = r->tell_ignored && there && config_of(r)->tenant_mode == TENANTS_DEDICATED;
    r->tell_ignored = false;
    if (tell) {
        log_line(LOG_WARN, "control", "%s: %s", r->key, note);
        if (r->control->settings.in_cluster) {
            post_event(r, true, "MultitenancyAnnotation-Ignored", note);
        }
    }
}

/* A resource that has been read and waits longer than this, for a Service that does not go say,
 * counts as settled: the others do not wait for it. */
#define SETTLE_WITHIN SECONDS(10)

static void settled(struct resource *r)
{
    if (r->present && !r->settled) {
        r->settled = true;
        resource_count(r);
        resource_count_unsettled(r, -1);
    }
}

/* The status cannot be written without losing conditions of other controllers, so an Event says
 * what the condition would. */
static void tell_instead(struct resource *r, const struct condition *condition)
{
    char note[PLAN_MESSAGE_MAX];
    text_fmt(note, sizeof(note),
             "The status cannot say so, because its conditions of other controllers take more than "
             "%d octets (remove some): %s",
             CR_CONDITIONS_MAX, condition->message);
    if (!r->told || strcmp(r->told, condition->reason) != 0) {
        r->told = condition->reason;
        log_line(LOG_WARN, "control", "%s: %s", r->key, note);
        post_event(r, !condition->available, condition->reason, note);
    }
}

static void settle_in_time(struct resource *r)
{
    if (r->settled || !r->present || r->reading || !tenants_known(r)) {
        return;
    }
    r->settle_by = r->settle_by ? r->settle_by : now_of(r) + SETTLE_WITHIN;
    if (r->settle_by <= now_of(r)) {
        settled(r);
    } else {
        resource_wake_at(r, r->settle_by);
    }
}

/* The status is about to say something else than what it says. Notes whose change it is. */
static void note_change(struct resource *r, uint64_t wish)
{
    r->telling = r->status_repairs.wish == wish ? TELL_NOTHING : TELL_CONDITION;
    if (repairs_note(&r->status_repairs, wish, now_of(r))) {
        r->telling = TELL_CONTEST;
    }
}

/* Makes the CR say so, and which tenants are served ("a,b"; NULL: none). */
static void status_show(struct resource *r, const struct condition *condition, const char *served,
                        void (*done)(struct resource *r, const struct cluster_answer *answer))
{
    uint64_t wish = plan_condition_digest(condition, served);
    bool tenants_kept = !r->tenants_lost || !r->control->tenants_pruned;
    enum plan_shown shown = plan_shown(&r->cr, condition, served, tenants_kept);
    int64_t due = shown == PLAN_SHOWN_NOT ? repairs_due(&r->status_repairs, wish) : r->words_due;
    if (shown != PLAN_SHOWN_NOT && r->status_repairs.wish != wish) {
        repairs_note(&r->status_repairs, wish, now_of(r)); /* written before the restart */
    }
    if (r->control->status_missing && due < r->control->status_retried) {
        due = r->control->status_retried;
    }
    if (shown == PLAN_SHOWN || due > now_of(r)) {
        if (shown != PLAN_SHOWN) {
            resource_wake_at(r, due);
        }
        tell_ignored(r);
        return;
    }
    if (r->cr.conditions_unread) {
        tell_instead(r, condition);
        return;
    }
    if (shown == PLAN_SHOWN_NOT) {
        note_change(r, wish);
    } else {
        r->telling = TELL_WORDS;
    }
    r->words_due = now_of(r) + WORDS_PAUSE;
    r->shows_tenants = served;
    set_shown(r, condition);
    patch_status(r, condition, served, done);
}

/* ---- answers ---- */

/* Each target is told what becomes of it: what concerns it alone, or the whole CR. */
static void tell_changed(const struct resource *r)
{
    const struct control_handler *h = &r->control->handler;
    struct condition success;
    LIST_EACH (it, &r->tenants) {
        const struct tenant *t = container_of(it, struct tenant, link);
        bool works = t->name && t->target && !t->failure;
        plan_success(&success, r->control->settings.in_cluster ? t->service : NULL);
        h->changed(r->namespace, t->service,
                   works        ? &success
                   : t->failure ? t->failure
                                : r->shown,
                   t->target ? t->port : 0, h->arg);
    }
    if (list_empty(&r->tenants)) {
        h->changed(r->namespace, r->name, r->shown, 0, h->arg);
    }
}

/* The object is the CR as it was then: by now it may be gone, or another one. */
static bool is_same(const struct resource *r, struct json_value object)
{
    struct json_value uid = json_get(json_get(object, "metadata"), "uid");
    return r->present && (json_is(uid, r->cr.uid) || !r->control->settings.in_cluster);
}

/* An API server whose CRD does not have status.tenants drops the field. */
static void note_tenants(struct resource *r, struct json_value object)
{
    struct control *c = r->control;
    if (!r->shows_tenants) {
        return;
    }
    r->tenants_lost = !json_given(json_get(json_get(object, "status"), "tenants"));
    if (c->tenants_pruned == r->tenants_lost) {
        return;
    }
    c->tenants_pruned = r->tenants_lost;
    if (c->tenants_pruned) {
        log_line(LOG_WARN, "control", "%s", CONTROL_TENANTS_PRUNED);
    } else {
        log_line(LOG_INFO, "control", "the API server stores status.tenants of Destinations again");
        control_wake_all(c);
    }
}

static void status_written(struct resource *r, const struct cluster_answer *answer)
{
    struct control *c = r->control;
    r->conflicts = 0;
    if (c->status_missing) {
        c->status_missing = false;
        log_line(LOG_INFO, "control", "the CRD of Destinations has the subresource status now");
        control_wake_all(c);
    }
    note_tenants(r, answer->object);
    if (is_same(r, answer->object) &&
        follower_is_news(&c->followers[FOLLOW_RESOURCES], answer->object)) {
        control_take_resource(c, answer->object);
    }
    if (r->shown && (r->telling == TELL_CONDITION || r->telling == TELL_WORDS)) {
        tell_changed(r);
    }
}

static void tell_contest(struct resource *r)
{
    static const char note[] =
        "The status does not stay as it is written: somebody else changes it again and again, or "
        "the API server stores something else. It is written again less and less often";
    log_line(LOG_WARN, "control", "%s: %s", r->key, note);
    post_event(r, true, "StatusContested", note);
}

static void tell_status(struct resource *r)
{
    if (!r->present || !r->control->settings.in_cluster || !r->shown) {
        return;
    }
    switch (r->telling) {
    case TELL_NOTHING:
    case TELL_WORDS:
        break;
    case TELL_CONDITION:
        resource_send_event(r, r->shown);
        break;
    case TELL_CONTEST:
        tell_contest(r);
        break;
    }
}

/* An older CRD has no subresource for the status, and then no CR has one. */
static void status_is_missing(struct control *c)
{
    c->status_retried = loop_now(c->loop) + CONTROL_STATUS_AGAIN;
    if (!c->status_missing) {
        c->status_missing = true;
        log_line(LOG_WARN, "control", "%s", CONTROL_STATUS_MISSING);
        configuration_tell(c->configuration, "StatusSubresourceMissing", CONTROL_STATUS_MISSING);
    }
}

static void on_reread(struct resource *r, const struct cluster_answer *answer)
{
    struct control *c = r->control;
    if (answer->result == CLUSTER_LATER || answer->result == CLUSTER_REFUSED) {
        call_failed(r, answer);
        return;
    }
    if (r->status_absent && answer->result == CLUSTER_DONE && is_same(r, answer->object)) {
        status_is_missing(r->control);
    } else {
        resource_conflicted(r);
    }
    if (answer->result == CLUSTER_DONE && is_same(r, answer->object) &&
        follower_is_news(&c->followers[FOLLOW_RESOURCES], answer->object)) {
        control_take_resource(c, answer->object);
    }
}

/* Others have changed the CR, and the watch has perhaps not told of it yet. */
static void reread(struct resource *r)
{
    struct cluster_request request = {
        .verb = CLUSTER_GET, .kind = &kind_destination, .namespace = r->namespace, .name = r->name};
    resource_call(r, OPERATION_REREAD, &request, on_reread);
}

static void on_status_answer(struct resource *r, const struct cluster_answer *answer)
{
    if (answer->result != CLUSTER_DONE) {
        repairs_failed(&r->status_repairs, now_of(r));
        r->words_due = 0;
    }
    switch (answer->result) {
    case CLUSTER_DONE:
        status_written(r, answer);
        tell_status(r);
        break;
    case CLUSTER_CONFLICT:
    case CLUSTER_ABSENT: /* the CR has gone, or the CRD has no such subresource */
        r->status_absent = answer->result == CLUSTER_ABSENT;
        reread(r);
        break;
    case CLUSTER_EXISTS:
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        call_failed(r, answer);
        break;
    }
}

/* Is the CRD younger than the CR that went, or, of one that was never seen, than its Service? Times
 * are in seconds: in the same one it may be. */
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

/* Is there no right to read the CRD? An older Role may lack it: what went was the CR then. Once
 * this has been found out for one CR, the others do not wait. */
static bool is_crd_hidden(struct resource *r, const struct cluster_answer *answer)
{
    struct control *c = r->control;
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
        r->retry_at = now_of(r) + CONTROL_GRACE;
        return;
    }
    r->gone_confirmed = there || hidden;
    if (!r->gone_confirmed) {
        r->retry_at = now_of(r) + CONFIRM_AGAIN;
    }
}

/* ---- what is shown ---- */

static void show(struct resource *r, const struct condition *condition, const char *served)
{
    struct condition whole = *condition;
    settled(r);
    resource_say_leftover(r, &whole);
    status_show(r, &whole, served, on_status_answer);
}

/* ---- withdrawing ---- */

/* The CR is not for us, or not any more: our condition goes too. */
static void leave(struct resource *r)
{
    settled(r);
    if (tenants_withdraw(r) != AGAIN && r->cr.status_owner == CR_STATUS_OURS &&
        r->cr.available.status && !r->cr.conditions_unread) {
        repairs_forget(&r->status_repairs);
        r->shows_tenants = false;
        patch_status(r, NULL, NULL, on_status_answer);
    }
}

/* Deleting the CRD deletes the CRs too, and is not meant for their mailboxes: whoever deletes it
 * installs another one. */
static void confirm_gone(struct resource *r)
{
    struct cluster_request request = {
        .verb = CLUSTER_GET, .kind = &kind_crd, .name = "destinations." CR_GROUP};
    resource_call(r, OPERATION_CONFIRM, &request, on_confirm_answer);
}

static void tell_gone(const struct resource *r)
{
    const struct control_handler *h = &r->control->handler;
    LIST_EACH (it, &r->tenants) {
        h->gone(r->namespace, container_of(it, struct tenant, link)->service, h->arg);
    }
    if (list_empty(&r->tenants)) {
        h->gone(r->namespace, r->name, h->arg);
    }
}

static void withdraw_gone(struct resource *r)
{
    struct control *c = r->control;
    settled(r);
    if (c->settings.in_cluster && !r->gone_confirmed) {
        confirm_gone(r);
    } else if (tenants_withdraw(r) == OK && list_empty(&r->services) && !r->present) {
        if (r->settled) { /* else it never was there */
            tell_gone(r);
        }
        tenants_free(r);
        resource_free(r);
    }
}

/* ---- the decision ---- */

enum decision {
    DECISION_WAIT,   /* for what is known soon */
    DECISION_REFUSE, /* no Service may be there */
    DECISION_HOLD,   /* the destination is of no use now: a Service that is there stays */
    DECISION_SERVE,
};

static bool is_nameable(const struct resource *r, const struct tenant *t, struct condition *c)
{
    const char *name = t ? t->service : r->name, *objection = plan_name_objection(name);
    if (objection && r->control->settings.in_cluster) {
        plan_failure(
            c, "ServiceCreationFailed",
            "The name of the Destination CR%s, \"%.140s\", cannot be that of a Service: %s",
            t && t->name ? " with that of the tenant" : "", name, objection);
        return false;
    }
    return true;
}

/* The rival has lost the name, and gives up its Service: that wakes us. If it takes long, the
 * condition says what is in the way. */
static enum decision wait_for_name(struct tenant *t, struct resource *rival, struct condition *c)
{
    struct resource *r = t->resource;
    const char *home = r->control->settings.home;
    const struct held_service *held = resource_service(rival, home, t->service);
    const struct held_service *alias = resource_service(rival, rival->namespace, t->service);
    t->waits_since = t->waits_since ? t->waits_since : now_of(r);
    resource_wake(rival);
    if (now_of(r) < t->waits_since + NAME_PATIENCE) {
        resource_wake_at(r, t->waits_since + NAME_PATIENCE);
        return DECISION_WAIT;
    }
    plan_failure(
        c, REASON_PREFIX "K8sResourceWithNameAlreadyPresent",
        "Technical connectivity is not configured. The Service \"%s\" in the namespace "
        "\"%s\" was made for the Destination CR \"%s\" in the namespace \"%s\" and %s",
        t->service, home, rival->name, rival->namespace,
        held->service.deleting ? "is being deleted; it waits for its finalizers"
        : alias && alias != held
            ? "stays until the Service of this name there has been deleted or leads nowhere"
            : "has not been deleted yet");
    return DECISION_REFUSE;
}

static enum decision decide_place(const struct tenant *t, struct condition *c)
{
    switch (tenant_place(t)) {
    case PLACE_TAKEN:
        break;
    case PLACE_UNKNOWN:
        return DECISION_WAIT;
    case PLACE_NONE:
        plan_failure(c, "ConfigurationFailed",
                     "Technical connectivity is not configured. Older Destination CRs have all %zu "
                     "targets that one namespace may have (--namespace-targets); delete some, or "
                     "have the administrator of tproxy raise the bound",
                     t->resource->control->settings.namespace_targets);
        return DECISION_REFUSE;
    }
    return DECISION_SERVE;
}

static enum decision decide_name(struct tenant *t, struct condition *c)
{
    struct resource *r = t->resource;
    const struct resource *other;
    const char *home = r->control->settings.home;
    struct resource *rival = resource_rival(r, home, t->service);
    if (!r->control->settings.in_cluster) {
        return DECISION_SERVE;
    }
    if (!is_nameable(r, t, c)) {
        return DECISION_REFUSE;
    }
    switch (tenant_rank(t, &other)) {
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
    enum decision by_place = decide_place(t, c);
    if (by_place != DECISION_SERVE) {
        return by_place;
    }
    if (rival) {
        return wait_for_name(t, rival, c);
    }
    t->waits_since = 0;
    return DECISION_SERVE;
}

static enum decision decide(struct tenant *t, struct condition *c)
{
    enum decision by_name = decide_name(t, c);
    if (by_name == DECISION_SERVE && t->verdict == VERDICT_INSTANCE_NOT_CONFIGURED &&
        !configuration_knows_instances(t->resource->control->configuration)) {
        return DECISION_WAIT;
    }
    if (by_name == DECISION_SERVE && t->verdict != VERDICT_OK) {
        plan_verdict(c, &t->resource->cr, t->name, t->verdict, t->verdict_text);
        return DECISION_HOLD;
    }
    return by_name;
}

/* Is something wrong with the CR as a whole? */
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
    if (list_empty(&r->tenants)) {
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

/* What is to be said of the targets that have been looked at. */
struct sum {
    unsigned waiting;    /* so many are not there yet */
    unsigned unadmitted; /* so many of them wait for a policy alone */
    bool silent;         /* the status is left to whose it is */
    struct condition last;
    struct plan_tenants tenants;
};

static void note_failure(struct sum *sum, struct tenant *t, const struct condition *failure)
{
    if (!t->name) {
        sum->last = *failure;
        return;
    }
    t->failure = t->failure ? t->failure : mem_alloc(sizeof(*t->failure));
    *t->failure = *failure;
    plan_tenants_failed(&sum->tenants, t->name, failure);
}

static void note_success(struct sum *sum, struct tenant *t)
{
    bool in_cluster = t->resource->control->settings.in_cluster;
    if (!t->name) {
        plan_success(&sum->last, in_cluster ? t->service : NULL);
        return;
    }
    free(t->failure);
    t->failure = NULL;
    plan_tenants_served(&sum->tenants, t->name, in_cluster ? t->service : NULL);
}

/* Listener and Services, unless there is trouble, which is what is said then. */
static int serve(struct sum *sum, struct tenant *t, struct condition *c)
{
    if (!tenant_is_put_off(t)) {
        return tenant_serve(t, c);
    }
    if (!t->trouble) {
        return AGAIN;
    }
    sum->silent |= t->trouble_silent;
    *c = *t->trouble;
    return ERR;
}

/* Serves those whom the CR names, once nobody else is admitted. */
static int serve_admitted(struct sum *sum, struct tenant *t, struct condition *c)
{
    int rc = tenant_exclude(t, c);
    rc = rc == OK ? serve(sum, t, c) : rc;
    if (rc != OK) {
        return rc;
    }
    rc = tenant_admit(t, c);
    sum->unadmitted += rc == AGAIN;
    return rc;
}

/* One target, as decided. It is done, or waits, or its call is under way. */
static void bring(struct sum *sum, struct tenant *t)
{
    struct condition c;
    enum decision decision = decide(t, &c);
    int rc = AGAIN;
    switch (decision) {
    case DECISION_WAIT:
        break;
    case DECISION_REFUSE:
        rc = tenant_withdraw(t);
        break;
    case DECISION_HOLD:
        rc = tenant_service(t) ? serve(sum, t, &c) : OK;
        break;
    case DECISION_SERVE:
        rc = serve_admitted(sum, t, &c);
        break;
    }
    if (rc == AGAIN) {
        sum->waiting++;
    } else if (rc == OK && decision == DECISION_SERVE) {
        note_success(sum, t);
    } else {
        note_failure(sum, t, &c);
    }
}

static void show_sum(struct resource *r, struct sum *sum)
{
    bool shared = config_of(r)->tenant_mode == TENANTS_SHARED;
    if (sum->silent) {
        settled(r);
    } else if (shared) {
        const char *served = plan_tenants_end(&sum->tenants, &sum->last);
        show(r, &sum->last, served);
    } else {
        show(r, &sum->last, NULL);
    }
}

static void bring_all(struct resource *r)
{
    struct sum sum = {0};
    plan_tenants_begin(&sum.tenants);
    LIST_EACH (it, &r->tenants) {
        struct tenant *t = container_of(it, struct tenant, link);
        if (tenant_is_unread(t)) {
            sum.waiting++;
        } else if (r->operation == OPERATION_NONE) {
            bring(&sum, t);
        }
    }
    if (r->operation == OPERATION_NONE && !sum.waiting) {
        show_sum(r, &sum);
    } else if (r->operation == OPERATION_NONE && sum.waiting == sum.unadmitted) {
        settled(r); /* all targets are there */
    }
    plan_tenants_free(&sum.tenants);
}

/* Where another manager has written the status, only our Services entitle us to a condition: it is
 * written before they go. */
static void refuse(struct resource *r, const struct condition *condition)
{
    if (r->cr.status_owner == CR_STATUS_FOREIGN) {
        show(r, condition, NULL);
    }
    if (r->operation == OPERATION_NONE && tenants_withdraw(r) != AGAIN) {
        show(r, condition, NULL);
    }
}

static void act(struct resource *r)
{
    struct condition condition;
    bool reading = r->reading || !list_empty(&r->unread);
    if (!resource_claimed(r)) {
        if (!reading) {
            leave(r);
        }
    } else if (is_refused(r, &condition)) {
        refuse(r, &condition);
    } else if (!tenants_clean(r)) { /* first: one of them may have a port of ours */
        bring_all(r);
    }
}

void reconcile(struct resource *r)
{
    bool wanted = r->present && !r->cr.deleting;
    r->control->stats.reconciles++;
    forget_shown(r);
    resource_count(r);
    resource_set_stance(r, stance_of(r));
    LIST_EACH (it, &r->tenants) {
        if (wanted) {
            tenant_hold(container_of(it, struct tenant, link));
        }
    }
    settle_in_time(r);
    if (r->retry_at > now_of(r)) {
        resource_wake_at(r, r->retry_at);
        return;
    }
    bool managed = wanted && resource_managed(r);
    if (managed && !resource_is_gateway(r)) {
        int64_t due = tenants_read(r);
        if (due != INT64_MAX) {
            resource_wake_at(r, due);
        }
    } else {
        tenants_stop_reading(r);
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
        act(r);
    } else {
        leave(r);
    }
    if (r->operation == OPERATION_NONE && !r->reading) { /* the resource is at rest */
        r->retries = 0;
        forget_shown(r);
    }
}

void resource_give_up_call(struct resource *r)
{
    if (r->operation != OPERATION_NONE && r->operation != OPERATION_CONFIRM) {
        cluster_cancel(r->control->parts.cluster, r->call);
        resource_over(r);
    }
}

void reconcile_stop(struct resource *r)
{
    cluster_cancel(r->control->parts.cluster, r->call);
    if (r->reading) {
        tenants_stop_reading(r);
    }
    list_remove(&r->recording);
    r->call = NULL;
    if (r->operation != OPERATION_NONE) {
        resource_begin(r, OPERATION_NONE);
    }
}
