/* Digests of bytes in memory. Pure; wipes what the computation leaves behind. */
#ifndef TPROXY_LIB_DIGEST_H
#define TPROXY_LIB_DIGEST_H

#include <stddef.h>

#include "lib/text.h"

enum { DIGEST_SHA256_SIZE = 32, DIGEST_MD5_HEX_SIZE = 33 };

/* Computes SHA-256 (FIPS 180-4) of the n parts, one behind the other. Nothing marks where a part
 * ends: callers that digest several fields put something between them that the fields cannot
 * contain. */
void digest_sha256(unsigned char out[DIGEST_SHA256_SIZE], const struct str *parts, size_t n);

/* Computes MD5 (RFC 1321) of the n parts, one behind the other, as 32 lower-case hexadecimal digits
 * and a NUL. Only for APOP (RFC 1939 section 7: the banner's timestamp, then the secret): MD5 is
 * too weak for anything else. */
void digest_md5_hex(char out[DIGEST_MD5_HEX_SIZE], const struct str *parts, size_t n);

#endif
