/* Fits the process to the descriptors and the memory that the system grants it. */
#ifndef TPROXY_TPROXY_LIMITS_H
#define TPROXY_TPROXY_LIMITS_H

#include <stddef.h>

/* Keeps secrets out of core files. */
void limits_forbid_core_dumps(void);

/* Raises the limit of descriptors, and bounds loans to bulk transfers and clients that linger.
 * Returns the maximum number of sessions: `max_sessions`, or, when that is 0, what descriptors and
 * memory allow. */
size_t limits_set(size_t max_sessions);

#endif
