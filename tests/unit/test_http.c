/* Tests http: requests and answers. */
#include "http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/world/http_server.h"

/* ---- answers ---- */

enum after { KEPT, CLOSED, UNTIL_CLOSE };

static const struct answer {
    const char *method, *text, *body;
    int status;
    enum after after;
} answers[] = {
    {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200, KEPT},
    {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, KEPT},
    {"GET",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
     "3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n",
     "hello", 200, KEPT},
    {"GET",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
     "ok", 200, KEPT},
    {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", "", 204, KEPT},
    {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", 304, KEPT},
    {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "", 200, KEPT},
    {"GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone", "gone", 404, KEPT},
    {"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nend", "end", 200,
     CLOSED},
    {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", "old", 200, CLOSED},
    {"GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold", "old", 200,
     KEPT},
    {"GET", "HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", 200, UNTIL_CLOSE},
    {"GET", "HTTP/1.1 500 Oops\r\n\r\n", "", 500, UNTIL_CLOSE},
};

/* *fd is the server's end of the kept connection; -1: there is no connection. */
static void exchange(const struct answer *answer, bool handed_on, size_t first, size_t piece,
                     int *fd)
{
    struct outcome *o = &outcomes[0];
    struct http_message message = get("/x?y=z");
    message.method = answer->method;
    reset(o);
    start(o, &message, handed_on);
    *fd = *fd < 0 ? accept_one() : *fd;
    expect_request(*fd, answer->method, "/x?y=z");
    send_cut(*fd, answer->text, first, piece);
    if (answer->after == UNTIL_CLOSE) {
        assert_int_equal(o->done, 0);
        shutdown(*fd, SHUT_WR);
    }
    expect_answer(o, answer->status, answer->body);
    assert_int_equal(o->pieces > 0,
                     handed_on && answer->status / 100 == 2 && answer->body[0] != '\0');
    if (answer->after != KEPT) {
        expect_end(*fd);
        *fd = -1;
    }
}

static void every_answer_cut_everywhere(void **state)
{
    int fd = -1;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        for (int handed_on = 0; handed_on < 2; handed_on++) {
            size_t n = strlen(answers[i].text);
            exchange(&answers[i], handed_on, 1, 1, &fd);
            for (size_t first = 1; first <= n; first++) {
                exchange(&answers[i], handed_on, first, n, &fd);
            }
        }
    }
    expect_no_connection();
    close(fd);
}

/* Returns the number of octets in the answer's heads, including those of 1xx. */
static size_t heads_length(const char *text)
{
    const char *end = strstr(text, "\r\n\r\n") + 4;
    bool interim = text[9] == '1';
    return (size_t)(end - text) + (interim ? heads_length(end) : 0);
}

static void early_end_at_every_octet(void **state)
{
    struct outcome *o = &outcomes[0];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        const struct answer *answer = &answers[i];
        size_t head = heads_length(answer->text);
        for (size_t n = 0; n < strlen(answer->text); n++) {
            struct http_message message = get("/");
            message.method = answer->method;
            reset(o);
            start(o, &message, n % 2);
            int fd = accept_one();
            expect_request(fd, answer->method, "/");
            peer_send(fd, answer->text, n);
            close(fd);
            if (n >= head && answer->after == UNTIL_CLOSE) {
                char part[32];
                text_fmt(part, sizeof(part), "%.*s", (int)(n - head), answer->body);
                expect_answer(o, answer->status, part);
            } else {
                expect_failure(
                    o, FAIL_REMOTE,
                    n < head
                        ? "api.test: the server closed the connection; we waited for the answer"
                        : "api.test: the server closed the connection; we waited for the rest of "
                          "the answer");
            }
        }
    }
    expect_no_connection();
}

static void reset_in_the_middle(void **state)
{
    struct outcome *o = &outcomes[0];
    (void)state;
    for (int i = 0; i < 2; i++) {
        reset(o);
        start_get(o, "/");
        int fd = accept_one();
        expect_get(fd, "/");
        send_text(fd, i ? "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel" : "HTTP/1.1 2");
        turn_quietly(loop);
        close_with_reset(fd);
        expect_failure(o, FAIL_REMOTE,
                       i ? "api.test: the connection broke (Connection reset by peer); we waited "
                           "for the rest of the answer"
                         : "api.test: the connection broke (Connection reset by peer); we waited "
                           "for the answer");
    }
}

static void not_http(void **state)
{
    static const struct {
        const char *text, *wrong;
    } table[] = {
        {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the HTTP version is missing"},
        {"HTTP/2.0 200 OK\r\n\r\n", "an HTTP version other than 1.0 and 1.1"},
        {"HTTP/1.1 99 Low\r\n\r\n", "a malformed status"},
        {"HTTP/1.1 200 OK\nX: y\n\n", "a line ends with a bare LF"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
         "two different lengths"},
        {"HTTP/1.1 100 Continue\r\n\r\nnonsense\r\n\r\n", "the HTTP version is missing"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay", "a malformed chunk"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx", "a malformed chunk"},
    };
    struct outcome *o = &outcomes[0];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[200];
        reset(o);
        start_get(o, "/");
        int fd = accept_one();
        expect_get(fd, "/");
        send_text(fd, table[i].text);
        text_fmt(text, sizeof(text), "api.test: the answer is not HTTP/1.1: %s", table[i].wrong);
        expect_failure(o, FAIL_PROTOCOL, text);
        expect_end(fd);
    }
}

static void long_head(void **state)
{
    enum { MAX = 65536 };
    static const char begin[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: ";
    char *text = malloc(MAX + 1);
    struct outcome *o = &outcomes[0];
    (void)state;
    memset(text, 'x', MAX);
    memcpy(text, begin, sizeof(begin) - 1);
    text[MAX] = '\0';
    memcpy(text + MAX - 4, "\r\n\r\n", 4);
    start_get(o, "/");
    int fd = accept_one();
    expect_get(fd, "/");
    send_cut(fd, text, 30000, 30000);
    expect_answer(o, 200, "");

    memcpy(text + MAX - 4, "xxxx", 4);
    reset(o);
    start_get(o, "/");
    expect_get(fd, "/");
    send_cut(fd, text, 30000, 30000);
    expect_failure(o, FAIL_LIMIT, "api.test: the head of the answer has more than 65536 octets");
    expect_end(fd);
    free(text);
}

static void too_many_fields(void **state)
{
    char text[1024];
    struct outcome *o = &outcomes[0];
    size_t n = text_fmt(text, sizeof(text), "HTTP/1.1 200 OK\r\n");
    (void)state;
    for (int i = 0; i <= HTTP_HEADERS_MAX; i++) {
        n += text_fmt(text + n, sizeof(text) - n, "A: b\r\n");
    }
    text_fmt(text + n, sizeof(text) - n, "\r\n");
    start_get(o, "/");
    int fd = accept_one();
    expect_get(fd, "/");
    send_text(fd, text);
    expect_failure(o, FAIL_LIMIT, "api.test: the answer has more than 64 header fields");
    expect_end(fd);
}

/* We do not ask for a coding. The status of an encoded refusal still counts. */
static void coded_body(void **state)
{
    static const struct {
        const char *coding;
        int status;
        const char *text; /* NULL: the answer is accepted */
    } table[] = {
        {"gzip", 200, "api.test: the answer is coded as gzip, which was not asked for"},
        {"deflate, br", 201,
         "api.test: the answer is coded as deflate, br, which was not asked for"},
        {"identity", 200, NULL},
        {"", 200, NULL},
        {"gzip", 401, NULL},
    };
    struct outcome *o = &outcomes[0];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[160];
        text_fmt(text, sizeof(text),
                 "HTTP/1.1 %d X\r\nContent-Encoding: %s\r\nContent-Length: 1\r\nConnection: "
                 "close\r\n\r\nx",
                 table[i].status, table[i].coding);
        reset(o);
        start_get(o, "/");
        int fd = accept_one();
        expect_get(fd, "/");
        send_text(fd, text);
        if (table[i].text) {
            expect_failure(o, FAIL_PROTOCOL, table[i].text);
        } else {
            expect_answer(o, table[i].status, "x");
        }
        expect_end(fd);
    }
}

/* Sends an answer with a body of n octets. */
static void send_long(int fd, bool chunked, int n)
{
    char text[BODY_MAX + 200], body[BODY_MAX + 1];
    memset(body, 'b', sizeof(body));
    if (chunked) {
        text_fmt(text, sizeof(text),
                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%.*s\r\n0\r\n\r\n", n,
                 n, body);
    } else {
        text_fmt(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%.*s", n, n,
                 body);
    }
    send_text(fd, text);
}

static void body_bound(void **state)
{
    struct outcome *o = &outcomes[0];
    struct http_message message = get("/");
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        bool chunked = variant & 1, handed_on = variant & 2;
        for (int n = BODY_MAX - 1; n <= BODY_MAX + 1; n++) {
            reset(o);
            start(o, &message, handed_on);
            int fd = accept_one();
            expect_get(fd, "/");
            send_long(fd, chunked, n);
            if (n <= BODY_MAX || handed_on) {
                turn_until(loop, is_done, o);
                assert_int_equal(o->status, 200);
                assert_int_equal(buf_len(&o->body), n);
                close(fd);
                turn_quietly(loop);
            } else {
                expect_failure(o, FAIL_LIMIT, "api.test: the answer is larger than 1000 bytes");
                expect_end(fd);
            }
        }
    }
}

static void large_body_handed_on(void **state)
{
    enum { SIZE = 3 * 1024 * 1024 };
    struct http_message message = get("/watch");
    struct outcome *o = &outcomes[0];
    char *body = malloc(SIZE);
    (void)state;
    pattern_fill(body, 0, SIZE);
    start(o, &message, true);
    int fd = accept_one();
    expect_get(fd, "/watch");
    send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n");
    for (size_t at = 0; at < SIZE;) {
        ssize_t n = send(fd, body + at, SIZE - at, MSG_NOSIGNAL);
        at += n > 0 ? (size_t)n : 0;
        loop_turn(loop, false);
    }
    turn_until(loop, is_done, o);
    assert_int_equal(o->status, 200);
    assert_int_equal(buf_len(&o->body), SIZE);
    assert_true(pattern_is(buf_str(&o->body), 0));
    free(body);
    close(fd);
}

/* ---- requests ---- */

static void request_with_headers_and_body(void **state)
{
    struct http_message message = get("/token");
    struct outcome *o = &outcomes[0];
    (void)state;
    message.method = "POST";
    message.headers = str_of("Accept: text/plain\r\nX-One: 1\r\n");
    message.body = str_of("a=b");
    message.has_body = true;
    start(o, &message, false);
    int fd = accept_one();
    expect_text(fd, "POST /token HTTP/1.1\r\nHost: api.test\r\nUser-Agent: tproxy\r\n"
                    "Accept-Encoding: identity\r\nContent-Length: 3\r\nAccept: text/plain\r\n"
                    "X-One: 1\r\n\r\na=b");
    send_text(fd, ok_answer);
    expect_answer(o, 200, "ok");

    message.body.n = 0;
    message.headers.n = 0;
    reset(o);
    start(o, &message, false);
    expect_text(fd, "POST /token HTTP/1.1\r\nHost: api.test\r\nUser-Agent: tproxy\r\n"
                    "Accept-Encoding: identity\r\nContent-Length: 0\r\n\r\n");
    send_text(fd, ok_answer);
    expect_answer(o, 200, "ok");
    close(fd);
}

enum { LARGE = 4 * 1024 * 1024 };

/* Starts a call whose body is too large for a socket to take at once. */
static char *start_large(struct outcome *o)
{
    struct http_message message = get("/large");
    char *body = malloc(LARGE);
    pattern_fill(body, 0, LARGE);
    message.method = "PUT";
    message.body = (struct str){body, LARGE};
    message.has_body = true;
    reset(o);
    start(o, &message, false);
    return body;
}

static void large_request(void **state)
{
    static const char head[] = "PUT /large HTTP/1.1\r\nHost: api.test\r\nUser-Agent: tproxy\r\n"
                               "Accept-Encoding: identity\r\nContent-Length: 4194304\r\n\r\n";
    struct outcome *o = &outcomes[0];
    char *body = start_large(o), *got = malloc(LARGE), begin[sizeof(head)];
    (void)state;
    int fd = accept_one();
    read_all(fd, begin, sizeof(head) - 1);
    assert_memory_equal(begin, head, sizeof(head) - 1);
    for (size_t at = 0; at < LARGE; at += LARGE / 4) {
        advance(ANSWER_TIMEOUT - 1); /* slow, but never silent until the timeout */
        read_all(fd, got + at, LARGE / 4);
    }
    assert_memory_equal(got, body, LARGE);
    advance(ANSWER_TIMEOUT - 1);
    send_text(fd, ok_answer);
    expect_answer(o, 200, "ok");
    close(fd);
    free(body);
    free(got);
}

static void large_request_not_taken(void **state)
{
    struct outcome *o = &outcomes[0];
    char *body = start_large(o);
    (void)state;
    int fd = accept_one();
    turn_quietly(loop);
    advance(ANSWER_TIMEOUT);
    expect_failure(o, FAIL_TIMEOUT, "api.test: the server did not send the answer within 30 s");
    close(fd);
    free(body);
}

static void answer_before_the_request_is_sent(void **state)
{
    struct outcome *o = &outcomes[0];
    char *body = start_large(o), some[1000];
    (void)state;
    int fd = accept_one();
    read_all(fd, some, sizeof(some));
    send_text(fd, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\n");
    turn_quietly(loop);
    send_text(fd, "much");
    expect_answer(o, 413, "much");
    turn_quietly(loop);
    assert_int_equal(conn_count(), 0);
    close(fd);
    free(body);
}

/* ---- Retry-After ---- */

static void retry_after(void **state)
{
    static const struct {
        const char *field;
        int64_t time;
    } table[] = {
        {"", 0},
        {"Retry-After: 0\r\n", 0},
        {"retry-after: 7\r\n", SECONDS(7)},
        {"Retry-After: 3599\r\n", SECONDS(3599)},
        {"Retry-After: 3601\r\n", SECONDS(3600)},
        {"Retry-After: 9000000000000000000\r\n", SECONDS(3600)},
        {"Retry-After: -1\r\n", 0},
        {"Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", 0},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[200];
        struct http_head head;
        text_fmt(text, sizeof(text), "HTTP/1.1 503 Busy\r\n%s\r\n", table[i].field);
        assert_int_equal(http_parse_response(str_of(text), sizeof(text), false, &head), OK);
        assert_int_equal(http_retry_after(&head), table[i].time);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_answer_cut_everywhere),
        TEST(early_end_at_every_octet),
        TEST(reset_in_the_middle),
        TEST(not_http),
        TEST(long_head),
        TEST(too_many_fields),
        TEST(coded_body),
        TEST(body_bound),
        TEST(large_body_handed_on),
        TEST(request_with_headers_and_body),
        TEST(large_request),
        TEST(large_request_not_taken),
        TEST(answer_before_the_request_is_sent),
        cmocka_unit_test(retry_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
