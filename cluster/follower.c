/* Follows a kind by one watch; counts its lists and notes its newest version. */
#include "cluster/follower.h"

#include "cluster/store.h"
#include "core/custom_resource.h"
#include "lib/log.h"

static struct follower *note_version(void *arg, struct json_value object)
{
    struct follower *f = arg;
    uint64_t version = object_version(object);
    f->version = version > f->version ? version : f->version;
    return f;
}

static void on_listing(void *arg)
{
    struct follower *f = arg;
    f->round++;
    f->version = 0; /* versions are lower where a backup was restored */
    if (f->set.listing) {
        f->set.listing(f->set.arg);
    }
}

static void take(struct follower *f, struct json_value object)
{
    struct stored *stored = f->set.store ? store_take(f->set.store, object, f->round) : NULL;
    if (f->set.there && (stored || !f->set.store)) {
        f->set.there(object, stored, f->set.arg);
    }
}

static void on_object(struct json_value object, void *arg)
{
    take(note_version(arg, object), object);
}

static void on_gone(struct json_value object, void *arg)
{
    struct follower *f = note_version(arg, object);
    bool dropped = f->set.store && store_drop(f->set.store, object);
    if (f->set.gone && (dropped || !f->set.store)) {
        f->set.gone(object, f->set.arg);
    }
}

static void tell_presence(const struct follower *f)
{
    const char *name = f->set.name;
    switch (f->presence) {
    case CLUSTER_PRESENT:
        if (!f->set.optional) {
            log_line(LOG_INFO, "control", "%s: listed", name);
        }
        break;
    case CLUSTER_UNKNOWN:
        if (!f->set.optional) {
            log_line(LOG_WARN, "control",
                     "%s: the API server does not know them (is the CRD installed?)", name);
        }
        break;
    case CLUSTER_FORBIDDEN:
        log_line(LOG_WARN, "control", "%s: we may not list them (see RBAC in docs/install.md)",
                 name);
        break;
    }
}

static void on_listed(enum cluster_presence presence, void *arg)
{
    struct follower *f = arg;
    bool complete = presence == CLUSTER_PRESENT;
    bool news = !f->listed || f->presence != presence;
    f->listed = f->fresh = true;
    if (complete && f->set.counts && !f->set.counts(f->set.arg)) {
        return;
    }
    f->presence = presence;
    f->known |= complete;
    if (news) {
        tell_presence(f);
    }
    if (complete && f->set.store) {
        store_sweep(f->set.store, f->round);
    }
    if (f->set.listed) {
        f->set.listed(complete, f->set.arg);
    }
}

void follower_start(struct follower *f, struct cluster *cluster,
                    const struct cluster_selection *selection,
                    const struct follower_settings *settings)
{
    struct cluster_watch_handler handler = {
        .listing = on_listing, .object = on_object, .gone = on_gone, .listed = on_listed, .arg = f};
    f->cluster = cluster;
    f->set = *settings;
    f->fresh = false;
    f->watch = cluster_watch(cluster, selection, handler);
}

void follower_stop(struct follower *f)
{
    if (f->watch) {
        cluster_unwatch(f->cluster, f->watch);
        f->watch = NULL;
    }
}

bool follower_is_news(const struct follower *f, struct json_value object)
{
    uint64_t version = object_version(object);
    return version == 0 || version > f->version;
}

void follower_take(struct follower *f, struct json_value object)
{
    if (follower_is_news(f, object)) {
        take(f, object);
    }
}
