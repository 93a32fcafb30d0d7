/* An HTTP server in the test's own process: it answers each request with what a function of the
 * test returns, or not at all. */
#ifndef TPROXY_TESTS_WORLD_HTTP_PEER_H
#define TPROXY_TESTS_WORLD_HTTP_PEER_H

#include <sys/socket.h>

#include "http/proto.h"
#include "tests/unit/world/streams.h"

enum { PEER_CONNECTIONS = 128, PEER_REQUEST_MAX = 64 * 1024, PEER_ANSWER_MAX = 128 * 1024 };

struct http_peer {
    int listener;
    uint16_t port;
    int fds[PEER_CONNECTIONS]; /* -1: none */
    struct buf in[PEER_CONNECTIONS];
    unsigned requests;
    /* The whole answer (see peer_answer); NULL: the client waits. */
    const char *(*answer)(struct http_peer *peer, const struct http_head *head, struct str body);
};

/* An answer with this status, these headers (complete lines) and this body. Valid until the next
 * one. */
const char *peer_answer(int status, const char *headers, const char *body);

/* Listens on every address of the loopback device. port 0: a free one. */
void peer_open(struct http_peer *peer, uint16_t port);

/* From now on connections are refused; peer_open with its port ends that. */
void peer_close(struct http_peer *peer);

/* Takes connections and answers what has come completely. True when there was anything to do. */
bool peer_run(struct http_peer *peer);

#endif
