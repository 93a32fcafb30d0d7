/* A resource is in one of two queues while it wants to run, woken or waiting, and in a third one
 * while it wants to read. In each, namespaces take turns.
 *
 *   wake --> woken ----.
 *   wait --> waiting --+--> pump --> run(resource) --> one operation --> done --> woken again
 *   wait to read ------'
 *
 * The resource's timer tries a call again that the API server does not answer. */
#include "controller/queue.h"

#include <assert.h>

#include "cluster/cluster.h"
#include "lib/backoff.h"
#include "lib/log.h"

#define RETRY_FIRST SECONDS(1)
#define RETRY_MOST SECONDS(60)

static const char *const operation_names[] = {
    [OPERATION_NONE] = "nothing",     [OPERATION_CREATE] = "creating",
    [OPERATION_LOOK] = "looking at",  [OPERATION_APPLY] = "changing",
    [OPERATION_DELETE] = "deleting",  [OPERATION_CUT] = "cutting off",
    [OPERATION_STATUS] = "status",    [OPERATION_REREAD] = "reading",
    [OPERATION_EVENT] = "event",      [OPERATION_CONFIRM] = "confirming",
    [OPERATION_RECORD] = "recording",
};
static_assert(ARRAY_LEN(operation_names) == OPERATION_RECORD + 1, "every operation has its name");

/* ---- which one is next ---- */

static bool runs_nothing_in(const struct turns_group *waiting)
{
    return container_of(waiting, const struct space, waiting)->running == 0;
}

static bool may_run_in(const struct turns_group *waiting)
{
    return container_of(waiting, const struct space, waiting)->running < RUNNING_OF_SPACE_MAX;
}

static bool may_read_in(const struct turns_group *unread)
{
    return container_of(unread, const struct space, unread)->reading < READING_OF_SPACE_MAX;
}

/* Takes the next resource out of the queues. Woken resources run before waiting ones, so that
 * started work is finished first; but however many are woken, each namespace gets to start
 * something. NULL: none. */
static struct resource *next_due(struct queue *q)
{
    bool may_start = q->running < RUNNING_MAX;
    struct list *it = may_start ? turns_next(&q->waiting, runs_nothing_in) : NULL;
    it = it ? it : turns_next(&q->woken, NULL);
    it = it || !may_start ? it : turns_next(&q->waiting, may_run_in);
    if (it) {
        return container_of(it, struct resource, queued);
    }
    it = q->reading < READING_MAX ? turns_next(&q->unread, may_read_in) : NULL;
    return it ? container_of(it, struct resource, unread) : NULL;
}

/* Works on one resource. The loop decides whether this turn has time for another one: a resource
 * that opens a listener and writes a Service takes a quarter of a millisecond. */
static void pump(struct task *t)
{
    struct controller *c = container_of(t, struct controller, queue.pump);
    struct queue *q = &c->queue;
    struct resource *r = q->may_run(c) ? next_due(q) : NULL;
    if (!r) {
        return;
    }
    q->since = q->since ? q->since : loop_now(c->loop);
    list_remove(&r->queued);
    list_remove(&r->unread);
    queue_resume(c);
    bool waited_to_read = r->operation != OPERATION_NONE; /* the end of the operation wakes it */
    if (!waited_to_read) {
        q->run(r);
    }
}

void queue_init(struct controller *c, bool (*may_run)(const struct controller *controller),
                void (*run)(struct resource *r))
{
    struct queue *q = &c->queue;
    turns_init(&q->woken);
    turns_init(&q->waiting);
    turns_init(&q->unread);
    task_init(&q->pump);
    q->may_run = may_run;
    q->run = run;
}

void queue_resume(struct controller *c)
{
    if (!c->stopped) {
        loop_soon(c->loop, &c->queue.pump, pump);
    }
}

void queue_stop(struct controller *c)
{
    task_cancel(&c->queue.pump);
}

/* ---- waking and waiting ---- */

int64_t resource_now(const struct resource *r)
{
    return loop_now(r->controller->loop);
}

void resource_wake(struct resource *r)
{
    struct controller *c = r->controller;
    if (r->operation != OPERATION_NONE) {
        r->again = true;
    } else if (list_empty(&r->queued)) {
        turns_add(&c->queue.woken, &r->space->woken, &r->queued);
    }
    queue_resume(c);
}

static void on_wake_timer(struct timer *t)
{
    t->due = 0;
    resource_wake(container_of(t, struct resource, timer));
}

void resource_wake_at(struct resource *r, int64_t due)
{
    if (!r->timer.due || due < r->timer.due) {
        timer_set(r->controller->loop, &r->timer, due, on_wake_timer);
    }
}

bool resource_may_run(const struct resource *r)
{
    return r->controller->queue.running < RUNNING_MAX && may_run_in(&r->space->waiting);
}

void resource_wait(struct resource *r)
{
    turns_add(&r->controller->queue.waiting, &r->space->waiting, &r->queued);
}

bool resource_may_read(const struct resource *r)
{
    return r->controller->queue.reading < READING_MAX && may_read_in(&r->space->unread);
}

void resource_wait_to_read(struct resource *r)
{
    if (list_empty(&r->unread)) {
        turns_add(&r->controller->queue.unread, &r->space->unread, &r->unread);
    }
}

/* ---- operations ---- */

void resource_begin(struct resource *r, enum operation operation)
{
    if (log_enabled(LOG_TRACE)) {
        log_line(LOG_TRACE, "control", "%s: %s -> %s", r->key, operation_names[r->operation],
                 operation_names[operation]);
    }
    if (r->operation == OPERATION_NONE) {
        r->controller->queue.running++;
        r->space->running++;
    }
    if (operation == OPERATION_NONE) {
        r->controller->queue.running--;
        r->space->running--;
    }
    r->operation = operation;
}

void resource_over(struct resource *r)
{
    r->call = NULL;
    r->operand = NULL;
    list_remove(&r->recording);
    r->again = false;
    resource_begin(r, OPERATION_NONE);
    resource_wake(r);
}

static void on_call_answer(const struct cluster_answer *answer, void *arg)
{
    struct resource *r = arg;
    r->call = NULL;
    if (r->done) {
        r->done(r, answer);
    }
    if (!r->call) {
        resource_over(r); /* if not, the next one has begun */
    }
}

void resource_call(struct resource *r, enum operation operation,
                   const struct cluster_request *request,
                   void (*done)(struct resource *r, const struct cluster_answer *answer))
{
    struct cluster_handler handler = {.done = on_call_answer, .arg = r};
    resource_begin(r, operation);
    r->done = done;
    r->controller->stats.writes += request->verb != CLUSTER_GET;
    r->call = cluster_call(r->controller->parts.cluster, request, handler);
}

void resource_give_up(struct resource *r)
{
    if (r->operation != OPERATION_NONE) {
        cluster_cancel(r->controller->parts.cluster, r->call);
        resource_over(r);
    }
}

void resource_give_up_call(struct resource *r)
{
    if (r->operation != OPERATION_CONFIRM) {
        resource_give_up(r);
    }
}

void resource_cancel(struct resource *r)
{
    cluster_cancel(r->controller->parts.cluster, r->call);
    list_remove(&r->recording);
    r->call = NULL;
    if (r->operation != OPERATION_NONE) {
        resource_begin(r, OPERATION_NONE);
    }
}

/* Tries nothing of the resource for a while. */
static void resource_try_later(struct resource *r)
{
    r->retry_at = resource_now(r) + backoff_delay(r->retries++, RETRY_FIRST, RETRY_MOST, 10);
}

void resource_conflicted(struct resource *r)
{
    if (r->conflicts++ > 0) {
        resource_try_later(r);
    }
}

void resource_failed(struct resource *r, const struct cluster_answer *answer)
{
    log_line(LOG_WARN, "control", "%s: %s; tried again", r->key, answer->err.text);
    r->controller->stats.errors++;
    resource_try_later(r);
}
