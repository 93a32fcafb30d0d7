/* Tests single requests to an API server that the test plays octet by octet: how requests are
 * written, how answers are understood, what is repeated, credentials that change, settings, and
 * metrics. */
#include "k8s.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/cluster.h"
#include "http/proto.h"
#include "tests/unit/world/api_server.h"
#include "tests/unit/world/tls_peer.h"

/* The delays are the smallest possible: half of 0.8 s, doubled each time. */
#define FIRST_DELAY MILLIS(400)
#define MAIL_A "/api/v1/namespaces/home/services/mail-a"

/* ---- a request ---- */

static struct {
    struct cluster_call *call;
    int done;
    enum cluster_result result;
    char object[256]; /* the object in the answer, as text */
    struct error err;
} outcome;

static void on_outcome(const struct cluster_answer *result, void *arg)
{
    assert_ptr_equal(arg, &outcome);
    outcome.call = NULL;
    outcome.done++;
    outcome.result = result->result;
    text_fmt(outcome.object, sizeof(outcome.object), "%.*s", STR_ARG(json_text(result->object)));
    outcome.err = result->err;
    assert_true(result->result == CLUSTER_DONE || result->err.text[0]);
}

static void ask(enum cluster_verb verb, const char *body)
{
    struct cluster_request request = {.verb = verb,
                                      .kind = &services,
                                      .namespace = "home",
                                      .name = "mail-a",
                                      .uid = "u-\"1",
                                      .body = str_of(body)};
    memset(&outcome, 0, sizeof(outcome));
    outcome.call = cluster_call(cluster, &request, (struct cluster_handler){on_outcome, &outcome});
    assert_non_null(outcome.call);
    assert_int_equal(outcome.done, 0);
}

static bool has_outcome(void *arg)
{
    (void)arg;
    return outcome.done;
}

static void expect_outcome(enum cluster_result result, const char *object, const char *text)
{
    turn_until(loop, has_outcome, NULL);
    turn_quietly(loop);
    assert_int_equal(outcome.done, 1);
    assert_string_equal(outcome.object, object);
    assert_string_equal(outcome.err.text, text);
    assert_int_equal(outcome.result, result);
}

static void cancel(void)
{
    cluster_cancel(cluster, outcome.call);
    outcome.call = NULL;
}

/* ---- how requests are written ---- */

static void check_body(const char *content_type, const char *body)
{
    assert_str(header("Content-Type"), content_type);
    assert_str(header("Accept"), "application/json");
    assert_str(header("Authorization"), "Bearer t1");
    assert_str(last_body, body);
}

static void verbs(void **state)
{
    (void)state;
    ask(CLUSTER_GET, "");
    struct peer *peer = expect("GET", MAIL_A);
    check_body("", "");
    assert_false(http_find_header(&last, "Content-Length", &(struct str){0}));
    answer(peer, "200 OK", "", "{\"a\":1}");
    expect_outcome(CLUSTER_DONE, "{\"a\":1}", "");

    ask(CLUSTER_CREATE, "{\"b\":2}");
    peer = expect("POST", "/api/v1/namespaces/home/services?fieldManager=tproxy");
    check_body("application/json", "{\"b\":2}");
    answer(peer, "201 Created", "", "{\"b\":3}");
    expect_outcome(CLUSTER_DONE, "{\"b\":3}", "");

    ask(CLUSTER_APPLY, "{\"c\":1}");
    peer = expect("PATCH", MAIL_A "?fieldManager=tproxy");
    check_body("application/merge-patch+json", "{\"c\":1}");
    answer(peer, "200 OK", "", "");
    expect_outcome(CLUSTER_DONE, "", "");

    ask(CLUSTER_PATCH_STATUS, "{\"status\":{}}");
    peer = expect("PATCH", MAIL_A "/status?fieldManager=tproxy");
    check_body("application/merge-patch+json", "{\"status\":{}}");
    answer(peer, "200 OK", "", "{}");
    expect_outcome(CLUSTER_DONE, "{}", "");

    ask(CLUSTER_DELETE, "");
    peer = expect("DELETE", MAIL_A);
    check_body("application/json",
               "{\"preconditions\":{\"uid\":\"u-\\\"1\"},\"propagationPolicy\":\"Background\"}");
    answer(peer, "200 OK", "", "{\"kind\":\"Status\",\"status\":\"Success\"}");
    expect_outcome(CLUSTER_DONE, "", "");
}

/* An API server answers a deletion with a Status or with the object's last state. The object exists
 * only if a finalizer keeps it. */
static void deletions(void **state)
{
    static const struct {
        const char *body, *object;
    } answers[] = {
        {"", ""},
        {"{\"kind\":\"Status\",\"metadata\":{},\"status\":\"Success\"}", ""},
        {"{\"metadata\":{\"finalizers\":[\"a/b\"]}}", ""},
        {"{\"metadata\":{\"deletionTimestamp\":\"t\"}}", ""},
        {"{\"metadata\":{\"deletionTimestamp\":\"t\",\"finalizers\":[]}}", ""},
        {"{\"metadata\":{\"deletionTimestamp\":null,\"finalizers\":[\"a/b\"]}}", ""},
        {"{\"metadata\":{\"deletionTimestamp\":\"t\",\"finalizers\":[\"a/b\"]}}",
         "{\"metadata\":{\"deletionTimestamp\":\"t\",\"finalizers\":[\"a/b\"]}}"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        ask(CLUSTER_DELETE, "");
        answer(expect("DELETE", MAIL_A), "200 OK", "", answers[i].body);
        expect_outcome(CLUSTER_DONE, answers[i].object, "");
    }
}

static void paths(void **state)
{
    struct cluster_request request = {
        .verb = CLUSTER_GET, .kind = &mails, .name = "a/b c", .body = str_of("")};
    (void)state;
    outcome.call = cluster_call(cluster, &request, (struct cluster_handler){on_outcome, &outcome});
    expect("GET", MAILS "/a%2Fb%20c");
    cancel();

    request.namespace = "..";
    memset(&outcome, 0, sizeof(outcome));
    outcome.call = cluster_call(cluster, &request, (struct cluster_handler){on_outcome, &outcome});
    assert_int_equal(outcome.done, 0);
    expect_outcome(CLUSTER_REFUSED, "",
                   "GET mails ../a/b c: an object cannot have this name or namespace");
    expect_nothing();
    outcome.call = cluster_call(cluster, &request, (struct cluster_handler){on_outcome, &outcome});
    cancel();
    expect_nothing();
}

/* ---- how answers are understood ---- */

static void refusals(void **state)
{
    static const struct {
        int status;
        const char *reason;
        enum cluster_result result;
    } cases[] = {
        {409, "AlreadyExists", CLUSTER_EXISTS}, {409, "Conflict", CLUSTER_CONFLICT},
        {404, "NotFound", CLUSTER_ABSENT},      {403, "Forbidden", CLUSTER_REFUSED},
        {422, "Invalid", CLUSTER_REFUSED},      {400, "BadRequest", CLUSTER_REFUSED},
        {410, "Gone", CLUSTER_LATER},           {500, "InternalError", CLUSTER_LATER},
        {504, "Timeout", CLUSTER_LATER},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[128];
        ask(CLUSTER_CREATE, "{}");
        answer_status(expect("POST", "/api/v1/namespaces/home/services?fieldManager=tproxy"),
                      cases[i].status, cases[i].reason, "so it is");
        text_fmt(text, sizeof(text), "POST services home/mail-a: %s: so it is", cases[i].reason);
        expect_outcome(cases[i].result, "", text);
    }
    ask(CLUSTER_PATCH_STATUS, "{}");
    answer(expect("PATCH", MAIL_A "/status?fieldManager=tproxy"), "404 Not Found", "",
           "404 page not found\n");
    expect_outcome(CLUSTER_ABSENT, "",
                   "PATCH services/status home/mail-a: status 404: 404 page not found");
}

static void malformed_answer(void **state)
{
    (void)state;
    ask(CLUSTER_GET, "");
    answer(expect("GET", MAIL_A), "200 OK", "", "<html>");
    expect_outcome(CLUSTER_LATER, "",
                   "GET services home/mail-a: malformed JSON where an object should be");
}

/* The small members of an object that is too large to keep are still read. */
static void large_answer(void **state)
{
    enum { FILLING = 5 * 1024 * 1024 };
    (void)state;
    struct buf body;
    buf_init(&body, SIZE_MAX);
    assert_int_equal(buf_fmt(&body, "{\"metadata\":{\"big\":\""), OK);
    memset(buf_room(&body, FILLING), 'x', FILLING);
    buf_added(&body, FILLING);
    assert_int_equal(buf_fmt(&body, "\",\"name\":\"a\"}}"), OK);
    ask(CLUSTER_GET, "");
    struct peer *peer = expect("GET", MAIL_A);
    char head[128];
    text_fmt(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", buf_len(&body));
    send_text(peer->fd, head);
    for (struct str rest = buf_str(&body); rest.n && !outcome.done;) {
        ssize_t n = send(peer->fd, rest.p, rest.n, MSG_NOSIGNAL | MSG_DONTWAIT);
        rest.p += n > 0 ? n : 0;
        rest.n -= n > 0 ? (size_t)n : 0;
        loop_turn(loop, true);
    }
    expect_outcome(CLUSTER_DONE, "{\"metadata\":{\"big\":~,\"name\":\"a\"}}", "");
    assert_int_equal(logged("services: a is not read as a whole"), 1);
    buf_free(&body);
}

/* The call may have been carried out, so the caller has to look. */
static void answer_cut(void **state)
{
    (void)state;
    ask(CLUSTER_CREATE, "{}");
    struct peer *peer = expect("POST", "/api/v1/namespaces/home/services?fieldManager=tproxy");
    send_text(peer->fd, "HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\n{");
    turn_quietly(loop);
    drop_peer(peer);
    turn_until(loop, has_outcome, NULL);
    assert_int_equal(outcome.result, CLUSTER_LATER);
    assert_int_equal(outcome.err.fail, FAIL_REMOTE);
    advance(SECONDS(60));
    expect_nothing();
}

static void silence(void **state)
{
    (void)state;
    ask(CLUSTER_GET, "");
    expect("GET", MAIL_A);
    advance(SECONDS(60));
    turn_until(loop, has_outcome, NULL);
    assert_int_equal(outcome.result, CLUSTER_LATER);
    assert_int_equal(outcome.err.fail, FAIL_TIMEOUT);
}

/* ---- what is repeated ---- */

static void turned_away(void **state)
{
    int64_t delay = FIRST_DELAY;
    (void)state;
    ask(CLUSTER_APPLY, "{\"a\":1}");
    for (int i = 0; i < 5; i++) {
        struct peer *peer = expect("PATCH", MAIL_A "?fieldManager=tproxy");
        assert_str(last_body, "{\"a\":1}");
        answer(peer, i % 2 ? "503 Whatever" : "429 Whatever", "", "not now\n");
        turn_quietly(loop);
        assert_int_equal(outcome.done, i == 4);
        advance(delay - 1);
        expect_nothing();
        advance(1);
        delay *= 2;
    }
    expect_outcome(CLUSTER_LATER, "", "PATCH services home/mail-a: status 429: not now");
}

static void server_asks_to_wait(void **state)
{
    (void)state;
    ask(CLUSTER_GET, "");
    answer(expect("GET", MAIL_A), "429 Too Many Requests", "Retry-After: 5\r\n", "");
    turn_quietly(loop);
    advance(SECONDS(5) - 1);
    expect_nothing();
    advance(1);
    answer(expect("GET", MAIL_A), "200 OK", "", "{}");
    expect_outcome(CLUSTER_DONE, "{}", "");
}

static int refuse_connect(int fd, const struct sockaddr *addr, socklen_t n)
{
    (void)fd;
    (void)addr;
    (void)n;
    errno = ECONNREFUSED;
    return -1;
}

static void not_reached(void **state)
{
    (void)state;
    test_sys.connect = refuse_connect;
    ask(CLUSTER_GET, "");
    turn_quietly(loop);
    assert_int_equal(outcome.done, 0);
    test_sys.connect = fake_connect;
    advance(FIRST_DELAY);
    answer(expect("GET", MAIL_A), "200 OK", "", "{}");
    expect_outcome(CLUSTER_DONE, "{}", "");
    assert_int_equal(logged("cannot be reached"), 1);

    drop_peer(&peers[0]);
    turn_quietly(loop);
    test_sys.connect = refuse_connect;
    ask(CLUSTER_GET, "");
    for (int i = 0; i < 5; i++) {
        turn_quietly(loop);
        assert_int_equal(outcome.done, i == 4);
        advance(SECONDS(15));
    }
    assert_int_equal(outcome.result, CLUSTER_LATER);
    assert_int_equal(outcome.err.fail, FAIL_CONNECT);
    assert_int_equal(logged("cannot be reached"), 1);
}

static void cancelling(void **state)
{
    (void)state;
    cluster_cancel(cluster, NULL);
    ask(CLUSTER_GET, "");
    cancel();
    expect_nothing();

    ask(CLUSTER_GET, "");
    expect("GET", MAIL_A);
    cancel();
    turn_quietly(loop);

    ask(CLUSTER_GET, "");
    answer(expect("GET", MAIL_A), "429 Whatever", "", "");
    turn_quietly(loop);
    cancel();
    advance(SECONDS(60));
    expect_nothing();
    assert_int_equal(outcome.done, 0);
}

/* ---- credentials ---- */

static void expect_token(const char *token)
{
    ask(CLUSTER_GET, "");
    struct peer *peer = expect("GET", MAIL_A);
    assert_str(header("Authorization"), token);
    answer(peer, "200 OK", "", "{}");
    expect_outcome(CLUSTER_DONE, "{}", "");
}

static void token_is_read_again(void **state)
{
    (void)state;
    expect_token("Bearer t1");
    write_credential("token", "t2");
    advance(SECONDS(60) - 1);
    expect_token("Bearer t1");
    advance(1);
    expect_token("Bearer t2");

    /* A text that is not a token does not replace the current one. */
    static const char *const wrong[] = {"", "a\r\nb", "a b", "\x7F", "a\xC3\xA9"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        write_credential("token", wrong[i]);
        advance(SECONDS(60));
        expect_token("Bearer t2");
    }
    assert_int_equal(logged("token is not a token; what was read before stays in use"), 1);
    write_credential("token", "t3 \r\n");
    advance(SECONDS(60));
    expect_token("Bearer t3");
}

static void token_refused(void **state)
{
    (void)state;
    ask(CLUSTER_GET, "");
    struct peer *peer = expect("GET", MAIL_A);
    write_credential("token", "t2");
    answer_status(peer, 401, "Unauthorized", "Unauthorized");
    peer = expect("GET", MAIL_A);
    assert_str(header("Authorization"), "Bearer t2");
    answer(peer, "200 OK", "", "{}");
    expect_outcome(CLUSTER_DONE, "{}", "");

    ask(CLUSTER_GET, "");
    answer_status(expect("GET", MAIL_A), 401, "Unauthorized", "Unauthorized");
    answer_status(expect("GET", MAIL_A), 401, "Unauthorized", "Unauthorized");
    expect_outcome(CLUSTER_LATER, "", "GET services home/mail-a: Unauthorized: Unauthorized");
    assert_int_equal(logged("t1") + logged("t2"), 0);
}

static void reopen(const char *url, const char *credentials)
{
    k8s_free(k8s);
    k8s = open_k8s(url, credentials);
    cluster = k8s_cluster(k8s);
    cluster->writer = "tproxy";
}

/* The API server asks for no credentials, like `kubectl proxy`. */
static void no_credentials(void **state)
{
    char url[64];
    (void)state;
    assert_string_equal(k8s_namespace(k8s), "home");
    text_fmt(url, sizeof(url), "http://127.0.0.1:%d/k8s/clusters/c-1//", port);
    reopen(url, NULL);
    assert_null(k8s_namespace(k8s));
    ask(CLUSTER_GET, "");
    struct peer *peer = expect("GET", "/k8s/clusters/c-1" MAIL_A);
    assert_false(http_find_header(&last, "Authorization", &(struct str){0}));
    answer_status(peer, 401, "Unauthorized", "who are you");
    answer_status(expect("GET", "/k8s/clusters/c-1" MAIL_A), 401, "Unauthorized", "who are you");
    expect_outcome(CLUSTER_LATER, "", "GET services home/mail-a: Unauthorized: who are you");
}

/* ---- TLS ---- */

static void copy_ca(const char *file)
{
    char path[128], text[16384];
    tls_peer_path(path, sizeof(path), file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
    fclose(f);
    write_credential("ca.crt", text);
}

static void open_tls(const char *server, const char *ca)
{
    char url[64];
    test_sys.random = sys_real.random;
    copy_ca(ca);
    text_fmt(url, sizeof(url), "https://127.0.0.1:%d", tls_peer_port(server));
    reopen(url, directory);
}

/* Moves the clock too, slowly enough for a handshake. */
static bool has_outcome_in_time(void *arg)
{
    test_now += MILLIS(50);
    return has_outcome(arg);
}

/* Expects an answer that is not JSON, which proves that the server was reached. */
static void expect_reached(void)
{
    turn_until(loop, has_outcome_in_time, NULL);
    assert_int_equal(outcome.result, CLUSTER_LATER);
    assert_non_null(strstr(outcome.err.text, "malformed JSON"));
}

static bool trouble_logged(void *arg)
{
    const char *text = arg;
    return logged(text) > 0;
}

static void certificates(void **state)
{
    (void)state;
    open_tls("any", "ca.crt");
    ask(CLUSTER_GET, "");
    expect_reached();

    /* The server's certificate names no address. */
    open_tls("cnonly", "ca.crt");
    ask(CLUSTER_GET, "");
    turn_until(loop, trouble_logged, "the API server cannot be reached");
    cancel();
}

static void authority_changes(void **state)
{
    (void)state;
    open_tls("any", "other.crt");
    ask(CLUSTER_GET, "");
    turn_until(loop, trouble_logged, "is not among");
    write_credential("ca.crt", "nothing");
    advance(SECONDS(1));
    turn_until(loop, trouble_logged, "ca.crt");
    copy_ca("ca.crt");
    expect_reached();
    assert_int_equal(logged("answers again"), 1);

    /* After another change of the CA, open connections are no longer used. */
    copy_ca("other.crt");
    ask(CLUSTER_GET, "");
    turn_until(loop, trouble_logged, "is not among");
    cancel();
}

/* ---- settings ---- */

static void check_refused(const char *url, const char *credentials, const char *text)
{
    struct k8s_settings settings = {.url = url, .credentials = credentials};
    struct error err;
    assert_null(k8s_new(loop, dns, &settings, &err));
    assert_int_equal(err.fail, FAIL_CONFIG);
    if (!strstr(err.text, text)) {
        fail_msg("\"%s\" is not in \"%s\"", text, err.text);
    }
}

static void settings_refused(void **state)
{
    char path[96];
    (void)state;
    check_refused("10.0.0.1:443", directory, "\"10.0.0.1:443\" does not begin with https://");
    check_refused("https://10.0.0.1/?a", directory, "has a query; check --kube-url");
    check_refused("https://10.0.0.1", NULL, "--kube-credentials DIR");
    check_refused("https://10.0.0.1", "/nonexistent",
                  "/nonexistent/token No such file or directory; --kube-credentials names");
    check_refused("https://10.0.0.1", directory, "ca.crt: cannot read the CA certificates");
    write_credential("ca.crt", "nothing");
    check_refused("https://10.0.0.1", directory, "--kube-credentials names");
    write_credential("token", "two words");
    check_refused("http://10.0.0.1", directory, "/token is not a token");
    char large[70000];
    memset(large, 'a', sizeof(large) - 1);
    large[sizeof(large) - 1] = '\0';
    write_credential("token", large);
    check_refused("http://10.0.0.1", directory, "/token is too large");
    text_fmt(path, sizeof(path), "%s/token", directory);
    remove(path);
    check_refused("http://10.0.0.1", directory, "/token No such file");
}

static void environment(void **state)
{
    (void)state;
    unsetenv("KUBERNETES_SERVICE_HOST");
    setenv("KUBERNETES_SERVICE_PORT", "443", 1);
    check_refused(NULL, directory, "name the API server with --kube-url URL");
    setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
    unsetenv("KUBERNETES_SERVICE_PORT");
    check_refused(NULL, directory, "name the API server with --kube-url URL");
    setenv("KUBERNETES_SERVICE_PORT", "0", 1);
    check_refused(NULL, directory, "\"https://[fd00::1]:0\" has a malformed port");
    setenv("KUBERNETES_SERVICE_PORT", "6443", 1);
    check_refused(NULL, directory, "/ca.crt");

    char number[8];
    test_sys.random = sys_real.random;
    copy_ca("ca.crt");
    text_fmt(number, sizeof(number), "%d", tls_peer_port("any"));
    setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1", 1);
    setenv("KUBERNETES_SERVICE_PORT", number, 1);
    reopen(NULL, directory);
    ask(CLUSTER_GET, "");
    expect_reached();
}

/* ---- metrics ---- */

static void figures(void **state)
{
    static const char *const lines[] = {
        "\ntproxy_kube_requests_total{verb=\"get\",result=\"ok\"} 1\n",
        "\ntproxy_kube_requests_total{verb=\"get\",result=\"absent\"} 1\n",
        "\ntproxy_kube_requests_total{verb=\"delete\",result=\"ok\"} 0\n",
        "\ntproxy_kube_requests_total{verb=\"delete\",result=\"conflict\"} 1\n",
        "\ntproxy_kube_request_seconds_count 3\n",
        "\ntproxy_kube_request_seconds_sum 2.000000\n",
    };
    struct buf out;
    (void)state;
    expect_token("Bearer t1");
    ask(CLUSTER_GET, "");
    answer_status(expect("GET", MAIL_A), 404, "NotFound", "");
    turn_quietly(loop);
    ask(CLUSTER_DELETE, "");
    struct peer *peer = expect("DELETE", MAIL_A);
    advance(SECONDS(2));
    answer_status(peer, 409, "Conflict", "");
    turn_until(loop, has_outcome, NULL);

    buf_init(&out, 65536);
    k8s_metrics(k8s, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        if (!strstr(buf_str(&out).p, lines[i])) {
            fail_msg("%s is not in\n%s", lines[i], buf_str(&out).p);
        }
    }
    buf_free(&out);
}

static int end_world(void **state)
{
    cancel();
    return k8s_teardown(state);
}

#define CALL_TEST(f) cmocka_unit_test_setup_teardown(f, k8s_setup, end_world)

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
        CALL_TEST(verbs),
        CALL_TEST(deletions),
        CALL_TEST(paths),
        CALL_TEST(refusals),
        CALL_TEST(malformed_answer),
        CALL_TEST(large_answer),
        CALL_TEST(answer_cut),
        CALL_TEST(silence),
        CALL_TEST(turned_away),
        CALL_TEST(server_asks_to_wait),
        CALL_TEST(not_reached),
        CALL_TEST(cancelling),
        CALL_TEST(token_is_read_again),
        CALL_TEST(token_refused),
        CALL_TEST(no_credentials),
        CALL_TEST(certificates),
        CALL_TEST(authority_changes),
        CALL_TEST(settings_refused),
        CALL_TEST(environment),
        CALL_TEST(figures),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
