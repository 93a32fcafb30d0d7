/* The state of AES-GCM, under the name that mbedTLS asks for: mbedtls/gcm.h includes this file when
 * MBEDTLS_GCM_ALT is defined. The functions are those of mbedtls/gcm.h; lib/gcm.c has them. */
#ifndef TPROXY_LIB_GCM_ALT_H
#define TPROXY_LIB_GCM_ALT_H

#include <stdbool.h>
#include <stdint.h>

#include <mbedtls/aes.h>

enum { GCM_BLOCK = 16, GCM_LANES = 8 };

struct gcm {
    mbedtls_aes_context aes;
    uint64_t powers[GCM_LANES][2]; /* [i]: H^(i+1), as lib/gcm.c multiplies by it */
    uint64_t ad_length, length;    /* octets so far: associated data, text */
    unsigned char sum[GCM_BLOCK];  /* GHASH so far; a block that has begun is added already */
    unsigned char counter[GCM_BLOCK];
    unsigned char key_stream[GCM_BLOCK]; /* for the block of text that has begun */
    unsigned char tag_mask[GCM_BLOCK];   /* the first counter block, encrypted */
    bool encrypts;
    bool hardware; /* computed by AES-NI and PCLMULQDQ */
};

#define mbedtls_gcm_context struct gcm

#endif
