/* Digests of bytes in memory. Pure; what the computation leaves behind is wiped. */
#ifndef TPROXY_LIB_DIGEST_H
#define TPROXY_LIB_DIGEST_H

#include <stddef.h>

#include "lib/text.h"

enum { DIGEST_SHA256_SIZE = 32, DIGEST_MD5_HEX_SIZE = 33 };

/* SHA-256 (FIPS 180-4) of the n parts one behind the other. Nothing marks where one part ends: who
 * digests several fields puts something between them that they cannot contain. */
void digest_sha256(unsigned char out[DIGEST_SHA256_SIZE], const struct str *parts, size_t n);

/* MD5 (RFC 1321) of the n parts one behind the other, as 32 lower-case hexadecimal digits and a
 * NUL. Only for APOP (RFC 1939 section 7: the banner's timestamp, then the secret): MD5 protects
 * nothing else. */
void digest_md5_hex(char out[DIGEST_MD5_HEX_SIZE], const struct str *parts, size_t n);

#endif
