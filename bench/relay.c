#include "bench/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The floor of the measurements: a relay that knows nothing of mail and does only what any proxy
 * has to do for each connection: accept, connect, carry both directions, close. It has one loop and
 * one edge-triggered registration for each descriptor.
 *
 *   relay --to PORT [--port N] [--buffer OCTETS] [--splice PIPE_OCTETS]
 *
 * The relay copies through one shared buffer. With --splice, a direction whose read filled the
 * buffer continues through a pipe of that size until the pipe is empty. The relay prints "port N"
 * when it listens. */

#define EVENTS 64
#define ROUNDS 8 /* reads for one session before the other sessions have their turn */
#define BUFFER_MAX ((size_t)1 << 20)
#define DEFAULT_PIPE 65536

/* One socket, and the octets read from it that its peer has not yet taken. */
struct side {
    struct session *session;
    struct side *peer;
    int fd;
    bool readable, writable, eof, hung_up, shut, splicing;
    int pipe[2];
    size_t piped;
    char *kept;
    size_t kept_from, kept_to;
};

struct session {
    struct side client, server;
    bool queued;
    struct session *next;
};

static int epoll_fd;
static uint16_t to_port;
static size_t buffer_size = 65536;
static int pipe_size; /* 0: splice is not used */
static char buffer[BUFFER_MAX];
static struct session *ready; /* sessions that used up their rounds */
static struct session *ended; /* freed at the end of the turn */

static void init_side(struct side *side, struct session *session, struct side *peer, int fd)
{
    side->session = session;
    side->peer = peer;
    side->fd = fd;
    side->pipe[0] = side->pipe[1] = -1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = side};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        wire_die("relay: epoll_ctl");
    }
}

static void accept_one(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    struct session *s = calloc(1, sizeof *s);
    if (!s) {
        wire_die("relay: calloc");
    }
    init_side(&s->server, s, &s->client, wire_connect(to_port));
    init_side(&s->client, s, &s->server, fd);
    s->client.writable = true;
}

static void end_side(struct side *side)
{
    close(side->fd);
    side->fd = -1;
    if (side->pipe[0] >= 0) {
        close(side->pipe[0]);
        close(side->pipe[1]);
    }
    free(side->kept);
}

static void end(struct session *s)
{
    if (s->client.fd >= 0) {
        end_side(&s->client);
        end_side(&s->server);
        s->next = ended;
        ended = s;
    }
}

static void free_ended(void)
{
    while (ended) {
        struct session *s = ended;
        ended = s->next;
        free(s);
    }
}

static bool failed(struct side *to)
{
    if (errno == EAGAIN) {
        to->writable = false;
        return false;
    }
    end(to->session);
    return true;
}

/* Keeps what the peer did not take; the next write begins with it. */
static void keep(struct side *from, const char *data, size_t length)
{
    if (!from->kept) {
        from->kept = malloc(buffer_size);
    }
    if (!from->kept) {
        wire_die("relay: malloc");
    }
    memcpy(from->kept, data, length);
    from->kept_from = 0;
    from->kept_to = length;
    from->peer->writable = false;
}

static bool write_kept(struct side *from)
{
    struct side *to = from->peer;
    ssize_t n =
        send(to->fd, from->kept + from->kept_from, from->kept_to - from->kept_from, MSG_NOSIGNAL);
    if (n < 0) {
        return !failed(to);
    }
    from->kept_from += (size_t)n;
    if (from->kept_from < from->kept_to) {
        to->writable = false;
    } else {
        from->kept_from = from->kept_to = 0;
    }
    return true;
}

/* A read that did not fill the buffer has emptied the socket, so a second read is not needed. */
static bool copy(struct side *from)
{
    ssize_t n = recv(from->fd, buffer, buffer_size, 0);
    if (n < 0 && errno == EAGAIN) {
        from->readable = false;
        return true;
    }
    if (n < 0) {
        end(from->session);
        return false;
    }
    from->eof = n == 0 || (from->hung_up && (size_t)n < buffer_size);
    from->readable = (size_t)n == buffer_size;
    from->splicing = pipe_size > 0 && from->readable;
    if (n == 0) {
        return true;
    }
    ssize_t sent = send(from->peer->fd, buffer, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        end(from->session);
        return false;
    }
    if (sent < n) {
        size_t done = sent > 0 ? (size_t)sent : 0;
        keep(from, buffer + done, (size_t)n - done);
    }
    return true;
}

static void open_pipe(struct side *from)
{
    if (pipe2(from->pipe, O_NONBLOCK | O_CLOEXEC) < 0 ||
        (pipe_size != DEFAULT_PIPE && fcntl(from->pipe[1], F_SETPIPE_SZ, pipe_size) < 0)) {
        wire_die("relay: pipe of %d octets", pipe_size);
    }
}

static bool splice_once(struct side *from)
{
    struct side *to = from->peer;
    unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
    if (from->pipe[0] < 0) {
        open_pipe(from);
    }
    if (from->piped == 0) {
        ssize_t n = splice(from->fd, NULL, from->pipe[1], NULL, (size_t)pipe_size, flags);
        if (n < 0 && errno != EAGAIN) {
            end(from->session);
            return false;
        }
        if (n < 0) {
            from->readable = false;
            from->splicing = false;
            return true;
        }
        from->eof = n == 0;
        from->piped = (size_t)n;
    }
    while (from->piped > 0) {
        ssize_t n = splice(from->pipe[0], NULL, to->fd, NULL, from->piped, flags);
        if (n < 0) {
            return !failed(to);
        }
        from->piped -= (size_t)n;
    }
    return true;
}

/* Carries one direction. Returns false when the session has ended. */
static bool carry(struct side *from, int *rounds)
{
    struct side *to = from->peer;
    while (to->writable && *rounds > 0) {
        bool alive;
        if (from->kept_to > 0) {
            alive = write_kept(from);
        } else if (from->piped > 0) {
            alive = splice_once(from);
        } else if (from->readable && !from->eof) {
            alive = from->splicing ? splice_once(from) : copy(from);
        } else {
            break;
        }
        if (!alive) {
            return false;
        }
        (*rounds)--;
    }
    if (from->eof && from->kept_to == 0 && from->piped == 0) {
        if (from == &from->session->server) {
            end(from->session);
            return false;
        }
        if (!from->shut) {
            from->shut = true;
            shutdown(to->fd, SHUT_WR);
        }
    }
    return true;
}

static void work(struct session *s)
{
    int rounds = ROUNDS;
    if (carry(&s->server, &rounds) && carry(&s->client, &rounds) && rounds == 0 && !s->queued) {
        s->queued = true;
        s->next = ready;
        ready = s;
    }
}

static void work_ready(void)
{
    struct session *list = ready;
    ready = NULL;
    while (list) {
        struct session *s = list;
        list = s->next;
        s->queued = false;
        work(s);
    }
}

static void event(struct side *side, uint32_t events)
{
    if (side->fd < 0) {
        return;
    }
    side->readable = side->readable || (events & (EPOLLIN | EPOLLERR));
    side->writable = side->writable || (events & EPOLLOUT);
    side->hung_up = side->hung_up || (events & EPOLLRDHUP);
    if (!side->session->queued) {
        work(side->session);
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"to", required_argument, NULL, 't'},
        {"buffer", required_argument, NULL, 'b'},
        {"splice", required_argument, NULL, 's'},
        {0},
    };
    uint16_t port = 0;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p') {
            port = (uint16_t)wire_number("--port", optarg, 65535);
        } else if (option == 't') {
            to_port = (uint16_t)wire_number("--to", optarg, 65535);
        } else if (option == 'b') {
            buffer_size = (size_t)wire_number("--buffer", optarg, BUFFER_MAX);
        } else if (option == 's') {
            pipe_size = (int)wire_number("--splice", optarg, 1 << 20);
        } else {
            return 2;
        }
    }
    wire_raise_limit();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = wire_listen(port);
    struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &listening) < 0) {
        wire_die("relay: epoll_ctl");
    }
    printf("port %u\n", wire_port(listener));
    fflush(stdout);

    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll_fd, events, EVENTS, ready ? 0 : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) {
                event(events[i].data.ptr, events[i].events);
            } else {
                accept_one(listener);
            }
        }
        work_ready();
        free_ended();
    }
}
