/* A SOCKS5 proxy in the test's own process, with an HTTP server behind it that gives one answer to
 * everything. One connection at a time counts; a new one takes the place of the last. */
#ifndef TPROXY_TESTS_WORLD_SOCKS_PEER_H
#define TPROXY_TESTS_WORLD_SOCKS_PEER_H

#include <sys/socket.h>

#include "http/proto.h"
#include "tests/unit/world/streams.h"

struct socks_peer {
    int listener, fd;
    uint16_t port;
    struct buf in;
    enum { SOCKS_METHOD, SOCKS_LOGIN, SOCKS_CONNECT, SOCKS_HTTP } waits_for;
    unsigned char refuses_token; /* what it answers a login with; 0: it is taken */
    unsigned char reply;         /* to CONNECT */
    const char *answer;          /* of the server behind it, whole */

    /* What it has seen. */
    unsigned connections, requests;
    char token[64]; /* of the last login; "": there was none */
    char location[64];
    char host[64]; /* of the last CONNECT */
};

void socks_peer_open(struct socks_peer *p);

void socks_peer_close(struct socks_peer *p);

/* One step. False: there was nothing to do. */
bool socks_peer_run(struct socks_peer *p);

#endif
