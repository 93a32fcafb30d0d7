/* Tests pop3/sasl: what clients send to log in, whole and cut at every place. */
#include "pop3/sasl.h"

#include <stdio.h>

#include "tests/unit/check.h"

/* A response before it is encoded. With user and secret NULL it is refused with `wrong` in the
 * sentence. */
struct row {
    enum sasl_mechanism mechanism;
    const char *text;
    size_t n;
    const char *user, *secret, *wrong;
};

#define TEXT(s) (s), sizeof(s) - 1

static const struct row rows[] = {
    {SASL_XOAUTH2, TEXT("user=a@b.c\001auth=Bearer tok.en\001\001"), "a@b.c", "tok.en", NULL},
    {SASL_XOAUTH2, TEXT("user=recent:a@b.c\001auth=bearer x\001\001"), "recent:a@b.c", "x", NULL},
    {SASL_XOAUTH2, TEXT("user=a\001host=h\001auth=Bearer x\001\001"), "a", "x", NULL},
    {SASL_XOAUTH2, TEXT("user=a\001auth=Bearer x\001"), NULL, NULL, "send base64 of user="},
    {SASL_XOAUTH2, TEXT("user=a\001auth=Bearer x"), NULL, NULL, "send base64 of user="},
    {SASL_XOAUTH2, TEXT("auth=Bearer x\001user=a\001\001"), NULL, NULL, "send base64 of user="},
    {SASL_XOAUTH2, TEXT("user=a\001auth=Basic x\001\001"), NULL, NULL, "send base64 of user="},
    {SASL_XOAUTH2, TEXT("user=a\001\001"), NULL, NULL, "send base64 of user="},
    {SASL_XOAUTH2, TEXT("user=\001auth=Bearer x\001\001"), NULL, NULL, "mail user is missing"},
    {SASL_XOAUTH2, TEXT("user=a\001auth=Bearer \001\001"), NULL, NULL, "code is missing"},
    {SASL_XOAUTH2, TEXT("user=a\r\nDELE 1\001auth=Bearer x\001\001"), NULL, NULL, "control"},
    {SASL_XOAUTH2, TEXT("user=a\001auth=Bearer x\ny\001\001"), NULL, NULL, "control"},
    {SASL_XOAUTH2, TEXT("user=a\\x01auth=Bearer x\\x01\\x01"), NULL, NULL, "\\x01 were sent"},
    {SASL_XOAUTH2, TEXT(""), NULL, NULL, "send base64 of user="},

    {SASL_OAUTHBEARER, TEXT("n,a=a@b.c,\001host=h\001port=110\001auth=Bearer x\001\001"), "a@b.c",
     "x", NULL},
    {SASL_OAUTHBEARER, TEXT("y,a=a=2Cb=3Dc,\001auth=Bearer x\001\001"), "a,b=c", "x", NULL},
    {SASL_OAUTHBEARER, TEXT("n,a=a=2Xb,\001auth=Bearer x\001\001"), NULL, NULL, "send base64 of n"},
    {SASL_OAUTHBEARER, TEXT("n,,\001auth=Bearer x\001\001"), NULL, NULL, "send base64 of n"},
    {SASL_OAUTHBEARER, TEXT("p=tls,a=a,\001auth=Bearer x\001\001"), NULL, NULL, "send base64 of n"},
    {SASL_OAUTHBEARER, TEXT("n,a=a,\001auth=Bearer x\001"), NULL, NULL, "send base64 of n"},
    {SASL_OAUTHBEARER, TEXT("n"), NULL, NULL, "send base64 of n"},

    {SASL_PLAIN, TEXT("\0user\0secret"), "user", "secret", NULL},
    {SASL_PLAIN, TEXT("other\0user\0secret with blanks"), "user", "secret with blanks", NULL},
    {SASL_PLAIN, TEXT("user\0secret"), NULL, NULL, "send base64 of NUL"},
    {SASL_PLAIN, TEXT("\0\0secret"), NULL, NULL, "mail user is missing"},
    {SASL_PLAIN, TEXT("\0user\0"), NULL, NULL, "code is missing"},
    {SASL_PLAIN, TEXT("\0user\0se\0cret"), NULL, NULL, "control"},
};

static int read(struct sasl_credentials *c, enum sasl_mechanism mechanism, const char *text,
                size_t n, const char **wrong)
{
    char base64[4096];
    assert_true(TEXT_BASE64_SIZE(n) <= sizeof(base64));
    struct str in = exact_copy(base64, text_base64(base64, text, n));
    int rc = pop3_sasl_read(c, mechanism, in, wrong);
    free((char *)in.p);
    return rc;
}

static void test_responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct row *row = &rows[i];
        struct sasl_credentials c = {0};
        const char *wrong = "";
        int rc = read(&c, row->mechanism, row->text, row->n, &wrong);
        if (!row->user) {
            assert_int_equal(rc, ERR);
            if (!strstr(wrong, row->wrong)) {
                fail_msg("row %zu: %s", i, wrong);
            }
        } else {
            assert_int_equal(rc, OK);
            assert_string_equal(c.user, row->user);
            assert_string_equal(c.secret.p, row->secret);
        }
        pop3_sasl_wipe(&c);
    }
}

/* A response cut at any place is refused, and nothing behind its end is read. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool open_end = rows[i].mechanism == SASL_PLAIN;
        for (size_t n = 0; rows[i].user && n < rows[i].n; n++) {
            struct sasl_credentials c = {0};
            const char *wrong;
            int rc = read(&c, rows[i].mechanism, rows[i].text, n, &wrong);
            assert_true(rc == ERR || open_end);
            pop3_sasl_wipe(&c);
        }
    }
}

static void test_base64(void **state)
{
    (void)state;
    static const char *const texts[] = {"=", "dXNlcj0", "dXNl cj0=", "dXNlcj0=\r", "*", "\xFF"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct sasl_credentials c = {0};
        const char *wrong;
        assert_int_equal(pop3_sasl_read(&c, SASL_XOAUTH2, str_of(texts[i]), &wrong), ERR);
        assert_non_null(strstr(wrong, "base64"));
    }
}

/* A token of several kilobytes is accepted; one that is longer than its bound is refused. */
static void test_bounds(void **state)
{
    (void)state;
    static char text[SASL_SECRET_MAX + SASL_USER_MAX + 64], base64[TEXT_BASE64_SIZE(sizeof(text))];
    for (size_t more = 0; more < 2; more++) {
        struct sasl_credentials c = {0};
        const char *wrong;
        size_t n = text_fmt(text, sizeof(text), "user=%*s", SASL_USER_MAX, "u");
        memset(text + 5, 'u', SASL_USER_MAX);
        n += text_fmt(text + n, sizeof(text) - n, "\001auth=Bearer ");
        memset(text + n, 't', SASL_SECRET_MAX + more);
        n += SASL_SECRET_MAX + more;
        n += text_fmt(text + n, sizeof(text) - n, "\001\001");
        size_t encoded = text_base64(base64, text, n);
        int rc = pop3_sasl_read(&c, SASL_XOAUTH2, (struct str){base64, encoded}, &wrong);
        assert_int_equal(rc, encoded > 16 * 1024 || more ? ERR : OK);
        pop3_sasl_wipe(&c);
    }
}

static void test_halves(void **state)
{
    (void)state;
    struct sasl_credentials c = {0};
    const char *wrong;
    assert_int_equal(pop3_sasl_set_user(&c, str_of("YQ=="), true, &wrong), OK);
    assert_int_equal(pop3_sasl_set_secret(&c, str_of("c2VjcmV0"), true, &wrong), OK);
    assert_string_equal(c.user, "a");
    assert_string_equal(c.secret.p, "secret");
    assert_int_equal(pop3_sasl_set_user(&c, str_of("b@c.d"), false, &wrong), OK);
    assert_int_equal(pop3_sasl_set_secret(&c, str_of("other"), false, &wrong), OK);
    assert_string_equal(c.user, "b@c.d");
    assert_string_equal(c.secret.p, "other");
    assert_int_equal(pop3_sasl_set_user(&c, str_of(""), false, &wrong), ERR);
    assert_int_equal(pop3_sasl_set_secret(&c, str_of("\n"), false, &wrong), ERR);
    pop3_sasl_wipe(&c);
    assert_string_equal(c.user, "");
    assert_null(c.secret.p);
    pop3_sasl_wipe(&c);
}

static void test_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < SASL_MECHANISMS; i++) {
        enum sasl_mechanism found;
        assert_int_equal(pop3_sasl_find(str_of(pop3_sasl_name((enum sasl_mechanism)i)), &found),
                         OK);
        assert_int_equal(found, i);
    }
    enum sasl_mechanism found;
    assert_int_equal(pop3_sasl_find(str_of("xoauth2"), &found), OK);
    assert_int_equal(pop3_sasl_find(str_of("CRAM-MD5"), &found), ERR);
    assert_int_equal(pop3_sasl_find(str_of(""), &found), ERR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_responses), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_base64),    cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_halves),    cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
