/* Follows the TransparentProxy objects and writes their status.
 *
 *   watch --> store --> changed --> write --> due? --> patch --> done: the watch reports it
 *                          ^                    |        |
 *                          |                    |        |-- conflict --> read again --.
 *                          |                    v        v                             |
 *                          |<---------------- timer <-- failed                         |
 *                          '-----------------------------------------------------------' */
#include "configuration/proxy_objects.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "cluster/follower.h"
#include "cluster/kinds.h"
#include "configuration/config.h"
#include "configuration/proxy_status.h"
#include "lib/backoff.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/stamp.h"

/* The delay before a status that was not stored is written again. */
#define RETRY_FIRST SECONDS(5)
#define RETRY_MOST SECONDS(60)

enum { STATUS_MAX = 256 * 1024 };

struct proxy_objects {
    struct loop *loop;
    struct cluster *cluster;
    const char *home;
    struct proxy_objects_handler handler;
    struct follower follower;
    struct store all; /* struct proxy_object */

    struct cluster_call *call; /* writes a status or reads its object again; NULL: none */
    char *written;             /* the name of that object */
    bool conflicted;           /* the object was newer than the last status */
    bool again;                /* there is more to write after the call */
    unsigned failures;         /* in a row */
    struct timer retry;
};

/* ---- the objects ---- */

static struct proxy_object *object_of(struct stored *stored)
{
    return container_of(stored, struct proxy_object, stored);
}

static void release_object(struct stored *stored)
{
    struct proxy_object *p = object_of(stored);
    free(p->created);
    free(p->uid);
    free(p->text);
}

static void tell_changed(struct proxy_objects *o)
{
    o->handler.changed(o->handler.arg);
}

/* Returns a member of the metadata; "": there is none. The caller frees the text. */
static char *text_of(struct json_value metadata, const char *member)
{
    char *text = json_strdup(json_get(metadata, member), NULL);
    return text ? text : mem_strdup("");
}

static void on_object(struct json_value object, struct stored *stored, void *arg)
{
    struct proxy_object *p = object_of(stored);
    struct json_value metadata = json_get(object, "metadata");
    struct str text = json_text(object);
    release_object(stored);
    p->deleting = json_given(json_get(metadata, "deletionTimestamp"));
    p->created = text_of(metadata, "creationTimestamp");
    p->uid = text_of(metadata, "uid");
    p->text = mem_strndup(text.p, text.n);
    tell_changed(arg);
}

static void on_gone(struct json_value object, void *arg)
{
    (void)object;
    tell_changed(arg);
}

static void on_listed(bool complete, void *arg)
{
    struct proxy_objects *o = arg;
    (void)complete;
    tell_changed(o);
    o->handler.listed(o->handler.arg);
}

bool proxy_objects_listed(const struct proxy_objects *o)
{
    return o->follower.listed;
}

bool proxy_objects_known(const struct proxy_objects *o)
{
    return o->follower.known;
}

bool proxy_objects_away(const struct proxy_objects *o)
{
    return o->follower.presence != CLUSTER_PRESENT;
}

const struct proxy_object *proxy_objects_oldest(const struct proxy_objects *o)
{
    const struct proxy_object *oldest = NULL;
    LIST_EACH (it, &o->all.all) {
        const struct proxy_object *p = container_of(it, struct proxy_object, stored.link);
        int order = oldest ? strcmp(p->created, oldest->created) : -1;
        if (order < 0 || (order == 0 && strcmp(p->stored.name, oldest->stored.name) < 0)) {
            oldest = p;
        }
    }
    return oldest;
}

const char *proxy_objects_uid(const struct proxy_objects *o, const char *name)
{
    struct stored *stored = store_find(&o->all, name);
    return stored ? object_of(stored)->uid : "";
}

/* ---- their status ---- */

static void on_retry(struct timer *t)
{
    t->due = 0;
    tell_changed(container_of(t, struct proxy_objects, retry));
}

static void retry_at(struct proxy_objects *o, int64_t due)
{
    if (!o->retry.due || due < o->retry.due) {
        timer_set(o->loop, &o->retry, due, on_retry);
    }
}

static void retry_later(struct proxy_objects *o)
{
    retry_at(o, loop_now(o->loop) + backoff_delay(o->failures++, RETRY_FIRST, RETRY_MOST, 10));
}

static void call(struct proxy_objects *o, enum cluster_verb verb, struct str body,
                 void (*done)(const struct cluster_answer *answer, void *arg))
{
    struct cluster_request request = {
        .verb = verb, .kind = &kind_proxy, .namespace = o->home, .name = o->written, .body = body};
    o->call = cluster_call(o->cluster, &request, (struct cluster_handler){.done = done, .arg = o});
}

/* Others have changed the object: its status is written again, at once only the first time. */
static void on_reread(const struct cluster_answer *answer, void *arg)
{
    struct proxy_objects *o = arg;
    o->call = NULL;
    if (answer->result == CLUSTER_DONE) {
        follower_take(&o->follower, answer->object);
    }
    if (answer->result == CLUSTER_DONE && !o->conflicted) {
        tell_changed(o);
    } else {
        retry_later(o);
    }
    o->conflicted = true;
}

/* The watch reports the object with this status afterwards, which ends the matter. */
static void on_written(const struct cluster_answer *answer, void *arg)
{
    struct proxy_objects *o = arg;
    struct stored *stored = store_find(&o->all, o->written);
    o->call = NULL;
    if (answer->result != CLUSTER_DONE && stored) {
        repairs_failed(&object_of(stored)->repairs, loop_now(o->loop));
    }
    if (answer->result == CLUSTER_CONFLICT) {
        call(o, CLUSTER_GET, (struct str){0}, on_reread);
    } else if (answer->result != CLUSTER_DONE) {
        log_line(LOG_WARN, "control", "%s", answer->err.text);
        retry_later(o);
    } else {
        o->conflicted = false;
        o->failures = 0;
        follower_take(&o->follower, answer->object); /* the next status is made from it */
        if (o->again) {
            tell_changed(o);
        }
    }
}

static void report_contest(struct proxy_objects *o)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "The status of the TransparentProxy object \"%s\" does not stay as it is written: "
             "somebody else changes it again and again, or the API server stores something else. "
             "It is written again less and less often; see who writes it in its "
             "metadata.managedFields",
             o->written);
    log_line(LOG_WARN, "control", "%s", text);
    o->handler.tell("StatusContested", text, o->handler.arg);
}

static void patch(struct proxy_objects *o, struct proxy_object *p, struct str body, uint64_t wish)
{
    int64_t now = loop_now(o->loop);
    if (repairs_due(&p->repairs, wish) > now) {
        retry_at(o, p->repairs.due);
        return;
    }
    free(o->written);
    o->written = mem_strdup(p->stored.name);
    if (repairs_note(&p->repairs, wish, now)) {
        report_contest(o);
    }
    call(o, CLUSTER_PATCH_STATUS, body, on_written);
}

/* What the status of an object is made of. */
struct ingredients {
    const char *first;                 /* the name of the oldest object; NULL: this is the one */
    const struct proxy_status *status; /* of the oldest object */
    bool processing, deleting;
};

/* Appends the status of an object. Returns AGAIN when `object`, its text, shows that status, or
 * when it is not known. */
static int put_status(const struct ingredients *in, struct json_value object, struct buf *out,
                      const char *now)
{
    if (in->first) {
        return proxy_status_put_other(out, in->first, in->deleting, object, now);
    }
    if (in->processing) {
        return config_status_processing(out, object);
    }
    return in->status->known ? proxy_status_put(out, in->status, in->deleting, object, now) : AGAIN;
}

static void write_status(struct proxy_objects *o, struct proxy_object *p, const char *first,
                         const struct proxy_status *status)
{
    struct json_value nothing = {0};
    struct buf body, bare; /* bare: regardless of what the object shows, and without times, but
                              another text for another spec */
    struct json *doc = json_parse_cut(str_of(p->text), NULL);
    char now[STAMP_SIZE];
    bool processing = !p->deleting && proxy_status_is_processing(status, json_root(doc));
    struct ingredients in = {
        .first = first, .status = status, .processing = processing, .deleting = p->deleting};
    struct str generation = json_text(json_get(json_get(json_root(doc), "metadata"), "generation"));
    stamp_now(now);
    buf_init(&body, STATUS_MAX);
    buf_init(&bare, STATUS_MAX);
    int rc = put_status(&in, json_root(doc), &body, now);
    rc = rc == OK ? put_status(&in, nothing, &bare, "") : rc;
    rc = rc == OK ? buf_add(&bare, generation.p, generation.n) : rc;
    json_free(doc);
    if (rc == OK) {
        patch(o, p, buf_str(&body), repairs_digest(buf_str(&bare)));
    }
    buf_free(&body);
    buf_free(&bare);
}

void proxy_objects_write(struct proxy_objects *o, const struct proxy_status *status)
{
    const struct proxy_object *first = proxy_objects_oldest(o);
    o->again = o->call != NULL;
    LIST_EACH (it, &o->all.all) {
        struct proxy_object *p = container_of(it, struct proxy_object, stored.link);
        if (!o->call) {
            write_status(o, p, p == first ? NULL : first->stored.name, status);
        }
    }
}

/* ---- life ---- */

struct proxy_objects *proxy_objects_new(struct loop *loop, struct cluster *cluster,
                                        const char *home, struct proxy_objects_handler handler)
{
    struct proxy_objects *o = mem_zalloc(sizeof(*o));
    struct cluster_selection selection = {.kind = &kind_proxy, .namespace = home};
    struct follower_settings settings = {.name = "TransparentProxy objects",
                                         .store = &o->all,
                                         .there = on_object,
                                         .gone = on_gone,
                                         .listed = on_listed,
                                         .arg = o};
    o->loop = loop;
    o->cluster = cluster;
    o->home = home;
    o->handler = handler;
    store_init(&o->all, sizeof(struct proxy_object), release_object);
    follower_start(&o->follower, cluster, &selection, &settings);
    return o;
}

void proxy_objects_give_up(struct proxy_objects *o)
{
    timer_cancel(o->loop, &o->retry);
    o->retry.due = 0;
    cluster_cancel(o->cluster, o->call);
    o->call = NULL;
    o->again = o->conflicted = false;
    o->failures = 0;
    LIST_EACH (it, &o->all.all) {
        repairs_forget(&container_of(it, struct proxy_object, stored.link)->repairs);
    }
}

void proxy_objects_stop(struct proxy_objects *o)
{
    follower_stop(&o->follower);
    proxy_objects_give_up(o);
}

void proxy_objects_free(struct proxy_objects *o)
{
    store_clear(&o->all);
    free(o->written);
    free(o);
}
