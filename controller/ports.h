/* Target ports, and which of them are taken. Behind address translation the port alone names the
 * mailbox: two targets must never share one, and a port that a target has left rests before another
 * target gets it, because clients, Services and NetworkPolicies may still mean the old one. */
#ifndef TPROXY_CONTROLLER_PORTS_H
#define TPROXY_CONTROLLER_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"

struct loop;
struct ports;

struct ports_settings {
    uint16_t first, last; /* the range to pick from; 0, 0: the system picks */
    bool at_random;       /* else the lowest free port, which people can guess */
    int64_t rest;         /* how long a port rests, microseconds */
};

/* Creates the table with all ports free; the settings are copied. The loop stays the caller's. */
struct ports *ports_new(struct loop *loop, const struct ports_settings *settings);

/* Frees it. NULL is allowed. */
void ports_free(struct ports *ports);

/* Picks a free port of the range, but does not take it. ERR: no port is free. OK and 0: the system
 * shall pick one; take the port that it picked. */
int ports_pick(struct ports *ports, uint16_t *port) warn_unused;

/* Takes a port, also one outside the range, or one that rests: a target that has had a port gets it
 * back. */
void ports_take(struct ports *ports, uint16_t port);
bool ports_taken(const struct ports *ports, uint16_t port);

/* Releases a port; it rests from now on. */
void ports_release(struct ports *ports, uint16_t port);

/* Begins the rest of a port, also of one that is taken. */
void ports_rest(struct ports *ports, uint16_t port);

/* ports_rests_until returns the time until which a port rests (loop_now); it has passed when the
 * port does not rest. ports_rest_until makes it rest at least until then. */
int64_t ports_rests_until(const struct ports *ports, uint16_t port);
void ports_rest_until(struct ports *ports, uint16_t port, int64_t until);

/* Avoids a port that was picked and belongs to another process: it is not picked again for some
 * seconds. */
void ports_avoid(struct ports *ports, uint16_t port);

/* Count the Services in the cluster that carry a port. The port is not picked while there is a
 * Service, and rests after the last one. */
void ports_carry(struct ports *ports, uint16_t port);
void ports_drop(struct ports *ports, uint16_t port);
unsigned ports_carried(const struct ports *ports, uint16_t port);

/* Count the NetworkPolicies in the cluster that list the ports from `first` to `last`. A port is
 * not picked while a policy lists it, nor in the minute after that. */
void ports_list(struct ports *ports, uint16_t first, uint16_t last);
void ports_unlist(struct ports *ports, uint16_t first, uint16_t last);
unsigned ports_listed(const struct ports *ports, uint16_t port);

/* Tells why no port of the range is free: how many are taken by targets or carried by Services; how
 * many others are listed by policies; how many others rest, and when the first of those is free. */
struct ports_use {
    unsigned taken, listed, resting;
    int64_t next;
};
struct ports_use ports_use(const struct ports *ports);

#endif
