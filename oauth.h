/* Access tokens (RFC 6749): asks authorization servers for them and keeps them as long as they
 * serve. The module owns every token that the program gets from an authorization server itself.
 *
 * There is one request at a time for a grant, shared by all who wait. A token that gets old is
 * replaced ahead of its expiry. A failure is remembered for a while. */
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

/* Creates the client without tokens. The roots (referenced) are those of authorization servers; the
 * other objects stay the caller's. */
struct oauth *oauth_new(struct loop *loop, struct dns *dns, struct tls_roots *roots);

/* Frees the client. No wait may be under way any more. NULL is allowed. */
void oauth_free(struct oauth *oauth);

/* Sets the certificates that are trusted (referenced) for requests from now on. */
void oauth_set_roots(struct oauth *oauth, struct tls_roots *roots);

/* Sets the timeouts of requests from now on, in microseconds. */
void oauth_set_timeouts(struct oauth *oauth, int64_t connect, int64_t answer);

enum oauth_grant_type {
    OAUTH_CLIENT_CREDENTIALS, /* RFC 6749 section 4.4 */
    OAUTH_REFRESH_TOKEN,      /* section 6. A new refresh token in an answer is sent the next time,
                                 in place of the grant's */
    OAUTH_AUTHORIZATION_CODE, /* section 4.1.3. The code is sent once, over a connection of its own;
                                 its token is not refreshed */
};

/* A grant. Only read during the call. */
struct oauth_grant {
    const char *url; /* of the token endpoint, complete */
    /* the property that names the URL, for messages: "tokenServiceURL"; static storage */
    const char *property;
    const char *client_id;
    const struct secret *client_secret; /* NULL: the certificate says which client asks */
    const char *certificate;            /* PEM, both certificate and key or neither: mutual TLS (RFC
                                           8705 section 2) */
    const struct secret *key;
    const char *tenant;   /* on whose behalf; NULL: the provider's. Tokens of two tenants are kept
                             apart, even if all else is equal */
    const char *location; /* location ID of the Cloud Connector behind which the server is; NULL: it
                             is behind none. Tokens are kept apart by it, too */
    bool allow_local;     /* as in struct http_way */
    const struct dial_via *via; /* how the server is reached; NULL: directly. Grants that differ
                                   only in it share a token */

    /* The members below are for servers other than SAP's own. */
    enum oauth_grant_type type;
    const struct secret *user_token; /* the refresh token or code */
    bool basic;                      /* the client's credentials go into a header field (section
                                        2.3.1), else into the form */
    struct str headers;              /* more lines, each with its CRLF */
    struct str form;                 /* more fields, encoded */
    int64_t connect_timeout, answer_timeout; /* microseconds; 0: the usual ones */
};

/* `done` is called exactly once, never from inside oauth_get; the wait is freed before that. It
 * gets a token (take a reference to keep it), or NULL and *err: the errors of oauth_answer_read;
 * FAIL_CONFIG also when the URL is malformed, or certificate or key cannot be used; FAIL_TOKEN with
 * on_the_way when the proxy of `via` refuses its own token; FAIL_CERT; else a failure that may
 * pass. The text names the server and has its words, sanitised. */
struct oauth_handler {
    void (*done)(struct token *token, const struct error *err, void *arg);
    void *arg;
};

/* Asks for a token. Never returns NULL. */
struct oauth_wait *oauth_get(struct oauth *oauth, const struct oauth_grant *grant,
                             struct oauth_handler handler);

/* Cancels the wait: `done` will not be called. NULL is allowed. */
void oauth_cancel(struct oauth_wait *wait);

/* Forgets a token that was refused, so that it is not handed out again. Does nothing if another one
 * has taken its place already. NULL: forgets whatever is known of the grant, a failure too. */
void oauth_refused(struct oauth *oauth, const struct oauth_grant *grant, const struct token *token);

/* Appends the metrics of requests to authorization servers. */
void oauth_metrics(const struct oauth *oauth, struct buf *out);

#endif
