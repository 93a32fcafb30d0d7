/* One CR, brought to what it should be: level-based, one operation at a time, from the top each
 * time something has happened.
 *
 *   Service there, no listener  --> listen: its sessions do not wait for us
 *   CR gone, or not managed     --> confirm that it is not the CRD that went
 *                                   --> withdraw: listener, Services, condition --> (free)
 *   destination due             --> READ
 *   not ours to judge           --> withdraw what we once made
 *   judge: LEAVE | REFUSE | HOLD | SERVE
 *      REFUSE: no Service          \
 *      HOLD:   those that are there |--> condition --> Event
 *      SERVE:  listener, Services  /
 *
 * What fails for a while is tried again by the timer, later each time; what the API server refuses
 * is `trouble` and shown in the condition until then. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_private.h"
#include "core/config.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/sys.h"
#include "pop3.h"
#include "ports.h"

/* A destination that could not be read, or is wrong, is read again after UNREAD_FIRST, doubled up
 * to the configured interval. */
#define UNREAD_FIRST SECONDS(5)
#define RETRY_FIRST SECONDS(1)
#define RETRY_MOST SECONDS(60)

/* A resource that has not come to rest after so many calls in a row has a pause: the API server may
 * keep something else than is written to it, or somebody writes the opposite. */
enum { CALLS_MAX = 16 };

/* While its CRD is away, a CR that went is looked at again as often. Once there is another CRD, its
 * CRs are about to be applied again. */
#define CONFIRM_AGAIN SECONDS(2)
#define CRD_GRACE SECONDS(120)

#define REASON_PREFIX "ConfigurationError-"

/* To see whether the CRD of the CRs is on its way out. */
static const struct cluster_kind kind_crd = {
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"};

static const char *const operation_names[] = {
    [OPERATION_NONE] = "nothing",       [OPERATION_READ] = "reading the destination",
    [OPERATION_CREATE] = "creating",    [OPERATION_LOOK] = "looking at",
    [OPERATION_APPLY] = "changing",     [OPERATION_DELETE] = "deleting",
    [OPERATION_STATUS] = "status",      [OPERATION_EVENT] = "event",
    [OPERATION_CONFIRM] = "confirming",
};
static_assert(ARRAY_LEN(operation_names) == OPERATION_CONFIRM + 1, "every operation has its name");

static void on_answer(const struct cluster_answer *answer, void *arg);

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

/* Wakes it at `due`, or earlier if that was planned already. */
static void wake_at(struct resource *r, int64_t due)
{
    if (!r->timer.due || due < r->timer.due) {
        timer_set(r->control->loop, &r->timer, due, on_timer);
    }
}

/* `first`, doubled for each time before, at most `most`; a tenth of chance keeps many apart. */
static int64_t backoff(unsigned times, int64_t first, int64_t most)
{
    uint32_t dice;
    int64_t pause = times < 16 ? first << times : most;
    sys->random(&dice, sizeof(dice));
    pause = pause < most ? pause : most;
    return pause - (int64_t)(dice % 1000) * (pause / 10000);
}

/* ---- operations ---- */

static void set_operation(struct resource *r, enum operation operation)
{
    if (log_enabled(LOG_TRACE)) {
        log_line(LOG_TRACE, "control", "%s: %s -> %s", r->key, operation_names[r->operation],
                 operation_names[operation]);
    }
    if (r->operation == OPERATION_NONE) {
        r->control->running++;
    }
    if (operation == OPERATION_NONE) {
        r->control->running--;
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

static void operation_over(struct resource *r)
{
    r->call = NULL;
    r->request = NULL;
    set_shown(r, NULL);
    r->again = false;
    set_operation(r, OPERATION_NONE);
    resource_wake(r);
}

static void start_call(struct resource *r, enum operation operation,
                       const struct cluster_request *request)
{
    struct cluster_handler handler = {.done = on_answer, .arg = r};
    r->calls += operation != OPERATION_CONFIRM; /* which has a pace of its own */
    set_operation(r, operation);
    r->control->stats.writes += operation != OPERATION_LOOK && operation != OPERATION_CONFIRM;
    r->call = cluster_call(r->control->parts.cluster, request, handler);
}

static void start_service_call(struct resource *r, enum operation operation, enum cluster_verb verb,
                               const char *namespace, const char *name, const char *uid,
                               struct str body)
{
    struct cluster_request request = {.verb = verb,
                                      .kind = &kind_service,
                                      .namespace = namespace,
                                      .name = name,
                                      .uid = uid,
                                      .body = body};
    if (name != r->operand_name) { /* else the same Service once more */
        free(r->operand_namespace);
        free(r->operand_name);
        r->operand_namespace = mem_strdup(namespace);
        r->operand_name = mem_strdup(name);
    }
    start_call(r, operation, &request);
}

/* The API server is away, or busy: nothing is tried for a while. */
static void try_later(struct resource *r)
{
    r->calls = 0;
    r->retry_at = now_of(r) + backoff(r->retries++, RETRY_FIRST, RETRY_MOST);
}

/* What stands in the way, for the condition, until it is tried again. */
static void set_trouble(struct resource *r, const struct condition *condition, bool silent)
{
    free(r->trouble);
    r->trouble = mem_alloc(sizeof(*r->trouble));
    *r->trouble = *condition;
    r->trouble_silent = silent;
    r->trouble_until = now_of(r) + backoff(r->troubles++, RETRY_FIRST, RETRY_MOST);
}

/* ---- reading the destination ---- */

static const struct config *config_of(const struct resource *r)
{
    return configuration_config(r->control->configuration);
}

static struct dest_ref ref_of(const struct resource *r)
{
    struct dest_ref ref = r->cr.ref;
    ref.instance = ref.instance ? ref.instance
                                : configuration_default_instance(r->control->configuration);
    return ref;
}

static bool is_gateway(const struct resource *r)
{
    return strcmp(r->cr.ref.name, "*") == 0;
}

static void plan_next_reading(struct resource *r)
{
    int64_t interval = config_of(r)->interval;
    r->unread = r->verdict == VERDICT_OK ? 0 : r->unread + 1;
    r->read_due = now_of(r) + (r->unread ? backoff(r->unread - 1, UNREAD_FIRST, interval)
                                         : backoff(0, interval, interval));
}

static void set_destination(struct resource *r, const struct dest_answer *answer)
{
    const struct destination *before = r->dest;
    if (answer->dest && (!before || !destination_equal(before, answer->dest))) {
        if (before) {
            log_line(LOG_INFO, "control", "%s: changed", r->key);
        }
        for (size_t i = 0; i < answer->dest->n_warnings; i++) {
            log_line(LOG_WARN, "control", "%s: %s", r->key, answer->dest->warnings[i]);
        }
    }
    if (!r->read || r->verdict != answer->verdict) {
        resource_wake_namesakes(r); /* they wait to learn who wants the name */
    }
    r->dest = answer->dest ? destination_ref(answer->dest) : NULL;
    destination_unref(before);
    r->verdict = answer->verdict;
    free(r->verdict_text);
    r->verdict_text = answer->dest ? NULL : mem_strdup(answer->err.text);
    r->read = true;
    plan_next_reading(r);
    if (r->target) {
        struct dest_ref ref = ref_of(r);
        pop3_change(r->target, &ref, r->dest);
    }
}

static void on_read(const struct dest_answer *answer, void *arg)
{
    struct resource *r = arg;
    if (r->present) {
        set_destination(r, answer);
    }
    operation_over(r);
}

static bool must_read(const struct resource *r)
{
    return !is_gateway(r) && (!r->read || r->read_again || r->read_due <= now_of(r));
}

static void read_destination(struct resource *r)
{
    struct dest_ref ref = ref_of(r);
    struct dest_handler handler = {.done = on_read, .arg = r};
    r->read_again = false;
    set_operation(r, OPERATION_READ);
    r->request = dest_find(r->control->parts.source, &ref, DEST_TO_CHECK, NULL, handler);
}

/* ---- whose is it? ---- */

bool resource_claimed(const struct resource *r)
{
    if (r->control->settings.claim_all) {
        return true;
    }
    if (is_gateway(r)) {
        return false;
    }
    switch (r->verdict) {
    case VERDICT_TYPE_NOT_SUPPORTED:
        return false;
    case VERDICT_NOT_FOUND:
    case VERDICT_FRAGMENT_NOT_FOUND:
    case VERDICT_INSTANCE_NOT_CONFIGURED:
    case VERDICT_UNREADABLE:
        /* It may be another proxy's: only where nobody else has spoken, or we have served it. */
        return r->cr.status_owner != CR_STATUS_FOREIGN || !list_empty(&r->services);
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

/* Who comes first when two want one name: the older CR, ties by namespace. */
static bool is_older(const struct resource *a, const struct resource *b)
{
    int order = strcmp(a->cr.created, b->cr.created);
    return order ? order < 0 : strcmp(a->namespace, b->namespace) < 0;
}

enum rank { RANK_FIRST, RANK_UNKNOWN, RANK_SECOND };

/* Is there an older CR of this name? *older: the oldest. Of one that has not been read it is not
 * known whether it wants the Service. */
static enum rank rank_of(const struct resource *r, const struct resource **older)
{
    bool unknown = false;
    *older = NULL;
    for (struct map_entry *e = map_find(&r->control->by_name, r->name); e; e = map_find_next(e)) {
        const struct resource *other = container_of(e, struct resource, by_name);
        if (other == r || !other->present || other->cr.deleting || !resource_managed(other) ||
            !is_older(other, r)) {
            continue;
        }
        if (!other->read && !is_gateway(other)) {
            unknown = true;
        } else if (resource_claimed(other) && (!*older || is_older(other, *older))) {
            *older = other;
        }
    }
    return unknown ? RANK_UNKNOWN : *older ? RANK_SECOND : RANK_FIRST;
}

/* ---- the listener and its port ---- */

static void give_up_port(struct resource *r)
{
    if (r->port) {
        ports_release(r->control->ports, r->port);
        r->port = 0;
        policies_look(r->control->policies, r);
    }
}

static void close_target(struct resource *r)
{
    if (r->target) {
        pop3_close(r->target);
        r->target = NULL;
    }
}

static struct held_service *home_service(const struct resource *r)
{
    return resource_service(r, r->control->settings.home, r->name);
}

static struct resource *holder_of(const struct control *c, uint16_t port)
{
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        if (r->port == port) {
            return r;
        }
    }
    return NULL;
}

static bool service_is_older(const struct resource *a, const struct resource *b)
{
    const struct held_service *x = home_service(a), *y = home_service(b);
    int order = x && y ? strcmp(x->service.created, y->service.created) : 0;
    return order ? order < 0 : strcmp(a->key, b->key) < 0;
}

/* Our memory of ports is the cluster: the port in the Service that is there is the resource's.
 * Where two Services carry one port, the younger gets another. */
static void recall_port(struct resource *r)
{
    struct control *c = r->control;
    const struct held_service *held = home_service(r);
    uint16_t port = held ? held->service.target_port : 0;
    if (r->port || !port) {
        return;
    }
    struct resource *other = ports_taken(c->ports, port) ? holder_of(c, port) : NULL;
    if (other && !service_is_older(r, other)) {
        return;
    }
    if (other) {
        close_target(other);
        other->port = 0; /* passes on without a rest */
        policies_look(c->policies, other);
        resource_wake(other);
    }
    ports_take(c->ports, port);
    r->port = port;
    policies_look(c->policies, r);
}

/* Two Services that carry one port would bring clients of the one to the mailbox of the other. */
static bool port_is_shared(const struct resource *r)
{
    return r->port && r->control->port_services[r->port] > 1;
}

static struct target *listen_at(struct resource *r, uint16_t port, struct error *err)
{
    struct control *c = r->control;
    struct dest_ref ref = ref_of(r);
    struct pop3_target what = {.name = c->settings.in_cluster ? r->key : r->name,
                               .source = c->parts.source,
                               .ref = &ref,
                               .dest = r->dest};
    union addr at = c->settings.listen;
    addr_set_port(&at, port);
    return pop3_open(c->parts.pop3, &what, &at, err);
}

/* A port of the resource's own first; when somebody else on this machine has it, another. ERR: *err
 * says why there is no listener. */
static int open_target(struct resource *r, struct error *err)
{
    struct control *c = r->control;
    uint16_t port = r->port;
    for (;;) {
        if (!port && ports_pick(c->ports, &port) != OK) {
            return error_set(err, FAIL_LIMIT, "no port is left in --target-ports %u-%u",
                             c->settings.first_port, c->settings.last_port);
        }
        r->target = listen_at(r, port, err);
        if (r->target) {
            break;
        }
        if (err->fail != FAIL_LIMIT || port == 0) {
            return ERR;
        }
        give_up_port(r);
        ports_avoid(c->ports, port);
        port = 0;
    }
    if (!r->port) {
        r->port = pop3_port(r->target);
        ports_take(c->ports, r->port);
        policies_look(c->policies, r);
    }
    return OK;
}

/* ---- Services ---- */

/* What clients connect to; by the protocol, unless the CR says. */
static uint16_t service_port(const struct resource *r)
{
    const struct held_service *held = home_service(r);
    if (r->cr.port) {
        return r->cr.port;
    }
    if (!r->dest && held && held->service.port) {
        return held->service.port;
    }
    return r->dest && r->dest->protocol == MAIL_POP3S ? 995 : 110;
}

/* Puts the home Service (or the alias) there as it should be. OK: it is. AGAIN: on the way. */
static int put_service(struct resource *r, bool alias)
{
    struct control *c = r->control;
    const char *namespace = alias ? r->namespace : c->settings.home;
    struct held_service *held = resource_service(r, namespace, r->name);
    struct plan_service plan = {.home = c->settings.home,
                                .domain = c->settings.domain,
                                .cr = &r->cr,
                                .name = r->name,
                                .port = service_port(r),
                                .target_port = r->port,
                                .uid = held ? held->service.uid : NULL,
                                .strangers = held ? held->service.strangers : NULL};
    struct service wanted = {0};
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = alias ? plan_alias_service(&body, &plan) : plan_home_service(&body, &plan);
    struct json *doc = rc == OK ? json_parse(buf_str(&body), NULL) : NULL;
    rc = doc ? service_parse(&wanted, json_root(doc), c->settings.home) : ERR;
    assert(rc == OK); /* names and numbers have been checked: it is our own text */
    bool same = held && held->service.digest == wanted.digest && !held->service.strangers;
    json_free(doc);
    service_clear(&wanted);
    if (!same) {
        start_service_call(r, held ? OPERATION_APPLY : OPERATION_CREATE,
                           held ? CLUSTER_APPLY : CLUSTER_CREATE, namespace, r->name, NULL,
                           buf_str(&body));
    }
    buf_free(&body);
    return same ? OK : AGAIN;
}

static bool is_wanted(const struct resource *r, const struct service *s)
{
    return strcmp(s->name, r->name) == 0 && (strcmp(s->namespace, r->control->settings.home) == 0 ||
                                             strcmp(s->namespace, r->namespace) == 0);
}

/* Deletes a Service that is there, of all or of those that are not wanted. OK: there is none.
 * AGAIN: one is being deleted. */
static int remove_services(struct resource *r, bool all)
{
    int rc = OK;
    LIST_EACH (it, &r->services) {
        struct held_service *held = container_of(it, struct held_service, link);
        if (all || !is_wanted(r, &held->service)) {
            rc = AGAIN; /* of one that is being deleted the watch will tell */
            if (!held->service.deleting) {
                start_service_call(r, OPERATION_DELETE, CLUSTER_DELETE, held->service.namespace,
                                   held->service.name, held->service.uid, (struct str){0});
                break;
            }
        }
    }
    return rc;
}

/* ---- conditions and Events ---- */

static bool is_shown(const struct resource *r, const struct condition *c)
{
    return plan_condition_shown(&r->cr, c);
}

static void patch_status(struct resource *r, const struct condition *condition)
{
    struct buf body;
    char now[CONTROL_STAMP_MAX];
    struct cluster_request request = {.verb = CLUSTER_PATCH_STATUS,
                                      .kind = &kind_destination,
                                      .namespace = r->namespace,
                                      .name = r->name};
    control_stamp(now, sizeof(now), false);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_status(&body, &r->cr, condition, now);
    assert(rc == OK);
    request.body = buf_str(&body);
    start_call(r, OPERATION_STATUS, &request);
    buf_free(&body);
}

static void send_event(struct resource *r, const struct condition *s)
{
    struct control *c = r->control;
    struct buf body;
    char now[CONTROL_STAMP_MAX], name[320];
    struct cluster_request request = {
        .verb = CLUSTER_CREATE, .kind = &kind_event, .namespace = r->namespace, .name = name};
    uint64_t id;
    sys->random(&id, sizeof(id));
    control_stamp(now, sizeof(now), true);
    text_fmt(name, sizeof(name), "%.230s.%016llx", r->name, (unsigned long long)id);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_event(&body, &r->cr, name, c->settings.instance, !s->available, s->reason,
                        s->message, now);
    assert(rc == OK);
    request.body = buf_str(&body);
    r->told = s->reason;
    start_call(r, OPERATION_EVENT, &request);
    buf_free(&body);
}

static void settled(struct resource *r)
{
    struct control *c = r->control;
    if (r->present && !r->settled) {
        r->settled = true;
        resource_count(r);
        control_count_unsettled(c, -1);
    }
}

/* Makes the CR say so. */
static void show(struct resource *r, const struct condition *condition)
{
    settled(r);
    if (is_shown(r, condition)) {
        return;
    }
    set_shown(r, condition);
    patch_status(r, condition);
}

/* ---- withdrawing ---- */

/* Takes everything back that was made for the CR. OK: nothing of ours is left. */
static int withdraw(struct resource *r)
{
    close_target(r);
    give_up_port(r);
    return remove_services(r, true);
}

/* The CR is not for us, or not any more: our condition goes too. */
static void leave(struct resource *r)
{
    settled(r);
    if (withdraw(r) == OK && r->cr.status_owner == CR_STATUS_OURS && r->cr.available.status) {
        patch_status(r, NULL);
    }
}

/* Deleting the CRD deletes the CRs too, and is not meant for their mailboxes: whoever deletes it
 * installs another one. */
static void confirm_gone(struct resource *r)
{
    struct cluster_request request = {
        .verb = CLUSTER_GET, .kind = &kind_crd, .name = "destinations." CR_GROUP};
    start_call(r, OPERATION_CONFIRM, &request);
}

static void withdraw_gone(struct resource *r)
{
    struct control *c = r->control;
    settled(r);
    if (c->settings.in_cluster && !r->gone_confirmed) {
        confirm_gone(r);
    } else if (withdraw(r) == OK && !r->present) {
        if (r->settled) { /* else it never was there */
            c->handler.gone(r->namespace, r->name, c->handler.arg);
        }
        resource_free(r);
    }
}

/* ---- the decision ---- */

enum decision {
    DECISION_WAIT,   /* for what is known soon */
    DECISION_LEAVE,  /* not ours */
    DECISION_REFUSE, /* no Service may be there */
    DECISION_HOLD,   /* the destination is of no use now: a Service that is there stays */
    DECISION_SERVE,
};

static enum decision decide_name(struct resource *r, struct condition *c)
{
    const struct resource *older;
    const char *objection = plan_name_objection(r->name);
    struct resource *rival = resource_rival(r, r->control->settings.home, r->name);
    if (!r->control->settings.in_cluster) {
        return DECISION_SERVE;
    }
    if (objection) {
        plan_failure(c, "ServiceCreationFailed",
                     "The name of the Destination CR, \"%.80s\", cannot be that of a Service: %s",
                     r->name, objection);
        return DECISION_REFUSE;
    }
    switch (rank_of(r, &older)) {
    case RANK_FIRST:
        break;
    case RANK_UNKNOWN:
        return DECISION_WAIT;
    case RANK_SECOND:
        plan_failure(c, REASON_PREFIX "DuplicateDestinationCustomResource",
                     "Technical connectivity is not configured. A Destination CR named \"%s\" in "
                     "the namespace \"%s\" is older and has the name of the Service; rename this "
                     "one",
                     r->name, older->namespace);
        return DECISION_REFUSE;
    }
    if (rival) { /* it has lost the name, and gives up its Service: that wakes us */
        resource_wake(rival);
        return DECISION_WAIT;
    }
    return DECISION_SERVE;
}

static enum decision decide(struct resource *r, struct condition *c)
{
    if (!resource_claimed(r)) {
        return DECISION_LEAVE;
    }
    if (is_gateway(r)) {
        plan_failure(c, REASON_PREFIX "DynamicDestination-NotSupported",
                     "Technical connectivity is not configured. destinationRef.name \"*\" has no "
                     "meaning for POP3; name a destination");
        return DECISION_REFUSE;
    }
    enum decision by_name = decide_name(r, c);
    if (by_name != DECISION_SERVE) {
        return by_name;
    }
    if (config_of(r)->tenant_mode == TENANTS_SHARED) {
        plan_failure(c, REASON_PREFIX "ProxyTenantModeMismatch",
                     "Technical connectivity is not configured. config.tenantMode: shared is not "
                     "supported yet; use dedicated");
        return DECISION_HOLD;
    }
    if (r->verdict != VERDICT_OK) {
        plan_verdict(c, &r->cr, r->verdict, r->verdict_text);
        return DECISION_HOLD;
    }
    return DECISION_SERVE;
}

/* ---- serving ---- */

/* The listener of a Service that is there. */
static void hold(struct resource *r)
{
    struct error err;
    recall_port(r);
    if (port_is_shared(r)) {
        close_target(r);
    } else if (r->port && !r->target && open_target(r, &err) != OK) {
        log_line(LOG_ERROR, "control", "%s: %s", r->key, err.text);
    }
}

/* Listener and Services, as they should be. OK: they are. AGAIN: not yet, or there is trouble. */
static int serve(struct resource *r)
{
    struct control *c = r->control;
    struct condition condition;
    struct error err;
    bool away = strcmp(r->namespace, c->settings.home) != 0;
    if (remove_services(r, false) != OK) {
        return AGAIN; /* before anything else: one of them may have our port */
    }
    if (port_is_shared(r)) {
        return AGAIN; /* the younger Service is about to get another port: that will wake us */
    }
    if (!r->target && open_target(r, &err) != OK) {
        plan_failure(&condition, "ServiceCreationFailed", "%s", err.text);
        set_trouble(r, &condition, false);
        resource_wake(r);
        return AGAIN;
    }
    if (c->settings.in_cluster &&
        (put_service(r, false) != OK || (away && put_service(r, true) != OK))) {
        return AGAIN;
    }
    r->troubles = 0;
    return OK;
}

/* The trouble of the last try, until the next one. True: it still counts, and is shown. */
static bool in_trouble(struct resource *r)
{
    if (!r->trouble || r->trouble_until <= now_of(r)) {
        free(r->trouble);
        r->trouble = NULL;
        return false;
    }
    wake_at(r, r->trouble_until);
    if (!r->trouble_silent) {
        show(r, r->trouble);
    }
    settled(r);
    return true;
}

static void act(struct resource *r, enum decision decision, struct condition *condition)
{
    switch (decision) {
    case DECISION_WAIT:
        break;
    case DECISION_LEAVE:
        leave(r);
        break;
    case DECISION_REFUSE:
        if (withdraw(r) == OK) {
            show(r, condition);
        }
        break;
    case DECISION_HOLD:
        if (home_service(r) ? !in_trouble(r) && serve(r) == OK : remove_services(r, false) == OK) {
            show(r, condition);
        }
        break;
    case DECISION_SERVE:
        if (!in_trouble(r) && serve(r) == OK) {
            plan_success(condition, r->control->settings.in_cluster ? r->name : NULL);
            show(r, condition);
        }
        break;
    }
}

void reconcile(struct resource *r)
{
    struct condition condition;
    bool wanted = r->present && !r->cr.deleting;
    if (wanted) {
        hold(r);
    }
    if (r->calls >= CALLS_MAX) {
        log_line(LOG_WARN, "control", "%s: does not come to rest; tried again later", r->key);
        try_later(r);
    }
    if (r->retry_at > now_of(r)) {
        wake_at(r, r->retry_at);
        return;
    }
    if (r->control->running == RUNNING_MAX) {
        resource_wait(r);
        return;
    }
    if (!wanted) {
        withdraw_gone(r);
        return;
    }
    if (!resource_managed(r)) {
        leave(r);
    } else if (must_read(r)) {
        read_destination(r);
    } else {
        if (!is_gateway(r)) {
            wake_at(r, r->read_due);
        }
        act(r, decide(r, &condition), &condition);
    }
    if (r->operation == OPERATION_NONE) { /* at rest */
        r->calls = r->retries = 0;
    }
}

/* ---- answers ---- */

static void refused(struct resource *r, const struct cluster_answer *answer)
{
    struct condition condition;
    log_line(LOG_WARN, "control", "%s: %s", r->key, answer->err.text);
    r->control->stats.errors++;
    plan_failure(&condition, "ServiceCreationFailed", "%s", answer->err.text);
    set_trouble(r, &condition, false);
}

static void failed(struct resource *r, const struct cluster_answer *answer)
{
    log_line(LOG_WARN, "control", "%s: %s; tried again", r->key, answer->err.text);
    r->control->stats.errors++;
    try_later(r);
}

/* The Service that has the name of ours is not ours. */
static void taken(struct resource *r, struct json_value object)
{
    struct condition condition;
    bool alias = service_is_alias(object);
    bool silent = alias && r->cr.status_owner == CR_STATUS_FOREIGN;
    plan_failure(&condition, REASON_PREFIX "K8sResourceWithNameAlreadyPresent",
                 "Technical connectivity is not configured. The Service \"%s\" in the namespace "
                 "\"%s\" is there already and is not tproxy's. Delete it (kubectl delete service "
                 "-n %s %s)%s",
                 r->operand_name, r->operand_namespace, r->operand_namespace, r->operand_name,
                 alias ? ", or annotate the Destination CR with " CR_ANNOTATION_ADOPT
                         ": \"true\" to have it taken over"
                       : ", or rename the Destination CR");
    set_trouble(r, &condition, silent);
    if (silent && (!r->told || strcmp(r->told, condition.reason) != 0)) {
        send_event(r, &condition);
    }
}

/* The Service whose name is taken: ours after all, one that we may take over, or foreign. */
static void looked_at(struct resource *r, struct json_value object)
{
    struct control *c = r->control;
    control_take_service(c, object);
    if (resource_service(r, r->operand_namespace, r->operand_name)) {
        return;
    }
    if (resource_rival(r, r->operand_namespace, r->operand_name)) {
        try_later(r);
        return;
    }
    if (!r->cr.adopt || !service_is_alias(object)) {
        taken(r, object);
        return;
    }
    struct service service;
    if (service_parse(&service, object, c->settings.home) == OK) {
        log_line(LOG_INFO, "control", "%s: the Service %s/%s is taken over", r->key,
                 service.namespace, service.name);
        resource_hold_service(r, service);
    }
}

static void service_went(struct resource *r)
{
    struct held_service *held = resource_service(r, r->operand_namespace, r->operand_name);
    if (held) {
        resource_drop_service(r, held);
    }
}

/* The answer is the CR as it was then: by now it may be gone, or another one. */
static void status_written(struct resource *r, const struct cluster_answer *answer)
{
    struct control *c = r->control;
    struct json_value uid = json_get(json_get(answer->object, "metadata"), "uid");
    bool same = json_is(uid, r->cr.uid) || !c->settings.in_cluster;
    if (r->present && same && control_is_news(c, FOLLOW_RESOURCES, answer->object)) {
        control_take_resource(c, answer->object);
    }
    if (r->shown) {
        c->handler.changed(r->namespace, r->name, r->shown, r->target ? r->port : 0,
                           c->handler.arg);
    }
}

/* OPERATION_CREATE, LOOK, APPLY, DELETE. */
static void on_service_answer(struct resource *r, enum operation operation,
                              const struct cluster_answer *answer)
{
    switch (answer->result) {
    case CLUSTER_DONE:
        if (operation == OPERATION_LOOK) {
            looked_at(r, answer->object);
        } else if (operation == OPERATION_DELETE) {
            service_went(r);
        } else if (control_is_news(r->control, FOLLOW_SERVICES, answer->object)) {
            control_take_service(r->control, answer->object);
        }
        break;
    case CLUSTER_EXISTS:
        start_service_call(r, OPERATION_LOOK, CLUSTER_GET, r->operand_namespace, r->operand_name,
                           NULL, (struct str){0});
        break;
    case CLUSTER_ABSENT:
        service_went(r);
        if (operation == OPERATION_CREATE) {
            refused(r, answer); /* its namespace is going, say */
        }
        break;
    case CLUSTER_REFUSED:
        if (operation == OPERATION_DELETE) {
            failed(r, answer); /* there may be no CR any more whose condition could say so */
        } else {
            refused(r, answer);
        }
        break;
    case CLUSTER_CONFLICT: /* another one has its place: the watch will tell of it */
    case CLUSTER_LATER:
        failed(r, answer);
        break;
    }
}

static void on_status_answer(struct resource *r, const struct cluster_answer *answer)
{
    switch (answer->result) {
    case CLUSTER_DONE:
        status_written(r, answer);
        if (r->present && r->control->settings.in_cluster && r->shown) {
            send_event(r, r->shown);
        }
        break;
    case CLUSTER_EXISTS:
    case CLUSTER_CONFLICT:
    case CLUSTER_ABSENT: /* went meanwhile */
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        failed(r, answer);
        break;
    }
}

/* Is the CRD younger than the CR that went, or, of one that was never seen, than its Service? Times
 * are in seconds: in the same one it may be. */
static bool is_renewed(const struct resource *r, struct json_value crd)
{
    const struct held_service *held = home_service(r);
    const char *before = r->cr.created ? r->cr.created : held ? held->service.created : NULL;
    char *created = json_strdup(json_get(json_get(crd, "metadata"), "creationTimestamp"), NULL);
    bool renewed = before && created && strcmp(before, created) <= 0;
    free(created);
    return renewed;
}

/* No right to read CRDs: what went was the CR then. */
static void on_confirm_answer(struct resource *r, const struct cluster_answer *answer)
{
    struct json_value deleting =
        json_get(json_get(answer->object, "metadata"), "deletionTimestamp");
    bool there = answer->result == CLUSTER_DONE && !json_exists(deleting);
    r->crd_went |= json_exists(deleting) || answer->result == CLUSTER_ABSENT;
    if (there && !r->crd_renewed && (r->crd_went || is_renewed(r, answer->object))) {
        r->crd_renewed = true;
        r->retry_at = now_of(r) + CRD_GRACE;
        return;
    }
    r->gone_confirmed = there || answer->result == CLUSTER_REFUSED;
    if (!r->gone_confirmed) {
        r->retry_at = now_of(r) + CONFIRM_AGAIN;
    }
}

static void on_answer(const struct cluster_answer *answer, void *arg)
{
    struct resource *r = arg;
    enum operation operation = r->operation;
    r->call = NULL;
    switch (operation) {
    case OPERATION_CREATE:
    case OPERATION_LOOK:
    case OPERATION_APPLY:
    case OPERATION_DELETE:
        on_service_answer(r, operation, answer);
        break;
    case OPERATION_STATUS:
        on_status_answer(r, answer);
        break;
    case OPERATION_CONFIRM:
        on_confirm_answer(r, answer);
        break;
    case OPERATION_EVENT: /* Events are a courtesy: one that does not arrive is missed by nobody */
    case OPERATION_NONE:
    case OPERATION_READ:
        break;
    }
    if (!r->call) {
        operation_over(r); /* else the next one has begun */
    }
}

void reconcile_stop(struct resource *r)
{
    cluster_cancel(r->control->parts.cluster, r->call);
    dest_cancel(r->control->parts.source, r->request);
    timer_cancel(r->control->loop, &r->timer);
    r->call = NULL;
    r->request = NULL;
    r->target = NULL;
    r->operation = OPERATION_NONE;
}
