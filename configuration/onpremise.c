/* Decides which Connectivity Proxy is used and whether it gets access tokens: from the
 * configuration, from ConfigMaps in the namespace of the proxy, and from the Secret with its key.
 *
 *   configuration --.
 *   ConfigMaps -----+--> decide (a task) --> connectivity_set --> changed
 *   Secrets --------'
 *
 * The ConfigMap `connectivity-proxy` describes the behaviour of the proxy. If no Service is
 * configured, Kyma's ConfigMap `connectivity-proxy-info` may name one. In local mode there are no
 * ConfigMaps: the configuration says everything. */
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
    char *namespace;            /* NULL: the ConfigMap is not followed */
    struct object_watch *watch; /* NULL: the ConfigMap is not followed */
    bool absent;                /* the ConfigMap does not exist */
    bool known;                 /* it could be read once, and was not deleted since */
    char *problem;              /* why it cannot be used as it is now; NULL: it can */
    int (*read)(struct json_value map, struct onpremise *onpremise, struct error *err);
};

struct onpremise {
    struct onpremise_settings set;
    const struct config *config; /* in force; NULL: none is */
    struct followed_map behaviour, kyma;
    struct connectivity_config proxy_config;  /* the last that could be read from `behaviour` */
    struct connectivity_address kyma_address; /* the last that could be read from `kyma` */
    struct credentials *credentials;          /* NULL: none are configured */
    struct task decide;
    bool due;     /* something has changed since the last decision */
    bool decided; /* connectivity_set has been called */
};

/* A decision that is being made. Its settings point to the texts. */
struct decision {
    struct connectivity_settings settings;
    char host[HOST_MAX], problem[SENTENCE_MAX];
};

static void decide_soon(struct onpremise *o);

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
    decide_soon(map->onpremise);
}

/* Reads the ConfigMap. If it cannot be read, the last good one stays in force. */
static void on_map(struct json_value object, void *arg)
{
    struct followed_map *map = arg;
    struct error err;
    map->absent = false;
    if (map->read(object, map->onpremise, &err) == OK) {
        free(map->problem);
        map->problem = NULL;
        map->known = true;
        decide_soon(map->onpremise);
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

/* Follows the ConfigMap in this namespace; NULL: it is not followed any more. */
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
    struct connectivity_config config;
    int rc = connectivity_config_of_map(map, &config, err);
    if (rc == OK) {
        o->proxy_config = config;
    }
    return rc;
}

static int read_kyma(struct json_value map, struct onpremise *o, struct error *err)
{
    struct connectivity_address address;
    int rc = connectivity_address_of_map(map, &address, err);
    if (rc == OK) {
        o->kyma_address = address;
    }
    return rc;
}

/* ---- deciding ---- */

/* Decides that on-premise systems cannot be reached, and why. */
static void no_way(struct decision *d, enum verdict verdict, const char *fmt, ...)
    printf_like(3, 4);

static void no_way(struct decision *d, enum verdict verdict, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->problem, sizeof(d->problem), fmt, ap);
    va_end(ap);
    d->settings = (struct connectivity_settings){.verdict = verdict, .problem = d->problem};
}

/* Finds the address of the proxy. Returns ERR when there is none; the decision is made then. */
static int find_proxy(const struct onpremise *o, struct decision *d)
{
    const struct config_connectivity *c = &o->config->connectivity;
    uint16_t port = o->behaviour.known ? o->proxy_config.port : 0;
    if (c->service && o->set.in_cluster) {
        text_fmt(d->host, sizeof(d->host), "%s.%s.svc.%s", c->service,
                 c->namespace ? c->namespace : o->set.home, o->set.domain);
    } else if (c->service) {
        text_fmt(d->host, sizeof(d->host), "%s%s%s", c->service, c->namespace ? "." : "",
                 c->namespace ? c->namespace : "");
    } else if (o->kyma.known) {
        text_fmt(d->host, sizeof(d->host), "%s", o->kyma_address.host);
        port = port ? port : o->kyma_address.port;
    } else if (o->kyma.problem && !o->kyma.absent) {
        no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "%s", o->kyma.problem);
        return ERR;
    } else {
        d->settings = connectivity_none;
        return ERR;
    }
    d->settings.host = d->host;
    d->settings.port = c->port_given || !port ? c->port : port;
    d->settings.timeout = c->timeout;
    return OK;
}

/* Finds out whether the proxy requires access tokens. Returns ERR when that is not known, or when
 * its tenant mode is not ours; the decision is made then. */
static int find_authorization(const struct onpremise *o, struct decision *d, bool *token)
{
    static const char *const modes[] = {"dedicated", "shared"};
    bool shared = o->config->tenant_mode == TENANTS_SHARED;
    const struct followed_map *map = &o->behaviour;
    /* Kyma's default without a ConfigMap: no token is needed, dedicated mode. */
    bool kyma = !o->config->connectivity.service && map->absent;
    *token = shared || o->config->connectivity.credentials;
    if (!map->known && !kyma && map->namespace && !*token) {
        no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
               "it is not known if the Connectivity Proxy wants access tokens (or set " CONFIG_KEY
               ".serviceCredentials): %s",
               map->problem);
        return ERR;
    }
    if (!map->known && !kyma) {
        return OK; /* the configuration alone decides */
    }
    bool proxy_shared = map->known && o->proxy_config.shared;
    if (proxy_shared != shared) {
        no_way(d, VERDICT_TENANT_MODE_MISMATCH,
               "tenantMode of the Connectivity Proxy is %s, and config.tenantMode of the "
               "TransparentProxy object is %s: they have to be the same",
               modes[proxy_shared], modes[shared]);
        return ERR;
    }
    *token = *token || (map->known && o->proxy_config.authorization);
    return OK;
}

static void find_key(const struct onpremise *o, struct decision *d)
{
    const char *problem = o->credentials ? credentials_problem(o->credentials) : NULL;
    if (o->credentials) {
        d->settings.key = credentials_key(o->credentials);
        if (!d->settings.key) {
            no_way(d, VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED, "%s",
                   problem ? problem
                           : "The service key for the Connectivity Proxy has not been read yet");
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

/* Tells whether there is a Connectivity Proxy. Most installations need none. */
static bool has_proxy(const struct onpremise *o)
{
    return o->config->connectivity.service || o->kyma.known;
}

/* Tells whether the ConfigMap has been listed; also if it is not followed. */
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
    struct decision d = {.settings.verdict = VERDICT_OK};
    const char *ignored;
    bool token = false;
    if (!all_listed(o, &ignored)) {
        return;
    }
    o->due = false;
    if (find_proxy(o, &d) == OK && find_authorization(o, &d, &token) == OK && token) {
        find_key(o, &d);
    }
    o->decided = true;
    bool other = connectivity_set(o->set.connectivity, &d.settings);
    if (other && d.settings.verdict == VERDICT_OK) {
        log_line(LOG_INFO, "control",
                 "on-premise systems are reached through the Connectivity Proxy %s:%u, %s", d.host,
                 d.settings.port, d.settings.key ? "with access tokens" : "without access tokens");
    } else if (other) {
        log_line(has_proxy(o) ? LOG_WARN : LOG_DEBUG, "control", "on-premise: %s",
                 d.settings.problem);
    }
    o->set.changed(other, o->set.arg);
}

static void decide_soon(struct onpremise *o)
{
    o->due = true;
    loop_soon(o->set.loop, &o->decide, decide);
}

/* ---- the face ---- */

static void on_credentials(void *arg)
{
    decide_soon(arg);
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
    decide_soon(o);
}

bool onpremise_decided(const struct onpremise *o, const char **why)
{
    return all_listed(o, why) && !o->due;
}

const char *onpremise_problem(const struct onpremise *o)
{
    if (!o->config || !has_proxy(o)) {
        return NULL;
    }
    const char *no_way = o->decided ? connectivity_problem(o->set.connectivity) : NULL;
    const char *key_problem = o->credentials ? credentials_problem(o->credentials) : NULL;
    if (no_way || key_problem) {
        return no_way ? no_way : key_problem;
    }
    return o->behaviour.known ? o->behaviour.problem : NULL;
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
