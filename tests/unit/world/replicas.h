/* Replicas that compete for the Lease of one cluster, which the test plays (world/cluster.h). Each
 * has a loop of its own, so that one of them can be stopped; all have the same clock, which only
 * the test moves. */
#ifndef TPROXY_TESTS_WORLD_REPLICAS_H
#define TPROXY_TESTS_WORLD_REPLICAS_H

#include "cluster/lease.h"
#include "lib/loop.h"
#include "tests/unit/world/cluster.h"
#include "tests/unit/world/streams.h"

enum { REPLICAS = 3 };

#define HOME "home"
#define DURATION SECONDS(15)
#define DEADLINE SECONDS(10)
#define RETRY SECONDS(2)

struct replica {
    struct loop *loop;
    struct lease *lease; /* NULL: it does not run */
    bool stopped;        /* by SIGSTOP */
    bool leads;          /* as its handler was told */
    unsigned acquired, lost;
    char why[256]; /* it was lost */
};
extern struct replica replicas[REPLICAS];

/* How long the machine has slept in all: CLOCK_BOOTTIME counts it, CLOCK_MONOTONIC does not. */
extern int64_t slept;

/* Starts a process. */
void replica_start(int i);

/* Ends a process as kill -9 does: what it has sent may still be carried out. */
void replica_kill(int i);

/* Sets up, ends. */
int replicas_setup(void **state);
int replicas_teardown(void **state);

/* Turns the loops of all processes that are not stopped. */
void replicas_turn(void);

#endif
