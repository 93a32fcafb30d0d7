/* The Services of a target: one in the home namespace, and the alias in the CR's namespace. One
 * operation is under way at a time, and its answer decides about the next one.
 *
 *   wanted --> create --> exists --> whose is it? --> ours, or to be taken over --> apply
 *              apply                              --> another's --> trouble
 *   not wanted --> (its port is recorded) --> delete --> fails: an alias is cut off
 *
 * `trouble` is a refusal by the API server: it is shown in the condition, and the operation is
 * tried again later. */
#include "controller/services.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "controller/endpoint.h"
#include "controller/events.h"
#include "controller/held_services.h"
#include "controller/leftovers.h"
#include "controller/plan.h"
#include "controller/precedence.h"
#include "controller/queue.h"
#include "controller/resources.h"
#include "controller/resting_ports.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/mem.h"

/* Bounds of the delay after which a refused write is tried again. */
#define TROUBLE_FIRST SECONDS(1)
#define TROUBLE_MOST SECONDS(60)

/* Bounds of the delay after which a failed removal is tried again. */
#define REMOVAL_FIRST SECONDS(1)
#define REMOVAL_MOST SECONDS(60)

/* A failure that may pass by itself is shown when it has come this often in a row. */
enum { TROUBLES_SILENT_MAX = 3 };

/* ---- trouble ---- */

static void forget_trouble(struct endpoint *e)
{
    free(e->trouble);
    e->trouble = NULL;
}

static void put_off(struct endpoint *e)
{
    e->trouble_until =
        resource_now(e->resource) + backoff_delay(e->troubles++, TROUBLE_FIRST, TROUBLE_MOST, 10);
}

static void endpoint_set_trouble(struct endpoint *e, const struct condition *condition, bool silent)
{
    forget_trouble(e);
    e->trouble = mem_alloc(sizeof(*e->trouble));
    *e->trouble = *condition;
    e->trouble_silent = silent;
    put_off(e);
}

/* Sets a trouble that may pass by itself: the condition shows it only from the third time on. */
static void endpoint_set_passing_trouble(struct endpoint *e, const struct condition *condition)
{
    if (e->troubles + 1 < TROUBLES_SILENT_MAX) {
        put_off(e);
    } else {
        endpoint_set_trouble(e, condition, false);
    }
}

bool endpoint_is_put_off(struct endpoint *e)
{
    if (e->trouble_until <= resource_now(e->resource)) {
        forget_trouble(e);
        return false;
    }
    resource_wake_at(e->resource, e->trouble_until);
    return true;
}

static void on_service_refused(struct resource *r, const struct cluster_answer *answer)
{
    struct condition condition;
    log_line(LOG_WARN, "control", "%s: %s", r->key, answer->err.text);
    r->controller->stats.errors++;
    plan_failure(&condition, "ServiceCreationFailed", "%s%s", answer->err.text,
                 plan_name_advice(r->operand_name));
    if (r->operand) {
        endpoint_set_trouble(r->operand, &condition, false);
    }
}

/* Either the API server is away or busy, or it fails for this Service alone: because of an
 * admission webhook, or because the range of addresses is exhausted. */
static void on_service_not_written(struct resource *r, const struct cluster_answer *answer)
{
    struct condition condition;
    char sentence[PLAN_MESSAGE_MAX];
    log_line(LOG_WARN, "control", "%s: %s; tried again", r->key, answer->err.text);
    r->controller->stats.errors++;
    text_fmt(
        sentence, sizeof(sentence),
        "%s. It is tried again within a minute; if it goes on, see to what the API server says",
        answer->err.text);
    plan_failure_told(&condition, "ServiceCreationFailed", sentence);
    if (r->operand) {
        endpoint_set_passing_trouble(r->operand, &condition);
    }
}

/* ---- writing Services ---- */

static void on_service_answer(struct resource *r, const struct cluster_answer *answer);

static void call_service(struct resource *r, enum operation operation, enum cluster_verb verb,
                         const char *namespace, const char *name, const char *uid, struct str body)
{
    struct cluster_request request = {.verb = verb,
                                      .kind = &kind_service,
                                      .namespace = namespace,
                                      .name = name,
                                      .uid = uid,
                                      .body = body};
    if (name != r->operand_name) { /* if not, it is the same Service once more */
        free(r->operand_namespace);
        free(r->operand_name);
        r->operand_namespace = mem_strdup(namespace);
        r->operand_name = mem_strdup(name);
    }
    r->operand = resource_endpoint(r, name);
    resource_call(r, operation, &request, on_service_answer);
}

/* Returns the port that clients connect to: the CR's, or else that of the protocol. */
static uint16_t service_port(const struct endpoint *e)
{
    const struct held_service *held = endpoint_service(e);
    if (e->resource->cr.port) {
        return e->resource->cr.port;
    }
    if (!e->dest && held && held->service.port) {
        return held->service.port;
    }
    return e->dest && e->dest->protocol == MAIL_POP3S ? 995 : 110;
}

static struct repairs *repairs_of(struct endpoint *e, bool alias)
{
    return alias ? &e->alias_repairs : &e->home_repairs;
}

static void note_repair(struct endpoint *e, bool alias, uint64_t wish)
{
    const struct resource *r = e->resource;
    if (repairs_note(repairs_of(e, alias), wish, resource_now(e->resource))) {
        log_line(LOG_WARN, "control",
                 "%s: the Service %s/%s does not stay as it is written: somebody else changes or "
                 "deletes it again and again; it is put right less and less often",
                 r->key, alias ? r->namespace : r->controller->settings.home, e->service);
    }
}

/* Records the port of a home Service that is about to give it up as resting. Returns true when
 * that is under way. */
static bool record_port(struct resource *r, const struct held_service *held)
{
    struct controller *c = r->controller;
    uint16_t port = held->service.target_port;
    bool ours = port && c->settings.first_port <= port && port <= c->settings.last_port;
    if (!ours || resting_ports_leave(c->resting, port) == OK) {
        return false;
    }
    resource_begin(r, OPERATION_RECORD);
    list_append(&c->recording, &r->recording);
    return true;
}

/* Writes the home Service (or the alias) unless it is as it should be. OK: it is. AGAIN: it is
 * being written, or others have changed it back and it is too early to write it again. */
static int put_service(struct endpoint *e, bool alias)
{
    struct resource *r = e->resource;
    struct controller *c = r->controller;
    const char *namespace = alias ? r->namespace : c->settings.home;
    struct held_service *held = resource_service(r, namespace, e->service);
    if (held && held->checked) {
        return OK;
    }
    if (held && held->service.target_port != e->port && record_port(r, held)) {
        return AGAIN;
    }
    if (held) {
        held->removal = (struct removal){0}; /* it is wanted again */
        leftover_forget(held);
    }
    struct plan_service plan = {.home = c->settings.home,
                                .domain = c->settings.domain,
                                .cr = &r->cr,
                                .name = e->service,
                                .port = service_port(e),
                                .target_port = e->port,
                                .uid = held ? held->service.uid : NULL,
                                .strangers = held ? held->service.strangers : NULL,
                                .owners = held ? held->service.owners : NULL};
    struct service wanted = {0};
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = alias ? plan_alias_service(&body, &plan) : plan_home_service(&body, &plan);
    struct json *doc = rc == OK ? json_parse(buf_str(&body), NULL) : NULL;
    rc = doc ? service_parse(&wanted, json_root(doc), c->settings.home) : ERR;
    assert(rc == OK); /* our own text, of names and numbers that have been checked */
    bool same = held && held->service.digest == wanted.digest && !held->service.strangers;
    int64_t due = repairs_due(repairs_of(e, alias), wanted.digest);
    if (same) {
        held->checked = true;
    } else if (due > resource_now(e->resource)) {
        resource_wake_at(r, due);
    } else {
        note_repair(e, alias, wanted.digest);
        call_service(r, held ? OPERATION_APPLY : OPERATION_CREATE,
                     held ? CLUSTER_APPLY : CLUSTER_CREATE, namespace, e->service, NULL,
                     buf_str(&body));
    }
    json_free(doc);
    service_clear(&wanted);
    buf_free(&body);
    return same ? OK : AGAIN;
}

/* Returns ERR when others change one of the endpoint's Services again and again. *why says so, and
 * the resource is woken when it is known whether the last repair has lasted. */
static int check_contest(struct endpoint *e, struct condition *why)
{
    for (int alias = 0; alias < 2; alias++) {
        const struct repairs *repairs = repairs_of(e, alias);
        if (repairs_contested(repairs, resource_now(e->resource))) {
            const struct resource *r = e->resource;
            plan_failure(
                why, "ServiceCreationFailed",
                "Technical connectivity is not configured. The Service \"%s\" in the "
                "namespace \"%s\" does not stay as tproxy writes it: somebody else changes "
                "or deletes it again and again, or an admission webhook changes it. It is "
                "put right less and less often; see who writes it in its "
                "metadata.managedFields",
                e->service, alias ? r->namespace : r->controller->settings.home);
            resource_wake_at(e->resource, repairs->due);
            return ERR;
        }
    }
    return OK;
}

/* Writes both Services, one operation at a time. */
static int put_services(struct endpoint *e, struct condition *why)
{
    struct resource *r = e->resource;
    bool away = strcmp(r->namespace, r->controller->settings.home) != 0;
    int home = put_service(e, false), alias = OK;
    if (away && r->operation == OPERATION_NONE) {
        alias = put_service(e, true);
    }
    if (r->operation != OPERATION_NONE) {
        return AGAIN;
    }
    return check_contest(e, why) != OK ? ERR : home != OK ? home : alias;
}

int endpoint_serve(struct endpoint *e, struct condition *why)
{
    struct resource *r = e->resource;
    struct controller *c = r->controller;
    struct condition condition;
    struct error err;
    if (endpoint_port_is_shared(e)) {
        return AGAIN; /* the younger Service is about to get another port, which wakes us */
    }
    if (!e->target && endpoint_open(e, &err) != OK) {
        plan_failure(&condition, "ServiceCreationFailed", "%s", err.text);
        endpoint_set_trouble(e, &condition, false);
        resource_wake(r);
        return AGAIN;
    }
    int rc = c->settings.in_cluster ? put_services(e, why) : OK;
    if (rc == OK) {
        e->troubles = 0;
    }
    return rc;
}

/* ---- taking Services back ---- */

/* Tells whether clients still reach the home Service through the alias. Once we have cut it off it
 * does not count any more, whatever the users of its namespace make of it. */
static bool still_leads(const struct held_service *alias)
{
    return alias->service.leads && !alias->removal.cut;
}

/* Returns the Service of this name that goes next: first an alias that leads to the home Service,
 * then the home Service, whose name may pass to another CR. NULL: all are being deleted. */
static struct held_service *next_to_go(const struct resource *r, const char *name)
{
    struct held_service *home = resource_service(r, r->controller->settings.home, name);
    struct held_service *alias = resource_service(r, r->namespace, name);
    if (alias && alias != home && still_leads(alias)) {
        return alias;
    }
    if (home && !home->service.deleting) {
        return home;
    }
    return alias && !alias->service.deleting ? alias : NULL;
}

static void cut_alias(struct resource *r, const struct held_service *alias)
{
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_alias_cut(&body, alias->service.uid);
    assert(rc == OK);
    call_service(r, OPERATION_CUT, CLUSTER_APPLY, alias->service.namespace, alias->service.name,
                 NULL, buf_str(&body));
    buf_free(&body);
}

/* `next` is the Service that goes next; others that are not being deleted wait for it. */
static void note_leftover(struct resource *r, const char *namespace, const char *name,
                          const struct held_service *next)
{
    struct held_service *held = resource_service(r, namespace, name);
    if (held && (held == next || held->service.deleting) && r->operation == OPERATION_NONE) {
        leftover_note(held);
    }
}

/* Takes the next step towards the removal of the Services of this name. The watch tells of the end
 * of what is being deleted. An alias that a DELETE does not remove is made to lead nowhere. */
static void take_back(struct resource *r, const char *name)
{
    const struct held_service *held = next_to_go(r, name);
    note_leftover(r, r->controller->settings.home, name, held);
    note_leftover(r, r->namespace, name, held);
    if (!held || r->operation != OPERATION_NONE) {
        return;
    }
    if (held->removal.due > resource_now(r)) {
        resource_wake_at(r, held->removal.due);
    } else if (still_leads(held) && (held->removal.failed || held->service.deleting)) {
        cut_alias(r, held);
    } else if (!record_port(r, held)) {
        call_service(r, OPERATION_DELETE, CLUSTER_DELETE, held->service.namespace,
                     held->service.name, held->service.uid, (struct str){0});
    }
}

int endpoint_withdraw(struct endpoint *e)
{
    endpoint_close(e);
    take_back(e->resource, e->service);
    return e->resource->operation == OPERATION_NONE ? OK : AGAIN;
}

int endpoints_withdraw(struct resource *r)
{
    LIST_EACH (it, &r->endpoints) {
        endpoint_close(container_of(it, struct endpoint, link));
    }
    LIST_EACH (it, &r->services) {
        take_back(r, container_of(it, struct held_service, link)->service.name);
        if (r->operation != OPERATION_NONE) {
            return AGAIN;
        }
    }
    return OK;
}

static bool is_wanted(const struct resource *r, const struct service *s)
{
    return resource_endpoint(r, s->name) &&
           (strcmp(s->namespace, r->controller->settings.home) == 0 ||
            strcmp(s->namespace, r->namespace) == 0);
}

bool endpoints_clean(struct resource *r)
{
    LIST_EACH (it, &r->services) {
        struct held_service *held = container_of(it, struct held_service, link);
        if (!is_wanted(r, &held->service)) {
            take_back(r, held->service.name);
        }
        if (r->operation != OPERATION_NONE) {
            return true;
        }
    }
    return false;
}

/* ---- answers ---- */

/* Tells whether a user may have the Service taken over. SAP's proxy leaves nothing in the home
 * namespace that names its CR, so nobody can be asked about a Service there. */
static bool is_adoptable(const struct resource *r, struct json_value object)
{
    const char *home = r->controller->settings.home;
    return strcmp(r->operand_namespace, home) != 0 && service_is_alias(object, home);
}

/* The existing Service of the wanted name is not ours. */
static void on_name_taken(struct resource *r, bool adoptable)
{
    struct condition condition;
    bool silent = adoptable && r->cr.status_owner == CR_STATUS_FOREIGN;
    plan_failure(&condition, "ConfigurationError-K8sResourceWithNameAlreadyPresent",
                 "Technical connectivity is not configured. The Service \"%s\" in the namespace "
                 "\"%s\" is there already and is not tproxy's. Delete it (kubectl delete service "
                 "-n %s %s)%s",
                 r->operand_name, r->operand_namespace, r->operand_namespace, r->operand_name,
                 adoptable ? ", or annotate the Destination CR with " CR_ANNOTATION_ADOPT
                             ": \"true\" to have it taken over"
                           : ", or rename the Destination CR");
    if (r->operand) {
        endpoint_set_trouble(r->operand, &condition, silent);
        if (strcmp(r->operand_namespace, r->controller->settings.home) == 0) {
            endpoint_lose_name(r->operand);
        }
    }
    if (silent && (!r->last_event_reason || strcmp(r->last_event_reason, condition.reason) != 0)) {
        resource_send_event(r, &condition);
    }
}

/* The existing Service of the wanted name belongs to another CR of ours, which gives it up. */
static void on_rival_service(struct resource *r, struct resource *rival)
{
    struct condition condition;
    resource_wake(rival);
    plan_failure(&condition, "ConfigurationError-K8sResourceWithNameAlreadyPresent",
                 "Technical connectivity is not configured. The Service \"%s\" in the namespace "
                 "\"%s\" was made for the Destination CR \"%s\" in the namespace \"%s\", and is "
                 "not gone yet; if it does not go, see its metadata.finalizers",
                 r->operand_name, r->operand_namespace, rival->name, rival->namespace);
    if (r->operand) {
        endpoint_set_passing_trouble(r->operand, &condition);
    }
}

/* Takes in the existing Service of the wanted name. It is ours after all (somebody may have removed
 * its labels), or one that we may take over, or another's. */
static void on_conflicting_service(struct resource *r, struct json_value object)
{
    struct controller *c = r->controller;
    const char *home = c->settings.home;
    bool away = strcmp(r->operand_namespace, home) != 0;
    controller_take_service(c, object);
    if (resource_service(r, r->operand_namespace, r->operand_name)) {
        return;
    }
    if (resource_rival(r, r->operand_namespace, r->operand_name)) {
        on_rival_service(r, resource_rival(r, r->operand_namespace, r->operand_name));
        return;
    }
    bool made_by_us = away && service_is_made_for(object, r->name, home);
    if (!made_by_us && !(r->cr.adopt && is_adoptable(r, object))) {
        on_name_taken(r, is_adoptable(r, object));
        return;
    }
    struct service service;
    if (service_parse(&service, object, home) == OK) {
        log_line(LOG_INFO, "control", "%s: the Service %s/%s is %s", r->key, service.namespace,
                 service.name, made_by_us ? "ours, and put right" : "taken over");
        resource_hold_service(r, service);
    }
}

static struct held_service *operand_service(const struct resource *r)
{
    return resource_service(r, r->operand_namespace, r->operand_name);
}

static void service_went(struct resource *r)
{
    struct held_service *held = operand_service(r);
    if (held) {
        resource_drop_service(r, held);
    }
}

/* A write that has failed was not a repair, and a Service that we have deleted needs none. */
static void correct_repairs(struct resource *r)
{
    if (!r->operand) {
        return;
    }
    struct repairs *repairs =
        repairs_of(r->operand, strcmp(r->operand_namespace, r->controller->settings.home) != 0);
    if (r->operation == OPERATION_DELETE || r->operation == OPERATION_CUT) {
        repairs_forget(repairs);
    } else if (r->operation != OPERATION_LOOK) {
        repairs_failed(repairs, resource_now(r));
    }
}

/* Reads the Service that has the name. */
static void read_conflicting_service(struct resource *r)
{
    call_service(r, OPERATION_LOOK, CLUSTER_GET, r->operand_namespace, r->operand_name, NULL,
                 (struct str){0});
}

/* A DELETE or a cut has failed. Nothing else waits for it, because there may be no CR any more that
 * could show it. An alias that cannot be deleted is cut off at once. */
static void removal_failed(struct resource *r, const struct cluster_answer *answer)
{
    struct held_service *held = operand_service(r);
    r->controller->stats.errors++;
    if (!held || leftover_failed(held, answer->err.text)) {
        log_line(LOG_WARN, "control", "%s: %s; tried again", r->key, answer->err.text);
    }
    if (held) {
        struct removal *removal = &held->removal;
        removal->failed = r->operation == OPERATION_DELETE;
        if (!removal->failed || !still_leads(held)) {
            removal->due =
                resource_now(r) + backoff_delay(removal->tries++, REMOVAL_FIRST, REMOVAL_MOST, 10);
        }
    }
}

/* Takes in the Service that the answer to a change brings. */
static void take_changed_service(struct resource *r, struct json_value object)
{
    if (follower_is_news(&r->controller->followers[FOLLOW_SERVICES], object)) {
        controller_take_service(r->controller, object);
    }
    struct held_service *held = operand_service(r);
    if (held && r->operation == OPERATION_CUT) {
        held->removal.cut = true;
    }
}

static void on_service_answer(struct resource *r, const struct cluster_answer *answer)
{
    enum operation operation = r->operation;
    bool removes = operation == OPERATION_DELETE || operation == OPERATION_CUT;
    if (answer->result != CLUSTER_DONE || removes) {
        correct_repairs(r);
    } else if (operation != OPERATION_LOOK) {
        r->conflicts = 0;
    }
    switch (answer->result) {
    case CLUSTER_DONE:
        if (operation == OPERATION_LOOK) {
            on_conflicting_service(r, answer->object);
        } else if (operation == OPERATION_DELETE && !json_exists(answer->object)) {
            service_went(r);
        } else {
            take_changed_service(r, answer->object);
        }
        break;
    case CLUSTER_EXISTS:
        read_conflicting_service(r);
        break;
    case CLUSTER_ABSENT:
        service_went(r);
        if (operation == OPERATION_CREATE) {
            on_service_refused(r, answer); /* its namespace may be going */
        } else if (!removes) {
            resource_conflicted(r);
        }
        break;
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        if (removes) {
            removal_failed(r, answer);
        } else if (answer->result == CLUSTER_REFUSED) {
            on_service_refused(r, answer);
        } else {
            on_service_not_written(r, answer);
        }
        break;
    case CLUSTER_CONFLICT: /* another Service may have its name */
        if (operation == OPERATION_DELETE) {
            removal_failed(r, answer);
            break;
        }
        resource_conflicted(r);
        if (operation == OPERATION_APPLY) {
            read_conflicting_service(r);
        }
        break;
    }
}
