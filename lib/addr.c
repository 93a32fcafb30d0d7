/* Reads, prints and judges network addresses. */
#include "lib/addr.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>

/* The longest literal without its scope, with a NUL. */
enum { LITERAL_MAX = INET6_ADDRSTRLEN };

static int parse_scope(struct str scope, uint32_t *id)
{
    char name[IF_NAMESIZE];
    uint64_t number;
    if (text_number(scope, UINT32_MAX, &number) == OK) {
        *id = (uint32_t)number;
        return OK;
    }
    if (scope.n >= sizeof(name)) {
        return ERR;
    }
    text_fmt(name, sizeof(name), "%.*s", STR_ARG(scope));
    *id = if_nametoindex(name);
    return *id ? OK : ERR;
}

int addr_parse(struct str text, union addr *addr)
{
    char literal[LITERAL_MAX];
    bool brackets = text.n >= 2 && text.p[0] == '[' && text.p[text.n - 1] == ']';
    if (brackets) {
        text = (struct str){text.p + 1, text.n - 2};
    }
    struct str rest = text;
    struct str ip = str_cut(&rest, '%');
    if (ip.n == 0 || ip.n >= sizeof(literal) || memchr(ip.p, '\0', ip.n)) {
        return ERR;
    }
    memcpy(literal, ip.p, ip.n);
    literal[ip.n] = '\0';

    memset(addr, 0, sizeof(*addr));
    if (!brackets && ip.n == text.n && inet_pton(AF_INET, literal, &addr->v4.sin_addr) == 1) {
        addr->v4.sin_family = AF_INET;
        return OK;
    }
    if (inet_pton(AF_INET6, literal, &addr->v6.sin6_addr) != 1) {
        return ERR;
    }
    addr->v6.sin6_family = AF_INET6;
    return ip.n == text.n ? OK : parse_scope(rest, &addr->v6.sin6_scope_id);
}

union addr addr_v4(const void *bytes)
{
    union addr addr;
    memset(&addr, 0, sizeof(addr));
    addr.v4.sin_family = AF_INET;
    memcpy(&addr.v4.sin_addr, bytes, sizeof(addr.v4.sin_addr));
    return addr;
}

union addr addr_v6(const void *bytes)
{
    union addr addr;
    memset(&addr, 0, sizeof(addr));
    addr.v6.sin6_family = AF_INET6;
    memcpy(&addr.v6.sin6_addr, bytes, sizeof(addr.v6.sin6_addr));
    return addr;
}

uint16_t addr_port(const union addr *addr)
{
    return ntohs(addr->sa.sa_family == AF_INET ? addr->v4.sin_port : addr->v6.sin6_port);
}

void addr_set_port(union addr *addr, uint16_t port)
{
    if (addr->sa.sa_family == AF_INET) {
        addr->v4.sin_port = htons(port);
    } else {
        addr->v6.sin6_port = htons(port);
    }
}

socklen_t addr_len(const union addr *addr)
{
    return addr->sa.sa_family == AF_INET ? sizeof(addr->v4) : sizeof(addr->v6);
}

struct addr_text addr_text(const union addr *addr)
{
    struct addr_text text;
    char ip[INET6_ADDRSTRLEN], scope[16] = "";
    unsigned port = addr_port(addr);
    if (addr->sa.sa_family == AF_INET) {
        inet_ntop(AF_INET, &addr->v4.sin_addr, ip, sizeof(ip));
        text_fmt(text.s, sizeof(text.s), port ? "%s:%u" : "%s", ip, port);
        return text;
    }
    inet_ntop(AF_INET6, &addr->v6.sin6_addr, ip, sizeof(ip));
    if (addr->v6.sin6_scope_id) {
        text_fmt(scope, sizeof(scope), "%%%u", addr->v6.sin6_scope_id);
    }
    text_fmt(text.s, sizeof(text.s), port ? "[%s%s]:%u" : "%s%s", ip, scope, port);
    return text;
}

size_t addr_interleave(union addr *out, size_t cap, const union addr *in, size_t n)
{
    static const sa_family_t families[] = {AF_INET6, AF_INET};
    size_t next[] = {0, 0}, count = 0;
    for (size_t turn = 0; count < cap && (next[0] < n || next[1] < n); turn++) {
        size_t *at = &next[turn % 2];
        while (*at < n && in[*at].sa.sa_family != families[turn % 2]) {
            ++*at;
        }
        if (*at < n) {
            out[count++] = in[(*at)++];
        }
    }
    return count;
}

static const char *objection_v4(uint32_t ip, bool allow_local)
{
    unsigned first = ip >> 24;
    if (first >= 224 && first <= 239) {
        return "a multicast address";
    }
    if (allow_local) {
        return NULL;
    }
    if (first == 127) {
        return "a loopback address";
    }
    if (first == 0) {
        return "an unspecified address"; /* Linux takes 0.0.0.0 for loopback */
    }
    return ip >> 16 == 0xA9FE ? "a link-local address" : NULL;
}

const char *addr_objection(const union addr *addr, bool allow_local)
{
    if (addr->sa.sa_family == AF_INET) {
        return objection_v4(ntohl(addr->v4.sin_addr.s_addr), allow_local);
    }
    const struct in6_addr *ip = &addr->v6.sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(ip)) {
        uint32_t v4;
        memcpy(&v4, ip->s6_addr + 12, sizeof(v4));
        return objection_v4(ntohl(v4), allow_local);
    }
    if (IN6_IS_ADDR_MULTICAST(ip)) {
        return "a multicast address";
    }
    if (allow_local) {
        return NULL;
    }
    if (IN6_IS_ADDR_LOOPBACK(ip)) {
        return "a loopback address";
    }
    if (IN6_IS_ADDR_UNSPECIFIED(ip)) {
        return "an unspecified address";
    }
    return IN6_IS_ADDR_LINKLOCAL(ip) ? "a link-local address" : NULL;
}
