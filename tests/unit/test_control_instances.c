/* Tests instances whose certificate has its private key in another Secret, discovered instances,
 * and additional trusted certificates. */
#include "lib/tls.h"
#include "tests/unit/world/configuration.h"
#include "tests/unit/world/tls_peer.h"

#define X509                                                                                       \
    "'config':{'integration':{'destinationService':{'defaultInstanceName':'one','instances':["     \
    "{'name':'one','serviceCredentials':{'secretName':'key','secretNamespace':'vault',"            \
    "'privateKey':{'secretName':'private','secretNamespace':'vault',"                              \
    "'secretInternalKey':'pem'}}}]}}}"
#define CAS(secret) "'additionalCAs':{'secretName':'" secret "','secretKey':'pem'}"

static int start_peer(void **state)
{
    (void)state;
    return tls_peer_start() == ERR ? -1 : 0;
}

static int stop_peer(void **state)
{
    (void)state;
    return tls_peer_stop();
}

/* Returns a PEM file as a JSON string without quotes; valid until the next call but one. */
static const char *pem_of(const char *file)
{
    enum { ROOM = 16384 };
    static char texts[2][ROOM];
    static int turn;
    char path[64], *text = texts[turn++ % 2];
    tls_peer_path(path, sizeof(path), file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = 0;
    for (int c = fgetc(f); c != EOF; c = fgetc(f)) {
        assert_true(n < ROOM - 3);
        if (c == '\n') {
            text[n++] = '\\';
        }
        text[n++] = (char)(c == '\n' ? 'n' : c);
    }
    text[n] = '\0';
    fclose(f);
    return text;
}

/* key NULL: the private key is in the other Secret. */
static void put_certificate(const char *certificate, const char *key)
{
    static char text[40000];
    text_fmt(text, sizeof(text),
             "{'stringData':{'clientid':'client','certificate':'%s','key':'%s',"
             "'certurl':'http://127.0.0.1:1','uri':'http://127.0.0.1:1'}}",
             pem_of(certificate), key ? pem_of(key) : "");
    fake_put("Secret", "vault", "key", text);
}

static void put_pem(const char *namespace, const char *secret, const char *file)
{
    static char text[20000];
    text_fmt(text, sizeof(text), "{'stringData':{'pem':'%s'}}", pem_of(file));
    fake_put("Secret", namespace, secret, text);
}

static void expect_key(bool there)
{
    pass(SECONDS(1));
    assert_int_equal(has_key("one"), there);
}

/* ---- certificates ---- */

static void test_private_key_apart(void **state)
{
    (void)state;
    configure(X509);
    put_certificate("ecclient.crt", NULL);
    start();
    expect_key(false);
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Secret with name \"private\" not found in namespace: \"vault\".");
    put_pem("vault", "private", "ecclient.key");
    expect_key(true);
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
    fake_drop("Secret", "vault", "private");
    expect_key(false);
    put_certificate("ecclient.crt", "ecclient.key"); /* with its own private key */
    expect_key(true);
    fake_drop("Secret", "vault", "key");
    expect_key(false);
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Secret with name \"key\" not found in namespace: \"vault\".");
}

/* The certificate and the private key change in either order; the instance always has a key. */
static void test_rotation(void **state)
{
    (void)state;
    configure(X509);
    put_certificate("ecclient.crt", NULL);
    put_pem("vault", "private", "ecclient.key");
    start();
    expect_key(true);
    put_certificate("rsaclient.crt", NULL);
    expect_key(true);
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Secret \"private\" in namespace \"vault\": the private key does not belong");
    put_pem("vault", "private", "rsaclient.key");
    expect_key(true);
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
    put_pem("vault", "private", "ecclient.key");
    expect_key(true);
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable", "belong");
    put_certificate("ecclient.crt", NULL);
    expect_key(true);
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
}

static void test_useless_private_keys(void **state)
{
    (void)state;
    static const struct {
        const char *file, *says;
    } rows[] = {
        {"ecclient.crt", "Secret \"private\" in namespace \"vault\": the entry \"pem\" is not PEM"},
        {"ecclient.locked", "the entry \"pem\" is encrypted"},
        {"rsaclient.key", "the private key does not belong to the client certificate"},
    };
    configure(X509);
    put_certificate("ecclient.crt", NULL);
    start();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put_pem("vault", "private", rows[i].file);
        expect_key(false);
        expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                    rows[i].says);
    }
    fake_set_presence("Secret", CLUSTER_FORBIDDEN);
    expect_key(false);
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "may not be read: a Role in that namespace has to grant get, list and watch");
    fake_set_presence("Secret", CLUSTER_PRESENT);
    put_pem("vault", "private", "ecclient.key");
    expect_key(true);
}

/* ---- discovery ---- */

static void put_instance(const char *name, const char *offering)
{
    char text[256];
    text_fmt(text, sizeof(text), "{'spec':{'serviceOfferingName':'%s'}}", offering);
    fake_put("ServiceInstance", HOME, name, text);
}

/* `more`: other members of the spec, beginning with a comma. */
static void put_binding(const char *name, const char *instance, const char *more)
{
    char text[512];
    text_fmt(text, sizeof(text), "{'spec':{'serviceInstanceName':'%s'%s}}", instance, more);
    fake_put("ServiceBinding", HOME, name, text);
}

static void put_home_key(const char *secret, const char *patch)
{
    char text[1024];
    text_fmt(text, sizeof(text), "{'stringData':{%s}}", patch);
    fake_put("Secret", HOME, secret, text);
}

#define FIELDS                                                                                     \
    "'clientid':'c','clientsecret':'hush','url':'http://127.0.0.1:1','uri':'http://127.0.0.1:1'"
#define WHOLE                                                                                      \
    "'all':'{\\u0022clientid\\u0022:\\u0022c\\u0022,\\u0022clientsecret\\u0022:"                   \
    "\\u0022hush\\u0022,"                                                                          \
    "\\u0022url\\u0022:\\u0022http://127.0.0.1:1\\u0022,"                                          \
    "\\u0022uri\\u0022:\\u0022http://127.0.0.1:1\\u0022}'"

/* Each form of binding that SAP's operator creates is found. */
static void test_discovery(void **state)
{
    (void)state;
    put_instance("plain", "destination");
    put_instance("named", "destination");
    put_instance("keyed", "destination");
    put_instance("rooted", "destination");
    put_instance("unbound", "destination");
    put_instance("other", "xsuaa");
    put_binding("plain", "plain", "");
    put_binding("named-b", "named", ",'secretName':'elsewhere','serviceInstanceNamespace':''");
    put_binding("keyed-b", "keyed", ",'secretKey':'all'");
    put_binding("rooted-b", "rooted", ",'secretRootKey':'all','secretName':'UP/..'");
    put_binding("other-b", "other", "");
    put_binding("unbound-b", "unbound", ",'serviceInstanceNamespace':'apps'");
    put_home_key("plain", FIELDS);
    put_home_key("elsewhere", FIELDS);
    put_home_key("keyed-b", WHOLE);
    put_home_key("rooted-b", WHOLE);
    put_home_key("other-b", FIELDS);
    put_home_key("unbound-b", FIELDS);
    start();
    assert_true(has_key("plain") && has_key("named") && has_key("keyed") && has_key("rooted"));
    assert_false(has_key("other") || has_key("unbound"));
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
}

/* Instances are created, changed and deleted while the controller runs. */
static void test_discovered_later(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start();
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "or create and bind an instance in the " HOME " namespace using the SAP BTP "
                "Service Operator.");
    assert_string_equal(world.asked, "");
    put_instance("sap-transp-proxy-default", "destination");
    pass(SECONDS(1));
    assert_false(has_key("sap-transp-proxy-default"));
    put_home_key("b", FIELDS);
    put_binding("b", "sap-transp-proxy-default", "");
    pass(SECONDS(1));
    assert_true(has_key("sap-transp-proxy-default"));
    assert_string_equal(world.asked, "sap-transp-proxy-default");
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");

    /* the first binding by name counts; the one that remains after a rotation sorts behind it */
    put_binding("b-0815", "sap-transp-proxy-default", ",'secretName':'nowhere'");
    pass(SECONDS(1));
    assert_true(has_key("sap-transp-proxy-default"));
    put_binding("a", "sap-transp-proxy-default", ",'secretName':'nowhere'");
    pass(SECONDS(1));
    assert_false(has_key("sap-transp-proxy-default"));
    fake_drop("ServiceBinding", HOME, "a");
    pass(SECONDS(1));
    assert_true(has_key("sap-transp-proxy-default"));
    fake_drop("ServiceInstance", HOME, "sap-transp-proxy-default");
    pass(SECONDS(1));
    assert_false(has_key("sap-transp-proxy-default"));
    assert_string_equal(world.asked, "");
}

/* A configured instance takes precedence over a discovered one. A default instance that is neither
 * configured nor discovered is reported. */
static void test_configured_wins(void **state)
{
    (void)state;
    put_instance("one", "destination");
    put_binding("b", "one", "");
    put_key("first", "client");
    configure(SERVICE(INSTANCE("one", "first")));
    start();
    expect_key(true);
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    configure(SERVICE(""));
    expect_key(false); /* b has no Secret */
    expect_said(OBJECT, "Warning", "Configured", "True ConfigurationApplied", "");
    fake_drop("ServiceBinding", HOME, "b");
    pass(SECONDS(1));
    expect_said(
        OBJECT, "Warning", "Configured", "False InvalidConfiguration",
        "spec.config.integration.destinationService.defaultInstanceName is \"one\"; it must "
        "be the name of one of the instances.");
}

/* Without SAP's operator there is nothing to find and nothing to wait for. */
static void test_no_operator(void **state)
{
    (void)state;
    const char *why;
    fake_set_presence("ServiceInstance", CLUSTER_UNKNOWN);
    fake_set_presence("ServiceBinding", CLUSTER_FORBIDDEN);
    put_key("first", "client");
    configure(SERVICE(INSTANCE("one", "first")));
    start();
    assert_true(controller_ready(replica->controller, &why));
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
    fake_set_presence("ServiceInstance", CLUSTER_PRESENT);
    fake_set_presence("ServiceBinding", CLUSTER_PRESENT);
    put_instance("two", "destination");
    put_binding("b", "two", "");
    put_home_key("b", FIELDS);
    pass(SECONDS(1));
    assert_true(has_key("two"));
}

/* Starts with a mailbox whose destination is in a discovered instance. */
static void serve_discovered(void)
{
    put_instance("found", "destination");
    put_binding("found", "found", "");
    put_home_key("found", FIELDS);
    put_cr("apps", "inbox", "inbox", ",'destinationServiceInstanceName':'found'");
    start();
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
}

/* Starts with late lists: the first answers of an API server, such as 404, are not trusted. */
static void start_without_lists(void)
{
    stop_controller();
    fake_kind("ServiceInstance")->mute = true;
    refuse("inbox", VERDICT_INSTANCE_NOT_CONFIGURED);
    start();
    pass_slowly(SECONDS(6), SECONDS(1));
}

static void test_discovery_comes_late(void **state)
{
    (void)state;
    const char *why;
    char version[32], said[32];
    serve_discovered();
    text_fmt(version, sizeof(version), "%s",
             text_at("Destination", "apps", "inbox", "metadata.resourceVersion"));
    text_fmt(said, sizeof(said), "%s",
             text_at("TransparentProxy", HOME, OBJECT, "metadata.resourceVersion"));
    start_without_lists();
    put_cr("apps", "second", "second", "");
    serve("second");
    pass(SECONDS(1));
    expect_reason("apps", "second", "ConfigurationSuccessful"); /* its instance is another one */
    assert_int_equal(count_listeners(), 2);
    assert_false(controller_ready(replica->controller, &why));
    serve("inbox");
    fake_kind("ServiceInstance")->mute = false;
    pass(SECONDS(1));
    assert_true(controller_ready(replica->controller, &why));
    assert_string_equal(text_at("Destination", "apps", "inbox", "metadata.resourceVersion"),
                        version);
    assert_string_equal(text_at("TransparentProxy", HOME, OBJECT, "metadata.resourceVersion"),
                        said);
}

/* The kind does not exist at all. */
static void test_discovery_finds_nothing(void **state)
{
    (void)state;
    const char *why;
    serve_discovered();
    start_without_lists();
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    fake_set_presence("ServiceInstance", CLUSTER_UNKNOWN);
    fake_kind("ServiceInstance")->mute = false;
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationError-DestinationServiceInstance-NotConfigured");
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable", "");
    assert_true(controller_ready(replica->controller, &why));
    assert_true(exists("Service", HOME, "inbox"));
}

/* ---- additionalCAs ---- */

static void test_additional_cas(void **state)
{
    (void)state;
    put_key("first", "client");
    configure(SERVICE(INSTANCE("one", "first")) "," CAS("cas"));
    put_cr("apps", "inbox", "inbox", "");
    start();
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Secret with name \"cas\" not found in namespace: \"" HOME "\".");
    static const struct {
        const char *file, *says; /* NULL: no complaint */
        bool trusted;
    } rows[] = {
        {"ca.crt", NULL, true},
        {"ecclient.key", "the entry \"pem\": no usable CA certificate (PEM) in it", false},
        {"self.crt", NULL, true},
        {"strange.pem",
         "Secret \"cas\" in namespace \"" HOME "\": the entry \"pem\": certificate 2 (Strange CA) "
         "cannot be used: it has the critical extension 1.2.3.4, which is not supported; the "
         "others "
         "are trusted",
         true},
        {"other.crt", NULL, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned finds = world.finds;
        put_pem(HOME, "cas", rows[i].file);
        pass(SECONDS(1));
        expect_said(OBJECT, rows[i].says ? "Warning" : "Ready", "CredentialsAvailable",
                    rows[i].says ? "False SecretNotUsable" : "True SecretsRead",
                    rows[i].says ? rows[i].says : "");
        /* only changed certificates cause destinations to be read again */
        assert_int_equal(world.finds > finds, rows[i].trusted);
    }
    fake_put("Secret", HOME, "cas", "{'stringData':{'pem':null}}");
    pass(SECONDS(1));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Secret \"cas\" in namespace \"" HOME "\": the entry \"pem\" is missing");
    configure(SERVICE(INSTANCE("one", "first")));
    pass(SECONDS(1));
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_private_key_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotation, setup, teardown),
        cmocka_unit_test_setup_teardown(test_useless_private_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_discovery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_discovered_later, setup, teardown),
        cmocka_unit_test_setup_teardown(test_configured_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_operator, setup, teardown),
        cmocka_unit_test_setup_teardown(test_discovery_comes_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_discovery_finds_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_additional_cas, setup, teardown),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
