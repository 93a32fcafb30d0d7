/* Tests configuration/connectivity_config: the ConfigMaps of the Connectivity Proxy. */
#include "configuration/connectivity_config.h"

#include "lib/mem.h"
#include "tests/unit/check.h"

#define SOCKS5 "servers:\n  proxy:\n    socks5:\n      enableProxyAuthorization: true\n"
#define WHOLE "tenantMode: dedicated\n" SOCKS5

static struct connectivity_config config;
static struct error err;

static void read_it(const char *yaml)
{
    if (connectivity_config_read(str_of(yaml), &config, &err) != OK) {
        fail_msg("%s", err.text);
    }
}

static void expect_error(const char *yaml, const char *text)
{
    assert_int_equal(connectivity_config_read(str_of(yaml), &config, &err), ERR);
    assert_int_equal(err.fail, FAIL_CONFIG);
    assert_string_equal(err.text, text);
}

static void as_helm_writes_it(void **state)
{
    (void)state;
    read_it("highAvailabilityMode: \"off\"\n"
            "integration:\n"
            "  auditlog:\n"
            "    mode: console\n"
            "servers:\n"
            "  businessDataTunnel:\n"
            "    externalPort: 443\n"
            "  proxy:\n"
            "    http:\n"
            "      enableProxyAuthorization: false\n"
            "      port: 20003\n"
            "    socks5:\n"
            "      enableProxyAuthorization: true\n"
            "      enabled: true\n"
            "      port: 30004\n"
            "subaccountId: x\n"
            "tenantMode: shared\n");
    assert_true(config.shared);
    assert_true(config.authorization);
    assert_int_equal(config.port, 30004);
}

static void as_the_operator_writes_it(void **state)
{
    (void)state;
    read_it("---\r\n"
            "tenantMode: \"dedicated\"\r\n"
            "multiRegionMode:\r\n"
            "  configMapName: null\r\n"
            "servers:\r\n"
            "  proxy:\r\n"
            "    authorization: null\r\n"
            "    socks5:\r\n"
            "      allowRemoteConnections: null\r\n"
            "      enableProxyAuthorization: false\r\n"
            "      port: 20004");
    assert_false(config.shared);
    assert_false(config.authorization);
    assert_int_equal(config.port, 20004);
}

static void values(void **state)
{
    (void)state;
    static const char *const dedicated[] = {
        "tenantMode: dedicated\n",     "tenantMode:   Dedicated   \n",
        "tenantMode: dedicated # yes", "'tenantMode': 'dedicated' # yes\n",
        "\"tenantMode\": dedicated\n", "tenantMode : dedicated\n",
        "tenantMode:\tdedicated\n",
    };
    char yaml[256];
    for (size_t i = 0; i < ARRAY_LEN(dedicated); i++) {
        text_fmt(yaml, sizeof(yaml), SOCKS5 "%s", dedicated[i]);
        read_it(yaml);
        assert_false(config.shared);
        assert_int_equal(config.port, 0);
    }
    static const char *const no_ports[] = {"", "null", "~", "''", "# none"};
    for (size_t i = 0; i < ARRAY_LEN(no_ports); i++) {
        text_fmt(yaml, sizeof(yaml), WHOLE "      port: %s\n", no_ports[i]);
        read_it(yaml);
        assert_int_equal(config.port, 0);
    }
    read_it(WHOLE "      port: '1'\n");
    assert_int_equal(config.port, 1);
}

/* The keys that we do not read may have any form. */
static void other_keys_are_ignored(void **state)
{
    (void)state;
    read_it("# a comment\n"
            "\n"
            "a: |\n"
            "  tenantMode: shared\n"
            "    neither a key\n"
            "\n"
            "  nor a comment\n"
            "b: >-\n"
            "   text\n"
            "c: a text that\n"
            "  goes on\n"
            "d: {tenantMode: shared}\n"
            "e:\n"
            "- tenantMode: shared\n"
            "  more: x\n"
            "-\n"
            "  - text\n"
            "    and more\n"
            "f: &anchor *alias\n"
            "http://x: y: z\n"
            "g: \"\\\"\"\n"
            "other:\n"
            "  tenantMode: shared\n"
            "  servers:\n"
            "    proxy: {}\n" WHOLE "...\n"
            "tenantMode: shared\n"
            "nonsense\n");
    assert_false(config.shared);
    assert_true(config.authorization);
}

static void not_understood(void **state)
{
    (void)state;
    expect_error("", "it does not set tenantMode");
    expect_error("tenantMode: shared\n",
                 "it does not set servers.proxy.socks5.enableProxyAuthorization");
    expect_error(SOCKS5 "tenantMode: null\n", "it does not set tenantMode");
    expect_error(SOCKS5 "tenantMode: both\n",
                 "tenantMode is \"both\"; it must be dedicated or shared");
    expect_error("tenantMode: shared\n"
                 "servers:\n proxy:\n  socks5:\n   enableProxyAuthorization: yes\n",
                 "servers.proxy.socks5.enableProxyAuthorization is \"yes\"; it must be true or "
                 "false");
    expect_error(WHOLE "      port: 65536\n",
                 "servers.proxy.socks5.port is \"65536\"; it must be a port");
    expect_error(WHOLE "      port: 0\n", "servers.proxy.socks5.port is \"0\"; it must be a port");

    expect_error("servers: {proxy: {}}\n",
                 "line 1: servers has a form that is not supported; write a plain value "
                 "in block style");
    expect_error("servers:\n  proxy: *other\n",
                 "line 2: servers.proxy has a form that is not supported; write a plain "
                 "value in block style");
    expect_error("tenantMode: shared\n  more\n", "line 2: tenantMode extends over several lines");
    expect_error("tenantMode: 'a' b\n", "line 1: tenantMode has text after its closing quote");
    expect_error("tenantMode: \"a\\n\"\n",
                 "line 1: a quoted text does not end, or contains quotes or \\");
    expect_error("tenantMode: 'a\n",
                 "line 1: a quoted text does not end, or contains quotes or \\");
    expect_error("tenantMode: 'it''s'\n",
                 "line 1: a quoted text does not end, or contains quotes or \\");
    expect_error("x: y\n\tz: a\n", "line 2: it begins with a tab, which YAML forbids");
    expect_error("x: y\nnonsense\n", "line 2: it is neither \"key: value\" nor a comment");
    expect_error("'x'y: z\n", "line 1: it is neither \"key: value\" nor a comment");
    expect_error("{}\n", "line 1: it is neither \"key: value\" nor a comment");
    expect_error(WHOLE "tenantMode: dedicated\n", "line 6: tenantMode is set twice");
    expect_error(WHOLE "---\ntenantMode: shared\n", "line 6: a second document begins");
    expect_error("tenantMode: "
                 "0123456789012345678901234567890123456789012345678901234567890123\n",
                 "line 1: tenantMode has more than 63 octets");
}

static void deep(void **state)
{
    (void)state;
    char yaml[4096];
    size_t n = 0;
    for (int i = 0; i < 17; i++) {
        n += text_fmt(yaml + n, sizeof(yaml) - n, "%*sk:\n", i, "");
    }
    expect_error(yaml, "line 17: keys are nested more than 16 deep");
}

/* ---- ConfigMaps ---- */

static struct json *map_of(const char *data)
{
    static char text[1024]; /* static because the document refers to it */
    text_fmt(text, sizeof(text), "{\"metadata\":{\"name\":\"x\"},\"data\":%s}", data);
    struct json *doc = json_parse(str_of(text), NULL);
    assert_non_null(doc);
    return doc;
}

static void config_maps(void **state)
{
    (void)state;
    static const struct {
        const char *data, *problem;
    } table[] = {
        {"{\"connectivity-proxy-config.yml\":\"tenantMode: shared\\nservers:\\n proxy:\\n  "
         "socks5:\\n   enableProxyAuthorization: true\\n\"}",
         NULL},
        {"{}", "it has no entry connectivity-proxy-config.yml"},
        {"null", "it has no entry connectivity-proxy-config.yml"},
        {"{\"connectivity-proxy-config.yml\":\"x\"}",
         "connectivity-proxy-config.yml: line 1: it is neither \"key: value\" nor a comment"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct json *map = map_of(table[i].data);
        int rc = connectivity_config_of_map(json_root(map), &config, &err);
        assert_int_equal(rc, table[i].problem ? ERR : OK);
        if (table[i].problem) {
            assert_string_equal(err.text, table[i].problem);
        }
        json_free(map);
    }
}

static void addresses(void **state)
{
    (void)state;
#define HOST "\"onpremise_proxy_host\":\"connectivity-proxy.kyma-system.svc.cluster.local\""
    static const struct {
        const char *data, *problem;
    } table[] = {
        {"{" HOST ",\"onpremise_socks5_proxy_port\":\"20004\"}", NULL},
        {"{" HOST "}", "it has no entry onpremise_socks5_proxy_port"},
        {"{\"onpremise_socks5_proxy_port\":\"20004\"}", "it has no entry onpremise_proxy_host"},
        {"{" HOST ",\"onpremise_socks5_proxy_port\":\"none\"}",
         "onpremise_socks5_proxy_port is \"none\"; it must be a port"},
        {"{\"onpremise_proxy_host\":\"\",\"onpremise_socks5_proxy_port\":\"1\"}",
         "onpremise_proxy_host is not a host name"},
        {"{\"onpremise_proxy_host\":\"a\\u0000b\",\"onpremise_socks5_proxy_port\":\"1\"}",
         "onpremise_proxy_host is not a host name"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct connectivity_address address;
        struct json *map = map_of(table[i].data);
        int rc = connectivity_address_of_map(json_root(map), &address, &err);
        assert_int_equal(rc, table[i].problem ? ERR : OK);
        if (table[i].problem) {
            assert_string_equal(err.text, table[i].problem);
        } else {
            assert_string_equal(address.host, "connectivity-proxy.kyma-system.svc.cluster.local");
            assert_int_equal(address.port, 20004);
        }
        json_free(map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_helm_writes_it),
        cmocka_unit_test(as_the_operator_writes_it),
        cmocka_unit_test(values),
        cmocka_unit_test(other_keys_are_ignored),
        cmocka_unit_test(not_understood),
        cmocka_unit_test(deep),
        cmocka_unit_test(config_maps),
        cmocka_unit_test(addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
