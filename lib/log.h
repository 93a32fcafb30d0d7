/* The log: one JSON object (or, for people, one line of text) per event on a descriptor. Lines are
 * gathered and written once a turn. When a reader does not take them, we drop and count lines and
 * never wait. The one logger of the process lives in this module. */
#ifndef TPROXY_LIB_LOG_H
#define TPROXY_LIB_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/text.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_FATAL };
enum log_format { LOG_FORMAT_JSON, LOG_FORMAT_TEXT };

/* Sets where lines go from now on and in which form. The default is text to descriptor 2. The
 * descriptor stays the caller's and must stay open; its flags stay as they are. The process must
 * ignore SIGPIPE. */
void log_open(int fd, enum log_format format);

void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* Tells whether a line of this level is written, for callers that would have to compute its
 * text. */
bool log_enabled(enum log_level level);

/* Return the name of a level ("trace" ... "fatal", static storage), and the level of a name in any
 * case. ERR: another name. */
const char *log_level_name(enum log_level level);
int log_level_parse(struct str name, enum log_level *level) warn_unused;

/* A named value on a line, a string or a number. */
struct log_field {
    const char *key;
    const char *str; /* NULL: the value is `num` */
    int64_t num;
};
#define LOG_STR(k, s) ((struct log_field){.key = (k), .str = (s)})
#define LOG_NUM(k, v) ((struct log_field){.key = (k), .num = (int64_t)(v)})

/* Adds a line: time, level, `module`, the message, then the fields. Text may contain anything; it
 * is escaped, and cut at a limit. Callers keep secrets, tokens and mail content out of it at every
 * level. */
void log_fields(enum log_level level, const char *module, const struct log_field *fields, size_t n,
                const char *fmt, ...) printf_like(5, 6);

#define log_line(level, module, ...) log_fields(level, module, NULL, 0, __VA_ARGS__)

/* Writes the gathered lines as far as the descriptor takes them now. AGAIN: lines are left, because
 * the reader does not read; only another call will write them. Lines that find the buffer full are
 * dropped, and "N log lines dropped" stands in their place. */
int log_flush(void);

/* Writes as log_flush does, but waits up to a second for the reader. For the end of the process. */
void log_flush_wait(void);

/* Returns the number of lines dropped so far because nobody read. */
uint64_t log_dropped(void);

#endif
