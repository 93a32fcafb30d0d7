/* Limits log lines that a stranger can cause as often as he likes. The first one of a kind is
 * written at once. Those that come within the next 60 s are counted, and one line at the end says
 * how many there were: "... (N more of the same in the last 60 s)". Then another 60 s begin, until
 * 60 s have passed without any.
 *
 * No line is lost from the count. At the levels debug and trace nothing is held back. */
#ifndef TPROXY_LIB_LOG_LIMIT_H
#define TPROXY_LIB_LOG_LIMIT_H

#include <stddef.h>

#include "lib/base.h"
#include "lib/list.h"
#include "lib/log.h"
#include "lib/loop.h"

/* The recent lines of one owner (a target, a server). Embedded; the fields are private. Memory is
 * only taken for kinds of lines that were written within the last 60 s. */
struct log_limits {
    struct loop *loop;
    const char *module;
    const char *target;
    struct list kinds;
};

/* Initialises the limits. `module` and `target` belong to the caller and outlive the limits. The
 * target becomes a field of the line with the count; NULL: no such field. */
void log_limits_init(struct log_limits *l, struct loop *loop, const char *module,
                     const char *target);

/* Writes or counts a line. `kind` tells the owner's lines apart; there are few kinds. */
void log_limited(struct log_limits *l, unsigned kind, enum log_level level,
                 const struct log_field *fields, size_t n, const char *fmt, ...) printf_like(6, 7);

/* Writes the counts that are left and forgets all kinds. */
void log_limits_close(struct log_limits *l);

#endif
