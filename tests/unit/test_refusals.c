/* Refused credentials: each one's pause, how it grows, and who makes room. */
#include "core/refusals.h"

#include <stdio.h>

#include "tests/unit/check.h"

static struct credential number(int i)
{
    char secret[16];
    snprintf(secret, sizeof(secret), "%d", i);
    return credential_of("alice", str_of(secret));
}

static int64_t pause_of(const struct refusals *refusals, const struct credential *c, int64_t now)
{
    const struct refusal *r = refusals_find(refusals, c, now);
    return r ? r->until - now : 0;
}

static void users_and_secrets_are_told_apart(void **state)
{
    (void)state;
    struct credential a = credential_of("alice", str_of("x")),
                      b = credential_of("bob", str_of("x"));
    struct credential c = credential_of("alic", str_of("ex")),
                      d = credential_of("alice", str_of("y"));
    assert_memory_not_equal(&a, &b, sizeof(a));
    assert_memory_not_equal(&a, &c, sizeof(a));
    assert_memory_not_equal(&a, &d, sizeof(a));
}

static void a_pause_grows_and_is_bounded(void **state)
{
    static const int seconds[] = {5, 10, 20, 40, 60, 60};
    struct refusals refusals = {0};
    struct credential bad = number(1), good = number(2);
    int64_t now = 1000;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
        assert_int_equal(refusals_add(&refusals, &bad, 0, true, now, "no"), i + 1);
        assert_int_equal(pause_of(&refusals, &bad, now), SECONDS(seconds[i]));
        now += SECONDS(seconds[i]);
        assert_null(refusals_find(&refusals, &bad, now));
    }
    assert_null(refusals_find(&refusals, &good, now));
    refusals_add(&refusals, &good, 0, true, now, "no");
    refusals_drop(&refusals, &bad);
    assert_int_equal(refusals_add(&refusals, &bad, 0, true, now, "no"), 1);
    assert_int_equal(pause_of(&refusals, &good, now), SECONDS(5));
    refusals_clear(&refusals);
}

static void what_takes_its_place_inherits_the_count(void **state)
{
    struct refusals refusals = {0};
    struct credential old = number(1), new = number(2);
    (void)state;
    refusals_add(&refusals, &old, 0, true, 0, "no");
    unsigned before = refusals_add(&refusals, &old, 0, false, 0, "no");
    assert_int_equal(refusals_add(&refusals, &new, before, true, 0, "never"), 3);
    assert_int_equal(pause_of(&refusals, &new, 0), SECONDS(20));
    assert_string_equal(refusals_find(&refusals, &new, 0)->text, "never");
    assert_false(refusals_find(&refusals, &old, 0)->final);
    refusals_clear(&refusals);
}

static void the_first_that_is_over_makes_room(void **state)
{
    struct refusals refusals = {0};
    (void)state;
    for (int i = 0; i < REFUSALS_MAX + 3; i++) {
        struct credential c = number(i);
        refusals_add(&refusals, &c, 0, true, i, "no");
    }
    assert_int_equal(refusals.n, REFUSALS_MAX);
    for (int i = 0; i < REFUSALS_MAX + 3; i++) {
        struct credential c = number(i);
        assert_int_equal(refusals_find(&refusals, &c, REFUSALS_MAX) != NULL, i >= 3);
    }
    refusals_clear(&refusals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_and_secrets_are_told_apart),
        cmocka_unit_test(a_pause_grows_and_is_bounded),
        cmocka_unit_test(what_takes_its_place_inherits_the_count),
        cmocka_unit_test(the_first_that_is_over_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
