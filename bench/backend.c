#include "bench/wire.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* A POP3 server that costs next to nothing: one loop, prepared answers, one receive and one send
 * for each command. RETR 1 is a message of 2 kB, RETR 2 one of --bulk MiB. Every login succeeds.
 *
 *   backend [--port N] [--bulk MIB]
 *
 * It prints "pop3 PORT auth PORT" when it listens. The second port answers nginx's auth_http
 * requests: every user lives on this server. SIGTERM ends it; it then prints what it has served. */

#define LINE_MAX_OCTETS 2048
#define REPLY_MAX 8192
#define EVENTS 64

struct session {
    int fd;
    bool http;         /* a request of auth_http, not a mail session */
    bool continuation; /* AUTH PLAIN came without its response, which is the next line */
    bool closing;
    size_t have;        /* octets of an unfinished line */
    uint64_t bulk_left; /* octets of the message that is being sent, without the final dot */
    uint64_t bulk_sent;
    size_t dot_left;
    char line[LINE_MAX_OCTETS];
};

struct reply {
    size_t length;
    char text[REPLY_MAX];
};

static int epoll_fd;
static uint64_t bulk_size = (uint64_t)256 << 20;
static uint16_t mail_port;
static struct {
    unsigned long connections, logins, stats, small, bulk, quits, auth_requests;
} served;

static const char greeting[] = "+OK ready\r\n";
static const char ok[] = "+OK\r\n";
static const char dot[] = ".\r\n";
static const char capabilities[] = "+OK\r\nCAPA\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nPIPELINING\r\n"
                                   "AUTH-RESP-CODE\r\nUSER\r\nSASL PLAIN\r\n.\r\n";

static void add(struct reply *reply, const char *text, size_t length)
{
    if (length > sizeof reply->text - reply->length) {
        errno = 0;
        wire_die("backend: too many commands in one packet");
    }
    memcpy(reply->text + reply->length, text, length);
    reply->length += length;
}

static void add_text(struct reply *reply, const char *text)
{
    add(reply, text, strlen(text));
}

static void retrieve(struct session *s, const char *number, struct reply *reply)
{
    char head[64];
    bool bulk = number[0] == '2';
    uint64_t size = bulk ? bulk_size : WIRE_SMALL;
    snprintf(head, sizeof head, "+OK %llu octets\r\n", (unsigned long long)size);
    add_text(reply, head);
    if (bulk) {
        served.bulk++;
        s->bulk_left = size;
        s->bulk_sent = 0;
        s->dot_left = strlen(dot);
    } else {
        served.small++;
        add(reply, wire_block(), WIRE_SMALL);
        add_text(reply, dot);
    }
}

static void command(struct session *s, const char *line, struct reply *reply)
{
    if (s->continuation || strncasecmp(line, "PASS ", 5) == 0 ||
        strncasecmp(line, "AUTH PLAIN ", 11) == 0) {
        s->continuation = false;
        served.logins++;
        add_text(reply, ok);
    } else if (strcasecmp(line, "AUTH PLAIN") == 0) {
        s->continuation = true;
        add_text(reply, "+ \r\n");
    } else if (strncasecmp(line, "USER ", 5) == 0 || strcasecmp(line, "NOOP") == 0) {
        add_text(reply, ok);
    } else if (strcasecmp(line, "CAPA") == 0) {
        add_text(reply, capabilities);
    } else if (strcasecmp(line, "STAT") == 0) {
        served.stats++;
        add_text(reply, "+OK 2 268437504\r\n");
    } else if (strcasecmp(line, "LIST") == 0) {
        add_text(reply, "+OK\r\n1 2048\r\n2 268435456\r\n.\r\n");
    } else if (strncasecmp(line, "RETR ", 5) == 0) {
        retrieve(s, line + 5, reply);
    } else if (strcasecmp(line, "QUIT") == 0) {
        served.quits++;
        add_text(reply, ok);
        s->closing = true;
    } else {
        add_text(reply, "-ERR unknown command\r\n");
    }
}

static void http_line(struct session *s, const char *line, struct reply *reply)
{
    char head[128];
    if (line[0] != 0) {
        return;
    }
    served.auth_requests++;
    snprintf(
        head, sizeof head,
        "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: %u\r\n\r\n",
        mail_port);
    add_text(reply, head);
    s->closing = true;
}

static void end(struct session *s)
{
    close(s->fd);
    free(s);
}

static void want(struct session *s, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = s};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, s->fd, &event) < 0) {
        wire_die("backend: epoll_ctl");
    }
}

/* One send per event, so that a bulk transfer leaves the other sessions their turn. */
static void send_bulk(struct session *s)
{
    const char *from = dot + strlen(dot) - s->dot_left;
    size_t length = s->dot_left;
    if (s->bulk_left > 0) {
        size_t offset = s->bulk_sent % WIRE_BLOCK;
        from = wire_block() + offset;
        length = WIRE_BLOCK - offset < s->bulk_left ? WIRE_BLOCK - offset : s->bulk_left;
    }
    ssize_t n = send(s->fd, from, length, MSG_NOSIGNAL);
    if (n < 0) {
        if (errno != EAGAIN) {
            end(s);
        }
        return;
    }
    if (s->bulk_left > 0) {
        s->bulk_left -= (uint64_t)n;
        s->bulk_sent += (uint64_t)n;
    } else {
        s->dot_left -= (size_t)n;
        if (s->dot_left == 0) {
            want(s, EPOLLIN);
        }
    }
}

static void input(struct session *s)
{
    struct reply reply = {.length = 0};
    ssize_t n = recv(s->fd, s->line + s->have, sizeof s->line - s->have, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) {
            end(s);
        }
        return;
    }
    s->have += (size_t)n;
    char *start = s->line;
    char *stop;
    while (s->dot_left == 0 && (stop = memchr(start, '\n', s->have))) {
        s->have -= (size_t)(stop + 1 - start);
        *stop = 0;
        if (stop > start && stop[-1] == '\r') {
            stop[-1] = 0;
        }
        if (s->http) {
            http_line(s, start, &reply);
        } else {
            command(s, start, &reply);
        }
        start = stop + 1;
    }
    memmove(s->line, start, s->have);
    if (reply.length > 0 &&
        send(s->fd, reply.text, reply.length, MSG_NOSIGNAL) != (ssize_t)reply.length) {
        end(s);
    } else if (s->closing || s->have == sizeof s->line) {
        end(s);
    } else if (s->dot_left > 0) {
        want(s, EPOLLOUT);
    }
}

static void accept_one(int listener, bool http)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    struct session *s = calloc(1, sizeof *s);
    if (!s) {
        wire_die("backend: calloc");
    }
    s->fd = fd;
    s->http = http;
    if (!http) {
        served.connections++;
        if (send(fd, greeting, strlen(greeting), MSG_NOSIGNAL) < 0) {
            end(s);
            return;
        }
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        wire_die("backend: epoll_ctl");
    }
}

static int watch(int fd, void *tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int termination(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static void report(void)
{
    printf("{\"connections\": %lu, \"logins\": %lu, \"stats\": %lu, \"small\": %lu, "
           "\"bulk\": %lu, \"quits\": %lu, \"auth_requests\": %lu}\n",
           served.connections, served.logins, served.stats, served.small, served.bulk, served.quits,
           served.auth_requests);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"bulk", required_argument, NULL, 'b'},
        {0},
    };
    uint16_t port = 0;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'p') {
            port = (uint16_t)wire_number("--port", optarg, 65535);
        } else if (option == 'b') {
            bulk_size = (uint64_t)wire_number("--bulk", optarg, 1 << 20) << 20;
        } else {
            return 2;
        }
    }
    wire_raise_limit();
    wire_block();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int mail = wire_listen(port);
    int auth = wire_listen(0);
    int signals = termination();
    mail_port = wire_port(mail);
    if (watch(mail, &mail) < 0 || watch(auth, &auth) < 0 || watch(signals, &signals) < 0) {
        wire_die("backend: epoll_ctl");
    }
    printf("pop3 %u auth %u\n", mail_port, wire_port(auth));
    fflush(stdout);

    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            void *tag = events[i].data.ptr;
            if (tag == &signals) {
                report();
                return 0;
            }
            if (tag == &mail || tag == &auth) {
                accept_one(tag == &mail ? mail : auth, tag == &auth);
            } else if (((struct session *)tag)->dot_left > 0) {
                send_bulk(tag);
            } else {
                input(tag);
            }
        }
    }
}
