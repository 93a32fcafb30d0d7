/* AES-GCM by others, to compare with. */
#ifndef TPROXY_TESTS_WORLD_REFERENCE_GCM_H
#define TPROXY_TESTS_WORLD_REFERENCE_GCM_H

#include <stdbool.h>
#include <stddef.h>

struct gcm_input {
    const unsigned char *key, *iv, *ad;
    unsigned key_bits;
    size_t iv_n, ad_n;
};

/* Encrypts n octets; the tag has 16. An error fails the test. */
typedef void gcm_encrypt(const struct gcm_input *input, const unsigned char *text, size_t n,
                         unsigned char *out, unsigned char *tag);

gcm_encrypt reference_mbedtls, reference_openssl;

#endif
