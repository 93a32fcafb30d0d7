/* Turns a TransparentProxy object into the configuration. Every value is checked here, because the
 * CRD checks only types, and no CRD checks the files of local mode. */
#include "configuration/config.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/custom_resource.h"
#include "lib/mem.h"
#include "lib/text.h"

#define DESTINATION_SERVICE "config.integration.destinationService"
#define CONNECTIVITY_PROXY "config.integration.connectivityProxy"

/* Defaults for the Connectivity Proxy. */
#define PROXY_TIMEOUT SECONDS(1)
enum { PROXY_PORT = 20004 };

/* The spec or an instance, from which members are read, with its name in messages. */
struct place {
    struct json_value value;
    char name[128];
};

/* The state of one config_new. */
struct reader {
    struct config *config;
    struct config_remarks *remarks;
    const char *home;
    size_t complaints, ignored; /* numbers of lines, with those for which there was no room */
    struct place spec;
    char shown[100]; /* a value in a message */
};

/* ---- remarks ---- */

/* Adds the text as a sentence and counts it in *total, unless it is there already. */
static void add_line(char lines[][CONFIG_COMPLAINT_SIZE], size_t *n, size_t *total,
                     const char *text)
{
    char line[CONFIG_COMPLAINT_SIZE];
    text_printable(line, sizeof(line) - 1, str_of(text));
    size_t end = strlen(line);
    if (end == 0 || line[end - 1] != '.') {
        memcpy(line + end, ".", 2);
    }
    for (size_t i = 0; i < *n; i++) {
        if (strcmp(lines[i], line) == 0) {
            return;
        }
    }
    ++*total;
    if (*n < CONFIG_COMPLAINTS_MAX) {
        text_fmt(lines[(*n)++], sizeof(line), "%s", line);
    } else {
        text_fmt(lines[CONFIG_COMPLAINTS_MAX - 1], CONFIG_COMPLAINT_SIZE, "And %zu more.",
                 *total - CONFIG_COMPLAINTS_MAX + 1);
    }
}

static void complain(struct reader *r, const char *fmt, ...) printf_like(2, 3);

static void complain(struct reader *r, const char *fmt, ...)
{
    char text[CONFIG_COMPLAINT_SIZE];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    add_line(r->remarks->complaints, &r->remarks->n_complaints, &r->complaints, text);
}

static bool is_container(struct json_value v)
{
    return json_type(v) == JSON_OBJECT || json_type(v) == JSON_ARRAY;
}

/* Returns the JSON text of a value, or the type of an object or array. Do not call it for a value
 * in the place of an object or for a value that is too long: it may be a pasted service key. */
static const char *show(struct reader *r, struct json_value v)
{
    return is_container(v) ? json_type_name(json_type(v))
                           : text_printable(r->shown, sizeof(r->shown), json_text(v));
}

/* ---- values ---- */

/* Returns the value at a path ("config.manager") below a place. Returns JSON_NONE when the value is
 * absent or null. */
static struct json_value at(struct reader *r, const struct place *place, const char *path)
{
    struct json_value v = place->value;
    struct str rest = str_of(path);
    while (rest.n) {
        struct str part = str_cut(&rest, '.');
        char name[64];
        if (json_given(v) && json_type(v) != JSON_OBJECT) {
            int before = part.p > path ? (int)(part.p - path) - 1 : 0;
            complain(r, "%s%s%.*s is %s; it must be an object", place->name, before ? "." : "",
                     before, path, json_type_name(json_type(v)));
            return (struct json_value){0};
        }
        text_fmt(name, sizeof(name), "%.*s", STR_ARG(part));
        v = json_get(v, name);
    }
    return json_given(v) ? v : (struct json_value){0};
}

/* Returns the string at a path, which the caller frees. Returns NULL when it is absent, empty or
 * wrong; a complaint says what is wrong. */
static char *string_at(struct reader *r, const struct place *place, const char *path)
{
    struct json_value v = at(r, place, path);
    size_t n;
    if (!json_exists(v)) {
        return NULL;
    }
    char *text = json_strdup(v, &n);
    if (text && n > 0 && n <= CONFIG_NAME_MAX && !text_has_control((struct str){text, n})) {
        return text;
    }
    if (!text) {
        complain(r, "%s.%s is %s; it must be a string", place->name, path, show(r, v));
    } else if (n > 0) {
        complain(r, "%s.%s has %zu octets; it must be one line of at most %d", place->name, path, n,
                 CONFIG_NAME_MAX);
    }
    free(text);
    return NULL;
}

bool config_is_object_name(const char *name)
{
    return name[0] && strlen(name) <= CONFIG_NAME_MAX &&
           !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.")];
}

/* Does the same as string_at for the name of an object in the cluster. */
static char *object_name_at(struct reader *r, const struct place *place, const char *path)
{
    char *text = string_at(r, place, path);
    if (text && !config_is_object_name(text)) {
        complain(r, "%s.%s is %s; it must be a name of lower-case letters, digits, '-' and '.'",
                 place->name, path, show(r, at(r, place, path)));
        free(text);
        text = NULL;
    }
    return text;
}

static int64_t number_at(struct reader *r, const char *path, int64_t min, int64_t max,
                         int64_t otherwise)
{
    struct json_value v = at(r, &r->spec, path);
    int64_t number = otherwise;
    if (json_exists(v) && (json_int64(v, &number) < 0 || number < min || number > max)) {
        complain(r, "spec.%s is %s; it must be a number from %lld to %lld", path, show(r, v),
                 (long long)min, (long long)max);
    }
    return number;
}

static bool flag_at(struct reader *r, const char *path, bool otherwise)
{
    struct json_value v = at(r, &r->spec, path);
    bool flag = otherwise;
    if (json_exists(v) && json_bool(v, &flag) < 0) {
        complain(r, "spec.%s is %s; it must be true or false", path, show(r, v));
    }
    return flag;
}

/* Tells whether the value is the second of two words. An absent value counts as the first one. */
static bool choice_at(struct reader *r, const char *path, const char *first, const char *second)
{
    struct json_value v = at(r, &r->spec, path);
    if (json_exists(v) && !json_is(v, first) && !json_is(v, second)) {
        complain(r, "spec.%s is %s; it must be \"%s\" or \"%s\"", path, show(r, v), first, second);
    }
    return json_is(v, second);
}

static const char *log_level_at(struct reader *r, const char *path)
{
    static const char *const names[] = {"trace", "debug", "info", "warn", "error", "fatal"};
    struct json_value v = at(r, &r->spec, path);
    char *text = json_strdup(v, NULL);
    const char *found = NULL;
    for (size_t i = 0; text && i < ARRAY_LEN(names); i++) {
        if (text_ieq(text, names[i])) {
            found = names[i];
        }
    }
    if (json_exists(v) && !found) {
        complain(r, "spec.%s is %s; it must be trace, debug, info, warn, error or fatal", path,
                 show(r, v));
    }
    free(text);
    return found;
}

/* ---- keys without effect ---- */

/* Adds a remark about a value that is there, unless it equals `same` (JSON), which is our behaviour
 * anyway. */
static void ignore(struct reader *r, const struct place *place, const char *path, const char *same)
{
    char line[CONFIG_COMPLAINT_SIZE];
    struct json_value v = at(r, place, path);
    bool container = is_container(v);
    bool empty = container ? !json_exists(json_first(v)) : !json_exists(v) || json_is(v, "");
    if (empty || (same && str_eq(json_text(v), same))) {
        return;
    }
    text_fmt(line, sizeof(line), "%s.%s%s%s has no effect here", place->name, path,
             container ? "" : ": ", container ? "" : show(r, v));
    add_line(r->remarks->ignored, &r->remarks->n_ignored, &r->ignored, line);
}

static void read_ignored(struct reader *r)
{
    static const struct {
        const char *path;
        const char *same; /* our behaviour, or SAP's default for a feature that we do not have */
    } rows[] = {
        {"compliance.fipsModeEnabled", "false"},
        {"config.http.retry", NULL},
        {"config.metering.enabled", "false"},
        {"config.security.communication.internal.encryptionEnabled", "false"},
        {"config.security.communication.internal.certManager", NULL},
        {"config.integration.serviceMesh.istio.istio-injection", "\"disabled\""},
        {"config.integration.ztis.socketPath", NULL},
        {CONNECTIVITY_PROXY ".httpPort", "20003"},
        {CONNECTIVITY_PROXY ".servicePort", "20003"},
        {CONNECTIVITY_PROXY ".type", NULL},
        {"deployment.autoscaling.http.horizontal.enabled", "false"},
        {"deployment.autoscaling.http.vertical.enabled", "false"},
        {"deployment.autoscaling.tcp.horizontal.enabled", "false"},
        {"deployment.autoscaling.tcp.vertical.enabled", "false"},
        {"deployment.image", NULL},
        {"deployment.priority.value", "0"},
        {"deployment.replicas.http", "1"},
        {"deployment.replicas.tcp", "1"},
        {"deployment.resources", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        ignore(r, &r->spec, rows[i].path, rows[i].same);
    }
    r->remarks->ignored_is_warning = flag_at(r, "compliance.fipsModeEnabled", false);
}

/* ---- Secrets ---- */

static char *or_default(char *text, const char *otherwise)
{
    return text ? text : mem_strdup(otherwise);
}

/* Reads the members secretName, secretNamespace and `entry` of the object at `path`. */
static struct config_secret read_secret(struct reader *r, const struct place *place,
                                        const char *path, const char *entry,
                                        const struct config_secret *defaults)
{
    struct place secret = {.value = at(r, place, path)};
    text_fmt(secret.name, sizeof(secret.name), "%s.%s", place->name, path);
    return (struct config_secret){
        .name = or_default(object_name_at(r, &secret, "secretName"), defaults->name),
        .namespace = or_default(object_name_at(r, &secret, "secretNamespace"), r->home),
        .key = or_default(string_at(r, &secret, entry), defaults->key),
    };
}

/* Reads the member serviceCredentials. The caller checks whether its secretName is missing. */
static struct config_credentials read_credentials(struct reader *r, const struct place *place)
{
    static const struct config_secret service_key = {.name = CONFIG_DEFAULT_SECRET, .key = ""};
    static const struct config_secret private_key = {.name = CONFIG_PRIVATE_KEY_SECRET,
                                                     .key = CONFIG_PRIVATE_KEY_ENTRY};
    static const char path[] = "serviceCredentials", inner[] = "serviceCredentials.privateKey";
    return (struct config_credentials){
        .service_key = read_secret(r, place, path, "secretKey", &service_key),
        .private_key = read_secret(r, place, inner, "secretInternalKey", &private_key),
    };
}

/* Tells whether a value that is not empty is at this path. The function that reads the value checks
 * that it is a string. */
static bool said(struct reader *r, const struct place *place, const char *path)
{
    struct json_value v = at(r, place, path);
    return json_exists(v) && !json_is(v, "");
}

struct config_secret config_secret_copy(const struct config_secret *secret)
{
    return (struct config_secret){.namespace = mem_strdup(secret->namespace),
                                  .name = mem_strdup(secret->name),
                                  .key = mem_strdup(secret->key)};
}

void config_secret_clear(struct config_secret *secret)
{
    free(secret->namespace);
    free(secret->name);
    free(secret->key);
}

bool config_secret_equal(const struct config_secret *a, const struct config_secret *b)
{
    return strcmp(a->namespace, b->namespace) == 0 && strcmp(a->name, b->name) == 0 &&
           strcmp(a->key, b->key) == 0;
}

struct config_credentials config_credentials_copy(const struct config_credentials *credentials)
{
    return (struct config_credentials){
        .service_key = config_secret_copy(&credentials->service_key),
        .private_key = config_secret_copy(&credentials->private_key),
    };
}

void config_instance_clear(struct config_instance *instance)
{
    free(instance->name);
    config_credentials_clear(&instance->credentials);
}

void config_credentials_clear(struct config_credentials *credentials)
{
    config_secret_clear(&credentials->service_key);
    config_secret_clear(&credentials->private_key);
}

bool config_credentials_equal(const struct config_credentials *a,
                              const struct config_credentials *b)
{
    return config_secret_equal(&a->service_key, &b->service_key) &&
           config_secret_equal(&a->private_key, &b->private_key);
}

/* ---- the instances of the Destination service ---- */

static struct config_instance *find_instance(struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_instances; i++) {
        if (strcmp(config->instances[i].name, name) == 0) {
            return &config->instances[i];
        }
    }
    return NULL;
}

static void read_instance(struct reader *r, const struct place *place)
{
    struct config *config = r->config;
    struct config_instance i = {.name = string_at(r, place, "name")};
    struct json_value name = at(r, place, "name");
    if (!json_exists(name) || json_is(name, "")) {
        complain(r, "%s: Destination service instance name should be provided.", place->name);
    }
    if (!i.name) {
        return;
    }
    /* An absent secretName means the default, but an empty one is meant to be filled in. */
    bool credentials = json_exists(at(r, place, "serviceCredentials"));
    if (!credentials || json_is(at(r, place, "serviceCredentials.secretName"), "")) {
        complain(r,
                 "%s: secretName should be provided for destination service instance: \"%.100s\".",
                 place->name, i.name);
    }
    if (find_instance(config, i.name)) {
        complain(r, "%s.name is \"%.100s\", like that of another instance; choose another name",
                 place->name, i.name);
    }
    i.credentials = read_credentials(r, place);
    ignore(r, place, "associateWith.connectivityProxy.locallyConfiguredRegionId", NULL);
    config->instances =
        mem_realloc(config->instances, (config->n_instances + 1) * sizeof(*config->instances));
    config->instances[config->n_instances++] = i;
}

static void read_instances(struct reader *r)
{
    static const char path[] = DESTINATION_SERVICE ".instances";
    struct json_value list = at(r, &r->spec, path);
    size_t n = 0;
    if (json_exists(list) && json_type(list) != JSON_ARRAY) {
        complain(r, "spec.%s is %s; it must be an array", path, show(r, list));
    }
    for (struct json_value v = json_first(list); json_exists(v); v = json_next(v), n++) {
        struct place place = {.value = v};
        text_fmt(place.name, sizeof(place.name), "spec.%s[%zu]", path, n);
        if (json_type(v) != JSON_OBJECT) {
            complain(r, "%s is %s; it must be an object", place.name, json_type_name(json_type(v)));
        } else if (n < CONFIG_INSTANCES_MAX) {
            read_instance(r, &place);
        }
    }
    if (n > CONFIG_INSTANCES_MAX) {
        complain(r, "spec.%s has %zu elements; at most %d are allowed", path, n,
                 CONFIG_INSTANCES_MAX);
    }
}

/* ---- the Connectivity Proxy ---- */

/* Reads "name" or "name.namespace". */
static void read_proxy_name(struct reader *r, struct config_connectivity *c)
{
    static const char path[] = CONNECTIVITY_PROXY ".serviceName";
    char *text = object_name_at(r, &r->spec, path);
    struct str namespace = str_of(text ? text : "");
    struct str name = str_cut(&namespace, '.');
    if (text &&
        (name.n == 0 || memchr(namespace.p, '.', namespace.n) || text[strlen(text) - 1] == '.')) {
        complain(r, "spec.%s is \"%.100s\"; it must be the name of a Service, or name.namespace",
                 path, text);
    }
    c->service = text ? mem_strndup(name.p, name.n) : NULL;
    c->namespace = namespace.n ? mem_strndup(namespace.p, namespace.n) : NULL;
    free(text);
}

/* Reads the port, which Helm charts spell tcp.port. The key tcpPort has priority. */
static void read_proxy_port(struct reader *r, struct config_connectivity *c)
{
    static const char *const paths[] = {CONNECTIVITY_PROXY ".tcp.port",
                                        CONNECTIVITY_PROXY ".tcpPort"};
    c->port = PROXY_PORT;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        c->port = (uint16_t)number_at(r, paths[i], 1, UINT16_MAX, c->port);
        c->port_given |= json_exists(at(r, &r->spec, paths[i]));
    }
}

static void read_connectivity(struct reader *r)
{
    struct config_connectivity *c = &r->config->connectivity;
    bool shared = r->config->tenant_mode == TENANTS_SHARED;
    struct place place = {.value = at(r, &r->spec, CONNECTIVITY_PROXY),
                          .name = "spec." CONNECTIVITY_PROXY};
    read_proxy_name(r, c);
    read_proxy_port(r, c);
    c->timeout = SECONDS(number_at(r, CONNECTIVITY_PROXY ".connectionTimeoutSeconds", 1, 60,
                                   PROXY_TIMEOUT / SECONDS(1)));
    if (said(r, &place, "serviceCredentials.secretName")) {
        c->credentials = mem_alloc(sizeof(*c->credentials));
        *c->credentials = read_credentials(r, &place);
    } else if (shared && (c->service || json_exists(at(r, &place, "serviceCredentials")))) {
        complain(r, "secretName should be provided for Connectivity Proxy service instance in "
                    "shared mode.");
    } else if (json_exists(json_first(at(r, &place, "serviceCredentials")))) {
        complain(r,
                 "%s.serviceCredentials has no secretName; name the Secret that holds the service "
                 "key of the Connectivity Proxy",
                 place.name);
    }
}

/* ---- certificates ---- */

static void read_additional_cas(struct reader *r)
{
    static const struct config_secret none = {.name = "", .key = ""};
    static const char path[] = "additionalCAs";
    struct json_value v = at(r, &r->spec, path);
    if (json_exists(v) && json_type(v) != JSON_OBJECT) {
        complain(r, "spec.%s is %s; it must be an object", path, show(r, v));
        return;
    }
    if (!json_exists(json_first(v))) {
        return;
    }
    if (!said(r, &r->spec, "additionalCAs.secretName") ||
        !said(r, &r->spec, "additionalCAs.secretKey")) {
        complain(r,
                 "spec.%s must have a secretName and a secretKey: the Secret that holds the "
                 "certificates, and its entry",
                 path);
    }
    r->config->additional_cas = mem_alloc(sizeof(*r->config->additional_cas));
    *r->config->additional_cas = read_secret(r, &r->spec, path, "secretKey", &none);
}

/* ---- the whole ---- */

static void read_spec(struct reader *r)
{
    struct config *config = r->config;
    static const char mode[] = "config.tenantMode";
    config->tenant_mode =
        choice_at(r, mode, "dedicated", "shared") ? TENANTS_SHARED : TENANTS_DEDICATED;
    read_instances(r);
    config->default_instance = string_at(r, &r->spec, DESTINATION_SERVICE ".defaultInstanceName");
    config->connect_timeout =
        SECONDS(number_at(r, DESTINATION_SERVICE ".connectionTimeoutSeconds", 1, 60, 5));
    config->read_timeout =
        SECONDS(number_at(r, DESTINATION_SERVICE ".readTimeoutSeconds", 1, 60, 10));
    config->interval =
        SECONDS(60) * number_at(r, "config.manager.executionIntervalMinutes", 1, 7 * 24 * 60, 3);
    config->labelled_namespaces =
        choice_at(r, "config.managedNamespacesMode", "all", "labelSelector");
    config->cluster_wide = choice_at(r, "config.security.accessControl.destinations.defaultScope",
                                     "namespaced", "clusterWide");
    config->log_level = log_level_at(r, "config.logging.level");
    config->metrics = flag_at(r, "config.metrics.prometheus.enabled", false);
    read_connectivity(r);
    read_additional_cas(r);
    read_ignored(r);
}

struct config *config_new(struct json_value object, const char *home,
                          struct config_remarks *remarks)
{
    struct reader r = {
        .config = mem_zalloc(sizeof(*r.config)),
        .remarks = remarks,
        .home = home,
        .spec = {.value = json_get(object, "spec"), .name = "spec"},
    };
    memset(remarks, 0, sizeof(*remarks));
    if (json_exists(object) && json_type(object) != JSON_OBJECT) {
        complain(&r, "it is %s; a TransparentProxy must be an object", show(&r, object));
    }
    read_spec(&r);
    if (remarks->n_complaints) {
        config_free(r.config);
        return NULL;
    }
    return r.config;
}

void config_drop_credentials(struct config *config)
{
    struct config_connectivity *connectivity = &config->connectivity;
    for (size_t i = 0; i < config->n_instances; i++) {
        config_instance_clear(&config->instances[i]);
    }
    if (connectivity->credentials) {
        config_credentials_clear(connectivity->credentials);
    }
    if (config->additional_cas) {
        config_secret_clear(config->additional_cas);
    }
    free(connectivity->credentials);
    free(connectivity->service);
    free(connectivity->namespace);
    free(config->additional_cas);
    free(config->instances);
    free(config->default_instance);
    *connectivity = (struct config_connectivity){.port = PROXY_PORT, .timeout = PROXY_TIMEOUT};
    config->additional_cas = NULL;
    config->instances = NULL;
    config->n_instances = 0;
    config->default_instance = NULL;
}

void config_free(struct config *config)
{
    if (config) {
        config_drop_credentials(config);
        free(config);
    }
}

/* ---- the status of the object ---- */

static const char *const state_names[] = {
    [CONFIG_READY] = "Ready", [CONFIG_PROCESSING] = "Processing", [CONFIG_WARNING] = "Warning",
    [CONFIG_ERROR] = "Error", [CONFIG_DELETING] = "Deleting",
};
static_assert(ARRAY_LEN(state_names) == CONFIG_DELETING + 1, "every state has its name");

static const char *status_of(const struct config_condition *c)
{
    return c->status ? "True" : "False";
}

/* Tells whether the condition has a type that we write, now or under other circumstances. */
static bool is_ours(struct json_value condition)
{
    static const char *const types[] = {"Configured", "CredentialsAvailable", "SomeKeysIgnored",
                                        "ConnectivityProxyUsable"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (json_is(json_get(condition, "type"), types[i])) {
            return true;
        }
    }
    return false;
}

/* Returns the first condition of ours, beginning with this one. */
static struct json_value skip_foreign(struct json_value condition)
{
    while (json_exists(condition) && !is_ours(condition)) {
        condition = json_next(condition);
    }
    return condition;
}

static struct json_value generation_of(struct json_value observed)
{
    return json_get(json_get(observed, "metadata"), "generation");
}

/* Tells whether the condition was set for the observed spec. In local mode nothing tells. */
static bool is_current(struct json_value condition, struct json_value observed)
{
    int64_t set_for, generation;
    return json_int64(generation_of(observed), &generation) != OK ||
           (json_int64(json_get(condition, "observedGeneration"), &set_for) == OK &&
            set_for == generation);
}

static bool says(struct json_value observed, enum config_state state,
                 const struct config_condition *conditions, size_t n)
{
    struct json_value status = json_get(observed, "status");
    struct json_value shown = skip_foreign(json_first(json_get(status, "conditions")));
    for (size_t i = 0; i < n; i++, shown = skip_foreign(json_next(shown))) {
        const struct config_condition *c = &conditions[i];
        if (!json_is(json_get(shown, "type"), c->type) ||
            !json_is(json_get(shown, "status"), status_of(c)) ||
            !json_is(json_get(shown, "reason"), c->reason) ||
            !json_is(json_get(shown, "message"), c->message) || !is_current(shown, observed)) {
            return false;
        }
    }
    return !json_exists(shown) && json_is(json_get(status, "state"), state_names[state]);
}

/* Returns the time since which the condition has had its status. The caller frees the text. */
static char *since(struct json_value status, const struct config_condition *c, const char *now)
{
    struct json_value shown = json_first(json_get(status, "conditions"));
    while (json_exists(shown) && !json_is(json_get(shown, "type"), c->type)) {
        shown = json_next(shown);
    }
    char *time = json_strdup(json_get(shown, "lastTransitionTime"), NULL);
    if (time && json_is(json_get(shown, "status"), status_of(c))) {
        return time;
    }
    free(time);
    return mem_strdup(now);
}

/* Appends the beginning of a merge patch that applies only to the observed version. */
static int put_version(struct buf *out, struct json_value observed)
{
    char *version = json_strdup(json_get(json_get(observed, "metadata"), "resourceVersion"), NULL);
    int rc = buf_add(out, "{", 1);
    rc = rc == OK && version ? json_fmt(out, "'metadata':{'resourceVersion':%s},", version) : rc;
    free(version);
    return rc;
}

/* Appends the conditions of other controllers, each with `comma` before it, and from the second one
 * on with ",". */
static int put_foreign(struct buf *out, struct json_value status, const char *comma)
{
    struct json_value c = json_first(json_get(status, "conditions"));
    int rc = OK;
    for (; json_exists(c) && rc == OK; c = json_next(c)) {
        struct str text = json_text(c);
        if (json_type(c) == JSON_OBJECT && !is_ours(c)) {
            rc = buf_fmt(out, "%s%.*s", comma, STR_ARG(text));
            comma = ",";
        }
    }
    return rc;
}

/* Appends the member of a condition that says for which spec it was set. */
static int put_generation(struct buf *out, struct json_value observed)
{
    int64_t generation;
    if (json_int64(generation_of(observed), &generation) != OK) {
        return OK;
    }
    return buf_fmt(out, ",\"observedGeneration\":%lld", (long long)generation);
}

int config_status(struct buf *out, struct json_value observed, enum config_state state,
                  const struct config_condition *conditions, size_t n, const char *now)
{
    struct json_value status = json_get(observed, "status");
    if (says(observed, state, conditions, n)) {
        return AGAIN;
    }
    int rc = put_version(out, observed);
    rc = rc == OK ? json_fmt(out, "'status':{'state':%s,'conditions':[", state_names[state]) : rc;
    for (size_t i = 0; i < n && rc == OK; i++) {
        const struct config_condition *c = &conditions[i];
        char *time = since(status, c, now);
        rc = buf_add(out, ",", i > 0);
        if (rc == OK) {
            rc = json_fmt(out,
                          "{'type':%s,'status':%s,'reason':%s,'message':%s,"
                          "'lastTransitionTime':%s",
                          c->type, status_of(c), c->reason, c->message, time);
        }
        rc = rc == OK ? put_generation(out, observed) : rc;
        rc = rc == OK ? buf_add(out, "}", 1) : rc;
        free(time);
    }
    rc = rc == OK ? put_foreign(out, status, ",") : rc;
    return rc == OK ? json_fmt(out, "]}}") : ERR;
}

int config_status_processing(struct buf *out, struct json_value observed)
{
    struct json_value status = json_get(observed, "status");
    if (json_is(json_get(status, "state"), state_names[CONFIG_PROCESSING])) {
        return AGAIN;
    }
    int rc = put_version(out, observed);
    return rc == OK ? json_fmt(out, "'status':{'state':%s}}", state_names[CONFIG_PROCESSING]) : rc;
}

bool config_status_is_outcome(struct json_value observed)
{
    int64_t generation;
    struct json_value status = json_get(observed, "status");
    struct json_value ours = skip_foreign(json_first(json_get(status, "conditions")));
    return json_int64(generation_of(observed), &generation) != OK ||
           (is_current(ours, observed) &&
            !json_is(json_get(status, "state"), state_names[CONFIG_PROCESSING]));
}

/* Tells whether the status has a part that `manager` has not written. */
static bool has_foreign_part(struct json_value observed, const char *manager)
{
    struct json_value status = json_get(observed, "status");
    for (struct json_value m = json_first(status); json_exists(m); m = json_next(m)) {
        struct json_value key = json_key(m);
        if ((!json_is(key, "state") && !json_is(key, "conditions")) ||
            (json_is(key, "state") && !object_status_is_by(observed, "f:state", manager))) {
            return true;
        }
    }
    for (struct json_value c = json_first(json_get(status, "conditions")); json_exists(c);
         c = json_next(c)) {
        if (!is_ours(c)) {
            return true;
        }
    }
    return false;
}

int config_status_remove(struct buf *out, struct json_value observed, const char *manager)
{
    struct json_value status = json_get(observed, "status");
    struct json_value ours = skip_foreign(json_first(json_get(status, "conditions")));
    bool foreign = has_foreign_part(observed, manager);
    bool written = json_exists(ours) && object_status_is_by(observed, "f:conditions", manager);
    bool begun = json_is(json_get(status, "state"), state_names[CONFIG_PROCESSING]) && !foreign;
    if (!written && !begun) {
        return AGAIN;
    }
    int rc = put_version(out, observed);
    if (rc == OK && !foreign) {
        return json_fmt(out, "'status':null}");
    }
    rc = rc == OK ? json_fmt(out, "'status':{'conditions':[") : rc;
    rc = rc == OK ? put_foreign(out, status, "") : rc;
    return rc == OK ? json_fmt(out, "]}}") : ERR;
}
