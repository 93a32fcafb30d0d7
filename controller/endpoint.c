/* One target of a CR: what its destination is, its listener and port, its Services. In shared mode
 * a CR has one for each tenant, and each fares as it may; in dedicated mode it has one, without a
 * name.
 *
 *   wanted --> read --> decided by reconcile.c: SERVE  listener, home Service, alias
 *                                               HOLD   as they are, if they are there
 *                                               REFUSE withdrawn
 *   not wanted any more --> listener closed --> (freed); its Services are cleaned up */
#include "controller/endpoint.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/config.h"
#include "configuration/configuration.h"
#include "controller/exposure.h"
#include "controller/leftovers.h"
#include "controller/network_policies.h"
#include "controller/ports.h"
#include "controller/precedence.h"
#include "controller/reconcile.h"
#include "controller/resting_ports.h"
#include "controller/state.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/stamp.h"
#include "pop3.h"

/* A destination that could not be read, or is wrong, is read again after UNREAD_FIRST, doubled up
 * to the configured interval. */
#define UNREAD_FIRST SECONDS(5)

/* What the API server refuses is tried again after these. */
#define TROUBLE_FIRST SECONDS(1)
#define TROUBLE_MOST SECONDS(60)

/* A Service that could not be deleted is tried again after these. */
#define REMOVAL_FIRST SECONDS(1)
#define REMOVAL_MOST SECONDS(60)

/* A failure that may pass by itself is shown when it comes so often in a row. */
enum { TROUBLES_SILENT_MAX = 3 };

/* "namespace/cr/tenant", as clients and the log see it */
enum { TARGET_NAME_MAX = CR_NAMESPACE_MAX + CR_NAME_MAX + CR_NAMESPACE_MAX + 3 };

static int64_t now_of(const struct tenant *t)
{
    return loop_now(t->resource->control->loop);
}

static void count_reading(struct tenant *t, struct dest_request *request)
{
    size_t change = request ? 1 : (size_t)-1;
    t->request = request;
    t->resource->reading += change;
    t->resource->space->reading += change;
    t->resource->control->queue.reading += change;
}

static void stop_reading(struct tenant *t)
{
    if (t->request) {
        dest_cancel(t->resource->control->parts.source, t->request);
        count_reading(t, NULL);
        t->read_again = true;
    }
}

static void forget_trouble(struct tenant *t)
{
    free(t->trouble);
    t->trouble = NULL;
}

struct held_service *tenant_service(const struct tenant *t)
{
    return resource_service(t->resource, t->resource->control->settings.home, t->service);
}

/* What its Services say may have to be something else. */
static void check_services(struct tenant *t)
{
    struct held_service *home = tenant_service(t);
    struct held_service *alias = resource_service(t->resource, t->resource->namespace, t->service);
    if (home) {
        home->checked = false;
    }
    if (alias) {
        alias->checked = false;
    }
}

/* ---- the listener and its port ---- */

static void set_port(struct tenant *t, uint16_t port)
{
    struct control *c = t->resource->control;
    c->port_holders[t->port] = NULL;
    t->port = port;
    if (port) {
        c->port_holders[port] = t;
    }
    check_services(t);
    struct held_service *held = tenant_service(t);
    if (held) {
        service_expose(held);
    }
}

static void give_up_port(struct tenant *t)
{
    if (t->port) {
        ports_release(t->resource->control->ports, t->port);
        set_port(t, 0);
    }
}

static void close_target(struct tenant *t)
{
    if (t->target && !t->resource->control->stopped) { /* else pop3_abort closes it */
        pop3_close(t->target);
    }
    t->target = NULL;
    tenant_look_at_use(t);
}

static bool service_is_older(const struct tenant *a, const struct tenant *b)
{
    const struct held_service *x = tenant_service(a), *y = tenant_service(b);
    int order = x && y ? strcmp(x->service.created, y->service.created) : 0;
    order = order ? order : strcmp(a->resource->key, b->resource->key);
    return order ? order < 0 : strcmp(a->service, b->service) < 0;
}

/* Our memory of ports is the cluster: the port in the Service that is there is the tenant's. Where
 * two Services carry one port, the younger gets another. */
static void recall_port(struct tenant *t)
{
    struct control *c = t->resource->control;
    const struct held_service *held = tenant_service(t);
    uint16_t port = held ? held->service.target_port : 0;
    if (t->port || !port) {
        return;
    }
    struct tenant *other = c->port_holders[port];
    if (other && (!tenant_service(other) || !service_is_older(t, other))) {
        return; /* a Service that changes hands takes no listener of its former owner with it */
    }
    if (other) {
        close_target(other);
        set_port(other, 0); /* passes on without a rest */
        resource_wake(other->resource);
    }
    ports_take(c->ports, port);
    set_port(t, port);
}

/* Two Services that carry one port would bring clients of the one to the mailbox of the other. */
static bool port_is_shared(const struct tenant *t)
{
    return t->port && ports_carried(t->resource->control->ports, t->port) > 1;
}

static struct dest_ref ref_of(const struct tenant *t)
{
    const struct resource *r = t->resource;
    struct dest_ref ref = r->cr.ref;
    ref.instance =
        ref.instance ? ref.instance : configuration_default_instance(r->control->configuration);
    ref.tenant = t->name;
    return ref;
}

static struct target *listen_at(struct tenant *t, uint16_t port, struct error *err)
{
    struct control *c = t->resource->control;
    char name[TARGET_NAME_MAX];
    struct dest_ref ref = ref_of(t);
    struct pop3_target what = {.name = name,
                               .owner = c->settings.in_cluster ? t->resource->namespace : NULL,
                               .source = c->parts.source,
                               .ref = &ref,
                               .dest = t->dest};
    union addr at = c->settings.listen;
    text_fmt(name, sizeof(name), "%s%s%s",
             c->settings.in_cluster ? t->resource->key : t->resource->name, t->name ? "/" : "",
             t->name ? t->name : "");
    addr_set_port(&at, port);
    return pop3_open(c->parts.pop3, &what, &at, err);
}

/* A port that nobody has. ERR: *err says why there is none. */
static int pick_port(struct control *c, uint16_t *port, struct error *err)
{
    if (c->settings.in_cluster && !c->followers[FOLLOW_POLICIES].known) {
        return error_set(
            err, FAIL_CONFIG,
            "no target port is given while it is not known which ports NetworkPolicies "
            "list: " POLICIES_UNKNOWN);
    }
    int64_t until;
    char time[STAMP_SIZE];
    if (c->resting && !resting_ports_known(c->resting, &until)) {
        stamp_minute(time, stamp_minute_in(until - loop_now(c->loop)));
        return error_set(err, FAIL_CONFIG,
                         "no target port is given before %s, for it is not known which ones rest: "
                         "the ConfigMap " RESTING_PORTS_NAME " of the namespace %s cannot be read "
                         "(see RBAC in docs/install.md)",
                         time, c->settings.home);
    }
    if (ports_pick(c->ports, port) == OK) {
        return OK;
    }
    struct ports_use use = ports_use(c->ports);
    char listed[80] = "", resting[160] = "";
    if (use.listed) {
        text_fmt(listed, sizeof(listed), ", %u are still listed by NetworkPolicies", use.listed);
    }
    if (use.resting) {
        stamp_minute(time, stamp_minute_in(use.next - loop_now(c->loop)));
        text_fmt(resting, sizeof(resting),
                 ", %u rest after their mailboxes have gone, the first of them until %s",
                 use.resting, time);
    }
    return error_set(err, FAIL_LIMIT, "no port is left in --target-ports %u-%u: %u are in use%s%s",
                     c->settings.first_port, c->settings.last_port, use.taken, listed, resting);
}

/* A port of the tenant's own first; when somebody else on this machine has it, another. ERR: *err
 * says why there is no listener. */
static int open_target(struct tenant *t, struct error *err)
{
    struct control *c = t->resource->control;
    uint16_t port = t->port;
    for (;;) {
        if (!port && pick_port(c, &port, err) != OK) {
            return ERR;
        }
        t->target = listen_at(t, port, err);
        if (t->target) {
            break;
        }
        if (err->fail != FAIL_LIMIT || port == 0) {
            return ERR;
        }
        give_up_port(t);
        ports_avoid(c->ports, port);
        port = 0;
    }
    if (!t->port) {
        ports_take(c->ports, pop3_port(t->target));
        set_port(t, pop3_port(t->target));
    }
    tenant_look_at_use(t);
    return OK;
}

void tenant_hold(struct tenant *t)
{
    struct condition why;
    struct error err;
    recall_port(t);
    if (port_is_shared(t)) {
        close_target(t);
    } else if (!t->target && tenant_exclude(t, &why) != OK) {
        return; /* a policy of a former owner still admits to the port */
    } else if (t->port && !t->target && open_target(t, &err) != OK) {
        log_line(LOG_ERROR, "control", "%s: %s", t->resource->key, err.text);
    }
}

/* ---- who there is ---- */

static struct tenant *add_tenant(struct resource *r, const char *name, const char *service)
{
    struct tenant *t = mem_zalloc(sizeof(*t));
    t->resource = r;
    t->name = name ? mem_strdup(name) : NULL;
    list_init(&t->link);
    tenant_claim(t, service);
    r->n_tenants++;
    return t;
}

/* At the end of the list, whether it was on it or not: so it has the order of the names. */
static void put_tenant(struct resource *r, const char *name)
{
    char service[CR_NAME_MAX + 1 + CR_NAMESPACE_MAX + 1];
    text_fmt(service, sizeof(service), "%s%s%s", r->name, name ? "-" : "", name ? name : "");
    struct tenant *t = resource_tenant(r, service);
    t = t ? t : add_tenant(r, name, service);
    list_remove(&t->link);
    list_append(&r->tenants, &t->link);
}

static void tenant_free(struct tenant *t)
{
    struct resource *r = t->resource;
    stop_reading(t);
    close_target(t);
    give_up_port(t);
    list_remove(&t->link);
    r->n_tenants--;
    if (r->operand == t) {
        r->operand = NULL;
    }
    tenant_unclaim(t);
    destination_unref(t->dest);
    forget_trouble(t);
    free(t->failure);
    free(t->verdict_text);
    free((char *)t->name);
    free(t);
}

void tenants_free(struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        tenant_free(container_of(it, struct tenant, link));
    }
}

static int compare_name(const void *name, const void *element)
{
    return strcmp(name, *(char *const *)element);
}

static bool is_named(const struct cr *cr, const char *name)
{
    return name && cr->n_tenants && /* without any there may be no array */
           bsearch(name, cr->tenants, cr->n_tenants, sizeof(*cr->tenants), compare_name);
}

void tenants_update(struct resource *r)
{
    struct control *c = r->control;
    const struct config *config = configuration_config(c->configuration);
    if (!config || !r->present) {
        return; /* of one that went, what was made for it stays until that is certain */
    }
    bool shared = config->tenant_mode == TENANTS_SHARED;
    LIST_EACH (it, &r->tenants) {
        struct tenant *t = container_of(it, struct tenant, link);
        if (r->cr.wrong || (shared ? !is_named(&r->cr, t->name) : t->name != NULL)) {
            r->tell_ignored |= !shared;
            if (r->settled) {
                c->handler.gone(r->namespace, t->service, c->handler.arg);
            }
            tenant_free(t);
        }
    }
    if (!shared && !r->cr.wrong) {
        put_tenant(r, NULL);
    }
    for (size_t i = 0; shared && i < r->cr.n_tenants; i++) {
        put_tenant(r, r->cr.tenants[i]);
    }
}

/* ---- reading the destination ---- */

static void plan_next_reading(struct tenant *t)
{
    int64_t interval = configuration_config(t->resource->control->configuration)->interval;
    t->unread = t->verdict == VERDICT_OK ? 0 : t->unread + 1;
    t->read_due = now_of(t) + (t->unread ? backoff_delay(t->unread - 1, UNREAD_FIRST, interval, 10)
                                         : backoff_delay(0, interval, interval, 10));
}

static void set_destination(struct tenant *t, const struct dest_answer *answer)
{
    const struct destination *before = t->dest;
    const char *key = t->resource->key;
    if (answer->dest && (!before || !destination_equal(before, answer->dest))) {
        if (before) {
            log_line(LOG_INFO, "control", "%s: changed", key);
        }
        for (size_t i = 0; i < answer->dest->n_warnings; i++) {
            log_line(LOG_WARN, "control", "%s: %s", key, answer->dest->warnings[i]);
        }
    }
    t->dest = answer->dest ? destination_ref(answer->dest) : NULL;
    destination_unref(before);
    t->verdict = answer->verdict;
    free(t->verdict_text);
    t->verdict_text = answer->dest ? NULL : mem_strdup(answer->err.text);
    t->read = true;
    check_services(t);
    plan_next_reading(t);
    tenant_look_at_use(t);
    if (t->target) {
        struct dest_ref ref = ref_of(t);
        pop3_change(t->target, &ref, t->dest);
    }
}

static bool is_due(const struct tenant *t)
{
    return !t->read || t->read_again || t->read_due <= now_of(t);
}

bool tenant_is_unread(const struct tenant *t)
{
    return t->request || is_due(t);
}

void tenants_stop_reading(struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        stop_reading(container_of(it, struct tenant, link));
    }
}

static void on_read(const struct dest_answer *answer, void *arg)
{
    struct tenant *t = arg;
    count_reading(t, NULL);
    set_destination(t, answer);
    resource_wake(t->resource);
}

static void begin_to_read(struct tenant *t)
{
    struct control *c = t->resource->control;
    struct dest_ref ref = ref_of(t);
    struct dest_handler handler = {.done = on_read, .arg = t};
    t->read_again = false;
    count_reading(t, dest_find(c->parts.source, &ref, DEST_TO_CHECK, NULL, handler));
}

int64_t tenants_read(struct resource *r)
{
    int64_t due = INT64_MAX;
    LIST_EACH (it, &r->tenants) {
        struct tenant *t = container_of(it, struct tenant, link);
        if (t->request || (is_due(t) && r->reading == READING_OF_ONE_MAX)) {
            continue; /* the end of the reading wakes the resource */
        }
        if (!is_due(t)) {
            due = t->read_due < due ? t->read_due : due;
        } else if (resource_may_read(r)) {
            begin_to_read(t);
        } else {
            resource_wait_to_read(r);
        }
    }
    return due;
}

bool tenants_known(const struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        if (!container_of(it, struct tenant, link)->read) {
            return false;
        }
    }
    return true;
}

/* ---- trouble ---- */

static void put_off(struct tenant *t)
{
    t->trouble_until = now_of(t) + backoff_delay(t->troubles++, TROUBLE_FIRST, TROUBLE_MOST, 10);
}

static void set_trouble(struct tenant *t, const struct condition *condition, bool silent)
{
    forget_trouble(t);
    t->trouble = mem_alloc(sizeof(*t->trouble));
    *t->trouble = *condition;
    t->trouble_silent = silent;
    put_off(t);
}

/* What may pass by itself: the condition says so only when it has not passed a few times. */
static void set_passing_trouble(struct tenant *t, const struct condition *condition)
{
    if (t->troubles + 1 < TROUBLES_SILENT_MAX) {
        put_off(t);
    } else {
        set_trouble(t, condition, false);
    }
}

bool tenant_is_put_off(struct tenant *t)
{
    if (t->trouble_until <= now_of(t)) {
        forget_trouble(t);
        return false;
    }
    resource_wake_at(t->resource, t->trouble_until);
    return true;
}

static void refused(struct resource *r, const struct cluster_answer *answer)
{
    struct condition condition;
    log_line(LOG_WARN, "control", "%s: %s", r->key, answer->err.text);
    r->control->stats.errors++;
    plan_failure(&condition, "ServiceCreationFailed", "%s%s", answer->err.text,
                 plan_name_advice(r->operand_name));
    if (r->operand) {
        set_trouble(r->operand, &condition, false);
    }
}

/* The API server is away or busy, or something in it fails that is for this Service alone: an
 * admission webhook, the range of addresses. */
static void not_written(struct resource *r, const struct cluster_answer *answer)
{
    struct condition condition;
    char sentence[PLAN_MESSAGE_MAX];
    log_line(LOG_WARN, "control", "%s: %s; tried again", r->key, answer->err.text);
    r->control->stats.errors++;
    text_fmt(
        sentence, sizeof(sentence),
        "%s. It is tried again within a minute; if it goes on, see to what the API server says",
        answer->err.text);
    plan_failure_told(&condition, "ServiceCreationFailed", sentence);
    if (r->operand) {
        set_passing_trouble(r->operand, &condition);
    }
}

/* ---- Services ---- */

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
    if (name != r->operand_name) { /* else the same Service once more */
        free(r->operand_namespace);
        free(r->operand_name);
        r->operand_namespace = mem_strdup(namespace);
        r->operand_name = mem_strdup(name);
    }
    r->operand = resource_tenant(r, name);
    resource_call(r, operation, &request, on_service_answer);
}

/* What clients connect to; by the protocol, unless the CR says. */
static uint16_t service_port(const struct tenant *t)
{
    const struct held_service *held = tenant_service(t);
    if (t->resource->cr.port) {
        return t->resource->cr.port;
    }
    if (!t->dest && held && held->service.port) {
        return held->service.port;
    }
    return t->dest && t->dest->protocol == MAIL_POP3S ? 995 : 110;
}

static struct repairs *repairs_of(struct tenant *t, bool alias)
{
    return alias ? &t->alias_repairs : &t->home_repairs;
}

static void note_repair(struct tenant *t, bool alias, uint64_t wish)
{
    const struct resource *r = t->resource;
    if (repairs_note(repairs_of(t, alias), wish, now_of(t))) {
        log_line(LOG_WARN, "control",
                 "%s: the Service %s/%s does not stay as it is written: somebody else changes or "
                 "deletes it again and again; it is put right less and less often",
                 r->key, alias ? r->namespace : r->control->settings.home, t->service);
    }
}

/* The port that a home Service gives up is recorded as resting first. True: it is under way. */
static bool record_port(struct resource *r, const struct held_service *held)
{
    struct control *c = r->control;
    uint16_t port = held->service.target_port;
    bool home = strcmp(held->service.namespace, c->settings.home) == 0;
    bool ours = port && c->settings.first_port <= port && port <= c->settings.last_port;
    if (!home || !ours || resting_ports_leave(c->resting, port) == OK) {
        return false;
    }
    resource_begin(r, OPERATION_RECORD);
    list_append(&c->recording, &r->recording);
    return true;
}

/* Puts the home Service (or the alias) there as it should be. OK: it is. AGAIN: on the way, or
 * others change it back, and it is too early to write it again. */
static int put_service(struct tenant *t, bool alias)
{
    struct resource *r = t->resource;
    struct control *c = r->control;
    const char *namespace = alias ? r->namespace : c->settings.home;
    struct held_service *held = resource_service(r, namespace, t->service);
    if (held && held->checked) {
        return OK;
    }
    if (held && held->service.target_port != t->port && record_port(r, held)) {
        return AGAIN;
    }
    if (held) {
        held->removal = (struct removal){0}; /* it is wanted again */
        leftover_forget(held);
    }
    struct plan_service plan = {.home = c->settings.home,
                                .domain = c->settings.domain,
                                .cr = &r->cr,
                                .name = t->service,
                                .port = service_port(t),
                                .target_port = t->port,
                                .uid = held ? held->service.uid : NULL,
                                .strangers = held ? held->service.strangers : NULL,
                                .owners = held ? held->service.owners : NULL};
    struct service wanted = {0};
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = alias ? plan_alias_service(&body, &plan) : plan_home_service(&body, &plan);
    struct json *doc = rc == OK ? json_parse(buf_str(&body), NULL) : NULL;
    rc = doc ? service_parse(&wanted, json_root(doc), c->settings.home) : ERR;
    assert(rc == OK); /* names and numbers have been checked: it is our own text */
    bool same = held && held->service.digest == wanted.digest && !held->service.strangers;
    int64_t due = repairs_due(repairs_of(t, alias), wanted.digest);
    if (same) {
        held->checked = true;
    } else if (due > now_of(t)) {
        resource_wake_at(r, due);
    } else {
        note_repair(t, alias, wanted.digest);
        call_service(r, held ? OPERATION_APPLY : OPERATION_CREATE,
                     held ? CLUSTER_APPLY : CLUSTER_CREATE, namespace, t->service, NULL,
                     buf_str(&body));
    }
    json_free(doc);
    service_clear(&wanted);
    buf_free(&body);
    return same ? OK : AGAIN;
}

/* Is one of its Services contested? ERR: *why says so, and the tenant is looked at again when it is
 * known whether the last repair has lasted. */
static int check_contest(struct tenant *t, struct condition *why)
{
    for (int alias = 0; alias < 2; alias++) {
        const struct repairs *repairs = repairs_of(t, alias);
        if (repairs_contested(repairs, now_of(t))) {
            const struct resource *r = t->resource;
            plan_failure(
                why, "ServiceCreationFailed",
                "Technical connectivity is not configured. The Service \"%s\" in the "
                "namespace \"%s\" does not stay as tproxy writes it: somebody else changes "
                "or deletes it again and again, or an admission webhook changes it. It is "
                "put right less and less often",
                t->service, alias ? r->namespace : r->control->settings.home);
            resource_wake_at(t->resource, repairs->due);
            return ERR;
        }
    }
    return OK;
}

/* Both Services, as far as there is time. */
static int put_services(struct tenant *t, struct condition *why)
{
    struct resource *r = t->resource;
    bool away = strcmp(r->namespace, r->control->settings.home) != 0;
    int home = put_service(t, false), alias = OK;
    if (away && r->operation == OPERATION_NONE) {
        alias = put_service(t, true);
    }
    if (r->operation != OPERATION_NONE) {
        return AGAIN;
    }
    return check_contest(t, why) != OK ? ERR : home != OK ? home : alias;
}

int tenant_serve(struct tenant *t, struct condition *why)
{
    struct resource *r = t->resource;
    struct control *c = r->control;
    struct condition condition;
    struct error err;
    if (port_is_shared(t)) {
        return AGAIN; /* the younger Service is about to get another port: that will wake us */
    }
    if (!t->target && open_target(t, &err) != OK) {
        plan_failure(&condition, "ServiceCreationFailed", "%s", err.text);
        set_trouble(t, &condition, false);
        resource_wake(r);
        return AGAIN;
    }
    int rc = c->settings.in_cluster ? put_services(t, why) : OK;
    if (rc == OK) {
        t->troubles = 0;
    }
    return rc;
}

/* ---- taking Services back ---- */

/* Do clients still reach the home Service through it? Once it has been cut off it does not count
 * any more, whatever the users of its namespace make of it. */
static bool still_leads(const struct held_service *alias)
{
    return alias->service.leads && !alias->removal.cut;
}

/* Which Service of this name goes next: an alias that leads to the home Service, then that, for its
 * name may pass to another CR. NULL: all are being deleted. */
static struct held_service *next_to_go(const struct resource *r, const char *name)
{
    struct held_service *home = resource_service(r, r->control->settings.home, name);
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
    note_leftover(r, r->control->settings.home, name, held);
    note_leftover(r, r->namespace, name, held);
    if (!held || r->operation != OPERATION_NONE) {
        return;
    }
    if (held->removal.due > loop_now(r->control->loop)) {
        resource_wake_at(r, held->removal.due);
    } else if (still_leads(held) && (held->removal.failed || held->service.deleting)) {
        cut_alias(r, held);
    } else if (!record_port(r, held)) {
        call_service(r, OPERATION_DELETE, CLUSTER_DELETE, held->service.namespace,
                     held->service.name, held->service.uid, (struct str){0});
    }
}

static void close_tenant(struct tenant *t)
{
    close_target(t);
    give_up_port(t);
}

int tenant_withdraw(struct tenant *t)
{
    close_tenant(t);
    take_back(t->resource, t->service);
    return t->resource->operation == OPERATION_NONE ? OK : AGAIN;
}

int tenants_withdraw(struct resource *r)
{
    LIST_EACH (it, &r->tenants) {
        close_tenant(container_of(it, struct tenant, link));
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
    return resource_tenant(r, s->name) && (strcmp(s->namespace, r->control->settings.home) == 0 ||
                                           strcmp(s->namespace, r->namespace) == 0);
}

bool tenants_clean(struct resource *r)
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

/* May a user have it taken over? SAP's proxy leaves nothing in the home namespace that names its
 * CR, so a Service there belongs to somebody else, or to nobody who could be asked. */
static bool is_adoptable(const struct resource *r, struct json_value object)
{
    const char *home = r->control->settings.home;
    return strcmp(r->operand_namespace, home) != 0 && service_is_alias(object, home);
}

/* The Service that has the name of ours is not ours. */
static void taken(struct resource *r, bool adoptable)
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
        set_trouble(r->operand, &condition, silent);
    }
    if (silent && (!r->told || strcmp(r->told, condition.reason) != 0)) {
        resource_send_event(r, &condition);
    }
}

/* The Service that has the name of ours is that of another CR, which gives it up. */
static void not_gone(struct resource *r, struct resource *rival)
{
    struct condition condition;
    resource_wake(rival);
    plan_failure(&condition, "ConfigurationError-K8sResourceWithNameAlreadyPresent",
                 "Technical connectivity is not configured. The Service \"%s\" in the namespace "
                 "\"%s\" was made for the Destination CR \"%s\" in the namespace \"%s\", and is "
                 "not gone yet; if it does not go, see its metadata.finalizers",
                 r->operand_name, r->operand_namespace, rival->name, rival->namespace);
    if (r->operand) {
        set_passing_trouble(r->operand, &condition);
    }
}

/* The Service whose name is taken: ours after all, also if somebody has removed its labels; or one
 * that we may take over; or foreign. */
static void looked_at(struct resource *r, struct json_value object)
{
    struct control *c = r->control;
    const char *home = c->settings.home;
    bool away = strcmp(r->operand_namespace, home) != 0;
    control_take_service(c, object);
    if (resource_service(r, r->operand_namespace, r->operand_name)) {
        return;
    }
    if (resource_rival(r, r->operand_namespace, r->operand_name)) {
        not_gone(r, resource_rival(r, r->operand_namespace, r->operand_name));
        return;
    }
    bool made_by_us = away && service_is_made_for(object, r->name, home);
    if (!made_by_us && !(r->cr.adopt && is_adoptable(r, object))) {
        taken(r, is_adoptable(r, object));
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

/* A write that did not succeed was no repair, and a Service that we have deleted needs none. */
static void correct_repairs(struct resource *r)
{
    if (!r->operand) {
        return;
    }
    struct repairs *repairs =
        repairs_of(r->operand, strcmp(r->operand_namespace, r->control->settings.home) != 0);
    if (r->operation == OPERATION_DELETE || r->operation == OPERATION_CUT) {
        repairs_forget(repairs);
    } else if (r->operation != OPERATION_LOOK) {
        repairs_failed(repairs, now_of(r->operand));
    }
}

/* Who has the name, and what is it like? */
static void look_at_service(struct resource *r)
{
    call_service(r, OPERATION_LOOK, CLUSTER_GET, r->operand_namespace, r->operand_name, NULL,
                 (struct str){0});
}

/* A DELETE or a cut has failed. Nothing else waits for it: there may be no CR any more that could
 * say so. When an alias cannot be deleted, it is cut off at once. */
static void removal_failed(struct resource *r, const struct cluster_answer *answer)
{
    struct held_service *held = operand_service(r);
    r->control->stats.errors++;
    if (!held || leftover_failed(held, answer->err.text)) {
        log_line(LOG_WARN, "control", "%s: %s; tried again", r->key, answer->err.text);
    }
    if (held) {
        struct removal *removal = &held->removal;
        removal->failed = r->operation == OPERATION_DELETE;
        if (!removal->failed || !still_leads(held)) {
            removal->due = loop_now(r->control->loop) +
                           backoff_delay(removal->tries++, REMOVAL_FIRST, REMOVAL_MOST, 10);
        }
    }
}

/* The answer to a change tells how the Service is by now. */
static void changed(struct resource *r, struct json_value object)
{
    if (follower_is_news(&r->control->followers[FOLLOW_SERVICES], object)) {
        control_take_service(r->control, object);
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
            looked_at(r, answer->object);
        } else if (operation == OPERATION_DELETE && !json_exists(answer->object)) {
            service_went(r);
        } else {
            changed(r, answer->object);
        }
        break;
    case CLUSTER_EXISTS:
        look_at_service(r);
        break;
    case CLUSTER_ABSENT:
        service_went(r);
        if (operation == OPERATION_CREATE) {
            refused(r, answer); /* its namespace is going, say */
        } else if (!removes) {
            resource_conflicted(r);
        }
        break;
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        if (removes) {
            removal_failed(r, answer);
        } else if (answer->result == CLUSTER_REFUSED) {
            refused(r, answer);
        } else {
            not_written(r, answer);
        }
        break;
    case CLUSTER_CONFLICT: /* another one may have its place */
        if (operation == OPERATION_DELETE) {
            removal_failed(r, answer);
            break;
        }
        resource_conflicted(r);
        if (operation == OPERATION_APPLY) {
            look_at_service(r);
        }
        break;
    }
}
