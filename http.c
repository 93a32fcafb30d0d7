/* HTTP/1.1 as client. A connection's phases; it has a call in all of them but IDLE:
 *
 *     the first that waits                    the next that waits
 *          v                              .----------------------------.
 *        DIAL ----> (TLS) ----.           v                            |
 *          ^                  '-------> HEAD ----> BODY ---complete--> IDLE
 *          '--- a kept connection ended --'           |                  |
 *                                                     v                  v
 *                                      anything else: closed      octets, end, 60 s: closed
 *
 * A connection belongs to one call from its dialling on, so there is a call to which a failure to
 * connect is reported. Only serve() pairs calls with connections; afterwards either no call waits,
 * or there are max_connections connections and none is idle. */
#include "http.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/addr.h"
#include "lib/buf.h"
#include "lib/conn.h"
#include "lib/dial.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/tls.h"

enum {
    HEAD_MAX = 65536,
    WRITE_MAX = 65536, /* octets given to the conn at once */
    WHOLE_MAX = 1024,  /* octets that a socket takes as a whole, if it takes any */
};

/* Less than servers keep an idle connection, so that few calls meet its end. */
#define IDLE_TIME SECONDS(60)
#define RETRY_AFTER_MAX SECONDS(3600)

struct http {
    struct loop *loop;
    struct dns *dns;
    struct tls_client *tls;
    struct dial_via *via; /* NULL: direct */
    char *host, *authority;
    bool is_address; /* the authority is an address, not a name */
    uint16_t port;
    bool allow_local;
    int64_t connect_timeout;
    bool keep_alive;
    size_t max_connections, connection_count;
    size_t waiting_count;
    struct list waiting; /* calls, the next comes first */
    struct list idle;    /* connections, the one that has been idle longest comes first */
};

enum phase { PHASE_DIAL, PHASE_TLS, PHASE_HEAD, PHASE_BODY, PHASE_IDLE };

struct connection {
    struct list link; /* among the idle */
    struct http *http;
    struct http_call *call;
    enum phase phase;
    bool kept; /* used before, and nothing has come since: the server may have closed it already */
    struct dial *dial;
    struct conn *conn;
    const struct tls_client *tls; /* the client that its TLS was begun with; conn keeps it alive */
    int64_t due;                  /* when dialling and TLS have to be done */
};

struct http_call {
    struct list link; /* among those that wait */
    struct task task; /* for the failure of a call that was refused; frees the call */
    struct http *http;
    struct http_handler handler;
    struct connection *connection; /* NULL: none yet, or the call is over */
    int64_t answer_timeout, silence_timeout;
    bool once, to_head;

    struct buf message;
    size_t sent; /* octets of `message` */

    char *head; /* of the answer; until that is complete, NULL, and all members below are 0 */
    size_t head_size;
    bool handed_on; /* the body goes to the handler piece by piece, instead of being gathered */
    bool reusable;  /* the connection may serve another call, as far as the head tells */
    enum http_framing framing;
    uint64_t left; /* of a body that is not chunked */
    struct http_chunked chunked;
    struct buf body;
};

static void serve(struct http *http);
static void on_connection_event(struct conn *conn, enum conn_event event, void *arg);

/* ---- the end of a connection, and of a call ---- */

static void drop_connection(struct connection *c)
{
    dial_cancel(c->dial);
    conn_close(c->conn);
    list_remove(&c->link);
    c->http->connection_count--;
    free(c);
}

static void free_call(struct task *t)
{
    struct http_call *call = container_of(t, struct http_call, task);
    buf_wipe(&call->message);
    buf_wipe(&call->body);
    mem_wipe(call->head, call->head_size);
    free(call->head);
    free(call);
}

/* Takes the call off its connection or off the waiting ones. Its memory stays until the end of the
 * turn, because deliver() looks at it after a cancel. */
static void end_call(struct http_call *call)
{
    struct http *http = call->http;
    if (call->connection) {
        drop_connection(call->connection);
        call->connection = NULL;
    }
    if (!list_empty(&call->link)) {
        list_remove(&call->link);
        http->waiting_count--;
    }
    loop_bury(http->loop, &call->task, free_call);
    serve(http);
}

static void finish(struct http_call *call, const struct http_answer *answer,
                   const struct error *err)
{
    struct http_handler handler = call->handler;
    end_call(call);
    handler.done(answer, err, handler.arg);
}

static void fail_call(struct http_call *call, enum fail class, const char *fmt, ...)
    printf_like(3, 4);

/* Ends the call with an error; puts the server's name before the text. */
static void fail_call(struct http_call *call, enum fail class, const char *fmt, ...)
{
    char what[FAIL_TEXT_MAX];
    struct error err;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    error_set(&err, class, "%s: %s", call->http->authority, what);
    finish(call, NULL, &err);
}

/* ---- sending ---- */

static void set_deadline(struct connection *c, int64_t time)
{
    conn_deadline(c->conn, loop_now(c->http->loop) + time);
}

static void on_not_sent(struct task *t)
{
    fail_call(container_of(t, struct http_call, task), FAIL_INTERNAL,
              "the request may not be sent any more");
}

/* Ends a call whose request may not be sent: in a task, because http_start may be the caller. A
 * part of the request may have been sent, so the connection cannot be used again. */
static void hold_back(struct http_call *call)
{
    drop_connection(call->connection);
    call->connection = NULL;
    loop_soon(call->http->loop, &call->task, on_not_sent);
}

/* Returns the size of the next piece of the request. The last piece completes the request, so where
 * somebody is asked about it, a large request ends in a small piece: it never waits in the conn,
 * from where it would be sent without another question. */
static size_t next_size(const struct http_call *call)
{
    size_t left = buf_len(&call->message) - call->sent;
    if (left > WRITE_MAX) {
        return WRITE_MAX;
    }
    bool asked = call->handler.may_send;
    return asked && left > WRITE_MAX / 4 ? left - WHOLE_MAX : left;
}

/* Sends more of the request. A large one goes to the conn in pieces, each when the one before has
 * left. */
static void send_more(struct connection *c)
{
    struct http_call *call = c->call;
    const struct http_handler *handler = &call->handler;
    struct str message = buf_str(&call->message);
    while (call->sent < message.n && conn_pending(c->conn) == 0) {
        if (handler->may_send && !handler->may_send(handler->arg)) {
            hold_back(call);
            return;
        }
        size_t n = next_size(call);
        conn_write(c->conn, message.p + call->sent, n);
        call->sent += n;
    }
    set_deadline(c, call->answer_timeout);
}

static void begin_exchange(struct connection *c)
{
    c->phase = PHASE_HEAD;
    send_more(c);
}

/* ---- connecting ---- */

/* Tells whether the text of a failure to connect names the server: as the target of a tunnel, as a
 * name that does not resolve or is not allowed, or as the address that was dialled. */
static bool names_server(const struct http *http, const struct error *err)
{
    if (http->via) {
        return true;
    }
    bool names_host = err->fail == FAIL_DNS || err->fail == FAIL_CONFIG;
    return names_host ? strcmp(http->host, http->authority) == 0 : http->is_address;
}

static void fail_to_connect(struct connection *c, const struct error *err)
{
    if (names_server(c->http, err)) {
        finish(c->call, NULL, err);
    } else {
        fail_call(c->call, err->fail, "%s", err->text);
    }
}

static void on_dialled(struct conn *conn, const struct error *err, void *arg)
{
    struct connection *c = arg;
    c->dial = NULL;
    if (err) {
        fail_to_connect(c, err);
        return;
    }
    c->conn = conn;
    c->tls = c->http->tls;
    conn_set_handler(conn, (struct conn_handler){on_connection_event, c});
    conn_read_pieces(conn); /* to parse 64 KiB of JSON takes 2 ms */
    if (c->http->keep_alive) {
        conn_keep_alive(conn);
    }
    if (!c->tls) {
        begin_exchange(c);
        return;
    }
    c->phase = PHASE_TLS;
    conn_deadline(conn, c->due);
    conn_start_tls(conn, c->http->tls);
}

static void dial(struct connection *c)
{
    struct http *http = c->http;
    struct dial_to to = {.host = http->host,
                         .port = http->port,
                         .allow_local = http->allow_local,
                         .timeout = http->connect_timeout,
                         .via = http->via};
    c->phase = PHASE_DIAL;
    c->due = loop_now(http->loop) + http->connect_timeout;
    c->dial =
        dial_start(http->loop, http->dns, &to, (struct dial_handler){.done = on_dialled, .arg = c});
}

/* ---- choosing a connection ---- */

/* Returns a connection; one without a conn has still to be dialled. NULL: all are in use. `fresh`:
 * a kept one is not wanted. */
static struct connection *take_connection(struct http *http, bool fresh)
{
    struct list *oldest = http->idle.next, *newest = http->idle.prev;
    bool has_idle = !list_empty(&http->idle);
    if (has_idle && !fresh) {
        list_remove(newest);
        return container_of(newest, struct connection, link);
    }
    if (http->connection_count == http->max_connections) {
        if (!has_idle) {
            return NULL;
        }
        drop_connection(container_of(oldest, struct connection, link));
    }
    struct connection *c = mem_zalloc(sizeof(*c));
    c->http = http;
    list_init(&c->link);
    http->connection_count++;
    return c;
}

static void serve(struct http *http)
{
    LIST_EACH (it, &http->waiting) {
        struct http_call *call = container_of(it, struct http_call, link);
        struct connection *c = take_connection(http, call->once);
        if (!c) {
            return;
        }
        list_remove(it);
        http->waiting_count--;
        c->call = call;
        call->connection = c;
        if (c->conn) {
            begin_exchange(c);
        } else {
            dial(c);
        }
    }
}

/* Ends a complete exchange: the connection becomes idle, or is closed. */
static void release(struct connection *c)
{
    struct http *http = c->http;
    /* octets behind the answer would be taken for the next answer */
    bool reusable = c->call->reusable && conn_data(c->conn).n == 0 && c->tls == http->tls;
    c->call->connection = NULL;
    c->call = NULL;
    if (!reusable) {
        drop_connection(c);
        return;
    }
    c->phase = PHASE_IDLE;
    c->kept = true;
    list_append(&http->idle, &c->link);
    set_deadline(c, IDLE_TIME);
}

/* ---- the answer ---- */

static void complete(struct connection *c)
{
    struct http_call *call = c->call;
    struct http_head head;
    int res = http_parse_response((struct str){call->head, call->head_size}, HEAD_MAX,
                                  call->to_head, &head);
    assert(res == OK);
    (void)res;
    release(c);
    finish(call, &(struct http_answer){&head, buf_str(&call->body)}, NULL);
}

/* Begins to read the body. The message is not needed any more; if a part of it has not been sent,
 * it never is, because the server has answered without it. */
static void begin_body(struct connection *c, const struct http_head *head)
{
    struct http_call *call = c->call;
    bool all_sent = call->sent == buf_len(&call->message) && conn_pending(c->conn) == 0;
    buf_wipe(&call->message);
    call->head_size = head->size;
    call->head = mem_alloc(head->size);
    memcpy(call->head, conn_data(c->conn).p, head->size);
    call->handed_on = call->handler.data && head->status / 100 == 2;
    call->reusable = all_sent && head->keep_alive;
    call->framing = head->framing;
    call->left = head->framing == HTTP_LENGTH        ? head->length
                 : head->framing == HTTP_UNTIL_CLOSE ? UINT64_MAX
                                                     : 0;
    conn_consume(c->conn, head->size);
    c->phase = PHASE_BODY;
}

/* Ends the call, because this head cannot be read. */
static void refuse_head(struct connection *c, const struct http_head *head)
{
    bool bound = head->status == 431;
    if (bound && head->size == 0) {
        fail_call(c->call, FAIL_LIMIT, "the head of the answer has more than %d octets", HEAD_MAX);
    } else if (bound) {
        fail_call(c->call, FAIL_LIMIT, "the answer has %s", head->wrong);
    } else {
        fail_call(c->call, FAIL_PROTOCOL, "the answer is not HTTP/1.1: %s", head->wrong);
    }
}

/* Tells whether the call can go on, and ends it if not. Only the body of a success has to be
 * readable: the status of a refusal says enough. */
static bool readable(struct connection *c, const struct http_head *head)
{
    char name[24];
    struct str coding;
    if (head->status / 100 != 2 || !http_find_coding(head, &coding)) {
        return true;
    }
    fail_call(c->call, FAIL_PROTOCOL, "the answer is coded as %s, which was not asked for",
              text_printable(name, sizeof(name), coding));
    return false;
}

/* Returns true when the head is complete and its body has to be read. */
static bool take_head(struct connection *c)
{
    struct http_head head;
    int res;
    c->kept = false;
    while ((res = http_parse_response(conn_data(c->conn), HEAD_MAX, c->call->to_head, &head)) ==
               OK &&
           head.status < 200) {
        conn_consume(c->conn, head.size); /* RFC 9110 section 15.2 */
    }
    if (res == ERR) {
        refuse_head(c, &head);
    } else if (res == OK && readable(c, &head)) {
        begin_body(c, &head);
        return true;
    }
    return false;
}

/* Takes the next piece of the body off *in. OK: *piece is empty when the body is complete. */
static int next_piece(struct http_call *call, struct str *in, struct str *piece)
{
    if (call->framing == HTTP_CHUNKED) {
        return http_chunked_next(&call->chunked, in, piece);
    }
    *piece = (struct str){in->p, call->left < in->n ? (size_t)call->left : in->n};
    call->left -= piece->n;
    in->p += piece->n;
    in->n -= piece->n;
    return piece->n || call->left == 0 ? OK : AGAIN;
}

/* Hands on or gathers a piece of the body. Returns false when the call is over. */
static bool deliver(struct http_call *call, struct str piece)
{
    if (call->handed_on) {
        call->handler.data(piece, call->handler.arg);
        return call->connection;
    }
    if (buf_add(&call->body, piece.p, piece.n) == ERR) {
        fail_call(call, FAIL_LIMIT, "the answer is larger than %zu bytes", call->body.max);
        return false;
    }
    return true;
}

static void take_body(struct connection *c)
{
    struct http_call *call = c->call;
    struct str piece;
    do {
        struct str in = conn_data(c->conn);
        size_t n = in.n;
        int res = next_piece(call, &in, &piece);
        conn_consume(c->conn, n - in.n); /* the octets stay readable during this callback */
        if (res == ERR) {
            fail_call(call, FAIL_PROTOCOL, "the answer is not HTTP/1.1: a malformed chunk");
            return;
        }
        if (res == AGAIN) {
            if (call->handed_on) {
                set_deadline(c, call->silence_timeout);
            }
            return;
        }
        if (piece.n == 0) {
            complete(c);
            return;
        }
    } while (deliver(call, piece));
}

/* ---- events of a connection ---- */

static const char *awaited(const struct connection *c)
{
    return c->phase == PHASE_TLS    ? "the TLS handshake"
           : c->phase == PHASE_HEAD ? "the answer"
                                    : "the rest of the answer";
}

static void silent(struct connection *c)
{
    int64_t time = c->phase == PHASE_TLS ? c->http->connect_timeout
                   : c->call->handed_on  ? c->call->silence_timeout
                                         : c->call->answer_timeout;
    fail_call(c->call, FAIL_TIMEOUT, "the server %s %s within %.3g s",
              c->phase == PHASE_TLS ? "did not complete" : "did not send", awaited(c),
              (double)time / 1e6);
}

/* Handles the end or failure of the conn. On a kept connection, the server may have ended it before
 * it saw the request, so that is sent again over a new one. */
static void gone(struct connection *c, enum conn_event event)
{
    const struct error *err = conn_error(c->conn);
    if (c->kept) {
        conn_close(c->conn);
        c->conn = NULL;
        c->kept = false;
        c->call->sent = 0;
        dial(c);
    } else if (event == CONN_EOF && c->call->framing == HTTP_UNTIL_CLOSE) {
        complete(c);
    } else if (event == CONN_EOF) {
        fail_call(c->call, FAIL_REMOTE, "the server closed the connection; we waited for %s",
                  awaited(c));
    } else if (err->fail == FAIL_REMOTE) {
        fail_call(c->call, FAIL_REMOTE, "the connection broke (%s); we waited for %s", err->text,
                  awaited(c));
    } else {
        fail_call(c->call, err->fail, "%s", err->text);
    }
}

static void on_connection_event(struct conn *conn, enum conn_event event, void *arg)
{
    struct connection *c = arg;
    (void)conn;
    if (c->phase == PHASE_IDLE) {
        if (event != CONN_DRAINED) {
            drop_connection(c);
        }
        return;
    }
    switch (event) {
    case CONN_CONNECTED:
        begin_exchange(c);
        break;
    case CONN_DATA:
        if (c->phase == PHASE_BODY || take_head(c)) {
            take_body(c);
        }
        break;
    case CONN_DRAINED:
        if (c->phase == PHASE_HEAD) {
            send_more(c);
        }
        break;
    case CONN_TIMEOUT:
        silent(c);
        break;
    case CONN_EOF:
    case CONN_FAILED:
        gone(c, event);
        break;
    }
}

/* ---- calls ---- */

static void put_message(struct buf *out, const struct http_message *m, const char *authority)
{
    int res = buf_fmt(out,
                      "%s %.*s HTTP/1.1\r\nHost: %s\r\nUser-Agent: tproxy\r\n"
                      "Accept-Encoding: identity\r\n",
                      m->method, STR_ARG(m->target), authority);
    if (res == OK && m->has_body) {
        res = buf_fmt(out, "Content-Length: %zu\r\n", m->body.n);
    }
    if (res == OK) {
        res = buf_add(out, m->headers.p, m->headers.n);
    }
    if (res == OK) {
        res = buf_add(out, "\r\n", 2);
    }
    if (res == OK) {
        res = buf_add(out, m->body.p, m->body.n);
    }
    assert(res == OK); /* there is no maximum */
    (void)res;
}

static void on_too_many_waiting(struct task *t)
{
    fail_call(container_of(t, struct http_call, task), FAIL_LIMIT,
              "more than %d requests wait for a connection", HTTP_WAITING_MAX);
}

struct http_call *http_start(struct http *http, const struct http_message *message,
                             struct http_handler handler)
{
    struct http_call *call = mem_zalloc(sizeof(*call));
    list_init(&call->link);
    task_init(&call->task);
    call->http = http;
    call->handler = handler;
    call->answer_timeout = message->answer_timeout;
    call->silence_timeout = message->silence_timeout;
    call->once = message->once;
    call->to_head = strcmp(message->method, "HEAD") == 0;
    buf_init(&call->body, message->body_max);
    buf_init(&call->message, SIZE_MAX);
    put_message(&call->message, message, http->authority);
    if (http->waiting_count == HTTP_WAITING_MAX) {
        loop_soon(http->loop, &call->task, on_too_many_waiting);
        return call;
    }
    list_append(&http->waiting, &call->link);
    http->waiting_count++;
    serve(http);
    return call;
}

void http_cancel(struct http_call *call)
{
    if (call) {
        end_call(call);
    }
}

int64_t http_retry_after(const struct http_head *head)
{
    struct str value;
    uint64_t seconds;
    if (!http_find_header(head, "Retry-After", &value) ||
        text_number(value, INT64_MAX, &seconds) == ERR) {
        return 0;
    }
    return seconds < RETRY_AFTER_MAX / SECONDS(1) ? SECONDS(seconds) : RETRY_AFTER_MAX;
}

/* ---- life ---- */

struct http *http_new(struct loop *loop, struct dns *dns, const struct http_settings *settings)
{
    struct http *http = mem_zalloc(sizeof(*http));
    union addr address;
    http->loop = loop;
    http->dns = dns;
    http->tls = settings->tls ? tls_client_ref(settings->tls) : NULL;
    http->keep_alive = settings->keep_alive;
    http->via = settings->via ? dial_via_copy(settings->via) : NULL;
    http->host = mem_strdup(settings->host);
    http->is_address = addr_parse(str_of(settings->host), &address) == OK &&
                       strstr(settings->authority, settings->host);
    http->authority = mem_strdup(settings->authority);
    http->port = settings->port;
    http->allow_local = settings->allow_local;
    http->connect_timeout = settings->connect_timeout;
    http->max_connections = settings->max_connections;
    list_init(&http->waiting);
    list_init(&http->idle);
    return http;
}

static void drop_idle(struct http *http)
{
    LIST_EACH (it, &http->idle) {
        drop_connection(container_of(it, struct connection, link));
    }
}

void http_free(struct http *http)
{
    if (!http) {
        return;
    }
    drop_idle(http);
    assert(http->connection_count == 0 && http->waiting_count == 0);
    tls_client_unref(http->tls);
    dial_via_free(http->via);
    free(http->host);
    free(http->authority);
    free(http);
}

void http_set_tls(struct http *http, struct tls_client *tls)
{
    struct tls_client *old = http->tls;
    http->tls = tls ? tls_client_ref(tls) : NULL;
    tls_client_unref(old);
    drop_idle(http);
}
