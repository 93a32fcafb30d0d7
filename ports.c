/* One bit a port for those that are taken, and a queue of those that rest, oldest first. */
#include "ports.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/sys.h"

enum { PORTS = 65536, TRIES = 16 };

#define AVOIDED SECONDS(5)

struct resting {
    int64_t until;
    uint16_t port;
};

struct ports {
    struct loop *loop;
    struct ports_settings set;
    uint8_t taken[PORTS / 8];
    uint16_t rests[PORTS]; /* how often it stands in the queue */
    struct resting *queue; /* queue[head, tail) */
    size_t head, tail, cap;
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
    if (p) {
        free(p->queue);
        free(p);
    }
}

static void end_rests(struct ports *p)
{
    while (p->head < p->tail && p->queue[p->head].until <= loop_now(p->loop)) {
        p->rests[p->queue[p->head++].port]--;
    }
}

static bool is_free(const struct ports *p, unsigned port)
{
    return !ports_taken(p, (uint16_t)port) && p->rests[port] == 0;
}

int ports_pick(struct ports *p, uint16_t *port)
{
    unsigned n = p->set.last - p->set.first + 1u, start = 0;
    *port = 0;
    if (p->set.first == 0) {
        return OK;
    }
    end_rests(p);
    for (int i = 0; p->set.at_random && i < TRIES; i++) {
        uint32_t dice;
        sys->random(&dice, sizeof(dice));
        start = dice % n;
        if (is_free(p, p->set.first + start)) {
            break;
        }
    }
    /* A range that is nearly full is searched from the last throw on. */
    for (unsigned i = 0; i < n; i++) {
        unsigned candidate = p->set.first + (start + i) % n;
        if (is_free(p, candidate)) {
            *port = (uint16_t)candidate;
            return OK;
        }
    }
    return ERR;
}

void ports_take(struct ports *p, uint16_t port)
{
    p->taken[port / 8] |= (uint8_t)(1u << port % 8);
}

bool ports_taken(const struct ports *p, uint16_t port)
{
    return p->taken[port / 8] >> port % 8 & 1;
}

static void enqueue(struct ports *p, struct resting r)
{
    if (p->tail == p->cap && p->head > 0) {
        memmove(p->queue, p->queue + p->head, (p->tail - p->head) * sizeof(*p->queue));
        p->tail -= p->head;
        p->head = 0;
    }
    if (p->tail == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->queue = mem_realloc(p->queue, p->cap * sizeof(*p->queue));
    }
    p->queue[p->tail++] = r;
}

static void rest(struct ports *p, uint16_t port, int64_t time)
{
    end_rests(p);
    p->rests[port]++;
    enqueue(p, (struct resting){loop_now(p->loop) + time, port});
}

void ports_release(struct ports *p, uint16_t port)
{
    assert(ports_taken(p, port));
    p->taken[port / 8] &= (uint8_t) ~(1u << port % 8);
    if (p->set.rest > 0) {
        rest(p, port, p->set.rest);
    }
}

/* Not for a shorter time than others rest, which keeps the queue in order. */
void ports_avoid(struct ports *p, uint16_t port)
{
    rest(p, port, p->set.rest > AVOIDED ? p->set.rest : AVOIDED);
}
