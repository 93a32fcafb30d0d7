/* Tests lib/listener: bursts, a lack of descriptors, and the end. */
#include "lib/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/sys.h"
#include "tests/unit/check.h"

enum { CLIENTS_MAX = 64 };

static struct sys table;
static struct loop *loop;
static struct listener listener;
static int64_t ahead;
static int calls;    /* calls of accept4 */
static int refusals; /* the number of calls of accept4 that fail, */
static int skip;     /* after this number of calls that do not */
static int starved;  /* calls of starved() */
static bool frees;   /* starved() finds something to close */
static bool closes;  /* accepted() closes the listener */
static int accepted;
static int taken[CLIENTS_MAX], clients[CLIENTS_MAX];
static int n_clients;

static int64_t shifted_now(void)
{
    return sys_real.now() + ahead;
}

static int few_accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    calls++;
    if (skip > 0) {
        skip--;
    } else if (refusals > 0) {
        refusals--;
        errno = EMFILE;
        return -1;
    }
    return sys_real.accept4(fd, addr, n, flags);
}

static void on_accepted(struct listener *l, int fd, const union addr *peer)
{
    assert_ptr_equal(l, &listener);
    assert_true(addr_port(peer) != 0);
    taken[accepted++] = fd;
    if (closes) {
        listener_close(l);
    }
}

static bool on_starved(struct listener *l)
{
    assert_ptr_equal(l, &listener);
    starved++;
    return frees;
}

static const struct listener_option options[] = {{IPPROTO_TCP, TCP_NODELAY, 1}};
static const struct listener_handler handler = {
    .accepted = on_accepted, .starved = on_starved, .options = options, .n_options = 1};

static void open_at(const char *address)
{
    union addr at;
    assert_int_equal(addr_parse(str_of(address), &at), OK);
    assert_int_equal(listener_open(&listener, loop, &at.sa, addr_len(&at), &handler), OK);
    assert_true(listener_is_open(&listener));
}

static int set_up(void **state)
{
    (void)state;
    struct error err;
    table = sys_real;
    table.now = shifted_now;
    table.accept4 = few_accept4;
    sys = &table;
    ahead = 0;
    calls = refusals = skip = starved = accepted = n_clients = 0;
    frees = closes = false;
    loop = loop_new(&err);
    assert_non_null(loop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    listener_close(&listener);
    assert_false(listener_is_open(&listener));
    for (int i = 0; i < accepted; i++) {
        close(taken[i]);
    }
    for (int i = 0; i < n_clients; i++) {
        close(clients[i]);
    }
    loop_free(loop);
    sys = &sys_real;
    return 0;
}

/* Connects over IPv4: the client waits in the kernel's queue. */
static void dial(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(listener_port(&listener)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    clients[n_clients++] = fd;
}

static void test_one_client_costs_one_call(void **state)
{
    (void)state;
    open_at("127.0.0.1");
    for (int i = 0; i < 3; i++) {
        dial();
        loop_turn(loop, false);
        loop_turn(loop, false);
        assert_int_equal(accepted, i + 1);
        assert_int_equal(calls, i + 1);
    }
}

static void test_burst(void **state)
{
    (void)state;
    open_at("127.0.0.1");
    for (int i = 0; i < 60; i++) {
        dial();
    }
    for (int i = 0; i < 8; i++) {
        int before = accepted;
        loop_turn(loop, false);
        assert_true(accepted - before <= 16);
    }
    assert_int_equal(accepted, 60);
}

static void test_options_are_inherited(void **state)
{
    (void)state;
    int value = 0;
    socklen_t n = sizeof(value);
    open_at("127.0.0.1");
    dial();
    loop_turn(loop, false);
    assert_int_equal(getsockopt(taken[0], IPPROTO_TCP, TCP_NODELAY, &value, &n), 0);
    assert_true(value);
}

static void test_ipv6_takes_ipv4(void **state)
{
    (void)state;
    open_at("::");
    dial();
    loop_turn(loop, false);
    assert_int_equal(accepted, 1);
}

static void test_starved_and_helped(void **state)
{
    (void)state;
    open_at("127.0.0.1");
    frees = true;
    refusals = 1;
    dial();
    loop_turn(loop, false);
    assert_int_equal(starved, 1);
    assert_int_equal(accepted, 1);
}

/* The pause must not keep the loop busy, and it must end. */
static void test_starved_and_not_helped(void **state)
{
    (void)state;
    open_at("127.0.0.1");
    refusals = 1;
    dial();
    for (int i = 0; i < 5; i++) {
        loop_turn(loop, false);
    }
    assert_int_equal(starved, 1);
    assert_int_equal(calls, 1);
    assert_int_equal(accepted, 0);
    ahead += MILLIS(201);
    loop_turn(loop, false);
    loop_turn(loop, false);
    assert_int_equal(accepted, 1);
}

/* Without a descriptor, accept4 fails before it looks for a client. Only the first call of a turn
 * surely has one. */
static void test_starved_only_with_a_waiting_client(void **state)
{
    (void)state;
    open_at("127.0.0.1");
    for (int i = 0; i < 2; i++) {
        dial();
    }
    loop_turn(loop, false);
    skip = 1; /* the next turn accepts one client and tries once more */
    refusals = 1;
    loop_turn(loop, false);
    assert_int_equal(accepted, 2);
    assert_int_equal(refusals, 0);
    loop_turn(loop, false);
    assert_int_equal(starved, 0);
}

static void test_closed_by_its_owner(void **state)
{
    (void)state;
    open_at("127.0.0.1");
    closes = true;
    for (int i = 0; i < 5; i++) {
        dial();
    }
    for (int i = 0; i < 5; i++) {
        loop_turn(loop, false);
    }
    assert_int_equal(accepted, 1);
    listener_close(&listener);
}

static void test_taken_port(void **state)
{
    (void)state;
    struct listener second;
    union addr at;
    open_at("127.0.0.1");
    assert_int_equal(addr_parse(str_of("127.0.0.1"), &at), OK);
    addr_set_port(&at, listener_port(&listener));
    assert_int_equal(listener_open(&second, loop, &at.sa, addr_len(&at), &handler), ERR);
    assert_int_equal(errno, EADDRINUSE);
    listener_close(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_client_costs_one_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_burst, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_options_are_inherited, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ipv6_takes_ipv4, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_starved_and_helped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_starved_and_not_helped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_starved_only_with_a_waiting_client, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_closed_by_its_owner, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_taken_port, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
