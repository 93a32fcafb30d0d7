/* A SOCKS5 proxy in the test's own process, with an HTTP server behind it that gives one answer to
 * all requests. There is one connection at a time; a new one replaces the last. */
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
    unsigned char refuses_token; /* its reply to a login; 0: the token is accepted */
    unsigned char reply;         /* its reply to CONNECT */
    const char *answer;          /* the complete answer of the server behind it */

    /* A record of the requests. */
    unsigned connections, requests;
    char token[64]; /* that of the last login; "": there was no login */
    char location[64];
    char host[64]; /* that of the last CONNECT */
};

void socks_peer_open(struct socks_peer *p);

void socks_peer_close(struct socks_peer *p);

/* Does one step. Returns false if there was nothing to do. */
bool socks_peer_run(struct socks_peer *p);

#endif
