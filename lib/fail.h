/* Every way in which work for somebody else can fail, as a type. Who reports a failure names its
 * class and says in a sentence what happened; who decides (what to tell the client, whether to try
 * again, which condition to write) switches over the class. */
#ifndef TPROXY_LIB_FAIL_H
#define TPROXY_LIB_FAIL_H

#include <stdbool.h>

#include "lib/base.h"

enum fail {
    FAIL_NONE,
    FAIL_CONFIG,   /* what we were told to do cannot be done: a person must change something */
    FAIL_DNS,      /* the name did not resolve */
    FAIL_CONNECT,  /* no address accepted the connection */
    FAIL_SOCKS,    /* the SOCKS5 proxy refused */
    FAIL_TLS,      /* no TLS with this peer: handshake, versions, STLS */
    FAIL_CERT,     /* the peer's certificate is not to be trusted */
    FAIL_TOKEN,    /* no access token to be had */
    FAIL_AUTH,     /* the peer refused our credentials */
    FAIL_PROTOCOL, /* the peer said what its protocol does not allow */
    FAIL_TIMEOUT,  /* the peer was silent beyond its deadline */
    FAIL_REMOTE,   /* the peer said that it cannot serve us, or went away */
    FAIL_LIMIT,    /* a bound of ours was reached */
    FAIL_INTERNAL, /* our own mistake, or the system refused a resource */
    FAIL_COUNT
};

/* Longest sentence about a failure, with its NUL. */
enum { FAIL_TEXT_MAX = 320 };

/* A failure on its way from who met it to who decides. `text` is for people: one line, no
 * credentials, peer text in it is already sanitised. */
struct error {
    enum fail fail;
    /* FAIL_TOKEN: the proxy in front of the peer refuses our token, and not the peer */
    bool on_the_way;
    char text[FAIL_TEXT_MAX];
};

/* Name of the class in logs and as a metric label: "dns", "connect", ... Static storage. */
const char *fail_name(enum fail fail);

/* May the same attempt succeed later without anybody changing anything? */
bool fail_may_pass(enum fail fail);

/* Fills *err and returns ERR, so that a function can end with it. err may be NULL. The text is cut
 * at FAIL_TEXT_MAX; control characters are replaced. */
int error_set(struct error *err, enum fail fail, const char *fmt, ...) printf_like(3, 4);

#endif
