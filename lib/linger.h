/* Closes conns whose peers have not taken everything yet. A close while input is unread makes the
 * kernel send a reset, which could destroy our last line. So what is queued is sent, our stream is
 * ended, and what still comes is discarded until the peer closes, or takes nothing for a while. */
#ifndef TPROXY_LIB_LINGER_H
#define TPROXY_LIB_LINGER_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/list.h"

struct conn;

/* Closes a conn that the caller gives up: no event follows, NULL is allowed. It lingers as long as
 * the peer's kernel takes some of its bytes every 60 s, and then for at most 2 s until the peer
 * closes. A conn that is not established or has failed is closed at once. When as many conns linger
 * as linger_set_max allows, the one that has lingered longest is closed first. */
void linger_close(struct conn *c);

/* A group of lingering conns, for connections that were turned away. A flood makes many of them;
 * they must neither take descriptors without bound nor shorten the lingering of sessions. Embedded
 * in its owner; the fields are private. */
struct linger_group {
    struct list link;
    struct list conns; /* the one that has lingered longest comes first */
    size_t n, max;
};

/* Initialises a group in which at most `max` (1 or more) conns linger. */
void linger_group_init(struct linger_group *group, size_t max);

/* Closes a conn as linger_close does, but in a group. When the group is full, its oldest conn is
 * closed. */
void linger_close_among(struct conn *c, struct linger_group *group);

/* Closes the oldest conn of the group to free its descriptor. Returns false when the group is
 * empty. */
bool linger_group_drop(struct linger_group *group);

/* Closes all conns of the group and ends the group. */
void linger_group_close(struct linger_group *group);

/* Sets how many conns may linger outside groups. The default is 4096. */
void linger_set_max(size_t n);

/* Returns the number of lingering conns. A process that ends before them may destroy a last
 * line. */
size_t linger_count(void);

/* Closes all lingering conns, for the end of the process. */
void linger_close_all(void);

#endif
