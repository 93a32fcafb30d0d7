/* Joins two connections to one stream each way, until `ended` is called. Bytes go through
 * untouched; when one side does not take its bytes, the other side is not read. In clear text bulk
 * transfers move inside the kernel.
 *
 * Half-close: an end of stream from `client` is passed on to a `backend` in clear text. A TLS
 * backend is not told, because servers drop their answers on close_notify. The relay waits for
 * answers that the client is owed. After its QUIT, the relay ends when the backend closes.
 * Otherwise it also ends when the backend has been silent for the answer time, or, if it uses TLS,
 * for 2 s after it has said something since the client's last command. When `backend` ends its
 * stream the relay ends. The relay itself never sends a byte of its own.
 *
 * A byte moves when the relay reads it, and again when the peer's kernel takes it: a slow reader is
 * not idle. The relay checks eight times in the idle time which bytes the peers' kernels have
 * taken, so an idle relay may last an eighth longer. */
#ifndef TPROXY_LIB_RELAY_H
#define TPROXY_LIB_RELAY_H

#include <stdint.h>

#include "lib/base.h"

struct conn;
struct loop;
struct relay;

enum relay_end {
    RELAY_BACKEND_CLOSED, /* the ordinary end: what the backend sent is on its way to the client */
    RELAY_CLIENT_CLOSED,  /* the client ended its stream and the backend sent no more */
    RELAY_CLIENT_FAILED,  /* the client vanished: conn_error(client) */
    RELAY_BACKEND_FAILED, /* the backend vanished: conn_error(backend) */
    RELAY_IDLE,           /* no byte has moved for the idle time */
};

/* Called once, never from inside a relay function. Both conns still exist and are the owner's
 * again, to be closed or lingered. The owner also has to free the relay. */
struct relay_handler {
    void (*ended)(struct relay *r, enum relay_end end, void *arg);
    void *arg;
};

/* In microseconds. */
struct relay_times {
    int64_t idle; /* how long no byte may move */
    /* how long the backend may take for an answer after the client has ended its stream */
    int64_t answer;
};

/* Starts a relay. Takes over the handlers and deadlines of both conns; input that they hold is
 * relayed first. */
struct relay *relay_start(struct loop *loop, struct conn *client, struct conn *backend,
                          struct relay_times times, struct relay_handler handler);

/* Frees the relay without calling `ended`. The owner closes both conns or sets new handlers. NULL
 * is allowed. */
void relay_free(struct relay *r);

/* Return the number of bytes moved so far. */
uint64_t relay_to_client(const struct relay *r);
uint64_t relay_to_backend(const struct relay *r);

#endif
