/* Tests failures of the API server: it refuses, does not answer, or returns something unexpected.
 * The controller comes to rest, shows the error, tries again, and converges. */
#include "tests/unit/world/controller.h"

/* The result of all calls with this verb and kind. kind NULL: of all calls. */
static struct {
    enum cluster_verb verb;
    const char *kind;
    enum cluster_result result;
} fault;

static enum cluster_result fault_fate(const struct cluster_call *call)
{
    bool meant =
        !fault.kind || (call->verb == fault.verb && strcmp(call->kind->kind, fault.kind) == 0);
    return meant ? fault.result : CLUSTER_DONE;
}

static void meet(enum cluster_verb verb, const char *kind, enum cluster_result result)
{
    fault.verb = verb;
    fault.kind = kind;
    fault.result = result;
    fake.fate = fault_fate;
}

static void heal(void)
{
    fake.fate = NULL;
}

/* Returns the number of calls made in ten minutes. */
static unsigned calls_in_ten_minutes(void)
{
    world_forget_journal();
    pass_slowly(SECONDS(600), SECONDS(1));
    return calls_made();
}

static void serve_inbox(void)
{
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    world_forget_journal();
}

/* Checks that the CR is served and that the controller makes no more calls. */
static void expect_served(const char *namespace, const char *name)
{
    char lead[128];
    pass_slowly(SECONDS(65), SECONDS(5));
    expect_reason(namespace, name, "ConfigurationSuccessful");
    assert_int_not_equal(replica->listeners[target_port(name)], 0);
    if (strcmp(namespace, HOME) != 0) {
        text_fmt(lead, sizeof(lead), "%s.home.svc.cluster.local", name);
        assert_string_equal(text_at("Service", namespace, name, "spec.externalName"), lead);
    }
    world_forget_journal();
    pass_slowly(SECONDS(120), SECONDS(5));
    expect_calls("");
}

/* ---- no answer ---- */

static void api_server_away(void **state)
{
    (void)state;
    start_controller();
    settle();
    meet(0, NULL, CLUSTER_LATER);
    put_cr("apps", "inbox", "inbox", "");
    assert_in_range(calls_in_ten_minutes(), 8, 40);
    assert_false(exists("Service", HOME, "inbox"));
    assert_int_equal(count_listeners(), 1);
    heal();
    expect_served("apps", "inbox");
}

/* A changed spec does not wait for the retry of the old one. */
static void a_change_is_tried_at_once(void **state)
{
    (void)state;
    start_controller();
    meet(0, NULL, CLUSTER_LATER);
    put_cr("apps", "inbox", "inbox", "");
    pass_slowly(SECONDS(120), SECONDS(1));
    heal();
    put_cr("apps", "inbox", "inbox", ",'service':{'port':2110}");
    settle();
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    assert_int_equal(port_of(HOME, "inbox", "port"), 2110);
}

static bool loses_writes(const struct cluster_call *call)
{
    return call->verb != CLUSTER_GET;
}

/* A call whose answer was lost is not made again if it has succeeded. */
static void answers_are_lost(void **state)
{
    (void)state;
    start_controller();
    fake.loses = loses_writes;
    put_cr("apps", "inbox", "inbox", "");
    pass_slowly(SECONDS(120), SECONDS(1));
    /* two Services, a policy, the ConfigMap with the configuration */
    assert_int_equal(fake.calls_made[CLUSTER_CREATE], 4);
    fake.loses = NULL;
    expect_served("apps", "inbox");
    fake.loses = loses_writes;
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(120), SECONDS(1));
    assert_false(exists("Service", HOME, "inbox"));
    assert_false(exists("Service", "apps", "inbox"));
    fake.loses = NULL;
    pass_slowly(SECONDS(120), SECONDS(1));
    assert_int_equal(world.gone, 1);
}

/* ---- refusals ---- */

static void refused_creation(void **state)
{
    (void)state;
    start_controller();
    meet(CLUSTER_CREATE, "Service", CLUSTER_REFUSED);
    put_cr("apps", "inbox", "inbox", "");
    settle();
    expect_reason("apps", "inbox", "ServiceCreationFailed");
    assert_string_equal(condition_of("apps", "inbox", "message"), "create Service inbox: result 4");
    assert_in_range(calls_in_ten_minutes(), 8, 40);
    heal();
    expect_served("apps", "inbox");
}

static void refused_change(void **state)
{
    (void)state;
    serve_inbox();
    meet(CLUSTER_APPLY, "Service", CLUSTER_REFUSED);
    put_cr("apps", "inbox", "inbox", ",'service':{'port':2110}");
    settle();
    expect_reason("apps", "inbox", "ServiceCreationFailed");
    assert_in_range(calls_in_ten_minutes(), 8, 40);
    assert_int_equal(count_listeners(), 1);
    heal();
    expect_served("apps", "inbox");
    assert_int_equal(port_of(HOME, "inbox", "port"), 2110);
}

static void refused_deletion(void **state)
{
    (void)state;
    serve_inbox();
    meet(CLUSTER_DELETE, "Service", CLUSTER_REFUSED);
    fake_drop("Destination", "apps", "inbox");
    assert_in_range(calls_in_ten_minutes(), 8, 40);
    assert_int_equal(count_listeners(), 0);
    heal();
    pass_slowly(SECONDS(65), SECONDS(5));
    assert_false(exists("Service", HOME, "inbox"));
    assert_false(exists("Service", "apps", "inbox"));
    assert_false(exists("NetworkPolicy", HOME, "tproxy-namespace-apps"));
    assert_int_equal(world.gone, 1);
}

static void refused_status(void **state)
{
    (void)state;
    static const enum cluster_result results[] = {CLUSTER_REFUSED, CLUSTER_CONFLICT, CLUSTER_LATER};
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        meet(CLUSTER_PATCH_STATUS, "Destination", results[i]);
        fake_put("Destination", "apps", "inbox", "{'status':null}");
        assert_in_range(calls_in_ten_minutes(), 8, 40);
        heal();
        expect_served("apps", "inbox");
    }
}

static void refused_event(void **state)
{
    (void)state;
    start_controller();
    meet(CLUSTER_CREATE, "Event", CLUSTER_REFUSED);
    put_cr("apps", "inbox", "inbox", "");
    expect_served("apps", "inbox");
}

/* One policy that cannot be written does not prevent the writing of others. */
static enum cluster_result no_policy_for_apps(const struct cluster_call *call)
{
    return strcmp(call->name, "tproxy-namespace-apps") == 0 ? CLUSTER_EXISTS : CLUSTER_DONE;
}

static void refused_policy(void **state)
{
    (void)state;
    fake.fate = no_policy_for_apps;
    put_namespace("beta");
    start_controller();
    settle();
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "inbox-b", "inbox", "");
    pass_slowly(SECONDS(10), MILLIS(500));
    assert_true(exists("NetworkPolicy", HOME, "tproxy-namespace-beta"));
    fake_drop("Destination", "beta", "inbox-b");
    pass_slowly(SECONDS(20), MILLIS(500));
    assert_false(exists("NetworkPolicy", HOME, "tproxy-namespace-beta"));
    assert_in_range(calls_in_ten_minutes(), 8, 130);
    heal();
    expect_served("apps", "inbox");
    assert_true(exists("NetworkPolicy", HOME, "tproxy-namespace-apps"));
}

/* ---- unexpected objects ---- */

static void conflicts(void **state)
{
    (void)state;
    static const enum cluster_result results[] = {CLUSTER_CONFLICT, CLUSTER_ABSENT};
    serve_inbox();
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        meet(CLUSTER_APPLY, "Service", results[i]);
        put_cr("apps", "inbox", "inbox", i ? ",'service':{'port':1}" : ",'service':{'port':2}");
        settle();
        assert_in_range(calls_in_ten_minutes(), 4, 400);
        heal();
        expect_served("apps", "inbox");
    }
}

/* The Service was replaced by another one of ours, which the watch has not reported yet. */
static void replaced_service(void **state)
{
    (void)state;
    serve_inbox();
    fake_kind("Service")->mute = true;
    uint16_t port = target_port("inbox");
    char *whole = strdup(fake_find("Service", HOME, "inbox")->text);
    fake_drop("Service", HOME, "inbox");
    fake_create("Service", HOME, "inbox", whole);
    put_cr("apps", "inbox", "inbox", ",'service':{'port':2110}");
    settle();
    expect_calls("apply Service home/inbox\n"
                 "get Service home/inbox\n"
                 "apply Service home/inbox\n"
                 "apply Service apps/inbox\n");
    fake_kind("Service")->mute = false;
    pass(SECONDS(1));
    expect_calls("");
    expect_served("apps", "inbox");
    assert_int_equal(port_of(HOME, "inbox", "port"), 2110);
    assert_int_equal(target_port("inbox"), port);
    free(whole);
}

/* If an API server stores something else than was written, the controller does not write without
 * end. */
static void status_that_the_server_changes(void **state)
{
    (void)state;
    start_controller();
    fake.prunes = "{\"status\":{\"conditions\":null}}";
    put_cr("apps", "inbox", "inbox", "");
    assert_in_range(calls_in_ten_minutes(), 8, 30);
    fake.prunes = NULL;
    pass_slowly(SECONDS(300), SECONDS(5));
    expect_served("apps", "inbox");
}

static void service_that_the_server_changes(void **state)
{
    (void)state;
    start_controller();
    fake.prunes = "{\"spec\":{\"selector\":{\"app.kubernetes.io/name\":\"other\"}}}";
    put_cr("apps", "inbox", "inbox", "");
    assert_in_range(calls_in_ten_minutes(), 8, 30);
    expect_reason("apps", "inbox", "ServiceCreationFailed");
    fake.prunes = NULL;
    /* This is long enough for the next write and for the repair to count as lasting. */
    pass_slowly(SECONDS(600), SECONDS(5));
    expect_served("apps", "inbox");
}

/* ---- foreign objects ---- */

#define FOREIGN "{'metadata':{'labels':{'app':'theirs'}},'spec':{'type':'ClusterIP'}}"
#define LEFT_BEHIND "{'spec':{'type':'ExternalName','externalName':'inbox.sap.svc.cluster.local'}}"
#define PRESENT "ConfigurationError-K8sResourceWithNameAlreadyPresent"

static void foreign_home_service(void **state)
{
    (void)state;
    fake_put("Service", HOME, "inbox", FOREIGN);
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    settle();
    expect_reason("apps", "inbox", PRESENT);
    assert_string_equal(condition_of("apps", "inbox", "message"),
                        "Technical connectivity is not configured. The Service \"inbox\" in the "
                        "namespace \"home\" is there already and is not tproxy's. Delete it "
                        "(kubectl delete service -n home inbox), or rename the Destination CR");
    assert_string_equal(text_at("Service", HOME, "inbox", "metadata.labels.app"), "theirs");
    assert_in_range(calls_in_ten_minutes(), 8, 60);
    assert_string_equal(text_at("Service", HOME, "inbox", "metadata.resourceVersion"), "5");
    fake_drop("Service", HOME, "inbox");
    expect_served("apps", "inbox");
}

static void foreign_alias(void **state)
{
    (void)state;
    fake_put("Service", "apps", "inbox", LEFT_BEHIND);
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    settle();
    expect_reason("apps", "inbox", PRESENT);
    assert_non_null(strstr(condition_of("apps", "inbox", "message"),
                           "or annotate the Destination CR with tproxy/adopt: \"true\""));
    /* The Service is not adopted before somebody asks for it. */
    pass_slowly(SECONDS(120), SECONDS(5));
    assert_string_equal(text_at("Service", "apps", "inbox", "spec.externalName"),
                        "inbox.sap.svc.cluster.local");
    fake_put("Destination", "apps", "inbox",
             "{'metadata':{'annotations':{'tproxy/adopt':'true'}}}");
    settle();
    expect_served("apps", "inbox");
}

#define ADOPT "{'metadata':{'annotations':{'tproxy/adopt':'true'}}}"

/* A user who may create CRs cannot take over a Service of the home namespace or of another
 * installation. */
static void not_to_be_adopted(void **state)
{
    (void)state;
    fake_put("Service", HOME, "inbox", LEFT_BEHIND);
    put_cr("apps", "inbox", "inbox", "");
    fake_put("Destination", "apps", "inbox", ADOPT);
    fake_put("Service", HOME, "home-inbox", LEFT_BEHIND);
    put_cr(HOME, "home-inbox", "inbox", "");
    fake_put("Destination", HOME, "home-inbox", ADOPT);
    fake_put("Service", "apps", "second-inbox",
             "{'metadata':{'labels':{'app.kubernetes.io/managed-by':'tproxy','tproxy/home':"
             "'second'}},'spec':{'type':'ExternalName','externalName':"
             "'second-inbox.second.svc.cluster.local'}}");
    put_cr("apps", "second-inbox", "inbox", "");
    fake_put("Destination", "apps", "second-inbox", ADOPT);
    start_controller();
    pass_slowly(SECONDS(120), SECONDS(5));
    static const char *const places[][3] = {
        {"apps", "inbox", HOME}, {HOME, "home-inbox", HOME}, {"apps", "second-inbox", "apps"}};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        expect_reason(places[i][0], places[i][1], PRESENT);
        assert_null(strstr(condition_of(places[i][0], places[i][1], "message"), "adopt"));
        assert_string_equal(
            text_at("Service", places[i][2], places[i][1], "metadata.labels.tproxy/home"),
            i == 2 ? "second" : "");
    }
    assert_string_equal(text_at("Service", HOME, "inbox", "spec.externalName"),
                        "inbox.sap.svc.cluster.local");
}

/* Some API servers refuse a name that begins with a digit. */
static enum cluster_result no_digits(const struct cluster_call *call)
{
    bool service = strcmp(call->kind->kind, "Service") == 0;
    return service && call->name[0] == '1' ? CLUSTER_REFUSED : CLUSTER_DONE;
}

static void name_that_an_api_server_refuses(void **state)
{
    (void)state;
    fake.fate = no_digits;
    put_cr("apps", "1st", "inbox", "");
    start_controller();
    settle();
    expect_reason("apps", "1st", "ServiceCreationFailed");
    assert_string_equal(condition_of("apps", "1st", "message"),
                        "create Service 1st: result 4; if the reason is the name, which does not "
                        "begin with a letter, rename the Destination CR");
    heal();
    expect_served("apps", "1st");
}

/* If another proxy has written the status, the status stays and one Event gives the error. */
static void foreign_alias_and_status(void **state)
{
    (void)state;
    fake_put("Service", "apps", "inbox", LEFT_BEHIND);
    put_cr("apps", "inbox", "inbox", "");
    fake_put("Destination", "apps", "inbox",
             "{'metadata':{'managedFields':[{'manager':'theirs','fieldsV1':{'f:status':"
             "{'f:conditions':{}}}}]},'status':{'conditions':[{'type':'Available','status':'True',"
             "'reason':'Theirs','message':'m'}]}}");
    start_controller();
    pass_slowly(SECONDS(300), SECONDS(1));
    expect_reason("apps", "inbox", "Theirs");
    assert_int_equal(fake.calls_made[CLUSTER_PATCH_STATUS], 1); /* the TransparentProxy's */
    const char *events = buf_str(&fake.journal).p, *first = strstr(events, "create Event");
    assert_non_null(first);
    assert_null(strstr(first + 1, "create Event"));
}

/* ---- kinds that may not be read ---- */

static void forbidden_kinds(void **state)
{
    (void)state;
    static const char *const kinds[] = {"Namespace", "NetworkPolicy", "Service",
                                        "TransparentProxy"};
    serve_inbox();
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        fake_set_presence(kinds[i], CLUSTER_FORBIDDEN);
        restart_controller();
        world_forget_journal();
        pass_slowly(SECONDS(60), SECONDS(1));
        assert_int_equal(fake.calls_made[CLUSTER_DELETE], 0);
        expect_reason("apps", "inbox", "ConfigurationSuccessful");
        fake_set_presence(kinds[i], CLUSTER_PRESENT);
        expect_served("apps", "inbox");
    }
    fake_set_presence("Destination", CLUSTER_FORBIDDEN);
    restart_controller();
    world_forget_journal();
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_calls("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(api_server_away),
        TEST(a_change_is_tried_at_once),
        TEST(answers_are_lost),
        TEST(refused_creation),
        TEST(refused_change),
        TEST(refused_deletion),
        TEST(refused_status),
        TEST(refused_event),
        TEST(refused_policy),
        TEST(conflicts),
        TEST(replaced_service),
        TEST(status_that_the_server_changes),
        TEST(service_that_the_server_changes),
        TEST(foreign_home_service),
        TEST(foreign_alias),
        TEST(foreign_alias_and_status),
        TEST(not_to_be_adopted),
        TEST(name_that_an_api_server_refuses),
        TEST(forbidden_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
