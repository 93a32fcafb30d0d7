/* The controller: Destination CRs and the TransparentProxy object of an installation become targets
 * that listen, Services, NetworkPolicies, conditions and Events. What it follows and writes goes
 * through struct cluster, so it is the same in a cluster and in local mode. */
#ifndef TPROXY_CONTROLLER_CONTROLLER_H
#define TPROXY_CONTROLLER_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/base.h"

struct cluster;
struct condition;
struct config;
struct connectivity;
struct control;
struct dest;
struct dest_source;
struct loop;
struct oauth;
struct pop3;
struct tls_roots;

/* How long a target port that was given up is not used again. */
#define CONTROL_PORT_REST SECONDS(15 * 60)

/* Texts are copied. */
struct control_settings {
    const char *home;               /* the installation's namespace */
    const char *domain;             /* of the cluster: "cluster.local" */
    const char *instance;           /* of this process, for Events: the pod's name */
    union addr listen;              /* of the targets; its port does not count */
    uint16_t first_port, last_port; /* theirs; 0, 0: whichever is free */
    size_t namespace_targets; /* most targets of one namespace; 0: as many as there are ports */
    bool claim_all;           /* give every CR a condition, not only those of POP3 mail */
    bool in_cluster; /* there are Services, policies, Events. Else the ports are the lowest that are
                        free, and names need not be those of Services */
};

/* What it works with; all of it stays the caller's. */
struct control_parts {
    struct cluster *cluster;
    struct dest_source *source;        /* whom the controller and sessions ask */
    struct dest *dest;                 /* is told of instances and timeouts */
    struct oauth *oauth;               /* of timeouts */
    struct connectivity *connectivity; /* of the Connectivity Proxy */
    struct pop3 *pop3;
    struct tls_roots *roots; /* the system's certificates, which the three trust that talk TLS until
                                there are additionalCAs; NULL: none */
};

/* Who is told, from the loop, never from inside a call of control_*. */
struct control_handler {
    /* A configuration is in force: the first one, or another. Valid during the call. */
    void (*configured)(const struct config *config, void *arg);

    /* The condition of a CR has changed: told for each of its targets, which is named like its
     * Service ("<cr>", "<cr>-<tenant>"), with what concerns this one; `port` listens for it (0:
     * nothing does). A CR without any is told of by its own name. */
    void (*changed)(const char *namespace, const char *name, const struct condition *condition,
                    uint16_t port, void *arg);

    /* A target that was there is no more. */
    void (*gone)(const char *namespace, const char *name, void *arg);

    void *arg;
};

/* Begins to follow the cluster. */
struct control *control_new(struct loop *loop, const struct control_parts *parts,
                            const struct control_settings *settings,
                            struct control_handler handler);

/* Stops following and writing; targets stay open (pop3_abort closes them). */
void control_stop(struct control *control);

/* After control_stop. NULL is allowed. */
void control_free(struct control *control);

/* A destination may have changed otherwise than its source could tell: local mode's files. All CRs
 * that refer to one of that name read it again. */
void control_look_again(struct control *control, const char *destination);

#endif
