/* Tests btp/service_grant: a service key becomes a grant. */
#include "btp/service_grant.h"

#include "core/service_key.h"
#include "tests/unit/check.h"

static char secret[] = "s3cret", pem[] = "the key";

static struct service_key key;
static struct buf url;
static struct oauth_grant grant;
static struct error err;

static int setup(void **state)
{
    (void)state;
    key = (struct service_key){
        .client_id = "the-client",
        .client_secret = {secret, strlen(secret)},
        .token_url = "https://provider.auth.example.com/oauth/token",
    };
    return 0;
}

static void with_secret(void **state)
{
    (void)state;
    assert_int_equal(service_grant(&key, NULL, &url, &grant, &err), OK);
    assert_string_equal(grant.url, key.token_url);
    assert_string_equal(grant.client_id, "the-client");
    assert_ptr_equal(grant.client_secret, &key.client_secret);
    assert_null(grant.certificate);
    assert_null(grant.key);
    assert_null(grant.tenant);
    buf_free(&url);
}

static void with_certificate(void **state)
{
    (void)state;
    key.certificate = "the chain";
    key.private_key = (struct secret){pem, strlen(pem)};
    assert_int_equal(service_grant(&key, NULL, &url, &grant, &err), OK);
    assert_null(grant.client_secret);
    assert_string_equal(grant.certificate, "the chain");
    assert_ptr_equal(grant.key, &key.private_key);
    buf_free(&url);
}

static void of_tenants(void **state)
{
    (void)state;
    assert_int_equal(service_grant(&key, "one", &url, &grant, &err), OK);
    assert_string_equal(grant.url, "https://one.auth.example.com/oauth/token");
    assert_string_equal(grant.tenant, "one");
    buf_free(&url);

    /* The client secret would go to a host that belongs to no tenant. */
    assert_int_equal(service_grant(&key, "evil.example.com/", &url, &grant, &err), ERR);
    assert_int_equal(err.fail, FAIL_CONFIG);
    assert_string_equal(err.text, "tenant \"evil.example.com/\" cannot take the place of the "
                                  "provider in the URL of the service key's authorization server");
    buf_free(&url);
    key.token_url = "https://127.0.0.1/oauth/token";
    assert_int_equal(service_grant(&key, "one", &url, &grant, &err), ERR);
    buf_free(&url);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, NULL)
    const struct CMUnitTest tests[] = {
        TEST(with_secret),
        TEST(with_certificate),
        TEST(of_tenants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
