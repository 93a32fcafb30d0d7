/* The trust store of a destination: a file with the certificates that the mail server's certificate
 * is checked with. Pure. */
#ifndef TPROXY_CORE_TRUST_STORE_H
#define TPROXY_CORE_TRUST_STORE_H

#include "lib/base.h"

struct reader;

/* The largest file that is read, in bytes: some twenty certificates. */
enum { TRUST_STORE_MAX = 32 * 1024 };

/* Fills the destination's `trust_store` from the file that TrustStoreLocation names, if the mail
 * server's certificate is checked. Its TLS properties have been read before. ERR: see
 * reader_refuse. */
int trust_store_read(struct reader *r) warn_unused;

#endif
