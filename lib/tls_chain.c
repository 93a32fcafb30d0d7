/* How mbedTLS reads and verifies the certificates that a server sends. */
#include "lib/tls_private.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* The names that the linker's --wrap prescribes. */
int __wrap_mbedtls_x509_crt_parse_der(mbedtls_x509_crt *chain, const unsigned char *der, size_t n);
int __wrap_mbedtls_x509_crt_verify_with_ca_cb(
    mbedtls_x509_crt *crt, mbedtls_x509_crt_ca_cb_t f_ca_cb, void *p_ca_cb,
    const mbedtls_x509_crt_profile *profile, const char *cn, uint32_t *flags,
    int (*f_vrfy)(void *, mbedtls_x509_crt *, int, uint32_t *), void *p_vrfy);
int __real_mbedtls_x509_crt_verify_with_ca_cb(
    mbedtls_x509_crt *crt, mbedtls_x509_crt_ca_cb_t f_ca_cb, void *p_ca_cb,
    const mbedtls_x509_crt_profile *profile, const char *cn, uint32_t *flags,
    int (*f_vrfy)(void *, mbedtls_x509_crt *, int, uint32_t *), void *p_vrfy);

/* Whose handshake makes a step; NULL: nobody's. */
static struct tls_judge *judging;

void tls_chain_begin(struct tls_judge *judge)
{
    judging = judge;
}

void tls_chain_end(void)
{
    judging = NULL;
}

/* ---- reading ---- */

/* A certificate that cannot be read is left out, unless it is the server's own. */
static int leave_out(struct tls_judge *judge, const unsigned char *der, size_t n, int bad, bool own)
{
    char text[160], name[80];
    struct str subject;
    const char *why = tls_certificate_problem(text, sizeof(text), bad);
    if (own) {
        tls_judge_complain(judge, "%s", why);
        /* mbedTLS skips certificates with one certain error, even this one. */
        return MBEDTLS_ERR_X509_UNKNOWN_SIG_ALG;
    }
    if (!judge->unreadable) {
        bool named = tls_certificate_subject((struct str){(const char *)der, n}, &subject) == OK;
        judge->unreadable = mem_alloc(FAIL_TEXT_MAX);
        text_fmt(judge->unreadable, FAIL_TEXT_MAX, "CA certificate %s came with it, but %s",
                 named ? tls_name_text(name, sizeof(name), subject) : "(without a name)", why);
    }
    return 0;
}

int __wrap_mbedtls_x509_crt_parse_der(mbedtls_x509_crt *chain, const unsigned char *der, size_t n)
{
    bool own = chain->version == 0;
    int bad = tls_certificate_parse(chain, der, n, true);
    if (bad == 0 || bad == MBEDTLS_ERR_X509_ALLOC_FAILED || !judging) {
        return bad;
    }
    return leave_out(judging, der, n, bad, own);
}

/* ---- verifying ---- */

int __wrap_mbedtls_x509_crt_verify_with_ca_cb(
    mbedtls_x509_crt *crt, mbedtls_x509_crt_ca_cb_t f_ca_cb, void *p_ca_cb,
    const mbedtls_x509_crt_profile *profile, const char *cn, uint32_t *flags,
    int (*f_vrfy)(void *, mbedtls_x509_crt *, int, uint32_t *), void *p_vrfy)
{
    struct tls_judge *judge = p_vrfy;
    struct tls_lookup lookup = {.roots = judge->roots};
    size_t budget = TLS_COMPARISONS_MAX;
    struct tls_walk walk = {.budget = &budget};
    (void)p_ca_cb;
    judge->walk = &walk;
    int result = __real_mbedtls_x509_crt_verify_with_ca_cb(crt, f_ca_cb, &lookup, profile, cn,
                                                           flags, f_vrfy, judge);
    judge->walk = NULL;
    return result;
}
