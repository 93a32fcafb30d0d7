/* Tests a replica that does not lead: it listens for the Services that the leader writes, and makes
 * no call at all, which the world checks. Then it leads, and loses its term at any time. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"

enum { LEADER, FOLLOWER };

/* ---- two replicas ---- */

static bool ready(void)
{
    const char *why;
    return controller_ready(replica->controller, &why);
}

static bool listens(size_t number, uint16_t port)
{
    return world.replicas[number].listeners[port] != 0;
}

static size_t listeners_of(size_t number)
{
    world_use(number);
    return count_listeners();
}

/* Starts a leader and a follower with a mailbox that is served. */
static void serve_inbox(void)
{
    put_cr("apps", "inbox", "inbox", "");
    world_use(LEADER);
    start_controller();
    world_use(FOLLOWER);
    start_follower();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_true(listens(FOLLOWER, target_port("inbox")));
    assert_true(ready());
    world_forget_journal();
}

/* The same with a leader that has died, so that the test plays its part from now on. */
static void serve_without_leader(void)
{
    serve_inbox();
    world_use(LEADER);
    stop_controller();
    world_use(FOLLOWER);
}

static void give_port(const char *service, unsigned port)
{
    char text[256];
    text_fmt(text, sizeof(text),
             "{'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp',"
             "'port':110,'targetPort':%u}]}}",
             port);
    fake_put("Service", HOME, service, text);
}

/* Writes the home Service of apps/NAME as the leader would. */
static void put_home_service(const char *name, unsigned port)
{
    char *copy = fake_merged(fake_find("Service", HOME, "inbox")->text, "{}");
    char patch[256];
    text_fmt(patch, sizeof(patch),
             "{'metadata':{'labels':{'tproxy/destination-name':'%s'},"
             "'annotations':{'tproxy/destination-name':'%s'}}}",
             name, name);
    struct object o = object_of(patch);
    char *text = fake_merged(copy, o.text);
    struct item *i = fake_find("Service", HOME, name);
    if (i) {
        fake_remove(i);
    }
    fake_create("Service", HOME, name, text);
    give_port(name, port);
    object_free(&o);
    free(copy);
    free(text);
}

/* ---- a follower ---- */

/* The listener opens with the report of the Service. */
static void follows_a_new_mailbox(void **state)
{
    (void)state;
    serve("second");
    serve_inbox();
    put_cr("apps", "second", "second", "");
    settle(); /* the clock stands still */
    assert_true(listens(LEADER, target_port("second")));
    assert_true(listens(FOLLOWER, target_port("second")));
    assert_int_equal(listeners_of(FOLLOWER), 2);
    fake_drop("Destination", "apps", "second");
    settle();
    assert_int_equal(listeners_of(FOLLOWER), 1);
    assert_int_equal(listeners_of(LEADER), 1);
}

static void relabel_namespace(const char *label)
{
    char text[256];
    text_fmt(text, sizeof(text),
             "{'metadata':{'labels':{'transparent-proxy.connectivity.api.sap/namespace':%s}}}",
             label);
    fake_put("Namespace", "", "apps", text);
}

static void port_changes(void)
{
    give_port("inbox", 20090);
}

static void port_changes_and_returns(void)
{
    uint16_t port = target_port("inbox");
    give_port("inbox", 20090);
    settle();
    give_port("inbox", port);
}

static void another_appears(void)
{
    put_cr("apps", "second", "second", "");
    put_home_service("second", 20091);
}

static void two_share_the_port(void)
{
    put_cr("apps", "second", "second", "");
    put_home_service("second", target_port("inbox"));
}

static void two_share_for_a_while(void)
{
    two_share_the_port();
    settle();
    give_port("second", 20091);
}

static void service_goes(void)
{
    fake_drop("Service", HOME, "inbox");
}

static void service_goes_for_good(void)
{
    service_goes();
    pass_slowly(SECONDS(61), SECONDS(1));
}

static void service_returns(void)
{
    char *text = mem_strdup(fake_find("Service", HOME, "inbox")->text);
    service_goes();
    pass(SECONDS(50));
    fake_create("Service", HOME, "inbox", text);
    pass(SECONDS(50));
    free(text);
}

static void cr_goes(void)
{
    fake_drop("Destination", "apps", "inbox");
}

static void cr_goes_and_service(void)
{
    cr_goes();
    settle();
    service_goes();
}

static void cr_goes_and_a_finalizer_holds_the_service(void)
{
    cr_goes();
    fake_put("Service", HOME, "inbox", "{'metadata':{'finalizers':['x']}}");
    service_goes();
}

static void all_crs_go_with_the_crd(void)
{
    cr_goes();
    fake_drop(CRD);
    fake_set_presence("Destination", CLUSTER_UNKNOWN);
}

static void cr_cannot_be_read(void)
{
    fake_put("Destination", "apps", "inbox", "{'spec':{'service':{'port':'no'}}}");
}

static void namespace_is_not_managed(void)
{
    configure("'config':{'managedNamespacesMode':'labelSelector'}");
}

static void namespace_is_managed_again(void)
{
    namespace_is_not_managed();
    settle();
    relabel_namespace("'home'");
}

static void tenants_are_served(void)
{
    configure("'config':{'tenantMode':'shared'}");
}

static void service_loses_its_port(void)
{
    fake_put("Service", HOME, "inbox", "{'spec':{'ports':null}}");
}

static void service_becomes_foreign(void)
{
    fake_put("Service", HOME, "inbox", "{'metadata':{'labels':null}}");
    pass_slowly(SECONDS(61), SECONDS(1));
}

static void services_are_listed_without_it(void)
{
    fake_kind("Service")->empty = true;
    fake_relist("Service");
    pass_slowly(SECONDS(61), SECONDS(1));
}

static void lists_break_off(void)
{
    fake_kind("Service")->cut = true;
    fake_relist("Service");
}

static void services_are_forbidden(void)
{
    fake_set_presence("Service", CLUSTER_FORBIDDEN);
}

static void configuration_has_a_mistake(void)
{
    configure("'config':{'tenantMode':'bad'}");
}

static void configuration_is_deleted(void)
{
    fake_drop("TransparentProxy", HOME, "transparent-proxy");
    pass_slowly(SECONDS(150), SECONDS(10));
}

static void destination_changes(void)
{
    refuse("inbox", VERDICT_NOT_FOUND);
    controller_look_again(replica->controller, "inbox");
    pass_slowly(SECONDS(600), SECONDS(60));
}

static void policy_is_deleted(void)
{
    fake_drop("NetworkPolicy", HOME, "tproxy-namespace-apps");
}

static void status_is_changed(void)
{
    fake_put("Destination", "apps", "inbox", "{'status':null}");
}

static void record_is_deleted(void)
{
    fake_drop("ConfigMap", HOME, "tproxy-last-configuration");
}

static void annotation_is_ignored(void)
{
    put_tenants("apps", "inbox", "[\\'a\\']");
}

enum { OLD_PORT = 1, NEW_PORT = 2, OTHER_PORT = 4 };

/* The events, and on which ports the follower listens afterwards. */
static const struct {
    const char *name;
    void (*happens)(void);
    unsigned ports; /* OLD_PORT: the one of "inbox"; 20090; 20091 */
} events[] = {
    {"another Service appears", another_appears, OLD_PORT | OTHER_PORT},
    {"its port changes", port_changes, NEW_PORT},
    {"its port changes and returns", port_changes_and_returns, OLD_PORT},
    {"two Services share the port", two_share_the_port, 0},
    {"two Services share the port for a while", two_share_for_a_while, OLD_PORT | OTHER_PORT},
    {"the Service goes", service_goes, OLD_PORT},
    {"the Service goes for good", service_goes_for_good, 0},
    {"the Service returns", service_returns, OLD_PORT},
    {"the Service loses its port", service_loses_its_port, OLD_PORT},
    {"the Service becomes foreign", service_becomes_foreign, 0},
    {"the Services are listed without it", services_are_listed_without_it, 0},
    {"the lists of Services break off", lists_break_off, OLD_PORT},
    {"the Services are forbidden", services_are_forbidden, OLD_PORT},
    {"the CR goes", cr_goes, OLD_PORT}, /* perhaps with its CRD; the leader finds out */
    {"the CR goes, then the Service", cr_goes_and_service, 0},
    {"the CR goes, a finalizer holds the Service", cr_goes_and_a_finalizer_holds_the_service, 0},
    {"the CRD goes", all_crs_go_with_the_crd, OLD_PORT},
    {"the CR cannot be read", cr_cannot_be_read, 0},
    {"the namespace is not managed", namespace_is_not_managed, 0},
    {"the namespace is managed again", namespace_is_managed_again, OLD_PORT},
    {"tenants are served", tenants_are_served, 0},
    {"the configuration has a mistake", configuration_has_a_mistake, OLD_PORT},
    {"the configuration is deleted", configuration_is_deleted, OLD_PORT},
    {"the destination changes", destination_changes, OLD_PORT},
    {"a policy is deleted", policy_is_deleted, OLD_PORT},
    {"a status is changed", status_is_changed, OLD_PORT},
    {"a record is deleted", record_is_deleted, OLD_PORT},
    {"an annotation is ignored", annotation_is_ignored, OLD_PORT},
};

static void each_event(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        teardown(state);
        setup(state);
        serve("second");
        serve_without_leader();
        uint16_t old = target_port("inbox");
        unsigned finds = world.finds;
        events[i].happens();
        settle();
        unsigned ports = (listens(FOLLOWER, old) ? OLD_PORT : 0u) |
                         (listens(FOLLOWER, 20090) ? NEW_PORT : 0u) |
                         (listens(FOLLOWER, 20091) ? OTHER_PORT : 0u);
        size_t n = (size_t)__builtin_popcount(ports);
        if (ports != events[i].ports || count_listeners() != n || world.finds != finds) {
            fail_msg("%s: listens on %u, %zu listeners, %u destinations read", events[i].name,
                     ports, count_listeners(), world.finds - finds);
        }
        expect_calls("");
    }
}

/* ---- what a follower tells ---- */

static void expect_same_figures(void)
{
    struct controller_health of_leader = controller_health(world.replicas[LEADER].controller);
    struct controller_health of_follower = controller_health(world.replicas[FOLLOWER].controller);
    assert_int_equal(of_leader.resources, of_follower.resources);
    assert_int_equal(of_leader.not_available, of_follower.not_available);
    assert_int_equal(of_leader.configured, of_follower.configured);
    assert_string_equal(of_leader.message, of_follower.message);
}

/* Figures and pages are the same, for they come from the conditions. */
static void same_figures(void **state)
{
    (void)state;
    struct buf pages[2];
    refuse("web", VERDICT_TYPE_NOT_SUPPORTED);
    refuse("lost", VERDICT_NOT_FOUND);
    put_cr("apps", "web", "web", "");
    put_cr("apps", "lost", "lost", "");
    serve_inbox();
    expect_same_figures();
    assert_int_equal(controller_health(replica->controller).resources, 2);
    assert_int_equal(controller_health(replica->controller).not_available, 1);
    for (size_t i = 0; i < 2; i++) {
        buf_init(&pages[i], 4096);
        assert_int_equal(controller_resources_json(world.replicas[i].controller, &pages[i]), OK);
        assert_int_equal(buf_fmt(&pages[i], "%c", '\0'), OK);
    }
    assert_true(buf_len(&pages[LEADER]) > 100);
    assert_string_equal(buf_str(&pages[LEADER]).p, buf_str(&pages[FOLLOWER]).p);
    buf_free(&pages[LEADER]);
    buf_free(&pages[FOLLOWER]);
    configure("'config':{'tenantMode':'bad'}");
    settle();
    assert_false(controller_health(replica->controller).configured);
    expect_same_figures();
}

/* A follower that cannot listen on a port is not sent clients for a minute. */
static void port_is_in_use(void **state)
{
    (void)state;
    serve("second");
    serve_inbox();
    for (unsigned port = FIRST_PORT; port <= LAST_PORT; port++) {
        world.replicas[FOLLOWER].refuses[port] = EADDRINUSE;
    }
    put_cr("apps", "second", "second", "");
    settle();
    world_use(LEADER);
    assert_true(ready());
    world_use(FOLLOWER);
    assert_false(ready());
    assert_int_equal(controller_health(replica->controller).unheld, 1);
    assert_int_equal(count_listeners(), 1);

    pass_slowly(SECONDS(58), SECONDS(1));
    assert_false(ready());
    pass_slowly(SECONDS(4), SECONDS(1)); /* one port must not keep it from the others */
    assert_true(ready());
    assert_int_equal(controller_health(replica->controller).unheld, 1);

    memset(replica->refuses, 0, sizeof(replica->refuses));
    pass_slowly(SECONDS(70), SECONDS(1));
    assert_true(listens(FOLLOWER, target_port("second")));
    assert_int_equal(controller_health(replica->controller).unheld, 0);
    assert_true(listens(LEADER, target_port("second")));
}

/* It is ready again as soon as it listens. */
static void port_is_in_use_for_a_moment(void **state)
{
    (void)state;
    serve_inbox();
    uint16_t port = target_port("inbox");
    stop_controller();
    replica->refuses[port] = EADDRINUSE;
    start_follower();
    settle();
    assert_false(ready());
    replica->refuses[port] = 0;
    pass(SECONDS(2));
    assert_true(ready());
    assert_true(listens(FOLLOWER, port));
}

/* ---- the configuration ---- */

#define SHARED "'config':{'tenantMode':'shared'}"
#define MISTAKE "'config':{'tenantMode':'bad'}"

/* Two tenants with their Services in shared mode, and nothing in dedicated mode. */
static void serve_tenants(void)
{
    serve_inbox();
    configure(SHARED);
    put_tenants("apps", "inbox", "[\\'a\\',\\'b\\']");
    pass(SECONDS(1));
    assert_int_equal(listeners_of(FOLLOWER), 2);
}

/* A follower that starts while the object has a mistake uses the one that the leader has kept. */
static void last_configuration_at_the_start(void **state)
{
    (void)state;
    serve_tenants();
    configure(MISTAKE);
    settle();
    stop_controller();
    start_follower();
    settle();
    assert_int_equal(count_listeners(), 2);
    assert_true(ready());
}

/* A follower has missed a good object, which the leader has kept. */
static void missed_configuration(void **state)
{
    (void)state;
    serve_inbox();
    pass(SECONDS(2));
    fake_kind("TransparentProxy")->deaf[FOLLOWER] = true;
    configure(SHARED);
    put_tenants("apps", "inbox", "[\\'a\\',\\'b\\']");
    pass(SECONDS(1));
    assert_int_equal(listeners_of(LEADER), 2);
    configure(MISTAKE);
    settle();
    fake_relist("TransparentProxy");
    fake_kind("TransparentProxy")->deaf[FOLLOWER] = false;
    pass(SECONDS(1));
    assert_int_equal(listeners_of(FOLLOWER), 2);
}

/* ---- terms ---- */

static void hand_over(size_t from, size_t to)
{
    world_use(from);
    world_lead(false);
    settle();
    world_use(to);
    world_lead(true);
    settle();
}

/* A new leader reads the destinations, and finds nothing to write. */
static void hand_over_writes_nothing(void **state)
{
    (void)state;
    refuse("lost", VERDICT_NOT_FOUND);
    put_cr("apps", "lost", "lost", "");
    put_cr("apps", "noted", "inbox", "");
    put_tenants("apps", "noted", "[\\'a\\']"); /* is ignored, and an Event has said so */
    serve_inbox();
    uint16_t port = target_port("inbox");
    unsigned finds = world.finds;
    for (int i = 0; i < 3; i++) {
        hand_over(LEADER, FOLLOWER);
        pass(SECONDS(1));
        hand_over(FOLLOWER, LEADER);
        pass(SECONDS(1));
    }
    expect_calls("");
    assert_int_equal(world.finds, finds + 6 * 3);
    assert_int_equal(target_port("inbox"), port);
    assert_int_equal(listeners_of(LEADER), 2);
    assert_int_equal(listeners_of(FOLLOWER), 2);
}

/* Before a new leader has listed our Services afresh it decides nothing. */
static void lists_before_it_leads(void **state)
{
    static const char *const kinds[] = {"Service", "NetworkPolicy", "ConfigMap"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        teardown(state);
        setup(state);
        serve("second");
        serve_inbox();
        fake_kind(kinds[i])->deaf[FOLLOWER] = true;
        world_use(LEADER);
        put_cr("apps", "second", "second", "");
        settle();
        uint16_t port = target_port("second");
        stop_controller();
        world_forget_journal();
        world_use(FOLLOWER);
        world_lead(true);
        fake_put("Destination", "apps", "second", "{'status':null}");
        pass(SECONDS(5));
        expect_calls("");
        fake_kind(kinds[i])->deaf[FOLLOWER] = false;
        pass(SECONDS(5));
        assert_int_equal(target_port("second"), port);
        assert_true(listens(FOLLOWER, port));
        expect_calls("status Destination apps/second ConfigurationSuccessful\n"
                     "create Event apps/ ConfigurationSuccessful\n");
    }
}

static void second_appears(void)
{
    put_cr("apps", "second", "second", "");
}

static void second_appears_elsewhere(void)
{
    put_namespace("beta");
    put_cr("beta", "second", "second", "");
}

static void second_appears_beside_a_stranger(void)
{
    fake_put("Service", HOME, "second", "{'spec':{}}");
    second_appears();
}

static void service_is_edited(void)
{
    fake_put("Service", HOME, "inbox", "{'spec':{'selector':{'app.kubernetes.io/name':'x'}}}");
}

static void alias_cannot_go(void)
{
    fake_put("Service", "apps", "inbox", "{'metadata':{'finalizers':['x']}}");
    cr_goes();
}

static void configuration_changes(void)
{
    configure("'config':{'security':{'accessControl':{'destinations':"
              "{'defaultScope':'clusterWide'}}}}");
}

static void destination_is_no_mail(void)
{
    refuse("inbox", VERDICT_TYPE_NOT_SUPPORTED);
    controller_look_again(world.replicas[LEADER].controller, "inbox");
}

/* Each operation, what causes it, and the call by which it is known. */
static const struct operation_case {
    const char *name;
    void (*cause)(void);
    enum cluster_verb verb;
    const char *kind, *namespace, *object; /* NULL: any object */
} operations[] = {
    {"home Service", second_appears, CLUSTER_CREATE, "Service", HOME, "second"},
    {"alias", second_appears, CLUSTER_CREATE, "Service", "apps", "second"},
    {"status", second_appears, CLUSTER_PATCH_STATUS, "Destination", "apps", "second"},
    {"Event", second_appears, CLUSTER_CREATE, "Event", "apps", NULL},
    {"policy", second_appears, CLUSTER_APPLY, "NetworkPolicy", HOME, NULL},
    {"new policy", second_appears_elsewhere, CLUSTER_CREATE, "NetworkPolicy", HOME, NULL},
    {"look", second_appears_beside_a_stranger, CLUSTER_GET, "Service", HOME, "second"},
    {"repair", service_is_edited, CLUSTER_APPLY, "Service", HOME, "inbox"},
    {"confirm", cr_goes, CLUSTER_GET, "CustomResourceDefinition", "", NULL},
    {"record", cr_goes, CLUSTER_CREATE, "ConfigMap", HOME, "tproxy-resting-ports"},
    {"alias goes", cr_goes, CLUSTER_DELETE, "Service", "apps", "inbox"},
    {"alias is cut", alias_cannot_go, CLUSTER_APPLY, "Service", "apps", "inbox"},
    {"home Service goes", cr_goes, CLUSTER_DELETE, "Service", HOME, "inbox"},
    {"policy goes", cr_goes, CLUSTER_DELETE, "NetworkPolicy", HOME, NULL},
    {"status goes", destination_is_no_mail, CLUSTER_PATCH_STATUS, "Destination", "apps", "inbox"},
    {"object's status", configuration_has_a_mistake, CLUSTER_PATCH_STATUS, "TransparentProxy", HOME,
     NULL},
    {"configuration", configuration_changes, CLUSTER_APPLY, "ConfigMap", HOME,
     "tproxy-last-configuration"},
};

static const struct operation_case *held;

static bool holds_it(const struct cluster_call *call)
{
    return call->verb == held->verb && strcmp(call->kind->kind, held->kind) == 0 &&
           strcmp(call->namespace, held->namespace) == 0 &&
           (!held->object || strcmp(call->name, held->object) == 0);
}

static bool is_late(const struct cluster_call *call)
{
    (void)call;
    return true;
}

/* Checks that both listen on the ports of the home Services and on no others, and that a new leader
 * finds nothing to write. refused: the leader also listens for a CR whose Service cannot be
 * created. */
static void expect_order(const char *what, size_t leader, bool refused)
{
    size_t services = 0, follower = 1 - leader;
    LIST_EACH (it, &fake.items) {
        const struct item *i = container_of(it, struct item, link);
        if (strcmp(i->kind, "Service") == 0 && strcmp(i->namespace, HOME) == 0 &&
            fake_says(i->text, "metadata.labels.tproxy/home", HOME)) {
            uint16_t port = target_port(i->name);
            if (!listens(LEADER, port) || !listens(FOLLOWER, port)) {
                fail_msg("%s: not all listen for %s", what, i->name);
            }
            services++;
        }
    }
    if (listeners_of(leader) != services + refused || listeners_of(follower) != services) {
        fail_msg("%s: %zu Services, %zu and %zu listeners", what, services, listeners_of(leader),
                 listeners_of(follower));
    }
    uint64_t changes = fake.changes;
    hand_over(leader, follower);
    pass_slowly(SECONDS(130), SECONDS(5));
    if (fake.changes != changes) {
        fail_msg("%s: another leader makes it otherwise:\n%.*s", what,
                 STR_ARG(buf_str(&fake.journal)));
    }
}

static void lose_term(void **state, const struct operation_case *operation, bool late, bool again)
{
    char what[128];
    text_fmt(what, sizeof(what), "%s, %s, %s", operation->name, late ? "late" : "not carried out",
             again ? "leads again" : "the other one leads");
    teardown(state);
    setup(state);
    serve("second");
    serve_inbox();
    uint16_t port = target_port("inbox");
    held = operation;
    fake.holds = holds_it;
    operation->cause();
    pass_slowly(SECONDS(5), SECONDS(1));
    if (!fake.waiting) {
        fail_msg("%s: the call does not come", what);
    }
    fake.reached = late ? is_late : NULL;
    world_use(LEADER);
    world_lead(false);
    fake.holds = NULL;
    fake.reached = NULL;
    if (!late && operation == operations) { /* the port that it has given to nobody */
        settle();
        assert_int_equal(listeners_of(LEADER), 1);
    }
    size_t leader = again ? LEADER : FOLLOWER;
    world_use(leader);
    world_lead(true);
    pass_slowly(SECONDS(130), SECONDS(5));
    if (exists("Service", HOME, "inbox")) {
        assert_int_equal(target_port("inbox"), port);
    }
    if (exists("Destination", "apps", "second") && operation->cause == second_appears) {
        expect_reason("apps", "second", SUCCESS);
    }
    expect_order(what, leader, operation->cause == second_appears_beside_a_stranger);
}

static void term_is_lost_in_each_operation(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(operations); i++) {
        for (unsigned how = 0; how < 4; how++) {
            lose_term(state, &operations[i], how & 1, how & 2);
        }
    }
}

/* ---- when a mailbox is called working ---- */

/* Followers open their listeners a moment after the leader has seen the Service. */
static void condition_waits_for_followers(void **state)
{
    (void)state;
    serve("second");
    world.settings.service_delay = SECONDS(1);
    serve_inbox();
    put_cr("apps", "second", "second", "");
    pass(MILLIS(990));
    pass(0);
    assert_true(exists("Service", "apps", "second"));
    expect_reason("apps", "second", "");
    pass(MILLIS(20));
    expect_reason("apps", "second", SUCCESS);

    /* A condition that is True stays so when the Service has to be written again. */
    world_forget_journal();
    fake_drop("Service", HOME, "second");
    pass_slowly(SECONDS(3), MILLIS(100));
    expect_calls("create Service home/second\n");
    expect_reason("apps", "second", SUCCESS);

    /* Services that were there before need no wait. */
    fake_put("Destination", "apps", "second", "{'status':null}");
    hand_over(LEADER, FOLLOWER);
    expect_reason("apps", "second", SUCCESS);
    stop_controller();
    fake_put("Destination", "apps", "second", "{'status':null}");
    start_controller();
    settle();
    expect_reason("apps", "second", SUCCESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(follows_a_new_mailbox, setup, teardown),
        cmocka_unit_test_setup_teardown(each_event, setup, teardown),
        cmocka_unit_test_setup_teardown(same_figures, setup, teardown),
        cmocka_unit_test_setup_teardown(port_is_in_use, setup, teardown),
        cmocka_unit_test_setup_teardown(port_is_in_use_for_a_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(last_configuration_at_the_start, setup, teardown),
        cmocka_unit_test_setup_teardown(missed_configuration, setup, teardown),
        cmocka_unit_test_setup_teardown(hand_over_writes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_before_it_leads, setup, teardown),
        cmocka_unit_test_setup_teardown(term_is_lost_in_each_operation, setup, teardown),
        cmocka_unit_test_setup_teardown(condition_waits_for_followers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
