/* The clients of the simulation: they send everything at once, in packets, or one command after
 * another, with and without a login. They half-close, read slowly, send urgent data, or vanish. */
#include "tests/unit/simulation/play.h"

#include <string.h>

static const char *find(const char *p, size_t n, const char *text)
{
    return n ? memmem(p, n, text, strlen(text)) : NULL;
}

/* ---- its commands ---- */

/* Adds a command. `message` counts from 1; 0: the command is not about a message. */
static void add_command(struct client *c, const char *verb, int message)
{
    if (c->n == COMMANDS_MAX) {
        return;
    }
    struct command *command = &c->commands[c->n];
    *command = (struct command){.message = message - 1};
    command->login = strncmp(verb, "USER", 4) == 0 || strncmp(verb, "PASS", 4) == 0 ||
                     strncmp(verb, "AUTH", 4) == 0 || strcmp(verb, "CAPA") == 0;
    command->retrieves = strcmp(verb, "RETR") == 0;
    command->deletes = strcmp(verb, "DELE") == 0;
    command->quits = strcmp(verb, "QUIT") == 0;
    command->multi = command->retrieves || strcmp(verb, "LIST") == 0 || strcmp(verb, "CAPA") == 0;
    if (command->login) {
        text_fmt(command->text, sizeof(command->text), "%s", verb);
    } else if (message) {
        text_fmt(command->text, sizeof(command->text), "%s %d %d.%zu", verb, message, c->number,
                 c->n);
    } else {
        text_fmt(command->text, sizeof(command->text), "%s %d.%zu", verb, c->number, c->n);
    }
    c->n++;
}

static void add_login(struct client *c)
{
    if (sim_chance(30)) {
        add_command(c, "CAPA", 0);
    }
    switch (sim_rand(3)) {
    case 0:
        add_command(c, "USER someone", 0);
        add_command(c, "PASS anything", 0);
        break;
    case 1:
        add_command(c, "AUTH PLAIN AGEAYg==", 0);
        break;
    default:
        break; /* no login */
    }
}

/* Fetches messages and deletes each, at once or after all have been fetched. */
static void add_fetch(struct client *c)
{
    bool at_once = sim_chance(50);
    int last = 1 + (int)sim_rand(MESSAGES);
    if (sim_chance(50)) {
        add_command(c, sim_chance(50) ? "STAT" : "LIST", 0);
    }
    for (int m = 1; m <= last; m++) {
        add_command(c, "RETR", m);
        if (at_once) {
            add_command(c, "DELE", m);
        }
    }
    for (int m = 1; m <= last && !at_once; m++) {
        add_command(c, "DELE", m);
    }
}

static void add_anything(struct client *c)
{
    static const char *const verbs[] = {"STAT", "LIST", "RETR", "RETR", "DELE", "NOOP", "RSET"};
    for (size_t i = sim_rand(8); i > 0; i--) {
        const char *verb = verbs[sim_rand(ARRAY_LEN(verbs))];
        bool of_message = strcmp(verb, "RETR") == 0 || strcmp(verb, "DELE") == 0;
        add_command(c, verb, of_message ? 1 + (int)sim_rand(MESSAGES) : 0);
    }
}

static void choose_fate(struct client *c)
{
    c->fate = sim_chance(65) ? FATE_WELL : (enum fate)(1 + sim_rand(3));
    c->fate_bytes = sim_chance(50) ? sim_rand(200) : sim_rand(5000);
    c->fate_time = INT64_MAX;
    if (sim_chance(40)) {
        c->fate_bytes = SIZE_MAX;
        c->fate_time = c->comes + (int64_t)sim_rand(SECONDS(10));
    }
}

static void was_sent(struct sim_actor *actor, size_t to);
static bool client_run(struct sim_actor *actor);

void client_cast(struct client *c, int number)
{
    *c = (struct client){.actor = {.run = client_run, .was_sent = was_sent}, .number = number};
    buf_init(&c->asked, 1 << 20);
    add_login(c);
    if (sim_chance(65)) {
        add_fetch(c);
    } else {
        add_anything(c);
    }
    c->manner = (enum manner)sim_rand(3);
    c->half_close = sim_chance(40);
    c->urgent = sim_chance(10);
    c->gives_up = sim_chance(50);
    c->floods = c->manner == MANNER_AT_ONCE && sim_chance(10);
    c->flood = c->floods ? FLOOD : 0;
    if (!c->half_close || c->n == 0 || sim_chance(60)) {
        add_command(c, "QUIT", 0);
        c->talks_on = c->manner == MANNER_AT_ONCE && sim_chance(20);
    }
    if (c->talks_on) {
        add_command(c, "NOOP", 0);
    }
    c->comes = sim_clock() + (sim_chance(50) ? 0 : (int64_t)sim_rand(SECONDS(40)));
    choose_fate(c);
}

void client_free(struct client *c)
{
    buf_free(&c->asked);
}

/* ---- its answers ---- */

/* Returns the command whose answer comes next; NULL: that is the greeting or an answer to the
 * flood. */
static struct command *awaited(struct client *c)
{
    return c->answers == 0 || c->flood ? NULL : &c->commands[c->answers - 1];
}

void client_listen(struct client *c)
{
    size_t n;
    const char *p = sim_received(&c->actor, &n);
    while (c->read < n && (c->answers <= c->next || c->flood)) {
        struct command *command = awaited(c);
        const char *line = p + c->read, *end = find(line, n - c->read, "\r\n");
        if (end && command && command->multi && line[0] == '+') {
            end = find(end, n - (size_t)(end - p), MARKER);
            end = end ? end + MARKER_LEN - 2 : NULL;
        }
        if (!end) {
            return;
        }
        if (command) {
            command->verdict = line[0];
        }
        c->flood -= c->flood && c->answers;
        c->answers += command || c->answers == 0;
        c->read = (size_t)(end + 2 - p);
    }
}

/* Records where tproxy ended a piece behind the beginning of a marker. */
static void was_sent(struct sim_actor *actor, size_t to)
{
    struct client *c = container_of(actor, struct client, actor);
    size_t n;
    const char *p = sim_received(actor, &n);
    for (size_t part = 1; part < MARKER_LEN; part++) {
        if (to >= part && memcmp(p + to - part, MARKER, part) == 0 && c->n_edges < EDGES_MAX) {
            c->edges[c->n_edges++] = to;
            return;
        }
    }
}

/* ---- its actions ---- */

static void ask(struct client *c, struct command *command)
{
    char line[80];
    size_t n = text_fmt(line, sizeof(line), "%s\r\n", command->text);
    command->seen = c->answers;
    if (!command->login) {
        put(&c->asked, line, n);
    }
    size_t first = c->urgent && sim_chance(50) ? 1 + sim_rand(n) : 0;
    sim_send(&c->actor, line, first);
    if (first) {
        sim_urge(&c->actor);
    }
    sim_send(&c->actor, line + first, n - first);
}

static bool client_meets_fate(struct client *c)
{
    size_t n;
    sim_received(&c->actor, &n);
    if (c->fate == FATE_WELL || (n < c->fate_bytes && sim_clock() < c->fate_time)) {
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

/* Lets the client drop its other commands and say QUIT. */
static void give_up(struct client *c)
{
    size_t quit = c->next;
    while (quit < c->n && !c->commands[quit].quits) {
        quit++;
    }
    for (size_t i = c->next; i < quit; i++) {
        c->commands[i] = (struct command){.message = -1};
    }
    struct command said = quit < c->n ? c->commands[quit] : (struct command){0};
    c->n = c->next;
    if (said.quits) {
        add_command(c, "QUIT", 0);
    }
}

static bool may_ask(struct client *c)
{
    switch (c->manner) {
    case MANNER_AT_ONCE:
        return true;
    case MANNER_IN_PACKETS:
        return sim_clock() >= c->next_packet;
    case MANNER_WAITING:
        break;
    }
    if (c->answers <= c->next) {
        return false;
    }
    if (c->gives_up && c->next && c->commands[c->next - 1].verdict == '-') {
        c->gives_up = false;
        give_up(c);
    }
    return c->next < c->n;
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
    client_listen(c);
    while (c->next < c->n && may_ask(c)) {
        ask(c, &c->commands[c->next++]);
        did = true;
        if (c->manner == MANNER_IN_PACKETS && sim_chance(50)) {
            int64_t pause = (int64_t)sim_rand(sim_chance(50) ? MILLIS(2) : SECONDS(2));
            c->next_packet = sim_clock() + pause;
            play.waited += pause;
        }
    }
    if (c->next < c->n && c->manner == MANNER_IN_PACKETS) {
        sim_wake(actor, c->next_packet);
    } else if (c->fate != FATE_WELL && sim_clock() < c->fate_time && c->fate_time != INT64_MAX) {
        sim_wake(actor, c->fate_time);
    }
    if (c->next == c->n && !c->finished && (c->half_close || sim_ended(actor))) {
        sim_finish(actor);
        c->finished = did = true;
    }
    return did;
}
