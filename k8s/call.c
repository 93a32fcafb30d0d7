/* One request.
 *
 *     call --> ASK --gate--> sent --answer--> done
 *               ^   |          |
 *               |   |          |'-- 401: the token is read again, and the request is sent once more
 *               |   |          '--- cancelled: the answer is awaited, and nobody is told of it
 *               |   '-- closed: done (CLUSTER_LATER)
 *               '--waits-- not reached, 429, 503: at most REPEATS_MAX times */
#include "k8s/call.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "k8s/client.h"
#include "lib/loop.h"
#include "lib/url.h"

enum { REPEATS_MAX = 4 };

/* How long the server may be silent between two pieces of an answer. */
#define ANSWER_SILENCE SECONDS(30)

struct cluster_call {
    struct list link;
    struct k8s *k8s;
    struct cluster_handler handler; /* done is NULL after a cancel */
    enum cluster_verb verb;
    bool urgent;
    char *what; /* "PATCH services mail/mail-a": for people */
    const struct cluster_kind *kind;
    struct buf target, body;
    struct json_cutter cutter; /* of the answer */
    struct json *answer;       /* the object that the cutter has put out; NULL: none yet */
    struct error err;          /* why the answer cannot be read */
    struct http_call *call;    /* NULL while `timer` runs */
    struct timer timer;        /* runs until the request is sent again */
    int64_t since;
    unsigned repeats;
    bool renewed;   /* sent again with another token */
    bool passed;    /* the gate has let it through, and it has not been answered yet */
    bool held_back; /* the gate has stopped it */
};

/* Changes are merge patches, which replace arrays as a whole. Server-side apply would merge arrays,
 * and removes only elements that an apply has added: those of a POST would stay for ever. */
static const struct {
    const char *method, *content_type, *subresource;
    bool writes; /* it writes fields, and names the field manager */
    enum k8s_verb counted;
} verbs[] = {
    [CLUSTER_GET] = {"GET", NULL, NULL, false, K8S_GET},
    [CLUSTER_CREATE] = {"POST", "application/json", NULL, true, K8S_CREATE},
    [CLUSTER_APPLY] = {"PATCH", "application/merge-patch+json", NULL, true, K8S_APPLY},
    [CLUSTER_PATCH_STATUS] = {"PATCH", "application/merge-patch+json", "status", true,
                              K8S_PATCH_STATUS},
    [CLUSTER_DELETE] = {"DELETE", "application/json", NULL, false, K8S_DELETE},
};

static void forget_answer(struct cluster_call *c)
{
    json_free(c->answer);
    c->answer = NULL;
    json_cutter_free(&c->cutter);
    c->err = (struct error){.fail = FAIL_NONE};
}

/* Notes that a write has been answered, or never will be. */
static void note_answered(struct cluster_call *c)
{
    struct cluster *cluster = &c->k8s->cluster;
    if (!c->passed) {
        return;
    }
    c->passed = false;
    if (--cluster->writes == 0 && cluster->gate.answered) {
        cluster->gate.answered(cluster->gate.arg);
    }
}

static void free_call(struct cluster_call *c)
{
    timer_cancel(c->k8s->loop, &c->timer);
    list_remove(&c->link);
    forget_answer(c);
    buf_free(&c->target);
    buf_free(&c->body);
    free(c->what);
    free(c);
}

/* Ends the call. `why` says what went wrong, without the name of the request. */
static void call_finish(struct cluster_call *c, struct cluster_answer *answer,
                        const struct error *why)
{
    struct cluster_handler handler = c->handler;
    if (answer->result != CLUSTER_DONE) {
        error_set(&answer->err, why->fail, "%s: %s", c->what, why->text);
    }
    free_call(c);
    handler.done(answer, handler.arg);
}

/* ---- answers ---- */

static enum cluster_result result_of(enum k8s_failure failure)
{
    switch (failure) {
    case K8S_EXISTS:
        return CLUSTER_EXISTS;
    case K8S_CONFLICT:
        return CLUSTER_CONFLICT;
    case K8S_ABSENT:
        return CLUSTER_ABSENT;
    case K8S_FORBIDDEN:
    case K8S_INVALID:
        return CLUSTER_REFUSED;
    case K8S_UNREACHED:
    case K8S_CUT:
    case K8S_EXPIRED:
    case K8S_UNAUTHORIZED:
    case K8S_BUSY:
    case K8S_BROKEN:
    case K8S_FAILURES:
        break;
    }
    return CLUSTER_LATER;
}

/* Tells whether a finalizer keeps the object. A DELETE is answered with success then, too. */
static bool is_kept(struct json_value object)
{
    struct json_value metadata = json_get(object, "metadata");
    return json_given(json_get(metadata, "deletionTimestamp")) &&
           json_exists(json_first(json_get(metadata, "finalizers")));
}

/* Cuts the answer while it comes, so that only the parts of a large object that are read take
 * memory. */
static void on_call_data(struct str piece, void *arg)
{
    struct cluster_call *c = arg;
    struct str text;
    if (!c->answer && c->err.fail == FAIL_NONE &&
        json_cutter_next(&c->cutter, &piece, &text, &c->err) == OK) {
        c->answer = k8s_client_parse_cut(c->k8s, c->kind, &c->cutter, text, &c->err);
    }
}

static void call_succeed(struct cluster_call *c)
{
    struct cluster_answer answer = {.result = CLUSTER_DONE};
    struct error err = c->err;
    struct json *doc = c->answer;
    struct json_cutter cutter = c->cutter; /* holds the text of `doc` */
    c->answer = NULL;
    c->cutter = (struct json_cutter){0};
    if (err.fail == FAIL_NONE && !doc && !json_cutter_done(&cutter)) {
        error_set(&err, FAIL_PROTOCOL, "the answer ends in the middle of an object");
    }
    if (err.fail != FAIL_NONE) {
        answer.result = CLUSTER_LATER;
    } else if (doc && (c->verb != CLUSTER_DELETE || is_kept(json_root(doc)))) {
        answer.object = json_root(doc);
    }
    call_finish(c, &answer, &err);
    json_free(doc);
    json_cutter_free(&cutter);
}

/* Asks the gate. A large request is sent in pieces, and each of them leads here. */
static bool may_send(void *arg)
{
    struct cluster_call *c = arg;
    struct cluster *cluster = &c->k8s->cluster;
    if (cluster->gate.may_write && !cluster->gate.may_write(cluster->gate.arg)) {
        c->held_back = true;
        return false;
    }
    cluster->writes += !c->passed;
    c->passed = true;
    return true;
}

static void call_hold_back(struct cluster_call *c)
{
    struct error err;
    c->k8s->held_back++;
    error_set(&err, FAIL_REMOTE, "this replica does not lead");
    call_finish(c, &(struct cluster_answer){.result = CLUSTER_LATER}, &err);
}

static void call_ask(struct cluster_call *c);

static void on_call_timer(struct timer *t)
{
    call_ask(container_of(t, struct cluster_call, timer));
}

static void on_call_answer(const struct http_answer *http_answer, const struct error *err,
                           void *arg)
{
    struct cluster_call *c = arg;
    struct k8s_refusal refusal;
    c->call = NULL;
    note_answered(c);
    if (c->held_back && c->handler.done) {
        call_hold_back(c);
        return;
    }
    bool ok = !c->held_back && k8s_client_succeeded(c->k8s, verbs[c->verb].counted, c->since,
                                                    http_answer, err, &refusal);
    if (!c->handler.done) {
        free_call(c);
        return;
    }
    if (ok) {
        call_succeed(c);
        return;
    }
    bool passing = refusal.failure == K8S_UNREACHED || refusal.failure == K8S_BUSY;
    if (refusal.failure == K8S_UNAUTHORIZED && !c->renewed) {
        c->renewed = true;
        call_ask(c);
    } else if (passing && c->repeats < REPEATS_MAX) {
        int64_t delay = k8s_client_delay(c->repeats++, refusal.retry_after);
        timer_set(c->k8s->loop, &c->timer, loop_now(c->k8s->loop) + delay, on_call_timer);
    } else {
        call_finish(c, &(struct cluster_answer){.result = result_of(refusal.failure)},
                    &refusal.err);
    }
}

static void call_ask(struct cluster_call *c)
{
    struct k8s_request request = {
        .verb = verbs[c->verb].counted,
        .kind = c->kind,
        .method = verbs[c->verb].method,
        .target = buf_str(&c->target).p,
        .content_type = verbs[c->verb].content_type,
        .body = buf_str(&c->body),
        .silence = ANSWER_SILENCE,
        .urgent = c->urgent,
    };
    bool gated = c->verb != CLUSTER_GET && !c->urgent;
    forget_answer(c);
    c->since = loop_now(c->k8s->loop);
    c->call = k8s_client_send(c->k8s, &request, &c->cutter,
                              (struct http_handler){.data = on_call_data,
                                                    .may_send = gated ? may_send : NULL,
                                                    .done = on_call_answer,
                                                    .arg = c});
}

/* ---- asking ---- */

static void on_bad_name(struct timer *t)
{
    struct cluster_call *c = container_of(t, struct cluster_call, timer);
    struct error err;
    error_set(&err, FAIL_CONFIG, "an object cannot have this name or namespace");
    call_finish(c, &(struct cluster_answer){.result = CLUSTER_REFUSED}, &err);
}

static char *describe_call(const struct cluster_request *r)
{
    char text[512];
    const char *subresource = verbs[r->verb].subresource;
    size_t n = text_fmt(text, sizeof(text), "%s %s%s%s %s%s%s", verbs[r->verb].method,
                        r->kind->plural, subresource ? "/" : "", subresource ? subresource : "",
                        r->namespace ? r->namespace : "", r->namespace ? "/" : "", r->name);
    return mem_strndup(text, n);
}

/* Writes the path and the query. ERR: the namespace or the name cannot stand in a path. */
static int put_call_target(struct cluster_call *c, const struct cluster_request *r)
{
    const char *name = r->verb == CLUSTER_CREATE ? NULL : r->name;
    const char *writer = c->k8s->cluster.writer;
    if (k8s_client_path(c->k8s, &c->target, r->kind, r->namespace, name,
                        verbs[r->verb].subresource) == ERR) {
        return ERR;
    }
    if (verbs[r->verb].writes && (buf_fmt(&c->target, "?fieldManager=") == ERR ||
                                  url_encode_segment(&c->target, str_of(writer)) == ERR)) {
        return ERR;
    }
    return buf_add(&c->target, "", 1);
}

static void put_body(struct cluster_call *c, const struct cluster_request *r)
{
    int res;
    if (r->verb == CLUSTER_DELETE) {
        assert(r->uid);
        res = json_fmt(&c->body, "{'preconditions':{'uid':%s},'propagationPolicy':'Background'}",
                       r->uid);
    } else {
        res = buf_add(&c->body, r->body.p, r->body.n);
    }
    assert(res == OK); /* there is no maximum */
    (void)res;
}

struct cluster_call *k8s_call_start(struct cluster *cluster, const struct cluster_request *request,
                                    struct cluster_handler handler)
{
    struct k8s *k8s = container_of(cluster, struct k8s, cluster);
    struct cluster_call *c = mem_zalloc(sizeof(*c));
    c->k8s = k8s;
    c->handler = handler;
    c->verb = request->verb;
    c->urgent = request->urgent;
    c->kind = request->kind;
    c->what = describe_call(request);
    list_init(&c->link);
    list_append(&k8s->calls, &c->link);
    buf_init(&c->target, SIZE_MAX);
    buf_init(&c->body, SIZE_MAX);
    if (put_call_target(c, request) == ERR) {
        timer_set(k8s->loop, &c->timer, loop_now(k8s->loop), on_bad_name);
        return c;
    }
    put_body(c, request);
    call_ask(c);
    return c;
}

void k8s_call_cancel(struct cluster *cluster, struct cluster_call *call)
{
    (void)cluster;
    if (call && call->passed) {
        call->handler.done = NULL;
    } else if (call) {
        http_cancel(call->call);
        free_call(call);
    }
}

void k8s_call_drop_cancelled(struct k8s *k8s)
{
    LIST_EACH (it, &k8s->calls) {
        struct cluster_call *c = container_of(it, struct cluster_call, link);
        assert(!c->handler.done);
        http_cancel(c->call);
        note_answered(c);
        free_call(c);
    }
}
