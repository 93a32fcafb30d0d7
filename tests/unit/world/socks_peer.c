/* The SOCKS5 proxy of a test: its dialogue, step by step. */
#include "tests/unit/world/socks_peer.h"

void socks_peer_open(struct socks_peer *p)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(addr);
    *p = (struct socks_peer){.fd = -1};
    buf_init(&p->in, 64 * 1024);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(listen(p->listener, 16), 0);
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&addr, &n), 0);
    p->port = ntohs(addr.sin_port);
}

static void socks_peer_hang_up(struct socks_peer *p)
{
    if (p->fd >= 0) {
        close(p->fd);
        p->fd = -1;
    }
    buf_free(&p->in);
    buf_init(&p->in, 64 * 1024);
}

void socks_peer_close(struct socks_peer *p)
{
    socks_peer_hang_up(p);
    close(p->listener);
}

static void socks_peer_say(struct socks_peer *p, const void *bytes, size_t n)
{
    assert_int_equal(send(p->fd, bytes, n, MSG_NOSIGNAL), n);
}

/* Returns the length of the message, which its first octets determine; 0: more has to come. */
static size_t socks_peer_login(struct socks_peer *p, struct str in)
{
    const unsigned char *b = (const unsigned char *)in.p;
    size_t token = in.n < 5 ? 0 : ((size_t)b[3] << 8) + b[4];
    if (in.n < 6 + token || in.n < 6 + token + b[5 + token]) {
        return 0;
    }
    size_t location = b[5 + token];
    text_fmt(p->token, sizeof(p->token), "%.*s", (int)token, in.p + 5);
    text_fmt(p->location, sizeof(p->location), "%.*s", (int)location, in.p + 6 + token);
    const unsigned char reply[] = {1, p->refuses_token};
    socks_peer_say(p, reply, sizeof(reply));
    p->waits_for = SOCKS_CONNECT;
    return 6 + token + location;
}

static size_t socks_peer_method(struct socks_peer *p, struct str in)
{
    if (in.n < 3) {
        return 0;
    }
    const unsigned char reply[] = {5, (unsigned char)in.p[2]};
    socks_peer_say(p, reply, sizeof(reply));
    p->token[0] = p->location[0] = '\0';
    p->waits_for = reply[1] == 0x80 ? SOCKS_LOGIN : SOCKS_CONNECT;
    return 3;
}

static size_t socks_peer_connect(struct socks_peer *p, struct str in)
{
    size_t host = in.n < 5 ? 0 : (unsigned char)in.p[4];
    if (in.n < 7 + host) {
        return 0;
    }
    text_fmt(p->host, sizeof(p->host), "%.*s", (int)host, in.p + 5);
    const unsigned char reply[] = {5, p->reply, 0, 1, 0, 0, 0, 0, 0, 0};
    socks_peer_say(p, reply, sizeof(reply));
    p->waits_for = SOCKS_HTTP;
    return 7 + host;
}

static size_t socks_peer_http(struct socks_peer *p, struct str in)
{
    struct http_head head;
    if (http_parse_request(in, 64 * 1024, &head) != OK || in.n < head.size + head.length) {
        return 0;
    }
    p->requests++;
    socks_peer_say(p, p->answer, strlen(p->answer));
    return head.size + head.length;
}

static size_t socks_peer_understand(struct socks_peer *p)
{
    struct str in = buf_str(&p->in);
    switch (p->waits_for) {
    case SOCKS_METHOD:
        return socks_peer_method(p, in);
    case SOCKS_LOGIN:
        return socks_peer_login(p, in);
    case SOCKS_CONNECT:
        return socks_peer_connect(p, in);
    case SOCKS_HTTP:
        return socks_peer_http(p, in);
    }
    return 0;
}

bool socks_peer_run(struct socks_peer *p)
{
    char bytes[4096];
    size_t taken;
    int fd = accept(p->listener, NULL, NULL);
    if (fd >= 0) {
        socks_peer_hang_up(p);
        p->fd = fd;
        p->connections++;
        p->waits_for = SOCKS_METHOD;
        return true;
    }
    ssize_t n = p->fd < 0 ? -1 : recv(p->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n == 0) {
        socks_peer_hang_up(p);
        return true;
    }
    if (n > 0) {
        assert_int_equal(buf_add(&p->in, bytes, (size_t)n), OK);
    }
    while (p->fd >= 0 && (taken = socks_peer_understand(p)) > 0) {
        buf_drop(&p->in, taken);
    }
    return n > 0;
}
