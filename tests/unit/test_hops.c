/* Tests pop3/hops: lists and greetings, good and forged. */
#include "pop3/hops.h"

#include "tests/unit/check.h"

#define A "00c7ff26d6f4e3a1"
#define B "9be0147fa6c2d853"

static void test_greeting(void **state)
{
    (void)state;
    static const char *const others[] = {
        "",
        "+OK",
        "+OK tproxy ready",
        "+OK tproxy " A,
        "+OK tproxy " A " ready ",
        "+OK tproxy " A "  ready",
        "+OK tproxy " A "0 ready",
        "+OK tproxy 00C7FF26D6F4E3A1 ready",
        "+OK tproxy 00c7ff26d6f4e3ag ready",
        "+OK tproxy 00c7ff26d6f4e3a ready",
        "-ERR tproxy " A " ready",
        "+OK Dovecot ready. tproxy " A " ready",
        "+OK tproxy  0c7ff26d6f4e3a1 ready",
    };
    assert_true(pop3_hops_greeting(str_of("+OK tproxy " A " ready")));
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_false(pop3_hops_greeting(str_of(others[i])));
    }
}

static void test_lists(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        A " ",
        " " A,
        A "  " B,
        A "," B,
        A " x",
        A B,
        A "\t" B,
        "00c7ff26d6f4e3a",
        A " " B " " A " " B " " A " " B,
        "00C7FF26D6F4E3A1",
    };
    struct hops hops = {0};
    char text[HOPS_TEXT_MAX];
    assert_int_equal(pop3_hops_since(&hops, A), -1);
    assert_int_equal(pop3_hops_read(&hops, str_of(A " " B)), OK);
    assert_int_equal(pop3_hops_since(&hops, A), 1);
    assert_int_equal(pop3_hops_since(&hops, B), 0);
    assert_int_equal(pop3_hops_since(&hops, "00c7ff26d6f4e3a2"), -1);
    assert_int_equal(pop3_hops_since(&hops, ""), -1);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(pop3_hops_read(&hops, str_of(bad[i])), ERR);
        assert_int_equal(hops.n, 2);
    }
    pop3_hops_text(&hops, text);
    assert_string_equal(text, A " " B);
}

static void test_full(void **state)
{
    (void)state;
    struct hops hops = {0}, again = {0};
    char text[HOPS_TEXT_MAX];
    assert_int_equal(pop3_hops_add(&hops, "x"), ERR);
    for (int i = 0; i < HOPS_MAX; i++) {
        assert_int_equal(pop3_hops_add(&hops, i % 2 ? A : B), OK);
    }
    assert_int_equal(pop3_hops_add(&hops, A), ERR);
    pop3_hops_text(&hops, text);
    assert_int_equal(strlen(text), HOPS_TEXT_MAX - 1);
    assert_int_equal(pop3_hops_read(&again, str_of(text)), OK);
    assert_memory_equal(again.ids, hops.ids, sizeof(hops.ids));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greeting),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
