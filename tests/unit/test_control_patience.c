/* Tests trouble that lasts long or for ever and affects one Service, one namespace or one tenant:
 * those affected are told, and nobody else waits. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"
#define PRESENT "ConfigurationError-K8sResourceWithNameAlreadyPresent"
#define CREATION "ServiceCreationFailed"
#define SHARED "'config':{'tenantMode':'shared'}"
#define Q "\\'"

static bool ready(void)
{
    const char *why;
    return controller_ready(replica->controller, &why);
}

static bool journal_says(const char *text)
{
    char *copy = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    bool says = strstr(copy, text) != NULL;
    free(copy);
    return says;
}

static unsigned count_in_journal(const char *text)
{
    char *copy = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    unsigned n = 0;
    for (const char *at = strstr(copy, text); at; at = strstr(at + 1, text)) {
        n++;
    }
    free(copy);
    return n;
}

#define expect_words(namespace, name, words)                                                       \
    if (!strstr(condition_of(namespace, name, "message"), words)) {                                \
        fail_msg("%s is not in: %s", words, condition_of(namespace, name, "message"));             \
    }

static void serve_inbox(void)
{
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    world_forget_journal();
}

/* ---- calls that the API server rejects for now ---- */

static enum cluster_result bad_webhook(const struct cluster_call *call)
{
    return strcmp(call->namespace, "evil") == 0 && strcmp(call->kind->kind, "Service") == 0
               ? CLUSTER_LATER
               : CLUSTER_DONE;
}

/* An admission webhook of one namespace fails. */
static void webhook_of_one_namespace(void **state)
{
    (void)state;
    put_namespace("evil");
    put_cr("evil", "x", "inbox", "");
    put_cr("apps", "inbox", "inbox", "");
    fake.fate = bad_webhook;
    start_controller();
    pass(MILLIS(100));
    expect_reason("apps", "inbox", SUCCESS);
    expect_reason("evil", "x", ""); /* not shown yet, because the failure may pass */
    pass_slowly(SECONDS(9), SECONDS(1));
    assert_true(ready());
    expect_reason("evil", "x", CREATION);
    expect_words("evil", "x", "create Service x: result 5. It is tried again within a minute");
    world_forget_journal();
    pass_slowly(SECONDS(600), SECONDS(1));
    assert_in_range(calls_made(), 8, 24);
    assert_int_equal(fake.calls_made[CLUSTER_PATCH_STATUS], 0);
    fake.fate = NULL;
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_reason("evil", "x", SUCCESS);
}

static enum cluster_result not_for_b(const struct cluster_call *call)
{
    return call->verb == CLUSTER_CREATE && strcmp(call->name, "mail-b") == 0 ? CLUSTER_LATER
                                                                             : CLUSTER_DONE;
}

/* The Service of one tenant cannot be created: the other tenants are served. */
static void service_of_one_tenant(void **state)
{
    (void)state;
    configure(SHARED);
    put_cr("apps", "mail", "inbox", "");
    put_tenants("apps", "mail", "[" Q "a" Q "," Q "b" Q "," Q "c" Q "]");
    fake.fate = not_for_b;
    start_controller();
    settle();
    assert_true(exists("Service", "apps", "mail-a") && exists("Service", "apps", "mail-c"));
    assert_false(exists("Service", HOME, "mail-b"));
    pass_slowly(SECONDS(9), SECONDS(1));
    expect_reason("apps", "mail", "FailedToApplyConfiguration");
    expect_words("apps", "mail", "Configuration failed for tenants: [\"b\"]. b: create Service");
    assert_true(ready());
    fake.fate = NULL;
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_reason("apps", "mail", SUCCESS);
}

/* Readiness waits for at most a minute, whatever the resources wait for. */
static void readiness_is_bounded(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    world.source_mute = true;
    start_controller();
    pass_slowly(SECONDS(59), SECONDS(1));
    assert_false(ready());
    pass_slowly(SECONDS(2), SECONDS(1));
    assert_true(ready());
}

/* ---- what cannot be deleted ---- */

#define HOLD "{'metadata':{'finalizers':['theirs/hold']}}"
#define RELEASE "{'metadata':{'finalizers':null}}"
#define STUCK "create Event apps/ ServiceDeletionFailed"

/* The alias of a deleted CR cannot be deleted: one Event reports it, and everything else is
 * deleted. */
static void alias_that_stays(void **state)
{
    (void)state;
    serve_inbox();
    fake_put("Service", "apps", "inbox", HOLD);
    settle();
    world_forget_journal();
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(120), SECONDS(1));
    assert_int_equal(count_listeners(), 0);
    assert_false(exists("NetworkPolicy", HOME, "tproxy-namespace-apps") &&
                 !exists("Service", HOME, "inbox"));
    assert_int_equal(count_in_journal(STUCK), 1);
    assert_int_equal(controller_health(replica->controller).stuck, 1);
    restart_controller();
    pass_slowly(SECONDS(30), SECONDS(1));
    assert_true(ready());
    fake_put("Service", "apps", "inbox", RELEASE);
    pass_slowly(SECONDS(10), SECONDS(1));
    assert_false(exists("Service", "apps", "inbox") || exists("Service", HOME, "inbox"));
    assert_int_equal(controller_health(replica->controller).stuck, 0);
}

static enum cluster_result no_deletion(const struct cluster_call *call)
{
    return call->verb == CLUSTER_DELETE && strcmp(call->kind->kind, "Service") == 0
               ? CLUSTER_REFUSED
               : CLUSTER_DONE;
}

/* The Service of a removed tenant cannot be deleted: other tenants are added and removed, and the
 * condition reports it. */
static void service_of_a_former_tenant(void **state)
{
    (void)state;
    configure(SHARED);
    put_cr("apps", "mail", "inbox", "");
    put_tenants("apps", "mail", "[" Q "a" Q "]");
    start_controller();
    pass(SECONDS(1));
    fake.fate = no_deletion;
    put_tenants("apps", "mail", "[" Q "b" Q "]");
    settle();
    assert_true(exists("Service", "apps", "mail-b"));
    expect_reason("apps", "mail", SUCCESS);
    world_forget_journal();
    pass_slowly(SECONDS(120), SECONDS(1));
    expect_reason("apps", "mail", SUCCESS);
    expect_words("apps", "mail", "is not needed any more and cannot be deleted: delete Service");
    assert_int_equal(controller_health(replica->controller).stuck, 1);
    assert_int_equal(count_in_journal(STUCK), 1);
    assert_in_range(calls_made(), 8, 40);
    put_tenants("apps", "mail", "[" Q "a" Q "," Q "b" Q "]"); /* the Service is needed again */
    pass(SECONDS(1));
    assert_int_equal(controller_health(replica->controller).stuck, 0);
    assert_null(strstr(condition_of("apps", "mail", "message"), "cannot be deleted"));
    put_tenants("apps", "mail", "[" Q "b" Q "]");
    fake.fate = NULL;
    pass_slowly(SECONDS(120), SECONDS(1));
    assert_false(exists("Service", "apps", "mail-a") || exists("Service", HOME, "mail-a"));
}

/* A CR that is refused shows its reason although its Services cannot be deleted. */
static void refused_with_services_that_stay(void **state)
{
    (void)state;
    serve_inbox();
    fake.fate = no_deletion;
    configure(SHARED);
    pass_slowly(SECONDS(20), SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationError-MultitenancyAnnotation-Invalid");
    expect_words("apps", "inbox", "cannot be deleted: delete Service inbox");
    assert_int_equal(count_listeners(), 0);
}

/* A user's Service that is identical to ours withholds the name only from CRs of its own
 * namespace. */
static void name_that_is_held(void **state)
{
    (void)state;
    put_cr("apps", "other", "inbox", "");
    fake_put(
        "Service", "apps", "inbox",
        "{'metadata':{'finalizers':['theirs/hold'],'managedFields':[{'manager':'tproxy-home'}],"
        "'ownerReferences':[{'apiVersion':'destination.connectivity.api.sap/v1',"
        "'kind':'Destination','name':'nobody','uid':'u99'}],'labels':{"
        "'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'home',"
        "'tproxy/destination-namespace':'apps','tproxy/destination-name':'nobody'}},"
        "'spec':{'type':'ExternalName','externalName':'nowhere.example.com'}}");
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass_slowly(SECONDS(9), SECONDS(1));
    assert_true(ready());
    expect_reason("apps", "other", SUCCESS);
    expect_reason("apps", "inbox", PRESENT);
    expect_words("apps", "inbox", "was made for the Destination CR \"nobody\"");
    assert_int_equal(count_in_journal(STUCK), 1);
    pass_slowly(SECONDS(300), SECONDS(1));
    fake_put("Service", "apps", "inbox", RELEASE);
    pass(SECONDS(1)); /* without waiting for the next retry */
    expect_reason("apps", "inbox", SUCCESS);
}

/* ---- pauses end ---- */

static enum cluster_result no_status(const struct cluster_call *call)
{
    return call->verb == CLUSTER_PATCH_STATUS ? CLUSTER_LATER : CLUSTER_DONE;
}

/* Deleting a CR closes its listener at once, even in the middle of a pause. */
static void gone_in_a_pause(void **state)
{
    (void)state;
    for (int finalizer = 0; finalizer < 2; finalizer++) {
        put_cr("apps", "inbox", "inbox", "");
        start_controller();
        pass(SECONDS(1));
        fake.fate = no_status;
        fake_put("Destination", "apps", "inbox", "{'status':null}");
        pass_slowly(SECONDS(200), SECONDS(1));
        assert_int_equal(count_listeners(), 1);
        if (finalizer) {
            fake_put("Destination", "apps", "inbox", HOLD);
        }
        fake_drop("Destination", "apps", "inbox");
        settle();
        assert_int_equal(count_listeners(), 0);
        fake.fate = NULL;
        if (finalizer) {
            fake_put("Destination", "apps", "inbox", RELEASE);
        }
        pass(SECONDS(5));
        stop_controller();
    }
}

static bool creations_hang(const struct cluster_call *call)
{
    return call->verb == CLUSTER_CREATE && strcmp(call->namespace, "apps") == 0;
}

/* Deleting a CR closes its listener even while a call is unanswered. */
static void gone_during_a_call(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    fake.holds = creations_hang;
    start_controller();
    pass(SECONDS(1));
    assert_int_equal(count_listeners(), 1);
    assert_true(exists("Service", HOME, "inbox"));
    fake_drop("Destination", "apps", "inbox");
    settle();
    assert_int_equal(count_listeners(), 0);
    assert_false(exists("Service", HOME, "inbox"));
    fake.holds = NULL;
    put_cr("apps", "inbox", "inbox", "");
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
}

#define LABELLED                                                                                   \
    "{'metadata':{'labels':{'transparent-proxy.connectivity.api.sap/namespace':'home'}}}"

static void unlabelled_in_a_pause(void **state)
{
    (void)state;
    configure("'config':{'managedNamespacesMode':'labelSelector'}");
    fake_put("Namespace", "", "apps", LABELLED);
    serve_inbox();
    fake.fate = no_status;
    fake_put("Destination", "apps", "inbox", "{'status':null}");
    pass_slowly(SECONDS(200), SECONDS(1));
    fake_put("Namespace", "", "apps", "{'metadata':{'labels':null}}");
    settle();
    assert_int_equal(count_listeners(), 0);
    assert_true(journal_says("delete Service apps/inbox"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(webhook_of_one_namespace),   TEST(service_of_one_tenant),
        TEST(readiness_is_bounded),       TEST(alias_that_stays),
        TEST(service_of_a_former_tenant), TEST(refused_with_services_that_stay),
        TEST(name_that_is_held),          TEST(gone_in_a_pause),
        TEST(gone_during_a_call),         TEST(unlabelled_in_a_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
