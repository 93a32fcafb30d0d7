/* The way to on-premise systems: which Connectivity Proxy there is, and what it wants. */
#ifndef TPROXY_CONFIGURATION_ONPREMISE_H
#define TPROXY_CONFIGURATION_ONPREMISE_H

#include <stdbool.h>

struct cluster;
struct config;
struct connectivity;
struct loop;
struct onpremise;

/* Everything stays the caller's, and stays valid until onpremise_free. */
struct onpremise_settings {
    struct loop *loop;
    struct cluster *cluster;
    struct connectivity *connectivity; /* gets the Connectivity Proxy */
    const char *home;                  /* the installation's namespace */
    const char *domain;                /* of the cluster: "cluster.local" */
    bool in_cluster; /* false: there are no ConfigMaps; the configuration says everything */

    /* Called when a result of onpremise_decided or onpremise_problem may have changed; other_way
     * tells whether on-premise systems are reached otherwise than before. Called from the loop,
     * never from inside a call of onpremise_*. */
    void (*changed)(bool other_way, void *arg);
    void *arg;
};

/* Makes an object that follows nothing before onpremise_configure. */
struct onpremise *onpremise_new(const struct onpremise_settings *settings);

/* Ends all watches. */
void onpremise_stop(struct onpremise *onpremise);

/* Frees the object, after onpremise_stop. */
void onpremise_free(struct onpremise *onpremise);

/* Takes the configuration in force, which stays valid until the next call. */
void onpremise_configure(struct onpremise *onpremise, const struct config *config);

/* Tells whether everything that describes the Connectivity Proxy has been listed and considered. If
 * not, *why names what is missing. */
bool onpremise_decided(const struct onpremise *onpremise, const char **why);

/* Returns a sentence that says why on-premise systems cannot be reached through the Connectivity
 * Proxy, or not as its ConfigMap now says; valid until the next turn. NULL: nothing is wrong, or
 * there is no Connectivity Proxy. */
const char *onpremise_problem(const struct onpremise *onpremise);

#endif
