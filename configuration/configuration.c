/* Decides which configuration is in force, brings it to those who need it, and says what the status
 * of its TransparentProxy object has to show.
 *
 *   TransparentProxy objects --.
 *   discovery -----------------+--> decide (a task)
 *   ConfigMap of the last one -'      |
 *                                     +--> the oldest object is read (config_new)
 *                                     |      it is good  --> adopt
 *                                     |      it is wrong --> the one in force stays
 *                                     |
 *                                     +--> none is in force, and no object can be: at the start
 *                                     |      the ConfigMap has one     --> adopt it
 *                                     |      there never was an object --> adopt the defaults
 *                                     |      otherwise                 --> nothing is decided
 *                                     |
 *                                     +--> the object in force was deleted: the configuration
 *                                     |      stays; after a while without another object the
 *                                     |      instances are forgotten, and nothing else
 *                                     |
 *                                     '--> status of each object: Processing after a change,
 *                                          until all that it concerns has followed
 *
 *   adopt         --> timeouts, instances, certificates, Connectivity Proxy, handler;
 *                     the configuration is kept in the ConfigMap
 *   instance      --> credentials --> service key --> dest_set_instance, handler
 *   additionalCAs --> certificates for every TLS client, handler */
#include "configuration/configuration.h"

#include <stdlib.h>
#include <string.h>

#include "configuration/additional_cas.h"
#include "configuration/config.h"
#include "configuration/credentials.h"
#include "configuration/discovery.h"
#include "configuration/last_config.h"
#include "configuration/onpremise.h"
#include "configuration/proxy_objects.h"
#include "configuration/proxy_status.h"
#include "dest.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/mem.h"
#include "lib/stamp.h"
#include "oauth.h"

/* A Destination service instance. */
struct instance {
    struct list link;
    struct configuration *configuration;
    char *name;
    struct credentials *credentials; /* NULL after configuration_stop */
};

struct configuration {
    struct configuration_settings set;
    struct configuration_handler handler;
    struct proxy_objects *objects;
    struct task decide;
    struct config *config;         /* in force; NULL: none is */
    char *object;                  /* name of its TransparentProxy object; NULL: there was none */
    char since[CONFIG_SINCE_SIZE]; /* the time when it came into force */
    bool read;                     /* an object has been read; if so: */
    uint64_t digest;               /*   digest of its spec */
    struct config_remarks remarks; /*   remarks about it */

    bool leads;               /* this process writes */
    struct last_config *last; /* NULL in local mode: the files are still there at the next start */
    bool last_news; /* the ConfigMap has changed, and has not been compared with what is in force */
    bool keep_due;  /* the configuration in force has to be stored for the next start */
    bool undecided; /* no configuration can be in force until somebody changes something */
    bool gone;      /* the object in force was deleted */
    bool told_gone; /* and people have been told */
    bool kind_away; /* the kind is missing, so it is not known which objects exist */
    int64_t gone_until; /* its instances are forgotten then */
    struct timer grace;

    struct list instances;
    struct discovery *discovery;           /* NULL in local mode */
    struct additional_cas *additional_cas; /* NULL: none are configured */
    struct onpremise *onpremise;
    bool no_default; /* the default instance does not exist; this has been logged */
    char *warning;   /* see configuration_warning */
};

/* ---- instances ---- */

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

const char *configuration_default_instance(const struct configuration *conf)
{
    const char *configured = conf->config->default_instance;
    const struct instance *usual = configured ? NULL : find_instance(conf, CONFIG_DEFAULT_INSTANCE);
    return usual ? usual->name : configured;
}

/* The key of the instance has changed, or its problem has. */
static void on_credentials(void *arg)
{
    struct instance *in = arg;
    struct configuration *conf = in->configuration;
    dest_set_instance(conf->set.dest, in->name, credentials_key(in->credentials),
                      credentials_problem(in->credentials));
    configuration_decide_soon(conf);
    conf->handler.instance_changed(in->name, conf->handler.arg);
}

static void follow_credentials(struct instance *in, const struct config_credentials *where)
{
    char whose[CONFIG_NAME_MAX + 16];
    struct credentials_handler handler = {.changed = on_credentials, .arg = in};
    text_fmt(whose, sizeof(whose), "instance %s", in->name);
    credentials_free(in->credentials);
    in->credentials = credentials_new(in->configuration->set.cluster, where,
                                      SERVICE_KEY_DESTINATION, whose, handler);
}

static void instance_free(struct instance *in)
{
    credentials_free(in->credentials);
    list_remove(&in->link);
    free(in->name);
    free(in);
}

static void add_instance(struct configuration *conf, const struct config_instance *wanted)
{
    struct instance *in = mem_zalloc(sizeof(*in));
    in->configuration = conf;
    in->name = mem_strdup(wanted->name);
    list_append(&conf->instances, &in->link);
    follow_credentials(in, &wanted->credentials);
}

static const struct config_instance *named(const struct config_instance *instances, size_t n,
                                           const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(instances[i].name, name) == 0) {
            return &instances[i];
        }
    }
    return NULL;
}

/* Adds the instances that are missing. Returns whether one was added. */
static bool add_instances(struct configuration *conf, const struct config_instance *wanted,
                          size_t n)
{
    bool news = false;
    for (size_t i = 0; i < n; i++) {
        if (!find_instance(conf, wanted[i].name)) {
            add_instance(conf, &wanted[i]);
            news = true;
        }
    }
    return news;
}

/* Adds and removes instances. A configured instance wins over a discovered one of the same name. An
 * instance that stays keeps its key, at least until another Secret of it has been read. Returns
 * whether an instance was added or removed. */
static bool set_instances(struct configuration *conf)
{
    const struct config *config = conf->config;
    const struct config_instance *found = NULL;
    size_t n_found = 0;
    bool news = false;
    if (conf->discovery) {
        found = discovery_instances(conf->discovery, &n_found);
    }
    LIST_EACH (it, &conf->instances) {
        struct instance *in = container_of(it, struct instance, link);
        const struct config_instance *wanted =
            named(config->instances, config->n_instances, in->name);
        wanted = wanted ? wanted : named(found, n_found, in->name);
        if (!wanted) {
            dest_set_instance(conf->set.dest, in->name, NULL, NULL);
            instance_free(in);
            news = true;
        } else if (!credentials_follow(in->credentials, &wanted->credentials)) {
            follow_credentials(in, &wanted->credentials);
        }
    }
    news |= add_instances(conf, config->instances, config->n_instances);
    news |= add_instances(conf, found, n_found);
    return news;
}

static void on_discovery(void *arg)
{
    configuration_decide_soon(arg);
}

/* ---- certificates ---- */

static void trust(struct configuration *conf, struct tls_roots *roots)
{
    dest_set_roots(conf->set.dest, roots);
    oauth_set_roots(conf->set.oauth, roots);
    conf->handler.trusted(roots, conf->handler.arg);
}

static void on_additional_cas(bool other_roots, void *arg)
{
    struct configuration *conf = arg;
    if (other_roots) {
        trust(conf, additional_cas_roots(conf->additional_cas));
    }
    configuration_decide_soon(conf);
    conf->handler.listed(conf->handler.arg);
}

/* Follows the configured certificates. The last ones are trusted until others have been read. */
static void set_additional_cas(struct configuration *conf)
{
    const struct config_secret *where = conf->config->additional_cas;
    struct additional_cas *old = conf->additional_cas;
    if (where && old && additional_cas_follow(old, where)) {
        return;
    }
    additional_cas_free(old);
    conf->additional_cas = NULL;
    if (where) {
        struct additional_cas_handler handler = {.changed = on_additional_cas, .arg = conf};
        conf->additional_cas =
            additional_cas_new(conf->set.cluster, where, conf->set.roots, handler);
    } else if (old) {
        trust(conf, conf->set.roots);
    }
}

/* ---- on-premise systems ---- */

static void on_onpremise(bool other_way, void *arg)
{
    struct configuration *conf = arg;
    configuration_decide_soon(conf); /* the status may have to show another problem */
    conf->handler.listed(conf->handler.arg);
    if (other_way) {
        conf->handler.read_again(conf->handler.arg);
    }
}

/* ---- the TransparentProxy objects ---- */

static void on_objects(void *arg)
{
    configuration_decide_soon(arg);
}

static void on_objects_listed(void *arg)
{
    struct configuration *conf = arg;
    conf->handler.listed(conf->handler.arg);
}

static void on_contest(const char *reason, const char *note, void *arg)
{
    struct configuration *conf = arg;
    conf->handler.tell(reason, note, conf->handler.arg);
}

/* Puts a configuration into force. Takes ownership of `config`; `object` and `since` are copied. */
static void adopt(struct configuration *conf, struct config *config, const char *object,
                  const char *since)
{
    struct config *last = conf->config;
    char *name = object ? mem_strdup(object) : NULL;
    free(conf->object);
    conf->object = name;
    text_fmt(conf->since, sizeof(conf->since), "%s", since);
    conf->config = config;
    conf->keep_due = true;
    conf->last_news = false;
    conf->undecided = false;
    dest_set_timeouts(conf->set.dest, config->connect_timeout, config->read_timeout);
    oauth_set_timeouts(conf->set.oauth, config->connect_timeout, config->read_timeout);
    set_instances(conf);
    set_additional_cas(conf);
    onpremise_configure(conf->onpremise, config);
    conf->handler.changed(config, conf->handler.arg);
    config_free(last);
}

static void adopt_now(struct configuration *conf, struct config *config, const char *object)
{
    char now[STAMP_SIZE];
    stamp_now(now);
    adopt(conf, config, object, now);
}

static void adopt_defaults(struct configuration *conf)
{
    struct config_remarks none;
    struct json_value nothing = {0};
    adopt_now(conf, config_new(nothing, conf->set.home, &none), NULL);
}

/* Reads the object, unless it has been read already. Puts it into force if it has no mistake. */
static void read_object(struct configuration *conf, const char *name, struct json_value object)
{
    uint64_t digest = json_digest(json_get(object, "spec"));
    bool wrong = conf->remarks.n_complaints > 0;
    conf->gone = false;
    if (conf->read && digest == conf->digest &&
        (wrong || (conf->object && strcmp(conf->object, name) == 0))) {
        return;
    }
    struct config *config = config_new(object, conf->set.home, &conf->remarks);
    conf->read = true;
    conf->digest = digest;
    for (size_t i = 0; i < conf->remarks.n_complaints; i++) {
        log_line(LOG_WARN, "control", "TransparentProxy: %s", conf->remarks.complaints[i]);
    }
    if (config) {
        adopt_now(conf, config, name);
    }
}

/* ---- what stays in force ---- */

/* Stores the configuration in force for the next start. If the ConfigMap has the same configuration
 * already, the time in the ConfigMap stays. */
static void keep(struct configuration *conf)
{
    struct config_record record = {.config = conf->config, .object = conf->object}, kept;
    struct error err;
    if (!conf->keep_due || !conf->leads || !conf->last || !last_config_listed(conf->last)) {
        return;
    }
    conf->keep_due = conf->last_news = false;
    if (last_config_read(conf->last, &kept, &err) == LAST_CONFIG_GOOD) {
        if (config_record_same(&record, &kept)) {
            text_fmt(conf->since, sizeof(conf->since), "%s", kept.since);
        }
        config_record_clear(&kept);
    }
    text_fmt(record.since, sizeof(record.since), "%s", conf->since);
    last_config_keep(conf->last, &record);
}

/* Another process that leads may have seen a good object that this one has not seen. What it has
 * kept counts as long as there is no good object. `good`: there is one, and it is in force. */
static void follow_last(struct configuration *conf, bool good)
{
    struct config_record own = {.config = conf->config, .object = conf->object}, kept;
    struct error err;
    if (!conf->last_news || !last_config_listed(conf->last)) {
        return;
    }
    conf->last_news = false;
    if (last_config_read(conf->last, &kept, &err) != LAST_CONFIG_GOOD) {
        return;
    }
    if (config_record_same(&own, &kept)) {
        text_fmt(conf->since, sizeof(conf->since), "%s", kept.since);
    } else if (strcmp(kept.since, conf->since) < 0) {
        log_line(LOG_DEBUG, "control", "configuration: the one that is kept, of %s, is older",
                 kept.since);
    } else if (good) {
        conf->last_news = true; /* it counts when the object is changed to one with a mistake */
    } else {
        log_line(LOG_INFO, "control", "configuration: the one that is kept, of %s, is in force",
                 kept.since);
        adopt(conf, kept.config, kept.object, kept.since);
        kept.config = NULL;
    }
    config_record_clear(&kept);
}

static void set_warning(struct configuration *conf, const char *text);

/* Reports a sentence in /status, and once in the log. */
static void warn(struct configuration *conf, const char *text)
{
    if (!conf->warning || strcmp(conf->warning, text) != 0) {
        log_line(LOG_WARN, "control", "configuration: %s", text);
        set_warning(conf, text);
    }
}

/* The defaults are only for installations that never had a configuration: they manage all
 * namespaces and know no tenants. */
static void choose_defaults(struct configuration *conf)
{
    char text[512];
    if (!proxy_objects_known(conf->objects)) {
        return; /* there may be an object */
    }
    switch (conf->handler.past(conf->handler.arg)) {
    case CONFIGURATION_PAST_UNKNOWN:
        break;
    case CONFIGURATION_PAST_NONE:
        adopt_defaults(conf);
        break;
    case CONFIGURATION_PAST_SERVED:
        conf->undecided = true;
        text_fmt(text, sizeof(text),
                 "There is no TransparentProxy object in the namespace %s, but there are Services "
                 "of this installation: nothing is decided. Apply the object; an empty spec gives "
                 "the defaults.",
                 conf->set.home);
        warn(conf, text);
        break;
    }
}

/* No configuration is in force, and no object can be: restores the one from before the restart. */
static void restore_last(struct configuration *conf, const struct proxy_object *object)
{
    struct config_record record;
    struct error err;
    char text[FAIL_TEXT_MAX + 256];
    if (!conf->last) {
        conf->undecided = object;
        return;
    }
    switch (last_config_read(conf->last, &record, &err)) {
    case LAST_CONFIG_UNKNOWN:
        conf->undecided = object && last_config_listed(conf->last);
        break;
    case LAST_CONFIG_NONE:
        conf->undecided = object;
        if (!object) {
            choose_defaults(conf);
        }
        break;
    case LAST_CONFIG_WRONG:
        conf->undecided = true;
        text_fmt(text, sizeof(text),
                 "The last configuration, in the ConfigMap " LAST_CONFIG_NAME " of the namespace "
                 "%s, cannot be read (%s): nothing is decided until there is a TransparentProxy "
                 "object without mistakes.",
                 conf->set.home, err.text);
        warn(conf, text);
        break;
    case LAST_CONFIG_GOOD:
        log_line(LOG_INFO, "control", "configuration: the last good one, of %s, is in force",
                 record.since);
        adopt(conf, record.config, record.object, record.since);
        record.config = NULL;
        config_record_clear(&record);
        break;
    }
}

static void on_grace_over(struct timer *t)
{
    t->due = 0;
    configuration_decide_soon(container_of(t, struct configuration, grace));
}

/* The object stays deleted: forgets the instances, and with them their keys. Only an object can
 * change which tenants and namespaces are served. */
static void forget_instances(struct configuration *conf)
{
    struct config_record record = {.config = conf->config}, copy;
    struct error err;
    struct buf text;
    buf_init(&text, CONFIG_RECORD_MAX);
    int rc = config_record_put(&text, &record);
    rc = rc == OK ? config_record_parse(&copy, buf_str(&text), conf->set.home, &err) : ERR;
    buf_free(&text);
    if (rc != OK) {
        return; /* too long for a record: keep everything as it is */
    }
    log_line(LOG_WARN, "control",
             "configuration: there is no TransparentProxy object any more; "
             "the instances that it named are forgotten");
    config_drop_credentials(copy.config);
    adopt_now(conf, copy.config, NULL);
    copy.config = NULL;
    config_record_clear(&copy);
}

/* The object in force was deleted. Usually it is applied again soon, so its configuration stays in
 * force for a while. */
static void wait_for_object(struct configuration *conf)
{
    char text[512];
    bool first = !conf->gone, away = proxy_objects_away(conf->objects);
    bool begins = first || away || conf->kind_away;
    conf->kind_away = away;
    if (begins) {
        conf->gone = true;
        conf->told_gone &= !first;
        conf->gone_until = loop_now(conf->set.loop) + CONFIGURATION_GRACE;
        timer_set(conf->set.loop, &conf->grace, conf->gone_until, on_grace_over);
    } else if (loop_now(conf->set.loop) >= conf->gone_until) {
        conf->gone = conf->read = false;
        forget_instances(conf);
        set_warning(conf, NULL);
        return;
    }
    text_fmt(text, sizeof(text),
             "The TransparentProxy object \"%s\" was deleted. Its configuration, of %s, stays in "
             "force for %d seconds; without another object by then, its instances are forgotten.",
             conf->object, conf->since, (int)(CONFIGURATION_GRACE / SECONDS(1)));
    warn(conf, text);
    if (conf->leads && !conf->told_gone) {
        conf->told_gone = true;
        conf->handler.tell("ConfigurationDeleted", text, conf->handler.arg);
    }
}

/* In local mode the defaults replace the configuration of a deleted file at once. */
static void without_file(struct configuration *conf)
{
    if (!conf->config || conf->object) {
        conf->read = false;
        adopt_defaults(conf);
    }
    set_warning(conf, NULL);
}

/* Decides what is in force while there is no object. */
static void without_object(struct configuration *conf)
{
    char text[256];
    if (!conf->set.in_cluster) {
        without_file(conf);
    } else if (!conf->config) {
        return; /* restore_last has reported why */
    } else if (!proxy_objects_known(conf->objects)) {
        text_fmt(text, sizeof(text),
                 "The TransparentProxy objects cannot be listed; the last good configuration, of "
                 "%s, is in force.",
                 conf->since);
        warn(conf, text);
    } else if (conf->object) {
        wait_for_object(conf);
    } else {
        set_warning(conf, last_config_problem(conf->last));
    }
}

/* ---- status ---- */

/* Complains when the default instance does not exist. This is checked for each status, because
 * discovered instances come and go. */
static void check_default(struct configuration *conf, struct proxy_sentences *out)
{
    const char *name = conf->config->default_instance;
    char text[CONFIG_NAME_MAX + 256], shown[CONFIG_NAME_MAX + 1];
    bool missing = name && !find_instance(conf, name);
    if (missing) {
        text_fmt(
            text, sizeof(text),
            "spec.config.integration.destinationService.defaultInstanceName is \"%s\"; it must "
            "be the name of one of the instances.",
            text_printable(shown, sizeof(shown), str_of(name)));
        proxy_status_add(out, text);
        if (!conf->no_default) {
            log_line(LOG_WARN, "control", "TransparentProxy: %s", text);
        }
    }
    conf->no_default = missing;
}

static void put_complaints(struct configuration *conf, struct proxy_sentences *out)
{
    char text[128];
    for (size_t i = 0; i < conf->remarks.n_complaints; i++) {
        proxy_status_add(out, conf->remarks.complaints[i]);
    }
    if (conf->config && conf->remarks.n_complaints) {
        text_fmt(text, sizeof(text), "The last good configuration, of %s, stays in force.",
                 conf->since);
        proxy_status_add(out, text);
    } else if (!conf->config) {
        proxy_status_add(out, "No configuration is in force, and nothing is decided until this is "
                              "corrected.");
    }
    if (conf->config) {
        check_default(conf, out);
    }
    if (conf->last && last_config_problem(conf->last)) {
        proxy_status_add(out, last_config_problem(conf->last));
    }
}

static void put_secret_problems(const struct configuration *conf, struct proxy_sentences *out)
{
    LIST_EACH (it, &conf->instances) {
        const char *problem =
            credentials_problem(container_of(it, struct instance, link)->credentials);
        if (problem) {
            proxy_status_add(out, problem);
        }
    }
    const char *no_certificates =
        conf->additional_cas ? additional_cas_problem(conf->additional_cas) : NULL;
    if (no_certificates) {
        proxy_status_add(out, no_certificates);
    }
    /* In local mode, all destinations may come from files. */
    if (list_empty(&conf->instances) && conf->set.cluster_rules) {
        char text[512];
        text_fmt(text, sizeof(text),
                 "Provide at least one Destination service instance in "
                 "config.integration.destinationService.instances, or create and bind an instance "
                 "in the %s namespace using the SAP BTP Service Operator.",
                 conf->set.home);
        proxy_status_add(out, text);
    }
}

static void set_warning(struct configuration *conf, const char *text)
{
    free(conf->warning);
    conf->warning = text && text[0] ? mem_strdup(text) : NULL;
}

/* Fills the status of the oldest object. */
static void put_status(struct configuration *conf, struct proxy_status *status)
{
    const struct config_remarks *remarks = &conf->remarks;
    put_complaints(conf, &status->wrong);
    for (size_t i = 0; i < remarks->n_ignored; i++) {
        proxy_status_add(&status->ignored, remarks->ignored[i]);
    }
    status->ignored_is_warning = remarks->ignored_is_warning;
    status->in_force = conf->config;
    status->not_kept = !remarks->n_complaints && !conf->no_default && conf->last &&
                       last_config_problem(conf->last);
    if (conf->config) {
        put_secret_problems(conf, &status->secrets);
        status->onpremise = onpremise_problem(conf->onpremise);
    }
}

/* Tells whether everything that the statuses show is known. Instances that may yet be discovered
 * matter only when one is missing. */
static bool knows_all(const struct configuration *conf)
{
    const char *why, *name = conf->config ? conf->config->default_instance : NULL;
    bool missing = list_empty(&conf->instances) || (name && !find_instance(conf, name));
    return configuration_listed(conf, &why) && (!missing || configuration_knows_instances(conf));
}

static void write_statuses(struct configuration *conf)
{
    struct proxy_status status = {.known = conf->undecided || knows_all(conf)};
    bool good = conf->config && !conf->remarks.n_complaints;
    if (!proxy_objects_oldest(conf->objects)) {
        return;
    }
    status.processing = good && (!status.known || !conf->handler.applied(conf->handler.arg));
    if (status.known) {
        put_status(conf, &status);
        set_warning(conf, proxy_status_warning(&status));
    }
    if (conf->leads && (status.known || status.processing)) {
        proxy_objects_write(conf->objects, &status);
    }
}

/* ---- the face ---- */

static void decide(struct task *t)
{
    struct configuration *conf = container_of(t, struct configuration, decide);
    if (!proxy_objects_listed(conf->objects)) {
        return;
    }
    bool knew_instances = configuration_knows_instances(conf);
    const struct proxy_object *p = proxy_objects_oldest(conf->objects);
    if (p) {
        struct json *doc = json_parse_cut(str_of(p->text), NULL);
        read_object(conf, p->stored.name, json_root(doc));
        json_free(doc);
    }
    if (!conf->config) {
        restore_last(conf, p);
    } else {
        follow_last(conf, p && !conf->remarks.n_complaints);
    }
    keep(conf);
    if (!p) {
        without_object(conf);
        keep(conf);
    }
    if (conf->config && set_instances(conf)) {
        conf->handler.read_again(conf->handler.arg);
    }
    if (!knew_instances && configuration_knows_instances(conf)) {
        conf->handler.listed(conf->handler.arg);
    }
    write_statuses(conf);
}

void configuration_decide_soon(struct configuration *conf)
{
    loop_soon(conf->set.loop, &conf->decide, decide);
}

const char *configuration_object(const struct configuration *conf)
{
    return conf->object;
}

const char *configuration_object_uid(const struct configuration *conf)
{
    return conf->object ? proxy_objects_uid(conf->objects, conf->object) : "";
}

bool configuration_listed(const struct configuration *conf, const char **why)
{
    *why = "TransparentProxy objects";
    if (!proxy_objects_listed(conf->objects) ||
        (!conf->config && !proxy_objects_known(conf->objects))) {
        return false;
    }
    *why = "the configuration";
    if (!conf->config) {
        return false;
    }
    *why = "Secrets";
    LIST_EACH (it, &conf->instances) {
        if (!credentials_listed(container_of(it, struct instance, link)->credentials)) {
            return false;
        }
    }
    if (conf->additional_cas && !additional_cas_listed(conf->additional_cas)) {
        return false;
    }
    return onpremise_decided(conf->onpremise, why);
}

bool configuration_knows_instances(const struct configuration *conf)
{
    return !conf->discovery || discovery_is_told(conf->discovery);
}

const char *configuration_warning(const struct configuration *conf)
{
    return conf->warning;
}

/* ---- life ---- */

static void on_last_config(void *arg)
{
    struct configuration *conf = arg;
    conf->last_news = !conf->leads || conf->keep_due; /* otherwise we have written it */
    configuration_decide_soon(conf);
    if (!conf->leads) {
        conf->handler.listed(conf->handler.arg);
    }
}

struct configuration *configuration_new(const struct configuration_settings *settings,
                                        struct configuration_handler handler)
{
    struct configuration *conf = mem_zalloc(sizeof(*conf));
    conf->set = *settings;
    conf->handler = handler;
    conf->leads = !settings->in_cluster;
    conf->onpremise =
        onpremise_new(&(struct onpremise_settings){.loop = settings->loop,
                                                   .cluster = settings->cluster,
                                                   .connectivity = settings->connectivity,
                                                   .home = settings->home,
                                                   .domain = settings->domain,
                                                   .in_cluster = settings->in_cluster,
                                                   .changed = on_onpremise,
                                                   .arg = conf});
    task_init(&conf->decide);
    list_init(&conf->instances);
    if (settings->in_cluster) {
        struct discovery_handler found = {.changed = on_discovery, .arg = conf};
        struct last_config_handler kept = {.changed = on_last_config, .arg = conf};
        conf->discovery = discovery_new(settings->cluster, settings->home, found);
        conf->last = last_config_new(settings->loop, settings->cluster, settings->home, kept);
    }
    conf->objects = proxy_objects_new(
        settings->loop, settings->cluster, settings->home,
        (struct proxy_objects_handler){
            .changed = on_objects, .listed = on_objects_listed, .tell = on_contest, .arg = conf});
    return conf;
}

void configuration_list_again(struct configuration *conf)
{
    last_config_lead(conf->last, true);
}

bool configuration_is_fresh(const struct configuration *conf)
{
    return last_config_listed(conf->last);
}

void configuration_lead(struct configuration *conf, bool leads)
{
    conf->leads = leads;
    conf->told_gone = false;
    conf->keep_due = conf->config != NULL;
    if (!leads) {
        proxy_objects_give_up(conf->objects);
        last_config_lead(conf->last, false);
    }
    configuration_decide_soon(conf);
}

void configuration_stop(struct configuration *conf)
{
    proxy_objects_stop(conf->objects);
    task_cancel(&conf->decide);
    onpremise_stop(conf->onpremise);
    timer_cancel(conf->set.loop, &conf->grace);
    last_config_free(conf->last);
    conf->last = NULL;
    LIST_EACH (it, &conf->instances) {
        struct instance *in = container_of(it, struct instance, link);
        credentials_free(in->credentials);
        in->credentials = NULL;
    }
    discovery_free(conf->discovery);
    conf->discovery = NULL;
    additional_cas_free(conf->additional_cas);
    conf->additional_cas = NULL;
}

void configuration_free(struct configuration *conf)
{
    LIST_EACH (it, &conf->instances) {
        instance_free(container_of(it, struct instance, link));
    }
    proxy_objects_free(conf->objects);
    onpremise_free(conf->onpremise);
    config_free(conf->config);
    free(conf->object);
    free(conf->warning);
    free(conf);
}
