/* A reference to a destination, as a Destination CR gives it. Pure. */
#ifndef TPROXY_CORE_DEST_REF_H
#define TPROXY_CORE_DEST_REF_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/buf.h"

struct dest_variable {
    const char *name, *value;
};

/* A text is NULL when the CR does not give it. */
struct dest_ref {
    const char *name;
    const char *level; /* "subaccount", ...; NULL: the instance's, else the subaccount's */
    const char *fragment, *fragment_level;
    bool fragment_optional;
    const char *chain;
    const struct dest_variable *variables; /* of the chain */
    size_t n_variables;
    const char *instance; /* of the Destination service; NULL: neither given nor a default */
    const char *tenant;   /* subdomain of the subscriber that owns the destination; NULL: the
                             provider owns it */
};

/* Returns a copy with its own texts. The caller clears it. */
struct dest_ref dest_ref_copy(const struct dest_ref *ref);

/* Frees the texts of a copy and leaves it empty. May be called more than once. */
void dest_ref_clear(struct dest_ref *ref);

/* Tells whether two references are equal in everything. */
bool dest_ref_equal(const struct dest_ref *a, const struct dest_ref *b);

/* Appends a key, which is equal for two references exactly when dest_ref_equal returns true.
 * Returns ERR when it does not fit. */
int dest_ref_key(struct buf *out, const struct dest_ref *ref) warn_unused;

#endif
