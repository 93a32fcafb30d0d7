/* Tests core/repairs: when the same text may be written again, and when that is reported. */
#include "core/repairs.h"

#include "tests/unit/check.h"

#define START SECONDS(1000)

/* Writes as soon as it is allowed. Returns the time that it had to wait. */
static int64_t write_again(struct repairs *r, uint64_t wish, int64_t *now, bool *told)
{
    int64_t before = *now, due = repairs_due(r, wish);
    *now = due > *now ? due : *now;
    *told = repairs_note(r, wish, *now);
    return *now - before;
}

static struct repairs written_eight_times(int64_t *now)
{
    struct repairs r = {0};
    bool told;
    for (int i = 0; i < 8; i++) {
        write_again(&r, 7, now, &told);
    }
    return r;
}

static void test_pauses(void **state)
{
    (void)state;
    static const int64_t pauses[] = {0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300};
    struct repairs r = {0};
    int64_t now = START;
    for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
        bool told;
        assert_int_equal(write_again(&r, 7, &now, &told), SECONDS(pauses[i]));
        assert_int_equal(told, i == 2);
        assert_int_equal(repairs_contested(&r, now), i >= 2);
    }
    assert_false(repairs_contested(&r, r.due));
}

static void test_another_wish(void **state)
{
    (void)state;
    int64_t now = START;
    struct repairs r = written_eight_times(&now);
    bool told;
    assert_true(repairs_due(&r, 7) > now);
    assert_int_equal(repairs_due(&r, 8), 0);
    assert_false(repairs_note(&r, 8, now));
    assert_false(repairs_contested(&r, now));
    assert_int_equal(write_again(&r, 8, &now, &told), 0);
    assert_int_equal(write_again(&r, 8, &now, &told), SECONDS(1));
    assert_true(told);
}

static void test_forgotten(void **state)
{
    (void)state;
    int64_t now = START;
    struct repairs r = written_eight_times(&now);
    bool told;
    now = r.due + REPAIRS_FORGOTTEN;
    assert_false(repairs_note(&r, 7, now)); /* remembered still, and reported already */
    assert_int_equal(r.due, now + SECONDS(128));
    now = r.due + REPAIRS_FORGOTTEN + 1;
    assert_int_equal(write_again(&r, 7, &now, &told), 0);
    assert_int_equal(write_again(&r, 7, &now, &told), 0);
    assert_int_equal(write_again(&r, 7, &now, &told), SECONDS(1));
    assert_true(told);
}

static void test_failed(void **state)
{
    (void)state;
    int64_t now = START;
    struct repairs r = written_eight_times(&now);
    bool told;
    repairs_failed(&r, now);
    assert_int_equal(write_again(&r, 7, &now, &told), 0);
    assert_int_equal(write_again(&r, 7, &now, &told), SECONDS(64));
    repairs_forget(&r);
    assert_int_equal(repairs_due(&r, 7), 0);
    assert_false(repairs_contested(&r, now));
    repairs_note(&r, 7, now);
    repairs_failed(&r, now);
    assert_int_equal(r.wish, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_another_wish),
        cmocka_unit_test(test_forgotten),
        cmocka_unit_test(test_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
