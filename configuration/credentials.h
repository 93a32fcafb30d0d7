/* A service key out of Secrets in the cluster, followed: it is read afresh whenever the Secret that
 * holds it, or the one with the private key of its certificate, comes, changes or goes. */
#ifndef TPROXY_CONFIGURATION_CREDENTIALS_H
#define TPROXY_CONFIGURATION_CREDENTIALS_H

#include <stdbool.h>

#include "core/service_key.h"
#include "lib/base.h"

struct cluster;
struct config_credentials;
struct credentials;

/* Something that credentials_* say has changed. Never called from inside of them. It may free the
 * credentials. */
struct credentials_handler {
    void (*changed)(void *arg);
    void *arg;
};

/* Follows the Secrets that `where` names (copied). `whose`, for the log: "instance mail". */
struct credentials *credentials_new(struct cluster *cluster, const struct config_credentials *where,
                                    enum service_key_use use, const char *whose,
                                    struct credentials_handler handler);

/* NULL is allowed. */
void credentials_free(struct credentials *credentials);

/* Do they follow just that? */
bool credentials_follow(const struct credentials *credentials,
                        const struct config_credentials *where);

/* The key; valid until the next turn. A Secret that has come to make no sense leaves the last good
 * one in force; one that is gone does not. NULL: there is none. */
const struct service_key *credentials_key(const struct credentials *credentials);

/* What is wrong, a sentence that names the Secret; NULL: nothing. Valid until the next turn. */
const char *credentials_problem(const struct credentials *credentials);

/* Has it been seen whether the Secrets are there? */
bool credentials_listed(const struct credentials *credentials);

#endif
