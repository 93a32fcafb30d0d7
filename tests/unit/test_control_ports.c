/* Tests the ConfigMap that records resting target ports, across a crash and a restart. */
#include "controller/resting_ports.h"

#include "controller/state.h"
#include "tests/unit/world/controller.h"

#define SUCCESS "ConfigurationSuccessful"
#define RECORD "ConfigMap", HOME, RESTING_PORTS_NAME

static enum cluster_result fate_of_record = CLUSTER_DONE;

static enum cluster_result record_fate(const struct cluster_call *call)
{
    return strcmp(call->name, RESTING_PORTS_NAME) == 0 ? fate_of_record : CLUSTER_DONE;
}

static void meet(enum cluster_result result)
{
    fate_of_record = result;
    fake.fate = record_fate;
}

static void start(void)
{
    start_controller();
    pass(SECONDS(1));
}

static void serve_inbox(void)
{
    put_cr("apps", "inbox", "inbox", "");
    start();
    expect_reason("apps", "inbox", SUCCESS);
    world_forget_journal();
}

static void drop_inbox(void)
{
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1));
    assert_false(exists("Service", HOME, "inbox"));
}

static bool is_recorded(uint16_t port)
{
    char digits[8];
    text_fmt(digits, sizeof(digits), "%d", port);
    return exists(RECORD) && strstr(text_at(RECORD, "data"), digits);
}

/* Somebody changes the type of the Service while no program runs. */
static void port_of_another_type(void **state)
{
    (void)state;
    put_cr("apps", "other", "inbox", "");
    serve_inbox();
    uint16_t port = target_port("inbox");
    stop_controller();
    fake_put("Service", HOME, "inbox",
             "{'spec':{'type':'ExternalName','externalName':'mail.example.com'}}");
    fake_drop("Service", HOME, "other"); /* so that the first port that is free is another one */
    start();
    expect_reason("apps", "inbox", SUCCESS);
    assert_string_equal(text_at("Service", HOME, "inbox", "spec.type"), "ClusterIP");
    assert_int_equal(target_port("inbox"), port);
}

/* The record is written before the Service is deleted. */
static void recorded_first(void **state)
{
    (void)state;
    serve_inbox();
    uint16_t port = target_port("inbox");
    drop_inbox();
    char *journal = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    const char *record = strstr(journal, "create ConfigMap home/" RESTING_PORTS_NAME);
    const char *service = strstr(journal, "delete Service home/inbox");
    assert_true(record && service && record < service);
    free(journal);
    assert_true(is_recorded(port));
}

/* After a crash and a restart the port still rests, for the time that was left. */
static void rests_across_a_restart(void **state)
{
    (void)state;
    world.settings.last_port = FIRST_PORT;
    serve_inbox();
    drop_inbox();
    restart_controller();
    put_cr("apps", "letters", "inbox", "");
    pass(SECONDS(1));
    expect_reason("apps", "letters", "ServiceCreationFailed");
    assert_non_null(strstr(condition_of("apps", "letters", "message"), "1 rest after"));
    pass_slowly(SECONDS(18 * 60), SECONDS(10));
    expect_reason("apps", "letters", SUCCESS);
    assert_int_equal(target_port("letters"), FIRST_PORT);
}

/* A record that cannot be written does not prevent the deletion. */
static void record_cannot_be_written(void **state)
{
    (void)state;
    static const enum cluster_result results[] = {CLUSTER_REFUSED, CLUSTER_LATER, CLUSTER_EXISTS};
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        put_cr("apps", "inbox", "inbox", "");
        start();
        meet(results[i]);
        drop_inbox();
        assert_false(exists(RECORD));
        fake.fate = NULL;
        stop_controller();
    }
    start();
    meet(CLUSTER_REFUSED);
    put_cr("apps", "inbox", "inbox", "");
    pass(SECONDS(1));
    drop_inbox();
    assert_non_null(resting_ports_problem(replica->controller->resting));
    fake.fate = NULL;
    pass_slowly(SECONDS(65), SECONDS(5));
    assert_true(exists(RECORD));
}

static bool holds_definition(const struct cluster_call *call)
{
    return strcmp(call->kind->kind, "CustomResourceDefinition") == 0;
}

static bool holds_record(const struct cluster_call *call)
{
    return holds_definition(call) || strcmp(call->kind->kind, "ConfigMap") == 0;
}

/* The CR is deleted while its port is being recorded. The end of that write must not end the
 * deletion that has begun since. */
static void deleted_while_recording(void **state)
{
    (void)state;
    serve_inbox();
    fake.holds = holds_record;
    refuse("inbox", VERDICT_TYPE_NOT_SUPPORTED);
    controller_look_again(replica->controller, "inbox");
    pass(SECONDS(1));
    fake_drop("Destination", "apps", "inbox");
    pass(SECONDS(1));
    fake.holds = holds_definition;
    pass(SECONDS(1));
    assert_true(exists(RECORD));
    stop_controller(); /* cancels all calls */
    fake.holds = NULL;
    start();
    assert_false(exists("Service", HOME, "inbox"));
}

/* While the record cannot be read, no port is allocated; after the length of a rest all ports
 * are. */
static void record_cannot_be_read(void **state)
{
    (void)state;
    serve_inbox();
    fake_set_presence("ConfigMap", CLUSTER_FORBIDDEN);
    restart_controller();
    put_cr("apps", "letters", "inbox", "");
    pass(SECONDS(1));
    expect_reason("apps", "inbox", SUCCESS);
    expect_reason("apps", "letters", "ServiceCreationFailed");
    assert_non_null(strstr(condition_of("apps", "letters", "message"), RESTING_PORTS_NAME));
    pass_slowly(SECONDS(17 * 60), SECONDS(10));
    expect_reason("apps", "letters", SUCCESS);
}

/* Invalid entries that somebody has written into the record are ignored. */
static void odd_records(void **state)
{
    (void)state;
    static const char *const odd[] = {"",
                                      "[]",
                                      "{",
                                      "{\"a\":\"1\"}",
                                      "{\"2200-01-01T00:00Z\":\"20001-x,,7-,-,99999,20003-20002\"}",
                                      "{\"2200-01-01T00:00Z\":7}"};
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        struct buf text;
        buf_init(&text, 1024);
        assert_int_equal(json_fmt(&text, "{'data':{'" RESTING_PORTS_ENTRY "':%s}}", odd[i]), OK);
        char *patch = mem_strndup(buf_str(&text).p, buf_len(&text));
        fake_put(RECORD, patch);
        free(patch);
        buf_free(&text);
        start();
        put_cr("apps", "inbox", "inbox", "");
        pass(SECONDS(1));
        expect_reason("apps", "inbox", SUCCESS);
        drop_inbox();
        stop_controller();
        fake_drop(RECORD);
    }
}

/* Many deletions cost few writes. */
static void many_deletions(void **state)
{
    (void)state;
    enum { MANY = 90 };
    char name[16];
    start();
    for (int i = 0; i < MANY; i++) {
        text_fmt(name, sizeof(name), "inbox-%d", i);
        put_cr("apps", name, "inbox", "");
    }
    pass(SECONDS(1));
    world_forget_journal();
    for (int i = 0; i < MANY; i++) {
        text_fmt(name, sizeof(name), "inbox-%d", i);
        fake_drop("Destination", "apps", name);
        pass(MILLIS(5));
    }
    pass_slowly(SECONDS(1), MILLIS(50));
    for (int i = 0; i < MANY; i++) {
        text_fmt(name, sizeof(name), "inbox-%d", i);
        assert_false(exists("Service", HOME, name));
    }
    size_t writes = 0;
    char *journal = mem_strndup(buf_str(&fake.journal).p, buf_len(&fake.journal));
    for (const char *at = journal; (at = strstr(at, "ConfigMap home/" RESTING_PORTS_NAME)); at++) {
        writes++;
    }
    free(journal);
    assert_in_range(writes, 2, 15); /* in half a second */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(recorded_first),          TEST(rests_across_a_restart), TEST(record_cannot_be_written),
        TEST(deleted_while_recording), TEST(record_cannot_be_read),  TEST(odd_records),
        TEST(many_deletions),          TEST(port_of_another_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
