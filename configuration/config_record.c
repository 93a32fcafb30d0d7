/* A record is {"since":"...","object":"...","spec":{...}}. Its spec has the keys of a
 * TransparentProxy object, so that config_new reads both. */
#include "configuration/config_record.h"

#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/mem.h"

/* ---- writing ---- */

static int whole_seconds(int64_t time)
{
    return (int)(time / SECONDS(1));
}

/* Appends a reference to a Secret. `entry` is the name of the member for the Secret's entry. */
static int put_secret(struct buf *out, const struct config_secret *s, const char *entry)
{
    return json_fmt(out, "'secretName':%s,'secretNamespace':%s,%s:%s", s->name, s->namespace, entry,
                    s->key);
}

static int put_credentials(struct buf *out, const struct config_credentials *c)
{
    if (json_fmt(out, "'serviceCredentials':{") < 0 ||
        put_secret(out, &c->service_key, "secretKey") < 0 || json_fmt(out, ",'privateKey':{") < 0 ||
        put_secret(out, &c->private_key, "secretInternalKey") < 0) {
        return ERR;
    }
    return json_fmt(out, "}}");
}

static int put_instances(struct buf *out, const struct config *config)
{
    if (json_fmt(out, "'destinationService':{'connectionTimeoutSeconds':%d,'readTimeoutSeconds':%d",
                 whole_seconds(config->connect_timeout), whole_seconds(config->read_timeout)) < 0 ||
        (config->default_instance &&
         json_fmt(out, ",'defaultInstanceName':%s", config->default_instance) < 0) ||
        json_fmt(out, ",'instances':[") < 0) {
        return ERR;
    }
    for (size_t i = 0; i < config->n_instances; i++) {
        const struct config_instance *in = &config->instances[i];
        if (buf_add(out, ",", i > 0) < 0 || json_fmt(out, "{'name':%s,", in->name) < 0 ||
            put_credentials(out, &in->credentials) < 0 || json_fmt(out, "}") < 0) {
            return ERR;
        }
    }
    return json_fmt(out, "]}");
}

static int put_connectivity(struct buf *out, const struct config_connectivity *c)
{
    char name[2 * CONFIG_NAME_MAX + 2];
    text_fmt(name, sizeof(name), "%s%s%s", c->service ? c->service : "", c->namespace ? "." : "",
             c->namespace ? c->namespace : "");
    if (json_fmt(out, "'connectivityProxy':{'connectionTimeoutSeconds':%d",
                 whole_seconds(c->timeout)) < 0 ||
        (c->service && json_fmt(out, ",'serviceName':%s", name) < 0) ||
        (c->port_given && json_fmt(out, ",'tcpPort':%d", c->port) < 0) ||
        (c->credentials && (json_fmt(out, ",") < 0 || put_credentials(out, c->credentials) < 0))) {
        return ERR;
    }
    return json_fmt(out, "}");
}

static int put_config(struct buf *out, const struct config *config)
{
    if (json_fmt(out, "'config':{'tenantMode':%s,'managedNamespacesMode':%s,",
                 config->tenant_mode == TENANTS_SHARED ? "shared" : "dedicated",
                 config->labelled_namespaces ? "labelSelector" : "all") < 0 ||
        json_fmt(out, "'security':{'accessControl':{'destinations':{'defaultScope':%s}}},",
                 config->cluster_wide ? "clusterWide" : "namespaced") < 0 ||
        json_fmt(out, "'manager':{'executionIntervalMinutes':%d},",
                 whole_seconds(config->interval) / 60) < 0 ||
        json_fmt(out, config->metrics ? "'metrics':{'prometheus':{'enabled':true}}," : "") < 0 ||
        (config->log_level && json_fmt(out, "'logging':{'level':%s},", config->log_level) < 0) ||
        json_fmt(out, "'integration':{") < 0 || put_instances(out, config) < 0 ||
        json_fmt(out, ",") < 0 || put_connectivity(out, &config->connectivity) < 0) {
        return ERR;
    }
    return json_fmt(out, "}}");
}

int config_record_put(struct buf *out, const struct config_record *record)
{
    const struct config *config = record->config;
    if (json_fmt(out, "{'since':%s,", record->since) < 0 ||
        (record->object && json_fmt(out, "'object':%s,", record->object) < 0) ||
        json_fmt(out, "'spec':{") < 0 || put_config(out, config) < 0 ||
        (config->additional_cas &&
         (json_fmt(out, ",'additionalCAs':{") < 0 ||
          put_secret(out, config->additional_cas, "secretKey") < 0 || json_fmt(out, "}") < 0))) {
        return ERR;
    }
    return json_fmt(out, "}}");
}

/* ---- reading ---- */

/* Reads the time. The text is shown in conditions, so nothing but a time is accepted. */
static void read_since(char out[CONFIG_SINCE_SIZE], struct json_value v)
{
    char *text = json_strdup(v, NULL);
    bool is_time = text && strlen(text) >= 20 && strlen(text) < CONFIG_SINCE_SIZE &&
                   !text[strspn(text, "0123456789TZ:.+-")];
    text_fmt(out, CONFIG_SINCE_SIZE, "%s", is_time ? text : "an unknown time");
    free(text);
}

static char *read_object_name(struct json_value v)
{
    char *name = json_strdup(v, NULL);
    if (name && config_is_object_name(name)) {
        return name;
    }
    free(name);
    return NULL;
}

int config_record_parse(struct config_record *record, struct str text, const char *home,
                        struct error *err)
{
    struct config_remarks remarks;
    *record = (struct config_record){0};
    if (text.n > CONFIG_RECORD_MAX) {
        return error_set(err, FAIL_CONFIG, "it has %zu octets; at most %d are allowed", text.n,
                         CONFIG_RECORD_MAX);
    }
    struct json *doc = json_parse(text, err);
    if (!doc) {
        return ERR;
    }
    struct json_value root = json_root(doc);
    if (json_type(json_get(root, "spec")) != JSON_OBJECT) {
        error_set(err, FAIL_CONFIG, "it has no spec");
    } else {
        record->config = config_new(root, home, &remarks);
        if (!record->config) {
            error_set(err, FAIL_CONFIG, "%s", remarks.complaints[0]);
        }
    }
    if (record->config) {
        read_since(record->since, json_get(root, "since"));
        record->object = read_object_name(json_get(root, "object"));
    }
    json_free(doc);
    return record->config ? OK : ERR;
}

void config_record_clear(struct config_record *record)
{
    config_free(record->config);
    free(record->object);
    *record = (struct config_record){0};
}

/* ---- comparing ---- */

static bool put_untimed(struct buf *out, const struct config_record *record)
{
    struct config_record untimed = *record;
    untimed.since[0] = '\0';
    buf_init(out, CONFIG_RECORD_MAX);
    return config_record_put(out, &untimed) == OK;
}

bool config_record_same(const struct config_record *a, const struct config_record *b)
{
    struct buf x, y;
    bool x_fits = put_untimed(&x, a), y_fits = put_untimed(&y, b);
    bool same = x_fits && y_fits && buf_len(&x) == buf_len(&y) &&
                memcmp(buf_str(&x).p, buf_str(&y).p, buf_len(&x)) == 0;
    buf_free(&x);
    buf_free(&y);
    return same;
}
