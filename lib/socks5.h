/* The client's side of SOCKS5 (RFC 1928), as SAP's Connectivity Proxy speaks it. It connects to one
 * host and port through the proxy, without authentication or with an access token and the location
 * ID of a Cloud Connector (method 0x80). Pure: bytes in, bytes out.
 *
 * The text of an error continues "no tunnel to ... through ...: " and never contains a token. */
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
    SOCKS5_TOKEN_MAX = 16 * 1024, /* limit for what we send */
    SOCKS5_LOCATION_MAX = 189,    /* its base64 has a length of one octet */
};

enum socks5_state {
    SOCKS5_METHOD,         /* waits for the proxy to accept the method */
    SOCKS5_AUTHENTICATION, /* waits for the proxy to accept the token */
    SOCKS5_CONNECT,        /* waits for the proxy to connect */
    SOCKS5_OPEN,           /* the host behind the proxy speaks */
    SOCKS5_FAILED,
    SOCKS5_STATE_COUNT
};

/* Returns the name of what the proxy still has to do, as words in a sentence: "authentication".
 * Static storage. */
const char *socks5_state_name(enum socks5_state state);

struct socks5_settings {
    const char *host; /* a name, which the proxy resolves, or an IPv4 address */
    uint16_t port;
    const struct secret *token; /* NULL: no authentication */
    const char *location;       /* location ID; NULL or "": none */
};

/* One dialogue. All its messages are composed at its start. */
struct socks5 {
    enum socks5_state state;
    struct secret authentication; /* the message; empty without a token */
    unsigned char connect[4 + 1 + SOCKS5_HOST_MAX + 2];
    size_t connect_len;
};

/* Begins a dialogue; *say is to be sent. The settings are not needed afterwards. ERR: FAIL_CONFIG
 * when the host is an IPv6 address or longer than SOCKS5_HOST_MAX, when the location ID is too
 * long, or when there is a location ID without a token to send it with; FAIL_TOKEN when the token
 * is empty or too long. The caller calls socks5_clear at the end in any case. */
int socks5_start(struct socks5 *s, const struct socks5_settings *settings, struct str *say,
                 struct error *err) warn_unused;

/* Reads octets that were received and not taken before. OK: the state is SOCKS5_OPEN. AGAIN: if
 * *taken is not 0, *say (perhaps empty) is to be sent, and the remaining octets may be given at
 * once; else more has to come. *taken octets have been understood and must not be given again; the
 * host may already speak behind the last of them. *say is valid until the next call.
 *
 * ERR, and the dialogue is over: FAIL_PROTOCOL when the peer is not a SOCKS5 proxy; FAIL_TOKEN when
 * the token is refused; FAIL_CONFIG for refusals that only a person can resolve; FAIL_SOCKS for
 * those that may pass. */
int socks5_next(struct socks5 *s, struct str received, size_t *taken, struct str *say,
                struct error *err) warn_unused;

/* Wipes the token. Idempotent. */
void socks5_clear(struct socks5 *s);

#endif
