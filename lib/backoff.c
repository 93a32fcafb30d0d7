/* Delays that double, with a random part. */
#include "lib/backoff.h"

#include "lib/sys.h"

int64_t backoff_random(int64_t n)
{
    uint64_t r;
    sys->random(&r, sizeof(r));
    return n > 0 ? (int64_t)(r % (uint64_t)n) : 0;
}

int64_t backoff_delay(unsigned failures, int64_t first, int64_t most, unsigned percent)
{
    int64_t delay = first;
    for (unsigned i = 0; i < failures && delay < most; i++) {
        delay *= 2;
    }
    delay = delay < most ? delay : most;
    int64_t part = delay / 100 * percent;
    return delay - part + backoff_random(part);
}
