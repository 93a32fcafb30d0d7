/* The way to on-premise systems: which Connectivity Proxy there is, and what it wants. */
#ifndef TPROXY_CONFIGURATION_ONPREMISE_H
#define TPROXY_CONFIGURATION_ONPREMISE_H

#include <stdbool.h>

struct config;
struct control;
struct onpremise;

struct onpremise *onpremise_new(struct control *control);

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
