/* The login of one session at its mail server: find the destination, dial, TLS, log in. For
 * session.c only. Nothing here answers the client. */
#ifndef TPROXY_POP3_SESSION_LOGIN_H
#define TPROXY_POP3_SESSION_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "pop3/session_state.h"

struct destination;

/* Starts an attempt. The state must be BACKEND_NONE, and becomes BACKEND_FINDING. The attempt ends
 * in BACKEND_READY, with its connection in s->backend, or in BACKEND_FAILED or BACKEND_REFUSED,
 * with the error in s->attempt->err. When the session is in WAIT_KIND, the attempt only reads how
 * the client has to log in (see pop3_session_login_set_kind): it sets WAIT_NOTHING, and ends in
 * BACKEND_NONE, or in BACKEND_FAILED as above.
 *
 * `changed` is called each time something has happened, also without a new state, until the attempt
 * is dropped. It is never called from inside this call. It may end the session. */
void pop3_session_login_start(struct session *s, void (*changed)(struct session *s));

/* Frees the attempt, and cancels what it waits for. The connection stays. Does nothing without an
 * attempt. */
void pop3_session_login_drop_attempt(struct session *s);

/* Frees the attempt and closes the connection. The state stays. */
void pop3_session_login_drop(struct session *s);

/* Sets s->state, and logs the change. */
void pop3_session_login_set_state(struct session *s, enum backend_state state);

/* Returns true while the mail server has credentials of this session and has not judged them. */
bool pop3_session_login_awaits_verdict(const struct session *s);

/* Settles how the client has to log in: the destination's Authentication says it. Call it once for
 * each session. */
void pop3_session_login_set_kind(struct session *s, const struct destination *dest);

/* Returns the time in microseconds that the mail server has for one answer: the destination's, at
 * most that of the program. s->mailbox must be known. */
int64_t pop3_session_login_answer_timeout(const struct session *s);

#endif
