/* A host and a port become a connection: resolve, then try the addresses one after the other, each
 * with a head start of 250 ms over the next (RFC 8305 section 5). */
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

struct dial_to {
    const char *host; /* name or literal; only read during dial_start */
    uint16_t port;
    bool allow_local; /* also loopback, unspecified and link-local addresses; multicast never */
    int64_t timeout;  /* for everything together, microseconds */
};

/* Called exactly once, never from inside dial_start; the dial is gone by then. Either a connected
 * conn, which now belongs to the callee (who must set its handler before returning), or NULL and
 * *err: FAIL_DNS, FAIL_CONNECT, FAIL_TIMEOUT, FAIL_CONFIG for a host that is no name or whose
 * addresses are not allowed, or FAIL_INTERNAL when the system refuses a socket. Of several
 * addresses the one that tells most is named. */
struct dial_handler {
    void (*done)(struct conn *conn, const struct error *err, void *arg);
    void *arg;
};

struct dial *dial_start(struct loop *loop, struct dns *dns, const struct dial_to *to,
                        struct dial_handler handler);

/* Silence: nothing will be called, connections under way are dropped. NULL is allowed. */
void dial_cancel(struct dial *dial);

#endif
