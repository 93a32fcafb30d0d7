/* Events about CRs and about the TransparentProxy object. They are bounded: there is room for a
 * number of them, for each CR and for each namespace, and a repeat does not make a new object. It
 * raises the number in the earlier Event, whose name is remembered for the last few Events about
 * each object. */
#include "controller/events.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
#include "configuration/configuration.h"
#include "controller/plan.h"
#include "controller/queue.h"
#include "lib/digest.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "lib/stamp.h"
#include "lib/sys.h"
#include "lib/text.h"

/* Events about one resource, and about all resources of one namespace: EVENTS_... at once, then one
 * in each interval. */
#define EVENT_INTERVAL_OF_ONE SECONDS(60)
#define EVENT_INTERVAL_OF_SPACE SECONDS(1)
enum { EVENTS_OF_ONE = 10, EVENTS_OF_SPACE = 1000 };

/* A repeat within this time continues the Event, as with client-go. */
#define SERIES_WITHIN SECONDS(6 * 60)

/* When the API server has refused to continue an Event, none is continued for this time. */
#define SERIES_PAUSE SECONDS(10 * 60)

enum { EVENT_NAME_SIZE = 320 };

struct new_event {
    uint64_t digest, id; /* as in struct told_event */
    char name[EVENT_NAME_SIZE];
    char body[];
};

/* The object that Events are about. */
struct subject {
    struct controller *controller;
    struct resource *resource; /* NULL: it is the TransparentProxy object */
    struct told_events *told;
    const char *namespace, *name, *uid;
};

static struct subject about_resource(struct resource *r)
{
    return (struct subject){.controller = r->controller,
                            .resource = r,
                            .told = &r->told,
                            .namespace = r->namespace,
                            .name = r->name,
                            .uid = r->cr.name ? r->cr.uid : ""};
}

static struct subject about_configuration(struct controller *c)
{
    const char *object = configuration_object(c->configuration);
    return (struct subject){.controller = c,
                            .told = &c->told,
                            .namespace = c->settings.home,
                            .name = object ? object : "transparent-proxy",
                            .uid = configuration_object_uid(c->configuration)};
}

static int64_t now_of(const struct subject *s)
{
    return loop_now(s->controller->loop);
}

/* ---- room ---- */

/* Tells whether there is room for one more Event. `full` is the time at which there will be room
 * for `most` of them again. */
static bool has_room(int64_t full, int64_t now, int64_t interval, int most)
{
    return full < now + most * interval;
}

static void take_room(int64_t *full, int64_t now, int64_t interval)
{
    *full = (*full > now ? *full : now) + interval;
}

/* A user whose resources change again and again must not fill the storage of the API server with
 * Events. About the TransparentProxy object there is one call at a time. */
static bool may_tell(const struct subject *s)
{
    struct resource *r = s->resource;
    if (!r) {
        return !s->controller->event;
    }
    int64_t now = now_of(s), *of_one = &r->events_full, *of_space = &r->space->events_full;
    if (!has_room(*of_one, now, EVENT_INTERVAL_OF_ONE, EVENTS_OF_ONE) ||
        !has_room(*of_space, now, EVENT_INTERVAL_OF_SPACE, EVENTS_OF_SPACE)) {
        s->controller->stats.events_left_out++;
        return false;
    }
    take_room(of_one, now, EVENT_INTERVAL_OF_ONE);
    take_room(of_space, now, EVENT_INTERVAL_OF_SPACE);
    return true;
}

/* ---- repeats ---- */

static void set_name(char out[EVENT_NAME_SIZE], const struct subject *s, uint64_t id)
{
    text_fmt(out, EVENT_NAME_SIZE, "%.230s.%016llx", s->name, (unsigned long long)id);
}

/* An object that was deleted and created again has another uid, and Events of its own. */
static uint64_t digest_of(const struct subject *s, const char *reason, const char *note)
{
    unsigned char digest[DIGEST_SHA256_SIZE];
    uint64_t first;
    const struct str parts[] = {{s->name, strlen(s->name) + 1},
                                {s->uid, strlen(s->uid) + 1},
                                {reason, strlen(reason) + 1},
                                {note, strlen(note)}};
    digest_sha256(digest, parts, ARRAY_LEN(parts));
    memcpy(&first, digest, sizeof(first));
    return first;
}

/* Returns what is remembered of the Event that a repeat continues, or NULL. */
static struct told_event *find_told(const struct subject *s, uint64_t digest)
{
    for (size_t i = 0; i < ARRAY_LEN(s->told->last); i++) {
        struct told_event *told = &s->told->last[i];
        if (told->count && told->digest == digest && now_of(s) < told->time + SERIES_WITHIN) {
            return told;
        }
    }
    return NULL;
}

/* Remembers a new Event in place of an earlier one that says the same, or of the oldest one. */
static void remember(const struct subject *s, uint64_t digest, uint64_t id)
{
    struct told_event *place = find_told(s, digest), *last = s->told->last;
    if (!place) {
        place = &last[0];
        for (size_t i = 1; i < ARRAY_LEN(s->told->last); i++) {
            place = last[i].time < place->time ? &last[i] : place;
        }
    }
    *place = (struct told_event){.digest = digest, .id = id, .time = now_of(s), .count = 1};
}

/* ---- requests ---- */

/* The functions that take the answer in: about a CR, or about the TransparentProxy object. */
struct done {
    void (*resource)(struct resource *r, const struct cluster_answer *answer);
    void (*configuration)(const struct cluster_answer *answer, void *arg);
};

static void call_event(const struct subject *s, enum cluster_verb verb, const char *name,
                       struct str body, struct done done)
{
    struct controller *c = s->controller;
    struct cluster_request request = {
        .verb = verb, .kind = &kind_event, .namespace = s->namespace, .name = name, .body = body};
    if (s->resource) {
        resource_call(s->resource, OPERATION_EVENT, &request, done.resource);
    } else {
        struct cluster_handler handler = {.done = done.configuration, .arg = c};
        c->event = cluster_call(c->parts.cluster, &request, handler);
    }
}

/* Nothing depends on an Event. */
static void on_created(const struct cluster_answer *answer, void *arg)
{
    struct controller *c = arg;
    (void)answer;
    c->event = NULL;
}

static void create_event(const struct subject *s, const struct new_event *event)
{
    remember(s, event->digest, event->id);
    call_event(s, CLUSTER_CREATE, event->name, str_of(event->body),
               (struct done){.configuration = on_created});
}

/* The earlier Event may have been deleted, and an older Role lacks the right to change Events: then
 * the repeat is an Event of its own. */
static void on_continued(const struct subject *s, const struct cluster_answer *answer)
{
    struct new_event *spare = s->told->spare;
    s->told->spare = NULL;
    if (answer->result == CLUSTER_REFUSED) {
        s->controller->series_due = now_of(s) + SERIES_PAUSE;
        log_line(LOG_INFO, "control", "%s/%s: %s; a repeated Event becomes a new one for a while",
                 s->namespace, s->name, answer->err.text);
    }
    if (answer->result != CLUSTER_DONE && answer->result != CLUSTER_LATER) {
        create_event(s, spare);
    }
    free(spare);
}

static void on_resource_continued(struct resource *r, const struct cluster_answer *answer)
{
    struct subject s = about_resource(r);
    on_continued(&s, answer);
}

static void on_configuration_continued(const struct cluster_answer *answer, void *arg)
{
    struct controller *c = arg;
    struct subject s = about_configuration(c);
    c->event = NULL;
    on_continued(&s, answer);
}

/* Raises the number in the earlier Event. `spare` is the Event to create if that fails. */
static void continue_event(const struct subject *s, const struct told_event *told,
                           struct new_event *spare)
{
    struct buf body;
    char now[STAMP_SIZE], name[EVENT_NAME_SIZE];
    set_name(name, s, told->id);
    stamp_now_exactly(now);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_event_series(&body, told->count, now);
    assert(rc == OK);
    free(s->told->spare); /* of a call that was cancelled */
    s->told->spare = spare;
    call_event(s, CLUSTER_APPLY, name, buf_str(&body),
               (struct done){on_resource_continued, on_configuration_continued});
    buf_free(&body);
}

static int plan(struct buf *out, const struct subject *s, const char *name, bool warning,
                const char *reason, const char *note)
{
    const char *instance = s->controller->settings.instance;
    struct cr cr = {.namespace = s->namespace, .name = s->name, .uid = s->uid};
    char now[STAMP_SIZE];
    stamp_now_exactly(now);
    return s->resource ? plan_event(out, &cr, name, instance, warning, reason, note, now)
                       : plan_proxy_event(out, s->namespace, s->name, s->uid, name, instance,
                                          reason, note, now);
}

static struct new_event *new_event(const struct subject *s, uint64_t digest, bool warning,
                                   const char *reason, const char *note)
{
    char name[EVENT_NAME_SIZE];
    uint64_t id;
    struct buf body;
    sys->random(&id, sizeof(id));
    set_name(name, s, id);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan(&body, s, name, warning, reason, note);
    assert(rc == OK);
    struct new_event *event = mem_zalloc(sizeof(*event) + buf_len(&body) + 1);
    event->digest = digest;
    event->id = id;
    memcpy(event->name, name, sizeof(name));
    memcpy(event->body, buf_str(&body).p, buf_len(&body));
    buf_free(&body);
    return event;
}

/* ---- the face ---- */

static void post(const struct subject *s, bool warning, const char *reason, const char *note)
{
    uint64_t digest = digest_of(s, reason, note);
    struct told_event *told = find_told(s, digest);
    if (told) { /* a repeat for which there is no room counts, too */
        told->count++;
        told->time = now_of(s);
    }
    if (!may_tell(s)) {
        return;
    }
    struct new_event *event = new_event(s, digest, warning, reason, note);
    if (told && now_of(s) >= s->controller->series_due) {
        continue_event(s, told, event);
    } else {
        create_event(s, event);
        free(event);
    }
}

void resource_post_event(struct resource *r, bool warning, const char *reason, const char *note)
{
    struct subject s = about_resource(r);
    post(&s, warning, reason, note);
}

void resource_send_event(struct resource *r, const struct condition *condition)
{
    r->last_event_reason = condition->reason;
    resource_post_event(r, !condition->available, condition->reason, condition->message);
}

void controller_send_event(struct controller *c, const char *reason, const char *note)
{
    struct subject s = about_configuration(c);
    if (c->leads && c->settings.in_cluster) {
        post(&s, true, reason, note);
    }
}
