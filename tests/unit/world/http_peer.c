/* The HTTP server of a test: connections, requests, answers. */
#include "tests/unit/world/http_peer.h"

const char *peer_answer(int status, const char *headers, const char *body)
{
    static char text[PEER_ANSWER_MAX];
    size_t n = text_fmt(text, sizeof(text), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n%s",
                        status, strlen(body), headers, body);
    assert_true(n + 1 < sizeof(text));
    return text;
}

void peer_open(struct http_peer *peer, uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t n = sizeof(addr);
    int on = 1;
    for (size_t i = 0; i < PEER_CONNECTIONS; i++) {
        peer->fds[i] = -1;
        buf_init(&peer->in[i], PEER_REQUEST_MAX);
    }
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(peer->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    assert_int_equal(bind(peer->listener, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(listen(peer->listener, 512), 0);
    assert_int_equal(getsockname(peer->listener, (struct sockaddr *)&addr, &n), 0);
    peer->port = ntohs(addr.sin_port);
}

static void peer_hang_up(struct http_peer *peer, size_t i)
{
    close(peer->fds[i]);
    peer->fds[i] = -1;
    buf_free(&peer->in[i]);
}

void peer_close(struct http_peer *peer)
{
    for (size_t i = 0; i < PEER_CONNECTIONS; i++) {
        if (peer->fds[i] >= 0) {
            peer_hang_up(peer, i);
        }
    }
    close(peer->listener);
    peer->listener = -1;
}

static bool peer_serve(struct http_peer *peer, size_t i)
{
    struct http_head head;
    struct str in = buf_str(&peer->in[i]);
    int rc = http_parse_request(in, PEER_REQUEST_MAX, &head);
    if (rc == AGAIN || (rc == OK && in.n < head.size + head.length)) {
        return false;
    }
    if (rc == ERR) {
        fail_msg("not HTTP: %.*s", STR_ARG(in));
    }
    peer->requests++;
    const char *text =
        peer->answer(peer, &head, (struct str){in.p + head.size, (size_t)head.length});
    buf_drop(&peer->in[i], head.size + (size_t)head.length);
    if (text) {
        peer_send(peer->fds[i], text, strlen(text));
    }
    return true;
}

/* Reads the octets that have come. Returns true if there were any, and sets *end if the stream has
 * then ended. */
static bool peer_receive(struct http_peer *peer, size_t i, bool *end)
{
    char piece[8192];
    bool any = false;
    ssize_t n;
    while ((n = recv(peer->fds[i], piece, sizeof(piece), 0)) > 0) {
        assert_int_equal(buf_add(&peer->in[i], piece, (size_t)n), OK);
        any = true;
    }
    *end = n == 0 || errno != EAGAIN;
    return any;
}

static bool peer_accept(struct http_peer *peer)
{
    int fd = accept4(peer->listener, NULL, NULL, SOCK_NONBLOCK);
    for (size_t i = 0; i < PEER_CONNECTIONS && fd >= 0; i++) {
        if (peer->fds[i] < 0) {
            peer->fds[i] = fd;
            return true;
        }
    }
    assert_true(fd < 0);
    return false;
}

bool peer_run(struct http_peer *peer)
{
    bool busy = false, end;
    while (peer->listener >= 0 && peer_accept(peer)) {
        busy = true;
    }
    for (size_t i = 0; i < PEER_CONNECTIONS; i++) {
        if (peer->fds[i] < 0) {
            continue;
        }
        busy |= peer_receive(peer, i, &end);
        while (peer_serve(peer, i)) {
            busy = true;
        }
        if (end) {
            peer_hang_up(peer, i);
        }
    }
    return busy;
}
