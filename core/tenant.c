/* Checks the names of tenants and puts them into URLs. */
#include "core/tenant.h"

#include <string.h>

#include "http/proto.h"

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool tenant_is_valid(const char *tenant)
{
    size_t n = strlen(tenant);
    for (size_t i = 0; i < n; i++) {
        char c = tenant[i];
        bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c);
        if (!alphanumeric && (c != '-' || i == 0 || i + 1 == n)) {
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
    if (!first || last + 1 == host.p + n || is_digit(last[1])) {
        return str_of("");
    }
    return (struct str){first, (size_t)(host.p + host.n - first)};
}

int tenant_url(struct str url, const char *tenant, struct buf *out)
{
    struct http_url parts;
    const char *wrong;
    if (!tenant_is_valid(tenant) || http_parse_url(url, &parts, &wrong) == ERR) {
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
