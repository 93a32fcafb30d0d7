/* Events about CRs. They are bounded: there is room for a number of them, for each CR and for each
 * namespace, and a repeat does not make a new object. It raises the number in the earlier Event,
 * whose name is remembered for the last few Events of each CR. */
#include "controller/events.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/kinds.h"
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
 * Events. */
static bool may_tell(struct resource *r)
{
    int64_t now = resource_now(r), *of_one = &r->events_full, *of_space = &r->space->events_full;
    if (!has_room(*of_one, now, EVENT_INTERVAL_OF_ONE, EVENTS_OF_ONE) ||
        !has_room(*of_space, now, EVENT_INTERVAL_OF_SPACE, EVENTS_OF_SPACE)) {
        r->controller->stats.events_left_out++;
        return false;
    }
    take_room(of_one, now, EVENT_INTERVAL_OF_ONE);
    take_room(of_space, now, EVENT_INTERVAL_OF_SPACE);
    return true;
}

/* ---- repeats ---- */

static const char *event_name(char out[EVENT_NAME_SIZE], const struct resource *r, uint64_t id)
{
    text_fmt(out, EVENT_NAME_SIZE, "%.230s.%016llx", r->name, (unsigned long long)id);
    return out;
}

/* A CR that was deleted and created again has another uid, and Events of its own. */
static uint64_t digest_of(const struct resource *r, const char *reason, const char *note)
{
    unsigned char digest[DIGEST_SHA256_SIZE];
    uint64_t first;
    const char *uid = r->cr.name ? r->cr.uid : "";
    const struct str parts[] = {
        {uid, strlen(uid) + 1}, {reason, strlen(reason) + 1}, {note, strlen(note)}};
    digest_sha256(digest, parts, ARRAY_LEN(parts));
    memcpy(&first, digest, sizeof(first));
    return first;
}

/* Returns what is remembered of the Event that a repeat continues, or NULL. */
static struct told_event *find_told(struct resource *r, uint64_t digest)
{
    int64_t now = resource_now(r);
    for (size_t i = 0; i < ARRAY_LEN(r->told); i++) {
        struct told_event *told = &r->told[i];
        if (told->count && told->digest == digest && now < told->last + SERIES_WITHIN) {
            return told;
        }
    }
    return NULL;
}

/* Remembers a new Event in place of an earlier one that says the same, or of the oldest one. */
static void remember(struct resource *r, uint64_t digest, uint64_t id)
{
    struct told_event *place = find_told(r, digest);
    if (!place) {
        place = &r->told[0];
        for (size_t i = 1; i < ARRAY_LEN(r->told); i++) {
            place = r->told[i].last < place->last ? &r->told[i] : place;
        }
    }
    *place = (struct told_event){.digest = digest, .id = id, .last = resource_now(r), .count = 1};
}

/* ---- requests ---- */

static void call_event(struct resource *r, enum cluster_verb verb, uint64_t id, struct str body,
                       void (*done)(struct resource *r, const struct cluster_answer *answer))
{
    char name[EVENT_NAME_SIZE];
    struct cluster_request request = {.verb = verb,
                                      .kind = &kind_event,
                                      .namespace = r->namespace,
                                      .name = event_name(name, r, id),
                                      .body = body};
    resource_call(r, OPERATION_EVENT, &request, done);
}

static void create_event(struct resource *r, uint64_t digest, uint64_t id, struct str body)
{
    remember(r, digest, id);
    call_event(r, CLUSTER_CREATE, id, body, NULL); /* nothing depends on an Event */
}

/* The earlier Event may have been deleted, and an older Role lacks the right to change Events: then
 * the repeat is an Event of its own. */
static void on_continued(struct resource *r, const struct cluster_answer *answer)
{
    struct controller *c = r->controller;
    struct spare_event *spare = r->spare_event;
    r->spare_event = NULL;
    if (answer->result == CLUSTER_REFUSED) {
        c->series_due = resource_now(r) + SERIES_PAUSE;
        log_line(LOG_INFO, "control", "%s: %s; a repeated Event becomes a new one for a while",
                 r->key, answer->err.text);
    }
    if (answer->result != CLUSTER_DONE && answer->result != CLUSTER_LATER) {
        create_event(r, spare->digest, spare->id, str_of(spare->body));
    }
    free(spare);
}

/* Raises the number in the earlier Event. `spare` is the Event to create if that fails. */
static void continue_event(struct resource *r, const struct told_event *told, uint64_t spare_id,
                           struct str spare)
{
    struct buf body;
    char now[STAMP_SIZE];
    stamp_now_exactly(now);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_event_series(&body, told->count, now);
    assert(rc == OK);
    free(r->spare_event); /* of a call that was cancelled */
    r->spare_event = mem_alloc(sizeof(*r->spare_event) + spare.n + 1);
    *r->spare_event = (struct spare_event){.digest = told->digest, .id = spare_id};
    memcpy(r->spare_event->body, spare.p, spare.n);
    r->spare_event->body[spare.n] = '\0';
    call_event(r, CLUSTER_APPLY, told->id, buf_str(&body), on_continued);
    buf_free(&body);
}

void resource_post_event(struct resource *r, bool warning, const char *reason, const char *note)
{
    struct controller *c = r->controller;
    struct cr unseen = {.namespace = r->namespace, .name = r->name, .uid = ""};
    uint64_t digest = digest_of(r, reason, note), id;
    struct told_event *told = find_told(r, digest);
    struct buf body;
    char now[STAMP_SIZE], name[EVENT_NAME_SIZE];
    if (told) { /* a repeat for which there is no room counts, too */
        told->count++;
        told->last = resource_now(r);
    }
    if (!may_tell(r)) {
        return;
    }
    sys->random(&id, sizeof(id));
    stamp_now_exactly(now);
    buf_init(&body, PLAN_OBJECT_MAX);
    int rc = plan_event(&body, r->cr.name ? &r->cr : &unseen, event_name(name, r, id),
                        c->settings.instance, warning, reason, note, now);
    assert(rc == OK);
    if (told && resource_now(r) >= c->series_due) {
        continue_event(r, told, id, buf_str(&body));
    } else {
        create_event(r, digest, id, buf_str(&body));
    }
    buf_free(&body);
}

void resource_send_event(struct resource *r, const struct condition *condition)
{
    r->last_event_reason = condition->reason;
    resource_post_event(r, !condition->available, condition->reason, condition->message);
}
