/* A listening stream socket. Its options, bursts of connections, and what happens when the process
 * has no descriptor left are handled in this one place. */
#ifndef TPROXY_LIB_LISTENER_H
#define TPROXY_LIB_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/base.h"
#include "lib/loop.h"

struct listener;

/* A socket option, with the arguments of setsockopt(2). */
struct listener_option {
    int level, name, value;
};

/* Functions of the owner of a listener. Both may close the listener. */
struct listener_handler {
    /* A client has connected. `fd` (non-blocking) now belongs to the owner. `peer` is valid during
     * the call; for a Unix socket it says nothing. */
    void (*accepted)(struct listener *l, int fd, const union addr *peer);

    /* A client waits, and the system has no descriptor (or no memory) for it. The owner returns
     * true when it has closed something: the client is accepted now. After false no client is
     * accepted for 200 ms. */
    bool (*starved)(struct listener *l);

    /* Options that are set before it listens. Accepted connections inherit them, which spares a
     * call for each. */
    const struct listener_option *options;
    size_t n_options;
};

/* Embedded in its owner. The fields are private. */
struct listener {
    struct loop *loop;
    struct io io;
    struct timer again;
    const struct listener_handler *handler;
    uint64_t turn;  /* the turn in which it accepted last */
    unsigned burst; /* how many clients it accepts in one turn */
};

/* Binds and listens. A TCP port that has just been used may be used again; an IPv6 address takes
 * IPv4 clients too, whatever net.ipv6.bindv6only says. The handler lives as long as the listener.
 * ERR and errno when the system refuses. */
int listener_open(struct listener *l, struct loop *loop, const struct sockaddr *at, socklen_t n,
                  const struct listener_handler *handler) warn_unused;

/* Returns true until listener_close. */
bool listener_is_open(const struct listener *l);

/* Returns the TCP port that it listens on. */
uint16_t listener_port(const struct listener *l);

/* Accepts the client that waits; for `starved`. Returns its descriptor, or ERR when no client
 * waits. */
int listener_accept(struct listener *l);

/* Opens a descriptor that its owner keeps, and closes when a client waits and no other is free.
 * Returns ERR and errno when the system refuses. */
int listener_reserve(void) warn_unused;

/* Closes the listener. Does nothing when it is closed already. */
void listener_close(struct listener *l);

#endif
