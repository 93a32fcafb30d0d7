/* Tests which Connectivity Proxy the controller finds, and how it uses the proxy's ConfigMaps and
 * credentials and the configuration. */
#include "tests/unit/world/controller.h"

#define PROXY(more)                                                                                \
    "'config':{'integration':{'connectivityProxy':{'serviceName':'cp.onprem'" more "}}}"
#define CREDENTIALS                                                                                \
    "'serviceCredentials':{'secretName':'key','secretKey':'','secretNamespace':'vault'}"
#define SHARED(more)                                                                               \
    "'config':{'tenantMode':'shared','integration':{'connectivityProxy':{'serviceName':"           \
    "'cp.onprem'" more "}}}"
#define OBJECT "transparent-proxy"

static void put_map(const char *namespace, const char *mode, const char *authorization)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "{'data':{'connectivity-proxy-config.yml':'tenantMode: %s\\nservers:\\n  proxy:\\n"
             "    socks5:\\n      enableProxyAuthorization: %s\\n      port: 30004\\n'}}",
             mode, authorization);
    fake_put("ConfigMap", namespace, "connectivity-proxy", text);
}

static void put_info(const char *port)
{
    char text[256];
    text_fmt(text, sizeof(text),
             "{'data':{'onpremise_proxy_host':'connectivity-proxy.kyma-system.svc.cluster.local',"
             "'onpremise_socks5_proxy_port':'%s'}}",
             port);
    fake_put("ConfigMap", "kyma-system", "connectivity-proxy-info", text);
}

static void put_key(const char *client)
{
    char text[256];
    text_fmt(text, sizeof(text),
             "{'stringData':{'clientid':'%s','clientsecret':'hush','token_service_url':"
             "'http://127.0.0.1:1'}}",
             client);
    fake_put("Secret", "vault", "key", text);
}

static void start(void)
{
    start_controller();
    pass(SECONDS(1));
}

/* ---- the resulting route ---- */

struct answer {
    int came;
    char words[FAIL_TEXT_MAX + 128];
};

static void on_route(const struct dest_route *route, enum verdict verdict, const struct error *err,
                     void *arg)
{
    struct answer *a = arg;
    a->came++;
    if (route) {
        assert_null(route->token);
        text_fmt(a->words, sizeof(a->words), "%s:%u", route->host, route->port);
    } else if (strstr(err->text, "no access token") == err->text) {
        /* The test has no authorization server. */
        text_fmt(a->words, sizeof(a->words), "wants a token");
    } else {
        text_fmt(a->words, sizeof(a->words), "%s: %s", verdict_reason(verdict, false), err->text);
    }
}

static bool answer_came(void *arg)
{
    return ((struct answer *)arg)->came > 0;
}

static void expect_way(const char *words)
{
    struct answer a = {.came = 0};
    pass(SECONDS(1));
    connectivity_get(replica->connectivity, NULL, (struct connectivity_handler){on_route, &a});
    turn_until(world.loop, answer_came, &a);
    turn_quietly(world.loop);
    assert_string_equal(a.words, words);
}

static void expect_no_way(enum verdict expected, const char *part)
{
    enum verdict verdict;
    struct error err;
    pass(SECONDS(1));
    assert_int_equal(connectivity_check(replica->connectivity, &verdict, &err), ERR);
    if (verdict != expected || !strstr(err.text, part)) {
        fail_msg("%d: %s", (int)verdict, err.text);
    }
}

/* Checks that the condition contains this text. NULL: the condition is absent. */
static void expect_said(const char *part)
{
    const char *conditions = text_at("TransparentProxy", HOME, OBJECT, "status.conditions");
    const char *ours = strstr(conditions, "ConnectivityProxyUsable");
    assert_true((ours != NULL) == (part != NULL));
    assert_true(!part || strstr(conditions, part));
}

#define TRUSTED "cp.onprem.svc.cluster.local:30004"

/* ---- tests ---- */

static void no_proxy(void **state)
{
    (void)state;
    start();
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
                  "config.integration.connectivityProxy.serviceName");
    expect_said(NULL);
}

static void proxy_without_tokens(void **state)
{
    (void)state;
    put_map("onprem", "dedicated", "false");
    configure(PROXY(""));
    start();
    expect_way(TRUSTED);
    expect_said(NULL);

    /* The port in the configuration takes precedence. */
    configure(PROXY(",'tcpPort':20005"));
    expect_way("cp.onprem.svc.cluster.local:20005");
    configure("'config':{'integration':{'connectivityProxy':{'serviceName':'cp'}}}");
    put_map(HOME, "dedicated", "false");
    expect_way("cp." HOME ".svc.cluster.local:30004");
}

static void authorization(void **state)
{
    (void)state;
    put_map("onprem", "dedicated", "false");
    configure(PROXY(""));
    put_cr("apps", "inbox", "inbox", "");
    start();
    expect_way(TRUSTED);
    unsigned finds = world.finds;

    /* A mode that is switched on while we run takes effect at once, and CRs are read again. */
    put_map("onprem", "dedicated", "true");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
                  "the Connectivity Proxy wants access tokens: set "
                  "config.integration.connectivityProxy.serviceCredentials");
    expect_said("serviceCredentials");
    assert_int_equal(world.finds, finds + 1);

    configure(PROXY("," CREDENTIALS));
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "\"key\"");
    put_key("a");
    expect_way("wants a token");
    expect_said(NULL);

    /* Configured credentials are always used. */
    put_map("onprem", "dedicated", "false");
    expect_way("wants a token");
    fake_drop("Secret", "vault", "key");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "\"key\"");
    configure(PROXY(""));
    expect_way(TRUSTED);
}

static void nothing_changes(void **state)
{
    (void)state;
    put_map("onprem", "dedicated", "false");
    put_key("a");
    configure(PROXY("," CREDENTIALS));
    put_cr("apps", "inbox", "inbox", "");
    start();
    unsigned finds = world.finds;
    put_map("onprem", "dedicated", "false");
    fake_relist("ConfigMap");
    fake_relist("Secret");
    pass(SECONDS(5));
    assert_int_equal(world.finds, finds);
    put_key("b");
    pass(SECONDS(5));
    assert_int_equal(world.finds, finds + 1);
}

static void tenant_modes(void **state)
{
    (void)state;
    put_map("onprem", "shared", "false");
    configure(PROXY(""));
    start();
    expect_no_way(VERDICT_TENANT_MODE_MISMATCH,
                  "tenantMode of the Connectivity Proxy is shared, and config.tenantMode of the "
                  "TransparentProxy object is dedicated");
    expect_said("tenantMode");
    put_key("a");
    configure(SHARED("," CREDENTIALS));
    expect_way("wants a token");
    put_map("onprem", "dedicated", "true");
    expect_no_way(VERDICT_TENANT_MODE_MISMATCH, "Connectivity Proxy is dedicated");
}

static void unusable_config_maps(void **state)
{
    (void)state;
    configure(PROXY(""));
    start();
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
                  "ConfigMap with name \"connectivity-proxy\" not found in namespace: \"onprem\".");
    fake_put("ConfigMap", "onprem", "connectivity-proxy",
             "{'data':{'connectivity-proxy-config.yml':'tenantMode: [shared]'}}");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
                  "ConfigMap \"connectivity-proxy\" in namespace \"onprem\": "
                  "connectivity-proxy-config.yml: line 1: tenantMode has a form that");
    fake_set_presence("ConfigMap", CLUSTER_FORBIDDEN);
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "may not be read: a Role");
    expect_said("may not be read");
    fake_set_presence("ConfigMap", CLUSTER_PRESENT);

    /* If the ConfigMap becomes invalid, the last good one stays in force and the status says so. */
    put_map("onprem", "dedicated", "false");
    expect_way(TRUSTED);
    expect_said(NULL);
    fake_put("ConfigMap", "onprem", "connectivity-proxy",
             "{'data':{'connectivity-proxy-config.yml':'x'}}");
    expect_way(TRUSTED);
    expect_said("neither");
    fake_drop("ConfigMap", "onprem", "connectivity-proxy");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "not found");

    /* With credentials the proxy can be used without its ConfigMap. */
    put_key("a");
    configure(PROXY("," CREDENTIALS));
    expect_way("wants a token");
}

static void kyma(void **state)
{
    (void)state;
    start();
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "serviceName");
    put_info("20004");
    expect_way("connectivity-proxy.kyma-system.svc.cluster.local:20004");
    put_map("kyma-system", "dedicated", "true");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "wants access tokens");
    put_map("kyma-system", "dedicated", "false");
    expect_way("connectivity-proxy.kyma-system.svc.cluster.local:30004");

    /* The configured proxy takes precedence over Kyma's. */
    put_map("onprem", "dedicated", "false");
    configure(PROXY(""));
    expect_way(TRUSTED);
    configure("");
    expect_way("connectivity-proxy.kyma-system.svc.cluster.local:30004");
    put_info("nonsense");
    expect_way("connectivity-proxy.kyma-system.svc.cluster.local:30004");
    fake_drop("ConfigMap", "kyma-system", "connectivity-proxy-info");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "serviceName");
    put_info("nonsense");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "it must be a port");
}

static void local_mode(void **state)
{
    (void)state;
    start_world(false);
    put_namespace(HOME);
    configure("'config':{'integration':{'connectivityProxy':{'serviceName':'localhost'}}}");
    start();
    expect_way("localhost:20004");
    put_key("a");
    configure(
        "'config':{'integration':{'connectivityProxy':{'serviceName':'proxy.home'," CREDENTIALS
        "}}}");
    expect_way("wants a token");
    configure("'config':{'integration':{'connectivityProxy':{'serviceName':'proxy.home'}}}");
    expect_way("proxy.home:20004");
    configure("");
    expect_no_way(VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "serviceName");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(no_proxy),      TEST(proxy_without_tokens),
        TEST(authorization), TEST(nothing_changes),
        TEST(tenant_modes),  TEST(unusable_config_maps),
        TEST(kyma),          cmocka_unit_test_teardown(local_mode, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
