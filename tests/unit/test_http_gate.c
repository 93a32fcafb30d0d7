/* Tests http_handler's may_send: when it is asked, and that nothing leaves after it has refused. */
#include "http.h"

#include "tests/unit/world/http_server.h"

#define NOT_SENT "api.test: the request may not be sent any more"

enum { LARGE = 4 * 1024 * 1024, MANY = 1 << 20 };

/* Starts a call of which the first `allowed` pieces may be sent. */
static void start_asking(struct outcome *o, const struct http_message *message, int allowed)
{
    reset(o);
    o->asks = true;
    o->allowed = allowed;
    start(o, message, false);
}

static void start_get_asking(struct outcome *o, const char *target, int allowed)
{
    struct http_message message = get(target);
    start_asking(o, &message, allowed);
}

/* The question comes when the octets are about to leave: after the wait for a connection, not
 * before. */
static void asked_last(void **state)
{
    struct outcome *busy = &outcomes[0], *o = &outcomes[1];
    (void)state;
    start_get(busy, "/busy");
    start_get_asking(o, "/next", 1);
    int fd = accept_one();
    expect_get(fd, "/busy");
    turn_quietly(loop);
    assert_int_equal(o->questions, 0);
    send_text(fd, ok_answer);
    expect_answer(busy, 200, "ok");
    expect_get(fd, "/next");
    assert_int_equal(o->questions, 1);
    send_text(fd, ok_answer);
    expect_answer(o, 200, "ok");
    close(fd);
}

/* A refusal is not reported from inside http_start, though the connection was ready. */
static void refused_on_a_kept_connection(void **state)
{
    struct outcome *o = &outcomes[0], *next = &outcomes[1];
    (void)state;
    int fd = have_kept();
    start_get_asking(o, "/", 0);
    assert_int_equal(o->questions, 1);
    start_get(next, "/next"); /* another one goes on */
    expect_failure(o, FAIL_INTERNAL, NOT_SENT);
    expect_end(fd);
    fd = accept_one();
    expect_get(fd, "/next");
    send_text(fd, ok_answer);
    expect_answer(next, 200, "ok");
    close(fd);
}

static void refused_on_a_new_connection(void **state)
{
    struct outcome *o = &outcomes[0];
    (void)state;
    start_get_asking(o, "/", 0);
    assert_int_equal(o->questions, 0);
    int fd = accept_one();
    expect_failure(o, FAIL_INTERNAL, NOT_SENT);
    expect_end(fd);
}

static void cancelled_after_the_refusal(void **state)
{
    struct outcome *o = &outcomes[0];
    (void)state;
    int fd = have_kept();
    start_get_asking(o, "/", 0);
    http_cancel(o->call);
    turn_quietly(loop);
    assert_int_equal(o->done, 0);
    expect_end(fd);
    close(have_kept());
}

/* A request that is repeated, because the kept connection has ended, is asked about again. */
static void repeated(void **state)
{
    struct outcome *o = &outcomes[0];
    (void)state;
    int fd = have_kept();
    start_get_asking(o, "/", 1);
    expect_get(fd, "/");
    close(fd);
    fd = accept_one();
    expect_failure(o, FAIL_INTERNAL, NOT_SENT);
    assert_int_equal(o->questions, 2);
    expect_end(fd);
}

/* Returns the number of octets that have come when no more come. */
static size_t drain(int fd, bool *end)
{
    struct buf in;
    size_t all = 0;
    buf_init(&in, SIZE_MAX);
    *end = false;
    for (int quiet = 0; quiet < 50 && !*end; quiet++) {
        turn_quietly(loop);
        size_t n = peer_read(fd, &in, end);
        all += n;
        quiet = n ? 0 : quiet;
        poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, n ? 0 : 1);
    }
    buf_free(&in);
    return all;
}

/* However the socket takes a large request, its last octet is never sent without a question that
 * came after the wait for the server. */
static void large_request(void **state)
{
    static char body[LARGE];
    struct outcome *o = &outcomes[0];
    struct http_message message = get("/large");
    bool end;
    (void)state;
    memset(body, 'x', sizeof(body));
    message.method = "PATCH";
    message.has_body = true;
    message.body = (struct str){body, sizeof(body)};
    start_asking(o, &message, MANY);
    int fd = accept_one();
    turn_quietly(loop); /* the server reads nothing, so the request is stuck */
    assert_true(o->questions > 0 && o->questions < LARGE / 65536);
    o->allowed = o->questions;
    size_t sent = drain(fd, &end);
    assert_true(end && sent < LARGE);
    expect_failure(o, FAIL_INTERNAL, NOT_SENT);
    close(fd);

    start_asking(o, &message, MANY);
    fd = accept_one();
    sent = drain(fd, &end);
    assert_true(!end && sent > LARGE);
    send_text(fd, ok_answer);
    expect_answer(o, 200, "ok");
    close(fd);
}

/* A middle-sized request may wait in a queue of the connection, but not its end. */
static void end_of_a_request(void **state)
{
    static char body[60000];
    struct outcome *o = &outcomes[0];
    struct http_message message = get("/");
    bool end;
    (void)state;
    memset(body, 'x', sizeof(body));
    message.method = "PATCH";
    message.has_body = true;
    message.body = (struct str){body, sizeof(body)};
    start_asking(o, &message, 1);
    int fd = accept_one();
    size_t sent = drain(fd, &end);
    assert_true(end && sent < sizeof(body));
    assert_int_equal(o->questions, 2);
    expect_failure(o, FAIL_INTERNAL, NOT_SENT);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(asked_last),
        TEST(refused_on_a_kept_connection),
        TEST(refused_on_a_new_connection),
        TEST(cancelled_after_the_refusal),
        TEST(repeated),
        TEST(large_request),
        TEST(end_of_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
