/* Tests precedence among many CRs. The CR that has a name keeps it; otherwise the oldest CR that
 * can use it gets it. The places of a namespace go to the oldest CRs that want one. The events'
 * order does not matter, and the work grows linearly with the number of CRs. */
#include "tests/unit/world/controller.h"

#define DUPLICATE "ConfigurationError-DuplicateDestinationCustomResource"

enum { FEW = 800, MANY = 1600 };

static uint64_t figure(const char *name)
{
    struct buf out;
    buf_init(&out, SIZE_MAX);
    controller_metrics(replica->controller, &out);
    char *text = mem_strndup(buf_str(&out).p, buf_len(&out)), line[64];
    text_fmt(line, sizeof(line), "\n%s ", name);
    const char *at = strstr(text, line);
    assert_non_null(at);
    uint64_t n = strtoull(at + strlen(line), NULL, 10);
    free(text);
    buf_free(&out);
    return n;
}

static const char *space_of(int i)
{
    static char name[16];
    text_fmt(name, sizeof(name), "n%d", i);
    return name;
}

struct work {
    uint64_t comes, goes; /* reconciliations */
};

/* CRs with one name are created in n namespaces, then deleted from the oldest on. */
static struct work work_of(int n)
{
    struct work work;
    void *state = NULL;
    setup(&state);
    world.deeds_max = 1000 * (uint64_t)n;
    for (int i = 0; i < n; i++) {
        put_namespace(space_of(i));
    }
    start_controller();
    settle();
    for (int i = 0; i < n; i++) {
        put_cr(space_of(i), "inbox", "inbox", "");
    }
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason(space_of(0), "inbox", "ConfigurationSuccessful");
    for (int i = 1; i < n; i++) {
        expect_reason(space_of(i), "inbox", DUPLICATE);
    }
    assert_int_equal(count_listeners(), 1);
    work.comes = figure("tproxy_reconciles_total");
    for (int i = 0; i < n - 1; i++) {
        fake_drop("Destination", space_of(i), "inbox");
    }
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason(space_of(n - 1), "inbox", "ConfigurationSuccessful");
    assert_int_equal(count_listeners(), 1);
    work.goes = figure("tproxy_reconciles_total") - work.comes;
    teardown(&state);
    return work;
}

static void work_is_linear(void **state)
{
    (void)state;
    struct work few = work_of(FEW), many = work_of(MANY);
    print_message("%d of one name: %llu to come, %llu to go; %d: %llu, %llu\n", FEW,
                  (unsigned long long)few.comes, (unsigned long long)few.goes, MANY,
                  (unsigned long long)many.comes, (unsigned long long)many.goes);
    assert_in_range(many.comes, MANY, 5 * few.comes / 2);
    assert_in_range(many.goes, MANY, 5 * few.goes / 2);
}

/* The message of a waiting CR always names the CR that has the name. */
static void message_names_the_first(void **state)
{
    (void)state;
    start_controller();
    for (int i = 0; i < 4; i++) {
        put_namespace(space_of(i));
        put_cr(space_of(i), "inbox", "inbox", "");
    }
    for (int i = 0; i < 3; i++) {
        char named[64];
        pass_slowly(SECONDS(2), MILLIS(500));
        expect_reason(space_of(i), "inbox", "ConfigurationSuccessful");
        text_fmt(named, sizeof(named), "in the namespace \"n%d\" has the name", i);
        for (int younger = i + 1; younger < 4; younger++) {
            expect_reason(space_of(younger), "inbox", DUPLICATE);
            assert_non_null(strstr(condition_of(space_of(younger), "inbox", "message"), named));
        }
        fake_drop("Destination", space_of(i), "inbox");
    }
    pass_slowly(SECONDS(2), MILLIS(500));
    expect_reason(space_of(3), "inbox", "ConfigurationSuccessful");
}

/* A CR that is deleted and applied again becomes the youngest. */
static void age_begins_anew(void **state)
{
    (void)state;
    put_namespace("beta");
    put_namespace("gamma");
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "inbox", "inbox", "");
    put_cr("gamma", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(2));
    fake_kind("Destination")->mute = true;
    fake_drop("Destination", "beta", "inbox");
    put_cr("beta", "inbox", "inbox", "");
    fake_relist("Destination"); /* which does not report the deletion */
    fake_kind("Destination")->mute = false;
    pass_slowly(SECONDS(5), SECONDS(1));
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("gamma", "inbox", "ConfigurationSuccessful");
    expect_reason("beta", "inbox", DUPLICATE);
    assert_int_equal(count_listeners(), 1);
}

/* ---- names in use ---- */

#define NOT_FOUND "ConfigurationError-ReferencedDestination-NotFound"

/* The CR of apps is older than that of beta. */
static void serve_younger(void)
{
    put_namespace("beta");
    refuse("later", VERDICT_NOT_FOUND);
    put_cr("apps", "inbox", "later", "");
    put_cr("beta", "inbox", "inbox", "");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
}

/* Serves the younger CR, then gives the older one a destination, too. Returns the younger one's
 * port. */
static uint16_t serve_younger_before_older(void)
{
    serve_younger();
    serve("later");
    controller_look_again(replica->controller, "later");
    pass_slowly(SECONDS(5), SECONDS(1));
    return target_port("inbox");
}

static void expect_younger(uint16_t port)
{
    expect_reason("apps", "inbox", DUPLICATE);
    expect_reason("beta", "inbox", "ConfigurationSuccessful");
    assert_int_equal(target_port("inbox"), port);
    assert_int_equal(count_listeners(), 1);
}

/* A CR whose destination does not exist cannot reserve a name, and a CR that has a name keeps
 * it. */
static void name_that_is_in_use(void **state)
{
    (void)state;
    serve_younger();
    uint16_t port = target_port("inbox");
    expect_younger(port);
    serve("later");
    controller_look_again(replica->controller, "later");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_younger(port);
    restart_controller();
    world.source_mute = true; /* so that neither destination is known */
    pass_slowly(SECONDS(5), SECONDS(1));
    world.source_mute = false;
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_younger(port);
    refuse("inbox", VERDICT_NOT_FOUND);
    controller_look_again(replica->controller, "inbox");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("beta", "inbox", NOT_FOUND);
    assert_int_equal(target_port("inbox"), port);
    fake_drop("Destination", "beta", "inbox");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
}

/* An administrator deletes the Service by mistake. */
static void service_of_a_name_in_use(void **state)
{
    (void)state;
    uint16_t port = serve_younger_before_older();
    fake_drop("Service", HOME, "inbox");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_younger(port);
}

/* Somebody removes the labels of the Service, which belongs to nobody then. A controller that
 * starts now cannot tell whose the name was, so the running one decides as if it did not know. */
static void service_that_is_made_foreign(void **state)
{
    (void)state;
    uint16_t port = serve_younger_before_older();
    expect_younger(port);
    char restore[1024];
    text_fmt(restore, sizeof(restore), "{'metadata':{'labels':%s}}",
             text_at("Service", HOME, "inbox", "metadata.labels"));
    fake_put("Service", HOME, "inbox", "{'metadata':{'labels':null}}");
    for (int i = 0; i < 2; i++) {
        pass_slowly(SECONDS(60), SECONDS(1));
        expect_reason("apps", "inbox", "ConfigurationError-K8sResourceWithNameAlreadyPresent");
        expect_reason("beta", "inbox", DUPLICATE);
        assert_false(exists("Service", "beta", "inbox"));
        restart_controller();
    }
    fake_put("Service", HOME, "inbox", restore);
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_younger(port);
}

/* If nobody can use a name, each CR reports what is wrong with its own destination. */
static void name_that_nobody_can_use(void **state)
{
    (void)state;
    put_namespace("beta");
    refuse("later", VERDICT_NOT_FOUND);
    put_cr("apps", "inbox", "later", "");
    put_cr("beta", "inbox", "later", "");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "inbox", NOT_FOUND);
    expect_reason("beta", "inbox", NOT_FOUND);
    serve("later");
    controller_look_again(replica->controller, "later");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    expect_reason("beta", "inbox", DUPLICATE);
    assert_int_equal(count_listeners(), 1);
}

#define UNREADABLE "ConfigurationFailed"

/* Neither destination can be read for a while. When they are read again, the older CR's answer
 * comes last. Returns with both answers there. */
static void read_after_an_outage(enum verdict older)
{
    put_namespace("beta");
    refuse("later", VERDICT_UNREADABLE);
    refuse("inbox", VERDICT_UNREADABLE);
    put_cr("apps", "inbox", "later", "");
    put_cr("beta", "inbox", "inbox", "");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "inbox", UNREADABLE);
    expect_reason("beta", "inbox", UNREADABLE);
    serve("inbox");
    if (older == VERDICT_OK) {
        serve("later");
    }
    world.hangs = "later";
    controller_look_again(replica->controller, "later");
    controller_look_again(replica->controller, "inbox");
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(count_listeners(), 0);
    expect_reason("beta", "inbox", UNREADABLE);
    world.hangs = NULL;
    pass_slowly(SECONDS(5), SECONDS(1));
}

static void name_after_an_outage(void **state)
{
    (void)state;
    read_after_an_outage(VERDICT_OK);
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    expect_reason("beta", "inbox", DUPLICATE);
    assert_int_equal(count_listeners(), 1);
}

static void name_after_an_outage_that_lasts(void **state)
{
    (void)state;
    read_after_an_outage(VERDICT_UNREADABLE);
    expect_younger(target_port("inbox"));
}

/* A CR that has no place in its namespace does not keep others from the name. */
static void name_without_a_place(void **state)
{
    (void)state;
    world.settings.namespace_targets = 1;
    put_namespace("beta");
    put_cr("apps", "first", "inbox", "");
    put_cr("apps", "mail", "inbox", "");
    put_cr("beta", "mail", "inbox", "");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("beta", "mail", "ConfigurationSuccessful");
    expect_reason("apps", "mail", DUPLICATE);
    fake_drop("Destination", "apps", "first");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("beta", "mail", "ConfigurationSuccessful");
    fake_drop("Destination", "beta", "mail");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "mail", "ConfigurationSuccessful");
    assert_int_equal(count_listeners(), 1);
}

/* An older CR adds a tenant whose Service would have a name that is in use. */
static void tenant_that_comes_later(void **state)
{
    (void)state;
    configure("'config':{'tenantMode':'shared'}");
    put_namespace("beta");
    put_cr("apps", "a-b", "inbox", "");
    put_tenants("apps", "a-b", "[\\'d\\']");
    put_cr("beta", "a", "inbox", "");
    put_tenants("beta", "a", "[\\'b-c\\']");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    uint16_t port = target_port("a-b-c");
    put_tenants("apps", "a-b", "[\\'c\\',\\'d\\']");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("beta", "a", "ConfigurationSuccessful");
    expect_reason("apps", "a-b", "FailedToApplyConfiguration");
    assert_int_equal(target_port("a-b-c"), port);
    assert_int_equal(count_listeners(), 2);
}

/* ---- places ---- */

static void put_numbered(const char *namespace, const char *what, int n, const char *destination)
{
    char name[32];
    for (int i = 0; i < n; i++) {
        text_fmt(name, sizeof(name), "%s-%d", what, i);
        put_cr(namespace, name, destination, "");
    }
}

/* Checks that the three CRs from `first` on have the three places of the namespace, and that the
 * others up to `last` have none. */
static void expect_places(const char *namespace, int first, int last)
{
    char name[32];
    for (int i = first; i <= last; i++) {
        text_fmt(name, sizeof(name), "mail-%d", i);
        expect_reason(namespace, name,
                      i < first + 3 ? "ConfigurationSuccessful" : "ConfigurationFailed");
        assert_int_equal(exists("Service", HOME, name), i < first + 3);
    }
}

static void places_are_bounded(void **state)
{
    (void)state;
    world.settings.namespace_targets = 3;
    put_namespace("beta");
    put_numbered("apps", "mail", 6, "inbox");
    put_numbered("beta", "other", 2, "inbox");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_places("apps", 0, 5);
    assert_non_null(strstr(condition_of("apps", "mail-4", "message"),
                           "have all 3 targets that one namespace may have (--namespace-targets)"));
    expect_reason("beta", "other-1", "ConfigurationSuccessful");
    assert_int_equal(count_listeners(), 5);

    restart_controller();
    world_forget_journal();
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_calls("");

    fake_drop("Destination", "apps", "mail-0");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_places("apps", 1, 5);
    assert_int_equal(count_listeners(), 5);
}

/* CRs of other proxies take no places, although that is known only after their destinations have
 * been read. */
static void others_take_no_places(void **state)
{
    (void)state;
    world.settings.namespace_targets = 3;
    refuse("web", VERDICT_TYPE_NOT_SUPPORTED);
    world.source_mute = true;
    put_numbered("apps", "web", 5, "web");
    put_numbered("apps", "mail", 4, "inbox");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_string_equal(condition_of("apps", "mail-3", "reason"), "");
    world.source_mute = false;
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_places("apps", 0, 3);
    serve("web"); /* now they are mail, and the oldest CRs */
    controller_look_again(replica->controller, "web");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "web-2", "ConfigurationSuccessful");
    expect_reason("apps", "web-3", "ConfigurationFailed");
    expect_reason("apps", "mail-0", "ConfigurationFailed");
    assert_int_equal(count_listeners(), 3);
}

static void places_of_tenants(void **state)
{
    (void)state;
    world.settings.namespace_targets = 3;
    configure("'config':{'tenantMode':'shared'}");
    put_cr("apps", "one", "inbox", "");
    put_tenants("apps", "one", "[\\'a\\',\\'b\\']");
    put_cr("apps", "two", "inbox", "");
    put_tenants("apps", "two", "[\\'a\\',\\'b\\']");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "one", "ConfigurationSuccessful");
    expect_reason("apps", "two", "FailedToApplyConfiguration");
    assert_true(exists("Service", HOME, "two-a"));
    assert_false(exists("Service", HOME, "two-b"));
    put_tenants("apps", "one", "[\\'a\\']");
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "two", "ConfigurationSuccessful");
    assert_int_equal(count_listeners(), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        cmocka_unit_test(work_is_linear),
        TEST(message_names_the_first),
        TEST(age_begins_anew),
        TEST(name_that_is_in_use),
        TEST(service_of_a_name_in_use),
        TEST(service_that_is_made_foreign),
        TEST(name_that_nobody_can_use),
        TEST(name_after_an_outage),
        TEST(name_after_an_outage_that_lasts),
        TEST(name_without_a_place),
        TEST(tenant_that_comes_later),
        TEST(places_are_bounded),
        TEST(others_take_no_places),
        TEST(places_of_tenants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
