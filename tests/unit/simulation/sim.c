/* A simulated world behind `sys`. */
#include "tests/unit/simulation/sim.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base.h"
#include "lib/mem.h"
#include "lib/sys.h"

enum { MAX_FDS = 96, FIRST_FD = 1000, PIPE_CAP = 65536 };

/* The time in microseconds that a call takes if it moves bytes. */
enum { CALL_TIME = 5 };

/* The number of events that a stream can have, see progress_stream. */
enum { WAYS = 4 };

/* The longest time for which a peer that has taken everything may take nothing more. */
#define REST_MAX SECONDS(5)

enum kind { KIND_FREE, KIND_EPOLL, KIND_LISTENER, KIND_STREAM, KIND_PIPE, KIND_OTHER };

/* A slow reader reads some octets and then rests. Its unread octets wait in tproxy's kernel, which
 * has room for SLOW_ROOM of them. */
enum { SLOW_PIECE = 500, SLOW_ROOM = 30000 };
#define SLOW_REST SECONDS(3)

#define NEVER INT64_MAX
#define NO_MARK SIZE_MAX

struct bytes {
    char *data;
    size_t len, cap;
};

/* A stream. One end is tproxy's descriptor, the other an actor's. */
struct sim_stream {
    int fd; /* -1: closed by tproxy, or not yet accepted */
    struct sim_actor *actor;
    bool connecting, refused;
    struct bytes in; /* octets from the actor */
    size_t taken;    /* the part of `in` that tproxy has read */
    size_t visible;  /* the part of `in` that has arrived */
    bool fin, fin_visible, reset;
    bool closed;     /* by the actor, which takes nothing any more */
    bool reset_told; /* the first call after a reset returns the error; later ones return the end */
    struct bytes out; /* octets from tproxy */
    size_t window;    /* the number of octets that the actor's side takes now */
    int64_t rests;    /* the earliest time at which it takes more again */
    bool slow;        /* the actor reads slowly: */
    size_t unsent;    /* octets that were sent and not read */
    size_t freed;     /* the part of the room that is free again and that epoll has not reported */
    bool out_ended;   /* tproxy shut down or closed */
    bool edge;        /* something has changed since the last report of epoll_wait */
    size_t urgent;    /* the offset in `in` of the octet that is urgent data, or NO_MARK */
    int64_t comes;    /* the time at which it connects */
    int64_t wakes;    /* the time at which the actor runs */
    int64_t moved, ended_at;
};

struct pipe_pair {
    struct bytes held;
    int open_ends;
};

struct slot {
    enum kind kind;
    struct sim_stream *stream;
    struct pipe_pair *pipe;
    bool watched;
    bool inlined; /* SO_OOBINLINE */
    uint32_t interest;
    void *data;
};

static struct {
    uint64_t random;
    int64_t now, rested;
    struct slot slots[MAX_FDS];
    struct sim_stream *streams[MAX_FDS];
    int n_streams;
    struct sim_actor *(*connected)(void);
    struct sim_stream *backlog[MAX_FDS];
    int n_backlog;
    bool listening, inlined; /* a listener exists; its connections get SO_OOBINLINE */
    bool stuck;
} world;

/* ---- random numbers ---- */

static uint64_t next_random(void)
{
    world.random ^= world.random >> 12;
    world.random ^= world.random << 25;
    world.random ^= world.random >> 27;
    return world.random * 0x2545F4914F6CDD1Dull;
}

size_t sim_rand(size_t n)
{
    return n ? (next_random() >> 16) % n : 0;
}

bool sim_chance(int percent)
{
    return (int)sim_rand(100) < percent;
}

/* Returns a size from 1 to n: often tiny, often n, otherwise any. */
static size_t some(size_t n)
{
    switch (sim_rand(3)) {
    case 0:
        return 1 + sim_rand(n < 4 ? n : 4);
    case 1:
        return n;
    default:
        return 1 + sim_rand(n);
    }
}

static void append(struct bytes *b, const void *p, size_t n)
{
    if (b->len + n > b->cap) {
        b->cap = 2 * (b->len + n);
        b->data = mem_realloc(b->data, b->cap);
    }
    if (n) {
        memcpy(b->data + b->len, p, n);
    }
    b->len += n;
}

static int new_slot(enum kind kind)
{
    for (int i = 0; i < MAX_FDS; i++) {
        if (world.slots[i].kind == KIND_FREE) {
            world.slots[i] = (struct slot){.kind = kind};
            return FIRST_FD + i;
        }
    }
    errno = EMFILE;
    return -1;
}

static struct slot *slot_of(int fd)
{
    assert(fd >= FIRST_FD && fd < FIRST_FD + MAX_FDS);
    struct slot *slot = &world.slots[fd - FIRST_FD];
    assert(slot->kind != KIND_FREE);
    return slot;
}

static struct sim_stream *new_stream(struct sim_actor *actor)
{
    struct sim_stream *s = mem_zalloc(sizeof(*s));
    s->fd = -1;
    s->actor = actor;
    s->window = some(20000);
    s->urgent = NO_MARK;
    s->comes = s->wakes = s->ended_at = NEVER;
    s->moved = world.now;
    if (actor) {
        actor->stream = s;
    }
    assert(world.n_streams < MAX_FDS);
    world.streams[world.n_streams++] = s;
    return s;
}

/* ---- system calls ---- */

static int64_t sim_now(void)
{
    return world.now;
}

static void sim_random(void *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((unsigned char *)out)[i] = (unsigned char)next_random();
    }
}

static int sim_socket(int domain, int type, int protocol)
{
    (void)protocol;
    return new_slot(domain == AF_UNIX || (type & SOCK_DGRAM) == SOCK_DGRAM ? KIND_OTHER
                                                                           : KIND_STREAM);
}

static int sim_bind(int fd, const struct sockaddr *addr, socklen_t n)
{
    (void)fd;
    (void)addr;
    (void)n;
    return 0;
}

static int sim_listen(int fd, int backlog)
{
    (void)backlog;
    slot_of(fd)->kind = KIND_LISTENER;
    world.listening = true;
    world.inlined = slot_of(fd)->inlined;
    return 0;
}

static int sim_accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
    (void)flags;
    assert(slot_of(fd)->kind == KIND_LISTENER);
    if (world.n_backlog == 0) {
        errno = EAGAIN;
        return -1;
    }
    struct sim_stream *s = world.backlog[--world.n_backlog];
    s->fd = new_slot(KIND_STREAM);
    slot_of(s->fd)->stream = s;
    slot_of(s->fd)->inlined = world.inlined;
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = 1};
    memcpy(addr, &peer, sizeof(peer));
    *n = sizeof(peer);
    return s->fd;
}

static int sim_connect_call(int fd, const struct sockaddr *addr, socklen_t n)
{
    (void)addr;
    (void)n;
    struct sim_actor *actor = world.connected();
    struct sim_stream *s = new_stream(actor);
    s->fd = fd;
    s->connecting = true;
    s->refused = !actor;
    slot_of(fd)->stream = s;
    errno = EINPROGRESS;
    return -1;
}

/* Returns how many of the arrived octets one call may take. It ends before the urgent octet. */
static size_t readable(const struct sim_stream *s)
{
    bool ahead = s->urgent != NO_MARK && s->urgent > s->taken && s->urgent < s->visible;
    return (ahead ? s->urgent : s->visible) - s->taken;
}

/* Skips the urgent octet if a read comes to it without SO_OOBINLINE. */
static void skip_urgent(const struct slot *slot)
{
    struct sim_stream *s = slot->stream;
    if (s->urgent == s->taken && s->taken < s->visible && !slot->inlined) {
        s->taken++;
    }
}

static ssize_t take(struct sim_stream *s, void *p, size_t n, size_t there)
{
    n = n < there ? n : there;
    memcpy(p, s->in.data + s->taken, n);
    if (s->actor->was_read) {
        s->actor->was_read(s->actor, s->taken, s->taken + n, s->visible);
    }
    s->taken += n;
    s->moved = world.now;
    return (ssize_t)n;
}

/* Returns the result of a read that finds nothing. */
static ssize_t nothing_there(struct sim_stream *s)
{
    if (s->reset && !s->reset_told) {
        s->reset_told = true;
        errno = ECONNRESET;
        return -1;
    }
    if (s->fin_visible || s->reset) {
        return 0;
    }
    errno = EAGAIN;
    return -1;
}

static int sim_unread(int fd, int *n)
{
    const struct sim_stream *s = slot_of(fd)->stream;
    *n = (int)(s->visible - s->taken);
    return 0;
}

/* While the actor's side is full, nothing is taken from tproxy. */
static int sim_unsent(int fd, int *n)
{
    *n = (int)slot_of(fd)->stream->unsent;
    return 0;
}

static ssize_t sim_recv(int fd, void *p, size_t n, int flags)
{
    world.now += CALL_TIME;
    struct sim_stream *s = slot_of(fd)->stream;
    skip_urgent(slot_of(fd));
    size_t there = readable(s);
    if (there && flags & MSG_PEEK) {
        n = n < there ? n : there;
        memcpy(p, s->in.data + s->taken, n);
        return (ssize_t)n;
    }
    return there ? take(s, p, n, there) : nothing_there(s);
}

/* Lets a peer that has taken everything rest at random before it takes more. */
static void maybe_rest(struct sim_stream *s)
{
    if (s->window == 0 && !s->slow && sim_chance(3)) {
        int64_t rest = (int64_t)sim_rand(REST_MAX);
        s->rests = world.now + rest;
        world.rested += rest;
    }
}

static ssize_t sim_send_call(int fd, const void *p, size_t n, int flags)
{
    (void)flags;
    world.now += CALL_TIME;
    struct sim_stream *s = slot_of(fd)->stream;
    assert(n > 0);
    assert(!s->out_ended);
    if (s->reset) {
        s->reset_told = true;
        errno = EPIPE;
        return -1;
    }
    if (s->window == 0) {
        errno = EAGAIN;
        return -1;
    }
    size_t wanted = n;
    n = n < s->window ? n : s->window;
    s->window -= n;
    s->unsent += s->slow ? n : 0;
    maybe_rest(s);
    s->moved = world.now;
    if (s->closed) {
        /* Octets that came before the reset can still be read, tcp(7). */
        s->visible = s->in.len;
        s->reset = s->edge = true;
        return (ssize_t)n;
    }
    append(&s->out, p, n);
    if (n == wanted && s->actor && s->actor->was_sent) {
        s->actor->was_sent(s->actor, s->out.len);
    }
    return (ssize_t)n;
}

static void end_out(struct sim_stream *s)
{
    if (!s->out_ended) {
        s->out_ended = true;
        s->ended_at = world.now;
    }
}

static int sim_shutdown(int fd, int how)
{
    assert(how == SHUT_WR);
    end_out(slot_of(fd)->stream);
    return 0;
}

static int sim_getsockopt(int fd, int level, int name, void *value, socklen_t *n)
{
    (void)level;
    (void)n;
    assert(name == SO_ERROR);
    struct sim_stream *s = slot_of(fd)->stream;
    *(int *)value = s->refused ? ECONNREFUSED : s->reset ? ECONNRESET : 0;
    return 0;
}

static int sim_setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
    (void)n;
    if (level == SOL_SOCKET && name == SO_OOBINLINE) {
        slot_of(fd)->inlined = *(const int *)value != 0;
    }
    return 0;
}

static int sim_getsockname(int fd, struct sockaddr *addr, socklen_t *n)
{
    (void)fd;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(1110)};
    memcpy(addr, &name, sizeof(name));
    *n = sizeof(name);
    return 0;
}

static int sim_close_call(int fd)
{
    struct slot *slot = slot_of(fd);
    if (slot->stream) {
        slot->stream->fd = -1;
        end_out(slot->stream);
    }
    if (slot->kind == KIND_LISTENER) {
        world.listening = false;
        while (world.n_backlog) {
            struct sim_stream *s = world.backlog[--world.n_backlog];
            s->reset = true;
            end_out(s);
        }
    }
    if (slot->pipe && --slot->pipe->open_ends == 0) {
        free(slot->pipe->held.data);
        free(slot->pipe);
    }
    *slot = (struct slot){0};
    return 0;
}

static int sim_pipe2(int fds[2], int flags)
{
    (void)flags;
    struct pipe_pair *pipe = mem_zalloc(sizeof(*pipe));
    pipe->open_ends = 2;
    for (int i = 0; i < 2; i++) {
        fds[i] = new_slot(KIND_PIPE);
        slot_of(fds[i])->pipe = pipe;
    }
    return 0;
}

static int sim_set_pipe_size(int fd, int size)
{
    (void)fd;
    errno = EPERM;
    return sim_chance(50) ? -1 : size;
}

/* Returns how many of the octets fit into the pipe. It holds pages, and an odd segment fills a page
 * alone, so the edge may be anywhere: often where it cuts an end marker. */
static size_t pipeful(const struct sim_stream *s, size_t there)
{
    static const char marker[] = "\r\n.\r\n";
    const char *p = s->in.data + s->taken;
    const char *at = sim_chance(40) ? memmem(p, there, marker, sizeof(marker) - 1) : NULL;
    return at ? (size_t)(at - p) + 1 + sim_rand(sizeof(marker) - 2) : some(there);
}

static ssize_t splice_in(int in, struct pipe_pair *pipe, size_t n)
{
    char piece[PIPE_CAP];
    struct sim_stream *s = slot_of(in)->stream;
    size_t room = PIPE_CAP - pipe->held.len;
    n = n < room ? n : room;
    world.now += CALL_TIME;
    size_t there = s->urgent == s->taken ? 0 : readable(s);
    if (n == 0 || there == 0) {
        if (n) {
            return nothing_there(s);
        }
        errno = EAGAIN;
        return -1;
    }
    there = there < n ? there : n;
    ssize_t got = take(s, piece, pipeful(s, there), there);
    append(&pipe->held, piece, (size_t)got);
    return got;
}

static ssize_t splice_out(struct pipe_pair *pipe, int out, size_t n)
{
    n = n < pipe->held.len ? n : pipe->held.len;
    ssize_t gone = sim_send_call(out, pipe->held.data, n, 0);
    if (gone > 0) {
        pipe->held.len -= (size_t)gone;
        memmove(pipe->held.data, pipe->held.data + gone, pipe->held.len);
    }
    return gone;
}

static ssize_t sim_splice(int in, int64_t *in_off, int out, int64_t *out_off, size_t n,
                          unsigned flags)
{
    (void)in_off;
    (void)out_off;
    (void)flags;
    struct pipe_pair *to = slot_of(out)->pipe;
    return to ? splice_in(in, to, n) : splice_out(slot_of(in)->pipe, out, n);
}

static ssize_t sim_read_call(int fd, void *p, size_t n)
{
    struct bytes *held = &slot_of(fd)->pipe->held;
    n = n < held->len ? n : held->len;
    memcpy(p, held->data, n);
    held->len -= n;
    memmove(held->data, held->data + n, held->len);
    return (ssize_t)n;
}

static int sim_epoll_create1(int flags)
{
    (void)flags;
    return new_slot(KIND_EPOLL);
}

static int sim_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    (void)epfd;
    struct slot *slot = slot_of(fd);
    (void)op;
    slot->watched = true;
    slot->interest = event->events;
    slot->data = event->data.ptr;
    if (slot->stream) {
        slot->stream->edge = true;
    }
    return 0;
}

/* ---- events that happen by themselves ---- */

static bool arrive(struct sim_stream *s)
{
    s->comes = NEVER;
    if (world.listening) {
        world.backlog[world.n_backlog++] = s;
    } else {
        s->reset = true;
        end_out(s);
    }
    return true;
}

static bool octets_arrive(struct sim_stream *s)
{
    if (s->visible == s->in.len || s->reset) {
        return false;
    }
    s->visible += some(s->in.len - s->visible);
    s->edge = true;
    /* The end often arrives together with the last bytes. */
    s->fin_visible = s->fin && s->visible == s->in.len && sim_chance(50);
    return true;
}

static bool end_arrives(struct sim_stream *s)
{
    if (!s->fin || s->fin_visible || s->visible < s->in.len) {
        return false;
    }
    s->fin_visible = true;
    s->edge = true;
    return true;
}

/* Takes octets for a slow reader. The kernel reports free room when it is a third, not after every
 * octet. */
static bool slow_peer_takes(struct sim_stream *s)
{
    if (s->unsent == 0 || s->rests > world.now) {
        return false;
    }
    size_t n = 1 + sim_rand(SLOW_PIECE);
    n = n < s->unsent ? n : s->unsent;
    s->unsent -= n;
    s->freed += n;
    s->moved = world.now;
    s->rests = world.now + (int64_t)sim_rand(SLOW_REST);
    if (s->freed >= SLOW_ROOM / 3 || s->unsent == 0) {
        s->edge = true;
        s->window += s->freed;
        s->freed = 0;
    }
    return true;
}

static bool peer_takes(struct sim_stream *s)
{
    if (s->slow) {
        return slow_peer_takes(s);
    }
    if (s->window >= 1000 || s->fd < 0 || s->rests > world.now) {
        return false;
    }
    s->edge |= s->window == 0;
    s->window += some(200000);
    return true;
}

static bool actor_runs(struct sim_stream *s)
{
    if (s->wakes <= world.now) {
        s->wakes = NEVER;
    }
    return s->actor && !s->refused && s->actor->run(s->actor);
}

/* Lets one of the possible events of a stream happen. Returns false if it cannot happen now. */
static bool progress_stream(struct sim_stream *s, size_t what)
{
    if (s->comes != NEVER) {
        return s->comes <= world.now && arrive(s);
    }
    if (s->connecting) {
        s->connecting = false;
        s->edge = true;
        return true;
    }
    switch (what) {
    case 0:
        return octets_arrive(s);
    case 1:
        return end_arrives(s);
    case 2:
        return peer_takes(s);
    default:
        return actor_runs(s);
    }
}

/* Lets something happen. Returns false if nothing can before the clock moves. */
static bool progress(void)
{
    size_t n = (size_t)world.n_streams;
    for (size_t tries = 2 * n; tries > 0; tries--) {
        if (progress_stream(world.streams[sim_rand(n)], sim_rand(WAYS))) {
            return true;
        }
    }
    for (size_t i = 0; i < n * WAYS; i++) {
        if (progress_stream(world.streams[i / WAYS], i % WAYS)) {
            return true;
        }
    }
    return false;
}

static uint32_t ready_mask(const struct slot *slot)
{
    const struct sim_stream *s = slot->stream;
    if (slot->kind == KIND_LISTENER) {
        return world.n_backlog ? EPOLLIN : 0;
    }
    if (!s || s->connecting) {
        return 0;
    }
    uint32_t mask = 0;
    mask |= s->visible > s->taken ? EPOLLIN : 0;
    mask |= s->urgent >= s->taken && s->urgent < s->visible ? EPOLLPRI : 0;
    mask |= s->window ? EPOLLOUT : 0;
    mask |= s->fin_visible ? EPOLLIN | EPOLLRDHUP : 0;
    mask |= s->fin_visible && s->out_ended ? EPOLLHUP : 0;
    mask |= s->reset || s->refused ? EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP : 0;
    return mask;
}

static int collect(struct epoll_event *events, int max)
{
    int n = 0;
    size_t first = sim_rand(MAX_FDS);
    for (size_t i = 0; i < MAX_FDS && n < max; i++) {
        struct slot *slot = &world.slots[(first + i) % MAX_FDS];
        uint32_t mask =
            slot->watched ? ready_mask(slot) & (slot->interest | EPOLLERR | EPOLLHUP) : 0;
        bool level = !(slot->interest & EPOLLET);
        if (mask && (level || slot->stream->edge)) {
            events[n].events = mask;
            events[n++].data.ptr = slot->data;
            if (slot->stream) {
                slot->stream->edge = false;
            }
        }
    }
    return n;
}

/* Returns the time of the next event that happens by itself. */
static int64_t next_time(void)
{
    int64_t next = NEVER;
    for (int i = 0; i < world.n_streams; i++) {
        const struct sim_stream *s = world.streams[i];
        const int64_t times[] = {s->fd >= 0 ? s->rests : NEVER, s->comes, s->wakes};
        for (size_t k = 0; k < ARRAY_LEN(times); k++) {
            next = times[k] > world.now && times[k] < next ? times[k] : next;
        }
    }
    return next;
}

static int sim_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
    (void)epfd;
    int64_t until = timeout_ms < 0 ? NEVER : world.now + MILLIS(timeout_ms);
    world.now += (int64_t)sim_rand(200);
    for (;;) {
        int n = collect(events, max);
        if (n || (timeout_ms == 0 && sim_chance(50))) {
            return n;
        }
        if (progress()) {
            continue;
        }
        if (until <= world.now) {
            return 0;
        }
        int64_t next = next_time();
        next = next < until ? next : until;
        world.stuck = next == NEVER;
        if (world.stuck) {
            return 0;
        }
        world.now = next;
    }
}

static const struct sys sim_sys = {
    .now = sim_now,
    .random = sim_random,
    .socket = sim_socket,
    .bind = sim_bind,
    .listen = sim_listen,
    .accept4 = sim_accept4,
    .connect = sim_connect_call,
    .recv = sim_recv,
    .unread = sim_unread,
    .unsent = sim_unsent,
    .send = sim_send_call,
    .shutdown = sim_shutdown,
    .getsockopt = sim_getsockopt,
    .setsockopt = sim_setsockopt,
    .getsockname = sim_getsockname,
    .close = sim_close_call,
    .pipe2 = sim_pipe2,
    .set_pipe_size = sim_set_pipe_size,
    .read = sim_read_call,
    .splice = sim_splice,
    .epoll_create1 = sim_epoll_create1,
    .epoll_ctl = sim_epoll_ctl,
    .epoll_wait = sim_epoll_wait,
};

/* ---- functions of the test ---- */

void sim_start(uint64_t seed)
{
    memset(&world, 0, sizeof(world));
    world.random = seed * 0x9E3779B97F4A7C15ull + 1;
    world.now = SECONDS(1000);
    sys = &sim_sys;
}

int sim_stop(void)
{
    int open = 0;
    for (int i = 0; i < MAX_FDS; i++) {
        open += world.slots[i].kind != KIND_FREE;
    }
    for (int i = 0; i < world.n_streams; i++) {
        free(world.streams[i]->in.data);
        free(world.streams[i]->out.data);
        free(world.streams[i]);
    }
    sys = &sys_real;
    return open;
}

void sim_on_connect(struct sim_actor *(*connected)(void))
{
    world.connected = connected;
}

void sim_connect(struct sim_actor *actor)
{
    sim_connect_at(actor, world.now);
}

void sim_connect_at(struct sim_actor *actor, int64_t when)
{
    new_stream(actor)->comes = when;
}

int64_t sim_clock(void)
{
    return world.now;
}

void sim_wake(struct sim_actor *actor, int64_t when)
{
    actor->stream->wakes = when;
}

void sim_read_slowly(struct sim_actor *actor)
{
    actor->stream->slow = true;
    actor->stream->window = SLOW_ROOM;
}

void sim_send(struct sim_actor *actor, const void *p, size_t n)
{
    append(&actor->stream->in, p, n);
}

void sim_urge(struct sim_actor *actor)
{
    struct sim_stream *s = actor->stream;
    assert(s->in.len > 0);
    s->urgent = s->in.len - 1;
}

void sim_finish(struct sim_actor *actor)
{
    actor->stream->fin = true;
}

void sim_close(struct sim_actor *actor)
{
    sim_finish(actor);
    actor->stream->closed = true;
}

void sim_reset(struct sim_actor *actor)
{
    actor->stream->reset = true;
    actor->stream->edge = true;
}

const char *sim_received(const struct sim_actor *actor, size_t *n)
{
    *n = actor->stream->out.len;
    return actor->stream->out.data;
}

bool sim_ended(const struct sim_actor *actor)
{
    return actor->stream->out_ended;
}

int64_t sim_ended_at(const struct sim_actor *actor)
{
    return actor->stream->ended_at;
}

size_t sim_sent(const struct sim_actor *actor)
{
    return actor->stream->in.len;
}

size_t sim_read(const struct sim_actor *actor)
{
    return actor->stream->taken;
}

int64_t sim_moved(const struct sim_actor *actor)
{
    return actor->stream->moved;
}

int64_t sim_rested(void)
{
    return world.rested;
}

bool sim_stuck(void)
{
    return world.stuck;
}
