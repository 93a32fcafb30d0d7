/* The control socket: an abstract Unix socket (unix(7)) through which a person in the container,
 * which has no shell, talks to the running process. A request is one line, and so is its answer.
 *
 *   "log-level"        -> "ok info"
 *   "log-level debug"  -> "ok debug", and the level has changed
 *   anything else      -> "error <what is wrong>"
 *
 * Only the process's own user and root are answered (SO_PEERCRED). */
#ifndef TPROXY_ADMIN_CONTROL_SOCKET_H
#define TPROXY_ADMIN_CONTROL_SOCKET_H

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

enum { CONTROL_SOCKET_LINE_MAX = 256 };

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
