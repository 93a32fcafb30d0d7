/* The condition of a CR is written only when it says something else than before, and then followed
 * by an Event. A status that others change back is repaired less and less often. */
#include "controller/status.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/config.h"
#include "controller/events.h"
#include "controller/plan.h"
#include "controller/queue.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/stamp.h"

/* The shortest time between two messages that differ only in the words of another server. */
#define WORDS_PAUSE SECONDS(5 * 60)

static void set_pending_condition(struct resource *r, const struct condition *condition)
{
    free(r->pending_condition);
    r->pending_condition = condition ? mem_alloc(sizeof(*condition)) : NULL;
    if (condition) {
        *r->pending_condition = *condition;
    }
}

void status_forget(struct resource *r)
{
    set_pending_condition(r, NULL);
    LIST_EACH (it, &r->endpoints) {
        struct endpoint *e = container_of(it, struct endpoint, link);
        free(e->failure);
        e->failure = NULL;
    }
}

/* ---- Events ---- */

/* Returns a sentence about an annotation without effect, which is a mistake, or is meant for
 * another configuration. NULL: there is none. */
static const char *ignored_annotation(const struct resource *r)
{
    bool there = r->cr.n_tenants || r->cr.tenants_wrong;
    return there && r->controller->config->tenant_mode == TENANTS_DEDICATED
               ? "The annotation " CR_ANNOTATION_TENANTS
                 " is ignored: config.tenantMode is dedicated"
               : NULL;
}

static void tell_ignored(struct resource *r)
{
    const char *note = r->tell_ignored ? ignored_annotation(r) : NULL;
    r->tell_ignored = false;
    if (note) {
        log_line(LOG_WARN, "control", "%s: %s", r->key, note);
        if (r->controller->settings.in_cluster) {
            resource_post_event(r, true, "MultitenancyAnnotation-Ignored", note);
        }
    }
}

static void tell_contest(struct resource *r)
{
    static const char note[] =
        "The status does not stay as it is written: somebody else changes it again and again, or "
        "the API server stores something else. It is written again less and less often; "
        "see who writes it in its metadata.managedFields";
    log_line(LOG_WARN, "control", "%s: %s", r->key, note);
    resource_post_event(r, true, "StatusContested", note);
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
    if (!r->last_event_reason || strcmp(r->last_event_reason, condition->reason) != 0) {
        r->last_event_reason = condition->reason;
        log_line(LOG_WARN, "control", "%s: %s", r->key, note);
        resource_post_event(r, !condition->available, condition->reason, note);
    }
}

/* ---- the condition ---- */

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

/* Notes whether the condition changes because of us, or because others have changed the status. */
static void note_change(struct resource *r, uint64_t wish)
{
    r->telling = r->status_repairs.wish == wish ? TELL_NOTHING : TELL_CONDITION;
    if (repairs_note(&r->status_repairs, wish, resource_now(r))) {
        r->telling = TELL_CONTEST;
    }
}

void status_show(struct resource *r, const struct condition *condition, const char *served,
                 void (*done)(struct resource *r, const struct cluster_answer *answer))
{
    uint64_t wish = plan_condition_digest(condition, served);
    bool tenants_kept = !r->tenants_lost || !r->controller->tenants_pruned;
    enum plan_shown shown = plan_shown(&r->cr, condition, served, tenants_kept);
    int64_t due = shown == PLAN_SHOWN_NOT ? repairs_due(&r->status_repairs, wish) : r->words_due;
    if (shown != PLAN_SHOWN_NOT && r->status_repairs.wish != wish) {
        repairs_note(&r->status_repairs, wish,
                     resource_now(r)); /* an earlier process has written it */
    }
    if (r->controller->status_missing && due < r->controller->status_retried) {
        due = r->controller->status_retried;
    }
    if (shown == PLAN_SHOWN || due > resource_now(r)) {
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
    r->words_due = resource_now(r) + WORDS_PAUSE;
    r->shows_tenants = served;
    set_pending_condition(r, condition);
    patch_status(r, condition, served, done);
}

void status_remove(struct resource *r,
                   void (*done)(struct resource *r, const struct cluster_answer *answer))
{
    repairs_forget(&r->status_repairs);
    r->shows_tenants = false;
    patch_status(r, NULL, NULL, done);
}

/* ---- whom it concerns ---- */

/* For each target the handler gets its own condition; without one, that of the CR. */
static void tell_changed(const struct resource *r)
{
    const struct controller_handler *h = &r->controller->handler;
    struct controller_report report = {.namespace = r->namespace,
                                       .resource = r->name,
                                       .name = r->name,
                                       .destination = r->cr.ref.name,
                                       .remark = ignored_annotation(r),
                                       .condition = r->pending_condition};
    struct condition success;
    LIST_EACH (it, &r->endpoints) {
        const struct endpoint *e = container_of(it, struct endpoint, link);
        bool works = e->tenant && e->target && !e->failure;
        plan_success(&success, r->controller->settings.cluster_rules ? e->service : NULL);
        report.name = e->service;
        report.condition = works ? &success : e->failure ? e->failure : r->pending_condition;
        report.dest = e->dest;
        report.unread = e->verdict == VERDICT_UNREADABLE;
        report.port = e->target ? e->port : 0;
        h->changed(&report, h->arg);
    }
    if (list_empty(&r->endpoints)) {
        h->changed(&report, h->arg);
    }
}

void status_tell(struct resource *r)
{
    if (r->pending_condition && (r->telling == TELL_CONDITION || r->telling == TELL_WORDS)) {
        tell_changed(r);
    }
    if (!r->present || !r->controller->settings.in_cluster || !r->pending_condition) {
        return;
    }
    switch (r->telling) {
    case TELL_NOTHING:
    case TELL_WORDS:
        break;
    case TELL_CONDITION:
        resource_send_event(r, r->pending_condition);
        break;
    case TELL_CONTEST:
        tell_contest(r);
        break;
    }
}

void status_tell_gone(const struct resource *r)
{
    const struct controller_handler *h = &r->controller->handler;
    LIST_EACH (it, &r->endpoints) {
        h->gone(r->namespace, container_of(it, struct endpoint, link)->service, h->arg);
    }
    if (list_empty(&r->endpoints)) {
        h->gone(r->namespace, r->name, h->arg);
    }
}
