/* The object store of a test: how it answers calls and reports to watches. */
#include "tests/unit/world/cluster.h"

/* A report that a watch will get. */
struct tiding {
    struct list link;
    bool gone;
    char *text;
};

struct cluster_watch {
    struct list link;
    size_t client;
    const struct cluster_kind *kind;
    char *namespace, *name, *labels; /* NULL: any */
    struct cluster_watch_handler handler;
    bool list_due;
    bool broken; /* the last list broke off */
    struct list tidings;
};

struct fake fake;

/* ---- JSON ---- */

static void fake_add(struct buf *out, struct str s)
{
    assert_int_equal(buf_add(out, s.p, s.n), OK);
}

/* Appends the merge patch `p` applied to `t` (RFC 7396). */
static void fake_merge(struct buf *out, struct json_value t, struct json_value p)
{
    const char *comma = "";
    if (json_type(p) != JSON_OBJECT) {
        fake_add(out, json_text(p));
        return;
    }
    fake_add(out, str_of("{"));
    for (struct json_value m = json_first(t); json_exists(m); m = json_next(m)) {
        char *key = json_strdup(json_key(m), NULL);
        if (key && !json_exists(json_get(p, key))) {
            assert_int_equal(json_fmt(out, comma[0] ? ",%s:" : "%s:", key), OK);
            fake_add(out, json_text(m));
            comma = ",";
        }
        free(key);
    }
    for (struct json_value m = json_first(p); json_exists(m); m = json_next(m)) {
        char *key = json_strdup(json_key(m), NULL);
        if (json_given(m)) {
            assert_int_equal(json_fmt(out, comma[0] ? ",%s:" : "%s:", key), OK);
            fake_merge(out, json_type(t) == JSON_OBJECT ? json_get(t, key) : (struct json_value){0},
                       m);
            comma = ",";
        }
        free(key);
    }
    fake_add(out, str_of("}"));
}

char *fake_merged(const char *text, const char *patch)
{
    struct error err;
    struct buf out;
    struct json *t = json_parse(str_of(text), &err), *p = json_parse(str_of(patch), &err);
    if (!t || !p) {
        fail_msg("%s: %s", err.text, t ? patch : text);
    }
    buf_init(&out, FAKE_TEXT_MAX);
    fake_merge(&out, json_root(t), json_root(p));
    char *merged = mem_strndup(buf_str(&out).p, buf_len(&out));
    buf_free(&out);
    json_free(t);
    json_free(p);
    return merged;
}

char *fake_get(const char *text, const char *path)
{
    char part[64];
    struct json *doc = json_parse(str_of(text), NULL);
    struct json_value v = json_root(doc);
    for (struct str rest = str_of(path); rest.n;) {
        struct str key = str_cut(&rest, '.');
        text_fmt(part, sizeof(part), "%.*s", STR_ARG(key));
        v = json_get(v, part);
    }
    char *got = json_strdup(v, NULL);
    if (!got) {
        struct str raw = json_text(v);
        got = mem_strndup(raw.p ? raw.p : "", raw.n);
    }
    json_free(doc);
    return got;
}

bool fake_says(const char *text, const char *path, const char *value)
{
    char *got = fake_get(text, path);
    bool same = strcmp(got, value) == 0;
    free(got);
    return same;
}

static uint64_t fake_digest(const char *text)
{
    char *bare =
        fake_merged(text, "{\"metadata\":{\"resourceVersion\":null,\"managedFields\":null}}");
    struct json *doc = json_parse(str_of(bare), NULL);
    uint64_t digest = json_digest(json_root(doc));
    json_free(doc);
    free(bare);
    return digest;
}

/* ---- the store ---- */

struct kind_state *fake_kind(const char *kind)
{
    for (size_t i = 0; i < FAKE_KINDS; i++) {
        if (!fake.kinds[i].kind || strcmp(fake.kinds[i].kind, kind) == 0) {
            fake.kinds[i].kind = kind;
            return &fake.kinds[i];
        }
    }
    fail_msg("too many kinds");
    return NULL;
}

struct item *fake_find(const char *kind, const char *namespace, const char *name)
{
    char key[1024];
    text_fmt(key, sizeof(key), "%s %s %s", kind, namespace, name);
    struct map_entry *e = map_find(&fake.by_key, key);
    return e ? container_of(e, struct item, entry) : NULL;
}

static bool fake_labelled(const char *text, const char *selector)
{
    char label[256], value[256];
    struct json *doc = json_parse(str_of(text), NULL);
    struct json_value labels = json_get(json_get(json_root(doc), "metadata"), "labels");
    bool all = true;
    for (struct str rest = str_of(selector); rest.n;) {
        struct str term = str_cut(&rest, ',');
        struct str key = str_cut(&term, '=');
        text_fmt(label, sizeof(label), "%.*s", STR_ARG(key));
        text_fmt(value, sizeof(value), "%.*s", STR_ARG(term));
        all = all && json_is(json_get(labels, label), value);
    }
    json_free(doc);
    return all;
}

static bool fake_selects(const struct cluster_watch *w, const struct item *i, const char *text)
{
    return strcmp(w->kind->kind, i->kind) == 0 &&
           (!w->namespace || strcmp(w->namespace, i->namespace) == 0) &&
           (!w->name || strcmp(w->name, i->name) == 0) &&
           (!w->labels || fake_labelled(text, w->labels));
}

static void fake_note(struct cluster_watch *w, bool gone, const char *text)
{
    struct tiding *t = mem_zalloc(sizeof(*t));
    t->gone = gone;
    t->text = mem_strdup(text);
    list_append(&w->tidings, &t->link);
}

static void fake_forget(struct cluster_watch *w)
{
    LIST_EACH (it, &w->tidings) {
        struct tiding *t = container_of(it, struct tiding, link);
        list_remove(&t->link);
        free(t->text);
        free(t);
    }
}

/* Queues a report of a change. `before` or `after` is NULL if the object did not or does not
 * exist. */
static void fake_tell(const struct item *i, const char *before, const char *after)
{
    LIST_EACH (it, &fake.watches) {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        bool was = before && fake_selects(w, i, before), is = after && fake_selects(w, i, after);
        if (w->list_due || fake_kind(w->kind->kind)->presence != CLUSTER_PRESENT) {
            continue;
        }
        if (is) {
            fake_note(w, false, after);
        } else if (was) {
            char patch[64];
            text_fmt(patch, sizeof(patch), "{\"metadata\":{\"resourceVersion\":\"%llu\"}}",
                     (unsigned long long)fake.version);
            char *last = fake_merged(before, patch);
            fake_note(w, true, last);
            free(last);
        }
    }
}

void fake_remove(struct item *i)
{
    fake.version++;
    fake_tell(i, i->text, NULL);
    list_remove(&i->link);
    map_remove(&fake.by_key, &i->entry);
    free(i->key);
    free(i->kind);
    free(i->namespace);
    free(i->name);
    free(i->text);
    free(i);
}

/* Returns `text` with fake.prunes merged into it. Takes ownership of `text`. */
static char *fake_pruned(char *text)
{
    if (!fake.prunes) {
        return text;
    }
    char *pruned = fake_merged(text, fake.prunes);
    free(text);
    return pruned;
}

bool fake_store(struct item *i, char *text)
{
    char patch[64];
    if (i->text && fake_digest(i->text) == fake_digest(text)) {
        free(text);
        return false;
    }
    text_fmt(patch, sizeof(patch), "{\"metadata\":{\"resourceVersion\":\"%llu\"}}",
             (unsigned long long)++fake.version);
    char *before = i->text;
    i->text = fake_merged(text, patch);
    fake_tell(i, before, i->text);
    free(before);
    free(text);
    if (strstr(i->text, "\"deletionTimestamp\"") && fake_says(i->text, "metadata.finalizers", "")) {
        fake_remove(i);
    }
    return true;
}

struct item *fake_create(const char *kind, const char *namespace, const char *name,
                         const char *text)
{
    char patch[1024];
    struct item *i = mem_zalloc(sizeof(*i));
    text_fmt(patch, sizeof(patch), "%s %s %s", kind, namespace, name);
    i->key = mem_strdup(patch);
    i->kind = mem_strdup(kind);
    i->namespace = mem_strdup(namespace);
    i->name = mem_strdup(name);
    list_append(&fake.items, &i->link);
    map_add(&fake.by_key, &i->entry, i->key);
    unsigned long long second = fake.created++;
    text_fmt(patch, sizeof(patch),
             "{\"kind\":\"%s\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"%s\","
             "\"uid\":\"u%llu\","
             "\"creationTimestamp\":\"2026-01-%02lluT%02llu:%02llu:%02lluZ\"}}",
             kind, name, namespace, (unsigned long long)++fake.uids, 1 + second / 86400,
             second / 3600 % 24, second / 60 % 60, second % 60);
    char *bare = fake_merged("{}", text); /* without nulls */
    fake_store(i, fake_merged(bare, patch));
    free(bare);
    return i;
}

void fake_delete(struct item *i)
{
    if (fake_says(i->text, "metadata.finalizers", "")) {
        fake_remove(i);
    } else {
        fake_store(i, fake_merged(i->text, "{\"metadata\":{\"deletionTimestamp\":\"2026-02-01T00:"
                                           "00:00Z\"}}"));
    }
}

void fake_put(const char *kind, const char *namespace, const char *name, const char *patch)
{
    struct object o = object_of(patch);
    struct item *i = fake_find(kind, namespace, name);
    if (i) {
        fake_store(i, fake_merged(i->text, o.text));
    } else {
        fake_create(kind, namespace, name, o.text);
    }
    object_free(&o);
}

void fake_drop(const char *kind, const char *namespace, const char *name)
{
    struct item *i = fake_find(kind, namespace, name);
    assert_non_null(i);
    fake_delete(i);
}

void fake_relist(const char *kind)
{
    LIST_EACH (it, &fake.watches) {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        if (strcmp(w->kind->kind, kind) == 0) {
            w->list_due = true;
            w->broken = false;
            fake_forget(w);
        }
    }
}

void fake_set_presence(const char *kind, enum cluster_presence presence)
{
    fake_kind(kind)->presence = presence;
    fake_relist(kind);
}

/* ---- watches ---- */

static size_t client_of(const struct cluster *cluster)
{
    assert_in_range(cluster - fake.faces, 0, FAKE_CLIENTS - 1);
    return (size_t)(cluster - fake.faces);
}

static char *fake_copy(const char *s)
{
    return s ? mem_strdup(s) : NULL;
}

static struct cluster_watch *fake_watch(struct cluster *cluster,
                                        const struct cluster_selection *selection,
                                        struct cluster_watch_handler handler)
{
    struct cluster_watch *w = mem_zalloc(sizeof(*w));
    w->client = client_of(cluster);
    w->kind = selection->kind;
    w->namespace = fake_copy(selection->namespace);
    w->name = fake_copy(selection->name);
    w->labels = fake_copy(selection->labels);
    w->handler = handler;
    w->list_due = true;
    list_init(&w->tidings);
    list_append(&fake.watches, &w->link);
    return w;
}

static void fake_unwatch(struct cluster *cluster, struct cluster_watch *w)
{
    if (w) {
        assert_int_equal(w->client, client_of(cluster));
        fake_forget(w);
        list_remove(&w->link);
        free(w->namespace);
        free(w->name);
        free(w->labels);
        free(w);
    }
}

static bool fake_has_news(const struct cluster_watch *w)
{
    const struct kind_state *kind = fake_kind(w->kind->kind);
    return !kind->mute && !kind->deaf[w->client] && !(kind->cut && w->broken) &&
           (w->list_due || !list_empty(&w->tidings));
}

static void fake_list(struct cluster_watch *w)
{
    const struct kind_state *kind = fake_kind(w->kind->kind);
    enum cluster_presence presence = kind->presence;
    struct cluster_watch_handler handler = w->handler;
    w->list_due = false;
    fake_forget(w);
    handler.listing(handler.arg);
    LIST_EACH (it, &fake.items) {
        struct item *i = container_of(it, struct item, link);
        if (presence == CLUSTER_PRESENT && !kind->empty && fake_selects(w, i, i->text)) {
            struct json *doc = json_parse(str_of(i->text), NULL);
            handler.object(json_root(doc), handler.arg);
            json_free(doc);
        }
    }
    if (kind->cut) {
        w->list_due = w->broken = true;
    } else {
        if (presence != CLUSTER_PRESENT && handler.refused) {
            handler.refused("the test refuses it", handler.arg);
        }
        handler.listed(presence, handler.arg);
    }
}

static void fake_tell_next(struct cluster_watch *w)
{
    if (w->list_due) {
        fake_list(w);
        return;
    }
    struct tiding *t = container_of(w->tidings.next, struct tiding, link);
    struct json *doc = json_parse(str_of(t->text), NULL);
    list_remove(&t->link);
    (t->gone ? w->handler.gone : w->handler.object)(json_root(doc), w->handler.arg);
    json_free(doc);
    free(t->text);
    free(t);
}

/* ---- calls ---- */

static const char *fake_verb(enum cluster_verb verb)
{
    static const char *const names[] = {"get", "create", "apply", "status", "delete"};
    return names[verb];
}

/* Writes a line of the journal: the verb and the object; for a status and an Event also the
 * reason. */
static void fake_record(const struct cluster_call *call)
{
    char reason[100] = "";
    struct json *doc = json_parse(str_of(call->body), NULL);
    struct json_value root = json_root(doc), v = json_get(root, "reason");
    struct json_value conditions = json_get(json_get(root, "status"), "conditions");
    for (struct json_value c = json_first(conditions); json_exists(c); c = json_next(c)) {
        v = json_get(c, "reason");
    }
    if (json_exists(v)) {
        text_fmt(reason, sizeof(reason), " %.*s", (int)json_text(v).n - 2, json_text(v).p + 1);
    }
    bool event = strcmp(call->kind->kind, "Event") == 0;
    int rc = buf_fmt(&fake.journal, "%s %s %s/%s%s\n", fake_verb(call->verb), call->kind->kind,
                     call->namespace, event ? "" : call->name, reason);
    assert_int_equal(rc, OK);
    json_free(doc);
    fake.calls_made[call->verb]++;
}

static struct cluster_call *fake_call(struct cluster *cluster,
                                      const struct cluster_request *request,
                                      struct cluster_handler handler)
{
    struct cluster_call *call = mem_zalloc(sizeof(*call));
    call->client = client_of(cluster);
    call->kind = request->kind;
    call->verb = request->verb;
    call->namespace = mem_strdup(request->namespace ? request->namespace : "");
    call->name = mem_strdup(request->name);
    call->uid = mem_strdup(request->uid ? request->uid : "");
    call->body = request->body.n ? mem_strndup(request->body.p, request->body.n) : mem_strdup("{}");
    call->handler = handler;
    if (fake.called) {
        fake.called(call);
    }
    fake_record(call);
    fake.waiting++;
    fake.most_waiting = fake.waiting > fake.most_waiting ? fake.waiting : fake.most_waiting;
    list_append(&fake.calls, &call->link);
    return call;
}

static void fake_free_call(struct cluster_call *call)
{
    list_remove(&call->link);
    fake.waiting--;
    free(call->namespace);
    free(call->name);
    free(call->uid);
    free(call->body);
    free(call->object);
    free(call);
}

/* Returns the object with this status. The conditions then count as ours. */
static char *fake_with_status(const struct cluster_call *call, const char *text)
{
    char owner[256];
    text_fmt(owner, sizeof(owner),
             "{\"metadata\":{\"managedFields\":[{\"manager\":\"%s\","
             "\"fieldsV1\":{\"f:status\":{\"f:conditions\":{}}}}]}}",
             fake.faces[call->client].writer);
    char *merged = fake_merged(text, call->body);
    char *owned = fake_merged(merged, owner);
    free(merged);
    return owned;
}

/* Returns the object with the name of its writer, as the API server records it. Takes ownership of
 * `text`. */
static char *fake_signed(const struct cluster_call *call, char *text)
{
    char manager[256];
    text_fmt(manager, sizeof(manager), "{\"metadata\":{\"managedFields\":[{\"manager\":\"%s\"}]}}",
             fake.faces[call->client].writer);
    char *done = fake_merged(text, manager);
    free(text);
    return done;
}

/* Returns whether the object has the value of this member that the body gives, if it gives one. */
static bool fake_is_meant(const struct cluster_call *call, const struct item *i, const char *member)
{
    char *named = fake_get(call->body, member);
    bool meant = !named[0] || fake_says(i->text, member, named);
    free(named);
    return meant;
}

static enum cluster_result fake_change(const struct cluster_call *call, struct item *i)
{
    if ((call->verb == CLUSTER_DELETE && !fake_says(i->text, "metadata.uid", call->uid)) ||
        !fake_is_meant(call, i, "metadata.uid") ||
        !fake_is_meant(call, i, "metadata.resourceVersion")) {
        return CLUSTER_CONFLICT;
    }
    if (call->verb == CLUSTER_DELETE) {
        fake_delete(i);
        fake.changes++;
    } else if (call->verb == CLUSTER_APPLY) {
        fake.changes +=
            fake_store(i, fake_signed(call, fake_pruned(fake_merged(i->text, call->body))));
    } else if (call->verb == CLUSTER_PATCH_STATUS) {
        fake.changes += fake_store(i, fake_pruned(fake_with_status(call, i->text)));
    }
    return CLUSTER_DONE;
}

static enum cluster_result fake_carry_out(struct cluster_call *call)
{
    const char *kind = call->kind->kind;
    enum cluster_result result = fake.fate ? fake.fate(call) : CLUSTER_DONE;
    struct item *i = fake_find(kind, call->namespace, call->name);
    if (result != CLUSTER_DONE) {
        return result;
    }
    if (fake_kind(kind)->presence == CLUSTER_UNKNOWN) {
        return CLUSTER_ABSENT;
    }
    if (strcmp(kind, "Event") == 0) {
        return CLUSTER_DONE; /* no test reads them from the store */
    }
    if (call->verb == CLUSTER_CREATE) {
        if (i) {
            return CLUSTER_EXISTS;
        }
        char *text = fake_signed(call, fake_pruned(mem_strdup(call->body)));
        i = fake_create(kind, call->namespace, call->name, text);
        free(text);
        fake.changes++;
    } else if (!i) {
        return CLUSTER_ABSENT;
    } else {
        result = fake_change(call, i);
        i = fake_find(kind, call->namespace, call->name); /* NULL: it was deleted */
    }
    if (result == CLUSTER_DONE && i) {
        call->object = mem_strdup(i->text);
    }
    return result;
}

static void fake_cancel(struct cluster *cluster, struct cluster_call *call)
{
    if (!call) {
        return;
    }
    assert_int_equal(call->client, client_of(cluster));
    if (!call->carried_out && fake.late_cancels) {
        call->handler.done = NULL;
        return;
    }
    if (!call->carried_out && fake.reached && fake.reached(call)) {
        fake_carry_out(call);
    }
    fake_free_call(call);
}

static void fake_answer(struct cluster_call *call)
{
    struct cluster_handler handler = call->handler;
    struct cluster_answer answer = {.result = call->result};
    char *object = call->object;
    struct json *doc = NULL;
    if (answer.result == CLUSTER_DONE && fake.loses && fake.loses(call)) {
        answer.result = CLUSTER_LATER;
    }
    if (answer.result == CLUSTER_DONE) {
        doc = object ? json_parse(str_of(object), NULL) : NULL;
        answer.object = doc ? json_root(doc) : (struct json_value){0};
    } else {
        error_set(&answer.err, fake.fail ? fake.fail : FAIL_REMOTE, "%s %s %s: result %d",
                  fake_verb(call->verb), call->kind->kind, call->name, answer.result);
    }
    call->object = NULL;
    fake_free_call(call);
    handler.done(&answer, handler.arg);
    json_free(doc);
    free(object);
}

/* ---- progress ---- */

/* Carries out a call, or answers it. */
static void fake_advance(struct cluster_call *call)
{
    if (!call->carried_out) {
        call->carried_out = true;
        call->result = fake_carry_out(call);
        if (!call->handler.done) {
            fake_free_call(call);
        }
    } else {
        fake_answer(call);
    }
}

static bool fake_sleeps(size_t client)
{
    return fake.sleeps && fake.sleeps(client);
}

static bool fake_pick_watch(size_t *n)
{
    LIST_EACH (it, &fake.watches) {
        struct cluster_watch *w = container_of(it, struct cluster_watch, link);
        if (fake_has_news(w) && !fake_sleeps(w->client) && (*n)-- == 0) {
            fake_tell_next(w);
            return true;
        }
    }
    return false;
}

static bool fake_pick_call(size_t *n)
{
    LIST_EACH (it, &fake.calls) {
        struct cluster_call *call = container_of(it, struct cluster_call, link);
        bool asleep = call->carried_out && fake_sleeps(call->client);
        if (!asleep && !(fake.holds && fake.holds(call)) && (*n)-- == 0) {
            fake_advance(call);
            return true;
        }
    }
    return false;
}

bool fake_pick(size_t n)
{
    if (fake.answers_first) {
        return fake_pick_call(&n) || fake_pick_watch(&n);
    }
    return fake_pick_watch(&n) || fake_pick_call(&n);
}

size_t fake_choices(void)
{
    size_t n = 0;
    LIST_EACH (it, &fake.watches) {
        n += fake_has_news(container_of(it, struct cluster_watch, link));
    }
    return n + fake.waiting;
}

bool fake_serves(size_t client)
{
    LIST_EACH (it, &fake.watches) {
        if (container_of(it, struct cluster_watch, link)->client == client) {
            return true;
        }
    }
    LIST_EACH (it, &fake.calls) {
        if (container_of(it, struct cluster_call, link)->client == client) {
            return true;
        }
    }
    return false;
}

void fake_start(void)
{
    fake = (struct fake){0};
    for (size_t i = 0; i < FAKE_CLIENTS; i++) {
        fake.faces[i] = (struct cluster){
            .watch = fake_watch, .unwatch = fake_unwatch, .call = fake_call, .cancel = fake_cancel};
    }
    list_init(&fake.items);
    list_init(&fake.watches);
    list_init(&fake.calls);
    map_init(&fake.by_key);
    buf_init(&fake.journal, SIZE_MAX);
}

void fake_stop(void)
{
    LIST_EACH (it, &fake.calls) {
        struct cluster_call *call = container_of(it, struct cluster_call, link);
        if (!call->handler.done) {
            fake_free_call(call);
        }
    }
    assert_true(list_empty(&fake.watches) && list_empty(&fake.calls));
    LIST_EACH (it, &fake.items) {
        fake_remove(container_of(it, struct item, link));
    }
    map_free(&fake.by_key);
    buf_free(&fake.journal);
}
