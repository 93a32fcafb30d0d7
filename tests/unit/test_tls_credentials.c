/* Tests client certificates against OpenSSL: what is shown, what a server refuses, and which texts
 * are not certificates or keys. */
#include <stdio.h>

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

/* Returns the text of a file; the caller frees it. */
static char *text_of(const char *file)
{
    enum { ROOM = 16384 };
    char path[64], *text = malloc(ROOM);
    tls_peer_path(path, sizeof(path), file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, ROOM - 1, f);
    fclose(f);
    text[n] = '\0';
    return text;
}

/* Calls tls_client_new with texts that it then destroys. Returns NULL and sets *err as that
 * does. */
static struct tls_client *client_with_texts(const char *certificate, const char *key,
                                            struct error *err)
{
    struct secret secret = {0};
    char *copy = mem_strdup(certificate);
    secret_set(&secret, key, strlen(key));
    struct tls_settings settings = {
        .host = "mail.test", .check_host = true, .certificate = copy, .key = &secret};
    struct tls_client *client = tls_client_new(roots, &settings, err);
    memset(copy, 'x', strlen(copy));
    free(copy);
    secret_clear(&secret);
    return client;
}

static struct tls_client *client_with(const char *certificate_file, const char *key_file)
{
    struct error err;
    char *certificate = text_of(certificate_file), *key = text_of(key_file);
    struct tls_client *client = client_with_texts(certificate, key, &err);
    if (!client) {
        fail_msg("%s: %s", key_file, err.text);
    }
    free(certificate);
    free(key);
    return client;
}

/* Checks which client name the server has taken from the certificate. */
static void expect_known_as(struct tls_client *client, const char *server, const char *name)
{
    struct link l = {0};
    char answer[64], expected[64];
    link_connect(&l, server, client);
    if (link_handshake(&l) != OK) {
        fail_msg("%s: %s: %s", name, server, l.err.text);
    }
    link_say(&l, "WHO\n");
    answer[link_read(&l, answer, sizeof(answer) - 1)] = '\0';
    text_fmt(expected, sizeof(expected), "%s\n", name);
    assert_string_equal(answer, expected);
    tls_shutdown(l.tls);
    link_close(&l);
}

/* Checks that a server of each TLS version sees the certificate, also in a resumed session. */
static void expect_shown(const char *certificate, const char *key, const char *name)
{
    static const char *const servers[] = {"client12", "client13"};
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        struct error err;
        struct tls_client *client = client_with_texts(certificate, key, &err);
        assert_non_null(client);
        expect_known_as(client, servers[i], name);
        expect_known_as(client, servers[i], name);
        tls_client_unref(client);
    }
}

static void shown(void **state)
{
    (void)state;
    static const struct {
        const char *certificate, *key, *name;
    } table[] = {
        {"ecclient.crt", "ecclient.key", "ec client"},
        {"ecclient.crt", "ecclient.sec1", "ec client"},
        {"ec384client.crt", "ec384client.key", "ec384 client"},
        {"rsaclient.crt", "rsaclient.key", "rsa client"},
        {"rsaclient.crt", "rsaclient.pkcs1", "rsa client"},
        {"deepclient.whole", "deepclient.key", "deep client"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char *certificate = text_of(table[i].certificate), *key = text_of(table[i].key);
        expect_shown(certificate, key, table[i].name);
        free(certificate);
        free(key);
    }
}

static void shown_only_when_asked(void **state)
{
    (void)state;
    static const char *const servers[] = {"v12", "v13"};
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        struct tls_client *client = client_with("ecclient.crt", "ecclient.key");
        struct link l = {0};
        link_connect(&l, servers[i], client);
        assert_int_equal(link_handshake(&l), OK);
        link_close(&l);
        tls_client_unref(client);
    }
}

/* TLS 1.2 reports the refusal in the handshake, TLS 1.3 after it. */
static void refused_by_the_server(void **state)
{
    (void)state;
    static const struct {
        const char *certificate, *key;
    } table[] = {
        {"stranger.crt", "stranger.key"},     /* signed by a CA that the server does not know */
        {"deepclient.crt", "deepclient.key"}, /* sent without the intermediate certificate */
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct tls_client *client = client_with(table[i].certificate, table[i].key);
        struct link old = {0}, new = {0};
        char octet;
        size_t n;
        link_connect(&old, "client12", client);
        assert_int_equal(link_handshake(&old), ERR);
        assert_string_equal(old.err.text,
                            "the server ended the TLS handshake with TLS alert 48 (unknown CA: it "
                            "does not trust our certificate)");
        assert_int_equal(old.err.fail, FAIL_TLS);
        link_connect(&new, "client13", client);
        assert_int_equal(link_handshake(&new), OK);
        wait_readable(&new);
        assert_int_equal(tls_read(new.tls, &octet, 1, &n, &new.truncated, &new.err), ERR);
        assert_string_equal(new.err.text,
                            "the server ended the TLS session with TLS alert 48 (unknown CA: it "
                            "does not trust our certificate)");
        assert_int_equal(new.err.fail, FAIL_TLS);
        link_close(&old);
        link_close(&new);
        tls_client_unref(client);
    }
}

static void expect_unusable(const char *certificate, const char *key, const char *text)
{
    struct error err;
    assert_null(client_with_texts(certificate, key, &err));
    assert_string_equal(err.text, text);
    assert_int_equal(err.fail, FAIL_CONFIG);
}

static void no_certificate(void **state)
{
    (void)state;
    char *key = text_of("ecclient.key"), *good = text_of("ecclient.crt"),
         *ed = text_of("edclient.crt");
    char two[32768];
    expect_unusable("", key,
                    "the client certificate is not PEM: it has no line "
                    "\"-----BEGIN CERTIFICATE-----\"");
    expect_unusable(key, key,
                    "the client certificate is not PEM: it has no line "
                    "\"-----BEGIN CERTIFICATE-----\"");
    expect_unusable(ed, key, "client certificate 1 is damaged or of an unknown kind");
    for (size_t cut = strlen("-----BEGIN CERTIFICATE-----"); cut < strlen(good) - 30; cut += 7) {
        text_fmt(two, sizeof(two), "%.*s", (int)cut, good);
        expect_unusable(two, key, "client certificate 1 is damaged or of an unknown kind");
        text_fmt(two, sizeof(two), "%s%.*s", good, (int)cut, good);
        expect_unusable(two, key, "client certificate 2 is damaged or of an unknown kind");
        text_fmt(two, sizeof(two), "%.*s-----END CERTIFICATE-----\n", (int)cut, good);
        expect_unusable(two, key, "client certificate 1 is damaged or of an unknown kind");
    }
    free(key);
    free(good);
    free(ed);
}

static void no_key(void **state)
{
    (void)state;
    static const char not_pem[] = "the private key is not PEM: it has no line \"-----BEGIN PRIVATE "
                                  "KEY-----\", or \"RSA\" or \"EC\" in it";
    static const char cannot[] = "the private key cannot be read: ";
    static const char foreign[] = "the private key does not belong to the client certificate, "
                                  "which has to be the first one";
    char *certificate = text_of("ecclient.crt"), *key = text_of("ecclient.key");
    static const struct {
        const char *file, *text;
    } table[] = {
        {"ecclient.crt", not_pem},
        {"ecclient.locked",
         "the private key is encrypted; it can only be used without a passphrase"},
        {"rsaclient.locked",
         "the private key is encrypted; it can only be used without a passphrase"},
        {"rsaclient.key", foreign},
        {"ec384client.key", foreign},
        {"stranger.key", foreign},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char *other = text_of(table[i].file);
        expect_unusable(certificate, other, table[i].text);
        free(other);
    }
    expect_unusable(certificate, "", not_pem);
    for (size_t cut = strlen("-----BEGIN PRIVATE KEY-----"); cut < strlen(key) - 27; cut++) {
        char part[1024], *secret = key + strlen("-----BEGIN PRIVATE KEY-----\n");
        struct error err;
        text_fmt(part, sizeof(part), "%.*s\n-----END PRIVATE KEY-----\n", (int)cut, key);
        assert_null(client_with_texts(certificate, part, &err));
        assert_memory_equal(err.text, cannot, strlen(cannot));
        secret[8] = '\0';
        assert_null(strstr(err.text, secret));
        free(key);
        key = text_of("ecclient.key");
    }
    free(certificate);
    free(key);
}

static void one_without_the_other(void **state)
{
    (void)state;
    struct error err;
    struct secret key = {0};
    char *text = text_of("ecclient.key"), *certificate = text_of("ecclient.crt");
    secret_set(&key, text, strlen(text));
    struct tls_settings settings = {.host = "mail.test", .key = &key};
    assert_null(tls_client_new(roots, &settings, &err));
    assert_string_equal(err.text, "there is a private key without a client certificate");
    settings = (struct tls_settings){.host = "mail.test", .certificate = certificate};
    assert_null(tls_client_new(roots, &settings, &err));
    assert_string_equal(err.text, "there is a client certificate without a private key");
    assert_int_equal(err.fail, FAIL_CONFIG);
    secret_clear(&key);
    free(text);
    free(certificate);
}

/* Root certificates are not sent, so they do not count. All others have to fit into one message. */
static void length_of_the_chain(void **state)
{
    (void)state;
    char *leaf = text_of("deepclient.crt"), *middle = text_of("middle.crt");
    char *root = text_of("ca.crt"), *key = text_of("deepclient.key"), whole[32768];
    struct error err = {0};
    size_t n = text_fmt(whole, sizeof(whole), "%s%s", leaf, middle);
    for (int i = 0; i < 20; i++) {
        n += text_fmt(whole + n, sizeof(whole) - n, "%s", root);
    }
    expect_shown(whole, key, "deep client");

    /* The longest chain that is accepted can also be sent. */
    char longest[sizeof(whole)];
    struct tls_client *client;
    n = text_fmt(whole, sizeof(whole), "%s", leaf);
    do {
        memcpy(longest, whole, n + 1);
        n += text_fmt(whole + n, sizeof(whole) - n, "%s", middle);
        client = client_with_texts(whole, key, &err);
        tls_client_unref(client);
    } while (client);
    assert_non_null(strstr(err.text, "the client certificate and those above it have 4"));
    assert_non_null(strstr(err.text, " octets; 4096 are possible"));
    expect_shown(longest, key, "deep client");
    free(leaf);
    free(middle);
    free(root);
    free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shown),
        cmocka_unit_test(shown_only_when_asked),
        cmocka_unit_test(refused_by_the_server),
        cmocka_unit_test(no_certificate),
        cmocka_unit_test(no_key),
        cmocka_unit_test(one_without_the_other),
        cmocka_unit_test(length_of_the_chain),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
