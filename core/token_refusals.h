/* Access tokens that a peer refuses again and again: a Connectivity Proxy, the Destination service.
 * A refused token is renewed once; when the new one is refused, too, the peer is not asked for a
 * pause, which doubles from 5 s to 60 s. After a pause one attempt, with one renewal of its own,
 * finds out whether the peer accepts a token again; the others are refused until it has an answer.
 * A token that was got in another way (another service key, the old one had expired) ends the pause
 * in the same way.
 *
 * Each peer and tenant has a record of its own, so the trouble of one tenant does not reach
 * another. Pure: the caller passes the time. */
#ifndef TPROXY_CORE_TOKEN_REFUSALS_H
#define TPROXY_CORE_TOKEN_REFUSALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/digest.h"
#include "lib/text.h"

/* Maximum number of records; beyond it the one whose time ends first is dropped. */
enum { TOKEN_REFUSALS_MAX = 1024 };

/* A digest of the peer that refuses and of the tenant that is refused. */
struct refused_at {
    unsigned char digest[DIGEST_SHA256_SIZE];
};

struct token_refusal {
    struct refused_at at;
    unsigned char token[DIGEST_SHA256_SIZE]; /* the last one that counts */
    enum { REFUSAL_ONCE, REFUSAL_PAUSE, REFUSAL_TRIAL } state;
    bool renewed;    /* during the trial */
    int64_t until;   /* when the state ends, on the monotonic clock */
    unsigned pauses; /* in a row */
    char *text;      /* how the peer refused, in words */
};

/* Zero-initialise. */
struct token_refusals {
    struct token_refusal *list;
    size_t n, room;
};

/* Forgets all. Idempotent. */
void token_refusals_clear(struct token_refusals *refusals);

/* Asks whether the token may be shown. NULL: it may, and the caller reports the result with one of
 * the functions below. Otherwise returns the refusal that forbids it until `until`; it is valid
 * until the next call. */
const struct token_refusal *token_refusals_ask(struct token_refusals *refusals,
                                               const struct refused_at *at, struct str token,
                                               int64_t now);

/* Notes that the peer has refused the token. renewable: the caller has not asked for another one
 * yet, and can. Returns true if the caller shall do so; false: the refusal is final. */
bool token_refusals_add(struct token_refusals *refusals, const struct refused_at *at,
                        struct str token, bool renewable, int64_t now, const char *text);

/* Notes that the peer has accepted a token. */
void token_refusals_accepted(struct token_refusals *refusals, const struct refused_at *at);

/* Notes that an attempt has ended without a verdict on the token. The next attempt tries again. */
void token_refusals_undecided(const struct token_refusals *refusals, const struct refused_at *at,
                              int64_t now);

#endif
