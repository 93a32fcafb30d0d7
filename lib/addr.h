/* Reads, prints and judges network addresses. */
#ifndef TPROXY_LIB_ADDR_H
#define TPROXY_LIB_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/text.h"

/* One address, ready for connect() once its port is set. */
union addr {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Reads an address literal: dotted IPv4 (four decimal numbers, nothing else), or IPv6 with or
 * without brackets and with or without a scope ("%eth0", "%2": RFC 4007 section 11). The port
 * becomes 0. ERR: `text` is not a literal, or names an interface that does not exist. */
int addr_parse(struct str text, union addr *addr) warn_unused;

/* Return the address from the bytes of an A or AAAA record. The port becomes 0. */
union addr addr_v4(const void *bytes);
union addr addr_v6(const void *bytes);

/* Ports are in host byte order. addr_len returns the length that connect() and bind() want. */
uint16_t addr_port(const union addr *addr);
void addr_set_port(union addr *addr, uint16_t port);
socklen_t addr_len(const union addr *addr);

/* Returns the address as text: "10.0.0.1", "10.0.0.1:110", "fe80::1%2", "[fe80::1%2]:110". A port
 * of 0 is left out. */
enum { ADDR_TEXT_MAX = 72 };
struct addr_text {
    char s[ADDR_TEXT_MAX];
};
struct addr_text addr_text(const union addr *addr);

/* Copies at most cap of the n addresses in the order in which to try them: IPv6 and IPv4 by turns,
 * IPv6 first, each family in its own order (RFC 8305 section 4). Returns the number of copies. */
size_t addr_interleave(union addr *out, size_t cap, const union addr *in, size_t n);

/* Returns why a connection to this address is not allowed: "a multicast address", and unless local
 * ones are allowed "a loopback address", "a link-local address", "an unspecified address". Returns
 * NULL when the address is allowed. IPv4 addresses mapped into IPv6 (RFC 4291 section 2.5.5.2) are
 * judged as IPv4. Static storage. */
const char *addr_objection(const union addr *addr, bool allow_local);

#endif
