/* Tests http/proto: heads and chunks, whole, byte by byte, and split at every position. */
#include "http/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX = 8192 };

/* Parses a copy of exactly n octets, so that the sanitizer sees a read beyond. */
static int parse(bool request, const char *text, size_t n, struct http_head *head)
{
    static char *copy;
    free(copy);
    copy = malloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    char *exact = realloc(copy, n ? n : 1);
    copy = exact ? exact : copy;
    struct str in = {copy, n};
    return request ? http_parse_request(in, MAX, head) : http_parse_response(in, MAX, false, head);
}

/* Checks that every shorter piece gives AGAIN, and that octets behind the head change nothing. */
static void parse_ok(bool request, const char *text, struct http_head *head)
{
    char more[MAX];
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(parse(request, text, i, head), AGAIN);
    }
    snprintf(more, sizeof(more), "%s\n\nGET", text);
    assert_int_equal(parse(request, more, n + 5, head), OK);
    assert_int_equal(head->size, n);
    assert_int_equal(parse(request, text, n, head), OK);
    assert_int_equal(head->size, n);
}

static void assert_str(struct str s, const char *text)
{
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
}

/* ---- requests ---- */

static void request(void **state)
{
    (void)state;
    struct http_head h;
    struct str v;
    parse_ok(true,
             "GET /metrics?x=1 HTTP/1.1\r\nHost: a:9494\r\nX-Empty:\r\nX-Pad: \t b c \t\r\n\r\n",
             &h);
    assert_str(h.method, "GET");
    assert_str(h.target, "/metrics?x=1");
    assert_int_equal(h.minor, 1);
    assert_int_equal(h.framing, HTTP_NO_BODY);
    assert_true(h.keep_alive);
    assert_int_equal(h.header_count, 3);
    assert_true(http_find_header(&h, "hOsT", &v));
    assert_str(v, "a:9494");
    assert_true(http_find_header(&h, "x-empty", &v));
    assert_str(v, "");
    assert_true(http_find_header(&h, "X-Pad", &v));
    assert_str(v, "b c");
    assert_false(http_find_header(&h, "X-Pa", &v));
    parse_ok(true, "\r\nHEAD / HTTP/1.0\r\n\r\n", &h);
    assert_str(h.method, "HEAD");
    assert_false(h.keep_alive);
    parse_ok(true, "POST * HTTP/1.1\r\nHost:\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
             &h);
    assert_int_equal(h.framing, HTTP_LENGTH);
    assert_int_equal(h.length, 5);
    parse_ok(true, "POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: Chunked\r\n\r\n", &h);
    assert_int_equal(h.framing, HTTP_CHUNKED);
}

static void connection_header(void **state)
{
    (void)state;
    struct http_head h;
    parse_ok(true, "GET / HTTP/1.1\r\nHost: x\r\nConnection: TE , Close\r\n\r\n", &h);
    assert_false(h.keep_alive);
    parse_ok(true, "GET / HTTP/1.1\r\nHost: x\r\nConnection: a\r\nConnection: close\r\n\r\n", &h);
    assert_false(h.keep_alive);
    parse_ok(true, "GET / HTTP/1.1\r\nHost: x\r\nConnection: closed,,\r\n\r\n", &h);
    assert_true(h.keep_alive);
    parse_ok(true, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", &h);
    assert_true(h.keep_alive);
}

static void bad_requests(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *text;
    } bad[] = {
        {400, "GET / HTTP/1.1\nHost: x\n\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\n\r\n"},
        {400, "\n"},
        {400, "\r\n\r\n"},
        {400, "GET /\r\n\r\n"},
        {400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET / HTTP/1.1 \r\nHost: x\r\n\r\n"},
        {400, " GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET /\r/ HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "G(T / HTTP/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET / http/1.1\r\nHost: x\r\n\r\n"},
        {400, "GET / HTTP/1.12\r\nHost: x\r\n\r\n"},
        {505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n"},
        {505, "GET / HTTP/1.2\r\nHost: x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost : x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n: x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\n Host: x\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\n\ty: z\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\x01\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\x7f\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775808\r\n\r\n"},
        {400,
         "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {400,
         "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"},
        {400, "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {501, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"},
        {501, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n"},
        {400, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0b"
              "chunked\r\n\r\n"},
        {501, "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
              "chunked\r\n\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct http_head h;
        size_t n = strlen(bad[i].text);
        int res = parse(true, bad[i].text, n, &h);
        if (res != ERR || h.status != bad[i].status) {
            fail_msg("%s: %d, status %d", bad[i].text, res, h.status);
        }
        assert_non_null(h.wrong);
        /* No prefix of it is good either. */
        for (size_t k = 0; k < n; k++) {
            assert_int_not_equal(parse(true, bad[i].text, k, &h), OK);
        }
    }
}

/* A NUL ends neither a line nor a head. */
static void nul_octets(void **state)
{
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        char copy[sizeof(text)];
        struct http_head h;
        memcpy(copy, text, sizeof(text));
        copy[i] = '\0';
        assert_int_not_equal(parse(true, copy, sizeof(text) - 1, &h), OK);
    }
}

static void too_long(void **state)
{
    (void)state;
    static char text[MAX + 100];
    struct http_head h;
    size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: ");
    memset(text + n, 'x', sizeof(text) - n);
    assert_int_equal(parse(true, text, MAX - 1, &h), AGAIN);
    assert_int_equal(parse(true, text, MAX, &h), ERR);
    assert_int_equal(h.status, 431);
    assert_int_equal(parse(true, text, MAX + 1, &h), ERR);
    memcpy(text + MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(parse(true, text, MAX, &h), OK);
    assert_int_equal(parse(true, text, MAX + 50, &h), OK);
    memcpy(text + MAX - 4, "x\r\n\r\n", 5);
    assert_int_equal(parse(true, text, MAX + 1, &h), ERR);
    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 1; i < HTTP_HEADERS_MAX; i++) {
        n += (size_t)sprintf(text + n, "A: b\r\n");
    }
    sprintf(text + n, "\r\n");
    assert_int_equal(parse(true, text, n + 2, &h), OK);
    assert_int_equal(h.header_count, HTTP_HEADERS_MAX);
    sprintf(text + n, "A: b\r\n\r\n");
    assert_int_equal(parse(true, text, n + 8, &h), ERR);
    assert_int_equal(h.status, 431);
    assert_string_equal(h.wrong, "more than 64 header fields");
}

/* ---- responses ---- */

static void response(void **state)
{
    (void)state;
    struct http_head h;
    parse_ok(false, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", &h);
    assert_int_equal(h.status, 200);
    assert_int_equal(h.framing, HTTP_LENGTH);
    assert_int_equal(h.length, 12);
    assert_true(h.keep_alive);
    parse_ok(false, "HTTP/1.1 404 Not \xc3\xa9 Found\r\nTransfer-Encoding: chunked\r\n\r\n", &h);
    assert_int_equal(h.status, 404);
    assert_int_equal(h.framing, HTTP_CHUNKED);
    parse_ok(false, "HTTP/1.1 200\r\n\r\n", &h);
    assert_int_equal(h.framing, HTTP_UNTIL_CLOSE);
    assert_false(h.keep_alive);
    parse_ok(false, "HTTP/1.1 204 \r\nContent-Length: 7\r\n\r\n", &h);
    assert_int_equal(h.framing, HTTP_NO_BODY);
    assert_true(h.keep_alive);
    parse_ok(false, "HTTP/1.1 304 x\r\n\r\n", &h);
    assert_int_equal(h.framing, HTTP_NO_BODY);
    parse_ok(false, "HTTP/1.1 100 Continue\r\n\r\n", &h);
    assert_int_equal(h.framing, HTTP_NO_BODY);
    parse_ok(false, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", &h);
    assert_false(h.keep_alive);
    struct str in = str_of("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n");
    assert_int_equal(http_parse_response(in, MAX, true, &h), OK);
    assert_int_equal(h.framing, HTTP_NO_BODY);
    assert_int_equal(h.length, 12);
}

static void bad_responses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "+OK POP3 ready\r\n\r\n",
        "HTTP/1.1 200 O\x01K\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct http_head h;
        if (parse(false, bad[i], strlen(bad[i]), &h) != ERR) {
            fail_msg("%s", bad[i]);
        }
        assert_non_null(h.wrong);
    }
}

/* ---- chunks ---- */

/* Feeds the text in two or three pieces, cut at a and b, and collects the data. Returns the last
 * result and the number of octets that were not taken. */
static int feed(const char *text, size_t a, size_t b, char *out, size_t *rest)
{
    struct http_chunked c = {0};
    size_t n = strlen(text), cuts[] = {0, a, b, n};
    size_t len = 0;
    int res = AGAIN;
    for (int i = 0; i < 3 && res != ERR; i++) {
        struct str in = {text + cuts[i], cuts[i + 1] - cuts[i]}, data;
        while ((res = http_chunked_next(&c, &in, &data)) == OK && data.n) {
            memcpy(out + len, data.p, data.n);
            len += data.n;
        }
        if (res == AGAIN) {
            assert_int_equal(in.n, 0);
        }
        if (res == OK) {
            *rest = in.n + (n - cuts[i + 1]);
            break;
        }
    }
    out[len] = '\0';
    return res;
}

static void chunks(void **state)
{
    (void)state;
    static const struct {
        const char *text, *body;
        size_t rest;
    } good[] = {
        {"0\r\n\r\n", "", 0},
        {"5\r\nhello\r\n0\r\n\r\n", "hello", 0},
        {"5\r\nhello\r\n1\r\n \r\n00a;x=\"y z\"\r\n0123456789\r\n0\r\n\r\nHTTP/1.1",
         "hello 0123456789", 8},
        {"3;\r\nabc\r\n000\r\nTrailer: x\r\nOther: y\r\n\r\n\r\n", "abc", 2},
        {"A\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n", 0},
    };
    char out[256];
    size_t rest;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        size_t n = strlen(good[i].text);
        for (size_t a = 0; a <= n; a++) {
            for (size_t b = a; b <= n; b++) {
                assert_int_equal(feed(good[i].text, a, b, out, &rest), OK);
                assert_string_equal(out, good[i].body);
                assert_int_equal(rest, good[i].rest);
            }
        }
    }
}

static void chunks_byte_by_byte(void **state)
{
    (void)state;
    const char *text = "5\r\nhello\r\n6;e\r\n world\r\n0\r\nT: x\r\n\r\n";
    struct http_chunked c = {0};
    char out[64];
    size_t len = 0;
    for (const char *p = text; *p; p++) {
        struct str in = {p, 1}, data;
        int res = http_chunked_next(&c, &in, &data);
        if (res == OK && data.n) {
            out[len++] = data.p[0];
            res = http_chunked_next(&c, &in, &data);
        }
        assert_int_equal(res, p[1] ? AGAIN : OK);
        assert_int_equal(in.n, 0);
    }
    out[len] = '\0';
    assert_string_equal(out, "hello world");
}

static void bad_chunks(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\r\n",
        "g\r\n",
        ";x\r\n",
        " 5\r\n",
        "5 \r\nhello\r\n",
        "-1\r\n",
        "0x5\r\n",
        "5\nhello",
        "5\r\nhello\n",
        "5\r\nhello!\r\n",
        "5\r\nhell\r\n0\r\n",
        "5;a\nb\r\n",
        "5;\x01\r\n",
        "5\rhello",
        "0\r\n\n",
        "0\r\nT: x\n\r\n",
        "0\r\n\rx",
        "1000000000000000\r\n",
        "0000000000000000\r\n",
        "5\r\nhello\rx",
        "0\r\nT\rx",
    };
    char out[64];
    size_t rest;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        size_t n = strlen(bad[i]);
        for (size_t a = 0; a <= n; a++) {
            if (feed(bad[i], a, n, out, &rest) != ERR) {
                fail_msg("%s cut at %zu", bad[i], a);
            }
        }
    }
}

static void endless_chunks(void **state)
{
    (void)state;
    static const struct {
        const char *start;
        size_t max;
    } endless[] = {{"1;", HTTP_CHUNK_EXT_MAX}, {"0\r\n", HTTP_TRAILERS_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(endless); i++) {
        struct http_chunked c = {0};
        struct str in = str_of(endless[i].start), data;
        size_t n = 0;
        assert_int_equal(http_chunked_next(&c, &in, &data), AGAIN);
        do {
            in = str_of("a");
            n++;
        } while (http_chunked_next(&c, &in, &data) == AGAIN);
        assert_int_equal(n, endless[i].max + 1);
    }
}

static void reasons(void **state)
{
    (void)state;
    assert_string_equal(http_reason(404), "Not Found");
    assert_string_equal(http_reason(299), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request),
        cmocka_unit_test(connection_header),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(nul_octets),
        cmocka_unit_test(too_long),
        cmocka_unit_test(response),
        cmocka_unit_test(bad_responses),
        cmocka_unit_test(chunks),
        cmocka_unit_test(chunks_byte_by_byte),
        cmocka_unit_test(bad_chunks),
        cmocka_unit_test(endless_chunks),
        cmocka_unit_test(reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
