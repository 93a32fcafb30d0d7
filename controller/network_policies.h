/* NetworkPolicies of the home namespace: which pods may reach which target port. */
#ifndef TPROXY_CONTROLLER_NETWORK_POLICIES_H
#define TPROXY_CONTROLLER_NETWORK_POLICIES_H

#include "lib/base.h"
#include "lib/json.h"

struct condition;
struct control;
struct held_service;
struct policies;
struct stored;

struct policies *policies_new(struct control *control);

/* Writes nothing any more. */
void policies_stop(struct policies *policies);

/* All resources have been freed. */
void policies_free(struct policies *policies);

/* The port of a Service, of who wants it, or the scope of its CR may have changed. */
void policies_look(struct policies *policies, struct held_service *held);

/* It is about to be freed. */
void policies_forget(struct policies *policies, struct held_service *held);

/* All policies may have changed. */
void policies_look_at_all(struct policies *policies);

/* A policy of ours has come or changed. The second frees what the first has taken. */
void policies_take(struct policies *policies, struct stored *stored, struct json_value object);
void policies_release(struct stored *stored);

/* Are the pods that its CR names admitted to the port of a home Service? AGAIN: soon. ERR: *why. */
int policies_admit(struct policies *policies, struct held_service *held,
                   struct condition *why) warn_unused;

/* Are no other pods admitted by a policy of ours? AGAIN: soon. ERR: *why. After both answers the
 * resource is woken when they may have changed. */
int policies_exclude(struct policies *policies, struct held_service *held,
                     struct condition *why) warn_unused;

/* The end of a sentence for people. */
#define POLICIES_UNKNOWN                                                                           \
    "the API server does not let us list NetworkPolicies (see RBAC in docs/install.md)"

#endif
