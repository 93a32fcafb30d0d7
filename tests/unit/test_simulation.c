/* Whole sessions in a simulated world: clients, tproxy, mail servers. Of every seed: which bytes
 * come when, in which pieces, with which TLS, who logs in, who vanishes, who falls silent, who is
 * refused, and when the destination changes or goes. Whatever happens, bytes are relayed exactly
 * and to nobody else, nobody but the client says QUIT, and nothing is left behind.
 *
 * SIM_SEED=n runs one seed; SIM_COUNT=n runs the first n. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/destination.h"
#include "core/properties.h"
#include "dest_source.h"
#include "lib/addr.h"
#include "lib/buf.h"
#include "lib/conn.h"
#include "lib/dns.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pipes.h"
#include "pop3.h"
#include "tests/unit/sim.h"

enum { SEEDS = 3000, TURNS_MAX = 200000, COMMANDS_MAX = 16, CLIENTS_MAX = 5, SERVERS_MAX = 16 };

enum { FLOOD = 3000 }; /* commands at once that are answered without a mail server */

#define LONGEST_TURN MILLIS(5)

/* Where an actor's run goes wrong. */
enum fate { FATE_WELL, FATE_RESET, FATE_FINISH, FATE_SILENT };

static const char logged_in[] = "+OK 3 messages, come in\r\n";

/* ---- the mail server ---- */

struct server {
    struct sim_actor actor;
    bool greeted, secure, gone;
    bool offers_stls, offers_plain, refuses;
    bool poisons;     /* says more behind its consent to STLS than it may */
    size_t read;      /* of what tproxy sent */
    struct buf heard; /* in clear text: all of it; lines are taken off its start */
    enum fate fate;
    size_t fate_line; /* how many lines it lives to see */
    size_t lines;
    bool in;                /* logged in */
    struct buf said, asked; /* after the login, in clear text */
};

/* ---- the client ---- */

struct client {
    struct sim_actor actor;
    int number; /* its mailbox commands carry it */
    char commands[COMMANDS_MAX][64];
    size_t n, next;
    bool pipelined, half_close, floods, gone, finished;
    bool talks_on; /* beyond QUIT */
    enum fate fate;
    size_t fate_bytes; /* how many bytes it lives to see */
    size_t read;       /* of the answers */
    bool multi;        /* the answer under way has several lines */
    struct buf asked;  /* what it asked of the mailbox */
};

/* What happens to all of them, at some time. */
enum incident { INCIDENT_NONE, INCIDENT_CHANGE, INCIDENT_CLOSE, INCIDENT_DRAIN };

static struct {
    struct server servers[SERVERS_MAX];
    struct client clients[CLIENTS_MAX];
    size_t n_servers, n_clients;
    bool refuse, implicit_tls, own_login;
    enum incident incident;
    const struct destination *dest;
    struct dest_source source;
    struct loop *loop;
} play;

static void put(struct buf *b, const void *p, size_t n)
{
    assert_int_equal(buf_add(b, p, n), OK);
}

/* ---- the mail server's part ---- */

static void serve(struct server *s, const void *p, size_t n)
{
    const char *text = p;
    if (s->in) {
        put(&s->said, p, n);
    }
    if (!s->secure) {
        sim_send(&s->actor, p, n);
        return;
    }
    while (n) {
        size_t piece = sim_chance(30) ? 1 + sim_rand(3) : 1 + sim_rand(16384);
        piece = piece < n ? piece : n;
        unsigned char head[2] = {(unsigned char)(piece >> 8), (unsigned char)piece};
        sim_send(&s->actor, head, 2);
        sim_send(&s->actor, text, piece);
        text += piece;
        n -= piece;
    }
}

static void serve_text(struct server *s, const char *text)
{
    serve(s, text, strlen(text));
}

static void serve_message(struct server *s)
{
    size_t n = sim_chance(15) ? sim_rand(400000) : sim_rand(3000);
    char *body = mem_alloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        body[i] = sim_chance(3)   ? '\r'
                  : sim_chance(3) ? '\n'
                  : sim_chance(3) ? '.'
                                  : (char)(' ' + sim_rand(90));
    }
    serve_text(s, "+OK message follows\r\n");
    serve(s, body, n);
    serve_text(s, "\r\n.\r\n");
    free(body);
}

static void let_in(struct server *s)
{
    serve_text(s, logged_in);
    s->in = true;
}

static void answer(struct server *s, const char *line)
{
    if (s->in) {
        put(&s->asked, line, strlen(line));
        put(&s->asked, "\r\n", 2);
    }
    if (strcmp(line, "CAPA") == 0) {
        serve_text(s, "+OK\r\nTOP\r\n");
        serve_text(s, s->offers_stls && !s->secure ? "STLS\r\n" : "");
        serve_text(s, s->offers_plain ? "SASL LOGIN PLAIN\r\n.\r\n" : "USER\r\n.\r\n");
    } else if (strcmp(line, "STLS") == 0) {
        serve_text(s, s->poisons ? "+OK begin\r\n+OK let me in\r\n" : "+OK begin\r\n");
        s->secure = true;
        sim_send(&s->actor, "HELLO", 5);
    } else if (strncmp(line, "USER", 4) == 0 && !s->in) {
        serve_text(s, "+OK\r\n");
    } else if ((strncmp(line, "PASS", 4) == 0 || strncmp(line, "AUTH", 4) == 0) && !s->in) {
        if (s->refuses) {
            serve_text(s, "-ERR [AUTH] who are you?\r\n");
        } else {
            let_in(s);
        }
    } else if (!s->in && strcmp(line, "QUIT") != 0) {
        serve_text(s, "-ERR log in\r\n");
    } else if (strncmp(line, "RETR", 4) == 0) {
        serve_message(s);
    } else if (strncmp(line, "LIST", 4) == 0) {
        serve_text(s, "+OK\r\n1 120\r\n2 200\r\n.\r\n");
    } else {
        serve_text(s, "+OK\r\n");
    }
    if (strcmp(line, "QUIT") == 0) {
        if (sim_chance(50)) {
            sim_close(&s->actor);
        } else {
            sim_finish(&s->actor);
        }
        s->gone = true;
    }
}

/* Takes the toy's records, or clear text, off what tproxy has sent. */
static void listen_to(struct server *s)
{
    size_t n;
    const char *p = sim_received(&s->actor, &n);
    if (!s->secure) {
        put(&s->heard, p + s->read, n - s->read);
        s->read = n;
        return;
    }
    static const char hello[] = "HELLO";
    while (n - s->read >= 2) {
        if (memcmp(p + s->read, hello, 2) == 0) {
            if (n - s->read < 5) {
                return;
            }
            s->read += 5;
            continue;
        }
        size_t length = (size_t)(unsigned char)p[s->read] << 8 | (unsigned char)p[s->read + 1];
        if (n - s->read < 2 + length) {
            return;
        }
        put(&s->heard, p + s->read + 2, length);
        s->read += 2 + length;
    }
}

static bool server_meets_fate(struct server *s)
{
    if (s->fate == FATE_WELL || s->lines < s->fate_line) {
        return false;
    }
    if (s->fate == FATE_RESET) {
        sim_reset(&s->actor);
    } else if (s->fate == FATE_FINISH) {
        sim_finish(&s->actor);
    }
    s->gone = true;
    return true;
}

static bool server_run(struct sim_actor *actor)
{
    struct server *s = container_of(actor, struct server, actor);
    if (s->gone) {
        return false;
    }
    if (server_meets_fate(s)) {
        return true;
    }
    if (!s->greeted) {
        s->greeted = true;
        if (s->secure) {
            sim_send(actor, "HELLO", 5);
        }
        serve_text(s, "+OK pleased to meet you\r\n");
        return true;
    }
    listen_to(s);
    struct str heard = buf_str(&s->heard);
    const char *end = heard.n ? memmem(heard.p, heard.n, "\r\n", 2) : NULL;
    if (end) {
        char line[512];
        text_fmt(line, sizeof(line), "%.*s", (int)(end - heard.p), heard.p);
        buf_drop(&s->heard, (size_t)(end - heard.p) + 2);
        s->lines++;
        answer(s, line);
        return true;
    }
    if (sim_ended(actor)) {
        sim_finish(actor);
        s->gone = true;
        return true;
    }
    return false;
}

/* ---- the client's part ---- */

static void ask(struct client *c, const char *command)
{
    char line[80];
    bool login = strncmp(command, "USER", 4) == 0 || strncmp(command, "PASS", 4) == 0 ||
                 strncmp(command, "AUTH", 4) == 0 || strncmp(command, "CAPA", 4) == 0;
    size_t n;
    if (login || strcmp(command, "QUIT") == 0) {
        n = text_fmt(line, sizeof(line), "%s\r\n", command);
    } else {
        n = text_fmt(line, sizeof(line), "%s %d\r\n", command, c->number);
    }
    if (!login) {
        put(&c->asked, line, n);
    }
    c->multi = strncmp(command, "RETR", 4) == 0 || strcmp(command, "LIST") == 0 ||
               strcmp(command, "CAPA") == 0;
    sim_send(&c->actor, line, n);
}

/* Has the answer to the last command come? */
static bool answered(struct client *c)
{
    size_t n;
    const char *p = sim_received(&c->actor, &n);
    const char *line = p + c->read,
               *end = n > c->read ? memmem(line, n - c->read, "\r\n", 2) : NULL;
    if (!end) {
        return false;
    }
    if (c->multi && line[0] == '+') {
        end = memmem(end, n - (size_t)(end - p), "\r\n.\r\n", 5);
        if (!end) {
            return false;
        }
        end += 3;
    }
    c->read = (size_t)(end + 2 - p);
    return true;
}

static bool client_meets_fate(struct client *c)
{
    size_t n;
    sim_received(&c->actor, &n);
    if (c->fate == FATE_WELL || n < c->fate_bytes) {
        return false;
    }
    if (c->fate == FATE_RESET) {
        sim_reset(&c->actor);
    } else if (c->fate == FATE_FINISH) {
        sim_finish(&c->actor);
    }
    c->gone = true;
    return true;
}

static bool client_run(struct sim_actor *actor)
{
    struct client *c = container_of(actor, struct client, actor);
    if (c->gone) {
        return false;
    }
    if (client_meets_fate(c)) {
        return true;
    }
    bool did = c->floods;
    for (int i = 0; c->floods && i < FLOOD; i++) {
        sim_send(actor, "NOOP\r\n", 6);
    }
    c->floods = false;
    while (c->next < c->n && (c->pipelined || answered(c))) {
        ask(c, c->commands[c->next++]);
        did = true;
    }
    if (c->next == c->n && !c->finished && (c->half_close || sim_ended(actor))) {
        sim_finish(actor);
        c->finished = did = true;
    }
    return did;
}

/* ---- a play ---- */

static void add_command(struct client *c, const char *command)
{
    if (c->n < COMMANDS_MAX) {
        text_fmt(c->commands[c->n++], sizeof(c->commands[0]), "%s", command);
    }
}

static enum fate choose_fate(void)
{
    return sim_chance(60) ? FATE_WELL : (enum fate)(1 + sim_rand(3));
}

static void cast_client(struct client *c, int number)
{
    static const char *const mailbox[] = {"STAT",   "LIST", "RETR 1", "RETR 2",
                                          "DELE 1", "NOOP", "UIDL 1"};
    *c = (struct client){.actor.run = client_run, .number = number};
    buf_init(&c->asked, 1 << 20);
    if (sim_chance(30)) {
        add_command(c, "CAPA");
    }
    switch (sim_rand(3)) {
    case 0:
        add_command(c, "USER someone");
        add_command(c, "PASS anything");
        break;
    case 1:
        add_command(c, "AUTH PLAIN AGEAYg==");
        break;
    default:
        add_command(c, "STAT"); /* no login at all */
        break;
    }
    for (size_t i = sim_rand(8); i > 0; i--) {
        add_command(c, mailbox[sim_rand(ARRAY_LEN(mailbox))]);
    }
    c->pipelined = sim_chance(40);
    c->half_close = sim_chance(40);
    c->floods = c->pipelined && sim_chance(10);
    if (!c->half_close || sim_chance(50)) {
        add_command(c, "QUIT");
        c->talks_on = c->pipelined && sim_chance(30);
    }
    if (c->talks_on) {
        add_command(c, "NOOP");
    }
    c->fate = choose_fate();
    c->fate_bytes = sim_chance(50) ? sim_rand(200) : sim_rand(5000);
}

static void cast_server(struct server *s)
{
    *s = (struct server){.actor.run = server_run};
    buf_init(&s->heard, 1 << 20);
    buf_init(&s->asked, 1 << 20);
    buf_init(&s->said, 16 << 20);
    s->secure = play.implicit_tls;
    s->offers_stls = sim_chance(60);
    s->offers_plain = sim_chance(60);
    s->refuses = sim_chance(10);
    s->poisons = sim_chance(10);
    s->fate = choose_fate();
    s->fate_line = sim_rand(8);
}

static struct sim_actor *server_connected(void)
{
    if (play.refuse || play.n_servers == SERVERS_MAX) {
        return NULL;
    }
    struct server *s = &play.servers[play.n_servers++];
    cast_server(s);
    return &s->actor;
}

struct dest_request {
    struct task task;
    struct dest_handler handler;
};

static void found(struct task *t)
{
    struct dest_request *request = container_of(t, struct dest_request, task);
    struct dest_handler handler = request->handler;
    free(request);
    handler.done(&(struct dest_answer){.dest = play.dest}, handler.arg);
}

static struct dest_request *find(struct dest_source *source, const struct dest_ref *ref,
                                 enum dest_purpose purpose, const struct dest_user *user,
                                 struct dest_handler handler)
{
    (void)source;
    (void)ref;
    (void)purpose;
    (void)user;
    struct dest_request *request = mem_zalloc(sizeof(*request));
    request->handler = handler;
    task_init(&request->task);
    loop_soon(play.loop, &request->task, found);
    return request;
}

static void cancel(struct dest_source *source, struct dest_request *request)
{
    (void)source;
    if (request) {
        task_cancel(&request->task);
        free(request);
    }
}

/* Differs from the one before in the password, and perhaps in STLS. */
static const struct destination *make_destination(void)
{
    static unsigned password;
    char text[1024];
    struct error err;
    struct destination_problem problem;
    const char *p = play.implicit_tls ? "pop3s" : "pop3";
    text_fmt(
        text, sizeof(text),
        "{\"Name\":\"sim\",\"Type\":\"MAIL\",\"ProxyType\":\"Internet\",\"mail.user\":\"u\","
        "\"mail.password\":\"p%u\",\"Authentication\":\"%s\",\"mail.transport.protocol\":\"%s\","
        "\"mail.%s.host\":\"10.0.0.1\",\"mail.%s.starttls.enable\":\"%s\"}",
        password++, play.own_login ? "NoAuthentication" : "BasicAuthentication", p, p, p,
        sim_chance(50) ? "true" : "false");
    struct json *doc = json_parse(str_of(text), &err);
    struct properties *props = properties_from_json(json_root(doc), &err);
    const struct destination *dest = destination_new(props, true, &problem);
    properties_free(props);
    json_free(doc);
    assert_non_null(dest);
    return dest;
}

static size_t count_quits(struct buf *b)
{
    struct str s = buf_str(b);
    size_t n = 0;
    for (size_t i = 0; i + 6 <= s.n; i++) {
        n += memcmp(s.p + i, "QUIT\r\n", 6) == 0;
    }
    return n;
}

/* The client whose commands the server heard. NULL: it heard none. */
static struct client *client_of(struct server *s)
{
    struct str heard = buf_str(&s->asked);
    size_t first = 0;
    while (first < heard.n && heard.p[first] != '\r') {
        first++;
    }
    if (first == 0 || strncmp(heard.p, "QUIT", 4) == 0) {
        return NULL; /* the proxy says this, too, for a client that asked for nothing else */
    }
    return &play.clients[heard.p[first - 1] - '0'];
}

/* What a client and the server of its mailbox have heard of each other. */
static void check_pair(struct client *c, struct server *s)
{
    struct str said = buf_str(&s->said), heard = buf_str(&s->asked), asked = buf_str(&c->asked);
    size_t n;
    const char *p = sim_received(&c->actor, &n);
    bool client_well = c->fate == FATE_WELL || !c->gone;
    bool server_heard_all = s->fate == FATE_WELL || !s->gone || s->fate == FATE_FINISH;
    assert_true(count_quits(&s->asked) <= count_quits(&c->asked));
    assert_non_null(memmem(asked.p, asked.n, heard.p, heard.n));
    if (!client_well || play.incident == INCIDENT_CLOSE) {
        return;
    }
    if (server_heard_all && s->fate != FATE_SILENT) {
        /* Everything that the server said has arrived, and nothing else behind it. */
        assert_true(n >= said.n);
        assert_memory_equal(p + n - said.n, said.p, said.n);
    }
    if (s->fate == FATE_WELL && !c->talks_on) {
        assert_memory_equal(asked.p + asked.n - heard.n, heard.p, heard.n);
    }
}

/* What all have seen, and how long it took, microseconds. */
static void check(int64_t took)
{
    bool silence = play.incident == INCIDENT_CLOSE;
    struct server *server_of[CLIENTS_MAX] = {NULL};
    for (size_t i = 0; i < play.n_servers; i++) {
        struct server *s = &play.servers[i];
        struct client *c = client_of(s);
        silence = silence || s->fate == FATE_SILENT;
        assert_false(s->in && s->refuses);
        assert_false(s->in && s->poisons && s->secure && !play.implicit_tls);
        if (c) {
            assert_null(server_of[c->number]); /* one login is all that a session needs */
            server_of[c->number] = s;
            check_pair(c, s);
        }
    }
    for (size_t i = 0; i < play.n_clients; i++) {
        silence = silence || play.clients[i].fate == FATE_SILENT;
    }
    if (!silence) {
        /* Nobody had to wait for a deadline but that of a client that ends its stream under TLS. */
        assert_true(took < SECONDS(10) + sim_rested());
    }
}

static void happen(struct pop3 *pop3, struct target *target)
{
    const struct destination *old = play.dest;
    switch (play.incident) {
    case INCIDENT_NONE:
        break;
    case INCIDENT_CHANGE:
        play.dest = make_destination();
        pop3_change(target, &(struct dest_ref){.name = "sim"}, play.dest);
        destination_unref(old);
        break;
    case INCIDENT_CLOSE:
        pop3_close(target);
        break;
    case INCIDENT_DRAIN:
        pop3_drain(pop3);
        break;
    }
}

static bool all_have_ended(struct pop3 *pop3)
{
    bool ended = pop3_sessions(pop3) == 0 && conn_count() == 0;
    for (size_t i = 0; i < play.n_clients; i++) {
        ended = ended && sim_ended(&play.clients[i].actor);
    }
    return ended;
}

static void cast(void)
{
    play.implicit_tls = sim_chance(25);
    play.own_login = sim_chance(20);
    play.dest = make_destination();
    play.source = (struct dest_source){.find = find, .cancel = cancel};
    play.refuse = sim_chance(5);
    play.incident = sim_chance(30) ? (enum incident)(1 + sim_rand(3)) : INCIDENT_NONE;
    play.n_clients = sim_chance(50) ? 1 : 1 + sim_rand(CLIENTS_MAX);
    for (size_t i = 0; i < play.n_clients; i++) {
        cast_client(&play.clients[i], (int)i);
    }
}

static void end_cast(void)
{
    for (size_t i = 0; i < play.n_servers; i++) {
        buf_free(&play.servers[i].heard);
        buf_free(&play.servers[i].said);
        buf_free(&play.servers[i].asked);
    }
    for (size_t i = 0; i < play.n_clients; i++) {
        buf_free(&play.clients[i].asked);
    }
    destination_unref(play.dest);
}

static void run_seed(uint64_t seed)
{
    struct pop3_config config = {.login_timeout = SECONDS(60),
                                 .answer_timeout = SECONDS(30),
                                 .idle_timeout = SECONDS(600),
                                 .allow_local = true};
    union addr at = {.v4.sin_family = AF_INET};
    struct error err;
    memset(&play, 0, sizeof(play));
    sim_start(seed);
    play.loop = loop_new(&err);
    cast();
    config.max_sessions = sim_chance(20) ? 2 + sim_rand(4) : 100;
    sim_on_connect(server_connected);
    struct dns *dns = dns_new(play.loop, "/nonexistent", "/nonexistent");
    struct pop3 *pop3 = pop3_new(play.loop, dns, NULL, &config, &err);
    struct dest_ref ref = {.name = "sim"};
    struct pop3_target what = {
        .name = "sim", .source = &play.source, .ref = &ref, .dest = play.dest};
    struct target *target = pop3_open(pop3, &what, &at, &err);
    assert_non_null(target);
    for (size_t i = 0; i < play.n_clients; i++) {
        sim_connect(&play.clients[i].actor);
    }
    size_t turns = 0, incident_turn = sim_rand(200);
    int64_t started = loop_now(play.loop);
    do {
        loop_turn(play.loop, true);
        (void)log_flush();
        if (turns == incident_turn) {
            happen(pop3, target);
        }
        assert_true(++turns < TURNS_MAX);
        assert_false(sim_stuck());
    } while (!all_have_ended(pop3));
    check(loop_now(play.loop) - started);
    assert_true(loop_stats(play.loop).longest_turn < LONGEST_TURN);
    pop3_abort(pop3);
    dns_free(dns);
    loop_turn(play.loop, false);
    pop3_free(pop3);
    loop_free(play.loop);
    pipes_close();
    end_cast();
    assert_int_equal(sim_stop(), 0);
}

static void test_seeds(void **state)
{
    (void)state;
    const char *one = getenv("SIM_SEED"), *count = getenv("SIM_COUNT");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1;
    uint64_t last = one ? first : count ? strtoull(count, NULL, 10) : SEEDS;
    log_open(STDERR_FILENO, LOG_FORMAT_TEXT);
    log_set_level(one ? LOG_TRACE : LOG_FATAL);
    for (uint64_t seed = first; seed <= last; seed++) {
        fprintf(stderr, one ? "seed %llu\n" : "\rseed %llu ", (unsigned long long)seed);
        run_seed(seed);
    }
    fprintf(stderr, ": the last\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
