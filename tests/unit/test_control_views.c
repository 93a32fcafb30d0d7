/* Tests what the controller does while it sees only a part of the cluster. There is a row for each
 * kind that is followed and for each answer to its list, both at the start, when nothing is known,
 * and while running, when everything is known. In every row no served endpoint is removed, no port
 * changes and no condition changes: only a complete list shows that an object does not exist.
 *
 * The answers are those that k8s.c makes of the API server's: 403 is "forbidden", 404 "unknown".
 * After 401, 410, 429, 500, nonsense, a cut answer or none, nothing is reported until a list is
 * complete (test_k8s_watch.c, `nothing_is_told`); all of these are "silent". */
#include "tests/unit/world/configuration.h"

#define SUCCESS "ConfigurationSuccessful"

enum when { AT_THE_START, RUNNING };
enum reply { FORBIDDEN, UNKNOWN, SILENT, CUT, EMPTY };
enum outcome {
    GOES_ON, /* ready, and new resources are served */
    REFUSES, /* ready, but a new resource gets a condition that says why it is not served */
    WAITS,   /* not ready at the start, and new resources wait */
};

struct row {
    const char *kind;
    enum when when;
    enum reply answer;
    enum outcome outcome;
};

/* clang-format off */
static const struct row rows[] = {
    /* The controller decides nothing without these. */
    {"Destination",      AT_THE_START, FORBIDDEN, WAITS},
    {"Destination",      AT_THE_START, UNKNOWN,   WAITS},
    {"Destination",      AT_THE_START, SILENT,    WAITS},
    {"Destination",      AT_THE_START, CUT,       WAITS},
    {"Destination",      RUNNING,      FORBIDDEN, WAITS},
    {"Destination",      RUNNING,      UNKNOWN,   WAITS},
    {"Destination",      RUNNING,      SILENT,    WAITS},
    {"Destination",      RUNNING,      CUT,       WAITS},
    {"Service",          AT_THE_START, FORBIDDEN, WAITS}, /* Services record the ports */
    {"Service",          AT_THE_START, UNKNOWN,   WAITS},
    {"Service",          AT_THE_START, SILENT,    WAITS},
    {"Service",          AT_THE_START, CUT,       WAITS},
    {"Service",          RUNNING,      FORBIDDEN, GOES_ON},
    {"Service",          RUNNING,      UNKNOWN,   REFUSES}, /* new Services cannot be created */
    {"Service",          RUNNING,      SILENT,    GOES_ON},
    {"Service",          RUNNING,      CUT,       GOES_ON},
    {"Namespace",        AT_THE_START, FORBIDDEN, WAITS}, /* their labels say which ones are ours */
    {"Namespace",        AT_THE_START, UNKNOWN,   WAITS},
    {"Namespace",        AT_THE_START, SILENT,    WAITS},
    {"Namespace",        AT_THE_START, CUT,       WAITS},
    {"Namespace",        AT_THE_START, EMPTY,     WAITS}, /* even the home namespace is missing */
    {"Namespace",        RUNNING,      FORBIDDEN, GOES_ON},
    {"Namespace",        RUNNING,      UNKNOWN,   GOES_ON},
    {"Namespace",        RUNNING,      SILENT,    GOES_ON},
    {"Namespace",        RUNNING,      CUT,       GOES_ON},
    {"Namespace",        RUNNING,      EMPTY,     GOES_ON},
    /* The last good configuration is used instead of the object. */
    {"TransparentProxy", AT_THE_START, FORBIDDEN, GOES_ON},
    {"TransparentProxy", AT_THE_START, UNKNOWN,   GOES_ON},
    {"TransparentProxy", AT_THE_START, SILENT,    WAITS},
    {"TransparentProxy", AT_THE_START, CUT,       WAITS},
    {"TransparentProxy", AT_THE_START, EMPTY,     GOES_ON},
    {"TransparentProxy", RUNNING,      FORBIDDEN, GOES_ON},
    {"TransparentProxy", RUNNING,      UNKNOWN,   GOES_ON},
    {"TransparentProxy", RUNNING,      SILENT,    GOES_ON},
    {"TransparentProxy", RUNNING,      CUT,       GOES_ON},
    {"TransparentProxy", RUNNING,      EMPTY,     GOES_ON},
    /* The configuration is known from the object, but the resting ports are unknown. */
    {"ConfigMap",        AT_THE_START, FORBIDDEN, REFUSES},
    {"ConfigMap",        AT_THE_START, UNKNOWN,   REFUSES},
    {"ConfigMap",        AT_THE_START, SILENT,    WAITS}, /* proxy unknown */
    {"ConfigMap",        AT_THE_START, CUT,       WAITS},
    {"ConfigMap",        RUNNING,      FORBIDDEN, GOES_ON},
    {"ConfigMap",        RUNNING,      UNKNOWN,   GOES_ON},
    {"ConfigMap",        RUNNING,      SILENT,    GOES_ON},
    {"ConfigMap",        RUNNING,      CUT,       GOES_ON},
    /* Policies may list ports of others, so no port is allocated before they have been read. */
    {"NetworkPolicy",    AT_THE_START, FORBIDDEN, REFUSES},
    {"NetworkPolicy",    AT_THE_START, UNKNOWN,   REFUSES},
    {"NetworkPolicy",    AT_THE_START, SILENT,    WAITS},
    {"NetworkPolicy",    AT_THE_START, CUT,       WAITS},
    {"NetworkPolicy",    RUNNING,      FORBIDDEN, GOES_ON},
    {"NetworkPolicy",    RUNNING,      UNKNOWN,   REFUSES}, /* new clients cannot be admitted */
    {"NetworkPolicy",    RUNNING,      SILENT,    GOES_ON},
    {"NetworkPolicy",    RUNNING,      CUT,       GOES_ON},
    /* Without these service keys sessions fail, and conditions say so after the next reading. */
    {"Secret",           AT_THE_START, FORBIDDEN, GOES_ON},
    {"Secret",           AT_THE_START, UNKNOWN,   GOES_ON},
    {"Secret",           AT_THE_START, SILENT,    WAITS},
    {"Secret",           AT_THE_START, CUT,       WAITS},
    {"Secret",           AT_THE_START, EMPTY,     GOES_ON},
    {"Secret",           RUNNING,      FORBIDDEN, GOES_ON},
    {"Secret",           RUNNING,      UNKNOWN,   GOES_ON},
    {"Secret",           RUNNING,      SILENT,    GOES_ON},
    {"Secret",           RUNNING,      CUT,       GOES_ON},
    /* Most clusters do not have these kinds. Only resources that name a discovered instance wait
     * for them. */
    {"ServiceInstance",  AT_THE_START, FORBIDDEN, GOES_ON},
    {"ServiceInstance",  AT_THE_START, UNKNOWN,   GOES_ON},
    {"ServiceInstance",  AT_THE_START, SILENT,    GOES_ON},
    {"ServiceInstance",  AT_THE_START, CUT,       GOES_ON},
    {"ServiceInstance",  AT_THE_START, EMPTY,     GOES_ON},
    {"ServiceInstance",  RUNNING,      FORBIDDEN, GOES_ON},
    {"ServiceInstance",  RUNNING,      UNKNOWN,   GOES_ON},
    {"ServiceInstance",  RUNNING,      SILENT,    GOES_ON},
    {"ServiceInstance",  RUNNING,      CUT,       GOES_ON},
    {"ServiceBinding",   AT_THE_START, FORBIDDEN, GOES_ON},
    {"ServiceBinding",   AT_THE_START, UNKNOWN,   GOES_ON},
    {"ServiceBinding",   AT_THE_START, SILENT,    GOES_ON},
    {"ServiceBinding",   AT_THE_START, CUT,       GOES_ON},
    {"ServiceBinding",   AT_THE_START, EMPTY,     GOES_ON},
    {"ServiceBinding",   RUNNING,      FORBIDDEN, GOES_ON},
    {"ServiceBinding",   RUNNING,      UNKNOWN,   GOES_ON},
    {"ServiceBinding",   RUNNING,      SILENT,    GOES_ON},
    {"ServiceBinding",   RUNNING,      CUT,       GOES_ON},
};
/* clang-format on */

static const char *text_of_row(const struct row *row)
{
    static const char *const whens[] = {"at the start", "running"};
    static const char *const answers[] = {"forbidden", "unknown", "silent", "cut", "empty"};
    static char text[128];
    text_fmt(text, sizeof(text), "%s, %s: %s", row->kind, whens[row->when], answers[row->answer]);
    return text;
}

static unsigned wrong; /* rows with another result */

static void complain(const struct row *row, const char *what, const char *got)
{
    print_error("%s: %s: \"%s\"\n", text_of_row(row), what, got);
    wrong++;
}

/* From now on, lists of the kind have this answer. */
static void meet(const char *kind, enum reply answer)
{
    struct kind_state *state = fake_kind(kind);
    state->mute = answer == SILENT;
    state->cut = answer == CUT;
    state->empty = answer == EMPTY;
    fake_set_presence(kind, answer == FORBIDDEN ? CLUSTER_FORBIDDEN
                            : answer == UNKNOWN ? CLUSTER_UNKNOWN
                                                : CLUSTER_PRESENT);
}

static void heal(const char *kind)
{
    struct kind_state *state = fake_kind(kind);
    state->mute = state->cut = state->empty = false;
    fake_set_presence(kind, CLUSTER_PRESENT);
}

#define LABELLED                                                                                   \
    "{'metadata':{'labels':{'transparent-proxy.connectivity.api.sap/namespace':'home'}}}"

static bool is_ready(void)
{
    const char *why;
    return controller_ready(replica->controller, &why);
}

/* Starts an installation that uses objects of every kind and serves one mailbox. */
static void begin(void)
{
    put_key("key", "client");
    fake_put("Namespace", "", "apps", LABELLED);
    fake_put("ServiceInstance", HOME, "found", "{'spec':{'serviceOfferingName':'destination'}}");
    fake_put("ServiceBinding", HOME, "found",
             "{'spec':{'serviceInstanceName':'found','secretName':'found'}}");
    configure("'additionalCAs':{'secretName':'cas','secretKey':'pem'},"
              "'config':{'managedNamespacesMode':'labelSelector','integration':{"
              "'destinationService':{'instances':[" INSTANCE("one", "key") "]}}}");
    serve("second");
    put_cr("apps", "inbox", "inbox", "");
    put_namespace("theirs");
    put_cr("theirs", "other", "inbox", "");
    start_controller();
    pass_slowly(SECONDS(5), SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    assert_true(is_ready());
    world_forget_journal();
}

/* Checks that no served endpoint has changed. The status of the TransparentProxy object and its
 * ConfigMap may have been written. */
static void expect_untouched(const struct row *row, const char *version, uint16_t port)
{
    char calls[1024];
    text_fmt(calls, sizeof(calls), "%.*s", STR_ARG(buf_str(&fake.journal)));
    if (strcmp(condition_of("apps", "inbox", "reason"), SUCCESS) != 0 ||
        strcmp(text_at("Destination", "apps", "inbox", "metadata.resourceVersion"), version) != 0 ||
        target_port("inbox") != port || fake.calls_made[CLUSTER_DELETE] ||
        !exists("NetworkPolicy", HOME, "tproxy-namespace-apps") ||
        strcmp(condition_of("theirs", "other", "reason"), "") != 0 ||
        exists("Service", HOME, "other")) {
        complain(row, "what was served has been touched", calls);
    }
}

static void play(const struct row *row)
{
    char version[32];
    uint16_t port = target_port("inbox");
    text_fmt(version, sizeof(version), "%s",
             text_at("Destination", "apps", "inbox", "metadata.resourceVersion"));
    if (row->when == AT_THE_START) {
        stop_controller();
        meet(row->kind, row->answer);
        start_controller();
    } else {
        meet(row->kind, row->answer);
    }
    pass_slowly(SECONDS(30), SECONDS(1));
    expect_untouched(row, version, port);
    if (is_ready() != (row->when == RUNNING || row->outcome != WAITS)) {
        complain(row, "ready", is_ready() ? "yes" : "no");
    }
    put_cr("apps", "second", "second", "");
    pass_slowly(SECONDS(200), SECONDS(5));
    expect_untouched(row, version, port);
    const char *reason = condition_of("apps", "second", "reason");
    enum outcome outcome = strcmp(reason, SUCCESS) == 0 ? GOES_ON : reason[0] ? REFUSES : WAITS;
    if (outcome != row->outcome) {
        complain(row, "a new resource", reason);
    }
    heal(row->kind);
    pass_slowly(SECONDS(200), SECONDS(5));
    expect_untouched(row, version, port);
    if (strcmp(condition_of("apps", "second", "reason"), SUCCESS) != 0 || count_listeners() != 2 ||
        !is_ready()) {
        complain(row, "afterwards", condition_of("apps", "second", "reason"));
    }
}

static void every_row(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (i) {
            setup(state);
        }
        begin();
        play(&rows[i]);
        if (i < ARRAY_LEN(rows) - 1) {
            teardown(state);
        }
    }
    assert_int_equal(wrong, 0);
}

/* A complete list does not name the Services: they are deleted, and are created again as they
 * were. */
static void services_are_gone(void **state)
{
    (void)state;
    begin();
    uint16_t port = target_port("inbox");
    fake_remove(fake_find("Service", HOME, "inbox"));
    fake_remove(fake_find("Service", "apps", "inbox"));
    fake_relist("Service");
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(target_port("inbox"), port);
    assert_true(exists("Service", "apps", "inbox"));
}

/* A list of Namespaces without the home namespace is not trusted, and another list follows soon. */
static void namespaces_are_listed_again(void **state)
{
    (void)state;
    begin();
    stop_controller();
    meet("Namespace", EMPTY);
    start_controller();
    pass_slowly(SECONDS(10), SECONDS(1));
    assert_false(is_ready());
    fake_kind("Namespace")->empty = false;
    pass_slowly(SECONDS(10), SECONDS(1));
    assert_true(is_ready());
    fake_kind("Namespace")->empty = true;
    fake_relist("Namespace");
    pass(SECONDS(1));
    fake_kind("Namespace")->empty = false;
    fake_put("Namespace", "", "theirs", LABELLED); /* while the watch continues */
    pass(SECONDS(0));
    expect_reason("theirs", "other", SUCCESS);
}

/* ---- is the CR deleted, or its CRD? ---- */

static enum cluster_result crd_result;

static enum cluster_result crd_fate(const struct cluster_call *call)
{
    return strcmp(call->kind->kind, "CustomResourceDefinition") == 0 ? crd_result : CLUSTER_DONE;
}

static void answers_about_the_crd(void **state)
{
    static const struct {
        enum cluster_result result;
        bool withdrawn;
    } table[] = {
        {CLUSTER_DONE, true},
        {CLUSTER_REFUSED, true}, /* 403 for long: we lack the right, so the CR counts as deleted */
        {CLUSTER_ABSENT, false}, /* 404: the CRD is deleted */
        {CLUSTER_LATER, false},  /* anything else: not known yet */
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (i) {
            setup(state);
        }
        begin();
        crd_result = table[i].result;
        fake.fate = crd_fate;
        fake_drop("Destination", "apps", "inbox");
        pass_slowly(SECONDS(60), SECONDS(1));
        assert_int_equal(exists("Service", HOME, "inbox"), !table[i].withdrawn);
        assert_int_equal(count_listeners(), !table[i].withdrawn);
        if (i < ARRAY_LEN(table) - 1) {
            teardown(state);
        }
    }
}

/* The CRD is deleted before the rights to read it exist. */
static void crd_refused_at_first(void **state)
{
    (void)state;
    begin();
    crd_result = CLUSTER_REFUSED;
    fake.fate = crd_fate;
    fake_drop("Destination", "apps", "inbox");
    pass_slowly(SECONDS(3), SECONDS(1));
    assert_int_equal(fake.calls_made[CLUSTER_GET], 2);
    assert_true(exists("Service", HOME, "inbox"));
    crd_result = CLUSTER_ABSENT;
    pass_slowly(SECONDS(60), SECONDS(1));
    assert_true(exists("Service", HOME, "inbox"));
    assert_int_equal(count_listeners(), 1);
}

/* An old Role lacks the right to read the CRD. The controller learns that once, and asks again only
 * after it has seen the CRD. */
static void crd_hidden(void **state)
{
    (void)state;
    begin();
    put_cr("apps", "second", "second", "");
    put_cr("apps", "third", "second", "");
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(count_listeners(), 3);
    crd_result = CLUSTER_REFUSED;
    fake.fate = crd_fate;
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1));
    assert_int_equal(count_listeners(), 3);
    pass_slowly(SECONDS(6), SECONDS(1));
    assert_int_equal(count_listeners(), 2);
    fake_drop("Destination", "apps", "second");
    settle();
    assert_int_equal(count_listeners(), 1);
    crd_result = CLUSTER_ABSENT;
    fake_drop("Destination", "apps", "third");
    settle();
    crd_result = CLUSTER_REFUSED;
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(count_listeners(), 1);
    pass_slowly(SECONDS(5), SECONDS(1));
    assert_int_equal(count_listeners(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(every_row),
        TEST(services_are_gone),
        TEST(namespaces_are_listed_again),
        TEST(answers_about_the_crd),
        TEST(crd_refused_at_first),
        TEST(crd_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
