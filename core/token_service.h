/* The token service of a destination: the authorization server that gives tokens for its mail
 * server, and what a request to it consists of. Pure. */
#ifndef TPROXY_CORE_TOKEN_SERVICE_H
#define TPROXY_CORE_TOKEN_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/mem.h"

struct buf;
struct reader;

/* The pieces of a request for a mail server's token. The request goes to the authorization server
 * that the destination names (RFC 6749 section 3.2). */
struct token_service {
    struct secret url;           /* with the queries; see token_service_url */
    bool common;                 /* each tenant has its own URL */
    bool on_premise;             /* only the Connectivity Proxy reaches it */
    bool allow_local;            /* it may be at a loopback or link-local address */
    char *client_id;             /* clientId, or tokenServiceUser */
    struct secret client_secret; /* clientSecret, or tokenServicePassword */
    bool basic;            /* client_id and client_secret go into a header field; false: into the
                              form */
    struct secret headers; /* more lines, each with its CRLF */
    struct secret form;    /* more fields, encoded; scope is one of them */
    struct secret redirect_uri, code_verifier; /* for an authorization code; also in the form */
    int64_t connect_timeout, answer_timeout;   /* microseconds; 0: not configured */
};

/* Fills the destination's `tokens` from its properties, if the kind of login needs them. ERR: see
 * reader_refuse. */
int token_service_read(struct reader *r) warn_unused;

/* Free and compare token services. NULL is allowed. */
void token_service_free(struct token_service *service);
bool token_service_equal(const struct token_service *a, const struct token_service *b);

/* Appends the URL for a tenant. With type Common the tenant replaces each "{tenant}" or, without
 * that placeholder, becomes the first label of the host. Returns ERR when the URL does not fit, or
 * when the type is Common and the tenant is NULL or not one label of a host name. */
int token_service_url(const struct token_service *service, const char *tenant,
                      struct buf *out) warn_unused;

#endif
