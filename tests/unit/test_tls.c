/* Tests lib/tls against OpenSSL: tls_peer.py makes certificates and serves, lib/tls is the
 * client. */
#include "lib/tls.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/gcm.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls_bundle.h"
#include "lib/tls_roots.h"
#include "tests/unit/world/tls_link.h"

static struct tls_roots *roots;

static int start_peer(void **state)
{
    char path[64];
    (void)state;
    if (tls_peer_start() == ERR) {
        return -1;
    }
    tls_peer_path(path, sizeof(path), "ca.crt");
    roots = tls_bundle_load(path, NULL);
    return roots ? 0 : -1;
}

static int stop_peer(void **state)
{
    (void)state;
    tls_roots_unref(roots);
    return tls_peer_stop();
}

static struct tls_client *client_for(const struct tls_settings *settings)
{
    struct error err;
    struct tls_client *client = tls_client_new(roots, settings, &err);
    assert_non_null(client);
    return client;
}

static struct tls_client *client_of(const char *host)
{
    return client_for(&(struct tls_settings){.host = host, .check_host = true});
}

/* Makes a connection, asks the server for its view of the session, and compares it with ours.
 * Returns whether the session was resumed. */
static bool session(struct tls_client *client, const char *server, const char *version,
                    size_t chunk)
{
    struct link l = {.chunk = chunk};
    char answer[64], expected[64];
    link_connect(&l, server, client);
    if (link_handshake(&l) != OK) {
        fail_msg("%s: %s", server, l.err.text);
    }
    assert_string_equal(version, tls_version_name(l.tls));
    bool resumed = tls_resumed(l.tls);
    link_say(&l, "INFO\n");
    size_t n = link_read(&l, answer, sizeof(answer) - 1);
    answer[n] = '\0';
    text_fmt(expected, sizeof(expected), "%s %d\n", version, resumed);
    assert_string_equal(expected, answer);
    assert_false(l.truncated);
    tls_shutdown(l.tls);
    link_close(&l);
    return resumed;
}

/* Checks that the handshake fails with this class and with a text that contains `text`. */
static void refused_by(struct tls_client *client, const char *server, enum fail class,
                       const char *text)
{
    struct link l = {0};
    size_t n;
    bool more;
    link_connect(&l, server, client);
    assert_int_equal(ERR, link_handshake(&l));
    if (!strstr(l.err.text, text)) {
        fail_msg("\"%s\" not in \"%s\"", text, l.err.text);
    }
    assert_int_equal(class, l.err.fail);
    struct error again;
    assert_int_equal(ERR, tls_handshake(l.tls, &more, &again));
    assert_string_equal(l.err.text, again.text);
    assert_int_equal(ERR, tls_write(l.tls, "x", 1, &l.err));
    assert_int_equal(ERR, tls_read(l.tls, &more, 1, &n, &l.truncated, &l.err));
    assert_false(tls_resumed(l.tls));
    link_close(&l);
}

static void refused(const struct tls_settings *settings, const char *server, enum fail class,
                    const char *text)
{
    struct tls_client *client = client_for(settings);
    refused_by(client, server, class, text);
    tls_client_unref(client);
}

static void accepted(const struct tls_settings *settings, const char *server)
{
    struct tls_client *client = client_for(settings);
    struct link l = {0};
    link_connect(&l, server, client);
    if (link_handshake(&l) != OK) {
        fail_msg("%s: %s", server, l.err.text);
    }
    link_close(&l);
    tls_client_unref(client);
}

static void test_versions(void **state)
{
    (void)state;
    struct tls_client *client = client_of("mail.test");
    assert_false(session(client, "v12", "TLSv1.2", 0));
    tls_client_unref(client);
    client = client_of("mail.test");
    assert_false(session(client, "v13", "TLSv1.3", 0));
    tls_client_unref(client);
    client = client_of("mail.test");
    assert_false(session(client, "any", "TLSv1.3", 0));
    tls_client_unref(client);
    client = client_for(&(struct tls_settings){.host = "mail.test", .max = TLS_VERSION_1_2});
    assert_false(session(client, "any", "TLSv1.2", 0));
    tls_client_unref(client);
    client = client_of("mail.test");
    assert_false(session(client, "rsa", "TLSv1.2", 0)); /* also with CBC and SHA-384 */
    tls_client_unref(client);
}

static void test_version_mismatch(void **state)
{
    (void)state;
    refused(&(struct tls_settings){.host = "mail.test", .min = TLS_VERSION_1_3}, "v12", FAIL_TLS,
            "the server speaks none of the TLS versions allowed here");
    refused(&(struct tls_settings){.host = "mail.test", .max = TLS_VERSION_1_2}, "v13", FAIL_TLS,
            "the server speaks none of the TLS versions allowed here");
}

static void test_records_in_pieces(void **state)
{
    (void)state;
    for (size_t chunk = 1; chunk <= 7; chunk += 2) {
        struct tls_client *client = client_of("mail.test");
        session(client, "v12", "TLSv1.2", chunk);
        session(client, "v12", "TLSv1.2", chunk);
        tls_client_unref(client);
        client = client_of("mail.test");
        session(client, "v13", "TLSv1.3", chunk);
        session(client, "v13", "TLSv1.3", chunk);
        tls_client_unref(client);
    }
}

static void test_resumption_1_2(void **state)
{
    (void)state;
    static const char *const kinds[] = {"v12", "v12cache"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct tls_client *client = client_of("mail.test");
        assert_false(session(client, kinds[i], "TLSv1.2", 0));
        for (int n = 0; n < 3; n++) {
            assert_true(session(client, kinds[i], "TLSv1.2", 0));
        }
        struct tls_client *stranger = client_of("mail.test");
        assert_false(session(stranger, kinds[i], "TLSv1.2", 0));
        tls_client_unref(stranger);
        tls_client_unref(client);
    }
}

static void test_resumption_1_3(void **state)
{
    (void)state;
    static const char *const kinds[] = {"v13", "v13stateful", "any"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct tls_client *client = client_of("mail.test");
        assert_false(session(client, kinds[i], "TLSv1.3", 0));
        for (int n = 0; n < 6; n++) {
            assert_true(session(client, kinds[i], "TLSv1.3", 0));
        }
        struct tls_client *stranger = client_of("mail.test");
        assert_false(session(stranger, kinds[i], "TLSv1.3", 0));
        tls_client_unref(stranger);
        tls_client_unref(client);
    }
}

/* Checks what is told of a session that accepts any certificate. */
static void shows(struct tls_client *client, const char *server, const char *cipher,
                  const char *names, const char *until)
{
    struct link l = {0};
    char said[TLS_CIPHER_SIZE];
    link_connect(&l, server, client);
    assert_int_equal(OK, link_handshake(&l));
    if (cipher) {
        assert_string_equal(cipher, tls_cipher_name(l.tls, said));
    }
    assert_string_equal(names, tls_shown(l.tls)->names);
    if (until) {
        assert_string_equal(until, tls_shown(l.tls)->until);
    }
    link_close(&l);
}

static void test_shown(void **state)
{
    (void)state;
    static const char names[] = "mail.test, *.wild.test, 127.0.0.1 and 1 more";
    struct tls_client *client = client_for(&(struct tls_settings){.host = "", .trust_any = true});
    struct link l = {0};
    link_connect(&l, "expired", client);
    assert_null(tls_shown(l.tls));
    link_close(&l);
    shows(client, "expired", NULL, names, "2020-01-31T00:00:00Z");
    shows(client, "cnonly", NULL, "mail.test", NULL);
    shows(client, "many", NULL, "h0.test, h1.test, h2.test and 37 more", NULL);
    shows(client, "rsa", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", names, NULL);
    tls_client_unref(client);
}

/* A resumed session shows no certificate: that of the full handshake is told. */
static void test_shown_before(void **state)
{
    (void)state;
    static const char *const kinds[] = {"v12", "v13"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct tls_client *client = client_of("mail.test");
        assert_false(session(client, kinds[i], i ? "TLSv1.3" : "TLSv1.2", 0));
        shows(client, kinds[i], i ? "TLS_AES_256_GCM_SHA384" : NULL,
              "mail.test, *.wild.test, 127.0.0.1 and 1 more", NULL);
        assert_true(session(client, kinds[i], i ? "TLSv1.3" : "TLSv1.2", 0));
        tls_client_unref(client);
    }
}

static void test_address_resumes_too(void **state)
{
    (void)state;
    struct tls_client *client = client_of("127.0.0.1");
    assert_false(session(client, "v13", "TLSv1.3", 0));
    assert_true(session(client, "v13", "TLSv1.3", 0));
    tls_client_unref(client);
}

static void test_tickets_serve_once(void **state)
{
    (void)state;
    enum { TICKETS = 2 }; /* the number that OpenSSL sends after a full handshake */
    struct tls_client *client = client_of("mail.test");
    struct link links[TICKETS + 1] = {0};
    session(client, "v13", "TLSv1.3", 0);
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        link_connect(&links[i], "v13", client);
        assert_int_equal(OK, link_handshake(&links[i]));
        assert_int_equal(i < TICKETS, tls_resumed(links[i].tls));
    }
    for (size_t i = 0; i < ARRAY_LEN(links); i++) {
        link_close(&links[i]);
    }
    tls_client_unref(client);
}

/* The server has forgotten the session, and since then supports TLS 1.3. */
static void test_declined_session(void **state)
{
    (void)state;
    struct tls_client *client = client_of("mail.test");
    assert_false(session(client, "v12", "TLSv1.2", 0));
    assert_false(session(client, "any", "TLSv1.2", 0));
    assert_false(session(client, "any", "TLSv1.3", 0));
    assert_true(session(client, "any", "TLSv1.3", 0));
    tls_client_unref(client);
}

/* Servers with one name have no version in common: after one failure no session is offered. */
static void test_mixed_servers(void **state)
{
    (void)state;
    static const char *const orders[][2] = {{"v12", "v13"}, {"v13", "v12"}};
    for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
        const char *const *order = orders[i];
        struct tls_client *client = client_of("mail.test");
        session(client, order[0], i ? "TLSv1.3" : "TLSv1.2", 0);
        refused_by(client, order[1], FAIL_TLS, "not speak the TLS version of the session before");
        for (int n = 0; n < 2; n++) {
            assert_false(session(client, order[0], i ? "TLSv1.3" : "TLSv1.2", 0));
            assert_false(session(client, order[1], i ? "TLSv1.2" : "TLSv1.3", 0));
        }
        tls_client_unref(client);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"mail.test",      "MAIL.Test",      "mail.test.",
                                       "a.wild.test",    "127.0.0.1",      "2001:db8::25",
                                       "[2001:db8::25]", "2001:0DB8::0:25"};
    static const char *const bad[] = {"other.test", "a.b.wild.test", "wild.test", "mail.tes",
                                      ".wild.test", "127.0.0.2",     "::1",       "mail"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        accepted(&(struct tls_settings){.host = good[i], .check_host = true}, "any");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        refused(&(struct tls_settings){.host = bad[i], .check_host = true}, "any", FAIL_CERT,
                "it is for mail.test, *.wild.test, 127.0.0.1 and 1 more, not for ");
        accepted(&(struct tls_settings){.host = bad[i]}, "any");
    }
    refused(&(struct tls_settings){.host = "127.0.0.1", .check_host = true}, "many", FAIL_CERT,
            "it is for h0.test, h1.test, h2.test and 37 more, not for 127.0.0.1");
    refused(&(struct tls_settings){.host = "mail.test", .check_host = true}, "cnonly", FAIL_CERT,
            "no subject alternative name, and its common name (mail.test) does not count");
}

static void test_bad_certificates(void **state)
{
    (void)state;
    static const struct {
        const char *server, *text;
    } cases[] = {
        {"expired", "it expired on 2020-01-31"},
        {"future", "it is not valid before 2099-01-01"},
        {"unknown", "not trusted: issuer Other CA is not among /tmp/tls_peer."},
        {"self", "not trusted: issuer self is not among /tmp/tls_peer."},
        {"weak", "it has, or is signed with, a weak or unknown kind of key"},
        {"purpose", "it is not meant for servers (key usage)"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct tls_settings s = {.host = "mail.test", .check_host = true};
        refused(&s, cases[i].server, FAIL_CERT, cases[i].text);
        s.max = TLS_VERSION_1_2;
        refused(&s, cases[i].server, FAIL_CERT, cases[i].text);
        s.check_host = false;
        refused(&s, cases[i].server, FAIL_CERT, cases[i].text);
        s.trust_any = true;
        accepted(&s, cases[i].server);
        s.check_host = true;
        accepted(&s, cases[i].server);
        s.host = "other.test";
        refused(&s, cases[i].server, FAIL_CERT, "not for other.test");
        s.max = TLS_VERSION_ANY;
        refused(&s, cases[i].server, FAIL_CERT, "not for other.test");
    }
    refused(&(struct tls_settings){.host = "x.test", .check_host = true}, "unknown", FAIL_CERT,
            "; it is for mail.test");
}

static void test_chains(void **state)
{
    (void)state;
    struct tls_settings settings = {.host = "mail.test", .check_host = true};
    accepted(&settings, "chain");
    refused(&settings, "halfchain", FAIL_CERT, "it is not trusted: issuer Middle CA is not among");
    refused(&settings, "oldchain", FAIL_CERT,
            "refused: CA certificate Old CA expired on 2020-01-31");
}

static struct tls_roots *load(const char *file, struct error *err)
{
    char path[64];
    tls_peer_path(path, sizeof(path), file);
    return tls_bundle_load(path, err);
}

/* The bundle may contain a server's own certificate, even one that is not a CA; other text around
 * it is ignored. */
static void test_own_certificate_in_bundle(void **state)
{
    (void)state;
    struct error err;
    struct tls_roots *saved = roots;
    roots = load("junk.pem", &err);
    assert_non_null(roots);
    assert_int_equal(2, tls_roots_count(roots));
    accepted(&(struct tls_settings){.host = "mail.test", .check_host = true}, "self");
    accepted(&(struct tls_settings){.host = "mail.test", .check_host = true}, "any");
    refused(&(struct tls_settings){.host = "x.test", .check_host = true}, "self", FAIL_CERT,
            "refused: it is for mail.test");
    tls_roots_unref(roots);
    roots = load("expired.crt", &err); /* signed by a CA that is not in the bundle */
    refused(&(struct tls_settings){.host = "mail.test", .check_host = true}, "expired", FAIL_CERT,
            "refused: it expired on 2020-01-31");
    tls_roots_unref(roots);
    roots = saved;
}

static void test_roots(void **state)
{
    (void)state;
    struct error err;
    char path[64];
    assert_null(load("missing.pem", &err));
    assert_int_equal(FAIL_CONFIG, err.fail);
    assert_non_null(strstr(err.text, "missing.pem: cannot read the CA certificates: No such file"));
    assert_null(load("empty.pem", &err));
    assert_non_null(strstr(err.text, "empty.pem: no usable CA certificate"));
    assert_null(load(".", &err));
    tls_peer_path(path, sizeof(path), "ca.crt");
    setenv("SSL_CERT_FILE", path, 1);
    struct tls_roots *found = tls_bundle_load(NULL, &err);
    assert_string_equal(path, tls_roots_path(found));
    assert_int_equal(1, tls_roots_count(found));
    tls_roots_unref(found);
    setenv("SSL_CERT_FILE", "/missing", 1);
    assert_null(tls_bundle_load(NULL, &err));
    unsetenv("SSL_CERT_FILE");
}

static struct str text_of(const char *file)
{
    static char text[32768];
    char path[64];
    tls_peer_path(path, sizeof(path), file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof(text), f);
    fclose(f);
    return (struct str){text, n};
}

/* New roots trust what both parts trust; the parts stay unchanged. */
static void test_roots_added(void **state)
{
    (void)state;
    char path[64];
    struct error err;
    struct tls_settings settings = {.host = "mail.test", .check_host = true};
    struct tls_roots *saved = roots;
    struct tls_roots *more = tls_roots_add(roots, "additionalCAs", text_of("other.crt"), &err);
    assert_non_null(more);
    assert_int_equal(tls_roots_count(more), 2);
    assert_int_equal(tls_roots_count(roots), 1);
    tls_peer_path(path, sizeof(path), "ca.crt, additionalCAs");
    assert_string_equal(tls_roots_path(more), path);
    refused(&settings, "unknown", FAIL_CERT, "it is not trusted: issuer Other CA is not among");
    roots = more;
    accepted(&settings, "unknown");
    accepted(&settings, "any");
    refused(&settings, "self", FAIL_CERT, "ca.crt, additionalCAs");

    struct tls_roots *most = tls_roots_add(more, "Secret \"ca\"", text_of("self.crt"), &err);
    tls_roots_unref(more);
    assert_int_equal(tls_roots_count(most), 3);
    roots = most;
    accepted(&settings, "self");
    accepted(&settings, "unknown");
    tls_roots_unref(most);

    roots = tls_roots_add(NULL, "additionalCAs", text_of("ca.crt"), &err);
    assert_string_equal(tls_roots_path(roots), "additionalCAs");
    accepted(&settings, "any");
    tls_roots_unref(roots);
    roots = saved;
}

/* Unusable certificates are reported; the others are used. */
static void test_unusable_roots_added(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text;
        size_t added; /* 0: all are refused */
    } table[] = {
        {"empty.pem", "additionalCAs: no usable CA certificate (PEM) in it", 0},
        {"good.key", "additionalCAs: no usable CA certificate (PEM) in it", 0},
        {"junk.pem", "certificate 1 (no name) cannot be used: its base64 is damaged or cut off", 2},
        {"edclient.crt",
         "additionalCAs: no usable CA certificate (PEM) in it: certificate 1 (ed client) cannot be "
         "used: its key is of a kind that is not supported",
         0},
        {"strange.crt",
         "additionalCAs: no usable CA certificate (PEM) in it: certificate 1 (Strange CA) cannot "
         "be used: it has the critical extension 1.2.3.4, which is not supported",
         0},
        {"strange.pem",
         "certificate 2 (Strange CA) cannot be used: it has the critical extension 1.2.3.4, which "
         "is "
         "not supported",
         2},
        {"ca.crt", NULL, 1},
    };
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct tls_roots *more =
            tls_roots_add(roots, "additionalCAs", text_of(table[i].file), &err);
        assert_int_equal(more ? tls_roots_count(more) - 1 : 0, table[i].added);
        const char *said = more ? tls_roots_left_out(more, 0) : err.text;
        assert_string_equal(said ? said : "", table[i].text ? table[i].text : "");
        assert_true(more || err.fail == FAIL_CONFIG);
        tls_roots_unref(more);
    }
    /* The lengths of the lines around a certificate, with their ends. */
    enum { BEGIN = 27, END = 26 };
    size_t first = text_of("chain.crt").n;
    struct str both = text_of("chain.whole");
    for (size_t n = BEGIN; n < both.n - END; n += n == first - END ? END + BEGIN : 1) {
        struct tls_roots *more = tls_roots_add(roots, "x", (struct str){both.p, n}, &err);
        assert_true((more != NULL) == (n >= first));
        assert_string_equal(
            more ? tls_roots_left_out(more, 0) : err.text,
            more ? "certificate 2 (no name) cannot be used: its base64 is damaged or cut off"
                 : "x: no usable CA certificate (PEM) in it: certificate 1 (no name) cannot be "
                   "used: its base64 is damaged or cut off");
        tls_roots_unref(more);
    }
    assert_int_equal(tls_roots_count(roots), 1);
}

/* Roots that are made from others report only those added certificates that are unusable. If a
 * chain ends at a root that was left out, the error gives the reason. */
static void test_unusable_root_wanted(void **state)
{
    (void)state;
    struct error err;
    struct tls_roots *saved = roots;
    struct tls_roots *strange = tls_roots_add(saved, "strange", text_of("strange.pem"), &err);
    roots = tls_roots_add(strange, "more", text_of("other.crt"), &err);
    assert_null(tls_roots_left_out(roots, 0));
    refused(&(struct tls_settings){.host = "mail.test", .check_host = true}, "below", FAIL_CERT,
            "issuer Strange CA is in ");
    refused(&(struct tls_settings){.host = "mail.test", .check_host = true}, "below", FAIL_CERT,
            ", but cannot be used: it has the critical extension 1.2.3.4, which is not supported");
    tls_roots_unref(roots);
    tls_roots_unref(strange);
    roots = saved;
}

static void test_without_roots(void **state)
{
    (void)state;
    struct tls_roots *saved = roots;
    roots = NULL;
    refused(&(struct tls_settings){.host = "mail.test", .check_host = true}, "any", FAIL_CERT,
            "issuer Test CA is not among the trusted (there are none)");
    accepted(&(struct tls_settings){.host = "mail.test", .trust_any = true}, "any");
    roots = saved;
}

static void test_bad_settings(void **state)
{
    (void)state;
    struct error err;
    char host[300];
    memset(host, 'a', sizeof(host));
    host[sizeof(host) - 1] = '\0';
    assert_null(tls_client_new(roots, &(struct tls_settings){.host = host}, &err));
    assert_int_equal(FAIL_CONFIG, err.fail);
    assert_null(
        tls_client_new(roots, &(struct tls_settings){.host = "", .check_host = true}, &err));
    assert_int_equal(FAIL_CONFIG, err.fail);
    assert_null(tls_client_new(
        roots, &(struct tls_settings){.host = "a", .min = TLS_VERSION_1_3, .max = TLS_VERSION_1_2},
        &err));
    assert_int_equal(FAIL_CONFIG, err.fail);
}

static void test_ends(void **state)
{
    (void)state;
    static const char *const kinds[] = {"v12", "v13"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct tls_client *client = client_of("mail.test");
        struct link polite = {0}, rude = {0};
        char byte[2];
        link_connect(&polite, kinds[i], client);
        assert_int_equal(OK, link_handshake(&polite));
        link_say(&polite, "CLOSE\n");
        assert_int_equal(1, link_read(&polite, byte, 2));
        assert_false(polite.truncated);
        link_connect(&rude, kinds[i], client);
        assert_int_equal(OK, link_handshake(&rude));
        link_say(&rude, "DROP\n");
        assert_int_equal(1, link_read(&rude, byte, 2));
        assert_true(rude.truncated);
        assert_int_equal(0, link_read(&rude, byte, 2));
        tls_shutdown(rude.tls);
        tls_shutdown(rude.tls);
        link_close(&polite);
        link_close(&rude);
        tls_client_unref(client);
    }
}

static void echo(const char *server, size_t n, size_t chunk)
{
    struct tls_client *client = client_of("mail.test");
    struct link l = {.chunk = chunk};
    char command[32], *out = mem_alloc(n), *in = mem_alloc(n + 1);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        out[i] = (char)(x >> 24);
    }
    link_connect(&l, server, client);
    assert_int_equal(OK, link_handshake(&l));
    text_fmt(command, sizeof(command), "ECHO %zu\n", n);
    link_say(&l, command);
    size_t sends = l.sends;
    assert_int_equal(OK, tls_write(l.tls, out, n, &l.err));
    assert_in_range(l.sends - sends, 1, n / 4000 + 1);
    sends = l.sends;
    assert_int_equal(OK, tls_write(l.tls, out, 0, &l.err)); /* sends no record */
    assert_int_equal(sends, l.sends);
    assert_int_equal(n, link_read(&l, in, n + 1));
    assert_memory_equal(out, in, n);
    link_close(&l);
    tls_client_unref(client);
    free(out);
    free(in);
}

static void test_transfers(void **state)
{
    (void)state;
    static const char *const kinds[] = {"v12", "v13", "rsa"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        echo(kinds[i], 1, 0);
        echo(kinds[i], 4096, 0);
        echo(kinds[i], 4097, 1);
        echo(kinds[i], 3000000, 0);
        echo(kinds[i], 300000, 1000);
    }
}

/* Each handshake has two flights from the client, and each flight is sent with one call. */
static void test_flights_leave_whole(void **state)
{
    (void)state;
    static const char *const kinds[] = {"v12", "v13"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct tls_client *client = client_of("mail.test");
        struct link l = {.chunk = 1};
        link_connect(&l, kinds[i], client);
        assert_int_equal(OK, link_handshake(&l));
        assert_int_equal(2, l.sends);
        link_close(&l);
        tls_client_unref(client);
    }
}

/* These servers want another key share than the one we send first (HelloRetryRequest). */
static void test_other_groups(void **state)
{
    (void)state;
    static const char *const kinds[] = {"p384", "x25519"};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct tls_client *client = client_of("mail.test");
        assert_false(session(client, kinds[i], "TLSv1.3", 0));
        assert_true(session(client, kinds[i], "TLSv1.3", 3));
        tls_client_unref(client);
    }
}

/* The server wants a certificate, and we have none. TLS 1.3 reports that only after the
 * handshake. */
static void test_client_certificate_wanted(void **state)
{
    (void)state;
    refused(&(struct tls_settings){.host = "mail.test"}, "client12", FAIL_TLS,
            "the server asked for a client certificate, which we do not have, and ended the TLS "
            "handshake with TLS alert 40");
    struct tls_client *client = client_of("mail.test");
    struct link l = {0};
    char byte;
    size_t n;
    link_connect(&l, "client13", client);
    assert_int_equal(OK, link_handshake(&l));
    wait_readable(&l);
    assert_int_equal(ERR, tls_read(l.tls, &byte, 1, &n, &l.truncated, &l.err));
    assert_int_equal(FAIL_TLS, l.err.fail);
    assert_non_null(strstr(l.err.text, "it wants a client certificate"));
    link_close(&l);
    tls_client_unref(client);
}

static void scripted(const char *script, enum fail class, const char *text)
{
    struct tls_client *client = client_of("mail.test");
    struct link l = {.fd = -1, .script = script};
    link_open(&l, client);
    assert_int_equal(ERR, link_handshake(&l));
    if (!strstr(l.err.text, text)) {
        fail_msg("\"%s\" not in \"%s\"", text, l.err.text);
    }
    assert_int_equal(class, l.err.fail);
    link_close(&l);
    tls_client_unref(client);
}

static void test_not_tls(void **state)
{
    (void)state;
    scripted("+OK POP3 ready\r\n", FAIL_TLS,
             "the server does not speak TLS on this port: its answer begins with \"+OK P\"");
    scripted("+", FAIL_TLS, "does not speak TLS");
    scripted("\x80\x01\x02\x03\x04garbage", FAIL_TLS, "does not speak TLS");
    scripted("", FAIL_TLS, "the server closed the connection during the TLS handshake");
    scripted("\x16\x03\x03", FAIL_TLS, "the server closed the connection");
    scripted("\x16garbage garbage garbage", FAIL_TLS, "the TLS handshake failed: ");
    scripted("\x16\x03\x03\x7f\x7fgarbage", FAIL_TLS, "the TLS handshake failed: ");
    scripted("\x15\x03\x03", FAIL_TLS, "the server closed the connection");
}

static int alert_recv(void *arg, unsigned char *p, size_t cap, size_t *got)
{
    static const unsigned char alert[] = {0x15, 3, 3, 0, 2, 2, 40};
    size_t *at = arg;
    *got = cap < sizeof(alert) - *at ? cap : sizeof(alert) - *at;
    memcpy(p, alert + *at, *got);
    *at += *got;
    return OK;
}

static int ignore_send(void *arg, const unsigned char *p, size_t n)
{
    (void)arg, (void)p, (void)n;
    return OK;
}

static void test_alert(void **state)
{
    (void)state;
    struct tls_client *client = client_of("mail.test");
    size_t at = 0;
    bool more;
    int result;
    struct error err;
    struct tls *tls = tls_new(client, (struct tls_wire){ignore_send, alert_recv, &at}, &err);
    while ((result = tls_handshake(tls, &more, &err)) == AGAIN) {
        assert_true(more);
    }
    assert_int_equal(ERR, result);
    assert_int_equal(FAIL_TLS, err.fail);
    assert_string_equal("the server ended the TLS handshake with TLS alert 40 (handshake failure: "
                        "nothing in common)",
                        err.text);
    tls_free(tls);
    tls_client_unref(client);
}

static int wait_recv(void *arg, unsigned char *p, size_t cap, size_t *got)
{
    (void)arg, (void)p, (void)cap, (void)got;
    return AGAIN;
}

/* Takes the cipher suites out of the ClientHello (RFC 8446 section 4.1.2). */
static int take_suites(void *arg, const unsigned char *p, size_t n)
{
    enum { SESSION_ID = 5 + 4 + 2 + 32 }; /* record, message, version, random bytes */
    struct buf *suites = arg;
    size_t at = SESSION_ID + 1u + p[SESSION_ID];
    size_t length = (size_t)p[at] << 8 | p[at + 1];
    assert_true(at + 2 + length <= n);
    return buf_add(suites, p + at + 2, length);
}

/* Returns the place of a cipher suite in what a new client offers. */
static size_t place_of(unsigned suite)
{
    struct tls_client *client = client_of("mail.test");
    struct buf suites;
    struct error err;
    bool more;
    size_t place = SIZE_MAX;
    buf_init(&suites, 1024);
    struct tls *tls = tls_new(client, (struct tls_wire){take_suites, wait_recv, &suites}, &err);
    while (tls_handshake(tls, &more, &err) == AGAIN && more) {
    }
    struct str found = buf_str(&suites);
    for (size_t i = 0; i + 1 < found.n && place == SIZE_MAX; i += 2) {
        if (((unsigned char)found.p[i] << 8 | (unsigned char)found.p[i + 1]) == (int)suite) {
            place = i / 2;
        }
    }
    assert_int_not_equal(SIZE_MAX, place);
    tls_free(tls);
    tls_client_unref(client);
    buf_free(&suites);
    return place;
}

/* AES-GCM comes first if the CPU has instructions for it, ChaCha20 if not. */
static void test_order_of_suites(void **state)
{
    (void)state;
    enum {
        GCM_1_3 = 0x1301,
        CHACHA_1_3 = 0x1303,
        GCM_1_2 = 0xc02f,
        CHACHA_1_2 = 0xcca8,
        CBC = 0xc027
    };
    assert_int_equal(gcm_is_fast(), place_of(GCM_1_3) < place_of(CHACHA_1_3));
    assert_int_equal(gcm_is_fast(), place_of(GCM_1_2) < place_of(CHACHA_1_2));
    assert_true(place_of(CHACHA_1_2) < place_of(CBC));
    gcm_allow_hardware(false);
    assert_int_equal(0, place_of(CHACHA_1_3));
    assert_true(place_of(CHACHA_1_2) < place_of(GCM_1_2));
    gcm_allow_hardware(true);
}

static void test_broken_wire(void **state)
{
    (void)state;
    struct tls_client *client = client_of("mail.test");
    struct link no_send = {.send_fails = true}, no_recv = {.recv_fails = true}, later = {0};
    size_t n;
    char byte;
    link_connect(&no_send, "any", client);
    assert_int_equal(ERR, link_handshake(&no_send));
    assert_string_equal("the connection broke during the TLS handshake", no_send.err.text);
    link_connect(&no_recv, "any", client);
    assert_int_equal(ERR, link_handshake(&no_recv));
    assert_string_equal("the connection broke during the TLS handshake", no_recv.err.text);
    link_connect(&later, "any", client);
    assert_int_equal(OK, link_handshake(&later));
    later.recv_fails = true;
    assert_int_equal(ERR, tls_read(later.tls, &byte, 1, &n, &later.truncated, &later.err));
    assert_string_equal("the connection broke during the TLS session", later.err.text);
    assert_int_equal(ERR, tls_write(later.tls, "x", 1, &later.err));
    tls_shutdown(later.tls);
    link_close(&no_send);
    link_close(&no_recv);
    link_close(&later);
    tls_client_unref(client);
}

static void test_too_early(void **state)
{
    (void)state;
    struct tls_client *client = client_of("mail.test");
    struct link l = {.fd = -1, .script = ""};
    char byte;
    size_t n;
    link_open(&l, client);
    assert_int_equal(ERR, tls_write(l.tls, "x", 1, &l.err));
    assert_int_equal(ERR, tls_read(l.tls, &byte, 1, &n, &l.truncated, &l.err));
    assert_false(tls_resumed(l.tls));
    tls_shutdown(l.tls);
    assert_int_equal(0, l.sends);
    link_close(&l);
    tls_client_unref(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_version_mismatch),
        cmocka_unit_test(test_records_in_pieces),
        cmocka_unit_test(test_resumption_1_2),
        cmocka_unit_test(test_resumption_1_3),
        cmocka_unit_test(test_shown),
        cmocka_unit_test(test_shown_before),
        cmocka_unit_test(test_address_resumes_too),
        cmocka_unit_test(test_tickets_serve_once),
        cmocka_unit_test(test_declined_session),
        cmocka_unit_test(test_mixed_servers),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_bad_certificates),
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_own_certificate_in_bundle),
        cmocka_unit_test(test_roots),
        cmocka_unit_test(test_roots_added),
        cmocka_unit_test(test_unusable_roots_added),
        cmocka_unit_test(test_unusable_root_wanted),
        cmocka_unit_test(test_without_roots),
        cmocka_unit_test(test_bad_settings),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_transfers),
        cmocka_unit_test(test_flights_leave_whole),
        cmocka_unit_test(test_other_groups),
        cmocka_unit_test(test_client_certificate_wanted),
        cmocka_unit_test(test_not_tls),
        cmocka_unit_test(test_alert),
        cmocka_unit_test(test_order_of_suites),
        cmocka_unit_test(test_broken_wire),
        cmocka_unit_test(test_too_early),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
