/* The object that replicas elect a leader with (coordination.k8s.io/v1, Lease): read, judged,
 * written. The rules are those of client-go (tools/leaderelection), stricter where its candidates
 * could begin before another one has ended. Pure. */
#ifndef TPROXY_CLUSTER_LEASE_RECORD_H
#define TPROXY_CLUSTER_LEASE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/json.h"

/* The longest duration that is believed, also the longest that can be configured. */
#define LEASE_DURATION_MAX SECONDS(600)

/* The content of a Lease. All zero: nothing was read yet. */
struct lease_record {
    char *uid, *version; /* NULL: unknown */
    char *holder;        /* "": nobody; NULL: nothing was read */
    char *acquired;      /* acquireTime; "": it has none */
    int64_t duration;    /* leaseDurationSeconds; 0: missing, or not a positive number */
    int64_t transitions; /* leaseTransitions; at least 0 */
    uint64_t number;     /* the version as a number; see object_version */
    uint64_t digest;     /* of everything that the spec says */
};

/* Reads an object. What the record held before is freed. */
void lease_record_read(struct lease_record *record, struct json_value object);

/* Frees the texts; the record is all zero afterwards. */
void lease_record_clear(struct lease_record *record);

/* Tells whether the two say the same of the same object. */
bool lease_record_equal(const struct lease_record *a, const struct lease_record *b);

/* Tells whether this is the identity of the holder. */
bool lease_record_held_by(const struct lease_record *record, const char *identity);

/* Tells whether the holder has given up its term as lease_release does: no holder, and a duration
 * of one second. A Lease from which somebody has only removed the holder is not released: the
 * holder may not know of it yet. */
bool lease_record_released(const struct lease_record *record);

/* Returns how long others have to wait after a change of a Lease that is held, microseconds: its
 * duration, but at least our own, `duration`, and at most LEASE_DURATION_MAX. */
int64_t lease_record_wait(const struct lease_record *record, int64_t duration);

/* The fields to write into a Lease. */
struct lease_entry {
    const char *holder; /* "": the Lease is released */
    const char *acquired, *renewed;
    int64_t duration;    /* seconds */
    int64_t transitions; /* counted from 0 */
};

/* Appends the body of a request, with our labels: a patch of the object that `old` was read from,
 * if that is still as it was read then; a new object when `old` is NULL. ERR: it does not fit. */
int lease_record_write(struct buf *out, const char *namespace, const char *name,
                       const struct lease_record *old, const struct lease_entry *entry) warn_unused;

#endif
