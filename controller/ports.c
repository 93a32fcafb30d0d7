/* Keeps for each port: whether it is taken, how many objects in the cluster name it, how long it
 * rests. The tables are large and mostly zero; pages of ports that were never used take no
 * memory. */
#include "controller/ports.h"

#include <assert.h>
#include <stdlib.h>

#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"

enum { PORTS = 65536, TRIES = 16 };

#define AVOIDED SECONDS(5)

/* How long a port rests after the last policy that listed it: nodes may follow a moment later. */
#define UNLISTED_REST SECONDS(60)

struct ports {
    struct loop *loop;
    struct ports_settings set;
    uint8_t taken[PORTS / 8];
    uint16_t carried[PORTS]; /* how many Services carry the port */
    uint16_t listed[PORTS];  /* how many policies list it */
    int64_t rests_until[PORTS];
};

struct ports *ports_new(struct loop *loop, const struct ports_settings *settings)
{
    struct ports *p = mem_zalloc(sizeof(*p));
    p->loop = loop;
    p->set = *settings;
    return p;
}

void ports_free(struct ports *p)
{
    free(p);
}

static bool rests(const struct ports *p, unsigned port)
{
    return p->rests_until[port] > loop_now(p->loop);
}

static bool is_free(const struct ports *p, unsigned port)
{
    return !ports_taken(p, (uint16_t)port) && !p->carried[port] && !p->listed[port] &&
           !rests(p, port);
}

int ports_pick(struct ports *p, uint16_t *port)
{
    unsigned n = p->set.last - p->set.first + 1u, start = 0;
    *port = 0;
    if (p->set.first == 0) {
        return OK;
    }
    for (int i = 0; p->set.at_random && i < TRIES; i++) {
        uint32_t dice;
        sys->random(&dice, sizeof(dice));
        start = dice % n;
        if (is_free(p, p->set.first + start)) {
            break;
        }
    }
    /* A range that is nearly full is searched from the last random port on. */
    for (unsigned i = 0; i < n; i++) {
        unsigned candidate = p->set.first + (start + i) % n;
        if (is_free(p, candidate)) {
            *port = (uint16_t)candidate;
            return OK;
        }
    }
    return ERR;
}

struct ports_use ports_use(const struct ports *p)
{
    struct ports_use use = {.next = INT64_MAX};
    for (unsigned port = p->set.first; port <= p->set.last; port++) {
        if (ports_taken(p, (uint16_t)port) || p->carried[port]) {
            use.taken++;
        } else if (p->listed[port]) {
            use.listed++;
        } else if (rests(p, port)) {
            use.resting++;
            use.next = p->rests_until[port] < use.next ? p->rests_until[port] : use.next;
        }
    }
    return use;
}

void ports_take(struct ports *p, uint16_t port)
{
    p->taken[port / 8] |= (uint8_t)(1u << port % 8);
}

bool ports_taken(const struct ports *p, uint16_t port)
{
    return p->taken[port / 8] >> port % 8 & 1;
}

void ports_release(struct ports *p, uint16_t port)
{
    assert(ports_taken(p, port));
    p->taken[port / 8] &= (uint8_t) ~(1u << port % 8);
    ports_rest(p, port);
}

/* ---- rests ---- */

void ports_rest_until(struct ports *p, uint16_t port, int64_t until)
{
    if (until > p->rests_until[port]) {
        p->rests_until[port] = until;
    }
}

int64_t ports_rests_until(const struct ports *p, uint16_t port)
{
    return p->rests_until[port];
}

void ports_rest(struct ports *p, uint16_t port)
{
    ports_rest_until(p, port, loop_now(p->loop) + p->set.rest);
}

void ports_avoid(struct ports *p, uint16_t port)
{
    ports_rest_until(p, port, loop_now(p->loop) + AVOIDED);
}

/* ---- objects in the cluster ---- */

void ports_carry(struct ports *p, uint16_t port)
{
    p->carried[port]++;
}

void ports_drop(struct ports *p, uint16_t port)
{
    assert(p->carried[port] > 0);
    if (--p->carried[port] == 0) {
        ports_rest(p, port);
    }
}

unsigned ports_carried(const struct ports *p, uint16_t port)
{
    return p->carried[port];
}

void ports_list(struct ports *p, uint16_t first, uint16_t last)
{
    for (unsigned port = first; port <= last; port++) {
        p->listed[port]++;
    }
}

void ports_unlist(struct ports *p, uint16_t first, uint16_t last)
{
    for (unsigned port = first; port <= last; port++) {
        assert(p->listed[port] > 0);
        if (--p->listed[port] == 0) {
            ports_rest_until(p, (uint16_t)port, loop_now(p->loop) + UNLISTED_REST);
        }
    }
}

unsigned ports_listed(const struct ports *p, uint16_t port)
{
    return p->listed[port];
}
