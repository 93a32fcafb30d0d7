/* POP3 as tproxy speaks it with a client before the backend takes over: a line comes in, an answer
 * goes out, and the session learns what the line asks of it. No I/O. RFC 1939, 2449 (CAPA), 5034
 * (AUTH), 3206 (response codes). */
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
    POP3_LONG_MAX = 16 * 1024, /* of AUTH, PASS and SASL lines: they may carry a token */
    POP3_REPLY_MAX = 512,      /* octets of a status line with its end, RFC 2449 section 4 */
    POP3_LOGIN_FAILURES = 3,   /* then the session ends */
    POP3_BAD_COMMANDS = 10,    /* likewise */
};

/* How a target's clients log in. */
enum pop3_login_kind {
    POP3_ANY_LOGIN,   /* any login is accepted and dropped: tproxy has the credentials */
    POP3_OWN_LOGIN,   /* the client logs in at the backend itself; its commands are relayed */
    POP3_TOKEN_LOGIN, /* the client says who it is, with a refresh token or an authorization code */
};

/* What the next line is: a command, or one of the answers to a SASL prompt. */
enum pop3_expect { POP3_EXPECT_COMMAND, POP3_EXPECT_SASL_USER, POP3_EXPECT_SASL_LAST };

/* The dialogue with one client. Initialise with pop3_client_init; owns nothing. */
struct pop3_client {
    enum pop3_login_kind kind : 8;
    enum pop3_expect expect : 8;
    enum sasl_mechanism mechanism : 8; /* whose answer is expected */
    unsigned char bad_commands;
    bool asked_message;                   /* RETR or TOP waits for a login, or was refused */
    struct sasl_credentials *credentials; /* the caller's; what the client said, complete when
                                             POP3_ASK_LOGIN is returned. POP3_TOKEN_LOGIN only */
    const char *failure; /* the caller's: the line, with its end, that has told the client of a
                            failed login; NULL: no login has failed */
    /* number of octets at the start of the input that had arrived before `failure` was sent, so
     * the client sent them without seeing it. The caller counts down */
    size_t unseen;
    /* the caller's, set after pop3_client_init: the id of this tproxy. NULL: XTPROXY is an
     * unknown command */
    const char *own_id;
    struct hops hops; /* the tproxies that the client says it has come through */
};

void pop3_client_init(struct pop3_client *c, enum pop3_login_kind kind,
                      struct sasl_credentials *credentials);

/* What a line asks of the session. "Answered" means that `reply` holds the answer. */
enum pop3_ask {
    POP3_ASK_NOTHING, /* answered */
    POP3_ASK_BACKEND, /* answered, and a login is under way: the backend will be needed */
    POP3_ASK_LOGIN,   /* the login is complete; its answer is the backend's */
    POP3_ASK_MAILBOX, /* the line is for the backend, once that is logged in */
    POP3_ASK_FAILED,  /* answered; counts as a failed login */
    POP3_ASK_LOOP,    /* not answered: the client is a tproxy, and its login has been here before */
    POP3_ASK_QUIT,    /* answered; the client takes its leave */
    POP3_ASK_CLOSE,   /* answered; the connection is to be closed */
};

/* The longest line to accept next, given the beginning of the input. */
size_t pop3_client_line_max(const struct pop3_client *c, struct str input);

/* Is this input, its first line not yet complete perhaps, no POP3 at all? Then a word for the log
 * that says what it looks like ("HTTP", "TLS"), and `reply` has the answer; else NULL. */
const char *pop3_foreign(struct str input, struct buf *reply);

/* Takes one line, without its end. `reply` has room for POP3_REPLY_MAX octets.
 *
 * After a failed login (`failure`) no message may be deleted that the client did not get, whenever
 * its commands were sent:
 * - Mailbox commands and logins that the client sent before it could see the failure (`unseen`) get
 *   the same answer.
 * - Later mailbox commands are refused, too: the client has to log in again.
 * - When RETR or TOP has been refused, so is every further login on this connection.
 * DELE and RSET never ask for a login, nor does PASS where the client logs in at the backend. */
enum pop3_ask pop3_client_line(struct pop3_client *c, struct str line, struct buf *reply);

/* May this line begin a login, so that its answer depends on the kind of login? The caller keeps
 * such a line back until the kind is known; other lines are answered as for POP3_ANY_LOGIN. Lines
 * that fail with an earlier login do not need the kind. */
bool pop3_client_needs_kind(const struct pop3_client *c, struct str line);

/* Has the client begun to log in or sent a mailbox command, with the line that asked for `ask` or
 * before? Until then it gives way when there are too many clients. */
bool pop3_client_wants_in(const struct pop3_client *c, enum pop3_ask ask);

/* The line for a client that gets no place, or loses it. */
extern const char pop3_too_many[];

/* The greeting, with an id that a loop is recognised by. It has no <...@...>, for clients would try
 * APOP (RFC 1939 section 7). */
void pop3_greeting(struct buf *out, const char *installation_id);

/* Does a backend's reply begin with -ERR and one of the codes that clients act upon ([IN-USE],
 * [LOGIN-DELAY], [SYS/...], [AUTH])? NULL: no. */
bool pop3_has_response_code(const char *reply);

/* The line that tells the client of a failure: response code, destination, what happened; at most
 * POP3_REPLY_MAX octets. A reply of the backend that carries a response code of its own goes
 * through as it is (`backend_reply`, without its end; NULL or empty without such a reply). in_use:
 * another session has the mailbox, whatever the class of the error. */
void pop3_failure(struct buf *out, const char *destination, const struct error *err,
                  const char *backend_reply, bool in_use);

#endif
