/* Tests lib/mem: allocation that never returns NULL, wiping, secrets. */
#include "lib/mem.h"

#include "tests/unit/check.h"

static void test_alloc(void **state)
{
    (void)state;
    void *p = mem_alloc(0);
    assert_non_null(p);
    p = mem_realloc(p, 10);
    assert_non_null(p);
    p = mem_realloc(p, 0);
    assert_non_null(p);
    free(p);
    char *zero = mem_zalloc(100);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(zero[i], 0);
    }
    free(zero);
    char *copy = mem_strdup("text");
    assert_string_equal(copy, "text");
    free(copy);
    copy = mem_strndup("text", 2);
    assert_string_equal(copy, "te");
    free(copy);
}

static void test_join(void **state)
{
    (void)state;
    const char *a = mem_strdup("one"), *none = NULL, *empty = mem_strdup(""),
               *b = mem_strdup("two");
    char *joined = mem_join((const char **const[]){&a, &none, &empty, &b}, 4);
    assert_ptr_equal(a, joined);
    assert_string_equal(a, "one");
    assert_null(none);
    assert_string_equal(empty, "");
    assert_ptr_equal(b, joined + 5);
    assert_string_equal(b, "two");
    free(joined);

    free(mem_join((const char **const[]){&none}, 1));
    assert_null(none);
}

static void test_wipe(void **state)
{
    (void)state;
    char text[] = "secret!";
    mem_wipe(text, 6);
    assert_memory_equal(text, "\0\0\0\0\0\0!", 7);
    mem_wipe(NULL, 0);
}

static void test_compare_secret(void **state)
{
    (void)state;
    assert_int_equal(mem_compare_secret("abc", "abc", 3), 0);
    assert_int_equal(mem_compare_secret("abc", "abd", 2), 0);
    assert_int_equal(mem_compare_secret("", "", 0), 0);
    for (size_t i = 0; i < 8; i++) {
        char other[] = "password";
        other[i] ^= (char)0x80;
        assert_int_not_equal(mem_compare_secret("password", other, 8), 0);
    }
}

static void test_secret(void **state)
{
    (void)state;
    struct secret s = {0};
    secret_clear(&s);
    secret_set(&s, "hunter2 and more", 7);
    assert_int_equal(s.n, 7);
    assert_string_equal(s.p, "hunter2");
    secret_set(&s, s.p + 2, 3); /* to a part of itself */
    assert_string_equal(s.p, "nte");
    secret_set(&s, "a\0b", 3);
    assert_int_equal(s.n, 3);
    assert_memory_equal(s.p, "a\0b", 4);
    secret_set(&s, "", 0);
    assert_string_equal(s.p, "");
    secret_clear(&s);
    secret_clear(&s);
    assert_null(s.p);
    assert_int_equal(s.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),  cmocka_unit_test(test_join),
        cmocka_unit_test(test_wipe),   cmocka_unit_test(test_compare_secret),
        cmocka_unit_test(test_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
