/* Lines for the person at the terminal, in local mode. A line is dropped when the terminal is
 * stopped, because that must not stop us. */
#ifndef TPROXY_TPROXY_TERMINAL_H
#define TPROXY_TPROXY_TERMINAL_H

#include "lib/base.h"
#include "lib/json.h"

struct local_object;

/* Prints a line. */
void terminal_say(const char *fmt, ...) printf_like(1, 2);

/* Prints a row of the table of mailboxes: name, address and state. */
void terminal_row(const char *name, const char *where, const char *text);

/* Prints and logs what is wrong with a file; NULL: nothing is wrong any more. It is the `complaint`
 * of struct local_directory_handler. */
void terminal_complaint(const char *path, const char *text, void *arg);

/* Prints why an object has no effect. It is the `without_effect` of struct local_feed. */
void terminal_without_effect(const struct local_object *object, const char *text, void *arg);

/* Prints what is wrong with a TransparentProxy object. It is the `status` of struct
 * local_cluster_handler. */
void terminal_status(const char *kind, const char *name, struct json_value status, void *arg);

#endif
