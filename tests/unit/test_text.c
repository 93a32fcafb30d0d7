/* Tests lib/text: slices, numbers, base64, UTF-8, and text that is safe to print. */
#include "lib/text.h"

#include <stdio.h>

#include "tests/unit/check.h"

static void test_compare(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool eq, ieq, istarts;
    } rows[] = {
        {"", "", true, true, true},
        {"", "a", false, false, false},
        {"a", "", false, false, true},
        {"User", "User", true, true, true},
        {"uSER", "User", false, true, true},
        {"USER x", "user", false, false, true},
        {"USE", "user", false, false, false},
        {"[", "{", false, false, false}, /* differ in the bit that distinguishes small letters */
        {"@", "`", false, false, false},
        {"\xC4", "\xE4", false, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str a = exact_copy(rows[i].a, strlen(rows[i].a));
        assert_int_equal(str_eq(a, rows[i].b), rows[i].eq);
        assert_int_equal(str_ieq(a, rows[i].b), rows[i].ieq);
        assert_int_equal(str_istarts(a, rows[i].b), rows[i].istarts);
        assert_int_equal(text_ieq(rows[i].a, rows[i].b), rows[i].ieq);
        free((char *)a.p);
    }
    assert_false(str_eq((struct str){"a\0b", 3}, "a"));
    assert_true(text_same(NULL, NULL) && text_same("a", "a"));
    assert_false(text_same("a", NULL) || text_same(NULL, "") || text_same("a", "A"));
}

static void test_characters(void **state)
{
    (void)state;
    static const char hex[] = "0123456789abcdef", separators[] = "\"(),/:;<=>?@[\\]{} ";
    int digits = 0, letters = 0, values = 0;
    for (int i = 0; i < 256; i++) {
        char c = (char)i;
        const char *at = i ? strchr(hex, text_lower(c)) : NULL;
        assert_int_equal(text_hex_value(c), at ? at - hex : -1);
        digits += text_is_digit(c);
        letters += text_is_alnum(c) && !text_is_digit(c);
        values += text_hex_value(c) >= 0;
        bool visible = i > ' ' && i < 0x7F;
        assert_int_equal(text_is_visible((struct str){&c, 1}), visible);
        assert_int_equal(text_is_token((struct str){&c, 1}), visible && !strchr(separators, c));
    }
    assert_int_equal(digits, 10);
    assert_int_equal(letters, 52);
    assert_int_equal(values, 22);
    assert_false(text_is_token(str_of("")));
    assert_true(text_is_visible(str_of("")));
}

static void test_trim(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},    {" ", ""},    {" \t \t", ""},     {"a", "a"},
        {" a", "a"}, {"a\t", "a"}, {"\t a b ", "a b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_str(str_trim(str_of(rows[i][0])), rows[i][1]);
    }
}

static void test_word(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"", "", ""},           {"a", "a", ""},  {"a b", "a", "b"},
        {"a \t b ", "a", "b "}, {" a", "", "a"}, {"a ", "a", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str text = exact_copy(rows[i][0], strlen(rows[i][0])), rest = text;
        assert_str(str_word(&rest), rows[i][1]);
        assert_str(rest, rows[i][2]);
        free((char *)text.p);
    }
}

static void test_cut(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"", "", ""}, {"a", "a", ""}, {"a,", "a", ""}, {",a", "", "a"}, {"a,b,c", "a", "b,c"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str text = exact_copy(rows[i][0], strlen(rows[i][0])), rest = text;
        assert_str(str_cut(&rest, ','), rows[i][1]);
        assert_str(rest, rows[i][2]);
        free((char *)text.p);
    }
}

static void test_number(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        int rc;
        uint64_t value;
    } rows[] = {
        {"0", 0, OK, 0},
        {"1", 0, ERR, 0},
        {"65535", 65535, OK, 65535},
        {"65536", 65535, ERR, 0},
        {"007", 7, OK, 7},
        {"8", 7, ERR, 0},
        {"18446744073709551615", UINT64_MAX, OK, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, ERR, 0},
        {"99999999999999999999999", UINT64_MAX, ERR, 0},
        {"", 9, ERR, 0},
        {" 1", 9, ERR, 0},
        {"1 ", 9, ERR, 0},
        {"+1", 9, ERR, 0},
        {"-1", 9, ERR, 0},
        {"0x1", 99, ERR, 0},
        {"1\xB2", 99, ERR, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t value = 0;
        assert_int_equal(text_number(str_of(rows[i].text), rows[i].max, &value), rows[i].rc);
        assert_true(value == rows[i].value);
    }
    /* Every number up to every small maximum is read. */
    for (unsigned max = 0; max < 130; max++) {
        for (unsigned n = 0; n < 150; n++) {
            char text[8];
            uint64_t value;
            snprintf(text, sizeof(text), "%u", n);
            assert_int_equal(text_number(str_of(text), max, &value), n <= max ? OK : ERR);
        }
    }
}

static void test_fmt(void **state)
{
    (void)state;
    char out[6];
    assert_int_equal(text_fmt(out, sizeof(out), "%d", 42), 2);
    assert_string_equal(out, "42");
    assert_int_equal(text_fmt(out, sizeof(out), "%s", "12345"), 5);
    assert_string_equal(out, "12345");
    assert_int_equal(text_fmt(out, sizeof(out), "%s", "123456"), 5);
    assert_string_equal(out, "12345");
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length;
    } rows[] = {
        {"a", 1},
        {"\x7F", 1},
        {"\xC2\x80", 2},
        {"\xDF\xBF", 2},
        {"\xE0\xA0\x80", 3},
        {"\xED\x9F\xBF", 3},
        {"\xEF\xBF\xBF", 3},
        {"\xF0\x90\x80\x80", 4},
        {"\xF4\x8F\xBF\xBF", 4},
        {"\x80", 0},             /* a continuation alone */
        {"\xC3", 0},             /* cut off */
        {"\xE2\x82", 0},         /* cut off */
        {"\xC3(", 0},            /* no continuation byte */
        {"\xC0\xAF", 0},         /* overlong */
        {"\xC1\xBF", 0},         /* overlong */
        {"\xE0\x9F\xBF", 0},     /* overlong */
        {"\xF0\x8F\xBF\xBF", 0}, /* overlong */
        {"\xED\xA0\x80", 0},     /* surrogate */
        {"\xF4\x90\x80\x80", 0}, /* beyond U+10FFFF */
        {"\xF5\x80\x80\x80", 0},
        {"\xFF", 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str s = exact_copy(rows[i].text, strlen(rows[i].text));
        assert_int_equal(text_utf8_length(s), rows[i].length);
        free((char *)s.p);
    }
}

static void test_encodings(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        bool is_utf16;
        size_t without_bom;
    } rows[] = {
        {"", 0, false, 0},
        {"\0", 1, false, 1},
        {"\xFF", 1, false, 1},
        {"{}", 2, false, 2},
        {"\0\0", 2, false, 2},
        {"\xFF\xFE", 2, true, 2},
        {"\xFE\xFF\0{", 4, true, 4},
        {"{\0}\0", 4, true, 4},
        {"\0{", 2, true, 2},
        {"ab\0", 3, false, 3},
        {"\xEF\xBB", 2, false, 2},
        {"\xEF\xBB\xBF", 3, false, 0},
        {"\xEF\xBB\xBF{}", 5, false, 2},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str s = exact_copy(rows[i].text, rows[i].n);
        struct str rest = text_without_bom(s);
        assert_int_equal(text_is_utf16(s), rows[i].is_utf16);
        assert_int_equal(rest.n, rows[i].without_bom);
        assert_ptr_equal(rest.p + rest.n, s.p + s.n);
        free((char *)s.p);
    }
}

static void test_printable(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        size_t cap;
        const char *out;
    } rows[] = {
        {"plain", 10, "plain"},
        {"", 1, ""},
        {"abc", 1, ""},
        {"abc", 3, "ab"},
        {"a\r\nb\x7F\x1B[0m", 20, "a??b??[0m"},
        {"\xC3\xA4\xC3", 10, "\xC3\xA4?"},
        {"x\xE2\x82\xAC", 4, "x"}, /* no half of a character */
        {"x\xE2\x82\xAC", 5, "x\xE2\x82\xAC"},
        {"\xC0\xAF", 10, "??"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *out = malloc(rows[i].cap);
        assert_ptr_equal(text_printable(out, rows[i].cap, str_of(rows[i].in)), out);
        assert_string_equal(out, rows[i].out);
        free(out);
    }
    char out[8];
    assert_string_equal(text_printable(out, sizeof(out), (struct str){"a\0b", 3}), "a?b");
}

static void test_control(void **state)
{
    (void)state;
    assert_false(text_has_control((struct str){"", 0}));
    assert_false(text_has_control((struct str){"a b\xC3\xA4\x80", 6}));
    assert_true(text_has_control((struct str){"a\0b", 3}));
    assert_true(text_has_control((struct str){"ab\n", 3}));
    assert_true(text_has_control((struct str){"\x7F", 1}));
    assert_true(text_has_control((struct str){"\x1F", 1}));
}

static void test_sanitize(void **state)
{
    (void)state;
    char text[] = "a\r\n\tb\x7F\xC3\xA4";
    text_sanitize(text);
    assert_string_equal(text, "a   b \xC3\xA4");
}

/* The examples in RFC 4648 section 10, and characters at the end of the alphabet. */
static void test_base64(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xFB\xEF\xFF", "++//"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t n = strlen(rows[i][0]), got;
        char *out = malloc(TEXT_BASE64_SIZE(n));
        assert_int_equal(text_base64(out, rows[i][0], n), strlen(rows[i][1]));
        assert_string_equal(out, rows[i][1]);
        free(out);
        char *back = malloc(n ? n : 1);
        assert_int_equal(text_unbase64(back, n, str_of(rows[i][1]), &got), OK);
        assert_int_equal(got, n);
        assert_memory_equal(back, rows[i][0], n);
        free(back);
    }
}

static void test_conceal(void **state)
{
    (void)state;
    static const char secret[] = "0123456789abcdefghij";
    static const struct {
        size_t secret; /* the number of its octets that are the secret */
        const char *text, *shown;
    } rows[] = {
        {20, "", ""},
        {20, "0123456789abcdefghij", "********************"},
        {20, "<0123456789abcdefghij>0123456789abcdefghij",
         "<********************>********************"},
        {20, "cut 0123456789abcd...", "cut **************..."},
        {20, "end 89abcdefghij", "end ************"},
        {20, "middle 56789abcdefghi!", "middle **************!"},
        {20, "0123456789a 9abcdefghij", "0123456789a 9abcdefghij"}, /* pieces of 11 octets */
        {20, "0123456789ab456789abcdef", "************************"},
        {11, "0123456789a", "***********"},
        {11, "0123456789 123456789a", "0123456789 123456789a"},
        {4, "01230123 012 3", "******** 012 3"},
        {3, "012", "012"},
        {0, "text", "text"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[64];
        struct str part = exact_copy(secret, rows[i].secret);
        text_fmt(text, sizeof(text), "%s", rows[i].text);
        text_conceal(text, part);
        assert_string_equal(text, rows[i].shown);
        free((char *)part.p);
    }
}

static void test_unbase64_refuses(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "Zg",    "Zg=",  "Z",    "Zg==Zg==", "=",    "====", "Z===",    "Zm9v\n",
        "Zm 9v", "Zh==", "Zm9=", "Zm9_",     "Zm9-", "Zm=v", "\xC3m9v", "Zg==\r\n..",
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char out[16];
        size_t n;
        struct str in = exact_copy(rows[i], strlen(rows[i]));
        assert_int_equal(text_unbase64(out, sizeof(out), in, &n), ERR);
        free((char *)in.p);
    }
    char out[2];
    size_t n;
    assert_int_equal(text_unbase64(out, 2, str_of("Zm9v"), &n), ERR); /* more than the room */
    assert_int_equal(text_unbase64(out, 2, str_of("Zm8="), &n), OK);
}

static void test_base64_round_trips(void **state)
{
    (void)state;
    unsigned char bytes[200];
    char text[TEXT_BASE64_SIZE(sizeof(bytes))];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (unsigned char)(i * 151 + 7);
    }
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        size_t length = text_base64(text, bytes, n), got;
        assert_int_equal(length + 1, TEXT_BASE64_SIZE(n));
        assert_int_equal(text_unbase64(text, sizeof(text), (struct str){text, length}, &got), OK);
        assert_int_equal(got, n);
        assert_memory_equal(text, bytes, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_characters),
        cmocka_unit_test(test_trim),
        cmocka_unit_test(test_word),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_number),
        cmocka_unit_test(test_fmt),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_sanitize),
        cmocka_unit_test(test_conceal),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_unbase64_refuses),
        cmocka_unit_test(test_base64_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
