/* The settings of the controller, the parts that it works with, and its handler. */
#ifndef TPROXY_CONTROLLER_SETTINGS_H
#define TPROXY_CONTROLLER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/base.h"

struct cluster;
struct condition;
struct config;
struct connectivity;
struct dest;
struct dest_source;
struct oauth;
struct pop3;
struct tls_roots;

/* How long a target port that was given up is not used again. */
#define CONTROLLER_PORT_REST SECONDS(15 * 60)

/* Texts are copied. */
struct controller_settings {
    const char *home;               /* the installation's namespace */
    const char *domain;             /* of the cluster: "cluster.local" */
    const char *instance;           /* of this process, for Events: the pod's name */
    union addr listen;              /* of the targets; its port does not count */
    uint16_t first_port, last_port; /* of the targets; 0, 0: whichever is free */
    size_t namespace_targets; /* most targets of one namespace; 0: as many as there are ports */
    int64_t service_delay; /* no condition calls a new Service working before it has been there for
                              so long, microseconds: the other replicas then listen on its port,
                              and kube-proxy and DNS know it; 0: nobody has to learn of it */
    bool claim_all;        /* give every CR a condition, not only those of POP3 mail */
    bool in_cluster; /* there are Services, policies, Events. Else the ports are the lowest that are
                        free, and names need not be those of Services */
};

/* The parts that the controller works with. All stay the caller's. */
struct controller_parts {
    struct cluster *cluster;
    struct dest_source *source;        /* answers the controller and sessions */
    struct dest *dest;                 /* is told of instances and timeouts */
    struct oauth *oauth;               /* is told of timeouts */
    struct connectivity *connectivity; /* is told of the Connectivity Proxy */
    struct pop3 *pop3;
    struct tls_roots *roots; /* the system's certificates, which dest, oauth and pop3 trust until
                                there are additionalCAs; NULL: none */
};

/* The functions are called from the loop, never from inside a call of controller_*. */
struct controller_handler {
    /* A configuration has come into force: the first one, or another. Valid during the call. */
    void (*configured)(const struct config *config, void *arg);

    /* The condition of a CR has changed. Called for each of its targets, which is named like its
     * Service ("<cr>", "<cr>-<tenant>"), with the condition of this target; `port` listens for it
     * (0: nothing does). For a CR without targets it is called once, with the CR's own name. */
    void (*changed)(const char *namespace, const char *name, const struct condition *condition,
                    uint16_t port, void *arg);

    /* A target that existed does not exist any more. */
    void (*gone)(const char *namespace, const char *name, void *arg);

    void *arg;
};

#endif
