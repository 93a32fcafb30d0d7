/* The dialogue with the backend up to its last +OK: one reply line in, the next command out. No
 * I/O. RFC 1939 (USER, PASS, APOP), 2449 (CAPA), 2595 (STLS), 5034 (AUTH), and Google's and
 * Microsoft's XOAUTH2. */
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

/* Longest line accepted from a backend; a SASL challenge may pass the 512 octets of a reply. */
enum { POP3_BACKEND_LINE_MAX = 4096 };

/* What a backend offers. Of what is not `known` nothing has been learned. */
struct pop3_caps {
    bool known, stls, plain, xoauth2;
    bool auth_codes; /* AUTH-RESP-CODE: a refusal of the credentials says [AUTH] (RFC 3206) */
};

/* What earlier logins have learned, in clear text and under TLS (the answers may differ, RFC 2595
 * section 4); spares later ones the question. Kept by the caller from one login to the next. */
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

/* What the caller does next. In every case it sends `out` first, when that is not empty. */
enum pop3_login_next {
    POP3_NEXT_LINE, /* pass on the next line */
    POP3_NEXT_TLS,  /* begin TLS; anything that came behind this line is an attack. Then
                       pop3_login_secured() */
    POP3_NEXT_DONE, /* logged in; `reply` is the backend's last line */
    POP3_NEXT_FAIL, /* `err` says why, `reply` is the backend's last line */
};

/* One login. Wipe it with pop3_login_wipe. */
struct pop3_login {
    const struct destination *dest; /* the caller's */
    const char *user;               /* the caller's, or the destination's */
    const struct secret *token;     /* the caller's; for XOAUTH2 */
    const char *own_id;             /* the caller's; a greeting that carries it is our own */
    /* the caller's, set after pop3_login_init: the tproxies that the login has come through;
     * NULL: no other tproxy */
    const struct hops *before;
    struct pop3_memory memory; /* with what this login has learned */
    enum pop3_login_state state;
    bool secure;       /* TLS stands */
    bool shows;        /* `out` carries credentials */
    bool in_use;       /* refused, because another session has the mailbox */
    bool proved;       /* refused, but not for the credentials, which the backend has accepted */
    bool stls_refused; /* wanted, not to be had: we go on in clear text */
    unsigned capa_lines;
    struct pop3_caps learning;
    char timestamp[128];        /* of the greeting, with its brackets; "" when it has none */
    char reply[POP3_REPLY_MAX]; /* the last status line, printable */
    char challenge[256];        /* what the backend said to a refused token, printable */
    struct secret sent;         /* the response of AUTH or the digest of APOP, as it was sent */
    struct buf out;
    struct error err;
};

/* Starts with the wait for the greeting. user: who logs in; NULL: the destination's. secure: TLS
 * stands already (pop3s). */
void pop3_login_init(struct pop3_login *login, const struct destination *dest, const char *user,
                     const struct secret *token, const struct pop3_memory *memory,
                     const char *own_id, bool secure);

/* Takes a line of the backend, without its end. */
enum pop3_login_next pop3_login_line(struct pop3_login *login, struct str line);

/* TLS stands now. */
enum pop3_login_next pop3_login_secured(struct pop3_login *login);

/* What we wait for, for the message of a timeout: "the greeting", "the answer to PASS". */
const char *pop3_login_awaited(const struct pop3_login *login);

void pop3_login_wipe(struct pop3_login *login);

#endif
