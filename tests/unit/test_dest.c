/* Tests dest: how long answers of the Destination service count, what sessions get when it fails,
 * and its instances. */
#include "tests/unit/world/destination_service.h"

#include "tests/unit/world/tls_peer.h"

enum { ASKERS = 200 };

static const char not_found[] = "Destination service instance \"prod\" does not have it: "
                                "Configuration with the specified name was not found";
static const char down[] = "Destination service instance \"prod\" does not serve (503)";

/* ---- tests: questions ---- */

static void the_request(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    assert_string_equal(client, "client_id=client");
    assert_string_equal(target, "/destination-configuration/v1/destinations/inbox");
    expect_port(DEST_TO_CHECK, 995);
    assert_string_equal(target, "/destination-configuration/v1/destinations/inbox"
                                "?$skipTokenRetrieval=true");
    assert_int_equal(tokens, 1);

    struct asker a;
    ask_for(&a, "prod", "a b/c?d=\xC3\xA4%", DEST_TO_LOG_IN);
    await(&a.answers);
    assert_string_equal(target,
                        "/destination-configuration/v1/destinations/a%20b%2Fc%3Fd%3D%C3%A4%25");

    char uri[64];
    text_fmt(uri, sizeof(uri), "http://127.0.0.1:%d/behind/a/gateway", service.port);
    set_key("prod", "client", SECRET, uri);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_string_equal(target,
                        "/behind/a/gateway/destination-configuration/v1/destinations/inbox");
}

static void impossible_names(void **state)
{
    (void)state;
    static char huge[1000];
    memset(huge, 'x', sizeof(huge) - 1);
    const char *const names[] = {"", ".", "..", huge};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct asker a;
        ask_for(&a, "prod", names[i], DEST_TO_CHECK);
        await(&a.answers);
        assert_int_equal(a.verdict, VERDICT_NOT_FOUND);
        assert_string_equal(a.err.text, "no destination can have this name");
        assert_int_equal(a.err.fail, FAIL_CONFIG);
    }
    assert_int_equal(service.requests, 0);
}

/* What needs no server is still answered. */
static void offline(void **state)
{
    (void)state;
    struct asker a;
    dest_stay_offline(dest);
    ask_for(&a, "prod", "inbox", DEST_TO_CHECK);
    await(&a.answers);
    assert_int_equal(a.verdict, VERDICT_UNREADABLE);
    assert_string_equal(a.err.text, "Destination service instance \"prod\" is not asked");
    ask_for(&a, "none", "inbox", DEST_TO_CHECK);
    await(&a.answers);
    assert_int_equal(a.verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
    assert_int_equal(service.requests + auth.requests, 0);
}

static void one_request_for_all(void **state)
{
    (void)state;
    static struct asker askers[ASKERS];
    serve(200, with_token(MAIL_TOKEN, "3600"));
    for (size_t i = 0; i < ASKERS; i++) {
        ask(&askers[i], DEST_TO_LOG_IN);
    }
    settle();
    for (size_t i = 0; i < ASKERS; i++) {
        assert_int_equal(askers[i].answers, 1);
        assert_string_equal(askers[i].token, MAIL_TOKEN);
    }
    assert_int_equal(service.requests, 1);
    assert_int_equal(auth.requests, 1);
}

static void ages(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
    assert_int_equal(service.requests, 2);

    serve(200, MOVED);
    pass(SECONDS(10) - 1);
    expect_port(DEST_TO_CHECK, 995);
    pass(SECONDS(90));
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);

    /* A refresh before the expiry: this question gets the old answer, later ones the new one. */
    pass(1);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 3);
    expect_port(DEST_TO_LOG_IN, 9950);
    expect_port(DEST_TO_CHECK, 9950);
    assert_int_equal(service.requests, 4);

    serve(200, BASIC);
    pass(SECONDS(120));
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 5);
}

static void mail_tokens(void **state)
{
    (void)state;
    struct asker a;
    serve(200, with_token(MAIL_TOKEN, "3600"));
    ask(&a, DEST_TO_LOG_IN);
    await(&a.answers);
    assert_int_equal(a.auth, AUTH_CLIENT_CREDENTIALS);
    assert_string_equal(a.token, MAIL_TOKEN);
    assert_int_equal(a.expires, test_now + SECONDS(3600));

    /* A check needs no token. */
    ask(&a, DEST_TO_CHECK);
    await(&a.answers);
    assert_int_equal(a.port, 995);
    assert_string_equal(a.token, "");

    /* A token that expires before the destination's answer is fetched again earlier. */
    serve(200, with_token("second", "40"));
    pass(SECONDS(120));
    ask(&a, DEST_TO_LOG_IN);
    await(&a.answers);
    serve(200, with_token("third", ""));
    pass(SECONDS(25) - 1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_int_equal(service.requests, 3);
    pass(1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "second");
    assert_int_equal(service.requests, 4);

    /* A token without a lifetime counts for two minutes. */
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "third");
    assert_int_equal(a.expires, test_now + SECONDS(120));
    serve(503, "");
    pass(SECONDS(110) - 1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "third");
    pass(1);
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_string_equal(a.token, "");
}

#define REFUSED_TOO                                                                                \
    "; asked directly: authorization server 127.0.0.1 refuses the client (401: invalid_client)"

static void no_mail_token(void **state)
{
    (void)state;
    serve(200, oauth_body("ClientCredentials", "",
                          "[{\"type\":\"\",\"value\":\"\",\"error\":\"Unable to fetch it: 401 "
                          "sw0rdfish\"}]"));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_AUTH,
                   "the Destination service has no access token for it: (not shown: a secret is in "
                   "it)" REFUSED_TOO);
    serve(200, oauth_body("ClientCredentials", "", NULL));
    pass(SECONDS(1));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_AUTH,
                   "the Destination service has no access token for it" REFUSED_TOO);
    expect_port(DEST_TO_CHECK, 995);
    serve(200, with_token("a\\nb", "60"));
    pass(SECONDS(2));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_TOKEN,
                   "the access token has characters that no token may have");
    serve(200, with_token(MAIL_TOKEN, "60"));
    pass(SECONDS(4));
    expect_port(DEST_TO_LOG_IN, 995);

    /* A valid token stays in use. */
    serve(200, oauth_body("ClientCredentials", "", NULL));
    pass(SECONDS(49));
    expect_port(DEST_TO_LOG_IN, 995);
    pass(SECONDS(1));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_AUTH,
                   "the Destination service has no access token for it" REFUSED_TOO);
    assert_int_equal(logged("stays in use"), 0);
}

/* ---- tests: refusals that count ---- */

static void not_found_heals(void **state)
{
    (void)state;
    serve(404, NOT_FOUND);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    serve(200, BASIC);
    pass(SECONDS(3) - 1);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    assert_int_equal(service.requests, 2);
    pass(1);
    expect_port(DEST_TO_CHECK, 995);
    expect_port(DEST_TO_LOG_IN, 995);
}

/* A refusal replaces the answer in the cache. */
static void refusals_replace_what_was_known(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum verdict verdict;
        const char *text;
    } table[] = {
        {404, NOT_FOUND, VERDICT_NOT_FOUND, not_found},
        {403, "", VERDICT_UNREADABLE,
         "Destination service instance \"prod\" is not allowed to read it (403)"},
        {200, "{\"destinationConfiguration\":{\"Name\":\"inbox\",\"Type\":\"HTTP\"}}",
         VERDICT_TYPE_NOT_SUPPORTED, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        serve(200, BASIC);
        expect_port(DEST_TO_LOG_IN, 995);
        serve(table[i].status, table[i].body);

        /* The refresh before the expiry is refused. */
        pass(SECONDS(100));
        expect_port(DEST_TO_LOG_IN, 995);
        struct asker a;
        ask(&a, DEST_TO_LOG_IN);
        await(&a.answers);
        assert_int_equal(a.verdict, table[i].verdict);
        assert_int_equal(a.err.fail, FAIL_CONFIG);
        if (table[i].text) {
            assert_string_equal(a.err.text, table[i].text);
        }
        pass(SECONDS(10));
    }
}

static void renews_the_access_token_once(void **state)
{
    (void)state;
    refuse_tokens = 1;
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);
    assert_int_equal(tokens, 2);
    assert_string_equal(bearer, "Bearer " TOKEN "-2");
    expect_port(DEST_TO_CHECK, 995);
    assert_int_equal(tokens, 2);

    refuse_tokens = 2;
    pass(SECONDS(10));
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_CONFIG,
                   "Destination service instance \"prod\": the service refuses its access token "
                   "(401)");
    assert_int_equal(service.requests, 5);
    assert_int_equal(tokens, 3);
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 995);
}

/* Each pause allows one request for a token, whatever the number of destinations. */
static void refuses_every_access_token(void **state)
{
    (void)state;
    static const char text[] = "Destination service instance \"prod\": the service refuses its "
                               "access token (401)";
    struct asker many[100], a;
    char name[16];
    refuse_tokens = 1000;
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_CONFIG, text);
    assert_int_equal(tokens, 2);
    assert_int_equal(service.requests, 2);
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        text_fmt(name, sizeof(name), "other-%zu", i);
        ask_for(&many[i], "prod", name, i % 2 ? DEST_TO_LOG_IN : DEST_TO_CHECK);
    }
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        await(&many[i].answers);
        assert_string_equal(many[i].err.text, text);
    }
    assert_int_equal(tokens, 2);
    assert_int_equal(service.requests, 2);

    /* Another tenant and another service key have their own tokens. */
    const struct dest_ref of_tenant = {.name = "inbox", .instance = "prod", .tenant = "a"};
    ask_ref(&a, &of_tenant, DEST_TO_CHECK, NULL);
    await(&a.answers);
    assert_string_not_equal(a.err.text, "");
    assert_int_equal(refuse_tokens, 998);

    pass(SECONDS(5));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_CONFIG, text);
    assert_int_equal(service.requests, 4);
    refuse_tokens = 0;
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_CONFIG, text);
    set_key("prod", "another", SECRET, NULL);
    expect_port(DEST_TO_LOG_IN, 995);
    set_key("prod", "client", SECRET, NULL);
    pass(SECONDS(10));
    expect_port(DEST_TO_LOG_IN, 995);
}

static void a_check_tells_the_sessions(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
    assert_int_equal(service.requests, 2);

    /* The check finds no change, so the cached answer stays. */
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 995);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 3);

    serve(200, MOVED);
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 9950);
    expect_port(DEST_TO_LOG_IN, 9950);
    assert_int_equal(service.requests, 5);

    serve(404, NOT_FOUND);
    pass(SECONDS(10));
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    assert_int_equal(service.requests, 7);

    /* A destination that exists again is found in the same way. */
    pass(SECONDS(5));
    expect_refusal(DEST_TO_LOG_IN, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    serve(200, BASIC);
    pass(SECONDS(5));
    expect_port(DEST_TO_CHECK, 995);
    expect_port(DEST_TO_LOG_IN, 995);
}

/* ---- tests: trouble ---- */

static void trouble_backs_off(void **state)
{
    (void)state;
    serve(503, "");
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, down);
    pass(SECONDS(1) - 1);
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, down);
    assert_int_equal(service.requests, 1);
    pass(1);
    static const char busy[] = "Destination service instance \"prod\" does not serve (429)";
    serve(429, "");
    headers = "Retry-After: 90\r\n";
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, busy);
    assert_int_equal(service.requests, 2);
    serve(200, BASIC);
    pass(SECONDS(90) - 1);
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, busy);
    assert_int_equal(service.requests, 2);
    pass(1);
    expect_port(DEST_TO_CHECK, 995);

    /* The log says once that the trouble has begun and once that it is over. */
    assert_int_equal(logged("stays in use"), 1);
    assert_int_equal(logged("serves again"), 1);
}

/* After five failures in a row, of any destinations, one question about those that failed and one
 * about others are sent in five seconds, until one is answered. */
static void failures_open_the_circuit(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct asker a[ARRAY_LEN(names)];
    serve(503, "");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        ask_for(&a[i], "prod", names[i], DEST_TO_LOG_IN);
        await(&a[i].answers);
        assert_int_equal(a[i].err.fail, FAIL_REMOTE);
    }
    assert_int_equal(service.requests, 5);

    set_key("test", "another", SECRET, NULL); /* the questions of other instances are sent */
    ask_for(&a[0], "test", names[0], DEST_TO_LOG_IN);
    await(&a[0].answers);
    assert_int_equal(service.requests, 6);

    pass(SECONDS(5));
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        ask_for(&a[i], "prod", names[i], DEST_TO_LOG_IN);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        await(&a[i].answers);
        assert_int_equal(a[i].err.fail, FAIL_REMOTE);
    }
    assert_int_equal(service.requests, 8);

    serve(200, BASIC);
    pass(SECONDS(5));
    ask_for(&a[7], "prod", names[7], DEST_TO_LOG_IN);
    await(&a[7].answers);
    assert_int_equal(a[7].port, 995);
    ask_for(&a[0], "prod", names[0], DEST_TO_CHECK);
    await(&a[0].answers);
    assert_int_equal(a[0].port, 995);
    assert_int_equal(service.requests, 10);
    assert_int_equal(logged("serves again"), 1);
}

static void ask_each(const char *names, enum fail fail, const char *words)
{
    struct asker a;
    for (; *names; names++) {
        const char name[] = {*names, '\0'};
        ask_for(&a, "prod", name, DEST_TO_LOG_IN);
        await(&a.answers);
        assert_int_equal(a.err.fail, fail);
        assert_non_null(strstr(a.err.text, words));
    }
}

static const char again[] = " has failed again and again, ";

/* The service fails for the destinations of one team, which asks all the time. A destination that
 * was never asked for before is served at most a quarter of a second later. */
static void trouble_of_some_does_not_keep_others_away(void **state)
{
    (void)state;
    struct asker a;
    for (char name[] = "p"; name[0] < 'u'; name[0]++) {
        serve(503, "");
        ask_each("abcde", FAIL_REMOTE, "");
        ask_each("abcde", FAIL_REMOTE, "");
        pass(MILLIS(250));
        ask_each("abcde", FAIL_REMOTE, "");
        serve(200, BASIC);
        ask_for(&a, "prod", name, DEST_TO_LOG_IN);
        await(&a.answers);
        assert_int_equal(a.port, 995);
        pass(SECONDS(60)); /* long enough for the failures to be forgotten */
    }
}

/* A failure that will not pass by itself does not count against the service. */
static void lasting_trouble_breaks_no_circuit(void **state)
{
    (void)state;
    serve(302, "");
    headers = "Location: /login\r\n";
    ask_each("abcdefgh", FAIL_CONFIG, " redirects to /login (302)");
    assert_int_equal(service.requests, 8);
    assert_int_equal(logged("stays in use"), 1);
    serve(200, BASIC);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 9);
    assert_int_equal(logged("serves again"), 1);
}

/* An answer that exceeds a bound of ours, here the header fields, does not count either. */
static void large_answers_break_no_circuit(void **state)
{
    (void)state;
    char fields[(HTTP_HEADERS_MAX + 1) * sizeof("A: b\r\n")];
    size_t n = 0;
    for (int i = 0; i <= HTTP_HEADERS_MAX; i++) {
        n += text_fmt(fields + n, sizeof(fields) - n, "A: b\r\n");
    }
    serve(200, BASIC);
    headers = fields;
    ask_each("abcdefgh", FAIL_LIMIT, "header fields");
    serve(200, BASIC);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 9);
}

/* A trial that learns nothing about the service does not keep the others waiting. */
static void trials_without_a_result(void **state)
{
    (void)state;
    serve(503, "");
    ask_each("abcde", FAIL_REMOTE, "does not serve (503)");
    ask_each("f", FAIL_REMOTE, again);
    pass(SECONDS(5));
    serve(302, "");
    ask_each("g", FAIL_CONFIG, " redirects ");
    serve(200, "{}");
    ask_each("h", FAIL_PROTOCOL, "destinationConfiguration");
    serve(200, BASIC);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 8);
}

/* While the circuit is open, lasting failures and refusals are still reported as such, even to
 * sessions when a check has found them, and long afterwards. */
static void lasting_trouble_is_told_as_itself(void **state)
{
    (void)state;
    static const char redirects[] = " redirects without saying where to (302)";
    struct asker a;
    serve(302, "");
    ask_for(&a, "prod", "moved", DEST_TO_CHECK);
    await(&a.answers);
    serve(404, NOT_FOUND);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    serve(503, "");
    ask_each("abcde", FAIL_REMOTE, "does not serve (503)");
    unsigned requests = service.requests;
    for (int i = 0; i < 8; i++) {
        ask_for(&a, "prod", "moved", i % 2 ? DEST_TO_CHECK : DEST_TO_LOG_IN);
        await(&a.answers);
        assert_int_equal(a.err.fail, FAIL_CONFIG);
        assert_non_null(strstr(a.err.text, redirects));
        expect_refusal(DEST_TO_LOG_IN, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
        expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
        ask_each("xyz", FAIL_REMOTE, again);
        assert_int_equal(service.requests, requests);
        pass(SECONDS(60));
        ask_each("f", FAIL_REMOTE, ""); /* tries for all, and the service still fails */
        assert_int_equal(service.requests, ++requests);
    }

    /* The new state counts as soon as the service reports it. */
    pass(SECONDS(60));
    serve(200, BASIC);
    expect_port(DEST_TO_LOG_IN, 995);
    ask_for(&a, "prod", "moved", DEST_TO_LOG_IN);
    await(&a.answers);
    assert_int_equal(a.port, 995);
}

/* A refusal is used for at most an hour, because the destination may have been corrected. */
static void a_refusal_is_known_for_an_hour(void **state)
{
    (void)state;
    serve(404, NOT_FOUND);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    serve(503, "");
    pass(SECONDS(3600) - 1);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    assert_int_equal(service.requests, 2);
    pass(1);
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, down);
}

/* A refused question says nothing about other questions, so the circuit stays closed. */
static void refused_questions(void **state)
{
    (void)state;
    char name[] = "a";
    struct asker a;
    serve(400, "{\"ErrorMessage\": \"X-refresh-token is missing\"}");
    for (; name[0] <= 'h'; name[0]++) {
        ask_for(&a, "prod", name, DEST_TO_LOG_IN);
        await(&a.answers);
        assert_non_null(strstr(a.err.text, "does not serve (400: X-refresh-token is missing)"));
    }
    assert_int_equal(service.requests, 8);
}

/* A destination without a token stays in use, whatever goes wrong with the service. */
static void without_the_service(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
    } table[] = {
        {500, ""},
        {502, "<html>Bad Gateway</html>"},
        {429, "{\"ErrorMessage\":\"too many\"}"},
        {404, "404 Not Found: Requested route does not exist."},
        {200, "<html>Maintenance</html>"},
        {200, "{}"},
        {200, "{\"destinationConfiguration\":{\"mail.user\":[]}}"},
    };
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        unsigned before = service.requests;
        serve(table[i].status, table[i].body);
        pass(SECONDS(3600));
        expect_port(DEST_TO_LOG_IN, 995);
        expect_port(DEST_TO_CHECK, 995);
        assert_true(service.requests > before);
    }

    silent = true;
    pass(SECONDS(3600));
    struct asker a;
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_int_equal(a.answers, 0);
    pass(SECONDS(10));
    assert_int_equal(a.port, 995);
    silent = false;

    pass(SECONDS(3600));
    peer_close(&service);
    expect_port(DEST_TO_LOG_IN, 995);
    pass(SECONDS(3600));
    auth_status = 500;
    peer_close(&auth);
    pass(SECONDS(24 * 3600));
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_CHECK, 995);
}

static void with_its_token_as_long_as_that_is_valid(void **state)
{
    (void)state;
    serve(200, with_token(MAIL_TOKEN, "3600"));
    expect_port(DEST_TO_LOG_IN, 995);
    serve(503, "");
    pass(SECONDS(3590) - 1);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);
    pass(1);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_REMOTE, down);
}

static void unreachable(void **state)
{
    (void)state;
    char text[200];
    peer_close(&service);
    text_fmt(text, sizeof(text),
             "Destination service instance \"prod\": 127.0.0.1:%d refused the connection",
             service.port);
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_CONNECT, text);
    peer_open(&service, service.port);
    pass(SECONDS(1));
    expect_port(DEST_TO_CHECK, 995);

    silent = true;
    dest_set_timeouts(dest, SECONDS(1), SECONDS(3));
    pass(SECONDS(120));
    struct asker a;
    ask(&a, DEST_TO_LOG_IN);
    settle();
    assert_int_equal(a.answers, 0);
    pass(SECONDS(3));
    assert_int_equal(a.answers, 1);
    assert_int_equal(a.verdict, VERDICT_UNREADABLE);
    assert_int_equal(a.err.fail, FAIL_TIMEOUT);
}

/* ---- tests: instances ---- */

static void unknown_instances(void **state)
{
    (void)state;
    static const struct {
        const char *instance, *text;
    } table[] = {
        {NULL,
         "Destination service instance name should be provided: there is no default instance"},
        {"test", "Destination service instance \"test\" is not configured"},
        {"te\tst", "Destination service instance \"te?st\" is not configured"},
        {"prod // can be omitted",
         "Destination service instance \"prod // can be omitted\" is not configured; YAML has no "
         "comments with \"//\": the text is part of the name"},
    };
    struct asker a;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        ask_for(&a, table[i].instance, "inbox", DEST_TO_LOG_IN);
        settle();
        assert_int_equal(a.answers, 1);
        assert_int_equal(a.verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
        assert_int_equal(a.err.fail, FAIL_CONFIG);
        assert_string_equal(a.err.text, table[i].text);
        ask_for(&a, table[i].instance, "inbox", DEST_TO_LOG_IN);
        dest_cancel(source, a.request);
        settle();
        assert_int_equal(a.answers, 0);
    }
    dest_set_instance(dest, "test", NULL, "Its Secret is not there.");
    ask_for(&a, "test", "inbox", DEST_TO_LOG_IN);
    settle();
    assert_int_equal(a.verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
    assert_string_equal(a.err.text, "Its Secret is not there.");
    set_key("test", "client", SECRET, NULL);
    ask_for(&a, "test", "inbox", DEST_TO_LOG_IN);
    await(&a.answers);
    assert_int_equal(a.port, 995);
}

static void instances_are_apart(void **state)
{
    (void)state;
    struct asker a;
    set_key("test", "another", SECRET, NULL);
    expect_port(DEST_TO_LOG_IN, 995);
    serve(200, MOVED);
    ask_for(&a, "test", "inbox", DEST_TO_LOG_IN);
    await(&a.answers);
    assert_string_equal(client, "client_id=another");
    assert_int_equal(a.port, 9950);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 2);
}

static void another_key(void **state)
{
    (void)state;
    expect_port(DEST_TO_LOG_IN, 995);
    set_key("prod", "client", SECRET, NULL);
    serve(200, MOVED);
    expect_port(DEST_TO_LOG_IN, 995);
    assert_int_equal(service.requests, 1);

    set_key("prod", "another", SECRET, NULL);
    expect_port(DEST_TO_LOG_IN, 9950);
    assert_string_equal(client, "client_id=another");

    /* After another change of the key, the old key's answers do not replace a failure. */
    set_key("prod", "third", SECRET, NULL);
    serve(503, "");
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_REMOTE, down);

    /* A lookup under way ends with the key with which it began. */
    struct asker a;
    serve(200, BASIC);
    pass(SECONDS(1));
    ask(&a, DEST_TO_LOG_IN);
    dest_set_instance(dest, "prod", NULL, NULL);
    await(&a.answers);
    assert_int_equal(a.port, 995);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_INSTANCE_NOT_CONFIGURED, FAIL_CONFIG,
                   "Destination service instance \"prod\" is not configured");
}

static void a_key_that_does_not_work(void **state)
{
    (void)state;
    static const char text[] = "the service key of Destination service instance \"prod\" does not "
                               "work: authorization server 127.0.0.1 refuses the client (401: "
                               "unauthorized)";
    auth_status = 401;
    expect_refusal(DEST_TO_CHECK, VERDICT_INSTANCE_NOT_CONFIGURED, FAIL_CONFIG, text);
    assert_int_equal(service.requests, 0);

    /* Another secret is used at once; an authorization server that works again is found soon. */
    auth_status = 200;
    set_key("prod", "client", "corrected", NULL);
    expect_port(DEST_TO_CHECK, 995);
    set_key("prod", "client", SECRET, NULL);
    pass(SECONDS(10));
    expect_port(DEST_TO_CHECK, 995);
}

static void impossible_addresses(void **state)
{
    (void)state;
    char uri[4090];
    size_t n = text_fmt(uri, sizeof(uri), "http://127.0.0.1:%d/", service.port);
    memset(uri + n, 'x', sizeof(uri) - n - 1);
    uri[sizeof(uri) - 1] = '\0';
    set_key("prod", "client", SECRET, uri);
    expect_refusal(
        DEST_TO_CHECK, VERDICT_INSTANCE_NOT_CONFIGURED, FAIL_CONFIG,
        "the service key of Destination service instance \"prod\" does not work: its uri "
        "is too long");
    set_key("prod", "client", SECRET, "http://224.0.0.1");
    struct asker a;
    ask(&a, DEST_TO_CHECK);
    await(&a.answers);
    assert_int_equal(a.verdict, VERDICT_INSTANCE_NOT_CONFIGURED);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
}

/* An untrusted certificate says nothing about the destination, so the lookup reports a TLS
 * failure. */
static void not_trusted(void **state)
{
    (void)state;
    char uri[64];
    test_sys.random = sys_real.random; /* TLS needs random bytes */
    text_fmt(uri, sizeof(uri), "https://127.0.0.1:%d", tls_peer_port("any"));
    set_key("prod", "client", SECRET, uri);
    struct asker a;
    ask(&a, DEST_TO_CHECK);
    await(&a.answers);
    assert_int_equal(a.verdict, VERDICT_UNREADABLE);
    assert_int_equal(a.err.fail, FAIL_TLS);
    assert_non_null(strstr(a.err.text, "certificate"));
}

static void no_access_token(void **state)
{
    (void)state;
    static const char text[] = "Destination service instance \"prod\": authorization server "
                               "127.0.0.1 gives no token (503: unauthorized)";
    auth_status = 503;
    expect_refusal(DEST_TO_CHECK, VERDICT_UNREADABLE, FAIL_REMOTE, text);
    expect_refusal(DEST_TO_LOG_IN, VERDICT_UNREADABLE, FAIL_REMOTE, text);
    assert_int_equal(auth.requests, 1);
    auth_status = 200;
    pass(SECONDS(1));
    expect_port(DEST_TO_LOG_IN, 995);
}

/* ---- tests: the end ---- */

static void cancelled(void **state)
{
    (void)state;
    struct asker a, b;
    dest_cancel(source, NULL);
    for (int turns = 0; turns < 30; turns++) {
        pass(SECONDS(120));
        ask(&a, DEST_TO_LOG_IN);
        ask(&b, DEST_TO_LOG_IN);
        for (int i = 0; i < turns && a.request; i++) {
            settle_once();
        }
        int before = a.answers;
        dest_cancel(source, a.request);
        settle();
        assert_int_equal(a.answers, before);
        assert_int_equal(b.answers, 1);
        assert_int_equal(b.port, 995);
    }
}

static void freed_in_every_state(void **state)
{
    struct asker a;
    for (int turns = 0; turns < 30; turns++) {
        ask(&a, DEST_TO_LOG_IN);
        for (int i = 0; i < turns && a.request; i++) {
            settle_once();
        }
        dest_cancel(source, a.request);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
}

static void metrics(void **state)
{
    (void)state;
    struct buf out;
    expect_port(DEST_TO_LOG_IN, 995);
    expect_port(DEST_TO_LOG_IN, 995);
    serve(404, NOT_FOUND);
    expect_refusal(DEST_TO_CHECK, VERDICT_NOT_FOUND, FAIL_CONFIG, not_found);
    buf_init(&out, 65536);
    dest_metrics(dest, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    const char *text = buf_str(&out).p;
    assert_non_null(strstr(text, "tproxy_destination_service_requests_total{result=\"ok\"} 1\n"));
    assert_non_null(
        strstr(text, "tproxy_destination_service_requests_total{result=\"config\"} 1\n"));
    assert_non_null(strstr(text, "tproxy_destination_service_request_seconds_count 2\n"));
    assert_non_null(strstr(text, "tproxy_destination_cache_total{result=\"hits\"} 1\n"));
    assert_non_null(strstr(text, "tproxy_destination_cache_total{result=\"misses\"} 2\n"));
    buf_free(&out);
}

static int start_tls(void **state)
{
    (void)state;
    return tls_peer_start();
}

static int stop_tls(void **state)
{
    (void)state;
    return tls_peer_stop();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_request),
        TEST(impossible_names),
        TEST(offline),
        TEST(one_request_for_all),
        TEST(ages),
        TEST(mail_tokens),
        TEST(no_mail_token),
        TEST(not_found_heals),
        TEST(refusals_replace_what_was_known),
        TEST(renews_the_access_token_once),
        TEST(refuses_every_access_token),
        TEST(a_check_tells_the_sessions),
        TEST(trouble_backs_off),
        TEST(failures_open_the_circuit),
        TEST(trouble_of_some_does_not_keep_others_away),
        TEST(lasting_trouble_breaks_no_circuit),
        TEST(large_answers_break_no_circuit),
        TEST(trials_without_a_result),
        TEST(lasting_trouble_is_told_as_itself),
        TEST(a_refusal_is_known_for_an_hour),
        TEST(refused_questions),
        TEST(without_the_service),
        TEST(with_its_token_as_long_as_that_is_valid),
        TEST(unreachable),
        TEST(unknown_instances),
        TEST(instances_are_apart),
        TEST(another_key),
        TEST(a_key_that_does_not_work),
        TEST(impossible_addresses),
        TEST(not_trusted),
        TEST(no_access_token),
        TEST(cancelled),
        TEST(freed_in_every_state),
        TEST(metrics),
    };
    return cmocka_run_group_tests(tests, start_tls, stop_tls);
}
