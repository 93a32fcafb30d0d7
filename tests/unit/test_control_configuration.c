/* Tests the TransparentProxy object and the Secrets that it names: which configuration is in force,
 * since when, and what its status says. */
#include "tests/unit/world/configuration.h"

#define SUCCESS "ConfigurationSuccessful"
/* Starts with a mailbox whose destination is in the default instance. */
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

/* An update that leaves the spec unchanged, such as our own status, has no effect. */
static void irrelevant_changes(void **state)
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
    assert_false(controller_health(replica->controller).configured);
    expect_rest();
    fake_put("TransparentProxy", HOME, OBJECT, "{'spec':{'config':{'tenantMode':'dedicated'}}}");
    settle();
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    assert_true(controller_health(replica->controller).configured);
}

/* ---- Processing ---- */

static enum cluster_result refuse_resource_status(const struct cluster_call *call)
{
    bool of_resource = strcmp(call->kind->kind, "Destination") == 0;
    return of_resource && call->verb == CLUSTER_PATCH_STATUS ? CLUSTER_REFUSED : CLUSTER_DONE;
}

#define GENERATION(n, minutes)                                                                     \
    "{'metadata':{'generation':" n                                                                 \
    "},'spec':{'config':{'manager':{'executionIntervalMinutes':" minutes "}}}}"

static void change_spec(const char *object)
{
    fake_put("TransparentProxy", HOME, OBJECT, object);
    settle();
}

static void expect_outcome(const char *state, const char *generation)
{
    const char *conditions = text_at("TransparentProxy", HOME, OBJECT, "status.conditions");
    if (!strstr(conditions, generation)) {
        fail_msg("%s are not those of %s", conditions, generation);
    }
    assert_string_equal(text_at("TransparentProxy", HOME, OBJECT, "status.state"), state);
}

/* Waits with the destinations unread: the change shows Processing, once. */
static void expect_processing(const char *object)
{
    world_forget_journal();
    world.source_mute = true;
    change_spec(object);
    pass_slowly(SECONDS(30), SECONDS(1));
    assert_int_equal(count_calls("status "), 1);
    assert_string_equal(text_at("TransparentProxy", HOME, OBJECT, "status.state"), "Processing");
}

/* A change of the spec shows Processing until the last CR has been brought to it. */
static void a_change_is_processed(void **state)
{
    (void)state;
    start_with_key();
    expect_processing(GENERATION("2", "10"));
    assert_true(controller_health(replica->controller).configured);
    expect_said(OBJECT, "Processing", "CredentialsAvailable", "True SecretsRead", "");
    world.source_mute = false;
    pass(SECONDS(1));
    assert_int_equal(count_calls("status "), 2);
    expect_outcome("Ready", "\"observedGeneration\":2");
}

/* What becomes of CRs and Secrets later does not show it, nor does a restart. */
static void an_outcome_stays(void **state)
{
    (void)state;
    start_with_key();
    change_spec(GENERATION("2", "10"));
    expect_outcome("Ready", "\"observedGeneration\":2");
    world_forget_journal();
    world.source_mute = true;
    put_cr("apps", "second", "inbox", "");
    restart_controller();
    pass_slowly(SECONDS(30), SECONDS(1));
    assert_int_equal(count_calls("status TransparentProxy"), 0);
    world.source_mute = false;
    pass(SECONDS(1));
    fake_drop("Secret", "vault", "first");
    settle();
    assert_int_equal(count_calls("status TransparentProxy"), 1);
    expect_outcome("Warning", "\"observedGeneration\":2");
}

/* A process that ends in between leaves the rest to the next one. */
static void the_next_process_ends_it(void **state)
{
    (void)state;
    start_with_key();
    expect_processing(GENERATION("2", "10"));
    restart_controller();
    pass_slowly(SECONDS(30), SECONDS(1));
    assert_int_equal(count_calls("status TransparentProxy"), 1);
    world.source_mute = false;
    pass(SECONDS(1));
    assert_int_equal(count_calls("status TransparentProxy"), 2);
    expect_outcome("Ready", "\"observedGeneration\":2");
}

/* Nothing waits for a CR that goes, or whose status the API server does not take. */
static void nobody_holds_it_up(void **state)
{
    (void)state;
    start_with_key();
    expect_processing(GENERATION("2", "10"));
    fake_drop("Destination", "apps", "inbox");
    settle();
    expect_outcome("Ready", "\"observedGeneration\":2");

    put_cr("apps", "second", "inbox", "");
    world.source_mute = false;
    pass(SECONDS(1));
    fake.fate = refuse_resource_status;
    refuse("inbox", VERDICT_URL_NOT_SUPPORTED);
    change_spec(GENERATION("3", "9"));
    assert_string_equal(text_at("TransparentProxy", HOME, OBJECT, "status.state"), "Processing");
    pass_slowly(SECONDS(12), SECONDS(1));
    expect_outcome("Ready", "\"observedGeneration\":3");
    fake.fate = NULL;
}

/* A mistake changes nothing, so there is nothing to wait for. */
static void a_mistake_is_not_processed(void **state)
{
    (void)state;
    start_with_key();
    world.source_mute = true;
    world_forget_journal();
    change_spec("{'metadata':{'generation':2},'spec':{'config':{'tenantMode':'both'}}}");
    assert_int_equal(count_calls("status TransparentProxy"), 1);
    expect_outcome("Warning", "\"observedGeneration\":2");
    world.source_mute = false;
}

/* ---- deletion ---- */

/* A finalizer keeps an object that is being deleted: it stays in force, and its status says so. The
 * next object takes its place when it has gone. */
static void deletion_waits(void **state)
{
    (void)state;
    static const char held[] = "a finalizer holds it; see its metadata.finalizers.";
    static const char deleting[] = "{'metadata':{'finalizers':['example.com/hold'],"
                                   "'deletionTimestamp':'2026-01-01T00:00:00Z'}}";
    start_with_key();
    unsigned configured = world.configured;
    fake_put("TransparentProxy", HOME, OBJECT, deleting);
    settle();
    expect_said(OBJECT, "Deleting", "Configured", "True ConfigurationApplied", held);
    assert_int_equal(world.configured, configured);
    assert_true(has_key("one"));
    fake_put("TransparentProxy", HOME, OBJECT, "{'spec':{'config':{'tenantMode':'both'}}}");
    settle();
    expect_said(OBJECT, "Deleting", "Configured", "False InvalidConfiguration", held);
    fake_put("TransparentProxy", HOME, "second", deleting);
    settle();
    expect_said("second", "Deleting", "Configured", "False AlreadyExists", held);
    expect_rest();
}

/* ---- the last good configuration ---- */

#define KEPT "tproxy-last-configuration"
#define LABELLED "'config':{'managedNamespacesMode':'labelSelector'}"
#define TENANT_MODE(mode) "{'spec':{'config':{'tenantMode':'" mode "'}}}"

static void keep(const char *text)
{
    char patch[1024];
    struct buf out = BUF_ON(patch);
    assert_int_equal(json_fmt(&out, "{'data':{'configuration.json':%s}}", text), OK);
    assert_int_equal(buf_add(&out, "", 1), OK);
    fake_put("ConfigMap", HOME, KEPT, patch);
}

/* With a mistake from the start and no earlier configuration nothing is decided, because the
 * defaults would manage all namespaces. */
static void mistake_from_the_start(void **state)
{
    (void)state;
    const char *why;
    configure("'config':{'tenantMode':'both'}");
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass_slowly(SECONDS(300), SECONDS(5));
    expect_calls("status TransparentProxy home/transparent-proxy InvalidConfiguration\n");
    expect_said(
        OBJECT, "Warning", "Configured", "False InvalidConfiguration",
        "\"both\"; it must be \"dedicated\" or \"shared\". No configuration is in force, and "
        "nothing is decided until this is corrected.");
    assert_int_equal(world.configured, 0);
    assert_int_equal(world.finds, 0);
    assert_false(controller_ready(replica->controller, &why));
    assert_string_equal(why, "the configuration");
    assert_false(controller_health(replica->controller).configured);
    fake_put("TransparentProxy", HOME, OBJECT, TENANT_MODE("dedicated"));
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
}

/* A mistake in the objects, or their absence, changes nothing after a restart. */
static void restarts(const char *wrong, enum cluster_presence presence)
{
    put_cr("apps", "theirs", "inbox", "");
    put_namespace("ours");
    fake_put("Namespace", "", "ours",
             "{'metadata':{'labels':{'transparent-proxy.connectivity.api.sap/namespace':'home'}}}");
    put_cr("ours", "inbox", "inbox", "");
    configure(LABELLED);
    start();
    expect_reason("ours", "inbox", SUCCESS);
    uint16_t port = target_port("inbox");
    stop_controller();
    if (wrong) {
        fake_put("TransparentProxy", HOME, OBJECT, wrong);
    } else if (presence == CLUSTER_PRESENT) {
        fake_drop("TransparentProxy", HOME, OBJECT);
    }
    fake_set_presence("TransparentProxy", presence);
    unsigned finds = world.finds;
    world_forget_journal();
    start_controller();
    pass_slowly(SECONDS(600), SECONDS(5));
    assert_true(world.finds > finds);
    assert_int_equal(target_port("inbox"), port);
    assert_int_equal(count_listeners(), 1);
    expect_reason("ours", "inbox", SUCCESS);
    assert_string_equal(condition_of("apps", "theirs", "reason"), "");
    assert_false(exists("Service", HOME, "theirs"));
}

static void restart_with_a_mistake(void **state)
{
    (void)state;
    restarts(TENANT_MODE("both"), CLUSTER_PRESENT);
    expect_said(OBJECT, "Warning", "Configured", "False InvalidConfiguration",
                "The last good configuration, of 20");
    expect_calls("status TransparentProxy home/transparent-proxy AllHonoured\n");
    fake_put("TransparentProxy", HOME, OBJECT,
             "{'spec':{'config':{'tenantMode':null,'managedNamespacesMode':'all'}}}");
    pass(SECONDS(1));
    expect_reason("apps", "theirs", SUCCESS);
}

static void restart_without_rights(void **state)
{
    (void)state;
    restarts(NULL, CLUSTER_FORBIDDEN);
    assert_non_null(strstr(controller_health(replica->controller).message, "cannot be listed"));
    expect_calls("");
}

static void restart_without_the_kind(void **state)
{
    (void)state;
    restarts(NULL, CLUSTER_UNKNOWN);
    expect_calls("");
}

static void restart_without_the_object(void **state)
{
    (void)state;
    restarts(NULL, CLUSTER_PRESENT);
    expect_calls("create Event home/ ConfigurationDeleted\n"
                 "apply ConfigMap home/" KEPT "\n");
}

/* While the kind is unknown, the absence of an object is unknown too. */
static void unknown_from_the_start(void **state)
{
    (void)state;
    const char *why;
    static const enum cluster_presence rows[] = {CLUSTER_UNKNOWN, CLUSTER_FORBIDDEN};
    put_cr("apps", "inbox", "inbox", "");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        fake_set_presence("TransparentProxy", rows[i]);
        start_controller();
        pass_slowly(SECONDS(300), SECONDS(5));
        expect_calls("");
        assert_false(controller_ready(replica->controller, &why));
        assert_string_equal(why, "TransparentProxy objects");
        stop_controller();
    }
    fake_set_presence("TransparentProxy", CLUSTER_PRESENT);
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
}

/* If somebody has damaged the record of the last configuration, it is not used, and the defaults
 * are not used either. */
static void damaged_record(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"spec\":[]}",
        "{\"spec\":{\"config\":{\"tenantMode\":\"both\"}}}",
        "{\"spec\":{\"config\":{\"integration\":{\"destinationService\":{\"instances\":[{}]}}}}}",
    };
    fake_drop("TransparentProxy", HOME, OBJECT);
    put_cr("apps", "inbox", "inbox", "");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        keep(texts[i]);
        start_controller();
        pass_slowly(SECONDS(300), SECONDS(5));
        expect_calls("");
        assert_non_null(strstr(controller_health(replica->controller).message,
                               "The last configuration, in the ConfigMap " KEPT));
        stop_controller();
    }
    configure("");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_null(strstr(controller_health(replica->controller).message, "ConfigMap"));
}

/* Existing Services prove that a configuration was in force before. */
static void deleted_record(void **state)
{
    (void)state;
    put_cr("apps", "inbox", "inbox", "");
    start();
    stop_controller();
    fake_drop("ConfigMap", HOME, KEPT);
    fake_drop("TransparentProxy", HOME, OBJECT);
    start_controller();
    pass_slowly(SECONDS(300), SECONDS(5));
    expect_calls("");
    assert_non_null(strstr(controller_health(replica->controller).message,
                           "There is no TransparentProxy object in the namespace home, but there "
                           "are Services of this installation"));
    fake_drop("Service", HOME, "inbox");
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
}

/* Changes by others are undone after a pause. If the API server refuses the record, the status says
 * so. */
static void record_is_repaired(void **state)
{
    (void)state;
    start_with_key();
    char *good = mem_strdup(text_at("ConfigMap", HOME, KEPT, "data"));
    assert_null(strstr(good, "hush"));
    keep("{}");
    pass(SECONDS(10));
    assert_string_equal(text_at("ConfigMap", HOME, KEPT, "data"), good);
    fake_drop("ConfigMap", HOME, KEPT);
    pass(SECONDS(10));
    assert_string_equal(text_at("ConfigMap", HOME, KEPT, "data"), good);
    free(good);
    world_forget_journal();
    for (int i = 0; i < 60; i++) {
        keep("{}");
        pass(SECONDS(1));
    }
    assert_in_range(fake.calls_made[CLUSTER_APPLY], 1, 13);
    pass(SECONDS(10));
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    world_forget_journal();
    fake_set_presence("ConfigMap", CLUSTER_FORBIDDEN);
    pass_slowly(SECONDS(300), SECONDS(5));
    expect_said(OBJECT, "Warning", "Configured", "False NotKept",
                "It cannot be kept for the next start in the ConfigMap " KEPT);
    fake_set_presence("ConfigMap", CLUSTER_PRESENT);
    pass(SECONDS(10));
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    assert_int_equal(fake.calls_made[CLUSTER_CREATE] + fake.calls_made[CLUSTER_APPLY], 0);
}

static enum cluster_result no_map(const struct cluster_call *call)
{
    return strcmp(call->kind->kind, "ConfigMap") == 0 ? CLUSTER_REFUSED : CLUSTER_DONE;
}

static void record_is_refused(void **state)
{
    (void)state;
    put_key("first", "client");
    configure(SERVICE(INSTANCE("one", "first")));
    put_cr("apps", "inbox", "inbox", "");
    fake.fate = no_map;
    start();
    pass_slowly(SECONDS(600), SECONDS(5));
    expect_reason("apps", "inbox", SUCCESS);
    expect_said(OBJECT, "Warning", "Configured", "False NotKept", "create ConfigMap");
    assert_in_range(fake.calls_made[CLUSTER_CREATE], 5, 15);
    fake.fate = NULL;
    pass_slowly(SECONDS(65), SECONDS(5));
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    world_forget_journal();
    pass_slowly(SECONDS(600), SECONDS(5));
    expect_calls("");
}

/* kubectl replace --force: the object is missing for a moment. */
static void deleted_and_applied_again(void **state)
{
    (void)state;
    start_with_key();
    unsigned configured = world.configured;
    fake_drop("TransparentProxy", HOME, OBJECT);
    pass_slowly(SECONDS(100), SECONDS(5));
    assert_true(has_key("one"));
    assert_non_null(strstr(controller_health(replica->controller).message,
                           "The TransparentProxy object \"transparent-proxy\" was deleted. Its "
                           "configuration, of 20"));
    assert_false(controller_health(replica->controller).configured);
    expect_calls("create Event home/ ConfigurationDeleted\n");
    configure(SERVICE(INSTANCE("one", "first")));
    pass_slowly(SECONDS(150), SECONDS(5));
    assert_int_equal(world.configured, configured);
    assert_true(has_key("one"));
    expect_said(OBJECT, "Ready", "Configured", "True ConfigurationApplied", "");
    assert_string_equal(controller_health(replica->controller).message,
                        "All destinations are available.");
}

/* After a while the deletion counts: the keys are removed, but nobody is admitted and nothing is
 * removed. */
static void deleted_for_good(void **state)
{
    (void)state;
    put_key("first", "client");
    put_cr("apps", "inbox", "inbox", "");
    put_tenants("apps", "inbox", "[\\\"acme\\\"]");
    put_cr("apps", "other", "inbox", "");
    configure("'config':{'tenantMode':'shared','integration':{'destinationService':{"
              "'instances':[" INSTANCE("one", "first") "]}}}");
    serve("inbox@acme");
    start();
    expect_reason("apps", "inbox", SUCCESS);
    uint16_t port = target_port("inbox-acme");
    fake_drop("TransparentProxy", HOME, OBJECT);
    pass_slowly(SECONDS(115), SECONDS(5));
    assert_true(has_key("one"));
    fake_set_presence("TransparentProxy", CLUSTER_UNKNOWN); /* then the CRD is deleted, too */
    pass_slowly(SECONDS(300), SECONDS(5));
    assert_true(has_key("one"));
    fake_set_presence("TransparentProxy", CLUSTER_PRESENT);
    pass_slowly(SECONDS(115), SECONDS(5));
    assert_true(has_key("one"));
    pass_slowly(SECONDS(10), SECONDS(5));
    assert_false(has_key("one"));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(target_port("inbox-acme"), port);
        assert_false(exists("Service", HOME, "inbox"));
        assert_false(exists("Service", HOME, "other"));
        assert_int_equal(count_listeners(), 1);
        restart_controller();
        pass_slowly(SECONDS(300), SECONDS(5));
    }
    configure("");
    pass(SECONDS(1));
    expect_reason("apps", "other", SUCCESS);
}

/* A fresh installation works without an object, and its defaults are recorded as well. */
static void defaults_are_kept(void **state)
{
    (void)state;
    fake_drop("TransparentProxy", HOME, OBJECT);
    put_cr("apps", "inbox", "inbox", "");
    start();
    expect_reason("apps", "inbox", SUCCESS);
    restart_controller();
    pass_slowly(SECONDS(600), SECONDS(5));
    expect_calls("");
    expect_reason("apps", "inbox", SUCCESS);
    assert_int_equal(count_listeners(), 1);
}

/* Ports are allocated only after the ports in use are known. */
static void services_unknown_at_the_start(void **state)
{
    (void)state;
    const char *why;
    put_cr("apps", "inbox", "inbox", "");
    start();
    uint16_t port = target_port("inbox");
    stop_controller();
    world_forget_journal();
    fake_set_presence("Service", CLUSTER_FORBIDDEN);
    start_controller();
    pass_slowly(SECONDS(60), SECONDS(5));
    expect_calls("");
    assert_false(controller_ready(replica->controller, &why));
    assert_string_equal(why, "Services");
    fake_set_presence("Service", CLUSTER_PRESENT);
    pass_slowly(SECONDS(60), SECONDS(5));
    expect_calls("");
    assert_int_equal(target_port("inbox"), port);
}

/* ---- modes ---- */

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

/* The oldest object is the configuration; the status of the others says so. */
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
    start_controller();
    pass_slowly(SECONDS(600), SECONDS(1));
    assert_in_range(fake.calls_made[CLUSTER_PATCH_STATUS], 8, 20);
    fake.fate = NULL;
    pass_slowly(SECONDS(65), SECONDS(1));
    expect_said(OBJECT, "Warning", "CredentialsAvailable", "False SecretNotUsable",
                "Provide at least one Destination service instance");
    expect_rest();
}

/* ---- Secrets ---- */

/* A new key is used at once. The same key again, or another label, has no effect. */
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

/* If a Secret becomes invalid or unreadable, the last good key stays in force. */
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

/* Another Secret is named: the old key stays in force until the new Secret has been read. */
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
    fake_drop("Secret", "vault", "first"); /* the old Secret is no longer used */
    settle();
    assert_true(has_key("one"));
    expect_said(OBJECT, "Ready", "CredentialsAvailable", "True SecretsRead", "");
    expect_rest();
}

/* Adding or removing an instance does not affect the others. */
static void instances_added_and_removed(void **state)
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

/* The controller decides nothing before the Secrets have been listed. */
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
    assert_false(controller_ready(replica->controller, &why));
    assert_string_equal(why, "Secrets");
    fake_kind("Secret")->mute = false;
    settle();
    assert_true(controller_ready(replica->controller, &why));
    expect_reason("apps", "inbox", SUCCESS);
}

/* No log line, Event or status contains a value of a Secret. */
static void secrets_stay_secret(void **state)
{
    (void)state;
    start_with_key();
    fake_put("Secret", "vault", "first", "{'stringData':{'url':'hush://hush'}}");
    pass(SECONDS(10));
    assert_null(strstr(fake_find("TransparentProxy", HOME, OBJECT)->text, "hush"));
    assert_null(strstr(controller_health(replica->controller).message, "hush"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(without_an_object),
        TEST(changes_are_followed),
        TEST(irrelevant_changes),
        TEST(mistakes),
        TEST(a_change_is_processed),
        TEST(an_outcome_stays),
        TEST(the_next_process_ends_it),
        TEST(nobody_holds_it_up),
        TEST(a_mistake_is_not_processed),
        TEST(deletion_waits),
        TEST(mistake_from_the_start),
        TEST(restart_with_a_mistake),
        TEST(restart_without_rights),
        TEST(restart_without_the_kind),
        TEST(restart_without_the_object),
        TEST(unknown_from_the_start),
        TEST(damaged_record),
        TEST(deleted_record),
        TEST(record_is_repaired),
        TEST(record_is_refused),
        TEST(deleted_and_applied_again),
        TEST(deleted_for_good),
        TEST(defaults_are_kept),
        TEST(services_unknown_at_the_start),
        TEST(shared_tenants),
        TEST(several_objects),
        TEST(refused_status),
        TEST(rotation),
        TEST(broken_secrets),
        TEST(missing_secret),
        TEST(another_secret),
        TEST(instances_added_and_removed),
        TEST(waits_for_secrets),
        TEST(secrets_stay_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
