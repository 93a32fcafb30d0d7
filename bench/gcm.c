/* Prints what AES-GCM costs by length, as a table for docs/performance.md: as it is built here, by
 * OpenSSL, and ChaCha20-Poly1305 beside it. Each reading is the least of several rounds. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <openssl/evp.h>

#include "lib/gcm.h"

enum { LARGEST = 16384, AD = 13, TAG = 16, NONCE = 12, ROUNDS = 9, OCTETS_A_ROUND = 4000000 };

static const unsigned char key[32] = {1}, nonce[NONCE] = {2}, ad[AD] = {3};
static unsigned char text[LARGEST], tag[TAG];

static mbedtls_gcm_context ours;
static mbedtls_chachapoly_context chacha;
static EVP_CIPHER_CTX *openssl;

static void must(bool done)
{
    if (!done) {
        fprintf(stderr, "gcm: a cipher failed\n");
        exit(1);
    }
}

static void decrypt_ours(size_t n)
{
    must(mbedtls_gcm_crypt_and_tag(&ours, MBEDTLS_GCM_DECRYPT, n, nonce, NONCE, ad, AD, text, text,
                                   TAG, tag) == 0);
}

static void decrypt_chacha(size_t n)
{
    must(mbedtls_chachapoly_auth_decrypt(&chacha, n, nonce, ad, AD, tag, text, text) != 0);
}

static void decrypt_openssl(size_t n)
{
    int got;
    must(EVP_DecryptInit_ex(openssl, NULL, NULL, NULL, nonce) &&
         EVP_DecryptUpdate(openssl, NULL, &got, ad, AD) &&
         EVP_DecryptUpdate(openssl, text, &got, text, (int)n) &&
         EVP_CIPHER_CTX_ctrl(openssl, EVP_CTRL_AEAD_SET_TAG, TAG, tag));
    EVP_DecryptFinal_ex(openssl, text, &got); /* the tag is wrong; computing it is what counts */
}

static double nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Returns the nanoseconds per octet. */
static double cost(void (*decrypt)(size_t n), size_t n)
{
    double least = 1e9;
    size_t times = OCTETS_A_ROUND / (n + 64);
    for (int round = 0; round < ROUNDS; round++) {
        double begin = nanoseconds();
        for (size_t i = 0; i < times; i++) {
            decrypt(n);
        }
        double spent = (nanoseconds() - begin) / ((double)times * (double)n);
        least = spent < least ? spent : least;
    }
    return least;
}

static void set_keys(unsigned bits)
{
    const EVP_CIPHER *cipher = bits == 128 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
    must(mbedtls_gcm_setkey(&ours, MBEDTLS_CIPHER_ID_AES, key, bits) == 0);
    must(EVP_DecryptInit_ex(openssl, cipher, NULL, key, nonce));
}

int main(void)
{
    static const size_t lengths[] = {16, 64, 256, 1024, 4096, LARGEST};
    mbedtls_gcm_init(&ours);
    mbedtls_chachapoly_init(&chacha);
    openssl = EVP_CIPHER_CTX_new();
    must(openssl && mbedtls_chachapoly_setkey(&chacha, key) == 0);
    printf("AES-GCM by %s; ns per octet, decrypted in place\n\n",
           gcm_is_fast() ? "lib/gcm.c" : "mbedTLS");
    printf("| octets | AES-128 | OpenSSL | AES-256 | OpenSSL | ChaCha20 |\n"
           "| ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t n = lengths[i];
        printf("| %zu |", n);
        for (unsigned bits = 128; bits <= 256; bits += 128) {
            set_keys(bits);
            printf(" %.2f | %.2f |", cost(decrypt_ours, n), cost(decrypt_openssl, n));
        }
        printf(" %.2f |\n", cost(decrypt_chacha, n));
    }
    return 0;
}
