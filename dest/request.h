/* Writes the request of a question to the Destination service, or says why the service cannot be
 * asked (help.sap.com, "Destination Service REST API"). */
#ifndef TPROXY_DEST_REQUEST_H
#define TPROXY_DEST_REQUEST_H

#include <stdbool.h>

#include "core/dest_ref.h"
#include "core/destination.h"
#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "lib/text.h"

struct service_key;

/* Checks whether the service can be asked for this, with this key of the instance. Sets *verdict;
 * on ERR, *err (FAIL_CONFIG) is a sentence that names the field. */
int dest_request_check(const struct dest_ref *ref, const char *instance,
                       const struct service_key *key, enum verdict *verdict,
                       struct error *err) warn_unused;

/* Append the target of the request, below a path that ends without a slash, and its header lines.
 * The reference is one that dest_request_check accepts. Return ERR when the text does not fit. */
int dest_request_target(struct buf *out, struct str base, const struct dest_ref *ref,
                        bool with_tokens) warn_unused;
int dest_request_headers(struct buf *out, const struct dest_ref *ref,
                         const char *tenant) warn_unused;

/* Returns the tenant that has the destination: the one that the reference names, or else the key's
 * own; NULL: not known. */
const char *dest_request_tenant(const struct dest_ref *ref, const struct service_key *key);

#endif
