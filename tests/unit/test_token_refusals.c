/* Tests core/token_refusals: renewals, pauses and attempts after a peer has refused an access
 * token, and which sessions they affect. */
#include "core/token_refusals.h"

#include <stdio.h>

#include "tests/unit/check.h"

static struct token_refusals refusals;
static int64_t now;

static const struct refused_at one = {{1}}, two = {{2}};

static int setup(void **state)
{
    (void)state;
    now = SECONDS(1000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    token_refusals_clear(&refusals);
    token_refusals_clear(&refusals);
    return 0;
}

static bool may_show(const struct refused_at *at, const char *token)
{
    const struct token_refusal *r = token_refusals_ask(&refusals, at, str_of(token), now);
    assert_true(!r || r->until > now);
    return !r;
}

static bool refused(const char *token, bool renewable)
{
    return token_refusals_add(&refusals, &one, str_of(token), renewable, now, "no");
}

/* One login: the token is refused, renewed, and the new one refused. */
static void expect_last_word(const char *first, const char *second)
{
    assert_true(may_show(&one, first));
    assert_true(refused(first, true));
    assert_true(may_show(&one, second));
    assert_false(refused(second, false));
}

static void one_renewal(void **state)
{
    (void)state;
    assert_true(may_show(&one, "a"));
    assert_true(refused("a", true));
    assert_true(may_show(&one, "b"));
    token_refusals_accepted(&refusals, &one);
    assert_int_equal(refusals.n, 0);

    /* The renewal counts again, as at the beginning. */
    expect_last_word("b", "c");
    assert_false(may_show(&one, "c"));
    assert_true(may_show(&two, "c"));
    assert_string_equal(token_refusals_ask(&refusals, &one, str_of("c"), now)->text, "no");
}

static void pauses_grow(void **state)
{
    static const int pauses[] = {5, 10, 20, 40, 60, 60};
    char token[8], next[8];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
        snprintf(token, sizeof(token), "%zu", i);
        snprintf(next, sizeof(next), "%zu", i + 1);
        expect_last_word(token, next);
        now += SECONDS(pauses[i]) - 1;
        assert_false(may_show(&one, next));
        now++;
    }
    assert_true(may_show(&one, next));
    token_refusals_accepted(&refusals, &one);
    expect_last_word("x", "y");
    now += SECONDS(5);
    assert_true(may_show(&one, "y"));
}

/* Many refusals at the same time cause one request for a new token and do not lengthen the
 * pause. */
static void many_refusals_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        assert_true(may_show(&one, "a"));
    }
    for (int i = 0; i < 200; i++) {
        assert_true(refused("a", true));
        assert_true(may_show(&one, "b"));
    }
    assert_false(
        refused("b", true)); /* the second in a row, although this session has not renewed */
    for (int i = 0; i < 199; i++) {
        assert_false(refused("b", i % 2 == 0));
        assert_false(may_show(&one, "b"));
    }
    assert_true(refused("a", true)); /* a late refusal asks for a renewal, and the pause applies */
    assert_false(may_show(&one, "b"));

    now += SECONDS(5);
    assert_true(may_show(&one, "b"));
    for (int i = 0; i < 199; i++) {
        assert_false(may_show(&one, "b"));
    }
    assert_true(refused("b", true));
    assert_false(may_show(&one, "b")); /* the renewed token is the same */
    assert_int_equal(refusals.list[0].pauses, 2);
}

static void one_attempt_after_a_pause(void **state)
{
    (void)state;
    expect_last_word("a", "b");
    now += SECONDS(5);
    assert_true(may_show(&one, "b"));
    assert_false(may_show(&one, "b"));
    assert_true(refused("b", true));
    assert_true(may_show(&one, "c"));
    assert_false(may_show(&one, "c"));
    assert_false(refused("c", true)); /* even from a session that has not renewed */
    now += SECONDS(10) - 1;
    assert_false(may_show(&one, "c"));
    now++;
    assert_true(may_show(&one, "c"));
    token_refusals_accepted(&refusals, &one);
    assert_true(may_show(&one, "c"));
    assert_true(may_show(&one, "c"));
}

static void attempts_without_a_result(void **state)
{
    (void)state;
    expect_last_word("a", "b");
    now += SECONDS(5);
    assert_true(may_show(&one, "b"));
    now += SECONDS(10) - 1;
    assert_false(may_show(&one, "b"));
    now++;
    assert_true(may_show(&one, "b"));
    token_refusals_undecided(&refusals, &one, now); /* because the peer could not be reached */
    assert_true(may_show(&one, "b"));
    assert_false(may_show(&one, "b"));
    token_refusals_undecided(&refusals, &two, now);
    assert_false(may_show(&one, "b"));
}

static void another_token_ends_the_pause(void **state)
{
    (void)state;
    expect_last_word("a", "b");
    assert_true(may_show(&one, "c"));
    assert_false(may_show(&one, "c"));
    assert_false(may_show(&one, "b"));
    assert_true(refused("c", true));
    assert_true(may_show(&one, "d"));
    assert_false(refused("d", true));
    assert_false(may_show(&one, "d"));
}

/* The authorization server gives the same token again. */
static void same_token_again(void **state)
{
    (void)state;
    expect_last_word("a", "a");
    assert_false(may_show(&one, "a"));
    now += SECONDS(5);
    assert_true(may_show(&one, "a"));
    assert_true(refused("a", true));
    assert_false(may_show(&one, "a"));
    now += SECONDS(10);
    assert_true(may_show(&one, "a"));
}

static void first_refusals_are_forgotten(void **state)
{
    (void)state;
    assert_true(refused("a", true));
    now += SECONDS(60);
    assert_true(refused("b", true));
    now += SECONDS(60) - 1;
    assert_false(refused("c", true));
}

static void bounded(void **state)
{
    (void)state;
    for (int i = 0; i < TOKEN_REFUSALS_MAX + 10; i++) {
        struct refused_at at = {{(unsigned char)i, (unsigned char)(i >> 8), 1}};
        assert_false(token_refusals_add(&refusals, &at, str_of("t"), false, now + i, "no"));
    }
    assert_int_equal(refusals.n, TOKEN_REFUSALS_MAX);
    const struct refused_at first = {{0, 0, 1}}, last = {{(TOKEN_REFUSALS_MAX + 9) & 0xFF, 4, 1}};
    assert_true(may_show(&first, "t"));
    assert_false(may_show(&last, "t"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(one_renewal),
        T(pauses_grow),
        T(many_refusals_at_once),
        T(one_attempt_after_a_pause),
        T(attempts_without_a_result),
        T(another_token_ends_the_pause),
        T(same_token_again),
        T(first_refusals_are_forgotten),
        T(bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
