/* Tokens for mail servers, from the authorization servers that destinations name: what a
 * destination says of its token service becomes a grant. */
#ifndef TPROXY_MAIL_TOKEN_H
#define TPROXY_MAIL_TOKEN_H

#include "lib/base.h"
#include "lib/fail.h"
#include "oauth.h"

struct destination;
struct secret;
struct token;

/* Whose token: for which destination (one with `tokens`), of which tenant (NULL: there is none),
 * and for user tokens what the client sent (else NULL). Only read during the call. */
struct mail_token_of {
    const struct destination *dest;
    const char *tenant;
    const struct secret *user_token;
};

/* As oauth_get. NULL and *err (FAIL_CONFIG) when the destination does not say where to ask. */
struct oauth_wait *mail_token_get(struct oauth *oauth, const struct mail_token_of *of,
                                  struct oauth_handler handler, struct error *err);

/* As oauth_refused. */
void mail_token_refused(struct oauth *oauth, const struct mail_token_of *of,
                        const struct token *token);

#endif
