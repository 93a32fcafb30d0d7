/* Writes the NetworkPolicies of the home namespace, which say which pods may reach which target
 * port. Knows ports and namespaces, but not whose they are. */
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
struct network_policies;
struct network_policy;
struct ports;
struct store;
struct stored;

/* A port in the policy that admits to it. Embedded where the port belongs; both lists have to be
 * initialised. */
struct policy_port {
    struct list link;
    struct list awaited;           /* while its owner waits for the policy to change */
    struct network_policy *policy; /* NULL: the port is in no policy */
    uint16_t number;
};

/* All of it stays the caller's. The functions are called from the loop, or from inside functions of
 * this file. */
struct network_policies_settings {
    struct loop *loop;
    struct cluster *cluster;
    const char *home;    /* the namespace of the policies */
    struct ports *ports; /* counts the ports that policies list */

    /* Returns true when policies may be written. When that has become true,
     * network_policies_compare_all is to be called. */
    bool (*may_write)(void *arg);

    /* The result of network_policies_admit or network_policies_exclude may have changed. */
    void (*wake)(struct policy_port *port, void *arg);

    /* An answer of the API server has brought a policy of ours: it is to be stored and handed to
     * network_policies_take, unless the watch has told of it already. */
    void (*take)(struct json_value object, void *arg);

    void *arg;
};

/* Creates it; the settings are copied. */
struct network_policies *network_policies_new(const struct network_policies_settings *settings);

/* Gives up the writes under way, and forgets what the API server has refused: another process
 * writes from now on. */
void network_policies_give_up(struct network_policies *policies);

/* Writes nothing any more. */
void network_policies_stop(struct network_policies *policies);

/* Frees it and its store. No port may be open any more. */
void network_policies_free(struct network_policies *policies);

/* Returns the store of the policies of ours that exist, to be filled by a watch. */
struct store *network_policies_store(struct network_policies *policies);

/* Takes in a policy that has come or changed, with its place in the store. */
void network_policies_take(struct network_policies *policies, struct stored *stored,
                           struct json_value object);

/* Admits the pods of namespace `from` to the port of this number, or those of all namespaces when
 * it is NULL, instead of what was open before. */
void network_policies_open(struct network_policies *policies, struct policy_port *port,
                           uint16_t number, const char *from);

/* Admits nobody to the port any more. */
void network_policies_close(struct network_policies *policies, struct policy_port *port);

/* Compares all policies with what they should be. */
void network_policies_compare_all(struct network_policies *policies);

/* Tells whether the pods for which the port is open are admitted to it. AGAIN: soon. ERR: *why says
 * what is in the way. OK for a port that is closed. After AGAIN and ERR `wake` is called when
 * the result may have changed. */
int network_policies_admit(struct network_policies *policies, struct policy_port *port,
                           struct condition *why) warn_unused;

/* Tells whether no policy of ours admits other pods to the port, except for those of the namespace.
 * Results as above. */
int network_policies_exclude(struct network_policies *policies, struct policy_port *port,
                             const char *namespace, struct condition *why) warn_unused;

/* Counts writes to the API server, and those that it refused or did not answer. */
struct network_policies_figures {
    uint64_t writes, errors;
};
struct network_policies_figures network_policies_figures(const struct network_policies *policies);

/* The end of a sentence for people. */
#define NETWORK_POLICIES_UNKNOWN                                                                   \
    "the API server does not let us list NetworkPolicies (see RBAC in docs/install.md)"

#endif
