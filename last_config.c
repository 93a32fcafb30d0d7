/* The ConfigMap with the last good configuration.
 *
 *   watch --> text, uid --> changed --> put: as wanted? | create | apply --> done, or retry later
 *                                        ^
 *   keep(record) --> wanted -------------'
 *
 * The ConfigMap is written only when its text differs from the wanted one, so a restart writes
 * nothing. */
#include "last_config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "core/plan.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

/* Pauses between two writes, so that two writers do not race, and after a refusal, which only a
 * change of the Role ends. */
#define PAUSE SECONDS(5)
#define PAUSE_REFUSED SECONDS(60)

static const struct cluster_kind kind_config_map = {"", "v1", "configmaps", "ConfigMap"};

struct last_config {
    struct loop *loop;
    struct cluster *cluster;
    char *home;
    struct last_config_handler handler;
    struct cluster_watch *watch;
    bool listed, seen; /* seen: the list under way contains it */
    bool readable;     /* the last list succeeded */
    char *uid, *text;  /* of the ConfigMap and its entry; NULL: it does not exist */
    char *wanted;      /* NULL: nothing has to be kept yet */
    char *written;     /* the text that the call writes */
    struct cluster_call *call;
    struct timer pause; /* nothing is written while it runs */
    char *problem;
};

/* ---- writing ---- */

static void put(struct last_config *last);

static void set_text(char **text, const char *to)
{
    char *copy = to ? mem_strdup(to) : NULL;
    free(*text);
    *text = copy;
}

static void on_pause_over(struct timer *t)
{
    t->due = 0;
    put(container_of(t, struct last_config, pause));
}

static void refused(struct last_config *last, const char *why)
{
    char text[FAIL_TEXT_MAX + 256];
    text_fmt(text, sizeof(text),
             "It cannot be kept for the next start in the ConfigMap " LAST_CONFIG_NAME " of the "
             "namespace %s (see RBAC in docs/install.md): %s",
             last->home, why);
    if (!last->problem || strcmp(last->problem, text) != 0) {
        log_line(LOG_WARN, "control", "configuration: %s", text);
        set_text(&last->problem, text);
        last->handler.changed(last->handler.arg);
    }
}

static void in_order(struct last_config *last)
{
    if (last->problem) {
        set_text(&last->problem, NULL);
        last->handler.changed(last->handler.arg);
    }
}

static void take(struct last_config *last, struct json_value object, const char *text)
{
    free(last->uid);
    last->uid = json_strdup(json_get(json_get(object, "metadata"), "uid"), NULL);
    set_text(&last->text, text);
}

static void on_written(const struct cluster_answer *answer, void *arg)
{
    struct last_config *last = arg;
    int64_t pause = PAUSE;
    last->call = NULL;
    switch (answer->result) {
    case CLUSTER_DONE:
        take(last, answer->object, last->written);
        in_order(last);
        break;
    case CLUSTER_REFUSED:
        pause = PAUSE_REFUSED;
        refused(last, answer->err.text);
        break;
    /* the namespace is being deleted, or the ConfigMap has just been deleted */
    case CLUSTER_ABSENT:
    case CLUSTER_EXISTS:   /* the watch is about to tell of it */
    case CLUSTER_CONFLICT: /* the ConfigMap was replaced */
    case CLUSTER_LATER:
        log_line(LOG_WARN, "control", "configuration: %s; tried again", answer->err.text);
        break;
    }
    set_text(&last->written, NULL);
    timer_set(last->loop, &last->pause, loop_now(last->loop) + pause, on_pause_over);
}

static int put_body(const struct last_config *last, struct buf *out)
{
    if (json_fmt(out,
                 "{'apiVersion':'v1','kind':'ConfigMap','metadata':{"
                 "'name':'" LAST_CONFIG_NAME "','namespace':%s,'labels':{"
                 "'" PLAN_LABEL_MANAGED "':'" PLAN_MANAGER "','" PLAN_LABEL_HOME "':%s}",
                 last->home, last->home) < 0 ||
        (last->uid && json_fmt(out, ",'uid':%s", last->uid) < 0)) {
        return ERR;
    }
    return json_fmt(out, "},'data':{'" LAST_CONFIG_ENTRY "':%s}}", last->wanted);
}

static void put(struct last_config *last)
{
    if (!last->listed || last->call || last->pause.due) {
        return;
    }
    if (!last->readable) {
        refused(last, "it may not be read");
        return; /* a list that succeeds leads here again */
    }
    if (!last->wanted) {
        return;
    }
    if (last->text && strcmp(last->text, last->wanted) == 0) {
        in_order(last);
        return;
    }
    struct buf body;
    buf_init(&body, 2 * CONFIG_RECORD_MAX + 4096);
    int rc = put_body(last, &body);
    assert(rc == OK); /* quoting at most doubles the quotation marks: names need no other escapes */
    struct cluster_request request = {.verb = last->uid ? CLUSTER_APPLY : CLUSTER_CREATE,
                                      .kind = &kind_config_map,
                                      .namespace = last->home,
                                      .name = LAST_CONFIG_NAME,
                                      .body = buf_str(&body)};
    struct cluster_handler handler = {.done = on_written, .arg = last};
    set_text(&last->written, last->wanted);
    last->call = cluster_call(last->cluster, &request, handler);
    buf_free(&body);
}

void last_config_keep(struct last_config *last, const struct config_record *record)
{
    struct buf text;
    buf_init(&text, CONFIG_RECORD_MAX);
    if (config_record_put(&text, record) != OK) {
        set_text(&last->problem, "It is too long to be kept for the next start.");
        log_line(LOG_WARN, "control", "configuration: %s", last->problem);
    } else {
        free(last->wanted);
        last->wanted = mem_strndup(buf_str(&text).p, buf_len(&text));
        timer_cancel(last->loop, &last->pause); /* the record is new, so write it at once */
        last->pause.due = 0;
        put(last);
    }
    buf_free(&text);
}

/* ---- reading ---- */

static void on_listing(void *arg)
{
    struct last_config *last = arg;
    last->seen = false;
}

static void news(struct last_config *last)
{
    if (last->listed) {
        last->handler.changed(last->handler.arg);
        put(last);
    }
}

static void on_map(struct json_value object, void *arg)
{
    struct last_config *last = arg;
    char *text = json_strdup(json_get(json_get(object, "data"), LAST_CONFIG_ENTRY), NULL);
    last->seen = true;
    take(last, object, text ? text : "");
    free(text);
    news(last);
}

static void on_map_gone(struct json_value object, void *arg)
{
    struct last_config *last = arg;
    (void)object;
    set_text(&last->uid, NULL);
    set_text(&last->text, NULL);
    news(last);
}

static void on_map_listed(enum cluster_presence presence, void *arg)
{
    struct last_config *last = arg;
    last->listed = true;
    last->readable = presence == CLUSTER_PRESENT;
    if (last->readable && !last->seen) {
        on_map_gone((struct json_value){0}, last);
    } else {
        news(last);
    }
}

bool last_config_listed(const struct last_config *last)
{
    return last->listed;
}

enum last_config_state last_config_read(const struct last_config *last,
                                        struct config_record *record, struct error *err)
{
    if (!last->listed || (!last->readable && !last->text)) {
        return LAST_CONFIG_UNKNOWN;
    }
    if (!last->text) {
        return LAST_CONFIG_NONE;
    }
    return config_record_parse(record, str_of(last->text), last->home, err) == OK
               ? LAST_CONFIG_GOOD
               : LAST_CONFIG_WRONG;
}

const char *last_config_problem(const struct last_config *last)
{
    return last->problem;
}

/* ---- life ---- */

struct last_config *last_config_new(struct loop *loop, struct cluster *cluster, const char *home,
                                    struct last_config_handler handler)
{
    struct last_config *last = mem_zalloc(sizeof(*last));
    struct cluster_selection selection = {
        .kind = &kind_config_map, .namespace = home, .name = LAST_CONFIG_NAME};
    last->loop = loop;
    last->cluster = cluster;
    last->home = mem_strdup(home);
    last->handler = handler;
    last->watch = cluster_watch(cluster, &selection,
                                (struct cluster_watch_handler){.listing = on_listing,
                                                               .object = on_map,
                                                               .gone = on_map_gone,
                                                               .listed = on_map_listed,
                                                               .arg = last});
    return last;
}

void last_config_free(struct last_config *last)
{
    if (!last) {
        return;
    }
    cluster_unwatch(last->cluster, last->watch);
    cluster_cancel(last->cluster, last->call);
    timer_cancel(last->loop, &last->pause);
    free(last->home);
    free(last->uid);
    free(last->text);
    free(last->wanted);
    free(last->written);
    free(last->problem);
    free(last);
}
