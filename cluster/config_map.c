/* Follows one ConfigMap of ours and writes it.
 *
 *   watch --> text, uid --> changed --> put: as wanted? | create | apply --> done, or retry later
 *                                        ^
 *   keep(text) --> wanted ---------------'
 *
 * The ConfigMap is written only when its text differs from the wanted one, so a restart writes
 * nothing; and only by the process that leads. */
#include "cluster/config_map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "cluster/kinds.h"
#include "cluster/labels.h"
#include "cluster/object_watch.h"
#include "core/repairs.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

/* Pauses between two writes, so that two writers do not race, and after a refusal, which only a
 * change of the Role ends. */
#define PAUSE SECONDS(5)
#define PAUSE_REFUSED SECONDS(60)

struct config_map {
    struct loop *loop;
    struct cluster *cluster;
    char *home;
    struct config_map_settings set;
    struct object_watch *watch;
    bool leads;       /* this process may write */
    bool readable;    /* the last list succeeded */
    char *uid, *text; /* of the ConfigMap and its entry; NULL: it does not exist */
    char *wanted;     /* NULL: nothing has to be kept yet */
    char *written;    /* the text that the call writes */
    struct cluster_call *call;
    bool failed;        /* the last write or list has failed */
    struct timer pause; /* nothing is written while it runs */
    struct repairs repairs;
    char *problem;
};

/* ---- writing ---- */

static void put(struct config_map *map);

static void set_text(char **text, const char *to)
{
    char *copy = to ? mem_strdup(to) : NULL;
    free(*text);
    *text = copy;
}

static void changed(struct config_map *map)
{
    map->set.changed(map->set.arg);
}

static void on_pause_over(struct timer *t)
{
    t->due = 0;
    put(container_of(t, struct config_map, pause));
}

static void cancel_pause(struct config_map *map)
{
    timer_cancel(map->loop, &map->pause);
    map->pause.due = 0;
}

static void refused(struct config_map *map, const char *why)
{
    char text[FAIL_TEXT_MAX + 512];
    text_fmt(text, sizeof(text),
             "%s in the ConfigMap %s of the namespace %s (see RBAC in docs/install.md): %s",
             map->set.problem, map->set.name, map->home, why);
    if (!map->problem || strcmp(map->problem, text) != 0) {
        log_line(LOG_WARN, "control", "%s: %s", map->set.what, text);
        set_text(&map->problem, text);
        changed(map);
    }
}

static void in_order(struct config_map *map)
{
    if (map->problem) {
        set_text(&map->problem, NULL);
        changed(map);
    }
}

static void take(struct config_map *map, struct json_value object, const char *text)
{
    free(map->uid);
    map->uid = json_strdup(json_get(json_get(object, "metadata"), "uid"), NULL);
    set_text(&map->text, text);
}

static bool same_text(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

static void on_written(const struct cluster_answer *answer, void *arg)
{
    struct config_map *map = arg;
    int64_t now = loop_now(map->loop), pause = PAUSE;
    map->call = NULL;
    if (answer->result != CLUSTER_DONE) {
        repairs_failed(&map->repairs, now);
    }
    switch (answer->result) {
    case CLUSTER_DONE:
        take(map, answer->object, map->written);
        in_order(map);
        break;
    case CLUSTER_REFUSED:
        pause = PAUSE_REFUSED;
        refused(map, answer->err.text);
        break;
    case CLUSTER_ABSENT:   /* the ConfigMap was deleted, or its namespace is being deleted */
    case CLUSTER_EXISTS:   /* the watch will report the ConfigMap */
    case CLUSTER_CONFLICT: /* the ConfigMap was replaced */
    case CLUSTER_LATER:
        log_line(LOG_WARN, "control", "%s: %s; it is tried again", map->set.what, answer->err.text);
        break;
    }
    bool done = answer->result == CLUSTER_DONE, failed = map->failed;
    map->failed = !done;
    bool more = done && !same_text(map->written, map->wanted);
    set_text(&map->written, NULL);
    timer_set(map->loop, &map->pause, more ? now : now + pause, on_pause_over);
    if (done || !failed) {
        changed(map);
    }
}

static int put_body(const struct config_map *map, struct buf *out)
{
    if (json_fmt(out,
                 "{'apiVersion':'v1','kind':'ConfigMap','metadata':{"
                 "'name':%s,'namespace':%s,'labels':{"
                 "'" LABEL_MANAGED_BY "':'" LABEL_MANAGER "','" LABEL_HOME "':%s}",
                 map->set.name, map->home, map->home) < 0 ||
        (map->uid && json_fmt(out, ",'uid':%s", map->uid) < 0)) {
        return ERR;
    }
    return json_fmt(out, "},'data':{%s:%s}}", map->set.entry, map->wanted);
}

/* Notes that the text is about to be written. Returns false when somebody else changes it again and
 * again; it is then written later. */
static bool may_repair(struct config_map *map)
{
    uint64_t wish = repairs_digest(str_of(map->wanted));
    int64_t due = repairs_due(&map->repairs, wish), now = loop_now(map->loop);
    if (due > now) {
        timer_set(map->loop, &map->pause, due, on_pause_over);
        return false;
    }
    if (repairs_note(&map->repairs, wish, now)) {
        log_line(LOG_WARN, "control",
                 "%s: somebody else changes or deletes the ConfigMap %s again and again; it is "
                 "written again less and less often",
                 map->set.what, map->set.name);
    }
    return true;
}

static void put(struct config_map *map)
{
    if (!map->leads || !config_map_listed(map) || map->call || map->pause.due) {
        return;
    }
    if (!map->readable) {
        refused(map, "it may not be read");
        return; /* a list that succeeds leads here again */
    }
    if (!map->wanted) {
        return;
    }
    if (config_map_kept(map)) {
        in_order(map);
        return;
    }
    if (!may_repair(map)) {
        return;
    }
    struct buf body;
    buf_init(&body, 2 * map->set.max + 4096);
    int rc = put_body(map, &body);
    assert(rc == OK); /* quoting at most doubles the quotation marks; names need no other escapes */
    struct cluster_request request = {.verb = map->uid ? CLUSTER_APPLY : CLUSTER_CREATE,
                                      .kind = &kind_config_map,
                                      .namespace = map->home,
                                      .name = map->set.name,
                                      .body = buf_str(&body)};
    struct cluster_handler handler = {.done = on_written, .arg = map};
    set_text(&map->written, map->wanted);
    map->call = cluster_call(map->cluster, &request, handler);
    buf_free(&body);
}

void config_map_keep(struct config_map *map, struct str text)
{
    assert(map->leads && text.n <= map->set.max);
    char *wanted = mem_strndup(text.p, text.n);
    bool same = same_text(map->wanted, wanted);
    free(map->wanted);
    map->wanted = wanted;
    if (!same) {
        cancel_pause(map);
        put(map);
    }
}

bool config_map_kept(const struct config_map *map)
{
    return same_text(map->text, map->wanted);
}

bool config_map_failed(const struct config_map *map)
{
    return map->failed;
}

const char *config_map_problem(const struct config_map *map)
{
    return map->problem;
}

/* ---- reading ---- */

static void news(struct config_map *map, bool readable)
{
    if (!readable || !map->readable) {
        map->failed = !readable;
    }
    map->readable = readable;
    changed(map);
    put(map);
}

static void on_there(struct json_value object, void *arg)
{
    struct config_map *map = arg;
    char *text = json_strdup(json_get(json_get(object, "data"), map->set.entry), NULL);
    take(map, object, text ? text : "");
    free(text);
    news(map, true);
}

static void on_absent(enum object_absence absence, const char *problem, void *arg)
{
    struct config_map *map = arg;
    (void)problem; /* put() reports that it may not be read */
    if (absence == OBJECT_GONE) {
        set_text(&map->uid, NULL);
        set_text(&map->text, NULL);
    }
    news(map, absence == OBJECT_GONE);
}

bool config_map_listed(const struct config_map *map)
{
    return object_watch_listed(map->watch);
}

bool config_map_readable(const struct config_map *map)
{
    return map->readable;
}

const char *config_map_text(const struct config_map *map)
{
    return map->text;
}

/* ---- life ---- */

static void follow(struct config_map *map)
{
    map->watch = object_watch_new(
        map->cluster, &kind_config_map, map->home, map->set.name,
        (struct object_watch_handler){.there = on_there, .absent = on_absent, .arg = map});
}

struct config_map *config_map_new(struct loop *loop, struct cluster *cluster, const char *home,
                                  const struct config_map_settings *settings)
{
    struct config_map *map = mem_zalloc(sizeof(*map));
    map->loop = loop;
    map->cluster = cluster;
    map->home = mem_strdup(home);
    map->set = *settings;
    follow(map);
    return map;
}

/* Forgets what was to be written: another process leads now. */
static void give_up(struct config_map *map)
{
    cluster_cancel(map->cluster, map->call);
    map->call = NULL;
    cancel_pause(map);
    set_text(&map->written, NULL);
    set_text(&map->wanted, NULL);
    set_text(&map->problem, NULL);
    map->failed = false;
    repairs_forget(&map->repairs);
}

void config_map_lead(struct config_map *map, bool leads)
{
    if (map->leads == leads) {
        return;
    }
    map->leads = leads;
    if (leads) {
        object_watch_free(map->watch);
        follow(map);
    } else {
        give_up(map);
    }
}

void config_map_free(struct config_map *map)
{
    if (!map) {
        return;
    }
    object_watch_free(map->watch);
    cluster_cancel(map->cluster, map->call);
    timer_cancel(map->loop, &map->pause);
    free(map->home);
    free(map->uid);
    free(map->text);
    free(map->wanted);
    free(map->written);
    free(map->problem);
    free(map);
}
