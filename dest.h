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

/* Creates the client without instances. The roots are referenced; the other objects stay the
 * caller's. allow_loopback: destinations may name hosts that are this machine. */
struct dest *dest_new(struct loop *loop, struct dns *dns, struct oauth *oauth,
                      struct connectivity *connectivity, struct tls_roots *roots,
                      bool allow_loopback);

/* Frees the client. No request to its source may be under way any more. NULL is allowed. */
void dest_free(struct dest *dest);

/* Sets the certificates that are trusted (referenced) for requests from now on. */
void dest_set_roots(struct dest *dest, struct tls_roots *roots);

/* Sets the timeouts of requests from now on, in microseconds. */
void dest_set_timeouts(struct dest *dest, int64_t connect, int64_t answer);

/* Gives the instance of that name this service key (referenced). With another key than before,
 * answers that were cached under the old one are not used any more; the same key changes nothing.
 * With NULL the instance has no key, and questions to it are answered with `problem`, a sentence
 * (copied); if that is NULL, too, the instance does not exist any more. */
void dest_set_instance(struct dest *dest, const char *name, const struct service_key *key,
                       const char *problem);

/* Has no server asked from now on: a question that a server would have to answer is answered with
 * VERDICT_UNREADABLE. */
void dest_stay_offline(struct dest *dest);

/* Returns the source of destinations, valid until dest_free. A question to it has to name an
 * instance. */
struct dest_source *dest_service(struct dest *dest);

/* Appends the metrics of requests to the service and of the cache. */
void dest_metrics(const struct dest *dest, struct buf *out);

#endif
