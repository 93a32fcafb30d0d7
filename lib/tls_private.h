/* Declarations that the files of lib/tls share: reading certificates, the trusted ones, the
 * judgement of a server's chain, and our own certificate. */
#ifndef TPROXY_LIB_TLS_PRIVATE_H
#define TPROXY_LIB_TLS_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>

#include "lib/text.h"
#include "lib/tls.h"

/* ---- lib/tls_certificate.c: the contents of a certificate ---- */

/* Adds the certificate der[0, n) to the end of a chain (an initialised one, or a longer one). With
 * `copy` the bytes are copied; without, they have to stay as long as the chain. Critical extensions
 * that mbedTLS does not know are accepted: a caller that relies on the certificate asks
 * tls_unknown_extension. Returns 0 or mbedTLS's error. */
int tls_certificate_parse(mbedtls_x509_crt *chain, const unsigned char *der, size_t n, bool copy);

/* Returns why tls_certificate_parse failed: a constant, or out, to which the text is then
 * written. */
const char *tls_certificate_problem(char *out, size_t cap, int code);

/* Finds the subject, a Name in DER, in a certificate that mbedTLS may not be able to read. ERR when
 * it is not there. */
int tls_certificate_subject(struct str der, struct str *subject) warn_unused;

/* Returns the part of a Name that people know it by: the common name, else the organisation. The
 * text is written to out, or is a constant. */
const char *tls_name_text(char *out, size_t cap, struct str name);

/* Returns a hash that is equal for Names that X.509 calls equal: case and string type do not count
 * (RFC 5280 section 7.1). It is only a filter: mbedTLS compares the names themselves. */
uint32_t tls_name_key(struct str name);

/* The attributes of a Name, one after the other. */
struct tls_attributes {
    struct str names, set;
};

/* Begins to read the attributes of a Name. ERR: it is not a Name in DER. */
int tls_attributes_open(struct tls_attributes *at, struct str name) warn_unused;

/* Takes the next attribute. AGAIN: no attribute is left; ERR: it cannot be read. */
int tls_attribute_next(struct tls_attributes *at, struct str *type, struct str *value) warn_unused;

/* Tells whether the attribute is a mail address (RFC 5280 section 4.1.2.6). */
bool tls_is_mail_address(struct str type);

/* Return subject and issuer as Names in DER. */
struct str tls_subject(const mbedtls_x509_crt *crt);
struct str tls_issuer(const mbedtls_x509_crt *crt);

struct tls_extension {
    struct str oid, value;
    bool critical;
};

/* Returns all extensions of a certificate, for tls_extension_next. */
struct str tls_extensions(const mbedtls_x509_crt *crt);

/* Takes the next extension off *list. AGAIN: no extension is left; ERR: it cannot be read, nor can
 * the following ones. */
int tls_extension_next(struct str *list, struct tls_extension *extension) warn_unused;

/* Tells whether this is the extension with a CA's name constraints (RFC 5280 section 4.2.1.10). */
bool tls_is_name_constraints(const struct tls_extension *extension);

/* Describes in out[cap] the first critical extension that cannot be judged here, by its number and,
 * if it has one, its name; also an extension that cannot be read. Returns false when there are no
 * such extensions. */
bool tls_unknown_extension(char *out, size_t cap, const mbedtls_x509_crt *crt);

/* ---- lib/tls_roots.c: trusted certificates ---- */

/* The roots that tls_roots_find looks for. */
struct tls_lookup {
    const struct tls_roots *roots; /* may be NULL: nothing is trusted */
    bool valid_only;               /* leave out roots that have expired or are not valid yet */
    bool failed;                   /* there was no memory */
};

/* Finds for mbedTLS the trusted certificates whose subject is the issuer of `child`
 * (mbedtls_x509_crt_ca_cb_t; `arg` is a struct tls_lookup). mbedTLS frees the list. */
int tls_roots_find(void *arg, const mbedtls_x509_crt *child, mbedtls_x509_crt **candidates);

/* Tells whether one of the roots has this Name as its subject. Compares only tls_name_key, so it
 * may err. */
bool tls_roots_named(const struct tls_roots *roots, struct str name);

/* Tells whether this very certificate is one of the roots. */
bool tls_roots_hold(const struct tls_roots *roots, const mbedtls_x509_crt *crt);

/* Returns why the certificate in the file with this Name as its subject cannot be used; NULL when
 * no certificate with this Name was left out. */
const char *tls_roots_rejected(const struct tls_roots *roots, struct str name);

/* Takes the next certificate off PEM text and decodes it into out. AGAIN: it is damaged or larger
 * than cap. ERR: no certificate is left. */
int tls_next_certificate(struct str *text, unsigned char *out, size_t cap, size_t *n) warn_unused;

/* ---- lib/tls_judge.c: the judgement of a server's certificates ---- */

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

/* Adds a complaint: clauses are joined by "; ". */
void tls_judge_complain(struct tls_judge *judge, const char *fmt, ...) printf_like(2, 3);

/* ---- lib/tls_chain.c: which chain is judged ---- */

/* Set and clear the judge for the two functions that read and verify a server's certificates.
 * mbedTLS has no hook for these functions, so the linker puts ours in their place (--wrap, see the
 * Makefile). */
void tls_chain_begin(struct tls_judge *judge);
void tls_chain_end(void);

/* ---- lib/tls_credentials.c, lib/tls_random.c ---- */

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

/* Fills out[0, n) with random bytes, for mbedTLS, which asks for them as f_rng. Returns 0. */
int tls_random(void *arg, unsigned char *out, size_t n);

#endif
