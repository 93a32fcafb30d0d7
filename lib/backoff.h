/* Computes how long to wait before another attempt: longer after each failure, and partly by
 * chance, so that those that failed together do not come back together. */
#ifndef TPROXY_LIB_BACKOFF_H
#define TPROXY_LIB_BACKOFF_H

#include <stdint.h>

/* Returns the delay after a failure, microseconds: `first`, doubled for each of the `failures`
 * before it, at most `most`. The last `percent` per cent of it are random. */
int64_t backoff_delay(unsigned failures, int64_t first, int64_t most, unsigned percent);

/* Returns a random number from 0 to n - 1; 0 when n is not positive. */
int64_t backoff_random(int64_t n);

#endif
