/* The client of the Kubernetes API, and an API server that the test plays over loopback sockets.
 * Time stands still unless the test moves it, and random numbers are the smallest possible. */
#ifndef TPROXY_TESTS_WORLD_API_SERVER_H
#define TPROXY_TESTS_WORLD_API_SERVER_H

#include <stdio.h>

#include "cluster/cluster.h"
#include "k8s.h"
#include "lib/log.h"
#include "tests/unit/world/http_server.h"

enum { PEERS = 20, REQUEST_MAX = 65536 };

/* The server's end of a connection, and the octets that have come on it. */
struct peer {
    int fd; /* 0: not in use */
    struct buf in;
    size_t taken; /* the part of it that the current request has */
};

extern const struct cluster_kind services;
extern const struct cluster_kind mails;

#define MAILS "/apis/mail.test/v1/mails"
#define WATCH "watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion="

extern char directory[64]; /* the directory of the credentials */
extern struct k8s *k8s;
extern struct cluster *cluster;
extern struct peer peers[PEERS];
extern struct http_head last; /* the current request and its body */
extern struct str last_body;
extern unsigned char chance;

/* ---- the world ---- */

void write_credential(const char *name, const char *text);

struct k8s *open_k8s(const char *url, const char *credentials);

/* Sets up the world. Log lines can be read from log_pipe. */
int k8s_setup(void **state);

void drop_peer(struct peer *peer);

int k8s_teardown(void **state);

/* Returns how often the text has been logged since the last call of this function. */
int logged(const char *text);

/* ---- requests ---- */

/* Waits for the next request, on any connection, which becomes the current one. */
struct peer *expect(const char *method, const char *target);

void expect_nothing(void);

/* Returns a field of the current request; "" if there is none. */
struct str header(const char *name);

/* ---- answers ---- */

/* Sends an answer with its length. `more`: header fields with their line ends. */
void answer(struct peer *peer, const char *status, const char *more, const char *body);

void answer_status(struct peer *peer, int code, const char *reason, const char *message);

void begin_stream(struct peer *peer);

void send_chunk(struct peer *peer, const char *text);

void end_stream(struct peer *peer);

#endif
