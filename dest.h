/* The Destination service: instances and their service keys, the client of its REST API, the cache
 * of destinations (SPEC: Find Destination; help.sap.com, "Destination Service REST API").
 *
 * A question goes: reference -> instance -> access token (oauth) -> GET .../destinations/NAME ->
 * struct destination and, to log in, the token for the mail server. */
#ifndef TPROXY_DEST_H
#define TPROXY_DEST_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/buf.h"

struct connectivity;
struct dest;
struct dest_source;
struct dns;
struct loop;
struct oauth;
struct service_key;
struct tls_roots;

/* What it works with stays the caller's; roots are referenced. allow_loopback: destinations may
 * name hosts that are this machine. */
struct dest *dest_new(struct loop *loop, struct dns *dns, struct oauth *oauth,
                      struct connectivity *connectivity, struct tls_roots *roots,
                      bool allow_loopback);

/* No request to its source is under way any more. NULL is allowed. */
void dest_free(struct dest *dest);

/* For requests from now on: other certificates are trusted (referenced). */
void dest_set_roots(struct dest *dest, struct tls_roots *roots);

/* For requests from now on, microseconds. */
void dest_set_timeouts(struct dest *dest, int64_t connect, int64_t answer);

/* Makes the instance of that name one with this service key (referenced). With another key than
 * before, what was cached under the old one is not used any more; the same key changes nothing.
 * NULL: it has none, and `problem`, a sentence, is what questions to it are answered; without a
 * problem there is no such instance any more. */
void dest_set_instance(struct dest *dest, const char *name, const struct service_key *key,
                       const char *problem);

/* Questions to it name an instance. Valid until dest_free. */
struct dest_source *dest_service(struct dest *dest);

void dest_metrics(const struct dest *dest, struct buf *out);

#endif
