/* Conducts the dialogue with the backend until the login is complete: takes one line of the backend
 * and gives the next command. Pure. Sources: RFC 1939 (USER, PASS, APOP), 2449 (CAPA), 2595 (STLS),
 * 5034 (AUTH), and Google's and Microsoft's XOAUTH2. */
#ifndef TPROXY_POP3_LOGIN_H
#define TPROXY_POP3_LOGIN_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "pop3/client.h"

struct destination;

/* Maximum length in octets of a line of a backend. A SASL challenge may exceed the 512 octets of a
 * reply. */
enum { POP3_BACKEND_LINE_MAX = 4096 };

/* The capabilities of a backend. Unless they are `known`, the other members mean nothing. */
struct pop3_caps {
    bool known, stls, plain, xoauth2;
    bool auth_codes; /* AUTH-RESP-CODE: a refusal of the credentials says [AUTH] (RFC 3206) */
};

/* The capabilities that earlier logins have learned, in clear text and under TLS, where they may
 * differ (RFC 2595 section 4). Later logins need not ask again. The caller keeps them from one
 * login to the next. */
struct pop3_memory {
    struct pop3_caps clear, secure;
};

enum pop3_login_state {
    POP3_LOGIN_GREETING,
    POP3_LOGIN_HOPS,
    POP3_LOGIN_CAPA,
    POP3_LOGIN_CAPA_LIST,
    POP3_LOGIN_STLS,
    POP3_LOGIN_HANDSHAKE,
    POP3_LOGIN_APOP,
    POP3_LOGIN_USER,
    POP3_LOGIN_PASS,
    POP3_LOGIN_PLAIN_START,
    POP3_LOGIN_PLAIN,
    POP3_LOGIN_PLAIN_MESSAGE,
    POP3_LOGIN_XOAUTH2,
    POP3_LOGIN_XOAUTH2_TOKEN,
    POP3_LOGIN_XOAUTH2_REFUSED,
    POP3_LOGIN_READY,
    POP3_LOGIN_FAILED,
    POP3_LOGIN_STATES
};

/* The next step of the caller. It always sends `out` first, unless that is empty. */
enum pop3_login_next {
    POP3_NEXT_LINE, /* pass on the next line */
    POP3_NEXT_TLS,  /* begin TLS, then call pop3_login_secured(). Bytes after this line are an
                       attack */
    POP3_NEXT_DONE, /* logged in; `reply` is the backend's last line */
    POP3_NEXT_FAIL, /* `err` says why, `reply` is the backend's last line */
};

/* One login. Wipe it with pop3_login_wipe. */
struct pop3_login {
    const struct destination *dest; /* the caller's */
    const char *user;               /* the mail user; the caller's, or the destination's */
    const struct secret *token;     /* the caller's; for XOAUTH2 */
    const char *own_id;             /* the caller's; a greeting that contains it is our own */
    /* the caller's, set after pop3_login_init: the tproxies that the login has come through;
     * NULL: no other tproxy */
    const struct hops *before;
    struct pop3_memory memory; /* includes what this login has learned */
    enum pop3_login_state state;
    bool secure;       /* TLS is established */
    bool shows;        /* `out` contains credentials */
    bool in_use;       /* refused, because another session has the mailbox */
    bool proved;       /* refused, although the backend has accepted the credentials */
    bool stls_refused; /* STLS is wanted, but the backend does not offer or refuses it: the login
                          goes on in clear text */
    unsigned capa_lines;
    struct pop3_caps learning;
    char timestamp[128];        /* of the greeting, with its brackets; "": the greeting has none */
    char reply[POP3_REPLY_MAX]; /* the last status line, printable */
    char challenge[256];        /* the backend's reason for the refusal of a token, printable */
    struct secret sent;         /* the response of AUTH or the digest of APOP that was sent */
    struct buf out;
    struct error err;
};

/* Initialises a login that waits for the greeting. Copies *memory; all other pointers must stay
 * valid as long as the login. `user` is the mail user; NULL: that of the destination. secure: TLS
 * is established already (pop3s). */
void pop3_login_init(struct pop3_login *login, const struct destination *dest, const char *user,
                     const struct secret *token, const struct pop3_memory *memory,
                     const char *own_id, bool secure);

/* Takes a line of the backend, without its end. Returns the next step. */
enum pop3_login_next pop3_login_line(struct pop3_login *login, struct str line);

/* Goes on after the TLS handshake. Returns the next step. */
enum pop3_login_next pop3_login_secured(struct pop3_login *login);

/* Returns what the login waits for, for the message of a timeout ("the greeting", "the answer to
 * PASS"; static storage). */
const char *pop3_login_awaited(const struct pop3_login *login);

/* Wipes and frees the output and the secrets of the login. */
void pop3_login_wipe(struct pop3_login *login);

#endif
