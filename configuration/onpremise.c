/* Which Connectivity Proxy there is, and what it wants: of the configuration, of ConfigMaps in its
 * namespace, and of the Secret with the key whose tokens are shown to it.
 *
 *   configuration --.
 *   ConfigMaps -----+--> decide (a task) --> connectivity_set; CRs are read again
 *   Secrets --------'
 *
 * The ConfigMap `connectivity-proxy` tells how it behaves. Where no Service is configured Kyma's
 * `connectivity-proxy-info` may tell that there is one. In local mode there are no ConfigMaps: the
 * configuration says everything. */
#include "configuration/onpremise.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "btp/connectivity.h"
#include "cluster/kinds.h"
#include "cluster/object_watch.h"
#include "configuration/config.h"
#include "configuration/connectivity_config.h"
#include "configuration/credentials.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"

#define KYMA_NAMESPACE "kyma-system"
#define CONFIG_KEY "config.integration.connectivityProxy"

enum { SENTENCE_MAX = 600, HOST_MAX = 800 };

/* A ConfigMap that is followed. */
struct followed_map {
    struct onpremise *onpremise;
    const char *name;
    char *namespace;            /* NULL: it is not followed */
    struct object_watch *watch; /* NULL likewise */
    bool absent;   /* it is not there; else, while there is a problem, it makes no sense */
    bool known;    /* it made sense once, and has not gone since */
    char *problem; /* NULL: all is well */
    int (*read)(struct json_value map, struct onpremise *onpremise, struct error *err);
};

struct onpremise {
    struct onpremise_settings set;
    const struct config *config; /* NULL: not known yet */
    struct followed_map behaviour, kyma;
    struct connectivity_config says;     /* the last of `behaviour` that made sense */
    struct connectivity_address address; /* likewise, of `kyma` */
    struct credentials *credentials;
    struct task decide;
    bool due;     /* something has changed since the last decision */
    bool decided; /* once at least: what came of it is the connectivity's */
};

/* What is being decided; texts are the decider's. */
struct decision {
    struct connectivity_settings way;
    char host[HOST_MAX], problem[SENTENCE_MAX];
};

static void look(struct onpremise *o);

/* ---- ConfigMaps ---- */

static void set_problem(struct followed_map *map, const char *fmt, ...) printf_like(2, 3);

static void set_problem(struct followed_map *map, const char *fmt, ...)
{
    char text[SENTENCE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    free(map->problem);
    map->problem = mem_strdup(text);
    look(map->onpremise);
}

/* One that makes no sense leaves the last good one in force. */
static void on_map(struct json_value object, void *arg)
{
    struct followed_map *map = arg;
    struct error err;
    map->absent = false;
    if (map->read(object, map->onpremise, &err) == OK) {
        free(map->problem);
        map->problem = NULL;
        map->known = true;
        look(map->onpremise);
    } else {
        set_problem(map, "ConfigMap \"%s\" in namespace \"%s\": %s", map->name, map->namespace,
                    err.text);
    }
}

static void on_map_absent(enum object_absence absence, const char *problem, void *arg)
{
    struct followed_map *map = arg;
    if (absence == OBJECT_GONE) {
        map->known = false;
        map->absent = true;
    }
    set_problem(map, "%s", problem);
}

static void unfollow(struct followed_map *map)
{
    object_watch_free(map->watch);
    map->watch = NULL;
    free(map->namespace);
    map->namespace = NULL;
    free(map->problem);
    map->problem = NULL;
    map->known = false;
}

/* namespace NULL: it is not followed any more. */
static void follow(struct followed_map *map, const char *namespace)
{
    if (namespace && map->namespace && strcmp(namespace, map->namespace) == 0) {
        return;
    }
    unfollow(map);
    if (namespace) {
        struct object_watch_handler handler = {
            .there = on_map, .absent = on_map_absent, .arg = map};
        map->namespace = mem_strdup(namespace);
        map->watch = object_watch_new(map->onpremise->set.cluster, &kind_config_map, namespace,
                                      map->name, handler);
    }
}

static int read_behaviour(struct json_value map, struct onpremise *o, struct error *err)
{
    struct connectivity_config says;
    int rc = connectivity_config_of_map(map, &says, err);
    if (rc == OK) {
        o->says = says;
    }
    return rc;
}

static int read_kyma(struct json_value map, struct onpremise *o, struct error *err)
{
    struct connectivity_address address;
    int rc = connectivity_address_of_map(map, &address, err);
    if (rc == OK) {
        o->address = address;
    }
    return rc;
}

/* ---- deciding ---- */

static void no_way(struct decision *d, enum verdict verdict, const char *fmt, ...)
    printf_like(3, 4);

static void no_way(struct decision *d, enum verdict verdict, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->problem, sizeof(d->problem), fmt, ap);
    va_end(ap);
    d->way = (struct connectivity_settings){.verdict = verdict, .problem = d->problem};
}

/* ERR: there is none, and that has been said. */
static int find_proxy(const struct onpremise *o, struct decision *d)
{
    const struct config_connectivity *c = &o->config->connectivity;
    uint16_t port = o->behaviour.known ? o->says.port : 0;
    if (c->service && o->set.in_cluster) {
        text_fmt(d->host, sizeof(d->host), "%s.%s.svc.%s", c->service,
                 c->namespace ? c->namespace : o->set.home, o->set.domain);
    } else if (c->service) {
        text_fmt(d->host, sizeof(d->host), "%s%s%s", c->service, c->namespace ? "." : "",
                 c->namespace ? c->namespace : "");
    } else if (o->kyma.known) {
        text_fmt(d->host, sizeof(d->host), "%s", o->address.host);
        port = port ? port : o->address.port;
    } else if (o->kyma.problem && !o->kyma.absent) {
        no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "%s", o->kyma.problem);
        return ERR;
    } else {
        d->way = connectivity_none;
        return ERR;
    }
    d->way.host = d->host;
    d->way.port = c->port_given || !port ? c->port : port;
    d->way.timeout = c->timeout;
    return OK;
}

/* Does the proxy want a token? ERR: that is not known, or it serves others than we do. */
static int find_method(const struct onpremise *o, struct decision *d, bool *token)
{
    static const char *const modes[] = {"dedicated", "shared"};
    bool shared = o->config->tenant_mode == TENANTS_SHARED;
    const struct followed_map *map = &o->behaviour;
    /* What Kyma's does unless it says otherwise: it trusts everybody, for one tenant. */
    bool kyma = !o->config->connectivity.service && map->absent;
    *token = shared || o->config->connectivity.credentials;
    if (!map->known && !kyma && map->namespace && !*token) {
        no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
               "whether the Connectivity Proxy wants access tokens is not known (or set " CONFIG_KEY
               ".serviceCredentials): %s",
               map->problem);
        return ERR;
    }
    if (!map->known && !kyma) {
        return OK; /* what is to be said to it is known */
    }
    bool its = map->known && o->says.shared;
    if (its != shared) {
        no_way(d, VERDICT_TENANT_MODE_MISMATCH,
               "tenantMode of the Connectivity Proxy is %s, and config.tenantMode of the "
               "TransparentProxy object is %s: they have to be the same",
               modes[its], modes[shared]);
        return ERR;
    }
    *token = *token || (map->known && o->says.authorization);
    return OK;
}

static void find_key(const struct onpremise *o, struct decision *d)
{
    const char *problem = o->credentials ? credentials_problem(o->credentials) : NULL;
    if (o->credentials) {
        d->way.key = credentials_key(o->credentials);
        if (!d->way.key) {
            no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "%s",
                   problem ? problem : "The key for the Connectivity Proxy has not been read yet");
        }
    } else if (o->config->tenant_mode == TENANTS_SHARED) {
        no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
               "secretName should be provided for Connectivity Proxy service instance in shared "
               "mode: set " CONFIG_KEY ".serviceCredentials of the TransparentProxy object");
    } else {
        no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
               "the Connectivity Proxy wants access tokens: set " CONFIG_KEY
               ".serviceCredentials of the TransparentProxy object");
    }
}

/* Most installations have no Connectivity Proxy, and need none. */
static bool is_meant(const struct onpremise *o)
{
    return o->config->connectivity.service || o->kyma.known;
}

/* Is nothing to be expected of it before it changes? */
static bool is_listed(const struct followed_map *map)
{
    return !map->watch || object_watch_listed(map->watch);
}

static bool all_listed(const struct onpremise *o, const char **why)
{
    *why = "the ConfigMaps of the Connectivity Proxy";
    if (!o->config || !is_listed(&o->behaviour) || !is_listed(&o->kyma)) {
        return false;
    }
    *why = "Secrets";
    return !o->credentials || credentials_listed(o->credentials);
}

static void decide(struct task *t)
{
    struct onpremise *o = container_of(t, struct onpremise, decide);
    struct decision d = {.way.verdict = VERDICT_OK};
    const char *ignored;
    bool token = false;
    if (!all_listed(o, &ignored)) {
        return;
    }
    o->due = false;
    if (find_proxy(o, &d) == OK && find_method(o, &d, &token) == OK && token) {
        find_key(o, &d);
    }
    o->decided = true;
    bool other = connectivity_set(o->set.connectivity, &d.way);
    if (other && d.way.verdict == VERDICT_OK) {
        log_line(LOG_INFO, "control",
                 "on-premise systems are reached through the Connectivity Proxy %s:%u, %s", d.host,
                 d.way.port, d.way.key ? "with access tokens" : "which trusts us");
    } else if (other) {
        log_line(is_meant(o) ? LOG_WARN : LOG_DEBUG, "control", "on-premise: %s", d.way.problem);
    }
    o->set.changed(other, o->set.arg);
}

static void look(struct onpremise *o)
{
    o->due = true;
    loop_soon(o->set.loop, &o->decide, decide);
}

/* ---- the face ---- */

static void on_credentials(void *arg)
{
    look(arg);
}

static void follow_credentials(struct onpremise *o, const struct config_credentials *wanted)
{
    if (o->credentials && wanted && credentials_follow(o->credentials, wanted)) {
        return;
    }
    credentials_free(o->credentials);
    o->credentials = NULL;
    if (wanted) {
        struct credentials_handler handler = {.changed = on_credentials, .arg = o};
        o->credentials = credentials_new(o->set.cluster, wanted, SERVICE_KEY_CONNECTIVITY,
                                         "the Connectivity Proxy", handler);
    }
}

void onpremise_configure(struct onpremise *o, const struct config *config)
{
    const struct config_connectivity *c = &config->connectivity;
    const char *home = o->set.home;
    const char *namespace = c->namespace ? c->namespace : home;
    o->config = config;
    if (o->set.in_cluster) {
        follow(&o->behaviour, c->service ? namespace : KYMA_NAMESPACE);
        follow(&o->kyma, c->service ? NULL : KYMA_NAMESPACE);
    }
    follow_credentials(o, c->credentials);
    look(o);
}

bool onpremise_decided(const struct onpremise *o, const char **why)
{
    return all_listed(o, why) && !o->due;
}

const char *onpremise_problem(const struct onpremise *o)
{
    if (!o->config || !is_meant(o)) {
        return NULL;
    }
    const char *no_way = o->decided ? connectivity_problem(o->set.connectivity) : NULL;
    const char *of_key = o->credentials ? credentials_problem(o->credentials) : NULL;
    return no_way ? no_way : of_key ? of_key : o->behaviour.known ? o->behaviour.problem : NULL;
}

struct onpremise *onpremise_new(const struct onpremise_settings *settings)
{
    struct onpremise *o = mem_zalloc(sizeof(*o));
    o->set = *settings;
    o->behaviour =
        (struct followed_map){.onpremise = o, .name = "connectivity-proxy", .read = read_behaviour};
    o->kyma =
        (struct followed_map){.onpremise = o, .name = "connectivity-proxy-info", .read = read_kyma};
    task_init(&o->decide);
    return o;
}

void onpremise_stop(struct onpremise *o)
{
    task_cancel(&o->decide);
    unfollow(&o->behaviour);
    unfollow(&o->kyma);
    credentials_free(o->credentials);
    o->credentials = NULL;
}

void onpremise_free(struct onpremise *o)
{
    free(o);
}
