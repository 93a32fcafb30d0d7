/* Tests NetworkPolicies and conditions: a CR is available once the clients that it names are
 * admitted and no others are. No policy waits for another one. No port is used again while a policy
 * lists it. */
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"
#define IN_THE_WAY "ConfigurationError-K8sResourceWithNameAlreadyPresent"
#define KIND "NetworkPolicy"
#define APPS "tproxy-namespace-apps"
#define BETA "tproxy-namespace-beta"
#define EVERYBODY "tproxy-clusterwide"
#define WIDE ",'accessControl':{'scope':'clusterWide'}"

/* Calls for the policy with this name fail. */
static struct {
    const char *name;
    enum cluster_verb verb;
    enum cluster_result result;
} fault;

static enum cluster_result policy_fate(const struct cluster_call *call)
{
    bool meant = strcmp(call->kind->kind, KIND) == 0 && strcmp(call->name, fault.name) == 0 &&
                 call->verb == fault.verb;
    return meant ? fault.result : CLUSTER_DONE;
}

static void meet(const char *name, enum cluster_verb verb, enum cluster_result result)
{
    fault.name = name;
    fault.verb = verb;
    fault.result = result;
    fake.fate = policy_fate;
}

static void heal(void)
{
    fake.fate = NULL;
}

static void start(void)
{
    put_namespace("beta");
    start_controller();
    settle();
}

static void expect_message(const char *namespace, const char *name, const char *part)
{
    const char *message = condition_of(namespace, name, "message");
    if (!strstr(message, part)) {
        fail_msg("\"%s\" does not say \"%s\"", message, part);
    }
}

static bool admits(const char *policy, uint16_t port)
{
    size_t n;
    bool found = false;
    const struct item *i = fake_find(KIND, HOME, policy);
    struct json *doc = i ? json_parse(str_of(i->text), NULL) : NULL;
    struct plan_ports *ranges =
        plan_policy_ports(doc ? json_root(doc) : (struct json_value){0}, &n);
    for (size_t r = 0; r < n; r++) {
        found |= ranges[r].first <= port && port <= ranges[r].last;
    }
    free(ranges);
    json_free(doc);
    return found;
}

static size_t written(const char *verb, const char *policy)
{
    char line[128];
    size_t n = 0;
    char *journal = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    text_fmt(line, sizeof(line), "%s " KIND " home/%s\n", verb, policy);
    for (const char *at = strstr(journal, line); at; at = strstr(at + 1, line)) {
        n++;
    }
    free(journal);
    return n;
}

/* ---- admitted, or not ---- */

/* A failure that may pass is not shown at once. The condition waits, and the other namespace is
 * served. */
static void waits_for_its_own_policy(void **state)
{
    (void)state;
    start();
    meet(APPS, CLUSTER_CREATE, CLUSTER_LATER);
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "letters", "inbox", "");
    settle();
    expect_reason("apps", "inbox", "");
    expect_reason("beta", "letters", SUCCESS);
    const char *why;
    assert_true(controller_ready(replica->controller, &why));
    heal();
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_true(admits(APPS, target_port("inbox")));
}

/* A failure that repeats is shown. */
static void repeated_failure_is_shown(void **state)
{
    (void)state;
    start();
    meet(APPS, CLUSTER_CREATE, CLUSTER_LATER);
    put_cr("apps", "inbox", "inbox", "");
    pass_slowly(SECONDS(10), MILLIS(500));
    expect_reason("apps", "inbox", "ConfigurationFailed");
    expect_message("apps", "inbox", "create NetworkPolicy " APPS);
    heal();
    pass_slowly(SECONDS(10), MILLIS(500));
    expect_reason("apps", "inbox", SUCCESS);
}

static void refused(void **state)
{
    (void)state;
    start();
    meet(APPS, CLUSTER_CREATE, CLUSTER_REFUSED);
    put_cr("apps", "inbox", "inbox", "");
    settle();
    expect_reason("apps", "inbox", "ConfigurationFailed");
    expect_message("apps", "inbox",
                   "No pod is admitted to the mailbox by the NetworkPolicy \"" APPS
                   "\" in the namespace \"home\": create NetworkPolicy " APPS);
    world_forget_journal();
    pass_slowly(SECONDS(600), SECONDS(1));
    assert_in_range(calls_made(), 8, 40);
    heal();
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
}

/* Admitted clients stay admitted while another port cannot be added. */
static void refused_for_a_second_port(void **state)
{
    (void)state;
    start();
    put_cr("apps", "inbox", "inbox", "");
    pass(SECONDS(1));
    meet(APPS, CLUSTER_APPLY, CLUSTER_REFUSED);
    put_cr("apps", "letters", "inbox", "");
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    expect_reason("apps", "letters", "ConfigurationFailed");
}

/* A foreign policy has the name of ours. */
static void foreign_policy_with_our_name(void **state)
{
    (void)state;
    fake_put(KIND, HOME, APPS, "{'spec':{'podSelector':{}}}");
    start();
    put_cr("apps", "inbox", "inbox", "");
    settle();
    expect_reason("apps", "inbox", IN_THE_WAY);
    expect_message(
        "apps", "inbox",
        "No pod is admitted to the mailbox by the NetworkPolicy \"" APPS
        "\" in the namespace \"home\": it is there already and is not tproxy's. Delete it "
        "(kubectl delete networkpolicy -n home " APPS ")");
    pass_slowly(SECONDS(600), SECONDS(1));
    put_cr("beta", "letters", "inbox", "");
    settle();
    expect_reason("beta", "letters", SUCCESS);
    assert_true(admits(BETA, target_port("letters")));
    fake_drop(KIND, HOME, APPS);
    pass_slowly(SECONDS(65), SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_true(admits(APPS, target_port("inbox")));
}

/* A policy of ours has the name, but the watch has not reported it. */
static void unreported_policy_of_ours(void **state)
{
    (void)state;
    start();
    put_cr("apps", "inbox", "inbox", "");
    pass(SECONDS(1));
    fake_kind(KIND)->mute = true;
    char *text = mem_strdup(fake_find(KIND, HOME, APPS)->text);
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1)); /* the watch does not report its deletion */
    fake_put(KIND, HOME, APPS, text);
    free(text);
    put_cr("apps", "inbox", "inbox", "");
    pass_slowly(SECONDS(5), SECONDS(1));
    fake_kind(KIND)->mute = false;
    pass_slowly(SECONDS(65), SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_true(admits(APPS, target_port("inbox")));
}

/* ---- clients that no CR names ---- */

static void scope_is_narrowed(void **state)
{
    (void)state;
    start();
    put_cr("apps", "inbox", "inbox", WIDE);
    settle();
    uint16_t port = target_port("inbox");
    assert_true(admits(EVERYBODY, port));
    meet(EVERYBODY, CLUSTER_DELETE, CLUSTER_REFUSED);
    fake_put("Destination", "apps", "inbox", "{'spec':{'accessControl':{'scope':'namespaced'}}}");
    pass(SECONDS(1));
    assert_true(admits(APPS, port));
    /* A policy that cannot be deleted is emptied, so that it admits nobody. */
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_true(exists(KIND, HOME, EVERYBODY));
    assert_false(admits(EVERYBODY, port));
    expect_reason("apps", "inbox", SUCCESS);
}

/* The CR is not available while others are admitted. */
static void scope_cannot_be_narrowed(void **state)
{
    (void)state;
    start();
    put_cr("apps", "inbox", "inbox", WIDE);
    put_cr("beta", "letters", "inbox", WIDE);
    pass(SECONDS(1));
    meet(EVERYBODY, CLUSTER_APPLY, CLUSTER_REFUSED);
    fake_put("Destination", "apps", "inbox", "{'spec':{'accessControl':{'scope':'namespaced'}}}");
    pass(SECONDS(1));
    expect_reason("apps", "inbox", "ConfigurationFailed");
    expect_message("apps", "inbox",
                   "The NetworkPolicy \"" EVERYBODY
                   "\" in the namespace \"home\" admits pods to the "
                   "mailbox that must not reach it: apply NetworkPolicy " EVERYBODY);
    expect_reason("beta", "letters", SUCCESS);
    heal();
    pass_slowly(SECONDS(60), SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_false(admits(EVERYBODY, target_port("inbox")));
}

/* If two Services have one port, the older one is served again after the younger one's namespace is
 * no longer admitted to it. */
static void port_of_two_services(void **state)
{
    (void)state;
    start();
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "letters", "inbox", "");
    pass(SECONDS(1));
    uint16_t port = target_port("inbox");
    char text[256];
    text_fmt(text, sizeof(text),
             "{'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp',"
             "'port':110,'targetPort':%d}]}}",
             port);
    stop_controller();
    fake_put("Service", HOME, "letters", text);
    meet(BETA, CLUSTER_APPLY, CLUSTER_REFUSED);
    start_controller();
    pass_slowly(SECONDS(2), MILLIS(100));
    assert_int_not_equal(target_port("letters"), port);
    assert_true(admits(BETA, port) == (replica->listeners[port] == 0));
    heal();
    pass_slowly(SECONDS(65), SECONDS(1));
    assert_false(admits(BETA, port));
    assert_int_not_equal(replica->listeners[port], 0);
    expect_reason("apps", "inbox", SUCCESS);
    expect_reason("beta", "letters", SUCCESS);
}

/* ---- how often they are written ---- */

/* A policy is removed although CRs of other namespaces wait for something. */
static void removed_while_others_wait(void **state)
{
    (void)state;
    start();
    put_cr("apps", "inbox", "inbox", "");
    pass(SECONDS(1));
    world.source_mute = true;
    put_cr("beta", "letters", "inbox", "");
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1));
    expect_reason("beta", "letters", "");
    assert_false(exists(KIND, HOME, APPS));
}

/* Many CRs cost few writes; a single CR is not delayed. */
static void writes_are_collected(void **state)
{
    (void)state;
    enum { MANY = 80 };
    char name[16];
    start();
    for (int i = 0; i < MANY; i++) {
        text_fmt(name, sizeof(name), "inbox-%d", i);
        put_cr("apps", name, "inbox", "");
        pass(MILLIS(50));
    }
    pass(SECONDS(1));
    expect_reason("apps", name, SUCCESS);
    assert_in_range(written("apply", APPS), 4, 12); /* in 4 seconds */
    pass(SECONDS(10));
    put_cr("apps", "late", "inbox", "");
    settle();
    expect_reason("apps", "late", SUCCESS);
}

/* ---- ports ---- */

static void put_stale(const char *ports)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "{'metadata':{'labels':{'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'home'},"
             "'finalizers':['x']},'spec':{'ingress':[{'ports':[%s]}]}}",
             ports);
    fake_put(KIND, HOME, "tproxy-namespace-gone", text);
}

/* A stale policy keeps its ports from being used, even across a restart, until it is removed. */
static void stale_policy(void **state)
{
    (void)state;
    world.settings.last_port = FIRST_PORT + 3;
    put_stale("{'protocol':'TCP','port':20000,'endPort':20001},{'port':20003},{'port':'admin'}");
    fault.name = "tproxy-namespace-gone";
    meet(fault.name, CLUSTER_APPLY, CLUSTER_REFUSED);
    start();
    put_cr("apps", "inbox", "inbox", "");
    put_cr("beta", "letters", "inbox", "");
    pass(SECONDS(1));
    assert_int_equal(target_port("inbox"), 20002);
    expect_reason("beta", "letters", "ServiceCreationFailed");
    expect_message(
        "beta", "letters",
        "no port is left in --target-ports 20000-20003: 1 are in use, 3 are still listed "
        "by NetworkPolicies");
    restart_controller();
    pass(SECONDS(1));
    expect_reason("beta", "letters", "ServiceCreationFailed");
    heal(); /* now the policy can be emptied */
    pass_slowly(SECONDS(180), SECONDS(5));
    expect_reason("beta", "letters", SUCCESS);
    assert_true(exists(KIND, HOME, "tproxy-namespace-gone"));
    assert_false(admits("tproxy-namespace-gone", 20000));
}

/* While policies cannot be listed, existing endpoints are served and no port is allocated. */
static void policies_cannot_be_listed(void **state)
{
    (void)state;
    start();
    put_cr("apps", "inbox", "inbox", "");
    pass(SECONDS(1));
    uint16_t port = target_port("inbox");
    fake_set_presence(KIND, CLUSTER_FORBIDDEN);
    restart_controller();
    world_forget_journal();
    put_cr("beta", "letters", "inbox", "");
    pass(SECONDS(1));
    assert_int_not_equal(replica->listeners[port], 0);
    expect_reason("apps", "inbox", SUCCESS);
    expect_reason("beta", "letters", "ServiceCreationFailed");
    expect_message("beta", "letters", "does not let us list NetworkPolicies");
    assert_int_equal(written("create", APPS) + written("create", BETA) + written("apply", APPS), 0);
    fake_set_presence(KIND, CLUSTER_PRESENT);
    pass_slowly(SECONDS(65), SECONDS(1));
    expect_reason("beta", "letters", SUCCESS);
    assert_int_equal(target_port("inbox"), port);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(waits_for_its_own_policy),
        TEST(repeated_failure_is_shown),
        TEST(refused),
        TEST(refused_for_a_second_port),
        TEST(foreign_policy_with_our_name),
        TEST(unreported_policy_of_ours),
        TEST(scope_is_narrowed),
        TEST(scope_cannot_be_narrowed),
        TEST(port_of_two_services),
        TEST(removed_while_others_wait),
        TEST(writes_are_collected),
        TEST(stale_policy),
        TEST(policies_cannot_be_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
