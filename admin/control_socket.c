/* The control socket: answers a request of one line with one line. */
#include "admin/control_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/conn.h"
#include "lib/linger.h"
#include "lib/list.h"
#include "lib/listener.h"
#include "lib/log.h"
#include "lib/log_limit.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"

enum { CLIENTS_MAX = 8, PATIENCE_SECONDS = 5 };

struct control_socket {
    struct loop *loop;
    struct listener listener;
    struct list clients;
    size_t client_count;
    struct control_socket_handler handler;
    struct log_limits limits;
};

/* Kinds of log lines, each limited by itself. */
enum { LINE_STRANGER, LINE_CROWDED };

struct control_client {
    struct list link;
    struct control_socket *socket;
    struct conn *conn;
    void *probe; /* of the handler; NULL: none is under way */
};

/* ---- both sides ---- */

/* Makes an abstract address: a NUL, then the name; only the length marks its end. */
static int make_address(const char *name, struct sockaddr_un *at, socklen_t *n)
{
    size_t len = strlen(name);
    if (len == 0 || len > 100) {
        return ERR;
    }
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(at->sun_path + 1, name, len);
    *n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
    return OK;
}

/* Tells whether the process at the other end belongs to our user or to root; *uid is its user. The
 * check is needed because any process may take any name. */
static bool peer_is_ours(int fd, uid_t *uid)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t n = sizeof(peer);
    int res = sys->getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n);
    *uid = peer.uid;
    return res == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

/* ---- server ---- */

static void drop_client(struct control_client *c)
{
    const struct control_socket_handler *handler = &c->socket->handler;
    list_remove(&c->link);
    c->socket->client_count--;
    if (c->probe) {
        handler->cancel(c->probe, handler->arg);
    }
    conn_close(c->conn);
    free(c);
}

void control_socket_set_handler(struct control_socket *s, struct control_socket_handler handler)
{
    s->handler = handler;
}

void control_socket_say(struct control_client *c, const char *line)
{
    conn_write(c->conn, line, strlen(line));
    conn_write(c->conn, "\n", 1);
}

void control_socket_end(struct control_client *c)
{
    c->probe = NULL;
    linger_close(c->conn);
    c->conn = NULL;
    drop_client(c);
}

/* Returns ERR when there is an error to tell instead. */
static int begin_probe(struct control_client *c, struct str rest, char *out, size_t cap)
{
    const struct control_socket_handler *handler = &c->socket->handler;
    char name[CONTROL_SOCKET_LINE_MAX], user[CONTROL_SOCKET_LINE_MAX];
    struct error err;
    struct control_probe wanted = {.name = name};
    struct str word = str_word(&rest);
    text_fmt(name, sizeof(name), "%.*s", STR_ARG(word));
    word = str_word(&rest);
    if (str_eq(word, "again")) {
        wanted.again = true;
        word = str_word(&rest);
    }
    if (str_eq(word, "as")) {
        word = str_word(&rest);
        text_fmt(user, sizeof(user), "%.*s", STR_ARG(word));
        wanted.user = user;
        wanted.token = rest;
    }
    c->probe = handler->probe(c, &wanted, &err, handler->arg);
    if (!c->probe) {
        text_fmt(out, cap, "error %s\n", err.text);
        return ERR;
    }
    conn_deadline(c->conn, 0);
    return OK;
}

static void log_level(struct str arg, char *out, size_t cap)
{
    enum log_level level;
    char shown[64];
    if (arg.n == 0) {
        text_fmt(out, cap, "ok %s\n", log_level_name(log_get_level()));
    } else if (log_level_parse(arg, &level) == OK) {
        log_set_level(level);
        log_line(LOG_INFO, "admin", "log level is now %s", log_level_name(level));
        text_fmt(out, cap, "ok %s\n", log_level_name(level));
    } else {
        text_fmt(out, cap,
                 "error \"%s\" is not a level: use trace, debug, info, warn, error or fatal\n",
                 text_printable(shown, sizeof(shown), arg));
    }
}

/* Answers the request and lets the client go. */
static void answer_client(struct control_client *c, struct str line)
{
    char reply[FAIL_TEXT_MAX + CONTROL_SOCKET_LINE_MAX];
    struct str rest = str_trim(line);
    struct str command = str_word(&rest);
    if (str_eq(command, "log-level")) {
        log_level(rest, reply, sizeof(reply));
    } else if (str_eq(command, "probe") && c->socket->handler.probe) {
        if (begin_probe(c, rest, reply, sizeof(reply)) == OK) {
            return;
        }
    } else {
        text_fmt(reply, sizeof(reply),
                 "error unknown request; there are: log-level [LEVEL], probe NAME [again] "
                 "[as USER TOKEN]\n");
    }
    conn_write(c->conn, reply, strlen(reply));
    control_socket_end(c);
}

static size_t line_max(struct str input)
{
    return str_istarts(input, "probe ") ? CONTROL_SOCKET_PROBE_MAX : CONTROL_SOCKET_LINE_MAX;
}

static void on_control_event(struct conn *conn, enum conn_event event, void *arg)
{
    struct control_client *c = arg;
    struct str line;
    size_t octets;
    switch (event) {
    case CONN_DATA:
        switch (conn_line(conn, line_max(conn_data(conn)), &line, &octets)) {
        case OK:
            conn_consume(conn, octets);
            if (!c->probe) {
                answer_client(c, line);
            }
            break;
        case ERR:
            drop_client(c);
            break;
        }
        break;
    case CONN_EOF:
    case CONN_TIMEOUT:
    case CONN_FAILED:
        drop_client(c);
        break;
    case CONN_CONNECTED:
    case CONN_DRAINED:
        break;
    }
}

static void on_accepted(struct listener *l, int fd, const union addr *peer)
{
    struct control_socket *s = container_of(l, struct control_socket, listener);
    (void)peer;
    uid_t uid;
    if (!peer_is_ours(fd, &uid)) {
        log_limited(&s->limits, LINE_STRANGER, LOG_WARN, NULL, 0,
                    "control socket: a process of user %ld is refused", (long)uid);
        sys->close(fd);
        return;
    }
    if (s->client_count == CLIENTS_MAX) {
        log_limited(&s->limits, LINE_CROWDED, LOG_WARN, NULL, 0,
                    "control socket: more than %d connections; the oldest one is closed",
                    CLIENTS_MAX);
        drop_client(container_of(s->clients.next, struct control_client, link));
    }
    struct control_client *c = mem_zalloc(sizeof(*c));
    c->socket = s;
    c->conn = conn_new(s->loop, fd, (struct conn_handler){on_control_event, c});
    if (!c->conn) {
        free(c);
        return;
    }
    conn_doubt_short_reads(c->conn);
    list_init(&c->link);
    list_append(&s->clients, &c->link);
    s->client_count++;
    conn_deadline(c->conn, loop_now(s->loop) + SECONDS(PATIENCE_SECONDS));
}

static bool on_starved(struct listener *l)
{
    (void)l;
    return false;
}

static const struct listener_handler listener_handler = {.accepted = on_accepted,
                                                         .starved = on_starved};

struct control_socket *control_socket_new(struct loop *loop, const char *name, struct error *err)
{
    struct sockaddr_un at;
    socklen_t n;
    if (make_address(name, &at, &n) == ERR) {
        error_set(err, FAIL_CONFIG, "the control name must have 1 to 100 characters");
        return NULL;
    }
    struct control_socket *s = mem_zalloc(sizeof(*s));
    s->loop = loop;
    list_init(&s->clients);
    log_limits_init(&s->limits, loop, "admin", NULL);
    if (listener_open(&s->listener, loop, (struct sockaddr *)&at, n, &listener_handler) == ERR) {
        error_set(err, FAIL_CONFIG, "control socket @%s: %s", name,
                  errno == EADDRINUSE ? "another process has this name (see --control)"
                                      : strerror(errno));
        free(s);
        return NULL;
    }
    return s;
}

void control_socket_free(struct control_socket *s)
{
    if (!s) {
        return;
    }
    LIST_EACH (it, &s->clients) {
        drop_client(container_of(it, struct control_client, link));
    }
    listener_close(&s->listener);
    log_limits_close(&s->limits);
    free(s);
}

/* ---- client ---- */

/* Sends the line. Returns -1 and errno when it cannot. */
static ssize_t send_request(int fd, const char *request, unsigned seconds)
{
    struct timeval patience = {.tv_sec = seconds};
    char line[CONTROL_SOCKET_PROBE_MAX];
    size_t n = text_fmt(line, sizeof(line), "%s\n", request);
    sys->setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sys->setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    ssize_t sent = sys->send(fd, line, n, MSG_NOSIGNAL);
    explicit_bzero(line, sizeof(line)); /* it may hold a token */
    return sent;
}

/* Sends the line and reads to the end of the answer. Returns the octets read, or -1 and errno. */
static ssize_t converse(int fd, const char *request, char *reply, size_t cap)
{
    size_t got = 0;
    if (send_request(fd, request, PATIENCE_SECONDS) < 0) {
        return -1;
    }
    while (got < cap) {
        ssize_t more = sys->recv(fd, reply + got, cap - got, 0);
        if (more < 0) {
            return -1;
        }
        got += (size_t)more;
        if (more == 0 || memchr(reply, '\n', got)) {
            break;
        }
    }
    return (ssize_t)got;
}

static int connect_to(int fd, const char *name, struct error *err)
{
    struct sockaddr_un at;
    socklen_t n;
    if (make_address(name, &at, &n) == ERR) {
        return error_set(err, FAIL_CONFIG, "the control name must have 1 to 100 characters");
    }
    if (sys->connect(fd, (struct sockaddr *)&at, n) < 0) {
        return error_set(err, FAIL_CONNECT, "no tproxy is running under the control name %s (%s)",
                         name, strerror(errno));
    }
    uid_t uid;
    if (!peer_is_ours(fd, &uid)) {
        return error_set(err, FAIL_AUTH,
                         "the process with the control name %s belongs to another user", name);
    }
    return OK;
}

/* Says why there was no answer: the result of the call that wanted it, and errno. */
static int no_answer(ssize_t got, struct error *err)
{
    if (got == 0 || errno == EPIPE || errno == ECONNRESET) {
        return error_set(err, FAIL_AUTH, "tproxy does not accept user %ld", (long)geteuid());
    }
    return error_set(err, FAIL_TIMEOUT, "tproxy does not answer (%s)", strerror(errno));
}

static int ask(int fd, const char *name, const char *request, char *reply, struct error *err)
{
    char raw[CONTROL_SOCKET_LINE_MAX];
    if (connect_to(fd, name, err) != OK) {
        return ERR;
    }
    ssize_t got = converse(fd, request, raw, sizeof(raw));
    if (got <= 0) {
        return no_answer(got, err);
    }
    struct str rest = {raw, (size_t)got};
    struct str line = str_cut(&rest, '\n');
    struct str result = str_word(&line);
    if (!str_eq(result, "ok")) {
        return error_set(err, FAIL_REMOTE, "%.*s", STR_ARG(line));
    }
    text_printable(reply, CONTROL_SOCKET_LINE_MAX, line);
    return OK;
}

int control_socket_ask(const char *name, const char *request, char *reply, struct error *err)
{
    int fd = sys->socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return error_set(err, FAIL_INTERNAL, "socket: %s", strerror(errno));
    }
    int res = ask(fd, name, request, reply, err);
    sys->close(fd);
    return res;
}

static int follow(int fd, const char *name, const char *request, unsigned patience,
                  void (*line)(const char *text, void *arg), void *arg, struct error *err)
{
    char text[8 * 1024];
    size_t n = 0;
    bool any = false;
    if (connect_to(fd, name, err) != OK) {
        return ERR;
    }
    ssize_t got = send_request(fd, request, patience);
    while (got > 0 && n < sizeof(text) - 1) {
        got = sys->recv(fd, text + n, sizeof(text) - 1 - n, 0);
        n += got > 0 ? (size_t)got : 0;
        text[n] = '\0';
        for (char *end; (end = strchr(text, '\n')) != NULL; any = true) {
            *end = '\0';
            if (str_istarts(str_of(text), "error ")) {
                return error_set(err, FAIL_REMOTE, "%s", text + strlen("error "));
            }
            line(text, arg);
            n -= (size_t)(end + 1 - text);
            memmove(text, end + 1, n + 1);
        }
    }
    return got == 0 && any ? OK : no_answer(got, err);
}

int control_socket_follow(const char *name, const char *request, unsigned patience,
                          void (*line)(const char *text, void *arg), void *arg, struct error *err)
{
    int fd = sys->socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return error_set(err, FAIL_INTERNAL, "socket: %s", strerror(errno));
    }
    int res = follow(fd, name, request, patience, line, arg, err);
    sys->close(fd);
    return res;
}

int control_socket_log_level(const char *name, const char *level)
{
    char request[CONTROL_SOCKET_LINE_MAX / 2], reply[CONTROL_SOCKET_LINE_MAX];
    struct error err;
    text_fmt(request, sizeof(request), "log-level%s%s", level ? " " : "", level ? level : "");
    text_sanitize(request);
    if (control_socket_ask(name, request, reply, &err) == ERR) {
        fprintf(stderr, "tproxy: %s\n", err.text);
        return EXIT_FAILURE;
    }
    printf("%s\n", reply);
    return EXIT_SUCCESS;
}
