/* Tests controller/ports: which port is picked, which ones are not, and for how long. */
#include "controller/ports.h"

#include "tests/unit/world/streams.h"

#define FIRST 20000
#define REST SECONDS(900)

static struct loop *loop;
static struct ports *ports;
static uint32_t dice; /* the next random number; it grows by one each time */

static void fake_random(void *out, size_t n)
{
    assert_int_equal(n, sizeof(dice));
    memcpy(out, &dice, n);
    dice++;
}

static int setup(void **state)
{
    (void)state;
    test_sys_init();
    test_sys.random = fake_random;
    dice = 0;
    loop = loop_new(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    ports_free(ports);
    ports = NULL;
    loop_free(loop);
    sys = &sys_real;
    return 0;
}

/* Creates a range of n ports. */
static void make(uint16_t n, bool at_random, int64_t rest)
{
    struct ports_settings settings = {
        .first = FIRST, .last = (uint16_t)(FIRST + n - 1), .at_random = at_random, .rest = rest};
    ports = ports_new(loop, &settings);
}

static void pass(int64_t time)
{
    test_now += time;
    loop_turn(loop, false);
}

static void expect_pick(int expected)
{
    uint16_t port;
    assert_int_equal(ports_pick(ports, &port), OK);
    assert_int_equal(port, expected);
}

static void expect_none(void)
{
    uint16_t port;
    assert_int_equal(ports_pick(ports, &port), ERR);
}

static void lowest_first(void **state)
{
    (void)state;
    make(3, false, 0);
    expect_pick(FIRST);
    expect_pick(FIRST); /* a pick does not take the port */
    ports_take(ports, FIRST);
    ports_take(ports, FIRST + 1);
    expect_pick(FIRST + 2);
    ports_take(ports, FIRST + 2);
    expect_none();
    ports_release(ports, FIRST + 1);
    expect_pick(FIRST + 1);
}

static void any_free_port(void **state)
{
    (void)state;
    struct ports_settings settings = {.rest = REST};
    ports = ports_new(loop, &settings);
    expect_pick(0);
    ports_take(ports, 40000);
    assert_true(ports_taken(ports, 40000));
    assert_false(ports_taken(ports, 40001));
    expect_pick(0);
}

static void at_random(void **state)
{
    (void)state;
    make(10, true, 0);
    dice = 17;
    expect_pick(FIRST + 7);
    ports_take(ports, FIRST + 8);
    expect_pick(FIRST + 9); /* the next random number */
    dice = UINT32_MAX;
    expect_pick(FIRST + 5);
}

/* However few ports are free, one of them is found, and no other port is picked. */
static void nearly_full(void **state)
{
    (void)state;
    enum { PORTS = 1000 };
    make(PORTS, true, 0);
    for (int left = PORTS; left > 0; left--) {
        uint16_t port;
        assert_int_equal(ports_pick(ports, &port), OK);
        assert_in_range(port, FIRST, FIRST + PORTS - 1);
        assert_false(ports_taken(ports, port));
        ports_take(ports, port);
        dice = dice * 7;
    }
    expect_none();
}

static void rests(void **state)
{
    (void)state;
    make(2, false, REST);
    ports_take(ports, FIRST);
    ports_take(ports, FIRST + 1);
    ports_release(ports, FIRST);
    expect_none();
    pass(SECONDS(300));
    ports_release(ports, FIRST + 1);
    pass(REST - SECONDS(300) - 1);
    expect_none();
    pass(1);
    expect_pick(FIRST);
    ports_take(ports, FIRST);
    expect_none();
    pass(SECONDS(300));
    expect_pick(FIRST + 1);
}

/* A resting port may be taken again by name, and its next rest has the full length. */
static void resting_port_is_taken_again(void **state)
{
    (void)state;
    make(1, false, REST);
    ports_take(ports, FIRST);
    ports_release(ports, FIRST);
    pass(REST / 2);
    ports_take(ports, FIRST);
    ports_release(ports, FIRST);
    pass(REST / 2);
    expect_none();
    pass(REST / 2);
    expect_pick(FIRST);
}

/* A port that another process uses is skipped for some seconds, and its rest is not shortened. */
static void ports_of_other_processes(void **state)
{
    (void)state;
    make(2, false, 0);
    ports_avoid(ports, FIRST);
    expect_pick(FIRST + 1);
    pass(SECONDS(5) - 1);
    expect_pick(FIRST + 1);
    pass(1);
    expect_pick(FIRST);
    ports_free(ports);

    make(1, false, REST);
    ports_take(ports, FIRST);
    ports_release(ports, FIRST);
    pass(SECONDS(1));
    ports_avoid(ports, FIRST);
    pass(REST - SECONDS(1) - 1);
    expect_none();
    pass(1);
    expect_pick(FIRST);
}

/* A port that Services have is not picked, even if no target has it. It rests after the last
 * Service is deleted. */
static void ports_of_services(void **state)
{
    (void)state;
    make(1, false, REST);
    ports_carry(ports, FIRST);
    ports_carry(ports, FIRST);
    assert_int_equal(ports_carried(ports, FIRST), 2);
    expect_none();
    ports_drop(ports, FIRST);
    pass(2 * REST);
    expect_none();
    ports_drop(ports, FIRST);
    pass(REST - 1);
    expect_none();
    pass(1);
    expect_pick(FIRST);
}

/* The same holds for the ranges in policies, which may overlap. The rest after them is short. */
static void ports_in_policies(void **state)
{
    (void)state;
    make(3, false, REST);
    ports_list(ports, 1, FIRST);
    ports_list(ports, FIRST, FIRST + 1);
    assert_int_equal(ports_listed(ports, FIRST), 2);
    expect_pick(FIRST + 2);
    ports_list(ports, FIRST + 1, UINT16_MAX);
    expect_none();
    ports_unlist(ports, FIRST, FIRST + 1);
    pass(SECONDS(60));
    expect_none();
    ports_unlist(ports, 1, FIRST);
    pass(SECONDS(60) - 1);
    expect_none();
    pass(1);
    expect_pick(FIRST);
    ports_unlist(ports, FIRST + 1, UINT16_MAX);
    pass(SECONDS(60));
    ports_take(ports, FIRST);
    expect_pick(FIRST + 1);
}

/* Counts the uses that keep ports from being picked, for messages. */
static void uses_are_counted(void **state)
{
    (void)state;
    make(5, false, REST);
    ports_take(ports, FIRST);
    ports_carry(ports, FIRST + 1);
    ports_list(ports, FIRST + 1, FIRST + 2);
    ports_take(ports, FIRST + 3);
    ports_release(ports, FIRST + 3);
    int64_t next = test_now + REST;
    pass(SECONDS(1));
    ports_rest(ports, FIRST + 4);
    expect_none();
    struct ports_use use = ports_use(ports);
    assert_int_equal(use.taken, 2);
    assert_int_equal(use.listed, 1);
    assert_int_equal(use.resting, 2);
    assert_int_equal(use.next, next);
    assert_int_equal(ports_rests_until(ports, FIRST + 3), next);
    ports_rest_until(ports, FIRST + 3, next - 1); /* a rest does not become shorter */
    assert_int_equal(ports_rests_until(ports, FIRST + 3), next);
}

/* Many ports are taken and released many times: each rests for its time, and all are free in the
 * end. */
static void many_rests(void **state)
{
    (void)state;
    enum { PORTS = 50, ROUNDS = 5000 };
    int64_t free_at[PORTS] = {0};
    make(PORTS, true, REST);
    for (int i = 0; i < ROUNDS; i++) {
        uint16_t port;
        dice = (uint32_t)i * 2654435761u;
        if (ports_pick(ports, &port) == OK) {
            int64_t *at = &free_at[port - FIRST];
            assert_true(*at <= test_now);
            ports_take(ports, port);
            ports_release(ports, port);
            *at = test_now + REST;
        } else {
            for (int p = 0; p < PORTS; p++) {
                assert_true(free_at[p] > test_now);
            }
        }
        pass(SECONDS(i % 60));
    }
    pass(REST);
    for (int i = 0; i < PORTS; i++) {
        uint16_t port;
        assert_int_equal(ports_pick(ports, &port), OK);
        ports_take(ports, port);
    }
    expect_none();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(lowest_first),
        TEST(any_free_port),
        TEST(at_random),
        TEST(nearly_full),
        TEST(rests),
        TEST(resting_port_is_taken_again),
        TEST(ports_of_other_processes),
        TEST(many_rests),
        TEST(ports_of_services),
        TEST(ports_in_policies),
        TEST(uses_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
