/* Tests lib/pipes: pipes that are lent and taken back. */
#include "lib/pipes.h"

#include <fcntl.h>
#include <unistd.h>

#include "lib/sys.h"
#include "tests/unit/check.h"

static struct sys test_sys;
static int made, closed;
static bool refuse;

static int counted_pipe2(int fds[2], int flags)
{
    made += !refuse;
    return refuse ? -1 : sys_real.pipe2(fds, flags);
}

static int counted_close(int fd)
{
    closed++;
    return sys_real.close(fd);
}

static int set_up(void **state)
{
    (void)state;
    test_sys = sys_real;
    test_sys.pipe2 = counted_pipe2;
    test_sys.close = counted_close;
    sys = &test_sys;
    made = closed = 0;
    refuse = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pipes_close();
    assert_int_equal(closed, 2 * made);
    return 0;
}

static void test_lend(void **state)
{
    (void)state;
    struct pipe *p = pipe_take();
    char byte = 'x';
    assert_non_null(p);
    assert_int_equal(p->fill, 0);
    assert_int_equal(read(p->read_end, &byte, 1), -1); /* the pipe is empty and does not block */
    assert_true(fcntl(p->read_end, F_GETFD) & FD_CLOEXEC);
    pipe_give(p);
    p = pipe_take();
    assert_int_equal(made, 1); /* the same pipe is lent again */
    pipe_give(p);
    pipe_give(NULL);
}

/* Bytes of one session never reach another. */
static void test_full(void **state)
{
    (void)state;
    struct pipe *p = pipe_take();
    assert_int_equal(write(p->write_end, "secret", 6), 6);
    p->fill = 6;
    pipe_give(p);
    assert_int_equal(closed, 2);
    p = pipe_take();
    char byte = 'x';
    assert_int_equal(read(p->read_end, &byte, 1), -1);
    pipe_give(p);
}

static void test_bound(void **state)
{
    (void)state;
    struct pipe *pipes[PIPES_MAX];
    for (size_t i = 0; i < PIPES_MAX; i++) {
        pipes[i] = pipe_take();
        assert_non_null(pipes[i]);
    }
    assert_null(pipe_take());
    pipe_give(pipes[0]);
    pipes[0] = pipe_take();
    assert_non_null(pipes[0]);
    for (size_t i = 0; i < PIPES_MAX; i++) {
        pipe_give(pipes[i]);
    }
    assert_true(closed > PIPES_MAX); /* few pipes remain after a burst */
    assert_true(closed < 2 * PIPES_MAX);
}

static void test_refused(void **state)
{
    (void)state;
    refuse = true;
    assert_null(pipe_take());
    refuse = false;
    struct pipe *p = pipe_take();
    assert_non_null(p);
    pipe_give(p);
}

#define with_pipes(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_pipes(test_lend),
        with_pipes(test_full),
        with_pipes(test_bound),
        with_pipes(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
