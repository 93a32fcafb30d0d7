/* A byte stream with one callback: socket, TLS, buffers and deadline behind one face.
 *
 * The conn reads, its user is told: DATA says that conn_data() has something. What the user does
 * not consume stays and is shown again together with what comes. Writing never blocks and never
 * calls back: what the socket does not take is queued, DRAINED says when the queue is empty again.
 * A queue has a bound; who moves much pauses the source while conn_pending() of the sink is not 0.
 *
 * A conn owns memory for bytes only while its peer blocks or a line is incomplete. */
#ifndef TPROXY_LIB_CONN_H
#define TPROXY_LIB_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/list.h"
#include "lib/socket_buffers.h"
#include "lib/text.h"

struct conn;
struct loop;
struct tls_client;

enum conn_event {
    CONN_CONNECTED, /* the connection, or after conn_start_tls the TLS session, stands */
    CONN_DATA,      /* conn_data() has grown; in raw mode: there is something to splice */
    CONN_DRAINED,   /* everything written has left */
    CONN_EOF,       /* the peer will send no more; comes once, after the last DATA */
    CONN_TIMEOUT,   /* the deadline has passed; it is not set any more */
    CONN_FAILED,    /* the connection is gone, conn_error() says why; the last event; it may also
                       come after EOF */
};

/* Never called from inside a conn_ function. May call any of them, conn_close included. */
struct conn_handler {
    void (*event)(struct conn *c, enum conn_event event, void *arg);
    void *arg;
};

/* Wraps a connected descriptor, which it owns from now on. NULL (and the descriptor closed) when
 * the loop cannot take it. */
struct conn *conn_new(struct loop *loop, int fd, struct conn_handler handler);

/* Starts a TCP connection (non-blocking); CONNECTED or FAILED follows. NULL and *err when it cannot
 * even be started. */
struct conn *conn_connect(struct loop *loop, const struct sockaddr *addr, socklen_t addr_len,
                          struct conn_handler handler, struct error *err);

/* Another owner takes over. Input that is there, or its end, is told to it again. */
void conn_set_handler(struct conn *c, struct conn_handler handler);

/* Begins a TLS handshake as client; CONNECTED or FAILED follows. Input read before and not consumed
 * is bytes that the peer sent in clear behind its consent: that fails (RFC 2595 section 2.4 and
 * CVE-2011-0411). Takes a reference on `client`. */
void conn_start_tls(struct conn *c, struct tls_client *client);
bool conn_is_tls(const struct conn *c);
bool conn_tls_resumed(const struct conn *c);

/* "TLSv1.3"; "clear text" without TLS. Static storage. */
const char *conn_tls_version(const struct conn *c);

/* Stops taking a short read of `c` as proof that the socket is empty, which is the default unless
 * the loop has seen TCP urgent data. Needed for Unix sockets: their reads also end where the peer
 * has passed a descriptor. */
void conn_doubt_short_reads(struct conn *c);

/* What has been read and not consumed. Valid until the callback returns. */
struct str conn_data(const struct conn *c);

/* Returns the number of octets that have arrived and were not consumed: those of conn_data() and
 * those that the kernel still holds. In clear text only. */
size_t conn_arrived(const struct conn *c);

/* Drops the first n bytes of conn_data(). */
void conn_consume(struct conn *c, size_t n);

/* The first line of conn_data(), without its LF or CRLF; *octets is its length with it, for
 * conn_consume. AGAIN: not yet complete. ERR: longer than `max` octets, line end included. Valid
 * until the callback returns. */
int conn_line(const struct conn *c, size_t max, struct str *line, size_t *octets) warn_unused;

/* Bounds what a conn of a session holds: it reads at most CONN_READ_SMALL octets at a time, and the
 * kernel's buffers are small (lib/socket_buffers.h). A client's socket has inherited those from its
 * listener. */
void conn_keep_small(struct conn *c, enum socket_side side);

/* Asks for wide buffers, for a bulk transfer of answers; the conn then reads LOOP_SCRATCH octets at
 * a time. Nothing changes when too many conns have them already. */
void conn_widen(struct conn *c);

/* Returns the maximum number of octets of one read. When conn_data() has that many, more is likely
 * to follow. */
size_t conn_read_max(const struct conn *c);

/* Bounds what the kernel keeps of many commands for a backend that does not read. */
void conn_bound_commands(struct conn *c);

/* Has a peer that is gone without a word noticed after CONN_DEATH seconds, even while nothing is
 * sent to it: the connection fails then. For connections on which only the peer speaks. */
void conn_keep_alive(struct conn *c);
enum { CONN_DEATH = 25 };

/* Stops and starts reading: no DATA and no EOF while paused. On resume, what is there is shown
 * (later, as an event). */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);

/* Sends, or queues, all n bytes. A connection that is gone swallows them; FAILED follows. More than
 * the queue holds (CONN_QUEUE_MAX) fails the connection with FAIL_LIMIT. */
void conn_write(struct conn *c, const void *p, size_t n);
enum { CONN_QUEUE_MAX = 256 * 1024 };

/* Maximum number of octets that a small conn reads at a time, and the longest line. */
enum { CONN_READ_SMALL = 16 * 1024 };

/* Bytes that have not left yet. */
size_t conn_pending(const struct conn *c);

/* Returns the number of bytes that the peer's kernel has not taken yet: pending here, or in our
 * kernel. Costs one system call. Events do not tell when they become fewer. */
size_t conn_untaken(const struct conn *c);

/* Raw mode: the conn does not read by itself; DATA says that conn_splice may find something. Only
 * in clear text. */
void conn_set_raw(struct conn *c, bool raw);

/* Moves what `from` has (at most a pipe full) to `to` inside the kernel. A `marker` (of 2 to 9
 * octets) of which `from` has all is not cut at the edge of the pipe: it is sent whole. OK: *n
 * bytes moved, some of which may be pending at `to`. AGAIN: nothing there; CONN_DATA follows. ERR:
 * not possible here (TLS, queued bytes, no pipe left, urgent data, perhaps the end of the stream):
 * copy instead. */
int conn_splice(struct conn *from, struct conn *to, struct str marker, size_t *n) warn_unused;

/* Sends the end of our stream after what is queued. The peer may still send. */
void conn_shutdown(struct conn *c);

/* At `due` (absolute, microseconds) TIMEOUT comes; 0 takes the deadline away. Pushing it further
 * away is free. */
void conn_deadline(struct conn *c, int64_t due);

/* Why it failed; of FAIL_NONE while it has not. Valid as long as the conn. */
const struct error *conn_error(const struct conn *c);

/* Both closes: no event any more, memory is freed at the end of the turn, NULL is allowed.
 * conn_close drops what is queued. conn_linger sends what is queued and ends our stream, as long as
 * the peer's kernel takes some of it every 60 s; then it discards what still comes for at most 2 s,
 * and only then closes: otherwise the kernel's reset could destroy our last line. When as many
 * linger as conn_set_lingering_max allows, the one that has lingered longest is closed first. */
void conn_close(struct conn *c);
void conn_linger(struct conn *c);

/* Connections that were turned away linger in a group of their own: they are many when somebody
 * floods us, and must neither take descriptors without bound nor shorten the lingering of sessions.
 * Embedded in its owner; the fields are private. */
struct conn_group {
    struct list link;
    struct list conns; /* the one that has lingered longest comes first */
    size_t n, max;
};

/* At most `max` (1 or more) linger in it. */
void conn_group_init(struct conn_group *group, size_t max);

/* Does the same as conn_linger, in a group. When the group is full its oldest connection is closed.
 */
void conn_linger_among(struct conn *c, struct conn_group *group);

/* Closes the oldest connection of the group to free its descriptor. Returns false when the group is
 * empty. */
bool conn_group_drop(struct conn_group *group);

/* Closes all of them. */
void conn_group_close(struct conn_group *group);

/* Has the peer sent octets that are still in the kernel? Costs a system call. */
bool conn_has_input(const struct conn *c);

/* Sets how many may linger outside groups; 4096 until it is called. */
void conn_set_lingering_max(size_t n);

/* Numbers of conns that exist, lingering ones included, and of these: a process that ends before
 * them may destroy a last line. */
size_t conn_count(void);
size_t conn_lingering(void);

/* Closes all that linger, for the end of the process. */
void conn_close_lingering(void);

#endif
