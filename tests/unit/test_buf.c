/* Tests lib/buf: bytes come out in the order in which they went in, the maximum holds, and a
 * refusal changes nothing. */
#include "lib/buf.h"

#include "tests/unit/check.h"

static void test_empty(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    assert_int_equal(buf_len(&b), 0);
    assert_str(buf_str(&b), "");
    assert_null(b.data);
    buf_drop(&b, 5);
    assert_int_equal(buf_add(&b, NULL, 0), OK);
    assert_null(b.data);
    buf_free(&b);
    buf_free(&b);
    buf_wipe(&b);
}

static void test_maximum(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    assert_int_equal(buf_add(&b, "0123456", 7), OK);
    assert_int_equal(buf_add(&b, "abcd", 4), ERR);
    assert_str(buf_str(&b), "0123456");
    assert_int_equal(buf_fmt(&b, "%s", "abcd"), ERR);
    assert_str(buf_str(&b), "0123456");
    assert_null(buf_room(&b, 4));
    assert_int_equal(buf_add(&b, "abc", 3), OK);
    assert_str(buf_str(&b), "0123456abc");
    assert_int_equal(buf_add(&b, "x", 1), ERR);
    buf_drop(&b, 4);
    assert_int_equal(buf_add(&b, "xyz", 3), OK);
    assert_str(buf_str(&b), "456abcxyz");
    buf_drop(&b, 100);
    assert_str(buf_str(&b), "");
    assert_int_equal(buf_add(&b, (char[11]){0}, 11), ERR);
    assert_int_equal(buf_add(&b, (char[10]){0}, 10), OK);
    buf_free(&b);
    assert_int_equal(buf_add(&b, "again", 5), OK);
    assert_str(buf_str(&b), "again");
    buf_wipe(&b);
}

static void test_fmt(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(buf_fmt(&b, "%s-%d", "a", 1), OK);
    assert_int_equal(buf_fmt(&b, "%s", ""), OK);
    assert_int_equal(buf_fmt(&b, "+%c", 'z'), OK);
    assert_str(buf_str(&b), "a-1+z");
    buf_free(&b);
}

static void test_room(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    char *p = buf_room(&b, 300);
    assert_non_null(p);
    memset(p, 'x', 300);
    buf_added(&b, 200);
    assert_int_equal(buf_len(&b), 200);
    /* Room that was asked for but not used does not count. */
    assert_non_null(buf_room(&b, 800));
    assert_null(buf_room(&b, 801));
    assert_int_equal(buf_len(&b), 200);
    buf_free(&b);
}

/* Adds and takes pieces of all sizes and compares them with an endless counting sequence. */
static void test_stream(void **state)
{
    (void)state;
    enum { MAX = 5000 };
    struct buf b;
    unsigned char in = 0, out = 0;
    unsigned chance = 1;
    buf_init(&b, MAX);
    for (int i = 0; i < 20000; i++) {
        unsigned char piece[400];
        chance = chance * 1103515245 + 12345;
        size_t n = chance >> 16 & 255;
        if (chance >> 30 & 1) {
            for (size_t k = 0; k < n; k++) {
                piece[k] = (unsigned char)(in + k);
            }
            size_t before = buf_len(&b);
            int rc = buf_add(&b, piece, n);
            assert_int_equal(rc, before + n <= MAX ? OK : ERR);
            in = (unsigned char)(rc == OK ? in + n : in);
        } else {
            struct str s = buf_str(&b);
            n = n < s.n ? n : s.n;
            for (size_t k = 0; k < n; k++) {
                assert_int_equal((unsigned char)s.p[k], (unsigned char)(out + k));
            }
            buf_drop(&b, n);
            out = (unsigned char)(out + n);
        }
        assert_true(b.cap <= MAX);
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty), cmocka_unit_test(test_maximum), cmocka_unit_test(test_fmt),
        cmocka_unit_test(test_room),  cmocka_unit_test(test_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
