/* Tests core/service_key: the two layouts of the Secrets, what the BTP service operator writes, and
 * every complaint. No complaint contains a value. */
#include "core/service_key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/text.h"
#include "tests/unit/world/objects.h"

#define CLIENT_ID "sb-clone!b21283|destination-xsappname!b404"
#define CLIENT_SECRET "Sz$3cr=t-_x"
#define TOKEN_URL "https://provider.authentication.eu10.hana.ondemand.com"
#define SERVICE_URL "https://destination-configuration.cfapps.eu10.hana.ondemand.com"

static struct error err;
static enum service_key_use use = SERVICE_KEY_DESTINATION;

/* A field and its value. */
struct field {
    const char *name, *value;
};

enum { FIELDS_MAX = 16 };

static const struct field good[FIELDS_MAX] = {
    {"clientid", CLIENT_ID},
    {"clientsecret", CLIENT_SECRET},
    {"url", TOKEN_URL},
    {"uri", SERVICE_URL},
    {"identityzone", "provider"},
    {"credential-type", "binding-secret"},
    {"tenantid", "b6d0c6a1-0000"},
    {"xsappname", "clone!b404"},
    {"instance_name", "dest-service"},
    {"tags", "[\"destination\",\"conn\"]"},
};

/* Writes the fields as one JSON object of strings. */
static void put_fields(struct buf *out, const struct field *fields, bool base64)
{
    assert_int_equal(buf_add(out, "{", 1), OK);
    for (size_t i = 0; i < FIELDS_MAX && fields[i].name; i++) {
        static char coded[65536];
        text_base64(coded, fields[i].value, strlen(fields[i].value));
        assert_int_equal(buf_add(out, ",", i > 0), OK);
        assert_int_equal(json_fmt(out, "%s:%s", fields[i].name, base64 ? coded : fields[i].value),
                         OK);
    }
    assert_int_equal(buf_add(out, "}", 1), OK);
}

enum layout { ENTRIES, ENTRIES_PLAIN, WHOLE, WHOLE_PLAIN, LAYOUTS };

/* Reads a Secret with these fields in one of the layouts. */
static const struct service_key *read_key(const struct field *fields, enum layout layout)
{
    struct buf text, out;
    buf_init(&text, 65536);
    buf_init(&out, 131072);
    bool base64 = layout == ENTRIES || layout == WHOLE, whole = layout >= WHOLE;
    assert_int_equal(buf_fmt(&out, "{\"kind\":\"Secret\",\"%s\":", base64 ? "data" : "stringData"),
                     OK);
    if (whole) {
        put_fields(&text, fields, false);
        assert_int_equal(buf_add(&text, "", 1), OK);
        const struct field entry[FIELDS_MAX] = {{"the key", buf_str(&text).p}};
        put_fields(&out, entry, base64);
    } else {
        put_fields(&out, fields, base64);
    }
    assert_int_equal(buf_add(&out, "}", 2), OK);
    struct object o = object_of(buf_str(&out).p);
    err = (struct error){0};
    const struct service_key *key = service_key_from_secret(o.root,
                                                            whole               ? "the key"
                                                            : layout == ENTRIES ? NULL
                                                                                : "",
                                                            use, &err);
    assert_int_equal(key == NULL, err.text[0] != '\0');
    assert_int_equal(err.fail, key ? FAIL_NONE : FAIL_CONFIG);
    object_free(&o);
    buf_free(&text);
    buf_free(&out);
    return key;
}

/* Copies the good fields with the named one replaced or added, or without it if the value is
 * NULL. */
static void change(struct field *fields, const char *name, const char *value)
{
    size_t n = 0;
    for (size_t i = 0; i < FIELDS_MAX && good[i].name; i++) {
        if (strcmp(good[i].name, name) != 0) {
            fields[n++] = good[i];
        }
    }
    if (value) {
        fields[n++] = (struct field){name, value};
    }
    fields[n] = (struct field){0};
}

static void test_layouts(void **state)
{
    (void)state;
    const struct service_key *keys[LAYOUTS];
    for (enum layout l = 0; l < LAYOUTS; l++) {
        const struct service_key *key = keys[l] = read_key(good, l);
        if (!key) {
            fail_msg("%s", err.text);
        }
        assert_string_equal(key->client_id, CLIENT_ID);
        assert_int_equal(key->client_secret.n, strlen(CLIENT_SECRET));
        assert_string_equal(key->client_secret.p, CLIENT_SECRET);
        assert_string_equal(key->token_url, TOKEN_URL "/oauth/token");
        assert_string_equal(key->uri, SERVICE_URL);
        assert_string_equal(key->identity_zone, "provider");
    }
    for (enum layout l = 0; l < LAYOUTS; l++) {
        assert_true(service_key_equal(keys[0], keys[l]));
    }
    assert_ptr_equal(service_key_ref(keys[0]), keys[0]);
    service_key_unref(keys[0]);
    for (enum layout l = 0; l < LAYOUTS; l++) {
        service_key_unref(keys[l]);
    }
    service_key_unref(NULL);
}

static void test_equal(void **state)
{
    (void)state;
    static const struct field others[] = {
        {"clientid", "another"},
        {"clientsecret", "another"},
        {"clientsecret", CLIENT_SECRET "x"},
        {"url", "https://another.example.com"},
        {"uri", "https://another.example.com"},
        {"identityzone", "another"},
    };
    const struct service_key *key = read_key(good, ENTRIES);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct field fields[FIELDS_MAX];
        change(fields, others[i].name, others[i].value);
        const struct service_key *other = read_key(fields, ENTRIES);
        assert_false(service_key_equal(key, other));
        service_key_unref(other);
    }
    service_key_unref(key);
}

static void test_values(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *token_url, *uri;
    } rows[] = {
        {"url", "https://a.example.com/", "https://a.example.com/oauth/token", SERVICE_URL},
        {"url", "https://a.example.com//", "https://a.example.com/oauth/token", SERVICE_URL},
        {"url", "https://a.example.com/oauth/token", "https://a.example.com/oauth/token",
         SERVICE_URL},
        {"url", "https://a.example.com/oauth/token/", "https://a.example.com/oauth/token",
         SERVICE_URL},
        {"url", "https://a.example.com/uaa", "https://a.example.com/uaa/oauth/token", SERVICE_URL},
        {"url", "http://127.0.0.1:8080", "http://127.0.0.1:8080/oauth/token", SERVICE_URL},
        {"url", "http://[::1]:8080\n", "http://[::1]:8080/oauth/token", SERVICE_URL},
        {"uri", "https://a.example.com/", TOKEN_URL "/oauth/token", "https://a.example.com"},
        {"uri", "http://localhost:1/x/", TOKEN_URL "/oauth/token", "http://localhost:1/x"},
        {"clientsecret", CLIENT_SECRET "\r\n", TOKEN_URL "/oauth/token", SERVICE_URL},
        {"credential-type", "instance-secret", TOKEN_URL "/oauth/token", SERVICE_URL},
        {"credential-type", "", TOKEN_URL "/oauth/token", SERVICE_URL},
        /* a certificate beside a secret is ignored */
        {"certificate", "-----BEGIN", TOKEN_URL "/oauth/token", SERVICE_URL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (enum layout l = 0; l < LAYOUTS; l++) {
            struct field fields[FIELDS_MAX];
            change(fields, rows[i].name, rows[i].value);
            const struct service_key *key = read_key(fields, l);
            if (!key) {
                fail_msg("%s=%s: %s", rows[i].name, rows[i].value, err.text);
            }
            assert_string_equal(key->token_url, rows[i].token_url);
            assert_string_equal(key->uri, rows[i].uri);
            assert_string_equal(key->client_secret.p, CLIENT_SECRET);
            service_key_unref(key);
        }
    }
    struct field fields[FIELDS_MAX];
    change(fields, "identityzone", NULL);
    const struct service_key *key = read_key(fields, WHOLE);
    assert_string_equal(key->identity_zone, "");
    service_key_unref(key);
}

static void test_refused_fields(void **state)
{
    (void)state;
    static char longest[4098];
    memset(longest, 'x', sizeof(longest) - 1);
    static const struct {
        const char *name, *value, *complaint;
    } rows[] = {
        {"clientid", NULL, " is missing"},
        {"clientid", "", " is missing"},
        {"clientid", "\n", " is missing"},
        {"clientsecret", NULL, " is missing"},
        {"clientsecret", "", " is missing"},
        {"url", NULL, " is missing"},
        {"uri", NULL, " is missing"},
        {"clientid", "h1dd3n\nh1dd3n", " contains a control character"},
        {"clientsecret", "h1dd3n\nh1dd3n", " contains a control character"},
        {"clientsecret", longest, " is longer than 4096 octets"},
        {"identityzone", "X\tX", " contains a control character"},
        {"url", "h1dd3n", " is not a URL to build on: it does not begin with https:// or"},
        {"url", "https://", "it has no host"},
        {"url", "https://X:Y@h", "it has a user name in it"},
        {"url", "https://h/?h1dd3n", "it has a query"},
        {"url", "https://h/#h1dd3n", "it has a fragment"},
        {"url", "https://h h/", "it has a blank"},
        {"uri", "ftp://h1dd3n", " is not a URL to build on: it does not begin with https:// or"},
        {"uri", "https://h:h1dd3n", "it has a malformed port"},
        {"credential-type", "X509_ATTESTED", "x509_attested, which is not supported;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (enum layout l = 0; l < LAYOUTS; l++) {
            struct field fields[FIELDS_MAX];
            change(fields, rows[i].name, rows[i].value);
            if (read_key(fields, l)) {
                fail_msg("accepted: %s=%s", rows[i].name, rows[i].value);
            }
            if (!strstr(err.text, rows[i].complaint)) {
                fail_msg("\"%s\" is not in \"%s\"", rows[i].complaint, err.text);
            }
            assert_null(strstr(err.text, "h1dd3n"));
            char place[64];
            text_fmt(place, sizeof(place),
                     l < WHOLE ? "the entry \"%s\" " : "the field \"%s\" in the entry \"the key\" ",
                     rows[i].name);
            bool about_key = strstr(err.text, "the service key is ") == err.text;
            assert_int_equal(strstr(err.text, place) == err.text, !about_key);
        }
    }
}

/* ---- certificates ---- */

#define PEM(label, body) "-----BEGIN " label "-----\n" body "\n-----END " label "-----"
#define CHAIN PEM("CERTIFICATE", "bGVhZg==") "\n" PEM("CERTIFICATE", "Y2E=")
#define PRIVATE_KEY PEM("RSA PRIVATE KEY", "a2V5")
#define CERT_URL "https://provider.authentication.cert.eu10.hana.ondemand.com"

static const struct field x509[FIELDS_MAX] = {
    {"clientid", CLIENT_ID}, {"credential-type", "x509"},  {"certurl", CERT_URL},
    {"certificate", CHAIN},  {"key", PRIVATE_KEY},         {"url", TOKEN_URL},
    {"uri", SERVICE_URL},    {"identityzone", "provider"},
};

/* Reads an X.509 key with one field changed, or without it if the value is NULL. */
static const struct service_key *read_x509(const char *name, const char *value, enum layout layout)
{
    struct field fields[FIELDS_MAX] = {{0}};
    size_t n = 0;
    for (size_t i = 0; x509[i].name; i++) {
        if (strcmp(x509[i].name, name) != 0) {
            fields[n++] = x509[i];
        }
    }
    if (value) {
        fields[n++] = (struct field){name, value};
    }
    return read_key(fields, layout);
}

static const struct service_key *good_x509(const char *name, const char *value, enum layout layout)
{
    const struct service_key *key = read_x509(name, value, layout);
    if (!key) {
        fail_msg("%s=%s: %s", name, value ? value : "", err.text);
    }
    return key;
}

static void test_certificates(void **state)
{
    (void)state;
    static const struct field same[] = {
        {"credential-type", "X509_GENERATED"},
        {"credential-type", "X509_PROVIDED"},
        {"credential-type", NULL},
        {"clientsecret", "is of no account"},
        {"certurl", CERT_URL "/"},
        {"certificate", CHAIN "\n"},
        {"key", PRIVATE_KEY "\r\n"},
    };
    for (enum layout l = 0; l < LAYOUTS; l++) {
        const struct service_key *key = good_x509("", NULL, l);
        assert_string_equal(key->token_url, CERT_URL "/oauth/token");
        assert_string_equal(key->certificate, CHAIN);
        assert_string_equal(key->private_key.p, PRIVATE_KEY);
        assert_null(key->client_secret.p);
        assert_false(key->ias);
        assert_true(service_key_complete(key));
        for (size_t i = 0; i < ARRAY_LEN(same); i++) {
            const struct service_key *other = good_x509(same[i].name, same[i].value, l);
            assert_true(service_key_equal(key, other));
            service_key_unref(other);
        }
        service_key_unref(key);
    }
    const struct service_key *key = good_x509("certificate", "Bag\r\n" CHAIN, WHOLE);
    const struct service_key *other = good_x509("key", PEM("PRIVATE KEY", "a2V5"), WHOLE);
    const struct service_key *secret = read_key(good, WHOLE);
    assert_string_equal(key->certificate, "Bag\r\n" CHAIN);
    assert_false(service_key_equal(key, other));
    assert_false(service_key_equal(key, secret));
    assert_true(service_key_complete(secret));
    service_key_unref(key);
    service_key_unref(other);
    service_key_unref(secret);
}

static void test_refused_certificates(void **state)
{
    (void)state;
    static char longest[40 * 1024];
    memset(longest, 'x', sizeof(longest) - 1);
    static const struct {
        const char *name, *value, *complaint;
    } rows[] = {
        {"certurl", NULL, "\"certurl\""},
        {"certurl", "h1dd3n", "\"certurl\""},
        {"certificate", NULL, " is missing"},
        {"certificate", "h1dd3n", " is not PEM: it must have the lines"},
        {"certificate", PRIVATE_KEY, " is not PEM: it must have the lines \"-----BEGIN CERT"},
        {"certificate", "-----BEGIN CERTIFICATE-----\nh1dd3n", " is not PEM: it must have"},
        {"certificate", "-----BEGIN CERTIFICATE-----h1dd3n-----END CERTIFICATE-----",
         " is not PEM: its lines have become one; copy it with its line breaks"},
        {"certificate", PEM("CERTIFICATE", "h1dd3n\t"), " is not PEM: it contains a control"},
        {"key", "h1dd3n", " is not PEM: it must have the lines \"-----BEGIN PRIVATE KEY-----\""},
        {"key", CHAIN, " is not PEM: it must have the lines \"-----BEGIN PRIVATE KEY-----\""},
        {"key", longest, " is longer than 32768 octets"},
        {"key", PEM("ENCRYPTED PRIVATE KEY", "h1dd3n"), " is encrypted; it can only be used"},
        {"key", PEM("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nh1dd3n"), " is encrypted;"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (enum layout l = ENTRIES_PLAIN; l < LAYOUTS; l += WHOLE_PLAIN - ENTRIES_PLAIN) {
            if (read_x509(rows[i].name, rows[i].value, l)) {
                fail_msg("accepted: %s=%s", rows[i].name, rows[i].value);
            }
            if (!strstr(err.text, rows[i].complaint) || !strstr(err.text, rows[i].name)) {
                fail_msg("\"%s\" is not in \"%s\"", rows[i].complaint, err.text);
            }
            assert_null(strstr(err.text, "h1dd3n"));
        }
    }
}

/* The private key may be in another Secret. */
static void test_private_key(void **state)
{
    (void)state;
    static const struct {
        const char *secret, *complaint;
    } rows[] = {
        {"{}", "the entry \"pk.pem\" is missing; it must hold the private key, as PEM, or "
               "secretInternalKey name another one"},
        {"{'stringData':{'pk.pem':''}}", "the entry \"pk.pem\" is missing"},
        {"{'stringData':{'pk.pem':'h1dd3n'}}", "the entry \"pk.pem\" is not PEM"},
        {"{'data':{'pk.pem':'h1dd3n'}}", "the entry \"pk.pem\" is not base64"},
        {"{'data':{'pk.pem':7}}", "the entry \"pk.pem\" is not a string"},
    };
    const struct service_key *key = good_x509("key", NULL, ENTRIES);
    assert_false(service_key_complete(key));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct object o = object_of(rows[i].secret);
        assert_null(service_key_with_private_key(key, o.root, "pk.pem", &err));
        assert_int_equal(err.fail, FAIL_CONFIG);
        if (!strstr(err.text, rows[i].complaint)) {
            fail_msg("\"%s\" is not in \"%s\"", rows[i].complaint, err.text);
        }
        assert_null(strstr(err.text, "h1dd3n"));
        object_free(&o);
    }
    struct object o = object_of("{'stringData':{'pk.pem':'-----BEGIN RSA PRIVATE KEY-----\\na2V5\\n"
                                "-----END RSA PRIVATE KEY-----\\n'}}");
    const struct service_key *whole = service_key_with_private_key(key, o.root, "pk.pem", &err);
    const struct service_key *same = good_x509("", NULL, WHOLE);
    assert_non_null(whole);
    assert_true(service_key_complete(whole));
    assert_true(service_key_equal(whole, same));
    service_key_unref(whole);
    service_key_unref(same);
    service_key_unref(key);
    object_free(&o);
}

/* Keys of Cloud Identity Services are recognised by the host of their url, whatever else they
 * contain. */
static void test_ias(void **state)
{
    (void)state;
    static const char *const urls[][2] = {
        {"https://t.accounts.ondemand.com", "https://t.accounts.ondemand.com/oauth2/token"},
        {"https://t.accounts400.ondemand.com/", "https://t.accounts400.ondemand.com/oauth2/token"},
        {"https://t.accounts.cloud.sap/oauth2/token", "https://t.accounts.cloud.sap/oauth2/token"},
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        const struct service_key *key = good_x509("url", urls[i][0], WHOLE);
        assert_true(key->ias);
        assert_string_equal(key->token_url, urls[i][1]);
        assert_string_equal(key->uri, SERVICE_URL);
        const struct service_key *x = good_x509("", NULL, WHOLE);
        assert_false(service_key_equal(key, x));
        service_key_unref(x);
        service_key_unref(key);
        struct field fields[FIELDS_MAX];
        /* A secret is not enough, because the service needs a certificate. */
        change(fields, "url", urls[i][0]);
        assert_null(read_key(fields, WHOLE));
        assert_non_null(strstr(err.text, "the field \"certificate\""));
    }
}

/* Keys of the Connectivity Proxy need no uri and have their own URL for tokens. */
static void test_connectivity(void **state)
{
    (void)state;
    static const struct {
        struct field more;
        const char *token_url;
    } rows[] = {
        {{"uri", NULL}, TOKEN_URL "/oauth/token"},
        {{"token_service_url", "https://t.example.com"}, "https://t.example.com/oauth/token"},
        {{"token_service_url", "https://t.example.com/oauth/token"},
         "https://t.example.com/oauth/token"},
    };
    use = SERVICE_KEY_CONNECTIVITY;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct field fields[FIELDS_MAX];
        change(fields, rows[i].more.name, rows[i].more.value);
        const struct service_key *key = read_key(fields, WHOLE);
        assert_non_null(key);
        assert_string_equal(key->token_url, rows[i].token_url);
        assert_string_equal(key->uri, "");
        service_key_unref(key);
    }
    const struct service_key *key = good_x509("uri", NULL, WHOLE);
    assert_string_equal(key->token_url, CERT_URL "/oauth/token");
    service_key_unref(key);
    use = SERVICE_KEY_DESTINATION;
}

/* These Secrets are invalid. */
static void test_refused_secrets(void **state)
{
    (void)state;
    static const struct {
        const char *secret, *json_key, *complaint;
    } rows[] = {
        {"7", NULL,
         "the entry \"clientid\" is missing; a Secret that holds the whole service key "
         "as JSON needs the name of its entry as secretKey"},
        {"{}", "", "the entry \"clientid\" is missing"},
        {"{'data':null}", "", "the entry \"clientid\" is missing"},
        {"{'data':{'clientid':null}}", "", "the entry \"clientid\" is missing"},
        {"{'data':{'clientid':7}}", "", "the entry \"clientid\" is not a string"},
        {"{'stringData':{'clientid':{}}}", "", "the entry \"clientid\" is not a string"},
        {"{'data':{'clientid':'h1dd3n'}}", "", "the entry \"clientid\" is not base64"},
        {"{'data':{'clientid':'h1dd3n\\n'}}", "", "the entry \"clientid\" is not base64"},
        {"{'data':{}}", "k", "the entry \"k\" is missing; secretKey must be the entry"},
        {"{'data':{'k':''}}", "k", "the entry \"k\" is missing"},
        {"{'data':{'k':[]}}", "k", "the entry \"k\" is not a string"},
        {"{'data':{'k':'h1dd3n'}}", "k", "the entry \"k\" is not base64"},
        {"{'data':{'k':'aDFkZDNu'}}", "k",
         "the entry \"k\" is not a JSON object; it must be the whole"},
        {"{'stringData':{'k':'h1dd3n'}}", "k", "the entry \"k\" is not a JSON object"},
        {"{'stringData':{'k':'[]'}}", "k", "the entry \"k\" is not a JSON object"},
        {"{'stringData':{'k':'{}'}}", "k\n",
         "the entry \"k?\" is missing; secretKey must be the entry"},
        {"{'stringData':{'k':'{}'}}", "k",
         "the field \"clientid\" in the entry \"k\" is missing; copy the service key as it is"},
        {"{'stringData':{'k':'{\\u0022clientid\\u0022:7}'}}", "k",
         "the field \"clientid\" in the entry \"k\" is not a string"},
        {"{'stringData':{'clientid':'ab\\u0000'}}", "",
         "the entry \"clientid\" contains a control character"},
        {"{'stringData':{'clientid':'i\\u0000d\\u0000'}}", "",
         "the entry \"clientid\" is UTF-16; save it as UTF-8"},
        {"{'data':{'k':'//57AH0A'}}", "k", "the entry \"k\" is UTF-16; save it as UTF-8"},
        {"{'data':{'k':'/v8AewB9'}}", "k", "the entry \"k\" is UTF-16; save it as UTF-8"},
        {"{'data':{'clientid':'YQ=b'}}", "", "the entry \"clientid\" is not base64"},
        {"{'data':{'clientid':'Y==='}}", "", "the entry \"clientid\" is not base64"},
        {"{'data':{'clientid':'YW Jj'}}", "", "the entry \"clientid\" is not base64"},
        {"{'stringData':{'uaa':'h1dd3n'}}", "", "the entry \"uaa\" is not a JSON object"},
        {"{'stringData':{'uaa':'{}'}}", "", "the entry \"clientid\" is missing"},
        {"{'stringData':{'k':'{\\u0022uaa\\u0022:7}'}}", "k",
         "the field \"clientid\" in the entry \"k\" is missing"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct object o = object_of(rows[i].secret);
        assert_null(service_key_from_secret(o.root, rows[i].json_key, use, &err));
        assert_int_equal(err.fail, FAIL_CONFIG);
        if (!strstr(err.text, rows[i].complaint)) {
            fail_msg("\"%s\" is not in \"%s\"", rows[i].complaint, err.text);
        }
        assert_null(strstr(err.text, "h1dd3n"));
        object_free(&o);
    }
}

/* stringData takes precedence, as it does when the API server merges it into data. */
static void test_string_data_wins(void **state)
{
    (void)state;
    struct object o =
        object_of("{'data':{'clientid':'aWQ=','clientsecret':'b2xk','url':'aHR0cHM6Ly91',"
                  "'uri':'aHR0cHM6Ly92'},'stringData':{'clientsecret':'new','uri':null}}");
    const struct service_key *key = service_key_from_secret(o.root, NULL, use, &err);
    assert_non_null(key);
    assert_string_equal(key->client_id, "id");
    assert_string_equal(key->client_secret.p, "new");
    assert_string_equal(key->token_url, "https://u/oauth/token");
    assert_string_equal(key->uri, "https://v");
    service_key_unref(key);
    object_free(&o);
}

/* All forms in which tools write a service key give the same fields. */
static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *secret, *json_key;
    } rows[] = {
        /* the output of "cf service-key" */
        {"{'stringData':{'k':'{\\u0022credentials\\u0022:{\\u0022clientid\\u0022:\\u0022id\\u0022,"
         "\\u0022clientsecret\\u0022:\\u0022old\\u0022,\\u0022url\\u0022:\\u0022https://u\\u0022,"
         "\\u0022uri\\u0022:\\u0022https://v\\u0022}}'}}",
         "k"},
        /* client and authorization server in different objects; the other url is not the
         * authorization server's */
        {"{'stringData':{'k':'{\\u0022uaa\\u0022:{\\u0022clientid\\u0022:\\u0022id\\u0022,"
         "\\u0022clientsecret\\u0022:\\u0022old\\u0022,\\u0022url\\u0022:\\u0022https://u\\u0022},"
         "\\u0022url\\u0022:\\u0022https://x\\u0022,\\u0022uri\\u0022:\\u0022https://v\\u0022}'}}",
         "k"},
        {"{'stringData':{'uaa':'{\\u0022clientid\\u0022:\\u0022id\\u0022,"
         "\\u0022clientsecret\\u0022:\\u0022old\\u0022,\\u0022url\\u0022:\\u0022https://u\\u0022}',"
         "'url':'https://x','uri':'https://v'}}",
         NULL},
        /* with a client beside it "uaa" is ignored */
        {"{'stringData':{'uaa':'h1dd3n','clientid':'id','clientsecret':'old','url':'https://u',"
         "'uri':'https://v'}}",
         NULL},
        /* blanks around values, and a byte order mark */
        {"{'stringData':{'clientid':'\\uFEFFid \\n','clientsecret':'\\t old\\r\\n','url':' "
         "https://u ',"
         "'uri':'https://v\\n\\n'}}",
         NULL},
        /* base64 in several lines, and with unused bits that are set */
        {"{'data':{'clientid':'aW\\r\\nQ=\\n','clientsecret':'b2\\nxk\\n','url':'"
         "aHR0cHM6\\r\\nLy91',"
         "'uri':'aHR0cHM6Ly92'}}",
         NULL},
        {"{'data':{'clientid':'aWR=','clientsecret':'b2xk','url':'aHR0cHM6Ly91','uri':'"
         "aHR0cHM6Ly92'}}",
         NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct object o = object_of(rows[i].secret);
        const struct service_key *key =
            service_key_from_secret(o.root, rows[i].json_key, use, &err);
        if (!key) {
            fail_msg("%zu: %s", i, err.text);
        }
        assert_string_equal(key->client_id, "id");
        assert_string_equal(key->client_secret.p, "old");
        assert_string_equal(key->token_url, "https://u/oauth/token");
        assert_string_equal(key->uri, "https://v");
        service_key_unref(key);
        object_free(&o);
    }
}

static void test_entry_bound(void **state)
{
    (void)state;
    enum { BOUND = 64 * 1024 };
    static char spaces[BOUND + 2], text[BOUND + 1024];
    static const char object[] = "{\\u0022clientid\\u0022:\\u0022i\\u0022,"
                                 "\\u0022clientsecret\\u0022:\\u0022s\\u0022,"
                                 "\\u0022url\\u0022:\\u0022http://u\\u0022,"
                                 "\\u0022uri\\u0022:\\u0022http://v\\u0022}";
    size_t decoded =
        strlen("{'clientid':'i','clientsecret':'s','url':'http://u','uri':'http://v'}");
    memset(spaces, ' ', sizeof(spaces) - 1);
    for (size_t more = 0; more < 2; more++) {
        text_fmt(text, sizeof(text), "{'stringData':{'k':'%s%.*s'}}", object,
                 (int)(BOUND - decoded + more), spaces);
        struct object o = object_of(text);
        const struct service_key *key = service_key_from_secret(o.root, "k", use, &err);
        assert_int_equal(key != NULL, more == 0);
        service_key_unref(key);
        object_free(&o);
    }
    assert_non_null(strstr(err.text, "the entry \"k\" is longer than 65536 octets"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),          cmocka_unit_test(test_equal),
        cmocka_unit_test(test_values),           cmocka_unit_test(test_refused_fields),
        cmocka_unit_test(test_certificates),     cmocka_unit_test(test_refused_certificates),
        cmocka_unit_test(test_private_key),      cmocka_unit_test(test_ias),
        cmocka_unit_test(test_connectivity),     cmocka_unit_test(test_refused_secrets),
        cmocka_unit_test(test_string_data_wins), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_entry_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
