/* HTTP clients for servers that URLs name: one for each origin (scheme, host and port, RFC 6454),
 * made when it is first needed and kept for the next request. Origins beyond a maximum that nobody
 * uses are dropped, the one that has been idle longest first. */
#ifndef TPROXY_HTTP_ORIGINS_H
#define TPROXY_HTTP_ORIGINS_H

#include <stddef.h>
#include <stdint.h>

#include "core/http_proto.h"
#include "lib/base.h"
#include "lib/fail.h"

struct dns;
struct http;
struct http_origin;
struct http_origins;
struct loop;
struct tls_roots;

/* How many origins are kept, and how many connections each has at a time. */
enum { HTTP_ORIGINS_MAX = 64, HTTP_ORIGIN_CONNECTIONS = 8 };

/* Loop and resolver stay the caller's; roots are referenced, NULL: no certificate is trusted. */
struct http_origins *http_origins_new(struct loop *loop, struct dns *dns, struct tls_roots *roots);

/* Nobody uses an origin any more. NULL is allowed. */
void http_origins_free(struct http_origins *origins);

/* The origin of a URL, in use until http_origin_release. connect_timeout: of its connections,
 * microseconds. NULL and *err (FAIL_CONFIG) when no TLS is possible with such a host. */
struct http_origin *http_origin_use(struct http_origins *origins, const struct http_url *url,
                                    int64_t connect_timeout, struct error *err);

/* To start requests with; valid while the origin is in use. */
struct http *http_origin_client(const struct http_origin *origin);

/* The request has ended or was cancelled. NULL is allowed. */
void http_origin_release(struct http_origin *origin);

#endif
