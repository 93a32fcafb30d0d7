/* TLS connections to the servers of tls_peer.py, step by step. */
#ifndef TPROXY_TESTS_TLS_LINK_H
#define TPROXY_TESTS_TLS_LINK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/tls.h"
#include "tests/unit/tls_peer.h"

/* A connection with a socket under it, or a string. */
struct link {
    int fd; /* -1: the server says `script` and then ends */
    const char *script;
    size_t chunk; /* recv gives at most so much, then says AGAIN once; 0: no bound */
    bool hungry;  /* with chunk: it is AGAIN's turn */
    bool send_fails, recv_fails;
    size_t sends;
    bool truncated;
    struct tls *tls;
    struct error err;
};

static inline int link_send(void *arg, const unsigned char *p, size_t n)
{
    struct link *l = arg;
    l->sends++;
    assert_true(n > 0);
    if (l->send_fails) {
        return ERR;
    }
    for (ssize_t sent; l->fd >= 0 && n; p += sent, n -= (size_t)sent) {
        sent = send(l->fd, p, n, MSG_NOSIGNAL);
        if (sent < 0) {
            return ERR;
        }
    }
    return OK;
}

static inline int link_recv(void *arg, unsigned char *p, size_t cap, size_t *got)
{
    struct link *l = arg;
    if (l->recv_fails) {
        return ERR;
    }
    if (l->fd < 0) {
        *got = strnlen(l->script, cap);
        memcpy(p, l->script, *got);
        l->script += *got;
        return OK;
    }
    l->hungry = l->chunk && !l->hungry;
    if (l->hungry) {
        return AGAIN;
    }
    ssize_t n = recv(l->fd, p, l->chunk && l->chunk < cap ? l->chunk : cap, MSG_DONTWAIT);
    if (n < 0) {
        return AGAIN;
    }
    *got = (size_t)n;
    return OK;
}

static inline void wait_readable(struct link *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    assert_int_equal(1, poll(&p, 1, 20000));
}

static inline void link_open(struct link *l, struct tls_client *client)
{
    l->tls = tls_new(client, (struct tls_wire){link_send, link_recv, l}, &l->err);
    assert_non_null(l->tls);
}

static inline int link_handshake(struct link *l)
{
    bool more = false;
    for (int steps = 0; steps < 100000; steps++) {
        int result = tls_handshake(l->tls, &more, &l->err);
        if (result != AGAIN) {
            return result;
        }
        if (!more) {
            wait_readable(l);
        }
    }
    fail_msg("the handshake does not end");
    return ERR;
}

static inline int dial_server(const char *server)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(tls_peer_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(0, connect(fd, (struct sockaddr *)&to, sizeof(to)));
    return fd;
}

static inline void link_connect(struct link *l, const char *server, struct tls_client *client)
{
    l->fd = dial_server(server);
    link_open(l, client);
}

static inline void link_close(struct link *l)
{
    tls_free(l->tls);
    if (l->fd >= 0) {
        close(l->fd);
    }
}

/* Reads up to the end, or n bytes. Returns what came. */
static inline size_t link_read(struct link *l, char *p, size_t n)
{
    size_t all = 0, got;
    while (all < n) {
        int result = tls_read(l->tls, p + all, n - all, &got, &l->truncated, &l->err);
        if (result == AGAIN) {
            wait_readable(l);
            continue;
        }
        if (result != OK) {
            print_message("%s\n", l->err.text);
        }
        assert_int_equal(OK, result);
        if (got == 0) {
            break;
        }
        all += got;
    }
    return all;
}

static inline void link_say(struct link *l, const char *text)
{
    assert_int_equal(OK, tls_write(l->tls, text, strlen(text), &l->err));
}

#endif
