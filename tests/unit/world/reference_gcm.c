#include "tests/unit/world/reference_gcm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/evp.h>

/* mbedTLS's own struct, and the names under which scripts/build-mbedtls.sh leaves its functions for
 * us. */
#ifndef TPROXY_GCM_MBEDTLS
#define TPROXY_GCM_MBEDTLS
#endif
#define mbedtls_gcm_init reference_gcm_init
#define mbedtls_gcm_setkey reference_gcm_setkey
#define mbedtls_gcm_crypt_and_tag reference_gcm_crypt_and_tag
#define mbedtls_gcm_free reference_gcm_free
#include <mbedtls/gcm.h>

void reference_mbedtls(const struct gcm_input *input, const unsigned char *text, size_t n,
                       unsigned char *out, unsigned char *tag)
{
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    assert_int_equal(0,
                     mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, input->key, input->key_bits));
    assert_int_equal(0,
                     mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, n, input->iv, input->iv_n,
                                               input->ad, input->ad_n, text, out, 16, tag));
    mbedtls_gcm_free(&gcm);
}

void reference_openssl(const struct gcm_input *input, const unsigned char *text, size_t n,
                       unsigned char *out, unsigned char *tag)
{
    const EVP_CIPHER *cipher = input->key_bits == 128   ? EVP_aes_128_gcm()
                               : input->key_bits == 192 ? EVP_aes_192_gcm()
                                                        : EVP_aes_256_gcm();
    static EVP_CIPHER_CTX *gcm;
    int got;
    gcm = gcm ? gcm : EVP_CIPHER_CTX_new();
    assert_true(EVP_EncryptInit_ex(gcm, cipher, NULL, NULL, NULL));
    assert_true(EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_SET_IVLEN, (int)input->iv_n, NULL));
    assert_true(EVP_EncryptInit_ex(gcm, NULL, NULL, input->key, input->iv));
    assert_true(input->ad_n == 0 ||
                EVP_EncryptUpdate(gcm, NULL, &got, input->ad, (int)input->ad_n));
    assert_true(n == 0 || EVP_EncryptUpdate(gcm, out, &got, text, (int)n));
    assert_true(EVP_EncryptFinal_ex(gcm, out + n, &got));
    assert_true(EVP_CIPHER_CTX_ctrl(gcm, EVP_CTRL_AEAD_GET_TAG, 16, tag));
}
