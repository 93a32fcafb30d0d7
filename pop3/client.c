/* Conducts the POP3 dialogue with a client before the backend takes over.
 *
 *                  .-- any other command --.
 *                  v                       |
 *   greeting --> COMMAND ------------------'
 *                  |  |
 *                  |  '-- AUTH LOGIN --> SASL_USER
 *      AUTH PLAIN, |                         |
 *   XOAUTH2, LOGIN |                         v
 *     with a user  '--------------------> SASL_LAST --> COMMAND (the last answer, or "*")
 *
 * Where the client's credentials count (POP3_TOKEN_LOGIN) they are read here, and no other server
 * is asked before they are complete. */
#include "pop3/client.h"

#include <assert.h>
#include <string.h>

enum command {
    COMMAND_UNKNOWN,
    COMMAND_QUIT,
    COMMAND_CAPA,
    COMMAND_NOOP,
    COMMAND_USER,
    COMMAND_PASS,
    COMMAND_APOP,
    COMMAND_AUTH,
    COMMAND_STLS,
    COMMAND_UNSUPPORTED,
    COMMAND_HOPS,
    COMMAND_MAILBOX, /* asks about the mailbox */
    COMMAND_MESSAGE, /* asks for a message */
    COMMAND_DELETE,  /* marks messages as deleted, or takes marks away */
};

static const struct {
    const char *word;
    enum command command;
} commands[] = {
    {"QUIT", COMMAND_QUIT},        {"CAPA", COMMAND_CAPA},    {"NOOP", COMMAND_NOOP},
    {"USER", COMMAND_USER},        {"PASS", COMMAND_PASS},    {"APOP", COMMAND_APOP},
    {"AUTH", COMMAND_AUTH},        {"STLS", COMMAND_STLS},    {"UTF8", COMMAND_UNSUPPORTED},
    {"LANG", COMMAND_UNSUPPORTED}, {"XTPROXY", COMMAND_HOPS}, {"STAT", COMMAND_MAILBOX},
    {"LIST", COMMAND_MAILBOX},     {"RETR", COMMAND_MESSAGE}, {"DELE", COMMAND_DELETE},
    {"RSET", COMMAND_DELETE},      {"TOP", COMMAND_MESSAGE},  {"UIDL", COMMAND_MAILBOX},
    {"LAST", COMMAND_MAILBOX},
};

static const char capabilities_any[] = "+OK capabilities follow\r\n"
                                       "TOP\r\nUIDL\r\nUSER\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n"
                                       "SASL PLAIN LOGIN XOAUTH2\r\n.\r\n";

/* The capabilities for a login at the backend itself. Those of the backend are not known before it
 * is connected, but every server has USER. */
static const char capabilities_own[] =
    "+OK capabilities follow\r\n"
    "TOP\r\nUIDL\r\nUSER\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n.\r\n";

/* The capabilities for a login with tokens. The mechanisms that are made for tokens come first. */
static const char capabilities_token[] = "+OK capabilities follow\r\n"
                                         "TOP\r\nUIDL\r\nUSER\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n"
                                         "SASL XOAUTH2 OAUTHBEARER PLAIN LOGIN\r\n.\r\n";

/* The prompts that clients of AUTH LOGIN know: base64 of "Username:" and "Password:". */
static const char prompt_user[] = "+ VXNlcm5hbWU6\r\n";
static const char prompt_password[] = "+ UGFzc3dvcmQ6\r\n";

static const char user_first[] = "-ERR send USER first\r\n";

static void say(struct buf *reply, const char *text)
{
    int rc = buf_add(reply, text, strlen(text));
    assert(rc == OK);
    (void)rc;
}

void pop3_client_init(struct pop3_client *c, enum pop3_login_kind kind,
                      struct sasl_credentials *credentials)
{
    *c = (struct pop3_client){.kind = kind, .credentials = credentials};
}

size_t pop3_client_line_max(const struct pop3_client *c, struct str input)
{
    bool may_be_long = c->expect != POP3_EXPECT_COMMAND || str_istarts(input, "AUTH ") ||
                       str_istarts(input, "PASS ");
    return may_be_long ? POP3_LONG_MAX : POP3_COMMAND_MAX;
}

enum pop3_foreign pop3_foreign(struct str input, struct buf *reply)
{
    static const char *const methods[] = {"GET ",     "HEAD ",    "POST ", "PUT ",
                                          "OPTIONS ", "CONNECT ", "PRI "};
    /* A TLS record of type handshake, version 3.x (RFC 8446 section 5.1). */
    if (input.n >= 2 && input.p[0] == 0x16 && input.p[1] == 0x03) {
        say(reply, "-ERR this port takes POP3 in clear text, not TLS; tproxy adds TLS towards the "
                   "mail server\r\n");
        return POP3_FOREIGN_TLS;
    }
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (input.n > strlen(methods[i]) && memcmp(input.p, methods[i], strlen(methods[i])) == 0) {
            say(reply, "-ERR this port takes POP3, not HTTP\r\n");
            return POP3_FOREIGN_HTTP;
        }
    }
    return POP3_NOT_FOREIGN;
}

static enum command find_command(struct str word)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (str_ieq(word, commands[i].word)) {
            return commands[i].command;
        }
    }
    return COMMAND_UNKNOWN;
}

static enum pop3_ask bad_command(struct pop3_client *c, struct buf *reply, const char *text)
{
    if (++c->bad_commands >= POP3_BAD_COMMANDS) {
        say(reply, "-ERR too many bad commands\r\n");
        return POP3_ASK_CLOSE;
    }
    say(reply, text);
    return POP3_ASK_NOTHING;
}

/* ---- after a failed login ---- */

/* Refuses a line that needs a login. A line that the client sent before it could see the failure
 * gets the failure again. The other texts tell a person what to do. */
static void say_failed(const struct pop3_client *c, struct buf *reply)
{
    if (c->unseen) {
        say(reply, c->failure);
    } else if (c->asked_message) {
        say(reply, "-ERR a message was asked for and not sent: connect again\r\n");
    } else {
        say(reply, "-ERR the login has failed: log in again, or connect again\r\n");
    }
}

/* Decides about a complete login after a failed one. */
static enum pop3_ask login_after_failure(const struct pop3_client *c, struct buf *reply)
{
    if (c->unseen || c->asked_message) {
        say_failed(c, reply);
        return POP3_ASK_FAILED;
    }
    return POP3_ASK_LOGIN;
}

/* Refuses a mailbox command after a failed login. A command that the client sent before it could
 * see the failure does not count as another failed login. */
static enum pop3_ask mailbox_after_failure(const struct pop3_client *c, struct buf *reply)
{
    say_failed(c, reply);
    return c->unseen ? POP3_ASK_NOTHING : POP3_ASK_FAILED;
}

static enum pop3_ask after_failure(const struct pop3_client *c, enum pop3_ask ask,
                                   struct buf *reply)
{
    switch (ask) {
    case POP3_ASK_BACKEND:
        return c->unseen || c->asked_message ? POP3_ASK_NOTHING : ask;
    case POP3_ASK_LOGIN:
        return login_after_failure(c, reply);
    case POP3_ASK_NOTHING:
    case POP3_ASK_MAILBOX:
    case POP3_ASK_FAILED:
    case POP3_ASK_LOOP:
    case POP3_ASK_QUIT:
    case POP3_ASK_CLOSE:
        break;
    }
    return ask;
}

/* ---- logins whose credentials count ---- */

/* Refuses malformed credentials. `wrong` says what to send instead. */
static enum pop3_ask bad_login(struct pop3_client *c, struct buf *reply, const char *wrong)
{
    char line[POP3_REPLY_MAX];
    text_fmt(line, sizeof(line), "-ERR [AUTH] %s\r\n", wrong);
    pop3_sasl_wipe(c->credentials);
    return bad_command(c, reply, line);
}

static enum pop3_ask log_in_first(struct pop3_client *c, struct buf *reply)
{
    return bad_command(
        c, reply,
        "-ERR log in first: AUTH XOAUTH2 <base64 of user=<mail user>^Aauth=Bearer "
        "<refresh token or code>^A^A>, where ^A is one byte of value 1; or USER with "
        "the mail user and PASS with the refresh token or code\r\n");
}

static enum pop3_ask token_user(struct pop3_client *c, struct str user, struct buf *reply)
{
    const char *wrong;
    pop3_sasl_wipe(c->credentials);
    if (pop3_sasl_set_user(c->credentials, user, false, &wrong) != OK) {
        return bad_login(c, reply, wrong);
    }
    say(reply, "+OK\r\n");
    return POP3_ASK_NOTHING;
}

static enum pop3_ask token_pass(struct pop3_client *c, struct str secret, struct buf *reply)
{
    const char *wrong;
    if (!c->credentials->user[0]) {
        return bad_command(c, reply, user_first);
    }
    if (pop3_sasl_set_secret(c->credentials, secret, false, &wrong) != OK) {
        return bad_login(c, reply, wrong);
    }
    return POP3_ASK_LOGIN;
}

/* Takes the answer to a prompt, or the initial response on the line of AUTH. */
static enum pop3_ask token_response(struct pop3_client *c, enum pop3_expect expected,
                                    struct str response, struct buf *reply)
{
    const char *wrong;
    int rc;
    if (c->mechanism != SASL_LOGIN) {
        rc = pop3_sasl_read(c->credentials, c->mechanism, response, &wrong);
    } else if (expected == POP3_EXPECT_SASL_USER) {
        rc = pop3_sasl_set_user(c->credentials, response, true, &wrong);
    } else {
        rc = pop3_sasl_set_secret(c->credentials, response, true, &wrong);
    }
    if (rc != OK) {
        return bad_login(c, reply, wrong);
    }
    if (expected == POP3_EXPECT_SASL_USER) {
        c->expect = POP3_EXPECT_SASL_LAST;
        say(reply, prompt_password);
        return POP3_ASK_NOTHING;
    }
    return POP3_ASK_LOGIN;
}

/* ---- AUTH ---- */

static enum pop3_ask list_mechanisms(struct pop3_client *c, struct buf *reply)
{
    switch (c->kind) {
    case POP3_OWN_LOGIN:
        return bad_command(c, reply, "-ERR the mechanisms are not known before the login\r\n");
    case POP3_ANY_LOGIN:
        say(reply, "+OK mechanisms follow\r\nPLAIN\r\nLOGIN\r\nXOAUTH2\r\n.\r\n");
        break;
    case POP3_TOKEN_LOGIN:
        say(reply, "+OK mechanisms follow\r\nXOAUTH2\r\nOAUTHBEARER\r\nPLAIN\r\nLOGIN\r\n.\r\n");
        break;
    }
    return POP3_ASK_NOTHING;
}

/* Prompts for the response, or for the user of LOGIN, whose password comes next. */
static void prompt(struct pop3_client *c, struct buf *reply)
{
    bool login = c->mechanism == SASL_LOGIN;
    c->expect = login ? POP3_EXPECT_SASL_USER : POP3_EXPECT_SASL_LAST;
    say(reply, login ? prompt_user : "+ \r\n");
}

static enum pop3_ask on_auth(struct pop3_client *c, struct str args, struct buf *reply)
{
    struct str name = str_word(&args);
    enum sasl_mechanism mechanism;
    bool token = c->kind == POP3_TOKEN_LOGIN;
    if (name.n == 0) {
        return list_mechanisms(c, reply); /* older than CAPA; some clients still ask this way */
    }
    if (pop3_sasl_find(name, &mechanism) != OK) {
        return bad_command(c, reply,
                           "-ERR mechanism not supported: use PLAIN, LOGIN or XOAUTH2\r\n");
    }
    c->mechanism = mechanism;
    if (token) {
        pop3_sasl_wipe(c->credentials);
    }
    if (args.n == 0) {
        prompt(c, reply);
        return token ? POP3_ASK_NOTHING : POP3_ASK_BACKEND;
    }
    /* The line has an initial response. The initial response of LOGIN is the user. */
    enum pop3_expect expected =
        mechanism == SASL_LOGIN ? POP3_EXPECT_SASL_USER : POP3_EXPECT_SASL_LAST;
    if (token) {
        return token_response(c, expected, args, reply);
    }
    if (expected == POP3_EXPECT_SASL_LAST) {
        return POP3_ASK_LOGIN;
    }
    c->expect = POP3_EXPECT_SASL_LAST;
    say(reply, prompt_password);
    return POP3_ASK_BACKEND;
}

/* ---- commands ---- */

static const char *capabilities(const struct pop3_client *c)
{
    switch (c->kind) {
    case POP3_ANY_LOGIN:
        return capabilities_any;
    case POP3_OWN_LOGIN:
        return capabilities_own;
    case POP3_TOKEN_LOGIN:
        break;
    }
    return capabilities_token;
}

static enum pop3_ask on_mailbox(struct pop3_client *c, enum command command, struct buf *reply)
{
    if (c->failure) {
        c->asked_message |= command == COMMAND_MESSAGE;
        return mailbox_after_failure(c, reply);
    }
    if (c->kind == POP3_TOKEN_LOGIN) {
        return log_in_first(c, reply);
    }
    if (command == COMMAND_DELETE) {
        return bad_command(c, reply, "-ERR log in first; DELE and RSET do not start a login\r\n");
    }
    c->asked_message = command == COMMAND_MESSAGE;
    return POP3_ASK_MAILBOX;
}

/* Handles the first command of a login at the backend itself. */
static enum pop3_ask on_own_login(struct pop3_client *c, struct buf *reply)
{
    bool failed = c->failure && login_after_failure(c, reply) == POP3_ASK_FAILED;
    return failed ? POP3_ASK_FAILED : POP3_ASK_MAILBOX;
}

/* Refuses PASS. A login at the backend begins with USER, after which the backend gets the lines; a
 * PASS that comes here is only half a login. */
static enum pop3_ask on_own_pass(struct pop3_client *c, struct buf *reply)
{
    if (c->failure) {
        return mailbox_after_failure(c, reply);
    }
    return bad_command(c, reply, user_first);
}

/* Handles XTPROXY, which a tproxy sends at most once. It is neither a login nor a mailbox command.
 */
static enum pop3_ask on_hops(struct pop3_client *c, struct str list, struct buf *reply)
{
    if (!c->own_id || c->hops.n || pop3_hops_read(&c->hops, list) != OK) {
        return bad_command(c, reply, "-ERR unknown command\r\n");
    }
    if (pop3_hops_since(&c->hops, c->own_id) >= 0) {
        return POP3_ASK_LOOP;
    }
    say(reply, "+OK\r\n");
    return POP3_ASK_NOTHING;
}

static enum pop3_ask on_command(struct pop3_client *c, struct str line, struct buf *reply)
{
    struct str args = line;
    enum command command = find_command(str_word(&args));
    bool own = c->kind == POP3_OWN_LOGIN, token = c->kind == POP3_TOKEN_LOGIN;
    switch (command) {
    case COMMAND_QUIT:
        say(reply, "+OK bye\r\n");
        return POP3_ASK_QUIT;
    case COMMAND_CAPA:
        say(reply, capabilities(c));
        return POP3_ASK_NOTHING;
    case COMMAND_NOOP:
        say(reply, "+OK\r\n");
        return POP3_ASK_NOTHING;
    case COMMAND_USER:
        if (own) {
            return on_own_login(c, reply);
        }
        if (token) {
            return token_user(c, args, reply);
        }
        say(reply, "+OK\r\n");
        return POP3_ASK_BACKEND;
    case COMMAND_PASS:
        if (token) {
            return token_pass(c, args, reply);
        }
        return own ? on_own_pass(c, reply) : POP3_ASK_LOGIN;
    case COMMAND_APOP:
        if (token) {
            return log_in_first(c, reply);
        }
        return own ? on_own_login(c, reply) : POP3_ASK_LOGIN;
    case COMMAND_AUTH:
        if (own && args.n) {
            return on_own_login(c, reply);
        }
        return on_auth(c, args, reply);
    case COMMAND_STLS:
        return bad_command(c, reply,
                           "-ERR no TLS on this port; tproxy adds it towards the mail server\r\n");
    case COMMAND_UNSUPPORTED:
        return bad_command(c, reply, "-ERR not supported\r\n");
    case COMMAND_HOPS:
        return on_hops(c, args, reply);
    case COMMAND_UNKNOWN:
        return bad_command(c, reply, "-ERR unknown command\r\n");
    case COMMAND_MAILBOX:
    case COMMAND_MESSAGE:
    case COMMAND_DELETE:
        return on_mailbox(c, command, reply);
    }
    return POP3_ASK_CLOSE;
}

static enum pop3_ask on_line(struct pop3_client *c, struct str line, struct buf *reply)
{
    enum pop3_expect expected = c->expect;
    if (expected == POP3_EXPECT_COMMAND) {
        return on_command(c, line, reply);
    }
    c->expect = POP3_EXPECT_COMMAND;
    if (str_eq(line, "*")) {
        say(reply, "-ERR authentication cancelled\r\n");
        return POP3_ASK_NOTHING;
    }
    if (c->kind == POP3_TOKEN_LOGIN) {
        return token_response(c, expected, line, reply);
    }
    if (expected == POP3_EXPECT_SASL_USER) {
        c->expect = POP3_EXPECT_SASL_LAST;
        say(reply, prompt_password);
        return POP3_ASK_NOTHING;
    }
    return POP3_ASK_LOGIN;
}

bool pop3_client_needs_kind(const struct pop3_client *c, struct str line)
{
    if (c->expect != POP3_EXPECT_COMMAND || (c->failure && c->unseen)) {
        return false;
    }
    enum command command = find_command(str_word(&line));
    switch (command) {
    case COMMAND_USER:
    case COMMAND_PASS:
    case COMMAND_APOP:
    case COMMAND_MAILBOX:
    case COMMAND_MESSAGE:
        return true;
    case COMMAND_AUTH:
        return line.n > 0;
    case COMMAND_UNKNOWN:
    case COMMAND_QUIT:
    case COMMAND_CAPA:
    case COMMAND_NOOP:
    case COMMAND_STLS:
    case COMMAND_HOPS:
    case COMMAND_UNSUPPORTED:
    case COMMAND_DELETE:
        break;
    }
    return false;
}

bool pop3_client_wants_in(const struct pop3_client *c, enum pop3_ask ask)
{
    switch (ask) {
    case POP3_ASK_BACKEND:
    case POP3_ASK_LOGIN:
    case POP3_ASK_MAILBOX:
        return true;
    case POP3_ASK_NOTHING:
    case POP3_ASK_FAILED:
    case POP3_ASK_LOOP:
    case POP3_ASK_QUIT:
    case POP3_ASK_CLOSE:
        break;
    }
    return c->kind == POP3_TOKEN_LOGIN &&
           (c->expect != POP3_EXPECT_COMMAND || c->credentials->user[0]);
}

const char pop3_too_many[] = "-ERR [SYS/TEMP] too many connections\r\n";

enum pop3_ask pop3_client_line(struct pop3_client *c, struct str line, struct buf *reply)
{
    enum pop3_ask ask = on_line(c, line, reply);
    return c->failure ? after_failure(c, ask, reply) : ask;
}

void pop3_greeting(struct buf *out, const char *installation_id)
{
    int rc = buf_fmt(out, "+OK tproxy %s ready\r\n", installation_id);
    assert(rc == OK);
    (void)rc;
}

/* Returns the response code that stands for the class of the error (RFC 3206, RFC 2449 section 8).
 */
static const char *response_code(enum fail fail)
{
    switch (fail) {
    case FAIL_CONFIG:
    case FAIL_CERT:
        return "SYS/PERM";
    case FAIL_AUTH:
        return "AUTH";
    case FAIL_NONE:
    case FAIL_DNS:
    case FAIL_CONNECT:
    case FAIL_SOCKS:
    case FAIL_TLS:
    case FAIL_TOKEN:
    case FAIL_PROTOCOL:
    case FAIL_TIMEOUT:
    case FAIL_REMOTE:
    case FAIL_LIMIT:
    case FAIL_INTERNAL:
    case FAIL_COUNT:
        return "SYS/TEMP";
    }
    return "SYS/TEMP";
}

bool pop3_has_response_code(const char *reply)
{
    static const char *const codes[] = {"[IN-USE]", "[LOGIN-DELAY]", "[SYS/", "[AUTH]"};
    if (!reply || strncmp(reply, "-ERR ", 5) != 0) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        if (str_istarts(str_of(reply + 5), codes[i])) {
            return true;
        }
    }
    return false;
}

void pop3_failure(struct buf *out, const char *destination, const struct error *err,
                  const char *backend_reply, bool in_use)
{
    char line[POP3_REPLY_MAX - 1]; /* its NUL included, so that CRLF fits */
    if (pop3_has_response_code(backend_reply)) {
        text_fmt(line, sizeof(line), "%s", backend_reply);
    } else {
        text_fmt(line, sizeof(line), "-ERR [%s] destination \"%s\": %s",
                 in_use ? "IN-USE" : response_code(err->fail), destination, err->text);
    }
    say(out, line);
    say(out, "\r\n");
}
