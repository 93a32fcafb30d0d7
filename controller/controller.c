/* Stores and queue of the controller.
 *
 *   watches --> stores: resources, namespaces, Services, policies
 *                  |
 *                  |  what an event concerns is woken
 *                  v
 *               queue --> pump: nothing happens before everything has been listed once
 *                           v
 *                     reconcile(resource) --> one step, one operation --> done --> woken again
 *                           |    ^                                         |
 *                           v    |                                         |
 *                          waiting: RUNNING_MAX operations are under way <-'
 *                          unread: READING_MAX destinations are being read
 *
 * A list that is complete sweeps its store: what it did not name is gone. While the CRD of the CRs
 * is not known to the API server nothing is known of CRs, and nothing is written or removed. */
#include "controller/controller.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/config.h"
#include "configuration/configuration.h"
#include "controller/claim.h"
#include "controller/endpoint.h"
#include "controller/exposure.h"
#include "controller/held_services.h"
#include "controller/intake.h"
#include "controller/network_policies.h"
#include "controller/ports.h"
#include "controller/queue.h"
#include "controller/reconcile.h"
#include "controller/resources.h"
#include "controller/resting_ports.h"
#include "controller/state.h"
#include "controller/status.h"
#include "controller/sweep.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "pop3.h"

enum { ALL_PORTS = 65536 };

/* Pauses between lists of Namespaces that do not count. */
#define DOUBT_FIRST SECONDS(2)
#define DOUBT_MOST SECONDS(60)

/* With this label on a namespace somebody hands it to the installation of that name. */
#define NAMESPACE_LABEL "transparent-proxy.connectivity.api.sap/namespace"

/* Users of any namespace write these; they have no share in our memory. */
static const char *const nothing_unread[] = {NULL};
static const char *const unread_of_destination[] = {"spec.actions", "metadata.labels",
                                                    "metadata.ownerReferences", NULL};
static const struct cluster_bounds bounds[] = {
    {&kind_destination, unread_of_destination, CR_MEMBER_MAX},
    {&kind_service, nothing_unread, CR_MEMBER_MAX},
    {NULL, NULL, 0},
};

static const char *const follow_names[] = {
    [FOLLOW_RESOURCES] = "Destinations",
    [FOLLOW_NAMESPACES] = "Namespaces",
    [FOLLOW_SERVICES] = "Services",
    [FOLLOW_POLICIES] = "NetworkPolicies",
};
static_assert(ARRAY_LEN(follow_names) == FOLLOW_COUNT, "every kind has its name");

bool control_may_act(const struct control *c, const char **why)
{
    for (size_t i = 0; i < FOLLOW_COUNT; i++) {
        const struct follower *f = &c->followers[i];
        if (f->watch && !f->listed) {
            *why = follow_names[i];
            return false;
        }
    }
    if (c->sweep.flags & (SWEEP_RESOURCES | SWEEP_SERVICES)) { /* some may have gone */
        *why = follow_names[c->sweep.flags & SWEEP_RESOURCES ? FOLLOW_RESOURCES : FOLLOW_SERVICES];
        return false;
    }
    if (c->followers[FOLLOW_RESOURCES].presence != CLUSTER_PRESENT) {
        *why = follow_names[FOLLOW_RESOURCES];
        return false;
    }
    if (c->resting && !resting_ports_listed(c->resting)) {
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
    *why = follow_names[FOLLOW_NAMESPACES]; /* which ones are ours is not to be guessed */
    return c->followers[FOLLOW_NAMESPACES].known || !control_selects_namespaces(c);
}

/* ---- all of them ---- */

static void drop_unlisted_services(struct resource *r)
{
    uint64_t round = r->control->followers[FOLLOW_SERVICES].round;
    LIST_EACH (it, &r->services) {
        struct held_service *held = container_of(it, struct held_service, link);
        if (held->round != round) {
            resource_drop_service(r, held);
        }
    }
}

static void sweep_one(struct resource *r, unsigned flags)
{
    bool listed = r->round == r->control->followers[FOLLOW_RESOURCES].round;
    if (flags & SWEEP_RESOURCES && r->present && !listed) {
        resource_gone(r);
    }
    if (flags & SWEEP_SERVICES) {
        drop_unlisted_services(r);
    }
    if (flags & SWEEP_WAKE) {
        resource_wake(r);
    }
}

static void on_swept(struct control *c, unsigned flags)
{
    if (flags & (SWEEP_RESOURCES | SWEEP_SERVICES)) {
        policies_look_at_all(c->policies); /* they could not be compared before */
    }
    queue_resume(c);
}

/* ---- what the watches tell ---- */

static char *text_of(struct json_value object, const char *member)
{
    char *text = json_strdup(json_get(json_get(object, "metadata"), member), NULL);
    return text ? text : mem_strdup("");
}

static struct resource *named_resource(const struct control *c, struct json_value object)
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
    struct control *c = arg;
    c->sweep.flags &= ~(unsigned)SWEEP_RESOURCES;
}

static void on_resource(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
    struct resource *r = control_take_resource(c, object);
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
    struct control *c = arg;
    if (complete) {
        sweep_begin(c, SWEEP_RESOURCES);
    }
    control_wake_all(c);
}

/* Can it be seen whose a Service is? Its members may be too large to be read. */
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

/* What is known of a Service that is there; NULL: nothing. */
static struct held_service *named_service(const struct control *c, struct json_value object)
{
    char *namespace = text_of(object, "namespace"), *name = text_of(object, "name");
    struct held_service *held = find_service(c, namespace, name);
    free(namespace);
    free(name);
    return held;
}

static void on_listing_services(void *arg)
{
    struct control *c = arg;
    c->sweep.flags &= ~(unsigned)SWEEP_SERVICES;
}

static void on_service(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
    struct held_service *held =
        shows_owner(object) ? control_take_service(c, object) : named_service(c, object);
    (void)stored;
    if (held) {
        held->round = c->followers[FOLLOW_SERVICES].round;
    }
}

/* While no configuration is in force, Services of ours prove that there was one. */
static void services_tell(struct control *c)
{
    if (!c->config) {
        configuration_look(c->configuration);
    }
}

static void on_service_gone(struct json_value object, void *arg)
{
    struct control *c = arg;
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
    struct control *c = arg;
    if (complete) {
        sweep_begin(c, SWEEP_SERVICES);
    }
    services_tell(c);
    control_wake_all(c);
}

/* ---- what is kept by name ---- */

static void list_namespaces_again(struct timer *t);

/* The list lacks our own namespace, so the API server is not itself: it is asked again soon. */
static void doubt_namespaces(struct control *c)
{
    int64_t pause = backoff_delay(c->doubts, DOUBT_FIRST, DOUBT_MOST, 10);
    if (c->doubts++ == 0) {
        log_line(LOG_WARN, "control", "Namespaces: the list lacks our own, %s; it does not count",
                 c->settings.home);
    }
    timer_set(c->loop, &c->list_namespaces, loop_now(c->loop) + pause, list_namespaces_again);
}

/* The home namespace is there as long as we are. A list of Namespaces without it is no reason to
 * leave the others. */
static bool namespaces_count(void *arg)
{
    struct control *c = arg;
    const struct stored *home = store_find(&c->namespaces, c->settings.home);
    if (home && home->round == c->followers[FOLLOW_NAMESPACES].round) {
        return true;
    }
    doubt_namespaces(c);
    return false;
}

static void on_namespaces_listed(bool complete, void *arg)
{
    struct control *c = arg;
    (void)complete;
    c->doubts = 0;
    control_wake_all(c);
}

static void on_namespace_gone(struct json_value object, void *arg)
{
    (void)object;
    control_wake_all(arg);
}

static void on_namespace(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
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
            resource_wake(r);
        }
    }
}

static void on_policy(struct json_value object, struct stored *stored, void *arg)
{
    struct control *c = arg;
    policies_take(c->policies, stored, object);
}

static void on_policies_listed(bool complete, void *arg)
{
    (void)complete;
    control_wake_all(arg);
}

/* More ports have been recorded, or cannot be; or the record has been asked for. */
static void on_resting_ports(void *arg)
{
    struct control *c = arg;
    LIST_EACH (it, &c->recording) {
        resource_over(container_of(it, struct resource, recording));
    }
    if (!c->resting_listed) {
        c->resting_listed = true;
        control_wake_all(c);
    }
}

/* ---- what the configuration tells ---- */

static void read_all_again(void *arg)
{
    struct control *c = arg;
    LIST_EACH (it, &c->resources) {
        resource_read_again(container_of(it, struct resource, link));
    }
}

static void on_configuration(const struct config *config, void *arg)
{
    struct control *c = arg;
    c->config = config;
    c->handler.configured(config, c->handler.arg);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        tenants_update(r);
        resource_expose(r);
    }
    read_all_again(c);
}

static void on_instance_changed(const char *name, void *arg)
{
    struct control *c = arg;
    const char *otherwise = configuration_default_instance(c->configuration);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        const char *named = r->cr.ref.instance ? r->cr.ref.instance : otherwise;
        if (r->present && named && strcmp(named, name) == 0) {
            resource_read_again(r);
        }
    }
    control_wake_all(c);
}

static void on_trusted(struct tls_roots *roots, void *arg)
{
    struct control *c = arg;
    pop3_set_roots(c->parts.pop3, roots);
    read_all_again(c);
}

static void on_configuration_listed(void *arg)
{
    control_wake_all(arg);
}

/* Services in the home namespace prove that a configuration was in force before. */
static enum configuration_past past_of(void *arg)
{
    const struct control *c = arg;
    if (!c->followers[FOLLOW_SERVICES].known) {
        return CONFIGURATION_PAST_UNKNOWN;
    }
    LIST_EACH (it, &c->resources) {
        const struct resource *r = container_of(it, struct resource, link);
        LIST_EACH (s, &r->services) {
            const struct held_service *held = container_of(s, struct held_service, link);
            if (strcmp(held->service.namespace, c->settings.home) == 0) {
                return CONFIGURATION_PAST_SERVED;
            }
        }
    }
    return CONFIGURATION_PAST_NONE;
}

static void on_told(const char *reason, const char *note, void *arg)
{
    control_send_event(arg, reason, note);
}

static struct configuration *new_configuration(struct control *c)
{
    struct configuration_settings settings = {.loop = c->loop,
                                              .cluster = c->parts.cluster,
                                              .dest = c->parts.dest,
                                              .oauth = c->parts.oauth,
                                              .connectivity = c->parts.connectivity,
                                              .roots = c->parts.roots,
                                              .home = c->settings.home,
                                              .domain = c->settings.domain,
                                              .in_cluster = c->settings.in_cluster};
    struct configuration_handler handler = {.changed = on_configuration,
                                            .instance_changed = on_instance_changed,
                                            .read_again = read_all_again,
                                            .trusted = on_trusted,
                                            .listed = on_configuration_listed,
                                            .past = past_of,
                                            .tell = on_told,
                                            .arg = c};
    return configuration_new(&settings, handler);
}

/* ---- life ---- */

static void follow(struct control *c, enum follow what, const struct cluster_selection *selection,
                   struct follower_settings settings)
{
    settings.name = follow_names[what];
    settings.arg = c;
    follower_start(&c->followers[what], c->parts.cluster, selection, &settings);
}

static void follow_namespaces(struct control *c)
{
    follow(c, FOLLOW_NAMESPACES, &(struct cluster_selection){.kind = &kind_namespace},
           (struct follower_settings){.store = &c->namespaces,
                                      .there = on_namespace,
                                      .gone = on_namespace_gone,
                                      .counts = namespaces_count,
                                      .listed = on_namespaces_listed});
}

/* A new watch begins with a list. */
static void list_namespaces_again(struct timer *t)
{
    struct control *c = container_of(t, struct control, list_namespaces);
    follower_stop(&c->followers[FOLLOW_NAMESPACES]);
    follow_namespaces(c);
}

static void follow_all(struct control *c)
{
    char ours[256];
    const char *home = c->settings.home;
    text_fmt(ours, sizeof(ours), LABEL_MANAGED_BY "=" LABEL_MANAGER "," LABEL_HOME "=%s", home);
    follow(c, FOLLOW_RESOURCES, &(struct cluster_selection){.kind = &kind_destination},
           (struct follower_settings){.listing = on_listing_resources,
                                      .there = on_resource,
                                      .gone = on_resource_gone,
                                      .listed = on_resources_listed});
    if (!c->settings.in_cluster) {
        return;
    }
    follow_namespaces(c);
    follow(c, FOLLOW_SERVICES, &(struct cluster_selection){.kind = &kind_service, .labels = ours},
           (struct follower_settings){.listing = on_listing_services,
                                      .there = on_service,
                                      .gone = on_service_gone,
                                      .listed = on_services_listed});
    follow(c, FOLLOW_POLICIES,
           &(struct cluster_selection){.kind = &kind_policy, .namespace = home, .labels = ours},
           (struct follower_settings){.store = policies_store(c->policies),
                                      .there = on_policy,
                                      .listed = on_policies_listed});
}

static bool may_write_policies(void *arg)
{
    const struct control *c = arg;
    const char *why;
    return c->followers[FOLLOW_POLICIES].known && control_may_act(c, &why);
}

/* Who is admitted to the port of a Service may have changed. */
static void on_admission(struct opening *opening, void *arg)
{
    (void)arg;
    resource_wake(container_of(opening, struct held_service, opening)->resource);
}

static void take_written_policy(struct json_value object, void *arg)
{
    struct control *c = arg;
    follower_take(&c->followers[FOLLOW_POLICIES], object);
}

static bool may_act(const struct control *c)
{
    const char *why;
    return control_may_act(c, &why);
}

struct control *control_new(struct loop *loop, const struct control_parts *parts,
                            const struct control_settings *settings, struct control_handler handler)
{
    struct control *c = mem_zalloc(sizeof(*c));
    struct ports_settings ports = {.first = settings->first_port,
                                   .last = settings->last_port,
                                   .at_random = settings->in_cluster,
                                   .rest = settings->in_cluster ? CONTROL_PORT_REST : 0};
    c->loop = loop;
    c->parts = *parts;
    c->settings = *settings;
    c->settings.home = mem_strdup(settings->home);
    c->settings.domain = mem_strdup(settings->domain);
    c->settings.instance = mem_strdup(settings->instance);
    plan_writer(c->writer, sizeof(c->writer), settings->home);
    c->parts.cluster->writer = c->writer;
    c->parts.cluster->bounds = bounds;
    c->handler = handler;
    store_init(&c->namespaces, sizeof(struct held_namespace), NULL);
    list_init(&c->resources);
    queue_init(c, may_act, reconcile);
    sweep_init(c, sweep_one, on_swept);
    map_init(&c->by_key);
    map_init(&c->spaces);
    map_init(&c->claims);
    list_init(&c->claims_changed);
    map_init(&c->services);
    list_init(&c->recording);
    c->ports = ports_new(loop, &ports);
    if (settings->in_cluster) {
        struct resting_ports_handler changed = {.changed = on_resting_ports, .arg = c};
        c->resting = resting_ports_new(loop, parts->cluster, c->settings.home, c->ports,
                                       CONTROL_PORT_REST, changed);
    }
    c->port_holders = mem_zalloc(ALL_PORTS * sizeof(c->port_holders[0]));
    c->configuration = new_configuration(c);
    c->policies = policies_new(&(struct policies_settings){.loop = loop,
                                                           .cluster = parts->cluster,
                                                           .home = c->settings.home,
                                                           .ports = c->ports,
                                                           .may_write = may_write_policies,
                                                           .wake = on_admission,
                                                           .take = take_written_policy,
                                                           .arg = c});
    follow_all(c);
    return c;
}

void control_stop(struct control *c)
{
    if (c->stopped) {
        return;
    }
    c->stopped = true;
    queue_stop(c);
    sweep_stop(c);
    timer_cancel(c->loop, &c->tell_claims);
    timer_cancel(c->loop, &c->list_namespaces);
    for (size_t i = 0; i < FOLLOW_COUNT; i++) {
        follower_stop(&c->followers[i]);
    }
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        if (!c->queue.running && !c->queue.reading) {
            break;
        }
        resource_cancel(r);
        if (r->reading) {
            tenants_stop_reading(r);
        }
    }
    resting_ports_free(c->resting);
    c->resting = NULL;
    policies_stop(c->policies);
    configuration_stop(c->configuration);
    cluster_cancel(c->parts.cluster, c->event);
    c->event = NULL;
}

void control_free(struct control *c)
{
    if (!c) {
        return;
    }
    control_stop(c);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        tenants_free(r);
        LIST_EACH (s, &r->services) {
            resource_drop_service(r, container_of(s, struct held_service, link));
        }
        resource_free(r);
    }
    policies_free(c->policies);
    configuration_free(c->configuration);
    store_clear(&c->namespaces);
    map_free(&c->by_key);
    map_free(&c->spaces);
    map_free(&c->claims);
    map_free(&c->services);
    ports_free(c->ports);
    free(c->port_holders);
    free((char *)c->settings.home);
    free((char *)c->settings.domain);
    free((char *)c->settings.instance);
    free(c);
}

void control_look_again(struct control *c, const char *destination)
{
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        if (r->present && strcmp(r->cr.ref.name, destination) == 0) {
            resource_read_again(r);
        }
    }
}
