/* A CR is claimed by its destination. Where that has not been read, or cannot be, the CR may belong
 * to another proxy; it is ours only if nobody else has written its status, or if we have served it
 * before. */
#include "controller/claim.h"

#include <string.h>

#include "configuration/config.h"
#include "configuration/configuration.h"

bool controller_selects_namespaces(const struct controller *c)
{
    return c->settings.in_cluster && c->config && c->config->labelled_namespaces;
}

bool resource_managed(const struct resource *r)
{
    if (!controller_selects_namespaces(r->controller)) {
        return true;
    }
    const struct stored *s = store_find(&r->controller->namespaces, r->namespace);
    return s && container_of(s, struct held_namespace, stored)->labelled;
}

bool resource_is_gateway(const struct resource *r)
{
    return strcmp(r->cr.ref.name, "*") == 0;
}

/* Tells whether we have served the CR. Its Service in the home namespace proves that: users cannot
 * write there. */
static bool is_served(const struct resource *r)
{
    LIST_EACH (it, &r->services) {
        const struct held_service *held = container_of(it, struct held_service, link);
        if (strcmp(held->service.namespace, r->controller->settings.home) == 0) {
            return true;
        }
    }
    return false;
}

/* A CR may belong to another proxy. It is free if nobody else has written its status, or if we
 * already have Services for it. */
static bool is_free(const struct resource *r)
{
    return r->cr.status_owner != CR_STATUS_FOREIGN || is_served(r);
}

/* Tells whether the destination is POP3 mail, or may be. */
static bool is_claimed(const struct endpoint *e)
{
    if (!e->read) {
        return false;
    }
    switch (e->verdict) {
    case VERDICT_TYPE_NOT_SUPPORTED:
        return false;
    case VERDICT_NOT_FOUND:
    case VERDICT_FRAGMENT_NOT_FOUND:
    case VERDICT_INSTANCE_NOT_CONFIGURED:
    case VERDICT_UNREADABLE:
        return is_free(e->resource);
    case VERDICT_OK:
    case VERDICT_PROXY_TYPE_NOT_SUPPORTED:
    case VERDICT_AUTHENTICATION_NOT_SUPPORTED:
    case VERDICT_URL_NOT_SUPPORTED:
    case VERDICT_LOOPBACK_URL_NOT_SUPPORTED:
    case VERDICT_KEY_STORE_INVALID:
    case VERDICT_TRUST_STORE_INVALID:
    case VERDICT_CONFIGURATION_FAILED:
    case VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED:
    case VERDICT_TENANT_MODE_MISMATCH:
    case VERDICT_COUNT:
        break;
    }
    return true;
}

bool resource_claimed(const struct resource *r)
{
    if (r->controller->settings.claim_all) {
        return true;
    }
    if (resource_is_gateway(r)) {
        return false;
    }
    LIST_EACH (it, &r->endpoints) {
        if (is_claimed(container_of(it, struct endpoint, link))) {
            return true;
        }
    }
    return list_empty(&r->endpoints) && is_free(r);
}

/* ---- counting ---- */

static bool is_available(const struct resource *r)
{
    return r->cr.available.status && strcmp(r->cr.available.status, "True") == 0;
}

/* Only the leader knows the destination. For the others the condition says whose the CR is. */
static bool is_ours(const struct resource *r)
{
    return r->controller->leads ? resource_claimed(r)
                                : r->cr.status_owner == CR_STATUS_OURS && r->cr.available.status;
}

bool resource_is_shown(const struct resource *r)
{
    return r->present && r->settled && resource_managed(r) && is_ours(r);
}

void resource_count(struct resource *r)
{
    size_t *counts = r->controller->counts;
    counts[r->counted]--;
    r->counted = !resource_is_shown(r) ? COUNTED_NOT
                 : is_available(r)     ? COUNTED_AVAILABLE
                                       : COUNTED_UNAVAILABLE;
    counts[r->counted]++;
}

void resource_count_unsettled(struct resource *r, int change)
{
    r->controller->unsettled += (size_t)change;
}

void resource_set_outdated(struct resource *r, bool outdated)
{
    struct controller *c = r->controller;
    r->settle_by = outdated ? 0 : r->settle_by;
    if (r->outdated == outdated) {
        return;
    }
    r->outdated = outdated;
    c->outdated += outdated ? 1 : (size_t)-1;
    if (!c->outdated && !c->stopped) {
        configuration_decide_soon(c->configuration);
    }
}

void resource_settle(struct resource *r)
{
    if (r->present && !r->settled) {
        r->settled = true;
        resource_count(r);
        resource_count_unsettled(r, -1);
    }
}
