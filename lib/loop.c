/* The event loop over epoll.
 *
 *      wait ---> clock ---> events ---> timers ---> ready list ---> the dead ---> hook ---.
 *       ^                                                                                  |
 *       '----------------------------------------------------------------------------------'
 *
 * Descriptors are registered once, edge-triggered for both directions. Their `ready` bits keep what
 * they are ready for, so no registration has to change with what is awaited. Work that has more to
 * do than fits into one call puts itself on the ready list, which is served round robin for a
 * bounded time. */
#include "lib/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "lib/mem.h"
#include "lib/sys.h"

enum {
    BATCH = 128,     /* events taken in one turn */
    FIRST_HEAP = 64, /* room for timers before the heap grows */
};

/* The ready list gives way to new events after READY_TIME. No second long step begins when a turn
 * has lasted LONG_STEP_TIME. */
#define READY_TIME MILLIS(2)
#define LONG_STEP_TIME MILLIS(1)

struct signal_handler {
    struct io io;
    void (*cb)(int signo, void *arg);
    void *arg;
    struct list link;
};

struct loop {
    int epfd;
    bool running;
    int64_t now;
    bool long_step_taken;

    struct epoll_event batch[BATCH];
    int batch_len, batch_pos;

    struct timer **heap; /* heap[0] is unused, because a slot of 0 means "not in the heap" */
    uint32_t heap_len, heap_cap;

    struct list ready, next_turn, dead;
    struct list signals;

    void (*hook)(void *arg);
    void *hook_arg;
    struct loop_stats stats;
    char scratch[LOOP_SCRATCH];
    char wire_scratch[LOOP_WIRE_SCRATCH];
};

struct loop *loop_new(struct error *err)
{
    int epfd = sys->epoll_create1(EPOLL_CLOEXEC);
    if (epfd < 0) {
        error_set(err, FAIL_INTERNAL, "epoll_create1: %s", strerror(errno));
        return NULL;
    }
    struct loop *loop = mem_zalloc(sizeof(*loop));
    loop->epfd = epfd;
    loop->now = sys->now();
    list_init(&loop->ready);
    list_init(&loop->next_turn);
    list_init(&loop->dead);
    list_init(&loop->signals);
    return loop;
}

static void free_dead(struct loop *loop)
{
    while (!list_empty(&loop->dead)) {
        struct task *t = container_of(loop->dead.next, struct task, link);
        list_remove(&t->link);
        t->run(t);
    }
}

void loop_free(struct loop *loop)
{
    LIST_EACH (it, &loop->signals) {
        struct signal_handler *s = container_of(it, struct signal_handler, link);
        close(s->io.fd);
        free(s);
    }
    free_dead(loop);
    sys->close(loop->epfd);
    free(loop->heap);
    free(loop);
}

void loop_stop(struct loop *loop)
{
    loop->running = false;
}

int64_t loop_now(const struct loop *loop)
{
    return loop->now;
}

char *loop_scratch(struct loop *loop)
{
    return loop->scratch;
}

char *loop_wire_scratch(struct loop *loop)
{
    return loop->wire_scratch;
}

struct loop_stats loop_stats(const struct loop *loop)
{
    return loop->stats;
}

void loop_set_hook(struct loop *loop, void (*hook)(void *arg), void *arg)
{
    loop->hook = hook;
    loop->hook_arg = arg;
}

/* ---- descriptors ---- */

static uint32_t interest(enum io_kind kind)
{
    return kind == IO_KIND_LISTEN ? EPOLLIN : EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET;
}

int loop_add(struct loop *loop, struct io *io, int fd, enum io_kind kind,
             void (*on_ready)(struct io *))
{
    struct epoll_event event = {.events = interest(kind), .data.ptr = io};
    io->fd = fd;
    io->ready = 0;
    io->on_ready = on_ready;
    if (sys->epoll_ctl(loop->epfd, EPOLL_CTL_ADD, fd, &event) < 0) {
        io->fd = -1;
        return ERR;
    }
    return OK;
}

void loop_forget(struct loop *loop, struct io *io)
{
    for (int i = loop->batch_pos; io->fd >= 0 && i < loop->batch_len; i++) {
        if (loop->batch[i].data.ptr == io) {
            loop->batch[i].data.ptr = NULL;
        }
    }
    io->fd = -1;
    io->ready = 0;
}

void loop_listen_pause(struct loop *loop, struct io *io, bool pause)
{
    struct epoll_event event = {.events = pause ? 0 : EPOLLIN, .data.ptr = io};
    sys->epoll_ctl(loop->epfd, EPOLL_CTL_MOD, io->fd, &event);
}

static unsigned ready_bits(uint32_t events)
{
    unsigned bits = 0;
    bits |= events & EPOLLIN ? IO_READ : 0;
    bits |= events & EPOLLPRI ? IO_URGENT | IO_READ : 0;
    bits |= events & EPOLLOUT ? IO_WRITE : 0;
    bits |= events & EPOLLRDHUP ? IO_HANGUP | IO_READ : 0;
    bits |= events & (EPOLLERR | EPOLLHUP) ? IO_BROKEN | IO_READ | IO_WRITE : 0;
    return bits;
}

static void run_events(struct loop *loop, int n)
{
    loop->batch_len = n;
    for (int i = 0; i < n; i++) {
        loop->batch_pos = i + 1;
        struct io *io = loop->batch[i].data.ptr;
        if (io) {
            io->ready |= ready_bits(loop->batch[i].events);
            io->on_ready(io);
        }
    }
    loop->batch_len = loop->batch_pos = 0;
}

/* ---- timers: a binary heap, earliest `when` at slot 1 ---- */

static void heap_put(struct loop *loop, uint32_t slot, struct timer *t)
{
    loop->heap[slot] = t;
    t->slot = slot;
}

static void heap_up(struct loop *loop, uint32_t slot, struct timer *t)
{
    while (slot > 1 && loop->heap[slot / 2]->when > t->when) {
        heap_put(loop, slot, loop->heap[slot / 2]);
        slot /= 2;
    }
    heap_put(loop, slot, t);
}

static void heap_down(struct loop *loop, uint32_t slot, struct timer *t)
{
    for (;;) {
        uint32_t child = slot * 2;
        if (child > loop->heap_len) {
            break;
        }
        if (child < loop->heap_len && loop->heap[child + 1]->when < loop->heap[child]->when) {
            child++;
        }
        if (loop->heap[child]->when >= t->when) {
            break;
        }
        heap_put(loop, slot, loop->heap[child]);
        slot = child;
    }
    heap_put(loop, slot, t);
}

static void heap_add(struct loop *loop, struct timer *t)
{
    if (loop->heap_len + 1 >= loop->heap_cap) {
        loop->heap_cap = loop->heap_cap ? loop->heap_cap * 2 : FIRST_HEAP;
        loop->heap = mem_realloc(loop->heap, loop->heap_cap * sizeof(struct timer *));
    }
    heap_up(loop, ++loop->heap_len, t);
}

static void heap_remove(struct loop *loop, struct timer *t)
{
    uint32_t slot = t->slot;
    struct timer *last = loop->heap[loop->heap_len--];
    t->slot = 0;
    if (last == t) {
        return;
    }
    if (slot > 1 && loop->heap[slot / 2]->when > last->when) {
        heap_up(loop, slot, last);
    } else {
        heap_down(loop, slot, last);
    }
}

void timer_set(struct loop *loop, struct timer *t, int64_t due, void (*fire)(struct timer *))
{
    t->due = due;
    t->fire = fire;
    if (t->slot == 0) {
        t->when = due;
        heap_add(loop, t);
    } else if (due < t->when) {
        t->when = due;
        heap_up(loop, t->slot, t);
    }
}

void timer_cancel(struct loop *loop, struct timer *t)
{
    if (t->slot) {
        heap_remove(loop, t);
    }
}

static void run_timers(struct loop *loop)
{
    while (loop->heap_len && loop->heap[1]->when <= loop->now) {
        struct timer *t = loop->heap[1];
        heap_remove(loop, t);
        if (t->due > loop->now) {
            t->when = t->due;
            heap_add(loop, t);
        } else {
            t->fire(t);
        }
    }
}

bool loop_is_idle(const struct loop *loop)
{
    return list_empty(&loop->ready) && list_empty(&loop->next_turn);
}

/* Returns how many milliseconds the wait may last, rounded up, so that the timer is then due. -1:
 * without limit. */
static int wait_ms(const struct loop *loop)
{
    if (!loop_is_idle(loop)) {
        return 0;
    }
    if (loop->heap_len == 0) {
        return -1;
    }
    int64_t us = loop->heap[1]->when - sys->now();
    int64_t ms = us <= 0 ? 0 : (us + 999) / 1000;
    return ms < 3600000 ? (int)ms : 3600000;
}

/* ---- later ---- */

void task_init(struct task *t)
{
    list_init(&t->link);
    t->run = NULL;
}

static void post(struct list *list, struct task *t, void (*run)(struct task *))
{
    t->run = run;
    if (list_empty(&t->link)) {
        list_append(list, &t->link);
    }
}

void loop_soon(struct loop *loop, struct task *t, void (*run)(struct task *))
{
    post(&loop->ready, t, run);
}

void loop_next_turn(struct loop *loop, struct task *t, void (*run)(struct task *))
{
    post(&loop->next_turn, t, run);
}

void task_cancel(struct task *t)
{
    list_remove(&t->link);
}

void loop_bury(struct loop *loop, struct task *t, void (*free_it)(struct task *))
{
    list_remove(&t->link);
    post(&loop->dead, t, free_it);
}

bool loop_take_long_step(struct loop *loop)
{
    if (loop->long_step_taken && sys->now() - loop->now > LONG_STEP_TIME) {
        return false;
    }
    loop->long_step_taken = true;
    return true;
}

static void run_ready(struct loop *loop)
{
    /* The time begins now and not at the start of the turn: events alone may fill a turn, again and
     * again. */
    int64_t until = sys->now() + READY_TIME;
    while (!list_empty(&loop->ready) && sys->now() <= until) {
        struct task *t = container_of(loop->ready.next, struct task, link);
        list_remove(&t->link);
        t->run(t);
    }
}

/* ---- the turn ---- */

void loop_turn(struct loop *loop, bool wait)
{
    int n = sys->epoll_wait(loop->epfd, loop->batch, BATCH, wait ? wait_ms(loop) : 0);
    loop->now = sys->now();
    loop->long_step_taken = false;
    while (!list_empty(&loop->next_turn)) {
        struct list *first = loop->next_turn.next;
        list_remove(first);
        list_append(&loop->ready, first);
    }
    run_events(loop, n > 0 ? n : 0);
    run_timers(loop);
    run_ready(loop);
    free_dead(loop);
    if (loop->hook) {
        loop->hook(loop->hook_arg);
    }
    int64_t took = sys->now() - loop->now;
    loop->stats.turns++;
    loop->stats.longest_turn = took > loop->stats.longest_turn ? took : loop->stats.longest_turn;
}

void loop_run(struct loop *loop)
{
    loop->running = true;
    while (loop->running) {
        loop_turn(loop, true);
    }
}

/* ---- signals ---- */

static void signal_ready(struct io *io)
{
    struct signal_handler *s = container_of(io, struct signal_handler, io);
    struct signalfd_siginfo info;
    while (read(io->fd, &info, sizeof(info)) == sizeof(info)) {
        s->cb((int)info.ssi_signo, s->arg);
    }
}

int loop_on_signal(struct loop *loop, int signo, void (*cb)(int signo, void *arg), void *arg)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signo);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        return ERR;
    }
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) {
        return ERR;
    }
    struct signal_handler *s = mem_zalloc(sizeof(*s));
    s->cb = cb;
    s->arg = arg;
    if (loop_add(loop, &s->io, fd, IO_KIND_DATA, signal_ready) != OK) {
        close(fd);
        free(s);
        return ERR;
    }
    list_append(&loop->signals, &s->link);
    return OK;
}
