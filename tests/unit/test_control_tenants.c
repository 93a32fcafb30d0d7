/* Tests shared mode: each tenant of a CR has a target of its own, and no tenant affects another
 * one. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"
#define FAILED "FailedToApplyConfiguration"
#define INVALID "ConfigurationError-MultitenancyAnnotation-Invalid"
#define DUPLICATE "ConfigurationError-DuplicateDestinationCustomResource"
#define SHARED "'config':{'tenantMode':'shared'}"
#define ANNOTATION "\"transparent-proxy.connectivity.api.sap/tenant-subdomains\" annotation"

/* Quotes and a list as they stand in the JSON text of the annotation. */
#define Q "\\'"
#define A_AND_B "[" Q "a" Q "," Q "b" Q "]"

static void expect_rest(void)
{
    world_forget_journal();
    pass_slowly(SECONDS(120), SECONDS(5));
    expect_calls("");
}

/* Checks that the condition's message contains these words. */
#define expect_words(namespace, name, words)                                                       \
    if (!strstr(condition_of(namespace, name, "message"), words)) {                                \
        fail_msg("%s is not in: %s", words, condition_of(namespace, name, "message"));             \
    }

static void expect_tenants(const char *namespace, const char *name, const char *list)
{
    char expected[256];
    struct object o = object_of(list[0] ? list : "[]");
    text_fmt(expected, sizeof(expected), "%s", list[0] ? o.text : "");
    assert_string_equal(text_at("Destination", namespace, name, "status.tenants"), expected);
    object_free(&o);
}

static bool journal_says(const char *text)
{
    char *copy = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    bool says = strstr(copy, text) != NULL;
    free(copy);
    return says;
}

static void put_shared_cr(const char *namespace, const char *name, const char *tenants)
{
    put_cr(namespace, name, "inbox", "");
    put_tenants(namespace, name, tenants);
}

static void start(void)
{
    start_controller();
    pass_slowly(SECONDS(2), MILLIS(100));
    world_forget_journal();
}

/* Starts with a CR that serves the tenants a and b. */
static void serve_two(void)
{
    configure(SHARED);
    put_shared_cr("apps", "mail", A_AND_B);
    start();
    expect_reason("apps", "mail", SUCCESS);
}

/* ---- the life of a tenant ---- */

static void two_tenants(void **state)
{
    (void)state;
    configure(SHARED);
    start();
    put_shared_cr("apps", "mail", A_AND_B);
    pass(MILLIS(25));
    expect_calls("create Service home/mail-a\n"
                 "create NetworkPolicy home/tproxy-namespace-apps\n"
                 "create Service apps/mail-a\n"
                 "create Service home/mail-b\n"
                 "create Service apps/mail-b\n"
                 "apply NetworkPolicy home/tproxy-namespace-apps\n"
                 "status Destination apps/mail ConfigurationSuccessful\n"
                 "create Event apps/ ConfigurationSuccessful\n");
    assert_string_equal(condition_of("apps", "mail", "message"),
                        "Technical connectivity is configured. Kubernetes services with names "
                        "mail-a, mail-b are created.");
    expect_tenants("apps", "mail", "[{'tenantSubdomain':'a'},{'tenantSubdomain':'b'}]");
    assert_int_equal(world.finds, 2);
    assert_int_equal(count_listeners(), 2);
    assert_int_not_equal(target_port("mail-a"), target_port("mail-b"));
    assert_int_not_equal(replica->listeners[target_port("mail-a")], 0);
    assert_int_not_equal(replica->listeners[target_port("mail-b")], 0);
    assert_string_equal(text_at("Service", "apps", "mail-a", "spec.externalName"),
                        "mail-a.home.svc.cluster.local");
    assert_int_equal(world.changed, 2);
    char expected[128];
    text_fmt(expected, sizeof(expected), "apps/mail-b ConfigurationSuccessful %d",
             target_port("mail-b"));
    assert_string_equal(world.last, expected);
    const char *why;
    assert_true(controller_ready(replica->controller, &why));
    assert_int_equal(controller_health(replica->controller).resources, 1);
    expect_rest();
}

static void restart_writes_nothing(void **state)
{
    (void)state;
    serve_two();
    restart_controller();
    world_forget_journal();
    pass_slowly(SECONDS(300), SECONDS(10));
    expect_calls("");
    assert_int_not_equal(replica->listeners[target_port("mail-a")], 0);
    assert_int_not_equal(replica->listeners[target_port("mail-b")], 0);
}

static void names_are_in_lower_case(void **state)
{
    (void)state;
    configure(SHARED);
    put_shared_cr(HOME, "mail", "[" Q "Some-Tenant" Q "]");
    start();
    assert_string_equal(condition_of(HOME, "mail", "message"),
                        "Technical connectivity is configured. Kubernetes service with name "
                        "mail-some-tenant is created.");
    expect_tenants(HOME, "mail", "[{'tenantSubdomain':'some-tenant'}]");
    assert_int_equal(count_listeners(), 1);
}

static void tenants_come_and_go(void **state)
{
    (void)state;
    serve_two();
    uint16_t a = target_port("mail-a"), b = target_port("mail-b");
    int listener = replica->listeners[b];
    put_tenants("apps", "mail", "[" Q "b" Q "," Q "a-1" Q "]");
    settle();
    expect_calls("delete Service apps/mail-a\n"
                 "create ConfigMap home/tproxy-resting-ports\n"
                 "delete Service home/mail-a\n"
                 "create Service home/mail-a-1\n"
                 "apply NetworkPolicy home/tproxy-namespace-apps\n"
                 "create Service apps/mail-a-1\n"
                 "status Destination apps/mail ConfigurationSuccessful\n"
                 "create Event apps/ ConfigurationSuccessful\n");
    assert_int_equal(world.gone, 1);
    assert_int_equal(replica->listeners[a], 0);
    assert_int_equal(replica->listeners[b], listener);
    assert_int_equal(target_port("mail-b"), b);
    assert_int_not_equal(target_port("mail-a-1"), a); /* because the old port rests */
    expect_tenants("apps", "mail", "[{'tenantSubdomain':'a-1'},{'tenantSubdomain':'b'}]");

    fake_drop("Destination", "apps", "mail");
    pass_slowly(SECONDS(1), MILLIS(100));
    assert_int_equal(count_listeners(), 0);
    assert_int_equal(world.gone, 3);
    assert_false(exists("Service", HOME, "mail-b") || exists("Service", HOME, "mail-a-1"));
    assert_false(exists("NetworkPolicy", HOME, "tproxy-namespace-apps"));
}

/* A removed tenant's listener closes at once, even while its destination is being read. */
static void removed_while_it_is_read(void **state)
{
    (void)state;
    serve_two();
    world.source_mute = true;
    fake_put("Destination", "apps", "mail", "{'spec':{'destinationRef':{'name':'other'}}}");
    settle();
    assert_int_equal(world.waiting, 2);
    put_tenants("apps", "mail", "[" Q "c" Q "]");
    settle();
    assert_int_equal(world.waiting, 1); /* the destination of no other tenant is read */
    assert_int_equal(count_listeners(), 0);
    world.source_mute = false;
    serve("other");
    pass(SECONDS(1));
    expect_reason("apps", "mail", SUCCESS);
    expect_tenants("apps", "mail", "[{'tenantSubdomain':'c'}]");
    assert_int_equal(count_listeners(), 1);
    expect_rest();
}

/* ---- the annotation ---- */

static void invalid_annotations(void **state)
{
    (void)state;
    static const struct {
        const char *annotation, *wrong;
    } rows[] = {
        {NULL, ANNOTATION " is invalid: it is missing"},
        {"x", ANNOTATION " is invalid: it is not JSON: "},
        {"[" Q "a.b" Q "]", ANNOTATION " is invalid: \"a.b\" in it is not a tenant"},
        {"[" Q "a" Q "," Q "A" Q "]", ANNOTATION " is invalid: \"a\" is in it twice"},
    };
    serve_two();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        put_tenants("apps", "mail", rows[i].annotation);
        pass(SECONDS(1));
        expect_reason("apps", "mail", INVALID);
        expect_words("apps", "mail", rows[i].wrong);
        expect_tenants("apps", "mail", "");
        assert_false(exists("Service", HOME, "mail-a") || exists("Service", "apps", "mail-a"));
        assert_int_equal(count_listeners(), 0);
        expect_rest();
        put_tenants("apps", "mail", A_AND_B);
        pass(SECONDS(1));
        expect_reason("apps", "mail", SUCCESS);
        assert_int_equal(count_listeners(), 2);
    }
}

/* If the tenants of a CR are unknown, the controller cannot know whether the CR is for mail. */
static void another_proxy_has_spoken(void **state)
{
    (void)state;
    configure(SHARED);
    put_cr("apps", "web", "web", "");
    fake_put("Destination", "apps", "web",
             "{'metadata':{'managedFields':[{'manager':'sap','fieldsV1':{'f:status':{"
             "'f:conditions':{}}}}]},'status':{'conditions':[{'type':'Available',"
             "'status':'False','reason':'Theirs'}]}}");
    start();
    expect_reason("apps", "web", "Theirs");
    expect_rest();
}

static void ignored_in_dedicated_mode(void **state)
{
    (void)state;
    configure("");
    put_shared_cr("apps", "mail", A_AND_B);
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "mail", SUCCESS);
    assert_true(exists("Service", HOME, "mail"));
    assert_int_equal(count_listeners(), 1);
    expect_tenants("apps", "mail", "");
    assert_true(journal_says("create Event apps/ ConfigurationSuccessful\n"
                             "create Event apps/ MultitenancyAnnotation-Ignored\n"));
    expect_rest();

    put_tenants("apps", "mail", "x");
    settle();
    expect_calls("apply Event apps/\n"); /* a repeat */
    put_tenants("apps", "mail", NULL);
    settle();
    expect_calls("");
    put_tenants("apps", "mail", A_AND_B);
    settle();
    expect_calls("apply Event apps/\n"); /* a repeat */
    restart_controller();
    expect_rest();
}

static void modes_are_switched(void **state)
{
    (void)state;
    serve_two();
    configure("");
    pass(SECONDS(1));
    expect_reason("apps", "mail", SUCCESS);
    expect_tenants("apps", "mail", "");
    assert_true(exists("Service", HOME, "mail") && exists("Service", "apps", "mail"));
    assert_false(exists("Service", HOME, "mail-a") || exists("Service", "apps", "mail-b"));
    assert_int_equal(count_listeners(), 1);
    assert_true(journal_says("create Event apps/ MultitenancyAnnotation-Ignored\n"));
    expect_rest();
    configure(SHARED);
    pass(SECONDS(1));
    expect_tenants("apps", "mail", "[{'tenantSubdomain':'a'},{'tenantSubdomain':'b'}]");
    assert_false(exists("Service", HOME, "mail") || exists("Service", "apps", "mail"));
    assert_int_equal(count_listeners(), 2);
    expect_rest();
}

/* ---- failures of one tenant ---- */

static void one_tenant_fails(void **state)
{
    (void)state;
    refuse("inbox@b", VERDICT_NOT_FOUND);
    configure(SHARED);
    put_shared_cr("apps", "mail", A_AND_B);
    start();
    expect_reason("apps", "mail", FAILED);
    assert_string_equal(condition_of("apps", "mail", "message"),
                        "Configuration failed for tenants: [\"b\"]. b: Destination 'inbox' "
                        "referred in Destination CR 'mail' is not found in tenant 'b'. Inspect the "
                        "Destination CR or contact the Destination Administrator.");
    expect_tenants("apps", "mail", "[{'tenantSubdomain':'a'}]");
    assert_true(exists("Service", "apps", "mail-a"));
    assert_false(exists("Service", HOME, "mail-b"));
    assert_string_equal(world.last,
                        "apps/mail-b ConfigurationError-ReferencedDestination-NotFound 0");
    const char *why;
    assert_true(controller_ready(replica->controller, &why));
    assert_int_equal(controller_health(replica->controller).not_available, 1);
    world_forget_journal();
    serve("inbox@b");
    controller_look_again(replica->controller, "inbox");
    settle();
    expect_calls("create Service home/mail-b\n"
                 "apply NetworkPolicy home/tproxy-namespace-apps\n"
                 "create Service apps/mail-b\n"
                 "status Destination apps/mail ConfigurationSuccessful\n"
                 "create Event apps/ ConfigurationSuccessful\n");

    /* The tenant's Service stays, as in dedicated mode. */
    refuse("inbox@a", VERDICT_UNREADABLE);
    refuse("inbox@b", VERDICT_TYPE_NOT_SUPPORTED);
    controller_look_again(replica->controller, "inbox");
    pass(SECONDS(1));
    expect_reason("apps", "mail", FAILED);
    expect_words("apps", "mail", "[\"a\", \"b\"]. a: Destination 'inbox' referred in ");
    expect_words("apps", "mail", "cannot be read: the test says no b: Destination");
    expect_tenants("apps", "mail", "");
    assert_int_equal(count_listeners(), 2);
}

/* No tenant has a destination for POP3, so the CR belongs to another proxy. */
static void no_tenant_has_mail(void **state)
{
    (void)state;
    refuse("inbox", VERDICT_TYPE_NOT_SUPPORTED);
    configure(SHARED);
    put_shared_cr("apps", "mail", A_AND_B);
    start();
    assert_string_equal(condition_of("apps", "mail", "reason"), "");
    assert_int_equal(count_listeners(), 0);
    expect_rest();
}

/* A tenant with a slow destination does not delay the others. The condition waits for it. */
static void one_tenant_hangs(void **state)
{
    (void)state;
    const char *why;
    configure(SHARED);
    put_shared_cr("apps", "mail", A_AND_B);
    world.hangs = "a";
    start_controller();
    settle();
    assert_int_equal(world.finds, 2);
    assert_false(exists("Service", HOME, "mail-a"));
    assert_true(exists("Service", HOME, "mail-b") && exists("Service", "apps", "mail-b"));
    assert_int_equal(count_listeners(), 1);
    assert_string_equal(condition_of("apps", "mail", "reason"), "");
    assert_false(controller_ready(replica->controller, &why));
    world.hangs = NULL;
    pass(MILLIS(50));
    assert_true(exists("Service", HOME, "mail-a"));
    assert_true(controller_ready(replica->controller, &why));
    expect_reason("apps", "mail", SUCCESS);
    pass(SECONDS(1));
    expect_rest();
}

/* The CR counts as ours once one destination is ours, and as not ours once all have been read. */
static void one_hangs_and_one_has_no_mail(void **state)
{
    (void)state;
    configure(SHARED);
    refuse("inbox@b", VERDICT_TYPE_NOT_SUPPORTED);
    put_shared_cr("apps", "mail", A_AND_B);
    world.hangs = "a";
    start();
    assert_string_equal(condition_of("apps", "mail", "reason"), "");
    world.hangs = NULL;
    settle();
    expect_reason("apps", "mail", FAILED);
    expect_tenants("apps", "mail", "[{'tenantSubdomain':'a'}]");
    pass(SECONDS(1));
    expect_rest();
}

/* The number of destinations read at one time is bounded for each CR, for each namespace, and
 * overall. */
static void readings_are_bounded(void **state)
{
    (void)state;
    enum { RESOURCES = 15, OF_SPACE = 16, TENANTS = 12, OF_ONE = 8, OF_ALL = 64 };
    char list[256] = "[", name[16], space[16];
    size_t n = 1;
    for (int i = 0; i < TENANTS; i++) {
        n += text_fmt(list + n, sizeof(list) - n, "%s" Q "t%02d" Q, i ? "," : "", i);
    }
    text_fmt(list + n, sizeof(list) - n, "]");
    configure(SHARED);
    world.source_mute = true;
    put_shared_cr("n0", "mail-00", list);
    start();
    assert_int_equal(world.waiting, OF_ONE);
    for (int i = 1; i < RESOURCES; i++) {
        text_fmt(name, sizeof(name), "mail-%02d", i);
        text_fmt(space, sizeof(space), "n%d", i / 3);
        put_shared_cr(space, name, list);
        if (i == 2) {
            settle();
            assert_int_equal(world.waiting, OF_SPACE);
        }
    }
    settle();
    assert_int_equal(world.waiting, OF_ALL);
    fake_drop("Destination", "n0", "mail-00"); /* another CR takes its turn */
    pass(SECONDS(1));
    assert_int_equal(world.waiting, OF_ALL);
    world.source_mute = false;
    pass_slowly(SECONDS(10), SECONDS(1));
    assert_int_equal(world.most_waiting, OF_ALL);
    for (int i = 1; i < RESOURCES; i++) {
        text_fmt(name, sizeof(name), "mail-%02d", i);
        text_fmt(space, sizeof(space), "n%d", i / 3);
        /* Because there are not ports for all tenants. */
        put_tenants(space, name, "[" Q "t00" Q "]");
    }
    pass_slowly(SECONDS(180), SECONDS(1));
    for (int i = 1; i < RESOURCES; i++) {
        text_fmt(name, sizeof(name), "mail-%02d", i);
        text_fmt(space, sizeof(space), "n%d", i / 3);
        expect_reason(space, name, SUCCESS);
    }
}

static void too_long_together(void **state)
{
    (void)state;
    char name[61];
    memset(name, 'm', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    configure(SHARED);
    put_shared_cr("apps", name, "[" Q "ab" Q "," Q "abc" Q "]");
    start();
    expect_reason("apps", name, FAILED);
    expect_words("apps", name, "[\"abc\"]. abc: The name of the Destination CR with that of the");
    expect_words("apps", name, "cannot be that of a Service: it is longer than 63 characters");
    expect_tenants("apps", name, "[{'tenantSubdomain':'ab'}]");
    assert_int_equal(count_listeners(), 1);
    expect_rest();
}

static void foreign_service(void **state)
{
    (void)state;
    fake_put("Service", "apps", "mail-b", "{'spec':{'type':'ClusterIP'}}");
    configure(SHARED);
    put_shared_cr("apps", "mail", A_AND_B);
    start();
    expect_reason("apps", "mail", FAILED);
    expect_words("apps", "mail", "[\"b\"]. b: The Service \"mail-b\" in the namespace \"apps\"");
    expect_tenants("apps", "mail", "[{'tenantSubdomain':'a'}]");
    fake_drop("Service", "apps", "mail-b");
    pass_slowly(SECONDS(70), SECONDS(5));
    expect_reason("apps", "mail", SUCCESS);
    expect_rest();
}

/* ---- names and ports ---- */

/* CR a-b with the tenant c, and CR a with the tenant b-c, need the same Service name. */
static void one_name_for_two(void **state)
{
    (void)state;
    put_namespace("beta");
    configure(SHARED);
    put_shared_cr("apps", "a-b", "[" Q "c" Q "]");
    put_shared_cr("beta", "a", "[" Q "b-c" Q "," Q "d" Q "]");
    for (int i = 0; i < 2; i++) {
        start();
        expect_reason("apps", "a-b", SUCCESS);
        expect_reason("beta", "a", FAILED);
        expect_words("beta", "a",
                     "[\"b-c\"]. b-c: A Destination CR named \"a-b\" in the "
                     "namespace \"apps\" has the name");
        expect_tenants("beta", "a", "[{'tenantSubdomain':'d'}]");
        expect_rest();
        stop_controller();
    }
    start_controller();
    put_tenants("apps", "a-b", "[" Q "e" Q "]");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("beta", "a", SUCCESS);
    assert_true(exists("Service", "beta", "a-b-c") && !exists("Service", "apps", "a-b-c"));
    put_tenants("apps", "a-b", "[" Q "c" Q "]");
    pass_slowly(SECONDS(5), MILLIS(100));
    expect_reason("apps", "a-b", FAILED); /* although it is older */
    expect_reason("beta", "a", SUCCESS);
    assert_true(exists("Service", "beta", "a-b-c") && !exists("Service", "apps", "a-b-c"));
    expect_rest();
}

/* Two Services of one CR have the same port: the younger one gets another port. */
static void one_port_for_two(void **state)
{
    (void)state;
    serve_two();
    uint16_t a = target_port("mail-a");
    char patch[256];
    text_fmt(patch, sizeof(patch),
             "{'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp',"
             "'port':110,'targetPort':%d}]}}",
             a);
    stop_controller();
    fake_put("Service", HOME, "mail-b", patch);
    start();
    assert_int_equal(target_port("mail-a"), a);
    assert_int_not_equal(target_port("mail-b"), a);
    assert_int_not_equal(replica->listeners[target_port("mail-b")], 0);
    assert_int_equal(count_listeners(), 2);
    expect_rest();
}

static void many_tenants(void **state)
{
    (void)state;
    enum { MANY = 60 };
    char list[1024] = "[";
    size_t n = 1;
    for (int i = 0; i < MANY; i++) {
        n += text_fmt(list + n, sizeof(list) - n, "%s" Q "t%02d" Q, i ? "," : "", i);
    }
    text_fmt(list + n, sizeof(list) - n, "]");
    configure(SHARED);
    put_shared_cr("apps", "mail", list);
    start();
    expect_reason("apps", "mail", SUCCESS);
    expect_words("apps", "mail", "mail-t00, mail-t01, ");
    assert_int_equal(count_listeners(), MANY);
    expect_rest();
    put_tenants("apps", "mail", "[" Q "t59" Q "]");
    pass_slowly(SECONDS(10), SECONDS(1));
    expect_reason("apps", "mail", SUCCESS);
    assert_int_equal(count_listeners(), 1);
    expect_rest();
}

/* ---- local mode ---- */

static int setup_local(void **state)
{
    (void)state;
    start_world(false);
    world.settings.first_port = 1110;
    world.settings.last_port = 1209;
    serve("inbox");
    return 0;
}

static void local_mode(void **state)
{
    (void)state;
    configure(SHARED);
    put_shared_cr("default", "mail", A_AND_B);
    start_controller();
    settle();
    assert_int_equal(world.changed, 2);
    assert_string_equal(world.last, "default/mail-b ConfigurationSuccessful 1111");
    put_tenants("default", "mail", "[" Q "a" Q "]");
    settle();
    assert_int_equal(world.gone, 1);
    assert_int_equal(count_listeners(), 1);
    put_tenants("default", "mail", NULL);
    settle();
    assert_string_equal(world.last, "default/mail " INVALID " 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(two_tenants),
        TEST(restart_writes_nothing),
        TEST(names_are_in_lower_case),
        TEST(tenants_come_and_go),
        TEST(removed_while_it_is_read),
        TEST(invalid_annotations),
        TEST(another_proxy_has_spoken),
        TEST(ignored_in_dedicated_mode),
        TEST(modes_are_switched),
        TEST(one_tenant_fails),
        TEST(no_tenant_has_mail),
        TEST(one_tenant_hangs),
        TEST(one_hangs_and_one_has_no_mail),
        TEST(readings_are_bounded),
        TEST(too_long_together),
        TEST(foreign_service),
        TEST(one_name_for_two),
        TEST(one_port_for_two),
        TEST(many_tenants),
        cmocka_unit_test_setup_teardown(local_mode, setup_local, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
