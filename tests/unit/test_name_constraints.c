/* Tests lib/name_constraints with names that no certificate library makes.
 * tests/integration/test_tls_chains.py compares whole chains with OpenSSL. */
#include "lib/name_constraints.h"

#include <stdlib.h>
#include <string.h>

#include "lib/der.h"
#include "tests/unit/check.h"

enum { ROOM = 1024, PERMITTED = 0xa0, EXCLUDED = 0xa1 };

/* DER that is put together from the inside outwards. */
struct made {
    char bytes[ROOM];
    size_t n;
};

static void add(struct made *to, unsigned tag, const void *p, size_t n)
{
    assert_true(n < 0x10000 && to->n + n + 4 < ROOM);
    to->bytes[to->n++] = (char)tag;
    if (n >= 0x80) {
        to->bytes[to->n++] = (char)(n > 0xff ? 0x82 : 0x81);
        if (n > 0xff) {
            to->bytes[to->n++] = (char)(n >> 8);
        }
    }
    to->bytes[to->n++] = (char)n;
    memcpy(to->bytes + to->n, p, n);
    to->n += n;
}

static void wrap(struct made *made, unsigned tag)
{
    struct made inside = *made;
    made->n = 0;
    add(made, tag, inside.bytes, inside.n);
}

static struct str str_made(const struct made *made)
{
    return (struct str){made->bytes, made->n};
}

/* Returns an extension with one subtree. */
static struct made one(unsigned list, unsigned tag, struct str base)
{
    struct made made = {.n = 0};
    add(&made, tag, base.p, base.n);
    wrap(&made, DER_SEQUENCE);
    wrap(&made, list);
    wrap(&made, DER_SEQUENCE);
    return made;
}

static enum name_verdict judge(const struct made *extension, enum name_form form, struct str value)
{
    size_t budget = 100;
    return name_constraints_judge(str_made(extension), (struct general_name){form, value}, &budget);
}

static void test_dns(void **state)
{
    (void)state;
    static const struct {
        const char *base, *name;
        bool within, reached; /* reached: an exclusion reaches the name */
    } table[] = {
        {"a.test", "a.test", true, true},
        {"a.test", "x.a.test", true, true},
        {"a.test", "y.x.A.TEST", true, true},
        {"a.test", "xa.test", false, false},
        {"a.test", "test", false, false},
        {"a.test", "", false, false},
        {".a.test", "a.test", false, false},
        {".a.test", "x.a.test", true, true},
        {".a.test", ".a.test", true, true},
        {"", "x", true, true},
        {"", "", true, true},
        {"x.a.test", "*.a.test", false, true},
        {"y.x.a.test", "*.a.test", false, false},
        {"a.test", "*.test", false, true},
        {".a.test", "*.test", false, false},
        {"test", "*.test", true, true},
        {"x", "*.", false, true},
        {"a.test", "*a.test", false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct made permitted = one(PERMITTED, 0x82, str_of(table[i].base));
        struct made excluded = one(EXCLUDED, 0x82, str_of(table[i].base));
        struct str name = str_of(table[i].name);
        assert_int_equal(judge(&permitted, NAME_DNS, name),
                         table[i].within ? NAME_ALLOWED : NAME_NOT_PERMITTED);
        assert_int_equal(judge(&excluded, NAME_DNS, name),
                         table[i].reached ? NAME_EXCLUDED : NAME_ALLOWED);
        assert_int_equal(judge(&permitted, NAME_ADDRESS, name), NAME_ALLOWED);
    }
}

static void test_masks(void **state)
{
    (void)state;
    static const struct {
        unsigned char mask[4];
        bool good;
    } table[] = {
        {{0, 0, 0, 0}, true},      {{255, 255, 255, 255}, true}, {{255, 240, 0, 0}, true},
        {{128, 0, 0, 0}, true},    {{255, 255, 255, 254}, true}, {{255, 0, 255, 0}, false},
        {{0, 0, 0, 1}, false},     {{255, 253, 0, 0}, false},    {{127, 255, 0, 0}, false},
        {{254, 128, 0, 0}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char base[8] = {10, 1, 2, 3};
        memcpy(base + 4, table[i].mask, 4);
        struct made made = one(PERMITTED, 0x87, (struct str){base, sizeof(base)});
        assert_int_equal(judge(&made, NAME_ADDRESS, (struct str){base, 4}),
                         table[i].good ? NAME_ALLOWED : NAME_BAD_SUBTREE);
        assert_int_equal(judge(&made, NAME_ADDRESS, (struct str){base, 3}), NAME_MALFORMED);
    }
}

/* Returns a Name with one attribute for each value, all of one type. */
static struct made directory(unsigned tag, const struct str *values, size_t count)
{
    struct made name = {.n = 0};
    for (size_t i = 0; i < count; i++) {
        struct made pair = {.n = 0};
        add(&pair, DER_OID, "\x55\x04\x0a", 3);
        add(&pair, tag, values[i].p, values[i].n);
        wrap(&pair, DER_SEQUENCE);
        add(&name, DER_SET, pair.bytes, pair.n);
    }
    wrap(&name, DER_SEQUENCE);
    return name;
}

static void test_directory_strings(void **state)
{
    (void)state;
    enum {
        UTF8 = 0x0c,
        PRINTABLE = 0x13,
        TELETEX = 0x14,
        UNIVERSAL = 0x1c,
        BMP = 0x1e,
        BITS = 0x03
    };
    static const struct {
        unsigned tag;
        struct str base;
        unsigned name_tag;
        struct str name;
        bool same;
    } table[] = {
        {UTF8, {"Good", 4}, PRINTABLE, {"gOOD", 4}, true},
        {UTF8, {"Good AG", 7}, BMP, {"\0 \0G\0o\0o\0d\0 \0 \0a\0g", 18}, true},
        {UTF8, {"G", 1}, UNIVERSAL, {"\0\0\0g", 4}, true},
        {UTF8, {"\xc3\xa4", 2}, BMP, {"\0\xe4", 2}, true},
        {UTF8, {"\xc3\xa4", 2}, TELETEX, {"\xe4", 1}, true},
        {UTF8, {"\xf0\x9f\x93\xac", 4}, UNIVERSAL, {"\0\x01\xf4\xec", 4}, true},
        {UTF8, {"\xc3\xa4", 2}, UTF8, {"\xc3\x84", 2}, false}, /* case is ignored for ASCII only */
        {UTF8, {"  ", 2}, UTF8, {"", 0}, true},
        {UTF8, {"a ", 2}, UTF8, {" a", 2}, true},
        {UTF8, {"a b", 3}, UTF8, {"ab", 2}, false},
        {UTF8, {"Good", 4}, UTF8, {"Goods", 5}, false},
        {UTF8, {"\xff", 1}, UTF8, {"\xff", 1}, true},
        {BMP, {"\0a\0", 3}, UTF8, {"a", 1}, true},
        {BITS, {"\0a", 2}, BITS, {"\0a", 2}, true},
        {BITS, {"\0a", 2}, BITS, {"\0A", 2}, false},
        {BITS, {"a", 1}, UTF8, {"a", 1}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct made base = directory(table[i].tag, &table[i].base, 1);
        struct made name = directory(table[i].name_tag, &table[i].name, 1);
        struct made made = one(PERMITTED, 0xa4, str_made(&base));
        assert_int_equal(judge(&made, NAME_DIRECTORY, str_made(&name)),
                         table[i].same ? NAME_ALLOWED : NAME_NOT_PERMITTED);
    }
}

static void test_directory_names(void **state)
{
    (void)state;
    static const struct str values[] = {{"a", 1}, {"b", 1}, {"c", 1}};
    struct made names[4];
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        names[i] = directory(0x0c, values, i);
    }
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct made made = one(PERMITTED, 0xa4, str_made(&names[i]));
        for (size_t j = 0; j < ARRAY_LEN(names); j++) {
            assert_int_equal(judge(&made, NAME_DIRECTORY, str_made(&names[j])),
                             j < i ? NAME_NOT_PERMITTED : NAME_ALLOWED);
        }
        assert_int_equal(judge(&made, NAME_DIRECTORY, str_of("x")), NAME_MALFORMED);
    }
    struct made bad = one(PERMITTED, 0xa4, str_of("x"));
    assert_int_equal(judge(&bad, NAME_DIRECTORY, str_made(&names[1])), NAME_BAD_SUBTREE);
}

/* Several attributes side by side may be in any order. More than a few are not compared. */
static void test_attributes_side_by_side(void **state)
{
    (void)state;
    static const char letters[] = "abcdefghijklmnopq";
    struct made names[3] = {{.n = 0}, {.n = 0}, {.n = 0}};
    static const size_t counts[] = {2, 2, sizeof(letters) - 1};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        for (size_t k = 0; k < counts[i]; k++) {
            struct made pair = {.n = 0};
            add(&pair, DER_OID, "\x55\x04\x0a", 3);
            add(&pair, 0x0c, &letters[i == 1 ? 1 - k : k], 1);
            add(&names[i], DER_SEQUENCE, pair.bytes, pair.n);
        }
        wrap(&names[i], DER_SET);
        wrap(&names[i], DER_SEQUENCE);
    }
    struct made made = one(EXCLUDED, 0xa4, str_made(&names[0]));
    assert_int_equal(judge(&made, NAME_DIRECTORY, str_made(&names[1])), NAME_EXCLUDED);
    assert_int_equal(judge(&made, NAME_DIRECTORY, str_made(&names[2])), NAME_MALFORMED);
}

/* An extension that is cut off anywhere, or has an octet too many, is malformed, and nothing is
 * read beyond its end. */
static void test_every_cut(void **state)
{
    (void)state;
    struct made made = one(PERMITTED, 0x82, str_of("good.test"));
    size_t budget = 1000;
    for (size_t n = 0; n <= made.n; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, made.bytes, n);
        assert_int_equal(name_constraints_check((struct str){copy, n}, &budget),
                         n == made.n ? NAME_ALLOWED : NAME_MALFORMED);
        free(copy);
    }
    assert_int_equal(name_constraints_check((struct str){made.bytes, made.n + 1}, &budget),
                     NAME_MALFORMED);
}

static void test_budget(void **state)
{
    (void)state;
    struct made made = one(PERMITTED, 0x82, str_of("good.test"));
    struct general_name name = {NAME_DNS, str_of("good.test")};
    size_t budget = 2;
    assert_int_equal(name_constraints_check(str_made(&made), &budget), NAME_ALLOWED);
    assert_int_equal(name_constraints_judge(str_made(&made), name, &budget), NAME_ALLOWED);
    assert_int_equal(budget, 0);
    assert_int_equal(name_constraints_judge(str_made(&made), name, &budget), NAME_TOO_MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dns),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_directory_strings),
        cmocka_unit_test(test_directory_names),
        cmocka_unit_test(test_attributes_side_by_side),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
