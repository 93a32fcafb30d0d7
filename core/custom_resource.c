/* Turns a Destination object into a struct cr. The API server has checked the object against the
 * CRD, but perhaps an older one, and the CRD has no bounds; no CRD checks the files of local mode.
 * The metadata is read first, so that the status of an object with a wrong spec can say so. */
#include "core/custom_resource.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/tenant.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Maximum length in octets of a text of the condition Available. We write shorter ones, so a text
 * that is cut is not ours. */
enum { CONDITION_TEXT_MAX = 4096 };

/* The state of one cr_parse. */
struct reader {
    struct cr *cr;
    struct error err; /* the field and its error */
    char shown[64];   /* a value in a message */
};

static int refuse_field(struct reader *r, const char *field, const char *fmt, ...)
    printf_like(3, 4);

static int refuse_field(struct reader *r, const char *field, const char *fmt, ...)
{
    char text[FAIL_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return error_set(&r->err, FAIL_CONFIG, "%s %s", field, text);
}

/* Returns the JSON text of a value for a message. */
static const char *show(struct reader *r, struct json_value v)
{
    return text_printable(r->shown, sizeof(r->shown), json_text(v));
}

/* Reads a text of at most `max` octets. Leaves *out as it is when the text is absent, null or
 * empty. */
static int read_text(struct reader *r, struct json_value v, const char *field, size_t max,
                     const char **out)
{
    if (!json_given(v)) {
        return OK;
    }
    if (json_type(v) != JSON_STRING) {
        return refuse_field(r, field, "is %s; it must be a string", json_type_name(json_type(v)));
    }
    size_t n;
    char *text = json_strdup(v, &n);
    if (n > 0 && n <= max && !text_has_control((struct str){text, n})) {
        *out = text;
        return OK;
    }
    free(text);
    if (n > max) {
        return refuse_field(r, field, "is longer than %zu octets; shorten it", max);
    }
    return n == 0 ? OK : refuse_field(r, field, "contains a control character; remove it");
}

/* Refuses a member of the object called `parent` that the JSON parser has left out because of its
 * size. `actions` may be of any size, because it is not used. */
static int check_size(struct reader *r, struct json_value member, const char *parent)
{
    char field[64];
    size_t n = 0;
    if (json_type(member) != JSON_OMITTED || json_is(json_key(member), "actions")) {
        return OK;
    }
    char *name = json_strdup(json_key(member), &n);
    text_fmt(field, sizeof(field), "%s.%s", parent, name);
    free(name);
    return refuse_field(r, field, "is larger than %d octets, or nested too deeply; make it smaller",
                        CR_MEMBER_MAX);
}

/* ---- the annotation tenant-subdomains ---- */

static void clear_tenants(struct cr *cr)
{
    for (size_t i = 0; i < cr->n_tenants; i++) {
        free(cr->tenants[i]);
    }
    free(cr->tenants);
    free(cr->tenants_wrong);
    cr->tenants = NULL;
    cr->tenants_wrong = NULL;
    cr->n_tenants = 0;
}

static void tenants_wrong(struct cr *cr, const char *fmt, ...) printf_like(2, 3);

static void tenants_wrong(struct cr *cr, const char *fmt, ...)
{
    char text[FAIL_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    clear_tenants(cr);
    cr->tenants_wrong = mem_strdup(text);
}

static int add_tenant(struct cr *cr, struct json_value v)
{
    char *tenant = json_strdup(v, NULL), shown[80];
    if (!tenant || !tenant_is_valid(tenant)) {
        free(tenant);
        tenants_wrong(cr,
                      "%s in it is not a tenant: one label, of letters, digits and '-', 63 at most",
                      text_printable(shown, sizeof(shown), json_text(v)));
        return ERR;
    }
    if (cr->n_tenants == CR_TENANTS_MAX) {
        free(tenant);
        tenants_wrong(cr, "it names more than %d tenants", CR_TENANTS_MAX);
        return ERR;
    }
    cr->tenants = mem_realloc(cr->tenants, (cr->n_tenants + 1) * sizeof(*cr->tenants));
    for (char *c = tenant; *c; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    cr->tenants[cr->n_tenants++] = tenant;
    return OK;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_tenants(struct cr *cr, struct json_value list)
{
    struct json_value first = json_first(list);
    if (json_type(list) != JSON_ARRAY || !json_exists(first)) {
        tenants_wrong(cr, "it is %s; it must be an array of strings, [\"tenant-subdomain\"]",
                      json_type(list) == JSON_ARRAY ? "empty" : json_type_name(json_type(list)));
        return;
    }
    for (struct json_value v = first; json_exists(v); v = json_next(v)) {
        if (add_tenant(cr, v) < 0) {
            return;
        }
    }
    qsort(cr->tenants, cr->n_tenants, sizeof(*cr->tenants), compare_texts);
    for (size_t i = 1; i < cr->n_tenants; i++) {
        if (strcmp(cr->tenants[i - 1], cr->tenants[i]) == 0) {
            tenants_wrong(cr, "\"%s\" is in it twice (capitals do not count)", cr->tenants[i]);
            return;
        }
    }
}

static void read_tenants(struct cr *cr, struct json_value annotation)
{
    struct error err;
    size_t n = 0;
    char *text = json_strdup(annotation, &n);
    if (!json_given(annotation)) {
        return;
    }
    if (!text) {
        tenants_wrong(cr, "it is %s; it must be a string", json_type_name(json_type(annotation)));
        return;
    }
    struct json *doc = json_parse((struct str){text, n}, &err);
    if (doc) {
        list_tenants(cr, json_root(doc));
    } else {
        tenants_wrong(cr, "it is not JSON: %s", err.text);
    }
    json_free(doc);
    free(text);
}

/* ---- metadata ---- */

static bool is_label(const char *s)
{
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")] == '\0';
}

static int read_metadata(struct reader *r, struct json_value metadata)
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
        return refuse_field(r, cr->name ? "metadata.namespace" : "metadata.name",
                            "is missing; give one");
    }
    if (!is_label(cr->namespace)) {
        return refuse_field(r, "metadata.namespace",
                            "is not a namespace: lower-case letters, digits and '-'");
    }
    cr->uid = cr->uid ? cr->uid : mem_strdup("");
    cr->created = cr->created ? cr->created : mem_strdup("");
    cr->deleting = json_type(json_get(metadata, "deletionTimestamp")) == JSON_STRING;
    return OK;
}

static int read_annotations(struct reader *r, struct json_value annotations)
{
    r->cr->adopt = json_is(json_get(annotations, CR_ANNOTATION_ADOPT), "true");
    read_tenants(r->cr, json_get(annotations, CR_ANNOTATION_TENANTS));
    return check_size(r, annotations, "metadata");
}

/* ---- the spec ---- */

static int read_port(struct reader *r, struct json_value v)
{
    int64_t port = 0;
    if (!json_given(v)) {
        return OK;
    }
    if (json_int64(v, &port) < 0 || port < 1 || port > 65535) {
        return refuse_field(r, "spec.service.port", "is %s; it must be a number from 1 to 65535",
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
        return refuse_field(r, "spec.accessControl.scope",
                            "is %s; it must be \"namespaced\" or \"clusterWide\"", show(r, v));
    }
    return OK;
}

static int read_fragment(struct reader *r, struct json_value v)
{
    struct dest_ref *ref = &r->cr->ref;
    struct json_value optional = json_get(v, "optional");
    if (read_text(r, json_get(v, "name"), "spec.fragmentRef.name", CR_NAME_MAX, &ref->fragment) <
            0 ||
        read_text(r, json_get(v, "level"), "spec.fragmentRef.level", CR_NAME_MAX,
                  &ref->fragment_level) < 0) {
        return ERR;
    }
    if (json_given(optional) && json_bool(optional, &ref->fragment_optional) < 0) {
        return refuse_field(r, "spec.fragmentRef.optional", "is %s; it must be true or false",
                            json_type_name(json_type(optional)));
    }
    if (ref->fragment_level && !ref->fragment) {
        return refuse_field(r, "spec.fragmentRef.level",
                            "means nothing without spec.fragmentRef.name; give both or neither");
    }
    return OK;
}

static int read_variable(struct reader *r, struct json_value v, struct dest_variable *variable)
{
    if (read_text(r, json_get(v, "name"), "spec.chainRef.variables[].name", CR_NAME_MAX,
                  &variable->name) < 0 ||
        read_text(r, json_get(v, "value"), "spec.chainRef.variables[].value", CR_VALUE_MAX,
                  &variable->value) < 0) {
        return ERR;
    }
    variable->value = variable->value ? variable->value : mem_strdup("");
    return variable->name
               ? OK
               : refuse_field(r, "spec.chainRef.variables[].name", "is missing; give one");
}

static int read_chain(struct reader *r, struct json_value v)
{
    struct dest_ref *ref = &r->cr->ref;
    struct json_value variables = json_get(v, "variables");
    if (read_text(r, json_get(v, "name"), "spec.chainRef.name", CR_NAME_MAX, &ref->chain) < 0) {
        return ERR;
    }
    if (!json_exists(json_first(variables))) {
        return OK;
    }
    struct dest_variable *list = mem_zalloc(CR_VARIABLES_MAX * sizeof(*list));
    ref->variables = list;
    for (v = json_first(variables); json_exists(v); v = json_next(v)) {
        if (ref->n_variables == CR_VARIABLES_MAX) {
            return refuse_field(r, "spec.chainRef.variables",
                                "has more than %d entries; remove some", CR_VARIABLES_MAX);
        }
        if (read_variable(r, v, &list[ref->n_variables++]) < 0) {
            return ERR;
        }
    }
    return OK;
}

static int read_spec(struct reader *r, struct json_value spec)
{
    struct cr *cr = r->cr;
    if (json_type(spec) != JSON_OBJECT) {
        return refuse_field(r, "spec", "is %s; it must be an object",
                            json_exists(spec) ? json_type_name(json_type(spec)) : "missing");
    }
    for (struct json_value m = json_first(spec); json_exists(m); m = json_next(m)) {
        if (check_size(r, m, "spec") < 0) {
            return ERR;
        }
    }
    struct json_value destination = json_get(spec, "destinationRef");
    if (read_text(r, json_get(destination, "name"), "spec.destinationRef.name", CR_NAME_MAX,
                  &cr->ref.name) < 0 ||
        read_text(r, json_get(destination, "level"), "spec.destinationRef.level", CR_NAME_MAX,
                  &cr->ref.level) < 0 ||
        read_fragment(r, json_get(spec, "fragmentRef")) < 0 ||
        read_chain(r, json_get(spec, "chainRef")) < 0 ||
        read_text(r, json_get(spec, "destinationServiceInstanceName"),
                  "spec.destinationServiceInstanceName", CR_NAME_MAX, &cr->ref.instance) < 0 ||
        read_port(r, json_get(json_get(spec, "service"), "port")) < 0 ||
        read_scope(r, json_get(json_get(spec, "accessControl"), "scope")) < 0) {
        return ERR;
    }
    if (!cr->ref.name) {
        return refuse_field(r, "spec.destinationRef.name",
                            "is missing; give the name of a destination");
    }
    return OK;
}

/* Empties all that comes from spec and annotations, because a spec with an error is not used in
 * part. */
static void forget_spec(struct cr *cr)
{
    dest_ref_clear(&cr->ref);
    clear_tenants(cr);
    cr->ref.name = mem_strdup("");
    cr->port = 0;
    cr->scope = CR_SCOPE_DEFAULT;
    cr->adopt = false;
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
    free(c->texts);
    *c = (struct cr_condition){0};
}

static void join_condition(struct cr_condition *c)
{
    const char **const texts[] = {&c->status, &c->reason, &c->message};
    c->texts = mem_join(texts, ARRAY_LEN(texts));
}

static void read_conditions(struct cr *cr, struct json_value conditions)
{
    struct buf others;
    unsigned n_ours = 0;
    buf_init(&others, CR_CONDITIONS_MAX);
    cr->conditions_unread = json_type(conditions) == JSON_OMITTED;
    for (struct json_value c = json_first(conditions); json_exists(c); c = json_next(c)) {
        struct str text = json_text(c);
        if (json_type(c) != JSON_OBJECT) {
            continue;
        }
        bool ours = json_is(json_get(c, "type"), "Available");
        n_ours += ours;
        cr->available_last = ours && n_ours == 1;
        if (ours) {
            clear_condition(&cr->available);
            cr->available.status = condition_text(json_get(c, "status"));
            cr->available.reason = condition_text(json_get(c, "reason"));
            cr->available.message = condition_text(json_get(c, "message"));
            join_condition(&cr->available);
        } else if (buf_add(&others, ",", buf_len(&others) > 0) < 0 ||
                   buf_add(&others, text.p, text.n) < 0) {
            cr->conditions_unread = true;
        }
    }
    if (buf_len(&others) && !cr->conditions_unread) {
        cr->other_conditions = mem_strndup(buf_str(&others).p, buf_len(&others));
    }
    buf_free(&others);
}

/* Returns the names in status.tenants as "a,b", or NULL without status.tenants. "?" replaces a name
 * that is not a valid tenant, so that the text differs from everything that we write. */
static char *read_shown_tenants(struct json_value tenants)
{
    struct buf names;
    buf_init(&names, CR_TENANTS_MAX * (CR_NAMESPACE_MAX + 1));
    for (struct json_value v = json_first(tenants); json_exists(v); v = json_next(v)) {
        char *name = json_strdup(json_get(v, "tenantSubdomain"), NULL);
        int rc = buf_fmt(&names, "%s%s", buf_len(&names) ? "," : "",
                         name && tenant_is_valid(name) ? name : "?");
        free(name);
        if (rc < 0) {
            break;
        }
    }
    char *shown = json_given(tenants) ? mem_strndup(buf_str(&names).p, buf_len(&names)) : NULL;
    buf_free(&names);
    return shown;
}

/* Tells whether another manager owns the conditions. The CRD declares them as a list that is
 * written whole, so its last writer owns it. When managedFields was left out because of its size,
 * the owner is unknown and counts as another one. */
static bool written_by_another(struct json_value managed_fields, const char *field_manager)
{
    if (json_type(managed_fields) == JSON_OMITTED) {
        return true;
    }
    for (struct json_value e = json_first(managed_fields); json_exists(e); e = json_next(e)) {
        struct json_value status = json_get(json_get(e, "fieldsV1"), "f:status");
        if (json_exists(json_get(status, "f:conditions")) &&
            !json_is(json_get(e, "manager"), field_manager)) {
            return true;
        }
    }
    return false;
}

bool object_status_is_by(struct json_value object, const char *field, const char *manager)
{
    struct json_value entries = json_get(json_get(object, "metadata"), "managedFields");
    for (struct json_value e = json_first(entries); json_exists(e); e = json_next(e)) {
        struct json_value status = json_get(json_get(e, "fieldsV1"), "f:status");
        if (json_exists(json_get(status, field)) && json_is(json_get(e, "manager"), manager)) {
            return true;
        }
    }
    return false;
}

uint64_t object_version(struct json_value object)
{
    char *text = json_strdup(json_get(json_get(object, "metadata"), "resourceVersion"), NULL);
    uint64_t version = 0;
    int rc = text ? text_number(str_of(text), UINT64_MAX, &version) : ERR;
    free(text);
    return rc == OK ? version : 0;
}

static void read_status(struct cr *cr, struct json_value status, struct json_value managed_fields,
                        const char *field_manager)
{
    read_conditions(cr, json_get(status, "conditions"));
    cr->shown_tenants = read_shown_tenants(json_get(status, "tenants"));
    if (cr->available.status || cr->other_conditions || cr->conditions_unread) {
        bool foreign = written_by_another(managed_fields, field_manager);
        cr->status_owner = foreign ? CR_STATUS_FOREIGN : CR_STATUS_OURS;
    }
}

/* Sets *err with the names of the object as far as the metadata has them. Returns ERR. */
static int name_error(const struct reader *r, struct error *err)
{
    char name[100];
    text_printable(name, sizeof(name), str_of(r->cr->name ? r->cr->name : "?"));
    return error_set(err, FAIL_CONFIG, "Destination %s/%s: %s",
                     r->cr->namespace ? r->cr->namespace : "?", name, r->err.text);
}

int cr_parse(struct cr *cr, struct json_value object, const char *field_manager, struct error *err)
{
    *cr = (struct cr){0};
    struct reader r = {.cr = cr};
    struct json_value metadata = json_get(object, "metadata");
    int rc = read_metadata(&r, metadata);
    const char **const texts[] = {&cr->namespace, &cr->name, &cr->uid, &cr->created};
    cr->texts = mem_join(texts, ARRAY_LEN(texts));
    if (rc != OK) {
        name_error(&r, err);
        cr_clear(cr);
        return ERR;
    }
    cr->version = object_version(object);
    if (read_annotations(&r, json_get(metadata, "annotations")) < 0 ||
        read_spec(&r, json_get(object, "spec")) < 0) {
        forget_spec(cr);
        cr->wrong = mem_strdup(r.err.text);
    }
    read_status(cr, json_get(object, "status"), json_get(metadata, "managedFields"), field_manager);
    return OK;
}

void cr_clear(struct cr *cr)
{
    free(cr->texts);
    free(cr->wrong);
    dest_ref_clear(&cr->ref);
    clear_tenants(cr);
    clear_condition(&cr->available);
    free(cr->other_conditions);
    free(cr->shown_tenants);
    *cr = (struct cr){0};
}

/* Tells whether two texts are equal. Either may be NULL. */
static bool same_tenants(const struct cr *a, const struct cr *b)
{
    if (a->n_tenants != b->n_tenants || !text_same(a->tenants_wrong, b->tenants_wrong)) {
        return false;
    }
    for (size_t i = 0; i < a->n_tenants; i++) {
        if (strcmp(a->tenants[i], b->tenants[i]) != 0) {
            return false;
        }
    }
    return true;
}

bool cr_same_spec(const struct cr *a, const struct cr *b)
{
    return text_same(a->wrong, b->wrong) && dest_ref_equal(&a->ref, &b->ref) &&
           a->port == b->port && a->scope == b->scope && a->adopt == b->adopt && same_tenants(a, b);
}
