/* Tests controller/plan: the bodies, compared with what a kube-apiserver (1.36) makes of them;
 * every verdict; long names. */
#include "controller/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/text.h"
#include "tests/unit/world/objects.h"

#define NOT_CONFIGURED "Technical connectivity is not configured. "
#define UID "11111111-2222-3333-4444-555555555555"

/* Returns a CR whose texts are not owned by it. */
static struct cr cr_named(const char *namespace, const char *name)
{
    return (struct cr){.namespace = namespace,
                       .name = name,
                       .uid = UID,
                       .created = "",
                       .ref = {.name = "example-dest"}};
}

static const char *letters(size_t n)
{
    static char text[300];
    memset(text, 'a', n);
    text[n] = '\0';
    return text;
}

/* Returns the body in `out`, parsed; `out` must remain. */
static struct object body_of(const struct buf *out)
{
    char *text = mem_strndup(buf_str(out).p, buf_len(out));
    struct object o = {.text = text, .doc = json_parse(str_of(text), NULL)};
    if (!o.doc) {
        fail_msg("no JSON: %s", text);
    }
    o.root = json_root(o.doc);
    return o;
}

/* Checks that the body has the same members and values as `expected`, and no others. */
static void assert_says(const struct buf *out, const char *expected)
{
    struct object is = body_of(out), should = object_of(expected);
    if (json_digest(is.root) != json_digest(should.root)) {
        fail_msg("is       %s\nshould be %s", is.text, should.text);
    }
    object_free(&is);
    object_free(&should);
}

/* Checks that for every bound the result is a complete body or an error. */
static void assert_bounded(int (*put)(struct buf *out))
{
    struct buf whole, out;
    buf_init(&whole, PLAN_OBJECT_MAX);
    assert_int_equal(put(&whole), OK);
    for (size_t max = 0; max <= buf_len(&whole); max++) {
        buf_init(&out, max);
        assert_int_equal(put(&out), max < buf_len(&whole) ? ERR : OK);
        buf_free(&out);
    }
    buf_free(&whole);
}

/* ---- conditions ---- */

static void test_success(void **state)
{
    (void)state;
    struct condition c;
    plan_success(&c, "mail-a");
    assert_true(c.available);
    assert_string_equal(c.reason, "ConfigurationSuccessful");
    assert_string_equal(c.message, "Technical connectivity is configured. Kubernetes service with "
                                   "name mail-a is created.");
    plan_success(&c, NULL);
    assert_true(c.available);
    assert_string_equal(c.message, "Technical connectivity is configured.");
}

static void test_failure(void **state)
{
    (void)state;
    struct condition c;
    plan_failure(&c, "ServiceCreationFailed", "%s: %d", "a\nb\xC3", 7);
    assert_false(c.available);
    assert_string_equal(c.reason, "ServiceCreationFailed");
    assert_string_equal(c.message, "a?b?: 7");

    plan_failure(&c, "R", "%*d", 5000, 7);
    assert_int_equal(strlen(c.message), PLAN_MESSAGE_MAX - 1);
}

static void test_verdicts(void **state)
{
    (void)state;
#define CANNOT "Destination 'example-dest' referred in Destination CR 'mail' cannot be "
    static const struct {
        enum verdict verdict;
        const char *reason, *message;
    } rows[] = {
        {VERDICT_TYPE_NOT_SUPPORTED, "ConfigurationError-ReferencedDestination-TypeNotSupported",
         CANNOT "used: a sentence"},
        {VERDICT_PROXY_TYPE_NOT_SUPPORTED,
         "ConfigurationError-ReferencedDestination-ProxyTypeNotSupported",
         CANNOT "used: a sentence"},
        {VERDICT_AUTHENTICATION_NOT_SUPPORTED,
         "ConfigurationError-ReferencedDestination-AuthenticationNotSupported",
         CANNOT "used: a sentence"},
        {VERDICT_URL_NOT_SUPPORTED, "ConfigurationError-ReferencedDestination-UrlNotSupported",
         CANNOT "used: a sentence"},
        {VERDICT_LOOPBACK_URL_NOT_SUPPORTED,
         "ConfigurationError-ReferencedDestination-LoopbackUrlNotSupported",
         CANNOT "used: a sentence"},
        {VERDICT_KEY_STORE_INVALID, "ConfigurationError-ReferencedDestination-KeyStoreInvalid",
         CANNOT "used: a sentence"},
        {VERDICT_TRUST_STORE_INVALID, "ConfigurationError-ReferencedDestination-TrustStoreInvalid",
         CANNOT "used: a sentence"},
        {VERDICT_CONFIGURATION_FAILED, "ConfigurationFailed", CANNOT "used: a sentence"},
        {VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED,
         "ConfigurationError-ConnectivityProxy-NotConfigured", CANNOT "used: a sentence"},
        {VERDICT_TENANT_MODE_MISMATCH, "ConfigurationError-ProxyTenantModeMismatch",
         CANNOT "used: a sentence"},
        {VERDICT_FRAGMENT_NOT_FOUND, "ConfigurationError-ReferencedFragment-NotFound",
         "Destination 'example-dest' referred in Destination CR 'mail' is not found. Inspect the "
         "Destination CR or contact the Destination Administrator."},
        {VERDICT_NOT_FOUND, "ConfigurationError-ReferencedDestination-NotFound",
         "Destination 'example-dest' referred in Destination CR 'mail' is not found. Inspect the "
         "Destination CR or contact the Destination Administrator."},
        {VERDICT_INSTANCE_NOT_CONFIGURED,
         "ConfigurationError-DestinationServiceInstance-NotConfigured",
         "The Destination service instance name in the Destination CR 'mail' is not configured as "
         "expected. a sentence"},
        {VERDICT_UNREADABLE, "ConfigurationFailed", CANNOT "read: a sentence"},
    };
    assert_int_equal(ARRAY_LEN(rows), VERDICT_COUNT - 1);
    struct cr cr = cr_named("default", "mail");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct condition c;
        plan_verdict(&c, &cr, NULL, rows[i].verdict, "a sentence");
        assert_false(c.available);
        assert_string_equal(c.reason, rows[i].reason);
        assert_memory_equal(c.message, NOT_CONFIGURED, strlen(NOT_CONFIGURED));
        assert_string_equal(c.message + strlen(NOT_CONFIGURED), rows[i].message);
    }
}

static void test_fragments_and_tenants(void **state)
{
    (void)state;
    struct cr cr = cr_named("default", "mail");
    struct condition c;
    cr.ref.fragment = "f";
    plan_verdict(&c, &cr, NULL, VERDICT_FRAGMENT_NOT_FOUND, "");
    assert_string_equal(c.message,
                        NOT_CONFIGURED "Destination 'example-dest' with fragment 'f' referred in "
                                       "Destination CR 'mail' is not found. Inspect the "
                                       "Destination CR or contact the Destination Administrator.");
    plan_verdict(&c, &cr, "t", VERDICT_NOT_FOUND, "");
    assert_string_equal(c.message,
                        NOT_CONFIGURED "Destination 'example-dest' referred in Destination CR "
                                       "'mail' is not found in tenant 't'. Inspect the "
                                       "Destination CR or contact the Destination Administrator.");
    plan_verdict(&c, &cr, "t", VERDICT_URL_NOT_SUPPORTED, "why");
    assert_string_equal(c.reason,
                        "ConfigurationError-ReferencedDestinationWithFragment-UrlNotSupported");
    assert_string_equal(c.message,
                        NOT_CONFIGURED "Destination 'example-dest' with fragment 'f' referred in "
                                       "Destination CR 'mail' cannot be used: why");
}

/* With the greatest number of tenants, the message says how many did not fit and the status lists
 * all. */
static void test_many_tenants(void **state)
{
    (void)state;
    for (int failing = 0; failing < 2; failing++) {
        struct plan_tenants p;
        struct condition c, why;
        plan_failure(&why, "R", "%s", NOT_CONFIGURED "why");
        plan_tenants_begin(&p);
        for (int i = 0; i < CR_TENANTS_MAX; i++) {
            char name[CR_NAMESPACE_MAX + 1], service[sizeof(name) + 5];
            text_fmt(name, sizeof(name), "%063d", i);
            text_fmt(service, sizeof(service), "mail-%s", name);
            if (failing) {
                plan_tenants_failed(&p, name, &why);
            } else {
                plan_tenants_served(&p, name, service);
            }
        }
        const char *served = plan_tenants_end(&p, &c);
        assert_int_equal(c.available, !failing);
        assert_int_equal(served ? strlen(served) : 0, failing ? 0 : 64 * CR_TENANTS_MAX - 1);
        assert_non_null(strstr(c.message, " more"));
        assert_non_null(strstr(c.message, failing ? "more]. 000" : "more are created."));
        plan_tenants_free(&p);
    }
}

/* With names of the greatest length, the sentence still says what is wrong. */
static void test_long_verdicts(void **state)
{
    (void)state;
    char name[CR_NAME_MAX + 1], text[FAIL_TEXT_MAX];
    text_fmt(name, sizeof(name), "%s", letters(CR_NAME_MAX));
    memset(text, 'x', sizeof(text));
    text_fmt(text + sizeof(text) - 10, 10, "the end");
    struct cr cr = cr_named("default", name);
    cr.ref.name = name;
    struct condition c;
    plan_verdict(&c, &cr, NULL, VERDICT_URL_NOT_SUPPORTED, text);
    assert_non_null(strstr(c.message, "the end"));
}

static struct condition failure;

static int put_status(struct buf *out)
{
    struct cr cr = cr_named("default", "mail");
    cr.other_conditions = (char *)"{\"type\":\"A\"},{\"type\":\"B\"}";
    return plan_status(out, &cr, &failure, NULL, "2025-11-03T08:00:00Z");
}

static void test_status(void **state)
{
    (void)state;
    plan_failure(&failure, "R", "it's a \"message\" \\");
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    assert_int_equal(put_status(&out), OK);
    assert_says(&out, "{'status':{'conditions':[{'type':'A'},{'type':'B'},{'type':'Available',"
                      "'status':'False','reason':'R','message':'it\\u0027s a \\\"message\\\" \\\\',"
                      "'lastUpdateTime':'2025-11-03T08:00:00Z'}]}}");
    buf_free(&out);
    assert_bounded(put_status);

    struct cr cr = cr_named("default", "mail");
    struct condition c;
    plan_success(&c, "mail");
    assert_int_equal(plan_status(&out, &cr, &c, NULL, "2025-11-03T08:00:00Z"), OK);
    assert_says(&out, "{'status':{'conditions':[{'type':'Available','status':'True',"
                      "'reason':'ConfigurationSuccessful','message':'Technical connectivity is "
                      "configured. Kubernetes service with name mail is created.',"
                      "'lastUpdateTime':'2025-11-03T08:00:00Z'}]}}");
    buf_free(&out);

    /* Available is removed, the conditions of others stay. */
    assert_int_equal(plan_status(&out, &cr, NULL, NULL, ""), OK);
    assert_says(&out, "{'status':{'conditions':[]}}");
    buf_free(&out);
    cr.other_conditions = (char *)"{\"type\":\"A\"}";
    assert_int_equal(plan_status(&out, &cr, NULL, NULL, ""), OK);
    assert_says(&out, "{'status':{'conditions':[{'type':'A'}]}}");
    buf_free(&out);
}

/* A condition that was written counts as shown, whatever bytes its message contains. Another one
 * does not. */
static void test_shown(void **state)
{
    (void)state;
    static const char *const messages[] = {"plain",        "quo\"ted\\",    "l\xC3\xA4nge",
                                           "bad \xFF\xC3", "lines\r\n\x7F", ""};
    struct cr none = cr_named("default", "mail");
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        struct condition c, other;
        struct buf out;
        struct error err;
        buf_init(&out, PLAN_OBJECT_MAX);
        plan_failure(&c, "R", "%s", messages[i]);
        assert_int_equal(plan_shown(&none, &c, NULL, true), PLAN_SHOWN_NOT);
        assert_int_equal(buf_fmt(&out, "{\"metadata\":{\"name\":\"m\",\"namespace\":\"n\"},"
                                       "\"spec\":{\"destinationRef\":{\"name\":\"d\"}},"),
                         OK);
        size_t start = buf_len(&out);
        assert_int_equal(plan_status(&out, &none, &c, NULL, "2025-11-03T08:00:00Z"), OK);
        out.data[out.start + start] = ' '; /* the brace of the patch */
        struct object o = body_of(&out);
        struct cr cr;
        assert_int_equal(cr_parse(&cr, o.root, "tproxy", &err), OK);
        assert_int_equal(plan_shown(&cr, &c, NULL, true), PLAN_SHOWN);
        other = c;
        other.available = true;
        assert_int_equal(plan_shown(&cr, &other, NULL, true), PLAN_SHOWN_NOT);
        other = c;
        other.reason = "S";
        assert_int_equal(plan_shown(&cr, &other, NULL, true), PLAN_SHOWN_NOT);
        plan_failure(&other, "R", "%s.", messages[i]);
        assert_int_equal(plan_shown(&cr, &other, NULL, true), PLAN_SHOWN_NOT);
        cr_clear(&cr);
        object_free(&o);
        buf_free(&out);
    }
}

/* ---- Events ---- */

static int put_event(struct buf *out)
{
    struct cr cr = cr_named("default", "mail");
    return plan_event(out, &cr, "mail.18f3", "tproxy-0", true, "R", "a \"note\"",
                      "2025-11-03T08:00:00.000000Z");
}

/* The status of a CR that shows the condition. */
static void show(struct cr *cr, const struct condition *c)
{
    *cr = cr_named("default", "mail");
    cr->available_last = true;
    cr->available =
        (struct cr_condition){.status = "False", .reason = c->reason, .message = c->message};
}

/* A change in kind is distinguished from other words of another server. */
static void test_words(void **state)
{
    (void)state;
    static const struct {
        enum verdict verdict;
        const char *text, *other;
        enum plan_shown shown;
    } rows[] = {
        {VERDICT_UNREADABLE, "it does not serve (500: request 1)",
         "it does not serve (500: request 2)", PLAN_SHOWN_IN_OTHER_WORDS},
        {VERDICT_UNREADABLE, "it does not serve (500: a)", "it does not serve (503: a)",
         PLAN_SHOWN_NOT},
        {VERDICT_UNREADABLE, "no words", "other words", PLAN_SHOWN_NOT},
        {VERDICT_INSTANCE_NOT_CONFIGURED, "the key does not work: a", "the key does not work: b",
         PLAN_SHOWN_IN_OTHER_WORDS},
        {VERDICT_INSTANCE_NOT_CONFIGURED, "Secret \"s\": the entry \"clientid\" is missing",
         "Secret \"s\": the entry \"url\" is missing", PLAN_SHOWN_NOT},
        {VERDICT_URL_NOT_SUPPORTED, "mail.pop3.host: is a", "mail.pop3.host: is b", PLAN_SHOWN_NOT},
        {VERDICT_URL_NOT_SUPPORTED, "the same", "the same", PLAN_SHOWN},
    };
    struct cr cr = cr_named("default", "mail"), shown;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct condition a, b;
        plan_verdict(&a, &cr, NULL, rows[i].verdict, rows[i].text);
        plan_verdict(&b, &cr, NULL, rows[i].verdict, rows[i].other);
        show(&shown, &a);
        assert_int_equal(plan_shown(&shown, &a, NULL, true), PLAN_SHOWN);
        assert_int_equal(plan_shown(&shown, &b, NULL, true), rows[i].shown);
        assert_int_equal(plan_condition_digest(&a, NULL) == plan_condition_digest(&b, NULL),
                         rows[i].shown != PLAN_SHOWN_NOT);
        shown.available_last = false;
        assert_int_equal(plan_shown(&shown, &a, NULL, true), PLAN_SHOWN_NOT);
        /* The tenants count unless the API server drops them. */
        shown.available_last = true;
        assert_int_equal(plan_shown(&shown, &a, "acme", true), PLAN_SHOWN_NOT);
        assert_int_equal(plan_shown(&shown, &a, "acme", false), PLAN_SHOWN);
        assert_true(plan_condition_digest(&a, NULL) != plan_condition_digest(&a, "acme"));
    }
}

/* Among several tenants, failures that contain another server's words come last in the message. */
static void test_words_of_tenants(void **state)
{
    (void)state;
    static const enum plan_shown expected[] = {PLAN_SHOWN, PLAN_SHOWN_IN_OTHER_WORDS,
                                               PLAN_SHOWN_NOT};
    struct cr cr = cr_named("default", "mail"), shown;
    struct condition first = {0};
    for (int i = 0; i < 3; i++) {
        struct plan_tenants p;
        struct condition told, own, all;
        char text[32];
        text_fmt(text, sizeof(text), "it fails (500: %d)", i);
        plan_verdict(&told, &cr, "a", VERDICT_UNREADABLE, text);
        plan_verdict(&own, &cr, "b", VERDICT_URL_NOT_SUPPORTED, i < 2 ? "host" : "port");
        plan_tenants_begin(&p);
        plan_tenants_failed(&p, "a", &told);
        plan_tenants_failed(&p, "b", &own);
        plan_tenants_end(&p, &all);
        plan_tenants_free(&p);
        first = i == 0 ? all : first;
        show(&shown, &first);
        assert_int_equal(plan_shown(&shown, &all, NULL, true), expected[i]);
    }
}

static void test_event(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    assert_int_equal(put_event(&out), OK);
    assert_says(&out, "{'apiVersion':'events.k8s.io/v1','kind':'Event','metadata':{"
                      "'name':'mail.18f3','namespace':'default'},"
                      "'eventTime':'2025-11-03T08:00:00.000000Z','action':'Configure',"
                      "'reportingController':'tproxy/controller','reportingInstance':'tproxy-0',"
                      "'reason':'R','type':'Warning','note':'a \\\"note\\\"','regarding':{"
                      "'apiVersion':'destination.connectivity.api.sap/v1','kind':'Destination',"
                      "'namespace':'default','name':'mail','uid':'" UID "'}}");
    buf_free(&out);
    assert_bounded(put_event);
}

static int put_series(struct buf *out)
{
    return plan_event_series(out, 2, "2025-11-03T08:00:00.000000Z");
}

static void test_event_series(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    assert_int_equal(put_series(&out), OK);
    assert_says(&out, "{'series':{'count':2,'lastObservedTime':'2025-11-03T08:00:00.000000Z'}}");
    buf_free(&out);
    assert_bounded(put_series);
}

/* The API refuses notes of more than 1024 octets. A note that is cut is valid UTF-8. */
static void test_event_bounds(void **state)
{
    (void)state;
    char note[1200] = "a";
    for (size_t i = 1; i + 2 < sizeof(note); i += 2) {
        memcpy(note + i, "\xC3\xA4", 3);
    }
    struct cr cr = cr_named("default", "mail");
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    assert_int_equal(plan_event(&out, &cr, "mail.1", letters(200), false, "R", note, "T"), OK);
    struct object o = body_of(&out);
    char *text = json_strdup(json_get(o.root, "note"), NULL);
    assert_int_equal(strlen(text), 1023);
    assert_memory_equal(text, note, 1023);
    free(text);
    text = json_strdup(json_get(o.root, "reportingInstance"), NULL);
    assert_int_equal(strlen(text), 128);
    free(text);
    assert_true(json_is(json_get(o.root, "type"), "Normal"));
    object_free(&o);
    buf_free(&out);
}

/* ---- names ---- */

static void test_name_objection(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"mail", NULL},
        {"a", NULL},
        {"a-1", NULL},
        {"1a", NULL},
        {"1", NULL},
        {"sap-transp-proxy", NULL},
        {"my-sap-transp-proxy-tcp", NULL},
        {"sap-transp-proxy-tcp-metrics", "names that begin with \"sap-transp-proxy-\" are reserved "
                                         "for Services of the installation"},
        {"", "it is empty"},
        {"-a", "it begins with '-'"},
        {"-", "it begins with '-'"},
        {"a-", "it ends in '-'"},
        {"a.b", "it contains a dot"},
        {"A", "it contains something else than lower-case letters, digits and '-'"},
        {"a_b", "it contains something else than lower-case letters, digits and '-'"},
        {"a b", "it contains something else than lower-case letters, digits and '-'"},
        {"\xC3\xA4", "it contains something else than lower-case letters, digits and '-'"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *objection = plan_name_objection(rows[i][0]);
        assert_string_equal(objection ? objection : "", rows[i][1] ? rows[i][1] : "");
    }
    assert_null(plan_name_objection(letters(63)));
    assert_string_equal(plan_name_objection(letters(64)), "it is longer than 63 characters");
    assert_string_equal(plan_name_advice("mail"), "");
    assert_string_equal(plan_name_advice("1a"),
                        "; if the reason is the name, which does not begin with a letter, rename "
                        "the Destination CR");
}

/* ---- Services ---- */

static struct cr service_cr;
static struct plan_service service_plan;

static int put_home(struct buf *out)
{
    return plan_home_service(out, &service_plan);
}

static int put_alias(struct buf *out)
{
    return plan_alias_service(out, &service_plan);
}

static void plan_a_service(const char *name)
{
    service_cr = cr_named("team-a", name);
    service_plan = (struct plan_service){.home = "home",
                                         .domain = "cluster.local",
                                         .cr = &service_cr,
                                         .name = "mail",
                                         .port = 110,
                                         .target_port = 16400};
}

#define LABELS                                                                                     \
    "'labels':{'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'home',"                      \
    "'tproxy/destination-namespace':'team-a','tproxy/destination-name':'mail'},"                   \
    "'annotations':{'tproxy/destination-namespace':'team-a','tproxy/destination-name':'mail'}"
#define OWNER                                                                                      \
    "'ownerReferences':[{'apiVersion':'destination.connectivity.api.sap/v1',"                      \
    "'kind':'Destination','name':'mail','uid':'" UID "','controller':true}]"

static void test_services(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    plan_a_service("mail");
    assert_int_equal(put_home(&out), OK);
    assert_says(&out, "{'apiVersion':'v1','kind':'Service','metadata':{'name':'mail',"
                      "'namespace':'home'," LABELS "},'spec':{'type':'ClusterIP',"
                      "'ipFamilyPolicy':'PreferDualStack','externalIPs':null,"
                      "'loadBalancerSourceRanges':null,'publishNotReadyAddresses':null,"
                      "'selector':{"
                      "'app.kubernetes.io/instance':'tproxy','app.kubernetes.io/name':'tproxy'},"
                      "'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp',"
                      "'port':110,'targetPort':16400}]}}");
    buf_free(&out);
    assert_int_equal(put_alias(&out), OK);
    assert_says(&out, "{'apiVersion':'v1','kind':'Service','metadata':{'name':'mail',"
                      "'namespace':'team-a'," LABELS "," OWNER "},'spec':{'type':'ExternalName',"
                      "'externalName':'mail.home.svc.cluster.local','ports':[{'name':'tcp-pop3',"
                      "'protocol':'TCP','appProtocol':'tcp','port':110,'targetPort':110}]}}");
    buf_free(&out);
    assert_bounded(put_home);
    assert_bounded(put_alias);

    service_plan.uid = "22222222";
    int (*const put[])(struct buf *) = {put_home, put_alias};
    for (size_t i = 0; i < ARRAY_LEN(put); i++) {
        assert_int_equal(put[i](&out), OK);
        struct object o = body_of(&out);
        assert_true(json_is(json_get(json_get(o.root, "metadata"), "uid"), "22222222"));
        object_free(&o);
        buf_free(&out);
    }
}

/* Labels that others have added to the selector are removed; our own stay. */
static void test_strangers(void **state)
{
    (void)state;
    struct service s;
    struct buf out;
    struct object o =
        object_of("{'metadata':{'name':'mail','namespace':'home'},'spec':{'selector':{"
                  "'a\\n\\u0062':'','app.kubernetes.io/name':'other','app':'x','gone':null}}}");
    assert_int_equal(service_parse(&s, o.root, "home"), OK);
    object_free(&o);
    assert_string_equal(s.strangers, "\"a\\n\\u0062\":null,\"app\":null");

    buf_init(&out, PLAN_OBJECT_MAX);
    plan_a_service("mail");
    service_plan.strangers = s.strangers;
    assert_int_equal(put_home(&out), OK);
    o = body_of(&out);
    struct json_value selector = json_get(json_get(o.root, "spec"), "selector");
    assert_true(json_is(json_get(selector, "app.kubernetes.io/name"), "tproxy"));
    assert_int_equal(json_type(json_get(selector, "a\nb")), JSON_NULL);
    assert_int_equal(json_type(json_get(selector, "app")), JSON_NULL);
    service_clear(&s);
    assert_int_equal(service_parse(&s, o.root, "home"), OK);
    assert_null(s.strangers);
    service_clear(&s);
    object_free(&o);
    buf_free(&out);
}

/* A merge patch replaces the whole list of owners, so the owners of others are written again. One
 * that was too large to be read cannot be. */
static void test_owners(void **state)
{
    (void)state;
    struct service s;
    struct buf out;
    static const char text[] =
        "{\"metadata\":{\"name\":\"mail\",\"namespace\":\"apps\",\"ownerReferences\":["
        "{\"kind\":\"Destination\",\"uid\":\"1\",\"controller\":true},"
        "{\"kind\":\"Job\",\"uid\":\"2\",\"controller\":false},7,"
        "{\"kind\":\"Job\",\"uid\":\"3\",\"controller\":true},"
        "{\"kind\":\"Job\",\"uid\":~},{\"kind\":\"Job\",\"uid\":\"4\"}]},"
        "\"spec\":{\"type\":\"ExternalName\"}}";
    struct json *doc = json_parse_cut(str_of(text), NULL);
    assert_int_equal(service_parse(&s, json_root(doc), "home"), OK);
    json_free(doc);
    assert_string_equal(s.owners, "{\"kind\":\"Job\",\"uid\":\"2\",\"controller\":false},"
                                  "{\"kind\":\"Job\",\"uid\":\"4\"}");
    buf_init(&out, PLAN_OBJECT_MAX);
    plan_a_service("mail");
    service_plan.owners = s.owners;
    assert_int_equal(put_alias(&out), OK);
    struct object o = body_of(&out);
    struct json_value owner = json_first(json_get(json_get(o.root, "metadata"), "ownerReferences"));
    assert_true(json_is(json_get(owner, "kind"), "Destination"));
    assert_true(json_is(json_get(json_next(owner), "uid"), "2"));
    service_clear(&s);
    object_free(&o);
    buf_free(&out);
}

static struct service parse_service(int (*put)(struct buf *))
{
    struct service s;
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    assert_int_equal(put(&out), OK);
    struct object o = body_of(&out);
    assert_int_equal(service_parse(&s, o.root, "home"), OK);
    object_free(&o);
    buf_free(&out);
    return s;
}

static uint64_t service_digest(int (*put)(struct buf *))
{
    struct service s = parse_service(put);
    uint64_t digest = s.digest;
    service_clear(&s);
    return digest;
}

/* The API server's answer, with its defaults, its order, and what others have added. */
static const char *const home_answers[] = {
    "{'kind':'Service','apiVersion':'v1','metadata':{'name':'mail','namespace':'home',"
    "'uid':'02b9472e-bfb4-49d8-9e48-e3e4f9953041','resourceVersion':'220',"
    "'creationTimestamp':'2025-11-03T08:00:00Z'," LABELS ",'managedFields':[{'manager':'tproxy'}]},"
    "'spec':{'ports':[{'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp','port':110,"
    "'targetPort':16400}],'selector':{'app.kubernetes.io/name':'tproxy',"
    "'app.kubernetes.io/instance':'tproxy'},'clusterIP':'10.96.44.10',"
    "'clusterIPs':['10.96.44.10'],'type':'ClusterIP','sessionAffinity':'None',"
    "'ipFamilies':['IPv4'],'ipFamilyPolicy':'PreferDualStack',"
    "'internalTrafficPolicy':'Cluster'},'status':{'loadBalancer':{}}}",

    "{'metadata':{'name':'mail','namespace':'home','uid':'02b9472e','creationTimestamp':'T',"
    "'labels':{'x':'y','app.kubernetes.io/managed-by':'tproxy',"
    "'tproxy/destination-name':'mail','tproxy/destination-namespace':'team-a',"
    "'tproxy/home':'home'},'annotations':{'tproxy/destination-name':'mail','q':'r',"
    "'tproxy/destination-namespace':'team-a'},'ownerReferences':[{'kind':'Other','uid':'1'}]},"
    "'spec':{'ports':[{'targetPort':16400,'port':110,'nodePort':30110,'name':'tcp-pop3',"
    "'protocol':'TCP','appProtocol':'tcp'}],'selector':{'app.kubernetes.io/name':'tproxy',"
    "'more':'1','app.kubernetes.io/instance':'tproxy'},'type':'ClusterIP',"
    "'ipFamilyPolicy':'SingleStack',"
    "'externalName':'left.behind','sessionAffinity':'ClientIP','externalIPs':[],"
    "'publishNotReadyAddresses':false}}",
};

static const char alias_answer[] =
    "{'kind':'Service','apiVersion':'v1','metadata':{'name':'mail','namespace':'team-a',"
    "'uid':'02b9472e','creationTimestamp':'T'," LABELS "," OWNER "},'spec':{'ports':[{"
    "'name':'tcp-pop3','protocol':'TCP','appProtocol':'tcp','port':110,'targetPort':110}],"
    "'type':'ExternalName','sessionAffinity':'None',"
    "'externalName':'mail.home.svc.cluster.local'},'status':{'loadBalancer':{}}}";

static void test_service_answers(void **state)
{
    (void)state;
    plan_a_service("mail");
    struct service written = parse_service(put_home), there;
    for (size_t i = 0; i < ARRAY_LEN(home_answers); i++) {
        struct object o = object_of(home_answers[i]);
        assert_int_equal(service_parse(&there, o.root, "home"), OK);
        assert_string_equal(there.namespace, "home");
        assert_string_equal(there.name, "mail");
        assert_non_null(strstr(there.uid, "02b9472e"));
        assert_non_null(strstr(there.created, "T"));
        assert_string_equal(there.cr_namespace, "team-a");
        assert_string_equal(there.cr_name, "mail");
        assert_false(there.deleting);
        assert_int_equal(there.port, 110);
        assert_int_equal(there.target_port, 16400);
        assert_true(there.digest == written.digest);
        service_clear(&there);
        object_free(&o);
    }
    service_clear(&written);

    written = parse_service(put_alias);
    struct object o = object_of(alias_answer);
    assert_int_equal(service_parse(&there, o.root, "home"), OK);
    assert_true(there.digest == written.digest);
    assert_int_equal(there.port, 0);
    assert_int_equal(there.target_port, 0);
    service_clear(&there);
    service_clear(&written);
    object_free(&o);
}

/* Every field that we write changes the digest. */
static void test_service_digests(void **state)
{
    (void)state;
    uint64_t seen[16];
    size_t n = 0;
    plan_a_service("mail");
    seen[n++] = service_digest(put_home);
    seen[n++] = service_digest(put_alias);
    service_plan.port = 1110;
    seen[n++] = service_digest(put_home);
    seen[n++] = service_digest(put_alias);
    plan_a_service("mail");
    service_plan.target_port = 16401;
    seen[n++] = service_digest(put_home);
    plan_a_service("mail");
    service_cr.uid = (char *)"33333333";
    seen[n++] = service_digest(put_alias);
    plan_a_service("mail");
    service_plan.domain = "example.com";
    seen[n++] = service_digest(put_alias);
    plan_a_service("mail");
    service_cr.namespace = (char *)"team-b";
    seen[n++] = service_digest(put_home);
    plan_a_service("mail2");
    seen[n++] = service_digest(put_home);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_true(seen[i] != seen[j]);
        }
    }
    plan_a_service("mail");
    service_plan.uid = "22222222";
    assert_true(service_digest(put_home) == seen[0]);
}

/* Others have changed the object: each of these changes is recognised. */
static void test_service_changed(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"'tproxy/home':'home'", "'tproxy/home':'elsewhere'"},
        {"'labels':{'app.kubernetes.io/managed-by':'tproxy',", "'labels':{"},
        {"'annotations':{'tproxy/destination-namespace':'team-a',", "'annotations':{"},
        {"'targetPort':16400", "'targetPort':16401"},
        {"'targetPort':16400", "'targetPort':'16400'"},
        {"'port':110", "'port':111"},
        {"'name':'tcp-pop3'", "'name':'pop3'"},
        {"'appProtocol':'tcp',", ""},
        {"'protocol':'TCP'", "'protocol':'UDP'"},
        {"'app.kubernetes.io/name':'tproxy'", "'app.kubernetes.io/name':'other'"},
        {"'type':'ClusterIP'", "'type':'LoadBalancer'"},
        {"'targetPort':16400}", "'targetPort':16400},{'name':'more','port':111,'targetPort':9494}"},
        {"'ports':[", "'ports':[{'port':111,'targetPort':9494},"},
        {"'type':'ClusterIP'", "'type':'ClusterIP','externalIPs':['192.0.2.1']"},
        {"'type':'ClusterIP'", "'type':'ClusterIP','publishNotReadyAddresses':true"},
    };
    plan_a_service("mail");
    uint64_t digest = service_digest(put_home);
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        char text[2048];
        const char *at = strstr(home_answers[0], changes[i][0]);
        assert_non_null(at);
        text_fmt(text, sizeof(text), "%.*s%s%s", (int)(at - home_answers[0]), home_answers[0],
                 changes[i][1], at + strlen(changes[i][0]));
        struct object o = object_of(text);
        struct service s;
        assert_int_equal(service_parse(&s, o.root, "home"), OK);
        if (s.digest == digest) {
            fail_msg("not seen: %s", changes[i][1]);
        }
        service_clear(&s);
        object_free(&o);
    }
}

static void test_long_names(void **state)
{
    (void)state;
    char name[CR_NAME_MAX + 1];
    for (size_t n = 62; n <= CR_NAME_MAX; n += n < 66 ? 1 : 187) {
        text_fmt(name, sizeof(name), "%s", letters(n));
        plan_a_service(name);
        struct service s = parse_service(put_home);
        assert_string_equal(s.cr_name, name);
        assert_string_equal(s.cr_namespace, "team-a");
        uint64_t digest = s.digest;
        service_clear(&s);
        name[n - 1] = 'b';
        assert_true(service_digest(put_home) != digest);
    }

    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    assert_int_equal(put_home(&out), OK);
    struct object o = body_of(&out);
    struct json_value labels = json_get(json_get(o.root, "metadata"), "labels");
    char *label = json_strdup(json_get(labels, LABEL_CR_NAME), NULL);
    assert_int_equal(strlen(label), 63);
    assert_memory_equal(label, name, 46);
    assert_int_equal(label[46], '-');
    assert_int_equal(strspn(label + 47, "0123456789abcdef"), 16);
    free(label);
    object_free(&o);
    buf_free(&out);
}

static struct service parse_text(const char *text)
{
    struct service s;
    struct object o = object_of(text);
    assert_int_equal(service_parse(&s, o.root, "home"), OK);
    object_free(&o);
    return s;
}

/* In the home namespace labels say whose a Service is. */
static void test_service_owner(void **state)
{
    (void)state;
#define OURS "'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'home'"
#define CR_LABELS "'tproxy/destination-namespace':'n','tproxy/destination-name':'a'"
    static const struct {
        const char *labels, *annotations, *name;
    } rows[] = {
        {OURS "," CR_LABELS, "", "a"},
        /* an annotation that does not match the label */
        {OURS "," CR_LABELS, "'tproxy/destination-name':'b'", "a"},
        {OURS "," CR_LABELS, "'tproxy/destination-name':7", "a"},
        {OURS, "'tproxy/destination-namespace':'n','tproxy/destination-name':'a'", NULL},
        {OURS, "", NULL},
        {OURS ",'tproxy/destination-name':'a'", "", NULL},
        {OURS ",'tproxy/destination-namespace':'n'", "", NULL},
        {OURS ",'tproxy/destination-namespace':'n','tproxy/destination-name':''", "", NULL},
        {OURS ",'tproxy/destination-namespace':'n','tproxy/destination-name':'a\\n'", "", NULL},
        {CR_LABELS, "", NULL},
        {"'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'other'," CR_LABELS, "", NULL},
        {"'app.kubernetes.io/managed-by':'helm','tproxy/home':'home'," CR_LABELS, "", NULL},
        {"'tproxy/home':'home'," CR_LABELS, "", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[1024];
        text_fmt(text, sizeof(text),
                 "{'metadata':{'name':'s','namespace':'home','labels':{%s},'annotations':{%s}}}",
                 rows[i].labels, rows[i].annotations);
        struct service s = parse_text(text);
        assert_string_equal(s.cr_name ? s.cr_name : "-", rows[i].name ? rows[i].name : "-");
        assert_int_equal(s.cr_namespace != NULL, s.cr_name != NULL);
        assert_string_equal(s.uid, "");
        assert_string_equal(s.created, "");
        service_clear(&s);
        service_clear(&s);
    }
}

/* In other namespaces labels are claims and prove nothing. */
static void test_service_elsewhere(void **state)
{
    (void)state;
#define HERE OURS "," CR_LABELS
#define MANAGER "'managedFields':[{'manager':'kubectl'},{'manager':'tproxy-home'}]"
#define OWNED_BY(group, kind, name)                                                                \
    "'ownerReferences':[{'apiVersion':'" group "/v1','kind':'" kind "','name':'" name "'}]"
#define GROUP "destination.connectivity.api.sap"
#define OWNER_A OWNED_BY(GROUP, "Destination", "a")
    static const struct {
        const char *labels, *others;
        bool labelled; /* it belongs to "a", judged with its labels */
        bool made;     /* it belongs to "a", judged without its labels */
    } rows[] = {
        {HERE, MANAGER "," OWNER_A, true, true},
        {HERE, MANAGER, false, false},
        {HERE, OWNER_A, false, false},
        {HERE, OWNER_A ",'managedFields':[{'manager':'tproxy'},{}]", false, false},
        {HERE, OWNER_A ",'managedFields':[{'manager':'tproxy-other'}]", false, false},
        {HERE, MANAGER "," OWNED_BY(GROUP, "Destination", "b"), false, false},
        {HERE, MANAGER "," OWNED_BY(GROUP, "Other", "a"), false, false},
        {HERE, MANAGER "," OWNED_BY("apps", "Destination", "a"), false, false},
        {OURS ",'tproxy/destination-namespace':'m','tproxy/destination-name':'a'",
         MANAGER "," OWNER_A, false, true},
        {OURS ",'tproxy/destination-namespace':'n','tproxy/destination-name':'b'",
         MANAGER "," OWNER_A, false, true},
        {"", MANAGER "," OWNER_A, false, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[1024];
        text_fmt(text, sizeof(text), "{'metadata':{'name':'s','namespace':'n','labels':{%s},%s}}",
                 rows[i].labels, rows[i].others);
        struct service s = parse_text(text);
        struct object o = object_of(text);
        if ((s.cr_name != NULL) != rows[i].labelled ||
            service_is_made_for(o.root, "a", "home") != rows[i].made) {
            fail_msg("%s", text);
        }
        service_clear(&s);
        object_free(&o);
    }
}

static void test_odd_services(void **state)
{
    (void)state;
    static const char *const none[] = {
        "7",
        "{}",
        "{'metadata':{'name':'a'}}",
        "{'metadata':{'namespace':'a'}}",
        "{'metadata':{'name':7,'namespace':'a'}}",
        "{'metadata':{'name':'','namespace':'a'}}",
        "{'metadata':{'name':'a\\u0000','namespace':'a'}}",
    };
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        struct object o = object_of(none[i]);
        struct service s;
        assert_int_equal(service_parse(&s, o.root, "home"), ERR);
        assert_null(s.name);
        object_free(&o);
    }
    static const char *const ports[] = {
        "'ports':null",
        "'ports':[{'name':'tcp-pop3','port':0,'targetPort':65536}]",
        "'ports':[{'name':'tcp-pop3','port':'110','targetPort':'pop3'}]",
        "'ports':[{'name':'other','port':110,'targetPort':16400}]",
        "'ports':{'name':'other','port':110,'targetPort':16400}",
    };
    for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
        char text[512];
        struct service s;
        text_fmt(text, sizeof(text),
                 "{'metadata':{'name':'a','namespace':'b','deletionTimestamp':'T'},'spec':{%s}}",
                 ports[i]);
        struct object o = object_of(text);
        assert_int_equal(service_parse(&s, o.root, "home"), OK);
        assert_int_equal(s.port, 0);
        assert_int_equal(s.target_port, 0);
        assert_true(s.deleting);
        service_clear(&s);
        object_free(&o);
    }
}

static void expect_alias(const char *metadata, bool is)
{
    char text[512];
    text_fmt(text, sizeof(text),
             "{'metadata':{'name':'mail'%s},'spec':{'type':'ExternalName',"
             "'externalName':'mail.sap.svc.cluster.local'}}",
             metadata);
    struct object o = object_of(text);
    if (service_is_alias(o.root, "home") != is) {
        fail_msg("%s", text);
    }
    object_free(&o);
}

static void test_alias(void **state)
{
    (void)state;
#define OF(home) ",'labels':{'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'" home "'}"
    static const char *const metadata[] = {
        "", OF("home"), ",'labels':{'app.kubernetes.io/managed-by':'Helm','tproxy/home':'second'}"};
    static const char *const of_others[] = {OF("second"),
                                            ",'labels':{'app.kubernetes.io/managed-by':'tproxy'}"};
    static const struct {
        const char *type, *host;
        bool is;
    } rows[] = {
        {"ExternalName", "mail.home.svc.cluster.local", true},
        {"ExternalName", "mail-x7k2p.home.svc.cluster.local", true},
        {"ExternalName", "mail.home.svc", true},
        {"ClusterIP", "mail.home.svc.cluster.local", false},
        {"ExternalName", "mailbox.home.svc.cluster.local", false},
        {"ExternalName", "other.home.svc.cluster.local", false},
        {"ExternalName", "mail.example.com", false},
        {"ExternalName", "mail..svc.cluster.local", false},
        {"ExternalName", "mail", false},
        {"ExternalName", "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char text[512];
        text_fmt(text, sizeof(text),
                 "{'metadata':{'name':'mail'},'spec':{'type':'%s','externalName':'%s'}}",
                 rows[i].type, rows[i].host);
        struct object o = object_of(text);
        if (service_is_alias(o.root, "home") != rows[i].is) {
            fail_msg("%s", text);
        }
        object_free(&o);
    }
    for (size_t i = 0; i < ARRAY_LEN(metadata); i++) {
        expect_alias(metadata[i], true);
    }
    for (size_t i = 0; i < ARRAY_LEN(of_others); i++) {
        expect_alias(of_others[i], false);
    }
    assert_false(service_is_alias((struct json_value){0}, "home"));
}

/* ---- NetworkPolicies ---- */

static struct plan_policy policy_plan;

static int put_policy(struct buf *out)
{
    return plan_policy(out, &policy_plan);
}

static uint64_t policy_digest(void)
{
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    assert_int_equal(put_policy(&out), OK);
    struct object o = body_of(&out);
    uint64_t digest = plan_policy_digest(o.root);
    object_free(&o);
    buf_free(&out);
    return digest;
}

#define POD_SELECTOR                                                                               \
    "'podSelector':{'matchLabels':{'app.kubernetes.io/name':'tproxy',"                             \
    "'app.kubernetes.io/instance':'tproxy'}}"
#define PORTS                                                                                      \
    "'ports':[{'protocol':'TCP','port':16384,'endPort':16386},{'protocol':'TCP','port':20000},"    \
    "{'protocol':'TCP','port':20002,'endPort':20003}]"

static const uint16_t some_ports[] = {16384, 16385, 16386, 20000, 20002, 20003};

static void test_policies(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    policy_plan = (struct plan_policy){
        .home = "home", .from = "team-a", .ports = some_ports, .n_ports = ARRAY_LEN(some_ports)};
    assert_int_equal(put_policy(&out), OK);
    assert_says(&out, "{'apiVersion':'networking.k8s.io/v1','kind':'NetworkPolicy','metadata':{"
                      "'name':'tproxy-namespace-team-a','namespace':'home','labels':{"
                      "'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'home'}},"
                      "'spec':{" POD_SELECTOR ",'policyTypes':['Ingress'],'ingress':[{'from':[{"
                      "'namespaceSelector':{'matchLabels':{"
                      "'kubernetes.io/metadata.name':'team-a'}}}]," PORTS "}]}}");
    buf_free(&out);
    assert_bounded(put_policy);

    policy_plan.from = NULL;
    policy_plan.uid = "22222222";
    assert_int_equal(put_policy(&out), OK);
    assert_says(&out, "{'apiVersion':'networking.k8s.io/v1','kind':'NetworkPolicy','metadata':{"
                      "'name':'tproxy-clusterwide','namespace':'home','uid':'22222222','labels':{"
                      "'app.kubernetes.io/managed-by':'tproxy','tproxy/home':'home'}},"
                      "'spec':{" POD_SELECTOR ",'policyTypes':['Ingress'],'ingress':[{'from':[{"
                      "'namespaceSelector':{}}]," PORTS "}]}}");
    buf_free(&out);
}

static void test_policy_digests(void **state)
{
    (void)state;
    policy_plan = (struct plan_policy){
        .home = "home", .from = "team-a", .ports = some_ports, .n_ports = ARRAY_LEN(some_ports)};
    uint64_t digest = policy_digest();
    policy_plan.uid = "22222222";
    assert_true(policy_digest() == digest);
    policy_plan.n_ports--;
    assert_true(policy_digest() != digest);
    policy_plan.n_ports++;
    policy_plan.from = NULL;
    assert_true(policy_digest() != digest);
    policy_plan.home = "other";
    policy_plan.from = "team-a";
    assert_true(policy_digest() != digest);

    /* The API server's answer; then the same with one more source, which would admit others. */
    static const char answer[] =
        "{'kind':'NetworkPolicy','apiVersion':'networking.k8s.io/v1','metadata':{"
        "'name':'tproxy-namespace-team-a','namespace':'home','uid':'2a2a55d6','generation':1,"
        "'creationTimestamp':'T','labels':{'x':'y','app.kubernetes.io/managed-by':'tproxy',"
        "'tproxy/home':'home'},'managedFields':[]},'spec':{" POD_SELECTOR ",'ingress':[{" PORTS
        ",'from':[{'namespaceSelector':{'matchLabels':{"
        "'kubernetes.io/metadata.name':'team-a'}}}%s]}],'policyTypes':['Ingress']}}";
    static const char *const more[] = {"", ",{'podSelector':{}}"};
    for (size_t i = 0; i < ARRAY_LEN(more); i++) {
        char text[2048];
        const char *at = strstr(answer, "%s");
        text_fmt(text, sizeof(text), "%.*s%s%s", (int)(at - answer), answer, more[i], at + 2);
        struct object o = object_of(text);
        assert_int_equal(plan_policy_digest(o.root) == digest, i == 0);
        object_free(&o);
    }
    assert_true(plan_policy_digest((struct json_value){0}) != digest);
}

/* Reads the ports of a policy, whoever has written it. */
static void test_policy_ports(void **state)
{
    (void)state;
    static const struct {
        const char *ingress, *ranges;
    } cases[] = {
        {"null", ""},
        {"[]", ""},
        {"[{'ports':[{'port':20000}]}]", "20000-20000 "},
        {"[{'ports':[{'port':7},{'protocol':'TCP','port':1,'endPort':6}]},{'ports':[{'port':3},"
         "{'port':5,'endPort':9},{'port':12}]}]",
         "1-9 12-12 "},
        {"[{'ports':[{'port':'admin'}]}]", ""},
        {"[{'ports':[{'port':20000,'endPort':1}]}]", "20000-20000 "},
        {"[{}]", "1-65535 "},
        {"[{'ports':[]}]", "1-65535 "},
        {"[{'ports':[{'port':4},{'protocol':'TCP'}]}]", "1-65535 "},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[512], got[128] = "";
        struct buf out = BUF_ON(got);
        size_t n;
        text_fmt(text, sizeof(text), "{'spec':{'ingress':%s}}", cases[i].ingress);
        struct object o = object_of(text);
        struct plan_ports *ranges = plan_policy_ports(o.root, &n);
        for (size_t r = 0; r < n; r++) {
            assert_int_equal(buf_fmt(&out, "%d-%d ", ranges[r].first, ranges[r].last), OK);
        }
        assert_int_equal(buf_len(&out), strlen(cases[i].ranges));
        assert_memory_equal(got, cases[i].ranges, strlen(cases[i].ranges));
        free(ranges);
        object_free(&o);
    }
}

static void test_policy_names(void **state)
{
    (void)state;
    char name[PLAN_POLICY_NAME_SIZE], other[PLAN_POLICY_NAME_SIZE];
    plan_policy_name(name, sizeof(name), letters(CR_NAMESPACE_MAX));
    assert_int_equal(strlen(name), strlen("tproxy-namespace-") + CR_NAMESPACE_MAX);
    plan_policy_name(name, sizeof(name), NULL);
    plan_policy_name(other, sizeof(other), "clusterwide");
    assert_string_not_equal(name, other);
}

/* The bound is 10,000 ports without neighbours, or all ports in one range. */
static void test_many_ports(void **state)
{
    (void)state;
    enum { MANY = 32768 };
    static uint16_t ports[MANY];
    struct buf out;
    buf_init(&out, PLAN_OBJECT_MAX);
    for (size_t i = 0; i < MANY; i++) {
        ports[i] = (uint16_t)(2 * i + 1);
    }
    policy_plan = (struct plan_policy){.home = "home", .ports = ports, .n_ports = 10000};
    assert_int_equal(put_policy(&out), OK);
    struct object o = body_of(&out);
    object_free(&o);
    buf_free(&out);
    policy_plan.n_ports = MANY;
    assert_int_equal(put_policy(&out), ERR);
    buf_free(&out);

    for (size_t i = 0; i < MANY; i++) {
        ports[i] = (uint16_t)(MANY + i);
    }
    assert_int_equal(put_policy(&out), OK);
    assert_non_null(strstr(buf_str(&out).p, "\"port\":32768,\"endPort\":65535}]"));
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_fragments_and_tenants),
        cmocka_unit_test(test_many_tenants),
        cmocka_unit_test(test_long_verdicts),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_shown),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_words_of_tenants),
        cmocka_unit_test(test_event_series),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_event_bounds),
        cmocka_unit_test(test_name_objection),
        cmocka_unit_test(test_services),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_owners),
        cmocka_unit_test(test_service_answers),
        cmocka_unit_test(test_service_digests),
        cmocka_unit_test(test_service_changed),
        cmocka_unit_test(test_long_names),
        cmocka_unit_test(test_service_owner),
        cmocka_unit_test(test_service_elsewhere),
        cmocka_unit_test(test_odd_services),
        cmocka_unit_test(test_alias),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_policy_digests),
        cmocka_unit_test(test_policy_ports),
        cmocka_unit_test(test_policy_names),
        cmocka_unit_test(test_many_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
