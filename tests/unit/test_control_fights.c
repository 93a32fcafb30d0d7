/* Tests fights: another writer changes what the controller has written, or the API server stores
 * something else. Repairs come less and less often and are reported once, conditions of others are
 * kept, and new content is written at once. */
#include "tests/unit/world/configuration.h"

static void serve_inbox(void)
{
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    world_forget_journal();
}

/* ---- another writer ---- */

static void change_alias(void)
{
    fake_put("Service", "apps", "inbox", "{'spec':{'externalName':'theirs.example.com'}}");
}

static void delete_alias(void)
{
    if (exists("Service", "apps", "inbox")) {
        fake_drop("Service", "apps", "inbox");
    }
}

static void change_home(void)
{
    fake_put("Service", HOME, "inbox", "{'spec':{'selector':{'app.kubernetes.io/name':'x'}}}");
}

static void change_status(void)
{
    fake_put("Destination", "apps", "inbox",
             "{'status':{'conditions':[{'type':'Available','status':'False','reason':'Theirs',"
             "'message':'no'}]}}");
}

/* Undoes the controller's changes four times a second. */
static void fight(void (*undo)(void), int64_t time)
{
    for (int64_t t = 0; t < time; t += MILLIS(250)) {
        undo();
        pass(MILLIS(250));
    }
}

static void fights_about_services(void **state)
{
    (void)state;
    static const struct {
        void (*undo)(void);
        const char *repair, *namespace;
    } rows[] = {
        {change_alias, "apply Service apps/inbox", "apps"},
        {delete_alias, "create Service apps/inbox", "apps"},
        {change_home, "apply Service home/inbox", HOME},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (i > 0) {
            teardown(NULL);
            setup(NULL);
        }
        serve_inbox();
        fight(rows[i].undo, SECONDS(60));
        /* at once, after pauses of 1, 2, 4, 8 and 16 s, and perhaps one more */
        assert_in_range(count_calls(rows[i].repair), 6, 7);
        assert_int_equal(count_calls("create Event"), 1);
        assert_int_equal(count_calls("status Destination"), 1);
        expect_reason("apps", "inbox", "ServiceCreationFailed");
        char part[64];
        text_fmt(part, sizeof(part), "The Service \"inbox\" in the namespace \"%s\" does not stay",
                 rows[i].namespace);
        assert_non_null(strstr(condition_of("apps", "inbox", "message"), part));
        assert_int_equal(count_listeners(), 1);
        world_forget_journal();

        fight(rows[i].undo, SECONDS(10 * 60));
        assert_in_range(calls_made(), 3, 8);
        assert_int_equal(count_calls("create Event"), 0);

        pass_slowly(SECONDS(20 * 60), SECONDS(5)); /* the other writer has stopped */
        expect_reason("apps", "inbox", "ConfigurationSuccessful");
        rows[i].undo();
        world_forget_journal();
        settle();
        assert_int_equal(count_calls(rows[i].repair), 1);
    }
}

static void changed_specs_do_not_wait(void **state)
{
    (void)state;
    serve_inbox();
    fight(change_alias, SECONDS(60));
    fight(change_status, SECONDS(60));
    put_cr("apps", "inbox", "inbox", ",'service':{'port':2110}");
    settle();
    assert_int_equal(port_of("apps", "inbox", "port"), 2110);
    assert_string_equal(text_at("Service", "apps", "inbox", "spec.externalName"),
                        "inbox.home.svc.cluster.local");
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    fight(change_status, SECONDS(60));
    put_cr("apps", "inbox", "other", "");
    settle();
    expect_reason("apps", "inbox", "ConfigurationError-ReferencedDestination-NotFound");
}

/* Another controller has added itself to the owners of the alias. */
static void owners_of_others_are_kept(void **state)
{
    (void)state;
    char references[1024];
    serve_inbox();
    struct str ours = str_of(text_at("Service", "apps", "inbox", "metadata.ownerReferences"));
    text_fmt(references, sizeof(references),
             "{'metadata':{'ownerReferences':[{'apiVersion':'v1','kind':'ConfigMap',"
             "'name':'theirs','uid':'u999'},%.*s}}",
             (int)ours.n - 1, ours.p + 1);
    fake_put("Service", "apps", "inbox", references);
    change_alias();
    pass(SECONDS(5));
    assert_int_equal(count_calls("apply Service apps/inbox"), 1);
    assert_string_equal(text_at("Service", "apps", "inbox", "spec.externalName"),
                        "inbox.home.svc.cluster.local");
    const char *after = text_at("Service", "apps", "inbox", "metadata.ownerReferences");
    assert_non_null(strstr(after, "\"u999\""));
    assert_non_null(strstr(after, "\"Destination\""));
}

static void fights_about_the_status(void **state)
{
    (void)state;
    serve_inbox();
    fight(change_status, SECONDS(60));
    assert_in_range(count_calls("status Destination"), 6, 7);
    assert_int_equal(count_calls("create Event apps/ StatusContested"), 1);
    assert_int_equal(count_calls("create Event"), 1);
    world_forget_journal();
    fight(change_status, SECONDS(10 * 60));
    assert_in_range(calls_made(), 3, 6);
    assert_int_equal(count_calls("create Event"), 0);
    pass_slowly(SECONDS(5 * 60), SECONDS(5));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
}

/* ---- lost updates ---- */

static const char *conditions(void)
{
    return text_at("Destination", "apps", "inbox", "status.conditions");
}

/* Another controller adds a condition. */
static void add_condition(bool last)
{
    static const char audited[] = "{\"type\":\"Audited\",\"status\":\"True\",\"reason\":\"Fine\"}";
    char patch[2048];
    struct item *i = fake_find("Destination", "apps", "inbox");
    text_fmt(patch, sizeof(patch), "{\"status\":{\"conditions\":[%s%s%.*s%s%s]}}",
             last ? "" : audited, last ? "" : ",", (int)strlen(conditions()) - 2, conditions() + 1,
             last ? "," : "", last ? audited : "");
    fake_store(i, fake_merged(i->text, patch));
}

/* The watch has not reported the new condition yet. */
static void conditions_of_others_are_kept(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "other", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationError-ReferencedDestination-NotFound");
    world_forget_journal();
    fake_kind("Destination")->mute = true;
    add_condition(false);
    serve("other");
    pass_slowly(SECONDS(10), SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    assert_non_null(strstr(conditions(), "Audited"));
    assert_int_equal(count_calls("get Destination apps/inbox"), 1);
    assert_int_equal(count_calls("status Destination"), 2);
    fake_kind("Destination")->mute = false;
    world_forget_journal();
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_calls("");
}

/* The printer column of the CRD shows the last one. */
static void available_is_the_last_condition(void **state)
{
    (void)state;
    serve_inbox();
    add_condition(true);
    settle();
    expect_calls("status Destination apps/inbox ConfigurationSuccessful\n");
    assert_true(strstr(conditions(), "Audited") < strstr(conditions(), "Available"));
}

static enum cluster_result always_conflict(const struct cluster_call *call)
{
    return call->verb == CLUSTER_PATCH_STATUS || call->verb == CLUSTER_APPLY ? CLUSTER_CONFLICT
                                                                             : CLUSTER_DONE;
}

static void conflicts_without_end(void **state)
{
    (void)state;
    serve_inbox();
    fake.fate = always_conflict;
    change_alias();
    change_status();
    pass_slowly(SECONDS(600), SECONDS(1));
    assert_in_range(calls_made(), 20, 60);
    fake.fate = NULL;
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
}

/* ---- messages with the words of another server ---- */

static void failures_that_are_worded_differently(void **state)
{
    (void)state;
    refuse("inbox", VERDICT_UNREADABLE);
    world.wordy = true;
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationFailed");
    unsigned first = world.finds;
    world_forget_journal();
    pass_slowly(SECONDS(30 * 60), SECONDS(1));
    assert_true(world.finds > first + 10);
    assert_int_equal(count_calls("create Event"), 0);
    assert_in_range(count_calls("status Destination"), 5, 6);
    char newest[32];
    text_fmt(newest, sizeof(newest), "request %u)", world.finds);
    world.source_mute = true; /* so that the words no longer change */
    pass_slowly(SECONDS(5 * 60), SECONDS(1));
    assert_non_null(strstr(condition_of("apps", "inbox", "message"), newest));
    world.source_mute = false;

    restart_controller(); /* a restart does not make the words new */
    world_forget_journal();
    pass_slowly(SECONDS(60), SECONDS(1));
    assert_int_equal(count_calls("create Event"), 0);
    assert_in_range(count_calls("status Destination"), 1, 1);
    refuse("inbox", VERDICT_NOT_FOUND);
    pass_slowly(SECONDS(200), SECONDS(1));
    assert_int_equal(count_calls("create Event"), 1);
    expect_reason("apps", "inbox", "ConfigurationError-ReferencedDestination-NotFound");
}

/* ---- a flood of Events ---- */

/* Changes the condition of the CR this many times. */
static void flip(const char *name, int times)
{
    for (int i = 0; i < times; i++) {
        put_cr("apps", name, i % 2 ? "bad" : "nowhere", "");
        settle();
    }
}

/* The changes of Events: how many, the number in the last one, and what the API server answers. */
static int64_t continued_calls, last_count;
static enum cluster_result continued_result;

static enum cluster_result note_series(const struct cluster_call *call)
{
    if (strcmp(call->kind->kind, "Event") != 0 || call->verb != CLUSTER_APPLY) {
        return CLUSTER_DONE;
    }
    struct json *doc = json_parse(str_of(call->body), NULL);
    struct json_value series = json_get(json_root(doc), "series");
    assert_int_equal(json_int64(json_get(series, "count"), &last_count), OK);
    assert_true(json_exists(json_get(series, "lastObservedTime")));
    json_free(doc);
    continued_calls++;
    return continued_result;
}

static void watch_series(enum cluster_result result)
{
    last_count = continued_calls = 0;
    continued_result = result;
    fake.fate = note_series;
    refuse("bad", VERDICT_URL_NOT_SUPPORTED);
    start_controller();
    pass(SECONDS(1));
    world_forget_journal();
}

/* A condition that goes to and fro makes two Events, which count. */
static void a_repeated_event_is_counted(void **state)
{
    (void)state;
    watch_series(CLUSTER_DONE);
    flip("inbox", 8);
    assert_int_equal(count_calls("create Event"), 2);
    assert_int_equal(count_calls("apply Event"), 6);
    assert_int_equal(last_count, 4);

    pass_slowly(SECONDS(5 * 60), SECONDS(5)); /* still the same series */
    flip("inbox", 1);
    assert_int_equal(count_calls("create Event"), 2);
    assert_int_equal(last_count, 5);

    pass_slowly(SECONDS(7 * 60), SECONDS(5)); /* too long ago */
    flip("inbox", 3);                         /* the first one changes nothing */
    assert_int_equal(count_calls("create Event"), 4);
}

/* A resource that was created again has Events of its own. */
static void another_uid_is_another_event(void **state)
{
    (void)state;
    watch_series(CLUSTER_DONE);
    flip("inbox", 1);
    fake_drop("Destination", "apps", "inbox");
    settle();
    flip("inbox", 1);
    assert_int_equal(count_calls("create Event"), 2);
    assert_int_equal(count_calls("apply Event"), 0);
}

/* The number has the repeats for which there was no room. */
static void repeats_without_room_are_counted(void **state)
{
    (void)state;
    watch_series(CLUSTER_DONE);
    flip("inbox", 60);
    assert_int_equal(count_calls("create Event") + count_calls("apply Event"), 10);
    pass_slowly(SECONDS(120), SECONDS(5));
    flip("inbox", 2);
    assert_int_equal(count_calls("create Event"), 2);
    assert_int_equal(last_count, 31);
}

/* An Event that has gone begins anew. */
static void a_lost_event_begins_anew(void **state)
{
    (void)state;
    watch_series(CLUSTER_ABSENT);
    flip("inbox", 2);
    flip("inbox", 2);
    assert_int_equal(continued_calls, 2);
    assert_int_equal(count_calls("create Event"), 4);
    continued_result = CLUSTER_DONE;
    flip("inbox", 2);
    assert_int_equal(count_calls("create Event"), 4);
    assert_int_equal(last_count, 2);
}

/* An older Role lacks the right: each repeat is an Event, and the right is not tried each time. */
static void events_without_the_right(void **state)
{
    (void)state;
    watch_series(CLUSTER_REFUSED);
    flip("inbox", 8);
    assert_int_equal(continued_calls, 1);
    assert_int_equal(count_calls("create Event"), 8);
}

static void events_are_bounded(void **state)
{
    (void)state;
    refuse("bad", VERDICT_URL_NOT_SUPPORTED);
    start_controller();
    pass(SECONDS(1));
    world_forget_journal();
    flip("inbox", 100);
    assert_int_equal(count_calls("status Destination"), 100);
    assert_int_equal(count_calls("create Event"), 2);
    assert_int_equal(count_calls("apply Event"), 8);
    pass_slowly(SECONDS(120), SECONDS(5));
    world_forget_journal();
    flip("inbox", 100);
    assert_int_equal(count_calls("create Event") + count_calls("apply Event"), 2);

    /* Other resources have their Events as before, until the namespace has too many. */
    world_forget_journal();
    for (int i = 0; i < 120; i++) {
        char name[16];
        text_fmt(name, sizeof(name), "x%d", i);
        flip(name, 12);
    }
    assert_in_range(count_calls("create Event") + count_calls("apply Event"), 950, 1000);
    put_namespace("beta");
    put_cr("beta", "other", "inbox", "");
    world_forget_journal();
    settle();
    assert_int_equal(count_calls("create Event beta/"), 1);
}

/* ---- the object and the ConfigMap of the configuration ---- */

static void configure_instance(const char *mode)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "'config':{'tenantMode':'%s','integration':{'destinationService':{"
             "'defaultInstanceName':'one','instances':[" INSTANCE("one", "key") "]}}}",
             mode);
    configure(text);
    put_key("key", "client");
}

static void change_proxy_status(void)
{
    fake_put("TransparentProxy", HOME, OBJECT, "{'status':{'state':'Error'}}");
}

static void change_config_map(void)
{
    fake_put("ConfigMap", HOME, "tproxy-last-configuration",
             "{'data':{'configuration.json':'theirs'}}");
}

static void fights_about_the_configuration(void **state)
{
    (void)state;
    configure_instance("dedicated");
    serve_inbox();
    fight(change_proxy_status, SECONDS(60));
    assert_in_range(count_calls("status TransparentProxy"), 6, 7);
    assert_int_equal(count_calls("create Event home/ StatusContested"), 1);
    assert_int_equal(count_calls("create Event"), 1);
    fight(change_config_map, SECONDS(60));
    assert_in_range(count_calls("apply ConfigMap"), 3, 6);
    configure_instance("shared");
    pass(SECONDS(10));
    assert_string_equal(text_at("TransparentProxy", HOME, OBJECT, "status.state"), "Ready");
    assert_non_null(
        strstr(text_at("ConfigMap", HOME, "tproxy-last-configuration", "data"), "shared"));
}

/* The Events about the TransparentProxy object count in the same way. */
static void a_repeated_event_about_the_configuration(void **state)
{
    (void)state;
    configure_instance("dedicated");
    watch_series(CLUSTER_DONE);
    for (int i = 0; i < 3; i++) {
        fake_drop("TransparentProxy", HOME, OBJECT);
        pass(SECONDS(1));
        configure_instance("dedicated");
        pass(SECONDS(1));
    }
    assert_int_equal(count_calls("create Event home/ ConfigurationDeleted"), 1);
    assert_int_equal(count_calls("apply Event home/"), 2);
    assert_int_equal(last_count, 3);
}

/* The conditions include one that the watch has not reported. */
static void conditions_of_others_of_the_object(void **state)
{
    (void)state;
    static const char audited[] = "{\"type\":\"Audited\",\"status\":\"True\",\"reason\":\"Fine\"}";
    char patch[4096];
    configure_instance("dedicated");
    serve_inbox();
    const char *before = text_at("TransparentProxy", HOME, OBJECT, "status.conditions");
    text_fmt(patch, sizeof(patch), "{\"status\":{\"conditions\":[%.*s,%s]}}",
             (int)strlen(before) - 2, before + 1, audited);
    struct item *i = fake_find("TransparentProxy", HOME, OBJECT);
    fake_kind("TransparentProxy")->mute = true;
    fake_store(i, fake_merged(i->text, patch));
    fake_drop("Secret", "vault", "key");
    pass(SECONDS(1));
    const char *text;
    assert_string_equal(said(OBJECT, "CredentialsAvailable", &text), "False SecretNotUsable");
    assert_string_equal(said(OBJECT, "Audited", &text), "True Fine");
    fake_kind("TransparentProxy")->mute = false;
    world_forget_journal();
    pass(SECONDS(10));
    expect_calls("");
}

/* ---- an older CRD ---- */

static enum cluster_result no_subresource(const struct cluster_call *call)
{
    return call->verb == CLUSTER_PATCH_STATUS && strcmp(call->kind->kind, "Destination") == 0
               ? CLUSTER_ABSENT
               : CLUSTER_DONE;
}

static void a_crd_without_the_subresource(void **state)
{
    (void)state;
    configure_instance("dedicated");
    fake.fate = no_subresource;
    put_cr("apps", "inbox", "inbox", "");
    put_cr("apps", "second", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    assert_int_equal(count_listeners(), 2);
    assert_int_equal(count_calls("create Event home/ StatusSubresourceMissing"), 1);
    assert_non_null(strstr(controller_health(replica->controller).message, "subresource status"));
    const char *why;
    assert_true(controller_ready(replica->controller, &why));
    world_forget_journal();
    pass_slowly(SECONDS(600), SECONDS(1));
    assert_in_range(calls_made(), 20, 60);
    assert_int_equal(count_calls("create Event"), 0);
    fake.fate = NULL;
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    expect_reason("apps", "second", "ConfigurationSuccessful");
    assert_null(strstr(controller_health(replica->controller).message, "subresource status"));
}

static void pruned_tenants(void **state)
{
    (void)state;
    configure_instance("shared");
    put_cr("apps", "inbox", "inbox", "");
    put_tenants("apps", "inbox", "[\\u0022acme\\u0022,\\u0022umbrella\\u0022]");
    fake.prunes = "{\"status\":{\"tenants\":null}}";
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    assert_non_null(strstr(controller_health(replica->controller).message, "status.tenants"));
    world_forget_journal();
    pass_slowly(SECONDS(20 * 60), SECONDS(1));
    expect_calls("");

    put_tenants("apps", "inbox", "[\\u0022acme\\u0022]"); /* a changed spec */
    settle();
    assert_int_equal(count_calls("status Destination"), 1);

    fake.prunes = NULL;
    put_tenants("apps", "inbox", "[\\u0022acme\\u0022,\\u0022beta\\u0022]");
    settle();
    assert_string_equal(text_at("Destination", "apps", "inbox", "status.tenants"),
                        "[{\"tenantSubdomain\":\"acme\"},{\"tenantSubdomain\":\"beta\"}]");
    assert_null(strstr(controller_health(replica->controller).message, "status.tenants"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(fights_about_services),
        TEST(owners_of_others_are_kept),
        TEST(fights_about_the_status),
        TEST(changed_specs_do_not_wait),
        TEST(conditions_of_others_are_kept),
        TEST(available_is_the_last_condition),
        TEST(conflicts_without_end),
        TEST(pruned_tenants),
        TEST(failures_that_are_worded_differently),
        TEST(a_repeated_event_is_counted),
        TEST(another_uid_is_another_event),
        TEST(repeats_without_room_are_counted),
        TEST(a_lost_event_begins_anew),
        TEST(events_without_the_right),
        TEST(events_are_bounded),
        TEST(fights_about_the_configuration),
        TEST(a_repeated_event_about_the_configuration),
        TEST(conditions_of_others_of_the_object),
        TEST(a_crd_without_the_subresource),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
