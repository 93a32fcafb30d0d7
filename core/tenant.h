/* Checks the names of tenants and puts them into URLs. A tenant is named by its subdomain, which
 * becomes part of the name of a host that receives secrets. Pure. */
#ifndef TPROXY_CORE_TENANT_H
#define TPROXY_CORE_TENANT_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/text.h"

/* Tells whether the text is one label of a host name (RFC 1123 section 2.1, RFC 1035 section
 * 2.3.4), in any case. Anything more could lead the secrets to another host. */
bool tenant_is_valid(const char *tenant);

/* Appends the URL with the tenant in place of the first label of its host, where SAP's
 * authorization servers have it: "https://TENANT.authentication.example.com/oauth/token". Returns
 * ERR when it does not fit, when the tenant is not valid, or when the host has no label that can be
 * replaced (an address, a single label); otherwise the request would go to another tenant's server.
 */
int tenant_url(struct str url, const char *tenant, struct buf *out) warn_unused;

#endif
