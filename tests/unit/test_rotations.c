/* Refresh tokens that took the place of others: kept, replaced, dropped, bounded. */
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

static void keep(struct rotations *rotations, int i, const char *text)
{
    struct secret token = {0};
    secret_set(&token, text, strlen(text));
    rotations_keep(rotations, number(i), &token);
    secret_clear(&token);
}

static void expect(struct rotations *rotations, int i, const char *text)
{
    const struct secret *token = rotations_find(rotations, number(i));
    if (!text) {
        assert_null(token);
    } else {
        assert_non_null(token);
        assert_string_equal(token->p, text);
    }
}

static void one_takes_the_place_of_another(void **state)
{
    struct rotations *rotations = rotations_new();
    (void)state;
    expect(rotations, 1, NULL);
    keep(rotations, 1, "second");
    keep(rotations, 2, "other");
    expect(rotations, 1, "second");
    keep(rotations, 1, "third");
    expect(rotations, 1, "third");
    expect(rotations, 2, "other");
    rotations_drop(rotations, number(1));
    rotations_drop(rotations, number(1));
    expect(rotations, 1, NULL);
    expect(rotations, 2, "other");
    rotations_free(rotations);
}

static void the_one_that_nobody_asks_for_is_lost(void **state)
{
    struct rotations *rotations = rotations_new();
    (void)state;
    for (int i = 0; i < ROTATIONS_MAX; i++) {
        keep(rotations, i, "token");
    }
    expect(rotations, 0, "token");
    keep(rotations, ROTATIONS_MAX, "one more");
    expect(rotations, 0, "token");
    expect(rotations, 1, NULL);
    expect(rotations, 2, "token");
    expect(rotations, ROTATIONS_MAX, "one more");
    rotations_free(rotations);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_takes_the_place_of_another),
        cmocka_unit_test(the_one_that_nobody_asks_for_is_lost),
    };
    rotations_free(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
