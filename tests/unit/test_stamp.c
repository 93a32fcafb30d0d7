/* Tests lib/stamp: the forms of a time, and a minute that is read back. */
#include "lib/stamp.h"

#include <string.h>

#include "lib/base.h"
#include "tests/unit/check.h"

/* Returns whether the text has digits where the form has '0', and the same characters elsewhere. */
static bool has_form(const char *text, const char *form)
{
    size_t i = 0;
    for (; form[i]; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] == '0' ? !digit : text[i] != form[i]) {
            return false;
        }
    }
    return !text[i];
}

static void now_has_two_forms(void **state)
{
    (void)state;
    char text[STAMP_SIZE];
    stamp_now(text);
    assert_true(has_form(text, "0000-00-00T00:00:00Z"));
    stamp_now_exactly(text);
    assert_true(has_form(text, "0000-00-00T00:00:00.000000Z"));
}

static void minutes_are_counted_from_1970(void **state)
{
    (void)state;
    char text[STAMP_SIZE];
    stamp_minute(text, 0);
    assert_string_equal(text, "1970-01-01T00:00Z");
    stamp_minute(text, (20484 * 24 + 10) * 60 + 15);
    assert_string_equal(text, "2026-01-31T10:15Z");
}

static void a_minute_is_read_again(void **state)
{
    (void)state;
    char text[STAMP_SIZE];
    stamp_minute(text, stamp_minute_in(SECONDS(600)));
    int64_t left = stamp_left(text);
    assert_true(left >= SECONDS(600 - 2) && left <= SECONDS(660));
    static const char *const bad[] = {"", "now", "2026-01-31T10:15", "2026-01-31T10:15Z ",
                                      "1970-01-01T00:00Z"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_true(stamp_left(bad[i]) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(now_has_two_forms),
        cmocka_unit_test(minutes_are_counted_from_1970),
        cmocka_unit_test(a_minute_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
