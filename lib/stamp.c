/* Times of the calendar as text. */
#include "lib/stamp.h"

#include <time.h>

#include "lib/base.h"
#include "lib/text.h"

#define MINUTE_FORMAT "%Y-%m-%dT%H:%MZ"

static struct tm utc(time_t seconds)
{
    struct tm tm;
    gmtime_r(&seconds, &tm);
    return tm;
}

void stamp_now(char out[static STAMP_SIZE])
{
    struct tm tm = utc(time(NULL));
    strftime(out, STAMP_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

void stamp_now_exactly(char out[static STAMP_SIZE])
{
    struct timespec now;
    char seconds[20];
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm = utc(now.tv_sec);
    strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &tm);
    text_fmt(out, STAMP_SIZE, "%s.%06ldZ", seconds, now.tv_nsec / 1000);
}

uint32_t stamp_minute_in(int64_t left)
{
    return (uint32_t)((time(NULL) + left / SECONDS(1)) / 60 + 1);
}

void stamp_minute(char out[static STAMP_SIZE], uint32_t minute)
{
    struct tm tm = utc((time_t)minute * 60);
    strftime(out, STAMP_SIZE, MINUTE_FORMAT, &tm);
}

int64_t stamp_left(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, MINUTE_FORMAT, &tm);
    int64_t seconds = end && !*end ? (int64_t)timegm(&tm) : 0;
    return SECONDS(1) * (seconds - (int64_t)time(NULL));
}
