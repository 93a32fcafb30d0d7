/* Tests core/dest_ref: a reference owns copies of its texts, and different references have
 * different keys. */
#include "core/dest_ref.h"

#include <stdio.h>

#include "tests/unit/check.h"

static const struct dest_variable variables[] = {{"a", "b"}, {"c", "d"}}, others[] = {{"a", "bc"}};

/* All references differ. */
static const struct dest_ref refs[] = {
    {.name = "x"},
    {.name = "y"},
    {.name = "x", .level = "instance"},
    {.name = "x", .level = ""},
    {.name = "x", .fragment = "instance"},
    {.name = "x", .fragment = "f"},
    {.name = "x", .fragment = "f", .fragment_level = "instance"},
    {.name = "x", .fragment = "f", .fragment_optional = true},
    {.name = "x", .chain = "f"},
    {.name = "x", .chain = "f", .variables = variables, .n_variables = 2},
    {.name = "x", .chain = "f", .variables = variables, .n_variables = 1},
    {.name = "x", .chain = "f", .variables = others, .n_variables = 1},
    {.name = "x", .instance = "i"},
    {.name = "x", .tenant = "i"},
};

static struct str key_of(const struct dest_ref *ref, struct buf *out)
{
    buf_init(out, 1024);
    assert_int_equal(dest_ref_key(out, ref), OK);
    return buf_str(out);
}

static void test_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
        for (size_t k = 0; k < ARRAY_LEN(refs); k++) {
            struct buf a, b;
            struct str x = key_of(&refs[i], &a), y = key_of(&refs[k], &b);
            bool same = x.n == y.n && memcmp(x.p, y.p, x.n) == 0;
            if (same != (i == k) || dest_ref_equal(&refs[i], &refs[k]) != same) {
                fail_msg("%zu and %zu", i, k);
            }
            buf_free(&a);
            buf_free(&b);
        }
    }
    char space[4];
    struct buf small = BUF_ON(space);
    assert_int_equal(dest_ref_key(&small, &refs[0]), ERR);
}

static void test_copies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
        struct dest_ref copy = dest_ref_copy(&refs[i]);
        struct buf a, b;
        struct str x = key_of(&refs[i], &a), y = key_of(&copy, &b);
        assert_ptr_not_equal(copy.name, refs[i].name);
        assert_int_equal(x.n, y.n);
        assert_memory_equal(x.p, y.p, x.n);
        buf_free(&a);
        buf_free(&b);
        dest_ref_clear(&copy);
        assert_null(copy.name);
        dest_ref_clear(&copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
