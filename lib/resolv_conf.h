/* Reads the two files that tell how names become addresses, resolv.conf(5) and hosts(5), as text in
 * memory. Pure. */
#ifndef TPROXY_LIB_RESOLV_CONF_H
#define TPROXY_LIB_RESOLV_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/base.h"
#include "lib/dns_msg.h"
#include "lib/text.h"

/* Kubernetes writes up to 32 search domains; the other bounds are those of resolv.conf(5). */
enum { RESOLV_MAX_SERVERS = 3, RESOLV_MAX_SEARCH = 32 };

struct resolv_conf {
    size_t server_count; /* at least 1 */
    union addr servers[RESOLV_MAX_SERVERS];
    size_t search_count;
    char search[RESOLV_MAX_SEARCH][DNS_NAME_MAX + 1];
    unsigned ndots;    /* a name with that many dots is first asked as it is */
    unsigned attempts; /* rounds over all servers */
    int64_t timeout;   /* for each question to each server, microseconds */
    bool rotate;       /* the first server changes from name to name */
    bool use_tcp;      /* "use-vc" */
    bool no_ipv6;      /* "no-aaaa" */
};

/* Reads resolv.conf. Ignores what it does not understand, as the C library does. Without any usable
 * name server the server is 127.0.0.1. "nameserver 127.0.0.1#5353" names another port (our
 * extension, after dnsmasq). */
void resolv_conf_parse(struct resolv_conf *conf, struct str text);

/* Returns a name server as text for people, with its port only when that is an unusual one. */
struct addr_text resolv_server_text(const union addr *server);

struct hosts_entry {
    union addr addr;
    const char *name;
};

/* Owns its memory; zero-initialise. Names point into `text`. */
struct hosts {
    char *text;
    struct hosts_entry *entries;
    size_t count, cap;
};

/* Reads a hosts file, of any size that the caller could load; replaces what *hosts held. Ignores
 * lines that do not begin with an address. */
void hosts_parse(struct hosts *hosts, struct str text);
void hosts_free(struct hosts *hosts);

/* Copies the addresses of a name (ASCII case and a dot at its end ignored), at most `cap`, in the
 * order of the file. Returns the number of copies. */
size_t hosts_find(const struct hosts *hosts, const char *name, union addr *addrs, size_t cap);

#endif
