/* Tests http/peer_words: the words of HTTP peers are bounded, on one line, and free of secrets that
 * we sent. */
#include "http/peer_words.h"

#include <stdio.h>

#include "tests/unit/check.h"

static const struct str known[] = {
    {NULL, 0}, {"hunter2", 7}, {"sw&rd fish=", 11}, {"a-long-secret-of-many-octets", 28}};
static const struct peer_secrets secrets = {known, ARRAY_LEN(known)};

static void expect_said(const char *json, const char *text)
{
    char said[120];
    struct json *doc = json_parse(str_of(json), NULL);
    assert_non_null(doc);
    assert_string_equal(http_peer_said(said, sizeof(said), json_root(doc), secrets), text);
    json_free(doc);
}

static void words(void **state)
{
    (void)state;
    expect_said("\"sb-clone 6f8c6d1e-4c55-4c4b-9c76-6f7a4ff5b5b1 is unknown\"",
                ": sb-clone 6f8c6d1e-4c55-4c4b-9c76-6f7a4ff5b5b1 is unknown");
    expect_said("\"org.apache.http.HttpException: https://a.authentication.eu10.example.com/x\"",
                ": org.apache.http.HttpException: https://a.authentication.eu10.example.com/x");
    expect_said("\"ABC0123456789abcdef\"", ": ABC0123456789abcdef");
    expect_said("\"\\u00e4\\u00f6\\u00fc\"", ": \xC3\xA4\xC3\xB6\xC3\xBC");
    expect_said("\"\"", "");
    expect_said("null", "");
    expect_said("{\"a\":\"b\"}", "");
}

static void several_lines(void **state)
{
    (void)state;
    expect_said("\"one\\r\\ntwo\\n\\n \\tthree\\r\\n\"", ": one two three");
    expect_said("\"\\r\\n one\"", ": one");
    expect_said("\" \\r\\n\\t\"", "");
    expect_said("\"a\\u0000b\\u001bc\\u007f\"", ": a?b?c?");
}

static void secrets_are_not_repeated(void **state)
{
    (void)state;
    static const char hidden[] = ": (not shown: a secret is in it)";
    expect_said("\"the password hunter2 is wrong\"", hidden);
    expect_said("\"hunter\\u0032\"", hidden);
    expect_said("\"hunter\"", ": hunter");

    /* as it was sent in a form or in a header field */
    expect_said("\"grant_type=x&client_secret=sw%26rd+fish%3D&a=b\"", hidden);
    expect_said("\"client_secret=sw%26rd%20fish%3d\"", hidden);
    expect_said("\"Basic c2I6aHVudGVyMg== Yzpodw==\"", ": Basic *** Yzpodw==");

    /* a part of the secret */
    expect_said("\"what is a-long-secret-o...?\"", ": what is ***************...?");

    /* Tokens that we do not know: JWTs, opaque ones, base64. */
    expect_said("\"got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_X"
                ", no\"",
                ": got ***, no");
    expect_said("\"{\\\"access_token\\\":\\\"0123456789abcdef0123\\\"}\"",
                ": {\"access_token\":\"***\"}");
    expect_said("\"Zm9vYmFyYmF6MDEyMzQ1Ng==\"", ": ***");
}

/* The text is terminated in a buffer of any size and never shows a part of a token. */
static void any_room(void **state)
{
    (void)state;
    static const char json[] = "\"words before 0123456789abcdef0123456789ABCDEF words behind\"";
    struct json *doc = json_parse(str_of(json), NULL);
    for (size_t cap = 1; cap < sizeof(json); cap++) {
        char *said = malloc(cap);
        assert_non_null(said);
        http_peer_said(said, cap, json_root(doc), (struct peer_secrets){0});
        assert_true(strlen(said) < cap);
        assert_null(strstr(said, "0"));
        free(said);
    }
    json_free(doc);
}

static void redirects(void **state)
{
    (void)state;
    char to[40];
    struct http_head head = {.status = 302, .header_count = 1};
    head.headers[0] = (struct http_header){str_of("Location"), str_of("http://a/b?c=d")};
    assert_true(http_peer_redirects(&head, to, sizeof(to), secrets));
    assert_string_equal(to, "to http://a/b");
    head.headers[0].value = str_of("?c=d");
    assert_true(http_peer_redirects(&head, to, sizeof(to), secrets));
    assert_string_equal(to, "without saying where to");
    for (int status = 200; status < 600; status++) {
        head.status = status;
        bool yes =
            status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
        assert_int_equal(http_peer_redirects(&head, to, sizeof(to), secrets), yes);
    }
    assert_string_equal(to, "");
}

static void codings(void **state)
{
    (void)state;
    char text[60];
    struct http_head head = {.header_count = 1};
    head.headers[0] = (struct http_header){str_of("content-encoding"), str_of("br")};
    assert_string_equal(http_peer_coding(text, sizeof(text), &head), "; its text is coded as br");
    head.headers[0].value = str_of("Identity");
    assert_string_equal(http_peer_coding(text, sizeof(text), &head), "");
}

static void byte_order_marks(void **state)
{
    (void)state;
    assert_str(http_peer_body(str_of("\xEF\xBB\xBF{}")), "{}");
    assert_str(http_peer_body(str_of("\xEF\xBB\xBF\xEF\xBB\xBF")), "\xEF\xBB\xBF");
    assert_str(http_peer_body(str_of("\xEF\xBB")), "\xEF\xBB");
    assert_str(http_peer_body(str_of("")), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(several_lines),
        cmocka_unit_test(secrets_are_not_repeated),
        cmocka_unit_test(any_room),
        cmocka_unit_test(redirects),
        cmocka_unit_test(codings),
        cmocka_unit_test(byte_order_marks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
