/* Decides when to repair an object, that is, to write it again because it did not stay as it was
 * written: somebody else changes it back, or the API server stores something else. The first repair
 * is made at once, the next ones after pauses that double from REPAIRS_FIRST to REPAIRS_MOST. After
 * an object has stayed as written for REPAIRS_FORGOTTEN, everything begins anew. Another text than
 * the last one never waits. Pure: the caller passes the time. */
#ifndef TPROXY_CORE_REPAIRS_H
#define TPROXY_CORE_REPAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/text.h"

#define REPAIRS_FIRST SECONDS(1)
#define REPAIRS_MOST SECONDS(5 * 60)
#define REPAIRS_FORGOTTEN SECONDS(10 * 60)

/* Returns the digest of a text that is to be written. */
uint64_t repairs_digest(struct str text);

/* The repairs of one object, embedded in its owner. All members are zero before the object is
 * written. A `wish` is the digest of a text that is to be written. */
struct repairs {
    uint64_t wish;  /* the wish that was written last; 0: none */
    int64_t due;    /* the time before which it is not written again */
    unsigned count; /* number of repairs in a row */
};

/* Returns the time from which the wish may be written; 0: at once. */
int64_t repairs_due(const struct repairs *r, uint64_t wish);

/* Notes that the wish is written now. Returns true for the second repair in a row: the caller then
 * reports that somebody else changes the object. */
bool repairs_note(struct repairs *r, uint64_t wish, int64_t now);

/* Notes that the last write has failed: it does not count, and may be tried again at once. */
void repairs_failed(struct repairs *r, int64_t now);

/* Forgets all notes, because something else is wanted now. */
void repairs_forget(struct repairs *r);

/* Tells whether the object was repaired at least twice in a row, and the last repair is too recent
 * to say that it has lasted. */
bool repairs_contested(const struct repairs *r, int64_t now);

#endif
