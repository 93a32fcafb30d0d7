/* Which destination, as a Destination CR says it. Pure. */
#ifndef TPROXY_CORE_DEST_REF_H
#define TPROXY_CORE_DEST_REF_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"

struct dest_variable {
    const char *name, *value;
};

/* A text that is NULL is not given. */
struct dest_ref {
    const char *name;
    const char *level; /* "subaccount", ...; NULL: the instance's, or else the subaccount's */
    const char *fragment, *fragment_level;
    bool fragment_optional;
    const char *chain;
    const struct dest_variable *variables; /* of the chain */
    size_t n_variables;
    const char *instance; /* of the Destination service; NULL: there is no default one */
    const char *tenant;   /* subdomain of the subscriber whose destination it is; NULL: the
                             provider's own */
};

/* A copy whose texts are its own. */
struct dest_ref dest_ref_copy(const struct dest_ref *ref);

/* Of a copy. Idempotent. */
void dest_ref_clear(struct dest_ref *ref);

/* Do they say the same? */
bool dest_ref_equal(const struct dest_ref *a, const struct dest_ref *b);

/* Appends what tells two references apart: equal exactly when all they say is equal. ERR when it
 * does not fit. */
int dest_ref_key(struct buf *out, const struct dest_ref *ref) warn_unused;

#endif
