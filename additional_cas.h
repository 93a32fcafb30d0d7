/* Certificates out of a Secret, trusted besides the system's, followed. */
#ifndef TPROXY_ADDITIONAL_CAS_H
#define TPROXY_ADDITIONAL_CAS_H

#include <stdbool.h>

#include "lib/base.h"

struct additional_cas;
struct cluster;
struct config_secret;
struct tls_roots;

/* Something that additional_cas_* say has changed; other_roots: what additional_cas_roots returns,
 * too. Never called from inside of them. It may free them. */
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

/* The system's and the last good ones of the Secret; NULL: there have been none. Certificates that
 * cannot be used do not count: they are a problem, and the others are trusted. */
struct tls_roots *additional_cas_roots(const struct additional_cas *cas);

/* What is wrong, a sentence that names the Secret; NULL: nothing. Valid until the next turn. */
const char *additional_cas_problem(const struct additional_cas *cas);

/* Has it been seen whether the Secret is there? */
bool additional_cas_listed(const struct additional_cas *cas);

#endif
