/* Tests tproxy/removal: a controller has written what it writes, objects of others lie beside it,
 * and the API server refuses, delays and keeps what it likes. */
#include "tproxy/removal.h"

#include "cluster/lease.h"
#include "tests/unit/world/controller.h"
#include "tproxy/belongings.h"

static struct removal *removal;
static struct removal_sum sum;
static bool over;
static struct buf lines, errors, notes;

static void add_line(struct buf *to, const char *text)
{
    int rc = buf_fmt(to, "%s\n", text);
    assert_int_equal(rc, OK);
}

static void on_line(const char *text, void *arg)
{
    assert_ptr_equal(arg, &sum);
    add_line(&lines, text);
}

static void on_error(const char *text, void *arg)
{
    assert_ptr_equal(arg, &sum);
    add_line(&errors, text);
}

static void on_note(const char *text, void *arg)
{
    assert_ptr_equal(arg, &sum);
    add_line(&notes, text);
}

static void on_over(const struct removal_sum *all, void *arg)
{
    assert_ptr_equal(arg, &sum);
    assert_false(over);
    over = true;
    sum = *all;
    removal_free(removal);
    removal = NULL;
}

static void begin(bool dry_run)
{
    struct removal_settings settings = {.home = HOME, .lease = LEASE_NAME, .dry_run = dry_run};
    struct removal_handler handler = {
        .line = on_line, .error = on_error, .note = on_note, .over = on_over, .arg = &sum};
    buf_drop(&lines, buf_len(&lines));
    buf_drop(&errors, buf_len(&errors));
    buf_drop(&notes, buf_len(&notes));
    over = false;
    world_forget_journal();
    removal = removal_new(world.loop, fake.faces, &settings, handler);
    assert_int_equal(buf_len(&lines) + buf_len(&errors), 0);
}

static void expect_sum(size_t removed, size_t gone, size_t failed)
{
    assert_true(over);
    if (sum.removed != removed || sum.gone != gone || sum.failed != failed) {
        fail_msg("%zu removed, %zu gone, %zu failed; %.*s", sum.removed, sum.gone, sum.failed,
                 STR_ARG(buf_str(&errors)));
    }
}

static void run(bool dry_run)
{
    begin(dry_run);
    settle();
    assert_true(over);
}

static bool says(const struct buf *text, const char *words)
{
    return memmem(buf_str(text).p, buf_len(text), words, strlen(words)) != NULL;
}

#define expect_error(words)                                                                        \
    if (!says(&errors, words)) {                                                                   \
        fail_msg("not said: %s; but: %.*s", words, STR_ARG(buf_str(&errors)));                     \
    }

#define LABELS(home) "'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'" home "'"

/* Two CRs, one of them at home; a third one was deleted, so that its port rests. The controller has
 * ended, and has left a Lease. */
static void have_two(void)
{
    put_cr("apps", "old", "inbox", "");
    put_cr("apps", "mail", "inbox", "");
    put_cr(HOME, "own", "inbox", ",'accessControl':{'scope':'clusterWide'}");
    start_controller();
    pass_slowly(SECONDS(2), MILLIS(100));
    fake_drop("Destination", "apps", "old");
    pass_slowly(SECONDS(2), MILLIS(100));
    assert_false(exists("Service", "apps", "old"));
    assert_string_equal(condition_of("apps", "mail", "reason"), "ConfigurationSuccessful");
    assert_string_equal(condition_of(HOME, "own", "reason"), "ConfigurationSuccessful");
    stop_controller();
    fake_put("Lease", HOME, LEASE_NAME, "{'metadata':{'labels':{" LABELS("home") "}}}");
}

/* The objects that go then, with the word that begins its line. */
static const struct {
    bool deleted; /* false: a part of it is removed */
    const char *subject;
} plan[] = {
    {true, "Service apps/mail"},
    {true, "Service home/mail"},
    {true, "Service home/own"},
    {true, "NetworkPolicy home/tproxy-clusterwide"},
    {true, "NetworkPolicy home/tproxy-namespace-apps"},
    {false, "the condition of Destination apps/mail"},
    {false, "the condition of Destination home/own"},
    {false, "the status of TransparentProxy home/transparent-proxy"},
    {true, "ConfigMap home/tproxy-last-configuration"},
    {true, "ConfigMap home/tproxy-resting-ports"},
    {true, "Lease home/tproxy"},
};
enum { ALL = ARRAY_LEN(plan) };

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Checks that there is one line for everything. The order within a kind is that of the API
 * server. */
static void expect_lines(const char *deleted, const char *removed)
{
    char *text = mem_strndup(buf_str(&lines).p, buf_len(&lines)), expected[ALL][128];
    char *rows[ALL + 1], *wanted[ALL];
    size_t n = 0;
    for (char *end, *at = text; (end = strchr(at, '\n')) != NULL && n <= ALL; at = end + 1) {
        *end = '\0';
        rows[n++] = at;
    }
    assert_int_equal(n, ALL);
    for (size_t i = 0; i < ALL; i++) {
        text_fmt(expected[i], sizeof(expected[i]), "%s %s", plan[i].deleted ? deleted : removed,
                 plan[i].subject);
        wanted[i] = expected[i];
    }
    qsort(rows, ALL, sizeof(rows[0]), compare_lines);
    qsort(wanted, ALL, sizeof(wanted[0]), compare_lines);
    for (size_t i = 0; i < ALL; i++) {
        assert_string_equal(rows[i], wanted[i]);
    }
    free(text);
}

/* ---- everything ---- */

static void dry_run(void **state)
{
    (void)state;
    have_two();
    uint64_t version = fake.version;
    run(true);
    expect_sum(ALL, 0, 0);
    expect_lines("would delete", "would remove");
    expect_calls("");
    assert_int_equal(fake.version, version);
}

static void everything(void **state)
{
    (void)state;
    have_two();
    run(true);
    struct buf planned = lines;
    buf_init(&lines, FAKE_TEXT_MAX);
    run(false);
    expect_sum(ALL, 0, 0);
    expect_lines("deleted", "removed");
    assert_true(says(&planned, "would delete Service apps/mail\n"));
    /* in both runs, clients are led away before the Services at home go */
    assert_true(strncmp(buf_str(&planned).p, "would delete Service apps/mail\n", 31) == 0);
    assert_true(strncmp(buf_str(&lines).p, "deleted Service apps/mail\n", 26) == 0);
    assert_int_equal(buf_len(&errors) + buf_len(&notes), 0);
    assert_string_equal(condition_of("apps", "mail", "reason"), "");
    assert_string_equal(text_at("Destination", "apps", "mail", "status.conditions"), "[]");
    LIST_EACH (it, &fake.items) {
        const char *kind = container_of(it, struct item, link)->kind;
        assert_null(strstr("Service NetworkPolicy ConfigMap Lease", kind));
    }
    buf_free(&planned);

    run(false);
    expect_sum(0, 0, 0);
    expect_calls("");
}

static void nothing(void **state)
{
    (void)state;
    run(false);
    expect_sum(0, 0, 0);
    expect_calls("");
}

static void tenants(void **state)
{
    (void)state;
    configure("'config':{'tenantMode':'shared'}");
    put_cr("apps", "mail", "inbox", "");
    put_tenants("apps", "mail", "[\\'a\\',\\'b\\']");
    start_controller();
    pass_slowly(SECONDS(2), MILLIS(100));
    stop_controller();
    assert_int_not_equal(text_at("Destination", "apps", "mail", "status.tenants")[0], '\0');
    run(false);
    assert_int_equal(sum.failed, 0);
    assert_string_equal(text_at("Destination", "apps", "mail", "status.tenants"), "");
    assert_false(exists("Service", "apps", "mail-a") || exists("Service", HOME, "mail-b"));
}

/* ---- others ---- */

#define THEIRS(manager)                                                                            \
    "{'metadata':{'managedFields':" manager "},'status':{'conditions':[{'type':'Available',"       \
    "'status':'True','reason':'Theirs'}]}}"
#define BY(manager) "[{'manager':'" manager "','fieldsV1':{'f:status':{'f:conditions':{}}}}]"

static void objects_of_others(void **state)
{
    (void)state;
    have_two();
    put_cr("apps", "web", "inbox", "");
    fake_put("Destination", "apps", "web", THEIRS(BY("tproxy-other")));
    fake_put("Service", HOME, "theirs", "{'metadata':{'labels':{" LABELS("other") "}}}");
    fake_put("Service", "apps", "mail-x", "{'spec':{'type':'ExternalName'}}");
    fake_put("NetworkPolicy", HOME, "theirs", "{'metadata':{'labels':{" LABELS("other") "}}}");
    fake_put("ConfigMap", HOME, "theirs", "{'metadata':{'labels':{" LABELS("home") "}}}");
    fake_drop("ConfigMap", HOME, "tproxy-resting-ports");
    fake_put("ConfigMap", HOME, "tproxy-resting-ports", "{'data':{'a':'b'}}");
    uint64_t version = fake.version;
    run(true);
    assert_int_equal(fake.version, version);
    run(false);
    expect_sum(ALL - 1, 0, 0);
    assert_int_equal(buf_len(&notes), 0);
    assert_string_equal(condition_of("apps", "web", "reason"), "Theirs");
    assert_true(exists("Service", HOME, "theirs") && exists("Service", "apps", "mail-x"));
    assert_true(exists("NetworkPolicy", HOME, "theirs") && exists("ConfigMap", HOME, "theirs"));
    assert_true(exists("ConfigMap", HOME, "tproxy-resting-ports"));
}

/* An object that only looks like ours stays, and is named once. */
static void doubts(void **state)
{
    (void)state;
    have_two();
    fake_put("Service", "apps", "forged",
             "{'metadata':{'labels':{" LABELS("home") ",'tproxy/destination-namespace':'apps',"
                                                      "'tproxy/destination-name':'mail'}}}");
    put_cr("apps", "web", "inbox", "");
    fake_put("Destination", "apps", "web", THEIRS("null"));
    run(false);
    expect_sum(ALL, 0, 0);
    assert_true(exists("Service", "apps", "forged"));
    assert_string_equal(condition_of("apps", "web", "reason"), "Theirs");
    assert_str(buf_str(&notes),
               "Service apps/forged is left alone: it has our labels, but was made by somebody "
               "else, or for a Destination of another namespace\n"
               "the condition of Destination apps/web is left alone: its status has a condition "
               "without a known writer (metadata.managedFields)\n");
}

/* ---- refusals ---- */

static enum cluster_result fate_of_services(const struct cluster_call *call)
{
    return strcmp(call->kind->kind, "Service") == 0 ? CLUSTER_REFUSED : CLUSTER_DONE;
}

static void refused(void **state)
{
    (void)state;
    have_two();
    fake.fate = fate_of_services;
    run(false);
    expect_sum(ALL - 3, 0, 3);
    expect_error("Service apps/mail stays: delete Service mail: result 4; if a right is missing, "
                 "grant it (docs/install.md, \"What it may do\"), then run cleanup again\n");
    assert_true(exists("Service", "apps", "mail") && exists("Service", HOME, "mail"));
    fake.fate = NULL;
    run(false);
    expect_sum(3, 0, 0);
}

static void many(void **state)
{
    (void)state;
    char name[16], words[64];
    enum { MANY = 3 * REMOVAL_CALLS_MAX };
    for (size_t i = 0; i < MANY; i++) {
        text_fmt(name, sizeof(name), "mail-%zu", i);
        put_cr("apps", name, "inbox", "");
    }
    start_controller();
    pass_slowly(SECONDS(5), MILLIS(100));
    stop_controller();
    fake.most_waiting = 0;
    fake.fate = fate_of_services;
    run(false);
    assert_int_equal(fake.most_waiting, REMOVAL_CALLS_MAX);
    assert_int_equal(sum.failed, 2 * MANY);
    text_fmt(words, sizeof(words), "\n%d more of these stay: services\n",
             2 * MANY - REMOVAL_ERRORS_MAX);
    expect_error(words);
    fake.fate = NULL;
    run(false);
    expect_sum(2 * MANY, 0, 0);
}

static void forbidden_and_unknown(void **state)
{
    (void)state;
    have_two();
    fake_set_presence("Service", CLUSTER_FORBIDDEN);
    fake_set_presence("Destination", CLUSTER_UNKNOWN);
    fake_set_presence("ConfigMap", CLUSTER_UNKNOWN);
    run(false);
    expect_sum(4, 0, 3);
    expect_error("services cannot be listed, so they stay if they exist: the test refuses it; "
                 "grant the right (docs/install.md, \"What it may do\"), then run cleanup again\n");
    expect_error("configmaps cannot be listed: the test refuses it; check that --kube-url leads to "
                 "a Kubernetes API, then run cleanup again\n");
    assert_false(says(&errors, "estination"));
    assert_true(exists("Service", "apps", "mail"));
}

static void silence(void **state)
{
    (void)state;
    have_two();
    fake_kind("Service")->mute = true;
    begin(false);
    pass(SECONDS(59));
    assert_false(over);
    pass(SECONDS(1));
    expect_sum(ALL - 3, 0, 1);
    expect_error("services cannot be listed: the API server has sent nothing for 60 s;");
    assert_true(exists("Service", "apps", "mail"));
}

static enum cluster_result no_answer(const struct cluster_call *call)
{
    (void)call;
    return CLUSTER_LATER;
}

/* A server that is away ends the removal; one that fails for single objects does not. */
static void unanswered(void **state)
{
    (void)state;
    char name[16];
    for (size_t i = 0; i < 2 * REMOVAL_CALLS_MAX; i++) {
        text_fmt(name, sizeof(name), "mail-%zu", i);
        put_cr("apps", name, "inbox", "");
    }
    start_controller();
    pass_slowly(SECONDS(5), MILLIS(100));
    stop_controller();
    fake.fate = no_answer;
    run(false);
    size_t all = sum.failed;
    assert_int_equal(calls_made(), all);
    fake.fail = FAIL_CONNECT;
    run(false);
    expect_sum(0, 0, all);
    assert_in_range(calls_made(), REMOVAL_CALLS_MAX, 2 * REMOVAL_CALLS_MAX);
    expect_error("more objects stay; see that it answers, then run cleanup again\n");
}

/* ---- what others do at the same time ---- */

static void finalizers(void **state)
{
    (void)state;
    have_two();
    fake_put("Service", "apps", "mail", "{'metadata':{'finalizers':['a.example/x','b']}}");
    fake_put("Service", HOME, "mail", "{'metadata':{'finalizers':['c']}}");
    run(false);
    expect_sum(ALL - 2, 0, 2);
    expect_error("Service apps/mail is being deleted, but finalizers keep it: a.example/x, b; see "
                 "that their controllers remove them, then run cleanup again\n");
    expect_error("Service home/mail is being deleted, but finalizers keep it: c;");
    run(false);
    expect_sum(0, 0, 2);
    fake_put("Service", "apps", "mail", "{'metadata':{'finalizers':null}}");
    fake_put("Service", HOME, "mail", "{'metadata':{'finalizers':null}}");
    run(false);
    expect_sum(0, 0, 0);
}

static enum cluster_result drop_first(const struct cluster_call *call)
{
    struct item *i = fake_find(call->kind->kind, call->namespace, call->name);
    if (i && call->verb != CLUSTER_PATCH_STATUS) {
        fake_remove(i);
    }
    return CLUSTER_DONE;
}

static void gone_already(void **state)
{
    (void)state;
    have_two();
    fake.fate = drop_first;
    run(false);
    expect_sum(0, ALL, 0);
    expect_lines("gone already:", "gone already:");
}

static enum cluster_result replace_first(const struct cluster_call *call)
{
    if (call->verb == CLUSTER_DELETE && strcmp(call->name, "own") == 0) {
        fake_drop("Service", HOME, "own");
        fake_put("Service", HOME, "own", "{'spec':{'type':'ClusterIP'}}");
    }
    return CLUSTER_DONE;
}

/* An object of somebody else that has got the name stays. */
static void replaced(void **state)
{
    (void)state;
    have_two();
    fake.fate = replace_first;
    run(false);
    expect_sum(ALL - 1, 1, 0);
    assert_true(exists("Service", HOME, "own"));
}

static unsigned conflicts;

static enum cluster_result change_first(const struct cluster_call *call)
{
    if (call->verb == CLUSTER_PATCH_STATUS && strcmp(call->name, "mail") == 0 && conflicts) {
        char change[64];
        text_fmt(change, sizeof(change), "{'metadata':{'annotations':{'x':'%u'}}}", conflicts--);
        fake_put("Destination", "apps", "mail", change);
    }
    return CLUSTER_DONE;
}

static void changed_at_the_same_time(void **state)
{
    (void)state;
    have_two();
    fake.fate = change_first;
    conflicts = 5;
    run(false);
    expect_sum(ALL - 1, 0, 1);
    expect_error("the condition of Destination apps/mail stays: status Destination mail: result 2");
    conflicts = 4;
    run(false);
    expect_sum(1, 0, 0);
    assert_int_equal(conflicts, 0);
}

static enum cluster_result take_over(const struct cluster_call *call)
{
    if (call->verb == CLUSTER_GET && strcmp(call->name, "mail") == 0) {
        fake_put("Destination", "apps", "mail", THEIRS(BY("sap-operator")));
    }
    return CLUSTER_DONE;
}

static void taken_over(void **state)
{
    (void)state;
    have_two();
    fake.fate = take_over;
    run(false);
    expect_sum(ALL - 1, 1, 0);
    assert_string_equal(condition_of("apps", "mail", "reason"), "Theirs");
}

static enum cluster_result make_again(const struct cluster_call *call)
{
    if (call->verb == CLUSTER_DELETE && strcmp(call->name, "tproxy-resting-ports") == 0) {
        fake_put("Service", HOME, "own",
                 "{'metadata':{'labels':{" LABELS("home") ",'tproxy/destination-namespace':'home',"
                                                          "'tproxy/destination-name':'own'}}}");
    }
    return CLUSTER_DONE;
}

static void made_again(void **state)
{
    (void)state;
    have_two();
    fake.fate = make_again;
    run(false);
    expect_sum(ALL, 0, 1);
    expect_error("Service home/own is there again, so a tproxy of this installation runs; end it "
                 "(kubectl -n home scale deployment -l app.kubernetes.io/name=tproxy "
                 "--replicas=0), then run cleanup again\n");
}

static bool holds_all(const struct cluster_call *call)
{
    (void)call;
    return true;
}

/* A removal that is freed in the middle is repeated by another one. */
static void interrupted(void **state)
{
    (void)state;
    have_two();
    begin(false);
    removal_free(removal); /* while it lists */
    fake.holds = holds_all;
    begin(false);
    settle();
    assert_false(over);
    assert_int_equal(fake.waiting, ALL);
    removal_free(removal);
    settle();
    assert_false(over);
    fake.holds = NULL;
    run(false);
    expect_sum(ALL, 0, 0);
}

static int removal_setup(void **state)
{
    buf_init(&lines, FAKE_TEXT_MAX);
    buf_init(&errors, FAKE_TEXT_MAX);
    buf_init(&notes, FAKE_TEXT_MAX);
    return setup(state);
}

static int removal_teardown(void **state)
{
    buf_free(&lines);
    buf_free(&errors);
    buf_free(&notes);
    return teardown(state);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, removal_setup, removal_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dry_run),
        TEST(everything),
        TEST(nothing),
        TEST(tenants),
        TEST(objects_of_others),
        TEST(doubts),
        TEST(refused),
        TEST(many),
        TEST(forbidden_and_unknown),
        TEST(silence),
        TEST(unanswered),
        TEST(finalizers),
        TEST(gone_already),
        TEST(replaced),
        TEST(changed_at_the_same_time),
        TEST(taken_over),
        TEST(made_again),
        TEST(interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
