/* Tests the HTTP client's connections, the calls that share them, failures, deadlines and
 * cancelling. */
#include "http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/tls.h"
#include "lib/tls_bundle.h"
#include "lib/tls_roots.h"
#include "tests/unit/world/http_server.h"
#include "tests/unit/world/tls_peer.h"

/* ---- connections ---- */

static void octets_behind_the_answer(void **state)
{
    (void)state;
    start_get(&outcomes[0], "/0");
    start_get(&outcomes[1], "/1");
    int fd = accept_one();
    expect_get(fd, "/0");
    send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n"
                  "Content-Length: 6\r\n\r\npoison");
    expect_answer(&outcomes[0], 200, "ok");
    expect_end(fd);
    fd = accept_one();
    expect_get(fd, "/1");
    send_text(fd, ok_answer);
    expect_answer(&outcomes[1], 200, "ok");
    close(fd);
}

static void idle_connection_ends(void **state)
{
    (void)state;
    int fd = have_kept();
    send_text(fd, "HTTP/1.1 408 Request Timeout\r\n\r\n");
    expect_end(fd);

    fd = have_kept();
    shutdown(fd, SHUT_WR);
    expect_end(fd);

    fd = have_kept();
    close_with_reset(fd);
    turn_quietly(loop);
    assert_int_equal(conn_count(), 0);

    fd = have_kept();
    advance(SECONDS(60) - 1);
    assert_int_equal(conn_count(), 1);
    advance(1);
    expect_end(fd);
}

static void answer_kept(int fd, const char *target)
{
    struct outcome *o = &outcomes[0];
    expect_get(fd, target);
    send_text(fd, ok_answer);
    expect_answer(o, 200, "ok");
}

static void sent_again_when_a_kept_connection_ends(void **state)
{
    struct outcome *o = &outcomes[0];
    (void)state;
    for (int way = 0; way < 3; way++) {
        int fd = have_kept();
        reset(o);
        if (way == 0) {
            close(fd); /* the client has not seen it yet */
            start_get(o, "/again");
        } else {
            start_get(o, "/again");
            expect_get(fd, "/again");
            way == 1 ? (void)close(fd) : close_with_reset(fd);
        }
        fd = accept_one();
        answer_kept(fd, "/again");
        close(fd);
        turn_quietly(loop);
    }
    expect_no_connection();
}

static void sent_again_only_once(void **state)
{
    struct outcome *o = &outcomes[0];
    (void)state;
    int fd = have_kept();
    start_get(o, "/again");
    expect_get(fd, "/again");
    close(fd);
    fd = accept_one();
    expect_get(fd, "/again");
    close(fd);
    expect_failure(o, FAIL_REMOTE,
                   "api.test: the server closed the connection; we waited for the answer");
    expect_no_connection();
}

static void sent_again_in_vain(void **state)
{
    struct outcome *o = &outcomes[0];
    char text[100];
    (void)state;
    int fd = have_kept();
    close(listener);
    start_get(o, "/again");
    expect_get(fd, "/again");
    close(fd);
    text_fmt(text, sizeof(text), "api.test: 127.0.0.1:%u refused the connection", port);
    expect_failure(o, FAIL_CONNECT, text);
    open_listener();
}

static void not_sent_again(void **state)
{
    struct outcome *o = &outcomes[0];
    struct http_message message = get("/once");
    (void)state;
    int fd = have_kept(); /* a connection that ends after an octet of the answer */
    start_get(o, "/");
    expect_get(fd, "/");
    send_text(fd, "H");
    close(fd);
    expect_failure(o, FAIL_REMOTE,
                   "api.test: the server closed the connection; we waited for the answer");
    expect_no_connection();

    fd = have_kept(); /* a connection on which the server is silent */
    reset(o);
    start_get(o, "/");
    expect_get(fd, "/");
    advance(ANSWER_TIMEOUT);
    expect_failure(o, FAIL_TIMEOUT, "api.test: the server did not send the answer within 30 s");
    expect_end(fd);
    expect_no_connection();

    int kept = have_kept(); /* a connection that this call must not use */
    message.once = true;
    reset(o);
    start(o, &message, false);
    expect_end(kept);
    fd = accept_one();
    expect_get(fd, "/once");
    close(fd);
    expect_failure(o, FAIL_REMOTE,
                   "api.test: the server closed the connection; we waited for the answer");
    expect_no_connection();
}

static void once_over_a_new_connection_that_is_kept(void **state)
{
    struct outcome *o = &outcomes[0];
    struct http_message message = get("/once");
    (void)state;
    message.once = true;
    open_http(2, NULL);
    int kept = have_kept();
    start(o, &message, false);
    int fd = accept_one();
    answer_kept(fd, "/once");
    reset(o);
    start_get(o, "/next"); /* uses the newest connection */
    answer_kept(fd, "/next");
    expect_no_connection();
    close(fd);
    close(kept);
}

static void limit_and_order(void **state)
{
    static const char *const targets[] = {"/0", "/1", "/2", "/3", "/4"};
    (void)state;
    open_http(2, NULL);
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        start_get(&outcomes[i], targets[i]);
    }
    int a = accept_one(), b = accept_one();
    expect_no_connection();
    expect_get(a, "/0");
    expect_get(b, "/1");
    http_cancel(outcomes[3].call);
    send_text(b, ok_answer);
    expect_answer(&outcomes[1], 200, "ok");
    expect_get(b, "/2");
    send_text(b, "H"); /* a failure also lets the next call start */
    shutdown(b, SHUT_WR);
    expect_failure(&outcomes[2], FAIL_REMOTE,
                   "api.test: the server closed the connection; we waited for the answer");
    expect_end(b);
    b = accept_one();
    expect_get(b, "/4");
    send_text(b, ok_answer);
    send_text(a, ok_answer);
    expect_answer(&outcomes[4], 200, "ok");
    expect_answer(&outcomes[0], 200, "ok");
    assert_int_equal(outcomes[3].done, 0);
    expect_no_connection();
    close(a);
    close(b);
}

static void too_many_wait(void **state)
{
    static struct outcome many[HTTP_WAITING_MAX + 2];
    struct outcome *last = &many[HTTP_WAITING_MAX + 1];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        many[i] = (struct outcome){0};
        start_get(&many[i], "/");
    }
    expect_failure(last, FAIL_LIMIT, "api.test: more than 4096 requests wait for a connection");
    http_cancel(many[5].call); /* makes room for one call */
    reset(last);
    start_get(last, "/");
    turn_quietly(loop);
    assert_int_equal(last->done, 0);
    start_get(&outcomes[0], "/");
    http_cancel(outcomes[0].call); /* before the call is refused */
    turn_quietly(loop);
    assert_int_equal(outcomes[0].done, 0);
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        if (i != 5) {
            http_cancel(many[i].call);
        }
    }
}

static struct tls_client *make_tls(void)
{
    struct tls_settings settings = {.host = "api.test", .trust_any = true};
    struct error err;
    struct tls_client *client = tls_client_new(NULL, &settings, &err);
    assert_non_null(client);
    return client;
}

/* Checks for the first octets of a ClientHello (RFC 8446 section 5.1), which a TLS client sends at
 * once. */
static void expect_handshake(int fd)
{
    char head[2];
    read_all(fd, head, 2);
    assert_memory_equal(head, "\x16\x03", 2);
}

static void other_tls_from_now_on(void **state)
{
    struct tls_client *tls = make_tls();
    (void)state;
    open_http(2, NULL);
    start_get(&outcomes[0], "/0");
    int busy = accept_one(), idle = have_kept();
    expect_get(busy, "/0");
    http_set_tls(http, tls);
    expect_end(idle);
    send_text(busy, ok_answer);
    expect_answer(&outcomes[0], 200, "ok");
    expect_end(busy);
    start_get(&outcomes[1], "/1");
    int fd = accept_one();
    expect_handshake(fd);
    close(fd);
    turn_until(loop, is_done, &outcomes[1]);
    http_set_tls(http, NULL);
    close(have_kept());
    tls_client_unref(tls);
}

/* ---- failures to connect ---- */

static void refused(void **state)
{
    struct http_settings settings = {
        .host = "127.0.0.1",
        .port = port,
        .allow_local = true,
        .max_connections = 1,
        .connect_timeout = SECONDS(5),
    };
    char authority[32], text[100];
    (void)state;
    close(listener);
    start_get(&outcomes[0], "/");
    text_fmt(text, sizeof(text), "api.test: 127.0.0.1:%u refused the connection", port);
    expect_failure(&outcomes[0], FAIL_CONNECT, text);

    /* A message does not contain it twice. */
    text_fmt(authority, sizeof(authority), "127.0.0.1:%u", port);
    settings.authority = authority;
    http_free(http);
    http = http_new(loop, dns, &settings);
    start_get(&outcomes[1], "/");
    expect_failure(&outcomes[1], FAIL_CONNECT, text + strlen("api.test: "));
    open_listener();
}

static void tls_failures(void **state)
{
    struct tls_client *tls = make_tls();
    (void)state;
    open_http(1, tls);
    start_get(&outcomes[0], "/");
    int fd = accept_one();
    expect_handshake(fd);
    shutdown(fd, SHUT_WR);
    expect_failure(&outcomes[0], FAIL_TLS,
                   "api.test: the server closed the connection during the TLS handshake");
    close(fd);
    tls_client_unref(tls);
}

static void https(void **state)
{
    struct tls_settings settings = {.host = "127.0.0.1", .check_host = true};
    struct outcome *o = &outcomes[0];
    char path[64], *answers_of[] = {"request 1\n", "request 2\n", "request 1\n"};
    struct error err;
    (void)state;
    tls_peer_path(path, sizeof(path), "ca.crt");
    struct tls_roots *roots = tls_bundle_load(path, &err);
    struct tls_client *tls = tls_client_new(roots, &settings, &err);
    struct tls_client *distrustful = tls_client_new(NULL, &settings, &err);
    close(listener);
    port = tls_peer_port("any");
    open_http(1, tls);
    for (size_t i = 0; i < ARRAY_LEN(answers_of); i++) {
        struct http_message message = get("/");
        message.once = i == 2;
        reset(o);
        start(o, &message, false);
        expect_answer(o, 200, answers_of[i]);
    }
    http_set_tls(http, distrustful);
    reset(o);
    start_get(o, "/");
    turn_until(loop, is_done, o);
    assert_int_equal(o->err.fail, FAIL_CERT);
    assert_non_null(strstr(o->err.text, "api.test: certificate of 127.0.0.1 refused: "));
    open_listener();
    tls_client_unref(tls);
    tls_client_unref(distrustful);
    tls_roots_unref(roots);
}

/* ---- time ---- */

static void time_passes(int64_t time, struct outcome *o, const char *text)
{
    advance(time - 1);
    assert_int_equal(o->done, 0);
    advance(1);
    expect_failure(o, FAIL_TIMEOUT, text);
    turn_quietly(loop);
    assert_int_equal(conn_count(), 0);
}

static void timeouts(void **state)
{
    struct tls_client *tls = make_tls();
    struct outcome *o = &outcomes[0];
    char text[100];
    (void)state;
    in_hole = true;
    start_get(o, "/");
    turn_quietly(loop);
    text_fmt(text, sizeof(text), "api.test: no answer from 127.0.0.1:%u within 5 s", port);
    time_passes(CONNECT_TIMEOUT, o, text);
    in_hole = false;

    reset(o);
    start_get(o, "/");
    int fd = accept_one();
    expect_get(fd, "/");
    advance(SECONDS(10));
    /* An incomplete head does not extend the deadline. */
    send_text(fd, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1");
    turn_quietly(loop);
    time_passes(ANSWER_TIMEOUT - SECONDS(10), o,
                "api.test: the server did not send the answer within 30 s");
    expect_end(fd);

    reset(o);
    start_get(o, "/");
    fd = accept_one();
    expect_get(fd, "/");
    send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    turn_quietly(loop);
    advance(ANSWER_TIMEOUT - SECONDS(10));
    send_text(fd, "l"); /* nor does a body that comes in drops */
    turn_quietly(loop);
    time_passes(SECONDS(10), o,
                "api.test: the server did not send the rest of the answer within 30 s");
    expect_end(fd);

    struct http_message message = get("/watch");
    reset(o);
    start(o, &message, true);
    fd = accept_one();
    expect_get(fd, "/watch");
    send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
    turn_quietly(loop);
    advance(SILENCE_TIMEOUT - 1);
    send_text(fd, "l");
    turn_quietly(loop);
    time_passes(SILENCE_TIMEOUT, o,
                "api.test: the server did not send the rest of the answer within 300 s");
    expect_end(fd);

    http_set_tls(http, tls);
    tls_client_unref(tls);
    reset(o);
    start_get(o, "/");
    fd = accept_one();
    expect_handshake(fd);
    time_passes(CONNECT_TIMEOUT, o,
                "api.test: the server did not complete the TLS handshake within 5 s");
    close(fd);
}

/* ---- cancelling ---- */

enum where { IN_QUEUE, IN_DIAL, IN_CONNECT, IN_TLS, IN_HEAD, IN_BODY, BEHIND_A_KEPT_ONE, WHERES };

/* Brings a call to that place. Returns the server's end of its connection; -1: it has none. */
static int bring_to(enum where where, struct outcome *o, struct tls_client *tls)
{
    int fd = -1;
    switch (where) {
    case IN_QUEUE:
        start_get(&outcomes[1], "/before");
        start_get(o, "/");
        return -1;
    case IN_DIAL:
        start_get(o, "/");
        return -1;
    case IN_CONNECT:
        in_hole = true;
        start_get(o, "/");
        turn_quietly(loop);
        in_hole = false;
        return -1;
    case IN_TLS:
        http_set_tls(http, tls);
        start_get(o, "/");
        fd = accept_one();
        expect_handshake(fd);
        return fd;
    case IN_HEAD:
    case IN_BODY:
        start_get(o, "/");
        fd = accept_one();
        expect_get(fd, "/");
        send_text(fd, where == IN_HEAD ? "HTTP/1.1 200" : "HTTP/1.1 200 OK\r\n\r\nabc");
        turn_quietly(loop);
        return fd;
    case BEHIND_A_KEPT_ONE:
        fd = have_kept();
        start_get(o, "/");
        close(fd);
        turn_until(loop, connection_waits, NULL);
        return accept_one();
    case WHERES:
        break;
    }
    return fd;
}

static void cancelled_anywhere(void **state)
{
    struct tls_client *tls = make_tls();
    (void)state;
    http_cancel(NULL);
    for (enum where where = IN_QUEUE; where < WHERES; where++) {
        struct outcome *o = &outcomes[0];
        reset(o);
        int fd = bring_to(where, o, tls);
        http_cancel(o->call);
        if (where == IN_QUEUE) {
            http_cancel(outcomes[1].call);
        }
        turn_quietly(loop);
        assert_int_equal(conn_count(), 0);
        if (fd >= 0) {
            close(fd);
        }
        advance(SECONDS(1000));
        assert_int_equal(o->done, 0);
        http_set_tls(http, NULL);
        close(have_kept()); /* the connection is free for the next call */
        turn_quietly(loop);
    }
    tls_client_unref(tls);
}

static void cancel_itself(struct outcome *o, bool done)
{
    assert_false(done);
    http_cancel(o->call);
}

static void cancelled_by_a_piece(void **state)
{
    struct http_message message = get("/watch");
    struct outcome *o = &outcomes[0];
    (void)state;
    for (int more = 0; more < 2; more++) {
        reset(o);
        o->also = cancel_itself;
        start(o, &message, true);
        reset(&outcomes[1]);
        start_get(&outcomes[1], "/next");
        int fd = accept_one();
        expect_get(fd, "/watch");
        send_text(fd, more ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
                           : "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none");
        expect_end(fd);
        assert_int_equal(o->pieces, 1);
        assert_str(buf_str(&o->body), "one");
        fd = accept_one();
        expect_get(fd, "/next");
        send_text(fd, ok_answer);
        expect_answer(&outcomes[1], 200, "ok");
        assert_int_equal(o->done, 0);
        close(fd);
        turn_quietly(loop);
    }
}

static void cancel_the_other(struct outcome *o, bool done)
{
    struct outcome *other = o == &outcomes[0] ? &outcomes[1] : &outcomes[0];
    assert_true(done);
    http_cancel(other->call);
    http_set_tls(http, NULL); /* closes the connection that has just become idle */
    start_get(&outcomes[2], "/next");
}

static void cancelled_by_another_in_the_same_turn(void **state)
{
    (void)state;
    open_http(2, NULL);
    outcomes[0].also = outcomes[1].also = cancel_the_other;
    start_get(&outcomes[0], "/0");
    start_get(&outcomes[1], "/1");
    int a = accept_one(), b = accept_one();
    expect_get(a, "/0");
    expect_get(b, "/1");
    send_text(a, ok_answer);
    send_text(b, ok_answer);
    int c = accept_one();
    expect_get(c, "/next");
    expect_end(a);
    expect_end(b);
    assert_int_equal(outcomes[0].done + outcomes[1].done, 1);
    send_text(c, ok_answer);
    expect_answer(&outcomes[2], 200, "ok");
    close(c);
}

static int start_peer(void **state)
{
    (void)state;
    return tls_peer_start();
}

static int stop_peer(void **state)
{
    (void)state;
    return tls_peer_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(octets_behind_the_answer),
        TEST(idle_connection_ends),
        TEST(sent_again_when_a_kept_connection_ends),
        TEST(sent_again_only_once),
        TEST(sent_again_in_vain),
        TEST(not_sent_again),
        TEST(once_over_a_new_connection_that_is_kept),
        TEST(limit_and_order),
        TEST(too_many_wait),
        TEST(other_tls_from_now_on),
        TEST(refused),
        TEST(tls_failures),
        TEST(https),
        TEST(timeouts),
        TEST(cancelled_anywhere),
        TEST(cancelled_by_a_piece),
        TEST(cancelled_by_another_in_the_same_turn),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
