/* NetworkPolicies of the home namespace: which pods may reach which target port. For each namespace
 * one policy admits its pods to ports, and another policy admits the pods of all namespaces.
 *
 *   a port is opened or closed, a policy changes --> due --> compare
 *      --> create | apply | delete --> done   --> (a pause) --> due, if something has changed
 *                                  --> exists --> whose is it? --> ours: due | trouble
 *                                  --> failed --> trouble --> (a longer pause) --> due
 *
 * The first change is written at once. While a policy keeps changing, the pauses between its writes
 * grow, so that many CRs cost few writes. Each policy has its own pauses and failures: none waits
 * for another one. */
#include "controller/network_policies.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "cluster/store.h"
#include "controller/plan.h"
#include "controller/ports.h"
#include "core/repairs.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/map.h"
#include "lib/mem.h"

/* Bounds of the pause between two writes of a policy. It is doubled each time, and is short again
 * when nothing had to be written for QUIET pauses. */
#define PAUSE_FIRST MILLIS(25)
#define PAUSE_MOST MILLIS(800)
enum { QUIET = 4 };

/* Bounds of the delay after a write that has failed. */
#define RETRY_FIRST SECONDS(1)
#define RETRY_MOST SECONDS(60)

/* The most calls at a time; the most ports that are compared in a turn, and how many ports each
 * policy counts as besides its own; the number of failures in a row, each of which may pass, from
 * which on they are a trouble. */
enum { CALLS_MAX = 4, PORTS_A_TURN = 1000, COST = 20, LATER_MAX = 3 };

/* Why a policy is not as it should be. */
struct trouble {
    const char *reason; /* of the condition; static storage */
    char words[FAIL_TEXT_MAX + 256];
};

/* A NetworkPolicy of ours that exists. */
struct held_policy {
    struct stored stored;
    struct network_policies *policies;
    uint64_t digest;
    char *uid;
    char *strangers;           /* see plan_policy_strangers */
    struct plan_ports *ranges; /* the ports that it lists */
    size_t n_ranges;
    bool deleting; /* a finalizer keeps it */
};

/* A policy that is wanted, or was. */
struct network_policy {
    struct network_policies *policies;
    struct map_entry by_name;
    struct list link;
    struct list due;      /* on policies->due, if it is to be compared */
    struct list ports;    /* the ports to which it admits */
    struct list awaiting; /* those of these ports whose owners wait */
    char *name;
    char *from; /* the namespace whose pods it admits; NULL: all, or nothing was ever opened */
    struct repairs repairs;
    struct cluster_call *call;
    bool again;         /* it has changed during the call */
    struct timer timer; /* compares it again */
    int64_t not_before; /* the end of the pause after the last write */
    int64_t pause;      /* its length */
    bool busy;          /* the write began soon after the one before */
    unsigned failures;  /* in a row */
    struct trouble *trouble;
};

struct network_policies {
    struct network_policies_settings set;
    struct store held; /* the policies that exist */
    bool stopped;
    struct network_policies_figures figures;
    struct map by_name;
    struct list all, due;
    struct list exposed; /* ports that policies of others list, too */
    struct task task;
    size_t calls;
};

/* ---- what is to be compared ---- */

static void compare_some(struct task *t);

static void on_compare_timer(struct timer *t);

/* Has the policy compared as soon as it may be written. */
static void enqueue(struct network_policy *policy)
{
    struct network_policies *p = policy->policies;
    if (policy->call) {
        policy->again = true;
    } else if (policy->not_before > loop_now(p->set.loop)) {
        timer_set(p->set.loop, &policy->timer, policy->not_before, on_compare_timer);
    } else {
        if (list_empty(&policy->due)) {
            list_append(&p->due, &policy->due);
        }
        loop_soon(p->set.loop, &p->task, compare_some);
    }
}

static void on_compare_timer(struct timer *t)
{
    t->due = 0;
    enqueue(container_of(t, struct network_policy, timer));
}

/* The same, but at the earliest PAUSE_FIRST from now. */
static void enqueue_later(struct network_policy *policy)
{
    struct loop *loop = policy->policies->set.loop;
    int64_t at = loop_now(loop) + PAUSE_FIRST;
    at = at > policy->not_before ? at : policy->not_before;
    if (policy->call) {
        policy->again = true;
    } else if (!policy->timer.due || policy->timer.due > at) {
        timer_set(loop, &policy->timer, at, on_compare_timer);
    }
}

static struct network_policy *get_policy(struct network_policies *p, const char *name)
{
    struct map_entry *e = map_find(&p->by_name, name);
    if (e) {
        return container_of(e, struct network_policy, by_name);
    }
    struct network_policy *policy = mem_zalloc(sizeof(*policy));
    policy->policies = p;
    policy->name = mem_strdup(name);
    list_init(&policy->due);
    list_init(&policy->ports);
    list_init(&policy->awaiting);
    map_add(&p->by_name, &policy->by_name, policy->name);
    list_append(&p->all, &policy->link);
    return policy;
}

static void policy_free(struct network_policy *policy)
{
    struct network_policies *p = policy->policies;
    timer_cancel(p->set.loop, &policy->timer);
    map_remove(&p->by_name, &policy->by_name);
    list_remove(&policy->link);
    list_remove(&policy->due);
    free(policy->trouble);
    free(policy->name);
    free(policy->from);
    free(policy);
}

static struct network_policy *policy_from(struct network_policies *p, const char *from)
{
    char name[PLAN_POLICY_NAME_SIZE];
    plan_policy_name(name, sizeof(name), from);
    struct network_policy *policy = get_policy(p, name);
    if (from && !policy->from) {
        policy->from = mem_strdup(from);
    }
    return policy;
}

static void set_policy_port(struct policy_port *port, struct network_policy *wanted,
                            uint16_t number)
{
    if (port->policy == wanted && port->number == number) {
        return;
    }
    if (port->policy && wanted) {
        enqueue(port->policy);
    } else if (port->policy) { /* a Service that was deleted by mistake is back soon */
        enqueue_later(port->policy);
    }
    list_remove(&port->link);
    list_remove(&port->awaited);
    port->policy = wanted;
    port->number = number;
    if (wanted) {
        list_append(&wanted->ports, &port->link);
        enqueue(wanted);
    }
}

void network_policies_open(struct network_policies *p, struct policy_port *port, uint16_t number,
                           const char *from)
{
    if (!p->stopped) {
        set_policy_port(port, policy_from(p, from), number);
    }
}

void network_policies_close(struct network_policies *p, struct policy_port *port)
{
    if (p->stopped) {
        list_remove(&port->link);
        list_remove(&port->awaited);
    } else {
        set_policy_port(port, NULL, 0);
    }
}

void network_policies_compare_all(struct network_policies *p)
{
    LIST_EACH (it, &p->held.all) {
        get_policy(p, container_of(it, struct stored, link)->name);
    }
    LIST_EACH (it, &p->all) {
        enqueue(container_of(it, struct network_policy, link));
    }
}

/* ---- what exists ---- */

static struct held_policy *find_held(const struct network_policies *p, const char *name)
{
    const struct stored *stored = store_find(&p->held, name);
    return stored ? container_of(stored, struct held_policy, stored) : NULL;
}

/* Tells whether the policy of that name lists the port. */
static bool lists(const struct network_policies *p, const char *name, uint16_t port)
{
    const struct held_policy *held = find_held(p, name);
    size_t first = 0, end = held ? held->n_ranges : 0;
    while (first < end) {
        size_t middle = (first + end) / 2;
        const struct plan_ports *range = &held->ranges[middle];
        if (range->first <= port && port <= range->last) {
            return true;
        }
        if (range->first > port) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    return false;
}

/* Wakes the owners of these ports. */
static void wake_awaited(struct network_policies *p, struct list *ports)
{
    LIST_EACH (it, ports) {
        struct policy_port *port = container_of(it, struct policy_port, awaited);
        list_remove(&port->awaited);
        p->set.wake(port, p->set.arg);
    }
}

static void count_ports(struct held_policy *held, void (*count)(struct ports *, uint16_t, uint16_t))
{
    for (size_t i = 0; i < held->n_ranges; i++) {
        count(held->policies->set.ports, held->ranges[i].first, held->ranges[i].last);
    }
}

static void policy_changed(struct network_policies *p, const char *name)
{
    struct network_policy *policy = get_policy(p, name);
    wake_awaited(p, &policy->awaiting);
    wake_awaited(p, &p->exposed);
    enqueue(policy);
}

void network_policies_take(struct network_policies *p, struct stored *stored,
                           struct json_value object)
{
    struct held_policy *held = container_of(stored, struct held_policy, stored), before = *held;
    struct json_value metadata = json_get(object, "metadata");
    held->policies = p;
    held->uid = json_strdup(json_get(metadata, "uid"), NULL);
    held->strangers = plan_policy_strangers(object);
    held->digest = plan_policy_digest(object);
    held->deleting = json_given(json_get(metadata, "deletionTimestamp"));
    held->ranges = plan_policy_ports(object, &held->n_ranges);
    count_ports(held, ports_list);
    if (before.policies) {
        count_ports(&before, ports_unlist);
    }
    free(before.uid);
    free(before.strangers);
    free(before.ranges);
    policy_changed(p, stored->name);
}

static void policy_release(struct stored *stored)
{
    struct held_policy *held = container_of(stored, struct held_policy, stored);
    struct network_policies *p = held->policies;
    count_ports(held, ports_unlist);
    free(held->uid);
    free(held->strangers);
    free(held->ranges);
    if (!p->stopped) {
        policy_changed(p, stored->name);
    }
}

/* ---- what owners of ports are told ---- */

/* Returns a policy that admits pods to the port other than those of the namespace and those for
 * which it is open. NULL: there is none. It is rare, so it may be found by a walk. */
static const char *find_stranger(const struct network_policies *p, const struct policy_port *port,
                                 const char *namespace)
{
    char own[PLAN_POLICY_NAME_SIZE], everybody[PLAN_POLICY_NAME_SIZE];
    uint16_t number = port->number;
    plan_policy_name(own, sizeof(own), namespace);
    plan_policy_name(everybody, sizeof(everybody), NULL);
    bool wide = strcmp(port->policy->name, everybody) == 0 && lists(p, everybody, number);
    if (ports_listed(p->set.ports, number) <= (unsigned)lists(p, own, number) + wide) {
        return NULL;
    }
    LIST_EACH (it, &p->held.all) {
        const char *name = container_of(it, struct stored, link)->name;
        if (strcmp(name, own) != 0 && !(wide && strcmp(name, everybody) == 0) &&
            lists(p, name, number)) {
            return name;
        }
    }
    return NULL;
}

static const struct trouble *trouble_of(struct network_policies *p, const char *name)
{
    struct map_entry *e = map_find(&p->by_name, name);
    return e ? container_of(e, struct network_policy, by_name)->trouble : NULL;
}

static void await(struct list *list, struct policy_port *port)
{
    list_remove(&port->awaited);
    list_append(list, &port->awaited);
}

int network_policies_exclude(struct network_policies *p, struct policy_port *port,
                             const char *namespace, struct condition *why)
{
    const char *name = port->policy ? find_stranger(p, port, namespace) : NULL;
    if (!name) {
        return OK;
    }
    const struct trouble *trouble = trouble_of(p, name);
    await(&p->exposed, port);
    if (!trouble) {
        return AGAIN; /* it is about to be changed */
    }
    plan_failure(why, trouble->reason,
                 "Technical connectivity is not configured. The NetworkPolicy \"%s\" in the "
                 "namespace \"%s\" admits pods to the mailbox that must not reach it: %s",
                 name, p->set.home, trouble->words);
    return ERR;
}

int network_policies_admit(struct network_policies *p, struct policy_port *port,
                           struct condition *why)
{
    if (!port->policy || lists(p, port->policy->name, port->number)) {
        return OK;
    }
    await(&port->policy->awaiting, port);
    const struct trouble *trouble = port->policy->trouble;
    if (trouble) {
        plan_failure(why, trouble->reason,
                     "Technical connectivity is not configured. No pod is admitted to the mailbox "
                     "by the NetworkPolicy \"%s\" in the namespace \"%s\": %s",
                     port->policy->name, p->set.home, trouble->words);
        return ERR;
    }
    return AGAIN;
}

/* ---- writing ---- */

static void policy_resume(struct network_policy *policy)
{
    bool again = policy->again;
    policy->again = false;
    if (again) {
        enqueue(policy);
    }
    loop_soon(policy->policies->set.loop, &policy->policies->task, compare_some);
}

static void policy_end_trouble(struct network_policy *policy)
{
    struct network_policies *p = policy->policies;
    policy->failures = 0;
    if (policy->trouble) {
        free(policy->trouble);
        policy->trouble = NULL;
        wake_awaited(p, &policy->awaiting);
        wake_awaited(p, &p->exposed);
    }
}

static void policy_set_trouble(struct network_policy *policy, const char *reason, const char *words)
{
    struct network_policies *p = policy->policies;
    if (policy->trouble && strcmp(policy->trouble->words, words) == 0) {
        return;
    }
    log_line(LOG_WARN, "control", "NetworkPolicy %s: %s", policy->name, words);
    free(policy->trouble);
    policy->trouble = mem_zalloc(sizeof(*policy->trouble));
    policy->trouble->reason = reason;
    text_fmt(policy->trouble->words, sizeof(policy->trouble->words), "%s", words);
    wake_awaited(p, &policy->awaiting);
    wake_awaited(p, &p->exposed);
}

/* Has a write that failed tried again, each time after a longer delay. */
static void policy_failed(struct network_policy *policy)
{
    struct network_policies *p = policy->policies;
    p->figures.errors++;
    repairs_forget(&policy->repairs);
    policy->not_before =
        loop_now(p->set.loop) + backoff_delay(policy->failures++, RETRY_FIRST, RETRY_MOST, 10);
    policy->again = true;
}

static void policy_failed_by_answer(struct network_policy *policy,
                                    const struct cluster_answer *answer)
{
    policy_failed(policy);
    if (answer->result == CLUSTER_REFUSED || policy->failures >= LATER_MAX) {
        policy_set_trouble(policy, "ConfigurationFailed", answer->err.text);
    } else {
        log_line(LOG_WARN, "control", "%s; tried again", answer->err.text);
    }
}

static void policy_written(struct network_policy *policy, struct json_value object)
{
    struct network_policies *p = policy->policies;
    int64_t pause = policy->busy ? 2 * policy->pause : PAUSE_FIRST;
    policy->pause = pause < PAUSE_MOST ? pause : PAUSE_MOST;
    policy->not_before = loop_now(p->set.loop) + policy->pause;
    policy_end_trouble(policy);
    if (json_exists(object)) {
        p->set.take(object, p->set.arg);
    }
}

/* Takes in the policy that has the name of ours. */
static void on_conflicting_policy(const struct cluster_answer *answer, void *arg)
{
    struct network_policy *policy = arg;
    struct network_policies *p = policy->policies;
    const char *home = p->set.home;
    char words[FAIL_TEXT_MAX + 256];
    policy->call = NULL;
    p->calls--;
    switch (answer->result) {
    case CLUSTER_DONE:
        policy_failed(policy);
        if (plan_is_ours(answer->object, home)) {
            p->set.take(answer->object, p->set.arg);
            break;
        }
        text_fmt(words, sizeof(words),
                 "it is there already and is not tproxy's. Delete it (kubectl delete networkpolicy "
                 "-n %s %s)",
                 home, policy->name);
        policy_set_trouble(policy, "ConfigurationError-K8sResourceWithNameAlreadyPresent", words);
        break;
    case CLUSTER_ABSENT: /* it has gone */
        policy->again = true;
        break;
    case CLUSTER_EXISTS:
    case CLUSTER_CONFLICT:
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        policy_failed_by_answer(policy, answer);
        break;
    }
    policy_resume(policy);
}

static void policy_call(struct network_policy *policy, const struct cluster_request *request,
                        void (*answered)(const struct cluster_answer *answer, void *arg))
{
    struct network_policies *p = policy->policies;
    struct cluster_handler handler = {.done = answered, .arg = policy};
    p->calls++;
    policy->call = cluster_call(p->set.cluster, request, handler);
}

static struct cluster_request request_of(const struct network_policy *policy,
                                         enum cluster_verb verb)
{
    return (struct cluster_request){.verb = verb,
                                    .kind = &kind_policy,
                                    .namespace = policy->policies->set.home,
                                    .name = policy->name};
}

static void on_policy_written(const struct cluster_answer *answer, void *arg)
{
    struct network_policy *policy = arg;
    struct network_policies *p = policy->policies;
    policy->call = NULL;
    p->calls--;
    switch (answer->result) {
    case CLUSTER_DONE:
        policy_written(policy, answer->object);
        break;
    case CLUSTER_EXISTS: {
        struct cluster_request request = request_of(policy, CLUSTER_GET);
        policy_call(policy, &request, on_conflicting_policy);
        return;
    }
    case CLUSTER_ABSENT:
    case CLUSTER_CONFLICT: /* the watch is about to tell why */
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        policy_failed_by_answer(policy, answer);
        break;
    }
    policy_resume(policy);
}

static void policy_start(struct network_policy *policy, enum cluster_verb verb, const char *uid,
                         struct str body)
{
    struct network_policies *p = policy->policies;
    struct cluster_request request = request_of(policy, verb);
    request.uid = uid;
    request.body = body;
    p->figures.writes++;
    policy->busy = loop_now(p->set.loop) < policy->not_before + QUIET * policy->pause;
    policy_call(policy, &request, on_policy_written);
}

/* Returns the sorted ports without duplicates (two Services may briefly share one). The caller
 * frees the array. */
static uint16_t *list_ports(const struct network_policy *policy, size_t *n)
{
    enum { WORD = 64, WORDS = (UINT16_MAX + 1) / WORD };
    uint64_t asked[WORDS] = {0}; /* one bit for each port: qsort takes 1.6 ms for 10,000 */
    size_t all = 0;
    LIST_EACH (it, &policy->ports) {
        uint16_t number = container_of(it, struct policy_port, link)->number;
        asked[number / WORD] |= UINT64_C(1) << number % WORD;
        all++;
    }
    uint16_t *ports = mem_alloc(all * sizeof(*ports));
    *n = 0;
    for (size_t i = 0; i < WORDS; i++) {
        for (uint64_t left = asked[i]; left; left &= left - 1) {
            ports[(*n)++] = (uint16_t)(i * WORD + (size_t)__builtin_ctzll(left));
        }
    }
    return ports;
}

/* Writes the text unless the policy has it, or has been repaired too often to be written now. */
static void write_text(struct network_policy *policy, const struct held_policy *held,
                       struct str text)
{
    struct loop *loop = policy->policies->set.loop;
    struct json *doc = json_parse(text, NULL);
    uint64_t digest = plan_policy_digest(json_root(doc));
    int64_t due = repairs_due(&policy->repairs, digest);
    json_free(doc);
    if (held && held->digest == digest) {
        policy_end_trouble(policy);
    } else if (due > loop_now(loop)) {
        timer_set(loop, &policy->timer, due, on_compare_timer);
    } else {
        if (repairs_note(&policy->repairs, digest, loop_now(loop))) {
            log_line(LOG_WARN, "control",
                     "NetworkPolicy %s: somebody else changes it again and again; it is put right "
                     "less and less often",
                     policy->name);
        }
        policy_start(policy, held ? CLUSTER_APPLY : CLUSTER_CREATE, NULL, text);
    }
}

/* Writes the policy unless it is as it should be. Returns how many ports it has. */
static size_t put_policy(struct network_policy *policy)
{
    struct network_policies *p = policy->policies;
    const struct held_policy *held = find_held(p, policy->name);
    struct plan_policy plan = {.home = p->set.home,
                               .from = policy->from,
                               .uid = held ? held->uid : NULL,
                               .strangers = held ? held->strangers : NULL};
    uint16_t *ports = list_ports(policy, &plan.n_ports);
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    plan.ports = ports;
    if (plan_policy(&body, &plan) == OK) {
        write_text(policy, held, buf_str(&body));
    } else {
        char words[128];
        text_fmt(words, sizeof(words),
                 "%zu ports are more than fit into one; delete Destination CRs", plan.n_ports);
        policy_set_trouble(policy, "ConfigurationFailed", words);
    }
    buf_free(&body);
    free(ports);
    return plan.n_ports;
}

/* Removes a policy that no port asks for any more. One that cannot be deleted, or has a finalizer,
 * admits nobody until it goes. */
static void remove_policy(struct network_policy *policy)
{
    const struct held_policy *held = find_held(policy->policies, policy->name);
    if (!held) {
        policy_free(policy);
    } else if (held->n_ranges && (held->deleting || policy->failures)) {
        struct buf body;
        buf_init(&body, PLAN_OBJECT_MAX);
        int rc = plan_policy_closed(&body, held->uid);
        assert(rc == OK);
        policy_start(policy, CLUSTER_APPLY, NULL, buf_str(&body));
        buf_free(&body);
    } else if (!held->deleting) {
        policy_start(policy, CLUSTER_DELETE, held->uid, (struct str){0});
    }
}

/* Nothing may be written now, and network_policies_compare_all is called when that changes.
 * Policies that nobody wants and that do not exist need no memory until then. */
static void forget_due(struct network_policies *p)
{
    LIST_EACH (it, &p->due) {
        struct network_policy *policy = container_of(it, struct network_policy, due);
        list_remove(&policy->due);
        if (list_empty(&policy->ports) && !find_held(p, policy->name)) {
            policy_free(policy);
        }
    }
}

static void compare_some(struct task *t)
{
    struct network_policies *p = container_of(t, struct network_policies, task);
    size_t cost = 0;
    if (!p->set.may_write(p->set.arg)) {
        forget_due(p);
        return;
    }
    while (!list_empty(&p->due) && p->calls < CALLS_MAX) {
        struct network_policy *policy = container_of(p->due.next, struct network_policy, due);
        if (cost >= PORTS_A_TURN) {
            loop_next_turn(p->set.loop, &p->task, compare_some);
            return;
        }
        list_remove(&policy->due);
        cost += COST;
        if (list_empty(&policy->ports)) {
            remove_policy(policy);
        } else {
            cost += put_policy(policy);
        }
    }
}

/* ---- life ---- */

struct network_policies *network_policies_new(const struct network_policies_settings *settings)
{
    struct network_policies *p = mem_zalloc(sizeof(*p));
    p->set = *settings;
    store_init(&p->held, sizeof(struct held_policy), policy_release);
    map_init(&p->by_name);
    list_init(&p->all);
    list_init(&p->due);
    list_init(&p->exposed);
    task_init(&p->task);
    return p;
}

struct store *network_policies_store(struct network_policies *p)
{
    return &p->held;
}

struct network_policies_figures network_policies_figures(const struct network_policies *p)
{
    return p->figures;
}

void network_policies_give_up(struct network_policies *p)
{
    LIST_EACH (it, &p->all) {
        struct network_policy *policy = container_of(it, struct network_policy, link);
        p->calls -= policy->call != NULL;
        cluster_cancel(p->set.cluster, policy->call);
        policy->call = NULL;
        policy->again = false;
        policy->not_before = 0;
        repairs_forget(&policy->repairs);
        policy_end_trouble(policy);
    }
}

void network_policies_stop(struct network_policies *p)
{
    p->stopped = true;
    task_cancel(&p->task);
    LIST_EACH (it, &p->all) {
        struct network_policy *policy = container_of(it, struct network_policy, link);
        timer_cancel(p->set.loop, &policy->timer);
        cluster_cancel(p->set.cluster, policy->call);
        policy->call = NULL;
    }
}

void network_policies_free(struct network_policies *p)
{
    LIST_EACH (it, &p->all) {
        policy_free(container_of(it, struct network_policy, link));
    }
    store_clear(&p->held);
    map_free(&p->by_name);
    free(p);
}
