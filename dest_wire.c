/* A reference as the Destination service reads it (help.sap.com, "Destination Service REST API"):
 *
 *     GET /destination-configuration/v1/destinations/NAME          the instance's, or else the
 *                                                                  subaccount's
 *     GET /destination-configuration/v2/destinations/NAME@LEVEL    of this level and no other
 *
 *     X-Fragment-Name: FRAGMENT, with v2 FRAGMENT@LEVEL where it has a level of its own
 *     X-Fragment-Optional: true
 *     X-chain-name: CHAIN
 *     X-chain-var-NAME: VALUE
 *     X-tenant: TENANT */
#include <string.h>

#include "core/http_proto.h"
#include "core/service_key.h"
#include "core/tenant.h"
#include "dest_private.h"
#include "service_grant.h"

enum {
    SEGMENT_MAX = 3 * DESTINATION_NAME_MAX, /* of a name in the path, percent-encoded */
    VARIABLES_MAX = 64,
};

/* ---- can it be asked for? ---- */

static int refuse(enum verdict *verdict, struct error *err, const char *words)
{
    *verdict = VERDICT_CONFIGURATION_FAILED;
    return error_set(err, FAIL_CONFIG, "%s", words);
}

static bool is_level(const char *level)
{
    static const char *const levels[] = {"subaccount", "instance", "provider_subaccount",
                                         "provider_instance"};
    for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
        if (strcmp(level, levels[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* RFC 9110 section 5.5, without what a recipient may change or drop. */
static bool is_value(const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        if (text[i] < ' ' || text[i] > '~') {
            return false;
        }
    }
    return n == 0 || (text[0] != ' ' && text[n - 1] != ' ');
}

static int check_level(const char *field, const char *level, enum verdict *verdict,
                       struct error *err)
{
    char words[FAIL_TEXT_MAX], shown[40];
    if (!level || is_level(level)) {
        return OK;
    }
    text_fmt(words, sizeof(words),
             "%s is \"%s\"; set it to subaccount, instance, provider_subaccount or "
             "provider_instance",
             field, text_printable(shown, sizeof(shown), str_of(level)));
    return refuse(verdict, err, words);
}

static int check_levels(const struct dest_ref *ref, const char *instance,
                        const struct service_key *key, enum verdict *verdict, struct error *err)
{
    char words[FAIL_TEXT_MAX];
    if (check_level("spec.destinationRef.level", ref->level, verdict, err) == ERR ||
        check_level("spec.fragmentRef.level", ref->fragment_level, verdict, err) == ERR) {
        return ERR;
    }
    if (ref->fragment_level && !ref->level) {
        return refuse(verdict, err,
                      "spec.fragmentRef.level means nothing without spec.destinationRef.level: add "
                      "that, or remove the level of the fragment");
    }
    if (ref->level && key->ias) {
        text_fmt(words, sizeof(words),
                 "spec.destinationRef.level cannot be used: the service key of Destination service "
                 "instance \"%.100s\" is of Cloud Identity Services, for which there are no "
                 "levels; remove it, or bind the instance with another kind of key",
                 instance);
        return refuse(verdict, err, words);
    }
    return OK;
}

static int check_value(const char *field, const char *text, enum verdict *verdict,
                       struct error *err)
{
    char words[FAIL_TEXT_MAX];
    if (!text || is_value(text)) {
        return OK;
    }
    text_fmt(words, sizeof(words),
             "%s cannot be sent to the Destination service, as a header field carries only "
             "printable ASCII characters, without blanks around them",
             field);
    return refuse(verdict, err, words);
}

static int check_chain(const struct dest_ref *ref, enum verdict *verdict, struct error *err)
{
    if (check_value("spec.chainRef.name", ref->chain, verdict, err) == ERR) {
        return ERR;
    }
    if (ref->n_variables > VARIABLES_MAX) {
        return refuse(verdict, err, "spec.chainRef.variables has more than 64 entries");
    }
    for (size_t i = 0; i < ref->n_variables; i++) {
        const struct dest_variable *variable = &ref->variables[i];
        char field[160], shown[80];
        text_printable(shown, sizeof(shown), str_of(variable->name));
        if (!http_is_token(str_of(variable->name))) {
            text_fmt(field, sizeof(field),
                     "spec.chainRef.variables: \"%s\" can be no part of a header field's name",
                     shown);
            return refuse(verdict, err, field);
        }
        text_fmt(field, sizeof(field), "spec.chainRef.variables: the value of \"%s\"", shown);
        if (check_value(field, variable->value, verdict, err) == ERR) {
            return ERR;
        }
    }
    return OK;
}

static int check_tenant(const struct dest_ref *ref, const char *instance,
                        const struct service_key *key, enum verdict *verdict, struct error *err)
{
    char words[FAIL_TEXT_MAX], shown[80];
    struct oauth_grant grant;
    struct error no_url;
    struct buf url;
    if (!ref->tenant) {
        return OK;
    }
    if (!tenant_is_valid(ref->tenant)) {
        text_fmt(words, sizeof(words),
                 "\"%s\" can be no tenant's subdomain, which is one label of a host name: letters, "
                 "digits and hyphens, at most 63",
                 text_printable(shown, sizeof(shown), str_of(ref->tenant)));
        return refuse(verdict, err, words);
    }
    if (key->ias) {
        text_fmt(words, sizeof(words),
                 "Destination service instance \"%.100s\" cannot serve tenants with its service "
                 "key, which is of Cloud Identity Services; bind it with another kind of key",
                 instance);
        return refuse(verdict, err, words);
    }
    int rc = service_grant(key, ref->tenant, &url, &grant, &no_url);
    buf_free(&url);
    if (rc == ERR) {
        text_fmt(words, sizeof(words), "Destination service instance \"%.100s\": %s", instance,
                 no_url.text);
        return refuse(verdict, err, words);
    }
    return OK;
}

int dest_wire_check(const struct dest_ref *ref, const char *instance, const struct service_key *key,
                    enum verdict *verdict, struct error *err)
{
    char space[SEGMENT_MAX];
    struct buf segment = BUF_ON(space);
    if (http_encode_segment(&segment, str_of(ref->name)) == ERR) {
        *verdict = VERDICT_NOT_FOUND;
        return error_set(err, FAIL_CONFIG, "no destination can have this name");
    }
    if (check_levels(ref, instance, key, verdict, err) == ERR ||
        check_value("spec.fragmentRef.name", ref->fragment, verdict, err) == ERR ||
        check_chain(ref, verdict, err) == ERR ||
        check_tenant(ref, instance, key, verdict, err) == ERR) {
        return ERR;
    }
    return OK;
}

/* ---- the request ---- */

int dest_wire_target(struct buf *out, struct str base, const struct dest_ref *ref, bool with_tokens)
{
    bool fits = buf_fmt(out, "%.*s/destination-configuration/%s/destinations/", STR_ARG(base),
                        ref->level ? "v2" : "v1") == OK &&
                http_encode_segment(out, str_of(ref->name)) == OK &&
                buf_fmt(out, "%s%s%s", ref->level ? "@" : "", ref->level ? ref->level : "",
                        with_tokens ? "" : "?$skipTokenRetrieval=true") == OK;
    return fits ? OK : ERR;
}

static int add_fragment(struct buf *out, const struct dest_ref *ref)
{
    const char *level = ref->fragment_level;
    return buf_fmt(out, "X-Fragment-Name: %s%s%s\r\n%s", ref->fragment, level ? "@" : "",
                   level ? level : "",
                   ref->fragment_optional ? "X-Fragment-Optional: true\r\n" : "");
}

static int add_chain(struct buf *out, const struct dest_ref *ref)
{
    if (buf_fmt(out, "X-chain-name: %s\r\n", ref->chain) == ERR) {
        return ERR;
    }
    for (size_t i = 0; i < ref->n_variables; i++) {
        const struct dest_variable *variable = &ref->variables[i];
        if (buf_fmt(out, "X-chain-var-%s: %s\r\n", variable->name, variable->value) == ERR) {
            return ERR;
        }
    }
    return OK;
}

int dest_wire_headers(struct buf *out, const struct dest_ref *ref, const char *tenant)
{
    bool fits = (!ref->fragment || add_fragment(out, ref) == OK) &&
                (!ref->chain || add_chain(out, ref) == OK) &&
                (!tenant || buf_fmt(out, "X-tenant: %s\r\n", tenant) == OK);
    return fits ? OK : ERR;
}

const char *dest_wire_tenant(const struct dest_ref *ref, const struct service_key *key)
{
    const char *tenant = ref->tenant ? ref->tenant : key->identity_zone;
    return tenant && tenant_is_valid(tenant) ? tenant : NULL;
}
