/* Fuzzes AES-GCM: the result is the same in one piece and in several, with the instructions of the
 * CPU and without; it is decrypted, and not with a wrong tag. The first four octets choose the
 * sizes of the key, of the initialization vector, of the associated data, and of the pieces. */
#include "lib/gcm.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/gcm.h>

enum { TAG = 16, HEAD = 4, KEY = 32 };

struct parts {
    unsigned key_bits;
    const uint8_t *key, *iv, *ad, *text;
    size_t iv_n, ad_n, n, piece;
};

static void check(bool right)
{
    if (!right) {
        abort();
    }
}

/* Encrypts in pieces; 0: in one. */
static void encrypt(const struct parts *p, size_t piece, uint8_t *out, uint8_t *tag)
{
    mbedtls_gcm_context gcm;
    size_t got;
    mbedtls_gcm_init(&gcm);
    check(mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, p->key, p->key_bits) == 0);
    check(mbedtls_gcm_starts(&gcm, MBEDTLS_GCM_ENCRYPT, p->iv, p->iv_n) == 0);
    check(mbedtls_gcm_update_ad(&gcm, p->ad, p->ad_n) == 0);
    for (size_t done = 0; done < p->n; done += got) {
        size_t left = p->n - done, n = piece && piece < left ? piece : left;
        check(mbedtls_gcm_update(&gcm, p->text + done, n, out + done, n, &got) == 0 && got == n);
    }
    check(mbedtls_gcm_finish(&gcm, NULL, 0, &got, tag, TAG) == 0);
    mbedtls_gcm_free(&gcm);
}

/* Decrypts in place what encrypt() has made; a spoilt tag leaves nothing. */
static void decrypt(const struct parts *p, uint8_t *out, uint8_t *tag)
{
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    check(mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, p->key, p->key_bits) == 0);
    check(mbedtls_gcm_auth_decrypt(&gcm, p->n, p->iv, p->iv_n, p->ad, p->ad_n, tag, TAG, out,
                                   out) == 0);
    check(memcmp(out, p->text, p->n) == 0);
    tag[p->piece % TAG] ^= 1;
    check(mbedtls_gcm_auth_decrypt(&gcm, p->n, p->iv, p->iv_n, p->ad, p->ad_n, tag, TAG, out,
                                   out) == MBEDTLS_ERR_GCM_AUTH_FAILED);
    for (size_t i = 0; i < p->n; i++) {
        check(out[i] == 0);
    }
    mbedtls_gcm_free(&gcm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD + KEY) {
        return 0;
    }
    struct parts p = {.key_bits = 128 + 64 * (data[0] % 3),
                      .key = data + HEAD,
                      .iv_n = 1u + data[1],
                      .ad_n = data[2]};
    size_t left = size - HEAD - KEY;
    if (p.iv_n + p.ad_n > left) {
        return 0;
    }
    p.piece = 1u + data[3];
    p.iv = p.key + KEY;
    p.ad = p.iv + p.iv_n;
    p.text = p.ad + p.ad_n;
    p.n = left - p.iv_n - p.ad_n;
    uint8_t *whole = malloc(p.n + 1), *pieces = malloc(p.n + 1);
    uint8_t tag[TAG], other_tag[TAG];
    encrypt(&p, 0, whole, tag);
    for (int hardware = 0; hardware < 2; hardware++) {
        gcm_allow_hardware(hardware);
        encrypt(&p, p.piece, pieces, other_tag);
        check(memcmp(whole, pieces, p.n) == 0 && memcmp(tag, other_tag, TAG) == 0);
        decrypt(&p, pieces, other_tag);
    }
    free(whole);
    free(pieces);
    return 0;
}
