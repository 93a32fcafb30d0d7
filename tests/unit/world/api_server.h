/* The client of the Kubernetes API, and the API server that a test plays against it over loopback
 * sockets. Time stands still unless the test moves it, and chance gives the smallest number. */
#ifndef TPROXY_TESTS_WORLD_API_SERVER_H
#define TPROXY_TESTS_WORLD_API_SERVER_H

#include <stdio.h>

#include "cluster/cluster.h"
#include "k8s.h"
#include "lib/log.h"
#include "tests/unit/world/http_server.h"

enum { PEERS = 12, REQUEST_MAX = 65536 };

/* The server's end of a connection, and what has come on it. */
struct peer {
    int fd; /* 0: none */
    struct buf in;
    size_t taken; /* of it, by the request that was looked at last */
};

extern const struct cluster_kind services;
extern const struct cluster_kind mails;

#define MAILS "/apis/mail.test/v1/mails"
#define WATCH "watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion="

extern char directory[64]; /* of credentials */
extern struct k8s *k8s;
extern struct cluster *cluster;
extern struct peer peers[PEERS];
extern struct http_head last; /* of the request that was looked at last, and its body */
extern struct str last_body;
extern unsigned char chance;

/* ---- the world ---- */

void write_credential(const char *name, const char *text);

struct k8s *open_k8s(const char *url, const char *credentials);

/* What is logged can be read from log_pipe. */
int k8s_setup(void **state);

void drop_peer(struct peer *peer);

int k8s_teardown(void **state);

/* How often the text has been logged since the last call of this function. */
int logged(const char *text);

/* ---- what the server hears ---- */

/* The next request, on whatever connection. */
struct peer *expect(const char *method, const char *target);

void expect_nothing(void);

/* Of the request that was looked at last; "" when there is none. */
struct str header(const char *name);

/* ---- what the server says ---- */

/* An answer of known length. `more`: headers with their line ends. */
void answer(struct peer *peer, const char *status, const char *more, const char *body);

void answer_status(struct peer *peer, int code, const char *reason, const char *message);

void begin_stream(struct peer *peer);

void send_chunk(struct peer *peer, const char *text);

void end_stream(struct peer *peer);

#endif
