/* Log lines about one session. Each line names the session and its target. */
#ifndef TPROXY_POP3_SESSION_LOG_H
#define TPROXY_POP3_SESSION_LOG_H

#include "lib/base.h"
#include "lib/log.h"

struct session;

/* Writes a line about the session. */
void pop3_session_log(const struct session *s, enum log_level level, const char *fmt, ...)
    printf_like(3, 4);

/* Writes a line that clients can cause without end. The target's log limits apply: the first line
 * of each kind is written, and further ones are counted. `kind` is an enum target_line, or
 * LINE_LOGIN_FAILED plus a class of failure. */
void pop3_session_log_limited(struct session *s, unsigned kind, enum log_level level,
                              const char *fmt, ...) printf_like(4, 5);

/* Writes the last line of a session. The target's log limits apply to sessions that tried to log in
 * without success, because a stranger can make thousands of them in a second. */
void pop3_session_log_summary(struct session *s, const char *result);

#endif
