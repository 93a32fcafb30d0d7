/* Credentials that a mail server has refused. They are not shown to it again for a while, which
 * grows from one refusal to the next, for accounts get locked. Each credential has its own: who
 * comes with a bad one locks nobody else out. Pure: the time is the caller's. */
#ifndef TPROXY_CORE_REFUSALS_H
#define TPROXY_CORE_REFUSALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/digest.h"
#include "lib/text.h"

/* So many are remembered; then the one whose time is over first makes room. */
enum { REFUSALS_MAX = 64 };

/* A user, and a password or token: what is shown to the mail server, as its digest. */
struct credential {
    unsigned char digest[DIGEST_SHA256_SIZE];
};

struct credential credential_of(const char *user, struct str secret);

struct refusal {
    struct credential credential;
    int64_t until;  /* on the monotonic clock */
    unsigned count; /* in a row */
    bool final;     /* nothing newer could take its place; else another one may be asked for */
    char *text;     /* the mail server's refusal, in words */
};

/* Zero-initialise. */
struct refusals {
    struct refusal *list;
    size_t n;
};

void refusals_clear(struct refusals *refusals);

/* The refusal that is in force at `now`, valid until the next call with these refusals. NULL: the
 * credential may be shown. */
struct refusal *refusals_find(const struct refusals *refusals, const struct credential *credential,
                              int64_t now);

/* The credential was refused now. `before`: how often those that it took the place of had been.
 * Returns how often it has been, these included. */
unsigned refusals_add(struct refusals *refusals, const struct credential *credential,
                      unsigned before, bool final, int64_t now, const char *text);

/* It was accepted. */
void refusals_drop(struct refusals *refusals, const struct credential *credential);

#endif
