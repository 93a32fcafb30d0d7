/* The configuration in force: the oldest TransparentProxy object of the home namespace, the Secrets
 * that it names, and the status that reports the result. */
#ifndef TPROXY_CONFIGURATION_CONFIGURATION_H
#define TPROXY_CONFIGURATION_CONFIGURATION_H

#include <stdbool.h>

struct config;
struct configuration;
struct control;

struct configuration *configuration_new(struct control *control);

/* Follows and writes nothing any more. */
void configuration_stop(struct configuration *configuration);
void configuration_free(struct configuration *configuration);

/* TransparentProxy objects have come, gone or changed. */
void configuration_look(struct configuration *configuration);

/* The configuration in force; NULL: not known yet. */
const struct config *configuration_config(const struct configuration *configuration);

/* The instance of CRs that name none; NULL: there is none. Valid until the next turn. */
const char *configuration_default_instance(const struct configuration *configuration);

/* Have the Secrets and all that tells of the Connectivity Proxy been listed? *why: which have not.
 */
bool configuration_listed(const struct configuration *configuration, const char **why);

/* Is an instance that is missing really missing? Instances may be discovered late: many clusters
 * do not know their kinds, which takes some seconds to be believed. Resources are woken when this
 * becomes true. */
bool configuration_knows_instances(const struct configuration *configuration);

/* Has an Event tell of the installation, which has the TransparentProxy object's name. */
void configuration_tell(struct configuration *configuration, const char *reason, const char *note);

/* Is there something that the status calls a warning? NULL, or a sentence. */
const char *configuration_warning(const struct configuration *configuration);

#endif
