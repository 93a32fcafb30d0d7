/* Reads certificates: what mbedTLS does not read, or does not tell. For the files of lib/tls. */
#ifndef TPROXY_LIB_TLS_CERTIFICATE_H
#define TPROXY_LIB_TLS_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/x509_crt.h>

#include "lib/base.h"
#include "lib/text.h"

/* Takes the next certificate off PEM text and decodes it into out. AGAIN: it is damaged or larger
 * than cap. ERR: no certificate is left. */
int tls_certificate_from_pem(struct str *text, unsigned char *out, size_t cap,
                             size_t *n) warn_unused;

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

#endif
