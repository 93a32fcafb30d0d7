/* Digests, computed by mbedTLS. Its software versions cannot fail, so neither do ours. */
#include "lib/digest.h"

#include <mbedtls/md5.h>
#include <mbedtls/sha256.h>

#include "lib/mem.h"

void digest_sha256(unsigned char out[DIGEST_SHA256_SIZE], const struct str *parts, size_t n)
{
    mbedtls_sha256_context sha;
    mbedtls_sha256_init(&sha);
    mbedtls_sha256_starts(&sha, 0);
    for (size_t i = 0; i < n; i++) {
        mbedtls_sha256_update(&sha, (const unsigned char *)parts[i].p, parts[i].n);
    }
    mbedtls_sha256_finish(&sha, out);
    mbedtls_sha256_free(&sha);
}

void digest_md5_hex(char out[DIGEST_MD5_HEX_SIZE], const struct str *parts, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[16];
    mbedtls_md5_context md5;
    mbedtls_md5_init(&md5);
    mbedtls_md5_starts(&md5);
    for (size_t i = 0; i < n; i++) {
        mbedtls_md5_update(&md5, (const unsigned char *)parts[i].p, parts[i].n);
    }
    mbedtls_md5_finish(&md5, sum);
    mbedtls_md5_free(&md5);
    for (size_t i = 0; i < sizeof(sum); i++) {
        out[2 * i] = digits[sum[i] >> 4];
        out[2 * i + 1] = digits[sum[i] & 15];
    }
    out[2 * sizeof(sum)] = '\0';
    mem_wipe(sum, sizeof(sum));
}
