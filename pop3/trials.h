/* Credentials that are shown to a mail server: which of them are proved, being tried, or refused.
 *
 *                    accepted
 *   UNKNOWN ---------------------> PROVED: all sessions show it
 *      |  one session tries it,      |
 *      |  the others wait            | refused
 *      | refused                     |
 *      '----> REFUSED <--------------'
 *             nobody shows it during a pause; then it is UNKNOWN again
 *
 * Accounts get locked after a few wrong passwords, so a wrong one is shown once and not once for
 * each client, and the pause grows from one to the next. Each credential has its own pause: a bad
 * credential does not keep out clients with another one. Pure: the caller passes the time. */
#ifndef TPROXY_POP3_TRIALS_H
#define TPROXY_POP3_TRIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base.h"
#include "lib/digest.h"
#include "lib/list.h"
#include "lib/text.h"

/* Number of credentials that are remembered beside those that are being tried. TRIALS_OWN: all
 * sessions show the destination's credentials. TRIALS_USERS: each client brings its own. Beyond it
 * the one that was asked for least recently is forgotten; those in a pause come last. */
enum { TRIALS_OWN = 4, TRIALS_USERS = 64 };

/* A digest of the credentials that are shown to the mail server: a user, and a password or token.
 */
struct credential {
    unsigned char digest[DIGEST_SHA256_SIZE];
};

struct credential credential_of(const char *user, struct str secret);

/* A session's part in a trial, embedded in its owner. Initialise with trial_seat_init. */
struct trial_seat {
    struct list link;
    struct trial *trial; /* the trial that it makes or waits for; or NULL */
    void (*turn)(struct trial_seat *seat);
};

/* turn: called from inside the trial_ functions of other seats when a wait is over; it must not
 * call any of them, only make its session ask again soon. */
void trial_seat_init(struct trial_seat *seat, void (*turn)(struct trial_seat *seat));

/* The state of one credential. */
struct trial {
    struct list link;
    struct credential credential;
    struct trial_seat *trier; /* NULL: nobody tries it */
    struct list waiting;      /* seats */
    int64_t until;            /* end of the pause, on the monotonic clock */
    unsigned pauses;          /* in a row */
    bool proved;
    bool final; /* refused, and nothing newer could take its place; else another one may be asked
                   for */
    char *text; /* the mail server's refusal, in words; NULL: not refused */
};

struct trials {
    struct list known; /* trials, the one that was asked for most recently first */
    size_t n, max;
};

void trials_init(struct trials *trials, size_t max);

/* Forgets all credentials. No seat may be in use any more. */
void trials_clear(struct trials *trials);

/* Returns the refusal that is in force at `now`, valid until the next call with these trials. NULL:
 * the credential may be asked for. */
struct trial *trials_refusal(const struct trials *trials, const struct credential *credential,
                             int64_t now);

enum trial_verdict {
    TRIAL_GO,      /* show it: it is proved, or this seat is now the one that tries it */
    TRIAL_WAIT,    /* another seat tries it; `turn` follows, then ask again */
    TRIAL_REFUSED, /* a refusal is in force */
};

/* May a session show the credential now? */
enum trial_verdict trial_ask(struct trials *trials, const struct credential *credential,
                             int64_t now, struct trial_seat *seat);

/* Notes that the mail server has accepted the credential. All waiting seats go on. */
void trial_accepted(struct trials *trials, const struct credential *credential,
                    struct trial_seat *seat);

/* Notes that the mail server has refused the credential, and tells all waiting seats. `before`:
 * number of pauses of the credential that this one replaced. final: see struct trial. Returns the
 * number of pauses before this one, for a credential that replaces it. */
unsigned trial_refused(struct trials *trials, const struct credential *credential,
                       struct trial_seat *seat, unsigned before, bool final, int64_t now,
                       const char *text);

/* Takes the seat out of its trial without a result. If it was the seat that tries, the one that has
 * waited longest tries next. Does nothing to a seat without a trial. */
void trial_leave(struct trial_seat *seat);

/* Does the seat wait for another one? */
bool trial_waits(const struct trial_seat *seat);

#endif
