/* One client's session.
 *
 *   client side (what it waits for)      backend side (one attempt to log in)
 *
 *   WAIT_NOTHING: answers come from      BACKEND_NONE
 *      |          core/pop3_proto           |  a login or a mailbox command
 *      |                                    v
 *      |  login complete                 BACKEND_BUSY: find -> dial -> TLS -> core/pop3_login
 *      |------------> WAIT_LOGIN ---.       |      ^         |              |     |
 *      |                            |       |      '---------'--------------'     |
 *      |                            |       |      a cached token is refused,    |
 *      |                            |       |      the first time                |
 *      |  mailbox command           |       v                                     v
 *      '------------> WAIT_MAILBOX -+--> BACKEND_READY                     BACKEND_FAILED
 *                                   |       |                                     |
 *                                   |       v                                     v
 *                                   '--> relay until one side ends     -ERR, then WAIT_NOTHING
 *
 * Where clients say who they are (POP3_TOKEN_LOGIN) the backend's side begins with the complete
 * login.
 *
 * How clients log in follows from the destination. After a start that may not be known yet. Then
 * the first line that depends on it waits in WAIT_KIND, while the backend is busy with that
 * question; a destination that cannot be had fails the login that the line begins.
 *
 * A failed login, and what was sent behind it: a client may send RETR 1, DELE 1 and QUIT without
 * waiting for answers. If the login that RETR starts failed and DELE started one that succeeds, a
 * message would be deleted that the client never got. So whatever has arrived when a failure is
 * told fails too. A command that arrives later may have been sent before the client could see the
 * failure; nobody can tell. Therefore no mailbox command starts a login after a failed one: the
 * client has to log in again. When RETR or TOP was refused, it has to connect again. All that a
 * mail server hears in one session comes behind one login, in order and without a gap.
 * core/pop3_proto decides this line by line.
 *
 * When a client goes while the mail server judges the credentials, the session lives on without it
 * until the verdict is known: otherwise the next session would show the same wrong password.
 *
 * Callbacks note what has happened and call step(), which alone decides. */
#include "session.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/destination.h"
#include "core/pop3_proto.h"
#include "core/token.h"
#include "dest_source.h"
#include "lib/addr.h"
#include "lib/conn.h"
#include "lib/dial.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/relay.h"
#include "lib/sys.h"
#include "lib/tls.h"
#include "target.h"

/* Lines of a client that are answered at a time. */
enum { LINES_MOST = 16 };

enum wait { WAIT_NOTHING, WAIT_KIND, WAIT_LOGIN, WAIT_MAILBOX };

enum backend_state { BACKEND_NONE, BACKEND_BUSY, BACKEND_READY, BACKEND_FAILED };

static const char *const backend_names[] = {
    [BACKEND_NONE] = "none",
    [BACKEND_BUSY] = "logging in",
    [BACKEND_READY] = "logged in",
    [BACKEND_FAILED] = "failed",
};
static_assert(ARRAY_LEN(backend_names) == BACKEND_FAILED + 1, "every state has its name");

/* A login at the backend under way: gone once bytes are relayed, for idle sessions are many. */
struct attempt {
    struct dest_request *request;
    struct token *token; /* to log in with; NULL: the destination's password */
    struct token *way;   /* shown to the Connectivity Proxy; NULL: nothing is */
    struct credential shown;
    struct dial *dial;
    struct pop3_login login;
    int64_t started;
    bool login_started;
    bool judging;           /* the backend was shown credentials and has not given its verdict */
    bool refused;           /* by the backend's last reply */
    bool renewed;           /* the token is the second one */
    bool way_renewed;       /* likewise */
    unsigned pauses_before; /* of the first one */
    struct session *session;
    struct trial_seat seat; /* in the trial of `shown` */
    struct task turn;       /* runs when a wait for another session's trial is over */
    struct error err;
};

struct session {
    struct target *target;
    struct list link;   /* among the target's `silent` or `members` */
    struct list silent; /* among the silent ones of all targets */
    struct task task;
    uint64_t id;
    struct conn *client; /* NULL: it has gone, and the session ends with the backend's verdict */
    struct conn *backend;
    struct attempt *attempt;
    struct relay *relay;
    struct mailbox *mailbox; /* of the last attempt */
    union addr peer;
    int64_t started;
    struct pop3_client dialogue;
    char *failure;      /* the line that has told of a failed login; NULL: none has failed */
    const char *result; /* of a session whose client has gone */
    struct sasl_credentials *credentials; /* NULL: the client's do not count, or no longer */
    enum wait wait : 8;
    enum backend_state state : 8;
    unsigned char failures;
    enum fail failed : 8; /* how the last attempt failed that the client was told of */
    bool client_ended;    /* it will send no more */
    bool knows_kind;      /* how the client has to log in; until then the dialogue's is a guess */
    bool spared;          /* it did not give way, although it was its turn */
    bool tried;           /* a login was tried */
    bool logged_in;
    bool ended;
};

static void step(struct session *s);

/* ---- log ---- */

static void session_log(struct session *s, enum log_level level, const char *fmt, ...)
    printf_like(3, 4);

static void session_log(struct session *s, enum log_level level, const char *fmt, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    char text[FAIL_TEXT_MAX + POP3_REPLY_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct log_field fields[] = {LOG_NUM("session", s->id), LOG_STR("target", s->target->name)};
    log_fields(level, "pop3", fields, ARRAY_LEN(fields), "%s", text);
}

/* A line that clients can cause without end: of each kind the first is written, then a count. */
static void session_say(struct session *s, unsigned kind, enum log_level level, const char *fmt,
                        ...) printf_like(4, 5);

static void session_say(struct session *s, unsigned kind, enum log_level level, const char *fmt,
                        ...)
{
    if (!log_enabled(level)) {
        return;
    }
    char text[FAIL_TEXT_MAX + POP3_REPLY_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct log_field fields[] = {LOG_NUM("session", s->id), LOG_STR("target", s->target->name)};
    log_limited(&s->target->limits, kind, level, fields, ARRAY_LEN(fields), "%s", text);
}

/* Each session that has logged in has its line. Those that have tried in vain are counted: a
 * stranger can make thousands of them in a second. */
static void log_summary(struct session *s, const char *result)
{
    /* Probes come every few seconds and want nothing. */
    enum log_level level = s->tried ? LOG_INFO : LOG_DEBUG;
    if (!log_enabled(level)) {
        return;
    }
    struct addr_text client = addr_text(&s->peer);
    char backend[DESTINATION_HOST_MAX + 8] = "";
    if (s->mailbox) {
        text_fmt(backend, sizeof(backend), "%s:%u", s->mailbox->dest->host, s->mailbox->dest->port);
    }
    struct log_field fields[] = {
        LOG_NUM("session", s->id),
        LOG_STR("target", s->target->name),
        LOG_STR("client", client.s),
        LOG_STR("backend", backend),
        LOG_NUM("duration_ms", (loop_now(s->target->pop3->loop) - s->started) / 1000),
        LOG_NUM("bytes_to_client", s->relay ? relay_to_client(s->relay) : 0),
        LOG_NUM("bytes_to_backend", s->relay ? relay_to_backend(s->relay) : 0),
        LOG_STR("result", result),
    };
    if (s->tried && !s->logged_in) {
        log_limited(&s->target->limits, LINE_SESSION_FAILED, level, fields, ARRAY_LEN(fields),
                    "session ended");
    } else {
        log_fields(level, "pop3", fields, ARRAY_LEN(fields), "session ended");
    }
}

static void set_state(struct session *s, enum backend_state state)
{
    session_log(s, LOG_DEBUG, "backend: %s -> %s", backend_names[s->state], backend_names[state]);
    s->state = state;
}

/* ---- the end ---- */

static void free_session(struct task *t)
{
    struct session *s = container_of(t, struct session, task);
    mailbox_unref(s->mailbox);
    free(s);
}

static void drop_credentials(struct session *s)
{
    if (s->credentials) {
        sasl_wipe(s->credentials);
        free(s->credentials);
        s->credentials = NULL;
    }
}

static void drop_failure(struct session *s)
{
    free(s->failure);
    s->failure = NULL;
    s->dialogue.failure = NULL;
}

/* Credentials lie in login.out until another session's trial is over, and this one's turn. */
static bool waits_for_trial(const struct attempt *a)
{
    return trial_waits(&a->seat) || !list_empty(&a->turn.link);
}

static void leave_trial(struct attempt *a)
{
    trial_leave(&a->seat);
    task_cancel(&a->turn);
}

static void drop_attempt(struct session *s)
{
    if (!s->attempt) {
        return;
    }
    leave_trial(s->attempt);
    dest_cancel(s->target->source, s->attempt->request);
    dial_cancel(s->attempt->dial);
    pop3_login_wipe(&s->attempt->login);
    token_unref(s->attempt->token);
    token_unref(s->attempt->way);
    free(s->attempt);
    s->attempt = NULL;
}

static void drop_backend(struct session *s)
{
    drop_attempt(s);
    conn_close(s->backend);
    s->backend = NULL;
}

/* All of the end but the client's connection, which is the caller's to close. NULL: it has gone. */
static struct conn *leave(struct session *s, const char *result)
{
    struct target *target = s->target;
    struct pop3 *pop3 = target->pop3;
    struct conn *client = s->client;
    s->client = NULL;
    s->ended = true;
    log_summary(s, s->failed && !s->relay ? fail_name(s->failed) : result);
    if (s->relay) {
        pop3->stats.to_client += relay_to_client(s->relay);
        pop3->stats.to_backend += relay_to_backend(s->relay);
        relay_free(s->relay);
    }
    drop_backend(s);
    drop_credentials(s);
    drop_failure(s);
    list_remove(&s->link);
    list_remove(&s->silent);
    target->sessions--;
    pop3->sessions--;
    loop_bury(pop3->loop, &s->task, free_session);
    target_unref(target);
    return client;
}

static bool awaits_verdict(const struct session *s)
{
    return s->attempt && s->attempt->judging;
}

/* The client goes, the session stays until the verdict is known: if it were not heard, the next
 * session would show the same wrong password, and accounts get locked. The answer timeout bounds
 * the wait, and the session keeps its place among --max-sessions. */
static void part_from_client(struct session *s, const char *result)
{
    session_log(s, LOG_DEBUG, "the client has gone: the verdict on the login is waited for");
    s->result = result;
    conn_linger(s->client);
    s->client = NULL;
}

/* Never sends QUIT to the backend: that would commit deletions (RFC 1939 section 6). */
static void session_end(struct session *s, const char *result)
{
    if (!s->client) {
        return;
    }
    if (awaits_verdict(s)) {
        part_from_client(s, result);
    } else {
        conn_linger(leave(s, result));
    }
}

/* ---- giving way ---- */

static void append_silent(struct session *s)
{
    list_append(&s->target->silent, &s->link);
    list_append(&s->target->pop3->silent, &s->silent);
}

/* It has sent a login or mailbox command: from now on it keeps its place. */
static void is_heard(struct session *s)
{
    if (!list_empty(&s->silent)) {
        list_remove(&s->silent);
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
    return list_empty(&pop3->silent) ? NULL
                                     : container_of(pop3->silent.next, struct session, silent);
}

/* Once, so that those who talk without end do not keep others out. */
static bool spare(struct session *s)
{
    if (s->spared || !conn_has_input(s->client)) {
        return false;
    }
    s->spared = true;
    list_remove(&s->link);
    list_remove(&s->silent);
    append_silent(s);
    return true;
}

bool session_give_way(struct pop3 *pop3, struct target *target)
{
    enum { TRIES = 16 };
    struct session *s = oldest_silent(pop3, target);
    for (int i = 0; i < TRIES && s && spare(s); i++) {
        s = oldest_silent(pop3, target);
    }
    if (!s || spare(s)) {
        return false;
    }
    session_say(s, LINE_GAVE_WAY, LOG_WARN,
                "a client that has sent no login gives way to another: %zu sessions, %zu of them "
                "here; at most %zu, half of them for one target (--max-sessions)",
                pop3->sessions, s->target->sessions, pop3->config.max_sessions);
    pop3->stats.refused++;
    conn_write(s->client, pop3_too_many, strlen(pop3_too_many));
    conn_linger_among(leave(s, "gave way"), &pop3->refused);
    return true;
}

void session_abort(struct list *member)
{
    struct session *s = container_of(member, struct session, link);
    conn_linger(leave(s, "cut"));
}

/* ---- backend ---- */

static void backend_failed(struct session *s, const struct error *err)
{
    struct pop3 *pop3 = s->target->pop3;
    struct attempt *a = s->attempt;
    session_say(s, LINE_LOGIN_FAILED + (unsigned)err->fail, LOG_WARN, "login failed (%s): %s%s%s",
                fail_name(err->fail), err->text, a->login.challenge[0] ? ": " : "",
                a->login.challenge);
    pop3->stats.logins[err->fail]++;
    a->err = *err;
    a->judging = false;
    leave_trial(a);
    if (a->login_started) {
        /* What we believed of this server may be what led us here. */
        s->mailbox->memory = (struct pop3_memory){0};
    }
    conn_close(s->backend);
    s->backend = NULL;
    set_state(s, BACKEND_FAILED);
}

static void find_destination(struct session *s);

/* May another token take the place of a refused one? Of one that was just made for this login there
 * is no better one, and a code gives only one. */
static bool may_renew(const struct session *s)
{
    const struct attempt *a = s->attempt;
    enum mail_auth auth = s->mailbox->dest->auth;
    return (auth == AUTH_CLIENT_CREDENTIALS || auth == AUTH_REFRESH_TOKEN) && a->token &&
           !a->renewed && a->token->received < a->started;
}

static struct dest_user client_user(const struct session *s)
{
    return (struct dest_user){s->credentials->user, &s->credentials->secret};
}

/* One more login, on a new connection, with another token than the one that the mail server refused
 * (NULL: it did not). */
static void start_again(struct session *s, const struct token *refused)
{
    struct attempt *a = s->attempt;
    struct dest_user user;
    if (s->credentials) {
        user = client_user(s);
    }
    if (refused) {
        dest_refused(s->target->source, &s->target->ref, s->credentials ? &user : NULL, refused);
    }
    leave_trial(a);
    conn_close(s->backend);
    s->backend = NULL;
    token_unref(a->token);
    token_unref(a->way);
    a->token = a->way = NULL;
    pop3_login_wipe(&a->login);
    a->login = (struct pop3_login){0};
    a->login_started = false;
    find_destination(s);
}

static void renew(struct session *s, unsigned pauses_before)
{
    session_say(s, LINE_TOKEN_RENEWED, LOG_INFO,
                "the mail server refuses the token: another one is asked for");
    s->target->pop3->stats.renewals++;
    s->attempt->renewed = true;
    s->attempt->pauses_before = pauses_before;
    start_again(s, s->attempt->token);
}

/* Tells what came of the token that was shown to the Connectivity Proxy; true: another one is to be
 * asked for. As with may_renew, one that was just made for this login has no better one. */
static bool may_renew_way(const struct session *s, const struct error *err)
{
    const struct attempt *a = s->attempt;
    bool renewable = a->way && !a->way_renewed && a->way->received < a->started;
    return a->way && dest_tried(s->target->source, &s->target->ref, a->way, err, renewable);
}

static void renew_way(struct session *s)
{
    session_say(s, LINE_WAY_RENEWED, LOG_INFO,
                "the Connectivity Proxy refuses the access token: another one is asked for");
    s->attempt->way_renewed = true;
    start_again(s, NULL);
}

/* The backend has refused the credentials: the next sessions are told so without asking it again,
 * for accounts get locked. */
static void credentials_refused(struct session *s)
{
    struct attempt *a = s->attempt;
    bool final = !may_renew(s);
    unsigned pauses = trial_refused(&s->mailbox->trials, &a->shown, &a->seat, a->pauses_before,
                                    final, loop_now(s->target->pop3->loop), a->login.err.text);
    a->judging = false;
    if (final || !s->client) {
        a->refused = true;
        backend_failed(s, &a->login.err);
    } else {
        renew(s, pauses);
    }
}

/* False: the backend is to be asked. */
static bool refuse_at_once(struct session *s)
{
    struct pop3 *pop3 = s->target->pop3;
    int64_t now = loop_now(pop3->loop);
    struct trial *r = trials_refusal(&s->mailbox->trials, &s->attempt->shown, now);
    if (!r) {
        return false;
    }
    if (!r->final && may_renew(s)) {
        renew(s, r->pauses - 1);
        return true;
    }
    r->final = true; /* also when the new token is the old one again */
    struct error err;
    error_set(&err, FAIL_AUTH, "%s (it is not asked again for %lld s)", r->text,
              (long long)(r->until - now + SECONDS(1) - 1) / SECONDS(1));
    pop3->stats.fast_refusals++;
    backend_failed(s, &err);
    return true;
}

static int64_t answer_timeout(const struct session *s)
{
    int64_t most = s->target->pop3->config.answer_timeout;
    return s->mailbox->dest->answer_timeout < most ? s->mailbox->dest->answer_timeout : most;
}

static void expect_answer(struct session *s)
{
    conn_deadline(s->backend, loop_now(s->target->pop3->loop) + answer_timeout(s));
}

/* NULL and *err when there can be no TLS with this backend. */
static struct tls_client *get_tls(struct session *s, struct error *err)
{
    struct mailbox *m = s->mailbox;
    const struct destination *dest = m->dest;
    struct tls_settings settings = {
        .host = dest->tls_name,
        .trust_any = dest->tls_trust_any,
        .check_host = dest->tls_check_host,
        .min = dest->tls_min == MAIL_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .max = dest->tls_max == MAIL_TLS_1_2 ? TLS_VERSION_1_2 : TLS_VERSION_1_3,
    };
    if (!m->tls) {
        m->tls = tls_client_new(s->target->pop3->roots, &settings, err);
    }
    return m->tls;
}

static void start_tls(struct session *s)
{
    struct error err;
    struct tls_client *tls = get_tls(s, &err);
    if (!tls) {
        backend_failed(s, &err);
        return;
    }
    expect_answer(s);
    conn_start_tls(s->backend, tls);
}

static void logged_in(struct session *s)
{
    struct target *target = s->target;
    struct pop3_stats *stats = &target->pop3->stats;
    int64_t took = loop_now(target->pop3->loop) - s->attempt->started;
    s->mailbox->memory = s->attempt->login.memory;
    if (s->mailbox->dest->auth != AUTH_NONE) {
        trial_accepted(&s->mailbox->trials, &s->attempt->shown, &s->attempt->seat);
    }
    if (s->attempt->login.stls_refused) {
        session_say(s, LINE_CLEAR_TEXT, LOG_WARN,
                    "the mail server does not do STLS: going on in clear text "
                    "(mail.pop3.starttls.required would forbid it)");
    }
    stats->logins[FAIL_NONE]++;
    metric_observe(&stats->latency, took);
    s->logged_in = true;
    s->attempt->judging = false;
    conn_deadline(s->backend, 0);
    set_state(s, BACKEND_READY);
}

/* May the credentials be shown that are to be sent next? If not, they wait in `out` for the result
 * of another session, on_turn goes on; or the attempt has failed; or the session is about to be
 * cut, and would not hear the verdict. */
static bool may_show(struct session *s)
{
    struct attempt *a = s->attempt;
    int64_t now = loop_now(s->target->pop3->loop);
    if (s->target->pop3->end == TARGET_CUT) {
        return false;
    }
    switch (trial_ask(&s->mailbox->trials, &a->shown, now, &a->seat)) {
    case TRIAL_GO:
        break;
    case TRIAL_WAIT:
        session_log(s, LOG_DEBUG, "waits for another session with the same credentials");
        conn_deadline(s->backend, 0); /* the client's own deadline bounds the wait */
        return false;
    case TRIAL_REFUSED:
        refuse_at_once(s);
        return false;
    }
    return true;
}

static void follow(struct session *s, enum pop3_login_next next)
{
    struct pop3_login *login = &s->attempt->login;
    if (login->shows && !may_show(s)) {
        return;
    }
    struct str out = buf_str(&login->out);
    conn_write(s->backend, out.p, out.n);
    s->attempt->judging |= login->shows;
    switch (next) {
    case POP3_NEXT_LINE:
        expect_answer(s);
        break;
    case POP3_NEXT_TLS:
        start_tls(s);
        break;
    case POP3_NEXT_DONE:
        logged_in(s);
        break;
    case POP3_NEXT_FAIL:
        if (login->err.fail == FAIL_AUTH) {
            credentials_refused(s);
        } else {
            s->attempt->refused = true;
            if (login->proved) {
                trial_accepted(&s->mailbox->trials, &s->attempt->shown, &s->attempt->seat);
            }
            backend_failed(s, &login->err);
        }
        break;
    }
}

/* The wait for another session's trial is over. What the backend has said in the meantime must not
 * be taken for its answer to the credentials. */
static void on_turn(struct task *t)
{
    struct session *s = container_of(t, struct attempt, turn)->session;
    if (conn_data(s->backend).n) {
        struct error err;
        error_set(&err, FAIL_PROTOCOL, "the mail server spoke out of turn");
        backend_failed(s, &err);
    } else {
        follow(s, POP3_NEXT_LINE);
    }
    step(s);
}

static void take_turn(struct trial_seat *seat)
{
    struct attempt *a = container_of(seat, struct attempt, seat);
    loop_soon(a->session->target->pop3->loop, &a->turn, on_turn);
}

static void backend_lines(struct session *s)
{
    struct str line;
    size_t octets;
    while (s->state == BACKEND_BUSY && s->backend && !waits_for_trial(s->attempt) &&
           s->attempt->login.state != POP3_LOGIN_HANDSHAKE) {
        int rc = conn_line(s->backend, POP3_BACKEND_LINE_MAX, &line, &octets);
        if (rc == AGAIN) {
            return;
        }
        if (rc == ERR) {
            struct error err;
            error_set(&err, FAIL_PROTOCOL, "the mail server sent a line of more than %d octets",
                      POP3_BACKEND_LINE_MAX);
            backend_failed(s, &err);
            return;
        }
        /* Consumed first: what is behind the consent to STLS must be seen by conn_start_tls. */
        conn_consume(s->backend, octets);
        follow(s, pop3_login_line(&s->attempt->login, line));
    }
}

static void start_login(struct session *s)
{
    struct attempt *a = s->attempt;
    a->login_started = true;
    pop3_login_init(&a->login, s->mailbox->dest, s->credentials ? s->credentials->user : NULL,
                    a->token ? &a->token->value : NULL, &s->mailbox->memory,
                    s->target->pop3->installation_id, conn_is_tls(s->backend));
    a->login.before = &s->dialogue.hops;
    expect_answer(s);
    backend_lines(s);
}

static void tls_stands(struct session *s)
{
    struct pop3_stats *stats = &s->target->pop3->stats;
    bool resumed = conn_tls_resumed(s->backend);
    stats->tls_resumed += resumed;
    stats->tls_full += !resumed;
    session_log(s, LOG_DEBUG, "%s stands%s", conn_tls_version(s->backend),
                resumed ? ", a session resumed" : "");
    if (s->attempt->login_started) {
        follow(s, pop3_login_secured(&s->attempt->login));
    } else {
        start_login(s);
    }
}

static const char *awaited(const struct session *s)
{
    if (s->attempt && waits_for_trial(s->attempt)) {
        return "another session with the same credentials";
    }
    return s->attempt && s->attempt->login_started ? pop3_login_awaited(&s->attempt->login)
                                                   : "the TLS handshake";
}

/* The backend went, or was silent, before bytes are relayed. */
static void backend_gone(struct session *s, enum conn_event event)
{
    struct error err;
    if (event == CONN_TIMEOUT) {
        error_set(&err, FAIL_TIMEOUT, "the mail server %s:%u kept us waiting for %s for %.3g s",
                  s->mailbox->dest->host, s->mailbox->dest->port, awaited(s),
                  (double)answer_timeout(s) / 1e6);
    } else if (event == CONN_EOF) {
        error_set(&err, FAIL_REMOTE, "the mail server closed the connection; we waited for %s",
                  awaited(s));
    } else if (conn_error(s->backend)->fail == FAIL_REMOTE) {
        error_set(&err, FAIL_REMOTE,
                  "the connection to the mail server broke (%s); we waited for %s",
                  conn_error(s->backend)->text, awaited(s));
    } else {
        err = *conn_error(s->backend);
    }
    backend_failed(s, &err);
}

static void on_backend(struct conn *c, enum conn_event event, void *arg)
{
    struct session *s = arg;
    (void)c;
    switch (event) {
    case CONN_CONNECTED:
        tls_stands(s);
        break;
    case CONN_DATA:
        backend_lines(s);
        break;
    case CONN_EOF:
    case CONN_TIMEOUT:
    case CONN_FAILED:
        backend_gone(s, event);
        break;
    case CONN_DRAINED:
        break;
    }
    step(s);
}

static void on_dialled(struct conn *conn, const struct error *err, void *arg)
{
    struct session *s = arg;
    s->attempt->dial = NULL;
    if (may_renew_way(s, conn ? NULL : err)) {
        renew_way(s);
    } else if (!conn) {
        backend_failed(s, err);
    } else {
        s->backend = conn;
        conn_set_handler(conn, (struct conn_handler){.event = on_backend, .arg = s});
        conn_keep_small(conn, SOCKET_OF_BACKEND);
        if (s->mailbox->dest->tls == TLS_IMPLICIT) {
            start_tls(s);
        } else {
            start_login(s);
        }
    }
    step(s);
}

static void dial_backend(struct session *s, const struct dest_route *route)
{
    struct pop3 *pop3 = s->target->pop3;
    const struct destination *dest = s->mailbox->dest;
    struct dial_to to = {
        .host = dest->host,
        .port = dest->port,
        .allow_local = pop3->config.allow_local,
        .timeout = dest->connect_timeout,
    };
    struct dial_via via = {.location = dest->location_id};
    assert((route != NULL) == (dest->proxy == PROXY_ON_PREMISE));
    if (route) {
        via.host = route->host;
        via.port = route->port;
        via.timeout = route->timeout;
        via.token = route->token ? &route->token->value : NULL;
        to.via = &via;
        s->attempt->way = route->token ? token_ref(route->token) : NULL;
    }
    struct dial_handler handler = {.done = on_dialled, .arg = s};
    s->attempt->dial = dial_start(pop3->loop, pop3->dns, &to, handler);
}

static enum pop3_login_kind login_kind(const struct destination *dest)
{
    switch (dest->auth) {
    case AUTH_NONE:
        return POP3_OWN_LOGIN;
    case AUTH_REFRESH_TOKEN:
    case AUTH_AUTHORIZATION_CODE:
        return POP3_TOKEN_LOGIN;
    case AUTH_BASIC:
    case AUTH_CLIENT_CREDENTIALS:
        break;
    }
    return POP3_ANY_LOGIN;
}

/* Settles how the client has to log in. */
static void set_kind(struct session *s, const struct destination *dest)
{
    s->knows_kind = true;
    s->dialogue.kind = login_kind(dest);
    if (s->dialogue.kind == POP3_TOKEN_LOGIN) {
        s->credentials = mem_zalloc(sizeof(*s->credentials));
        s->dialogue.credentials = s->credentials;
    }
}

static void note_user(struct session *s)
{
    char ours[128], theirs[128];
    const char *user = s->mailbox->dest->user;
    if (s->credentials && user[0] && strcmp(user, s->credentials->user) != 0) {
        session_say(s, LINE_OTHER_USER, LOG_INFO,
                    "the client logs in as %s, though mail.user is %s",
                    text_printable(theirs, sizeof(theirs), str_of(s->credentials->user)),
                    text_printable(ours, sizeof(ours), str_of(user)));
    }
}

/* What will be shown to the mail server. */
static struct credential credential(const struct session *s)
{
    const struct destination *dest = s->mailbox->dest;
    const struct token *token = s->attempt->token;
    const struct secret *secret = token ? &token->value : &dest->password;
    return credential_of(s->credentials ? s->credentials->user : dest->user,
                         (struct str){secret->p, secret->n});
}

static void on_found(const struct dest_answer *answer, void *arg)
{
    struct session *s = arg;
    const struct destination *dest = answer->dest;
    s->attempt->request = NULL;
    if (!dest) {
        backend_failed(s, &answer->err);
    } else if (s->target->closed) {
        /* What the source has under this name now may be of a kind that has no target. */
        struct error gone;
        error_set(&gone, FAIL_CONFIG, "it is not served here any more");
        backend_failed(s, &gone);
    } else if (login_kind(dest) != s->dialogue.kind) {
        struct error changed;
        target_adopt(s->target, dest);
        error_set(&changed, FAIL_REMOTE, "its Authentication has just changed: connect again");
        backend_failed(s, &changed);
    } else {
        target_adopt(s->target, dest);
        mailbox_unref(s->mailbox);
        s->mailbox = mailbox_ref(s->target->mailbox);
        s->attempt->token = answer->token ? token_ref(answer->token) : NULL;
        s->attempt->shown = credential(s);
        note_user(s);
        if (!refuse_at_once(s)) {
            dial_backend(s, answer->route);
        }
    }
    step(s);
}

static void on_kind(const struct dest_answer *answer, void *arg)
{
    struct session *s = arg;
    struct error gone;
    s->attempt->request = NULL;
    s->wait = WAIT_NOTHING;
    if (!answer->dest) {
        backend_failed(s, &answer->err);
    } else if (s->target->closed) {
        error_set(&gone, FAIL_CONFIG, "it is not served here any more");
        backend_failed(s, &gone);
    } else {
        target_adopt(s->target, answer->dest);
        set_kind(s, answer->dest);
        drop_attempt(s);
        set_state(s, BACKEND_NONE);
    }
    step(s);
}

/* Asks for the destination alone: what a login takes depends on it. */
static void find_kind(struct session *s)
{
    struct dest_handler handler = {.done = on_kind, .arg = s};
    s->attempt->request =
        dest_find(s->target->source, &s->target->ref, DEST_TO_CHECK, NULL, handler);
}

static void find_destination(struct session *s)
{
    struct dest_handler handler = {.done = on_found, .arg = s};
    struct dest_user user;
    if (s->credentials) {
        user = client_user(s);
    }
    s->attempt->request = dest_find(s->target->source, &s->target->ref, DEST_TO_LOG_IN,
                                    s->credentials ? &user : NULL, handler);
}

static void start_attempt(struct session *s)
{
    s->tried = true;
    s->attempt = mem_zalloc(sizeof(*s->attempt));
    s->attempt->started = loop_now(s->target->pop3->loop);
    s->attempt->session = s;
    task_init(&s->attempt->turn);
    trial_seat_init(&s->attempt->seat, take_turn);
    set_state(s, BACKEND_BUSY);
    if (s->wait == WAIT_KIND) {
        find_kind(s);
    } else {
        find_destination(s);
    }
}

/* ---- client ---- */

static void consume(struct session *s, size_t octets)
{
    size_t *unseen = &s->dialogue.unseen;
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
    int others = hops_since(&s->dialogue.hops, s->target->pop3->installation_id);
    error_set(&err, FAIL_CONFIG,
              "the login has come back here (other tproxies on the way: %d): a loop", others);
    session_say(s, LINE_LOOP, LOG_WARN, "%s", err.text);
    pop3_failure(reply, s->target->ref.name, &err, NULL, false);
}

/* Has the line to be kept back until it is known how the client has to log in? When that could not
 * be found out (BACKEND_FAILED), the login fails in whatever form it comes. */
static bool waits_for_kind(struct session *s, struct str line)
{
    if (!s->knows_kind && s->target->mailbox) {
        set_kind(s, s->target->mailbox->dest);
    }
    return !s->knows_kind && s->state == BACKEND_NONE && pop3_client_needs_kind(&s->dialogue, line);
}

/* Takes one line (or what is no POP3) off the input. False: there is no complete one, or the
 * session has ended. */
static bool client_line(struct session *s)
{
    char space[POP3_REPLY_MAX];
    struct buf reply = BUF_ON(space);
    struct str input = conn_data(s->client), line;
    size_t octets;
    if (input.n == 0) {
        return false;
    }
    const char *foreign = pop3_foreign(input, &reply);
    if (foreign) {
        conn_write(s->client, space, buf_len(&reply));
        s->target->pop3->stats.foreign++;
        session_say(s, strcmp(foreign, "TLS") == 0 ? LINE_TLS : LINE_HTTP, LOG_INFO,
                    "the client speaks %s, not POP3", foreign);
        session_end(s, "not POP3");
        return false;
    }
    int rc = conn_line(s->client, pop3_client_line_max(&s->dialogue, input), &line, &octets);
    if (rc == ERR) {
        static const char too_long[] = "-ERR line too long\r\n";
        conn_write(s->client, too_long, strlen(too_long));
        session_end(s, "line too long");
    }
    if (rc != OK) {
        return false;
    }
    if (waits_for_kind(s, line)) {
        is_heard(s);
        s->wait = WAIT_KIND;
        return true;
    }
    enum pop3_ask ask = pop3_client_line(&s->dialogue, line, &reply);
    if (ask == POP3_ASK_LOOP) {
        say_loop(s, &reply);
    }
    conn_write(s->client, space, buf_len(&reply));
    if (ask != POP3_ASK_MAILBOX) {
        consume(s, octets); /* the line of a mailbox command is left for the relay */
    }
    if (pop3_client_wants_in(&s->dialogue, ask)) {
        is_heard(s);
    }
    switch (ask) {
    case POP3_ASK_NOTHING:
        break;
    case POP3_ASK_BACKEND:
        if (s->state == BACKEND_NONE) {
            start_attempt(s);
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
            /* Nothing was deleted in this session: QUIT frees the maildrop's lock, no more. */
            conn_write(s->backend, "QUIT\r\n", 6);
            conn_linger(s->backend);
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

/* Answers the client's line with the failure of the backend. Everything that has arrived behind it
 * was sent before the client could see this. */
static void tell_failure(struct session *s)
{
    char space[POP3_REPLY_MAX + 1];
    struct buf reply = BUF_ON(space);
    struct str line;
    size_t octets;
    pop3_failure(&reply, s->target->ref.name, &s->attempt->err,
                 s->attempt->refused ? s->attempt->login.reply : NULL,
                 s->attempt->refused && s->attempt->login.in_use);
    if (s->wait == WAIT_MAILBOX && conn_line(s->client, POP3_LONG_MAX, &line, &octets) == OK) {
        conn_consume(s->client, octets);
    }
    space[buf_len(&reply)] = '\0';
    drop_failure(s);
    s->failure = mem_strdup(space);
    s->dialogue.failure = s->failure;
    s->dialogue.unseen = conn_arrived(s->client);
    conn_write(s->client, space, buf_len(&reply));
    s->wait = WAIT_NOTHING;
    s->failed = s->attempt->err.fail;
    drop_backend(s);
    if (s->credentials) {
        sasl_wipe(s->credentials);
    }
    set_state(s, BACKEND_NONE);
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
        session_log(s, LOG_INFO, "the connection to the mail server broke: %s",
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
    drop_attempt(s);
    drop_credentials(s);
    drop_failure(s);
    struct relay_handler handler = {.ended = on_relay_end, .arg = s};
    struct relay_times times = {pop3->config.idle_timeout, answer_timeout(s)};
    s->relay = relay_start(pop3->loop, s->client, s->backend, times, handler);
}

static void client_timeout(struct session *s)
{
    struct error err;
    char space[POP3_REPLY_MAX];
    struct buf reply = BUF_ON(space);
    double seconds = (double)s->target->pop3->config.login_timeout / 1e6;
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
    while (s->client && !s->relay) {
        if (s->wait == WAIT_NOTHING && conn_pending(s->client)) {
            return; /* who does not take answers is not asked for more: DRAINED goes on */
        }
        if (s->wait == WAIT_NOTHING && lines++ == LINES_MOST) {
            /* The others have their turn, then the rest is shown again. */
            conn_pause(s->client);
            conn_resume(s->client);
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
            start_attempt(s);
            return;
        case BACKEND_BUSY:
            return;
        case BACKEND_READY:
            start_relay(s);
            return;
        case BACKEND_FAILED:
            tell_failure(s);
            break;
        }
    }
    if (!s->relay && s->client_ended) {
        session_end(s, "client closed");
    }
}

static void step(struct session *s)
{
    if (s->client) {
        serve_client(s);
    } else if (!s->ended && !awaits_verdict(s)) {
        leave(s, s->result);
    }
}

void session_start(struct target *target, int fd, const union addr *client)
{
    struct pop3 *pop3 = target->pop3;
    struct session *s = mem_zalloc(sizeof(*s));
    struct conn_handler handler = {.event = on_client, .arg = s};
    s->client = conn_new(pop3->loop, fd, handler);
    if (!s->client) {
        free(s);
        return;
    }
    conn_keep_small(s->client, SOCKET_OF_CLIENT);
    task_init(&s->task);
    s->target = target_ref(target);
    s->id = ++pop3->next_id;
    s->peer = *client;
    s->started = loop_now(pop3->loop);
    list_init(&s->link);
    list_init(&s->silent);
    append_silent(s);
    target->sessions++;
    pop3->sessions++;
    pop3_client_init(&s->dialogue, POP3_ANY_LOGIN, NULL);
    if (target->mailbox) {
        set_kind(s, target->mailbox->dest);
    }
    s->dialogue.own_id = pop3->installation_id;
    conn_deadline(s->client, s->started + pop3->config.login_timeout);

    char space[POP3_REPLY_MAX];
    struct buf greeting = BUF_ON(space);
    pop3_greeting(&greeting, pop3->installation_id);
    conn_write(s->client, space, buf_len(&greeting));
}
