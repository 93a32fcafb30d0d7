/* Trusted certificates. Pure. */
#ifndef TPROXY_LIB_TLS_ROOTS_H
#define TPROXY_LIB_TLS_ROOTS_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base.h"
#include "lib/fail.h"
#include "lib/text.h"

struct mbedtls_x509_crt;

/* Certificates that are trusted: read once, shared, reference-counted. A server's own certificate
 * among them is trusted, whoever signed it. */
struct tls_roots;

/* Creates roots from those of `base` (may be NULL) and the certificates in a PEM text. `source`
 * names that text for people. Returns NULL and sets *err (FAIL_CONFIG, naming the source) when
 * nothing in it is usable; see tls_roots_left_out. */
struct tls_roots *tls_roots_add(const struct tls_roots *base, const char *source, struct str pem,
                                struct error *err);

/* Creates roots from a file that is one certificate in DER, or certificates in PEM. `source` names
 * its contents for people. Returns NULL and sets *err (FAIL_CONFIG, "has no usable certificate
 * ...") when nothing in it is usable; see tls_roots_left_out. */
struct tls_roots *tls_roots_of(const char *source, struct str file, struct error *err);

struct tls_roots *tls_roots_ref(struct tls_roots *roots);
void tls_roots_unref(struct tls_roots *roots);

/* Tells whether both trust the same certificates and leave out the same ones. NULL is equal to
 * itself. */
bool tls_roots_equal(const struct tls_roots *a, const struct tls_roots *b);

/* Maximum number of clauses about left-out certificates. */
enum { TLS_LEFT_OUT_MAX = 8 };

/* Returns a clause about the i-th left-out certificate of the file, or of the text that was added
 * last: "certificate 2 (NAME) cannot be used: ...". The last clause may be about all others. i
 * counts from 0; NULL when there are no more. Lives as long as the roots. */
const char *tls_roots_left_out(const struct tls_roots *roots, size_t i);

/* Return the file that the roots come from, with the sources of those added, and the number of
 * roots. */
const char *tls_roots_path(const struct tls_roots *roots);
size_t tls_roots_count(const struct tls_roots *roots);

/* Returns the certificates in DER, one behind the other. */
struct str tls_roots_der(const struct tls_roots *roots);

/* Tells whether there is more than one reference. */
bool tls_roots_shared(const struct tls_roots *roots);

/* ---- for the files of lib/tls ---- */

/* The roots that tls_roots_find looks for. */
struct tls_lookup {
    const struct tls_roots *roots;                       /* may be NULL: nothing is trusted */
    bool (*wanted)(const struct mbedtls_x509_crt *root); /* chooses among them; NULL: all */
    bool failed;                                         /* there was no memory */
};

/* Finds for mbedTLS the trusted certificates whose subject is the issuer of `child`
 * (mbedtls_x509_crt_ca_cb_t; `arg` is a struct tls_lookup). mbedTLS frees the list. */
int tls_roots_find(void *arg, const struct mbedtls_x509_crt *child,
                   struct mbedtls_x509_crt **candidates);

/* Tells whether one of the roots has this Name as its subject. Compares only tls_name_key, so it
 * may err. */
bool tls_roots_named(const struct tls_roots *roots, struct str name);

/* Tells whether this very certificate is one of the roots. */
bool tls_roots_hold(const struct tls_roots *roots, const struct mbedtls_x509_crt *crt);

/* Returns why the certificate in the file with this Name as its subject cannot be used; NULL when
 * no certificate with this Name was left out. */
const char *tls_roots_rejected(const struct tls_roots *roots, struct str name);

#endif
