/* The login of one session at its mail server, as one attempt after the other.
 *
 *      NONE <-------------------------------------------------------------.
 *       |  pop3_session_login_start                                       |
 *       v                                                                 |
 *      FINDING -- only to tell how the client has to log in --------------|
 *       |  ^                                                              |
 *       |  |  once for each token: the proxy (DIALLING) or the            |
 *       |  |  mail server (LOGIN, VERDICT) refuses one from a cache       |
 *       v  |                                                              |
 *      DIALLING --> SECURING, for pop3s                                   |
 *       |               |                                                 |
 *       v               |                                                 |
 *      LOGIN <----------'   the dialogue of login.c, with STLS            |
 *       |  it shows credentials                                           |
 *       v                                                                 |
 *      VERDICT                                                            |
 *       |                                                                 |
 *       |----> REFUSED, or FAILED from any state: session.c tells it -----'
 *       |
 *       '----> READY: session.c starts the relay
 *
 * Callbacks note what has happened and call tell_session(). session.c decides what the client
 * gets. */
#include "pop3/session_login.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/dest_source.h"
#include "core/destination.h"
#include "core/token.h"
#include "lib/conn.h"
#include "lib/dial.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/tls.h"
#include "pop3/session_log.h"
#include "pop3/state.h"
#include "pop3/target.h"

static const char *const backend_names[] = {
    [BACKEND_NONE] = "none",           [BACKEND_FINDING] = "finding the destination",
    [BACKEND_DIALLING] = "connecting", [BACKEND_SECURING] = "starting TLS",
    [BACKEND_LOGIN] = "logging in",    [BACKEND_VERDICT] = "waiting for the verdict",
    [BACKEND_READY] = "logged in",     [BACKEND_FAILED] = "failed",
    [BACKEND_REFUSED] = "refused",
};
static_assert(ARRAY_LEN(backend_names) == BACKEND_REFUSED + 1, "every state has its name");

static void observe(const struct session *s)
{
    struct pop3_observer *observer = s->dialogue ? s->dialogue->observer : NULL;
    if (observer) {
        observer->step(observer, s);
    }
}

void pop3_session_login_set_state(struct session *s, enum backend_state state)
{
    if (state != s->state) {
        pop3_session_log(s, LOG_DEBUG, "backend: %s -> %s", backend_names[s->state],
                         backend_names[state]);
    }
    s->state = state;
    if (state != BACKEND_LOGIN && state != BACKEND_VERDICT) { /* what they wait for comes next */
        observe(s);
    }
}

/* Returns true while another session tries the same credentials, and until this one's turn runs.
 * The credentials stay in login.out for that time. */
static bool waits_for_trial(const struct attempt *a)
{
    return pop3_trials_waits(&a->seat) || !list_empty(&a->turn.link);
}

static void leave_trial(struct attempt *a)
{
    pop3_trials_leave(&a->seat);
    task_cancel(&a->turn);
}

void pop3_session_login_drop_attempt(struct session *s)
{
    if (!s->attempt) {
        return;
    }
    leave_trial(s->attempt);
    dest_cancel(s->target->source, s->attempt->request);
    dial_cancel(s->attempt->dial);
    pop3_login_wipe(&s->attempt->login);
    token_unref(s->attempt->token);
    token_unref(s->attempt->proxy_token);
    free(s->attempt);
    s->attempt = NULL;
}

void pop3_session_login_drop(struct session *s)
{
    pop3_session_login_drop_attempt(s);
    conn_close(s->backend);
    s->backend = NULL;
}

bool pop3_session_login_awaits_verdict(const struct session *s)
{
    return s->state == BACKEND_VERDICT;
}

static bool login_has_begun(const struct session *s)
{
    return s->state == BACKEND_LOGIN || s->state == BACKEND_VERDICT || s->state == BACKEND_READY;
}

/* Ends the attempt in BACKEND_FAILED or BACKEND_REFUSED. */
static void end_attempt(struct session *s, enum backend_state state, const struct error *err)
{
    struct pop3 *pop3 = s->target->pop3;
    struct attempt *a = s->attempt;
    pop3_session_log_limited(s, LINE_LOGIN_FAILED + (unsigned)err->fail, LOG_WARN,
                             "login failed (%s): %s%s%s", fail_name(err->fail), err->text,
                             a->login.challenge[0] ? ": " : "", a->login.challenge);
    pop3->stats.logins[err->fail]++;
    a->err = *err;
    leave_trial(a);
    if (login_has_begun(s)) {
        /* The remembered capabilities may have caused the failure: forget them. */
        s->mailbox->memory = (struct pop3_memory){0};
    }
    conn_close(s->backend);
    s->backend = NULL;
    pop3_session_login_set_state(s, state);
}

static void backend_failed(struct session *s, const struct error *err)
{
    end_attempt(s, BACKEND_FAILED, err);
}

/* Tells the session that something has happened. */
static void tell_session(struct session *s)
{
    s->attempt->changed(s);
}

static void find_destination(struct session *s);

/* Returns true if another token may replace a refused one. A token that was made for this login
 * cannot be replaced by a better one, and an authorization code gives only one token. */
static bool may_renew_token(const struct session *s)
{
    const struct attempt *a = s->attempt;
    enum mail_auth auth = s->mailbox->dest->auth;
    return (auth == AUTH_CLIENT_CREDENTIALS || auth == AUTH_REFRESH_TOKEN) && a->token &&
           !a->token_renewed && a->token->received < a->started;
}

/* Fills *user with the credentials that the client has sent. Returns NULL when they do not
 * count. */
static const struct dest_user *client_user(const struct session *s, struct dest_user *user)
{
    const struct sasl_credentials *said = s->dialogue->credentials;
    if (!said) {
        return NULL;
    }
    *user = (struct dest_user){said->user, &said->secret};
    return user;
}

/* Begins one more login on a new connection. `refused` is the token that the mail server refused;
 * NULL: the mail server refused no token. */
static void start_again(struct session *s, const struct token *refused)
{
    struct attempt *a = s->attempt;
    struct dest_user user;
    if (refused) {
        dest_refused(s->target->source, &s->target->ref, client_user(s, &user), refused);
    }
    leave_trial(a);
    conn_close(s->backend);
    s->backend = NULL;
    token_unref(a->token);
    token_unref(a->proxy_token);
    a->token = a->proxy_token = NULL;
    pop3_login_wipe(&a->login);
    a->login = (struct pop3_login){0};
    find_destination(s);
}

static void renew_token(struct session *s, unsigned pauses_before)
{
    pop3_session_log_limited(s, LINE_TOKEN_RENEWED, LOG_INFO,
                             "the mail server refused the token; asking for another one");
    s->target->pop3->stats.renewals++;
    s->attempt->token_renewed = true;
    s->attempt->pauses_before = pauses_before;
    start_again(s, s->attempt->token);
}

/* Reports what the Connectivity Proxy did with the token that it was shown. Returns true if another
 * token may replace that one. A token that was made for this login cannot be replaced by a better
 * one, as in may_renew_token. */
static bool may_renew_proxy_token(const struct session *s, const struct error *err)
{
    const struct attempt *a = s->attempt;
    bool renewable =
        a->proxy_token && !a->proxy_token_renewed && a->proxy_token->received < a->started;
    return a->proxy_token &&
           dest_tried(s->target->source, &s->target->ref, a->proxy_token, err, renewable);
}

static void renew_proxy_token(struct session *s)
{
    pop3_session_log_limited(
        s, LINE_PROXY_TOKEN_RENEWED, LOG_INFO,
        "the Connectivity Proxy refused the access token; asking for another one");
    s->attempt->proxy_token_renewed = true;
    start_again(s, NULL);
}

/* Takes in that the backend has refused the credentials. The next sessions fail without asking the
 * backend, because it may lock an account after a few wrong passwords. */
static void credentials_refused(struct session *s)
{
    struct attempt *a = s->attempt;
    bool final = !may_renew_token(s);
    unsigned pauses =
        pop3_trials_refused(&s->mailbox->trials, &a->credential, &a->seat, a->pauses_before, final,
                            loop_now(s->target->pop3->loop), a->login.err.text);
    if (final || !s->client) {
        end_attempt(s, BACKEND_REFUSED, &a->login.err);
    } else {
        renew_token(s, pauses);
    }
}

/* Fails or renews the attempt at once if an earlier refusal of the same credentials still counts.
 * Returns false if the backend has to be asked. */
static bool refuse_at_once(struct session *s)
{
    struct pop3 *pop3 = s->target->pop3;
    int64_t now = loop_now(pop3->loop);
    struct trial *r = pop3_trials_refusal(&s->mailbox->trials, &s->attempt->credential, now);
    if (!r) {
        return false;
    }
    if (!r->final && may_renew_token(s)) {
        renew_token(s, r->pauses - 1);
        return true;
    }
    r->final = true; /* the new token may be the old one again */
    struct error err;
    error_set(&err, FAIL_AUTH, "%s (it is not asked again for %lld s)", r->text,
              (long long)(r->until - now + SECONDS(1) - 1) / SECONDS(1));
    pop3->stats.fast_refusals++;
    backend_failed(s, &err);
    return true;
}

int64_t pop3_session_login_answer_timeout(const struct session *s)
{
    int64_t most = s->target->pop3->settings.answer_timeout;
    return s->mailbox->dest->answer_timeout < most ? s->mailbox->dest->answer_timeout : most;
}

static void expect_answer(struct session *s)
{
    conn_deadline(s->backend,
                  loop_now(s->target->pop3->loop) + pop3_session_login_answer_timeout(s));
    observe(s);
}

/* Returns NULL and sets *err when TLS with this backend is impossible. */
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
        struct tls_roots *own = dest->trust_store;
        m->tls = tls_client_new(own ? own : s->target->pop3->roots, &settings, err);
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
        pop3_trials_accepted(&s->mailbox->trials, &s->attempt->credential, &s->attempt->seat);
    }
    if (s->attempt->login.stls_refused) {
        pop3_session_log_limited(s, LINE_CLEAR_TEXT, LOG_WARN,
                                 "the mail server does not do STLS: going on in clear text "
                                 "(mail.pop3.starttls.required would forbid it)");
    }
    stats->logins[FAIL_NONE]++;
    metric_observe(&stats->latency, took);
    s->logged_in = true;
    conn_deadline(s->backend, 0);
    pop3_session_login_set_state(s, BACKEND_READY);
}

/* Returns true if the backend may be shown the credentials that come next. If false, one of three
 * holds: the credentials wait in `out` for the result of another session, and on_turn goes on; the
 * attempt has ended or begun again; or the session will be cut soon, before the
 * verdict. */
static bool may_show(struct session *s)
{
    struct attempt *a = s->attempt;
    int64_t now = loop_now(s->target->pop3->loop);
    if (s->target->pop3->end == TARGET_CUT) {
        return false;
    }
    switch (pop3_trials_ask(&s->mailbox->trials, &a->credential, now, &a->seat)) {
    case TRIAL_GO:
        break;
    case TRIAL_WAIT:
        pop3_session_log(s, LOG_DEBUG, "waits for another session with the same credentials");
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
    if (login->shows) {
        pop3_session_login_set_state(s, BACKEND_VERDICT);
    }
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
            if (login->proved) {
                pop3_trials_accepted(&s->mailbox->trials, &s->attempt->credential,
                                     &s->attempt->seat);
            }
            end_attempt(s, BACKEND_REFUSED, &login->err);
        }
        break;
    }
}

/* Goes on after the wait for another session's trial. Lines that the backend has sent during the
 * wait are not its answer to the credentials. */
static void on_turn(struct task *t)
{
    struct session *s = container_of(t, struct attempt, turn)->session;
    if (conn_data(s->backend).n) {
        struct error err;
        error_set(&err, FAIL_PROTOCOL, "the mail server sent an unexpected line");
        backend_failed(s, &err);
    } else {
        follow(s, POP3_NEXT_LINE);
    }
    tell_session(s);
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
    while ((s->state == BACKEND_LOGIN || s->state == BACKEND_VERDICT) &&
           !waits_for_trial(s->attempt) && s->attempt->login.state != POP3_LOGIN_HANDSHAKE) {
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
        /* Consume the line first: conn_start_tls must see what follows the consent to STLS. */
        conn_consume(s->backend, octets);
        follow(s, pop3_login_line(&s->attempt->login, line));
    }
}

static void start_login(struct session *s)
{
    struct attempt *a = s->attempt;
    const struct sasl_credentials *said = s->dialogue->credentials;
    pop3_session_login_set_state(s, BACKEND_LOGIN);
    pop3_login_init(&a->login, s->mailbox->dest, said ? said->user : NULL,
                    a->token ? &a->token->value : NULL, &s->mailbox->memory,
                    s->target->pop3->installation_id, conn_is_tls(s->backend));
    a->login.before = &s->dialogue->pop3.hops;
    expect_answer(s);
    backend_lines(s);
}

static void on_secured(struct session *s)
{
    struct pop3_stats *stats = &s->target->pop3->stats;
    bool resumed = conn_tls_resumed(s->backend);
    stats->tls_resumed += resumed;
    stats->tls_full += !resumed;
    pop3_session_log(s, LOG_DEBUG, "%s established%s", conn_tls_version(s->backend),
                     resumed ? ", session resumed" : "");
    if (login_has_begun(s)) {
        follow(s, pop3_login_secured(&s->attempt->login));
    } else {
        start_login(s);
    }
}

static bool is_handshaking(const struct session *s)
{
    return !login_has_begun(s) || s->attempt->login.state == POP3_LOGIN_HANDSHAKE;
}

static const char *awaited(const struct session *s)
{
    if (waits_for_trial(s->attempt)) {
        return "another session with the same credentials";
    }
    return login_has_begun(s) ? pop3_login_awaited(&s->attempt->login) : "the TLS handshake";
}

/* Fails the attempt when the backend has gone, or was silent, before the relay has started. */
static void backend_gone(struct session *s, enum conn_event event)
{
    struct error err;
    if (event == CONN_TIMEOUT) {
        error_set(&err, FAIL_TIMEOUT, "the mail server %s:%u %s %s within %.3g s",
                  s->mailbox->dest->host, s->mailbox->dest->port,
                  is_handshaking(s) ? "did not complete" : "did not send", awaited(s),
                  (double)pop3_session_login_answer_timeout(s) / 1e6);
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
        on_secured(s);
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
    tell_session(s);
}

static void on_dialled(struct conn *conn, const struct error *err, void *arg)
{
    struct session *s = arg;
    s->attempt->dial = NULL;
    if (may_renew_proxy_token(s, conn ? NULL : err)) {
        renew_proxy_token(s);
    } else if (!conn) {
        backend_failed(s, err);
    } else {
        s->backend = conn;
        conn_set_handler(conn, (struct conn_handler){.event = on_backend, .arg = s});
        conn_keep_small(conn, SOCKET_OF_BACKEND);
        if (s->mailbox->dest->tls == TLS_IMPLICIT) {
            pop3_session_login_set_state(s, BACKEND_SECURING);
            start_tls(s);
        } else {
            start_login(s);
        }
    }
    tell_session(s);
}

static void on_dial_came(enum dial_stage stage, const char *addresses, void *arg)
{
    const struct session *s = arg;
    struct pop3_observer *observer = s->dialogue ? s->dialogue->observer : NULL;
    if (observer) {
        observer->came(observer, s, stage, addresses);
    }
}

static void dial_backend(struct session *s, const struct dest_route *route)
{
    struct pop3 *pop3 = s->target->pop3;
    const struct destination *dest = s->mailbox->dest;
    struct dial_to to = {
        .host = dest->host,
        .port = dest->port,
        .allow_local = pop3->settings.allow_local,
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
        s->attempt->proxy_token = route->token ? token_ref(route->token) : NULL;
    }
    pop3_session_login_set_state(s, BACKEND_DIALLING);
    struct dial_handler handler = {.done = on_dialled, .arg = s, .came = on_dial_came};
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

void pop3_session_login_set_kind(struct session *s, const struct destination *dest)
{
    struct dialogue *d = s->dialogue;
    s->knows_kind = true;
    d->pop3.kind = login_kind(dest);
    if (d->pop3.kind == POP3_TOKEN_LOGIN) {
        d->credentials = mem_zalloc(sizeof(*d->credentials));
        d->pop3.credentials = d->credentials;
    }
}

static void note_user(struct session *s)
{
    char ours[128], theirs[128];
    const char *user = s->mailbox->dest->user;
    const struct sasl_credentials *said = s->dialogue->credentials;
    if (said && user[0] && strcmp(user, said->user) != 0) {
        pop3_session_log_limited(s, LINE_OTHER_USER, LOG_INFO,
                                 "the client logs in as %s, though mail.user is %s",
                                 text_printable(theirs, sizeof(theirs), str_of(said->user)),
                                 text_printable(ours, sizeof(ours), str_of(user)));
    }
}

/* Returns the credentials that the mail server will be shown. */
static struct credential credential_to_show(const struct session *s)
{
    const struct destination *dest = s->mailbox->dest;
    const struct token *token = s->attempt->token;
    const struct secret *secret = token ? &token->value : &dest->password;
    const struct sasl_credentials *said = s->dialogue->credentials;
    return pop3_trials_credential(said ? said->user : dest->user, secret_str(secret));
}

/* Fails the attempt because the target has been closed. The source may now have a destination under
 * this name that gets no target. */
static void no_longer_served(struct session *s)
{
    struct error gone;
    error_set(&gone, FAIL_CONFIG, "the destination is no longer served");
    backend_failed(s, &gone);
}

static void on_found(const struct dest_answer *answer, void *arg)
{
    struct session *s = arg;
    const struct destination *dest = answer->dest;
    s->attempt->request = NULL;
    if (!dest) {
        backend_failed(s, &answer->err);
    } else if (s->target->closed) {
        no_longer_served(s);
    } else if (login_kind(dest) != s->dialogue->pop3.kind) {
        struct error changed;
        pop3_target_adopt(s->target, dest);
        error_set(&changed, FAIL_REMOTE, "its Authentication has just changed: connect again");
        backend_failed(s, &changed);
    } else {
        pop3_target_adopt(s->target, dest);
        pop3_mailbox_unref(s->mailbox);
        s->mailbox = pop3_mailbox_ref(s->target->mailbox);
        s->attempt->dest_received = answer->received;
        s->attempt->token = answer->token ? token_ref(answer->token) : NULL;
        s->attempt->credential = credential_to_show(s);
        note_user(s);
        if (!refuse_at_once(s)) {
            dial_backend(s, answer->route);
        }
    }
    tell_session(s);
}

static void on_kind(const struct dest_answer *answer, void *arg)
{
    struct session *s = arg;
    void (*changed)(struct session *) = s->attempt->changed;
    s->attempt->request = NULL;
    s->wait = WAIT_NOTHING;
    if (!answer->dest) {
        backend_failed(s, &answer->err);
    } else if (s->target->closed) {
        no_longer_served(s);
    } else {
        pop3_target_adopt(s->target, answer->dest);
        pop3_session_login_set_kind(s, answer->dest);
        pop3_session_login_drop_attempt(s);
        pop3_session_login_set_state(s, BACKEND_NONE);
    }
    changed(s);
}

/* Asks for the destination alone, without a token: it says how the client has to log in. */
static void find_kind(struct session *s)
{
    struct dest_handler handler = {.done = on_kind, .arg = s};
    pop3_session_login_set_state(s, BACKEND_FINDING);
    s->attempt->request =
        dest_find(s->target->source, &s->target->ref, DEST_TO_CHECK, NULL, handler);
}

static void find_destination(struct session *s)
{
    struct dest_handler handler = {.done = on_found, .arg = s};
    struct dest_user user;
    pop3_session_login_set_state(s, BACKEND_FINDING);
    s->attempt->request = dest_find(s->target->source, &s->target->ref, DEST_TO_LOG_IN,
                                    client_user(s, &user), handler);
}

void pop3_session_login_start(struct session *s, void (*changed)(struct session *s))
{
    s->tried = true;
    s->attempt = mem_zalloc(sizeof(*s->attempt));
    s->attempt->started = loop_now(s->target->pop3->loop);
    s->attempt->session = s;
    s->attempt->changed = changed;
    task_init(&s->attempt->turn);
    pop3_trials_seat_init(&s->attempt->seat, take_turn);
    if (s->wait == WAIT_KIND) {
        find_kind(s);
    } else {
        find_destination(s);
    }
}
