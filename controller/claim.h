/* Decides whether a CR is ours: its namespace is managed by this installation, and its destination
 * is, or may be, POP3 mail that no other proxy serves. */
#ifndef TPROXY_CONTROLLER_CLAIM_H
#define TPROXY_CONTROLLER_CLAIM_H

#include <stdbool.h>

#include "controller/state.h"

/* Tells whether only labelled namespaces are managed. */
bool controller_selects_namespaces(const struct controller *controller);

/* Tells whether the namespace of the resource is managed by this installation. */
bool resource_managed(const struct resource *r);

/* Tells whether the CR stands for all destinations ("*"), which POP3 has no way to name. */
bool resource_is_gateway(const struct resource *r);

/* Tells whether we give the CR a condition. */
bool resource_claimed(const struct resource *r);

/* Tells whether the CR is ours and has got its target or its condition. */
bool resource_is_shown(const struct resource *r);

/* Counts the resource in controller->counts as what it is by now. */
void resource_count(struct resource *r);

/* Notes that a CR has been given its target or its condition once, or waits too long for it. */
void resource_settle(struct resource *r);

/* Notes that the CR has to be brought to the configuration in force, or that it has been, or has
 * gone. The configuration is told when that is so for all CRs. */
void resource_set_outdated(struct resource *r, bool outdated);

/* Counts a CR that exists and has not settled (1), or one of which this is no longer so (-1). */
void resource_count_unsettled(struct resource *r, int change);

#endif
