/* Life of the controller: its parts are made, connected with each other, and freed.
 *
 *   watches ------> intake, held_services --.
 *   configuration --> sweep ----------------+--> what is concerned is woken --> queue
 *   network_policies, resting_ports --------'                                     |
 *                                                                                 v
 *                      woken again <-- done <-- one operation <-- reconcile(resource)
 *
 * Nothing is decided before everything has been listed once, and until all resources have been
 * brought to a changed configuration. */
#include "controller/controller.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/configuration.h"
#include "controller/claim.h"
#include "controller/endpoint.h"
#include "controller/events.h"
#include "controller/exposure.h"
#include "controller/held_services.h"
#include "controller/network_policies.h"
#include "controller/plan.h"
#include "controller/ports.h"
#include "controller/queue.h"
#include "controller/reconcile.h"
#include "controller/resources.h"
#include "controller/resting_ports.h"
#include "controller/state.h"
#include "controller/sweep.h"
#include "controller/term.h"
#include "controller/watches.h"
#include "lib/mem.h"
#include "pop3.h"

enum { ALL_PORTS = 65536 };

/* ---- what ports and policies tell ---- */

/* More ports have been recorded, or cannot be; or the record has been listed. */
static void on_resting_ports(void *arg)
{
    struct controller *c = arg;
    LIST_EACH (it, &c->recording) {
        resource_over(container_of(it, struct resource, recording));
    }
    if (!c->resting_listed ||
        c->elected != c->leads) { /* the controller, or its term, waits for it */
        c->resting_listed = true;
        watches_resume(c);
    }
}

static bool may_write_policies(void *arg)
{
    const struct controller *c = arg;
    const char *why;
    return c->leads && c->followers[FOLLOW_POLICIES].known && watches_listed(c, &why);
}

/* The pods that are admitted to the port of a Service may have changed. */
static void on_admission(struct policy_port *port, void *arg)
{
    (void)arg;
    resource_wake(container_of(port, struct held_service, policy_port)->resource);
}

static void take_written_policy(struct json_value object, void *arg)
{
    struct controller *c = arg;
    follower_take(&c->followers[FOLLOW_POLICIES], object);
}

/* ---- what the configuration tells ---- */

static void read_all_again(void *arg)
{
    sweep_begin(arg, SWEEP_READ);
}

static bool is_applied(void *arg)
{
    const struct controller *c = arg;
    return !c->outdated && !(c->sweep.flags & SWEEP_CONFIGURE);
}

static void on_configuration(const struct config *config, void *arg)
{
    struct controller *c = arg;
    c->config = config;
    c->handler.configured(config, c->handler.arg);
    sweep_begin(c, SWEEP_CONFIGURE);
}

static void on_instance_changed(const char *name, void *arg)
{
    struct controller *c = arg;
    const char *otherwise = configuration_default_instance(c->configuration);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        const char *named = r->cr.ref.instance ? r->cr.ref.instance : otherwise;
        if (r->present && named && strcmp(named, name) == 0) {
            resource_read_again(r);
        }
    }
    watches_resume(c);
}

static void on_trusted(struct tls_roots *roots, void *arg)
{
    struct controller *c = arg;
    pop3_set_roots(c->parts.pop3, roots);
    read_all_again(c);
}

static void on_configuration_listed(void *arg)
{
    watches_resume(arg);
}

/* Services in the home namespace prove that a configuration was in force before. */
static enum configuration_past past_of(void *arg)
{
    const struct controller *c = arg;
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
    controller_send_event(arg, reason, note);
}

static struct configuration *new_configuration(struct controller *c)
{
    struct configuration_settings settings = {.loop = c->loop,
                                              .cluster = c->parts.cluster,
                                              .dest = c->parts.dest,
                                              .oauth = c->parts.oauth,
                                              .connectivity = c->parts.connectivity,
                                              .roots = c->parts.roots,
                                              .home = c->settings.home,
                                              .domain = c->settings.domain,
                                              .in_cluster = c->settings.in_cluster,
                                              .cluster_rules = c->settings.cluster_rules};
    struct configuration_handler handler = {.changed = on_configuration,
                                            .instance_changed = on_instance_changed,
                                            .read_again = read_all_again,
                                            .trusted = on_trusted,
                                            .listed = on_configuration_listed,
                                            .past = past_of,
                                            .applied = is_applied,
                                            .tell = on_told,
                                            .arg = c};
    return configuration_new(&settings, handler);
}

/* ---- life ---- */

static bool may_run(const struct controller *c)
{
    const char *why;
    return watches_listed(c, &why);
}

struct controller *controller_new(struct loop *loop, const struct controller_parts *parts,
                                  const struct controller_settings *settings,
                                  struct controller_handler handler)
{
    struct controller *c = mem_zalloc(sizeof(*c));
    struct ports_settings ports = {.first = settings->first_port,
                                   .last = settings->last_port,
                                   .at_random = settings->in_cluster,
                                   .rest = settings->in_cluster ? CONTROLLER_PORT_REST : 0};
    c->loop = loop;
    c->parts = *parts;
    c->settings = *settings;
    c->settings.home = mem_strdup(settings->home);
    c->settings.domain = mem_strdup(settings->domain);
    c->settings.instance = mem_strdup(settings->instance);
    plan_writer(c->writer, sizeof(c->writer), settings->home);
    c->parts.cluster->writer = c->writer;
    c->parts.cluster->bounds = kind_bounds;
    c->handler = handler;
    c->leads = c->elected = !settings->in_cluster;
    list_init(&c->resources);
    queue_init(c, may_run, reconcile);
    map_init(&c->by_key);
    map_init(&c->spaces);
    map_init(&c->wanted_names);
    list_init(&c->names_changed);
    map_init(&c->services);
    list_init(&c->recording);
    c->ports = ports_new(loop, &ports);
    if (settings->in_cluster) {
        struct resting_ports_handler changed = {.changed = on_resting_ports, .arg = c};
        c->resting = resting_ports_new(loop, parts->cluster, c->settings.home, c->ports,
                                       CONTROLLER_PORT_REST, changed);
    }
    c->port_holders = mem_zalloc(ALL_PORTS * sizeof(c->port_holders[0]));
    c->configuration = new_configuration(c);
    c->network_policies =
        network_policies_new(&(struct network_policies_settings){.loop = loop,
                                                                 .cluster = parts->cluster,
                                                                 .home = c->settings.home,
                                                                 .ports = c->ports,
                                                                 .may_write = may_write_policies,
                                                                 .wake = on_admission,
                                                                 .take = take_written_policy,
                                                                 .arg = c});
    watches_init(c);
    return c;
}

void controller_lead(struct controller *c, bool leads)
{
    if (c->stopped || c->elected == leads || !c->settings.in_cluster) {
        return;
    }
    c->elected = leads;
    if (leads) {
        watches_list_again(c);
    } else {
        term_end(c);
    }
}

void controller_stop(struct controller *c)
{
    if (c->stopped) {
        return;
    }
    c->stopped = true;
    queue_stop(c);
    timer_cancel(c->loop, &c->tell_names);
    watches_stop(c);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        if (!c->queue.running && !c->queue.reading) {
            break;
        }
        resource_cancel(r);
        if (r->reading) {
            endpoints_stop_reading(r);
        }
    }
    resting_ports_free(c->resting);
    c->resting = NULL;
    network_policies_stop(c->network_policies);
    configuration_stop(c->configuration);
    cluster_cancel(c->parts.cluster, c->event);
    c->event = NULL;
}

void controller_free(struct controller *c)
{
    if (!c) {
        return;
    }
    controller_stop(c);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        endpoints_free(r);
        LIST_EACH (s, &r->services) {
            resource_drop_service(r, container_of(s, struct held_service, link));
        }
        resource_free(r);
    }
    free(c->told.spare);
    network_policies_free(c->network_policies);
    configuration_free(c->configuration);
    watches_free(c);
    map_free(&c->by_key);
    map_free(&c->spaces);
    map_free(&c->wanted_names);
    map_free(&c->services);
    ports_free(c->ports);
    free(c->port_holders);
    free((char *)c->settings.home);
    free((char *)c->settings.domain);
    free((char *)c->settings.instance);
    free(c);
}

void controller_look_again(struct controller *c, const char *destination)
{
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        if (r->present && strcmp(r->cr.ref.name, destination) == 0) {
            resource_read_again(r);
        }
    }
}
