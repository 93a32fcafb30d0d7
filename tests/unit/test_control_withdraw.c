/* Tests how Services are removed, including objects that cannot be deleted at once. The alias in
 * the CR's namespace is deleted or leads nowhere before another CR can get the name of the home
 * Service. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"
#define PRESENT "ConfigurationError-K8sResourceWithNameAlreadyPresent"
#define HELD "{'metadata':{'finalizers':['example.com/hold']}}"
#define RELEASED "{'metadata':{'finalizers':null}}"
#define NOWHERE "withdrawn.tproxy.invalid"
#define LEADS_HOME "{'spec':{'externalName':'inbox.home.svc.cluster.local'}}"

/* Two CRs need one name; the CR of apps is older and has it. */
static void serve_inbox(void)
{
    put_namespace("beta");
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    world_forget_journal();
}

static const char *owner_at_home(void)
{
    const char *path = "metadata.labels.tproxy/destination-namespace";
    return exists("Service", HOME, "inbox") ? text_at("Service", HOME, "inbox", path) : "";
}

static const char *lead(void)
{
    return exists("Service", "apps", "inbox")
               ? text_at("Service", "apps", "inbox", "spec.externalName")
               : "";
}

/* Checks the calls about Services so far, in their order. */
static void expect_service_calls(const char *lines)
{
    struct str rest = buf_str(&fake.journal);
    struct buf got;
    buf_init(&got, SIZE_MAX);
    while (rest.n) {
        struct str line = str_cut(&rest, '\n');
        char *text = mem_strndup(line.p, line.n);
        if (strstr(text, " Service ")) {
            assert_int_equal(buf_fmt(&got, "%s\n", text), OK);
        }
        free(text);
    }
    assert_int_equal(buf_add(&got, "", 1), OK);
    assert_string_equal(buf_str(&got).p, lines);
    buf_free(&got);
    world_forget_journal();
}

#define SERVED_IN_BETA "create Service home/inbox\ncreate Service beta/inbox\n"

/* A DELETE is answered with success while a finalizer keeps the home Service. */
static void finalizer_on_home_service(void **state)
{
    (void)state;
    serve_inbox();
    fake_put("Service", HOME, "inbox", HELD);
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(70), SECONDS(1));
    expect_service_calls("delete Service apps/inbox\ndelete Service home/inbox\n");
    assert_string_equal(owner_at_home(), "apps");
    assert_int_equal(world.gone, 0);
    expect_reason("beta", "inbox", PRESENT);
    assert_string_equal(condition_of("beta", "inbox", "message"),
                        "Technical connectivity is not configured. The Service \"inbox\" in the "
                        "namespace \"home\" was made for the Destination CR \"inbox\" in the "
                        "namespace \"apps\" and is being deleted; it waits for its finalizers, "
                        "see its metadata.finalizers");
    fake_put("Service", HOME, "inbox", RELEASED);
    pass_slowly(SECONDS(5), MILLIS(100));
    assert_int_equal(world.gone, 1);
    expect_reason("beta", "inbox", SUCCESS);
    assert_string_equal(owner_at_home(), "beta");
}

/* The ways in which the CR of apps loses its name. */
static void cr_goes(void)
{
    fake_drop("Destination", "apps", "inbox");
}

static void destination_is_not_mail(void)
{
    refuse("inbox-apps", VERDICT_TYPE_NOT_SUPPORTED);
    put_cr("apps", "inbox", "inbox-apps", "");
}

static void namespace_is_not_managed(void)
{
    fake_put("Namespace", "", "beta",
             "{'metadata':{'labels':{'transparent-proxy.connectivity.api.sap/namespace':'home'}}}");
    configure("'config':{'managedNamespacesMode':'labelSelector'}");
}

/* If the alias cannot be deleted, it leads nowhere before the name goes to another CR, in each of
 * these ways. */
static void finalizer_on_alias(void **state)
{
    (void)state;
    void (*const ways[])(void) = {cr_goes, destination_is_not_mail, namespace_is_not_managed};
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        serve_inbox();
        fake_put("Service", "apps", "inbox", HELD);
        world_forget_journal();
        ways[i]();
        pass_slowly(SECONDS(5), MILLIS(100));
        expect_service_calls("delete Service apps/inbox\napply Service apps/inbox\n"
                             "delete Service home/inbox\n" SERVED_IN_BETA);
        assert_string_equal(lead(), NOWHERE);
        expect_reason("beta", "inbox", SUCCESS);

        /* Later edits by the alias's users have no effect on others. */
        fake_put("Service", "apps", "inbox", LEADS_HOME);
        pass_slowly(SECONDS(70), SECONDS(1));
        expect_service_calls("");
        fake_put("Service", "apps", "inbox", RELEASED);
        pass_slowly(SECONDS(5), MILLIS(100));
        assert_false(exists("Service", "apps", "inbox"));
        teardown(state);
        setup(state);
    }
}

/* The result of these calls for Services of the namespace apps. */
static struct {
    enum cluster_verb first, last;
    enum cluster_result result;
} fault;

static enum cluster_result fate(const struct cluster_call *call)
{
    bool meant = strcmp(call->kind->kind, "Service") == 0 && strcmp(call->namespace, "apps") == 0;
    return meant && (call->verb == fault.first || call->verb == fault.last) ? fault.result
                                                                            : CLUSTER_DONE;
}

static void break_apps(enum cluster_verb first, enum cluster_verb last, enum cluster_result result)
{
    fault.first = first;
    fault.last = last;
    fault.result = result;
    fake.fate = fate;
}

static void alias_cannot_be_deleted(void **state)
{
    (void)state;
    static const enum cluster_result results[] = {CLUSTER_REFUSED, CLUSTER_LATER};
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        serve_inbox();
        break_apps(CLUSTER_DELETE, CLUSTER_DELETE, results[i]);
        cr_goes();
        pass_slowly(MILLIS(500), MILLIS(100));
        expect_service_calls("delete Service apps/inbox\napply Service apps/inbox\n"
                             "delete Service home/inbox\ncreate Service home/inbox\n"
                             "delete Service apps/inbox\ncreate Service beta/inbox\n");
        assert_string_equal(lead(), NOWHERE);
        expect_reason("beta", "inbox", SUCCESS);
        pass_slowly(SECONDS(600), SECONDS(1));
        assert_in_range(fake.calls_made[CLUSTER_DELETE], 8, 40);
        assert_int_equal(fake.calls_made[CLUSTER_APPLY], 0);
        fake.fate = NULL;
        pass_slowly(SECONDS(65), SECONDS(1));
        assert_string_equal(lead(), "");
        assert_int_equal(world.gone, 1);
        teardown(state);
        setup(state);
    }
}

/* While the alias leads to the home Service, no other CR gets the name. */
static void alias_can_be_neither_deleted_nor_changed(void **state)
{
    (void)state;
    static const enum cluster_result results[] = {CLUSTER_REFUSED, CLUSTER_LATER};
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        serve_inbox();
        uint16_t port = target_port("inbox");
        break_apps(CLUSTER_DELETE, CLUSTER_APPLY, results[i]);
        cr_goes();
        pass_slowly(SECONDS(600), SECONDS(1));
        assert_string_equal(owner_at_home(), "apps");
        assert_string_equal(lead(), "inbox.home.svc.cluster.local");
        assert_int_equal(replica->listeners[port], 0);
        assert_in_range(fake.calls_made[CLUSTER_DELETE], 8, 40);
        assert_in_range(fake.calls_made[CLUSTER_APPLY], 8, 40);
        expect_reason("beta", "inbox", PRESENT);
        assert_non_null(strstr(condition_of("beta", "inbox", "message"),
                               "stays until the Service of this name there has been deleted or "
                               "leads nowhere"));
        fake.fate = NULL;
        pass_slowly(SECONDS(65), SECONDS(1));
        expect_reason("beta", "inbox", SUCCESS);
        assert_string_equal(lead(), "");
        teardown(state);
        setup(state);
    }
}

/* A CR that has lost its name shows that in its condition at once, although its Services cannot be
 * deleted yet. */
static void condition_does_not_wait(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    break_apps(CLUSTER_DELETE, CLUSTER_DELETE, CLUSTER_REFUSED);
    put_cr("apps", "inbox", "*", "");
    world.settings.claim_all = true;
    restart_controller();
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "inbox", "ConfigurationError-DynamicDestination-NotSupported");
    assert_false(exists("Service", HOME, "inbox"));
    assert_string_equal(lead(), NOWHERE);
}

/* The alias leads nowhere; a CR that is applied again gets it back. */
static void cut_off_and_wanted_again(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    fake_put("Service", "apps", "inbox", HELD);
    for (int i = 0; i < 2; i++) {
        cr_goes();
        pass_slowly(SECONDS(5), MILLIS(100));
        assert_string_equal(lead(), NOWHERE);
        assert_string_equal(owner_at_home(), "");
        put_cr("apps", "inbox", "inbox", "");
        pass_slowly(SECONDS(5), MILLIS(100));
        expect_reason("apps", "inbox", SUCCESS);
        assert_string_equal(lead(), "inbox.home.svc.cluster.local");
    }
}

/* A controller that starts with such an alias makes no more calls for it. */
static void start_with_a_cut_alias(void **state)
{
    (void)state;
    serve_inbox();
    fake_put("Service", "apps", "inbox", HELD);
    cr_goes();
    pass_slowly(SECONDS(5), MILLIS(100));
    restart_controller();
    pass(SECONDS(1));
    world_forget_journal();
    pass_slowly(SECONDS(120), SECONDS(1));
    expect_service_calls("");
    expect_reason("beta", "inbox", SUCCESS);
    assert_string_equal(lead(), NOWHERE);
}

/* A tenant's Services are deleted in the same order. A change of the tenant mode deletes all. */
static void services_of_tenants(void **state)
{
    (void)state;
    configure("'config':{'tenantMode':'shared'}");
    put_cr("apps", "inbox", "inbox", "");
    put_tenants("apps", "inbox", "[\\'a\\',\\'b\\']");
    start_controller();
    pass(SECONDS(1));
    fake_put("Service", "apps", "inbox-a", HELD);
    fake_put("Service", "apps", "inbox-b", HELD);
    world_forget_journal();
    put_tenants("apps", "inbox", "[\\'b\\']");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_service_calls("delete Service apps/inbox-a\napply Service apps/inbox-a\n"
                         "delete Service home/inbox-a\n");
    configure("");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_service_calls("delete Service apps/inbox-b\napply Service apps/inbox-b\n"
                         "delete Service home/inbox-b\ncreate Service home/inbox\n"
                         "create Service apps/inbox\n");
    expect_reason("apps", "inbox", SUCCESS);
}

/* If an administrator's labels give the home Service to the CR of beta, that CR has another
 * listener and the alias of apps does not lead to it. */
static void labels_name_another_cr(void **state)
{
    (void)state;
    serve_inbox();
    uint16_t port = target_port("inbox");
    fake_put("Service", HOME, "inbox",
             "{'metadata':{'labels':{'tproxy/destination-namespace':'beta'},'annotations':null}}");
    pass_slowly(SECONDS(5), MILLIS(100));
    const char *owner = strcmp(owner_at_home(), "beta") == 0 ? "beta" : "apps";
    expect_reason(owner, "inbox", SUCCESS);
    assert_int_not_equal(replica->listeners[target_port("inbox")], 0);
    if (strcmp(owner, "beta") == 0) {
        assert_int_not_equal(target_port("inbox"), port);
        assert_string_equal(lead(), "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(finalizer_on_home_service), TEST(finalizer_on_alias),
        TEST(alias_cannot_be_deleted),   TEST(alias_can_be_neither_deleted_nor_changed),
        TEST(condition_does_not_wait),   TEST(cut_off_and_wanted_again),
        TEST(start_with_a_cut_alias),    TEST(services_of_tenants),
        TEST(labels_name_another_cr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
