/* HTTP/1.1: the small server behind the admin port.
 *
 *   accept -> IDLE --first octet--> REQUEST --head complete--> REPLY --all gone--> IDLE
 *               |                      |                         |
 *           too long: close     408, 400, 431 ...      "Connection: close": lingering close
 *
 * A connection is in REPLY as long as `out` or the conn holds octets. Its input is paused for that
 * time, so a pipelining client waits.
 *
 * Anybody who reaches the port may connect, and the probes that decide over the process use it too.
 * So a new connection always finds a place: the oldest one is closed, whatever it is doing, and
 * nothing makes it younger. With CLIENTS_MAX places a new connection is safe for several turns of
 * the loop, however many come, and its request is read in the next turn. */
#include "http/server.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http/proto.h"
#include "lib/addr.h"
#include "lib/conn.h"
#include "lib/linger.h"
#include "lib/list.h"
#include "lib/listener.h"
#include "lib/log.h"
#include "lib/log_limit.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"

enum {
    CLIENTS_MAX = 64,
    CROWD = 8,
    REQUESTS_AT_ONCE = 4, /* requests in one turn, when a client sends many */
    CLOSING_MAX = 16,     /* connections that have their answer and are given time to read it */
    REPLIES_MAX = 2 * HTTP_REPLY_MAX, /* bytes of memory for all answers under way */
    /* Socket buffers of a connection in bytes; the kernel charges twice as much. */
    SEND_BUFFER = 32768,
    RECEIVE_BUFFER = 8192,
    HEAD_MAX = 8192,
    WRITE_MAX = 65536, /* bytes given to the conn at once */
};

#define REQUEST_TIME SECONDS(10)
#define IDLE_TIME SECONDS(75)

struct http_server {
    struct loop *loop;
    struct http_server_handler handler;
    struct listener listener;
    int reserve; /* a spare descriptor, closed for a client when no other is free; or ERR */
    struct linger_group closing;
    struct log_limits limits;
    struct list clients; /* the oldest comes first */
    size_t client_count;
};

/* Kinds of log lines, each limited by itself. */
enum { LINE_CROWDED };

struct client {
    struct list link;
    struct http_server *server;
    struct conn *conn;
    struct buf out;  /* the part of the reply that the conn does not hold yet */
    bool in_request; /* a head has begun and is not complete */
    bool last;       /* close when the reply has left */
};

/* ---- a connection ---- */

/* Frees the client. Its conn is closed already, or closes by itself. */
static void forget_client(struct client *c)
{
    if (c->server->reserve < 0) {
        c->server->reserve = listener_reserve();
    }
    list_remove(&c->link);
    c->server->client_count--;
    buf_free(&c->out);
    free(c);
}

static void drop_client(struct client *c)
{
    conn_close(c->conn);
    forget_client(c);
}

static bool is_replying(const struct client *c)
{
    return buf_len(&c->out) || conn_pending(c->conn);
}

static void set_deadline(struct client *c, int64_t time)
{
    conn_deadline(c->conn, loop_now(c->server->loop) + time);
}

/* Sends more of the reply. Returns true when it has left and the next request may come. */
static bool push(struct client *c)
{
    while (buf_len(&c->out) && conn_pending(c->conn) == 0) {
        struct str s = buf_str(&c->out);
        size_t n = s.n < WRITE_MAX ? s.n : WRITE_MAX;
        conn_write(c->conn, s.p, n);
        buf_drop(&c->out, n);
    }
    if (c->last && buf_len(&c->out) == 0) {
        linger_close_among(c->conn, &c->server->closing);
        forget_client(c);
        return false;
    }
    if (is_replying(c)) {
        conn_pause(c->conn);
        return false;
    }
    buf_free(&c->out);
    set_deadline(c, IDLE_TIME);
    return true;
}

/* Makes room for an answer of n bytes, because answers that nobody reads must not fill our memory.
 * Closes other connections with unread answers, the oldest first. */
static void drop_replies(const struct client *but, size_t n)
{
    struct http_server *server = but->server;
    LIST_EACH (it, &server->clients) {
        n += container_of(it, struct client, link)->out.cap;
    }
    LIST_EACH (it, &server->clients) {
        struct client *c = container_of(it, struct client, link);
        if (n <= REPLIES_MAX) {
            return;
        }
        if (c != but && c->out.cap) {
            n -= c->out.cap;
            drop_client(c);
        }
    }
}

/* Puts head and body into `out`, which has room for both. */
static void put_reply(struct client *c, const struct http_reply *reply, bool head_only)
{
    struct str body = buf_str(&reply->body);
    drop_replies(c, body.n);
    set_deadline(c, REQUEST_TIME); /* for the client to take all of it */
    int res = buf_fmt(&c->out,
                      "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                      "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s%s\r\n",
                      reply->status, http_reason(reply->status), reply->content_type, body.n,
                      reply->status == 405 ? "Allow: GET, HEAD\r\n" : "",
                      c->last ? "Connection: close\r\n" : "");
    if (res == OK && !head_only) {
        res = buf_add(&c->out, body.p, body.n);
    }
    c->last = c->last || res != OK;
}

static void init_reply(struct http_reply *reply, int status)
{
    *reply = (struct http_reply){.status = status, .content_type = "text/plain; charset=utf-8"};
    buf_init(&reply->body, HTTP_REPLY_MAX);
}

static bool refuse_request(struct client *c, int status, const char *why)
{
    struct http_reply reply;
    init_reply(&reply, status);
    c->in_request = false;
    c->last = true;
    if (buf_fmt(&reply.body, "%s\n", why) == OK) {
        put_reply(c, &reply, false);
    }
    buf_free(&reply.body);
    return push(c);
}

static bool answer_request(struct client *c, const struct http_head *head)
{
    bool head_only = str_eq(head->method, "HEAD");
    if (!head_only && !str_eq(head->method, "GET")) {
        return refuse_request(c, 405, "only GET and HEAD");
    }
    if (head->framing == HTTP_CHUNKED || head->length) {
        return refuse_request(c, 413, "this server accepts no content");
    }
    struct http_request request = {.query = head->target,
                                   .crowded = c->server->client_count > CROWD};
    request.path = str_cut(&request.query, '?');
    struct http_reply reply;
    init_reply(&reply, 404);
    c->last = !head->keep_alive;
    c->server->handler.serve(&request, &reply, c->server->handler.arg);
    if (reply.status == 404 && buf_len(&reply.body) == 0) {
        int res = buf_fmt(&reply.body, "not found\n");
        c->last = c->last || res != OK;
    }
    put_reply(c, &reply, head_only);
    buf_free(&reply.body);
    return push(c);
}

/* Takes one request off the input. Returns true when another may follow. */
static bool take_request(struct client *c)
{
    struct http_head head;
    int res = http_parse_request(conn_data(c->conn), HEAD_MAX, &head);
    if (res == AGAIN) {
        if (!c->in_request) {
            c->in_request = true;
            set_deadline(c, REQUEST_TIME);
        }
        return false;
    }
    c->in_request = false;
    if (res == ERR) {
        return refuse_request(c, head.status, head.wrong);
    }
    /* This comes before the answer, which may pause the input. The octets stay readable during this
     * callback. */
    conn_consume(c->conn, head.size);
    return answer_request(c, &head);
}

static void take_requests(struct client *c)
{
    struct conn *conn = c->conn;
    for (int i = 0; conn_data(conn).n && take_request(c); i++) {
        if (i == REQUESTS_AT_ONCE) {
            /* Other clients have their turn first, then the rest of the input is shown again. */
            conn_show_again(conn);
            return;
        }
    }
}

static void on_client_event(struct conn *conn, enum conn_event event, void *arg)
{
    struct client *c = arg;
    switch (event) {
    case CONN_DATA:
        take_requests(c);
        break;
    case CONN_DRAINED:
        if (push(c)) {
            conn_resume(conn);
        }
        break;
    case CONN_TIMEOUT:
        if (c->in_request) {
            refuse_request(c, 408, "the request took too long");
        } else {
            drop_client(c);
        }
        break;
    case CONN_EOF:
    case CONN_FAILED:
        drop_client(c);
        break;
    case CONN_CONNECTED:
        break;
    }
}

/* ---- the listener ---- */

static bool drop_oldest_client(struct http_server *server)
{
    if (list_empty(&server->clients)) {
        return false;
    }
    drop_client(container_of(server->clients.next, struct client, link));
    return true;
}

static void add_client(struct http_server *server, int fd)
{
    if (server->client_count == CLIENTS_MAX) {
        log_limited(&server->limits, LINE_CROWDED, LOG_WARN, NULL, 0,
                    "admin port: more than %d connections; the oldest one is closed", CLIENTS_MAX);
        drop_oldest_client(server);
    }
    struct client *c = mem_zalloc(sizeof(*c));
    c->server = server;
    c->conn = conn_new(server->loop, fd, (struct conn_handler){on_client_event, c});
    if (!c->conn) {
        free(c);
        return;
    }
    buf_init(&c->out, HTTP_REPLY_MAX + 1024);
    list_init(&c->link);
    list_append(&server->clients, &c->link);
    server->client_count++;
    set_deadline(c, REQUEST_TIME);
}

static void on_accepted(struct listener *l, int fd, const union addr *peer)
{
    (void)peer;
    add_client(container_of(l, struct http_server, listener), fd);
}

/* Frees a descriptor, so that a probe is answered even when sessions have taken all others. */
static bool on_starved(struct listener *l)
{
    struct http_server *server = container_of(l, struct http_server, listener);
    if (linger_group_drop(&server->closing) || drop_oldest_client(server)) {
        return true;
    }
    if (server->reserve < 0) {
        return false;
    }
    sys->close(server->reserve);
    server->reserve = ERR;
    return true;
}

static const struct listener_option options[] = {
    {SOL_SOCKET, SO_SNDBUF, SEND_BUFFER},
    {SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER},
};

static const struct listener_handler listener_handler = {
    .accepted = on_accepted,
    .starved = on_starved,
    .options = options,
    .n_options = ARRAY_LEN(options),
};

/* Parses "127.0.0.1:9494" or "[::]:9494". */
static int parse_address(const char *text, union addr *out)
{
    const char *colon = strrchr(text, ':');
    uint64_t port;
    if (!colon || text_number(str_of(colon + 1), 65535, &port) == ERR ||
        addr_parse((struct str){text, (size_t)(colon - text)}, out) == ERR) {
        return ERR;
    }
    if (out->sa.sa_family == AF_INET6 && text[0] != '[') {
        return ERR; /* the last group of the address could be meant */
    }
    addr_set_port(out, (uint16_t)port);
    return OK;
}

struct http_server *http_server_new(struct loop *loop, const char *address,
                                    struct http_server_handler handler, struct error *err)
{
    union addr at;
    if (parse_address(address, &at) == ERR) {
        error_set(err, FAIL_CONFIG, "\"%s\" is not an address with a port such as 127.0.0.1:9494",
                  address);
        return NULL;
    }
    struct http_server *server = mem_zalloc(sizeof(*server));
    if (listener_open(&server->listener, loop, &at.sa, addr_len(&at), &listener_handler) == ERR) {
        error_set(err, FAIL_CONFIG, "cannot listen on %s: %s", address, strerror(errno));
        free(server);
        return NULL;
    }
    server->loop = loop;
    server->handler = handler;
    server->reserve = listener_reserve();
    linger_group_init(&server->closing, CLOSING_MAX);
    log_limits_init(&server->limits, loop, "http", NULL);
    list_init(&server->clients);
    return server;
}

void http_server_free(struct http_server *server)
{
    if (!server) {
        return;
    }
    LIST_EACH (it, &server->clients) {
        drop_client(container_of(it, struct client, link));
    }
    listener_close(&server->listener);
    linger_group_close(&server->closing);
    log_limits_close(&server->limits);
    if (server->reserve >= 0) {
        sys->close(server->reserve);
    }
    free(server);
}

uint16_t http_server_port(const struct http_server *server)
{
    return listener_port(&server->listener);
}
