/* One namespace with many resources, or with slow ones, does not delay the others. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"

enum { FLOOD = 500 };

static void flood(const char *namespace, int n)
{
    char name[16];
    for (int i = 0; i < n; i++) {
        text_fmt(name, sizeof(name), "flood-%d", i);
        put_cr(namespace, name, name, "");
    }
}

static void begin(void)
{
    world.any = make_destination("any", "pop3", "mail.example.com");
    world.next_pretended = PRETENDED;
    world.settings.first_port = 16384;
    world.settings.last_port = 32767;
    world.deeds_max = 100 * FLOOD;
    put_namespace("beta");
    start_controller();
    settle();
    world_forget_journal();
}

/* Lets one thing happen at a time until the resource is available. Returns the number of calls
 * made. */
static unsigned calls_until_available(const char *namespace, const char *name)
{
    while (strcmp(condition_of(namespace, name, "reason"), SUCCESS) != 0) {
        loop_turn(world.loop, false);
        if (!world_deed()) {
            loop_turn(world.loop, false);
            assert_true(world_deed());
        }
    }
    return calls_made();
}

static void a_flood_of_resources(void **state)
{
    (void)state;
    begin();
    flood("apps", FLOOD);
    put_cr("beta", "inbox", "inbox", "");
    assert_in_range(calls_until_available("beta", "inbox"), 3, 100);
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(count_listeners(), FLOOD + 1);
}

/* All resources of the flood are served, and all of them change. */
static void a_flood_of_changes(void **state)
{
    (void)state;
    begin();
    flood("apps", FLOOD);
    pass_slowly(SECONDS(5), SECONDS(1));
    world_forget_journal();
    LIST_EACH (it, &fake.items) {
        struct item *i = container_of(it, struct item, link);
        if (strcmp(i->kind, "Destination") == 0) {
            fake_put("Destination", i->namespace, i->name, "{'spec':{'service':{'port':2110}}}");
        }
    }
    put_cr("beta", "inbox", "inbox", "");
    assert_in_range(calls_until_available("beta", "inbox"), 3, 100);
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(port_of(HOME, "flood-0", "port"), 2110);
}

static bool is_of_space(const struct cluster_call *call)
{
    return strncmp(call->name, "flood", 5) == 0;
}

/* A change in one namespace does not wait for the new resources of many others. */
static void a_flood_of_namespaces(void **state)
{
    (void)state;
    enum { SPACES = 100, CRS = 5 * SPACES };
    begin();
    put_cr("beta", "inbox", "inbox", "");
    settle();
    for (int i = 0; i < CRS; i++) {
        char namespace[16], name[16];
        text_fmt(namespace, sizeof(namespace), "space-%d", i % SPACES);
        text_fmt(name, sizeof(name), "flood-%d", i);
        if (i < SPACES) {
            put_namespace(namespace);
        }
        put_cr(namespace, name, name, "");
    }
    fake.holds = is_of_space;
    settle();
    fake.holds = NULL;
    world_forget_journal();
    while (calls_made() < 2 * SPACES) { /* each of them has its turn */
        assert_true(world_deed());
        loop_turn(world.loop, false);
    }
    fake.holds = is_of_space;
    fake_put("Destination", "beta", "inbox", "{'spec':{'service':{'port':2110}}}");
    settle();
    fake.holds = NULL;
    world_forget_journal();
    while (port_of(HOME, "inbox", "port") != 2110) {
        assert_true(world_deed());
        loop_turn(world.loop, false);
    }
    assert_in_range(calls_made(), 1, 24); /* those that were under way go on */
}

static bool is_of_apps(const struct cluster_call *call)
{
    return strcmp(call->namespace, "apps") == 0;
}

/* An admission webhook of one namespace does not answer. */
static void calls_that_hang(void **state)
{
    (void)state;
    begin();
    fake.holds = is_of_apps;
    flood("apps", 200);
    settle();
    size_t hang = fake.waiting;
    assert_in_range(hang, 1, 4);
    put_cr("beta", "inbox", "inbox", "");
    settle();
    expect_reason("beta", "inbox", SUCCESS);
    assert_int_equal(fake.waiting, hang);
    fake.holds = NULL;
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "flood-199", SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(a_flood_of_resources),
        TEST(a_flood_of_changes),
        TEST(a_flood_of_namespaces),
        TEST(calls_that_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
