/* A watch that selects one object by its name. A list that does not contain it means that it does
 * not exist. */
#include "cluster/object_watch.h"

#include <stdlib.h>

#include "cluster/cluster.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Room for two names and a sentence about them. */
enum { PROBLEM_MAX = 768 };

struct object_watch {
    struct cluster *cluster;
    const struct cluster_kind *kind;
    char *namespace, *name;
    struct object_watch_handler handler;
    struct cluster_watch *watch;
    bool listed, seen; /* seen: the list under way contains it */
};

static void on_listing(void *arg)
{
    struct object_watch *w = arg;
    w->seen = false;
}

static void on_object(struct json_value object, void *arg)
{
    struct object_watch *w = arg;
    w->listed = w->seen = true; /* a list of one object ends with it */
    w->handler.there(object, w->handler.arg);
}

static void tell_gone(struct object_watch *w)
{
    char problem[PROBLEM_MAX];
    text_fmt(problem, sizeof(problem), "%s with name \"%s\" not found in namespace: \"%s\".",
             w->kind->kind, w->name, w->namespace);
    w->handler.absent(OBJECT_GONE, problem, w->handler.arg);
}

static void on_gone(struct json_value object, void *arg)
{
    (void)object;
    tell_gone(arg);
}

static void on_listed(enum cluster_presence presence, void *arg)
{
    struct object_watch *w = arg;
    char problem[PROBLEM_MAX];
    w->listed = true;
    if (presence != CLUSTER_PRESENT) {
        text_fmt(problem, sizeof(problem),
                 "%s \"%s\" in namespace \"%s\" may not be read: a Role in that namespace has to "
                 "grant get, list and watch on it (docs/install.md)",
                 w->kind->kind, w->name, w->namespace);
        w->handler.absent(OBJECT_FORBIDDEN, problem, w->handler.arg);
    } else if (!w->seen) {
        tell_gone(w);
    }
}

struct object_watch *object_watch_new(struct cluster *cluster, const struct cluster_kind *kind,
                                      const char *namespace, const char *name,
                                      struct object_watch_handler handler)
{
    struct object_watch *w = mem_zalloc(sizeof(*w));
    w->cluster = cluster;
    w->kind = kind;
    w->namespace = mem_strdup(namespace);
    w->name = mem_strdup(name);
    w->handler = handler;
    struct cluster_selection selection = {.kind = kind, .namespace = w->namespace, .name = w->name};
    struct cluster_watch_handler told = {
        .listing = on_listing, .object = on_object, .gone = on_gone, .listed = on_listed, .arg = w};
    w->watch = cluster_watch(cluster, &selection, told);
    return w;
}

void object_watch_free(struct object_watch *w)
{
    if (!w) {
        return;
    }
    cluster_unwatch(w->cluster, w->watch);
    free(w->namespace);
    free(w->name);
    free(w);
}

bool object_watch_listed(const struct object_watch *w)
{
    return w->listed;
}
