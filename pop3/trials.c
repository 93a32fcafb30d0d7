/* The trials are a short list with the latest first, because a target has few credentials that
 * matter at a time. */
#include "pop3/trials.h"

#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"

/* The time for which a refused credential is not shown. It doubles from one pause to the next. */
#define PAUSE_FIRST SECONDS(5)
#define PAUSE_MOST SECONDS(60)

struct credential pop3_trials_credential(const char *user, struct str secret)
{
    struct credential credential;
    const struct str parts[] = {{user, strlen(user) + 1}, secret};
    digest_sha256(credential.digest, parts, ARRAY_LEN(parts));
    return credential;
}

void pop3_trials_seat_init(struct trial_seat *seat, void (*turn)(struct trial_seat *seat))
{
    *seat = (struct trial_seat){.turn = turn};
    list_init(&seat->link);
}

void pop3_trials_init(struct trials *trials, size_t max)
{
    list_init(&trials->known);
    trials->n = 0;
    trials->max = max;
}

static void forget(struct trials *trials, struct trial *t)
{
    list_remove(&t->link);
    trials->n--;
    free(t->text);
    free(t);
}

void pop3_trials_clear(struct trials *trials)
{
    while (!list_empty(&trials->known)) {
        forget(trials, container_of(trials->known.next, struct trial, link));
    }
}

static struct trial *find(const struct trials *trials, const struct credential *credential)
{
    for (struct list *it = trials->known.next; it != &trials->known; it = it->next) {
        struct trial *t = container_of(it, struct trial, link);
        if (memcmp(t->credential.digest, credential->digest, sizeof(credential->digest)) == 0) {
            return t;
        }
    }
    return NULL;
}

struct trial *pop3_trials_refusal(const struct trials *trials, const struct credential *credential,
                                  int64_t now)
{
    struct trial *t = find(trials, credential);
    return t && t->until > now ? t : NULL;
}

static bool in_use(const struct trial *t)
{
    return t->trier || !list_empty(&t->waiting);
}

/* Makes room for one more credential. A pause is dropped last: a proof can be obtained again, but a
 * pause protects an account. */
static void make_room(struct trials *trials, int64_t now)
{
    struct trial *paused = NULL;
    if (trials->n < trials->max) {
        return;
    }
    for (struct list *it = trials->known.prev; it != &trials->known; it = it->prev) {
        struct trial *t = container_of(it, struct trial, link);
        if (!in_use(t) && t->until <= now) {
            forget(trials, t);
            return;
        }
        if (!in_use(t) && (!paused || t->until < paused->until)) {
            paused = t;
        }
    }
    if (paused) {
        forget(trials, paused);
    }
}

/* Returns the trial of a credential and moves it to the front; creates it when it is unknown. */
static struct trial *get(struct trials *trials, const struct credential *credential, int64_t now)
{
    struct trial *t = find(trials, credential);
    if (t) {
        list_remove(&t->link);
    } else {
        make_room(trials, now);
        t = mem_zalloc(sizeof(*t));
        t->credential = *credential;
        list_init(&t->link);
        list_init(&t->waiting);
        trials->n++;
    }
    list_append(trials->known.next, &t->link);
    return t;
}

enum trial_verdict pop3_trials_ask(struct trials *trials, const struct credential *credential,
                                   int64_t now, struct trial_seat *seat)
{
    struct trial *t = get(trials, credential, now);
    if (t->until > now) {
        pop3_trials_leave(seat);
        return TRIAL_REFUSED;
    }
    if (t->proved || t->trier == seat) {
        return TRIAL_GO;
    }
    seat->trial = t;
    if (!t->trier) {
        t->trier = seat;
        return TRIAL_GO;
    }
    if (!pop3_trials_waits(seat)) {
        list_append(&t->waiting, &seat->link);
    }
    return TRIAL_WAIT;
}

/* Removes the seat that has waited longest, and tells it that its wait is over. */
static struct trial_seat *wake(struct trial *t)
{
    struct trial_seat *seat = container_of(t->waiting.next, struct trial_seat, link);
    list_remove(&seat->link);
    seat->turn(seat);
    return seat;
}

/* Ends a trial that has a result: no seat tries it or waits for it any more. */
static void settle(struct trial *t)
{
    if (t->trier) {
        t->trier->trial = NULL;
        t->trier = NULL;
    }
    while (!list_empty(&t->waiting)) {
        wake(t)->trial = NULL;
    }
}

void pop3_trials_leave(struct trial_seat *seat)
{
    struct trial *t = seat->trial;
    list_remove(&seat->link);
    seat->trial = NULL;
    if (t && t->trier == seat) {
        t->trier = list_empty(&t->waiting) ? NULL : wake(t);
    }
}

bool pop3_trials_waits(const struct trial_seat *seat)
{
    return !list_empty(&seat->link);
}

static void drop_text(struct trial *t)
{
    free(t->text);
    t->text = NULL;
}

void pop3_trials_accepted(struct trials *trials, const struct credential *credential,
                          struct trial_seat *seat)
{
    struct trial *t = get(trials, credential, 0);
    t->proved = true;
    t->until = 0;
    t->pauses = 0;
    drop_text(t);
    settle(t);
    pop3_trials_leave(seat);
}

unsigned pop3_trials_refused(struct trials *trials, const struct credential *credential,
                             struct trial_seat *seat, unsigned before, bool final, int64_t now,
                             const char *text)
{
    struct trial *t = get(trials, credential, now);
    t->proved = false;
    t->final = final;
    if (t->until <= now) {
        t->pauses = (t->pauses > before ? t->pauses : before) + 1;
        t->until = now + (t->pauses <= 4 ? PAUSE_FIRST << (t->pauses - 1) : PAUSE_MOST);
    }
    drop_text(t);
    t->text = mem_strdup(text);
    settle(t);
    pop3_trials_leave(seat);
    return t->pauses - 1;
}
