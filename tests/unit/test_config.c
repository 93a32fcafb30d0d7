/* Tests configuration/config: SAP's samples, every key, every complaint, every remark, and the
 * status. */
#include "configuration/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/log.h"
#include "lib/mem.h"
#include "lib/text.h"
#include "tests/unit/world/objects.h"

static struct config_remarks remarks;

static struct config *parse(const char *text)
{
    struct object o = object_of(text);
    struct config *config = config_new(o.root, "home", &remarks);
    object_free(&o);
    assert_int_equal(config == NULL, remarks.n_complaints > 0);
    return config;
}

/* Reads a configuration from the members of a spec, given without braces. */
static struct config *from_spec(const char *spec)
{
    char text[8192];
    text_fmt(text, sizeof(text),
             "{'apiVersion':'operator.kyma-project.io/v1alpha1','kind':'TransparentProxy',"
             "'metadata':{'name':'transparent-proxy'},'spec':{%s}}",
             spec);
    return parse(text);
}

static struct config *good(const char *spec)
{
    struct config *config = from_spec(spec);
    if (!config) {
        fail_msg("%s: %s", spec, remarks.complaints[0]);
    }
    return config;
}

static bool ignored(const char *line)
{
    for (size_t i = 0; i < remarks.n_ignored; i++) {
        if (strcmp(remarks.ignored[i], line) == 0) {
            return true;
        }
    }
    return false;
}

static void assert_defaults(const struct config *c)
{
    assert_int_equal(c->tenant_mode, TENANTS_DEDICATED);
    assert_null(c->default_instance);
    assert_int_equal(c->n_instances, 0);
    assert_int_equal(c->connect_timeout, SECONDS(5));
    assert_int_equal(c->read_timeout, SECONDS(10));
    assert_int_equal(c->interval, SECONDS(180));
    assert_false(c->labelled_namespaces);
    assert_false(c->cluster_wide);
    assert_null(c->log_level);
    assert_false(c->metrics);
    assert_null(c->connectivity.service);
    assert_null(c->connectivity.namespace);
    assert_null(c->connectivity.credentials);
    assert_int_equal(c->connectivity.port, 20004);
    assert_false(c->connectivity.port_given);
    assert_int_equal(c->connectivity.timeout, SECONDS(1));
    assert_null(c->additional_cas);
    assert_int_equal(remarks.n_ignored, 0);
    assert_false(remarks.ignored_is_warning);
}

static void test_defaults(void **state)
{
    (void)state;
    struct config *c = config_new((struct json_value){0}, "home", &remarks);
    assert_defaults(c);
    config_free(c);
    static const char *const nothing[] = {
        "{}",
        "{'spec':null}",
        "{'spec':{}}",
        "{'spec':{'config':null,'unknown':[1]}}",
        ("{'spec':{'config':{'integration':{'destinationService':{'instances':null,"
         "'defaultInstanceName':null,'connectionTimeoutSeconds':null,'readTimeoutSeconds':null}},"
         "'tenantMode':null,'manager':{'executionIntervalMinutes':null},'logging':{'level':null},"
         "'managedNamespacesMode':null,'metrics':{'prometheus':{'enabled':null}},"
         "'security':{'accessControl':{'destinations':{'defaultScope':null}}}}}}"),
        ("{'spec':{'config':{'integration':{'destinationService':{'instances':[],"
         "'defaultInstanceName':''}}},'compliance':{},'deployment':{'resources':{},'image':{}}}}"),
    };
    for (size_t i = 0; i < ARRAY_LEN(nothing); i++) {
        c = parse(nothing[i]);
        assert_non_null(c);
        assert_defaults(c);
        config_free(c);
    }
    config_free(NULL);
}

static void assert_secret(const struct config_secret *s, const char *name, const char *namespace,
                          const char *key)
{
    assert_string_equal(s->name, name);
    assert_string_equal(s->namespace, namespace);
    assert_string_equal(s->key, key);
}

static void assert_instance(const struct config_instance *i, const char *name, const char *secret,
                            const char *namespace, const char *key)
{
    assert_string_equal(i->name, name);
    assert_secret(&i->credentials.service_key, secret, namespace, key);
}

/* The object in SAP's repository, with names filled in, and as SAP's script changes it. */
static void test_sample(void **state)
{
    (void)state;
    static const char *const forms[][2] = {
        {"'secretKey':'defaultKey',", "defaultKey"}, {"'secretKey':null,", ""}, {"", ""}};
    for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
        char spec[4096];
        text_fmt(spec, sizeof(spec),
                 "'compliance':{'fipsModeEnabled':false},'config':{'metrics':{'prometheus':{"
                 "'enabled':true}},'logging':{'level':'info'},'security':{'communication':{"
                 "'internal':{'encryptionEnabled':true}}},'integration':{'destinationService':{"
                 "'defaultInstanceName':'sap-transp-proxy-default','instances':[{"
                 "'name':'sap-transp-proxy-default','serviceCredentials':{%s"
                 "'secretName':'sap-transp-proxy-default',"
                 "'secretNamespace':'sap-transp-proxy-system'}}]},'serviceMesh':{'istio':{"
                 "'istio-injection':'enabled'}}}},'deployment':{'resources':{'http':{'requests':{"
                 "'cpu':0.05,'memory':'192M'},'limits':{'cpu':0.05,'memory':'192M'}},'tcp':{"
                 "'requests':{'cpu':0.01,'memory':'64M'},'limits':{'cpu':0.01,'memory':'64M'}}}}",
                 forms[f][0]);
        struct config *c = good(spec);
        assert_true(c->metrics);
        assert_string_equal(c->log_level, "info");
        assert_string_equal(c->default_instance, "sap-transp-proxy-default");
        assert_int_equal(c->n_instances, 1);
        assert_instance(&c->instances[0], "sap-transp-proxy-default", "sap-transp-proxy-default",
                        "sap-transp-proxy-system", forms[f][1]);
        assert_int_equal(remarks.n_ignored, 3);
        assert_true(ignored("spec.config.security.communication.internal.encryptionEnabled: true "
                            "has no effect here."));
        assert_true(ignored("spec.config.integration.serviceMesh.istio.istio-injection: "
                            "\"enabled\" has no effect here."));
        assert_true(ignored("spec.deployment.resources has no effect here."));
        assert_false(remarks.ignored_is_warning);
        config_free(c);
    }
}

/* Kyma's default, and the fragments in the documentation. */
static void test_fragments(void **state)
{
    (void)state;
    struct config *c =
        good("'config':{'security':{'communication':{'internal':{'encryptionEnabled':true}}},"
             "'integration':{'serviceMesh':{'istio':{'istio-injection':'enabled'}}}}");
    assert_int_equal(c->n_instances, 0);
    assert_null(c->default_instance);
    config_free(c);

    c = good("'config':{'integration':{'destinationService':{'connectionTimeoutSeconds':6,"
             "'readTimeoutSeconds':60,'instances':[{'name':'dest-service-instance',"
             "'serviceCredentials':{'secretKey':'k','secretName':'s','secretNamespace':'n'}},"
             "{'name':'second','serviceCredentials':{'secretName':'t','privateKey':{"
             "'secretName':'x509-svc-key-secret-name','secretInternalKey':'key'}},"
             "'associateWith':{'connectivityProxy':{'locallyConfiguredRegionId':'region1'}}},"
             "{'name':'third // a comment','serviceCredentials':{}}]}}}");
    assert_int_equal(c->connect_timeout, SECONDS(6));
    assert_int_equal(c->read_timeout, SECONDS(60));
    assert_int_equal(c->n_instances, 3);
    assert_instance(&c->instances[0], "dest-service-instance", "s", "n", "k");
    assert_instance(&c->instances[1], "second", "t", "home", "");
    assert_instance(&c->instances[2], "third // a comment", "destination-service-key", "home", "");
    assert_null(c->default_instance);
    assert_secret(&c->instances[0].credentials.private_key, "x509-svc-key-private-key", "home",
                  "pk.pem");
    assert_secret(&c->instances[1].credentials.private_key, "x509-svc-key-secret-name", "home",
                  "key");
    assert_int_equal(remarks.n_ignored, 1);
    assert_true(ignored("spec.config.integration.destinationService.instances[1].associateWith."
                        "connectivityProxy.locallyConfiguredRegionId: \"region1\" has no effect "
                        "here."));
    config_free(c);

    /* the instance may be discovered later */
    c = good("'config':{'integration':{'destinationService':{'defaultInstanceName':'other'}}}");
    assert_string_equal(c->default_instance, "other");
    config_free(c);
}

static void test_values(void **state)
{
    (void)state;
    struct config *c =
        good("'config':{'tenantMode':'shared','managedNamespacesMode':'labelSelector',"
             "'security':{'accessControl':{'destinations':{'defaultScope':'clusterWide'}}},"
             "'manager':{'executionIntervalMinutes':1},'logging':{'level':'DEBUG'}}");
    assert_int_equal(c->tenant_mode, TENANTS_SHARED);
    assert_true(c->labelled_namespaces);
    assert_true(c->cluster_wide);
    assert_int_equal(c->interval, SECONDS(60));
    assert_string_equal(c->log_level, "debug");
    assert_int_equal(remarks.n_ignored, 0);
    config_free(c);

    for (enum log_level level = LOG_TRACE; level <= LOG_FATAL; level++) {
        char spec[64];
        text_fmt(spec, sizeof(spec), "'config':{'logging':{'level':'%s'}}", log_level_name(level));
        c = good(spec);
        assert_string_equal(c->log_level, log_level_name(level));
        config_free(c);
    }
}

#define PROXY(members) "'config':{'integration':{'connectivityProxy':{" members "}}}"

static void test_connectivity(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *service, *namespace;
        uint16_t port;
        bool port_given;
        int seconds;
    } rows[] = {
        {PROXY(""), NULL, NULL, 20004, false, 1},
        {PROXY("'serviceName':null,'tcpPort':null,'serviceCredentials':{}"), NULL, NULL, 20004,
         false, 1},
        {PROXY("'serviceName':''"), NULL, NULL, 20004, false, 1},
        {PROXY("'serviceName':'cp'"), "cp", NULL, 20004, false, 1},
        {PROXY("'serviceName':'connectivity-proxy.cp-ns','connectionTimeoutSeconds':60"),
         "connectivity-proxy", "cp-ns", 20004, false, 60},
        {PROXY("'tcpPort':20004"), NULL, NULL, 20004, true, 1},
        {PROXY("'tcp':{'port':1}"), NULL, NULL, 1, true, 1},
        {PROXY("'tcp':{'port':1},'tcpPort':65535"), NULL, NULL, 65535, true, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *c = good(rows[i].spec);
        const struct config_connectivity *p = &c->connectivity;
        assert_int_equal(p->service != NULL, rows[i].service != NULL);
        assert_int_equal(p->namespace != NULL, rows[i].namespace != NULL);
        assert_string_equal(p->service ? p->service : "", rows[i].service ? rows[i].service : "");
        assert_string_equal(p->namespace ? p->namespace : "",
                            rows[i].namespace ? rows[i].namespace : "");
        assert_int_equal(p->port, rows[i].port);
        assert_int_equal(p->port_given, rows[i].port_given);
        assert_int_equal(p->timeout, SECONDS(rows[i].seconds));
        assert_null(p->credentials);
        assert_int_equal(remarks.n_ignored, 0);
        config_free(c);
    }
    struct config *c = good(PROXY("'serviceCredentials':{'secretName':'s','secretKey':'k',"
                                  "'secretNamespace':'n','privateKey':{'secretNamespace':'m'}}"));
    assert_secret(&c->connectivity.credentials->service_key, "s", "n", "k");
    assert_secret(&c->connectivity.credentials->private_key, "x509-svc-key-private-key", "m",
                  "pk.pem");
    config_free(c);
    c = good("'config':{'tenantMode':'shared','integration':{'connectivityProxy':{"
             "'serviceName':'cp','serviceCredentials':{'secretName':'s'}}}}");
    assert_secret(&c->connectivity.credentials->service_key, "s", "home", "");
    config_free(c);
}

static void test_additional_cas(void **state)
{
    (void)state;
    struct config *c = good("'additionalCAs':{'secretName':'s','secretKey':'k'}");
    assert_secret(c->additional_cas, "s", "home", "k");
    config_free(c);
    c = good("'additionalCAs':{'secretName':'s','secretKey':'k','secretNamespace':'n'}");
    assert_secret(c->additional_cas, "s", "n", "k");
    config_free(c);
    c = good("'additionalCAs':{}");
    assert_null(c->additional_cas);
    config_free(c);
}

static void test_secrets(void **state)
{
    (void)state;
    struct config *c =
        good("'config':{'integration':{'destinationService':{'instances':["
             "{'name':'a','serviceCredentials':{}},{'name':'b','serviceCredentials':{}},"
             "{'name':'c','serviceCredentials':{'secretName':'other'}},"
             "{'name':'d','serviceCredentials':{'secretKey':'other'}},"
             "{'name':'e','serviceCredentials':{'secretNamespace':'other'}},"
             "{'name':'f','serviceCredentials':{'privateKey':{'secretName':'other'}}}]}}}");
    for (size_t i = 0; i < c->n_instances; i++) {
        const struct config_credentials *a = &c->instances[0].credentials;
        struct config_credentials copy = config_credentials_copy(&c->instances[i].credentials);
        assert_true(config_credentials_equal(&copy, &c->instances[i].credentials));
        assert_int_equal(config_credentials_equal(&copy, a), i < 2);
        config_credentials_clear(&copy);
    }
    config_free(c);
}

static void test_ignored(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *line; /* line NULL: nothing is logged */
    } rows[] = {
        {"'compliance':{'fipsModeEnabled':true}",
         "spec.compliance.fipsModeEnabled: true has no effect here."},
        {"'compliance':{'fipsModeEnabled':false}", NULL},
        {"'config':{'http':{'retry':{'maxRetries':3}}}",
         "spec.config.http.retry has no effect here."},
        {"'config':{'metering':{'enabled':true}}",
         "spec.config.metering.enabled: true has no effect here."},
        {"'config':{'metering':{'enabled':false}}", NULL},
        {"'config':{'security':{'communication':{'internal':{'encryptionEnabled':false}}}}", NULL},
        {"'config':{'security':{'communication':{'internal':{'certManager':{'certificate':{"
         "'duration':'720h','renewBefore':'240h'}}}}}}",
         "spec.config.security.communication.internal.certManager has no effect here."},
        {"'config':{'integration':{'serviceMesh':{'istio':{'istio-injection':'disabled'}}}}", NULL},
        {"'config':{'integration':{'ztis':{'socketPath':'/run/x'}}}",
         "spec.config.integration.ztis.socketPath: \"/run/x\" has no effect here."},
        {"'config':{'integration':{'connectivityProxy':{'servicePort':1}}}",
         "spec.config.integration.connectivityProxy.servicePort: 1 has no effect here."},
        {"'config':{'integration':{'connectivityProxy':{'type':'x'}}}",
         "spec.config.integration.connectivityProxy.type: \"x\" has no effect here."},
        {"'config':{'integration':{'connectivityProxy':{'connectionTimeoutSeconds':2,"
         "'tcpPort':20005,'httpPort':20003,'serviceName':'cp.ns'}}}",
         NULL},
        {"'deployment':{'image':{'tag':'1'}}", "spec.deployment.image has no effect here."},
        {"'deployment':{'replicas':{'tcp':2}}",
         "spec.deployment.replicas.tcp: 2 has no effect here."},
        {"'deployment':{'replicas':{'tcp':1,'http':1},'priority':{'value':0}}", NULL},
        {"'deployment':{'priority':{'value':2000000}}",
         "spec.deployment.priority.value: 2000000 has no effect here."},
        {"'deployment':{'autoscaling':{'tcp':{'horizontal':{'enabled':true}}}}",
         "spec.deployment.autoscaling.tcp.horizontal.enabled: true has no effect here."},
        {"'deployment':{'autoscaling':{'http':{'vertical':{'enabled':false}}}}", NULL},
        {"'deployment':{'somethingNew':1},'other':2", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct config *c = good(rows[i].spec);
        assert_int_equal(remarks.n_ignored, rows[i].line != NULL);
        if (rows[i].line && !ignored(rows[i].line)) {
            fail_msg("\"%s\" is not \"%s\"", remarks.ignored[0], rows[i].line);
        }
        assert_int_equal(remarks.ignored_is_warning, i == 0);
        config_free(c);
    }
}

#define INSTANCES(list) "'config':{'integration':{'destinationService':{'instances':" list "}}}"
#define SERVICE "spec.config.integration.destinationService"

/* Checks that each spec has its complaint. */
static void expect_complaints(const char *const (*rows)[2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct config *c = from_spec(rows[i][0]);
        if (c) {
            fail_msg("accepted: %s", rows[i][0]);
        }
        if (remarks.n_complaints != 1 || strcmp(remarks.complaints[0], rows[i][1]) != 0) {
            fail_msg("%zu: \"%s\" is not \"%s\"", remarks.n_complaints, remarks.complaints[0],
                     rows[i][1]);
        }
    }
}

static void test_complaints(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"'config':7", "spec.config is a number; it must be an object."},
        {"'config':{'integration':[]}",
         "spec.config.integration is an array; it must be an object."},
        {"'config':{'tenantMode':'Shared'}",
         "spec.config.tenantMode is \"Shared\"; it must be \"dedicated\" or \"shared\"."},
        {"'config':{'tenantMode':{}}",
         "spec.config.tenantMode is an object; it must be \"dedicated\" or \"shared\"."},
        {"'config':{'managedNamespacesMode':'some'}",
         "spec.config.managedNamespacesMode is \"some\"; it must be \"all\" or \"labelSelector\"."},
        {"'config':{'security':{'accessControl':{'destinations':{'defaultScope':''}}}}",
         "spec.config.security.accessControl.destinations.defaultScope is \"\"; it must be "
         "\"namespaced\" or \"clusterWide\"."},
        {"'config':{'manager':{'executionIntervalMinutes':0}}",
         "spec.config.manager.executionIntervalMinutes is 0; it must be a number from 1 to 10080."},
        {"'config':{'manager':{'executionIntervalMinutes':10081}}",
         "spec.config.manager.executionIntervalMinutes is 10081; it must be a number from 1 to "
         "10080."},
        {"'config':{'manager':{'executionIntervalMinutes':'3'}}",
         "spec.config.manager.executionIntervalMinutes is \"3\"; it must be a number from 1 to "
         "10080."},
        {"'config':{'integration':{'destinationService':{'connectionTimeoutSeconds':61}}}",
         SERVICE ".connectionTimeoutSeconds is 61; it must be a number from 1 to 60."},
        {"'config':{'integration':{'destinationService':{'readTimeoutSeconds':-1}}}",
         SERVICE ".readTimeoutSeconds is -1; it must be a number from 1 to 60."},
        {"'config':{'integration':{'destinationService':{'readTimeoutSeconds':1.5}}}",
         SERVICE ".readTimeoutSeconds is 1.5; it must be a number from 1 to 60."},
        {"'config':{'integration':{'destinationService':{'readTimeoutSeconds':1e400}}}",
         SERVICE ".readTimeoutSeconds is 1e400; it must be a number from 1 to 60."},
        {"'config':{'logging':{'level':'loud'}}",
         "spec.config.logging.level is \"loud\"; it must be trace, debug, info, warn, error or "
         "fatal."},
        {"'config':{'logging':{'level':2}}",
         "spec.config.logging.level is 2; it must be trace, debug, info, warn, error or fatal."},
        {"'config':{'metrics':{'prometheus':{'enabled':'true'}}}",
         "spec.config.metrics.prometheus.enabled is \"true\"; it must be true or false."},
        {"'compliance':{'fipsModeEnabled':1}",
         "spec.compliance.fipsModeEnabled is 1; it must be true or false."},
        {INSTANCES("[{'name':'a','serviceCredentials':{'privateKey':7}}]"),
         SERVICE ".instances[0].serviceCredentials.privateKey is a number; it must be an object."},
        {INSTANCES("{}"), SERVICE ".instances is an object; it must be an array."},
        {INSTANCES("[7]"), SERVICE ".instances[0] is a number; it must be an object."},
        {INSTANCES("[{}]"),
         SERVICE ".instances[0]: Destination service instance name should be provided."},
        {INSTANCES("[{'name':'','serviceCredentials':{}}]"),
         SERVICE ".instances[0]: Destination service instance name should be provided."},
        {INSTANCES("[{'name':7,'serviceCredentials':{}}]"),
         SERVICE ".instances[0].name is 7; it must be a string."},
        {INSTANCES("[{'name':'a\\nb','serviceCredentials':{}}]"),
         SERVICE ".instances[0].name has 3 octets; it must be one line of at most 253."},
        {INSTANCES("[{'name':'a'}]"),
         SERVICE ".instances[0]: secretName should be provided for destination service instance: "
                 "\"a\"."},
        {INSTANCES("[{'name':'a','serviceCredentials':{'secretName':''}}]"),
         SERVICE ".instances[0]: secretName should be provided for destination service instance: "
                 "\"a\"."},
        {INSTANCES("[{'name':'a','serviceCredentials':'s'}]"),
         SERVICE ".instances[0].serviceCredentials is a string; it must be an object."},
        {INSTANCES("[{'name':'a','serviceCredentials':{'secretName':'A,b'}}]"),
         SERVICE ".instances[0].serviceCredentials.secretName is \"A,b\"; it must be a name of "
                 "lower-case letters, digits, '-' and '.'."},
        {INSTANCES("[{'name':'a','serviceCredentials':{'secretNamespace':'A'}}]"),
         SERVICE ".instances[0].serviceCredentials.secretNamespace is \"A\"; it must be a name of "
                 "lower-case letters, digits, '-' and '.'."},
        {INSTANCES("[{'name':'a','serviceCredentials':{'secretKey':true}}]"),
         SERVICE ".instances[0].serviceCredentials.secretKey is true; it must be a string."},
        {INSTANCES("[{'name':'a','serviceCredentials':{}},{'name':'a','serviceCredentials':{}}]"),
         SERVICE ".instances[1].name is \"a\", like that of another instance; choose "
                 "another name."},
        {"'config':{'integration':{'destinationService':{'defaultInstanceName':[]}}}",
         SERVICE ".defaultInstanceName is an array; it must be a string."},
    };
    expect_complaints(rows, ARRAY_LEN(rows));
    assert_null(parse("7"));
    assert_string_equal(remarks.complaints[0], "it is 7; a TransparentProxy must be an object.");
    assert_null(parse("{'spec':'x'}"));
    assert_string_equal(remarks.complaints[0], "spec is a string; it must be an object.");
    if (remarks.n_complaints != 1) {
        fail_msg("%s", remarks.complaints[1]);
    }
}

static void test_proxy_complaints(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {PROXY("'serviceName':7"),
         "spec.config.integration.connectivityProxy.serviceName is 7; it must be a string."},
        {PROXY("'serviceName':'a.b.c'"),
         "spec.config.integration.connectivityProxy.serviceName is \"a.b.c\"; it must be the name "
         "of a Service, or name.namespace."},
        {PROXY("'serviceName':'a.'"),
         "spec.config.integration.connectivityProxy.serviceName is \"a.\"; it must be the name of "
         "a Service, or name.namespace."},
        {PROXY("'serviceName':'.b'"),
         "spec.config.integration.connectivityProxy.serviceName is \".b\"; it must be the name of "
         "a Service, or name.namespace."},
        {PROXY("'tcpPort':0"), "spec.config.integration.connectivityProxy.tcpPort is 0; it must be "
                               "a number from 1 to 65535."},
        {PROXY("'tcp':{'port':65536}"),
         "spec.config.integration.connectivityProxy.tcp.port is 65536; it must be a number from 1 "
         "to 65535."},
        {PROXY("'connectionTimeoutSeconds':61"),
         "spec.config.integration.connectivityProxy.connectionTimeoutSeconds is 61; it must be a "
         "number from 1 to 60."},
        {PROXY("'serviceCredentials':{'secretKey':'k'}"),
         "spec.config.integration.connectivityProxy.serviceCredentials has no secretName; name "
         "the Secret that holds the service key of the Connectivity Proxy."},
        {"'config':{'tenantMode':'shared','integration':{'connectivityProxy':{"
         "'serviceName':'cp'}}}",
         "secretName should be provided for Connectivity Proxy service instance in shared mode."},
        {"'config':{'tenantMode':'shared','integration':{'connectivityProxy':{"
         "'serviceCredentials':{'secretName':''}}}}",
         "secretName should be provided for Connectivity Proxy service instance in shared mode."},
        {"'additionalCAs':[]", "spec.additionalCAs is an array; it must be an object."},
        {"'additionalCAs':{'secretName':'s'}",
         "spec.additionalCAs must have a secretName and a secretKey: the Secret that holds the "
         "certificates, and its entry."},
        {"'additionalCAs':{'secretName':'','secretKey':'k'}",
         "spec.additionalCAs must have a secretName and a secretKey: the Secret that holds the "
         "certificates, and its entry."},
        {"'additionalCAs':{'secretName':'S','secretKey':'k'}",
         "spec.additionalCAs.secretName is \"S\"; it must be a name of lower-case letters, digits, "
         "'-' and '.'."},
    };
    expect_complaints(rows, ARRAY_LEN(rows));
}

/* All complaints are reported, up to the space for them. */
static void test_many(void **state)
{
    (void)state;
    struct config *c = from_spec("'config':{'tenantMode':1,'logging':{'level':1},'manager':{"
                                 "'executionIntervalMinutes':0}},'deployment':{'image':{'tag':1}}");
    assert_null(c);
    assert_int_equal(remarks.n_complaints, 3);
    assert_int_equal(remarks.n_ignored, 1);

    enum { MANY = CONFIG_INSTANCES_MAX + 1 };
    struct buf out;
    buf_init(&out, 64 * 1024);
    for (size_t good_ones = 0; good_ones < 2; good_ones++) {
        assert_int_equal(buf_fmt(&out, "{\"spec\":{\"config\":{\"integration\":{"
                                       "\"destinationService\":{\"instances\":["),
                         OK);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(buf_add(&out, ",", i > 0), OK);
            assert_int_equal(
                good_ones ? json_fmt(&out,
                                     "{'name':%s,'associateWith':{'connectivityProxy':{"
                                     "'locallyConfiguredRegionId':'r'}},"
                                     "'serviceCredentials':{}}",
                                     (char[]){(char)('0' + i / 100), (char)('0' + i / 10 % 10),
                                              (char)('0' + i % 10), '\0'})
                          : json_fmt(&out, "{}"),
                OK);
        }
        assert_int_equal(buf_add(&out, "]}}}}}", 7), OK);
        assert_null(parse(buf_str(&out).p));
        if (good_ones) {
            assert_int_equal(remarks.n_complaints, 1);
            assert_string_equal(remarks.complaints[0],
                                SERVICE ".instances has 257 elements; at most 256 are allowed.");
            assert_int_equal(remarks.n_ignored, CONFIG_COMPLAINTS_MAX);
            assert_string_equal(remarks.ignored[CONFIG_COMPLAINTS_MAX - 1], "And 225 more.");
        } else {
            assert_int_equal(remarks.n_complaints, CONFIG_COMPLAINTS_MAX);
            assert_string_equal(remarks.complaints[CONFIG_COMPLAINTS_MAX - 1], "And 226 more.");
        }
        buf_free(&out);
    }
}

/* A value of any length leaves a complete line. */
static void test_long_values(void **state)
{
    (void)state;
    char spec[2000] = "'config':{'logging':{'level':'", name[1000];
    memset(name, 'x', sizeof(name));
    size_t n = strlen(spec);
    text_fmt(spec + n, sizeof(spec) - n, "%.900s'}}", name);
    assert_null(from_spec(spec));
    assert_non_null(strstr(remarks.complaints[0], "xxx; it must be trace, debug"));

    text_fmt(spec, sizeof(spec), INSTANCES("[{'name':'%.254s'}]"), name);
    assert_null(from_spec(spec));
    assert_non_null(strstr(remarks.complaints[0], "one line of at most 253."));
    text_fmt(spec, sizeof(spec), INSTANCES("[{'name':'%.253s','serviceCredentials':{}}]"), name);
    config_free(good(spec));
}

/* ---- the status ---- */

#define NOW "2025-11-03T08:00:00Z"
#define BEFORE "2025-11-02T08:00:00Z"

static const struct config_condition conditions[] = {
    {.type = "Configured", .status = true, .reason = "Configured", .message = "a \"message\""},
    {.type = "SomeKeysIgnored", .status = false, .reason = "None", .message = ""},
};

static char *status_patch(const char *observed, enum config_state config_state, size_t n)
{
    struct object o = object_of(observed);
    struct buf out;
    buf_init(&out, 4096);
    int rc = config_status(&out, o.root, config_state, conditions, n, NOW);
    char *text = NULL;
    if (rc == OK) {
        text = mem_strndup(buf_str(&out).p, buf_len(&out));
        struct json *doc = json_parse(str_of(text), NULL);
        assert_non_null(doc);
        json_free(doc);
    } else {
        assert_int_equal(rc, AGAIN);
        assert_int_equal(buf_len(&out), 0);
    }
    buf_free(&out);
    object_free(&o);
    return text;
}

#define SHOWN(state, ready, since)                                                                 \
    "{\"status\":{\"state\":\"" state                                                              \
    "\",\"conditions\":[{\"type\":\"Configured\",\"status\":\"" ready                              \
    "\",\"reason\":\"Configured\",\"message\":\"a "                                                \
    "\\\"message\\\"\",\"lastTransitionTime\":\"" since                                            \
    "\"},{\"type\":\"SomeKeysIgnored\",\"status\":\"False\",\"reason\":\"None\","                  \
    "\"message\":\"\",\"lastTransitionTime\":\"" since "\"}]}}"

static void test_status(void **state)
{
    (void)state;
    static const struct {
        const char *observed;
        enum config_state state;
        const char *patch; /* patch NULL: the status already says everything */
    } rows[] = {
        {"{}", CONFIG_READY, SHOWN("Ready", "True", NOW)},
        {"{'status':7}", CONFIG_READY, SHOWN("Ready", "True", NOW)},
        {SHOWN("Ready", "True", BEFORE), CONFIG_READY, NULL},
        {SHOWN("Ready", "True", BEFORE), CONFIG_WARNING, SHOWN("Warning", "True", BEFORE)},
        {"{'status':{'conditions':[{'type':'SomeKeysIgnored','status':'False',"
         "'lastTransitionTime':'" BEFORE "'},{'type':'Configured','status':'True','reason':'R',"
         "'lastTransitionTime':'" BEFORE "'}]}}",
         CONFIG_ERROR, SHOWN("Error", "True", BEFORE)},
        {"{'status':{'state':'Ready','conditions':[{'type':'SomeKeysIgnored','status':'True',"
         "'lastTransitionTime':'" BEFORE "'},7,{'type':'Configured','status':'True',"
         "'lastTransitionTime':7}]}}",
         CONFIG_DELETING, SHOWN("Deleting", "True", NOW)},
        {SHOWN("Ready", "False", BEFORE), CONFIG_PROCESSING, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *patch = status_patch(rows[i].observed, rows[i].state, 2);
        if (i == ARRAY_LEN(rows) - 1) {
            /* the first condition's status has changed, the second one's has not */
            assert_non_null(strstr(patch, "\"a \\\"message\\\"\",\"lastTransitionTime\":\"" NOW));
            assert_non_null(strstr(patch, "\"\",\"lastTransitionTime\":\"" BEFORE));
        } else {
            assert_string_equal(patch ? patch : "", rows[i].patch ? rows[i].patch : "");
        }
        free(patch);
    }
    /* the conditions that are no longer true are removed */
    char *patch = status_patch(SHOWN("Ready", "True", BEFORE), CONFIG_READY, 1);
    assert_non_null(patch);
    assert_null(strstr(patch, "SomeKeysIgnored"));
    free(patch);
    patch = status_patch("{'status':{'state':'Ready','conditions':[]}}", CONFIG_READY, 0);
    assert_null(patch);
}

#define OF_GENERATION(n) "{\"metadata\":{\"generation\":" n "},\"status\":"

/* Conditions say for which spec they were set. With another spec they are set again, even if they
 * say the same. */
static void test_generation(void **state)
{
    (void)state;
    char text[2000];
    char *patch = status_patch(OF_GENERATION("3") "{}}", CONFIG_READY, 2);
    assert_non_null(strstr(patch, "\"a \\\"message\\\"\",\"lastTransitionTime\":\"" NOW
                                  "\",\"observedGeneration\":3},"));
    assert_non_null(strstr(patch, NOW "\",\"observedGeneration\":3}]}}"));
    const char *status = patch + strlen("{\"status\":");
    text_fmt(text, sizeof(text), OF_GENERATION("3") "%s", status);
    assert_null(status_patch(text, CONFIG_READY, 2));
    text_fmt(text, sizeof(text), OF_GENERATION("4") "%s", status);
    char *next = status_patch(text, CONFIG_READY, 2);
    assert_non_null(strstr(next, NOW "\",\"observedGeneration\":4}]}}"));
    free(next);
    free(patch);
    patch = status_patch(OF_GENERATION("1") "{\"state\":\"Ready\",\"conditions\":[]}}",
                         CONFIG_READY, 0);
    assert_null(patch);
}

/* The state Processing leaves the conditions as they are. */
static void test_processing(void **state)
{
    (void)state;
    static const struct {
        const char *observed;
        const char *patch; /* NULL: it shows Processing already */
        bool is_outcome;
    } rows[] = {
        {"{}", "{'status':{'state':'Processing'}}", true},
        {"{'metadata':{'resourceVersion':'12','generation':1}}",
         "{'metadata':{'resourceVersion':'12'},'status':{'state':'Processing'}}", false},
        {"{'metadata':{'generation':2},'status':{'state':'Processing','conditions':["
         "{'type':'Configured','observedGeneration':2}]}}",
         NULL, false},
        {"{'metadata':{'generation':2},'status':{'state':'Ready','conditions':["
         "{'type':'Theirs','observedGeneration':2},{'type':'Configured','observedGeneration':1}]}}",
         "{'status':{'state':'Processing'}}", false},
        {"{'metadata':{'generation':2},'status':{'state':'Ready','conditions':["
         "{'type':'Theirs','observedGeneration':1},{'type':'Configured','observedGeneration':2}]}}",
         "{'status':{'state':'Processing'}}", true},
        {"{'metadata':{'generation':2},'status':{'state':'Ready','conditions':["
         "{'type':'Configured'}]}}",
         "{'status':{'state':'Processing'}}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct object o = object_of(rows[i].observed);
        struct object patch = object_of(rows[i].patch ? rows[i].patch : "{}");
        struct buf out = {.max = 1000};
        assert_int_equal(config_status_processing(&out, o.root), rows[i].patch ? OK : AGAIN);
        assert_str(buf_str(&out), rows[i].patch ? patch.text : "");
        assert_int_equal(config_status_is_outcome(o.root), rows[i].is_outcome);
        buf_free(&out);
        for (size_t max = 0; rows[i].patch && max < strlen(patch.text); max++) {
            buf_init(&out, max);
            assert_int_equal(config_status_processing(&out, o.root), ERR);
            buf_free(&out);
        }
        object_free(&patch);
        object_free(&o);
    }
}

/* Conditions of other controllers are kept, together with the version in which they were seen. */
static void test_foreign_conditions(void **state)
{
    (void)state;
    char *patch = status_patch("{'metadata':{'resourceVersion':'12'},'status':{'conditions':["
                               "{'type':'Theirs','status':'True'},{'type':'Configured'}]}}",
                               CONFIG_READY, 2);
    assert_non_null(strstr(patch, "{\"metadata\":{\"resourceVersion\":\"12\"},\"status\":"));
    assert_non_null(strstr(patch, "\"},{\"type\":\"Theirs\",\"status\":\"True\"}]}}"));
    assert_null(strstr(strstr(patch, "Configured\",\"status") + 1, "\"type\":\"Configured"));
    char *again = status_patch(patch, CONFIG_READY, 2);
    assert_null(again);
    free(patch);
}

static void test_status_bound(void **state)
{
    (void)state;
    size_t whole = strlen(SHOWN("Ready", "True", NOW));
    for (size_t max = 0; max <= whole; max++) {
        struct buf out;
        buf_init(&out, max);
        assert_int_equal(
            config_status(&out, (struct json_value){0}, CONFIG_READY, conditions, 2, NOW),
            max < whole ? ERR : OK);
        buf_free(&out);
    }
}

#define BY(manager, field) "{'manager':'" manager "','fieldsV1':{'f:status':{'f:" field "':{}}}}"
#define BY_US "[" BY("kubectl", "x") "," BY("us", "conditions") "," BY("us", "state") "]"
#define OURS "{'type':'Configured','status':'True'},{'type':'SomeKeysIgnored','status':'False'}"
#define THEIRS "{'type':'Theirs','status':'True'}"

/* A status that has parts of others keeps its state, which the schema wants, and these parts. */
static void test_status_removal(void **state)
{
    (void)state;
    static const struct {
        const char *managed, *status, *patch; /* patch NULL: nothing is removed */
    } rows[] = {
        {BY_US, "{'state':'Ready','conditions':[" OURS "]}", "null"},
        {BY_US, "{}", NULL},
        {BY_US, "{'state':'Ready','conditions':[" OURS "," THEIRS "]}",
         "{'conditions':[" THEIRS "]}"},
        {BY_US, "{'state':'Ready','conditions':[" THEIRS "," OURS "," THEIRS "]}",
         "{'conditions':[" THEIRS "," THEIRS "]}"},
        {BY_US, "{'state':'Ready','conditions':[" OURS "],'other':true}", "{'conditions':[]}"},
        {"[" BY("us", "conditions") "," BY("them", "state") "]",
         "{'state':'Ready','conditions':[" OURS "]}", "{'conditions':[]}"},
        {BY_US, "{'state':'Ready','conditions':[" THEIRS "]}", NULL},
        {"[" BY("them", "conditions") "," BY("us", "state") "]",
         "{'state':'Ready','conditions':[" OURS "]}", NULL},
        {"[]", "{'state':'Ready','conditions':[" OURS "]}", NULL},
        {"null", "{'state':'Ready','conditions':[" OURS "]}", NULL},
        {BY_US, "{'state':'Processing'}", "null"},
        {BY_US, "{'state':'Processing','conditions':[" THEIRS "]}", NULL},
        {"[" BY("them", "state") "]", "{'state':'Processing'}", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[1000], expected[1000];
        struct buf out = {.max = 1000};
        text_fmt(text, sizeof(text),
                 "{'metadata':{'resourceVersion':'7','managedFields':%s},"
                 "'status':%s}",
                 rows[i].managed, rows[i].status);
        text_fmt(expected, sizeof(expected), "{'metadata':{'resourceVersion':'7'},'status':%s}",
                 rows[i].patch ? rows[i].patch : "null");
        struct object o = object_of(text), e = object_of(expected);
        assert_int_equal(config_status_remove(&out, o.root, "us"), rows[i].patch ? OK : AGAIN);
        assert_str(buf_str(&out), rows[i].patch ? e.text : "");
        buf_free(&out);
        for (size_t max = 0; rows[i].patch && max < strlen(e.text); max++) {
            buf_init(&out, max);
            assert_int_equal(config_status_remove(&out, o.root, "us"), ERR);
            buf_free(&out);
        }
        object_free(&o);
        object_free(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_sample),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_complaints),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_connectivity),
        cmocka_unit_test(test_additional_cas),
        cmocka_unit_test(test_proxy_complaints),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_processing),
        cmocka_unit_test(test_status_bound),
        cmocka_unit_test(test_foreign_conditions),
        cmocka_unit_test(test_status_removal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
