/* A watch that selects one Secret by its name. */
#include "cluster/object_watch.h"

#include <stdlib.h>

#include "cluster/cluster.h"
#include "cluster/kinds.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Room for two names and a sentence about them. */
enum { PROBLEM_MAX = 768 };

struct secret_watch {
    struct cluster *cluster;
    char *namespace, *name;
    struct secret_watch_handler handler;
    struct cluster_watch *watch;
    bool listed, seen; /* seen: the list under way contains it */
};

static void on_listing(void *arg)
{
    struct secret_watch *w = arg;
    w->seen = false;
}

static void on_object(struct json_value object, void *arg)
{
    struct secret_watch *w = arg;
    w->listed = w->seen = true; /* a list of one object ends with it */
    w->handler.there(object, w->handler.arg);
}

static void tell_gone(struct secret_watch *w)
{
    char problem[PROBLEM_MAX];
    text_fmt(problem, sizeof(problem), "Secret with name \"%s\" not found in namespace: \"%s\".",
             w->name, w->namespace);
    w->handler.absent(SECRET_GONE, problem, w->handler.arg);
}

static void on_gone(struct json_value object, void *arg)
{
    (void)object;
    tell_gone(arg);
}

static void on_listed(enum cluster_presence presence, void *arg)
{
    struct secret_watch *w = arg;
    char problem[PROBLEM_MAX];
    w->listed = true;
    if (presence != CLUSTER_PRESENT) {
        text_fmt(problem, sizeof(problem),
                 "Secret \"%s\" in namespace \"%s\" may not be read: a Role in that namespace has "
                 "to grant get, list and watch on it (docs/install.md)",
                 w->name, w->namespace);
        w->handler.absent(SECRET_FORBIDDEN, problem, w->handler.arg);
    } else if (!w->seen) {
        tell_gone(w);
    }
}

struct secret_watch *secret_watch_new(struct cluster *cluster, const char *namespace,
                                      const char *name, struct secret_watch_handler handler)
{
    struct secret_watch *w = mem_zalloc(sizeof(*w));
    w->cluster = cluster;
    w->namespace = mem_strdup(namespace);
    w->name = mem_strdup(name);
    w->handler = handler;
    struct cluster_selection selection = {
        .kind = &kind_secret, .namespace = w->namespace, .name = w->name};
    struct cluster_watch_handler told = {
        .listing = on_listing, .object = on_object, .gone = on_gone, .listed = on_listed, .arg = w};
    w->watch = cluster_watch(cluster, &selection, told);
    return w;
}

void secret_watch_free(struct secret_watch *w)
{
    if (!w) {
        return;
    }
    cluster_unwatch(w->cluster, w->watch);
    free(w->namespace);
    free(w->name);
    free(w);
}

bool secret_watch_listed(const struct secret_watch *w)
{
    return w->listed;
}
