/* Tests the tokens of destinations' own token services, requested directly and through a SOCKS5
 * proxy. */
#include "btp/mail_token.h"

#include "btp/connectivity.h"
#include "core/destination.h"
#include "core/properties.h"
#include "core/service_key.h"
#include "core/token.h"
#include "tests/unit/world/socks_peer.h"
#include "tests/unit/world/tokens.h"

#define KEY_SECRET "s3cret-of-the-key"
#define SECRET "s3cret-of-the-client"
#define JWT "token-for-the-proxy"
#define TOKEN "token-for-the-mail-server"

static const char *const secrets[] = {KEY_SECRET, SECRET, JWT, TOKEN, NULL};
static char key_secret[] = KEY_SECRET, key_url[64], url[64];
static struct http_peer auth;
static struct socks_peer proxy;
static struct connectivity *connectivity;
static struct service_key key;
static const struct destination *dest;
static struct mail_token_of of;

/* The numbers of tokens that the authorization server has issued for the proxy and for the mail
 * server. */
static unsigned jwts, tokens;

static const char *token_answer(const char *token, unsigned number)
{
    static char text[128];
    text_fmt(text, sizeof(text), "{\"access_token\":\"%s-%u\",\"expires_in\":3600}", token, number);
    return peer_answer(200, "", text);
}

/* Sets the answer of the server behind the proxy. */
static void serve(unsigned number)
{
    static char text[256];
    text_fmt(text, sizeof(text), "%s", token_answer(TOKEN, number));
    proxy.answer = text;
}

static const char *auth_answer(struct http_peer *p, const struct http_head *head, struct str sent)
{
    char form[512];
    (void)p;
    (void)head;
    text_fmt(form, sizeof(form), "%.*s", STR_ARG(sent));
    return strstr(form, "client_id=proxy&") ? token_answer(JWT, ++jwts)
                                            : token_answer(TOKEN, ++tokens);
}

static void use(const char *authentication, const char *more)
{
    struct destination_problem problem;
    char text[1024];
    text_fmt(text, sizeof(text),
             "{\"Name\":\"inbox\",\"Type\":\"MAIL\",\"ProxyType\":\"OnPremise\","
             "\"Authentication\":\"%s\",\"mail.transport.protocol\":\"pop3\",\"mail.pop3.host\":"
             "\"mail.corp\",\"mail.user\":\"u\",\"clientId\":\"mail\",\"clientSecret\":\"" SECRET
             "\",\"tokenServiceURL\":\"%s\",\"CloudConnectorLocationId\":\"loc\"%s}",
             authentication, url, more);
    struct json *doc = json_parse(str_of(text), NULL);
    struct properties *props = properties_from_json(json_root(doc), NULL);
    destination_unref(dest);
    dest = destination_new(props, true, &problem);
    if (!dest) {
        fail_msg("%s", problem.text);
    }
    of = (struct mail_token_of){.dest = dest, .tenant = "provider"};
    properties_free(props);
    json_free(doc);
}

static int setup(void **state)
{
    (void)state;
    world_open(secrets, "/nonexistent");
    auth = (struct http_peer){.answer = auth_answer};
    world_add(&auth);
    socks_peer_open(&proxy);
    jwts = tokens = 0;
    text_fmt(key_url, sizeof(key_url), "http://127.0.0.1:%d/oauth/token", auth.port);
    text_fmt(url, sizeof(url), "http://auth.corp/token");
    key = (struct service_key){.refs = 1000,
                               .client_id = "proxy",
                               .client_secret = {key_secret, strlen(key_secret)},
                               .token_url = key_url};
    const struct connectivity_settings settings = {
        .host = "127.0.0.1", .port = proxy.port, .timeout = SECONDS(1), .key = &key};
    connectivity = connectivity_new(loop, oauth);
    connectivity_set(connectivity, &settings);
    use("OAuth2ClientCredentials", "");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    connectivity_free(connectivity);
    destination_unref(dest);
    dest = NULL;
    socks_peer_close(&proxy);
    world_close();
    return 0;
}

/* ---- asking ---- */

struct asker {
    struct mail_token_wait *wait;
    int answers;
    char token[64]; /* "": an error */
    struct error err;
};

static void on_token(struct token *token, const struct error *err, void *arg)
{
    struct asker *a = arg;
    a->wait = NULL;
    a->answers++;
    if (token) {
        text_fmt(a->token, sizeof(a->token), "%s", token->value.p);
    } else {
        a->err = *err;
    }
}

static void ask(struct asker *a)
{
    *a = (struct asker){0};
    a->wait =
        mail_token_get(oauth, connectivity, &of, (struct oauth_handler){on_token, a}, &a->err);
    assert_int_equal(a->answers, 0);
}

static void settle_with_proxy(void)
{
    do {
        settle();
    } while (socks_peer_run(&proxy));
}

static void await_answer(struct asker *a)
{
    int64_t until = sys_real.now() + SECONDS(60);
    while (!a->answers) {
        settle_with_proxy();
        if (sys_real.now() > until) {
            fail_msg("no answer");
        }
    }
    assert_int_equal(a->answers, 1);
}

static void expect_token(const char *token)
{
    struct asker a;
    ask(&a);
    assert_non_null(a.wait);
    await_answer(&a);
    if (!a.token[0]) {
        fail_msg("%s", a.err.text);
    }
    assert_string_equal(a.token, token);
}

/* ---- tests ---- */

static void through_the_proxy(void **state)
{
    (void)state;
    serve(1);
    expect_token(TOKEN "-1");
    expect_token(TOKEN "-1");
    assert_int_equal(jwts, 1);
    assert_int_equal(tokens, 0);
    assert_int_equal(proxy.connections, 1);
    assert_string_equal(proxy.token, JWT "-1");
    assert_string_equal(proxy.location, "bG9j");
    assert_string_equal(proxy.host, "auth.corp");

    mail_token_refused(oauth, &of, NULL);
    serve(2);
    expect_token(TOKEN "-2");
}

static void straight(void **state)
{
    (void)state;
    text_fmt(url, sizeof(url), "http://127.0.0.1:%d/token", auth.port);
    use("OAuth2ClientCredentials", ",\"tokenServiceURL.ProxyType\":\"Internet\"");
    expect_token(TOKEN "-1");
    assert_int_equal(jwts + proxy.connections, 0);

    /* Each tenant has tokens of its own. */
    of.tenant = of.subscriber = "one";
    expect_token(TOKEN "-2");
    expect_token(TOKEN "-2");
}

static void refused_once(void **state)
{
    (void)state;
    struct asker a;
    serve(1);
    proxy.refuses_token = 1;
    ask(&a);
    while (!proxy.token[0]) {
        settle_once();
        socks_peer_run(&proxy);
    }
    proxy.refuses_token = 0;
    await_answer(&a);
    assert_string_equal(a.token, TOKEN "-1");
    assert_int_equal(jwts, 2);
    assert_string_equal(proxy.token, JWT "-2");
}

static void refused_again(void **state)
{
    (void)state;
    struct asker a;
    proxy.refuses_token = 1;
    ask(&a);
    await_answer(&a);
    assert_string_equal(a.token, "");
    assert_int_equal(a.err.fail, FAIL_TOKEN);
    assert_int_equal(jwts, 2);
    assert_int_equal(proxy.connections, 2);
}

/* A code may have been redeemed although the request failed, so it is not sent again. */
static void codes_are_tried_once(void **state)
{
    (void)state;
    struct asker a;
    char code[] = "4/code";
    struct secret sent = {code, strlen(code)};
    use("OAuth2AuthorizationCode", "");
    of.user_token = &sent;
    proxy.refuses_token = 1;
    ask(&a);
    await_answer(&a);
    assert_int_equal(a.err.fail, FAIL_TOKEN);
    assert_int_equal(jwts, 1);
    assert_int_equal(proxy.connections, 1);
}

static void no_route(void **state)
{
    (void)state;
    struct asker a;
    const struct connectivity_settings none = {.verdict = VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
                                               .problem = "there is none"};
    connectivity_set(connectivity, &none);
    ask(&a);
    await_answer(&a);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
    assert_string_equal(a.err.text, "there is none");
    assert_int_equal(auth.requests, 0);
}

static void no_url(void **state)
{
    (void)state;
    struct asker a;
    use("OAuth2ClientCredentials", ",\"tokenServiceURLType\":\"Common\"");
    of.tenant = NULL;
    ask(&a);
    assert_null(a.wait);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
    mail_token_refused(oauth, &of, NULL);
}

/* A request may be cancelled in every state, and does not need the destination after its start. */
static void cancelled(void **state)
{
    (void)state;
    struct asker a;
    mail_token_cancel(NULL);
    serve(1);
    for (int turns = 0; turns < 30; turns++) {
        of.tenant = turns % 2 ? "odd" : "even";
        ask(&a);
        destination_unref(dest);
        dest = NULL;
        for (int i = 0; i < turns; i++) {
            settle_once();
            socks_peer_run(&proxy);
        }
        mail_token_cancel(a.wait);
        a.wait = NULL;
        int answers = a.answers;
        settle_with_proxy();
        assert_int_equal(a.answers, answers);
        use("OAuth2ClientCredentials", "");
        mail_token_refused(oauth, &of, NULL);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(through_the_proxy),    TEST(straight), TEST(refused_once), TEST(refused_again),
        TEST(codes_are_tried_once), TEST(no_route), TEST(no_url),       TEST(cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
