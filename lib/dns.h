/* Resolves names to addresses without blocking. This is a stub resolver of our own, because the
 * static binary cannot use the C library's. It reads /etc/hosts, then asks the name servers of
 * resolv.conf (search, ndots, timeout, attempts, rotate) for A and AAAA at once, uses TCP when an
 * answer is truncated, and has a bounded cache that honours TTLs. */
#ifndef TPROXY_LIB_DNS_H
#define TPROXY_LIB_DNS_H

#include <stddef.h>

#include "lib/addr.h"
#include "lib/base.h"
#include "lib/dns_msg.h"
#include "lib/fail.h"

struct dns;
struct dns_query;
struct loop;

/* The end of a query: n addresses (port 0) in the order in which to try them (RFC 8305 section 4:
 * families interleaved, IPv6 first), or n = 0 and err: FAIL_CONFIG when the name cannot be a host
 * name, else FAIL_DNS with a text that tells no such name, no address, server failure and no answer
 * apart. */
struct dns_result {
    size_t n;
    union addr addrs[DNS_MAX_ADDRS];
    struct error err;
};

/* Called exactly once, never from inside dns_resolve; *result belongs to the resolver and is valid
 * during the call. Must not call dns_free. */
struct dns_handler {
    void (*done)(const struct dns_result *result, void *arg);
    void *arg;
};

/* Creates a resolver. The arguments are the paths of its two files, which are read again when they
 * have changed. A missing resolv.conf means 127.0.0.1 (resolv.conf(5)). */
struct dns *dns_new(struct loop *loop, const char *resolv_conf, const char *hosts);

/* Frees the resolver and cancels all queries. NULL is allowed. */
void dns_free(struct dns *dns);

/* Resolves a host name or an address literal (IPv6 with or without brackets). A dot at the end
 * disables the search list. localhost and names below it are the loopback addresses, whatever files
 * and servers say (RFC 6761 section 6.3). Takes at most 30 s. Equal names under way share one
 * question. Returns a handle for dns_cancel, valid until `done` is called. */
struct dns_query *dns_resolve(struct dns *dns, const char *name, struct dns_handler handler);

/* Cancels a query: `done` will not be called. NULL is allowed. */
void dns_cancel(struct dns_query *query);

#endif
