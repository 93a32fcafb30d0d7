/* The event loop: descriptors, timers, work for later, signals. One thread; nothing here blocks
 * except the wait for events.
 *
 * A turn: wait -> clock -> events -> timers -> ready list (round robin, a bounded time) -> the dead
 * are freed -> turn hook. */
#ifndef TPROXY_LIB_LOOP_H
#define TPROXY_LIB_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/list.h"

struct loop;

/* NULL and *err when the system refuses a descriptor. Freed with loop_free, after everything
 * registered has gone. */
struct loop *loop_new(struct error *err);
void loop_free(struct loop *loop);

/* Turns until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* One turn; waits for events only when `wait`. For tests that own the clock. */
void loop_turn(struct loop *loop, bool wait);

/* The monotonic clock as read at the start of this turn, microseconds. */
int64_t loop_now(const struct loop *loop);

/* ---- descriptors ---- */

/* What a descriptor is ready for. HANGUP: the peer has closed its writing side, so that a read that
 * comes back short has met the end. BROKEN: error, or both sides closed. URGENT: the peer has sent
 * TCP urgent data. A read stops at it although more may follow, so a short read does not prove that
 * the socket is empty or that the stream has ended. */
enum { IO_READ = 1, IO_WRITE = 2, IO_HANGUP = 4, IO_BROKEN = 8, IO_URGENT = 16 };

/* A registered descriptor, embedded in its owner. Edge-triggered: the loop sets bits in `ready` and
 * calls on_ready; the owner clears a bit when the call that needs it would block. fd is -1 while
 * not registered. */
struct io {
    int fd;
    unsigned ready;
    void (*on_ready)(struct io *io);
};

/* How it is watched. LISTEN: level-triggered reading, for listeners. DATA: edge-triggered, both
 * ways. */
enum io_kind { IO_KIND_LISTEN, IO_KIND_DATA };

/* Starts watching fd. ERR when the system refuses. The descriptor stays the caller's. */
int loop_add(struct loop *loop, struct io *io, int fd, enum io_kind kind,
             void (*on_ready)(struct io *)) warn_unused;

/* Stops the reporting of a descriptor that the caller will close now: closing itself takes it off
 * the kernel's list (one call saved), so it must be the only descriptor of its open file.
 * Idempotent. No event of the running batch reaches io any more. */
void loop_forget(struct loop *loop, struct io *io);

/* Pauses and resumes a LISTEN descriptor. */
void loop_listen_pause(struct loop *loop, struct io *io, bool pause);

/* ---- timers ---- */

/* One deadline, embedded in its owner. Zero-initialised means not set. Moving it further away costs
 * nothing: it is looked at again when its old time comes. */
struct timer {
    int64_t due;   /* when to fire */
    int64_t when;  /* its key in the heap, at most `due` */
    uint32_t slot; /* position in the heap, from 1; 0: not in it */
    void (*fire)(struct timer *t);
};

/* Fires once at `due` (absolute). Replaces an earlier setting. */
void timer_set(struct loop *loop, struct timer *t, int64_t due, void (*fire)(struct timer *));
void timer_cancel(struct loop *loop, struct timer *t);

/* ---- later ---- */

/* Work for later, embedded in its owner. Initialise with task_init. */
struct task {
    struct list link;
    void (*run)(struct task *t);
};

void task_init(struct task *t);

/* Runs t once, after what is on the ready list now, in this turn if its time suffices. A task that
 * is already waiting stays where it is, with the new `run`. */
void loop_soon(struct loop *loop, struct task *t, void (*run)(struct task *));

/* The same, not before the next turn has looked for events: for work that gives way to others. */
void loop_next_turn(struct loop *loop, struct task *t, void (*run)(struct task *));

/* Takes it off again; does nothing to a task that is not waiting. */
void task_cancel(struct task *t);

/* Runs `free_it` at the end of this turn: memory that events of this batch may still mention. The
 * task must not be used for anything else afterwards. */
void loop_bury(struct loop *loop, struct task *t, void (*free_it)(struct task *));

/* May the caller do one of the few long computations (a step of a TLS handshake) that fit into a
 * turn? If not, it tries again in the next turn. */
bool loop_take_long_step(struct loop *loop);

/* ---- signals, hook, figures ---- */

/* Delivers a signal as an event. The signal is blocked from now on. ERR when the system refuses. */
int loop_on_signal(struct loop *loop, int signo, void (*cb)(int signo, void *arg),
                   void *arg) warn_unused;

/* Called at the end of every turn, before the wait. */
void loop_set_hook(struct loop *loop, void (*hook)(void *arg), void *arg);

/* Memory that all of one loop share for reading: valid until the next callback. */
enum { LOOP_SCRATCH = 65536 };
char *loop_scratch(struct loop *loop);

/* The same for what TLS reads from the wire: a record of the largest size, and the heads of the
 * next ones. */
enum { LOOP_WIRE_SCRATCH = 16384 + 1024 };
char *loop_wire_scratch(struct loop *loop);

struct loop_stats {
    uint64_t turns;
    int64_t longest_turn; /* microseconds from the end of a wait to the start of the next */
};
struct loop_stats loop_stats(const struct loop *loop);

#endif
