/* Tests oauth with an authorization server that the test plays, over loopback sockets. Time stands
 * still unless a test moves it. */
#include "core/token.h"
#include "oauth.h"

#include "http/origins.h"
#include "lib/dial.h"
#include "tests/unit/world/socks_peer.h"
#include "tests/unit/world/tokens.h"

#define CLIENT "sb-clone!b21283|dest!b404"
#define SECRET "s3cret-$1+2=&x"
#define TOKEN "the-access-token"

enum { ASKERS = 200 };

static const char *const secrets[] = {TOKEN, SECRET, NULL};
static struct http_peer peer;

/* The server's answer. */
static int status;
static const char *headers, *body;
static bool silent;
static char seen[2048];         /* the last request */
static char authorization[256]; /* the Authorization field of that request, or "" */

/* One asker and its answer. */
struct asker {
    struct oauth_wait *wait;
    int answers;
    char token[64]; /* "": an error */
    int64_t expires;
    struct error err;
};

static char url[64];
static struct secret secret;
static struct oauth_grant grant;

static const char *answer(struct http_peer *p, const struct http_head *head, struct str sent)
{
    struct str authority = {NULL, 0}, accept = authority, type = authority, basic = authority;
    (void)p;
    http_find_header(head, "Host", &authority);
    http_find_header(head, "Accept", &accept);
    http_find_header(head, "Content-Type", &type);
    assert_str(accept, "application/json");
    assert_str(type, "application/x-www-form-urlencoded");
    http_find_header(head, "Authorization", &basic);
    text_fmt(authorization, sizeof(authorization), "%.*s", STR_ARG(basic));
    text_fmt(seen, sizeof(seen), "%.*s %.*s %.*s\n%.*s", STR_ARG(head->method),
             STR_ARG(head->target), STR_ARG(authority), STR_ARG(sent));
    return silent ? NULL : peer_answer(status, headers, body);
}

static void give_token(const char *token, int expires_in)
{
    static char text[256];
    text_fmt(text, sizeof(text),
             "{\"access_token\":\"%s\",\"token_type\":\"bearer\",\"expires_in\":%d}", token,
             expires_in);
    status = 200;
    headers = "";
    body = text;
    silent = false;
}

static void refuse(int with, const char *extra, const char *text)
{
    status = with;
    headers = extra;
    body = text;
}

static void use_port(uint16_t port)
{
    text_fmt(url, sizeof(url), "http://127.0.0.1:%d/oauth/token", port);
}

static int setup(void **state)
{
    (void)state;
    world_open(secrets, "/nonexistent");
    peer = (struct http_peer){.answer = answer};
    world_add(&peer);
    use_port(peer.port);
    secret_set(&secret, SECRET, strlen(SECRET));
    grant = (struct oauth_grant){
        .url = url, .client_id = CLIENT, .client_secret = &secret, .allow_local = true};
    give_token(TOKEN, 3600);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_close();
    secret_clear(&secret);
    return 0;
}

/* ---- asking ---- */

static void on_token(struct token *token, const struct error *err, void *arg)
{
    struct asker *a = arg;
    assert_true((token == NULL) == (err != NULL));
    a->wait = NULL;
    a->answers++;
    a->token[0] = '\0';
    if (token) {
        text_fmt(a->token, sizeof(a->token), "%s", token->value.p);
        a->expires = token->expires;
    } else {
        a->err = *err;
        expect_no_secret(err->text);
    }
}

static void ask(struct asker *a)
{
    *a = (struct asker){0};
    a->wait = oauth_get(oauth, &grant, (struct oauth_handler){on_token, a});
    assert_int_equal(a->answers, 0);
}

static void expect_token(const char *token)
{
    struct asker a;
    ask(&a);
    await(&a.answers);
    if (!a.token[0]) {
        fail_msg("%s", a.err.text);
    }
    assert_string_equal(a.token, token);
}

/* Expects this failure; %s in the text is the server's authority. */
static void expect_failure(enum fail fail, const char *text)
{
    struct asker a;
    char server[32], whole[512];
    text_fmt(server, sizeof(server), "127.0.0.1:%d", peer.port);
    const char *mark = strstr(text, "%s");
    text_fmt(whole, sizeof(whole), "%.*s%s%s", mark ? (int)(mark - text) : 0, text,
             mark ? server : "", mark ? mark + 2 : text);
    ask(&a);
    await(&a.answers);
    assert_string_equal(a.token, "");
    assert_string_equal(a.err.text, whole);
    assert_int_equal(a.err.fail, fail);
}

/* ---- tests ---- */

static void the_request(void **state)
{
    (void)state;
    struct asker a;
    char wanted[256];
    ask(&a);
    await(&a.answers);
    text_fmt(
        wanted, sizeof(wanted),
        "POST /oauth/token 127.0.0.1:%d\ngrant_type=client_credentials"
        "&client_id=sb-clone%%21b21283%%7Cdest%%21b404&client_secret=s3cret-%%241%%2B2%%3D%%26x",
        peer.port);
    assert_string_equal(seen, wanted);
    assert_string_equal(a.token, TOKEN);
    assert_int_equal(a.expires, test_now + SECONDS(3600));

    text_fmt(url, sizeof(url), "http://127.0.0.1:%d/oauth/token?a=b", peer.port);
    expect_token(TOKEN);
    assert_non_null(strstr(seen, "POST /oauth/token?a=b "));
}

static void one_request_for_all(void **state)
{
    (void)state;
    static struct asker askers[ASKERS];
    for (size_t i = 0; i < ASKERS; i++) {
        ask(&askers[i]);
    }
    settle();
    for (size_t i = 0; i < ASKERS; i++) {
        assert_int_equal(askers[i].answers, 1);
        assert_string_equal(askers[i].token, TOKEN);
    }
    expect_token(TOKEN);
    assert_int_equal(peer.requests, 1);
}

/* Grants with any difference share no token. */
static void grants_are_apart(void **state)
{
    (void)state;
    expect_token(TOKEN);
    give_token("for-another-client", 3600);
    grant.client_id = "another";
    expect_token("for-another-client");
    give_token("for-another-secret", 3600);
    secret_set(&secret, "other", 5);
    expect_token("for-another-secret");
    give_token("for-another-url", 3600);
    text_fmt(url, sizeof(url), "http://127.0.0.1:%d/token", peer.port);
    expect_token("for-another-url");
    assert_int_equal(peer.requests, 4);
}

/* One URL, reached directly or behind different Cloud Connectors, means different servers. */
static void locations_are_apart(void **state)
{
    (void)state;
    static const char *const locations[] = {NULL, "", "here", "there"};
    char token[16];
    for (size_t i = 0; i < ARRAY_LEN(locations); i++) {
        text_fmt(token, sizeof(token), "token-%zu", i);
        give_token(token, 3600);
        grant.location = locations[i];
        expect_token(token);
    }
    assert_int_equal(peer.requests, ARRAY_LEN(locations));
}

static void tenants_are_apart(void **state)
{
    (void)state;
    static const char *const tenants[] = {NULL, "", "one", "other"};
    char token[16];
    for (size_t i = 0; i < ARRAY_LEN(tenants); i++) {
        text_fmt(token, sizeof(token), "token-%zu", i);
        give_token(token, 3600);
        grant.tenant = tenants[i];
        expect_token(token);
    }
    for (size_t i = 0; i < ARRAY_LEN(tenants); i++) {
        text_fmt(token, sizeof(token), "token-%zu", i);
        grant.tenant = tenants[i];
        expect_token(token);
    }
    assert_int_equal(peer.requests, ARRAY_LEN(tenants));
}

static void renewed_ahead(void **state)
{
    (void)state;
    expect_token(TOKEN);
    give_token("second", 60);
    pass(SECONDS(3240) - 1);
    expect_token(TOKEN);
    assert_int_equal(peer.requests, 1);

    /* In the last tenth of its lifetime the old token is used while a new one is fetched. */
    pass(1);
    expect_token(TOKEN);
    settle();
    assert_int_equal(peer.requests, 2);
    expect_token("second");

    /* The refresh begins 30 s before the end, if that is earlier. */
    give_token("third", 40);
    pass(SECONDS(30) - 1);
    expect_token("second");
    settle();
    assert_int_equal(peer.requests, 2);
    pass(1);
    expect_token("second");
    settle();
    expect_token("third");

    /* The refresh does not begin in the first half of the lifetime. */
    pass(SECONDS(20) - 1);
    expect_token("third");
    settle();
    assert_int_equal(peer.requests, 3);
    pass(1);
    expect_token("third");
    settle();
    assert_int_equal(peer.requests, 4);
}

static void until_its_last_seconds(void **state)
{
    (void)state;
    expect_token(TOKEN);
    refuse(503, "", "");
    pass(SECONDS(3590) - 1);
    expect_token(TOKEN);
    settle();
    assert_int_equal(peer.requests, 2);
    pass(1);
    expect_failure(FAIL_REMOTE, "authorization server 127.0.0.1 gives no token (503)");
    pass(SECONDS(1));
    give_token("new", 3600);
    expect_token("new");
}

/* A token that expires at once is given to the waiting askers and not kept. */
static void short_lives(void **state)
{
    (void)state;
    struct asker a, b;
    give_token("brief", 0);
    ask(&a);
    ask(&b);
    settle();
    assert_string_equal(a.token, "brief");
    assert_string_equal(b.token, "brief");
    assert_int_equal(a.expires, test_now);
    assert_int_equal(peer.requests, 1);
    expect_token("brief");
    assert_int_equal(peer.requests, 2);
}

static void refusals_are_remembered(void **state)
{
    (void)state;
    static const char text[] = "authorization server 127.0.0.1 refuses the client (401: "
                               "unauthorized: Bad credentials)";
    refuse(401, "", "{\"error\":\"unauthorized\",\"error_description\":\"Bad credentials\"}");
    expect_failure(FAIL_AUTH, text);
    expect_failure(FAIL_AUTH, text);
    assert_int_equal(peer.requests, 1);

    /* Another secret makes another request. */
    secret_set(&secret, "corrected", 9);
    give_token(TOKEN, 3600);
    expect_token(TOKEN);
    secret_set(&secret, SECRET, strlen(SECRET));
    expect_failure(FAIL_AUTH, text);
    assert_int_equal(peer.requests, 2);

    /* A server that works again is found soon. */
    pass(SECONDS(1));
    expect_token(TOKEN);

    grant.client_id = "nobody";
    refuse(404, "", "<html>");
    expect_failure(FAIL_CONFIG, "authorization server 127.0.0.1 knows no such tenant (404)");
}

static void trouble_backs_off(void **state)
{
    (void)state;
    static const char text[] = "authorization server 127.0.0.1 gives no token (429)";
    refuse(429, "Retry-After: 120\r\n", "");
    expect_failure(FAIL_REMOTE, text);
    pass(SECONDS(120) - 1);
    expect_failure(FAIL_REMOTE, text);
    assert_int_equal(peer.requests, 1);
    pass(1);
    refuse(429, "", "");
    expect_failure(FAIL_REMOTE, text);
    assert_int_equal(peer.requests, 2);

    /* The second failure in a row is remembered for 2 s. */
    pass(SECONDS(2) - 1);
    expect_failure(FAIL_REMOTE, text);
    assert_int_equal(peer.requests, 2);
    give_token(TOKEN, 3600);
    pass(1);
    expect_token(TOKEN);
}

static void nonsense(void **state)
{
    (void)state;
    static char huge[TOKEN_MAX + 100], larger[70 * 1024];
    static const struct {
        const char *body;
        enum fail fail;
        const char *text;
    } table[] = {
        {"<html>", FAIL_TOKEN,
         "authorization server 127.0.0.1 gives no token: line 1, column 1: expected a value, found "
         "'<'"},
        {"{\"access_token\":\"a\\r\\nX: y\"}", FAIL_TOKEN,
         "authorization server 127.0.0.1: the access token has characters that no token may have"},
        {"{\"access_token\":\"a\\u0000\"}", FAIL_TOKEN,
         "authorization server 127.0.0.1: the access token has characters that no token may have"},
        {huge, FAIL_TOKEN,
         "authorization server 127.0.0.1: the access token has 16385 octets; 1 to 16384 are "
         "possible"},
        {larger, FAIL_LIMIT, "authorization server %s: the answer is larger than 65536 bytes"},
    };
    text_fmt(huge, sizeof(huge), "{\"access_token\":\"%0*d\"}", TOKEN_MAX + 1, 0);
    memset(larger, ' ', sizeof(larger) - 1);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        refuse(200, "", table[i].body);
        expect_failure(table[i].fail, table[i].text);
        pass(SECONDS(60));
    }
    give_token(TOKEN, 3600);
    expect_token(TOKEN);
}

static void unreachable(void **state)
{
    (void)state;
    char text[160];
    text_fmt(
        text, sizeof(text),
        "authorization server 127.0.0.1:%u: host \"127.0.0.1\" is a loopback address, which is "
        "not allowed",
        peer.port);
    grant.allow_local = false;
    expect_failure(FAIL_CONFIG, text);
    grant.allow_local = true;
    grant.url = "ldap://example.com";
    expect_failure(FAIL_CONFIG, "the URL of the authorization server does not begin with https:// "
                                "or http://");
    grant.url = url;
    silent = true;
    struct asker a;
    ask(&a);
    settle();
    pass(SECONDS(10));
    await(&a.answers);
    assert_int_equal(a.err.fail, FAIL_TIMEOUT);
    pass(SECONDS(1));

    /* New timeouts apply to requests that begin later. */
    oauth_set_timeouts(oauth, SECONDS(1), SECONDS(3));
    ask(&a);
    settle();
    pass(SECONDS(3));
    await(&a.answers);
    assert_int_equal(a.err.fail, FAIL_TIMEOUT);

    pass(SECONDS(60));
    peer_close(&peer);
    expect_failure(FAIL_CONNECT, "authorization server %s refused the connection");
    peer_open(&peer, peer.port);
    silent = false;
    pass(SECONDS(60));
    expect_token(TOKEN);

    /* There are no trusted certificates, and the server does not speak TLS. */
    text_fmt(url, sizeof(url), "https://127.0.0.1:%d/oauth/token", peer.port);
    ask(&a);
    await(&a.answers);
    assert_int_equal(a.err.fail, FAIL_TLS);
}

static void too_long(void **state)
{
    (void)state;
    char *id = malloc(70000);
    assert_non_null(id);
    memset(id, 'x', 70000);
    id[69999] = '\0';
    grant.client_id = id;
    expect_failure(FAIL_CONFIG, "URL or credentials of authorization server 127.0.0.1 are longer "
                                "than 65536 octets");
    assert_int_equal(peer.requests, 0);
    free(id);
}

static void refused_tokens(void **state)
{
    (void)state;
    struct token *other = token_new(str_of("other"), 0, NULL);
    expect_token(TOKEN);
    give_token("second", 3600);
    oauth_refused(oauth, &grant, other);
    expect_token(TOKEN);
    token_unref(other);
    token_unref(NULL);

    struct asker a;
    ask(&a);
    settle();
    assert_string_equal(a.token, TOKEN);
    assert_int_equal(peer.requests, 1);
}

static struct token *kept;

static void keep_token(struct token *token, const struct error *err, void *arg)
{
    (void)err;
    (void)arg;
    kept = token_ref(token);
}

static void a_refused_token_is_replaced(void **state)
{
    (void)state;
    oauth_get(oauth, &grant, (struct oauth_handler){keep_token, NULL});
    settle();
    assert_non_null(kept);
    give_token("second", 3600);
    oauth_refused(oauth, &grant, kept);
    expect_token("second");
    /* A late report about an old token has no effect. */
    oauth_refused(oauth, &grant, kept);
    expect_token("second");
    assert_int_equal(peer.requests, 2);
    assert_string_equal(kept->value.p, TOKEN);
    token_unref(kept);
    kept = NULL;
}

static void cancelled(void **state)
{
    (void)state;
    struct asker a, b;
    oauth_cancel(NULL);

    /* The request is cancelled at once, while the answer is awaited, and when the answer has
     * arrived. */
    ask(&a);
    oauth_cancel(a.wait);
    settle();
    assert_int_equal(peer.requests, 1);
    expect_token(TOKEN);
    assert_int_equal(peer.requests, 1);
    ask(&a);
    oauth_cancel(a.wait);
    settle();
    assert_int_equal(a.answers, 0);

    grant.client_id = "another";
    silent = true;
    ask(&a);
    ask(&b);
    settle();
    oauth_cancel(a.wait);
    settle();
    assert_int_equal(peer.requests, 2);
    pass(SECONDS(10));
    assert_int_equal(a.answers, 0);
    assert_int_equal(b.answers, 1);
    assert_int_equal(b.err.fail, FAIL_TIMEOUT);

    /* These grants cannot be requested. */
    grant.url = "nonsense";
    ask(&a);
    oauth_cancel(a.wait);
    settle();
    assert_int_equal(a.answers, 0);
}

/* The object is freed with a request in every state. */
static void freed_in_every_state(void **state)
{
    struct asker a;
    for (int turns = 0; turns < 12; turns++) {
        ask(&a);
        for (int i = 0; i < turns; i++) {
            settle_once();
        }
        if (!a.wait) {
            assert_int_equal(a.answers, 1);
        }
        oauth_cancel(a.wait);
        a.answers = 0;
        oauth_free(oauth);
        oauth = NULL;
        settle();
        assert_int_equal(a.answers, 0);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
    grant.url = "nonsense";
    ask(&a);
    oauth_cancel(a.wait);
}

/* Connections to servers that are no longer used are closed in the end. */
static void unused_connections_are_closed(void **state)
{
    (void)state;
    for (int i = 1; i <= HTTP_ORIGINS_MAX + 20; i++) {
        text_fmt(url, sizeof(url), "http://127.0.0.%d:%d/oauth/token", i, peer.port);
        expect_token(TOKEN);
    }
    settle();
    assert_int_equal(conn_count(), HTTP_ORIGINS_MAX);
}

static void metrics(void **state)
{
    (void)state;
    struct buf out;
    expect_token(TOKEN);
    grant.client_id = "another";
    refuse(401, "", "");
    expect_failure(FAIL_AUTH, "authorization server 127.0.0.1 refuses the client (401)");
    buf_init(&out, 65536);
    oauth_metrics(oauth, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    const char *text = buf_str(&out).p;
    assert_non_null(strstr(text, "tproxy_token_requests_total{result=\"ok\"} 1\n"));
    assert_non_null(strstr(text, "tproxy_token_requests_total{result=\"auth\"} 1\n"));
    assert_non_null(strstr(text, "tproxy_token_requests_total{result=\"timeout\"} 0\n"));
    assert_non_null(strstr(text, "tproxy_token_request_seconds_count 2\n"));
    buf_free(&out);
}

/* ---- authorization servers other than SAP's ---- */

#define REFRESH "1//refresh-token-of-the-client"
#define NEWER "1//what-takes-its-place"

static struct secret user_token;

static void use_user_token(enum oauth_grant_type type, const char *text)
{
    secret_set(&user_token, text, strlen(text));
    grant.type = type;
    grant.user_token = &user_token;
}

static bool was_sent(const char *part)
{
    return strstr(seen, part) != NULL;
}

static void credentials_in_a_header_field(void **state)
{
    (void)state;
    grant.basic = true;
    grant.form = str_of("scope=a%20b");
    grant.headers = str_of("X-More: yes\r\n");
    expect_token(TOKEN);
    /* Both parts are encoded before they are joined: "sb-clone%21b21283%7C..." */
    assert_string_equal(authorization, "Basic c2ItY2xvbmUlMjFiMjEyODMlN0NkZXN0JTIxYjQwNDpzM2Ny"
                                       "ZXQtJTI0MSUyQjIlM0QlMjZ4");
    assert_true(was_sent("\ngrant_type=client_credentials&scope=a%20b"));
    assert_false(was_sent("client_id"));
    assert_false(was_sent("client_secret"));
}

/* The certificate identifies the client: there is no secret to send, and none is required. */
static void no_secret(void **state)
{
    (void)state;
    expect_token(TOKEN);
    grant.client_secret = NULL;
    give_token("another", 3600);
    expect_token("another");
    assert_true(
        was_sent("\ngrant_type=client_credentials&client_id=sb-clone%21b21283%7Cdest%21b404"));
    assert_false(was_sent("client_secret"));

    grant.basic = true;
    give_token("third", 3600);
    expect_token("third");
    assert_string_equal(authorization, "");
    assert_true(was_sent("&client_id="));
}

static void certificates(void **state)
{
    (void)state;
    char text[] = "no key";
    struct secret key = {text, strlen(text)};
    text_fmt(url, sizeof(url), "https://127.0.0.1:%d/oauth/token", peer.port);
    grant.client_secret = NULL;
    grant.certificate = "nonsense";
    grant.key = &key;
    struct asker a;
    ask(&a);
    await(&a.answers);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
    assert_non_null(strstr(a.err.text, "the client certificate is not PEM"));

    /* Another certificate makes another request, which does not have the remembered failure. */
    grant.certificate = NULL;
    grant.key = NULL;
    ask(&a);
    await(&a.answers);
    assert_int_equal(a.err.fail, FAIL_TLS);
}

/* ---- through a tunnel ---- */

static void through_a_tunnel(void **state)
{
    (void)state;
    struct socks_peer proxy;
    char text[] = "the-jwt";
    struct secret jwt = {text, strlen(text)};
    socks_peer_open(&proxy);
    struct dial_via via = {.host = "127.0.0.1",
                           .port = proxy.port,
                           .timeout = SECONDS(1),
                           .token = &jwt,
                           .location = "loc"};
    struct asker a;
    text_fmt(url, sizeof(url), "http://auth.corp/oauth/token");
    grant.via = &via;
    proxy.refuses_token = 1;
    ask(&a);
    while (!a.answers) {
        settle();
        socks_peer_run(&proxy);
    }
    assert_int_equal(a.err.fail, FAIL_TOKEN);
    assert_non_null(strstr(a.err.text, "authorization server: no tunnel"));
    assert_null(strstr(a.err.text, text));

    /* The failure is remembered until the caller reports a change. */
    proxy.refuses_token = 0;
    give_token(TOKEN, 60);
    proxy.answer = peer_answer(status, headers, body);
    ask(&a);
    settle();
    assert_int_equal(a.answers, 1);
    assert_int_equal(proxy.connections, 1);
    oauth_refused(oauth, &grant, NULL);
    ask(&a);
    while (!a.answers) {
        settle();
        socks_peer_run(&proxy);
    }
    assert_string_equal(a.token, TOKEN);
    assert_string_equal(proxy.token, text);
    assert_string_equal(proxy.location, "bG9j");
    assert_string_equal(proxy.host, "auth.corp");
    assert_int_equal(proxy.requests, 1);

    /* The route is not part of the key. */
    grant.via = NULL;
    expect_token(TOKEN);
    assert_int_equal(peer.requests, 0);
    socks_peer_close(&proxy);
}

static void refresh_tokens(void **state)
{
    (void)state;
    struct asker other;
    use_user_token(OAUTH_REFRESH_TOKEN, REFRESH);
    expect_token(TOKEN);
    assert_true(was_sent("grant_type=refresh_token&refresh_token=1%2F%2Frefresh-token-of-the-"));
    assert_true(was_sent("&client_secret="));
    assert_int_equal(peer.requests, 1);
    expect_token(TOKEN);
    assert_int_equal(peer.requests, 1);

    /* Another user token makes another request. A wrong one affects only its owner. */
    use_user_token(OAUTH_REFRESH_TOKEN, "wrong");
    refuse(400, "", "{\"error\":\"invalid_grant\",\"error_description\":\"no wrong here\"}");
    ask(&other);
    await(&other.answers);
    assert_int_equal(other.err.fail, FAIL_AUTH);
    assert_non_null(strstr(other.err.text, "(not shown: a secret is in it)"));
    assert_int_equal(peer.requests, 2);
    use_user_token(OAUTH_REFRESH_TOKEN, REFRESH);
    expect_token(TOKEN);
    assert_int_equal(peer.requests, 2);
    secret_clear(&user_token);
}

static void rotated_refresh_tokens(void **state)
{
    (void)state;
    struct asker a;
    use_user_token(OAUTH_REFRESH_TOKEN, REFRESH);
    body = "{\"access_token\":\"" TOKEN "\",\"expires_in\":60,\"refresh_token\":\"" NEWER "\"}";
    expect_token(TOKEN);
    pass(SECONDS(70));
    give_token("next", 60);
    expect_token("next");
    assert_true(was_sent("&refresh_token=1%2F%2Fwhat-takes-its-place&"));

    /* A newer refresh token that is refused is dropped, and the client's own is used again. */
    pass(SECONDS(70));
    refuse(400, "", "{\"error\":\"invalid_grant\"}");
    ask(&a);
    await(&a.answers);
    assert_int_equal(a.err.fail, FAIL_AUTH);
    pass(SECONDS(10));
    give_token("again", 60);
    expect_token("again");
    assert_true(was_sent("&refresh_token=1%2F%2Frefresh-token-of-the-client&"));
    secret_clear(&user_token);
}

static void a_code_is_redeemed_once(void **state)
{
    (void)state;
    struct asker a;
    use_user_token(OAUTH_AUTHORIZATION_CODE, "4/the-code");
    give_token(TOKEN, 60);
    for (int i = 0; i < 50; i++) {
        expect_token(TOKEN);
        pass(SECONDS(1));
    }
    assert_true(was_sent("grant_type=authorization_code&code=4%2Fthe-code&"));
    assert_int_equal(peer.requests, 1);
    pass(SECONDS(20));
    refuse(400, "", "{\"error\":\"invalid_grant\"}");
    ask(&a);
    await(&a.answers);
    assert_int_equal(a.err.fail, FAIL_AUTH);
    secret_clear(&user_token);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_request),
        TEST(one_request_for_all),
        TEST(grants_are_apart),
        TEST(tenants_are_apart),
        TEST(locations_are_apart),
        TEST(renewed_ahead),
        TEST(until_its_last_seconds),
        TEST(short_lives),
        TEST(refusals_are_remembered),
        TEST(trouble_backs_off),
        TEST(nonsense),
        TEST(unreachable),
        TEST(too_long),
        TEST(refused_tokens),
        TEST(a_refused_token_is_replaced),
        TEST(cancelled),
        TEST(freed_in_every_state),
        TEST(unused_connections_are_closed),
        TEST(credentials_in_a_header_field),
        TEST(no_secret),
        TEST(certificates),
        TEST(through_a_tunnel),
        TEST(refresh_tokens),
        TEST(rotated_refresh_tokens),
        TEST(a_code_is_redeemed_once),
        TEST(metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
