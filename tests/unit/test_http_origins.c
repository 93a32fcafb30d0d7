/* Tests http/origins: which requests share connections, with the same servers as test_tls. */
#include "http/origins.h"

#include <stdio.h>

#include "lib/dial.h"
#include "lib/mem.h"
#include "lib/tls.h"
#include "lib/tls_bundle.h"
#include "lib/tls_roots.h"
#include "lib/url.h"
#include "tests/unit/world/http_server.h"
#include "tests/unit/world/tls_peer.h"

static struct http_origins *origins;

static int start_world(void **state)
{
    setup(state);
    origins = http_origins_new(loop, dns, NULL);
    return 0;
}

static int stop_world(void **state)
{
    http_origins_free(origins);
    return teardown(state);
}

static struct url url_of(const char *text)
{
    struct url url;
    const char *wrong;
    assert_int_equal(url_parse(str_of(text), &url, &wrong), OK);
    return url;
}

static struct http_origin *use(const char *url, const struct http_way *way)
{
    struct error err;
    struct url parsed = url_of(url);
    struct http_origin *o = http_origin_use(origins, &parsed, way, &err);
    if (!o) {
        fail_msg("%s", err.text);
    }
    return o;
}

static const struct http_way plain = {.connect_timeout = CONNECT_TIMEOUT, .allow_local = true};

static void by_url(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "http://a.test/",  "http://b.test/",     "http://a.test:81/",
        "https://a.test/", "https://a.test:80/",
    };
    struct http_origin *used[ARRAY_LEN(urls)];
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        used[i] = use(urls[i], &plain);
        for (size_t k = 0; k < i; k++) {
            assert_ptr_not_equal(used[i], used[k]);
        }
    }
    struct http_origin *again = use("HTTP://A.test:80/path?query", &plain);
    assert_ptr_equal(again, used[0]);
    http_origin_release(again);
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        http_origin_release(used[i]);
    }
    http_origin_release(NULL);
}

static char *text_of(const char *file)
{
    enum { ROOM = 16384 };
    char path[64], *text = malloc(ROOM);
    tls_peer_path(path, sizeof(path), file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, ROOM - 1, f)] = '\0';
    fclose(f);
    return text;
}

/* A difference in any setting, including tokens and keys, means that no connection is shared. */
static void by_way(void **state)
{
    (void)state;
    char *one = text_of("ecclient.crt"), *other = text_of("stranger.crt");
    char *one_key = text_of("ecclient.key"), *other_key = text_of("stranger.key");
    char *same_key = text_of("ecclient.sec1");
    struct secret keys[] = {
        {one_key, strlen(one_key)}, {other_key, strlen(other_key)}, {same_key, strlen(same_key)}};
    char text_a[] = "a", text_b[] = "b";
    struct secret a = {text_a, 1}, b = {text_b, 1}, none = {0};
    const struct dial_via vias[] = {
        {.host = "p", .port = 1, .timeout = 1},
        {.host = "q", .port = 1, .timeout = 1},
        {.host = "p", .port = 2, .timeout = 1},
        {.host = "p", .port = 1, .timeout = 2},
        {.host = "p", .port = 1, .timeout = 1, .token = &none},
        {.host = "p", .port = 1, .timeout = 1, .token = &a},
        {.host = "p", .port = 1, .timeout = 1, .token = &b},
        {.host = "p", .port = 1, .timeout = 1, .token = &a, .location = "a"},
        {.host = "p", .port = 1, .timeout = 1, .token = &b, .location = "a"},
        {.host = "p", .port = 1, .timeout = 1, .token = &a, .location = "b"},
        {.host = "pa", .port = 1, .timeout = 1},
        {.host = "p", .port = 1, .timeout = 1, .location = "a"},
    };
    enum { OTHERS = 6 };
    struct http_way ways[OTHERS + ARRAY_LEN(vias)] = {
        {.connect_timeout = 1},
        {.connect_timeout = 2},
        {.connect_timeout = 1, .allow_local = true},
        {.connect_timeout = 1, .certificate = one, .key = &keys[0]},
        {.connect_timeout = 1, .certificate = other, .key = &keys[1]},
        {.connect_timeout = 1, .certificate = one, .key = &keys[2]},
    };
    for (size_t i = 0; i < ARRAY_LEN(vias); i++) {
        ways[OTHERS + i] = (struct http_way){.connect_timeout = 1, .via = &vias[i]};
    }
    struct http_origin *used[ARRAY_LEN(ways)];
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        used[i] = use("https://a.test/", &ways[i]);
        for (size_t k = 0; k < i; k++) {
            assert_ptr_not_equal(used[i], used[k]);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        struct http_way copy = ways[i];
        copy.via = copy.via ? dial_via_copy(copy.via) : NULL;
        assert_ptr_equal(use("https://a.test/", &copy), used[i]);
        http_origin_release(used[i]);
        http_origin_release(used[i]);
        dial_via_free((struct dial_via *)copy.via);
    }
    free(one);
    free(other);
    free(one_key);
    free(other_key);
    free(same_key);
}

static void unusable(void **state)
{
    (void)state;
    struct error err;
    struct secret key = {0};
    struct http_way way = {.connect_timeout = 1, .certificate = "junk", .key = &key};
    struct url url = url_of("https://a.test/");
    assert_null(http_origin_use(origins, &url, &way, &err));
    assert_int_equal(err.fail, FAIL_CONFIG);
    assert_non_null(strstr(err.text, "the client certificate is not PEM"));
}

/* Origins in use are kept, and the newest of the unused ones. */
static void bounded(void **state)
{
    (void)state;
    struct http_origin *kept = use("http://a.test:1/", &plain), *newest = NULL;
    struct http *client = http_origin_client(kept);
    for (int i = 2; i <= 2 * HTTP_ORIGINS_MAX; i++) {
        char url[64];
        text_fmt(url, sizeof(url), "http://a.test:%d/", i);
        newest = use(url, &plain);
        http_origin_release(newest);
        turn_quietly(loop);
    }
    struct http_origin *again = use("http://a.test:1/", &plain);
    assert_ptr_equal(again, kept);
    assert_ptr_equal(http_origin_client(again), client);
    http_origin_release(again);
    http_origin_release(kept);
    again = use("http://a.test:128/", &plain);
    assert_ptr_equal(again, newest);
    http_origin_release(again);
}

/* ---- with servers ---- */

static void ask(struct http_origin *o, struct outcome *outcome)
{
    struct http_message message = get("/");
    reset(outcome);
    http = http_origin_client(o);
    start(outcome, &message, false);
    http = NULL;
    turn_until(loop, is_done, outcome);
    http_origin_release(o);
}

static void expect_body(struct http_origin *o, const char *body)
{
    ask(o, &outcomes[0]);
    expect_answer(&outcomes[0], 200, body);
}

static void expect_no_answer(struct http_origin *o, const char *text)
{
    ask(o, &outcomes[0]);
    assert_int_equal(outcomes[0].status, 0);
    if (!strstr(outcomes[0].err.text, text)) {
        fail_msg("\"%s\" not in \"%s\"", text, outcomes[0].err.text);
    }
}

static struct tls_roots *roots_of(const char *file)
{
    char path[64];
    struct error err;
    tls_peer_path(path, sizeof(path), file);
    struct tls_roots *roots = tls_bundle_load(path, &err);
    assert_non_null(roots);
    return roots;
}

/* A connection that was opened with a certificate serves only requests with that certificate. */
static void client_certificate(void **state)
{
    (void)state;
    static const char *const servers[] = {"client12", "client13"};
    struct tls_roots *roots = roots_of("ca.crt");
    char *certificate = text_of("rsaclient.crt"), *text = text_of("rsaclient.key"), url[64];
    struct secret key = {text, strlen(text)};
    struct http_way own = plain;
    own.certificate = certificate;
    own.key = &key;
    http_free(http);
    http_origins_set_roots(origins, roots);
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        text_fmt(url, sizeof(url), "https://127.0.0.1:%u/", tls_peer_port(servers[i]));
        expect_body(use(url, &own), "request 1\n");
        expect_no_answer(use(url, &plain), "TLS alert");
        expect_body(use(url, &own), "request 2\n");
    }
    tls_roots_unref(roots);
    free(certificate);
    free(text);
}

static void other_roots(void **state)
{
    (void)state;
    struct tls_roots *ca = roots_of("ca.crt"), *other = roots_of("other.crt");
    char url[64];
    text_fmt(url, sizeof(url), "https://127.0.0.1:%u/", tls_peer_port("any"));
    http_free(http);
    expect_no_answer(use(url, &plain), "it is not trusted");
    http_origins_set_roots(origins, ca);
    expect_body(use(url, &plain), "request 1\n");
    struct http_origin *in_use = use(url, &plain);
    http_origins_set_roots(origins, other);
    turn_quietly(loop);
    expect_no_answer(use(url, &plain), "it is not trusted");
    expect_body(in_use, "request 2\n");
    turn_quietly(loop);
    expect_no_answer(use(url, &plain), "it is not trusted");
    tls_roots_unref(ca);
    tls_roots_unref(other);
}

static void through_a_proxy(void **state)
{
    (void)state;
    struct dial_via via = {.host = "127.0.0.1", .port = port, .timeout = SECONDS(1)};
    struct http_way way = {.connect_timeout = CONNECT_TIMEOUT, .via = &via};
    struct http_origin *o = use("http://api.test/", &way);
    struct http_message message = get("/token");
    http_free(http);
    http = http_origin_client(o);
    start(&outcomes[0], &message, false);
    http = NULL;
    int proxy = accept_one();
    char said[16];
    read_all(proxy, said, 3);
    assert_memory_equal(said, "\5\1\0", 3);
    peer_send(proxy, "\5\0", 2);
    read_all(proxy, said, 4 + 1 + 8 + 2);
    assert_memory_equal(said,
                        "\5\1\0\3\x8"
                        "api.test\0\x50",
                        4 + 1 + 8 + 2);
    peer_send(proxy, "\5\0\0\1\0\0\0\0\0\0", 10);
    expect_get(proxy, "/token");
    send_text(proxy, ok_answer);
    expect_answer(&outcomes[0], 200, "ok");
    http_origin_release(o);
    close(proxy);
}

static void refused_by_a_proxy(void **state)
{
    (void)state;
    struct dial_via via = {.host = "127.0.0.1", .port = port, .timeout = SECONDS(1)};
    struct http_way way = {.connect_timeout = CONNECT_TIMEOUT, .via = &via};
    struct http_origin *o = use("http://api.test/", &way);
    struct http_message message = get("/token");
    char text[200];
    http_free(http);
    http = http_origin_client(o);
    start(&outcomes[0], &message, false);
    http = NULL;
    int proxy = accept_one();
    peer_send(proxy, "\5\0\5\4", 4);
    text_fmt(text, sizeof(text),
             "no tunnel to api.test:80 through 127.0.0.1:%u: the Cloud Connector cannot reach the "
             "host (SOCKS5 reply 4)",
             port);
    expect_failure(&outcomes[0], FAIL_SOCKS, text);
    http_origin_release(o);
    close(proxy);
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

#define ORIGIN_TEST(f) cmocka_unit_test_setup_teardown(f, start_world, stop_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ORIGIN_TEST(by_url),
        ORIGIN_TEST(by_way),
        ORIGIN_TEST(unusable),
        ORIGIN_TEST(bounded),
        ORIGIN_TEST(client_certificate),
        ORIGIN_TEST(other_roots),
        ORIGIN_TEST(through_a_proxy),
        ORIGIN_TEST(refused_by_a_proxy),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
