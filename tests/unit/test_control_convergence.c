/* Events and failures come at random, and up to three replicas lead in turns, or for a while none
 * does. Only the one that leads makes calls, and no port of a Service moves without need. When the
 * events stop, the cluster is in the state that a new controller would create, and each replica
 * listens for exactly the Services that there are.
 *
 * SIM_SEED=n runs one seed; SIM_COUNT=n runs the first n. */
#include "tests/unit/world/controller.h"

enum { SEEDS = 300, STEPS = 60, NAMES = 6, TENANTS = 3, NOBODY = FAKE_CLIENTS };

/* The port that others give to our Services. */
enum { MEDDLED_PORT = 20001 };

static size_t n_replicas;
static size_t leader; /* NOBODY: none of them */

/* The number of CRs, over all seeds, that serve several tenants in the end. */
static size_t shared_crs;

/* ---- random events ---- */

static const char *const namespaces[] = {"apps", "beta", HOME};

static const char *any_namespace(void)
{
    return namespaces[world_rand(ARRAY_LEN(namespaces))];
}

static const char *any_name(void)
{
    static const char *const names[NAMES] = {"inbox",   "outbox",  "letters",
                                             "no.name", "gateway", "inbox-a"};
    return names[world_rand(NAMES)];
}

static const char *any_destination(void)
{
    static const char *const names[] = {"inbox", "second", "web", "lost", "*"};
    return names[world_rand(ARRAY_LEN(names))];
}

/* Returns a random object of the kind, or NULL. */
static struct item *any_item(const char *kind)
{
    struct item *found = NULL;
    size_t n = 0;
    LIST_EACH (it, &fake.items) {
        struct item *i = container_of(it, struct item, link);
        if (strcmp(i->kind, kind) == 0 && world_rand(++n) == 0) {
            found = i;
        }
    }
    return found;
}

static void patch_item(const char *kind, const char *patch)
{
    struct item *i = any_item(kind);
    if (i) {
        struct object o = object_of(patch);
        fake_store(i, fake_merged(i->text, o.text));
        object_free(&o);
    }
}

static void drop_item(const char *kind)
{
    struct item *i = any_item(kind);
    if (i) {
        fake_delete(i);
    }
}

/* ---- ports ---- */

/* The target port that a call of ours has given last to the Service of a name. */
static struct given {
    char name[64];
    uint16_t port;
} given[NAMES * (TENANTS + 1)];

/* Somebody else has given the port to a Service of ours, or has had it on the machine of a
 * replica. */
static bool meddled[ALL_PORTS];

static struct given *given_to(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        if (!given[i].name[0] || strcmp(given[i].name, name) == 0) {
            text_fmt(given[i].name, sizeof(given[i].name), "%s", name);
            return &given[i];
        }
    }
    fail_msg("too many names");
    return NULL;
}

static uint16_t port_in(const char *service)
{
    int64_t port = 0;
    struct json *doc = json_parse(str_of(service), NULL);
    struct json_value entry = json_first(json_get(json_get(json_root(doc), "spec"), "ports"));
    int rc = json_int64(json_get(entry, "targetPort"), &port);
    json_free(doc);
    return rc == OK ? (uint16_t)port : 0;
}

/* Checks that a call which is about to be carried out does not move the port of a Service. */
static void check_move(const struct cluster_call *call)
{
    const struct item *i = fake_find(call->kind->kind, call->namespace, call->name);
    bool creates = call->verb == CLUSTER_CREATE && !i, changes = call->verb == CLUSTER_APPLY && i;
    if (strcmp(call->kind->kind, "Service") != 0 || strcmp(call->namespace, HOME) != 0 ||
        !(creates || changes)) {
        return;
    }
    char *uid = fake_get(call->body, "metadata.uid");
    bool is_meant = creates || fake_says(i->text, "metadata.uid", uid);
    free(uid);
    if (!is_meant) {
        return;
    }
    struct given *last = given_to(call->name);
    uint16_t before = changes ? port_in(i->text) : 0, after = port_in(call->body);
    if (changes && before == last->port && after != before && !meddled[before]) {
        fail_msg("the port of %s moves from %u to %u", call->name, before, after);
    }
    last->port = after;
}

static enum cluster_result no_fate(const struct cluster_call *call)
{
    check_move(call);
    return CLUSTER_DONE;
}

static enum cluster_result any_fate(const struct cluster_call *call)
{
    static const enum cluster_result bad[] = {CLUSTER_LATER, CLUSTER_REFUSED, CLUSTER_CONFLICT,
                                              CLUSTER_LATER};
    bool events = strcmp(call->kind->kind, "Event") == 0;
    return world_rand(100) < 15 && !events ? bad[world_rand(ARRAY_LEN(bad))] : no_fate(call);
}

static bool some_have_arrived(const struct cluster_call *call)
{
    (void)call;
    return world_rand(2);
}

static bool loses_some(const struct cluster_call *call)
{
    (void)call;
    return world_rand(100) < 10;
}

/* Some tenants of "inbox" and "inbox-a" need the same Service name. */
static void change_tenants(void)
{
    static const char *const annotations[] = {
        "[\\'a\\']",           "[\\'a\\',\\'b\\']",
        "[\\'b\\',\\'A-b\\']", "[\\'a-b\\',\\'a\\',\\'b\\']",
        "[\\'a.b\\']",         NULL,
    };
    const struct item *i = any_item("Destination");
    if (i) {
        put_tenants(i->namespace, i->name, annotations[world_rand(ARRAY_LEN(annotations))]);
    }
}

static void change_cr(void)
{
    static const char *const more[] = {"", ",'service':{'port':2110}",
                                       ",'accessControl':{'scope':'clusterWide'}",
                                       ",'fragmentRef':{'name':'f'}"};
    const char *namespace = any_namespace(), *name = any_name();
    if (fake_find("Destination", namespace, name)) {
        fake_put("Destination", namespace, name, "{'spec':null}");
    }
    put_cr(namespace, name, any_destination(), more[world_rand(ARRAY_LEN(more))]);
    change_tenants();
}

static void change_destination(void)
{
    static const char *const names[] = {"inbox", "second", "inbox@a", "second@b"};
    static const enum verdict verdicts[] = {VERDICT_NOT_FOUND, VERDICT_UNREADABLE,
                                            VERDICT_TYPE_NOT_SUPPORTED};
    const char *name = names[world_rand(ARRAY_LEN(names))];
    if (world_rand(2)) {
        serve_at(name, world_rand(2) ? "pop3" : "pop3s", "mail.example.com");
    } else {
        refuse(name, verdicts[world_rand(ARRAY_LEN(verdicts))]);
    }
    char known[64];
    text_fmt(known, sizeof(known), "%.*s", (int)strcspn(name, "@"), name);
    for (size_t i = 0; i < n_replicas; i++) {
        controller_look_again(world.replicas[i].controller, known);
    }
}

static void change_configuration(void)
{
    static const char *const keys[] = {
        "'tenantMode':'dedicated'",
        "'managedNamespacesMode':'labelSelector'",
        "'tenantMode':'bad'",
        "'tenantMode':'shared'",
        "'tenantMode':'shared','managedNamespacesMode':'labelSelector'",
        "'tenantMode':'shared','manager':{'executionIntervalMinutes':10080}",
        "'security':{'accessControl':{'destinations':{'defaultScope':'clusterWide'}}}",
        ("'integration':{'destinationService':{'instances':[{'name':'one',"
         "'serviceCredentials':{'secretName':'key'}}]}}")};
    char spec[512];
    /* The long interval makes the test fail if an event does not wake a resource that needs it. */
    text_fmt(spec, sizeof(spec), "'config':{'manager':{'executionIntervalMinutes':10080},%s}",
             keys[world_rand(ARRAY_LEN(keys))]);
    configure(spec);
}

static void change_namespace(void)
{
    static const char *const patches[] = {
        "{'metadata':{'labels':{'transparent-proxy.connectivity.api.sap/namespace':'home'}}}",
        "{'metadata':{'labels':null}}"};
    fake_put("Namespace", "", any_namespace(), patches[world_rand(ARRAY_LEN(patches))]);
}

/* Somebody else changes one of our Services, or creates one with its name. */
static void change_service(void)
{
    static const char *const patches[] = {
        "{'spec':{'selector':{'app.kubernetes.io/name':'x'}}}",
        ("{'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp','port':110,"
         "'targetPort':20001}]}}"), /* MEDDLED_PORT */
        "{'metadata':{'labels':null}}",
        "{'metadata':{'labels':{'tproxy/destination-name':'outbox'},'annotations':null}}",
        "{'metadata':{'finalizers':['x']}}",
        "{'metadata':{'finalizers':null}}",
        "{'spec':{'type':'ExternalName','externalName':'inbox.sap.svc.cluster.local'}}"};
    const char *patch = patches[world_rand(ARRAY_LEN(patches))];
    if (world_rand(4)) {
        patch_item("Service", patch);
    } else {
        fake_put("Service", any_namespace(), any_name(), patch);
    }
}

static void change_crd(void)
{
    if (exists(CRD) && world_rand(3) == 0) {
        while (any_item("Destination")) {
            fake_remove(any_item("Destination"));
        }
        fake_drop(CRD);
        fake_set_presence("Destination", CLUSTER_UNKNOWN);
    } else if (!exists(CRD)) {
        fake_put(CRD, "{}");
        fake_set_presence("Destination", CLUSTER_PRESENT);
    }
}

static void change_port(void)
{
    size_t port = FIRST_PORT + world_rand(10);
    world.replicas[world_rand(n_replicas)].refuses[port] = world_rand(2) ? EADDRINUSE : 0;
    meddled[port] = true;
}

static void change_watch(void)
{
    static const char *const kinds[] = {"Destination", "Service",          "NetworkPolicy",
                                        "Namespace",   "TransparentProxy", "Secret"};
    const char *kind = kinds[world_rand(ARRAY_LEN(kinds))];
    if (world_rand(2)) {
        fake_kind(kind)->mute = !fake_kind(kind)->mute;
    } else {
        fake_relist(kind);
    }
}

/* ---- replicas ---- */

static void elect(void)
{
    leader = world_rand(n_replicas);
    world_use(leader);
    world_lead(true);
}

/* The leader loses its term, perhaps in the middle of an operation. */
static void end_term(void)
{
    if (leader != NOBODY) {
        world_use(leader);
        world_lead(false);
        leader = NOBODY;
    }
}

/* A replica is killed and starts again. A single one leads again at once. */
static void kill_replica(void)
{
    size_t victim = world_rand(n_replicas);
    world_use(victim);
    stop_controller();
    start_follower();
    leader = victim == leader ? NOBODY : leader;
    if (n_replicas == 1) {
        elect();
    }
}

static void happen(void)
{
    if (leader == NOBODY && world_rand(3) == 0) {
        elect();
    }
    switch (world_rand(n_replicas > 1 ? 20 : 18)) {
    case 0 ... 3:
        change_cr();
        break;
    case 4:
        drop_item("Destination");
        break;
    case 5:
        patch_item("Destination", world_rand(2) ? "{'metadata':{'annotations':{'tproxy/adopt':"
                                                  "'true'}}}"
                                                : "{'status':null}");
        break;
    case 6:
        change_destination();
        break;
    case 7:
        change_configuration();
        break;
    case 8:
        change_namespace();
        break;
    case 9:
        change_service();
        break;
    case 10:
        drop_item(world_rand(2) ? "Service" : "NetworkPolicy");
        break;
    case 11:
        change_crd();
        break;
    case 12:
        change_port();
        break;
    case 13:
        change_watch();
        break;
    case 14:
        fake_put("Secret", HOME, "key", "{'stringData':{'clientid':'x'}}");
        break;
    case 15:
        kill_replica();
        break;
    case 16 ... 17:
        change_tenants();
        break;
    case 18 ... 19:
        end_term();
        break;
    }
}

/* Ends all failures: delayed answers arrive and foreign finalizers are removed. A configuration
 * with a mistake is replaced, because a new controller could not know the last good one. */
static void calm_down(void)
{
    while (text_at("TransparentProxy", HOME, "transparent-proxy", "spec.config.tenantMode")[0] ==
           'b') {
        change_configuration();
    }
    fake.fate = no_fate;
    fake.loses = NULL;
    if (leader == NOBODY) {
        elect();
    }
    world.shuffled = false;
    world.source_mute = false;
    for (size_t i = 0; i < FAKE_KINDS; i++) {
        fake.kinds[i].mute = false;
    }
    if (!exists(CRD)) {
        fake_put(CRD, "{}");
        fake_set_presence("Destination", CLUSTER_PRESENT);
    }
    for (size_t i = 0; i < n_replicas; i++) {
        memset(world.replicas[i].refuses, 0, sizeof(world.replicas[i].refuses));
    }
    LIST_EACH (it, &fake.items) {
        struct item *i = container_of(it, struct item, link);
        if (!fake_says(i->text, "metadata.finalizers", "")) {
            fake_store(i, fake_merged(i->text, "{\"metadata\":{\"finalizers\":null}}"));
        }
    }
    pass_slowly(SECONDS(1500), SECONDS(20));
}

/* Checks that each of our Services has its listener. Other listeners may only be the leader's, for
 * CRs whose Service cannot be created. */
static void check_ports_of(size_t number)
{
    world_use(number);
    size_t services = 0, others = 0;
    LIST_EACH (it, &fake.items) {
        const struct item *i = container_of(it, struct item, link);
        if (strcmp(i->kind, "Service") == 0 && strcmp(i->namespace, HOME) == 0 &&
            fake_says(i->text, "metadata.labels.tproxy/home", HOME)) {
            if (!replica->listeners[target_port(i->name)]) {
                fail_msg("nobody listens for %s", i->text);
            }
            services++;
        } else if (strcmp(i->kind, "Destination") == 0) {
            bool failed = strcmp(condition_of(i->namespace, i->name, "status"), "False") == 0;
            others += failed ? TENANTS : 0;
        }
    }
    assert_in_range(count_listeners(), services, services + (number == leader ? others : 0));
}

static void check_ports(void)
{
    for (size_t i = 0; i < n_replicas; i++) {
        check_ports_of(i);
    }
}

static void count_shared_crs(void)
{
    LIST_EACH (it, &fake.items) {
        const struct item *i = container_of(it, struct item, link);
        shared_crs += strcmp(i->kind, "Destination") == 0 &&
                      strchr(text_at("Destination", i->namespace, i->name, "status.tenants"), ',');
    }
}

/* Checks that another leader, and a new controller that knows nothing, find nothing to change. */
static void check_at_rest(void)
{
    uint64_t changes = fake.changes;
    const char *why;
    world_forget_journal();
    for (size_t i = 0; i < n_replicas; i++) {
        world_use(i);
        assert_true(controller_ready(replica->controller, &why));
    }
    end_term();
    elect();
    pass_slowly(SECONDS(300), SECONDS(20));
    check_ports();
    for (size_t i = 0; i < n_replicas; i++) {
        world_use(i);
        stop_controller();
        start_follower();
    }
    elect();
    pass_slowly(SECONDS(300), SECONDS(20));
    if (fake.changes != changes) {
        fail_msg("another controller makes it otherwise:\n%.*s", STR_ARG(buf_str(&fake.journal)));
    }
    check_ports();
}

static void play(uint64_t seed)
{
    world.chance = seed * 0x9E3779B97F4A7C15u + 1;
    world.shuffled = true;
    memset(given, 0, sizeof(given));
    memset(meddled, 0, sizeof(meddled));
    meddled[MEDDLED_PORT] = true;
    n_replicas = 1 + seed % FAKE_CLIENTS;
    leader = NOBODY;
    fake.fate = any_fate;
    fake.loses = loses_some;
    fake.reached = some_have_arrived;
    serve("second");
    refuse("web", VERDICT_TYPE_NOT_SUPPORTED);
    put_namespace("beta");
    change_configuration();
    for (size_t i = 0; i < n_replicas; i++) {
        world_use(i);
        start_follower();
    }
    elect();
    for (int i = 0; i < STEPS; i++) {
        happen();
        for (size_t turns = world_rand(20); turns > 0; turns--) {
            world_deed();
            loop_turn(world.loop, false);
        }
        test_now += world_rand(2) ? MILLIS(world_rand(100)) : SECONDS(world_rand(100));
    }
    calm_down();
    check_ports();
    count_shared_crs();
    check_at_rest();
}

static uint64_t number_in(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void converges_after_random_events(void **state)
{
    uint64_t first = number_in("SIM_SEED", 0);
    uint64_t last = getenv("SIM_SEED") ? first : number_in("SIM_COUNT", SEEDS) - 1;
    for (uint64_t seed = first; seed <= last; seed++) {
        fprintf(stderr, "\rseed %llu ", (unsigned long long)seed);
        setup(state);
        play(seed);
        teardown(state);
    }
    fprintf(stderr, "\n%zu resources with several tenants\n", shared_crs);
    assert_true(shared_crs > 0 || getenv("SIM_SEED") || getenv("SIM_COUNT"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converges_after_random_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
