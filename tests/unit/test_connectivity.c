/* Tests btp/connectivity: the route to on-premise systems, with and without tokens, for tenants,
 * and around a source of destinations that the test plays. */
#include "btp/connectivity.h"

#include "core/properties.h"
#include "core/service_key.h"
#include "core/token.h"
#include "tests/unit/world/tokens.h"

#define SECRET "s3cret-of-the-key"
#define TOKEN "token-for-the-proxy"
#define MAIL_TOKEN "token-for-the-mail-server"

static const char *const secrets[] = {SECRET, TOKEN, MAIL_TOKEN, NULL};
static char hosts[] = "/tmp/connectivity_hosts.XXXXXX";
static char secret[] = SECRET, url[64];
static struct http_peer auth;
static struct connectivity *connectivity;
static struct service_key key;
static struct connectivity_settings settings;

/* The authorization server's next answer and its last question. */
static int status;
static bool silent;
static unsigned given;
static char asked[64];

static const char *auth_answer(struct http_peer *p, const struct http_head *head, struct str sent)
{
    static char text[128];
    struct str authority = {NULL, 0};
    (void)p;
    (void)sent;
    http_find_header(head, "Host", &authority);
    struct str label = str_cut(&authority, '.');
    text_fmt(asked, sizeof(asked), "%.*s", STR_ARG(label));
    text_fmt(text, sizeof(text), "{\"access_token\":\"" TOKEN "-%s-%u\",\"expires_in\":3600}",
             asked, ++given);
    return silent ? NULL : peer_answer(status, "", status == 200 ? text : "{}");
}

/* ---- a source ---- */

struct dest_request {
    struct task task;
    struct dest_handler handler;
};

static struct {
    struct dest_source face;
    const struct destination *dest; /* NULL: the destination does not exist */
    struct token *token;
    int asked, cancelled;
    enum dest_purpose purpose;
    const struct token *refused;
} below;

static void on_asked(struct task *t)
{
    struct dest_request *request = container_of(t, struct dest_request, task);
    struct dest_handler handler = request->handler;
    struct dest_answer answer = {.dest = below.dest, .token = below.token};
    if (!below.dest) {
        answer.verdict = VERDICT_NOT_FOUND;
        error_set(&answer.err, FAIL_CONFIG, "it is not there");
    }
    free(request);
    /* The answer is released before the route is known. */
    const struct destination *dest = below.dest;
    struct token *token = below.token;
    below.dest = NULL;
    below.token = NULL;
    handler.done(&answer, handler.arg);
    destination_unref(dest);
    token_unref(token);
}

static struct dest_request *find_below(struct dest_source *source, const struct dest_ref *ref,
                                       enum dest_purpose purpose, const struct dest_user *user,
                                       struct dest_handler handler)
{
    struct dest_request *request = calloc(1, sizeof(*request));
    assert_ptr_equal(source, &below.face);
    assert_string_equal(ref->name, "inbox");
    assert_null(user);
    below.asked++;
    below.purpose = purpose;
    request->handler = handler;
    task_init(&request->task);
    loop_soon(loop, &request->task, on_asked);
    return request;
}

static void refused_below(struct dest_source *source, const struct dest_ref *ref,
                          const struct dest_user *user, const struct token *token)
{
    assert_ptr_equal(source, &below.face);
    (void)ref;
    (void)user;
    below.refused = token;
}

static void cancel_below(struct dest_source *source, struct dest_request *request)
{
    assert_ptr_equal(source, &below.face);
    if (request) {
        below.cancelled++;
        task_cancel(&request->task);
        free(request);
    }
}

static void have(const char *proxy_type)
{
    struct destination_problem problem;
    char text[512];
    text_fmt(text, sizeof(text),
             "{\"Name\":\"inbox\",\"Type\":\"MAIL\",\"ProxyType\":\"%s\",\"Authentication\":"
             "\"BasicAuthentication\",\"mail.transport.protocol\":\"pop3\",\"mail.pop3.host\":"
             "\"mail.corp\",\"mail.user\":\"u\",\"mail.password\":\"p\"}",
             proxy_type);
    struct json *doc = json_parse(str_of(text), NULL);
    struct properties *props = properties_from_json(json_root(doc), NULL);
    destination_unref(below.dest);
    below.dest = destination_new(props, false, &problem);
    assert_non_null(below.dest);
    token_unref(below.token);
    below.token = token_new(str_of(MAIL_TOKEN), 0, NULL);
    properties_free(props);
    json_free(doc);
}

/* ---- the world ---- */

static int write_hosts(void **state)
{
    (void)state;
    int fd = mkstemp(hosts);
    dprintf(fd, "127.0.0.1 provider.auth.test one.auth.test two.auth.test\n");
    close(fd);
    return 0;
}

static int remove_hosts(void **state)
{
    (void)state;
    return unlink(hosts);
}

static int setup(void **state)
{
    (void)state;
    world_open(secrets, hosts);
    auth = (struct http_peer){.answer = auth_answer};
    world_add(&auth);
    status = 200;
    silent = false;
    given = 0;
    text_fmt(url, sizeof(url), "http://provider.auth.test:%d/oauth/token", auth.port);
    key = (struct service_key){.refs = 1000,
                               .client_id = "c",
                               .client_secret = {secret, strlen(secret)},
                               .token_url = url};
    settings = (struct connectivity_settings){
        .host = "proxy.test", .port = 20004, .timeout = SECONDS(1), .key = &key};
    connectivity = connectivity_new(loop, oauth);
    below.face =
        (struct dest_source){.find = find_below, .refused = refused_below, .cancel = cancel_below};
    below.asked = below.cancelled = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    connectivity_free(connectivity);
    destination_unref(below.dest);
    token_unref(below.token);
    below.dest = NULL;
    below.token = NULL;
    world_close();
    return 0;
}

/* ---- asking ---- */

struct asker {
    struct connectivity_wait *wait;
    struct dest_request *request;
    int answers;
    char host[64]; /* "": no route */
    uint16_t port;
    char token[64];
    struct token *kept;
    char mail_token[64];
    char dest[64]; /* the destination's host */
    enum verdict verdict;
    struct error err;
};

static void take_route(struct asker *a, const struct dest_route *route)
{
    text_fmt(a->host, sizeof(a->host), "%s", route->host);
    a->port = route->port;
    assert_int_equal(route->timeout, SECONDS(1));
    if (route->token) {
        text_fmt(a->token, sizeof(a->token), "%s", route->token->value.p);
        a->kept = token_ref(route->token);
    }
}

static void on_route(const struct dest_route *route, enum verdict verdict, const struct error *err,
                     void *arg)
{
    struct asker *a = arg;
    assert_true((route == NULL) == (err != NULL));
    a->wait = NULL;
    a->answers++;
    a->verdict = verdict;
    if (route) {
        take_route(a, route);
    } else {
        a->err = *err;
    }
}

static void ask(struct asker *a, const char *tenant)
{
    *a = (struct asker){0};
    a->wait = connectivity_get(connectivity, tenant, (struct connectivity_handler){on_route, a});
    assert_non_null(a->wait);
    assert_int_equal(a->answers, 0);
}

static void expect_way(const char *tenant, const char *token)
{
    struct asker a;
    ask(&a, tenant);
    await(&a.answers);
    if (!a.host[0]) {
        fail_msg("%s", a.err.text);
    }
    assert_string_equal(a.host, "proxy.test");
    assert_int_equal(a.port, 20004);
    assert_string_equal(a.token, token);
    assert_int_equal(a.verdict, VERDICT_OK);
    token_unref(a.kept);
}

static void expect_none(const char *tenant, enum verdict verdict, enum fail fail, const char *text)
{
    struct asker a;
    ask(&a, tenant);
    await(&a.answers);
    assert_string_equal(a.host, "");
    assert_int_equal(a.verdict, verdict);
    assert_int_equal(a.err.fail, fail);
    if (!strstr(a.err.text, text)) {
        fail_msg("%s", a.err.text);
    }
}

static const struct dest_ref inbox = {.name = "inbox"};

static void on_found(const struct dest_answer *answer, void *arg)
{
    struct asker *a = arg;
    a->request = NULL;
    a->answers++;
    a->verdict = answer->verdict;
    a->err = answer->err;
    if (answer->dest) {
        text_fmt(a->dest, sizeof(a->dest), "%s", answer->dest->host);
    }
    if (answer->token) {
        text_fmt(a->mail_token, sizeof(a->mail_token), "%s", answer->token->value.p);
    }
    if (answer->route) {
        take_route(a, answer->route);
    }
}

static void find_for(struct asker *a, struct dest_source *source, const struct dest_ref *ref,
                     enum dest_purpose purpose)
{
    *a = (struct asker){0};
    a->request = dest_find(source, ref, purpose, NULL, (struct dest_handler){on_found, a});
    assert_int_equal(a->answers, 0);
}

static void find_it(struct asker *a, struct dest_source *source, enum dest_purpose purpose)
{
    find_for(a, source, &inbox, purpose);
    await(&a->answers);
    token_unref(a->kept);
    a->kept = NULL;
}

/* ---- tests ---- */

static void not_configured(void **state)
{
    (void)state;
    enum verdict verdict;
    struct error err;
    assert_int_equal(connectivity_check(connectivity, &verdict, &err), ERR);
    assert_int_equal(verdict, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED);
    assert_int_equal(err.fail, FAIL_CONFIG);
    assert_non_null(strstr(err.text, "config.integration.connectivityProxy.serviceName"));
    expect_none(NULL, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, FAIL_CONFIG, "serviceName");

    const struct connectivity_settings mismatch = {.verdict = VERDICT_TENANT_MODE_MISMATCH,
                                                   .problem = "they differ"};
    connectivity_set(connectivity, &mismatch);
    expect_none(NULL, VERDICT_TENANT_MODE_MISMATCH, FAIL_CONFIG, "they differ");
    assert_int_equal(auth.requests, 0);
}

static void without_token(void **state)
{
    (void)state;
    settings.key = NULL;
    connectivity_set(connectivity, &settings);
    expect_way(NULL, "");
    expect_way("one", "");
    assert_int_equal(auth.requests, 0);
}

static void with_tokens(void **state)
{
    (void)state;
    connectivity_set(connectivity, &settings);
    expect_way(NULL, TOKEN "-provider-1");
    expect_way(NULL, TOKEN "-provider-1");
    expect_way("one", TOKEN "-one-2");
    expect_way("two", TOKEN "-two-3");
    expect_way("one", TOKEN "-one-2");
    expect_way(NULL, TOKEN "-provider-1");
    assert_int_equal(auth.requests, 3);
    expect_none("no.label", VERDICT_CONFIGURATION_FAILED, FAIL_CONFIG, "tenant \"no.label\"");
    assert_int_equal(auth.requests, 3);
}

/* Asks for a route of the tenant and reports how the proxy took its token. */
static bool try_way(const char *tenant, const struct error *err, bool renewable)
{
    struct asker a;
    ask(&a, tenant);
    await(&a.answers);
    assert_non_null(a.kept);
    bool again = connectivity_tried(connectivity, tenant, a.kept, err, renewable);
    token_unref(a.kept);
    return again;
}

#define PAUSED(s)                                                                                  \
    "the Connectivity Proxy proxy.test:20004 has refused the access token, and a new one (it is "  \
    "not asked again for " s " s)"

static const struct error refusal = {.fail = FAIL_TOKEN, .text = "authentication failure"};

static void refused_tokens(void **state)
{
    (void)state;
    connectivity_set(connectivity, &settings);
    expect_way("one", TOKEN "-one-1");
    assert_true(try_way(NULL, &refusal, true));
    expect_way("one", TOKEN "-one-1");
    expect_way(NULL, TOKEN "-provider-3");
    assert_false(try_way(NULL, NULL, true));
    expect_way(NULL, TOKEN "-provider-3");
    assert_int_equal(auth.requests, 3);
}

static void refused_again(void **state)
{
    (void)state;
    connectivity_set(connectivity, &settings);
    assert_true(try_way("one", &refusal, true));
    assert_false(try_way("one", &refusal, false));
    for (int i = 0; i < 5; i++) {
        expect_none("one", VERDICT_UNREADABLE, FAIL_TOKEN, PAUSED("5"));
        expect_way("two", TOKEN "-two-3");
        expect_way(NULL, TOKEN "-provider-4");
    }
    assert_int_equal(auth.requests, 4);

    /* After the pause one attempt tries the token again. */
    pass(SECONDS(5));
    assert_true(try_way("one", &refusal, true));
    assert_false(try_way("one", &refusal, false));
    expect_none("one", VERDICT_UNREADABLE, FAIL_TOKEN, PAUSED("10"));
    assert_int_equal(auth.requests, 5);
    pass(SECONDS(10));
    assert_false(try_way("one", NULL, true));
    expect_way("one", TOKEN "-one-5");

    /* Another proxy or another key ends the pause. */
    assert_true(try_way("one", &refusal, true));
    assert_false(try_way("one", &refusal, false));
    settings.timeout = SECONDS(2);
    connectivity_set(connectivity, &settings);
    settings.timeout = SECONDS(1);
    connectivity_set(connectivity, &settings);
    expect_way("one", TOKEN "-one-6");
}

static void no_token(void **state)
{
    (void)state;
    connectivity_set(connectivity, &settings);
    status = 401;
    expect_none(NULL, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, FAIL_AUTH,
                "no access token for the Connectivity Proxy: authorization server "
                "provider.auth.test refuses the client");
    status = 503;
    expect_none("one", VERDICT_UNREADABLE, FAIL_REMOTE, "no access token for the Connectivity");
}

/* The settings in force when the token arrives count. */
static void changed_meanwhile(void **state)
{
    (void)state;
    struct asker a;
    connectivity_set(connectivity, &settings);
    ask(&a, NULL);
    settings.port = 1;
    connectivity_set(connectivity, &settings);
    await(&a.answers);
    assert_int_equal(a.port, 1);
    token_unref(a.kept);

    ask(&a, NULL);
    const struct connectivity_settings gone = {.verdict = VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
                                               .problem = "it is gone"};
    connectivity_set(connectivity, &gone);
    await(&a.answers);
    assert_string_equal(a.host, "");
    assert_string_equal(a.err.text, "it is gone");
}

static void cancelled(void **state)
{
    (void)state;
    struct asker a, b;
    connectivity_cancel(NULL);
    ask(&a, NULL);
    connectivity_cancel(a.wait);
    connectivity_set(connectivity, &settings);
    silent = true;
    ask(&b, NULL);
    settle();
    connectivity_cancel(b.wait);
    pass(SECONDS(60));
    assert_int_equal(a.answers + b.answers, 0);
}

static void as_a_source(void **state)
{
    (void)state;
    struct asker a;
    struct dest_source *source = connectivity_source(connectivity, &below.face);

    /* The destination is absent or not on-premise, so the answer passes unchanged. */
    find_it(&a, source, DEST_TO_LOG_IN);
    assert_int_equal(a.verdict, VERDICT_NOT_FOUND);
    assert_string_equal(a.err.text, "it is not there");
    have("Internet");
    find_it(&a, source, DEST_TO_LOG_IN);
    assert_string_equal(a.dest, "mail.corp");
    assert_string_equal(a.host, "");
    assert_string_equal(a.mail_token, MAIL_TOKEN);
    assert_int_equal(below.purpose, DEST_TO_LOG_IN);

    /* An on-premise destination has no route. */
    have("OnPremise");
    find_it(&a, source, DEST_TO_CHECK);
    assert_string_equal(a.dest, "");
    assert_int_equal(a.verdict, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED);
    assert_int_equal(below.purpose, DEST_TO_CHECK);
    have("OnPremise");
    find_it(&a, source, DEST_TO_LOG_IN);
    assert_int_equal(a.verdict, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED);
    assert_int_equal(a.err.fail, FAIL_CONFIG);

    /* A check asks for no token. */
    connectivity_set(connectivity, &settings);
    have("OnPremise");
    find_it(&a, source, DEST_TO_CHECK);
    assert_string_equal(a.dest, "mail.corp");
    assert_string_equal(a.host, "");
    assert_int_equal(auth.requests, 0);

    have("OnPremise");
    find_it(&a, source, DEST_TO_LOG_IN);
    assert_string_equal(a.dest, "mail.corp");
    assert_string_equal(a.mail_token, MAIL_TOKEN);
    assert_string_equal(a.host, "proxy.test");
    assert_string_equal(a.token, TOKEN "-provider-1");

    status = 401;
    have("OnPremise");
    const struct dest_ref of_one = {.name = "inbox", .tenant = "one"};
    find_for(&a, source, &of_one, DEST_TO_LOG_IN);
    await(&a.answers);
    assert_string_equal(a.dest, "");
    assert_int_equal(a.err.fail, FAIL_AUTH);
    assert_string_equal(asked, "one");
}

static void refused_through_the_source(void **state)
{
    (void)state;
    struct asker a;
    struct dest_source *source = connectivity_source(connectivity, &below.face);
    connectivity_set(connectivity, &settings);
    have("OnPremise");
    find_for(&a, source, &inbox, DEST_TO_LOG_IN);
    await(&a.answers);
    dest_refused(source, &inbox, NULL, a.kept);
    assert_ptr_equal(below.refused, a.kept);
    assert_true(dest_tried(source, &inbox, a.kept, &refusal, true));
    token_unref(a.kept);
    have("OnPremise");
    find_it(&a, source, DEST_TO_LOG_IN);
    assert_string_equal(a.token, TOKEN "-provider-2");
    assert_false(dest_tried(&below.face, &inbox, NULL, &refusal, true));
}

static void cancelled_through_the_source(void **state)
{
    (void)state;
    struct asker a;
    struct dest_source *source = connectivity_source(connectivity, &below.face);
    connectivity_set(connectivity, &settings);
    dest_cancel(source, NULL);
    have("OnPremise");
    find_for(&a, source, &inbox, DEST_TO_LOG_IN);
    dest_cancel(source, a.request);
    assert_int_equal(below.cancelled, 1);
    settle();

    /* While the source waits for the route, it keeps the answer of the inner source. */
    silent = true;
    find_for(&a, source, &inbox, DEST_TO_LOG_IN);
    settle();
    assert_null(below.dest);
    dest_cancel(source, a.request);
    settle();
    assert_int_equal(below.cancelled, 1);
    assert_int_equal(a.answers, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(not_configured),
        TEST(without_token),
        TEST(with_tokens),
        TEST(refused_tokens),
        TEST(refused_again),
        TEST(no_token),
        TEST(changed_meanwhile),
        TEST(cancelled),
        TEST(as_a_source),
        TEST(refused_through_the_source),
        TEST(cancelled_through_the_source),
    };
    return cmocka_run_group_tests(tests, write_hosts, remove_hosts);
}
