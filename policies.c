/* NetworkPolicies of the home namespace: which pods may reach which target port. Compared as a
 * whole, a moment after something has changed, and written one at a time.
 *
 *   looked at --> (a moment later) --> wanted: one policy a namespace, one for all of clusterWide
 *                                         | first difference to what is there
 *                                         v
 *                                      create | apply | delete --> done --> looked at again */
#include <stdlib.h>
#include <string.h>

#include "control_private.h"
#include "core/config.h"
#include "lib/log.h"
#include "lib/mem.h"

#define QUIET MILLIS(50)
#define RETRY SECONDS(5)

enum { POLICY_NAME_MAX = 254 };

/* One port that pods of `from` may reach; "": those of all namespaces. */
struct opening {
    const char *from;
    uint16_t port;
};

struct policies {
    struct control *control;
    struct timer timer;
    struct cluster_call *call;
    bool again;
};

static void compare(struct policies *p);

static void on_timer(struct timer *t)
{
    struct policies *p = container_of(t, struct policies, timer);
    t->due = 0;
    if (!p->call) {
        compare(p);
    }
}

static void look_in(struct policies *p, int64_t pause)
{
    if (!p->timer.due) {
        timer_set(p->control->loop, &p->timer, loop_now(p->control->loop) + pause, on_timer);
    }
}

void policies_look(struct policies *p)
{
    p->again = true;
    if (p->control->settings.in_cluster) {
        look_in(p, QUIET);
    }
}

/* ---- what is wanted ---- */

static int compare_openings(const void *a, const void *b)
{
    const struct opening *x = a, *y = b;
    int order = strcmp(x->from, y->from);
    return order ? order : x->port - y->port;
}

static bool is_cluster_wide(const struct resource *r, const struct config *config)
{
    switch (r->cr.scope) {
    case CR_SCOPE_NAMESPACED:
        return false;
    case CR_SCOPE_CLUSTER_WIDE:
        return true;
    case CR_SCOPE_DEFAULT:
        break;
    }
    return config->cluster_wide;
}

/* Sorted; the caller frees. */
static struct opening *list_openings(const struct control *c, size_t *n)
{
    const struct config *config = configuration_config(c->configuration);
    size_t cap = c->by_key.n;
    struct opening *list = mem_alloc((cap + 1) * sizeof(*list));
    *n = 0;
    LIST_EACH (it, &c->resources) {
        const struct resource *r = container_of(it, struct resource, link);
        if (r->port && r->present) {
            list[(*n)++] =
                (struct opening){is_cluster_wide(r, config) ? "" : r->namespace, r->port};
        }
    }
    qsort(list, *n, sizeof(*list), compare_openings);
    return list;
}

/* ---- writing ---- */

static void on_written(const struct cluster_answer *answer, void *arg)
{
    struct policies *p = arg;
    p->call = NULL;
    if (answer->result == CLUSTER_DONE && !p->again) {
        return; /* the watch tells of it, and then the next difference is looked for */
    }
    if (answer->result != CLUSTER_DONE) {
        log_line(LOG_WARN, "control", "%s", answer->err.text);
        p->control->stats.errors++;
        p->again = true;
    }
    look_in(p, answer->result == CLUSTER_DONE ? QUIET : RETRY);
}

static void start(struct policies *p, enum cluster_verb verb, const char *name, const char *uid,
                  struct str body)
{
    struct cluster_request request = {.verb = verb,
                                      .kind = &kind_policy,
                                      .namespace = p->control->settings.home,
                                      .name = name,
                                      .uid = uid,
                                      .body = body};
    struct cluster_handler handler = {.done = on_written, .arg = p};
    p->control->stats.writes++;
    p->call = cluster_call(p->control->parts.cluster, &request, handler);
}

/* True: there was nothing to write. */
static bool put_policy(struct policies *p, const char *from, const uint16_t *ports, size_t n)
{
    char name[POLICY_NAME_MAX];
    const char *of = from[0] ? from : NULL;
    plan_policy_name(name, sizeof(name), of);
    const struct stored *stored = store_find(&p->control->policies_held, name);
    const struct held_policy *held =
        stored ? container_of(stored, struct held_policy, stored) : NULL;
    struct plan_policy plan = {.home = p->control->settings.home,
                               .from = of,
                               .uid = held ? held->uid : NULL,
                               .ports = ports,
                               .n_ports = n};
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    if (plan_policy(&body, &plan) != OK) {
        log_line(LOG_ERROR, "control", "NetworkPolicy %s: %zu ports are more than fit into one",
                 name, n);
        buf_free(&body);
        return true;
    }
    struct json *doc = json_parse(buf_str(&body), NULL);
    bool same = held && doc && plan_policy_digest(json_root(doc)) == held->digest;
    json_free(doc);
    if (!same) {
        start(p, held ? CLUSTER_APPLY : CLUSTER_CREATE, name, NULL, buf_str(&body));
    }
    buf_free(&body);
    return same;
}

/* Writes the first policy that is not as wanted. True: there was none. */
static bool put_policies(struct policies *p, const struct opening *list, size_t n)
{
    uint16_t *ports = mem_alloc((n + 1) * sizeof(*ports));
    bool same = true;
    for (size_t i = 0, end; i < n && same; i = end) {
        for (end = i; end < n && strcmp(list[end].from, list[i].from) == 0; end++) {
            ports[end - i] = list[end].port;
        }
        same = put_policy(p, list[i].from, ports, end - i);
    }
    free(ports);
    return same;
}

static bool is_wanted(const struct opening *list, size_t n, const char *policy)
{
    char name[POLICY_NAME_MAX];
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(list[i].from, list[i - 1].from) != 0) {
            plan_policy_name(name, sizeof(name), list[i].from[0] ? list[i].from : NULL);
            if (strcmp(name, policy) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* As with Services: what no port asks for any more is removed, once it is known that there are no
 * others. */
static void remove_policy(struct policies *p, const struct opening *list, size_t n)
{
    LIST_EACH (it, &p->control->policies_held.all) {
        const struct held_policy *held = container_of(it, struct held_policy, stored.link);
        if (!is_wanted(list, n, held->stored.name)) {
            start(p, CLUSTER_DELETE, held->stored.name, held->uid, (struct str){0});
            return;
        }
    }
}

static void compare(struct policies *p)
{
    struct control *c = p->control;
    const char *why;
    size_t n;
    if (!p->again || !control_may_act(c, &why)) {
        return;
    }
    p->again = false;
    struct opening *list = list_openings(c, &n);
    if (put_policies(p, list, n) && c->unsettled == 0) {
        remove_policy(p, list, n);
    }
    free(list);
}

struct policies *policies_new(struct control *control)
{
    struct policies *p = mem_zalloc(sizeof(*p));
    p->control = control;
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
    free(p);
}
