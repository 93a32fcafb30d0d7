/* Whole sessions in a simulated world: clients, tproxy, the Connectivity Proxy, mail servers. A
 * seed decides which bytes arrive when and in which pieces, in which TLS version, how the clients
 * log in, which actors refuse, think slowly, read slowly, vanish or fall silent, and when the
 * destination changes or is deleted. For every seed the rules of play_judge.c hold and nothing
 * leaks.
 *
 *   SIM_SEED=n    runs one seed, with tproxy's log
 *   SIM_COUNT=n   runs the first n
 *   SIM_JOBS=n    uses n processes; without it, as many as there are processors
 *   SIM_ALL=1     continues after a seed that fails
 *
 * The test itself is tested with faults. After a change of the world or the judge, put each of
 * these faults into the product, one at a time, and check that a seed fails. The number is the
 * first seed that did.
 *
 *   pop3/client.c, on_mailbox: mailbox commands start a login after a failed one too          13
 *   the same, but not those that had arrived when the failure was sent                      2188
 *   lib/relay.c, patience: a TLS backend has 2 s for an answer, also after QUIT               47
 *   lib/conn.c, proves_empty: a short read is believed in spite of urgent data                11
 *   lib/conn.c, conn_splice: an end marker may be cut at the edge of a pipe                   94
 *   lib/relay.c, copy: no beginning of an end marker is held back                            951
 *   lib/relay.c, look: only an empty queue counts as movement                                240
 *   pop3/trials.c, trials_ask: all sessions show a password at once                          120 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/dest_source.h"
#include "core/destination.h"
#include "core/properties.h"
#include "core/token.h"
#include "lib/addr.h"
#include "lib/conn.h"
#include "lib/dns.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/pipes.h"
#include "pop3.h"
#include "tests/unit/simulation/play.h"

enum { SEEDS = 12000, TURNS_MAX = 200000, JOBS_MAX = 16 };

#define LONGEST_TURN MILLIS(5)

struct play play;

/* The destination that tproxy is given. */
static struct {
    struct loop *loop;
    struct dest_source source;
    const struct destination *dest;
    unsigned version;
    struct token *way; /* the token that is shown to the Connectivity Proxy */
} ours;

/* Prints the behaviour of a client and the outcome of its commands. */
static void describe(const struct client *c)
{
    static const char *const manners[] = {"one command after the other", "all at once",
                                          "in packets"};
    static const char *const fates[] = {"", ", is reset", ", ends its stream", ", falls silent"};
    fprintf(stderr, "client %d sends %s%s%s%s:", c->number, manners[c->manner],
            c->urgent ? ", with urgent data" : "", c->half_close ? ", half-closes" : "",
            c->gone ? fates[c->fate] : "");
    for (size_t i = 0; i < c->next; i++) {
        const struct command *command = &c->commands[i];
        fprintf(stderr, "\n  %-24s %c%s", command->text, command->verdict ? command->verdict : ' ',
                command->by ? ", by the mail server" : "");
    }
    fprintf(stderr, "\n");
}

void broken(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "\nseed %llu: ", (unsigned long long)play.seed);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\nto see it again: SIM_SEED=%llu %s\n", (unsigned long long)play.seed,
            program_invocation_name);
    va_end(ap);
    for (size_t i = 0; i < play.n_clients; i++) {
        describe(&play.clients[i]);
    }
    _exit(1);
}

/* ---- the destination ---- */

struct dest_request {
    struct task task;
    struct timer timer;
    struct dest_handler handler;
};

static struct token *new_token(void)
{
    struct error err;
    struct token *token = token_new(str_of("a.b.c"), INT64_MAX, &err);
    assert_non_null(token);
    token->received = ours.loop ? loop_now(ours.loop) : 0;
    return token;
}

static void found(struct dest_request *request)
{
    struct dest_handler handler = request->handler;
    struct dest_route route = {
        .host = "10.0.0.9", .port = 20004, .timeout = SECONDS(5), .token = ours.way};
    struct dest_answer answer = {.dest = ours.dest, .route = play.on_premise ? &route : NULL};
    free(request);
    if (play.excuses && sim_chance(5)) {
        answer = (struct dest_answer){.dest = NULL};
        error_set(&answer.err, FAIL_TIMEOUT, "the Destination service does not answer");
    }
    handler.done(&answer, handler.arg);
}

static void found_soon(struct task *t)
{
    found(container_of(t, struct dest_request, task));
}

static void found_late(struct timer *t)
{
    found(container_of(t, struct dest_request, timer));
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
    if (sim_chance(20)) {
        int64_t delay = (int64_t)sim_rand(SECONDS(2));
        play.waited += delay;
        timer_set(ours.loop, &request->timer, loop_now(ours.loop) + delay, found_late);
    } else {
        loop_soon(ours.loop, &request->task, found_soon);
    }
    return request;
}

/* Only the Connectivity Proxy's token can be refused here. */
static void refused(struct dest_source *source, const struct dest_ref *ref,
                    const struct dest_user *user, const struct token *token)
{
    (void)source;
    (void)ref;
    (void)user;
    if (token == ours.way) {
        token_unref(ours.way);
        ours.way = new_token();
    }
}

static void cancel(struct dest_source *source, struct dest_request *request)
{
    (void)source;
    if (request) {
        task_cancel(&request->task);
        timer_cancel(ours.loop, &request->timer);
        free(request);
    }
}

/* The second destination differs from the first in the password, and perhaps in STLS. */
static const struct destination *make_destination(void)
{
    char text[1024];
    struct error err;
    struct destination_problem problem;
    const char *p = play.implicit_tls ? "pop3s" : "pop3";
    text_fmt(text, sizeof(text),
             "{\"Name\":\"sim\",\"Type\":\"MAIL\",\"ProxyType\":\"%s\",\"mail.user\":\"u\","
             "\"mail.password\":\"p%u\",\"Authentication\":\"%s\","
             "\"mail.transport.protocol\":\"%s\",\"mail.%s.host\":\"10.0.0.1\","
             "\"mail.%s.starttls.enable\":\"%s\"}",
             play.on_premise ? "OnPremise" : "Internet", ours.version++,
             play.own_login ? "NoAuthentication" : "BasicAuthentication", p, p, p,
             sim_chance(50) ? "true" : "false");
    struct json *doc = json_parse(str_of(text), &err);
    struct properties *props = properties_from_json(json_root(doc), &err);
    const struct destination *dest = destination_new(props, true, &problem);
    properties_free(props);
    json_free(doc);
    assert_non_null(dest);
    return dest;
}

static struct sim_actor *server_connected(void)
{
    if (play.refuses || play.n_servers == SERVERS_MAX) {
        return NULL;
    }
    struct server *s = &play.servers[play.n_servers++];
    server_cast(s);
    return &s->actor;
}

/* ---- a play ---- */

/* Writes lines with ends of every kind. No line begins with a period, which would be an end marker
 * or would have to be doubled (RFC 1939 section 3). */
static void write_message(struct message *m, size_t n)
{
    m->n = n;
    m->body = mem_alloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t r = sim_rand(100);
        char c = r < 3 ? '\r' : r < 6 ? '\n' : r < 9 ? '.' : (char)(' ' + r % 90);
        bool line_begins = i < 2 || (m->body[i - 1] == '\n' && m->body[i - 2] == '\r');
        m->body[i] = c == '.' && line_begins ? ',' : c;
    }
}

/* Returns a size that is large enough for splicing. Full reads have multiples of 16 KiB, so one
 * often ends in the end marker when the rest of the message is all that there is to read. */
static size_t large_size(void)
{
    if (play.slow_reader) {
        return 70000 + sim_rand(60000);
    }
    size_t head = strlen("+OK message 1 for 0.0\r\n");
    return sim_chance(50) ? sim_rand(400000)
                          : 16384 * (1 + sim_rand(16)) - head - 1 - sim_rand(MARKER_LEN);
}

static void cast(void)
{
    play.implicit_tls = sim_chance(25);
    play.own_login = sim_chance(15);
    play.on_premise = sim_chance(30);
    play.with_token = sim_chance(60);
    play.tokens_refused = sim_chance(30) ? 1 + (unsigned)sim_rand(3) : 0;
    play.excuses = sim_chance(40);
    play.locks = sim_chance(40);
    play.refuses = sim_chance(5);
    play.slow_reader = sim_chance(4);
    play.idle_timeout = play.slow_reader ? SECONDS(40) : SECONDS(600);
    for (unsigned v = 0; v < VERSIONS_MAX; v++) {
        play.versions[v].wrong = sim_chance(15);
    }
    for (size_t m = 0; m < MESSAGES; m++) {
        bool large = play.slow_reader ? m == 0 : sim_chance(15);
        write_message(&play.messages[m], large ? large_size() : sim_rand(3000));
    }
    play.incident = sim_chance(30) ? (enum incident)(1 + sim_rand(3)) : INCIDENT_NONE;
    play.n_clients = sim_chance(50) ? 1 : 1 + sim_rand(CLIENTS_MAX);
    for (size_t i = 0; i < play.n_clients; i++) {
        client_cast(&play.clients[i], (int)i);
    }
    ours.version = 0;
    ours.dest = make_destination();
    ours.way = play.on_premise && play.with_token ? new_token() : NULL;
    ours.source = (struct dest_source){.find = find, .cancel = cancel, .refused = refused};
}

static void end_cast(void)
{
    for (size_t i = 0; i < play.n_servers; i++) {
        server_free(&play.servers[i]);
    }
    for (size_t i = 0; i < play.n_clients; i++) {
        client_free(&play.clients[i]);
    }
    for (size_t i = 0; i < MESSAGES; i++) {
        free(play.messages[i].body);
    }
    destination_unref(ours.dest);
    token_unref(ours.way);
}

static void happen(struct pop3 *pop3, struct target *target)
{
    const struct destination *old = ours.dest;
    play.incident_at = sim_clock();
    switch (play.incident) {
    case INCIDENT_NONE:
        break;
    case INCIDENT_CHANGE:
        ours.dest = make_destination();
        pop3_change(target, &(struct dest_ref){.name = "sim"}, ours.dest);
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

static void enter(void)
{
    for (size_t i = 0; i < play.n_clients; i++) {
        struct client *c = &play.clients[i];
        sim_connect_at(&c->actor, c->comes);
        if (play.slow_reader && i == 0) {
            sim_read_slowly(&c->actor);
        }
        int64_t later = c->comes - sim_clock();
        play.waited = play.waited > later ? play.waited : later;
    }
}

/* Turns the loop until all actors have finished. Returns how long it took, in microseconds. */
static int64_t perform(struct pop3 *pop3, struct target *target)
{
    size_t turns = 0, incident_turn = sim_rand(200);
    int64_t started = loop_now(ours.loop);
    bool ended;
    do {
        loop_turn(ours.loop, true);
        (void)log_flush();
        if (turns == incident_turn) {
            happen(pop3, target);
        }
        ended = all_have_ended(pop3);
        if (!ended && (++turns == TURNS_MAX || sim_stuck())) {
            broken(sim_stuck() ? "nothing happens any more, and tproxy waits for nothing"
                               : "it does not end");
        }
    } while (!ended);
    return loop_now(ours.loop) - started;
}

static void run_seed(uint64_t seed)
{
    struct pop3_settings config = {
        .login_timeout = SECONDS(300), .answer_timeout = SECONDS(30), .allow_local = true};
    union addr at = {.v4.sin_family = AF_INET};
    struct error err;
    memset(&play, 0, sizeof(play));
    play.seed = seed;
    sim_start(seed);
    ours.loop = loop_new(&err);
    cast();
    config.idle_timeout = play.idle_timeout;
    config.max_sessions = sim_chance(20) ? 2 + sim_rand(4) : 100;
    sim_on_connect(server_connected);
    struct dns *dns = dns_new(ours.loop, "/nonexistent", "/nonexistent");
    struct pop3 *pop3 = pop3_new(ours.loop, dns, NULL, &config, &err);
    struct dest_ref ref = {.name = "sim"};
    struct pop3_target what = {
        .name = "sim", .source = &ours.source, .ref = &ref, .dest = ours.dest};
    struct target *target = pop3_open(pop3, &what, &at, &err);
    assert_non_null(target);
    enter();
    judge(perform(pop3, target));
    if (loop_stats(ours.loop).longest_turn >= LONGEST_TURN) {
        broken("a turn of the loop takes %lld us", (long long)loop_stats(ours.loop).longest_turn);
    }
    pop3_abort(pop3);
    dns_free(dns);
    loop_turn(ours.loop, false);
    pop3_free(pop3);
    loop_free(ours.loop);
    pipes_close();
    end_cast();
    int left = sim_stop();
    if (left) {
        broken("%d descriptors are left open", left);
    }
}

/* ---- seeds, side by side ---- */

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Runs a seed in a process of its own. Returns whether it passed. */
static bool run_apart(uint64_t seed)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run_seed(seed);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status == 0;
}

/* Runs every `step`th seed. `at` tells the parent the current one in case the process dies. */
static void run_some(uint64_t first, uint64_t last, uint64_t step, volatile uint64_t *at)
{
    bool all = number_from("SIM_ALL", 0), well = true;
    for (uint64_t seed = first; seed <= last; seed += step) {
        *at = seed;
        if (!all) {
            run_seed(seed);
        } else if (!run_apart(seed)) {
            well = false;
        }
    }
    if (!well) {
        exit(1);
    }
}

static void run_side_by_side(uint64_t last, uint64_t jobs)
{
    volatile uint64_t *at = mmap(NULL, JOBS_MAX * sizeof(*at), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    pid_t children[JOBS_MAX];
    bool failed = false;
    fflush(NULL);
    for (uint64_t i = 0; i < jobs; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            run_some(1 + i, last, jobs, &at[i]);
            exit(0); /* exits, so that the sanitizer looks for leaks */
        }
    }
    for (uint64_t i = 0; i < jobs; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        if (status) {
            fprintf(stderr, "process %llu stopped at seed %llu (%s %d)\n", (unsigned long long)i,
                    (unsigned long long)at[i], WIFSIGNALED(status) ? "signal" : "status",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            failed = true;
        }
    }
    assert_false(failed);
}

static void test_seeds(void **state)
{
    (void)state;
    uint64_t one = number_from("SIM_SEED", 0), last = number_from("SIM_COUNT", SEEDS);
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t jobs = number_from("SIM_JOBS", processors > 0 ? (uint64_t)processors : 1);
    log_open(STDERR_FILENO, LOG_FORMAT_TEXT);
    log_set_level(one ? LOG_TRACE : LOG_FATAL);
    if (one) {
        run_seed(one);
        return;
    }
    run_side_by_side(last, jobs < 1 ? 1 : jobs < JOBS_MAX ? jobs : JOBS_MAX);
    fprintf(stderr, "%llu seeds\n", (unsigned long long)last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
