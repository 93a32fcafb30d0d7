/* Our credentials for a server that asks for a client certificate (RFC 8446 section 4.4.2): our
 * certificate and those above it, and the key that proves it ours. Both come as PEM (RFC 7468) out
 * of a Secret. */
#include "lib/tls_credentials.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/error.h>
#include <mbedtls/platform.h>
#include <mbedtls/ssl.h>

#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls_certificate.h"
#include "lib/tls_random.h"

enum {
    /* The size of the message, in the larger form of RFC 8446 section 4.4.2: head of the message,
     * request context, length; then for each certificate its length and that of its extensions.
     * mbedTLS sends the message in one record. */
    MESSAGE_HEAD = 4 + 1 + 3,
    CERTIFICATE_HEAD = 3 + 2,
    MESSAGE_MAX = MBEDTLS_SSL_OUT_CONTENT_LEN,
};

/* Removes the roots from the list, except for its first certificate. The server knows the roots
 * itself, and may be told without them; chains that end in a root are common, and would often be
 * too long. */
static void drop_roots(mbedtls_x509_crt *chain)
{
    mbedtls_x509_crt *before = chain;
    while (before->next) {
        mbedtls_x509_crt *crt = before->next;
        if (crt->subject_raw.len == crt->issuer_raw.len &&
            memcmp(crt->subject_raw.p, crt->issuer_raw.p, crt->subject_raw.len) == 0) {
            before->next = crt->next;
            crt->next = NULL;
            mbedtls_x509_crt_free(crt);
            mbedtls_free(crt);
        } else {
            before = crt;
        }
    }
}

static int read_chain(mbedtls_x509_crt *chain, struct str pem, struct error *err)
{
    size_t count = 0, n, cap = pem.n; /* base64 only shrinks */
    unsigned char *der = mem_alloc(cap);
    int found;
    while ((found = tls_certificate_from_pem(&pem, der, cap, &n)) == OK &&
           mbedtls_x509_crt_parse_der(chain, der, n) == 0) {
        count++;
    }
    free(der);
    if (found != ERR) {
        return error_set(err, FAIL_CONFIG,
                         "client certificate %zu is damaged or of an unknown kind", count + 1);
    }
    if (count == 0) {
        return error_set(err, FAIL_CONFIG,
                         "the client certificate is not PEM: it has no line "
                         "\"-----BEGIN CERTIFICATE-----\"");
    }
    drop_roots(chain);
    size_t message = MESSAGE_HEAD;
    for (const mbedtls_x509_crt *crt = chain; crt; crt = crt->next) {
        message += CERTIFICATE_HEAD + crt->raw.len;
    }
    if (message > MESSAGE_MAX) {
        return error_set(err, FAIL_CONFIG,
                         "the client certificate and those above it have %zu octets; %d are "
                         "possible",
                         message, MESSAGE_MAX);
    }
    return OK;
}

static bool contains(const struct secret *text, const char *part)
{
    return memmem(text->p, text->n, part, strlen(part));
}

static int read_key(mbedtls_pk_context *key, const struct secret *pem, struct error *err)
{
    char why[120] = "";
    if (!contains(pem, "-----BEGIN ") || !contains(pem, "PRIVATE KEY-----")) {
        return error_set(err, FAIL_CONFIG,
                         "the private key is not PEM: it has no line \"-----BEGIN PRIVATE "
                         "KEY-----\", or \"RSA\" or \"EC\" in it");
    }
    if (contains(pem, "ENCRYPTED")) { /* RFC 5958 section 3; RFC 1421 section 4.6.1.1 */
        return error_set(err, FAIL_CONFIG,
                         "the private key is encrypted; it can only be used without a passphrase");
    }
    int bad = mbedtls_pk_parse_key(key, (const unsigned char *)pem->p, pem->n + 1, NULL, 0,
                                   tls_random, NULL);
    if (bad) {
        mbedtls_strerror(bad, why, sizeof(why));
        return error_set(err, FAIL_CONFIG, "the private key cannot be read: %s", why);
    }
    return OK;
}

struct tls_credentials *tls_credentials_new(const char *certificate, const struct secret *key,
                                            struct error *err)
{
    if (!certificate || !key) {
        error_set(err, FAIL_CONFIG, "there is a %s without a %s",
                  key ? "private key" : "client certificate",
                  key ? "client certificate" : "private key");
        return NULL;
    }
    struct tls_credentials *own = mem_zalloc(sizeof(*own));
    mbedtls_x509_crt_init(&own->chain);
    mbedtls_pk_init(&own->key);
    if (read_chain(&own->chain, str_of(certificate), err) == OK &&
        read_key(&own->key, key, err) == OK) {
        if (mbedtls_pk_check_pair(&own->chain.pk, &own->key, tls_random, NULL) == 0) {
            return own;
        }
        error_set(err, FAIL_CONFIG,
                  "the private key does not belong to the client certificate, "
                  "which has to be the first one");
    }
    tls_credentials_free(own);
    return NULL;
}

void tls_credentials_free(struct tls_credentials *own)
{
    if (own) {
        mbedtls_x509_crt_free(&own->chain);
        mbedtls_pk_free(&own->key);
        free(own);
    }
}
