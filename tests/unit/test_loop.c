/* Tests lib/loop with a clock and an epoll_wait of the test. */
#include "lib/loop.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/sys.h"
#include "tests/unit/check.h"

static struct sys test_sys;
static int64_t now;
static int waited_ms; /* the timeout of the last wait */
static struct loop *loop;
static char order[64]; /* a letter for each function that has run */

static int64_t test_now(void)
{
    return now;
}

/* Does not wait, but records the timeout. */
static int test_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    waited_ms = timeout_ms;
    return sys_real.epoll_wait(epfd, events, max, 0);
}

static void ran(char what)
{
    size_t n = strlen(order);
    assert_true(n + 1 < sizeof(order));
    order[n] = what;
    order[n + 1] = '\0';
}

static void assert_order(const char *expected)
{
    assert_string_equal(order, expected);
    order[0] = '\0';
}

static int set_up(void **state)
{
    (void)state;
    struct error err;
    test_sys = sys_real;
    test_sys.now = test_now;
    test_sys.epoll_wait = test_epoll_wait;
    sys = &test_sys;
    now = SECONDS(1000);
    order[0] = '\0';
    loop = loop_new(&err);
    assert_non_null(loop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    loop_free(loop);
    return 0;
}

/* ---- timers ---- */

struct named_timer {
    struct timer timer;
    char name;
    int64_t again; /* the timer sets itself again after this time */
};

static void fire(struct timer *t)
{
    struct named_timer *named = container_of(t, struct named_timer, timer);
    ran(named->name);
    assert_true(t->due <= now);
    if (named->again) {
        timer_set(loop, t, now + named->again, fire);
    }
}

static void turn_at(int64_t time)
{
    now = time;
    loop_turn(loop, false);
}

static void test_timer_order(void **state)
{
    (void)state;
    struct named_timer a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'};
    int64_t t = now;
    timer_set(loop, &b.timer, t + 20, fire);
    timer_set(loop, &c.timer, t + 30, fire);
    timer_set(loop, &a.timer, t + 10, fire);
    turn_at(t + 9);
    assert_order("");
    turn_at(t + 10);
    assert_order("a");
    turn_at(t + 100);
    assert_order("bc");
    turn_at(t + 1000);
    assert_order("");
}

/* A timer that was moved is checked at its old time, and fires once, at its new time. */
static void test_timer_moved(void **state)
{
    (void)state;
    struct named_timer a = {.name = 'a'};
    int64_t t = now;
    timer_set(loop, &a.timer, t + 10, fire);
    timer_set(loop, &a.timer, t + 50, fire);
    turn_at(t + 10);
    assert_order("");
    turn_at(t + 49);
    assert_order("");
    turn_at(t + 50);
    assert_order("a");
    /* The timer is moved nearer after it was moved further away. */
    timer_set(loop, &a.timer, t + 100, fire);
    timer_set(loop, &a.timer, t + 200, fire);
    timer_set(loop, &a.timer, t + 60, fire);
    turn_at(t + 60);
    assert_order("a");
    turn_at(t + 300);
    assert_order("");
}

static void test_timer_cancel(void **state)
{
    (void)state;
    struct named_timer a = {.name = 'a'}, b = {.name = 'b'};
    int64_t t = now;
    timer_cancel(loop, &a.timer);
    timer_set(loop, &a.timer, t + 10, fire);
    timer_set(loop, &b.timer, t + 10, fire);
    timer_cancel(loop, &a.timer);
    timer_cancel(loop, &a.timer);
    turn_at(t + 20);
    assert_order("b");
    timer_set(loop, &a.timer, t + 30, fire);
    turn_at(t + 30);
    assert_order("a");
}

static void test_timer_again(void **state)
{
    (void)state;
    struct named_timer a = {.name = 'a', .again = 10};
    int64_t t = now;
    timer_set(loop, &a.timer, t + 10, fire);
    for (int i = 0; i < 40; i++) {
        turn_at(t + i);
    }
    assert_order("aaa");
    timer_cancel(loop, &a.timer);
}

/* Hundreds of timers are set, moved and cancelled at random. Each fires at its time and at no
 * other. */
static struct {
    struct timer timer;
    int64_t due; /* 0: not set */
} crowd[300];

static void crowd_fire(struct timer *t)
{
    size_t i = (size_t)((char *)t - (char *)crowd) / sizeof(crowd[0]);
    assert_true(crowd[i].due && crowd[i].due <= now);
    crowd[i].due = 0;
}

static void test_timer_crowd(void **state)
{
    (void)state;
    unsigned chance = 1;
    for (int turn = 0; turn < 3000; turn++) {
        for (int k = 0; k < 10; k++) {
            chance = chance * 1103515245 + 12345;
            size_t i = (chance >> 8) % ARRAY_LEN(crowd);
            if (chance >> 29) {
                crowd[i].due = now + 1 + (chance >> 12) % 1000;
                timer_set(loop, &crowd[i].timer, crowd[i].due, crowd_fire);
            } else {
                crowd[i].due = 0;
                timer_cancel(loop, &crowd[i].timer);
            }
        }
        turn_at(now + chance % 40);
        for (size_t i = 0; i < ARRAY_LEN(crowd); i++) {
            assert_true(crowd[i].due == 0 || crowd[i].due > now);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(crowd); i++) {
        timer_cancel(loop, &crowd[i].timer);
    }
}

static void no_run(struct task *t)
{
    (void)t;
}

/* The wait lasts until the next timer, rounded up. There is no wait if there is work. */
static void test_wait(void **state)
{
    (void)state;
    struct named_timer a = {.name = 'a'};
    struct task task;
    task_init(&task);
    loop_turn(loop, true);
    assert_int_equal(waited_ms, -1);
    static const struct {
        int64_t in;
        int ms;
    } rows[] = {
        {-5, 0},
        {0, 0},
        {1, 1},
        {1000, 1},
        {1001, 2},
        {SECONDS(5), 5000},
        {SECONDS(86400), 3600000},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        timer_set(loop, &a.timer, now + rows[i].in, fire);
        loop_turn(loop, true);
        assert_int_equal(waited_ms, rows[i].ms);
        timer_cancel(loop, &a.timer);
    }
    assert_true(loop_is_idle(loop));
    loop_soon(loop, &task, no_run);
    assert_false(loop_is_idle(loop));
    loop_turn(loop, true);
    assert_int_equal(waited_ms, 0);
    loop_next_turn(loop, &task, no_run);
    assert_false(loop_is_idle(loop));
    loop_turn(loop, true);
    assert_int_equal(waited_ms, 0);
    assert_true(loop_is_idle(loop));
    loop_turn(loop, true);
    assert_int_equal(waited_ms, -1);
}

/* ---- later ---- */

struct named_task {
    struct task task;
    char name;
    int again;                /* how often it puts itself on the list again */
    struct named_task *posts; /* NULL, or the task that it puts there */
    bool next_turn;           /* in the next turn instead of this one */
    int64_t takes;            /* the time that it takes */
};

static void run(struct task *t)
{
    struct named_task *named = container_of(t, struct named_task, task);
    ran(named->name);
    now += named->takes;
    if (named->posts) {
        loop_soon(loop, &named->posts->task, run);
    }
    if (named->again-- > 0) {
        (named->next_turn ? loop_next_turn : loop_soon)(loop, t, run);
    }
}

static void run_upper(struct task *t)
{
    ran((char)(container_of(t, struct named_task, task)->name - 'a' + 'A'));
}

static void init_tasks(struct named_task *tasks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        tasks[i] = (struct named_task){.name = (char)('a' + i)};
        task_init(&tasks[i].task);
    }
}

static void test_soon(void **state)
{
    (void)state;
    struct named_task t[3];
    init_tasks(t, 3);
    t[0].again = 2;
    loop_soon(loop, &t[0].task, run);
    loop_soon(loop, &t[1].task, run);
    loop_soon(loop, &t[2].task, run);
    loop_turn(loop, false);
    assert_order("abcaa"); /* a task that comes again runs behind the others */
    /* A task that is posted twice runs once, with the later function, at its old place. */
    loop_soon(loop, &t[0].task, run);
    loop_soon(loop, &t[1].task, run);
    loop_soon(loop, &t[0].task, run_upper);
    loop_turn(loop, false);
    assert_order("Ab");
    loop_soon(loop, &t[0].task, run);
    loop_soon(loop, &t[1].task, run);
    task_cancel(&t[0].task);
    task_cancel(&t[2].task);
    loop_turn(loop, false);
    assert_order("b");
}

/* The list has a bounded time in each turn. The rest keeps its order. */
static void test_soon_bounded(void **state)
{
    (void)state;
    struct named_task t[4];
    init_tasks(t, 4);
    for (size_t i = 0; i < 4; i++) {
        t[i].takes = MILLIS(1) + 1;
        t[i].again = 1;
        loop_soon(loop, &t[i].task, run);
    }
    loop_turn(loop, false);
    assert_order("ab");
    loop_turn(loop, false);
    assert_order("cd");
    loop_turn(loop, false);
    loop_turn(loop, false);
    assert_order("abcd");
}

static void test_next_turn(void **state)
{
    (void)state;
    struct named_task t[2];
    init_tasks(t, 2);
    t[0].again = 2;
    t[0].next_turn = true;
    loop_next_turn(loop, &t[0].task, run);
    loop_soon(loop, &t[1].task, run);
    for (int i = 0; i < 3; i++) {
        loop_turn(loop, false);
        assert_order(i ? "a" : "ba");
    }
    loop_turn(loop, false);
    assert_order("");
    loop_next_turn(loop, &t[0].task, run);
    task_cancel(&t[0].task);
    loop_turn(loop, false);
    assert_order("");
}

static void hook(void *arg)
{
    assert_ptr_equal(arg, order);
    ran('!');
}

/* Buried objects are freed at the end of the turn, before the hook, and their pending tasks do not
 * run. */
static void test_bury(void **state)
{
    (void)state;
    static struct named_task t[3]; /* static because one outlives the test */
    init_tasks(t, 3);
    loop_set_hook(loop, hook, order);
    loop_soon(loop, &t[0].task, run);
    loop_soon(loop, &t[1].task, run);
    t[1].posts = &t[2];
    loop_bury(loop, &t[0].task, run_upper);
    loop_turn(loop, false);
    assert_order("bcA!");
    loop_turn(loop, false);
    assert_order("!");
    loop_bury(loop, &t[0].task, run_upper); /* is freed with the loop at the latest */
}

static void test_long_steps(void **state)
{
    (void)state;
    loop_turn(loop, false);
    assert_true(loop_take_long_step(loop));
    now += MILLIS(1);
    assert_true(loop_take_long_step(loop));
    now += 1;
    assert_false(loop_take_long_step(loop));
    loop_turn(loop, false);
    now += SECONDS(1); /* the first long step of a turn is always allowed */
    assert_true(loop_take_long_step(loop));
    assert_false(loop_take_long_step(loop));
}

/* ---- descriptors ---- */

struct named_io {
    struct io io;
    char name;
    struct named_io *forgets; /* NULL, or the io that it removes from the loop */
};

static void on_ready(struct io *io)
{
    struct named_io *named = container_of(io, struct named_io, io);
    ran(named->name);
    if (named->forgets && named->forgets->io.fd >= 0) {
        int fd = named->forgets->io.fd;
        loop_forget(loop, &named->forgets->io);
        close(fd);
    }
}

static int add_stream(struct named_io *named, char name)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    *named = (struct named_io){.name = name};
    assert_int_equal(loop_add(loop, &named->io, ends[0], IO_KIND_DATA, on_ready), OK);
    return ends[1];
}

static void remove_stream(struct named_io *named, int peer)
{
    if (named->io.fd >= 0) {
        int fd = named->io.fd;
        loop_forget(loop, &named->io);
        loop_forget(loop, &named->io);
        close(fd);
    }
    if (peer >= 0) {
        close(peer);
    }
    assert_int_equal(named->io.fd, -1);
}

static void test_ready_bits(void **state)
{
    (void)state;
    struct named_io a;
    int peer = add_stream(&a, 'a');
    loop_turn(loop, false);
    assert_int_equal(a.io.ready, IO_WRITE);
    assert_order("a");
    loop_turn(loop, false);
    assert_order(""); /* edge-triggered: reported once */
    assert_int_equal(send(peer, "x", 1, 0), 1);
    loop_turn(loop, false);
    assert_int_equal(a.io.ready, IO_READ | IO_WRITE);
    assert_order("a");
    a.io.ready = 0;
    shutdown(peer, SHUT_WR);
    loop_turn(loop, false);
    assert_true(a.io.ready & IO_HANGUP);
    assert_true(a.io.ready & IO_READ);
    assert_false(a.io.ready & IO_BROKEN);
    close(peer);
    loop_turn(loop, false);
    assert_true(a.io.ready & IO_BROKEN);
    remove_stream(&a, -1);
    assert_int_equal(loop_add(loop, &a.io, -1, IO_KIND_DATA, on_ready), ERR);
    assert_int_equal(a.io.fd, -1);
}

/* Two descriptors become ready together, and the first callback removes both: the other gets no
 * event. */
static void test_forget_in_batch(void **state)
{
    (void)state;
    struct named_io a, b;
    int peer_a = add_stream(&a, 'x'), peer_b = add_stream(&b, 'x');
    a.forgets = &b;
    b.forgets = &a;
    loop_turn(loop, false);
    assert_order("x");
    remove_stream(&a, peer_a);
    remove_stream(&b, peer_b);
    /* A callback removes itself. */
    peer_a = add_stream(&a, 'a');
    a.forgets = &a;
    assert_int_equal(send(peer_a, "x", 1, 0), 1);
    loop_turn(loop, false);
    loop_turn(loop, false);
    assert_order("a");
    remove_stream(&a, peer_a);
}

static void on_listener(struct io *io)
{
    (void)io;
    ran('l');
}

static void on_busy(struct io *io)
{
    (void)io;
    now += MILLIS(5);
}

/* If descriptors always have events, the list still has a share of every turn. */
static void test_soon_beside_busy_events(void **state)
{
    (void)state;
    struct io io;
    struct named_task t[3];
    int ends[2];
    init_tasks(t, 3);
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    assert_int_equal(loop_add(loop, &io, ends[0], IO_KIND_LISTEN, on_busy), OK);
    assert_int_equal(write(ends[1], "x", 1), 1);
    for (size_t i = 0; i < 3; i++) {
        t[i].takes = MILLIS(1) + 1;
        loop_soon(loop, &t[i].task, run);
    }
    loop_turn(loop, false);
    assert_order("ab");
    loop_turn(loop, false);
    assert_order("c");
    loop_forget(loop, &io);
    close(ends[0]);
    close(ends[1]);
}

static void test_listen_pause(void **state)
{
    (void)state;
    struct io io;
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    assert_int_equal(loop_add(loop, &io, ends[0], IO_KIND_LISTEN, on_listener), OK);
    assert_int_equal(write(ends[1], "x", 1), 1);
    loop_turn(loop, false);
    loop_turn(loop, false);
    assert_order("ll"); /* as long as a client waits */
    loop_listen_pause(loop, &io, true);
    loop_turn(loop, false);
    assert_order("");
    loop_listen_pause(loop, &io, false);
    loop_turn(loop, false);
    assert_order("l");
    loop_forget(loop, &io);
    close(ends[0]);
    close(ends[1]);
}

/* ---- signals, figures ---- */

static void on_signal(int signo, void *arg)
{
    assert_ptr_equal(arg, loop);
    ran(signo == SIGUSR1 ? '1' : '2');
    loop_stop(loop);
}

static void test_signals(void **state)
{
    (void)state;
    assert_int_equal(loop_on_signal(loop, SIGUSR1, on_signal, loop), OK);
    assert_int_equal(loop_on_signal(loop, SIGUSR2, on_signal, loop), OK);
    loop_turn(loop, false);
    assert_order("");
    raise(SIGUSR2);
    loop_run(loop); /* returns because of the signal */
    assert_order("2");
    raise(SIGUSR1);
    loop_turn(loop, false);
    loop_turn(loop, false);
    assert_order("1");
}

static void test_stats(void **state)
{
    (void)state;
    struct named_task t[1];
    init_tasks(t, 1);
    t[0].takes = 700;
    loop_turn(loop, false);
    loop_soon(loop, &t[0].task, run);
    loop_turn(loop, false);
    loop_turn(loop, false);
    assert_true(loop_stats(loop).turns == 3);
    assert_true(loop_stats(loop).longest_turn == 700);
    assert_true(loop_now(loop) == now);
    char *scratch = loop_scratch(loop);
    memset(scratch, 0, LOOP_SCRATCH);
}

static int no_epoll(int flags)
{
    (void)flags;
    return -1;
}

static void test_no_descriptor(void **state)
{
    (void)state;
    struct error err;
    test_sys.epoll_create1 = no_epoll;
    assert_null(loop_new(&err));
    assert_int_equal(err.fail, FAIL_INTERNAL);
}

#define with_loop(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_loop(test_timer_order),
        with_loop(test_timer_moved),
        with_loop(test_timer_cancel),
        with_loop(test_timer_again),
        with_loop(test_timer_crowd),
        with_loop(test_wait),
        with_loop(test_soon),
        with_loop(test_soon_bounded),
        with_loop(test_soon_beside_busy_events),
        with_loop(test_next_turn),
        with_loop(test_bury),
        with_loop(test_long_steps),
        with_loop(test_ready_bits),
        with_loop(test_forget_in_batch),
        with_loop(test_listen_pause),
        with_loop(test_signals),
        with_loop(test_stats),
        with_loop(test_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
