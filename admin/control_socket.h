/* The control socket: an abstract Unix socket (unix(7)) through which a person in the container,
 * which has no shell, talks to the running process: one line there, one line back.
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

struct admin_socket;
struct loop;

/* Listens under `name` (without '@', at most 100 octets). At most 8 connections of at most 5 s;
 * the oldest gives way to a ninth.
 * NULL and *err when the name is unfit or taken by another process: FAIL_CONFIG. */
struct admin_socket *admin_socket_new(struct loop *loop, const char *name, struct error *err);

/* NULL is allowed. */
void admin_socket_free(struct admin_socket *s);

enum { ADMIN_SOCKET_LINE_MAX = 256 };

/* The other side, for a process of its own: asks the process that listens under `name` and waits at
 * most 5 s. OK and the answer without its "ok " in reply[ADMIN_SOCKET_LINE_MAX]; ERR and *err when
 * there is none, or it says "error". */
int admin_socket_ask(const char *name, const char *request, char *reply,
                     struct error *err) warn_unused;

/* `tproxy log-level [LEVEL]` and `change-log-level LEVEL`: asks, prints the level or on standard
 * error what is wrong, returns the exit code. level may be NULL: only tell. */
int admin_socket_log_level(const char *name, const char *level);

#endif
