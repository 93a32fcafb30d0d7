/* Tests lib/relay: every byte arrives, in order, whatever the speed of the four ends. */
#include "lib/relay.h"

#include <stdio.h>

#include "lib/linger.h"
#include "lib/pipes.h"
#include "tests/unit/world/streams.h"

#define IDLE SECONDS(600)
#define ANSWER SECONDS(30)

/* LOOKS: how often within that time the relay checks which bytes the peers have taken. */
enum { LOOKS = 8 };

/* One outer end: the client or the backend. `sent` and `got` count bytes of the pattern. */
struct far {
    int fd;
    uint64_t sent, got;
    bool end;
};

static struct loop *loop;
static struct seen client, backend;
static struct far near_client, near_backend;
static struct relay *relay;
static int ended;
static enum relay_end why;

/* A record of the relay's system calls. */
static unsigned splices, pieces;
static char tails[1000][4]; /* the last bytes of each send() */

static ssize_t counted_splice(int in, int64_t *in_off, int out, int64_t *out_off, size_t n,
                              unsigned flags)
{
    splices++;
    return sys_real.splice(in, in_off, out, out_off, n, flags);
}

static ssize_t noted_send(int fd, const void *p, size_t n, int flags)
{
    ssize_t gone = sys_real.send(fd, p, n, flags);
    if (gone >= 4 && pieces < ARRAY_LEN(tails)) {
        memcpy(tails[pieces++], (const char *)p + gone - 4, 4);
    } else if (gone > 0 && pieces < ARRAY_LEN(tails)) {
        memcpy(tails[pieces++], "\r\n.\r", 4); /* so short a piece is never a complete marker */
    }
    return gone;
}

static int no_pipe(int fds[2], int flags)
{
    (void)fds;
    (void)flags;
    return -1;
}

static void on_ended(struct relay *r, enum relay_end end, void *arg)
{
    assert_ptr_equal(r, relay);
    assert_ptr_equal(arg, &why);
    ended++;
    why = end;
}

static void start(bool tcp)
{
    struct error err;
    test_sys_init();
    test_sys.splice = counted_splice;
    test_sys.send = noted_send;
    loop = loop_new(&err);
    near_client = near_backend = (struct far){0};
    splices = pieces = 0;
    ended = 0;
    seen_start(&client, loop, tcp, &near_client.fd);
    seen_start(&backend, loop, tcp, &near_backend.fd);
    client.hold = backend.hold = true;
}

static void start_relay(void)
{
    relay = relay_start(loop, client.conn, backend.conn, (struct relay_times){IDLE, ANSWER},
                        (struct relay_handler){.ended = on_ended, .arg = &why});
    assert_int_equal(ended, 0);
}

static int set_up(void **state)
{
    (void)state;
    start(true);
    start_relay();
    return 0;
}

static int set_up_unstarted(void **state)
{
    (void)state;
    start(true);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    relay_free(relay);
    relay = NULL;
    conn_close(client.conn);
    conn_close(backend.conn);
    if (near_client.fd >= 0) {
        close(near_client.fd);
    }
    if (near_backend.fd >= 0) {
        close(near_backend.fd);
    }
    loop_turn(loop, false);
    pipes_close();
    loop_free(loop);
    return 0;
}

static void far_close(struct far *f)
{
    close(f->fd);
    f->fd = -1;
}

static void far_reset(struct far *f)
{
    struct linger at_once = {.l_onoff = 1};
    setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    far_close(f);
}

/* Sends up to n bytes of the pattern, as many as the socket takes. */
static size_t far_send(struct far *f, size_t n)
{
    static char block[256 * 1024];
    n = n < sizeof(block) ? n : sizeof(block);
    pattern_fill(block, f->sent, n);
    ssize_t gone = send(f->fd, block, n, MSG_NOSIGNAL);
    f->sent += gone > 0 ? (size_t)gone : 0;
    return gone > 0 ? (size_t)gone : 0;
}

/* Reads up to n bytes and checks that they are the pattern. */
static size_t far_read(struct far *f, size_t n)
{
    static char block[256 * 1024];
    ssize_t got = read(f->fd, block, n < sizeof(block) ? n : sizeof(block));
    f->end = f->end || (got == 0 && n > 0);
    if (got <= 0) {
        return 0;
    }
    assert_true(pattern_is((struct str){block, (size_t)got}, f->got));
    f->got += (size_t)got;
    return (size_t)got;
}

static void read_all(struct far *f, uint64_t n)
{
    /* Long, because the kernel may delay the retransmission of a segment. */
    int64_t until = sys_real.now() + SECONDS(20);
    while (f->got < n && sys_real.now() < until) {
        far_read(f, SIZE_MAX);
        loop_turn(loop, false);
    }
    assert_int_equal(f->got, n);
}

static bool has_ended(void *arg)
{
    (void)arg;
    return ended > 0;
}

static void await_end(enum relay_end expected)
{
    turn_until(loop, has_ended, NULL);
    turn_quietly(loop);
    assert_int_equal(ended, 1);
    assert_int_equal(why, expected);
}

/* ---- bytes ---- */

static void test_both_ways(void **state)
{
    (void)state;
    unsigned chance = 7;
    for (int i = 0; i < 3000; i++) {
        chance = chance * 1103515245 + 12345;
        size_t n = chance >> 16 & 4095;
        struct far *f = chance >> 30 & 1 ? &near_client : &near_backend;
        far_send(f, n);
        far_read(chance >> 29 & 1 ? &near_client : &near_backend, 5000 - n);
        loop_turn(loop, false);
    }
    read_all(&near_client, near_backend.sent);
    read_all(&near_backend, near_client.sent);
    assert_int_equal(relay_to_client(relay), near_backend.sent);
    assert_int_equal(relay_to_backend(relay), near_client.sent);
    assert_int_equal(ended, 0);
}

/* The relay has to examine the client's bytes, so it copies them and never splices, however many
 * they are. */
static void test_bulk_of_client(void **state)
{
    (void)state;
    enum { SIZE = 8 * 1024 * 1024 };
    int64_t until = sys_real.now() + SECONDS(20);
    while (near_backend.got < SIZE && sys_real.now() < until) {
        far_send(&near_client, near_client.sent < SIZE ? SIZE - near_client.sent : 0);
        far_read(&near_backend, SIZE_MAX);
        loop_turn(loop, false);
    }
    assert_int_equal(near_backend.got, SIZE);
    assert_int_equal(splices, 0);
}

/* Relays megabytes at full speed, into a reader that takes pieces of read_size. */
static void bulk(size_t read_size)
{
    enum { SIZE = 8 * 1024 * 1024 };
    for (int i = 0; near_client.got < SIZE; i++) {
        assert_true(i < 1000000);
        if (near_backend.sent < SIZE) {
            far_send(&near_backend, SIZE - near_backend.sent);
        }
        far_send(&near_client, i % 100 == 0 ? 6 : 0);
        far_read(&near_backend, 100);
        far_read(&near_client, read_size);
        loop_turn(loop, false);
    }
    read_all(&near_backend, near_client.sent);
    assert_int_equal(relay_to_client(relay), SIZE);
}

static void test_bulk_spliced(void **state)
{
    (void)state;
    bulk(SIZE_MAX);
    assert_true(splices > 10);
}

static void test_bulk_slow_reader(void **state)
{
    (void)state;
    bulk(1777);
}

/* Reads and splices stop at urgent data, which comes in the middle and before the end. */
static void test_bulk_urgent(void **state)
{
    (void)state;
    enum { SIZE = 4 * 1024 * 1024 };
    static char block[100];
    int64_t until = sys_real.now() + SECONDS(20);
    for (unsigned i = 0; near_backend.sent < SIZE; i++) {
        assert_true(sys_real.now() < until);
        far_send(&near_backend, 100000);
        if (i % 3 == 0) {
            pattern_fill(block, near_backend.sent, sizeof(block));
            ssize_t gone = send(near_backend.fd, block, sizeof(block), MSG_OOB | MSG_NOSIGNAL);
            near_backend.sent += gone > 0 ? (size_t)gone : 0;
            far_send(&near_backend, 1000);
        }
        far_read(&near_client, SIZE_MAX);
        loop_turn(loop, false);
    }
    assert_true(splices > 10);
    far_close(&near_backend);
    while (!ended && sys_real.now() < until) {
        far_read(&near_client, SIZE_MAX);
        loop_turn(loop, false);
    }
    assert_int_equal(why, RELAY_BACKEND_CLOSED);
    assert_int_equal(relay_to_client(relay), near_backend.sent);
}

static void test_bulk_copied(void **state)
{
    (void)state;
    test_sys.pipe2 = no_pipe;
    bulk(SIZE_MAX);
    assert_int_equal(splices, 0);
}

/* A sink that takes nothing stops its source: little is held between them, and the other direction
 * stays open. */
static void test_slow_sink(void **state)
{
    (void)state;
    int idle = 0;
    while (idle < 50) {
        idle = far_send(&near_backend, SIZE_MAX) ? 0 : idle + 1;
        loop_turn(loop, false);
        assert_true(conn_pending(client.conn) <= 2 * LOOP_SCRATCH);
        assert_true(near_backend.sent < SEEN_MAX);
    }
    far_send(&near_client, 100);
    read_all(&near_backend, 100);
    read_all(&near_client, near_backend.sent);
    assert_int_equal(ended, 0);
}

/* Data that the conns hold already is relayed first, in order. */
static void test_input_before(void **state)
{
    (void)state;
    far_send(&near_client, 1000);
    far_send(&near_backend, 2000);
    await_event(loop, &client, CONN_DATA);
    turn_quietly(loop);
    conn_consume(client.conn, 300);
    near_backend.got = 300;
    conn_pause(backend.conn);
    start_relay();
    far_send(&near_client, 500);
    read_all(&near_backend, 1500);
    read_all(&near_client, 2000);
}

/* ---- the end marker ---- */

static bool splits_marker(const char *tail)
{
    return memcmp(tail, "\r\n.\r", 4) == 0 || memcmp(tail + 1, "\r\n.", 3) == 0;
}

/* Answers end close to the end of a full read. Each arrives complete although no more data follows,
 * and no piece ends inside an end marker. */
static void test_marker(void **state)
{
    (void)state;
    static char answer[2 * LOOP_SCRATCH + 16], got[sizeof(answer)];
    for (size_t n = 2 * LOOP_SCRATCH - 8; n <= 2 * LOOP_SCRATCH + 8; n++) {
        void *none = NULL;
        if (n > 2 * LOOP_SCRATCH - 8) {
            tear_down(&none);
            start(false);
            start_relay();
        }
        int size = 4 * LOOP_SCRATCH;
        setsockopt(near_backend.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        test_sys.pipe2 = no_pipe;
        memset(answer, 'x', n);
        memcpy(answer + n - 5, "\r\n.\r\n", 5);
        /* One send before the loop turns, so that a full read cuts it. */
        ssize_t sent = send(near_backend.fd, answer, n, MSG_NOSIGNAL);
        assert_true(sent > LOOP_SCRATCH);
        size_t have = 0;
        for (int i = 0; i < 2000 && have < n; i++) {
            if ((size_t)sent < n) {
                ssize_t more = send(near_backend.fd, answer + sent, n - (size_t)sent, MSG_NOSIGNAL);
                sent += more > 0 ? more : 0;
            }
            loop_turn(loop, false);
            ssize_t r = read(near_client.fd, got + have, sizeof(got) - have);
            have += r > 0 ? (size_t)r : 0;
        }
        assert_int_equal(have, n);
        assert_memory_equal(got, answer, n);
    }
}

/* Full reads end anywhere in the marker, and the rest follows. */
static void test_marker_unsplit(void **state)
{
    (void)state;
    static char answer[LOOP_SCRATCH + 16];
    for (size_t n = LOOP_SCRATCH; n <= LOOP_SCRATCH + 5; n++) {
        void *none = NULL;
        struct buf got;
        bool end;
        buf_init(&got, SEEN_MAX);
        tear_down(&none);
        start(false);
        for (int k = 0; k < 2; k++) {
            int size = 8 * LOOP_SCRATCH;
            int fd = k ? near_backend.fd : near_client.fd;
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        }
        memset(answer, 'x', n);
        memcpy(answer + n - 5, "\r\n.\r\n", 5);
        peer_send(near_backend.fd, answer, n);
        start_relay();
        for (int i = 0; i < 100; i++) {
            loop_turn(loop, false);
            peer_read(near_client.fd, &got, &end);
        }
        assert_int_equal(buf_len(&got), n);
        assert_memory_equal(buf_str(&got).p, answer, n);
        for (unsigned i = 0; i < pieces; i++) {
            assert_false(splits_marker(tails[i]));
        }
        buf_free(&got);
    }
}

/* The beginning of a marker that is not completed is still relayed. */
static void test_marker_begun(void **state)
{
    (void)state;
    static const char *const tails_of_reads[] = {"\r", "\r\n", "\r\n.", "\r\n.\r", "\r\n.\r\n"};
    static char answer[LOOP_SCRATCH];
    for (size_t i = 0; i < 2 * ARRAY_LEN(tails_of_reads); i++) {
        const char *tail = tails_of_reads[i / 2];
        void *none = NULL;
        struct buf got;
        bool end;
        buf_init(&got, SEEN_MAX);
        tear_down(&none);
        start(false);
        int size = 8 * LOOP_SCRATCH;
        setsockopt(near_backend.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        memset(answer, 'x', sizeof(answer));
        memcpy(answer + sizeof(answer) - strlen(tail), tail, strlen(tail));
        peer_send(near_backend.fd, answer, sizeof(answer));
        if (i % 2) {
            far_close(&near_backend);
        }
        start_relay();
        for (int k = 0; k < 100; k++) {
            loop_turn(loop, false);
            peer_read(near_client.fd, &got, &end);
        }
        assert_int_equal(buf_len(&got), sizeof(answer));
        assert_memory_equal(buf_str(&got).p, answer, sizeof(answer));
        assert_int_equal(ended, i % 2);
        buf_free(&got);
    }
}

/* ---- ends ---- */

/* A client that ends its stream still gets all its answers. */
static void test_half_close(void **state)
{
    (void)state;
    far_send(&near_client, 20);
    shutdown(near_client.fd, SHUT_WR);
    while (!near_backend.end) {
        far_read(&near_backend, 100);
        loop_turn(loop, true);
    }
    assert_int_equal(near_backend.got, 20);
    assert_int_equal(ended, 0);
    for (int i = 0; i < 20; i++) {
        far_send(&near_backend, 100000);
        far_read(&near_client, 100000);
        loop_turn(loop, false);
    }
    far_close(&near_backend);
    while (!ended) {
        far_read(&near_client, 100000);
        loop_turn(loop, true);
    }
    assert_int_equal(why, RELAY_BACKEND_CLOSED);
    linger_close(client.conn);
    client.conn = NULL;
    read_all(&near_client, near_backend.sent);
}

static void client_ends_with(const char *last)
{
    char got[32] = "";
    size_t n = 0;
    int64_t until = sys_real.now() + SECONDS(20);
    peer_send(near_client.fd, last, strlen(last));
    shutdown(near_client.fd, SHUT_WR);
    while (n < strlen(last) && sys_real.now() < until) {
        ssize_t more = read(near_backend.fd, got + n, sizeof(got) - n);
        n += more > 0 ? (size_t)more : 0;
        loop_turn(loop, false);
    }
    assert_string_equal(got, last);
    turn_quietly(loop);
    assert_int_equal(ended, 0);
}

/* The client has ended its stream without QUIT, and the backend does not close. */
static void test_answer_time(void **state)
{
    (void)state;
    client_ends_with("QUITE\r\nLIST\r\nQUI");
    test_now += ANSWER - 1;
    turn_quietly(loop);
    assert_int_equal(ended, 0);
    far_send(&near_backend, 10);
    read_all(&near_client, 10);
    test_now += ANSWER - 1;
    turn_quietly(loop);
    assert_int_equal(ended, 0);
    test_now += 1;
    await_end(RELAY_CLIENT_CLOSED);
}

/* After QUIT the answers may take any time. */
static void test_answers_before_quit(void **state)
{
    (void)state;
    client_ends_with("DELE 1\r\n quit \n");
    test_now += IDLE - 1;
    turn_quietly(loop);
    assert_int_equal(ended, 0);
    far_send(&near_backend, 10);
    read_all(&near_client, 10);
    test_now += IDLE - 1;
    turn_quietly(loop);
    assert_int_equal(ended, 0);
    test_now += 1;
    await_end(RELAY_IDLE);
}

/* The relay notices at once when a client vanishes after it has ended its stream. */
static void test_ended_client_vanishes(void **state)
{
    (void)state;
    client_ends_with("QUIT\r\n");
    far_reset(&near_client);
    await_end(RELAY_CLIENT_FAILED);
    assert_int_equal(conn_error(client.conn)->fail, FAIL_REMOTE);
}

static void test_backend_closes(void **state)
{
    (void)state;
    far_send(&near_backend, 5000);
    far_close(&near_backend);
    await_end(RELAY_BACKEND_CLOSED);
    read_all(&near_client, 5000);
    assert_int_equal(relay_to_client(relay), 5000);
}

/* The backend gets nothing for a client that vanishes, and in particular no QUIT. */
static void test_client_vanishes(void **state)
{
    (void)state;
    far_send(&near_client, 10);
    read_all(&near_backend, 10);
    far_reset(&near_client);
    await_end(RELAY_CLIENT_FAILED);
    assert_int_equal(conn_error(client.conn)->fail, FAIL_REMOTE);
    assert_int_equal(far_read(&near_backend, 100), 0);
    assert_int_equal(relay_to_backend(relay), 10);
}

static void test_backend_vanishes(void **state)
{
    (void)state;
    far_send(&near_backend, 10);
    read_all(&near_client, 10);
    far_reset(&near_backend);
    await_end(RELAY_BACKEND_FAILED);
    assert_int_equal(conn_error(backend.conn)->fail, FAIL_REMOTE);
}

static void test_idle(void **state)
{
    (void)state;
    test_now += IDLE - 1;
    turn_quietly(loop);
    far_send(&near_client, 1);
    read_all(&near_backend, 1);
    test_now += IDLE - 1;
    turn_quietly(loop);
    far_send(&near_backend, 1);
    read_all(&near_client, 1);
    test_now += IDLE - 1;
    turn_quietly(loop);
    assert_int_equal(ended, 0);
    test_now += 1;
    await_end(RELAY_IDLE);
}

static size_t left_at_client(void)
{
    return conn_untaken(client.conn);
}

/* A client that slowly reads from the kernel's buffer is not idle, although no event reports that.
 * It is idle once it stops reading. */
static void test_slow_reader_is_not_idle(void **state)
{
    (void)state;
    enum { SIZE = 200000, PIECE = 40000 };
    static char block[SIZE];
    int64_t until = sys_real.now() + SECONDS(20);
    int few = 10000;
    setsockopt(near_client.fd, SOL_SOCKET, SO_RCVBUF, &few, sizeof(few));
    pattern_fill(block, 0, SIZE);
    for (size_t sent = 0; relay_to_client(relay) < SIZE && sys_real.now() < until;) {
        ssize_t n = send(near_backend.fd, block + sent, SIZE - sent, MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        loop_turn(loop, false);
    }
    assert_int_equal(relay_to_client(relay), SIZE);
    assert_int_equal(conn_pending(client.conn), 0);
    for (int i = 0; i < 4; i++) {
        size_t left = left_at_client();
        uint64_t goal = near_client.got + PIECE;
        test_now += IDLE / 2;
        turn_quietly(loop);
        test_now += IDLE / 2 - 1;
        while ((near_client.got < goal || left_at_client() == left) && sys_real.now() < until) {
            far_read(&near_client, near_client.got < goal ? goal - near_client.got : 0);
        }
        turn_quietly(loop);
        assert_int_equal(ended, 0);
    }
    for (int i = 0; i < LOOKS + 2; i++) {
        test_now += IDLE / LOOKS;
        turn_quietly(loop);
    }
    await_end(RELAY_IDLE);
}

static void test_let_go(void **state)
{
    (void)state;
    far_send(&near_client, 1000);
    relay_free(relay);
    relay = NULL;
    conn_close(client.conn);
    conn_close(backend.conn);
    client.conn = backend.conn = NULL;
    turn_quietly(loop);
    assert_int_equal(ended, 0);
    relay_free(NULL);
}

#define with_relay(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_relay(test_both_ways),
        with_relay(test_bulk_of_client),
        with_relay(test_bulk_spliced),
        with_relay(test_bulk_slow_reader),
        with_relay(test_bulk_urgent),
        with_relay(test_bulk_copied),
        with_relay(test_slow_sink),
        cmocka_unit_test_setup_teardown(test_input_before, set_up_unstarted, tear_down),
        with_relay(test_marker),
        with_relay(test_marker_unsplit),
        with_relay(test_marker_begun),
        with_relay(test_half_close),
        with_relay(test_answer_time),
        with_relay(test_answers_before_quit),
        with_relay(test_ended_client_vanishes),
        with_relay(test_backend_closes),
        with_relay(test_client_vanishes),
        with_relay(test_backend_vanishes),
        with_relay(test_idle),
        with_relay(test_slow_reader_is_not_idle),
        with_relay(test_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
