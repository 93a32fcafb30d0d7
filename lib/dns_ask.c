/* One full name asked of the name servers. An ask has two questions, A and AAAA, which go their
 * ways alone:
 *
 *            .------------- the next server, the next round <-----------.
 *            v                                                          |
 *   START -> UDP -- answer ------------------------------> DONE         |
 *             |`--- truncated --> TCP -- answer ---------> DONE         |
 *             |                    `---- refused, silent, garbage ----->|
 *              `-- SERVFAIL ..., unreachable, silent ------------------>|
 *                                                          FAILED <- all rounds over
 *
 * Each question to each server has a socket of its own, connected, so that the kernel lets in only
 * what comes from that server, with a port that the kernel draws and an id that we draw. Two
 * sockets rather than one, for address translators are known to lose one of two packets that leave
 * the same port at once.
 *
 * When one family has addresses the other has to hurry: see step(). */
#include "lib/dns_ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conn.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/resolv_conf.h"
#include "lib/sys.h"

/* With IPv4 addresses at hand IPv6 gets this long (RFC 8305 section 3). The other way round IPv4
 * gets longer: a machine may have no route for IPv6 at all. */
#define WAIT_FOR_IPV6 MILLIS(50)
#define WAIT_FOR_IPV4 SECONDS(1)

/* An answer that lacks one family is not remembered for longer: seconds. */
enum { INCOMPLETE_TTL = 30 };

/* Datagrams looked at for one event; who floods us is answered by our timeout. */
enum { DATAGRAMS_MAX = 32 };

enum question_state {
    QUESTION_START,
    QUESTION_UDP,
    QUESTION_TCP,
    QUESTION_DONE,
    QUESTION_FAILED,
    QUESTION_NOT_ASKED, /* "no-aaaa" */
};

struct question {
    struct dns_ask *ask;
    enum question_state state;
    enum dns_type type;
    uint16_t id;
    unsigned tries;    /* servers asked so far, all rounds together */
    struct io io;      /* UDP */
    struct conn *conn; /* TCP */
    size_t tcp_length; /* of the answer, once known */
    struct timer timer;
    struct dns_answer answer; /* DONE */
};

struct dns_ask {
    struct loop *loop;
    const struct resolv_conf *conf;
    unsigned first;
    struct dns_ask_handler handler;
    struct question questions[2]; /* IPv6, IPv4 */
    struct timer hurry;
    struct task task;
    char problem[sizeof(((struct dns_asked *)0)->problem)];
    char name[];
};

static void step(struct dns_ask *ask);
static void try_next(struct question *q);

static bool over(const struct question *q)
{
    return q->state >= QUESTION_DONE;
}

static bool has_addresses(const struct question *q)
{
    return q->state == QUESTION_DONE && q->answer.outcome == DNS_ADDRESSES;
}

static const union addr *server_of(const struct question *q)
{
    const struct resolv_conf *conf = q->ask->conf;
    return &conf->servers[(q->ask->first + q->tries - 1) % conf->server_count];
}

/* ---- ends of a question ---- */

static void hang_up(struct question *q)
{
    timer_cancel(q->ask->loop, &q->timer);
    if (q->io.fd >= 0) {
        int fd = q->io.fd;
        loop_forget(q->ask->loop, &q->io);
        sys->close(fd);
    }
    conn_close(q->conn);
    q->conn = NULL;
}

static void failed(struct question *q, const char *how)
{
    text_fmt(q->ask->problem, sizeof(q->ask->problem), "name server %s failed (%s)",
             resolv_server_text(server_of(q)).s, how);
    try_next(q);
}

static void on_silence(struct timer *t)
{
    struct question *q = container_of(t, struct question, timer);
    try_next(q);
    step(q->ask);
}

static void arm(struct question *q)
{
    struct loop *loop = q->ask->loop;
    timer_set(loop, &q->timer, loop_now(loop) + q->ask->conf->timeout, on_silence);
}

static void start_tcp(struct question *q);

/* A message came from the server. ERR: it is no answer to this question. */
static int take(struct question *q, const void *msg, size_t n)
{
    if (dns_msg_answer(msg, n, q->id, q->ask->name, q->type, &q->answer) != OK) {
        return ERR;
    }
    switch (q->answer.outcome) {
    case DNS_ADDRESSES:
    case DNS_NO_ADDRESS:
    case DNS_NO_NAME:
        hang_up(q);
        q->state = QUESTION_DONE;
        break;
    case DNS_TRUNCATED:
        if (q->state == QUESTION_UDP) {
            start_tcp(q);
        } else {
            failed(q, "truncated over TCP");
        }
        break;
    case DNS_SERVER_FAILED:
        failed(q, q->answer.problem);
        break;
    }
    return OK;
}

/* ---- TCP: each message behind its length (RFC 1035 section 4.2.2) ---- */

static void on_tcp_data(struct question *q)
{
    struct str data = conn_data(q->conn);
    if (q->tcp_length == 0) {
        if (data.n < 2) {
            return;
        }
        const unsigned char *p = (const unsigned char *)data.p;
        q->tcp_length = (size_t)p[0] << 8 | p[1];
        conn_consume(q->conn, 2);
        data = conn_data(q->conn);
    }
    if (data.n >= q->tcp_length && take(q, data.p, q->tcp_length) != OK) {
        failed(q, "malformed answer");
    }
}

static void on_tcp_event(struct conn *c, enum conn_event event, void *arg)
{
    struct question *q = arg;
    switch (event) {
    case CONN_CONNECTED: {
        unsigned char query[2 + DNS_MSG_QUERY_MAX];
        size_t n = dns_msg_query(query + 2, q->id, q->ask->name, q->type);
        query[0] = (unsigned char)(n >> 8);
        query[1] = (unsigned char)n;
        conn_write(c, query, n + 2);
        break;
    }
    case CONN_DATA:
        on_tcp_data(q);
        break;
    case CONN_EOF:
        failed(q, "closed the connection");
        break;
    case CONN_FAILED:
        failed(q, conn_error(c)->text);
        break;
    case CONN_DRAINED:
    case CONN_TIMEOUT:
        break;
    }
    step(q->ask);
}

static void start_tcp(struct question *q)
{
    const union addr *server = server_of(q);
    struct conn_handler handler = {.event = on_tcp_event, .arg = q};
    struct error err;
    hang_up(q);
    q->state = QUESTION_TCP;
    q->tcp_length = 0;
    arm(q);
    q->conn = conn_connect(q->ask->loop, &server->sa, addr_len(server), handler, &err);
    if (!q->conn) {
        failed(q, err.text);
    }
}

/* ---- UDP ---- */

static void on_datagram(struct io *io)
{
    struct question *q = container_of(io, struct question, io);
    char *p = loop_scratch(q->ask->loop);
    for (int i = 0; i < DATAGRAMS_MAX && q->state == QUESTION_UDP && io->ready & IO_READ; i++) {
        ssize_t n = sys->recv(io->fd, p, LOOP_SCRATCH, 0);
        if (n >= 0) {
            if (take(q, p, (size_t)n) == OK) {
                break;
            }
        } else if (errno == EAGAIN) {
            io->ready = 0;
        } else if (errno != EINTR) {
            failed(q, strerror(errno)); /* the server's host refused: nobody listens there */
            break;
        }
    }
    step(q->ask);
}

static int send_udp(struct question *q)
{
    const union addr *server = server_of(q);
    struct dns_ask *ask = q->ask;
    unsigned char query[DNS_MSG_QUERY_MAX];
    size_t n = dns_msg_query(query, q->id, ask->name, q->type);
    int fd = sys->socket(server->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return ERR;
    }
    if (sys->connect(fd, &server->sa, addr_len(server)) < 0 ||
        loop_add(ask->loop, &q->io, fd, IO_KIND_DATA, on_datagram) != OK) {
        sys->close(fd);
        return ERR;
    }
    ssize_t sent = sys->send(fd, query, n, MSG_NOSIGNAL);
    return sent == (ssize_t)n || (sent < 0 && errno == EAGAIN) ? OK : ERR;
}

/* ---- the rounds ---- */

static void start_udp(struct question *q)
{
    q->state = QUESTION_UDP;
    arm(q);
    if (send_udp(q) != OK) {
        failed(q, strerror(errno));
    }
}

/* Asks the next server; recursion through failed() ends with the rounds, of which there are few. */
static void try_next(struct question *q)
{
    const struct resolv_conf *conf = q->ask->conf;
    hang_up(q);
    if (q->tries >= conf->attempts * conf->server_count) {
        q->state = QUESTION_FAILED;
        return;
    }
    q->tries++;
    sys->random(&q->id, sizeof(q->id));
    if (conf->use_tcp) {
        start_tcp(q);
    } else {
        start_udp(q);
    }
}

/* ---- both questions together ---- */

static void judge(const struct dns_ask *ask, struct dns_asked *asked)
{
    bool complete = true, no_name = false, no_address = false;
    uint32_t found_ttl = UINT32_MAX, absent_ttl = UINT32_MAX;
    *asked = (struct dns_asked){0};
    for (size_t i = 0; i < ARRAY_LEN(ask->questions); i++) {
        const struct question *q = &ask->questions[i];
        if (q->state == QUESTION_DONE) {
            uint32_t *ttl = q->answer.n ? &found_ttl : &absent_ttl;
            *ttl = q->answer.ttl < *ttl ? q->answer.ttl : *ttl;
            memcpy(asked->addrs + asked->n, q->answer.addrs, q->answer.n * sizeof(*asked->addrs));
            asked->n += q->answer.n;
            no_name |= q->answer.outcome == DNS_NO_NAME;
            no_address |= q->answer.outcome == DNS_NO_ADDRESS;
        } else if (q->state != QUESTION_NOT_ASKED) {
            complete = false;
        }
    }
    if (asked->n) {
        asked->outcome = DNS_ADDRESSES;
    } else if (no_name && !no_address) {
        asked->outcome = DNS_NO_NAME; /* goes for all types (RFC 8020), so one answer will do */
    } else if (complete) {
        asked->outcome = DNS_NO_ADDRESS;
    } else {
        asked->outcome = DNS_SERVER_FAILED;
        memcpy(asked->problem, ask->problem, sizeof(asked->problem));
    }
    asked->ttl = asked->n ? found_ttl : absent_ttl;
    if (!complete && asked->ttl > INCOMPLETE_TTL) {
        asked->ttl = INCOMPLETE_TTL;
    }
}

static void finish(struct dns_ask *ask)
{
    struct dns_ask_handler handler = ask->handler;
    struct dns_asked asked;
    judge(ask, &asked);
    dns_ask_cancel(ask);
    handler.done(&asked, handler.arg);
}

static void on_hurry(struct timer *t)
{
    finish(container_of(t, struct dns_ask, hurry));
}

/* Every event ends here. */
static void step(struct dns_ask *ask)
{
    const struct question *six = &ask->questions[0], *four = &ask->questions[1];
    if (over(six) && over(four)) {
        finish(ask);
    } else if ((has_addresses(six) || has_addresses(four)) && !ask->hurry.slot) {
        int64_t patience = has_addresses(four) ? WAIT_FOR_IPV6 : WAIT_FOR_IPV4;
        timer_set(ask->loop, &ask->hurry, loop_now(ask->loop) + patience, on_hurry);
    }
}

static void on_start(struct task *t)
{
    struct dns_ask *ask = container_of(t, struct dns_ask, task);
    for (size_t i = 0; i < ARRAY_LEN(ask->questions); i++) {
        if (!over(&ask->questions[i])) {
            try_next(&ask->questions[i]);
        }
    }
    step(ask);
}

struct dns_ask *dns_ask_start(struct loop *loop, const struct resolv_conf *conf, unsigned first,
                              const char *name, struct dns_ask_handler handler)
{
    size_t size = strlen(name) + 1;
    struct dns_ask *ask = mem_zalloc(sizeof(*ask) + size);
    ask->loop = loop;
    ask->conf = conf;
    ask->first = first % (unsigned)conf->server_count;
    ask->handler = handler;
    memcpy(ask->name, name, size);
    for (size_t i = 0; i < ARRAY_LEN(ask->questions); i++) {
        ask->questions[i].ask = ask;
        ask->questions[i].type = i == 0 ? DNS_TYPE_AAAA : DNS_TYPE_A;
        ask->questions[i].io.fd = -1;
    }
    if (conf->no_ipv6) {
        ask->questions[0].state = QUESTION_NOT_ASKED;
    }
    task_init(&ask->task);
    loop_soon(loop, &ask->task, on_start);
    return ask;
}

static void free_ask(struct task *t)
{
    free(container_of(t, struct dns_ask, task));
}

void dns_ask_cancel(struct dns_ask *ask)
{
    if (!ask) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(ask->questions); i++) {
        hang_up(&ask->questions[i]);
    }
    timer_cancel(ask->loop, &ask->hurry);
    loop_bury(ask->loop, &ask->task, free_ask);
}
