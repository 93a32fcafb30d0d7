/* Tests lib/backoff: doubling, the bound, the random part. */
#include "lib/backoff.h"

#include <string.h>

#include "lib/base.h"
#include "lib/sys.h"
#include "tests/unit/check.h"

static uint64_t chance; /* the next random number */

static void fake_random(void *out, size_t n)
{
    assert_int_equal(n, sizeof(chance));
    memcpy(out, &chance, n);
}

static void doubles_up_to_the_bound(void **state)
{
    (void)state;
    static const int64_t delays[] = {1, 2, 4, 8, 10, 10};
    for (unsigned i = 0; i < ARRAY_LEN(delays); i++) {
        assert_int_equal(backoff_delay(i, SECONDS(1), SECONDS(10), 0), SECONDS(delays[i]));
    }
    assert_int_equal(backoff_delay(UINT32_MAX, SECONDS(1), SECONDS(10), 0), SECONDS(10));
    assert_int_equal(backoff_delay(0, SECONDS(20), SECONDS(10), 0), SECONDS(10));
}

static void last_part_is_random(void **state)
{
    (void)state;
    chance = 0;
    assert_int_equal(backoff_delay(1, 1000, 9000, 10), 1800);
    assert_int_equal(backoff_delay(1, 1000, 9000, 50), 1000);
    chance = 199;
    assert_int_equal(backoff_delay(1, 1000, 9000, 10), 1999);
    chance = 200;
    assert_int_equal(backoff_delay(1, 1000, 9000, 10), 1800);
}

static void random_numbers_are_below_n(void **state)
{
    (void)state;
    chance = UINT64_MAX;
    assert_int_equal(backoff_random(10), UINT64_MAX % 10);
    assert_int_equal(backoff_random(1), 0);
    assert_int_equal(backoff_random(0), 0);
    assert_int_equal(backoff_random(-1), 0);
}

int main(void)
{
    static struct sys table;
    table = sys_real;
    table.random = fake_random;
    sys = &table;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(doubles_up_to_the_bound),
        cmocka_unit_test(last_part_is_random),
        cmocka_unit_test(random_numbers_are_below_n),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
