/* A host and a port become a connection: resolve, then try the addresses one after the other, each
 * with a head start of 250 ms over the next (RFC 8305 section 5); or ask a SOCKS5 proxy for it. */
#ifndef TPROXY_LIB_DIAL_H
#define TPROXY_LIB_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"

struct conn;
struct dial;
struct dns;
struct loop;
struct secret;

/* The way through a SOCKS5 proxy, see lib/socks5.h. The proxy may be at a local address. */
struct dial_via {
    const char *host; /* of the proxy: name or literal */
    uint16_t port;
    int64_t timeout;            /* to connect to it, name and TCP together, microseconds */
    const struct secret *token; /* NULL: it wants no authentication */
    const char *location;       /* location ID of the Cloud Connector; NULL or "": none */
};

/* A copy of it and of all that it points to. dial_via_free wipes the token; NULL is allowed. */
struct dial_via *dial_via_copy(const struct dial_via *via);
void dial_via_free(struct dial_via *via);

/* Only read during dial_start. */
struct dial_to {
    const char *host; /* name or literal */
    uint16_t port;
    bool allow_local; /* also loopback, unspecified and link-local addresses; multicast never */
    int64_t timeout;  /* for everything together, microseconds */
    const struct dial_via *via; /* NULL: straight. Else the host is the proxy's to find: it is not
                                   resolved here, and no address is out of the question */
};

/* Called exactly once, never from inside dial_start; the dial is gone by then. Either a connected
 * conn, which now belongs to the callee (who must set its handler before returning), or NULL and
 * *err: FAIL_DNS, FAIL_CONNECT, FAIL_TIMEOUT, FAIL_CONFIG for a host that is no name or whose
 * addresses are not allowed, or FAIL_INTERNAL when the system refuses a socket. Of several
 * addresses the one that tells most is named. Through a proxy these are about the way to it, there
 * are those of lib/socks5 too, FAIL_SOCKS also when the proxy goes away, and all name both ends.
 *
 * What the host has said right behind the proxy's answer is told to the handler that is set. */
struct dial_handler {
    void (*done)(struct conn *conn, const struct error *err, void *arg);
    void *arg;
};

struct dial *dial_start(struct loop *loop, struct dns *dns, const struct dial_to *to,
                        struct dial_handler handler);

/* Silence: nothing will be called, connections under way are dropped. NULL is allowed. */
void dial_cancel(struct dial *dial);

#endif
