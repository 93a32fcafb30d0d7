/* Fuzzes the answers to the HTTP client, in pieces of every size, in the simulated world. Every
 * call ends once and within its bounds, and nothing leaks.
 *
 * The first three bytes choose the pieces, the calls and how a server ends. The rest is what
 * servers send: each request that a server reads is answered with the next part, up to an 0xFF. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "lib/conn.h"
#include "lib/dns.h"
#include "lib/loop.h"
#include "tests/unit/simulation/sim.h"

enum { CALLS = 3, SERVERS = 2 * CALLS, BODY_MAX = 100, TURNS_MAX = 100000 };

/* Bits of the second byte. */
enum { HANDED_ON = 1, HEAD = 2, TWO_CONNECTIONS = 4, CANCEL = 8, RESET = 16, SILENT = 32 };

struct call {
    struct http_call *call;
    bool handed_on, over;
    size_t got;
};

struct server {
    struct sim_actor actor;
    size_t heard;
    bool gone;
};

static struct {
    struct str script;
    unsigned choice;
    struct server servers[SERVERS];
    size_t n_servers;
} play;

static void must(bool what)
{
    if (!what) {
        abort();
    }
}

static bool server_run(struct sim_actor *actor)
{
    struct server *s = container_of(actor, struct server, actor);
    size_t heard;
    sim_received(actor, &heard);
    if (s->gone || heard == s->heard) {
        return false;
    }
    s->heard = heard;
    if (play.script.n) {
        struct str part = str_cut(&play.script, (char)0xFF);
        sim_send(actor, part.p, part.n);
        return true;
    }
    s->gone = true;
    if (play.choice & RESET) {
        sim_reset(actor);
    } else if (!(play.choice & SILENT)) {
        sim_finish(actor);
    }
    return true;
}

static struct sim_actor *connected(void)
{
    must(play.n_servers < SERVERS);
    struct server *s = &play.servers[play.n_servers++];
    s->actor.run = server_run;
    return &s->actor;
}

static void on_piece(struct str piece, void *arg)
{
    struct call *call = arg;
    must(piece.n > 0 && call->handed_on && !call->over);
    call->got += piece.n;
    if (play.choice & CANCEL) {
        call->over = true;
        http_cancel(call->call);
    }
}

static void on_done(const struct http_answer *answer, const struct error *err, void *arg)
{
    struct call *call = arg;
    must(!call->over && !answer == (err != NULL));
    call->over = true;
    if (answer) {
        must(answer->head->status >= 200 && answer->head->status <= 599);
        must(answer->body.n <= BODY_MAX && (answer->body.n == 0 || call->got == 0));
        must(http_retry_after(answer->head) >= 0);
    } else {
        must(err->fail != FAIL_NONE && err->fail != FAIL_INTERNAL);
    }
}

static void start(struct http *http, struct call *call, size_t i)
{
    call->handed_on = i < 2 && play.choice & HANDED_ON;
    struct http_message message = {.method = i == 1 && play.choice & HEAD ? "HEAD" : "GET",
                                   .target = str_of("/"),
                                   .answer_timeout = SECONDS(30),
                                   .silence_timeout = SECONDS(30),
                                   .body_max = BODY_MAX};
    struct http_handler handler = {
        .data = call->handed_on ? on_piece : NULL, .done = on_done, .arg = call};
    call->call = http_start(http, &message, handler);
}

static void run(struct loop *loop, struct dns *dns)
{
    struct call calls[CALLS] = {0};
    struct http_settings settings = {.host = "10.0.0.1",
                                     .port = 80,
                                     .authority = "api.test",
                                     .max_connections = play.choice & TWO_CONNECTIONS ? 2 : 1,
                                     .connect_timeout = SECONDS(5)};
    struct http *http = http_new(loop, dns, &settings);
    for (size_t i = 0; i < CALLS; i++) {
        start(http, &calls[i], i);
    }
    for (size_t turn = 0; !calls[0].over || !calls[1].over || !calls[2].over; turn++) {
        loop_turn(loop, true);
        must(turn < TURNS_MAX && conn_count() <= settings.max_connections);
    }
    http_free(http);
    must(conn_count() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err;
    if (size < 3) {
        return 0;
    }
    memset(&play, 0, sizeof(play));
    play.choice = data[1];
    play.script = (struct str){(const char *)data + 3, size - 3};
    sim_start((uint64_t)data[0] << 8 | data[2]);
    sim_on_connect(connected);
    struct loop *loop = loop_new(&err);
    struct dns *dns = dns_new(loop, "/nonexistent", "/nonexistent");
    run(loop, dns);
    dns_free(dns);
    loop_turn(loop, false);
    loop_free(loop);
    must(sim_stop() == 0);
    return 0;
}
