/* Tests the tokens for mail servers: those that we request ourselves, and those for what clients
 * send. */
#include "tests/unit/world/destination_service.h"

enum { ASKERS = 200 };

/* ---- tokens that we request ourselves ---- */

static void own_retrieval(void **state)
{
    (void)state;
    struct asker a, b;
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    serve(200, oauth_body("ClientCredentials", "", NULL));
    own_status = 200;
    own_body = "{\"access_token\":\"" MAIL_TOKEN "\",\"expires_in\":3600}";
    ask(&a, DEST_TO_LOG_IN);
    await(&a.answers);
    assert_string_equal(a.token, MAIL_TOKEN);
    assert_int_equal(own_requests, 1);

    /* The destination is read again; the token stays in use. */
    pass(SECONDS(130));
    ask(&a, DEST_TO_LOG_IN);
    await(&a.answers);
    assert_string_equal(a.token, MAIL_TOKEN);
    assert_int_equal(own_requests, 1);

    /* The mail server has refused the token: one request gets another token for all sessions. */
    own_body = "{\"access_token\":\"another\",\"expires_in\":3600}";
    struct token *old = token_ref(a.last);
    dest_refused(source, &ref, NULL, old);
    dest_refused(source, &ref, NULL, old);
    ask(&a, DEST_TO_LOG_IN);
    await(&a.answers);
    dest_refused(source, &ref, NULL, old);
    ask(&b, DEST_TO_LOG_IN);
    await(&b.answers);
    assert_string_equal(a.token, "another");
    assert_string_equal(b.token, "another");
    assert_int_equal(own_requests, 2);
    token_unref(old);
}

/* ---- tokens of users ---- */

#define USER_TOKEN "1//what-alice-has-sent"

/* Asks for a user whose client has sent this token. */
static void ask_as(struct asker *a, const char *user, const char *token)
{
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    struct secret secret = {(char *)token, strlen(token)};
    const struct dest_user who = {user, &secret};
    ask_ref(a, &ref, DEST_TO_LOG_IN, &who);
}

static void expect_token_for(const char *user, const char *user_token, const char *token)
{
    struct asker a;
    ask_as(&a, user, user_token);
    await(&a.answers);
    if (!a.token[0]) {
        fail_msg("%s", a.err.text);
    }
    assert_string_equal(a.token, token);
}

static void expect_auth_failure(const char *user, const char *user_token)
{
    struct asker a;
    ask_as(&a, user, user_token);
    await(&a.answers);
    assert_string_equal(a.token, "");
    assert_int_equal(a.err.fail, FAIL_AUTH);
    assert_non_null(strstr(a.err.text, "with the refresh token or code that was sent: "));
    assert_null(strstr(a.err.text, user_token));
}

static void refresh_tokens(void **state)
{
    (void)state;
    static struct asker askers[ASKERS];
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    for (size_t i = 0; i < ASKERS; i++) {
        ask_as(&askers[i], "alice", USER_TOKEN);
    }
    for (size_t i = 0; i < ASKERS; i++) {
        await(&askers[i].answers);
        assert_string_equal(askers[i].token, MAIL_TOKEN);
    }
    /* One question is for the destination, one for the token. */
    assert_int_equal(service.requests, 2);
    assert_int_equal(with_user, 1);
    assert_string_equal(shown, "X-refresh-token=" USER_TOKEN " ");
    assert_null(strstr(target, "skipTokenRetrieval"));

    /* Another user, or a client with another user token, does not get the token. */
    serve(200, token_body("RefreshToken", "", "of-bob", "3600", ""));
    expect_token_for("bob", USER_TOKEN, "of-bob");
    expect_token_for("alice", "other", "of-bob");
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    assert_int_equal(with_user, 3);
}

static void a_wrong_user_token_harms_its_owner_alone(void **state)
{
    (void)state;
    serve(200, oauth_body("RefreshToken", "", "[{\"error\":\"400 invalid_grant\"}]"));
    expect_auth_failure("alice", "wrong");
    expect_auth_failure("alice", "wrong");
    assert_int_equal(with_user, 1); /* no question follows at once */
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    expect_token_for("bob", USER_TOKEN, MAIL_TOKEN);
    expect_auth_failure("alice", "wrong");
    assert_int_equal(own_requests, 0);
}

static void rotated_refresh_tokens(void **state)
{
    (void)state;
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "60", "1//second"));
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    pass(SECONDS(60));
    serve(200, token_body("RefreshToken", "", "next", "60", "1//third"));
    expect_token_for("alice", USER_TOKEN, "next");
    assert_string_equal(shown, "X-refresh-token=1//second ");
    pass(SECONDS(60));
    serve(200, token_body("RefreshToken", "", "next", "60", ""));
    expect_token_for("alice", USER_TOKEN, "next");
    assert_string_equal(shown, "X-refresh-token=1//third ");

    /* A newer refresh token that is refused is dropped, and the client's own is used again. */
    pass(SECONDS(60));
    serve(200, oauth_body("RefreshToken", "", "[{\"error\":\"400 invalid_grant\"}]"));
    expect_auth_failure("alice", USER_TOKEN);
    pass(SECONDS(5));
    serve(200, token_body("RefreshToken", "", "new", "60", ""));
    expect_token_for("alice", USER_TOKEN, "new");
    assert_string_equal(shown, "X-refresh-token=" USER_TOKEN " ");
}

static void a_refused_user_token_is_replaced(void **state)
{
    (void)state;
    struct asker a;
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    struct secret secret = {(char *)USER_TOKEN, strlen(USER_TOKEN)};
    const struct dest_user alice = {"alice", &secret};
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    ask_as(&a, "alice", USER_TOKEN);
    await(&a.answers);
    expect_token_for("bob", USER_TOKEN, MAIL_TOKEN);
    serve(200, token_body("RefreshToken", "", "newer", "3600", ""));
    dest_refused(source, &ref, &alice, a.last);
    expect_token_for("alice", USER_TOKEN, "newer");
    expect_token_for("bob", USER_TOKEN, MAIL_TOKEN);
}

#define CODE_MORE                                                                                  \
    ",\"X-redirect-uri\":\"https://app.example.com/cb\",\"mail.X-code-verifier\":\"verifier\""

static void a_code_is_redeemed_once(void **state)
{
    (void)state;
    serve(200, token_body("AuthorizationCode", CODE_MORE, MAIL_TOKEN, "300", ""));
    for (int i = 0; i < 28; i++) {
        expect_token_for("alice", "4/code", MAIL_TOKEN);
        pass(SECONDS(10));
    }
    assert_string_equal(shown, "");
    assert_int_equal(with_user, 1);
    serve(200, oauth_body("AuthorizationCode", CODE_MORE, "[{\"error\":\"400 used\"}]"));
    pass(SECONDS(20));
    expect_auth_failure("alice", "4/code");
    assert_int_equal(with_user, 2);
    assert_string_equal(shown, "X-code=4/code X-redirect-uri=https://app.example.com/cb "
                               "X-code-verifier=verifier ");
}

static void a_code_is_not_sent_twice(void **state)
{
    (void)state;
    struct asker a;
    serve(200, token_body("AuthorizationCode", "", MAIL_TOKEN, "300", ""));
    ask_as(&a, "alice", "4/code");
    while (service.requests == 0 && !a.answers) {
        settle_once();
    }
    refuse_tokens = 1;
    await(&a.answers);
    assert_int_equal(with_user, 1);
    assert_int_equal(a.err.fail, FAIL_REMOTE);
    assert_non_null(strstr(a.err.text, "log in again, with a new code"));

    /* The renewed access token of the service is used for the next client. */
    expect_token_for("bob", "4/other", MAIL_TOKEN);
    assert_int_equal(tokens, 2);
}

/* Clients that come while the service refuses every access token keep their codes. */
static void codes_are_kept_from_a_service_that_refuses_us(void **state)
{
    (void)state;
    struct asker a;
    serve(200, token_body("AuthorizationCode", "", MAIL_TOKEN, "300", ""));
    expect_token_for("alice", "4/first", MAIL_TOKEN);
    refuse_tokens = 1000;
    for (int i = 0; i < 4; i++) {
        char code[16];
        text_fmt(code, sizeof(code), "4/code-%d", i);
        ask_as(&a, "alice", code);
        await(&a.answers);
        assert_int_equal(a.err.fail, i ? FAIL_CONFIG : FAIL_REMOTE);
        assert_non_null(strstr(a.err.text, "its access token (401)"));
    }
    assert_int_equal(with_user, 3);
    assert_int_equal(tokens, 2);
    refuse_tokens = 0;
    pass(SECONDS(5));
    expect_token_for("bob", "4/other", MAIL_TOKEN);
    assert_int_equal(tokens, 2);
}

static void a_changed_destination_takes_another_token(void **state)
{
    (void)state;
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "3600", ""));
    expect_token_for("alice", USER_TOKEN, MAIL_TOKEN);
    pass(1);
    serve(200, token_body("RefreshToken", ",\"scope\":\"more\"", "of-more", "3600", ""));
    expect_port(DEST_TO_CHECK, 995);
    expect_token_for("alice", USER_TOKEN, "of-more");
    expect_token_for("alice", USER_TOKEN, "of-more");
    assert_int_equal(with_user, 2);

    /* The answer for a user is the first that shows the change. */
    serve(200, token_body("RefreshToken", ",\"scope\":\"less\"", "of-less", "3600", ""));
    expect_token_for("bob", USER_TOKEN, "of-less");
    assert_int_equal(with_user, 3);
}

static void other_kinds_need_nothing_of_a_client(void **state)
{
    (void)state;
    struct asker a;
    ask_as(&a, "alice", USER_TOKEN);
    await(&a.answers);
    assert_int_equal(a.auth, AUTH_BASIC);
    assert_int_equal(with_user, 0);
    ask_as(&a, "alice", USER_TOKEN);
    dest_cancel(source, a.request);
    settle();
    assert_int_equal(a.answers, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(own_retrieval),
        TEST(refresh_tokens),
        TEST(a_wrong_user_token_harms_its_owner_alone),
        TEST(rotated_refresh_tokens),
        TEST(a_refused_user_token_is_replaced),
        TEST(a_code_is_redeemed_once),
        TEST(a_code_is_not_sent_twice),
        TEST(codes_are_kept_from_a_service_that_refuses_us),
        TEST(a_changed_destination_takes_another_token),
        TEST(other_kinds_need_nothing_of_a_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
