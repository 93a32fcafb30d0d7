/* Tests local/properties_file: Java properties files are read as java.util.Properties reads them,
 * or refused. The expected values are those of OpenJDK 17;
 * tests/integration/test_properties_differential.py compares more. */
#include "local/properties_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/buf.h"

static struct error err;

/* Reads a copy of exactly n bytes, so that the sanitizer sees every access beyond. */
static struct properties *read_n(const char *text, size_t n)
{
    char *copy = malloc(n ? n : 1);
    memcpy(copy, text, n);
    struct properties *props = properties_from_file((struct str){copy, n}, &err);
    free(copy);
    return props;
}

/* `expected` has the form "key=value|key=value". */
static void expect(const char *text, const char *expected)
{
    struct properties *props = read_n(text, strlen(text));
    struct buf got;
    if (!props) {
        fail_msg("%s: %s", text, err.text);
    }
    buf_init(&got, 4096);
    for (size_t i = 0; i < props->n; i++) {
        const struct property *p = &props->list[i];
        assert_int_equal(buf_fmt(&got, "%s%s=%s", i ? "|" : "", p->name, p->value), OK);
        assert_int_equal(strlen(p->value), p->n);
    }
    assert_int_equal(buf_add(&got, "", 1), OK);
    assert_string_equal(buf_str(&got).p, expected);
    buf_free(&got);
    properties_free(props);
}

static void test_lines(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"", ""},
        {"\n\r\n \t\f\n", ""},
        {"#comment\n  ! comment\\\na=b", "a=b"}, /* a comment has no continuation lines */
        {"a=b", "a=b"},
        {"a=b\nc=d\r\ne=f\rg=h\n", "a=b|c=d|e=f|g=h"},
        {"  \t\fa=b  \n", "a=b  "}, /* blanks at the end are part of the value */
        {"a:b\nc d\ne\tf\ng\fh", "a=b|c=d|e=f|g=h"},
        {"a \t = \t b\nc : d\ne  f", "a=b|c=d|e=f"},
        {"a==b\nc=:d\ne:=f\ng = = h", "a==b|c=:d|e==f|g== h"},
        {"a\nb=\nc:", "a=|b=|c="},
        {"=a\n:b\n", "=a|=b"},
        {"a=b#c!d", "a=b#c!d"},
        {"a\\=b=c\na\\:b:c\na\\ b c", "a=b=c|a:b=c|a b=c"},
        {"a=\\=\\:\\ \\#\\!\\q\\\\", "a==: #!q\\"},
        {"a=\\ b", "a= b"},
        {"a=1\\\n2\\\r\n   3\\\r\t4\nb=c", "a=1234|b=c"},
        {"a\\\nb=c", "ab=c"},
        {"a=1\\\n\nb=2", "a=1|b=2"}, /* an empty line ends the value */
        {"a=1\\\n#2\nb=3", "a=1#2|b=3"},
        {"\\\n#2\nb=3", "b=3"},
        {"a=1\\\\\nb=2", "a=1\\|b=2"}, /* an escaped backslash at the end */
        {"a=1\\\\\\\nb=2", "a=1\\b=2"},
        {"a=1\\", "a=1"},
        {"a=b\na=c", "a=b|a=c"},
        {"a=\\t\\n\\r\\f", "a=\t\n\r\f"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        expect(rows[i][0], rows[i][1]);
    }
}

static void test_characters(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"a=\\u0041\\u00e9\\u20AC", "a=A\xC3\xA9\xE2\x82\xAC"},
        {"a=\\uD83D\\uDCE7", "a=\xF0\x9F\x93\xA7"},
        {"a=\\\\u0041\\U0041", "a=\\u0041U0041"},
        {"\\u0061\\u003d=b", "a==b"},
        {"a=\xC3\xA9\\\xC3\xA9", "a=\xC3\xA9\xC3\xA9"},       /* UTF-8 */
        {"a=\xE9\\\xE9\xA0 ", "a=\xC3\xA9\xC3\xA9\xC2\xA0 "}, /* ISO-8859-1 */
        {"a=\xE9\xC3\xA9", "a=\xC3\xA9\xC3\x83\xC2\xA9"},     /* not UTF-8 as a whole */
        {"\xEF\xBB\xBF"
         "a=b",
         "a=b"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        expect(rows[i][0], rows[i][1]);
    }
    struct properties *props = read_n("a=\\u0000b", 9);
    assert_non_null(props);
    size_t n;
    assert_memory_equal(properties_get(props, "a", &n), "\0b", 3);
    assert_int_equal(n, 2);
    properties_free(props);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *complaint;
    } rows[] = {
        {"a=\\u", 4, "line 1: \\u must be followed by four hexadecimal digits"},
        {"a=b\r\n\r\rx\\u12g4=1", 16, "line 4: \\u must be followed by four hexadecimal digits"},
        {"a=1\\\n2\\u", 8, "line 1: \\u must be followed by four hexadecimal digits"},
        {"a=\\uD83D", 8, "line 1: \\u with half of a surrogate pair"},
        {"a=\\uD83Dx", 9, "line 1: \\u with half of a surrogate pair"},
        {"a=\\uDCE7", 8, "line 1: \\u with half of a surrogate pair"},
        {"\\u0000=a", 8, "line 1: the key contains a NUL character"},
        {"a=b\nabc\0", 8, "line 2: contains a NUL byte, so this is not text"},
        {"a\0=\0", 4, "is UTF-16: save it as UTF-8"},
        {"\xFF\xFE"
         "a\0",
         4, "is UTF-16: save it as UTF-8"},
        {"\xFE\xFF\0a", 4, "is UTF-16: save it as UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_null(read_n(rows[i].text, rows[i].n));
        assert_int_equal(err.fail, FAIL_CONFIG);
        assert_string_equal(err.text, rows[i].complaint);
    }
}

static void test_bound(void **state)
{
    (void)state;
    for (int more = 0; more < 2; more++) {
        struct buf text;
        buf_init(&text, 65536);
        for (int i = 0; i < PROPERTIES_MAX + more; i++) {
            assert_int_equal(buf_fmt(&text, "k%d=v\n", i), OK);
        }
        struct properties *props = read_n(buf_str(&text).p, buf_len(&text));
        assert_int_equal(props != NULL, more == 0);
        properties_free(props);
        buf_free(&text);
    }
    assert_int_equal(err.fail, FAIL_LIMIT);
    assert_string_equal(err.text, "more than 1024 properties");
}

/* An export of the cockpit is cut at every place. No cut causes an access beyond the end, and the
 * complete lines keep their meaning. */
static void test_every_cut(void **state)
{
    (void)state;
    static const char text[] =
        "#mail.password=<< Existing password/certificate removed on export >>\n"
        "#\n#Thu Mar 05 09:12:44 UTC 2026\nType=MAIL\n"
        "mail.user=robot@example.com\n"
        "tokenServiceURL=https\\://uaa.example.com\\:443/oauth/token\r\n"
        "Name=example-dest\\\n   -pop3\nmail.password=\\u00e4\\u20ac\\=\n";
    for (size_t n = 0; n < sizeof(text) - 1; n++) {
        struct properties *props = read_n(text, n);
        const char *type = props ? properties_get(props, "Type", NULL) : NULL;
        if (type && n > (size_t)(strstr(text, "MAIL\n") - text) + 4) {
            assert_string_equal(type, "MAIL");
        }
        assert_true(props || strstr(err.text, "\\u must be followed by"));
        properties_free(props);
    }
    expect(text, "Type=MAIL|mail.user=robot@example.com|"
                 "tokenServiceURL=https://uaa.example.com:443/oauth/token|"
                 "Name=example-dest-pop3|mail.password=\xC3\xA4\xE2\x82\xAC=");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),     cmocka_unit_test(test_characters),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_bound),
        cmocka_unit_test(test_every_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
