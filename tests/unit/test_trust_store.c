/* Tests core/trust_store: which files are read, and what is said about the others. */
#include "core/trust_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/destination.h"
#include "core/properties.h"
#include "lib/json.h"
#include "lib/mem.h"
#include "lib/tls_roots.h"
#include "tests/unit/world/tls_peer.h"

enum { FILE_MAX = 2 * TRUST_STORE_MAX };

static struct destination_problem problem;

static struct str contents(const char *file)
{
    static char text[FILE_MAX];
    char path[64];
    tls_peer_path(path, sizeof(path), file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text), f);
    fclose(f);
    return (struct str){text, n};
}

/* Returns a destination; `members` are more properties, `outer` stands beside them. */
static const struct destination *make(const char *members, const char *outer)
{
    size_t cap = strlen(members) + strlen(outer) + 1024;
    char *text = mem_alloc(cap);
    text_fmt(text, cap,
             "{\"destinationConfiguration\": {\"Name\": \"inbox\", \"Type\": \"MAIL\","
             " \"ProxyType\": \"Internet\", \"mail.transport.protocol\": \"pop3s\","
             " \"mail.pop3s.host\": \"mail.test\", \"mail.user\": \"a\","
             " \"mail.password\": \"b\"%s}%s}",
             members, outer);
    struct error err;
    struct json *doc = json_parse(str_of(text), &err);
    assert_non_null(doc);
    struct properties *props = properties_from_json(json_root(doc), &err);
    assert_non_null(props);
    json_free(doc);
    free(text);
    const struct destination *dest = destination_new(props, false, &problem);
    properties_free(props);
    return dest;
}

#define NAMED(name) ", \"TrustStoreLocation\": \"" name "\""

/* Returns a destination whose trust store is the file. */
static const struct destination *with_file(const char *members, const char *name, struct str file)
{
    char *coded = mem_alloc(TEXT_BASE64_SIZE(file.n));
    char *outer = mem_alloc(TEXT_BASE64_SIZE(file.n) + 200);
    text_base64(coded, file.p, file.n);
    text_fmt(outer, TEXT_BASE64_SIZE(file.n) + 200,
             ", \"certificates\": [{\"Name\": \"%s\", \"Content\": \"%s\","
             " \"Type\": \"CERTIFICATE\"}]",
             name, coded);
    const struct destination *dest = make(members, outer);
    free(coded);
    free(outer);
    return dest;
}

static void refused(const struct destination *dest, const char *said)
{
    assert_null(dest);
    assert_int_equal(problem.verdict, VERDICT_TRUST_STORE_INVALID);
    assert_string_equal(problem.field, "TrustStoreLocation");
    if (!strstr(problem.text, said)) {
        fail_msg("\"%s\" does not say \"%s\"", problem.text, said);
    }
}

static void trusts(const struct destination *dest, size_t n)
{
    if (!dest) {
        fail_msg("%s: %s", problem.field, problem.text);
    }
    assert_non_null(dest->trust_store);
    assert_int_equal(tls_roots_count(dest->trust_store), n);
    destination_unref(dest);
}

static void test_files(void **state)
{
    (void)state;
    trusts(with_file(NAMED("a.pem"), "a.pem", contents("ca.crt")), 1);
    trusts(with_file(NAMED("a.crt"), "a.crt", contents("chain.whole")), 2);
    trusts(with_file(NAMED("a.CER"), "a.CER", contents("ca.crt")), 1);
    trusts(with_file(NAMED("a.der"), "a.der", contents("ca.der")), 1);
    trusts(with_file(NAMED("a.cer"), "a.cer", contents("ca.der")), 1);
    trusts(with_file(NAMED(" a.pem "), "a.pem", contents("ca.crt")), 1);

    const struct destination *a = with_file(NAMED("a.pem"), "a.pem", contents("ca.crt"));
    const struct destination *b = with_file(NAMED("b.der"), "b.der", contents("ca.der"));
    const struct destination *c = with_file(NAMED("a.pem"), "a.pem", contents("other.crt"));
    const struct destination *none = make("", "");
    assert_null(none->trust_store);
    assert_true(destination_equal(a, b));
    assert_false(destination_equal(a, c));
    assert_false(destination_equal(a, none));
    assert_false(destination_equal(none, a));
    destination_unref(a);
    destination_unref(b);
    destination_unref(c);
    destination_unref(none);
}

/* The file among others: members in lower case, base64 in lines, and elements that are no files. */
static void test_certificates(void **state)
{
    (void)state;
    static char coded[FILE_MAX], outer[FILE_MAX];
    struct str file = contents("ca.crt");
    size_t n = text_base64(coded, file.p, file.n);
    text_fmt(outer, sizeof(outer),
             ", \"certificates\": [null, 1, {\"Name\": \"a.pem\"}, {\"Content\": \"\"},"
             " {\"Name\": 1, \"Content\": \"\"}, {\"Name\": \"A.pem\", \"Content\": \"!\"},"
             " {\"name\": \"a.pem\", \"content\": \"%.64s\\r\\n%.*s\\n\"}]",
             coded, (int)n - 64, coded + 64);
    trusts(make(NAMED("a.pem"), outer), 1);

    static const char *const others[] = {"", ", \"certificates\": null", ", \"certificates\": {}",
                                         ", \"certificates\": []"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        refused(make(NAMED("a.pem"), others[i]),
                "\"a.pem\" is not among the certificates that came with the destination; upload");
        destination_unref(make("", others[i]));
    }
}

/* Like an export of the cockpit, the properties may stand alone; then the files are among them. */
static void test_flat(void **state)
{
    (void)state;
    struct error err;
    static const char text[] = "{\"Type\": \"MAIL\", \"certificates\": [{\"Name\": \"a.pem\","
                               " \"Content\": \"eHg=\"}]}";
    struct json *doc = json_parse(str_of(text), &err);
    struct properties *props = properties_from_json(json_root(doc), &err);
    json_free(doc);
    size_t n;
    assert_int_equal(props->n, 1);
    assert_string_equal(properties_certificate(props, str_of("a.pem"), &n), "eHg=");
    assert_int_equal(n, 4);
    assert_null(properties_certificate(props, str_of("b.pem"), &n));
    properties_free(props);
}

static void test_refused(void **state)
{
    (void)state;
    static char large[TRUST_STORE_MAX + 1];
    struct str pem = contents("ca.crt");
    memset(large, '\n', sizeof(large));
    memcpy(large, pem.p, pem.n);
    trusts(with_file(NAMED("a.pem"), "a.pem", (struct str){large, TRUST_STORE_MAX}), 1);
    refused(with_file(NAMED("a.pem"), "a.pem", (struct str){large, sizeof(large)}),
            "\"a.pem\" has more than 32768 bytes; keep only");

    static const char *const key_stores[] = {NAMED("a.jks"), NAMED("a.P12"), NAMED("a.pfx"),
                                             NAMED("a.keystore")};
    for (size_t i = 0; i < ARRAY_LEN(key_stores); i++) {
        refused(make(key_stores[i], ""), "is a key store, which is not read; upload its "
                                         "certificates as a PEM file");
    }
    refused(make(NAMED("a.txt"), ""), "does not end in .pem, .crt, .cer or .der");
    refused(make(NAMED(".pem"), ""), "does not end in .pem, .crt, .cer or .der");
    refused(make(NAMED("a.pem"), ", \"certificates\": [{\"Name\": \"a.pem\", \"Content\": \"!\"}]"),
            "\"a.pem\" is damaged: its Content is not base64; upload it again");
    refused(make(NAMED("a.pem"), ", \"certificates\": [{\"Name\": \"a.pem\", \"Content\": \"\"}]"),
            "\"a.pem\" is empty; upload");
    refused(with_file(NAMED("a.pem"), "a.pem", contents("empty.pem")),
            "\"a.pem\" is neither PEM nor DER");
    refused(with_file(NAMED("a.pem"), "a.pem", contents("good.key")),
            "\"a.pem\" has no usable certificate");
    refused(with_file(NAMED("a.pem"), "a.pem", contents("strange.crt")),
            "\"a.pem\" has no usable certificate: certificate 1 (Strange CA) cannot be used: it "
            "has the critical extension 1.2.3.4, which is not supported; upload");
}

/* Certificates that cannot be used are left out, and it is said. */
static void test_left_out(void **state)
{
    (void)state;
    const struct destination *dest = with_file(NAMED("a.pem"), "a.pem", contents("strange.pem"));
    assert_int_equal(tls_roots_count(dest->trust_store), 2);
    assert_int_equal(dest->n_warnings, 1);
    assert_non_null(strstr(dest->warnings[0], "TrustStoreLocation: \"a.pem\": certificate 2 "
                                              "(Strange CA) cannot be used"));
    destination_unref(dest);
}

/* A file that was cut off at any place, or lengthened, is not a certificate. */
static void test_cut(void **state)
{
    (void)state;
    static const char *const files[] = {"ca.crt", "ca.der"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct str file = contents(files[i]);
        size_t whole = file.n - (i == 0); /* the last line needs no end */
        for (size_t n = 0; n < whole; n++) {
            refused(with_file(NAMED("a.pem"), "a.pem", (struct str){file.p, n}), "\"a.pem\" ");
        }
        trusts(with_file(NAMED("a.pem"), "a.pem", (struct str){file.p, whole}), 1);
    }
    static char longer[FILE_MAX];
    struct str file = contents("ca.der");
    memcpy(longer, file.p, file.n);
    refused(with_file(NAMED("a.der"), "a.der", (struct str){longer, file.n + 1}),
            "is neither PEM nor DER");
}

/* Any octet of a certificate may be damaged. */
static void test_damaged(void **state)
{
    (void)state;
    static char damaged[FILE_MAX];
    struct str file = contents("ca.der");
    for (size_t i = 0; i < file.n; i++) {
        memcpy(damaged, file.p, file.n);
        damaged[i] ^= (char)0xFF;
        const struct destination *dest =
            with_file(NAMED("a.der"), "a.der", (struct str){damaged, file.n});
        assert_true(dest || problem.verdict == VERDICT_TRUST_STORE_INVALID);
        destination_unref(dest);
    }
}

/* No certificate is checked, so none has to be trusted. */
static void test_unchecked(void **state)
{
    (void)state;
    const struct destination *dest = make(NAMED("a.jks") ", \"mail.pop3s.ssl.trust\": \"*\"", "");
    assert_non_null(dest);
    assert_null(dest->trust_store);
    assert_string_equal(dest->warnings[1],
                        "TrustStoreLocation is ignored: any certificate is accepted");
    destination_unref(dest);
    destination_unref(make(NAMED(""), ""));
}

static int start_peer(void **state)
{
    (void)state;
    return tls_peer_start() == ERR ? -1 : 0;
}

static int stop_peer(void **state)
{
    (void)state;
    return tls_peer_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),    cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_flat),     cmocka_unit_test(test_refused),
        cmocka_unit_test(test_left_out), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_damaged),  cmocka_unit_test(test_unchecked),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
