/* Kubernetes objects of local mode. An object whose file names no namespace gets one, as the API
 * server would add it. */
#include "local/object.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/custom_resource.h"
#include "lib/mem.h"

static const struct {
    const char *kind, *namespace;
} kinds[] = {
    {CR_KIND, LOCAL_NAMESPACE},
    {"TransparentProxy", LOCAL_HOME},
    {"Secret", LOCAL_HOME},
};

/* The members of an object that are kept, and those of its metadata besides its names. */
static const char *const members[] = {"spec", "data", "stringData"};
static const char *const metadata_members[] = {"creationTimestamp", "annotations"};

bool local_object_is(struct json_value root)
{
    return json_exists(json_get(root, "kind")) && json_exists(json_get(root, "apiVersion"));
}

const struct local_object *local_object_ref(const struct local_object *object)
{
    ((struct local_object *)object)->refs++;
    return object;
}

void local_object_unref(const struct local_object *object)
{
    struct local_object *o = (struct local_object *)object;
    if (!o || --o->refs > 0) {
        return;
    }
    json_free(o->doc);
    mem_wipe(o->text, strlen(o->text));
    free(o->text);
    free(o->namespace);
    free(o->name);
    free(o);
}

/* Writes those of the members that the object has, each after a comma. */
static int write_members(struct buf *out, struct json_value object, const char *const *names,
                         size_t n)
{
    int rc = OK;
    for (size_t i = 0; i < n; i++) {
        struct json_value member = json_get(object, names[i]);
        struct str text = json_text(member);
        if (json_exists(member)) {
            rc |= buf_fmt(out, ",\"%s\":", names[i]);
            rc |= buf_add(out, text.p, text.n);
        }
    }
    return rc;
}

/* Writes the text of the object as the API server would have it. */
static int write_object(struct buf *out, struct json_value root, const struct local_object *o)
{
    struct json_value metadata = json_get(root, "metadata");
    int rc = json_fmt(out, "{'apiVersion':");
    struct str version = json_text(json_get(root, "apiVersion"));
    rc |= buf_add(out, version.p, version.n);
    rc |= json_fmt(out, ",'kind':%s,'metadata':{'namespace':%s,'name':%s", o->kind, o->namespace,
                   o->name);
    rc |= write_members(out, metadata, metadata_members, ARRAY_LEN(metadata_members));
    rc |= json_fmt(out, "}") | write_members(out, root, members, ARRAY_LEN(members));
    return rc | json_fmt(out, "}");
}

/* Makes the text, the document and the digest of an object whose kind and names are set. */
static int finish(struct local_object *o, struct json_value root, struct error *err)
{
    struct buf text;
    buf_init(&text, LOCAL_OBJECT_MAX);
    int rc = write_object(&text, root, o);
    o->text = mem_strndup(buf_str(&text).p, buf_len(&text));
    buf_wipe(&text);
    o->doc = rc == OK ? json_parse(str_of(o->text), err) : NULL;
    if (!o->doc) {
        return rc == OK ? ERR : error_set(err, FAIL_LIMIT, "is too large");
    }
    o->digest = json_digest(json_root(o->doc));
    return OK;
}

static int set_kind(struct local_object *o, struct json_value root, struct error *err)
{
    char *kind = json_strdup(json_get(root, "kind"), NULL), shown[80];
    for (size_t i = 0; kind && i < ARRAY_LEN(kinds); i++) {
        if (strcmp(kind, kinds[i].kind) == 0) {
            o->kind = kinds[i].kind;
            o->namespace = mem_strdup(kinds[i].namespace);
        }
    }
    if (!o->kind) {
        error_set(err, FAIL_CONFIG,
                  "kind: %s is not supported; put a Destination, a TransparentProxy or a Secret "
                  "into a file of its own, or a plain destination as exported from the BTP cockpit",
                  text_printable(shown, sizeof(shown), str_of(kind ? kind : "?")));
    }
    free(kind);
    return o->kind ? OK : ERR;
}

static int set_names(struct local_object *o, struct json_value root, struct error *err)
{
    struct json_value metadata = json_get(root, "metadata");
    char *namespace = json_strdup(json_get(metadata, "namespace"), NULL);
    o->name = json_strdup(json_get(metadata, "name"), NULL);
    if (namespace) {
        free(o->namespace);
        o->namespace = namespace;
    }
    if (!o->name || !o->name[0]) {
        return error_set(err, FAIL_CONFIG, "metadata.name: is missing; give one");
    }
    return OK;
}

/* Checks a CR as the CRD would. */
static int check_resource(const struct local_object *o, struct error *err)
{
    struct cr cr;
    if (strcmp(o->kind, CR_KIND) != 0) {
        return OK;
    }
    int rc = cr_parse(&cr, json_root(o->doc), "", err);
    if (rc == OK && cr.wrong) {
        rc = error_set(err, FAIL_CONFIG, "Destination %s/%s: %s", cr.namespace, cr.name, cr.wrong);
    }
    cr_clear(&cr);
    return rc;
}

const struct local_object *local_object_new(struct json_value root, struct error *err)
{
    struct local_object *o = mem_zalloc(sizeof(*o));
    o->refs = 1;
    if (set_kind(o, root, err) == OK && set_names(o, root, err) == OK &&
        finish(o, root, err) == OK && check_resource(o, err) == OK) {
        return o;
    }
    if (!o->text) {
        o->text = mem_strdup("");
    }
    local_object_unref(o);
    return NULL;
}

const struct local_object *local_object_of_destination(const char *name)
{
    struct buf text;
    struct error err;
    buf_init(&text, LOCAL_OBJECT_MAX);
    int rc = json_fmt(&text,
                      "{'apiVersion':%s,'kind':%s,'metadata':{'name':%s},"
                      "'spec':{'destinationRef':{'name':%s}}}",
                      CR_API_VERSION, CR_KIND, name, name);
    struct json *doc = rc == OK ? json_parse(buf_str(&text), &err) : NULL;
    const struct local_object *o = doc ? local_object_new(json_root(doc), &err) : NULL;
    json_free(doc);
    buf_free(&text);
    assert(o); /* the name of a destination is bounded and on one line */
    return o;
}
