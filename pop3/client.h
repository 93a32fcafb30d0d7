/* Conducts the POP3 dialogue with a client before the backend takes over: takes a line of the
 * client, gives the answer, and tells the session what the line asks for. Pure. Sources: RFC 1939,
 * 2449 (CAPA), 5034 (AUTH), 3206 (response codes). */
#ifndef TPROXY_POP3_CLIENT_H
#define TPROXY_POP3_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"
#include "pop3/hops.h"
#include "pop3/sasl.h"

enum {
    POP3_COMMAND_MAX = 255,    /* octets of a command line with its end, RFC 2449 section 4 */
    POP3_LONG_MAX = 16 * 1024, /* octets of an AUTH, PASS or SASL line, which may carry a token */
    POP3_REPLY_MAX = 512,      /* octets of a status line with its end, RFC 2449 section 4 */
    POP3_LOGIN_FAILURES = 3,   /* failed logins that end the session */
    POP3_BAD_COMMANDS = 10,    /* bad commands that end the session */
};

/* The way in which a target's clients log in. */
enum pop3_login_kind {
    POP3_ANY_LOGIN,   /* any login is accepted and dropped: tproxy has the credentials */
    POP3_OWN_LOGIN,   /* the client logs in at the backend itself; its commands are relayed */
    POP3_TOKEN_LOGIN, /* the client sends its user and a refresh token or an authorization code */
};

/* The kind of the next line: a command, or one of the answers to a SASL prompt. */
enum pop3_expect { POP3_EXPECT_COMMAND, POP3_EXPECT_SASL_USER, POP3_EXPECT_SASL_LAST };

/* The dialogue with one client. Initialise with pop3_client_init. It owns nothing. */
struct pop3_client {
    enum pop3_login_kind kind : 8;
    enum pop3_expect expect : 8;
    enum sasl_mechanism mechanism : 8; /* the mechanism of the expected answer */
    unsigned char bad_commands;
    bool asked_message;                   /* RETR or TOP waits for a login, or was refused */
    struct sasl_credentials *credentials; /* the caller's; the client's credentials, complete when
                                             POP3_ASK_LOGIN is returned. POP3_TOKEN_LOGIN only */
    const char *failure; /* the caller's: the line, with its end, that has told the client about a
                            failed login; NULL: no login has failed */
    /* number of octets at the start of the input that had arrived before `failure` was sent, so
     * the client sent them without seeing it. The caller counts down */
    size_t unseen;
    /* the caller's, set after pop3_client_init: the id of this tproxy. NULL: XTPROXY is an
     * unknown command */
    const char *own_id;
    struct hops hops; /* the tproxies that the login has come through, according to the client */
};

/* Initialises a dialogue. `credentials` belongs to the caller and is filled for POP3_TOKEN_LOGIN;
 * it may be NULL for the other kinds. */
void pop3_client_init(struct pop3_client *c, enum pop3_login_kind kind,
                      struct sasl_credentials *credentials);

/* The session's task after a line. "Answered" means that `reply` holds the answer. */
enum pop3_ask {
    POP3_ASK_NOTHING, /* answered */
    POP3_ASK_BACKEND, /* answered; a login has begun, so the backend will be needed */
    POP3_ASK_LOGIN,   /* not answered: the login is complete, and the backend's result decides */
    POP3_ASK_MAILBOX, /* not answered: the line is for the backend after the login */
    POP3_ASK_FAILED,  /* answered; counts as a failed login */
    POP3_ASK_LOOP,    /* not answered: the client is a tproxy, and its login has been here before */
    POP3_ASK_QUIT,    /* answered; the client has said QUIT */
    POP3_ASK_CLOSE,   /* answered; the connection has to be closed */
};

/* Returns the maximum length of the next line with its end. `input` is the beginning of the line.
 */
size_t pop3_client_line_max(const struct pop3_client *c, struct str input);

/* Other protocols that a client may speak on the port of a target. */
enum pop3_foreign { POP3_NOT_FOREIGN, POP3_FOREIGN_HTTP, POP3_FOREIGN_TLS };

/* Recognises input of another protocol, even if its first line is not complete yet, and puts the
 * answer into `reply`. Returns POP3_NOT_FOREIGN for all other input. */
enum pop3_foreign pop3_foreign(struct str input, struct buf *reply);

/* Takes one line, without its end. `reply` has room for POP3_REPLY_MAX octets. Returns the
 * session's task.
 *
 * After a failed login (`failure`) no message may be deleted that the client did not get, no matter
 * when it sent its commands:
 * - Mailbox commands and logins that the client sent before it could see the failure (`unseen`) get
 *   the same answer.
 * - Later mailbox commands are refused, too: the client has to log in again.
 * - When RETR or TOP has been refused, so is every further login on this connection.
 * DELE and RSET never ask for a login, nor does PASS where the client logs in at the backend. */
enum pop3_ask pop3_client_line(struct pop3_client *c, struct str line, struct buf *reply);

/* Tells whether this line may begin a login, so that its answer depends on the kind of login. The
 * caller keeps such a line back until the kind is known; other lines are answered as for
 * POP3_ANY_LOGIN. A line that fails because of an earlier login does not need the kind. */
bool pop3_client_needs_kind(const struct pop3_client *c, struct str line);

/* Tells whether the client has begun to log in or has sent a mailbox command, with the line that
 * asked for `ask` or before. Until then it may lose its place when there are too many clients. */
bool pop3_client_wants_in(const struct pop3_client *c, enum pop3_ask ask);

/* The line, with its end, for a client that gets no place or loses it. */
extern const char pop3_too_many[];

/* Appends the greeting, with the id by which a loop is recognised. The greeting has no <...@...>,
 * because with it clients would try APOP (RFC 1939 section 7). */
void pop3_greeting(struct buf *out, const char *installation_id);

/* Tells whether a backend's reply begins with -ERR and one of the codes that clients act upon:
 * [IN-USE], [LOGIN-DELAY], [SYS/...], [AUTH]. Returns false for NULL. */
bool pop3_has_response_code(const char *reply);

/* Appends the line that tells the client about a failure: response code, destination, error; at
 * most POP3_REPLY_MAX octets. A reply of the backend with a response code of its own is passed on
 * unchanged (`backend_reply`, without its end; NULL or empty without a reply). in_use: another
 * session has the mailbox, whatever the class of the error. */
void pop3_failure(struct buf *out, const char *destination, const struct error *err,
                  const char *backend_reply, bool in_use);

#endif
