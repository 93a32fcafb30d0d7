/* HTTP/1.1: the small server behind the admin port. */
#ifndef TPROXY_HTTP_SERVER_H
#define TPROXY_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

struct http_server;
struct loop;

enum { HTTP_REPLY_MAX = 4 * 1024 * 1024 };

/* A GET or HEAD request. Valid during the call. */
struct http_request {
    struct str path;  /* as sent: not decoded */
    struct str query; /* behind the '?'; empty when there is none */
    bool crowded;     /* more than 8 connections are open; scrapers and probes have fewer */
};

/* The answer: 404 and empty until filled in. `body` holds at most HTTP_REPLY_MAX and belongs to the
 * server. */
struct http_reply {
    int status;
    const char *content_type; /* static storage */
    struct buf body;
};

/* `serve` answers at once. The server handles HEAD: the handler fills in the same as for GET. */
struct http_server_handler {
    void (*serve)(const struct http_request *request, struct http_reply *reply, void *arg);
    void *arg;
};

/* Listens on `address`: an IP address and a port, "127.0.0.1:9494" or "[::]:9494" (which takes IPv4
 * too); port 0 lets the system choose. There are at most 64 connections; a new one closes the
 * oldest. A client has 10 s to send a request, and 10 s to take the answer. Returns NULL and sets
 * *err (FAIL_CONFIG) when the address is malformed or cannot be had. */
struct http_server *http_server_new(struct loop *loop, const char *address,
                                    struct http_server_handler handler, struct error *err);

/* Closes the listener and all its connections. NULL is allowed. */
void http_server_free(struct http_server *server);

/* Returns the port that it listens on. */
uint16_t http_server_port(const struct http_server *server);

#endif
