/* A probe is both sides of a connection within the process: a session at one end, and here its
 * client, who also observes the session's login.
 *
 *   GREETING --> STAT --+OK or -ERR--> QUIT --> (ended)
 *                 | ^                   ^
 *                 | '----+OK-----.      |
 *                 '--> USER --> PASS ---' -ERR
 *              where each client brings a token
 *
 *   steps: destination, addresses, connection, tunnel, TLS, what the login waits for ..., STAT,
 *          QUIT
 *
 * A step ends when the session goes on to the next one; the observer hears that until the relay
 * starts, and from then on the lines of the mail server tell it. */
#include "pop3/probe.h"

#include <stdlib.h>
#include <string.h>

#include "core/destination.h"
#include "core/property_reader.h"
#include "core/token.h"
#include "lib/conn.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls.h"
#include "pop3/session.h"
#include "pop3/session_state.h"
#include "pop3/state.h"

enum { TEXT_MAX = 1024, VALUE_MAX = 256 };

/* What a step has brought. */
struct result {
    char text[TEXT_MAX];
    char values[POP3_PROBE_DETAILS_MAX][VALUE_MAX];
    struct pop3_probe_detail details[POP3_PROBE_DETAILS_MAX];
    size_t n_details;
};

static const char step_login[] = "the login", step_stat[] = "the answer to STAT",
                  step_quit[] = "the answer to QUIT";

enum probe_state { PROBE_GREETING, PROBE_STAT, PROBE_USER, PROBE_PASS, PROBE_QUIT };

struct pop3_probe {
    struct pop3_observer observer;
    struct session *session; /* observed; NULL: not any more */
    struct pop3 *pop3;
    struct conn *conn; /* the client's end */
    struct pop3_probe_handler handler;
    enum probe_state state;
    const char *step; /* under way; NULL: none is */
    int64_t since;
    enum backend_state during; /* the state of the session in that step */
    char *user;                /* NULL: nobody */
    struct secret token;       /* of the user; empty when it was sent */
    bool own_login;            /* clients log in themselves, so STAT is refused */
    struct error err;          /* of the first step that has failed; FAIL_NONE: none has */
    struct task end;
};

/* ---- steps ---- */

static void tell_step(struct pop3_probe *p, const struct result *result, const struct error *err)
{
    int64_t now = loop_now(p->pop3->loop);
    if (err && p->err.fail == FAIL_NONE) {
        p->err = *err;
    }
    if (p->step) {
        const struct pop3_probe_step step = {
            .name = p->step,
            .took = now - p->since,
            .text = result->text,
            .err = err,
            .details = result->details,
            .n_details = result->n_details,
        };
        p->step = NULL;
        p->handler.step(&step, p->handler.arg);
    }
}

static void end_step(struct pop3_probe *p, struct str text)
{
    struct result result = {0};
    text_printable(result.text, sizeof(result.text), text);
    tell_step(p, &result, NULL);
}

static void fail_step(struct pop3_probe *p, const struct error *err)
{
    const struct result nothing = {0};
    tell_step(p, &nothing, err);
}

static void begin_step(struct pop3_probe *p, const char *name)
{
    p->step = name;
    p->since = loop_now(p->pop3->loop);
}

/* Returns the name of the step that the session is in; NULL: it is in none. */
static const char *step_of(const struct session *s)
{
    switch (s->state) {
    case BACKEND_FINDING:
        return "the destination";
    case BACKEND_DIALLING:
        return "the addresses"; /* on_came names the steps that follow */
    case BACKEND_SECURING:
        return "the TLS handshake";
    case BACKEND_LOGIN:
    case BACKEND_VERDICT:
        return pop3_login_awaited(&s->attempt->login);
    case BACKEND_READY:
        return step_stat;
    case BACKEND_NONE:
    case BACKEND_FAILED:
    case BACKEND_REFUSED:
        break;
    }
    return NULL;
}

static void add_detail(struct result *r, const char *name, const char *value)
{
    char *copy = r->values[r->n_details];
    text_fmt(copy, VALUE_MAX, "%s", value);
    r->details[r->n_details++] = (struct pop3_probe_detail){name, copy};
}

/* Adds whether something was known before the step began, or was asked for. */
static void add_origin(struct result *r, const struct pop3_probe *p, const char *name,
                       int64_t received)
{
    char value[VALUE_MAX];
    if (received >= p->since) {
        add_detail(r, name, "asked for");
    } else {
        text_fmt(value, sizeof(value), "cached for %.1f s",
                 (double)(loop_now(p->pop3->loop) - received) / 1e6);
        add_detail(r, name, value);
    }
}

static void describe_destination(struct result *r, const struct pop3_probe *p,
                                 const struct destination *d, const struct attempt *a)
{
    text_fmt(r->text, sizeof(r->text), "%s at %s, port %u; %s", mail_protocol_name(d->protocol),
             d->host, d->port, mail_auth_name(d->auth));
    if (a->dest_received) {
        add_origin(r, p, "destination", a->dest_received);
    } else {
        add_detail(r, "destination", "from a file");
    }
    if (a->token) {
        add_origin(r, p, "access token for the mail server", a->token->received);
    }
    if (a->proxy_token) {
        add_origin(r, p, "access token for the Connectivity Proxy", a->proxy_token->received);
    }
}

static void describe_tls(struct result *r, const struct tls *tls)
{
    char cipher[TLS_CIPHER_SIZE];
    const struct tls_shown *shown = tls_shown(tls);
    text_fmt(r->text, sizeof(r->text), "%s%s", tls_version_name(tls),
             tls_resumed(tls) ? ", session resumed" : "");
    add_detail(r, "cipher suite", tls_cipher_name(tls, cipher));
    if (shown) {
        add_detail(r, "certificate for", shown->names);
        add_detail(r, "certificate valid until", shown->until);
    }
}

/* Says what the step has brought that the session has just left. */
static void describe(const struct pop3_probe *p, const struct session *s, struct result *r)
{
    const struct destination *d = s->mailbox ? s->mailbox->dest : NULL;
    *r = (struct result){0};
    switch (p->during) {
    case BACKEND_FINDING:
        if (d) {
            describe_destination(r, p, d, s->attempt);
        }
        break;
    case BACKEND_DIALLING: /* the tunnel; on_came tells the others */
        if (s->state == BACKEND_FINDING) {
            text_fmt(r->text, sizeof(r->text), "the access token was refused: once more");
        } else if (d) {
            text_fmt(r->text, sizeof(r->text), "to %s, port %u", d->host, d->port);
        }
        break;
    case BACKEND_SECURING:
        describe_tls(r, conn_tls(s->backend));
        break;
    case BACKEND_LOGIN:
    case BACKEND_VERDICT:
        text_fmt(r->text, sizeof(r->text), "%s", s->attempt->login.reply);
        break;
    case BACKEND_NONE:
    case BACKEND_READY:
    case BACKEND_FAILED:
    case BACKEND_REFUSED:
        break;
    }
}

/* Returns the state that describes the step; STLS makes no state of its own. */
static enum backend_state state_of(const struct session *s)
{
    bool handshake = s->state == BACKEND_LOGIN && s->attempt->login.state == POP3_LOGIN_HANDSHAKE;
    return handshake ? BACKEND_SECURING : s->state;
}

static void on_step(struct pop3_observer *o, const struct session *s)
{
    struct pop3_probe *p = container_of(o, struct pop3_probe, observer);
    const char *name = step_of(s);
    struct result result;
    if (s->state == BACKEND_FAILED || s->state == BACKEND_REFUSED) {
        fail_step(p, &s->attempt->err);
    } else if (name && (!p->step || strcmp(name, p->step) != 0)) {
        p->own_login = s->mailbox && s->mailbox->dest->auth == AUTH_NONE;
        if (p->step) {
            describe(p, s, &result);
            tell_step(p, &result, NULL);
        }
        begin_step(p, name);
        p->during = state_of(s);
    }
}

static void on_came(struct pop3_observer *o, const struct session *s, enum dial_stage stage,
                    const char *addresses)
{
    struct pop3_probe *p = container_of(o, struct pop3_probe, observer);
    end_step(p, str_of(addresses));
    if (stage == DIAL_RESOLVED) {
        begin_step(p, "the connection");
    } else if (s->mailbox->dest->proxy == PROXY_ON_PREMISE) {
        begin_step(p, "the tunnel");
    }
}

static void on_left(struct pop3_observer *o)
{
    container_of(o, struct pop3_probe, observer)->session = NULL;
}

/* ---- the client's side ---- */

static void probe_free(struct task *t)
{
    free(container_of(t, struct pop3_probe, end));
}

static void forget_user(struct pop3_probe *p)
{
    free(p->user);
    p->user = NULL;
    secret_clear(&p->token);
}

static void release(struct pop3_probe *p)
{
    if (p->session) {
        p->session->dialogue->observer = NULL;
        p->session = NULL;
    }
    conn_close(p->conn);
    p->conn = NULL;
    forget_user(p);
    loop_bury(p->pop3->loop, &p->end, probe_free);
}

void pop3_probe_cancel(struct pop3_probe *p)
{
    if (p) {
        release(p);
    }
}

static void finish(struct pop3_probe *p)
{
    struct pop3_probe_handler handler = p->handler;
    struct error err = p->err;
    release(p);
    handler.ended(err.fail == FAIL_NONE ? NULL : &err, handler.arg);
}

static void say(struct pop3_probe *p, const char *line)
{
    conn_write(p->conn, line, strlen(line));
}

/* Tells whether the session waits for a client with a token, so that it has refused STAT itself. */
static bool needs_token(const struct pop3_probe *p)
{
    return p->session && p->session->dialogue->pop3.kind == POP3_TOKEN_LOGIN;
}

static void fail_login(struct pop3_probe *p, const char *step, enum fail fail, const char *text)
{
    struct error err;
    if (p->err.fail == FAIL_NONE) { /* else the observer has told it */
        error_set(&err, fail, "%s", text);
        if (!p->step) {
            begin_step(p, step);
        }
        fail_step(p, &err);
    }
}

static void say_quit(struct pop3_probe *p)
{
    p->state = PROBE_QUIT;
    if (p->err.fail == FAIL_NONE) {
        begin_step(p, step_quit);
    }
    say(p, "QUIT\r\n");
}

static void say_user(struct pop3_probe *p)
{
    p->state = PROBE_USER;
    say(p, "USER ");
    say(p, p->user);
    say(p, "\r\n");
}

static void take_stat(struct pop3_probe *p, struct str line)
{
    char text[TEXT_MAX];
    bool wants_token = needs_token(p);
    if (str_istarts(line, "+OK") || p->own_login) {
        struct result result = {0};
        text_printable(result.text, sizeof(result.text), line);
        if (p->token.n) {
            add_detail(&result, "user token", "not used: clients need none here");
        }
        tell_step(p, &result, NULL);
    } else if (wants_token && p->err.fail == FAIL_NONE && p->user) {
        say_user(p);
        return;
    } else if (wants_token) {
        fail_login(p, step_login, FAIL_CONFIG,
                   "each client logs in with a token of its own here; give one with --user and "
                   "--token-file");
    } else {
        fail_login(p, step_stat, FAIL_REMOTE, text_printable(text, sizeof(text), line));
    }
    say_quit(p);
}

static void end_refused_login(struct pop3_probe *p, struct str line)
{
    char text[TEXT_MAX];
    fail_login(p, step_login, FAIL_CONFIG, text_printable(text, sizeof(text), line));
    say_quit(p);
}

static void take_user(struct pop3_probe *p, struct str line)
{
    if (!str_istarts(line, "+OK")) {
        end_refused_login(p, line);
        return;
    }
    p->state = PROBE_PASS;
    say(p, "PASS ");
    conn_write(p->conn, p->token.p, p->token.n);
    say(p, "\r\n");
    forget_user(p);
}

static void take_pass(struct pop3_probe *p, struct str line)
{
    if (!str_istarts(line, "+OK")) {
        end_refused_login(p, line);
        return;
    }
    p->state = PROBE_STAT;
    say(p, "STAT\r\n");
}

/* Takes a line. Returns false when the probe is over. */
static bool take_line(struct pop3_probe *p, struct str line)
{
    switch (p->state) {
    case PROBE_GREETING:
        p->state = PROBE_STAT;
        say(p, "STAT\r\n");
        break;
    case PROBE_STAT:
        take_stat(p, line);
        break;
    case PROBE_USER:
        take_user(p, line);
        break;
    case PROBE_PASS:
        take_pass(p, line);
        break;
    case PROBE_QUIT:
        end_step(p, line);
        finish(p);
        return false;
    }
    return true;
}

static void take_lines(struct pop3_probe *p)
{
    struct str line;
    size_t octets;
    while (conn_line(p->conn, POP3_BACKEND_LINE_MAX, &line, &octets) == OK) {
        char copy[POP3_BACKEND_LINE_MAX];
        memcpy(copy, line.p, line.n);
        conn_consume(p->conn, octets);
        if (!take_line(p, (struct str){copy, line.n})) {
            return;
        }
    }
}

static void end_early(struct pop3_probe *p, enum fail fail, const char *text)
{
    struct error err;
    error_set(&err, fail, "%s", text);
    fail_step(p, &err);
    finish(p);
}

static void on_client(struct conn *c, enum conn_event event, void *arg)
{
    struct pop3_probe *p = arg;
    (void)c;
    switch (event) {
    case CONN_DATA:
        take_lines(p);
        break;
    case CONN_EOF:
    case CONN_FAILED:
        end_early(p, FAIL_REMOTE, "the mail server closed the connection");
        break;
    case CONN_TIMEOUT:
        end_early(p, FAIL_TIMEOUT, "the mail server does not answer");
        break;
    case CONN_CONNECTED:
    case CONN_DRAINED:
        break;
    }
}

struct pop3_probe *pop3_probe_new(struct target *target, const struct pop3_probe_user *user,
                                  struct pop3_probe_handler handler, struct error *err)
{
    struct pop3 *pop3 = target->pop3;
    const struct pop3_settings *set = &pop3->settings;
    struct pop3_probe *p = mem_zalloc(sizeof(*p));
    int fd;
    p->observer = (struct pop3_observer){.step = on_step, .came = on_came, .left = on_left};
    p->pop3 = pop3;
    p->handler = handler;
    task_init(&p->end);
    p->conn = conn_new_pair(pop3->loop, (struct conn_handler){.event = on_client, .arg = p}, &fd);
    if (p->conn) {
        p->session = pop3_session_start_within(target, fd, &p->observer);
    }
    if (!p->session) {
        error_set(err, FAIL_INTERNAL, "no connection within the process can be made");
        conn_close(p->conn);
        free(p);
        return NULL;
    }
    if (user) {
        p->user = mem_strdup(user->name);
        secret_set(&p->token, user->token.p, user->token.n);
    }
    /* The session's own timeouts come first, and say more. */
    conn_deadline(p->conn, loop_now(pop3->loop) + set->login_timeout + 2 * set->answer_timeout);
    return p;
}
