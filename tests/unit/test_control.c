/* Tests the life of CRs in a cluster where nothing fails. */
#include "tests/unit/world/controller.h"

#define CREATE                                                                                     \
    "create Service home/inbox\n"                                                                  \
    "create NetworkPolicy home/tproxy-namespace-apps\n"                                            \
    "create Service apps/inbox\n"                                                                  \
    "status Destination apps/inbox ConfigurationSuccessful\n"                                      \
    "create Event apps/ ConfigurationSuccessful\n"

static bool ready(void)
{
    const char *why;
    return controller_ready(replica->controller, &why);
}

/* Starts with a mailbox that is served. */
static void serve_inbox(void)
{
    put_cr("apps", "inbox", "inbox", "");
    start_controller();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    assert_true(ready());
    world_forget_journal();
}

/* ---- the life of a CR ---- */

static void mailbox_is_served(void **state)
{
    (void)state;
    start_controller();
    settle();
    expect_calls("create ConfigMap home/tproxy-last-configuration\n"
                 "status TransparentProxy home/transparent-proxy AllHonoured\n");
    put_cr("apps", "inbox", "inbox", "");
    settle();
    expect_calls(CREATE);
    assert_int_equal(port_of(HOME, "inbox", "port"), 110);
    assert_int_equal(count_listeners(), 1);
    assert_int_not_equal(replica->listeners[target_port("inbox")], 0);
    assert_string_equal(text_at("Service", "apps", "inbox", "spec.externalName"),
                        "inbox.home.svc.cluster.local");
    char expected[128];
    text_fmt(expected, sizeof(expected), "apps/inbox ConfigurationSuccessful %d",
             target_port("inbox"));
    assert_string_equal(world.last, expected);
    assert_int_equal(world.finds, 1);
}

static const char *first_line(uint16_t port)
{
    static char line[512];
    int fd = dial_port(port);
    ssize_t n = 0;
    for (int i = 0; i < 1000 && n <= 0; i++) {
        loop_turn(world.loop, true);
        n = recv(fd, line, sizeof(line) - 1, 0);
    }
    line[n > 0 ? n : 0] = '\0';
    close(fd);
    turn_quietly(world.loop);
    return line;
}

/* Every client that connects to the target port gets a greeting. */
static void clients_are_greeted(void **state)
{
    (void)state;
    serve_inbox();
    assert_memory_equal(first_line(target_port("inbox")), "+OK ", 4);
}

static void mailbox_is_withdrawn(void **state)
{
    (void)state;
    serve_inbox();
    fake_drop("Destination", "apps", "inbox");
    settle();
    expect_calls("create ConfigMap home/tproxy-resting-ports\n"
                 "get CustomResourceDefinition "
                 "/destinations.destination.connectivity.api.sap\n"
                 "delete Service apps/inbox\n"
                 "delete Service home/inbox\n");
    assert_false(exists("Service", HOME, "inbox"));
    assert_false(exists("Service", "apps", "inbox"));
    assert_int_equal(count_listeners(), 0);
    assert_string_equal(world.last, "apps/inbox gone");
    pass(SECONDS(1));
    expect_calls("delete NetworkPolicy home/tproxy-namespace-apps\n");
    pass_slowly(SECONDS(600), SECONDS(10));
    expect_calls("");
}

/* An answer that arrives before the watch reports the same change has no further effect. */
static void answers_before_reports(void **state)
{
    (void)state;
    fake.answers_first = true;
    start_controller();
    settle();
    world_forget_journal();
    put_cr("apps", "inbox", "inbox", "");
    settle();
    expect_calls(CREATE);
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1));
    assert_false(exists("Service", HOME, "inbox"));
    assert_false(exists("Service", "apps", "inbox"));
    assert_false(exists("NetworkPolicy", HOME, "tproxy-namespace-apps"));
}

/* The home namespace has no alias. */
static void in_the_home_namespace(void **state)
{
    (void)state;
    put_cr(HOME, "inbox", "inbox", "");
    start_controller();
    settle();
    expect_calls("create ConfigMap home/tproxy-last-configuration\n"
                 "status TransparentProxy home/transparent-proxy AllHonoured\n"
                 "create Service home/inbox\n"
                 "create NetworkPolicy home/tproxy-namespace-home\n"
                 "status Destination home/inbox ConfigurationSuccessful\n"
                 "create Event home/ ConfigurationSuccessful\n");
}

/* A foreign finalizer keeps the CR for a while. Its Services are deleted at once. */
static void cr_with_a_foreign_finalizer(void **state)
{
    (void)state;
    serve_inbox();
    fake_put("Destination", "apps", "inbox", "{'metadata':{'finalizers':['somebody/else']}}");
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1));
    assert_false(exists("Service", HOME, "inbox"));
    assert_int_equal(count_listeners(), 0);
    assert_int_equal(world.gone, 0);
    fake_put("Destination", "apps", "inbox", "{'metadata':{'finalizers':null}}");
    settle();
    assert_int_equal(world.gone, 1);
}

/* ---- existing objects ---- */

static void restart_writes_nothing(void **state)
{
    (void)state;
    serve_inbox();
    uint16_t port = target_port("inbox");
    for (int i = 0; i < 2; i++) {
        fake.answers_first = i == 1;
        restart_controller();
        pass_slowly(SECONDS(600), SECONDS(10));
        expect_calls("");
        assert_int_not_equal(replica->listeners[port], 0);
        assert_true(ready());
    }
}

/* Listeners of existing Services, and the policies that admit clients to them, do not wait for
 * destinations, however many there are. */
static void old_services_listen_at_once(void **state)
{
    (void)state;
    enum { MANY = 90 };
    serve_inbox();
    for (int i = 1; i < MANY; i++) {
        char name[16];
        text_fmt(name, sizeof(name), "inbox-%d", i);
        put_cr("apps", name, "inbox", "");
    }
    pass(SECONDS(1));
    assert_int_equal(count_listeners(), MANY);
    world.source_mute = true;
    restart_controller();
    world_forget_journal();
    pass_slowly(SECONDS(10), SECONDS(1));
    assert_int_equal(count_listeners(), MANY);
    assert_int_not_equal(replica->listeners[target_port("inbox-89")], 0);
    assert_false(ready());
    world.source_mute = false;
    pass(SECONDS(1));
    assert_true(ready());
    expect_calls("");
}

/* The controller decides nothing before all kinds have been listed once. */
static void waits_for_all_lists(void **state)
{
    (void)state;
    static const char *const kinds[] = {"TransparentProxy", "Destination", "Namespace", "Service",
                                        "NetworkPolicy"};
    serve_inbox();
    fake_put("Service", HOME, "inbox", "{'metadata':{'labels':{'tproxy/home':null}}}");
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        fake_kind(kinds[i])->mute = true;
        restart_controller();
        pass(SECONDS(10));
        assert_int_equal(world.finds, 1);
        assert_false(ready());
        expect_calls("");
        fake_kind(kinds[i])->mute = false;
    }
}

struct drift {
    const char *kind, *namespace, *name, *patch; /* patch NULL: the object is deleted */
    const char *calls;
};

static void drift_is_repaired(void **state)
{
    (void)state;
    static const struct drift cases[] = {
        {"Service", HOME, "inbox", NULL, "create Service home/inbox\n"},
        {"Service", "apps", "inbox", NULL, "create Service apps/inbox\n"},
        {"Service", HOME, "inbox", "{'spec':{'selector':{'app.kubernetes.io/name':'x'}}}",
         "apply Service home/inbox\n"},
        {"Service", HOME, "inbox",
         "{'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp','port':110,"
         "'targetPort':80}]}}",
         "apply Service home/inbox\n"},
        {"Service", HOME, "inbox",
         "{'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp','port':110,"
         "'targetPort':80},{'name':'more','protocol':'TCP','port':111,'targetPort':9494}]}}",
         "apply Service home/inbox\n"},
        {"Service", HOME, "inbox", "{'spec':{'externalIPs':['192.0.2.1']}}",
         "apply Service home/inbox\n"},
        {"Service", HOME, "inbox", "{'spec':{'publishNotReadyAddresses':true}}",
         "apply Service home/inbox\n"},
        {"Service", "apps", "inbox", "{'spec':{'externalName':'evil.example.com'}}",
         "apply Service apps/inbox\n"},
        {"Service", "apps", "inbox", "{'metadata':{'annotations':{'a':'b'}}}", ""},
        {"Service", "apps", "inbox",
         "{'spec':{'selector':{'app.kubernetes.io/name':'without meaning'}}}", ""},
        {"NetworkPolicy", HOME, "tproxy-namespace-apps", NULL,
         "create NetworkPolicy home/tproxy-namespace-apps\n"},
#define POLICY "NetworkPolicy", HOME, "tproxy-namespace-apps"
#define PUT_RIGHT "apply NetworkPolicy home/tproxy-namespace-apps\n"
        {POLICY, "{'spec':{'ingress':null}}", PUT_RIGHT},
        {POLICY, "{'spec':{'podSelector':{'matchLabels':{'some':'other'}}}}", PUT_RIGHT},
        {POLICY, "{'spec':{'podSelector':null}}", PUT_RIGHT},
        {POLICY, "{'spec':{'podSelector':{'matchExpressions':[{'key':'a','operator':'Exists'}]}}}",
         PUT_RIGHT},
        {POLICY, "{'spec':{'policyTypes':['Ingress','Egress'],'egress':[]}}", PUT_RIGHT},
        {POLICY, "{'spec':{'egress':[{}]}}", PUT_RIGHT},
        {POLICY, "{'spec':{'ingress':[{}]}}", PUT_RIGHT},
        {POLICY, "{'metadata':{'labels':{'some':'other'}}}", ""},
    };
    serve_inbox();
    pass(SECONDS(1));
    uint16_t port = target_port("inbox");
    char *policy = mem_strdup(text_at("NetworkPolicy", HOME, "tproxy-namespace-apps", "spec"));
    world_forget_journal();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct drift *c = &cases[i];
        if (c->patch) {
            fake_put(c->kind, c->namespace, c->name, c->patch);
        } else {
            fake_drop(c->kind, c->namespace, c->name);
        }
        pass(SECONDS(1));
        expect_calls(c->calls);
        assert_int_equal(target_port("inbox"), port);
        assert_int_not_equal(replica->listeners[port], 0);
        /* The pause is so long that the next change does not count as repeated. */
        pass_slowly(SECONDS(1200), SECONDS(60));
        world_forget_journal();
        if (strcmp(c->kind, "NetworkPolicy") == 0 && c->calls[0]) {
            struct json *there = json_parse(str_of(text_at(POLICY, "spec")), NULL);
            struct json *before = json_parse(str_of(policy), NULL);
            assert_true(json_digest(json_root(there)) == json_digest(json_root(before)));
            json_free(there);
            json_free(before);
        }
    }
    free(policy);
}

/* A policy that somebody else changes again and again is repaired less and less often. A change of
 * our own is still written at once. */
static void fight_about_a_policy(void **state)
{
    (void)state;
    serve_inbox();
    pass(SECONDS(1));
    world_forget_journal();
    for (int i = 0; i < 600; i++) {
        fake_put(POLICY, "{'spec':{'podSelector':{'matchLabels':{'some':'other'}}}}");
        pass(SECONDS(1));
    }
    assert_in_range(fake.calls_made[CLUSTER_APPLY], 5, 15);
    world_forget_journal();
    put_cr("apps", "another", "inbox", "");
    pass(SECONDS(1));
    char port[16];
    text_fmt(port, sizeof(port), "%d", target_port("another"));
    assert_non_null(strstr(text_at(POLICY, "spec"), port));
    pass_slowly(SECONDS(600), SECONDS(1));
    assert_null(strstr(text_at(POLICY, "spec"), "other"));
}

/* A condition that somebody has removed is written again. */
static void status_is_repaired(void **state)
{
    (void)state;
    serve_inbox();
    fake_put("Destination", "apps", "inbox", "{'status':null}");
    settle();
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
}

/* Conditions of others stay as they are. */
static void other_conditions_stay(void **state)
{
    (void)state;
    serve_inbox();
    fake_put("Destination", "apps", "inbox",
             "{'status':{'conditions':[{'type':'Other','status':'True','reason':'Theirs',"
             "'message':'m'}]}}");
    settle();
    expect_reason("apps", "inbox", "ConfigurationSuccessful");
    assert_non_null(strstr(text_at("Destination", "apps", "inbox", "status.conditions"), "Theirs"));
}

/* ---- ghosts: objects of ours whose CR does not exist ---- */

static void ghosts_go(void **state)
{
    (void)state;
    serve_inbox();
    stop_controller();
    fake_drop("Destination", "apps", "inbox");
    start_controller();
    pass(SECONDS(1));
    assert_false(exists("Service", HOME, "inbox"));
    assert_false(exists("Service", "apps", "inbox"));
    assert_false(exists("NetworkPolicy", HOME, "tproxy-namespace-apps"));
    assert_int_equal(count_listeners(), 0);
}

static void ghosts_stay_without_the_crd(void **state)
{
    (void)state;
    serve_inbox();
    stop_controller();
    fake_drop("Destination", "apps", "inbox");
    fake_drop(CRD);
    start_controller();
    pass_slowly(SECONDS(60), SECONDS(1));
    assert_int_equal(fake.calls_made[CLUSTER_DELETE], 0);
    fake_put(CRD, "{}");
    put_cr("apps", "inbox", "inbox", "");
    uint16_t port = target_port("inbox");
    pass(SECONDS(10));
    assert_int_equal(fake.calls_made[CLUSTER_DELETE], 0);
    assert_int_equal(target_port("inbox"), port);
}

/* Deleting the CRD deletes the CRs, but must not remove their mailboxes. */
static void crd_deleted_and_created(void **state)
{
    (void)state;
    serve_inbox();
    uint16_t port = target_port("inbox");
    fake_put(CRD, "{'metadata':{'finalizers':['x']}}");
    fake_drop(CRD);
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(10), SECONDS(1));
    fake_put(CRD, "{'metadata':{'finalizers':null}}");
    fake_set_presence("Destination", CLUSTER_UNKNOWN);
    world_forget_journal();
    pass_slowly(SECONDS(600), SECONDS(1));
    expect_calls("");
    assert_int_not_equal(replica->listeners[port], 0);
    assert_true(ready());

    fake_put(CRD, "{}");
    fake_set_presence("Destination", CLUSTER_PRESENT);
    pass_slowly(SECONDS(110), SECONDS(1));
    expect_calls("get CustomResourceDefinition /destinations.destination.connectivity.api.sap\n");
    put_cr("apps", "inbox", "inbox", "");
    pass(SECONDS(10));
    assert_int_equal(fake.calls_made[CLUSTER_DELETE] + fake.calls_made[CLUSTER_CREATE], 1);
    assert_int_equal(target_port("inbox"), port);
    char uid[32];
    text_fmt(uid, sizeof(uid), "\"%s\"", text_at("Destination", "apps", "inbox", "metadata.uid"));
    assert_non_null(strstr(text_at("Service", "apps", "inbox", "metadata.ownerReferences"), uid));
    expect_reason("apps", "inbox", "ConfigurationSuccessful");

    /* This deletion counts, because the CRD exists and is the one that the CR belongs to. */
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1));
    assert_false(exists("Service", HOME, "inbox"));
}

/* Deleting and creating the CRD within one second, so that both creation times are equal, has the
 * same result. */
static void crd_deleted_and_created_at_once(void **state)
{
    (void)state;
    serve_inbox();
    uint16_t port = target_port("inbox");
    fake_drop(CRD);
    fake_drop("Destination", "apps", "inbox");
    settle();
    fake_put(CRD, "{}");
    fake_put(CRD, "{'metadata':{'creationTimestamp':'2026-01-01T00:00:00Z'}}");
    pass_slowly(SECONDS(20), SECONDS(1));
    put_cr("apps", "inbox", "inbox", "");
    pass_slowly(SECONDS(200), SECONDS(10));
    assert_int_equal(fake.calls_made[CLUSTER_DELETE], 0);
    assert_int_equal(target_port("inbox"), port);
}

/* Services of CRs that nobody applies again are deleted after a while, even if the CRD was replaced
 * while the controller did not run. */
static void crd_replaced_while_down(void **state)
{
    (void)state;
    serve_inbox();
    stop_controller();
    fake_drop("Destination", "apps", "inbox");
    fake_drop(CRD);
    fake_put(CRD, "{}");
    start_controller();
    pass_slowly(SECONDS(119), SECONDS(1));
    assert_int_equal(fake.calls_made[CLUSTER_DELETE], 0);
    pass(SECONDS(2));
    assert_false(exists("Service", HOME, "inbox"));
    assert_int_equal(count_listeners(), 0);
}

/* ---- many ---- */

static uint64_t reconciles(void)
{
    static const char name[] = "\ntproxy_reconciles_total ";
    uint64_t n = 0;
    struct buf out;
    buf_init(&out, SIZE_MAX);
    controller_metrics(replica->controller, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    const char *line = strstr(buf_str(&out).p, name);
    assert_non_null(line);
    assert_int_equal(
        text_number((struct str){line + strlen(name), strcspn(line + strlen(name), "\n")},
                    UINT64_MAX, &n),
        OK);
    buf_free(&out);
    return n;
}

/* Each turn closes a few listeners, so that sessions continue. A listener that is still open serves
 * its clients. */
static void listeners_close_over_many_turns(void **state)
{
    (void)state;
    enum { MANY = 300, A_TURN = 64 };
    char name[16];
    world.any = make_destination("any", "pop3", "mail.example.com");
    world.settings.last_port = FIRST_PORT + MANY;
    for (int i = 0; i < MANY; i++) {
        text_fmt(name, sizeof(name), "mail-%d", i);
        put_cr("apps", name, name, "");
    }
    start_controller();
    pass(SECONDS(1));
    assert_int_equal(count_listeners(), MANY);
    controller_stop(replica->controller);
    pop3_drain(replica->pop3);
    assert_int_equal(count_listeners(), MANY - A_TURN);
    uint16_t port = FIRST_PORT;
    while (!replica->listeners[port]) {
        port++;
    }
    assert_memory_equal(first_line(port), "+OK ", 4);
    size_t turns = 0;
    for (size_t before = count_listeners(); !pop3_is_drained(replica->pop3); turns++) {
        loop_turn(world.loop, false);
        assert_true(before - count_listeners() <= A_TURN);
        before = count_listeners();
    }
    assert_in_range(turns, 0, MANY / A_TURN + 1);
    assert_int_equal(count_listeners(), 0);
}

/* The work grows linearly with the number of CRs, and the number of lookups and calls under way at
 * one time is bounded. */
static void many_crs(void **state)
{
    (void)state;
    enum { MANY = 5000, UNDER_WAY = 64 };
    world.any = make_destination("any", "pop3", "mail.example.com");
    world.next_pretended = PRETENDED;
    world.settings.first_port = 16384;
    world.settings.last_port = 32767;
    world.deeds_max = 100 * MANY;
    start_controller();
    settle();
    for (int i = 0; i < MANY; i++) {
        char name[16];
        text_fmt(name, sizeof(name), "mail-%d", i);
        put_cr("apps", name, name, "");
    }
    world_forget_journal();
    pass(SECONDS(1));
    assert_true(ready());
    /* two Services each, a policy, and as many Events as one namespace may have at once */
    assert_in_range(fake.calls_made[CLUSTER_CREATE], 2 * MANY + 1001, 2 * MANY + 1002);
    assert_int_equal(fake.calls_made[CLUSTER_PATCH_STATUS], MANY);
    assert_in_range(fake.calls_made[CLUSTER_APPLY], 0, 2); /* the policy's */
    assert_int_equal(count_listeners(), MANY);
    assert_int_equal(controller_health(replica->controller).resources, MANY);
    assert_int_equal(controller_health(replica->controller).not_available, 0);
    assert_in_range(reconciles(), 5 * MANY, 20 * MANY);
    assert_in_range(world.most_waiting, 1, UNDER_WAY);
    /* A policy and the TransparentProxy's status have one call each besides. */
    assert_in_range(fake.most_waiting, 1, UNDER_WAY + 2);

    restart_controller();
    world_forget_journal();
    pass_slowly(SECONDS(10), MILLIS(100)); /* the reconciliations are spread over many turns */
    expect_calls("");
    assert_true(ready());
    assert_in_range(reconciles(), 2 * MANY, 6 * MANY);

    for (int i = 0; i < MANY; i++) {
        char name[16];
        text_fmt(name, sizeof(name), "mail-%d", i);
        fake_drop("Destination", "apps", name);
    }
    pass(SECONDS(1));
    assert_int_equal(count_listeners(), 0);
    assert_int_equal(fake.calls_made[CLUSTER_DELETE], 2 * MANY + 1);
    assert_int_equal(world.gone, MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(mailbox_is_served),
        TEST(clients_are_greeted),
        TEST(mailbox_is_withdrawn),
        TEST(answers_before_reports),
        TEST(in_the_home_namespace),
        TEST(cr_with_a_foreign_finalizer),
        TEST(restart_writes_nothing),
        TEST(old_services_listen_at_once),
        TEST(waits_for_all_lists),
        TEST(drift_is_repaired),
        TEST(fight_about_a_policy),
        TEST(status_is_repaired),
        TEST(other_conditions_stay),
        TEST(ghosts_go),
        TEST(ghosts_stay_without_the_crd),
        TEST(crd_deleted_and_created),
        TEST(crd_deleted_and_created_at_once),
        TEST(crd_replaced_while_down),
        TEST(listeners_close_over_many_turns),
        TEST(many_crs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
