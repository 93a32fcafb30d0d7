/* Tests oauth/answer: tokens, lifetimes and refusals. No message repeats a secret. */
#include "oauth/answer.h"

#include <stdio.h>

#include "tests/unit/check.h"

#define SECRET "a1b2c3$D4e5="

static struct token_answer answer;
static struct error err;

/* Returns a head with this status, and with one more field if `name` is given. */
static struct http_head head_of(int status, const char *name, const char *value)
{
    struct http_head head = {.status = status};
    if (name) {
        head.headers[head.header_count++] = (struct http_header){str_of(name), str_of(value)};
    }
    return head;
}

static int answer_with(const struct http_head *head, const char *body)
{
    struct str copy = exact_copy(body, strlen(body));
    err = (struct error){0};
    const struct str known[] = {str_of(SECRET), str_of("")};
    const struct token_question question = {.property = "tokenServiceURL",
                                            .secrets = {known, ARRAY_LEN(known)}};
    int rc = oauth_answer_read(&question, head, copy, &answer, &err);
    free((char *)copy.p);
    return rc;
}

static int answer_read(int status, const char *body)
{
    struct http_head head = head_of(status, NULL, NULL);
    return answer_with(&head, body);
}

static void expect_token(const char *body, const char *token, int64_t lifetime)
{
    if (answer_read(200, body) != OK) {
        fail_msg("%s: %s", body, err.text);
    }
    assert_str(((struct str){answer.access_token.p, answer.access_token.n}), token);
    assert_int_equal(answer.lifetime, lifetime);
    oauth_answer_clear(&answer);
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
    expect_token("{\"access_token\":\"abc\",\"token_type\":\"BearerToken\"}", "abc", SECONDS(300));
    expect_token("{\"access_token\":\"abc\",\"token_type\":null}", "abc", SECONDS(300));
    expect_token("{\"access_token\":\"abc\",\"error\":null,\"expires_in\":60}", "abc", SECONDS(60));
    expect_token("\xEF\xBB\xBF{\"access_token\":\"abc\"}", "abc", SECONDS(300));
}

static void rotated_refresh_tokens(void **state)
{
    (void)state;
    assert_int_equal(answer_read(200, "{\"access_token\":\"abc\",\"refresh_token\":\"1//x\"}"), OK);
    assert_string_equal(answer.refresh_token.p, "1//x");
    oauth_answer_clear(&answer);
    assert_int_equal(answer_read(200, "{\"access_token\":\"abc\",\"refresh_token\":\"\"}"), OK);
    assert_null(answer.refresh_token.p);
    oauth_answer_clear(&answer);
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
        "{\"error\":null}",
    };
    for (size_t i = 0; i < ARRAY_LEN(without); i++) {
        expect_error(200, without[i], FAIL_TOKEN, "gives no token: its answer has no access_token");
    }
    static const struct {
        const char *type, *named;
    } types[] = {
        {"\"mac\"", "\"mac\""},
        {"\"\"", "\"\""},
        {"1", "a number"},
        {"\"bearers\"", "\"bearers\""},
        {"\"PoP\\r\\nmac\"", "\"PoP mac\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char body[128], text[128];
        snprintf(body, sizeof(body), "{\"access_token\":\"abc\",\"token_type\":%s}", types[i].type);
        snprintf(text, sizeof(text),
                 "gives no token that can be used: its token_type is %s, not Bearer",
                 types[i].named);
        expect_error(200, body, FAIL_TOKEN, text);
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
        {400, "{\"error\":\"invalid_scope\",\"error_description\":\"\"}", FAIL_CONFIG,
         "gives no token (400: invalid_scope)"},
        {400, "{\"error\":\"unsupported_grant_type\"}", FAIL_CONFIG,
         "gives no token (400: unsupported_grant_type)"},
        {400,
         "{\"error\":\"invalid_request\",\"error_description\":\"AADSTS90002: Tenant 'x' not found."
         "\\r\\nTrace ID: 1\\r\\n\"}",
         FAIL_CONFIG,
         "gives no token (400: invalid_request: AADSTS90002: Tenant 'x' not found. Trace ID: 1)"},
        {400, "{\"error\":\"temporarily_unavailable\"}", FAIL_REMOTE,
         "gives no token (400: temporarily_unavailable)"},
        {503, "{\"error\":\"invalid_scope\"}", FAIL_REMOTE, "gives no token (503: invalid_scope)"},
        {400, "{\"error\":\"something_new\",\"message\":\"who knows\"}", FAIL_TOKEN,
         "gives no token (400: something_new: who knows)"},

        /* a refusal with the status of a success */
        {200, "{\"error\":\"invalid_client\"}", FAIL_AUTH,
         "refuses the client (200: invalid_client)"},
        {200, "{\"error\":\"bad_verification_code\",\"error_description\":\"it has expired\"}",
         FAIL_AUTH,
         "refuses the refresh token or code (200: bad_verification_code: it has expired)"},
        {200, "{\"error\":\"invalid_scope\",\"access_token\":\"\"}", FAIL_CONFIG,
         "gives no token (200: invalid_scope)"},
        {200, "{\"error\":{}}", FAIL_TOKEN, "gives no token (200)"},

        /* errors that are objects */
        {403,
         "{\"error\":{\"code\":403,\"message\":\"Permission denied\\non it\",\"status\":"
         "\"PERMISSION_DENIED\"}}",
         FAIL_AUTH, "refuses the client (403: PERMISSION_DENIED: Permission denied on it)"},
        {400, "{\"error\":{\"code\":\"invalid_scope\",\"message\":\"no\"}}", FAIL_CONFIG,
         "gives no token (400: invalid_scope: no)"},
        {503, "{\"error\":{\"code\":503,\"message\":\"try later\",\"status\":7}}", FAIL_REMOTE,
         "gives no token (503: try later)"},
        {400, "{\"error\":[\"invalid_client\"],\"error_description\":7}", FAIL_TOKEN,
         "gives no token (400)"},
        {404, "<html>nothing here</html>", FAIL_CONFIG, "knows no such tenant (404)"},
        {404, "{\"error\":\"subdomain_not_mapped\"}", FAIL_CONFIG,
         "knows no such tenant (404: subdomain_not_mapped)"},
        {201, "{\"access_token\":\"abc\"}", FAIL_TOKEN, "gives no token (201)"},
        {304, "", FAIL_TOKEN, "gives no token (304)"},
        {302, "", FAIL_CONFIG,
         "redirects without saying where to (302), which is not followed: tokenServiceURL has to "
         "name that address"},
        {408, "", FAIL_REMOTE, "gives no token (408)"},
        {429, "slow down", FAIL_REMOTE, "gives no token (429)"},
        {500, "[]", FAIL_REMOTE, "gives no token (500)"},
        {503, "{\"error_description\":\"tea\\r\\nbreak\\u0000\\u007f\\u00fc\"}", FAIL_REMOTE,
         "gives no token (503: tea break??\xC3\xBC)"},
        {599, "{\"access_token\":\"abc\"}", FAIL_REMOTE, "gives no token (599)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        expect_error(table[i].status, table[i].body, table[i].fail, table[i].text);
    }
}

static void redirects(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *location, *shown;
    } table[] = {
        {301, "https://new.example.com/oauth/token", "to https://new.example.com/oauth/token"},
        {302, "/login?client_id=abc&next=%2Foauth", "to /login"},
        {303, "http://x/" SECRET "/y", "to (not shown: a secret is in it)"},
        {307, "", "without saying where to"},
        {308, "https://a.example.com/0123456789abcdefABCDEF", "to https://a.example.com/***"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[300];
        struct http_head head = head_of(table[i].status, "location", table[i].location);
        snprintf(text, sizeof(text),
                 "redirects %s (%d), which is not followed: tokenServiceURL has to name that "
                 "address",
                 table[i].shown, table[i].status);
        assert_int_equal(answer_with(&head, "<html>moved</html>"), ERR);
        assert_string_equal(err.text, text);
        assert_int_equal(err.fail, FAIL_CONFIG);
    }
}
static void coded_answers(void **state)
{
    (void)state;
    struct http_head head = head_of(401, "Content-Encoding", "gzip");
    assert_int_equal(answer_with(&head, "\x1F\x8B\x08"), ERR);
    assert_string_equal(err.text, "refuses the client (401; its text is coded as gzip)");
    head = head_of(400, "Content-Encoding", "identity");
    assert_int_equal(answer_with(&head, "{\"error\":\"invalid_scope\"}"), ERR);
    assert_string_equal(err.text, "gives no token (400: invalid_scope)");
}

/* Long words are cut, so that there is room for the server's name. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens),    cmocka_unit_test(rotated_refresh_tokens),
        cmocka_unit_test(lifetimes), cmocka_unit_test(no_tokens),
        cmocka_unit_test(refusals),  cmocka_unit_test(long_words),
        cmocka_unit_test(redirects), cmocka_unit_test(coded_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
