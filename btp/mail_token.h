/* Tokens for mail servers, from the authorization servers that destinations name. The token service
 * of a destination becomes a grant. */
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

/* Says whose token is wanted. Only read during the call. */
struct mail_token_of {
    const struct destination *dest;  /* one with `tokens` */
    const char *tenant;              /* the tenant that has the destination; NULL: not known */
    const char *subscriber;          /* the same, but NULL for the provider itself */
    const struct secret *user_token; /* what the client sent, for user tokens; else NULL */
};

/* Gets a token as oauth_get does. The server is asked through the Connectivity Proxy if the
 * destination says so. An access token that the proxy refuses is renewed once, though never for an
 * authorization code. Returns NULL and sets *err (FAIL_CONFIG) when the destination does not say
 * where to ask. */
struct mail_token_wait *mail_token_get(struct oauth *oauth, struct connectivity *connectivity,
                                       const struct mail_token_of *of, struct oauth_handler handler,
                                       struct error *err);

/* Cancels the wait: `done` will not be called. NULL is allowed. */
void mail_token_cancel(struct mail_token_wait *wait);

/* Forgets a refused token as oauth_refused does. */
void mail_token_refused(struct oauth *oauth, const struct mail_token_of *of,
                        const struct token *token);

#endif
