/* Tokens for mail servers, from the authorization servers that destinations name: what a
 * destination says of its token service becomes a grant. */
#ifndef TPROXY_BTP_MAIL_TOKEN_H
#define TPROXY_BTP_MAIL_TOKEN_H

#include "lib/base.h"
#include "lib/fail.h"
#include "oauth.h"

struct connectivity;
struct destination;
struct mail_token_wait;
struct secret;
struct token;

/* Whose token. Only read during the call. */
struct mail_token_of {
    const struct destination *dest;  /* one with `tokens` */
    const char *tenant;              /* whose destination it is; NULL: not known */
    const char *subscriber;          /* the same, but NULL for the provider itself */
    const struct secret *user_token; /* what the client sent, for user tokens; else NULL */
};

/* As oauth_get; the server is asked through the Connectivity Proxy if the destination says so. An
 * access token that the proxy refuses is renewed once, though never for an authorization code. NULL
 * and *err (FAIL_CONFIG) when the destination does not say where to ask. */
struct mail_token_wait *mail_token_get(struct oauth *oauth, struct connectivity *connectivity,
                                       const struct mail_token_of *of, struct oauth_handler handler,
                                       struct error *err);

/* Silence. NULL is allowed. */
void mail_token_cancel(struct mail_token_wait *wait);

/* As oauth_refused. */
void mail_token_refused(struct oauth *oauth, const struct mail_token_of *of,
                        const struct token *token);

#endif
