/* Tests local/object: which objects the files become, and the complaints about the others. */
#include "local/object.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/custom_resource.h"
#include "core/service_key.h"
#include "lib/text.h"
#include "tests/unit/world/objects.h"

static const struct local_object *parse(const char *text, struct error *err)
{
    struct object o = object_of(text);
    assert_true(local_object_is(o.root));
    const struct local_object *object = local_object_new(o.root, err);
    object_free(&o);
    return object;
}

static const struct local_object *good(const char *text)
{
    struct error err;
    const struct local_object *object = parse(text, &err);
    if (!object) {
        fail_msg("%s: %s", text, err.text);
    }
    return object;
}

/* Returns the text of a member of a member, or ""; the caller frees it. */
static char *text_at(const struct local_object *object, const char *outer, const char *inner)
{
    char *text = json_strdup(json_get(json_get(json_root(object->doc), outer), inner), NULL);
    return text ? text : strdup("");
}

static void expect_text(const struct local_object *object, const char *outer, const char *inner,
                        const char *expected)
{
    char *text = text_at(object, outer, inner);
    assert_string_equal(text, expected);
    free(text);
}

static void tells_objects_from_destinations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is;
    } cases[] = {
        {"{'apiVersion':'v1','kind':'Secret'}", true},
        {"{'apiVersion':1,'kind':[]}", true},
        {"{'Name':'inbox','Type':'MAIL'}", false},
        {"{'kind':'Secret'}", false},
        {"{'apiVersion':'v1'}", false},
        {"[]", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct object o = object_of(cases[i].text);
        assert_int_equal(local_object_is(o.root), cases[i].is);
        object_free(&o);
    }
}

/* A missing namespace is added; a given one stays. */
static void namespaces(void **state)
{
    (void)state;
    static const struct {
        const char *text, *kind, *namespace, *name;
    } cases[] = {
        {"{'apiVersion':'destination.connectivity.api.sap/v1','kind':'Destination','metadata':"
         "{'name':'a'},'spec':{'destinationRef':{'name':'d'}}}",
         "Destination", LOCAL_NAMESPACE, "a"},
        {"{'apiVersion':'destination.connectivity.api.sap/v1','kind':'Destination','metadata':"
         "{'name':'a','namespace':'apps'},'spec':{'destinationRef':{'name':'d'}}}",
         "Destination", "apps", "a"},
        {"{'apiVersion':'operator.kyma-project.io/v1alpha1','kind':'TransparentProxy','metadata':"
         "{'name':'tp','namespace':null}}",
         "TransparentProxy", LOCAL_HOME, "tp"},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'key','namespace':'vault'}}",
         "Secret", "vault", "key"},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'key'}}", "Secret", LOCAL_HOME,
         "key"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct local_object *o = good(cases[i].text);
        assert_string_equal(o->kind, cases[i].kind);
        assert_string_equal(o->namespace, cases[i].namespace);
        assert_string_equal(o->name, cases[i].name);
        expect_text(o, "metadata", "namespace", cases[i].namespace);
        expect_text(o, "metadata", "name", cases[i].name);
        local_object_unref(o);
    }
}

/* Spec, data, annotations and the age are passed on unchanged. Other members that only the API
 * server writes are not. */
static void keeps_what_counts(void **state)
{
    (void)state;
    const struct local_object *o =
        good("{'apiVersion':'destination.connectivity.api.sap/v1','kind':'Destination','metadata':"
             "{'name':'a','uid':'u','resourceVersion':'7','creationTimestamp':"
             "'2026-01-01T00:00:00Z','deletionTimestamp':'2026-01-01T00:00:00Z',"
             "'managedFields':[],'annotations':{'tproxy/adopt':'true'}},"
             "'spec':{'destinationRef':{'name':'d\\u00e4'},'service':{'port':1}},"
             "'status':{'conditions':[{'type':'Available','status':'True'}]}}");
    struct cr cr;
    struct error err;
    assert_int_equal(cr_parse(&cr, json_root(o->doc), "tproxy", &err), OK);
    assert_string_equal(cr.ref.name, "d\xC3\xA4");
    assert_int_equal(cr.port, 1);
    assert_true(cr.adopt);
    assert_false(cr.deleting);
    assert_string_equal(cr.uid, "");
    assert_string_equal(cr.created, "2026-01-01T00:00:00Z");
    assert_null(cr.available.status);
    cr_clear(&cr);
    local_object_unref(o);
}

/* Both layouts of a Secret become a service key. */
static void secrets(void **state)
{
    (void)state;
    static const struct {
        const char *text, *key;
    } cases[] = {
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k'},'stringData':{'clientid':'id',"
         "'clientsecret':'hush','url':'https://a.example.com','uri':'https://d.example.com'}}",
         NULL},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k'},'data':{'clientid':'aWQ=',"
         "'clientsecret':'aHVzaA==','url':'aHR0cHM6Ly9hLmV4YW1wbGUuY29t',"
         "'uri':'aHR0cHM6Ly9kLmV4YW1wbGUuY29t'}}",
         NULL},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k'},'stringData':{'all':"
         "'{\\'clientid\\':\\'id\\',\\'clientsecret\\':\\'hush\\',\\'url\\':"
         "\\'https://a.example.com\\',\\'uri\\':\\'https://d.example.com\\'}'}}",
         "all"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err;
        const struct local_object *o = good(cases[i].text);
        const struct service_key *key =
            service_key_from_secret(json_root(o->doc), cases[i].key, SERVICE_KEY_DESTINATION, &err);
        if (!key) {
            fail_msg("%s", err.text);
        }
        assert_string_equal(key->client_id, "id");
        assert_string_equal(key->client_secret.p, "hush");
        service_key_unref(key);
        local_object_unref(o);
    }
}

/* The order of members, white space and the status do not change the digest; other changes do. */
static void digests(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool same;
    } cases[] = {
        {"{'kind':'Secret','apiVersion':'v1','metadata':{'name':'k'},'data':{'b':'Mg==',"
         "'a':'MQ=='}}",
         true},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k','uid':'u'},"
         "'data':{'a':'MQ==','b':'Mg=='},'status':{}}",
         true},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k'},"
         "'data':{'a':'MQ==','b':'Mw=='}}",
         false},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k'},"
         "'stringData':{'a':'MQ==','b':'Mg=='}}",
         false},
    };
    const struct local_object *first =
        good("{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k'},'data':{'a':'MQ==',"
             "'b':'Mg=='}}");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct local_object *o = good(cases[i].text);
        assert_int_equal(o->digest == first->digest, cases[i].same);
        local_object_unref(o);
    }
    local_object_unref(first);
}

static void complaints(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{'apiVersion':'v1','kind':'List','items':[]}",
         "kind: List is not supported; put a Destination, a TransparentProxy or a Secret into a "
         "file of its own, or a plain destination as exported from the BTP cockpit"},
        {"{'apiVersion':'v1','kind':'Sec\\u0007ret'}", "kind: Sec?ret is not supported"},
        {"{'apiVersion':'v1','kind':7}", "kind: ? is not supported"},
        {"{'apiVersion':'v1','kind':'Secret'}", "metadata.name: is missing; give one"},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':''}}", "metadata.name: is missing"},
        {"{'apiVersion':'v1','kind':'Secret','metadata':{'name':7}}", "metadata.name: is missing"},
        {"{'apiVersion':'v1','kind':'Secret','metadata':[]}", "metadata.name: is missing"},
        {"{'apiVersion':'x/v1','kind':'Destination','metadata':{'name':'a'}}",
         "Destination default/a: spec is missing; it must be an object"},
        {"{'apiVersion':'x/v1','kind':'Destination','metadata':{'name':'a','namespace':'B'},"
         "'spec':{'destinationRef':{'name':'d'}}}",
         "metadata.namespace is not a namespace: lower-case letters, digits and '-'"},
        {"{'apiVersion':'x/v1','kind':'Destination','metadata':{'name':'a'},"
         "'spec':{'destinationRef':{'name':'d'},'service':{'port':70000}}}",
         "spec.service.port is 70000; it must be a number from 1 to 65535"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err;
        assert_null(parse(cases[i].text, &err));
        assert_int_equal(err.fail, FAIL_CONFIG);
        if (!strstr(err.text, cases[i].says)) {
            fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].says);
        }
    }
}

static void too_large(void **state)
{
    (void)state;
    struct error err;
    struct buf text;
    buf_init(&text, SIZE_MAX);
    assert_int_equal(json_fmt(&text, "{'apiVersion':'v1','kind':'Secret','metadata':{'name':'k'},"
                                     "'data':{'a':'"),
                     OK);
    char *room = buf_room(&text, LOCAL_OBJECT_MAX);
    memset(room, 'A', LOCAL_OBJECT_MAX);
    buf_added(&text, LOCAL_OBJECT_MAX);
    assert_int_equal(json_fmt(&text, "'}}"), OK);
    struct json *doc = json_parse(buf_str(&text), &err);
    assert_non_null(doc);
    assert_null(local_object_new(json_root(doc), &err));
    assert_int_equal(err.fail, FAIL_LIMIT);
    assert_string_equal(err.text, "is too large");
    json_free(doc);
    buf_free(&text);
}

/* Destinations may have longer and stranger names than CRs in a cluster. */
static void for_plain_destinations(void **state)
{
    (void)state;
    char longest[201];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    const char *const names[] = {"inbox", "My Mail/\"box\"", "\xC3\xA4", "*", longest};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct cr cr;
        struct error err;
        const struct local_object *o = local_object_of_destination(names[i]);
        assert_string_equal(o->name, names[i]);
        assert_string_equal(o->namespace, LOCAL_NAMESPACE);
        assert_int_equal(cr_parse(&cr, json_root(o->doc), "tproxy", &err), OK);
        assert_string_equal(cr.ref.name, names[i]);
        assert_null(cr.ref.instance);
        cr_clear(&cr);
        local_object_unref(o);
    }
}

static void references(void **state)
{
    (void)state;
    const struct local_object *o = local_object_of_destination("inbox");
    assert_ptr_equal(local_object_ref(o), o);
    local_object_unref(o);
    assert_string_equal(o->name, "inbox");
    local_object_unref(o);
    local_object_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_objects_from_destinations),
        cmocka_unit_test(namespaces),
        cmocka_unit_test(keeps_what_counts),
        cmocka_unit_test(secrets),
        cmocka_unit_test(digests),
        cmocka_unit_test(complaints),
        cmocka_unit_test(too_large),
        cmocka_unit_test(for_plain_destinations),
        cmocka_unit_test(references),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
