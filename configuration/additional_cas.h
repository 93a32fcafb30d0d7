/* Certificates out of a Secret, trusted besides the system's, followed. */
#ifndef TPROXY_CONFIGURATION_ADDITIONAL_CAS_H
#define TPROXY_CONFIGURATION_ADDITIONAL_CAS_H

#include <stdbool.h>

#include "lib/base.h"

struct additional_cas;
struct cluster;
struct config_secret;
struct tls_roots;

/* Called when the answer of an additional_cas_* function has changed; other_roots: the answer of
 * additional_cas_roots, too. Never called from inside these functions. It may free the object. */
struct additional_cas_handler {
    void (*changed)(bool other_roots, void *arg);
    void *arg;
};

/* Follows the Secret (the names are copied). system: referenced; NULL: none. */
struct additional_cas *additional_cas_new(struct cluster *cluster,
                                          const struct config_secret *where,
                                          struct tls_roots *system,
                                          struct additional_cas_handler handler);

/* NULL is allowed. */
void additional_cas_free(struct additional_cas *cas);

/* Do they follow just that? */
bool additional_cas_follow(const struct additional_cas *cas, const struct config_secret *where);

/* Returns the system's roots together with the last good ones of the Secret; NULL when the Secret
 * never had a good one. A certificate that cannot be used is reported as a problem, and the others
 * are trusted. */
struct tls_roots *additional_cas_roots(const struct additional_cas *cas);

/* What is wrong, a sentence that names the Secret; NULL: nothing. Valid until the next turn. */
const char *additional_cas_problem(const struct additional_cas *cas);

/* Has it been seen whether the Secret is there? */
bool additional_cas_listed(const struct additional_cas *cas);

#endif
