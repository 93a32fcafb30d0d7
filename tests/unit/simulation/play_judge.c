/* The rules that hold in every play. They are computed from what clients and servers saw, and from
 * nothing that tproxy knows.
 *
 *   A message is deleted only if the client got it, or could see that it did not get it when it
 *   sent DELE, or never asked for it.
 *   DELE is not carried out if an earlier command has failed and the client could not see that.
 *   Every command of a client that has not vanished is answered, also after a half-close.
 *   A server's words reach the client, in order, and nothing else after them; a server gets the
 *   client's commands, in order, and QUIT only from the client.
 *   An end marker that arrived whole is passed on whole.
 *   A session in which octets move is not cut.
 *   An unproved password is shown by one session at a time, and after a refusal by no session
 *   before its pause is over. Its verdict counts even if the client has gone.
 *   Nobody waits longer than the other actors cause. */
#include "tests/unit/simulation/play.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* The pause after a refusal doubles from the first to the longest. */
#define PAUSE_FIRST SECONDS(5)
#define PAUSE_LONGEST SECONDS(60)

/* Sessions of a deleted target are cut after this time. */
#define LAST_SESSIONS SECONDS(60)

/* How long tproxy waits for a TLS backend after a client has ended its stream without QUIT. */
#define ANSWER_TIMEOUT SECONDS(30)
#define LAST_WORDS SECONDS(2)

/* ---- passwords ---- */

/* Returns whether the server has received a password whose verdict tproxy does not know yet. */
static bool undecided(const struct server *s)
{
    bool told = s->verdict_at && sim_read(&s->actor) >= s->verdict_at;
    return s->showing && !told && !s->gone;
}

/* Sessions of a deleted target are cut, whatever they wait for. */
static void judge_patience(const struct server *s)
{
    if (undecided(s) && sim_ended(&s->actor) && play.incident != INCIDENT_CLOSE) {
        broken("tproxy shows a password and does not wait for the verdict");
    }
}

void judge_showing(struct server *s)
{
    const struct version *version = &play.versions[s->version];
    int64_t pause = PAUSE_FIRST;
    for (unsigned i = 1; i < version->refusals && pause < PAUSE_LONGEST; i++) {
        pause *= 2;
    }
    pause = pause < PAUSE_LONGEST ? pause : PAUSE_LONGEST;
    if (version->refusals && sim_clock() < version->refused_at + pause) {
        broken("a password that was refused for the %uth time is shown again after %.1f s",
               version->refusals, (double)(sim_clock() - version->refused_at) / 1e6);
    }
    for (size_t i = 0; i < play.n_servers && !version->proved; i++) {
        const struct server *other = &play.servers[i];
        if (other != s && other->version == s->version && undecided(other)) {
            broken("a password that is not proved is shown by two sessions at a time");
        }
    }
}

/* ---- the session of a client ---- */

static struct client *client_of(const struct command *command)
{
    for (size_t i = 0; i < play.n_clients; i++) {
        struct client *c = &play.clients[i];
        if (command >= c->commands && command < c->commands + COMMANDS_MAX) {
            return c;
        }
    }
    return NULL;
}

/* Returns the session in which the client's commands were carried out; NULL: there was none. */
static struct server *server_of(struct client *c)
{
    struct server *s = NULL;
    for (size_t i = 0; i < c->next; i++) {
        struct server *by = c->commands[i].by;
        if (by && s && by != s) {
            broken("commands of client %d are carried out in two sessions", c->number);
        }
        s = by ? by : s;
    }
    return s;
}

static bool vanished(const struct client *c)
{
    return c->gone && c->fate == FATE_RESET;
}

static bool died(const struct server *s)
{
    return s->gone && s->fate != FATE_WELL;
}

static bool says_quit(const struct client *c)
{
    bool quits = false;
    for (size_t i = 0; i < c->next; i++) {
        quits = quits || c->commands[i].quits;
    }
    return quits;
}

static bool half_closed(const struct client *c)
{
    return c->half_close || (c->gone && c->fate == FATE_FINISH);
}

/* A TLS backend does not learn of a half-close. Without QUIT, tproxy takes its silence after an
 * answer for the end. */
static bool may_be_given_up(const struct client *c, const struct server *s)
{
    return s->secure && half_closed(c) && !says_quit(c) && s->delay >= LAST_WORDS / 2;
}

/* Sessions may have been cut because their target was deleted. */
static bool cut_with_target(const struct client *c)
{
    return play.incident == INCIDENT_CLOSE && play.incident_at &&
           sim_ended_at(&c->actor) >= play.incident_at + LAST_SESSIONS - SECONDS(1);
}

/* ---- deletions ---- */

static bool got_message(struct client *c, const struct command *retr)
{
    char head[64];
    const char *tag = strrchr(retr->text, ' ') + 1;
    const struct message *m = &play.messages[retr->message];
    size_t n, head_len =
                  text_fmt(head, sizeof(head), "+OK message %d for %s\r\n", retr->message + 1, tag);
    const char *p = sim_received(&c->actor, &n), *at = n ? memmem(p, n, head, head_len) : NULL;
    if (!at) {
        return false;
    }
    at += head_len;
    return n - (size_t)(at - p) >= m->n + MARKER_LEN && memcmp(at, m->body, m->n) == 0;
}

/* Returns whether the client could see the answer to command i when it sent `other`. */
static bool seen(const struct command *other, size_t i)
{
    return other->seen >= i + 2; /* the greeting comes first */
}

static void judge_deletion(const struct deletion *deletion)
{
    struct client *c = client_of(deletion->command);
    size_t dele = (size_t)(deletion->command - c->commands), i = dele;
    if (vanished(c) || cut_with_target(c)) {
        return;
    }
    do {
        if (i-- == 0) {
            return; /* the client never asked for the message */
        }
    } while (!c->commands[i].retrieves || c->commands[i].message != deletion->message);
    /* The server may have refused RETR because the client had marked the message before, and then
     * unmarked it. */
    bool refused = c->commands[i].by && c->commands[i].verdict == '-';
    if (!refused && !seen(deletion->command, i) && !got_message(c, &c->commands[i])) {
        broken("message %d is deleted by \"%s\", although the client never got it and could not "
               "know that",
               deletion->message + 1, deletion->command->text);
    }
}

/* A failed login covers the commands that the client had sent before it could see the failure. DELE
 * and RSET start no login, so their refusal proves nothing. */
static void judge_refusals(const struct client *c)
{
    for (size_t j = 0; j < c->next; j++) {
        for (size_t i = 0; i < j && c->commands[j].deletes && c->commands[j].by; i++) {
            const struct command *before = &c->commands[i];
            bool failed = before->verdict == '-' && !before->by && !before->deletes &&
                          strncmp(before->text, "RSET", 4) != 0;
            if (failed && !seen(&c->commands[j], i)) {
                broken("\"%s\" is carried out, although \"%s\" was refused and the client could "
                       "not know that",
                       c->commands[j].text, before->text);
            }
        }
    }
}

/* ---- answers ---- */

static size_t refused_by_us(const struct client *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->next; i++) {
        n += c->commands[i].verdict == '-' && !c->commands[i].by;
    }
    return n;
}

/* Returns how many commands need an answer. Commands behind QUIT need none. */
static size_t owed(const struct client *c)
{
    size_t n = 0;
    while (n < c->next && !c->commands[n].quits) {
        n++;
    }
    return n < c->next ? n + 1 : n;
}

/* There were too many clients: it was refused, or lost its place to another one before it had
 * logged in. */
static bool turned_away(const struct client *c)
{
    static const char words[] = "-ERR [SYS/TEMP] too many connections\r\n";
    size_t n;
    const char *p = sim_received(&c->actor, &n);
    return n && memmem(p, n, words, strlen(words));
}

/* Returns whether a server has gone that had opened the maildrop and received no command. It is
 * unknown which client it was for. */
static bool one_died_early(void)
{
    bool any = false;
    for (size_t i = 0; i < play.n_servers; i++) {
        const struct server *s = &play.servers[i];
        any = any || (s->in && died(s) && buf_len(&s->asked) == 0);
    }
    return any;
}

static bool has_reason(const struct client *c, const struct server *s)
{
    enum { LOGIN_FAILURES = 3 };
    if (vanished(c) || c->answers == 0 || turned_away(c) || refused_by_us(c) >= LOGIN_FAILURES) {
        return true;
    }
    if (play.incident == INCIDENT_CLOSE || (play.own_login && !s)) {
        return true; /* a server may also have gone during the client's own login */
    }
    return s ? died(s) || may_be_given_up(c, s) : one_died_early();
}

static void judge_answers(const struct client *c, const struct server *s)
{
    if (c->answers >= owed(c) + 1 || has_reason(c, s)) {
        return;
    }
    if (s) {
        int64_t near = sim_moved(&c->actor), far = sim_moved(&s->actor);
        int64_t quiet = sim_ended_at(&c->actor) - (near > far ? near : far);
        if (quiet < play.idle_timeout) {
            broken("the session of client %d is cut %.1f s after octets have moved, and \"%s\" is "
                   "not answered",
                   c->number, (double)quiet / 1e6, c->commands[c->answers - 1].text);
        }
    }
    broken("client %d gets no answer to \"%s\"", c->number, c->commands[c->answers - 1].text);
}

/* ---- the relay ---- */

static void judge_markers(const struct client *c, const struct server *s)
{
    size_t n, said = buf_len(&s->said);
    sim_received(&c->actor, &n);
    for (size_t i = 0; i < s->first_marker && !s->secure; i++) {
        size_t at = n - said + s->markers[i].at - s->said_at;
        for (size_t k = 0; k < c->n_edges && s->markers[i].whole; k++) {
            if (c->edges[k] > at && c->edges[k] < at + MARKER_LEN) {
                broken("an end marker that arrived whole is passed on in two pieces, %zu octets "
                       "first",
                       c->edges[k] - at);
            }
        }
    }
}

static void judge_pair(struct client *c, struct server *s)
{
    struct str said = buf_str(&s->said), heard = buf_str(&s->asked), asked = buf_str(&c->asked);
    size_t n;
    const char *p = sim_received(&c->actor, &n);
    if (!memmem(asked.p, asked.n, heard.p, heard.n)) {
        broken("the mail server hears something else than client %d says", c->number);
    }
    if (vanished(c) || play.incident == INCIDENT_CLOSE || may_be_given_up(c, s)) {
        return;
    }
    if (!died(s) || s->fate == FATE_FINISH) {
        if (n < said.n || memcmp(p + n - said.n, said.p, said.n) != 0) {
            broken("client %d does not get what the mail server says, or more", c->number);
        }
        judge_markers(c, s);
    }
    if (!died(s) && !c->talks_on && memcmp(asked.p + asked.n - heard.n, heard.p, heard.n) != 0) {
        broken("the mail server does not hear the last command of client %d", c->number);
    }
}

/* ---- all ---- */

static void judge_servers(void)
{
    for (size_t i = 0; i < play.n_servers; i++) {
        const struct server *s = &play.servers[i];
        size_t n;
        sim_received(&s->actor, &n);
        judge_patience(s);
        if (s->in && s->poisons && s->secure && !play.implicit_tls) {
            broken("a login goes on behind clear text that followed the consent to STLS");
        }
        if (s->tunnelled && s->tunnel.stage != TUNNEL_OPEN && s->greeted) {
            broken("a mail server is reached through a tunnel that does not stand");
        }
    }
}

static bool silence(void)
{
    bool silence = play.incident == INCIDENT_CLOSE || play.slow_reader;
    for (size_t i = 0; i < play.n_servers; i++) {
        silence = silence || play.servers[i].fate == FATE_SILENT;
    }
    for (size_t i = 0; i < play.n_clients; i++) {
        silence = silence || play.clients[i].fate == FATE_SILENT;
    }
    return silence;
}

/* tproxy waits for a deadline only if a client sent no QUIT: the deadline of a TLS backend's
 * answer. */
static void judge_time(int64_t took)
{
    int64_t most = SECONDS(15) + sim_rested() + play.waited;
    for (size_t i = 0; i < play.n_clients; i++) {
        const struct client *c = &play.clients[i];
        most += half_closed(c) && !says_quit(c) ? ANSWER_TIMEOUT + LAST_WORDS : 0;
    }
    if (took >= most && !silence()) {
        broken("it takes %.1f s, and nobody made the others wait for more than %.1f s",
               (double)took / 1e6, (double)most / 1e6);
    }
}

void judge(int64_t took)
{
    judge_servers();
    for (size_t i = 0; i < play.n_clients; i++) {
        client_listen(&play.clients[i]);
    }
    for (size_t i = 0; i < play.n_deletions; i++) {
        judge_deletion(&play.deletions[i]);
    }
    for (size_t i = 0; i < play.n_clients; i++) {
        struct client *c = &play.clients[i];
        struct server *s = server_of(c);
        judge_refusals(c);
        judge_answers(c, s);
        if (s) {
            judge_pair(c, s);
        }
    }
    judge_time(took);
}
