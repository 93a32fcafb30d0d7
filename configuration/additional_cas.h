/* Certificates from a Secret that is followed. They are trusted in addition to the system's. */
#ifndef TPROXY_CONFIGURATION_ADDITIONAL_CAS_H
#define TPROXY_CONFIGURATION_ADDITIONAL_CAS_H

#include <stdbool.h>

#include "lib/base.h"

struct additional_cas;
struct cluster;
struct config_secret;
struct tls_roots;

/* `changed` is called when the answer of an additional_cas_* function has changed; `other_roots`
 * tells whether that of additional_cas_roots has changed, too. It is never called from inside these
 * functions, and it may free the object. */
struct additional_cas_handler {
    void (*changed)(bool other_roots, void *arg);
    void *arg;
};

/* Starts to follow the Secret (the names are copied). `system` are the system's roots, referenced;
 * NULL: none. */
struct additional_cas *additional_cas_new(struct cluster *cluster,
                                          const struct config_secret *where,
                                          struct tls_roots *system,
                                          struct additional_cas_handler handler);

/* Stops following the Secret and frees the object. NULL is allowed. */
void additional_cas_free(struct additional_cas *cas);

/* Tells whether the object follows exactly this Secret and this entry. */
bool additional_cas_follow(const struct additional_cas *cas, const struct config_secret *where);

/* Returns the system's roots together with the last good ones of the Secret; NULL when the Secret
 * never had a good one. The reference stays the object's. A certificate that cannot be used is
 * reported as a problem, and the others are trusted. */
struct tls_roots *additional_cas_roots(const struct additional_cas *cas);

/* Returns what is wrong: a sentence that names the Secret, valid until the next turn. NULL: nothing
 * is wrong. */
const char *additional_cas_problem(const struct additional_cas *cas);

/* Tells whether it is known if the Secret exists. */
bool additional_cas_listed(const struct additional_cas *cas);

#endif
