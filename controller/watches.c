/* A complete list begins a sweep through the resources: what the list did not name is gone. While
 * the API server does not know the CRD of the CRs, nothing is known of CRs, and nothing is written
 * or removed. */
#include "controller/watches.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "cluster/labels.h"
#include "configuration/config.h"
#include "configuration/configuration.h"
#include "controller/claim.h"
#include "controller/endpoint.h"
#include "controller/exposure.h"
#include "controller/held_services.h"
#include "controller/intake.h"
#include "controller/network_policies.h"
#include "controller/plan.h"
#include "controller/queue.h"
#include "controller/reconcile.h"
#include "controller/resources.h"
#include "controller/resting_ports.h"
#include "controller/sweep.h"
#include "controller/term.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/mem.h"

/* Bounds of the pause after a list of Namespaces that does not count. */
#define DOUBT_FIRST SECONDS(2)
#define DOUBT_MOST SECONDS(60)

/* This label on a namespace hands it to the installation of that name. */
#define NAMESPACE_LABEL "transparent-proxy.connectivity.api.sap/namespace"

static const char *const follow_names[] = {
    [FOLLOW_RESOURCES] = "Destinations",
    [FOLLOW_NAMESPACES] = "Namespaces",
    [FOLLOW_SERVICES] = "Services",
    [FOLLOW_POLICIES] = "NetworkPolicies",
};
static_assert(ARRAY_LEN(follow_names) == FOLLOW_COUNT, "every kind has its name");

bool watches_listed(const struct controller *c, const char **why)
{
    for (size_t i = 0; i < FOLLOW_COUNT; i++) {
        const struct follower *f = &c->followers[i];
        if (f->watch && !f->listed) {
            *why = follow_names[i];
            return false;
        }
    }
    if (c->sweep.flags & (SWEEP_RESOURCES |
                          SWEEP_SERVICES)) { /* some may have gone, and it is not known yet which */
        *why = follow_names[c->sweep.flags & SWEEP_RESOURCES ? FOLLOW_RESOURCES : FOLLOW_SERVICES];
        return false;
    }
    if (c->sweep.flags & SWEEP_TERM) {
        *why = "the beginning of its term";
        return false;
    }
    if (c->sweep.flags & SWEEP_DECISIVE) {
        *why = "the configuration";
        return false;
    }
    if (c->followers[FOLLOW_RESOURCES].presence != CLUSTER_PRESENT) {
        *why = follow_names[FOLLOW_RESOURCES];
        return false;
    }
    if (c->resting && !c->resting_listed) {
        *why = "the ConfigMap " RESTING_PORTS_NAME;
        return false;
    }
    const struct follower *services = &c->followers[FOLLOW_SERVICES];
    if (services->watch && !services->known) {
        *why = follow_names[FOLLOW_SERVICES]; /* they hold the ports that are in use */
        return false;
    }
    if (!configuration_listed(c->configuration, why)) {
        return false;
    }
    *why = follow_names[FOLLOW_NAMESPACES]; /* without them it is not known which ones are ours */
    return c->followers[FOLLOW_NAMESPACES].known || !controller_selects_namespaces(c);
}

/* Tells whether everything that a former leader may have written last has been listed since
 * watches_list_again. */
static bool is_fresh(const struct controller *c)
{
    const struct follower *services = &c->followers[FOLLOW_SERVICES];
    bool complete = services->presence == CLUSTER_PRESENT;
    return services->fresh && (complete || !services->known) &&
           !(c->sweep.flags & SWEEP_SERVICES) && c->followers[FOLLOW_POLICIES].fresh &&
           resting_ports_listed(c->resting) && configuration_is_fresh(c->configuration);
}

static void begin_term_if_fresh(struct controller *c)
{
    if (c->elected && !c->leads && is_fresh(c)) {
        term_begin(c);
    }
}

void watches_resume(struct controller *c)
{
    begin_term_if_fresh(c);
    network_policies_compare_all(c->network_policies);
    controller_wake_all(c);
}

/* ---- the sweep ---- */

static void drop_unlisted_services(struct resource *r)
{
    uint64_t round = r->controller->followers[FOLLOW_SERVICES].round;
    LIST_EACH (it, &r->services) {
        struct held_service *held = container_of(it, struct held_service, link);
        if (held->round != round) {
            resource_drop_service(r, held);
        }
    }
}

static void sweep_one(struct resource *r, unsigned flags)
{
    bool listed = r->round == r->controller->followers[FOLLOW_RESOURCES].round;
    if (flags & SWEEP_RESOURCES && r->present && !listed) {
        resource_gone(r);
    }
    if (flags & SWEEP_SERVICES) {
        drop_unlisted_services(r);
    }
    if (flags & SWEEP_CONFIGURE) {
        resource_set_outdated(r, r->present);
        endpoints_update(r);
        resource_update_stance(r);
        resource_expose(r);
    }
    if (flags & (SWEEP_CONFIGURE | SWEEP_READ)) {
        resource_read_again(r);
    }
    if (flags & SWEEP_TERM) {
        term_forget(r);
    }
    if (flags & SWEEP_WAKE) {
        resource_wake(r);
    }
}

static void on_swept(struct controller *c, unsigned flags)
{
    begin_term_if_fresh(c);
    if (flags & SWEEP_DECISIVE) {
        network_policies_compare_all(c->network_policies); /* before, they could not be compared */
    }
    if (flags & SWEEP_CONFIGURE) {
        configuration_decide_soon(c->configuration); /* it may be applied to all by now */
    }
    queue_resume(c);
}

/* ---- CRs ---- */

static char *text_of(struct json_value object, const char *member)
{
    char *text = json_strdup(json_get(json_get(object, "metadata"), member), NULL);
    return text ? text : mem_strdup("");
}

static struct resource *named_resource(const struct controller *c, struct json_value object)
{
    char *namespace = text_of(object, "namespace"), *name = text_of(object, "name");
    struct resource *r = find_resource(c, namespace, name);
    free(namespace);
    free(name);
    return r;
}

/* A resource that the last list did not name may be in this one. */
static void on_listing_resources(void *arg)
{
    struct controller *c = arg;
    c->sweep.flags &= ~(unsigned)SWEEP_RESOURCES;
}

static void on_resource(struct json_value object, struct stored *stored, void *arg)
{
    struct controller *c = arg;
    struct resource *r = controller_take_resource(c, object);
    (void)stored;
    if (r) {
        r->round = c->followers[FOLLOW_RESOURCES].round;
    }
}

static void on_resource_gone(struct json_value object, void *arg)
{
    struct resource *r = named_resource(arg, object);
    if (r && r->present) {
        resource_gone(r);
    }
}

static void on_resources_listed(bool complete, void *arg)
{
    struct controller *c = arg;
    if (complete) {
        sweep_begin(c, SWEEP_RESOURCES);
    }
    watches_resume(c);
}

/* ---- Services ---- */

/* Tells whether the object shows whose the Service is. Its members may be too large to be read. */
static bool shows_owner(struct json_value object)
{
    static const char *const members[] = {"labels", "ownerReferences", "managedFields"};
    struct json_value metadata = json_get(object, "metadata");
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (json_type(json_get(metadata, members[i])) == JSON_OMITTED) {
            return false;
        }
    }
    return true;
}

/* Returns what is known of the Service; NULL: nothing. */
static struct held_service *named_service(const struct controller *c, struct json_value object)
{
    char *namespace = text_of(object, "namespace"), *name = text_of(object, "name");
    struct held_service *held = find_service(c, namespace, name);
    free(namespace);
    free(name);
    return held;
}

static void on_listing_services(void *arg)
{
    struct controller *c = arg;
    c->sweep.flags &= ~(unsigned)SWEEP_SERVICES;
}

static void on_service(struct json_value object, struct stored *stored, void *arg)
{
    struct controller *c = arg;
    struct held_service *held =
        shows_owner(object) ? controller_take_service(c, object) : named_service(c, object);
    (void)stored;
    if (held) {
        held->round = c->followers[FOLLOW_SERVICES].round;
    }
}

/* While no configuration is in force, Services of ours prove that there was one. */
static void services_tell(struct controller *c)
{
    if (!c->config) {
        configuration_decide_soon(c->configuration);
    }
}

static void on_service_gone(struct json_value object, void *arg)
{
    struct controller *c = arg;
    struct service service;
    if (service_parse(&service, object, c->settings.home) != OK) {
        return;
    }
    struct held_service *held = find_service(c, service.namespace, service.name);
    if (held && strcmp(held->service.uid, service.uid) == 0) {
        resource_drop_service(held->resource, held);
    }
    service_clear(&service);
    services_tell(c);
}

static void on_services_listed(bool complete, void *arg)
{
    struct controller *c = arg;
    if (complete) {
        sweep_begin(c, SWEEP_SERVICES);
    }
    services_tell(c);
    watches_resume(c);
}

/* ---- Namespaces ---- */

static void list_namespaces_again(struct timer *t);

/* The list lacks our own namespace, so the API server is not well: ask it again soon. */
static void doubt_namespaces(struct controller *c)
{
    int64_t pause = backoff_delay(c->doubts, DOUBT_FIRST, DOUBT_MOST, 10);
    if (c->doubts++ == 0) {
        log_line(LOG_WARN, "control", "Namespaces: the list lacks our own, %s; it does not count",
                 c->settings.home);
    }
    timer_set(c->loop, &c->list_namespaces, loop_now(c->loop) + pause, list_namespaces_again);
}

/* The home namespace exists as long as we do. So a list of Namespaces without it does not count. */
static bool namespaces_count(void *arg)
{
    struct controller *c = arg;
    const struct stored *home = store_find(&c->namespaces, c->settings.home);
    if (home && home->round == c->followers[FOLLOW_NAMESPACES].round) {
        return true;
    }
    doubt_namespaces(c);
    return false;
}

static void on_namespaces_listed(bool complete, void *arg)
{
    struct controller *c = arg;
    (void)complete;
    c->doubts = 0;
    watches_resume(c);
}

static void on_namespace_gone(struct json_value object, void *arg)
{
    (void)object;
    watches_resume(arg);
}

static void on_namespace(struct json_value object, struct stored *stored, void *arg)
{
    struct controller *c = arg;
    struct held_namespace *namespace = container_of(stored, struct held_namespace, stored);
    const struct space *space = find_space(c, stored->name);
    struct json_value labels = json_get(json_get(object, "metadata"), "labels");
    bool labelled = json_is(json_get(labels, NAMESPACE_LABEL), c->settings.home);
    if (namespace->labelled == labelled || json_type(labels) == JSON_OMITTED) {
        return;
    }
    namespace->labelled = labelled;
    if (space) {
        LIST_EACH (it, &space->resources) {
            struct resource *r = container_of(it, struct resource, in_space);
            r->retry_at = 0;
            resource_update_stance(r);
            resource_wake(r);
        }
    }
}

/* ---- NetworkPolicies ---- */

static void on_policy(struct json_value object, struct stored *stored, void *arg)
{
    struct controller *c = arg;
    network_policies_take(c->network_policies, stored, object);
}

static void on_policies_listed(bool complete, void *arg)
{
    (void)complete;
    watches_resume(arg);
}

/* ---- life ---- */

static void follow(struct controller *c, enum followed_kind what,
                   const struct cluster_selection *selection, struct follower_settings settings)
{
    settings.name = follow_names[what];
    settings.arg = c;
    follower_start(&c->followers[what], c->parts.cluster, selection, &settings);
}

static void follow_namespaces(struct controller *c)
{
    follow(c, FOLLOW_NAMESPACES, &(struct cluster_selection){.kind = &kind_namespace},
           (struct follower_settings){.store = &c->namespaces,
                                      .there = on_namespace,
                                      .gone = on_namespace_gone,
                                      .counts = namespaces_count,
                                      .listed = on_namespaces_listed});
}

static void follow_services(struct controller *c)
{
    follow(c, FOLLOW_SERVICES,
           &(struct cluster_selection){.kind = &kind_service, .labels = c->ours},
           (struct follower_settings){.listing = on_listing_services,
                                      .there = on_service,
                                      .gone = on_service_gone,
                                      .listed = on_services_listed});
}

static void follow_policies(struct controller *c)
{
    follow(c, FOLLOW_POLICIES,
           &(struct cluster_selection){
               .kind = &kind_policy, .namespace = c->settings.home, .labels = c->ours},
           (struct follower_settings){.store = network_policies_store(c->network_policies),
                                      .there = on_policy,
                                      .listed = on_policies_listed});
}

/* A new watch begins with a list. */
static void list_namespaces_again(struct timer *t)
{
    struct controller *c = container_of(t, struct controller, list_namespaces);
    follower_stop(&c->followers[FOLLOW_NAMESPACES]);
    follow_namespaces(c);
}

void watches_init(struct controller *c)
{
    store_init(&c->namespaces, sizeof(struct held_namespace), NULL);
    sweep_init(c, sweep_one, on_swept);
    text_fmt(c->ours, sizeof(c->ours), LABEL_MANAGED_BY "=" LABEL_MANAGER "," LABEL_HOME "=%s",
             c->settings.home);
    follow(c, FOLLOW_RESOURCES, &(struct cluster_selection){.kind = &kind_destination},
           (struct follower_settings){.listing = on_listing_resources,
                                      .there = on_resource,
                                      .gone = on_resource_gone,
                                      .listed = on_resources_listed});
    if (!c->settings.in_cluster) {
        return;
    }
    follow_namespaces(c);
    follow_services(c);
    follow_policies(c);
}

void watches_list_again(struct controller *c)
{
    resting_ports_lead(c->resting, true);
    configuration_list_again(c->configuration);
    follower_stop(&c->followers[FOLLOW_SERVICES]);
    follow_services(c);
    follower_stop(&c->followers[FOLLOW_POLICIES]);
    follow_policies(c);
}

void watches_stop(struct controller *c)
{
    sweep_stop(c);
    timer_cancel(c->loop, &c->list_namespaces);
    for (size_t i = 0; i < FOLLOW_COUNT; i++) {
        follower_stop(&c->followers[i]);
    }
}

void watches_free(struct controller *c)
{
    store_clear(&c->namespaces);
}
