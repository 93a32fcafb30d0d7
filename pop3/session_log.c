/* Log lines about one session. */
#include "pop3/session_log.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/destination.h"
#include "lib/relay.h"
#include "lib/text.h"
#include "pop3/client.h"
#include "pop3/session_state.h"
#include "pop3/state.h"

/* Writes a line; under `limits`, as one of that kind, unless they are NULL. */
printf_like(5, 0) static void write_line(const struct session *s, struct log_limits *limits,
                                         unsigned kind, enum log_level level, const char *fmt,
                                         va_list ap)
{
    if (!log_enabled(level)) {
        return;
    }
    char text[FAIL_TEXT_MAX + POP3_REPLY_MAX];
    vsnprintf(text, sizeof(text), fmt, ap);
    struct log_field fields[] = {LOG_NUM("session", s->id), LOG_STR("target", s->target->name)};
    if (limits) {
        log_limited(limits, kind, level, fields, ARRAY_LEN(fields), "%s", text);
    } else {
        log_fields(level, "pop3", fields, ARRAY_LEN(fields), "%s", text);
    }
}

void pop3_session_log(const struct session *s, enum log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_line(s, NULL, 0, level, fmt, ap);
    va_end(ap);
}

void pop3_session_log_limited(struct session *s, unsigned kind, enum log_level level,
                              const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    write_line(s, &s->target->limits, kind, level, fmt, ap);
    va_end(ap);
}

void pop3_session_log_summary(struct session *s, const char *result)
{
    /* A probe connects every few seconds and never tries to log in. */
    enum log_level level = s->tried ? LOG_INFO : LOG_DEBUG;
    if (!log_enabled(level)) {
        return;
    }
    struct addr_text client = addr_text(&s->peer);
    char backend[DESTINATION_HOST_MAX + 8] = "";
    if (s->mailbox) {
        text_fmt(backend, sizeof(backend), "%s:%u", s->mailbox->dest->host, s->mailbox->dest->port);
    }
    struct log_field fields[] = {
        LOG_NUM("session", s->id),
        LOG_STR("target", s->target->name),
        LOG_STR("client", client.s),
        LOG_STR("backend", backend),
        LOG_NUM("duration_ms", (loop_now(s->target->pop3->loop) - s->started) / 1000),
        LOG_NUM("bytes_to_client", s->relay ? relay_to_client(s->relay) : 0),
        LOG_NUM("bytes_to_backend", s->relay ? relay_to_backend(s->relay) : 0),
        LOG_STR("result", result),
    };
    if (s->tried && !s->logged_in) {
        log_limited(&s->target->limits, LINE_SESSION_FAILED, level, fields, ARRAY_LEN(fields),
                    "session ended");
    } else {
        log_fields(level, "pop3", fields, ARRAY_LEN(fields), "session ended");
    }
}
