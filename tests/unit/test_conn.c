/* Tests lib/conn and lib/linger over real sockets: which data the owner sees and when, which data
 * is kept, and how a stream ends. */
#include "lib/conn.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "lib/linger.h"
#include "lib/loop.h"
#include "lib/pipes.h"
#include "tests/unit/check.h"
#include "tests/unit/world/streams.h"

static struct loop *loop;
static struct seen a, b;
static int peer, other_peer;

static int set_up(void **state)
{
    (void)state;
    struct error err;
    test_sys_init();
    loop = loop_new(&err);
    seen_start(&a, loop, false, &peer);
    seen_start(&b, loop, false, &other_peer);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    conn_close(a.conn);
    conn_close(b.conn);
    buf_free(&a.data);
    buf_free(&b.data);
    if (peer >= 0) {
        close(peer);
    }
    close(other_peer);
    loop_turn(loop, false);
    assert_int_equal(conn_count(), 0);
    pipes_close();
    loop_free(loop);
    return 0;
}

/* Makes `a` a conn over TCP, where the peer can reset. */
static void use_tcp(void)
{
    conn_close(a.conn);
    close(peer);
    buf_free(&a.data);
    seen_start(&a, loop, true, &peer);
}

static void peer_close(void)
{
    close(peer);
    peer = -1;
}

static void peer_reset(void)
{
    struct linger at_once = {.l_onoff = 1};
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    peer_close();
}

static unsigned events(const struct seen *s)
{
    unsigned n = 0;
    for (size_t i = 0; i < EVENTS; i++) {
        n += s->count[i];
    }
    return n;
}

/* Reads everything that the peer gets until no more comes or the stream ends. */
static size_t drain(struct buf *to, bool *end)
{
    size_t n, total = 0;
    do {
        n = peer_read(peer, to, end);
        total += n;
        turn_quietly(loop);
    } while (n);
    return total;
}

/* ---- in ---- */

static void test_data(void **state)
{
    (void)state;
    peer_send(peer, "hello", 5);
    await_bytes(loop, &a, 5);
    peer_send(peer, " you", 4);
    await_bytes(loop, &a, 9);
    assert_str(buf_str(&a.data), "hello you");
    assert_int_equal(events(&a), 2);
    assert_int_equal(conn_data(a.conn).n, 0);
}

/* A read stops at urgent data. The conn still shows the bytes behind it, although no event reports
 * them, and the end of the stream comes after them. */
static void test_urgent_data(void **state)
{
    (void)state;
    for (int closed = 0; closed < 2; closed++) {
        use_tcp();
        peer_send(peer, "DELE 1\r\n", 8);
        assert_int_equal(send(peer, "\xff", 1, MSG_OOB | MSG_NOSIGNAL), 1);
        peer_send(peer, "QUIT\r\n", 6);
        if (closed) {
            peer_close();
        }
        await_bytes(loop, &a, 15);
        assert_str(buf_str(&a.data), "DELE 1\r\n\xffQUIT\r\n");
        turn_quietly(loop);
        assert_int_equal(a.count[CONN_EOF], closed);
    }
}

static int counted_recvs;

static ssize_t counted_recv(int fd, void *p, size_t n, int flags)
{
    counted_recvs++;
    return sys_real.recv(fd, p, n, flags);
}

/* The conn reads once before the urgent data and once after it. */
static void test_short_read_is_the_last(void **state)
{
    (void)state;
    use_tcp();
    assert_int_equal(send(peer, "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
    await_bytes(loop, &a, 1);
    turn_quietly(loop);
    test_sys.recv = counted_recv;
    counted_recvs = 0;
    for (size_t n = 2; n < 10; n++) {
        peer_send(peer, "x", 1);
        await_bytes(loop, &a, n);
        turn_quietly(loop);
    }
    assert_int_equal(counted_recvs, 8);
}

/* A read from a Unix socket also stops where a descriptor was passed. */
static void test_passed_descriptor(void **state)
{
    (void)state;
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.head = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    struct iovec piece = {"log-", 4};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    memcpy(CMSG_DATA(&control.head), &peer, sizeof(int));
    conn_doubt_short_reads(a.conn);
    assert_int_equal(sendmsg(peer, &message, MSG_NOSIGNAL), 4);
    peer_send(peer, "level\n", 6);
    await_bytes(loop, &a, 10);
}

/* Unconsumed data is shown again together with new data. */
static void test_leftover(void **state)
{
    (void)state;
    a.hold = true;
    peer_send(peer, "abc", 3);
    await_event(loop, &a, CONN_DATA);
    assert_str(conn_data(a.conn), "abc");
    conn_consume(a.conn, 1);
    turn_quietly(loop);
    assert_int_equal(events(&a), 1);
    peer_send(peer, "def", 3);
    await_event(loop, &a, CONN_DATA);
    assert_str(conn_data(a.conn), "bcdef");
    a.hold = false;
    peer_send(peer, "g", 1);
    await_bytes(loop, &a, 6);
    assert_str(buf_str(&a.data), "bcdefg");
}

/* If the owner consumes nothing, the peer has to wait. */
static void test_leftover_bound(void **state)
{
    (void)state;
    static char block[4 * LOOP_SCRATCH];
    a.hold = true;
    use_tcp();
    a.hold = true;
    ssize_t n;
    size_t total = 0;
    pattern_fill(block, 0, sizeof(block));
    while ((n = send(peer, block + total, sizeof(block) - total, MSG_NOSIGNAL)) > 0) {
        total += (size_t)n;
        turn_quietly(loop);
    }
    assert_true(conn_data(a.conn).n <= LOOP_SCRATCH);
    assert_true(pattern_is(conn_data(a.conn), 0));
    a.hold = false;
    conn_show_again(a.conn);
    await_bytes(loop, &a, total);
    assert_true(pattern_is(buf_str(&a.data), 0));
}

/* If the owner makes room later and outside the callback, the conn shows the remaining data
 * although the peer sends no more. */
static void test_leftover_consumed_later(void **state)
{
    (void)state;
    static char block[2 * LOOP_SCRATCH];
    int size = 4 * LOOP_SCRATCH;
    setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    a.hold = true;
    pattern_fill(block, 0, sizeof(block));
    peer_send(peer, block, sizeof(block));
    turn_quietly(loop);
    assert_int_equal(conn_data(a.conn).n, LOOP_SCRATCH);
    conn_consume(a.conn, LOOP_SCRATCH - 100);
    turn_quietly(loop);
    assert_int_equal(conn_data(a.conn).n, LOOP_SCRATCH);
    assert_true(pattern_is(conn_data(a.conn), LOOP_SCRATCH - 100));
}

/* A conn that reads pieces needs several events for what has come, and holds as much as others. */
static void test_pieces(void **state)
{
    (void)state;
    static char block[LOOP_SCRATCH];
    int size = 4 * LOOP_SCRATCH;
    setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    a.hold = true;
    conn_read_pieces(a.conn);
    pattern_fill(block, 0, sizeof(block));
    peer_send(peer, block, sizeof(block));
    turn_quietly(loop);
    assert_int_equal(a.count[CONN_DATA], LOOP_SCRATCH / CONN_READ_SMALL);
    assert_int_equal(conn_data(a.conn).n, LOOP_SCRATCH);
    assert_true(pattern_is(conn_data(a.conn), 0));
}

/* The lines of `text` as they come out when it arrives in two pieces, cut at `at`. */
struct lines {
    char text[256];
    size_t max;
    int last;
};

static void take_lines(struct seen *s, enum conn_event event)
{
    struct lines *lines = s->arg;
    struct str line;
    size_t octets;
    if (event != CONN_DATA) {
        return;
    }
    while ((lines->last = conn_line(s->conn, lines->max, &line, &octets)) == OK) {
        size_t n = strlen(lines->text);
        text_fmt(lines->text + n, sizeof(lines->text) - n, "[%.*s]", STR_ARG(line));
        conn_consume(s->conn, octets);
    }
}

static void test_lines_split_everywhere(void **state)
{
    (void)state;
    static const char text[] = "USER a\r\nPASS b c\nx\r\r\n\r\n\nLIST\r\nQU";
    static const char expected[] = "[USER a][PASS b c][x\r][][][LIST]";
    struct lines lines = {.max = 10};
    a.hold = true;
    a.also = take_lines;
    a.arg = &lines;
    for (size_t at = 1; at < strlen(text); at++) {
        lines.text[0] = '\0';
        peer_send(peer, text, at);
        turn_quietly(loop);
        peer_send(peer, text + at, strlen(text) - at);
        turn_quietly(loop);
        assert_string_equal(lines.text, expected);
        assert_int_equal(lines.last, AGAIN);
        assert_str(conn_data(a.conn), "QU");
        conn_consume(a.conn, 2);
    }
    lines.text[0] = '\0';
    for (size_t i = 0; i < strlen(text); i++) {
        peer_send(peer, text + i, 1);
        turn_quietly(loop);
    }
    assert_string_equal(lines.text, expected);
}

/* A limit counts the octets including the line's end, whether the line is complete or not. */
static void test_line_limit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t max;
        int rc;
    } rows[] = {
        {"abc\r\n", 5, OK}, {"abc\r\n", 4, ERR}, {"abc\n", 4, OK},    {"abc\n", 3, ERR},
        {"abc", 4, AGAIN},  {"abc", 3, ERR},     {"abc\r", 5, AGAIN}, {"abc\r", 4, ERR},
        {"\n", 1, OK},      {"x\n", 1, ERR},
    };
    a.hold = true;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str line;
        size_t octets;
        peer_send(peer, rows[i].text, strlen(rows[i].text));
        await_event(loop, &a, CONN_DATA);
        assert_int_equal(conn_line(a.conn, rows[i].max, &line, &octets), rows[i].rc);
        conn_consume(a.conn, conn_data(a.conn).n);
    }
}

static void test_pause(void **state)
{
    (void)state;
    conn_pause(a.conn);
    peer_send(peer, "abc", 3);
    peer_close();
    turn_quietly(loop);
    assert_int_equal(events(&a), 0);
    conn_resume(a.conn);
    assert_int_equal(events(&a), 0); /* no event comes from inside a call */
    await_event(loop, &a, CONN_EOF);
    assert_str(buf_str(&a.data), "abc");
    assert_int_equal(events(&a), 2);
}

/* Data that was unconsumed before the pause is shown after it, even if no more comes, and not
 * during it. */
static void test_pause_leftover(void **state)
{
    (void)state;
    a.hold = true;
    peer_send(peer, "abc", 3);
    await_event(loop, &a, CONN_DATA);
    conn_show_again(a.conn);
    conn_pause(a.conn);
    turn_quietly(loop);
    assert_int_equal(events(&a), 1);
    conn_set_handler(a.conn, seen_handler(&a));
    turn_quietly(loop);
    assert_int_equal(events(&a), 1);
    a.hold = false;
    conn_resume(a.conn);
    await_bytes(loop, &a, 3);
    assert_int_equal(events(&a), 2);
}

static void hand_over(struct seen *s, enum conn_event event)
{
    if (event == CONN_DATA && s->conn) {
        conn_set_handler(s->conn, seen_handler(s->arg));
        s->conn = NULL;
    }
}

/* Another owner takes over inside CONN_DATA. It sees the unconsumed data, whether that has just
 * come or was kept. */
static void test_hand_over(void **state)
{
    (void)state;
    for (int kept = 0; kept < 2; kept++) {
        struct seen next = {.hold = false};
        buf_init(&next.data, SEEN_MAX);
        a.hold = true;
        a.arg = &next;
        struct conn *conn = a.conn;
        if (kept) {
            peer_send(peer, "LIST\r\n", 6);
            await_event(loop, &a, CONN_DATA);
            conn_show_again(conn);
        } else {
            peer_send(peer, "LIST\r\n", 6);
        }
        a.also = hand_over;
        await_bytes(loop, &next, 6);
        assert_str(buf_str(&next.data), "LIST\r\n");
        conn_set_handler(conn, seen_handler(&a));
        a.conn = conn;
        a.also = NULL;
        turn_quietly(loop);
        buf_free(&next.data);
    }
}

/* ---- ends ---- */

static void test_eof_with_data(void **state)
{
    (void)state;
    peer_send(peer, "bye", 3);
    peer_close();
    await_event(loop, &a, CONN_EOF);
    assert_str(buf_str(&a.data), "bye");
    turn_quietly(loop);
    assert_int_equal(a.count[CONN_EOF], 1);
    /* A new owner gets the end of the stream again, after the unconsumed data. */
    conn_set_handler(a.conn, seen_handler(&a));
    await_event(loop, &a, CONN_EOF);
    assert_int_equal(a.count[CONN_FAILED], 0);
}

static void test_eof_leftover(void **state)
{
    (void)state;
    a.hold = true;
    peer_send(peer, "bye", 3);
    peer_close();
    await_event(loop, &a, CONN_EOF);
    assert_str(conn_data(a.conn), "bye");
    a.hold = false;
    conn_set_handler(a.conn, seen_handler(&a));
    await_event(loop, &a, CONN_EOF);
    assert_str(buf_str(&a.data), "bye");
}

static void test_reset(void **state)
{
    (void)state;
    use_tcp();
    peer_reset();
    await_event(loop, &a, CONN_FAILED);
    assert_int_equal(conn_error(a.conn)->fail, FAIL_REMOTE);
    conn_write(a.conn, "x", 1);
    conn_deadline(a.conn, test_now + 1);
    conn_set_handler(a.conn, seen_handler(&a));
    test_now += 10;
    turn_quietly(loop);
    assert_int_equal(a.count[CONN_FAILED], 1);
    assert_int_equal(a.last, CONN_FAILED);
}

/* A peer says something and closes before we write: the conn shows its words before the failure. */
static void test_last_words(void **state)
{
    (void)state;
    conn_pause(a.conn);
    peer_send(peer, "-ERR go away\r\n", 14);
    peer_close();
    conn_write(a.conn, "LIST\r\n", 6);
    turn_quietly(loop);
    conn_resume(a.conn);
    turn_quietly(loop);
    assert_str(buf_str(&a.data), "-ERR go away\r\n");
    assert_true(a.count[CONN_EOF] || a.count[CONN_FAILED]);
}

static void answer_to_the_gone(struct seen *s, enum conn_event event)
{
    if (event == CONN_DATA && peer >= 0) {
        peer_send(peer, "-ERR go away\r\n", 14);
        peer_close();
        conn_write(s->conn, "LIST\r\n", 6);
    }
}

/* The same, before any event could report the words. */
static void test_last_words_unannounced(void **state)
{
    (void)state;
    a.also = answer_to_the_gone;
    peer_send(peer, "+OK\r\n", 5);
    await_event(loop, &a, CONN_DATA);
    turn_quietly(loop);
    assert_str(buf_str(&a.data), "+OK\r\n-ERR go away\r\n");
    assert_int_equal(a.count[CONN_FAILED], 1);
}

/* Returns a listening socket and stores its address in *addr. */
static int listen_on_loopback(struct sockaddr_in *addr)
{
    socklen_t n = sizeof(*addr);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(listener, (struct sockaddr *)addr, n), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)addr, &n), 0);
    return listener;
}

static void test_connect(void **state)
{
    (void)state;
    struct sockaddr_in addr;
    socklen_t n = sizeof(addr);
    struct error err;
    int listener = listen_on_loopback(&addr);

    struct seen c = {.hold = false};
    c.conn = conn_connect(loop, (struct sockaddr *)&addr, n, seen_handler(&c), &err);
    assert_non_null(c.conn);
    assert_int_equal(events(&c), 0);
    await_event(loop, &c, CONN_CONNECTED);
    assert_int_equal(conn_count(), 3);
    conn_close(c.conn);
    close(listener);

    c = (struct seen){.hold = false};
    c.conn = conn_connect(loop, (struct sockaddr *)&addr, n, seen_handler(&c), &err);
    if (c.conn) {
        await_event(loop, &c, CONN_FAILED);
        err = *conn_error(c.conn);
        conn_close(c.conn);
    }
    assert_int_equal(err.fail, FAIL_CONNECT);
    assert_int_equal(c.count[CONN_CONNECTED], 0);
}

/* Connects a conn to a server; the conn's data is kept. Returns the server's socket. */
static int connect_to_server(struct seen *c)
{
    struct sockaddr_in addr;
    struct error err;
    int listener = listen_on_loopback(&addr);
    *c = (struct seen){.hold = false};
    buf_init(&c->data, SEEN_MAX);
    c->conn = conn_connect(loop, (struct sockaddr *)&addr, sizeof(addr), seen_handler(c), &err);
    assert_non_null(c->conn);
    await_event(loop, c, CONN_CONNECTED);
    int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(server >= 0);
    close(listener);
    return server;
}

static int delays_ended; /* calls that switched Nagle's algorithm off */

static int counted_setsockopt(int fd, int level, int name, const void *value, socklen_t n)
{
    delays_ended += level == IPPROTO_TCP && name == TCP_NODELAY && *(const int *)value;
    return sys_real.setsockopt(fd, level, name, value, n);
}

/* Pieces that are sent without an answer between them are not delayed. A dialogue of command and
 * answer needs no setsockopt(2) for that. */
static void test_nagle(void **state)
{
    (void)state;
    struct seen c;
    test_sys.setsockopt = counted_setsockopt;
    delays_ended = 0;
    int server = connect_to_server(&c);

    for (size_t i = 1; i <= 3; i++) {
        conn_write(c.conn, "NOOP\r\n", 6);
        peer_send(server, "+OK\r\n", 5);
        await_bytes(loop, &c, 5 * i);
    }
    assert_int_equal(delays_ended, 0);
    conn_write(c.conn, "NOOP\r\n", 6);
    assert_int_equal(delays_ended, 0);
    conn_write(c.conn, "QUIT\r\n", 6);
    assert_int_equal(delays_ended, 1);
    conn_write(c.conn, "\r\n", 2);
    assert_int_equal(delays_ended, 1);

    conn_close(c.conn);
    buf_free(&c.data);
    close(server);
}

static int urgent_peer; /* sends urgent data before the next read */

/* Reads the text before the urgent byte; the urgent byte itself arrives after the loop has waited
 * for events. */
static ssize_t recv_at_urgent_byte(int fd, void *p, size_t n, int flags)
{
    struct pollfd urgent = {.fd = fd, .events = POLLPRI};
    test_sys.recv = sys_real.recv;
    assert_int_equal(sys_real.recv(fd, p, 1, 0), 1);
    assert_int_equal(send(urgent_peer, "!", 1, MSG_OOB), 1);
    assert_int_equal(poll(&urgent, 1, 60 * 1000), 1);
    return sys_real.recv(fd, p, n, flags);
}

/* The loop has not yet seen the urgent data when a read begins at it. The byte is not lost. */
static void test_urgent_data_before_its_event(void **state)
{
    (void)state;
    struct seen c;
    urgent_peer = connect_to_server(&c);
    test_sys.recv = recv_at_urgent_byte;
    peer_send(urgent_peer, "a", 1);
    await_bytes(loop, &c, 1);
    assert_memory_equal(buf_str(&c.data).p, "!", 1);

    conn_close(c.conn);
    buf_free(&c.data);
    close(urgent_peer);
}

static void test_deadline(void **state)
{
    (void)state;
    conn_deadline(a.conn, test_now + MILLIS(10));
    conn_deadline(a.conn, test_now + MILLIS(20));
    test_now += MILLIS(15);
    turn_quietly(loop);
    assert_int_equal(events(&a), 0);
    test_now += MILLIS(5);
    turn_quietly(loop);
    assert_int_equal(a.count[CONN_TIMEOUT], 1);
    test_now += SECONDS(100);
    turn_quietly(loop);
    assert_int_equal(events(&a), 1);
    conn_deadline(a.conn, test_now + 1);
    conn_deadline(a.conn, 0);
    test_now += SECONDS(100);
    turn_quietly(loop);
    assert_int_equal(events(&a), 1);
}

/* ---- out ---- */

/* Writes until a write has to be queued. Returns the number of bytes written. */
static size_t write_until_queued(void)
{
    char block[10000];
    size_t total = 0;
    while (conn_pending(a.conn) == 0) {
        pattern_fill(block, total, sizeof(block));
        conn_write(a.conn, block, sizeof(block));
        total += sizeof(block);
        assert_true(total < SEEN_MAX);
    }
    return total;
}

static void test_drained(void **state)
{
    (void)state;
    struct buf got;
    bool end;
    buf_init(&got, SEEN_MAX);
    conn_write(a.conn, "x", 0);
    size_t total = write_until_queued();
    assert_int_equal(events(&a), 0);
    drain(&got, &end);
    assert_int_equal(conn_pending(a.conn), 0);
    assert_int_equal(a.count[CONN_DRAINED], 1);
    assert_int_equal(buf_len(&got), total);
    assert_true(pattern_is(buf_str(&got), 0));
    /* A write that the socket takes at once causes no CONN_DRAINED. */
    conn_write(a.conn, "x", 1);
    turn_quietly(loop);
    assert_int_equal(a.count[CONN_DRAINED], 1);
    buf_free(&got);
}

static void test_queue_bound(void **state)
{
    (void)state;
    static char block[CONN_QUEUE_MAX];
    write_until_queued();
    conn_write(a.conn, block, CONN_QUEUE_MAX - conn_pending(a.conn));
    assert_int_equal(conn_pending(a.conn), CONN_QUEUE_MAX);
    turn_quietly(loop);
    assert_int_equal(a.count[CONN_FAILED], 0);
    conn_write(a.conn, "x", 1);
    assert_int_equal(events(&a), 0);
    await_event(loop, &a, CONN_FAILED);
    assert_int_equal(conn_error(a.conn)->fail, FAIL_LIMIT);
}

static void test_shutdown(void **state)
{
    (void)state;
    struct buf got;
    bool end;
    buf_init(&got, SEEN_MAX);
    size_t total = write_until_queued();
    conn_shutdown(a.conn);
    drain(&got, &end);
    assert_true(end);
    assert_int_equal(buf_len(&got), total);
    assert_true(pattern_is(buf_str(&got), 0));
    peer_send(peer, "still here", 10);
    await_bytes(loop, &a, 10);
    buf_free(&got);
}

/* Our last line arrives although the peer's input was never read; no reset destroys it. */
static void test_linger(void **state)
{
    (void)state;
    static char block[20000];
    struct buf got;
    bool end;
    buf_init(&got, SEEN_MAX);
    use_tcp();
    conn_pause(a.conn);
    peer_send(peer, block, sizeof(block));
    turn_quietly(loop);
    conn_write(a.conn, "-ERR bye\r\n", 10);
    linger_close(a.conn);
    turn_quietly(loop);
    peer_send(peer, block, sizeof(block));
    turn_quietly(loop);
    drain(&got, &end);
    assert_true(end);
    assert_str(buf_str(&got), "-ERR bye\r\n");
    assert_int_equal(conn_count(), 2);
    peer_close();
    turn_quietly(loop);
    assert_int_equal(conn_count(), 1);
    assert_int_equal(events(&a), 0);
    a.conn = NULL;
    buf_free(&got);
}

/* A peer that has taken everything and does not close keeps the conn for two seconds. */
static void test_linger_time(void **state)
{
    (void)state;
    linger_close(a.conn);
    test_now += SECONDS(2) - 1;
    turn_quietly(loop);
    assert_int_equal(conn_count(), 2);
    test_now += 1;
    turn_quietly(loop);
    assert_int_equal(conn_count(), 1);
    assert_int_equal(events(&a), 0);
    a.conn = NULL;
}

/* A slow peer gets all queued bytes; they are lost only if it takes nothing for a minute. */
static void test_linger_slow(void **state)
{
    (void)state;
    struct buf got;
    bool end;
    buf_init(&got, SEEN_MAX);
    size_t total = write_until_queued();
    linger_close(a.conn);
    test_now += SECONDS(60) - 1;
    turn_quietly(loop);
    drain(&got, &end);
    assert_true(end);
    assert_int_equal(buf_len(&got), total);
    assert_int_equal(conn_count(), 2);
    buf_free(&got);
    a.conn = NULL;
}

static void test_linger_stall(void **state)
{
    (void)state;
    write_until_queued();
    linger_close(a.conn);
    test_now += SECONDS(2);
    turn_quietly(loop);
    test_now += SECONDS(60) - 1;
    turn_quietly(loop);
    assert_int_equal(conn_count(), 2);
    test_now += SECONDS(2);
    turn_quietly(loop);
    assert_int_equal(conn_count(), 1);
    a.conn = NULL;
}

/* Makes `a` a conn over TCP whose kernel takes `size` bytes at once and whose peer's kernel takes
 * few. */
static void use_tcp_of_slow_reader(int size)
{
    int ends[2], few = 10000;
    conn_close(a.conn);
    close(peer);
    stream_pair(true, ends);
    peer = ends[1];
    setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(peer, SOL_SOCKET, SO_RCVBUF, &few, sizeof(few));
    a.conn = conn_new(loop, ends[0], seen_handler(&a));
    assert_non_null(a.conn);
}

/* Reads n bytes of the pattern from `at` on, as they arrive. */
static void peer_take(size_t at, size_t n)
{
    static char got[1 << 20];
    int64_t until = sys_real.now() + SECONDS(20);
    for (size_t end = at + n; at < end;) {
        ssize_t more = read(peer, got, end - at);
        assert_true(more > 0 || (more < 0 && errno == EAGAIN && sys_real.now() < until));
        assert_true(more < 0 || pattern_is((struct str){got, (size_t)more}, at));
        at += more > 0 ? (size_t)more : 0;
    }
}

/* All bytes have left our kernel, but the peer takes its time to read them. If the conn closed now,
 * the kernel would answer the peer's next bytes with a reset. */
static void test_linger_for_slow_reader(void **state)
{
    (void)state;
    enum { SIZE = 200000, PIECE = 40000 };
    static char block[SIZE];
    use_tcp_of_slow_reader(SIZE);
    pattern_fill(block, 0, SIZE);
    conn_write(a.conn, block, SIZE);
    assert_int_equal(conn_pending(a.conn), 0);
    linger_close(a.conn);
    a.conn = NULL;
    for (size_t at = 0; at < SIZE; at += PIECE) {
        for (int k = 0; k < 14; k++) {
            test_now += SECONDS(2);
            turn_quietly(loop);
        }
        peer_send(peer, "NOOP\r\n", 6);
        peer_take(at, PIECE);
    }
    assert_int_equal(conn_count(), 2);
    for (int k = 0; k < 3; k++) {
        test_now += SECONDS(60);
        turn_quietly(loop);
    }
    assert_int_equal(conn_count(), 1);
}

static void test_linger_ended(void **state)
{
    (void)state;
    peer_close();
    await_event(loop, &a, CONN_EOF);
    linger_close(a.conn);
    assert_int_equal(conn_count(), 1);
    a.conn = NULL;
}

/* In a full group the oldest conn is closed even if it still has bytes to send; other groups are
 * not touched. */
static void test_linger_group(void **state)
{
    (void)state;
    struct linger_group group;
    linger_group_init(&group, 1);
    assert_false(linger_group_drop(&group));
    linger_close_among(a.conn, &group);
    a.conn = NULL;
    assert_int_equal(linger_count(), 1);
    linger_close_among(b.conn, &group);
    b.conn = NULL;
    assert_int_equal(conn_count(), 1);
    assert_int_equal(linger_count(), 1);
    assert_true(linger_group_drop(&group));
    assert_false(linger_group_drop(&group));
    assert_int_equal(linger_count(), 0);
    linger_group_close(&group);
}

static void test_linger_group_ends_with_the_process(void **state)
{
    (void)state;
    struct linger_group group;
    linger_group_init(&group, 2);
    linger_close_among(a.conn, &group);
    linger_close(b.conn);
    a.conn = b.conn = NULL;
    assert_int_equal(linger_count(), 2);
    linger_close_all();
    assert_int_equal(linger_count(), 0);
    linger_group_close(&group);
}

static void test_has_input(void **state)
{
    (void)state;
    assert_false(conn_has_input(a.conn));
    peer_send(peer, "x", 1);
    assert_true(conn_has_input(a.conn));
    await_bytes(loop, &a, 1); /* the byte is still there */
    assert_false(conn_has_input(a.conn));
}

static void close_in_event(struct seen *s, enum conn_event event)
{
    (void)event;
    conn_close(s->conn);
    conn_close(s->conn); /* the memory stays until the end of the turn */
    s->conn = NULL;
}

static void test_close_in_event(void **state)
{
    (void)state;
    a.hold = true;
    a.also = close_in_event;
    peer_send(peer, "abc", 3);
    peer_close();
    await_event(loop, &a, CONN_DATA);
    turn_quietly(loop);
    assert_int_equal(events(&a), 1);
    conn_close(NULL);
    linger_close(NULL);
}

/* ---- splice ---- */

static const struct str marker = {"\r\n.\r\n", 5};

enum { PIPE = 131072 }; /* octets that the pipe holds */

static void test_splice(void **state)
{
    (void)state;
    char block[30000];
    struct buf got;
    bool end;
    size_t n = 0;
    buf_init(&got, SEEN_MAX);
    a.hold = true;
    conn_set_raw(a.conn, true);
    pattern_fill(block, 0, sizeof(block));
    peer_send(peer, block, sizeof(block));
    await_event(loop, &a, CONN_DATA);
    assert_int_equal(conn_data(a.conn).n, 0); /* spliced data is not read into the conn */
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), OK);
    assert_int_equal(n, sizeof(block));
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), AGAIN);
    turn_quietly(loop);
    peer_read(other_peer, &got, &end);
    assert_int_equal(buf_len(&got), sizeof(block));
    assert_true(pattern_is(buf_str(&got), 0));
    peer_close();
    int rc = AGAIN;
    int64_t until = sys_real.now() + SECONDS(20);
    while (rc == AGAIN && sys_real.now() < until) {
        loop_turn(loop, true);
        rc = conn_splice(a.conn, b.conn, marker, &n);
    }
    assert_int_equal(rc, ERR); /* only a read can tell that the stream has ended */
    conn_set_raw(a.conn, false);
    await_event(loop, &a, CONN_EOF);
    buf_free(&got);
}

/* Bytes that the sink does not take wait in the pipe. They stay in order with the bytes that are
 * written after them. */
static void test_splice_pending(void **state)
{
    (void)state;
    char block[30000];
    struct buf got;
    bool end;
    size_t n = 0, total = 0;
    buf_init(&got, SEEN_MAX);
    a.hold = true;
    conn_set_raw(a.conn, true);
    while (conn_pending(b.conn) == 0) {
        pattern_fill(block, total, sizeof(block));
        peer_send(peer, block, sizeof(block));
        assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), OK);
        total += n;
        assert_int_equal(n, sizeof(block));
        assert_true(total < SEEN_MAX);
    }
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), ERR);
    pattern_fill(block, total, 100);
    conn_write(b.conn, block, 100);
    total += 100;
    while (buf_len(&got) < total) {
        peer_read(other_peer, &got, &end);
        loop_turn(loop, true);
    }
    turn_quietly(loop);
    assert_int_equal(buf_len(&got), total);
    assert_true(pattern_is(buf_str(&got), 0));
    assert_int_equal(b.count[CONN_DRAINED], 1);
    buf_free(&got);
}

static int no_pipe(int fds[2], int flags)
{
    (void)fds;
    (void)flags;
    return -1;
}

static void test_splice_impossible(void **state)
{
    (void)state;
    size_t n = 0;
    a.hold = true;
    peer_send(peer, "abc", 3);
    await_event(loop, &a, CONN_DATA);
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), ERR); /* bytes were read already */
    conn_consume(a.conn, 3);
    peer_send(peer, "d", 1);
    await_event(loop, &a, CONN_DATA);
    conn_consume(a.conn, 1);
    pipes_close();
    test_sys.pipe2 = no_pipe;
    turn_quietly(loop);
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), ERR);
}

/* Makes `s` a conn over TCP whose kernel takes much at once. Returns its descriptor and stores the
 * peer's in *far. */
static int use_wide_tcp(struct seen *s, int *far)
{
    int ends[2], wide = 208 * 1024;
    conn_close(s->conn);
    close(*far);
    stream_pair(true, ends);
    *far = ends[1];
    for (int i = 0; i < 2; i++) {
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &wide, sizeof(wide));
        setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &wide, sizeof(wide));
    }
    s->conn = conn_new(loop, ends[0], seen_handler(s));
    assert_non_null(s->conn);
    return ends[0];
}

static void await_unread(int fd, size_t n)
{
    int there = 0;
    int64_t until = sys_real.now() + SECONDS(20);
    while ((size_t)there < n && sys_real.now() < until) {
        assert_int_equal(sys_real.unread(fd, &there), 0);
    }
    assert_int_equal(there, n);
}

/* Sends a block whose last octets are `tail` through a pipe of PIPE octets. The tail ends with a
 * marker, and no piece that the other peer gets may end inside it. */
static void splice_block(size_t size, const char *tail)
{
    static char block[2 * PIPE];
    struct buf got;
    size_t tail_n = strlen(tail);
    int64_t until = sys_real.now() + SECONDS(20);
    int from = use_wide_tcp(&a, &peer);
    (void)use_wide_tcp(&b, &other_peer);
    conn_set_raw(a.conn, true);
    pattern_fill(block, 0, size);
    memcpy(block + size - tail_n, tail, tail_n);
    peer_send(peer, block, size);
    await_unread(from, size);
    buf_init(&got, SEEN_MAX);
    while (buf_len(&got) < size && sys_real.now() < until) {
        size_t n = 0;
        bool end;
        int rc = conn_pending(b.conn) ? AGAIN : conn_splice(a.conn, b.conn, marker, &n);
        assert_true(rc != ERR);
        peer_read(other_peer, &got, &end);
        size_t missing = size - buf_len(&got);
        assert_false(missing > 0 && missing < marker.n);
        loop_turn(loop, false);
    }
    assert_int_equal(buf_len(&got), size);
    assert_memory_equal(buf_str(&got).p, block, size);
    buf_free(&got);
}

/* The edge of the pipe falls on each octet of a marker. */
static void test_splice_keeps_marker_whole(void **state)
{
    (void)state;
    a.hold = true;
    for (size_t cut = 0; cut <= marker.n; cut++) {
        splice_block(PIPE + cut, marker.p);
    }
}

/* The text before the marker ends like the beginning of a marker, and the edge of the pipe falls
 * into it. */
static void test_splice_full_stop_before_marker(void **state)
{
    (void)state;
    static const char *const tails[] = {".\r\n.\r\n", "\n.\r\n.\r\n", "\r\n.\r\n", "..\r\n.\r\n"};
    a.hold = true;
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        splice_block(PIPE + strlen(tails[i]), tails[i]);
    }
}

/* The bytes after the held-back beginning of a marker do not complete it; they come from the source
 * or are written after it. */
static void test_splice_held_in_vain(void **state)
{
    (void)state;
    static char block[PIPE + 2];
    struct buf got;
    bool end;
    size_t n = 0;
    int wide = 4 * PIPE;
    buf_init(&got, SEEN_MAX);
    a.hold = true;
    setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &wide, sizeof(wide));
    conn_set_raw(a.conn, true);
    pattern_fill(block, 0, sizeof(block));
    memcpy(block + PIPE, "\r\n", 2);
    peer_send(peer, block, sizeof(block));
    await_event(loop, &a, CONN_DATA);
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), OK);
    size_t total = n + 6;
    conn_write(b.conn, "behind", 6);
    while (n < sizeof(block)) {
        size_t more = 0;
        turn_quietly(loop);
        peer_read(other_peer, &got, &end);
        if (conn_pending(b.conn) == 0) {
            assert_int_equal(conn_splice(a.conn, b.conn, marker, &more), OK);
            n += more;
            total += more;
        }
    }
    while (buf_len(&got) < total) {
        turn_quietly(loop);
        peer_read(other_peer, &got, &end);
    }
    assert_int_equal(buf_len(&got), total);
    assert_non_null(memmem(buf_str(&got).p, total, "behind", 6));
    buf_free(&got);
}

/* The bytes that a dead peer did not take must never reach another session, so the pipe is not lent
 * again. */
static void test_splice_broken(void **state)
{
    (void)state;
    struct buf got;
    bool end;
    size_t n = 0;
    buf_init(&got, SEEN_MAX);
    signal(SIGPIPE, SIG_IGN); /* like tproxy.c, because splice(2) has no flag against the signal */
    a.hold = true;
    conn_set_raw(a.conn, true);
    peer_send(peer, "secret", 6);
    await_event(loop, &a, CONN_DATA);
    close(other_peer);
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), OK);
    conn_close(b.conn);
    seen_start(&b, loop, false, &other_peer);
    peer_send(peer, "public", 6);
    await_event(loop, &a, CONN_DATA);
    assert_int_equal(conn_splice(a.conn, b.conn, marker, &n), OK);
    turn_quietly(loop);
    peer_read(other_peer, &got, &end);
    assert_str(buf_str(&got), "public");
    buf_free(&got);
}

/* ---- the start of TLS ---- */

static void start_tls_after_line(struct seen *s, enum conn_event event)
{
    struct str line;
    size_t octets;
    if (event == CONN_DATA && conn_line(s->conn, 512, &line, &octets) == OK) {
        conn_consume(s->conn, octets);
        conn_start_tls(s->conn, NULL); /* fails before it needs a client */
    }
}

/* Clear-text bytes after the reply to STLS are refused, whether they came with the reply or were
 * already in the buffer. */
static void test_poisoned_tls(void **state)
{
    (void)state;
    for (int kept = 0; kept < 2; kept++) {
        struct seen *s = kept ? &b : &a;
        int fd = kept ? other_peer : peer;
        s->hold = true;
        if (kept) {
            peer_send(fd, "+OK", 3);
            await_event(loop, s, CONN_DATA);
        }
        s->also = start_tls_after_line;
        static const char rest[] = "+OK begin\r\n-ERR injected\r\n";
        peer_send(fd, rest + 3 * kept, strlen(rest) - 3 * (size_t)kept);
        await_event(loop, s, CONN_FAILED);
        assert_int_equal(conn_error(s->conn)->fail, FAIL_PROTOCOL);
        assert_false(conn_is_tls(s->conn));
        turn_quietly(loop);
        assert_int_equal(s->count[CONN_FAILED], 1);
    }
}

/* ---- failing system calls ---- */

static int no_socket(int domain, int type, int protocol)
{
    (void)domain;
    (void)type;
    (void)protocol;
    errno = EMFILE;
    return -1;
}

static int no_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    (void)epfd;
    (void)op;
    (void)fd;
    (void)event;
    errno = ENOSPC;
    return -1;
}

static void test_no_resources(void **state)
{
    (void)state;
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct error err = {.fail = FAIL_NONE};
    int ends[2];
    test_sys.socket = no_socket;
    assert_null(conn_connect(loop, (struct sockaddr *)&addr, sizeof(addr), seen_handler(&a), &err));
    assert_int_equal(err.fail, FAIL_INTERNAL);
    assert_int_equal(conn_error(a.conn)->fail, FAIL_NONE);
    stream_pair(false, ends);
    test_sys.epoll_ctl = no_epoll_ctl;
    assert_null(conn_new(loop, ends[0], seen_handler(&a)));
    assert_int_equal(fcntl(ends[0], F_GETFD), -1); /* the descriptor is closed all the same */
    close(ends[1]);
    assert_int_equal(conn_count(), 2);
}

#define with_conns(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        with_conns(test_data),
        with_conns(test_urgent_data),
        with_conns(test_short_read_is_the_last),
        with_conns(test_passed_descriptor),
        with_conns(test_leftover),
        with_conns(test_leftover_bound),
        with_conns(test_leftover_consumed_later),
        with_conns(test_pieces),
        with_conns(test_lines_split_everywhere),
        with_conns(test_line_limit),
        with_conns(test_pause),
        with_conns(test_pause_leftover),
        with_conns(test_hand_over),
        with_conns(test_eof_with_data),
        with_conns(test_eof_leftover),
        with_conns(test_reset),
        with_conns(test_last_words),
        with_conns(test_last_words_unannounced),
        with_conns(test_connect),
        with_conns(test_nagle),
        with_conns(test_urgent_data_before_its_event),
        with_conns(test_deadline),
        with_conns(test_drained),
        with_conns(test_queue_bound),
        with_conns(test_shutdown),
        with_conns(test_linger),
        with_conns(test_linger_time),
        with_conns(test_linger_slow),
        with_conns(test_linger_stall),
        with_conns(test_linger_for_slow_reader),
        with_conns(test_linger_ended),
        with_conns(test_linger_group),
        with_conns(test_linger_group_ends_with_the_process),
        with_conns(test_has_input),
        with_conns(test_close_in_event),
        with_conns(test_splice),
        with_conns(test_splice_keeps_marker_whole),
        with_conns(test_splice_full_stop_before_marker),
        with_conns(test_splice_held_in_vain),
        with_conns(test_splice_pending),
        with_conns(test_splice_broken),
        with_conns(test_splice_impossible),
        with_conns(test_poisoned_tls),
        with_conns(test_no_resources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
