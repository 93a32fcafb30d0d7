/* One client's session. */
#ifndef TPROXY_POP3_SESSION_H
#define TPROXY_POP3_SESSION_H

#include <stdbool.h>

struct list;
struct pop3;
struct target;
union addr;

/* Greets a client that was accepted on fd, which now belongs to the session. */
void session_start(struct target *target, int fd, const union addr *client);

/* Ends a session, without QUIT at the backend. */
void session_abort(struct list *member);

/* A client that comes needs a place, and the oldest session whose client has sent no login or
 * mailbox command gives way, of this target or (NULL) of any. Its client is told that there are too
 * many connections. A client that has just sent something that nobody has read yet is spared, once.
 * False: nobody gives way. */
bool session_give_way(struct pop3 *pop3, struct target *target);

#endif
