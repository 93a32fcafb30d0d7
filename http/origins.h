/* HTTP clients for servers that URLs name: one for each origin (scheme, host and port, RFC 6454)
 * and each way to reach it, made when it is first needed and kept for the next request. Beyond a
 * maximum those that nobody uses are dropped, the one that has been idle longest first. */
#ifndef TPROXY_HTTP_ORIGINS_H
#define TPROXY_HTTP_ORIGINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/proto.h"
#include "lib/base.h"
#include "lib/fail.h"
#include "lib/url.h"

struct dial_via;
struct dns;
struct http;
struct http_origin;
struct http_origins;
struct loop;
struct secret;
struct tls_roots;

/* How many origins are kept, and how many connections each has at a time. */
enum { HTTP_ORIGINS_MAX = 64, HTTP_ORIGIN_CONNECTIONS = 8 };

/* Creates an object without origins. Loop and resolver stay the caller's; roots are referenced.
 * Without roots (NULL) no certificate is trusted. */
struct http_origins *http_origins_new(struct loop *loop, struct dns *dns, struct tls_roots *roots);

/* Frees all origins; none of them may be in use. NULL is allowed. */
void http_origins_free(struct http_origins *origins);

/* How a server is reached, and with whose credentials. Requests that differ in any member share no
 * connection: one that a tenant's token or key has opened serves nobody else. */
struct http_way {
    int64_t connect_timeout;    /* of a connection, microseconds */
    bool allow_local;           /* an address of this machine or its link is allowed, as in struct
                                   dial_to: for servers that an administrator names */
    const struct dial_via *via; /* NULL: direct */

    /* The client certificate and its key, as in struct tls_settings: both or neither; unused
     * without https. */
    const char *certificate;
    const struct secret *key;
};

/* Trusts other certificates from now on (referenced). An origin in use stays as it is until it is
 * released. */
void http_origins_set_roots(struct http_origins *origins, struct tls_roots *roots);

/* Returns the origin of a URL, in use until http_origin_release. Returns NULL and sets *err
 * (FAIL_CONFIG) when no TLS is possible with such a host, or with such a certificate or key. */
struct http_origin *http_origin_use(struct http_origins *origins, const struct url *url,
                                    const struct http_way *way, struct error *err);

/* Returns the client to start requests with; valid while the origin is in use. */
struct http *http_origin_client(const struct http_origin *origin);

/* Releases the origin after its request has ended or was cancelled. NULL is allowed. */
void http_origin_release(struct http_origin *origin);

#endif
