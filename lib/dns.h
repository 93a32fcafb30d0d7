/* Names to addresses without blocking: a stub resolver of our own, for the static binary cannot use
 * the C library's. /etc/hosts, then the name servers of resolv.conf (search, ndots, timeout,
 * attempts, rotate), A and AAAA at once, TCP when an answer is truncated, a bounded cache that
 * honours TTLs. */
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

/* What a query ends with: n addresses (port 0) in the order to try them (RFC 8305 section 4:
 * families interleaved, IPv6 first), or n = 0 and err: FAIL_CONFIG for what can be no host name,
 * else FAIL_DNS and a text that tells no such name, no address, server failure and no answer apart.
 */
struct dns_result {
    size_t n;
    union addr addrs[DNS_MAX_ADDRS];
    struct error err;
};

/* Called exactly once, never from inside dns_resolve; *result belongs to the resolver. Must not
 * call dns_free. */
struct dns_handler {
    void (*done)(const struct dns_result *result, void *arg);
    void *arg;
};

/* Paths of the two files, which are read again when they have changed. A missing resolv.conf means
 * 127.0.0.1, as resolv.conf(5) has it. */
struct dns *dns_new(struct loop *loop, const char *resolv_conf, const char *hosts);

/* Cancels everything that is under way. */
void dns_free(struct dns *dns);

/* Resolves a host name or an address literal (IPv6 with or without brackets). A dot at the end
 * keeps the search list out. localhost and names below it are the loopback addresses, whatever
 * files and servers say (RFC 6761 section 6.3). Takes at most 30 s. The query is gone once `done`
 * was called. Equal names under way share one question. */
struct dns_query *dns_resolve(struct dns *dns, const char *name, struct dns_handler handler);

/* Silence: `done` will not be called. NULL is allowed. */
void dns_cancel(struct dns_query *query);

#endif
