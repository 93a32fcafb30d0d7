/* A cluster in memory. It keeps a status that is written into it, and nothing else, because nobody
 * reads the rest: there are no Services on a laptop, and no Events.
 *
 *   watch --> (directory read) --> task: listing, object*, listed --> object | gone, as files do */
#include "local/cluster.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "lib/list.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "local/object.h"

struct entry {
    struct list link;
    const struct local_object *object;
    bool made;        /* a CR made for a plain destination */
    char *status;     /* JSON; NULL: none was written */
    char *text;       /* the object with its status; NULL without one */
    struct json *doc; /* of the text */
};

struct cluster_watch {
    struct list link;
    struct local_cluster *lc;
    struct task task;
    const struct cluster_kind *kind;
    char *namespace, *name; /* NULL: any */
    bool listed, closed;
    bool due; /* has to be told of the change */
    struct cluster_watch_handler handler;
};

struct cluster_call {
    struct list link;
    struct local_cluster *lc;
    struct task task;
    struct cluster_handler handler;
    enum cluster_verb verb;
    const char *kind;
    char *namespace, *name, *body;
};

struct local_cluster {
    struct cluster face;
    struct loop *loop;
    struct local_cluster_handler handler;
    bool settled;
    struct list entries, watches, calls;
};

/* ---- entries ---- */

static bool is_at(const struct local_object *a, const struct local_object *b)
{
    return strcmp(a->kind, b->kind) == 0 && strcmp(a->namespace, b->namespace) == 0 &&
           strcmp(a->name, b->name) == 0;
}

static struct entry *find_entry(struct local_cluster *lc, const struct local_object *object,
                                bool made)
{
    LIST_EACH (it, &lc->entries) {
        struct entry *e = container_of(it, struct entry, link);
        if (e->made == made && is_at(e->object, object)) {
            return e;
        }
    }
    return NULL;
}

/* Tells whether an entry is hidden: a CR that was made for a destination gives way to one of its
 * name that somebody wrote, whatever the namespace, because people see the names only. */
static bool is_hidden(struct local_cluster *lc, const struct entry *e)
{
    LIST_EACH (it, &lc->entries) {
        const struct entry *other = container_of(it, struct entry, link);
        if (e->made && !other->made && strcmp(other->object->kind, e->object->kind) == 0 &&
            strcmp(other->object->name, e->object->name) == 0) {
            return true;
        }
    }
    return false;
}

/* Returns the CR that was made for a destination with the name of the CR `object`, if nothing hides
 * it. */
static struct entry *find_shown(struct local_cluster *lc, const struct local_object *object)
{
    LIST_EACH (it, &lc->entries) {
        struct entry *e = container_of(it, struct entry, link);
        if (e->made && strcmp(e->object->kind, object->kind) == 0 &&
            strcmp(e->object->name, object->name) == 0 && !is_hidden(lc, e)) {
            return e;
        }
    }
    return NULL;
}

static struct json_value root_of(const struct entry *e)
{
    return json_root(e->doc ? e->doc : e->object->doc);
}

static void clear_status(struct entry *e)
{
    free(e->status);
    json_free(e->doc);
    free(e->text);
    e->status = e->text = NULL;
    e->doc = NULL;
}

static void set_status(struct entry *e, struct str status)
{
    struct buf text;
    struct str object = str_of(e->object->text);
    char *kept = mem_strndup(status.p, status.n);
    buf_init(&text, SIZE_MAX);
    int rc = buf_fmt(&text, "%.*s,\"status\":%s}", (int)object.n - 1, object.p, kept);
    assert(rc == OK); /* there is no maximum */
    clear_status(e);
    e->status = kept;
    e->text = mem_strndup(buf_str(&text).p, buf_len(&text));
    e->doc = json_parse(str_of(e->text), NULL);
    buf_free(&text);
}

static void entry_free(struct entry *e)
{
    list_remove(&e->link);
    local_object_unref(e->object);
    clear_status(e);
    free(e);
}

static bool is_selected(const struct cluster_watch *w, const struct local_object *object)
{
    return strcmp(w->kind->kind, object->kind) == 0 &&
           (!w->namespace || strcmp(w->namespace, object->namespace) == 0) &&
           (!w->name || strcmp(w->name, object->name) == 0);
}

static struct cluster_watch *first_due(struct local_cluster *lc)
{
    LIST_EACH (it, &lc->watches) {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        if (w->due) {
            return w;
        }
    }
    return NULL;
}

/* Tells the watches of a change, starting from the top after each one, because a handler may end
 * the watch of another. */
static void tell_watches(struct local_cluster *lc, const struct entry *e, bool gone)
{
    struct cluster_watch *w;
    LIST_EACH (it, &lc->watches) {
        w = container_of(it, struct cluster_watch, link);
        w->due = w->listed && is_selected(w, e->object);
    }
    while ((w = first_due(lc)) != NULL) {
        w->due = false;
        if (gone) {
            w->handler.gone(root_of(e), w->handler.arg);
        } else {
            w->handler.object(root_of(e), w->handler.arg);
        }
    }
}

static void put_entry(struct local_cluster *lc, struct entry *e, const struct local_object *object,
                      bool made)
{
    if (!e) {
        e = mem_zalloc(sizeof(*e));
        e->made = made;
        list_append(&lc->entries, &e->link);
    }
    local_object_unref(e->object);
    e->object = local_object_ref(object);
    if (e->status) {
        set_status(e, str_of(e->status)); /* the status stays */
    }
    if (!is_hidden(lc, e)) {
        tell_watches(lc, e, false);
    }
}

void local_cluster_put(struct local_cluster *lc, const struct local_object *object)
{
    struct entry *hides = find_shown(lc, object);
    if (hides && !is_at(object, hides->object)) {
        tell_watches(lc, hides, true);
    }
    if (hides) {
        clear_status(hides); /* it comes back as a new CR */
    }
    put_entry(lc, find_entry(lc, object, false), object, false);
}

/* Drops an object. A CR that it has hidden appears. */
void local_cluster_drop(struct local_cluster *lc, const struct local_object *object)
{
    struct entry *e = find_entry(lc, object, false);
    if (!e) {
        return;
    }
    list_remove(&e->link);
    struct entry *shows = find_shown(lc, object);
    if (!shows || !is_at(object, shows->object)) {
        tell_watches(lc, e, true);
    }
    if (shows) {
        tell_watches(lc, shows, false);
    }
    entry_free(e);
}

void local_cluster_put_destination(struct local_cluster *lc, const char *name)
{
    const struct local_object *object = local_object_of_destination(name);
    put_entry(lc, find_entry(lc, object, true), object, true);
    local_object_unref(object);
}

void local_cluster_drop_destination(struct local_cluster *lc, const char *name)
{
    const struct local_object *object = local_object_of_destination(name);
    struct entry *e = find_entry(lc, object, true);
    if (e && !is_hidden(lc, e)) {
        tell_watches(lc, e, true);
    }
    if (e) {
        entry_free(e);
    }
    local_object_unref(object);
}

bool local_cluster_hides_destination(struct local_cluster *lc, const char *name)
{
    const struct local_object *object = local_object_of_destination(name);
    const struct entry *e = find_entry(lc, object, true);
    bool hidden = e && is_hidden(lc, e);
    local_object_unref(object);
    return hidden;
}

bool local_cluster_is_followed(const struct local_cluster *lc, const struct local_object *object)
{
    LIST_EACH (it, &lc->watches) {
        if (is_selected(container_of(it, struct cluster_watch, link), object)) {
            return true;
        }
    }
    return false;
}

/* ---- watches ---- */

static void list_all(struct task *t)
{
    struct cluster_watch *w = container_of(t, struct cluster_watch, task);
    w->handler.listing(w->handler.arg);
    LIST_EACH (it, &w->lc->entries) {
        const struct entry *e = container_of(it, struct entry, link);
        if (!w->closed && is_selected(w, e->object) && !is_hidden(w->lc, e)) {
            w->handler.object(root_of(e), w->handler.arg);
        }
    }
    if (!w->closed) {
        w->listed = true;
        w->handler.listed(CLUSTER_PRESENT, w->handler.arg);
    }
}

static char *copy(const char *s)
{
    return s ? mem_strdup(s) : NULL;
}

static struct cluster_watch *start_watch(struct cluster *cluster,
                                         const struct cluster_selection *selection,
                                         struct cluster_watch_handler handler)
{
    struct local_cluster *lc = container_of(cluster, struct local_cluster, face);
    struct cluster_watch *w = mem_zalloc(sizeof(*w));
    w->lc = lc;
    w->kind = selection->kind;
    w->namespace = copy(selection->namespace);
    w->name = copy(selection->name);
    w->handler = handler;
    task_init(&w->task);
    list_append(&lc->watches, &w->link);
    if (lc->settled) {
        loop_soon(lc->loop, &w->task, list_all);
    }
    return w;
}

static void free_watch(struct task *t)
{
    struct cluster_watch *w = container_of(t, struct cluster_watch, task);
    free(w->namespace);
    free(w->name);
    free(w);
}

static void end_watch(struct cluster *cluster, struct cluster_watch *w)
{
    struct local_cluster *lc = container_of(cluster, struct local_cluster, face);
    if (w) {
        w->closed = true;
        list_remove(&w->link);
        task_cancel(&w->task);
        loop_bury(lc->loop, &w->task, free_watch); /* one of its own handlers may be the caller */
    }
}

void local_cluster_settled(struct local_cluster *lc)
{
    if (lc->settled) {
        return;
    }
    lc->settled = true;
    LIST_EACH (it, &lc->watches) {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        loop_soon(lc->loop, &w->task, list_all);
    }
}

/* ---- calls ---- */

static void call_free(struct cluster_call *call)
{
    list_remove(&call->link);
    task_cancel(&call->task);
    free(call->namespace);
    free(call->name);
    free(call->body);
    free(call);
}

static struct entry *find_named(const struct cluster_call *call)
{
    LIST_EACH (it, &call->lc->entries) {
        struct entry *e = container_of(it, struct entry, link);
        if (strcmp(e->object->kind, call->kind) == 0 && strcmp(e->object->name, call->name) == 0 &&
            strcmp(e->object->namespace, call->namespace) == 0 && !is_hidden(call->lc, e)) {
            return e;
        }
    }
    return NULL;
}

/* Keeps the status of a patch. Our patches carry the whole status. */
static void keep_status(const struct cluster_call *call, struct entry *e)
{
    struct local_cluster *lc = call->lc;
    struct json *doc = json_parse(str_of(call->body), NULL);
    struct json_value status = json_get(json_root(doc), "status");
    if (!e->status || !str_eq(json_text(status), e->status)) {
        set_status(e, json_text(status));
        lc->handler.status(call->kind, call->name, status, lc->handler.arg);
        tell_watches(lc, e, false);
    }
    json_free(doc);
}

static void on_call(struct task *t)
{
    struct cluster_call *call = container_of(t, struct cluster_call, task);
    struct cluster_handler handler = call->handler;
    struct cluster_answer answer = {.result = CLUSTER_DONE};
    struct entry *e = find_named(call);
    if (!e && (call->verb == CLUSTER_GET || call->verb == CLUSTER_PATCH_STATUS)) {
        answer.result = CLUSTER_ABSENT;
        error_set(&answer.err, FAIL_CONFIG, "%s %s: it is not in the directory", call->kind,
                  call->name);
    } else if (call->verb == CLUSTER_PATCH_STATUS) {
        keep_status(call, e);
    }
    answer.object = e ? root_of(e) : (struct json_value){0};
    call_free(call);
    handler.done(&answer, handler.arg);
}

static struct cluster_call *start_call(struct cluster *cluster,
                                       const struct cluster_request *request,
                                       struct cluster_handler handler)
{
    struct local_cluster *lc = container_of(cluster, struct local_cluster, face);
    struct cluster_call *c = mem_zalloc(sizeof(*c));
    c->lc = lc;
    c->handler = handler;
    c->verb = request->verb;
    c->kind = request->kind->kind;
    c->namespace = mem_strdup(request->namespace ? request->namespace : "");
    c->name = mem_strdup(request->name);
    c->body = mem_strndup(request->body.p ? request->body.p : "", request->body.n);
    task_init(&c->task);
    list_append(&lc->calls, &c->link);
    loop_soon(lc->loop, &c->task, on_call);
    return c;
}

static void cancel_call(struct cluster *cluster, struct cluster_call *call)
{
    (void)cluster;
    if (call) {
        call_free(call);
    }
}

/* ---- life ---- */

struct local_cluster *local_cluster_new(struct loop *loop, struct local_cluster_handler handler)
{
    struct local_cluster *lc = mem_zalloc(sizeof(*lc));
    lc->face = (struct cluster){
        .watch = start_watch, .unwatch = end_watch, .call = start_call, .cancel = cancel_call};
    lc->loop = loop;
    lc->handler = handler;
    list_init(&lc->entries);
    list_init(&lc->watches);
    list_init(&lc->calls);
    return lc;
}

void local_cluster_free(struct local_cluster *lc)
{
    if (!lc) {
        return;
    }
    assert(list_empty(&lc->watches) && list_empty(&lc->calls));
    LIST_EACH (it, &lc->entries) {
        entry_free(container_of(it, struct entry, link));
    }
    free(lc);
}

struct cluster *local_cluster_face(struct local_cluster *lc)
{
    return &lc->face;
}
