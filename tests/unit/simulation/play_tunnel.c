/* The Connectivity Proxy of the simulation: SOCKS5 with and without a token (RFC 1928, SAP's method
 * 0x80), every reply, and a mail server that may speak in the same packet as the reply. */
#include "tests/unit/simulation/play.h"

enum {
    VERSION = 5,
    METHOD_NONE = 0x00,
    METHOD_TOKEN = 0x80,
    TOKEN_VERSION = 1,
    ADDRESS_IPV4 = 1,
    ADDRESS_NAME = 3,
    ADDRESS_IPV6 = 4,
};

void tunnel_cast(struct server *s)
{
    s->tunnelled = true;
    s->tunnel.stage = TUNNEL_METHOD;
    s->tunnel.method = play.with_token ? METHOD_TOKEN : METHOD_NONE;
    if (play.with_token && play.tokens_refused) {
        play.tokens_refused--;
        s->tunnel.token_status = (unsigned char)(1 + sim_rand(255));
    }
    if (sim_chance(15)) {
        s->tunnel.reply = (unsigned char)(sim_chance(80) ? 1 + sim_rand(9) : sim_rand(256));
    }
}

static void reply(struct server *s, enum tunnel_stage next, unsigned char first,
                  unsigned char second)
{
    unsigned char message[] = {first, second};
    s->tunnel.stage = next;
    sim_send(&s->actor, message, sizeof(message));
}

/* Sends a refusal. The proxy then closes, or lets tproxy close. */
static void refuse(struct server *s, unsigned char first, unsigned char second)
{
    reply(s, TUNNEL_FAILED, first, second);
    if (sim_chance(70)) {
        sim_finish(&s->actor);
        s->gone = true;
    }
}

static void connected(struct server *s)
{
    static const unsigned char lengths[] = {
        [ADDRESS_IPV4] = 4, [ADDRESS_NAME] = 1 + 7, [ADDRESS_IPV6] = 16};
    static const unsigned char types[] = {ADDRESS_IPV4, ADDRESS_NAME, ADDRESS_IPV6};
    unsigned char type = types[sim_rand(ARRAY_LEN(types))];
    unsigned char message[4 + 16 + 2] = {VERSION, 0, 0, type, 7};
    s->tunnel.stage = TUNNEL_OPEN;
    sim_send(&s->actor, message, 4u + lengths[type] + 2);
}

/* Returns the length of the request that begins at p; 0 if it is not complete. */
static size_t request_length(const struct server *s, const unsigned char *p, size_t n)
{
    size_t length = 0;
    if (s->tunnel.stage == TUNNEL_METHOD) {
        length = 3;
    } else if (s->tunnel.stage == TUNNEL_TOKEN) {
        size_t token = n < 5 ? 0 : (size_t)p[3] << 8 | p[4];
        length = 1 + 4 + token + 1;
        length += n < length ? 1 : p[length - 1];
    } else {
        length = n < 5 ? 5 : p[3] == ADDRESS_NAME ? 4u + 1 + p[4] + 2 : 4 + 4 + 2;
    }
    return n >= length ? length : 0;
}

static void answer(struct server *s, const unsigned char *p)
{
    switch (s->tunnel.stage) {
    case TUNNEL_METHOD:
        if (p[0] != VERSION || p[1] != 1 || p[2] != s->tunnel.method) {
            broken("the Connectivity Proxy is offered %02X %02X %02X", p[0], p[1], p[2]);
        }
        reply(s, p[2] == METHOD_TOKEN ? TUNNEL_TOKEN : TUNNEL_CONNECT, VERSION, p[2]);
        break;
    case TUNNEL_TOKEN:
        if (s->tunnel.token_status) {
            refuse(s, TOKEN_VERSION, s->tunnel.token_status);
        } else {
            reply(s, TUNNEL_CONNECT, TOKEN_VERSION, 0);
        }
        break;
    case TUNNEL_CONNECT:
        if (s->tunnel.reply) {
            refuse(s, VERSION, s->tunnel.reply);
        } else {
            connected(s);
        }
        break;
    case TUNNEL_OPEN:
    case TUNNEL_FAILED:
        break;
    }
}

bool tunnel_run(struct server *s)
{
    size_t n;
    const char *received = sim_received(&s->actor, &n);
    const unsigned char *p = (const unsigned char *)received + s->read;
    if (s->tunnel.stage == TUNNEL_FAILED || n == s->read) {
        if (s->tunnel.stage == TUNNEL_FAILED && n > s->read) {
            broken("something is said into a tunnel that was refused");
        }
        return false;
    }
    size_t length = request_length(s, p, n - s->read);
    if (length == 0) {
        return false;
    }
    s->read += length;
    answer(s, p);
    return true;
}
