/* Tests core/tenant: the names that a tenant may have, and the URL of its authorization server. */
#include "core/tenant.h"

#include <stdio.h>

#include "tests/unit/check.h"

static const char label63[] = "a23456789-123456789-123456789-123456789-123456789-123456789-123";

static void names(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "A", "7", "tenant-subdomain", "x--y", "0a9", label63};
    static const char *const bad[] = {"",     "-a",  "a-",   "-",         "a.b", "evil.example/",
                                      "a b",  "a_b", "a\tb", "t\xC3\xA4", "a@b", "a:1",
                                      "a%2e", "a\\b"};
    char label64[65];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(tenant_is_valid(good[i]));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(tenant_is_valid(bad[i]));
    }
    snprintf(label64, sizeof(label64), "%s4", label63);
    assert_false(tenant_is_valid(label64));
}

static void expect_url(const char *url, const char *tenant, const char *wanted)
{
    char space[256];
    struct buf out = BUF_ON(space);
    struct str copy = exact_copy(url, strlen(url));
    int rc = tenant_url(copy, tenant, &out);
    if (rc != (wanted ? OK : ERR)) {
        fail_msg("%s for %s", url, tenant);
    }
    if (wanted) {
        assert_str(buf_str(&out), wanted);
    }
    free((char *)copy.p);
}

static void urls(void **state)
{
    (void)state;
    expect_url("https://provider.authentication.eu10.example.com/oauth/token", "a",
               "https://a.authentication.eu10.example.com/oauth/token");
    expect_url("HTTPS://P.x.test:8443/oauth/token?a=b.c", "Tenant-1",
               "HTTPS://Tenant-1.x.test:8443/oauth/token?a=b.c");
    expect_url("http://p.test", "a", "http://a.test");
    expect_url("http://p.test./x", "a", "http://a.test./x");

    static const char *const nobodys[] = {
        "http://127.0.0.1:80/oauth/token",
        "http://127.0.0.1./",
        "http://[::1]/oauth/token",
        "http://[::ffff:1.2.3.4]/",
        "http://localhost/x.y",
        "http://localhost./x",
        "http://10.1",
        "no url",
        "http:///a.b",
        "http://user@p.test/",
    };
    for (size_t i = 0; i < ARRAY_LEN(nobodys); i++) {
        expect_url(nobodys[i], "a", NULL);
    }
    expect_url("https://p.x.test/oauth/token", "evil.example/", NULL);
    expect_url("https://p.x.test/oauth/token", "", NULL);
}

static void no_room(void **state)
{
    (void)state;
    static const char wanted[] = "http://tenant.x.test/";
    char space[sizeof(wanted)];
    for (size_t n = 0; n < sizeof(space) - 1; n++) {
        struct buf out = {.data = space, .cap = n, .max = n};
        assert_int_equal(tenant_url(str_of("http://p.x.test/"), "tenant", &out), ERR);
    }
    struct buf out = BUF_ON(space);
    assert_int_equal(tenant_url(str_of("http://p.x.test/"), "tenant", &out), OK);
    assert_str(buf_str(&out), wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(urls),
        cmocka_unit_test(no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
