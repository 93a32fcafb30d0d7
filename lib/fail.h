/* Failure classes for work that is done for somebody else. The code that meets a failure names its
 * class and says in a sentence what happened. The code that decides (what to tell the client,
 * whether to try again, which condition to write) switches over the class. */
#ifndef TPROXY_LIB_FAIL_H
#define TPROXY_LIB_FAIL_H

#include <stdbool.h>

#include "lib/base.h"

enum fail {
    FAIL_NONE,
    FAIL_CONFIG,   /* our instructions cannot be carried out: a person must change something */
    FAIL_DNS,      /* the name did not resolve */
    FAIL_CONNECT,  /* no address accepted the connection */
    FAIL_SOCKS,    /* the SOCKS5 proxy refused */
    FAIL_TLS,      /* no TLS with this peer: handshake, versions, STLS */
    FAIL_CERT,     /* the peer's certificate is not trusted */
    FAIL_TOKEN,    /* no access token could be obtained */
    FAIL_AUTH,     /* the peer refused our credentials */
    FAIL_PROTOCOL, /* the peer has violated its protocol */
    FAIL_TIMEOUT,  /* the peer was silent beyond its deadline */
    FAIL_REMOTE,   /* the peer said that it cannot serve us, or went away */
    FAIL_LIMIT,    /* one of our limits was reached */
    FAIL_INTERNAL, /* a mistake of ours, or the system refused a resource */
    FAIL_COUNT
};

/* Longest sentence about a failure, with its NUL. */
enum { FAIL_TEXT_MAX = 320 };

/* A failure on its way from the code that met it to the code that decides. `text` is for people:
 * one line without credentials, in which text from a peer is already sanitised. */
struct error {
    enum fail fail;
    int code; /* the errno of a connection that failed; 0: the failure is another one */
    /* FAIL_TOKEN: the proxy in front of the peer refuses our token, not the peer itself */
    bool on_the_way;
    char text[FAIL_TEXT_MAX];
};

/* Returns the name of the class for logs and metric labels: "dns", "connect", ... Static
 * storage. */
const char *fail_name(enum fail fail);

/* Tells whether the same attempt may succeed later without anybody changing anything. */
bool fail_may_pass(enum fail fail);

/* Fills *err and returns ERR, so that a function can end with it. err may be NULL. The text is cut
 * at FAIL_TEXT_MAX; control characters are replaced. */
int error_set(struct error *err, enum fail fail, const char *fmt, ...) printf_like(3, 4);

#endif
