/* The world of an HTTP client under test: connections, calls, octets. */
#include "tests/unit/world/http_server.h"

struct loop *loop;
struct dns *dns;
struct http *http;
int listener;
uint16_t port;
bool in_hole;
struct outcome outcomes[OUTCOMES];

/* ---- the world ---- */

int fake_connect(int fd, const struct sockaddr *addr, socklen_t n)
{
    if (in_hole) {
        errno = EINPROGRESS;
        return -1;
    }
    return connect(fd, addr, n);
}

/* Makes a socket with small buffers. */
static int fake_socket(int domain, int type, int protocol)
{
    int fd = socket(domain, type, protocol), size = SOCKET_ROOM;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return fd;
}

/* Hides sockets that will never connect; epoll would report them as broken. */
static int fake_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    return in_hole ? 0 : epoll_ctl(epfd, op, fd, event);
}

void open_listener(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(addr);
    int size = SOCKET_ROOM;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    assert_int_equal(bind(listener, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&addr, &n), 0);
    port = ntohs(addr.sin_port);
}

void open_http(size_t max_connections, struct tls_client *tls)
{
    struct http_settings settings = {.host = "127.0.0.1",
                                     .port = port,
                                     .allow_local = true,
                                     .authority = "api.test",
                                     .tls = tls,
                                     .max_connections = max_connections,
                                     .connect_timeout = CONNECT_TIMEOUT};
    http_free(http);
    http = http_new(loop, dns, &settings);
}

void reset(struct outcome *o)
{
    buf_free(&o->body);
    *o = (struct outcome){0};
    buf_init(&o->body, SEEN_MAX);
}

int setup(void **state)
{
    struct error err;
    (void)state;
    test_sys_init();
    test_sys.socket = fake_socket;
    test_sys.connect = fake_connect;
    test_sys.epoll_ctl = fake_epoll_ctl;
    in_hole = false;
    loop = loop_new(&err);
    dns = dns_new(loop, "/nonexistent", "/nonexistent");
    open_listener();
    open_http(1, NULL);
    for (size_t i = 0; i < OUTCOMES; i++) {
        reset(&outcomes[i]);
    }
    return 0;
}

int teardown(void **state)
{
    (void)state;
    http_free(http);
    http = NULL;
    dns_free(dns);
    turn_quietly(loop);
    assert_int_equal(conn_count(), 0);
    loop_free(loop);
    close(listener);
    for (size_t i = 0; i < OUTCOMES; i++) {
        buf_free(&outcomes[i].body);
    }
    sys = &sys_real;
    return 0;
}

void advance(int64_t time)
{
    test_now += time;
    turn_quietly(loop);
}

/* ---- calls ---- */

static void on_piece(struct str piece, void *arg)
{
    struct outcome *o = arg;
    assert_int_equal(o->done, 0);
    assert_true(piece.n > 0);
    assert_int_equal(buf_add(&o->body, piece.p, piece.n), OK);
    o->pieces++;
    if (o->also) {
        o->also(o, false);
    }
}

static void on_done(const struct http_answer *answer, const struct error *err, void *arg)
{
    struct outcome *o = arg;
    assert_true((answer == NULL) == (err != NULL));
    o->done++;
    if (err) {
        o->err = *err;
    } else {
        o->status = answer->head->status;
        assert_true(answer->body.n == 0 || o->pieces == 0);
        assert_int_equal(buf_add(&o->body, answer->body.p, answer->body.n), OK);
    }
    if (o->also) {
        o->also(o, true);
    }
}

static bool on_question(void *arg)
{
    struct outcome *o = arg;
    assert_int_equal(o->done, 0);
    return o->questions++ < o->allowed;
}

struct http_message get(const char *target)
{
    return (struct http_message){.method = "GET",
                                 .target = str_of(target),
                                 .answer_timeout = ANSWER_TIMEOUT,
                                 .silence_timeout = SILENCE_TIMEOUT,
                                 .body_max = BODY_MAX};
}

void start(struct outcome *o, const struct http_message *message, bool handed_on)
{
    struct http_handler handler = {.data = handed_on ? on_piece : NULL,
                                   .may_send = o->asks ? on_question : NULL,
                                   .done = on_done,
                                   .arg = o};
    o->call = http_start(http, message, handler);
    assert_non_null(o->call);
    assert_int_equal(o->done, 0);
}

void start_get(struct outcome *o, const char *target)
{
    struct http_message message = get(target);
    start(o, &message, false);
}

bool is_done(void *arg)
{
    const struct outcome *o = arg;
    return o->done;
}

void expect_answer(struct outcome *o, int status, const char *body)
{
    turn_until(loop, is_done, o);
    if (o->status != status) {
        print_error("%s\n", o->err.text);
    }
    assert_int_equal(o->done, 1);
    assert_int_equal(o->status, status);
    assert_str(buf_str(&o->body), body);
}

void expect_failure(struct outcome *o, enum fail fail, const char *text)
{
    turn_until(loop, is_done, o);
    assert_int_equal(o->done, 1);
    assert_int_equal(o->status, 0);
    assert_string_equal(o->err.text, text);
    assert_int_equal(o->err.fail, fail);
}

/* ---- the server ---- */

bool connection_waits(void *arg)
{
    struct pollfd p = {.fd = listener, .events = POLLIN};
    (void)arg;
    return poll(&p, 1, 0) == 1;
}

int accept_one(void)
{
    int on = 1;
    turn_until(loop, connection_waits, NULL);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fd >= 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* so that pieces are not joined */
    return fd;
}

void expect_no_connection(void)
{
    turn_quietly(loop);
    assert_false(connection_waits(NULL));
}

struct reading {
    int fd;
    char *p;
    size_t n, got;
};

static bool is_read(void *arg)
{
    struct reading *r = arg;
    ssize_t n = recv(r->fd, r->p + r->got, r->n - r->got, 0);
    if (n == 0) {
        fail_msg("the stream ended");
    }
    r->got += n > 0 ? (size_t)n : 0;
    return r->got == r->n;
}

void read_all(int fd, char *p, size_t n)
{
    struct reading r = {.fd = fd, .p = p, .n = n};
    turn_until(loop, is_read, &r);
}

void expect_text(int fd, const char *text)
{
    char got[1024], more;
    size_t n = strlen(text);
    assert_true(n <= sizeof(got));
    read_all(fd, got, n);
    assert_memory_equal(got, text, n);
    assert_int_equal(recv(fd, &more, 1, 0), -1);
}

void expect_request(int fd, const char *method, const char *target)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "%s %s HTTP/1.1\r\nHost: api.test\r\nUser-Agent: tproxy\r\n"
             "Accept-Encoding: identity\r\n\r\n",
             method, target);
    expect_text(fd, text);
}

void expect_get(int fd, const char *target)
{
    expect_request(fd, "GET", target);
}

static bool has_ended(void *arg)
{
    const int *fd = arg;
    char octet;
    ssize_t n = recv(*fd, &octet, 1, 0);
    assert_true(n <= 0);
    return n == 0 || errno == ECONNRESET;
}

void expect_end(int fd)
{
    turn_until(loop, has_ended, &fd);
    close(fd);
}

void send_text(int fd, const char *text)
{
    peer_send(fd, text, strlen(text));
}

void send_cut(int fd, const char *text, size_t first, size_t piece)
{
    size_t n = strlen(text);
    for (size_t at = 0, size = first; at < n; at += size, size = piece) {
        size = size < n - at ? size : n - at;
        peer_send(fd, text + at, size);
        turn_quietly(loop);
    }
}

void close_with_reset(int fd)
{
    struct linger linger = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

const char ok_answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

int have_kept(void)
{
    struct outcome *o = &outcomes[OUTCOMES - 1];
    reset(o);
    start_get(o, "/first");
    int fd = accept_one();
    expect_get(fd, "/first");
    send_text(fd, ok_answer);
    expect_answer(o, 200, "ok");
    return fd;
}
