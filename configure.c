/* The configuration in force: the oldest TransparentProxy object of the home namespace, the Secrets
 * that it names, and the status that says what came of it.
 *
 *   objects --> look (a task) --> config_new --> complaints: the last good one stays in force
 *                                    |
 *                                    '--> adopt: timeouts, instances; CRs are read again
 *   instance --> watch of its Secret --> service key --> dest_set_instance; its CRs are read again
 *   afterwards --> status of each object, one call at a time */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_private.h"
#include "core/config.h"
#include "core/service_key.h"
#include "dest.h"
#include "lib/log.h"
#include "lib/mem.h"
#include "oauth.h"

#define STATUS_RETRY SECONDS(5)

enum { STATUS_MAX = 256 * 1024, MESSAGE_MAX = 8 * 1024 };

static const struct cluster_kind kind_secret = {"", "v1", "secrets", "Secret"};

/* A Destination service instance and the Secret with its service key. */
struct instance {
    struct list link;
    struct configuration *configuration;
    char *name;
    struct config_secret secret;
    struct cluster_watch *watch;
    bool listed, seen;             /* seen: in the list that is coming in */
    const struct service_key *key; /* the last good one; NULL: none */
    char *problem;                 /* NULL: all is well */
};

struct configuration {
    struct control *control;
    struct task look;
    struct config *config;         /* in force; NULL: nothing has been listed yet */
    uint64_t digest;               /* of the spec that it was made of */
    struct config_remarks remarks; /* about the last object that was looked at */
    struct list instances;
    struct onpremise *onpremise;
    char *warning; /* for /status */

    struct cluster_call *call; /* a status that is being written */
    bool again;                /* there was more to write meanwhile */
    struct timer retry;
};

/* ---- instances ---- */

/* False: it is known already. */
static bool set_problem(struct instance *in, const char *fmt, ...) printf_like(2, 3);

static bool set_problem(struct instance *in, const char *fmt, ...)
{
    char text[FAIL_TEXT_MAX + 512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    text_sanitize(text);
    if (in->problem && strcmp(in->problem, text) == 0) {
        return false;
    }
    free(in->problem);
    in->problem = mem_strdup(text);
    log_line(LOG_WARN, "control", "instance %s: %s", in->name, text);
    return true;
}

/* Its key has changed, or what is wrong with it. */
static void instance_changed(struct instance *in)
{
    struct control *c = in->configuration->control;
    dest_set_instance(c->parts.dest, in->name, in->key, in->problem);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        const char *named =
            r->cr.ref.instance ? r->cr.ref.instance : in->configuration->config->default_instance;
        if (r->present && named && strcmp(named, in->name) == 0) {
            resource_read_again(r);
        }
    }
    configuration_look(in->configuration);
}

static void on_secret_listing(void *arg)
{
    struct instance *in = arg;
    in->seen = false;
}

/* A key that makes no sense does not take the last one out of force. */
static void on_secret(struct json_value object, void *arg)
{
    struct instance *in = arg;
    struct error err;
    const struct service_key *key =
        service_key_from_secret(object, in->secret.key, SERVICE_KEY_DESTINATION, &err);
    in->seen = true;
    if (!key) {
        if (set_problem(in, "Secret \"%s\" in namespace \"%s\": %s", in->secret.name,
                        in->secret.namespace, err.text)) {
            instance_changed(in);
        }
        return;
    }
    bool news = in->problem || !in->key || !service_key_equal(in->key, key);
    if (in->key && news) {
        log_line(LOG_INFO, "control", "instance %s: its service key has changed", in->name);
    }
    service_key_unref(in->key);
    in->key = key;
    free(in->problem);
    in->problem = NULL;
    if (news) {
        instance_changed(in);
    }
}

static void on_secret_gone(struct json_value object, void *arg)
{
    struct instance *in = arg;
    (void)object;
    bool news = set_problem(in, "Secret with name \"%s\" not found in namespace: \"%s\".",
                            in->secret.name, in->secret.namespace);
    service_key_unref(in->key);
    in->key = NULL;
    if (news) {
        instance_changed(in);
    }
}

static void on_secret_listed(enum cluster_presence presence, void *arg)
{
    struct instance *in = arg;
    bool first = !in->listed;
    in->listed = true;
    if (presence == CLUSTER_FORBIDDEN) {
        if (set_problem(in,
                        "Secret \"%s\" in namespace \"%s\" may not be read: a Role in that "
                        "namespace has to grant get, list and watch on it (docs/install.md)",
                        in->secret.name, in->secret.namespace)) {
            instance_changed(in);
        }
    } else if (presence == CLUSTER_PRESENT && !in->seen) {
        on_secret_gone((struct json_value){0}, in);
    }
    if (first) {
        configuration_look(in->configuration);
        control_wake_all(in->configuration->control);
    }
}

static void unfollow_secret(struct instance *in)
{
    cluster_unwatch(in->configuration->control->parts.cluster, in->watch);
    free(in->secret.namespace);
    free(in->secret.name);
    free(in->secret.key);
}

static void instance_free(struct instance *in)
{
    unfollow_secret(in);
    list_remove(&in->link);
    service_key_unref(in->key);
    free(in->name);
    free(in->problem);
    free(in);
}

static struct instance *find_instance(const struct configuration *conf, const char *name)
{
    LIST_EACH (it, &conf->instances) {
        struct instance *in = container_of(it, struct instance, link);
        if (strcmp(in->name, name) == 0) {
            return in;
        }
    }
    return NULL;
}

static bool same_secret(const struct config_secret *a, const struct config_secret *b)
{
    return strcmp(a->namespace, b->namespace) == 0 && strcmp(a->name, b->name) == 0 &&
           strcmp(a->key, b->key) == 0;
}

static void follow_secret(struct instance *in, const struct config_secret *secret)
{
    in->secret = (struct config_secret){.namespace = mem_strdup(secret->namespace),
                                        .name = mem_strdup(secret->name),
                                        .key = mem_strdup(secret->key)};
    in->listed = false;
    struct cluster_selection selection = {
        .kind = &kind_secret, .namespace = in->secret.namespace, .name = in->secret.name};
    struct cluster_watch_handler handler = {.listing = on_secret_listing,
                                            .object = on_secret,
                                            .gone = on_secret_gone,
                                            .listed = on_secret_listed,
                                            .arg = in};
    in->watch = cluster_watch(in->configuration->control->parts.cluster, &selection, handler);
}

static void add_instance(struct configuration *conf, const struct config_instance *wanted)
{
    struct instance *in = mem_zalloc(sizeof(*in));
    in->configuration = conf;
    in->name = mem_strdup(wanted->name);
    list_append(&conf->instances, &in->link);
    follow_secret(in, &wanted->credentials.service_key);
}

static const struct config_instance *wanted_instance(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_instances; i++) {
        if (strcmp(config->instances[i].name, name) == 0) {
            return &config->instances[i];
        }
    }
    return NULL;
}

/* Those that stay keep their key, at least until another Secret of theirs has been read. */
static void set_instances(struct configuration *conf)
{
    const struct config *config = conf->config;
    LIST_EACH (it, &conf->instances) {
        struct instance *in = container_of(it, struct instance, link);
        const struct config_instance *wanted = wanted_instance(config, in->name);
        if (!wanted) {
            dest_set_instance(conf->control->parts.dest, in->name, NULL, NULL);
            instance_free(in);
        } else if (!same_secret(&wanted->credentials.service_key, &in->secret)) {
            unfollow_secret(in);
            follow_secret(in, &wanted->credentials.service_key);
        }
    }
    for (size_t i = 0; i < config->n_instances; i++) {
        if (!find_instance(conf, config->instances[i].name)) {
            add_instance(conf, &config->instances[i]);
        }
    }
}

/* ---- the object ---- */

/* The oldest object is the configuration; NULL: there is none. */
static struct proxy_object *chosen(const struct control *c)
{
    struct proxy_object *oldest = NULL;
    LIST_EACH (it, &c->proxies.all) {
        struct proxy_object *p = container_of(it, struct proxy_object, stored.link);
        int order = oldest ? strcmp(p->created, oldest->created) : -1;
        if (order < 0 || (order == 0 && strcmp(p->stored.name, oldest->stored.name) < 0)) {
            oldest = p;
        }
    }
    return oldest;
}

static void adopt(struct configuration *conf, struct config *config)
{
    struct control *c = conf->control;
    config_free(conf->config);
    conf->config = config;
    dest_set_timeouts(c->parts.dest, config->connect_timeout, config->read_timeout);
    oauth_set_timeouts(c->parts.oauth, config->connect_timeout, config->read_timeout);
    set_instances(conf);
    onpremise_configure(conf->onpremise, config);
    c->handler.configured(config, c->handler.arg);
    LIST_EACH (it, &c->resources) {
        struct resource *r = container_of(it, struct resource, link);
        resource_read_again(r);
        policies_look(c->policies, r);
    }
}

static void read_object(struct configuration *conf, struct json_value object)
{
    uint64_t digest = json_digest(json_get(object, "spec"));
    if (conf->config && digest == conf->digest) {
        return;
    }
    struct config *config = config_new(object, conf->control->settings.home, &conf->remarks);
    conf->digest = digest;
    for (size_t i = 0; i < conf->remarks.n_complaints; i++) {
        log_line(LOG_WARN, "control", "TransparentProxy: %s", conf->remarks.complaints[i]);
    }
    if (!config && !conf->config) {
        struct config_remarks none;
        config = config_new((struct json_value){0}, conf->control->settings.home, &none);
    }
    if (config) {
        adopt(conf, config);
    }
}

/* ---- status ---- */

static void add_sentence(struct buf *out, const char *sentence)
{
    /* What does not fit is left out: the first ones matter most. */
    bool ends = sentence[strlen(sentence) - 1] == '.';
    int rc = buf_fmt(out, "%s%s%s", buf_len(out) ? " " : "", sentence, ends ? "" : ".");
    (void)rc;
}

static void complaints_of(const struct configuration *conf, struct buf *out)
{
    for (size_t i = 0; i < conf->remarks.n_complaints; i++) {
        add_sentence(out, conf->remarks.complaints[i]);
    }
}

static void secret_problems_of(const struct configuration *conf, struct buf *out)
{
    LIST_EACH (it, &conf->instances) {
        const struct instance *in = container_of(it, struct instance, link);
        if (in->problem) {
            add_sentence(out, in->problem);
        }
    }
    if (list_empty(&conf->instances)) {
        add_sentence(out, "Provide at least one Destination service instance in "
                          "config.integration.destinationService.instances.");
    }
}

static void set_warning(struct configuration *conf, const char *text)
{
    free(conf->warning);
    conf->warning = text && text[0] ? mem_strdup(text) : NULL;
}

/* Appends the status of the object in force. */
static int status_of(struct configuration *conf, struct json_value object, struct buf *out,
                     const char *now)
{
    char wrong[MESSAGE_MAX], secrets[MESSAGE_MAX], ignored[MESSAGE_MAX];
    struct buf w = BUF_ON(wrong), s = BUF_ON(secrets), i = BUF_ON(ignored);
    w.max = s.max = i.max = MESSAGE_MAX - 1;
    complaints_of(conf, &w);
    secret_problems_of(conf, &s);
    for (size_t n = 0; n < conf->remarks.n_ignored; n++) {
        add_sentence(&i, conf->remarks.ignored[n]);
    }
    wrong[buf_len(&w)] = secrets[buf_len(&s)] = ignored[buf_len(&i)] = '\0';
    struct config_condition conditions[] = {
        {.type = "Configured",
         .status = !wrong[0],
         .reason = wrong[0] ? "InvalidConfiguration" : "ConfigurationApplied",
         .message = wrong[0] ? wrong : "The configuration is in force."},
        {.type = "CredentialsAvailable",
         .status = !secrets[0],
         .reason = secrets[0] ? "SecretNotUsable" : "SecretsRead",
         .message = secrets[0] ? secrets : "The service keys of all instances have been read."},
        {.type = "SomeKeysIgnored",
         .status = ignored[0],
         .reason = ignored[0] ? "NoEffect" : "AllHonoured",
         .message = ignored[0] ? ignored : "Every key that is set has its effect."},
        /* Last, for it is only shown when there is a problem. */
        {.type = "ConnectivityProxyUsable", .status = false, .reason = "NotUsable"},
    };
    const char *onpremise = onpremise_problem(conf->onpremise);
    size_t n_conditions = ARRAY_LEN(conditions) - !onpremise;
    if (onpremise) {
        conditions[n_conditions - 1].message = onpremise;
    }
    bool warning = wrong[0] || secrets[0] || onpremise || conf->remarks.ignored_is_warning;
    set_warning(conf, wrong[0] ? wrong : secrets[0] ? secrets : onpremise);
    return config_status(out, object, warning ? CONFIG_WARNING : CONFIG_READY, conditions,
                         n_conditions, now);
}

static int status_of_other(const char *first, struct json_value object, struct buf *out,
                           const char *now)
{
    char message[512];
    text_fmt(message, sizeof(message),
             "Custom Resource with name \"%s\" already exists in this namespace.", first);
    struct config_condition condition = {
        .type = "Configured", .status = false, .reason = "AlreadyExists", .message = message};
    return config_status(out, object, CONFIG_ERROR, &condition, 1, now);
}

static void write_statuses(struct configuration *conf);

static void on_retry(struct timer *t)
{
    write_statuses(container_of(t, struct configuration, retry));
}

/* What was written comes back as an event; then there is nothing to change any more. */
static void on_written(const struct cluster_answer *answer, void *arg)
{
    struct configuration *conf = arg;
    conf->call = NULL;
    if (answer->result != CLUSTER_DONE) {
        log_line(LOG_WARN, "control", "%s", answer->err.text);
        timer_set(conf->control->loop, &conf->retry, loop_now(conf->control->loop) + STATUS_RETRY,
                  on_retry);
    } else if (conf->again) {
        configuration_look(conf);
    }
}

static void write_status(struct configuration *conf, const struct proxy_object *p,
                         const struct proxy_object *first, const char *now)
{
    struct buf body;
    struct json *doc = json_parse(str_of(p->text), NULL);
    buf_init(&body, STATUS_MAX);
    int rc = p == first ? status_of(conf, json_root(doc), &body, now)
                        : status_of_other(first->stored.name, json_root(doc), &body, now);
    json_free(doc);
    if (rc == OK) {
        struct cluster_request request = {.verb = CLUSTER_PATCH_STATUS,
                                          .kind = &kind_proxy,
                                          .namespace = conf->control->settings.home,
                                          .name = p->stored.name,
                                          .body = buf_str(&body)};
        struct cluster_handler handler = {.done = on_written, .arg = conf};
        conf->call = cluster_call(conf->control->parts.cluster, &request, handler);
    }
    buf_free(&body);
}

static void write_statuses(struct configuration *conf)
{
    const struct proxy_object *first = chosen(conf->control);
    const char *why;
    char now[CONTROL_STAMP_MAX];
    if (!first || !configuration_listed(conf, &why)) {
        return;
    }
    conf->again = conf->call != NULL;
    control_stamp(now, sizeof(now), false);
    LIST_EACH (it, &conf->control->proxies.all) {
        if (!conf->call) {
            write_status(conf, container_of(it, struct proxy_object, stored.link), first, now);
        }
    }
}

/* ---- the face ---- */

static void look(struct task *t)
{
    struct configuration *conf = container_of(t, struct configuration, look);
    if (!conf->control->followers[FOLLOW_PROXIES].listed) {
        return;
    }
    const struct proxy_object *p = chosen(conf->control);
    struct json *doc = p ? json_parse(str_of(p->text), NULL) : NULL;
    read_object(conf, doc ? json_root(doc) : (struct json_value){0});
    json_free(doc);
    write_statuses(conf);
}

void configuration_look(struct configuration *conf)
{
    loop_soon(conf->control->loop, &conf->look, look);
}

const struct config *configuration_config(const struct configuration *conf)
{
    return conf->config;
}

bool configuration_listed(const struct configuration *conf, const char **why)
{
    *why = "the configuration";
    if (!conf->config) {
        return false;
    }
    LIST_EACH (it, &conf->instances) {
        if (!container_of(it, struct instance, link)->listed) {
            *why = "Secrets";
            return false;
        }
    }
    return onpremise_listed(conf->onpremise, why);
}

const char *configuration_warning(const struct configuration *conf)
{
    return conf->warning;
}

struct configuration *configuration_new(struct control *control)
{
    struct configuration *conf = mem_zalloc(sizeof(*conf));
    conf->control = control;
    conf->onpremise = onpremise_new(control);
    task_init(&conf->look);
    list_init(&conf->instances);
    return conf;
}

void configuration_stop(struct configuration *conf)
{
    struct control *c = conf->control;
    task_cancel(&conf->look);
    onpremise_stop(conf->onpremise);
    timer_cancel(c->loop, &conf->retry);
    cluster_cancel(c->parts.cluster, conf->call);
    conf->call = NULL;
    LIST_EACH (it, &conf->instances) {
        struct instance *in = container_of(it, struct instance, link);
        cluster_unwatch(c->parts.cluster, in->watch);
        in->watch = NULL;
    }
}

void configuration_free(struct configuration *conf)
{
    LIST_EACH (it, &conf->instances) {
        instance_free(container_of(it, struct instance, link));
    }
    onpremise_free(conf->onpremise);
    config_free(conf->config);
    free(conf->warning);
    free(conf);
}
