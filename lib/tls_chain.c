/* Chooses the chain that is judged among the certificates that a server sends.
 *
 * mbedTLS takes the first certificate with the right name as the issuer of another one, and uses
 * the list in the order in which it came. That is nearly always right, so that order is judged
 * first. When it fails, other orders are tried: two CAs may have one name (two keys, an expired
 * twin, one signed by two roots), or the issuer may stand in front (RFC 8446 section 4.4.2 allows
 * any order). No signature is checked here: mbedTLS verifies each chain that is tried. */
#include "lib/tls_chain.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/tls_certificate.h"
#include "lib/tls_judge.h"
#include "lib/tls_roots.h"

enum {
    PEERS_MAX = 32, /* certificates of a server that are put into other orders */
    TRIES_MAX = 4,  /* chains that are tried besides the first one */
    TRIED_MAX = 12, /* certificates in those chains together, unless the first of them has more:
                       each costs a signature */
    STEPS_MAX = 64, /* how often, in all, a certificate is put behind another one */
};

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

/* The judge of the handshake that makes a step now; or NULL. */
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

/* Leaves out a certificate that cannot be read, unless it is the server's own. */
static int leave_out(struct tls_judge *judge, const unsigned char *der, size_t n, int bad, bool own)
{
    char text[160], name[80];
    struct str subject;
    const char *why = tls_certificate_problem(text, sizeof(text), bad);
    if (own) {
        tls_judge_complain(judge, "%s", why);
        /* mbedTLS skips certificates with one certain error, even this one, so another error is
         * returned. */
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

struct verification {
    struct tls_judge *judge;
    struct tls_lookup lookup;
    /* the certificates in the order in which they came, and the successor of each */
    mbedtls_x509_crt *peers[PEERS_MAX], *after[PEERS_MAX];
    size_t count;
    mbedtls_x509_crt *tried[TLS_CHAIN_MAX]; /* the peers that the first chain uses */
    size_t tried_count;
    bool complete, stale; /* the first chain ends at a root; that root is not valid now */
    int tries, steps;
    size_t tried_in_all; /* certificates of all chains but the first, counted together */
    size_t budget;
    const mbedtls_x509_crt_profile *profile;
    const char *cn;
    uint32_t flags;
    int result;
};

static void keep_path(struct verification *v, const struct tls_walk *walk)
{
    v->stale = walk->stale_root;
    for (size_t depth = 0; depth < walk->length; depth++) {
        size_t i = 0;
        while (i < v->count && v->peers[i] != walk->path[depth]) {
            i++;
        }
        if (i == v->count) {
            v->complete = true;
            return;
        }
        v->tried[v->tried_count++] = v->peers[i];
    }
}

/* Verifies the list in its present order. Returns true when another order may do better. */
static bool verify(struct verification *v)
{
    struct tls_judge *judge = v->judge;
    struct tls_walk walk = {.budget = &v->budget};
    judge->walk = &walk;
    v->flags = 0;
    v->result = __real_mbedtls_x509_crt_verify_with_ca_cb(v->peers[0], tls_roots_find, &v->lookup,
                                                          v->profile, v->cn, &v->flags,
                                                          tls_judge_certificate, judge);
    judge->walk = NULL;
    bool too_long = v->result == MBEDTLS_ERR_X509_FATAL_ERROR && !judge->asked && !v->lookup.failed;
    if (too_long) {
        tls_judge_complain(judge,
                           "its chain is too long: there are more than %d CA certificates between "
                           "it and a trusted one",
                           TLS_BETWEEN_MAX);
    }
    if (v->tries == 0) {
        keep_path(v, &walk);
    }
    return walk.above || too_long;
}

/* Tells whether the certificate has not expired, and is valid already. */
static bool is_valid_now(const mbedtls_x509_crt *crt)
{
    return !mbedtls_x509_time_is_past(&crt->valid_to) &&
           !mbedtls_x509_time_is_future(&crt->valid_from);
}

/* Rates how likely `issuer` has issued `child`; 0: it has not. */
static int issuer_rank(const mbedtls_x509_crt *child, const mbedtls_x509_crt *issuer)
{
    const mbedtls_x509_buf *wanted = &child->authority_key_id.keyIdentifier;
    const mbedtls_x509_buf *key = &issuer->subject_key_id;
    if (tls_name_key(tls_issuer(child)) != tls_name_key(tls_subject(issuer)) ||
        mbedtls_x509_crt_get_ca_istrue(issuer) <= 0) {
        return 0;
    }
    bool other_key = wanted->len && key->len &&
                     (wanted->len != key->len || memcmp(wanted->p, key->p, key->len) != 0);
    return 1 + (other_key ? 0 : 2) + (is_valid_now(issuer) ? 1 : 0);
}

enum { RANKS = 4 };

/* A chain under construction, without the root. */
struct chain {
    mbedtls_x509_crt *list[TLS_CHAIN_MAX];
    size_t n;
};

static bool chain_holds(const struct chain *chain, const mbedtls_x509_crt *crt)
{
    for (size_t i = 0; i < chain->n; i++) {
        if (chain->list[i] == crt) {
            return true;
        }
    }
    return false;
}

/* Tells whether mbedTLS would come to the same result as with the original list. */
static bool was_tried(const struct verification *v, const struct chain *chain)
{
    return !v->stale && chain->n >= v->tried_count && (v->complete || chain->n == v->tried_count) &&
           memcmp(chain->list, v->tried, v->tried_count * sizeof(chain->list[0])) == 0;
}

/* Tells whether a chain with these certificates should be verified: there is time left, and the
 * chain can end at a root. */
static bool is_worth_it(const struct verification *v, const struct chain *chain)
{
    if (v->tries > 0 && v->tried_in_all + chain->n > TRIED_MAX) {
        return false;
    }
    for (size_t i = 0; i < chain->n; i++) {
        if (tls_roots_named(v->lookup.roots, tls_issuer(chain->list[i]))) {
            return true;
        }
    }
    return false;
}

static void put_back(struct verification *v)
{
    for (size_t i = 0; i < v->count; i++) {
        v->peers[i]->next = v->after[i];
    }
}

/* Verifies this chain. Returns true when it is good. */
static bool try_chain(struct verification *v, const struct chain *chain)
{
    struct tls_judge *judge = v->judge;
    if (was_tried(v, chain) || !is_worth_it(v, chain)) {
        return false;
    }
    v->tried_in_all += chain->n;
    for (size_t i = 0; i < chain->n; i++) {
        chain->list[i]->next = i + 1 < chain->n ? chain->list[i + 1] : NULL;
    }
    free(judge->complaint);
    judge->complaint = NULL;
    judge->found = 0;
    v->tries++;
    (void)verify(v);
    put_back(v);
    return v->result == 0 && !judge->complaint;
}

/* Lengthens the chain by each certificate that may come next, the likeliest first; when no
 * certificate can, tries the chain. Returns true when a good chain was found. */
static bool extend(struct verification *v, struct chain *chain)
{
    const mbedtls_x509_crt *child = chain->list[chain->n - 1];
    bool extended = false;
    for (int rank = RANKS; rank > 0 && chain->n <= TLS_BETWEEN_MAX; rank--) {
        for (size_t i = 0; i < v->count && v->tries < TRIES_MAX && v->steps < STEPS_MAX; i++) {
            if (chain_holds(chain, v->peers[i]) || issuer_rank(child, v->peers[i]) != rank) {
                continue;
            }
            extended = true;
            v->steps++;
            chain->list[chain->n++] = v->peers[i];
            bool good = extend(v, chain);
            chain->n--;
            if (good) {
                return true;
            }
        }
    }
    return !extended && v->tries < TRIES_MAX && try_chain(v, chain);
}

/* Looks for a better chain. Without a good one the complaint about the first chain stays. */
static void try_others(struct verification *v)
{
    struct tls_judge *judge = v->judge;
    struct tls_judge first = *judge;
    uint32_t flags = v->flags;
    int result = v->result;
    struct chain chain = {.list = {v->peers[0]}, .n = 1};
    judge->complaint = NULL;
    v->lookup.wanted = is_valid_now;
    if (extend(v, &chain)) {
        free(first.complaint);
        return;
    }
    free(judge->complaint);
    *judge = first;
    v->flags = flags;
    v->result = result;
}

int __wrap_mbedtls_x509_crt_verify_with_ca_cb(
    mbedtls_x509_crt *crt, mbedtls_x509_crt_ca_cb_t f_ca_cb, void *p_ca_cb,
    const mbedtls_x509_crt_profile *profile, const char *cn, uint32_t *flags,
    int (*f_vrfy)(void *, mbedtls_x509_crt *, int, uint32_t *), void *p_vrfy)
{
    struct tls_judge *judge = p_vrfy;
    struct verification v = {
        .judge = judge,
        .lookup.roots = judge->roots,
        .budget = TLS_COMPARISONS_MAX,
        .profile = profile,
        .cn = cn,
    };
    (void)f_ca_cb;
    (void)p_ca_cb;
    (void)f_vrfy;
    for (mbedtls_x509_crt *at = crt; at && v.count < PEERS_MAX; at = at->next) {
        v.peers[v.count] = at;
        v.after[v.count++] = at->next;
    }
    if (verify(&v) && !judge->trust_any) {
        try_others(&v);
    }
    *flags = v.flags;
    return v.result;
}
