/* Writes and reads times of the calendar in UTC (RFC 3339). Everything else counts on the monotonic
 * clock; these texts are for people, and for other processes. */
#ifndef TPROXY_LIB_STAMP_H
#define TPROXY_LIB_STAMP_H

#include <stdint.h>

/* Room for the longest text, with its NUL. */
enum { STAMP_SIZE = 32 };

/* Write the time now: "2026-01-31T10:15:20Z", and with microseconds "2026-01-31T10:15:20.123456Z".
 */
void stamp_now(char out[static STAMP_SIZE]);
void stamp_now_exactly(char out[static STAMP_SIZE]);

/* Returns the minute, counted from 1970, in which `left` microseconds will have passed; rounded
 * up. */
uint32_t stamp_minute_in(int64_t left);

/* Writes a minute, counted from 1970: "2026-01-31T10:15Z". */
void stamp_minute(char out[static STAMP_SIZE], uint32_t minute);

/* Returns how many microseconds are left until the minute that stamp_minute has written; negative
 * when it has begun, or when the text is not a minute. */
int64_t stamp_left(const char *text);

#endif
