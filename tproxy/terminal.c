/* Lines for the person at the terminal. */
#include "tproxy/terminal.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "configuration/proxy_status.h"
#include "core/custom_resource.h"
#include "lib/log.h"
#include "lib/text.h"
#include "local/object.h"

void terminal_say(const char *fmt, ...)
{
    char line[4096]; /* the command that converts a file names it twice */
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line) - 1, fmt, ap);
    va_end(ap);
    text_sanitize(line);
    size_t n = strlen(line);
    line[n] = '\n';
    if (poll(&p, 1, 0) == 1 && p.revents & POLLOUT) {
        ssize_t ignored = write(STDOUT_FILENO, line, n + 1);
        (void)ignored;
    }
}

void terminal_row(const char *name, const char *where, const char *text)
{
    terminal_say("%-24s  %-21s  %s", name, where, text);
}

void terminal_without_effect(const struct local_object *object, const char *text, void *arg)
{
    (void)arg;
    terminal_say("%s %s: %s", object->kind, object->name, text);
}

void terminal_complaint(const char *path, const char *text, void *arg)
{
    (void)arg;
    terminal_say("%s: %s", path, text ? text : "in order again");
    log_line(text ? LOG_WARN : LOG_INFO, "local", "%s: %s", path, text ? text : "in order again");
}

void terminal_status(const char *kind, const char *name, struct json_value status, void *arg)
{
    struct json_value conditions = json_get(status, "conditions");
    (void)arg;
    for (struct json_value c = json_first(conditions); json_exists(c); c = json_next(c)) {
        char *message = json_strdup(json_get(c, "message"), NULL);
        if (message && strcmp(kind, CR_KIND) != 0 && proxy_status_is_problem(c)) {
            terminal_say("%s %s: %s", kind, name, message);
        }
        free(message);
    }
}
