/* Access tokens: who asks, with which grant, how long they serve (RFC 6749). Owner of every token
 * that the program gets from an authorization server itself.
 *
 * One request at a time for one grant, shared by all who wait; a token that gets old is replaced
 * ahead of its expiry; a refusal is remembered for a while. */
#ifndef TPROXY_OAUTH_H
#define TPROXY_OAUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

struct dial_via;
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

/* For requests from now on: other certificates are trusted (referenced). */
void oauth_set_roots(struct oauth *oauth, struct tls_roots *roots);

/* For requests from now on, microseconds. */
void oauth_set_timeouts(struct oauth *oauth, int64_t connect, int64_t answer);

enum oauth_grant_type {
    OAUTH_CLIENT_CREDENTIALS, /* RFC 6749 section 4.4 */
    OAUTH_REFRESH_TOKEN,      /* section 6. When the server answers with a new one, that is sent the
                                 next time, whatever the grant says */
    OAUTH_AUTHORIZATION_CODE, /* section 4.1.3. It is sent once, over a connection of its own; what
                                 comes of it is not refreshed */
};

/* Only read during the call. */
struct oauth_grant {
    const char *url; /* of the token endpoint, complete */
    /* where it was written, for messages: "tokenServiceURL"; static storage */
    const char *property;
    const char *client_id;
    const struct secret *client_secret; /* NULL: the certificate says who asks */
    const char *certificate;            /* and its key, PEM, both or neither: mutual TLS (RFC 8705
                                           section 2) */
    const struct secret *key;
    const char *tenant;   /* on whose behalf; NULL: the provider's. Tokens of two tenants are
                                   kept apart, whatever else is equal */
    const char *location; /* location ID of the Cloud Connector behind which the server is; NULL:
                                   it is behind none. Likewise */
    bool allow_local;     /* as in struct http_way */
    const struct dial_via *via; /* how the server is reached; NULL: straight. Not part of what tells
                                   grants apart */

    /* The rest is for others than SAP's own servers. */
    enum oauth_grant_type type;
    const struct secret *user_token; /* the refresh token or code */
    bool basic;                      /* the client's credentials go into a header field (section
                                        2.3.1), else into the form */
    struct str headers;              /* more lines, each with its CRLF */
    struct str form;                 /* more fields, encoded */
    int64_t connect_timeout, answer_timeout; /* microseconds; 0: the usual ones */
};

/* Called exactly once, never from inside oauth_get; the wait is gone by then. Either a token (take
 * a reference to keep it), or NULL and *err: the errors of token_answer_read; FAIL_CONFIG also when
 * the URL is malformed, or certificate or key cannot be used; FAIL_TOKEN with on_the_way when the
 * proxy of `via` refuses its own token; FAIL_CERT; else a failure that may pass. The text names the
 * server and has its words, sanitised. */
struct oauth_handler {
    void (*done)(struct token *token, const struct error *err, void *arg);
    void *arg;
};

struct oauth_wait *oauth_get(struct oauth *oauth, const struct oauth_grant *grant,
                             struct oauth_handler handler);

/* Silence. NULL is allowed. */
void oauth_cancel(struct oauth_wait *wait);

/* The token was refused by who it is for: it is not handed out again. Does nothing if another one
 * has taken its place already. NULL: whatever is known of the grant, a failure too. */
void oauth_refused(struct oauth *oauth, const struct oauth_grant *grant, const struct token *token);

void oauth_metrics(const struct oauth *oauth, struct buf *out);

#endif
