/* Tenants are named by their subdomains, which become part of the names of hosts that are told
 * secrets. Pure. */
#ifndef TPROXY_CORE_TENANT_H
#define TPROXY_CORE_TENANT_H

#include <stdbool.h>

#include "lib/base.h"
#include "lib/buf.h"
#include "lib/text.h"

/* Is it one label of a host name (RFC 1123 section 2.1, RFC 1035 section 2.3.4), in any case? What
 * is more could lead the secrets to another host. */
bool tenant_is_valid(const char *tenant);

/* Appends the URL with the tenant in place of the first label of its host, where SAP's
 * authorization servers have it: "https://TENANT.authentication.example.com/oauth/token". ERR when
 * it does not fit, the tenant is none, or the host has no label that could be replaced (an address,
 * a single label): whoever were asked there would not be the tenant's. */
int tenant_url(struct str url, const char *tenant, struct buf *out) warn_unused;

#endif
