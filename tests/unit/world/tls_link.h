/* TLS connections to the servers of tls_peer.py, step by step. */
#ifndef TPROXY_TESTS_WORLD_TLS_LINK_H
#define TPROXY_TESTS_WORLD_TLS_LINK_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/tls.h"
#include "tests/unit/check.h"
#include "tests/unit/world/tls_peer.h"

/* A connection over a socket or a string. */
struct link {
    int fd; /* -1: the server's octets are `script`, and then the end */
    const char *script;
    size_t chunk; /* recv returns at most this many octets, then AGAIN once; 0: no bound */
    bool hungry;  /* with `chunk`: the next recv returns AGAIN */
    bool send_fails, recv_fails;
    size_t sends;
    bool truncated;
    struct tls *tls;
    struct error err;
};

void wait_readable(struct link *l);

void link_open(struct link *l, struct tls_client *client);

int link_handshake(struct link *l);

void link_connect(struct link *l, const char *server, struct tls_client *client);

void link_close(struct link *l);

/* Reads up to the end, or n bytes. Returns the number of bytes. */
size_t link_read(struct link *l, char *p, size_t n);

void link_say(struct link *l, const char *text);

#endif
