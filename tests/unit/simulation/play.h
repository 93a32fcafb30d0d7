/* The parts that the files of the simulation (test_simulation.c) share: the actors of one play.
 *
 *   play_client.c   clients: what they say, when, and how they leave
 *   play_tunnel.c   the Connectivity Proxy in front of a mail server
 *   play_server.c   mail servers, and the one maildrop behind all of them
 *   play_judge.c    the rules that hold in the end, computed from what the actors saw
 *
 * All sessions of a play reach one maildrop. Every command of a client has a tag ("DELE 1 0.3": the
 * third command of client 0), which the server repeats in its answer. So the judge knows which
 * command was carried out, in which session, and whether its answer has arrived. */
#ifndef TPROXY_TESTS_SIMULATION_PLAY_H
#define TPROXY_TESTS_SIMULATION_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/text.h"
#include "tests/unit/simulation/sim.h"

enum {
    COMMANDS_MAX = 20,
    CLIENTS_MAX = 5,
    SERVERS_MAX = 40,
    MESSAGES = 3,
    VERSIONS_MAX = 2, /* passwords of the destination, one after another */
    DELETIONS_MAX = CLIENTS_MAX * MESSAGES,
    MARKERS_MAX = 32,
    EDGES_MAX = 32,
    FLOOD = 3000, /* commands sent at once that are answered without a mail server */
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
    int message;   /* for RETR and DELE: its index; otherwise -1 */
    bool retrieves, deletes, quits;
    bool login;        /* part of a login, or CAPA: it has no tag */
    bool multi;        /* a good answer has several lines */
    size_t seen;       /* the number of answers before it was sent, including the greeting */
    char verdict;      /* '+' or '-': the beginning of its answer; 0: no answer */
    struct server *by; /* the server that carried it out; NULL: no server */
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
    size_t fate_bytes; /* it leaves after this number of bytes, */
    int64_t fate_time; /* or at this time */
    int64_t comes, next_packet;
    size_t read;             /* bytes of the answers that it has read */
    size_t answers;          /* complete answers, including the greeting */
    size_t flood;            /* answers to the flood that have not come yet */
    struct buf asked;        /* the mailbox commands that it has sent */
    size_t edges[EDGES_MAX]; /* offsets at which tproxy ended a piece inside a possible marker */
    size_t n_edges;
};

void client_cast(struct client *c, int number);
void client_free(struct client *c);

/* Reads the answers that have arrived. */
void client_listen(struct client *c);

/* ---- mail servers ---- */

enum tunnel_stage { TUNNEL_METHOD, TUNNEL_TOKEN, TUNNEL_CONNECT, TUNNEL_OPEN, TUNNEL_FAILED };

struct tunnel {
    enum tunnel_stage stage;
    unsigned char method;       /* the method that it requires: 0x00 or 0x80 */
    unsigned char token_status; /* 0: the token is accepted */
    unsigned char reply;        /* 0: connected */
};

enum pace {
    PACE_PROMPT,
    PACE_EACH, /* it waits before it carries out a command */
    PACE_LATE, /* it carries out the commands and sends their answers later, together */
};

/* The way in which it refuses logins for a temporary reason. */
enum excuse { EXCUSE_NONE, EXCUSE_IN_USE, EXCUSE_SYS_TEMP, EXCUSE_WORDS, EXCUSE_DROP, EXCUSES };

/* An end marker that was sent in clear text. */
struct marker {
    size_t at;  /* its offset on the wire */
    bool whole; /* it had arrived completely when its first octet was read */
};

/* One connection to the mail server. */
struct server {
    struct sim_actor actor;
    struct tunnel tunnel;
    bool tunnelled; /* it was reached through a tunnel */
    bool secure, offers_stls, offers_plain;
    bool poisons; /* it sends bytes behind its +OK to STLS */
    enum pace pace;
    int64_t delay;
    enum excuse excuse;
    enum fate fate;
    size_t fate_line; /* it dies after this number of lines */
    bool greeted, gone, closing;
    bool thought; /* the pause before the next line is over */
    int64_t due;  /* it does nothing before this time */
    size_t read;  /* bytes of tproxy that it has read */
    size_t lines;
    struct buf heard;       /* in clear text; lines are removed from its start */
    struct buf held;        /* answers to send, */
    int64_t release;        /* at this time */
    bool named;             /* it has received USER */
    bool in;                /* the login was successful */
    struct buf said, asked; /* after the login, in clear text */
    size_t said_at;         /* the offset on the wire at which that begins */
    bool notified;          /* tproxy has ended TLS, or its stream under TLS */
    unsigned version;       /* the number of the password that tproxy has shown */
    bool showing;           /* tproxy has shown it in this login */
    bool refused;           /* the server refuses it; tproxy has not read that yet */
    size_t verdict_at;      /* the end of that answer on the wire; 0: not sent yet */
    /* The command that marked each; NULL: it is not to be deleted. */
    struct command *marked[MESSAGES];
    struct marker markers[MARKERS_MAX];
    size_t n_markers, first_marker;
};

void server_cast(struct server *s);
void server_free(struct server *s);

/* Continues a dialogue of SOCKS5. Returns false if there was nothing to do. */
bool tunnel_run(struct server *s);
void tunnel_cast(struct server *s);

/* ---- the play ---- */

struct message {
    char *body;
    size_t n;
    bool deleted;
};

/* The DELE that deleted a message, in a session that has said QUIT. */
struct deletion {
    int message;
    struct command *command;
};

/* An event that concerns all actors, at some time. */
enum incident { INCIDENT_NONE, INCIDENT_CHANGE, INCIDENT_CLOSE, INCIDENT_DRAIN };

/* A password: whether it has been accepted, and when it was refused. */
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
    bool excuses; /* servers refuse logins for temporary reasons, at random */
    bool locks;   /* the maildrop allows one session at a time */
    bool slow_reader;
    unsigned tokens_refused; /* the number of times that the Connectivity Proxy refuses a token */
    int64_t idle_timeout;
    int64_t waited; /* the longest total time for which the actors make others wait */
    enum incident incident;
    int64_t incident_at;
} play;

/* Ends the test with the error, the seed, and how to run it again. */
_Noreturn void broken(const char *fmt, ...) printf_like(1, 2);

/* Adds to a buffer that always has room. */
void put(struct buf *b, const void *p, size_t n);

/* Checks the rules about passwords when one is shown to a mail server. */
void judge_showing(struct server *s);

/* Checks all rules at the end; `took` is the length of the play in microseconds. */
void judge(int64_t took);

#endif
