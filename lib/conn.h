/* A byte stream with one callback: socket, TLS, buffers and deadline behind one interface.
 *
 * The conn reads by itself and tells its user: DATA means that conn_data() has something. Bytes
 * that the user does not consume stay and are shown again together with the next ones. Writing
 * never blocks and never calls back: bytes that the socket does not take are queued, and DRAINED
 * means that the queue is empty again. A queue has a bound, so a user that moves many bytes pauses
 * the source while conn_pending() of the sink is not 0.
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
#include "lib/socket_buffers.h"
#include "lib/text.h"

struct conn;
struct loop;
struct tls;
struct tls_client;

enum conn_event {
    CONN_CONNECTED, /* the connection, or after conn_start_tls the TLS session, is established */
    CONN_DATA,      /* conn_data() has grown; in raw mode: conn_splice() may find something */
    CONN_DRAINED,   /* the queue of bytes to send is empty again */
    CONN_EOF,       /* the peer will send no more; comes once, after the last DATA */
    CONN_TIMEOUT,   /* the deadline has passed and is not set any more */
    CONN_FAILED,    /* the connection is gone and conn_error() says why; the last event, which may
                       also come after EOF */
};

/* Never called from inside a conn_ function. May call any of them, conn_close included. */
struct conn_handler {
    void (*event)(struct conn *c, enum conn_event event, void *arg);
    void *arg;
};

/* Wraps a connected descriptor and owns it from now on. Returns NULL, with the descriptor closed,
 * when the loop cannot take it. */
struct conn *conn_new(struct loop *loop, int fd, struct conn_handler handler);

/* Makes a stream within the process. Returns one end; *other is the descriptor of the other end,
 * for conn_new, and the caller's. Returns NULL when the system refuses. */
struct conn *conn_new_pair(struct loop *loop, struct conn_handler handler, int *other);

/* Starts a TCP connection without blocking; CONNECTED or FAILED follows. Returns NULL and sets *err
 * when it cannot even be started. */
struct conn *conn_connect(struct loop *loop, const struct sockaddr *addr, socklen_t addr_len,
                          struct conn_handler handler, struct error *err);

/* Hands the conn to another owner. Input that is there, or the end of the stream, is told again. */
void conn_set_handler(struct conn *c, struct conn_handler handler);

/* Returns the loop that was given to conn_new or conn_connect. */
struct loop *conn_loop(const struct conn *c);

/* Begins a TLS handshake as client; CONNECTED or FAILED follows. Fails when input is left that was
 * not consumed: the peer sent those bytes in clear after its consent to TLS (RFC 2595 section 2.4
 * and CVE-2011-0411). Takes a reference on `client`. */
void conn_start_tls(struct conn *c, struct tls_client *client);
bool conn_is_tls(const struct conn *c);
bool conn_tls_resumed(const struct conn *c);

/* Returns "TLSv1.3" or the like, "clear text" without TLS. Static storage. */
const char *conn_tls_version(const struct conn *c);

/* Returns the TLS session, NULL without TLS. Only for questions; valid as long as the conn. */
const struct tls *conn_tls(const struct conn *c);

/* Stops taking a short read of `c` as proof that the socket is empty, which is the default unless
 * the loop has seen TCP urgent data. Needed for Unix sockets: their reads also end where the peer
 * has passed a descriptor. */
void conn_doubt_short_reads(struct conn *c);

/* Returns what has been read and not consumed. Valid until the callback returns. */
struct str conn_data(const struct conn *c);

/* Returns the number of octets that have arrived and were not consumed: those of conn_data() and
 * those that the kernel still holds. With TLS it counts those of conn_data() only. */
size_t conn_arrived(const struct conn *c);

/* Drops the first n bytes of conn_data(). */
void conn_consume(struct conn *c, size_t n);

/* Finds the first line of conn_data(). *line is the line without its LF or CRLF, *octets its length
 * with it, for conn_consume. AGAIN: the line is not complete yet. ERR: it is longer than `max`
 * octets, line end included. Valid until the callback returns. */
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

/* Bounds how many octets of commands the kernel holds for a backend that does not read them. */
void conn_bound_commands(struct conn *c);

/* Reads at most CONN_READ_SMALL octets at a time, for a user that works long on each octet. It can
 * still leave more than that in conn_data(). */
void conn_read_pieces(struct conn *c);

/* Detects within CONN_DEATH seconds a peer that is gone without closing, even while nothing is sent
 * to it: the connection then fails. For connections on which only the peer speaks. */
void conn_keep_alive(struct conn *c);
enum { CONN_DEATH = 25 };

/* Stop and start reading: no DATA and no EOF come while the conn is paused. After conn_resume an
 * event shows what is there. */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);

/* Has an event show what is there although nothing new has come, for a user that stopped half-way.
 * Resumes a paused conn. */
void conn_show_again(struct conn *c);

/* Sends, or queues, all n bytes. A connection that is gone drops them; FAILED follows. A queue that
 * would pass CONN_QUEUE_MAX fails the connection with FAIL_LIMIT. */
void conn_write(struct conn *c, const void *p, size_t n);
enum { CONN_QUEUE_MAX = 256 * 1024 };

/* Maximum number of octets that a conn reads at a time if it is small or reads pieces, and maximum
 * length of a line. */
enum { CONN_READ_SMALL = 16 * 1024 };

/* Returns the number of bytes that are queued here. */
size_t conn_pending(const struct conn *c);

/* Returns the number of bytes that the peer's kernel has not taken yet: queued here, or in our
 * kernel. Costs one system call. No event tells when the number falls. */
size_t conn_untaken(const struct conn *c);

/* Switches raw mode on or off. In raw mode the conn does not read by itself; DATA means that
 * conn_splice may find something. Only in clear text. */
void conn_set_raw(struct conn *c, bool raw);

/* Moves what `from` has (at most a pipe full) to `to` inside the kernel. A `marker` (of 2 to 9
 * octets) that `from` has completely is not cut at the edge of the pipe: it is sent whole. OK: *n
 * bytes were moved; some of them may be pending at `to`. AGAIN: there is nothing; CONN_DATA
 * follows. ERR: not possible here (TLS, queued bytes, no pipe left, urgent data, perhaps the end of
 * the stream): copy instead. */
int conn_splice(struct conn *from, struct conn *to, struct str marker, size_t *n) warn_unused;

/* Ends our stream as soon as the queue is sent. The peer may still send. */
void conn_shutdown(struct conn *c);

/* Ends our stream as conn_shutdown does, and discards what the peer has sent and still sends, with
 * TLS without decrypting it: no DATA comes any more. Returns false when there is nothing to wait
 * for: the conn is not established, or the peer has ended its stream, too, and the queue is
 * empty. */
bool conn_discard(struct conn *c);

/* Sets the deadline, at which TIMEOUT comes (absolute, microseconds); 0 removes it. Moving it
 * further away costs nothing. */
void conn_deadline(struct conn *c, int64_t due);

/* Returns why the conn has failed, with FAIL_NONE while it has not. Valid as long as the conn. */
const struct error *conn_error(const struct conn *c);

/* Closes the conn and drops what is queued: no event follows, the memory is freed at the end of the
 * turn, NULL is allowed. lib/linger.h closes it when the peer has taken what is queued. */
void conn_close(struct conn *c);

/* Tells whether the peer has sent octets that are still in the kernel. Costs a system call. */
bool conn_has_input(const struct conn *c);

/* Returns the number of all conns. */
size_t conn_count(void);

#endif
