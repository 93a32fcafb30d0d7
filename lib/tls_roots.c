/* Trusted certificates, and what is wrong with a server's.
 *
 * The bundle of a Linux distribution has some 140 certificates, of which a process needs two or
 * three. So they are kept as they come, in DER, behind an index of their subjects; mbedTLS
 * asks for the ones that it needs and those are parsed for that one handshake. */
#include "lib/tls_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include <mbedtls/base64.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform.h>

#include "lib/mem.h"
#include "lib/text.h"

struct root {
    size_t at, n;         /* its DER form: roots->der[at, at + n) */
    uint32_t subject_key; /* see name_key */
};

struct tls_roots {
    unsigned refs;
    char *path;
    unsigned char *der;
    size_t der_len;
    struct root *list;
    size_t n, cap;
};

enum { BUNDLE_MAX = 16 * 1024 * 1024 };

/* Where Debian and Alpine, Red Hat, SUSE, newer Red Hat, and the BSDs and macOS keep it. */
static const char *const usual_places[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

/* A hash that is equal for names that X.509 calls equal: case and string type do not count (RFC
 * 5280 section 7.1). Only a filter: mbedTLS compares the names themselves. */
static uint32_t name_key(const mbedtls_x509_name *name)
{
    uint32_t key = 2166136261u;
    for (; name; name = name->next) {
        for (size_t i = 0; i < name->val.len; i++) {
            unsigned char c = name->val.p[i];
            c = c >= 'A' && c <= 'Z' ? (unsigned char)(c + ('a' - 'A')) : c;
            key = (key ^ c) * 16777619u;
        }
    }
    return key;
}

int tls_next_certificate(struct str *text, unsigned char *out, size_t cap, size_t *n)
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

/* Those of base, if any, and room for more from this source. */
static struct tls_roots *new_roots(const struct tls_roots *base, const char *source)
{
    struct tls_roots *roots = mem_zalloc(sizeof(*roots));
    size_t size = (base ? strlen(base->path) + strlen(", ") : 0) + strlen(source) + 1;
    roots->refs = 1;
    roots->path = mem_alloc(size);
    text_fmt(roots->path, size, "%s%s%s", base ? base->path : "", base ? ", " : "", source);
    if (base) {
        roots->der = mem_alloc(base->der_len);
        memcpy(roots->der, base->der, base->der_len);
        roots->der_len = base->der_len;
        roots->list = mem_alloc(base->n * sizeof(*base->list));
        memcpy(roots->list, base->list, base->n * sizeof(*base->list));
        roots->n = roots->cap = base->n;
    }
    return roots;
}

/* Adds the certificates of a bundle. Those that mbedTLS cannot read are left out. Returns the
 * place, counted from 1, of the first of these; 0: all can be read. */
static size_t add_bundle(struct tls_roots *roots, struct str text)
{
    size_t n, place = 0, unusable = 0;
    size_t room = roots->der_len + text.n; /* base64 only shrinks */
    roots->der = mem_realloc(roots->der, room);
    for (int found; (found = tls_next_certificate(&text, roots->der + roots->der_len,
                                                  room - roots->der_len, &n)) != ERR;) {
        mbedtls_x509_crt crt;
        mbedtls_x509_crt_init(&crt);
        place++;
        if (found == OK &&
            mbedtls_x509_crt_parse_der_nocopy(&crt, roots->der + roots->der_len, n) == 0) {
            if (roots->n == roots->cap) {
                roots->cap = roots->cap ? 2 * roots->cap : 16;
                roots->list = mem_realloc(roots->list, roots->cap * sizeof(*roots->list));
            }
            roots->list[roots->n++] = (struct root){roots->der_len, n, name_key(&crt.subject)};
            roots->der_len += n;
        } else if (!unusable) {
            unusable = place;
        }
        mbedtls_x509_crt_free(&crt);
    }
    roots->der = mem_realloc(roots->der, roots->der_len);
    return unusable;
}

/* The whole file, or NULL and errno. */
static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return NULL;
    }
    size_t cap = 256 * 1024;
    char *text = mem_alloc(cap);
    *n = 0;
    errno = 0;
    for (size_t got; (got = fread(text + *n, 1, cap - *n, f)) > 0;) {
        *n += got;
        if (*n == cap && cap < BUNDLE_MAX) {
            cap *= 2;
            text = mem_realloc(text, cap);
        }
    }
    int why = ferror(f) ? errno : *n == BUNDLE_MAX ? EFBIG : 0;
    fclose(f);
    if (why) {
        free(text);
        errno = why;
        return NULL;
    }
    return text;
}

static struct tls_roots *load(const char *path, char *text, size_t n, struct error *err)
{
    struct tls_roots *roots = new_roots(NULL, path);
    add_bundle(roots, (struct str){text, n});
    free(text);
    if (roots->n == 0) {
        error_set(err, FAIL_CONFIG, "%s: no usable CA certificate (PEM) in it", path);
        tls_roots_unref(roots);
        return NULL;
    }
    return roots;
}

struct tls_roots *tls_roots_load(const char *path, struct error *err)
{
    size_t n;
    path = path ? path : getenv("SSL_CERT_FILE");
    if (path && path[0]) {
        char *text = read_file(path, &n);
        if (!text) {
            error_set(err, FAIL_CONFIG, "%s: cannot read the CA certificates: %s", path,
                      strerror(errno));
            return NULL;
        }
        return load(path, text, n, err);
    }
    for (size_t i = 0; i < ARRAY_LEN(usual_places); i++) {
        char *text = read_file(usual_places[i], &n);
        if (text) {
            return load(usual_places[i], text, n, err);
        }
    }
    error_set(err, FAIL_CONFIG,
              "no CA certificates found: %s and the other usual places are missing; name a PEM "
              "file with SSL_CERT_FILE or --ca-file",
              usual_places[0]);
    return NULL;
}

struct tls_roots *tls_roots_add(const struct tls_roots *base, const char *source, struct str pem,
                                struct error *err)
{
    struct tls_roots *roots = new_roots(base, source);
    size_t before = roots->n, unusable = add_bundle(roots, pem);
    if (unusable) {
        error_set(err, FAIL_CONFIG, "%s: certificate %zu in it is no usable CA certificate", source,
                  unusable);
    } else if (roots->n == before) {
        error_set(err, FAIL_CONFIG, "%s: no usable CA certificate (PEM) in it", source);
    } else {
        return roots;
    }
    tls_roots_unref(roots);
    return NULL;
}

struct tls_roots *tls_roots_ref(struct tls_roots *roots)
{
    roots->refs++;
    return roots;
}

void tls_roots_unref(struct tls_roots *roots)
{
    if (roots && --roots->refs == 0) {
        free(roots->path);
        free(roots->der);
        free(roots->list);
        free(roots);
    }
}

const char *tls_roots_path(const struct tls_roots *roots)
{
    return roots->path;
}

size_t tls_roots_count(const struct tls_roots *roots)
{
    return roots->n;
}

int tls_roots_find(void *arg, const mbedtls_x509_crt *child, mbedtls_x509_crt **candidates)
{
    const struct tls_roots *roots = arg;
    uint32_t key = name_key(&child->issuer);
    *candidates = NULL;
    for (size_t i = 0; roots && i < roots->n; i++) {
        const struct root *root = &roots->list[i];
        if (root->subject_key != key) {
            continue;
        }
        if (!*candidates) {
            *candidates = mbedtls_calloc(1, sizeof(**candidates));
            if (!*candidates) {
                return MBEDTLS_ERR_X509_ALLOC_FAILED;
            }
            mbedtls_x509_crt_init(*candidates);
        }
        int bad = mbedtls_x509_crt_parse_der_nocopy(*candidates, roots->der + root->at, root->n);
        if (bad) {
            return bad; /* it was parsed once before: only memory can be short */
        }
    }
    return 0;
}

/* Is this very certificate in the bundle? */
static bool roots_hold(const struct tls_roots *roots, const mbedtls_x509_crt *crt)
{
    for (size_t i = 0; roots && i < roots->n; i++) {
        const struct root *root = &roots->list[i];
        if (root->n == crt->raw.len && memcmp(roots->der + root->at, crt->raw.p, root->n) == 0) {
            return true;
        }
    }
    return false;
}

void tls_judge_complain(struct tls_judge *judge, const char *fmt, ...)
{
    size_t n = 0;
    if (!judge->complaint) {
        judge->complaint = mem_alloc(FAIL_TEXT_MAX);
    } else {
        n = strlen(judge->complaint);
        n += text_fmt(judge->complaint + n, FAIL_TEXT_MAX - n, "; ");
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(judge->complaint + n, FAIL_TEXT_MAX - n, fmt, ap);
    va_end(ap);
}

/* The part of a distinguished name that people know it by: common name, else organisation. */
static const char *name_text(char *out, size_t cap, const mbedtls_x509_name *name)
{
    const mbedtls_x509_name *best = NULL;
    for (const mbedtls_x509_name *at = name; at; at = at->next) {
        if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &at->oid) == 0) {
            best = at;
        } else if (!best && MBEDTLS_OID_CMP(MBEDTLS_OID_AT_ORGANIZATION, &at->oid) == 0) {
            best = at;
        }
    }
    return best ? text_printable(out, cap, (struct str){(char *)best->val.p, best->val.len})
                : "no name";
}

/* RFC 6125 section 6.4: case does not count; a wildcard is the whole first label, stands for one
 * label, and has at least two labels behind it. */
static bool dns_name_matches(struct str pattern, struct str host)
{
    if (pattern.n > 2 && pattern.p[0] == '*' && pattern.p[1] == '.') {
        struct str suffix = {pattern.p + 2, pattern.n - 2};
        struct str label = str_cut(&host, '.');
        if (label.n == 0 || !memchr(suffix.p, '.', suffix.n)) {
            return false;
        }
        pattern = suffix;
    }
    return pattern.n == host.n && strncasecmp(pattern.p, host.p, host.n) == 0;
}

static int san_type(const mbedtls_x509_sequence *san)
{
    return san->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK;
}

static bool has_sans(const mbedtls_x509_crt *crt)
{
    return crt->subject_alt_names.buf.p != NULL;
}

/* By subject alternative names alone. The common name, on which mbedTLS would fall back, does not
 * count: RFC 7817 section 3 leaves that to us, RFC 9525 section 2 has done away with it. */
static bool identity_matches(const mbedtls_x509_crt *crt, const struct tls_identity *identity)
{
    const mbedtls_x509_sequence *san = has_sans(crt) ? &crt->subject_alt_names : NULL;
    for (; san; san = san->next) {
        struct str value = {(const char *)san->buf.p, san->buf.len};
        if (identity->addr_len) {
            if (san_type(san) == MBEDTLS_X509_SAN_IP_ADDRESS && value.n == identity->addr_len &&
                memcmp(value.p, identity->addr, value.n) == 0) {
                return true;
            }
        } else if (san_type(san) == MBEDTLS_X509_SAN_DNS_NAME &&
                   dns_name_matches(value, str_of(identity->host))) {
            return true;
        }
    }
    return false;
}

/* One alternative name as text; NULL for a kind that is neither name nor address. */
static const char *san_text(char *out, size_t cap, const mbedtls_x509_sequence *san)
{
    struct str value = {(const char *)san->buf.p, san->buf.len};
    if (san_type(san) == MBEDTLS_X509_SAN_DNS_NAME) {
        return text_printable(out, cap, value);
    }
    if (san_type(san) == MBEDTLS_X509_SAN_IP_ADDRESS && (value.n == 4 || value.n == 16)) {
        return inet_ntop(value.n == 4 ? AF_INET : AF_INET6, value.p, out, (socklen_t)cap);
    }
    return NULL;
}

static void complain_about_name(struct tls_judge *judge, const mbedtls_x509_crt *crt)
{
    enum { SHOWN = 3 };
    char name[64], names[SHOWN * (sizeof(name) + 2)] = "";
    size_t n = 0, found = 0;
    const mbedtls_x509_sequence *san = has_sans(crt) ? &crt->subject_alt_names : NULL;
    for (; san; san = san->next) {
        const char *text = san_text(name, sizeof(name), san);
        if (text && found++ < SHOWN) {
            n += text_fmt(names + n, sizeof(names) - n, "%s%s", n ? ", " : "", text);
        }
    }
    if (found > SHOWN) {
        tls_judge_complain(judge, "it is for %s and %zu more, not for %s", names, found - SHOWN,
                           judge->identity->host);
    } else if (found) {
        tls_judge_complain(judge, "it is for %s, not for %s", names, judge->identity->host);
    } else {
        tls_judge_complain(judge,
                           "it has no subject alternative name, and its common name (%s) does not "
                           "count",
                           name_text(name, sizeof(name), &crt->subject));
    }
}

/* `whose` is how the clause calls the certificate. */
static void complain_about_chain(struct tls_judge *judge, const mbedtls_x509_crt *crt,
                                 const char *whose, uint32_t flags)
{
    char issuer[80];
    if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) {
        tls_judge_complain(judge, "%s is not trusted: issuer %s is not among %s", whose,
                           name_text(issuer, sizeof(issuer), &crt->issuer),
                           judge->roots ? judge->roots->path : "the trusted (there are none)");
    }
    if (flags & MBEDTLS_X509_BADCERT_EXPIRED) {
        tls_judge_complain(judge, "%s expired on %04d-%02d-%02d", whose, crt->valid_to.year,
                           crt->valid_to.mon, crt->valid_to.day);
    }
    if (flags & MBEDTLS_X509_BADCERT_FUTURE) {
        tls_judge_complain(judge, "%s is not valid before %04d-%02d-%02d", whose,
                           crt->valid_from.year, crt->valid_from.mon, crt->valid_from.day);
    }
    if (flags & MBEDTLS_X509_BADCERT_BAD_MD) {
        tls_judge_complain(judge, "%s is signed with a weak digest", whose);
    }
    if (flags & (MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY)) {
        tls_judge_complain(judge, "%s has, or is signed with, a weak or unknown kind of key",
                           whose);
    }
}

int tls_judge_certificate(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct tls_judge *judge = arg;
    uint32_t found = *flags & ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
    char name[80], whose[100] = "it";
    if (depth > 0) {
        text_fmt(whose, sizeof(whose), "CA certificate %s",
                 name_text(name, sizeof(name), &crt->subject));
    } else if (roots_hold(judge->roots, crt)) {
        /* The bundle names the server's own certificate: who signed it does not matter. */
        free(judge->complaint);
        judge->complaint = NULL;
        judge->found = 0;
        found &= ~(uint32_t)(MBEDTLS_X509_BADCERT_NOT_TRUSTED | MBEDTLS_X509_BADCERT_BAD_MD);
    }
    if (!judge->trust_any) {
        judge->found |= found;
        complain_about_chain(judge, crt, whose, found);
    }
    *flags = 0;
    if (depth > 0) {
        return 0;
    }
    judge->asked = true;
    if (judge->check_host && !identity_matches(crt, judge->identity)) {
        judge->found |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
        complain_about_name(judge, crt);
    }
    *flags = judge->found; /* mbedTLS chooses the alert by them */
    return judge->complaint && judge->trust_any ? MBEDTLS_ERR_X509_FATAL_ERROR : 0;
}
