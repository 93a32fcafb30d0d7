/* A listening stream socket.
 *
 *   OPEN <-----------------------------------------------------.
 *    |-- a client waits: accepted()                            |
 *    |-- no descriptor, starved() closes something: accepted() |
 *    '-- no descriptor, nothing to close --> PAUSED --200 ms---'
 *
 * The descriptor is level-triggered: while a client waits, the loop reports it in each turn. */
#include "lib/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "lib/sys.h"

enum {
    BACKLOG = 1024, /* clients that the kernel keeps until they are accepted */
    BURST_MAX = 16,
};

#define PAUSE MILLIS(200)

static void on_pause_over(struct timer *t)
{
    struct listener *l = container_of(t, struct listener, again);
    loop_listen_pause(l->loop, &l->io, false);
}

static int accept_one(struct listener *l, union addr *peer)
{
    socklen_t n = sizeof(*peer);
    return sys->accept4(l->io.fd, &peer->sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int listener_accept(struct listener *l)
{
    union addr peer;
    int fd = accept_one(l, &peer);
    return fd < 0 ? ERR : fd;
}

static bool out_of_resources(int code)
{
    return code == EMFILE || code == ENFILE || code == ENOBUFS || code == ENOMEM;
}

/* Handles a client for which there is no descriptor. Returns true when another try may succeed. */
static bool client_starved(struct listener *l)
{
    if (l->handler->starved(l)) {
        return true;
    }
    if (listener_is_open(l)) {
        loop_listen_pause(l->loop, &l->io, true);
        timer_set(l->loop, &l->again, loop_now(l->loop) + PAUSE, on_pause_over);
    }
    return false;
}

/* Takes one client, and more only while the listener is reported turn after turn: so a single
 * client costs no call that finds no client, and a burst is taken in few turns. */
static void on_listener_ready(struct io *io)
{
    struct listener *l = container_of(io, struct listener, io);
    union addr peer = {0};
    uint64_t turn = loop_stats(l->loop).turns;
    if (turn != l->turn + 1) {
        l->burst = 1;
    } else if (l->burst < BURST_MAX) {
        l->burst *= 2;
    }
    l->turn = turn;
    io->ready = 0;
    for (unsigned n = 0; n < l->burst && listener_is_open(l); n++) {
        int fd = accept_one(l, &peer);
        /* Without a descriptor accept4 fails even if no client waits any more. A client is known to
         * wait only in the first call of a turn. */
        if (fd < 0 && n == 0 && out_of_resources(errno) && client_starved(l) &&
            listener_is_open(l)) {
            fd = accept_one(l, &peer);
        }
        if (fd < 0) {
            return;
        }
        l->handler->accepted(l, fd, &peer);
    }
}

static void set_option(int fd, int level, int name, int value)
{
    sys->setsockopt(fd, level, name, &value, sizeof(value));
}

int listener_open(struct listener *l, struct loop *loop, const struct sockaddr *at, socklen_t n,
                  const struct listener_handler *handler)
{
    *l = (struct listener){.loop = loop, .handler = handler, .burst = 1, .io.fd = -1};
    int fd = sys->socket(at->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return ERR;
    }
    if (at->sa_family != AF_UNIX) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        /* Linux would take a byte of urgent data out of the stream; this keeps it in its place. */
        set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    }
    if (at->sa_family == AF_INET6) {
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    }
    for (size_t i = 0; i < handler->n_options; i++) {
        const struct listener_option *o = &handler->options[i];
        set_option(fd, o->level, o->name, o->value);
    }
    if (sys->bind(fd, at, n) < 0 || sys->listen(fd, BACKLOG) < 0 ||
        loop_add(loop, &l->io, fd, IO_KIND_LISTEN, on_listener_ready) != OK) {
        int code = errno;
        sys->close(fd);
        errno = code;
        return ERR;
    }
    return OK;
}

bool listener_is_open(const struct listener *l)
{
    return l->loop && l->io.fd >= 0;
}

uint16_t listener_port(const struct listener *l)
{
    union addr at = {0};
    socklen_t n = sizeof(at);
    sys->getsockname(l->io.fd, &at.sa, &n);
    return addr_port(&at);
}

int listener_reserve(void)
{
    return sys->socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

void listener_close(struct listener *l)
{
    if (!listener_is_open(l)) {
        return;
    }
    int fd = l->io.fd;
    timer_cancel(l->loop, &l->again);
    loop_forget(l->loop, &l->io);
    sys->close(fd);
}
