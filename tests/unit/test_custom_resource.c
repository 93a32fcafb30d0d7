/* Tests core/custom_resource: SAP's samples, every field, every refusal, and whose status it is. */
#include "core/custom_resource.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/text.h"
#include "tests/unit/world/objects.h"

static struct error err;

static int parse(struct cr *cr, const char *text)
{
    struct object o = object_of(text);
    err = (struct error){0};
    int result = cr_parse(cr, o.root, "tproxy", &err);
    assert_int_equal(result < 0, err.text[0] != '\0');
    object_free(&o);
    return result;
}

static struct cr good(const char *text)
{
    struct cr cr;
    if (parse(&cr, text) < 0 || cr.wrong) {
        fail_msg("%s%s: %s", err.text, cr.wrong ? cr.wrong : "", text);
    }
    return cr;
}

static void expect_words(const char *text, const char *words)
{
    if (!strstr(text, words)) {
        fail_msg("\"%s\" is not in \"%s\"", words, text);
    }
}

/* Checks that the object has a name and an invalid spec, no part of which is used. */
static void wrong(const char *text, const char *complaint)
{
    struct cr cr;
    if (parse(&cr, text) < 0 || !cr.wrong) {
        fail_msg("%s: %s", err.text[0] ? err.text : "accepted", text);
    }
    expect_words(cr.wrong, complaint);
    assert_true(cr.name[0] && cr.namespace[0]);
    struct dest_ref nothing = {.name = ""};
    assert_true(dest_ref_equal(&cr.ref, &nothing));
    assert_true(cr.port == 0 && cr.scope == CR_SCOPE_DEFAULT && !cr.adopt && cr.n_tenants == 0);
    cr_clear(&cr);
}

/* Checks that the text names no object. */
static void bad(const char *text, const char *complaint)
{
    struct cr cr;
    if (parse(&cr, text) == OK) {
        fail_msg("accepted: %s", text);
    }
    assert_null(cr.name);
    assert_null(cr.namespace);
    assert_int_equal(err.fail, FAIL_CONFIG);
    expect_words(err.text, complaint);
}

#define HEAD "'apiVersion':'destination.connectivity.api.sap/v1','kind':'Destination',"
#define NAMED(name) "'metadata':{'name':'" name "','namespace':'default'},"
#define WITH_SPEC(spec) "{" HEAD NAMED("mail") "'spec':{" spec "}}"
#define WITH_STATUS(metadata, status)                                                              \
    "{" HEAD "'metadata':{'name':'mail','namespace':'default'" metadata                            \
    "},'spec':{'destinationRef':{'name':'d'}},'status':{" status "}}"

static const struct dest_variable two[] = {{"key1", "value1"}, {"key2", "value2"}};
static const struct dest_variable saml[] = {
    {"samlProviderDestinationName", "samlAssertionProviderDest"}, {"none", ""}};

/* The samples in SAP's documentation. */
static const struct {
    const char *spec;
    struct dest_ref ref;
    enum cr_scope scope;
    uint16_t port;
} samples[] = {
    {"'destinationRef':{'name':'example-dest-pop3'},"
     "'destinationServiceInstanceName':'dest-service-instance'",
     {.name = "example-dest-pop3", .instance = "dest-service-instance"},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'example-dest-pop3'},'accessControl':{'scope':'clusterWide'}",
     {.name = "example-dest-pop3"},
     CR_SCOPE_CLUSTER_WIDE,
     0},
    {"'destinationRef':{'name':'example-dest-pop3'},'accessControl':{'scope':'namespaced'}",
     {.name = "example-dest-pop3"},
     CR_SCOPE_NAMESPACED,
     0},
    {"'destinationRef':{'name':'example-dest-pop3'},'fragmentRef':{'name':'example-fragment'},"
     "'destinationServiceInstanceName':'dest-service-instance'",
     {.name = "example-dest-pop3",
      .fragment = "example-fragment",
      .instance = "dest-service-instance"},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'example-dest-pop3'},"
     "'fragmentRef':{'name':'example-fragment','optional':true}",
     {.name = "example-dest-pop3", .fragment = "example-fragment", .fragment_optional = true},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'example-dest-pop3','level':'provider_subaccount'},"
     "'fragmentRef':{'name':'example-fragment','level':'provider_instance'}",
     {.name = "example-dest-pop3",
      .level = "provider_subaccount",
      .fragment = "example-fragment",
      .fragment_level = "provider_instance"},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'example-dest-pop3'},'chainRef':{'name':'chain-name',"
     "'variables':[{'name':'key1','value':'value1'},{'name':'key2','value':'value2'}]}",
     {.name = "example-dest-pop3", .chain = "chain-name", .variables = two, .n_variables = 2},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'example-dest-pop3'},"
     "'destinationServiceInstanceName':'dest-service-instance','service':{'port':1110}",
     {.name = "example-dest-pop3", .instance = "dest-service-instance"},
     CR_SCOPE_DEFAULT,
     1110},
    {"'destinationRef':{'name':'*'},'destinationServiceInstanceName':'dest-service-instance'",
     {.name = "*", .instance = "dest-service-instance"},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'samlAssertionConsumerDest'},"
     "'destinationServiceInstanceName':'dest-service-instance',"
     "'chainRef':{'name':'com.sap.iasGeneratedOAuth2SamlBearerAssertion','variables':["
     "{'name':'samlProviderDestinationName','value':'samlAssertionProviderDest'},"
     "{'name':'none'}]}",
     {.name = "samlAssertionConsumerDest",
      .instance = "dest-service-instance",
      .chain = "com.sap.iasGeneratedOAuth2SamlBearerAssertion",
      .variables = saml,
      .n_variables = 2},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'http'},'actions':[{'name':'OAuth2JWTBearer','secretRef':"
     "{'name':'jwtbearer-credentials','key':'credentials'},'triggers':[{'name':'exactMatch',"
     "'matches':[{'destinationProperty':'HTML5.ForwardAuthToken','value':'true'}]},{'name':"
     "'exist','destinationProperties':['tokenService.body.resource']}]}]",
     {.name = "http"},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'onpremise-http'},'actions':[{'name':"
     "'OAuth2TechnicalUserPropagation','secretRef':{'name':'tup-credentials',"
     "'key':'credentials'}}]",
     {.name = "onpremise-http"},
     CR_SCOPE_DEFAULT,
     0},
    /* pasted from the documentation, comment included */
    {"'destinationRef':{'name':'d'},'destinationServiceInstanceName':'inst // can be ommited'",
     {.name = "d", .instance = "inst // can be ommited"},
     CR_SCOPE_DEFAULT,
     0},
    /* null and empty values count as absent */
    {"'destinationRef':{'name':'d','level':null},'fragmentRef':{'name':'','optional':null},"
     "'chainRef':null,'destinationServiceInstanceName':null,'service':{'port':null},"
     "'accessControl':{'scope':null}",
     {.name = "d"},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'d'},'destinationServiceInstanceName':'','service':{},"
     "'chainRef':{'variables':[]}",
     {.name = "d"},
     CR_SCOPE_DEFAULT,
     0},
    {"'destinationRef':{'name':'d'},'service':{'port':65535}",
     {.name = "d"},
     CR_SCOPE_DEFAULT,
     65535},
};

static void test_samples(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        char text[2048];
        text_fmt(text, sizeof(text), WITH_SPEC("%s"), samples[i].spec);
        struct cr cr = good(text);
        assert_string_equal(cr.namespace, "default");
        assert_string_equal(cr.name, "mail");
        assert_string_equal(cr.uid, "");
        assert_string_equal(cr.created, "");
        assert_false(cr.deleting);
        if (!dest_ref_equal(&cr.ref, &samples[i].ref)) {
            fail_msg("another reference: %s", text);
        }
        assert_int_equal(cr.scope, samples[i].scope);
        assert_int_equal(cr.port, samples[i].port);
        assert_false(cr.adopt);
        assert_int_equal(cr.n_tenants, 0);
        assert_null(cr.tenants_wrong);
        assert_int_equal(cr.status_owner, CR_STATUS_NONE);
        assert_null(cr.available.status);
        assert_null(cr.other_conditions);
        assert_null(cr.shown_tenants);
        cr_clear(&cr);
        cr_clear(&cr);
    }
}

static void test_metadata(void **state)
{
    (void)state;
    struct cr cr = good("{" HEAD "'metadata':{'name':'mail','namespace':'a-1',"
                        "'uid':'2b6c0d5e','creationTimestamp':'2025-11-03T08:00:00Z',"
                        "'deletionTimestamp':'2025-11-03T09:00:00Z','annotations':{"
                        "'transparent-proxy.connectivity.api.sap/tenant-subdomains':"
                        "'[\\'tenant-subdomain\\']','tproxy/adopt':'true'}},"
                        "'spec':{'destinationRef':{'name':'d'}}}");
    assert_string_equal(cr.namespace, "a-1");
    assert_string_equal(cr.uid, "2b6c0d5e");
    assert_string_equal(cr.created, "2025-11-03T08:00:00Z");
    assert_true(cr.deleting);
    assert_true(cr.adopt);
    assert_int_equal(cr.n_tenants, 1);
    assert_string_equal(cr.tenants[0], "tenant-subdomain");
    cr_clear(&cr);

    cr = good("{" HEAD "'metadata':{'name':'mail','namespace':'a','deletionTimestamp':null,"
              "'annotations':{'tproxy/adopt':'yes'}},'spec':{'destinationRef':{'name':'d'}}}");
    assert_false(cr.deleting || cr.adopt || cr.n_tenants || cr.tenants_wrong);
    cr_clear(&cr);
}

/* Checks the names, separated by commas, or the complaint. The annotation is JSON in a JSON
 * string. */
static void with_tenants(const char *annotation, const char *names, const char *wrong_with_it)
{
    char text[2048], got[1024] = "";
    text_fmt(text, sizeof(text),
             "{" HEAD "'metadata':{'name':'mail','namespace':'a','annotations':{"
             "'transparent-proxy.connectivity.api.sap/tenant-subdomains':%s}},"
             "'spec':{'destinationRef':{'name':'d'}}}",
             annotation);
    struct cr cr = good(text);
    for (size_t i = 0, n = 0; i < cr.n_tenants; i++) {
        n += text_fmt(got + n, sizeof(got) - n, "%s%s", i ? "," : "", cr.tenants[i]);
    }
    assert_string_equal(got, names);
    expect_words(cr.tenants_wrong ? cr.tenants_wrong : "nothing", wrong_with_it);
    cr_clear(&cr);
}

static void test_tenants(void **state)
{
    (void)state;
    with_tenants("null", "", "nothing");
    with_tenants("'[\\'b\\',\\'a\\',\\'a-b\\']'", "a,a-b,b", "nothing");
    with_tenants("' [ \\'Some-Tenant\\' , \\'0\\' ] '", "0,some-tenant", "nothing");
    with_tenants("''", "", "it is not JSON: line 1");
    with_tenants("'a, b'", "", "it is not JSON: line 1");
    with_tenants("'[\\'a\\'] x'", "", "it is not JSON: line 1");
    with_tenants("['a']", "", "it is an array; it must be a string");
    with_tenants("'[]'", "", "it is empty; it must be an array of strings");
    with_tenants("'{}'", "", "it is an object; it must be an array of strings");
    with_tenants("'\\'a\\''", "", "it is a string; it must be an array of strings");
    with_tenants("'[\\'a\\',7]'", "", "7 in it is not a tenant");
    with_tenants("'[\\'a\\',null]'", "", "null in it is not a tenant");
    with_tenants("'[\\'a.b\\']'", "", "\"a.b\" in it is not a tenant: one label");
    with_tenants("'[\\'\\']'", "", "\"\" in it is not a tenant");
    with_tenants("'[\\'-a\\']'", "", "\"-a\" in it is not a tenant");
    with_tenants("'[\\'a\\\\u0000\\']'", "", "in it is not a tenant");
    with_tenants("'[\\'a\\',\\'b\\',\\'A\\']'", "", "\"a\" is in it twice");
}

static void test_many_tenants(void **state)
{
    (void)state;
    static char text[32 * CR_TENANTS_MAX];
    for (int more = 0; more < 2; more++) {
        size_t n = text_fmt(text, sizeof(text),
                            "{'metadata':{'name':'m','namespace':'n','annotations':{"
                            "'transparent-proxy.connectivity.api.sap/tenant-subdomains':'[");
        for (int i = 0; i < CR_TENANTS_MAX + more; i++) {
            n += text_fmt(text + n, sizeof(text) - n, "%s\\'t%d\\'", i ? "," : "", i);
        }
        text_fmt(text + n, sizeof(text) - n, "]'}},'spec':{'destinationRef':{'name':'d'}}}");
        struct cr cr = good(text);
        assert_int_equal(cr.n_tenants, more ? 0 : CR_TENANTS_MAX);
        assert_string_equal(cr.tenants_wrong ? cr.tenants_wrong : "",
                            more ? "it names more than 1000 tenants" : "");
        cr_clear(&cr);
    }
}

/* Returns a name of n letters. */
static const char *letters(size_t n)
{
    static char text[300];
    memset(text, 'a', n);
    text[n] = '\0';
    return text;
}

static void test_without_a_name(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"7", "Destination ?/?: metadata.name is missing"},
        {"{}", "Destination ?/?: metadata.name is missing"},
        {"{'metadata':{'name':'a'}}", "Destination ?/a: metadata.namespace is missing"},
        {"{'metadata':{'name':'a','namespace':''}}", "metadata.namespace is missing"},
        {"{'metadata':{'name':'a','namespace':'b/c'}}", "metadata.namespace is not a namespace"},
        {"{'metadata':{'name':'a','namespace':'B'}}", "metadata.namespace is not a namespace"},
        {"{'metadata':{'name':7,'namespace':'b'}}", "metadata.name is a number"},
        {"{'metadata':{'name':'a\\u0000','namespace':'b'}}", "contains a control character"},
        {"{'metadata':{'name':'a','namespace':'b','uid':[]}}", "metadata.uid is an array"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bad(rows[i][0], rows[i][1]);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        /* the reference stands below metadata */
        {"{" HEAD "'metadata':{'name':'mail-h','namespace':'default','destinationRef':{'name':"
         "'example-dest-pop3'}}}",
         "spec is missing"},
        {"{" NAMED("m") "'spec':null}", "spec is null; it must be an object"},
        {"{" NAMED("m") "'spec':[]}", "spec is an array; it must be an object"},
        {WITH_SPEC(""), "spec.destinationRef.name is missing"},
        {WITH_SPEC("'destinationRef':'d'"), "spec.destinationRef.name is missing"},
        {WITH_SPEC("'destinationRef':{'name':null}"), "spec.destinationRef.name is missing"},
        {WITH_SPEC("'destinationRef':{'name':''}"), "spec.destinationRef.name is missing"},
        {WITH_SPEC("'destinationRef':{'name':5}"), "spec.destinationRef.name is a number"},
        {WITH_SPEC("'destinationRef':{'name':'a\\nb'}"),
         "spec.destinationRef.name contains a control character"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'destinationServiceInstanceName':true"),
         "spec.destinationServiceInstanceName is a boolean; it must be a string"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'service':{'port':0}"),
         "spec.service.port is 0; it must be a number from 1 to 65535"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'service':{'port':65536}"), "is 65536;"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'service':{'port':-1}"), "is -1;"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'service':{'port':1.5}"), "is 1.5;"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'service':{'port':'110'}"), "is \"110\";"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'accessControl':{'scope':'clusterwide'}"),
         "spec.accessControl.scope is \"clusterwide\"; it must be \"namespaced\" or"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'accessControl':{'scope':''}"), "is \"\";"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'accessControl':{'scope':1}"), "is 1;"},
        {WITH_SPEC("'destinationRef':{'name':'d','level':1}"),
         "spec.destinationRef.level is a number; it must be a string"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'fragmentRef':{'name':1}"),
         "spec.fragmentRef.name is a number"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'fragmentRef':{'name':'f','level':1}"),
         "spec.fragmentRef.level is a number"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'fragmentRef':{'name':'f','optional':'true'}"),
         "spec.fragmentRef.optional is a string; it must be true or false"},
        /* a level alone has no documented meaning */
        {WITH_SPEC("'destinationRef':{'name':'d'},'fragmentRef':{'level':'instance'}"),
         "spec.fragmentRef.level means nothing without spec.fragmentRef.name; give both"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'chainRef':{'name':1}"),
         "spec.chainRef.name is a number"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'chainRef':{'name':'c','variables':[{}]}"),
         "spec.chainRef.variables[].name is missing; give one"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'chainRef':{'name':'c','variables':["
                   "{'name':'a','value':'b'},{'name':'a','value':7}]}"),
         "spec.chainRef.variables[].value is a number"},
        {WITH_SPEC("'destinationRef':{'name':'d'},'chainRef':{'name':'c','variables':["
                   "{'name':'a','value':'b\\r\\nc'}]}"),
         "spec.chainRef.variables[].value contains a control character"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        wrong(rows[i][0], rows[i][1]);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    char text[1024];
    text_fmt(text, sizeof(text), "{" NAMED("m") "'spec':{'destinationRef':{'name':'%s'}}}",
             letters(CR_NAME_MAX));
    struct cr cr = good(text);
    assert_int_equal(strlen(cr.ref.name), CR_NAME_MAX);
    cr_clear(&cr);
    text_fmt(text, sizeof(text), "{" NAMED("m") "'spec':{'destinationRef':{'name':'%s'}}}",
             letters(CR_NAME_MAX + 1));
    wrong(text, "spec.destinationRef.name is longer than 253 octets; shorten it");

    text_fmt(text, sizeof(text), "{'metadata':{'name':'m','namespace':'%s'},'spec':7}",
             letters(CR_NAMESPACE_MAX + 1));
    bad(text, "metadata.namespace is longer than 63 octets");

    for (int more = 0; more < 2; more++) {
        char list[1024];
        size_t n = 0;
        for (int i = 0; i < CR_VARIABLES_MAX + more; i++) {
            n += text_fmt(list + n, sizeof(list) - n, "%s{'name':'v'}", i ? "," : "");
        }
        char spec[2048];
        text_fmt(spec, sizeof(spec),
                 WITH_SPEC("'destinationRef':{'name':'d'},'chainRef':{'variables':[%s]}"), list);
        if (more) {
            wrong(spec, "spec.chainRef.variables has more than 64 entries; remove some");
        } else {
            cr = good(spec);
            assert_int_equal(cr.ref.n_variables, CR_VARIABLES_MAX);
            cr_clear(&cr);
        }
    }

    /* The message names the mistake even if the object's name has the greatest length. */
    text_fmt(text, sizeof(text), "{'metadata':{'name':'%s','namespace':'%.63s'},'spec':7}",
             letters(CR_NAME_MAX), letters(CR_NAME_MAX));
    wrong(text, "spec is a number; it must be an object");
}

#define CONDITION(type, status) "{'type':'" type "','status':'" status "','reason':'R'}"
#define OURS "'manager':'tproxy','operation':'Update','subresource':'status'"
#define THEIRS "'manager':'manager','operation':'Update','subresource':'status'"
#define CONDITIONS "'fieldsV1':{'f:status':{'f:conditions':{}}}"

static void test_status_owner(void **state)
{
    (void)state;
    static const char available[] = "'conditions':[" CONDITION("Available", "True") "]";
    static const struct {
        const char *managed_fields, *status;
        enum cr_status_owner owner;
    } rows[] = {
        {"", "", CR_STATUS_NONE},
        {"", "'conditions':[]", CR_STATUS_NONE},
        {"", "'conditions':null", CR_STATUS_NONE},
        {"", "'conditions':7", CR_STATUS_NONE},
        {"", available, CR_STATUS_OURS},
        {",'managedFields':[]", available, CR_STATUS_OURS},
        {",'managedFields':[{}]", available, CR_STATUS_OURS},
        {",'managedFields':[7,null,'x']", available, CR_STATUS_OURS},
        {",'managedFields':[{" OURS "," CONDITIONS "}]", available, CR_STATUS_OURS},
        {",'managedFields':[{" THEIRS "," CONDITIONS "}]", available, CR_STATUS_FOREIGN},
        {",'managedFields':[{" CONDITIONS "}]", available, CR_STATUS_FOREIGN},
        {",'managedFields':[{" OURS "," CONDITIONS "},{" THEIRS "," CONDITIONS "}]", available,
         CR_STATUS_FOREIGN},
        {",'managedFields':[{" THEIRS "," CONDITIONS "}]", "'conditions':[]", CR_STATUS_NONE},
        {",'managedFields':[{" THEIRS "," CONDITIONS "}]",
         "'conditions':[" CONDITION("Other", "True") "]", CR_STATUS_FOREIGN},
        /* an older CRD without the status subresource */
        {",'managedFields':[{'manager':'kubectl','fieldsV1':{'f:spec':{},'f:status':{"
         "'f:conditions':{}}}}]",
         available, CR_STATUS_FOREIGN},
        /* others have applied the spec and own an older part of the status */
        {",'managedFields':[{'manager':'kubectl','fieldsV1':{'f:spec':{'f:destinationRef':{}}}},"
         "{" THEIRS ",'fieldsV1':{'f:status':{'.':{},'f:tenants':{}}}},{" OURS "," CONDITIONS "}]",
         available, CR_STATUS_OURS},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[2048];
        text_fmt(text, sizeof(text), WITH_STATUS("%s", "%s"), rows[i].managed_fields,
                 rows[i].status);
        struct cr cr = good(text);
        if (cr.status_owner != rows[i].owner) {
            fail_msg("%d: %s", cr.status_owner, text);
        }
        cr_clear(&cr);
    }
}

static void test_conditions(void **state)
{
    (void)state;
    struct cr cr = good(WITH_STATUS(
        "", "'conditions':[{'type':'First','status':'True'},7,{'type':'Available','status':'True',"
            "'reason':'Old','message':'old'},{ 'status' : 'Unknown' },{'type':'Available',"
            "'status':'False','reason':'New','message':'line\\none','lastUpdateTime':'x'}]"));
    assert_string_equal(cr.available.status, "False");
    assert_string_equal(cr.available.reason, "New");
    assert_string_equal(cr.available.message, "line\none");
    assert_string_equal(cr.other_conditions,
                        "{\"type\":\"First\",\"status\":\"True\"},{ \"status\" : \"Unknown\" }");
    cr_clear(&cr);

    cr = good(WITH_STATUS("", "'conditions':[{'type':'Available','status':7,'reason':null}]"));
    assert_string_equal(cr.available.status, "");
    assert_string_equal(cr.available.reason, "");
    assert_string_equal(cr.available.message, "");
    cr_clear(&cr);
}

static void test_shown_tenants(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"'tenants':[{'tenantSubdomain':'a'},{'tenantSubdomain':'b'}]", "a,b"},
        {"'tenants':[]", ""},
        {"'tenants':7", ""},
        {"'tenants':[{'tenantSubdomain':'a,b'},7,{}]", "?,?,?"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[512];
        text_fmt(text, sizeof(text), WITH_STATUS("", "%s"), rows[i][0]);
        struct cr cr = good(text);
        assert_string_equal(cr.shown_tenants, rows[i][1]);
        cr_clear(&cr);
    }
    struct cr cr = good(WITH_STATUS("", "'tenants':null"));
    assert_null(cr.shown_tenants);
    cr_clear(&cr);
}

static void test_large_conditions(void **state)
{
    (void)state;
    static char text[2 * CR_CONDITIONS_MAX], filler[CR_CONDITIONS_MAX];
    memset(filler, 'x', sizeof(filler));
    text_fmt(text, sizeof(text),
             WITH_STATUS("", "'conditions':[{'type':'Available','message':'%.*s'}]"), 10000,
             filler);
    struct cr cr = good(text);
    assert_true(strlen(cr.available.message) < 5000);
    cr_clear(&cr);

    int fits = CR_CONDITIONS_MAX - (int)strlen("{'type':''}");
    text_fmt(text, sizeof(text), WITH_STATUS("", "'conditions':[{'type':'%.*s'}]"), fits, filler);
    cr = good(text);
    assert_int_equal(strlen(cr.other_conditions), CR_CONDITIONS_MAX);
    cr_clear(&cr);
    text_fmt(text, sizeof(text), WITH_STATUS("", "'conditions':[{'type':'%.*s'}]"), fits + 1,
             filler);
    cr = good(text);
    assert_true(cr.conditions_unread && !cr.other_conditions);
    assert_int_equal(cr.status_owner, CR_STATUS_OURS);
    cr_clear(&cr);
}

/* The metadata and the status are read even if the spec is invalid. */
static void test_status_of_a_wrong_one(void **state)
{
    (void)state;
    struct cr cr;
    assert_int_equal(
        parse(&cr,
              "{'metadata':{'name':'mail','namespace':'a','uid':'u','deletionTimestamp':'2025',"
              "'annotations':{'tproxy/adopt':'true','transparent-proxy.connectivity.api.sap/"
              "tenant-subdomains':'[\\'a\\']'},'managedFields':[{" THEIRS "," CONDITIONS "}]},"
              "'spec':{'destinationRef':{'name':'d\\tx'},'accessControl':{'scope':'clusterWide'}},"
              "'status':{'conditions':[" CONDITION("Other", "True") "," CONDITION(
                  "Available", "True") "],'tenants':[{'tenantSubdomain':'a'}]}}"),
        OK);
    assert_string_equal(cr.wrong, "spec.destinationRef.name contains a control character; "
                                  "remove it");
    assert_string_equal(cr.uid, "u");
    assert_true(cr.deleting);
    assert_int_equal(cr.status_owner, CR_STATUS_FOREIGN);
    assert_string_equal(cr.available.status, "True");
    assert_non_null(cr.other_conditions);
    assert_string_equal(cr.shown_tenants, "a");
    assert_true(cr.scope == CR_SCOPE_DEFAULT && !cr.adopt && cr.n_tenants == 0);
    cr_clear(&cr);
}

/* Parses a text in which "~" stands for a value that was left out while it was received. */
static void expect_omitted(const char *text, const char *complaint)
{
    char quoted[1024];
    struct cr cr;
    text_fmt(quoted, sizeof(quoted), "%s", text);
    for (char *p = quoted; *p; p++) {
        *p = *p == '\'' ? '"' : *p;
    }
    struct json *doc = json_parse_cut(str_of(quoted), &err);
    assert_non_null(doc);
    assert_int_equal(cr_parse(&cr, json_root(doc), "tproxy", &err), OK);
    if (complaint) {
        assert_string_equal(cr.wrong, complaint);
    } else {
        assert_null(cr.wrong);
        assert_string_equal(cr.ref.name, "d");
        assert_true(cr.conditions_unread);
        assert_int_equal(cr.status_owner, CR_STATUS_FOREIGN);
    }
    cr_clear(&cr);
    json_free(doc);
}

static void test_omitted(void **state)
{
    (void)state;
    expect_omitted("{'metadata':{'name':'m','namespace':'n','labels':~,'managedFields':~},"
                   "'spec':{'destinationRef':{'name':'d'},'actions':~},'status':{'conditions':~}}",
                   NULL);
    expect_omitted("{'metadata':{'name':'m','namespace':'n','annotations':~},"
                   "'spec':{'destinationRef':{'name':'d'}}}",
                   "metadata.annotations is larger than 524288 octets, or nested too deeply; make "
                   "it smaller");
    expect_omitted(WITH_SPEC("'destinationRef':~"),
                   "spec.destinationRef is larger than 524288 octets, or nested too deeply; make "
                   "it smaller");
    expect_omitted("{" NAMED("m") "'spec':~}", "spec is too large; it must be an object");
}

static void test_same_spec(void **state)
{
    (void)state;
    static const char *const different[] = {
        WITH_SPEC("'destinationRef':{'name':'d'}"),
        WITH_SPEC("'destinationRef':{'name':'e'}"),
        WITH_SPEC("'destinationRef':{'name':'d'},'destinationServiceInstanceName':'i'"),
        WITH_SPEC("'destinationRef':{'name':'d'},'destinationServiceInstanceName':'j'"),
        WITH_SPEC("'destinationRef':{'name':'d'},'service':{'port':1}"),
        WITH_SPEC("'destinationRef':{'name':'d'},'accessControl':{'scope':'namespaced'}"),
        WITH_SPEC("'destinationRef':{'name':'d'},'accessControl':{'scope':'clusterWide'}"),
        WITH_SPEC("'destinationRef':{'name':'d'},'fragmentRef':{'name':'f'}"),
        WITH_SPEC("'destinationRef':{'name':'d','level':'instance'}"),
        WITH_SPEC("'destinationRef':{'name':'d'},'fragmentRef':{'name':'f','optional':true}"),
        WITH_SPEC("'destinationRef':{'name':'d'},'chainRef':{'name':'f'}"),
        WITH_SPEC("'destinationRef':{'name':'d'},'chainRef':{'name':'f','variables':["
                  "{'name':'a','value':'b'}]}"),
        "{'metadata':{'name':'m','namespace':'n','annotations':{'tproxy/adopt':'true'}},"
        "'spec':{'destinationRef':{'name':'d'}}}",
        "{'metadata':{'name':'m','namespace':'n','annotations':{"
        "'transparent-proxy.connectivity.api.sap/tenant-subdomains':''}},"
        "'spec':{'destinationRef':{'name':'d'}}}",
        "{'metadata':{'name':'m','namespace':'n','annotations':{"
        "'transparent-proxy.connectivity.api.sap/tenant-subdomains':'[\\'a\\']'}},"
        "'spec':{'destinationRef':{'name':'d'}}}",
        "{'metadata':{'name':'m','namespace':'n','annotations':{"
        "'transparent-proxy.connectivity.api.sap/tenant-subdomains':'[\\'b\\']'}},"
        "'spec':{'destinationRef':{'name':'d'}}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(different); i++) {
        for (size_t j = 0; j < ARRAY_LEN(different); j++) {
            struct cr a = good(different[i]), b = good(different[j]);
            assert_int_equal(cr_same_spec(&a, &b), i == j);
            cr_clear(&a);
            cr_clear(&b);
        }
    }
    /* Members outside the spec do not count. */
    struct cr a = good(different[0]),
              b = good("{'metadata':{'name':'x','namespace':'y','uid':'z','annotations':{'a':'b'}},"
                       "'spec':{'destinationRef':{'name':'d'},'actions':[]},'status':{"
                       "'conditions':[" CONDITION("Available", "True") "]}}");
    assert_true(cr_same_spec(&a, &b));
    cr_clear(&a);
    cr_clear(&b);

    static const char *const wrong_ones[] = {WITH_SPEC("'destinationRef':{}"),
                                             WITH_SPEC("'destinationRef':{'name':7}")};
    for (size_t i = 0; i < 2; i++) {
        for (size_t j = 0; j < 2; j++) {
            assert_int_equal(parse(&a, wrong_ones[i]), OK);
            assert_int_equal(parse(&b, wrong_ones[j]), OK);
            assert_int_equal(cr_same_spec(&a, &b), i == j);
            cr_clear(&a);
            cr_clear(&b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),          cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_tenants),          cmocka_unit_test(test_many_tenants),
        cmocka_unit_test(test_shown_tenants),    cmocka_unit_test(test_without_a_name),
        cmocka_unit_test(test_refused),          cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_status_owner),     cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_large_conditions), cmocka_unit_test(test_status_of_a_wrong_one),
        cmocka_unit_test(test_omitted),          cmocka_unit_test(test_same_spec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
