/* Tests lib/json: which texts are accepted, what they mean, what the complaints say, and what
 * parsing costs. */
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/mem.h"

/* A literal with its length, so that it may contain NUL bytes. */
#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

/* ---- the table of verdicts ----
 * Its rows follow the kinds of case that JSONTestSuite has: structure, arrays, objects, numbers,
 * strings, words, and the texts on which the RFC leaves the parser a choice. */

static const struct str accepted[] = {
    /* structure and white space */
    TEXT("{}"), TEXT("[]"), TEXT("7"), TEXT("-0.5"), TEXT("null"), TEXT("true"), TEXT("false"),
    TEXT("\"\""), TEXT("\"pop3\""), TEXT(" []"), TEXT("[]\n"), TEXT("\t\r\n {} \n"),
    TEXT("[ \n\t\r1 , 2 ]"), TEXT("{ \"a\" : 1\n,\r\"b\":\t2 }"),
    /* arrays */
    TEXT("[[]]"), TEXT("[[[[[[[[]]]]]]]]"), TEXT("[[],[[]],{}]"), TEXT("[\"\"]"), TEXT("[null]"),
    TEXT("[false]"), TEXT("[1\n]"), TEXT("[ 1]"), TEXT("[1 ]"), TEXT("[1,null,null,null,2]"),
    TEXT("[null, 1, \"1\", {}]"), TEXT("[\"a,b]\", \"{\"]"),
    /* objects */
    TEXT("{\"host\":\"mail\",\"port\":110}"), TEXT("{\"a\":[]}"), TEXT("{\"\":0}"),
    TEXT("{\"a\":1,\"a\":2}"), TEXT("{\"a\":1,\"a\":1}"), TEXT("{\"a\\u0000b\":110}"),
    TEXT("{\"a\":{\"a\":{\"a\":{}}}}"), TEXT("{\"\\u006dail\":1}"), TEXT("{\"a\":\n1\n}"),
    TEXT("{\"min\":-1.0e+28,\"max\":1.0e+28}"),
    /* numbers */
    TEXT("0"), TEXT("-0"), TEXT("-1"), TEXT("10"), TEXT("[0]"), TEXT("[-0]"), TEXT("[110]"),
    TEXT("[0e1]"), TEXT("[0e+1]"), TEXT("[0E-1]"), TEXT("[1e5]"), TEXT("[1E5]"), TEXT("[1E+5]"),
    TEXT("[1e-05]"), TEXT("[20e00]"), TEXT("[3.25]"), TEXT("[3.250]"), TEXT("[-3.25e-7]"),
    TEXT("[0.0]"), TEXT("[-0.0]"), TEXT("[0.00000000000000000000000000000000000000000000000001]"),
    /* numbers that no machine type can hold: only the grammar counts */
    TEXT("[99999999999999999999999999999999]"), TEXT("[-99999999999999999999999999999999]"),
    TEXT("[9223372036854775808]"), TEXT("[1e400]"), TEXT("[-1e400]"), TEXT("[1e-400]"),
    TEXT("[0.5e00000000000000000000000000000000001]"), TEXT("[1e99999999999999999999999999999]"),
    /* strings: escapes */
    TEXT("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"), TEXT("[\"\\u0061\\u00e9\\u20AC\\uAbCd\"]"),
    TEXT("[\"\\u0000\"]"), TEXT("[\"\\u0001\\u001f\"]"), TEXT("[\"\\u007f\"]"),
    TEXT("[\"\\u0022\"]"), TEXT("[\"\\u005C\"]"), TEXT("[\"\\\\u0000\"]"), TEXT("[\"\\\\n\"]"),
    TEXT("[\"\\\\\"]"), TEXT("[\"\\u2028\\u2029\"]"), TEXT("[\"\\uFEFF\"]"),
    TEXT("[\"\\u200b\\u2064\"]"),
    /* strings: surrogate pairs and characters beyond the basic plane */
    TEXT("[\"\\ud83d\\udce7\"]"), TEXT("[\"\\uD83D\\uDCE7\\ud83D\\uDce8\"]"),
    TEXT("[\"\\ud800\\udc00\"]"), TEXT("[\"\\udbff\\udfff\"]"), TEXT("[\"\\uDBFF\\uDFFE\"]"),
    /* strings: code points that are not characters */
    TEXT("[\"\\uFFFE\"]"), TEXT("[\"\\uFFFF\"]"), TEXT("[\"\\uFDD0\"]"),
    TEXT("[\"\\ud83f\\udffe\"]"), TEXT("[\"\xEF\xBF\xBF\"]"), TEXT("[\"\xF4\x8F\xBF\xBF\"]"),
    /* strings: raw UTF-8 of every length, and characters that look like the end of a line */
    TEXT("[\"\x7F\"]"), TEXT("[\"\xC2\x80\"]"), TEXT("[\"\xDF\xBF\"]"), TEXT("[\"\xE0\xA0\x80\"]"),
    TEXT("[\"\xED\x9F\xBF\"]"), TEXT("[\"\xEE\x80\x80\"]"), TEXT("[\"\xE2\x80\xA8\xE2\x80\xA9\"]"),
    TEXT("[\"\xF0\x90\x80\x80\"]"),
    TEXT("[\"Gr\xC3\xBC\xC3\x9F"
         "e \xE2\x82\xAC\"]"),
    TEXT("[\"\xEF\xBB\xBF\"]"), TEXT("[\" /* text */ // \"]"), TEXT("[\"a'b\"]"),
    TEXT("{\"\xC3\xA9t\xC3\xA9\":\"\xC3\xA0\"}"), TEXT("\" \""),
    TEXT("[\"aa\\u0000\\ud83d\\udce7zz\"]")};

static const struct str refused[] = {
    /* structure: no value, or more than one */
    TEXT(""), TEXT(" "), TEXT("\n"), TEXT("[]]"), TEXT("{}}"), TEXT("1 2"), TEXT("{} {}"),
    TEXT("[][]"), TEXT("[1]x"), TEXT("[1],"), TEXT("{\"a\":1}#"), TEXT("{\"a\":1}//"),
    TEXT("{\"a\":1}/**/"), TEXT("[]\0"), TEXT("\0"), TEXT("[1]\x1A"), TEXT("\"a\" \"b\""),
    TEXT("]"), TEXT("}"), TEXT(","), TEXT(":"), TEXT("\\"), TEXT("*"), TEXT("\\u005b\\u005d"),
    TEXT("<null>"), TEXT("<.>"), TEXT("abc"), TEXT("'"), TEXT("\""), TEXT("e"), TEXT("\xC3\xA5"),
    TEXT("\xE5"), TEXT("<html></html>"), TEXT("apiVersion: v1"),
    /* structure: unclosed, or closed by the wrong bracket */
    TEXT("["), TEXT("{"), TEXT("[["), TEXT("[{"), TEXT("{["), TEXT("[\""), TEXT("[\"a"),
    TEXT("[\"a\""), TEXT("[\"a\","), TEXT("[1,"), TEXT("[,"), TEXT("[1}"), TEXT("{]"), TEXT("[)"),
    TEXT("{\"a\":1]"), TEXT("[1,\n1\n,1"), TEXT("[{}"), TEXT("[[]"), TEXT("{\"a\":[}"),
    TEXT("{\"a\""), TEXT("{\"a\":"), TEXT("{\"a\":1"), TEXT("{\"a\":1,"), TEXT("{\"a"), TEXT("{,"),
    TEXT("{\"a\":{\"b\":[1,{\"c\":"), TEXT("{\"\":[{\"\":[{\"\":["),
    /* structure: other white space, comments, marks, other encodings */
    TEXT("[\f]"), TEXT("[\v]"), TEXT("[\xC2\xA0]"), TEXT("[\xE2\x81\xA0]"), TEXT("\xE2\x80\x8B[]"),
    TEXT("[\x08]"), TEXT("[\0]"), TEXT("[\x1F]"), TEXT("[\x7F]"), TEXT("[1 /* one */]"),
    TEXT("// one\n1"), TEXT("{\"a\":/*b*/1}"), TEXT("\xEF\xBB\xBF"), TEXT("\xEF\xBB\xBF{}"),
    TEXT("\xEF\xBB{}"), TEXT("{}\xEF\xBB\xBF"), TEXT("\xFE\xFF\0[\0]"), TEXT("\xFF\xFE[\0]\0"),
    TEXT("[\0\"\0\xE9\0\"\0]\0"), TEXT("\0[\0]"),
    /* arrays */
    TEXT("[1 2]"), TEXT("[1 true]"), TEXT("[1:2]"), TEXT("[\"\":1]"), TEXT("[,1]"), TEXT("[1,,2]"),
    TEXT("[,]"), TEXT("[\"a\",,]"), TEXT("[1,]"), TEXT("[1,\n]"), TEXT("[\"\",]"), TEXT("[1;2]"),
    TEXT("[3[4]]"), TEXT("[[] []]"), TEXT("[*]"), TEXT("[x"), TEXT("[-]"), TEXT("[   , \"\"]"),
    TEXT("[a\xE5]"), TEXT("[\xFF]"), TEXT("[\"a\"\"b\"]"),
    TEXT("[\"\x0B"
         "a\"\\f]"),
    TEXT("[<null>]"), TEXT("[1,}"), TEXT("[undefined]"), TEXT("['a']"), TEXT("[`a`]"),
    /* objects */
    TEXT("{\"a\"}"), TEXT("{\"a\" 1}"), TEXT("{\"a\",1}"), TEXT("{\"a\"=1}"), TEXT("{\"a\":}"),
    TEXT("{:1}"), TEXT("{\"a\"::1}"), TEXT("{\"a\":1 \"b\":2}"), TEXT("{\"a\":1,}"),
    TEXT("{\"a\":1,,}"), TEXT("{\"a\":1,,\"b\":2}"), TEXT("{,\"a\":1}"), TEXT("{,}"),
    TEXT("{\"a\":1:2}"), TEXT("{\"a\":\"b\":\"c\"}"), TEXT("{\"a\":1;\"b\":2}"), TEXT("{a:1}"),
    TEXT("{'a':1}"), TEXT("{1:1}"), TEXT("{null:1}"), TEXT("{true:false}"), TEXT("{[]:1}"),
    TEXT("{{}:1}"), TEXT("{\"a\":b}"), TEXT("{\"a\":'b'}"), TEXT("{\"a\" \"b\"}"),
    TEXT("{\"a\":\"b\",\"c\"}"), TEXT("{\"a\":1,\"b\"}"), TEXT("{\"a\":1]}"),
    TEXT("{\"a\":\"b\"}}"), TEXT("{\"x\\q\":1}"), TEXT("{\xF0\x9F\x93\xA7:1}"),
    TEXT("{\"\xB9\":0}"), TEXT("{\"a\":1 b}"), TEXT("{9999E9999:1}"), TEXT("{\"a\\\":1}"),
    /* numbers: signs and zeros */
    TEXT("-"), TEXT("+1"), TEXT("[+1]"), TEXT("[++1]"), TEXT("[--1]"), TEXT("[- 1]"), TEXT("[-+1]"),
    TEXT("[01]"), TEXT("[-01]"), TEXT("[00]"), TEXT("[-00]"), TEXT("[007]"), TEXT("[00.5]"),
    TEXT("[-00.5]"), TEXT("[00e0]"), TEXT("[-a]"), TEXT("[-foo]"), TEXT("[1-2]"), TEXT("[1+2]"),
    TEXT("123\0"), TEXT("[123"), TEXT("1 000"), TEXT("[1_000]"), TEXT("[1 000.0]"),
    TEXT("[1,000,]"),
    /* numbers: fraction and exponent */
    TEXT("[.5]"), TEXT("[-.5]"), TEXT("[.-1]"), TEXT("[.]"), TEXT("[5.]"), TEXT("[-5.]"),
    TEXT("[0.]"), TEXT("[1.2.3]"), TEXT("[1..2]"), TEXT("[-1.0.]"), TEXT("[5.e3]"), TEXT("[5.e+3]"),
    TEXT("[5.e-3]"), TEXT("[0.e1]"), TEXT("[.2e-3]"), TEXT("[1e]"), TEXT("[1e+]"), TEXT("[1E-]"),
    TEXT("[0e]"), TEXT("[0E]"), TEXT("[0E+]"), TEXT("[1.0e]"), TEXT("[1.0e-]"), TEXT("[0.3e+]"),
    TEXT("[9.e+]"), TEXT("[1eE2]"), TEXT("[1e1.5]"), TEXT("[1e+-2]"), TEXT("[1e 2]"),
    TEXT("[0e+-1]"), TEXT("1e"),
    /* numbers: other notations, other digits */
    TEXT("[0x1]"), TEXT("[0x1F]"), TEXT("[-0x1]"), TEXT("[0b1]"), TEXT("[0o7]"), TEXT("[1a]"),
    TEXT("[1.8011670033376514H-308]"), TEXT("[1ea]"), TEXT("[1L]"), TEXT("[1.5f]"), TEXT("[NaN]"),
    TEXT("[-NaN]"), TEXT("[nan]"), TEXT("NaN"), TEXT("[Infinity]"), TEXT("[-Infinity]"),
    TEXT("[+Infinity]"), TEXT("[Inf]"), TEXT("[+Inf]"), TEXT("[inf]"), TEXT("[\xEF\xBC\x91]"),
    TEXT("[\xD9\xA1]"), TEXT("[1\xE5]"), TEXT("[1e1\xE5]"), TEXT("[0\xE5]"), TEXT("[123\xE5]"),
    TEXT("[1\0]"),
    /* words */
    TEXT("[nul]"), TEXT("[tru]"), TEXT("[fals]"), TEXT("n"), TEXT("nul"), TEXT("tru"), TEXT("fals"),
    TEXT("[nulll]"), TEXT("[truefalse]"), TEXT("[True]"), TEXT("[TRUE]"), TEXT("[Null]"),
    TEXT("[nil]"), TEXT("[None]"), TEXT("[true\0]"), TEXT("[t rue]"), TEXT("nullx"), TEXT("[yes]"),
    /* strings: escapes */
    TEXT("[\"\\a\"]"), TEXT("[\"\\v\"]"), TEXT("[\"\\x41\"]"), TEXT("[\"\\0\"]"),
    TEXT("[\"\\101\"]"), TEXT("[\"\\'\"]"), TEXT("[\"\\U0041\"]"), TEXT("[\"\\ \"]"),
    TEXT("[\"\\\n\"]"), TEXT("[\"\\\t\"]"), TEXT("[\"\\\0\"]"), TEXT("[\"\\\xC3\xA9\"]"),
    TEXT("[\"\\\xE5\"]"), TEXT("[\"\\\"]"), TEXT("[\"\\\\\\\"]"), TEXT("[\"\\"), TEXT("\"\\\""),
    TEXT("[\"\\u\"]"), TEXT("[\"\\u1\"]"), TEXT("[\"\\u12\"]"), TEXT("[\"\\u123\"]"),
    TEXT("[\"\\u123g\"]"), TEXT("[\"\\ug123\"]"), TEXT("[\"\\u 123\"]"), TEXT("[\"\\u-123\"]"),
    TEXT("[\"\\u+123\"]"), TEXT("[\"\\u123"), TEXT("[\"\\u00\xE5\xE5\"]"), TEXT("[\"\\u{41}\"]"),
    TEXT("[\"\\u0x41\"]"), TEXT("\\u0061"), TEXT("[\\n]"), TEXT("[\"\"\\n]"),
    /* strings: halves of surrogate pairs */
    TEXT("[\"\\ud800\"]"), TEXT("[\"\\udbff\"]"), TEXT("[\"\\udc00\"]"), TEXT("[\"\\udfff\"]"),
    TEXT("[\"\\udc00\\ud800\"]"), TEXT("[\"\\ud800\\ud800\"]"), TEXT("[\"\\ud800\\udbff\"]"),
    TEXT("[\"\\ud800\\ue000\"]"), TEXT("[\"\\ud800\\u0061\"]"), TEXT("[\"\\ud800a\"]"),
    TEXT("[\"\\ud800\\n\"]"), TEXT("[\"\\ud800\\\"]"), TEXT("[\"\\ud800\\u\"]"),
    TEXT("[\"\\ud800\\u1\"]"), TEXT("[\"\\ud800\\u1x\"]"), TEXT("[\"\\ud800\\udc0\"]"),
    TEXT("[\"\\ud800\\ud800\\udc00\"]"), TEXT("[\"\\ud83d\\udce7\\udce7\"]"),
    TEXT("{\"\\udead\":0}"), TEXT("[\"\\ud800 \\udc00\"]"), TEXT("[\"\\ud800\xED\xB0\x80\"]"),
    TEXT("\"\\ud800"), TEXT("\"\\ud800\\"), TEXT("\"\\ud800\\udc00"),
    /* strings: raw control characters */
    TEXT("[\"\0\"]"), TEXT("[\"a\0a\"]"), TEXT("[\"\x01\"]"), TEXT("[\"\t\"]"), TEXT("[\"\n\"]"),
    TEXT("[\"\r\"]"), TEXT("[\"\x1F\"]"), TEXT("[\"new\nline\"]"), TEXT("{\"\x1B\":1}"),
    /* strings: bytes that are not UTF-8 */
    TEXT("[\"\xE9\"]"), TEXT("[\"\x80\"]"), TEXT("[\"\xBF\"]"), TEXT("[\"\xC3\"]"),
    TEXT("[\"\xE2\x82\"]"), TEXT("[\"\xF0\x9F\x93\"]"), TEXT("[\"\xC3\x28\"]"),
    TEXT("[\"\xE0\xFF\"]"), TEXT("[\"\xC0\xAF\"]"), TEXT("[\"\xC1\xBF\"]"),
    TEXT("[\"\xE0\x80\xAF\"]"), TEXT("[\"\xF0\x80\x80\xAF\"]"), TEXT("[\"\xF0\x8F\xBF\xBF\"]"),
    TEXT("[\"\xFC\x83\xBF\xBF\xBF\xBF\"]"), TEXT("[\"\xFC\x80\x80\x80\x80\x80\"]"),
    TEXT("[\"\xED\xA0\x80\"]"), TEXT("[\"\xED\xBF\xBF\"]"), TEXT("[\"\xED\xA0\xBD\xED\xB3\xA7\"]"),
    TEXT("[\"\xF4\x90\x80\x80\"]"), TEXT("[\"\xF5\x80\x80\x80\"]"),
    TEXT("[\"\xF8\x88\x80\x80\x80\"]"), TEXT("[\"\xFE\"]"), TEXT("[\"\xFF\"]"), TEXT("[\"\xC3"),
    TEXT("\"\xF0\x9F")};

static struct json *parse(struct str text)
{
    struct error err;
    struct json *doc = json_parse(text, &err);
    if (!doc) {
        fail_msg("refused: %.*s: %s", STR_ARG(text), err.text);
    }
    return doc;
}

static struct json *parse_s(const char *text)
{
    return parse(str_of(text));
}

/* Returns a copy of exactly the size, so that a sanitizer sees an access beyond its end. */
static char *exact(struct str text)
{
    char *copy = mem_alloc(text.n);
    memcpy(copy, text.p, text.n);
    return copy;
}

static enum fail refusal(struct str text)
{
    struct error err = {.fail = FAIL_NONE};
    char *copy = exact(text);
    struct json *doc = json_parse((struct str){copy, text.n}, &err);
    if (doc) {
        json_free(doc);
        err.fail = FAIL_NONE;
    } else {
        assert_true(strlen(err.text) > 0);
    }
    free(copy);
    return err.fail;
}

static void test_accepts(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
        char *copy = exact(accepted[i]);
        json_free(parse((struct str){copy, accepted[i].n}));
        free(copy);
    }
}

static void test_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        if (refusal(refused[i]) != FAIL_PROTOCOL) {
            fail_msg("accepted: row %zu: %.*s", i, STR_ARG(refused[i]));
        }
    }
}

/* Every true prefix of a text that ends with a bracket or a quote is incomplete. */
static void test_refuses_prefixes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(accepted); i++) {
        struct str s = accepted[i];
        if (!strchr("]}\"", s.p[s.n - 1])) {
            continue;
        }
        for (size_t n = 0; n < s.n; n++) {
            assert_int_equal(refusal((struct str){s.p, n}), FAIL_PROTOCOL);
        }
    }
}

/* Returns `n` times `open`, then `middle`, then n times `close`. The caller frees it. */
static char *nest(size_t n, const char *open, const char *middle, const char *close)
{
    struct buf b;
    buf_init(&b, 64 << 20);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(buf_add(&b, open, strlen(open)), OK);
    }
    assert_int_equal(buf_add(&b, middle, strlen(middle)), OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(buf_add(&b, close, strlen(close)), OK);
    }
    assert_int_equal(buf_add(&b, "", 1), OK);
    return b.data;
}

static void test_bounds(void **state)
{
    (void)state;
    const struct {
        size_t depth;
        const char *open, *middle, *close;
        enum fail fail;
    } rows[] = {
        {JSON_MAX_DEPTH, "[", "", "]", FAIL_NONE},
        {JSON_MAX_DEPTH + 1, "[", "", "]", FAIL_LIMIT},
        {JSON_MAX_DEPTH, "{\"a\":", "1", "}", FAIL_NONE},
        {JSON_MAX_DEPTH + 1, "{\"a\":", "1", "}", FAIL_LIMIT},
        {JSON_MAX_DEPTH / 2, "[{\"a\":", "1", "}]", FAIL_NONE},
        {500, "[", "", "]", FAIL_LIMIT},
        {100000, "[", "", "", FAIL_LIMIT},
        {50000, "[{\"\":", "", "", FAIL_LIMIT},
        {JSON_MAX_SIZE - 1, " ", "1", "", FAIL_NONE},
        {JSON_MAX_SIZE, " ", "1", "", FAIL_LIMIT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *text = nest(rows[i].depth, rows[i].open, rows[i].middle, rows[i].close);
        assert_int_equal(refusal(str_of(text)), rows[i].fail);
        free(text);
    }
    /* The depth counts only open brackets. */
    json_free(
        parse_s("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
                "[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
                "[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]"));
}

static void test_complaints(void **state)
{
    (void)state;
    const struct {
        const char *text, *complaint;
    } rows[] = {
        {"", "line 1, column 1: expected a value, found the end"},
        {"{\n  \"a\": 1\n  \"b\": 2\n}", "line 3, column 3: expected ',' or '}', found '\"'"},
        {"[1 2]", "line 1, column 4: expected ',' or ']', found '2'"},
        {"[1,]", "line 1, column 4: no ',' is allowed behind the last one"},
        {"{\"\xC3\xA4\xE2\x82\xAC\": x}", "line 1, column 8: expected a value, found 'x'"},
        {"{a: 1}", "line 1, column 2: expected a name in double quotes, found 'a'"},
        {"{\"a\" 1}", "line 1, column 6: expected ':', found '1'"},
        {"\"abc", "line 1, column 5: expected the closing '\"' of a string, found the end"},
        {"[\"a\nb\"]", "line 1, column 4: a control character in a string must be escaped"},
        {"\"\\q\"", "line 1, column 3: expected one of \"\\/bfnrtu after a backslash, found 'q'"},
        {"\"\\u12\"", "line 1, column 6: expected four hexadecimal digits after \\u, found '\"'"},
        {"\"\\ud800\"", "line 1, column 8: half of a surrogate pair"},
        {"\"\xFF\"", "line 1, column 2: not UTF-8"},
        {"01", "line 1, column 2: a number must not begin with 0"},
        {"-x", "line 1, column 2: expected a digit, found 'x'"},
        {"\r\n\x01", "line 2, column 1: expected a value, found byte 0x01"},
        {"1 1", "line 1, column 3: expected the end, found '1'"},
        {"\xFF\xFE{", "line 1, column 1: is UTF-16: save it as UTF-8"},
        {"\xFE\xFF", "line 1, column 1: is UTF-16: save it as UTF-8"},
        {"\xEF\xBB\xBF{}",
         "line 1, column 1: begins with a byte order mark: save it as plain UTF-8"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct error err;
        assert_null(json_parse(str_of(rows[i].text), &err));
        assert_int_equal(err.fail, FAIL_PROTOCOL);
        assert_string_equal(err.text, rows[i].complaint);
        assert_null(json_parse(str_of(rows[i].text), NULL));
    }
}

static void test_types(void **state)
{
    (void)state;
    struct json *doc = parse_s("[null, true, false, -1.5, \"s\", [], {}]");
    const enum json_type types[] = {JSON_NULL,   JSON_BOOL,  JSON_BOOL,  JSON_NUMBER,
                                    JSON_STRING, JSON_ARRAY, JSON_OBJECT};
    const char *const texts[] = {"null", "true", "false", "-1.5", "\"s\"", "[]", "{}"};
    size_t i = 0;
    for (struct json_value v = json_first(json_root(doc)); json_exists(v); v = json_next(v), i++) {
        assert_true(i < ARRAY_LEN(types));
        assert_int_equal(json_type(v), types[i]);
        assert_true(str_eq(json_text(v), texts[i]));
        assert_int_equal(json_given(v), i > 0);
        assert_false(json_exists(json_key(v)));
    }
    assert_int_equal(i, ARRAY_LEN(types));
    assert_int_equal(json_type(json_root(doc)), JSON_ARRAY);
    assert_string_equal(json_type_name(JSON_NONE), "nothing");
    assert_string_equal(json_type_name(JSON_OBJECT), "an object");
    json_free(doc);
    json_free(NULL);
}

static void test_nothing(void **state)
{
    (void)state;
    struct json_value none = {0};
    bool b;
    int64_t n;
    struct buf out = {.max = 10};
    assert_int_equal(json_type(none), JSON_NONE);
    assert_false(json_given(none));
    assert_false(json_exists(json_get(json_get(none, "a"), "b")));
    assert_false(json_exists(json_first(none)));
    assert_false(json_exists(json_next(none)));
    assert_false(json_exists(json_key(none)));
    assert_int_equal(json_text(none).n, 0);
    assert_int_equal(json_bool(none, &b), ERR);
    assert_int_equal(json_int64(none, &n), ERR);
    assert_int_equal(json_string(none, &out), ERR);
    assert_null(json_strdup(none, NULL));
    assert_false(json_is(none, ""));
}

static void test_members(void **state)
{
    (void)state;
    struct json *doc = parse_s("{\"Name\":\"shop\",\"list\":[1,[2,{\"x\":3}],4],\"o\":{\"a\":{}},"
                               "\"n\\u0061me\":5,\"nul\\u0000\":6,\"dup\":1,\"dup\":[2],\"\":7}");
    struct json_value root = json_root(doc);
    int64_t n;
    assert_true(json_is(json_get(root, "Name"), "shop"));
    assert_false(json_exists(json_get(root, "NAME")));
    assert_false(json_exists(json_get(root, "x")));
    assert_false(json_exists(json_get(root, "a")));
    assert_int_equal(json_int64(json_get(root, "name"), &n), OK);
    assert_int_equal(n, 5);
    assert_false(json_exists(json_get(root, "nul")));
    assert_int_equal(json_int64(json_get(root, ""), &n), OK);
    assert_int_equal(n, 7);
    assert_int_equal(json_type(json_get(root, "dup")), JSON_ARRAY);
    assert_int_equal(json_type(json_get(json_get(root, "o"), "a")), JSON_OBJECT);
    assert_false(json_exists(json_get(json_get(root, "Name"), "Name")));
    assert_false(json_exists(json_get(json_get(root, "list"), "x")));
    assert_false(json_exists(json_first(json_get(json_get(root, "o"), "a"))));
    assert_false(json_exists(json_first(json_get(root, "Name"))));
    assert_false(json_exists(json_next(root)));

    char seen[200] = "";
    for (struct json_value m = json_first(root); json_exists(m); m = json_next(m)) {
        struct str key = json_text(json_key(m)), text = json_text(m);
        size_t at = strlen(seen);
        text_fmt(seen + at, sizeof(seen) - at, "%.*s=%.*s ", STR_ARG(key), STR_ARG(text));
    }
    assert_string_equal(seen, "\"Name\"=\"shop\" \"list\"=[1,[2,{\"x\":3}],4] \"o\"={\"a\":{}} "
                              "\"n\\u0061me\"=5 \"nul\\u0000\"=6 \"dup\"=1 \"dup\"=[2] \"\"=7 ");
    json_free(doc);
}

static void test_scalars(void **state)
{
    (void)state;
    const struct {
        const char *text;
        int result;
        int64_t value;
    } rows[] = {
        {"0", OK, 0},
        {"-0", OK, 0},
        {"110", OK, 110},
        {"-7", OK, -7},
        {"9223372036854775807", OK, INT64_MAX},
        {"-9223372036854775808", OK, INT64_MIN},
        {"9223372036854775808", ERR, 0},
        {"-9223372036854775809", ERR, 0},
        {"99999999999999999999999", ERR, 0},
        {"1.0", ERR, 0},
        {"1e2", ERR, 0},
        {"\"1\"", ERR, 0},
        {"true", ERR, 0},
        {"[1]", ERR, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json *doc = parse_s(rows[i].text);
        int64_t value = 0;
        assert_int_equal(json_int64(json_root(doc), &value), rows[i].result);
        assert_true(value == rows[i].value);
        json_free(doc);
    }
    struct json *doc = parse_s("{\"yes\":true,\"no\":false,\"text\":\"true\",\"null\":null}");
    bool b = false;
    assert_int_equal(json_bool(json_get(json_root(doc), "yes"), &b), OK);
    assert_true(b);
    assert_int_equal(json_bool(json_get(json_root(doc), "no"), &b), OK);
    assert_false(b);
    assert_int_equal(json_bool(json_get(json_root(doc), "text"), &b), ERR);
    assert_int_equal(json_bool(json_get(json_root(doc), "null"), &b), ERR);
    json_free(doc);
}

static void test_strings(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        struct str decoded;
    } rows[] = {
        {"\"\"", TEXT("")},
        {"\"plain\"", TEXT("plain")},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", TEXT("\"\\/\b\f\n\r\t")},
        {"\"\\u0041\\u00e9\\u20AC\\uFFFF\"", TEXT("A\xC3\xA9\xE2\x82\xAC\xEF\xBF\xBF")},
        {"\"\\u007f\\u0080\\u07ff\\u0800\"", TEXT("\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80")},
        {"\"\\ud83d\\uDCE7!\"", TEXT("\xF0\x9F\x93\xA7!")},
        {"\"\\ud800\\udc00\\udbff\\udfff\"", TEXT("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF")},
        {"\"a\\u0000b\"", TEXT("a\0b")},
        {"\"\\u0000\"", TEXT("\0")},
        {"\"\\\\u0041\"", TEXT("\\u0041")},
        {"\"\xC3\xA9\xF0\x9F\x93\xA7\"", TEXT("\xC3\xA9\xF0\x9F\x93\xA7")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json *doc = parse_s(rows[i].json);
        struct json_value v = json_root(doc);
        struct str want = rows[i].decoded;
        size_t n;
        char *s = json_strdup(v, &n);
        assert_int_equal(n, want.n);
        assert_memory_equal(s, want.p, n + 1);
        free(s);

        struct buf out;
        buf_init(&out, 64);
        assert_int_equal(json_string(v, &out), OK);
        assert_int_equal(json_string(v, &out), OK);
        assert_int_equal(buf_len(&out), 2 * want.n);
        assert_memory_equal(buf_str(&out).p + want.n, want.p, want.n);
        buf_free(&out);

        bool has_nul = strlen(want.p) != want.n;
        assert_int_equal(json_is(v, want.p), !has_nul);
        assert_false(json_is(v, "something else"));
        s = json_strdup(v, NULL);
        assert_int_equal(s == NULL, has_nul);
        free(s);
        json_free(doc);
    }
    struct json *doc = parse_s("[\"12345\", 12345]");
    struct buf small;
    buf_init(&small, 4);
    assert_int_equal(json_string(json_first(json_root(doc)), &small), ERR);
    assert_int_equal(buf_len(&small), 0);
    assert_null(json_strdup(json_next(json_first(json_root(doc))), NULL));
    json_free(doc);
}

static void test_quote(void **state)
{
    (void)state;
    static const struct {
        struct str in;
        const char *out;
    } rows[] = {
        {TEXT(""), "\"\""},
        {TEXT("pop3 \"x\" \\ /"), "\"pop3 \\\"x\\\" \\\\ /\""},
        {TEXT("a\nb\r\t\0\x1F\x7F"), "\"a\\nb\\u000d\\u0009\\u0000\\u001f\\u007f\""},
        {TEXT("\xC3\xA9\xF0\x9F\x93\xA7"), "\"\xC3\xA9\xF0\x9F\x93\xA7\""},
        {TEXT("\xFFz\xC3"), "\"\xEF\xBF\xBDz\xEF\xBF\xBD\""},
        {TEXT("\xED\xA0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf out;
        buf_init(&out, 200);
        assert_int_equal(json_quote(&out, rows[i].in), OK);
        assert_true(str_eq(buf_str(&out), rows[i].out));
        json_free(parse(buf_str(&out)));
        buf_free(&out);
    }
    struct buf out;
    buf_init(&out, 8);
    assert_int_equal(buf_add(&out, "ab", 2), OK);
    assert_int_equal(json_quote(&out, str_of("12345")), ERR);
    assert_true(str_eq(buf_str(&out), "ab"));
    assert_int_equal(json_quote(&out, str_of("1234")), OK);
    assert_true(str_eq(buf_str(&out), "ab\"1234\""));
    buf_free(&out);
}

static void test_fmt(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 64);
    assert_int_equal(json_fmt(&out, "{'a':%s,\"b\":[%d,'c']}", "x\"'%\n", -7), OK);
    assert_true(str_eq(buf_str(&out), "{\"a\":\"x\\\"'%\\n\",\"b\":[-7,\"c\"]}"));
    json_free(parse(buf_str(&out)));
    buf_free(&out);

    /* A text that does not fit leaves the buffer empty. */
    static const char whole[] = "[\"abc\",12,\"d\"]";
    for (size_t max = 0; max <= strlen(whole); max++) {
        buf_init(&out, max);
        assert_int_equal(json_fmt(&out, "[%s,%d,'d']", "abc", 12), max < strlen(whole) ? ERR : OK);
        assert_true(str_eq(buf_str(&out), max < strlen(whole) ? "" : whole));
        buf_free(&out);
    }
}

static uint64_t digest_of(const char *text)
{
    struct json *doc = parse(str_of(text));
    uint64_t digest = json_digest(json_root(doc));
    json_free(doc);
    return digest;
}

static void test_digest(void **state)
{
    (void)state;
    static const char *const same[][2] = {
        {"{\"a\":1,\"b\":[true,\"x\"]}", " { \"b\" : [ true, \"x\" ] , \"a\" : 1 } "},
        {"[\"\\u0061/\\u00e9\"]", "[\"a\\/\xC3\xA9\"]"},
        {"{\"\\u0061\":{}}", "{\"a\":{}}"},
        {"{\"a\":null,\"b\":2}", "{\"b\":2}"},
        {"{\"a\":{\"b\":{\"c\":1,\"d\":2}}}", "{\"a\":{\"b\":{\"d\":2,\"c\":1}}}"},
    };
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        assert_true(digest_of(same[i][0]) == digest_of(same[i][1]));
    }
    static const char *const different[] = {"null",
                                            "true",
                                            "false",
                                            "0",
                                            "1",
                                            "10",
                                            "\"\"",
                                            "\"1\"",
                                            "\"true\"",
                                            "\"\\u0000\"",
                                            "\"\\u0000\\u0000\"",
                                            "[]",
                                            "[[]]",
                                            "[[],[]]",
                                            "[1]",
                                            "[1,10]",
                                            "[10,1]",
                                            "[[1],10]",
                                            "[1,[10]]",
                                            "[null]",
                                            "[null,null]",
                                            "[1,null]",
                                            "{}",
                                            "{\"a\":1}",
                                            "{\"a\":10}",
                                            "{\"a\":\"1\"}",
                                            "{\"b\":1}",
                                            "{\"a\":1,\"b\":10}",
                                            "{\"a\":10,\"b\":1}",
                                            "{\"a\":{\"b\":1}}",
                                            "{\"b\":{\"a\":1}}",
                                            "{\"a\":{},\"b\":{}}",
                                            "{\"ab\":{}}",
                                            "[{},{}]",
                                            "{\"a\":[1,10]}",
                                            "{\"a\":[10,1]}",
                                            "{\"a\":\"b\"}",
                                            "{\"b\":\"a\"}"};
    for (size_t i = 0; i < ARRAY_LEN(different); i++) {
        for (size_t j = 0; j < i; j++) {
            if (digest_of(different[i]) == digest_of(different[j])) {
                fail_msg("%s and %s", different[i], different[j]);
            }
        }
    }
    assert_true(json_digest((struct json_value){0}) == digest_of("null"));
}

/* Returns the CPU seconds that it takes to parse a text of about n bytes, made of copies of
 * `piece`, and to visit all its values. */
static double cost(size_t n, const char *open, const char *piece, const char *close)
{
    size_t copies = n / strlen(piece);
    struct buf b;
    buf_init(&b, 2 * n + 64);
    assert_int_equal(buf_add(&b, open, strlen(open)), OK);
    for (size_t i = 0; i < copies; i++) {
        assert_int_equal(buf_fmt(&b, "%s%s", i ? "," : "", piece), OK);
    }
    assert_int_equal(buf_add(&b, close, strlen(close)), OK);

    clock_t start = clock();
    struct json *doc = parse(buf_str(&b));
    size_t seen = 0;
    for (struct json_value v = json_first(json_root(doc)); json_exists(v); v = json_next(v)) {
        seen++;
    }
    assert_false(json_exists(json_get(json_root(doc), "missing")));
    double took = (double)(clock() - start) / CLOCKS_PER_SEC;
    assert_int_equal(seen, copies);
    json_free(doc);
    buf_free(&b);
    return took;
}

/* A parser that is quadratic in any way would need minutes for these. */
static void test_costs(void **state)
{
    (void)state;
    enum { MEGABYTE = 1024 * 1024 };
    char *deep = nest(JSON_MAX_DEPTH - 1, "[", "", "]");
    assert_true(cost(MEGABYTE, "{", "\"k\":0", "}") < 2);
    assert_true(cost(MEGABYTE, "{", "\"\\u006b\":{\"a\":[]}", "}") < 2);
    assert_true(cost(MEGABYTE, "[", "1", "]") < 2);
    assert_true(cost(MEGABYTE, "[", "{}", "]") < 2);
    assert_true(cost(MEGABYTE, "[", "\"\\ud83d\\udce7\"", "]") < 2);
    assert_true(cost(MEGABYTE, "[", deep, "]") < 2);
    free(deep);
}

/* A value that lib/json_cutter has left out has a type of its own. The text with such a value is
 * not JSON. */
static void test_omitted(void **state)
{
    (void)state;
    struct error err;
    struct str text = str_of("{\"a\":~,\"b\":[~,1]}");
    assert_null(json_parse(text, &err));
    struct json *doc = json_parse_cut(text, &err);
    assert_non_null(doc);
    struct json_value a = json_get(json_root(doc), "a");
    assert_int_equal(json_type(a), JSON_OMITTED);
    assert_string_equal(json_type_name(JSON_OMITTED), "too large");
    assert_true(json_given(a) && !json_exists(json_first(a)) && !json_exists(json_get(a, "b")));
    assert_int_equal(json_type(json_first(json_get(json_root(doc), "b"))), JSON_OMITTED);
    assert_null(json_strdup(a, NULL));
    json_free(doc);
    static const char *const bad[] = {"~~", "{~:1}", "[~1]", "{\"a\":~~}"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_null(json_parse_cut(str_of(bad[i]), &err));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_refuses_prefixes),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_fmt),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_costs),
        cmocka_unit_test(test_omitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
