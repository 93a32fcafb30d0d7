/* Elects one of several replicas as the leader, the only one that writes to the cluster, by a Lease
 * in the home namespace (kubernetes.io, "Leases"). The semantics are those of client-go, but the
 * Lease is watched, not polled.
 *
 * Times are counted on CLOCK_BOOTTIME, which goes on while the process is stopped or the machine
 * sleeps. The clocks of two machines are never compared: others wait for the duration from the
 * moment at which they have last seen the Lease change, and our own term ends earlier, a deadline
 * after the moment at which we have sent the last renewal that succeeded.
 *
 * A Lease that was deleted keeps others out as if it had been renewed at that moment. Two replicas
 * can lead at once only if somebody deletes it while another replica starts, or writes into it what
 * a release would: then until the leader learns of it, by its watch. */
#ifndef TPROXY_CLUSTER_LEASE_H
#define TPROXY_CLUSTER_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"

struct cluster;
struct lease;
struct loop;

/* The usual name of the Lease; RBAC names it, too. */
#define LEASE_NAME "tproxy"

/* Texts are copied. Times in microseconds: duration > deadline > 1.2 times the retry period. */
struct lease_settings {
    const char *namespace; /* the installation's */
    const char *name;      /* of the Lease: LEASE_NAME */
    const char *instance;  /* begins the identity of this process; the pod's name */
    int64_t duration;      /* of a term, as others count it; whole seconds */
    int64_t deadline;      /* the leader gives up if no renewal has succeeded for so long */
    int64_t retry;         /* between two renewals, or two attempts */
};

/* The functions are called from the loop, never from inside a call of lease_*. They may call
 * lease_held and lease_view. */
struct lease_handler {
    /* Our term begins: lease_held() is true. */
    void (*acquired)(void *arg);

    /* Our term has ended. `why` is a part of a sentence, valid during the call. */
    void (*lost)(const char *why, void *arg);

    void *arg;
};

/* Starts to follow the Lease and to compete for it. From now on lease_held() is the gate of the
 * cluster: all its writes but those of the Lease itself. */
struct lease *lease_new(struct loop *loop, struct cluster *cluster,
                        const struct lease_settings *settings, struct lease_handler handler);

/* Stops and frees it. The Lease stays as it is, and the gate stays closed. NULL is allowed. */
void lease_free(struct lease *lease);

/* Tells whether this process may write now: our term runs, and as far as we know the Lease says so.
 * Reads the clock. */
bool lease_held(const struct lease *lease);

/* Ends our term, without a call of `lost`, and does not compete any more. The Lease is released for
 * the next one when all writes under way have been answered. If that takes too long, or the API
 * server does not answer, the Lease is left to run out. */
void lease_release(struct lease *lease);

/* Tells whether lease_release has done its work. */
bool lease_is_over(const struct lease *lease);

/* Says who leads. Texts are valid until the next turn. */
struct lease_view {
    bool held;           /* by this process */
    const char *holder;  /* identity of the leader; "": nobody leads, or it is unknown */
    const char *problem; /* why the Lease cannot be read or written: a sentence; NULL: it can be */
};
struct lease_view lease_view(const struct lease *lease);

/* Appends the metrics. */
void lease_metrics(const struct lease *lease, struct buf *out);

#endif
