/* The client's side of SOCKS5 (RFC 1928), as SAP's Connectivity Proxy speaks it: to one host and
 * port through the proxy, without authentication or with an access token and the location ID of a
 * Cloud Connector (method 0x80). Pure: bytes in, bytes out.
 *
 * Texts of errors are clauses that lack their subject, the tunnel; no token is ever in them. */
#ifndef TPROXY_LIB_SOCKS5_H
#define TPROXY_LIB_SOCKS5_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/mem.h"
#include "lib/text.h"

enum {
    SOCKS5_HOST_MAX = 255,        /* its length is one octet */
    SOCKS5_TOKEN_MAX = 16 * 1024, /* what we send, at most */
    SOCKS5_LOCATION_MAX = 189,    /* its base64 has a length of one octet */
};

enum socks5_state {
    SOCKS5_METHOD,         /* waits for the proxy to take the method */
    SOCKS5_AUTHENTICATION, /* ... to take the token */
    SOCKS5_CONNECT,        /* ... to have connected */
    SOCKS5_OPEN,           /* what follows is said by the host behind the proxy */
    SOCKS5_FAILED,
    SOCKS5_STATE_COUNT
};

/* "authentication": for what the proxy is waited for, as words in a sentence. Static storage. */
const char *socks5_state_name(enum socks5_state state);

struct socks5_settings {
    const char *host; /* a name, which the proxy resolves, or an IPv4 address */
    uint16_t port;
    const struct secret *token; /* NULL: no authentication */
    const char *location;       /* location ID; NULL or "": none */
};

/* One dialogue. Everything there is to say is composed at its start. */
struct socks5 {
    enum socks5_state state;
    struct secret authentication; /* the message; empty without */
    unsigned char connect[4 + 1 + SOCKS5_HOST_MAX + 2];
    size_t connect_len;
};

/* Begins; *say is to be sent. Nothing of the settings is needed afterwards. ERR: FAIL_CONFIG when
 * the host is an IPv6 address or longer than SOCKS5_HOST_MAX, when the location ID is too long or
 * there is one without a token to send it with; FAIL_TOKEN when the token is empty or too long.
 * In any case socks5_clear at the end. */
int socks5_start(struct socks5 *s, const struct socks5_settings *settings, struct str *say,
                 struct error *err) warn_unused;

/* Looks at what has been received and not been taken before. OK: the state is SOCKS5_OPEN. AGAIN:
 * if *taken is not 0, *say (perhaps empty) is to be sent, and what is left may be given at once;
 * else more has to come. *taken octets have been understood and must not be given again; behind the
 * last of them the host may already speak. *say is valid until the next call.
 *
 * ERR, and the dialogue is over: FAIL_PROTOCOL for what is no SOCKS5; FAIL_TOKEN when the token is
 * refused; FAIL_CONFIG for refusals that only a person can do something about; FAIL_SOCKS for
 * those that may pass. */
int socks5_next(struct socks5 *s, struct str received, size_t *taken, struct str *say,
                struct error *err) warn_unused;

/* Wipes the token. Idempotent. */
void socks5_clear(struct socks5 *s);

#endif
