/* The configuration in force, and its status: follows the TransparentProxy objects of the home
 * namespace, takes the oldest one, follows the Secrets and the ConfigMaps that it names, and tells
 * its user what has changed. */
#ifndef TPROXY_CONFIGURATION_CONFIGURATION_H
#define TPROXY_CONFIGURATION_CONFIGURATION_H

#include <stdbool.h>

#include "lib/base.h"

struct cluster;
struct config;
struct configuration;
struct connectivity;
struct dest;
struct loop;
struct oauth;
struct tls_roots;

/* How long the configuration of a deleted TransparentProxy object stays in force. Afterwards its
 * instances are forgotten. */
#define CONFIGURATION_GRACE SECONDS(120)

/* The parts that the configuration works with. Everything stays the caller's, and stays valid until
 * configuration_free. */
struct configuration_settings {
    struct loop *loop;
    struct cluster *cluster;
    struct dest *dest;                 /* gets instances and their keys, timeouts, certificates */
    struct oauth *oauth;               /* gets timeouts, certificates */
    struct connectivity *connectivity; /* gets the Connectivity Proxy */
    struct tls_roots *roots;           /* the system's certificates; NULL: none */
    const char *home;                  /* the installation's namespace */
    const char *domain;                /* of the cluster: "cluster.local" */
    bool in_cluster;    /* false in local mode: objects are files, which are still there at the
                           next start, and nothing is discovered */
    bool cluster_rules; /* an installation without an instance is incomplete */
};

/* Whether there was a configuration before this process started. */
enum configuration_past {
    CONFIGURATION_PAST_UNKNOWN, /* Services have not been listed yet */
    CONFIGURATION_PAST_NONE,
    CONFIGURATION_PAST_SERVED, /* there are Services of this installation */
};

/* The functions are called from the loop, never from inside a call of configuration_*. None is
 * NULL. They may call configuration_* except for stop and free. */
struct configuration_handler {
    /* A configuration is in force: the first one, or another. It is valid until the next call. All
     * destinations have to be read again. */
    void (*changed)(const struct config *config, void *arg);

    /* The key of this instance has changed, or what is wrong with it: its destinations have to be
     * read again, and CRs may have waited for it. */
    void (*instance_changed)(const char *name, void *arg);

    /* All destinations have to be read again: there are other instances than before, or another way
     * to on-premise systems. */
    void (*read_again)(void *arg);

    /* The certificates that TLS clients trust from now on; dest and oauth have got them already.
     * All destinations have to be read again. */
    void (*trusted)(struct tls_roots *roots, void *arg);

    /* The result of configuration_listed, configuration_is_fresh or configuration_knows_instances
     * may have changed. */
    void (*listed)(void *arg);

    /* Returns whether Services prove that there was a configuration before. */
    enum configuration_past (*past)(void *arg);

    /* Tells whether the configuration in force has had its full effect: every CR has been brought
     * to it. If not, configuration_decide_soon is to be called as soon as it has. */
    bool (*applied)(void *arg);

    /* People should know this about the configuration: for an Event. */
    void (*tell)(const char *reason, const char *note, void *arg);

    void *arg;
};

/* Starts to follow the TransparentProxy objects. No configuration is in force yet. */
struct configuration *configuration_new(const struct configuration_settings *settings,
                                        struct configuration_handler handler);

/* Lists afresh the ConfigMap of the last configuration, which another process may have written.
 * configuration_is_fresh tells whether that list has ended; `listed` of the handler is called
 * then. */
void configuration_list_again(struct configuration *configuration);
bool configuration_is_fresh(const struct configuration *configuration);

/* Says whether this process writes: the statuses, and that ConfigMap. In a cluster it does not at
 * the beginning; before it does, configuration_is_fresh has to return true. When it ends, the
 * writes under way are given up. In force is the same configuration as before, unless the other
 * process has kept a newer one. */
void configuration_lead(struct configuration *configuration, bool leads);

/* Ends all watches and calls. */
void configuration_stop(struct configuration *configuration);

/* Frees the object, after configuration_stop. */
void configuration_free(struct configuration *configuration);

/* Decides again soon which configuration is in force, and what the statuses say. To be called when
 * the result of `past` may have changed while none is in force, or that of `applied`. */
void configuration_decide_soon(struct configuration *configuration);

/* Returns the name of the TransparentProxy object in force, valid until the next turn; NULL: there
 * is none. */
const char *configuration_object(const struct configuration *configuration);

/* Returns its uid, valid until the next turn; "": there is none, or it has been deleted. */
const char *configuration_object_uid(const struct configuration *configuration);

/* Returns the name of the instance for CRs that name none, valid until the next turn; NULL: there
 * is no such instance. A configuration has to be in force. */
const char *configuration_default_instance(const struct configuration *configuration);

/* Tells whether the TransparentProxy objects have been listed, a configuration is in force, and
 * everything that it names has been listed: Secrets, and the ConfigMaps of the Connectivity Proxy.
 * If not, *why names what is missing. */
bool configuration_listed(const struct configuration *configuration, const char **why);

/* Tells whether an instance that is missing really is missing. Instances may be discovered late:
 * many clusters do not know their kinds, and it takes some seconds to believe that. */
bool configuration_knows_instances(const struct configuration *configuration);

/* Returns the sentence for which the status says Warning, valid until the next turn; NULL: there is
 * none. */
const char *configuration_warning(const struct configuration *configuration);

#endif
