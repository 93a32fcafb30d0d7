/* Everything is listed first, and removed then, kind by kind: what leads clients to a mailbox goes
 * before what says that it is there, and the records for the next start go last. In the end
 * everything is listed once more, because a tproxy that runs makes it all again.
 *
 *   LISTING --dry run: told--> over
 *      |
 *      '--> REMOVING --something failed, or nothing was there--> over
 *              |
 *              '--> CHECKING --what is there is an error--> over
 *
 * One object, REMOVAL_CALLS_MAX of them at a time:
 *
 *   DELETE --> removed
 *          --> a finalizer keeps it: failed
 *   GET --> PATCH status --> removed
 *    ^          |
 *    '----------'-- the object has changed; TRIES_MAX times
 *
 * Nothing is kept between two runs: a run that was killed is repeated by another one. */
#include "tproxy/removal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "cluster/cluster.h"
#include "cluster/kinds.h"
#include "cluster/labels.h"
#include "configuration/last_config.h"
#include "controller/plan.h"
#include "controller/resting_ports.h"
#include "lib/buf.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/map.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "tproxy/belongings.h"

/* How long lists may bring nothing. */
#define LIST_PATIENCE SECONDS(60)

/* The tries to change an object that others change at the same time. */
enum { TRIES_MAX = 5 };

/* This many requests in a row without an answer end the removal. */
enum { UNANSWERED_MAX = REMOVAL_CALLS_MAX };

/* The longest line, and the longest list of finalizers in it. */
enum { LINE_MAX_SIZE = 2048, FINALIZERS_MAX = 256 };

#define AGAIN_ADVICE "then run cleanup again"

/* ---- what is removed ---- */

/* Objects of one kind, in the order in which they are removed. */
struct part {
    const struct cluster_kind *kind;
    const char *name; /* of the only object; NULL: every object that is ours */
    bool everywhere;  /* in all namespaces, and not only at home */
    bool labelled;    /* all of them carry our labels */
    bool optional;    /* a cluster may not know the kind */
    enum belonging (*judge)(struct json_value object, const char *home);
    const char *doubt; /* why an object is perhaps ours */

    /* The part to remove, "the status of ", by which patch. NULL: the object itself. */
    const char *what;
    int (*patch)(struct buf *out, struct json_value object, const char *home, struct error *err);
};

static const struct part parts[] = {
    {.kind = &kind_service,
     .everywhere = true,
     .labelled = true,
     .judge = belongs_service,
     .doubt = "it has our labels, but was made by somebody else, or for a Destination of another "
              "namespace"},
    {.kind = &kind_policy, .labelled = true, .judge = belongs_labelled},
    {.kind = &kind_destination,
     .everywhere = true,
     .optional = true,
     .judge = belongs_condition,
     .doubt = "its status has a condition without a known writer (metadata.managedFields)",
     .what = "the condition of ",
     .patch = belongs_condition_removal},
    {.kind = &kind_proxy,
     .optional = true,
     .judge = belongs_status,
     .what = "the status of ",
     .patch = belongs_status_removal},
    {.kind = &kind_config_map, .name = LAST_CONFIG_NAME, .judge = belongs_labelled},
    {.kind = &kind_config_map, .name = RESTING_PORTS_NAME, .judge = belongs_labelled},
    {.kind = &kind_lease, .judge = belongs_labelled}, /* its name is a setting */
};
enum { PARTS = ARRAY_LEN(parts) };

enum outcome { OUTCOME_NONE, OUTCOME_REMOVED, OUTCOME_GONE, OUTCOME_FAILED };

/* An object that is ours, or has a part that is ours. */
struct item {
    struct list link; /* on an array of its listing, later on `waiting`, then on `begun` */
    struct map_entry by_uid;
    struct listing *listing;
    const char *namespace, *name, *uid;
    char *texts; /* owns them */
    unsigned tries;
    struct cluster_call *call; /* NULL: none is under way */
    enum outcome outcome;
};

/* One part, as it was listed. */
struct listing {
    struct removal *removal;
    const struct part *part;
    const char *name;            /* of the only object; NULL: there may be several */
    struct cluster_watch *watch; /* NULL: it has been listed */
    struct list items, last;     /* `last`: those that go after the others */
    struct map by_uid;           /* while it is listed: a page may come twice */
    char refusal[FAIL_TEXT_MAX]; /* why it cannot be listed, in the API server's words */
    size_t errors;               /* of its objects */
};

enum phase { PHASE_LISTING, PHASE_REMOVING, PHASE_CHECKING, PHASE_OVER };

struct removal {
    struct loop *loop;
    struct cluster *cluster;
    struct removal_settings set;
    struct removal_handler handler;
    char writer[PLAN_WRITER_SIZE];
    enum phase phase;
    struct listing listings[PARTS];
    size_t unlisted;       /* number of listings under way */
    struct timer patience; /* of the lists */
    struct list waiting;   /* items to remove */
    struct list begun;     /* items that are being removed, or of which is still to be told */
    size_t calls;
    unsigned unanswered; /* requests in a row */
    struct removal_sum sum;
    struct task next; /* begins a phase */
};

/* ---- words ---- */

/* Tells a function of the handler. */
static void tell(const struct removal *r, void (*function)(const char *text, void *arg),
                 const char *fmt, ...) printf_like(3, 4);

static void tell(const struct removal *r, void (*function)(const char *text, void *arg),
                 const char *fmt, ...)
{
    char text[LINE_MAX_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    text_sanitize(text);
    function(text, r->handler.arg);
}

enum { SUBJECT_MAX = 512 };

/* Writes "the condition of Destination orders/mail". Returns out. */
static const char *subject_of(char out[SUBJECT_MAX], const struct item *item)
{
    const struct part *part = item->listing->part;
    text_fmt(out, SUBJECT_MAX, "%s%s %s/%s", part->what ? part->what : "", part->kind->kind,
             item->namespace, item->name);
    return out;
}

static void item_line(const struct item *item, const char *verb)
{
    const struct removal *r = item->listing->removal;
    char subject[SUBJECT_MAX];
    tell(r, r->handler.line, "%s %s", verb, subject_of(subject, item));
}

static const char *verb_of(const struct item *item, bool would)
{
    if (item->listing->part->what) {
        return would ? "would remove" : "removed";
    }
    return would ? "would delete" : "deleted";
}

/* Counts that the object stays, and says why if not too many others do. */
static void item_error(const struct item *item, const char *fmt, ...) printf_like(2, 3);

static void item_error(const struct item *item, const char *fmt, ...)
{
    struct removal *r = item->listing->removal;
    char subject[SUBJECT_MAX], why[LINE_MAX_SIZE];
    va_list ap;
    r->sum.failed++;
    if (item->listing->errors++ >= REMOVAL_ERRORS_MAX) {
        return;
    }
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    tell(r, r->handler.error, "%s %s", subject_of(subject, item), why);
}

/* Says of how many objects nothing was said. */
static void tell_untold(const struct removal *r)
{
    for (size_t i = 0; i < PARTS; i++) {
        const struct listing *l = &r->listings[i];
        if (l->errors > REMOVAL_ERRORS_MAX) {
            tell(r, r->handler.error, "%zu more of these stay: %s%s",
                 l->errors - REMOVAL_ERRORS_MAX, l->part->what ? l->part->what : "",
                 l->part->kind->plural);
        }
    }
}

/* ---- items ---- */

static void free_item(struct item *item)
{
    cluster_cancel(item->listing->removal->cluster, item->call);
    list_remove(&item->link);
    free(item->texts);
    free(item);
}

static void free_items(struct list *items)
{
    LIST_EACH (it, items) {
        free_item(container_of(it, struct item, link));
    }
}

static char *text_at(struct json_value metadata, const char *member)
{
    char *text = json_strdup(json_get(metadata, member), NULL);
    return text ? text : mem_strdup("");
}

static struct item *new_item(struct listing *l, struct json_value object)
{
    struct json_value metadata = json_get(object, "metadata");
    struct item *item = mem_zalloc(sizeof(*item));
    const char **const texts[] = {&item->namespace, &item->name, &item->uid};
    item->listing = l;
    item->namespace = text_at(metadata, "namespace");
    item->name = text_at(metadata, "name");
    item->uid = text_at(metadata, "uid");
    item->texts = mem_join(texts, ARRAY_LEN(texts));
    list_init(&item->link);
    return item;
}

/* Adds an object that is ours. Aliases go before the Services that they lead to. */
static void add_item(struct listing *l, struct json_value object)
{
    struct item *item = new_item(l, object);
    if (map_find(&l->by_uid, item->uid)) {
        free_item(item);
        return;
    }
    bool alias = json_is(json_get(json_get(object, "spec"), "type"), "ExternalName");
    map_add(&l->by_uid, &item->by_uid, item->uid);
    list_append(alias ? &l->items : &l->last, &item->link);
}

/* ---- listing ---- */

static void begin_phase(struct task *t);

static void on_impatient(struct timer *t);

static void be_patient(struct removal *r)
{
    timer_set(r->loop, &r->patience, loop_now(r->loop) + LIST_PATIENCE, on_impatient);
}

static void drop_items(struct listing *l)
{
    free_items(&l->items);
    free_items(&l->last);
    map_free(&l->by_uid);
}

static void on_listing(void *arg)
{
    struct listing *l = arg;
    drop_items(l);
    be_patient(l->removal);
}

static void on_object(struct json_value object, void *arg)
{
    struct listing *l = arg;
    struct removal *r = l->removal;
    be_patient(r);
    switch (l->part->judge(object, r->set.home)) {
    case BELONGS_TO_OTHERS:
        break;
    case BELONGS_PERHAPS:
        if (r->phase == PHASE_LISTING) {
            char subject[SUBJECT_MAX];
            struct item *item = new_item(l, object);
            tell(r, r->handler.note, "%s is left alone: %s", subject_of(subject, item),
                 l->part->doubt);
            free_item(item);
        }
        break;
    case BELONGS_TO_US:
        add_item(l, object);
        break;
    }
}

static void on_gone(struct json_value object, void *arg)
{
    (void)object, (void)arg; /* a watch that has listed is ended */
}

static void on_refused(const char *words, void *arg)
{
    struct listing *l = arg;
    text_fmt(l->refusal, sizeof(l->refusal), "%s", words);
}

static void end_listing(struct listing *l)
{
    struct removal *r = l->removal;
    cluster_unwatch(r->cluster, l->watch);
    l->watch = NULL;
    map_free(&l->by_uid);
    if (--r->unlisted == 0) {
        timer_cancel(r->loop, &r->patience);
        loop_soon(r->loop, &r->next, begin_phase);
    }
}

static void on_listed(enum cluster_presence presence, void *arg)
{
    struct listing *l = arg;
    struct removal *r = l->removal;
    const struct part *part = l->part;
    const char *name = l->name ? l->name : "";
    if (presence == CLUSTER_FORBIDDEN) {
        r->sum.failed++;
        tell(r, r->handler.error,
             "%s%s%s cannot be listed, so they stay if they exist: %s; grant the right "
             "(docs/install.md, \"What it may do\"), " AGAIN_ADVICE,
             part->kind->plural, *name ? " " : "", name, l->refusal);
    } else if (presence == CLUSTER_UNKNOWN && !part->optional) {
        r->sum.failed++;
        tell(r, r->handler.error,
             "%s cannot be listed: %s; check that --kube-url leads to a Kubernetes "
             "API, " AGAIN_ADVICE,
             part->kind->plural, l->refusal);
    }
    end_listing(l);
}

/* Ends the lists that bring nothing. */
static void on_impatient(struct timer *t)
{
    struct removal *r = container_of(t, struct removal, patience);
    for (size_t i = 0; i < PARTS; i++) {
        struct listing *l = &r->listings[i];
        if (l->watch) {
            drop_items(l);
            r->sum.failed++;
            tell(r, r->handler.error,
                 "%s cannot be listed: the API server has sent nothing for %lld s; see that it "
                 "answers, " AGAIN_ADVICE,
                 l->part->kind->plural, (long long)(LIST_PATIENCE / SECONDS(1)));
            end_listing(l);
        }
    }
}

static void list_part(struct listing *l)
{
    char labels[sizeof(LABEL_MANAGED_BY "=" LABEL_MANAGER "," LABEL_HOME "=") + CR_NAMESPACE_MAX];
    const char *home = l->removal->set.home;
    const struct part *part = l->part;
    struct cluster_selection selection = {.kind = part->kind,
                                          .namespace = part->everywhere ? NULL : home,
                                          .name = l->name,
                                          .labels = part->labelled ? labels : NULL};
    text_fmt(labels, sizeof(labels), LABEL_MANAGED_BY "=" LABEL_MANAGER "," LABEL_HOME "=%s", home);
    l->watch = cluster_watch(l->removal->cluster, &selection,
                             (struct cluster_watch_handler){.listing = on_listing,
                                                            .object = on_object,
                                                            .gone = on_gone,
                                                            .listed = on_listed,
                                                            .refused = on_refused,
                                                            .arg = l});
    l->removal->unlisted++;
}

static void list_all(struct removal *r)
{
    for (size_t i = 0; i < PARTS; i++) {
        list_part(&r->listings[i]);
    }
    be_patient(r);
}

/* ---- removing ---- */

static void begin_items(struct removal *r);

/* Tells of items in the order in which they were begun. */
static void tell_ended(struct removal *r)
{
    LIST_EACH (it, &r->begun) {
        struct item *item = container_of(it, struct item, link);
        switch (item->outcome) {
        case OUTCOME_NONE:
            return;
        case OUTCOME_REMOVED:
            item_line(item, verb_of(item, false));
            break;
        case OUTCOME_GONE:
            item_line(item, "gone already:");
            break;
        case OUTCOME_FAILED: /* it has been told */
            break;
        }
        free_item(item);
    }
}

static void end_item(struct item *item, enum outcome outcome)
{
    struct removal *r = item->listing->removal;
    item->outcome = outcome;
    r->sum.removed += outcome == OUTCOME_REMOVED;
    r->sum.gone += outcome == OUTCOME_GONE;
    tell_ended(r);
    begin_items(r);
}

static void fail_item(struct item *item, const struct cluster_answer *answer)
{
    item_error(item, "stays: %s; %s" AGAIN_ADVICE, answer->err.text,
               answer->result == CLUSTER_REFUSED
                   ? "if a right is missing, grant it (docs/install.md, \"What it may do\"), "
                   : "");
    end_item(item, OUTCOME_FAILED);
}

/* Tells whether the request may not have reached the API server, or was not authorized: then others
 * fail likewise. */
static bool is_unanswered(const struct cluster_answer *answer)
{
    enum fail fail = answer->err.fail;
    return answer->result == CLUSTER_LATER &&
           (fail == FAIL_DNS || fail == FAIL_CONNECT || fail == FAIL_TLS || fail == FAIL_CERT ||
            fail == FAIL_TIMEOUT || fail == FAIL_AUTH);
}

static struct item *on_any_answer(const struct cluster_answer *answer, void *arg)
{
    struct item *item = arg;
    struct removal *r = item->listing->removal;
    item->call = NULL;
    r->calls--;
    r->unanswered = is_unanswered(answer) ? r->unanswered + 1 : 0;
    return item;
}

static void call(struct item *item, enum cluster_verb verb, struct str body,
                 void (*done)(const struct cluster_answer *answer, void *arg))
{
    struct removal *r = item->listing->removal;
    struct cluster_request request = {.verb = verb,
                                      .kind = item->listing->part->kind,
                                      .namespace = item->namespace,
                                      .name = item->name,
                                      .uid = item->uid,
                                      .body = body};
    r->calls++;
    item->call =
        cluster_call(r->cluster, &request, (struct cluster_handler){.done = done, .arg = item});
}

/* ---- an object that is deleted ---- */

/* Writes the names of what keeps the object. Returns out. */
static const char *finalizers_of(char out[FINALIZERS_MAX], struct json_value object)
{
    size_t n = 0;
    struct json_value list = json_get(json_get(object, "metadata"), "finalizers");
    out[0] = '\0';
    for (struct json_value v = json_first(list); json_exists(v); v = json_next(v)) {
        char *name = json_strdup(v, NULL);
        n += text_fmt(out + n, FINALIZERS_MAX - n, "%s%s", n ? ", " : "", name ? name : "?");
        free(name);
    }
    return out;
}

static void on_deleted(const struct cluster_answer *answer, void *arg)
{
    struct item *item = on_any_answer(answer, arg);
    char finalizers[FINALIZERS_MAX];
    switch (answer->result) {
    case CLUSTER_DONE:
        break;
    case CLUSTER_ABSENT:
    case CLUSTER_CONFLICT: /* another object has its name now */
        end_item(item, OUTCOME_GONE);
        return;
    case CLUSTER_EXISTS:
    case CLUSTER_REFUSED:
    case CLUSTER_LATER:
        fail_item(item, answer);
        return;
    }
    if (!json_exists(answer->object)) {
        end_item(item, OUTCOME_REMOVED);
        return;
    }
    item_error(item,
               "is being deleted, but finalizers keep it: %s; see that their controllers remove "
               "them, " AGAIN_ADVICE,
               finalizers_of(finalizers, answer->object));
    end_item(item, OUTCOME_FAILED);
}

/* ---- an object whose status is changed ---- */

static void on_read(const struct cluster_answer *answer, void *arg);

static void on_patched(const struct cluster_answer *answer, void *arg)
{
    struct item *item = on_any_answer(answer, arg);
    bool changed = answer->result == CLUSTER_CONFLICT || answer->result == CLUSTER_ABSENT;
    if (answer->result == CLUSTER_DONE) {
        end_item(item, OUTCOME_REMOVED);
    } else if (changed && ++item->tries < TRIES_MAX) {
        call(item, CLUSTER_GET, (struct str){0}, on_read);
    } else {
        fail_item(item, answer);
    }
}

static void on_read(const struct cluster_answer *answer, void *arg)
{
    struct item *item = on_any_answer(answer, arg);
    struct error err;
    if (answer->result == CLUSTER_ABSENT) {
        end_item(item, OUTCOME_GONE);
        return;
    }
    if (answer->result != CLUSTER_DONE) {
        fail_item(item, answer);
        return;
    }
    struct buf body;
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc =
        item->listing->part->patch(&body, answer->object, item->listing->removal->set.home, &err);
    if (rc == OK) {
        call(item, CLUSTER_PATCH_STATUS, buf_str(&body), on_patched);
    }
    buf_free(&body);
    if (rc == ERR) {
        item_error(item, "stays: %s, " AGAIN_ADVICE, err.text);
    }
    if (rc != OK) {
        end_item(item, rc == AGAIN ? OUTCOME_GONE : OUTCOME_FAILED);
    }
}

/* ---- the order ---- */

static void begin_item(struct item *item)
{
    list_remove(&item->link);
    list_append(&item->listing->removal->begun, &item->link);
    if (item->listing->part->patch) {
        call(item, CLUSTER_GET, (struct str){0}, on_read);
    } else {
        call(item, CLUSTER_DELETE, (struct str){0}, on_deleted);
    }
}

static size_t count(const struct list *items)
{
    size_t n = 0;
    for (const struct list *it = items->next; it != items; it = it->next) {
        n++;
    }
    return n;
}

static void give_up(struct removal *r)
{
    size_t left = count(&r->waiting);
    r->sum.failed += left;
    if (left) {
        tell(r, r->handler.error,
             "the API server does not answer, so %zu more objects stay; see that it "
             "answers, " AGAIN_ADVICE,
             left);
    }
    free_items(&r->waiting);
}

static void begin_items(struct removal *r)
{
    if (r->unanswered >= UNANSWERED_MAX) {
        give_up(r);
    }
    while (r->calls < REMOVAL_CALLS_MAX && !list_empty(&r->waiting)) {
        begin_item(container_of(r->waiting.next, struct item, link));
    }
    if (r->calls == 0 && list_empty(&r->waiting)) {
        loop_soon(r->loop, &r->next, begin_phase);
    }
}

static void move_items(struct list *to, struct list *from)
{
    LIST_EACH (it, from) {
        list_remove(it);
        list_append(to, it);
    }
}

/* Puts all items that were listed on `waiting`, in the order in which they are removed. */
static void gather(struct removal *r)
{
    for (size_t i = 0; i < PARTS; i++) {
        move_items(&r->waiting, &r->listings[i].items);
        move_items(&r->waiting, &r->listings[i].last);
    }
}

static void tell_plan(struct removal *r)
{
    LIST_EACH (it, &r->waiting) {
        struct item *item = container_of(it, struct item, link);
        item_line(item, verb_of(item, true));
        r->sum.removed++;
        free_item(item);
    }
}

static void tell_rest(struct removal *r)
{
    LIST_EACH (it, &r->waiting) {
        struct item *item = container_of(it, struct item, link);
        item_error(item,
                   "is there again, so a tproxy of this installation runs; end it (kubectl -n %s "
                   "scale deployment -l app.kubernetes.io/name=tproxy --replicas=0), " AGAIN_ADVICE,
                   r->set.home);
        free_item(item);
    }
}

static void finish(struct removal *r)
{
    r->phase = PHASE_OVER;
    tell_untold(r);
    r->handler.over(&r->sum, r->handler.arg);
}

/* Everything has been listed, or removed: goes on with what comes then. */
static void begin_phase(struct task *t)
{
    struct removal *r = container_of(t, struct removal, next);
    switch (r->phase) {
    case PHASE_LISTING:
        gather(r);
        if (!r->set.dry_run && !list_empty(&r->waiting)) {
            r->phase = PHASE_REMOVING;
            begin_items(r);
            return;
        }
        tell_plan(r);
        break;
    case PHASE_REMOVING:
        if (r->sum.failed == 0) {
            r->phase = PHASE_CHECKING;
            list_all(r);
            return;
        }
        break;
    case PHASE_CHECKING:
        gather(r);
        tell_rest(r);
        break;
    case PHASE_OVER:
        return;
    }
    finish(r);
}

/* ---- life ---- */

struct removal *removal_new(struct loop *loop, struct cluster *cluster,
                            const struct removal_settings *settings, struct removal_handler handler)
{
    struct removal *r = mem_zalloc(sizeof(*r));
    r->loop = loop;
    r->cluster = cluster;
    r->set = *settings;
    r->handler = handler;
    plan_writer(r->writer, sizeof(r->writer), r->set.home);
    cluster->writer = r->writer;
    cluster->bounds = kind_bounds;
    list_init(&r->waiting);
    list_init(&r->begun);
    task_init(&r->next);
    for (size_t i = 0; i < PARTS; i++) {
        struct listing *l = &r->listings[i];
        *l = (struct listing){.removal = r, .part = &parts[i], .name = parts[i].name};
        if (l->part->kind == &kind_lease) {
            l->name = settings->lease;
        }
        list_init(&l->items);
        list_init(&l->last);
        map_init(&l->by_uid);
    }
    list_all(r);
    return r;
}

void removal_free(struct removal *r)
{
    if (!r) {
        return;
    }
    for (size_t i = 0; i < PARTS; i++) {
        cluster_unwatch(r->cluster, r->listings[i].watch);
        drop_items(&r->listings[i]);
    }
    free_items(&r->waiting);
    free_items(&r->begun);
    timer_cancel(r->loop, &r->patience);
    task_cancel(&r->next);
    free(r);
}

struct removal_sum removal_sum(const struct removal *r)
{
    return r->sum;
}
