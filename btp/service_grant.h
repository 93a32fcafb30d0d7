/* Access tokens for SAP's services: a service key becomes a grant. */
#ifndef TPROXY_BTP_SERVICE_GRANT_H
#define TPROXY_BTP_SERVICE_GRANT_H

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/fail.h"
#include "oauth.h"

struct service_key;

/* Makes the grant of a service key for a tenant; NULL: for the provider itself. `url` gets the URL,
 * and is to be freed in any case; the grant is valid as long as `url`, the key and the tenant's
 * name are. ERR and *err (FAIL_CONFIG) when the URL of the authorization server has no place for a
 * tenant. */
int service_grant(const struct service_key *key, const char *tenant, struct buf *url,
                  struct oauth_grant *grant, struct error *err) warn_unused;

#endif
