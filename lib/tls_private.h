/* What lib/tls.c and lib/tls_roots.c share: trusted certificates and the judgement of a server's.
 */
#ifndef TPROXY_LIB_TLS_PRIVATE_H
#define TPROXY_LIB_TLS_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/x509_crt.h>

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

#endif
