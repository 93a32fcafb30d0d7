/* One client's session: what the client waits for, and what it is told.
 *
 *      WAIT_NOTHING: client.c answers <-----------------------------------------.
 *           |                                                                   |
 *           |  a line depends on how clients log in, and that is not known yet  |
 *           |----> WAIT_KIND: session_login reads the destination, or fails ----|
 *           |                                                                   |
 *           |  the login is complete                                            |
 *           |----> WAIT_LOGIN ---.                                              |
 *           |                    |----> BACKEND_FAILED, _REFUSED: -ERR ---------'
 *           |  a mailbox command |
 *           '----> WAIT_MAILBOX -'----> BACKEND_READY: relay until one side ends
 *
 * The login at the mail server is the other machine: session_login.c draws it. It starts with the
 * first line that gives a reason, often before the client waits. Clients that say who they are
 * (POP3_TOKEN_LOGIN) start it with their complete login.
 *
 * How clients log in follows from the destination, which may not be known yet after a start of the
 * program. Then the first line that depends on it waits in WAIT_KIND. A destination that cannot be
 * read fails the login that the line begins.
 *
 * Commands behind a login that fails: a client may send RETR 1, DELE 1 and QUIT without waiting for
 * answers. If the login that RETR starts failed and DELE started one that succeeds, a
 * message would be deleted that the client never got. So whatever has arrived when a failure is
 * told fails too. A command that arrives later may have been sent before the client could see the
 * failure; nobody can tell. Therefore no mailbox command starts a login after a failed one: the
 * client has to log in again. When RETR or TOP was refused, it has to connect again. All
 * commands that reach a mail server in one session follow one login, in order and without a gap.
 * client.c decides this line by line.
 *
 * When a client goes while the mail server judges the credentials, the session lives on without it
 * until the verdict is known: otherwise the next session would show the same wrong password.
 *
 * Callbacks note what has happened and call step(), which alone decides. */
#include "pop3/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/addr.h"
#include "lib/conn.h"
#include "lib/linger.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/relay.h"
#include "pop3/client.h"
#include "pop3/session_log.h"
#include "pop3/session_login.h"
#include "pop3/session_state.h"
#include "pop3/state.h"
#include "pop3/target.h"

/* Number of lines of a client that are answered in one turn. */
enum { LINES_MOST = 16 };

static void step(struct session *s);

/* ---- the end ---- */

static void free_session(struct task *t)
{
    struct session *s = container_of(t, struct session, task);
    pop3_mailbox_unref(s->mailbox);
    free(s);
}

static void drop_failure(struct dialogue *d)
{
    free(d->failure);
    d->failure = NULL;
    d->pop3.failure = NULL;
}

static void drop_dialogue(struct session *s)
{
    struct dialogue *d = s->dialogue;
    if (!d) {
        return;
    }
    list_remove(&d->silent);
    if (d->credentials) {
        pop3_sasl_wipe(d->credentials);
        free(d->credentials);
    }
    drop_failure(d);
    if (d->observer) {
        d->observer->left(d->observer);
    }
    free(d);
    s->dialogue = NULL;
}

/* Ends the session. Returns the connection of its client, which the caller closes; NULL: the client
 * has gone. */
static struct conn *leave(struct session *s, const char *result)
{
    struct target *target = s->target;
    struct pop3 *pop3 = target->pop3;
    struct conn *client = s->client;
    s->client = NULL;
    s->ended = true;
    pop3_session_log_summary(s, s->failed && !s->relay ? fail_name(s->failed) : result);
    if (s->relay) {
        pop3->stats.to_client += relay_to_client(s->relay);
        pop3->stats.to_backend += relay_to_backend(s->relay);
        relay_free(s->relay);
    }
    pop3_session_login_drop(s);
    drop_dialogue(s);
    list_remove(&s->link);
    pop3_target_count_session(target, false);
    loop_bury(pop3->loop, &s->task, free_session);
    pop3_target_unref(target);
    return client;
}

/* Lets the client go, and keeps the session until the verdict is known: if it were not heard, the
 * next session would show the same wrong password, and accounts get locked. The answer timeout
 * bounds the wait, and the session keeps its place among --max-sessions. */
static void part_from_client(struct session *s, const char *result)
{
    pop3_session_log(s, LOG_DEBUG, "the client has gone; waiting for the verdict on the login");
    s->dialogue->result = result;
    linger_close(s->client);
    s->client = NULL;
}

/* Ends the session, or lets only its client go when a verdict is awaited. Never sends QUIT to the
 * backend: that would commit deletions (RFC 1939 section 6). */
static void session_end(struct session *s, const char *result)
{
    if (!s->client) {
        return;
    }
    if (pop3_session_login_awaits_verdict(s)) {
        part_from_client(s, result);
    } else {
        linger_close(leave(s, result));
    }
}

/* ---- giving way ---- */

static void append_silent(struct session *s)
{
    list_append(&s->target->silent, &s->link);
    list_append(&s->target->pop3->silent, &s->dialogue->silent);
}

/* Notes that the client has sent a login or mailbox command: from now on it keeps its place. */
static void keep_place(struct session *s)
{
    if (!list_empty(&s->dialogue->silent)) {
        list_remove(&s->dialogue->silent);
        list_remove(&s->link);
        list_append(&s->target->members, &s->link);
    }
}

static struct session *oldest_silent(struct pop3 *pop3, struct target *target)
{
    if (target) {
        return list_empty(&target->silent)
                   ? NULL
                   : container_of(target->silent.next, struct session, link);
    }
    return list_empty(&pop3->silent)
               ? NULL
               : container_of(pop3->silent.next, struct dialogue, silent)->session;
}

/* Spares a client whose input has not been read yet. It does so once, so that clients that talk
 * without end do not keep others out. */
static bool spare(struct session *s)
{
    if (s->spared || !conn_has_input(s->client)) {
        return false;
    }
    s->spared = true;
    list_remove(&s->link);
    list_remove(&s->dialogue->silent);
    append_silent(s);
    return true;
}

bool pop3_session_give_way(struct pop3 *pop3, struct target *target)
{
    enum { TRIES = 16 };
    struct session *s = oldest_silent(pop3, target);
    for (int i = 0; i < TRIES && s && spare(s); i++) {
        s = oldest_silent(pop3, target);
    }
    if (!s || spare(s)) {
        return false;
    }
    pop3_session_log_limited(
        s, LINE_GAVE_WAY, LOG_WARN,
        "a client that has sent no login gives way to another: %zu sessions, %zu of them "
        "here; at most %zu, half of them for one target, three quarters for one namespace "
        "(--max-sessions)",
        pop3->sessions, s->target->sessions, pop3->settings.max_sessions);
    pop3->stats.refused++;
    conn_write(s->client, pop3_too_many, strlen(pop3_too_many));
    linger_close_among(leave(s, "gave way"), &pop3->refused);
    return true;
}

void pop3_session_abort(struct list *member)
{
    struct session *s = container_of(member, struct session, link);
    linger_close(leave(s, "cut"));
}

/* ---- client ---- */

static void consume(struct session *s, size_t octets)
{
    size_t *unseen = &s->dialogue->pop3.unseen;
    conn_consume(s->client, octets);
    *unseen -= octets < *unseen ? octets : *unseen;
}

static void count_failure(struct session *s)
{
    if (++s->failures == POP3_LOGIN_FAILURES) {
        session_end(s, fail_name(s->failed));
    }
}

static void say_loop(struct session *s, struct buf *reply)
{
    struct error err;
    int others = pop3_hops_since(&s->dialogue->pop3.hops, s->target->pop3->installation_id);
    error_set(&err, FAIL_CONFIG,
              "the login has come back here (other tproxies on the way: %d): a loop", others);
    pop3_session_log_limited(s, LINE_LOOP, LOG_WARN, "%s", err.text);
    pop3_failure(reply, s->target->ref.name, &err, NULL, false);
}

/* Tells whether the line has to be kept back until it is known how the client has to log in. When
 * that could not be found out (BACKEND_FAILED), the login fails in whatever form it comes. */
static bool waits_for_kind(struct session *s, struct str line)
{
    if (!s->knows_kind && s->target->mailbox) {
        pop3_session_login_set_kind(s, s->target->mailbox->dest);
    }
    return !s->knows_kind && s->state == BACKEND_NONE &&
           pop3_client_needs_kind(&s->dialogue->pop3, line);
}

/* Ends the session if its client speaks another protocol, and returns true then. */
static bool end_foreign(struct session *s, struct str input)
{
    char space[POP3_REPLY_MAX];
    struct buf reply = BUF_ON(space);
    switch (pop3_foreign(input, &reply)) {
    case POP3_NOT_FOREIGN:
        return false;
    case POP3_FOREIGN_HTTP:
        pop3_session_log_limited(s, LINE_HTTP, LOG_INFO, "the client speaks HTTP, not POP3");
        break;
    case POP3_FOREIGN_TLS:
        pop3_session_log_limited(s, LINE_TLS, LOG_INFO, "the client speaks TLS, not POP3");
        break;
    }
    conn_write(s->client, space, buf_len(&reply));
    s->target->pop3->stats.foreign++;
    session_end(s, "not POP3");
    return true;
}

/* Does what a line asks for. Returns false when the session has ended. */
static bool do_ask(struct session *s, enum pop3_ask ask)
{
    switch (ask) {
    case POP3_ASK_NOTHING:
        break;
    case POP3_ASK_BACKEND:
        if (s->state == BACKEND_NONE) {
            pop3_session_login_start(s, step);
        }
        break;
    case POP3_ASK_LOGIN:
        s->wait = WAIT_LOGIN;
        break;
    case POP3_ASK_MAILBOX:
        s->wait = WAIT_MAILBOX;
        break;
    case POP3_ASK_FAILED:
        count_failure(s);
        return s->client != NULL;
    case POP3_ASK_LOOP:
        session_end(s, "loop");
        return false;
    case POP3_ASK_QUIT:
        if (s->state == BACKEND_READY) {
            /* Nothing was deleted in this session, so QUIT only frees the maildrop's lock. */
            conn_write(s->backend, "QUIT\r\n", 6);
            linger_close(s->backend);
            s->backend = NULL;
        }
        session_end(s, "quit");
        return false;
    case POP3_ASK_CLOSE:
        session_end(s, "bad commands");
        return false;
    }
    return true;
}

/* Takes one line off the input. Returns false when no line is complete, or the session has
 * ended. */
static bool client_line(struct session *s)
{
    char space[POP3_REPLY_MAX];
    struct buf reply = BUF_ON(space);
    struct str input = conn_data(s->client), line;
    size_t octets;
    if (input.n == 0 || end_foreign(s, input)) {
        return false;
    }
    int rc = conn_line(s->client, pop3_client_line_max(&s->dialogue->pop3, input), &line, &octets);
    if (rc == ERR) {
        static const char too_long[] = "-ERR line too long\r\n";
        conn_write(s->client, too_long, strlen(too_long));
        session_end(s, "line too long");
    }
    if (rc != OK) {
        return false;
    }
    if (waits_for_kind(s, line)) {
        keep_place(s);
        s->wait = WAIT_KIND;
        return true;
    }
    enum pop3_ask ask = pop3_client_line(&s->dialogue->pop3, line, &reply);
    if (ask == POP3_ASK_LOOP) {
        say_loop(s, &reply);
    }
    conn_write(s->client, space, buf_len(&reply));
    if (ask != POP3_ASK_MAILBOX) {
        consume(s, octets); /* the line of a mailbox command is left for the relay */
    }
    if (pop3_client_wants_in(&s->dialogue->pop3, ask)) {
        keep_place(s);
    }
    return do_ask(s, ask);
}

/* Answers the client's line with the failure of the backend. Everything that has arrived behind the
 * line was sent before the client could see this answer. */
static void tell_failure(struct session *s)
{
    struct dialogue *d = s->dialogue;
    bool refused = s->state == BACKEND_REFUSED;
    char space[POP3_REPLY_MAX + 1];
    struct buf reply = BUF_ON(space);
    struct str line;
    size_t octets;
    pop3_failure(&reply, s->target->ref.name, &s->attempt->err,
                 refused ? s->attempt->login.reply : NULL, refused && s->attempt->login.in_use);
    if (s->wait == WAIT_MAILBOX && conn_line(s->client, POP3_LONG_MAX, &line, &octets) == OK) {
        conn_consume(s->client, octets);
    }
    space[buf_len(&reply)] = '\0';
    drop_failure(d);
    d->failure = mem_strdup(space);
    d->pop3.failure = d->failure;
    d->pop3.unseen = conn_arrived(s->client);
    conn_write(s->client, space, buf_len(&reply));
    s->wait = WAIT_NOTHING;
    s->failed = s->attempt->err.fail;
    pop3_session_login_drop(s);
    if (d->credentials) {
        pop3_sasl_wipe(d->credentials);
    }
    pop3_session_login_set_state(s, BACKEND_NONE);
    count_failure(s);
}

static const char *const relay_results[] = {
    [RELAY_BACKEND_CLOSED] = "ok",
    [RELAY_CLIENT_CLOSED] = "client closed",
    [RELAY_CLIENT_FAILED] = "client vanished",
    [RELAY_BACKEND_FAILED] = "backend vanished",
    [RELAY_IDLE] = "idle",
};
static_assert(ARRAY_LEN(relay_results) == RELAY_IDLE + 1, "every end has its name");

static void on_relay_end(struct relay *relay, enum relay_end end, void *arg)
{
    struct session *s = arg;
    (void)relay;
    if (end == RELAY_BACKEND_FAILED) {
        pop3_session_log(s, LOG_INFO, "the connection to the mail server broke: %s",
                         conn_error(s->backend)->text);
    }
    session_end(s, relay_results[end]);
}

static void start_relay(struct session *s)
{
    struct pop3 *pop3 = s->target->pop3;
    if (s->wait == WAIT_LOGIN) {
        char reply[POP3_REPLY_MAX + 1];
        size_t n =
            text_fmt(reply, sizeof(reply), "%.*s\r\n", POP3_REPLY_MAX - 2, s->attempt->login.reply);
        conn_write(s->client, reply, n);
    }
    pop3_session_login_drop_attempt(s);
    drop_dialogue(s);
    struct relay_handler handler = {.ended = on_relay_end, .arg = s};
    struct relay_times times = {pop3->settings.idle_timeout, pop3_session_login_answer_timeout(s)};
    s->relay = relay_start(pop3->loop, s->client, s->backend, times, handler);
}

static void client_timeout(struct session *s)
{
    struct error err;
    char space[POP3_REPLY_MAX];
    struct buf reply = BUF_ON(space);
    double seconds = (double)s->target->pop3->settings.login_timeout / 1e6;
    if (s->wait == WAIT_NOTHING) {
        error_set(&err, FAIL_TIMEOUT, "no login within %.3g s", seconds);
    } else {
        error_set(&err, FAIL_TIMEOUT, "the login took longer than %.3g s", seconds);
    }
    pop3_failure(&reply, s->target->ref.name, &err, NULL, false);
    conn_write(s->client, space, buf_len(&reply));
    session_end(s, "timeout");
}

static void on_client(struct conn *c, enum conn_event event, void *arg)
{
    struct session *s = arg;
    (void)c;
    switch (event) {
    case CONN_DATA:
    case CONN_DRAINED:
        step(s);
        break;
    case CONN_EOF:
        s->client_ended = true;
        step(s);
        break;
    case CONN_TIMEOUT:
        client_timeout(s);
        break;
    case CONN_FAILED:
        session_end(s, "client vanished");
        break;
    case CONN_CONNECTED:
        break;
    }
}

static void serve_client(struct session *s)
{
    int lines = 0;
    while (s->client && s->dialogue) {
        if (s->wait == WAIT_NOTHING && conn_pending(s->client)) {
            return; /* read no more until the client has taken our answers; DRAINED goes on */
        }
        if (s->wait == WAIT_NOTHING && lines++ == LINES_MOST) {
            /* The others have their turn first, then the rest of the input is shown again. */
            conn_show_again(s->client);
            return;
        }
        if (s->wait == WAIT_NOTHING) {
            if (!client_line(s)) {
                break;
            }
            continue;
        }
        switch (s->state) {
        case BACKEND_NONE:
            pop3_session_login_start(s, step);
            return;
        case BACKEND_FINDING:
        case BACKEND_DIALLING:
        case BACKEND_SECURING:
        case BACKEND_LOGIN:
        case BACKEND_VERDICT:
            return;
        case BACKEND_READY:
            start_relay(s);
            return;
        case BACKEND_FAILED:
        case BACKEND_REFUSED:
            tell_failure(s);
            break;
        }
    }
    if (s->dialogue && s->client_ended) {
        session_end(s, "client closed");
    }
}

static void step(struct session *s)
{
    if (s->client) {
        serve_client(s);
    } else if (!s->ended && !pop3_session_login_awaits_verdict(s)) {
        leave(s, s->dialogue->result);
    }
}

/* Returns NULL when the system refuses; fd is closed then, too. */
static struct session *start_session(struct target *target, int fd, const union addr *client,
                                     struct pop3_observer *observer)
{
    struct pop3 *pop3 = target->pop3;
    struct session *s = mem_zalloc(sizeof(*s));
    struct conn_handler handler = {.event = on_client, .arg = s};
    s->client = conn_new(pop3->loop, fd, handler);
    if (!s->client) {
        free(s);
        return NULL;
    }
    conn_keep_small(s->client, SOCKET_OF_CLIENT);
    task_init(&s->task);
    s->dialogue = mem_zalloc(sizeof(*s->dialogue));
    s->dialogue->session = s;
    s->dialogue->observer = observer;
    s->target = pop3_target_ref(target);
    s->id = ++pop3->next_id;
    s->peer = *client;
    s->started = loop_now(pop3->loop);
    list_init(&s->link);
    list_init(&s->dialogue->silent);
    append_silent(s);
    pop3_target_count_session(target, true);
    pop3_client_init(&s->dialogue->pop3, POP3_ANY_LOGIN, NULL);
    if (target->mailbox) {
        pop3_session_login_set_kind(s, target->mailbox->dest);
    }
    s->dialogue->pop3.own_id = pop3->installation_id;
    conn_deadline(s->client, s->started + pop3->settings.login_timeout);

    char space[POP3_REPLY_MAX];
    struct buf greeting = BUF_ON(space);
    pop3_greeting(&greeting, pop3->installation_id);
    conn_write(s->client, space, buf_len(&greeting));
    return s;
}

void pop3_session_start(struct target *target, int fd, const union addr *client)
{
    struct session *started = start_session(target, fd, client, NULL);
    (void)started; /* without memory for it the client is gone */
}

struct session *pop3_session_start_within(struct target *target, int fd,
                                          struct pop3_observer *observer)
{
    union addr here;
    int rc = addr_parse(str_of("127.0.0.1"), &here);
    (void)rc; /* a literal always parses */
    struct session *s = start_session(target, fd, &here, observer);
    if (s) {
        conn_doubt_short_reads(s->client);
    }
    return s;
}
