/* Two kinds that are stored by name, and the instances that follow from both.
 *
 *   ServiceInstances --.
 *                      +--> instances: an instance and the first of its bindings
 *   ServiceBindings ---' */
#include "configuration/discovery.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "cluster/kinds.h"
#include "cluster/store.h"
#include "lib/log.h"
#include "lib/mem.h"

#define OFFERING "destination"

enum kind { KIND_INSTANCES, KIND_BINDINGS, KINDS };

static const struct cluster_kind *const kinds[KINDS] = {
    [KIND_INSTANCES] = &kind_service_instance,
    [KIND_BINDINGS] = &kind_service_binding,
};
static const char *const names[KINDS] = {
    [KIND_INSTANCES] = "ServiceInstances",
    [KIND_BINDINGS] = "ServiceBindings",
};

/* A ServiceInstance. */
struct held_instance {
    struct stored stored;
    bool ours; /* of the offering that we want */
};

/* A ServiceBinding. */
struct held_binding {
    struct stored stored;
    char *instance;       /* "": not of an instance in this namespace */
    char *secret, *entry; /* entry "": the Secret has one entry for each field */
};

struct followed {
    struct discovery *discovery;
    enum kind kind;
    struct cluster_watch *watch;
    struct store store;
    uint64_t round; /* number of the latest list: an object that was not in it is gone */
    bool listed;
    enum cluster_presence presence;
};

struct discovery {
    struct cluster *cluster;
    char *namespace;
    struct discovery_handler handler;
    struct followed followed[KINDS];
    struct config_instance *instances;
    size_t n;
    bool stale; /* `instances` has to be computed again */
};

/* ---- finding the instances ---- */

static const struct held_binding *first_binding(const struct discovery *d, const char *instance)
{
    const struct held_binding *first = NULL;
    LIST_EACH (it, &d->followed[KIND_BINDINGS].store.all) {
        const struct held_binding *b = container_of(it, struct held_binding, stored.link);
        if (strcmp(b->instance, instance) == 0 &&
            (!first || strcmp(b->stored.name, first->stored.name) < 0)) {
            first = b;
        }
    }
    return first;
}

static void drop_instances(struct discovery *d)
{
    for (size_t i = 0; i < d->n; i++) {
        config_instance_clear(&d->instances[i]);
    }
    d->n = 0;
}

static void find_instances(struct discovery *d)
{
    const struct config_secret private_key = {.namespace = d->namespace,
                                              .name = (char *)CONFIG_PRIVATE_KEY_SECRET,
                                              .key = (char *)CONFIG_PRIVATE_KEY_ENTRY};
    drop_instances(d);
    LIST_EACH (it, &d->followed[KIND_INSTANCES].store.all) {
        const struct held_instance *i = container_of(it, struct held_instance, stored.link);
        const struct held_binding *b = i->ours ? first_binding(d, i->stored.name) : NULL;
        if (b && d->n < CONFIG_INSTANCES_MAX) {
            const struct config_credentials where = {
                .service_key = {.namespace = d->namespace, .name = b->secret, .key = b->entry},
                .private_key = private_key};
            d->instances[d->n++] = (struct config_instance){
                .name = mem_strdup(i->stored.name), .credentials = config_credentials_copy(&where)};
        }
    }
}

/* ---- reports of the watches ---- */

static char *text_of(struct json_value v)
{
    char *text = json_strdup(v, NULL);
    return text ? text : mem_strdup("");
}

static void take_instance(struct stored *stored, struct json_value object)
{
    struct json_value offering = json_get(json_get(object, "spec"), "serviceOfferingName");
    container_of(stored, struct held_instance, stored)->ours = json_is(offering, OFFERING);
}

static void release_binding(struct stored *stored)
{
    struct held_binding *b = container_of(stored, struct held_binding, stored);
    free(b->instance);
    free(b->secret);
    free(b->entry);
}

/* Reads a binding. With secretRootKey, as with secretKey, the whole key is in one entry; there
 * every value is a string. */
static void take_binding(struct stored *stored, struct json_value object, const char *namespace)
{
    struct held_binding *b = container_of(stored, struct held_binding, stored);
    struct json_value spec = json_get(object, "spec");
    struct json_value elsewhere = json_get(spec, "serviceInstanceNamespace");
    struct json_value root = json_get(spec, "secretRootKey");
    bool here = !json_given(elsewhere) || json_is(elsewhere, "") || json_is(elsewhere, namespace);
    release_binding(stored);
    b->instance = here ? text_of(json_get(spec, "serviceInstanceName")) : mem_strdup("");
    b->secret = text_of(json_get(spec, "secretName"));
    b->entry = text_of(json_given(root) ? root : json_get(spec, "secretKey"));
    if (!config_is_object_name(b->secret)) {
        free(b->secret);
        b->secret = mem_strdup(stored->name);
    }
}

static void changed(struct discovery *d)
{
    d->stale = true;
    d->handler.changed(d->handler.arg);
}

static void on_listing(void *arg)
{
    struct followed *f = arg;
    f->round++;
}

static void on_object(struct json_value object, void *arg)
{
    struct followed *f = arg;
    struct stored *stored = store_take(&f->store, object, f->round);
    if (!stored) {
        return;
    }
    switch (f->kind) {
    case KIND_INSTANCES:
        take_instance(stored, object);
        break;
    case KIND_BINDINGS:
        take_binding(stored, object, f->discovery->namespace);
        break;
    case KINDS:
        break;
    }
    changed(f->discovery);
}

static void on_gone(struct json_value object, void *arg)
{
    struct followed *f = arg;
    if (store_drop(&f->store, object)) {
        changed(f->discovery);
    }
}

/* Most clusters do not know the kinds, so that is not logged. */
static void on_listed(enum cluster_presence presence, void *arg)
{
    struct followed *f = arg;
    if (presence == CLUSTER_FORBIDDEN && (!f->listed || f->presence != presence)) {
        log_line(LOG_WARN, "control", "%s: we may not list them (see RBAC in docs/install.md)",
                 names[f->kind]);
    }
    f->listed = true;
    f->presence = presence;
    if (presence == CLUSTER_PRESENT) {
        store_sweep(&f->store, f->round);
    }
    changed(f->discovery);
}

/* ---- the face ---- */

static void follow(struct discovery *d, enum kind kind, size_t size,
                   void (*release)(struct stored *stored))
{
    struct followed *f = &d->followed[kind];
    struct cluster_selection selection = {.kind = kinds[kind], .namespace = d->namespace};
    struct cluster_watch_handler handler = {
        .listing = on_listing, .object = on_object, .gone = on_gone, .listed = on_listed, .arg = f};
    f->discovery = d;
    f->kind = kind;
    store_init(&f->store, size, release);
    f->watch = cluster_watch(d->cluster, &selection, handler);
}

struct discovery *discovery_new(struct cluster *cluster, const char *namespace,
                                struct discovery_handler handler)
{
    struct discovery *d = mem_zalloc(sizeof(*d));
    d->cluster = cluster;
    d->namespace = mem_strdup(namespace);
    d->handler = handler;
    d->instances = mem_alloc(CONFIG_INSTANCES_MAX * sizeof(*d->instances));
    follow(d, KIND_INSTANCES, sizeof(struct held_instance), NULL);
    follow(d, KIND_BINDINGS, sizeof(struct held_binding), release_binding);
    return d;
}

void discovery_free(struct discovery *d)
{
    if (!d) {
        return;
    }
    for (enum kind kind = 0; kind < KINDS; kind++) {
        cluster_unwatch(d->cluster, d->followed[kind].watch);
        store_clear(&d->followed[kind].store);
    }
    drop_instances(d);
    free(d->instances);
    free(d->namespace);
    free(d);
}

const struct config_instance *discovery_instances(struct discovery *d, size_t *n)
{
    if (d->stale) {
        find_instances(d);
        d->stale = false;
    }
    *n = d->n;
    return d->instances;
}

bool discovery_is_told(const struct discovery *d)
{
    bool listed = true;
    for (enum kind kind = 0; kind < KINDS; kind++) {
        listed = listed && d->followed[kind].listed;
    }
    return listed && !d->stale;
}
