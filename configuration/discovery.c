/* Two kinds that are stored by name, and the instances that follow from both.
 *
 *   ServiceInstances --.
 *                      +--> instances: an instance and the first of its bindings
 *   ServiceBindings ---' */
#include "configuration/discovery.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
#include "cluster/follower.h"
#include "cluster/kinds.h"
#include "cluster/store.h"
#include "lib/mem.h"

#define OFFERING "destination"

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

struct discovery {
    struct cluster *cluster;
    char *namespace;
    struct discovery_handler handler;
    struct follower follow_instances, follow_bindings;
    struct store held_instances, held_bindings;
    struct config_instance *instances;
    size_t n;
    bool stale; /* `instances` has to be computed again */
};

/* ---- finding the instances ---- */

static const struct held_binding *first_binding(const struct discovery *d, const char *instance)
{
    const struct held_binding *first = NULL;
    LIST_EACH (it, &d->held_bindings.all) {
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
    LIST_EACH (it, &d->held_instances.all) {
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

static void changed(struct discovery *d)
{
    d->stale = true;
    d->handler.changed(d->handler.arg);
}

static void on_instance(struct json_value object, struct stored *stored, void *arg)
{
    struct json_value offering = json_get(json_get(object, "spec"), "serviceOfferingName");
    container_of(stored, struct held_instance, stored)->ours = json_is(offering, OFFERING);
    changed(arg);
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
static void on_binding(struct json_value object, struct stored *stored, void *arg)
{
    struct discovery *d = arg;
    struct held_binding *b = container_of(stored, struct held_binding, stored);
    struct json_value spec = json_get(object, "spec");
    struct json_value elsewhere = json_get(spec, "serviceInstanceNamespace");
    struct json_value root = json_get(spec, "secretRootKey");
    bool here =
        !json_given(elsewhere) || json_is(elsewhere, "") || json_is(elsewhere, d->namespace);
    release_binding(stored);
    b->instance = here ? text_of(json_get(spec, "serviceInstanceName")) : mem_strdup("");
    b->secret = text_of(json_get(spec, "secretName"));
    b->entry = text_of(json_given(root) ? root : json_get(spec, "secretKey"));
    if (!config_is_object_name(b->secret)) {
        free(b->secret);
        b->secret = mem_strdup(stored->name);
    }
    changed(d);
}

static void on_gone(struct json_value object, void *arg)
{
    (void)object;
    changed(arg);
}

static void on_listed(bool complete, void *arg)
{
    (void)complete;
    changed(arg);
}

/* ---- the face ---- */

static void follow(struct discovery *d, struct follower *follower, const struct cluster_kind *kind,
                   struct follower_settings settings)
{
    settings.optional = true;
    settings.gone = on_gone;
    settings.listed = on_listed;
    settings.arg = d;
    follower_start(follower, d->cluster,
                   &(struct cluster_selection){.kind = kind, .namespace = d->namespace}, &settings);
}

struct discovery *discovery_new(struct cluster *cluster, const char *namespace,
                                struct discovery_handler handler)
{
    struct discovery *d = mem_zalloc(sizeof(*d));
    d->cluster = cluster;
    d->namespace = mem_strdup(namespace);
    d->handler = handler;
    d->instances = mem_alloc(CONFIG_INSTANCES_MAX * sizeof(*d->instances));
    store_init(&d->held_instances, sizeof(struct held_instance), NULL);
    store_init(&d->held_bindings, sizeof(struct held_binding), release_binding);
    follow(d, &d->follow_instances, &kind_service_instance,
           (struct follower_settings){
               .name = "ServiceInstances", .store = &d->held_instances, .there = on_instance});
    follow(d, &d->follow_bindings, &kind_service_binding,
           (struct follower_settings){
               .name = "ServiceBindings", .store = &d->held_bindings, .there = on_binding});
    return d;
}

void discovery_free(struct discovery *d)
{
    if (!d) {
        return;
    }
    follower_stop(&d->follow_instances);
    follower_stop(&d->follow_bindings);
    store_clear(&d->held_instances);
    store_clear(&d->held_bindings);
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
    return d->follow_instances.listed && d->follow_bindings.listed && !d->stale;
}
