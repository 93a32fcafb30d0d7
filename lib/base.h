/* The few words every file of tproxy uses: results, time units, small macros. */
#ifndef TPROXY_LIB_BASE_H
#define TPROXY_LIB_BASE_H

#include <stddef.h>
#include <stdint.h>

/* Results of functions that can fail. AGAIN: not yet; an event will tell when. */
enum { OK = 0, AGAIN = 1, ERR = -1 };

/* Time is a count of microseconds on the monotonic clock, or a span of them. */
#define MILLIS(n) ((int64_t)(n)*1000)
#define SECONDS(n) ((int64_t)(n)*1000000)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* The object that embeds *ptr as its field `member`. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define warn_unused __attribute__((warn_unused_result))
#define printf_like(fmt, first) __attribute__((format(printf, fmt, first)))

#endif
