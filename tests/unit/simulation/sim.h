/* A simulated world behind `sys`: a clock, streams, pipes and epoll. Bytes arrive in pieces of
 * every size, sends are taken in part, peers rest or vanish, and time jumps ahead when nothing else
 * can happen. A seed determines everything. The peers of tproxy's sockets are actors of the test.
 *
 * Urgent data behave as under Linux (tcp(7)): a read ends before the urgent octet although more has
 * arrived, that octet is skipped unless SO_OOBINLINE is set, splice() does not pass it, and epoll
 * reports it (EPOLLPRI). */
#ifndef TPROXY_TESTS_SIMULATION_SIM_H
#define TPROXY_TESTS_SIMULATION_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_stream;

/* The other end of a stream. run() is called again and again, and returns true if it has done
 * something. The other two functions may be NULL. */
struct sim_actor {
    bool (*run)(struct sim_actor *actor);

    /* tproxy has read octets `from` to `to` of the actor's, when `there` had arrived. */
    void (*was_read)(struct sim_actor *actor, size_t from, size_t to, size_t there);

    /* One call of tproxy sent octets up to `to`, and the socket took them all. */
    void (*was_sent)(struct sim_actor *actor, size_t to);

    struct sim_stream *stream;
};

/* Puts a new world into `sys`. */
void sim_start(uint64_t seed);

/* Frees the world and puts the operating system back. Returns how many descriptors were left
 * open. */
int sim_stop(void);

/* Returns a number from 0 to n - 1. */
size_t sim_rand(size_t n);
bool sim_chance(int percent);

/* Sets the function that is called when tproxy connects to an address. It fills in an actor, or
 * returns NULL: the connection is refused. */
void sim_on_connect(struct sim_actor *(*connected)(void));

/* Connects an actor to tproxy's listener; sim_connect_at does so at the time `when`. The connection
 * is reset if nobody listens any more. */
void sim_connect(struct sim_actor *actor);
void sim_connect_at(struct sim_actor *actor, int64_t when);

/* Returns the clock; sets the time at which an actor runs even if nothing else happens. */
int64_t sim_clock(void);
void sim_wake(struct sim_actor *actor, int64_t when);

/* From now on the actor takes a few hundred octets every few seconds. */
void sim_read_slowly(struct sim_actor *actor);

/* The actor uses its end of the stream with these functions. */
void sim_send(struct sim_actor *actor, const void *p, size_t n);
void sim_urge(struct sim_actor *actor);   /* the last octet that was sent is urgent data */
void sim_finish(struct sim_actor *actor); /* ends its stream */
void sim_close(struct sim_actor *actor);  /* ends its stream and resets when more arrives */
void sim_reset(struct sim_actor *actor);

/* Returns all octets that tproxy has sent; whether its stream has ended or broken, and when. */
const char *sim_received(const struct sim_actor *actor, size_t *n);
bool sim_ended(const struct sim_actor *actor);
int64_t sim_ended_at(const struct sim_actor *actor);

/* Returns how many octets the actor has sent, and how many of them tproxy has read. */
size_t sim_sent(const struct sim_actor *actor);
size_t sim_read(const struct sim_actor *actor);

/* Returns when octets last moved on this stream, in either direction. */
int64_t sim_moved(const struct sim_actor *actor);

/* Returns the longest time in microseconds for which all peers together took none of the octets
 * that waited for them. */
int64_t sim_rested(void);

/* Returns whether nothing more can happen although tproxy waits without a deadline. */
bool sim_stuck(void);

#endif
