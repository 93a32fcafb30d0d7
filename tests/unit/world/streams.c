/* The clock of tests, turns of the loop, and conns whose events are counted. */
#include "tests/unit/world/streams.h"

struct sys test_sys;
int64_t test_now;

static int64_t now(void)
{
    return test_now;
}

/* Waits only for the kernel, never for the clock. */
static int epoll_wait_little(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    return sys_real.epoll_wait(epfd, events, max, timeout_ms ? 10 : 0);
}

void test_sys_init(void)
{
    test_sys = sys_real;
    test_sys.now = now;
    test_sys.boottime = now;
    test_sys.epoll_wait = epoll_wait_little;
    test_now = SECONDS(1000);
    sys = &test_sys;
}

void turn_until(struct loop *loop, bool (*done)(void *arg), void *arg)
{
    int64_t until = sys_real.now() + SECONDS(60);
    while (!done(arg)) {
        loop_turn(loop, true);
        if (sys_real.now() > until) {
            fail_msg("nothing happens");
        }
    }
}

void turn_quietly(struct loop *loop)
{
    for (int i = 0; i < 20; i++) {
        loop_turn(loop, false);
    }
}

void stream_pair(bool tcp, int ends[2])
{
    if (!tcp) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
        return;
    }
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)); /* like lib/listener.c */
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &n), 0);
    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(ends[1], (struct sockaddr *)&addr, n), 0);
    ends[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(ends[0] >= 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    close(listener);
}

static void on_event(struct conn *c, enum conn_event event, void *arg)
{
    struct seen *seen = arg;
    struct str data = conn_data(c);
    seen->count[event]++;
    seen->last = event;
    if (event == CONN_DATA && !seen->hold) {
        assert_int_equal(buf_add(&seen->data, data.p, data.n), OK);
        conn_consume(c, data.n);
    }
    if (seen->also) {
        seen->also(seen, event);
    }
}

struct conn_handler seen_handler(struct seen *seen)
{
    return (struct conn_handler){.event = on_event, .arg = seen};
}

void seen_start(struct seen *seen, struct loop *loop, bool tcp, int *peer)
{
    int ends[2];
    stream_pair(tcp, ends);
    *seen = (struct seen){.hold = false};
    buf_init(&seen->data, SEEN_MAX);
    seen->conn = conn_new(loop, ends[0], seen_handler(seen));
    assert_non_null(seen->conn);
    *peer = ends[1];
}

struct wish {
    struct seen *seen;
    enum conn_event event;
    unsigned count;
    size_t bytes;
};

static bool event_seen(void *arg)
{
    struct wish *wish = arg;
    return wish->seen->count[wish->event] > wish->count;
}

static bool bytes_seen(void *arg)
{
    struct wish *wish = arg;
    return buf_len(&wish->seen->data) >= wish->bytes;
}

void await_event(struct loop *loop, struct seen *seen, enum conn_event event)
{
    struct wish wish = {.seen = seen, .event = event, .count = seen->count[event]};
    turn_until(loop, event_seen, &wish);
}

void await_bytes(struct loop *loop, struct seen *seen, size_t n)
{
    struct wish wish = {.seen = seen, .bytes = n};
    turn_until(loop, bytes_seen, &wish);
}

void peer_send(int fd, const void *p, size_t n)
{
    assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), n);
}

size_t peer_read(int fd, struct buf *to, bool *end)
{
    char piece[8192];
    size_t total = 0;
    ssize_t n;
    *end = false;
    while ((n = read(fd, piece, sizeof(piece))) > 0) {
        assert_int_equal(buf_add(to, piece, (size_t)n), OK);
        total += (size_t)n;
    }
    *end = n == 0;
    assert_true(n == 0 || errno == EAGAIN);
    return total;
}

/* Returns byte i of an endless text whose period is not the length of any buffer. */
static unsigned char pattern(uint64_t i)
{
    return (unsigned char)((i * 0x9E3779B97F4A7C15u) >> 56);
}

void pattern_fill(void *p, uint64_t from, size_t n)
{
    unsigned char *bytes = p;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = pattern(from + i);
    }
}

bool pattern_is(struct str s, uint64_t from)
{
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] != pattern(from + i)) {
            return false;
        }
    }
    return true;
}
