/* The parts that the files of the simulation (test_simulation.c) share: the cast of one play.
 *
 *   play_client.c   clients: what they say, when, and how they go
 *   play_tunnel.c   the Connectivity Proxy in front of a mail server
 *   play_server.c   mail servers, and the one maildrop behind all of them
 *   play_judge.c    what has to be true in the end, computed from what the actors saw
 *
 * All sessions of a play reach one maildrop. Every command of a client carries a tag ("DELE 1 0.3":
 * the third command of client 0), which the server repeats in its answer; so the judge knows which
 * command was carried out, in which session, and whether its answer has arrived. */
#ifndef TPROXY_TESTS_PLAY_H
#define TPROXY_TESTS_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/text.h"
#include "tests/unit/sim.h"

enum {
    COMMANDS_MAX = 20,
    CLIENTS_MAX = 5,
    SERVERS_MAX = 40,
    MESSAGES = 3,
    VERSIONS_MAX = 2, /* passwords of the destination, one after the other */
    DELETIONS_MAX = CLIENTS_MAX * MESSAGES,
    MARKERS_MAX = 32,
    EDGES_MAX = 32,
    FLOOD = 3000, /* commands at once that are answered without a mail server */
};

/* The end of an answer of several lines, RFC 1939 section 3. */
#define MARKER "\r\n.\r\n"
enum { MARKER_LEN = 5 };

/* The ways in which an actor leaves. */
enum fate { FATE_WELL, FATE_RESET, FATE_FINISH, FATE_SILENT };

struct client;
struct server;

/* ---- clients ---- */

struct command {
    char text[48]; /* "RETR 1 0.3" */
    int message;   /* for RETR and DELE: its index; else -1 */
    bool retrieves, deletes, quits;
    bool login;        /* part of a login, or CAPA: it has no tag */
    bool multi;        /* a good answer has several lines */
    size_t seen;       /* how many answers had come when it was sent, the greeting's included */
    char verdict;      /* '+' or '-': what its answer began with; 0: no answer */
    struct server *by; /* who carried it out; NULL: nobody */
};

/* How a client sends its commands. */
enum manner { MANNER_WAITING, MANNER_AT_ONCE, MANNER_IN_PACKETS };

struct client {
    struct sim_actor actor;
    int number;
    struct command commands[COMMANDS_MAX];
    size_t n, next;
    enum manner manner;
    bool half_close; /* it ends its stream behind its last command */
    bool floods, urgent;
    bool gives_up; /* it says QUIT after a refusal */
    bool talks_on; /* it sends commands behind QUIT */
    bool gone, finished;
    enum fate fate;
    size_t fate_bytes; /* it leaves after so many bytes, */
    int64_t fate_time; /* or at this time */
    int64_t comes, next_packet;
    size_t read;             /* bytes of the answers that were read */
    size_t answers;          /* complete ones, the greeting's included */
    size_t flood;            /* answers to the flood that are still to come */
    struct buf asked;        /* the mailbox commands that it sent */
    size_t edges[EDGES_MAX]; /* where tproxy ended a piece inside a possible marker */
    size_t n_edges;
};

void client_cast(struct client *c, int number);
void client_free(struct client *c);

/* Takes note of the answers that have come. */
void client_listen(struct client *c);

/* ---- mail servers ---- */

enum tunnel_stage { TUNNEL_METHOD, TUNNEL_TOKEN, TUNNEL_CONNECT, TUNNEL_OPEN, TUNNEL_FAILED };

struct tunnel {
    enum tunnel_stage stage;
    unsigned char method;       /* the one that is wanted: 0x00 or 0x80 */
    unsigned char token_status; /* 0: the token is good */
    unsigned char reply;        /* 0: connected */
};

enum pace {
    PACE_PROMPT,
    PACE_EACH, /* it thinks before it carries out a command */
    PACE_LATE, /* it carries out what has come, and sends the answers later, together */
};

/* How it refuses logins for a temporary reason. */
enum excuse { EXCUSE_NONE, EXCUSE_IN_USE, EXCUSE_SYS_TEMP, EXCUSE_WORDS, EXCUSE_DROP, EXCUSES };

/* An end marker that was sent in clear text. */
struct marker {
    size_t at;  /* on the wire */
    bool whole; /* all of it had arrived when its first octet was read */
};

/* One connection to the mail server. */
struct server {
    struct sim_actor actor;
    struct tunnel tunnel;
    bool tunnelled; /* it was reached through one */
    bool secure, offers_stls, offers_plain;
    bool poisons; /* sends bytes behind its +OK to STLS */
    enum pace pace;
    int64_t delay;
    enum excuse excuse;
    enum fate fate;
    size_t fate_line; /* it dies after so many lines */
    bool greeted, gone, closing;
    bool thought; /* the pause before the next line is over */
    int64_t due;  /* it does nothing before this time */
    size_t read;  /* bytes of tproxy that were read */
    size_t lines;
    struct buf heard;                 /* in clear text; lines are taken off its start */
    struct buf held;                  /* answers to be sent, */
    int64_t release;                  /* then */
    bool named;                       /* it has heard USER */
    bool in;                          /* logged in */
    struct buf said, asked;           /* after the login, in clear text */
    size_t said_at;                   /* where that begins on the wire */
    bool notified;                    /* tproxy has ended TLS, or its stream under TLS */
    unsigned version;                 /* of the password that it was shown, */
    bool showing;                     /* in this login, */
    bool refused;                     /* and it refuses; tproxy has not read that yet */
    size_t verdict_at;                /* on the wire: the end of that answer; 0: none yet */
    struct command *marked[MESSAGES]; /* by which command; NULL: not to be deleted */
    struct marker markers[MARKERS_MAX];
    size_t n_markers, first_marker;
};

void server_cast(struct server *s);
void server_free(struct server *s);

/* Carries on a dialogue of SOCKS5. Returns false when it did nothing. */
bool tunnel_run(struct server *s);
void tunnel_cast(struct server *s);

/* ---- the play ---- */

struct message {
    char *body;
    size_t n;
    bool deleted;
};

/* The DELE that deleted a message; its session has said QUIT. */
struct deletion {
    int message;
    struct command *command;
};

/* An event that concerns all actors, at some time. */
enum incident { INCIDENT_NONE, INCIDENT_CHANGE, INCIDENT_CLOSE, INCIDENT_DRAIN };

/* A password: has it been accepted, and when was it refused. */
struct version {
    bool wrong, proved;
    unsigned refusals;
    int64_t refused_at;
};

extern struct play {
    uint64_t seed;
    struct server servers[SERVERS_MAX];
    struct client clients[CLIENTS_MAX];
    size_t n_servers, n_clients;
    struct message messages[MESSAGES];
    struct deletion deletions[DELETIONS_MAX];
    size_t n_deletions;
    struct version versions[VERSIONS_MAX];
    bool refuses; /* the mail server cannot be reached */
    bool implicit_tls, own_login, on_premise, with_token;
    bool excuses; /* servers refuse logins for reasons that pass, at random */
    bool locks;   /* one session at a time */
    bool slow_reader;
    unsigned tokens_refused; /* so many times the Connectivity Proxy refuses a token */
    int64_t idle_timeout;
    int64_t waited; /* the longest total time for which the actors let others wait */
    enum incident incident;
    int64_t incident_at;
} play;

/* Ends the test: says what is wrong, in which seed, and how to see it again. */
_Noreturn void broken(const char *fmt, ...) printf_like(1, 2);

/* Adds to a buffer that always has room. */
void put(struct buf *b, const void *p, size_t n);

/* Checks the rules about passwords when one is shown to a mail server. */
void judge_showing(struct server *s);

/* Checks all rules at the end; `took` is the length of the play in microseconds. */
void judge(int64_t took);

#endif
