/* NetworkPolicies of the home namespace: which pods may reach which target port. One policy admits
 * the pods of a namespace to the ports of its CRs, another one those of all namespaces to the ports
 * of the CRs that are clusterWide. What has changed is compared a moment later, and written one at
 * a time.
 *
 *   port or scope of a CR, a policy that is there --> changed --> (a moment later) compare
 *      --> create | apply | delete --> done --> the next one that has changed */
#include <stdlib.h>
#include <string.h>

#include "control_private.h"
#include "core/config.h"
#include "core/repairs.h"
#include "lib/log.h"
#include "lib/mem.h"

#define QUIET MILLIS(50)
#define NEXT_TURN MILLIS(1)
#define RETRY_FIRST SECONDS(5)
#define RETRY_MOST SECONDS(60)

/* One that is wanted, or was. */
struct policy {
    struct map_entry by_name;
    struct list link;
    struct list changed;  /* on policies->changed, if it is to be compared */
    struct list openings; /* of the Services to whose ports it admits */
    char *name;
    struct repairs repairs;
};

struct policies {
    struct control *control;
    struct map by_name;
    struct list all, changed;
    struct timer timer;
    struct cluster_call *call;
    struct policy *written; /* by the call */
    int64_t retry;          /* the pause after the next failure */
};

/* ---- what is to be compared ---- */

static void compare(struct policies *p);

static void on_timer(struct timer *t)
{
    t->due = 0;
    compare(container_of(t, struct policies, timer));
}

static void look_in(struct policies *p, int64_t pause)
{
    int64_t due = loop_now(p->control->loop) + pause;
    if (!p->timer.due || due < p->timer.due) {
        timer_set(p->control->loop, &p->timer, due, on_timer);
    }
}

static void changed(struct policies *p, struct policy *policy)
{
    if (list_empty(&policy->changed)) {
        list_append(&p->changed, &policy->changed);
    }
}

static struct policy *get_policy(struct policies *p, const char *name)
{
    struct map_entry *e = map_find(&p->by_name, name);
    if (e) {
        return container_of(e, struct policy, by_name);
    }
    struct policy *policy = mem_zalloc(sizeof(*policy));
    policy->name = mem_strdup(name);
    list_init(&policy->changed);
    list_init(&policy->openings);
    map_add(&p->by_name, &policy->by_name, policy->name);
    list_append(&p->all, &policy->link);
    return policy;
}

static void policy_free(struct policies *p, struct policy *policy)
{
    map_remove(&p->by_name, &policy->by_name);
    list_remove(&policy->link);
    list_remove(&policy->changed);
    free(policy->name);
    free(policy);
}

static bool is_cluster_wide(const struct resource *r)
{
    switch (r->cr.scope) {
    case CR_SCOPE_NAMESPACED:
        return false;
    case CR_SCOPE_CLUSTER_WIDE:
        return true;
    case CR_SCOPE_DEFAULT:
        break;
    }
    return configuration_config(r->control->configuration)->cluster_wide;
}

/* The namespace whose pods are admitted to its port; NULL: all. */
static const char *from_of(const struct resource *r)
{
    return is_cluster_wide(r) ? NULL : r->namespace;
}

static struct policy *policy_of(struct policies *p, const struct resource *r)
{
    char name[PLAN_POLICY_NAME_SIZE];
    plan_policy_name(name, sizeof(name), from_of(r));
    return get_policy(p, name);
}

/* Until who wants the Service has a port, that in the Service, so that nobody is cut off while its
 * destination is read for the first time. Nobody is admitted to what a CR that cannot be read once
 * asked for. */
static uint16_t open_port(const struct held_service *held)
{
    const struct resource *r = held->resource;
    const struct tenant *t = resource_tenant(r, held->service.name);
    bool home = strcmp(held->service.namespace, r->control->settings.home) == 0;
    return !home || r->cr.wrong ? 0 : t && t->port ? t->port : held->service.target_port;
}

static void set_opening(struct policies *p, struct opening *o, struct policy *wanted, uint16_t port)
{
    if (o->policy == wanted && o->port == port) {
        return;
    }
    if (o->policy) {
        repairs_forget(&o->policy->repairs); /* we want another text now, so do not wait */
        changed(p, o->policy);
    }
    list_remove(&o->link);
    o->policy = wanted;
    o->port = port;
    if (wanted) {
        list_append(&wanted->openings, &o->link);
        repairs_forget(&wanted->repairs);
        changed(p, wanted);
    }
    look_in(p, QUIET);
}

void policies_look(struct policies *p, struct held_service *held)
{
    const struct control *c = p->control;
    if (c->stopped || !configuration_config(c->configuration)) {
        return; /* with the first configuration all are looked at */
    }
    uint16_t port = open_port(held);
    set_opening(p, &held->opening, port ? policy_of(p, held->resource) : NULL, port);
}

void policies_forget(struct policies *p, struct held_service *held)
{
    if (p->control->stopped) {
        list_remove(&held->opening.link);
    } else {
        set_opening(p, &held->opening, NULL, 0);
    }
}

void policies_look_at(struct policies *p, const char *name)
{
    changed(p, get_policy(p, name));
    look_in(p, QUIET);
}

void policies_look_at_all(struct policies *p)
{
    LIST_EACH (it, &p->control->policies_held.all) {
        get_policy(p, container_of(it, struct stored, link)->name);
    }
    LIST_EACH (it, &p->all) {
        changed(p, container_of(it, struct policy, link));
    }
    look_in(p, QUIET);
}

/* ---- writing ---- */

/* Where it was created a moment ago, the watch has yet to tell of it. */
static void on_written(const struct cluster_answer *answer, void *arg)
{
    struct policies *p = arg;
    p->call = NULL;
    if (answer->result != CLUSTER_DONE) {
        log_line(LOG_WARN, "control", "%s", answer->err.text);
        p->control->stats.errors++;
        repairs_forget(&p->written->repairs);
        changed(p, p->written);
        look_in(p, p->retry);
        p->retry = 2 * p->retry < RETRY_MOST ? 2 * p->retry : RETRY_MOST;
    } else {
        look_in(p, QUIET);
        p->retry = RETRY_FIRST;
    }
}

static void start(struct policies *p, struct policy *policy, enum cluster_verb verb,
                  const char *uid, struct str body)
{
    struct cluster_request request = {.verb = verb,
                                      .kind = &kind_policy,
                                      .namespace = p->control->settings.home,
                                      .name = policy->name,
                                      .uid = uid,
                                      .body = body};
    struct cluster_handler handler = {.done = on_written, .arg = p};
    p->control->stats.writes++;
    p->written = policy;
    p->call = cluster_call(p->control->parts.cluster, &request, handler);
}

static int compare_ports(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* Sorted, each one once, though for a moment two Services may have it; the caller frees. */
static uint16_t *list_ports(const struct policy *policy, size_t *n)
{
    size_t all = 0;
    LIST_EACH (it, &policy->openings) {
        all++;
    }
    uint16_t *ports = mem_alloc(all * sizeof(*ports)), *next = ports;
    LIST_EACH (it, &policy->openings) {
        *next++ = container_of(it, struct opening, link)->port;
    }
    qsort(ports, all, sizeof(*ports), compare_ports);
    *n = 0;
    for (size_t i = 0; i < all; i++) {
        if (*n == 0 || ports[*n - 1] != ports[i]) {
            ports[(*n)++] = ports[i];
        }
    }
    return ports;
}

static const struct held_policy *find_held(const struct policies *p, const struct policy *policy)
{
    const struct stored *stored = store_find(&p->control->policies_held, policy->name);
    return stored ? container_of(stored, struct held_policy, stored) : NULL;
}

/* Counts a repair. The policy differs from the written one: somebody else has changed it, or the
 * watch has not reported the writing yet. */
static void note_writing(struct policies *p, struct policy *policy, uint64_t digest)
{
    if (repairs_note(&policy->repairs, digest, loop_now(p->control->loop))) {
        log_line(LOG_WARN, "control",
                 "NetworkPolicy %s: somebody else changes it again and again; it is put right "
                 "less and less often",
                 policy->name);
    }
}

/* Writes it unless it is there as it should be. */
static void put_policy(struct policies *p, struct policy *policy)
{
    const struct opening *first = container_of(policy->openings.next, struct opening, link);
    const struct held_policy *held = find_held(p, policy);
    struct plan_policy plan = {
        .home = p->control->settings.home,
        .from = from_of(container_of(first, struct held_service, opening)->resource),
        .uid = held ? held->uid : NULL,
        .strangers = held ? held->strangers : NULL};
    uint16_t *ports = list_ports(policy, &plan.n_ports);
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    plan.ports = ports;
    if (plan_policy(&body, &plan) != OK) {
        log_line(LOG_ERROR, "control", "NetworkPolicy %s: %zu ports are more than fit into one",
                 policy->name, plan.n_ports);
    } else {
        struct json *doc = json_parse(buf_str(&body), NULL);
        uint64_t digest = plan_policy_digest(json_root(doc));
        json_free(doc);
        if (!held || held->digest != digest) {
            note_writing(p, policy, digest);
            start(p, policy, held ? CLUSTER_APPLY : CLUSTER_CREATE, NULL, buf_str(&body));
        }
    }
    buf_free(&body);
    free(ports);
}

/* As with Services: what no port asks for any more is removed, once it is known that there are no
 * others. */
static void remove_policy(struct policies *p, struct policy *policy)
{
    const struct held_policy *held = find_held(p, policy);
    if (held && p->control->unsettled == 0) {
        start(p, policy, CLUSTER_DELETE, held->uid, (struct str){0});
    } else {
        policy_free(p, policy);
    }
}

/* Returns the first changed policy that may be compared now. NULL when there is nothing to compare;
 * *due is then the time of the next one. */
static struct policy *first_due(const struct policies *p, int64_t *due)
{
    *due = INT64_MAX;
    LIST_EACH (it, &p->changed) {
        struct policy *policy = container_of(it, struct policy, changed);
        int64_t at = policy->repairs.due;
        if (at <= loop_now(p->control->loop)) {
            return policy;
        }
        *due = at < *due ? at : *due;
    }
    return NULL;
}

static void compare(struct policies *p)
{
    const char *why;
    int64_t due;
    if (p->call || list_empty(&p->changed) || !control_may_act(p->control, &why)) {
        return;
    }
    struct policy *policy = first_due(p, &due);
    if (!policy) {
        timer_set(p->control->loop, &p->timer, due, on_timer);
        return;
    }
    list_remove(&policy->changed);
    if (list_empty(&policy->openings)) {
        remove_policy(p, policy);
    } else {
        put_policy(p, policy);
    }
    if (!p->call && !list_empty(&p->changed)) {
        look_in(p, NEXT_TURN);
    }
}

/* ---- life ---- */

struct policies *policies_new(struct control *control)
{
    struct policies *p = mem_zalloc(sizeof(*p));
    p->control = control;
    p->retry = RETRY_FIRST;
    map_init(&p->by_name);
    list_init(&p->all);
    list_init(&p->changed);
    return p;
}

void policies_stop(struct policies *p)
{
    timer_cancel(p->control->loop, &p->timer);
    cluster_cancel(p->control->parts.cluster, p->call);
    p->call = NULL;
}

void policies_free(struct policies *p)
{
    LIST_EACH (it, &p->all) {
        policy_free(p, container_of(it, struct policy, link));
    }
    map_free(&p->by_name);
    free(p);
}
