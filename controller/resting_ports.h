/* The target ports that rest, kept in a ConfigMap of ours for the next start. A port is recorded
 * before the Service that carries it goes, because after a crash nothing else remembers it. */
#ifndef TPROXY_CONTROLLER_RESTING_PORTS_H
#define TPROXY_CONTROLLER_RESTING_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"

struct cluster;
struct loop;
struct ports;
struct resting_ports;

#define RESTING_PORTS_NAME "tproxy-resting-ports"
#define RESTING_PORTS_ENTRY "ports.json"

/* `changed` is called when more ports have been recorded, or cannot be, or when the record has been
 * read. It must not call functions of this file. */
struct resting_ports_handler {
    void (*changed)(void *arg);
    void *arg;
};

/* Starts to follow the record in namespace `home`. The ports that it names rest in `ports` once it
 * has been read. `rest`: how long a port rests at most, microseconds. */
struct resting_ports *resting_ports_new(struct loop *loop, struct cluster *cluster,
                                        const char *home, struct ports *ports, int64_t rest,
                                        struct resting_ports_handler handler);

/* Cancels what is under way and frees the object. NULL is allowed. */
void resting_ports_free(struct resting_ports *r);

/* Says whether this process writes the record; at the beginning it does not. When it begins to, the
 * record is read afresh: until then resting_ports_listed returns false. When it ends, a text under
 * way is given up, and no port waits for it any more. */
void resting_ports_lead(struct resting_ports *r, bool leads);

/* Tells whether the API server has answered a list of the record, with success or not. */
bool resting_ports_listed(const struct resting_ports *r);

/* Tells whether it is known which ports rest. While the record cannot be read, it is known as soon
 * as every port has rested since the start; *until is that time (loop_now). */
bool resting_ports_known(const struct resting_ports *r, int64_t *until);

/* Makes a port rest that is about to leave its Service. Only for the process that writes the
 * record. OK: the record says so, or it cannot be written, which must not keep the Service. AGAIN:
 * `changed` will be called. */
int resting_ports_leave(struct resting_ports *r, uint16_t port) warn_unused;

/* Returns why the record cannot be written: a sentence, valid until the next turn; or NULL. */
const char *resting_ports_problem(const struct resting_ports *r);

#endif
