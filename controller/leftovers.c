/* Services of ours that nobody wants any more and that have not gone: a finalizer holds them, or
 * the API server does not delete them. Nothing else waits for them. People are told once in the log
 * and by an Event, and by /status and the condition of the CR as long as it is so. */
#include "controller/leftovers.h"

#include <stdlib.h>
#include <string.h>

#include "controller/events.h"
#include "controller/plan.h"
#include "controller/queue.h"
#include "lib/log.h"
#include "lib/mem.h"

/* By then a finalizer whose controller works is gone. */
#define TELL_AFTER SECONDS(5)

static void describe(char *out, size_t cap, const struct held_service *held)
{
    const struct service *s = &held->service;
    const char *words = held->leftover->words;
    size_t n = text_fmt(out, cap,
                        "The Service \"%s\" in the namespace \"%s\" is not needed any more and "
                        "cannot be deleted: ",
                        s->name, s->namespace);
    text_fmt(out + n, cap - n, "%s",
             s->deleting ? "a finalizer holds it; see its metadata.finalizers"
             : words     ? words
                         : "the API server does not answer");
}

static void tell(struct held_service *held)
{
    struct resource *r = held->resource;
    struct condition condition;
    char text[PLAN_MESSAGE_MAX];
    describe(text, sizeof(text), held);
    plan_failure_told(&condition, "ServiceDeletionFailed", text);
    held->leftover->told = true;
    r->controller->leftovers++;
    log_line(LOG_WARN, "control", "%s: %s", r->key, condition.message);
    resource_send_event(r, &condition);
}

void leftover_note(struct held_service *held)
{
    struct resource *r = held->resource;
    int64_t now = resource_now(r);
    if (!held->leftover) {
        held->leftover = mem_zalloc(sizeof(*held->leftover));
        held->leftover->since = now;
    }
    struct leftover *leftover = held->leftover;
    if (!leftover->told && now >= leftover->since + TELL_AFTER) {
        tell(held);
    } else if (!leftover->told) {
        resource_wake_at(r, leftover->since + TELL_AFTER);
    }
}

bool leftover_failed(struct held_service *held, const char *words)
{
    struct leftover *leftover = held->leftover;
    if (!leftover || leftover->words) { /* later words may differ in a number, which is no news */
        return !leftover;
    }
    leftover->words = mem_strdup(words);
    return true;
}

void leftover_forget(struct held_service *held)
{
    struct leftover *leftover = held->leftover;
    if (leftover) {
        held->resource->controller->leftovers -= leftover->told;
        free(leftover->words);
        free(leftover);
        held->leftover = NULL;
    }
}

void resource_say_leftover(const struct resource *r, struct condition *condition)
{
    const struct held_service *found = NULL;
    LIST_EACH (it, &r->services) {
        const struct held_service *held = container_of(it, struct held_service, link);
        found = held->leftover && held->leftover->told ? held : found;
    }
    if (!found) {
        return;
    }
    char text[PLAN_MESSAGE_MAX];
    size_t own = condition->own, n = strlen(condition->message);
    describe(text, sizeof(text), found);
    text_fmt(condition->message + n, sizeof(condition->message) - n, "%s",
             n && condition->message[n - 1] == '.' ? " " : ". ");
    size_t end = strlen(condition->message);
    text_printable(condition->message + end, sizeof(condition->message) - end, str_of(text));
    condition->own = own == n ? strlen(condition->message) : own;
}
