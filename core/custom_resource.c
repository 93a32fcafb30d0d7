/* From a Destination object to its projection. The API server has held objects against the CRD, but
 * perhaps an older one; files of local mode have met no CRD at all. */
#include "core/custom_resource.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/text.h"

/* Of one text of the condition Available. More than we write: what is cut here is not ours. */
enum { CONDITION_TEXT_MAX = 4096 };

/* The work of one cr_parse. */
struct reader {
    struct cr *cr;
    struct error *err;
    char shown[64]; /* a value in a message */
};

static int refuse(const struct reader *r, const char *field, const char *fmt, ...)
    printf_like(3, 4);

static int refuse(const struct reader *r, const char *field, const char *fmt, ...)
{
    char text[FAIL_TEXT_MAX], name[100];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    text_printable(name, sizeof(name), str_of(r->cr->name ? r->cr->name : "?"));
    return error_set(r->err, FAIL_CONFIG, "Destination %s/%s: %s %s",
                     r->cr->namespace ? r->cr->namespace : "?", name, field, text);
}

/* A value as JSON has it. */
static const char *show(struct reader *r, struct json_value v)
{
    return text_printable(r->shown, sizeof(r->shown), json_text(v));
}

/* A text of at most `max` octets. NULL when it is absent, null or empty. */
static int read_text(const struct reader *r, struct json_value v, const char *field, size_t max,
                     char **out)
{
    if (!json_given(v)) {
        return OK;
    }
    if (json_type(v) != JSON_STRING) {
        return refuse(r, field, "is %s; it must be a string", json_type_name(json_type(v)));
    }
    size_t n;
    char *text = json_strdup(v, &n);
    if (n > 0 && n <= max && !text_has_control((struct str){text, n})) {
        *out = text;
        return OK;
    }
    free(text);
    if (n > max) {
        return refuse(r, field, "is longer than %zu octets", max);
    }
    return n == 0 ? OK : refuse(r, field, "contains a control character; remove it");
}

/* ---- metadata ---- */

static bool is_label(const char *s)
{
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0';
}

static int read_metadata(const struct reader *r, struct json_value metadata)
{
    struct cr *cr = r->cr;
    if (read_text(r, json_get(metadata, "namespace"), "metadata.namespace", CR_NAMESPACE_MAX,
                  &cr->namespace) < 0 ||
        read_text(r, json_get(metadata, "name"), "metadata.name", CR_NAME_MAX, &cr->name) < 0 ||
        read_text(r, json_get(metadata, "uid"), "metadata.uid", CR_NAME_MAX, &cr->uid) < 0 ||
        read_text(r, json_get(metadata, "creationTimestamp"), "metadata.creationTimestamp",
                  CR_NAME_MAX, &cr->created) < 0) {
        return ERR;
    }
    if (!cr->name || !cr->namespace) {
        return refuse(r, cr->name ? "metadata.namespace" : "metadata.name", "is missing; give one");
    }
    if (!is_label(cr->namespace)) {
        return refuse(r, "metadata.namespace", "is none: lower-case letters, digits and '-'");
    }
    cr->uid = cr->uid ? cr->uid : mem_strdup("");
    cr->created = cr->created ? cr->created : mem_strdup("");
    cr->deleting = json_type(json_get(metadata, "deletionTimestamp")) == JSON_STRING;
    struct json_value annotations = json_get(metadata, "annotations");
    cr->adopt = json_is(json_get(annotations, CR_ANNOTATION_ADOPT), "true");
    cr->has_tenants = json_type(json_get(annotations, CR_ANNOTATION_TENANTS)) == JSON_STRING;
    return OK;
}

/* ---- the spec ---- */

static int read_port(struct reader *r, struct json_value v)
{
    int64_t port = 0;
    if (!json_given(v)) {
        return OK;
    }
    if (json_int64(v, &port) < 0 || port < 1 || port > 65535) {
        return refuse(r, "spec.service.port", "is %s; it must be a number from 1 to 65535",
                      show(r, v));
    }
    r->cr->port = (uint16_t)port;
    return OK;
}

static int read_scope(struct reader *r, struct json_value v)
{
    if (json_is(v, "namespaced")) {
        r->cr->scope = CR_SCOPE_NAMESPACED;
    } else if (json_is(v, "clusterWide")) {
        r->cr->scope = CR_SCOPE_CLUSTER_WIDE;
    } else if (json_given(v)) {
        return refuse(r, "spec.accessControl.scope",
                      "is %s; it must be \"namespaced\" or \"clusterWide\"", show(r, v));
    }
    return OK;
}

/* Fields that take another request to the Destination service than the plain one. */
static const char *find_unsupported(struct json_value spec)
{
    static const struct {
        const char *ref, *member, *field;
    } rows[] = {
        {"destinationRef", "level", "spec.destinationRef.level"},
        {"fragmentRef", "name", "spec.fragmentRef.name"},
        {"fragmentRef", "level", "spec.fragmentRef.level"},
        {"chainRef", "name", "spec.chainRef.name"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct json_value v = json_get(json_get(spec, rows[i].ref), rows[i].member);
        if (json_given(v) && !json_is(v, "")) {
            return rows[i].field;
        }
    }
    return NULL;
}

static int read_spec(struct reader *r, struct json_value spec)
{
    struct cr *cr = r->cr;
    if (json_type(spec) != JSON_OBJECT) {
        return refuse(r, "spec", "is %s; it must be an object",
                      json_exists(spec) ? json_type_name(json_type(spec)) : "missing");
    }
    if (read_text(r, json_get(json_get(spec, "destinationRef"), "name"), "spec.destinationRef.name",
                  CR_NAME_MAX, &cr->destination) < 0 ||
        read_text(r, json_get(spec, "destinationServiceInstanceName"),
                  "spec.destinationServiceInstanceName", CR_NAME_MAX, &cr->instance) < 0 ||
        read_port(r, json_get(json_get(spec, "service"), "port")) < 0 ||
        read_scope(r, json_get(json_get(spec, "accessControl"), "scope")) < 0) {
        return ERR;
    }
    cr->unsupported = find_unsupported(spec);
    if (!cr->destination) {
        return refuse(r, "spec.destinationRef.name", "is missing; give the name of a destination");
    }
    return OK;
}

/* ---- the status ---- */

static char *condition_text(struct json_value v)
{
    char *text = json_strdup(v, NULL);
    if (!text) {
        return mem_strdup("");
    }
    if (strlen(text) > CONDITION_TEXT_MAX) {
        text[CONDITION_TEXT_MAX] = '\0';
        text = mem_realloc(text, CONDITION_TEXT_MAX + 1);
    }
    return text;
}

static void clear_condition(struct cr_condition *c)
{
    free(c->status);
    free(c->reason);
    free(c->message);
    *c = (struct cr_condition){0};
}

static int read_conditions(const struct reader *r, struct json_value conditions)
{
    struct cr *cr = r->cr;
    struct buf others;
    buf_init(&others, CR_CONDITIONS_MAX);
    for (struct json_value c = json_first(conditions); json_exists(c); c = json_next(c)) {
        struct str text = json_text(c);
        if (json_type(c) != JSON_OBJECT) {
            continue;
        }
        if (json_is(json_get(c, "type"), "Available")) {
            clear_condition(&cr->available);
            cr->available.status = condition_text(json_get(c, "status"));
            cr->available.reason = condition_text(json_get(c, "reason"));
            cr->available.message = condition_text(json_get(c, "message"));
        } else if (buf_add(&others, ",", buf_len(&others) > 0) < 0 ||
                   buf_add(&others, text.p, text.n) < 0) {
            buf_free(&others);
            return refuse(r, "status.conditions",
                          "takes more than %d octets; remove conditions of other controllers",
                          CR_CONDITIONS_MAX);
        }
    }
    if (buf_len(&others)) {
        cr->other_conditions = mem_strndup(buf_str(&others).p, buf_len(&others));
    }
    buf_free(&others);
    return OK;
}

/* The CRD declares conditions as a list that is written whole: its last writer owns it. */
static bool written_by_another(struct json_value managed_fields, const char *field_manager)
{
    for (struct json_value e = json_first(managed_fields); json_exists(e); e = json_next(e)) {
        struct json_value status = json_get(json_get(e, "fieldsV1"), "f:status");
        if (json_exists(json_get(status, "f:conditions")) &&
            !json_is(json_get(e, "manager"), field_manager)) {
            return true;
        }
    }
    return false;
}

int cr_parse(struct cr *cr, struct json_value object, const char *field_manager, struct error *err)
{
    *cr = (struct cr){0};
    struct reader r = {.cr = cr, .err = err};
    struct json_value metadata = json_get(object, "metadata");
    if (read_metadata(&r, metadata) < 0 || read_spec(&r, json_get(object, "spec")) < 0 ||
        read_conditions(&r, json_get(json_get(object, "status"), "conditions")) < 0) {
        cr_clear(cr);
        return ERR;
    }
    if (cr->available.status || cr->other_conditions) {
        bool foreign = written_by_another(json_get(metadata, "managedFields"), field_manager);
        cr->status_owner = foreign ? CR_STATUS_FOREIGN : CR_STATUS_OURS;
    }
    return OK;
}

void cr_clear(struct cr *cr)
{
    free(cr->namespace);
    free(cr->name);
    free(cr->uid);
    free(cr->created);
    free(cr->destination);
    free(cr->instance);
    clear_condition(&cr->available);
    free(cr->other_conditions);
    *cr = (struct cr){0};
}

/* Either may be NULL. */
static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool cr_same_spec(const struct cr *a, const struct cr *b)
{
    return same_text(a->destination, b->destination) && same_text(a->instance, b->instance) &&
           a->port == b->port && a->scope == b->scope && a->adopt == b->adopt &&
           a->has_tenants == b->has_tenants && same_text(a->unsupported, b->unsupported);
}
