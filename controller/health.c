/* Counts are kept by claim.c, status.c and queue.c; here they are only put into words. */
#include "controller/health.h"

#include "configuration/configuration.h"
#include "controller/claim.h"
#include "controller/network_policies.h"
#include "controller/resting_ports.h"
#include "controller/watches.h"
#include "lib/log.h"
#include "lib/metric.h"

/* The longest wait for all targets together. Services that existed before have their listeners long
 * before that. */
#define READY_WITHIN SECONDS(60)

/* How long a process that cannot listen on the port of a Service is not ready. */
#define UNHELD_WITHIN SECONDS(60)

static bool lacks_listener(const struct controller *c)
{
    return c->unheld && loop_now(c->loop) < c->unheld_since + UNHELD_WITHIN;
}

bool controller_ready(struct controller *c, const char **why)
{
    if (!c->ready && !watches_listed(c, why)) {
        return false;
    }
    *why = c->ready ? "the listeners of all Services" : "targets";
    if (c->ready) {
        return !lacks_listener(c);
    }
    bool late = c->queue.since && loop_now(c->loop) - c->queue.since >= READY_WITHIN;
    c->ready = c->unsettled == 0 || late;
    if (c->unsettled && late) {
        log_line(LOG_WARN, "control",
                 "ready, although %zu Destinations have neither their targets nor a condition yet",
                 c->unsettled);
    }
    return c->ready;
}

static int resource_json(const struct resource *r, struct buf *out)
{
    const struct cr_condition *a = &r->cr.available;
    return json_fmt(out,
                    "{'Name':%s,'Namespace':%s,'DestinationRef':{'name':%s},"
                    "'CreationTimestamp':%s,'Available':%s,'Message':%s,'Reason':%s}",
                    r->name, r->namespace, r->cr.ref.name, r->cr.created,
                    a->status ? a->status : "Unknown", a->message ? a->message : "",
                    a->reason ? a->reason : "");
}

int controller_resources_json(const struct controller *c, struct buf *out)
{
    int rc = buf_fmt(out, "{\"Status\":\"ok\",\"CustomResources\":[");
    const char *comma = "";
    LIST_EACH (it, &c->resources) {
        const struct resource *r = container_of(it, struct resource, link);
        if (rc == OK && resource_is_shown(r)) {
            rc = buf_fmt(out, "%s", comma) == OK ? resource_json(r, out) : ERR;
            comma = ",";
        }
    }
    return rc == OK ? buf_fmt(out, "]}\n") : ERR;
}

/* Returns what is wrong with the CRD; NULL: nothing is known to be. */
static const char *crd_problem(const struct controller *c)
{
    return c->status_missing   ? CONTROLLER_STATUS_MISSING
           : c->tenants_pruned ? CONTROLLER_TENANTS_PRUNED
                               : NULL;
}

struct controller_health controller_health(const struct controller *c)
{
    const char *why, *warning = configuration_warning(c->configuration);
    const char *unrecorded = c->resting ? resting_ports_problem(c->resting) : NULL;
    warning = warning ? warning : crd_problem(c);
    struct controller_health h = {
        .listed = watches_listed(c, &why),
        .configured = !warning,
        .resources = c->counts[COUNTED_AVAILABLE] + c->counts[COUNTED_UNAVAILABLE],
        .not_available = c->counts[COUNTED_UNAVAILABLE],
        .stuck = c->leftovers,
        .unheld = c->unheld,
    };
    h.message = warning     ? warning
                : !h.listed ? "Not everything that is followed has been listed."
                : h.unheld ? "The ports of some Services cannot be listened on; the log names them."
                : h.stuck  ? "Some Services cannot be deleted; the log and Events name them."
                : unrecorded      ? unrecorded
                : h.not_available ? "Some destinations are not available."
                                  : "All destinations are available.";
    return h;
}

void controller_metrics(const struct controller *c, struct buf *out)
{
    struct controller_health h = controller_health(c);
    struct network_policies_figures policies = network_policies_figures(c->network_policies);
    const char *name = "tp_destination_crs";
    metric_head(out, name, METRIC_GAUGE, "Destination custom resources by their condition.");
    metric_count(out, name, (struct metric_label[]){{"Available", "True"}, {0}},
                 h.resources - h.not_available);
    metric_count(out, name, (struct metric_label[]){{"Available", "False"}, {0}}, h.not_available);
    metric_gauge(out, "tproxy_unheld_ports",
                 "Ports of Services that this replica, which does not lead, cannot listen on.",
                 (double)h.unheld);
    metric_counter(out, "tproxy_reconciles_total", "Times that a custom resource was looked at.",
                   c->stats.reconciles);
    metric_counter(out, "tproxy_reconcile_errors_total",
                   "Writes that the API server refused or did not answer.",
                   c->stats.errors + policies.errors);
    metric_counter(out, "tproxy_cluster_writes_total", "Writes to the API server.",
                   c->stats.writes + policies.writes);
    metric_counter(out, "tproxy_events_left_out_total",
                   "Events that were not sent because there were too many.",
                   c->stats.events_left_out);
}
