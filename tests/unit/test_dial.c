/* Tests lib/dial over loopback sockets. Time stands still unless a test moves it. fake_connect()
 * decides what 10.0.0.0/8 and IPv6 do. */
#include "lib/dial.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/conn.h"
#include "lib/dns.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"

enum { PATIENCE_MS = 10000, PORT = 110, PROXY_PORT = 20004, FD_MAX = 1024 };

static struct sys test_sys;
static int64_t clock_now;
static bool no_sockets;
static bool in_hole[FD_MAX]; /* descriptors whose connection is never answered */

static struct loop *loop;
static struct dns *dns;
static int listener, name_server; /* the name server never answers */
static uint16_t listener_port, closed_port;
static char dir[] = "/tmp/test_dial.XXXXXX";
static char conf_path[64], hosts_path[64];

static char tried[256]; /* "10.0.0.1:110, ..." */

/* ---- the world ---- */

static int64_t fake_now(void)
{
    return clock_now;
}

static int patient_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
    int n = epoll_wait(epfd, events, max, timeout ? PATIENCE_MS : 0);
    if (timeout && n == 0) {
        fail_msg("nothing happened");
    }
    return n;
}

static int fake_socket(int domain, int type, int protocol)
{
    if (no_sockets) {
        errno = EMFILE;
        return -1;
    }
    return socket(domain, type, protocol);
}

static int connect_to_port(int fd, uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd, (struct sockaddr *)&addr, sizeof(addr));
}

/* 10.0.0.1 and 10.0.0.2 are black holes, 10.0.0.3 refuses, 10.0.0.4 has no route, every
 * other 10.x.x.x is the listener; there is no IPv6. */
static int fake_connect(int fd, const struct sockaddr *to, socklen_t n)
{
    union addr addr = {0};
    memcpy(&addr, to, n);
    size_t used = strlen(tried);
    uint16_t port = addr_port(&addr);
    if (addr.sa.sa_family == AF_INET && (port == PORT || port == PROXY_PORT)) {
        text_fmt(tried + used, sizeof(tried) - used, "%s%s", used ? ", " : "", addr_text(&addr).s);
    }
    if (addr.sa.sa_family != AF_INET) {
        errno = ENETUNREACH;
        return -1;
    }
    uint32_t ip = ntohl(addr.v4.sin_addr.s_addr);
    if (ip >> 24 != 10) {
        return connect(fd, to, n);
    }
    switch (ip & 0xFF) {
    case 1:
    case 2:
        in_hole[fd] = true;
        errno = EINPROGRESS;
        return -1;
    case 3:
        return connect_to_port(fd, closed_port);
    case 4:
        errno = EHOSTUNREACH;
        return -1;
    default:
        return connect_to_port(fd, listener_port);
    }
}

static int fake_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    return in_hole[fd] ? 0 : epoll_ctl(epfd, op, fd, event);
}

static int fake_close(int fd)
{
    in_hole[fd] = false;
    return close(fd);
}

static void turn(void)
{
    loop_turn(loop, false);
}

static void advance(int64_t us)
{
    clock_now += us;
    turn();
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int bound_socket(int type, uint16_t *port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t n = sizeof(addr);
    int fd = socket(AF_INET, type, 0);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &n), 0);
    *port = ntohs(addr.sin_port);
    return fd;
}

static int closed; /* holds a port on which nobody listens */

static int setup(void **state)
{
    struct error err;
    char text[200];
    uint16_t dns_port;
    (void)state;
    test_sys = sys_real;
    test_sys.now = fake_now;
    test_sys.epoll_wait = patient_wait;
    test_sys.socket = fake_socket;
    test_sys.connect = fake_connect;
    test_sys.epoll_ctl = fake_epoll_ctl;
    test_sys.close = fake_close;
    sys = &test_sys;
    clock_now = SECONDS(1000);
    no_sockets = false;
    tried[0] = '\0';
    loop = loop_new(&err);
    listener = bound_socket(SOCK_STREAM, &listener_port);
    assert_int_equal(listen(listener, 8), 0);
    closed = bound_socket(SOCK_STREAM, &closed_port);
    name_server = bound_socket(SOCK_DGRAM, &dns_port);
    text_fmt(dir, sizeof(dir), "/tmp/test_dial.XXXXXX");
    assert_non_null(mkdtemp(dir));
    text_fmt(conf_path, sizeof(conf_path), "%s/resolv.conf", dir);
    text_fmt(hosts_path, sizeof(hosts_path), "%s/hosts", dir);
    text_fmt(text, sizeof(text), "nameserver 127.0.0.1#%u\n", dns_port);
    write_file(conf_path, text);
    write_file(hosts_path, "10.0.0.1 hole.test holes.test slow.test\n"
                           "10.0.0.2 holes.test\n"
                           "10.0.0.3 then-hole.test\n"
                           "10.0.0.2 then-hole.test\n"
                           "10.0.0.3 refused.test mixed.test first-refuses.test\n"
                           "10.0.0.5 slow.test first-refuses.test\n"
                           "10.0.0.4 mixed.test\n"
                           "fd00::1 mixed.test six.test\n"
                           "169.254.169.254 metadata.test half.test\n"
                           "::ffff:127.0.0.1 mapped.test half.test\n"
                           "10.0.0.6 half.test\n"
                           "10.0.0.9 proxy.test\n"
                           "239.0.0.1 group.test\n");
    dns = dns_new(loop, conf_path, hosts_path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dns_free(dns);
    turn();
    assert_int_equal(conn_count(), 0);
    loop_free(loop);
    close(listener);
    close(closed);
    close(name_server);
    unlink(conf_path);
    unlink(hosts_path);
    rmdir(dir);
    sys = &sys_real;
    return 0;
}

/* ---- dials ---- */

struct outcome {
    struct dial *dial;
    int calls;
    struct conn *conn;
    struct error err;
    char data[16];
    char came[128]; /* what was told before the end */
    bool ended;
};

static struct outcome last;

static void on_conn_event(struct conn *c, enum conn_event event, void *arg)
{
    struct outcome *o = arg;
    if (event == CONN_DATA) {
        size_t n = strlen(o->data);
        text_fmt(o->data + n, sizeof(o->data) - n, "%.*s", STR_ARG(conn_data(c)));
        conn_consume(c, conn_data(c).n);
    }
    o->ended |= event == CONN_EOF;
}

static void on_done(struct conn *conn, const struct error *err, void *arg)
{
    struct outcome *o = arg;
    assert_int_equal(conn == NULL, err != NULL);
    o->calls++;
    o->conn = conn;
    if (conn) {
        conn_set_handler(conn, (struct conn_handler){on_conn_event, o});
    } else {
        o->err = *err;
    }
}

static void on_came(enum dial_stage stage, const char *addresses, void *arg)
{
    struct outcome *o = arg;
    size_t n = strlen(o->came);
    text_fmt(o->came + n, sizeof(o->came) - n, "%s %s;",
             stage == DIAL_RESOLVED ? "resolved" : "connected", addresses);
}

static const struct dial_handler handler = {.done = on_done, .arg = &last, .came = on_came};

static void start(const char *host, bool allow_local)
{
    char copy[64];
    struct dial_to to = {
        .host = copy, .port = PORT, .allow_local = allow_local, .timeout = SECONDS(5)};
    text_fmt(copy, sizeof(copy), "%s", host);
    memset(&last, 0, sizeof(last));
    last.dial = dial_start(loop, dns, &to, handler);
    memset(copy, 'x', sizeof(copy));
    assert_int_equal(last.calls, 0);
}

static void until_done(void)
{
    while (last.calls == 0) {
        loop_turn(loop, true);
    }
    turn();
    assert_int_equal(last.calls, 1);
}

static void expect_failure(enum fail fail, const char *text)
{
    assert_int_equal(last.calls, 1);
    assert_null(last.conn);
    assert_string_equal(last.err.text, text);
    assert_int_equal(last.err.fail, fail);
    turn();
    assert_int_equal(conn_count(), 0);
}

static void expect_success(void)
{
    assert_int_equal(last.calls, 1);
    assert_non_null(last.conn);
    turn();
    assert_int_equal(conn_count(), 1);
    conn_close(last.conn);
    turn();
}

static void dial(const char *host)
{
    start(host, false);
    until_done();
}

/* ---- tests ---- */

static void handed_over(void **state)
{
    (void)state;
    dial("10.0.0.9");
    assert_string_equal(tried, "10.0.0.9:110");
    assert_string_equal(last.came, "resolved 10.0.0.9:110;connected 10.0.0.9:110;");
    int fd = accept(listener, NULL, NULL);
    assert_int_equal(send(fd, "+OK\r\n", 5, 0), 5);
    while (!last.data[0]) {
        loop_turn(loop, true);
    }
    assert_string_equal(last.data, "+OK\r\n");
    close(fd);
    expect_success();
}

static void refused(void **state)
{
    (void)state;
    dial("refused.test");
    expect_failure(FAIL_CONNECT, "10.0.0.3:110 refused the connection");
    assert_string_equal(last.came, "resolved 10.0.0.3:110;");
}

static void next_at_once_when_refused(void **state)
{
    (void)state;
    dial("first-refuses.test");
    expect_success();
    assert_string_equal(tried, "10.0.0.3:110, 10.0.0.5:110");
    assert_string_equal(last.came, "resolved 10.0.0.3:110, 10.0.0.5:110;connected 10.0.0.5:110;");
}

static void head_start(void **state)
{
    (void)state;
    start("slow.test", false);
    turn();
    turn();
    assert_string_equal(tried, "10.0.0.1:110");
    advance(MILLIS(250) - 1);
    assert_string_equal(tried, "10.0.0.1:110");
    advance(1);
    assert_string_equal(tried, "10.0.0.1:110, 10.0.0.5:110");
    until_done();
    expect_success();
}

static void silence(void **state)
{
    (void)state;
    start("hole.test", false);
    turn();
    advance(SECONDS(5) - 1);
    assert_int_equal(last.calls, 0);
    advance(1);
    expect_failure(FAIL_TIMEOUT, "no answer from 10.0.0.1:110 within 5 s");

    start("holes.test", false);
    turn();
    advance(MILLIS(250));
    assert_int_equal(conn_count(), 2);
    advance(SECONDS(5));
    expect_failure(FAIL_TIMEOUT, "no answer from 10.0.0.1:110 within 5 s (2 addresses tried)");

    start("then-hole.test", false);
    while (conn_count() == 0 || !strstr(tried, "10.0.0.2:110, 10.0.0.3:110, 10.0.0.2:110")) {
        loop_turn(loop, true);
    }
    advance(SECONDS(5));
    expect_failure(FAIL_TIMEOUT, "no answer from 10.0.0.2:110 within 5 s (2 addresses tried)");
}

static void no_route(void **state)
{
    (void)state;
    dial("six.test");
    expect_failure(FAIL_CONNECT, "no route to [fd00::1]:110");
    dial("10.0.0.4");
    expect_failure(FAIL_CONNECT, "no route to 10.0.0.4:110");
    dial("mixed.test"); /* IPv6 is missing, one address refuses, one has no route */
    expect_failure(FAIL_CONNECT, "10.0.0.3:110 refused the connection (3 addresses tried)");
    no_sockets = true;
    dial("10.0.0.9");
    expect_failure(FAIL_INTERNAL, "cannot connect to 10.0.0.9:110: socket: Too many open files");
}

static void policy(void **state)
{
    (void)state;
    static const struct {
        const char *host, *text;
    } table[] = {
        {"127.0.0.1", "host \"127.0.0.1\" is a loopback address, which is not allowed"},
        {"::1", "host \"::1\" is a loopback address, which is not allowed"},
        {"localhost", "host \"localhost\" is ::1, a loopback address, which is not allowed"},
        {"mapped.test",
         "host \"mapped.test\" is ::ffff:127.0.0.1, a loopback address, which is not allowed"},
        {"metadata.test",
         "host \"metadata.test\" is 169.254.169.254, a link-local address, which is not allowed"},
        {"0.0.0.0", "host \"0.0.0.0\" is an unspecified address, which is not allowed"},
        {"group.test",
         "host \"group.test\" is 239.0.0.1, a multicast address, which is not allowed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        dial(table[i].host);
        expect_failure(FAIL_CONFIG, table[i].text);
    }
    assert_string_equal(tried, "");
    dial("half.test"); /* the allowed address is tried */
    expect_success();
    assert_string_equal(tried, "10.0.0.6:110");
    start("group.test", true);
    until_done();
    assert_int_equal(last.err.fail, FAIL_CONFIG);

    struct dial_to local = {
        .host = "127.0.0.1", .port = listener_port, .allow_local = true, .timeout = SECONDS(5)};
    memset(&last, 0, sizeof(last));
    last.dial = dial_start(loop, dns, &local, handler);
    until_done();
    expect_success();
}

static void names(void **state)
{
    (void)state;
    dial("no name");
    expect_failure(FAIL_CONFIG, "\"no name\" is neither a host name nor an IP address");
    start("unknown.test", false);
    turn();
    advance(SECONDS(5));
    expect_failure(FAIL_DNS, "host \"unknown.test\" could not be resolved within 5 s");
}

static void cancelled(void **state)
{
    (void)state;
    dial_cancel(NULL);
    static const char *const hosts[] = {"unknown.test", "holes.test", "10.0.0.3"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        for (int turns = 0; turns < 3; turns++) {
            start(hosts[i], false);
            for (int k = 0; k < turns && last.calls == 0; k++) {
                advance(MILLIS(250) * k);
            }
            if (last.calls) {
                break; /* the dial was refused before this turn */
            }
            dial_cancel(last.dial);
            advance(SECONDS(60));
            assert_int_equal(last.calls, 0);
            assert_int_equal(conn_count(), 0);
        }
    }
}

/* ---- through a proxy ---- */

#define BYTES(text) ((struct str){(text), sizeof(text) - 1})
#define OPEN "\5\0\0\1\0\0\0\0\0\0"
#define NO_TUNNEL "no tunnel to mail.corp:995 through proxy.test:20004: "

static char token_text[] = "e30.e30.c2ln";
static const struct secret token = {token_text, sizeof(token_text) - 1};
static const struct dial_via plain = {
    .host = "proxy.test", .port = PROXY_PORT, .timeout = SECONDS(1)};
static const struct dial_via with_token = {.host = "proxy.test",
                                           .port = PROXY_PORT,
                                           .timeout = SECONDS(1),
                                           .token = &token,
                                           .location = "plant"};

/* Starts a dial and then overwrites the settings, because dial_start has to copy those that it
 * keeps. */
static void start_via(const struct dial_via *settings, const char *host, int64_t timeout)
{
    char proxy[64], target[64], text[64] = "", location[64] = "";
    struct secret secret = {text, 0};
    struct dial_via via = *settings;
    struct dial_to to = {.host = target, .port = 995, .timeout = timeout, .via = &via};
    text_fmt(proxy, sizeof(proxy), "%s", via.host);
    text_fmt(target, sizeof(target), "%s", host);
    via.host = proxy;
    if (via.token) {
        secret.n = text_fmt(text, sizeof(text), "%s", via.token->p);
        via.token = &secret;
        text_fmt(location, sizeof(location), "%s", via.location);
        via.location = location;
    }
    tried[0] = '\0';
    memset(&last, 0, sizeof(last));
    last.dial = dial_start(loop, dns, &to, handler);
    memset(proxy, 'x', sizeof(proxy));
    memset(target, 'x', sizeof(target));
    memset(text, 'x', sizeof(text));
    memset(location, 'x', sizeof(location));
    assert_int_equal(last.calls, 0);
}

/* Checks that the next octets sent to the proxy are exactly these. */
static void expect_told(int proxy, struct str text)
{
    char told[128];
    size_t n = 0;
    while (n < text.n) {
        ssize_t got = recv(proxy, told + n, sizeof(told) - n, MSG_DONTWAIT);
        if (got < 0) {
            loop_turn(loop, true);
        } else {
            assert_true(got > 0);
            n += (size_t)got;
        }
    }
    assert_int_equal(n, text.n);
    assert_memory_equal(told, text.p, n);
}

static void answer(int proxy, struct str text)
{
    assert_int_equal(send(proxy, text.p, text.n, MSG_NOSIGNAL), text.n);
}

/* Returns a proxy's connection on which the client has offered its method. */
static int proxy_of(const struct dial_via *via, int64_t timeout)
{
    start_via(via, "mail.corp", timeout);
    while (!tried[0]) {
        loop_turn(loop, true);
    }
    int proxy = accept(listener, NULL, NULL);
    expect_told(proxy, via->token ? BYTES("\5\1\x80") : BYTES("\5\1\0"));
    return proxy;
}

static void expect_greeting(const char *text)
{
    while (strlen(last.data) < strlen(text)) {
        loop_turn(loop, true);
    }
    assert_string_equal(last.data, text);
}

static void tunnel(void **state)
{
    (void)state;
    int proxy = proxy_of(&plain, SECONDS(5));
    assert_string_equal(tried, "10.0.0.9:20004");
    assert_string_equal(last.came, "resolved 10.0.0.9:20004;connected 10.0.0.9:20004;");
    answer(proxy, BYTES("\5\0"));
    expect_told(proxy, BYTES("\5\1\0\3\x9mail.corp\x03\xE3"));
    answer(proxy, BYTES(OPEN));
    until_done();
    answer(proxy, BYTES("+OK\r\n"));
    expect_greeting("+OK\r\n");
    close(proxy);
    expect_success();
}

static void tunnel_with_token(void **state)
{
    (void)state;
    int proxy = proxy_of(&with_token, SECONDS(5));
    answer(proxy, BYTES("\5\x80"));
    expect_told(proxy, BYTES("\1\0\0\0\x0C"
                             "e30.e30.c2ln\x08"
                             "cGxhbnQ="));
    answer(proxy, BYTES("\1\0"));
    expect_told(proxy, BYTES("\5\1\0\3\x9mail.corp\x03\xE3"));
    answer(proxy, BYTES(OPEN));
    until_done();
    close(proxy);
    expect_success();
}

/* The greeting comes together with the proxy's answer, whole or cut, and the end of the stream
 * follows. */
static void greeting_behind_the_answer(void **state)
{
    (void)state;
    struct str all = BYTES(OPEN "+OK\r\n");
    for (size_t cut = 0; cut <= all.n; cut++) {
        int proxy = proxy_of(&plain, SECONDS(5));
        answer(proxy, BYTES("\5\0"));
        expect_told(proxy, BYTES("\5\1\0\3\x9mail.corp\x03\xE3"));
        answer(proxy, (struct str){all.p, cut});
        turn();
        answer(proxy, (struct str){all.p + cut, all.n - cut});
        close(proxy);
        until_done();
        expect_greeting("+OK\r\n");
        while (!last.ended) {
            loop_turn(loop, true);
        }
        expect_success();
    }
}

static void tunnel_refused(void **state)
{
    (void)state;
    int proxy = proxy_of(&plain, SECONDS(5));
    answer(proxy, BYTES("\5\0\5\3\0\1\0\0\0\0\0\0"));
    until_done();
    expect_failure(FAIL_SOCKS, NO_TUNNEL "the Cloud Connector is not connected, or its location ID "
                                         "is unknown (SOCKS5 reply 3)");
    close(proxy);
    proxy = proxy_of(&with_token, SECONDS(5));
    answer(proxy, BYTES("\5\x80\1\1"));
    until_done();
    expect_failure(FAIL_TOKEN, NO_TUNNEL "the proxy refuses the access token (status 1)");
    close(proxy);
    proxy = proxy_of(&plain, SECONDS(5));
    answer(proxy, BYTES("\5\0"));
    close(proxy);
    until_done();
    assert_int_equal(last.err.fail, FAIL_SOCKS);
    assert_non_null(
        strstr(last.err.text, NO_TUNNEL "the proxy closed the connection (connection)"));
    proxy = proxy_of(&plain, SECONDS(5));
    shutdown(proxy, SHUT_WR);
    until_done();
    expect_failure(FAIL_SOCKS, NO_TUNNEL "the proxy closed the connection (choice of a method)");
    close(proxy);
}

static void tunnel_silence(void **state)
{
    (void)state;
    struct dial_via hole = plain;
    hole.host = "hole.test";
    start_via(&hole, "mail.corp", SECONDS(5));
    turn();
    advance(SECONDS(1) - 1);
    assert_int_equal(last.calls, 0);
    advance(1);
    expect_failure(FAIL_TIMEOUT, "no tunnel to mail.corp:995 through hole.test:20004: no answer "
                                 "from 10.0.0.1:20004 within 1 s");
    start_via(&hole, "mail.corp", MILLIS(500));
    turn();
    advance(MILLIS(500));
    expect_failure(FAIL_TIMEOUT, "no tunnel to mail.corp:995 through hole.test:20004: no answer "
                                 "from 10.0.0.1:20004 within 500 ms");

    int proxy = proxy_of(&plain, SECONDS(5));
    advance(SECONDS(5) - 1);
    assert_int_equal(last.calls, 0);
    advance(1);
    expect_failure(FAIL_TIMEOUT,
                   NO_TUNNEL "the proxy did not answer within 5 s (choice of a method)");
    close(proxy);
    proxy = proxy_of(&plain, SECONDS(5));
    answer(proxy, BYTES("\5\0\5\0"));
    expect_told(proxy, BYTES("\5\1\0\3\x9mail.corp\x03\xE3"));
    advance(SECONDS(5));
    expect_failure(FAIL_TIMEOUT, NO_TUNNEL "the proxy did not answer within 5 s (connection)");
    close(proxy);
}

/* The addresses of a proxy have head starts, too. */
static void slow_proxy(void **state)
{
    (void)state;
    struct dial_via slow = plain;
    slow.host = "slow.test";
    start_via(&slow, "mail.corp", SECONDS(5));
    turn();
    advance(MILLIS(250));
    assert_string_equal(tried, "10.0.0.1:20004, 10.0.0.5:20004");
    while (conn_count() > 1) {
        loop_turn(loop, true);
    }
    int proxy = accept(listener, NULL, NULL);
    expect_told(proxy, BYTES("\5\1\0"));
    answer(proxy, BYTES("\5\0" OPEN));
    until_done();
    close(proxy);
    expect_success();
}

static void no_way_to_the_proxy(void **state)
{
    (void)state;
    static const struct {
        const char *proxy;
        enum fail fail;
        const char *text;
    } table[] = {
        {"refused.test", FAIL_CONNECT, "10.0.0.3:20004 refused the connection"},
        {"mixed.test", FAIL_CONNECT, "10.0.0.3:20004 refused the connection (3 addresses tried)"},
        {"no name", FAIL_CONFIG, "\"no name\" is neither a host name nor an IP address"},
        {"group.test", FAIL_CONFIG,
         "host \"group.test\" is 239.0.0.1, a multicast address, which is not allowed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[200];
        struct dial_via via = plain;
        via.host = table[i].proxy;
        start_via(&via, "mail.corp", SECONDS(5));
        until_done();
        text_fmt(text, sizeof(text), "no tunnel to mail.corp:995 through %s:20004: %s",
                 table[i].proxy, table[i].text);
        expect_failure(table[i].fail, text);
    }
    struct dial_via lost = plain;
    lost.host = "unknown.test";
    start_via(&lost, "mail.corp", SECONDS(5));
    turn();
    advance(SECONDS(1));
    expect_failure(FAIL_DNS, "no tunnel to mail.corp:995 through unknown.test:20004: host "
                             "\"unknown.test\" could not be resolved within 1 s");
}

/* The host behind the proxy may have any name; the proxy may be at any address. */
static void addresses_of_a_tunnel(void **state)
{
    (void)state;
    struct dial_via local = {.host = "127.0.0.1", .port = listener_port, .timeout = SECONDS(1)};
    start_via(&local, "localhost", SECONDS(5));
    while (conn_count() == 0) {
        loop_turn(loop, true);
    }
    int proxy = accept(listener, NULL, NULL);
    expect_told(proxy, BYTES("\5\1\0"));
    answer(proxy, BYTES("\5\0"));
    expect_told(proxy, BYTES("\5\1\0\3\x9localhost\x03\xE3"));
    answer(proxy, BYTES(OPEN));
    until_done();
    close(proxy);
    expect_success();

    start_via(&plain, "::1", SECONDS(5));
    until_done();
    expect_failure(FAIL_CONFIG, "no tunnel to ::1:995 through proxy.test:20004: the host is an "
                                "IPv6 address, which no SOCKS5 proxy of SAP takes");
    assert_string_equal(tried, "");
    start_via(&plain, "::1", SECONDS(5));
    dial_cancel(last.dial);
    advance(SECONDS(60));
    assert_int_equal(last.calls, 0);
}

static void tunnel_cancelled(void **state)
{
    (void)state;
    static const struct str answers[] = {{"", 0}, {"\5", 1}, {"\5\0", 2}, {"\5\0\5", 3}};
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        int proxy = proxy_of(&plain, SECONDS(5));
        answer(proxy, answers[i]);
        turn();
        dial_cancel(last.dial);
        advance(SECONDS(60));
        assert_int_equal(last.calls, 0);
        assert_int_equal(conn_count(), 0);
        close(proxy);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(handed_over),
        TEST(refused),
        TEST(next_at_once_when_refused),
        TEST(head_start),
        TEST(silence),
        TEST(no_route),
        TEST(policy),
        TEST(names),
        TEST(cancelled),
        TEST(tunnel),
        TEST(tunnel_with_token),
        TEST(greeting_behind_the_answer),
        TEST(tunnel_refused),
        TEST(tunnel_silence),
        TEST(slow_proxy),
        TEST(no_way_to_the_proxy),
        TEST(addresses_of_a_tunnel),
        TEST(tunnel_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
