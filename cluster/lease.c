/* The election of a leader.
 *
 *                   the Lease is free: written          no renewal in time;
 *                  .-----------------------> LEADING --. another one holds the Lease
 *     FOLLOWING ---'                         ^  |  |   |
 *      ^  |                         renewed  '--'  |   |
 *      |  '------------------.                     |   |
 *      '---------------------|---------------------|---'
 *                            v   lease_release     v
 *                           OVER <------------- RELEASING
 *                                   released, or too late
 *
 * At most one request is under way. After an answer that says that the Lease is not as we thought,
 * it is read before anything else is decided. While we lead, a report of the watch that the Lease
 * is not ours any more closes the gate, and the Lease is read, because the report may be older than
 * our own last write. If the Lease was deleted or garbled, we write it again: others wait for
 * longer than our term lasts. */
#include "cluster/lease.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "cluster/kinds.h"
#include "cluster/lease_record.h"
#include "cluster/object_watch.h"
#include "core/custom_resource.h"
#include "core/repairs.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/log_limit.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/metric.h"
#include "lib/stamp.h"
#include "lib/sys.h"

/* How long lease_release waits for all answers. */
#define RELEASE_TIME SECONDS(3)

/* The shortest time between two reads of the Lease. */
#define READ_PAUSE MILLIS(100)

/* The shortest time that a request has for its answer. */
#define CALL_TIME_MIN SECONDS(1)

/* All repairs of the Lease count as the same wish. */
enum { REPAIR = 1 };

/* Kinds of log lines that may repeat, besides one for each result of a request. */
enum { LINE_REPAIR = CLUSTER_LATER + 1, LINE_SILENCE, LINE_DURATION };

enum state { FOLLOWING, LEADING, RELEASING, OVER, STATES };

static const char *const state_names[] = {
    [FOLLOWING] = "following", [LEADING] = "leading", [RELEASING] = "releasing", [OVER] = "over"};
static_assert(ARRAY_LEN(state_names) == STATES, "every state has a name");

struct lease {
    struct loop *loop;
    struct cluster *cluster;
    char *namespace, *name, *identity;
    int64_t duration, deadline, retry;
    struct lease_handler handler;
    struct object_watch *watch;

    enum state state;
    struct timer timer; /* until something is due */
    struct log_limits lines;

    struct lease_record record; /* as last seen */
    bool exists;                /* the Lease exists, as far as we know */
    bool known;                 /* the two above are filled in */
    bool unsure;                /* the Lease has to be read again */
    int64_t free_at;            /* from when on others may take it */

    bool ours;                 /* LEADING: the Lease says so, as far as we know */
    int64_t term_end;          /* LEADING */
    char acquired[STAMP_SIZE]; /* acquireTime of our term */
    int64_t transitions;       /* leaseTransitions of our term */
    struct repairs repairs;

    struct cluster_call *call;
    int64_t sent;       /* when the call began */
    int64_t written_at; /* when the last write began */
    int64_t read_at;    /* when the last read began */
    int64_t next;       /* no call begins before */
    bool conflicted;    /* the last write has met another version */
    int64_t release_by;

    char *unreadable, *unwritable; /* sentences; NULL: it can be read, written */
    uint64_t terms, losses;
};

static void step(struct lease *l);

/* ---- states ---- */

static void set_state(struct lease *l, enum state state)
{
    log_line(LOG_DEBUG, "lease", "%s -> %s", state_names[l->state], state_names[state]);
    l->state = state;
}

/* Sets l->unreadable or l->unwritable. */
static void set_problem(char **problem, const char *text)
{
    if (text && !text_same(*problem, text)) {
        log_line(LOG_WARN, "lease", "%s", text);
    }
    free(*problem);
    *problem = text ? mem_strdup(text) : NULL;
}

static void begin_term(struct lease *l)
{
    set_state(l, LEADING);
    l->terms++;
    repairs_note(&l->repairs, REPAIR, sys->boottime());
    log_line(LOG_INFO, "lease", "this replica leads: %s, since %s", l->identity, l->acquired);
    l->handler.acquired(l->handler.arg);
}

static void lose_term(struct lease *l, const char *why)
{
    set_state(l, FOLLOWING);
    l->ours = false;
    l->losses++;
    repairs_forget(&l->repairs);
    log_line(LOG_WARN, "lease", "this replica does not lead any more: %s", why);
    l->handler.lost(why, l->handler.arg);
}

static void lose_term_in_time(struct lease *l)
{
    char why[96];
    text_fmt(why, sizeof(why), "no renewal of the Lease has succeeded within %lld s",
             (long long)(l->deadline / SECONDS(1)));
    lose_term(l, why);
}

bool lease_held(const struct lease *l)
{
    return l->state == LEADING && l->ours && sys->boottime() < l->term_end;
}

/* ---- what the Lease says ---- */

static char *printable_holder(char out[static 160], const struct lease_record *r)
{
    return text_printable(out, 160, str_of(r->holder ? r->holder : ""));
}

/* Logs who leads. */
static void tell_holder(const struct lease *l)
{
    char holder[160], acquired[STAMP_SIZE];
    const struct lease_record *r = &l->record;
    if (r->holder[0]) {
        log_line(LOG_INFO, "lease", "%s leads, since %s", printable_holder(holder, r),
                 text_printable(acquired, sizeof(acquired), str_of(r->acquired)));
    } else {
        log_line(LOG_INFO, "lease", "nobody leads");
    }
}

/* Logs a duration that is not believed. */
static void tell_duration(struct lease *l)
{
    const struct lease_record *r = &l->record;
    if (r->duration == 0 || r->duration > LEASE_DURATION_MAX / SECONDS(1)) {
        log_limited(&l->lines, LINE_DURATION, LOG_WARN, NULL, 0,
                    "the Lease %s has a spec.leaseDurationSeconds that is missing or above %lld; "
                    "it counts as %lld",
                    l->name, (long long)(LEASE_DURATION_MAX / SECONDS(1)),
                    (long long)(lease_record_wait(r, l->duration) / SECONDS(1)));
    }
}

/* Computes when others may take a Lease that has just changed. When another object has taken its
 * place, it does not matter what that one says: the holder of the former one may not know yet, and
 * may have renewed it unseen. */
static void set_free_at(struct lease *l, bool other_object)
{
    const struct lease_record *r = &l->record;
    bool free = lease_record_held_by(r, l->identity) || lease_record_released(r);
    l->conflicted = false;
    l->free_at = 0;
    if (!free || other_object) {
        l->free_at = sys->boottime() + lease_record_wait(r, l->duration);
    }
    if (!free) {
        tell_duration(l);
    }
}

/* Takes in what the Lease says now. */
static void note(struct lease *l, struct json_value object)
{
    struct lease_record now = {0};
    lease_record_read(&now, object);
    bool changed = !l->known || !l->exists || !lease_record_equal(&now, &l->record);
    bool other_object = l->record.uid && !text_same(now.uid, l->record.uid);
    bool other_holder = !l->record.holder || strcmp(now.holder, l->record.holder) != 0;
    bool ours = lease_record_held_by(&now, l->identity);
    lease_record_clear(&l->record);
    l->record = now;
    l->known = l->exists = true;
    if (changed) {
        set_free_at(l, other_object);
    }
    if (other_holder && !ours) {
        tell_holder(l);
    }
}

/* Takes in that there is no Lease. If there was one, its holder may not know yet that it was
 * deleted. */
static void note_absence(struct lease *l)
{
    if (l->exists) {
        l->free_at = sys->boottime() + lease_record_wait(&l->record, l->duration);
    }
    l->known = true;
    l->exists = false;
    l->record.number = 0;
}

/* Tells whether the Lease says what we have written, as far as it matters to others. */
static bool says_ours(const struct lease *l, struct json_value object)
{
    struct lease_record r = {0};
    lease_record_read(&r, object);
    bool same = lease_record_held_by(&r, l->identity) && SECONDS(r.duration) == l->duration;
    lease_record_clear(&r);
    return same;
}

/* Has the Lease read before anything else is decided. */
static void doubt(struct lease *l)
{
    int64_t now = sys->boottime();
    l->ours = false;
    l->unsure = true;
    l->next = now < l->read_at + READ_PAUSE ? l->read_at + READ_PAUSE : now;
}

/* Tells whether an object is older than what we know. */
static bool is_stale(const struct lease *l, struct json_value object)
{
    uint64_t number = object_version(object);
    return number && number < l->record.number;
}

static void on_there(struct json_value object, void *arg)
{
    struct lease *l = arg;
    set_problem(&l->unreadable, NULL);
    if (!is_stale(l, object)) {
        if (l->state == LEADING && !says_ours(l, object)) {
            doubt(l);
        } else {
            note(l, object);
        }
    }
    step(l);
}

static void on_absent(enum object_absence absence, const char *problem, void *arg)
{
    struct lease *l = arg;
    set_problem(&l->unreadable, absence == OBJECT_FORBIDDEN ? problem : NULL);
    if (absence == OBJECT_GONE) {
        if (l->state == LEADING || l->state == RELEASING) {
            doubt(l);
        } else {
            note_absence(l);
        }
    }
    step(l);
}

/* ---- requests ---- */

/* Waits before the next request after one that has failed. */
static void back_off(struct lease *l)
{
    l->next = sys->boottime() + l->retry / 2 + backoff_random(l->retry);
}

static void failed(struct lease *l, const struct cluster_answer *answer)
{
    if (answer->result == CLUSTER_REFUSED) {
        char text[FAIL_TEXT_MAX + 128];
        text_fmt(text, sizeof(text),
                 "The Lease that decides which replica leads may not be used (see RBAC in "
                 "docs/install.md): %s",
                 answer->err.text);
        set_problem(&l->unwritable, text);
    } else {
        log_limited(&l->lines, (unsigned)answer->result, LOG_WARN, NULL, 0, "%s; it is tried again",
                    answer->err.text);
    }
    back_off(l);
}

static void start_call(struct lease *l, enum cluster_verb verb, struct str body,
                       void (*done)(const struct cluster_answer *answer, void *arg))
{
    struct cluster_request request = {.verb = verb,
                                      .kind = &kind_lease,
                                      .namespace = l->namespace,
                                      .name = l->name,
                                      .body = body,
                                      .urgent = true};
    l->sent = sys->boottime();
    l->call = cluster_call(l->cluster, &request, (struct cluster_handler){done, l});
}

/* Starts a write of the Lease: a patch, or a new object when it does not exist. */
static void start_write(struct lease *l, const struct lease_entry *entry,
                        void (*done)(const struct cluster_answer *answer, void *arg))
{
    struct buf body;
    buf_init(&body, SIZE_MAX);
    int rc = lease_record_write(&body, l->namespace, l->name, l->exists ? &l->record : NULL, entry);
    assert(rc == OK); /* there is no maximum */
    (void)rc;
    start_call(l, l->exists ? CLUSTER_APPLY : CLUSTER_CREATE, buf_str(&body), done);
    buf_free(&body);
    l->written_at = l->sent;
}

static int64_t call_time(const struct lease *l)
{
    int64_t time = l->deadline / 2;
    return time < CALL_TIME_MIN ? CALL_TIME_MIN : time;
}

/* ---- reading ---- */

/* Plans to write the Lease again, which somebody else has deleted or garbled in our term: at once,
 * or, when that happens again and again, as often as it is renewed. */
static void plan_repair(struct lease *l)
{
    int64_t now = sys->boottime(), due = repairs_due(&l->repairs, REPAIR);
    int64_t regular = l->written_at + l->retry;
    l->ours = false;
    l->next = due < regular ? due : regular;
    l->next = l->next < now ? now : l->next;
    log_limited(&l->lines, LINE_REPAIR, LOG_WARN, NULL, 0,
                "somebody else has changed or deleted the Lease; it is written again");
    if (repairs_note(&l->repairs, REPAIR, l->next)) {
        log_line(LOG_WARN, "lease",
                 "somebody else changes or deletes the Lease again and again; this replica may not "
                 "write in between");
    }
}

/* Decides, in our term, what a Lease that was read means. */
static void judge_read(struct lease *l)
{
    char holder[160], why[200];
    bool mine = l->exists && lease_record_held_by(&l->record, l->identity);
    if (mine && SECONDS(l->record.duration) == l->duration) {
        l->ours = !l->unsure;
    } else if (!mine && l->exists && l->record.holder[0]) {
        text_fmt(why, sizeof(why), "%s has taken the Lease", printable_holder(holder, &l->record));
        lose_term(l, why);
    } else if (!l->unsure) {
        plan_repair(l);
    }
}

static void on_read(const struct cluster_answer *answer, void *arg)
{
    struct lease *l = arg;
    l->call = NULL;
    if (answer->result == CLUSTER_DONE && !is_stale(l, answer->object)) {
        note(l, answer->object);
    } else if (answer->result == CLUSTER_ABSENT) {
        note_absence(l);
    } else if (answer->result != CLUSTER_DONE) {
        l->unsure = true;
        failed(l, answer);
        step(l);
        return;
    }
    if (l->state == LEADING) {
        judge_read(l);
    }
    step(l);
}

static void start_read(struct lease *l)
{
    l->unsure = false;
    l->record.number = 0; /* whatever comes from now on is news */
    start_call(l, CLUSTER_GET, str_of(""), on_read);
    l->read_at = l->sent;
}

/* ---- writing ---- */

/* The write has met another version of the Lease. Once it is repeated at once, for it may only have
 * a label more. */
static void on_conflict(struct lease *l)
{
    l->ours = false;
    l->unsure = true;
    if (l->conflicted) {
        back_off(l);
    } else {
        l->next = sys->boottime();
    }
    l->conflicted = true;
}

static void on_written(struct lease *l, const struct cluster_answer *answer)
{
    int64_t term_end = l->sent + l->deadline;
    bool sure = json_exists(answer->object) && !is_stale(l, answer->object);
    if (sure) {
        note(l, answer->object);
    }
    sure = sure && lease_record_held_by(&l->record, l->identity);
    l->unsure |= !sure;
    l->conflicted = false;
    set_problem(&l->unwritable, NULL);
    if (l->state == RELEASING || sys->boottime() >= term_end) {
        return;
    }
    l->term_end = term_end;
    l->ours = !l->unsure;
    if (l->state == FOLLOWING && sure) {
        begin_term(l);
    }
}

static void on_write_answered(const struct cluster_answer *answer, void *arg)
{
    struct lease *l = arg;
    l->call = NULL;
    if (l->state == LEADING && sys->boottime() >= l->term_end) {
        lose_term_in_time(l); /* even if the answer renews it */
    }
    switch (answer->result) {
    case CLUSTER_DONE:
        on_written(l, answer);
        break;
    case CLUSTER_EXISTS:
    case CLUSTER_CONFLICT:
    case CLUSTER_ABSENT:
        on_conflict(l);
        break;
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        failed(l, answer);
        break;
    }
    step(l);
}

/* Fills in the fields of a new term. When the Lease names us already, it is the old one, which was
 * interrupted. */
static void prepare_term(struct lease *l, const char *now)
{
    const struct lease_record *r = &l->record;
    bool again = l->exists && lease_record_held_by(r, l->identity);
    if (again && r->acquired[0] && strlen(r->acquired) < sizeof(l->acquired)) {
        text_fmt(l->acquired, sizeof(l->acquired), "%s", r->acquired);
    } else {
        text_fmt(l->acquired, sizeof(l->acquired), "%s", now);
    }
    l->transitions = r->holder ? r->transitions + !again : 0;
}

static void write_term(struct lease *l)
{
    char now[STAMP_SIZE];
    stamp_now_exactly(now);
    if (l->state != LEADING) {
        prepare_term(l, now);
    }
    struct lease_entry entry = {.holder = l->identity,
                                .acquired = l->acquired,
                                .renewed = now,
                                .duration = l->duration / SECONDS(1),
                                .transitions = l->transitions};
    start_write(l, &entry, on_write_answered);
    l->next = l->sent + l->retry;
}

/* ---- releasing ---- */

static void on_released(const struct cluster_answer *answer, void *arg)
{
    struct lease *l = arg;
    l->call = NULL;
    if (answer->result == CLUSTER_DONE) {
        set_state(l, OVER);
        log_line(LOG_INFO, "lease", "the Lease is released");
    } else if (answer->result == CLUSTER_REFUSED || answer->result == CLUSTER_LATER) {
        failed(l, answer);
    } else {
        on_conflict(l);
    }
    step(l);
}

static void write_release(struct lease *l)
{
    char now[STAMP_SIZE];
    stamp_now_exactly(now);
    struct lease_entry entry = {.holder = "",
                                .acquired = now,
                                .renewed = now,
                                .duration = 1,
                                .transitions = l->record.transitions};
    start_write(l, &entry, on_released);
}

static void give_release_up(struct lease *l)
{
    cluster_cancel(l->cluster, l->call);
    l->call = NULL;
    set_state(l, OVER);
    log_line(LOG_WARN, "lease",
             "the Lease is not released, because %s; another replica can lead in %lld s",
             l->cluster->writes ? "not all writes have been answered"
                                : "the API server does not answer",
             (long long)(l->duration / SECONDS(1)));
}

static void go_on_releasing(struct lease *l, int64_t now)
{
    if (now >= l->release_by) {
        give_release_up(l);
    } else if (l->call || now < l->next) {
        return;
    } else if (l->unsure) {
        start_read(l);
    } else if (!l->exists || !lease_record_held_by(&l->record, l->identity)) {
        set_state(l, OVER);
    } else if (l->cluster->writes == 0) {
        write_release(l);
    }
}

void lease_release(struct lease *l)
{
    if (l->state == RELEASING || l->state == OVER) {
        return;
    }
    if (l->state == LEADING) {
        log_line(LOG_INFO, "lease", "this replica does not lead any more: it ends");
    }
    set_state(l, RELEASING);
    l->ours = false;
    l->next = sys->boottime();
    l->release_by = l->next + RELEASE_TIME;
    step(l);
}

bool lease_is_over(const struct lease *l)
{
    return l->state == OVER;
}

/* ---- what is due ---- */

static void on_timer(struct timer *t)
{
    step(container_of(t, struct lease, timer));
}

/* Ends a call that has not been answered in time. It may still be carried out; the version that it
 * carries keeps it from harm. */
static void give_call_up(struct lease *l)
{
    cluster_cancel(l->cluster, l->call);
    l->call = NULL;
    l->unsure = true;
    log_limited(&l->lines, LINE_SILENCE, LOG_WARN, NULL, 0,
                "the API server has not answered a request for the Lease within %.3g s; it is "
                "tried again",
                (double)call_time(l) / 1e6);
    l->next = sys->boottime() + backoff_random(l->retry / 2);
}

static void compete(struct lease *l, int64_t now)
{
    if (l->call || now < l->next) {
        return;
    }
    if (l->unsure) {
        start_read(l);
    } else if (l->state == LEADING || (l->known && now >= l->free_at)) {
        write_term(l);
    }
}

static int64_t earliest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Returns when step() has something to do if nothing happens before. */
static int64_t due_at(const struct lease *l)
{
    int64_t due = l->state == LEADING     ? l->term_end
                  : l->state == RELEASING ? l->release_by
                                          : INT64_MAX;
    if (l->call) {
        return earliest(due, l->sent + call_time(l));
    }
    if (l->unsure || l->state == LEADING) {
        return earliest(due, l->next);
    }
    if (l->state == RELEASING) {
        return l->next > sys->boottime() ? earliest(due, l->next) : due;
    }
    return !l->known ? due : l->next > l->free_at ? l->next : l->free_at;
}

/* Does what is due, and sets the timer for the rest. */
static void step(struct lease *l)
{
    int64_t now = sys->boottime();
    if (l->state == LEADING && now >= l->term_end) {
        lose_term_in_time(l);
    }
    if (l->call && now >= l->sent + call_time(l)) {
        give_call_up(l);
    }
    if (l->state == RELEASING) {
        go_on_releasing(l, now);
    } else if (l->state != OVER) {
        compete(l, now);
    }
    int64_t due = l->state == OVER ? INT64_MAX : due_at(l);
    timer_cancel(l->loop, &l->timer);
    if (due != INT64_MAX) {
        timer_set(l->loop, &l->timer, sys->now() + due - sys->boottime(), on_timer);
    }
}

/* ---- the gate ---- */

static bool may_write(void *arg)
{
    return lease_held(arg);
}

/* Goes on with the release, in a turn of its own. */
static void on_writes_answered(void *arg)
{
    struct lease *l = arg;
    if (l->state == RELEASING) {
        timer_set(l->loop, &l->timer, sys->now(), on_timer);
    }
}

/* ---- reports ---- */

struct lease_view lease_view(const struct lease *l)
{
    return (struct lease_view){.held = lease_held(l),
                               .holder = l->exists && l->record.holder ? l->record.holder : "",
                               .problem = l->unreadable ? l->unreadable : l->unwritable};
}

void lease_metrics(const struct lease *l, struct buf *out)
{
    metric_gauge(out, "tproxy_leader", "1 if this replica leads, and writes to the cluster.",
                 lease_held(l));
    metric_counter(out, "tproxy_leader_terms_total", "Times that this replica became the leader.",
                   l->terms);
    metric_counter(out, "tproxy_leader_terms_lost_total",
                   "Times that this replica ceased to lead without having released the Lease.",
                   l->losses);
    metric_gauge(out, "tproxy_leader_transitions",
                 "Times that the leader has changed, of all replicas, as the Lease says.",
                 (double)l->record.transitions);
}

/* ---- life ---- */

static char *make_identity(const char *instance)
{
    unsigned char r[8];
    char text[320];
    sys->random(r, sizeof(r));
    text_fmt(text, sizeof(text), "%.255s_%02x%02x%02x%02x%02x%02x%02x%02x", instance, r[0], r[1],
             r[2], r[3], r[4], r[5], r[6], r[7]);
    return mem_strdup(text);
}

struct lease *lease_new(struct loop *loop, struct cluster *cluster,
                        const struct lease_settings *settings, struct lease_handler handler)
{
    struct lease *l = mem_zalloc(sizeof(*l));
    l->loop = loop;
    l->cluster = cluster;
    l->namespace = mem_strdup(settings->namespace);
    l->name = mem_strdup(settings->name);
    l->identity = make_identity(settings->instance);
    l->duration = settings->duration;
    l->deadline = settings->deadline;
    l->retry = settings->retry;
    l->handler = handler;
    log_limits_init(&l->lines, loop, "lease", NULL);
    cluster->gate =
        (struct cluster_gate){.may_write = may_write, .answered = on_writes_answered, .arg = l};
    l->watch = object_watch_new(
        cluster, &kind_lease, l->namespace, l->name,
        (struct object_watch_handler){.there = on_there, .absent = on_absent, .arg = l});
    return l;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

void lease_free(struct lease *l)
{
    if (!l) {
        return;
    }
    l->cluster->gate = (struct cluster_gate){.may_write = never};
    object_watch_free(l->watch);
    cluster_cancel(l->cluster, l->call);
    timer_cancel(l->loop, &l->timer);
    log_limits_close(&l->lines);
    lease_record_clear(&l->record);
    free(l->namespace);
    free(l->name);
    free(l->identity);
    free(l->unreadable);
    free(l->unwritable);
    free(l);
}
