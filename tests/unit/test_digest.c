/* Tests lib/digest: the examples in the standards, and a text cut anywhere. */
#include "lib/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_md5(const char *hex, const char *a, const char *b)
{
    char out[DIGEST_MD5_HEX_SIZE];
    digest_md5_hex(out, (struct str[]){str_of(a), str_of(b)}, 2);
    assert_string_equal(hex, out);
}

static void test_md5(void **state)
{
    (void)state;
    /* RFC 1321 appendix A.5 */
    assert_md5("d41d8cd98f00b204e9800998ecf8427e", "", "");
    assert_md5("0cc175b9c0f1b6a831c399e269772661", "a", "");
    assert_md5("900150983cd24fb0d6963f7d28e17f72", "a", "bc");
    assert_md5("f96b697d7cb7938d525a2f31aaf161d0", "message ", "digest");
    assert_md5("c3fcd3d76192e4007dfb496cca67e13b", "abcdefghijklm", "nopqrstuvwxyz");
    assert_md5("d174ab98d277d9f5a5611c2c9f419d9f", "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
               "abcdefghijklmnopqrstuvwxyz0123456789");
    assert_md5("57edf4a22be3c955ac49da2e2107b67a", "1234567890123456789012345678901234567890",
               "1234567890123456789012345678901234567890");
    /* RFC 1939 section 7 */
    assert_md5("c4c9334bac560ecc979e58001b3e22fb", "<1896.697170952@dbc.mtview.ca.us>", "tanstaaf");
}

static void assert_sha256(const char *hex, const struct str *parts, size_t n)
{
    unsigned char out[DIGEST_SHA256_SIZE];
    char text[2 * sizeof(out) + 1];
    digest_sha256(out, parts, n);
    for (size_t i = 0; i < sizeof(out); i++) {
        snprintf(text + 2 * i, 3, "%02x", out[i]);
    }
    assert_string_equal(hex, text);
}

/* The examples that NIST publishes with FIPS 180-4. */
static void test_sha256(void **state)
{
    (void)state;
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", NULL, 0);
    struct str abc = str_of("abc");
    assert_sha256("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", &abc, 1);
    for (size_t i = 0; i <= 56; i++) {
        struct str cut[] = {{two_blocks, i}, {two_blocks + i, 56 - i}};
        assert_sha256("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", cut, 2);
    }
    enum { MILLION = 1000000 };
    char *as = malloc(MILLION);
    memset(as, 'a', MILLION);
    struct str million = {as, MILLION};
    assert_sha256("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", &million, 1);
    free(as);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_md5),
        cmocka_unit_test(test_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
