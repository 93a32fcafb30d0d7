/* Judges a server's certificates and puts in words what is wrong with them. mbedTLS checks
 * signatures, dates and keys, and reports one certificate after the other, from the root down;
 * names, name constraints and unknown extensions are judged here. */
#include "lib/tls_judge.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>

#include "lib/mem.h"
#include "lib/name_constraints.h"
#include "lib/text.h"
#include "lib/tls_certificate.h"
#include "lib/tls_roots.h"

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

/* ---- is it the server that we want? ---- */

/* Compares as RFC 6125 section 6.4 says: case does not count; a wildcard is the whole first label,
 * stands for one label, and has at least two labels behind it. */
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

static struct str san_value(const mbedtls_x509_sequence *san)
{
    return (struct str){(const char *)san->buf.p, san->buf.len};
}

static const mbedtls_x509_sequence *first_san(const mbedtls_x509_crt *crt)
{
    return crt->subject_alt_names.buf.p ? &crt->subject_alt_names : NULL;
}

/* Compares the subject alternative names only. The common name, on which mbedTLS would fall back,
 * does not count: RFC 7817 section 3 makes it optional, RFC 9525 section 2 has removed it. */
static bool identity_matches(const mbedtls_x509_crt *crt, const struct tls_identity *identity)
{
    for (const mbedtls_x509_sequence *san = first_san(crt); san; san = san->next) {
        struct str value = san_value(san);
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

/* Tells whether the certificate has the wanted address as a DNS name. */
static bool address_is_dns_name(const mbedtls_x509_crt *crt, const struct tls_identity *identity)
{
    unsigned char addr[sizeof(identity->addr)];
    char text[INET6_ADDRSTRLEN];
    int family = identity->addr_len == 4 ? AF_INET : AF_INET6;
    if (!identity->addr_len) {
        return false;
    }
    for (const mbedtls_x509_sequence *san = first_san(crt); san; san = san->next) {
        struct str value = san_value(san);
        text_fmt(text, sizeof(text), "%.*s", STR_ARG(value));
        if (san_type(san) == MBEDTLS_X509_SAN_DNS_NAME && value.n < sizeof(text) &&
            inet_pton(family, text, addr) == 1 &&
            memcmp(addr, identity->addr, identity->addr_len) == 0) {
            return true;
        }
    }
    return false;
}

/* Returns one alternative name as text; NULL for a kind that is not a DNS name or an address. */
static const char *san_text(char *out, size_t cap, int type, struct str value)
{
    if (type == MBEDTLS_X509_SAN_DNS_NAME) {
        return text_printable(out, cap, value);
    }
    if (type == MBEDTLS_X509_SAN_IP_ADDRESS && (value.n == 4 || value.n == 16)) {
        return inet_ntop(value.n == 4 ? AF_INET : AF_INET6, value.p, out, (socklen_t)cap);
    }
    return NULL;
}

const char *tls_judge_names(char out[static TLS_NAMES_SIZE], const mbedtls_x509_crt *crt)
{
    enum { SHOWN = 3 };
    char name[64];
    size_t n = 0, found = 0;
    out[0] = '\0';
    for (const mbedtls_x509_sequence *san = first_san(crt); san; san = san->next) {
        const char *text = san_text(name, sizeof(name), san_type(san), san_value(san));
        if (text && found++ < SHOWN) {
            n += text_fmt(out + n, TLS_NAMES_SIZE - n, "%s%s", n ? ", " : "", text);
        }
    }
    if (found > SHOWN) {
        text_fmt(out + n, TLS_NAMES_SIZE - n, " and %zu more", found - SHOWN);
    }
    return out;
}

static void complain_about_name(struct tls_judge *judge, const mbedtls_x509_crt *crt)
{
    char name[64], names[TLS_NAMES_SIZE];
    if (address_is_dns_name(crt, judge->identity)) {
        tls_judge_complain(
            judge, "it has %s as a DNS name; an address has to stand in it as an IP address",
            judge->identity->host);
    } else if (tls_judge_names(names, crt)[0]) {
        tls_judge_complain(judge, "it is for %s, not for %s", names, judge->identity->host);
    } else {
        tls_judge_complain(judge,
                           "it has no subject alternative name, and its common name (%s) does not "
                           "count",
                           tls_name_text(name, sizeof(name), tls_subject(crt)));
    }
}

/* ---- name constraints ---- */

/* Describes a name for people. */
static void describe_name(char *out, size_t cap, struct general_name name)
{
    static const char *const forms[] = {
        [NAME_OTHER] = "other name",
        [NAME_MAIL] = "mail address",
        [NAME_DNS] = "name",
        [NAME_X400] = "X.400 address",
        [NAME_DIRECTORY] = "subject",
        [NAME_EDI_PARTY] = "EDI party name",
        [NAME_URI] = "URI",
        [NAME_ADDRESS] = "address",
        [NAME_REGISTERED_ID] = "registered ID",
    };
    char text[80];
    const char *said = NULL;
    if (name.form == NAME_MAIL || name.form == NAME_URI) {
        said = text_printable(text, sizeof(text), name.value);
    } else if (name.form == NAME_DIRECTORY) {
        said = tls_name_text(text, sizeof(text), name.value);
    } else {
        said = san_text(text, sizeof(text), (int)name.form, name.value);
    }
    const char *form = name.form < ARRAY_LEN(forms) ? forms[name.form] : "unknown kind of name";
    text_fmt(out, cap, "%s%s%s", form, said ? " " : "", said ? said : "");
}

/* Judges one name by all CAs above. Returns false, with a complaint, when it is not allowed. */
static bool name_allowed(struct tls_judge *judge, const char *whose, enum name_form form,
                         struct str value)
{
    struct tls_walk *walk = judge->walk;
    struct general_name name = {form, value};
    enum name_verdict verdict = NAME_ALLOWED;
    size_t i = 0;
    for (; i < walk->constraint_count; i++) {
        verdict = name_constraints_judge(walk->constraints[i].extension, name, walk->budget);
        if (verdict != NAME_ALLOWED) {
            break;
        }
    }
    if (verdict == NAME_ALLOWED) {
        return true;
    }
    char what[120], text[80];
    describe_name(what, sizeof(what), name);
    const char *ca = tls_name_text(text, sizeof(text), walk->constraints[i].subject);
    switch (verdict) {
    case NAME_ALLOWED:
        break;
    case NAME_NOT_PERMITTED:
        tls_judge_complain(judge,
                           "%s %s is not permitted by the name constraints of CA certificate %s",
                           whose, what, ca);
        break;
    case NAME_EXCLUDED:
        tls_judge_complain(judge, "%s %s is excluded by the name constraints of CA certificate %s",
                           whose, what, ca);
        break;
    case NAME_NOT_COMPARED:
        tls_judge_complain(
            judge, "%s %s cannot be compared with the name constraints of CA certificate %s", whose,
            what, ca);
        break;
    case NAME_BAD_SUBTREE:
        tls_judge_complain(judge,
                           "%s %s cannot be judged: the name constraints of CA certificate %s have "
                           "a bad address or mask, a minimum or a maximum",
                           whose, what, ca);
        break;
    case NAME_MALFORMED:
        tls_judge_complain(judge,
                           "%s %s, or the name constraints of CA certificate %s, are malformed",
                           whose, what, ca);
        break;
    case NAME_TOO_MANY:
        tls_judge_complain(judge, "its names take more than %d comparisons with name constraints",
                           TLS_COMPARISONS_MAX);
        break;
    }
    return false;
}

/* Judges the subject as a directory name, and mail addresses in it as mail addresses (RFC 5280
 * section 4.2.1.10). The common name is not judged, because it is not used as the name of a
 * host. */
static bool subject_allowed(struct tls_judge *judge, const char *who, const char *whose,
                            struct str subject)
{
    struct tls_attributes at;
    struct str type, value;
    int found = tls_attributes_open(&at, subject);
    if (found == OK && at.names.n && !name_allowed(judge, whose, NAME_DIRECTORY, subject)) {
        return false;
    }
    while (found == OK && (found = tls_attribute_next(&at, &type, &value)) == OK) {
        if (tls_is_mail_address(type) && !name_allowed(judge, whose, NAME_MAIL, value)) {
            return false;
        }
    }
    if (found == ERR) {
        tls_judge_complain(judge, "%s has a subject that is malformed", who);
    }
    return found != ERR;
}

/* Judges all names of a certificate. `who` is what a clause calls the certificate: "it", or "CA
 * certificate NAME". */
static bool names_allowed(struct tls_judge *judge, const mbedtls_x509_crt *crt, const char *who)
{
    char whose[104];
    text_fmt(whose, sizeof(whose), "%s%s", who, strcmp(who, "it") == 0 ? "s" : "'s");
    if (judge->walk->constraint_count == 0) {
        return true;
    }
    if (!subject_allowed(judge, who, whose, tls_subject(crt))) {
        return false;
    }
    for (const mbedtls_x509_sequence *san = first_san(crt); san; san = san->next) {
        if (!name_allowed(judge, whose, (enum name_form)san_type(san), san_value(san))) {
            return false;
        }
    }
    return true;
}

/* Notes the certificate's constraints for those below it. Returns false, with a complaint, when
 * they cannot be understood. */
static bool take_constraints(struct tls_judge *judge, const mbedtls_x509_crt *crt, const char *who)
{
    struct tls_walk *walk = judge->walk;
    struct str list = tls_extensions(crt);
    struct tls_extension extension;
    bool seen = false;
    while (tls_extension_next(&list, &extension) == OK) {
        if (!tls_is_name_constraints(&extension)) {
            continue;
        }
        if (seen || name_constraints_check(extension.value, walk->budget) != NAME_ALLOWED) {
            tls_judge_complain(judge, "%s has name constraints that are malformed", who);
            return false;
        }
        seen = true;
        walk->constraints[walk->constraint_count].extension = extension.value;
        walk->constraints[walk->constraint_count++].subject = tls_subject(crt);
    }
    return true;
}

static bool is_self_issued(const mbedtls_x509_crt *crt)
{
    struct str subject = tls_subject(crt), issuer = tls_issuer(crt);
    return subject.n == issuer.n && memcmp(subject.p, issuer.p, issuer.n) == 0;
}

/* Judges the parts that mbedTLS does not judge. */
static bool extensions_allowed(struct tls_judge *judge, const mbedtls_x509_crt *crt,
                               const char *who, int depth)
{
    char extension[120];
    if (tls_unknown_extension(extension, sizeof(extension), crt)) {
        tls_judge_complain(judge, "%s has %s, which is not supported", who, extension);
        return false;
    }
    /* A CA that changes its key signs a certificate for itself; the constraints above do not apply
     * to that certificate (RFC 5280 section 4.2.1.10). */
    return (depth > 0 && is_self_issued(crt) ? true : names_allowed(judge, crt, who)) &&
           take_constraints(judge, crt, who);
}

/* ---- what mbedTLS has found ---- */

static void complain_about_trust(struct tls_judge *judge, const mbedtls_x509_crt *crt,
                                 const char *who, int depth)
{
    char name[80];
    const char *issuer = tls_name_text(name, sizeof(name), tls_issuer(crt));
    const char *rejected = tls_roots_rejected(judge->roots, tls_issuer(crt));
    const char *path = judge->roots ? tls_roots_path(judge->roots) : NULL;
    if (judge->walk->length > (size_t)depth + 1) {
        tls_judge_complain(judge, "%s is not signed by the CA certificate %s that came with it",
                           who, issuer);
    } else if (rejected) {
        tls_judge_complain(judge, "%s is not trusted: issuer %s is in %s, but cannot be used: %s",
                           who, issuer, path, rejected);
    } else {
        tls_judge_complain(judge, "%s is not trusted: issuer %s is not among %s", who, issuer,
                           path ? path : "the trusted (there are none)");
    }
    if (judge->unreadable) {
        tls_judge_complain(judge, "%s", judge->unreadable);
    }
}

static void complain_about_chain(struct tls_judge *judge, const mbedtls_x509_crt *crt,
                                 const char *who, int depth, uint32_t flags)
{
    if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) {
        complain_about_trust(judge, crt, who, depth);
    }
    if (flags & MBEDTLS_X509_BADCERT_EXPIRED) {
        tls_judge_complain(judge, "%s expired on %04d-%02d-%02d", who, crt->valid_to.year,
                           crt->valid_to.mon, crt->valid_to.day);
    }
    if (flags & MBEDTLS_X509_BADCERT_FUTURE) {
        tls_judge_complain(judge, "%s is not valid before %04d-%02d-%02d", who,
                           crt->valid_from.year, crt->valid_from.mon, crt->valid_from.day);
    }
    if (flags & MBEDTLS_X509_BADCERT_BAD_MD) {
        tls_judge_complain(judge, "%s is signed with a weak digest", who);
    }
    if (flags & (MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY)) {
        tls_judge_complain(judge, "%s has, or is signed with, a weak or unknown kind of key", who);
    }
}

/* Forgets the complaints about the certificates above. */
static void acquit(struct tls_judge *judge)
{
    free(judge->complaint);
    judge->complaint = NULL;
    judge->found = 0;
    judge->walk->constraint_count = 0;
    judge->walk->above = false;
}

static void judge_one(struct tls_judge *judge, const mbedtls_x509_crt *crt, int depth,
                      uint32_t found)
{
    struct tls_walk *walk = judge->walk;
    char name[80], who[100] = "it";
    if (depth > 0) {
        text_fmt(who, sizeof(who), "CA certificate %s",
                 tls_name_text(name, sizeof(name), tls_subject(crt)));
    }
    judge->found |= found;
    complain_about_chain(judge, crt, who, depth, found);
    if (found && (depth > 0 || found & MBEDTLS_X509_BADCERT_NOT_TRUSTED)) {
        walk->above = true;
    }
    if (!extensions_allowed(judge, crt, who, depth)) {
        judge->found |= MBEDTLS_X509_BADCERT_CN_MISMATCH; /* the alert is "bad certificate" */
        walk->above = true;
    }
}

int tls_judge_certificate(void *arg, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct tls_judge *judge = arg;
    struct tls_walk *walk = judge->walk;
    uint32_t found = *flags & ~(uint32_t)MBEDTLS_X509_BADCERT_CN_MISMATCH;
    if (walk->length == 0) {
        walk->length = (size_t)depth + 1;
        walk->stale_root =
            depth > 0 && found & (MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
    }
    walk->path[depth] = crt;
    if (depth == 0 && tls_roots_hold(judge->roots, crt)) {
        /* The bundle contains the server's own certificate, so its signer does not matter. */
        acquit(judge);
        found &= ~(uint32_t)(MBEDTLS_X509_BADCERT_NOT_TRUSTED | MBEDTLS_X509_BADCERT_BAD_MD);
    }
    if (!judge->trust_any) {
        judge_one(judge, crt, depth, found);
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
