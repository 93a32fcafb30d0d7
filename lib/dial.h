/* Turns a host and a port into a connection: resolves the name, then tries the addresses one after
 * the other, each with a head start of 250 ms over the next (RFC 8305 section 5); or asks a SOCKS5
 * proxy. */
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

/* The route through a SOCKS5 proxy, see lib/socks5.h. The proxy may be at a local address. */
struct dial_via {
    const char *host; /* name or literal of the proxy */
    uint16_t port;
    int64_t timeout;            /* to resolve the proxy and connect to it, microseconds */
    const struct secret *token; /* NULL: the proxy wants no authentication */
    const char *location;       /* location ID of the Cloud Connector; NULL or "": none */
};

/* Returns a copy of *via and of everything it points to. dial_via_free frees the copy and wipes the
 * token; NULL is allowed. */
struct dial_via *dial_via_copy(const struct dial_via *via);
void dial_via_free(struct dial_via *via);

/* Where to connect. Read only during dial_start. */
struct dial_to {
    const char *host; /* name or literal */
    uint16_t port;
    bool allow_local; /* also loopback, unspecified and link-local addresses; multicast never */
    int64_t timeout;  /* for everything together, microseconds */
    const struct dial_via *via; /* NULL: connect directly. Else the proxy finds the host: it is not
                                   resolved here, and every address is allowed */
};

/* How far a dial has come: with a proxy, on the way to it. */
enum dial_stage {
    DIAL_RESOLVED,  /* the addresses are known; those that are allowed are told */
    DIAL_CONNECTED, /* one of them is connected; it is told */
};

/* `done` is called exactly once, never from inside dial_start; the dial is gone by then. It gets a
 * connected conn, which now belongs to the callee (who must set its handler before returning), or
 * NULL and *err: FAIL_DNS, FAIL_CONNECT, FAIL_TIMEOUT, FAIL_CONFIG when the host is not a name or
 * its addresses are not allowed, or FAIL_INTERNAL when the system refuses a socket. When several
 * addresses fail, *err names the one whose failure tells most. With a proxy these failures are
 * about the route to it, and those of lib/socks5 are possible as well (FAIL_SOCKS also when the
 * proxy goes away); every text names the target and the proxy.
 *
 * Bytes that the host sent right behind the proxy's answer are told to the handler that the callee
 * sets.
 *
 * `came` is called before that for each stage that is reached (NULL: it is not). It must not cancel
 * the dial. */
struct dial_handler {
    void (*done)(struct conn *conn, const struct error *err, void *arg);
    void *arg;
    void (*came)(enum dial_stage stage, const char *addresses, void *arg);
};

/* Starts to connect. Returns a handle for dial_cancel, valid until `done` is called. */
struct dial *dial_start(struct loop *loop, struct dns *dns, const struct dial_to *to,
                        struct dial_handler handler);

/* Cancels the dial: `done` will not be called, connections under way are closed. NULL is
 * allowed. */
void dial_cancel(struct dial *dial);

#endif
