/* Tests lib/der. */
#include "lib/der.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/check.h"

#define BYTES(s) ((struct str){s, sizeof(s) - 1})

static void test_items(void **state)
{
    (void)state;
    struct str in = BYTES("\x02\x01\x05\x30\x00\x04\x81\x80");
    struct der_item item;
    char large[3 + 0x80] = "\x04\x81\x80";
    assert_int_equal(der_next(&in, &item), OK);
    assert_int_equal(item.tag, DER_INTEGER);
    assert_int_equal(item.whole.n, 3);
    assert_int_equal(item.contents.n, 1);
    assert_int_equal(item.contents.p[0], 5);
    assert_int_equal(der_next(&in, &item), OK);
    assert_int_equal(item.tag, DER_SEQUENCE);
    assert_int_equal(item.contents.n, 0);
    assert_int_equal(der_next(&in, &item), ERR);
    assert_int_equal(in.n, 3);
    in = (struct str){large, sizeof(large)};
    assert_int_equal(der_next(&in, &item), OK);
    assert_int_equal(item.contents.n, 0x80);
    assert_int_equal(in.n, 0);
}

static void test_not_der(void **state)
{
    (void)state;
    static const struct str bad[] = {
        BYTES(""),                             /* nothing */
        BYTES("\x04"),                         /* no length */
        BYTES("\x04\x02x"),                    /* cut off */
        BYTES("\x04\x81"),                     /* cut off in the length */
        BYTES("\x04\x81\x01x"),                /* the short form would do */
        BYTES("\x04\x82\x00\x80"),             /* one octet would do */
        BYTES("\x30\x80\x00\x00"),             /* indefinite */
        BYTES("\x1f\x01\x00"),                 /* a tag of several octets */
        BYTES("\x04\x85\x01\x00\x00\x00\x00"), /* a length of five octets */
        BYTES("\x04\x84\xff\xff\xff\xff"),     /* beyond the end */
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct str in = bad[i];
        struct der_item item;
        assert_int_equal(der_next(&in, &item), ERR);
        assert_ptr_equal(in.p, bad[i].p);
    }
}

static void test_take(void **state)
{
    (void)state;
    struct str in = BYTES("\x30\x03\x02\x01\x07"), inside, number;
    assert_int_equal(der_take(&in, DER_SEQUENCE, &inside), OK);
    assert_int_equal(der_take(&inside, DER_OID, &number), ERR);
    in = BYTES("\x02\x01\x07");
    assert_int_equal(der_take(&in, DER_INTEGER, &number), OK);
    assert_int_equal(number.n, 1);
}

static void test_oid_text(void **state)
{
    (void)state;
    static const struct {
        struct str oid;
        const char *text;
    } table[] = {
        {BYTES("\x55\x1d\x1e"), "2.5.29.30"},
        {BYTES("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"), "1.2.840.113549.1.9.1"},
        {BYTES("\x00"), "0.0"},
        {BYTES("\x88\x37\x03"), "2.999.3"},
        {BYTES(""), ""},
        {BYTES("\x2a\x86"), "1.2"}, /* its last number is incomplete */
    };
    char out[64];
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        assert_string_equal(der_oid_text(out, sizeof(out), table[i].oid), table[i].text);
    }
    assert_string_equal(der_oid_text(out, 5, table[0].oid), "2.5.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_not_der),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_oid_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
