/* Tests dest/answer: destinations, tokens, refusals, and odd answers. */
#include "dest/answer.h"

#include <stdio.h>

#include "tests/unit/check.h"

#define ACCESS_TOKEN "the-token-of-the-instance"
#define MAIL                                                                                       \
    "\"Name\":\"inbox\",\"Type\":\"MAIL\",\"ProxyType\":\"Internet\","                             \
    "\"mail.transport.protocol\":\"pop3s\",\"mail.pop3s.host\":\"mail.example.com\","              \
    "\"mail.user\":\"alice\""
#define BASIC "\"destinationConfiguration\":{" MAIL ",\"mail.password\":\"wonderland\"}"
#define OAUTH                                                                                      \
    "\"destinationConfiguration\":{" MAIL                                                          \
    ",\"Authentication\":\"OAuth2ClientCredentials\",\"clientId\":\"c\","                          \
    "\"clientSecret\":\"sw0rdfish\",\"tokenServicePassword\":\"hunter2\","                         \
    "\"tokenServiceURL\":\"https://auth.example.com/token\"}"
#define OWNER "\"owner\":{\"SubaccountId\":\"9acf4877\",\"InstanceId\":null}"

static struct dest_question question;
static struct dest_found found;

static int setup(void **state)
{
    (void)state;
    question = (struct dest_question){
        .instance = "prod",
        .access_token = str_of(ACCESS_TOKEN),
        .with_token = true,
    };
    return 0;
}

static void answer_read(int status, const char *body)
{
    struct str copy = exact_copy(body, strlen(body));
    const struct http_head head = {.status = status};
    dest_answer_read(&question, &head, copy, &found);
    free((char *)copy.p);
    assert_true((found.dest != NULL) == (found.verdict == VERDICT_OK));
    assert_true(found.dest || found.err.text[0]);
    assert_true(found.dest || !found.token.p);
}

static void expect_destination(const char *body)
{
    answer_read(200, body);
    if (!found.dest) {
        fail_msg("%s: %s", body, found.err.text);
    }
    assert_string_equal(found.dest->host, "mail.example.com");
}

static void expect_refusal(int status, const char *body, enum verdict verdict, enum fail fail,
                           const char *text)
{
    answer_read(status, body);
    assert_string_equal(found.err.text, text);
    assert_int_equal(found.verdict, verdict);
    assert_int_equal(found.err.fail, fail);
}

static void destinations(void **state)
{
    (void)state;
    expect_destination("{" OWNER "," BASIC "}");
    assert_string_equal(found.dest->name, "inbox");
    assert_string_equal(found.dest->password.p, "wonderland");
    assert_null(found.token.p);
    dest_found_clear(&found);
    dest_found_clear(&found);

    /* Tokens of a destination that needs none are ignored, whatever they contain. */
    expect_destination("{" BASIC ",\"authTokens\":[{\"type\":\"Basic\",\"value\":\"YTpi\","
                       "\"expires_in\":\"0\"},7],\"certificates\":[],\"news\":{\"a\":[1]}}");
    assert_null(found.token.p);
    dest_found_clear(&found);
    expect_destination("{" BASIC ",\"authTokens\":[{\"error\":\"no\"}]}");
    dest_found_clear(&found);
    expect_destination("\xEF\xBB\xBF{" BASIC "}");
    dest_found_clear(&found);

    /* A check needs no token. */
    question.with_token = false;
    expect_destination("{" OAUTH "}");
    assert_int_equal(found.dest->auth, AUTH_CLIENT_CREDENTIALS);
    assert_null(found.token.p);
    dest_found_clear(&found);
}

static void unusable_destinations(void **state)
{
    (void)state;
    answer_read(200, "{\"destinationConfiguration\":{\"Name\":\"web\",\"Type\":\"HTTP\","
                     "\"URL\":\"https://example.com\",\"ProxyType\":\"Internet\"}}");
    assert_int_equal(found.verdict, VERDICT_TYPE_NOT_SUPPORTED);
    assert_int_equal(found.err.fail, FAIL_CONFIG);
    assert_int_equal(strncmp(found.err.text, "Type: ", 6), 0);

    static const char local[] = "{\"destinationConfiguration\":{\"Name\":\"a\",\"Type\":\"MAIL\","
                                "\"ProxyType\":\"Internet\",\"mail.pop3.host\":\"127.0.0.1\","
                                "\"mail.user\":\"u\",\"mail.password\":\"p\"}}";
    answer_read(200, local);
    assert_int_equal(found.verdict, VERDICT_LOOPBACK_URL_NOT_SUPPORTED);
    question.allow_loopback = true;
    answer_read(200, local);
    assert_int_equal(found.verdict, VERDICT_OK);
    dest_found_clear(&found);

    answer_read(200, "{\"destinationConfiguration\":{}}");
    assert_int_equal(found.err.fail, FAIL_CONFIG);
    assert_true(found.verdict != VERDICT_UNREADABLE);
}

static void expect_token(const char *tokens, const char *token, int64_t lifetime)
{
    char body[2048];
    snprintf(body, sizeof(body), "{" OWNER "," OAUTH ",\"authTokens\":%s}", tokens);
    expect_destination(body);
    assert_str(((struct str){found.token.p, found.token.n}), token);
    assert_int_equal(found.token_lifetime, lifetime);
    dest_found_clear(&found);
    assert_null(found.token.p);
}

static void tokens(void **state)
{
    (void)state;
    expect_token("[{\"type\":\"bearer\",\"value\":\"abc\",\"http_header\":{\"key\":"
                 "\"Authorization\",\"value\":\"Bearer abc\"},\"expires_in\":\"3599\","
                 "\"scope\":\"mail\"}]",
                 "abc", SECONDS(3599));
    expect_token("[{\"type\":\"Bearer\",\"value\":\"abc\",\"expires_in\":60,\"error\":\"\"}]",
                 "abc", SECONDS(60));
    expect_token("[{\"value\":\"abc\",\"error\":null}]", "abc", 0);
    expect_token("[{\"value\":\"abc\",\"expires_in\":\"0\"}]", "abc", 0);
    expect_token("[{\"value\":\"abc\",\"expires_in\":\"\"}]", "abc", 0);
    expect_token("[{\"value\":\"abc\",\"expires_in\":\"-5\"}]", "abc", 0);

    /* The first usable token counts. */
    expect_token("[null,{\"error\":\"no\"},{\"type\":\"Basic\",\"value\":\"YTpi\"},"
                 "{\"type\":\"bearer\",\"value\":\"\"},{\"type\":\"bearer\",\"value\":\"one\"},"
                 "{\"type\":\"bearer\",\"value\":\"two\"}]",
                 "one", 0);
    expect_token("[{\"type\":\"BearerToken\",\"value\":\"abc\"}]", "abc", 0);
    expect_token("[{\"type\":null,\"value\":\"abc\"}]", "abc", 0);
}

static void expect_no_token(const char *tokens, const char *text)
{
    char body[2048];
    snprintf(body, sizeof(body), "{" OAUTH "%s%s}", tokens[0] ? ",\"authTokens\":" : "", tokens);
    /* The destination is good, because its token service may be asked directly. */
    expect_destination(body);
    assert_null(found.token.p);
    assert_string_equal(found.err.text, text);
    assert_int_equal(found.err.fail, FAIL_TOKEN);
    dest_found_clear(&found);
}

static void no_tokens(void **state)
{
    (void)state;
    static const char none[] = "the Destination service has no access token for it";
    static const char *const without[] = {
        "",
        "null",
        "[]",
        "{}",
        "\"abc\"",
        "[[]]",
        "[\"abc\"]",
        "[{}]",
        "[{\"value\":\"\"}]",
        "[{\"value\":7}]",
        "[{\"type\":\"Basic\",\"value\":\"\"}]",
        "[{\"error\":7}]",
        "[{\"error\":\"\",\"value\":\"\"}]",
    };
    for (size_t i = 0; i < ARRAY_LEN(without); i++) {
        expect_no_token(without[i], none);
    }
    expect_no_token("[{\"type\":\"\",\"value\":\"\",\"expires_in\":\"0\",\"error\":\"Retrieval of "
                    "OAuthToken failed due to: 401 {\\\"error\\\":\\\"invalid_client\\\"}\"}]",
                    "the Destination service has no access token for it: Retrieval of OAuthToken "
                    "failed due to: 401 {\"error\":\"invalid_client\"}");
    /* An entry with an error has no token, even if it has a value. */
    expect_no_token("[{\"type\":\"bearer\",\"value\":\"abc\",\"error\":\"a\\r\\nb\"},"
                    "{\"error\":\"c\"}]",
                    "the Destination service has no access token for it: a b");
    expect_no_token("[{\"type\":\"Basic\",\"value\":\"abc\"},{\"type\":\"mac\",\"value\":\"abc\"}]",
                    "the Destination service has no access token for it that can be used: its type "
                    "is \"Basic\", not Bearer");
    expect_no_token("[{\"type\":7,\"value\":\"abc\"}]",
                    "the Destination service has no access token for it that can be used: its type "
                    "is a number, not Bearer");
}

#define USER_TOKEN "1//what-the-client-has-sent"
#define REFRESH                                                                                    \
    "\"destinationConfiguration\":{" MAIL                                                          \
    ",\"Authentication\":\"OAuth2RefreshToken\",\"clientId\":\"c\","                               \
    "\"clientSecret\":\"sw0rdfish\",\"tokenServiceURL\":\"https://auth.example.com/token\"}"

static void user_tokens(void **state)
{
    (void)state;
    static const char none[] =
        "the Destination service gets no access token with the refresh token "
        "or code that was sent";
    question.user_token = str_of(USER_TOKEN);
    expect_destination("{" REFRESH ",\"authTokens\":[{\"type\":\"bearer\",\"value\":\"abc\","
                       "\"expires_in\":\"60\",\"refresh_token\":\"1//next\"}]}");
    assert_string_equal(found.token.p, "abc");
    assert_string_equal(found.refresh_token.p, "1//next");
    dest_found_clear(&found);
    assert_null(found.refresh_token.p);

    expect_refusal(200, "{" REFRESH "}", VERDICT_UNREADABLE, FAIL_AUTH, none);
    answer_read(200, "{" REFRESH ",\"authTokens\":[{\"error\":\"400 invalid_grant\"}]}");
    assert_int_equal(found.err.fail, FAIL_AUTH);
    assert_non_null(strstr(found.err.text, ": 400 invalid_grant"));
    answer_read(200, "{" REFRESH ",\"authTokens\":[{\"error\":\"" USER_TOKEN " is old\"}]}");
    assert_null(strstr(found.err.text, USER_TOKEN));
    expect_refusal(400, "{\"ErrorMessage\":\"no such header\"}", VERDICT_UNREADABLE, FAIL_AUTH,
                   "Destination service instance \"prod\" does not take the refresh token or code "
                   "that was sent (400: no such header)");

    /* A destination of another kind needs no token of a user. */
    expect_destination("{" BASIC "}");
    dest_found_clear(&found);
    question.user_token = (struct str){0};
    expect_destination("{" REFRESH "}");
    assert_null(found.token.p);
    dest_found_clear(&found);
}

static void secrets_are_not_repeated(void **state)
{
    (void)state;
    static const char hidden[] = "the Destination service has no access token for it: (not shown: "
                                 "a secret is in it)";
    expect_no_token("[{\"error\":\"the secret sw0rdfish is wrong\"}]", hidden);
    expect_no_token("[{\"error\":\"the password hunter2 is wrong\"}]", hidden);
    expect_no_token("[{\"error\":\"got eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.\"}]",
                    "the Destination service has no access token for it: got ***");
    expect_refusal(403, "{\"ErrorMessage\":\"" ACCESS_TOKEN " is not enough\"}", VERDICT_UNREADABLE,
                   FAIL_CONFIG,
                   "Destination service instance \"prod\" is not allowed to read it (403: (not "
                   "shown: a secret is in it))");
}

static void refusals(void **state)
{
    (void)state;
    expect_refusal(404,
                   "{\"ErrorMessage\":\"Configuration with the specified name was not found\"}",
                   VERDICT_NOT_FOUND, FAIL_CONFIG,
                   "Destination service instance \"prod\" does not have it: Configuration with the "
                   "specified name was not found");
    static const char bare[] = "Destination service instance \"prod\" does not have it";
    expect_refusal(404, "{}", VERDICT_NOT_FOUND, FAIL_CONFIG, bare);
    expect_refusal(404, "[]", VERDICT_NOT_FOUND, FAIL_CONFIG, bare);
    expect_refusal(404, "{\"ErrorMessage\":null}", VERDICT_NOT_FOUND, FAIL_CONFIG, bare);

    static const char elsewhere[] = "Destination service instance \"prod\": there is no "
                                    "Destination service at the uri of its service key (404)";
    expect_refusal(404, "404 Not Found: Requested route does not exist.", VERDICT_UNREADABLE,
                   FAIL_REMOTE, elsewhere);
    expect_refusal(404, "", VERDICT_UNREADABLE, FAIL_REMOTE, elsewhere);

    expect_refusal(401, "", VERDICT_UNREADABLE, FAIL_CONFIG,
                   "Destination service instance \"prod\": the service refuses its access token "
                   "(401)");
    expect_refusal(403, "<html>", VERDICT_UNREADABLE, FAIL_CONFIG,
                   "Destination service instance \"prod\" is not allowed to read it (403)");
    expect_refusal(
        500, "{\"ErrorMessage\":\"Internal \\u001b[31merror\"}", VERDICT_UNREADABLE, FAIL_REMOTE,
        "Destination service instance \"prod\" does not serve (500: Internal ?[31merror)");
    static const int others[] = {201, 204, 304, 400, 405, 408, 429, 502, 503, 599};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        char text[100];
        snprintf(text, sizeof(text), "Destination service instance \"prod\" does not serve (%d)",
                 others[i]);
        expect_refusal(others[i], "{" BASIC "}", VERDICT_UNREADABLE, FAIL_REMOTE, text);
    }
}

static void redirects_and_codings(void **state)
{
    (void)state;
    struct http_head head = {.status = 308, .header_count = 1};
    head.headers[0] =
        (struct http_header){str_of("Location"), str_of("https://new.example.com/v1/inbox?a=b")};
    dest_answer_read(&question, &head, str_of("{" BASIC "}"), &found);
    assert_string_equal(found.err.text,
                        "Destination service instance \"prod\": the service redirects to "
                        "https://new.example.com/v1/inbox (308), which is not followed: uri of the "
                        "service key has to name that address");
    assert_int_equal(found.err.fail, FAIL_CONFIG);
    assert_int_equal(found.verdict, VERDICT_UNREADABLE);
    head.status = 503;
    head.headers[0] = (struct http_header){str_of("Content-Encoding"), str_of("gzip")};
    dest_answer_read(&question, &head, str_of("\x1F\x8B"), &found);
    assert_string_equal(found.err.text,
                        "Destination service instance \"prod\" does not serve (503; "
                        "its text is coded as gzip)");
}

static void nonsense(void **state)
{
    (void)state;
#define INVALID "received invalid configuration from Destination service instance \"prod\": "
    static const char without[] = INVALID "it has no object destinationConfiguration";
    static const char *const shapes[] = {
        "null",
        "[]",
        "\"abc\"",
        "{}",
        "{" OWNER "}",
        "{\"ErrorMessage\":\"no\"}",
        "{" MAIL "}",
        "{\"destinationConfiguration\":null}",
        "{\"destinationConfiguration\":[]}",
        "{\"destinationConfiguration\":\"{}\"}",
        "[{" BASIC "}]",
    };
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        expect_refusal(200, shapes[i], VERDICT_UNREADABLE, FAIL_PROTOCOL, without);
    }
    expect_refusal(200, "{\"destinationConfiguration\":{\"a\":{}}}", VERDICT_UNREADABLE,
                   FAIL_PROTOCOL,
                   INVALID "a: is an object; a property is a string, a number or a boolean");
    static const char *const texts[] = {"", "<html>", "{" BASIC, "{" BASIC "}}", "\xEF\xBB\xBF{"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        answer_read(200, texts[i]);
        assert_int_equal(found.verdict, VERDICT_UNREADABLE);
        assert_int_equal(found.err.fail, FAIL_PROTOCOL);
        assert_int_equal(strncmp(found.err.text, INVALID "line 1", strlen(INVALID "line 1")), 0);
    }
}

static const char no_name[] = "{\"ErrorMessage\":\"Configuration with the specified name was not "
                              "found\"}";
static const char no_fragment[] =
    "{\"ErrorMessage\":\"Destination Fragment with the specified name was not found\"}";

static void levels(void **state)
{
    (void)state;
    question.level = "subaccount";
    /* In an answer of v2 the owner is missing unless it was asked for. */
    expect_destination("{" BASIC "}");
    dest_found_clear(&found);
    expect_destination("{\"destinationConfiguration\":{" MAIL ",\"mail.password\":\"wonderland\","
                       "\"FragmentName\":\"a,b\",\"$metadata\":{\"owner\":{\"destinations\":["
                       "{\"Name\":\"inbox\",\"SubaccountId\":\"9acf4877\",\"InstanceId\":null}],"
                       "\"certificates\":[],\"fragments\":[]}}}}");
    assert_string_equal(found.dest->password.p, "wonderland");
    dest_found_clear(&found);
    expect_refusal(404, no_name, VERDICT_NOT_FOUND, FAIL_CONFIG,
                   "Destination service instance \"prod\" does not have it at level subaccount: "
                   "Configuration with the specified name was not found");
}

static void fragments(void **state)
{
    (void)state;
    question.fragment = "extra";
    expect_refusal(404, no_fragment, VERDICT_FRAGMENT_NOT_FOUND, FAIL_CONFIG,
                   "Destination service instance \"prod\" does not have the fragment \"extra\": "
                   "Destination Fragment with the specified name was not found");
    answer_read(404, no_name);
    assert_int_equal(found.verdict, VERDICT_NOT_FOUND);
    answer_read(404, "{\"ErrorMessage\":[\"fragment\"]}");
    assert_int_equal(found.verdict, VERDICT_NOT_FOUND);

    /* A missing fragment cannot be meant if none was asked for. */
    question.fragment = NULL;
    answer_read(404, no_fragment);
    assert_int_equal(found.verdict, VERDICT_NOT_FOUND);
}

static void chains(void **state)
{
    (void)state;
    static const char missing[] = "{\"ErrorMessage\":\"X-chain-var-a is missing\"}";
    question.chain = "c";
    expect_refusal(400, missing, VERDICT_CONFIGURATION_FAILED, FAIL_CONFIG,
                   "Destination service instance \"prod\" does not take spec.chainRef (400: "
                   "X-chain-var-a is missing)");
    answer_read(400, "<html>Bad Request</html>");
    assert_int_equal(found.err.fail, FAIL_REMOTE);
    question.chain = NULL;
    answer_read(400, missing);
    assert_int_equal(found.err.fail, FAIL_REMOTE);
}

/* No prefix of a good answer is accepted. */
static void cut(void **state)
{
    (void)state;
    static const char body[] =
        "{" OWNER "," OAUTH ",\"authTokens\":[{\"type\":\"bearer\",\"value\":\"abc\"}]}";
    char piece[sizeof(body)];
    for (size_t n = 0; n < strlen(body); n++) {
        memcpy(piece, body, n);
        piece[n] = '\0';
        answer_read(200, piece);
        assert_int_equal(found.err.fail, FAIL_PROTOCOL);
    }
    expect_destination(body);
    dest_found_clear(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(destinations, setup),
        cmocka_unit_test_setup(unusable_destinations, setup),
        cmocka_unit_test_setup(tokens, setup),
        cmocka_unit_test_setup(no_tokens, setup),
        cmocka_unit_test_setup(user_tokens, setup),
        cmocka_unit_test_setup(secrets_are_not_repeated, setup),
        cmocka_unit_test_setup(refusals, setup),
        cmocka_unit_test_setup(redirects_and_codings, setup),
        cmocka_unit_test_setup(levels, setup),
        cmocka_unit_test_setup(fragments, setup),
        cmocka_unit_test_setup(chains, setup),
        cmocka_unit_test_setup(nonsense, setup),
        cmocka_unit_test_setup(cut, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
