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
struct destination;
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
    bool in_cluster;    /* there are Services, policies, Events. Else the ports are the lowest that
                           are free */
    bool cluster_rules; /* the rules of a cluster hold: names are those of Services in one
                           namespace, and an instance is needed. True wherever in_cluster is */
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

/* What has become of a target, or of a CR without targets. */
struct controller_report {
    const char *namespace, *resource; /* of the CR, and its name */
    const char *name;        /* of the target, like that of its Service ("<cr>", "<cr>-<tenant>") */
    const char *destination; /* the name that the CR refers to; "": it cannot be read */
    const struct condition *condition; /* of this target */
    const struct destination *dest;    /* NULL: it is not known, or wrong */
    bool unread;                       /* its source could not be asked */
    const char *remark;                /* a part of the CR that has no effect; NULL: none */
    uint16_t port;                     /* listens for the target; 0: nothing does */
};

/* The functions are called from the loop, never from inside a call of controller_*. */
struct controller_handler {
    /* A configuration has come into force: the first one, or another. Valid during the call. */
    void (*configured)(const struct config *config, void *arg);

    /* The condition of a CR has changed. Called for each of its targets; for a CR without targets
     * once, with the CR's own name. The report is valid during the call. */
    void (*changed)(const struct controller_report *report, void *arg);

    /* A target that existed does not exist any more. */
    void (*gone)(const char *namespace, const char *name, void *arg);

    void *arg;
};

#endif
