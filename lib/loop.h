/* The event loop: descriptors, timers, work for later, signals. It has one thread, and nothing in
 * it blocks except the wait for events.
 *
 * A turn: wait -> clock -> events -> timers -> ready list (round robin, a bounded time) -> freeing
 * the dead -> turn hook. */
#ifndef TPROXY_LIB_LOOP_H
#define TPROXY_LIB_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/list.h"

struct loop;

/* Returns NULL and sets *err when the system refuses a descriptor. loop_free frees the loop, after
 * everything registered has gone. */
struct loop *loop_new(struct error *err);
void loop_free(struct loop *loop);

/* Runs turns until loop_stop is called. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Runs one turn, which waits for events only if `wait`. For tests that own the clock. */
void loop_turn(struct loop *loop, bool wait);

/* Returns the monotonic clock as read at the start of this turn, microseconds. */
int64_t loop_now(const struct loop *loop);

/* ---- descriptors ---- */

/* The states that a descriptor may be ready for. HANGUP: the peer has closed its writing side, so a
 * read that returns less than asked has met the end. BROKEN: error, or both sides closed. URGENT:
 * the peer has sent TCP urgent data. A read stops at it although more may follow, so a short read
 * proves neither that the socket is empty nor that the stream has ended. */
enum { IO_READ = 1, IO_WRITE = 2, IO_HANGUP = 4, IO_BROKEN = 8, IO_URGENT = 16 };

/* A registered descriptor, embedded in its owner. Edge-triggered: the loop sets bits in `ready` and
 * calls on_ready; the owner clears a bit when the call that needs it would block. fd is -1 while it
 * is not registered. */
struct io {
    int fd;
    unsigned ready;
    void (*on_ready)(struct io *io);
};

/* How a descriptor is watched. LISTEN: level-triggered reading, for listeners. DATA:
 * edge-triggered, both ways. */
enum io_kind { IO_KIND_LISTEN, IO_KIND_DATA };

/* Starts watching fd. ERR when the system refuses. The descriptor stays the caller's. */
int loop_add(struct loop *loop, struct io *io, int fd, enum io_kind kind,
             void (*on_ready)(struct io *)) warn_unused;

/* Stops the reporting of a descriptor that the caller will close now. Closing it takes it off the
 * kernel's list, which saves a call, so it must be the only descriptor of its open file. No event
 * of the current batch reaches io any more. Idempotent. */
void loop_forget(struct loop *loop, struct io *io);

/* Pauses or resumes the reporting of a LISTEN descriptor. */
void loop_listen_pause(struct loop *loop, struct io *io, bool pause);

/* ---- timers ---- */

/* One deadline, embedded in its owner. Zero-initialised means not set. Moving it further away costs
 * nothing: the loop only looks at it again when its old time comes. */
struct timer {
    int64_t due;   /* when to fire */
    int64_t when;  /* its key in the heap, at most `due` */
    uint32_t slot; /* position in the heap, from 1; 0: not in it */
    void (*fire)(struct timer *t);
};

/* Sets a timer that fires once at `due` (absolute, microseconds). Replaces an earlier setting.
 * timer_cancel does nothing to a timer that is not set. */
void timer_set(struct loop *loop, struct timer *t, int64_t due, void (*fire)(struct timer *));
void timer_cancel(struct loop *loop, struct timer *t);

/* ---- later ---- */

/* Work for later, embedded in its owner. Initialise with task_init. */
struct task {
    struct list link;
    void (*run)(struct task *t);
};

void task_init(struct task *t);

/* Runs t once, after the tasks that are on the ready list now, in this turn if its time suffices. A
 * task that already waits keeps its place, with the new `run`. */
void loop_soon(struct loop *loop, struct task *t, void (*run)(struct task *));

/* Runs t as loop_soon does, but not before the next turn has looked for events: for work that gives
 * way to others. */
void loop_next_turn(struct loop *loop, struct task *t, void (*run)(struct task *));

/* Cancels a task that waits; does nothing to one that does not. */
void task_cancel(struct task *t);

/* Tells whether no task waits, so that nothing more happens before an event or a timer. */
bool loop_is_idle(const struct loop *loop);

/* Runs `free_it` at the end of this turn, to free memory that events of this batch may still refer
 * to. The task must not be used for anything else afterwards. */
void loop_bury(struct loop *loop, struct task *t, void (*free_it)(struct task *));

/* Asks for permission to do one of the few long computations (a step of a TLS handshake) that fit
 * into a turn. After false the caller tries again in the next turn. */
bool loop_take_long_step(struct loop *loop);

/* ---- signals, hook, figures ---- */

/* Calls `cb` in the loop when the signal arrives. The signal is blocked from now on. ERR when the
 * system refuses. */
int loop_on_signal(struct loop *loop, int signo, void (*cb)(int signo, void *arg),
                   void *arg) warn_unused;

/* Sets a function that is called at the end of every turn, before the wait. */
void loop_set_hook(struct loop *loop, void (*hook)(void *arg), void *arg);

/* Memory for reading that all users of a loop share: valid until the next callback. */
enum { LOOP_SCRATCH = 65536 };
char *loop_scratch(struct loop *loop);

/* Shared memory for what TLS reads from the wire: a record of the largest size, and the heads of
 * the next ones. Valid until the next callback. */
enum { LOOP_WIRE_SCRATCH = 16384 + 1024 };
char *loop_wire_scratch(struct loop *loop);

struct loop_stats {
    uint64_t turns;
    int64_t longest_turn; /* microseconds from the end of a wait to the start of the next */
};
struct loop_stats loop_stats(const struct loop *loop);

#endif
