/* The control socket: an abstract Unix socket (unix(7)) through which a person in the container,
 * which has no shell, talks to the running process. A request is one line; so is its answer, but
 * for a probe, which takes its time.
 *
 *   "log-level"        -> "ok info"
 *   "log-level debug"  -> "ok debug", and the level has changed
 *   "probe NAME [again] [as USER TOKEN]"
 *                      -> the lines of the handler, until it ends. The token ends with the line
 *   anything else      -> "error <what is wrong>"
 *
 * Only the process's own user and root are answered (SO_PEERCRED). */
#ifndef TPROXY_ADMIN_CONTROL_SOCKET_H
#define TPROXY_ADMIN_CONTROL_SOCKET_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/text.h"

struct control_socket;
struct loop;

/* Listens under `name` (without '@', at most 100 octets). Serves at most 8 connections, each for at
 * most 5 s; a ninth closes the oldest one. Returns NULL and sets *err (FAIL_CONFIG) when the name
 * is unfit or another process has it. */
struct control_socket *control_socket_new(struct loop *loop, const char *name, struct error *err);

/* Closes the socket with its connections and frees the object. NULL is allowed. */
void control_socket_free(struct control_socket *s);

/* Lengths of lines: of a request to probe, which may carry a token, and of every other. */
enum { CONTROL_SOCKET_LINE_MAX = 256, CONTROL_SOCKET_PROBE_MAX = 16 * 1024 };

/* The client that has sent a request. */
struct control_client;

/* A request to probe; valid during the call. */
struct control_probe {
    const char *name;
    bool again;
    const char *user; /* NULL: nobody logs in */
    struct str token; /* of the user */
};

/* Answers requests that take time. The functions are called from the loop. */
struct control_socket_handler {
    /* Begins to answer. Returns what `cancel` gets; NULL: *err is the answer. */
    void *(*probe)(struct control_client *client, const struct control_probe *wanted,
                   struct error *err, void *arg);

    /* The client has gone: nothing may be said to it any more. */
    void (*cancel)(void *probe, void *arg);

    void *arg;
};

/* Sets the handler. Without one there are no such requests. */
void control_socket_set_handler(struct control_socket *s, struct control_socket_handler handler);

/* Send a line (without its end) to the client, and let it go. After control_socket_end `cancel` is
 * not called. */
void control_socket_say(struct control_client *client, const char *line);
void control_socket_end(struct control_client *client);

/* Sends a request as control_socket_ask does, and passes each line of the answer to `line` until
 * the process ends it. Waits at most `patience` seconds for each. ERR and *err as there. */
int control_socket_follow(const char *name, const char *request, unsigned patience,
                          void (*line)(const char *text, void *arg), void *arg,
                          struct error *err) warn_unused;

/* Asks the process that listens under `name`; the caller is another process. Waits at most 5 s.
 * Returns OK and the answer without its "ok " in reply[CONTROL_SOCKET_LINE_MAX]; ERR and *err when
 * there is no answer, or it says "error". */
int control_socket_ask(const char *name, const char *request, char *reply,
                       struct error *err) warn_unused;

/* Implements `tproxy log-level [LEVEL]` and `change-log-level LEVEL`: asks, prints the level, or on
 * standard error what is wrong, and returns the exit code. `level` may be NULL: the level is only
 * shown. */
int control_socket_log_level(const char *name, const char *level);

#endif
