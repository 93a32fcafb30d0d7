/* Tests configuration/config_record: a configuration that is recorded is read back unchanged, and
 * an edited text is checked like an object. */
#include "configuration/config_record.h"
#include "lib/mem.h"
#include "tests/unit/check.h"
#include "tests/unit/world/objects.h"

static struct config *config_of(const char *spec)
{
    struct config_remarks remarks;
    struct object o = object_of(spec);
    struct config *config = config_new(o.root, "home", &remarks);
    if (!config) {
        fail_msg("%s", remarks.complaints[0]);
    }
    object_free(&o);
    return config;
}

/* Returns the record as text; the caller frees it. */
static char *text_of(const struct config_record *record)
{
    struct buf out;
    buf_init(&out, CONFIG_RECORD_MAX);
    assert_int_equal(config_record_put(&out, record), OK);
    char *text = mem_strndup(buf_str(&out).p, buf_len(&out));
    buf_free(&out);
    return text;
}

static void come_back(void **state)
{
    (void)state;
    static const char *const specs[] = {
        "{}",
        "{'spec':{'config':{'tenantMode':'shared','managedNamespacesMode':'labelSelector'}}}",
        "{'spec':{'config':{'security':{'accessControl':{'destinations':{"
        "'defaultScope':'clusterWide'}}},'manager':{'executionIntervalMinutes':10080},"
        "'logging':{'level':'WARN'},'metrics':{'prometheus':{'enabled':true}}}}}",
        "{'spec':{'additionalCAs':{'secretName':'cas','secretKey':'a\\u0022b.pem',"
        "'secretNamespace':'vault'}}}",
        "{'spec':{'config':{'integration':{'destinationService':{'defaultInstanceName':'one',"
        "'connectionTimeoutSeconds':60,'readTimeoutSeconds':1,'instances':["
        "{'name':'one','serviceCredentials':{'secretName':'s','secretKey':'k'}},"
        "{'name':'\\u00e4 \\\\\\\\ two','serviceCredentials':{'secretName':'t','privateKey':{"
        "'secretName':'p','secretInternalKey':'x','secretNamespace':'elsewhere'}}}]}}}}}",
        "{'spec':{'config':{'integration':{'connectivityProxy':{'serviceName':'cp.cp-ns',"
        "'tcpPort':1080,'connectionTimeoutSeconds':7,"
        "'serviceCredentials':{'secretName':'cp','secretKey':'k'}}}}}}",
        "{'spec':{'config':{'integration':{'connectivityProxy':{'serviceName':'cp'}}}}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
        struct config_record record = {.config = config_of(specs[i]),
                                       .object = i % 2 ? mem_strdup("transparent-proxy") : NULL,
                                       .since = "2026-11-29T14:30:57Z"};
        struct config_record again;
        struct error err;
        char *text = text_of(&record);
        if (config_record_parse(&again, str_of(text), "another", &err) != OK) {
            fail_msg("%s: %s", text, err.text);
        }
        assert_true(config_record_same(&record, &again));
        char *text_again = text_of(&again);
        assert_string_equal(text, text_again);
        free(text);
        free(text_again);
        config_record_clear(&record);
        config_record_clear(&again);
    }
}

/* A record does not contain keys that the configuration does not know. */
static void unknown_keys_stay_out(void **state)
{
    (void)state;
    struct config_record record = {
        .config = config_of("{'spec':{'password':'hush','config':{'clientsecret':'hush',"
                            "'integration':{'destinationService':{'instances':[{'name':'one',"
                            "'key':'hush','serviceCredentials':{'secretName':'s','x':'hush'}}]"
                            "}}}}}")};
    char *text = text_of(&record);
    assert_null(strstr(text, "hush"));
    free(text);
    config_record_clear(&record);
}

static void differences_count(void **state)
{
    (void)state;
    struct config_record a = {.config = config_of("{}"), .since = "2026-11-29T14:30:57Z"};
    struct config_record b = {
        .config = config_of("{'spec':{'config':{'managedNamespacesMode':'labelSelector'}}}")};
    struct config_record c = {.config = config_of("{}"), .object = mem_strdup("o")};
    struct config_record d = {.config = config_of("{}")};
    assert_false(config_record_same(&a, &b));
    assert_false(config_record_same(&a, &c));
    assert_true(config_record_same(&a, &d));
    config_record_clear(&a);
    config_record_clear(&b);
    config_record_clear(&c);
    config_record_clear(&d);
}

static void hostile_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "line 1"},
        {"{\"spec\":", "line 1"},
        {"[]", "no spec"},
        {"{\"since\":\"2026\"}", "no spec"},
        {"{\"spec\":null}", "no spec"},
        {"{\"spec\":{\"config\":{\"tenantMode\":\"both\"}}}", "tenantMode"},
        {"{\"spec\":{\"config\":{\"manager\":{\"executionIntervalMinutes\":1e9}}}}", "Minutes"},
    };
    struct config_record record;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(config_record_parse(&record, str_of(rows[i].text), "home", &err), ERR);
        assert_null(record.config);
        assert_non_null(strstr(err.text, rows[i].says));
    }
    char *big = mem_zalloc(CONFIG_RECORD_MAX + 2);
    memset(big, ' ', CONFIG_RECORD_MAX + 1);
    assert_int_equal(config_record_parse(&record, str_of(big), "home", &err), ERR);
    assert_non_null(strstr(err.text, "octets"));
    free(big);

    /* Time and name are shown to people, so every other character is refused. */
    const char *odd =
        "{\"spec\":{},\"since\":\"2026-11-29T14:30:57Z\\nX\",\"object\":\"A \\\"b\\\"\"}";
    assert_int_equal(config_record_parse(&record, str_of(odd), "home", &err), OK);
    assert_string_equal(record.since, "an unknown time");
    assert_null(record.object);
    config_record_clear(&record);
}

/* The keys are removed; tenants and namespaces stay, and no others are added. */
static void credentials_are_dropped(void **state)
{
    (void)state;
    struct config_record before = {
        .config = config_of(
            "{'spec':{'additionalCAs':{'secretName':'cas','secretKey':'k'},'config':{"
            "'tenantMode':'shared','managedNamespacesMode':'labelSelector','integration':{"
            "'destinationService':{'defaultInstanceName':'one','instances':[{'name':'one',"
            "'serviceCredentials':{'secretName':'s'}}]},'connectivityProxy':{'serviceName':'cp.x',"
            "'tcpPort':1,'connectionTimeoutSeconds':9,'serviceCredentials':{'secretName':'c'}"
            "}}}}}")};
    struct config_record after = {.config =
                                      config_of("{'spec':{'config':{'tenantMode':'shared',"
                                                "'managedNamespacesMode':'labelSelector'}}}")};
    config_drop_credentials(before.config);
    assert_true(config_record_same(&before, &after));
    config_record_clear(&before);
    config_record_clear(&after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(come_back),
        cmocka_unit_test(unknown_keys_stay_out),
        cmocka_unit_test(differences_count),
        cmocka_unit_test(hostile_texts),
        cmocka_unit_test(credentials_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
