/* Tests which Services are ours when users of other namespaces write any labels they like: labels
 * are only claims. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"
#define PRESENT "ConfigurationError-K8sResourceWithNameAlreadyPresent"

static bool ready(void)
{
    const char *why;
    return controller_ready(replica->controller, &why);
}

static void serve_inbox(void)
{
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    world_forget_journal();
}

/* The parts of our Services that a user has copied. */
enum forging { LABELS_ONLY, LABELS_AND_OWNER, LABELS_AND_MANAGER, EVERYTHING };

/* Creates a user's Service that claims to be made for a CR and cannot be deleted. */
static void forge(enum forging forging, const char *namespace, const char *name,
                  const char *cr_namespace, const char *cr_name)
{
    char text[1024], owner[256] = "", manager[128] = "";
    if (forging == LABELS_AND_OWNER || forging == EVERYTHING) {
        text_fmt(owner, sizeof(owner),
                 "'ownerReferences':[{'apiVersion':'destination.connectivity.api.sap/v1',"
                 "'kind':'Destination','name':'%s','uid':'u99'}],",
                 cr_name);
    }
    if (forging == LABELS_AND_MANAGER || forging == EVERYTHING) {
        text_fmt(manager, sizeof(manager), "'managedFields':[{'manager':'tproxy-home'}],");
    }
    text_fmt(text, sizeof(text),
             "{'metadata':{'finalizers':['theirs/hold'],%s%s'labels':{"
             "'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'home',"
             "'tproxy/destination-namespace':'%s','tproxy/destination-name':'%s'}},"
             "'spec':{'type':'ExternalName','externalName':'nowhere.example.com'}}",
             owner, manager, cr_namespace, cr_name);
    fake_put("Service", namespace, name, text);
}

/* A forged Service is never changed or deleted. A CR that needs its name reports a foreign
 * Service. */
static void forged_for_another_namespace(void **state)
{
    (void)state;
    put_namespace("evil");
    serve_inbox();
    for (enum forging forging = LABELS_ONLY; forging <= EVERYTHING; forging++) {
        forge(forging, "evil", "x", "apps", "inbox");
        forge(forging, "evil", "y", "nowhere", "nobody");
        put_cr("evil", "x", "inbox", "");
        restart_controller();
        world_forget_journal();
        pass_slowly(SECONDS(120), SECONDS(5));
        assert_true(ready());
        expect_reason("evil", "x", PRESENT);
        assert_int_equal(fake.calls_made[CLUSTER_APPLY] + fake.calls_made[CLUSTER_DELETE], 0);
        assert_string_equal(text_at("Service", "evil", "x", "spec.externalName"),
                            "nowhere.example.com");
        fake_drop("Destination", "evil", "x");
        pass(SECONDS(5));
        assert_false(strstr(text_at("Service", "evil", "x", "metadata"), "deletionTimestamp"));
        fake_remove(fake_find("Service", "evil", "x"));
        fake_remove(fake_find("Service", "evil", "y"));
        pass(SECONDS(5));
    }
    expect_reason("apps", "inbox", SUCCESS);
}

/* The same holds for a CR of the user's own namespace, as long as one of our marks is missing. */
static void forged_for_own_namespace(void **state)
{
    (void)state;
    serve_inbox();
    for (enum forging forging = LABELS_ONLY; forging < EVERYTHING; forging++) {
        forge(forging, "apps", "x", "apps", "nobody");
        restart_controller();
        world_forget_journal();
        pass_slowly(SECONDS(120), SECONDS(5));
        assert_true(ready());
        expect_calls("");
        fake_remove(fake_find("Service", "apps", "x"));
        pass(SECONDS(1));
    }
}

#define THEIRS                                                                                     \
    "{'metadata':{'managedFields':[{'manager':'theirs','fieldsV1':{'f:status':{'f:conditions':"    \
    "{}}}}]},'status':{'conditions':[{'type':'Available','status':'True','reason':'Theirs',"       \
    "'message':'m'}]}}"

/* Only a Service in the home namespace proves that we have served a CR. */
static void foreign_status_stays(void **state)
{
    (void)state;
    put_namespace("evil");
    put_cr("apps", "http", "lost", "");
    fake_put("Destination", "apps", "http", THEIRS);
    start_controller();
    pass(SECONDS(1));
    for (enum forging forging = LABELS_ONLY; forging <= EVERYTHING; forging++) {
        forge(forging, "evil", "http", "apps", "http");
        forge(forging, "apps", "other", "apps", "http");
        pass_slowly(SECONDS(60), SECONDS(5));
        expect_reason("apps", "http", "Theirs");
        fake_remove(fake_find("Service", "evil", "http"));
        fake_remove(fake_find("Service", "apps", "other"));
        pass(SECONDS(1));
    }
}

/* Edits by others do not take a Service of ours away from us, and are repaired. */
static void edited_by_hand(void **state)
{
    (void)state;
    static const char *const edits[] = {
        "{'metadata':{'labels':null}}",
        "{'metadata':{'labels':{'tproxy/home':'other'}}}",
        "{'metadata':{'labels':{'tproxy/destination-name':'other'}}}",
        "{'metadata':{'labels':{'tproxy/destination-namespace':'other'},'annotations':null}}",
        "{'metadata':{'ownerReferences':null}}",
        "{'metadata':{'ownerReferences':null,'managedFields':null}}",
        "{'spec':{'externalName':'evil.example.com'}}",
    };
    serve_inbox();
    char *before = mem_strdup(text_at("Service", "apps", "inbox", "metadata.labels"));
    char *owners = mem_strdup(text_at("Service", "apps", "inbox", "metadata.ownerReferences"));
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        fake_put("Service", "apps", "inbox", edits[i]);
        pass_slowly(SECONDS(5), SECONDS(1));
        assert_int_equal(fake.calls_made[CLUSTER_DELETE], 0);
        assert_int_equal(fake.calls_made[CLUSTER_APPLY], 1);
        assert_string_equal(text_at("Service", "apps", "inbox", "metadata.labels"), before);
        assert_string_equal(text_at("Service", "apps", "inbox", "metadata.ownerReferences"),
                            owners);
        assert_string_equal(text_at("Service", "apps", "inbox", "spec.externalName"),
                            "inbox.home.svc.cluster.local");
        expect_reason("apps", "inbox", SUCCESS);
        pass_slowly(SECONDS(1200), SECONDS(60));
        world_forget_journal();
    }
    free(before);
    free(owners);
}

/* Nobody takes over the Service of another installation. */
static void another_installation(void **state)
{
    (void)state;
    fake_put("Service", "apps", "inbox",
             "{'metadata':{'labels':{'app.kubernetes.io/managed-by':'tproxy','tproxy/home':"
             "'other'}},'spec':{'type':'ExternalName','externalName':"
             "'inbox.other.svc.cluster.local'}}");
    put_cr("apps", "inbox", "inbox", "");
    fake_put("Destination", "apps", "inbox",
             "{'metadata':{'annotations':{'tproxy/adopt':'true'}}}");
    start_controller();
    pass_slowly(SECONDS(120), SECONDS(5));
    expect_reason("apps", "inbox", PRESENT);
    assert_null(strstr(condition_of("apps", "inbox", "message"), "adopt"));
    assert_string_equal(text_at("Service", "apps", "inbox", "spec.externalName"),
                        "inbox.other.svc.cluster.local");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(forged_for_another_namespace), TEST(forged_for_own_namespace),
        TEST(foreign_status_stays),         TEST(edited_by_hand),
        TEST(another_installation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
