/* Trusted certificates.
 *
 * The bundle of a Linux distribution has some 140 certificates, and a process needs two or three of
 * them. They are therefore kept as they come, in DER, behind an index of their subjects. mbedTLS
 * asks for the ones that it needs, and those are parsed for that one handshake. */
#include "lib/tls_roots.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/platform.h>

#include "lib/der.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "lib/tls_certificate.h"

struct root {
    size_t at, n;         /* its DER form: roots->der[at, at + n) */
    uint32_t subject_key; /* see tls_name_key */
};

/* A certificate that was left out. */
struct rejected {
    uint32_t subject_key;
    char *text; /* "certificate 2 (NAME) cannot be used: " and the reason */
    size_t why; /* where the reason begins in `text`; 0: the text is about further ones */
};

struct tls_roots {
    unsigned refs;
    char *path;
    unsigned char *der;
    size_t der_len;
    struct root *list;
    size_t n, cap;
    struct rejected *rejected; /* those of the base come first */
    size_t rejected_count, inherited;
};

static void add_rejected(struct tls_roots *roots, uint32_t subject_key, const char *text,
                         size_t why)
{
    roots->rejected =
        mem_realloc(roots->rejected, (roots->rejected_count + 1) * sizeof(*roots->rejected));
    roots->rejected[roots->rejected_count++] =
        (struct rejected){.subject_key = subject_key, .text = mem_strdup(text), .why = why};
}

/* Creates roots from those of base, if any; the path names the base's and this source. */
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
        for (size_t i = 0; i < base->rejected_count; i++) {
            const struct rejected *from = &base->rejected[i];
            add_rejected(roots, from->subject_key, from->text, from->why);
        }
        roots->inherited = roots->rejected_count;
    }
    return roots;
}

static void add_root(struct tls_roots *roots, size_t n, const mbedtls_x509_crt *crt)
{
    if (roots->n == roots->cap) {
        roots->cap = roots->cap ? 2 * roots->cap : 16;
        roots->list = mem_realloc(roots->list, roots->cap * sizeof(*roots->list));
    }
    roots->list[roots->n++] = (struct root){roots->der_len, n, tls_name_key(tls_subject(crt))};
    roots->der_len += n;
}

static void reject(struct tls_roots *roots, size_t place, struct str der, const char *why)
{
    struct str subject = str_of("");
    char name[80], text[FAIL_TEXT_MAX];
    size_t mine = roots->rejected_count - roots->inherited;
    if (mine == TLS_LEFT_OUT_MAX) {
        return;
    }
    if (mine == TLS_LEFT_OUT_MAX - 1) {
        add_rejected(roots, 0, "further certificates cannot be used", 0);
        return;
    }
    bool named = tls_certificate_subject(der, &subject) == OK;
    size_t n = text_fmt(text, sizeof(text), "certificate %zu (%s) cannot be used: ", place,
                        named ? tls_name_text(name, sizeof(name), subject) : "no name");
    text_fmt(text + n, sizeof(text) - n, "%s", why);
    add_rejected(roots, named ? tls_name_key(subject) : 0, text, n);
}

/* Adds or rejects one certificate, der[0, n), which is already in its place behind the others. */
static void add_certificate(struct tls_roots *roots, size_t place, size_t n)
{
    const unsigned char *der = roots->der + roots->der_len;
    char text[160], extension[120];
    mbedtls_x509_crt crt;
    mbedtls_x509_crt_init(&crt);
    int bad = tls_certificate_parse(&crt, der, n, false);
    struct str whole = {(const char *)der, n};
    if (bad) {
        reject(roots, place, whole, tls_certificate_problem(text, sizeof(text), bad));
    } else if (tls_unknown_extension(extension, sizeof(extension), &crt)) {
        text_fmt(text, sizeof(text), "it has %s, which is not supported", extension);
        reject(roots, place, whole, text);
    } else {
        add_root(roots, n, &crt);
    }
    mbedtls_x509_crt_free(&crt);
}

/* Adds the certificates of a bundle. Those that cannot be used are left out. */
static void add_bundle(struct tls_roots *roots, struct str text)
{
    size_t n, place = 0;
    size_t room = roots->der_len + text.n; /* base64 only shrinks */
    roots->der = mem_realloc(roots->der, room);
    for (int found; (found = tls_certificate_from_pem(&text, roots->der + roots->der_len,
                                                      room - roots->der_len, &n)) != ERR;) {
        place++;
        if (found == OK) {
            add_certificate(roots, place, n);
        } else {
            reject(roots, place, str_of(""), "its base64 is damaged or cut off");
        }
    }
    roots->der = mem_realloc(roots->der, roots->der_len);
}

/* Creates roots from those of base and those in the text. Returns NULL and sets *err when the text
 * has no usable certificate. */
static struct tls_roots *make_roots(const struct tls_roots *base, const char *source,
                                    struct str text, struct error *err)
{
    struct tls_roots *roots = new_roots(base, source);
    size_t before = roots->n;
    add_bundle(roots, text);
    if (roots->n > before) {
        return roots;
    }
    const char *why = tls_roots_left_out(roots, 0);
    error_set(err, FAIL_CONFIG, "%s: no usable CA certificate (PEM) in it%s%s", source,
              why ? ": " : "", why ? why : "");
    tls_roots_unref(roots);
    return NULL;
}

struct tls_roots *tls_roots_add(const struct tls_roots *base, const char *source, struct str pem,
                                struct error *err)
{
    return make_roots(base, source, pem, err);
}

struct tls_roots *tls_roots_of(const char *source, struct str file, struct error *err)
{
    static const char begin[] = "-----BEGIN ";
    struct str rest = file;
    struct der_item item;
    bool pem = memmem(file.p, file.n, begin, sizeof(begin) - 1);
    if (!pem && (der_next(&rest, &item) != OK || item.tag != DER_SEQUENCE || rest.n)) {
        error_set(err, FAIL_CONFIG, "is neither PEM nor DER");
        return NULL;
    }
    struct tls_roots *roots = new_roots(NULL, source);
    if (pem) {
        add_bundle(roots, file);
    } else {
        roots->der = mem_alloc(file.n);
        memcpy(roots->der, file.p, file.n);
        add_certificate(roots, 1, file.n);
    }
    if (roots->n > 0) {
        return roots;
    }
    const char *why = tls_roots_left_out(roots, 0);
    error_set(err, FAIL_CONFIG, "has no usable certificate%s%s", why ? ": " : "", why ? why : "");
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
        for (size_t i = 0; i < roots->rejected_count; i++) {
            free(roots->rejected[i].text);
        }
        free(roots->rejected);
        free(roots);
    }
}

bool tls_roots_equal(const struct tls_roots *a, const struct tls_roots *b)
{
    if (!a || !b) {
        return a == b;
    }
    if (a->der_len != b->der_len || memcmp(a->der, b->der, a->der_len) != 0 ||
        a->rejected_count != b->rejected_count) {
        return false;
    }
    for (size_t i = 0; i < a->rejected_count; i++) {
        if (strcmp(a->rejected[i].text, b->rejected[i].text) != 0) {
            return false;
        }
    }
    return true;
}

const char *tls_roots_path(const struct tls_roots *roots)
{
    return roots->path;
}

size_t tls_roots_count(const struct tls_roots *roots)
{
    return roots->n;
}

struct str tls_roots_der(const struct tls_roots *roots)
{
    return (struct str){(const char *)roots->der, roots->der_len};
}

bool tls_roots_shared(const struct tls_roots *roots)
{
    return roots->refs > 1;
}

const char *tls_roots_left_out(const struct tls_roots *roots, size_t i)
{
    i += roots->inherited;
    return i < roots->rejected_count ? roots->rejected[i].text : NULL;
}

const char *tls_roots_rejected(const struct tls_roots *roots, struct str name)
{
    uint32_t key = tls_name_key(name);
    for (size_t i = 0; roots && i < roots->rejected_count; i++) {
        const struct rejected *rejected = &roots->rejected[i];
        if (rejected->why && rejected->subject_key == key) {
            return rejected->text + rejected->why;
        }
    }
    return NULL;
}

/* Adds a root to the end of *list, which may be NULL, unless the lookup does not want it. */
static int add_candidate(const struct tls_lookup *lookup, const struct root *root,
                         mbedtls_x509_crt **list)
{
    mbedtls_x509_crt *crt = mbedtls_calloc(1, sizeof(*crt));
    if (!crt) {
        return MBEDTLS_ERR_X509_ALLOC_FAILED;
    }
    mbedtls_x509_crt_init(crt);
    int bad = tls_certificate_parse(crt, lookup->roots->der + root->at, root->n, false);
    if (bad || (lookup->wanted && !lookup->wanted(crt))) {
        mbedtls_x509_crt_free(crt);
        mbedtls_free(crt);
        return bad; /* it was parsed once before, so only memory can be missing */
    }
    while (*list) {
        list = &(*list)->next;
    }
    *list = crt;
    return 0;
}

int tls_roots_find(void *arg, const mbedtls_x509_crt *child, mbedtls_x509_crt **candidates)
{
    struct tls_lookup *lookup = arg;
    const struct tls_roots *roots = lookup->roots;
    uint32_t key = tls_name_key(tls_issuer(child));
    *candidates = NULL;
    for (size_t i = 0; roots && i < roots->n; i++) {
        if (roots->list[i].subject_key != key) {
            continue;
        }
        int bad = add_candidate(lookup, &roots->list[i], candidates);
        if (bad) {
            lookup->failed = true;
            return bad;
        }
    }
    return 0;
}

bool tls_roots_named(const struct tls_roots *roots, struct str name)
{
    uint32_t key = tls_name_key(name);
    for (size_t i = 0; roots && i < roots->n; i++) {
        if (roots->list[i].subject_key == key) {
            return true;
        }
    }
    return false;
}

bool tls_roots_hold(const struct tls_roots *roots, const mbedtls_x509_crt *crt)
{
    for (size_t i = 0; roots && i < roots->n; i++) {
        const struct root *root = &roots->list[i];
        if (root->n == crt->raw.len && memcmp(roots->der + root->at, crt->raw.p, root->n) == 0) {
            return true;
        }
    }
    return false;
}
