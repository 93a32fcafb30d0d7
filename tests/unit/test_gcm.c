/* Tests AES-GCM as mbedTLS calls it, with the instructions of the CPU and without: the vectors of
 * NIST and Wycheproof, all cuts, and random inputs against mbedTLS's own code and OpenSSL.
 *
 * GCM_COUNT: the number of random inputs; GCM_SEED: where they begin. A million of them, with -O2:
 *     GCM_COUNT=1000000 make unit T=gcm B=build/o2 CFLAGS='-O2 -fno-sanitize=all' */
#include "lib/gcm.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <mbedtls/gcm.h>

#include "tests/unit/check.h"
#include "tests/unit/world/reference_gcm.h"

enum { TEXT_MAX = 16384 + 64, AD_MAX = 300, IV_MAX = 300, TAG = 16, LINE_MAX_SIZE = 8192 };

static uint64_t chance;

/* Returns a number below `bound` (xorshift64*). */
static size_t below(size_t bound)
{
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return (size_t)((chance * 0x2545F4914F6CDD1Du >> 32) % bound);
}

static void fill(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (unsigned char)below(256);
    }
}

static void set_key(mbedtls_gcm_context *gcm, const struct gcm_input *input)
{
    mbedtls_gcm_init(gcm);
    assert_int_equal(0,
                     mbedtls_gcm_setkey(gcm, MBEDTLS_CIPHER_ID_AES, input->key, input->key_bits));
}

/* Encrypts, or decrypts, cut into pieces of the sizes that `cut` returns for what is left. */
static void in_pieces(const struct gcm_input *input, int mode, size_t (*cut)(size_t left),
                      const unsigned char *text, size_t n, unsigned char *out, unsigned char *tag)
{
    mbedtls_gcm_context gcm;
    size_t got, piece;
    set_key(&gcm, input);
    assert_int_equal(0, mbedtls_gcm_starts(&gcm, mode, input->iv, input->iv_n));
    for (size_t done = 0; done < input->ad_n; done += piece) {
        piece = cut(input->ad_n - done);
        assert_int_equal(0, mbedtls_gcm_update_ad(&gcm, input->ad + done, piece));
    }
    for (size_t done = 0; done < n; done += piece) {
        piece = cut(n - done);
        assert_int_equal(0, mbedtls_gcm_update(&gcm, text + done, piece, out + done, piece, &got));
        assert_int_equal(piece, got);
    }
    assert_int_equal(0, mbedtls_gcm_finish(&gcm, NULL, 0, &got, tag, TAG));
    assert_int_equal(0, got);
    mbedtls_gcm_free(&gcm);
}

/* ---- the vectors ---- */

struct vector {
    unsigned char bytes[7][LINE_MAX_SIZE / 2];
    size_t n[7];
    char source[16], verdict[16];
};

enum { KEY = 1, IV, AD, TEXT, CIPHERTEXT, TAG_OF };

static void parse(struct vector *v, char *line)
{
    char *rest, *word = strtok_r(line, " \n", &rest);
    snprintf(v->source, sizeof(v->source), "%s", word);
    for (int field = KEY; field <= TAG_OF; field++) {
        word = strtok_r(NULL, " \n", &rest);
        assert_non_null(word);
        v->n[field] = *word == '-' ? 0 : strlen(word) / 2;
        for (size_t i = 0; i < v->n[field]; i++) {
            char octet[3] = {word[2 * i], word[2 * i + 1], '\0'};
            v->bytes[field][i] = (unsigned char)strtoul(octet, NULL, 16);
        }
    }
    word = strtok_r(NULL, " \n", &rest);
    assert_non_null(word);
    snprintf(v->verdict, sizeof(v->verdict), "%s", word);
}

static void check_vector(const struct vector *v)
{
    unsigned char out[LINE_MAX_SIZE], tag[TAG];
    size_t n = v->n[CIPHERTEXT];
    struct gcm_input input = {.key = v->bytes[KEY],
                              .iv = v->bytes[IV],
                              .ad = v->bytes[AD],
                              .key_bits = (unsigned)(8 * v->n[KEY]),
                              .iv_n = v->n[IV],
                              .ad_n = v->n[AD]};
    bool valid = strcmp(v->verdict, "valid") == 0;
    mbedtls_gcm_context gcm;
    set_key(&gcm, &input);
    memset(out, 0xaa, n);
    int failed =
        mbedtls_gcm_auth_decrypt(&gcm, n, input.iv, input.iv_n, input.ad, input.ad_n,
                                 v->bytes[TAG_OF], v->n[TAG_OF], v->bytes[CIPHERTEXT], out);
    if (valid) {
        assert_int_equal(0, failed);
        assert_memory_equal(v->bytes[TEXT], out, n);
        assert_int_equal(0, mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, n, input.iv,
                                                      input.iv_n, input.ad, input.ad_n,
                                                      v->bytes[TEXT], out, v->n[TAG_OF], tag));
        assert_memory_equal(v->bytes[CIPHERTEXT], out, n);
        assert_memory_equal(v->bytes[TAG_OF], tag, v->n[TAG_OF]);
    } else {
        assert_int_equal(v->n[IV] ? MBEDTLS_ERR_GCM_AUTH_FAILED : MBEDTLS_ERR_GCM_BAD_INPUT,
                         failed);
    }
    mbedtls_gcm_free(&gcm);
}

static void test_vectors(void **state)
{
    (void)state;
    static struct vector v;
    static char line[LINE_MAX_SIZE];
    size_t cavp = 0, wycheproof = 0;
    FILE *vectors = popen("python3 tests/tools/gcm_vectors.py", "r");
    assert_non_null(vectors);
    while (fgets(line, sizeof(line), vectors)) {
        parse(&v, line);
        check_vector(&v);
        if (strcmp(v.source, "wycheproof") == 0) {
            wycheproof++;
        } else {
            cavp++;
        }
        if ((cavp + wycheproof) % 8 == 0 || wycheproof) {
            gcm_allow_hardware(false);
            check_vector(&v);
            gcm_allow_hardware(true);
        }
    }
    assert_int_equal(0, pclose(vectors));
    print_message("%zu vectors of CAVP, %zu of Wycheproof\n", cavp, wycheproof);
    assert_true(cavp > 40000);
    assert_true(wycheproof > 200);
}

/* ---- every cut ---- */

static size_t cuts[2], next_cut;

static size_t cut_twice(size_t left)
{
    size_t piece = next_cut < 2 ? cuts[next_cut++] : left;
    return piece < left ? piece : left;
}

static void check_cuts(size_t n, size_t first, size_t second)
{
    unsigned char key[32], iv[12], ad[AD_MAX], text[AD_MAX], right[AD_MAX], out[AD_MAX];
    unsigned char right_tag[TAG], tag[TAG];
    struct gcm_input input = {key, iv, ad, 128 + 64 * (n % 3), sizeof(iv), n};
    chance = n + 1;
    fill(key, sizeof(key));
    fill(iv, sizeof(iv));
    fill(ad, n);
    fill(text, n);
    reference_openssl(&input, text, n, right, right_tag);
    for (int mode = 0; mode < 2; mode++) {
        bool encrypts = mode == MBEDTLS_GCM_ENCRYPT;
        /* Associated data and text are cut alike. */
        cuts[0] = first;
        cuts[1] = second;
        next_cut = 0;
        input.ad_n = 0;
        in_pieces(&input, mode, cut_twice, encrypts ? text : right, n, out, tag);
        assert_memory_equal(encrypts ? right : text, out, n);
        input.ad_n = n;
        next_cut = 0;
        in_pieces(&input, mode, cut_twice, encrypts ? text : right, n, out, tag);
        assert_memory_equal(right_tag, tag, TAG);
    }
}

/* Cuts each length up to `longest` once everywhere, and short ones twice. */
static void check_every_cut(size_t longest)
{
    for (size_t n = 0; n <= longest; n++) {
        for (size_t first = 0; first <= n; first++) {
            check_cuts(n, first, n <= 40 ? 0 : below(n - first + 1));
            for (size_t second = 1; n <= 40 && first + second <= n; second++) {
                check_cuts(n, first, second);
            }
        }
    }
}

static void test_cuts(void **state)
{
    (void)state;
    check_every_cut(290);
}

/* ---- random inputs ---- */

static size_t cut_anywhere(size_t left)
{
    size_t piece = below(4) ? below(300) : below(left + 1);
    return piece < left ? piece : left;
}

static size_t cut_nowhere(size_t left)
{
    return left;
}

static size_t random_length(size_t run)
{
    return run % 16 == 15 ? 16384 - 64 + below(128) : run % 4097;
}

struct run {
    unsigned char key[32], iv[IV_MAX], ad[AD_MAX];
    struct gcm_input input;
    size_t n;
    unsigned char right[TEXT_MAX], tag[TAG]; /* what the others say */
};

static void check_references(struct run *r, const unsigned char *text)
{
    static unsigned char other[TEXT_MAX];
    unsigned char other_tag[TAG];
    reference_mbedtls(&r->input, text, r->n, r->right, r->tag);
    reference_openssl(&r->input, text, r->n, other, other_tag);
    assert_memory_equal(r->right, other, r->n);
    assert_memory_equal(r->tag, other_tag, TAG);
}

/* Spoils one octet of what the tag protects; the others are as they were. */
static void spoil(struct run *r, unsigned char *text, unsigned char *tag, size_t tag_n)
{
    unsigned char change = (unsigned char)(1u << below(8));
    switch (below(4)) {
    case 0:
        if (r->n) {
            text[below(r->n)] ^= change;
            return;
        }
        break;
    case 1:
        if (r->input.ad_n) {
            r->ad[below(r->input.ad_n)] ^= change;
            return;
        }
        break;
    case 2:
        r->iv[below(r->input.iv_n)] ^= change;
        return;
    default:
        break;
    }
    tag[below(tag_n)] ^= change;
}

static void check_decrypt(struct run *r, const unsigned char *text, unsigned char *in,
                          unsigned char *out)
{
    mbedtls_gcm_context gcm;
    const struct gcm_input *input = &r->input;
    size_t tag_n = TAG - below(5);
    memmove(in, r->right, r->n);
    set_key(&gcm, input);
    assert_int_equal(0, mbedtls_gcm_auth_decrypt(&gcm, r->n, input->iv, input->iv_n, input->ad,
                                                 input->ad_n, r->tag, tag_n, in, out));
    assert_memory_equal(text, out, r->n);

    memmove(in, r->right, r->n);
    spoil(r, in, r->tag, tag_n);
    assert_int_equal(MBEDTLS_ERR_GCM_AUTH_FAILED,
                     mbedtls_gcm_auth_decrypt(&gcm, r->n, input->iv, input->iv_n, input->ad,
                                              input->ad_n, r->tag, tag_n, in, out));
    static const unsigned char zeros[TEXT_MAX];
    assert_memory_equal(zeros, out, r->n);
    mbedtls_gcm_free(&gcm);
}

static void check_run(size_t run)
{
    static struct run r;
    static unsigned char text[TEXT_MAX];
    static const unsigned key_bits[] = {128, 256, 192};
    unsigned char tag[TAG];
    size_t in_at = below(32), out_at = below(32);
    r.n = random_length(run);
    r.input = (struct gcm_input){.key = r.key,
                                 .iv = r.iv,
                                 .ad = r.ad,
                                 .key_bits = key_bits[below(3)],
                                 .iv_n = below(4) ? 12 : 1 + below(128),
                                 .ad_n = below(2) ? 13 : below(AD_MAX)};
    fill(r.key, sizeof(r.key));
    fill(r.iv, r.input.iv_n);
    fill(r.ad, r.input.ad_n);
    fill(text, r.n);
    check_references(&r, text);

    /* Unaligned, and up to the end of its block; sometimes in place, sometimes the output begins
     * before the input and overlaps it. */
    unsigned char *in_block = malloc(in_at + r.n + 1), *out_block = malloc(out_at + r.n + 1);
    unsigned char *in = in_block + in_at + 1, *out = out_block + out_at + 1;
    size_t place = below(4);
    out = place == 0 ? in : place == 1 ? in - below(in_at + 1) : out;
    memcpy(in, text, r.n);
    in_pieces(&r.input, MBEDTLS_GCM_ENCRYPT, below(2) ? cut_anywhere : cut_nowhere, in, r.n, out,
              tag);
    assert_memory_equal(r.right, out, r.n);
    assert_memory_equal(r.tag, tag, TAG);
    memmove(in, r.right, r.n);
    in_pieces(&r.input, MBEDTLS_GCM_DECRYPT, below(2) ? cut_anywhere : cut_nowhere, in, r.n, out,
              tag);
    assert_memory_equal(text, out, r.n);
    assert_memory_equal(r.tag, tag, TAG);
    check_decrypt(&r, text, in, out);
    free(in_block);
    free(out_block);
}

static unsigned long long from_environment(const char *name, unsigned long long otherwise)
{
    const char *value = getenv(name);
    return value ? strtoull(value, NULL, 10) : otherwise;
}

static void test_differential(void **state)
{
    (void)state;
    size_t count = (size_t)from_environment("GCM_COUNT", 4200);
    unsigned long long seed = from_environment("GCM_SEED", (unsigned long long)time(NULL));
    print_message("%zu random inputs, GCM_SEED=%llu\n", count, seed);
    for (size_t run = 0; run < count; run++) {
        chance = (seed + run) * 0x9E3779B97F4A7C15u + 1;
        bool hardware = run % 32 != 31;
        gcm_allow_hardware(hardware);
        check_run(run);
    }
    gcm_allow_hardware(true);
}

/* ---- the rest of the contract ---- */

/* The CPU without the instructions takes the other way. */
static void test_choice(void **state)
{
    (void)state;
    gcm_allow_hardware(false);
    assert_false(gcm_is_fast());
    check_every_cut(70);
    gcm_allow_hardware(true);
}

static void test_misuse(void **state)
{
    (void)state;
    static const unsigned char key[32];
    unsigned char text[32] = {0}, tag[TAG];
    struct gcm_input input = {key, key, key, 256, 12, 0};
    size_t got;
    mbedtls_gcm_context gcm;
    mbedtls_gcm_init(&gcm);
    assert_int_equal(MBEDTLS_ERR_GCM_BAD_INPUT,
                     mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, 64));
    assert_int_not_equal(0, mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_CAMELLIA, key, 128));
    set_key(&gcm, &input);
    assert_int_equal(MBEDTLS_ERR_GCM_BAD_INPUT,
                     mbedtls_gcm_starts(&gcm, MBEDTLS_GCM_ENCRYPT, key, 0));
    assert_int_equal(0, mbedtls_gcm_starts(&gcm, MBEDTLS_GCM_ENCRYPT, key, 12));
    assert_int_equal(MBEDTLS_ERR_GCM_BUFFER_TOO_SMALL,
                     mbedtls_gcm_update(&gcm, text, 16, text, 15, &got));
    assert_int_equal(MBEDTLS_ERR_GCM_BAD_INPUT,
                     mbedtls_gcm_update(&gcm, text, 16, text + 1, 16, &got));
    assert_int_equal(MBEDTLS_ERR_GCM_BAD_INPUT, mbedtls_gcm_finish(&gcm, NULL, 0, &got, tag, 3));
    assert_int_equal(MBEDTLS_ERR_GCM_BAD_INPUT, mbedtls_gcm_finish(&gcm, NULL, 0, &got, tag, 17));
    mbedtls_gcm_free(&gcm);
    for (size_t i = 0; i < sizeof(gcm); i++) {
        assert_int_equal(0, ((const unsigned char *)&gcm)[i]);
    }
    mbedtls_gcm_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),      cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_differential), cmocka_unit_test(test_choice),
        cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
