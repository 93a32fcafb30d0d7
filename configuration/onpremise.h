/* Which Connectivity Proxy there is, and what it wants. */
#ifndef TPROXY_CONFIGURATION_ONPREMISE_H
#define TPROXY_CONFIGURATION_ONPREMISE_H

#include <stdbool.h>

struct config;
struct control;
struct onpremise;

struct onpremise *onpremise_new(struct control *control);

/* Follows nothing any more. */
void onpremise_stop(struct onpremise *onpremise);
void onpremise_free(struct onpremise *onpremise);

/* Another configuration is in force; valid until the next one. */
void onpremise_configure(struct onpremise *onpremise, const struct config *config);

/* Has all been listed that tells of the Connectivity Proxy, and been considered? *why: what has
 * not. */
bool onpremise_decided(const struct onpremise *onpremise, const char **why);

/* What keeps on-premise systems from being reached through the Connectivity Proxy that there is, or
 * from being reached as its ConfigMap now says; NULL, or a sentence. */
const char *onpremise_problem(const struct onpremise *onpremise);

#endif
