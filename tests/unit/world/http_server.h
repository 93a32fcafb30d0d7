/* An HTTP client, and a server that the test plays octet by octet over loopback sockets. Time
 * stands still unless the test moves it. */
#ifndef TPROXY_TESTS_WORLD_HTTP_SERVER_H
#define TPROXY_TESTS_WORLD_HTTP_SERVER_H

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "http.h"
#include "lib/dns.h"
#include "tests/unit/check.h"
#include "tests/unit/world/streams.h"

enum { BODY_MAX = 1000, OUTCOMES = 6, SOCKET_ROOM = 65536 };

#define CONNECT_TIMEOUT SECONDS(5)
#define ANSWER_TIMEOUT SECONDS(30)
#define SILENCE_TIMEOUT SECONDS(300)

/* The outcome of a call. */
struct outcome {
    struct http_call *call;
    int done;
    int status; /* 0: it failed */
    struct error err;
    struct buf body;
    int pieces;                                    /* pieces of a body that was handed on */
    bool asks;                                     /* whether each piece of it may be sent */
    int questions, allowed;                        /* of these questions, the first are allowed */
    void (*also)(struct outcome *o, bool is_done); /* is called in a callback; NULL: nothing */
};

extern struct loop *loop;
extern struct dns *dns;
extern struct http *http;
extern int listener;
extern uint16_t port;
extern bool in_hole; /* connections get no answer */
extern struct outcome outcomes[OUTCOMES];

/* ---- the world ---- */

int fake_connect(int fd, const struct sockaddr *addr, socklen_t n);

void open_listener(void);

void open_http(size_t max_connections, struct tls_client *tls);

void reset(struct outcome *o);

int setup(void **state);

int teardown(void **state);

void advance(int64_t time);

/* ---- calls ---- */

struct http_message get(const char *target);

void start(struct outcome *o, const struct http_message *message, bool handed_on);

void start_get(struct outcome *o, const char *target);

bool is_done(void *arg);

void expect_answer(struct outcome *o, int status, const char *body);

void expect_failure(struct outcome *o, enum fail fail, const char *text);

/* ---- the server ---- */

bool connection_waits(void *arg);

int accept_one(void);

void expect_no_connection(void);

void read_all(int fd, char *p, size_t n);

/* Checks that this text comes, and nothing behind it. */
void expect_text(int fd, const char *text);

void expect_request(int fd, const char *method, const char *target);

void expect_get(int fd, const char *target);

void expect_end(int fd);

void send_text(int fd, const char *text);

/* Sends the first octets, then the rest in pieces. */
void send_cut(int fd, const char *text, size_t first, size_t piece);

void close_with_reset(int fd);

extern const char ok_answer[];

/* Makes a call that is answered. Returns the server's end of its connection, which is now idle. */
int have_kept(void);

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
