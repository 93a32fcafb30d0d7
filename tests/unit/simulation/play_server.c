/* The mail servers of the simulation, all with one maildrop (RFC 1939): a message that is marked as
 * deleted is deleted when the session that marked it says QUIT, and only then. They refuse logins,
 * wait, cut their TLS records anywhere, fall silent and die. */
#include "tests/unit/simulation/play.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

static const char logged_in[] = "+OK 3 messages, come in\r\n";

void put(struct buf *b, const void *p, size_t n)
{
    if (buf_add(b, p, n) != OK) {
        broken("a buffer of the test is too small");
    }
}

/* ---- its behaviour ---- */

static void was_read(struct sim_actor *actor, size_t from, size_t to, size_t there);
static bool server_run(struct sim_actor *actor);

void server_cast(struct server *s)
{
    *s = (struct server){.actor = {.run = server_run, .was_read = was_read}};
    buf_init(&s->heard, 1 << 20);
    buf_init(&s->asked, 1 << 20);
    buf_init(&s->said, 16 << 20);
    buf_init(&s->held, 16 << 20);
    s->tunnel.stage = TUNNEL_OPEN;
    if (play.on_premise) {
        tunnel_cast(s);
    }
    s->secure = play.implicit_tls;
    s->offers_stls = sim_chance(60);
    s->offers_plain = sim_chance(60);
    s->poisons = sim_chance(5);
    s->excuse =
        play.excuses && sim_chance(60) ? (enum excuse)(1 + sim_rand(EXCUSES - 1)) : EXCUSE_NONE;
    s->fate = sim_chance(70) ? FATE_WELL : (enum fate)(1 + sim_rand(3));
    s->fate_line = sim_rand(12);
    s->pace = sim_chance(50) ? PACE_PROMPT : (enum pace)(1 + sim_rand(2));
    s->delay = (int64_t)sim_rand(s->pace == PACE_LATE ? SECONDS(20) : SECONDS(5));
}

void server_free(struct server *s)
{
    buf_free(&s->heard);
    buf_free(&s->asked);
    buf_free(&s->said);
    buf_free(&s->held);
}

/* ---- its words ---- */

/* Records the end markers in the clear text that is sent next. */
static void note_markers(struct server *s, const char *p, size_t n)
{
    const char *at = p;
    while ((at = memmem(at, n - (size_t)(at - p), MARKER, MARKER_LEN)) != NULL) {
        if (s->n_markers < MARKERS_MAX) {
            size_t wire = sim_sent(&s->actor) + (size_t)(at - p);
            s->markers[s->n_markers++] = (struct marker){.at = wire};
        }
        at += MARKER_LEN;
    }
}

static void was_read(struct sim_actor *actor, size_t from, size_t to, size_t there)
{
    struct server *s = container_of(actor, struct server, actor);
    (void)from;
    if (s->refused && to >= s->verdict_at) {
        struct version *version = &play.versions[s->version];
        version->refusals++;
        version->refused_at = sim_clock();
        s->refused = false;
    }
    while (s->first_marker < s->n_markers && s->markers[s->first_marker].at < to) {
        struct marker *marker = &s->markers[s->first_marker++];
        marker->whole = there >= marker->at + MARKER_LEN;
    }
}

/* Sends at once, in TLS records of every size. */
static void say(struct server *s, const void *p, size_t n)
{
    const char *text = p;
    if (s->in) {
        put(&s->said, p, n);
    }
    if (!s->secure) {
        if (s->in) {
            note_markers(s, text, n);
        }
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

/* Sends the answer, now or later. A server that has seen the end of TLS sends nothing more. */
static void serve(struct server *s, const void *p, size_t n)
{
    if (s->notified) {
        return;
    }
    if (!s->in || s->pace != PACE_LATE) {
        say(s, p, n);
        return;
    }
    if (buf_len(&s->held) == 0) {
        s->release = sim_clock() + s->delay;
        play.waited += s->delay;
        sim_wake(&s->actor, s->release);
    }
    put(&s->held, p, n);
}

static void serve_text(struct server *s, const char *text)
{
    serve(s, text, strlen(text));
}

static void serve_answer(struct server *s, const char *answer, const char *tag)
{
    char line[128];
    serve(s, line, text_fmt(line, sizeof(line), "%s %s\r\n", answer, tag));
}

static void leave(struct server *s)
{
    if (sim_chance(50)) {
        sim_close(&s->actor);
    } else {
        sim_finish(&s->actor);
    }
    s->gone = true;
}

/* ---- the login ---- */

static bool locked(const struct server *s)
{
    for (size_t i = 0; i < play.n_servers; i++) {
        const struct server *other = &play.servers[i];
        if (play.locks && other != s && other->in && !other->gone && !sim_ended(&other->actor)) {
            return true;
        }
    }
    return false;
}

/* Answers the last command of a login: opens the maildrop or refuses. */
static void decide(struct server *s)
{
    static const char *const excuses[EXCUSES] = {
        [EXCUSE_IN_USE] = "-ERR [IN-USE] the maildrop is locked by another session\r\n",
        [EXCUSE_SYS_TEMP] = "-ERR [SYS/TEMP] come back later\r\n",
        [EXCUSE_WORDS] = "-ERR maildrop already locked, try again later\r\n",
    };
    bool before_password = s->excuse == EXCUSE_SYS_TEMP || s->excuse == EXCUSE_DROP;
    enum excuse excuse = locked(s) && !before_password ? EXCUSE_IN_USE : s->excuse;
    struct version *version = &play.versions[s->version];
    if (excuse == EXCUSE_DROP) {
        leave(s);
    } else if (before_password) {
        serve_text(s, excuses[excuse]);
    } else if (s->showing && version->wrong) {
        s->refused = true;
        serve_text(s, "-ERR [AUTH] who are you?\r\n");
    } else {
        /* IN-USE proves that the password was right (RFC 2449 section 8.1.2). */
        serve_text(s, excuse == EXCUSE_NONE ? logged_in : excuses[excuse]);
        s->in = excuse == EXCUSE_NONE;
        s->said_at = sim_sent(&s->actor);
        version->proved |= s->showing;
    }
    s->verdict_at = sim_sent(&s->actor);
}

/* Finds which of tproxy's passwords the line shows. Returns false if it shows none. */
static bool shows_password(struct server *s, const char *line)
{
    for (unsigned v = 0; v < VERSIONS_MAX; v++) {
        char message[16], base64[TEXT_BASE64_SIZE(sizeof(message))], pass[64], plain[64];
        int n = snprintf(message, sizeof(message), "%cu%cp%u", 0, 0, v);
        text_base64(base64, message, (size_t)n);
        text_fmt(pass, sizeof(pass), "PASS p%u", v);
        text_fmt(plain, sizeof(plain), "AUTH PLAIN %s", base64);
        if (strcmp(line, pass) == 0 || strcmp(line, plain) == 0) {
            s->version = v;
            return true;
        }
    }
    return false;
}

static void before_login(struct server *s, const char *line)
{
    if (strcmp(line, "CAPA") == 0) {
        serve_text(s, "+OK\r\nTOP\r\n");
        serve_text(s, s->offers_stls && !s->secure ? "STLS\r\n" : "");
        serve_text(s, s->offers_plain ? "SASL LOGIN PLAIN\r\n.\r\n" : "USER\r\n.\r\n");
    } else if (strcmp(line, "STLS") == 0) {
        serve_text(s, s->poisons ? "+OK begin\r\n+OK let me in\r\n" : "+OK begin\r\n");
        s->secure = true;
        sim_send(&s->actor, "HELLO", 5);
    } else if (strncmp(line, "USER", 4) == 0) {
        s->named = true;
        serve_text(s, "+OK\r\n");
    } else if ((strncmp(line, "PASS", 4) == 0 && s->named) || strncmp(line, "AUTH", 4) == 0) {
        if (!play.own_login) {
            if (!shows_password(s, line)) {
                broken("a mail server is told \"%s\"", line);
            }
            judge_showing(s);
            s->showing = true;
        }
        decide(s);
    } else if (strncmp(line, "QUIT", 4) == 0) {
        serve_text(s, "+OK bye\r\n");
        s->closing = true;
    } else {
        serve_text(s, "-ERR log in\r\n");
    }
}

/* ---- the maildrop ---- */

/* Returns the client's command in a line, by its tag; NULL if it has no tag. */
static struct command *tagged(const char *line, const char **tag)
{
    const char *last = strrchr(line, ' ');
    unsigned client, command;
    *tag = "";
    if (!last || sscanf(last + 1, "%u.%u", &client, &command) != 2) {
        return NULL;
    }
    if (client >= play.n_clients || command >= play.clients[client].n ||
        strcmp(play.clients[client].commands[command].text, line) != 0) {
        broken("a mail server hears \"%s\", which no client has said", line);
    }
    *tag = last + 1;
    return &play.clients[client].commands[command];
}

static bool is_there(const struct server *s, int message)
{
    return !play.messages[message].deleted && !s->marked[message];
}

static void retrieve(struct server *s, int message, const char *tag)
{
    const struct message *m = &play.messages[message];
    char head[64];
    size_t n = text_fmt(head, sizeof(head), "+OK message %d for %s\r\n", message + 1, tag);
    char *answer = mem_alloc(n + m->n + MARKER_LEN);
    memcpy(answer, head, n);
    memcpy(answer + n, m->body, m->n);
    memcpy(answer + n + m->n, MARKER, MARKER_LEN);
    serve(s, answer, n + m->n + MARKER_LEN);
    free(answer);
}

/* QUIT enters the UPDATE state: the messages that the session has marked are deleted (RFC 1939
 * section 6). */
static void commit(struct server *s)
{
    for (int m = 0; m < MESSAGES; m++) {
        if (s->marked[m] && !play.messages[m].deleted) {
            play.messages[m].deleted = true;
            play.deletions[play.n_deletions++] =
                (struct deletion){.message = m, .command = s->marked[m]};
        }
    }
}

static void after_login(struct server *s, const char *line)
{
    const char *tag;
    struct command *command = tagged(line, &tag);
    put(&s->asked, line, strlen(line));
    put(&s->asked, "\r\n", 2);
    if (command) {
        command->by = s;
    }
    if (command && command->message >= 0 && !is_there(s, command->message)) {
        serve_answer(s, "-ERR no such message for", tag);
    } else if (command && command->retrieves) {
        retrieve(s, command->message, tag);
    } else if (command && command->deletes) {
        s->marked[command->message] = command;
        serve_answer(s, "+OK marked for", tag);
    } else if (strncmp(line, "LIST", 4) == 0) {
        serve_answer(s, "+OK list for", tag);
        serve_text(s, "1 120\r\n2 200\r\n.\r\n");
    } else if (strncmp(line, "RSET", 4) == 0) {
        memset(s->marked, 0, sizeof(s->marked));
        serve_answer(s, "+OK nothing is marked for", tag);
    } else {
        serve_answer(s, "+OK", tag);
    }
    if (strncmp(line, "QUIT", 4) == 0) {
        if (!command && buf_len(&s->asked) > strlen("QUIT\r\n")) {
            broken("tproxy says QUIT in a session with commands of a client");
        }
        commit(s);
        s->closing = true;
    }
}

/* ---- its actions ---- */

/* Reads tproxy's octets: the toy's records, or clear text. */
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
        s->notified |= length == 0;
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

/* Takes the next line. Returns false if none has come, or if the server waits before it. */
static bool hear(struct server *s, char *line, size_t cap)
{
    struct str heard = buf_str(&s->heard);
    const char *end = heard.n ? memmem(heard.p, heard.n, "\r\n", 2) : NULL;
    if (!end) {
        return false;
    }
    if (s->pace == PACE_EACH && !s->thought) {
        s->thought = true;
        s->due = sim_clock() + s->delay;
        play.waited += s->delay;
        sim_wake(&s->actor, s->due);
        return false;
    }
    s->thought = false;
    text_fmt(line, cap, "%.*s", (int)(end - heard.p), heard.p);
    buf_drop(&s->heard, (size_t)(end - heard.p) + 2);
    return true;
}

static void greet(struct server *s)
{
    s->greeted = true;
    if (s->secure) {
        sim_send(&s->actor, "HELLO", 5);
    }
    serve_text(s, "+OK pleased to meet you\r\n");
}

static bool release(struct server *s)
{
    struct str held = buf_str(&s->held);
    if (held.n == 0 || (sim_clock() < s->release && !s->notified)) {
        return false;
    }
    if (!s->notified) {
        say(s, held.p, held.n);
    }
    buf_drop(&s->held, held.n);
    return true;
}

static bool server_run(struct sim_actor *actor)
{
    struct server *s = container_of(actor, struct server, actor);
    char line[512];
    if (s->gone || sim_clock() < s->due) {
        return false;
    }
    if (s->tunnel.stage != TUNNEL_OPEN) {
        return tunnel_run(s);
    }
    if (release(s)) {
        return true;
    }
    if (s->closing && buf_len(&s->held) == 0) {
        leave(s);
        return true;
    }
    if (s->closing) {
        return false;
    }
    if (server_meets_fate(s)) {
        return true;
    }
    if (!s->greeted) {
        greet(s);
        return true;
    }
    listen_to(s);
    if (s->secure && sim_ended(actor)) {
        s->notified = true;
    }
    if (hear(s, line, sizeof(line))) {
        s->lines++;
        (s->in ? after_login : before_login)(s, line);
        return true;
    }
    if (sim_ended(actor) && !s->thought && buf_len(&s->held) == 0) {
        sim_finish(actor);
        s->gone = true;
        return true;
    }
    return false;
}
