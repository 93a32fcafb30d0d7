/* One client's session. */
#ifndef TPROXY_SESSION_H
#define TPROXY_SESSION_H

struct list;
struct target;
union addr;

/* Greets a client that was accepted on fd, which now belongs to the session. */
void session_start(struct target *target, int fd, const union addr *client);

/* Ends a session, without QUIT at the backend. */
void session_abort(struct list *member);

#endif
