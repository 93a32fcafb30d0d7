/* Access tokens: who asks, with which grant, how long they serve (RFC 6749). Owner of every token
 * that the program gets from an authorization server itself.
 *
 * One request at a time for one grant, shared by all who wait; a token that gets old is replaced
 * ahead of its expiry; a refusal is remembered for a while. */
#ifndef TPROXY_OAUTH_H
#define TPROXY_OAUTH_H

#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"

struct dns;
struct loop;
struct oauth;
struct oauth_wait;
struct secret;
struct tls_roots;
struct token;

/* Roots (referenced) are those of authorization servers. */
struct oauth *oauth_new(struct loop *loop, struct dns *dns, struct tls_roots *roots);

/* No wait is under way any more. NULL is allowed. */
void oauth_free(struct oauth *oauth);

/* For requests from now on, microseconds. */
void oauth_set_timeouts(struct oauth *oauth, int64_t connect, int64_t answer);

/* Client credentials (RFC 6749 section 4.4) in the body of the request, as SAP's clients send them.
 * Only read during the call. */
struct oauth_grant {
    const char *url; /* of the token endpoint, complete */
    const char *client_id;
    const struct secret *client_secret;
};

/* Called exactly once, never from inside oauth_get; the wait is gone by then. Either a token (take
 * a reference to keep it), or NULL and *err: FAIL_AUTH: the server refuses the client (401, 403, or
 * 400 with "invalid_client" and the like), or knows no such tenant (404); FAIL_CONFIG: the URL is
 * none; FAIL_CERT; else what may pass. The text names the server and carries its error_description,
 * sanitised. */
struct oauth_handler {
    void (*done)(struct token *token, const struct error *err, void *arg);
    void *arg;
};

struct oauth_wait *oauth_get(struct oauth *oauth, const struct oauth_grant *grant,
                             struct oauth_handler handler);

/* Silence. NULL is allowed. */
void oauth_cancel(struct oauth_wait *wait);

/* The token was refused by who it is for: it is not handed out again. Does nothing if another one
 * has taken its place already. */
void oauth_refused(struct oauth *oauth, const struct oauth_grant *grant, const struct token *token);

void oauth_metrics(const struct oauth *oauth, struct buf *out);

#endif
