/* A record exists from the first refusal until a token is accepted:
 *
 *                             final                   time over,
 *               refused      refusal                or another token
 *     (none) ----------> ONCE ---------> PAUSE ----------------------> TRIAL
 *       ^                  |             ^   |                          |  |
 *       |                  |             |   |       final refusal      |  |
 *       |                  |             '---|--------------------------'  |
 *       |  time over       |                 |                             |
 *       |  or accepted     |     accepted    |          accepted           |
 *       '------------------+-----------------+-----------------------------'
 *
 * A refusal is final when the token is a renewed one or cannot be renewed. A first refusal that is
 * final begins a pause at once. */
#include "core/token_refusals.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* The time for which a peer is not asked. It doubles from one pause to the next. */
#define PAUSE_FIRST SECONDS(5)
#define PAUSE_MOST SECONDS(60)

/* The time for which a first refusal is remembered. Until then a new token is tried at once. */
#define ONCE_TIME SECONDS(60)

/* The time for which others wait for a trial without a result, because its client has gone. */
#define TRIAL_TIME SECONDS(10)

static void record_clear(struct token_refusal *r)
{
    free(r->text);
}

void token_refusals_clear(struct token_refusals *refusals)
{
    for (size_t i = 0; i < refusals->n; i++) {
        record_clear(&refusals->list[i]);
    }
    free(refusals->list);
    *refusals = (struct token_refusals){0};
}

static struct token_refusal *find(const struct token_refusals *refusals,
                                  const struct refused_at *at)
{
    for (size_t i = 0; i < refusals->n; i++) {
        struct token_refusal *r = &refusals->list[i];
        if (memcmp(r->at.digest, at->digest, sizeof(at->digest)) == 0) {
            return r;
        }
    }
    return NULL;
}

static void drop(struct token_refusals *refusals, struct token_refusal *r)
{
    record_clear(r);
    *r = refusals->list[--refusals->n];
}

static struct token_refusal *place(struct token_refusals *refusals)
{
    if (refusals->n == TOKEN_REFUSALS_MAX) {
        struct token_refusal *first = refusals->list;
        for (size_t i = 1; i < refusals->n; i++) {
            first = refusals->list[i].until < first->until ? &refusals->list[i] : first;
        }
        drop(refusals, first);
    }
    if (refusals->n == refusals->room) {
        refusals->room = refusals->room ? 2 * refusals->room : 4;
        refusals->list = mem_realloc(refusals->list, refusals->room * sizeof(refusals->list[0]));
    }
    return &refusals->list[refusals->n++];
}

static void digest_token(unsigned char digest[static DIGEST_SHA256_SIZE], struct str token)
{
    digest_sha256(digest, &token, 1);
}

static bool same_token(const struct token_refusal *r, struct str token)
{
    unsigned char digest[DIGEST_SHA256_SIZE];
    digest_token(digest, token);
    return memcmp(r->token, digest, sizeof(digest)) == 0;
}

/* ---- states ---- */

static void begin_trial(struct token_refusal *r, struct str token, bool renewed, int64_t now)
{
    r->state = REFUSAL_TRIAL;
    r->renewed = renewed;
    r->until = now + TRIAL_TIME;
    digest_token(r->token, token);
}

static void pause(struct token_refusal *r, struct str token, int64_t now, const char *text)
{
    char *copy = mem_strdup(text);
    int64_t time = r->pauses < 4 ? PAUSE_FIRST << r->pauses : PAUSE_MOST;
    r->state = REFUSAL_PAUSE;
    r->pauses++;
    r->until = now + time;
    digest_token(r->token, token);
    free(r->text);
    r->text = copy;
}

/* ---- asking ---- */

const struct token_refusal *token_refusals_ask(struct token_refusals *refusals,
                                               const struct refused_at *at, struct str token,
                                               int64_t now)
{
    struct token_refusal *r = find(refusals, at);
    if (!r || r->state == REFUSAL_ONCE) {
        return NULL;
    }
    bool another = !same_token(r, token);
    if (now >= r->until || (r->state == REFUSAL_PAUSE && another)) {
        begin_trial(r, token, false, now);
        return NULL;
    }
    if (r->state == REFUSAL_TRIAL && r->renewed && another) {
        begin_trial(r, token, true, now); /* the first caller with the new token tries it */
        return NULL;
    }
    if (r->state == REFUSAL_TRIAL && r->renewed) {
        pause(r, token, now, r->text); /* the renewed token is the old one again */
    }
    return r;
}

/* ---- results ---- */

/* Notes the first refusal, or the first one after a long time. */
static bool note_first(struct token_refusals *refusals, const struct refused_at *at,
                       struct str token, bool renewable, int64_t now, const char *text)
{
    struct token_refusal *r = place(refusals);
    *r = (struct token_refusal){.at = *at, .state = REFUSAL_ONCE, .until = now + ONCE_TIME};
    digest_token(r->token, token);
    if (!renewable) {
        pause(r, token, now, text);
    }
    return renewable;
}

bool token_refusals_add(struct token_refusals *refusals, const struct refused_at *at,
                        struct str token, bool renewable, int64_t now, const char *text)
{
    struct token_refusal *r = find(refusals, at);
    if (r && r->state == REFUSAL_ONCE && now >= r->until) {
        drop(refusals, r);
        r = NULL;
    }
    if (!r) {
        return note_first(refusals, at, token, renewable, now, text);
    }
    bool same = same_token(r, token);
    switch (r->state) {
    case REFUSAL_ONCE:
        if (same && renewable) {
            return true;
        }
        break;
    case REFUSAL_PAUSE:
        /* another token was shown before the pause began: a newer one is known by now */
        return !same && renewable;
    case REFUSAL_TRIAL:
        if (!same) {
            return renewable;
        }
        if (!r->renewed && renewable) {
            r->renewed = true;
            r->until = now + TRIAL_TIME;
            return true;
        }
        break;
    }
    pause(r, token, now, text);
    return false;
}

void token_refusals_accepted(struct token_refusals *refusals, const struct refused_at *at)
{
    struct token_refusal *r = find(refusals, at);
    if (r) {
        drop(refusals, r);
    }
}

void token_refusals_undecided(const struct token_refusals *refusals, const struct refused_at *at,
                              int64_t now)
{
    struct token_refusal *r = find(refusals, at);
    if (r && r->state == REFUSAL_TRIAL) {
        r->until = now;
    }
}
