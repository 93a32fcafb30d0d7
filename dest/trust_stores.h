/* Trust stores that destinations have in common. A company's mailboxes name the same certificates,
 * and each answer of the Destination service brings them anew. */
#ifndef TPROXY_DEST_TRUST_STORES_H
#define TPROXY_DEST_TRUST_STORES_H

#include <stddef.h>

#include "lib/list.h"
#include "lib/map.h"

struct destination;

struct dest_trust_stores {
    struct map by_digest;
    struct list all;
    size_t sweep_at; /* at this number, those that no destination has any more are dropped */
};

void dest_trust_stores_init(struct dest_trust_stores *stores);
void dest_trust_stores_close(struct dest_trust_stores *stores);

/* Lets the destination share its trust store, if it has one, with earlier destinations. */
void dest_trust_stores_share(struct dest_trust_stores *stores, const struct destination *dest);

#endif
