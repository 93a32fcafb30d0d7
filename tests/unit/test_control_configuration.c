/* The TransparentProxy object and the Secrets that it names: what is in force, since when, and what
 * is said about it. */
#include "tests/unit/configuration_world.h"

#define SUCCESS "ConfigurationSuccessful"
/* With a mailbox whose destination is in the default instance. */
static void start_with_key(void)
{
    put_key("first", "client");
    configure(SERVICE(INSTANCE("one", "first")));
    put_cr("apps", "inbox", "inbox", "");
    start();
    expect_reason("apps", "inbox", SUCCESS);
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
}

static void expect_rest(void)
{
    unsigned finds = world.finds;
    world_forget_journal();
    pass_slowly(SECONDS(120), SECONDS(5));
    expect_calls("");
    assert_int_equal(world.finds, finds);
}

/* ---- the object ---- */

static void without_an_object(void **state)
{
    (void)state;
    fake_drop("TransparentProxy", HOME, OBJECT);
    put_cr("apps", "inbox", "inbox", "");
    start();
    assert_int_equal(world.configured, 1);
    expect_reason("apps", "inbox", SUCCESS);
}

static void changes_are_followed(void **state)
{
    (void)state;
    start_with_key();
    assert_int_equal(world.configured, 1);
    configure("'config':{'manager':{'executionIntervalMinutes':10},'integration':"
              "{'destinationService':{'instances':[" INSTANCE("one", "first") "]}}}");
    settle();
    assert_true(world.configured > 1);
    assert_int_equal(world.instances, 1);
    pass(SECONDS(1));
    unsigned finds = world.finds;
    pass_slowly(SECONDS(3600), SECONDS(10));
    assert_in_range(world.finds - finds, 5, 7);
}

/* A change that changes nothing, such as our own status, is none. */
static void no_change(void **state)
{
    (void)state;
    start_with_key();
    unsigned configured = world.configured;
    fake_put("TransparentProxy", HOME, OBJECT, "{'metadata':{'labels':{'a':'b'}}}");
    expect_rest();
    assert_int_equal(world.configured, configured);
}

/* A configuration with a mistake leaves the last good one in force. */
static void mistakes(void **state)
{
    (void)state;
    start_with_key();
    unsigned configured = world.configured, finds = world.finds;
    fake_put("TransparentProxy", HOME, OBJECT, "{'spec':{'config':{'tenantMode':'both'}}}");
    settle();
    assert_int_equal(world.configured, configured);
    assert_int_equal(world.finds, finds);
    assert_true(has_key("one"));
    expect_said(OBJECT, "Warning", "Configured", "False InvalidConfiguration", "tenantMode");
    assert_false(control_health(world.control).configured);
    expect_rest();
    fake_put("TransparentProxy", HOME, OBJECT, "{'spec':{'config':{'tenantMode':'dedicated'}}}");
    settle();
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    assert_true(control_health(world.control).configured);
}

/* With a mistake from the start there is no good one: the defaults are in force. */
static void mistake_from_the_start(void **state)
{
    (void)state;
    configure("'config':{'tenantMode':'both'}");
    put_cr("apps", "inbox", "inbox", "");
    start();
    assert_int_equal(world.configured, 1);
    expect_reason("apps", "inbox", SUCCESS);
    expect_said(OBJECT, "Warning", "Configured", "False InvalidConfiguration", "tenantMode");
}

static void shared_tenants(void **state)
{
    (void)state;
    start_with_key();
    fake_put("TransparentProxy", HOME, OBJECT, "{'spec':{'config':{'tenantMode':'shared'}}}");
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationError-MultitenancyAnnotation-Invalid");
    assert_int_equal(count_listeners(), 0);
    fake_put("TransparentProxy", HOME, OBJECT, "{'spec':{'config':{'tenantMode':'dedicated'}}}");
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
}

/* The oldest one is the configuration; the others are told so. */
static void several_objects(void **state)
{
    (void)state;
    start_with_key();
    for (int i = 0; i < 3; i++) {
        char name[16];
        text_fmt(name, sizeof(name), "other-%d", i);
        fake_put("TransparentProxy", HOME, name, "{'spec':{'config':{'tenantMode':'shared'}}}");
    }
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    for (int i = 0; i < 3; i++) {
        char name[16];
        text_fmt(name, sizeof(name), "other-%d", i);
        expect_said(name, "Error", "Configured", "False AlreadyExists",
                    "Custom Resource with name \"transparent-proxy\" already exists in this "
                    "namespace.");
    }
    expect_rest();
    fake_drop("TransparentProxy", HOME, OBJECT);
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationError-MultitenancyAnnotation-Invalid");
    expect_said("other-0", "Warning", "Configured", "True ConfigurationApplied", "");
    expect_said("other-1", "Error", "Configured", "False AlreadyExists", "\"other-0\"");
    expect_rest();
}

static enum cluster_result no_status(const struct cluster_call *call)
{
    return call->verb == CLUSTER_PATCH_STATUS ? CLUSTER_REFUSED : CLUSTER_DONE;
}

static void refused_status(void **state)
{
    (void)state;
    fake.fate = no_status;
    start_control();
    pass_slowly(SECONDS(600), SECONDS(1));
    assert_in_range(fake.calls_made[CLUSTER_PATCH_STATUS], 8, 121);
    fake.fate = NULL;
    pass_slowly(SECONDS(65), SECONDS(1));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Provide at least one Destination service instance");
    expect_rest();
}

/* ---- Secrets ---- */

/* Another key is taken at once; the same one again, or another label, means nothing. */
static void rotation(void **state)
{
    (void)state;
    start_with_key();
    unsigned finds = world.finds;
    put_key("first", "client");
    fake_put("Secret", "vault", "first", "{'metadata':{'labels':{'a':'b'}}}");
    fake_put("Secret", "vault", "unrelated", "{'stringData':{'clientid':'x'}}");
    fake_relist("Secret");
    settle();
    assert_int_equal(world.finds, finds);
    put_key("first", "another client");
    settle();
    assert_int_equal(world.finds, finds + 1);
    expect_reason("apps", "inbox", SUCCESS);
    expect_rest();
}

/* A Secret that makes no sense, or may not be read any more, leaves the last good key in force. */
static void broken_secrets(void **state)
{
    (void)state;
    start_with_key();
    fake_put("Secret", "vault", "first", "{'stringData':{'clientid':null}}");
    settle();
    assert_true(has_key("one"));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Secret \"first\" in namespace \"vault\": the entry \"clientid\" is missing");
    unsigned finds = world.finds;
    for (int i = 0; i < 5; i++) { /* said once */
        fake_relist("Secret");
        settle();
    }
    assert_int_equal(world.finds, finds);
    expect_rest();
    put_key("first", "client");
    settle();
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");

    fake_set_presence("Secret", CLUSTER_FORBIDDEN);
    settle();
    assert_true(has_key("one"));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "may not be read: a Role in that namespace has to grant get, list and watch");
    finds = world.finds;
    for (int i = 0; i < 5; i++) {
        fake_relist("Secret");
        settle();
    }
    assert_int_equal(world.finds, finds);
    fake_set_presence("Secret", CLUSTER_PRESENT);
    settle();
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
    expect_rest();
}

static void missing_secret(void **state)
{
    (void)state;
    configure(SERVICE(INSTANCE("one", "first")));
    put_cr("apps", "inbox", "inbox", "");
    start();
    assert_false(has_key("one"));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Secret with name \"first\" not found in namespace: \"vault\".");
    put_key("first", "client");
    settle();
    assert_true(has_key("one"));
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
    fake_drop("Secret", "vault", "first");
    settle();
    assert_false(has_key("one"));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable", "not found");
    expect_rest();
}

/* Where the key is now: until that Secret has been read, the key of the last one serves. */
static void another_secret(void **state)
{
    (void)state;
    start_with_key();
    fake_kind("Secret")->mute = true;
    configure(SERVICE(INSTANCE("one", "second")));
    settle();
    assert_true(has_key("one"));
    put_key("second", "client 2");
    fake_kind("Secret")->mute = false;
    settle();
    assert_true(has_key("one"));
    fake_drop("Secret", "vault", "first"); /* nobody looks at it any more */
    settle();
    assert_true(has_key("one"));
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
    expect_rest();
}

/* Instances come and go; the others keep what they have. */
static void instances_come_and_go(void **state)
{
    (void)state;
    start_with_key();
    put_key("second", "client 2");
    configure(SERVICE(INSTANCE("one", "first") "," INSTANCE("two", "second")));
    settle();
    assert_int_equal(world.instances, 2);
    assert_true(has_key("one"));
    assert_true(has_key("two"));
    assert_false(has_key("three"));
    configure("'config':{'integration':{'destinationService':{'instances':[" INSTANCE(
        "two", "second") "]}}}");
    settle();
    assert_false(has_key("one"));
    assert_true(has_key("two"));
    configure("");
    settle();
    assert_false(has_key("two"));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable", "");
    expect_rest();
}

/* Nothing is decided before the Secrets have been listed. */
static void waits_for_secrets(void **state)
{
    (void)state;
    const char *why;
    put_key("first", "client");
    configure(SERVICE(INSTANCE("one", "first")));
    put_cr("apps", "inbox", "inbox", "");
    fake_kind("Secret")->mute = true;
    start();
    assert_int_equal(world.finds, 0);
    assert_false(control_ready(world.control, &why));
    assert_string_equal(why, "Secrets");
    fake_kind("Secret")->mute = false;
    settle();
    assert_true(control_ready(world.control, &why));
    expect_reason("apps", "inbox", SUCCESS);
}

/* No word of a Secret gets out. */
static void secrets_stay_secret(void **state)
{
    (void)state;
    start_with_key();
    fake_put("Secret", "vault", "first", "{'stringData':{'url':'hush://hush'}}");
    pass(SECONDS(10));
    assert_null(strstr(fake_find("TransparentProxy", HOME, OBJECT)->text, "hush"));
    assert_null(strstr(control_health(world.control).message, "hush"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(without_an_object),
        TEST(changes_are_followed),
        TEST(no_change),
        TEST(mistakes),
        TEST(mistake_from_the_start),
        TEST(shared_tenants),
        TEST(several_objects),
        TEST(refused_status),
        TEST(rotation),
        TEST(broken_secrets),
        TEST(missing_secret),
        TEST(another_secret),
        TEST(instances_come_and_go),
        TEST(waits_for_secrets),
        TEST(secrets_stay_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
