/* Tests http/server over loopback, with a clock that the tests move. */
#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/conn.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/sys.h"

enum { PLACES = 64 };

static struct loop *loop;
static struct http_server *server;
static struct sys table;
static int64_t ahead;
static size_t big_size;
static char *received;

enum { RECEIVED_MAX = HTTP_REPLY_MAX + 4096 };

static int64_t shifted_now(void)
{
    return sys_real.now() + ahead;
}

static void serve(const struct http_request *request, struct http_reply *reply, void *arg)
{
    assert_ptr_equal(arg, &loop);
    if (str_eq(request->path, "/hello")) {
        reply->status = 200;
        assert_int_equal(buf_fmt(&reply->body, "hello %.*s", STR_ARG(request->query)), OK);
    } else if (str_eq(request->path, "/big")) {
        reply->status = 200;
        reply->content_type = "application/octet-stream";
        char *room = buf_room(&reply->body, big_size);
        assert_non_null(room);
        for (size_t i = 0; i < big_size; i++) {
            room[i] = (char)(i * 7 + i / 251);
        }
        buf_added(&reply->body, big_size);
    }
}

static int setup(void **state)
{
    (void)state;
    struct error err;
    table = sys_real;
    table.now = shifted_now;
    sys = &table;
    ahead = 0;
    loop = loop_new(&err);
    assert_non_null(loop);
    server = http_server_new(loop, "127.0.0.1:0", (struct http_server_handler){serve, &loop}, &err);
    assert_non_null(server);
    received = malloc(RECEIVED_MAX + 1);
    return received ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    http_server_free(server);
    for (int i = 0; i < 5; i++) {
        loop_turn(loop, false);
        ahead += SECONDS(3);
    }
    assert_int_equal(conn_count(), 0);
    loop_free(loop);
    free(received);
    sys = &sys_real;
    return 0;
}

/* ---- a client ---- */

static int dial(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void turns(int n)
{
    while (n--) {
        loop_turn(loop, false);
    }
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    turns(3);
}

/* Reads `want` octets or to the end, for at most 60 s, into `received`. Returns true when the
 * server has closed. */
static bool collect(int fd, size_t want, size_t *len)
{
    int64_t until = sys_real.now() + SECONDS(60);
    bool closed = false;
    *len = 0;
    while (!closed && *len < want && sys_real.now() < until) {
        turns(1);
        struct pollfd can = {.fd = fd, .events = POLLIN};
        if (poll(&can, 1, 1) > 0) {
            ssize_t n = recv(fd, received + *len, RECEIVED_MAX - *len, 0);
            closed = n <= 0;
            *len += n > 0 ? (size_t)n : 0;
        }
    }
    received[*len] = '\0';
    return closed;
}

static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                            "Content-Length: 9\r\nCache-Control: no-store\r\n"
                            "X-Content-Type-Options: nosniff\r\n\r\nhello a=b";
static const char get_hello[] = "GET /hello?a=b HTTP/1.1\r\nHost: x\r\n\r\n";

static void expect_hello(int fd)
{
    size_t n;
    collect(fd, strlen(hello), &n);
    assert_string_equal(received, hello);
}

/* Checks that the reply begins like this and that the server then closes the connection. */
static void expect_close(int fd, const char *start)
{
    size_t n;
    assert_true(collect(fd, RECEIVED_MAX, &n));
    if (strncmp(received, start, strlen(start)) != 0) {
        fail_msg("wanted %s, got %s", start, received);
    }
    close(fd);
}

/* ---- requests ---- */

static void get_keeps_alive(void **state)
{
    (void)state;
    int fd = dial();
    for (int i = 0; i < 3; i++) {
        say(fd, get_hello);
        expect_hello(fd);
    }
    close(fd);
}

static void head_request(void **state)
{
    (void)state;
    size_t n;
    int fd = dial();
    say(fd, "HEAD /hello?a=b HTTP/1.1\r\nHost: x\r\n\r\n");
    collect(fd, sizeof(hello) - 1 - 9, &n);
    assert_int_equal(n, sizeof(hello) - 1 - 9);
    assert_memory_equal(received, hello, n);
    say(fd, get_hello);
    expect_hello(fd);
    close(fd);
}

static void pipelined(void **state)
{
    (void)state;
    char text[256], want[1024];
    size_t n;
    int fd = dial();
    snprintf(text, sizeof(text), "%s%s%s", get_hello, get_hello, get_hello);
    snprintf(want, sizeof(want), "%s%s%s", hello, hello, hello);
    say(fd, text);
    collect(fd, strlen(want), &n);
    assert_string_equal(received, want);
    close(fd);
}

static void in_pieces(void **state)
{
    (void)state;
    int fd = dial();
    for (size_t i = 0; i < sizeof(get_hello) - 1; i++) {
        say(fd, (char[]){get_hello[i], '\0'});
    }
    expect_hello(fd);
    for (size_t cut = 1; cut < sizeof(get_hello) - 1; cut++) {
        char first[64];
        snprintf(first, sizeof(first), "%.*s", (int)cut, get_hello);
        say(fd, first);
        say(fd, get_hello + cut);
        expect_hello(fd);
    }
    close(fd);
}

static void not_found(void **state)
{
    (void)state;
    static const char missing[] =
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Length: 10\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n\r\nnot found\n";
    size_t n;
    int fd = dial();
    say(fd, "GET /other HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_false(collect(fd, strlen(missing), &n));
    assert_string_equal(received, missing);
    say(fd, get_hello);
    expect_hello(fd);
    close(fd);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *request, *reply;
    } table_of[] = {
        {"POST /hello HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 Method Not Allowed\r\n"},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 413 "},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         "HTTP/1.1 413 "},
        {"GET /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n"},
        {"USER x\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /\n", "HTTP/1.1 400 "},
        {"GET / HTTP/3.0\r\n\r\n", "HTTP/1.1 505 "},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 "},
    };
    for (size_t i = 0; i < ARRAY_LEN(table_of); i++) {
        int fd = dial();
        say(fd, table_of[i].request);
        expect_close(fd, table_of[i].reply);
        assert_non_null(strstr(received, "Connection: close\r\n"));
        assert_int_equal(strstr(received, "Allow: GET, HEAD\r\n") != NULL, i == 0);
    }
    int fd = dial();
    for (int i = 0; i < 9; i++) {
        char text[1001];
        memset(text, 'a', 1000);
        text[1000] = '\0';
        say(fd, text);
    }
    expect_close(fd, "HTTP/1.1 431 Request Header Fields Too Large\r\n");
}

static void close_wanted(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, "GET /hello?a=b HTTP/1.0\r\n\r\n");
    expect_close(fd, "HTTP/1.1 200 OK\r\n");
    fd = dial();
    say(fd, "GET /hello?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n");
    expect_close(fd, "HTTP/1.1 200 OK\r\n");
    assert_non_null(strstr(received, "\r\n\r\nhello a=b"));
    assert_null(strstr(received, "404"));
}

static void half_closed_client(void **state)
{
    (void)state;
    int fd = dial();
    assert_int_equal(send(fd, get_hello, sizeof(get_hello) - 1, 0), sizeof(get_hello) - 1);
    shutdown(fd, SHUT_WR);
    expect_close(fd, hello);
}

/* ---- large replies ---- */

static void large_reply(void **state)
{
    (void)state;
    static const size_t sizes[] = {65535, 65536, 65537, 300000, HTTP_REPLY_MAX};
    int fd = dial();
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t n;
        big_size = sizes[i];
        say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\nGET /hello?a=b HTTP/1.1\r\nHost: x\r\n\r\n");
        turns(20);
        collect(fd, 1, &n);
        while (!strstr(received, "\r\n\r\n")) {
            size_t more;
            char *keep = received;
            received += n;
            collect(fd, 1, &more);
            received = keep;
            n += more;
        }
        size_t head = (size_t)(strstr(received, "\r\n\r\n") - received) + 4;
        size_t want = head + big_size + sizeof(hello) - 1, more = 0;
        if (n < want) {
            char *keep = received;
            received += n;
            collect(fd, want - n, &more);
            received = keep;
        }
        assert_int_equal(n + more, want);
        for (size_t k = 0; k < big_size; k++) {
            if (received[head + k] != (char)(k * 7 + k / 251)) {
                fail_msg("octet %zu of %zu", k, big_size);
            }
        }
        assert_string_equal(received + head + big_size, hello);
    }
    close(fd);
}

static void client_vanishes(void **state)
{
    (void)state;
    big_size = HTTP_REPLY_MAX;
    int fd = dial();
    say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    turns(5);
    struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(fd);
    turns(10);
    assert_int_equal(conn_count(), 0);
}

/* ---- time ---- */

static void slow_request(void **state)
{
    (void)state;
    int fd = dial();
    say(fd, "GET /hel");
    ahead += SECONDS(9);
    say(fd, "lo HTTP/1.1\r\n");
    assert_int_equal(conn_count(), 1);
    ahead += SECONDS(2);
    expect_close(fd, "HTTP/1.1 408 Request Timeout\r\n");
}

static void idle_connection(void **state)
{
    (void)state;
    int fd = dial();
    turns(3);
    assert_int_equal(conn_count(), 1);
    ahead += SECONDS(11);
    expect_close(fd, "");
    assert_string_equal(received, "");
    fd = dial();
    say(fd, get_hello);
    expect_hello(fd);
    ahead += SECONDS(60);
    say(fd, get_hello);
    expect_hello(fd);
    ahead += SECONDS(80);
    expect_close(fd, "");
    assert_string_equal(received, "");
}

static void reader_sleeps(void **state)
{
    (void)state;
    big_size = HTTP_REPLY_MAX;
    int fd = dial(), size = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    turns(5);
    assert_int_equal(conn_count(), 1);
    ahead += SECONDS(11);
    turns(3);
    assert_int_equal(conn_count(), 0);
    close(fd);
}

static int accept_with_little_room(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    int accepted = sys_real.accept4(fd, addr, n, flags), size = 65536;
    setsockopt(accepted, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    return accepted;
}

/* A client that takes a part of the reply now and then has no more time than the others. */
static void reader_dawdles(void **state)
{
    enum { PART = 1 << 20 };
    (void)state;
    table.accept4 = accept_with_little_room;
    big_size = HTTP_REPLY_MAX;
    int fd = dial(), size = 65536;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    turns(5);
    ahead += SECONDS(6);
    for (size_t taken = 0; taken < PART;) {
        ssize_t n = recv(fd, received, PART - taken, 0);
        taken += n > 0 ? (size_t)n : 0;
        turns(1);
    }
    assert_int_equal(conn_count(), 1);
    ahead += SECONDS(5);
    turns(3);
    assert_int_equal(conn_count(), 0);
    close(fd);
}

/* ---- many connections ---- */

/* The oldest client is closed, whatever it is doing; activity does not make it younger. */
static void oldest_gives_way(void **state)
{
    (void)state;
    int fds[PLACES + 2];
    size_t n;
    for (size_t i = 0; i < PLACES; i++) {
        fds[i] = dial();
        turns(2);
    }
    say(fds[0], get_hello);
    expect_hello(fds[0]);
    say(fds[1], "GET");
    for (size_t i = 0; i < 2; i++) {
        fds[PLACES + i] = dial();
        say(fds[PLACES + i], get_hello);
        expect_hello(fds[PLACES + i]);
        assert_int_equal(conn_count(), PLACES);
        assert_true(collect(fds[i], 1, &n));
    }
    say(fds[2], get_hello);
    expect_hello(fds[2]);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
}

/* A request that arrives together with ten times as many connections as there are places is
 * answered: the server reads it before the later connections take its place. */
static void probe_in_a_flood(void **state)
{
    (void)state;
    int fds[PLACES * 10], probe = -1;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial();
        if (i == ARRAY_LEN(fds) / 2) {
            probe = dial();
            assert_int_equal(send(probe, get_hello, strlen(get_hello), 0), strlen(get_hello));
        }
    }
    expect_hello(probe);
    close(probe);
    turns(100);
    assert_int_equal(conn_count(), PLACES);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
}

/* Unread answers use at most the memory of two of the largest, not of one for each client. */
static void answers_have_a_bound(void **state)
{
    (void)state;
    int fds[10];
    size_t ended = 0;
    big_size = HTTP_REPLY_MAX;
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial();
        say(fds[i], "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
        turns(5);
    }
    assert_in_range(conn_count(), 1, 3);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        struct pollfd can = {.fd = fds[i], .events = POLLRDHUP};
        ended += poll(&can, 1, 0) == 1;
        close(fds[i]);
    }
    assert_in_range(ended, 7, 9);
}

/* Unread refusals are bounded, too. */
static void closing_has_a_bound(void **state)
{
    (void)state;
    int fds[40];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial();
        say(fds[i], "nonsense\r\n\r\n");
    }
    assert_int_equal(conn_count(), 16);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        close(fds[i]);
    }
}

static int descriptors_left;

/* Simulates a process that has `descriptors_left` descriptors left. */
static int few_accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    if (descriptors_left == 0) {
        errno = EMFILE;
        return -1;
    }
    int accepted = sys_real.accept4(fd, addr, n, flags);
    descriptors_left -= accepted >= 0;
    return accepted;
}

static int few_close(int fd)
{
    descriptors_left++;
    return sys_real.close(fd);
}

static int few_socket(int domain, int type, int protocol)
{
    if (descriptors_left == 0) {
        errno = EMFILE;
        return -1;
    }
    descriptors_left--;
    return sys_real.socket(domain, type, protocol);
}

/* Sessions have taken all descriptors: the one in reserve serves one client after another. */
static void out_of_descriptors(void **state)
{
    (void)state;
    table.accept4 = few_accept4;
    table.close = few_close;
    table.socket = few_socket;
    descriptors_left = 0;
    for (int i = 0; i < 5; i++) {
        int silent = dial(), fd = dial();
        say(fd, get_hello);
        expect_hello(fd);
        close(fd);
        close(silent);
    }
    turns(3);
    table = sys_real;
    table.now = shifted_now;
}

/* ---- addresses ---- */

static void addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      ":",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      ":9494",
                                      "::1:9494",
                                      "[::1]",
                                      "[::1:9494",
                                      "localhost:1",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:x",
                                      "[127.0.0.1]:1",
                                      "[]:1",
                                      "1.2.3.4.5:1",
                                      "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1"};
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (http_server_new(loop, bad[i], (struct http_server_handler){serve, &loop}, &err)) {
            fail_msg("%s", bad[i]);
        }
        assert_int_equal(err.fail, FAIL_CONFIG);
    }
    char taken[32];
    snprintf(taken, sizeof(taken), "127.0.0.1:%d", http_server_port(server));
    assert_null(http_server_new(loop, taken, (struct http_server_handler){serve, &loop}, &err));
    assert_non_null(strstr(err.text, taken));
    http_server_free(NULL);
}

/* "[::]" accepts IPv4 as well. Without IPv6 in the kernel the test checks nothing. */
static void any_address(void **state)
{
    (void)state;
    struct error err;
    struct http_server *v6 =
        http_server_new(loop, "[::]:0", (struct http_server_handler){serve, &loop}, &err);
    if (!v6) {
        assert_int_equal(err.fail, FAIL_CONFIG);
        return;
    }
    http_server_free(server);
    server = v6;
    int fd = dial();
    say(fd, get_hello);
    expect_hello(fd);
    close(fd);
}

static void freed_with_connections(void **state)
{
    (void)state;
    int fd = dial(), other = dial();
    say(fd, "GET /");
    big_size = HTTP_REPLY_MAX;
    say(other, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
    http_server_free(server);
    server = NULL;
    turns(2);
    assert_int_equal(conn_count(), 0);
    close(fd);
    close(other);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_FATAL);
#define WITH_SERVER(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_SERVER(get_keeps_alive),
        WITH_SERVER(head_request),
        WITH_SERVER(pipelined),
        WITH_SERVER(in_pieces),
        WITH_SERVER(not_found),
        WITH_SERVER(refused),
        WITH_SERVER(close_wanted),
        WITH_SERVER(half_closed_client),
        WITH_SERVER(large_reply),
        WITH_SERVER(client_vanishes),
        WITH_SERVER(slow_request),
        WITH_SERVER(idle_connection),
        WITH_SERVER(reader_sleeps),
        WITH_SERVER(reader_dawdles),
        WITH_SERVER(oldest_gives_way),
        WITH_SERVER(probe_in_a_flood),
        WITH_SERVER(answers_have_a_bound),
        WITH_SERVER(closing_has_a_bound),
        WITH_SERVER(out_of_descriptors),
        WITH_SERVER(addresses),
        WITH_SERVER(any_address),
        WITH_SERVER(freed_with_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
