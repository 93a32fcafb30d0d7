/* AES-GCM for mbedTLS. The numbers in brackets are sections of NIST SP 800-38D.
 *
 * GHASH is a polynomial in H over GF(2^128) [6.4]. With the octets of its elements reversed, and H
 * multiplied by x, it is POLYVAL (RFC 8452 appendix A), which reduces a carry-less product with two
 * multiplications. The powers of H up to H^8 make one reduction of eight (S. Gueron, M. Kounavis,
 * "Intel Carry-Less Multiplication Instruction and its Usage for Computing the GCM Mode"):
 *
 *     (sum + X1) * H^8 + X2 * H^7 + ... + X8 * H
 *
 * The CPU computes eight blocks side by side, because none depends on another. Nothing here looks
 * up a table by a key or text, or branches on one; lengths are public. */
#include "lib/gcm.h"

#include <assert.h>
#include <string.h>

#include <mbedtls/constant_time.h>
#include <mbedtls/gcm.h>
#include <mbedtls/platform_util.h>

static bool hardware_allowed = true;

void gcm_allow_hardware(bool allowed)
{
    hardware_allowed = allowed;
}

bool gcm_is_fast(void)
{
#ifdef MBEDTLS_GCM_ALT
    return hardware_allowed && __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("ssse3");
#else
    return false;
#endif
}

#ifdef MBEDTLS_GCM_ALT
#include <immintrin.h>

/* For functions that use the instructions; the others run on every x86-64. */
#define HARDWARE __attribute__((target("aes,pclmul,ssse3")))
#define HARDWARE_INLINE HARDWARE __attribute__((always_inline)) static inline

/* x^127 + x^126 + x^121, the middle of the polynomial, as the upper half of an element. */
static const uint64_t POLYNOMIAL = UINT64_C(0xc2) << 56;
/* Octets. [5.2.1.1, 5.2.1.2] */
enum { NONCE = 12, TAG_MIN = 4 };
static const uint64_t TEXT_MAX = (UINT64_C(1) << 36) - 32, AD_MAX = (UINT64_C(1) << 61) - 1;

/* ---- with the instructions ---- */

HARDWARE_INLINE __m128i load(const void *p)
{
    return _mm_loadu_si128(p);
}

HARDWARE_INLINE __m128i reverse(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

/* Adds n blocks to GHASH, 1 <= n <= GCM_LANES. */
HARDWARE_INLINE __m128i hash_lanes(const struct gcm *g, __m128i sum, const __m128i *blocks,
                                   size_t n)
{
    const __m128i polynomial = _mm_cvtsi64_si128((long long)POLYNOMIAL);
    __m128i low = _mm_setzero_si128(), middle = low, high = low;
#pragma GCC unroll 8
    for (size_t i = 0; i < n; i++) {
        __m128i x = reverse(blocks[i]), h = load(g->powers[n - 1 - i]);
        x ^= i == 0 ? sum : _mm_setzero_si128();
        low ^= _mm_clmulepi64_si128(x, h, 0x00);
        middle ^= _mm_clmulepi64_si128(x, h, 0x01) ^ _mm_clmulepi64_si128(x, h, 0x10);
        high ^= _mm_clmulepi64_si128(x, h, 0x11);
    }
    low ^= _mm_slli_si128(middle, 8);
    high ^= _mm_srli_si128(middle, 8);
    for (int i = 0; i < 2; i++) {
        low = _mm_shuffle_epi32(low, 0x4e) ^ _mm_clmulepi64_si128(low, polynomial, 0x00);
    }
    return high ^ low;
}

/* Encrypts the eight counter blocks after `counter`, whose octets are reversed. */
HARDWARE_INLINE void encrypt_counters(const struct gcm *g, __m128i counter,
                                      __m128i stream[GCM_LANES])
{
    const uint32_t *keys = g->aes.MBEDTLS_PRIVATE(buf) + g->aes.MBEDTLS_PRIVATE(rk_offset);
    int rounds = g->aes.MBEDTLS_PRIVATE(nr);
    __m128i key = load(keys);
#pragma GCC unroll 8
    for (int i = 0; i < GCM_LANES; i++) {
        counter = _mm_add_epi32(counter, _mm_set_epi32(0, 0, 0, 1));
        stream[i] = reverse(counter) ^ key;
    }
    for (int round = 1; round < rounds; round++) {
        key = load(keys + 4 * round);
#pragma GCC unroll 8
        for (int i = 0; i < GCM_LANES; i++) {
            stream[i] = _mm_aesenc_si128(stream[i], key);
        }
    }
    key = load(keys + 4 * rounds);
#pragma GCC unroll 8
    for (int i = 0; i < GCM_LANES; i++) {
        stream[i] = _mm_aesenclast_si128(stream[i], key);
    }
}

/* Encrypts or decrypts n blocks, 1 <= n <= GCM_LANES, and adds the ciphertext to GHASH. All is read
 * before the first octet is written, because the output may overlap the input. */
HARDWARE_INLINE void crypt_lanes(const struct gcm *g, __m128i *counter, __m128i *sum,
                                 const unsigned char *in, unsigned char *out, size_t n)
{
    __m128i stream[GCM_LANES], text[GCM_LANES];
    encrypt_counters(g, *counter, stream);
    memcpy(text, in, n * GCM_BLOCK);
#pragma GCC unroll 8
    for (size_t i = 0; i < n; i++) {
        stream[i] ^= text[i];
        text[i] = g->encrypts ? stream[i] : text[i];
    }
    memcpy(out, stream, n * GCM_BLOCK);
    *counter = _mm_add_epi32(*counter, _mm_set_epi32(0, 0, 0, (int)n));
    *sum = hash_lanes(g, *sum, text, n);
    if (n < GCM_LANES) {
        mbedtls_platform_zeroize(stream, sizeof(stream));
    }
}

/* Encrypts or decrypts whole blocks. */
HARDWARE static void crypt_hardware(struct gcm *g, const unsigned char *in, unsigned char *out,
                                    size_t blocks)
{
    __m128i counter = reverse(load(g->counter)), sum = reverse(load(g->sum));
    for (; blocks >= GCM_LANES; blocks -= GCM_LANES) {
        crypt_lanes(g, &counter, &sum, in, out, GCM_LANES);
        in += GCM_LANES * GCM_BLOCK;
        out += GCM_LANES * GCM_BLOCK;
    }
    if (blocks) {
        crypt_lanes(g, &counter, &sum, in, out, blocks);
    }
    _mm_storeu_si128((__m128i *)g->counter, reverse(counter));
    _mm_storeu_si128((__m128i *)g->sum, reverse(sum));
}

HARDWARE static void multiply_hardware(struct gcm *g)
{
    const __m128i zero = _mm_setzero_si128();
    __m128i sum = hash_lanes(g, reverse(load(g->sum)), &zero, 1);
    _mm_storeu_si128((__m128i *)g->sum, reverse(sum));
}

/* ---- with ordinary ones, or either ---- */

/* Reverses the octets of a block: as the standard has them, or as a number. */
static void reverse_block(void *out, const void *block)
{
    for (int i = 0; i < GCM_BLOCK; i++) {
        ((unsigned char *)out)[i] = ((const unsigned char *)block)[GCM_BLOCK - 1 - i];
    }
}

/* A product without carries. */
static unsigned __int128 multiply_64(uint64_t a, uint64_t b)
{
    unsigned __int128 product = 0;
    for (int i = 0; i < 64; i++) {
        product ^= (unsigned __int128)(a & -(b >> i & 1)) << i;
    }
    return product;
}

/* Ends a block of GHASH: multiplies the sum by H. */
static void end_block(struct gcm *g)
{
    if (g->hardware) {
        multiply_hardware(g);
        return;
    }
    uint64_t x[2], h0 = g->powers[0][0], h1 = g->powers[0][1];
    reverse_block(x, g->sum);
    unsigned __int128 middle = multiply_64(x[0], h1) ^ multiply_64(x[1], h0);
    unsigned __int128 low = multiply_64(x[0], h0) ^ middle << 64;
    for (int i = 0; i < 2; i++) {
        low = (low >> 64 | low << 64) ^ multiply_64((uint64_t)low, POLYNOMIAL);
    }
    low ^= multiply_64(x[1], h1) ^ middle >> 64;
    reverse_block(g->sum, &low);
}

/* Adds octets to GHASH; `before` octets of their kind have come. */
static void hash_octets(struct gcm *g, uint64_t before, const unsigned char *p, size_t n)
{
    for (; n; n--) {
        g->sum[before % GCM_BLOCK] ^= *p++;
        if (++before % GCM_BLOCK == 0) {
            end_block(g);
        }
    }
}

/* Adds two numbers of octets, as bits. */
static void hash_lengths(struct gcm *g, uint64_t first, uint64_t second)
{
    unsigned char block[GCM_BLOCK];
    for (int i = 0; i < GCM_BLOCK / 2; i++) {
        block[7 - i] = (unsigned char)(first * 8 >> 8 * i);
        block[15 - i] = (unsigned char)(second * 8 >> 8 * i);
    }
    hash_octets(g, 0, block, sizeof(block));
}

static void encrypt_block(struct gcm *g, const unsigned char *in, unsigned char *out)
{
    int failed = mbedtls_aes_crypt_ecb(&g->aes, MBEDTLS_AES_ENCRYPT, in, out);
    assert(!failed);
}

/* Encrypts or decrypts text of one block, of which `offset` octets are done. */
static void crypt_part(struct gcm *g, size_t offset, const unsigned char *in, unsigned char *out,
                       size_t n)
{
    if (offset == 0) {
        for (int i = GCM_BLOCK - 1; i >= NONCE && ++g->counter[i] == 0; i--) {
        }
        encrypt_block(g, g->counter, g->key_stream);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char octet = in[i];
        out[i] = octet ^ g->key_stream[offset + i];
        g->sum[offset + i] ^= g->encrypts ? out[i] : octet;
    }
    if (offset + n == GCM_BLOCK) {
        end_block(g);
    }
}

/* ---- what mbedtls/gcm.h declares ---- */

void mbedtls_gcm_init(mbedtls_gcm_context *ctx)
{
    memset(ctx, 0, sizeof(*ctx));
    mbedtls_aes_init(&ctx->aes);
}

void mbedtls_gcm_free(mbedtls_gcm_context *ctx)
{
    if (ctx) {
        mbedtls_aes_free(&ctx->aes);
        mbedtls_platform_zeroize(ctx, sizeof(*ctx));
    }
}

int mbedtls_gcm_setkey(mbedtls_gcm_context *ctx, mbedtls_cipher_id_t cipher,
                       const unsigned char *key, unsigned int keybits)
{
    /* x^128: the one of this multiplication */
    static const unsigned char one[GCM_BLOCK] = {[0] = 0xc2, [GCM_BLOCK - 1] = 1};
    if (cipher != MBEDTLS_CIPHER_ID_AES || (keybits != 128 && keybits != 192 && keybits != 256)) {
        return MBEDTLS_ERR_GCM_BAD_INPUT;
    }
    int failed = mbedtls_aes_setkey_enc(&ctx->aes, key, keybits);
    if (failed) {
        return failed;
    }
    ctx->hardware = gcm_is_fast();
    memset(ctx->sum, 0, sizeof(ctx->sum));
    encrypt_block(ctx, ctx->sum, ctx->sum);
    uint64_t *h = ctx->powers[0];
    reverse_block(h, ctx->sum);
    uint64_t overflow = -(h[1] >> 63);
    h[1] = (h[1] << 1 | h[0] >> 63) ^ (overflow & POLYNOMIAL);
    h[0] = h[0] << 1 ^ (overflow & 1);
    memcpy(ctx->sum, one, sizeof(one));
    for (int i = 0; i < GCM_LANES; i++) {
        end_block(ctx);
        reverse_block(ctx->powers[i], ctx->sum);
    }
    return 0;
}

int mbedtls_gcm_starts(mbedtls_gcm_context *ctx, int mode, const unsigned char *iv, size_t iv_len)
{
    if (iv_len == 0 || iv_len > AD_MAX) {
        return MBEDTLS_ERR_GCM_BAD_INPUT;
    }
    ctx->encrypts = mode == MBEDTLS_GCM_ENCRYPT;
    ctx->ad_length = ctx->length = 0;
    memset(ctx->sum, 0, sizeof(ctx->sum));
    if (iv_len == NONCE) {
        memcpy(ctx->counter, iv, NONCE);
        memcpy(ctx->counter + NONCE, "\0\0\0\1", GCM_BLOCK - NONCE);
    } else {
        hash_octets(ctx, 0, iv, iv_len);
        if (iv_len % GCM_BLOCK) {
            end_block(ctx);
        }
        hash_lengths(ctx, 0, iv_len);
        memcpy(ctx->counter, ctx->sum, sizeof(ctx->sum));
        memset(ctx->sum, 0, sizeof(ctx->sum));
    }
    encrypt_block(ctx, ctx->counter, ctx->tag_mask);
    return 0;
}

int mbedtls_gcm_update_ad(mbedtls_gcm_context *ctx, const unsigned char *add, size_t add_len)
{
    if (add_len > AD_MAX - ctx->ad_length) {
        return MBEDTLS_ERR_GCM_BAD_INPUT;
    }
    hash_octets(ctx, ctx->ad_length, add, add_len);
    ctx->ad_length += add_len;
    return 0;
}

int mbedtls_gcm_update(mbedtls_gcm_context *ctx, const unsigned char *input, size_t input_length,
                       unsigned char *output, size_t output_size, size_t *output_length)
{
    if (output_size < input_length) {
        return MBEDTLS_ERR_GCM_BUFFER_TOO_SMALL;
    }
    if ((output > input && (size_t)(output - input) < input_length) ||
        input_length > TEXT_MAX - ctx->length) {
        return MBEDTLS_ERR_GCM_BAD_INPUT;
    }
    *output_length = input_length;
    if (input_length && ctx->length == 0 && ctx->ad_length % GCM_BLOCK) {
        end_block(ctx);
    }
    for (size_t done = 0, n; done < input_length; done += n, ctx->length += n) {
        size_t offset = ctx->length % GCM_BLOCK, left = input_length - done;
        if (ctx->hardware && offset == 0 && left >= GCM_BLOCK) {
            n = left - left % GCM_BLOCK;
            crypt_hardware(ctx, input + done, output + done, n / GCM_BLOCK);
        } else {
            n = left < GCM_BLOCK - offset ? left : GCM_BLOCK - offset;
            crypt_part(ctx, offset, input + done, output + done, n);
        }
    }
    return 0;
}

int mbedtls_gcm_finish(mbedtls_gcm_context *ctx, unsigned char *output, size_t output_size,
                       size_t *output_length, unsigned char *tag, size_t tag_len)
{
    (void)output; /* everything has been put out */
    (void)output_size;
    *output_length = 0;
    if (tag_len < TAG_MIN || tag_len > GCM_BLOCK) {
        return MBEDTLS_ERR_GCM_BAD_INPUT;
    }
    if ((ctx->length ? ctx->length : ctx->ad_length) % GCM_BLOCK) {
        end_block(ctx);
    }
    hash_lengths(ctx, ctx->ad_length, ctx->length);
    for (size_t i = 0; i < tag_len; i++) {
        tag[i] = ctx->sum[i] ^ ctx->tag_mask[i];
    }
    return 0;
}

int mbedtls_gcm_crypt_and_tag(mbedtls_gcm_context *ctx, int mode, size_t length,
                              const unsigned char *iv, size_t iv_len, const unsigned char *add,
                              size_t add_len, const unsigned char *input, unsigned char *output,
                              size_t tag_len, unsigned char *tag)
{
    size_t n;
    int failed = mbedtls_gcm_starts(ctx, mode, iv, iv_len);
    failed = failed ? failed : mbedtls_gcm_update_ad(ctx, add, add_len);
    failed = failed ? failed : mbedtls_gcm_update(ctx, input, length, output, length, &n);
    return failed ? failed : mbedtls_gcm_finish(ctx, NULL, 0, &n, tag, tag_len);
}

int mbedtls_gcm_auth_decrypt(mbedtls_gcm_context *ctx, size_t length, const unsigned char *iv,
                             size_t iv_len, const unsigned char *add, size_t add_len,
                             const unsigned char *tag, size_t tag_len, const unsigned char *input,
                             unsigned char *output)
{
    unsigned char right[GCM_BLOCK];
    int failed = mbedtls_gcm_crypt_and_tag(ctx, MBEDTLS_GCM_DECRYPT, length, iv, iv_len, add,
                                           add_len, input, output, tag_len, right);
    if (!failed && mbedtls_ct_memcmp(tag, right, tag_len) != 0) {
        failed = MBEDTLS_ERR_GCM_AUTH_FAILED;
    }
    if (failed) {
        mbedtls_platform_zeroize(output, length); /* also what only a part of the input has made */
    }
    mbedtls_platform_zeroize(right, sizeof(right));
    return failed;
}

#endif
