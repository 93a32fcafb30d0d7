/* Tests the gate of struct cluster over the Kubernetes API: no write leaves while it is closed, on
 * whichever way the write comes to be sent, and the number of writes under way is right. */
#include "cluster/cluster.h"

#include "tests/unit/world/api_server.h"

#define MAIL_A "/api/v1/namespaces/home/services/mail-a"
#define WRITER "?fieldManager=tproxy"
#define HELD_BACK "PATCH services home/mail-a: this replica does not lead"
#define TRIAL(f) cmocka_unit_test_setup_teardown(f, gate_setup, k8s_teardown)

/* The requests at a time that are not urgent (k8s/client.c). */
enum { REQUESTS_AT_A_TIME = 16, CALLS = REQUESTS_AT_A_TIME + 2 };

static struct trial {
    struct cluster_call *call;
    int done;
    enum cluster_result result;
    struct error err;
} trials[CALLS];

static bool gate_open;
static unsigned questions, answered;

static bool may_write(void *arg)
{
    assert_ptr_equal(arg, &gate_open);
    questions++;
    return gate_open;
}

static void on_answered(void *arg)
{
    assert_ptr_equal(arg, &gate_open);
    assert_int_equal(cluster->writes, 0);
    answered++;
}

static int gate_setup(void **state)
{
    k8s_setup(state);
    memset(trials, 0, sizeof(trials));
    gate_open = true;
    questions = answered = 0;
    cluster->gate =
        (struct cluster_gate){.may_write = may_write, .answered = on_answered, .arg = &gate_open};
    return 0;
}

static void on_done(const struct cluster_answer *answer, void *arg)
{
    struct trial *t = arg;
    t->call = NULL;
    t->done++;
    t->result = answer->result;
    t->err = answer->err;
}

static void try_request(struct trial *t, enum cluster_verb verb, bool urgent)
{
    struct cluster_request request = {.verb = verb,
                                      .kind = &services,
                                      .namespace = "home",
                                      .name = "mail-a",
                                      .uid = "u",
                                      .body = str_of(verb == CLUSTER_GET ? "" : "{}"),
                                      .urgent = urgent};
    *t = (struct trial){0};
    t->call = cluster_call(cluster, &request, (struct cluster_handler){on_done, t});
    assert_int_equal(t->done, 0);
}

static void try_write(struct trial *t)
{
    try_request(t, CLUSTER_APPLY, false);
}

static bool is_over(void *arg)
{
    const struct trial *t = arg;
    return t->done;
}

static void expect_result(struct trial *t, enum cluster_result result, const char *text)
{
    turn_until(loop, is_over, t);
    turn_quietly(loop);
    assert_int_equal(t->done, 1);
    assert_int_equal(t->result, result);
    assert_string_equal(t->err.text, text);
}

static struct peer *expect_write(void)
{
    return expect("PATCH", MAIL_A WRITER);
}

static void expect_metric(const char *line)
{
    struct buf out;
    buf_init(&out, SIZE_MAX);
    k8s_metrics(k8s, &out);
    assert_int_equal(buf_add(&out, "", 1), OK);
    assert_non_null(strstr(buf_str(&out).p, line));
    buf_free(&out);
}

/* ---- a closed gate ---- */

static void every_write_is_held_back(void **state)
{
    static const struct {
        enum cluster_verb verb;
        const char *text;
    } writes[] = {
        {CLUSTER_CREATE, "POST services home/mail-a: this replica does not lead"},
        {CLUSTER_APPLY, HELD_BACK},
        {CLUSTER_PATCH_STATUS, "PATCH services/status home/mail-a: this replica does not lead"},
        {CLUSTER_DELETE, "DELETE services home/mail-a: this replica does not lead"},
    };
    (void)state;
    gate_open = false;
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        try_request(&trials[i], writes[i].verb, false);
        expect_result(&trials[i], CLUSTER_LATER, writes[i].text);
    }
    expect_nothing();
    assert_int_equal(cluster->writes, 0);
    assert_int_equal(answered, 0);
    assert_int_equal(logged("cannot be reached"), 0);
    expect_metric("tproxy_kube_writes_held_back_total 4\n");
    expect_metric("tproxy_kube_requests_total{verb=\"apply\",result=\"ok\"} 0\n");
}

/* Reading goes on, and the urgent request decides over the gate. */
static void what_passes(void **state)
{
    (void)state;
    gate_open = false;
    try_request(&trials[0], CLUSTER_GET, false);
    answer(expect("GET", MAIL_A), "200 OK", "", "{}");
    expect_result(&trials[0], CLUSTER_DONE, "");
    try_request(&trials[0], CLUSTER_APPLY, true);
    answer(expect_write(), "200 OK", "", "{}");
    expect_result(&trials[0], CLUSTER_DONE, "");
    assert_int_equal(questions, 0);
    assert_int_equal(answered, 0);
}

/* ---- a gate that closes ---- */

/* The gate closes while requests wait for a connection. */
static void while_they_wait(void **state)
{
    struct peer *first = NULL;
    (void)state;
    for (int i = 0; i < CALLS; i++) {
        try_write(&trials[i]);
    }
    for (int i = 0; i < REQUESTS_AT_A_TIME; i++) {
        struct peer *peer = expect_write();
        first = first ? first : peer;
    }
    expect_nothing();
    assert_int_equal(cluster->writes, REQUESTS_AT_A_TIME);
    gate_open = false;
    answer(first, "200 OK", "", "{}");
    expect_result(&trials[CALLS - 2], CLUSTER_LATER, HELD_BACK);
    expect_result(&trials[CALLS - 1], CLUSTER_LATER, HELD_BACK);
    expect_nothing();
    assert_int_equal(cluster->writes, REQUESTS_AT_A_TIME - 1);
    for (int i = 0; i < CALLS - 2; i++) {
        cluster_cancel(cluster, trials[i].done ? NULL : trials[i].call);
    }
}

/* The gate closes while the token is renewed. */
static void before_another_token(void **state)
{
    (void)state;
    try_write(&trials[0]);
    struct peer *peer = expect_write();
    write_credential("token", "t2");
    gate_open = false;
    answer_status(peer, 401, "Unauthorized", "Unauthorized");
    expect_result(&trials[0], CLUSTER_LATER, HELD_BACK);
    expect_nothing();
    assert_int_equal(answered, 1);
}

/* The gate closes while the server has asked for a pause. */
static void before_a_repeat(void **state)
{
    (void)state;
    try_write(&trials[0]);
    answer(expect_write(), "429 Whatever", "", "");
    turn_quietly(loop);
    assert_int_equal(trials[0].done, 0);
    gate_open = false;
    advance(SECONDS(1));
    expect_result(&trials[0], CLUSTER_LATER, HELD_BACK);
    expect_nothing();
}

/* The gate closes while a new connection takes the place of one that has ended. */
static void before_another_connection(void **state)
{
    (void)state;
    try_request(&trials[0], CLUSTER_GET, false);
    struct peer *peer = expect("GET", MAIL_A);
    answer(peer, "200 OK", "", "{}");
    expect_result(&trials[0], CLUSTER_DONE, "");
    try_write(&trials[0]);
    peer = expect_write();
    gate_open = false;
    drop_peer(peer);
    expect_result(&trials[0], CLUSTER_LATER, HELD_BACK);
    expect_nothing();
    assert_int_equal(cluster->writes, 0);
    assert_int_equal(answered, 1);
}

/* ---- writes under way ---- */

static void counted(void **state)
{
    (void)state;
    try_write(&trials[0]);
    struct peer *a = expect_write();
    try_write(&trials[1]);
    struct peer *b = expect_write();
    assert_int_equal(cluster->writes, 2);
    answer_status(a, 409, "Conflict", "so it is");
    expect_result(&trials[0], CLUSTER_CONFLICT, "PATCH services home/mail-a: Conflict: so it is");
    assert_int_equal(cluster->writes, 1);
    assert_int_equal(answered, 0);
    answer(b, "200 OK", "", "{}");
    expect_result(&trials[1], CLUSTER_DONE, "");
    assert_int_equal(answered, 1);
}

/* A write that was cancelled may still be carried out, so it counts until it is answered. */
static void cancelled(void **state)
{
    (void)state;
    try_write(&trials[0]);
    struct peer *peer = expect_write();
    cluster_cancel(cluster, trials[0].call);
    turn_quietly(loop);
    assert_int_equal(cluster->writes, 1);
    answer(peer, "429 Whatever", "", ""); /* it is not repeated */
    turn_quietly(loop);
    assert_int_equal(cluster->writes, 0);
    assert_int_equal(answered, 1);
    assert_int_equal(trials[0].done, 0);
    advance(SECONDS(60));
    expect_nothing();

    try_write(&trials[0]);
    cluster_cancel(cluster,
                   trials[0].call); /* it has not been sent: the connection is used again */
    turn_quietly(loop);
    assert_int_equal(cluster->writes, 0);
}

/* The end of the client does not wait for cancelled writes. */
static void cancelled_at_the_end(void **state)
{
    (void)state;
    try_write(&trials[0]);
    expect_write();
    cluster_cancel(cluster, trials[0].call);
    assert_int_equal(cluster->writes, 1);
}

/* Writes that take all connections do not delay the Lease. */
static void urgent_requests_do_not_wait(void **state)
{
    (void)state;
    for (int i = 0; i < REQUESTS_AT_A_TIME; i++) {
        try_write(&trials[i]);
        expect_write();
    }
    try_request(&trials[CALLS - 1], CLUSTER_CREATE, true);
    answer(expect("POST", "/api/v1/namespaces/home/services" WRITER), "201 Created", "", "{}");
    expect_result(&trials[CALLS - 1], CLUSTER_DONE, "");
    for (int i = 0; i < REQUESTS_AT_A_TIME; i++) {
        cluster_cancel(cluster, trials[i].call);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRIAL(every_write_is_held_back),
        TRIAL(what_passes),
        TRIAL(while_they_wait),
        TRIAL(before_another_token),
        TRIAL(before_a_repeat),
        TRIAL(before_another_connection),
        TRIAL(counted),
        TRIAL(cancelled),
        TRIAL(cancelled_at_the_end),
        TRIAL(urgent_requests_do_not_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
