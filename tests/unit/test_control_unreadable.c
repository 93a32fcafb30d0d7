/* Tests CRs with an invalid spec: they are refused with a condition, their listeners close, and
 * they are served again after a correction. Tests also statuses that cannot be written. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"
#define FAILED "ConfigurationFailed"
#define POLICY "NetworkPolicy", HOME, "tproxy-namespace-apps"
#define WIDE "NetworkPolicy", HOME, "tproxy-clusterwide"

/* A mistake in a spec that the CRD allows, and the corrected spec. */
#define MISTAKE "'spec':{'destinationServiceInstanceName':'a\\tb','accessControl':null}"
#define WRONG "{" MISTAKE "}"
#define RIGHT "{'spec':{'destinationServiceInstanceName':null}}"

/* Another manager was the last to write the status. */
#define THEIRS                                                                                     \
    ",'metadata':{'managedFields':[{'manager':'theirs','fieldsV1':{'f:status':{'f:conditions':"    \
    "{}}}}]}"

static void start(void)
{
    start_controller();
    pass_slowly(SECONDS(2), MILLIS(100));
    world_forget_journal();
}

static void expect_rest(void)
{
    world_forget_journal();
    pass_slowly(SECONDS(120), SECONDS(5));
    expect_calls("");
}

static void expect_closed(void)
{
    expect_reason("apps", "inbox", FAILED);
    assert_string_equal(condition_of("apps", "inbox", "status"), "False");
    assert_string_equal(condition_of("apps", "inbox", "message"),
                        "Technical connectivity is not configured. The Destination CR cannot be "
                        "read: spec.destinationServiceInstanceName contains a control character; "
                        "remove it");
    assert_false(exists("Service", HOME, "inbox"));
    assert_false(exists("Service", "apps", "inbox"));
    assert_int_equal(count_listeners(), 0);
    assert_false(exists(POLICY) || exists(WIDE));
}

static void expect_served(void)
{
    expect_reason("apps", "inbox", SUCCESS);
    assert_true(exists("Service", "apps", "inbox"));
    assert_int_not_equal(replica->listeners[target_port("inbox")], 0);
}

static void from_the_beginning(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    fake_put("Destination", "apps", "inbox", WRONG);
    put_cr("apps", "other", "inbox", "");
    start();
    assert_true(exists("Service", HOME, "other"));
    fake_drop("Destination", "apps", "other");
    pass_slowly(SECONDS(2), MILLIS(100));
    expect_closed();
    expect_rest();
    fake_put("Destination", "apps", "inbox", RIGHT);
    pass_slowly(SECONDS(2), MILLIS(100));
    expect_served();
    assert_true(exists(POLICY));
    expect_rest();
}

/* A CR that was open to all namespaces is changed, perhaps to fewer, but the new spec is
 * invalid. */
static void a_change(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", ",'accessControl':{'scope':'clusterWide'}");
    for (int again = 0; again < 2; again++) {
        start();
        expect_served();
        assert_int_equal(exists(WIDE), !again);
        fake_put("Destination", "apps", "inbox", WRONG);
        while (count_listeners()) {
            assert_true(world_deed()); /* only the watch's report is needed */
        }
        assert_true(exists("Service", HOME, "inbox"));
        pass_slowly(SECONDS(2), MILLIS(100));
        expect_closed();
        expect_rest();
        fake_put("Destination", "apps", "inbox", RIGHT);
        pass_slowly(SECONDS(2), MILLIS(100));
        expect_served();
        stop_controller();
    }
}

/* The spec becomes invalid while no controller runs: the condition still says True and the Services
 * exist. */
static void after_a_restart(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", ",'accessControl':{'scope':'clusterWide'}");
    start();
    stop_controller();
    fake_put("Destination", "apps", "inbox", WRONG);
    start();
    expect_closed();
    expect_rest();
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_rest();
    assert_int_equal(world.gone, 1);
}

/* Another mistake changes the message; the same mistake is not reported twice. */
static void another_mistake(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    fake_put("Destination", "apps", "inbox", WRONG);
    start();
    fake_put("Destination", "apps", "inbox", "{'spec':{'chainRef':{'name':'c\\nd'}}}");
    pass(SECONDS(1));
    assert_non_null(strstr(condition_of("apps", "inbox", "message"), ": spec.chainRef.name "));
    expect_rest();
}

static void refused_cr_is_deleted(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start();
    fake_put("Destination", "apps", "inbox", WRONG);
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(5), MILLIS(100));
    assert_false(exists("Service", HOME, "inbox") || exists("Service", "apps", "inbox"));
    assert_int_equal(count_listeners(), 0);
    expect_rest();
}

/* The name is free for another CR, and goes back to this one when it is corrected. */
static void name_of_a_refused_cr(void **state)
{
    (void)state;
    put_namespace("beta");
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "inbox", "inbox", "");
    start();
    fake_put("Destination", "apps", "inbox", WRONG);
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", FAILED);
    expect_reason("beta", "inbox", SUCCESS);
    fake_put("Destination", "apps", "inbox", RIGHT);
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", "ConfigurationError-DuplicateDestinationCustomResource");
    expect_reason("beta", "inbox", SUCCESS);
    expect_rest();
}

/* An invalid CR may belong to another proxy. We write its status if nobody else has, or if we have
 * served it. */
static void of_another_proxy(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    put_cr("apps", "other", "inbox", "");
    fake_put("Destination", "apps", "other",
             "{" MISTAKE ",'status':{'conditions':[{'type':'Available','status':'True',"
             "'reason':'Theirs','message':'m'}]}" THEIRS "}");
    start();
    expect_reason("apps", "other", "Theirs");

    fake_put("Destination", "apps", "inbox", "{" MISTAKE THEIRS "}");
    pass_slowly(SECONDS(2), MILLIS(100));
    expect_closed();
    expect_rest();
    expect_reason("apps", "other", "Theirs");
}

/* ---- conditions of others ---- */

/* Gives the CR another controller's condition with a message of n octets, and overwrites ours. */
static void put_other_condition(size_t n)
{
    static char patch[CR_CONDITIONS_MAX + 1024], filler[CR_CONDITIONS_MAX];
    memset(filler, 'x', sizeof(filler));
    text_fmt(patch, sizeof(patch),
             "{'status':{'conditions':[{'type':'Other','message':'%.*s'},{'type':'Available',"
             "'status':'Unknown','reason':'Theirs','message':'m'}]}}",
             (int)n, filler);
    fake_put("Destination", "apps", "inbox", patch);
}

static bool journal_says(const char *text)
{
    char *copy = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    bool says = strstr(copy, text) != NULL;
    free(copy);
    return says;
}

static void expect_other_condition(void)
{
    assert_non_null(strstr(fake_find("Destination", "apps", "inbox")->text, "\"Other\""));
}

/* The CR is served, and an Event says what its status cannot. */
static void conditions_beyond_the_bound(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    put_other_condition(CR_CONDITIONS_MAX - 10);
    start_controller();
    pass(SECONDS(1));
    assert_false(journal_says("status Destination"));
    assert_true(journal_says("create Event apps/ " SUCCESS));
    assert_int_not_equal(replica->listeners[target_port("inbox")], 0);
    expect_other_condition();
    expect_rest();

    put_other_condition(100);
    pass_slowly(SECONDS(2), MILLIS(100));
    expect_served();
    expect_other_condition();
    expect_rest();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(from_the_beginning),    TEST(a_change),
        TEST(after_a_restart),       TEST(another_mistake),
        TEST(refused_cr_is_deleted), TEST(name_of_a_refused_cr),
        TEST(of_another_proxy),      TEST(conditions_beyond_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
