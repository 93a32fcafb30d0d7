/* Tests which CR has a name, a port or a namespace, and which CRs belong to another proxy. */
#include "tests/unit/world/controller.h"

#define DUPLICATE "ConfigurationError-DuplicateDestinationCustomResource"
#define SUCCESS "ConfigurationSuccessful"

static void start(void)
{
    start_controller();
    pass(SECONDS(1));
    world_forget_journal();
}

static void expect_rest(void)
{
    world_forget_journal();
    pass_slowly(SECONDS(120), SECONDS(5));
    expect_calls("");
}

static bool journal_says(const char *text)
{
    /* The text that the journal holds is not terminated. */
    char *copy = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    bool says = strstr(copy, text) != NULL;
    free(copy);
    return says;
}

/* ---- names ---- */

/* The oldest of several CRs gets the name, whichever the watch reports first. */
static void the_older_one_has_the_name(void **state)
{
    (void)state;
    put_namespace("beta");
    put_cr("beta", "inbox", "inbox", "");
    put_cr(HOME, "inbox", "inbox", "");
    put_cr("apps", "inbox", "inbox", "");
    for (int i = 0; i < 2; i++) {
        start();
        expect_reason("beta", "inbox", SUCCESS);
        expect_reason(HOME, "inbox", DUPLICATE);
        expect_reason("apps", "inbox", DUPLICATE);
        assert_string_equal(condition_of("apps", "inbox", "message"),
                            "Technical connectivity is not configured. A Destination CR named "
                            "\"inbox\" in the namespace \"beta\" has the name of the Service; "
                            "rename this one");
        assert_false(exists("Service", "apps", "inbox"));
        expect_rest();
        stop_controller();
    }
}

static void the_name_passes_on(void **state)
{
    (void)state;
    put_namespace("beta");
    put_cr("beta", "inbox", "inbox", "");
    put_cr("apps", "inbox", "inbox", "");
    start();
    uint16_t port = target_port("inbox");
    fake_drop("Destination", "beta", "inbox");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", SUCCESS);
    assert_true(exists("Service", "apps", "inbox"));
    assert_false(exists("Service", "beta", "inbox"));
    /* The port changes, so that clients of beta do not reach the mailbox of apps. */
    assert_int_not_equal(target_port("inbox"), port);
    assert_int_equal(replica->listeners[port], 0);
    assert_false(journal_says("AlreadyPresent"));
    expect_rest();

    /* The name goes back, but not to a CR that is deleted and applied again at once. */
    put_cr("beta", "inbox", "inbox", "");
    pass_slowly(SECONDS(5), MILLIS(100));
    port = target_port("inbox");
    fake_drop("Destination", "apps", "inbox");
    put_cr("apps", "inbox", "inbox", "");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", SUCCESS);
    assert_int_equal(target_port("inbox"), port);
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("beta", "inbox", SUCCESS);
    assert_false(journal_says("AlreadyPresent"));
    expect_rest();
}

/* A CR that is being deleted loses its name. A CR whose destination has not been read does not have
 * its name yet. */
static void names_of_deleted_and_unread_crs(void **state)
{
    (void)state;
    put_namespace("beta");
    put_cr("beta", "inbox", "inbox", "");
    fake_put("Destination", "beta", "inbox", "{'metadata':{'finalizers':['somebody/else']}}");
    put_cr("apps", "inbox", "inbox", "");
    world.source_mute = true;
    start();
    assert_false(exists("Service", HOME, "inbox"));
    world.source_mute = false;
    settle();
    expect_reason("beta", "inbox", SUCCESS);
    fake_drop("Destination", "beta", "inbox");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", SUCCESS);
    expect_rest();
    assert_true(exists("Destination", "beta", "inbox"));
}

static void invalid_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "a.b", "a-", "sap-transp-proxy-tcp",
        "a2345678901234567890123456789012345678901234567890123456789012-64"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        put_cr("apps", names[i], "inbox", "");
    }
    start();
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        expect_reason("apps", names[i], "ServiceCreationFailed");
        assert_false(exists("Service", HOME, names[i]));
    }
    assert_int_equal(count_listeners(), 0);
    expect_rest();
}

/* ---- whose CR is it? ---- */

#define THEIRS                                                                                     \
    "{'metadata':{'managedFields':[{'manager':'theirs','fieldsV1':{'f:status':{'f:conditions':"    \
    "{}}}}]},'status':{'conditions':[{'type':'Available','status':'True','reason':'Theirs',"       \
    "'message':'m'}]}}"

static void crs_of_other_proxies(void **state)
{
    (void)state;
    refuse("website", VERDICT_TYPE_NOT_SUPPORTED);
    put_cr("apps", "website", "website", "");
    put_cr("apps", "gateway", "*", "");
    put_cr("apps", "lost", "lost", "");
    fake_put("Destination", "apps", "lost", THEIRS);
    refuse("odd", VERDICT_UNREADABLE);
    put_cr("apps", "odd", "odd", "");
    fake_put("Destination", "apps", "odd", THEIRS);
    start();
    expect_rest();
    expect_reason("apps", "website", "");
    expect_reason("apps", "gateway", "");
    expect_reason("apps", "lost", "Theirs");
    expect_reason("apps", "odd", "Theirs");
    assert_int_equal(count_listeners(), 0);
    assert_int_equal(world.gone, 0);
}

static void crs_without_another_proxy(void **state)
{
    (void)state;
    refuse("website", VERDICT_TYPE_NOT_SUPPORTED);
    put_cr("apps", "website", "website", "");
    put_cr("apps", "gateway", "*", "");
    put_cr("apps", "lost", "lost", "");
    fake_put("Destination", "apps", "lost", THEIRS);
    world.settings.claim_all = true;
    start();
    expect_reason("apps", "website", "ConfigurationError-ReferencedDestination-TypeNotSupported");
    expect_reason("apps", "gateway", "ConfigurationError-DynamicDestination-NotSupported");
    expect_reason("apps", "lost", "ConfigurationError-ReferencedDestination-NotFound");
    expect_rest();
}

/* A destination that later becomes one for HTTP is no longer ours. */
static void not_ours_any_more(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start();
    refuse("inbox", VERDICT_TYPE_NOT_SUPPORTED);
    pass_slowly(SECONDS(200), SECONDS(5));
    expect_reason("apps", "inbox", "");
    assert_false(exists("Service", HOME, "inbox"));
    assert_false(exists("NetworkPolicy", HOME, "tproxy-namespace-apps"));
    assert_int_equal(count_listeners(), 0);
    expect_rest();
    serve("inbox");
    pass_slowly(SECONDS(200), SECONDS(5));
    expect_reason("apps", "inbox", SUCCESS);
}

/* The Service of a destination that no longer exists stays, and sessions get the reason. */
static void destination_deleted_and_created(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start();
    uint16_t port = target_port("inbox");
    refuse("inbox", VERDICT_NOT_FOUND);
    pass_slowly(SECONDS(200), SECONDS(5));
    expect_reason("apps", "inbox", "ConfigurationError-ReferencedDestination-NotFound");
    assert_int_not_equal(replica->listeners[port], 0);
    expect_rest();
    restart_controller(); /* the listener is back before the destination is read */
    settle();
    assert_int_not_equal(replica->listeners[port], 0);
    expect_rest();
    serve("inbox");
    pass_slowly(SECONDS(200), SECONDS(5));
    expect_reason("apps", "inbox", SUCCESS);
    assert_int_equal(target_port("inbox"), port);
}

/* A destination with an error is read again soon, then less and less often. */
static void destinations_with_errors_are_read_again(void **state)
{
    (void)state;
    put_cr("apps", "lost", "lost", "");
    put_cr("apps", "inbox", "inbox", "");
    start();
    assert_int_equal(world.finds, 2);
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(world.finds, 3);
    pass_slowly(SECONDS(355), SECONDS(1));
    assert_in_range(world.finds, 3 + 5 + 1, 3 + 8 + 3);
    unsigned before = world.finds;
    pass_slowly(SECONDS(3600), SECONDS(1));
    assert_in_range(world.finds - before, 40, 48); /* both destinations every three minutes */
}

/* ---- namespaces ---- */

#define LABELLED                                                                                   \
    "{'metadata':{'labels':{'transparent-proxy.connectivity.api.sap/namespace':'home'}}}"
#define UNLABELLED "{'metadata':{'labels':null}}"

static void labelled_namespaces(void **state)
{
    (void)state;
    configure("'config':{'managedNamespacesMode':'labelSelector'}");
    put_namespace("beta");
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "inbox", "inbox", "");
    start();
    expect_reason("apps", "inbox", "");
    expect_reason("beta", "inbox", "");
    expect_rest();
    fake_put("Namespace", "", "beta", LABELLED);
    settle();
    expect_reason("apps", "inbox", "");
    expect_reason("beta", "inbox", SUCCESS);
    fake_put("Namespace", "", "apps", LABELLED);
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", DUPLICATE); /* although it is older */
    expect_reason("beta", "inbox", SUCCESS);
    fake_put("Namespace", "", "beta", UNLABELLED);
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", SUCCESS);
    expect_reason("beta", "inbox", "");
    assert_false(exists("Service", "beta", "inbox"));
    expect_rest();
    configure("");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", SUCCESS);
    expect_reason("beta", "inbox", DUPLICATE);
}

/* When namespaces are managed again, the name goes to the oldest CR, even while what was its own is
 * still being removed. */
static void managed_again(void **state)
{
    (void)state;
    enum { ROUNDS = 200, DEEDS = 40 };
    put_namespace("beta");
    put_cr("beta", "inbox", "inbox", "");
    put_cr("apps", "inbox", "inbox", "");
    start();
    world.shuffled = true;
    for (int i = 0; i < ROUNDS; i++) {
        configure("'config':{'managedNamespacesMode':'labelSelector'}");
        for (size_t n = world_rand(DEEDS); n > 0 && world_deed(); n--) {
        }
        configure("");
        pass_slowly(SECONDS(5), MILLIS(100));
        expect_reason("beta", "inbox", SUCCESS);
        expect_reason("apps", "inbox", DUPLICATE);
    }
}

/* Without the right to list namespaces the controller does not know which are managed, and removes
 * nothing. */
static void unknown_namespaces(void **state)
{
    (void)state;
    const char *why;
    configure("'config':{'managedNamespacesMode':'labelSelector'}");
    fake_put("Namespace", "", "apps", LABELLED);
    put_cr("apps", "inbox", "inbox", "");
    start();
    fake_set_presence("Namespace", CLUSTER_FORBIDDEN);
    expect_rest();
    restart_controller();
    expect_rest();
    assert_false(controller_ready(replica->controller, &why));
    assert_string_equal(why, "Namespaces");
    fake_set_presence("Namespace", CLUSTER_PRESENT);
    pass(SECONDS(1));
    assert_true(controller_ready(replica->controller, &why));
    expect_calls("");
}

/* ---- ports ---- */

/* Two Services have the same port: nobody is served there until the younger one has another
 * port. */
static void two_services_with_one_port(void **state)
{
    (void)state;
    put_cr("apps", "old", "inbox", "");
    put_cr("apps", "young", "inbox", "");
    start();
    uint16_t port = target_port("old");
    stop_controller();
    char patch[256];
    text_fmt(patch, sizeof(patch),
             "{'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp','port':110,"
             "'targetPort':%d}]}}",
             port);
    fake_put("Service", HOME, "young", patch);
    world.source_mute = true;
    start();
    assert_int_equal(count_listeners(), 0);
    world.source_mute = false;
    pass_slowly(SECONDS(5), MILLIS(100));
    assert_int_equal(target_port("old"), port);
    assert_int_not_equal(target_port("young"), port);
    assert_int_equal(count_listeners(), 2);
    expect_reason("apps", "old", SUCCESS);
    expect_reason("apps", "young", SUCCESS);
    expect_rest();
}

/* Somebody has copied a Service of ours, with its labels and its port. */
static void a_copied_service(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start();
    uint16_t port = target_port("inbox");
    for (int i = 0; i < 2; i++) {
        char *text = strdup(fake_find("Service", HOME, "inbox")->text);
        fake_create("Service", HOME, "copy", text);
        free(text);
        if (i == 1) {
            restart_controller();
        }
        pass_slowly(SECONDS(5), MILLIS(100));
        assert_false(exists("Service", HOME, "copy"));
        assert_int_equal(target_port("inbox"), port);
        assert_int_not_equal(replica->listeners[port], 0);
        expect_rest();
    }
}

/* A Service whose labels were changed to name another CR. */
static void a_relabelled_service(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start();
    fake_put("Service", HOME, "inbox",
             "{'metadata':{'labels':{'tproxy/destination-name':'x'},'annotations':null}}");
    pass_slowly(SECONDS(70), SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_int_not_equal(replica->listeners[target_port("inbox")], 0);
    expect_rest();
}

static void ports_rest(void **state)
{
    (void)state;
    world.settings.last_port = FIRST_PORT + 1;
    put_cr("apps", "inbox", "inbox", "");
    start();
    uint16_t port = target_port("inbox");
    for (int i = 0; i < 2; i++) {
        fake_drop("Destination", "apps", "inbox");
        pass(SECONDS(1));
        put_cr("apps", "inbox", "inbox", "");
        pass(SECONDS(1));
        if (i == 0) {
            assert_int_not_equal(target_port("inbox"), port);
        }
    }
    expect_reason("apps", "inbox", "ServiceCreationFailed");
    const char *said = condition_of("apps", "inbox", "message");
    assert_non_null(strstr(said, "no port is left in --target-ports 20000-20001: 0 are in use, 2 "
                                 "rest after their mailboxes have gone, the first of them until "));
    pass_slowly(SECONDS(14 * 60), SECONDS(10));
    expect_reason("apps", "inbox", "ServiceCreationFailed");
    pass_slowly(SECONDS(3 * 60), SECONDS(10));
    expect_reason("apps", "inbox", SUCCESS);
    expect_rest();
}

/* The port of a Service is in use by another process, or we may not bind it. */
static void ports_that_cannot_be_bound(void **state)
{
    (void)state;
    static const int errors[] = {EADDRINUSE, EACCES};
    put_cr("apps", "inbox", "inbox", "");
    start();
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        uint16_t port = target_port("inbox");
        stop_controller();
        replica->refuses[port] = errors[i];
        start();
        assert_int_not_equal(target_port("inbox"), port);
        assert_int_not_equal(replica->listeners[target_port("inbox")], 0);
        expect_reason("apps", "inbox", SUCCESS);
        expect_rest();
    }
    world.settings.last_port = FIRST_PORT;
    stop_controller();
    memset(replica->refuses, 1, sizeof(replica->refuses));
    start();
    expect_reason("apps", "inbox", "ServiceCreationFailed");
    memset(replica->refuses, 0, sizeof(replica->refuses));
    pass_slowly(SECONDS(1000), SECONDS(10));
    expect_reason("apps", "inbox", SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(the_older_one_has_the_name),
        TEST(the_name_passes_on),
        TEST(names_of_deleted_and_unread_crs),
        TEST(invalid_names),
        TEST(crs_of_other_proxies),
        TEST(crs_without_another_proxy),
        TEST(not_ours_any_more),
        TEST(destination_deleted_and_created),
        TEST(destinations_with_errors_are_read_again),
        TEST(labelled_namespaces),
        TEST(managed_again),
        TEST(unknown_namespaces),
        TEST(two_services_with_one_port),
        TEST(a_copied_service),
        TEST(a_relabelled_service),
        TEST(ports_rest),
        TEST(ports_that_cannot_be_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
