/* Tests lib/fail: the classes of failure and their sentences. */
#include "lib/fail.h"

#include "tests/unit/check.h"

/* The names are labels of metrics, so they must not change. A failure that a person has to correct
 * does not pass by itself. */
static void test_classes(void **state)
{
    (void)state;
    static const struct {
        enum fail fail;
        const char *name;
        bool may_pass;
    } rows[] = {
        {FAIL_NONE, "none", false},        {FAIL_CONFIG, "config", false},
        {FAIL_DNS, "dns", true},           {FAIL_CONNECT, "connect", true},
        {FAIL_SOCKS, "socks", true},       {FAIL_TLS, "tls", true},
        {FAIL_CERT, "certificate", false}, {FAIL_TOKEN, "token", true},
        {FAIL_AUTH, "auth", false},        {FAIL_PROTOCOL, "protocol", true},
        {FAIL_TIMEOUT, "timeout", true},   {FAIL_REMOTE, "remote", true},
        {FAIL_LIMIT, "limit", true},       {FAIL_INTERNAL, "internal", true},
    };
    assert_int_equal(ARRAY_LEN(rows), FAIL_COUNT);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_string_equal(fail_name(rows[i].fail), rows[i].name);
        assert_int_equal(fail_may_pass(rows[i].fail), rows[i].may_pass);
    }
}

static void test_error(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(error_set(&err, FAIL_DNS, "%s:%d\r\n\x1B[0m", "host", 110), ERR);
    assert_int_equal(err.fail, FAIL_DNS);
    assert_string_equal(err.text, "host:110   [0m");
    assert_int_equal(error_set(NULL, FAIL_DNS, "nobody listens"), ERR);
}

static void test_cut(void **state)
{
    (void)state;
    struct error err;
    error_set(&err, FAIL_LIMIT, "%*s", FAIL_TEXT_MAX * 2, "x");
    assert_int_equal(strlen(err.text), FAIL_TEXT_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
