/* Which target ports are taken. Behind address translation the port alone names the mailbox: two
 * targets must never share one, and a port that a target has left rests before another one gets it,
 * for clients and Services may still mean the old one. */
#ifndef TPROXY_PORTS_H
#define TPROXY_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"

struct loop;
struct ports;

struct ports_settings {
    uint16_t first, last; /* the range to pick from; 0, 0: the system picks */
    bool at_random;       /* else the lowest that is free, which people can guess */
    int64_t rest;         /* how long a port rests, microseconds */
};

struct ports *ports_new(struct loop *loop, const struct ports_settings *settings);

/* NULL is allowed. */
void ports_free(struct ports *ports);

/* A free port of the range, not taken yet. ERR: there is none left. OK and 0: the system shall pick
 * one; take what it picked. */
int ports_pick(struct ports *ports, uint16_t *port) warn_unused;

/* Also outside the range, and out of its rest: who has had a port gets it back. */
void ports_take(struct ports *ports, uint16_t port);
bool ports_taken(const struct ports *ports, uint16_t port);

/* It rests from now on. */
void ports_release(struct ports *ports, uint16_t port);

/* One that was picked and is another process's: it is not picked again for some seconds at least.
 */
void ports_avoid(struct ports *ports, uint16_t port);

#endif
