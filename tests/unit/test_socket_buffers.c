/* Tests lib/socket_buffers: how many loans of wide buffers there are, which borrower has to return
 * one, and what the kernel is told. */
#include "lib/socket_buffers.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/sys.h"
#include "tests/unit/check.h"

enum { PAIRS = 3 };

static struct sys table;
static int64_t ahead;
static int questions; /* the number of questions to the kernel about the contents of a buffer */
static int near[PAIRS], far[PAIRS];
static struct socket_loan *loan[PAIRS];

static int64_t shifted_now(void)
{
    return sys_real.now() + ahead;
}

static int counted_unsent(int fd, int *n)
{
    questions++;
    return sys_real.unsent(fd, n);
}

static int counted_unread(int fd, int *n)
{
    questions++;
    return sys_real.unread(fd, n);
}

/* A pair of connected TCP sockets. */
static void connect_pair(int *ours, int *theirs)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &n), 0);
    *theirs = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(*theirs, (struct sockaddr *)&at, sizeof(at)), 0);
    *ours = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(*ours >= 0);
    close(listener);
}

static int set_up(void **state)
{
    (void)state;
    table = sys_real;
    table.now = shifted_now;
    table.unsent = counted_unsent;
    table.unread = counted_unread;
    sys = &table;
    questions = 0;
    for (int i = 0; i < PAIRS; i++) {
        connect_pair(&near[i], &far[i]);
        loan[i] = NULL;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < PAIRS; i++) {
        socket_loan_drop(&loan[i]);
        close(near[i]);
        close(far[i]);
    }
    sys = &sys_real;
    ahead += SECONDS(1); /* longer than the pause after a refusal */
    return socket_loans() == 0 ? 0 : -1;
}

static int size_of(int fd, int name)
{
    int bytes = 0;
    socklen_t n = sizeof(bytes);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, name, &bytes, &n), 0);
    return bytes;
}

static void test_small(void **state)
{
    (void)state;
    socket_buffers_small(near[0]);
    socket_commands_small(near[0]);
    assert_int_equal(size_of(near[0], SO_RCVBUF), 2 * SOCKET_BULK_SMALL);
    assert_int_equal(size_of(near[0], SO_SNDBUF), 2 * SOCKET_COMMANDS_SMALL);
    assert_int_equal(size_of(near[0], SO_RCVBUF) + size_of(near[0], SO_SNDBUF), SOCKET_MEMORY);
}

/* Only the buffer for the answers becomes wide. */
static void test_sides(void **state)
{
    (void)state;
    socket_loans_set(2, SOCKET_WIDE_MIN);
    for (int i = 0; i < 2; i++) {
        socket_buffers_small(near[i]);
        socket_commands_small(near[i]);
    }
    assert_true(socket_loan_take(&loan[0], near[0], SOCKET_OF_BACKEND));
    assert_true(size_of(near[0], SO_RCVBUF) > 2 * SOCKET_BULK_SMALL);
    assert_int_equal(size_of(near[0], SO_SNDBUF), 2 * SOCKET_COMMANDS_SMALL);
    assert_true(socket_loan_take(&loan[1], near[1], SOCKET_OF_CLIENT));
    assert_true(size_of(near[1], SO_SNDBUF) > 2 * SOCKET_BULK_SMALL);
    assert_int_equal(size_of(near[1], SO_RCVBUF), 2 * SOCKET_BULK_SMALL);
}

static void test_second_time(void **state)
{
    (void)state;
    socket_loans_set(1, SOCKET_WIDE_MIN);
    assert_true(socket_loan_take(&loan[0], near[0], SOCKET_OF_CLIENT));
    assert_true(socket_loan_take(&loan[0], near[0], SOCKET_OF_CLIENT));
    assert_int_equal(socket_loans(), 1);
    socket_loan_drop(&loan[0]);
    socket_loan_drop(&loan[0]);
    assert_int_equal(socket_loans(), 0);
}

static void test_none(void **state)
{
    (void)state;
    socket_loans_set(0, SOCKET_WIDE_MIN);
    assert_false(socket_loan_take(&loan[0], near[0], SOCKET_OF_CLIENT));
    assert_int_equal(socket_loans(), 0);
}

/* A borrower whose buffer is empty loses its loan to another one. */
static void test_reclaim(void **state)
{
    (void)state;
    socket_loans_set(1, SOCKET_WIDE_MIN);
    assert_true(socket_loan_take(&loan[0], near[0], SOCKET_OF_BACKEND));
    assert_true(socket_loan_take(&loan[1], near[1], SOCKET_OF_CLIENT));
    assert_null(loan[0]);
    assert_int_equal(size_of(near[0], SO_RCVBUF), 2 * SOCKET_BULK_SMALL);
    assert_true(size_of(near[1], SO_SNDBUF) > 2 * SOCKET_BULK_SMALL);
    assert_int_equal(socket_loans(), 1);
}

/* A borrower with data in its buffer keeps its loan, and the kernel is not asked about it again for
 * a while, however many others want one. */
static void test_in_use(void **state)
{
    (void)state;
    socket_loans_set(1, SOCKET_WIDE_MIN);
    assert_true(socket_loan_take(&loan[0], near[0], SOCKET_OF_BACKEND));
    assert_int_equal(send(far[0], "x", 1, 0), 1);
    for (int i = 0; i < 100; i++) {
        assert_false(socket_loan_take(&loan[1], near[1], SOCKET_OF_CLIENT));
    }
    assert_int_equal(questions, 1);
    assert_non_null(loan[0]);

    char octet;
    assert_int_equal(recv(near[0], &octet, 1, 0), 1);
    ahead += MILLIS(20);
    assert_true(socket_loan_take(&loan[1], near[1], SOCKET_OF_CLIENT));
    assert_null(loan[0]);
}

/* A busy borrower does not hide an idle one for ever. */
static void test_turns(void **state)
{
    (void)state;
    socket_loans_set(2, SOCKET_WIDE_MIN);
    assert_true(socket_loan_take(&loan[0], near[0], SOCKET_OF_BACKEND));
    assert_true(socket_loan_take(&loan[1], near[1], SOCKET_OF_BACKEND));
    assert_int_equal(send(far[0], "x", 1, 0), 1);
    assert_false(socket_loan_take(&loan[2], near[2], SOCKET_OF_BACKEND));
    ahead += MILLIS(20);
    assert_true(socket_loan_take(&loan[2], near[2], SOCKET_OF_BACKEND));
    assert_non_null(loan[0]);
    assert_null(loan[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_second_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reclaim, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_turns, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
