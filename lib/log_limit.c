/* Lines of the log that repeat.
 *
 *   (no kind) --a line: written--> COUNTING --60 s, none held--> (no kind)
 *                                   |    ^
 *                                   '----'  60 s, N held: "(N more of the same ...)" */
#include "lib/log_limit.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/mem.h"
#include "lib/text.h"

enum { TEXT_MAX = 2048 };

#define PERIOD SECONDS(60)

struct kind {
    struct list link;
    struct log_limits *owner;
    struct timer timer; /* the end of the period */
    unsigned number;
    enum log_level level;
    int64_t since; /* when the period began */
    uint64_t held; /* lines of the period that were not written */
    char *text;    /* the first of those lines; NULL: none */
};

void log_limits_init(struct log_limits *l, struct loop *loop, const char *module,
                     const char *target)
{
    *l = (struct log_limits){.loop = loop, .module = module, .target = target};
    list_init(&l->kinds);
}

static struct kind *find(const struct log_limits *l, unsigned number)
{
    LIST_EACH (it, &l->kinds) {
        struct kind *k = container_of(it, struct kind, link);
        if (k->number == number) {
            return k;
        }
    }
    return NULL;
}

static void forget(struct kind *k)
{
    timer_cancel(k->owner->loop, &k->timer);
    list_remove(&k->link);
    free(k->text);
    free(k);
}

/* Writes the line with the count, unless no line was held. */
static void report(struct kind *k)
{
    const struct log_limits *l = k->owner;
    struct log_field field = LOG_STR("target", l->target);
    if (k->held == 0) {
        return;
    }
    int64_t seconds = (loop_now(l->loop) - k->since + SECONDS(1) / 2) / SECONDS(1);
    log_fields(k->level, l->module, &field, l->target ? 1 : 0,
               "%s (%llu more of the same in the last %lld s)", k->text,
               (unsigned long long)k->held, (long long)(seconds ? seconds : 1));
    free(k->text);
    k->text = NULL;
    k->held = 0;
}

static void on_period_over(struct timer *t);

static void start_period(struct kind *k)
{
    k->since = loop_now(k->owner->loop);
    timer_set(k->owner->loop, &k->timer, k->since + PERIOD, on_period_over);
}

static void on_period_over(struct timer *t)
{
    struct kind *k = container_of(t, struct kind, timer);
    if (k->held == 0) {
        forget(k);
        return;
    }
    report(k);
    start_period(k);
}

static void add_kind(struct log_limits *l, unsigned number, enum log_level level)
{
    struct kind *k = mem_zalloc(sizeof(*k));
    k->owner = l;
    k->number = number;
    k->level = level;
    list_init(&k->link);
    list_append(&l->kinds, &k->link);
    start_period(k);
}

void log_limited(struct log_limits *l, unsigned kind, enum log_level level,
                 const struct log_field *fields, size_t n, const char *fmt, ...)
{
    if (!log_enabled(level)) {
        return;
    }
    bool all = log_enabled(LOG_DEBUG);
    struct kind *k = all ? NULL : find(l, kind);
    if (k && k->held++) {
        return; /* the line with the count shows the text of the first one */
    }
    char text[TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (k) {
        k->text = mem_strdup(text);
        return;
    }
    log_fields(level, l->module, fields, n, "%s", text);
    if (!all) {
        add_kind(l, kind, level);
    }
}

void log_limits_close(struct log_limits *l)
{
    LIST_EACH (it, &l->kinds) {
        struct kind *k = container_of(it, struct kind, link);
        report(k);
        forget(k);
    }
}
