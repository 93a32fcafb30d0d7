/* List and watch.
 *
 *     watch()                  the next page
 *        |                       .------.
 *        v                       |      v
 *     LIST_DUE --its time-----> LISTING --the last page: listed--> WATCHING --ends as agreed--.
 *      ^    ^                      |                               ^  |  ^                    |
 *      |    '------ it failed -----'                               |  |  '--------------------'
 *      |                                                           |  |
 *      |                              WATCH_DUE --its time---------'  |
 *      |                                  ^                           |
 *      |                                  '------- cut, 429, 5xx -----|
 *      |                                                              |
 *      '--- the version expired (410, as status or as event), --------'
 *           404, 403, 400, errors and nothing else
 *
 * When a watch would begin but the last list is old, a new list begins instead.
 *
 * A watch goes on from the version of the last event that came as a whole, so nothing is missed and
 * nothing needs to be listed again. The handler is only told what a list or an event contained. */
#include "k8s/watch.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/client.h"
#include "lib/backoff.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/url.h"

enum { PAGE = 500 };

/* How long the server is asked to keep a watch, and how long it may be silent: a server that hangs
 * looks like a kind that does not change. Most servers send a bookmark every minute. */
#define WATCH_TIME_MIN SECONDS(300)
#define WATCH_TIME_MAX SECONDS(600)
#define WATCH_SILENCE SECONDS(30) /* after that time, for a server without bookmarks */
#define BOOKMARK_SILENCE SECONDS(150)
#define LIST_SILENCE SECONDS(30)

/* The time after which a kind is listed again, at the end of a watch: a server whose versions went
 * backwards (restored from a backup) answers a watch with silence. With the time of the watch it is
 * at most an hour. */
#define LIST_AGE_MIN SECONDS(30 * 60)
#define LIST_AGE_MAX SECONDS(50 * 60)

/* A watch that lasted this long counts as healthy; its failure count is reset. */
#define HEALTHY SECONDS(10)
#define TOO_SHORT SECONDS(1) /* a watch that ends as agreed, but so early, has failed */
enum { BROKEN_MAX = 3 };     /* watches in a row that brought nothing but an error */

/* How often a kind that seems to be gone is looked at again, at least 3 seconds in all: a server
 * that starts may not yet know all kinds and all rights. It learns them within a second, so the
 * first looks come soon. */
enum { LOOKS_AGAIN = 4 };
#define LOOK_AGAIN_FIRST MILLIS(250)
#define LOOK_AGAIN_MOST SECONDS(2)

/* How often a 403 or 404 is not believed before the first list of a kind has ended: the server may
 * not know yet of rights, or of a definition, that it was given a moment ago. */
enum { FIRST_REFUSALS = 3 };

/* After the server has come back, the watches that waited for it ask again at random moments within
 * this time. */
#define HURRY_TIME SECONDS(1)

enum state { LIST_DUE, LISTING, WATCH_DUE, WATCHING, CLOSED, STATES };

static const char *const state_names[] = {
    [LIST_DUE] = "list due", [LISTING] = "listing", [WATCH_DUE] = "watch due",
    [WATCHING] = "watching", [CLOSED] = "closed",
};
static_assert(ARRAY_LEN(state_names) == STATES, "every state has a name");

struct cluster_watch {
    struct list link;
    struct k8s *k8s;
    struct task grave;
    struct cluster_watch_handler handler;
    const struct cluster_kind *kind;
    char *path;      /* NULL: no object can exist there */
    char *selectors; /* of the query, with a '&' behind each */
    char *what;      /* "services in mail": for people */

    enum state state;
    struct timer timer;     /* of a state that waits */
    struct http_call *call; /* of a state that asks */
    int64_t since;          /* when it asked */
    struct json_cutter cutter;

    char version[K8S_VERSION_SIZE]; /* from which a watch goes on */
    char *next;                     /* page of the list; NULL: the first */
    bool in_one_page;               /* ask for the list in one page, because pages have expired */
    int64_t list_again;

    bool listing_due; /* the handler has not been told yet that a list begins */
    bool open;        /* the handler has been told that it began, and not yet that it ended */
    bool told;        /* the handler has been told `presence` */
    enum cluster_presence presence;
    unsigned doubts;   /* how often the kind has been looked at again, see LOOKS_AGAIN */
    unsigned refusals; /* see FIRST_REFUSALS */

    bool bookmarked;   /* a watch has brought a bookmark */
    unsigned failures; /* in a row */
    unsigned broken;   /* watches in a row, see BROKEN_MAX */
    bool unreached;    /* the last failure was that no answer came */
    bool renewed;      /* asked again with another token */
};

static void start_list(struct cluster_watch *w);
static void start_watch(struct cluster_watch *w);

/* ---- states ---- */

static void watch_log(const struct cluster_watch *w, enum log_level level, const char *fmt, ...)
    printf_like(3, 4);

static void watch_log(const struct cluster_watch *w, enum log_level level, const char *fmt, ...)
{
    char text[FAIL_TEXT_MAX + 128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    log_line(level, "k8s", "%s: %s", w->what, text);
}

static void set_state(struct cluster_watch *w, enum state state)
{
    watch_log(w, LOG_TRACE, "%s -> %s", state_names[w->state], state_names[state]);
    w->state = state;
}

/* Starts what is due: a list or a watch. */
static void start_due(struct cluster_watch *w, enum state state)
{
    if (state == LIST_DUE) {
        start_list(w);
    } else {
        start_watch(w);
    }
}

static void on_watch_timer(struct timer *t)
{
    struct cluster_watch *w = container_of(t, struct cluster_watch, timer);
    start_due(w, w->state);
}

static void ask_later(struct cluster_watch *w, enum state state, int64_t delay)
{
    json_cutter_free(&w->cutter); /* drop a part of an object */
    set_state(w, state);
    timer_set(w->k8s->loop, &w->timer, loop_now(w->k8s->loop) + delay, on_watch_timer);
}

static void retry_after(struct cluster_watch *w, enum state state, const struct k8s_refusal *why,
                        int64_t delay)
{
    /* Other failures are logged elsewhere: by client.c once for all watches, or by
     * kind_missing(). */
    bool news = w->failures == 0 && why->failure != K8S_UNREACHED && why->failure != K8S_ABSENT &&
                why->failure != K8S_FORBIDDEN;
    watch_log(w, news ? LOG_WARN : LOG_DEBUG, "%s; %s in %.1f s", why->err.text,
              state == LIST_DUE ? "listing again" : "watching again", (double)delay / 1e6);
    w->failures++;
    w->unreached = why->failure == K8S_UNREACHED || why->failure == K8S_CUT;
    ask_later(w, state, delay);
}

/* Forgets how often the server could not be reached, now that it gives a definite answer. */
static void note_answer(struct cluster_watch *w, enum k8s_failure failure)
{
    if (w->unreached &&
        (failure == K8S_EXPIRED || failure == K8S_ABSENT || failure == K8S_FORBIDDEN)) {
        w->unreached = false;
        w->failures = 0;
    }
}

/* Tries again after a delay that grows with the failures. */
static void retry(struct cluster_watch *w, enum state state, const struct k8s_refusal *why)
{
    retry_after(w, state, why, k8s_client_delay(w->failures, why->retry_after));
}

/* Tries again at once, unless this is not the first failure. */
static void retry_soon(struct cluster_watch *w, enum state state, const struct k8s_refusal *why)
{
    retry_after(w, state, why,
                w->failures ? k8s_client_delay(w->failures, why->retry_after) : why->retry_after);
}

/* Handles a 401: asks once more at once, for the token is read again then. */
static void retry_with_new_token(struct cluster_watch *w, enum state state,
                                 const struct k8s_refusal *why)
{
    if (w->renewed) {
        retry(w, state, why);
    } else {
        w->renewed = true;
        start_due(w, state);
    }
}

void k8s_watch_hurry(struct k8s *k8s)
{
    LIST_EACH (it, &k8s->watches) {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        int64_t due = loop_now(k8s->loop) + backoff_random(HURRY_TIME);
        bool waits = w->state == LIST_DUE || w->state == WATCH_DUE;
        if (waits && w->unreached && due < w->timer.due) {
            w->failures = 0;
            timer_set(k8s->loop, &w->timer, due, on_watch_timer);
        }
    }
}

static void watch_ask(struct cluster_watch *w, enum state state, const struct buf *target,
                      int64_t silence, struct http_handler handler)
{
    struct k8s_request request = {
        .verb = state == LISTING ? K8S_LIST : K8S_WATCH,
        .kind = w->kind,
        .method = "GET",
        .target = buf_str(target).p,
        .silence = silence,
    };
    set_state(w, state);
    w->since = loop_now(w->k8s->loop);
    w->call = k8s_client_send(w->k8s, &request, &w->cutter, handler);
}

/* Writes path and query, with a NUL at the end. The last parameter is encoded; without a value it
 * is left out. */
static void put_watch_target(const struct cluster_watch *w, struct buf *out, const char *query,
                             const char *last, const char *value)
{
    int res = buf_fmt(out, "%s?%s%s", w->path, w->selectors, query);
    if (res == OK && value) {
        res = buf_fmt(out, "&%s=", last);
        res = res == OK ? url_encode_form(out, str_of(value)) : res;
    }
    res = res == OK ? buf_add(out, "", 1) : res;
    assert(res == OK); /* there is no maximum */
    (void)res;
}

/* Ends the call, because the answer makes no sense; the rest of it is not read. */
static void break_off(struct cluster_watch *w, struct k8s_refusal *why, const struct error *err)
{
    http_cancel(w->call);
    w->call = NULL;
    *why = (struct k8s_refusal){.failure = K8S_BROKEN, .err = *err};
}

/* Cuts a piece of the answer and has `take` handle each object or event that it completes. ERR and
 * *why: the answer makes no sense. */
static int take_piece(struct cluster_watch *w, struct str piece,
                      int (*take)(struct cluster_watch *w, struct str text, struct error *err),
                      struct k8s_refusal *why)
{
    const struct http_call *call = w->call; /* when it is no longer w->call, a handler has ended
                                               it */
    struct str text;
    struct error err;
    int res = OK;
    while (w->call == call && res == OK) {
        res = json_cutter_next(&w->cutter, &piece, &text, &err);
        res = res == OK ? take(w, text, &err) : res;
    }
    if (res == ERR) {
        break_off(w, why, &err);
    }
    return res;
}

/* ---- reports ---- */

static void tell_listing(struct cluster_watch *w)
{
    if (w->listing_due) {
        w->listing_due = false;
        w->open = true;
        w->handler.listing(w->handler.arg);
    }
}

static void tell_listed(struct cluster_watch *w, enum cluster_presence presence)
{
    w->open = false;
    w->told = true;
    w->presence = presence;
    w->handler.listed(presence, w->handler.arg);
}

/* ---- list ---- */

/* Handles a 403 or 404: the kind does not exist, or we may not read it. */
static void kind_missing(struct cluster_watch *w, enum cluster_presence presence,
                         const struct k8s_refusal *why)
{
    if (w->told && w->presence == CLUSTER_PRESENT && w->doubts < LOOKS_AGAIN) {
        int64_t delay = backoff_delay(w->doubts++, LOOK_AGAIN_FIRST, LOOK_AGAIN_MOST, 10);
        retry_after(w, LIST_DUE, why, delay);
        return;
    }
    if (!w->told && w->refusals < FIRST_REFUSALS) {
        w->refusals++;
        retry(w, LIST_DUE, why);
        return;
    }
    if (!w->told || w->presence != presence || w->open) {
        watch_log(w, LOG_INFO, "%s: %s",
                  presence == CLUSTER_UNKNOWN ? "the API server does not know this kind"
                                              : "we may not read this kind",
                  why->err.text);
        w->listing_due = true;
        tell_listing(w);
        w->failures = 0;
        if (w->state != CLOSED && w->handler.refused) {
            w->handler.refused(why->err.text, w->handler.arg);
        }
        if (w->state != CLOSED) {
            tell_listed(w, presence);
        }
    }
    if (w->state != CLOSED) {
        retry(w, LIST_DUE, why);
    }
}

static void begin_again(struct cluster_watch *w)
{
    free(w->next);
    w->next = NULL;
}

static void list_failed(struct cluster_watch *w, const struct k8s_refusal *why)
{
    note_answer(w, why->failure);
    switch (why->failure) {
    case K8S_ABSENT:
    case K8S_FORBIDDEN:
        begin_again(w);
        kind_missing(w, why->failure == K8S_ABSENT ? CLUSTER_UNKNOWN : CLUSTER_FORBIDDEN, why);
        break;
    case K8S_EXPIRED:
        w->in_one_page = true;
        begin_again(w);
        retry_soon(w, LIST_DUE, why);
        break;
    case K8S_UNAUTHORIZED:
        retry_with_new_token(w, LIST_DUE, why);
        break;
    case K8S_INVALID:
        begin_again(w);
        retry(w, LIST_DUE, why);
        break;
    case K8S_UNREACHED:
    case K8S_CUT:
    case K8S_EXISTS:
    case K8S_CONFLICT:
    case K8S_BUSY:
    case K8S_BROKEN:
    case K8S_FAILURES:
        retry(w, LIST_DUE, why); /* the same page; its objects are reported again */
        break;
    }
}

static int take_item(struct cluster_watch *w, struct str text, struct error *err)
{
    struct json *doc = k8s_client_parse_cut(w->k8s, w->kind, &w->cutter, text, err);
    if (doc) {
        w->handler.object(json_root(doc), w->handler.arg);
    }
    json_free(doc);
    return doc ? OK : ERR;
}

static void on_list_data(struct str piece, void *arg)
{
    struct cluster_watch *w = arg;
    const struct http_call *call = w->call;
    struct k8s_refusal why;
    tell_listing(w);
    if (w->call == call && take_piece(w, piece, take_item, &why) == ERR) {
        list_failed(w, &why);
    }
}

static void list_complete(struct cluster_watch *w)
{
    w->in_one_page = w->renewed = false;
    w->broken = w->doubts = 0;
    if (w->told && w->presence != CLUSTER_PRESENT) {
        w->failures = 0; /* the failures were those of a kind that did not exist, not of the
                            server */
    }
    int64_t age = LIST_AGE_MIN + backoff_random(LIST_AGE_MAX - LIST_AGE_MIN);
    w->list_again = loop_now(w->k8s->loop) + age;
    tell_listing(w);
    if (w->state != CLOSED) {
        tell_listed(w, CLUSTER_PRESENT);
    }
    if (w->state != CLOSED && w->path) {
        start_watch(w);
    }
}

static void on_list_done(const struct http_answer *answer, const struct error *err, void *arg)
{
    struct cluster_watch *w = arg;
    struct k8s_refusal why = {.failure = K8S_CUT};
    struct k8s_page page;
    w->call = NULL;
    if (!k8s_client_succeeded(w->k8s, K8S_LIST, w->since, answer, err, &why)) {
        list_failed(w, &why);
        return;
    }
    if (!json_cutter_done(&w->cutter)) {
        error_set(&why.err, FAIL_REMOTE, "the list ended in the middle");
        list_failed(w, &why);
        return;
    }
    if (k8s_page_parse(&page, json_cutter_metadata(&w->cutter), &why.err) == ERR) {
        why.failure = K8S_BROKEN;
        list_failed(w, &why);
        return;
    }
    if (!w->next) {
        memcpy(w->version, page.version, sizeof(w->version));
    }
    free(w->next);
    w->next = page.next;
    if (w->next) {
        start_list(w);
    } else {
        list_complete(w);
    }
}

/* Starts a list, or goes on with its next page. */
static void start_list(struct cluster_watch *w)
{
    struct buf target;
    char query[32];
    if (!w->path) {
        w->listing_due = true;
        list_complete(w);
        return;
    }
    w->listing_due = !w->next;
    text_fmt(query, sizeof(query), "limit=%d", w->in_one_page ? 0 : PAGE);
    buf_init(&target, SIZE_MAX);
    put_watch_target(w, &target, query, "continue", w->next);
    watch_ask(w, LISTING, &target, LIST_SILENCE,
              (struct http_handler){.data = on_list_data, .done = on_list_done, .arg = w});
    buf_free(&target);
}

/* ---- watch ---- */

static void note_end(struct cluster_watch *w)
{
    if (loop_now(w->k8s->loop) - w->since >= HEALTHY) {
        w->failures = 0;
    }
}

static void watch_failed(struct cluster_watch *w, const struct k8s_refusal *why)
{
    note_end(w);
    note_answer(w, why->failure);
    k8s_client_figures(w->k8s, w->kind)->restarts++;
    switch (why->failure) {
    case K8S_EXPIRED:
    case K8S_ABSENT:
    case K8S_FORBIDDEN:
        retry_soon(w, LIST_DUE, why);
        break;
    case K8S_UNAUTHORIZED:
        retry_with_new_token(w, WATCH_DUE, why);
        break;
    case K8S_INVALID:
        retry(w, LIST_DUE, why);
        break;
    case K8S_BROKEN:
        w->broken++;
        retry(w, w->broken < BROKEN_MAX ? WATCH_DUE : LIST_DUE, why);
        break;
    case K8S_UNREACHED:
    case K8S_CUT:
    case K8S_EXISTS:
    case K8S_CONFLICT:
    case K8S_BUSY:
    case K8S_FAILURES:
        retry(w, WATCH_DUE, why);
        break;
    }
}

static void take_event(struct cluster_watch *w, const struct k8s_event *event)
{
    struct k8s_refusal why;
    if (event->type == K8S_EVENT_ERROR) {
        http_cancel(w->call);
        w->call = NULL;
        k8s_refusal_of_status(&why, event->object);
        k8s_client_conceal(w->k8s, &why);
        watch_failed(w, &why);
        return;
    }
    memcpy(w->version, event->version, sizeof(w->version));
    w->renewed = false;
    w->broken = 0;
    w->bookmarked |= event->type == K8S_EVENT_BOOKMARK;
    if (event->type == K8S_EVENT_OBJECT) {
        w->handler.object(event->object, w->handler.arg);
    } else if (event->type == K8S_EVENT_GONE) {
        w->handler.gone(event->object, w->handler.arg);
    }
}

static int take_event_text(struct cluster_watch *w, struct str text, struct error *err)
{
    struct k8s_event event;
    struct json *doc = k8s_client_parse_cut(w->k8s, w->kind, &w->cutter, text, err);
    int res = doc ? k8s_event_parse(&event, json_root(doc), err) : ERR;
    if (res == OK) {
        take_event(w, &event);
    }
    json_free(doc);
    return res;
}

static void on_watch_data(struct str piece, void *arg)
{
    struct cluster_watch *w = arg;
    struct k8s_refusal why;
    if (take_piece(w, piece, take_event_text, &why) == ERR) {
        watch_failed(w, &why);
    }
}

static void on_watch_done(const struct http_answer *answer, const struct error *err, void *arg)
{
    struct cluster_watch *w = arg;
    struct k8s_refusal why = {.failure = K8S_CUT};
    w->call = NULL;
    if (!k8s_client_succeeded(w->k8s, K8S_WATCH, w->since, answer, err, &why)) {
        watch_failed(w, &why);
    } else if (!json_cutter_done(&w->cutter)) {
        error_set(&why.err, FAIL_REMOTE, "the watch ended in the middle of an event");
        watch_failed(w, &why);
    } else if (loop_now(w->k8s->loop) - w->since < TOO_SHORT) {
        error_set(&why.err, FAIL_REMOTE, "the watch ended as soon as it began");
        watch_failed(w, &why);
    } else {
        w->renewed = false;
        note_end(w);
        start_watch(w);
    }
}

static void start_watch(struct cluster_watch *w)
{
    struct buf target;
    char query[80];
    if (loop_now(w->k8s->loop) >= w->list_again) {
        start_list(w);
        return;
    }
    int64_t time = WATCH_TIME_MIN + backoff_random(WATCH_TIME_MAX - WATCH_TIME_MIN);
    text_fmt(query, sizeof(query), "watch=1&allowWatchBookmarks=true&timeoutSeconds=%lld",
             (long long)(time / SECONDS(1)));
    buf_init(&target, SIZE_MAX);
    put_watch_target(w, &target, query, "resourceVersion", w->version);
    watch_ask(w, WATCHING, &target, w->bookmarked ? BOOKMARK_SILENCE : time + WATCH_SILENCE,
              (struct http_handler){.data = on_watch_data, .done = on_watch_done, .arg = w});
    buf_free(&target);
}

/* ---- life ---- */

/* Appends a value of a field selector. Characters with a meaning in it are escaped
 * (fields.EscapeValue of k8s.io/apimachinery). */
static int escape_field(struct buf *out, const char *value)
{
    int res = OK;
    for (; *value && res == OK; value++) {
        res = strchr("\\,=", *value) ? buf_add(out, "\\", 1) : OK;
        res = res == OK ? buf_add(out, value, 1) : res;
    }
    return res;
}

static char *make_selectors(const struct cluster_selection *s)
{
    struct buf out, field;
    int res = OK;
    buf_init(&out, SIZE_MAX);
    buf_init(&field, SIZE_MAX);
    if (s->labels) {
        res = buf_fmt(&out, "labelSelector=");
        res = res == OK ? url_encode_form(&out, str_of(s->labels)) : res;
        res = res == OK ? buf_add(&out, "&", 1) : res;
    }
    if (s->name && res == OK) {
        res = buf_fmt(&out, "fieldSelector=metadata.name%%3D");
        res = res == OK ? escape_field(&field, s->name) : res;
        res = res == OK ? url_encode_form(&out, buf_str(&field)) : res;
        res = res == OK ? buf_add(&out, "&", 1) : res;
    }
    assert(res == OK); /* there is no maximum */
    char *text = mem_strndup(buf_str(&out).p, buf_len(&out));
    buf_free(&out);
    buf_free(&field);
    return text;
}

/* Returns the path; NULL: the namespace cannot stand in one. */
static char *make_path(const struct k8s *k8s, const struct cluster_selection *s)
{
    struct buf out;
    buf_init(&out, SIZE_MAX);
    int res = k8s_client_path(k8s, &out, s->kind, s->namespace, NULL, NULL);
    char *path = res == OK ? mem_strndup(buf_str(&out).p, buf_len(&out)) : NULL;
    buf_free(&out);
    return path;
}

static char *describe_watch(const struct cluster_selection *s)
{
    char text[256];
    size_t n = text_fmt(text, sizeof(text), "%s%s%s%s%s", s->kind->plural, s->name ? " " : "",
                        s->name ? s->name : "", s->namespace ? " in " : "",
                        s->namespace ? s->namespace : "");
    return mem_strndup(text, n);
}

struct cluster_watch *k8s_watch_start(struct cluster *cluster,
                                      const struct cluster_selection *selection,
                                      struct cluster_watch_handler handler)
{
    struct k8s *k8s = container_of(cluster, struct k8s, cluster);
    struct cluster_watch *w = mem_zalloc(sizeof(*w));
    w->k8s = k8s;
    w->handler = handler;
    w->kind = selection->kind;
    w->path = make_path(k8s, selection);
    w->selectors = make_selectors(selection);
    w->what = describe_watch(selection);
    task_init(&w->grave);
    list_init(&w->link);
    list_append(&k8s->watches, &w->link);
    ask_later(w, LIST_DUE, 0);
    return w;
}

static void free_watch(struct task *t)
{
    struct cluster_watch *w = container_of(t, struct cluster_watch, grave);
    json_cutter_free(&w->cutter);
    free(w->next);
    free(w->path);
    free(w->selectors);
    free(w->what);
    free(w);
}

/* Ends the watch. Its memory stays until the end of the turn, because one of its handlers may be
 * the caller. */
void k8s_watch_stop(struct cluster *cluster, struct cluster_watch *watch)
{
    (void)cluster;
    if (watch) {
        http_cancel(watch->call);
        watch->call = NULL;
        timer_cancel(watch->k8s->loop, &watch->timer);
        list_remove(&watch->link);
        set_state(watch, CLOSED);
        loop_bury(watch->k8s->loop, &watch->grave, free_watch);
    }
}
