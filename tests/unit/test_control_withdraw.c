/* How Services are taken back, also where an object does not go at once. */
#include "tests/unit/control_world.h"

#define SUCCESS "ConfigurationSuccessful"
#define HELD "{'metadata':{'finalizers':['example.com/hold']}}"
#define RELEASED "{'metadata':{'finalizers':null}}"

/* Two CRs want one name; that of apps is older and has it. */
static void serve_inbox(void)
{
    put_namespace("beta");
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "inbox", "inbox", "");
    start_control();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    world_forget_journal();
}

/* A DELETE is answered with success while a finalizer keeps the home Service: its name does not
 * change hands before it is gone. */
static void finalizer_on_home_service(void **state)
{
    (void)state;
    serve_inbox();
    fake_put("Service", HOME, "inbox", HELD);
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(70), SECONDS(1));
    assert_false(exists("Service", "apps", "inbox"));
    assert_string_equal(
        text_at("Service", HOME, "inbox", "metadata.labels.tproxy/destination-namespace"), "apps");
    assert_int_equal(fake.calls_made[CLUSTER_DELETE], 2);
    assert_int_equal(fake.calls_made[CLUSTER_CREATE], 0);
    assert_int_equal(world.gone, 0);
    fake_put("Service", HOME, "inbox", RELEASED);
    pass_slowly(SECONDS(5), MILLIS(100));
    assert_int_equal(world.gone, 1);
    expect_reason("beta", "inbox", SUCCESS);
    assert_string_equal(
        text_at("Service", HOME, "inbox", "metadata.labels.tproxy/destination-namespace"), "beta");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(finalizer_on_home_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
