/* An HTTP server in the test's own process. A function of the test returns its answer to each
 * request, or none. */
#ifndef TPROXY_TESTS_WORLD_HTTP_PEER_H
#define TPROXY_TESTS_WORLD_HTTP_PEER_H

#include <sys/socket.h>

#include "http/proto.h"
#include "tests/unit/world/streams.h"

enum { PEER_CONNECTIONS = 128, PEER_REQUEST_MAX = 64 * 1024, PEER_ANSWER_MAX = 128 * 1024 };

struct http_peer {
    int listener;
    uint16_t port;
    int fds[PEER_CONNECTIONS]; /* -1: not in use */
    struct buf in[PEER_CONNECTIONS];
    unsigned requests;
    /* Returns the complete answer (see peer_answer). NULL: the client has to wait. */
    const char *(*answer)(struct http_peer *peer, const struct http_head *head, struct str body);
};

/* Returns an answer with this status, these header fields (complete lines) and this body. Valid
 * until the next call. */
const char *peer_answer(int status, const char *headers, const char *body);

/* Listens on all loopback addresses. port 0: a free one. */
void peer_open(struct http_peer *peer, uint16_t port);

/* Refuses connections from now on, until peer_open with its port. */
void peer_close(struct http_peer *peer);

/* Accepts connections and answers complete requests. Returns true if there was anything to do. */
bool peer_run(struct http_peer *peer);

#endif
