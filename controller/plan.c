/* Writes the objects that the controller wants, and reads the fields that it keeps of the existing
 * ones. */
#include "controller/plan.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/digest.h"
#include "lib/mem.h"
#include "lib/text.h"

/* Bounds of the Kubernetes API in octets: of a label's value, of an Event's note, and of the name
 * of the process that reports the Event. */
enum { LABEL_MAX = 63, NOTE_MAX = 1024, INSTANCE_MAX = 128 };

/* Maximum length of the foreign labels in a selector. The next write removes labels beyond it. */
enum { STRANGERS_MAX = 16 * 1024 };

/* Maximum length of the owner references of others. References beyond it are lost. */
enum { OWNERS_MAX = 4 * 1024 };

#define POD_LABEL_INSTANCE "app.kubernetes.io/instance"
#define POD_LABEL_NAME "app.kubernetes.io/name"

/* The name of the port. Together with appProtocol it tells service meshes not to detect the
 * protocol: they would wait for the client to speak first. */
#define PORT_NAME "tcp-pop3"

/* A host name that is never found, because it is below "invalid" (RFC 6761 section 6.4). */
#define NOWHERE "withdrawn.tproxy.invalid"

/* ---- conditions ---- */

void plan_success(struct condition *c, const char *service)
{
    *c = (struct condition){.available = true, .reason = verdict_reason(VERDICT_OK, false)};
    text_fmt(c->message, sizeof(c->message), "Technical connectivity is configured.%s%s%s",
             service ? " Kubernetes service with name " : "", service ? service : "",
             service ? " is created." : "");
    c->own = strlen(c->message);
}

void plan_failure(struct condition *c, const char *reason, const char *fmt, ...)
{
    char text[PLAN_MESSAGE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    *c = (struct condition){.reason = reason};
    /* The API server must store the message unchanged: a difference would make us write the status
     * again and again. */
    text_printable(c->message, sizeof(c->message), str_of(text));
    c->own = strlen(c->message);
}

/* Ends our own words at the first colon after `from` octets. */
static void end_own_words(struct condition *c, size_t from)
{
    const char *colon = c->own > from ? strstr(c->message + from, ": ") : NULL;
    c->own = colon ? (size_t)(colon - c->message) : c->own;
}

void plan_failure_told(struct condition *c, const char *reason, const char *sentence)
{
    plan_failure(c, reason, "%s", sentence);
    end_own_words(c, 0);
}

/* A part of the sentence of VERDICT_INSTANCE_NOT_CONFIGURED. The words of the authorization server
 * that refuses the service key follow it. */
#define KEY_REFUSED " does not work: "

/* Tells whether the sentence may repeat words of the Destination service or of an authorization
 * server, or the words for a failure of the network. */
static bool is_told(enum verdict verdict, const char *sentence)
{
    return verdict == VERDICT_UNREADABLE || verdict == VERDICT_CONFIGURATION_FAILED ||
           strstr(sentence, KEY_REFUSED);
}

#define NOT_CONFIGURED "Technical connectivity is not configured. "
#define INSPECT "Inspect the Destination CR or contact the Destination Administrator."

/* Size of the text "Destination 'd' with fragment 'f' referred in Destination CR 'c'". */
enum { SUBJECT_MAX = 2 * CR_NAME_MAX + 192 };

static const char *subject_of(char out[SUBJECT_MAX], const struct cr *cr, bool fragment)
{
    text_fmt(out, SUBJECT_MAX, "Destination '%s'%s%.80s%s referred in Destination CR '%s'",
             cr->ref.name, fragment ? " with fragment '" : "", fragment ? cr->ref.fragment : "",
             fragment ? "'" : "", cr->name);
    return out;
}

void plan_verdict(struct condition *c, const struct cr *cr, const char *tenant,
                  enum verdict verdict, const char *text)
{
    char subject[SUBJECT_MAX];
    bool fragment = cr->ref.fragment != NULL;
    const char *reason = verdict_reason(verdict, fragment);
    size_t before = 0;
    switch (verdict) {
    case VERDICT_NOT_FOUND:
    case VERDICT_FRAGMENT_NOT_FOUND:
        fragment = fragment && verdict == VERDICT_FRAGMENT_NOT_FOUND;
        plan_failure(c, reason, NOT_CONFIGURED "%s is not found%s%s%s. " INSPECT,
                     subject_of(subject, cr, fragment), tenant ? " in tenant '" : "",
                     tenant ? tenant : "", tenant ? "'" : "");
        return;
    case VERDICT_INSTANCE_NOT_CONFIGURED:
        plan_failure(c, reason,
                     NOT_CONFIGURED "The Destination service instance name in the Destination CR "
                                    "'%s' is not configured as expected. %s",
                     cr->name, text);
        before = strlen(NOT_CONFIGURED);
        break;
    case VERDICT_UNREADABLE:
    case VERDICT_TYPE_NOT_SUPPORTED:
    case VERDICT_PROXY_TYPE_NOT_SUPPORTED:
    case VERDICT_AUTHENTICATION_NOT_SUPPORTED:
    case VERDICT_URL_NOT_SUPPORTED:
    case VERDICT_LOOPBACK_URL_NOT_SUPPORTED:
    case VERDICT_KEY_STORE_INVALID:
    case VERDICT_TRUST_STORE_INVALID:
    case VERDICT_CONFIGURATION_FAILED:
    case VERDICT_CONNECTIVITY_PROXY_NOT_CONFIGURED:
    case VERDICT_TENANT_MODE_MISMATCH:
        plan_failure(c, reason,
                     NOT_CONFIGURED "%s cannot be %s: ", subject_of(subject, cr, fragment),
                     verdict == VERDICT_UNREADABLE ? "read" : "used");
        before = c->own;
        plan_failure(c, reason, NOT_CONFIGURED "%s cannot be %s: %s",
                     subject_of(subject, cr, fragment),
                     verdict == VERDICT_UNREADABLE ? "read" : "used", text);
        break;
    case VERDICT_OK:
    case VERDICT_COUNT:
        assert(false);
        return;
    }
    if (is_told(verdict, text)) {
        end_own_words(c, before);
    }
}

/* ---- several tenants ---- */

/* Maximum length in octets of the names in a message. The rest is for the failures of the tenants.
 */
enum { NAMES_MAX = 640 };

void plan_tenants_begin(struct plan_tenants *p)
{
    *p = (struct plan_tenants){0};
    buf_init(&p->served, CR_TENANTS_MAX * (CR_NAMESPACE_MAX + 1) + 1);
    buf_init(&p->failed, NAMES_MAX);
    buf_init(&p->services, NAMES_MAX);
    buf_init(&p->words, PLAN_MESSAGE_MAX);
    buf_init(&p->told, PLAN_MESSAGE_MAX);
}

void plan_tenants_free(struct plan_tenants *p)
{
    buf_free(&p->served);
    buf_free(&p->failed);
    buf_free(&p->services);
    buf_free(&p->words);
    buf_free(&p->told);
}

void plan_tenants_served(struct plan_tenants *p, const char *tenant, const char *service)
{
    int rc = buf_fmt(&p->served, "%s%s", p->n_served ? "," : "", tenant);
    assert(rc == OK); /* the buffer has room for the maximum number of tenants */
    if (service && (p->unnamed_services ||
                    buf_fmt(&p->services, "%s%s", p->n_served ? ", " : "", service) < 0)) {
        p->unnamed_services++;
    }
    p->n_served++;
}

void plan_tenants_failed(struct plan_tenants *p, const char *tenant, const struct condition *why)
{
    const char *words = why->message;
    if (strncmp(words, NOT_CONFIGURED, strlen(NOT_CONFIGURED)) == 0) {
        words += strlen(NOT_CONFIGURED);
    }
    if (p->unnamed_failed || buf_fmt(&p->failed, "%s\"%s\"", p->n_failed ? ", " : "", tenant) < 0) {
        p->unnamed_failed++;
    }
    /* A failure that does not fit is left out: it would be cut anyway. */
    int rc = buf_fmt(why->message[why->own] ? &p->told : &p->words, " %s: %s", tenant, words);
    (void)rc;
    p->n_failed++;
}

/* Writes `begin` and "and 7 more", or nothing when `more` is 0. Returns out. */
static const char *and_more(char out[32], const char *begin, size_t more)
{
    out[0] = '\0';
    if (more) {
        text_fmt(out, 32, "%sand %zu more", begin, more);
    }
    return out;
}

const char *plan_tenants_end(struct plan_tenants *p, struct condition *c)
{
    char more[32];
    struct str services = buf_str(&p->services), failed = buf_str(&p->failed);
    struct str words = buf_str(&p->words), told = buf_str(&p->told);
    bool several = p->n_served > 1;
    int rc = buf_add(&p->served, "", 1);
    assert(rc == OK);
    if (p->n_failed) {
        plan_failure(c, "FailedToApplyConfiguration",
                     "Configuration failed for tenants: [%.*s%s].%.*s", STR_ARG(failed),
                     and_more(more, ", ", p->unnamed_failed), STR_ARG(words));
        size_t own = c->own;
        plan_failure(c, "FailedToApplyConfiguration",
                     "Configuration failed for tenants: [%.*s%s].%.*s%.*s", STR_ARG(failed),
                     and_more(more, ", ", p->unnamed_failed), STR_ARG(words), STR_ARG(told));
        c->own = own;
    } else {
        plan_success(c, NULL);
        size_t n = strlen(c->message);
        if (services.n) {
            text_fmt(c->message + n, sizeof(c->message) - n,
                     " Kubernetes service%s with name%s %.*s%s %s created.", several ? "s" : "",
                     several ? "s" : "", STR_ARG(services),
                     and_more(more, " ", p->unnamed_services), several ? "are" : "is");
        }
        c->own = strlen(c->message);
    }
    return p->n_served ? buf_str(&p->served).p : NULL;
}

/* ---- the status ---- */

static const char *status_of(const struct condition *c)
{
    return c->available ? "True" : "False";
}

/* Tells whether the shown message has our own words, and no more when the condition has no words of
 * another server. */
static bool same_own_words(const char *shown, const struct condition *c)
{
    return strncmp(shown, c->message, c->own) == 0 && (c->message[c->own] || !shown[c->own]);
}

enum plan_shown plan_shown(const struct cr *cr, const struct condition *c, const char *served,
                           bool tenants_kept)
{
    const struct cr_condition *shown = &cr->available;
    bool same_tenants =
        served ? cr->shown_tenants && strcmp(cr->shown_tenants, served) == 0 : !cr->shown_tenants;
    if (!cr->available_last || strcmp(shown->status, status_of(c)) != 0 ||
        strcmp(shown->reason, c->reason) != 0 || !same_own_words(shown->message, c) ||
        (tenants_kept && !same_tenants)) {
        return PLAN_SHOWN_NOT;
    }
    return strcmp(shown->message, c->message) == 0 ? PLAN_SHOWN : PLAN_SHOWN_IN_OTHER_WORDS;
}

uint64_t plan_condition_digest(const struct condition *c, const char *served)
{
    unsigned char digest[DIGEST_SHA256_SIZE];
    uint64_t first;
    const struct str parts[] = {
        {c->reason, strlen(c->reason) + 1},
        {c->message, c->own},
        {"", 1},
        {served, served ? strlen(served) + 1 : 0},
    };
    digest_sha256(digest, parts, ARRAY_LEN(parts));
    memcpy(&first, digest, sizeof(first));
    return first ^ c->available;
}

static int put_tenants(struct buf *out, const char *served)
{
    struct str rest = str_of(served);
    if (json_fmt(out, ",'tenants':[") < 0) {
        return ERR;
    }
    for (const char *comma = ""; rest.n > 0; comma = ",") {
        struct str name = str_cut(&rest, ',');
        if (buf_fmt(out, "%s{\"tenantSubdomain\":\"%.*s\"}", comma, STR_ARG(name)) < 0) {
            return ERR;
        }
    }
    return json_fmt(out, "]");
}

int plan_status(struct buf *out, const struct cr *cr, const struct condition *c, const char *served,
                const char *now)
{
    const char *others = cr->other_conditions;
    char version[32];
    text_fmt(version, sizeof(version), "%llu", (unsigned long long)cr->version);
    if (buf_add(out, "{", 1) < 0 ||
        (cr->version && json_fmt(out, "'metadata':{'resourceVersion':%s},", version) < 0) ||
        json_fmt(out, "'status':{'conditions':[") < 0 ||
        (others && buf_fmt(out, "%s%s", others, c ? "," : "") < 0) ||
        (c && json_fmt(out,
                       "{'type':'Available','status':%s,'reason':%s,'message':%s,"
                       "'lastUpdateTime':%s}",
                       status_of(c), c->reason, c->message, now) < 0) ||
        json_fmt(out, "]") < 0 || (served && put_tenants(out, served) < 0) ||
        (!served && cr->shown_tenants && json_fmt(out, ",'tenants':null") < 0)) {
        return ERR;
    }
    return json_fmt(out, "}}");
}

/* Appends an Event up to the object that it is about. */
static int put_event(struct buf *out, const char *namespace, const char *name, const char *instance,
                     bool warning, const char *reason, const char *note, const char *now)
{
    char note_text[NOTE_MAX + 1], instance_text[INSTANCE_MAX + 1];
    text_printable(note_text, sizeof(note_text), str_of(note));
    text_printable(instance_text, sizeof(instance_text), str_of(instance));
    return json_fmt(out,
                    "{'apiVersion':'events.k8s.io/v1','kind':'Event',"
                    "'metadata':{'name':%s,'namespace':%s},'eventTime':%s,"
                    "'reportingController':'tproxy/controller','reportingInstance':%s,"
                    "'action':'Configure','reason':%s,'type':%s,'note':%s,",
                    name, namespace, now, instance_text, reason, warning ? "Warning" : "Normal",
                    note_text);
}

int plan_event(struct buf *out, const struct cr *cr, const char *name, const char *instance,
               bool warning, const char *reason, const char *note, const char *now)
{
    if (put_event(out, cr->namespace, name, instance, warning, reason, note, now) < 0) {
        return ERR;
    }
    return json_fmt(out,
                    "'regarding':{'apiVersion':'" CR_API_VERSION "','kind':'" CR_KIND "',"
                    "'namespace':%s,'name':%s,'uid':%s}}",
                    cr->namespace, cr->name, cr->uid);
}

int plan_event_series(struct buf *out, unsigned count, const char *now)
{
    return json_fmt(out, "{'series':{'count':%d,'lastObservedTime':%s}}", (int)count, now);
}

int plan_proxy_event(struct buf *out, const char *home, const char *object, const char *uid,
                     const char *name, const char *instance, const char *reason, const char *note,
                     const char *now)
{
    if (put_event(out, home, name, instance, true, reason, note, now) < 0) {
        return ERR;
    }
    return json_fmt(out,
                    "'regarding':{'apiVersion':'operator.kyma-project.io/v1alpha1',"
                    "'kind':'TransparentProxy','namespace':%s,'name':%s,'uid':%s}}",
                    home, object, uid);
}

/* ---- names ---- */

void plan_writer(char *out, size_t cap, const char *home)
{
    text_fmt(out, cap, LABEL_MANAGER "-%s", home);
}

const char *plan_name_objection(const char *name)
{
    size_t n = strlen(name);
    if (n == 0) {
        return "it is empty";
    }
    if (n > LABEL_MAX) {
        return "it is longer than 63 characters";
    }
    if (strchr(name, '.')) {
        return "it contains a dot";
    }
    if (name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")]) {
        return "it contains something else than lower-case letters, digits and '-'";
    }
    if (name[0] == '-' || name[n - 1] == '-') {
        return name[0] == '-' ? "it begins with '-'" : "it ends in '-'";
    }
    if (strncmp(name, PLAN_RESERVED_PREFIX, strlen(PLAN_RESERVED_PREFIX)) == 0) {
        return "names that begin with \"" PLAN_RESERVED_PREFIX
               "\" are reserved for Services of the installation";
    }
    return NULL;
}

const char *plan_name_advice(const char *name)
{
    return name[0] >= '0' && name[0] <= '9'
               ? "; if the reason is the name, which does not begin with a letter, rename the "
                 "Destination CR"
               : "";
}

/* Writes a name as the value of a label. A name that is too long for it is cut and ends in a digest
 * of the whole. */
static void label_value(char out[LABEL_MAX + 1], const char *name)
{
    enum { DIGITS = 16 };
    unsigned char digest[DIGEST_SHA256_SIZE];
    struct str whole = str_of(name);
    if (whole.n <= LABEL_MAX) {
        text_fmt(out, LABEL_MAX + 1, "%s", name);
        return;
    }
    size_t n = strlen(text_printable(out, LABEL_MAX - DIGITS, whole));
    out[n++] = '-';
    digest_sha256(digest, &whole, 1);
    for (size_t i = 0; i < DIGITS / 2; i++) {
        n += text_fmt(out + n, LABEL_MAX + 1 - n, "%02x", digest[i]);
    }
}

/* ---- Services ---- */

static int put_metadata(struct buf *out, const struct plan_service *s, const char *namespace)
{
    char cr_name[LABEL_MAX + 1];
    label_value(cr_name, s->cr->name);
    int rc = json_fmt(out,
                      "{'apiVersion':'v1','kind':'Service','metadata':{'name':%s,'namespace':%s,"
                      "'labels':{'" LABEL_MANAGED_BY "':'" LABEL_MANAGER "',"
                      "'" LABEL_HOME "':%s,'" LABEL_CR_NAMESPACE "':%s,"
                      "'" LABEL_CR_NAME "':%s},'annotations':{"
                      "'" LABEL_CR_NAMESPACE "':%s,'" LABEL_CR_NAME "':%s}",
                      s->name, namespace, s->home, s->cr->namespace, cr_name, s->cr->namespace,
                      s->cr->name);
    return rc == OK && s->uid ? json_fmt(out, ",'uid':%s", s->uid) : rc;
}

static int put_port(struct buf *out, uint16_t port, uint16_t target_port)
{
    return json_fmt(out,
                    "'ports':[{'name':'" PORT_NAME "','protocol':'TCP','appProtocol':'tcp',"
                    "'port':%d,'targetPort':%d}]}}",
                    port, target_port);
}

int plan_home_service(struct buf *out, const struct plan_service *s)
{
    if (put_metadata(out, s, s->home) < 0 ||
        /* A merge patch removes members that are null. */
        json_fmt(out, "},'spec':{'type':'ClusterIP','ipFamilyPolicy':'PreferDualStack',"
                      "'externalIPs':null,'loadBalancerSourceRanges':null,"
                      "'publishNotReadyAddresses':null,"
                      "'selector':{" PLAN_POD_LABELS) < 0 ||
        (s->strangers && buf_fmt(out, ",%s", s->strangers) < 0) || buf_fmt(out, "},") < 0) {
        return ERR;
    }
    return put_port(out, s->port, s->target_port);
}

int plan_alias_service(struct buf *out, const struct plan_service *s)
{
    char host[512];
    text_fmt(host, sizeof(host), "%s.%s.svc.%s", s->name, s->home, s->domain);
    /* blockOwnerDeletion would take the right to update finalizers of Destinations. */
    if (put_metadata(out, s, s->cr->namespace) < 0 ||
        json_fmt(out,
                 ",'ownerReferences':[{'apiVersion':'" CR_API_VERSION "','kind':'" CR_KIND "',"
                 "'name':%s,'uid':%s,'controller':true}",
                 s->cr->name, s->cr->uid) < 0 ||
        (s->owners && buf_fmt(out, ",%s", s->owners) < 0) ||
        json_fmt(out, "]},'spec':{'type':'ExternalName','externalName':%s,", host) < 0) {
        return ERR;
    }
    /* The port of an alias is for people only: an ExternalName Service does not map ports. */
    return put_port(out, s->port, s->port);
}

int plan_alias_cut(struct buf *out, const char *uid)
{
    return json_fmt(out, "{'metadata':{'uid':%s},'spec':{'externalName':'" NOWHERE "'}}", uid);
}

/* Returns the name of an object, which the caller frees. Returns NULL when v cannot be one. */
static char *name_of(struct json_value v)
{
    size_t n = 0;
    char *name = json_strdup(v, &n);
    if (name && n > 0 && n <= CR_NAME_MAX && !text_has_control((struct str){name, n})) {
        return name;
    }
    free(name);
    return NULL;
}

static char *text_or_empty(struct json_value v)
{
    char *text = name_of(v);
    return text ? text : mem_strdup("");
}

/* Returns the name under `key`, which the caller frees: the whole name in the annotation if the
 * label was made from it, or else the label. */
static char *whole_name(struct json_value metadata, const char *key)
{
    char *label = name_of(json_get(json_get(metadata, "labels"), key));
    char *whole = name_of(json_get(json_get(metadata, "annotations"), key));
    char expected[LABEL_MAX + 1];
    if (label && whole) {
        label_value(expected, whole);
        if (strcmp(label, expected) == 0) {
            free(label);
            return whole;
        }
    }
    free(whole);
    return label;
}

static bool is_ours(struct json_value metadata, const char *home)
{
    struct json_value labels = json_get(metadata, "labels");
    return json_is(json_get(labels, LABEL_MANAGED_BY), LABEL_MANAGER) &&
           json_is(json_get(labels, LABEL_HOME), home);
}

bool plan_is_ours(struct json_value object, const char *home)
{
    return is_ours(json_get(object, "metadata"), home);
}

/* Returns the first element of an array whose member `key` is `value`. */
static struct json_value element(struct json_value array, const char *key, const char *value)
{
    struct json_value e = json_first(array);
    while (json_exists(e) && !json_is(json_get(e, key), value)) {
        e = json_next(e);
    }
    return e;
}

bool service_is_made_for(struct json_value object, const char *cr_name, const char *home)
{
    struct json_value metadata = json_get(object, "metadata");
    struct json_value owner = element(json_get(metadata, "ownerReferences"), "kind", CR_KIND);
    char writer[PLAN_WRITER_SIZE];
    plan_writer(writer, sizeof(writer), home);
    return json_is(json_get(owner, "apiVersion"), CR_API_VERSION) &&
           json_is(json_get(owner, "name"), cr_name) &&
           json_exists(element(json_get(metadata, "managedFields"), "manager", writer));
}

static uint64_t digest_of(const struct json_value *parts, size_t n)
{
    uint64_t h = 0;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ json_digest(parts[i])) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29; /* makes the order count */
    }
    return h;
}

/* Returns the first port that is not ours, or JSON_NONE. */
static struct json_value other_port(struct json_value ports)
{
    struct json_value e = json_first(ports);
    while (json_is(json_get(e, "name"), PORT_NAME)) {
        e = json_next(e);
    }
    return e;
}

/* Returns the flag if it is set, or else JSON_NONE: the API server leaves out a flag that is false.
 */
static struct json_value set_flag(struct json_value v)
{
    bool set = false;
    return json_bool(v, &set) == OK && set ? v : (struct json_value){0};
}

/* Returns the list if it has elements, or else JSON_NONE. */
static struct json_value filled_list(struct json_value v)
{
    return json_exists(json_first(v)) ? v : (struct json_value){0};
}

/* Returns the digest of a Service's fields. It leaves out PreferDualStack, which clusters with a
 * single family drop, and fields that a Service of the other type has left behind. The last three
 * parts are fields with which others could widen the home Service: more ports, addresses outside of
 * the cluster, pods that are not ready. */
static uint64_t service_digest(struct json_value object)
{
    struct json_value metadata = json_get(object, "metadata"), spec = json_get(object, "spec");
    bool alias = json_is(json_get(spec, "type"), "ExternalName");
    struct json_value labels = json_get(metadata, "labels");
    struct json_value annotations = json_get(metadata, "annotations");
    struct json_value owner = element(json_get(metadata, "ownerReferences"), "kind", CR_KIND);
    struct json_value none = {0};
    struct json_value selector = alias ? none : json_get(spec, "selector");
    struct json_value port = element(json_get(spec, "ports"), "name", PORT_NAME);
    const struct json_value parts[] = {
        json_get(labels, LABEL_MANAGED_BY),
        json_get(labels, LABEL_HOME),
        json_get(labels, LABEL_CR_NAMESPACE),
        json_get(labels, LABEL_CR_NAME),
        json_get(annotations, LABEL_CR_NAMESPACE),
        json_get(annotations, LABEL_CR_NAME),
        json_get(owner, "uid"),
        json_get(spec, "type"),
        alias ? json_get(spec, "externalName") : none,
        json_get(selector, POD_LABEL_INSTANCE),
        json_get(selector, POD_LABEL_NAME),
        json_get(port, "protocol"),
        json_get(port, "appProtocol"),
        json_get(port, "port"),
        json_get(port, "targetPort"),
        alias ? none : other_port(json_get(spec, "ports")),
        alias ? none : filled_list(json_get(spec, "externalIPs")),
        alias ? none : set_flag(json_get(spec, "publishNotReadyAddresses")),
    };
    return digest_of(parts, ARRAY_LEN(parts));
}

static char *strangers_of(struct json_value selector)
{
    struct buf out;
    buf_init(&out, STRANGERS_MAX);
    for (struct json_value m = json_first(selector); json_exists(m); m = json_next(m)) {
        struct json_value key = json_key(m);
        if (json_given(m) && !json_is(key, POD_LABEL_INSTANCE) && !json_is(key, POD_LABEL_NAME) &&
            buf_fmt(&out, "%s%.*s:null", buf_len(&out) ? "," : "", STR_ARG(json_text(key))) < 0) {
            break;
        }
    }
    char *strangers = buf_len(&out) ? mem_strndup(buf_str(&out).p, buf_len(&out)) : NULL;
    buf_free(&out);
    return strangers;
}

/* Tells whether an owner reference of somebody else is kept. A reference to a controller is not,
 * because the API server allows only one, and ours is it. A reference that was not read completely
 * is not kept either. */
static bool is_foreign_owner(struct json_value owner)
{
    struct json *whole = json_parse(json_text(owner), NULL);
    bool foreign = whole && json_type(owner) == JSON_OBJECT &&
                   !json_exists(set_flag(json_get(owner, "controller"))) &&
                   !json_is(json_get(owner, "kind"), CR_KIND);
    json_free(whole);
    return foreign;
}

static char *owners_of(struct json_value references)
{
    struct buf out;
    buf_init(&out, OWNERS_MAX);
    for (struct json_value o = json_first(references); json_exists(o); o = json_next(o)) {
        if (is_foreign_owner(o) &&
            buf_fmt(&out, "%s%.*s", buf_len(&out) ? "," : "", STR_ARG(json_text(o))) < 0) {
            break;
        }
    }
    char *owners = buf_len(&out) ? mem_strndup(buf_str(&out).p, buf_len(&out)) : NULL;
    buf_free(&out);
    return owners;
}

static uint16_t port_of(struct json_value v)
{
    int64_t port = 0;
    return json_int64(v, &port) == OK && port > 0 && port <= UINT16_MAX ? (uint16_t)port : 0;
}

/* Tells whether the labels may be believed; see service_parse. */
static bool claim_holds(const struct service *s, struct json_value object, const char *home)
{
    if (!s->cr_namespace || !s->cr_name) {
        return false;
    }
    return strcmp(s->namespace, home) == 0 || (strcmp(s->namespace, s->cr_namespace) == 0 &&
                                               service_is_made_for(object, s->cr_name, home));
}

/* Tells whether the Service leads to "name.home.svc...". */
static bool leads_home(struct json_value spec, const char *name, const char *home)
{
    char *host = json_is(json_get(spec, "type"), "ExternalName")
                     ? name_of(json_get(spec, "externalName"))
                     : NULL;
    struct str rest = str_of(host ? host : "");
    bool leads = str_eq(str_cut(&rest, '.'), name) && str_eq(str_cut(&rest, '.'), home) &&
                 str_eq(str_cut(&rest, '.'), "svc");
    free(host);
    return leads;
}

int service_parse(struct service *service, struct json_value object, const char *home)
{
    struct json_value metadata = json_get(object, "metadata"), spec = json_get(object, "spec");
    *service = (struct service){
        .namespace = text_or_empty(json_get(metadata, "namespace")),
        .name = text_or_empty(json_get(metadata, "name")),
        .uid = text_or_empty(json_get(metadata, "uid")),
        .created = text_or_empty(json_get(metadata, "creationTimestamp")),
        .deleting = json_given(json_get(metadata, "deletionTimestamp")),
        .digest = service_digest(object),
    };
    const char **const texts[] = {&service->namespace, &service->name, &service->uid,
                                  &service->created};
    service->texts = mem_join(texts, ARRAY_LEN(texts));
    if (!*service->namespace || !*service->name) {
        service_clear(service);
        return ERR;
    }
    service->leads = leads_home(spec, service->name, home);
    if (is_ours(metadata, home)) {
        service->cr_namespace = whole_name(metadata, LABEL_CR_NAMESPACE);
        service->cr_name = whole_name(metadata, LABEL_CR_NAME);
    }
    if (!claim_holds(service, object, home)) {
        service_forget_cr(service);
    }
    struct json_value port = element(json_get(spec, "ports"), "name", PORT_NAME);
    if (strcmp(service->namespace, home) == 0) { /* of any type: the Service is our memory of it */
        service->target_port = port_of(json_get(port, "targetPort"));
    }
    if (!json_is(json_get(spec, "type"), "ExternalName")) {
        service->strangers = strangers_of(json_get(spec, "selector"));
        service->port = port_of(json_get(port, "port"));
    } else {
        service->owners = owners_of(json_get(metadata, "ownerReferences"));
    }
    return OK;
}

void service_forget_cr(struct service *service)
{
    free(service->cr_namespace);
    free(service->cr_name);
    service->cr_namespace = service->cr_name = NULL;
}

void service_clear(struct service *service)
{
    free(service->texts);
    service_forget_cr(service);
    free(service->strangers);
    free(service->owners);
    *service = (struct service){0};
}

/* Tells whether the host is "name.namespace.svc..." or "name-suffix.namespace.svc...". */
static bool points_home(struct str host, struct str name)
{
    struct str first = str_cut(&host, '.');
    struct str namespace = str_cut(&host, '.');
    struct str svc = str_cut(&host, '.');
    return first.n >= name.n && memcmp(first.p, name.p, name.n) == 0 &&
           (first.n == name.n || first.p[name.n] == '-') && namespace.n > 0 && str_eq(svc, "svc");
}

bool service_is_alias(struct json_value object, const char *home)
{
    struct json_value spec = json_get(object, "spec");
    struct json_value labels = json_get(json_get(object, "metadata"), "labels");
    bool others = json_is(json_get(labels, LABEL_MANAGED_BY), LABEL_MANAGER) &&
                  !json_is(json_get(labels, LABEL_HOME), home);
    char *name = name_of(json_get(json_get(object, "metadata"), "name"));
    char *host = name_of(json_get(spec, "externalName"));
    bool is = json_is(json_get(spec, "type"), "ExternalName") && !others && name && host &&
              points_home(str_of(host), str_of(name));
    free(name);
    free(host);
    return is;
}

/* ---- NetworkPolicies ---- */

void plan_policy_name(char *out, size_t cap, const char *from)
{
    text_fmt(out, cap, "tproxy-%s%s", from ? "namespace-" : "clusterwide", from ? from : "");
}

/* Appends `text` and the port. There may be thousands of ports, and json_fmt would take half a
 * microsecond for each. */
static int put_number(struct buf *out, struct str text, uint16_t port)
{
    char digits[5];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + port % 10);
        port /= 10;
    } while (port);
    return buf_add(out, text.p, text.n) < 0 ? ERR : buf_add(out, digits + at, sizeof(digits) - at);
}

/* Appends the ports. A run of neighbours becomes a range. */
static int put_ports(struct buf *out, const uint16_t *ports, size_t n)
{
    const struct str port = str_of("{\"protocol\":\"TCP\",\"port\":");
    const struct str end_port = str_of(",\"endPort\":");
    for (size_t i = 0, last; i < n; i = last + 1) {
        for (last = i; last + 1 < n && ports[last + 1] == ports[last] + 1; last++) {
        }
        if (buf_add(out, ",", i > 0) < 0 || put_number(out, port, ports[i]) < 0 ||
            (last > i && put_number(out, end_port, ports[last]) < 0) || buf_add(out, "}", 1) < 0) {
            return ERR;
        }
    }
    return OK;
}

int plan_policy(struct buf *out, const struct plan_policy *p)
{
    char name[PLAN_POLICY_NAME_SIZE];
    assert(p->n_ports > 0); /* a policy without a list of ports admits to all ports */
    plan_policy_name(name, sizeof(name), p->from);
    if (json_fmt(out,
                 "{'apiVersion':'networking.k8s.io/v1','kind':'NetworkPolicy','metadata':{"
                 "'name':%s,'namespace':%s,'labels':{'" LABEL_MANAGED_BY "':'" LABEL_MANAGER "',"
                 "'" LABEL_HOME "':%s}",
                 name, p->home, p->home) < 0 ||
        (p->uid && json_fmt(out, ",'uid':%s", p->uid) < 0) ||
        json_fmt(out, "},'spec':{'podSelector':{'matchLabels':{" PLAN_POD_LABELS) < 0 ||
        (p->strangers && buf_fmt(out, ",%s", p->strangers) < 0) ||
        json_fmt(out, "},'matchExpressions':null},'policyTypes':['Ingress'],'egress':null,"
                      "'ingress':[{'from':[{'namespaceSelector':{") < 0 ||
        (p->from &&
         json_fmt(out, "'matchLabels':{'kubernetes.io/metadata.name':%s}", p->from) < 0) ||
        json_fmt(out, "}}],'ports':[") < 0 || put_ports(out, p->ports, p->n_ports) < 0) {
        return ERR;
    }
    return json_fmt(out, "]}]}}");
}

int plan_policy_closed(struct buf *out, const char *uid)
{
    return json_fmt(out, "{'metadata':{'uid':%s},'spec':{'ingress':[]}}", uid);
}

/* Gives the ports of an entry: a number, a range up to `endPort`, or all. Returns false for a named
 * port, because our target ports have no names. */
static bool ports_of(struct json_value entry, struct plan_ports *ports)
{
    struct json_value port = json_get(entry, "port");
    *ports = (struct plan_ports){1, UINT16_MAX};
    if (json_given(port)) {
        ports->first = port_of(port);
        ports->last = port_of(json_get(entry, "endPort"));
        ports->last = ports->last > ports->first ? ports->last : ports->first;
    }
    return ports->first > 0;
}

static int compare_ranges(const void *a, const void *b)
{
    return ((const struct plan_ports *)a)->first - ((const struct plan_ports *)b)->first;
}

struct plan_ports *plan_policy_ports(struct json_value object, size_t *n)
{
    struct json_value rules = json_get(json_get(object, "spec"), "ingress");
    struct plan_ports *ranges = NULL, range;
    size_t n_ranges = 0, cap = 0;
    for (struct json_value rule = json_first(rules); json_exists(rule); rule = json_next(rule)) {
        struct json_value entry = json_first(json_get(rule, "ports"));
        do { /* a rule without entries admits to all ports */
            if (n_ranges == cap) {
                cap = cap ? 2 * cap : 4;
                ranges = mem_realloc(ranges, cap * sizeof(*ranges));
            }
            if (ports_of(entry, &range)) {
                ranges[n_ranges++] = range;
            }
            entry = json_next(entry);
        } while (json_exists(entry));
    }
    if (n_ranges) {
        qsort(ranges, n_ranges, sizeof(*ranges), compare_ranges);
    }
    *n = 0;
    for (size_t i = 0; i < n_ranges; i++) {
        struct plan_ports *last = *n ? &ranges[*n - 1] : NULL;
        if (last && ranges[i].first <= last->last) {
            last->last = ranges[i].last > last->last ? ranges[i].last : last->last;
        } else {
            ranges[(*n)++] = ranges[i];
        }
    }
    return ranges;
}

uint64_t plan_policy_digest(struct json_value object)
{
    struct json_value labels = json_get(json_get(object, "metadata"), "labels");
    struct json_value spec = json_get(object, "spec");
    struct json_value egress = json_get(spec, "egress");
    const struct json_value parts[] = {
        json_get(labels, LABEL_MANAGED_BY), json_get(labels, LABEL_HOME),
        json_get(spec, "podSelector"),      json_get(spec, "policyTypes"),
        json_get(spec, "ingress"),          json_given(egress) ? egress : (struct json_value){0},
    };
    return digest_of(parts, ARRAY_LEN(parts));
}

char *plan_policy_strangers(struct json_value object)
{
    struct json_value selector = json_get(json_get(object, "spec"), "podSelector");
    return strangers_of(json_get(selector, "matchLabels"));
}
