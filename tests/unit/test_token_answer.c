/* Answers of token endpoints: tokens, lifetimes, refusals, and that no message repeats a secret. */
#include "core/token_answer.h"

#include <stdio.h>

#include "tests/unit/check.h"

#define SECRET "a1b2c3$D4e5="

static struct token_answer answer;
static struct error err;

static int answer_read(int status, const char *body)
{
    struct str copy = exact_copy(body, strlen(body));
    err = (struct error){0};
    struct str known = str_of(SECRET);
    int rc = token_answer_read(status, copy, &known, 1, &answer, &err);
    free((char *)copy.p);
    return rc;
}

static void expect_token(const char *body, const char *token, int64_t lifetime)
{
    if (answer_read(200, body) != OK) {
        fail_msg("%s: %s", body, err.text);
    }
    assert_str(((struct str){answer.access_token.p, answer.access_token.n}), token);
    assert_int_equal(answer.lifetime, lifetime);
    token_answer_clear(&answer);
}

static void expect_error(int status, const char *body, enum fail fail, const char *text)
{
    assert_int_equal(answer_read(status, body), ERR);
    assert_string_equal(err.text, text);
    assert_int_equal(err.fail, fail);
    assert_null(answer.access_token.p);
}

static void tokens(void **state)
{
    (void)state;
    expect_token("{\"access_token\":\"abc\",\"token_type\":\"bearer\",\"expires_in\":3600}", "abc",
                 SECONDS(3600));
    expect_token("{\"access_token\":\"a.b.c\",\"token_type\":\"Bearer\",\"expires_in\":\"43199\","
                 "\"scope\":\"uaa.resource\",\"jti\":\"1\"}",
                 "a.b.c", SECONDS(43199));
    expect_token(" {\"token_type\":\"BEARER\",\"access_token\":\"a\\u002eb\"} ", "a.b",
                 SECONDS(300));
    expect_token("{\"access_token\":\"abc\"}", "abc", SECONDS(300));
}

static void rotated_refresh_tokens(void **state)
{
    (void)state;
    assert_int_equal(answer_read(200, "{\"access_token\":\"abc\",\"refresh_token\":\"1//x\"}"), OK);
    assert_string_equal(answer.refresh_token.p, "1//x");
    token_answer_clear(&answer);
    assert_int_equal(answer_read(200, "{\"access_token\":\"abc\",\"refresh_token\":\"\"}"), OK);
    assert_null(answer.refresh_token.p);
    token_answer_clear(&answer);
    expect_error(400, "{\"error\":\"invalid_grant\",\"error_description\":\"it has expired\"}",
                 FAIL_AUTH,
                 "refuses the refresh token or code (400: invalid_grant: it has expired)");
}

static void lifetimes(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int64_t lifetime;
    } table[] = {
        {"0", 0},
        {"\"0\"", 0},
        {"1", SECONDS(1)},
        {"\" 60 \"", SECONDS(60)},
        {"86400", SECONDS(86400)},
        {"86401", SECONDS(86400)},
        {"18446744073709551615", SECONDS(86400)},
        {"\"99999999999999999999999999999999999999\"", SECONDS(300)},
        {"18446744073709551616", SECONDS(300)},
        {"-1", SECONDS(300)},
        {"1.5", SECONDS(300)},
        {"1e3", SECONDS(300)},
        {"\"\"", SECONDS(300)},
        {"\"soon\"", SECONDS(300)},
        {"null", SECONDS(300)},
        {"true", SECONDS(300)},
        {"[60]", SECONDS(300)},
        {"{}", SECONDS(300)},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char body[128];
        snprintf(body, sizeof(body), "{\"access_token\":\"abc\",\"expires_in\":%s}", table[i].json);
        expect_token(body, "abc", table[i].lifetime);
    }
}

static void no_tokens(void **state)
{
    (void)state;
    static const char *const without[] = {
        "{}",
        "[]",
        "null",
        "\"abc\"",
        "{\"access_token\":null}",
        "{\"access_token\":\"\"}",
        "{\"access_token\":{\"access_token\":\"abc\"}}",
        "{\"access_token\":123}",
        "{\"error\":\"invalid_client\"}",
    };
    for (size_t i = 0; i < ARRAY_LEN(without); i++) {
        expect_error(200, without[i], FAIL_TOKEN, "gives no token: its answer has no access_token");
    }
    static const char *const types[] = {
        "\"mac\"", "\"\"",        "null",
        "1",       "\"bearer \"", "\"a type with a name that is far too long for anything\""};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char body[128];
        snprintf(body, sizeof(body), "{\"access_token\":\"abc\",\"token_type\":%s}", types[i]);
        expect_error(200, body, FAIL_TOKEN,
                     "gives no token that can be used: it is not of type Bearer");
    }
    expect_error(200, "", FAIL_TOKEN,
                 "gives no token: line 1, column 1: expected a value, found the end");
    assert_int_equal(answer_read(200, "<html>It works!</html>"), ERR);
    assert_int_equal(err.fail, FAIL_TOKEN);
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        enum fail fail;
        const char *text;
    } table[] = {
        {401, "{\"error\":\"unauthorized\",\"error_description\":\"Bad credentials\"}", FAIL_AUTH,
         "refuses the client (401: unauthorized: Bad credentials)"},
        {401, "", FAIL_AUTH, "refuses the client (401)"},
        {401, "<html>", FAIL_AUTH, "refuses the client (401)"},
        {403, "{\"error\":\"access_denied\"}", FAIL_AUTH,
         "refuses the client (403: access_denied)"},
        {400, "{\"error\":\"invalid_client\"}", FAIL_AUTH,
         "refuses the client (400: invalid_client)"},
        {400, "{\"error\":\"unauthorized_client\"}", FAIL_AUTH,
         "refuses the client (400: unauthorized_client)"},
        {400, "{\"error\":\"unauthorized\"}", FAIL_AUTH, "refuses the client (400: unauthorized)"},
        {400, "{\"error\":\"invalid_scope\",\"error_description\":\"\"}", FAIL_TOKEN,
         "gives no token (400: invalid_scope)"},
        {400, "{\"error\":[\"invalid_client\"],\"error_description\":7}", FAIL_TOKEN,
         "gives no token (400)"},
        {404, "<html>nothing here</html>", FAIL_CONFIG, "knows no such tenant (404)"},
        {404, "{\"error\":\"subdomain_not_mapped\"}", FAIL_CONFIG,
         "knows no such tenant (404: subdomain_not_mapped)"},
        {201, "{\"access_token\":\"abc\"}", FAIL_TOKEN, "gives no token (201)"},
        {302, "", FAIL_TOKEN, "gives no token (302)"},
        {408, "", FAIL_REMOTE, "gives no token (408)"},
        {429, "slow down", FAIL_REMOTE, "gives no token (429)"},
        {500, "[]", FAIL_REMOTE, "gives no token (500)"},
        {503, "{\"error_description\":\"tea\\r\\nbreak\\u0000\\u007f\\u00fc\"}", FAIL_REMOTE,
         "gives no token (503: tea??break??\xC3\xBC)"},
        {599, "{\"access_token\":\"abc\"}", FAIL_REMOTE, "gives no token (599)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        expect_error(table[i].status, table[i].body, table[i].fail, table[i].text);
    }
}

/* Long words are cut, and what they say does not hide who says it. */
static void long_words(void **state)
{
    (void)state;
    char body[4096], words[2000];
    memset(words, 'x', sizeof(words) - 1);
    words[sizeof(words) - 1] = '\0';
    snprintf(body, sizeof(body), "{\"error\":\"%s\",\"error_description\":\"%s\"}", words, words);
    assert_int_equal(answer_read(503, body), ERR);
    assert_int_equal(strlen(err.text), strlen("gives no token (503: x: x)") + 44 + 156);
}

static void expect_said(const char *json, const char *text)
{
    char said[100];
    struct json *doc = json_parse(str_of(json), NULL);
    assert_non_null(doc);
    const struct str known[] = {{NULL, 0}, str_of("hunter2"), str_of("swordfish")};
    assert_string_equal(token_said(said, sizeof(said), json_root(doc), known, ARRAY_LEN(known)),
                        text);
    json_free(doc);
}

static void secrets_are_not_repeated(void **state)
{
    (void)state;
    static const char hidden[] = ": (not shown: a secret is in it)";
    expect_error(401, "{\"error\":\"x\",\"error_description\":\"no client has " SECRET ", sorry\"}",
                 FAIL_AUTH, "refuses the client (401: x: (not shown: a secret is in it))");
    expect_said("\"the password hunter2 is wrong\"", hidden);
    expect_said("\"swordfis\\u0068\"", hidden);
    expect_said("\"swordfis\"", ": swordfis");

    /* Tokens that nobody told us of: JWTs, opaque ones, base64. */
    expect_said("\"got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_X"
                ", no\"",
                ": got ***, no");
    expect_said("\"{\\\"access_token\\\":\\\"0123456789abcdef0123\\\"}\"",
                ": {\"access_token\":\"***\"}");
    expect_said("\"Zm9vYmFyYmF6MDEyMzQ1Ng==\"", ": ***");

    /* What is none stays readable. */
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

/* Whatever the room, the text ends, and a token is not shown in part. */
static void any_room(void **state)
{
    (void)state;
    static const char json[] = "\"words before 0123456789abcdef0123456789ABCDEF words behind\"";
    struct json *doc = json_parse(str_of(json), NULL);
    for (size_t cap = 1; cap < sizeof(json); cap++) {
        char *said = malloc(cap);
        assert_non_null(said);
        token_said(said, cap, json_root(doc), NULL, 0);
        assert_true(strlen(said) < cap);
        assert_null(strstr(said, "0"));
        free(said);
    }
    json_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens),
        cmocka_unit_test(rotated_refresh_tokens),
        cmocka_unit_test(lifetimes),
        cmocka_unit_test(no_tokens),
        cmocka_unit_test(refusals),
        cmocka_unit_test(long_words),
        cmocka_unit_test(secrets_are_not_repeated),
        cmocka_unit_test(any_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
