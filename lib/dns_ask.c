/* Asks the name servers for one full name. An ask has two questions, A and AAAA, which do not wait
 * for each other. Each question is put in attempts:
 *
 *   question:  START -> ASKING --- an attempt has the answer ------------------> DONE
 *                          |`--- no attempt is under way and none is left -----> FAILED
 *                          |
 *                          '--> a new attempt: at the start, when one fails, and when the servers
 *                               have been silent for a while
 *
 *   attempt:   FREE -> UDP --- answer ------------------------------> FREE, the question is DONE
 *                       |`--- truncated --> TCP --- answer ---------> FREE, the question is DONE
 *                       |                    `--- refused, silent, garbage ---> FREE
 *                        `-- SERVFAIL ..., unreachable, silent ---------------> FREE
 *
 * Attempts go to one server after the other, in as many rounds as resolv.conf allows. A packet may
 * be lost, so a new attempt starts after a second although the earlier one still waits; the pause
 * doubles up to the timeout of resolv.conf. The first answer to any attempt counts. Since no pause
 * is longer than the timeout, all attempts together take no longer than one after the other would.
 *
 * Each attempt has a connected socket of its own, so that the kernel lets in only packets from that
 * server. The kernel draws the port, and we draw the id. The two questions have separate sockets,
 * too, because some address translators lose one of two packets that leave the same port at once.
 *
 * When one family has addresses, the other has only a short time left: see ask_step(). */
#include "lib/dns_ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conn.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/resolv_conf.h"
#include "lib/sys.h"

/* IPv6 gets this long when IPv4 addresses have come (RFC 8305 section 3). The other way round IPv4
 * gets longer: a machine may have no route for IPv6 at all. */
#define WAIT_FOR_IPV6 MILLIS(50)
#define WAIT_FOR_IPV4 SECONDS(1)

/* The pause between the first and the second attempt. */
#define FIRST_PAUSE SECONDS(1)

/* Limit for how long an answer that lacks one family is remembered, seconds. */
enum { INCOMPLETE_TTL = 30 };

/* Limit for the datagrams read for one event; a server that floods us has to wait for its next
 * turn. */
enum { DATAGRAMS_MAX = 32 };

/* Limit for the attempts of one question that are under way. With the longest timeout, 30 s,
 * attempts start after 0, 1, 3, 7 and 15 s, and the first one is over after 30 s. */
enum { ATTEMPTS_MAX = 5 };

enum attempt_state { ATTEMPT_FREE, ATTEMPT_UDP, ATTEMPT_TCP };

struct attempt {
    struct question *question;
    enum attempt_state state;
    uint16_t id;
    union addr server;
    bool was_truncated; /* TCP is used because of a truncated answer, and not because of "use-vc" */
    struct io io;       /* UDP */
    struct conn *conn;  /* TCP */
    size_t tcp_length;  /* of the answer, once known */
    struct timer timer;
};

enum question_state {
    QUESTION_START,
    QUESTION_ASKING,
    QUESTION_DONE,
    QUESTION_FAILED,
    QUESTION_NOT_ASKED, /* "no-aaaa" */
};

struct question {
    struct dns_ask *ask;
    enum question_state state;
    enum dns_type type;
    unsigned tries; /* attempts so far */
    unsigned tries_max;
    int64_t deadline;  /* the last attempt is over by then */
    struct timer next; /* starts the next attempt */
    struct attempt attempts[ATTEMPTS_MAX];
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

static void ask_step(struct dns_ask *ask);
static void try_next(struct question *q);

static bool over(const struct question *q)
{
    return q->state >= QUESTION_DONE;
}

static bool has_addresses(const struct question *q)
{
    return q->state == QUESTION_DONE && q->answer.outcome == DNS_ADDRESSES;
}

/* ---- ends ---- */

static void hang_up(struct attempt *a)
{
    struct loop *loop = a->question->ask->loop;
    timer_cancel(loop, &a->timer);
    if (a->io.fd >= 0) {
        int fd = a->io.fd;
        loop_forget(loop, &a->io);
        sys->close(fd);
    }
    conn_close(a->conn);
    a->conn = NULL;
    a->state = ATTEMPT_FREE;
}

static void end_question(struct question *q, enum question_state state)
{
    timer_cancel(q->ask->loop, &q->next);
    for (size_t i = 0; i < ARRAY_LEN(q->attempts); i++) {
        hang_up(&q->attempts[i]);
    }
    q->state = state;
}

static bool is_waiting(const struct question *q)
{
    for (size_t i = 0; i < ARRAY_LEN(q->attempts); i++) {
        if (q->attempts[i].state != ATTEMPT_FREE) {
            return true;
        }
    }
    return false;
}

static const char *failure_of(const struct attempt *a)
{
    if (a->state != ATTEMPT_TCP) {
        return "failed";
    }
    return a->was_truncated ? "failed over TCP, after a truncated answer" : "failed over TCP";
}

static void set_problem(const struct attempt *a, const char *how)
{
    struct dns_ask *ask = a->question->ask;
    text_fmt(ask->problem, sizeof(ask->problem), "name server %s %s (%s)",
             resolv_server_text(&a->server).s, failure_of(a), how);
}

/* Ends an attempt and starts the next one at once. */
static void attempt_failed(struct attempt *a, const char *how)
{
    set_problem(a, how);
    hang_up(a);
    try_next(a->question);
}

/* Ends an attempt. The next one, if there is one, has started already or has a timer. */
static void on_silence(struct timer *t)
{
    struct attempt *a = container_of(t, struct attempt, timer);
    struct question *q = a->question;
    if (a->state == ATTEMPT_TCP && a->was_truncated) {
        set_problem(a, "no answer");
    }
    hang_up(a);
    if (q->tries == q->tries_max && !is_waiting(q)) {
        end_question(q, QUESTION_FAILED);
    }
    ask_step(q->ask);
}

static void arm(struct attempt *a)
{
    const struct question *q = a->question;
    struct loop *loop = q->ask->loop;
    int64_t at = loop_now(loop) + q->ask->conf->timeout;
    timer_set(loop, &a->timer, at < q->deadline ? at : q->deadline, on_silence);
}

static void start_tcp(struct attempt *a);

/* Takes a message from the server. ERR: it does not answer this question. */
static int take(struct attempt *a, const void *msg, size_t n)
{
    struct question *q = a->question;
    struct dns_answer answer;
    if (dns_msg_answer(msg, n, a->id, q->ask->name, q->type, &answer) != OK) {
        return ERR;
    }
    switch (answer.outcome) {
    case DNS_ADDRESSES:
    case DNS_NO_ADDRESS:
    case DNS_NO_NAME:
        q->answer = answer;
        end_question(q, QUESTION_DONE);
        break;
    case DNS_TRUNCATED:
        if (a->state == ATTEMPT_UDP) {
            a->was_truncated = true;
            start_tcp(a);
        } else {
            attempt_failed(a, "truncated again");
        }
        break;
    case DNS_SERVER_FAILED:
        attempt_failed(a, answer.problem);
        break;
    }
    return OK;
}

/* ---- TCP: each message behind its length (RFC 1035 section 4.2.2) ---- */

static void on_tcp_data(struct attempt *a)
{
    struct str data = conn_data(a->conn);
    if (a->tcp_length == 0) {
        if (data.n < 2) {
            return;
        }
        const unsigned char *p = (const unsigned char *)data.p;
        a->tcp_length = (size_t)p[0] << 8 | p[1];
        conn_consume(a->conn, 2);
        data = conn_data(a->conn);
    }
    if (data.n >= a->tcp_length && take(a, data.p, a->tcp_length) != OK) {
        attempt_failed(a, "malformed answer");
    }
}

static void on_tcp_event(struct conn *c, enum conn_event event, void *arg)
{
    struct attempt *a = arg;
    struct question *q = a->question;
    switch (event) {
    case CONN_CONNECTED: {
        unsigned char query[2 + DNS_MSG_QUERY_MAX];
        size_t n = dns_msg_query(query + 2, a->id, q->ask->name, q->type);
        query[0] = (unsigned char)(n >> 8);
        query[1] = (unsigned char)n;
        conn_write(c, query, n + 2);
        break;
    }
    case CONN_DATA:
        on_tcp_data(a);
        break;
    case CONN_EOF:
        attempt_failed(a, "closed the connection");
        break;
    case CONN_FAILED:
        attempt_failed(a, conn_error(c)->text);
        break;
    case CONN_DRAINED:
    case CONN_TIMEOUT:
        break;
    }
    ask_step(q->ask);
}

static void start_tcp(struct attempt *a)
{
    struct conn_handler handler = {.event = on_tcp_event, .arg = a};
    struct error err;
    hang_up(a);
    a->state = ATTEMPT_TCP;
    a->tcp_length = 0;
    arm(a);
    a->conn =
        conn_connect(a->question->ask->loop, &a->server.sa, addr_len(&a->server), handler, &err);
    if (!a->conn) {
        attempt_failed(a, err.text);
    }
}

/* ---- UDP ---- */

static void on_datagram(struct io *io)
{
    struct attempt *a = container_of(io, struct attempt, io);
    struct dns_ask *ask = a->question->ask;
    char *p = loop_scratch(ask->loop);
    for (int i = 0; i < DATAGRAMS_MAX && a->io.fd >= 0 && io->ready & IO_READ; i++) {
        ssize_t n = sys->recv(io->fd, p, LOOP_SCRATCH, 0);
        if (n >= 0) {
            if (take(a, p, (size_t)n) == OK) {
                break;
            }
        } else if (errno == EAGAIN) {
            io->ready = 0;
        } else if (errno != EINTR) {
            /* The host has told that no server listens there. */
            attempt_failed(a, strerror(errno));
            break;
        }
    }
    ask_step(ask);
}

static int send_udp(struct attempt *a)
{
    const union addr *server = &a->server;
    struct dns_ask *ask = a->question->ask;
    unsigned char query[DNS_MSG_QUERY_MAX];
    size_t n = dns_msg_query(query, a->id, ask->name, a->question->type);
    int fd = sys_socket(server->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return ERR;
    }
    if (sys->connect(fd, &server->sa, addr_len(server)) < 0 ||
        loop_add(ask->loop, &a->io, fd, IO_KIND_DATA, on_datagram) != OK) {
        sys->close(fd);
        return ERR;
    }
    ssize_t sent = sys->send(fd, query, n, MSG_NOSIGNAL);
    return sent == (ssize_t)n || (sent < 0 && errno == EAGAIN) ? OK : ERR;
}

static void start_udp(struct attempt *a)
{
    a->state = ATTEMPT_UDP;
    arm(a);
    if (send_udp(a) != OK) {
        attempt_failed(a, strerror(errno));
    }
}

/* ---- attempts ---- */

/* Returns a free attempt. When all are under way, the one that has waited longest is given up. */
static struct attempt *take_attempt(struct question *q)
{
    struct attempt *oldest = &q->attempts[0];
    for (size_t i = 0; i < ARRAY_LEN(q->attempts); i++) {
        struct attempt *a = &q->attempts[i];
        if (a->state == ATTEMPT_FREE) {
            return a;
        }
        oldest = a->timer.due < oldest->timer.due ? a : oldest;
    }
    hang_up(oldest);
    return oldest;
}

static void on_next(struct timer *t)
{
    struct question *q = container_of(t, struct question, next);
    try_next(q);
    ask_step(q->ask);
}

/* Sets the timer for the next attempt. The pause is 1 s, 2 s, 4 s and so on, at most the
 * timeout. */
static void arm_next(struct question *q)
{
    struct loop *loop = q->ask->loop;
    int64_t pause = FIRST_PAUSE;
    for (unsigned i = 1; i < q->tries && pause < q->ask->conf->timeout; i++) {
        pause *= 2;
    }
    pause = pause < q->ask->conf->timeout ? pause : q->ask->conf->timeout;
    timer_set(loop, &q->next, loop_now(loop) + pause, on_next);
}

/* Starts an attempt with the next server. The recursion through attempt_failed() is shallow,
 * because there are few attempts. */
static void try_next(struct question *q)
{
    const struct resolv_conf *conf = q->ask->conf;
    timer_cancel(q->ask->loop, &q->next);
    if (q->tries == q->tries_max) {
        if (!is_waiting(q)) {
            end_question(q, QUESTION_FAILED);
        }
        return;
    }
    struct attempt *a = take_attempt(q);
    a->server = conf->servers[(q->ask->first + q->tries) % conf->server_count];
    a->was_truncated = false;
    sys->random(&a->id, sizeof(a->id));
    q->tries++;
    if (q->tries < q->tries_max) {
        arm_next(q);
    }
    if (conf->use_tcp) {
        start_tcp(a);
    } else {
        start_udp(a);
    }
}

static void start_question(struct question *q)
{
    const struct resolv_conf *conf = q->ask->conf;
    q->state = QUESTION_ASKING;
    q->tries_max = conf->attempts * (unsigned)conf->server_count;
    q->deadline = loop_now(q->ask->loop) + q->tries_max * conf->timeout;
    try_next(q);
}

/* ---- both questions together ---- */

static void judge_answer(const struct dns_ask *ask, struct dns_asked *asked)
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
        asked->outcome = DNS_NO_NAME; /* true for all types (RFC 8020): one answer is enough */
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

static void finish_ask(struct dns_ask *ask)
{
    struct dns_ask_handler handler = ask->handler;
    struct dns_asked asked;
    judge_answer(ask, &asked);
    dns_ask_cancel(ask);
    handler.done(&asked, handler.arg);
}

static void on_hurry(struct timer *t)
{
    finish_ask(container_of(t, struct dns_ask, hurry));
}

/* Every event ends with this call. It finishes when both questions are over, and sets a limit for
 * the other family when one family has addresses. */
static void ask_step(struct dns_ask *ask)
{
    const struct question *six = &ask->questions[0], *four = &ask->questions[1];
    if (over(six) && over(four)) {
        finish_ask(ask);
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
            start_question(&ask->questions[i]);
        }
    }
    ask_step(ask);
}

static void question_init(struct question *q, struct dns_ask *ask, enum dns_type type)
{
    q->ask = ask;
    q->type = type;
    for (size_t i = 0; i < ARRAY_LEN(q->attempts); i++) {
        q->attempts[i].question = q;
        q->attempts[i].io.fd = -1;
    }
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
        question_init(&ask->questions[i], ask, i == 0 ? DNS_TYPE_AAAA : DNS_TYPE_A);
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
        end_question(&ask->questions[i], QUESTION_FAILED);
    }
    timer_cancel(ask->loop, &ask->hurry);
    loop_bury(ask->loop, &ask->task, free_ask);
}
