/* The configuration in force, and its status: the oldest TransparentProxy object of the home
 * namespace, the Secrets that it names, and what follows from it for others. */
#ifndef TPROXY_CONFIGURATION_CONFIGURATION_H
#define TPROXY_CONFIGURATION_CONFIGURATION_H

#include <stdbool.h>

struct config;
struct configuration;
struct control;

struct configuration *configuration_new(struct control *control);

/* Ends all watches and calls. */
void configuration_stop(struct configuration *configuration);

/* Frees the object, after configuration_stop. */
void configuration_free(struct configuration *configuration);

/* Looks at the TransparentProxy objects soon: they have come, gone or changed. */
void configuration_look(struct configuration *configuration);

/* Returns the configuration in force; NULL: none is. */
const struct config *configuration_config(const struct configuration *configuration);

/* Returns the name of the instance for CRs that name none, valid until the next turn; NULL: there
 * is no such instance. */
const char *configuration_default_instance(const struct configuration *configuration);

/* Tells whether a configuration is in force, and everything that it names has been listed: Secrets,
 * and the ConfigMaps of the Connectivity Proxy. If not, *why names what is missing. */
bool configuration_listed(const struct configuration *configuration, const char **why);

/* Tells whether an instance that is missing really is missing. Instances may be discovered late:
 * many clusters do not know their kinds, and it takes some seconds to believe that. Resources are
 * woken when the result becomes true. */
bool configuration_knows_instances(const struct configuration *configuration);

/* Sends an Event about the installation; it is about the TransparentProxy object. */
void configuration_tell(struct configuration *configuration, const char *reason, const char *note);

/* Returns the sentence for which the status says Warning; NULL: there is none. */
const char *configuration_warning(const struct configuration *configuration);

#endif
