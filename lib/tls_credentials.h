/* Our own certificate and key, for servers that ask for them. For lib/tls.c. */
#ifndef TPROXY_LIB_TLS_CREDENTIALS_H
#define TPROXY_LIB_TLS_CREDENTIALS_H

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

#include "lib/fail.h"

struct secret;

/* Our own certificate, the ones above it, and its key. */
struct tls_credentials {
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
};

/* Creates credentials from the certificate and the key of struct tls_settings. Returns NULL and
 * sets *err (FAIL_CONFIG), which says which of the two is missing or what is wrong with it, and
 * repeats nothing of either. */
struct tls_credentials *tls_credentials_new(const char *certificate, const struct secret *key,
                                            struct error *err);

/* Frees the credentials and wipes the key. NULL is allowed. */
void tls_credentials_free(struct tls_credentials *own);

#endif
