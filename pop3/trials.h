/* Keeps the state of credentials that are shown to a mail server: proved, being tried, or refused.
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

/* Maximum number of credentials that are remembered beside those that are being tried. TRIALS_OWN:
 * all sessions show the destination's credentials. TRIALS_USERS: each client brings its own. Beyond
 * the maximum the credential that was asked for least recently is forgotten; a credential in a
 * pause is forgotten only when all others are in use or in a pause. */
enum { TRIALS_OWN = 4, TRIALS_USERS = 64 };

/* A digest of the credentials that are shown to the mail server: a user, and a password or token.
 */
struct credential {
    unsigned char digest[DIGEST_SHA256_SIZE];
};

/* Returns the digest of a user and its password or token. */
struct credential pop3_trials_credential(const char *user, struct str secret);

/* A session's part in a trial, embedded in its owner. Initialise with pop3_trials_seat_init. */
struct trial_seat {
    struct list link;
    struct trial *trial; /* the trial that it makes or waits for; NULL: none */
    void (*turn)(struct trial_seat *seat);
};

/* Initialises a seat. `turn` is called from inside the functions below for other seats when a wait
 * is over. It must not call any of these functions; it only makes its session ask again soon. */
void pop3_trials_seat_init(struct trial_seat *seat, void (*turn)(struct trial_seat *seat));

/* The state of one credential. */
struct trial {
    struct list link;
    struct credential credential;
    struct trial_seat *trier; /* NULL: nobody tries it */
    struct list waiting;      /* seats */
    int64_t until;            /* the end of the pause on the monotonic clock */
    unsigned pauses;          /* number of pauses in a row */
    bool proved;
    bool final; /* refused, and there is no newer credential; false: a newer one can be asked for */
    char *text; /* the mail server's refusal, in words; NULL: not refused */
};

struct trials {
    struct list known; /* trials; the one that was asked for most recently comes first */
    size_t n, max;
};

/* Initialises trials that remember at most `max` credentials. */
void pop3_trials_init(struct trials *trials, size_t max);

/* Forgets all credentials. No seat may be in use any more. */
void pop3_trials_clear(struct trials *trials);

/* Returns the refusal that is in force at `now`, valid until the next call with these trials.
 * Returns NULL when the credential may be tried. */
struct trial *pop3_trials_refusal(const struct trials *trials, const struct credential *credential,
                                  int64_t now);

enum trial_verdict {
    TRIAL_GO,      /* show it: it is proved, or this seat is now the one that tries it */
    TRIAL_WAIT,    /* another seat tries it; `turn` follows, then ask again */
    TRIAL_REFUSED, /* a refusal is in force */
};

/* Asks whether a session may show the credential now. */
enum trial_verdict pop3_trials_ask(struct trials *trials, const struct credential *credential,
                                   int64_t now, struct trial_seat *seat);

/* Notes that the mail server has accepted the credential. All waiting seats go on. */
void pop3_trials_accepted(struct trials *trials, const struct credential *credential,
                          struct trial_seat *seat);

/* Notes that the mail server has refused the credential, and wakes all waiting seats. `before` is
 * the number of pauses of the credential that this one has replaced. For `final` see struct trial.
 * Returns the number of pauses before this one, for a credential that will replace it. */
unsigned pop3_trials_refused(struct trials *trials, const struct credential *credential,
                             struct trial_seat *seat, unsigned before, bool final, int64_t now,
                             const char *text);

/* Takes the seat out of its trial without a result. If this seat was the one that tries, the seat
 * that has waited longest tries next. Does nothing to a seat without a trial. */
void pop3_trials_leave(struct trial_seat *seat);

/* Tells whether the seat waits for another one. */
bool pop3_trials_waits(const struct trial_seat *seat);

#endif
