/* NetworkPolicies of the home namespace: which pods may reach which target port. Knows ports and
 * namespaces, but not whose they are. */
#ifndef TPROXY_CONTROLLER_NETWORK_POLICIES_H
#define TPROXY_CONTROLLER_NETWORK_POLICIES_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/json.h"
#include "lib/list.h"

struct cluster;
struct condition;
struct loop;
struct policies;
struct policy;
struct ports;
struct store;
struct stored;

/* A port in the policy that admits to it. Embedded where the port belongs; both lists have to be
 * initialised. */
struct opening {
    struct list link;
    struct list awaited;   /* while its owner waits for the policy to change */
    struct policy *policy; /* NULL: the port is in no policy */
    uint16_t port;
};

/* All of it stays the caller's. The functions are called from the loop, or from inside functions of
 * this file. */
struct policies_settings {
    struct loop *loop;
    struct cluster *cluster;
    const char *home;    /* the namespace of the policies */
    struct ports *ports; /* counts the ports that policies list */

    /* Returns true when policies may be written. When that has become true, policies_look_at_all is
     * to be called. */
    bool (*may_write)(void *arg);

    /* The result of policies_admit or policies_exclude may have changed. */
    void (*wake)(struct opening *opening, void *arg);

    /* An answer of the API server has brought a policy of ours: it is to be stored and handed to
     * policies_take, unless the watch has told of it already. */
    void (*take)(struct json_value object, void *arg);

    void *arg;
};

/* Creates it; the settings are copied. */
struct policies *policies_new(const struct policies_settings *settings);

/* Writes nothing any more. */
void policies_stop(struct policies *policies);

/* Frees it and its store. No opening may be open any more. */
void policies_free(struct policies *policies);

/* Returns the store of the policies of ours that exist, to be filled by a watch. */
struct store *policies_store(struct policies *policies);

/* Takes in a policy that has come or changed, with its place in the store. */
void policies_take(struct policies *policies, struct stored *stored, struct json_value object);

/* Admits the pods of namespace `from` to the port, or those of all namespaces when it is NULL,
 * instead of what the opening admitted to before. */
void policies_open(struct policies *policies, struct opening *opening, uint16_t port,
                   const char *from);

/* Admits nobody through the opening any more. */
void policies_close(struct policies *policies, struct opening *opening);

/* Compares all policies with what they should be. */
void policies_look_at_all(struct policies *policies);

/* Tells whether the pods for which the port is open are admitted to it. AGAIN: soon. ERR: *why says
 * what is in the way. OK for an opening that is closed. After AGAIN and ERR `wake` is called when
 * the result may have changed. */
int policies_admit(struct policies *policies, struct opening *opening,
                   struct condition *why) warn_unused;

/* Tells whether no policy of ours admits other pods to the port, except for those of the namespace.
 * Results as above. */
int policies_exclude(struct policies *policies, struct opening *opening, const char *namespace,
                     struct condition *why) warn_unused;

/* Counts writes to the API server, and those that it refused or did not answer. */
struct policies_figures {
    uint64_t writes, errors;
};
struct policies_figures policies_figures(const struct policies *policies);

/* The end of a sentence for people. */
#define POLICIES_UNKNOWN                                                                           \
    "the API server does not let us list NetworkPolicies (see RBAC in docs/install.md)"

#endif
