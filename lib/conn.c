/* A byte stream with one callback: socket, TLS, buffers and deadline behind one interface.
 *
 *   conn_connect --> CONNECTING --.                     .--> FAILED --> (conn_close)
 *                                 |  CONNECTED          |
 *   conn_new ---------------------+--> OPEN ------------+
 *                                      |  ^ CONNECTED   |
 *                       conn_start_tls v  |             |
 *                                    HANDSHAKE ---------+
 *
 *   conn_close: any --> CLOSED
 *
 * Bytes in:   socket -> (TLS) -> the loop's scratch memory -> callback; the rest goes to `in`.
 * Bytes out:  conn_write -> (TLS) -> socket; bytes that it refuses go to `out`. A TLS record is
 *             queued whole, so mbedTLS never has a write to repeat.
 *
 * conn_step() does all work that may call back. The loop calls it when the socket is ready, and
 * public functions post it as a task; so no callback ever comes from inside a call. */
#include "lib/conn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pipes.h"
#include "lib/sys.h"
#include "lib/tls.h"

/* Cheap steps of a TLS handshake are taken together for at most this time, microseconds. */
#define HANDSHAKE_TIME 500

enum state { STATE_CONNECTING, STATE_OPEN, STATE_HANDSHAKE, STATE_FAILED, STATE_CLOSED };

/* The TLS session of a conn and its input. */
struct conn_tls {
    struct tls *session;
    struct str ahead; /* read from the socket and not yet taken by TLS */
    char *kept;       /* memory that `ahead` has between two steps; NULL: none */
};

/* Parts that few conns need have memory of their own, because idle sessions are many. */
struct conn {
    struct loop *loop;
    struct io io;
    struct task task;
    struct timer timer;
    struct conn_handler handler;
    struct conn_tls *tls;     /* NULL: clear text */
    struct socket_loan *loan; /* NULL: its buffers are not wide */
    struct buf *in;           /* read and not consumed; NULL when empty */
    struct buf *out;          /* to be sent; NULL when empty */
    struct pipe *pipe;        /* to be sent before `out`; NULL when empty */
    struct error *error;      /* NULL: none */
    const char *view;         /* during a callback: what was just read, in the scratch memory */
    uint32_t view_len;
    enum state state : 8;
    enum socket_side side : 8;
    unsigned small : 1;
    unsigned pieces : 1; /* it reads small pieces */
    unsigned paused : 1;
    unsigned raw : 1;
    unsigned discard : 1;      /* what comes is thrown away */
    unsigned doubt : 1;        /* a short read does not prove that the socket is empty */
    unsigned show : 1;         /* `in` has to be shown although nothing new came */
    unsigned at_end : 1;       /* the peer's stream has been read to its end */
    unsigned eof_told : 1;     /* the user has been told of the end */
    unsigned drained_due : 1;  /* something was queued: DRAINED is to follow */
    unsigned shutdown_due : 1; /* our end of stream follows what is queued */
    unsigned send_broken : 1;  /* the peer takes nothing any more */
    unsigned failed_told : 1;
    unsigned nagle : 1;      /* the kernel may delay small pieces; a listener switches that off */
    unsigned unanswered : 1; /* nothing has been read since something was sent */
};

static size_t conns;

static void conn_step(struct conn *c);

static void on_conn_ready(struct io *io)
{
    conn_step(container_of(io, struct conn, io));
}

static void on_conn_task(struct task *t)
{
    conn_step(container_of(t, struct conn, task));
}

static void emit(struct conn *c, enum conn_event event)
{
    c->handler.event(c, event, c->handler.arg);
}

static void set_error(struct conn *c, const struct error *err)
{
    if (c->state == STATE_FAILED || c->state == STATE_CLOSED) {
        return;
    }
    c->error = mem_alloc(sizeof(*c->error));
    *c->error = *err;
    c->state = STATE_FAILED;
    loop_soon(c->loop, &c->task, on_conn_task);
}

/* Fills *err for a connection that failed with an errno. */
static void error_of_errno(struct error *err, enum fail fail, int code)
{
    error_set(err, code == ETIMEDOUT ? FAIL_TIMEOUT : fail, "%s", strerror(code));
    err->code = code;
}

static void set_errno(struct conn *c, enum fail fail, int code)
{
    struct error err;
    error_of_errno(&err, fail, code);
    set_error(c, &err);
}

/* ---- making one ---- */

static struct conn *new_conn(struct loop *loop, int fd, enum state state,
                             struct conn_handler handler)
{
    struct conn *c = mem_zalloc(sizeof(*c));
    c->loop = loop;
    c->handler = handler;
    c->state = state;
    task_init(&c->task);
    if (loop_add(loop, &c->io, fd, IO_KIND_DATA, on_conn_ready) != OK) {
        sys->close(fd);
        free(c);
        return NULL;
    }
    conns++;
    return c;
}

struct conn *conn_new(struct loop *loop, int fd, struct conn_handler handler)
{
    struct conn *c = new_conn(loop, fd, STATE_OPEN, handler);
    if (c) {
        c->io.ready = IO_WRITE; /* a new socket has room for a greeting; no event has to tell */
    }
    return c;
}

struct conn *conn_new_pair(struct loop *loop, struct conn_handler handler, int *other)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        return NULL;
    }
    struct conn *c = conn_new(loop, fds[0], handler);
    if (!c) {
        sys->close(fds[1]);
        return NULL;
    }
    conn_doubt_short_reads(c);
    *other = fds[1];
    return c;
}

struct conn *conn_connect(struct loop *loop, const struct sockaddr *addr, socklen_t addr_len,
                          struct conn_handler handler, struct error *err)
{
    int fd = sys_socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        error_set(err, FAIL_INTERNAL, "socket: %s", strerror(errno));
        return NULL;
    }
    /* A byte of urgent data keeps its place in the stream; accepted sockets inherit this from their
     * listener. Setting it when the loop has seen the urgent data is too late: a read may have come
     * first. */
    int on = 1;
    sys->setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
    if (sys->connect(fd, addr, addr_len) < 0 && errno != EINPROGRESS) {
        error_of_errno(err, FAIL_CONNECT, errno);
        sys->close(fd);
        return NULL;
    }
    struct conn *c = new_conn(loop, fd, STATE_CONNECTING, handler);
    if (!c) {
        error_set(err, FAIL_INTERNAL, "epoll: %s", strerror(errno));
        return NULL;
    }
    c->nagle = true;
    return c;
}

struct loop *conn_loop(const struct conn *c)
{
    return c->loop;
}

void conn_set_handler(struct conn *c, struct conn_handler handler)
{
    c->handler = handler;
    c->show = true;
    c->eof_told = false;
    loop_soon(c->loop, &c->task, on_conn_task);
}

/* ---- bytes out ---- */

size_t conn_pending(const struct conn *c)
{
    size_t piped = c->pipe ? c->pipe->fill + c->pipe->behind_n : 0;
    return piped + (c->out ? buf_len(c->out) : 0);
}

size_t conn_untaken(const struct conn *c)
{
    int n = 0;
    if (c->io.fd < 0 || sys->unsent(c->io.fd, &n) < 0) {
        n = 0;
    }
    return conn_pending(c) + (size_t)n;
}

static void queue_bytes(struct conn *c, const void *p, size_t n)
{
    if (n == 0) {
        return;
    }
    if (!c->out) {
        c->out = mem_alloc(sizeof(*c->out));
        buf_init(c->out, CONN_QUEUE_MAX);
    }
    if (buf_add(c->out, p, n) != OK) {
        struct error err;
        error_set(&err, FAIL_LIMIT, "the peer does not take what we send (more than %d bytes wait)",
                  CONN_QUEUE_MAX);
        set_error(c, &err);
    }
    c->drained_due = true;
}

/* Takes the result of a call that sends. Returns the number of bytes that are done with, and notes
 * what the result tells about the socket. */
static size_t sent(struct conn *c, ssize_t result, size_t wanted)
{
    if (result < 0) {
        c->io.ready &= ~(unsigned)IO_WRITE;
        if (errno != EAGAIN) {
            /* The peer may have said something before it went, whether or not an event has told of
             * it. conn_step() reads that first and then fails the conn. */
            c->send_broken = true;
            c->io.ready |= IO_READ;
            loop_soon(c->loop, &c->task, on_conn_task);
            return wanted;
        }
        return 0;
    }
    if ((size_t)result < wanted) {
        c->io.ready &= ~(unsigned)IO_WRITE;
    }
    return (size_t)result;
}

static ssize_t send_now(struct conn *c, const void *p, size_t n)
{
    ssize_t gone;
    do {
        gone = sys->send(c->io.fd, p, n, MSG_NOSIGNAL);
    } while (gone < 0 && errno == EINTR);
    return gone;
}

/* The kernel holds back a small piece while an earlier one is not acknowledged (Nagle's algorithm).
 * An answer acknowledges what was sent before it. Most conns therefore do not need the call: their
 * peers answer each command before the next. */
static void send_without_delay(struct conn *c)
{
    if (c->nagle && c->unanswered) {
        int on = 1;
        sys->setsockopt(c->io.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        c->nagle = false;
    }
    c->unanswered = true;
}

static void send_or_queue(struct conn *c, const void *p, size_t n)
{
    size_t gone = 0;
    if (c->send_broken) {
        return;
    }
    send_without_delay(c);
    if (conn_pending(c) == 0 && c->io.ready & IO_WRITE) {
        gone = sent(c, send_now(c, p, n), n);
    }
    queue_bytes(c, (const char *)p + gone, n - gone);
}

/* Moves the held bytes, the only ones left in the pipe, to the queue in memory, together with the
 * rest of their marker and before the bytes that were written later. */
static void release_held(struct conn *c)
{
    struct pipe *pipe = c->pipe;
    struct buf *written = c->out;
    char seam[2 * PIPE_BEHIND_MAX];
    size_t held = pipe->held;
    ssize_t n = sys->read(pipe->read_end, seam, held);
    assert(n == (ssize_t)held); /* the pipe has that many bytes */
    memcpy(seam + held, pipe->behind, pipe->behind_n);
    c->out = NULL;
    queue_bytes(c, seam, held + pipe->behind_n);
    pipe->fill -= (size_t)n;
    pipe->held = pipe->behind_n = 0;
    if (written) {
        queue_bytes(c, buf_str(written).p, buf_len(written));
        buf_wipe(written);
        free(written);
    }
}

static void flush_pipe(struct conn *c)
{
    struct pipe *pipe = c->pipe;
    while (pipe->fill > pipe->held && c->io.ready & IO_WRITE) {
        size_t wanted = pipe->fill - pipe->held;
        ssize_t n = sys->splice(pipe->read_end, NULL, c->io.fd, NULL, wanted,
                                SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        size_t gone = sent(c, n, wanted);
        pipe->fill -= n < 0 ? 0 : gone;
    }
    if (pipe->held && pipe->fill == pipe->held && !c->send_broken) {
        release_held(c);
    }
    /* The pipe may still have bytes that a broken socket did not take: pipe_give throws them
     * away. */
    if (pipe->fill == 0 || c->send_broken) {
        pipe_give(pipe);
        c->pipe = NULL;
    }
}

static void drop_out(struct conn *c)
{
    if (c->out) {
        buf_wipe(c->out);
        free(c->out);
        c->out = NULL;
    }
}

/* Sends what is queued, then our end of stream if it is due. */
static void flush(struct conn *c)
{
    if (c->pipe) {
        flush_pipe(c);
    }
    while (!c->pipe && c->out && c->io.ready & IO_WRITE) {
        struct str s = buf_str(c->out);
        buf_drop(c->out, sent(c, send_now(c, s.p, s.n), s.n));
        if (buf_len(c->out) == 0) {
            drop_out(c);
        }
    }
    if (c->shutdown_due && conn_pending(c) == 0) {
        c->shutdown_due = false;
        sys->shutdown(c->io.fd, SHUT_WR);
    }
}

void conn_write(struct conn *c, const void *p, size_t n)
{
    if (c->state != STATE_OPEN || n == 0) {
        return;
    }
    if (c->tls) {
        struct error err;
        if (tls_write(c->tls->session, p, n, &err) != OK) {
            set_error(c, &err);
        }
    } else {
        send_or_queue(c, p, n);
    }
}

void conn_shutdown(struct conn *c)
{
    if (c->state != STATE_OPEN) {
        return;
    }
    if (c->tls) {
        tls_shutdown(c->tls->session);
    }
    c->shutdown_due = true;
    flush(c);
}

/* ---- bytes in ---- */

void conn_keep_small(struct conn *c, enum socket_side side)
{
    c->small = true;
    c->side = side;
    if (side == SOCKET_OF_BACKEND && c->state != STATE_CLOSED) {
        socket_buffers_small(c->io.fd);
    }
}

void conn_widen(struct conn *c)
{
    if (c->small && c->state == STATE_OPEN) {
        socket_loan_take(&c->loan, c->io.fd, c->side);
    }
}

void conn_read_pieces(struct conn *c)
{
    c->pieces = true;
}

void conn_bound_commands(struct conn *c)
{
    if (c->state == STATE_OPEN) {
        socket_commands_small(c->io.fd);
    }
}

void conn_keep_alive(struct conn *c)
{
    enum { IDLE = 10, PROBES = 3, INTERVAL = (CONN_DEATH - IDLE) / PROBES };
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, IDLE},
        {IPPROTO_TCP, TCP_KEEPINTVL, INTERVAL},
        {IPPROTO_TCP, TCP_KEEPCNT, PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, CONN_DEATH * 1000}, /* limit for an acknowledgement, ms */
    };
    for (size_t i = 0; i < ARRAY_LEN(options) && c->state == STATE_OPEN; i++) {
        sys->setsockopt(c->io.fd, options[i].level, options[i].name, &options[i].value,
                        sizeof(options[i].value));
    }
}

size_t conn_read_max(const struct conn *c)
{
    return c->small && !c->loan ? CONN_READ_SMALL : LOOP_SCRATCH;
}

struct str conn_data(const struct conn *c)
{
    if (c->in) {
        return buf_str(c->in);
    }
    return c->view ? (struct str){c->view, c->view_len} : str_of("");
}

size_t conn_arrived(const struct conn *c)
{
    int unread = 0;
    bool known = !c->tls && sys->unread(c->io.fd, &unread) == 0 && unread > 0;
    return conn_data(c).n + (known ? (size_t)unread : 0);
}

void conn_consume(struct conn *c, size_t n)
{
    if (c->in) {
        if (buf_len(c->in) >= conn_read_max(c) && c->state == STATE_OPEN) {
            /* Reading had stopped because `in` was full. */
            loop_soon(c->loop, &c->task, on_conn_task);
        }
        buf_drop(c->in, n);
    } else {
        assert(n <= c->view_len);
        c->view += n;
        c->view_len -= (uint32_t)n;
    }
}

int conn_line(const struct conn *c, size_t max, struct str *line, size_t *octets)
{
    struct str data = conn_data(c);
    const char *lf = data.n ? memchr(data.p, '\n', data.n < max ? data.n : max) : NULL;
    if (!lf) {
        return data.n >= max ? ERR : AGAIN;
    }
    size_t n = (size_t)(lf - data.p);
    *line = (struct str){data.p, n && lf[-1] == '\r' ? n - 1 : n};
    *octets = n + 1;
    return OK;
}

static void drop_in(struct conn *c)
{
    if (c->in) {
        buf_wipe(c->in);
        free(c->in);
        c->in = NULL;
    }
}

/* Adds to `in`, which always has room: no read asks for more than fits. */
static void keep(struct conn *c, const char *p, size_t n)
{
    int rc = buf_add(c->in, p, n);
    assert(rc == OK);
    (void)rc;
}

/* Tells the user of data and keeps what the user does not consume. */
static void show_data(struct conn *c)
{
    c->show = false;
    emit(c, CONN_DATA);
    if (c->state == STATE_CLOSED) {
        return;
    }
    if (c->in && buf_len(c->in) == 0) {
        drop_in(c);
    }
    if (c->view_len) {
        c->in = mem_alloc(sizeof(*c->in));
        buf_init(c->in, LOOP_SCRATCH);
        keep(c, c->view, c->view_len);
    }
    c->view = NULL;
    c->view_len = 0;
}

void conn_doubt_short_reads(struct conn *c)
{
    c->doubt = true;
}

/* Notes that nothing is left to read, as the kernel has reported; an edge will report new input. */
static void note_empty(struct conn *c)
{
    c->io.ready &= ~(unsigned)(IO_READ | IO_URGENT);
}

/* Tells whether a short read proves that the socket is empty, so that a second read is not needed.
 * Urgent data that came after the last wait for events also ends a read early, but its edge is
 * still to come. */
static bool proves_empty(const struct conn *c)
{
    return !c->doubt && !(c->io.ready & (IO_BROKEN | IO_URGENT));
}

/* Calls recv() and keeps the readiness bits and at_end up to date. AGAIN also at the end of the
 * stream. ERR: see errno. */
static int read_socket(struct conn *c, void *p, size_t cap, size_t *n)
{
    if (c->at_end || !(c->io.ready & IO_READ)) {
        return AGAIN;
    }
    ssize_t got;
    do {
        got = sys->recv(c->io.fd, p, cap, 0);
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        note_empty(c);
        c->at_end = got == 0;
        return got == 0 || errno == EAGAIN ? AGAIN : ERR;
    }
    c->unanswered = false;
    /* The next edge will report more, unless the peer's end is already behind these bytes. */
    if ((size_t)got < cap && proves_empty(c)) {
        note_empty(c);
        c->at_end = (c->io.ready & IO_HANGUP) != 0;
    }
    *n = (size_t)got;
    return OK;
}

static int wire_send(void *arg, const unsigned char *p, size_t n)
{
    struct conn *c = arg;
    send_or_queue(c, p, n);
    return OK;
}

/* TLS asks for the head of a record, then for its body. The socket is read in larger pieces. */
static int wire_recv(void *arg, unsigned char *p, size_t cap, size_t *got)
{
    struct conn *c = arg;
    struct str *ahead = &c->tls->ahead;
    if (ahead->n == 0) {
        free(c->tls->kept);
        c->tls->kept = NULL;
        ahead->p = loop_wire_scratch(c->loop);
        int rc = read_socket(c, loop_wire_scratch(c->loop), LOOP_WIRE_SCRATCH, &ahead->n);
        if (rc == AGAIN && c->at_end) {
            *got = 0;
            return OK;
        }
        if (rc != OK) {
            return rc;
        }
    }
    *got = cap < ahead->n ? cap : ahead->n;
    memcpy(p, ahead->p, *got);
    ahead->p += *got;
    ahead->n -= *got;
    return OK;
}

/* Moves bytes that TLS has not taken yet out of the scratch memory, which other conns use too. */
static void keep_ahead(struct conn_tls *tls)
{
    if (tls->ahead.n && !tls->kept) {
        tls->kept = mem_alloc(tls->ahead.n);
        memcpy(tls->kept, tls->ahead.p, tls->ahead.n);
        tls->ahead.p = tls->kept;
    }
}

/* Reads records until `cap` is full or no more has come, so that the user sees few large pieces. */
static int read_tls(struct conn *c, char *p, size_t cap, size_t *n)
{
    *n = 0;
    while (*n < cap) {
        struct error err;
        size_t got = 0;
        bool truncated = false;
        int rc = tls_read(c->tls->session, p + *n, cap - *n, &got, &truncated, &err);
        if (rc == ERR && *n) {
            return OK; /* show what came before; TLS will report the error again */
        }
        if (rc == ERR) {
            set_error(c, &err);
            return ERR;
        }
        if (rc == OK && got == 0) {
            c->at_end = true;
        }
        if (rc == AGAIN || got == 0) {
            return *n ? OK : AGAIN;
        }
        *n += got;
    }
    return OK;
}

/* Reads once and throws away what came. Returns true when the socket may have more. */
static bool read_and_discard(struct conn *c)
{
    size_t n;
    drop_in(c);
    int rc = read_socket(c, loop_scratch(c->loop), LOOP_SCRATCH, &n);
    if (rc == ERR) {
        set_errno(c, FAIL_REMOTE, errno);
    }
    return rc == OK; /* a flood is discarded piece by piece */
}

/* Reads once and shows what came; if nothing came, shows what was left if that is due. Returns true
 * when the socket (or TLS) may have more. */
static bool read_and_show(struct conn *c)
{
    size_t kept = c->in ? buf_len(c->in) : 0;
    size_t max = conn_read_max(c), cap = max > kept ? max - kept : 0, n = 0;
    char *p = loop_scratch(c->loop);
    if (cap == 0) {
        /* The peer has to wait unless the user consumes something now. */
        if (c->show) {
            show_data(c);
        }
        return conn_data(c).n < kept;
    }
    int rc = AGAIN;
    cap = c->pieces && cap > CONN_READ_SMALL ? CONN_READ_SMALL : cap;
    if (!c->eof_told) {
        rc = c->tls ? read_tls(c, p, cap, &n) : read_socket(c, p, cap, &n);
    }
    if (rc == ERR && c->state == STATE_OPEN) {
        set_errno(c, FAIL_REMOTE, errno);
    }
    if (rc == ERR) {
        return false;
    }
    if (c->in) {
        keep(c, p, n);
    } else if (n) {
        c->view = p;
        c->view_len = (uint32_t)n;
    }
    if (n || (c->show && c->in)) {
        show_data(c);
    }
    return n == cap || (n && (c->tls || c->io.ready & IO_READ));
}

/* Reads and tells the user. Returns true when there may be more to read. */
static bool read_step(struct conn *c)
{
    if (c->paused) {
        return true;
    }
    if (c->raw && !c->at_end) {
        if (c->show && c->in) {
            show_data(c);
        }
        if (c->state == STATE_OPEN && !c->paused && c->io.ready & IO_READ) {
            emit(c, CONN_DATA);
        }
        return c->io.ready & IO_READ;
    }
    if (c->discard ? read_and_discard(c) : read_and_show(c)) {
        if (c->state == STATE_OPEN) {
            loop_soon(c->loop, &c->task, on_conn_task);
        }
        return true;
    }
    /* A user that has just taken over sees what is left before the end. After a failed write the
     * end is not a half-close: the kernel has told the error to the writer. */
    bool later = (c->show && c->in) || c->send_broken;
    if (c->state == STATE_OPEN && c->at_end && !c->paused && !c->eof_told && !later) {
        c->eof_told = true;
        emit(c, CONN_EOF);
    }
    return c->paused;
}

void conn_pause(struct conn *c)
{
    c->paused = true;
}

void conn_show_again(struct conn *c)
{
    c->paused = false;
    c->show = true;
    loop_soon(c->loop, &c->task, on_conn_task);
}

void conn_resume(struct conn *c)
{
    if (c->paused) {
        conn_show_again(c);
    }
}

bool conn_discard(struct conn *c)
{
    if (c->state != STATE_OPEN) {
        return false;
    }
    conn_shutdown(c);
    conn_consume(c, conn_data(c).n);
    c->discard = true;
    c->paused = c->raw = false;
    loop_soon(c->loop, &c->task, on_conn_task);
    return !(c->at_end && conn_pending(c) == 0) && !c->send_broken;
}

/* ---- splice ---- */

void conn_set_raw(struct conn *c, bool raw)
{
    c->raw = raw;
    loop_soon(c->loop, &c->task, on_conn_task);
}

/* Returns how many bytes of `marker` stand before `next`, if `next` goes on with the rest of it;
 * else 0. Also returns 0 if `next` looks more like the beginning of a marker, which then is not
 * cut. */
static size_t begun_before(struct str marker, struct str next)
{
    size_t beginning = 0;
    while (beginning < next.n && next.p[beginning] == marker.p[beginning]) {
        beginning++;
    }
    for (size_t begun = 1; begun < marker.n; begun++) {
        size_t rest = marker.n - begun;
        if (next.n >= rest && beginning <= rest && memcmp(next.p, marker.p + begun, rest) == 0) {
            return begun;
        }
    }
    return 0;
}

/* Returns how many bytes of `next` have to be taken: n, or more when the first n bytes end in the
 * middle of a true marker, as ".\r\n" does when a text ends with a full stop. */
static size_t to_end_of_marker(struct str marker, struct str next, size_t n)
{
    for (size_t begun = n < marker.n ? n : marker.n - 1; begun > 0; begun--) {
        size_t from = n - begun;
        if (next.n - from >= marker.n && memcmp(next.p + from, marker.p, marker.n) == 0) {
            return from + marker.n;
        }
    }
    return n;
}

/* The pipe may be full in the middle of a marker, and its bytes cannot be examined. The bytes
 * behind it, in `from`, can: if they could be the rest of a marker, they are taken, too, and the
 * last bytes of the pipe are sent together with them. Returns how many were taken. */
static size_t keep_whole(struct conn *from, struct pipe *pipe, struct str marker)
{
    char next[PIPE_BEHIND_MAX];
    assert(2 * (marker.n - 1) <= sizeof(next));
    ssize_t seen = sys->recv(from->io.fd, next, 2 * (marker.n - 1), MSG_PEEK);
    if (seen <= 0) {
        if (seen < 0 && errno == EAGAIN) {
            note_empty(from);
        }
        return 0;
    }
    struct str behind = {next, (size_t)seen};
    size_t begun = begun_before(marker, behind);
    if (begun == 0 || begun > pipe->fill) {
        return 0;
    }
    size_t rest = to_end_of_marker(marker, behind, marker.n - begun);
    ssize_t got = sys->recv(from->io.fd, pipe->behind, rest, 0);
    pipe->behind_n = got > 0 ? (unsigned char)got : 0;
    pipe->held = (unsigned char)begun;
    return pipe->behind_n;
}

int conn_splice(struct conn *from, struct conn *to, struct str marker, size_t *n)
{
    if (from->tls || to->tls || from->in || conn_pending(to) || from->state != STATE_OPEN ||
        to->state != STATE_OPEN || from->io.ready & IO_URGENT) {
        return ERR;
    }
    struct pipe *pipe = pipe_take();
    if (!pipe) {
        return ERR;
    }
    ssize_t got = sys->splice(from->io.fd, NULL, pipe->write_end, NULL, pipe->size,
                              SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (got > 0) {
        from->unanswered = false;
        pipe->fill = (size_t)got;
        *n = pipe->fill + keep_whole(from, pipe, marker);
        to->pipe = pipe;
        flush(to);
        to->drained_due |= conn_pending(to) > 0;
        loop_soon(from->loop, &from->task, on_conn_task);
        return OK;
    }
    pipe_give(pipe);
    /* 0 may mean the end of the stream, or urgent data before it, at which splice stops for good; a
     * read tells which. */
    if (got == 0 || errno == EINVAL) {
        return ERR;
    }
    note_empty(from);
    if (errno != EAGAIN) {
        set_errno(from, FAIL_REMOTE, errno);
    }
    return AGAIN;
}

/* ---- TLS ---- */

void conn_start_tls(struct conn *c, struct tls_client *client)
{
    struct error err;
    if (conn_data(c).n) {
        error_set(&err, FAIL_PROTOCOL, "clear-text bytes after the reply to STLS");
        set_error(c, &err);
        return;
    }
    struct tls_wire wire = {.send = wire_send, .recv = wire_recv, .arg = c};
    struct tls *session = tls_new(client, wire, &err);
    if (!session) {
        set_error(c, &err);
        return;
    }
    c->tls = mem_zalloc(sizeof(*c->tls));
    c->tls->session = session;
    c->state = STATE_HANDSHAKE;
    loop_soon(c->loop, &c->task, on_conn_task);
}

bool conn_is_tls(const struct conn *c)
{
    return c->tls;
}

bool conn_tls_resumed(const struct conn *c)
{
    return c->tls && tls_resumed(c->tls->session);
}

const struct tls *conn_tls(const struct conn *c)
{
    return c->tls ? c->tls->session : NULL;
}

const char *conn_tls_version(const struct conn *c)
{
    return c->tls ? tls_version_name(c->tls->session) : "clear text";
}

static void handshake_step(struct conn *c)
{
    flush(c);
    if (!loop_take_long_step(c->loop)) {
        loop_next_turn(c->loop, &c->task, on_conn_task);
        return;
    }
    struct error err;
    bool more = true;
    int rc = AGAIN;
    int64_t until = sys->now() + HANDSHAKE_TIME;
    while (rc == AGAIN && more && sys->now() <= until) {
        rc = tls_handshake(c->tls->session, &more, &err);
    }
    if (rc == ERR) {
        set_error(c, &err);
    } else if (rc == AGAIN && more) {
        loop_next_turn(c->loop, &c->task, on_conn_task);
    } else if (rc == OK) {
        c->state = STATE_OPEN;
        c->show = true;
        loop_soon(c->loop, &c->task, on_conn_task); /* TLS may hold the first bytes already */
        emit(c, CONN_CONNECTED);
    }
}

/* ---- the one step ---- */

static void connecting_step(struct conn *c)
{
    int code = 0;
    socklen_t n = sizeof(code);
    if (!(c->io.ready & (IO_WRITE | IO_BROKEN))) {
        return;
    }
    if (c->io.ready & IO_BROKEN &&
        sys->getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &code, &n) == 0 && code) {
        set_errno(c, FAIL_CONNECT, code);
        return;
    }
    c->state = STATE_OPEN;
    loop_soon(c->loop, &c->task, on_conn_task);
    emit(c, CONN_CONNECTED);
}

/* Returns the error that broke the connection, 0 while there is none. After the peer has ended its
 * stream, reads do not report such an error. */
static int gone_with(const struct conn *c)
{
    int code = 0;
    socklen_t n = sizeof(code);
    if (c->send_broken) {
        return EPIPE;
    }
    if (c->eof_told && c->io.ready & IO_BROKEN) {
        sys->getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &code, &n);
    }
    return code;
}

static void open_step(struct conn *c)
{
    flush(c);
    if (c->drained_due && conn_pending(c) == 0) {
        c->drained_due = false;
        emit(c, CONN_DRAINED);
        if (c->state != STATE_OPEN) {
            return;
        }
    }
    bool more = read_step(c);
    /* Everything that the peer said before it went has now been read. */
    int code = c->state == STATE_OPEN && !more ? gone_with(c) : 0;
    if (code) {
        set_errno(c, FAIL_REMOTE, code);
    }
}

static void conn_step(struct conn *c)
{
    switch (c->state) {
    case STATE_CONNECTING:
        connecting_step(c);
        break;
    case STATE_HANDSHAKE:
        handshake_step(c);
        break;
    case STATE_OPEN:
        open_step(c);
        break;
    case STATE_FAILED:
        if (!c->failed_told) {
            c->failed_told = true;
            emit(c, CONN_FAILED);
        }
        break;
    case STATE_CLOSED:
        break;
    }
    if (c->tls) {
        keep_ahead(c->tls);
    }
}

/* ---- deadline, end ---- */

static void on_deadline(struct timer *t)
{
    struct conn *c = container_of(t, struct conn, timer);
    if (c->state != STATE_FAILED) {
        emit(c, CONN_TIMEOUT);
    }
}

void conn_deadline(struct conn *c, int64_t due)
{
    if (due) {
        timer_set(c->loop, &c->timer, due, on_deadline);
    } else {
        timer_cancel(c->loop, &c->timer);
    }
}

const struct error *conn_error(const struct conn *c)
{
    static const struct error none;
    return c->error ? c->error : &none;
}

size_t conn_count(void)
{
    return conns;
}

static void drop_tls(struct conn *c)
{
    if (c->tls) {
        tls_free(c->tls->session);
        free(c->tls->kept);
        free(c->tls);
    }
}

static void free_conn(struct task *t)
{
    struct conn *c = container_of(t, struct conn, task);
    drop_tls(c);
    drop_in(c);
    drop_out(c);
    free(c->error);
    free(c);
}

void conn_close(struct conn *c)
{
    if (!c || c->state == STATE_CLOSED) {
        return;
    }
    int fd = c->io.fd;
    c->state = STATE_CLOSED;
    conns--;
    timer_cancel(c->loop, &c->timer);
    loop_forget(c->loop, &c->io);
    socket_loan_drop(&c->loan);
    sys->close(fd);
    pipe_give(c->pipe);
    c->pipe = NULL;
    loop_bury(c->loop, &c->task, free_conn);
}

bool conn_has_input(const struct conn *c)
{
    char octet;
    return c->state == STATE_OPEN && sys->recv(c->io.fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}
