/* Joins two connections to one stream each way.
 *
 *              reads                    writes
 *   source ------------> scratch ------------------> sink    while the sink takes everything
 *   source - - paused                                sink    while bytes are pending at the sink
 *   source ------------> pipe ---------------------> sink    bulk in clear text: splice(2)
 */
#include "lib/relay.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conn.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pop3_stream.h"

/* A piece smaller than this is cheaper to copy than to splice. */
enum { SPLICE_WORTH = 16384 };

/* A session gets wide buffers after so many octets to the client. */
enum { BULK = 65536 };

/* The commands get a bound in the kernel after so many octets to the backend. */
enum { COMMANDS = SOCKET_COMMANDS_SMALL };

/* How long a backend that has answered may be silent after the client has ended its stream. */
#define LAST_WORDS SECONDS(2)

/* How often the kernel is asked what the peers have taken, within the time in which nothing may
 * move. */
enum { LOOKS = 8 };

/* One direction: what is read from `source` goes to `sink`. */
struct lane {
    struct relay *relay;
    struct conn *source, *sink;
    uint64_t bytes;
    bool splicing;
};

struct relay {
    struct loop *loop;
    struct relay_handler handler;
    struct relay_times times;
    struct lane up, down;  /* up: client to backend */
    struct pop3_said said; /* what the client has said */
    int64_t moved_at;      /* when a byte moved last, as far as is known */
    size_t untaken;        /* bytes that waited for the peers at the last look; 0: no look yet */
    bool client_ended;
    bool answered; /* the backend has said something since the client's last command, or login */
};

static struct lane *other(struct lane *lane)
{
    struct relay *r = lane->relay;
    return lane == &r->up ? &r->down : &r->up;
}

static void detach(struct conn *c)
{
    conn_set_raw(c, false);
    conn_pause(c);
    conn_deadline(c, 0);
}

static void end_relay(struct relay *r, enum relay_end why)
{
    detach(r->up.source);
    detach(r->down.source);
    r->handler.ended(r, why, r->handler.arg);
}

/* Tells whether the relay only waits for the rest of the backend's answers. After QUIT it does not:
 * the backend closes by itself, and it may have deleted messages that it has not sent yet. While
 * the client does not read, the backend is not read either, so its silence means nothing. */
static bool awaits_last_words(const struct relay *r)
{
    return r->client_ended && !r->said.quit && conn_pending(r->down.sink) == 0;
}

/* Returns how long nothing may move. A clear-text backend knows that the client has ended its
 * stream and closes after its last answer, so a pause between two answers need not be the end. */
static int64_t patience(const struct relay *r)
{
    if (!awaits_last_words(r)) {
        return r->times.idle;
    }
    return r->answered && conn_is_tls(r->up.sink) ? LAST_WORDS : r->times.answer;
}

/* Notes that bytes have moved. The deadline of the client's conn is the time of the next look at
 * what has moved. */
static void touch(struct relay *r)
{
    r->moved_at = loop_now(r->loop);
    r->untaken = 0;
    conn_deadline(r->up.source, r->moved_at + patience(r) / LOOKS);
}

/* Returns the bytes that the peers have not taken. While the relay waits for the backend's last
 * answers, bytes for the client do not count: they say nothing about the backend's silence. */
static size_t untaken(const struct relay *r)
{
    size_t n = conn_untaken(r->up.sink);
    return awaits_last_words(r) ? n : n + conn_untaken(r->down.sink);
}

/* Checks whether bytes have moved without an event: none has passed through the relay since the
 * last touch, but a peer's kernel may have taken some. The first look cannot know that yet and
 * assumes it. */
static void look_at_lane(struct relay *r)
{
    int64_t now = loop_now(r->loop), time = patience(r);
    size_t left = untaken(r);
    if (left && left != r->untaken) {
        r->moved_at = now;
    }
    r->untaken = left;
    int64_t due = r->moved_at + time, next = now + time / LOOKS;
    if (now >= due) {
        end_relay(r, awaits_last_words(r) ? RELAY_CLIENT_CLOSED : RELAY_IDLE);
    } else {
        conn_deadline(r->up.source, left && next < due ? next : due);
    }
}

static void moved(struct lane *lane, size_t n)
{
    struct relay *r = lane->relay;
    if (lane == &r->up && lane->bytes < COMMANDS && lane->bytes + n >= COMMANDS) {
        conn_bound_commands(lane->sink);
    }
    lane->bytes += n;
    r->answered = r->answered || lane == &r->down;
    touch(r);
    if (conn_pending(lane->sink)) {
        conn_pause(lane->source);
    }
}

/* The client's bytes are examined, so they are never spliced. They are few anyway. */
static bool may_splice(const struct lane *lane)
{
    return lane == &lane->relay->down && !conn_is_tls(lane->source) && !conn_is_tls(lane->sink);
}

/* Asks for wide buffers for sessions that fetch much. (The size of a piece does not tell: small
 * buffers make small pieces.) Commands are never much. */
static void widen_for_bulk(struct lane *lane)
{
    if (lane == &lane->relay->down && lane->bytes >= BULK) {
        conn_widen(lane->source);
        conn_widen(lane->sink);
    }
}

/* Examines the client's bytes. The backend owes an answer only to a complete line. */
static void hear(struct relay *r, struct str data)
{
    pop3_said_add(&r->said, data);
    if (data.n && memchr(data.p, '\n', data.n)) {
        r->answered = false;
    }
}

static void copy(struct lane *lane)
{
    struct str data = conn_data(lane->source);
    size_t held = 0;
    bool full = data.n >= conn_read_max(lane->source);
    if (full) {
        /* Some clients miss an end marker that arrives in two pieces, so the beginning of a marker
         * waits for its rest. */
        held = pop3_begun_marker(data);
        data.n -= held;
        lane->splicing = held == 0 && may_splice(lane);
    }
    if (lane == &lane->relay->up) {
        hear(lane->relay, data);
    }
    conn_write(lane->sink, data.p, data.n);
    conn_consume(lane->source, data.n);
    moved(lane, data.n);
    if (held && !conn_pending(lane->sink)) {
        /* The held bytes are shown again with those that follow, or alone when nothing has come. */
        conn_show_again(lane->source);
    }
    if (lane->splicing) {
        conn_set_raw(lane->source, true);
    }
}

static void splice_once(struct lane *lane)
{
    size_t n = 0;
    int rc = conn_splice(lane->source, lane->sink, pop3_end_marker(), &n);
    if (rc == OK) {
        moved(lane, n);
    }
    if (rc == ERR || (rc == OK && n < SPLICE_WORTH)) {
        lane->splicing = false;
        conn_set_raw(lane->source, false);
    }
}

static void on_data(struct lane *lane)
{
    if (lane->splicing && conn_data(lane->source).n == 0) {
        splice_once(lane);
    } else if (conn_data(lane->source).n) {
        copy(lane);
    }
    widen_for_bulk(lane); /* now, because copy() needs to know how much can be read */
}

static void on_eof(struct lane *lane)
{
    struct relay *r = lane->relay;
    if (lane == &r->down) {
        end_relay(r, RELAY_BACKEND_CLOSED);
        return;
    }
    r->client_ended = true;
    touch(r);
    if (!conn_is_tls(lane->sink)) {
        conn_shutdown(lane->sink);
    }
}

/* Handles the events of the conn that is the lane's source. */
static void on_lane_event(struct conn *c, enum conn_event event, void *arg)
{
    struct lane *lane = arg;
    struct relay *r = lane->relay;
    (void)c;
    switch (event) {
    case CONN_DATA:
        on_data(lane);
        break;
    case CONN_DRAINED:
        conn_resume(other(lane)->source);
        touch(r);
        break;
    case CONN_EOF:
        on_eof(lane);
        break;
    case CONN_TIMEOUT:
        look_at_lane(r);
        break;
    case CONN_FAILED:
        end_relay(r, lane == &r->up ? RELAY_CLIENT_FAILED : RELAY_BACKEND_FAILED);
        break;
    case CONN_CONNECTED:
        break;
    }
}

static void start_lane(struct lane *lane, struct relay *r, struct conn *source, struct conn *sink)
{
    *lane = (struct lane){.relay = r, .source = source, .sink = sink};
    conn_set_handler(source, (struct conn_handler){.event = on_lane_event, .arg = lane});
    conn_resume(source);
}

struct relay *relay_start(struct loop *loop, struct conn *client, struct conn *backend,
                          struct relay_times times, struct relay_handler handler)
{
    struct relay *r = mem_zalloc(sizeof(*r));
    r->loop = loop;
    r->handler = handler;
    r->times = times;
    r->answered = true;
    start_lane(&r->up, r, client, backend);
    start_lane(&r->down, r, backend, client);
    conn_deadline(backend, 0);
    touch(r);
    return r;
}

void relay_free(struct relay *r)
{
    free(r);
}

uint64_t relay_to_client(const struct relay *r)
{
    return r->down.bytes;
}

uint64_t relay_to_backend(const struct relay *r)
{
    return r->up.bytes;
}
