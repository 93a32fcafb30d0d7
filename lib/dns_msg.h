/* DNS messages (RFC 1035 section 4): writes questions and reads answers. Pure. */
#ifndef TPROXY_LIB_DNS_MSG_H
#define TPROXY_LIB_DNS_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/addr.h"
#include "lib/base.h"

enum { DNS_MAX_ADDRS = 16, DNS_NAME_MAX = 253 };

enum dns_type { DNS_TYPE_A = 1, DNS_TYPE_AAAA = 28 };

/* Tells whether this can be the name of a host: labels of 1 to 63 letters, digits, hyphens and
 * underscores, at most 253 octets without the dot that may end it, the last label not a number (RFC
 * 1123 section 2.1). */
bool dns_name_valid(const char *name);

/* Header, longest name, type and class. */
enum { DNS_MSG_QUERY_MAX = 12 + 255 + 4 };

/* Writes the question for a valid name, with recursion desired. Returns its length. */
size_t dns_msg_query(unsigned char out[DNS_MSG_QUERY_MAX], uint16_t id, const char *name,
                     enum dns_type type);

enum dns_outcome {
    DNS_ADDRESSES,     /* n > 0 */
    DNS_NO_ADDRESS,    /* the name exists, but has no address of this type */
    DNS_NO_NAME,       /* NXDOMAIN */
    DNS_TRUNCATED,     /* ask again over TCP */
    DNS_SERVER_FAILED, /* `problem` says how */
};

struct dns_answer {
    enum dns_outcome outcome;
    size_t n;
    union addr addrs[DNS_MAX_ADDRS]; /* port 0 */
    uint32_t ttl;        /* seconds for which this may be remembered; NO_*: from the SOA (RFC 2308
                            section 5), 0 without one */
    const char *problem; /* "SERVFAIL", "REFUSED", ...; static storage */
};

/* Reads a message as the answer to that question, following CNAMEs within it. ERR: it is not the
 * answer, because it is malformed or id, name, type or class differ; the caller goes on waiting. */
int dns_msg_answer(const void *msg, size_t n, uint16_t id, const char *name, enum dns_type type,
                   struct dns_answer *answer) warn_unused;

#endif
