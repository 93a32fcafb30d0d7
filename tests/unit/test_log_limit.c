/* Tests lib/log_limit: of repeated lines the first is written at once, and the others are
 * counted. */
#include "lib/log_limit.h"

#include <fcntl.h>
#include <unistd.h>

#include "lib/sys.h"
#include "tests/unit/check.h"

static struct sys table;
static struct loop *loop;
static struct log_limits limits;
static int64_t ahead;
static int fds[2];
static char log_text[65536];

static int64_t shifted_now(void)
{
    return sys_real.now() + ahead;
}

static int set_up(void **state)
{
    (void)state;
    struct error err;
    table = sys_real;
    table.now = shifted_now;
    sys = &table;
    ahead = 0;
    loop = loop_new(&err);
    assert_non_null(loop);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_open(fds[1], LOG_FORMAT_TEXT);
    log_set_level(LOG_INFO);
    log_limits_init(&limits, loop, "pop3", "here");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    log_limits_close(&limits);
    log_flush();
    loop_free(loop);
    log_open(STDERR_FILENO, LOG_FORMAT_TEXT);
    close(fds[0]);
    close(fds[1]);
    sys = &sys_real;
    return 0;
}

/* Returns the lines that were written since the last call. */
static const char *written(void)
{
    log_flush();
    ssize_t n = read(fds[0], log_text, sizeof(log_text) - 1);
    log_text[n > 0 ? n : 0] = '\0';
    return log_text;
}

static size_t lines(const char *text)
{
    size_t n = 0;
    for (; *text; text++) {
        n += *text == '\n';
    }
    return n;
}

static void say(unsigned kind, const char *text)
{
    struct log_field field = LOG_NUM("session", 7);
    log_limited(&limits, kind, LOG_WARN, &field, 1, "%s", text);
}

static void pass(int64_t time)
{
    ahead += time;
    loop_turn(loop, false);
}

static void test_first_at_once_then_a_count(void **state)
{
    (void)state;
    say(1, "refused a");
    assert_non_null(strstr(written(), "warn  pop3: refused a session=7\n"));
    for (int i = 0; i < 2999; i++) {
        say(1, i == 0 ? "refused b" : "refused c");
    }
    assert_string_equal(written(), "");
    pass(SECONDS(59));
    assert_string_equal(written(), "");
    pass(SECONDS(1));
    const char *text = written();
    assert_non_null(strstr(
        text, "warn  pop3: refused b (2999 more of the same in the last 60 s) target=here\n"));
    assert_int_equal(lines(text), 1);
}

/* The count is written even if no further line comes, and another period begins then. */
static void test_goes_on_while_lines_come(void **state)
{
    (void)state;
    say(1, "x");
    for (int i = 1; i <= 3; i++) {
        for (int j = 0; j < i; j++) {
            say(1, "x");
        }
        written();
        pass(SECONDS(60));
        char expected[64];
        text_fmt(expected, sizeof(expected), "x (%d more of the same in the last 60 s)", i);
        assert_non_null(strstr(written(), expected));
    }
    pass(SECONDS(60)); /* a period without lines */
    assert_string_equal(written(), "");
    say(1, "x");
    assert_non_null(strstr(written(), "pop3: x session=7\n"));
}

static void test_kinds_are_apart(void **state)
{
    (void)state;
    say(1, "one");
    say(2, "two");
    say(1, "one");
    const char *text = written();
    assert_int_equal(lines(text), 2);
    assert_non_null(strstr(text, "pop3: two"));
}

static void test_close_writes_what_is_left(void **state)
{
    (void)state;
    say(1, "one");
    say(1, "one");
    say(2, "two");
    pass(SECONDS(9));
    written();
    log_limits_close(&limits);
    const char *text = written();
    assert_int_equal(lines(text), 1);
    assert_non_null(strstr(text, "one (1 more of the same in the last 9 s) target=here"));
}

static void test_nothing_is_held_back_from_who_searches(void **state)
{
    (void)state;
    log_set_level(LOG_DEBUG);
    for (int i = 0; i < 5; i++) {
        say(1, "x");
    }
    assert_int_equal(lines(written()), 5);
}

static void test_level_that_is_not_written(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    say(1, "x");
    say(1, "x");
    log_set_level(LOG_INFO);
    pass(SECONDS(60));
    assert_string_equal(written(), "");
}

static void test_without_a_target(void **state)
{
    (void)state;
    log_limits_init(&limits, loop, "http", NULL);
    say(1, "x");
    say(1, "x");
    pass(SECONDS(60));
    assert_non_null(strstr(written(), "http: x (1 more of the same in the last 60 s)\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_at_once_then_a_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_goes_on_while_lines_come, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kinds_are_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close_writes_what_is_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_held_back_from_who_searches, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_level_that_is_not_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_a_target, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
