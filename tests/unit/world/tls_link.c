/* TLS connections of a test: the wire under them, and their steps. */
#include "tests/unit/world/tls_link.h"

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int link_send(void *arg, const unsigned char *p, size_t n)
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

static int link_recv(void *arg, unsigned char *p, size_t cap, size_t *got)
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

void wait_readable(struct link *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};
    assert_int_equal(1, poll(&p, 1, 20000));
}

void link_open(struct link *l, struct tls_client *client)
{
    l->tls = tls_new(client, (struct tls_wire){link_send, link_recv, l}, &l->err);
    assert_non_null(l->tls);
}

int link_handshake(struct link *l)
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

static int dial_server(const char *server)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(tls_peer_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(0, connect(fd, (struct sockaddr *)&to, sizeof(to)));
    return fd;
}

void link_connect(struct link *l, const char *server, struct tls_client *client)
{
    l->fd = dial_server(server);
    link_open(l, client);
}

void link_close(struct link *l)
{
    tls_free(l->tls);
    if (l->fd >= 0) {
        close(l->fd);
    }
}

size_t link_read(struct link *l, char *p, size_t n)
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

void link_say(struct link *l, const char *text)
{
    assert_int_equal(OK, tls_write(l->tls, text, strlen(text), &l->err));
}
