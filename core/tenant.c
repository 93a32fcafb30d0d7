/* Checks the names of tenants and puts them into URLs. */
#include "core/tenant.h"

#include <string.h>

#include "lib/url.h"

bool tenant_is_valid(const char *tenant)
{
    size_t n = strlen(tenant);
    for (size_t i = 0; i < n; i++) {
        bool inner = i > 0 && i + 1 < n;
        if (!text_is_alnum(tenant[i]) && !(tenant[i] == '-' && inner)) {
            return false;
        }
    }
    return n >= 1 && n <= 63;
}

/* Returns the part of a host name after its first label, with the dot. Returns "" for an address
 * and for a single label. */
static struct str domain_of(struct str host)
{
    size_t n = host.n && host.p[host.n - 1] == '.' ? host.n - 1 : host.n;
    const char *first = memchr(host.p, '.', n), *last = memrchr(host.p, '.', n);
    /* The last label of a name does not begin with a digit (RFC 1123 section 2.1); the last part of
     * an address does. */
    if (!first || last + 1 == host.p + n || text_is_digit(last[1])) {
        return str_of("");
    }
    return (struct str){first, (size_t)(host.p + host.n - first)};
}

int tenant_url(struct str url, const char *tenant, struct buf *out)
{
    struct url parts;
    const char *wrong;
    if (!tenant_is_valid(tenant) || url_parse(url, &parts, &wrong) == ERR) {
        return ERR;
    }
    struct str domain = domain_of(parts.host);
    if (domain.n == 0) {
        return ERR;
    }
    const char *end = url.p + url.n;
    return buf_fmt(out, "%.*s%s%.*s", (int)(parts.host.p - url.p), url.p, tenant,
                   (int)(end - domain.p), domain.p);
}
