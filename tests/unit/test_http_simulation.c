/* The HTTP client in a simulated world. A seed decides which calls there are, when they start and
 * are cancelled, over how many connections and whether in TLS, how the servers frame their answers,
 * when they close, which of them fail, and at which octet. For every seed, an answer is whole and
 * belongs to its call, every call ends once, no request is sent more often than it may be, and
 * nothing leaks.
 *
 * SIM_SEED=n runs one seed; SIM_COUNT=n runs the first n. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http.h"
#include "lib/buf.h"
#include "lib/conn.h"
#include "lib/dns.h"
#include "lib/loop.h"
#include "lib/tls.h"
#include "tests/unit/simulation/sim.h"

enum { SEEDS = 2000, TURNS_MAX = 200000, CALLS_MAX = 8, SERVERS_MAX = 2 * CALLS_MAX };
enum { BODY_MAX = 150000 };

enum fate { FATE_WELL, FATE_RESET, FATE_FINISH, FATE_SILENT, FATE_NONSENSE };

struct call {
    struct http_call *call;
    size_t number;
    const char *method;
    bool once, handed_on, refused;
    bool cancels_itself; /* when the first piece arrives */
    size_t cancel_turn;
    size_t size, sends; /* octets of the answer's body and of the request's body */
    bool started, cancelled, done;
    bool answered;
    struct buf got;
    int heard; /* times that a server received it */
};

struct server {
    struct sim_actor actor;
    bool greeted, gone;
    size_t read; /* octets read of what tproxy sent */
    struct buf heard;
    size_t served;
    enum fate fate;
    size_t fate_request; /* the request at which the fate takes effect */
};

static struct {
    struct loop *loop;
    struct http *http;
    struct call calls[CALLS_MAX];
    struct server servers[SERVERS_MAX];
    size_t n_calls, n_servers, turn;
    bool tls, refuses, evil;
} play;

/* Returns octet i of the body that call `number` sends or gets. */
static char octet(size_t number, size_t i)
{
    return (char)(number * 31 + i * 7 + i / 251);
}

static void put(struct buf *b, const void *p, size_t n)
{
    assert_int_equal(buf_add(b, p, n), OK);
}

static void put_text(struct buf *b, const char *text)
{
    put(b, text, strlen(text));
}

static void put_octets(struct buf *b, const struct call *call, size_t from, size_t n)
{
    char *room = buf_room(b, n + 1);
    assert_non_null(room);
    for (size_t i = 0; i < n; i++) {
        room[i] = octet(call->number, from + i);
    }
    buf_added(b, n);
}

static bool are_octets(struct str s, const struct call *call)
{
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != octet(call->number, i)) {
            return false;
        }
    }
    return true;
}

/* ---- the servers' part ---- */

static void serve(struct server *s, const char *p, size_t n)
{
    if (!play.tls) {
        sim_send(&s->actor, p, n);
        return;
    }
    while (n) {
        size_t piece = sim_chance(30) ? 1 + sim_rand(3) : 1 + sim_rand(16384);
        piece = piece < n ? piece : n;
        unsigned char head[2] = {(unsigned char)(piece >> 8), (unsigned char)piece};
        sim_send(&s->actor, head, 2);
        sim_send(&s->actor, p, piece);
        p += piece;
        n -= piece;
    }
}

static void leave(struct server *s)
{
    s->gone = true;
    if (sim_chance(50)) {
        sim_close(&s->actor);
    } else {
        sim_finish(&s->actor);
    }
}

static void put_chunks(struct buf *out, const struct call *call)
{
    for (size_t at = 0; at < call->size;) {
        size_t n = 1 + sim_rand(sim_chance(50) ? 5 : BODY_MAX);
        n = n < call->size - at ? n : call->size - at;
        assert_int_equal(buf_fmt(out, "%zx%s\r\n", n, sim_chance(20) ? ";a=b" : ""), OK);
        put_octets(out, call, at, n);
        put_text(out, "\r\n");
        at += n;
    }
    put_text(out, sim_chance(20) ? "0\r\nX-Trailer: 1\r\n\r\n" : "0\r\n\r\n");
}

/* Writes the answer. Returns whether the connection ends with it. */
static bool put_answer(struct buf *out, const struct call *call)
{
    bool closes = sim_chance(20), empty = strcmp(call->method, "HEAD") == 0;
    while (sim_chance(20)) {
        put_text(out, "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n");
    }
    put_text(out, call->refused ? "HTTP/1.1 404 Not Found\r\n" : "HTTP/1.1 200 OK\r\n");
    put_text(out, closes ? "Connection: close\r\n" : "");
    switch (sim_rand(3)) {
    case 0:
        assert_int_equal(buf_fmt(out, "Content-Length: %zu\r\n\r\n", call->size), OK);
        put_octets(out, call, 0, empty ? 0 : call->size);
        return closes;
    case 1:
        put_text(out, "Transfer-Encoding: chunked\r\n\r\n");
        if (!empty) {
            put_chunks(out, call);
        }
        return closes;
    default:
        put_text(out, "\r\n");
        put_octets(out, call, 0, empty ? 0 : call->size);
        return closes || !empty;
    }
}

static void go_wrong(struct server *s, struct str answer)
{
    play.evil = true;
    s->gone = true;
    if (s->fate == FATE_NONSENSE) {
        serve(s, "+OK this is a mail server\r\n", 27);
        return;
    }
    serve(s, answer.p, sim_rand(answer.n));
    if (s->fate == FATE_RESET) {
        sim_reset(&s->actor);
    } else if (s->fate == FATE_FINISH) {
        sim_finish(&s->actor);
    }
}

static void answer(struct server *s, struct call *call)
{
    struct buf out;
    buf_init(&out, 16 * BODY_MAX);
    bool ends = put_answer(&out, call);
    struct str text = buf_str(&out);
    bool wrong = s->fate != FATE_WELL && s->served == s->fate_request;
    if (wrong && !(ends && s->fate == FATE_FINISH)) { /* a FIN could be the regular end */
        go_wrong(s, text);
    } else {
        serve(s, text.p, text.n);
    }
    if (!s->gone && (ends || sim_chance(15))) {
        leave(s);
    }
    s->served++;
    buf_free(&out);
}

/* Reads tproxy's octets: the toy's HELLO and records, or clear text. */
static void listen_to(struct server *s)
{
    static const char hello[] = "HELLO";
    size_t n, length;
    const char *p = sim_received(&s->actor, &n);
    if (!play.tls) {
        put(&s->heard, p + s->read, n - s->read);
        s->read = n;
        return;
    }
    if (s->read == 0 && n >= strlen(hello)) {
        assert_memory_equal(p, hello, strlen(hello));
        s->read = strlen(hello);
    }
    while (s->read && n - s->read >= 2) {
        length = (size_t)(unsigned char)p[s->read] << 8 | (unsigned char)p[s->read + 1];
        if (n - s->read < 2 + length) {
            return;
        }
        put(&s->heard, p + s->read + 2, length);
        s->read += 2 + length;
    }
}

/* Returns the call whose request is complete, or NULL. */
static struct call *take_request(struct server *s)
{
    struct http_head head;
    struct str heard = buf_str(&s->heard);
    int res = http_parse_request(heard, 4096, &head);
    assert_true(res != ERR);
    if (res == AGAIN || heard.n < head.size + head.length) {
        return NULL;
    }
    struct call *call = &play.calls[head.target.p[1] - '0'];
    assert_int_equal(head.length, call->sends);
    assert_true(str_eq(head.method, call->method));
    assert_true(are_octets((struct str){heard.p + head.size, head.length}, call));
    assert_int_equal(heard.n, head.size + head.length); /* a client sends one request at a time */
    buf_drop(&s->heard, heard.n);
    call->heard++;
    return call;
}

static bool server_run(struct sim_actor *actor)
{
    struct server *s = container_of(actor, struct server, actor);
    if (s->gone) {
        return false;
    }
    if (!s->greeted) {
        s->greeted = true;
        sim_send(actor, "HELLO", play.tls ? 5 : 0);
        return true;
    }
    listen_to(s);
    struct call *call = take_request(s);
    if (call) {
        answer(s, call);
    } else if (sim_ended(actor)) {
        leave(s);
        return true;
    }
    return call != NULL;
}

static struct sim_actor *server_connected(void)
{
    assert_true(play.n_servers < SERVERS_MAX);
    struct server *s = &play.servers[play.n_servers++];
    s->actor.run = server_run;
    buf_init(&s->heard, 2 * BODY_MAX);
    s->fate = sim_chance(70) ? FATE_WELL : (enum fate)(1 + sim_rand(4));
    s->fate_request = sim_rand(3);
    if (play.refuses && sim_chance(30)) {
        play.evil = true;
        return NULL;
    }
    return &s->actor;
}

/* ---- the callers' part ---- */

static void start_next(void);

static void on_piece(struct str piece, void *arg)
{
    struct call *call = arg;
    assert_true(call->handed_on && !call->refused && !call->done && !call->cancelled);
    assert_true(piece.n > 0);
    put(&call->got, piece.p, piece.n);
    if (call->cancels_itself) {
        call->cancelled = true;
        http_cancel(call->call);
    }
}

static void on_done(const struct http_answer *got, const struct error *err, void *arg)
{
    struct call *call = arg;
    assert_false(call->done || call->cancelled);
    call->done = true;
    call->answered = got;
    if (got) {
        assert_int_equal(got->head->status, call->refused ? 404 : 200);
        assert_true(got->body.n == 0 || buf_len(&call->got) == 0);
        put(&call->got, got->body.p, got->body.n);
    } else {
        assert_non_null(strstr(err->text, "10.0.0.1"));
    }
    if (sim_chance(50)) {
        start_next();
    }
}

static void start(struct call *call)
{
    char target[] = {'/', (char)('0' + call->number), '\0'};
    struct buf body;
    buf_init(&body, BODY_MAX + 1);
    put_octets(&body, call, 0, call->sends);
    struct http_message message = {.method = call->method,
                                   .target = str_of(target),
                                   .headers = str_of("Authorization: Bearer x\r\n"),
                                   .body = buf_str(&body),
                                   .has_body = call->sends > 0,
                                   .once = call->once,
                                   .answer_timeout = SECONDS(60),
                                   .silence_timeout = SECONDS(60),
                                   .body_max = BODY_MAX};
    call->call =
        http_start(play.http, &message,
                   (struct http_handler){
                       .data = call->handed_on ? on_piece : NULL, .done = on_done, .arg = call});
    buf_free(&body);
    call->started = true;
    assert_false(call->done);
}

static void start_next(void)
{
    for (size_t i = 0; i < play.n_calls; i++) {
        if (!play.calls[i].started) {
            start(&play.calls[i]);
            return;
        }
    }
}

static void cast_call(struct call *call, size_t number)
{
    static const char *const methods[] = {"GET", "GET", "HEAD", "PUT"};
    call->number = number;
    call->method = methods[sim_rand(4)];
    call->once = sim_chance(20);
    call->handed_on = sim_chance(40);
    call->refused = sim_chance(20);
    call->cancels_itself = sim_chance(10);
    call->cancel_turn = sim_chance(15) ? 1 + sim_rand(200) : 0;
    call->size = sim_chance(20) ? sim_rand(BODY_MAX) : sim_rand(300);
    call->sends = strcmp(call->method, "PUT") == 0 ? 1 + sim_rand(BODY_MAX) : 0;
    buf_init(&call->got, BODY_MAX + 1);
}

/* ---- the play ---- */

static void happen(struct tls_client *tls)
{
    play.turn++;
    if (play.turn == 1 || sim_chance(10)) {
        start_next();
    }
    if (sim_chance(1)) {
        http_set_tls(play.http, tls);
    }
    for (size_t i = 0; i < play.n_calls; i++) {
        struct call *call = &play.calls[i];
        if (call->started && !call->done && !call->cancelled && call->cancel_turn &&
            play.turn >= call->cancel_turn) {
            call->cancelled = true;
            http_cancel(call->call);
        }
    }
}

static bool all_have_ended(void)
{
    for (size_t i = 0; i < play.n_calls; i++) {
        if (!play.calls[i].done && !play.calls[i].cancelled) {
            return false;
        }
    }
    return true;
}

static void check(const struct call *call)
{
    struct str got = buf_str(&call->got);
    bool empty = strcmp(call->method, "HEAD") == 0;
    assert_true(call->heard <= (call->once ? 1 : 2));
    assert_true(are_octets(got, call)); /* even if it is incomplete */
    if (call->answered) {
        assert_true(call->heard >= 1);
        assert_int_equal(got.n, empty ? 0 : call->size);
    }
    if (!play.evil) {
        assert_true(call->answered || call->cancelled);
    }
}

static void run_seed(uint64_t seed)
{
    struct error err;
    memset(&play, 0, sizeof(play));
    sim_start(seed);
    sim_on_connect(server_connected);
    play.loop = loop_new(&err);
    play.tls = sim_chance(40);
    play.refuses = sim_chance(10);
    play.n_calls = 1 + sim_rand(CALLS_MAX);
    for (size_t i = 0; i < play.n_calls; i++) {
        cast_call(&play.calls[i], i);
    }
    struct dns *dns = dns_new(play.loop, "/nonexistent", "/nonexistent");
    struct tls_client *tls = play.tls ? tls_client_new(NULL, NULL, &err) : NULL;
    struct http_settings settings = {.host = "10.0.0.1",
                                     .port = 443,
                                     .authority = "10.0.0.1:443",
                                     .tls = tls,
                                     .max_connections = 1 + sim_rand(3),
                                     .connect_timeout = SECONDS(60)};
    play.http = http_new(play.loop, dns, &settings);
    do {
        happen(tls);
        loop_turn(play.loop, true);
        assert_true(conn_count() <= settings.max_connections);
        assert_true(play.turn < TURNS_MAX);
    } while (!all_have_ended());
    http_free(play.http);
    assert_int_equal(conn_count(), 0);
    dns_free(dns);
    loop_turn(play.loop, false);
    loop_free(play.loop);
    tls_client_unref(tls);
    for (size_t i = 0; i < play.n_calls; i++) {
        check(&play.calls[i]);
        buf_free(&play.calls[i].got);
    }
    for (size_t i = 0; i < play.n_servers; i++) {
        buf_free(&play.servers[i].heard);
    }
    assert_int_equal(sim_stop(), 0);
}

static void seeds(void **state)
{
    (void)state;
    const char *one = getenv("SIM_SEED"), *count = getenv("SIM_COUNT");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t last = one ? first : count ? strtoull(count, NULL, 10) : SEEDS;
    for (uint64_t seed = first; seed <= last; seed++) {
        fprintf(stderr, "\rseed %llu ", (unsigned long long)seed);
        run_seed(seed);
    }
    fprintf(stderr, ": the last\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
