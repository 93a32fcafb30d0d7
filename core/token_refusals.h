/* Limits how often access tokens are shown to a peer that refuses them: a Connectivity Proxy or the
 * Destination service. A refused token is renewed once. When the new token is refused, too, no
 * token is shown during a pause, which doubles from 5 s to 60 s. After a pause one attempt, with
 * one renewal of its own, finds out whether the peer accepts a token again; other attempts are
 * refused until the result is known. A new token for another reason (another service key, the old
 * token had expired) ends the pause in the same way.
 *
 * Each peer and tenant has a record of its own, so the trouble of one tenant does not affect
 * another. Pure: the caller passes the time. */
#ifndef TPROXY_CORE_TOKEN_REFUSALS_H
#define TPROXY_CORE_TOKEN_REFUSALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/digest.h"
#include "lib/text.h"

/* Maximum number of records. Beyond it the record whose time ends first is dropped. */
enum { TOKEN_REFUSALS_MAX = 1024 };

/* A digest of the peer that refuses and of the tenant that is refused. */
struct refused_at {
    unsigned char digest[DIGEST_SHA256_SIZE];
};

struct token_refusal {
    struct refused_at at;
    unsigned char token[DIGEST_SHA256_SIZE]; /* digest of the token to which the state refers */
    enum { REFUSAL_ONCE, REFUSAL_PAUSE, REFUSAL_TRIAL } state;
    bool renewed;    /* the token was renewed during the trial */
    int64_t until;   /* the end of the state on the monotonic clock */
    unsigned pauses; /* number of pauses in a row */
    char *text;      /* the peer's refusal in words */
};

/* Zero-initialise. */
struct token_refusals {
    struct token_refusal *list;
    size_t n, room;
};

/* Forgets all records. May be called more than once. */
void token_refusals_clear(struct token_refusals *refusals);

/* Asks whether the token may be shown. Returns NULL if it may; the caller then reports the result
 * with one of the functions below. Otherwise returns the refusal that forbids it until `until`,
 * valid until the next call. */
const struct token_refusal *token_refusals_ask(struct token_refusals *refusals,
                                               const struct refused_at *at, struct str token,
                                               int64_t now);

/* Notes that the peer has refused the token. renewable: the caller can get another token and has
 * not asked for one yet. Returns true if the caller has to ask for one, false if the refusal is
 * final. */
bool token_refusals_add(struct token_refusals *refusals, const struct refused_at *at,
                        struct str token, bool renewable, int64_t now, const char *text);

/* Notes that the peer has accepted a token. */
void token_refusals_accepted(struct token_refusals *refusals, const struct refused_at *at);

/* Notes that an attempt has ended without a verdict on the token. The next attempt tries again. */
void token_refusals_undecided(const struct token_refusals *refusals, const struct refused_at *at,
                              int64_t now);

#endif
