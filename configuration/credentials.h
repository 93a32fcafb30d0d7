/* A service key from Secrets in the cluster, which are followed: it is read afresh whenever the
 * Secret that holds it, or the one with the private key of its certificate, comes, changes or
 * goes. */
#ifndef TPROXY_CONFIGURATION_CREDENTIALS_H
#define TPROXY_CONFIGURATION_CREDENTIALS_H

#include <stdbool.h>

#include "core/service_key.h"
#include "lib/base.h"

struct cluster;
struct config_credentials;
struct credentials;

/* `changed` is called when something that the functions credentials_* return has changed, never
 * from inside one of them. It may free the credentials. */
struct credentials_handler {
    void (*changed)(void *arg);
    void *arg;
};

/* Starts to follow the Secrets that `where` names. `whose` begins log lines: "instance mail". Both
 * are copied. */
struct credentials *credentials_new(struct cluster *cluster, const struct config_credentials *where,
                                    enum service_key_use use, const char *whose,
                                    struct credentials_handler handler);

/* Stops following the Secrets and frees the object. NULL is allowed. */
void credentials_free(struct credentials *credentials);

/* Tells whether the credentials follow exactly these Secrets. */
bool credentials_follow(const struct credentials *credentials,
                        const struct config_credentials *where);

/* Returns the key, valid until the next turn; NULL: there is none. When a Secret becomes unusable,
 * the last good key stays in force; when it is deleted, the key is dropped. */
const struct service_key *credentials_key(const struct credentials *credentials);

/* Returns what is wrong: a sentence that names the Secret, valid until the next turn. NULL: nothing
 * is wrong. */
const char *credentials_problem(const struct credentials *credentials);

/* Tells whether the Secrets have been read once, with a key or a problem as the result. */
bool credentials_listed(const struct credentials *credentials);

#endif
