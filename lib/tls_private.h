/* What lib/tls.c, lib/tls_roots.c and lib/tls_credentials.c share: trusted certificates, the
 * judgement of a server's, and our own. */
#ifndef TPROXY_LIB_TLS_PRIVATE_H
#define TPROXY_LIB_TLS_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

#include "lib/text.h"
#include "lib/tls.h"

/* Who the server has to be. */
struct tls_identity {
    char *host;             /* name without trailing dot, or address without brackets; owned */
    unsigned char addr[16]; /* when it is an address: its bytes ... */
    size_t addr_len;        /* ... 4 or 16 of them; 0 for a name */
};

/* The judgement of one chain, filled while mbedTLS walks it. */
struct tls_judge {
    const struct tls_roots *roots; /* may be NULL: nothing is trusted */
    const struct tls_identity *identity;
    bool trust_any, check_host;
    bool asked;      /* a certificate was shown and judged */
    uint32_t found;  /* MBEDTLS_X509_BADCERT_*: what counts of all that was found */
    char *complaint; /* what is wrong with it, for people; owned; NULL: nothing */
};

/* mbedTLS asks for trusted certificates whose subject is the issuer of `child`
 * (mbedtls_x509_crt_ca_cb_t; `arg` is a struct tls_roots or NULL). The list is freed by mbedTLS.
 */
int tls_roots_find(void *arg, const mbedtls_x509_crt *child, mbedtls_x509_crt **candidates);

/* mbedTLS tells what it found about each certificate of a chain, from the root down to the server's
 * own at depth 0 (the f_vrfy of mbedtls_ssl_set_verify; `arg` is a struct tls_judge). Decides and
 * words the complaint. */
int tls_judge_certificate(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags);

/* Adds a complaint: clauses are joined by "; ". */
void tls_judge_complain(struct tls_judge *judge, const char *fmt, ...) printf_like(2, 3);

/* Takes the next certificate off PEM text and decodes it into out. OK; AGAIN when it is damaged or
 * larger than cap; ERR when there is none left. */
int tls_next_certificate(struct str *text, unsigned char *out, size_t cap, size_t *n) warn_unused;

/* Our own certificate and the ones above it, and its key. */
struct tls_credentials {
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
};

/* From what struct tls_settings has. NULL and *err (FAIL_CONFIG), which says what is wrong with
 * which of the two, or that one is missing, and repeats nothing of either. */
struct tls_credentials *tls_credentials_new(const char *certificate, const struct secret *key,
                                            struct error *err);

/* Wipes the key. NULL is allowed. */
void tls_credentials_free(struct tls_credentials *own);

/* Chance for mbedTLS, which it asks for as f_rng. */
int tls_random(void *arg, unsigned char *out, size_t n);

#endif
