/* Reads the parts of a certificate that mbedTLS does not report (RFC 5280 section 4). */
#include "lib/tls_certificate.h"

#include <stdbool.h>
#include <string.h>

#include <mbedtls/base64.h>
#include <mbedtls/error.h>

#include "lib/der.h"

/* Accepts every extension that mbedTLS does not know; we judge them later
 * (mbedtls_x509_crt_ext_cb_t). */
static int take_extension(void *arg, mbedtls_x509_crt const *crt, mbedtls_x509_buf const *oid,
                          int critical, const unsigned char *p, const unsigned char *end)
{
    (void)arg;
    (void)crt;
    (void)oid;
    (void)critical;
    (void)p;
    (void)end;
    return 0;
}

int tls_certificate_from_pem(struct str *text, unsigned char *out, size_t cap, size_t *n)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
    const char *from = text->n ? memmem(text->p, text->n, begin, sizeof(begin) - 1) : NULL;
    if (!from) {
        return ERR;
    }
    from += sizeof(begin) - 1;
    struct str rest = {from, (size_t)(text->p + text->n - from)};
    const char *to = memmem(rest.p, rest.n, end, sizeof(end) - 1);
    if (!to) {
        *text = str_of("");
        return AGAIN;
    }
    *text = (struct str){to, rest.n - (size_t)(to - from)};
    int bad = mbedtls_base64_decode(out, cap, n, (const unsigned char *)from, (size_t)(to - from));
    return bad ? AGAIN : OK;
}

int tls_certificate_parse(mbedtls_x509_crt *chain, const unsigned char *der, size_t n, bool copy)
{
    return mbedtls_x509_crt_parse_der_with_ext_cb(chain, der, n, copy, take_extension, NULL);
}

/* mbedTLS adds the error code of an inner structure to that of the outer one. */
static bool is_code(int code, int around)
{
    return (-code & 0x7F80) == -around;
}

const char *tls_certificate_problem(char *out, size_t cap, int code)
{
    if (is_code(code, MBEDTLS_ERR_X509_UNKNOWN_SIG_ALG)) {
        return "it is signed with an algorithm that is not supported";
    }
    if (is_code(code, MBEDTLS_ERR_PK_UNKNOWN_PK_ALG) ||
        is_code(code, MBEDTLS_ERR_PK_UNKNOWN_NAMED_CURVE)) {
        return "its key is of a kind that is not supported";
    }
    char why[120] = "";
    mbedtls_strerror(code, why, sizeof(why));
    text_fmt(out, cap, "it cannot be read (%s)", why);
    return out;
}

/* Certificate ::= SEQUENCE { TBSCertificate ::= SEQUENCE { [0] version, serial, algorithm, issuer,
 * validity, subject ... */
int tls_certificate_subject(struct str der, struct str *subject)
{
    enum { VERSION = 0xa0, BEFORE_SUBJECT = 4 };
    struct str certificate, rest;
    struct der_item item;
    if (der_take(&der, DER_SEQUENCE, &certificate) != OK ||
        der_take(&certificate, DER_SEQUENCE, &rest) != OK || der_next(&rest, &item) != OK ||
        (item.tag == VERSION && der_next(&rest, &item) != OK)) {
        return ERR;
    }
    for (int i = 0; i < BEFORE_SUBJECT; i++) {
        if (der_next(&rest, &item) != OK) {
            return ERR;
        }
    }
    *subject = item.whole;
    return item.tag == DER_SEQUENCE ? OK : ERR;
}

static bool is_oid(struct str oid, const char *octets)
{
    return oid.n == strlen(octets) && memcmp(oid.p, octets, oid.n) == 0;
}

int tls_attribute_next(struct tls_attributes *at, struct str *type, struct str *value)
{
    struct str pair;
    struct der_item item;
    while (at->set.n == 0) {
        if (at->names.n == 0) {
            return AGAIN;
        }
        if (der_take(&at->names, DER_SET, &at->set) != OK) {
            return ERR;
        }
    }
    if (der_take(&at->set, DER_SEQUENCE, &pair) != OK || der_take(&pair, DER_OID, type) != OK ||
        der_next(&pair, &item) != OK) {
        return ERR;
    }
    *value = item.contents;
    return OK;
}

int tls_attributes_open(struct tls_attributes *at, struct str name)
{
    *at = (struct tls_attributes){0};
    return der_take(&name, DER_SEQUENCE, &at->names);
}

bool tls_is_mail_address(struct str type)
{
    return is_oid(type, "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"); /* 1.2.840.113549.1.9.1 */
}

const char *tls_name_text(char *out, size_t cap, struct str name)
{
    struct tls_attributes at;
    struct str type, value, best = {NULL, 0};
    if (tls_attributes_open(&at, name) != OK) {
        return "no name";
    }
    while (tls_attribute_next(&at, &type, &value) == OK) {
        bool common_name = is_oid(type, "\x55\x04\x03");
        if (common_name || (!best.p && is_oid(type, "\x55\x04\x0a"))) { /* organisation */
            best = value;
        }
    }
    return best.p ? text_printable(out, cap, best) : "no name";
}

uint32_t tls_name_key(struct str name)
{
    struct tls_attributes at;
    struct str type, value;
    uint32_t key = 2166136261u;
    if (tls_attributes_open(&at, name) != OK) {
        return key;
    }
    while (tls_attribute_next(&at, &type, &value) == OK) {
        for (size_t i = 0; i < value.n; i++) {
            unsigned char c = (unsigned char)value.p[i];
            c = c >= 'A' && c <= 'Z' ? (unsigned char)(c + ('a' - 'A')) : c;
            key = (key ^ c) * 16777619u;
        }
    }
    return key;
}

static struct str str_of_buf(const mbedtls_x509_buf *buf)
{
    return (struct str){(const char *)buf->p, buf->len};
}

struct str tls_subject(const mbedtls_x509_crt *crt)
{
    return str_of_buf(&crt->subject_raw);
}

struct str tls_issuer(const mbedtls_x509_crt *crt)
{
    return str_of_buf(&crt->issuer_raw);
}

struct str tls_extensions(const mbedtls_x509_crt *crt)
{
    struct str around = str_of_buf(&crt->v3_ext), list;
    if (around.n && der_take(&around, DER_SEQUENCE, &list) != OK) {
        return (struct str){"", 1}; /* no extension can be read from this */
    }
    return crt->v3_ext.len ? list : str_of("");
}

int tls_extension_next(struct str *list, struct tls_extension *extension)
{
    struct str parts;
    struct der_item item;
    if (list->n == 0) {
        return AGAIN;
    }
    if (der_take(list, DER_SEQUENCE, &parts) != OK ||
        der_take(&parts, DER_OID, &extension->oid) != OK || der_next(&parts, &item) != OK) {
        return ERR;
    }
    extension->critical = item.tag == DER_BOOLEAN && item.contents.n == 1 && item.contents.p[0];
    if (item.tag == DER_BOOLEAN && der_next(&parts, &item) != OK) {
        return ERR;
    }
    extension->value = item.contents;
    return item.tag == DER_OCTETS ? OK : ERR;
}

/* Object identifiers 2.5.29.x, the extensions of X.509. */
#define CE(last) "\x55\x1d" last
/* Object identifiers 1.3.6.1.5.5.7.1.x, the extensions of PKIX. */
#define PE(last) "\x2b\x06\x01\x05\x05\x07\x01" last
#define NAME_CONSTRAINTS CE("\x1e")

bool tls_is_name_constraints(const struct tls_extension *extension)
{
    return is_oid(extension->oid, NAME_CONSTRAINTS);
}

/* Extensions that are judged by mbedTLS or by us, and those that need no judgement. Certificate
 * policies need none, because no policy is required (RFC 5280 section 6.1.1,
 * initial-explicit-policy) unless policyConstraints require one. Distribution points need none,
 * because no list of revoked certificates is fetched. */
static const char *const known_extensions[] = {
    CE("\x0e"), /* subjectKeyIdentifier */
    CE("\x0f"), /* keyUsage */
    CE("\x11"), /* subjectAltName */
    CE("\x13"), /* basicConstraints */
    NAME_CONSTRAINTS,
    CE("\x1f"),                             /* cRLDistributionPoints */
    CE("\x20"),                             /* certificatePolicies */
    CE("\x21"),                             /* policyMappings */
    CE("\x23"),                             /* authorityKeyIdentifier */
    CE("\x25"),                             /* extKeyUsage */
    CE("\x36"),                             /* inhibitAnyPolicy */
    "\x60\x86\x48\x01\x86\xf8\x42\x01\x01", /* Netscape's certificate type */
};

/* Extensions that people may have heard of. */
static const struct {
    const char *oid, *name;
} extension_names[] = {
    {CE("\x12"), "issuerAltName"},
    {CE("\x24"), "policyConstraints"},
    {CE("\x2e"), "freshestCRL"},
    {PE("\x01"), "authorityInfoAccess"},
    {PE("\x03"), "qcStatements"},
    {PE("\x0e"), "proxyCertInfo"},
    {PE("\x18"), "TLS feature"},
    {"\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x03", "precertificate poison"},
};

static bool is_known(struct str oid)
{
    for (size_t i = 0; i < ARRAY_LEN(known_extensions); i++) {
        if (is_oid(oid, known_extensions[i])) {
            return true;
        }
    }
    return false;
}

static void describe_extension(char *out, size_t cap, struct str oid)
{
    char number[64];
    der_oid_text(number, sizeof(number), oid);
    for (size_t i = 0; i < ARRAY_LEN(extension_names); i++) {
        if (is_oid(oid, extension_names[i].oid)) {
            text_fmt(out, cap, "the critical extension %s (%s)", number, extension_names[i].name);
            return;
        }
    }
    text_fmt(out, cap, "the critical extension %s", number);
}

bool tls_unknown_extension(char *out, size_t cap, const mbedtls_x509_crt *crt)
{
    struct str list = tls_extensions(crt);
    struct tls_extension extension;
    int found;
    while ((found = tls_extension_next(&list, &extension)) == OK) {
        if (extension.critical && !is_known(extension.oid)) {
            describe_extension(out, cap, extension.oid);
            return true;
        }
    }
    if (found == ERR) {
        text_fmt(out, cap, "an extension that cannot be read");
    }
    return found == ERR;
}
