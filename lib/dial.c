/* Turns a host and a port into a connection.
 *
 *   RESOLVING --> addresses --.        .--> first CONNECTED: handed over, the others closed
 *                             v        |
 *               start an attempt ------+--> it fails: the next starts at once
 *                       ^              |
 *                       `--------------+--> 250 ms without an answer: the next starts beside it
 *
 * With a SOCKS5 proxy the addresses are those of the proxy, and the connection to it is not yet
 * handed over:
 *
 *               first CONNECTED --> TUNNEL: the dialogue of lib/socks5 --> handed over
 *
 * When all attempts have failed, or the time for everything is over, the failure that tells most is
 * reported. */
#include "lib/dial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conn.h"
#include "lib/dns.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/socks5.h"

#define HEAD_START MILLIS(250)

struct attempt {
    struct dial *dial;
    struct conn *conn; /* NULL: not started, or over */
    union addr addr;
};

/* A copy of a struct dial_via and of everything it points to. */
struct via_copy {
    struct dial_via via;
    struct secret token;
};

struct tunnel {
    char *target; /* "mail.corp:995" */
    struct socks5 socks;
    struct str hello;
    struct conn *conn; /* NULL until the proxy is reached */
    int64_t timeout;   /* for the whole dial */
};

/* `host` and `port` say where to connect: with a tunnel, to the proxy. */
struct dial {
    struct loop *loop;
    struct dial_handler handler;
    uint16_t port;
    bool allow_local;
    int64_t started_at, timeout;
    struct tunnel *tunnel;   /* NULL: connect directly */
    struct dns_query *query; /* while resolving */
    struct attempt attempts[DNS_MAX_ADDRS];
    size_t count, started, over;
    struct timer head_start, deadline;
    struct task task; /* reports settings that cannot be dialled; frees the dial */
    int told;         /* how much `err` tells, see failures[] */
    struct error err;
    char host[];
};

/* Texts for the failures of connect(), and how much each failure tells. A host that refuses tells
 * more than one that is silent. A missing route tells least, for it is usual with IPv6. */
static const struct {
    int code;
    int tells;
    const char *before, *after;
} failures[] = {
    {ECONNREFUSED, 4, "", " refused the connection"},
    {ETIMEDOUT, 3, "no answer from ", ""},
    {EHOSTUNREACH, 2, "no route to ", ""},
    {ENETUNREACH, 1, "no route to ", ""},
    {EADDRNOTAVAIL, 1, "no route to ", ""}, /* an IPv6 address where IPv6 is switched off */
};
enum { OTHER_FAILURE_TELLS = 3 };

static void close_attempts(struct dial *d)
{
    for (size_t i = 0; i < d->started; i++) {
        conn_close(d->attempts[i].conn);
        d->attempts[i].conn = NULL;
    }
}

static void free_dial(struct task *t)
{
    struct dial *d = container_of(t, struct dial, task);
    if (d->tunnel) {
        socks5_clear(&d->tunnel->socks);
        free(d->tunnel->target);
        free(d->tunnel);
    }
    free(d);
}

void dial_cancel(struct dial *d)
{
    if (!d) {
        return;
    }
    dns_cancel(d->query);
    d->query = NULL;
    close_attempts(d);
    if (d->tunnel) {
        conn_close(d->tunnel->conn);
    }
    timer_cancel(d->loop, &d->head_start);
    timer_cancel(d->loop, &d->deadline);
    loop_bury(d->loop, &d->task, free_dial);
}

static void dial_done(struct dial *d, struct conn *conn, const struct error *err)
{
    struct dial_handler handler = d->handler;
    dial_cancel(d);
    handler.done(conn, err, handler.arg);
}

static void tell_resolved(const struct dial *d)
{
    char text[DNS_MAX_ADDRS * (ADDR_TEXT_MAX + 2)];
    size_t n = 0;
    if (!d->handler.came) {
        return;
    }
    for (size_t i = 0; i < d->count; i++) {
        n += text_fmt(text + n, sizeof(text) - n, "%s%s", i ? ", " : "",
                      addr_text(&d->attempts[i].addr).s);
    }
    d->handler.came(DIAL_RESOLVED, text, d->handler.arg);
}

static void tell_connected(const struct attempt *a)
{
    const struct dial_handler *handler = &a->dial->handler;
    if (handler->came) {
        handler->came(DIAL_CONNECTED, addr_text(&a->addr).s, handler->arg);
    }
}

static void dial_failed(struct dial *d, const struct error *why)
{
    struct error err = *why;
    if (d->tunnel) {
        error_set(&err, why->fail, "no tunnel to %.80s through %.80s:%u: %s", d->tunnel->target,
                  d->host, d->port, why->text);
    }
    dial_done(d, NULL, &err);
}

/* ---- failures ---- */

/* Adds to the text how many addresses were tried. */
static void attempts_failed(struct dial *d, const struct error *why)
{
    struct error err = *why;
    if (d->started > 1) {
        error_set(&err, why->fail, "%s (%zu addresses tried)", why->text, d->started);
    }
    dial_failed(d, &err);
}

static void note_failure(struct attempt *a, const struct error *why)
{
    struct dial *d = a->dial;
    struct addr_text addr = addr_text(&a->addr);
    struct error err;
    int tells = OTHER_FAILURE_TELLS;
    error_set(&err, why->fail, "cannot connect to %s: %s", addr.s, why->text);
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        if (why->code == failures[i].code) {
            tells = failures[i].tells;
            error_set(&err, why->fail, "%s%s%s", failures[i].before, addr.s, failures[i].after);
        }
    }
    if (tells >= d->told) {
        d->told = tells;
        d->err = err;
    }
    a->conn = NULL;
    d->over++;
}

static void on_dial_deadline(struct timer *t)
{
    struct dial *d = container_of(t, struct dial, deadline);
    struct error err;
    char within[32];
    text_fmt(
        within, sizeof(within), d->timeout % SECONDS(1) ? "%lld ms" : "%lld s",
        (long long)(d->timeout % SECONDS(1) ? d->timeout / MILLIS(1) : d->timeout / SECONDS(1)));
    if (d->tunnel && d->tunnel->conn) {
        error_set(&err, FAIL_TIMEOUT, "the proxy did not answer within %s (%s)", within,
                  socks5_state_name(d->tunnel->socks.state));
        dial_failed(d, &err);
        return;
    }
    if (d->query) {
        error_set(&err, FAIL_DNS, "host \"%s\" could not be resolved within %s", d->host, within);
        dial_failed(d, &err);
        return;
    }
    size_t i = 0;
    while (!d->attempts[i].conn) {
        i++;
    }
    error_set(&err, FAIL_TIMEOUT, "no answer from %s within %s", addr_text(&d->attempts[i].addr).s,
              within);
    attempts_failed(d, &err);
}

static void set_timeout(struct dial *d, int64_t timeout)
{
    d->timeout = timeout;
    timer_set(d->loop, &d->deadline, d->started_at + timeout, on_dial_deadline);
}

/* ---- the tunnel ---- */

static void listen_to_proxy(struct dial *d)
{
    struct tunnel *t = d->tunnel;
    struct conn *c = t->conn;
    struct error err;
    struct str say;
    size_t taken;
    int rc;
    do {
        rc = socks5_next(&t->socks, conn_data(c), &taken, &say, &err);
        conn_consume(c, taken);
        conn_write(c, say.p, say.n);
    } while (rc == AGAIN && taken);
    if (rc == OK) {
        t->conn = NULL; /* keep it open */
        dial_done(d, c, NULL);
    } else if (rc == ERR) {
        dial_failed(d, &err);
    }
}

static void on_proxy_event(struct conn *c, enum conn_event event, void *arg)
{
    struct dial *d = arg;
    struct error err;
    switch (event) {
    case CONN_DATA:
        listen_to_proxy(d);
        break;
    case CONN_EOF:
    case CONN_FAILED:
        error_set(&err, FAIL_SOCKS, "the proxy closed the connection (%s)%s%s",
                  socks5_state_name(d->tunnel->socks.state), event == CONN_FAILED ? ": " : "",
                  conn_error(c)->text);
        dial_failed(d, &err);
        break;
    case CONN_CONNECTED:
    case CONN_DRAINED:
    case CONN_TIMEOUT:
        break;
    }
}

static void enter_tunnel(struct dial *d, struct conn *c)
{
    struct tunnel *t = d->tunnel;
    close_attempts(d);
    timer_cancel(d->loop, &d->head_start);
    t->conn = c;
    set_timeout(d, t->timeout);
    conn_set_handler(c, (struct conn_handler){on_proxy_event, d});
    conn_write(c, t->hello.p, t->hello.n);
}

/* Composes the dialogue with the proxy. ERR and d->err: the settings do not allow it. */
static int prepare_tunnel(struct dial *d, const struct dial_to *to)
{
    struct socks5_settings settings = {
        .host = to->host,
        .port = to->port,
        .token = to->via->token,
        .location = to->via->location,
    };
    char target[300];
    text_fmt(target, sizeof(target), "%s:%u", to->host, to->port);
    d->tunnel = mem_zalloc(sizeof(*d->tunnel));
    d->tunnel->target = mem_strdup(target);
    d->tunnel->timeout = to->timeout;
    return socks5_start(&d->tunnel->socks, &settings, &d->tunnel->hello, &d->err);
}

static void on_refused(struct task *t)
{
    struct dial *d = container_of(t, struct dial, task);
    dial_failed(d, &d->err);
}

/* ---- attempts ---- */

static void start_next(struct dial *d);

static void on_head_start(struct timer *t)
{
    start_next(container_of(t, struct dial, head_start));
}

static void on_attempt_event(struct conn *c, enum conn_event event, void *arg)
{
    struct attempt *a = arg;
    switch (event) {
    case CONN_CONNECTED:
        a->conn = NULL; /* keep it open when the others are closed */
        tell_connected(a);
        if (a->dial->tunnel) {
            enter_tunnel(a->dial, c);
        } else {
            dial_done(a->dial, c, NULL);
        }
        break;
    case CONN_FAILED:
        note_failure(a, conn_error(c));
        conn_close(c);
        start_next(a->dial);
        break;
    case CONN_DATA:
    case CONN_DRAINED:
    case CONN_EOF:
    case CONN_TIMEOUT:
        break;
    }
}

/* Starts the next attempt that can be started. Ends the dial when no attempt is left and none is
 * under way. */
static void start_next(struct dial *d)
{
    while (d->started < d->count) {
        struct attempt *a = &d->attempts[d->started++];
        struct conn_handler handler = {.event = on_attempt_event, .arg = a};
        struct error err;
        a->conn = conn_connect(d->loop, &a->addr.sa, addr_len(&a->addr), handler, &err);
        if (a->conn) {
            if (d->started < d->count) {
                timer_set(d->loop, &d->head_start, loop_now(d->loop) + HEAD_START, on_head_start);
            }
            return;
        }
        note_failure(a, &err);
    }
    timer_cancel(d->loop, &d->head_start);
    if (d->over == d->count) {
        attempts_failed(d, &d->err);
    }
}

/* ---- addresses ---- */

/* Takes the addresses that are allowed. *err describes the first one that is not. */
static void take_addresses(struct dial *d, const struct dns_result *result, struct error *err)
{
    for (size_t i = 0; i < result->n; i++) {
        const char *objection = addr_objection(&result->addrs[i], d->allow_local);
        if (!objection) {
            struct attempt *a = &d->attempts[d->count++];
            a->dial = d;
            a->addr = result->addrs[i];
            addr_set_port(&a->addr, d->port);
        } else if (err->fail == FAIL_NONE) {
            struct addr_text addr = addr_text(&result->addrs[i]);
            bool literal = strcmp(addr.s, d->host) == 0;
            error_set(err, FAIL_CONFIG, "host \"%s\" is %s%s%s, which is not allowed", d->host,
                      literal ? "" : addr.s, literal ? "" : ", ", objection);
        }
    }
}

static void on_resolved(const struct dns_result *result, void *arg)
{
    struct dial *d = arg;
    struct error err = result->err;
    d->query = NULL;
    take_addresses(d, result, &err);
    if (d->count) {
        tell_resolved(d);
        start_next(d);
    } else {
        dial_failed(d, &err);
    }
}

struct dial *dial_start(struct loop *loop, struct dns *dns, const struct dial_to *to,
                        struct dial_handler handler)
{
    const struct dial_via *via = to->via;
    const char *host = via ? via->host : to->host;
    size_t size = strlen(host) + 1;
    struct dial *d = mem_zalloc(sizeof(*d) + size);
    struct dns_handler resolved = {.done = on_resolved, .arg = d};
    d->loop = loop;
    d->handler = handler;
    d->port = via ? via->port : to->port;
    d->allow_local = via || to->allow_local;
    d->started_at = loop_now(loop);
    memcpy(d->host, host, size);
    task_init(&d->task);
    if (via && prepare_tunnel(d, to) != OK) {
        loop_soon(loop, &d->task, on_refused);
        return d;
    }
    set_timeout(d, via && via->timeout < to->timeout ? via->timeout : to->timeout);
    d->query = dns_resolve(dns, host, resolved);
    return d;
}

struct dial_via *dial_via_copy(const struct dial_via *via)
{
    struct via_copy *copy = mem_zalloc(sizeof(*copy));
    copy->via = *via;
    copy->via.host = mem_strdup(via->host);
    copy->via.location = mem_strdup(via->location ? via->location : "");
    if (via->token) {
        secret_set(&copy->token, via->token->p ? via->token->p : "", via->token->n);
        copy->via.token = &copy->token;
    }
    return &copy->via;
}

void dial_via_free(struct dial_via *via)
{
    if (via) {
        struct via_copy *copy = container_of(via, struct via_copy, via);
        secret_clear(&copy->token);
        free((char *)via->host);
        free((char *)via->location);
        free(copy);
    }
}
