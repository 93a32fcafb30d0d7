/* Reads the properties of a Destination as names and texts. */
#include "core/properties.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/mem.h"
#include "lib/text.h"

static int value_text(struct json_value v, const char *name, struct property *out,
                      struct error *err)
{
    bool yes;
    switch (json_type(v)) {
    case JSON_STRING:
        out->value = json_strdup(v, &out->n);
        return OK;
    case JSON_BOOL:
        yes = json_bool(v, &yes) == OK && yes;
        out->value = mem_strdup(yes ? "true" : "false");
        out->n = strlen(out->value);
        return OK;
    case JSON_NUMBER:
        out->n = json_text(v).n;
        out->value = mem_strndup(json_text(v).p, out->n);
        return OK;
    case JSON_NONE:
    case JSON_NULL:
    case JSON_ARRAY:
    case JSON_OBJECT:
    case JSON_OMITTED:
        break;
    }
    char shown[80];
    return error_set(err, FAIL_CONFIG, "%s: is %s; a property is a string, a number or a boolean",
                     text_printable(shown, sizeof(shown), str_of(name)),
                     json_type_name(json_type(v)));
}

static void property_free(struct property *p)
{
    free(p->name);
    if (p->value) {
        mem_wipe(p->value, p->n);
        free(p->value);
    }
}

/* Adds p to one of the two lists, and takes over its texts, also on ERR. */
static int add(struct property **list, size_t *n, struct property p, const char *what,
               struct error *err)
{
    if (*n == PROPERTIES_MAX) {
        property_free(&p);
        return error_set(err, FAIL_LIMIT, "more than %d %s", PROPERTIES_MAX, what);
    }
    if (*n % 32 == 0) {
        *list = mem_realloc(*list, (*n + 32) * sizeof(**list));
    }
    (*list)[(*n)++] = p;
    return OK;
}

int properties_add(struct properties *props, struct property p, struct error *err)
{
    return add(&props->list, &props->n, p, "properties", err);
}

static bool is_certificates(struct json_value member)
{
    return json_type(member) == JSON_ARRAY && json_is(json_key(member), "certificates");
}

static int add_member(struct properties *props, struct json_value member, struct error *err)
{
    struct property p = {.name = json_strdup(json_key(member), NULL)};
    if (!p.name) {
        return error_set(err, FAIL_CONFIG, "the name of a property contains a NUL character");
    }
    if (p.name[0] == '$' || json_type(member) == JSON_NULL || is_certificates(member)) {
        free(p.name);
        return OK;
    }
    if (value_text(member, p.name, &p, err) < 0) {
        free(p.name);
        return ERR;
    }
    return properties_add(props, p, err);
}

/* Adds the certificate files. Names of members are accepted in lower case, too, as SAP's client for
 * JavaScript does. */
static int add_certificates(struct properties *props, struct json_value files, struct error *err)
{
    for (struct json_value f = json_first(files); json_exists(f); f = json_next(f)) {
        struct json_value name = json_get(f, "Name"), content = json_get(f, "Content");
        struct property p = {0};
        p.name = json_strdup(json_exists(name) ? name : json_get(f, "name"), NULL);
        p.value = json_strdup(json_exists(content) ? content : json_get(f, "content"), &p.n);
        if (!p.name || !p.value) {
            property_free(&p);
        } else if (add(&props->certificates, &props->n_certificates, p, "certificates", err) < 0) {
            return ERR;
        }
    }
    return OK;
}

struct properties *properties_from_json(struct json_value v, struct error *err)
{
    struct json_value inner = json_get(v, "destinationConfiguration");
    struct json_value object = json_exists(inner) ? inner : v;
    if (json_type(object) != JSON_OBJECT) {
        error_set(err, FAIL_CONFIG, "is %s; a destination is an object of properties",
                  json_type_name(json_type(object)));
        return NULL;
    }
    struct properties *props = mem_zalloc(sizeof(*props));
    struct json_value files = json_get(v, "certificates");
    if (json_type(files) == JSON_ARRAY && add_certificates(props, files, err) < 0) {
        properties_free(props);
        return NULL;
    }
    for (struct json_value m = json_first(object); json_exists(m); m = json_next(m)) {
        if (add_member(props, m, err) < 0) {
            properties_free(props);
            return NULL;
        }
    }
    return props;
}

void properties_free(struct properties *props)
{
    if (!props) {
        return;
    }
    for (size_t i = 0; i < props->n; i++) {
        property_free(&props->list[i]);
    }
    for (size_t i = 0; i < props->n_certificates; i++) {
        property_free(&props->certificates[i]);
    }
    free(props->list);
    free(props->certificates);
    free(props);
}

const char *properties_get(const struct properties *props, const char *name, size_t *n)
{
    /* From the end, because the last one of several properties with the same name counts. */
    for (size_t i = props->n; i-- > 0;) {
        if (strcmp(props->list[i].name, name) == 0) {
            if (n) {
                *n = props->list[i].n;
            }
            return props->list[i].value;
        }
    }
    return NULL;
}

const char *properties_certificate(const struct properties *props, struct str name, size_t *n)
{
    for (size_t i = 0; i < props->n_certificates; i++) {
        if (str_eq(name, props->certificates[i].name)) {
            *n = props->certificates[i].n;
            return props->certificates[i].value;
        }
    }
    return NULL;
}
