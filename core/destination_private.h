/* What the two halves of core/destination share: the reading of properties. For destination.c and
 * destination_tokens.c only. */
#ifndef TPROXY_CORE_DESTINATION_PRIVATE_H
#define TPROXY_CORE_DESTINATION_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/destination.h"
#include "core/properties.h"
#include "lib/text.h"

/* The work of one destination_new. */
struct reader {
    const struct properties *props;
    struct destination *dest;
    struct destination_problem *problem;
    bool allow_loopback;
    bool host_is_local; /* the host is this machine: what is said to it is not overheard */
    char shown[96];     /* the last value that went into a message */
};

/* The destination cannot be used: always ERR. */
int reader_refuse(struct reader *r, enum verdict verdict, const char *field, const char *fmt, ...)
    printf_like(4, 5);
void reader_warn(struct reader *r, const char *fmt, ...) printf_like(2, 3);

/* A value for a message; valid until the next call. Never for secrets. */
const char *reader_show(struct reader *r, struct str value);

bool reader_has(const struct reader *r, const char *name);

/* The value without blanks around it; empty when there is no such property. */
struct str reader_value(const struct reader *r, const char *name);

/* A value that goes onto a wire: as it is, blanks included. ERR when it cannot. */
int reader_wire_value(struct reader *r, const char *name, size_t max,
                      struct str *value) warn_unused;

/* As Jakarta Mail reads booleans: what is not the opposite of the default, in any case, is the
 * default. */
bool reader_flag(struct reader *r, const char *name, bool otherwise);

/* Fills dest->tokens, if its kind of login needs them. */
int destination_read_tokens(struct reader *r) warn_unused;

void token_service_free(struct token_service *service);
bool token_service_equal(const struct token_service *a, const struct token_service *b);

#endif
