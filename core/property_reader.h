/* Reads properties of a destination one by one, for core/destination.c and core/token_service.c. No
 * other file includes this header. Pure. */
#ifndef TPROXY_CORE_PROPERTY_READER_H
#define TPROXY_CORE_PROPERTY_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/destination.h"
#include "core/properties.h"
#include "lib/text.h"

/* The state of one destination_new. */
struct reader {
    const struct properties *props;
    struct destination *dest;
    struct destination_problem *problem;
    bool allow_loopback;
    bool host_is_local; /* the host is this machine: nobody on the way can read along */
    char shown[96];     /* the last value that went into a message */
};

/* Sets the problem that makes the destination unusable. Always returns ERR. */
int reader_refuse(struct reader *r, enum verdict verdict, const char *field, const char *fmt, ...)
    printf_like(4, 5);

/* Adds a warning. Drops it when there are DESTINATION_WARNINGS_MAX already; the last one says that
 * there are more. */
void reader_warn(struct reader *r, const char *fmt, ...) printf_like(2, 3);

/* Returns a value for a message, valid until the next call. Do not call it for a secret. */
const char *reader_show(struct reader *r, struct str value);

/* Tells whether there is such a property. */
bool reader_has(const struct reader *r, const char *name);

/* Returns the value without blanks around it. It is empty when there is no such property. */
struct str reader_value(const struct reader *r, const char *name);

/* Reads a value that is sent to a server: unchanged, with its blanks; empty when there is no such
 * property. Refuses the destination and returns ERR when the value contains CR, LF or NUL or has
 * more than `max` bytes. */
int reader_wire_value(struct reader *r, const char *name, size_t max,
                      struct str *value) warn_unused;

/* Returns a boolean as Jakarta Mail reads it: "true" or "false" in upper or lower case. Any other
 * value counts as the default, with a warning. */
bool reader_flag(struct reader *r, const char *name, bool otherwise);

/* Returns the kind of login as the property Authentication spells it ("BasicAuthentication").
 * Static storage. */
const char *mail_auth_name(enum mail_auth auth);

#endif
