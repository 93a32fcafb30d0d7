/* A loop with a clock that only the test moves, and conns over real sockets whose events are
 * counted. */
#ifndef TPROXY_TESTS_WORLD_STREAMS_H
#define TPROXY_TESTS_WORLD_STREAMS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/conn.h"
#include "lib/loop.h"
#include "lib/sys.h"
#include "tests/unit/check.h"

/* `sys` is a copy of the system's table with this clock; a test may replace more of it. */
extern struct sys test_sys;
extern int64_t test_now;

void test_sys_init(void);

/* Turns the loop until done() returns true. Fails the test after 60 s of real time: a busy machine
 * may need seconds, and the kernel retransmits a dropped segment only after a while. */
void turn_until(struct loop *loop, bool (*done)(void *arg), void *arg);

/* Turns the loop without waiting, often enough for everything that is ready. */
void turn_quietly(struct loop *loop);

void stream_pair(bool tcp, int ends[2]);

enum { EVENTS = CONN_FAILED + 1, SEEN_MAX = 64 * 1024 * 1024 };

/* The events of one conn. Its data is consumed into `data` unless `hold` is set. */
struct seen {
    struct conn *conn;
    unsigned count[EVENTS];
    enum conn_event last;
    struct buf data;
    bool hold;
    void (*also)(struct seen *seen, enum conn_event event); /* NULL: nothing */
    void *arg;
};

struct conn_handler seen_handler(struct seen *seen);

/* Starts a conn over one end of a stream; *peer is the other, non-blocking one. tcp: over the
 * loopback device. */
void seen_start(struct seen *seen, struct loop *loop, bool tcp, int *peer);

/* Turns the loop until the event comes (again, if it has come before), or until this number of
 * bytes has come in all. */
void await_event(struct loop *loop, struct seen *seen, enum conn_event event);

void await_bytes(struct loop *loop, struct seen *seen, size_t n);

/* Sends from the other end; the test fails unless all is taken. */
void peer_send(int fd, const void *p, size_t n);

/* Reads the octets that have come. Returns their number, and sets *end if the stream has then
 * ended. */
size_t peer_read(int fd, struct buf *to, bool *end);

void pattern_fill(void *p, uint64_t from, size_t n);

bool pattern_is(struct str s, uint64_t from);

#endif
