/* Judges the certificates that a server shows. For the files of lib/tls. */
#ifndef TPROXY_LIB_TLS_JUDGE_H
#define TPROXY_LIB_TLS_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/x509_crt.h>

#include "lib/base.h"
#include "lib/text.h"

struct tls_roots;

enum {
    TLS_CHAIN_MAX = MBEDTLS_X509_MAX_VERIFY_CHAIN_SIZE,
    TLS_BETWEEN_MAX = MBEDTLS_X509_MAX_INTERMEDIATE_CA, /* without the server's and the root */
    /* Limit for the comparisons of names with name constraints in one handshake: a few
     * milliseconds. */
    TLS_COMPARISONS_MAX = 32 * 1024,
};

/* The name or address that the server has to have. */
struct tls_identity {
    char *host;             /* name without trailing dot, or address without brackets; owned */
    unsigned char addr[16]; /* the bytes of the address */
    size_t addr_len;        /* the number of bytes in `addr`, 4 or 16; 0 for a name */
};

/* Facts about one chain, gathered while mbedTLS walks it from the root down. */
struct tls_walk {
    const mbedtls_x509_crt *path[TLS_CHAIN_MAX]; /* by depth: the server's own is path[0] */
    size_t length;
    struct {
        /* name constraints, and the subject of the CA that has them */
        struct str extension, subject;
    } constraints[TLS_CHAIN_MAX];
    size_t constraint_count;
    size_t *budget;  /* comparisons that are left */
    bool above;      /* something above the server's own is wrong, so another chain may be good */
    bool stale_root; /* the trusted certificate has expired or is not valid yet */
};

/* The judgement of one chain. */
struct tls_judge {
    const struct tls_roots *roots; /* may be NULL: nothing is trusted */
    const struct tls_identity *identity;
    bool trust_any, check_host;
    bool asked;            /* a certificate was shown and judged */
    uint32_t found;        /* MBEDTLS_X509_BADCERT_*: the findings that count */
    char *complaint;       /* what is wrong with it, for people; owned; NULL: nothing */
    char *unreadable;      /* which certificate above it was left out, and why; owned; or NULL */
    struct tls_walk *walk; /* set while mbedTLS walks the chain */
};

/* Takes what mbedTLS found about each certificate of a chain, from the root down to the server's
 * own at depth 0 (the f_vrfy of mbedtls_ssl_set_verify; `arg` is a struct tls_judge). Decides and
 * words the complaint. */
int tls_judge_certificate(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags);

/* Lists the DNS names and addresses of a certificate: "a.example, b.example, c.example and 2 more".
 * Returns out; it is empty when the certificate has none. */
enum { TLS_NAMES_SIZE = 240 };
const char *tls_judge_names(char out[static TLS_NAMES_SIZE], const mbedtls_x509_crt *crt);

/* Adds a complaint: clauses are joined by "; ". */
void tls_judge_complain(struct tls_judge *judge, const char *fmt, ...) printf_like(2, 3);

#endif
