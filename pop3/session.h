/* One client's session. */
#ifndef TPROXY_POP3_SESSION_H
#define TPROXY_POP3_SESSION_H

#include <stdbool.h>

struct list;
struct pop3;
struct pop3_observer;
struct session;
struct target;
union addr;

/* Greets a client that was accepted on fd, which now belongs to the session. */
void pop3_session_start(struct target *target, int fd, const union addr *client);

/* Greets a client within the process, at the other end of fd, and has its login observed (NULL: it
 * is not). Returns the session, which ends by itself; NULL when the system refuses. */
struct session *pop3_session_start_within(struct target *target, int fd,
                                          struct pop3_observer *observer);

/* Ends a session, without QUIT at the backend. */
void pop3_session_abort(struct list *member);

/* Ends the oldest session whose client has sent no login or mailbox command, because another client
 * needs its place; a session of this target or (NULL) of any. Its client is told that there are too
 * many connections. A client that has just sent something that has not been read yet is spared,
 * once. Returns false when no session gives way. */
bool pop3_session_give_way(struct pop3 *pop3, struct target *target);

#endif
