/* Tests how dest asks the Destination service for each part of a reference: levels, fragments,
 * chains, tenants. Tests also the kinds of service keys. */
#include "tests/unit/world/destination_service.h"

#include <stdlib.h>
#include <unistd.h>

#include "lib/tls.h"
#include "lib/tls_bundle.h"
#include "lib/tls_roots.h"
#include "tests/unit/world/tls_peer.h"

#define V1 "/destination-configuration/v1/destinations/"
#define V2 "/destination-configuration/v2/destinations/"

static char hosts[] = "/tmp/tproxy-hosts.XXXXXX";

/* ---- the world ---- */

/* Returns a key whose authorization server has a host name. `uri` is the service's; NULL: the
 * test's server. */
static struct service_key *new_key(const char *uri)
{
    struct service_key *key = calloc(1, sizeof(*key));
    char text[128];
    key->refs = 1;
    key->client_id = mem_strdup("client");
    secret_set(&key->client_secret, SECRET, strlen(SECRET));
    text_fmt(text, sizeof(text), "http://provider.auth.test:%d/oauth/token", auth.port);
    key->token_url = mem_strdup(text);
    text_fmt(text, sizeof(text), "http://127.0.0.1:%d", service.port);
    key->uri = mem_strdup(uri ? uri : text);
    key->identity_zone = mem_strdup("provider");
    return key;
}

static void use_key(struct service_key *key)
{
    dest_set_instance(dest, "prod", key, NULL);
    service_key_unref(key);
}

static int start_world(void **state)
{
    int rc = setup(state);
    use_key(new_key(NULL));
    return rc;
}

static void expect_found(const struct dest_ref *ref, enum dest_purpose purpose)
{
    struct asker a;
    ask_ref(&a, ref, purpose, NULL);
    await(&a.answers);
    if (a.port != 995) {
        fail_msg("%s", a.err.text);
    }
}

/* Expects a refusal with FAIL_CONFIG. */
static void expect_refused(const struct dest_ref *ref, enum verdict verdict, const char *text)
{
    struct asker a;
    ask_ref(&a, ref, DEST_TO_LOG_IN, NULL);
    await(&a.answers);
    assert_string_equal(a.err.text, text);
    assert_int_equal(a.verdict, verdict);
    assert_int_equal(a.err.fail, FAIL_CONFIG);
}

/* ---- on the wire ---- */

static void levels(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "in box@home", .instance = "prod", .level = "subaccount"};
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(target, V2 "in%20box%40home@subaccount");
    ref.level = "provider_instance";
    expect_found(&ref, DEST_TO_CHECK);
    assert_string_equal(target, V2 "in%20box%40home@provider_instance?$skipTokenRetrieval=true");
    ref.level = NULL;
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(target, V1 "in%20box%40home");
    assert_int_equal(service.requests, 3);
}

static void fragments(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "inbox", .instance = "prod", .fragment = "extra"};
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(shown, "X-Fragment-Name=extra X-tenant=provider ");
    ref.fragment_optional = true;
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(shown, "X-Fragment-Name=extra X-Fragment-Optional=true X-tenant=provider ");
    ref.level = "subaccount";
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(shown, "X-Fragment-Name=extra X-Fragment-Optional=true X-tenant=provider ");
    ref.fragment_level = "instance";
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(
        shown, "X-Fragment-Name=extra@instance X-Fragment-Optional=true X-tenant=provider ");

    serve(404, "{\"ErrorMessage\":\"Destination fragment with the specified name was not found\"}");
    ref.fragment = "other";
    expect_refused(&ref, VERDICT_FRAGMENT_NOT_FOUND,
                   "Destination service instance \"prod\" does not have the fragment \"other\": "
                   "Destination fragment with the specified name was not found");
}

static void chains(void **state)
{
    (void)state;
    const struct dest_variable variables[] = {{"key1", "value 1"}, {"key2", ""}};
    struct dest_ref ref = {.name = "inbox",
                           .instance = "prod",
                           .chain = "com.sap.chain",
                           .variables = variables,
                           .n_variables = ARRAY_LEN(variables)};
    expect_found(&ref, DEST_TO_CHECK);
    assert_string_equal(shown, "X-chain-name=com.sap.chain X-chain-var-key1=value 1 "
                               "X-chain-var-key2= X-tenant=provider ");
    serve(400, "{\"ErrorMessage\":\"X-chain-var-key3 is missing\"}");
    ref.n_variables = 1;
    expect_refused(&ref, VERDICT_CONFIGURATION_FAILED,
                   "Destination service instance \"prod\" does not take spec.chainRef (400: "
                   "X-chain-var-key3 is missing)");
}

/* ---- references are kept apart ---- */

static void every_reference_has_an_answer_of_its_own(void **state)
{
    (void)state;
    const struct dest_variable one = {"a", "1"}, other = {"a", "2"};
    const struct dest_ref refs[] = {
        {.name = "inbox", .instance = "prod"},
        {.name = "inbox", .instance = "prod", .level = "subaccount"},
        {.name = "inbox", .instance = "prod", .level = "instance"},
        {.name = "inbox", .instance = "prod", .fragment = "f"},
        {.name = "inbox", .instance = "prod", .fragment = "f", .fragment_optional = true},
        {.name = "inbox", .instance = "prod", .level = "instance", .fragment = "f"},
        {.name = "inbox",
         .instance = "prod",
         .level = "instance",
         .fragment = "f",
         .fragment_level = "subaccount"},
        {.name = "inbox", .instance = "prod", .chain = "f"},
        {.name = "inbox", .instance = "prod", .chain = "f", .variables = &one, .n_variables = 1},
        {.name = "inbox", .instance = "prod", .chain = "f", .variables = &other, .n_variables = 1},
        {.name = "inbox", .instance = "prod", .tenant = "a"},
        {.name = "inbox", .instance = "prod", .tenant = "b"},
    };
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
            expect_found(&refs[i], DEST_TO_LOG_IN);
            assert_int_equal(service.requests, round ? ARRAY_LEN(refs) : i + 1);
        }
    }

    /* The result of a check is also kept apart. */
    serve(200, MOVED);
    struct asker a;
    ask_ref(&a, &refs[3], DEST_TO_CHECK, NULL);
    await(&a.answers);
    for (size_t i = 0; i < ARRAY_LEN(refs); i++) {
        ask_ref(&a, &refs[i], DEST_TO_LOG_IN, NULL);
        await(&a.answers);
        assert_int_equal(a.port, i == 3 ? 9950 : 995);
    }
}

static void rotated_tokens_are_those_of_a_reference(void **state)
{
    (void)state;
    struct secret secret = {(char *)"1//what-alice-sends", 19};
    const struct dest_user alice = {"alice", &secret};
    struct dest_ref ref = {.name = "inbox", .instance = "prod", .tenant = "a"};
    struct asker a;
    serve(200, token_body("RefreshToken", "", MAIL_TOKEN, "60", "1//second"));
    ask_ref(&a, &ref, DEST_TO_LOG_IN, &alice);
    await(&a.answers);
    assert_string_equal(a.token, MAIL_TOKEN);
    pass(SECONDS(60));
    ask_ref(&a, &ref, DEST_TO_LOG_IN, &alice);
    await(&a.answers);
    assert_string_equal(shown, "X-tenant=a X-refresh-token=1//second ");
    ref.tenant = "b";
    ask_ref(&a, &ref, DEST_TO_LOG_IN, &alice);
    await(&a.answers);
    assert_string_equal(shown, "X-tenant=b X-refresh-token=1//what-alice-sends ");
}

/* ---- questions that cannot be asked ---- */

static void impossible_references(void **state)
{
    (void)state;
    static char longest[9000];
    memset(longest, 'x', sizeof(longest) - 1);
    static const struct dest_variable variables[] = {
        {"a b", "1"}, {"a", "1\r\nX-evil: 1"}, {"", "1"}};
    static const struct dest_variable many[65] = {{"a", "1"}};
#define HEADER_FIELD                                                                               \
    " cannot be sent to the Destination service, as a header field carries only printable ASCII "  \
    "characters, without blanks around them"
#define NO_LEVEL "; set it to subaccount, instance, provider_subaccount or provider_instance"
    const struct {
        struct dest_ref ref;
        const char *text;
    } table[] = {
        {{.level = "space"}, "spec.destinationRef.level is \"space\"" NO_LEVEL},
        {{.level = ""}, "spec.destinationRef.level is \"\"" NO_LEVEL},
        {{.level = "instance", .fragment = "f", .fragment_level = "a\r\nb"},
         "spec.fragmentRef.level is \"a??b\"" NO_LEVEL},
        {{.fragment = "f", .fragment_level = "instance"},
         "spec.fragmentRef.level needs spec.destinationRef.level: add that, or "
         "remove the level of the fragment"},
        {{.fragment = "f\r\nX-evil: 1"}, "spec.fragmentRef.name" HEADER_FIELD},
        {{.fragment = "f\xC3\xA4"}, "spec.fragmentRef.name" HEADER_FIELD},
        {{.fragment = " f"}, "spec.fragmentRef.name" HEADER_FIELD},
        {{.fragment = longest},
         "spec.fragmentRef and spec.chainRef are too long: the whole reference to the "
         "destination must fit into 8 KiB"},
        {{.chain = "c\n"}, "spec.chainRef.name" HEADER_FIELD},
        {{.chain = "c", .variables = &variables[0], .n_variables = 1},
         "spec.chainRef.variables: \"a b\" cannot be part of a header field's name"},
        {{.chain = "c", .variables = &variables[1], .n_variables = 1},
         "spec.chainRef.variables: the value of \"a\"" HEADER_FIELD},
        {{.chain = "c", .variables = &variables[2], .n_variables = 1},
         "spec.chainRef.variables: \"\" cannot be part of a header field's name"},
        {{.chain = "c", .variables = many, .n_variables = ARRAY_LEN(many)},
         "spec.chainRef.variables has more than 64 entries"},
        {{.tenant = "evil.example/"},
         "\"evil.example/\" cannot be a tenant's subdomain, which has to be one label of a host "
         "name: "
         "letters, digits and hyphens, at most 63"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct dest_ref ref = table[i].ref;
        ref.name = "inbox";
        ref.instance = "prod";
        expect_refused(&ref, VERDICT_CONFIGURATION_FAILED, table[i].text);
        dest_refused(source, &ref, NULL, NULL);
    }
    assert_int_equal(service.requests + auth.requests, 0);
}

/* ---- tenants ---- */

static void tenants(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "inbox", .instance = "prod", .tenant = "a"};
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(authority, "a.auth.test");
    assert_string_equal(shown, "X-tenant=a ");
    assert_string_equal(bearer, "Bearer " TOKEN "-1");
    ref.tenant = "b";
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(authority, "b.auth.test");
    assert_string_equal(bearer, "Bearer " TOKEN "-2");
    ref.tenant = NULL;
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(authority, "provider.auth.test");
    assert_string_equal(shown, "X-tenant=provider ");

    /* The access tokens are known, and each is used for its own tenant only. */
    ref.name = "other";
    ref.tenant = "a";
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(bearer, "Bearer " TOKEN "-1");
    ref.tenant = "b";
    expect_found(&ref, DEST_TO_CHECK);
    assert_string_equal(bearer, "Bearer " TOKEN "-2");
    assert_int_equal(tokens, 3);
}

/* After the authorization server's 401 no new token is requested, unlike after the service's. */
static void tenants_are_refused(void **state)
{
    (void)state;
    static const char unknown[] =
        "Tenant subdomain \"a\" could not be determined as valid tenant for Destination service "
        "instance with name \"prod\": authorization server a.auth.test knows no such tenant (404: "
        "unauthorized)";
    static const char unsubscribed[] =
        "Tenant subdomain \"b\" is not subscribed to respective provider application using "
        "Destination service instance with name \"prod\": authorization server b.auth.test refuses "
        "the client (401: unauthorized)";
    struct dest_ref ref = {.name = "inbox", .instance = "prod", .tenant = "a"};
    auth_status = 404;
    expect_refused(&ref, VERDICT_CONFIGURATION_FAILED, unknown);
    auth_status = 401;
    ref.tenant = "b";
    expect_refused(&ref, VERDICT_CONFIGURATION_FAILED, unsubscribed);
    assert_int_equal(auth.requests, 2);
    assert_int_equal(service.requests, 0);

    /* No other tenant is affected, and a tenant that subscribes is served. */
    auth_status = 200;
    ref.tenant = NULL;
    expect_found(&ref, DEST_TO_LOG_IN);
    pass(SECONDS(5));
    ref.tenant = "b";
    expect_found(&ref, DEST_TO_LOG_IN);

    /* The tenant has unsubscribed: the service refuses the token, and the authorization server
     * gives no new one. */
    pass(SECONDS(120));
    refuse_tokens = 1;
    auth_status = 401;
    expect_refused(&ref, VERDICT_CONFIGURATION_FAILED, unsubscribed);
    assert_int_equal(refuse_tokens, 0);
}

static void keys_without_a_place_for_tenants(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "inbox", .instance = "prod", .tenant = "a"};
    set_key("prod", "client", SECRET, NULL);
    expect_refused(&ref, VERDICT_CONFIGURATION_FAILED,
                   "Destination service instance \"prod\": tenant \"a\" cannot take the place of "
                   "the provider in the URL of the service key's authorization server");
    assert_int_equal(auth.requests, 0);
}

/* A destination's own token service is also asked for the tenant. */
static void own_tokens_of_tenants(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "inbox", .instance = "prod", .tenant = "a"};
    char text[2048];
    struct asker a;
    text_fmt(text, sizeof(text),
             "{\"destinationConfiguration\":{" MAIL
             ",\"Authentication\":\"OAuth2ClientCredentials\",\"clientId\":\"c\","
             "\"clientSecret\":\"sw0rdfish\",\"tokenServiceURLType\":\"Common\","
             "\"tokenServiceURL\":\"http://auth.test:%d/token\"}}",
             auth.port);
    serve(200, text);
    own_status = 200;
    own_body = "{\"access_token\":\"" MAIL_TOKEN "\",\"expires_in\":3600}";
    ask_ref(&a, &ref, DEST_TO_LOG_IN, NULL);
    await(&a.answers);
    assert_string_equal(a.token, MAIL_TOKEN);
    assert_string_equal(own_authority, "a.auth.test");
    ref.tenant = NULL;
    ask_ref(&a, &ref, DEST_TO_LOG_IN, NULL);
    await(&a.answers);
    assert_string_equal(own_authority, "provider.auth.test");
    assert_int_equal(own_requests, 2);
}

/* ---- kinds of keys ---- */

static char *contents(const char *file)
{
    char path[64], *text = calloc(1, 8192);
    tls_peer_path(path, sizeof(path), file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, 8191, f) > 0);
    fclose(f);
    return text;
}

/* `uri` as for new_key. */
static struct service_key *new_certified_key(const char *uri)
{
    struct service_key *key = new_key(uri);
    char *private_key = contents("rsaclient.key");
    secret_clear(&key->client_secret);
    key->certificate = contents("rsaclient.crt");
    secret_set(&key->private_key, private_key, strlen(private_key));
    free(private_key);
    return key;
}

static void x509_keys(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "inbox", .instance = "prod", .level = "instance"};
    use_key(new_certified_key(NULL));
    expect_found(&ref, DEST_TO_LOG_IN);
    assert_string_equal(client, "client_id=client");
    assert_false(with_secret);
}

static void start_ias(bool ias)
{
    struct tls_roots *roots;
    struct error err;
    char path[64], uri[64];
    test_sys.random = sys_real.random; /* TLS needs random bytes */
    tls_peer_path(path, sizeof(path), "ca.crt");
    roots = tls_bundle_load(path, &err);
    assert_non_null(roots);
    dest_set_roots(dest, roots);
    tls_roots_unref(roots);
    text_fmt(uri, sizeof(uri), "https://127.0.0.1:%d", tls_peer_port("client13"));
    struct service_key *key = new_certified_key(uri);
    key->ias = ias;
    use_key(key);
}

/* The certificate is shown to the service itself. The test's service asks every client for one. */
static void ias_keys(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    struct asker a;
    start_ias(true);
    ask_ref(&a, &ref, DEST_TO_LOG_IN, NULL);
    await(&a.answers);
    /* The service has answered, although not with a destination. */
    assert_int_equal(a.err.fail, FAIL_PROTOCOL);
    assert_non_null(strstr(a.err.text, "received invalid configuration from Destination service"));

    ref.level = "subaccount";
    expect_refused(&ref, VERDICT_CONFIGURATION_FAILED,
                   "spec.destinationRef.level cannot be used: the service key of Destination "
                   "service instance \"prod\" is of Cloud Identity Services, for which there are "
                   "no levels; remove it, or bind the instance with another kind of key");
    ref.level = NULL;
    ref.tenant = "a";
    expect_refused(&ref, VERDICT_CONFIGURATION_FAILED,
                   "Destination service instance \"prod\" cannot serve tenants with its service "
                   "key, which is of Cloud Identity Services; bind it with another kind of key");
}

static void other_certificates_are_not_shown_to_the_service(void **state)
{
    (void)state;
    struct dest_ref ref = {.name = "inbox", .instance = "prod"};
    struct asker a;
    start_ias(false);
    ask_ref(&a, &ref, DEST_TO_LOG_IN, NULL);
    await(&a.answers);
    assert_true(a.err.fail == FAIL_TLS || a.err.fail == FAIL_REMOTE);
}

static int start_all(void **state)
{
    static const char names[] = "127.0.0.1 provider.auth.test a.auth.test b.auth.test\n";
    (void)state;
    int fd = mkstemp(hosts);
    bool written = fd >= 0 && write(fd, names, strlen(names)) == (ssize_t)strlen(names);
    close(fd);
    dest_hosts = hosts;
    return written ? tls_peer_start() : ERR;
}

static int stop_all(void **state)
{
    (void)state;
    unlink(hosts);
    return tls_peer_stop();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start_world, teardown)
    const struct CMUnitTest tests[] = {
        TEST(levels),
        TEST(fragments),
        TEST(chains),
        TEST(every_reference_has_an_answer_of_its_own),
        TEST(rotated_tokens_are_those_of_a_reference),
        TEST(impossible_references),
        TEST(tenants),
        TEST(tenants_are_refused),
        TEST(keys_without_a_place_for_tenants),
        TEST(own_tokens_of_tenants),
        TEST(x509_keys),
        TEST(ias_keys),
        TEST(other_certificates_are_not_shown_to_the_service),
    };
    return cmocka_run_group_tests(tests, start_all, stop_all);
}
