/* Tests oauth/refresh_tokens: tokens that replace others, how they are dropped, and the bound. */
#include "oauth/refresh_tokens.h"

#include <stdio.h>

#include "tests/unit/check.h"

static unsigned char digest[DIGEST_SHA256_SIZE];

static const unsigned char *number(int i)
{
    memset(digest, 0, sizeof(digest));
    memcpy(digest, &i, sizeof(i));
    return digest;
}

static void keep(struct refresh_tokens *tokens, int i, const char *text)
{
    struct secret token = {0};
    secret_set(&token, text, strlen(text));
    oauth_refresh_tokens_keep(tokens, number(i), &token);
    secret_clear(&token);
}

static void expect(struct refresh_tokens *tokens, int i, const char *text)
{
    const struct secret *token = oauth_refresh_tokens_find(tokens, number(i));
    if (!text) {
        assert_null(token);
    } else {
        assert_non_null(token);
        assert_string_equal(token->p, text);
    }
}

static void newer_token_replaces_the_older(void **state)
{
    struct refresh_tokens *tokens = oauth_refresh_tokens_new();
    (void)state;
    expect(tokens, 1, NULL);
    keep(tokens, 1, "second");
    keep(tokens, 2, "other");
    expect(tokens, 1, "second");
    keep(tokens, 1, "third");
    expect(tokens, 1, "third");
    expect(tokens, 2, "other");
    oauth_refresh_tokens_drop(tokens, number(1));
    oauth_refresh_tokens_drop(tokens, number(1));
    expect(tokens, 1, NULL);
    expect(tokens, 2, "other");
    oauth_refresh_tokens_free(tokens);
}

static void least_recently_used_is_dropped(void **state)
{
    struct refresh_tokens *tokens = oauth_refresh_tokens_new();
    (void)state;
    for (int i = 0; i < REFRESH_TOKENS_MAX; i++) {
        keep(tokens, i, "token");
    }
    expect(tokens, 0, "token");
    keep(tokens, REFRESH_TOKENS_MAX, "one more");
    expect(tokens, 0, "token");
    expect(tokens, 1, NULL);
    expect(tokens, 2, "token");
    expect(tokens, REFRESH_TOKENS_MAX, "one more");
    oauth_refresh_tokens_free(tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newer_token_replaces_the_older),
        cmocka_unit_test(least_recently_used_is_dropped),
    };
    oauth_refresh_tokens_free(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
