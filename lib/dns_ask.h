/* Asks the name servers for one full name: A and AAAA at once, over UDP, or over TCP when an answer
 * is truncated. The next server, or the same one again, is asked at once when one fails, and after
 * a second when it is silent. Takes at most attempts x servers x timeout of resolv.conf. */
#ifndef TPROXY_LIB_DNS_ASK_H
#define TPROXY_LIB_DNS_ASK_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/dns_msg.h"

struct dns_ask;
struct loop;
struct resolv_conf;

/* The result of an ask. */
struct dns_asked {
    enum dns_outcome outcome; /* not TRUNCATED */
    size_t n;
    union addr addrs[2 * DNS_MAX_ADDRS]; /* IPv6, then IPv4 */
    uint32_t ttl;                        /* seconds */
    char problem[200]; /* SERVER_FAILED: "name server 10.0.0.1 failed (SERVFAIL)", or empty when
                          nobody answered */
};

/* Called exactly once, never from inside dns_ask_start; the ask is gone by then. */
struct dns_ask_handler {
    void (*done)(const struct dns_asked *asked, void *arg);
    void *arg;
};

/* Starts an ask. `name` is valid (dns_name_valid) and complete. *conf must outlive the ask; when it
 * changes, queries that are sent from then on follow it. `first` is the number of the server to
 * begin with (modulo their number). Returns a handle for dns_ask_cancel, valid until `done` is
 * called. */
struct dns_ask *dns_ask_start(struct loop *loop, const struct resolv_conf *conf, unsigned first,
                              const char *name, struct dns_ask_handler handler);

/* Cancels an ask: `done` will not be called. NULL is allowed. */
void dns_ask_cancel(struct dns_ask *ask);

#endif
