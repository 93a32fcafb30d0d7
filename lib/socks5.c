/* The client's side of SOCKS5 (RFC 1928). It takes one message of the proxy at a time:
 *
 *              05 00  no authentication
 *   METHOD ----------------------------------------------> CONNECT -- 05 00 .. --> OPEN
 *      |                                                      ^
 *      '------ 05 80  with a token ----> AUTHENTICATION ------'
 *                                                       01 00
 *   any other answer --> FAILED
 *
 * Method 0x80 is SAP's: 01, the token with a length of four octets, the location ID in base64 with
 * a length of one; the answer is 01 and a status. We offer one method and never a choice, because
 * the configuration says which one the proxy wants. */
#include "lib/socks5.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "lib/addr.h"

enum {
    VERSION = 5,
    METHOD_NONE = 0x00,
    METHOD_TOKEN = 0x80,
    METHOD_REFUSED = 0xFF,
    AUTHENTICATION_VERSION = 1,
    COMMAND_CONNECT = 1,
    ADDRESS_IPV4 = 1,
    ADDRESS_NAME = 3,
    ADDRESS_IPV6 = 4,
};

static const char *const state_names[] = {
    [SOCKS5_METHOD] = "choice of a method",
    [SOCKS5_AUTHENTICATION] = "authentication",
    [SOCKS5_CONNECT] = "connection",
    [SOCKS5_OPEN] = "end",
    [SOCKS5_FAILED] = "failure",
};
static_assert(ARRAY_LEN(state_names) == SOCKS5_STATE_COUNT, "every state has its name");

const char *socks5_state_name(enum socks5_state state)
{
    return state_names[state];
}

/* ---- what we say ---- */

/* Writes to *at, which moves on; the caller has computed the room. */
static void put(unsigned char **at, const void *p, size_t n)
{
    memcpy(*at, p, n);
    *at += n;
}

static void put_octet(unsigned char **at, size_t value)
{
    *(*at)++ = (unsigned char)value;
}

static int compose_authentication(struct socks5 *s, struct str token, struct str location,
                                  struct error *err)
{
    char base64[TEXT_BASE64_SIZE(SOCKS5_LOCATION_MAX)];
    if (token.n == 0 || token.n > SOCKS5_TOKEN_MAX) {
        return error_set(err, FAIL_TOKEN,
                         "the access token for the proxy has %zu octets; 1 to %d are possible",
                         token.n, SOCKS5_TOKEN_MAX);
    }
    if (location.n > SOCKS5_LOCATION_MAX) {
        return error_set(err, FAIL_CONFIG, "the location ID has %zu octets; %d are possible",
                         location.n, SOCKS5_LOCATION_MAX);
    }
    size_t base64_len = text_base64(base64, location.p, location.n);
    struct secret *message = &s->authentication;
    message->n = 1 + 4 + token.n + 1 + base64_len;
    message->p = mem_zalloc(message->n + 1);
    unsigned char *at = (unsigned char *)message->p;
    put_octet(&at, AUTHENTICATION_VERSION);
    for (int shift = 24; shift >= 0; shift -= 8) {
        put_octet(&at, token.n >> shift & 0xFF);
    }
    put(&at, token.p, token.n);
    put_octet(&at, base64_len);
    put(&at, base64, base64_len);
    return OK;
}

static int compose_connect(struct socks5 *s, struct str host, uint16_t port, struct error *err)
{
    union addr addr;
    if (host.n && host.p[host.n - 1] == '.') {
        host.n--; /* the dot is for a resolver's search list, and the proxy compares names */
    }
    if (host.n && memchr(host.p, ':', host.n)) {
        return error_set(err, FAIL_CONFIG,
                         "the host is an IPv6 address, which no SOCKS5 proxy of SAP takes");
    }
    if (host.n == 0 || host.n > SOCKS5_HOST_MAX) {
        return error_set(err, FAIL_CONFIG, "the host name has %zu octets; 1 to %d are possible",
                         host.n, SOCKS5_HOST_MAX);
    }
    unsigned char *at = s->connect;
    put_octet(&at, VERSION);
    put_octet(&at, COMMAND_CONNECT);
    put_octet(&at, 0);
    if (addr_parse(host, &addr) == OK) {
        put_octet(&at, ADDRESS_IPV4);
        put(&at, &addr.v4.sin_addr, sizeof(addr.v4.sin_addr));
    } else {
        put_octet(&at, ADDRESS_NAME);
        put_octet(&at, host.n);
        put(&at, host.p, host.n);
    }
    put_octet(&at, port >> 8);
    put_octet(&at, port & 0xFF);
    s->connect_len = (size_t)(at - s->connect);
    return OK;
}

int socks5_start(struct socks5 *s, const struct socks5_settings *settings, struct str *say,
                 struct error *err)
{
    static const char none[] = {VERSION, 1, METHOD_NONE};
    static const char token[] = {VERSION, 1, (char)METHOD_TOKEN};
    struct str location = str_of(settings->location ? settings->location : "");
    *s = (struct socks5){.state = SOCKS5_METHOD};
    int composed = compose_connect(s, str_of(settings->host), settings->port, err);
    if (composed == OK && settings->token) {
        struct str value = {settings->token->p, settings->token->n};
        composed = compose_authentication(s, value, location, err);
    } else if (composed == OK && location.n) {
        composed = error_set(err, FAIL_CONFIG,
                             "a location ID can only be sent with an access token, and the proxy "
                             "is used without");
    }
    *say = settings->token ? (struct str){token, sizeof(token)} : (struct str){none, sizeof(none)};
    if (composed != OK) {
        s->state = SOCKS5_FAILED;
    }
    return composed;
}

/* ---- messages of the proxy; these functions return the length of the message, 0 when more has to
 * come, and set the state ---- */

static size_t no_socks5(struct socks5 *s, unsigned octet, struct error *err)
{
    error_set(err, FAIL_PROTOCOL, "the peer is not a SOCKS5 proxy (0x%02X for the %s)", octet,
              socks5_state_name(s->state));
    s->state = SOCKS5_FAILED;
    return 0;
}

static size_t read_method(struct socks5 *s, const unsigned char *p, size_t n, struct error *err)
{
    unsigned offered = s->authentication.p ? METHOD_TOKEN : METHOD_NONE;
    if (n && p[0] != VERSION) {
        return no_socks5(s, p[0], err);
    }
    if (n < 2) {
        return 0;
    }
    if (p[1] == METHOD_REFUSED) {
        error_set(err, FAIL_CONFIG,
                  s->authentication.p ? "the proxy takes no access token (it refuses method 0x80)"
                                      : "the proxy wants an access token (it refuses method 0x00)");
        s->state = SOCKS5_FAILED;
    } else if (p[1] != offered) {
        error_set(err, FAIL_PROTOCOL, "the proxy chose method 0x%02X, which was not offered", p[1]);
        s->state = SOCKS5_FAILED;
    } else {
        s->state = s->authentication.p ? SOCKS5_AUTHENTICATION : SOCKS5_CONNECT;
    }
    return 2;
}

static size_t read_authentication(struct socks5 *s, const unsigned char *p, size_t n,
                                  struct error *err)
{
    if (n && p[0] != AUTHENTICATION_VERSION) {
        return no_socks5(s, p[0], err);
    }
    if (n < 2) {
        return 0;
    }
    if (p[1]) {
        error_set(err, FAIL_TOKEN, "the proxy refuses the access token (status %u)", p[1]);
    }
    s->state = p[1] ? SOCKS5_FAILED : SOCKS5_CONNECT;
    return 2;
}

/* Fails with the meaning that SAP gives to a reply; RFC 1928 section 6 says less about 1 to 8. */
static void proxy_refused(struct socks5 *s, unsigned reply, struct error *err)
{
    static const struct {
        enum fail fail;
        const char *text;
    } known[] = {
        {FAIL_SOCKS, "the proxy refuses for a reason that is not known"},
        {FAIL_SOCKS, "general failure, or the server closed the connection"},
        {FAIL_CONFIG, "the Cloud Connector does not expose this host and port"},
        {FAIL_SOCKS, "the Cloud Connector is not connected, or its location ID is unknown"},
        {FAIL_SOCKS, "the Cloud Connector cannot reach the host"},
        {FAIL_TOKEN, "authentication failure"},
        [7] = {FAIL_CONFIG, "the proxy does not support CONNECT"},
        {FAIL_CONFIG, "the proxy does not support this kind of address"},
    };
    bool is_known = reply < ARRAY_LEN(known) && known[reply].text;
    size_t i = is_known ? reply : 0;
    error_set(err, known[i].fail, "%s (SOCKS5 reply %u)", known[i].text, reply);
    s->state = SOCKS5_FAILED;
}

static size_t read_reply(struct socks5 *s, const unsigned char *p, size_t n, struct error *err)
{
    enum { FIXED = 4, PORT = 2 };
    if (n && p[0] != VERSION) {
        return no_socks5(s, p[0], err);
    }
    if (n >= 2 && p[1]) {
        proxy_refused(s, p[1], err);
        return 0;
    }
    if (n <= FIXED) {
        return 0;
    }
    size_t address;
    switch (p[3]) {
    case ADDRESS_IPV4:
        address = 4;
        break;
    case ADDRESS_NAME:
        address = 1 + (size_t)p[4];
        break;
    case ADDRESS_IPV6:
        address = 16;
        break;
    default:
        return no_socks5(s, p[3], err);
    }
    if (n < FIXED + address + PORT) {
        return 0;
    }
    s->state = SOCKS5_OPEN;
    return FIXED + address + PORT;
}

/* Returns the message to send in a state that was just entered. */
static struct str message_for(const struct socks5 *s)
{
    switch (s->state) {
    case SOCKS5_AUTHENTICATION:
        return (struct str){s->authentication.p, s->authentication.n};
    case SOCKS5_CONNECT:
        return (struct str){(const char *)s->connect, s->connect_len};
    case SOCKS5_METHOD:
    case SOCKS5_OPEN:
    case SOCKS5_FAILED:
    case SOCKS5_STATE_COUNT:
        break;
    }
    return str_of("");
}

int socks5_next(struct socks5 *s, struct str received, size_t *taken, struct str *say,
                struct error *err)
{
    const unsigned char *p = (const unsigned char *)received.p;
    assert(s->state < SOCKS5_OPEN);
    *taken = 0;
    *say = str_of("");
    switch (s->state) {
    case SOCKS5_METHOD:
        *taken = read_method(s, p, received.n, err);
        break;
    case SOCKS5_AUTHENTICATION:
        *taken = read_authentication(s, p, received.n, err);
        break;
    case SOCKS5_CONNECT:
        *taken = read_reply(s, p, received.n, err);
        break;
    case SOCKS5_OPEN:
    case SOCKS5_FAILED:
    case SOCKS5_STATE_COUNT:
        break;
    }
    if (s->state == SOCKS5_FAILED) {
        return ERR;
    }
    if (*taken) {
        *say = message_for(s);
    }
    return s->state == SOCKS5_OPEN ? OK : AGAIN;
}

void socks5_clear(struct socks5 *s)
{
    secret_clear(&s->authentication);
}
