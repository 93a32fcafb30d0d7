/* Tests core/destination: the forms that SAP documents, every verdict, every property. */
#include "core/destination.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/properties.h"
#include "core/property_reader.h"
#include "core/token_service.h"
#include "lib/buf.h"
#include "lib/json.h"

static struct destination_problem problem;

static const struct destination *from_text(const char *text, bool allow_loopback)
{
    struct error err;
    struct json *doc = json_parse(str_of(text), &err);
    if (!doc) {
        fail_msg("%s: %s", err.text, text);
    }
    struct properties *props = properties_from_json(json_root(doc), &err);
    json_free(doc);
    if (!props) {
        fail_msg("%s: %s", err.text, text);
    }
    const struct destination *dest = destination_new(props, allow_loopback, &problem);
    properties_free(props);
    assert_int_equal(dest == NULL, problem.verdict != VERDICT_OK);
    return dest;
}

/* ---- a good destination, with members left out and others added ---- */

static const char *const basic[][2] = {
    {"Name", "\"inbox\""},
    {"Type", "\"MAIL\""},
    {"ProxyType", "\"Internet\""},
    {"Authentication", "\"BasicAuthentication\""},
    {"mail.transport.protocol", "\"pop3\""},
    {"mail.pop3.host", "\"mail.example.com\""},
    {"mail.pop3.port", "\"110\""},
    {"mail.user", "\"alice\""},
    {"mail.password", "\"wonder land\""},
};

/* `without` and `with` may be NULL; `with` is JSON: "\"a\": \"b\", \"c\": 1". */
static const char *variant(const char *without, const char *with)
{
    static char text[8192];
    size_t n = 0;
    text[n++] = '{';
    for (size_t i = 0; i < ARRAY_LEN(basic); i++) {
        if (!without || strcmp(without, basic[i][0]) != 0) {
            n += text_fmt(text + n, sizeof(text) - n, "%s\"%s\": %s", n > 1 ? ", " : "",
                          basic[i][0], basic[i][1]);
        }
    }
    text_fmt(text + n, sizeof(text) - n, "%s%s}", with ? ", " : "", with ? with : "");
    return text;
}

static const struct destination *good(const char *without, const char *with)
{
    const struct destination *dest = from_text(variant(without, with), false);
    if (!dest) {
        fail_msg("%s: %s: %s", with ? with : "", problem.field, problem.text);
    }
    return dest;
}

static bool warned(const struct destination *dest, const char *part)
{
    for (size_t i = 0; i < dest->n_warnings; i++) {
        if (strstr(dest->warnings[i], part)) {
            return true;
        }
    }
    return false;
}

static void test_basic(void **state)
{
    (void)state;
    const struct destination *d = good(NULL, NULL);
    assert_string_equal(d->name, "inbox");
    assert_int_equal(d->protocol, MAIL_POP3);
    assert_int_equal(d->proxy, PROXY_INTERNET);
    assert_string_equal(d->host, "mail.example.com");
    assert_string_equal(d->tls_name, "mail.example.com");
    assert_int_equal(d->port, 110);
    assert_string_equal(d->location_id, "");
    assert_int_equal(d->tls, TLS_NONE);
    assert_false(d->tls_trust_any);
    assert_true(d->tls_check_host);
    assert_int_equal(d->tls_min, MAIL_TLS_1_2);
    assert_int_equal(d->tls_max, MAIL_TLS_1_3);
    assert_int_equal(d->auth, AUTH_BASIC);
    assert_string_equal(d->user, "alice");
    assert_string_equal(d->password.p, "wonder land");
    assert_int_equal(d->n_mechanisms, 2);
    assert_int_equal(d->mechanisms[0], MECH_PLAIN);
    assert_int_equal(d->mechanisms[1], MECH_USER_PASS);
    assert_true(d->xoauth2_two_lines);
    assert_true(d->ask_capa);
    assert_int_equal(d->connect_timeout, SECONDS(15));
    assert_int_equal(d->answer_timeout, SECONDS(30));
    assert_int_equal(d->n_warnings, 1);
    assert_true(warned(d, "clear text"));
    destination_unref(d);
}

/* The twelve forms in the documentation, and the old one without Authentication. */
static void test_documented_forms(void **state)
{
    (void)state;
    static const enum mail_auth auths[] = {AUTH_BASIC, AUTH_CLIENT_CREDENTIALS, AUTH_REFRESH_TOKEN,
                                           AUTH_AUTHORIZATION_CODE};
    static const struct {
        const char *protocol, *proxy, *host, *port;
    } ways[] = {{"pop3", "OnPremise", "pop3", "110"},
                {"pop3", "Internet", "pop3", "110"},
                {"pop3s", "Internet", "pop.example.com", "995"}};
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        for (size_t a = 0; a < ARRAY_LEN(auths); a++) {
            char text[2048];
            bool oauth = auths[a] != AUTH_BASIC, pop3s = w == 2;
            size_t n = text_fmt(
                text, sizeof(text),
                "{\"Name\": \"a form\", \"Type\": \"MAIL\", \"Authentication\": \"%s\","
                " \"mail.user\": \"u@example.com\", \"mail.transport.protocol\": \"%s\","
                " \"mail.%s.host\": \"%s\", \"mail.%s.auth\": \"true\", \"mail.%s.port\": \"%s\","
                " \"ProxyType\": \"%s\"",
                mail_auth_name(auths[a]), ways[w].protocol, ways[w].protocol, ways[w].host,
                ways[w].protocol, ways[w].protocol, ways[w].port, ways[w].proxy);
            if (!oauth || pop3s) {
                n += text_fmt(text + n, sizeof(text) - n, ", \"mail.password\": \"s3cret\"");
            }
            if (oauth) {
                n += text_fmt(text + n, sizeof(text) - n,
                              ", \"tokenServiceURL\": \"https://token.example.com/oauth/token\","
                              " \"clientId\": \"id\", \"clientSecret\": \"cs\","
                              " \"tokenServiceURLType\": \"Dedicated\"");
            }
            text_fmt(text + n, sizeof(text) - n, "}");
            const struct destination *d = from_text(text, false);
            if (!d) {
                fail_msg("%s: %s: %s", text, problem.field, problem.text);
            }
            assert_int_equal(d->auth, auths[a]);
            assert_int_equal(d->port, pop3s ? 995 : 110);
            assert_int_equal(d->tls, pop3s ? TLS_IMPLICIT : TLS_NONE);
            assert_int_equal(d->proxy, w == 0 ? PROXY_ON_PREMISE : PROXY_INTERNET);
            assert_string_equal(d->user, "u@example.com");
            assert_int_equal(d->password.p != NULL, !oauth);
            assert_int_equal(warned(d, "mail.password is ignored"), oauth && pop3s);
            assert_int_equal(d->mechanisms[0], oauth ? MECH_XOAUTH2 : MECH_PLAIN);
            assert_int_equal(d->n_mechanisms, oauth ? 1 : 2);
            destination_unref(d);
        }
    }
    const struct destination *d = from_text(
        "{\"Name\": \"old\", \"Type\": \"MAIL\", \"ProxyType\": \"OnPremise\","
        " \"mail.user\": \"u\", \"mail.password\": \"p\", \"mail.transport.protocol\": \"pop3\","
        " \"mail.pop3.host\": \"virtual\", \"mail.pop3.auth\": \"true\","
        " \"mail.pop3.port\": \"464\"}",
        false);
    assert_int_equal(d->auth, AUTH_BASIC);
    assert_int_equal(d->port, 464);
    destination_unref(d);
}

/* ---- refused ---- */

struct refusal {
    const char *without, *with;
    enum verdict verdict;
    const char *field, *text;
};

#define OAUTH "\"Authentication\": \"OAuth2ClientCredentials\""
#define TOKEN_URL "\"tokenServiceURL\": \"https://t.example/token\""
#define TRUST_STORE "\"TrustStoreLocation\": \"a.pem\""
#define CLIENT "\"clientId\": \"i\", \"clientSecret\": \"s\""
#define HOST(h) "\"mail.pop3.host\": \"" h "\""
#define ON_PREMISE "\"ProxyType\": \"OnPremise\""

static const struct refusal refusals[] = {
    {"Type", NULL, VERDICT_TYPE_NOT_SUPPORTED, "Type", "is missing"},
    {NULL, "\"Type\": \"HTTP\"", VERDICT_TYPE_NOT_SUPPORTED, "Type", "is \"HTTP\""},
    {NULL, "\"mail.transport.protocol\": \"smtp\"", VERDICT_TYPE_NOT_SUPPORTED,
     "mail.transport.protocol", "\"smtp\""},
    {"mail.transport.protocol", "\"mail.pop3s.host\": \"x\"", VERDICT_TYPE_NOT_SUPPORTED,
     "mail.transport.protocol", "each of"},
    {NULL, "\"mail.transport.protocol\": \" \", \"mail.pop3s.host\": \"x\"",
     VERDICT_TYPE_NOT_SUPPORTED, "mail.transport.protocol", "each of"},

    {"ProxyType", NULL, VERDICT_PROXY_TYPE_NOT_SUPPORTED, "ProxyType", "is missing"},
    {NULL, "\"ProxyType\": \"PrivateLink\"", VERDICT_PROXY_TYPE_NOT_SUPPORTED, "ProxyType",
     "\"PrivateLink\""},
    {NULL, ON_PREMISE ", \"CloudConnectorLocationId\": \"a\\r\\nb\"", VERDICT_CONFIGURATION_FAILED,
     "CloudConnectorLocationId", "line break"},

    {NULL, "\"Authentication\": \"SAMLAssertion\"", VERDICT_AUTHENTICATION_NOT_SUPPORTED,
     "Authentication", "\"SAMLAssertion\""},
    {NULL, "\"mail.pop3.auth.mechanisms\": \"NTLM CRAM-MD5\"", VERDICT_AUTHENTICATION_NOT_SUPPORTED,
     "mail.pop3.auth.mechanisms", "no way"},
    {NULL, "\"mail.pop3.auth.plain.disable\": true, \"mail.pop3.auth.login.disable\": true",
     VERDICT_AUTHENTICATION_NOT_SUPPORTED, "mail.pop3.auth.mechanisms", "no way"},

    {"Name", NULL, VERDICT_CONFIGURATION_FAILED, "Name", "is missing"},
    {NULL, "\"Name\": \"a\\nb\"", VERDICT_CONFIGURATION_FAILED, "Name", "position 2"},

    {"mail.pop3.host", NULL, VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "is missing"},
    {NULL, HOST(""), VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "is missing"},
    {NULL, HOST("pop3://mail.example.com"), VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "a URL"},
    {NULL, HOST("mail.example.com:995"), VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host",
     "mail.pop3.port"},
    {NULL, HOST("two words"), VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "a host name"},
    {NULL, HOST("a..b"), VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "a host name"},
    {NULL, HOST("b\\u00fccher.example"), VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "xn--"},
    {NULL, HOST("10.1"), VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "write 10.0.0.1"},
    {NULL, HOST("a\\u0000b"), VERDICT_CONFIGURATION_FAILED, "mail.pop3.host", "NUL"},
    {NULL, HOST("::2") "," ON_PREMISE, VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host", "IPv6"},
    {NULL, "\"mail.pop3.port\": 0", VERDICT_URL_NOT_SUPPORTED, "mail.pop3.port", "not a port"},
    {NULL, "\"mail.pop3.port\": \"65536\"", VERDICT_URL_NOT_SUPPORTED, "mail.pop3.port",
     "not a port"},
    {NULL, "\"mail.pop3.port\": \"110.0\"", VERDICT_URL_NOT_SUPPORTED, "mail.pop3.port",
     "not a port"},
    {NULL, "\"mail.pop3.port\": \"\"", VERDICT_URL_NOT_SUPPORTED, "mail.pop3.port", "not a port"},

    {NULL, "\"mail.pop3.ssl.protocols\": \"SSLv3 TLSv1\"", VERDICT_CONFIGURATION_FAILED,
     "mail.pop3.ssl.protocols", "TLSv1.2"},

    {NULL, TRUST_STORE ", \"mail.pop3.starttls.required\": true", VERDICT_TRUST_STORE_INVALID,
     "TrustStoreLocation", "is not among the certificates"},
    {NULL, TRUST_STORE ", \"mail.pop3.starttls.enable\": true", VERDICT_TRUST_STORE_INVALID,
     "TrustStoreLocation", "is not among the certificates"},
    {NULL, TRUST_STORE ", \"mail.pop3.ssl.enable\": true", VERDICT_TRUST_STORE_INVALID,
     "TrustStoreLocation", "is not among the certificates"},

    {"mail.user", NULL, VERDICT_CONFIGURATION_FAILED, "mail.user", "is missing"},
    {NULL, "\"mail.user\": \"a\\rb\"", VERDICT_CONFIGURATION_FAILED, "mail.user", "line break"},
    {NULL, "\"mail.pop3.user\": \"a\\nb\"", VERDICT_CONFIGURATION_FAILED, "mail.pop3.user",
     "line break"},
    {"mail.password", NULL, VERDICT_CONFIGURATION_FAILED, "mail.password", "is missing"},
    {NULL, "\"mail.password\": \"a\\u0000b\"", VERDICT_CONFIGURATION_FAILED, "mail.password",
     "NUL"},
    {NULL, OAUTH "," TOKEN_URL "," CLIENT ", \"mail.user\": \"a\\u0001b\"",
     VERDICT_CONFIGURATION_FAILED, "mail.user", "U+0001"},

    {NULL, OAUTH "," CLIENT, VERDICT_CONFIGURATION_FAILED, "tokenServiceURL", "is missing"},
    {NULL, OAUTH "," CLIENT ", \"tokenServiceURL\": \"token\"", VERDICT_CONFIGURATION_FAILED,
     "tokenServiceURL", "not a URL"},
    {NULL, OAUTH "," CLIENT ", \"tokenServiceURL\": \"https://a b/\"", VERDICT_CONFIGURATION_FAILED,
     "tokenServiceURL", "not a URL"},
    {NULL, OAUTH "," CLIENT ", \"tokenServiceURL\": \"https://:1/\"", VERDICT_CONFIGURATION_FAILED,
     "tokenServiceURL", "not a URL"},
    {NULL, OAUTH "," TOKEN_URL "," CLIENT ", \"tokenServiceURLType\": \"Shared\"",
     VERDICT_CONFIGURATION_FAILED, "tokenServiceURLType", "Dedicated or Common"},
    {NULL, OAUTH "," TOKEN_URL ", \"clientSecret\": \"s\"", VERDICT_CONFIGURATION_FAILED,
     "clientId", "is missing"},
    {NULL, OAUTH "," TOKEN_URL ", \"clientId\": \"i\"", VERDICT_CONFIGURATION_FAILED,
     "clientSecret", "is missing"},
    {NULL, OAUTH "," TOKEN_URL "," CLIENT ", \"tokenServiceUser\": \"u\"",
     VERDICT_CONFIGURATION_FAILED, "tokenServicePassword", "is missing"},
    {NULL, OAUTH "," TOKEN_URL "," CLIENT ", \"scope\": \"a\\nb\"", VERDICT_CONFIGURATION_FAILED,
     "scope", "line break"},
    {NULL, OAUTH "," TOKEN_URL "," CLIENT ", \"tokenService.KeyStoreLocation\": \"a.p12\"",
     VERDICT_KEY_STORE_INVALID, "tokenService.KeyStoreLocation", "clientSecret"},
    {NULL, OAUTH "," TOKEN_URL "," CLIENT ", \"clientAssertion.type\": \"jwt\"",
     VERDICT_CONFIGURATION_FAILED, "clientAssertion.type", "clientSecret"},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        const struct refusal *c = &refusals[i];
        const char *text = variant(c->without, c->with);
        if (from_text(text, false)) {
            fail_msg("accepted: %s", text);
        }
        if (problem.verdict != c->verdict || strcmp(problem.field, c->field) != 0 ||
            !strstr(problem.text, c->text)) {
            fail_msg("%s: %d %s: %s", text, problem.verdict, problem.field, problem.text);
        }
        assert_null(strstr(problem.text, "wonder land"));
    }
    assert_null(from_text("{\"Type\": \"MAIL\", \"mail.host\": \"x\"}", false));
    assert_string_equal(problem.field, "mail.transport.protocol");
    assert_non_null(strstr(problem.text, "none of"));
}

static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t max;
        enum verdict verdict;
    } bounds[] = {
        {"Name", DESTINATION_NAME_MAX, VERDICT_CONFIGURATION_FAILED},
        {"mail.user", DESTINATION_USER_MAX, VERDICT_CONFIGURATION_FAILED},
        {"mail.password", DESTINATION_PASSWORD_MAX, VERDICT_CONFIGURATION_FAILED},
        {"mail.pop3.host", DESTINATION_HOST_MAX, VERDICT_URL_NOT_SUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        for (size_t n = bounds[i].max; n <= bounds[i].max + 1; n++) {
            char with[4096];
            size_t at = text_fmt(with, sizeof(with), "\"%s\": \"", bounds[i].name);
            for (size_t k = 0; k < n; k++) {
                with[at++] = k % 63 == 62 ? '.' : 'x';
            }
            text_fmt(with + at, sizeof(with) - at, "\"");
            const struct destination *d = from_text(variant(NULL, with), false);
            assert_int_equal(d != NULL, n == bounds[i].max);
            if (!d) {
                assert_int_equal(problem.verdict, bounds[i].verdict);
                assert_string_equal(problem.field, bounds[i].name);
            }
            destination_unref(d);
        }
    }
}

static void test_loopback(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool usual; /* a spelling for which loopback may be allowed */
    } spellings[] = {
        {"localhost", true},
        {"LocalHost.", true},
        {"a.localhost", true},
        {"127.0.0.1", true},
        {"127.1", false},
        {"127.255.0.3", true},
        {"0x7f.1", false},
        {"0x7F000001", false},
        {"2130706433", false},
        {"017700000001", false},
        {"127.0.0.1.", false},
        {"0177.0.0.1", false},
        {"0", false},
        {"0.0.0.0", true},
        {"::1", true},
        {"[::1]", true},
        {"0:0:0:0:0:0:0:1", true},
        {"::ffff:127.0.0.1", true},
        {"::ffff:7f00:1", true},
        {"::127.0.0.1", true},
        {"::", true},
        {"[::ffff:0.0.0.0]", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
        char with[128];
        text_fmt(with, sizeof(with), "\"mail.pop3.host\": \"%s\"", spellings[i].host);
        const struct destination *d = from_text(variant(NULL, with), false);
        if (d || problem.verdict != VERDICT_LOOPBACK_URL_NOT_SUPPORTED) {
            fail_msg("%s: %d %s", spellings[i].host, problem.verdict, problem.text);
        }
        d = from_text(variant(NULL, with), true);
        assert_int_equal(d != NULL, spellings[i].usual);
        assert_int_equal(problem.verdict,
                         spellings[i].usual ? VERDICT_OK : VERDICT_URL_NOT_SUPPORTED);
        assert_int_equal(d ? d->n_warnings : 0, 0);
        destination_unref(d);
    }

    static const char *const elsewhere[] = {"128.0.0.1",    "10.0.0.1",
                                            "fe80::1",      "::ffff:10.0.0.1",
                                            "notlocalhost", "localhost.example.com",
                                            "xlocalhost",   "127.example.com",
                                            "::2:1",        "mail_1.example"};
    for (size_t i = 0; i < ARRAY_LEN(elsewhere); i++) {
        char with[128];
        text_fmt(with, sizeof(with), "\"mail.pop3.host\": \"%s\"", elsewhere[i]);
        destination_unref(good(NULL, with));
    }
    /* A virtual host may have any name. */
    destination_unref(good(NULL, ON_PREMISE "," HOST("localhost")));
    destination_unref(good(NULL, ON_PREMISE "," HOST("127.0.0.1")));
}

static void test_hosts(void **state)
{
    (void)state;
    const struct destination *d = good(NULL, HOST("[2001:db8::1]"));
    assert_string_equal(d->host, "2001:db8::1");
    assert_string_equal(d->tls_name, "2001:db8::1");
    destination_unref(d);

    d = good(NULL, HOST(" mail.example.com. "));
    assert_string_equal(d->host, "mail.example.com.");
    assert_string_equal(d->tls_name, "mail.example.com");
    destination_unref(d);

    d = good("mail.pop3.host", "\"mail.host\": \"other.example.com\"");
    assert_string_equal(d->host, "other.example.com");
    destination_unref(d);

    d = good(NULL, ON_PREMISE ", \"CloudConnectorLocationId\": \"berlin\"");
    assert_string_equal(d->location_id, "berlin");
    destination_unref(d);
    d = good(NULL, "\"CloudConnectorLocationId\": \"berlin\"");
    assert_string_equal(d->location_id, "");
    destination_unref(d);
}

static void test_protocol(void **state)
{
    (void)state;
    const struct destination *d = good("mail.transport.protocol", NULL);
    assert_int_equal(d->protocol, MAIL_POP3);
    destination_unref(d);

    d = good(NULL, "\"mail.transport.protocol\": \"POP3S\", \"mail.pop3s.host\": \"s.example\"");
    assert_int_equal(d->protocol, MAIL_POP3S);
    assert_string_equal(d->host, "s.example");
    assert_int_equal(d->port, 995);
    assert_true(warned(d, "mail.pop3.* is ignored"));
    destination_unref(d);

    d = from_text("{\"Name\": \"n\", \"Type\": \"mail\", \"ProxyType\": \"internet\","
                  " \"mail.pop3s.host\": \"s.example\", \"User\": \"u\", \"Password\": \"p\"}",
                  false);
    assert_int_equal(d->protocol, MAIL_POP3S);
    assert_string_equal(d->user, "u");
    assert_string_equal(d->password.p, "p");
    assert_int_equal(d->n_warnings, 0);
    destination_unref(d);
    assert_string_equal(mail_protocol_name(MAIL_POP3), "pop3");
    assert_string_equal(mail_protocol_name(MAIL_POP3S), "pop3s");
}

#define P3(suffix, value) "\"mail.pop3." suffix "\": " value

static void test_tls(void **state)
{
    (void)state;
    static const struct {
        const char *with;
        enum tls_mode tls;
        int port;
        const char *warning;
    } modes[] = {
        {P3("starttls.enable", "true"), TLS_STLS_WANTED, 110, "falls back to clear text"},
        {P3("starttls.required", "\"TRUE\""), TLS_STLS_REQUIRED, 110, NULL},
        {P3("starttls.enable", "true") "," P3("starttls.required", "true"), TLS_STLS_REQUIRED, 110,
         NULL},
        {P3("starttls.enable", "\"yes\""), TLS_NONE, 110, "neither true nor false"},
        {P3("ssl.enable", "true"), TLS_IMPLICIT, 110, NULL},
        {P3("ssl.enable", "true") "," P3("starttls.required", "true"), TLS_IMPLICIT, 110,
         "starttls.* is ignored"},
    };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        const struct destination *d = good(NULL, modes[i].with);
        assert_int_equal(d->tls, modes[i].tls);
        assert_int_equal(d->port, modes[i].port);
        assert_true(modes[i].warning ? warned(d, modes[i].warning) : d->n_warnings == 0);
        destination_unref(d);
    }
    const struct destination *d = good("mail.pop3.port", P3("ssl.enable", "true"));
    assert_int_equal(d->port, 995);
    destination_unref(d);
    d = good(NULL, "\"mail.transport.protocol\": \"pop3s\", \"mail.pop3s.host\": \"s.example\","
                   " \"mail.pop3s.ssl.enable\": false");
    assert_int_equal(d->tls, TLS_IMPLICIT);
    assert_true(warned(d, "pop3s is always TLS"));
    destination_unref(d);
}

static void test_trust(void **state)
{
    (void)state;
    static const struct {
        const char *trust;
        bool any;
    } lists[] = {
        {"*", true},
        {"a.example MAIL.example.com", true},
        {"a.example\\tmail.example.com b.example", true},
        {"a.example xmail.example.com", false},
        {"", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        char with[128];
        text_fmt(with, sizeof(with), P3("ssl.trust", "\"%s\""), lists[i].trust);
        const struct destination *d = good(NULL, with);
        assert_int_equal(d->tls_trust_any, lists[i].any);
        assert_int_equal(warned(d, "any certificate is accepted"), lists[i].any);
        assert_true(d->tls_check_host);
        destination_unref(d);
    }
    const struct destination *d = good(NULL, P3("ssl.checkserveridentity", "\"False\""));
    assert_false(d->tls_check_host);
    assert_true(warned(d, "mail.pop3.ssl.checkserveridentity is false"));
    destination_unref(d);
    d = good(NULL, P3("ssl.checkserveridentity", "\"no\""));
    assert_true(d->tls_check_host);
    assert_true(warned(d, "counts as true"));
    destination_unref(d);
}

static void test_tls_versions(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        enum mail_tls_version min, max;
        bool warned;
    } lists[] = {
        {"TLSv1.2 TLSv1.3", MAIL_TLS_1_2, MAIL_TLS_1_3, false},
        {"tlsv1.3", MAIL_TLS_1_3, MAIL_TLS_1_3, false},
        {"TLSv1.2", MAIL_TLS_1_2, MAIL_TLS_1_2, false},
        {"TLSv1 TLSv1.1 TLSv1.2", MAIL_TLS_1_2, MAIL_TLS_1_2, true},
        {" ", MAIL_TLS_1_2, MAIL_TLS_1_3, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        char with[128];
        text_fmt(with, sizeof(with), P3("ssl.protocols", "\"%s\""), lists[i].list);
        const struct destination *d = good(NULL, with);
        assert_int_equal(d->tls_min, lists[i].min);
        assert_int_equal(d->tls_max, lists[i].max);
        assert_int_equal(warned(d, "TLSv1.2 and TLSv1.3 are"), lists[i].warned);
        destination_unref(d);
    }
}

static void test_users(void **state)
{
    (void)state;
    const struct destination *d = good(NULL, P3("user", "\"recent:bob@example.com\""));
    assert_string_equal(d->user, "recent:bob@example.com");
    destination_unref(d);
    d = good(NULL, "\"User\": \"ignored\", \"Password\": \"ignored\"");
    assert_string_equal(d->user, "alice");
    assert_string_equal(d->password.p, "wonder land");
    destination_unref(d);
    /* A client with a user token names the user itself, so mail.user is ignored. */
    d = good("mail.user", "\"Authentication\": \"OAuth2RefreshToken\"," TOKEN_URL "," CLIENT);
    assert_string_equal(d->user, "");
    destination_unref(d);
    d = good(NULL, OAUTH "," TOKEN_URL ", \"clientId\": \"i\", \"tokenServiceUser\": \"u\","
                         " \"tokenServicePassword\": \"p\"");
    destination_unref(d);
    d = good(NULL, OAUTH "," CLIENT ", \"tokenServiceURLType\": \"Common\","
                         " \"tokenServiceURL\": \"https://{tenant}.t.example/oauth\"");
    assert_int_equal(d->auth, AUTH_CLIENT_CREDENTIALS);
    destination_unref(d);
}

static void test_no_authentication(void **state)
{
    (void)state;
    const struct destination *d = good("mail.user", "\"Authentication\": \"NoAuthentication\"");
    assert_int_equal(d->auth, AUTH_NONE);
    assert_int_equal(d->n_mechanisms, 0);
    assert_string_equal(d->user, "");
    assert_null(d->password.p);
    assert_int_equal(d->n_warnings, 0);
    destination_unref(d);

    d = good(NULL, P3("auth", "\"false\""));
    assert_int_equal(d->auth, AUTH_NONE);
    assert_true(warned(d, "mail.pop3.auth is false"));
    destination_unref(d);
    d = good("Authentication", P3("auth", "false"));
    assert_int_equal(d->auth, AUTH_NONE);
    assert_int_equal(d->n_warnings, 0);
    destination_unref(d);
}

static void test_mechanisms(void **state)
{
    (void)state;
    static const struct {
        const char *with;
        size_t n;
        enum mechanism order[3];
        const char *warning;
    } cases[] = {
        {P3("apop.enable", "true"), 3, {MECH_APOP, MECH_PLAIN, MECH_USER_PASS}, NULL},
        {P3("auth.plain.disable", "true"), 1, {MECH_USER_PASS}, NULL},
        {P3("auth.login.disable", "true"), 1, {MECH_PLAIN}, NULL},
        {P3("auth.mechanisms", "\"LOGIN PLAIN\""), 2, {MECH_USER_PASS, MECH_PLAIN}, NULL},
        {P3("auth.mechanisms", "\"LOGIN\"") "," P3("apop.enable", "true"),
         2,
         {MECH_APOP, MECH_USER_PASS},
         NULL},
        {P3("auth.mechanisms", "\"plain,plain\""), 1, {MECH_PLAIN}, NULL},
        {P3("auth.mechanisms", "\"PLAIN\"") "," P3("auth.plain.disable", "true"),
         1,
         {MECH_PLAIN},
         NULL},
        {P3("auth.mechanisms", "\"DIGEST-MD5 apop NTLM\""), 1, {MECH_APOP}, "DIGEST-MD5 cannot"},
        {P3("auth.mechanisms", "\"XOAUTH2 PLAIN\""), 1, {MECH_PLAIN}, "XOAUTH2 cannot"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct destination *d = good(NULL, cases[i].with);
        assert_int_equal(d->n_mechanisms, cases[i].n);
        for (size_t k = 0; k < cases[i].n; k++) {
            assert_int_equal(d->mechanisms[k], cases[i].order[k]);
        }
        assert_true(warned(d, cases[i].warning ? cases[i].warning : "clear text"));
        destination_unref(d);
    }
    const struct destination *d =
        good(NULL, OAUTH "," TOKEN_URL "," CLIENT "," P3("auth.mechanisms", "\"PLAIN\""));
    assert_int_equal(d->mechanisms[0], MECH_XOAUTH2);
    assert_true(warned(d, "mail.pop3.auth.mechanisms: XOAUTH2 is used all the same"));
    destination_unref(d);
    d = good(NULL, OAUTH "," TOKEN_URL "," CLIENT "," P3("auth.xoauth2.disable", "true"));
    assert_true(warned(d, "mail.pop3.auth.xoauth2.disable: XOAUTH2 is used"));
    destination_unref(d);
    d = good(NULL, P3("auth.xoauth2.two.line.authentication.format", "false"));
    assert_false(d->xoauth2_two_lines);
    destination_unref(d);
    d = good(NULL, P3("disablecapa", "true"));
    assert_false(d->ask_capa);
    destination_unref(d);
}

static void test_timeouts(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        int64_t connect;
        bool warned;
    } cases[] = {
        {"5000", SECONDS(5), false},   {"\"2500\"", MILLIS(2500), false},
        {"1", SECONDS(1), false},      {"999999999", SECONDS(60), false},
        {"0", SECONDS(60), false},     {"-1", SECONDS(60), false},
        {"\"5s\"", SECONDS(15), true}, {"99999999999999999999", SECONDS(15), true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char with[128];
        text_fmt(with, sizeof(with), P3("connectiontimeout", "%s"), cases[i].value);
        const struct destination *d = good(NULL, with);
        assert_int_equal(d->connect_timeout, cases[i].connect);
        assert_int_equal(warned(d, "not a number of milliseconds"), cases[i].warned);
        destination_unref(d);
    }
    const struct destination *d = good(NULL, P3("timeout", "10000"));
    assert_int_equal(d->answer_timeout, SECONDS(10));
    destination_unref(d);
}

static void test_ignored(void **state)
{
    (void)state;
    const struct destination *d =
        good(NULL, P3("socks.host", "\"x\"") "," P3("startls.required", "true"));
    assert_true(warned(d, "mail.pop3.socks.host is ignored"));
    assert_true(warned(d, "mail.pop3.startls.required is ignored"));
    destination_unref(d);

    d = good(NULL, P3("rsetbeforequit", "true") "," P3("filecache.dir", "\"/x\"") "," P3(
                       "from", "\"a@b\"") ", \"Description\": \"mine\", \"mail.debug\": true,"
                                          " \"$metadata\": {\"x\": [1]}, \"FragmentName\": null");
    assert_int_equal(d->n_warnings, 1);
    destination_unref(d);

    /* no certificate is checked, so none has to be trusted */
    static const char *const unchecked[] = {
        TRUST_STORE, TRUST_STORE "," P3("ssl.enable", "true") "," P3("ssl.trust", "\"*\"")};
    for (size_t i = 0; i < ARRAY_LEN(unchecked); i++) {
        d = good(NULL, unchecked[i]);
        assert_true(warned(d, "TrustStoreLocation is ignored"));
        destination_unref(d);
    }
    destination_unref(good(NULL, "\"TrustStoreLocation\": \"\"," P3("ssl.enable", "true")));

    char with[4096];
    size_t n = 0;
    for (int i = 0; i < 40; i++) {
        n += text_fmt(with + n, sizeof(with) - n, "%s\"mail.pop3.unknown%d\": 1", i ? "," : "", i);
    }
    d = good(NULL, with);
    assert_int_equal(d->n_warnings, DESTINATION_WARNINGS_MAX);
    assert_true(warned(d, "there is more to say"));
    destination_unref(d);
}

static void test_wrapped(void **state)
{
    (void)state;
    char text[4096];
    text_fmt(text, sizeof(text),
             "{\"owner\": {\"InstanceId\": null}, \"authTokens\": [],"
             " \"destinationConfiguration\": %s}",
             variant(NULL, NULL));
    const struct destination *d = from_text(text, false);
    assert_non_null(d);
    destination_unref(d);
}

static void test_bad_properties(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"[]", "is an array"},
        {"\"x\"", "is a string"},
        {"{\"a\": {}}", "a: is an object"},
        {"{\"a\": [1]}", "a: is an array"},
        {"{\"a\\u0000b\": 1}", "NUL"},
        {"{\"destinationConfiguration\": 1}", "is a number"},
    };
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json *doc = json_parse(str_of(cases[i].text), &err);
        assert_non_null(doc);
        assert_null(properties_from_json(json_root(doc), &err));
        assert_int_equal(err.fail, FAIL_CONFIG);
        assert_non_null(strstr(err.text, cases[i].says));
        json_free(doc);
    }
    char *text = malloc(40 * (PROPERTIES_MAX + 2));
    assert_non_null(text);
    size_t n = text_fmt(text, 40, "{\"a\": \"\"");
    for (int i = 0; i < PROPERTIES_MAX; i++) {
        n += text_fmt(text + n, 40, ", \"p%d\": \"v%d\"", i, i);
    }
    text_fmt(text + n, 40, "}");
    struct json *doc = json_parse(str_of(text), &err);
    assert_non_null(doc);
    assert_null(properties_from_json(json_root(doc), &err));
    assert_int_equal(err.fail, FAIL_LIMIT);
    json_free(doc);
    free(text);
}

static void test_property_values(void **state)
{
    (void)state;
    struct error err;
    static const char text[] = "{\"s\": \"a\\u0000b\", \"n\": -1.5e3, \"t\": true, \"f\": false,"
                               " \"twice\": 1, \"twice\": 2, \"nothing\": null}";
    struct json *doc = json_parse(str_of(text), &err);
    struct properties *props = properties_from_json(json_root(doc), &err);
    json_free(doc);
    assert_non_null(props);
    size_t n;
    assert_memory_equal(properties_get(props, "s", &n), "a\0b", 4);
    assert_int_equal(n, 3);
    assert_string_equal(properties_get(props, "n", &n), "-1.5e3");
    assert_int_equal(n, 6);
    assert_string_equal(properties_get(props, "t", NULL), "true");
    assert_string_equal(properties_get(props, "f", NULL), "false");
    assert_string_equal(properties_get(props, "twice", NULL), "2");
    assert_null(properties_get(props, "nothing", NULL));
    assert_null(properties_get(props, "S", NULL));
    properties_free(props);
    properties_free(NULL);
}

static void test_reasons(void **state)
{
    (void)state;
    assert_string_equal(verdict_reason(VERDICT_OK, false), "ConfigurationSuccessful");
    assert_string_equal(verdict_reason(VERDICT_URL_NOT_SUPPORTED, false),
                        "ConfigurationError-ReferencedDestination-UrlNotSupported");
    assert_string_equal(verdict_reason(VERDICT_URL_NOT_SUPPORTED, true),
                        "ConfigurationError-ReferencedDestinationWithFragment-UrlNotSupported");
    assert_string_equal(verdict_reason(VERDICT_CONFIGURATION_FAILED, true), "ConfigurationFailed");
}

/* A change of any property that a session depends on makes a difference; other changes do not. */
static void test_equal(void **state)
{
    (void)state;
    static const struct {
        const char *with;
        bool same;
    } cases[] = {
        {"\"Description\": \"x\"", true},
        {P3("unknown", "1"), true},
        {P3("timeout", "30000"), true},
        {"\"Name\": \"other\"", false},
        {HOST("other"), false},
        {"\"mail.pop3.port\": 111", false},
        {ON_PREMISE, false},
        {"\"mail.user\": \"bob\"", false},
        {"\"mail.password\": \"wonder_land\"", false},
        {"\"mail.password\": \"w\"", false},
        {"\"Authentication\": \"NoAuthentication\"", false},
        {P3("starttls.required", "true"), false},
        {P3("ssl.trust", "\"*\""), false},
        {P3("ssl.checkserveridentity", "false"), false},
        {P3("ssl.protocols", "\"TLSv1.2\""), false},
        {P3("ssl.protocols", "\"TLSv1.3\""), false},
        {P3("auth.mechanisms", "\"LOGIN PLAIN\""), false},
        {P3("apop.enable", "true"), false},
        {P3("auth.xoauth2.two.line.authentication.format", "false"), false},
        {P3("disablecapa", "true"), false},
        {P3("timeout", "9000"), false},
        {P3("connectiontimeout", "9000"), false},
    };
    const struct destination *a = good(NULL, NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct destination *b = good(NULL, cases[i].with);
        if (destination_equal(a, b) != cases[i].same) {
            fail_msg("%s", cases[i].with);
        }
        destination_unref(b);
    }
    const struct destination *b = good(NULL, ON_PREMISE);
    const struct destination *c = good(NULL, ON_PREMISE ", \"CloudConnectorLocationId\": \"x\"");
    assert_false(destination_equal(b, c));
    destination_unref(c);
    destination_unref(b);

    assert_ptr_equal(destination_ref(a), a);
    destination_unref(a);
    assert_string_equal(a->name, "inbox");
    destination_unref(a);
    destination_unref(NULL);
}

/* ---- the token service ---- */

static void expect_url(const struct destination *d, const char *tenant, const char *url)
{
    struct buf out;
    buf_init(&out, 8192);
    int rc = token_service_url(d->tokens, tenant, &out);
    assert_int_equal(rc, url ? OK : ERR);
    if (url) {
        assert_int_equal(buf_len(&out), strlen(url));
        assert_memory_equal(buf_str(&out).p, url, strlen(url));
    }
    buf_free(&out);
}

#define TOKENS(more) OAUTH "," TOKEN_URL "," CLIENT more

static void test_token_requests(void **state)
{
    (void)state;
    const struct destination *d = good(NULL, TOKENS(""));
    const struct token_service *t = d->tokens;
    assert_string_equal(t->client_secret.p, "s");
    assert_false(t->basic || t->common || t->on_premise);
    assert_int_equal(t->form.n + t->headers.n, 0);
    assert_int_equal(t->connect_timeout + t->answer_timeout, 0);
    expect_url(d, NULL, "https://t.example/token");
    expect_url(d, "tenant", "https://t.example/token");
    destination_unref(d);

    d = good(NULL,
             TOKENS(", \"scope\": \"a b\", \"tokenService.addClientCredentialsInBody\": false,"
                    " \"tokenServiceURL.headers.X-A\": \"1\","
                    " \"tokenServiceURL.queries.q\": \"&2\","
                    " \"tokenService.body.resource\": \"a/b\","
                    " \"tokenServiceURL.ConnectionTimeoutInSeconds\": 7,"
                    " \"tokenServiceURL.SocketReadTimeoutInSeconds\": \"900\""));
    t = d->tokens;
    assert_true(t->basic);
    assert_string_equal(t->headers.p, "X-A: 1\r\n");
    assert_string_equal(t->form.p, "scope=a+b&resource=a%2Fb");
    expect_url(d, NULL, "https://t.example/token?q=%262");
    assert_int_equal(t->connect_timeout, SECONDS(7));
    assert_int_equal(t->answer_timeout, SECONDS(60));
    destination_unref(d);

    /* tokenService.body.scope takes precedence over scope, and the token service's user and
     * password over the client's. */
    d = good(NULL, TOKENS(", \"scope\": \"a\", \"tokenService.body.scope\": \"b\","
                          " \"tokenServiceUser\": \"u\", \"tokenServicePassword\": \"p\","
                          " \"tokenService.body.grant_type\": \"x\","
                          " \"tokenServiceURL.headers.host\": \"x\""));
    t = d->tokens;
    assert_string_equal(t->form.p, "scope=b");
    assert_true(t->basic);
    assert_string_equal(t->client_id, "u");
    assert_string_equal(t->client_secret.p, "p");
    assert_int_equal(t->headers.n, 0);
    assert_true(warned(d, "tokenService.body.grant_type is ignored"));
    assert_true(warned(d, "tokenServiceURL.headers.host is ignored"));
    destination_unref(d);

    d = good(NULL, "\"Authentication\": \"OAuth2AuthorizationCode\"," TOKEN_URL "," CLIENT
                   ", \"X-redirect-uri\": \"https://a/\", \"mail.X-code-verifier\": \"v\"");
    assert_string_equal(d->tokens->redirect_uri.p, "https://a/");
    assert_string_equal(d->tokens->code_verifier.p, "v");
    assert_string_equal(d->tokens->form.p, "redirect_uri=https%3A%2F%2Fa%2F&code_verifier=v");
    destination_unref(d);
    d = good(NULL, NULL);
    assert_null(d->tokens);
    destination_unref(d);
}

static void test_token_request_refused(void **state)
{
    (void)state;
    static const char *const more[] = {
        ", \"tokenServiceURL.headers.X A\": \"1\"",
        ", \"tokenServiceURL.headers.X-A\": \"1\\r\\nX-B: 2\"",
        ", \"tokenServiceURL.headers.\": \"1\"",
        ", \"tokenService.body.\": \"1\"",
        ", \"tokenService.body.a\": \"1\\u0000\"",
        ", \"clientAssertion.destinationName\": \"x\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        char with[1024];
        text_fmt(with, sizeof(with), "%s%s", TOKENS(""), more[i]);
        assert_null(from_text(variant(NULL, with), false));
        assert_int_equal(problem.verdict, VERDICT_CONFIGURATION_FAILED);
        assert_non_null(strstr(more[i], problem.field));
    }
}

static void test_token_service_of_tenants(void **state)
{
    (void)state;
    const struct destination *d =
        good(NULL, OAUTH "," CLIENT ", \"tokenServiceURLType\": \"common\","
                         " \"tokenServiceURL\": \"https://t.example/a\"");
    expect_url(d, "abc", "https://abc.t.example/a");
    static const char *const wrong[] = {"", "a.b", "a/b", "-a", "a-", "a@", "evil.example/", "a b"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        expect_url(d, wrong[i], NULL);
    }
    expect_url(d, NULL, NULL);
    destination_unref(d);

    d = good(NULL, OAUTH "," CLIENT ", \"tokenServiceURLType\": \"Common\","
                         " \"tokenServiceURL\": \"https://{tenant}.t.example/{tenant}/b?c\"");
    expect_url(d, "abc", "https://abc.t.example/abc/b?c");
    destination_unref(d);
}

/* Each part makes a difference. */
static void test_token_services_are_apart(void **state)
{
    (void)state;
    static const char *const more[] = {
        "",
        ", \"scope\": \"x\"",
        ", \"tokenServiceURLType\": \"Common\"",
        ", \"tokenService.addClientCredentialsInBody\": \"false\"",
        ", \"tokenServiceURL.headers.X-A\": \"1\"",
        ", \"tokenServiceURL.headers.X-A\": \"2\"",
        ", \"tokenServiceURL.queries.a\": \"1\"",
        ", \"tokenServiceUser\": \"i\", \"tokenServicePassword\": \"t\"",
        ", \"tokenServiceURL.SocketReadTimeoutInSeconds\": 3",
    };
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        for (size_t k = 0; k < ARRAY_LEN(more); k++) {
            char with[2][1024];
            text_fmt(with[0], sizeof(with[0]), "%s%s", TOKENS(""), more[i]);
            text_fmt(with[1], sizeof(with[1]), "%s%s", TOKENS(""), more[k]);
            const struct destination *a = good(NULL, with[0]), *b = good(NULL, with[1]);
            assert_int_equal(destination_equal(a, b), i == k);
            destination_unref(a);
            destination_unref(b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_requests),
        cmocka_unit_test(test_token_request_refused),
        cmocka_unit_test(test_token_service_of_tenants),
        cmocka_unit_test(test_token_services_are_apart),
        cmocka_unit_test(test_basic),
        cmocka_unit_test(test_documented_forms),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_protocol),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_tls_versions),
        cmocka_unit_test(test_users),
        cmocka_unit_test(test_no_authentication),
        cmocka_unit_test(test_mechanisms),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_wrapped),
        cmocka_unit_test(test_bad_properties),
        cmocka_unit_test(test_property_values),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
