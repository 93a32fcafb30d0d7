/* Between endpoints and NetworkPolicies: works out port and namespace of each home Service. */
#include "controller/exposure.h"

#include <string.h>

#include "configuration/config.h"
#include "controller/network_policies.h"
#include "controller/plan.h"
#include "controller/precedence.h"
#include "controller/resources.h"

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
    return r->controller->config->cluster_wide;
}

/* Returns the namespace whose pods are admitted to its port; NULL: all. */
static const char *from_of(const struct resource *r)
{
    return is_cluster_wide(r) ? NULL : r->namespace;
}

/* Returns the port to admit to; 0: none. Before the endpoint has a port, that is the one in the
 * existing Service, so that clients stay connected while the destination is first read. For a CR
 * that cannot be read it is none, whatever the CR asked for before. */
static uint16_t open_port(const struct held_service *held)
{
    const struct resource *r = held->resource;
    const struct endpoint *e = resource_endpoint(r, held->service.name);
    bool home = strcmp(held->service.namespace, r->controller->settings.home) == 0;
    return !home || r->cr.wrong ? 0 : e && e->port ? e->port : held->service.target_port;
}

void service_expose(struct held_service *held)
{
    struct resource *r = held->resource;
    struct controller *c = r->controller;
    if (c->stopped || !c->config) {
        return; /* the first configuration exposes all */
    }
    uint16_t port = open_port(held);
    if (port) {
        network_policies_open(c->network_policies, &held->policy_port, port, from_of(r));
    } else {
        network_policies_close(c->network_policies, &held->policy_port);
    }
}

void resource_expose(struct resource *r)
{
    LIST_EACH (it, &r->services) {
        service_expose(container_of(it, struct held_service, link));
    }
}

int endpoint_exclude(struct endpoint *e, struct condition *why)
{
    struct held_service *held = e->port ? endpoint_service(e) : NULL;
    const struct resource *r = e->resource;
    return held ? network_policies_exclude(r->controller->network_policies, &held->policy_port,
                                           r->namespace, why)
                : OK;
}

int endpoint_admit(struct endpoint *e, struct condition *why)
{
    const struct resource *r = e->resource;
    struct held_service *held = endpoint_service(e);
    const char *status = r->cr.available.status;
    int rc = held ? network_policies_admit(r->controller->network_policies, &held->policy_port, why)
                  : OK;
    if (rc == AGAIN && !r->controller->followers[FOLLOW_POLICIES].known &&
        !(status && strcmp(status, "True") == 0)) {
        plan_failure(why, "ConfigurationFailed",
                     "Technical connectivity is not configured. It is not known which pods are "
                     "admitted to the mailbox: " NETWORK_POLICIES_UNKNOWN);
        return ERR;
    }
    return rc;
}
