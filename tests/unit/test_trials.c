/* Tests pop3/trials: which sessions may try a credential and which wait, the pauses, and which
 * records are dropped. */
#include "pop3/trials.h"

#include <stdio.h>

#include "tests/unit/check.h"

enum { SEATS = 8 };

/* The sessions, and in `turns` those that were told that their wait is over, in order. */
static struct {
    struct trials trials;
    struct trial_seat seats[SEATS];
    char turns[64];
} world;

static void take_turn(struct trial_seat *seat)
{
    size_t n = strlen(world.turns);
    text_fmt(world.turns + n, sizeof(world.turns) - n, "%d", (int)(seat - world.seats));
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    pop3_trials_init(&world.trials, TRIALS_USERS);
    for (size_t i = 0; i < SEATS; i++) {
        pop3_trials_seat_init(&world.seats[i], take_turn);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < SEATS; i++) {
        pop3_trials_leave(&world.seats[i]);
    }
    pop3_trials_clear(&world.trials);
    return 0;
}

static struct credential number(int i)
{
    char secret[16];
    snprintf(secret, sizeof(secret), "%d", i);
    return pop3_trials_credential("alice", str_of(secret));
}

static enum trial_verdict ask(int seat, int credential, int64_t now)
{
    struct credential c = number(credential);
    return pop3_trials_ask(&world.trials, &c, now, &world.seats[seat]);
}

static void accepted(int seat, int credential)
{
    struct credential c = number(credential);
    pop3_trials_accepted(&world.trials, &c, &world.seats[seat]);
}

static unsigned refused(int seat, int credential, unsigned before, int64_t now)
{
    struct credential c = number(credential);
    return pop3_trials_refused(&world.trials, &c, &world.seats[seat], before, true, now, "no");
}

static int64_t pause_of(int credential, int64_t now)
{
    struct credential c = number(credential);
    const struct trial *t = pop3_trials_refusal(&world.trials, &c, now);
    return t ? t->until - now : 0;
}

static void expect_turns(const char *turns)
{
    assert_string_equal(world.turns, turns);
    world.turns[0] = '\0';
}

static void users_and_secrets_are_told_apart(void **state)
{
    struct credential a = pop3_trials_credential("alice", str_of("x")),
                      b = pop3_trials_credential("bob", str_of("x"));
    struct credential c = pop3_trials_credential("alic", str_of("ex")),
                      d = pop3_trials_credential("alice", str_of("y"));
    (void)state;
    assert_memory_not_equal(&a, &b, sizeof(a));
    assert_memory_not_equal(&a, &c, sizeof(a));
    assert_memory_not_equal(&a, &d, sizeof(a));
}

static void one_tries_and_all_go_on(void **state)
{
    (void)state;
    assert_int_equal(ask(0, 1, 0), TRIAL_GO);
    assert_int_equal(ask(0, 1, 0), TRIAL_GO);
    for (int i = 1; i < SEATS - 1; i++) {
        assert_int_equal(ask(i, 1, 0), TRIAL_WAIT);
        assert_true(pop3_trials_waits(&world.seats[i]));
    }
    assert_int_equal(ask(SEATS - 1, 2, 0), TRIAL_GO); /* another credential */
    expect_turns("");
    accepted(0, 1);
    expect_turns("123456");
    for (int i = 0; i < SEATS - 1; i++) {
        assert_false(pop3_trials_waits(&world.seats[i]));
        assert_int_equal(ask(i, 1, 0), TRIAL_GO);
    }
    pop3_trials_leave(&world.seats[0]);
    expect_turns("");
}

static void all_learn_of_a_refusal(void **state)
{
    (void)state;
    assert_int_equal(ask(0, 1, 0), TRIAL_GO);
    assert_int_equal(ask(1, 1, 0), TRIAL_WAIT);
    assert_int_equal(ask(2, 1, 0), TRIAL_WAIT);
    refused(0, 1, 0, 0);
    expect_turns("12");
    assert_int_equal(ask(1, 1, 0), TRIAL_REFUSED);
    assert_int_equal(ask(2, 1, 0), TRIAL_REFUSED);
    /* After the pause one session tries again. */
    assert_int_equal(ask(2, 1, SECONDS(5)), TRIAL_GO);
    assert_int_equal(ask(1, 1, SECONDS(5)), TRIAL_WAIT);
}

static void without_a_result_the_next_one_tries(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ask(i, 1, 0), i ? TRIAL_WAIT : TRIAL_GO);
    }
    pop3_trials_leave(&world.seats[2]); /* a waiting seat that leaves does not disturb the others */
    expect_turns("");
    pop3_trials_leave(&world.seats[0]);
    expect_turns("1");
    assert_int_equal(ask(5, 1, 0), TRIAL_WAIT); /* session 1 has not asked yet */
    pop3_trials_leave(&world.seats[1]);         /* and never asks */
    expect_turns("3");
    assert_int_equal(ask(3, 1, 0), TRIAL_GO);
    assert_int_equal(ask(4, 1, 0), TRIAL_WAIT);
    pop3_trials_leave(&world.seats[4]);
    accepted(3, 1);
    expect_turns("5");
    pop3_trials_leave(&world.seats[5]);
    assert_int_equal(ask(0, 1, 0), TRIAL_GO);
    assert_int_equal(ask(1, 1, 0), TRIAL_GO);
}

static void a_refusal_ends_the_proof(void **state)
{
    (void)state;
    assert_int_equal(ask(0, 1, 0), TRIAL_GO);
    accepted(0, 1);
    assert_int_equal(ask(1, 1, 0), TRIAL_GO);
    assert_int_equal(ask(2, 1, 0), TRIAL_GO);
    refused(1, 1, 0, 0);
    assert_int_equal(ask(2, 1, 0), TRIAL_REFUSED);
    assert_int_equal(ask(3, 1, SECONDS(5)), TRIAL_GO);
    /* A late answer neither lengthens a pause nor begins one during a pause. */
    assert_int_equal(refused(3, 1, 0, SECONDS(5)), 1);
    assert_int_equal(refused(2, 1, 0, SECONDS(6)), 1);
    assert_int_equal(pause_of(1, SECONDS(6)), SECONDS(9));
    accepted(2, 1);
    assert_int_equal(pause_of(1, SECONDS(6)), 0);
    assert_int_equal(refused(2, 1, 0, SECONDS(7)), 0);
}

static void a_pause_grows_and_is_bounded(void **state)
{
    static const int seconds[] = {5, 10, 20, 40, 60, 60};
    int64_t now = 1000;
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seconds); i++) {
        assert_int_equal(refused(0, 1, 0, now), i);
        assert_int_equal(pause_of(1, now), SECONDS(seconds[i]));
        now += SECONDS(seconds[i]);
        assert_int_equal(pause_of(1, now), 0);
    }
    assert_int_equal(pause_of(2, now), 0);
}

static void replaced_credentials_inherit_the_pauses(void **state)
{
    (void)state;
    refused(0, 1, 0, 0);
    unsigned before = refused(0, 1, 0, SECONDS(5));
    assert_int_equal(before, 1);
    refused(0, 2, before, SECONDS(5));
    assert_int_equal(pause_of(2, SECONDS(5)), SECONDS(10));
}

static void dropped_records(void **state)
{
    (void)state;
    assert_int_equal(ask(0, 0, 0), TRIAL_GO); /* is kept, because it is being tried */
    assert_int_equal(ask(1, 0, 0), TRIAL_WAIT);
    refused(2, 1, 0, 0); /* is dropped last, because it is in a pause */
    for (int i = 2; i < 3 * TRIALS_USERS; i++) {
        accepted(2, i);
        assert_true(world.trials.n <= TRIALS_USERS);
    }
    assert_int_equal(pause_of(1, 0), SECONDS(5));
    assert_int_equal(ask(3, 0, 0), TRIAL_WAIT);
    for (int i = 2; i < TRIALS_USERS; i++) {
        refused(2, i, 0, i);
    }
    assert_int_equal(pause_of(1, 0), SECONDS(5));
    refused(2, TRIALS_USERS, 0, TRIALS_USERS);
    refused(2, TRIALS_USERS + 1, 0, TRIALS_USERS);
    assert_int_equal(pause_of(1, 0), 0); /* dropped, because its pause ends first */
    assert_int_equal(world.trials.n, TRIALS_USERS);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(users_and_secrets_are_told_apart),
        TEST(one_tries_and_all_go_on),
        TEST(all_learn_of_a_refusal),
        TEST(without_a_result_the_next_one_tries),
        TEST(a_refusal_ends_the_proof),
        TEST(a_pause_grows_and_is_bounded),
        TEST(replaced_credentials_inherit_the_pauses),
        TEST(dropped_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
